"""One decision over several limits: read all, decide, then charge all or none.

A store answers without waiting, so nothing comes between; one that is shared by processes locks what is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from ._algorithms import Algorithm
from .decision import Decision
from .limit import Limit

__all__ = ["MARGIN", "ROUND", "KeysExhausted", "Store", "Table", "decide"]

ROUND = 1.5 * 2**52
"""Added and taken away again, this rounds a float below 2**51 to a whole number, faster than any function could."""
MARGIN = 0.25
"""Ticks added to a delay, so that rounding the time of its end cannot make it come too early."""


class KeysExhausted(Exception):  # noqa: N818  # never leaves the package: ``decide`` makes a refusal of it
    """A table takes no further key for *retry_after* seconds."""

    def __init__(self, retry_after: float) -> None:
        self.retry_after = retry_after


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

    @property
    def mark(self) -> str: ...
    def table(self, limit: Limit) -> Table: ...
    def quickly(self, tables: Sequence[Any]) -> Callable[[Any], bool] | None: ...
    def locked(self, tables: Sequence[Any], keys: tuple[str, ...]) -> AbstractContextManager[Sequence[Table]]:
        """Hold what a decision about *keys* reads; gives the tables to decide by, stand-ins for what cannot be held."""
        ...


def decide(
    store: Store, tables: Sequence[Table], keys: tuple[str, ...], cost: int, ahead: Mapping[int, int], *, charge: bool
) -> Decision:
    """Decide about *cost* under each of *keys*, after the cost that waits *ahead* in the lines of some tables."""
    with store.locked(tables, keys) as held:
        rows = [_Row(held[i], keys[i], cost, ahead.get(i, 0)) for i in range(len(held))]
        violated = [row.table.limit.name for row in rows if row.wait > 0]
        if charge and cost and not violated:
            for row in rows:
                row.charge()
    tightest = rows[0]
    if len(rows) > 1:
        tightest = max(rows, key=_Row.delay) if violated else min(rows, key=_Row.remaining)
    return Decision(
        not violated,
        tightest.table.limit,
        tightest.remaining(),
        tightest.delay(),
        tightest.reset_after(),
        tuple(violated),
    )


class _Row:
    """One limit of a decision in the making."""

    __slots__ = ("algorithm", "cost", "is_full", "key", "now", "state", "table", "wait")

    def __init__(self, table: Table, key: str, cost: int, ahead: int) -> None:
        self.table = table
        self.algorithm = algorithm = table.algorithm
        self.cost = cost = min(cost, algorithm.capacity)  # a cost over a share that stands in takes all of it
        self.now = table.now()
        self.is_full = False
        try:
            self.key = table.place(key)
        except KeysExhausted as full:
            self.key, self.state, self.is_full = key, None, True
            self.wait = full.retry_after * algorithm.hz if cost else 0.0
            return
        self.state = table.read(self.key)
        if ahead:
            self.wait = max(1.0, algorithm.queued(self.state, self.now, ahead + cost))
        else:
            self.wait = algorithm.wait(self.state, self.now, cost)

    def charge(self) -> None:
        self.state = self.algorithm.charge(self.state, self.now, self.cost)
        self.table.write(self.key, self.state)

    def delay(self) -> float:
        return (self.wait + MARGIN) / self.algorithm.hz if self.wait > 0 else 0.0

    def remaining(self) -> int:
        return (
            0
            if self.is_full
            else max(0, math.floor(self.algorithm.capacity - self.algorithm.used(self.state, self.now)))
        )

    def reset_after(self) -> float:
        return self.algorithm.reset_after(self.state, self.now) / self.algorithm.hz
