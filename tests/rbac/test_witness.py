"""Few questions that stand for all: what a comparison of policies rests on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_rbac.permission import fault_in
from mcp_rbac.witness import common, depth_of, instances, overlaps

from tests.rbac.naive import matches

PATTERN = st.text("ab/*:", max_size=8).filter(lambda text: fault_in(text) is None)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("x:a*", "x:*b", "x:a*b"),
        ("x:a*", "x:ab*", "x:ab*"),
        ("x:*a", "x:*ba", "x:*ba"),
        ("x:*b", "x:*ab", "x:*ab"),
        ("x:a:b*", "x:a:*c", "x:a:b*c"),
        ("x:a*", "x:b*", None),
        ("x:*a", "x:*b", None),
        ("x:a*c", "x:abc", "x:abc"),
        ("x:a*c", "x:b", None),
        ("x:*", "x", None),
        ("x:*", "y:*", None),
        ("x:a/**", "x:*/b", "x:a/b"),
        ("x:a/**", "x:*/b/*", "x:a/b/*"),
        ("x:a/**", "x:*/b/**", "x:a/b/**"),
        ("x:a/*", "x:**", "x:a/*"),
        ("x:a/b/**", "x:*/c", None),
        ("x:a", "x:a/b", None),
        ("*/b:x", "a/*:*", "a/b:x"),
        ("**", "x:a*", "x:a*"),
        ("**", "**", "**"),
    ],
)
def test_common(one, other, expected):
    """What both match, or nothing; the order does not matter."""
    assert common(one, other) == common(other, one) == expected


@given(PATTERN, PATTERN, st.text("ab/:", max_size=8))
@pytest.mark.hypothesis
def test_common_is_within_both_and_never_forgotten(one, other, permission):
    """A witness of neither would report a change that is none; no witness would hide one."""
    both = common(one, other)
    if both is not None and matches(both, permission):
        assert matches(one, permission)
        assert matches(other, permission)
    if matches(one, permission) and matches(other, permission):
        assert both is not None


def test_instances():
    """With each number of segments, the most at the end."""
    assert instances("x:a*", 9) == ["x:a*"]
    assert instances("x:**", 3) == ["x:*", "x:*/*", "x:*/*/*"]
    assert instances("x:a/**", 3) == ["x:a/*", "x:a/*/*"]
    assert instances("x:a/b/**", 1) == ["x:a/b/*"]
    assert instances("x:a/b:c/**", 4) == ["x:a/b:c/*", "x:a/b:c/*/*"]
    assert instances("**", 2) == ["*", "*:*", "*:*/*", "*/*", "*/*:*", "*/*:*/*"]


def test_depth():
    """One more than there are, so that the deepest witness is beyond every pattern without ``**``."""
    assert [depth_of(set()), depth_of({"x"}), depth_of({"a/b/c:x", "x:y/z"}), depth_of({"a:b/c/d"})] == [1, 2, 4, 4]


def test_overlaps():
    """What is a pattern already is asked for anyway."""
    patterns = {"x:a*", "x:*b", "x:c*", "x:ab", "y"}
    assert overlaps({"x:*b"}, patterns) == {"x:a*b": ("x:*b", "x:a*"), "x:c*b": ("x:*b", "x:c*")}
    assert overlaps({"x:c*", "y"}, patterns) == {"x:c*b": ("x:c*", "x:*b")}
    assert overlaps({"x:a*", "x:*"}, {"x:a*", "x:*"}) == {}
