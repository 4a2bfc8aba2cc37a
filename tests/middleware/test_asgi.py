"""wrap_asgi without a server: what reaches the app, what is answered in its place; real servers are in tests/seams."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
from mcp_middleware import Call, Chain, Principal, Refused, arguments, refuse, with_arguments

CALL = {"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {"name": "add", "arguments": {"a": 1}}}
MODERN = "2026-07-28"
GONE = {"type": "http.disconnect"}


class App:
    """An ASGI app that notes what reaches it, listens until the client leaves, and answers 200."""

    def __init__(self, *, fails=None, answers=True):
        self.scopes, self.events, self.fails, self.answers = [], [], fails, answers

    @property
    def body(self):
        return b"".join(event["body"] for event in self.events[:-1])

    async def __call__(self, scope, receive, send):
        self.scopes.append(scope)
        while scope["type"] == "http" and GONE not in self.events:
            self.events.append(await receive())
        if self.answers:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        if self.fails:
            raise self.fails


async def post(wrapped, message, *, version=None, chunks=1, **scope):
    """Send one POST and return the events of the answer."""
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    headers = [(b"mcp-protocol-version", version.encode())] if version else []
    headers.append((b"content-length", b"%d" % len(body)))
    return await serve(wrapped, in_pieces(body, chunks), headers=headers, **scope)


def in_pieces(body, count):
    size = -(-len(body) // count) or 1
    pieces = [body[at : at + size] for at in range(0, len(body), size)] or [b""]
    return [{"type": "http.request", "body": piece, "more_body": piece is not pieces[-1]} for piece in pieces]


async def serve(wrapped, events, **scope):
    """Let the client send these events and leave."""
    events, sent = [*events, GONE], []

    async def receive():
        return events.pop(0)

    async def send(event):
        sent.append(event)

    await wrapped({"type": "http", "method": "POST", "headers": [], **scope}, receive, send)
    return sent


def answer(sent):
    """Status, further headers and JSON body of an answer made in the app's place."""
    start, body = sent
    assert (start["type"], body["type"]) == ("http.response.start", "http.response.body")
    content_type, length, *headers = start["headers"]
    assert content_type == (b"content-type", b"application/json")
    assert length == (b"content-length", b"%d" % len(body["body"]))
    return start["status"], headers, json.loads(body["body"] or "null")


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
    assert app.events == [*in_pieces(json.dumps(CALL).encode(), chunks), GONE]
    (ctx,) = seen
    assert (ctx.method, ctx.request_id, arguments(ctx)) == ("tools/call", 5, {"a": 1})
    assert (ctx.principal, ctx.request.scope, ctx.request.headers) == (Principal("app"), app.scopes[0], ctx.headers)


async def test_a_body_may_come_without_the_fields_that_have_a_default():
    """ASGI lets a server leave out an empty ``body`` and a false ``more_body``."""
    events = [{"type": "http.request", "body": json.dumps(CALL).encode(), "more_body": True}, {"type": "http.request"}]
    app = App()
    await serve(Chain(spy).wrap_asgi(app), events)
    assert app.events == [*events, GONE]
    assert arguments(seen[0]) == {"a": 1}


async def test_a_client_that_leaves_early_is_the_apps_to_notice():
    """Nothing is waited for any more."""
    events = [{"type": "http.request", "body": b'{"method', "more_body": True}]
    app = App()
    await serve(Chain(spy).wrap_asgi(app), events)
    assert (app.events, seen) == ([*events, GONE], [])


async def test_changed_params_reach_the_app_with_the_right_length():
    """The body is written anew, in one piece, and its length with it; the other headers stay."""
    app = App()

    async def rewrite(ctx, call_next):
        return await call_next(with_arguments(ctx, {"a": 22}))

    await post(Chain(rewrite).wrap_asgi(app), CALL, version=MODERN, chunks=3)
    assert json.loads(app.body) == {**CALL, "params": {"name": "add", "arguments": {"a": 22}}}
    assert app.events == [*in_pieces(app.body, 1), GONE]
    length = (b"content-length", b"%d" % len(app.body))
    assert app.scopes[0]["headers"] == [(b"mcp-protocol-version", MODERN.encode()), length]


@pytest.mark.parametrize("body", [b"", b"no json", b"[]", b"7", b'{"id": 1}', b'{"method": 7}', b"[" * 100_000])
async def test_what_is_no_call_passes_untouched(body):
    """The app answers it as it always did."""
    app = App()
    await post(refusing().wrap_asgi(app), body)
    assert app.events == [*in_pieces(body, 1), GONE]


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
        (-31999, [1], 403, None),
    ],
)
async def test_a_refusal_on_a_modern_connection_is_an_http_error(code, data, status, retry_after):
    """Proxies understand the status, MCP clients the body."""
    app = App()
    got, headers, body = answer(await post(refusing(code, data).wrap_asgi(app), CALL, version=MODERN))
    assert (got, headers, app.scopes) == (status, [(b"retry-after", retry_after)] if retry_after else [], [])
    assert body == {
        "jsonrpc": "2.0",
        "id": 5,
        "error": {"code": code, "message": "no", **({"data": data} if data else {})},
    }


