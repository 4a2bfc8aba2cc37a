"""RateLimiter without waiting: several limits, costs, refunds, changes, and what is refused."""

from __future__ import annotations

import math
import random
import re
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_ratelimit import GLOBAL, CostTooLarge, Decision, Limit, MemoryStore, RateLimited, RateLimiter, Refusal

from tests.ratelimit.walks import ALGORITHMS, Time, limit_of


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def limiter_of(time):
    return lambda *limits, **options: RateLimiter(*limits, store=MemoryStore(clock=time, wall_clock=time), **options)


# Behaviour that implementations of the same algorithm in other languages document: (seconds, cost, allowed, remaining).
GCRA_TABLE = [
    (0, 1, True, 4),
    (0, 1, True, 3),
    (0, 3, True, 0),
    (0, 1, False, 0),
    (0.999, 1, False, 0),
    (1, 1, True, 0),
    (2.5, 1, True, 0),
    (3, 1, True, 0),
    (100, 5, True, 0),
    (102, 3, False, 2),
    (102, 2, True, 0),
]


def test_token_bucket_by_the_table(limiter_of, time):
    """Burst 5 and one a second: the steps a reader can check in his head."""
    limiter = limiter_of("1/s burst 5")
    for seconds, cost, allowed, remaining in GCRA_TABLE:
        time.now = 1000.0 + seconds
        decision = limiter.check("key", cost)
        assert (decision.allowed, decision.remaining) == (allowed, remaining), seconds


@pytest.mark.parametrize("ask", ["try_acquire", "check"])
def test_no_more_than_the_burst_gathers(limiter_of, time, ask):
    """However long nobody asks, and on whichever way."""
    limiter = limiter_of("1/s burst 5")
    assert limiter.try_acquire("key")
    for seconds in (4.0, 5.0, 9.0):
        time.now += seconds
        assert [bool(getattr(limiter, ask)("key")) for _ in range(6)] == [True] * 5 + [False]


def test_the_first_decisions_of_all_tell_everything(limiter_of, time):
    """A clock may begin at zero."""
    limiter = limiter_of("1/s burst 5")
    for time.now, remaining, reset_after in ((0.0, 4, 1.0), (0.5, 3, 1.5), (1.0, 3, 2.0)):
        told = limiter.check("key")
        assert told == (True, limiter.limits[0], remaining, 0.0, pytest.approx(reset_after, abs=1e-5), ())


def test_a_decision_tells_everything(limiter_of):
    """All that a header or a message needs comes from the call that decides."""
    limiter = limiter_of("2/s burst 2")
    assert limiter.check("key", 2)[:1] + limiter.check("other", 2)[2:] == (True, 0, 0.0, 1.0, ())
    refused = limiter.check("key", 2)
    assert not refused
    assert (refused.limit.amount, refused.remaining, refused.violated) == (2, 0, ("2/s burst 2",))
    assert refused.retry_after == pytest.approx(1.0, abs=1e-6)
    assert refused.reset_after == pytest.approx(1.0, abs=1e-6)


def test_the_limit_that_refuses_longest_is_told(limiter_of):
    """It tells when to come again, though others may have less left; where none refuses, the one with least left."""
    limiter = limiter_of("9/min burst 3", "1/h burst 3", "1/s burst 2")
    assert limiter.check("key", 2).limit.name == "1/s burst 2"
    refused = limiter.check("key", 2)
    assert refused.violated == ("9/min burst 3", "1/h burst 3", "1/s burst 2")
    assert (refused.limit.name, refused.remaining) == ("1/h burst 3", 1)
    assert refused.retry_after == pytest.approx(3600, abs=1e-6)


