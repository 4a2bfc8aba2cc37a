"""The six ways of counting, as pure functions of a state, a time and a cost.

Time is counted in ticks, about 2**20 to 2**21 of them a second, chosen for each limit so that what it needs (the time
for one unit, or one window) is a power of two of them.  States hold whole ticks and whole counts in floats, far below
2**53: so nothing here ever rounds, and a decision equals that of exact rational arithmetic.

    wait ──▶ 0: ``charge`` may follow     > 0: ticks until exactly this cost would pass, if nothing else comes

Rules of every algorithm, each a property in ``tests/ratelimit``, checked against a model in fractions:

1. ``wait`` is 0 just when the guarantee in the class docstring still holds with this cost.
2. A refusal leaves no trace: only ``charge`` makes a new state.
3. The cost passes after exactly ``wait`` ticks, and not a tick before.
4. ``lifetime`` ticks after its last charge a state is the same as None, so that it may be forgotten.
5. ``refund`` never lets more pass than if what it gives back had been the oldest that still counts.

Times must not decrease; who calls sees to that.  A cost is 1 to ``capacity``.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

from ._calendar import FixedWindow
from ._windows import Bucketed, SlidingCounter, SlidingLog, ticks
from .limit import Limit

__all__ = ["Algorithm", "Gcra", "algorithm_for"]


class Algorithm(Protocol):
    """What every algorithm answers; ``None`` is the state of a key that was never charged."""

    hz: float
    capacity: int
    lifetime: float
    width: int

    def wait(self, state: Any, now: float, cost: int) -> float: ...
    def charge(self, state: Any, now: float, cost: int) -> Any: ...
    def refund(self, state: Any, now: float, cost: int) -> Any: ...
    def used(self, state: Any, now: float) -> float: ...
    def owing(self, used: float, now: float) -> Any: ...
    def reset_after(self, state: Any, now: float) -> float: ...
    def queued(self, state: Any, now: float, total: int) -> float: ...
    def pack(self, state: Any) -> tuple[float, ...]: ...
    def unpack(self, values: tuple[float, ...]) -> Any: ...


def algorithm_for(limit: Limit) -> Algorithm:
    """Return the algorithm that counts *limit*."""
    if limit.algorithm == "gcra":
        return Gcra(limit.period / limit.amount, limit.burst)
    if limit.algorithm == "strict_gcra":
        return Gcra(limit.period / (limit.amount - limit.burst), limit.burst)
    if limit.algorithm == "fixed_window":
        return FixedWindow(limit)
    windows: dict[str, type[SlidingLog | Bucketed | SlidingCounter]] = {
        "sliding_log": SlidingLog,
        "bucketed": Bucketed,
        "sliding_counter": SlidingCounter,
    }
    return windows[limit.algorithm](limit.amount, limit.period)


class Gcra:
    """At most burst + rate x W in any window of W seconds; the generic cell rate algorithm, ITU-T I.371.

    The state is the theoretical arrival time: when all that has passed would have passed at the steady rate.
    ``strict_gcra`` is the same with the rate lowered to (amount - burst) a period, hence at most *amount* in one.
    """

    __slots__ = ("capacity", "hz", "interval", "lifetime", "tolerance", "width")

    def __init__(self, interval: float, burst: int) -> None:
        self.interval, self.hz = ticks(interval)
        self.capacity = burst
        self.tolerance = self.lifetime = burst * self.interval
        self.width = 1

    def wait(self, state: float | None, now: float, cost: int) -> float:
        start = now if state is None or state < now else state
        return max(0.0, start + cost * self.interval - now - self.tolerance)

    def charge(self, state: float | None, now: float, cost: int) -> float:
        return (now if state is None or state < now else state) + cost * self.interval

    def refund(self, state: float, now: float, cost: int) -> float | None:
        left = state - cost * self.interval
        return left if left > now else None

    def used(self, state: float | None, now: float) -> float:
        return 0.0 if state is None or state < now else (state - now) / self.interval

    def owing(self, used: float, now: float) -> float:
        return now + math.ceil(min(used, self.capacity) * self.interval)

    def reset_after(self, state: float | None, now: float) -> float:
        return 0.0 if state is None or state < now else state - now

    def queued(self, state: float | None, now: float, total: int) -> float:
        return self.wait(state, now, total)

    def pack(self, state: float) -> tuple[float, ...]:
        return (state,)

    def unpack(self, values: tuple[float, ...]) -> float:
        return values[0]
