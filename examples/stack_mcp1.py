"""The whole stack in a server of mcp 1.x, and the SDK's client to drive it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import anyio
from demo.shop import Database, PriceList
from demo.stack import Stack
from mcp.server.fastmcp import FastMCP
from mcp.shared.memory import create_connected_server_and_client_session
from mcp_middleware import install
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
server = FastMCP("stationer", log_level="CRITICAL")
install(server, stack.chain)


@server.tool()
async def price(article: str) -> float:
    """Look a price up."""
    return await prices.price(article)


@server.tool()
async def stock(article: str) -> int:
    """Count what is left of an article."""
    ((left,),) = await stack.database.current().query("SELECT length(?)", article)
    return int(left)


@server.tool()
async def payroll() -> str:
    """Tell what nobody here may know."""
    return "secret"


async def main() -> None:
    """Call the tools in memory."""
    async with stack, create_connected_server_and_client_session(server) as client:
        print("shown   ", ", ".join(sorted(tool.name for tool in (await client.list_tools()).tools)))
        for tool in ("price", "price", "stock"):
            print(f"{tool:8}", (await client.call_tool(tool, {"article": "paper"})).structuredContent["result"])
        print("asked   ", prices.asked.total(), "times,", stack.cache.statistics().hits, "answer was known")
        print("payroll ", (await client.call_tool("payroll")).content[0].text)
    folder.cleanup()


if __name__ == "__main__":
    anyio.run(main)
