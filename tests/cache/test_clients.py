"""The client libraries that the Redis store takes, each on a real server."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial

import anyio
import pytest
from mcp_cache import Cache, NotStored, StoreDown
from mcp_cache.redis import RedisStore

from tests.cache.source import Source
from tests.support.servers import client_of


async def eventually(check):
    """Wait up to 5 s until ``await check()`` is true."""
    with anyio.fail_after(5):
        while not await check():
            await anyio.sleep(0.01)


@pytest.mark.uninstrumented
@pytest.mark.parametrize("anyio_backend", ["uvloop", "trio"], indirect=True)
@pytest.mark.parametrize("library", ["redis", "valkey", "coredis"])
async def test_every_client_that_users_bring(redis_server, anyio_backend, library):
    """Their own objects, used as they are; on trio the one that runs there."""
    events, source = [], Source("value", 0.2)
    async with AsyncExitStack() as stack:
        caches = []
        for _ in range(3):
            client = await stack.enter_async_context(client_of(library, anyio_backend, redis_server))
            caches.append(Cache(ttl=30, store=RedisStore(client, budget=5.0), on_event=events.append))
        for cache in caches[:2]:
            await stack.enter_async_context(cache)
            with anyio.fail_after(5):
                while not cache._engine.remote.is_heard:
                    await anyio.sleep(0.01)
        one, two, closed = caches
        async with anyio.create_task_group() as tg:
            for cache in caches:
                tg.start_soon(partial(cache.get_or_compute, "key", source, tags=("tag",)))
        assert source.calls == 1

        async def is_gone():
            return two.explain("key").state in ("absent", "invalidated") and await two.get("key") is None

        assert await two.get_many(["key"]) == {"key": "value"}
        await one.invalidate(tag="tag")
        await eventually(is_gone)
        await closed.set("key", [1])
        assert await one.get("key") == [1]
        await two.invalidate(glob="k*")
        assert await closed.get("key") is None
        assert await closed.delete("key") is False
    assert not any(isinstance(event, (StoreDown, NotStored)) for event in events)
