# /// script
# requires-python = ">=3.10"
# dependencies = ["mcp>=2,<3", "fastmcp>=4,<5"]
# ///
"""What all of them together add to a real ``tools/call`` in memory, beside FastMCP's own middleware of the same kinds.

A client of each SDK calls one tool of a server in the same process, over in-memory streams: nothing but the SDK's own
work is around the layers.

- *bare*: the server as it is;
- *the stack*: metrics, rbac, ratelimit, cache (which is told of no tool), retry, circuit and pool, in one chain;
- *the stack, cached*: the same, answered by the cache;
- *FastMCP's own*: its timing, rate limiting, response caching, error handling and retry middleware; it has no roles,
  circuits or pools.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from _ratio import compare, figure
from fastmcp import Client as FastClient
from fastmcp import FastMCP
from fastmcp.server.middleware.caching import ResponseCachingMiddleware
from fastmcp.server.middleware.error_handling import ErrorHandlingMiddleware
from fastmcp.server.middleware.error_handling import RetryMiddleware as FastMCPRetryMiddleware
from fastmcp.server.middleware.rate_limiting import RateLimitingMiddleware
from fastmcp.server.middleware.timing import TimingMiddleware
from mcp import Client
from mcp.server import MCPServer
from mcp_cache import CacheMiddleware
from mcp_circuit import CircuitBreaker, CircuitMiddleware
from mcp_metrics import MetricsMiddleware, Registry
from mcp_middleware import Chain
from mcp_pool import Pool, PoolMiddleware
from mcp_ratelimit import RateLimitMiddleware
from mcp_rbac import Policy, RBACMiddleware, Subject
from mcp_retry import Retry, RetryMiddleware

PLENTY = "1000000/s"
Run = Callable[[], Awaitable[object]]


class Resource:
    """What the pool lends."""

    async def aclose(self) -> None: ...


async def connect() -> Resource:
    return Resource()


def add(a: int, b: int) -> int:
    return a + b


async def stack_of(opened: AsyncExitStack, *, cached: bool) -> Chain:
    """Build all layers, in the recommended order, so that they let everything pass."""
    pool = await opened.enter_async_context(Pool(connect, max_size=4))
    policy = Policy(roles={"user": {"allow": ["tools/list", "tools/call:add"]}})
    return Chain(
        MetricsMiddleware(Registry()),
        RBACMiddleware(policy, local=Subject("ann", {"user"})),
        RateLimitMiddleware(PLENTY),
        CacheMiddleware(tools={"add": 60.0} if cached else {}),
        RetryMiddleware(Retry(on=ConnectionError)),
        CircuitMiddleware(lambda tool: CircuitBreaker(name=tool)),
        PoolMiddleware(pool),
    )


async def official(opened: AsyncExitStack, *middleware: Any) -> Run:
    """A call through the official SDK."""
    server = MCPServer("bench", middleware=list(middleware))
    server.tool()(add)
    client = await opened.enter_async_context(Client(server))

    async def call() -> object:
        return await client.call_tool("add", {"a": 1, "b": 2})

    return call


async def fast(opened: AsyncExitStack, *middleware: Any) -> Run:
    """A call through FastMCP."""
    server = FastMCP("bench")
    server.tool(add)
    for layer in middleware:
        server.add_middleware(layer)
    client = await opened.enter_async_context(FastClient(server))

    async def call() -> object:
        return await client.call_tool("add", {"a": 1, "b": 2})

    return call


def of_fastmcp(*, cached: bool) -> list[Any]:
    """FastMCP's own layers of the same kinds."""
    layers = [
        TimingMiddleware(),
        RateLimitingMiddleware(max_requests_per_second=1e9, burst_capacity=10**9),
        FastMCPRetryMiddleware(),
        ErrorHandlingMiddleware(),
    ]
    return [*layers[:2], ResponseCachingMiddleware(), *layers[2:]] if cached else layers


async def candidates(opened: AsyncExitStack) -> dict[str, Callable[[], object]]:
    """Open everything that is compared."""
    plain, cached = await stack_of(opened, cached=False), await stack_of(opened, cached=True)
    again, again_cached = await stack_of(opened, cached=False), await stack_of(opened, cached=True)
    return {
        "bare, official SDK": await official(opened),
        "the stack, official SDK": await official(opened, plain),
        "the stack, cached, official SDK": await official(opened, cached),
        "bare, FastMCP": await fast(opened),
        "the stack, FastMCP": await fast(opened, again.as_fastmcp()),
        "the stack, cached, FastMCP": await fast(opened, again_cached.as_fastmcp()),
        "FastMCP's own layers": await fast(opened, *of_fastmcp(cached=False)),
        "FastMCP's own layers, cached": await fast(opened, *of_fastmcp(cached=True)),
    }


def main() -> None:
    logging.disable(logging.INFO)  # so that FastMCP's lines about each request are not measured
    rows = compare(candidates, title="a tools/call in memory", rounds=9, calls=100, peers=["mcp", "fastmcp"])
    cost = {row.name: row.nanoseconds / 1000 for row in rows}
    official_adds = cost["the stack, official SDK"] - cost["bare, official SDK"]
    ours, theirs = (cost[name] - cost["bare, FastMCP"] for name in ("the stack, FastMCP", "FastMCP's own layers"))
    figure("the stack adds to a call of the official SDK", official_adds, "µs")
    figure("  of the call's whole", 100 * official_adds / cost["the stack, official SDK"], "%")
    figure("the stack adds to a call of FastMCP", ours, "µs")
    figure("FastMCP's own four layers add", theirs, "µs")


if __name__ == "__main__":
    main()
