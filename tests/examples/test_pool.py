"""The example of mcp-pool, and what it stands for: real MCP sessions, closed by the task that opened them."""

from __future__ import annotations

import logging
import os
import runpy
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from mcp_pool import Event, HookFailed, Pool

from tests.support.servers import PostgresServer, RedisServer, private_postgres

ROOT = Path(__file__).parents[2]
CYCLES = 200

SERVER = """
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("method") == "initialize":
        result = {"protocolVersion": message["params"]["protocolVersion"], "capabilities": {},
                  "serverInfo": {"name": "small", "version": "1"}}
    elif "id" in message:
        result = {}
    else:
        continue
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
"""
"""A whole MCP server that starts in a few milliseconds: it answers every request."""


def children() -> set[str]:
    """Processes that this one has started and that live on."""
    return {child for task in Path("/proc/self/task").iterdir() for child in (task / "children").read_text().split()}


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are counted in /proc, which is not here")
@pytest.mark.parametrize("anyio_backend", ["uvloop"], indirect=True)
async def test_sessions_are_opened_and_closed_by_their_owner(
    anyio_backend: object, caplog: pytest.LogCaptureFixture
) -> None:
    """200 lives of a session, borrowed by tasks of their own: no error, not even at debug level, no process left."""
    mcp = pytest.importorskip("mcp", reason="this needs an MCP SDK")
    stdio = pytest.importorskip("mcp.client.stdio")
    parameters = mcp.StdioServerParameters(command=sys.executable, args=["-I", "-S", "-c", SERVER])

    @asynccontextmanager
    async def upstream() -> AsyncGenerator[mcp.ClientSession]:
        async with stdio.stdio_client(parameters) as (read, write), mcp.ClientSession(read, write) as session:
            await session.initialize()
            yield session

    events: list[Event] = []
    before = children()
    caplog.set_level(logging.DEBUG)
    async with Pool.from_context(upstream, max_size=4, max_uses=1, on_event=events.append, timeout=50) as pool:

        async def use() -> None:
            async with pool.acquire() as session:
                await session.send_ping()

        async with anyio.create_task_group() as tasks:
            for _ in range(CYCLES):
                tasks.start_soon(use)
    assert pool.statistics().closed == {"uses": CYCLES}
    assert [event for event in events if isinstance(event, HookFailed)] == []
    assert "different task" not in caplog.text
    assert children() <= before


PRINTED = {
    "sessions.py": ["10 answers, at most 2 upstreams, 0 in use", "all closed: True"],
    "resources.py": ["[(30,)] over at most 4 connections"],
}


@pytest.mark.parametrize("script", PRINTED)
def test_the_examples_print_what_they_promise(script: str) -> None:
    """As their reader would run them."""
    if script == "sessions.py":
        pytest.importorskip("mcp.server.mcpserver", reason="the example is for mcp 2.x")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(ROOT / "examples/pool" / script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == PRINTED[script]


RESOURCES = runpy.run_path(str(ROOT / "examples/pool/resources.py"))


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    """One for each test."""
    with private_postgres() as server:
        yield server


@pytest.mark.parametrize("anyio_backend", ["uvloop"], indirect=True)
@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_the_recipes_for_postgres(anyio_backend: object, driver: str, postgres: PostgresServer) -> None:
    """What one borrower leaves undone is not the next one's: a setting, or a transaction."""
    pytest.importorskip(driver, reason=f"{driver} is not installed here; it is in the group 'test'")
    async with RESOURCES[f"{driver}_pool"](postgres.url) as pool:
        async with pool.acquire() as connection:
            await connection.execute("set work_mem = '1MB'")
        async with pool.acquire() as again:
            shown = await again.execute("show work_mem") if driver == "psycopg" else None
            row = await (shown.fetchone() if shown else again.fetchrow("show work_mem"))
        assert again is connection
        assert row[0] != "1MB"


@pytest.mark.parametrize("anyio_backend", ["uvloop"], indirect=True)
async def test_the_recipe_for_redis(anyio_backend: object, redis_server: RedisServer) -> None:
    """A real server answers."""
    pytest.importorskip("redis", reason="redis is not installed here; it is in the group 'test'")
    async with RESOURCES["redis_pool"](redis_server.host, redis_server.port) as pool, pool.acquire() as client:
        assert await client.echo("hello") == b"hello"


@pytest.mark.parametrize("anyio_backend", ["uvloop"], indirect=True)
async def test_the_recipe_for_http(anyio_backend: object) -> None:
    """A call that cannot connect spoils its client, as the recipe says."""
    httpx = pytest.importorskip("httpx", reason="httpx is not installed here; it is in the group 'test'")
    async with RESOURCES["http_pool"]() as pool:
        with pytest.raises(httpx.ConnectError):
            await pool.call(httpx.AsyncClient.get, "http://127.0.0.1:9/")
    assert pool.statistics().closed == {"broken": 1}
