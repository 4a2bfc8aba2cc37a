"""The same chain in a FastMCP server (2, 3 or 4), and FastMCP's client to drive it."""

from __future__ import annotations

import asyncio

from fastmcp import Client, FastMCP

from audit import chain

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
        except Exception as refused:  # 2 and 3 raise ToolError, without code and data; 4 raises MCPError, with both
            print("client ", refused)


if __name__ == "__main__":
    asyncio.run(main())
