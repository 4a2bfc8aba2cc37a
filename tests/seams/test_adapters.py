"""The adapters where the matrix does not reach: several at once, wrong objects, answers of a middleware's own."""

from __future__ import annotations

from typing import Any

import mcp_middleware as mm
import pytest
from mcp_middleware.client import wrap_dispatcher, wrap_session

from tests.seams import servers
from tests.seams.cells import ARGUMENTS
from tests.seams.clients import connect, in_memory
from tests.seams.servers import FASTMCP, MCP

in_real_time = pytest.mark.parametrize("anyio_backend", ["uvloop"], indirect=True)
only_1 = pytest.mark.skipif(MCP != 1, reason="the table of handlers is of the 1.x SDK")
only_2 = pytest.mark.skipif(MCP < 2, reason="dispatchers are of the 2.x SDK")


class Tag:
    """Writes its letter before and after each call of a tool."""

    def __init__(self, letter: str, into: list[str]) -> None:
        self._letter, self._into = letter, into

    async def __call__(self, ctx: Any, call_next: Any) -> Any:
        """Pass on."""
        if ctx.method == "tools/call":
            self._into.append(self._letter)
        return await call_next(ctx)


@only_1
@in_real_time
async def test_the_first_installed_is_outermost() -> None:
    """As in the chains of the other SDKs; and both are there for handlers registered before, between and after."""
    tags: list[str] = []
    server = servers.lowlevel_1()
    handler = server.request_handlers.pop(_request("CallToolRequest"))
    mm.install(server, Tag("a", tags))
    mm.install(server, Tag("b", tags))
    server.request_handlers[_request("CallToolRequest")] = handler
    async with connect(server, "memory") as client:
        assert (await client.call("add", ARGUMENTS["add"])).text == "3"
    assert tags == ["a", "b"]


@only_1
def test_the_table_keeps_what_a_table_has() -> None:
    """The SDK asks it what the server can do."""
    server = servers.lowlevel_1()
    before = list(server.request_handlers)
    capabilities = _capabilities(server)
    mm.install(server, mm.Chain())
    assert list(server.request_handlers) == before
    assert len(server.request_handlers) == len(before)
    assert _capabilities(server) == capabilities
    assert _request("SetLevelRequest") not in server.request_handlers
    del server.request_handlers[_request("CallToolRequest")]
    assert _request("CallToolRequest") not in server.request_handlers


@only_1
@in_real_time
async def test_registrations_through_an_old_reference_are_caught() -> None:
    """The SDK's own experimental handlers keep one."""
    tags: list[str] = []
    server = servers.lowlevel_1()
    table = server.request_handlers
    handler = table.pop(_request("CallToolRequest"))
    mm.install(server, Tag("a", tags))
    table[_request("CallToolRequest")] = handler
    async with connect(server, "memory") as client:
        await client.call("add", ARGUMENTS["add"])
    assert tags == ["a"]


@only_1
@in_real_time
async def test_notifications_pass_the_middleware_too() -> None:
    """Those that a handler is registered for."""
    import anyio
    from mcp import types

    seen, arrived = [], anyio.Event()

    async def note(ctx: Any, call_next: Any) -> Any:
        if mm.is_notification(ctx):
            seen.append((ctx.method, dict(ctx.params), mm.request_id(ctx), mm.headers(ctx), mm.principal(ctx)))
        return await call_next(ctx)

    server = servers.lowlevel_1(note)

    @server.progress_notification()
    async def progress(*_: Any) -> None:
        arrived.set()

    async with connect(server, "memory") as client:
        await client.session.send_progress_notification("token", 1.0)
        with anyio.fail_after(5):
            await arrived.wait()
    assert seen == [("notifications/progress", {"progressToken": "token", "progress": 1.0}, None, {}, None)]
    assert types.ProgressNotification in server.notification_handlers


@only_1
@in_real_time
async def test_a_result_as_on_the_wire_is_an_answer() -> None:
    """So that what a middleware answers by itself fits the 1.x and the 2.x SDK."""

    async def answer(ctx: Any, call_next: Any) -> Any:
        if mm.target(ctx) != "add":
            return await call_next(ctx)
        return {"content": [{"type": "text", "text": "cached"}], "resultType": "complete"}

    async with connect(servers.lowlevel_1(answer), "memory") as client:
        assert (await client.call("add", ARGUMENTS["add"])).text == "cached"