@pytest.mark.parametrize("version", [None, "2025-06-18"])
async def test_a_refusal_on_an_older_connection_is_200(version):
    """The 1.x client ends its whole session at any HTTP error."""
    got, _, body = answer(await post(refusing().wrap_asgi(App()), CALL, version=version))
    assert (got, body["error"]["code"]) == (200, -31029)


async def test_a_refused_notification_on_an_older_connection_is_dropped():
    """There is nobody to tell."""
    notification = {"method": "notifications/progress"}
    assert answer(await post(refusing().wrap_asgi(App()), notification))[0] == 202
    assert answer(await post(refusing(-31003).wrap_asgi(App()), notification, version=MODERN))[0] == 403


class SdkError(Exception):
    """The SDK's own way to refuse, with the facts in its ``error``."""

    error = SimpleNamespace(code=-31003, message="no", data=[1])


class BareError(Exception):
    """Somebody's error that has the two fields of a refusal."""

    code, message = -31003, "no"


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
async def test_a_refusal_with_a_number_that_json_has_not_says_null(number):
    """A strict client could not read the answer otherwise; and that is no time to come back."""
    chain = refusing(-31999, {"retry_after": number, "limit": 1})
    got, headers, body = answer(await post(chain.wrap_asgi(App()), CALL, version=MODERN))
    assert (got, headers, body["error"]["data"]) == (403, [], {"retry_after": None, "limit": 1})


@pytest.mark.parametrize(("error", "data"), [(SdkError(), {"data": [1]}), (BareError(), {})])
async def test_a_refusal_is_known_by_its_fields(error, data):
    """No class has to be imported, and data are optional."""

    async def refuser(ctx, call_next):
        raise error

    got, _, body = answer(await post(Chain(refuser).wrap_asgi(App()), CALL, version=MODERN))
    assert (got, body["error"]) == (403, {"code": -31003, "message": "no", **data})


class Model:
    """A result model, as far as it is read."""

    def model_dump(self, **how):
        assert how == {"by_alias": True, "mode": "json", "exclude_none": True}
        return {"content": []}


@pytest.mark.parametrize("result", [{"content": []}, Model()])
async def test_a_middleware_may_answer_itself(result):
    """Its result goes out as JSON-RPC, the app is not asked."""
    app = App()

    async def short(ctx, call_next):
        return result

    got, _, body = answer(await post(Chain(short).wrap_asgi(app), CALL, version=MODERN))
    assert (got, body["result"], app.scopes) == (200, {"content": []}, [])


@pytest.mark.parametrize("message", [CALL, {"method": "notifications/progress"}])
async def test_what_the_app_has_answered_is_not_answered_again(message):
    """Whatever the middleware returns."""

    async def talkative(ctx, call_next):
        await call_next(ctx)
        return {"content": []}

    assert len(await post(Chain(talkative).wrap_asgi(App()), message)) == 1


async def test_a_middleware_that_answers_nothing_drops_a_notification_only():
    """Nobody waits for one; that a request got no response is an error, which the server reports."""

    async def swallow(ctx, call_next):
        return None

    wrapped = Chain(swallow).wrap_asgi(App())
    assert answer(await post(wrapped, {"method": "notifications/progress"})) == (202, [], None)
    assert await post(wrapped, CALL) == []


class CodedError(Exception):
    """An error with a code, and no message, is no refusal."""

    code = 404


@pytest.mark.parametrize(
    ("fails", "answers"),
    [(ValueError("mine"), False), (CodedError(), False), (Refused(-31000, "late"), True)],
)
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
    sent = await post(wrap_asgi(app, spy, body_limit=size - 1), CALL, chunks=2)
    assert (answer(sent), app.scopes, seen) == ((413, [], None), [], [])
    await post(wrap_asgi(app, spy, body_limit=size), CALL, chunks=2)
    assert len(seen) == 1


async def test_a_call_may_be_renamed_but_only_its_params_are_sent():
    """The message keeps its method: the app decides by the wire."""
    app = App()

    async def rename(ctx, call_next):
        return await call_next(replace(ctx, method="other"))

    await post(Chain(rename).wrap_asgi(app), CALL)
    assert json.loads(app.body)["method"] == "tools/call"


def test_nonsense_is_refused():
    """At construction, naming the argument."""
    from mcp_middleware.asgi import wrap_asgi

    with pytest.raises(TypeError, match=r"^wrap_asgi takes an ASGI app"):
        Chain().wrap_asgi(None)
    with pytest.raises(ValueError, match="wrap_asgi needs body_limit > 0, in bytes, got 0"):
        wrap_asgi(App(), spy, body_limit=0)
    assert wrap_asgi(App(), spy, body_limit=1)
