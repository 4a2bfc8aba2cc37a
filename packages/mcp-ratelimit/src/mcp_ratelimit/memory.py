"""Keep the state of every key in this process, and forget it exactly when it no longer matters.

    write ──▶ newest generation ──(a lifetime old, or full)──▶ closed ──(a lifetime later)──▶ dropped, shard by shard
    read  ──▶ newest generation, else moved there from the closed ones

A state is as good as none one lifetime after it was last written (rule 4 of ``_algorithms``), so dropping a whole
generation that was closed so long ago changes no decision.  Rejected: LRU, which forgets debts and so lifts the limit
of whoever touches enough other keys; a sweep, which stalls the loop; a timer, which is a task to leak.

A generation is split into dicts of a few thousand keys, so that neither growing nor freeing one takes a millisecond.
One that outgrows its dicts is closed early, and the next has 64 times as many.

1. No decision depends on what was forgotten.
2. At most *max_keys* keys of a limit are held, and what the rest share; a key in debt never makes place for another.
3. A clock that steps back stands still until it has caught up.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Literal

from ._algorithms import Algorithm, Gcra, algorithm_for
from ._core import ROUND, KeysExhausted
from ._quick import quickly
from .limit import Limit, whole

__all__ = ["MemoryStore", "MemoryTable"]

SHARD = 8192
"""Keys in one dict, about: at this size it grows in 0.2 ms and is freed in 0.5 ms."""
MAX_SHARDS = 4096
GROWTH = 64


class MemoryStore:
    """The default store: this process's memory.

    Limits of the same name share their state, also between limiters that are given the same store.

    Args:
        max_keys: How many keys of one limit are held, at about 60 bytes each besides the key itself.
        on_full: What becomes of a new key then: ``"overflow"`` lets all new keys share one allowance, ``"deny"``
            refuses them until there is room again.
        clock: Seconds that never step back.
        wall_clock: Seconds since 1970, for ``fixed_window``.
    """

    def __init__(
        self,
        *,
        max_keys: int = 1_000_000,
        on_full: Literal["overflow", "deny"] = "overflow",
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        whole("MemoryStore", "max_keys", max_keys)
        if on_full not in ("overflow", "deny"):
            raise ValueError(f"MemoryStore needs on_full to be 'overflow' or 'deny', got {on_full!r}")
        for name, function in (("clock", clock), ("wall_clock", wall_clock)):
            if not callable(function):
                raise TypeError(f"MemoryStore needs {name} to be a function that returns seconds, got {function!r}")
        self._max_keys = max_keys
        self._on_full = on_full
        self._clock = clock
        self._wall_clock = wall_clock
        self._tables: dict[str, MemoryTable] = {}
        self.mark: str = f"~{token_hex(8)}"  # secret, since a caller who knew it could name another's hash

    def table(self, limit: Limit) -> MemoryTable:
        """Return the states of all keys under *limit*; ValueError if another limit has its name."""
        table = self._tables.get(limit.name)
        if table is None:
            clock = self._wall_clock if limit.algorithm == "fixed_window" else self._clock
            overflow = None if self._on_full == "deny" else self.mark + "overflow"
            table = self._tables[limit.name] = MemoryTable(limit, clock, self._max_keys, overflow)
        if table.limit != limit:
            raise ValueError(
                f"this store has another limit named {limit.name!r}, {table.limit!r}; give one of them a name"
            )
        return table

    def quickly(self, tables: Sequence[Any]) -> Callable[[Any], bool] | None:
        """Return the short way to charge one unit, where there is one; it may say no to what passes by the long way."""
        return quickly(tables) if all(isinstance(table.algorithm, Gcra) for table in tables) else None

    def locked(self, tables: Sequence[MemoryTable], keys: tuple[str, ...]) -> nullcontext[Sequence[MemoryTable]]:  # noqa: ARG002  # as the protocol has it
        """One process, one thread, and no await in a decision: there is nothing to lock."""
        return nullcontext(tables)


@dataclass(slots=True)
class _Generation:
    """States written in one span of time; *until*, in ticks, is when they have lost their meaning."""

    shards: list[dict[str, Any]]
    until: float = math.inf
    changes: tuple[Callable[[Any], Any], ...] = ()

    def pop(self, key: str) -> Any:
        """Take out the state of *key*, told by today's limit."""
        state = self.shards[hash(key) & (len(self.shards) - 1)].pop(key, None)
        for change in self.changes if state is not None else ():
            state = change(state)
        return state


