"""The HTTP side of the seam: the same middleware in front of a Streamable HTTP app, before anything of it runs.

    POST ──▶ read the body ──▶ middleware ──▶ app, which reads the same body again
                                   └── refusal ──▶ HTTP 429, 403 or 503 with Retry-After   since 2026-07-28
                                                   HTTP 200 with a JSON-RPC error          before

The older answer has its reason: the 1.x client takes any HTTP error as the end of its whole session.

What this seam cannot see: the result.  ``call_next`` returns None when the response is over, ``isError`` or not, so an
observer takes every answer for a success.  It sees no message but those that a client sends.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ._seam import principal
from .checked import AnyMiddleware, checked
from .context import Call

if TYPE_CHECKING:
    from typing import TypeAlias

    Scope: TypeAlias = Mapping[str, Any]
    Receive: TypeAlias = Callable[[], Awaitable[Any]]
    Send: TypeAlias = Callable[[Any], Awaitable[None]]
    App: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]

__all__ = ["STATUSES", "wrap_asgi"]

T = TypeVar("T")

STATUSES: Mapping[int, int] = MappingProxyType({-31029: 429, -31003: 403, -31103: 503})
"""The HTTP status for a refusal's code.  Other codes are 429 if their data says when to retry, else 403."""


def wrap_asgi(
    app: T, middleware: AnyMiddleware, *, body_limit: int = 4 * 2**20, statuses: Mapping[int, int] = STATUSES
) -> T:
    """Return an ASGI app that runs *middleware* around each JSON-RPC request or notification POSTed to *app*.

    Everything else passes untouched: other methods, lifespan, WebSockets, bodies that are no JSON-RPC call, among them
    a client's answers, and batches, which MCP dropped and the SDK rejects.  A body of more than *body_limit* bytes is
    answered with 413 (the SDK's servers have the same limit, 4 MiB), since what passes unread also passes unlimited.

    ``ctx.headers`` are the request's, ``ctx.principal`` is known if authentication runs outside of this wrapper, and
    ``ctx.request.scope`` is the ASGI scope.  Changed ``params`` reach the app.  ``call_next`` sends the response while
    it is made, so it may be awaited once at most; a middleware that does not call on returns a result as on the wire.

    A refusal is any exception raised before the response starts that has an int ``code`` and a str ``message``, itself
    or in its ``error``; a refused notification on an older connection is dropped with 202, as nobody waits for it.
    ``data["retry_after"]`` or ``data["retryAfter"]``, in finite seconds, makes the Retry-After header.

    Raises TypeError if *app* is not callable, ValueError if *body_limit* is not positive.
    """
    if not callable(app):
        raise TypeError(f"wrap_asgi takes an ASGI app, such as server.streamable_http_app(), got {app!r}")
    inner = cast("App", app)
    if body_limit <= 0:
        raise ValueError(f"wrap_asgi needs body_limit > 0, in bytes, got {body_limit!r}")
    checked(middleware)

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await inner(scope, receive, send)
        elif (events := await _read(receive, body_limit)) is None:
            await _respond(send, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, b"")
        elif (message := _call_in(events)) is None:
            await inner(scope, _replay(events, receive), send)
        else:
            await _Exchange(inner, scope, receive, send, events, message).run(middleware, statuses)

    return cast("T", wrapped)


