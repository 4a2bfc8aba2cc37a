"""The specimen server on every SDK; ``python -m tests.seams.specimens KIND ARRANGEMENT`` serves one over stdio.

The decorator-style servers are furnished alike; the handler-style ones paginate, take log levels and subscriptions, and
let a tool's exception through to the middleware.

Annotations are evaluated here (no ``from __future__ import annotations``): the 1.x server looks at a handler's
annotation to decide whether it takes the request.
"""

import logging
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any

import anyio
from mcp_middleware import as_fastmcp, install

from tests.seams.arrangements import ARRANGEMENTS, Passes
from tests.seams.furniture import add_guard, furnish

CODE, MESSAGE, DATA = -31007, "forbidden", {"why": "test"}
"""The one protocol error that a tool raises on purpose; its code is outside JSON-RPC's reserved range."""
TOOLS = [f"tool-{number}" for number in range(5)]
PAGE = 2


def _protocol_error() -> Exception:
    from mcp.shared import exceptions

    if hasattr(exceptions, "MCPError"):
        return exceptions.MCPError(CODE, MESSAGE, DATA)
    return exceptions.McpError(exceptions.ErrorData(code=CODE, message=MESSAGE, data=DATA))


def _page(cursor: str | None) -> tuple[list[str], str | None]:
    end = int(cursor or 0) + PAGE
    return TOOLS[end - PAGE : end], str(end) if end < len(TOOLS) else None


def official_2(middleware: list[Any]) -> Any:
    """``mcp`` 2.x, ``MCPServer``."""
    from mcp.server.mcpserver import Context, MCPServer
    from mcp_types import Completion

    server = MCPServer("specimen", version="1", middleware=middleware)
    furnish(server, Context, _protocol_error)
    add_guard(server, Context)

    @server.completion()
    async def complete(ref: Any, argument: Any, context: Any) -> Any:
        return Completion(values=[argument.value + "!", type(ref).__name__], total=2, has_more=False)

    return server


def lowlevel_2(middleware: list[Any]) -> Any:
    """``mcp`` 2.x, the handler-style ``Server``."""
    import mcp_types as types
    from mcp.server.lowlevel import Server
    from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler

    async def list_tools(ctx: Any, params: Any) -> Any:
        names, cursor = _page(params.cursor)
        tools = [types.Tool(name=name, input_schema={"type": "object"}) for name in names]
        return types.ListToolsResult(tools=tools, next_cursor=cursor)

    async def call_tool(ctx: Any, params: Any) -> Any:
        if params.name not in TOOLS:
            raise LookupError(params.name)
        return types.CallToolResult(content=[types.TextContent(text=f"{params.name} {params.arguments}")])

    async def acknowledge(ctx: Any, params: Any) -> Any:
        return types.EmptyResult()

    server = Server(
        "specimen",
        version="1",
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_subscribe_resource=acknowledge,
        on_unsubscribe_resource=acknowledge,
        on_subscriptions_listen=ListenHandler(InMemorySubscriptionBus()),
    )
    server.add_request_handler("logging/setLevel", types.SetLevelRequestParams, acknowledge)
    server.middleware.extend(middleware)
    return server


def official_1(middleware: list[Any]) -> Any:
    """``mcp`` 1.x, its ``FastMCP``, through the table of handlers."""
    from mcp.server.fastmcp import Context, FastMCP
    from mcp.types import Completion

    server = FastMCP("specimen")
    furnish(server, Context, _protocol_error)

    @server.completion()
    async def complete(ref: Any, argument: Any, context: Any) -> Any:
        return Completion(values=[argument.value + "!", type(ref).__name__], total=2, hasMore=False)

    return _installed(server, middleware)


def lowlevel_1(middleware: list[Any]) -> Any:
    """``mcp`` 1.x, the handler-style ``Server``, through the same table."""
    from mcp import types
    from mcp.server.lowlevel import Server

    server: Any = Server("specimen", version="1")

    @server.list_tools()
    async def list_tools(request: types.ListToolsRequest) -> types.ListToolsResult:
        names, cursor = _page(request.params and request.params.cursor)
        tools = [types.Tool(name=name, inputSchema={"type": "object"}) for name in names]
        return types.ListToolsResult(tools=tools, nextCursor=cursor)

    @server.call_tool()
    async def call_tool(name: str, arguments: dict[str, Any]) -> Any:
        if name not in TOOLS:
            raise LookupError(name)
        return [types.TextContent(type="text", text=f"{name} {arguments}")]

    @server.set_logging_level()
    @server.subscribe_resource()
    @server.unsubscribe_resource()
    async def accept(_: Any) -> None:
        pass

    return _installed(server, middleware)


def _installed(server: Any, middleware: list[Any]) -> Any:
    for layer in middleware:
        install(server, layer)
    return server


def fastmcp(middleware: list[Any]) -> Any:
    """FastMCP 2, 3 or 4, through its own chain."""
    server = _fastmcp()
    for layer in middleware:
        server.add_middleware(as_fastmcp(layer))
    return server


def fastmcp_table(middleware: list[Any]) -> Any:
    """FastMCP 2 or 3, through the table of the 1.x server inside it."""
    return _installed(_fastmcp(), middleware)


def _fastmcp() -> Any:
    from fastmcp import Context, FastMCP

    major = int(version("fastmcp").split(".")[0])
    server = FastMCP("specimen", version="1", **({"list_page_size": 4} if major > 2 else {}))
    furnish(server, Context, _protocol_error)
    if major > 3:
        add_guard(server, Context)
    return server


BUILDERS = (official_2, lowlevel_2, official_1, lowlevel_1, fastmcp, fastmcp_table)
KINDS: dict[str, Callable[[list[Any]], Any]] = {build.__name__: build for build in BUILDERS}


def lowlevel(server: Any) -> Any:
    """Return the handler-style server inside any of ours: the object that runs over a pair of streams."""
    return getattr(server, "_lowlevel_server", None) or getattr(server, "_mcp_server", None) or server


def main(kind: str, arrangement: str) -> None:
    """Serve over stdio until stdin ends, and say on stderr at last how many messages passed the layers."""
    logging.disable(logging.CRITICAL)
    passes = Passes()
    server = KINDS[kind](ARRANGEMENTS[arrangement](passes))
    anyio.run(partial(server.run_stdio_async, **({"show_banner": False} if kind == "fastmcp" else {})))
    sys.stderr.write(f"passes {passes.seen}")


if __name__ == "__main__":
    main(*sys.argv[1:])
