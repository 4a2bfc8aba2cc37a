"""What goes over the wire when the ASGI side refuses, passes on, or will not read: real servers, plain HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import mcp_middleware as mm
import pytest
from mcp_middleware.asgi import STATUSES, wrap_asgi

from tests.seams import servers
from tests.seams.cells import cells
from tests.seams.clients import serve
from tests.seams.servers import MCP, http_app

pytestmark = pytest.mark.parametrize("anyio_backend", ["uvloop"], indirect=True)  # real time, for real servers

BUILD = next(cell.build for cell in cells() if cell.place == "ASGI")
ACCEPT = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
MODERN = {**ACCEPT, "mcp-protocol-version": "2026-07-28"}
LEGACY = {**ACCEPT, "mcp-protocol-version": "2025-06-18"}
CALL: dict[str, Any] = {"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {"name": "add", "arguments": {}}}


class Refuser:
    """Refuses every tools/call and every notification with one error, and remembers the contexts it has seen."""

    def __init__(self, code: int, data: Any = None) -> None:
        self.seen: list[mm.Call] = []
        self._refusal = code, "no", data

    async def __call__(self, ctx: Any, call_next: Any) -> Any:
        """Refuse or pass on."""
        self.seen.append(ctx)
        if ctx.method == "tools/call" or mm.is_notification(ctx):
            raise mm.refuse(*self._refusal)
        return await call_next(ctx)


@asynccontextmanager
async def served(middleware: Any, **options: Any) -> AsyncIterator[tuple[httpx.AsyncClient, str]]:
    """Serve the small server, stateless, behind a middleware at its HTTP side."""
    app = http_app(getattr(servers, BUILD)(), stateless=True)
    async with serve(wrap_asgi(app, middleware, **options)) as url, httpx.AsyncClient(timeout=10) as client:
        yield client, url


@pytest.mark.parametrize(
    ("code", "data", "status", "retry_after"),
    [
        (-31029, {"retry_after": 1.2}, 429, "2"),
        (-31103, {"retryAfter": -1}, 503, "0"),
        (-31003, None, 403, None),
        (-31999, {"retry_after": 3}, 429, "3"),
        (-31999, {"retry_after": "soon"}, 403, None),
    ],
)
async def test_modern_refusal_is_an_http_error(code: int, data: Any, status: int, retry_after: str | None) -> None:
    """Proxies and plain HTTP clients understand 429, 403 and 503; MCP clients read the body."""
    async with served(Refuser(code, data)) as (client, url):
        response = await client.post(url, json=CALL, headers=MODERN)
    assert response.status_code == status
    assert response.headers.get("retry-after") == retry_after
    error = {"code": code, "message": "no", **({} if data is None else {"data": data})}
    assert response.json() == {"jsonrpc": "2.0", "id": 5, "error": error}


@pytest.mark.parametrize("headers", [LEGACY, ACCEPT], ids=["with a version", "without"])
async def test_older_refusal_is_200_with_an_error(headers: dict[str, str]) -> None:
    """The 1.x client ends its whole session at any HTTP error."""
    async with served(Refuser(-31029, {"retry_after": 1})) as (client, url):
        response = await client.post(url, json=CALL, headers=headers)
    assert response.status_code == 200
    assert response.json()["error"] == {"code": -31029, "message": "no", "data": {"retry_after": 1}}


async def test_older_notification_is_dropped_when_refused() -> None:
    """There is no id to answer, and an HTTP error would end the session."""
    refuser = Refuser(-31029)
    message = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    async with served(refuser) as (client, url):
        response = await client.post(url, json=message, headers=LEGACY)
    assert (response.status_code, response.content) == (202, b"")
    assert [call.request_id for call in refuser.seen] == [None]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        json.dumps([CALL]).encode(),
        b'{"jsonrpc": "2.0", "id": 1, "result": {}}',
        b"[" * 100_000,
        b"\xff",
    ],
    ids=["empty", "cut off", "list", "batch", "answer", "deep", "no text"],
)
async def test_a_body_that_is_no_call_is_the_apps_business(body: bytes) -> None:
    """The app answers exactly as it does alone."""
    refuser = Refuser(-31003)
    async with served(refuser) as (client, url):
        wrapped = await client.post(url, content=body, headers=LEGACY)
    async with serve(http_app(getattr(servers, BUILD)(), stateless=True)) as url, httpx.AsyncClient() as client:
        bare = await client.post(url, content=body, headers=LEGACY)
    assert (wrapped.status_code, wrapped.content) == (bare.status_code, bare.content)
    assert refuser.seen == []


async def test_other_methods_are_the_apps_business() -> None:
    """GET opens a stream, DELETE ends a session: neither is a call."""
    refuser = Refuser(-31003)
    async with served(refuser) as (client, url):
        assert (await client.delete(url, headers=LEGACY)).status_code in (200, 405)
        assert (await client.get(url.replace("/mcp", "/nowhere"))).status_code == 404
    assert refuser.seen == []


async def test_a_body_over_the_limit_is_refused_unread() -> None:
    """Padding must not be a way past a limit."""
    refuser = Refuser(-31003)
    async with served(refuser, body_limit=200) as (client, url):
        large = json.dumps({**CALL, "padding": "x" * 200})
        assert (await client.post(url, content=large, headers=LEGACY)).status_code == 413
        assert refuser.seen == []
        assert (await client.post(url, json=CALL, headers=LEGACY)).status_code == 200


async def test_the_context_has_what_the_request_has() -> None:
    """Method, params, id and headers come from the message and its POST."""
    refuser = Refuser(-31003)
    async with served(refuser) as (client, url):
        await client.post(url, json=CALL, headers={**LEGACY, "X-Team": "blue"})
    (call,) = refuser.seen
    assert (call.method, call.params, call.request_id) == ("tools/call", CALL["params"], 5)
    assert call.headers["x-team"] == "blue"
    assert mm.target(call) == "add"
    assert call.request.scope["client"][0] == "127.0.0.1"


async def test_a_middleware_may_answer_itself() -> None:
    """A result as on the wire becomes the response; the app is never called."""

    async def answer(ctx: Any, call_next: Any) -> Any:
        return {"content": [], "resultType": "complete"}

    async with served(answer) as (client, url):
        response = await client.post(url, json=CALL, headers=LEGACY)
    assert response.json() == {"jsonrpc": "2.0", "id": 5, "result": {"content": [], "resultType": "complete"}}


async def test_what_is_no_refusal_passes() -> None:
    """An accident is the server's business: it logs it, and answers 500 without a word of it."""

    async def stumble(ctx: Any, call_next: Any) -> Any:
        raise ValueError("hunter2")

    async with served(stumble) as (client, url):
        response = await client.post(url, json=CALL, headers=LEGACY)
    assert response.status_code == 500
    assert "hunter2" not in response.text


async def test_statuses_are_the_callers_to_choose() -> None:
    """A code of one's own gets a status of one's own."""
    async with served(Refuser(-30000), statuses={**STATUSES, -30000: 409}) as (client, url):
        assert (await client.post(url, json=CALL, headers=MODERN)).status_code == 409


@pytest.mark.skipif(MCP == 1, reason="the 1.x SDK has no protocol 2026-07-28")
async def test_modern_notification_is_told_when_refused() -> None:
    """An HTTP error is the protocol's way to say that a notification was not accepted."""
    message = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    async with served(Refuser(-31003)) as (client, url):
        response = await client.post(url, json=message, headers=MODERN)
    assert (response.status_code, response.json()["id"]) == (403, None)
