"""One breaker per key, bounded, and hard to flush out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_circuit import CircuitBreaker, KeyedBreakers, State, consecutive
from mcp_circuit.keyed import TURNS

from tests.support.threads import run_in_threads


def breakers(max_keys):
    return KeyedBreakers(lambda key: CircuitBreaker(name=str(key), trip=consecutive(1)), max_keys=max_keys)


def test_key_has_its_own_breaker():
    """Made once, by its key."""
    keyed = breakers(10)
    assert keyed["a"] is keyed["a"]
    assert keyed["a"] is not keyed["b"]
    assert (keyed["a"].name, len(keyed), "a" in keyed, "c" in keyed) == ("a", 2, True, False)


@given(st.lists(st.integers(0, 7), max_size=60), st.integers(1, 5))
def test_least_recently_used_goes_first(keys, maximum):
    """Against a list in the order of use."""
    keyed, order = breakers(maximum), []
    for key in keys:
        assert keyed[key].name == str(key)
        order = [*(other for other in order if other != key), key][-maximum:]
        assert [other for other in range(8) if other in keyed] == sorted(order)


def test_used_key_stays():
    """The example of the property."""
    keyed = breakers(2)
    first, _ = keyed["a"], keyed["b"]
    assert keyed["a"] is first
    _ = keyed["c"]
    assert "b" not in keyed
    assert keyed["a"] is first


def test_flood_of_names_does_not_lift_a_protection():
    """A caller who makes up names must not get an open circuit forgotten."""
    keyed = breakers(100)
    keyed["precious"].acquire().fail()
    for number in range(1000):
        _ = keyed[number]
    assert keyed["precious"].state is State.OPEN
    assert len(keyed) == 100


def test_memory_is_bounded_even_if_all_are_open():
    """Then the oldest goes, after a bounded look around."""
    keyed = breakers(3 * TURNS)
    for number in range(3 * TURNS + 1):
        keyed[number].acquire().fail()
    assert [number for number in range(3 * TURNS + 1) if number not in keyed] == [0]
    one = breakers(1)
    one["a"].acquire().fail()
    assert one["b"].state is State.CLOSED
    assert ("a" in one, "b" in one) == (False, True)


def test_forget_drops_only_what_never_counted():
    """Not a breaker with an outcome or a forced state, and no error for a key that is gone."""
    keyed = breakers(10)
    keyed["counted"].acquire().succeed()
    keyed["forced"].force("isolated")
    _ = keyed["fresh"]
    for key in ("counted", "forced", "fresh", "unknown"):
        keyed.forget(key)
    assert [key in keyed for key in ("counted", "forced", "fresh")] == [True, True, False]


def test_two_threads_get_the_same_breaker():
    """Two breakers for one key would each see half of the failures."""
    keyed = breakers(50)

    async def use():
        return [keyed[number % 70] for number in range(5000)] and [keyed[number] for number in range(50)]

    first, second = run_in_threads(use, use)
    assert len(keyed) == 50
    assert len(first) == len(second) == 50


@pytest.mark.parametrize("returned", [None, "breaker", CircuitBreaker], ids=repr)
def test_factory_must_return_a_breaker(returned):
    """Told at the first call, with the value."""
    keyed = KeyedBreakers(lambda key: returned)
    with pytest.raises(TypeError, match="must return a CircuitBreaker, but returned"):
        _ = keyed["a"]
    assert len(keyed) == 0


@pytest.mark.parametrize(
    ("factory", "maximum", "error", "message"),
    [
        (None, 10, TypeError, "a function of the key that returns a breaker, got None"),
        (breakers, 0, ValueError, "max_keys >= 1, got 0"),
        (breakers, True, TypeError, "int as max_keys, got True"),
        (breakers, 10.0, TypeError, r"int as max_keys, got 10\.0"),
    ],
)
def test_nonsense_is_refused(factory, maximum, error, message):
    """At construction."""
    with pytest.raises(error, match=f"KeyedBreakers needs .*{message}"):
        KeyedBreakers(factory, max_keys=maximum)
