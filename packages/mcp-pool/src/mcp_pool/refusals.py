"""Why waiting for a resource would be in vain, and what a caller is told then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio

from .entry import IN_USE
from .errors import PoolClosed, PoolFull, PoolMisuse, PoolTimeout
from .supply import Supply

__all__ = ["Refusals"]


class Refusals:
    """The refusals of one pool."""

    def __init__(self, supply: Supply[Any]) -> None:
        self._supply = supply
        self._name = supply.settings.name
        self._shelf = supply.shelf
        self._report = supply.report

    def before_waiting(
        self, me: Callable[[], object], left: float, limit: float, now: float, *, first: bool
    ) -> Exception | None:
        """Say why the task *me()* should not begin to wait; *first* is one that has had its turn, and waits on."""
        if not self._supply.is_open:
            return self.closed()
        if self._shelf.max_size == 1 and self._has_the_only_one(me()):
            return PoolMisuse(
                f"this task has the only resource of {self._name} and asks for another, for which it would wait until"
                " it returns the first; pass the first one on, or make max_size larger"
            )
        error = self._supply.unavailable(now) or (None if first else self._of_newcomer(left, limit))
        self._report.refusals += error is not None
        if first and left <= 0 and error is None:
            return self.timeout(limit, early=False)
        return error

    def _of_newcomer(self, left: float, limit: float) -> Exception | None:
        settings, waiting = self._supply.settings, len(self._shelf.waiters)
        if waiting >= settings.max_waiters:
            return PoolFull(f"{waiting} callers wait for {self._name}, which is max_waiters", waiting=waiting)
        if left <= 0 or (settings.refuse_early and self._expected_wait() > _until_deadline(left)):
            return self.timeout(limit, early=True)
        return None

    def _has_the_only_one(self, task: object) -> bool:
        return any(entry.state is IN_USE and not entry.taken and entry.holder == task for entry in self._shelf.entries)

    def _expected_wait(self) -> float:
        """Seconds until a caller that joins the queue now is served: of n resources, one comes back each mean / n."""
        uses = self._shelf.uses
        mean = self._shelf.use_seconds / uses if uses else 0.0
        return mean * (len(self._shelf.waiters) + 1) / self._shelf.max_size

    def timeout(self, limit: float, *, early: bool) -> PoolTimeout:
        """Say that nothing was free in time, or will be."""
        self._report.timeouts += not early
        in_use, waiting, error = self._shelf.in_use, len(self._shelf.waiters), self._supply.gate.error
        cause = f"; the last connect failed with {error!r}" if error else ""
        message = f"{self._name} has nothing within {limit:g} s: {in_use} in use, {waiting} waiting{cause}"
        return PoolTimeout(message, timeout=limit, early=early, in_use=in_use, waiting=waiting)

    def closed(self) -> PoolClosed:
        """Say that the pool is not open."""
        state = "closed" if self._supply.was_opened else "not open; enter it first: async with pool"
        return PoolClosed(f"{self._name} is {state}")


def _until_deadline(left: float) -> float:
    """The same, or less where a cancel scope around the caller ends earlier."""
    return min(left, anyio.current_effective_deadline() - anyio.current_time())
