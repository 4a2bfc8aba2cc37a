"""What type checkers must accept and infer; read by mypy and pyright, never run."""

from __future__ import annotations

import asyncio
from typing import Any

from fastmcp import FastMCP
from mcp.server import MCPServer, Server
from mcp.server.context import ServerMiddleware
from mcp_circuit import CircuitBreaker, CircuitMiddleware, CircuitOpen, Permit, State, as_fastmcp, failure_rate
from typing_extensions import assert_type

breaker = CircuitBreaker(trip=failure_rate(0.5, seconds=30), failures=(ConnectionError, TimeoutError))
for_the_sdk: ServerMiddleware[Any] = CircuitMiddleware(breaker)
for_the_sdk = CircuitMiddleware(lambda tool: CircuitBreaker(name=tool))

MCPServer("one", middleware=[CircuitMiddleware(breaker)])
Server("two").middleware.append(CircuitMiddleware(breaker))
FastMCP("three").add_middleware(as_fastmcp(CircuitMiddleware(breaker)))


@breaker
async def decorated(a: int, *, b: str = "") -> bytes:
    """Keep parameters and result."""
    return b.encode() * a


async def cached(refusal: CircuitOpen, a: int, *, b: str = "") -> bytes:
    """Take the refusal before the arguments of the function itself."""
    assert_type(refusal.retry_after, "float | None")
    assert_type(refusal.state, State)
    return b.encode() * a


@breaker.with_fallback(cached)
async def with_fallback(a: int, *, b: str = "") -> bytes:
    """Keep parameters and result too."""
    return b.encode() * a


class Client:
    """Methods stay methods."""

    @breaker
    async def get(self, path: str) -> float:
        """Keep `self` bound."""
        return float(path)


async def infers() -> None:
    """Infer what the undecorated functions would."""
    assert_type(await decorated(1, b=""), bytes)
    assert_type(await with_fallback(1, b=""), bytes)
    assert_type(await Client().get(""), float)
    assert_type(await breaker.call(decorated, 1, b=""), bytes)
    await asyncio.create_task(decorated(1))  # a coroutine, not just something to await
    async with breaker.guard() as guard:
        assert_type(guard, Permit)


def refuses() -> None:
    """Refuse what the undecorated functions would; mypy and pyright report an ignore that is not needed."""
    decorated("1")  # type: ignore[arg-type, unused-coroutine]  # pyright: ignore[reportArgumentType, reportUnusedCoroutine]
    breaker(len)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    breaker.force("open")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
