"""Trip rules: each window against a list of all outcomes, counted anew."""

from __future__ import annotations

import math
from functools import partial

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mcp_circuit import CircuitBreaker, consecutive, failure_rate, slow_rate
from mcp_circuit.rules import SLOTS

outcomes = st.lists(st.booleans(), max_size=60)


def tripped(window, failures):
    """Feed *failures*, one bool a call, and return at which calls the window tripped, counted from 1."""
    return [n for n, failed in enumerate(failures, 1) if failed and window.mark(n)]


@given(outcomes, st.integers(1, 5))
@example([True, False, True, True], 2)
def test_consecutive_counts_neighbours(failures, limit):
    """Invariant 1: a success between two failures begins the count anew."""
    expected = [n for n in range(limit, len(failures) + 1) if all(failures[n - limit : n])]
    assert tripped(consecutive(limit).start(0.0), failures) == expected


@given(outcomes, st.integers(1, 12), st.data(), st.sampled_from([0.1, 0.25, 0.5, 0.7, 1.0]))
def test_count_window_is_the_last_calls(failures, size, data, threshold):
    """Invariants 1 and 2: the last *size* calls decide, and no more than their marks are kept."""
    least = data.draw(st.integers(1, size))
    window = failure_rate(threshold, calls=size, min_calls=least).start(0.0)
    expected = []
    for n, failed in enumerate(failures, 1):
        recent = failures[max(n - size, 0) : n]
        if failed and len(recent) >= least and sum(recent) / len(recent) >= threshold:
            expected.append(n)
    assert tripped(window, failures) == expected
    assert len(window._marks) <= size


@given(
    st.lists(st.tuples(st.floats(0, 6), st.booleans()), max_size=60),
    st.integers(1, 5),
    st.sampled_from([0.1, 0.5, 1.0]),
)
@example([(0.0, False), (2.0, True)], 1, 1.0)
@example([(0.0, True), (1.0, True)] + [(0.2, False)] * 20 + [(1.8, True)], 1, 0.5)
@example([(0.0, True), (3.0, True), (17.0, True)], 3, 0.5)
def test_time_window_is_the_last_slots(steps, least, threshold):
    """Invariants 1 to 3: what is counted is exactly what came in the current slot and the nine before it."""
    seconds, now, past = 20.0, 0.0, []
    window = failure_rate(threshold, seconds=seconds, min_calls=least).start(0.0)
    slot = seconds / SLOTS
    for calls, (delay, failed) in enumerate(steps, 1):
        now += delay
        if now >= window.edge:
            window.roll(now, calls - 1)
        past.append((now, failed))
        begin = window.edge - SLOTS * slot
        assert seconds * 0.9 <= now - begin + 1e-9 <= seconds + 1e-6
        recent = [bad for when, bad in past if when >= begin]
        if failed:
            assert window.mark(calls) is (len(recent) >= least and sum(recent) / len(recent) >= threshold)
        assert len(window._past) <= SLOTS


def test_clock_that_goes_back_moves_no_window():
    """A window that rolls backwards would forget, or count twice."""
    window = failure_rate(0.5, seconds=10, min_calls=1).start(100.0)
    window.roll(50.0, 7)
    assert window.edge == 101.0
    assert window._past[0] == (0, 0)


def test_long_silence_empties_the_window():
    """After more than a window without calls nothing of what was counted matters, and the edge lies ahead."""
    window = failure_rate(0.5, seconds=20, min_calls=1).start(0.0)
    window.mark(1)
    window.roll(1e9, 1)
    assert set(window._past) == {(1, 1)}
    assert window.edge == 1e9 + 2


def test_lost_counts_never_make_a_share_above_one():
    """Threads may lose a count of the era; then there may be more marks than calls."""
    window = failure_rate(1.0, seconds=10, min_calls=2).start(0.0)
    window.roll(20.0, 50)
    assert window.mark(7) is False
    assert window.mark(7) is True