def test_refused_takes_nothing_from_any_limit(limiter_of):
    """Invariant 2: the others must not pay for the one that refuses."""
    limiter = limiter_of("5/min", "2/hour", "9/day")
    keys = ("alice", "alice/search", GLOBAL)
    assert [limiter.try_acquire(keys) for _ in range(4)] == [True, True, False, False]
    assert limiter.check(keys).violated == ("2/hour",)
    assert limiter.check(("alice", "alice/read", GLOBAL), 2)
    assert limiter.peek(("alice", "x", GLOBAL), 2).violated == ("5/min",)
    assert limiter.peek(("bob", "bob/read", GLOBAL), 2).remaining == 2
    assert limiter.check(("bob", "bob/read", GLOBAL), 2)
    assert limiter.peek(("carol", "carol/read", "elsewhere"), 2)
    assert limiter.peek(("carol", "carol/read", GLOBAL)).limit.name == "2/hour"


@pytest.mark.parametrize("wide", [("5/min",), ("5/min", "9/day")])
def test_one_key_for_all_limits_counts_in_each(limiter_of, wide):
    """Whichever of them refuses, also where the first would let it through."""
    limiter = limiter_of(*wide, "2/hour")
    assert [limiter.try_acquire("key") for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_peek_and_refusal_change_nothing(limiter_of, algorithm):
    """Invariant 2: looking is free."""
    limiter = limiter_of(limit_of(algorithm, 3, 60.0, 3))
    limiter.check("key", 2)
    before = limiter.peek("key", 2)
    assert not limiter.check("key", 2)
    assert [limiter.peek("key", 2) for _ in range(9)] == [before] * 9
    assert limiter.check("key", 0).allowed
    assert limiter.take_up_to("key", 0) == 0
    assert [limiter.take_up_to("key", 9) for _ in range(2)] == [1, 0]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_refund_and_reset(limiter_of, algorithm):
    """What is given back can be spent again, and never more than was spent."""
    limiter = limiter_of(limit_of(algorithm, 3, 60.0, 3))
    limiter.check("key", 3)
    limiter.refund("key")
    limiter.refund("stranger", 3)
    assert limiter.take_up_to("key", 9) == 1
    limiter.refund("key", 99)
    assert limiter.peek("key").reset_after == 0.0
    assert limiter.take_up_to("key", 9) == limiter.take_up_to("stranger", 9) == 3
    limiter.reset("key")
    limiter.reset("never seen")
    assert limiter.take_up_to("key", 2) == 2


def test_reset_finds_what_was_written_long_ago(limiter_of, time):
    """States of another time lie elsewhere, and still count."""
    limiter = limiter_of("1/h")
    for pause, key in ((0, "early"), (3000, "key"), (1000, "late")):
        time.now += pause
        assert limiter.try_acquire(key)
    limiter.reset("key")
    assert limiter.try_acquire("key")


@pytest.mark.parametrize(("taken", "left"), [(1, 2), (2, 1), (3, 0)])
def test_what_another_takes_meanwhile_is_not_taken_twice(taken, left):
    """A store of several processes may change between looking and taking: then what is left is taken."""
    readings = []

    def clock():
        readings.append(1000.0)
        if len(readings) == 2:
            assert rival.try_acquire("key", taken)
        return 1000.0

    store = MemoryStore(clock=clock)
    limiter, rival = (RateLimiter("3/h", store=store) for _ in range(2))
    assert limiter.take_up_to("key", 3) == left
    assert limiter.peek("key").remaining == 0


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_changed_limit_keeps_what_was_used(limiter_of, time, algorithm):
    """Invariant 5, also through two changes, for a key that nobody has asked about in between."""
    limiter = limiter_of(limit_of(algorithm, 10, 6000.0, 10))
    time.now = 6000.0
    limiter.check("key", 6)
    old = limiter.limits[0]
    limiter.set_limit(limit_of(algorithm, 20, 3000.0, 20))
    limiter.set_limit(limit_of(algorithm, 8, 6000.0, 8))
    assert limiter.limits[0].name == old.name
    assert limiter.peek("key").remaining == 2
    limiter.set_limit(limit_of(algorithm, 4, 6000.0, 4))
    assert limiter.peek("key").remaining == 0
    assert limiter.peek("other").remaining == 4


def test_time_before_a_change_counts_at_the_old_rate(limiter_of, time):
    """Two units come back in two seconds of the old limit, two more in twenty of the new one."""
    limiter = limiter_of("1/s burst 10")
    limiter.check("key", 10)
    time.now += 2
    limiter.set_limit("1/10s burst 10")
    time.now += 20
    assert limiter.peek("key").remaining == 4


def test_set_limit_by_name(limiter_of):
    """One of several; what it cannot do it says."""
    limiter = limiter_of(Limit("10/s", name="fast"), Limit("100/day", name="slow"))
    limiter.set_limit("50/day", name="slow")
    assert [(limit.name, limit.amount) for limit in limiter.limits] == [("fast", 10), ("slow", 50)]
    for name in (None, "other"):
        with pytest.raises(ValueError, match=f"one of \\['fast', 'slow'\\], got {name!r}"):
            limiter.set_limit("1/s", name=name)
    with pytest.raises(ValueError, match="algorithm='gcra' as before"):
        limiter.set_limit(Limit("1/s", algorithm="sliding_log"), name="slow")


def test_cost_over_the_burst_is_refused_at_once(limiter_of):
    """Waiting would be for ever; nothing is charged."""
    limiter = limiter_of("10/s burst 3", "100/day")
    with pytest.raises(CostTooLarge, match="cost 4 can never pass '10/s burst 3', which lets 3 through") as caught:
        limiter.check("key", 4)
    assert (caught.value.cost, caught.value.limit) == (4, limiter.limits[0])
    assert limiter.peek("key", 3).remaining == 3


NONSENSE_CALLS = [
    ("check", ("key", -1), "a limiter needs cost >= 0, got -1"),
    ("peek", ("key", 1.0), "a limiter needs cost to be a whole number, got 1.0"),
    ("acquire", ("key", 4), "cost 4 can never pass '3/h', which lets 3 through at once"),
    ("try_acquire", ("",), "a key needs to be a non-empty string; use GLOBAL where everybody shares one allowance"),
    ("take_up_to", ("key", -1), "take_up_to needs most >= 0, got -1"),
    ("refund", ("key", -1), "refund needs cost >= 0, got -1"),
    ("reset", (3,), "a key is a non-empty string, or a tuple of one for each limit, got 3"),
]


@pytest.mark.parametrize(("ask", "arguments", "message"), NONSENSE_CALLS)
async def test_nonsense_is_named_in_full(limiter_of, ask, arguments, message):
    """What was given and what would do, in the caller's words."""
    call = partial(getattr(limiter_of("3/h"), ask), *arguments)
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}$"):
        await call()  # ``acquire`` alone gets as far as to be awaited


