"""MemoryStore: what it forgets, what it must not forget, and how much it holds."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_ratelimit import Limit, MemoryStore, RateLimiter
from mcp_ratelimit.memory import SHARD

from tests.ratelimit.walks import ALGORITHMS, Time, limit_of


def limiter_at(time, *limits, **options):
    return RateLimiter(*limits, store=MemoryStore(clock=time, wall_clock=time, **options))


def test_idle_keys_leave_by_themselves():
    """Two lifetimes after the last new key nothing of a crowd is left, without a timer."""
    time = Time()
    limiter = limiter_at(time, "10/s")
    for number in range(1000):
        limiter.check(f"key {number}")
    assert limiter.statistics().keys == 1000
    for _ in range(4):
        time.now += 1.1
        limiter.check("other")
    assert limiter.statistics().keys == 1


def test_a_key_that_comes_back_is_counted_once():
    """It moves from the generation that was closed to the newest."""
    time = Time()
    limiter = limiter_at(time, "10/s")
    for key in "abcd":
        time.now += 0.2
        limiter.check(key)
    time.now += 0.4
    limiter.check("a")
    assert limiter.statistics().keys == 4


def test_keys_in_use_stay_among_many_that_go():
    """A churn of new keys neither forgets a debt nor piles up."""
    time = Time()
    limiter = limiter_at(time, "4/s burst 4")
    assert all(limiter.try_acquire("debtor") for _ in range(4))
    for number in range(20_000):
        time.now += 0.001
        limiter.try_acquire(f"key {number}")
        if number % 250 == 249:  # exactly one unit has come back
            assert limiter.try_acquire("debtor")
            assert not limiter.try_acquire("debtor")
    assert limiter.statistics().keys <= 3001  # three lifetimes of a second, a thousand keys in each


def test_many_keys_are_spread_over_small_dicts():
    """Growing a large dict would stall the loop; the states survive each step of the growth."""
    time = Time()
    limiter = limiter_at(time, "2/h burst 2")
    keys = [f"key {number}" for number in range(6 * SHARD)]
    assert all(limiter.try_acquire(key) for key in keys)
    table = limiter._tables[0]
    assert max(map(len, table.shards)) <= 2 * SHARD + 1
    assert len(table.shards) == 64
    assert all(limiter.try_acquire(key) for key in keys)
    assert not any(limiter.try_acquire(key) for key in keys)
    assert limiter.statistics().keys == len(keys)
    some = keys[::100]
    assert not any(limiter.peek(key).remaining for key in some)
    time.now += 1800.0
    assert all(limiter.try_acquire(key) for key in some)
    time.now += 1800.0
    limiter.check("other")
    assert len(table.shards) == 8
    assert all(limiter.peek(key).remaining == 1 for key in some)
    time.now += 3600.0
    for _ in range(80):
        limiter.check("other")
    assert limiter.statistics().keys == len(table.shards) == 1
    assert not table._dying


def test_overflow_lets_new_keys_share_one_allowance():
    """Whoever invents keys shares with his like; those who were there keep their own."""
    time = Time()
    limiter = limiter_at(time, "2/h burst 2", max_keys=3)
    assert all(limiter.try_acquire(key) for key in "abc")
    assert [limiter.try_acquire(f"new {number}") for number in range(4)] == [True, True, False, False]
    assert [limiter.peek(key).remaining for key in "abcd"] == [1, 1, 1, 0]
    assert all(limiter.try_acquire(key) for key in "abc")
    assert not any(limiter.try_acquire(key) for key in "abc")
    assert limiter.statistics().keys == 4


def test_deny_refuses_new_keys_until_there_is_room():
    """And says when that will be."""
    time = Time()
    limiter = limiter_at(time, "2/min burst 2", max_keys=1, on_full="deny")
    limiter.check("a")
    refused = limiter.check("b")
    assert not refused
    assert (refused.violated, refused.remaining) == (("2/min burst 2",), 0)
    time.now += 61
    limiter.check("a")
    refused = limiter.check("b")
    assert not refused
    time.now += refused.retry_after
    assert [limiter.check("b").allowed for _ in range(2)] == [True, True]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("seed", range(20))
def test_what_is_denied_for_lack_of_room_passes_after_retry_after(algorithm, seed):
    """Invariant 3 of the limiter, after any history: not two millionths of a second before, but then."""

    def denied():
        rng, time = random.Random(seed), Time(6000.0)
        limiter = limiter_at(time, limit_of(algorithm, 3, 6.0, 2), max_keys=4, on_full="deny")
        for _ in range(rng.randrange(5, 60)):
            time.now += rng.choice((0.0, 0.5, 4.0))
            limiter.check(rng.choice("abcdefgh"))
            if rng.random() < 0.1:
                limiter.reset(rng.choice("abcdefgh"))
        while limiter.check(new := f"new {rng.random()}"):
            pass
        return limiter, time, new, limiter.check(new)

    limiter, time, new, refused = denied()
    assert refused.remaining == 0
    assert limiter.check(new, 0).allowed
    time.now += refused.retry_after
    assert limiter.check(new).allowed
    limiter, time, new, refused = denied()
    time.now += refused.retry_after - 2e-6
    assert not limiter.check(new).allowed


def test_a_clock_that_steps_back_stands_still():
    """Invariant 3: no second allowance, no lockout longer than the step."""
    time = Time(10_000.0)
    limiter = limiter_at(time, "1/min burst 2")
    assert limiter.try_acquire("key")
    time.now -= 3600
    assert limiter.try_acquire("key")
    assert limiter.peek("key").retry_after == pytest.approx(60)
    assert not limiter.try_acquire("key")
    time.now += 3600 + 60
    assert limiter.try_acquire("key")
    assert not limiter.try_acquire("key")


def test_a_step_back_forgets_no_debt():
    """A generation closed in the past of the clock would be dropped too early."""
    time = Time(10_000.0)
    limiter = limiter_at(time, "1/min burst 1")
    assert limiter.try_acquire("key")
    time.now -= 3600
    for _ in range(100):
        time.now += 35
        assert not limiter.try_acquire("key")


def test_limiters_share_a_store_by_name():
    """Two limiters over one budget, and one name for two budgets is a mistake."""
    store = MemoryStore()
    shared = Limit("1/h", name="shared")
    assert RateLimiter(shared, store=store).try_acquire("key")
    assert not RateLimiter(shared, store=store).try_acquire("key")
    with pytest.raises(ValueError, match="another limit named 'shared'"):
        RateLimiter(Limit("2/h", name="shared"), store=store)


@given(st.integers(0, 2**32), st.sampled_from(["3/s", "2/s burst 5"]), st.sampled_from([0.01, 0.2, 1.5]))
def test_no_decision_depends_on_what_was_forgotten(seed, limit, step):
    """Invariant 1: the same answers as a limiter for each key alone, which never closes a generation in use."""
    rng = random.Random(seed)
    time = Time()
    shared = limiter_at(time, limit)
    alone = {str(number): limiter_at(time, Limit(limit, name=str(number))) for number in range(8)}
    for limiter in alone.values():
        limiter._tables[0].due = float("inf")
    for _ in range(300):
        time.now += rng.random() * step
        key = rng.choice(list(alone))
        assert shared.check(key)[2:5] == alone[key].check(key)[2:5]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_keys": 0}, ValueError, "^MemoryStore needs max_keys >= 1, got 0"),
        ({"max_keys": True}, TypeError, "max_keys to be a whole number, got True"),
        ({"max_keys": 1.5}, TypeError, "got 1.5"),
        ({"on_full": "evict"}, ValueError, "'overflow' or 'deny', got 'evict'"),
        ({"clock": 5}, TypeError, "clock to be a function that returns seconds, got 5"),
        ({"wall_clock": None}, TypeError, "wall_clock to be a function"),
    ],
)
def test_nonsense(options, error, message):
    """Refused at construction."""
    with pytest.raises(error, match=message):
        MemoryStore(**options)