def test_windows_without_time_never_roll():
    """The shell reads no clock for them."""
    for rule in (consecutive(3), failure_rate(0.5, calls=10)):
        window = rule.start(0.0)
        window.roll(1e9, 5)
        assert window.edge == math.inf


@pytest.mark.parametrize("rule", [failure_rate, partial(slow_rate, slower_than=1)], ids=["failures", "slow"])
@pytest.mark.parametrize(
    ("threshold", "options", "error", "message"),
    [
        (0, {"calls": 10}, ValueError, "0 < threshold <= 1, got 0"),
        (-0.5, {"calls": 10}, ValueError, "threshold <= 1, got -0.5"),
        (1.01, {"calls": 10}, ValueError, "threshold <= 1, got 1.01"),
        (math.nan, {"calls": 10}, ValueError, "threshold <= 1, got nan"),
        ("half", {"calls": 10}, TypeError, "number as threshold, got 'half'"),
        (True, {"calls": 10}, TypeError, "number as threshold, got True"),
        (0.5, {}, ValueError, "either calls=... or seconds=..., got calls=None and seconds=None"),
        (0.5, {"calls": 10, "seconds": 1}, ValueError, "either calls=... or seconds=..."),
        (0.5, {"calls": 0}, ValueError, "calls >= 1, got 0"),
        (0.5, {"calls": 10.0}, TypeError, "int as calls, got 10.0"),
        (0.5, {"calls": 10, "min_calls": 11}, ValueError, "min_calls <= calls, got min_calls=11 and calls=10"),
        (0.5, {"calls": 10, "min_calls": 0}, ValueError, "min_calls >= 1, got 0"),
        (0.5, {"calls": 10, "min_calls": True}, TypeError, "int as min_calls, got True"),
        (0.5, {"seconds": 0}, ValueError, "0 < seconds < inf seconds, got 0"),
        (0.5, {"seconds": math.inf}, ValueError, "seconds < inf seconds, got inf"),
        (0.5, {"seconds": math.nan}, ValueError, "seconds < inf seconds, got nan"),
        (0.5, {"seconds": "1"}, TypeError, "number as seconds, got '1'"),
    ],
)
def test_nonsense_is_refused(rule, threshold, options, error, message):
    """At construction, naming the argument and the value."""
    with pytest.raises(error) as caught:
        rule(threshold, **options)
    name = getattr(rule, "func", rule).__name__
    assert str(caught.value).startswith(f"{name} needs ")
    assert message in str(caught.value)


@pytest.mark.parametrize("rule", [failure_rate(0.1, calls=50), slow_rate(0.1, calls=50, slower_than=1)])
def test_ten_calls_make_a_rate(rule):
    """The default, below which nothing trips."""
    window = rule.start(0.0)
    assert not window.mark(9)
    assert window.mark(10)


@pytest.mark.parametrize(
    ("failures", "error"), [(0, ValueError), (-1, ValueError), (2.0, TypeError), (True, TypeError)]
)
def test_nonsense_for_consecutive_is_refused(failures, error):
    """The same for the simplest rule."""
    with pytest.raises(error, match=r"consecutive needs .*failures"):
        consecutive(failures)


@pytest.mark.parametrize("slow", [0, -1, math.inf, math.nan])
def test_nonsense_for_slow_rate_is_refused(slow):
    """A threshold that every call or none exceeds is a mistake."""
    with pytest.raises(ValueError, match="slow_rate needs 0 < slower_than < inf seconds"):
        slow_rate(0.5, slower_than=slow, calls=10)


@pytest.mark.parametrize("trip", [(), "never", 5, [consecutive(1), None], consecutive])
def test_breaker_refuses_what_is_no_rule(trip):
    """A forgotten call, an empty list, a bare number."""
    with pytest.raises(TypeError, match="CircuitBreaker needs a rule such as consecutive"):
        CircuitBreaker(trip=trip)
