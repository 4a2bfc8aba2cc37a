"""Delays: their growth, their bounds, and their spread."""

from __future__ import annotations

import itertools
import math
import sys
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_retry import Backoff, constant, exponential, linear

JITTERS = ["full", "equal", "decorrelated", 0.25]
HUGE = [10**3, 10**9, 10**400]
seconds = st.floats(min_value=1e-6, max_value=1e6)
randoms = st.floats(min_value=0, max_value=1, exclude_max=True)


def waits(backoff: Backoff, attempts: int = 5, random: float = 0.5) -> list[float]:
    """The waits of one call."""
    previous, found = 0.0, []
    for attempt in range(1, attempts + 1):
        previous = backoff.delay(attempt, previous, random)
        found.append(previous)
    return found


def test_growth_without_jitter():
    """The plain shapes, each held at its cap."""
    assert waits(constant(2, jitter="none")) == [2, 2, 2, 2, 2]
    assert waits(linear(1, cap=3, jitter="none")) == [1, 2, 3, 3, 3]
    assert waits(exponential(1, factor=3, cap=20, jitter="none")) == [1, 3, 9, 20, 20]


def test_defaults():
    """Those of the documentation; the shapes are spread unless told otherwise, a list is taken as it is."""
    assert waits(linear(), 3) == pytest.approx([0.05, 0.1, 0.15])
    assert waits(exponential(), 3) == pytest.approx([0.05, 0.1, 0.2])
    assert waits(constant(1), 2) == [0.5, 0.5]
    assert [shape.delay(10**9, 0, 0.5) for shape in (linear(), exponential())] == [5, 5]
    assert waits(Backoff([3]), 2) == [3, 3]
    assert Backoff(lambda attempt: math.inf).delay(1, 0, 0.5) == 3_600


def test_jitter_takes_its_range():
    """The table of the module, at the ends of the random range and in its middle."""
    for jitter, (low, high) in {"full": (0, 8), "equal": (4, 8), 0.25: (6, 8), "none": (8, 8)}.items():
        backoff = Backoff([8], cap=8, jitter=jitter)
        assert backoff.delay(1, 0, 0.0) == low
        assert backoff.delay(1, 0, 0.5) == (low + high) / 2
        assert math.isclose(backoff.delay(1, 0, math.nextafter(1, 0)), high)


def test_fraction_below_the_cap_goes_both_ways():
    """A delay that was chosen with care stays the middle."""
    assert [Backoff([4], cap=100, jitter=0.5).delay(1, 0, random) for random in (0, 0.5)] == [2, 4]
    assert [Backoff([4], cap=100, jitter=1).delay(1, 0, random) for random in (0, 0.5)] == [0, 4]


def test_decorrelated_follows_the_last_wait():
    """Its range grows from the last wait, not from the attempt's number."""
    backoff = exponential(1, cap=10, jitter="decorrelated")
    assert backoff.delay(1, 0, 0.5) == 2  # [1, 3]
    assert backoff.delay(1, 2, 0.5) == 3.5  # [1, 6]
    assert backoff.delay(1, 9, 0.5) == 5.5  # [1, 10], for 27 is above the cap


def test_iterable_repeats_its_last_delay():
    """Three delays are enough for any number of attempts, and an iterator serves every call."""
    backoff = Backoff(iter([1, 2, 4]))
    assert waits(backoff) == waits(backoff) == [1, 2, 4, 4, 4]


def test_endless_iterable_is_not_read_to_its_end():
    """itertools.count() is an iterable of seconds too."""
    assert waits(Backoff(itertools.count(1), cap=2_000)) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("answer", [-1, math.nan, math.inf, -math.inf, 10**400])
def test_nonsense_of_a_function_means_the_cap(answer):
    """The longest wait is the safe one, and nothing is raised in the middle of an outage."""
    assert Backoff(lambda attempt: answer, cap=7).delay(1, 0, 0.5) == 7


def test_repr_shows_what_it_does():
    """For whoever prints a configuration."""
    assert repr(Backoff([1], cap=2, jitter="full")).endswith("cap=2.0, jitter='full')")


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, 10**400])
@pytest.mark.parametrize(
    ("argument", "make"),
    [
        ("constant needs 0 <= seconds <", constant),
        ("linear needs 0 < step <", linear),
        ("exponential needs 0 < base <", exponential),
        ("exponential needs 0 <= factor <", lambda value: exponential(factor=value)),
        ("exponential needs 0 <= cap <", lambda value: exponential(cap=value)),
        ("linear needs 0 <= cap <", lambda value: linear(cap=value)),
        ("Backoff needs 0 < cap <", lambda value: Backoff([0], cap=value)),
        ("Backoff needs 0 <= every delay <", lambda value: Backoff([value])),
        ("Backoff needs jitter", lambda value: constant(1, jitter=value)),
    ],
)
def test_nonsense_is_refused(argument, make, value):
    """At construction, with the argument and the value."""
    with pytest.raises(ValueError, match=f"^{argument}.* got .*{value!r}"):
        make(value)


