"""One small server, with a tool for each way in which a call can end, at every place where a middleware can sit.

``PLACES`` has the places of the SDK that is installed, and the way to build a server with a middleware there. Run as a
program, the module serves one of them over stdio.

Annotations are evaluated (no ``from __future__ import annotations``): FastMCP 2.14 cannot resolve a local name later.
"""

import logging
import sys
from collections import Counter
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import anyio
import mcp_middleware as mm

from tests.seams import rows


def major(package: str) -> int:
    """Return the major version of an installed package, 0 without it."""
    try:
        return int(version(package).split(".")[0])
    except PackageNotFoundError:
        return 0


MCP, FASTMCP = major("mcp"), major("fastmcp")
QUESTION, STATE = "sure", "asked once"


def _same(fn: Any) -> Any:
    return fn


def furnish(server: Any, around: Callable[[Any], Any] = _same) -> Any:
    """Register the tools on a decorator-style server, each one as `around` returns it; return the server."""

    @server.tool()
    @around
    async def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    @server.tool()
    @around
    async def broken() -> str:
        """Raise an ordinary exception."""
        raise ValueError("out of order")

    @server.tool()
    @around
    async def slow() -> str:
        """Take longer than anyone waits."""
        await anyio.sleep(60)
        return "late"

    @server.resource("memo://note")
    def note() -> str:
        """A text."""
        return "noted"

    @server.prompt()
    def greet(name: str) -> str:
        """A greeting."""
        return f"Greet {name}"

    register_flawed(server, around)
    register_unsteady(server, around)
    if MCP >= 2:
        register_ask(server, around)
    return server


def register_flawed(server: Any, around: Callable[[Any], Any]) -> None:
    """Register ``flawed``, which fails in the way that its SDK calls a tool error."""
    if FASTMCP:
        from fastmcp.exceptions import ToolError

        @server.tool()
        @around
        async def flawed() -> str:
            """Say that it went wrong."""
            raise ToolError("flawed")

    else:
        from mcp import types

        @server.tool(name="flawed")
        @around
        async def flawed() -> types.CallToolResult:
            """Say that it went wrong."""
            return tool_error("flawed")


def tool_error(text: str) -> Any:
    """Return the official SDK's result for a tool that went wrong."""
    from mcp import types

    result = {"content": [{"type": "text", "text": text}], "isError": True}
    return types.CallToolResult.model_validate(result)


def register_unsteady(server: Any, around: Callable[[Any], Any]) -> None:
    """Register tools that do better later: ``read`` and ``pay`` fail twice, ``linger`` takes too long once.

    Each answers with the number of the call; ``read`` is marked as read-only.
    """
    from mcp.types import ToolAnnotations

    calls: Counter[str] = Counter()

    def request(tool: str) -> str:
        calls[tool] += 1
        if tool != "linger" and calls[tool] < 3:
            raise ConnectionError("the line is down")
        return f"call {calls[tool]}"

    async def read() -> str:
        """Ask somebody else."""
        return request("read")

    async def pay() -> str:
        """Ask somebody else for what must not be done twice."""
        return request("pay")

    async def linger() -> str:
        """Ask somebody who takes his time."""
        answer = request("linger")
        await anyio.sleep(60 if answer == "call 1" else 0)
        return answer

    server.tool(annotations=ToolAnnotations.model_validate({"readOnlyHint": True}))(around(read))
    server.tool()(around(pay))
    server.tool()(around(linger))


def register_ask(server: Any, around: Callable[[Any], Any]) -> None:
    """Register ``ask``, which answers with a question until it has been answered (2026-07-28)."""
    import mcp_types as types

    if FASTMCP:
        from fastmcp import Context
    else:
        from mcp.server.mcpserver import Context

    @server.tool()
    @around
    async def ask(ctx: Context) -> types.CallToolResult | types.InputRequiredResult:
        """Ask first."""
        return question() if not ctx.input_responses else text_result("answered")


def question() -> Any:
    """Return the result that asks the user."""
    import mcp_types as types

    schema = {"type": "object", "properties": {"yes": {"type": "boolean"}}}
    form = types.ElicitRequestFormParams(message="Sure?", requested_schema=schema)
    return types.InputRequiredResult(input_requests={QUESTION: types.ElicitRequest(params=form)}, request_state=STATE)


def text_result(text: str) -> Any:
    """Return the 2.x result of a tool that says something."""
    import mcp_types as types

    return types.CallToolResult(content=[types.TextContent(text=text)])


def mcpserver(*middleware: Any) -> Any:
    """mcp 2.x: ``MCPServer(middleware=)``."""
    from mcp.server.mcpserver import MCPServer

    return furnish(MCPServer("seams", middleware=middleware))


def extension(middleware: Any) -> Any:
    """mcp 2.x: ``Extension.intercept_tool_call``."""
    from mcp.server.extension import Extension
    from mcp.server.mcpserver import MCPServer

    class Interceptor(Extension):
        identifier = "org.example/seams"

        async def intercept_tool_call(self, params: Any, ctx: Any, call_next: Any) -> Any:
            return await middleware(ctx, call_next)

    return furnish(MCPServer("seams", extensions=[Interceptor()]))


def decorated_2(middleware: Any) -> Any:
    """mcp 2.x: a decorated tool."""
    from mcp.server.mcpserver import MCPServer

    return furnish(MCPServer("seams"), middleware.around)


