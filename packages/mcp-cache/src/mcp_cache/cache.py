"""An async cache that computes a value once for all who ask, and knows when it may no longer be used.

    get_or_compute(key, fn) ─▶ fresh ───────────────────────▶ the value, without waiting
                               stale, to be revalidated ────▶ the value; one caller, or a task, computes anew
                               absent, expired, invalidated ▶ the first caller leads a flight, the others follow it

A hit takes no lock, no task and no checkpoint: it is a dictionary's lookup and a comparison with the clock. All state
changes happen between two awaits. In several processes, a store (``mcp_cache.redis``) takes part in every flight, and
this cache is the near one in front of it.

Invariants, each a test in ``tests/cache/``:

1. While a flight is in the air, nobody else computes its key.
2. A caller that is cancelled takes nobody with it; after the last one has left, nothing is left behind.
3. What began before an invalidation that has returned is neither stored nor served to anyone but its leader.
4. A failure is not stored unless its type has a TTL; everybody who waited for it gets a twin of it.
5. No value is served after its time, but for the windows that ``stale_while_revalidate`` and ``stale_if_error`` open.
6. There are never more entries than *maxsize*, nor more weight than *max_weight*.

Rejected: a task for each computation (seventy times the cost of a miss; loses the caller's deadline and context), a
future shared by all callers (one caller's cancellation reaches the others), a timer or a sweeper for expiry.
"""

from __future__ import annotations

import math
import random as _random
import time
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import anyio

from . import stored
from .config import Config, Tags, Ttl, check_surroundings, checked_options, checked_tags, checked_ttl
from .decorate import Cached, P, R, decorated
from .engine import UNFIT, Engine
from .entries import Entry
from .events import CacheStatistics, Event, Explanation, Invalidated
from .explain import explained
from .invalidation import check_kind, forget, forget_everything, forget_matching, forget_tag, hear, matches
from .isolation import Isolation
from .remote import OnStoreError, Remote
from .store import JSON, Serializer, Store

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Cache", "cached"]

T = TypeVar("T")
D = TypeVar("D")


