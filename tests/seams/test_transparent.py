"""Behind 1, 3 and 20 pass-throughs a server says exactly what it says without: every message of every scenario compared.

Each seam runs the whole list bare, once, and again behind every arrangement of ``arrangements.py``; what it said is
compared message by message.  What is random is blanked: the sealed ``requestState``.  Messages are compared in their
order within one conversation (a request, its progress, its answer), since two streams of HTTP have no common order.
"""

from __future__ import annotations

import functools
import gc
import importlib.util
import io
import json
import logging
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from importlib.metadata import version
from typing import Any, NamedTuple

import anyio
import pytest

from tests.seams import peers
from tests.seams.arrangements import ARRANGEMENTS, ON_A_WIRE, TRANSPARENT, Passes
from tests.seams.scenarios import NEEDS, SCENARIOS, Scenario, initialize
from tests.seams.specimen import KINDS, lowlevel

Transcript = dict[str, list[Any]]


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
    if FASTMCP:
        eras, kinds = ("legacy", "modern") if FASTMCP > 3 else ("legacy",), ("fastmcp",)
    elif MCP:
        eras, kinds = ("legacy", "modern")[:MCP], (f"official_{MCP}", f"lowlevel_{MCP}")
    else:
        return []
    pairs = [(transport, era) for transport in TRANSPORT_OFFERS for era in eras]
    # 2026-07-28 has no sessions: its HTTP is the same with and without them.
    pairs = [pair for pair in pairs if pair != ("http-stateless", "modern")]
    # A handler-style server over stdio would say the same again: what differs is the server, and it runs in memory.
    return [_seam(kind, *pair) for kind in kinds for pair in pairs if (kind[:8], pair[0]) != ("lowlevel", "stdio")]


Connect = Callable[[], AbstractAsyncContextManager[peers.Peer]]


@asynccontextmanager
async def over_memory(seam: Seam, server: Any) -> AsyncIterator[Connect]:
    """Give every scenario its own connection in memory."""
    plain = lowlevel(server)
    yield lambda: peers.directly(plain) if seam.modern else peers.in_memory(plain)


@asynccontextmanager
async def over_stdio(seam: Seam, arrangement: str, passes: Passes) -> AsyncIterator[Connect]:
    """Start the server as a program, and give all scenarios the one connection that it has."""
    from mcp.client.stdio import StdioServerParameters, stdio_client

    arguments = ["-m", "tests.seams.specimen", seam.kind, arrangement]
    parameters = StdioServerParameters(command=sys.executable, args=arguments, env={"PYTHONPATH": ":".join(sys.path)})
    with tempfile.TemporaryFile("w+") as errors:
        async with peers.over_streams(stdio_client(parameters, errlog=errors), seam.modern) as peer:
            yield lambda: nullcontext(peer)
        errors.seek(0)
        passes.seen = int(errors.read().rpartition("passes ")[2])


@asynccontextmanager
async def over_http(seam: Seam, server: Any) -> AsyncIterator[Connect]:
    """Serve on a free port of the loopback interface, and give every scenario its own connection."""
    import uvicorn

    from mcp.client.streamable_http import streamable_http_client
    from mcp.shared._httpx_utils import create_mcp_http_client

    class Uvicorn(uvicorn.Server):
        """One that leaves the signals to pytest."""

        capture_signals = nullcontext  # type: ignore[assignment]  # called with self as the thing to enter

    config = uvicorn.Config(_app(seam, server), log_level="critical", ws="none", timeout_graceful_shutdown=2)
    http = Uvicorn(config)
    # asyncio switches Nagle's algorithm off only where the protocol is spelt out; with it every answer is 40 ms late.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(functools.partial(http.serve, sockets=[listening]))
            with anyio.fail_after(10):
                while not http.started:
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


def play(seam: Seam, arrangement: str, backend: str = "asyncio") -> tuple[Transcript, Passes]:
    """Run every scenario that the seam offers behind `arrangement`; return what was said, and what the layers saw."""
    passes, said = Passes(), dict[str, list[Any]]()

    async def run() -> None:
        async with _serving(seam, arrangement, passes) as connect:
            for scenario in filter(seam.runs, SCENARIOS):
                async with connect() as peer:
                    try:
                        await _converse(seam, scenario, peer)
                    except AssertionError:
                        if arrangement == "bare":  # elsewhere the comparison says more than the scenario can
                            raise
                    said[scenario.name] = comparable(peer.transcript)

    anyio.run(run, backend=backend)
    return said, passes


def _serving(seam: Seam, arrangement: str, passes: Passes) -> AbstractAsyncContextManager[Connect]:
    if seam.transport == "stdio":
        return over_stdio(seam, arrangement, passes)
    server = KINDS[seam.kind](ARRANGEMENTS[arrangement](passes))
    return over_memory(seam, server) if seam.transport == "memory" else over_http(seam, server)


