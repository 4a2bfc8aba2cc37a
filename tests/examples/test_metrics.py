"""The example of mcp-metrics runs as its reader would run it, and prints what it promises."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import anyio
import pytest
from anyio.to_thread import run_sync

from tests.support.servers import PrometheusServer

PATIENCE = 30.0  # seconds; a scrape comes five times a second
EXAMPLE = Path(__file__).parents[2] / "examples/metrics/stdio_server.py"


def environment_for_mcp_2() -> dict[str, str]:
    """Return the environment that the example needs, or skip."""
    if importlib.util.find_spec("mcp") is None or not version("mcp").startswith("2."):
        pytest.skip("this is for mcp 2")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def test_a_server_on_stdio_is_scraped() -> None:
    """A tool that works, one that fails, and one that does not exist."""
    environment = environment_for_mcp_2()
    done = subprocess.run(
        [sys.executable, EXAMPLE], env=environment, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    assert sorted(line.split() for line in done.stdout.splitlines()) == [
        ["_OTHER", "tool_error", "1"],
        ["add", "ok", "1"],
        ["divide", "tool_error", "1"],
    ]


@pytest.mark.parametrize("anyio_backend", ["uvloop"], indirect=True)  # real time, for a real program
async def test_prometheus_scrapes_the_server_while_it_runs(tmp_path: Path) -> None:
    """A real Prometheus beside a real client: what is stored is what was called."""
    environment = environment_for_mcp_2()
    from mcp import Client, StdioServerParameters
    from mcp.client.stdio import stdio_client

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    prometheus = PrometheusServer(tmp_path, f"127.0.0.1:{port}")
    parameters = StdioServerParameters(command=sys.executable, args=[str(EXAMPLE), str(port)], env=environment)
    calls = 'histogram_count(mcp_server_operation_duration_seconds{gen_ai_tool_name="add"})'
    async with Client(stdio_client(parameters)) as client:
        for _ in range(3):
            await client.call_tool("add", {"a": 40, "b": 2})
        await run_sync(prometheus.start)
        try:
            with anyio.fail_after(PATIENCE):
                while [value for _, value in await run_sync(prometheus.query, calls)] != [3]:
                    await anyio.sleep(0.1)
            assert [value for _, value in await run_sync(prometheus.query, "up")] == [1]
        finally:
            prometheus.kill()