@pytest.mark.parametrize(
    ("make", "fault", "message"),
    [
        (lambda: constant(True), TypeError, "^constant needs seconds as a number, got True"),
        (lambda: exponential("1"), TypeError, "base as a number, got '1'"),
        (lambda: exponential(Fraction(1)), TypeError, "base as a number"),
        (lambda: exponential(factor=1), ValueError, "^exponential needs factor > 1, got 1.0; constant"),
        (lambda: exponential(2, cap=1), ValueError, "^exponential needs cap >= base, got cap=1 and base=2"),
        (lambda: linear(2, cap=1), ValueError, "^linear needs cap >= step, got cap=1 and step=2"),
        (lambda: linear(0), ValueError, "0 < step < inf, got 0"),
        (lambda: Backoff([]), ValueError, "at least one delay"),
        (lambda: Backoff([5], cap=4), ValueError, "delays of at most cap=4.0, got 5; a function's are cut off there"),
        (lambda: Backoff(2**k for k in itertools.count()), ValueError, "at most cap=3600.0, got 4096; a function's"),
        (lambda: Backoff("12"), TypeError, "got '12'"),
        (lambda: Backoff(3), TypeError, "got 3"),
        (lambda: Backoff(Backoff), TypeError, "got <class"),
        (
            lambda: constant(1, jitter="wild"),
            ValueError,
            r"one of 'full', 'equal', 'decorrelated', 'none', or a fraction in \(0, 1\], got 'wild'",
        ),
        (lambda: constant(1, jitter=True), ValueError, "got True"),
        (lambda: constant(1, jitter=0), ValueError, "got 0"),
        (lambda: constant(1, jitter=1.5), ValueError, "got 1.5"),
        (lambda: constant(1, jitter="decorrelated"), ValueError, "0 < first delay < cap=1"),
        (lambda: Backoff([0, 1], jitter="decorrelated"), ValueError, "got 0.0"),
    ],
)
def test_other_nonsense_is_refused(make, fault, message):
    """What would be a silent storm or a silent stop is an error at once."""
    with pytest.raises(fault, match=message):
        make()


def test_zero_is_a_delay():
    """Retrying at once is a choice."""
    assert waits(constant(0)) == [0, 0, 0, 0, 0]


@given(base=seconds, factor=st.floats(min_value=1.01, max_value=100), cap=seconds, random=randoms, previous=randoms)
@pytest.mark.parametrize("jitter", [*JITTERS, "none"])
def test_1_waits_stay_within_the_cap(jitter, base, factor, cap, random, previous):  # noqa: PLR0917
    """Invariant 1."""
    base = min(base, cap / 2)
    for attempt in [1, 2, 10, *HUGE]:
        wait = exponential(base, factor=factor, cap=cap, jitter=jitter).delay(attempt, previous * cap, random)
        assert 0 <= wait <= cap


@given(cap=seconds, first=randoms, second=randoms)
@pytest.mark.parametrize("jitter", JITTERS)
def test_2_the_cap_is_spread_too(jitter, cap, first, second):
    """Invariant 2: the fault of clients that come back in step."""
    if abs(first - second) > 1e-9:
        backoff = exponential(cap / 4, cap=cap, jitter=jitter)
        for attempt in [1, *HUGE]:
            assert backoff.delay(attempt, cap, first) != backoff.delay(attempt, cap, second)


@given(randoms)
@pytest.mark.parametrize("jitter", [*JITTERS, "none"])
def test_3_concurrent_calls_do_not_meddle(jitter, random):
    """Invariant 3: two calls that take turns wait as they would alone."""
    backoff = exponential(0.1, cap=5, jitter=jitter)
    alone = waits(backoff, random=random)
    one = two = 0.0
    for attempt, expected in enumerate(alone, 1):
        one, two = backoff.delay(attempt, one, random), backoff.delay(attempt, two, random)
        assert one == two == expected


def test_least_caps():
    """A cap may be where the backoff begins, and that of a constant is the constant."""
    assert (
        exponential(base=1, cap=1, jitter="none").delay(1, 0, 0) == linear(1, cap=1, jitter="none").delay(1, 0, 0) == 1
    )
    assert constant(1e-20).cap == 1e-20


def test_greatest_cap():
    """Every number below infinity will do."""
    assert Backoff([1], cap=sys.float_info.max).cap == sys.float_info.max
