"""The same chain in a server of mcp 1.x, which has a table of handlers instead of a chain."""

from __future__ import annotations

import anyio
from audit import chain
from mcp import McpError
from mcp.server.fastmcp import FastMCP
from mcp.shared.memory import create_connected_server_and_client_session
from mcp_middleware import install

server = FastMCP("calculator", log_level="WARNING")
install(server, chain)


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
def delete_everything() -> str:
    """Never runs."""
    return "deleted"


async def main() -> None:
    """Call both tools in memory."""
    async with create_connected_server_and_client_session(server) as client:
        result = await client.call_tool("add", {"a": 40, "b": 2})
        print("client ", result.structuredContent)
        try:
            await client.call_tool("delete_everything")
        except McpError as refused:
            print("client ", refused.error.code, refused.error.message, refused.error.data)


if __name__ == "__main__":
    anyio.run(main)
