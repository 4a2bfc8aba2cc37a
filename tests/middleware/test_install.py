"""install() on a table of handlers like the 1.x SDK's; the real SDK is in tests/seams."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import pytest
from mcp_middleware import Call, Chain, Principal, arguments, install, with_arguments

from tests.middleware.messages import Message


class Progress(Message):
    """A notification model."""

    model_fields: ClassVar = {"method": SimpleNamespace(default="notifications/progress")}


class Result:
    """A result model."""

    def model_dump(self):
        raise AssertionError("only its presence counts")


@pytest.fixture(autouse=True)
def sdk(monkeypatch):
    """The two modules of the SDK that are looked up."""
    lowlevel = ModuleType("mcp.server.lowlevel.server")
    lowlevel.current = None
    lowlevel.request_ctx = SimpleNamespace(get=lambda default: lowlevel.current)
    types = ModuleType("mcp.types")
    types.EmptyResult = SimpleNamespace(model_validate=dict)
    types.ServerResult = lambda root: ("ServerResult", root)
    for module in (lowlevel, types):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return lowlevel


seen: list[Call] = []


async def spy(ctx, call_next):
    seen.append(ctx)
    return await call_next(ctx)


async def rewrite(ctx, call_next):
    return await call_next(with_arguments(ctx, {"a": 2}))


class Server:
    """A lowlevel 1.x server with one handler of each kind, which note what they get."""

    def __init__(self):
        self.handled = []
        self.result = Result()
        self.request_handlers = {Message: self.handle}
        self.notification_handlers = {Progress: self.handle}

    async def handle(self, message):
        self.handled.append(message)
        return self.result


@pytest.fixture
def server():
    """A fresh server and an empty log."""
    seen.clear()
    return Server()


async def test_a_request_runs_through_the_middleware(server, sdk):
    """With the facts of the request being served."""
    user = SimpleNamespace(access_token=SimpleNamespace(client_id="app", scopes=[]))
    request = SimpleNamespace(headers={"mcp-session-id": "s1"}, scope={"user": user})
    sdk.current = SimpleNamespace(request_id=7, request=request, session="session")
    install(server, spy)
    message = Message({"name": "add", "arguments": {"a": 1}})
    assert await server.request_handlers[Message](message) is server.result
    assert server.handled == [message]
    (ctx,) = seen
    assert (ctx.method, ctx.request_id, arguments(ctx), ctx.session) == ("tools/call", 7, {"a": 1}, "session")
    assert (ctx.headers, ctx.principal, ctx.request) == ({"mcp-session-id": "s1"}, Principal("app"), request)
    assert not ctx.internal


async def test_changed_params_make_a_new_request(server):
    """The one the client sent is not touched."""
    install(server, rewrite)
    message = Message({"name": "add", "arguments": {"a": 1}})
    await server.request_handlers[Message](message)
    (changed,) = server.handled
    assert (changed.method, changed.params.fields) == ("tools/call", {"name": "add", "arguments": {"a": 2}})
    assert message.params.fields == {"name": "add", "arguments": {"a": 1}}


async def test_the_sdks_own_question_is_internal(server):
    """It calls a handler with no request at all."""
    install(server, spy)
    await server.request_handlers[Message](None)
    assert server.handled == [None]
    assert seen[0].internal


async def test_notifications_run_through_it_too(server):
    """They have no result."""
    install(server, spy)
    message = Progress({"progress": 1})
    assert await server.notification_handlers[Progress](message) is None
    assert server.handled == [message]
    assert (seen[0].method, seen[0].params) == ("notifications/progress", {"progress": 1})


async def test_changed_params_make_a_new_notification(server):
    """Of the kind for which the handler is registered."""
    install(server, rewrite)
    await server.notification_handlers[Progress](Progress({"progress": 1}))
    (changed,) = server.handled
    assert isinstance(changed, Progress)
    assert changed.params.fields == {"progress": 1, "arguments": {"a": 2}}


async def test_handlers_registered_later_are_caught(server):
    """Also through the server's own decorators, which write to the table; and the table stays a table."""
    table = server.request_handlers
    install(server, spy)

    class Later(Message):
        pass

    server.request_handlers[Later] = server.handle
    await server.request_handlers[Later](Message())
    assert len(seen) == 1
    assert list(server.request_handlers) == [Message, Later] == list(table)
    del server.request_handlers[Later]
    assert len(server.request_handlers) == 1


async def test_installing_twice_composes(server):
    """The first is outermost."""
    install(server, spy)
    install(server, Chain(rewrite, spy))
    await server.request_handlers[Message](Message({"arguments": {"a": 1}}))
    assert [arguments(ctx)["a"] for ctx in seen] == [1, 2]


async def test_a_middleware_may_answer_itself_as_on_the_wire(server):
    """The session gets the result model that it needs."""

    async def short(ctx, call_next):
        return {"x": 1}

    install(server, short)
    assert await server.request_handlers[Message](Message()) == ("ServerResult", {"x": 1})


@pytest.mark.parametrize(("answer", "kind"), [(None, "NoneType"), ("text", "str")])
async def test_a_middleware_must_return_a_result(server, answer, kind):
    """Anything else would end the session."""

    async def short(ctx, call_next):
        return answer

    install(server, short)
    says = f"^the middleware of tools/call returned {kind}, not a result; forgot to return"
    with pytest.raises(TypeError, match=says):
        await server.request_handlers[Message](Message())


async def test_a_fastmcp_server_is_installed_through_its_lowlevel_server(server):
    """FastMCP 2, 3 and the 1.x SDK's own."""
    install(SimpleNamespace(_mcp_server=server), spy)
    await server.request_handlers[Message](Message())
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("server", "says"),
    [
        (SimpleNamespace(add_middleware=None), r"^FastMCP 4 has its own chain: server\.add_middleware"),
        (SimpleNamespace(middleware=[]), r"^an mcp 2\.x server has its own chain: server\.middleware\.append"),
        (None, r"^install takes an mcp 1\.x Server or FastMCP, or a FastMCP 2 or 3 server, got None"),
    ],
)
def test_other_servers_are_refused_with_what_to_do(server, says):
    """The likely slips."""
    with pytest.raises(TypeError, match=says):
        install(server, spy)
