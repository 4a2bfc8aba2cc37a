"""The breaker against a model that keeps every outcome and counts them anew: long histories, all rules at once."""

from __future__ import annotations

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from mcp_circuit import CircuitBreaker, CircuitOpen, consecutive, failure_rate, growing, slow_rate

STREAK, LAST, LEAST, RATE, SLOW, SLOW_RATE = 4, 8, 5, 0.5, 3.0, 0.75
FIRST, MAXIMUM, FORGIVE, PROBES, CONCURRENCY, RATIO, MAX_WAIT, RAMP = 5.0, 17.0, 20.0, 3, 2, 0.6, 10.0, 4.0


class Model:
    """What the breaker ought to be, in the plainest words."""

    def __init__(self):
        self.reopens = 0
        self.begin("closed", 0.0)

    def begin(self, state, now):
        self.state, self.since, self.history, self.admitted, self.credit = state, now, [], [], 1.0
        self.era = object()

    def open(self, now):
        self.reopens -= 0 if self.state == "half_open" else min(int((now - self.since) / FORGIVE), self.reopens)
        self.cooldown = min(FIRST * 2**self.reopens, MAXIMUM)
        self.reopens += 1
        self.begin("open", now)

    def start(self, now):
        in_flight = [when for when in self.admitted if when is not None]
        if self.state == "open" and now - self.since >= self.cooldown:
            self.begin("half_open", now)
        elif self.state == "half_open" and len(in_flight) == CONCURRENCY and now - max(self.admitted_ever) >= MAX_WAIT:
            self.begin("half_open", now)
        elif self.state == "ramping" and now - self.since >= RAMP:
            self.begin("closed", now)
        in_flight = [when for when in self.admitted if when is not None]
        self.credit += (now - self.since) / RAMP if self.state == "ramping" else 0
        if (
            self.state in ("open", "isolated")
            or (self.state == "half_open" and len(in_flight) == CONCURRENCY)
            or (self.state == "ramping" and self.credit < 1)
        ):
            return None
        self.credit -= self.state == "ramping"
        self.admitted.append(now)
        self.admitted_ever = [*(self.admitted_ever if len(self.admitted) > 1 else []), now]
        return self.era, len(self.admitted) - 1

    def end(self, ticket, failed, now, elapsed):
        era, place = ticket
        if era is not self.era:
            return
        self.admitted[place] = None
        if failed is None or self.state == "disabled":
            return
        slow = elapsed >= SLOW
        if self.state == "half_open":
            self.history.append((failed or slow, slow))
            bad = sum(outcome[0] for outcome in self.history)
            if bad > PROBES - math.ceil(PROBES * RATIO):
                self.open(now)
            elif len(self.history) - bad == math.ceil(PROBES * RATIO):
                self.begin("ramping", now)
            return
        self.history.append((failed, slow))
        recent = self.history[-LAST:]
        if (
            (len(self.history) >= STREAK and all(outcome[0] for outcome in self.history[-STREAK:]))
            or (failed and len(recent) >= LEAST and sum(outcome[0] for outcome in recent) / len(recent) >= RATE)
            or (slow and len(recent) >= LEAST and sum(outcome[1] for outcome in recent) / len(recent) >= SLOW_RATE)
        ):
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
            probe_ratio=RATIO,
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
        assert snapshot.calls == len(self.model.history)


TestComparison = Comparison.TestCase
TestComparison.settings = settings(stateful_step_count=60, deadline=None)
