"""The counter where resources are lent and taken back, in the borrower's own task.

A borrower waits in line, or is refused at once where waiting would be in vain. It runs resets itself, and checks unless
it is in a hurry (``checks``), since switching to another task costs twenty times as much. When it is cancelled in the
middle of one, the resource is closed; when its block was cancelled, the owner does the reset.
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

from .checks import Checks
from .entry import IN_USE, Entry
from .errors import PoolMisuse
from .leaks import Borrower, end_loan, stand_in
from .refusals import Refusals
from .settings import Settings, check_sizes
from .shelf import Shelf
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
        self.lends_plainly: bool
        """Whether nobody wants to know who has an idle resource."""
        self.takes_plainly: bool
        """Whether nothing is to be done with a resource that comes back, but a reset."""
        self.check_after: float = math.inf if settings.check is None else settings.check_after
        self.resets: bool = settings.reset is not None
        self._refusals = Refusals(supply)
        self._checks: Checks[T] = Checks(supply, self._refusals)
        self._identity: Callable[[], object] = _task_id

    def open(self, tasks: TaskGroup) -> None:
        """Begin to lend, with the pool's own work done in *tasks*."""
        on_asyncio = is_asyncio()
        self._waiting = AsyncioWaiting(self.shelf.waiters) if on_asyncio else OtherWaiting()
        if on_asyncio:
            self._identity = asyncio.current_task
            self.supply.check.step_by_hand()
            self.supply.reset.step_by_hand()
        self.start_check: Callable[[Entry[T]], bool] = self._checks.open(tasks)
        self.start_reset: Callable[[Entry[T]], bool] = self.supply.reset.start
        self.supply.ready = self._waiting.ready
        self.returned: Any = self._waiting.ready(None)
        self.supply.open(tasks)
        self._note_limits()

    async def close(self, drain_timeout: float) -> None:
        """Turn everybody away, and close the supply."""
        if not self.supply.was_opened:
            self.supply.was_opened = True
            return
        self._waiting.stop()
        self.shelf.dismiss(self._refusals.closed)
        await self.supply.close(drain_timeout)

    def resize(self, min_size: int | None, max_size: int | None) -> None:
        """Change the limits, which must make sense; what is over them goes, idle ones first."""
        shelf = self.shelf
        lowest = shelf.min_size if min_size is None else min_size
        highest = shelf.max_size if max_size is None else max_size
        check_sizes(lowest, highest)
        shelf.resize(lowest, highest)
        if self.supply.is_open:
            self._note_limits()
            self.supply.keeper.poke()

    def _note_limits(self) -> None:
        settings = self.settings
        watched = settings.debug or settings.leak_after < math.inf or self.shelf.max_size == 1
        self.lends_plainly = not watched
        self.takes_plainly = not (settings.check_on_return or watched)
        for entry in self.shelf.entries:
            entry.holder = None

    async def obtain(self, seconds: float | None, entry: Entry[T] | None = None) -> Entry[T]:
        """Lend a resource that works, *entry* if it is one; raises a PoolError instead."""
        limit = self.settings.timeout if seconds is None else seconds
        now = self.clock()
        deadline = now + limit
        # Whoever got one that does not work had its turn already, and goes before those who wait.
        first = False
        while True:
            entry = entry or self.shelf.take(now) or await self._wait(now, deadline, limit, first=first)
            now = self.clock()
            if self._needs_no_check(entry, now) or await self._checks.passes(entry, deadline - now, limit):
                return self._note_borrower(entry)
            entry, first, now = None, True, self.clock()

    async def obtain_idle(self) -> Entry[T] | None:
        """Lend an idle resource that works, or return None; raises PoolClosed."""
        if not self.supply.is_open:
            raise self._refusals.closed()
        self.supply.keeper.reclaim(self.clock())
        while (entry := self.shelf.take(now := self.clock())) is not None:
            if self._needs_no_check(entry, now) or await self._checks.passes(entry):
                return self._note_borrower(entry)
        return None

    async def _wait(self, began: float, deadline: float, limit: float, *, first: bool) -> Entry[T]:
        self.supply.keeper.reclaim(began)
        left = deadline - began
        if error := self._refusals.before_waiting(self._identity, left, limit, began, first=first):
            raise error
        waiter = self._waiting.waiter(left)
        self.shelf.join(waiter, first=first)
        self.supply.report.waits += 1
        self.supply.grow(began)
        try:
            await waiter
        except BaseException:
            self.shelf.put_back(waiter.outcome, self.clock())
            raise
        finally:
            self.shelf.leave(waiter)
            self.supply.report.waited(self.clock() - began)
        outcome: Entry[T] | Exception | None = waiter.outcome
        if isinstance(outcome, Entry):
            return outcome
        raise outcome or self._refusals.timeout(limit, early=False)

    def _needs_no_check(self, entry: Entry[T], now: float) -> bool:
        return entry.state is IN_USE and entry.pending is None and now - entry.used_at < self.check_after

    def _note_borrower(self, entry: Entry[T]) -> Entry[T]:
        if self.lends_plainly:
            return entry
        if self.shelf.max_size == 1:
            entry.holder = self._identity()
        if self.settings.debug or self.settings.leak_after < math.inf:
            entry.borrower = Borrower(self.clock())
        return entry

    def show(self, entry: Entry[T]) -> T:
        """What the borrower is to see of a lent entry: the resource; in debug mode, a new stand-in for it."""
        if not self.settings.debug:
            return cast("T", entry.resource)
        found: T = stand_in(entry.resource, partial(self.supply.keeper.dropped.append, (entry, entry.uses)))
        entry.stand_in = weakref.ref(found)
        return found

    async def warm(self, seconds: float | None) -> None:
        """Wait until the minimum is there; raises a PoolError instead."""
        limit = self.settings.timeout if seconds is None else seconds
        with anyio.move_on_after(limit):
            while self.shelf.alive < self.shelf.min_size and self.supply.is_open:
                if error := self.supply.unavailable(self.clock()):
                    raise error
                await self.supply.keeper.changed.wait()
        if not self.supply.is_open:
            raise self._refusals.closed()
        if self.shelf.alive < self.shelf.min_size:
            raise self._refusals.timeout(limit, early=False)

    async def release(self, entry: Entry[T], error: BaseException | None = None) -> None:
        """Take back what was lent, after *error* came out of its use."""
        end_loan(entry)
        now = self.clock()
        if entry.state is not IN_USE:  # it died meanwhile, or was closed by force
            return
        if error is not None and self._is_broken(entry, error):
            self.shelf.retire(entry, "broken")
        elif error is None or isinstance(error, Exception):
            is_over = now >= entry.retire_at and entry.pending is None
            if is_over or await self._is_clean(entry):
                self.shelf.give(entry, self.clock())
        elif self.resets and now < entry.retire_at:
            self.shelf.service(entry)
        else:
            self.shelf.give(entry, now)

    async def _is_clean(self, entry: Entry[T]) -> bool:
        if self.resets and not await self.supply.reset.passes(entry):
            return False
        return not self.settings.check_on_return or await self.supply.check.passes(entry)

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
            end_loan(entry)
            self.shelf.give(entry, self.clock())


def _task_id() -> int:
    return anyio.get_current_task().id
