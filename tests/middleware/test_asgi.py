"""wrap_asgi without a server: what reaches the app, what is answered in its place; real servers are in tests/seams."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from mcp_middleware import Call, Chain, Refused, arguments, principal, refuse, with_arguments

CALL = {"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {"name": "add", "arguments": {"a": 1}}}
MODERN = "2026-07-28"


class App:
    """An ASGI app that notes what reaches it and answers 200."""

    def __init__(self, *, fails=None, answers=True):
        self.scopes, self.bodies, self.fails, self.answers = [], [], fails, answers

    async def __call__(self, scope, receive, send):
        self.scopes.append(scope)
        body, more = b"", scope["type"] == "http"
        while more:
            event = await receive()
            body, more = body + event.get("body", b""), event.get("more_body", False)
        self.bodies.append(body)
        if self.answers:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        if self.fails:
            raise self.fails


async def post(wrapped, message, *, version="", chunks=1, **scope):
    """Send one POST and return the events of the answer."""
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    size = -(-len(body) // chunks) or 1
    pieces = [body[at : at + size] for at in range(0, len(body), size)] or [b""]
    events = [{"type": "http.request", "body": piece, "more_body": piece is not pieces[-1]} for piece in pieces]
    events.append({"type": "http.disconnect"})
    sent = []
    headers = [(b"mcp-protocol-version", version.encode()), (b"content-length", b"%d" % len(body))]

    async def receive():
        return events.pop(0)

    async def send(event):
        sent.append(event)

    await wrapped({"type": "http", "method": "POST", "headers": headers, **scope}, receive, send)
    return sent


def answer(sent):
    """Status, headers and JSON body of an answer made in the app's place."""
    start, body = sent
    return start["status"], dict(start["headers"]), json.loads(body["body"] or "null")


def refusing(code=-31029, data=None):
    async def refuser(ctx, call_next):
        raise refuse(code, "no", data)

    return Chain(refuser)


seen: list[Call] = []


async def spy(ctx, call_next):
    seen.append(ctx)
    return await call_next(ctx)


@pytest.fixture(autouse=True)
def fresh_log():
    """Each test starts with nothing seen."""
    seen.clear()


@pytest.mark.parametrize("chunks", [1, 3])
async def test_a_call_passes_with_its_body_and_facts(chunks):
    """The app reads the same bytes, in the same pieces, and the middleware knows who calls what."""
    app = App()
    user = SimpleNamespace(access_token=SimpleNamespace(client_id="app", scopes=[]))
    sent = await post(Chain(spy).wrap_asgi(app), CALL, chunks=chunks, user=user)
    assert [event["type"] for event in sent] == ["http.response.start"]
    assert json.loads(app.bodies[0]) == CALL
    (ctx,) = seen
    assert (ctx.method, ctx.request_id, arguments(ctx), principal(ctx).client_id) == ("tools/call", 5, {"a": 1}, "app")


async def test_changed_params_reach_the_app_with_the_right_length():
    """The body is written anew, and its length with it."""
    app = App()

    async def rewrite(ctx, call_next):
        return await call_next(with_arguments(ctx, {"a": 22}))

    await post(Chain(rewrite).wrap_asgi(app), CALL)
    assert json.loads(app.bodies[0])["params"] == {"name": "add", "arguments": {"a": 22}}
    assert dict(app.scopes[0]["headers"])[b"content-length"] == b"%d" % len(app.bodies[0])


@pytest.mark.parametrize("body", [b"", b"no json", b"[]", b"7", b'{"id": 1}', b'{"method": 7}', b"[" * 100_000])
async def test_what_is_no_call_passes_untouched(body):
    """The app answers it as it always did."""
    app = App()
    await post(refusing().wrap_asgi(app), body)
    assert app.bodies == [body]


@pytest.mark.parametrize("scope", [{"type": "lifespan"}, {"type": "websocket"}, {"method": "GET"}])
async def test_what_is_no_post_passes_untouched(scope):
    """Lifespan, WebSockets and the event stream."""
    app = App()
    await post(refusing().wrap_asgi(app), CALL, **scope)
    assert len(app.scopes) == 1