async def _converse(seam: Seam, scenario: Scenario, peer: peers.Peer) -> None:
    peer.transcript.clear()  # on stdio the peer has been through earlier scenarios
    if not seam.modern and seam.transport != "stdio" and "handshake" not in scenario.name:
        await initialize(peer)
    await scenario.run(peer)


def comparable(transcript: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, str]]:
    """Return (conversation, message) pairs without what is random, the conversations one after another."""
    pairs = [(_conversation(message), f"{arrow} {_text(message)}") for arrow, message in transcript]
    return sorted(pairs, key=lambda pair: pair[0])


def _conversation(message: dict[str, Any]) -> str:
    params = message.get("params")
    token = params.get("progressToken") if isinstance(params, dict) else None
    return str(token or message.get("id", "-"))


def _text(message: dict[str, Any]) -> str:
    blanked = json.loads(json.dumps(message), object_hook=_blank)
    return json.dumps(blanked, sort_keys=True, ensure_ascii=False)


def _blank(mapping: dict[str, Any]) -> dict[str, Any]:
    return {key: "…" if key == "requestState" and value != "forged" else value for key, value in mapping.items()}


@functools.cache
def bare(seam: Seam) -> Transcript:
    """Return what the seam says with nothing in front of it."""
    return play(seam, "bare")[0]


def differences(expected: Transcript, seen: Transcript) -> str:
    """Return every message that differs, as a text for the reader of a failure; empty when there is none."""
    out = io.StringIO()
    for name in expected.keys() | seen.keys():
        if expected.get(name) != seen.get(name):
            lost = [line for line in expected.get(name, []) if line not in seen.get(name, [])]
            new = [line for line in seen.get(name, []) if line not in expected.get(name, [])]
            print(name, *(f"\n  bare    {line}" for line in lost), *(f"\n  wrapped {line}" for line in new), file=out)
    return out.getvalue()


def _cells() -> list[Any]:
    """Every arrangement in memory; over a wire, which costs seconds, each number of layers once."""
    cells = [(s, name) for s in seams() for name in (TRANSPARENT if s.transport == "memory" else ON_A_WIRE)]
    return [pytest.param(*cell, id=f"{cell[0].name}-{cell[1]}") for cell in cells]


every_seam = pytest.mark.parametrize("seam", seams(), ids=lambda seam: seam.name)
pytestmark = [
    pytest.mark.skipif(not seams(), reason="no MCP SDK here: nox -s seams makes an environment for each"),
    # Some messages that are compared belong to capabilities which the SDK has deprecated, and still serves.
    pytest.mark.filterwarnings("ignore:The .* capability is deprecated"),
    # The HTTP transports of mcp 1.x leave their streams to the garbage collector.
    pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning"),
]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Keep the tracebacks of the errors that the scenarios provoke out of the report."""
    logging.disable(logging.CRITICAL)
    yield
    gc.collect()  # here, where the warnings about what the SDK left open are still expected
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize(("seam", "arrangement"), _cells())
def test_the_server_answers_exactly_as_without(seam: Seam, arrangement: str) -> None:
    """The foundation of everything: putting a chain in front changes nothing by itself."""
    said, passes = play(seam, arrangement)
    assert passes.seen, "the layers were not there: the comparison would say nothing"
    assert not differences(bare(seam), said), differences(bare(seam), said)


@every_seam
def test_two_bare_runs_are_alike(seam: Seam) -> None:
    """What is random has been blanked; otherwise a difference could be chance, and so could its absence."""
    assert not differences(bare(seam), play(seam, "bare")[0])


@every_seam
def test_a_middleware_that_changes_a_call_is_caught(seam: Seam) -> None:
    """The comparison can fail, on every seam."""
    found = differences(bare(seam), play(seam, "meddling")[0])
    assert "meddled" in found
    assert set(found.splitlines()[0::3]) >= set(), found


@every_seam
def test_what_the_seam_cannot_run_is_reported(seam: Seam) -> None:
    """Nothing is left out silently."""
    left_out = [scenario for scenario in SCENARIOS if not seam.runs(scenario)]
    assert len(bare(seam)) + len(left_out) == len(SCENARIOS)
    reasons: dict[str, list[str]] = {}
    for scenario in left_out:
        missing = " and ".join(NEEDS[need] for need in sorted(scenario.needs - seam.offers))
        reasons.setdefault(missing, []).append(scenario.name)
    text = "; ".join(f"for want of {reason}: {', '.join(names)}" for reason, names in reasons.items())
    if text:
        pytest.skip(f"{seam.name} runs {len(bare(seam))} of {len(SCENARIOS)} scenarios, {text}")


@pytest.mark.parametrize("seam", [s for s in seams() if s.transport == "memory" and not FASTMCP], ids=lambda s: s.name)
def test_on_trio_too(seam: Seam) -> None:
    """In memory the SDK runs on trio; FastMCP needs asyncio."""
    assert not differences(play(seam, "bare", "trio")[0], play(seam, "chain-20", "trio")[0])
