"""The budget: what comes in, what goes out, and that it holds."""

from __future__ import annotations

import math

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_retry import Budget, BudgetStatistics


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def spend_all(budget: Budget) -> int:
    """How many tokens it gives at this moment."""
    return next(spent for spent in range(2_000) if not budget.spend())


def test_burst_is_there_at_the_start(clock):
    """A client that has just started may retry."""
    assert spend_all(Budget(burst=3, clock=clock)) == 3


def test_first_attempts_pay(clock):
    """One in ten with the default ratio."""
    budget = Budget(floor=0, burst=5, clock=clock)
    spend_all(budget)
    budget.calls += 25
    assert spend_all(budget) == 2
    budget.calls += 5
    assert spend_all(budget) == 1  # the halves were not lost


def test_seconds_pay(clock):
    """A client with few calls may retry now and then."""
    budget = Budget(ratio=0, floor=0.5, burst=5, clock=clock)
    spend_all(budget)
    clock.now = 3
    assert spend_all(budget) == 1
    clock.now = 4
    assert spend_all(budget) == 1


def test_ratio_of_seven_tenths_is_seven_tenths(clock):
    """A fraction must not be rounded to a whole number of retries."""
    budget = Budget(ratio=0.7, floor=0, burst=1_000, clock=clock)
    spend_all(budget)
    budget.calls += 100
    assert spend_all(budget) == 70


def test_never_more_than_burst(clock):
    """A quiet night is no licence for a storm in the morning."""
    budget = Budget(burst=4, clock=clock)
    budget.calls += 10_000
    clock.now = 10_000
    assert spend_all(budget) == 4


def test_statistics(clock):
    """Everything an operator wants to see."""
    budget = Budget(floor=0, burst=1, clock=clock)
    budget.calls += 5
    assert [budget.spend(), budget.spend()] == [True, False]
    assert budget.statistics() == BudgetStatistics(calls=5, spent=1, refused=1, tokens=0.0)
    budget.calls += 5
    assert budget.statistics() == BudgetStatistics(calls=10, spent=1, refused=1, tokens=0.5)


def test_defaults(clock):
    """Those of the documentation: ten at once, one a second, one in ten calls."""
    budget = Budget(clock=clock)
    assert spend_all(budget) == 10
    clock.now = 3
    assert spend_all(budget) == 3
    budget.calls += 40
    assert spend_all(budget) == 4


@pytest.mark.parametrize(
    ("name", "limits", "values"),
    [
        ("ratio", "0 <= ratio <= 1", [-0.1, 1.1]),
        ("floor", "0 <= floor < inf", [-1]),
        ("burst", "1 <= burst < inf", [0, 0.9]),
    ],
)
def test_nonsense_is_refused(name, limits, values):
    """With argument, value and what would be valid."""
    for value in [*values, math.nan, math.inf, -math.inf, 10**400]:
        with pytest.raises(ValueError, match=f"^Budget needs {limits}, got {value!r}"):
            Budget(**{name: value})
    for value in (True, "1", None):
        with pytest.raises(TypeError, match=f"Budget needs {name} as a number, got {value!r}"):
            Budget(**{name: value})


class Later:
    async def __call__(self):
        """Nothing at once."""


@pytest.mark.parametrize("value", [1.5, anyio.sleep, Later()])
def test_clock_is_a_function(value):
    """Not what it says, nor what will say it later."""
    with pytest.raises(TypeError, match=r"Budget needs clock as a function that is not async, got (1|<)"):
        Budget(clock=value)


def test_bounds_are_valid(clock):
    """The ends of the ranges."""
    assert Budget(ratio=1, floor=0, burst=1, clock=clock).spend()
    assert Budget(ratio=0, floor=1, burst=1, clock=clock).spend()


def test_budget_that_never_fills_is_refused():
    """It would allow a few retries after a start, and none for ever after."""
    with pytest.raises(ValueError, match=r"^Budget needs ratio > 0 or floor > 0, got 0 for both"):
        Budget(ratio=0, floor=0)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("call"), st.integers(1, 50)),
        st.tuples(st.just("wait"), st.floats(0, 20)),
        st.tuples(st.just("back"), st.floats(0, 20)),
        st.tuples(st.just("spend"), st.integers(1, 5)),
    ),
    max_size=60,
)


@given(STEPS, st.floats(0, 1), st.floats(0.01, 5), st.floats(1, 20))
def test_1_2_3_extra_load_is_bounded(steps, ratio, floor, burst):
    """Invariants 1 to 3, against the formula and a bucket that is filled at every step."""
    clock, model, latest, calls, spent = Clock(), burst, 0.0, 0, 0
    budget = Budget(ratio=ratio, floor=floor, burst=burst, clock=clock)
    for kind, amount in steps:
        if kind == "call":
            budget.calls += amount
            calls += amount
            model = min(burst, model + ratio * amount)
        elif kind == "spend":
            for _ in range(amount):
                given_out = budget.spend()
                assert given_out == (model >= 1) or abs(model - 1) < 1e-6
                model -= given_out
                spent += given_out
        else:
            clock.now += amount if kind == "wait" else -amount
            gained = max(0.0, clock.now - latest)
            latest = max(latest, clock.now)
            model = min(burst, model + floor * gained)
            budget.statistics()
        assert spent <= burst + ratio * calls + floor * latest + 1e-6
