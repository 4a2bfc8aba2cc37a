"""Asking for more scopes in HTTP's own words: 403 with ``WWW-Authenticate``, for one tool and not for a whole server.

    POST ──▶ StepUp ──▶ app ──▶ … ──▶ RBACMiddleware(on_deny="challenge")
                │                            │ settle(…, None)         allowed: what was held back flows
                └◀─── what they share ◀──────┘ settle(…, Challenge)    denied: 403 instead, the rest is dropped

The SDK has no error code that becomes 403, and may begin its answer before the decision is made.  So the answer to a
POST is held back until the middleware has decided, or the answer is over because it never came to that.

Sources: RFC 6750, 3.1 (``insufficient_scope``), RFC 9728, 5.1 (``resource_metadata``).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from .conditions import is_async
from .options import CODE

__all__ = ["Challenge", "StepUp", "settle"]

Message: TypeAlias = MutableMapping[str, Any]
App: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]
_KEY = "mcp_rbac.step_up"


class Challenge(NamedTuple):
    """The scopes that are missing, all of them, and the id of the request."""

    scopes: tuple[str, ...]
    request_id: str | int | None


@dataclass
class _Exchange:
    """One POST: what was decided, and what is held back until then."""

    send: Callable[[Message], Awaitable[None]]
    metadata: str
    is_settled: bool = False
    challenge: Challenge | None = None
    held: list[Message] = field(default_factory=list[Message])

    async def pass_on(self, message: Message) -> None:
        """Send *message*, or keep it, or drop it."""
        self.held.append(message)
        is_last = message["type"] == "http.response.body" and not message.get("more_body")
        if self.is_settled or is_last:
            await self.flush()

    async def flush(self) -> None:
        """Send what was held back, or the challenge in its place, once."""
        held, self.held = self.held, []
        if self.challenge is None:
            for message in held:
                await self.send(message)
        elif any(message["type"] == "http.response.start" for message in held):
            for message in _forbidden(self.challenge, self.metadata):
                await self.send(message)


class StepUp:
    """An ASGI app around *app* that answers a denial for want of scopes with HTTP 403 and all of the scopes.

    *resource_metadata* is the URL of the protected resource's metadata, where a client learns whom to ask.  What is no
    POST passes untouched.  A client of mcp 1.x takes any HTTP error but this for the end of its session.

    Raises TypeError if *app* is not an async function or object, ValueError for a URL that cannot stand in a header.
    """

    def __init__(self, app: App, *, resource_metadata: str) -> None:
        if not is_async(app):
            raise TypeError(f"StepUp takes an ASGI app, such as server.streamable_http_app(), got {app!r}")
        if not isinstance(resource_metadata, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # a caller may err
            raise TypeError(f"StepUp needs resource_metadata to be a string, got {resource_metadata!r}")
        if not resource_metadata.startswith(("https://", "http://")) or not _is_quotable(resource_metadata):
            raise ValueError(f"StepUp needs resource_metadata to be an absolute URL, got {resource_metadata!r}")
        self._app = app
        self._metadata = resource_metadata

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection."""
        exchange = _Exchange(send, self._metadata)
        if scope["type"] == "http" and scope["method"] == "POST":
            scope, send = {**scope, _KEY: exchange}, exchange.pass_on
        await self._app(scope, receive, send)
        await exchange.flush()  # of an answer that ends in an extension's way, as with a file or trailers


def settle(request: object, challenge: Challenge | None) -> None:
    """Tell the ``StepUp`` around an HTTP request, if there is one, what was decided; the first decision counts."""
    scope: Any = getattr(request, "scope", None)
    exchange = scope.get(_KEY) if scope else None
    if isinstance(exchange, _Exchange) and not exchange.is_settled:
        exchange.is_settled, exchange.challenge = True, challenge


def _is_quotable(text: str) -> bool:
    return text.isascii() and text.isprintable() and not set(text) & set('"\\ ')


def _forbidden(challenge: Challenge, metadata: str) -> list[Message]:
    scope = " ".join(filter(_is_quotable, challenge.scopes))
    parts = f'Bearer error="insufficient_scope", scope="{scope}", resource_metadata="{metadata}"'
    data = {"error": "insufficient_scope", "scope": scope}
    error = {"code": CODE, "message": "insufficient scope", "data": data}
    body = json.dumps({"jsonrpc": "2.0", "id": challenge.request_id, "error": error}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"www-authenticate", parts.encode()),
    ]
    return [
        {"type": "http.response.start", "status": 403, "headers": headers},
        {"type": "http.response.body", "body": body, "more_body": False},
    ]
