# /// script
# requires-python = ">=3.10"
# dependencies = [
#     "aiocache", "async-lru", "cachebox", "cachetools", "cashews",
#     "fastmcp>=4,<5", "mcp>=2,<3", "redis", "theine", "warp-cache",
# ]
# ///
"""What a hit, a miss and a set cost beside the peers, and what a cache must not do; each figure beside its target.

- *get_or_compute*, *decorated*: a hit by each way in. *bare*: a coroutine that only looks a key up, asks the clock and
  counts: nothing that does all three can be faster, and the type of an argument is not even looked at;
- *miss, nothing kept*: one flight and a computation that returns at once; the TTL is a function that says "do not
  keep". *miss, bare* only registers a flight, asks the clock twice, awaits and asks that function: that leaves one or
  two awaits of the eight for tags, isolation, events and followers; to write the flight's end into its leader, without
  a call, saved one of them and was rejected for the second copy of it. *miss, kept* adds an entry, *miss, evicts* an
  eviction, too: what *set* costs;
- *cachetools TTLCache*: a plain synchronous assignment that evicts; ours has two awaits around it;
- *CacheMiddleware*: key, lookup and an isolated copy of a result of 2.6 kB, beside FastMCP's and the SDK's own;
- memory, the longest call, four processes, and the hit ratios of ``cache_traces.py``.
"""

from __future__ import annotations

import inspect
import itertools
import time
from collections.abc import Awaitable, Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import aiocache
import async_lru
import cache_limits
import cache_traces
import cachebox
import cachetools
import theine
import warp_cache
from _ratio import Row, compare, figure
from cashews import cache as cashews_cache
from fastmcp.server.middleware.caching import ResponseCachingMiddleware
from fastmcp.server.middleware.middleware import MiddlewareContext
from fastmcp.tools.base import ToolResult
from mcp.client.caching import ClientResponseCache, InMemoryResponseCacheStore
from mcp_cache import Cache, CacheMiddleware
from mcp_cache.entries import Entry
from mcp_types import CallToolRequestParams, ListToolsResult, TextContent, Tool

PEERS = ["async-lru", "warp-cache", "cashews", "aiocache", "cachebox", "cachetools", "theine", "fastmcp", "mcp"]
Run = Callable[[], Awaitable[object]]


async def compute() -> int:
    return 1


async def _function(key: str) -> int:
    return 1


async def _two(a: int, b: int = 2) -> int:
    return 1


def awaiting(function: Any) -> Run:
    """Make a coroutine function of a call that only returns an awaitable; costs a call more."""
    if inspect.iscoroutinefunction(function):
        return partial(function, "key")

    async def call() -> object:
        return await function("key")

    return call


def bare() -> tuple[Run, Run]:
    """The least that a hit can do in Python: find, ask the clock, count twice; of one argument and of two."""
    entry, clock, hits = Entry({}, "key", 1, 0, time.monotonic() + 1000), time.monotonic, 0
    entries = {"key": entry, (1, 2): entry}

    async def one(key: str) -> object:
        nonlocal hits
        entry = entries[key]
        if entry.expires > clock():
            entry.hits += 1
            hits += 1
            return entry.value  # type: ignore[no-any-return]  # an int
        return None

    async def two(a: int, b: int) -> object:
        nonlocal hits
        entry = entries[a, b]
        if entry.expires > clock():
            entry.hits += 1
            hits += 1
            return entry.value  # type: ignore[no-any-return]  # an int
        return None

    return partial(one, "key"), partial(two, 1, 2)


def do_not_keep(_: object) -> float:
    """Tell a TTL."""
    return 0


def bare_flight() -> Callable[[], Awaitable[object]]:
    """The least that a miss can do in Python: one coroutine to find nothing, and one to lead a flight of its own."""
    entries, flights, clock = dict[int, Entry](), dict[int, list[object]](), time.monotonic
    numbers, misses, seconds = itertools.count(), 0, 0.0

    async def lead(key: int) -> object:
        nonlocal misses, seconds
        flight = flights[key] = []
        misses += 1
        begun = clock()
        try:
            value = await compute()
            seconds += clock() - begun + do_not_keep(value)
            if flights.get(key) is flight:
                del flights[key]
        except BaseException:
            del flights[key]
            raise
        return value

    async def get(key: int) -> object:
        return await lead(key) if entries.get(key) is None and key not in flights else None

    async def call() -> object:
        return await get(next(numbers))

    return call


