"""Counting by windows: see ``_algorithms`` for what every algorithm promises."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable
from typing import Any

__all__ = ["Bucketed", "SlidingCounter", "SlidingLog", "Window", "ticks"]


def ticks(seconds: float) -> tuple[float, float]:
    """Return *seconds* as a power of two of ticks, and the ticks in one second: more than 2**20, at most 2**21."""
    ticks = 2.0 ** (math.frexp(seconds)[1] + 20)
    return ticks, ticks / seconds


class Window(ABC):
    """What the algorithms share that count whole units within a window."""

    def __init__(self, amount: int, period: float, width: int) -> None:
        self.window, self.hz = ticks(period)
        self.capacity = amount
        self.lifetime = self.window
        self.width = width

    def queued(self, state: Any, now: float, total: int) -> float:
        """Ticks until the last of *total* units passes at the earliest; a window holds no more than the capacity."""
        windows, rest = divmod(total - 1, self.capacity)
        return windows * self.window + self.wait(state, now, rest + 1)

    @abstractmethod
    def wait(self, state: Any, now: float, cost: int) -> float: ...

    def pack(self, state: Iterable[float]) -> tuple[float, ...]:
        return tuple(state)

    def unpack(self, values: tuple[float, ...]) -> Any:
        return values


class SlidingLog(Window):
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


class Bucketed(Window):
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


class SlidingCounter(Window):
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
