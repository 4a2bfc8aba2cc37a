"""The accessors on the contexts that the SDKs really make, at every place on a server that has a context of its own."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import mcp_middleware as mm
import pytest
from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend
from mcp.server.auth.provider import AccessToken
from mcp.shared import exceptions
from starlette.middleware.authentication import AuthenticationMiddleware

from tests.seams.cells import ARGUMENTS, Cell, cells, server_of
from tests.seams.clients import Client, connect
from tests.seams.servers import FASTMCP, MCP, QUESTION, STATE

HERE = [
    cell for cell in cells() if cell.transport != "stdio" and cell.side == "server" and "decorated" not in cell.place
]
HTTP = [cell for cell in HERE if cell.transport != "memory"]
RICH = [cell for cell in HERE if not cell.build.startswith("lowlevel") and cell.place != "Extension"]
MODERN = [cell for cell in HERE if cell.modern and cell.place != "Extension"]


def at(places: list[Cell]) -> Callable[[Any], Any]:
    """Run a test at some places, in real time, which real servers need."""
    nowhere = pytest.param(None, marks=pytest.mark.skip("this SDK has no such place"))
    at_places = pytest.mark.parametrize("cell", [pytest.param(cell, id=cell.name) for cell in places] or [nowhere])
    in_real_time = pytest.mark.parametrize("anyio_backend", ["uvloop"], indirect=True)
    return lambda test: at_places(in_real_time(test))


class Probe:
    """Reads one thing of every context, and remembers it by method."""

    def __init__(self, read: Callable[[Any], Any]) -> None:
        self.found: list[tuple[str, Any]] = []
        self._read = read

    async def __call__(self, ctx: Any, call_next: Any) -> Any:
        """Read, then pass the call on."""
        self.found.append((ctx.method, self._read(ctx)))
        return await call_next(ctx)

    def of(self, method: str) -> list[Any]:
        """List what was read of one method."""
        return [value for seen, value in self.found if seen == method]


@asynccontextmanager
async def probed(cell: Cell, read: Callable[[Any], Any]) -> AsyncIterator[tuple[Client, Probe]]:
    """Open a cell with a probe in its place."""
    probe = Probe(read)
    async with connect(server_of(cell, mm.Chain(probe)), cell.transport, modern=cell.modern) as client:
        yield client, probe


@at(HERE)
async def test_target_and_arguments(cell: Cell) -> None:
    """Keys, globs and rewriting depend on them."""
    async with probed(cell, lambda ctx: (mm.target(ctx), mm.arguments(ctx))) as (client, probe):
        await client.call("add", ARGUMENTS["add"])
    assert probe.of("tools/call") == [("add", ARGUMENTS["add"])]
    assert all(found == (None, {}) for method, found in probe.found if method != "tools/call")


@at(RICH)
async def test_target_of_a_resource_is_its_uri_and_of_a_prompt_its_name(cell: Cell) -> None:
    """The models of the 1.x SDK hold an AnyUrl, those of FastMCP a str, the others the wire's."""
    async with probed(cell, lambda ctx: (mm.target(ctx), dict(mm.arguments(ctx)))) as (client, probe):
        await client.session.read_resource("memo://note")
        await client.session.get_prompt("greet", {"name": "Ann"})
    assert probe.of("resources/read") == [("memo://note", {})]
    assert probe.of("prompts/get") == [("greet", {"name": "Ann"})]


@at(HERE)
async def test_requests_have_an_id_and_notifications_have_none(cell: Cell) -> None:
    """Nobody waits for the answer to a notification."""
    async with probed(cell, lambda ctx: (mm.request_id(ctx), mm.is_notification(ctx))) as (client, probe):
        await client.call("add", ARGUMENTS["add"])
        await client.call("add", ARGUMENTS["add"])
    (first, notified), (second, _) = probe.of("tools/call")
    assert not notified
    assert None not in (first, second)
    assert first != second
    assert set(probe.of("notifications/initialized")) <= {(None, True)}


@at(HERE)
async def test_headers_are_those_of_the_request(cell: Cell) -> None:
    """Over stdio and in memory there are none."""
    async with probed(cell, mm.headers) as (client, probe):
        await client.call("add", ARGUMENTS["add"])
    (headers,) = probe.of("tools/call")
    assert headers.get("content-type") == (None if cell.transport == "memory" else "application/json")


@at(HERE)
async def test_session_id_is_the_transports(cell: Cell) -> None:
    """Only a stateful connection before 2026-07-28 has one, and keeps it."""
    async with probed(cell, mm.session_id) as (client, probe):
        await client.call("add", ARGUMENTS["add"])
        await client.call("add", ARGUMENTS["add"])
    first, second = probe.of("tools/call")
    assert first == second
    assert (first is not None) == (cell.transport == "http" and not cell.modern)