@only_1
@in_real_time
async def test_a_middleware_that_forgets_to_return_fails_its_call_only() -> None:
    """The SDK itself would end the session, with an AttributeError."""

    async def forget(ctx: Any, call_next: Any) -> Any:
        result = await call_next(ctx)
        return None if mm.target(ctx) == "add" else result

    async with connect(servers.lowlevel_1(forget), "memory") as client:
        answer = await client.call("add", ARGUMENTS["add"])
        assert answer.code == 0
        assert "forgot to return" in answer.text
        assert (await client.call("flawed")).is_error


@pytest.mark.skipif(MCP < 2, reason="only the 2.x SDK and FastMCP 4 have chains of their own")
def test_install_sends_a_newer_server_to_its_own_chain() -> None:
    """The message holds the line to write instead."""
    server = servers.fastmcp() if FASTMCP else servers.mcpserver()
    expected = "add_middleware.as_fastmcp" if FASTMCP else "server.middleware.append"
    with pytest.raises(TypeError, match=expected):
        mm.install(server, mm.Chain())


@pytest.mark.parametrize("wrong", [None, object(), "server"])
def test_install_says_what_it_takes(wrong: Any) -> None:
    """An app, a client or a name is no server."""
    with pytest.raises(TypeError, match=r"install takes .*, got"):
        mm.install(wrong, mm.Chain())


@only_1
def test_install_refuses_what_is_no_middleware() -> None:
    """At registration, and the table stays as it was."""
    server = servers.lowlevel_1()
    table = server.request_handlers
    with pytest.raises(TypeError, match="is a class"):
        mm.install(server, Tag)
    assert server.request_handlers is table


@only_2
@in_real_time
async def test_a_wrapped_dispatcher_is_one_in_all_else() -> None:
    """ClientSession hooks itself into an instance of the SDK's class only."""
    from mcp import ClientSession
    from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher

    async with in_memory(_any_server()) as streams:
        inner = JSONRPCDispatcher(*streams)
        wrapped = wrap_dispatcher(inner, mm.Chain())
        assert isinstance(wrapped, JSONRPCDispatcher)
        ClientSession(dispatcher=wrapped)
        assert wrapped.on_stream_exception is inner.on_stream_exception is not None
        with pytest.raises(AttributeError, match="nothing"):
            _ = wrapped.nothing


@in_real_time
async def test_the_client_side_sees_requests_and_notifications() -> None:
    """The handshake among them, if the session is wrapped before."""
    seen = []

    async def note(ctx: Any, call_next: Any) -> Any:
        seen.append((ctx.method, mm.is_notification(ctx), mm.request_id(ctx)))
        return await call_next(ctx)

    async with connect(_any_server(), "memory", client=note) as client:
        await client.session.list_tools()
    assert seen == [
        ("initialize", False, None),
        ("notifications/initialized", True, None),
        ("tools/list", False, None),
    ]


@only_1
@in_real_time
async def test_a_session_may_be_called_by_keyword() -> None:
    """As FastMCP's clients do."""
    from mcp import types

    tags: list[str] = []
    call = types.CallToolRequest(params=types.CallToolRequestParams(name="add", arguments=ARGUMENTS["add"]))
    request = types.ClientRequest(call)
    async with connect(_any_server(), "memory", client=Tag("a", tags)) as client:
        wrap_session(client.session, Tag("b", tags))
        result = await client.session.send_request(request=request, result_type=types.CallToolResult)
    assert result.content[0].text == "3"
    assert tags == ["b", "a"]


@only_2
@in_real_time
async def test_wrap_session_sends_a_newer_session_to_its_dispatcher() -> None:
    """The message holds what to write instead."""
    async with connect(_any_server(), "memory") as client:
        with pytest.raises(TypeError, match="dispatcher=wrap_dispatcher"):
            wrap_session(client.session, mm.Chain())


@pytest.mark.parametrize("wrap", [wrap_session, wrap_dispatcher, mm.asgi.wrap_asgi])
def test_wrapping_says_what_it_takes(wrap: Any) -> None:
    """A wrong object is named."""
    with pytest.raises(TypeError, match=r"takes .*, got 7"):
        wrap(7, mm.Chain())


@pytest.mark.parametrize("limit", [0, -1])
def test_wrap_asgi_needs_a_positive_limit(limit: int) -> None:
    """No body would pass."""
    with pytest.raises(ValueError, match=rf"body_limit > 0, in bytes, got {limit}"):
        mm.asgi.wrap_asgi(_any_server, mm.Chain(), body_limit=limit)


def _any_server() -> Any:
    return servers.fastmcp() if FASTMCP else servers.mcpserver() if MCP >= 2 else servers.lowlevel_1()


def _capabilities(server: Any) -> Any:
    from mcp.server.lowlevel import NotificationOptions

    return server.get_capabilities(NotificationOptions(), {})


def _request(name: str) -> Any:
    from mcp import types

    return getattr(types, name)
