"""The task of a pool that keeps the time: idle times, lifetimes, background checks, leaks, and the next connect.

It sleeps until the earliest thing is due, or until it is poked because something may be due earlier. Whatever is in the
pool then is looked at with one reading of the clock: between two readings a moment can pass in which a thing is neither
due any more nor still to come, and the keeper would sleep for ever.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Generic, TypeVar

import anyio

from .entry import IDLE, IN_USE, Entry
from .events import Leaked
from .gate import Gate
from .leaks import Borrower, end_loan
from .report import Report
from .settings import Settings
from .shelf import Shelf

__all__ = ["Keeper"]

T = TypeVar("T")

TICK = 0.001  # seconds: it never sleeps for less, lest rounding keep it busy
DROPPED = 1.0  # seconds between two looks for stand-ins that were dropped


class Keeper(Generic[T]):
    """Does in time what nobody asks for.  ``grow(now)`` starts the connects that are wanted and allowed."""

    def __init__(
        self, settings: Settings[T], shelf: Shelf[T], gate: Gate, report: Report, grow: Callable[[float], object]
    ) -> None:
        self.dropped: deque[tuple[Entry[T], int]] = deque()
        """Stand-ins that were garbage before they were returned; a note each, with the number of the use."""
        self.changed: anyio.Event
        """Set when something may have changed that others wait for; a new one each time."""
        self._settings = settings
        self._shelf = shelf
        self._gate = gate
        self._report = report
        self._grow = grow
        looks = [settings.idle_timeout, settings.check_interval, settings.leak_after]
        self._look_after: float = min(looks + [DROPPED] * settings.debug)

    def open(self) -> None:
        """Get ready for ``run``, in the running event loop."""
        self.changed = anyio.Event()
        self._scope = anyio.CancelScope()

    async def run(self) -> None:
        """Keep the time until ``stop``."""
        with self._scope:
            while True:
                if self.changed.is_set():  # one that is not has waiters, perhaps
                    self.changed = anyio.Event()
                delay = self._do_what_is_due()
                with anyio.move_on_after(max(delay, TICK)):
                    await self.changed.wait()

    def poke(self) -> None:
        """Look again, because something may be due earlier than it seemed."""
        self.changed.set()

    def stop(self) -> None:
        """End ``run``."""
        self._scope.cancel()

    def reclaim(self, now: float) -> None:
        """Take back what was dropped without being returned."""
        while self.dropped:
            entry, uses = self.dropped.popleft()
            if entry.state is not IN_USE or entry.uses != uses:
                continue
            self._report_leak(entry.borrower, now, reclaimed=True)
            end_loan(entry)
            if self._settings.reset:
                self._shelf.service(entry)
            else:
                self._shelf.retire(entry, "leaked")

    def _do_what_is_due(self) -> float:
        """Do it, and return the seconds until something else is, at the earliest."""
        now = self._settings.clock()
        self.reclaim(now)
        self._grow(now)
        following = self._look_after
        for due, duty in list(self._duties(now)):
            if due > now:
                following = min(following, due - now)
            else:
                duty()
        return following

    def _duties(self, now: float) -> Iterator[tuple[float, Callable[[], object]]]:
        settings, shelf = self._settings, self._shelf
        oldest_first = sorted(shelf.idle, key=lambda entry: entry.used_at)
        for entry in oldest_first[: max(shelf.alive - shelf.min_size, 0)]:
            yield entry.used_at + settings.idle_timeout, partial(shelf.retire, entry, "idle")
        for entry in shelf.entries:
            yield entry.retire_at, partial(self._expire, entry)  # one that is in use now may be idle by then
            if entry.state is IDLE and settings.check and not shelf.serviced:
                checked_at = max(entry.used_at, entry.checked_at)
                yield checked_at + settings.check_interval, partial(self._check_idle, entry)
            borrower = entry.borrower
            if entry.state is IN_USE and borrower is not None and not borrower.reported:
                yield borrower.since + settings.leak_after, partial(self._report_leak, borrower, now)
        if self._gate.failures:
            yield self._gate.retry_at, bool  # when it is due, ``grow`` has just acted on it

    def _expire(self, entry: Entry[T]) -> None:
        if entry.state is IDLE:
            self._shelf.retire(entry, entry.reason)

    def _check_idle(self, entry: Entry[T]) -> None:
        # One at a time: the pool must not be empty because all of it is being checked.
        if entry.state is IDLE and not self._shelf.serviced:
            self._shelf.service(entry)

    def _report_leak(self, borrower: Borrower, now: float, *, reclaimed: bool = False) -> None:
        borrower.reported = True
        self._report.leaks += 1
        seconds = now - borrower.since
        self._report.tell(Leaked(self._report.name, seconds, borrower.task, borrower.stack, reclaimed))
