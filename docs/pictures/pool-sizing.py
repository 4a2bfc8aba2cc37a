# ruff: noqa: E501, PLR2004, ARG005  # a program, which prints a picture
"""Draw how long borrowers wait, by the size of the pool; simulated with the pool's own queue. Prints SVG."""

from __future__ import annotations

import heapq
import random
from collections.abc import Generator
from typing import Any

from mcp_pool.entry import Entry
from mcp_pool.settings import Settings
from mcp_pool.shelf import Shelf

SIZES = range(6, 21)
BUSY = {"6 busy on average": 6.0, "8 busy on average": 8.0, "10 busy on average": 10.0}
ARRIVALS, WIDTH, HEIGHT, LEFT, BOTTOM = 20_000, 640, 320, 60, 280


class Waiter:
    """Somebody who came at some time, and notes when it is served."""

    def __init__(self, came: float, served: list[tuple[Waiter, Entry[Any]]]) -> None:
        self.came = came
        self.outcome: Any = None
        self._served = served

    def give(self, outcome: Any, /) -> bool:
        """Take what is given."""
        self._served.append((self, outcome))
        return True

    def __await__(self) -> Generator[Any, Any, None]:
        yield from ()


def longest_waits(size: int, busy: float) -> float:
    """The 99th percentile of the waits, in mean uses, when borrowers come at random and keep a resource 1 on average."""
    dice = random.Random(7)  # noqa: S311  # the same picture each time
    served: list[tuple[Waiter, Entry[Any]]] = []
    shelf: Shelf[Any] = Shelf(Settings(max_size=size), lambda entry: None)
    for _ in range(size):
        shelf.arrive(shelf.add(), 0.0)
    returns: list[tuple[float, int, Entry[Any]]] = []
    waits: list[float] = []
    now = 0.0
    for number in range(ARRIVALS):
        now += dice.expovariate(busy)
        while returns and returns[0][0] <= now:
            at, _, entry = heapq.heappop(returns)
            shelf.give(entry, at)
            for waiter, handed in served:
                waits.append(at - waiter.came)
                heapq.heappush(returns, (at + dice.expovariate(1), -len(waits), handed))
            served.clear()
        taken = shelf.take(now)
        if taken is None:
            shelf.join(Waiter(now, served), first=False)
            continue
        waits.append(0.0)
        heapq.heappush(returns, (now + dice.expovariate(1), number, taken))
    return sorted(waits)[int(len(waits) * 0.99)]


def main() -> None:
    """Print the picture."""
    print(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">'
    )
    print('<rect width="100%" height="100%" fill="white"/>')
    for wait in range(6):
        y = BOTTOM - wait * 48
        print(f'<path d="M{LEFT} {y}H{WIDTH - 20}" stroke="#ddd"/><text x="{LEFT - 16}" y="{y + 4}">{wait}</text>')
    for size in SIZES:
        print(f'<text x="{place(size) - 6}" y="{BOTTOM + 18}">{size}</text>')
    print(
        f'<text x="{LEFT}" y="{HEIGHT - 4}">size of the pool</text><text x="{LEFT}" y="18">wait that 1 % exceed, in mean uses</text>'
    )
    for color, (label, busy) in zip(("#36c", "#c63", "#393"), BUSY.items(), strict=True):
        points = [(place(size), BOTTOM - 48 * longest_waits(size, busy)) for size in SIZES if size > busy]
        shown = [f"{x},{y:.0f}" for x, y in points if y > 25]
        print(f'<polyline points="{" ".join(shown)}" fill="none" stroke="{color}" stroke-width="2"/>')
        x, y = shown[0].split(",")
        print(f'<text x="{int(x) + 6}" y="{int(y) + 4}" fill="{color}">{label}</text>')
    print("</svg>")


def place(size: int) -> int:
    """Where a size stands on the axis."""
    return LEFT + 10 + (size - SIZES[0]) * 38


if __name__ == "__main__":
    main()