NONSENSE_COSTS = [-1, math.nan, math.inf, -math.inf, True, 1.0, "1", None]


@pytest.mark.parametrize("cost", NONSENSE_COSTS)
@pytest.mark.parametrize("ask", ["try_acquire", "check", "peek", "refund", "take_up_to"])
def test_nonsense_cost_leaves_no_trace(limiter_of, ask, cost):
    """A negative cost would give, and a NaN passes where a comparison is written the wrong way round."""
    limiter = limiter_of("3/h")
    limiter.check("key", 2)
    with pytest.raises((TypeError, ValueError), match=f"got {cost!r}"):
        getattr(limiter, ask)("key", cost)
    assert limiter.peek("key").remaining == 1


@pytest.mark.parametrize("key", ["", None, 3, b"key", ("a",), ("a", "b", "c"), ("a", ""), ("a", None), ["a", "b"]])
@pytest.mark.parametrize("limits", [("3/h", "9/h"), ("3/h", Limit("9/h", algorithm="bucketed"))])
def test_nonsense_key(limiter_of, key, limits):
    """An empty key is somebody's missing user id, and would be shared by all who miss theirs."""
    limiter = limiter_of(*limits)
    limiter.check("a")
    for _ in range(2):
        with pytest.raises((TypeError, ValueError), match=r"key|unhashable"):
            limiter.try_acquire(key)
    assert limiter.peek("a").remaining == 2


@pytest.mark.parametrize("key", ["", None, 3, ("a", "b")])
def test_nonsense_key_for_one_limit(limiter_of, key):
    """The same on the shortest way."""
    with pytest.raises((TypeError, ValueError), match="key"):
        limiter_of("3/h").try_acquire(key)


