"""The HTTP side: limit any ASGI application before it does any work, and send the fields that HTTP has for limits.

    request ──▶ limiter says yes ──▶ app, whose answer gets the RateLimit fields
            └── limiter says no ───▶ 429 with Retry-After and a problem (RFC 9457)

This is for what reaches a server before its users are known: by address, against floods.  It knows nothing of MCP;
in front of clients of the 1.x SDK, which take a 429 for the end of their session, use the middleware instead.

``with_rate_limit_fields`` only adds fields: those of what a ``RateLimitMiddleware(http_fields=True)`` decides while the
app handles a request, before the response begins.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from typing import Any, TypeVar, cast

from .decision import Decision
from .headers import rate_limit_fields
from .limit import Limit

__all__ = ["limit_asgi", "note_decision", "with_rate_limit_fields"]

T = TypeVar("T")
Message = MutableMapping[str, Any]
Fields = list[tuple[bytes, bytes]]
PROBLEM = "https://iana.org/assignments/http-problem-types#quota-exceeded"


_noted: ContextVar[Fields | None] = ContextVar("mcp_ratelimit_noted", default=None)


def note_decision(decision: Decision, limits: tuple[Limit, ...]) -> None:
    """Let the response to the request being handled tell *decision*; ``with_rate_limit_fields`` writes it."""
    noted = _noted.get()
    if noted is not None:
        noted[:] = _encoded(decision, limits)


def with_rate_limit_fields(app: T) -> T:
    """Return an app whose responses tell the decision that was taken about the request, if one was.

    It belongs around all that decides: ``with_rate_limit_fields(chain.wrap_asgi(server.streamable_http_app()))``.
    Raises TypeError if *app* is not callable.
    """
    if not callable(app):
        raise TypeError(f"with_rate_limit_fields needs an ASGI app, got {app!r}")
    inner = cast("Callable[..., Awaitable[None]]", app)

    async def telling(scope: Any, receive: Any, send: Callable[[Message], Awaitable[None]]) -> None:
        noted: Fields = []
        token = _noted.set(noted)
        try:
            await inner(scope, receive, _adding(noted, send))
        finally:
            _noted.reset(token)

    return telling  # type: ignore[return-value]  # pyright: ignore[reportReturnType]  # an ASGI app for an ASGI app


def limit_asgi(app: T, limiter: Any, key: Callable[[Any], str]) -> T:
    """Return an app that asks *limiter*, a ``RateLimiter`` or ``AsyncRateLimiter``, before each HTTP request.

    *key* names the caller by the ASGI scope.  Other kinds of scope, as lifespan, pass.
    """
    if not callable(app) or not hasattr(limiter, "check") or not callable(key):
        raise TypeError(f"limit_asgi needs an ASGI app, a limiter and a function, got {app!r}, {limiter!r} and {key!r}")
    inner = cast("Callable[..., Awaitable[None]]", app)

    async def limited(scope: Any, receive: Any, send: Callable[[Message], Awaitable[None]]) -> None:
        if scope["type"] != "http":
            await inner(scope, receive, send)
            return
        decision = limiter.check(key(scope))
        decided: Decision = decision if isinstance(decision, Decision) else await decision
        adding = _adding(_encoded(decided, limiter.limits), send)
        if decided.allowed:
            await inner(scope, receive, adding)
        else:
            await _refuse(decided, adding)

    return limited  # type: ignore[return-value]  # pyright: ignore[reportReturnType]  # an ASGI app for an ASGI app


async def _refuse(decision: Decision, send: Callable[[Message], Awaitable[None]]) -> None:
    problem = {"type": PROBLEM, "title": "Too many requests", "status": 429, "violated-policies": decision.violated}
    body = json.dumps(problem).encode()
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 429, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _adding(fields: Fields, send: Callable[[Message], Awaitable[None]]) -> Callable[[Message], Awaitable[None]]:
    async def send_with_fields(message: Message) -> None:
        if message["type"] == "http.response.start":
            sent = message.get("headers", ())
            names = {name.lower() for name, _ in sent}
            message = {**message, "headers": [*sent, *(field for field in fields if field[0] not in names)]}
        await send(message)

    return send_with_fields


def _encoded(decision: Decision, limits: tuple[Limit, ...]) -> Fields:
    return [(name.encode(), value.encode()) for name, value in rate_limit_fields(decision, limits).items()]