def lowlevel_2(*middleware: Any) -> Any:
    """mcp 2.x: ``Server.middleware``."""
    import mcp_types as types
    from mcp.server.lowlevel import Server
    from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
    from mcp.shared.exceptions import MCPError

    async def list_tools(ctx: Any, params: Any) -> Any:
        names = ("add", "flawed", "broken", "slow", "ask")
        return types.ListToolsResult(tools=[types.Tool(name=name, input_schema={"type": "object"}) for name in names])

    async def call_tool(ctx: Any, params: Any) -> Any:
        match params.name:
            case "add":
                return text_result(str(sum(params.arguments.values())))
            case "flawed":
                return tool_error("flawed")
            case "broken":
                raise ValueError("out of order")
            case "slow":
                await anyio.sleep(60)
            case "ask":
                return question() if not params.input_responses else text_result("answered")
        raise MCPError(-32602, f"Unknown tool: {params.name}")

    listen = ListenHandler(InMemorySubscriptionBus())
    server = Server("seams", on_list_tools=list_tools, on_call_tool=call_tool, on_subscriptions_listen=listen)
    server.middleware.extend(middleware)
    return server


def lowlevel_1(*middleware: Any) -> Any:
    """mcp 1.x: the table of a lowlevel ``Server``."""
    from mcp import types
    from mcp.server.lowlevel import Server

    server: Any = Server("seams")

    for layer in middleware:
        mm.install(server, layer)  # before the handlers: later registrations are caught too

    @server.list_tools()
    async def list_tools() -> Any:
        names = ("add", "flawed", "broken", "slow")
        return [types.Tool(name=name, inputSchema={"type": "object"}) for name in names]

    @server.call_tool()
    async def call_tool(name: str, arguments: dict[str, Any]) -> Any:
        match name:
            case "add":
                return [types.TextContent(type="text", text=str(sum(arguments.values())))]
            case "flawed":
                return tool_error("flawed")
            case "broken":
                raise ValueError("out of order")
            case "slow":
                await anyio.sleep(60)
        raise ValueError(f"Unknown tool: {name}")

    return server


def official_1(*middleware: Any) -> Any:
    """mcp 1.x: the table behind its ``FastMCP``."""
    from mcp.server.fastmcp import FastMCP

    server = furnish(FastMCP("seams"))
    for layer in middleware:
        mm.install(server, layer)
    return server


def decorated_1(middleware: Any) -> Any:
    """mcp 1.x: a decorated tool."""
    from mcp.server.fastmcp import FastMCP

    return furnish(FastMCP("seams"), middleware.around)


def fastmcp(*middleware: Any) -> Any:
    """FastMCP: ``add_middleware(as_fastmcp(...))``."""
    from fastmcp import FastMCP

    server = furnish(FastMCP("seams"))
    for layer in middleware:
        server.add_middleware(mm.as_fastmcp(layer))
    return server


def duck_typed(middleware: Any) -> Any:
    """FastMCP: ``add_middleware`` with the bare object."""
    server = fastmcp()
    server.add_middleware(middleware)
    return server


def fastmcp_table(middleware: Any) -> Any:
    """FastMCP 2 and 3: the table of handlers behind it."""
    server = fastmcp()
    mm.install(server, middleware)
    return server


def fastmcp_list(middleware: Any) -> Any:
    """FastMCP 4: the list of the official SDK behind it."""
    server = fastmcp()
    lowlevel(server).middleware.append(middleware)
    return server


def mounted(middleware: Any) -> Any:
    """FastMCP: the middleware of a parent, the tools of a child mounted in it."""
    from fastmcp import FastMCP

    parent = FastMCP("parent")
    parent.add_middleware(mm.as_fastmcp(middleware))
    parent.mount(fastmcp())
    return parent


def decorated_fastmcp(middleware: Any) -> Any:
    """FastMCP: a decorated tool."""
    from fastmcp import FastMCP

    return furnish(FastMCP("seams"), middleware.around)


def lowlevel(server: Any) -> Any:
    """Return the handler-style server inside any of ours, the object that runs over a pair of streams."""
    return getattr(server, "_lowlevel_server", None) or getattr(server, "_mcp_server", None) or server


def http_app(server: Any, *, stateless: bool) -> Any:
    """Return the Streamable HTTP app of any of our servers, at ``/mcp``."""
    if FASTMCP:
        return server.http_app(stateless_http=stateless)
    if MCP >= 2:
        return server.streamable_http_app(stateless_http=stateless)
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from starlette.applications import Starlette
    from starlette.routing import Route

    manager = StreamableHTTPSessionManager(lowlevel(server), stateless=stateless)

    class App:
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await manager.handle_request(scope, receive, send)

    return Starlette(routes=[Route("/mcp", App())], lifespan=lambda _: manager.run())


async def serve_stdio(server: Any) -> None:
    """Serve until stdin ends."""
    from mcp.server.stdio import stdio_server

    if FASTMCP:
        await server.run_stdio_async(show_banner=False)
        return
    inner = lowlevel(server)
    async with stdio_server() as (read, write):
        await inner.run(read, write, inner.create_initialization_options())


def main(build: str, row: str, path: str) -> None:
    """Serve over stdio what the function `build` returns, with the middleware `row` there unless that is empty."""
    logging.disable(logging.CRITICAL)
    middleware = [rows.build(row, path)] if row else []
    anyio.run(serve_stdio, globals()[build](*middleware))


if __name__ == "__main__":
    main(*sys.argv[1:])
