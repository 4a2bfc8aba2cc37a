"""The breaker against a model that keeps every outcome and counts them anew: long histories, all rules at once."""

from __future__ import annotations

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from mcp_circuit import CircuitBreaker, CircuitOpen, consecutive, failure_rate, growing, slow_rate

STREAK, LAST, LEAST, RATE, SLOW, SLOW_RATE = 4, 8, 5, 0.5, 3.0, 0.75
FIRST, MAXIMUM, FORGIVE, PROBES, CONCURRENCY, NEEDED, MAX_WAIT, RAMP = 5.0, 17.0, 20.0, 3, 2, 2, 10.0, 4.0


class Model:
    """What the breaker ought to be, in the plainest words."""

    def __init__(self):
        self.reopens = 0
        self.begin("closed", 0.0)

    def begin(self, state, now):
        self.state, self.since, self.latest, self.credit, self.outcomes, self.flying = state, now, now, 1.0, [], []

    def open(self, now):
        if self.state != "half_open":
            self.reopens -= min(int((now - self.since) / FORGIVE), self.reopens)
        self.cooldown = min(FIRST * 2**self.reopens, MAXIMUM)
        self.reopens += 1
        self.begin("open", now)

    def start(self, now):
        patience = {"open": self.state == "open" and self.cooldown, "half_open": MAX_WAIT, "ramping": RAMP}
        is_over = now - (self.latest if self.state == "half_open" else self.since) >= patience.get(self.state, math.inf)
        if is_over and not (self.state == "half_open" and len(self.flying) < CONCURRENCY):
            self.begin("closed" if self.state == "ramping" else "half_open", now)
        self.credit += (now - self.since) / RAMP if self.state == "ramping" else 0
        is_full = {"half_open": len(self.flying) == CONCURRENCY, "ramping": self.credit < 1}
        if is_full.get(self.state, self.state in ("open", "isolated")):
            return None
        self.credit -= self.state == "ramping"
        self.latest = now
        self.flying.append(object())
        return self.flying[-1]

    def end(self, ticket, failed, now, elapsed):
        if ticket not in self.flying:
            return
        self.flying.remove(ticket)
        if failed is None or self.state == "disabled":
            return
        slow = elapsed >= SLOW
        self.outcomes.append((failed or (slow and self.state == "half_open"), slow))
        bad, recent = sum(outcome[0] for outcome in self.outcomes), self.outcomes[-LAST:]
        if self.state == "half_open":
            self.open(now) if bad > PROBES - NEEDED else len(self.outcomes) - bad < NEEDED or self.begin("ramping", now)
            return
        streak = len(self.outcomes) >= STREAK and all(outcome[0] for outcome in self.outcomes[-STREAK:])
        rates = [len(recent) >= LEAST and sum(outcome[kind] for outcome in recent) / len(recent) for kind in (0, 1)]
        if (failed and (streak or rates[0] >= RATE)) or (slow and rates[1] >= SLOW_RATE):
            self.begin("observing", now) if self.state == "observing" else self.open(now)


class Comparison(RuleBasedStateMachine):
    """The same steps for both."""

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.model = Model()
        self.breaker = CircuitBreaker(
            trip=[
                consecutive(STREAK),
                failure_rate(RATE, calls=LAST, min_calls=LEAST),
                slow_rate(SLOW_RATE, slower_than=SLOW, calls=LAST, min_calls=LEAST),
            ],
            cooldown=growing(FIRST, maximum=MAXIMUM, jitter=0),
            forgive_after=FORGIVE,
            probes=PROBES,
            probe_concurrency=CONCURRENCY,
            probe_ratio=NEEDED / PROBES,
            probe_max_wait=MAX_WAIT,
            ramp=RAMP,
            clock=lambda: self.now,
        )
        self.calls = []

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0, 5.0, 10.0, 25.0]))
    def wait(self, seconds):
        self.now += seconds

    @rule()
    def start(self):
        ticket = self.model.start(self.now)
        try:
            permit = self.breaker.acquire()
        except CircuitOpen:
            assert ticket is None
        else:
            assert ticket is not None
            self.calls.append((permit, ticket, self.now))

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), failed=st.sampled_from([True, True, False, None]))
    def end(self, data, failed):
        permit, ticket, began = self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))
        self.model.end(ticket, failed, self.now, self.now - began)
        {True: permit.fail, False: permit.succeed, None: permit.ignore}[failed]()

    @rule(results=st.lists(st.sampled_from([True, True, False]), min_size=1, max_size=6))
    def burst(self, results):
        """Calls that end at once, so that rules are reached often."""
        for failed in results:
            self.start()
            if self.calls and self.calls[-1][2] == self.now:
                permit, ticket, _ = self.calls.pop()
                self.model.end(ticket, failed, self.now, 0.0)
                permit.fail() if failed else permit.succeed()

    @rule(state=st.sampled_from(["closed", "closed", "closed", "isolated", "disabled", "observing"]))
    def force(self, state):
        self.breaker.force(state)
        self.model.begin(state, self.now)
        self.model.reopens *= state != "closed"

    @invariant()
    def same(self):
        assert self.breaker.state == self.model.state
        snapshot = self.breaker.snapshot()
        assert snapshot.age == self.now - self.model.since
        assert snapshot.reopens == self.model.reopens
        assert snapshot.calls == len(self.model.outcomes)


TestComparison = Comparison.TestCase
TestComparison.settings = settings(stateful_step_count=60, deadline=None)
