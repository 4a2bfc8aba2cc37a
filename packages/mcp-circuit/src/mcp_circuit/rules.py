"""When to trip: rules over the outcomes of one era, each O(1) per call whatever its window.

No window ever hears of a success.  The era counts its calls in one integer; a window learns that integer only when a
call *marks* it, by failing or by being slow, and so a mark is the number of a call:

    call       1  2  3  4  5  6  7  8  9
    outcome    .  .  x  .  x  x  .  .  x        marks: 3, 5, 6, 9

``consecutive``               marks that are neighbours: 5, 6.
``failure_rate(calls=N)``     the marks among the last N calls: a queue that each mark enters and leaves once.
``failure_rate(seconds=S)``   the (calls, marks) at the beginning of each of the last 10 slots, of S/10 seconds; what
                              lies in the window is the difference between now and the oldest of them.

Invariants, each a property in ``tests/circuit/test_rules.py``:

1. A window trips on a mark exactly when a list of all outcomes, counted anew each time, says so.
2. A count window holds at most N marks, a time window 10 pairs, whatever the number of calls.
3. A time window looks back at least nine tenths of its seconds, and never more than all of them.

Rejected: a ring of outcomes (work and memory for every success), a queue of times (grows with the traffic), and
tripping on a success, which can complete ``min_calls`` but is no reason to stop calling.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from .checks import check_count, check_seconds, check_share

__all__ = ["Rule", "Window", "consecutive", "failure_rate", "slow_rate"]

SLOTS = 10  # of a time window: its edge is blurred by a tenth, and rolling costs at most ten steps


class Window(Protocol):
    """What one rule remembers of one era."""

    edge: float
    """When ``roll`` is due; inf for a window without time."""

    def roll(self, now: float, calls: int) -> None:
        """Move on to *now*; *calls* were counted until then."""
        ...

    def mark(self, calls: int) -> bool:
        """Count call number *calls* as marked, and say whether that trips."""
        ...


class Rule(Protocol):
    """A trip rule: ``slower_than`` says which calls it marks, ``start`` begins a window at *now*."""

    @property
    def slower_than(self) -> float | None:
        """Seconds from which a call is marked; None marks failures instead."""

    def start(self, now: float) -> Window:
        """Begin to count."""
        ...


def consecutive(failures: int) -> Rule:
    """Trip at that many failures with no success between them."""
    return _Consecutive(check_count("consecutive", "failures", failures))


def failure_rate(
    threshold: float, *, calls: int | None = None, seconds: float | None = None, min_calls: int = 10
) -> Rule:
    """Trip when at least the share *threshold* of the calls in the window failed.

    The window is either the last *calls* calls or the last *seconds* seconds, in ten slots.  Nothing trips below
    *min_calls* calls in the window, and only a failure trips, never a success that completes them.
    """
    return _rate("failure_rate", threshold, calls=calls, seconds=seconds, min_calls=min_calls)


def slow_rate(
    threshold: float,
    *,
    slower_than: float,
    calls: int | None = None,
    seconds: float | None = None,
    min_calls: int = 10,
) -> Rule:
    """Trip when at least the share *threshold* of the calls in the window took *slower_than* seconds or longer.

    A slow call counts whether it succeeded or failed.  The window is as in ``failure_rate``.
    """
    slow = check_seconds("slow_rate", "slower_than", slower_than)
    return _rate("slow_rate", threshold, calls=calls, seconds=seconds, min_calls=min_calls, slower_than=slow)


@dataclass(frozen=True)
class _Consecutive:
    failures: int
    slower_than: None = None

    def start(self, now: float) -> Window:  # noqa: ARG002  # a window without time
        return _Streak(self.failures)


@dataclass(frozen=True)
class _Rate:
    threshold: float
    min_calls: int
    slower_than: float | None
    calls: int | None
    seconds: float

    def start(self, now: float) -> Window:
        return _LastCalls(self, self.calls) if self.calls else _LastSeconds(self, self.seconds, now)

    def trips(self, marks: int, calls: int) -> bool:
        return calls >= self.min_calls and marks / calls >= self.threshold


def _rate(
    where: str,
    threshold: float,
    *,
    calls: int | None,
    seconds: float | None,
    min_calls: int,
    slower_than: float | None = None,
) -> Rule:
    share, least = check_share(where, "threshold", threshold), check_count(where, "min_calls", min_calls)
    if (calls is None) == (seconds is None):
        raise ValueError(f"{where} needs either calls=... or seconds=..., got calls={calls!r} and seconds={seconds!r}")
    if calls is not None and check_count(where, "calls", calls) < least:
        raise ValueError(f"{where} needs min_calls <= calls, got min_calls={min_calls!r} and calls={calls!r}")
    span = 0.0 if seconds is None else check_seconds(where, "seconds", seconds)
    return _Rate(share, least, slower_than, calls, span)


class _Streak:
    edge = math.inf

    def __init__(self, failures: int) -> None:
        self._limit = failures
        self._length = 0
        self._last = 0

    def roll(self, now: float, calls: int) -> None:
        """Time changes nothing."""

    def mark(self, calls: int) -> bool:
        self._length = self._length + 1 if calls == self._last + 1 else 1
        self._last = calls
        return self._length >= self._limit


class _LastCalls:
    edge = math.inf

    def __init__(self, rule: _Rate, size: int) -> None:
        self._rule = rule
        self._size = size
        self._marks: deque[int] = deque()

    def roll(self, now: float, calls: int) -> None:
        """Time changes nothing."""

    def mark(self, calls: int) -> bool:
        self._marks.append(calls)
        while self._marks[0] <= calls - self._size:
            self._marks.popleft()
        return self._rule.trips(len(self._marks), min(calls, self._size))


class _LastSeconds:
    def __init__(self, rule: _Rate, seconds: float, now: float) -> None:
        self._rule = rule
        self._slot = seconds / SLOTS
        self._marks = 0
        self._past: deque[tuple[int, int]] = deque([(0, 0)], SLOTS)
        self.edge = now + self._slot

    def roll(self, now: float, calls: int) -> None:
        late = (now - self.edge) / self._slot
        if late >= 0:
            steps = int(min(late, SLOTS)) + 1
            self._past.extend([(calls, self._marks)] * min(steps, SLOTS))
            self.edge = now + self._slot if steps > SLOTS else self.edge + steps * self._slot

    def mark(self, calls: int) -> bool:
        self._marks += 1
        calls_before, marks_before = self._past[0]
        marks = self._marks - marks_before
        return self._rule.trips(marks, max(calls - calls_before, marks))  # threads may lose calls, see the breaker
