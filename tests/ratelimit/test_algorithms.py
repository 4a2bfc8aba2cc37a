"""The algorithms by themselves: what the walks leave out, because the model there asks the same functions."""

from __future__ import annotations

from collections import deque
from datetime import datetime
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from mcp_ratelimit import Limit, MemoryStore, RateLimiter
from mcp_ratelimit._algorithms import algorithm_for

from tests.ratelimit.walks import ALGORITHMS, Time, limit_of


def seconds(text, zone):
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


PARIS, TOKYO, UTC = "Europe/Paris", "Asia/Tokyo", "UTC"


@pytest.mark.parametrize(
    ("unit", "zone", "edges"),
    [
        ("day", UTC, ("2024-02-28", "2024-02-29", "2024-03-01", "2024-03-02")),
        ("day", PARIS, ("2024-03-30", "2024-03-31", "2024-04-01", "2024-04-02")),  # 24, 23 and 24 hours
        ("day", PARIS, ("2024-10-26", "2024-10-27", "2024-10-28", "2024-10-29")),  # 24, 25 and 24 hours
        ("week", UTC, ("2024-12-23", "2024-12-30", "2025-01-06", "2025-01-13")),
        ("week", TOKYO, ("2024-02-19", "2024-02-26", "2024-03-04", "2024-03-11")),
        ("month", PARIS, ("2024-02-01", "2024-03-01", "2024-04-01", "2024-05-01")),
        ("month", UTC, ("2023-11-01", "2023-12-01", "2024-01-01", "2024-02-01")),
        ("year", TOKYO, ("2023-01-01", "2024-01-01", "2025-01-01", "2026-01-01")),
    ],
)
def test_calendar_windows(unit, zone, edges):
    """They begin at midnight there, on the first day, and end where the next begins."""
    algorithm = algorithm_for(Limit(f"3/{unit}", algorithm="fixed_window", timezone=zone))
    before, start, end, after = expected = [seconds(edge, zone) * 1e6 for edge in edges]
    for now in (start, (start + end) / 2, end - 1):
        assert algorithm.bounds(now) == (start, end)
        assert algorithm.edges(now) == expected
    assert algorithm.bounds(start - 1) == (before, start)
    assert algorithm.bounds(end) == (end, after)
    assert algorithm.lifetime >= end - start


def test_a_calendar_quota_comes_back_at_the_boundary():
    """Not a period after it was spent."""
    time = Time(seconds("2024-01-31T23:00", PARIS))
    quota = Limit("2/month", algorithm="fixed_window", timezone=PARIS)
    limiter = RateLimiter(quota, store=MemoryStore(wall_clock=time))
    assert limiter.try_acquire("key", 2)
    assert limiter.check("key").retry_after == pytest.approx(3600.0, abs=1e-3)
    time.now += 3600.0
    assert limiter.check("key").remaining == 1


def test_windows_without_a_calendar_are_counted_from_1970():
    """So that all processes agree on them."""
    algorithm = algorithm_for(Limit("3/30 days", algorithm="fixed_window"))
    window = 30 * 86400 * 1e6
    assert algorithm.bounds(5 * window + 1) == (5 * window, 6 * window)
    assert algorithm.edges(5 * window) == [4 * window, 5 * window, 6 * window, 7 * window]


def test_utc_needs_no_database_of_zones(monkeypatch):
    """Some systems have none."""
    monkeypatch.setattr("mcp_ratelimit._calendar.ZoneInfo", None)
    assert algorithm_for(Limit("3/day", algorithm="fixed_window")).bounds(0.0) == (0.0, 86400e6)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_state_packs_into_as_many_values_as_are_reserved(algorithm):
    """A file has room for those and no more."""
    counted = algorithm_for(limit_of(algorithm, 4, 60.0, 4))
    now = 1000.0
    state = counted.charge(None, now, counted.capacity)
    assert len(counted.pack(state)) == counted.width
    assert counted.unpack(counted.pack(state)) == state


def test_a_log_is_bounded():
    """By the units that can pass, also one that was read from a file."""
    log = algorithm_for(Limit("3/h", algorithm="sliding_log"))
    assert log.charge(None, 0.0, 2).maxlen == log.unpack((1.0,)).maxlen == 3


@pytest.mark.parametrize(
    ("algorithm", "total", "waits"),
    [
        ("sliding_log", 1, 6.0),
        ("sliding_log", 2, 10.0),
        ("sliding_log", 3, 16.0),
        ("sliding_log", 4, 20.0),
        ("fixed_window", 1, 2.0),
        ("fixed_window", 9, 2.0),
    ],
)
def test_how_long_a_line_takes_at_the_earliest(algorithm, total, waits):
    """Two in ten seconds; one passed four seconds ago and one now: of a line of n, when will the last pass?"""
    counted = algorithm_for(limit_of(algorithm, 2, 10.0))
    start = 1_000_004 if algorithm == "fixed_window" else 1_000_000
    first, now = start * counted.hz, (start + 4) * counted.hz
    state = counted.charge(counted.charge(None, first, 1), now, 1)
    assert counted.queued(state, now, total) / counted.hz == pytest.approx(waits)


def test_the_counter_is_exact_with_large_amounts():
    """Products of a count and a time must not be rounded; ticks get coarser instead, and no coarser than needed."""
    for amount, period in ((2**40, 2.0**21), (2**31, 2.0**12), (100, 1.0)):
        counter = algorithm_for(Limit(amount=amount, per=period, algorithm="sliding_counter"))
        assert counter.capacity * counter.window <= 2**53
        assert counter.capacity * counter.window >= 2**51 or counter.window == 2**21
        assert counter.window / counter.hz == period
        assert counter.lifetime == 2 * counter.window
        spent, now = amount - 3, 7.0
        state = counter.charge(None, now, spent)
        later = counter.window + now + 1
        wait = counter.wait(state, later, 5)

        def room(at, counter=counter, spent=spent):
            return Fraction(spent) * (2 * int(counter.window) - int(at)) / int(counter.window)

        assert room(later + wait) + 5 <= amount
        assert wait == 0 or room(later + wait - 1) + 5 > amount


def test_the_line_of_a_counter_looks_at_its_state():
    """A cost over what can pass at once is no reason to forget what has passed."""
    counter = algorithm_for(Limit(amount=4, per=10.0, algorithm="sliding_counter"))
    state = counter.charge(None, 0.0, 4)
    assert counter.queued(state, 0.0, 9) == counter.wait(state, 0.0, 4) > counter.window


def test_what_a_refund_leaves_empty_is_forgotten():
    """None is what a key that was never charged has."""
    for algorithm in ALGORITHMS:
        counted = algorithm_for(limit_of(algorithm, 4, 60.0, 4))
        assert counted.refund(counted.charge(None, 1000.0, 2), 1000.0, 2) is None
        assert counted.refund(counted.charge(None, 1000.0, 2), 1000.0, 1) is not None


def test_an_empty_log_has_nothing_to_wait_for():
    """What is a window old counts no more."""
    log = algorithm_for(Limit("3/h", algorithm="sliding_log"))
    old = deque([0.0], 3)
    assert log.reset_after(old, log.window) == 0.0
    assert log.reset_after(old, log.window - 1) == 1.0
