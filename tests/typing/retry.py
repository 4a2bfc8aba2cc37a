"""What type checkers must accept and infer; read by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

from fastmcp import FastMCP
from mcp.server import MCPServer, Server
from mcp.server.context import ServerMiddleware
from mcp_retry import Budget, Fallback, Hedge, Quantile, Retry, RetryMiddleware, as_fastmcp, exponential
from typing_extensions import assert_type

retry = Retry(on=[ConnectionError, lambda error: "busy" in str(error)], backoff=exponential(), budget=Budget())
hedge = Hedge(after=Quantile(0.95))


@retry
async def fetch(a: int, b: str = "") -> bytes:
    """Keep the exact signature, and stay a coroutine function."""
    return b""


class Service:
    """A method keeps its receiver."""

    @retry
    async def fetch(self, a: int) -> bytes:
        """Fetch."""
        return b""


@retry
async def stream(first: int) -> AsyncIterator[int]:
    """An async generator keeps its type."""
    yield first


assert_type(stream(1), AsyncIterator[int])


def future(a: int) -> Awaitable[str]:
    """Return something to await."""
    raise NotImplementedError


decorated_future: Callable[[int], Coroutine[Any, Any, str]] = retry(future)


@hedge
async def hedged(a: int) -> bytes:
    """Keep the signature."""
    return b""


@Fallback(on=ConnectionError, value=None)
async def lucky(a: int) -> bytes:
    """Return the fallback as well."""
    return b""


async def use() -> None:
    """Infer what a call returns, and refuse wrong arguments."""
    calls = [fetch(1, b="x"), Service().fetch(1), hedged(1)]
    assert_type(calls, list[Coroutine[Any, Any, bytes]])
    perhaps = lucky(1)
    assert_type(await perhaps, "bytes | None")
    await fetch("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(await retry.call(fetch, 1, b="x"), bytes)
    assert_type(await hedge.call(fetch, 1), bytes)
    await retry.call(fetch, "1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    async for attempt in retry:
        async with attempt:
            assert_type(attempt.number, int)


middleware = RetryMiddleware(retry, safe={"search"}, hedge=hedge)
universal: ServerMiddleware[Any] = middleware
official = MCPServer("official", middleware=[middleware])
server: Server[Any] = Server("lowlevel")
server.middleware.append(middleware)
fast = FastMCP("fast")
fast.add_middleware(as_fastmcp(middleware))

Retry()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Hedge(after="soon")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
