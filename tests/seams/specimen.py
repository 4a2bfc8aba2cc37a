"""The same small MCP server on every SDK, rich enough to show each kind of answer a server can give.

``furnish`` registers one set of tools, resources and prompts on any of the decorator-style servers (``MCPServer``, the
1.x ``FastMCP``, FastMCP 2 to 4); ``lowlevel_2`` and ``lowlevel_1`` are the handler-style servers, which paginate and let
a tool's exception through. Run as a program, the module serves one of them over stdio.

Annotations are evaluated here (no ``from __future__ import annotations``): FastMCP 2.14 cannot resolve a postponed
``Context`` that is a local name.
"""

import logging
import sys
from collections.abc import Callable
from typing import Any

import anyio
from pydantic import BaseModel

CODE = -31007
"""The code of the one protocol error that a tool raises on purpose; outside JSON-RPC's reserved range."""


class Journal:
    """What the blocking tool lived through, so that a cancellation can be compared and not only sent."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.release, self.over = anyio.Event(), anyio.Event()

    async def wait(self) -> str:
        """Block until ``settle`` releases us or the client cancels us."""
        self.lines.append("started")
        try:
            await self.release.wait()
            self.lines.append("released")
        except BaseException as error:
            self.lines.append(f"stopped by {type(error).__name__}")
            raise
        finally:
            self.over.set()
        return "waited"

    async def settle(self) -> list[str]:
        """Tell how ``wait`` ended; one that nobody cancelled within 0.5 s is let go first."""
        with anyio.move_on_after(0.5):
            await self.over.wait()
        self.release.set()
        await self.over.wait()
        lines, self.lines = self.lines, []
        self.release, self.over = anyio.Event(), anyio.Event()
        return lines


class Sum(BaseModel):
    """A structured answer, for a tool with an output schema."""

    total: int
    parts: list[int]


class Confirm(BaseModel):
    """What ``ask`` wants to know."""

    sure: bool


def furnish(server: Any, Context: type, protocol_error: Callable[[], Exception]) -> Any:
    """Register every tool, resource and prompt on a decorator-style `server`, and return it."""
    journal = Journal()

    @server.tool()
    def echo(text: str) -> str:
        """Say it again."""
        return text

    @server.tool()
    async def add(a: int, b: int = 2) -> Sum:
        """Add two numbers."""
        return Sum(total=a + b, parts=[a, b])

    @server.tool()
    async def fail(reason: str) -> str:
        """Raise an ordinary exception."""
        raise ValueError(reason)

    @server.tool()
    async def forbid() -> str:
        """Raise the SDK's own error."""
        raise protocol_error()

    @server.tool()
    async def count(to: int, ctx: Context) -> int:  # type: ignore[valid-type]
        """Report progress at every step."""
        for step in range(to):
            await ctx.report_progress(step + 1, to, f"step {step + 1}")  # type: ignore[attr-defined]
        return to

    @server.tool()
    async def chat(ctx: Context) -> str:  # type: ignore[valid-type]
        """Send two log messages."""
        for level in ("info", "error"):
            await ctx.session.send_log_message(level, {"said": level}, related_request_id=ctx.request_id)  # type: ignore[attr-defined]
        return "said"

    @server.tool()
    async def change(ctx: Context) -> str:  # type: ignore[valid-type]
        """Tell the client that the list of tools changed."""
        if hasattr(ctx, "notify_tools_changed"):
            await ctx.notify_tools_changed()
            await ctx.notify_resource_updated("memo://hello")
        await ctx.session.send_tool_list_changed()  # type: ignore[attr-defined]
        return "changed"

    @server.tool()
    async def ask(ctx: Context) -> str:  # type: ignore[valid-type]
        """Ask the user with a request to the client (handshake protocols)."""
        answer = await ctx.elicit("Sure?", Confirm)  # type: ignore[attr-defined]
        return f"{answer.action} {getattr(answer, 'data', None)}"

    @server.tool()
    async def wait(ctx: Context) -> str:  # type: ignore[valid-type]
        """Say that it has begun, then block until cancelled or released."""
        await ctx.report_progress(0, 1, "waiting")  # type: ignore[attr-defined]
        return await journal.wait()

    @server.tool()
    async def settle() -> list[str]:
        """Tell how `wait` ended."""
        return await journal.settle()

    @server.resource("memo://hello")
    def hello() -> str:
        """A text."""
        return "hello"

    @server.resource("memo://blob", mime_type="application/octet-stream")
    def blob() -> bytes:
        """Bytes."""
        return b"\x00\xff"

    @server.resource("memo://broken")
    def broken() -> str:
        """Fails."""
        raise ValueError("no ink")

    @server.resource("memo://about/{topic}")
    def about(topic: str) -> str:
        """A text on a topic."""
        return f"about {topic}"

    @server.prompt()
    def greet(name: str) -> str:
        """A greeting."""
        return f"Greet {name}."

    @server.prompt()
    def mumble() -> str:
        """Fails."""
        raise ValueError("no voice")

    return server


def add_guard(server: Any, Context: type) -> None:
    """Register `guard`, which asks the user by returning ``InputRequiredResult`` (2026-07-28)."""
    import mcp_types as types

    @server.tool()
    async def guard(ctx: Context) -> types.CallToolResult | types.InputRequiredResult:  # type: ignore[valid-type]
        """Ask the user by answering with a question."""
        if not ctx.input_responses:  # type: ignore[attr-defined]
            return types.InputRequiredResult(input_requests={"sure": _question(types)}, request_state="asked once")
        answer = ctx.input_responses["sure"]  # type: ignore[attr-defined]
        text = f"{answer.action} {answer.content} {ctx.request_state}"  # type: ignore[attr-defined]
        return types.CallToolResult(content=[types.TextContent(text=text)])


