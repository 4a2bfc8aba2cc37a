"""The whole stack in a FastMCP server (4, 3 or 2), and FastMCP's client to drive it."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from pathlib import Path

from demo.shop import Database, PriceList
from demo.stack import Stack
from fastmcp import Client, FastMCP
from mcp_pool import Pool
from mcp_rbac import Policy, Subject

folder = tempfile.TemporaryDirectory()
prices = PriceList()
stack = Stack(
    Policy(roles={"clerk": {"allow": ["tools/list", "tools/call:price", "tools/call:stock"]}}),
    Pool(Database.at(Path(folder.name) / "stock.db"), reset=Database.rollback, max_size=2),
    upstream=["price"],
    database=["stock"],
    local=Subject("clerk", {"clerk"}),
)
server = FastMCP("stationer")
server.add_middleware(stack.chain.as_fastmcp())


@server.tool
async def price(article: str) -> float:
    """Look a price up."""
    return await prices.price(article)


@server.tool
async def stock(article: str) -> int:
    """Count what is left of an article."""
    ((left,),) = await stack.database.current().query("SELECT length(?)", article)
    return int(left)


@server.tool
async def payroll() -> str:
    """Tell what nobody here may know."""
    return "secret"


async def main() -> None:
    """Call the tools in memory."""
    logging.disable(logging.CRITICAL)  # FastMCP logs each failure, and these are retried
    async with stack, Client(server) as client:
        print("shown   ", ", ".join(sorted(tool.name for tool in await client.list_tools())))
        for tool in ("price", "price", "stock"):
            print(f"{tool:8}", (await client.call_tool(tool, {"article": "paper"})).data)
        print("asked   ", prices.asked.total(), "times,", stack.cache.statistics().hits, "answer was known")
        try:
            await client.call_tool("payroll")
        except Exception as unknown:  # noqa: BLE001  # ToolError or NotFoundError, as FastMCP itself answers
            print("payroll ", unknown)
    folder.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
