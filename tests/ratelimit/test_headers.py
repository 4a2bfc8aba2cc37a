"""HTTP: what is written can be read, what is malformed is ignored, and refusals are 429."""

from __future__ import annotations

import contextlib
import json
import time
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_ratelimit import (
    AsyncRateLimiter,
    Decision,
    Limit,
    MemoryStore,
    QuotaPolicy,
    RateLimiter,
    RateLimitMiddleware,
    Refused,
    ServiceLimit,
    limit_asgi,
    parse_policy,
    parse_rate_limit,
    parse_retry_after,
    rate_limit_fields,
    with_rate_limit_fields,
)

from tests.ratelimit.walks import Time


def test_fields_of_an_answer():
    """As the draft writes them; times rounded up, what is left rounded down."""
    limits = Limit("60/min", name="burst"), Limit("2/1.5s", name='say "a\\b"')
    fields = rate_limit_fields(Decision(True, limits[0], 12, 0.0, 6.2), limits)
    assert fields == {
        "ratelimit-policy": '"burst";q=60;w=60, "say \\"a\\\\b\\"";q=2;w=2',
        "ratelimit": '"burst";r=12;t=7',
    }
    refused = rate_limit_fields(Decision(False, limits[0], 0, 0.01, 30.0, ("burst",)), limits[:1])
    assert refused["retry-after"] == "1"


@given(
    st.lists(
        st.tuples(st.from_regex(r"[ -~]{1,64}", fullmatch=True), st.integers(1, 10**6), st.integers(1, 10**6)),
        max_size=4,
    )
)
def test_what_is_written_is_read(policies):
    """Any name that a limit can have."""
    limits = [Limit(amount=min(amount, period), per=period, name=name) for name, amount, period in policies]
    decisions = [Decision(True, limit, limit.amount, 0.0, limit.period) for limit in limits]
    for limit, decision in zip(limits, decisions, strict=True):
        fields = rate_limit_fields(decision, limits)
        assert parse_policy(fields["ratelimit-policy"]) == [
            QuotaPolicy(each.name, each.amount, int(each.period)) for each in limits
        ]
        assert parse_rate_limit(fields["ratelimit"]) == [ServiceLimit(limit.name, limit.amount, int(limit.period))]


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ('"a";r=5;t=10', [("a", 5, 10)]),
        ('"a"; r=5 , "b";r=0;t=3', [("a", 5, None), ("b", 0, 3)]),
        ('"a";r=5;pk=:YWJj:;x="y;r=9";ok;z=?1;t=tok', [("a", 5, None)]),
        ('"a";r=1;t=0', [("a", 1, 0)]),
        ('"a";t=10', []),
        ('"a";r=-1', []),
        ('"a";r=1.5', []),
        ('"a";r=1;t=-1', [("a", 1, None)]),
        ("a;r=1", []),
        ('"a', []),
        ('"a";r=1, , "b";r=1', []),
        ("", []),
        ('"ü";r=1', []),
        ('"a";r=1' + " " * 9000, []),
    ],
)
def test_reading_ignores_what_is_malformed(field, expected):
    """A client must not fall over what a server sends."""
    assert parse_rate_limit(field) == [ServiceLimit(*values) for values in expected]


def test_reading_policies():
    """A window is optional, and never zero; a quote in a name is marked."""
    policies = parse_policy('"a";q=5;w=0, "b";q=0;w=1, "c";w=3, "d \\" e";q=2')
    assert policies == [QuotaPolicy("a", 5, None), QuotaPolicy("b", 0, 1), QuotaPolicy('d " e', 2, None)]


@given(st.text(max_size=60))
def test_reading_never_raises(text):
    """Whatever it is."""
    parse_policy(text)
    parse_rate_limit(text)
    parse_retry_after(text, 0.0)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("7", 7.0),
        (" 120 ", 120.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 60.0),
        ("Wed, 21 Oct 2015 07:26:00 GMT", 0.0),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after(field, expected):
    """Seconds, or a date; the past means now."""
    assert parse_retry_after(field, 1445412420.0) == expected


def test_retry_after_in_the_form_without_a_zone(monkeypatch):
    """RFC 9110 still allows asctime's form; it is UTC, wherever the client is."""
    monkeypatch.setenv("TZ", "Etc/GMT+5")
    time.tzset()
    try:
        assert parse_retry_after("Sun Nov  6 08:49:37 1994", 784111770.0) == 7.0
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_hostile_field_costs_no_time():
    """Regular expressions that backtrack would."""
    begin = time.process_time()
    parse_rate_limit('"a"' + ";x=" * 2700)
    parse_rate_limit('"' + "\\" * 8000)
    assert time.process_time() - begin < 0.5


async def receive():
    return {"type": "asked"}


async def app(scope, receive, send):
    assert await receive() == {"type": "asked"}
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"y")]})
        await send({"type": "http.response.body", "body": b"ok"})
    else:
        await send({"type": "lifespan.startup.complete"})


