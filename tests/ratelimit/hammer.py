"""A worker that asks as often as it can, and prints when it was let through: `python -m tests.ratelimit.hammer JOB`."""

from __future__ import annotations

import json
import sys
import time
from types import SimpleNamespace

import anyio
from mcp_ratelimit import AsyncRateLimiter, HostStore, Limit, RateLimiter, RedisStore

monotonic = time.monotonic


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
    from tests.ratelimit.conftest import Client

    client = Client(SimpleNamespace(host="127.0.0.1", port=job["redis"]))
    limiter = AsyncRateLimiter(
        limit,
        store=RedisStore(client),
        lease=job["lease"],
        lease_ttl=job["lease_ttl"],
        on_store_error="closed",
        budget=5,
    )

    async def ask():
        return await limiter.try_acquire("key")

    return ask


async def main():
    job = json.loads(sys.argv[1])
    limit = Limit(amount=job["amount"], per=job["period"], algorithm=job["algorithm"])
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
    sys.stdout.write(json.dumps({"passed": passed, "asked": asked}))


anyio.run(main)
