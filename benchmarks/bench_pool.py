# /// script
# requires-python = ">=3.10"
# dependencies = ["asyncpg", "psycopg[binary]", "psycopg_pool", "redis", "sqlalchemy[asyncio]"]
# ///
"""What a pool costs, beside four others, all with resources that do nothing; and beside a bare ``asyncio.Semaphore``.

- *alone*: acquire and release with ten idle resources and one task;
- *hooks*: the same with a check before and a reset after, which do nothing;
- *100 tasks*: a hundred tasks on ten resources, which each yields to the loop once while it has one;
- *queue*: one hand-over while 10, and while 10,000 others wait.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from types import SimpleNamespace
from typing import Any

import psycopg
import psycopg_pool
import redis.asyncio
import sqlalchemy.pool
from mcp_pool import Pool
from sqlalchemy.util import greenlet_spawn

PEERS = ["redis", "sqlalchemy", "psycopg_pool"]
SIZE, TASKS, ROUNDS, CALLS = 10, 100, 15, 1000


class Resource:
    """Does nothing, under every name that a pool calls."""

    is_connected = True

    def __init__(self, **_: Any) -> None: ...

    async def aclose(self) -> None: ...

    async def connect(self, *_: Any) -> None: ...

    async def disconnect(self, *_: Any) -> None: ...

    async def re_auth(self) -> None: ...

    async def can_read(self, *_: Any) -> bool:
        return False

    async def can_read_destructive(self) -> bool:
        return False

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
        return cls(SimpleNamespace(transaction_status=idle, status=psycopg.pq.ConnStatus.OK, finish=nothing, socket=-1))  # type: ignore[arg-type]

    async def close(self) -> None: ...


@asynccontextmanager
async def of_redis(pool: Any) -> Any:
    connection = await pool.get_connection()
    try:
        yield connection
    finally:
        await pool.release(connection)


@asynccontextmanager
async def of_sqlalchemy(pool: Any) -> Any:
    connection = await greenlet_spawn(pool.connect)
    try:
        yield connection
    finally:
        await greenlet_spawn(connection.close)


def once(enter: Callable[[], Any]) -> Callable[[], Awaitable[None]]:
    async def call() -> None:
        async with enter():
            pass

    return call


def crowd(enter: Callable[[], Any]) -> Callable[[], Awaitable[None]]:
    async def worker() -> None:
        for _ in range(5):
            async with enter():
                await asyncio.sleep(0)

    async def call() -> None:
        await asyncio.gather(*(worker() for _ in range(TASKS)))

    return call


async def hand_over(waiting: int) -> float:
    """Seconds of one hand-over while so many wait."""
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


async def main(stack: AsyncExitStack) -> dict[str, Callable[[], Any]]:
    plain = await stack.enter_async_context(Pool(connect, max_size=SIZE))
    hooked = await stack.enter_async_context(Pool(connect, max_size=SIZE, check=nothing, reset=nothing, check_after=0))
    semaphore = asyncio.Semaphore(SIZE)
    redis_pool = redis.asyncio.BlockingConnectionPool(connection_class=Resource, max_connections=SIZE)  # type: ignore[arg-type,var-annotated]
    alchemy = sqlalchemy.pool.AsyncAdaptedQueuePool(lambda: Resource(), pool_size=SIZE, max_overflow=0)  # type: ignore[arg-type,return-value]  # noqa: PLW0108
    psycopg_one = psycopg_pool.AsyncConnectionPool(
        "", connection_class=PsycopgConnection, min_size=SIZE, max_size=SIZE, open=False
    )
    await stack.enter_async_context(psycopg_one)
    return {
        "Semaphore": lambda: semaphore,
        "mcp-pool": plain.acquire,
        "mcp-pool, hooks": hooked.acquire,
        "redis-py": lambda: of_redis(redis_pool),
        "SQLAlchemy": lambda: of_sqlalchemy(alchemy),
        "psycopg_pool": psycopg_one.connection,
    }


async def show() -> None:
    for waiting in (10, 100, 1000, 10_000):
        print(f"queue of {waiting:6}: {await hand_over(waiting) * 1e6:6.2f} us a hand-over")
    async with AsyncExitStack() as stack:
        pools = await main(stack)
        for title, kind in (("alone", once), ("100 tasks", crowd)):
            rounds, times = (ROUNDS, CALLS) if kind is once else (7, 2)
            calls = {name: kind(enter) for name, enter in pools.items()}
            ratios = {name: [] for name in calls}
            for number in range(rounds + 1):
                seconds = {}
                for name, call in calls.items():
                    began = time.process_time()
                    for _ in range(times):
                        await call()
                    seconds[name] = time.process_time() - began
                for name, taken in seconds.items():
                    if number:
                        ratios[name].append(taken / seconds["Semaphore"])
            for name, found in ratios.items():
                print(f"{title:10} {name:18} {sorted(found)[len(found) // 2]:7.2f}")


if __name__ == "__main__":
    asyncio.run(show())
