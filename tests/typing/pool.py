"""What type checkers must accept and infer; read by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastmcp import FastMCP
from mcp.server import MCPServer, Server
from mcp.server.context import ServerMiddleware
from mcp_pool import KeyedPool, Pool, PoolMiddleware, Statistics, as_fastmcp
from typing_extensions import assert_type


class Connection:
    """Anything with a close of its own."""

    async def aclose(self) -> None:
        """Close it."""

    async def query(self, text: str) -> list[int]:
        """Ask it."""
        return [len(text)]


async def connect() -> Connection:
    """Open one."""
    return Connection()


async def connect_to(key: str) -> Connection:
    """Open one for a tenant."""
    return Connection()


async def reset(connection: Connection) -> None:
    """Clean it."""


async def wrong(connection: str) -> None:
    """A hook for another resource."""


@asynccontextmanager
async def session() -> AsyncGenerator[Connection]:
    """A resource with a task group inside."""
    yield Connection()


pool = Pool(connect, reset=reset, max_size=3)
assert_type(pool, Pool[Connection])
assert_type(Pool.from_context(session, min_size=1), Pool[Connection])
keyed = KeyedPool(connect_to, max_total=5, max_size=2)
assert_type(keyed, KeyedPool[str, Connection])

Pool(connect, reset=wrong)  # type: ignore[misc]  # pyright: ignore[reportArgumentType]  # must stay an error
Pool(connect, max_sise=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # must stay an error

for_the_sdk: ServerMiddleware[Any] = PoolMiddleware(pool)
MCPServer("one", middleware=[PoolMiddleware(pool), PoolMiddleware(keyed, key=lambda ctx: "all")])
Server("two").middleware.append(PoolMiddleware(pool))
FastMCP("three").add_middleware(as_fastmcp(PoolMiddleware(pool)))
assert_type(PoolMiddleware(pool).current(), Connection)


async def lends() -> None:
    """Keep the type of the resource all the way."""
    async with pool.acquire() as connection:
        assert_type(connection, Connection)
    async with pool.try_acquire() as perhaps:
        assert_type(perhaps, Connection | None)
    async with keyed.acquire("tenant", timeout=1) as connection:
        assert_type(connection, Connection)
    async with AsyncExitStack() as stack:
        assert_type(await stack.enter_async_context(pool.acquire()), Connection)
    assert_type(await pool.take(), Connection)
    assert_type(await pool.call(Connection.query, "text"), list[int])
    await pool.call(Connection.query, 3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # as above
    assert_type(pool.statistics(), Statistics)


@pool
async def count(connection: Connection, text: str, *, limit: int = 3) -> float:
    """Lose its first parameter, and stay a coroutine function of the others."""
    return float(limit)


async def calls() -> None:
    """Keep what a type checker knows of the decorated function."""
    coroutine: Coroutine[Any, Any, float] = count("text", limit=1)
    assert_type(await coroutine, float)
    await count(Connection(), "text")  # type: ignore[arg-type,call-arg]  # pyright: ignore[reportArgumentType,reportCallIssue]
