"""Behind 1, 3 and 20 pass-throughs a server says exactly what it says without: every message is compared.

Each seam runs the whole list bare, once, and again behind every arrangement of ``arrangements.py``; what it said is
compared message by message.  What is random is blanked: the sealed ``requestState``.  Messages are compared in their
order within one conversation (a request, its progress, its answer), since two streams of HTTP have no common order.
"""

from __future__ import annotations

import functools
import gc
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from tests.seams import peers
from tests.seams.arrangements import Passes, arrangements_for
from tests.seams.scenarios import NEEDS, SCENARIOS, Scenario, initialize
from tests.seams.served import FASTMCP, Seam, seams, serving

Transcript = dict[str, list[Any]]


def play(seam: Seam, arrangement: str, backend: str = "asyncio") -> tuple[Transcript, Passes]:
    """Run every scenario that the seam offers behind `arrangement`; return what was said, and what the layers saw."""
    passes, said = Passes(), dict[str, list[Any]]()

    async def run() -> None:
        async with serving(seam, arrangement, passes) as connect:
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


CELLS = [
    pytest.param(seam, arrangement, id=f"{seam.name}-{arrangement}")
    for seam in seams()
    for arrangement in arrangements_for(seam.transport)
]
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


@pytest.mark.parametrize(("seam", "arrangement"), CELLS)
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
