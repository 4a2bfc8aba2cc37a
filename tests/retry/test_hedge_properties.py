"""Invariants of a hedge for any script of answers, any budget and any deadline around it."""

from __future__ import annotations

import math

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp_retry import Budget, BudgetRefused, Hedge, Hedged, HedgeWon

from tests.support.clock import run

AFTER = 1.01  # seconds; with the other times it never falls together, so that no run depends on who comes first
FAILURES = {"fail": ConnectionError, "exit": SystemExit}
plans = st.tuples(
    st.sampled_from(["good", "bad", "fail", "exit"]),
    st.sampled_from([0, 0.5, 1, 1.5, 2.5, 4, 1e9]),  # seconds until the answer
    st.sampled_from([0, 0, 3]),  # seconds that it goes on when it is cancelled
)


def model(script, *, tokens, ambient):
    """What must happen: ((kind, number of the attempt), time at the end, attempts begun, refusals)."""
    paid = min(len(script), 1 + tokens)
    attempts = [(AFTER * index, AFTER * index + script[index][1], index) for index in range(paid)]
    for _, now, index in sorted(attempts, key=lambda attempt: attempt[1]):
        decided = min(now, ambient)
        begun = [attempt for attempt in attempts if attempt[0] <= decided]
        lingering = [script[other][2] for _, end, other in begun if end > decided]
        if now > ambient or not lingering or script[index][0] in ("good", "exit"):
            ended = decided + max(lingering, default=0)
            outcome = ("cancelled", 0) if ambient < max(now, ended) else (script[index][0], index + 1)
            return outcome, ended, len(begun), int(paid < len(script) and AFTER * paid <= decided)
    raise AssertionError("the last attempt has none beside it when it ends")


class Scripted:
    """Attempt n does what the n-th plan says."""

    def __init__(self, script):
        self.script = script
        self.begun = self.running = 0

    async def __call__(self):
        kind, seconds, lingers = self.script[self.begun]
        self.begun += 1
        number = self.begun
        self.running += 1
        try:
            await anyio.sleep(seconds)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await anyio.sleep(lingers)
            raise
        finally:
            self.running -= 1
        if kind in FAILURES:
            raise FAILURES[kind](kind, number)
        return kind, number


def is_bad(answer):
    return answer[0] == "bad"


@settings(max_examples=100)
@given(
    script=st.lists(plans, min_size=2, max_size=5),
    tokens=st.integers(0, 4),
    ambient=st.sampled_from([math.inf, 0.255, 1.255, 3.755]),
)
@pytest.mark.parametrize("face", ["call", "decorator"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_1_2_3_any_script(backend, face, script, tokens, ambient):
    """Invariants 1 to 3: what is in flight, what was paid for, and which outcome counts, are those of the model."""
    expected, ended, begun, refusals = model(script, tokens=tokens, ambient=ambient)
    events, servers, budget = [], Scripted(script), Budget(burst=1 + tokens, floor=1e-12, ratio=0)
    budget.spend()
    hedge = Hedge(after=AFTER, attempts=len(script), budget=budget, on_result=is_bad, on_event=events.append)

    async def scenario():
        outcome = "cancelled", 0
        with anyio.move_on_after(ambient):
            try:
                outcome = await (hedge(servers)() if face == "decorator" else hedge.call(servers))
            except (ConnectionError, SystemExit) as error:
                outcome = error.args
        return outcome, anyio.current_time(), servers.running

    assert run(scenario, backend=backend) == (expected, pytest.approx(ended, abs=1e-6), 0)
    assert (servers.begun, budget.statistics().spent) == (begun, begun)
    won = [HedgeWon(expected[1])] if expected[0] in ("good", "bad") and expected[1] > 1 else []
    told = [Hedged(number, AFTER) for number in range(2, begun + 1)] + [BudgetRefused(begun)] * refusals
    assert events == told + won
