"""What type checkers must accept and infer of mcp-metrics; read by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import Any

from fastmcp import FastMCP
from mcp.server import MCPServer, Server
from mcp.server.context import ServerMiddleware
from mcp_metrics import (
    Counter,
    Family,
    Gauge,
    Histogram,
    Instruments,
    MeterSink,
    MetricsMiddleware,
    Registry,
    Snapshot,
    Source,
    Timed,
    as_fastmcp,
    render,
)
from typing_extensions import assert_type

registry = Registry()
for_the_sdk: ServerMiddleware[Any] = MetricsMiddleware(registry)

MCPServer("one", middleware=[MetricsMiddleware(registry)])
Server("two").middleware.append(MetricsMiddleware(registry))
FastMCP("three").add_middleware(as_fastmcp(MetricsMiddleware(registry)))

sources: list[Source] = [registry, Snapshot()]
instruments: list[Instruments] = [registry, MeterSink(object())]

assert_type(registry.counter("a", "A."), Family[Counter])
assert_type(registry.counter("b", "B.").bind("x"), Counter)
assert_type(registry.gauge("c", "C.").bind(), Gauge)
assert_type(registry.histogram("d", "D.", native=3).bind(), Histogram)
assert_type(render(registry), AsyncIterator[bytes])

timed = Timed(registry, "work", "Work.")


@timed
async def fetch(a: int, *, b: str = "") -> float:
    """Stay a coroutine function of the same parameters."""
    return a + len(b)


@timed
async def items(stop: int) -> AsyncGenerator[int, None]:
    """Stay an async generator function."""
    for number in range(stop):
        yield number


async def calls() -> None:
    """Keep what a type checker knows of the decorated functions."""
    coroutine: Coroutine[Any, Any, float] = fetch(1, b="x")
    assert_type(await coroutine, float)
    assert_type(items(3), AsyncGenerator[int, None])
    by_name: Callable[..., AsyncGenerator[int, None]] = items
    async for number in timed.stream(by_name(2)):
        assert_type(number, int)
    await fetch("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # must stay an error