async def test_odd_params_and_ids_are_no_facts():
    """A list is no params, a list is no id."""
    await post(Chain(spy).wrap_asgi(App()), {"method": "x", "params": [1], "id": [1]})
    assert (seen[0].params, seen[0].request_id) == (None, None)


@pytest.mark.parametrize(
    ("code", "data", "status", "retry_after"),
    [
        (-31029, {"retry_after": 1.2}, 429, b"2"),
        (-31103, {"retryAfter": -1}, 503, b"0"),
        (-31003, None, 403, None),
        (-31999, {"retry_after": 3}, 429, b"3"),
        (-31999, {"retry_after": "soon"}, 403, None),
        (-31999, {"retry_after": float("inf")}, 403, None),
        (-31999, [1], 403, None),
    ],
)
async def test_a_refusal_on_a_modern_connection_is_an_http_error(code, data, status, retry_after):
    """Proxies understand the status, MCP clients the body."""
    app = App()
    got, headers, body = answer(await post(refusing(code, data).wrap_asgi(app), CALL, version=MODERN))
    assert (got, headers.get(b"retry-after"), app.scopes) == (status, retry_after, [])
    assert body == {
        "jsonrpc": "2.0",
        "id": 5,
        "error": {"code": code, "message": "no", **({"data": data} if data else {})},
    }


@pytest.mark.parametrize("version", ["", "2025-06-18"])
async def test_a_refusal_on_an_older_connection_is_200(version):
    """The 1.x client ends its whole session at any HTTP error."""
    got, _, body = answer(await post(refusing().wrap_asgi(App()), CALL, version=version))
    assert (got, body["error"]["code"]) == (200, -31029)


async def test_a_refused_notification_on_an_older_connection_is_dropped():
    """There is nobody to tell."""
    notification = {"method": "notifications/progress"}
    assert answer(await post(refusing().wrap_asgi(App()), notification))[0] == 202
    assert answer(await post(refusing(-31003).wrap_asgi(App()), notification, version=MODERN))[0] == 403


class Model:
    """A result model, as far as it is read."""

    def model_dump(self, **how):
        return {"content": []}


@pytest.mark.parametrize("result", [{"content": []}, Model()])
async def test_a_middleware_may_answer_itself(result):
    """Its result goes out as JSON-RPC, the app is not asked."""
    app = App()

    async def short(ctx, call_next):
        return result

    got, _, body = answer(await post(Chain(short).wrap_asgi(app), CALL, version=MODERN))
    assert (got, body["result"], app.scopes) == (200, {"content": []}, [])


@pytest.mark.parametrize(("fails", "answers"), [(ValueError("mine"), False), (Refused(-31000, "late"), True)])
async def test_what_is_no_refusal_or_comes_too_late_is_raised(fails, answers):
    """A response that has begun cannot be taken back; an error that is none of ours is the server's to handle."""
    with pytest.raises(type(fails)) as caught:
        await post(Chain(spy).wrap_asgi(App(fails=fails, answers=answers)), CALL)
    assert caught.value is fails


async def test_a_body_over_the_limit_is_refused_unread():
    """What passes unread would pass unlimited."""
    from mcp_middleware.asgi import wrap_asgi

    app = App()
    size = len(json.dumps(CALL))
    start, _ = await post(wrap_asgi(app, spy, body_limit=size - 1), CALL, chunks=2)
    assert (start["status"], app.scopes, seen) == (413, [], [])
    await post(wrap_asgi(app, spy, body_limit=size), CALL, chunks=2)
    assert len(seen) == 1


async def test_a_call_may_be_renamed_but_only_its_params_are_sent():
    """The message keeps its method: the app decides by the wire."""
    app = App()

    async def rename(ctx, call_next):
        return await call_next(replace(ctx, method="other"))

    await post(Chain(rename).wrap_asgi(app), CALL)
    assert json.loads(app.bodies[0])["method"] == "tools/call"


def test_nonsense_is_refused():
    """At construction, naming the argument."""
    from mcp_middleware.asgi import wrap_asgi

    with pytest.raises(TypeError, match="wrap_asgi takes an ASGI app"):
        Chain().wrap_asgi(None)
    with pytest.raises(ValueError, match="wrap_asgi needs body_limit > 0, in bytes, got 0"):
        wrap_asgi(App(), spy, body_limit=0)
