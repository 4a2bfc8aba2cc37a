"""Whether what is about to be lent still works.

A borrower runs the check itself, unless its own time may be over first. Cut off in the middle, a check may leave an
answer on the line, and the resource would have to be closed: a slow backend would lose all its connections to callers
in a hurry. So theirs are run by tasks of the pool, each for as long as a check may take. What passes when its borrower
has left is idle again, or goes to the next who waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from .entry import IN_USE, Entry
from .hooks import not_begun
from .refusals import Refusals
from .supply import Supply

__all__ = ["Checks"]

T = TypeVar("T")


class Checks(Generic[T]):
    """The checks on borrowing from one pool."""

    def __init__(self, supply: Supply[T], refusals: Refusals) -> None:
        self._supply = supply
        self._refusals = refusals
        self._clock = supply.settings.clock
        self._check_timeout = supply.settings.check_timeout
        self._tasks: TaskGroup

    def open(self, tasks: TaskGroup) -> Callable[[Entry[T]], bool]:
        """Run them in *tasks* from now on; return what begins one for a borrower with the pool's own timeout."""
        self._tasks = tasks
        has_time = self._supply.settings.timeout >= self._check_timeout
        return self._supply.check.start if has_time else not_begun

    async def passes(self, entry: Entry[T], left: float = math.inf, limit: float = math.inf) -> bool:
        """Say whether *entry* works; PoolTimeout when that is not known in the *left* seconds of the *limit*."""
        if left >= self._check_timeout or entry.pending is not None:
            return await self._passes(entry)
        errand = _Errand(partial(self._take_back, entry))
        self._tasks.start_soon(self._run, errand, entry, name=f"{self._supply.settings.name} check")
        if not await errand.is_done_within(left):
            raise self._refusals.timeout(limit, early=False)
        return errand.passed and entry.state is IN_USE

    async def _passes(self, entry: Entry[T]) -> bool:
        if entry.state is not IN_USE:  # it died, or was closed by force, before its new borrower woke up
            return False
        was_new = not entry.uses and entry.taken_at == entry.born_at  # somebody waited for it
        passed = await self._supply.check.passes(entry)
        if was_new and not passed:  # what connects, but never works, is no reason to connect again at once
            self._supply.failed(ValueError("a new resource did not pass its check"), self._clock())
        return passed

    async def _run(self, errand: _Errand, entry: Entry[T]) -> None:
        # A CancelledError that no scope of ours caused comes from the resource; let out, it would end the pool.
        with contextlib.suppress(asyncio.CancelledError), anyio.CancelScope(shield=True) as scope:
            entry.interrupt = scope.cancel
            errand.passed = await self._passes(entry)
        entry.interrupt = bool
        errand.end()

    def _take_back(self, entry: Entry[T]) -> None:
        entry.used_at = now = self._clock()  # as after a use, it need not be checked again at once
        self._supply.shelf.put_back(entry, now)


class _Errand:
    """A check that goes on when its borrower leaves; then *take_back()* is called if it passes."""

    def __init__(self, take_back: Callable[[], object]) -> None:
        self.passed: bool = False
        self._done = anyio.Event()
        self._is_awaited = True
        self._take_back = take_back

    def end(self) -> None:
        self._done.set()
        self._settle()

    async def is_done_within(self, seconds: float) -> bool:
        """Wait for its end, or leave."""
        is_done = False
        try:
            for _ in range(2):  # turns: whatever their order, a check that waits for nothing is over then
                await anyio.lowlevel.cancel_shielded_checkpoint()
            with anyio.move_on_after(seconds):
                await self._done.wait()
            is_done = self._done.is_set()
        finally:
            self._is_awaited = is_done
            self._settle()
        return is_done

    def _settle(self) -> None:
        if self.passed and not self._is_awaited:
            self._take_back()
