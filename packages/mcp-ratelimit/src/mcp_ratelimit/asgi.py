"""Limit any ASGI application before it does any work, with the fields and the status that HTTP has for it.

    request ──▶ limiter says yes ──▶ app, whose answer gets the RateLimit fields
            └── limiter says no ───▶ 429 with Retry-After and a problem (RFC 9457)

This is for what reaches a server before its users are known: by address, against floods.  It knows nothing of MCP;
in front of clients of the 1.x SDK, which take a 429 for the end of their session, use the middleware instead.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeVar, cast

from .decision import Decision
from .headers import rate_limit_fields
from .limit import Limit

__all__ = ["limit_asgi"]

T = TypeVar("T")
Message = MutableMapping[str, Any]
PROBLEM = "https://iana.org/assignments/http-problem-types#quota-exceeded"


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
        fields = _encoded(decided, limiter.limits)

        async def send_with_fields(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *fields]}
            await send(message)

        if decided.allowed:
            await inner(scope, receive, send_with_fields)
        else:
            await _refuse(decided, send_with_fields)

    return limited  # type: ignore[return-value]  # pyright: ignore[reportReturnType]  # an ASGI app for an ASGI app


async def _refuse(decision: Decision, send: Callable[[Message], Awaitable[None]]) -> None:
    problem = {"type": PROBLEM, "title": "Too many requests", "status": 429, "violated-policies": decision.violated}
    body = json.dumps(problem).encode()
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 429, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _encoded(decision: Decision, limits: tuple[Limit, ...]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("ascii")) for name, value in rate_limit_fields(decision, limits).items()]
