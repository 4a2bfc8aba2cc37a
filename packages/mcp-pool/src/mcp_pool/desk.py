"""The counter where resources are lent and taken back, in the borrower's own task.

A borrower waits in line, or is refused at once where waiting would be in vain. It runs checks and resets itself, since
switching to another task costs twenty times as much. When it is cancelled in the middle of one, the resource is closed;
when its block was cancelled, the owner does the reset.
"""

from __future__ import annotations

import asyncio
import math
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar, cast

import anyio
from anyio.abc import TaskGroup

from .errors import PoolClosed, PoolFull, PoolMisuse, PoolTimeout
from .hooks import Hooks
from .leaks import Borrower, retract, stand_in
from .report import Report
from .settings import Settings, check_sizes
from .shelf import CLOSING, CONNECTING, IDLE, IN_USE, Entry, Shelf
from .supply import Supply
from .waiting import AsyncioWaiting, OtherWaiting, is_asyncio

__all__ = ["Desk"]

T = TypeVar("T")


class Desk(Generic[T]):
    """Lends from a supply.

    Shared by every task that uses the pool; everything here that does not wait happens at once.
    """

    def __init__(self, supply: Supply[T]) -> None:
        settings = supply.settings
        self.supply: Supply[T] = supply
        self.settings: Settings[T] = settings
        self.clock: Callable[[], float] = settings.clock
        self.shelf: Shelf[T] = supply.shelf
        self.idle: deque[Entry[T]] = self.shelf.idle
        self.pick: Callable[[], Entry[T]] = self.shelf.pick
        self.give: Callable[[Entry[T], float], None] = self.shelf.give
        self.hooks: Hooks[T] = supply.hooks
        self.report: Report = supply.report
        self.was_opened: bool = False
        self.lends_plainly: bool = False
        """Whether nobody wants to know who has an idle resource."""
        self.takes_plainly: bool = False
        """Whether nothing is to be done with a resource that comes back, but a reset."""
        self.check_after: float = math.inf if settings.check is None else settings.check_after
        self.resets: bool = settings.reset is not None

    def open(self, tasks: TaskGroup) -> None:
        """Begin to lend, with the pool's own work done in *tasks*."""
        self.was_opened = True
        on_asyncio = is_asyncio()
        queue = self.shelf.waiters
        self._waiting = AsyncioWaiting(queue) if on_asyncio else OtherWaiting(queue)
        self._identity: Callable[[], object] = asyncio.current_task if on_asyncio else _task_id
        if on_asyncio:
            self.hooks.step_by_hand()
        self.start_check: Callable[[Entry[T]], bool] = self.hooks.start_check
        self.start_reset: Callable[[Entry[T]], bool] = self.hooks.start_reset
        self.supply.ready = self._waiting.ready
        self.returned: Any = self._waiting.ready(None)
        self.supply.open(tasks)
        self._note_limits()

    async def close(self, drain_timeout: float) -> None:
        """Turn everybody away, and close the supply."""
        self.lends_plainly = False
        if not self.was_opened:
            self.was_opened = True
            return
        self._waiting.stop()
        self.supply.is_open = False
        self.shelf.dismiss(self._closed)
        await self.supply.close(drain_timeout)

    def resize(self, min_size: int | None, max_size: int | None) -> None:
        """Change the limits, which must make sense; what is over them goes, idle ones first."""
        shelf = self.shelf
        lowest = shelf.min_size if min_size is None else min_size
        highest = shelf.max_size if max_size is None else max_size
        check_sizes(lowest, highest)
        shelf.min_size, shelf.max_size = lowest, highest
        staying = [entry for entry in shelf.entries if entry.state != CLOSING and entry.retire_at > -math.inf]
        surplus = max(len(staying) - highest, 0)
        for entry in sorted(staying, key=lambda entry: (entry.state != IDLE, entry.state != CONNECTING))[:surplus]:
            shelf.condemn(entry, "shrink")
        self._note_limits()
        self.supply.poke()

    def _note_limits(self) -> None:
        settings = self.settings
        watched = settings.debug or settings.leak_after < math.inf or self.shelf.max_size == 1
        self.lends_plainly = self.supply.is_open and not watched
        self.takes_plainly = not (settings.check_on_return or settings.debug or self.shelf.max_size == 1)
        for entry in self.shelf.entries:
            entry.holder = None

    # Lending

    async def obtain(self, seconds: float | None, started: Entry[T] | None = None) -> Entry[T]:
        """Lend a resource that works; raises a PoolError instead.  *started* was taken, and its check has begun."""
        limit = self.settings.timeout if seconds is None else seconds
        deadline = self.clock() + limit
        if started is not None and await self._passes(started, limit, started=True):
            return started
        # Whoever got one that does not work had its turn already, and goes before those who wait.
        first = started is not None
        while True:
            entry = self.shelf.take(self.clock()) or await self._wait(deadline, limit, first=first)
            if await self._is_well(entry, deadline):
                return self._note_borrower(entry)
            first = True

    async def obtain_idle(self) -> Entry[T] | None:
        """Lend an idle resource that works, or return None; raises PoolClosed."""
        if not self.supply.is_open:
            raise self._closed()
        self.supply.reclaim()
        while (entry := self.shelf.take(self.clock())) is not None:
            if await self._is_well(entry, math.inf):
                return self._note_borrower(entry)
        return None

    async def _wait(self, deadline: float, limit: float, *, first: bool) -> Entry[T]:
        self.supply.reclaim()
        began = self.clock()
        if error := self._refusal(deadline - began, limit, first=first):
            raise error
        waiter = self._waiting.waiter(deadline - began)
        self.shelf.join(waiter, first=first)
        self.report.waits += 1
        self.supply.grow()
        try:
            await waiter
        except BaseException:
            self.shelf.put_back(waiter.outcome, self.clock())
            raise
        finally:
            self.shelf.leave(waiter)
            self.report.waited(self.clock() - began)
        outcome: Entry[T] | Exception | None = waiter.outcome
        if isinstance(outcome, Entry):
            return outcome
        raise outcome or self._timeout(limit, early=False)

    def _refusal(self, left: float, limit: float, *, first: bool) -> Exception | None:
        """Say why waiting would be in vain."""
        waiting = len(self.shelf.waiters)
        error: Exception | None = None
        if not self.supply.is_open:
            return self._closed()
        if self._would_deadlock():
            return PoolMisuse(
                f"this task has the only resource of {self.settings.name} and asks for another, for which it would wait"
                " until it returns the first; pass the first one on, or make max_size larger"
            )
        if unavailable := self.supply.unavailable():
            error = unavailable
        elif first:
            return None if left > 0 else self._timeout(limit, early=False)
        elif waiting >= self.settings.max_waiters:
            error = PoolFull(f"{waiting} callers wait for {self.settings.name}, which is max_waiters", waiting=waiting)
        elif left <= 0 or (self.settings.refuse_early and self._expected_wait() > _until_deadline(left)):
            error = self._timeout(limit, early=True)
        self.report.refusals += error is not None
        return error

    def _would_deadlock(self) -> bool:
        if self.shelf.max_size > 1:
            return False
        me = self._identity()
        return any(entry.state is IN_USE and not entry.taken and entry.holder == me for entry in self.shelf.entries)

    def _expected_wait(self) -> float:
        """Seconds until a caller that joins the queue now is served: of n resources, one comes back each mean / n."""
        uses = self.shelf.uses
        mean = self.shelf.use_seconds / uses if uses else 0.0
        return mean * (len(self.shelf.waiters) + 1) / self.shelf.max_size

    async def _is_well(self, entry: Entry[T], deadline: float) -> bool:
        now = self.clock()
        if entry.state is not IN_USE:  # it died, or was closed by force, before its new borrower woke up
            return False
        return now - entry.used_at < self.check_after or await self._passes(entry, deadline - now)

    async def _passes(self, entry: Entry[T], left: float, *, started: bool = False) -> bool:
        passed = await (self.hooks.finish if started else self.hooks.passes)(entry, "check", left)
        if not passed and not entry.uses:  # what connects, but never works, is no reason to connect again at once
            self.supply.failed(ValueError("a new resource did not pass its check"))
        return passed

    def _note_borrower(self, entry: Entry[T]) -> Entry[T]:
        if self.lends_plainly:
            return entry
        if self.shelf.max_size == 1:
            entry.holder = self._identity()
        if self.settings.debug or self.settings.leak_after < math.inf:
            entry.borrower = Borrower()
        return entry

    def show(self, entry: Entry[T]) -> T:
        """What the borrower is to see of a lent entry: the resource; in debug mode, a new stand-in for it."""
        if not self.settings.debug:
            return cast("T", entry.resource)
        found: T = stand_in(entry.resource, partial(self.supply.dropped.append, (entry, entry.uses)))
        entry.stand_in = weakref.ref(found)
        return found

    # Taking back

    async def release(self, entry: Entry[T], error: BaseException | None = None, *, started: bool = False) -> None:
        """Take back what was lent, after *error* came out of its use.  *started* says that the reset has begun."""
        self._retract(entry)
        now = self.clock()
        if entry.state is not IN_USE:  # it died meanwhile, or was closed by force
            return
        if error is not None and self._is_broken(entry, error):
            self.shelf.retire(entry, "broken")
        elif error is None or isinstance(error, Exception):
            if now >= entry.retire_at or await self._is_clean(entry, started=started):
                self.shelf.give(entry, self.clock())
        elif self.resets and now < entry.retire_at:
            self.shelf.service(entry)
        else:
            self.shelf.give(entry, now)

    async def _is_clean(self, entry: Entry[T], *, started: bool) -> bool:
        if self.resets and not await (self.hooks.finish if started else self.hooks.passes)(entry, "reset"):
            return False
        return not self.settings.check_on_return or await self.hooks.passes(entry, "check")

    def _is_broken(self, entry: Entry[T], error: BaseException) -> bool:
        if self.settings.broken is None:
            return not isinstance(error, Exception) and not self.resets
        try:
            return self.settings.broken(error)
        except BaseException:
            self.shelf.retire(entry, "broken")
            raise

    def find(self, resource: object) -> Entry[T]:
        """Return the entry of a resource in use; raises PoolMisuse when there is none."""
        entry = self.supply.entry_of(resource)
        if entry is None:
            raise PoolMisuse(f"{resource!r} is not of {self.settings.name}, or was returned and closed")
        if entry.state is not IN_USE:
            raise PoolMisuse(f"{resource!r} is not in use; was it returned twice?")
        return entry

    def discard(self, entry: Entry[T]) -> None:
        """Close an entry in use when it comes back; one that was taken comes back here."""
        self.shelf.condemn(entry, "discarded")
        if entry.taken:
            self._retract(entry)
            self.shelf.give(entry, self.clock())

    def _retract(self, entry: Entry[T]) -> None:
        entry.taken, entry.holder = False, None
        found, entry.stand_in = entry.stand_in and entry.stand_in(), None
        if found is not None:
            retract(found)

    # Refusals

    def _timeout(self, limit: float, *, early: bool) -> PoolTimeout:
        self.report.timeouts += not early
        in_use, waiting, error = self.shelf.in_use, len(self.shelf.waiters), self.supply.gate.error
        cause = f"; the last connect failed with {error!r}" if error else ""
        message = f"{self.settings.name} has nothing within {limit:g} s: {in_use} in use, {waiting} waiting{cause}"
        return PoolTimeout(message, timeout=limit, early=early, in_use=in_use, waiting=waiting)

    def _closed(self) -> PoolClosed:
        state = "closed" if self.was_opened else "not open; enter it first: async with pool"
        return PoolClosed(f"{self.settings.name} is {state}")

    async def warm(self, seconds: float | None) -> None:
        """Wait until the minimum is there; raises a PoolError instead."""
        limit = self.settings.timeout if seconds is None else seconds
        with anyio.move_on_after(limit):
            while self.shelf.alive < self.shelf.min_size and self.supply.is_open:
                if error := self.supply.unavailable():
                    raise error
                await self.supply.changed.wait()
        if not self.supply.is_open:
            raise self._closed()
        if self.shelf.alive < self.shelf.min_size:
            raise self._timeout(limit, early=False)


def _until_deadline(left: float) -> float:
    """The same, or less where a cancel scope around the caller ends earlier."""
    return min(left, anyio.current_effective_deadline() - anyio.current_time())


def _task_id() -> int:
    return anyio.get_current_task().id
