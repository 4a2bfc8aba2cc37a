"""The pool in front of the real thing: two PostgreSQL drivers, Redis, SQLite and HTTP clients, in real time."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from mcp_pool import Pool, PoolUnavailable

from tests.support.servers import PostgresServer, RedisServer, private_postgres

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("anyio_backend", ["uvloop"], indirect=True),
    pytest.mark.uninstrumented,
]

MARK = "pool under test"
PATIENCE = 30.0  # seconds for what is normally done in a few milliseconds: a busy machine is not a broken one
LATE = 20.0  # seconds after its limit that a caller would count as hanging; nothing here depends on how quick it is
AT_LAST = 90.0  # seconds in which all must be well again, crash recovery on a busy machine included


def need(module: str) -> Any:
    return pytest.importorskip(module, reason=f"{module} is not installed here; it is in the group 'test'")


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """One for all tests here."""
    with private_postgres() as server:
        yield server


class Driver(NamedTuple):
    """What the tests need to know of a PostgreSQL driver."""

    connect: Callable[[], Awaitable[Any]]
    value: Callable[[Any, str], Awaitable[Any]]


def asyncpg(server: PostgresServer) -> Driver:
    module = need("asyncpg")

    async def connect() -> Any:
        return await module.connect(server.url, server_settings={"application_name": MARK}, timeout=PATIENCE)

    return Driver(connect, lambda connection, query: connection.fetchval(query))


def psycopg(server: PostgresServer) -> Driver:
    module = need("psycopg")

    async def connect() -> Any:
        return await module.AsyncConnection.connect(server.url, application_name=MARK, autocommit=True)

    async def value(connection: Any, query: str) -> Any:
        cursor = await connection.execute(query)
        return (await cursor.fetchone())[0]

    return Driver(connect, value)


async def close(connection: Any) -> None:
    """Close without waiting for a server that does not answer: asyncpg would."""
    terminate = getattr(connection, "terminate", None)
    await (terminate() or anyio.lowlevel.checkpoint() if terminate else connection.close())


def pool_of(driver: Driver, **options: Any) -> Pool[Any]:
    async def check(connection: Any) -> None:
        await driver.value(connection, "select 1")

    hooks = {"check": check, "check_after": 0, "check_timeout": PATIENCE, "close_timeout": 0.5}
    limits = {"max_size": 3, "connect_timeout": PATIENCE, "backoff": 0.05, "max_backoff": 0.2, "drain_timeout": 2.0}
    return Pool(driver.connect, close=close, **{**hooks, **limits, **options})


async def connections(driver: Driver) -> int:
    """How many of the pool's the server itself sees."""
    connection = await driver.connect()
    try:
        query = f"select count(*) from pg_stat_activity where application_name = '{MARK}'"
        return int(await driver.value(connection, query)) - 1
    finally:
        await connection.close()


def processes(server: PostgresServer) -> list[int]:
    """The server and its children, one of which talks to each client."""
    assert server._process is not None
    pid = server._process.pid
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


async def none_left(driver: Driver) -> None:
    with anyio.fail_after(AT_LAST):
        while await connections(driver):
            await anyio.sleep(0.05)


class Storm:
    """Ten borrowers, until *enough(storm)*: how many queries went well, and what went wrong with the others.

    No caller may hang past its *limit*. A busy machine may be late by itself, so what is too late is far beyond.
    """

    def __init__(self, pool: Pool[Any], driver: Driver, limit: float) -> None:
        self.good = 0
        self.errors: list[BaseException] = []
        self._pool = pool
        self._driver = driver
        self._limit = limit

    async def _borrow(self) -> None:
        try:
            with anyio.fail_after(self._limit):
                async with self._pool.acquire() as connection:
                    assert await self._driver.value(connection, "select 7") == 7
            self.good += 1
        except Exception as error:  # noqa: BLE001  # whatever a driver or the pool raises
            self.errors.append(error)

    async def rage(self, enough: Callable[[Storm], bool]) -> Storm:
        async def borrow() -> None:
            while not enough(self):
                with anyio.fail_after(self._limit + LATE):
                    await self._borrow()
                await anyio.sleep(0.002)

        with anyio.fail_after(AT_LAST):
            async with anyio.create_task_group() as tg:
                for _ in range(10):
                    tg.start_soon(borrow)
        return self


async def storm(pool: Pool[Any], driver: Driver, enough: Callable[[Storm], bool], limit: float = PATIENCE) -> Storm:
    return await Storm(pool, driver, limit).rage(enough)


async def healed(pool: Pool[Any], driver: Driver) -> None:
    """Wait until a storm passes without any error."""
    with anyio.fail_after(AT_LAST):
        while (await storm(pool, driver, lambda storm: storm.good >= 30 or bool(storm.errors))).errors:
            await anyio.sleep(0.1)
    assert pool.statistics().available
    assert await connections(driver) <= 3


@pytest.fixture(params=[asyncpg, psycopg], ids=["asyncpg", "psycopg"])
def driver(request: pytest.FixtureRequest, postgres: PostgresServer) -> Driver:
    """Each driver in turn."""
    return request.param(postgres)  # type: ignore[no-any-return]


async def test_postgres_serves_and_is_left_clean(driver: Driver) -> None:
    """The plain case: many queries over few connections, none of which stays behind."""
    async with pool_of(driver) as pool:
        errors = (await storm(pool, driver, lambda storm: storm.good >= 100)).errors
        assert errors == [], [error.__cause__ for error in errors]
        assert await connections(driver) == pool.statistics().connects <= 3
    await none_left(driver)