KEYS = ["key", " ", "~", "~z", "x" * 256, "x" * 257, "\ud800"]


@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_the_same_at_every_cost(limiter_of, key):
    """A cost of one goes a shorter way, which must lead to the same state."""
    limiter = limiter_of("2/h")
    assert limiter.try_acquire(key)
    assert limiter.check(key, 0).remaining == 1


def test_keys_that_are_not_long_are_kept_as_they_are(limiter_of):
    """Up to the length of what names a client, an issuer and a subject."""
    limiter = limiter_of("2/h")
    for key in ("x" * 256, "y" * 257, "~z"):
        limiter.check(key)
        limiter.check((key,))
    short, *hashed = sorted(limiter._tables[0].shards[0])
    assert short == "x" * 256
    assert [(key[0], len(key)) for key in hashed] == [("~", 49)] * 2


def test_the_text_of_a_refusal_names_all_limits():
    """One after the other."""
    limit = Limit("1/h")
    assert str(RateLimited(Decision(False, limit, 0, 2.0, 3.0, ("a", "b")))) == "a, b exceeded; retry after 2.000 s"


def test_long_keys_are_counted_under_a_hash(limiter_of):
    """Keys are no way to fill the memory, nor to meet another's state."""
    limiter = limiter_of("1/h")
    assert limiter.try_acquire("x" * 100_000)
    assert not limiter.try_acquire("x" * 100_000)
    assert limiter.try_acquire("x" * 99_999)
    held = next(key for key in limiter._tables[0].shards[0] if key[0] == "~")
    assert len(held) == 49
    limiter.refund("x" * 100_000)
    assert limiter.try_acquire("x" * 100_000)
    limiter.reset("x" * 100_000)
    assert limiter.try_acquire("~" + held)
    assert limiter.try_acquire("~" + "\ud800")


def test_refusals_are_reported(limiter_of):
    """Each once, with all that is known; what passes is not."""
    seen = []
    limiter = limiter_of("1/h", on_event=seen.append)
    assert limiter.try_acquire("key")
    assert not limiter.try_acquire("key")
    decision = limiter.check("key")
    assert [(event.key, event.cost, event.decision.allowed) for event in seen] == [("key", 1, False)] * 2
    assert seen[1] == Refusal("key", 1, decision)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_waiters": -1}, ValueError, "max_waiters >= 0, got -1"),
        ({"max_waiters": 1.5}, TypeError, "max_waiters to be a whole number, got 1.5"),
        ({"max_waiters": True}, TypeError, "max_waiters to be a whole number, got True"),
        ({"store": MemoryStore}, TypeError, f"a store such as MemoryStore(), got {MemoryStore!r}"),
        ({"store": {}}, TypeError, "a store such as MemoryStore(), got {}"),
        ({"on_event": 3}, TypeError, "on_event to be a function of the event, got 3"),
    ],
)
def test_nonsense_options(options, error, message):
    """Refused at construction."""
    with pytest.raises(error, match=f"^RateLimiter needs {re.escape(message)}$"):
        RateLimiter("1/s", **options)


@given(st.integers(0, 2**32), st.integers(1, 3))
def test_the_short_way_decides_as_the_long_one(seed, limits):
    """try_acquire, check and the core give equal answers, whatever is asked in between."""
    rng = random.Random(seed)
    time = Time()
    quick, check, core = (
        RateLimiter(*["5/s burst 3", "9/2s", "30/min"][:limits], store=MemoryStore(clock=time)) for _ in range(3)
    )
    core._one = core._quick = None
    for _ in range(200):
        time.now += rng.choice((0.0, 0.05, 0.2, 0.2, 2.5))
        key = tuple(rng.choice("ab") for _ in range(limits)) if rng.random() < 0.5 else rng.choice("ab")
        key = key[0] if limits == 1 else key
        cost = rng.choice((1, 1, 1, 2))
        decision = core.check(key, cost)
        assert check.check(key, cost)[2:] == decision[2:]
        assert quick.try_acquire(key, cost) is decision.allowed
