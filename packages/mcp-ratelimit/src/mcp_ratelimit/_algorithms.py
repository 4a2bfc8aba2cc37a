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
from collections import deque
from collections.abc import Iterable
from datetime import datetime, time, timedelta
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from .limit import Limit

__all__ = ["Algorithm", "Bucketed", "FixedWindow", "Gcra", "SlidingCounter", "SlidingLog", "algorithm_for"]


class Algorithm(Protocol):
    """What every algorithm answers; ``None`` is the state of a key that was never charged."""

    hz: float
    capacity: int
    lifetime: float
    wall: bool
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

    __slots__ = ("capacity", "hz", "interval", "lifetime", "tolerance", "wall", "width")

    def __init__(self, interval: float, burst: int) -> None:
        self.interval, self.hz = _ticks(interval)
        self.capacity = burst
        self.tolerance = self.lifetime = burst * self.interval
        self.wall = False
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


class _Window:
    """What the algorithms share that count whole units within a window."""

    wall = False

    def __init__(self, amount: int, period: float, width: int) -> None:
        self.window, self.hz = _ticks(period)
        self.capacity = amount
        self.lifetime = self.window
        self.width = width

    def queued(self, state: Any, now: float, total: int) -> float:
        """Ticks until the last of *total* units passes at the earliest; a window holds no more than the capacity."""
        windows, rest = divmod(total - 1, self.capacity)
        return windows * self.window + self.wait(state, now, rest + 1)

    def wait(self, state: Any, now: float, cost: int) -> float:
        raise NotImplementedError

    def pack(self, state: Iterable[float]) -> tuple[float, ...]:
        return tuple(state)

    def unpack(self, values: tuple[float, ...]) -> Any:
        return values


class SlidingLog(_Window):
    """At most *amount* in any window of one period: remembers when each unit passed."""

    def __init__(self, amount: int, period: float) -> None:
        super().__init__(amount, period, width=amount)

    def wait(self, state: deque[float] | None, now: float, cost: int) -> float:
        surplus = len(state or ()) + cost - self.capacity
        return max(0.0, state[surplus - 1] + self.window - now) if state and surplus > 0 else 0.0

    def charge(self, state: deque[float] | None, now: float, cost: int) -> deque[float]:
        log = deque[float](maxlen=self.capacity) if state is None else self._pruned(state, now)
        log.extend([now] * cost)
        return log

    def refund(self, state: deque[float], now: float, cost: int) -> deque[float] | None:
        log = self._pruned(state, now)
        for _ in range(min(cost, len(log))):
            log.popleft()
        return log or None

    def used(self, state: deque[float] | None, now: float) -> float:
        return len(self._pruned(state, now)) if state else 0

    def owing(self, used: float, now: float) -> deque[float]:
        return self.charge(None, now, min(math.ceil(used), self.capacity))

    def reset_after(self, state: deque[float] | None, now: float) -> float:
        return max(0.0, state[-1] + self.window - now) if state else 0.0

    def unpack(self, values: tuple[float, ...]) -> deque[float]:
        return deque(values, self.capacity)

    def _pruned(self, log: deque[float], now: float) -> deque[float]:
        while log and log[0] <= now - self.window:
            log.popleft()
        return log


class Bucketed(_Window):
    """At most *amount* in any window of one period, by counts for 17 sixteenths of it.

    Any window of one period lies within 17 such buckets, the present one not yet over.  The price of counting a
    little more than the window: under constant pressure 16/17 of the amount passes.
    The state is the number of the present bucket, then the counts, oldest first.
    """

    buckets = 16

    def __init__(self, amount: int, period: float) -> None:
        super().__init__(amount, period, width=self.buckets + 2)
        self.bucket = self.window / self.buckets
        self.lifetime = self.window + self.bucket

    def wait(self, state: tuple[float, ...] | None, now: float, cost: int) -> float:
        index, *counts = self._shifted(state, now)
        surplus = sum(counts) + cost - self.capacity
        for bucket, count in enumerate(counts):
            if surplus <= 0:
                return max(0.0, (index + bucket) * self.bucket - now) if bucket else 0.0
            surplus -= count
        return (index + self.buckets + 1) * self.bucket - now

    def charge(self, state: tuple[float, ...] | None, now: float, cost: int) -> tuple[float, ...]:
        *older, latest = self._shifted(state, now)
        return (*older, latest + cost)

    def refund(self, state: tuple[float, ...], now: float, cost: int) -> tuple[float, ...] | None:
        index, *counts = self._shifted(state, now)
        for bucket, count in enumerate(counts):
            given = min(cost, count)
            counts[bucket] -= given
            cost -= int(given)
        return (index, *counts) if any(counts) else None

    def used(self, state: tuple[float, ...] | None, now: float) -> float:
        return sum(self._shifted(state, now)[1:])

    def owing(self, used: float, now: float) -> tuple[float, ...]:
        return self.charge(None, now, min(math.ceil(used), self.capacity))

    def reset_after(self, state: tuple[float, ...] | None, now: float) -> float:
        index, *counts = self._shifted(state, now)
        newest = max((bucket for bucket, count in enumerate(counts) if count), default=None)
        return 0.0 if newest is None else (index + newest + 1) * self.bucket - now

    def _shifted(self, state: tuple[float, ...] | None, now: float) -> tuple[float, ...]:
        index = now // self.bucket
        passed = self.buckets + 1 if state is None else min(int(index - state[0]), self.buckets + 1)
        return state if state and not passed else (index, *(state or ())[1 + passed :], *(0.0,) * passed)


