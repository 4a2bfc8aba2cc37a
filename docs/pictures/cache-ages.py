# a program that prints
"""Draw what a caller gets who asks for one key once a second, while its source is down for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from mcp_cache import Cache, Failed, ServedStale

SECONDS, OUTAGE, LOAD = 60, range(24, 46), 0.5
TTL = 8
CACHES: dict[str, dict[str, Any]] = {
    "ttl=8": {},
    "refresh_ahead=1": {"refresh_ahead": 1},
    "stale_while_revalidate=4": {"stale_while_revalidate": 4},
    "stale_if_error=15": {"stale_if_error": 15},
    "both": {"stale_while_revalidate": 4, "stale_if_error": 15},
}
COLOURS = {
    "fresh, at once": "#009e73",
    "waited for a computation": "#0072b2",
    "stale, at once": "#e69f00",
    "stale, after a failure": "#cc79a7",
    "an exception": "#d55e00",
}
WIDTH, LEFT, TOP, ROW = 10, 190, 34, 26


async def story(options: dict[str, Any]) -> list[str]:
    """Ask once a second, and return what each call got."""
    now, events, found = 0.0, list[object](), list[str]()

    async def load() -> float:
        nonlocal now
        now += LOAD
        if int(now) in OUTAGE:
            raise ConnectionError
        return now

    async with Cache(ttl=TTL, clock=lambda: now, random=lambda: 0.9, on_event=events.append, **options) as cache:
        for second in range(SECONDS):
            now = max(now, float(second))
            events.clear()
            before = now
            try:
                await cache.get_or_compute("key", load)
            except ConnectionError:
                found.append("an exception")
            else:
                found.append(_outcome(events, is_at_once=now == before))
            for _ in range(3):
                await asyncio.sleep(0)  # a refresh runs in its own task
    return found


def _outcome(events: list[object], *, is_at_once: bool) -> str:
    if any(isinstance(event, ServedStale) for event in events):
        return "stale, after a failure" if any(isinstance(event, Failed) for event in events) else "stale, at once"
    return "fresh, at once" if is_at_once else "waited for a computation"


def elements() -> Iterator[str]:
    """Yield the elements of the picture."""
    height = ROW * len(CACHES)
    begins, ends = LEFT + WIDTH * OUTAGE.start, LEFT + WIDTH * OUTAGE.stop
    yield f'<rect x="{begins}" y="{TOP - 8}" width="{ends - begins}" height="{height + 8}" fill="#eeeeee"/>'
    yield f'<text x="{(begins + ends) / 2}" y="{TOP - 14}" text-anchor="middle">the source is down</text>'
    for row, (name, options) in enumerate(CACHES.items()):
        y = TOP + ROW * row
        yield f'<text x="{LEFT - 10}" y="{y + 13}" text-anchor="end">{name}</text>'
        for second, outcome in enumerate(asyncio.run(story(options))):
            x = LEFT + WIDTH * second
            yield f'<rect x="{x}" y="{y}" width="{WIDTH - 2}" height="18" fill="{COLOURS[outcome]}"/>'
    for second in range(0, SECONDS + 1, 10):
        yield f'<text x="{LEFT + WIDTH * second}" y="{TOP + height + 14}" text-anchor="middle">{second} s</text>'
    for place, (outcome, colour) in enumerate(COLOURS.items()):
        x, y = 20 + 270 * (place % 3), TOP + height + 36 + 20 * (place // 3)
        yield f'<rect x="{x}" y="{y - 10}" width="10" height="12" fill="{colour}"/>'
        yield f'<text x="{x + 16}" y="{y}">{outcome}</text>'


def main() -> None:
    """Print the picture."""
    height = TOP + ROW * len(CACHES) + 70
    size = f'viewBox="0 0 820 {height}" font-family="sans-serif" font-size="13"'
    print(f'<svg xmlns="http://www.w3.org/2000/svg" {size}>')
    print('<rect width="100%" height="100%" fill="white"/>')
    print(*elements(), sep="\n")
    print("</svg>")


if __name__ == "__main__":
    main()