def hits() -> dict[str, Any]:
    """One key, asked for again and again."""
    cache, lru = Cache(ttl=1000), Cache(ttl=1000, policy="lru")
    one, two = Cache(ttl=1000)(_function), Cache(ttl=1000)(_two)
    cashews_cache.setup("mem://")
    peers = {
        "async-lru": async_lru.alru_cache(maxsize=1024, ttl=1000)(_function),
        "warp-cache": warp_cache.cache(max_size=1024, ttl=1000)(_function),
        "cachebox": cachebox.cached(cachebox.TTLCache(1024, 1000))(_function),
        "cashews": cashews_cache(ttl="1000s")(_function),
        "aiocache": aiocache.cached(ttl=1000)(_function),
        "theine": theine.Memoize(1024, None)(_function),
    }

    async def keyword() -> object:  # not a partial, which takes as long as an await to pass a keyword
        return await two(1, b=2)

    bare_one, bare_two = bare()
    own = {
        "bare": bare_one,
        "bare, two arguments": bare_two,
        "get_or_compute": partial(cache.get_or_compute, "key", compute),
        "get_or_compute, lru": partial(lru.get_or_compute, "key", compute),
        "decorated, one argument": partial(one, "key"),
        "decorated, two arguments": partial(two, 1, 2),
        "decorated, keyword, and one await": keyword,
    }
    return own | {name: awaiting(function) for name, function in peers.items()}


def misses() -> dict[str, Any]:
    """A new key each time, in a cache that is full."""
    numbers = itertools.count()
    cache, roomy, full = Cache(ttl=do_not_keep), Cache(ttl=1000, maxsize=10**6), Cache(ttl=1000, maxsize=1000)
    caches = {policy: Cache(ttl=1000, maxsize=1000, policy=policy) for policy in ("adaptive", "tinylfu", "lru")}
    tools: Any = cachetools.TTLCache(1000, 1000)

    def miss(cache: Cache) -> Run:
        async def call() -> object:
            return await cache.get_or_compute(next(numbers), compute)

        return call

    def store(cache: Cache) -> Run:
        async def call() -> object:
            return await cache.set(next(numbers), 1)

        return call

    def peer(function: Any) -> Run:
        async def call() -> object:
            return await function(str(next(numbers)))

        return call

    def cachetools_set() -> None:
        tools[next(numbers)] = 1

    return {
        "miss, bare": bare_flight(),
        "miss, nothing kept": miss(cache),
        "miss, kept": miss(roomy),
        "miss, evicts": miss(full),
        **{f"set, {policy}": store(cache) for policy, cache in caches.items()},
        "cachetools TTLCache, set": cachetools_set,
        "async-lru": peer(async_lru.alru_cache(maxsize=1000, ttl=1000)(_function)),
        "warp-cache": peer(warp_cache.cache(max_size=1000, ttl=1000)(_function)),
        "cachebox": peer(cachebox.cached(cachebox.TTLCache(1000, 1000))(_function)),
    }


