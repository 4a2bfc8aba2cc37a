"""What type checkers must accept and infer; read by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from fastmcp import FastMCP
from fastmcp.server.middleware import MiddlewareContext
from mcp.server import MCPServer, Server
from mcp.server.context import CallNext as SdkCallNext
from mcp.server.context import HandlerResult, ServerMiddleware, ServerRequestContext
from mcp_middleware import Call, CallContext, Chain, Middleware, RequestValue, for_tools, skip, when, with_arguments
from typing_extensions import assert_type

universal: Middleware = Chain()
for_the_sdk: ServerMiddleware[Any] = Chain()
for_the_sdk = for_tools("*", Chain())
for_the_sdk = skip(when(bool, Chain()))

MCPServer("one", middleware=[Chain(), for_tools("*", Chain())])
Server("two").middleware.append(Chain())
FastMCP("three").add_middleware(Chain().as_fastmcp())


async def observes(ctx: CallContext, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
    """Written for any context."""
    return await call_next(ctx)


async def of_the_sdk(ctx: ServerRequestContext[Any, Any], call_next: SdkCallNext) -> HandlerResult:
    """Written for one SDK."""
    return await call_next(ctx)


async def of_fastmcp(ctx: MiddlewareContext[Any], call_next: Callable[[MiddlewareContext[Any]], Awaitable[str]]) -> str:
    """Written for another."""
    return await call_next(ctx)


chain = Chain(observes, of_the_sdk, of_fastmcp, Chain())


async def handler(ctx: Call) -> int:
    """Return the handler's own type through the chain."""
    return len(ctx.method)


async def infers(ctx: Call) -> None:
    """Keep the types of context and result from end to end."""
    assert_type(await chain(ctx, handler), int)
    assert_type(await chain.bind(handler)(ctx), int)
    assert_type(with_arguments(ctx, {}), Call)


@chain.around
async def decorated(a: int, *, b: str = "") -> float:
    """Stay a coroutine function of the same parameters."""
    return a + len(b)


@chain.around
def sync(a: int) -> float:
    """Become a coroutine function of the same parameters."""
    return a


async def calls() -> None:
    """Keep what a type checker knows of the decorated functions."""
    coroutine: Coroutine[Any, Any, float] = decorated(1, b="x")
    assert_type(await coroutine, float)
    assert_type(await sync(1), float)
    await decorated("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # must stay an error


tenant = RequestValue[str]("tenant")
assert_type(tenant.get(), str)
assert_type(tenant.get(default=None), str | None)
