"""Let through what the limits allow, refuse or delay the rest.

    limiter = RateLimiter("100/min burst 20", "2000/day")
    limiter.check("alice")  ── all limits say yes ──▶ charge them all ──▶ Decision(allowed=True, …)
                            └─ one says no ─────────▶ charge none ──────▶ Decision(allowed=False, retry_after=…, …)

A decision reads, decides and writes without an await in between, so it needs no lock in one process.
``algorithms`` does the counting, a store keeps the states, ``lines`` orders those who wait.

Invariants, each a property in ``tests/ratelimit``:

1. A decision equals that of exact rational arithmetic at the time that was read, and each limit keeps its bound.
2. Either all limits are charged or none; a refusal, a peek and an error change nothing.
3. After ``retry_after`` seconds the same request passes; two millionths of a second before, it does not.
4. Who waits is served in order of arrival (see ``lines``); ``try_acquire`` and ``check`` do not pass them by.
5. A changed limit keeps what each key has used, in units.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from .algorithms import Algorithm
from .decision import (
    CostTooLarge,
    Decision,
    Key,
    LimiterStatistics,
    RateLimited,
    Refusal,
    checked_cost,
    checked_key,
    checked_timeout,
)
from .limit import Limit, parse_limits
from .lines import Lines
from .memory import KeysExhausted, MemoryStore
from .slots import Acquiring

__all__ = ["RateLimiter", "Store", "Table"]

MARGIN = 0.25
"""Ticks added to a delay, so that rounding the time of its end cannot make it come too early."""


class Table(Protocol):
    """The states of the keys of one limit."""

    @property
    def limit(self) -> Limit: ...
    @property
    def algorithm(self) -> Algorithm: ...

    def __len__(self) -> int: ...
    def now(self) -> float: ...
    def place(self, key: str) -> str: ...
    def read(self, key: str) -> Any: ...
    def write(self, key: str, state: Any) -> None: ...
    def change(self, limit: Limit) -> None: ...


class Store(Protocol):
    """Where states are kept that can be read without waiting: this process, or this host."""

    def table(self, limit: Limit) -> Table: ...
    def locked(self, tables: Sequence[Any], keys: tuple[str, ...]) -> AbstractContextManager[object]: ...


class RateLimiter(Acquiring):
    """Limits on what passes for each key, decided together.

    A key is a string, or a tuple of one string for each limit: ``limiter.check(("alice", "alice/search"))``.
    Two limiters with the same store share the state of limits that have the same name.

    Args:
        limits: ``Limit`` objects, or strings such as ``"100/min burst 20"``, also several in one: ``"10/s; 1000/h"``.
        store: Where the states are kept; by default in a ``MemoryStore`` of its own.
        max_waiters: How many calls of ``acquire`` may wait at once; None for any number.
        on_event: Called with a ``Refusal`` whenever a request is refused, at once or after waiting.
    """

    def __init__(
        self,
        *limits: Limit | str,
        store: Store | None = None,
        max_waiters: int | None = 1000,
        on_event: Callable[[Refusal], None] | None = None,
    ) -> None:
        parsed = parse_limits(*limits)
        if max_waiters is not None and (isinstance(max_waiters, bool) or not isinstance(max_waiters, int)):
            raise TypeError(f"RateLimiter needs max_waiters to be a whole number or None, got {max_waiters!r}")
        if max_waiters is not None and max_waiters < 0:
            raise ValueError(f"RateLimiter needs max_waiters >= 0 or None, got {max_waiters!r}")
        if store is not None and (isinstance(store, type) or not hasattr(store, "table")):
            raise TypeError(f"RateLimiter needs a store such as MemoryStore(), got {store!r}")
        if on_event is not None and not callable(on_event):
            raise TypeError(f"RateLimiter needs on_event to be a function of the event, got {on_event!r}")
        self._store: Store = MemoryStore() if store is None else store
        self._tables = [self._store.table(limit) for limit in parsed]
        self._lines = Lines(max_waiters)
        self._on_event = on_event

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits, as they are now."""
        return tuple(table.limit for table in self._tables)

    def try_acquire(self, key: Key, cost: int = 1) -> bool:
        """Charge *cost* if it may pass now, and say whether it did; the fastest way to ask."""
        return self.check(key, cost).allowed

    def check(self, key: Key, cost: int = 1) -> Decision:
        """Charge *cost* if it may pass now, and tell all about it; a cost of 0 is a peek at a cost of 1.

        Raises CostTooLarge if *cost* can never pass, TypeError or ValueError for what is no cost or no key.
        """
        keys = self._checked(key, cost)
        decision = self._decide(keys, cost, charge=cost > 0)
        if not decision.allowed and self._on_event is not None:
            self._on_event(Refusal(key, cost, decision))
        return decision

    def peek(self, key: Key, cost: int = 1) -> Decision:
        """Tell whether *cost* would pass now; charges nothing."""
        return self._decide(self._checked(key, cost), cost, charge=False)

    def take_up_to(self, key: Key, most: int) -> int:
        """Charge as much as may pass now, at most *most*, and return how much it was."""
        keys = self._checked(key, 0)
        checked_cost(most)
        room = 0 if self._lines.ahead(self._names(keys)) else self._decide(keys, 0, charge=False).remaining
        cost = min(most, room)
        return cost if cost and self._decide(keys, cost, charge=True).allowed else 0

    def refund(self, key: Key, cost: int = 1) -> None:
        """Give back *cost* that was charged under *key*; what has been forgotten by now cannot be given back."""
        for table, name in zip(self._tables, self._checked(key, 0), strict=True):
            with self._store.locked([table], (name,)):
                state = table.read(name)
                if state is not None:
                    table.write(name, table.algorithm.refund(state, table.now(), checked_cost(cost)))
        self._lines.wake()

    def reset(self, key: Key) -> None:
        """Forget everything charged under *key*."""
        for table, name in zip(self._tables, self._checked(key, 0), strict=True):
            with self._store.locked([table], (name,)):
                table.read(name)
                table.write(name, None)
        self._lines.wake()

    def set_limit(self, limit: Limit | str, *, name: str | None = None) -> None:
        """Change the figures of the limit called *name* (of the only one, by default); every key keeps what it has used.

        The limit keeps its name and its algorithm. Raises ValueError for an unknown name or another algorithm.
        """
        (changed,) = parse_limits(limit)
        names = [table.limit.name for table in self._tables]
        if name is None and len(names) > 1 or name is not None and name not in names:
            raise ValueError(f"set_limit needs name to be one of {names!r}, got {name!r}")
        table = self._tables[0 if name is None else names.index(name)]
        if changed.algorithm != table.limit.algorithm:
            raise ValueError(
                f"set_limit needs algorithm={table.limit.algorithm!r} as before, got {changed.algorithm!r}"
            )
        table.change(changed.renamed(table.limit.name))
        self._lines.wake()

    async def acquire(self, key: Key, cost: int = 1, *, timeout: float | None = None) -> Decision:
        """Wait until *cost* may pass, charge it, and return the decision; first come, first served.

        Returns without giving other tasks a turn if it may pass at once.  Raises RateLimited as soon as it is clear
        that it cannot pass within *timeout* seconds, or if too many wait; CostTooLarge if it can never pass.
        """
        keys = self._checked(key, cost)
        patience = checked_timeout(timeout)
        names = self._names(keys)
        decision = self._decide(keys, cost, charge=True)
        if decision.allowed:
            return decision

        async def attempt() -> Decision:
            return self._decide(keys, cost, charge=True, first=True)

        try:
            if decision.retry_after > patience:
                raise RateLimited(decision)
            return await self._lines.wait(names, cost, patience, decision, attempt)
        except RateLimited as refusal:
            if self._on_event is not None:
                self._on_event(Refusal(key, cost, refusal.decision))
            raise

    def statistics(self) -> LimiterStatistics:
        """Return what the limiter holds now."""
        return LimiterStatistics(keys=max(map(len, self._tables)), waiting=self._lines.waiting)

    async def _give_back(self, key: Key, cost: int) -> None:
        self.refund(key, cost)

    def _checked(self, key: Key, cost: int) -> tuple[str, ...]:
        checked_cost(cost)
        for table in self._tables:
            if cost > table.algorithm.capacity:
                raise CostTooLarge(cost, table.limit)
        return checked_key(key, self._tables)

    def _names(self, keys: tuple[str, ...]) -> list[tuple[str, str]]:
        return [(table.limit.name, key) for table, key in zip(self._tables, keys, strict=True)]

    def _decide(self, keys: tuple[str, ...], cost: int, *, charge: bool, first: bool = False) -> Decision:
        """Decide as if after all who wait, or, for who is *first* in line, before them."""
        waiting = self._lines.ahead(self._names(keys)) if self._lines.waiting and cost and not first else {}
        with self._store.locked(self._tables, keys):
            rows = [
                _Row(table, key, cost, waiting.get((table.limit.name, key), 0))
                for table, key in zip(self._tables, keys, strict=True)
            ]
            violated = tuple(row.table.limit.name for row in rows if row.wait > 0)
            if charge and not violated:
                for row in rows:
                    row.charge(cost)
        tightest = max(rows, key=_Row.delay) if violated else min(rows, key=_Row.remaining)
        return Decision(
            not violated,
            tightest.table.limit,
            tightest.remaining(),
            tightest.delay(),
            tightest.reset_after(),
            violated,
        )


class _Row:
    """One limit of a decision in the making."""

    __slots__ = ("algorithm", "key", "now", "state", "table", "wait")

    def __init__(self, table: Table, key: str, cost: int, ahead: int) -> None:
        self.table = table
        self.algorithm = algorithm = table.algorithm
        self.now = table.now()
        try:
            self.key = table.place(key)
        except KeysExhausted as full:
            self.key, self.state, self.wait = key, None, full.retry_after * algorithm.hz
            return
        self.state = table.read(self.key)
        wait = algorithm.wait(self.state, self.now, cost)
        self.wait = max(wait, 1.0, algorithm.queued(self.state, self.now, ahead + cost)) if ahead else wait

    def charge(self, cost: int) -> None:
        self.state = self.algorithm.charge(self.state, self.now, cost)
        self.table.write(self.key, self.state)

    def delay(self) -> float:
        return (self.wait + MARGIN) / self.algorithm.hz if self.wait > 0 else 0.0

    def remaining(self) -> int:
        return max(0, math.floor(self.algorithm.capacity - self.algorithm.used(self.state, self.now)))

    def reset_after(self) -> float:
        return self.algorithm.reset_after(self.state, self.now) / self.algorithm.hz
