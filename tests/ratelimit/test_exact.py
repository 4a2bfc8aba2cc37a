"""Decisions against exact rational arithmetic, step by step; and the bound of each algorithm over any window."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp_ratelimit import Limit, MemoryStore, RateLimiter

from tests.ratelimit.model import assert_seconds
from tests.ratelimit.walks import ALGORITHMS, Time, limit_of, walk


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(
    ("amount", "period", "burst"), [(5, 1.0, None), (100, 60.0, 7), (3, 0.7, 2), (50, 3600.0, None)]
)
def test_every_answer_equals_that_of_the_model(algorithm, amount, period, burst):
    """Invariant 1 of the limiter, rules 1 to 3 of the algorithms: allowed, remaining, retry_after and reset_after."""
    time = Time()
    store = MemoryStore(clock=time, wall_clock=time)
    walk(limit_of(algorithm, amount, period, burst), store, time, 2000, seed=amount)


@pytest.mark.parametrize("unit", ["day", "week", "month", "year"])
def test_calendar_windows_equal_the_model(unit):
    """The same over months of different length and over changes of the clocks."""
    time = Time(1_700_000_000.0)
    limit = Limit(f"40/{unit}", algorithm="fixed_window", timezone="Europe/Paris")
    walk(limit, MemoryStore(clock=time, wall_clock=time), time, 1000)


@settings(max_examples=60)
@given(
    algorithm=st.sampled_from(ALGORITHMS),
    amount=st.integers(1, 12),
    period=st.sampled_from([0.3, 1.0, 7.0, 60.0]),
    burst=st.integers(1, 6),
    gaps=st.lists(st.tuples(st.sampled_from([0.0, 0.0, 0.01, 0.06, 0.3, 0.9, 1.0]), st.integers(1, 6)), max_size=120),
)
def test_no_window_holds_more_than_its_bound(algorithm, amount, period, burst, gaps):
    """The guarantees in the docstrings: counted over every window that begins with something that passed."""
    time = Time()
    limit = limit_of(algorithm, amount, period, burst)
    limiter = RateLimiter(limit, store=MemoryStore(clock=time, wall_clock=time))
    passed = []
    for gap, cost in gaps:
        time.now += gap * period
        if cost <= limit.burst and limiter.try_acquire("key", cost):
            passed.append((time.now, cost))
    tick = 1e-6 * 2
    most = {"gcra": limit.burst + limit.amount, "sliding_counter": 2 * amount, "fixed_window": 2 * amount}
    for start, _ in passed:
        within = sum(cost for at, cost in passed if start <= at < start + period - tick)
        assert within <= most.get(algorithm, limit.amount)


@settings(max_examples=60)
@given(
    algorithm=st.sampled_from(ALGORITHMS),
    amount=st.integers(1, 1000),
    period=st.floats(0.05, 100_000),
    start=st.floats(0, 10_000_000),
    spent=st.integers(1, 30),
)
def test_what_is_refused_passes_after_retry_after(algorithm, amount, period, start, spent):
    """Invariant 3 on the caller's own clock: admitted at retry_after, refused two millionths of a second before."""
    time = Time(start)
    limit = limit_of(algorithm, amount, max(period, amount / 100_000), None)
    limiter = RateLimiter(limit, store=MemoryStore(clock=time, wall_clock=time))
    while limiter.try_acquire("key", min(spent, limit.burst)):
        pass
    wait = limiter.peek("key", 1).retry_after
    tick = 1 / limiter._tables[0].algorithm.hz
    if wait > 3 * tick:
        time.now = start + wait - 2 * tick
        assert not limiter.peek("key", 1)
    time.now = start + wait
    assert limiter.try_acquire("key")


@settings(max_examples=100)
@given(
    amount=st.integers(1, 1_000_000),
    period=st.floats(1, 2**28),
    burst=st.integers(1, 4),
    algorithm=st.sampled_from(["gcra", "strict_gcra"]),
)
def test_the_rate_is_the_one_asked_for(amount, period, burst, algorithm):
    """A tick is chosen for the limit, and not the limit rounded to a tick: a drift of one unit in a million years.

    The strict one has room in a window for a burst, and for what comes back during it.
    """
    total = amount + burst if algorithm == "strict_gcra" else amount
    rule = RateLimiter(Limit(amount=total, per=period, burst=burst, algorithm=algorithm))._tables[0].algorithm
    assert_seconds(rule.interval, rule, Fraction(period) / amount)
    assert 2**20 < rule.hz <= 2**21
    assert rule.interval == 2 ** round(math.log2(rule.interval)) >= 1
