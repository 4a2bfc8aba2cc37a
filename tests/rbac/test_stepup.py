"""HTTP 403 for want of scopes, made of an answer that has begun already, or has not."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace

import pytest
from mcp_rbac import CODE, Policy, RBACMiddleware, Role, Scope, StepUp, from_token, stepup
from mcp_rbac.stepup import Challenge

from tests.rbac.world import Ctx

URL = "https://mcp.example/.well-known/oauth-protected-resource"
POLICY = Policy(
    roles={"r": Role(["tools/call:*", "tools/list"])},
    scopes={"files:read": Scope(["tools/call:read"]), "files:write": Scope(["tools/call:write", "tools/list"])},
)
RBAC = RBACMiddleware(POLICY, subject=from_token(roles="groups"), on_deny="challenge")
START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}


def body(text, *, more=False):
    return {"type": "http.response.body", "body": text, "more_body": more}


class Token:
    client_id, subject = "app", "ann"

    def __init__(self, *scopes):
        self.scopes, self.claims = list(scopes), {"groups": ["r"]}


class User:
    def __init__(self, token):
        self.access_token = token


class HttpRequest:
    def __init__(self, scope):
        self.scope, self.headers = scope, {"host": "x"}


async def ask(name, *scopes, eager=False, method="tools/call", http="POST", internal=False, endpoint=True):
    """Send one request; an *eager* app begins its answer before it looks at what was asked."""
    sent = []

    async def app(scope, receive, send):
        if eager:
            await send(START)
        ctx = Ctx(method, {"name": name}, request=HttpRequest(scope), request_id=7, internal=internal)
        try:
            text = json.dumps(await RBAC(ctx, server)).encode()
        except Exception as error:  # noqa: BLE001  # as the SDK answers it
            text = str(error).encode()
        if not eager:
            await send(START)
        await send(body(text, more=True))
        await send(body(b""))

    async def server(ctx):
        return {"tools": []} if ctx.method == "tools/list" else {"ran": ctx.params["name"]}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": http, "user": User(Token(*scopes))}
    await StepUp(app, resource_metadata=URL)(scope, None, send)
    return sent


@pytest.mark.parametrize("eager", [False, True])
async def test_denied_for_want_of_scopes(eager):
    """Whole, once, and in place of whatever had begun."""
    start, answer = await ask("write", "files:read", eager=eager)
    assert start["status"] == 403
    headers = dict(start["headers"])
    assert headers[b"www-authenticate"].decode() == (
        f'Bearer error="insufficient_scope", scope="files:write", resource_metadata="{URL}"'
    )
    assert headers[b"content-length"] == str(len(answer["body"])).encode()
    assert json.loads(answer["body"]) == {
        "jsonrpc": "2.0",
        "id": 7,
        "error": {
            "code": -31003,
            "message": "insufficient scope",
            "data": {"error": "insufficient_scope", "scope": "files:write"},
        },
    }


@pytest.mark.parametrize("eager", [False, True])
async def test_allowed_passes(eager):
    """Every message, in order."""
    assert await ask("write", "files:write", eager=eager) == [START, body(b'{"ran": "write"}', more=True), body(b"")]


async def test_denied_for_another_reason_passes():
    """What no scope would allow is hidden as ever: the answer is the app's own."""
    sent = await ask("absent", "files:read", method="prompts/get")
    assert sent[0] == START


async def test_list_is_challenged_too():
    """An empty one would not say that there is more for a better token."""
    start, _ = await ask("x", "files:read", method="tools/list")
    assert start["status"] == 403
    assert b'scope="files:write"' in dict(start["headers"])[b"www-authenticate"]


async def test_what_the_sdk_asks_itself_decides_nothing():
    """Its list comes before the call that the client made."""
    start, *_ = await ask("x", "files:read", method="tools/list", internal=True)
    assert start == START


async def test_a_list_that_the_sdk_may_have_does_not_open_the_way_for_the_call():
    """It is granted, the call after it is not, and the answer is the call's."""
    sent = []

    async def app(scope, receive, send):
        for ctx in (Ctx("tools/list", internal=True), Ctx("tools/call", {"name": "read"})):
            with contextlib.suppress(Exception):
                await RBAC(replace(ctx, request=HttpRequest(scope)), server)
        await send(START)
        await send(body(b""))

    async def server(ctx):
        return {"tools": []}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "user": User(Token("files:write"))}
    await StepUp(app, resource_metadata=URL)(scope, None, send)
    assert sent[0]["status"] == 403


@pytest.mark.parametrize("method", ["initialize", "tools/call"])
async def test_what_is_public_or_allowed_is_not_held_back(method):
    """It is settled, and its answer may be a long stream."""
    sent = []

    async def app(scope, receive, send):
        await RBAC(Ctx(method, {"name": "read"}, request=HttpRequest(scope)), server)
        await send(START)
        assert sent == [START]

    async def server(ctx):
        return {}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "user": User(Token("files:read"))}
    await StepUp(app, resource_metadata=URL)(scope, None, send)
    assert sent == [START]