class Remote:
    """A limiter whose answers are awaited."""

    def __init__(self, limiter):
        self.limits = limiter.limits
        self._limiter = limiter

    async def check(self, key):
        return self._limiter.check(key)


@pytest.mark.parametrize("wrap", [lambda limiter: limiter, Remote])
async def test_asgi(wrap):
    """Fields on every answer, a problem and Retry-After on a refusal; lifespan passes."""
    limiter = RateLimiter(Limit("1/min", name="ip"), store=MemoryStore(clock=Time()))
    limited = limit_asgi(app, wrap(limiter), lambda scope: scope["client"][0])
    sent = []

    async def send(message):
        sent.append(message)

    for scope in ("http", "http", "lifespan"):
        await limited({"type": scope, "client": ("1.2.3.4", 5)}, receive, send)
    fields = [(b"ratelimit-policy", b'"ip";q=1;w=60'), (b"ratelimit", b'"ip";r=0;t=60')]
    content = {
        "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
        "title": "Too many requests",
        "status": 429,
        "violated-policies": ["ip"],
    }
    problem = [(b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(json.dumps(content)))]
    passed, body, refused, refusal, started = sent
    assert passed == {"type": "http.response.start", "status": 200, "headers": [(b"x", b"y"), *fields]}
    assert (body, started) == ({"type": "http.response.body", "body": b"ok"}, {"type": "lifespan.startup.complete"})
    headers = [*problem, *fields, (b"retry-after", b"61")]
    assert refused == {"type": "http.response.start", "status": 429, "headers": headers}
    assert (refusal.pop("type"), json.loads(refusal.pop("body")), refusal) == ("http.response.body", content, {})


async def test_an_answer_without_headers_gets_fields_too():
    """ASGI lets an app leave them out."""

    async def bare(scope, receive, send):
        await send({"type": "http.response.start", "status": 204})

    limiter = RateLimiter("1/min", store=MemoryStore(clock=Time()))
    assert set(await headers_of(limit_asgi(bare, limiter, str))) == {b"ratelimit-policy", b"ratelimit"}


@pytest.mark.parametrize("arguments", [(None, RateLimiter("1/s"), str), (app, AsyncRateLimiter, 3), (app, None, str)])
def test_asgi_nonsense(arguments):
    """Refused where it is wrapped."""
    with pytest.raises(TypeError, match="limit_asgi needs an ASGI app, a limiter and a function"):
        limit_asgi(*arguments)


async def headers_of(app, **scope):
    """What an app sends with the start of its response."""
    sent = []

    async def send(message):
        sent.append(message)

    await app({"type": "http", **scope}, receive, send)
    return dict(sent[0]["headers"])


async def nothing(ctx):
    pass


def served_behind(limits):
    """An app that answers by what a middleware says about a call, as the ASGI seam of a server does."""

    async def served(scope, receive, send):
        assert await receive() == {"type": "asked"}
        with contextlib.suppress(Refused):
            await limits(SimpleNamespace(method="tools/call", params=scope, request=None), nothing)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"Retry-After", b"9")]})

    return served


async def test_responses_tell_what_the_middleware_decided():
    """To callers that have the limit for themselves; a field that the app has sent already stays alone."""
    limits = RateLimitMiddleware(
        Limit("2/min", name="yours"),
        overall=Limit("3/min", name="all"),
        key=lambda ctx: ctx.params["who"],
        http_fields=True,
    )
    app = with_rate_limit_fields(served_behind(limits))
    first = await headers_of(app, who="ann")
    assert first[b"ratelimit-policy"] == b'"yours";q=2;w=60, "all";q=3;w=60'
    assert first[b"ratelimit"] == b'"yours";r=1;t=30'
    await headers_of(app, who="ann")
    refused = await headers_of(app, who="ann")
    assert refused[b"ratelimit"].startswith(b'"yours";r=0')
    assert {name for name in refused if name.lower() == b"retry-after"} == {b"Retry-After"}
    await headers_of(app, who="bob")
    assert b"ratelimit" not in await headers_of(app, who="bob")


async def test_no_fields_where_nothing_was_decided():
    """Nor outside of a request, nor of callers who may be many."""
    limits = RateLimitMiddleware("2/min", http_fields=True, cost=lambda ctx: 3)
    assert set(await headers_of(with_rate_limit_fields(served_behind(limits)))) == {b"Retry-After"}
    own = RateLimitMiddleware("2/min", http_fields=True, key=lambda ctx: "ann", cost=lambda ctx: 3)
    assert set(await headers_of(served_behind(own))) == {b"Retry-After"}
    never = await headers_of(with_rate_limit_fields(served_behind(own)))
    assert never[b"ratelimit"] == b'"2/min";r=0;t=0'
    with pytest.raises(TypeError, match="with_rate_limit_fields needs an ASGI app, got 3"):
        with_rate_limit_fields(3)
