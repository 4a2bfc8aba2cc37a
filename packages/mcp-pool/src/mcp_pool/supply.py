"""The tasks behind a pool: one that owns each resource, and one that keeps the time (``keeper``).

A resource is connected, served and closed by one task, its owner, from the first line of its context manager to the
last: what the resource entered (a task group, a cancel scope) must be left where it was entered. The owner is shielded,
so that no caller's cancellation and no end of the program interrupts it; it ends when it is told to, or by its own time
limits, or because the resource dies in its hands.

A caller runs in its own task only what it would run itself: checks on the way out, unless it is in a hurry
(``checks``), resets on the way back. When it is cancelled in the middle of one, the resource is closed; when its block
was, the owner does the reset.

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
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, Protocol, TypeVar

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from .entry import CLOSING, CONNECTING, SERVICED, Entry
from .errors import PoolMisuse, PoolUnavailable
from .events import Closed, Connected, ConnectFailed, HookFailed, Recovered, Statistics, Unavailable
from .gate import Gate
from .hooks import Hook
from .keeper import Keeper
from .report import Report
from .settings import Settings
from .shelf import Shelf

__all__ = ["Budget", "Supply"]

T = TypeVar("T")


class Budget(Protocol):
    """A limit on resources that several pools share."""

    def claim(self, supply: Supply[Any], /) -> bool:
        """Count one more resource; if there is no room, False, and ``supply.grow(now)`` is called when there is."""
        ...

    def release(self, supply: Supply[Any], now: float, /) -> None:
        """Count one resource less, at the time *now*."""
        ...


class Supply(Generic[T]):
    """Connects, serves and closes the entries of a shelf; ``opening(supply)`` is the life of one resource."""

    def __init__(self, opening: Callable[[Supply[T]], AbstractAsyncContextManager[T]], settings: Settings[T]) -> None:
        self.settings: Settings[T] = settings
        self.shelf: Shelf[T] = Shelf(settings, _wake)
        self.report: Report = Report(settings)
        self.check: Hook[T] = Hook("check", settings.check, settings.check_timeout, self.shelf, self.report)
        self.reset: Hook[T] = Hook("reset", settings.reset, settings.reset_timeout, self.shelf, self.report)
        self.gate: Gate = Gate(
            attempts=settings.connect_attempts,
            backoff=settings.backoff,
            max_backoff=settings.max_backoff,
            random=settings.random,
        )
        self.keeper: Keeper[T] = Keeper(settings, self.shelf, self.gate, self.report, self.grow)
        self.budget: Budget | None = None
        self.ready: Callable[[T], Awaitable[T]]
        self.was_opened: bool = False
        self.is_open: bool = False
        self._opening = opening
        self._clock = settings.clock
        self._entries: dict[int, Entry[T]] = {}
        self._tasks: TaskGroup
        self._empty: anyio.Event

    def open(self, tasks: TaskGroup) -> None:
        """Begin to connect, with all work done in *tasks*."""
        self._tasks = tasks
        self._empty = anyio.Event()
        self.keeper.open()
        self.was_opened = self.is_open = True
        tasks.start_soon(self.keeper.run, name=f"{self.settings.name} keeper")

    async def close(self, drain_timeout: float) -> None:
        """Wait for what is out, then close everything; the last under a shield."""
        self.is_open = False
        self.keeper.poke()
        for entry in list(self.shelf.entries):
            self.shelf.condemn(entry, "closing")
            if entry.state is CONNECTING:
                self.shelf.retire(entry, "closing")
        self._settle(self._clock())
        try:
            with anyio.move_on_after(drain_timeout):
                await self._empty.wait()
        finally:
            for entry in list(self.shelf.entries):
                self.shelf.retire(entry, "closing")
            self.keeper.stop()
            with anyio.CancelScope(shield=True):
                await self._empty.wait()

    def refresh(self) -> None:
        """Replace every resource: idle ones now, the others when they come back."""
        for entry in list(self.shelf.entries):
            self.shelf.condemn(entry, "refresh")

    def statistics(self) -> Statistics:
        """Return the figures of this moment."""
        return self.report.statistics(self.shelf, self.gate)

    def unavailable(self, now: float) -> PoolUnavailable | None:
        """The refusal of who would wait for nothing, if it is so."""
        if not self.gate.is_shut or self.shelf.alive:
            return None
        message = f"{self.settings.name} cannot connect: {self.gate.failures} failures in a row"
        error = PoolUnavailable(message, retry_after=max(self.gate.retry_at - now, 0.0))
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

    def grow(self, now: float) -> None:
        """Start the connects that are wanted and allowed."""
        shelf = self.shelf
        if not self.is_open or len(shelf.entries) >= shelf.max_size:
            return
        probes = int(self.gate.is_shut and not shelf.alive)
        for _ in range(self.gate.allowed(shelf.wanted(probes), shelf.connecting, now)):
            if self.budget is not None and not self.budget.claim(self):
                return
            entry = shelf.add()
            entry.wake = anyio.Event()
            self._tasks.start_soon(self._own, entry, name=f"{self.settings.name} owner")

    async def _own(self, entry: Entry[T]) -> None:
        error: BaseException | None = None
        try:
            with anyio.CancelScope(shield=True) as scope:
                scope.deadline = anyio.current_time() + self.settings.connect_timeout
                entry.interrupt = scope.cancel
                if entry.state is CONNECTING:
                    await self._live(entry, scope)
            if scope.cancelled_caught:
                limit = self.settings.close_timeout if entry.connected else self.settings.connect_timeout
                error = TimeoutError(f"took longer than {limit} s")
        except (Exception, asyncio.CancelledError) as caught:  # noqa: BLE001  # it goes to those who wait, and on_event
            # A CancelledError that no scope of ours caused comes from the resource; let out, it would end the pool.
            error = caught
        finally:
            self._ended(entry, error)

    async def _live(self, entry: Entry[T], scope: anyio.CancelScope) -> None:
        began = self._clock()
        async with self._opening(self) as resource:
            await anyio.lowlevel.checkpoint_if_cancelled()  # one that came too late, under a shield of its own, goes
            self.refuse_known(resource)
            scope.deadline, entry.interrupt = math.inf, bool
            try:
                self._connected(entry, resource, began)
                await self._serve(entry)
            finally:
                self.shelf.retire(entry, "died")  # unless it was told to go
                scope.deadline = anyio.current_time() + self.settings.close_timeout

    def _connected(self, entry: Entry[T], resource: T, began: float) -> None:
        settings, now = self.settings, self._clock()
        entry.resource = resource
        entry.ready = self.ready(resource)
        entry.connected = True
        entry.born_at = now
        entry.retire_at = min(entry.retire_at, now + settings.max_lifetime * (1 - settings.jitter * settings.random()))
        self._entries[id(resource)] = entry
        self.report.connects += 1
        self.report.connect_seconds += now - began
        failures = self.gate.succeeded()
        self.shelf.arrive(entry, now)
        self.keeper.poke()
        self.report.tell(Connected(settings.name, now - began))
        if failures:
            self.report.tell(Recovered(settings.name, failures))

    async def _serve(self, entry: Entry[T]) -> None:
        """Do what the pool asks for, until it asks to close."""
        while entry.state is not CLOSING:
            await entry.wake.wait()
            entry.wake = anyio.Event()
            if entry.state is SERVICED:
                await self._do_chore(entry)
                self.keeper.poke()

    async def _do_chore(self, entry: Entry[T]) -> None:
        hook = self.reset if entry.is_dirty else self.check
        with anyio.CancelScope() as scope:
            entry.interrupt = scope.cancel
            try:
                passed = await hook.passes(entry)
            finally:
                entry.interrupt = bool
            if passed:
                entry.checked_at = now = self._clock()
                self.shelf.serviced_well(entry, now)

    def _ended(self, entry: Entry[T], error: BaseException | None) -> None:
        state, now, settings = entry.state, self._clock(), self.settings
        self.shelf.remove(entry)
        if entry.connected:
            del self._entries[id(entry.resource)]
            self.shelf.closed[entry.reason] += 1
            if error is not None:
                self.report.tell(HookFailed(settings.name, "close", error))
            self.report.tell(Closed(settings.name, entry.reason, now - entry.born_at, entry.uses))
        elif state is CONNECTING:
            self.failed(
                error or PoolUnavailable("its context manager hides why connecting failed", retry_after=0.0),
                now,
            )
        if self.budget is not None:
            self.budget.release(self, now)
        self._settle(now)
        self.keeper.poke()

    def failed(self, error: BaseException, now: float) -> None:
        """Count a connect that failed, or was of no use."""
        was_shut = self.gate.is_shut
        delay = self.gate.failed(error, now)
        self.report.connect_failures += 1
        self.report.tell(ConnectFailed(self.settings.name, error, self.gate.failures, delay))
        if self.gate.is_shut and not was_shut:
            self.report.tell(Unavailable(self.settings.name, error))

    def _settle(self, now: float) -> None:
        """Draw the consequences of a resource that is gone."""
        self.report.refusals += self.shelf.dismiss(lambda: self.unavailable(now))
        self.grow(now)
        if not self.is_open and not self.shelf.entries:
            self._empty.set()


def _wake(entry: Entry[Any]) -> None:
    entry.wake.set()
    if entry.state is CLOSING:
        entry.interrupt()
