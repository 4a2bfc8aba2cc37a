"""A pool of each: SQLite in threads, PostgreSQL through asyncpg and psycopg, Redis connections, HTTP clients.

Each function is a whole recipe; take the one you need. Run as a program, it uses SQLite, which needs no server.
"""

# ruff: noqa: PLC0415  # each recipe brings its own driver

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
from mcp_pool import Pool

if TYPE_CHECKING:
    import httpx
    import psycopg
    import redis.asyncio


def sqlite_pool(path: Path) -> Pool[sqlite3.Connection]:
    """Of the standard library's connections: any thread may use one, but only one thread at a time."""

    async def connect() -> sqlite3.Connection:
        return await anyio.to_thread.run_sync(lambda: sqlite3.connect(path, check_same_thread=False))

    return Pool(connect, max_size=4)


def asyncpg_pool(url: str) -> Pool[Any]:
    """On asyncio; asyncpg's own reset, and a close that waits for no server."""
    import asyncpg  # type: ignore[import-untyped]  # it has none, so its connections are Any

    async def connect() -> Any:
        return await asyncpg.connect(url)

    async def close(connection: Any) -> None:
        connection.terminate()

    async def check(connection: Any) -> None:
        await connection.execute("select 1")

    async def reset(connection: Any) -> None:
        await connection.reset()

    return Pool(connect, close=close, check=check, reset=reset)


def psycopg_pool(url: str) -> Pool[psycopg.AsyncConnection[Any]]:
    """With a rollback after each use, so that no transaction is left open for the next borrower."""
    import psycopg

    async def connect() -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(url)

    async def check(connection: psycopg.AsyncConnection[Any]) -> None:
        await connection.execute("select 1")

    return Pool(connect, check=check, reset=psycopg.AsyncConnection.rollback)


def redis_pool(host: str, port: int) -> Pool[redis.asyncio.Redis]:
    """Of clients with one connection each, for what holds it: BLPOP, WATCH, pub/sub."""
    import redis.asyncio

    async def connect() -> redis.asyncio.Redis:
        client = redis.asyncio.Redis(host=host, port=port, single_connection_client=True)
        return await client.initialize()

    return Pool(connect, check=redis.asyncio.Redis.ping)


def http_pool() -> Pool[httpx.AsyncClient]:
    """Of clients that are entered and left by one task; a cancelled call spoils none, only a broken connection does."""
    import httpx

    return Pool.from_context(httpx.AsyncClient, broken=lambda error: isinstance(error, httpx.TransportError))


async def main() -> None:
    """Let thirty tasks write through four connections."""
    with tempfile.TemporaryDirectory() as folder:
        async with sqlite_pool(Path(folder, "numbers.db")) as pool:

            @pool
            async def run(connection: sqlite3.Connection, statement: str, *values: int) -> list[Any]:
                def execute() -> list[Any]:
                    with connection:
                        return connection.execute(statement, values).fetchall()

                return await anyio.to_thread.run_sync(execute)

            await run("create table numbers (number)")
            async with anyio.create_task_group() as tasks:
                for number in range(30):
                    tasks.start_soon(run, "insert into numbers values (?)", number)
            print(await run("select count(*) from numbers"), f"over at most {pool.statistics().max_size} connections")


if __name__ == "__main__":
    anyio.run(main)