@at(MODERN)
async def test_continuation_is_the_call_that_answers_a_question(cell: Cell) -> None:
    """It must not be cached, retried or charged again."""
    async with probed(cell, mm.is_continuation) as (client, probe):
        await client.call("ask")
        answer = {QUESTION: {"action": "accept", "content": {"yes": True}}}
        kept = {"request_state": STATE} if cell.build == "lowlevel_2" else {}  # others seal it, and want their own back
        answered = await client.call("ask", input_responses=_typed(answer), **kept)
    assert answered.text == "answered"
    assert probe.of("tools/call") == [False, True]


def _typed(answers: dict[str, Any]) -> dict[str, Any]:
    from mcp_types import ElicitResult

    return {name: ElicitResult.model_validate(answer) for name, answer in answers.items()}


@at([] if FASTMCP else MODERN)  # FastMCP 4 does not serve subscriptions/listen by itself
async def test_stream_is_subscriptions_listen_alone(cell: Cell) -> None:
    """Its call_next lasts as long as the client listens."""
    from mcp.client.subscriptions import listen

    async with probed(cell, mm.is_stream) as (client, probe), listen(client.session, tools_list_changed=True):
        await client.call("add", ARGUMENTS["add"])
    assert probe.of("subscriptions/listen") == [True]
    assert probe.of("tools/call") == [False]


class AnyToken:
    """Accepts every token: whose it is stays the same, its only scope is the token itself."""

    async def verify_token(self, token: str) -> AccessToken:
        """Say what the token says."""
        return AccessToken(token=token, client_id="app", scopes=[token], claims={"iss": "https://issuer", "sub": "ann"})


def authenticated(app: Any) -> Any:
    """Put the SDK's own authentication before an app."""
    return AuthenticationMiddleware(AuthContextMiddleware(app), backend=BearerAuthBackend(AnyToken()))


class Authenticated:
    """What ``connect`` wraps an app with."""

    wrap_asgi = staticmethod(authenticated)


class Rotating:
    """An HTTP client whose token changes."""

    def __init__(self) -> None:
        httpx = __import__("httpx2" if MCP >= 2 else "httpx")
        self.token = ""
        self.client = httpx.AsyncClient(event_hooks={"request": [self._authorize]}, follow_redirects=True, timeout=10)

    async def _authorize(self, request: Any) -> None:
        request.headers["authorization"] = f"Bearer {self.token}"


def ambient_token() -> str | None:
    """Read the token as the SDK's own contextvar has it."""
    token = sys.modules["mcp.server.auth.middleware.auth_context"].get_access_token()
    return token and token.token


@at(HTTP)
async def test_principal_is_that_of_the_request_while_the_token_rotates(cell: Cell) -> None:
    """In stateful sessions of the 1.x SDK the contextvar still holds the token that opened the session."""
    rotating = Rotating()
    probe = Probe(lambda ctx: (mm.principal(ctx), ambient_token()))
    server = server_of(cell, mm.Chain(probe))
    options = {"modern": cell.modern, "asgi": Authenticated, "http": rotating.client}
    rotating.token = "t0"
    async with rotating.client, connect(server, cell.transport, **options) as client:
        for number in (1, 2, 3):
            rotating.token = f"t{number}"
            await client.call("add", ARGUMENTS["add"])
    tokens = ["t1", "t2", "t3"]
    expected = [mm.Principal("app", "https://issuer", "ann", (token,)) for token in tokens]
    assert [principal for principal, _ in probe.of("tools/call")] == expected
    stale = MCP == 1 and cell.transport == "http"
    assert [ambient for _, ambient in probe.of("tools/call")] == (["t0"] * 3 if stale else tokens)


@at(HERE)
async def test_nobody_is_the_principal_without_a_token(cell: Cell) -> None:
    """What a caller says of himself, in _meta or as clientInfo, is no identity."""
    meta = {"client_id": "root"}
    async with probed(cell, mm.principal) as (client, probe):
        await client.call("add", ARGUMENTS["add"], meta=meta)
    assert probe.of("tools/call") == [None]


def test_refuse_makes_the_error_class_of_the_sdk() -> None:
    """Any other class loses code and data, and leaks its text on connections before 2026-07-28."""
    error = mm.refuse(-31029, "slow down", {"retry_after": 7})
    assert isinstance(error, exceptions.MCPError if MCP >= 2 else exceptions.McpError)
    assert (error.error.code, error.error.message, error.error.data) == (-31029, "slow down", {"retry_after": 7})
    assert mm.outcome(error) == "rejected"


@pytest.mark.skipif(not FASTMCP, reason="FastMCP is not installed")
def test_outcome_of_a_tool_error_is_that_of_its_cause() -> None:
    """FastMCP wraps what a tool raised."""
    from fastmcp.exceptions import ToolError

    error = ToolError("wrapped")
    assert mm.outcome(error) == "tool_error"
    error.__cause__ = mm.refuse(-31029, "slow down")
    assert mm.outcome(error) == "rejected"


@pytest.mark.skipif(MCP != 1, reason="ServerResult is of the 1.x SDK")
def test_outcome_looks_into_a_server_result() -> None:
    """The 1.x table returns results in a wrapper."""
    from mcp import types

    result = types.CallToolResult(content=[], isError=True)
    assert mm.outcome(types.ServerResult(result)) == mm.outcome(result) == "tool_error"
