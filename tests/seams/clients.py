"""The SDK's own client over every transport, reduced to the few things that the matrix does with it.

``connect`` opens a server in this process (memory, HTTP on a free loopback port) or in another one (stdio), and yields
a ``Client``. A middleware for the client side is put where its SDK has the seam.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import anyio.to_thread
import mcp_middleware as mm
import uvicorn
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.memory import create_client_server_memory_streams

from tests.seams.servers import MCP, http_app, lowlevel

REPOSITORY = Path(__file__).parents[2]
PATIENCE = 10.0
"""Seconds until a server that does not start, or an answer that does not come, fails the test."""

TRANSPORTS = ("memory", "stdio", "http", "http stateless")


class Answer(NamedTuple):
    """What a client learns from a call: an error has a code, anything else a text."""

    text: str
    is_error: bool = False
    asks: bool = False
    code: int | None = None
    data: Any = None


class Client:
    """A session of the 1.x or the 2.x SDK."""

    def __init__(self, session: Any, error: type[Exception]) -> None:
        self.session = session
        self._error = error

    async def call(self, tool: str, arguments: dict[str, Any] | None = None, **options: Any) -> Answer:
        """Call a tool; whatever comes back is an answer."""
        if MCP >= 2:
            options["allow_input_required"] = True
        try:
            with anyio.fail_after(PATIENCE):
                result = await self.session.call_tool(tool, arguments or {}, **options)
        except self._error as error:
            return Answer(error.error.message, code=error.error.code, data=error.error.data)
        if hasattr(result, "input_requests"):
            return Answer("", asks=True)
        is_error = result.is_error if MCP >= 2 else result.isError
        return Answer("".join(block.text for block in result.content), is_error=bool(is_error))

    async def abandon(self, tool: str, started: Callable[[], Any]) -> None:
        """Call a tool, and once `started` returns take back the request as the protocol says."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.call, tool)
            await started()
            if MCP == 1:  # the 1.x client gives up quietly; saying so is left to its caller
                await self._say_cancelled()
            tasks.cancel_scope.cancel()
        if MCP == 1:  # its stdio transport fails when an answer comes while it closes: let the last one pass first
            await self.session.send_ping()

    async def _say_cancelled(self) -> None:
        from mcp import types

        params = types.CancelledNotificationParams(requestId=self.session._request_id - 1)
        await self.session.send_notification(
            types.ClientNotification(types.CancelledNotification(method="notifications/cancelled", params=params))
        )


@asynccontextmanager
async def serve(app: Any) -> AsyncIterator[str]:
    """Serve an ASGI app from a thread, on a free loopback port, and yield the address of its MCP endpoint."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_level="critical", lifespan="on", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=asyncio.run, args=[server.serve([listener])])
        thread.start()
        try:
            with anyio.fail_after(PATIENCE):
                while not server.started:
                    await anyio.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
        finally:
            server.should_exit = True
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(thread.join, PATIENCE)


def subprocess(*arguments: str) -> AbstractAsyncContextManager[Any]:
    """Start ``tests.seams.servers`` with `arguments`, and talk to it over stdio."""
    environment = {"PYTHONPATH": ":".join([str(REPOSITORY), *filter(None, sys.path)]), "PYTHONWARNINGS": "ignore"}
    command = ["-m", "tests.seams.servers", *arguments]
    return stdio_client(StdioServerParameters(command=sys.executable, args=command, env=environment))


@asynccontextmanager
async def in_memory(server: Any) -> AsyncIterator[Any]:
    """Run a server over a pair of memory streams: the handshake protocols, without a wire."""
    inner = lowlevel(server)
    async with create_client_server_memory_streams() as (near, far), anyio.create_task_group() as tasks:
        tasks.start_soon(inner.run, *far, inner.create_initialization_options())
        yield near
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def directly(server: Any) -> AsyncIterator[Any]:
    """Connect a 2.x server's dispatcher to a client's, as the SDK does in memory since 2026-07-28."""
    from mcp.server.runner import modern_on_request
    from mcp.shared.direct_dispatcher import create_direct_dispatcher_pair

    inner = lowlevel(server)
    near, far = create_direct_dispatcher_pair(raise_handler_exceptions=False)

    async def ignore(*_: Any) -> None:
        """Take a notification: this protocol has none."""

    async with inner.lifespan(inner) as state, anyio.create_task_group() as tasks:
        await tasks.start(far.run, modern_on_request(inner, state), ignore)
        yield near
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def session(streams: Any, *, modern: bool, middleware: Any = None) -> AsyncIterator[Client]:
    """Open a client session over a pair of streams, or over a dispatcher of the 2.x SDK, and shake hands."""
    from mcp import ClientSession
    from mcp.shared import exceptions

    if MCP == 1:
        async with ClientSession(streams[0], streams[1]) as opened:
            if middleware is not None:
                mm.Chain(middleware).wrap_session(opened)
            await opened.initialize()
            yield Client(opened, exceptions.McpError)
        return
    from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher

    dispatcher = JSONRPCDispatcher(*streams[:2]) if isinstance(streams, tuple) else streams
    if middleware is not None:
        dispatcher = mm.Chain(middleware).wrap_dispatcher(dispatcher)
    async with ClientSession(dispatcher=dispatcher) as opened:
        await (opened.discover() if modern else opened.initialize())
        yield Client(opened, exceptions.MCPError)


@asynccontextmanager
async def connect(
    server: Any, transport: str, *, modern: bool = False, client: Any = None, asgi: Any = None, http: Any = None
) -> AsyncIterator[Client]:
    """Open `server` (for stdio: the arguments of its program) and a session with it, over `http` if that is given."""
    async with AsyncExitStack() as stack:
        if transport == "stdio":
            streams = await stack.enter_async_context(subprocess(*server))
        elif transport == "memory":
            streams = await stack.enter_async_context(directly(server) if modern else in_memory(server))
        else:
            app = http_app(server, stateless=transport == "http stateless")
            url = await stack.enter_async_context(serve(app if asgi is None else asgi.wrap_asgi(app)))
            streams = await stack.enter_async_context(streamable_http_client(url, http_client=http))
        yield await stack.enter_async_context(session(streams, modern=modern, middleware=client))
