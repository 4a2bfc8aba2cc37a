"""Both protocol eras with a cache that keeps whatever it may: what is said on the wire must be what the SDK would say.

All conversations of ``scenarios.py`` are run twice without a cache, and twice with one, cold and then warm; every
message is compared. Only the seconds that an answer may still be kept are the cache's own to say.
"""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import anyio
import mcp_middleware as mm
import pytest
from mcp_cache import Cache, CacheMiddleware, NotStored
from mcp_cache.keys import parsed
from mcp_cache.sqlite import SqliteStore

from tests.seams.arrangements import ARRANGEMENTS, Passes
from tests.seams.scenarios import SCENARIOS, initialize
from tests.seams.served import FASTMCP, Seam, seams, serving
from tests.seams.servers import MCP
from tests.seams.test_transparent import Transcript, _converse, comparable, differences

TTL = re.compile(r'"ttlMs": \d+')
IN_MEMORY = [seam for seam in seams() if seam.transport == "memory"]
pytestmark = [
    pytest.mark.skipif(not seams(), reason="no MCP SDK here: nox -s seams makes an environment for each"),
    pytest.mark.filterwarnings("ignore:The .* capability is deprecated"),  # and still served, so it is compared
]


def without_ttl(said: Transcript) -> Transcript:
    """Blank the one member that the cache rewrites."""
    return {name: [(who, TTL.sub('"ttlMs": …', text)) for who, text in lines] for name, lines in said.items()}


def play_twice(seam: Seam, arrangement: str) -> list[Transcript]:
    """Run every scenario twice with one server: with a cold cache and with a warm one, if there is a cache."""
    said: list[Transcript] = []

    async def run() -> None:
        async with serving(seam, arrangement, Passes()) as connect:
            for _ in ("cold", "warm"):
                said.append({})
                for scenario in filter(seam.runs, SCENARIOS):
                    async with connect() as peer:
                        await _converse(seam, scenario, peer)
                        said[-1][scenario.name] = comparable(peer.transcript)

    anyio.run(run)
    return [without_ttl(transcript) for transcript in said]


@pytest.mark.parametrize("seam", IN_MEMORY, ids=lambda seam: seam.name)
def test_every_conversation_is_the_same(seam: Seam, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cold and warm; and the warm one was answered from the cache, or nothing is shown."""
    caching = CacheMiddleware(ttl=60)
    monkeypatch.setitem(ARRANGEMENTS, "cached", lambda passes: [mm.Chain(caching, passes)])
    for expected, said in zip(play_twice(seam, "bare"), play_twice(seam, "cached"), strict=True):
        assert not differences(expected, said), differences(expected, said)
    assert caching.cache.statistics().hits >= 1


def told(answer: dict[str, Any]) -> str:
    """What the result says, but for the one member that the cache rewrites."""
    return TTL.sub("", json.dumps(answer["result"], sort_keys=True))


ASKED: dict[str, dict[str, Any] | None] = {
    "tools/list": None,
    "resources/list": None,
    "resources/templates/list": None,
    "prompts/list": None,
    "resources/read": {"uri": "memo://hello"},
    "prompts/get": {"name": "greet", "arguments": {"name": "Ada"}},
    "tools/call": {"name": "add", "arguments": {"a": 1, "b": 2}},
}


@pytest.mark.parametrize("seam", IN_MEMORY, ids=lambda seam: seam.name)
def test_every_method_is_answered_from_the_cache(seam: Seam, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of those that the server has, by itself, although its tools and prompts are local functions."""
    caching = CacheMiddleware(ttl=60, tools={"add": 60})
    monkeypatch.setitem(ARRANGEMENTS, "cached", lambda passes: [mm.Chain(caching, passes)])
    hits: dict[str, int] = {}

    async def run() -> None:
        async with serving(seam, "cached", Passes()) as connect, connect() as peer:
            if not seam.modern:
                await initialize(peer)
            for method, params in ASKED.items():
                first = await peer.request(method, params)
                before = caching.cache.statistics().hits
                second = await peer.request(method, params)
                if "result" in first and not first["result"].get("isError"):
                    assert told(first) == told(second)
                    hits[method] = caching.cache.statistics().hits - before

    anyio.run(run)
    assert hits == dict.fromkeys(hits, 1)
    assert set(hits) == (set(ASKED) if "rich" in seam.offers else {"tools/list"})


@pytest.mark.parametrize("seam", IN_MEMORY, ids=lambda seam: seam.name)
def test_results_go_into_a_store_where_they_come_back_exactly(
    seam: Seam, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All but the lists of FastMCP, whose tools are more than they say: an event tells of those, each time."""
    events: list[Any] = []
    store, passes = SqliteStore(tmp_path / "cache.db"), Passes()
    caching = CacheMiddleware(Cache(isolation="copy", store=store, on_event=events.append), ttl=60, tools={"add": 60})
    monkeypatch.setitem(ARRANGEMENTS, "cached", lambda passes: [mm.Chain(caching, passes)])
    asked_again: set[str] = set()

    async def run() -> None:
        async with serving(seam, "cached", passes) as connect, connect() as peer:
            if not seam.modern:
                await initialize(peer)
            for method, params in ASKED.items():
                first, seen = await peer.request(method, params), passes.seen
                second = await peer.request(method, params)
                if "result" in first and not first["result"].get("isError"):
                    assert told(first) == told(second)
                    if passes.seen > seen:
                        asked_again.add(method)
        await store.aclose()

    anyio.run(run)
    lists = {method for method in ASKED if method.endswith("/list")} if seam.kind == "fastmcp" else set[str]()
    assert asked_again == lists
    assert {parsed(event.key)[0] for event in events if isinstance(event, NotStored)} == lists


@pytest.mark.skipif(MCP < 2 or bool(FASTMCP), reason="MCPServer of mcp 2 lets the operator say what may be cached")
@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_cacheable_resources_for_clients_of_both_eras(mode: Any) -> None:
    """The client checks each answer against its schemas: the age is taken off, and nothing else is said."""
    from mcp import Client
    from mcp.server.caching import CacheHint
    from mcp.server.mcpserver import MCPServer

    clock = itertools.count(step=0.5)
    hint = CacheHint(ttl_ms=60_000, scope="public")
    caching = CacheMiddleware(ttl={"resources/list": 60, "resources/read": 60} if mode == "legacy" else None)
    caching.cache._clock = caching.cache._engine.clock = lambda: float(next(clock))
    server = MCPServer("x", middleware=[caching], cache_hints={"resources/list": hint, "resources/read": hint})
    reads = []

    @server.resource("memo://a")
    def memo() -> str:
        reads.append(1)
        return "words"

    async with Client(server, mode=mode, cache=None) as client:
        listed = [await client.list_resources() for _ in range(3)]
        read = [await client.read_resource("memo://a") for _ in range(3)]
    assert len(reads) == 1
    for answers in (listed, read):
        dumped = [answer.model_dump(by_alias=True, exclude={"ttl_ms"}) for answer in answers]
        assert dumped[0] == dumped[1] == dumped[2]
        if mode == "auto":
            assert [answer.cache_scope for answer in answers] == ["public"] * 3
            assert 60_000 >= answers[0].ttl_ms > answers[1].ttl_ms > answers[2].ttl_ms > 50_000
