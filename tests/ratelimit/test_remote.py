"""AsyncRateLimiter: round trips, refusals that are known, leases, a store that fails, and cancellation."""

from __future__ import annotations

import asyncio
import math
import re
import time
from contextlib import nullcontext
from functools import partial

import anyio
import pytest
from mcp_ratelimit import (
    AsyncRateLimiter,
    CostTooLarge,
    Decision,
    Limit,
    RateLimited,
    RateLimitMiddleware,
    RedisStore,
    Refusal,
    RemoteStatistics,
    StoreFailed,
    StoreRecovered,
    coalesce,
)
from mcp_ratelimit._known import REMEMBERED, Arrival, Asked, Known
from mcp_ratelimit.coalesce import Coalescer, Unanswered
from mcp_ratelimit.redis import Request

from tests.ratelimit.conftest import Client
from tests.ratelimit.test_limiter import KEYS, NONSENSE_CALLS
from tests.support.clock import settle
from tests.support.sweep import sweep


class Slow:
    """A client whose round trips take virtual time, and which can be broken."""

    def __init__(self, client, latency=0.001):
        self.client, self.latency, self.broken, self.sent = client, latency, None, 0

    async def __call__(self, *parts):
        self.sent += 1
        await anyio.sleep(self.latency)
        if self.broken is not None:
            raise self.broken
        return self.client.send(*parts)


@pytest.fixture
def slow(client):
    return Slow(client)


@pytest.fixture
def limiter_of(slow, clock):
    return lambda *limits, **options: AsyncRateLimiter(*limits, store=RedisStore(slow), clock=clock, **options)


async def passed_at_once(limiter, calls):
    """What each of so many *calls* for one key is told that ask together."""
    passed = []

    async def ask():
        passed.append(await limiter.try_acquire("key"))

    async with anyio.create_task_group() as tasks:
        for _ in range(calls):
            tasks.start_soon(ask)
    return passed


async def test_the_methods_of_a_limiter(limiter_of):
    """Charge, look, give back, take what is left, forget: as in memory, and each by the store."""
    seen = []
    limiter = limiter_of("3/h", Limit("5/h", algorithm="sliding_log"), on_event=seen.append)
    decision = await limiter.check(("ann", "all"))
    assert (decision.allowed, decision.remaining, decision.limit.name) == (True, 2, "3/h")
    assert await limiter.try_acquire(("ann", "all"), 2)
    assert not await limiter.try_acquire(("ann", "all"))
    assert (await limiter.peek(("bob", "all"), 3)).violated == ("5/h",)
    await limiter.refund(("ann", "all"), 0)
    await limiter.refund(("ann", "all"))
    assert await limiter.try_acquire(("ann", "all"))
    assert await limiter.take_up_to(("bob", "all"), 9) == 2
    await limiter.reset(("bob", "all"))
    assert (await limiter.check(("bob", "all"), 0)).remaining == 3
    assert [limit.name for limit in limiter.limits] == ["3/h", "5/h"]
    with pytest.raises(CostTooLarge) as caught:
        await limiter.check("key", 4)
    assert (caught.value.cost, caught.value.limit) == (4, limiter.limits[0])
    assert [type(event) for event in seen] == [Refusal]


@pytest.mark.parametrize(("ask", "arguments", "message"), NONSENSE_CALLS)
async def test_nonsense_is_named_in_full(limiter_of, slow, ask, arguments, message):
    """In the words that it has in memory, and before the store is asked."""
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}$"):
        await getattr(limiter_of("3/h"), ask)(*arguments)
    assert slow.sent == 0


@pytest.mark.parametrize("key", KEYS)
async def test_a_key_is_the_same_at_every_cost(limiter_of, key):
    """A cost of one goes a shorter way, which must lead to the same state."""
    limiter = limiter_of("2/h")
    assert await limiter.try_acquire(key)
    assert (await limiter.check(key, 0)).remaining == 1


async def test_set_limit_keeps_what_was_used(limiter_of, clock):
    """Each process is told; the state is told anew when it is read."""
    limiter = limiter_of(Limit("3/h", name="a"), Limit("9/h", name="b"))
    assert await limiter.try_acquire("key", 3)
    assert not await limiter.try_acquire("key")
    limiter.set_limit("30/h burst 5", name="a")
    assert (await limiter.check("key", 0)).remaining == 2
    assert [limit.burst for limit in limiter.limits] == [5, 9]
    limiter.set_limit("8/h", name="b")
    assert [limit.burst for limit in limiter.limits] == [5, 8]
    single = limiter_of("1/h")
    single.set_limit("2/h")
    assert [await single.try_acquire("x") for _ in range(3)] == [True, True, False]


async def test_asked_together_sent_together(limiter_of, slow, clock):
    """In two round trips at the same time, though they are many."""
    limiter = limiter_of("100/h")
    await limiter.check("warm-up")
    sent, begin = slow.sent, clock()
    passed = await passed_at_once(limiter, 150)
    assert sum(passed) == 100
    assert slow.sent == sent + 2
    assert clock() - begin == pytest.approx(0.001)