@dataclass
class _Exchange:
    """One POST and its response."""

    app: App
    scope: Scope
    receive: Receive
    send: Send
    events: list[Any]
    message: dict[str, Any]
    started: bool = False

    async def run(self, middleware: AnyMiddleware, statuses: Mapping[int, int]) -> None:
        call = _call(self.scope, self.message)
        try:
            result = await middleware(call, partial(self._call_next, call))
        except Exception as error:
            refusal = getattr(error, "error", error)
            if self.started or not _is_refusal(refusal):
                raise
            await self._refuse(call, refusal, statuses)
        else:
            if not self.started and (result is not None or "id" not in self.message):
                await self._answer(HTTPStatus.OK, result=_wire(result))

    async def _call_next(self, call: Call, ctx: Any) -> None:
        scope, events = self.scope, self.events
        if ctx.params is not call.params:
            body = _json({**self.message, "params": ctx.params})
            events = [{"type": "http.request", "body": body, "more_body": False}]
            headers = [header for header in scope["headers"] if header[0] != b"content-length"]
            scope = {**scope, "headers": [*headers, (b"content-length", b"%d" % len(body))]}
        await self.app(scope, _replay(events, self.receive), self._watched_send)

    async def _watched_send(self, event: Any) -> None:
        self.started = True
        await self.send(event)

    async def _refuse(self, call: Call, refusal: Any, statuses: Mapping[int, int]) -> None:
        data = getattr(refusal, "data", None)
        error = {"code": refusal.code, "message": refusal.message, **({} if data is None else {"data": data})}
        if call.headers.get("mcp-protocol-version", "") < "2026-07-28":
            await self._answer(HTTPStatus.OK, error=error)
            return
        retry_after = _retry_after(data)
        status = statuses.get(refusal.code, 403 if retry_after is None else 429)
        await self._answer(status, [] if retry_after is None else [(b"retry-after", b"%d" % retry_after)], error=error)

    async def _answer(self, status: int, headers: Sequence[tuple[bytes, bytes]] = (), **outcome: Any) -> None:
        if status == HTTPStatus.OK and "id" not in self.message:
            await _respond(self.send, HTTPStatus.ACCEPTED, b"")
            return
        body = {"jsonrpc": "2.0", "id": self.message.get("id"), **outcome}
        await _respond(self.send, status, _json(body), headers)


def _call(scope: Scope, message: Any) -> Call:
    # Reversed, so that of a repeated header the first value counts, as it does in Starlette.
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(list(scope["headers"]))}
    request = SimpleNamespace(scope=scope, headers=headers)
    params, request_id = message.get("params"), message.get("id")
    return Call(
        message["method"],
        cast("dict[str, Any]", params) if isinstance(params, dict) else None,
        request_id=request_id if isinstance(request_id, (str, int)) else None,
        headers=headers,
        principal=principal(SimpleNamespace(request=request)),
        request=request,
    )


async def _read(receive: Receive, limit: int) -> list[Any] | None:
    """Return the events that carry the body, or end early because the client left; None if it is over the limit."""
    events: list[Any] = []
    size, more = 0, True
    while more:
        events.append(event := await receive())
        size += len(event.get("body", b""))
        more = event.get("more_body")
        if size > limit:
            return None
    return events


def _call_in(events: list[Any]) -> dict[str, Any] | None:
    try:
        message: Any = json.loads(b"".join(event.get("body", b"") for event in events))
    except (ValueError, RecursionError):
        return None
    found: dict[str, Any] = cast("dict[str, Any]", message) if isinstance(message, dict) else {}
    return found if isinstance(found.get("method"), str) else None


def _json(body: object) -> bytes:
    try:
        return json.dumps(body, allow_nan=False).encode()
    except ValueError:  # JSON has no NaN and no infinity; the SDKs write null for them
        return json.dumps(json.loads(json.dumps(body), parse_constant=lambda _: None)).encode()


def _replay(events: list[Any], receive: Receive) -> Receive:
    pending = iter(events)

    async def replay() -> Any:
        return next(pending, None) or await receive()

    return replay


def _is_refusal(value: Any) -> bool:
    return isinstance(getattr(value, "code", None), int) and isinstance(getattr(value, "message", None), str)


def _retry_after(data: Any) -> int | None:
    fields: Mapping[str, Any] = cast("Mapping[str, Any]", data) if isinstance(data, Mapping) else {}
    seconds = fields.get("retry_after", fields.get("retryAfter"))
    if not isinstance(seconds, (int, float)) or not -math.inf < seconds < math.inf:
        return None
    return max(0, math.ceil(seconds))


def _wire(result: Any) -> Any:
    return result.model_dump(by_alias=True, mode="json", exclude_none=True) if hasattr(result, "model_dump") else result


async def _respond(send: Send, status: int, body: bytes, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
    fixed = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": [*fixed, *headers]})
    await send({"type": "http.response.body", "body": body})