def _question(types: Any) -> Any:
    form = types.ElicitRequestFormParams(message="Sure?", requested_schema=Confirm.model_json_schema())
    return types.ElicitRequest(params=form)


def official_2(middleware: list[Any]) -> Any:
    """``mcp`` 2.x, ``MCPServer``."""
    from mcp.server.mcpserver import Context, MCPServer
    from mcp.shared.exceptions import MCPError

    server = MCPServer("specimen", version="1", middleware=middleware)
    furnish(server, Context, lambda: MCPError(CODE, "forbidden", {"why": "test"}))
    add_guard(server, Context)

    @server.completion()
    async def complete(ref: Any, argument: Any, context: Any) -> Any:
        from mcp_types import Completion

        return Completion(values=[argument.value + "!", type(ref).__name__], total=2, has_more=False)

    return server


def lowlevel_2(middleware: list[Any]) -> Any:
    """``mcp`` 2.x, the handler-style ``Server``: pages, levels, subscriptions, and a tool whose exception goes through."""
    import mcp_types as types
    from mcp.server.lowlevel import Server
    from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler

    names = [f"tool-{number}" for number in range(5)]

    async def list_tools(ctx: Any, params: Any) -> Any:
        start = int(params.cursor or 0)
        tools = [types.Tool(name=name, input_schema={"type": "object"}) for name in names[start : start + 2]]
        return types.ListToolsResult(tools=tools, next_cursor=str(start + 2) if start + 2 < len(names) else None)

    async def call_tool(ctx: Any, params: Any) -> Any:
        if params.name not in names:
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
    from mcp import McpError
    from mcp.server.fastmcp import Context, FastMCP
    from mcp.types import Completion, ErrorData

    server = FastMCP("specimen")
    furnish(server, Context, lambda: McpError(ErrorData(code=CODE, message="forbidden", data={"why": "test"})))

    @server.completion()
    async def complete(ref: Any, argument: Any, context: Any) -> Any:
        return Completion(values=[argument.value + "!", type(ref).__name__], total=2, hasMore=False)

    return _installed(server, middleware)


def lowlevel_1(middleware: list[Any]) -> Any:
    """``mcp`` 1.x, the handler-style ``Server``: pages, levels, subscriptions."""
    from mcp import types
    from mcp.server.lowlevel import Server

    names = [f"tool-{number}" for number in range(5)]
    server: Any = Server("specimen", version="1")

    @server.list_tools()
    async def list_tools(request: types.ListToolsRequest) -> types.ListToolsResult:
        start = int(request.params and request.params.cursor or 0)
        tools = [types.Tool(name=name, inputSchema={"type": "object"}) for name in names[start : start + 2]]
        return types.ListToolsResult(tools=tools, nextCursor=str(start + 2) if start + 2 < len(names) else None)

    @server.call_tool()
    async def call_tool(name: str, arguments: dict[str, Any]) -> Any:
        if name not in names:
            raise LookupError(name)
        return [types.TextContent(type="text", text=f"{name} {arguments}")]

    @server.subscribe_resource()
    @server.unsubscribe_resource()
    async def subscribe(uri: Any) -> None:
        """Accept it."""

    @server.set_logging_level()
    async def level(level: str) -> None:
        """Accept it."""

    return _installed(server, middleware)


def _installed(server: Any, middleware: list[Any]) -> Any:
    from mcp_middleware import install

    for layer in reversed(middleware):  # the last one installed is the outermost
        install(server, layer)
    return server


def fastmcp(middleware: list[Any]) -> Any:
    """FastMCP 2, 3 or 4, whichever is installed."""
    import fastmcp as package
    from mcp.shared import exceptions

    from mcp_middleware import as_fastmcp

    def protocol_error() -> Exception:
        if hasattr(exceptions, "MCPError"):
            return exceptions.MCPError(CODE, "forbidden", {"why": "test"})
        from mcp.types import ErrorData

        return exceptions.McpError(ErrorData(code=CODE, message="forbidden", data={"why": "test"}))

    major = int(package.__version__.split(".")[0])
    server = package.FastMCP("specimen", version="1", **({"list_page_size": 4} if major > 2 else {}))
    for layer in middleware:
        server.add_middleware(as_fastmcp(layer))
    furnish(server, package.Context, protocol_error)
    if major >= 4:
        add_guard(server, package.Context)
    return server


KINDS: dict[str, Callable[[list[Any]], Any]] = {
    build.__name__: build for build in (official_2, lowlevel_2, official_1, lowlevel_1, fastmcp)
}


def lowlevel(server: Any) -> Any:
    """Return the handler-style server inside any of ours: the object that runs over a pair of streams."""
    return getattr(server, "_lowlevel_server", None) or getattr(server, "_mcp_server", None) or server


async def serve_stdio(server: Any) -> None:
    """Serve until stdin ends."""
    if hasattr(server, "run_stdio_async"):
        return await server.run_stdio_async(**({"show_banner": False} if "fastmcp" in sys.modules else {}))
    from mcp.server.stdio import stdio_server

    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


def main(kind: str, arrangement: str) -> None:
    """Serve `kind` over stdio behind `arrangement`; at the end, say on stderr how often each layer was passed."""
    from tests.seams.arrangements import ARRANGEMENTS, Passes

    logging.disable(logging.CRITICAL)
    passes = Passes()
    anyio.run(serve_stdio, KINDS[kind](ARRANGEMENTS[arrangement](passes)))
    print(f"passes {passes.seen}", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
