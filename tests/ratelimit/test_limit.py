"""Limit: the grammar, the defaults, and what is refused with which words."""

from __future__ import annotations

import math

import pytest
from mcp_ratelimit import Limit, RateLimiter
from mcp_ratelimit.limit import share


@pytest.mark.parametrize(
    ("spec", "amount", "period", "burst"),
    [
        ("100/min", 100, 60.0, 100),
        ("100/min burst 20", 100, 60.0, 20),
        ("  100 / MIN   burst 20 ", 100, 60.0, 20),
        ("5 per 2 s", 5, 2.0, 5),
        ("5 per second", 5, 1.0, 5),
        ("3/1.5h", 3, 5400.0, 3),
        ("10/day", 10, 86400.0, 10),
        ("10/2 weeks", 10, 1209600.0, 10),
    ],
)
def test_spec(spec, amount, period, burst):
    """What people write in a configuration file."""
    limit = Limit(spec)
    assert (limit.amount, limit.period, limit.burst, limit.algorithm) == (amount, period, burst, "gcra")


def test_spec_and_keywords_say_the_same():
    """Two spellings of one thing; only the default name tells them apart."""
    assert Limit("100/min burst 20", name="x") == Limit(amount=100, per=60, burst=20, name="x")
    assert Limit("100/min", burst=20, name="x") == Limit("100/min burst 20", name="x")
    assert Limit("100/min  burst 20").name == "100/min burst 20"
    assert Limit(amount=7, per=0.5).name == "7/0.5s"


def test_strict_gcra_bursts_a_tenth_by_default():
    """The burst comes out of the amount, so a small one keeps the rate high."""
    assert Limit("100/min", algorithm="strict_gcra").burst == 10
    assert Limit("2/min", algorithm="strict_gcra").burst == 1


def test_calendar_windows_are_for_one_unit():
    """Two months, or 30 days, are no window of the calendar; 30 days are a window counted from 1970."""
    assert Limit("9/month", algorithm="fixed_window", timezone="Asia/Tokyo").calendar == "month"
    assert Limit("9/30 days", algorithm="fixed_window").calendar is None
    assert Limit("9/min", algorithm="fixed_window").calendar is None


def test_renamed_changes_nothing_else():
    """For a limit that takes the place of another."""
    assert Limit("9/min").renamed("api") == Limit("9/min", name="api")
    assert Limit("9/min").resized(3.0, 5.0, 2.0) == Limit(amount=3, per=5, burst=2, name="9/min")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("100",), ValueError, "cannot read '100'"),
        (("100/fortnight",), ValueError, "cannot read"),
        (("-1/min",), ValueError, "cannot read"),
        (("1e3/min",), ValueError, "cannot read"),
        (("",), ValueError, "cannot read ''"),
        (("0/min",), ValueError, "amount >= 1, got 0"),
        (("1/0s",), ValueError, "0.001 <= per"),
        (("1/min burst 0",), ValueError, "burst >= 1, got 0"),
        ((100,), TypeError, "a spec such as '100/min', got 100"),
        (("1/month",), ValueError, "cannot count '1/month' by gcra"),
        (("1/2 months", "fixed_window"), ValueError, "only one month by fixed_window"),
        (("1/min", "leaky"), ValueError, r"algorithm to be one of \('gcra', .*, got 'leaky'"),
        (("1/min burst 2", "sliding_log"), ValueError, "burst to be left out"),
        (("1/min", "strict_gcra"), ValueError, "burst < amount .* got 1 of 1"),
        (("2/min burst 2", "strict_gcra"), ValueError, "burst < amount"),
    ],
)
def test_nonsense_spec(arguments, error, message):
    """Refused where it is written, with what would be right."""
    spec, *algorithm = arguments
    with pytest.raises(error, match=message):
        Limit(spec, **({"algorithm": algorithm[0]} if algorithm else {}))


def test_the_fastest_and_the_slowest():
    """The bounds belong to what can be counted."""
    assert Limit(amount=2**20, per=1).burst == 2**20
    assert Limit(amount=1, per=0.001).period == 0.001
    assert Limit(amount=1, per=2**30).period == 2**30


