"""What type checkers must accept and infer of mcp-ratelimit; read by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastmcp import FastMCP
from mcp.server import MCPServer, Server
from mcp.server.context import ServerMiddleware
from mcp_ratelimit import (
    Decision,
    Limit,
    LimiterStatistics,
    MemoryStore,
    Middleware,
    RateLimiter,
    RateLimitMiddleware,
    Slot,
    as_fastmcp,
)
from typing_extensions import assert_type

universal: Middleware = RateLimitMiddleware()
for_the_sdk: ServerMiddleware[Any] = RateLimitMiddleware("60/min", tools={"x": Limit("1/s")}, overall="1000/min")
MCPServer("one", middleware=[RateLimitMiddleware(RateLimiter("1/s"))])
Server("two").middleware.append(RateLimitMiddleware())
FastMCP("three").add_middleware(as_fastmcp(RateLimitMiddleware()))

limiter = RateLimiter("10/s; 100/min", Limit(amount=1, per=0.5), store=MemoryStore())
assert_type(limiter.try_acquire("key", 2), bool)
assert_type(limiter.check(("a", "b", "c")), Decision)
assert_type(limiter.take_up_to("key", 3), int)
assert_type(limiter.statistics(), LimiterStatistics)


def by_user(user: int, *, text: str = "") -> str:
    """Name the caller of the function below."""
    return f"{user} {text}"


@limiter.throttle(by_user, timeout=1.0)
async def decorated(user: int, *, text: str = "") -> float:
    """Keep the parameters and the result."""
    return user + len(text)


as_before: Callable[..., Coroutine[Any, Any, float]] = decorated


async def uses() -> None:
    """Infer what a caller gets."""
    assert_type(await limiter.acquire("key", timeout=None), Decision)
    async with limiter.slot("key", refund_if=lambda error: True) as slot:
        assert_type(slot, Slot)
    assert_type(await decorated(1, text="x"), float)
    await decorated("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # must stay an error
