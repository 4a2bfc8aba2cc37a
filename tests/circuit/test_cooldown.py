"""How long to stay open."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_circuit import CircuitBreaker, Opening, from_error, growing, retry_after_of
from mcp_circuit.cooldown import FALLBACK, sound


def asking(**facts):
    error = ConnectionError()
    error.__dict__.update(facts)
    return error


def in_seconds(seconds):
    return format_datetime(datetime.now(timezone.utc) + timedelta(seconds=seconds), usegmt=True)


def test_growing_doubles_up_to_the_maximum():
    """The series, without its jitter."""
    policy = growing(5, maximum=60, jitter=0)
    assert [policy(Opening(n, None)) for n in range(6)] == [5, 10, 20, 40, 60, 60]


@given(st.integers(0, 10**6), st.floats(0, 1, exclude_max=True), st.floats(0, 0.99), st.floats(1, 100))
def test_growing_stays_in_its_bounds(reopens, draw, jitter, factor):
    """However often it re-opens: no overflow, always above zero, jitter at the maximum too."""
    seconds = growing(1, maximum=300, factor=factor, jitter=jitter, random=lambda: draw)(Opening(reopens, None))
    middle = 300 if reopens * math.log(factor) > math.log(300) else factor**reopens
    assert seconds == pytest.approx(middle * (1 + jitter * (2 * draw - 1)), rel=1e-6)
    assert seconds > 0


def test_jitter_spreads_what_would_be_equal():
    """Breakers that opened together do not probe together, also at the maximum."""
    assert len({growing(5)(Opening(100, None)) for _ in range(50)}) > 40


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (None, None),
        (ConnectionError(), None),
        (asking(retry_after=7), 7.0),
        (asking(retry_after=0.5), 0.5),
        (asking(retry_after="7.5"), 7.5),
        (asking(data={"retryAfter": 3}), 3.0),
        (asking(data={"retry_after": 3}), 3.0),
        (asking(error=SimpleNamespace(data={"retryAfter": 4})), 4.0),
        (asking(response=SimpleNamespace(headers={"Retry-After": "120"})), 120.0),
        (asking(response=SimpleNamespace(headers={"retry-after": "120"})), 120.0),
        (asking(retry_after=-1, data={"retryAfter": 2}), 2.0),
        (asking(retry_after=True), None),
        (asking(retry_after=math.nan), None),
        (asking(retry_after=0), None),
        (asking(retry_after=[3]), None),
        (asking(retry_after="soon"), None),
        (asking(retry_after=math.inf), math.inf),
        (asking(retry_after=10**400), math.inf),
        (asking(retry_after=-(10**400)), None),
        (asking(response=SimpleNamespace(headers={"Retry-After": in_seconds(-60)})), None),
        (asking(response=SimpleNamespace(headers={"Retry-After": "Fri, 99 Foo 2026 00:00:00 GMT"})), None),
        (asking(data=7, response=7), None),
    ],
    ids=repr,
)
def test_retry_after_of(error, seconds):
    """What peers send, and what they should not."""
    assert retry_after_of(error) == seconds


def test_retry_after_may_be_a_date():
    """RFC 9110 allows both."""
    error = asking(response=SimpleNamespace(headers={"Retry-After": in_seconds(60)}))
    assert 55 < retry_after_of(error) <= 60


def test_property_that_raises_is_as_good_as_none():
    """Errors of others may do anything when looked at."""

    class RudeError(Exception):
        @property
        def retry_after(self):
            raise RuntimeError("not now")

    assert retry_after_of(RudeError()) is None


def test_from_error_obeys_within_its_maximum():
    """Asked, asked for too much, and not asked; the default may be a policy."""
    policy = from_error(growing(5, jitter=0), maximum=60)
    assert policy(Opening(1, asking(retry_after=7))) == 7
    assert policy(Opening(1, asking(retry_after=3600))) == 60
    assert policy(Opening(1, asking(retry_after=10**400))) == 60
    assert policy(Opening(1, None)) == 10
    assert from_error(30)(Opening(1, ConnectionError())) == 30
    assert from_error(30)(Opening(1, asking(retry_after=3600))) == 300


@pytest.mark.parametrize(("depth", "expected"), [(0, 7), (1, 7), (7, 7), (8, None)])
def test_retry_after_of_a_cause(depth, expected):
    """Wrappers are looked through; not for ever, since causes may form a ring."""
    error = asking(retry_after=7)
    for _ in range(depth):
        outer = RuntimeError()
        outer.__cause__ = error
        error = outer
    assert retry_after_of(error) == expected


@pytest.mark.parametrize("returned", [0, -1, math.nan, math.inf, None, "30"])
def test_policy_that_answers_nonsense_is_not_obeyed(returned, caplog):
    """A breaker that opens for ever, or for no time, is none."""
    assert sound(lambda opening: returned)(Opening(0, None)) == FALLBACK
    assert len(caplog.records) == 1


def test_policy_that_raises_is_not_obeyed(caplog):
    """The error that tripped is what the caller sees, not that of the policy."""
    breaker = CircuitBreaker(cooldown=lambda opening: 1 / 0)
    for _ in range(5):
        breaker.acquire().fail()
    assert breaker.core.machine.era.cooldown == FALLBACK
    assert caplog.records[0].exc_info[0] is ZeroDivisionError


def test_opening_tells_the_policy_what_happened():
    """The count of re-openings and the error itself, which is not kept."""
    openings, error, now = [], ConnectionError(), 0.0
    breaker = CircuitBreaker(cooldown=lambda opening: openings.append(opening) or 1.0, clock=lambda: now)
    for _ in range(4):
        breaker.acquire().fail()
    breaker.acquire().fail(error)
    now = 1.0
    breaker.acquire().fail()
    assert openings == [(0, error), (1, None)]


def test_health_forgives_reopenings():
    """Every `forgive_after` seconds closed take one back; nothing falls below zero."""
    now, seen = 0.0, []
    breaker = CircuitBreaker(
        cooldown=lambda opening: seen.append(opening.reopens) or 1.0, forgive_after=10, clock=lambda: now
    )

    def trip():
        for _ in range(5):
            breaker.acquire().fail()

    def relapse():
        nonlocal now
        now += 1.0
        breaker.acquire().fail()

    def recover():
        nonlocal now
        now += 1.0
        breaker.acquire().succeed()

    trip(), relapse(), relapse(), recover()
    now += 19.9
    trip(), recover()
    now += 1000
    trip()
    assert seen == [0, 1, 2, 2, 0]


@pytest.mark.parametrize("cooldown", [0, -1, math.nan, math.inf, "30", None, True])
def test_nonsense_is_refused(cooldown):
    """As a number, and as the default of a policy."""
    with pytest.raises((ValueError, TypeError), match=r"CircuitBreaker needs .*(?:< cooldown <|as cooldown,)"):
        CircuitBreaker(cooldown=cooldown)
    with pytest.raises((ValueError, TypeError), match=r"from_error needs .*(?:< default <|as default,)"):
        from_error(cooldown)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"first": 0}, "growing needs 0 < first < inf seconds, got 0"),
        ({"first": math.inf}, "growing needs 0 < first < inf seconds, got inf"),
        ({"first": 301}, "growing needs first <= maximum, got first=301 and maximum=300.0"),
        ({"maximum": math.nan}, "growing needs 0 < maximum < inf seconds, got nan"),
        ({"factor": 0.5}, "growing needs factor >= 1, got 0.5"),
        ({"factor": math.inf}, "growing needs 0 < factor < inf seconds, got inf"),
        ({"jitter": -0.1}, "growing needs 0 < jitter <= 1, got -0.1"),
        ({"jitter": 1}, "growing needs 0 <= jitter < 1, got 1"),
        ({"jitter": math.nan}, "growing needs 0 < jitter <= 1, got nan"),
    ],
)
def test_nonsense_for_growing_is_refused(options, message):
    """Each argument by its name."""
    with pytest.raises(ValueError, match=f"^{message}$"):
        growing(**{"first": 5, **options})


def test_growing_needs_a_source_of_randomness():
    """A seed is a likely slip."""
    with pytest.raises(TypeError, match="growing needs a callable as random, got 7"):
        growing(5, random=7)


def test_nonsense_for_from_error_is_refused():
    """Its own argument."""
    with pytest.raises(ValueError, match="from_error needs 0 < maximum < inf seconds, got 0"):
        from_error(30, maximum=0)


@pytest.mark.parametrize(("jitter", "draw", "expected"), [(0.1, 0.0, 4.5), (0.1, 0.5, 5.0), (0.2, 1.0, 6.0)])
def test_jitter_goes_both_ways(jitter, draw, expected):
    """A share of the time, less or more."""
    assert growing(5, jitter=jitter, random=lambda: draw)(Opening(0, None)) == pytest.approx(expected)


def test_growing_never_overflows():
    """A float cannot hold 2 to the power of a million."""
    assert growing(5, maximum=60, jitter=0)(Opening(10**6, None)) == 60


def test_growing_may_be_at_its_maximum_from_the_start():
    """The bound itself is allowed."""
    assert growing(5, maximum=5, jitter=0)(Opening(1, None)) == 5
