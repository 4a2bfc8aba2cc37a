"""What type checkers must accept and infer of mcp-cache; read by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from fastmcp import FastMCP
from mcp.server import MCPServer, Server
from mcp.server.context import ServerMiddleware
from mcp_cache import Cache, Cached, CacheMiddleware, as_fastmcp, cached
from mcp_cache.redis import RedisStore
from mcp_cache.sqlite import SqliteStore
from mcp_middleware import Chain, Middleware
from typing_extensions import assert_type

universal: Middleware = CacheMiddleware()
for_the_sdk: ServerMiddleware[Any] = CacheMiddleware()

MCPServer("one", middleware=[CacheMiddleware()])
Server("two").middleware.append(CacheMiddleware())
FastMCP("three").add_middleware(as_fastmcp(CacheMiddleware()))
Chain(CacheMiddleware())

cache = Cache(ttl=5, store=SqliteStore("cache.db"))


def with_redis(client: Any) -> Cache:
    """Take any client of the right shape."""
    return Cache(store=RedisStore(client))


async def compute() -> list[int]:
    """Compute something."""
    return [1]


async def infers() -> None:
    """Keep the type of what is computed, and of defaults."""
    assert_type(await cache.get_or_compute("key", compute), list[int])
    assert_type(await cache.delete("key"), bool)
    async with cache as opened:
        assert_type(opened, Cache)


@cache
async def plain(a: int, *, b: str = "") -> float:
    """Stay a coroutine function of the same parameters."""
    return a + len(b)


@cached(cache, ttl=5, tags=("tag",))
async def configured(a: int) -> str:
    """Likewise."""
    return str(a)


class Service:
    """Methods bind."""

    @cache
    async def method(self, a: int) -> bytes:
        """Likewise."""
        return bytes(a)


async def decorated(service: Service) -> None:
    """The three more that a decorated function has take its own parameters."""
    await assert_type(plain(1, b="x"), Coroutine[Any, Any, float])
    assert_type(await configured(1), str)
    assert_type(await configured.invalidate(1), bool)
    assert_type(await service.method(1), bytes)
    assert_type(await Service.method.invalidate(service, 1), bool)
    await service.method.invalidate(1)  # type: ignore[attr-defined]  # pyright: ignore[reportFunctionMemberAccess]
    taken: Cached[[int], str] = configured
    configured.key(1)
    await taken.clear()
    await plain("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
