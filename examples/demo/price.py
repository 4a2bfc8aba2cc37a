"""Act eight: what all of this costs, measured beside the same server without it."""

from __future__ import annotations

import statistics
import time

from mcp import Client
from mcp.server.mcpserver import MCPServer
from mcp_pool import Pool
from mcp_ratelimit import RateLimiter
from mcp_rbac import Policy, Subject

from .shop import Database
from .stack import Stack
from .stage import Stage

ROUNDS = 200
AFFORDABLE = 0.002  # seconds of CPU; a call over HTTP takes several times as much


async def play(stage: Stage) -> None:
    """Call a tool in turns, with all layers before it and without."""
    stage.act("The price", f"The same tool with all layers and without, {ROUNDS} calls each, in turns.")
    policy = Policy(roles={"anyone": {"allow": ["tools/list", "tools/call:*"]}})
    stack = Stack(
        policy,
        Pool(Database.at(stage.folder / "orders.db")),
        upstream=["nothing"],
        database=["add"],
        local=Subject(roles={"anyone"}),
        limiter=RateLimiter("1000000/min"),
    )
    took: dict[str, list[float]] = {"without": [], "with": []}
    async with stack, Client(_server()) as bare, Client(_server(stack)) as guarded:
        with stage.progress("calls") as show:
            for done in range(ROUNDS):
                for name, client in (("without", bare), ("with", guarded)):
                    start = time.process_time()
                    await client.call_tool("add", {"a": done, "b": 1})
                    took[name].append(time.process_time() - start)
                show(done + 1, ROUNDS)
    without, behind = (statistics.median(took[name]) for name in ("without", "with"))
    stage.cost = behind - without
    stage.tell(f"median CPU of a call in memory: {without * 1e3:.2f} ms without, {behind * 1e3:.2f} ms with")
    text = f"all seven layers together cost less than {AFFORDABLE * 1e3:g} ms"
    stage.claim(text, stage.cost < AFFORDABLE, True)


def _server(stack: Stack[Database] | None = None) -> MCPServer:
    server = MCPServer("calculator", log_level="CRITICAL", middleware=[stack.chain] if stack else [])

    @server.tool()
    def add(a: int, b: int) -> int:
        return a + b

    return server
