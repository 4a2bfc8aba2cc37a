"""Hints of the other side: where they are found, and what is no hint."""

from __future__ import annotations

import math
import time
from email import message_from_string
from email.message import Message
from email.utils import formatdate
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_retry import retry_after

NOW = 1_700_000_000.0
NONSENSE = [-1, -0.001, math.nan, math.inf, 10**400, "1e400", "-5", "nan", "soon", "", None, True, [1], {}, 1j]


def having(**attributes: object) -> Exception:
    error = Exception()
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


def with_headers(**headers: str) -> Exception:
    return having(response=SimpleNamespace(headers={name.replace("_", "-"): text for name, text in headers.items()}))


def urllib_headers(text: str) -> Message:
    return message_from_string(text)


def hint(error: object) -> float | None:
    return retry_after(error, wall_clock=lambda: NOW)


@pytest.mark.parametrize(
    "error",
    [
        having(retry_after=3),
        having(retry_after="3"),
        having(data={"retry_after": 3}),
        having(data={"retryAfter": 3.0}),
        having(error=SimpleNamespace(data={"retry_after": 3})),
        with_headers(retry_after="3"),
        with_headers(Retry_After="3"),
        with_headers(retry_after=formatdate(NOW + 3, usegmt=True)),
        with_headers(retry_after=formatdate(103, usegmt=True), date=formatdate(100, usegmt=True)),
        with_headers(RETRY_AFTER="3"),
        having(headers=urllib_headers("Retry-After: 3")),
        with_headers(retry_after="Tue, 14 Nov 2023 22:13:23 -0000"),
        having(headers={"retry-after": "3"}),
        having(__cause__=having(__cause__=having(retry_after=3))),
    ],
)
def test_hint_is_found(error):
    """Each place, each spelling."""
    assert hint(error) == 3


def test_order():
    """What is said most directly counts."""
    assert hint(having(retry_after=1, data={"retry_after": 2}, __cause__=having(retry_after=4))) == 1
    assert hint(having(data={"retry_after": 2}, headers={"retry-after": "3"})) == 2
    assert hint(having(retry_after=-1, data={"retry_after": -1, "retryAfter": 2})) == 2


def test_zero_is_a_hint():
    """At once is an answer too."""
    assert hint(having(retry_after=0)) == 0


@pytest.mark.parametrize("value", NONSENSE)
def test_nonsense_is_no_hint(value):
    """A peer must not be able to stop a client for ever, or to crash it."""
    assert hint(having(retry_after=value)) is None
    assert hint(having(data={"retry_after": value})) is None
    assert hint(having(data=value)) is None
    assert hint(having(headers={"retry-after": value})) is None
    assert hint(having(headers=value, response=value, error=value)) is None


@pytest.mark.parametrize("date", [formatdate(NOW - 1, usegmt=True), "Tue, 99 Nov 2023 25:99:99 GMT", "14.11.2023"])
def test_no_date_to_wait_for(date):
    """Dates that are over, and what only looks like a date."""
    assert hint(with_headers(retry_after=date)) is None


def test_hostile_objects_are_survived():
    """A property of a foreign error may raise; httpx has one that does."""

    class Hostile(Exception):
        @property
        def retry_after(self):
            raise RuntimeError

        response = headers = data = error = retry_after

    assert hint(Hostile()) is None
    assert hint(None) is None
    assert hint(object()) is None


def test_causes_are_walked_a_few_steps():
    """A ring of causes ends."""
    ring = having()
    ring.__cause__ = ring
    assert hint(ring) is None
    deep = having(retry_after=1)
    for _ in range(7):
        deep = having(__cause__=deep)
    assert hint(deep) == 1
    assert hint(having(__cause__=deep)) is None


def test_local_clock_is_the_default():
    """Without a Date beside it there is no other."""
    assert 50 < retry_after(with_headers(retry_after=formatdate(usegmt=True, timeval=2**33))) < 2**33


@given(st.one_of(st.text(), st.floats(), st.integers(), st.binary(), st.none()), st.text())
def test_any_header_gives_seconds_or_nothing(value, date):
    """Remote text never raises, and never gives a number that cannot be waited for."""
    found = hint(with_headers(retry_after=value, date=date))
    assert found is None or 0 <= found < math.inf


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone of this process cannot be set here")
def test_dates_in_any_zone(monkeypatch):
    """A date without a zone is in UTC, wherever this machine stands."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        for date in ("14 Nov 2023 22:13:23 GMT", "14 Nov 2023 22:13:23 -0000", "15 Nov 2023 00:13:23 +0200"):
            assert hint(with_headers(retry_after=date)) == 3
    time.tzset()
