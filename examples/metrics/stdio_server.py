"""An MCP server on stdio that Prometheus can scrape: `python examples/metrics/stdio_server.py`.

It starts itself a second time as the server, calls two tools, scrapes the metrics as Prometheus would, and prints them.
"""

from __future__ import annotations

import os
import socket
import sys
from urllib.request import Request, urlopen

import anyio
from anyio.to_thread import run_sync
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.server import MCPServer
from mcp_metrics import MetricsMiddleware, Registry, serve
from mcp_metrics.testing import assert_metric, find

COUNT = "mcp_server_operation_duration_seconds_count"


def build(registry: Registry) -> MCPServer:
    """Return a server whose every message is measured."""
    server = MCPServer("shop", middleware=[MetricsMiddleware(registry, native=3)])

    @server.tool()
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    @server.tool()
    def divide(a: int, b: int) -> float:
        """Divide two numbers."""
        return a / b

    return server


async def serve_both(port: int) -> None:
    """Speak MCP on stdin and stdout, and answer scrapes on a port beside it."""
    registry = Registry()
    async with serve(registry, port=port):
        await build(registry).run_stdio_async()


def scrape(url: str) -> str:
    """Ask for OpenMetrics."""
    request = Request(url, headers={"accept": "application/openmetrics-text;version=1.0.0"})  # noqa: S310  # our own
    with urlopen(request, timeout=5) as response:  # noqa: S310
        return str(response.read().decode())


async def main() -> None:
    """Call the tools, scrape, and check what is exposed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    parameters = StdioServerParameters(command=sys.executable, args=[__file__, str(port)], env={**os.environ})
    async with Client(stdio_client(parameters)) as client:
        await client.list_tools()
        await client.call_tool("add", {"a": 40, "b": 2})
        await client.call_tool("divide", {"a": 1, "b": 0})
        await client.call_tool("guess", {})
        text = await run_sync(scrape, f"http://127.0.0.1:{port}/metrics")
    for sample in find(text, COUNT, mcp_method_name="tools/call"):
        print(f"{sample.labels['gen_ai_tool_name']:8} {sample.labels.get('error_type', 'ok'):12} {sample.value:g}")
    assert_metric(text, "mcp_server_active_requests", 0)


if __name__ == "__main__":
    anyio.run(serve_both, int(sys.argv[1])) if sys.argv[1:] else anyio.run(main)
