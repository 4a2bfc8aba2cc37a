"""The whole stack in front of a client (mcp 2.x), for a server that is not ours and stumbles.

The pool lends tickets here: at most two calls are on their way at once.
"""

from __future__ import annotations

import logging
import os
import sys

import anyio
from demo.shop import PriceList
from demo.stack import Stack
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.server import MCPServer
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher
from mcp_pool import Pool
from mcp_rbac import Policy, Subject


class Ticket:
    """Whoever has one may call."""

    @classmethod
    async def issue(cls) -> Ticket:
        """Make one."""
        return cls()

    async def aclose(self) -> None:
        """Tear it up."""


async def main() -> None:
    """Ask what six things cost, all at once, and then do what an agent must not do."""
    policy = Policy(roles={"agent": {"allow": ["**"], "deny": ["tools/call:buy"]}})
    tickets = Pool(Ticket.issue, max_size=2, name="tickets")
    agent = Subject("agent", {"agent"})
    stack = Stack(policy, tickets, upstream=["price"], database=["*"], local=agent, side="client")
    program = StdioServerParameters(command=sys.executable, args=[__file__, "serve"], env={**os.environ})

    async with stack, stdio_client(program) as (read, write):
        dispatcher = stack.chain.wrap_dispatcher(JSONRPCDispatcher(read, write))
        async with ClientSession(dispatcher=dispatcher) as session:
            await session.initialize()
            for title in ("asked", "asked again"):
                answers: list[str] = []

                async def ask(article: str, answers: list[str] = answers) -> None:
                    result = await session.call_tool("price", {"article": article})
                    answers.append(str((result.structured_content or {}).get("result")))

                async with anyio.create_task_group() as tasks:
                    for article in ("ink", "paper", "string"):
                        tasks.start_soon(ask, article)
                print(f"{title:12}", " ".join(sorted(answers)))
            refused = await session.call_tool("buy", {})
            print("buy         ", refused.content[0].text)  # type: ignore[union-attr]  # the server answers in text
    retries, hits = stack.retry.statistics().retries, stack.cache.statistics().hits
    print("the stack   ", f"{retries} retries, {hits} hits, {tickets.statistics().connects} tickets")


def serve() -> None:
    """Be the server."""
    logging.disable(logging.CRITICAL)
    server, prices = MCPServer("shop", log_level="CRITICAL"), PriceList()
    server.tool()(prices.price)

    @server.tool()
    def buy() -> str:
        """Spend money."""
        return "bought"

    server.run()


if __name__ == "__main__":
    serve() if "serve" in sys.argv else anyio.run(main)
