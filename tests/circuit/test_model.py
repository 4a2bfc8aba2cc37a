"""The machine, walked exhaustively: every reachable state of a small one, and every step from each.

Three calls at once may begin, succeed, fail, be ignored, be cancelled, make the predicate raise, or hang while the
clock ticks; commands come in between. ``pytest -rP -k every_reachable`` prints how many states and steps that makes.
"""

from __future__ import annotations

import logging
from collections import deque

import pytest
from mcp_circuit import TRANSITIONS, Rejected, State
from mcp_circuit.eras import Open, _Counting, _HalfOpen
from mcp_circuit.machine import Machine
from mcp_circuit.states import MANUAL

from tests.circuit.world import AUTOMATIC, COOLDOWN, ENDS, MAX_WAIT, World, steps

BY_STORE = {"store_opened", "store_closed"}  # of shared breakers, see test_shared.py
CONFIGURATIONS = [
    ({}, 410),
    ({"probes": 2, "probe_concurrency": 2}, 530),
    ({"probes": 3, "probe_concurrency": 2, "probe_ratio": 0.5}, 740),
    ({"ramp": 2.0}, 1059),
]


@pytest.fixture(autouse=True)
def _quiet():
    """The predicate that raises is logged, some ten thousand times."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def took(world, kind, detail):
    """Take one step in a copy of *world*, checking what this step alone must keep; return the copy."""
    after = world.copy()
    if kind == "tick":
        after.tick()
    elif kind == "force":
        after.breaker.force(detail)
        assert after.state == detail
    elif kind == "start":
        check_start(world, after)
    else:
        check_end(world, after, *detail)
    check_events(world, after)
    return after


def check_start(world, after):
    """Invariants 2 and 4: who is admitted, and when a refusal says it is worth asking again."""
    refusal, cap = after.start(), after.core.machine.policy.probe_concurrency
    if world.state is State.OPEN:
        left = COOLDOWN - (world.now - world.opened_at)
        assert (refusal is None) == (left <= 0)
        assert refusal is None or refusal.retry_after == left
    if world.state in (State.CLOSED, State.DISABLED, State.OBSERVING):
        assert refusal is None
    if world.state is State.ISOLATED:
        assert refusal is not None
        assert refusal.retry_after is None
    if after.state is State.HALF_OPEN:
        assert after.in_flight() == after.era.in_flight <= cap
        assert (refusal is None) or (after.in_flight() == cap and 0 < refusal.retry_after <= MAX_WAIT)
    if any(event.cause == "abandoned" for event in after.events if not isinstance(event, Rejected)):
        waited = [world.now - permit._began for permit in world.calls if permit._era is world.era]
        assert len(waited) == cap
        assert min(waited) >= MAX_WAIT
    assert refusal is None or (refusal.state is after.state and len(after.calls) == len(world.calls))


def check_end(world, after, place, end):
    """Invariant 1, and that what says nothing changes no state and gives its place back."""
    is_current = world.calls[place]._era is world.era
    permit = after.calls.pop(place)
    before = after.facts()
    ENDS[end](permit)
    if not is_current:
        assert after.facts() == before
    elif end in ("ignore", "cancel"):
        assert after.era.state is world.state
        assert after.era.in_flight == max(world.era.in_flight - 1, 0)
        assert (after.era.calls, after.era.failures) == (world.era.calls, world.era.failures)
    settled = after.facts()
    permit.succeed()
    permit.fail()
    assert after.facts() == settled


def check_events(world, after):
    """Each transition is in the table, is told once, and nothing else changes the state."""
    told = [event for event in after.events if not isinstance(event, Rejected)]
    assert len(told) == after.core.machine.number - world.core.machine.number
    state = world.state
    for event in told:
        assert (event.source, TRANSITIONS[event.source, event.cause]) == (state, event.target)
        state = event.target
        if state is State.OPEN:
            assert event.cooldown == COOLDOWN
            after.opened_at = after.now
    assert state is after.state
    by_hand = any(event.cause in MANUAL.values() for event in told)
    assert by_hand or (world.state in AUTOMATIC) == (after.state in AUTOMATIC)


def check_recovery(world):
    """Invariant 3: if what is called succeeds from now on, the breaker closes in time, however many calls hang."""
    twin, ramp = world.copy(), world.core.machine.policy.ramp
    limit = twin.now + (COOLDOWN if twin.state is State.OPEN else 0) + MAX_WAIT + ramp
    for _ in range(10):
        refusal = twin.start()
        if refusal is None:
            twin.calls.pop().succeed()
        else:
            assert refusal.retry_after > 0
            twin.now += refusal.retry_after
        if twin.state is State.CLOSED:
            assert twin.now <= limit
            return
        if twin.state is State.RAMPING:
            twin.now = max(twin.now, twin.era.since + ramp)
    raise AssertionError(f"never closes from {world.key()}")


def explore(world):
    """Walk all that is reachable, breadth first; return the states seen, the transitions made, and the steps taken."""
    seen, made, taken, queue = {world.key()}, set(), 0, deque([world])
    while queue:
        current = queue.popleft()
        if current.state in AUTOMATIC:
            check_recovery(current)
        for kind, detail in steps(current):
            after = took(current, kind, detail)
            taken += 1
            made |= {(event.source, event.cause) for event in after.events if not isinstance(event, Rejected)}
            if after.key() not in seen:
                seen.add(after.key())
                queue.append(after)
    return seen, made, taken


def unreachable(options):
    """Return the transitions of the table that a configuration rules out: a breaker either ramps or does not."""
    if options.get("ramp"):
        return {(State.HALF_OPEN, "recovered")}
    return {pair for pair in TRANSITIONS if pair[0] is State.RAMPING} | {(State.HALF_OPEN, "eased")}


@pytest.mark.parametrize(("options", "states"), CONFIGURATIONS)
def test_every_reachable_state(options, states):
    """Invariants 1 to 5, in all interleavings of three calls, the clock and the commands; none is left out unseen."""
    seen, made, taken = explore(World(**options))
    print(f"{options}: {len(seen)} states, {taken} steps")  # noqa: T201  # seen with -rP
    assert len(seen) == states
    assert {key[0] for key in seen} >= set(State) - ({State.RAMPING} if not options.get("ramp") else set())
    assert made == {pair for pair in TRANSITIONS if pair[1] not in BY_STORE and pair not in unreachable(options)}


FAULTS = {
    "stale outcomes count": (Machine, "settle", lambda self, era, *args: settle(self, self.era, *args)),
    "a probe too many": (_HalfOpen, "_is_full", property(lambda self: self.in_flight > self.policy.probe_concurrency)),
    "a hung probe wedges": (_HalfOpen, "due", lambda self, now: None),
    "abandoned too soon": (_HalfOpen, "due", lambda self, now: "abandoned"),
    "open too long": (Open, "due", lambda self, now: "cooled" if now - self.since >= COOLDOWN + 1 else None),
    "open too short": (Open, "wait", lambda self, now: COOLDOWN - 1 - now + self.since or None),
    "observing opens": (_Counting, "settle", lambda self, *args: "reset"),
}
settle = Machine.settle


@pytest.mark.parametrize("fault", FAULTS)
def test_checker_sees_a_fault(fault, monkeypatch):
    """The check itself: each of the faults that other breakers have is found out."""
    monkeypatch.setattr(*FAULTS[fault])
    with pytest.raises(AssertionError):
        explore(World())


def test_checker_sees_a_place_that_is_kept(monkeypatch):
    """The same for a cancelled probe that is never given back."""
    original = _HalfOpen.settle

    def keeping(self, verdict, *args):
        self.in_flight += verdict == "ignored"
        return original(self, verdict, *args)

    monkeypatch.setattr(_HalfOpen, "settle", keeping)
    with pytest.raises(AssertionError):
        explore(World())
