"""The example of mcp-pool, and what it stands for: real MCP sessions, closed by the task that opened them."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from mcp_pool import Event, HookFailed, Pool

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


def test_the_example_prints_what_it_promises() -> None:
    """As its reader would run it."""
    pytest.importorskip("mcp.server.mcpserver", reason="the example is for mcp 2.x")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(ROOT / "examples/pool/sessions.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["10 answers, at most 2 upstreams, 0 in use", "all closed: True"]
