"""One pool for each key (an upstream, a tenant), under one limit for all of them.

When all is taken, a pool for which somebody waits gets another resource from where it is missed least: an idle one of
the pool that was used longest ago; else the next one to come back to the pool that has most, if that has more than its
share. So a busy key cannot keep a quiet one out for ever, and what the keys want beyond the limit goes round between
them. *min_size* holds as far as there is room: a key that has nothing gets what another one only keeps ready.

Invariants, each tested in ``tests/pool/test_keyed.py``:

1. All pools together have at most *max_total* resources.
2. There are at most *max_keys* pools; the idle one used longest ago makes room, and if all are busy, a new key is
   refused.
3. A key that has nothing gets a resource, if n - 1 keys waited before it, after at most n / *max_total* uses in a row,
   rounded up: at once when one is idle, after one use when fewer keys wait than there are resources.
"""

from __future__ import annotations

import functools
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio

from .entry import CLOSING, Entry
from .errors import PoolClosed, PoolFull, PoolMisuse
from .events import Statistics
from .lease import Lease
from .life import Life
from .pool import Pool, desk_of
from .settings import check_async, check_count, check_factory, check_timeout
from .supply import Supply

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .settings import Options

__all__ = ["KeyedPool"]

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class KeyedPool(Life, Generic[K, T]):
    """At most *max_total* resources in at most *max_keys* pools, each made when its key is first used.

    Args:
        connect: ``await connect(key)`` opens a resource.
        close: As for ``Pool``.
        max_total: Resources of all keys together.
        max_keys: Pools at once. Keys may come from remote callers, so there is no way to switch this off.
        options: Those of each pool, see ``Settings``; *max_size* is what one key may have, and *min_size*, at most
            *max_total*, what it keeps while nobody else needs it.

    Raises ValueError or TypeError for what cannot be meant. Use it as ``async with pools``; it can be opened once.
    """

    def __init__(
        self,
        connect: Callable[[K], Awaitable[T]],
        *,
        close: Callable[[T], Awaitable[object]] | None = None,
        max_total: int = 100,
        max_keys: int = 1000,
        **options: Unpack[Options[T]],
    ) -> None:
        check_async("connect", connect)
        self._set_up(lambda key: Pool(functools.partial(connect, key), close=close, **options), max_total, max_keys)

    @classmethod
    def from_context(
        cls,
        factory: Callable[[K], AbstractAsyncContextManager[T]],
        *,
        max_total: int = 100,
        max_keys: int = 1000,
        **options: Unpack[Options[T]],
    ) -> KeyedPool[K, T]:
        """Make pools of what ``async with factory(key) as resource`` gives, as ``Pool.from_context`` does."""
        check_factory(factory)
        pools = cls.__new__(cls)
        cls._set_up(
            pools, lambda key: Pool.from_context(functools.partial(factory, key), **options), max_total, max_keys
        )
        return pools

    def _set_up(self, make: Callable[[K], Pool[T]], max_total: int, max_keys: int) -> None:
        check_count("max_total", max_total, 1)
        check_count("max_keys", max_keys, 1)
        pool = make(None)  # type: ignore[arg-type]  # refuses bad options now, not with the first key; connects nothing
        if (least := desk_of(pool).settings.min_size) > max_total:
            raise ValueError(f"KeyedPool needs min_size <= max_total, got min_size={least} and max_total={max_total}")
        self._make = make
        self._max_keys = max_keys
        self._pools: OrderedDict[K, Pool[T]] = OrderedDict()
        self._shares = _Shares(max_total, self._least_recent_first)
        self._is_open = False

    def _start(self) -> None:
        self._is_open = True

    def acquire(self, key: K, timeout: float | None = None) -> Lease[T]:
        """Borrow a resource of *key* for a block; as ``Pool.acquire``, and raises as ``pool``.

        Enter it at once: when many other keys are used first, the pool of this one may have had to go.
        """
        return self.pool(key).acquire(timeout)

    def pool(self, key: K) -> Pool[T]:
        """Return the pool of *key*, made now if need be.

        Raises PoolClosed, PoolFull when there are *max_keys* pools and none of them is idle, or TypeError for a key
        that has no hash.
        """
        if not self._is_open:
            raise PoolClosed("these pools are not open")
        try:
            pool = self._pools.get(key)
        except TypeError:
            raise TypeError(f"KeyedPool needs a hashable key, got {key!r}") from None
        if pool is None:
            self._make_room()
            pool = self._pools[key] = self._make(key)
            desk = desk_of(pool)
            desk.supply.budget = self._shares
            desk.open(self._task_group)
        self._pools.move_to_end(key)
        return pool

    def discard(self, resource: T) -> None:
        """Say that a resource in use is broken, whatever its key; as ``Pool.discard``."""
        for pool in self._pools.values():
            if desk_of(pool).supply.entry_of(resource):
                pool.discard(resource)
                return
        raise PoolMisuse(f"{resource!r} is not of these pools, or was returned and closed")

    def refresh(self) -> None:
        """Replace every resource of every key, as ``Pool.refresh``."""
        for pool in self._pools.values():
            pool.refresh()

    async def close(self, *, drain_timeout: float | None = None) -> None:
        """Close all pools at once, as ``Pool.close``."""
        check_timeout(drain_timeout, "drain_timeout")
        self._is_open, self._is_spent = False, True
        async with anyio.create_task_group() as tasks:
            for pool in self._pools.values():
                tasks.start_soon(functools.partial(pool.close, drain_timeout=drain_timeout))

    def statistics(self) -> dict[K, Statistics]:
        """Return the figures of each key's pool."""
        return {key: pool.statistics() for key, pool in self._pools.items()}

    def _make_room(self) -> None:
        if len(self._pools) < self._max_keys:
            return
        for key, pool in self._pools.items():
            shelf = desk_of(pool).shelf
            if not shelf.waiters and len(shelf.idle) == shelf.alive and not shelf.connecting:
                del self._pools[key]
                self._task_group.start_soon(pool.close)
                return
        raise PoolFull(f"all {self._max_keys} pools are in use, which is max_keys", waiting=0)

    def _least_recent_first(self) -> Iterator[Supply[T]]:
        for pool in self._pools.values():
            yield desk_of(pool).supply


