# a program that prints
"""Draw what each policy does to a server that stood still for two seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from retry_storm import OUTAGE, POLICIES, Simulation, evenly

SECONDS = 40
PANELS = {
    "700 calls a second, of a capacity of 1000": (
        "no retries",
        "tenacity, defaults",
        "stamina, defaults",
        "Retry without budget",
        "Retry, defaults",
    ),
    "900 calls a second": ("no retries", "Retry, defaults", "Retry with throttle"),
}
COLOURS = {
    "no retries": "#888888",
    "tenacity, defaults": "#d55e00",
    "stamina, defaults": "#e69f00",
    "Retry without budget": "#cc79a7",
    "Retry, defaults": "#0072b2",
    "Retry with throttle": "#009e73",
}
DASHES = {"tenacity, defaults": 0, "stamina, defaults": 8, "Retry without budget": 16}  # all three lie on one line
WIDTH, HEIGHT, LEFT, TOP, GAP = 560, 180, 50, 40, 70


def panel(title: str, names: tuple[str, ...], offered: float, top: float) -> Iterator[str]:
    """Yield the elements of one diagram whose upper edge is at *top*."""
    yield f'<text x="{LEFT}" y="{top - 12}" font-weight="bold">{title}</text>'
    x = [LEFT + second * WIDTH / SECONDS for second in range(SECONDS + 1)]
    begins, ends = (x[int(when)] for when in OUTAGE)
    yield f'<rect x="{begins}" y="{top}" width="{ends - begins}" height="{HEIGHT}" fill="#eeeeee"/>'
    for percent in (0, 50, 100):
        y = top + HEIGHT * (1 - percent / 100)
        yield f'<path d="M{LEFT} {y}H{LEFT + WIDTH}" stroke="#dddddd"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{percent} %</text>'
    for second in range(0, SECONDS + 1, 10):
        yield f'<text x="{x[second]}" y="{top + HEIGHT + 16}" text-anchor="middle">{second} s</text>'
    for row, name in enumerate(names):
        shares = Simulation(POLICIES[name], evenly(offered), seconds=SECONDS).run().shares[:-1]
        points = " ".join(f"{x[at]:.0f},{top + HEIGHT * (1 - share):.1f}" for at, share in enumerate(shares))
        dash = f' stroke-dasharray="8 16" stroke-dashoffset="-{DASHES[name]}"' if name in DASHES else ""
        yield f'<polyline points="{points}" fill="none" stroke="{COLOURS[name]}" stroke-width="2"{dash}/>'
        y = top + 14 + 18 * row
        yield f'<path d="M{LEFT + WIDTH + 12} {y - 4}h16" stroke="{COLOURS[name]}" stroke-width="2"/>'
        yield f'<text x="{LEFT + WIDTH + 34}" y="{y}">{name}</text>'


def main() -> None:
    """Print the picture."""
    size = f'width="780" height="{2 * HEIGHT + TOP + GAP + 40}"'
    print(f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">')
    print("<title>Good answers, by the second in which a call began; grey: the server stands still</title>")
    print('<rect width="100%" height="100%" fill="white"/>')
    for number, (offered, (title, names)) in enumerate(zip((700, 900), PANELS.items(), strict=True)):
        print(*panel(title, names, offered, TOP + number * (HEIGHT + GAP)), sep="\n")
    print("</svg>")


if __name__ == "__main__":
    main()