@pytest.mark.parametrize("amount", [0, -1, math.nan, math.inf, True, 1.0, "1"])
def test_nonsense_amount(amount):
    """NaN passes every comparison that is written the wrong way round."""
    with pytest.raises((TypeError, ValueError), match=f"^Limit needs amount .*got {amount!r}"):
        Limit(amount=amount, per=1)


@pytest.mark.parametrize("per", [0, -1, math.nan, math.inf, True, "1", 0.0001, 2**31])
def test_nonsense_period(per):
    """The same for seconds."""
    with pytest.raises((TypeError, ValueError), match=f"per .*got {per!r}"):
        Limit(amount=1, per=per)


@pytest.mark.parametrize("burst", [0, -1, math.nan, math.inf, True, 1.5])
def test_nonsense_burst(burst):
    """The same for the burst."""
    with pytest.raises((TypeError, ValueError), match=f"^Limit needs burst .*got {burst!r}"):
        Limit(amount=1, per=1, burst=burst)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"amount": 2**21, "per": 1}, "2\\*\\*20 a second"),
        ({"amount": 1, "per": 2**30, "burst": 2}, "refill within"),
        ({"amount": 3, "per": 2**30, "burst": 2, "algorithm": "strict_gcra"}, "refill within 1073741824 s, got 2 at 1"),
        ({"spec": "1/s", "timezone": "Mars/Olympus"}, "IANA name .* got 'Mars/Olympus'"),
        ({"spec": "1/s", "timezone": "Europe/Paris"}, "needs a calendar window"),
        ({"spec": "1/s", "timezone": 3}, "IANA name"),
        ({"spec": "1/s", "name": ""}, "name to be 1 to 64"),
        ({"spec": "1/s", "name": "ü"}, "printable ASCII"),
        ({"spec": "1/s", "name": 3}, "got 3"),
    ],
)
def test_nonsense_values(keywords, message):
    """What is refused because it could not be counted or named."""
    with pytest.raises(ValueError, match=message):
        Limit(**keywords)


@pytest.mark.parametrize(
    "keywords", [{}, {"amount": 1}, {"per": 1}, {"spec": "1/s", "per": 1}, {"spec": "1/s", "amount": 1}]
)
def test_half_a_limit(keywords):
    """Neither of the two spellings, or both."""
    with pytest.raises(TypeError, match=r"^Limit needs either a spec such as '100/min', or amount= and per=$"):
        Limit(**keywords)


def test_limiter_reads_several_limits_from_one_string():
    """As they stand in a setting."""
    assert [limit.name for limit in RateLimiter("10/s; 1000/h", Limit("5/day")).limits] == ["10/s", "1000/h", "5/day"]


@pytest.mark.parametrize(
    ("limits", "error"), [((), ValueError), (("1/s", "1/s"), ValueError), ((";",), ValueError), ((3,), TypeError)]
)
def test_limiter_needs_limits_with_names_of_their_own(limits, error):
    """A name is what a refusal tells, and where a state is kept."""
    with pytest.raises(
        error, match="^a limiter needs one limit or several, each with a name" if error is ValueError else "got 3"
    ):
        RateLimiter(*limits)


@pytest.mark.parametrize(
    ("limit", "workers", "amount", "burst"),
    [
        (Limit("40/h burst 9"), 4, 10, 2),
        (Limit("40/h"), 100, 1, 1),
        (Limit("40/h burst 8", algorithm="strict_gcra"), 3, 13, 2),
        (Limit("40/h burst 4", algorithm="strict_gcra"), 10, 4, 1),
        (Limit("40/h burst 4", algorithm="strict_gcra"), 100, 2, 1),
        (Limit("5/h burst 4", algorithm="strict_gcra"), 2, 2, 1),
    ],
)
def test_the_share_of_a_worker(limit, workers, amount, burst):
    """It can be counted as the limit can, and lets at least one unit through."""
    part = share(limit, workers)
    assert (part.amount, part.period, part.burst, part.name) == (amount, 3600.0, burst, limit.name)
