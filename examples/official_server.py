"""The chain in a server of the official SDK (mcp 2.x), and the SDK's client to drive it."""

from __future__ import annotations

import anyio
from audit import chain
from mcp import Client
from mcp.server.mcpserver import MCPServer
from mcp.shared.exceptions import MCPError

server = MCPServer("calculator", middleware=[chain])


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
def delete_everything() -> str:
    """Never runs."""
    return "deleted"


async def main() -> None:
    """Call both tools in memory; over stdio or HTTP nothing changes but the client's argument."""
    async with Client(server) as client:
        result = await client.call_tool("add", {"a": 40, "b": 2})
        print("client ", result.structured_content)
        try:
            await client.call_tool("delete_everything")
        except MCPError as refused:
            print("client ", refused.code, refused.message, refused.data)


if __name__ == "__main__":
    anyio.run(main)