class Cache:
    """A cache for any async program.

    Args:
        maxsize: The most entries, of all functions together.
        ttl: Seconds for which a value is fresh; a function of the value; None for as long as there is room.
        jitter: The most by which a TTL is shortened at random, as a share of it, so that not all end at once.
        idle: Seconds after which an entry that nobody asks for ends; no window opens after that.
        stale_while_revalidate: Seconds after the TTL in which the old value is served while one computation is under
            way: in a task if the cache was opened with ``async with``, else by the caller who finds it stale.
        stale_if_error: Seconds after the TTL in which the old value is served if computing raises.
        refresh_ahead: How eagerly to compute anew before the TTL ends, 0 for never, 1 for what theory says best.
        negative_ttl: Seconds for which to remember exceptions, by type; subclasses included.
        max_weight: The most weight, as *weigh* tells it of a value; what is heavier by itself is not stored.
        policy: Who has to go when there is no room: "adaptive", "lru", "s3fifo" or "tinylfu".
        isolation: Who may change a value: "share" nobody, it is the same for all; "copy" everybody, it is one's own;
            "frozen" nobody can, lists, dictionaries and sets were made tuples, read-only mappings and frozensets; what
            is not hashable by its value either, is not stored.
        store: A store shared by several processes, or one that outlives this one.
        on_store_error: When it fails, "local" goes on with what is in process, "deny" raises CacheUnavailable.
        retry_store_after: Seconds for which a store that has failed is not asked.
        on_event: Called with every event, in the task that causes it; must not raise.

    Raises ValueError or TypeError naming the argument. Keys are compared as in a dictionary, so 1, 1.0 and True are the
    same key; those made from arguments, by a decorated function or the middleware, are not. With a store, a key that is
    not JSON (tuples and bytes are allowed) raises Unkeyable. Not thread-safe.
    """

    def __init__(
        self,
        *,
        maxsize: int = 1024,
        ttl: Ttl = None,
        jitter: float = 0,
        idle: float = math.inf,
        stale_while_revalidate: float = 0,
        stale_if_error: float = 0,
        refresh_ahead: float = 0,
        negative_ttl: Mapping[type[Exception], float] | None = None,
        max_weight: float = math.inf,
        weigh: Callable[[Any], float] | None = None,
        policy: str = "adaptive",
        isolation: Isolation = "share",
        store: Store | None = None,
        serializer: Serializer = JSON,
        on_store_error: OnStoreError = "local",
        retry_store_after: float = 1.0,
        on_event: Callable[[Event], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = _random.random,
    ) -> None:
        config = Config(
            maxsize=maxsize,
            max_weight=max_weight,
            weigh=weigh,
            policy=policy,
            ttl=ttl,
            jitter=jitter,
            idle=idle,
            stale_while_revalidate=stale_while_revalidate,
            stale_if_error=stale_if_error,
            refresh_ahead=refresh_ahead,
            negative_ttl={} if negative_ttl is None else negative_ttl,
            isolation=isolation,
            random=random,
        )
        check_surroundings(clock, on_event, store, serializer, on_store_error, retry_store_after)
        remote = None
        if store is not None:
            remote = Remote(
                store,
                config,
                serializer=serializer,
                clock=clock,
                on_event=on_event,
                on_error=on_store_error,
                retry_after=retry_store_after,
            )
        self._engine = Engine(config, clock, on_event, remote)
        if remote is not None:
            remote.forget = partial(forget_everything, self._engine)
        self.isolation: Isolation = isolation
        self._space = self._engine.table.new_space("=")
        self._flights = self._space.flights
        self._find = self._space.entries.get  # bound once: a subscript would be as fast, but for the misses' KeyError
        self._clock = clock
        self._hits = 0
        self._engine.hit_counters.append(lambda: self._hits)

    async def get_or_compute(
        self, key: Hashable, fn: Callable[[], Awaitable[T]], ttl: Ttl = None, tags: Tags = ()
    ) -> T:
        """Return what is cached under *key*; else await ``fn()``, once for all who ask meanwhile, and cache it.

        Does not wait, not even for a checkpoint, when there is a fresh value. A caller that is cancelled while it
        computes leaves the computation to the caller who has waited longest, and that one calls its own *fn*. What *fn*
        raises is raised here: the same object for whoever called it, a copy for the others.

        Raises ComputationCancelled in the others if *fn* raised CancelledError by itself, and TypeError if *key* is not
        hashable or *fn* not async.
        """
        entry = self._find(key)
        if entry is None:
            if key not in self._flights:
                return await self._engine.lead(self._space, key, fn, ttl, tags)  # type: ignore[no-any-return]  # its value
        elif entry.fast_until > self._clock():
            entry.hits += 1
            self._hits += 1
            return entry.value  # type: ignore[no-any-return]  # what was computed under this key
        return await self._engine.obtain(self._space, key, fn, ttl, tags)  # type: ignore[no-any-return]  # the same

    async def get(self, key: Hashable, default: D = None) -> Any | D:  # type: ignore[assignment]  # None is the usual D
        """Return what is cached under *key* and fresh, in process or in the store; *default* if nothing is."""
        found = await self.get_many((key,))
        return found.get(key, default)

    async def get_many(self, keys: Iterable[Hashable]) -> dict[Hashable, Any]:
        """Return what is cached under the *keys* and fresh; one round trip to the store. Raises a cached failure."""
        engine, space, found, absent = self._engine, self._space, dict[Hashable, Any](), list[Hashable]()
        for key in keys:
            entry, now = space.entries.get(key), self._clock()
            if entry is not None and engine.state(entry, now) in ("fresh", "early"):
                found[key] = engine.serve(entry, now)
            else:
                engine.misses += 1
                absent.append(key)
        if engine.remote is not None and absent:
            found.update(await stored.read(engine, engine.remote, space, absent))
        return found

    async def set(self, key: Hashable, value: Any, *, ttl: Ttl = None, tags: Tags = ()) -> None:
        """Cache *value* under *key*; what is being computed under it is not stored."""
        engine, space = self._engine, self._space
        seconds = engine.plain_ttl
        if ttl is not None or seconds is None:
            seconds = engine.config.lifetime(value, checked_ttl(ttl))
        names = checked_tags(tags, value) if tags != () else ()
        form = value if self.isolation == "share" else engine.form(key, value)
        if form is UNFIT or not seconds > 0:
            await forget(engine, space, key)  # an older value must not outlive it
            return
        if engine.remote is not None:
            await stored.write(engine, engine.remote, space, key, value, form, seconds, names)
            return
        if space.flights:
            space.doom(key)
        now = self._clock()
        entry = Entry(space.entries, key, form, engine.table.tick, now + seconds)
        if engine.is_plain and not names:
            engine.table.put(entry, now)
        else:
            engine.keep(space, entry, now, names)

    async def set_many(self, values: Mapping[Hashable, Any], *, ttl: Ttl = None, tags: Tags = ()) -> None:
        """Cache each of the *values* under its key."""
        for key, value in values.items():
            await self.set(key, value, ttl=ttl, tags=tags)

    async def delete(self, key: Hashable) -> bool:
        """Forget *key*, and defeat what is being computed under it; say whether it was in process."""
        return await forget(self._engine, self._space, key)

    async def invalidate(
        self,
        *,
        tag: str | None = None,
        prefix: str | tuple[Hashable, ...] | None = None,
        glob: str | None = None,
        where: Callable[[Any], bool] | None = None,
    ) -> None:
        """Forget everything with a *tag*, or whose key matches, and defeat what is being computed.

        A tag reaches every entry, those of decorated functions too, in O(1). A *prefix* (of a string, or of a tuple), a
        *glob* (``*``, ``?``, ``[…]``; case counts) and *where*, a function of the key, look at each key of the cache's
        own methods, a few hundred between two checkpoints. Raises TypeError without any of them, or for another type.
        """
        chosen = list(matches(prefix, glob, where))
        if tag is None and not chosen:
            raise TypeError("invalidate() needs one of tag=, prefix=, glob= and where=")
        if tag is not None:
            check_kind("tag", tag, str)
            await forget_tag(self._engine, tag)
        for by, what, match in chosen:
            await forget_matching(self._engine, self._space, match)
            self._engine.tell(Invalidated(by, what))

    def __call__(
        self,
        fn: Callable[P, Coroutine[Any, Any, R]],
        *,
        ttl: Ttl = None,
        tags: Tags = (),
        unkeyable: Literal["raise", "bypass"] = "raise",
    ) -> Cached[P, R]:
        """Decorate an async function or method, as ``cached`` does."""
        tags = _checked(ttl, tags, unkeyable)
        return decorated(self._engine, ttl, tags, unkeyable == "bypass", fn)

    def explain(self, key: Hashable) -> Explanation:
        """Say what there is under *key* in process, without counting as a hit; for a decorated one, ``fn.explain``."""
        return explained(self._engine, self._space, key)

    def statistics(self) -> CacheStatistics:
        """Return the figures so far."""
        engine, table = self._engine, self._engine.table
        return CacheStatistics(
            hits=engine.hits + sum(count() for count in engine.hit_counters),
            misses=engine.misses,
            loads=engine.loads,
            joins=engine.joins,
            stale=engine.stale,
            failures=engine.failures,
            evictions=table.evictions,
            expirations=table.expirations,
            entries=table.size,
            weight=table.weight,
            load_seconds=engine.load_seconds,
        )

    async def __aenter__(self) -> Self:
        """Let stale values be refreshed in tasks, and listen to the store."""
        engine = self._engine
        if engine.group is not None:
            raise RuntimeError("this cache is open already")
        group = anyio.create_task_group()
        engine.group = await group.__aenter__()
        if engine.remote is not None:
            group.start_soon(engine.remote.listen, partial(hear, engine))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop what is being refreshed; the entries stay. What the block raised comes out as it is."""
        del kind, error, traceback
        engine = self._engine
        group, engine.group = engine.group, None
        assert group is not None  # noqa: S101  # for type checkers
        group.cancel_scope.cancel()
        try:
            await group.__aexit__(None, None, None)
        finally:
            for (space, key), flight in engine.refreshing.items():  # a task cancelled before its first step
                space.land(key, flight)
            engine.refreshing.clear()
            if engine.remote is not None:
                engine.remote.is_heard = False
                forget_everything(engine)


def cached(
    cache: Cache, *, ttl: Ttl = None, tags: Tags = (), unkeyable: Literal["raise", "bypass"] = "raise"
) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Cached[P, R]]:
    """Decorate async functions and methods, so that *cache* keeps what they return for the same arguments.

    Arguments are the same if they have the same JSON form or, where they have none, the same type and are equal: 1,
    1.0, True and "1" are four. How they are passed does not matter, and defaults count. ``self`` is held weakly. One
    that is neither JSON nor hashable raises Unkeyable, naming it; with ``unkeyable="bypass"``, the call is not cached.
    In a cache with a store, arguments must be JSON, and methods raise TypeError when they are decorated: their ``self``
    has no name that a store knows.

    The function keeps its signature, and gets four more: ``fn.key(*args)``, ``fn.explain(*args)``, ``await
    fn.invalidate(*args)`` and ``await fn.clear()``. Those of a method are called on its class, with the instance first.
    What it has cached lies apart from what the cache's own methods reach by key.
    """
    checked_cache("@cached(cache)", cache)
    return partial(cache, ttl=ttl, tags=_checked(ttl, tags, unkeyable), unkeyable=unkeyable)


def _checked(ttl: Ttl, tags: Tags, unkeyable: str) -> Tags:
    if unkeyable not in ("raise", "bypass"):
        raise ValueError(f"a cached function needs unkeyable to be 'raise' or 'bypass', got {unkeyable!r}")
    return checked_options(ttl, tags)


def engine_of(cache: Cache) -> Engine:
    """Return what does the work of *cache*, for what keeps values of its own in it."""
    return cache._engine  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # of the same package


def checked_cache(who: str, cache: object) -> Cache:
    """Return *cache*, or raise TypeError."""
    if not isinstance(cache, Cache):
        raise TypeError(f"{who} needs a Cache, got {cache!r}")
    return cache