async def test_postgres_kills_connections(driver: Driver) -> None:
    """An administrator ends them all, again and again: the check finds out, and only who was using one notices."""
    kills = 3
    async with pool_of(driver) as pool:
        administrator = await driver.connect()
        raging = Storm(pool, driver, limit=PATIENCE)
        victims = f"pg_stat_activity where application_name = '{MARK}' and pid <> pg_backend_pid()"
        for kill in range(1, kills + 1):
            async with anyio.create_task_group() as tg:
                tg.start_soon(raging.rage, lambda storm, kill=kill: storm.good >= 40 * kill)
                await anyio.sleep(0.05)
                await driver.value(administrator, f"select count(pg_terminate_backend(pid)) from {victims}")
        await administrator.close()
        assert len(raging.errors) <= 3 * kills
        assert pool.statistics().connects > 3
        await healed(pool, driver)
    await none_left(driver)


async def test_postgres_restarts(driver: Driver, postgres: PostgresServer) -> None:
    """Refused while it is away, served when it is back, and nobody has to do anything."""
    async with pool_of(driver) as pool:
        await storm(pool, driver, lambda storm: storm.good >= 10)
        await anyio.to_thread.run_sync(postgres.kill)
        away = await storm(pool, driver, lambda _: not pool.statistics().available)
        away = await storm(pool, driver, lambda storm: len(storm.errors) >= 20)
        assert away.good == 0
        assert any(isinstance(error, PoolUnavailable) for error in away.errors)
        await anyio.to_thread.run_sync(postgres.start)
        await healed(pool, driver)
    await none_left(driver)


async def test_postgres_freezes(driver: Driver, postgres: PostgresServer) -> None:
    """A server that accepts and says nothing: every caller's limit holds, and so do the pool's."""
    async with pool_of(driver, check_after=60, connect_timeout=5.0) as pool:
        await storm(pool, driver, lambda storm: storm.good >= 10)
        frozen = processes(postgres)
        for pid in frozen:
            os.kill(pid, 19)
        try:
            stuck = await storm(pool, driver, lambda storm: len(storm.errors) >= 20, limit=0.2)
        finally:
            for pid in frozen:
                os.kill(pid, 18)
        assert stuck.good == 0
        await healed(pool, driver)
    await none_left(driver)


async def test_redis_connections(redis_server: RedisServer) -> None:
    """A caller that is cancelled between command and reply leaves no reply for the next one to read."""
    redis = need("redis.asyncio")

    async def connect() -> Any:
        connection = redis.Connection(host=redis_server.host, port=redis_server.port)
        await connection.connect()
        return connection

    async def ask(connection: Any, *command: str) -> Any:
        await connection.send_command(*command)
        return await connection.read_response()

    async with Pool(connect, close=lambda connection: connection.disconnect(), max_size=2) as pool:
        await pool.call(ask, "PING")  # so that what is cancelled is the command, and not the connecting
        with anyio.move_on_after(0.1):
            await pool.call(ask, "BLPOP", "nothing", "1")

        async def echo(number: int) -> None:
            with anyio.move_on_after(0.001 if number % 3 == 0 else AT_LAST):
                assert await pool.call(ask, "ECHO", str(number)) == str(number).encode()

        async with anyio.create_task_group() as tg:
            for number in range(200):
                tg.start_soon(echo, number)
        assert pool.statistics().closed["broken"] >= 1
        assert pool.statistics().uses > 100


async def test_sqlite_in_threads(tmp_path: Path) -> None:
    """The standard library's connection belongs to one thread at a time, which is what a pool gives."""

    async def connect() -> sqlite3.Connection:
        return sqlite3.connect(tmp_path / "db", check_same_thread=False)

    async def add(connection: sqlite3.Connection, number: int) -> None:
        def insert() -> None:
            with connection:
                connection.execute("insert into numbers values (?)", (number,))

        await anyio.to_thread.run_sync(insert)

    async with Pool(connect, max_size=3) as pool, anyio.create_task_group() as tg:
        async with pool.acquire() as connection:
            connection.execute("create table numbers (number)")
        for number in range(30):
            tg.start_soon(pool.call, add, number)
    assert sqlite3.connect(tmp_path / "db").execute("select count(*) from numbers").fetchone() == (30,)


async def test_aiosqlite(tmp_path: Path) -> None:
    """A library whose connection is a thread: all of them end with the pool."""
    aiosqlite = need("aiosqlite")

    async def connect() -> Any:
        return await aiosqlite.connect(tmp_path / "db")

    async def one(connection: Any) -> int:
        async with connection.execute("select 1") as cursor:
            return int((await cursor.fetchone())[0])

    async with Pool(connect, max_size=2) as pool:
        assert [await pool.call(one) for _ in range(5)] == [1] * 5


async def test_httpx_clients() -> None:
    """A client is a context manager, entered and left by its owner."""
    httpx = need("httpx")

    async def answer(stream: Any) -> None:
        async with stream:
            while b"\r\n\r\n" not in await stream.receive():
                pass
            await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with anyio.create_task_group() as tg:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        tg.start_soon(listener.serve, answer)
        url = f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}/"

        async def get(client: Any) -> str:
            return (await client.get(url)).text  # type: ignore[no-any-return]

        async with Pool.from_context(httpx.AsyncClient, max_size=2) as pool:
            assert [await pool.call(get) for _ in range(5)] == ["ok"] * 5
        tg.cancel_scope.cancel()
    await listener.aclose()
