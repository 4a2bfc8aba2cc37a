# /// script
# requires-python = ">=3.10"
# dependencies = ["asyncpg", "psycopg[binary]", "psycopg_pool", "redis", "sqlalchemy[asyncio]"]
# ///
"""What a pool costs, beside four others, all with resources that do nothing; and beside a bare ``asyncio.Semaphore``.

- acquire and release with ten idle resources and one task;
- a hundred tasks on ten resources, which each yields to the loop once while it has one;
- one hand-over while a hundred, and while ten thousand others wait.

asyncpg always resets, with a timer around it; the others have neither check nor reset, but for the line that says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from types import SimpleNamespace
from typing import Any

import asyncpg
import psycopg
import psycopg_pool
import redis.asyncio
import sqlalchemy.pool
from _ratio import compare, figure
from mcp_pool import Pool
from sqlalchemy.util import greenlet_spawn

PEERS = ["asyncpg", "psycopg_pool", "SQLAlchemy", "redis"]
SIZE, TASKS = 10, 100
Enter = Callable[[], Any]
Use = Callable[[], Awaitable[None]]


class Resource:
    """Does nothing, under every name by which redis-py and SQLAlchemy call it."""

    is_connected = True

    def __init__(self, **_: object) -> None: ...

    async def aclose(self) -> None: ...

    async def connect(self, *_: object) -> None: ...

    async def disconnect(self, *_: object) -> None: ...

    async def re_auth(self) -> None: ...

    async def can_read(self, *_: object) -> bool:
        return False

    can_read_destructive = can_read

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


async def nothing(resource: object = None) -> None: ...


async def connect() -> Resource:
    return Resource()


class PsycopgConnection(psycopg.AsyncConnection[Any]):
    """A connection of psycopg without a server."""

    @classmethod
    async def connect(cls, *args: Any, **kwargs: Any) -> Any:
        idle = psycopg.pq.TransactionStatus.IDLE
        return cls(SimpleNamespace(transaction_status=idle, status=psycopg.pq.ConnStatus.OK, finish=nothing, socket=-1))  # type: ignore[arg-type]  # all that the pool looks at

    async def close(self) -> None: ...


class AsyncpgConnection(asyncpg.Connection):  # type: ignore[misc]  # it has no types
    """A connection of asyncpg without a server."""

    def __init__(self) -> None:  # without the base's, which wants a protocol and an address
        self._proxy = None
        self._protocol = SimpleNamespace(queries_count=0, _is_cancelling=bool)

    def __del__(self) -> None: ...

    def is_closed(self) -> bool:
        return False

    def _on_release(self, stacklevel: int = 1) -> None: ...

    async def reset(self, *, timeout: float | None = None) -> None: ...

    async def close(self, *, timeout: float | None = None) -> None: ...

    def terminate(self) -> None: ...


async def connect_asyncpg(*_: object, **__: object) -> AsyncpgConnection:
    return AsyncpgConnection()


@asynccontextmanager
async def of_redis(pool: Any) -> AsyncGenerator[object]:
    connection = await pool.get_connection()
    try:
        yield connection
    finally:
        await pool.release(connection)


@asynccontextmanager
async def of_sqlalchemy(pool: Any) -> AsyncGenerator[object]:
    connection = await greenlet_spawn(pool.connect)
    try:
        yield connection
    finally:
        await greenlet_spawn(connection.close)


async def enters(stack: AsyncExitStack) -> dict[str, Enter]:
    """What enters a block with a resource, ours and theirs."""
    plain = await stack.enter_async_context(Pool(connect, max_size=SIZE))
    hooked = await stack.enter_async_context(Pool(connect, max_size=SIZE, check=nothing, reset=nothing, check_after=0))
    semaphore = asyncio.Semaphore(SIZE)
    redis_pool = redis.asyncio.BlockingConnectionPool(connection_class=Resource, max_connections=SIZE)  # type: ignore[arg-type,var-annotated]  # a stand-in
    alchemy = sqlalchemy.pool.AsyncAdaptedQueuePool(Resource, pool_size=SIZE, max_overflow=0)  # type: ignore[arg-type]  # a stand-in
    sizes = {"min_size": SIZE, "max_size": SIZE}
    psycopg_one = psycopg_pool.AsyncConnectionPool("", connection_class=PsycopgConnection, open=False, **sizes)  # type: ignore[arg-type]  # a dict of ints
    await stack.enter_async_context(psycopg_one)
    asyncpg_one = asyncpg.create_pool(connect=connect_asyncpg, connection_class=AsyncpgConnection, **sizes)
    await stack.enter_async_context(asyncpg_one)
    return {
        "Semaphore": lambda: semaphore,
        "ours": plain.acquire,
        "ours, check and reset": hooked.acquire,
        "redis, BlockingConnectionPool": lambda: of_redis(redis_pool),
        "psycopg_pool": psycopg_one.connection,
        "asyncpg": asyncpg_one.acquire,
        "SQLAlchemy, AsyncAdaptedQueuePool": lambda: of_sqlalchemy(alchemy),
    }


def alone(enter: Enter) -> Use:
    async def use() -> None:
        async with enter():
            pass

    return use


def crowd(enter: Enter) -> Use:
    async def worker() -> None:
        for _ in range(10):
            async with enter():
                await asyncio.sleep(0)

    async def use() -> None:
        await asyncio.gather(*(worker() for _ in range(TASKS)))

    return use


def compared(title: str, kind: Callable[[Enter], Use], calls: int) -> dict[str, float]:
    """Compare all of them; return the ratios to the semaphore."""

    async def candidates(stack: AsyncExitStack) -> dict[str, Use]:
        return {name: kind(enter) for name, enter in (await enters(stack)).items()}

    rows = {row.name: row.ratio for row in compare(candidates, title=title, calls=calls, peers=PEERS)}
    return {name: ratio / rows["Semaphore"] for name, ratio in rows.items()}


async def hand_over(waiting: int) -> float:
    """CPU seconds of one hand-over while so many wait."""
    async with Pool(connect, max_size=1, max_waiters=waiting, timeout=600) as pool:

        async def wait() -> None:
            async with pool.acquire():
                pass

        first = await pool.take()
        tasks = [asyncio.create_task(wait()) for _ in range(waiting)]
        await asyncio.sleep(0.01)
        began = time.process_time()
        await pool.give_back(first)
        await asyncio.gather(*tasks)
        return (time.process_time() - began) / waiting


def main() -> None:
    one = compared("acquire and release, one task", alone, 1000)
    many = compared("100 tasks on 10 resources, 10 turns each", crowd, 5)
    figure("one task, to a Semaphore", one["ours"], "times", at_most=1.3)
    figure("one task, with check and reset, to a Semaphore", one["ours, check and reset"], "times", at_most=2.5)
    figure("100 tasks, to a Semaphore", many["ours"], "times", at_most=2.0)
    few, all_of_them = (min(asyncio.run(hand_over(waiting)) for _ in range(3)) for waiting in (100, 10_000))
    figure("a hand-over while 100 wait", few * 1e6, "us")
    figure("a hand-over while 10,000 wait", all_of_them * 1e6, "us", at_most=few * 1e6 * 1.25)


if __name__ == "__main__":
    main()