class MemoryTable:
    """The states of the keys of one limit."""

    last: float
    due: float
    hz: float
    mask: int

    def __init__(self, limit: Limit, clock: Callable[[], float], max_keys: int, overflow: str | None) -> None:
        self._adopt(limit)
        self.clock = clock
        self._max_keys = max_keys
        self._overflow = overflow
        self._closed: list[_Generation] = []
        self._dying: list[dict[str, Any]] = []
        self._held = 0
        self.last = -math.inf
        self._open(1)

    def __len__(self) -> int:
        return self._held

    def now(self) -> float:
        """Read the clock, in ticks of the algorithm."""
        now = self.clock() * self.algorithm.hz + ROUND - ROUND
        if self.last <= now < self.due:
            self.last = now
            return now
        return self.advanced(now)

    def advanced(self, now: float) -> float:
        """Return *now*, or the time before if the clock has stepped back; forget what has lost its meaning."""
        before = self.last
        now = self.last = max(now, before)
        if self._dying:
            self._dying.pop()
        if now >= self._opened + self.algorithm.lifetime:
            self._close(before)
        while self._closed and now >= self._closed[0].until:
            gone = self._closed.pop(0).shards
            self._held -= sum(map(len, gone))
            self._dying += gone
        self._schedule()
        return now

    def read(self, key: str) -> Any:
        """Return the state under *key*, None if there is none."""
        shard = self.shards[hash(key) & self.mask]
        state = shard.get(key)
        if state is None and self._closed:
            for generation in self._closed:
                state = generation.pop(key)
                if state is not None:
                    self._held -= 1
                    self.write(key, state)
                    break
        return state

    def write(self, key: str, state: Any) -> None:
        """Set the state under *key*; None removes it."""
        shard = self.shards[hash(key) & self.mask]
        before = len(shard)
        if state is not None:
            shard[key] = state
        elif key in shard:
            del shard[key]
        self._held += len(shard) - before
        if len(shard) > 2 * SHARD and len(self.shards) < MAX_SHARDS:
            self._close(self.last)

    def place(self, key: str) -> str:
        """Return the key under which *key* is counted: itself, or the overflow's when the table is full."""
        if self._held < self._max_keys or self.read(key) is not None:
            return key
        if self._overflow is None:
            # The first generation with any keys goes; the newest is closed by who asks when its time to go has come.
            ends = (generation.until for generation in self._closed if any(generation.shards))
            until = next(ends, self.last + self.algorithm.lifetime)
            raise KeysExhausted((until - self.last) / self.algorithm.hz)
        return self._overflow

    def change(self, limit: Limit) -> None:
        """Count by *limit* from now on; each key keeps its debt, in units, as it is at this moment."""
        before, then = self.algorithm, self.now()
        self._close(then)
        after = algorithm_for(limit)
        now = self.clock() * after.hz + ROUND - ROUND

        def told_anew(state: Any) -> Any:
            return after.owing(before.used(state, then), now)

        for generation in self._closed:
            generation.until = now + after.lifetime
            generation.changes = (*generation.changes, told_anew)
        self._adopt(limit)
        self.last = now
        self._open(len(self.shards))

    def _adopt(self, limit: Limit) -> None:
        self.limit = limit
        self.algorithm: Algorithm = algorithm_for(limit)
        # What follows is only read where every attribute counts, in ``_quick``.
        self.hz = self.algorithm.hz
        self.interval: float = getattr(self.algorithm, "interval", 0.0)
        self.tolerance: float = getattr(self.algorithm, "tolerance", 0.0)

    def _close(self, last_write: float) -> None:
        if keys := sum(map(len, self.shards)):
            self._closed.append(_Generation(self.shards, last_write + self.algorithm.lifetime))
        # One more key than fits into the dicts as they are is a crowd on its way: make room for all of it at once.
        grown = len(self.shards) * GROWTH if keys > SHARD * len(self.shards) else 1 << (keys // SHARD).bit_length()
        self._open(min(MAX_SHARDS, grown))

    def _open(self, shards: int) -> None:
        self.shards: list[dict[Any, Any]] = [{} for _ in range(shards)]
        self.mask = shards - 1
        self.only: dict[Any, Any] = self.shards[0] if shards == 1 else {}
        self._opened = self.last
        self._schedule()

    def _schedule(self) -> None:
        ends = self._opened + self.algorithm.lifetime
        first = min(ends, self._closed[0].until) if self._closed else ends
        self.due = self.last if self._dying else first
