# /// script
# requires-python = ">=3.10"
# dependencies = ["asyncpg", "psycopg[binary]", "psycopg_pool", "redis", "sqlalchemy[asyncio]"]
# ///
"""What a pool costs, beside four others, all with resources that do nothing; as ratios to a bare ``asyncio.Semaphore``.

- *alone*: acquire and release with ten idle resources and one task;
- *100 tasks*: a hundred tasks on ten resources, which each yields to the loop once while it has one;
- *queue*: one hand-over while 10, and while 10,000 others wait; of the first, starting and ending is the larger part.

asyncpg always resets, with a timer around it; the others have neither check nor reset, but for the line that says so.
"""

from __future__ import annotations

import asyncio
import platform
import statistics
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import metadata
from types import SimpleNamespace
from typing import Any

import asyncpg
import psycopg
import psycopg_pool
import redis.asyncio
import sqlalchemy.pool
from mcp_pool import Pool
from sqlalchemy.util import greenlet_spawn

PEERS = ["asyncpg", "psycopg_pool", "SQLAlchemy", "redis"]
SIZE, TASKS = 10, 100
TARGETS = {
    ("alone", "ours"): 1.3,
    ("alone", "ours, check and reset"): 2.5,
    ("100 tasks", "ours"): 2.0,
    ("100 tasks", "ours, check and reset"): 2.0,
}

Enter = Callable[[], Any]


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


async def candidates(stack: AsyncExitStack) -> dict[str, Enter]:
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
        "redis-py": lambda: of_redis(redis_pool),
        "psycopg_pool": psycopg_one.connection,
        "asyncpg": asyncpg_one.acquire,
        "SQLAlchemy": lambda: of_sqlalchemy(alchemy),
    }


def alone(enter: Enter) -> Callable[[], Awaitable[None]]:
    async def use() -> None:
        for _ in range(1000):
            async with enter():
                pass

    return use


def crowd(enter: Enter) -> Callable[[], Awaitable[None]]:
    async def worker() -> None:
        for _ in range(10):
            async with enter():
                await asyncio.sleep(0)

    async def use() -> None:
        await asyncio.gather(*(worker() for _ in range(TASKS)))

    return use


async def ratios(uses: dict[str, Callable[[], Awaitable[None]]], rounds: int) -> dict[str, list[float]]:
    """CPU time of each, by that of the semaphore in the same round; the first round warms up."""
    found: dict[str, list[float]] = {name: [] for name in uses}
    for number in range(rounds + 1):
        seconds = {}
        for name, use in uses.items():
            began = time.process_time()
            await use()
            seconds[name] = time.process_time() - began
        for name, taken in seconds.items():
            if number:
                found[name].append(taken / seconds["Semaphore"])
    return found


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


async def main() -> None:
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PEERS)
    print(f"Python {platform.python_version()}, {versions}\n")
    async with AsyncExitStack() as stack:
        enters = await candidates(stack)
        print(f"{'':12}{'':24}{'ratio':>8}{'p10':>8}{'target':>8}")
        for title, kind, rounds in (("alone", alone, 25), ("100 tasks", crowd, 25)):
            for name, found in (await ratios({name: kind(enter) for name, enter in enters.items()}, rounds)).items():
                tenth = statistics.quantiles(found, n=10, method="inclusive")[0]
                target = TARGETS.get((title, name), "")
                print(f"{title:12}{name:24}{statistics.median(found):8.2f}{tenth:8.2f}{target:>8}")
    print()
    for waiting in (10, 100, 1000, 10_000):
        each = min([await hand_over(waiting) for _ in range(3)])
        print(f"queue of {waiting:6}: {each * 1e6:6.2f} us a hand-over (target: flat)")


if __name__ == "__main__":
    asyncio.run(main())
