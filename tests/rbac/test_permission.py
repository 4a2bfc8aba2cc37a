"""Patterns and the spelling of URIs: what is the same, and what must never be taken for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_rbac import uris
from mcp_rbac.permission import Patterns, fault_in
from mcp_rbac.uris import uri_spellings

from tests.rbac.naive import matches


@pytest.mark.parametrize(
    ("pattern", "permission", "expected"),
    [
        ("tools/list", "tools/list", True),
        ("tools/list", "tools/list:x", False),
        ("tools/call:edit", "tools/call:edit", True),
        ("tools/call:edit", "tools/call:edit_all", False),
        ("tools/call:edit", "tools/call:Edit", False),
        ("tools/call:get_*", "tools/call:get_file", True),
        ("tools/call:get_*", "tools/call:get_", True),
        ("tools/call:get_*", "tools/call:forget_it", False),
        ("tools/call:*_prod", "tools/call:drop_prod", True),
        ("tools/call:*_prod", "tools/call:drop_prod2", False),
        ("tools/call:a*a", "tools/call:aba", True),
        ("tools/call:a*a", "tools/call:aa", True),
        ("tools/call:a*a", "tools/call:a", False),
        ("tools/call:*", "tools/call:a/b", False),
        ("tools/call:*", "tools/call", False),
        ("tools/call:**", "tools/call:a/b", True),
        ("resources/read:docs://**", "resources/read:docs://a/b", True),
        ("resources/read:docs://**", "resources/read:docs:", False),
        ("resources/read:docs/**", "resources/read:docs", False),
        ("resources/read:docs/*/end", "resources/read:docs/a/end", True),
        ("resources/read:docs/*/end", "resources/read:docs/a/b/end", False),
        ("resources/read:docs/a*c/**", "resources/read:docs/abc/x/y", True),
        ("tools/*", "tools/list", True),
        ("tools/*", "tools:list", False),
        ("a/*/b", "a/x:b", False),
        ("*/call:x", "tools/call:x", True),
        ("*/call:x/*", "tools/call:x/y", True),
        ("**", "anything/at:all/of/it", True),
        ("tools/call:a.c", "tools/call:abc", False),
    ],
)
def test_match(pattern, permission, expected):
    """A star stays in its segment, and nothing but a star is special."""
    assert fault_in(pattern) is None
    assert bool(Patterns([(pattern, 1)]).find(permission)) is expected
    assert matches(pattern, permission) is expected, "the model of the properties agrees"


TEXT = st.text("ab/*:_", max_size=9)


@given(st.lists(TEXT.filter(lambda text: fault_in(text) is None), max_size=9), st.text("ab/:_", max_size=9))
@pytest.mark.hypothesis
def test_index_finds_what_comparing_finds(patterns, permission):
    """1. The index is a short cut and nothing else."""
    index = Patterns(enumerate_pairs(patterns))
    assert sorted(index.find(permission)) == [n for n, one in enumerate(patterns) if matches(one, permission)]


def enumerate_pairs(patterns):
    return [(pattern, number) for number, pattern in enumerate(patterns)]


def test_index_of_many_patterns():
    """Many patterns of one shape are told apart by what they look for, not by trying each."""
    index = Patterns((f"tools/call:team{number}_*", number) for number in range(20_000))
    assert index.find("tools/call:team777_deploy") == [777]
    assert not index.find("tools/call:team77x_deploy")


def test_patterns_that_begin_alike():
    """They share what they have in common, and nothing more."""
    index = Patterns([("x:a*/b", 1), ("x:a*/c", 2), ("x:a*/**", 3), ("x:*/b", 4)])
    assert sorted(index.find("x:az/b")) == [1, 3, 4]
    assert sorted(index.find("x:az/c")) == [2, 3]


def test_patterns_of_one_object():
    """None that matches is lost beside another, and one that does not is none."""
    index = Patterns([("x:*", 1), ("x:a*b", 2), ("x:aa*b", 3), ("x:a*bb", 4), ("x:a*", 5), ("x:*b", 6), ("x:aa*", 7)])
    assert sorted(index.find("x:aab")) == [1, 2, 3, 5, 6, 7]
    assert sorted(index.find("x:abb")) == [1, 2, 4, 5, 6]
    assert index.find("x:zzz") == [1]
    index = Patterns([("x:**", 1), ("x:a/**", 2), ("x:a/b/**", 3), ("x:a/*/c", 4), ("**", 5), ("*:a/b/c", 6)])
    assert sorted(index.find("x:a/b/c")) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        ":x",
        "tools call:x",
        "tools/call:",
        "a/**:x",
        "a*b*/c:x",
        "**:x",
        "/a",
        "x:**/y",
        "x:a**",
        "x:*a*",
        "x:a\tb",
        "x:a ",
        "x:e\u0301",
        7,
        None,
    ],
)
def test_fault(pattern):
    """What could not match as it reads is refused, with the words it has."""
    assert repr(pattern) in fault_in(pattern)


@pytest.fixture(autouse=True)
def _nothing_remembered():
    """What was asked before must not answer for the code as it is now."""
    uris._spellings.cache_clear()


@pytest.mark.parametrize(
    ("uri", "spellings"),
    [
        ("docs://a/b", ("docs://a/b",)),
        ("DOCS://Host/Path", ("docs://host/Path",)),
        ("HTTP://Host:80/x", ("http://host/x",)),
        ("https://host:8443/", ("https://host:8443",)),
        ("HTTP://Host/?q", ("http://host?q", "http://host")),
        ("http://[::1]:80/x", ("http://[::1]/x",)),
        ("docs://a/b/", ("docs://a/b/", "docs://a/b")),
        ("docs://a//b", ("docs://a//b", "docs://a/b")),
        ("docs://a/", ("docs://a/", "docs://a")),
        ("docs://a//b/?c", ("docs://a//b/?c", "docs://a//b/", "docs://a/b")),
        ("file:///", ("file:///",)),
        ("a//b/", ("a//b/", "a/b")),
        ("fetch://https://x/y", ("fetch://https://x/y", "fetch://https:/x/y")),
        ("mail://bob@x", ("mail://bob@x",)),
        ("http://{host}/x", ("http://{host}/x",)),
        ("docs://a/.env", ("docs://a/.env",)),
        ("docs://a/b c", ("docs://a/b c",)),
        ("find://a?q=It ends.", ("find://a?q=It ends.", "find://a")),
        ("file:///etc/%70asswd", ("file:///etc/passwd",)),
        ("mailto:Bob", ("mailto:Bob",)),
        ("plain/path", ("plain/path",)),
        ("docs://a/b?c=d#e", ("docs://a/b?c=d#e", "docs://a/b")),
        ("docs://{name}/x", ("docs://{name}/x",)),
        ("9p:X", ("9p:X",)),
        ("x" * 4096, ("x" * 4096,)),
    ],
)
def test_spelling(uri, spellings):
    """2. One resource, one spelling."""
    assert uri_spellings(uri) == spellings


@pytest.mark.parametrize(
    "uri",
    [
        "docs://a/../secret",
        "docs://a/./b",
        "docs://a/%2e%2E/secret",
        "docs://a/%2fsecret",
        "docs://a/%252e%252e/secret",
        "docs://a\\..\\secret",
        "docs://a/%5csecret",
        "docs://a/x%00",
        "docs://a/\u202egpj",
        "docs://a/e\u0301",
        "docs://a/%ff",
        "docs://a/100%",
        "docs://a/x?../secret",
        "docs:../secret",
        "docs://a/..;/secret",
        "docs://a/secret.",
        "docs://a/secret%2E/b",
        "docs://a/secret ",
        "docs://a/secret%20/b",
        " docs://a",
        "docs://a/...",
        "http://host./",
        "http://me@host/",
        "http://host:/",
        "http://host:080/",
        "http://h\u00f6st/",
        "http://%65vil@host/",
        "docs://a\n",
        "docs://a\t/b",
        "docs://a/\u00ad",
        "?x",
        "",
        "x" * 4097,
    ],
)
def test_no_spelling(uri):
    """A URI that a server might read in two ways is granted in neither."""
    assert uri_spellings(uri) == ()
