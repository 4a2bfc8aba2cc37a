"""One process of several that share a store: prints a line for each computation and one for its results.

python worker.py PORT KEY CALLERS SECONDS LEASE
"""

from __future__ import annotations

import asyncio
import os
import sys

from mcp_cache import Cache
from mcp_cache.redis import RedisStore
from redis.asyncio import Redis


async def main(port: str, key: str, callers: str, seconds: str, lease: str) -> None:
    """Ask for *key* with many callers at once."""
    client = Redis(host="127.0.0.1", port=int(port))

    async def compute() -> int:
        print("computing", flush=True)  # noqa: T201  # read by the test
        await asyncio.sleep(float(seconds))
        return os.getpid()

    async with Cache(ttl=30, store=RedisStore(client, lease=float(lease), budget=5.0)) as cache:
        await asyncio.sleep(0.2)
        print("ready", flush=True)  # noqa: T201  # read by the test
        sys.stdin.readline()
        found = await asyncio.gather(*(cache.get_or_compute(key, compute) for _ in range(int(callers))))
    await client.aclose()
    print("got", *sorted(set(found)), flush=True)  # noqa: T201  # read by the test


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