class _Shares:
    """Who has how much of the limit, and who waits for more."""

    def __init__(self, limit: int, supplies: Callable[[], Iterator[Supply[Any]]]) -> None:
        self._limit = limit
        self._supplies = supplies
        self._held: Counter[Supply[Any]] = Counter()
        self._hungry: OrderedDict[Supply[Any], None] = OrderedDict()
        """Where somebody waits, in the order in which that began."""

    def claim(self, supply: Supply[Any]) -> bool:
        """Count one more resource of *supply*, or let it wait for room, and see to that if somebody needs it."""
        if self._held.total() < self._limit:
            self._held[supply] += 1
            return True
        self._forget_who_left()
        if _is_missed(supply):
            self._hungry[supply] = None
            self._make_room(supply)
        return False

    def release(self, supply: Supply[Any], now: float) -> None:
        """Count one less, and let those grow where somebody waits, first come, first served; then the others."""
        self._held[supply] -= 1
        if not self._held[supply]:
            del self._held[supply]  # closed pools are forgotten
        self._forget_who_left()
        while self._hungry and self._held.total() < self._limit:
            first, _ = self._hungry.popitem(last=False)
            first.grow(now)
        if self._held.total() < self._limit:
            for below_minimum in self._supplies():
                below_minimum.grow(now)
        for hungry in self._hungry:
            self._make_room(hungry)

    def _forget_who_left(self) -> None:
        for supply in [supply for supply in self._hungry if not _is_missed(supply)]:
            del self._hungry[supply]

    def _make_room(self, supply: Supply[Any]) -> None:
        supplies = list(self._supplies())
        closing = self._held.total() - sum(len(each.shelf.entries) - each.shelf.closing for each in supplies)
        if closing >= len(self._hungry):
            return  # room for all is on its way; what is left of pools that had to go is not among the supplies
        staying = {each: [entry for entry in each.shelf.entries if _stays(entry)] for each in supplies}
        others = [other for other in staying if other is not supply]
        surplus = {other: len(staying[other]) - other.shelf.min_size for other in others}
        spare = [other for other in others if staying[other] and (surplus[other] > 0 or not self._held[supply])]
        for other in sorted(spare, key=lambda other: surplus[other] <= 0):
            if other.shelf.idle:
                other.shelf.evict(min(other.shelf.idle, key=lambda entry: entry.used_at))
                return
        if self._held.total() - sum(map(len, staying.values())) >= len(self._hungry):
            return  # as many go after the use they are in
        largest = max(spare, key=lambda other: len(staying[other]), default=None)
        if largest is not None and (len(staying[largest]) > self._held[supply] + 1 or not self._held[supply]):
            largest.shelf.evict(min(staying[largest], key=lambda entry: entry.taken_at))


def _is_missed(supply: Supply[Any]) -> bool:
    """Whether somebody waits for whom nothing is on its way; if not, *supply* only wants its minimum."""
    return len(supply.shelf.waiters) > supply.shelf.connecting + supply.shelf.serviced


def _stays(entry: Entry[Any]) -> bool:
    return not entry.leaving and entry.state != CLOSING
