"""The example of mcp-retry prints what it promises, and the storm comes out as the page says."""

from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from mcp_retry import Retry, RetryMiddleware, as_fastmcp, constant

ROOT = Path(__file__).parents[2]
PRINTED = """\
event   Recovered(attempts=2)
client  forecast sunny in Oslo
client  book failed
event   GaveUp(attempts=3, reason='attempts', error=<class 'ConnectionError'>)
caller  no forecast today
budget  3 retries spent, 1 booking tried
"""


def test_the_example_prints_what_it_promises() -> None:
    """An example that does not run is worse than none."""
    if importlib.util.find_spec("mcp") is None or not version("mcp").startswith("2."):
        pytest.skip("this is for mcp 2, which is not installed here")
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples/retry/flaky_weather.py")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.stdout, done.stderr) == (PRINTED, "")


def major(package: str) -> int:
    """Return the major version of an installed package, 0 without it."""
    return int(version(package).split(".")[0]) if importlib.util.find_spec(package) else 0


class Upstream:
    """What the tools of a server call: every request but the third fails."""

    def __init__(self) -> None:
        self.requests: list[str] = []

    async def read(self) -> str:
        """A tool that reads."""
        return self._request("read")

    async def pay(self) -> str:
        """A tool that must not run twice."""
        return self._request("pay")

    def _request(self, name: str) -> str:
        self.requests.append(name)
        if self.requests.count(name) < 3:
            raise ConnectionError("the line is down")
        return name


def retrying() -> RetryMiddleware:
    """A middleware that does not wait."""
    return RetryMiddleware(Retry(on=ConnectionError, backoff=constant(0)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("anyio_backend", ["uvloop"], indirect=True)
async def test_fastmcp_repeats_what_is_annotated(anyio_backend: Any) -> None:
    """Its ToolError hides the cause; learned from the list that a client asks for."""
    if not major("fastmcp"):
        pytest.skip("fastmcp is not installed here")
    import fastmcp

    upstream, server = Upstream(), fastmcp.FastMCP("upstream")
    server.tool(upstream.read, annotations={"readOnlyHint": True})
    server.tool(upstream.pay)
    server.add_middleware(as_fastmcp(retrying()))
    async with fastmcp.Client(server) as client:
        await client.list_tools()
        assert (await client.call_tool("read")).data == "read"
        with pytest.raises(Exception, match=r"line is down|Error calling tool|pay"):
            await client.call_tool("pay")
    assert upstream.requests == ["read", "read", "read", "pay"]


@pytest.mark.parametrize("anyio_backend", ["uvloop"], indirect=True)
async def test_the_1x_sdk_repeats_what_is_annotated(anyio_backend: Any) -> None:
    """Its results are models inside of a wrapper."""
    if major("mcp") != 1 or major("fastmcp"):
        pytest.skip("this is for mcp 1 alone")
    import mcp_middleware
    from mcp.server.fastmcp import FastMCP
    from mcp.shared.memory import create_connected_server_and_client_session
    from mcp.types import ToolAnnotations

    upstream, server = Upstream(), FastMCP("upstream")
    server.tool(annotations=ToolAnnotations(readOnlyHint=True))(upstream.read)
    server.tool()(upstream.pay)
    mcp_middleware.install(server, retrying())
    async with create_connected_server_and_client_session(server._mcp_server) as client:
        await client.list_tools()
        assert not (await client.call_tool("read")).isError
        assert (await client.call_tool("pay")).isError
    assert upstream.requests == ["read", "read", "read", "pay"]


@pytest.fixture(scope="module")
def storm() -> Any:
    """The simulation, which lies among the benchmarks."""
    spec = importlib.util.spec_from_file_location("retry_storm", ROOT / "benchmarks/retry_storm.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["retry_storm"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("offered", [500, 700])
def test_the_defaults_survive_the_storm(storm: Any, offered: int) -> None:
    """At half and at seven tenths of the capacity, the server recovers as if nobody had retried."""
    outcome = storm.Simulation(storm.ours, storm.evenly(offered)).run()
    assert outcome.success >= 0.86
    assert outcome.sends_a_call <= 1.05
    assert outcome.recovered_after <= 7


def test_the_throttle_survives_at_nine_tenths(storm: Any) -> None:
    """Where ten per cent more is already too much."""
    assert storm.Simulation(storm.ours, storm.evenly(900)).run().recovered_after == math.inf
    assert storm.Simulation(storm.ours_with_throttle, storm.evenly(900)).run().recovered_after <= 12
    assert storm.Simulation(storm.ours_with_throttle, storm.at_random(900, seed=1)).run().recovered_after <= 15


@pytest.mark.parametrize("policy", ["stamina_defaults", "ours_without_budget"])
def test_without_a_budget_it_never_ends(storm: Any, policy: str) -> None:
    """The simulation would show it if a budget did nothing; tenacity's default is the same, and slow to compute."""
    outcome = storm.Simulation(getattr(storm, policy), storm.evenly(500), seconds=40).run()
    assert outcome.recovered_after == math.inf
    assert outcome.shares[-2] < 0.1
