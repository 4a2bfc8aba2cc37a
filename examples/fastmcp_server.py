"""The same chain in a FastMCP server (2, 3 or 4), and FastMCP's client to drive it."""

from __future__ import annotations

import asyncio

from audit import chain
from fastmcp import Client, FastMCP

server = FastMCP("calculator")
server.add_middleware(chain.as_fastmcp())


@server.tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool
def delete_everything() -> str:
    """Never runs."""
    return "deleted"


async def main() -> None:
    """Call both tools in memory."""
    async with Client(server) as client:
        result = await client.call_tool("add", {"a": 40, "b": 2})
        print("client ", result.structured_content)
        try:
            await client.call_tool("delete_everything")
        except Exception as refused:  # noqa: BLE001  # ToolError in 2 and 3, text only; MCPError with all in 4
            print("client ", refused)


if __name__ == "__main__":
    asyncio.run(main())
