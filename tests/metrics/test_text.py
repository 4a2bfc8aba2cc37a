"""Names, label values and numbers: what is refused, and what everything else becomes."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_metrics import Registry
from mcp_metrics.text import OTHER, canonical, check_name, escape, label_value, number, scheme_named, unit_word


class Hostile:
    def __str__(self):
        raise RuntimeError("no")

    def __float__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        (7, "7"),
        (None, "None"),
        ("\ud800", "\ufffd"),
        ("\ud83d\ude00", "\U0001f600"),
        ("a\0b", "a\ufffdb"),
        ("line\nbreak", "line\nbreak"),
        (Hostile(), "<Hostile>"),
        (["x"], "['x']"),
        ("x" * 128, "x" * 128),
    ],
)
def test_label_value(value, text):
    """What comes over the wire is told apart as far as the format can, and never refused."""
    assert label_value(value) == text


def test_long_values_stay_apart():
    """Two long names that differ at their end are two tools."""
    one, two = label_value("x" * 4096 + "1"), label_value("x" * 4096 + "2")
    assert len(one) == len(two) == 128
    assert one[:119] == two[:119] == "x" * 119
    assert one[119] == "~"
    assert one != two


@given(st.one_of(st.text(), st.binary(), st.text(alphabet=st.characters(categories=["Cs", "Cc", "Lu"])), st.floats()))
def test_label_value_accepts_anything(value):
    """Rule 1: any value gives at most 128 characters of valid UTF-8 without NUL, and the same ones again."""
    text = label_value(value)
    assert "\0" not in text
    assert len(text) <= 128
    assert text.encode().decode() == label_value(text) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (1.5, "1.5"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (math.nan, "NaN"),
        (2**63 - 1, "9223372036854775807"),
        (2**63, "9.223372036854776e+18"),
        (10**400, "+Inf"),
        (-(10**400), "-Inf"),
        (Decimal("0.5"), "0.5"),
        (True, "1.0"),
        ("x", "NaN"),
        (Hostile(), "NaN"),
    ],
)
def test_number(value, text):
    """A value that a format cannot write must not end a scrape."""
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.005, "0.005"),
        (1, "1.0"),
        (300, "300.0"),
        (999999.0, "999999.0"),
        (1e6, "1e+06"),
        (1234567.5, "1.2345675e+06"),
        (-2e7, "-2e+07"),
        (1e20, "1e+20"),
        (-1234567890123456.7, "-1.2345678901234568e+15"),
        (1.5e300, "1.5e+300"),
        (-math.inf, "-Inf"),
        (1e-7, "1e-07"),
        (math.inf, "+Inf"),
    ],
)
def test_canonical(value, text):
    """One bound, one spelling: the one that Go gives it."""
    assert canonical(value) == text


@given(st.floats(allow_nan=False))
def test_canonical_is_the_same_number(value):
    """However it is spelt, a bound is what it was."""
    assert float(canonical(value)) == value


@pytest.mark.parametrize(
    ("name", "underscores", "dots", "values"),
    [
        ("mcp.server", "mcp_server", "mcp_dot_server", "U__mcp_2e_server"),
        ("plain_name", "plain_name", "plain__name", "plain_name"),
        ("1a", "_a", "__a", "U___31_a"),
        ("a-b_c", "a_b_c", "a__b__c", "U__a_2d_b__c"),
        ("größe", "gr__e", "gr____e", "U__gr_f6__df_e"),
        ("a:b", "a:b", "a:b", "a:b"),
    ],
)
def test_escape(name, underscores, dots, values):
    """The four schemes of the Prometheus specification."""
    found = [escape(name, scheme) for scheme in ("underscores", "dots", "values", "allow-utf-8")]
    assert found == [underscores, dots, values, name]


@given(st.tuples(*[st.text("aB1._-/é:", min_size=1, max_size=6)] * 2))
def test_underscores_is_the_most_forgetful_scheme(names):
    """Rule 2: it is enough to refuse what collides there."""
    one, two = names
    if escape(one, "underscores") != escape(two, "underscores"):
        for scheme in ("dots", "values", "allow-utf-8"):
            assert escape(one, scheme) != escape(two, scheme)


@pytest.mark.parametrize("name", ["", "a b", "a\nb 1", "\ud800", "a\0", None, 7, "U__x", "a\tb"])
def test_check_name_refuses(name):
    """A name is a programmer's choice, so a bad one is told at once."""
    with pytest.raises(ValueError, match="the name of a test must be printable") as caught:
        check_name(name, "the name of a test")
    assert repr(name) in str(caught.value)


def test_scheme_of_an_unknown_name():
    """A scraper that asks for a scheme of the future gets the one that everyone reads."""
    assert scheme_named("dots") == "dots"
    assert scheme_named("emoji") == "underscores"


def test_unit_words():
    """OpenTelemetry's units become the words of Prometheus."""
    assert [unit_word(unit) for unit in ("s", "By", "1", "{request}", "joules", "")] == [
        "seconds",
        "bytes",
        "ratio",
        "",
        "joules",
        "",
    ]


def test_other_is_what_opentelemetry_says():
    """Dashboards look for this value."""
    assert OTHER == "_OTHER"
    assert Registry().statistics().families == 1
