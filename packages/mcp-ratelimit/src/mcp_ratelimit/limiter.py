"""Let through what the limits allow, refuse or delay the rest.

    limiter = RateLimiter("100/min burst 20", "2000/day")
    limiter.check("alice")  ── all limits say yes ──▶ charge them all ──▶ Decision(allowed=True, …)
                            └─ one says no ─────────▶ charge none ──────▶ Decision(allowed=False, retry_after=…, …)

A decision reads, decides and writes without an await in between, so it needs no lock in one process.
``_algorithms`` does the counting, a store keeps the states, ``lines`` orders those who wait.

Invariants, each a property in ``tests/ratelimit``:

1. A decision equals that of exact rational arithmetic at the time that was read, and each limit keeps its bound.
2. Either all limits are charged or none; a refusal, a peek and an error change nothing.
3. After ``retry_after`` seconds the same request passes; two millionths of a second before, it does not.
4. Who waits is served in order of arrival (see ``lines``); ``try_acquire`` and ``check`` do not pass them by.
5. A changed limit keeps what each key has used, in units.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ._algorithms import Gcra
from ._core import ROUND, Store, decide
from .decision import (
    LONGEST_KEY,
    CostTooLarge,
    Decision,
    Key,
    LimiterStatistics,
    RateLimited,
    Refusal,
    checked_key,
    checked_timeout,
)
from .limit import Limit, parse_limits, whole
from .lines import Lines, undecided
from .memory import MemoryStore, MemoryTable
from .slots import Acquiring

__all__ = ["RateLimiter"]

ONE = 1  # an identity that no bool and no float has, so that the usual cost needs no further check
new_decision: Callable[..., Decision] = getattr(tuple, "__new__")  # noqa: B009  # whose type no checker can say


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
        if max_waiters is not None:
            whole("RateLimiter", "max_waiters", max_waiters, least=0)
        if store is not None and (isinstance(store, type) or not hasattr(store, "table")):
            raise TypeError(f"RateLimiter needs a store such as MemoryStore(), got {store!r}")
        if on_event is not None and not callable(on_event):
            raise TypeError(f"RateLimiter needs on_event to be a function of the event, got {on_event!r}")
        self._store: Store = MemoryStore() if store is None else store
        self._tables = [self._store.table(limit) for limit in parsed]
        self._quick = self._store.quickly(self._tables)
        first = self._tables[0]
        usual = len(parsed) == 1 and isinstance(first, MemoryTable) and isinstance(first.algorithm, Gcra)
        self._one: Any = first if usual else None
        self._lines = Lines(max_waiters)
        self._undecided = undecided(parsed)
        self._on_event = on_event

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits, as they are now."""
        return tuple(table.limit for table in self._tables)

    # The next two methods decide as ``_core`` does, flat, what is usual: cost 1, one token bucket, in memory.
    # It pays: 0.25 and 0.5 us against 7 us, where a bare await takes 0.1 us.

    def try_acquire(self, key: Key, cost: int = 1) -> bool:
        """Charge *cost* if it may pass now, and say whether it did; the fastest way to ask.

        Raises what ``check`` raises.
        """
        table = self._one
        if table is None or cost is not ONE or self._lines.waiting:
            return self._try(key, cost)
        now = table.clock() * table.hz + ROUND - ROUND
        if table.last <= now < table.due:
            table.last = now
        else:
            now = table.advanced(now)
        shard = table.only or table.shards[hash(key) & table.mask]
        try:
            state: float = shard[key]
        except KeyError:
            return self._try(key, cost)
        state = table.interval + (now if state < now else state)  # noqa: FURB136  # ``max`` costs 80 ns
        if state - now <= table.tolerance:
            shard[key] = state
            return True
        return self._on_event is not None and self._try(key, cost)

    def check(self, key: Key, cost: int = 1) -> Decision:
        """Charge *cost* if it may pass now, and tell all about it; a cost of 0 always passes, and charges nothing.

        Raises CostTooLarge if *cost* can never pass, TypeError or ValueError for what is no cost or no key.
        """
        table = self._one
        if table is None or cost is not ONE or self._lines.waiting:
            return self._check(key, cost)
        decision = self._pass(table, key)
        return self._check(key, cost) if decision is None else decision

    def peek(self, key: Key, cost: int = 1) -> Decision:
        """Tell whether *cost* would pass now; charges nothing."""
        return self._decide(self._checked(key, cost), cost, charge=False)

    def take_up_to(self, key: Key, most: int, *, past_line: bool = False) -> int:
        """Charge as much as may pass now, at most *most*, and return how much it was; nothing while others wait.

        With *past_line* they wait on behind it, for what has been used before it could be counted.
        """
        keys = self._checked(key, 0)
        whole("take_up_to", "most", most, least=0)
        if not past_line and self._lines.ahead(self._names(keys)):
            return 0
        cost = min(most, self._decide(keys, 0, charge=False).remaining)
        while cost and not (decision := self._decide(keys, cost, charge=True, first=True)).allowed:
            cost = min(cost - 1, decision.remaining)  # another process has taken some meanwhile
        return cost

    def refund(self, key: Key, cost: int = 1) -> None:
        """Give back *cost* that was charged under *key*; what has been forgotten by now cannot be given back."""
        whole("refund", "cost", cost, least=0)
        for table, name in zip(self._tables, self._checked(key, 0), strict=True):
            with self._store.locked([table], (name,)) as (held,):
                now = held.now()
                state = held.read(name)
                if state is not None:
                    held.write(name, held.algorithm.refund(state, now, cost))
        self._lines.wake()

    def reset(self, key: Key) -> None:
        """Forget everything charged under *key*."""
        for table, name in zip(self._tables, self._checked(key, 0), strict=True):
            with self._store.locked([table], (name,)) as (held,):
                held.read(name)
                held.write(name, None)
        self._lines.wake()

    def set_limit(self, limit: Limit | str, *, name: str | None = None) -> None:
        """Change the figures of the limit called *name*, by default the only one; every key keeps what it has used.

        The limit keeps its name and its algorithm. Raises ValueError for an unknown name or another algorithm.
        """
        (changed,) = parse_limits(limit)
        names = [table.limit.name for table in self._tables]
        if name not in names and (name is not None or len(names) > 1):
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
        patience = checked_timeout(timeout)
        usual = self._one if cost is ONE else None
        decision = None if usual is None or self._lines.waiting else self._pass(usual, key)
        if decision is not None:
            return decision
        keys = self._checked(key, cost)
        names = self._names(keys)
        if cost and patience == math.inf and self._lines.is_behind(names):
            decision = self._undecided
        else:
            decision = self._decide(keys, cost, charge=True)
            if decision.allowed:
                return decision

        async def attempt() -> Decision:
            decision = None if usual is None else self._pass(usual, keys[0])
            if decision is None:  # check again: ``set_limit`` may have made the cost too large
                decision = self._decide(self._checked(key, cost), cost, charge=True, first=True)
            return decision

        try:
            return await self._lines.wait(names, cost, patience, decision, attempt)
        except RateLimited as refusal:
            if self._on_event is not None:
                self._on_event(Refusal(key, cost, refusal.decision))
            raise

    def statistics(self) -> LimiterStatistics:
        """Return what the limiter holds now."""
        return LimiterStatistics(keys=max(map(len, self._tables)), waiting=self._lines.waiting)

    def _try(self, key: Key, cost: int) -> bool:
        quick = self._quick
        if quick is not None and cost is ONE and not self._lines.waiting and quick(key):
            return True
        return self._check(key, cost).allowed

    def _pass(self, table: Any, key: Any) -> Decision | None:
        """Charge one unit and tell about it, if it may pass; None leaves it to ``_decide``."""
        now = table.clock() * table.hz + ROUND - ROUND
        if table.last <= now < table.due:
            table.last = now
        else:
            now = table.advanced(now)
        shard = table.only or table.shards[hash(key) & table.mask]
        try:
            state: float = shard[key]
        except KeyError:
            return None
        state = table.interval + (now if state < now else state)  # noqa: FURB136  # as in try_acquire
        owed = state - now
        if owed > table.tolerance:
            return None
        shard[key] = state
        remaining = int((table.tolerance - owed) / table.interval)
        return new_decision(Decision, (True, table.limit, remaining, 0.0, owed / table.hz, ()))

    def _check(self, key: Key, cost: int) -> Decision:
        decision = self._decide(self._checked(key, cost), cost, charge=True)
        if not decision.allowed and self._on_event is not None:
            self._on_event(Refusal(key, cost, decision))
        return decision

    async def _give_back(self, key: Key, cost: int) -> None:
        self.refund(key, cost)

    def _checked(self, key: Key, cost: int) -> tuple[str, ...]:
        if cost is ONE and isinstance(key, str) and "" < key < "~" and len(key) <= LONGEST_KEY:
            return (key,) * len(self._tables)  # what follows, in the usual case, in a fifth of the time
        whole("a limiter", "cost", cost, least=0)
        for table in self._tables:
            if cost > table.algorithm.capacity:
                raise CostTooLarge(cost, table.limit)
        return checked_key(key, self._tables, self._store.mark)

    def _names(self, keys: tuple[str, ...]) -> list[tuple[str, str]]:
        return [(table.limit.name, key) for table, key in zip(self._tables, keys, strict=True)]

    def _decide(self, keys: tuple[str, ...], cost: int, *, charge: bool, first: bool = False) -> Decision:
        """Decide as if after all who wait, or, for who is *first* in line, before them."""
        ahead = {} if first or not cost or not self._lines.waiting else self._lines.ahead(self._names(keys))
        return decide(self._store, self._tables, keys, cost, ahead, charge=charge)
