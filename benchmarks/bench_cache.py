# /// script
# requires-python = ">=3.10"
# dependencies = [
#     "aiocache", "async-lru", "cachebox", "cachetools", "cashews",
#     "fastmcp>=4,<5", "mcp>=2,<3", "theine", "warp-cache",
# ]
# ///
"""What a hit, a miss and a set cost, and how much memory an entry takes, beside the peers.

``python benchmarks/cache_traces.py`` prints the hit ratios.
"""

from __future__ import annotations

import gc
import inspect
import itertools
import subprocess
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import aiocache
import async_lru
import cachebox
import cachetools
import theine
import warp_cache
from _ratio import compare
from cashews import cache as cashews_cache
from fastmcp.server.middleware.caching import ResponseCachingMiddleware
from fastmcp.server.middleware.middleware import MiddlewareContext
from fastmcp.tools.base import ToolResult
from mcp_cache import Cache, CacheMiddleware
from mcp_types import CallToolRequestParams, TextContent

PEERS = ["async-lru", "warp-cache", "cashews", "aiocache", "cachebox", "cachetools", "theine", "fastmcp"]
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

    own = {
        "get_or_compute": partial(cache.get_or_compute, "key", compute),
        "get_or_compute, lru": partial(lru.get_or_compute, "key", compute),
        "decorated, one argument": partial(one, "key"),
        "decorated, two arguments": partial(two, 1, 2),
        "decorated, keyword": partial(two, 1, b=2),
    }
    return own | {name: awaiting(function) for name, function in peers.items()}


def misses() -> dict[str, Any]:
    """A new key each time, in a cache that is full."""
    numbers = itertools.count()
    cache = Cache(ttl=1000, maxsize=1000)
    lru = async_lru.alru_cache(maxsize=1000, ttl=1000)(_function)
    warp = warp_cache.cache(max_size=1000, ttl=1000)(_function)
    box = cachebox.cached(cachebox.TTLCache(1000, 1000))(_function)
    tools: Any = cachetools.TTLCache(1000, 1000)

    async def miss() -> object:
        return await cache.get_or_compute(next(numbers), compute)

    async def store() -> object:
        return await cache.set(next(numbers), 1)

    def peer(function: Any) -> Run:
        async def call() -> object:
            return await function(str(next(numbers)))

        return call

    def cachetools_set() -> None:
        tools[next(numbers)] = 1

    own = {"miss": miss, "set": store, "cachetools TTLCache, set": cachetools_set}
    return own | {"async-lru": peer(lru), "warp-cache": peer(warp), "cachebox": peer(box)}


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

    return {"CacheMiddleware": own, "FastMCP ResponseCachingMiddleware": fastmcp}


MEMORY = """
import gc, resource
from mcp_cache import Cache
import anyio
N = 100_000
keys = [f"key:{n}" for n in range(N)]
async def main():
    cache = Cache(maxsize=N, ttl=1000)
    gc.collect()
    def rss():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    before = rss()
    await cache.set_many(dict.fromkeys(keys[:1], 1))
    for key in keys:
        await cache.set(key, 1)
    gc.collect()
    print(round((rss() - before) / N))
anyio.run(main)
"""


def test_costs() -> None:
    """Print the tables."""
    print()
    compare(hits(), rounds=9, calls=2000, peers=PEERS)
    compare(misses(), rounds=9, calls=2000, peers=PEERS)
    compare(middleware(), rounds=9, calls=500, peers=PEERS)
    gc.collect()
    taken = subprocess.run([sys.executable, "-c", MEMORY], check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603  # ours
    print(f"{taken} bytes an entry with a TTL, of 100,000")
