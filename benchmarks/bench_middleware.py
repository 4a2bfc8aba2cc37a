# /// script
# requires-python = ">=3.10"
# dependencies = ["mcp>=2,<3", "fastmcp>=4,<5", "starlette", "aiohttp"]
# ///
"""What a chain of pass-through layers costs, beside the chains of the SDKs and of two web frameworks.

Each candidate takes one call through N layers that do nothing but hand it on, to a handler that does nothing:

- *chain*: ``Chain(*layers)(ctx, handler)``, composed once, the handler given with each call, as every SDK does;
- *chain, bound*: ``Chain(*layers).bind(handler)``, composed once with one handler;
- *mcp 2*: the SDK's own ``_compose_server_middleware``, which composes for each message;
- *FastMCP*: its ``_run_middleware``, with duck-typed layers, and with subclasses that have the ``on_message`` hook;
- *Starlette*: pure ASGI middleware, composed once by ``build_middleware_stack``, and ``BaseHTTPMiddleware``;
- *aiohttp*: ``web.middleware`` layers composed by its own cached builder, as for each request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

from _ratio import Row, compare, figure
from aiohttp import web, web_app
from fastmcp import FastMCP
from fastmcp.server.middleware import Middleware as FastMiddleware
from fastmcp.server.middleware import MiddlewareContext
from mcp.server.runner import ServerRunner
from mcp_middleware import Call, Chain, arguments, is_internal, outcome, principal, target
from starlette.applications import Starlette
from starlette.middleware import Middleware as StarletteMiddleware

PEERS = ["mcp", "fastmcp", "starlette", "aiohttp"]
CALL = Call("tools/call", {"name": "add", "arguments": {"a": 1}})
RESULT = {"content": [{"type": "text", "text": "3"}], "isError": False, "resultType": "complete"}

Run = Callable[[], Awaitable[object]]


async def layer(ctx: Any, call_next: Any) -> Any:
    return await call_next(ctx)


async def handler(ctx: Any) -> dict[str, Any]:
    return RESULT


def chain(size: int) -> Run:
    run = Chain(*[layer] * size)

    async def call() -> object:
        return await run(CALL, handler)

    return call


def bound(size: int) -> Run:
    run = Chain(*[layer] * size).bind(handler)

    async def call() -> object:
        return await run(CALL)

    return call


def mcp2(size: int) -> Run:
    runner: Any = SimpleNamespace(server=SimpleNamespace(middleware=[layer] * size))
    compose: Any = ServerRunner._compose_server_middleware

    async def call() -> object:
        return await compose(runner, handler)(CALL)

    return call


class DuckTyped:
    async def __call__(self, context: Any, call_next: Any) -> Any:
        return await call_next(context)


class Hooked(FastMiddleware):
    async def on_message(self, context: Any, call_next: Any) -> Any:
        return await call_next(context)


def fastmcp(kind: type) -> Callable[[int], Run]:
    def build(size: int) -> Run:
        server: Any = FastMCP("bench")
        server.middleware[:] = [kind() for _ in range(size)]
        context = MiddlewareContext(message=None, method="tools/call")

        async def call() -> object:
            return await server._run_middleware(context, handler)

        return call

    return build


class Asgi:
    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


def starlette(size: int) -> Run:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        return None

    layered = Starlette(middleware=[StarletteMiddleware(Asgi)] * size)
    layered.router = app  # type: ignore[assignment]  # only the layers are measured, not the routing
    run = layered.build_middleware_stack()
    scope = {"type": "http"}

    async def call() -> object:
        return await run(scope, handler, handler)

    return call


def aiohttp(size: int) -> Run:
    @web.middleware
    async def hand_on(request: Any, handler: Any) -> Any:
        return await handler(request)

    application: Any = SimpleNamespace(_middlewares_handlers=[(hand_on, True)] * size)
    apps = (application,)

    async def call() -> object:
        return await web_app._build_middlewares(handler, apps)(CALL)

    return call


CHAINS: dict[str, Callable[[int], Run]] = {
    "chain": chain,
    "chain, bound": bound,
    "mcp 2": mcp2,
    "FastMCP, duck-typed": fastmcp(DuckTyped),
    "FastMCP, on_message": fastmcp(Hooked),
    "Starlette, ASGI": starlette,
    "aiohttp": aiohttp,
}


def through(size: int) -> dict[str, Row]:
    """Measure every chain with so many layers."""
    title = f"a call through a chain of {size}"
    return {
        row.name: row
        for row in compare({name: build(size) for name, build in CHAINS.items()}, title=title, peers=PEERS, calls=500)
    }


def main() -> None:
    many, one = through(20), through(1)
    figure("20 layers, with the handler bound", many["chain, bound"].ratio, "bare awaits", at_most=35)
    for name in CHAINS:
        slope = (many[name].ratio - one[name].ratio) / 19
        figure(f"each further layer, {name}", slope, "bare awaits", at_most=1.6 if name == "chain, bound" else None)
    readers: list[Callable[[Any], object]] = [target, arguments, principal, is_internal]
    reading: dict[str, Any] = {read.__name__: lambda read=read: read(CALL) for read in readers}
    rows = compare({**reading, "outcome of a dict": lambda: outcome(RESULT)}, title="reading a context", calls=2000)
    figure("outcome of a dict", rows[-1].ratio, "bare awaits", at_most=6)


if __name__ == "__main__":
    main()