async def test_a_refusal_that_holds_is_not_asked_again(limiter_of, slow, clock):
    """Traffic that is refused costs the server nothing; a smaller cost is another question."""
    seen = []
    limiter = limiter_of("60/h burst 2", on_event=seen.append)
    assert await limiter.try_acquire("key", 1)
    assert not await limiter.try_acquire("key", 2)
    sent = slow.sent
    await clock.advance(0.9)
    refused = await limiter.check("key", 2)
    assert refused.retry_after == pytest.approx(59, abs=0.5)
    assert slow.sent == sent
    assert await limiter.try_acquire("key", 1)
    assert slow.sent == sent + 1
    assert limiter.statistics() == RemoteStatistics(0, True, refused_keys=1, leased_keys=0)
    await clock.advance(0.1)
    await limiter.check("key", 2)
    assert slow.sent == sent + 2
    await limiter.check("key", 2)
    await limiter.refund("key", 2)
    assert await limiter.try_acquire("key", 2)
    assert [(event.key, event.cost, event.decision.allowed) for event in seen] == [("key", 2, False)] * 4
    assert seen[1] == Refusal("key", 2, refused)


async def test_a_refusal_is_not_believed_for_longer_than_it_holds(limiter_of, slow, clock):
    """Who comes back at the time he was told is asked about, and passes."""
    limiter = limiter_of("2/s burst 1")
    assert await limiter.try_acquire("key")
    refused = await limiter.check("key")
    await anyio.sleep(refused.retry_after - 0.002)
    sent = slow.sent
    assert not await limiter.try_acquire("key")
    assert slow.sent == sent
    await anyio.sleep(0.002)
    await limiter.check("key")
    assert slow.sent == sent + 1


@pytest.mark.parametrize("relief", ["refund", "reset", "flush"])
async def test_what_others_give_back_is_seen_within_a_second(limiter_of, client, clock, relief):
    """A refusal of an hour may be made untrue by another process, or by a server that has lost all it knew."""
    one, other = limiter_of("1/h"), limiter_of("1/h")
    assert await one.try_acquire("key")
    assert not await other.try_acquire("key")
    if relief == "flush":
        client.send("FLUSHALL")
    else:
        await getattr(one, relief)("key")
    refused = await other.check("key")
    assert refused.retry_after == pytest.approx(3600, abs=5)
    await clock.advance(1.0)
    assert await other.try_acquire("key")


