"""Counting by windows of the clock or of the calendar: see ``_algorithms`` for what every algorithm promises."""

from __future__ import annotations

import math
from datetime import datetime, time, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

from ._windows import Window
from .limit import Limit

__all__ = ["FixedWindow"]


class FixedWindow(Window):
    """At most *amount* in each window: a quota by the calendar, or by the clock in windows counted from 1970.

    Around a boundary, up to 2 x *amount* in one period.  Time is the wall clock's, in microseconds.
    The state is the start of a window and its count.
    """

    def __init__(self, limit: Limit) -> None:
        super().__init__(limit.amount, limit.period, width=2)
        self.hz = 1e6
        self.window = round(limit.period * self.hz)
        self.lifetime = self.window + 86400 * self.hz  # no change of the clocks lengthens a window by more than a day
        self._calendar = limit.calendar
        # Not ZoneInfo for all: there may be no database of zones, which UTC needs none of.
        self._zone: tzinfo = timezone.utc if limit.timezone == "UTC" else ZoneInfo(limit.timezone)
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

    def edges(self, now: float) -> list[float]:
        """Return the four edges of the window around *now* and of its neighbours."""
        start, end = self.bounds(now)
        return [self.bounds(start - 1)[0], start, end, self.bounds(end)[1]]

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


def _calendar_window(when: float, unit: str, zone: tzinfo) -> tuple[float, float]:
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