def middleware() -> dict[str, Any]:
    """A tool's answer of 2.6 kB."""
    text = "x" * 100
    result = {"content": [{"type": "text", "text": text, "n": n} for n in range(17)], "isError": False, "ttlMs": 60_000}
    params = {"name": "look", "arguments": {"query": "x" * 100, "limit": 10, "filters": {"a": [1, 2, 3], "b": None}}}
    ours = CacheMiddleware(tools={"look": 60})
    ctx = SimpleNamespace(method="tools/call", params=params, protocol_version="2026-07-28")
    theirs = ResponseCachingMiddleware()
    message = MiddlewareContext(message=CallToolRequestParams(**params), method="tools/call")

    async def handler(_: object) -> dict[str, Any]:
        return result

    async def fastmcp_handler(_: object) -> ToolResult:
        return ToolResult(content=[TextContent(type="text", text=text) for _ in range(17)])

    async def own() -> object:
        return await ours(ctx, handler)

    async def fastmcp() -> object:
        return await theirs.on_call_tool(message, fastmcp_handler)

    theirs_too = ClientResponseCache(
        store=InMemoryResponseCacheStore(),
        partition="",
        arm_id="x",
        default_ttl_ms=0,
        clock=time.time,
        share_public=False,
        negotiated_version=lambda: "2026-07-28",
    )
    tools = [Tool(name=f"tool {n}", description=text, input_schema={"type": "object"}) for n in range(20)]
    listed = ListToolsResult(tools=tools, ttl_ms=60_000, cache_scope="private")

    async def sdk() -> object:
        found = await theirs_too.read("tools/list", "")
        if found is None:
            await theirs_too.write("tools/list", "", listed, theirs_too.capture("tools/list", ""), "use")
        return found

    return {"CacheMiddleware": own, "FastMCP ResponseCachingMiddleware": fastmcp, "SDK's client cache": sdk}


def judge_costs(rows: dict[str, Row]) -> None:
    """Print what the tables say of the targets."""
    for name, most in (("get_or_compute", 2.5), ("decorated, one argument", 2.0), ("decorated, two arguments", 3.0)):
        figure(name, rows[name].ratio, "bare awaits", at_most=most)
    keyword, miss, bare = (
        rows[name].ratio - 1 for name in ("decorated, keyword, and one await", "miss, nothing kept", "miss, bare")
    )
    figure("decorated, keyword", keyword, "bare awaits", at_most=3.0)
    figure("miss, nothing kept", miss, "bare awaits", at_most=8.0)
    figure("the bare equivalent of a miss", bare, "bare awaits")
    for name in ("bare", "bare, two arguments"):
        figure(f"the bare equivalent of a hit{name[4:]}", rows[name].ratio, "bare awaits")
    evicts = ratio(rows, "set, adaptive", "cachetools TTLCache, set")
    figure("a set that evicts to one of cachetools' TTLCache", evicts, "times", at_most=1.0)
    figure("a hit of CacheMiddleware, 2.6 kB", rows["CacheMiddleware"].nanoseconds / 1000, "µs", at_most=25)


def ratio(rows: dict[str, Row], one: str, other: str) -> float:
    """Return what *one* costs, as a multiple of the *other*; each without the await that the benchmark adds."""
    return (rows[one].ratio - 1) / rows[other].ratio


def main() -> None:
    rows = [
        *compare(hits(), title="a hit", rounds=9, calls=2000, peers=PEERS),
        *compare(misses(), title="a miss, and a set", rounds=9, calls=1000, peers=PEERS),
        *compare(middleware(), title="a hit through a middleware", rounds=9, calls=200, peers=PEERS),
    ]
    judge_costs({row.name: row for row in rows})
    figure("memory of an entry with a TTL, of 100,000", cache_limits.bytes_per_entry(), "bytes", at_most=230)
    for count, most in ((100_000, 1), (1_000_000, 5)):
        live, expiring = cache_limits.longest_call(count)
        figure(f"longest set and get, {count:,} live entries", 1000 * live, "ms", at_most=most)
        figure(f"longest set and get while {count:,} expire", 1000 * expiring, "ms", at_most=most)
    shared = cache_limits.processes()
    if shared is None:
        print("four processes: not measured, there is neither redis-server nor valkey-server here")
    else:
        computed, commands, taken, lease = shared
        figure("4 processes with 25 callers each: computations", computed, at_most=1)
        figure("commands for each of them that waits", commands, at_most=4)
        figure("leader killed: until another computes", taken, "s", at_most=lease + 0.2)
    found = cache_traces.main()
    for what, (_, regret) in found.items():
        figure(f"adaptive below the best policy, {what} traces", regret, "points", at_most=8)
    if "recorded" in found:
        figure("adaptive, share of the optimum, recorded traces", found["recorded"].share, at_least=0.82)
    else:
        print("share of the optimum: not measured, CACHE_TRACES names no folder of recorded traces")


if __name__ == "__main__":
    main()
