"""A gateway's pool of MCP client sessions over stdio: each upstream process serves many callers, one at a time."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.server.mcpserver import MCPServer
from mcp_pool import Pool


@asynccontextmanager
async def upstream() -> AsyncGenerator[ClientSession]:
    """Start this very program as a server, and open a session to it; both end in the task that began them."""
    server = StdioServerParameters(command=sys.executable, args=[__file__, "serve"])
    async with stdio_client(server) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        yield session


async def main() -> None:
    """Ask ten things of two upstreams, and give up on one of them half-way."""
    answers: list[str] = []

    async with Pool.from_context(upstream, max_size=2, connect_timeout=30, name="upstreams") as pool:

        async def ask(number: int) -> None:
            async with pool.acquire() as session:
                result = await session.call_tool("double", {"number": number})
                answers.append(str(result.structured_content))

        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(ask, number)
        with anyio.move_on_after(0.05):
            async with pool.acquire() as session:
                await session.call_tool("double", {"number": -1})
        found = pool.statistics()
        print(f"{len(answers)} answers, at most {found.max_size} upstreams, {found.in_use} in use")
    print(f"all closed: {sum(pool.statistics().closed.values()) == pool.statistics().connects}")


def serve() -> None:
    """Be the upstream."""
    server = MCPServer("upstream")

    @server.tool()
    async def double(number: int) -> int:
        """Double a number; takes its time over a negative one."""
        await anyio.sleep(9 if number < 0 else 0)
        return number * 2

    server.run()


if __name__ == "__main__":
    serve() if "serve" in sys.argv else anyio.run(main)
