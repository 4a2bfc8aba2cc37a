# /// script
# requires-python = ">=3.10"
# dependencies = [
#     "limits>=5.8", "throttled-py>=3.5", "pyrate-limiter>=4.5", "aiolimiter>=1.3", "fastmcp>=4,<5",
#     "redis>=7", "pytest",
# ]
# ///
"""What a decision costs, beside the limiters that people use; what many keys, many waiters, and shared stores cost.

Decisions are about one key that is within its limit: the path that nearly every call takes.

- *try_acquire*, *check*, *three limits*: ``RateLimiter`` in memory;
- *middleware*: what ``RateLimitMiddleware`` adds to a handler that does nothing, with a key that costs nothing to find;
- *limits*: its async fixed window and moving window in memory;
- *throttled-py*: its async token bucket (its default) and GCRA in memory;
- *pyrate-limiter*, *aiolimiter*: their usual in-memory limiters;
- *FastMCP*: ``RateLimitingMiddleware`` around a handler that does nothing.

The stores are measured by the clock on the wall, beside what they are made of in the same run: PING by redis-py, one a
call, and the two system calls of a lock.  *bare lease* counts down and wakes who waits, and nothing more: no argument,
no clock is looked at, and nothing is reserved for anybody.  ``redis-server`` has to be on the PATH.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.append(str(Path(__file__).parent.parent))  # for the servers of the tests

import anyio
import redis.asyncio as redis
from _ratio import Row, compare, figure
from aiolimiter import AsyncLimiter
from fastmcp.server.middleware.rate_limiting import RateLimitingMiddleware
from limits import parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter
from mcp_ratelimit import AsyncRateLimiter, HostStore, RateLimiter, RateLimitMiddleware, RedisStore
from pyrate_limiter import Duration, InMemoryBucket, Limiter, Rate
from throttled.asyncio import RateLimiterType, Throttled, rate_limiter

from tests.support.servers import RedisServer

PEERS = ["limits", "throttled-py", "pyrate-limiter", "aiolimiter", "fastmcp"]
MUCH = 500_000
CONTEXT = SimpleNamespace(method="tools/call", params={"name": "search"}, request=None)
RESULT = {"resultType": "complete"}


async def handler(ctx: Any) -> Any:
    return RESULT


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
        "acquire": awaited(one.acquire, "ann"),
        "FastMCP middleware": awaited(fast.on_request, CONTEXT, handler),
    }


def decisions() -> None:
    rows = {row.name: row for row in compare(candidates(), title="a decision", rounds=11, calls=500, peers=PEERS)}
    figure("try_acquire", rows["try_acquire"].ratio, "bare awaits", at_most=3.5)
    figure("check", rows["check"].ratio, "bare awaits", at_most=6)
    bare = rows["handler behind a pass-through"]
    for name, most in (("middleware, one limit", 0.5), ("middleware, three limits", 1.6)):
        figure(f"{name}, on top of a pass-through", added(rows[name], bare), "µs", at_most=most)
    for peer in ("limits fixed window", "throttled-py token bucket", "throttled-py GCRA", "pyrate-limiter"):
        figure(f"{peer} to try_acquire", rows[peer].ratio / rows["try_acquire"].ratio, "times", at_least=8)
    theirs = added(rows["FastMCP middleware"], bare) / added(rows["middleware, one limit"], bare)
    figure("FastMCP's middleware to ours with one limit", theirs, "times", at_least=15)


def added(row: Row, bare: Row) -> float:
    return (row.nanoseconds - bare.nanoseconds) / 1000


def a_million_keys() -> None:
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
    size = (grown - sys.getsizeof(times) - 24 * len(times)) / len(keys)
    figure("one of a million keys, besides the key", size, "bytes", at_most=70)
    figure("longest call while they came", max(times) * 1e3, "ms", at_most=5)
    figure(
        "a request of one of them to one of a key alone",
        statistics.median(again) / statistics.median(alone),
        "times",
        at_most=2,
    )


WAITERS = 1000
RATE = 3000


async def waiting_in_line() -> None:
    """Queue up for a limit, and be served when there is room for all."""
    limiter = RateLimiter("20000/4weeks", max_waiters=None)
    limiter.take_up_to("key", 20000)
    queue = asyncio.gather(*(limiter.acquire("key") for _ in range(WAITERS)))
    await asyncio.sleep(0)
    limiter.reset("key")
    await queue


async def waiting_for_events() -> None:
    """Do what nobody can wait without: have a task and an event of its own."""
    events = [anyio.Event() for _ in range(WAITERS)]
    queue = asyncio.gather(*(event.wait() for event in events))
    await asyncio.sleep(0)
    for event in events:
        event.set()
    await queue


async def served_at_a_rate() -> None:
    """Queue up for a limit, and be served one after the other."""
    limiter = RateLimiter(f"{RATE}/s burst 1", max_waiters=None)
    await asyncio.gather(*(limiter.acquire("key") for _ in range(WAITERS)))


async def woken_at_a_rate() -> None:
    """Do what nobody can wait without: have a task, an event and a timer of its own."""

    async def wait(number: int) -> None:
        with anyio.move_on_after(number / RATE):
            await anyio.Event().wait()

    await asyncio.gather(*(wait(number) for number in range(WAITERS)))


async def served_by_aiolimiter() -> None:
    """Do the same as ``served_at_a_rate``."""
    limiter = AsyncLimiter(1, 1 / RATE)
    await asyncio.gather(*(limiter.acquire() for _ in range(WAITERS)))


async def cpu_of(crowd: Callable[[], Awaitable[None]]) -> float:
    """Return the CPU time of each of a crowd, in microseconds."""
    begin = time.process_time()
    await crowd()
    return (time.process_time() - begin) / WAITERS * 1e6


async def many_waiters() -> None:
    # Waiters that come while others wait are decided about once, when it is their turn.  What is left above the floor
    # is the check of the arguments, the decision, and the place in the line: 7 us are less than the floor takes on
    # many machines.  Tried: to call several waiters at once, where there is room for them; it saves turns of the loop,
    # and no time that could be measured.
    crowds = [waiting_in_line, waiting_for_events, served_at_a_rate, woken_at_a_rate, served_by_aiolimiter]
    gc.disable()
    rounds = [[await cpu_of(crowd) for crowd in crowds] for _ in range(7)]
    gc.enable()
    in_line, events, at_rate, timers, peer = (statistics.median(column) for column in zip(*rounds, strict=True))
    figure("a queued waiter", in_line, "µs", at_most=7)
    figure("a task and an event alone", events, "µs")
    figure(f"a waiter served at {RATE} a second", at_rate, "µs")
    figure("a task, an event and a timer alone", timers, "µs")
    figure("a waiter served by aiolimiter", peer, "µs")


async def a_second_of(call: Callable[[], Awaitable[object]], tasks: int) -> float:
    """Return how many calls end in a second that *tasks* tasks make one after the other."""
    done, begin = 0, time.perf_counter()

    async def work() -> None:
        nonlocal done
        while time.perf_counter() < begin + 0.5:
            for _ in range(10):
                await call()
            done += 10

    await asyncio.gather(*(work() for _ in range(tasks)))
    return done / (time.perf_counter() - begin)


def bare_lease(client: Any) -> Callable[[], Awaitable[bool]]:
    """The least that a lease of 100 can do: count down; at 0, one goes for more, and all others wait for an event."""
    tokens = waiting = 0
    arrival: anyio.Event | None = None

    async def take() -> bool:
        nonlocal tokens, waiting, arrival
        while not tokens:
            if arrival is None:
                arrival = anyio.Event()
                await client.ping()
                tokens = 100 + waiting
                arrival.set()
                arrival = None
            else:
                waiting += 1
                await arrival.wait()
                waiting -= 1
        tokens -= 1
        return True

    return take


async def over_redis(port: int) -> None:
    client = redis.Redis(host="127.0.0.1", port=port, max_connections=64)
    store = RedisStore(client)
    exact = AsyncRateLimiter(f"{MUCH}/s", store=store, budget=5)
    leased = AsyncRateLimiter(f"{MUCH + 1}/s", store=store, budget=5, lease=100, lease_ttl=1.0)
    calls = {
        "PING": client.ping,
        "exact": lambda: exact.try_acquire("k"),
        "leased": lambda: leased.try_acquire("k"),
        "bare lease": bare_lease(client),
    }
    rounds = [{name: await a_second_of(call, 64) for name, call in calls.items()} for _ in range(6)][1:]
    await client.aclose()
    figure("PING by redis-py from 64 tasks", statistics.median(each["PING"] for each in rounds), "a second")
    for name, least in (("exact", 2.5), ("leased", 20), ("bare lease", None)):
        times = statistics.median(each[name] / each["PING"] for each in rounds)
        figure(f"decisions over Redis to that, {name}", times, "times", at_least=least)


def on_one_host(folder: str) -> None:
    store = HostStore(folder)
    limiter = RateLimiter(f"{MUCH}/s", store=store)
    file = os.open(Path(folder, "lock"), os.O_RDWR | os.O_CREAT)

    def lock() -> None:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 7)
        fcntl.lockf(file, fcntl.LOCK_UN, 1, 7)

    rounds = [(each(lambda: limiter.try_acquire("key")), each(lock)) for _ in range(9)]
    store.close()
    os.close(file)
    ours, locks = (statistics.median(column) for column in zip(*rounds, strict=True))
    figure("an acquire in the same-host store", ours, "µs", at_most=5)
    figure("its two system calls alone", locks, "µs")


def each(call: Callable[[], object], number: int = 5000) -> float:
    begin = time.process_time()
    for _ in range(number):
        call()
    return (time.process_time() - begin) / number * 1e6


def timed(limiter: RateLimiter, key: str) -> float:
    begin = time.thread_time()
    limiter.try_acquire(key)
    return time.thread_time() - begin


def resident() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * 4096


def main() -> None:
    """Measure all of it."""
    decisions()
    a_million_keys()
    asyncio.run(many_waiters())
    with tempfile.TemporaryDirectory() as folder:
        on_one_host(folder)
        server = RedisServer(Path(folder))
        server.start()
        try:
            asyncio.run(over_redis(server.port))
        finally:
            server.kill()


if __name__ == "__main__":
    main()