class SlidingCounter(_Window):
    """At most 2 x *amount* in any window of one period: the last window's count fades as this one passes.

    A common approximation, offered for compatibility: it takes the last window's units to have been spread evenly.
    The state is the number of the present window, its count, and the count of the one before.
    """

    def __init__(self, amount: int, period: float) -> None:
        super().__init__(amount, period, width=3)
        # Products of a count and a time must stay below 2**53, so a large amount is counted in coarser ticks.
        coarser = max(0.0, math.log2(self.window) + amount.bit_length() - 52)
        self.hz, self.window = self.hz / 2**coarser, self.window / 2**coarser
        self.lifetime = 2 * self.window

    def wait(self, state: tuple[float, ...] | None, now: float, cost: int) -> float:
        index, count, before = self._shifted(state, now)
        room = self.capacity - count - cost
        if room >= 0:
            return max(0.0, self._faded(before, room) - (now - index * self.window))
        return (index + 1) * self.window - now + self._faded(count, self.capacity - cost)

    def charge(self, state: tuple[float, ...] | None, now: float, cost: int) -> tuple[float, ...]:
        index, count, before = self._shifted(state, now)
        return index, count + cost, before

    def refund(self, state: tuple[float, ...], now: float, cost: int) -> tuple[float, ...] | None:
        index, count, before = self._shifted(state, now)
        given = min(cost, before)
        left = (index, max(0.0, count - (cost - given)), before - given)
        return left if any(left[1:]) else None

    def used(self, state: tuple[float, ...] | None, now: float) -> float:
        index, count, before = self._shifted(state, now)
        return min(self.capacity, count + before * ((index + 1) * self.window - now) / self.window)

    def owing(self, used: float, now: float) -> tuple[float, ...]:
        return self.charge(None, now, min(math.ceil(used), self.capacity))

    def reset_after(self, state: tuple[float, ...] | None, now: float) -> float:
        index, count, before = self._shifted(state, now)
        return (index + 2 if count else index + 1 if before else 0) * self.window - now if count or before else 0.0

    def queued(self, state: tuple[float, ...] | None, now: float, total: int) -> float:
        return self.wait(state, now, min(total, self.capacity))

    def _faded(self, count: float, room: float) -> float:
        """Ticks into a window at which *count* units of the one before it have faded to *room*."""
        return self.window - room * self.window // count if count > room else 0.0

    def _shifted(self, state: tuple[float, ...] | None, now: float) -> tuple[float, ...]:
        index = now // self.window
        if state is None or state[0] < index - 1:
            return index, 0.0, 0.0
        return state if state[0] == index else (index, 0.0, state[1])


class FixedWindow(_Window):
    """At most *amount* in each window: a quota by the calendar, or by the clock in windows counted from 1970.

    Around a boundary, up to 2 x *amount* in one period.  Time is the wall clock's, in microseconds.
    The state is the start of a window and its count.
    """

    wall = True

    def __init__(self, limit: Limit) -> None:
        super().__init__(limit.amount, limit.period, width=2)
        self.hz = 1e6
        self.window = round(limit.period * self.hz)
        self.lifetime = self.window + 86400 * self.hz  # no change of the clocks lengthens a window by more than a day
        self._calendar = limit.calendar
        self._zone = ZoneInfo(limit.timezone)
        self._current = (0.0, 0.0)

    def bounds(self, now: float) -> tuple[float, float]:
        """Return where the window around *now* begins and ends, in ticks since 1970."""
        start, end = self._current
        if not start <= now < end:
            if self._calendar is None:
                start = now - now % self.window
                end = start + self.window
            else:
                start, end = (edge * self.hz for edge in _calendar_window(now / self.hz, self._calendar, self._zone))
            self._current = start, end
        return start, end

    def wait(self, state: tuple[float, ...] | None, now: float, cost: int) -> float:
        return self.bounds(now)[1] - now if self.used(state, now) + cost > self.capacity else 0.0

    def charge(self, state: tuple[float, ...] | None, now: float, cost: int) -> tuple[float, ...]:
        return self.bounds(now)[0], self.used(state, now) + cost

    def refund(self, state: tuple[float, ...], now: float, cost: int) -> tuple[float, ...] | None:
        left = self.used(state, now) - cost
        return (state[0], left) if left > 0 else None

    def used(self, state: tuple[float, ...] | None, now: float) -> float:
        return state[1] if state and state[0] == self.bounds(now)[0] else 0.0

    def owing(self, used: float, now: float) -> tuple[float, ...]:
        return self.charge(None, now, min(math.ceil(used), self.capacity))

    def reset_after(self, state: tuple[float, ...] | None, now: float) -> float:
        return self.bounds(now)[1] - now if self.used(state, now) else 0.0

    def queued(self, state: tuple[float, ...] | None, now: float, total: int) -> float:
        return self.wait(state, now, min(total, self.capacity))


def _ticks(seconds: float) -> tuple[float, float]:
    """Return *seconds* as a power of two of ticks, and the ticks in one second: more than 2**20, at most 2**21."""
    ticks = 2.0 ** (math.frexp(seconds)[1] + 20)
    return ticks, ticks / seconds


def _calendar_window(when: float, unit: str, zone: ZoneInfo) -> tuple[float, float]:
    day = datetime.fromtimestamp(when, zone).date()
    if unit == "day":
        first, after = day, day + timedelta(1)
    elif unit == "week":
        first = day - timedelta(day.weekday())
        after = first + timedelta(7)
    elif unit == "month":
        first = day.replace(day=1)
        after = (first + timedelta(31)).replace(day=1)
    else:
        first, after = day.replace(month=1, day=1), day.replace(year=day.year + 1, month=1, day=1)
    start, end = (datetime.combine(edge, time(), zone).timestamp() for edge in (first, after))
    return start, end
