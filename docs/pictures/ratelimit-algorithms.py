"""Draw what each algorithm lets through under constant pressure, by running it: twenty in ten seconds."""

# a program, no package

from __future__ import annotations

import sys
from itertools import pairwise

from mcp_ratelimit import AlgorithmName, Limit, MemoryStore, RateLimiter

SECONDS, AMOUNT, PERIOD, STEP = 30, 20, 10, 0.05
WIDTH, HEIGHT, LEFT, BOTTOM, MOST = 640, 320, 40, 30, 90
COLOURS: dict[AlgorithmName, str] = {
    "gcra": "#1b6ca8",
    "strict_gcra": "#7a3e9d",
    "sliding_log": "#2e7d32",
    "bucketed": "#c62828",
    "fixed_window": "#ef6c00",
    "sliding_counter": "#546e7a",
}


def passed(algorithm: AlgorithmName) -> list[tuple[float, int]]:
    """Ask every STEP seconds, from the middle of a window on; return the time and the sum whenever something passes."""
    now = start = 5.0
    limiter = RateLimiter(
        Limit(amount=AMOUNT, per=PERIOD, algorithm=algorithm),
        store=MemoryStore(clock=lambda: now, wall_clock=lambda: now),
    )
    points: list[tuple[float, int]] = [(0.0, 0)]
    for step in range(int(SECONDS / STEP)):
        now = start + step * STEP
        if taken := limiter.take_up_to("key", AMOUNT):
            points.append((now - start, points[-1][1] + taken))
    return [*points, (float(SECONDS), points[-1][1])]


def stairs(points: list[tuple[float, int]]) -> str:
    """Return the points of a line that rises where something passes."""
    corners = [(at, before) for (_, before), (at, _) in pairwise(points)]
    places = [place for pair in zip(corners, points[1:], strict=True) for place in pair]
    return " ".join(f"{x(at):.1f},{y(total):.1f}" for at, total in places)


def x(seconds: float) -> float:
    """Return where a time is."""
    return LEFT + seconds / SECONDS * (WIDTH - LEFT - 10)


def y(total: int) -> float:
    """Return where a sum is."""
    return HEIGHT - BOTTOM - total / MOST * (HEIGHT - BOTTOM - 10)


def draw() -> str:
    """Return the picture."""
    lines = [f'<polyline points="{stairs(passed(name))}" stroke="{colour}"/>' for name, colour in COLOURS.items()]
    names = [
        f'<text x="{LEFT + 12}" y="{26 + 18 * place}" fill="{colour}">{name}</text>'
        for place, (name, colour) in enumerate(COLOURS.items())
    ]
    ticks = [f'<text x="{x(at):.0f}" y="{HEIGHT - 10}">{at} s</text>' for at in range(0, SECONDS, PERIOD)]
    sums = [f'<text x="6" y="{y(total) + 4:.0f}">{total}</text>' for total in range(0, MOST, AMOUNT)]
    axes = f'<path d="M{LEFT},10V{HEIGHT - BOTTOM}H{WIDTH - 10}" stroke="#888"/>'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">',
            "<style>text { font-size: 12px }</style>",
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
            f'<g fill="none" stroke-width="1.5">{axes}{"".join(lines)}</g>',
            *names,
            *ticks,
            *sums,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    sys.stdout.write(draw())
