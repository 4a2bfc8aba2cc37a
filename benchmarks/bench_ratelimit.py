# /// script
# requires-python = ">=3.10"
# dependencies = ["limits>=5.8", "throttled-py>=3.5", "pyrate-limiter>=4.5", "aiolimiter>=1.3", "fastmcp>=4,<5"]
# ///
"""What a decision costs, beside the limiters that people use; and what a million keys cost.

Each candidate decides about one key that is within its limit: the path that nearly every call takes.

- *try_acquire*, *check*, *three limits*: ``RateLimiter`` in memory;
- *middleware*: what ``RateLimitMiddleware`` adds to a handler that does nothing, with a key that costs nothing to find;
- *limits*: its async fixed window and moving window in memory;
- *throttled-py*: its async token bucket (its default) and GCRA in memory;
- *pyrate-limiter*, *aiolimiter*: their usual in-memory limiters;
- *FastMCP*: ``RateLimitingMiddleware`` around a handler that does nothing.
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from _ratio import compare
from aiolimiter import AsyncLimiter
from fastmcp.server.middleware.rate_limiting import RateLimitingMiddleware
from limits import parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter
from mcp_ratelimit import RateLimiter, RateLimitMiddleware
from pyrate_limiter import Duration, InMemoryBucket, Limiter, Rate
from throttled.asyncio import RateLimiterType, Throttled, rate_limiter

PEERS = ["limits", "throttled-py", "pyrate-limiter", "aiolimiter", "fastmcp"]
MUCH = 500_000
CONTEXT = SimpleNamespace(method="tools/call", params={"name": "search"}, request=None)


async def handler(ctx: Any) -> None:
    return None


def awaited(fn: Callable[..., Any], *arguments: object) -> Callable[[], Any]:
    async def call() -> object:
        return await fn(*arguments)

    return call


async def through(ctx: Any, call_next: Any) -> Any:
    return await call_next(ctx)


def candidates() -> dict[str, Callable[[], Any]]:
    one = RateLimiter(f"{MUCH}/s")
    three = RateLimiter(f"{MUCH}/s", f"{MUCH + 1}/s", f"{MUCH + 2}/s")
    keys = ("ann", "ann/search", "*")
    simple = RateLimitMiddleware(f"{MUCH}/s", key=lambda ctx: "ann")
    full = RateLimitMiddleware(
        f"{MUCH}/s", tools={"sea*": f"{MUCH + 1}/s"}, overall=f"{MUCH + 2}/s", key=lambda ctx: "ann"
    )
    item, storage = parse(f"{MUCH}/second"), MemoryStorage()
    fixed, moving = FixedWindowRateLimiter(storage), MovingWindowRateLimiter(MemoryStorage())
    few = parse("1000/second")
    quota = rate_limiter.per_sec(MUCH)
    bucket = Throttled(using=RateLimiterType.TOKEN_BUCKET.value, quota=quota)
    gcra = Throttled(using=RateLimiterType.GCRA.value, quota=quota)
    pyrate = Limiter(InMemoryBucket([Rate(10_000_000, Duration.DAY)]))
    aio = AsyncLimiter(MUCH, 1)
    fast = RateLimitingMiddleware(max_requests_per_second=MUCH, burst_capacity=MUCH)
    return {
        "try_acquire": lambda: one.try_acquire("ann"),
        "check": lambda: one.check("ann"),
        "three limits": lambda: three.try_acquire(keys),
        "handler behind a pass-through": awaited(through, CONTEXT, handler),
        "middleware, one limit": awaited(simple, CONTEXT, handler),
        "middleware, three limits": awaited(full, CONTEXT, handler),
        "limits fixed window": awaited(fixed.hit, item, "ann"),
        "limits moving window": awaited(moving.hit, few, "ann"),
        "throttled-py token bucket": awaited(bucket.limit, "ann"),
        "throttled-py GCRA": awaited(gcra.limit, "ann"),
        "pyrate-limiter": lambda: pyrate.try_acquire("ann", blocking=False),
        "aiolimiter": awaited(aio.acquire),
        "FastMCP middleware": awaited(fast.on_request, CONTEXT, handler),
    }


def test_decisions() -> None:
    compare(candidates(), rounds=11, calls=500, peers=PEERS)


def test_a_million_keys() -> None:
    limiter = RateLimiter("100/min")
    keys = [f"client-{number:07}" for number in range(1_000_000)]
    gc.collect()
    gc.disable()
    before, times = resident(), []
    for key in keys:
        begin = time.thread_time()
        limiter.try_acquire(key)
        times.append(time.thread_time() - begin)
    grown = resident() - before
    again = [timed(limiter, key) for key in keys[::37]]
    alone = [timed(limiter, "client-0000000") for _ in range(20_000)]
    gc.enable()
    bytes_a_key = (grown - sys.getsizeof(times) - 24 * len(times)) / len(keys)
    print(
        f"\n{bytes_a_key:.0f} bytes a key besides the key; new key: median {statistics.median(times) * 1e6:.2f} us,"
        f" longest {max(times) * 1e3:.2f} ms; known key: median {statistics.median(again) * 1e6:.2f} us,"
        f" one key alone {statistics.median(alone) * 1e6:.2f} us"
    )


def timed(limiter: RateLimiter, key: str) -> float:
    begin = time.thread_time()
    limiter.try_acquire(key)
    return time.thread_time() - begin


def resident() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * 4096
