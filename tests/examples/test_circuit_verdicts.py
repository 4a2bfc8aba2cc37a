"""The words and classes by which each SDK says that the caller was at fault, as the breaker knows them."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from importlib.metadata import PackageNotFoundError, version

import pytest
from mcp_circuit import CircuitBreaker, CircuitMiddleware, State, as_fastmcp, consecutive

CALLERS_FAULTS = [("unknown", {}), ("divide", {"by": "three"}), ("divide", {})]


def major(package):
    """The installed major version, 0 for none."""
    try:
        return int(version(package).split(".")[0])
    except PackageNotFoundError:
        return 0


def furnish(server):
    """One tool that works, and fails when it is asked to."""

    @server.tool()
    def divide(by: int) -> float:
        """Divide one by a number."""
        return 1 / by

    return server


@asynccontextmanager
async def mcp2(middleware):
    """The official SDK."""
    from mcp import Client
    from mcp.server import MCPServer

    async with Client(furnish(MCPServer("test", middleware=[middleware], log_level="CRITICAL"))) as client:
        yield client


@asynccontextmanager
async def mcp1(middleware):
    """The official SDK before its chain."""
    from mcp.server.fastmcp import FastMCP
    from mcp.shared.memory import create_connected_server_and_client_session
    from mcp_middleware import install

    server = furnish(FastMCP("test", log_level="CRITICAL"))
    install(server, middleware)
    async with create_connected_server_and_client_session(server) as client:
        yield client


@asynccontextmanager
async def fastmcp(middleware):
    """FastMCP."""
    from fastmcp import Client, FastMCP

    server = furnish(FastMCP("test"))
    server.add_middleware(as_fastmcp(middleware))
    async with Client(server) as client:
        yield client


async def call(client, tool, arguments):
    """Call a tool, however it ends."""
    with suppress(Exception):  # FastMCP's client raises what the others return
        await client.call_tool(tool, arguments)


@pytest.mark.parametrize("anyio_backend", ["uvloop"], indirect=True)
@pytest.mark.parametrize(
    "connect",
    [
        pytest.param(mcp2, marks=pytest.mark.skipif(major("mcp") != 2, reason="needs mcp 2")),
        pytest.param(mcp1, marks=pytest.mark.skipif(major("mcp") != 1, reason="needs mcp 1")),
        pytest.param(fastmcp, marks=pytest.mark.skipif(not major("fastmcp"), reason="needs FastMCP")),
    ],
)
async def test_only_the_tools_own_failures_count(connect):
    """A caller who does not know the tools, or their arguments, must not close them to others."""
    middleware = CircuitMiddleware(lambda tool: CircuitBreaker(name=tool, trip=consecutive(1)))
    async with connect(middleware) as client:
        for tool, arguments in CALLERS_FAULTS:
            await call(client, tool, arguments)
        assert len(middleware.breakers) == 0
        await call(client, "divide", {"by": 2})
        assert middleware.breakers["divide"].statistics().calls == 1
        await call(client, "divide", {"by": 0})
        assert middleware.breakers["divide"].state is State.OPEN
