"""The tasks behind a pool: one that owns each resource, and one that keeps the time.

A resource is connected, served and closed by one task, its owner, from the first line of its context manager to the
last: what the resource entered (a task group, a cancel scope) must be left where it was entered. The owner is shielded,
so that no caller's cancellation and no end of the program interrupts it; it ends when it is told to, or by its own time
limits, or because the resource dies in its hands.

A caller runs in its own task only what it would run itself: checks on the way out, resets on the way back. When it is
cancelled in the middle of one, the resource is closed; when its block was, the owner does the reset.

Invariants, each tested under cancellation at every checkpoint in ``tests/pool/test_sweep.py``:

4. Every resource that was connected is closed exactly once, by the task that connected it.
5. What is handed to a waiter that is gone goes to the next.
6. No wait is longer than its limit: for a resource, a connect, a check, a reset, a close.

Rejected: connecting in the caller's task (it dies with the caller, and the next one has to start again), a task for
each check and reset (twenty times the cost of an acquire).
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import anyio
from anyio.abc import TaskGroup

from .errors import PoolMisuse, PoolUnavailable
from .events import Closed, Connected, ConnectFailed, HookFailed, Leaked, Reason, Recovered, Statistics, Unavailable
from .gate import Gate
from .hooks import Hooks
from .report import Report
from .settings import Settings
from .shelf import CLOSING, CONNECTING, IDLE, IN_USE, SERVICED, Entry, Shelf

__all__ = ["Budget", "Supply"]

T = TypeVar("T")

TICK = 0.001  # seconds: the keeper never sleeps for less, lest rounding keep it busy
DROPPED = 1.0  # seconds between two looks for stand-ins that were dropped


class Budget(Protocol):
    """A limit on resources that several pools share."""

    def claim(self, supply: Supply[Any], /) -> bool:
        """Count one more resource; if there is no room, False, and ``supply.grow`` is called when there is."""
        ...

    def release(self, supply: Supply[Any], /) -> None:
        """Count one resource less."""
        ...


class Supply(Generic[T]):
    """Connects, serves and closes the entries of a shelf."""

    def __init__(self, factory: Callable[[], AbstractAsyncContextManager[T]], settings: Settings[T]) -> None:
        self.settings: Settings[T] = settings
        self.clock: Callable[[], float] = settings.clock
        self.shelf: Shelf[T] = Shelf(settings, _wake)
        self.report: Report = Report(settings)
        self.hooks: Hooks[T] = Hooks(settings, self.shelf, self.report)
        self.gate: Gate = Gate(
            attempts=settings.connect_attempts,
            backoff=settings.backoff,
            max_backoff=settings.max_backoff,
            random=settings.random,
        )
        self.budget: Budget | None = None
        self.ready: Callable[[T], Awaitable[T]]
        self.is_open: bool = False
        self.dropped: deque[tuple[Entry[T], int]] = deque()
        """Stand-ins that were garbage before they were returned; a note each, with the number of the use."""
        self.changed: anyio.Event
        self._factory = factory
        self._entries: dict[int, Entry[T]] = {}
        self._tasks: TaskGroup
        self._empty: anyio.Event
        self._keeper: anyio.CancelScope

    def open(self, tasks: TaskGroup) -> None:
        """Begin to connect, with all work done in *tasks*."""
        self._tasks = tasks
        self.changed, self._empty = anyio.Event(), anyio.Event()
        self._keeper = anyio.CancelScope()
        self.is_open = True
        tasks.start_soon(self._keep, name=f"{self.settings.name} keeper")

    async def close(self, drain_timeout: float) -> None:
        """Wait for what is out, then close everything; the last under a shield."""
        self.is_open = False
        for entry in list(self.shelf.entries):
            self.shelf.condemn(entry, "closing")
            if entry.state is CONNECTING:
                self.shelf.retire(entry, "closing")
        self._settle()
        try:
            with anyio.move_on_after(drain_timeout):
                await self._empty.wait()
        finally:
            for entry in list(self.shelf.entries):
                self.shelf.retire(entry, "closing")
            self._keeper.cancel()
            with anyio.CancelScope(shield=True):
                await self._empty.wait()

    def refresh(self) -> None:
        """Replace every resource: idle ones now, the others when they come back."""
        for entry in list(self.shelf.entries):
            self.shelf.condemn(entry, "refresh")

    def statistics(self) -> Statistics:
        """Return the figures of this moment."""
        return self.report.statistics(self.shelf, self.gate)

    def unavailable(self) -> PoolUnavailable | None:
        """The refusal of who would wait for nothing, if it is so."""
        if not self.gate.is_shut or self.shelf.alive:
            return None
        message = f"{self.settings.name} cannot connect: {self.gate.failures} failures in a row"
        error = PoolUnavailable(message, retry_after=max(self.gate.retry_at - self.clock(), 0.0))
        error.__cause__ = self.gate.error
        return error

    def entry_of(self, resource: object) -> Entry[T] | None:
        """Find the entry of a resource, or of the stand-in that is lent for it."""
        if not self.settings.debug:
            return self._entries.get(id(resource))
        lent = (entry for entry in self.shelf.entries if entry.stand_in and entry.stand_in() is resource)
        return next(lent, None)

    def refuse_known(self, resource: T) -> None:
        """Raise PoolMisuse for a resource that is in the pool already."""
        if id(resource) in self._entries:
            raise PoolMisuse(f"connect returned {resource!r}, which {self.settings.name} has already")

    def grow(self) -> None:
        """Start the connects that are wanted and allowed."""
        if not self.is_open:
            return
        now, shelf = self.clock(), self.shelf
        probes = int(self.gate.is_shut and not shelf.alive)
        for _ in range(self.gate.allowed(shelf.wanted(probes), shelf.connecting, now)):
            if self.budget is not None and not self.budget.claim(self):
                return
            entry = shelf.add(now)
            entry.wake = anyio.Event()
            self._tasks.start_soon(self._own, entry, name=f"{self.settings.name} owner")

    async def _own(self, entry: Entry[T]) -> None:
        error: BaseException | None = None
        try:
            with anyio.CancelScope(shield=True) as entry.scope:
                entry.scope.deadline = anyio.current_time() + self.settings.connect_timeout
                if entry.state is CONNECTING:
                    await self._live(entry)
            if entry.scope.cancelled_caught:
                error = TimeoutError(f"took longer than {self._limit_of(entry)} s")
        except (Exception, asyncio.CancelledError) as caught:  # noqa: BLE001  # it goes to those who wait, and on_event
            # A CancelledError that no scope of ours caused comes from the resource; let out, it would end the pool.
            error = caught
        finally:
            self._ended(entry, error)

    async def _live(self, entry: Entry[T]) -> None:
        began = self.clock()
        async with self._factory() as resource:
            self._connected(entry, resource, began)
            await self._serve(entry)
            entry.scope.deadline = anyio.current_time() + self.settings.close_timeout

    def _connected(self, entry: Entry[T], resource: T, began: float) -> None:
        self.refuse_known(resource)
        settings, now = self.settings, self.clock()
        entry.scope.deadline = math.inf
        entry.resource = resource
        entry.ready = self.ready(resource)
        entry.connected = True
        entry.born_at = now
        entry.retire_at = min(entry.retire_at, now + settings.max_lifetime * (1 - settings.jitter * settings.random()))
        self._entries[id(resource)] = entry
        self.report.connects += 1
        self.report.connect_seconds += now - began
        failures = self.gate.succeeded()
        if entry.state is CONNECTING:
            self.shelf.arrive(entry, now)
        self.poke()
        self.report.tell(Connected(settings.name, now - began))
        if failures:
            self.report.tell(Recovered(settings.name, failures))

    async def _serve(self, entry: Entry[T]) -> None:
        """Do what the pool asks for, until it asks to close."""
        while entry.state is not CLOSING:
            await entry.wake.wait()
            entry.wake = anyio.Event()
            if entry.state is SERVICED:
                if await self.hooks.passes(entry, entry.chore):
                    entry.checked_at = self.clock()
                    self.shelf.serviced_well(entry, self.clock())
                self.poke()

    def _ended(self, entry: Entry[T], error: BaseException | None) -> None:
        state, now, settings = entry.state, self.clock(), self.settings
        self.shelf.remove(entry)
        if entry.connected:
            del self._entries[id(entry.resource)]
            reason: Reason = entry.reason if state is CLOSING else "died"
            self.shelf.closed[reason] += 1
            if error is not None:
                self.report.tell(HookFailed(settings.name, "close", error))
            self.report.tell(Closed(settings.name, reason, now - entry.born_at, entry.uses))
        elif state is CONNECTING:
            self.failed(error or PoolUnavailable("connecting was cancelled from inside", retry_after=0.0))
        if self.budget is not None:
            self.budget.release(self)
        self._settle()
        self.poke()

    def failed(self, error: BaseException) -> None:
        """Count a connect that failed, or was of no use."""
        was_shut = self.gate.is_shut
        delay = self.gate.failed(error, self.clock())
        self.report.connect_failures += 1
        self.report.tell(ConnectFailed(self.settings.name, error, self.gate.failures, delay))
        if self.gate.is_shut and not was_shut:
            self.report.tell(Unavailable(self.settings.name, error))

    def _settle(self) -> None:
        """Draw the consequences of a resource that is gone."""
        self.report.refusals += self.shelf.dismiss(self.unavailable)
        self.grow()
        if not self.is_open and not self.shelf.entries:
            self._empty.set()

    def _limit_of(self, entry: Entry[T]) -> float:
        return self.settings.close_timeout if entry.connected else self.settings.connect_timeout

    def poke(self) -> None:
        """Let the keeper look again, because something may be due earlier than it thought."""
        self.changed.set()

    async def _keep(self) -> None:
        with self._keeper:
            while True:
                if self.changed.is_set():
                    self.changed = anyio.Event()
                self.reclaim()
                self.grow()
                delay = self._do_what_is_due()
                with anyio.move_on_after(max(delay, TICK)):
                    await self.changed.wait()

    def _do_what_is_due(self) -> float:
        """Do it, and return the seconds until something else is, at the earliest."""
        now, settings = self.clock(), self.settings
        following = min(settings.idle_timeout, settings.check_interval, settings.leak_after)
        if settings.debug:
            following = min(following, DROPPED)
        if not self.shelf.entries:
            following = math.inf
        for due, duty in list(self._duties()):
            if due > now:
                following = min(following, due - now)
            else:
                duty()
        return following

    def _duties(self) -> Iterator[tuple[float, Callable[[], object]]]:
        settings, shelf = self.settings, self.shelf
        oldest_first = sorted(shelf.idle, key=lambda entry: entry.used_at)
        for entry in oldest_first[: max(shelf.alive - shelf.min_size, 0)]:
            yield entry.used_at + settings.idle_timeout, partial(shelf.retire, entry, "idle")
        for entry in shelf.entries:
            yield entry.retire_at, partial(self._expire, entry)  # one that is in use now may be idle by then
            if entry.state is IDLE and settings.check and not shelf.serviced:
                checked_at = max(entry.used_at, entry.checked_at)
                yield checked_at + settings.check_interval, partial(self._check_idle, entry)
            if entry.state is IN_USE and entry.borrower is not None and not entry.borrower.reported:
                yield entry.taken_at + settings.leak_after, partial(self._leaked, entry, reclaimed=False)
        if self.gate.failures:  # also when it is over: it may be so only since ``grow`` was called, a moment ago
            yield self.gate.retry_at, self.grow

    def _expire(self, entry: Entry[T]) -> None:
        if entry.state is IDLE:
            self.shelf.retire(entry, entry.reason)

    def _check_idle(self, entry: Entry[T]) -> None:
        # One at a time: the pool must not be empty because all of it is being checked.
        if entry.state is IDLE and not self.shelf.serviced:
            self.shelf.service(entry)

    def reclaim(self) -> None:
        """Take back what was dropped without being returned."""
        while self.dropped:
            entry, uses = self.dropped.popleft()
            if entry.state is not IN_USE or entry.uses != uses:
                continue
            self._leaked(entry, reclaimed=True)
            entry.stand_in = None
            if self.settings.reset:
                self.shelf.service(entry)
            else:
                self.shelf.retire(entry, "leaked")

    def _leaked(self, entry: Entry[T], *, reclaimed: bool) -> None:
        borrower = entry.borrower
        borrower.reported = True
        self.report.leaks += 1
        seconds = self.clock() - entry.taken_at
        self.report.tell(Leaked(self.settings.name, seconds, borrower.task, borrower.stack, reclaimed))


def _wake(entry: Entry[Any]) -> None:
    entry.wake.set()
    if entry.state is CLOSING and not entry.connected and entry.scope is not None:
        entry.scope.cancel()