@pytest.mark.parametrize("relief", ["refund", "reset", "set_limit"])
async def test_a_refusal_on_its_way_is_not_believed_after_more_room_was_made(limiter_of, clock, relief):
    """It was true when the store told it; noted, it would shut the key out for an hour."""
    limiter = limiter_of("1/h")
    assert await limiter.try_acquire("key")
    passed = []

    async def ask():
        passed.append(await limiter.try_acquire("key"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await clock.advance(0.0005)
        if relief == "set_limit":
            limiter.set_limit("9/h")
        else:
            await getattr(limiter, relief)("key")
    assert passed == [False]
    assert await limiter.try_acquire("key")


def test_what_was_asked_before_a_refund_is_not_noted():
    """Answers may be taken up in another order than that in which the store gave them."""
    known = Known(0, 1.0)
    refused = Decision(False, Limit("1/h"), 0, 3600.0, 3600.0, ("1/h",))
    known.forget(("other",))
    known.learn(Asked(("key",), 1, 0.0, 0), 0, refused)
    assert known.decide(("key",), 1, 0.0) is None
    known.forget(("other",))
    known.learn(Asked(("key",), 1, 0.0, 1), 0, refused)
    assert known.decide(("key",), 1, 0.0) is None
    known.learn(Asked(("key",), 1, 0.0, 2), 0, refused)
    assert known.decide(("key",), 1, 0.0) == refused
    assert known.decide(("key",), 1, 1.0) is None


def test_a_lease_is_over_when_its_time_is():
    """Not later by one call: what is spent in a window was charged less than lease_ttl before it."""
    known, granted = Known(4, 1.0), Decision(True, Limit("9/h"), 3, 0.0, 60.0)
    known.learn(Asked(("key",), 1, 0.0, 0), 5, granted, Arrival())
    assert known.decide(("key",), 1, 0.999) == granted
    assert known.decide(("key",), 1, 1.0) is None


def test_a_lease_that_is_too_small_hides_no_refusal():
    """What costs more is another question, whose answer may be known as well."""
    known = Known(4, 1.0)
    granted, refused = (Decision(allowed, Limit("9/h"), 3, 60.0, 60.0) for allowed in (True, False))
    known.learn(Asked(("key",), 1, 0.0, 0), 5, granted, Arrival())
    known.learn(Asked(("key",), 9, 0.0, 0), 0, refused)
    assert known.decide(("key",), 9, 0.0) == refused
    assert known.decide(("key",), 1, 0.0) == granted


async def test_leased_tokens_are_spent_without_asking(limiter_of, slow, clock):
    """One round trip for many; who asks meanwhile waits for the same lease."""
    limiter = limiter_of("100/h", lease=10, lease_ttl=5.0)
    passed = await passed_at_once(limiter, 20)
    assert passed == [True] * 20
    sent = slow.sent
    assert sent <= 5
    assert limiter.statistics().leased_keys == 1
    held = 80 - (await limiter.check("key", 0)).remaining
    assert 0 <= held <= 2 * 10
    await clock.advance(5.1)
    sent = slow.sent
    assert [await limiter.try_acquire("key") for _ in range(5)] == [True] * 5
    assert slow.sent == sent + 1
    assert await limiter.try_acquire("key"), "low, so renewed before it is empty"
    assert slow.sent == sent + 2
    assert await limiter.try_acquire("key", 12)
    assert [await limiter.try_acquire("other") for _ in range(3)] == [True] * 3
    assert await limiter.take_up_to("key", 99) == 48 - held
    assert not await limiter.try_acquire("key", 15)


async def test_a_lease_outlives_its_ttl_by_nothing(limiter_of, slow, clock):
    """Invariant 3 rests on this: tokens die a ttl after they were asked for, whatever was added meanwhile."""
    limiter = limiter_of("100/h", lease=10, lease_ttl=1.0)
    for _ in range(5):
        await limiter.check("key")
    await clock.advance(0.5)
    await limiter.check("key")  # renews
    assert [lease.tokens for lease in limiter._known.leased["key",]] == [5, 9]
    await clock.advance(0.6)
    sent = slow.sent
    for _ in range(4):
        await limiter.check("key")
    assert slow.sent == sent
    await clock.advance(0.5)
    await limiter.check("key")
    assert slow.sent == sent + 1


async def test_a_lease_is_no_way_past_the_line(limiter_of, clock):
    """Who waits for more than is left of it was there first."""
    limiter = limiter_of("5/h", lease=3, lease_ttl=60.0)
    assert await limiter.try_acquire("key")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(limiter.acquire, "key", 5)
        await clock.advance(0.01)
        assert limiter.statistics() == RemoteStatistics(1, True, refused_keys=1, leased_keys=1)
        assert not await limiter.try_acquire("key")
        tasks.cancel_scope.cancel()
    assert await limiter.try_acquire("key")


async def test_a_lease_that_one_call_uses_up_is_none(limiter_of, slow):
    """Nothing would be left of it for whoever waited: each asks for himself, in one batch."""
    limiter = limiter_of("9/h", lease=2)
    await limiter.check("warm-up")
    sent = slow.sent
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(limiter.check, "key", 2)
    assert slow.sent == sent + 1


async def test_a_changed_limit_is_leased_for_as_long(limiter_of, slow, clock):
    """What was leased by the old figures is dropped; the next one runs as they all do."""
    limiter = limiter_of("100/h", lease=10, lease_ttl=1.0)
    await limiter.check("key")
    limiter.set_limit("50/h")
    sent = slow.sent
    await limiter.check("key")
    await clock.advance(0.9)
    await limiter.check("key")
    assert slow.sent == sent + 1
    await clock.advance(0.2)
    await limiter.check("key")
    assert slow.sent == sent + 2


async def test_what_was_used_is_charged_past_the_line(limiter_of, clock):
    """Who waits has had nothing yet."""
    limiter = limiter_of("3/h")
    assert await limiter.try_acquire("key", 2)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(limiter.acquire, "key", 3)
        await clock.advance(0.01)
        assert await limiter.take_up_to("key", 9) == 0
        assert await limiter.take_up_to("key", 9, past_line=True) == 1
        tasks.cancel_scope.cancel()


async def test_waits_in_line(limiter_of, clock):
    """In this process first come, first served; a newcomer does not pass."""
    limiter = limiter_of("1/h burst 1", max_waiters=2)
    assert await limiter.try_acquire("key")
    served = []

    async def take(name):
        with anyio.move_on_after(60):
            await limiter.acquire("key")
            served.append(name)

    async with anyio.create_task_group() as tasks:
        for name in "ab":
            tasks.start_soon(take, name)
            await settle()
            await clock.advance(0.01)
        refused = await limiter.check("key")
        assert refused.violated == ("1/h burst 1",)
        assert refused.retry_after > 3 * 3600 - 100
        assert await limiter.take_up_to("key", 1) == 0
        with pytest.raises(RateLimited, match="retry after"):
            await limiter.acquire("key")
        with pytest.raises(RateLimited):
            await limiter.acquire("key", timeout=100)
        await limiter.reset("key")
        await clock.advance(0.01)
        assert served == ["a"]
        await limiter.reset("key")
    assert served == ["a", "b"]
    assert limiter.statistics().waiting == 0


async def test_what_is_told_behind_others(limiter_of, clock):
    """Refused though there is room, until those ahead have passed, by the limits they wait for; what is free passes."""
    seen = []
    limiter = limiter_of("100/h", "6/h burst 3", on_event=seen.append)
    narrow = limiter.limits[1]
    assert await limiter.try_acquire("key", 2)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(limiter.acquire, "key", 3)
        await clock.advance(0.01)
        told = [await limiter.check("key")]
        assert (await limiter.check("key", 0)).allowed
        with pytest.raises(RateLimited) as caught, anyio.fail_after(1):
            await limiter.acquire("key", timeout=1700)
        told.append(caught.value.decision)
        tasks.cancel_scope.cancel()
    times = pytest.approx(1800, abs=1), pytest.approx(1200, abs=5)
    assert told == [(False, narrow, 1, *times, (narrow.name,))] * 2
    assert seen == [Refusal("key", 1, decision) for decision in told]
    assert (await limiter.peek("key")).remaining == 1


@pytest.mark.parametrize(
    ("options", "patience", "ahead"), [({"max_waiters": 0}, None, 0), ({}, 3500, 0), ({}, 7100, 1)]
)
async def test_who_cannot_wait_learns_it_at_once(limiter_of, clock, options, patience, ahead):
    """What passes without waiting passes; the refusal is reported as it is raised."""
    seen = []
    limiter = limiter_of("2/h", on_event=seen.append, **options)
    await limiter.acquire("key", 2, timeout=patience)
    async with anyio.create_task_group() as tasks:
        for _ in range(ahead):
            tasks.start_soon(limiter.acquire, "key", 2)
            await clock.advance(0.01)
        with pytest.raises(RateLimited) as caught, anyio.fail_after(1):
            await limiter.acquire("key", 2, timeout=patience)
        tasks.cancel_scope.cancel()
    assert caught.value.reason == ("max_waiters" if options else "timeout")
    assert caught.value.retry_after == pytest.approx(3600 * (1 + ahead), abs=5)
    assert seen == [Refusal("key", 2, caught.value.decision)]


async def test_the_defaults(limiter_of, slow, clock):
    """A thousand may wait, a lease runs for 100 ms, and a call takes 50 ms at most."""
    limiter = limiter_of("1/h")
    await limiter.check("key")
    async with anyio.create_task_group() as tasks:
        for _ in range(1000):
            tasks.start_soon(limiter.acquire, "key")
        await clock.advance(0.01)
        with pytest.raises(RateLimited) as caught, anyio.fail_after(1):
            await limiter.acquire("key")
        assert caught.value.reason == "max_waiters"
        tasks.cancel_scope.cancel()
    limiter, sent = limiter_of("100/h", lease=10), slow.sent
    for pause, trips in ((0.0, 1), (0.09, 1), (0.02, 2)):
        await clock.advance(pause)
        await limiter.check("leased")
        assert slow.sent == sent + trips
    slow.latency = 3600
    begin = clock()
    await limiter_of("1/h").check("key")
    assert clock() - begin == pytest.approx(0.05)


async def test_a_waiter_sees_within_a_second_what_others_give_back(limiter_of, clock, slow):
    """Told to come back in an hour, he looks once a second, for all who stand in line behind him."""
    one, other = limiter_of("1/h"), limiter_of("1/h")
    assert await one.try_acquire("key")
    served = []

    async def take():
        with anyio.move_on_after(7200):
            await other.acquire("key")
            served.append(clock())

    async with anyio.create_task_group() as tasks:
        for _ in range(9):
            tasks.start_soon(take)
        await clock.advance(10.5)
        assert 10 <= slow.sent <= 20
        await one.reset("key")
        await clock.advance(1.01)
        tasks.cancel_scope.cancel()
    assert served == [pytest.approx(11.1, abs=0.5)]


async def test_slot_refunds(limiter_of, clock):
    """The block of every limiter, also one that is left by a cancellation while others ask."""
    limiter = limiter_of("5/h")
    async with limiter.slot("key", 4) as slot:
        slot.refund(3)
    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            async with limiter.slot("key", 2, refund_if=lambda error: True):
                tasks.start_soon(limiter.check, "other")
                await clock.advance(0.0005)
                scope.cancel()
                await anyio.sleep(1)
    assert (await limiter.check("key", 0)).remaining == 4


async def test_middleware_over_a_remote_limiter(limiter_of):
    """The same middleware, awaited decisions, charges of the handler and delays included."""
    from tests.ratelimit.test_middleware import Call

    async def handler(ctx):
        from mcp_ratelimit import charge

        charge(2)
        return "done"

    limiter = limiter_of("5/h")
    limits = RateLimitMiddleware(limiter, key=lambda ctx: "ann", post_charge=True)
    assert await limits(Call(), handler) == "done"
    assert (await limiter.check("ann", 0)).remaining == 2
    waiting = RateLimitMiddleware(limiter, key=lambda ctx: "ann", max_wait=1.0)
    assert await waiting(Call(), handler) == "done"


async def test_what_is_known_is_bounded(limiter_of):
    """Keys are the callers' invention."""
    known = Known(0, 1.0)
    decision = (await limiter_of("1/h").check("key"))._replace(allowed=False)
    for number in range(REMEMBERED + 5):
        known.learn(Asked((str(number),), 1, 0.0, 0), 0, decision)
    assert len(known.refused) == REMEMBERED
    assert ("0",) not in known.refused


async def test_a_lease_has_a_token_for_each_who_waits_for_it(limiter_of, slow):
    """Whoever wakes first must not take all: the others would wait, and wake for nothing, once more."""
    limiter = limiter_of("1000/h", lease=5, lease_ttl=5.0)
    served = []

    async def take(name):
        for _ in range(20):
            assert await limiter.try_acquire("key")
            served.append(name)

    async with anyio.create_task_group() as tasks:
        for name in range(8):
            tasks.start_soon(take, name)
    rounds = [served[place : place + 8] for place in range(0, 80, 8)]
    assert all(len(set(names)) > 2 for names in rounds)
    assert slow.sent <= 25  # for 160 calls; each trip brings what those need who wait, and a lease


async def test_a_lease_that_does_not_come_is_waited_for_by_nobody(limiter_of, slow):
    """Who stood in wait for it learns of the refusal that came instead, without a trip of his own."""
    limiter = limiter_of("1/h", lease=5)
    assert await limiter.try_acquire("key")
    assert limiter.statistics().leased_keys == 0
    sent = slow.sent
    passed = await passed_at_once(limiter, 3)
    assert passed == [False] * 3
    assert slow.sent == sent + 1


async def test_a_second_wait_ends_with_a_refusal_too(limiter_of, slow, clock):
    """Who found the first lease spent and stood in wait for another one is told what came instead, without a trip."""
    limiter = limiter_of("4/h", lease=2, lease_ttl=60.0)
    await limiter.check("warm-up")
    await clock.advance(10)  # so that no time is small
    sent = slow.sent
    passed = await passed_at_once(limiter, 8)
    assert sorted(passed) == [False] * 4 + [True] * 4
    assert slow.sent == sent + 2
    assert limiter.statistics().is_store_answering


async def test_a_second_wait_ends_with_the_budget_too(limiter_of, slow, clock):
    """Those for whom the first lease was too small have the share to go by when the next one does not come in time."""
    seen = []
    rival, limiter = limiter_of("10/h"), limiter_of("10/h", lease=2, budget=0.05, on_event=seen.append)
    await rival.check("key", 6)
    await clock.advance(10)
    slow.latency = 0.03
    begin = clock()
    passed = await passed_at_once(limiter, 8)
    assert passed == [True] * 8
    assert clock() - begin == pytest.approx(0.05)
    assert seen == [StoreFailed("TimeoutError")]
    assert await limiter.take_up_to("key", 99) == 10 - 8


async def test_reset_forgets_the_lease(limiter_of):
    """What this process holds of a key that is forgotten would come on top of the whole allowance."""
    limiter = limiter_of("10/h", lease=5, lease_ttl=60.0)
    assert await limiter.try_acquire("key")
    await limiter.reset("key")
    assert await limiter.take_up_to("key", 99) == 10
    assert not await limiter.try_acquire("key")


async def test_who_no_longer_waits_for_a_lease_leaves_his_token_to_others(limiter_of, slow, clock):
    """Neither is it reserved for ever, nor lost."""
    limiter = limiter_of("100/h", lease=5, lease_ttl=60.0)
    passed = []

    async def take(patience, cost=1):
        with anyio.move_on_after(patience):
            passed.append(await limiter.try_acquire("key", cost))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take, 10)
        await settle()
        for patience, cost in ((0.0004, 1), (0.0006, 2), (10, 1)):
            tasks.start_soon(take, patience, cost)
        await clock.advance(0.0008)
        assert limiter._arrivals["key",].waiting == 1
    assert passed == [True, True]
    (lease,) = limiter._known.leased["key",]
    assert lease.reserved == 0


async def test_a_share_is_kept_of_a_lease_that_was_lost(limiter_of, slow):
    """A store that fails in the middle of a lease says nothing about the key."""
    limiter = limiter_of("9/h", lease=3)
    slow.broken = OSError()
    assert await limiter.try_acquire("key")
    assert limiter.statistics().leased_keys == 0


FAILURES = [("local", [True, True, False]), ("open", [True, True, True]), ("closed", [False, False, False])]


@pytest.mark.parametrize(("policy", "expected"), FAILURES)
async def test_decides_without_the_store(limiter_of, slow, clock, policy, expected):
    """By the share of one of two workers, by nothing, or refusing; one event each way, and back in half a second."""
    seen = []
    limiter = limiter_of("4/h", on_store_error=policy, workers=2, on_event=seen.append)
    await limiter.check("warm-up", 0)
    await clock.advance(10)
    slow.broken = ConnectionError("secret address")
    begin, sent = clock(), slow.sent
    assert [await limiter.try_acquire("key") for _ in range(3)] == expected
    assert (slow.sent - sent, clock() - begin) == (1, pytest.approx(0.001))
    assert not limiter.statistics().is_store_answering
    await limiter.refund("key")
    assert (await limiter.peek("key")).allowed is (policy != "closed")
    assert (await limiter.check("key", 0)).allowed
    assert await limiter.take_up_to("key", 9) == {"local": 1, "open": 9, "closed": 0}[policy]
    await limiter.reset("key")
    assert await limiter.take_up_to("key", 0) == 0
    failures = [event for event in seen if not isinstance(event, Refusal)]
    assert failures == [StoreFailed("ConnectionError")]
    slow.broken = None
    await clock.advance(0.5)
    assert await limiter.try_acquire("key", 4)
    assert seen[-1] == StoreRecovered(pytest.approx(0.5, abs=0.01))
    assert limiter.statistics().is_store_answering


@pytest.mark.parametrize(
    ("policy", "answers"),
    [
        ("open", [(True, 4, 0.0, 0.0, ())] * 3),
        (
            "closed",
            [(False, 0, 0.3, 0.0, ("4/h", "9/h")), (True, 0, 0.0, 0.0, ()), (False, 0, 0.3, 0.0, ("4/h", "9/h"))],
        ),
        ("local", [(True, 2, 0.0, 1800.0, ()), (True, 2, 0.0, 1800.0, ()), (False, 2, 900.0, 1800.0, ("4/h",))]),
    ],
)
async def test_decisions_without_the_store_tell_everything(limiter_of, slow, clock, policy, answers):
    """All that a header or a message needs: until the share has room, or until the store is tried again."""
    limiter = limiter_of("4/h", "9/h", on_store_error=policy)
    slow.broken = OSError()
    await clock.advance(10)
    await limiter.check("other")
    await clock.advance(0.2)
    told = [await limiter.check("key", 2), await limiter.check("key", 0), await limiter.peek("key", 3)]
    for decision, (allowed, remaining, retry_after, reset_after, violated) in zip(told, answers, strict=True):
        times = pytest.approx(retry_after, rel=1e-3), pytest.approx(reset_after, rel=1e-3)
        assert decision == (allowed, limiter.limits[0], remaining, *times, violated)


async def test_one_call_tries_the_store_for_all(limiter_of, slow, clock):
    """While it waits, the others are decided about at once."""
    limiter = limiter_of("9/h", budget=0.02)
    slow.latency = 3600
    await limiter.check("key")
    await clock.advance(0.5)
    waited = []

    async def ask():
        begin = clock()
        await limiter.check("key")
        waited.append(clock() - begin)

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(ask)
    assert waited == [0.0, 0.0, pytest.approx(0.02)]


async def test_a_store_that_hangs_costs_the_budget_once(limiter_of, slow, clock):
    """Invariant 4."""
    seen = []
    limiter = limiter_of("4/h", budget=0.02, on_event=seen.append)
    slow.latency = 3600
    begin = clock()
    for _ in range(4):
        assert await limiter.try_acquire("key")
    assert clock() - begin == pytest.approx(0.02)
    assert not await limiter.try_acquire("key")
    await clock.advance(0.5)
    begin = clock()
    assert not await limiter.try_acquire("key")
    assert clock() - begin == pytest.approx(0.02)
    assert [type(event) for event in seen] == [StoreFailed, Refusal, Refusal]


async def test_the_local_limiter_is_warm(limiter_of, slow):
    """What passed while all was well counts when it is not: losing the store is no second allowance."""
    for cost in (1, 2, 3):
        limiter = limiter_of("6/h", "7/h")
        await limiter.check((f"key {cost}", f"all {cost}"), cost)
        await limiter.check((f"key {cost}", f"all {cost}"), cost)
        await limiter.check(f"back {cost}", 5)
        await limiter.refund(f"back {cost}", 3)
        slow.broken = OSError()
        assert await limiter.take_up_to((f"key {cost}", "other"), 9) == 6 - 2 * cost
        assert await limiter.take_up_to(("other", f"all {cost}"), 9) == 7 - 2 * cost
        assert await limiter.take_up_to(f"back {cost}", 9) == 6 - 5 + 3
        slow.broken = None


@pytest.mark.parametrize("algorithm", ["gcra", "strict_gcra", "bucketed"])
async def test_a_cost_over_the_share_takes_all_of_it(limiter_of, slow, algorithm):
    """It may pass by the limit, so it is not refused for ever without the store; nor does a share vanish."""
    limiter = limiter_of(Limit("40/h", algorithm=algorithm), workers=100)
    slow.broken = OSError()
    cost = limiter.limits[0].burst
    assert await limiter.try_acquire("key", cost)
    assert not await limiter.try_acquire("key", 1)


@pytest.mark.parametrize("lease", [0, 2], ids=["asked", "leased"])
@pytest.mark.parametrize("arrivals", [(0.0, 0.005), (0.0,) * 1200, tuple(n / 1000 for n in range(60))], ids=len)
async def test_the_budget_is_that_of_a_call(limiter_of, slow, clock, arrivals, lease):
    """What is on its way already, and whoever is ahead, counts too: invariant 4."""
    limiter = limiter_of("100000/s", budget=0.05, lease=lease)
    await limiter.check("warm-up")
    slow.latency = 0.045
    waited = []

    async def ask(arrival):
        await anyio.sleep(arrival)
        begin = clock()
        assert await limiter.try_acquire("key")
        waited.append(clock() - begin)

    async with anyio.create_task_group() as tasks:
        for arrival in arrivals:
            tasks.start_soon(ask, arrival)
    assert len(waited) == len(arrivals)
    assert max(waited) < 0.0501


class Sent:
    """A store that answers when it is told to, and remembers what it was asked."""

    def __init__(self):
        self.batches, self.go, self.error = [], anyio.Event(), None

    async def send(self, requests):
        self.batches.append([(r.op, r.cost if r.op == "refund" else max(r.cost, r.most)) for r in requests])
        await self.go.wait()
        if self.error is not None:
            raise self.error
        return [(request.most, None) for request in requests]


def one():
    return Request((Limit("9/h"),), ("key",), 1, 1)


@pytest.fixture
def coalescing(monkeypatch):
    """Make a store, and a coalescer with so many slots, all of which are free again in the end."""
    made = []

    def coalescing(slots=1):
        monkeypatch.setattr(coalesce, "SLOTS", slots)
        store = Sent()
        made.append(Coalescer(store, budget=10))
        return store, made[-1]

    yield coalescing
    for coalescer in made:
        assert coalescer._free == coalesce.SLOTS
        assert not coalescer._gathered


async def asking(coalescer, *requests):
    """Tasks of asyncio that ask: the first, whose batch goes by itself, and then the others."""
    first, *others = requests
    tasks = [asyncio.create_task(coalescer.ask(first))]
    await settle()
    tasks += [asyncio.create_task(coalescer.ask(request)) for request in others]
    await settle()
    return tasks


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.parametrize("others", [0, 2], ids=["sends himself", "behind a full batch"])
async def test_who_is_interrupted_by_another_waits_no_longer_for_that(clock, coalescing, monkeypatch, others):
    """He asks anew, for what is left of his budget."""
    monkeypatch.setattr(coalesce, "BATCH", 2)
    store, coalescer = coalescing()
    first, second, third = await asking(coalescer, one(), one(), one())
    await clock.advance(1)
    store.go.set()
    store.go = anyio.Event()
    await clock.advance(5)
    later = [asyncio.create_task(coalescer.ask(one())) for _ in range(others)]
    await clock.advance(1)
    second.cancel()
    with pytest.raises(Unanswered, match="TimeoutError"):
        await third
    assert clock() == pytest.approx(10)
    store.go.set()
    assert [(await task)[0] for task in (first, *later)] == [1] * (1 + others)


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_the_turn_to_send_passes_on_when_its_owner_goes(clock, coalescing):
    """Somebody has to send for those who still wait, also when asyncio cancels the one who was just told to."""
    store, coalescer = coalescing()
    first, second, third = await asking(coalescer, one(), one(), one())
    store.go.set()
    while not coalescer._gathered[0].turn.is_set():
        await asyncio.sleep(0)
    second.cancel()
    assert (await first)[0] == (await third)[0] == 1
    assert store.batches == [[("take", 1)], [("take", 1)]]


async def batches_when_one_leaves(store, coalescer, error=None):
    """The batches of one caller, and then of two, one of whom goes while theirs is on its way and may fail."""
    gone = anyio.CancelScope()

    async def stay():
        with pytest.raises(Unanswered, match="OSError") if error else nullcontext():
            await coalescer.ask(one())

    async def leave():
        with gone:
            await coalescer.ask(one())

    async with anyio.create_task_group() as tasks:
        for ask in (partial(coalescer.ask, one()), stay, leave):
            tasks.start_soon(ask)
            await settle()
        store.go.set()
        store.go = anyio.Event()
        await settle()
        gone.cancel()
        await settle()
        store.error = error
        store.go.set()
    return store.batches


async def test_what_nobody_waits_for_is_given_back(clock, coalescing):
    """By the one who sent, when nobody else has anything to send."""
    batches = await batches_when_one_leaves(*coalescing())
    assert batches == [[("take", 1)], [("take", 1), ("take", 1)], [("refund", 1)]]


async def test_what_failed_is_given_back_by_nobody(clock, coalescing):
    """Who has gone leaves the others the failure that they wait for, and no other."""
    assert len(await batches_when_one_leaves(*coalescing(), OSError())) == 2


async def test_who_is_cancelled_while_he_sends_is_told_what_he_got(clock, coalescing):
    """The server may have charged him already."""
    (store, coalescer), answers = coalescing(), []

    async def ask():
        answers.append(await coalescer.ask(one()))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await settle()
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await settle()
            store.go.set()
    assert answers == [(1, None)]


async def test_a_failure_is_one_for_all_who_wait(limiter_of, slow, clock):
    """Each trying for himself would add up the budgets."""
    limiter = limiter_of("4/h", budget=0.02)
    slow.latency = 3600
    begin = clock()
    passed = await passed_at_once(limiter, 6)
    assert sorted(passed) == [False, False, True, True, True, True]
    assert clock() - begin == pytest.approx(0.02)


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
@pytest.mark.parametrize("most", [1, 0, 5])
async def test_who_goes_with_the_answer_in_hand_gives_back_himself(clock, coalescing, most, twice):
    """asyncio may cancel a task that has been answered and has not run since; what took nothing returns nothing."""
    (store, coalescer), scope = coalescing(), anyio.CancelScope()
    first, second = await asking(coalescer, one(), one())

    async def leave():
        with scope:
            await coalescer.ask(one()._replace(cost=min(most, 1), most=most))

    third = asyncio.create_task(leave())
    await settle()
    batch = coalescer._gathered[0]
    store.go.set()
    while not batch.answers:
        await asyncio.sleep(0)
    third.cancel()
    if twice:
        scope.cancel()
    await asyncio.wait([first, second, third])
    assert store.batches == [[("take", 1)], [("take", 1), ("take", most)], *[[("refund", most)]] * bool(most)]


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_a_batch_whose_first_goes_is_led_by_another(clock, coalescing):
    """Those who joined it form the next one, behind whoever sends now, and behind the batches before it."""
    store, coalescer = coalescing()
    first, second, third, fourth = await asking(coalescer, one(), one(), one(), one())
    second.cancel()
    await settle()
    assert store.batches == [[("take", 1)]]
    store.go.set()
    assert [(await task)[0] for task in (first, third, fourth)] == [1, 1, 1]
    assert store.batches == [[("take", 1)], [("take", 1), ("take", 1)]]


async def test_who_goes_before_his_batch_is_sent_takes_nothing(clock, coalescing):
    """Whatever he asked for: his place stays, so that the answers of the others stay where they are."""
    store, coalescer = coalescing()

    async def leave(request):
        with anyio.move_on_after(1):
            await coalescer.ask(request)

    async with anyio.create_task_group() as tasks:
        for ask, request in [(coalescer.ask, one())] * 2 + [(leave, one()), (leave, one()._replace(op="reset"))]:
            tasks.start_soon(ask, request)
            await settle()
        await clock.advance(2)
        store.go.set()
    assert store.batches == [[("take", 1)], [("take", 1), ("take", 0), ("take", 0)]]


async def test_a_batch_is_bounded(clock, coalescing, monkeypatch):
    """A script that runs for long stops the server for all; what is too much goes in the next."""
    monkeypatch.setattr(coalesce, "BATCH", 2)
    store, coalescer = coalescing()
    async with anyio.create_task_group() as tasks:
        for _ in range(6):
            tasks.start_soon(coalescer.ask, one())
        await settle()
        store.go.set()
    assert [len(batch) for batch in store.batches] == [2, 2, 2]


async def test_what_is_enough_for_a_slot_waits_for_no_more(clock, coalescing, monkeypatch):
    """The others have the next slot; and when there is none left, they wait together."""
    monkeypatch.setattr(coalesce, "ENOUGH", 3)
    store, coalescer = coalescing(slots=2)
    async with anyio.create_task_group() as tasks:
        for calls in (4, 5):
            for _ in range(calls):
                tasks.start_soon(coalescer.ask, one())
            await settle()
            assert sorted(map(len, store.batches)) == [1, 3]
        store.go.set()
    assert [len(batch) for batch in store.batches[2:]] == [5]


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_who_has_a_slot_and_goes_leaves_it(clock, coalescing):
    """Before anything is sent: those who joined him ask anew, and the slot is there for them."""
    store, coalescer = coalescing()
    first, second = (asyncio.create_task(coalescer.ask(one())) for _ in range(2))
    while not coalescer._gathered:
        await asyncio.sleep(0)
    first.cancel()
    store.go.set()
    assert (await second)[0] == 1
    assert first.cancelled()
    assert store.batches == [[("take", 1)]]


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_who_has_a_slot_and_hears_of_a_failure_leaves_it(clock, coalescing):
    """He does not try for himself a store that has just been found gone."""
    store, coalescer = coalescing(slots=2)
    store.error = OSError()
    first = asyncio.create_task(coalescer.ask(one()))
    await settle()
    second = asyncio.create_task(coalescer.ask(one()))
    store.go.set()
    for task in (first, second):
        with pytest.raises(Unanswered, match="OSError"):
            await task
    assert store.batches == [[("take", 1)]]


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_who_is_interrupted_by_another_asks_anew(clock, coalescing):
    """A task that is cancelled by asyncio itself takes its batch with it; the others in it are not at fault."""
    store, coalescer = coalescing()
    first, second, third = await asking(coalescer, one(), one(), one())
    store.go.set()
    store.go = anyio.Event()
    await settle()
    second.cancel()
    await settle()
    store.go.set()
    assert (await first)[0] == (await third)[0] == 1
    assert [len(batch) for batch in store.batches] == [1, 2, 1]


def test_cancelled_anywhere_loses_nothing(redis_server):
    """Invariant 5: whoever is struck, what is charged is what was granted, and all others get their answers."""

    async def scenario(victim):
        client = Client(redis_server)
        client.send("FLUSHALL")
        limiter = AsyncRateLimiter("100/h", store=RedisStore(Slow(client)), clock=anyio.current_time)
        passed = []

        async def ask():
            await limiter.check("key")
            passed.append(1)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await anyio.lowlevel.checkpoint()
            tasks.start_soon(victim, ask)
            await anyio.lowlevel.checkpoint()
            tasks.start_soon(ask)
            await anyio.sleep(0.0015)
            tasks.start_soon(ask)
        remaining = (await limiter.check("key", 0)).remaining
        client.close()
        assert limiter._coalescer._free == coalesce.SLOTS
        return remaining, len(passed), limiter.statistics()

    def check(state):
        remaining, passed, statistics = state
        assert statistics.is_store_answering
        assert passed >= 3
        assert remaining <= 100 - passed
        assert remaining >= 100 - passed - 2  # a native cancellation in mid-flight may charge twice, never less

    sweep(scenario, check)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"store": RedisStore}, TypeError, f"a store such as RedisStore(client), got {RedisStore!r}"),
        ({"on_store_error": "allow"}, ValueError, "on_store_error 'local', 'open' or 'closed', got 'allow'"),
        ({"budget": 0}, ValueError, "0 < budget < inf seconds, got 0"),
        ({"budget": math.inf}, ValueError, "0 < budget < inf seconds, got inf"),
        ({"lease_ttl": 0}, ValueError, "0 < lease_ttl < inf seconds, got 0"),
        ({"lease": -1}, ValueError, "lease >= 0, got -1"),
        ({"lease": 1.5}, TypeError, "lease to be a whole number, got 1.5"),
        ({"workers": 0}, ValueError, "workers >= 1, got 0"),
        ({"max_waiters": -1}, ValueError, "max_waiters >= 0, got -1"),
        ({"clock": 3}, TypeError, "clock to be a function, got 3"),
        ({"on_event": 3}, TypeError, "on_event to be a function, got 3"),
    ],
)
def test_nonsense(options, error, message):
    """Refused at construction."""
    with pytest.raises(error, match=f"^AsyncRateLimiter needs {re.escape(message)}$"):
        AsyncRateLimiter("1/s", **{"store": RedisStore(print), **options})


@pytest.mark.parametrize("name", ["budget", "lease_ttl"])
@pytest.mark.parametrize("seconds", [math.nan, True, "1"])
def test_nonsense_seconds(name, seconds):
    """What is no number of seconds at all."""
    with pytest.raises((TypeError, ValueError), match=f"seconds.*got {seconds!r}$"):
        AsyncRateLimiter("1/s", store=RedisStore(print), **{name: seconds})


def test_real_time_is_the_default():
    """The clock of leases and tries, where no test sets it."""
    assert AsyncRateLimiter("1/s", store=RedisStore(print), max_waiters=None)._clock is time.monotonic
