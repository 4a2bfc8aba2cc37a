# a program that prints
"""Draw how long calls sleep between their attempts, for every kind of jitter; run by ``Retry`` itself."""

from __future__ import annotations

import random
from collections.abc import Iterator

import anyio
from mcp_retry import Backoff, Retry, exponential, linear

BASE, CAP, ATTEMPTS, CALLS = 0.1, 2.0, 8, 25
PANELS: dict[str, Backoff] = {
    'jitter="none"': exponential(BASE, cap=CAP, jitter="none"),
    'jitter="full"': exponential(BASE, cap=CAP, jitter="full"),
    'jitter="equal"': exponential(BASE, cap=CAP, jitter="equal"),
    'jitter="decorrelated"': exponential(BASE, cap=CAP, jitter="decorrelated"),
    "jitter=0.2": exponential(BASE, cap=CAP, jitter=0.2),
    'linear(0.4), jitter="full"': linear(0.4, cap=CAP, jitter="full"),
}
WIDTH, HEIGHT, LEFT, TOP, GAP, COLUMNS = 190, 130, 45, 40, 60, 3


async def sleeps(backoff: Backoff) -> list[list[float]]:
    """Return what each of some calls that always fail has slept after its first attempt, its second, and so on."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def fail() -> None:
        raise ConnectionError

    draws = random.Random(7).random  # noqa: S311  # the same picture each time
    retry = Retry(
        on=ConnectionError,
        attempts=ATTEMPTS + 1,
        backoff=backoff,
        budget=False,
        sleep=sleep,
        random=draws,
    )
    for _ in range(CALLS):
        try:
            await retry.call(fail)
        except ConnectionError:
            continue
    return [slept[start : start + ATTEMPTS] for start in range(0, len(slept), ATTEMPTS)]


def panel(title: str, calls: list[list[float]], left: float, top: float) -> Iterator[str]:
    """Yield the elements of one diagram whose upper left corner is given."""

    def x(attempt: float) -> float:
        return left + attempt * WIDTH / (ATTEMPTS + 0.5)

    def y(seconds: float) -> float:
        return top + HEIGHT * (1 - seconds / CAP / 1.05)

    yield f'<text x="{left}" y="{top - 10}" font-weight="bold">{title}</text>'
    for seconds in (0, 1, 2):
        yield f'<path d="M{left} {y(seconds):.1f}h{WIDTH}" stroke="#dddddd"/>'
        yield f'<text x="{left - 6}" y="{y(seconds) + 4:.1f}" text-anchor="end">{seconds} s</text>'
    for attempt in range(1, ATTEMPTS + 1):
        yield f'<text x="{x(attempt):.1f}" y="{top + HEIGHT + 15}" text-anchor="middle">{attempt}</text>'
    dots = "".join(
        f"M{x(attempt + (row / CALLS - 0.5) / 2):.0f} {y(seconds):.0f}h0"  # side by side, so that none hides another
        for row, waits in enumerate(calls)
        for attempt, seconds in enumerate(waits, 1)
    )
    yield f'<path d="{dots}" stroke="#0072b2" stroke-width="3" stroke-linecap="round"/>'


def main() -> None:
    """Print the picture."""
    rows = -(-len(PANELS) // COLUMNS)
    size = f'width="{COLUMNS * (WIDTH + GAP) + LEFT}" height="{rows * (HEIGHT + GAP) + TOP}"'
    print(f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">')
    print(f"<title>Seconds that {CALLS} calls slept after each of their failed attempts</title>")
    print('<rect width="100%" height="100%" fill="white"/>')
    for number, (title, backoff) in enumerate(PANELS.items()):
        left, top = LEFT + number % COLUMNS * (WIDTH + GAP), TOP + number // COLUMNS * (HEIGHT + GAP)
        print(*panel(title, anyio.run(sleeps, backoff), left, top), sep="\n")
    print("</svg>")


if __name__ == "__main__":
    main()
