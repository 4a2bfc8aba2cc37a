"""Requests that are really sent again: to servers of each SDK, in another process too, and by their clients."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import mcp_middleware as mm
import pytest
from mcp_retry import Hedge, Retry, RetryMiddleware, constant

from tests.seams import rows, servers
from tests.seams.clients import Client, connect
from tests.seams.servers import FASTMCP, MCP

pytestmark = [
    pytest.mark.skipif(not MCP, reason="no MCP SDK here: nox -s seams makes an environment for each"),
    pytest.mark.parametrize("anyio_backend", ["uvloop"], indirect=True),  # real time, for real servers
]

BUILD = "fastmcp" if FASTMCP else "mcpserver" if MCP >= 2 else "official_1"


def opened(transport: str, *row: str, client: Any = None) -> AbstractAsyncContextManager[Client]:
    """Open a server, for stdio a program, with a row of the matrix in front, or with *client* around its client."""
    middleware = [rows.build(*row)] if row else []
    server = [BUILD, *(row or ("", ""))] if transport == "stdio" else getattr(servers, BUILD)(*middleware)
    return connect(server, transport, modern=MCP >= 2, client=client)


async def check(client: Client) -> None:
    """Call a tool that may be repeated, once, and one that must not be, until it answers."""
    await client.session.list_tools()  # says which is which
    assert (await client.call("read")).text == "call 3"
    answers = [await client.call("pay") for _ in range(3)]
    assert [answer.is_error for answer in answers] == [True, True, False]


@pytest.mark.parametrize("transport", ["memory", "stdio", "http"])
async def test_server_repeats_what_may_be_repeated(transport: str, tmp_path: Path) -> None:
    """Whichever way its clients come."""
    async with opened(transport, "retry", str(tmp_path / "log")) as client:
        await check(client)


@pytest.mark.parametrize("transport", ["memory", "stdio", "http"])
async def test_client_repeats_what_may_be_repeated(transport: str) -> None:
    """Each attempt is a request of its own on the wire."""
    retry = RetryMiddleware(Retry(on=ConnectionError, backoff=constant(0)))
    async with opened(transport, client=mm.Chain(retry)) as client:
        await check(client)


@pytest.mark.parametrize("transport", ["memory", "http"])
async def test_client_sends_late_requests_twice(transport: str) -> None:
    """The loser is taken back, and the session goes on."""
    hedge = Hedge(after=0.1)
    retry = RetryMiddleware(Retry(on=ConnectionError), safe=["linger"], hedge=hedge)
    async with opened(transport, client=mm.Chain(retry)) as client:
        assert (await client.call("linger")).text == "call 2"
        assert (await client.call("add", {"a": 1, "b": 2})).text == "3"
    assert hedge.statistics().won == 1
