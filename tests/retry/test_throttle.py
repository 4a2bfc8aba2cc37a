"""The client-side throttle."""

from __future__ import annotations

import math
import random
import sys

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_retry import Throttle, Throttled


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def throttle(*, draw: float = 0.5, **options) -> Throttle:
    """One with a still clock and a fixed draw."""
    return Throttle(**{"clock": Clock(), "random": lambda: draw, **options})


def test_probability_is_the_formula():
    """(requests - k * accepts) / (requests + 1)."""
    held = throttle(k=1.5, draw=1.0)
    for _ in range(10):
        held.admit()
    assert held.probability == pytest.approx(10 / 11)
    for _ in range(4):
        held.accepted()
    assert held.probability == pytest.approx((10 - 6) / 11)


def test_defaults():
    """Twice what is accepted, over about five seconds."""
    clock = Clock()
    held = Throttle(clock=clock, random=lambda: 1.0)
    for _ in range(10):
        held.admit()
    held.accepted()
    assert held.probability == pytest.approx((10 - 2) / 11)
    clock.now = 5.0
    assert held.probability == pytest.approx((10 - 2) / math.e / (10 / math.e + 1))


def test_draw_decides():
    """A draw below the probability drops the call."""
    unlucky, lucky = throttle(draw=0.49), throttle(draw=0.5)
    assert [unlucky.admit(), lucky.admit()] == [True, True]
    assert [unlucky.admit(), lucky.admit()] == [False, True]  # probability 1/2


def test_past_fades():
    """After a window a count weighs a third."""
    clock = Clock()
    held = throttle(window=5.0, clock=clock)
    for _ in range(9):
        held.admit()
    clock.now = 5.0
    faded = 9 / math.e
    assert held.probability == pytest.approx(faded / (faded + 1))
    clock.now = -100.0
    assert held.probability == pytest.approx(faded / (faded + 1))  # a clock that goes back stands still
    clock.now = 5_000.0
    assert held.probability == pytest.approx(0)


def test_cancelled_request_was_none():
    """Taken back, and never below nothing."""
    held = throttle(draw=1.0)
    held.admit()
    held.admit()
    held.cancelled()
    assert held.probability == pytest.approx(0.5)
    for _ in range(3):
        held.cancelled()
    held.admit()
    assert held.probability == pytest.approx(0.5)


def test_accepts_fade_too():
    """Otherwise an old success would let through for ever."""
    clock = Clock()
    held = throttle(k=1.0, window=5.0, clock=clock)
    held.accepted()
    clock.now = 50.0
    for _ in range(9):
        held.admit()
    assert held.probability == pytest.approx(0.9, abs=1e-3)


@given(st.lists(st.booleans(), max_size=200), st.floats(1, 3))
def test_1_2_probability_stays_in_bounds(answers, k):
    """Invariants 1 and 2: none dropped while all is accepted, and never all."""
    held = throttle(k=k, random=random.Random(1).random)
    for answer in answers:
        sent = held.admit()
        if all(answers):
            assert sent
        if sent and answer:
            held.accepted()
        assert 0 <= held.probability < 1


@pytest.mark.parametrize("name", ["k", "window"])
def test_nonsense_is_refused(name):
    """With argument and value."""
    for value in (0, -1, math.nan, math.inf, 10**400):
        with pytest.raises(ValueError, match=f"0 < {name} < inf, got {value!r}"):
            Throttle(**{name: value})
    for value in (True, "2", None):
        with pytest.raises(TypeError, match=f"{name} as a number, got {value!r}"):
            Throttle(**{name: value})


class Later:
    async def __call__(self):
        """Nothing at once."""


@pytest.mark.parametrize("name", ["clock", "random"])
@pytest.mark.parametrize("value", [0.5, anyio.sleep, Later()])
def test_functions_are_functions(name, value):
    """Not what they return, nor what will return it later."""
    with pytest.raises(TypeError, match=rf"Throttle needs {name} as a function that is not async, got (0\.5|<)"):
        Throttle(**{name: value})


def test_k_below_one_is_refused():
    """It would hold back what the server accepts."""
    with pytest.raises(ValueError, match=r"k >= 1, got 0\.5"):
        Throttle(k=0.5)
    assert throttle(k=1).admit()


def test_greatest_numbers_are_valid():
    """Every number below infinity will do."""
    assert throttle(k=sys.float_info.max, window=sys.float_info.max).probability == 0


def test_error_says_how_much_is_held_back():
    """For whoever reads a log."""
    error = Throttled(0.254)
    assert (error.probability, str(error)) == (
        0.254,
        "not sent: the server accepts too little, 25% of the calls are held back",
    )
