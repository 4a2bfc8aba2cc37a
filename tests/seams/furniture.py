"""What the specimen servers can do: each kind of answer there is, registered on any decorator-style server.

Annotations are evaluated here (no ``from __future__ import annotations``): FastMCP 2.14 cannot resolve a postponed
annotation that names a local, and the context class, whose name is ``context`` here, is another for each SDK.
"""

from collections.abc import Callable
from typing import Any

import anyio
from pydantic import BaseModel


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


def furnish(server: Any, context: type, protocol_error: Callable[[], Exception]) -> None:
    """Register every tool, resource and prompt on `server`; `context` is the class that its SDK injects."""
    add_answers(server, protocol_error)
    add_talk(server, context)
    add_patience(server, context, Journal())
    add_resources(server)
    add_prompts(server)


def add_answers(server: Any, protocol_error: Callable[[], Exception]) -> None:
    """Register tools that answer, in each of the ways there are."""

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


def add_talk(server: Any, context: Any) -> None:
    """Register tools that speak to the client before they answer."""

    @server.tool()
    async def count(to: int, ctx: context) -> int:
        """Report progress at every step."""
        for step in range(to):
            await ctx.report_progress(step + 1, to, f"step {step + 1}")
        return to

    @server.tool()
    async def chat(ctx: context) -> str:
        """Send two log messages."""
        for level in ("info", "error"):
            await ctx.session.send_log_message(level, {"said": level}, related_request_id=ctx.request_id)
        return "said"

    @server.tool()
    async def change(ctx: context) -> str:
        """Tell the client that the list of tools changed, and to those who listen that a resource did."""
        if hasattr(ctx, "notify_tools_changed"):
            await ctx.notify_tools_changed()
            await ctx.notify_resource_updated("memo://hello")
        await ctx.session.send_tool_list_changed()
        return "changed"

    @server.tool()
    async def ask(ctx: context) -> str:
        """Ask the user with a request to the client (handshake protocols)."""
        answer = await ctx.elicit("Sure?", Confirm)
        return f"{answer.action} {getattr(answer, 'data', None)}"


def add_patience(server: Any, context: Any, journal: Journal) -> None:
    """Register a tool to be cancelled, and one that tells whether it was."""

    @server.tool()
    async def wait(ctx: context) -> str:
        """Say that it has begun, then block until cancelled or released."""
        await ctx.report_progress(0, 1, "waiting")
        return await journal.wait()

    @server.tool()
    async def settle() -> list[str]:
        """Tell how `wait` ended."""
        return await journal.settle()


def add_resources(server: Any) -> None:
    """Register a text, bytes, a template, and a resource that fails."""

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


def add_prompts(server: Any) -> None:
    """Register a prompt, and one that fails."""

    @server.prompt()
    def greet(name: str) -> str:
        """A greeting."""
        return f"Greet {name}."

    @server.prompt()
    def mumble() -> str:
        """Fails."""
        raise ValueError("no voice")


def add_guard(server: Any, context: Any) -> None:
    """Register a tool that asks the user by returning ``InputRequiredResult`` (2026-07-28)."""
    import mcp_types as types

    @server.tool()
    async def guard(ctx: context) -> types.CallToolResult | types.InputRequiredResult:
        """Ask the user by answering with a question."""
        if not ctx.input_responses:
            return types.InputRequiredResult(input_requests={"sure": _question(types)}, request_state="asked once")
        answer = ctx.input_responses["sure"]
        text = f"{answer.action} {answer.content} {ctx.request_state}"
        return types.CallToolResult(content=[types.TextContent(text=text)])


def _question(types: Any) -> Any:
    form = types.ElicitRequestFormParams(message="Sure?", requested_schema=Confirm.model_json_schema())
    return types.ElicitRequest(params=form)
