"""A server that limits its callers, and a client that comes back when it was told to."""

from __future__ import annotations

import asyncio

from mcp import Client
from mcp.server import MCPServer
from mcp.shared.exceptions import MCPError
from mcp_ratelimit import RateLimitMiddleware

limits = RateLimitMiddleware("10/s burst 2", tools={"slow_*": "30/min burst 1"})
server = MCPServer("clock", middleware=[limits])


@server.tool()
def slow_add(a: int, b: int) -> int:
    """Add two numbers, which must not be asked for too often."""
    return a + b


async def patient(client: Client, a: int) -> str:
    """Call the tool, and wait for as long as a refusal says."""
    try:
        result = await client.call_tool("slow_add", {"a": a, "b": 1})
    except MCPError as refused:
        print(f"client  refused by {refused.data['policy']!r}")
        await asyncio.sleep(refused.data["retryAfterMs"] / 1000)
        result = await client.call_tool("slow_add", {"a": a, "b": 1})
    return f"client  {result.structured_content}"


async def main() -> None:
    """Call it twice in a row."""
    async with Client(server) as client:
        print(await patient(client, 1))
        print(await patient(client, 2))


if __name__ == "__main__":
    asyncio.run(main())
