"""Where the specimen servers can be reached: each kind of server, on each transport, in each era of the protocol.

Every scenario has a connection of its own, but for stdio, where a server is a program and has one connection for all.
"""

from __future__ import annotations

import importlib.util
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from importlib.metadata import version
from typing import Any, NamedTuple

import anyio
from mcp_middleware import Chain

from tests.seams import peers
from tests.seams.arrangements import ARRANGEMENTS, Passes
from tests.seams.scenarios import Scenario
from tests.seams.specimens import KINDS, lowlevel


def installed(package: str) -> int:
    """Return the major version of an installed package, 0 without it."""
    return int(version(package).split(".")[0]) if importlib.util.find_spec(package) else 0


MCP, FASTMCP = installed("mcp"), installed("fastmcp")


class Seam(NamedTuple):
    """A kind of server, a transport, a protocol era, and which of ``NEEDS`` it offers."""

    name: str
    kind: str
    transport: str
    modern: bool
    offers: frozenset[str]

    def runs(self, scenario: Scenario) -> bool:
        """Say whether the scenario can be had here."""
        return scenario.needs <= self.offers


RICH = {"rich", "logging"}
KIND_OFFERS: dict[str, set[str]] = {
    "official_2": {*RICH, "completion", "guard", "signals"},
    "lowlevel_2": {"plain", "pages", "signals"},
    "official_1": {*RICH, "completion"},
    "lowlevel_1": {"plain", "pages"},
    "fastmcp": {*RICH, *({"pages"} if FASTMCP > 2 else ()), *({"guard"} if FASTMCP > 3 else ())},
    "fastmcp_table": {*RICH, *({"pages"} if FASTMCP > 2 else ())},
}
DUPLEX = {"state", "back channel", "stream"}
TRANSPORT_OFFERS: dict[str, set[str]] = {
    "memory": {*DUPLEX, "gate"},
    "stdio": {*DUPLEX, "gate"},
    # The 1.x server answers a request without a session with a bare HTTP 400, which ends the client's whole session.
    "http": {*DUPLEX, *({"gate"} if MCP > 1 else ())},
    "http-stateless": set(),
}


def _seam(kind: str, transport: str, era: str) -> Seam:
    offers = KIND_OFFERS[kind] | TRANSPORT_OFFERS[transport] | {era}
    return Seam(f"{kind}-{transport}-{era}", kind, transport, era == "modern", frozenset(offers))


def seams() -> list[Seam]:
    """List the seams of the SDK that is installed."""
    kinds = ("fastmcp",) if FASTMCP else (f"official_{MCP}", f"lowlevel_{MCP}") if MCP else ()
    eras = ("legacy", "modern")[:MCP]
    cells = [(kind, transport, era) for kind in kinds for transport in TRANSPORT_OFFERS for era in eras]
    table = [("fastmcp_table", "memory", "legacy")] if FASTMCP in (2, 3) else []
    return [_seam(*cell) for cell in cells + table if not _redundant(*cell)]


def _redundant(kind: str, transport: str, era: str) -> bool:
    # 2026-07-28 has no sessions: its HTTP is the same with and without them. And a handler-style server says over stdio
    # what it says in memory: the transport is the business of the decorator-style one beside it.
    return (transport, era) == ("http-stateless", "modern") or (kind[:8], transport) == ("lowlevel", "stdio")


Connect = Callable[[], AbstractAsyncContextManager[peers.Peer]]


def serving(seam: Seam, arrangement: str, passes: Passes) -> AbstractAsyncContextManager[Connect]:
    """Start the seam's server behind `arrangement`; the block gets a function that connects one peer to it."""
    if seam.transport == "stdio":
        return _over_stdio(seam, arrangement, passes)
    server = KINDS[seam.kind](ARRANGEMENTS[arrangement](passes))
    if seam.transport == "memory":
        return _over_memory(seam, lowlevel(server))
    app = _app(seam, server)
    return _over_http(seam, Chain(*[passes] * 3).wrap_asgi(app) if arrangement == "asgi-3" else app)


@asynccontextmanager
async def _over_memory(seam: Seam, server: Any) -> AsyncIterator[Connect]:
    yield lambda: peers.directly(server) if seam.modern else peers.in_memory(server)


@asynccontextmanager
async def _over_stdio(seam: Seam, arrangement: str, passes: Passes) -> AsyncIterator[Connect]:
    from mcp.client.stdio import StdioServerParameters, stdio_client

    arguments = ["-m", "tests.seams.specimens", seam.kind, arrangement]
    parameters = StdioServerParameters(command=sys.executable, args=arguments, env={"PYTHONPATH": ":".join(sys.path)})
    with tempfile.TemporaryFile("w+") as errors:
        async with peers.over_streams(stdio_client(parameters, errlog=errors), seam.modern) as peer:
            yield lambda: nullcontext(peer)
        errors.seek(0)
        passes.seen = int(errors.read().rpartition("passes ")[2])


@asynccontextmanager
async def _over_http(seam: Seam, app: Any) -> AsyncIterator[Connect]:
    import uvicorn
    from mcp.client.streamable_http import streamable_http_client
    from mcp.shared._httpx_utils import create_mcp_http_client

    config = uvicorn.Config(app, log_level="critical", ws="none", timeout_graceful_shutdown=2)
    http = uvicorn.Server(config)
    http.capture_signals = nullcontext  # type: ignore[method-assign]  # the signals are pytest's
    # asyncio switches Nagle's algorithm off only where the protocol is spelt out; with it every answer is 40 ms late.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(http.serve, sockets=[listening]))
            with anyio.fail_after(10):
                while not http.started:  # uvicorn sets a flag, and no event
                    await anyio.sleep(0.01)
            async with create_mcp_http_client() as client:  # one for all connections: loading certificates is slow
                yield lambda: peers.over_streams(streamable_http_client(url, http_client=client), seam.modern)
            http.should_exit = True


def _app(seam: Seam, server: Any) -> Any:
    stateless = seam.transport == "http-stateless"
    if seam.kind == "fastmcp":
        return server.http_app(path="/mcp", stateless_http=stateless)
    if seam.kind == "official_1":
        server.settings.stateless_http = stateless
        return server.streamable_http_app()
    if seam.kind == "lowlevel_1":
        return _app_of_lowlevel_1(server, stateless)
    return server.streamable_http_app(stateless_http=stateless)


def _app_of_lowlevel_1(server: Any, stateless: bool) -> Any:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from starlette.applications import Starlette
    from starlette.routing import Mount

    manager = StreamableHTTPSessionManager(server, stateless=stateless)
    routes = [Mount("/", app=manager.handle_request)]
    return Starlette(routes=routes, lifespan=lambda app: manager.run())
