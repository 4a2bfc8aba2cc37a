"""wrap_dispatcher and wrap_session on clients like the SDKs'; the real ones are in tests/seams."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from mcp_middleware import Call, Chain, arguments, with_arguments

from tests.middleware.messages import Message

seen: list[Call] = []


async def spy(ctx, call_next):
    seen.append(ctx)
    return await call_next(ctx)


async def rewrite(ctx, call_next):
    return await call_next(with_arguments(ctx, {"a": 2}))


@pytest.fixture(autouse=True)
def fresh_log():
    """Each test starts with nothing seen."""
    seen.clear()


class Dispatcher:
    """A 2.x dispatcher that notes what is sent."""

    def __init__(self):
        self.sent = []
        self.state = "new"

    async def send_raw_request(self, method, params, opts=None):
        self.sent.append((method, params, opts))
        return {"content": []}

    async def notify(self, method, params, opts=None):
        self.sent.append((method, params, opts))


async def test_a_dispatchers_requests_run_through_the_middleware():
    """With the options that the client chose."""
    inner, opts = Dispatcher(), {"request_id": 4, "headers": {"mcp-method": "tools/call"}}
    wrapped = Chain(spy, rewrite).wrap_dispatcher(inner)
    assert await wrapped.send_raw_request("tools/call", {"name": "add", "arguments": {"a": 1}}, opts) == {"content": []}
    assert inner.sent == [("tools/call", {"name": "add", "arguments": {"a": 2}}, opts)]
    assert (seen[0].request_id, seen[0].headers, arguments(seen[0])) == (4, opts["headers"], {"a": 1})


async def test_a_dispatchers_notifications_run_through_it_too():
    """Without options there is neither id nor header."""
    inner = Dispatcher()
    wrapped = Chain(spy).wrap_dispatcher(inner)
    await wrapped.notify("notifications/progress", {"progress": 1}, {"headers": {"a": "b"}})
    await wrapped.notify("notifications/initialized", None)
    assert inner.sent == [
        ("notifications/progress", {"progress": 1}, {"headers": {"a": "b"}}),
        ("notifications/initialized", None, None),
    ]
    assert [(ctx.request_id, ctx.headers) for ctx in seen] == [(None, {"a": "b"}), (None, {})]


def test_a_wrapped_dispatcher_is_the_inner_one_in_all_else():
    """The session reads and sets attributes of it, and asks for its class."""
    inner = Dispatcher()
    wrapped = Chain().wrap_dispatcher(inner)
    wrapped.state = "running"
    assert (inner.state, wrapped.state) == ("running", "running")
    assert isinstance(wrapped, Dispatcher)


class Session:
    """A 1.x client session that notes what is sent."""

    def __init__(self):
        self.sent = []

    async def send_request(self, request, result_type, **options):
        self.sent.append((request, result_type, options))
        return "result"

    async def send_notification(self, notification, related=None):
        self.sent.append((notification, related))


@pytest.mark.parametrize("root", [False, True], ids=["model", "root model"])
async def test_a_sessions_requests_run_through_the_middleware(root):
    """By position or by name, with what the SDK passes besides."""
    session, message = Session(), Message({"name": "add", "arguments": {"a": 1}})
    wrapped = Chain(spy).wrap_session(session)
    assert wrapped is session
    sent = SimpleNamespace(root=message) if root else message
    assert await session.send_request(sent, dict, timeout=3) == "result"
    assert await session.send_request(request=sent, result_type=dict) == "result"
    assert session.sent == [(sent, dict, {"timeout": 3}), (sent, dict, {})]
    assert [(ctx.method, arguments(ctx)) for ctx in seen] == [("tools/call", {"a": 1})] * 2


async def test_a_sessions_changed_params_make_a_new_message():
    """Of the same model and method, sent with the same options."""
    session = Chain(rewrite).wrap_session(Session())
    await session.send_request(Message({"name": "add", "arguments": {"a": 1}}, "prompts/get"), dict, timeout=3)
    ((changed, result_type, options),) = session.sent
    assert (changed.method, changed.params.fields) == ("prompts/get", {"name": "add", "arguments": {"a": 2}})
    assert (result_type, options) == (dict, {"timeout": 3})


async def test_a_sessions_notifications_run_through_it_too():
    """By position or by name; they may have no params."""
    session, message = Chain(spy).wrap_session(Session()), Message()
    await session.send_notification(message)
    await session.send_notification(notification=message)
    assert session.sent == [(message, None)] * 2
    assert seen[0].params is None


@pytest.mark.parametrize(
    ("wrap", "client", "says"),
    [
        ("wrap_dispatcher", None, r"^wrap_dispatcher takes a Dispatcher of mcp 2\.x, got None"),
        ("wrap_session", SimpleNamespace(discover=None), r"^a 2\.x ClientSession is wrapped by its dispatcher"),
        ("wrap_session", None, r"^wrap_session takes a ClientSession of mcp 1\.x, got None"),
    ],
)
def test_other_clients_are_refused_with_what_to_do(wrap, client, says):
    """The likely slips."""
    with pytest.raises(TypeError, match=says):
        getattr(Chain(), wrap)(client)
