"""A worker that asks as often as it can, and prints when it was let through: `python -m tests.ratelimit.hammer JOB`."""

from __future__ import annotations

import json
import sys
import time

import anyio
from mcp_ratelimit import AsyncRateLimiter, HostStore, Limit, RateLimiter, RedisStore

monotonic = time.monotonic
events = []


def on_host(job, limit):
    store = HostStore(job["host"])
    limiter = RateLimiter(limit, store=store)

    async def ask():
        try:
            return limiter.try_acquire("key")
        except TimeoutError:  # on a busy machine, whoever holds the lock may not run for long
            return False

    return ask


def on_redis(job, limit):
    from redis.asyncio import Redis

    limiter = AsyncRateLimiter(
        limit,
        store=RedisStore(Redis(port=job["redis"])),
        lease=job["lease"],
        lease_ttl=job["lease_ttl"],
        on_store_error=job["policy"],
        workers=4,
        budget=job["budget"],
        on_event=lambda event: events.append((type(event).__name__, monotonic())),
        clock=lambda: monotonic() + job["skew"],
    )

    async def ask():
        passed = await limiter.try_acquire("key")
        if not passed:
            await anyio.sleep(0.001)  # the server and the other workers have no processors of their own
        return passed

    return ask


async def main():
    job = json.loads(sys.argv[1])
    amount, algorithm = job["amount"], job["algorithm"]
    limit = Limit(f"{amount}/day" if job["period"] == "day" else f"{amount} per {job['period']} s", algorithm=algorithm)
    wall = time.time
    time.time = lambda: wall() + job["skew"]
    ask = (on_host if "host" in job else on_redis)(job, limit)
    passed, asked = [], 0
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    end = monotonic() + job["seconds"]
    while (before := monotonic()) < end:
        asked += 1
        if await ask():
            passed.append((before, monotonic()))
    stored = [event for event in events if event[0] != "Refusal"]
    sys.stdout.write(json.dumps({"passed": passed, "asked": asked, "events": stored}))


anyio.run(main)
