"""Admission of names: who comes first does not matter, who exists does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_metrics import Names


def test_admission():
    """Given, listed, or succeeded; nothing else."""
    names = Names({"given"})
    assert names.admit("given", succeeded=False) == "given"
    assert names.admit("unknown", succeeded=False) == "_OTHER"
    assert names.admit("worked", succeeded=True) == "worked"
    assert names.admit("x" * 128, succeeded=True) == "x" * 128
    assert names.admit("worked", succeeded=False) == "worked"
    names.listed(["listed", None, 7])
    assert names.admit("listed", succeeded=False) == "listed"
    assert len(names) == 4
    assert "listed" in names
    assert "unknown" not in names


@pytest.mark.parametrize("name", ["", None, 7, ["x"], "x" * 129])
def test_what_is_no_name(name):
    """A name that cannot be one is not learned, whatever the call did."""
    names = Names()
    assert names.admit(name, succeeded=True) == "_OTHER"
    assert len(names) == 0


def test_unlearned_names_are_those_given():
    """What was learned of one server is not believed of another; the rest is as it was."""
    names = Names(["known"], limit=2)
    names.listed(["listed"])
    twin = names.unlearned()
    assert [twin.admit(name, succeeded=False) for name in ("known", "listed")] == ["known", "_OTHER"]
    twin.listed(["a", "b"])
    assert (len(names), len(twin)) == (2, 2)
    assert Names(learn=False).unlearned().admit("worked", succeeded=True) == "_OTHER"


def test_a_long_name_given_in_advance_is_admitted():
    """Invariant 2: what the operator lists is known; the label is shortened where all are."""
    assert Names(["x" * 200]).admit("x" * 200, succeeded=False) == "x" * 200


def test_learning_can_be_off():
    """For a server where any name succeeds."""
    names = Names(["known"], learn=False)
    names.listed(["listed"])
    assert names.admit("worked", succeeded=True) == "_OTHER"
    assert len(names) == 1


@given(st.lists(st.tuples(st.text(max_size=3), st.booleans()), max_size=60), st.integers(0, 5))
def test_invariants(calls, limit):
    """Invariants 1 and 2."""
    names = Names(["a", "b", "c"], limit=limit)
    worked = {name for name, succeeded in calls if succeeded} | {"a", "b", "c"}
    admitted = {names.admit(name, succeeded=succeeded) for name, succeeded in calls} - {"_OTHER"}
    assert admitted <= worked
    assert len(names) <= max(limit, 3)
    assert all(names.admit(name, succeeded=False) == name for name in "abc")


def test_there_is_room_for_500_names():
    """Unless another limit is given."""
    names = Names()
    names.listed(map(str, range(501)))
    assert ("499" in names, "500" in names) == (True, False)


@pytest.mark.parametrize("limit", [-1, 2.5, True, None])
def test_limit_is_a_number_of_names(limit):
    """Nonsense is told at construction."""
    with pytest.raises(ValueError, match=f"limit >= 0, got {limit!r}"):
        Names(limit=limit)


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ("add", "Names needs a collection of names, got the text 'add'"),
        (7, "Names needs a collection of names, got 7"),
        ([3], "Names needs text for each of its names, got 3"),
    ],
)
def test_what_is_no_collection_of_names(known, message):
    """``Names("add")`` would admit a, d and d."""
    with pytest.raises(TypeError, match=message):
        Names(known)