async def test_first_decision_counts():
    """Whatever is asked after it in the same request."""
    sent = []

    async def app(scope, receive, send):
        assert receive == "receive"
        for name in ("write", "read"):
            with contextlib.suppress(Exception):
                await RBAC(Ctx("tools/call", {"name": name}, request=HttpRequest(scope)), server)
        await send(START)
        await send({"type": "http.response.body", "body": b""})

    async def server(ctx):
        return {}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "user": User(Token("files:read"))}
    await StepUp(app, resource_metadata="http://x/meta")(scope, "receive", send)
    assert [message.get("status") for message in sent] == [403, None]


async def test_body_that_does_not_say_so_is_the_last():
    """As ASGI has it."""
    sent = []

    async def app(scope, receive, send):
        await send(START)
        await send({"type": "http.response.body"})

    async def send(message):
        sent.append(message)

    await StepUp(app, resource_metadata=URL)({"type": "http", "method": "POST"}, None, send)
    assert sent == [START, {"type": "http.response.body"}]


async def test_scopes_that_cannot_stand_in_a_header_are_left_out():
    """A quotation mark would end the value."""
    sent = []

    async def send(message):
        sent.append(message)

    exchange = stepup._Exchange(send, URL, challenge=Challenge(("a", 'b"', "c d", "e\\", "Xé", "X:f"), 1), held=[START])
    await exchange.flush()
    text = json.dumps(
        {
            "jsonrpc": "2.0",
            "id": 1,
            "error": {
                "code": CODE,
                "message": "insufficient scope",
                "data": {"error": "insufficient_scope", "scope": "a X:f"},
            },
        }
    ).encode()
    parts = f'Bearer error="insufficient_scope", scope="a X:f", resource_metadata="{URL}"'.encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(text)).encode()),
        (b"www-authenticate", parts),
    ]
    assert sent == [{"type": "http.response.start", "status": 403, "headers": headers}, body(text)]


@pytest.mark.parametrize("http", ["GET", "DELETE"])
async def test_other_requests_pass(http):
    """A stream of events must not wait for a decision."""
    assert (await ask("write", "files:read", http=http))[0] == START


async def test_other_connections_pass():
    """The life of the app among them."""
    seen = []

    async def app(scope, receive, send):
        seen.append(scope)

    scope = {"type": "lifespan"}
    await StepUp(app, resource_metadata=URL)(scope, None, None)
    assert seen[0] is scope


async def test_answer_without_a_decision_passes_when_it_is_over():
    """A request that never comes to the middleware."""
    sent = []

    async def app(scope, receive, send):
        await send(START)
        await send(body(b"a", more=True))
        assert not sent
        await send(body(b""))
        assert len(sent) == 3, "whatever the app does after it"

    async def send(message):
        sent.append(message)

    await StepUp(app, resource_metadata=URL)({"type": "http", "method": "POST"}, None, send)
    assert sent == [START, body(b"a", more=True), body(b"")]


@pytest.mark.parametrize("last", ["http.response.pathsend", "http.response.trailers"])
async def test_answer_that_ends_in_an_extensions_way_passes(last):
    """ASGI has more ends than a body, and what comes after one."""
    sent = []

    async def app(scope, receive, send):
        for message in messages:
            await send(message)

    async def send(message):
        sent.append(message)

    messages = [START, *([body(b"")] if last == "http.response.trailers" else []), {"type": last}]
    await StepUp(app, resource_metadata=URL)({"type": "http", "method": "POST"}, None, send)
    assert sent == messages


@pytest.mark.parametrize(
    "url", ["", "/relative", "ftp://x", 'https://x/"', "https://x/ y", "https://x/\n", "https://é"]
)
def test_nonsense_url(url):
    """It stands in a header between quotes."""
    with pytest.raises(ValueError, match="resource_metadata"):
        StepUp(ask, resource_metadata=url)


@pytest.mark.parametrize("url", [5, None, b"https://x"])
def test_nonsense_type_of_url(url):
    """At construction, with its name."""
    with pytest.raises(TypeError, match="StepUp needs resource_metadata to be a string, got"):
        StepUp(ask, resource_metadata=url)


class App:
    async def __call__(self, scope, receive, send): ...


@pytest.mark.parametrize("app", ["app", None, print, App])
def test_nonsense_app(app):
    """The instance, not its name, its class, or something that answers at once."""
    with pytest.raises(TypeError, match="StepUp takes an ASGI app"):
        StepUp(app, resource_metadata=URL)
    StepUp(App(), resource_metadata=URL)
