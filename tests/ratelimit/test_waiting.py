"""Waiting: order, deadlines, cancellation at every point, and the two comfortable ways to wait."""

from __future__ import annotations

import asyncio
import inspect
import random
from functools import partial
from typing import Annotated

import anyio
import pytest
import trio
from mcp_ratelimit import (
    CostTooLarge,
    Decision,
    Limit,
    LimiterStatistics,
    MemoryStore,
    RateLimited,
    RateLimiter,
    Refusal,
)
from mcp_ratelimit.lines import Lines

from tests.ratelimit.walks import ALGORITHMS, limit_of
from tests.support.clock import settle
from tests.support.schedule import run_shuffled
from tests.support.sweep import sweep


def limiter_at(clock, *limits, **options):
    return RateLimiter(*limits, store=MemoryStore(clock=clock), **options)


async def test_waits_just_as_long_as_needed(clock):
    """The rate is reached, and not passed."""
    limiter = limiter_at(clock, "10/s burst 1")
    for _ in range(21):
        await limiter.acquire("key")
    assert clock() == pytest.approx(2.0, abs=1e-4)


async def test_first_come_first_served_whatever_the_cost(clock):
    """Small costs that keep coming must not starve a large one, as a heap by cost would."""
    limiter = limiter_at(clock, "10/s burst 5")
    assert limiter.try_acquire("key", 5)
    served = []

    async def small(number):
        await anyio.sleep(number * 0.01)
        await limiter.acquire("key")
        served.append((f"small {number}", clock()))

    async def large():
        await anyio.sleep(0.035)
        await limiter.acquire("key", 5)
        served.append(("large", clock()))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(large)
        for number in range(20):
            tasks.start_soon(small, number)
    assert [name for name, _ in served] == [
        *(f"small {n}" for n in range(4)),
        "large",
        *(f"small {n}" for n in range(4, 20)),
    ]
    assert dict(served)["large"] == pytest.approx(0.9, abs=1e-4)


async def test_nobody_passes_those_who_wait(clock):
    """Invariant 4: a unit that is back belongs to the first in line, also when a newcomer asks before that one woke."""
    limiter = limiter_at(clock, "1/s burst 1")
    assert limiter.try_acquire("key")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(limiter.acquire, "key")
        await settle()
        limiter._store._clock = limiter._tables[0].clock = lambda: clock() + 1
        assert not limiter.try_acquire("key")
        refused = limiter.check("key")
        assert refused.violated == ("1/s burst 1",)
        assert refused.retry_after == pytest.approx(1.0, abs=1e-5)
        assert limiter.take_up_to("key", 1) == 0
        assert limiter.peek("key", 0).allowed


async def test_who_waits_for_one_limit_of_several_is_not_passed(clock):
    """Except by what has been used already, of which all limits bear as much as each has left."""
    limiter = limiter_at(clock, "9/h", "5/h")
    for cost, key in ((5, ("ann", "read")), (3, ("bob", "search"))):
        assert limiter.try_acquire(key, cost)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(limiter.acquire, ("ann", "write"), 5)
        await settle()
        assert not limiter.try_acquire(("ann", "search"))
        assert limiter.take_up_to(("ann", "search"), 9) == 0
        assert limiter.take_up_to(("ann", "search"), 9, past_line=True) == 2
        tasks.cancel_scope.cancel()


async def test_there_is_room_for_both_and_still_a_newcomer_comes_second(clock):
    """Whoever is first has been called and has not woken yet; a tick later is soon enough."""
    limiter = limiter_at(clock, "1/s burst 3")
    assert limiter.try_acquire("key", 3)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(limiter.acquire, "key")
        await settle()
        limiter.reset("key")
        refused = limiter.check("key")
        assert refused.violated == ("1/s burst 3",)
        assert refused.retry_after * limiter._tables[0].hz == pytest.approx(1.25)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_the_line_ahead_counts_with_every_algorithm(clock, algorithm):
    """What is told to a newcomer is never later than what he then gets."""
    limiter = RateLimiter(limit_of(algorithm, 2, 10.0, 2), store=MemoryStore(clock=clock, wall_clock=clock))
    limiter.take_up_to("key", 9)
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(limiter.acquire, "key", limiter.limits[0].burst)
            await settle()
        promised = limiter.check("key").retry_after
        assert promised > (0 if algorithm == "gcra" else 5)
        begin = clock()
        await limiter.acquire("key")
        assert clock() - begin >= promised - 1e-3


async def test_a_key_that_waits_delays_no_other(clock):
    """Invariant 2 of the lines."""
    limiter = limiter_at(clock, "1/h burst 1")
    assert limiter.try_acquire("a")
    with anyio.move_on_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(limiter.acquire, "a")
            await anyio.sleep(1)
            assert limiter.try_acquire("b")
            await limiter.acquire("c")
            assert clock() == 1.0
    assert limiter.statistics() == LimiterStatistics(keys=3, waiting=0)


async def test_who_waits_for_his_own_limit_blocks_no_shared_one(clock):
    """Lines are those of the limits that refuse: alice's own limit is no reason to hold up bob."""
    limiter = limiter_at(clock, "1/h burst 1", "100/s")
    assert limiter.try_acquire(("alice", "all"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(limiter.acquire, ("alice", "all"))
        await anyio.sleep(1)
        assert limiter.try_acquire(("bob", "all"))
        tasks.cancel_scope.cancel()


async def test_a_shared_limit_is_served_in_order_of_arrival(clock):
    """Who came first and was held up by a limit of his own goes before those who came later."""
    limiter = limiter_at(clock, "1/s burst 1", "1/s burst 2")
    assert limiter.try_acquire(("alice", "all"))
    served = []

    async def take(name):
        await limiter.acquire((name, "all"))
        served.append((name, round(clock(), 3)))

    async with anyio.create_task_group() as tasks:
        for name in ("alice", "bob", "carol", "dave", "alice"):
            tasks.start_soon(take, name)
            await anyio.sleep(0.01)
    assert served == [("bob", 0.01), ("alice", 1.0), ("carol", 2.0), ("dave", 3.0), ("alice", 4.0)]


async def test_who_joins_a_further_line_later_stands_where_he_came(clock):
    """Alice's own limit lets her go at 1.0, the shared one not before 2.0: she goes before those who came after her."""
    limiter = limiter_at(clock, "1/s burst 1", "1 per 2 s burst 2")
    assert limiter.try_acquire(("alice", "all"))
    served = []

    async def take(name):
        await limiter.acquire((name, "all"))
        served.append((name, round(clock(), 3)))

    async with anyio.create_task_group() as tasks:
        for name in ("alice", "bob", "carol", "dave"):
            tasks.start_soon(take, name)
            await anyio.sleep(0.01)
    assert served == [("bob", 0.01), ("alice", 2.0), ("carol", 4.0), ("dave", 6.0)]


async def test_who_joins_a_line_later_stands_between_older_and_younger(clock):
    """The middle one is let go by his own limit last of all, and is still served by his age."""
    lines, room, served = Lines(None), {"own": 0, "all": 0}, []
    refused = Decision(False, Limit("1/s"), 0, 1000.0, 0.0, ("own",))

    async def wait(who, names):
        async def attempt():
            full = tuple(name for name in names if not room[name])[:1]
            for name in () if full else names:
                room[name] -= 1
            return refused._replace(allowed=not full, violated=full)

        await lines.wait([(name, "key") for name in names], 1, float("inf"), await attempt(), attempt)
        served.append(who)

    async with anyio.create_task_group() as tasks:
        for who, names in (("old", ["all"]), ("middle", ["own", "all"]), ("young", ["all"]), ("younger", ["all"])):
            tasks.start_soon(wait, who, names)
            await settle()
            room["own"] = 1 if who == "younger" else 0
        for number in range(5):
            room["all"] = min(number, 1)
            lines.wake()
            await settle()
    assert served == ["old", "middle", "young", "younger"]


async def test_who_need_not_wait_does_not_wait_with_others(clock):
    """A caller with room of his own goes on in the same turn of the loop, whoever waits for another key."""
    limiter, ran = limiter_at(clock, "1/h burst 1"), []
    assert limiter.try_acquire("alice")

    async def other():
        ran.append(True)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(limiter.acquire, "alice")
        await settle()
        tasks.start_soon(other)
        await limiter.acquire("bob")
        assert not ran
        await settle()
        assert ran
        tasks.cancel_scope.cancel()


async def test_a_call_in_the_middle_of_an_attempt_is_not_lost(clock):
    """A store that is asked may answer for a time before the refund: who was told of it asks once more."""
    lines = Lines(None)
    refused = Decision(False, Limit("1/s"), 0, 1.0, 0.0, ("1/s",))
    answers = [refused._replace(retry_after=1000.0), refused._replace(allowed=True)]

    async def attempt():
        lines.wake()
        await anyio.lowlevel.checkpoint()
        return answers.pop(0)

    await lines.wait([("1/s", "key")], 1, float("inf"), refused, attempt)
    assert clock() == 1.0


async def test_refuses_early_what_cannot_pass_in_time(clock):
    """The line ahead counts: whoever cannot be served in time need not wait to learn it."""
    limiter = limiter_at(clock, "1/s burst 1")
    assert limiter.try_acquire("key")
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(limiter.acquire, "key")
        await settle()
        with pytest.raises(RateLimited, match=r"1/s burst 1 exceeded; retry after 4\.000 s") as caught:
            await limiter.acquire("key", timeout=3.9)
        assert clock() == 0.0
        assert caught.value.reason == "timeout"
        assert caught.value.retry_after == pytest.approx(4.0, abs=1e-4)
        await limiter.acquire("key", timeout=4.1)
        assert clock() == pytest.approx(4.0, abs=1e-4)


async def test_gives_up_when_it_turns_out_to_take_too_long(clock):
    """The line moves slower than it seemed, because somebody else spends from the same store."""
    seen = []
    limiter = limiter_at(clock, "1/s burst 1", on_event=seen.append)
    rival = RateLimiter("1/s burst 1", store=limiter._store)
    assert limiter.try_acquire("key")

    async def spend():
        await anyio.sleep(0.999)
        rival._tables[0].write("key", rival._tables[0].now() + 3 * rival._tables[0].hz)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(spend)
        with pytest.raises(RateLimited) as caught:
            await limiter.acquire("key", timeout=1.5)
    assert clock() == pytest.approx(1.0, abs=1e-4)
    assert caught.value.retry_after == pytest.approx(3.0, abs=0.01)
    assert seen == [Refusal("key", 1, caught.value.decision)]
    assert limiter.statistics().waiting == 0


async def test_gives_up_at_the_timeout_while_others_are_first(clock):
    """The first in line turns out to take longer than it seemed; who stands behind leaves when his time is over."""
    limiter = limiter_at(clock, "1/s burst 1")
    rival = RateLimiter("1/s burst 1", store=limiter._store)
    limiter.try_acquire("key")

    async def spend():
        await anyio.sleep(0.5)
        rival._tables[0].write("key", rival._tables[0].now() + 9 * rival._tables[0].hz)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(limiter.acquire, "key")
        tasks.start_soon(spend)
        await settle()
        with pytest.raises(RateLimited):
            await limiter.acquire("key", timeout=2.5)
        assert clock() == 2.5
        assert limiter.statistics().waiting == 1
    assert clock() == pytest.approx(9.5, abs=1e-3)


async def test_who_leaves_the_line_takes_his_cost_along(clock):
    """What is told to a newcomer is what those cost who still wait."""
    limiter = limiter_at(clock, "1/s burst 3")
    assert limiter.try_acquire("key", 3)

    async def impatient():
        with anyio.move_on_after(0.5):
            await limiter.acquire("key", 3)

    async with anyio.create_task_group() as tasks:
        for ask in (partial(limiter.acquire, "key", 2), impatient, partial(limiter.acquire, "key", 3)):
            tasks.start_soon(ask)
            await settle()
        assert limiter.check("key").retry_after == pytest.approx(9.0, abs=1e-4)
        await clock.advance(0.6)
        assert limiter.check("key").retry_after == pytest.approx(5.4, abs=1e-4)


@pytest.mark.parametrize(("options", "waiting"), [({"max_waiters": 1}, 1), ({}, 1000)], ids=["one", "default"])
async def test_max_waiters(clock, options, waiting):
    """A full waiting room refuses at once."""
    limiter = limiter_at(clock, "1000/s burst 1", **options)
    await limiter.acquire("key")
    async with anyio.create_task_group() as tasks:
        for _ in range(waiting):
            tasks.start_soon(limiter.acquire, "key")
        await settle()
        with pytest.raises(RateLimited) as caught:
            await limiter.acquire("key")
        assert caught.value.reason == "max_waiters"
        assert caught.value.retry_after == pytest.approx((waiting + 1) / 1000, abs=1e-6)
        assert limiter.statistics().waiting == waiting


async def test_any_number_of_waiters(clock):
    """max_waiters=None; ten thousand are served in order."""
    limiter = limiter_at(clock, "1000/s burst 1", max_waiters=None)
    served = []

    async def take():
        number = limiter.statistics().waiting
        await limiter.acquire("key")
        served.append(number)

    async with anyio.create_task_group() as tasks:
        for _ in range(2000):
            tasks.start_soon(take)
    assert served[1:] == sorted(served[1:])
    assert clock() == pytest.approx(1.999, abs=1e-3)


@pytest.mark.parametrize("relief", ["refund", "reset", "set_limit"])
async def test_more_room_wakes_who_is_first(clock, relief):
    """Sleeping out the old time would lose what was given back."""
    limiter = limiter_at(clock, "1/h burst 1")
    await limiter.acquire("key")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(limiter.acquire, "key")
        tasks.start_soon(limiter.acquire, "key")
        await anyio.sleep(10)
        if relief == "set_limit":
            limiter.set_limit("1/s burst 1")
        else:
            getattr(limiter, relief)("key")
            await anyio.sleep(0.5)
            assert limiter.statistics().waiting == 1
            limiter.reset("key")
    assert clock() == pytest.approx(12.0 if relief == "set_limit" else 10.5, abs=0.6)


async def test_what_can_never_pass_does_not_wait(clock):
    """Nor what is nonsense."""
    limiter = limiter_at(clock, "1/s burst 2")
    with pytest.raises(CostTooLarge):
        await limiter.acquire("key", 3)
    for timeout in (-1, float("nan"), True, "1"):
        with pytest.raises((TypeError, ValueError), match=f"timeout .*got {timeout!r}"):
            await limiter.acquire("key", timeout=timeout)
    assert limiter.peek("key").remaining == 2


async def test_who_waits_learns_that_a_new_limit_can_never_let_him_pass(clock):
    """He would block all who stand behind him for ever."""
    limiter = limiter_at(clock, "1/s burst 5")
    limiter.try_acquire("key", 5)
    failed = []

    async def large():
        with pytest.raises(CostTooLarge) as caught:
            await limiter.acquire("key", 4)
        failed.append(caught.value.limit)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(large)
        await settle()
        tasks.start_soon(limiter.acquire, "key")
        await settle()
        limiter.set_limit("1/s burst 2")
    assert [limit.burst for limit in failed] == [2]
    assert limiter.statistics().waiting == 0


async def test_who_leaves_from_behind_disturbs_nobody(clock):
    """With thousands in line a wake-up of the first for each who gives up would be a herd."""
    limiter = limiter_at(clock, "1/h burst 1")
    limiter.try_acquire("key")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(limiter.acquire, "key")
        await settle()
        first = limiter._lines._lines["1/h burst 1", "key"].first
        with anyio.move_on_after(1):
            await limiter.acquire("key")
        assert not first.called
        assert limiter.statistics().waiting == 1
        tasks.cancel_scope.cancel()


def test_waits_as_a_guest_on_a_loop_of_another_kind():
    """With trio as a guest on asyncio both loops seem to run; a timer of the wrong one would never wake the task."""
    limiter = RateLimiter("100/s burst 1")

    async def wait_twice():
        for _ in range(3):
            await limiter.acquire("key")
        return limiter.statistics().waiting

    async def host():
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        trio.lowlevel.start_guest_run(
            wait_twice, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=done.set_result
        )
        return (await done).unwrap()

    assert asyncio.run(host()) == 0


def test_cancelled_anywhere_leaves_nothing():
    """Invariants 3 and 4 of the lines: the victim stands in the middle of a line, and all others are served in time."""

    async def scenario(victim):
        limiter = limiter_at(anyio.current_time, "1/s burst 1")
        begin = anyio.current_time()
        limiter.try_acquire("key")
        times = []

        async def take():
            await limiter.acquire("key")
            times.append(anyio.current_time() - begin)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take)
            await anyio.lowlevel.checkpoint()
            tasks.start_soon(victim, take)
            await anyio.lowlevel.checkpoint()
            tasks.start_soon(take)
            tasks.start_soon(take)
        return limiter, times, victim

    def check(state):
        limiter, times, victim = state
        assert limiter.statistics().waiting == 0
        assert not limiter._lines._lines
        charged = 3 if victim.cancelled and len(times) == 3 else 4
        assert times == pytest.approx([1.0, 2.0, 3.0, 4.0][:charged], abs=1e-3)

    assert all(count >= 2 for count in sweep(scenario, check).values())


def test_order_holds_under_any_schedule():
    """Twenty task orders: served by arrival within a key, everything charged once, the rate kept."""

    async def crowd():
        limiter = limiter_at(anyio.current_time, "10/s burst 3", "50/s burst 20")
        rng = random.Random(1)
        arrived, served = [], []

        async def take(number):
            await anyio.sleep(rng.random() * 0.1)
            key, cost = str(number % 3), 1 + number % 3
            arrived.append((key, number))
            with anyio.move_on_after(rng.choice([0.2, 100, 100])):
                await limiter.acquire((key, "all"), cost)
                served.append((key, number))

        async with anyio.create_task_group() as tasks:
            for number in range(60):
                tasks.start_soon(take, number)
        assert limiter.statistics().waiting == 0
        for key in "012":
            mine = [number for k, number in arrived if k == key]
            assert [n for k, n in served if k == key] == [n for n in mine if (key, n) in served]

    run_shuffled(crowd)


async def test_slot_gives_back_what_it_is_told(clock):
    """Part, all, never more than was charged, also when the block fails or is left early."""
    limiter = limiter_at(clock, "10/h")
    async with limiter.slot("key", 4) as slot:
        assert slot.decision.remaining == 6
        slot.refund(1)
        slot.refund(2)
    assert limiter.peek("key").remaining == 9
    async with limiter.slot("key", 4, timeout=1) as slot:
        slot.refund()
        slot.refund(1)
    assert limiter.peek("key").remaining == 9
    with pytest.raises(RuntimeError):
        async with limiter.slot("key", 4, refund_if=lambda error: isinstance(error, KeyError)):
            raise RuntimeError
    assert limiter.peek("key").remaining == 5
    with pytest.raises(KeyError):
        async with limiter.slot("key", 4, refund_if=lambda error: isinstance(error, KeyError)):
            raise KeyError
    assert limiter.peek("key").remaining == 5
    with pytest.raises(ValueError, match=r"^refund needs cost >= 0, got -1"):
        async with limiter.slot("key") as slot:
            slot.refund(-1)


async def test_throttle_decorates(clock):
    """Signature and result stay; key and cost may come from the arguments."""
    limiter = limiter_at(clock, "1/s burst 2")

    @limiter.throttle(lambda user, text: user, cost=lambda user, text: len(text))
    async def say(user: str, text: str) -> str:
        """Say it."""
        return f"{user}: {text}"

    assert await say("ann", "hi") == "ann: hi"
    assert await say("bob", text="x") == "bob: x"
    assert clock() == 0.0
    assert await say("ann", "x") == "ann: x"
    assert clock() == pytest.approx(1.0, abs=1e-4)
    assert str(inspect.signature(say)) == "(user: str, text: str) -> str"
    assert (say.__name__, say.__doc__) == ("say", "Say it.")

    @limiter.throttle("all", timeout=0)
    async def now() -> None:
        pass

    await now()
    await now()
    with pytest.raises(RateLimited):
        await now()


def test_throttle_leaves_hints_that_nobody_can_resolve():
    """A name that exists for type checkers alone stays the string that it was."""

    @RateLimiter("1/s").throttle("key")
    async def f(x: Missing) -> None:  # noqa: F821  # a name for type checkers alone
        pass

    assert str(inspect.signature(f)) == "(x: 'Missing') -> 'None'"
    assert f.__annotations__ == {"x": "Missing", "return": "None"}


def test_throttle_keeps_hints_as_they_are():
    """Also what is only annotated for a framework, and what has none."""

    @RateLimiter("1/s").throttle("key")
    async def f(x: Annotated[int, "unit"], y=1):
        pass

    shown = inspect.signature(f)
    assert shown.parameters["x"].annotation == Annotated[int, "unit"]
    assert shown.parameters["y"].annotation is shown.return_annotation is inspect.Signature.empty
    assert f.__annotations__ == {"x": Annotated[int, "unit"]}
    assert str(inspect.signature(RateLimiter("1/s").throttle("key")(partial(f, 1)))) == "(y=1)"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"key": ""}, ValueError, "key needs to be a non-empty string"),
        ({"key": None}, TypeError, "got None"),
        ({"key": ("a", "b")}, ValueError, "one for each of the 1 limits"),
        ({"cost": -1}, ValueError, "cost >= 0, got -1"),
        ({"cost": True}, TypeError, "got True"),
        ({"cost": 3}, CostTooLarge, "cost 3 can never pass"),
        ({"timeout": -1}, ValueError, "timeout needs to be >= 0 seconds, got -1"),
    ],
)
def test_nonsense_for_throttle(arguments, error, message):
    """Refused where it is written, and not at each call."""
    with pytest.raises(error, match=message):
        RateLimiter("1/s burst 2").throttle(**{"key": "all", **arguments})


def test_throttle_needs_an_async_function():
    """A sync function would return a coroutine that nobody awaits."""
    with pytest.raises(TypeError, match="f\\(\\) is not async; did you forget 'async def'"):

        @RateLimiter("1/s").throttle("key")
        def f():
            pass

    with pytest.raises(TypeError, match=r"partial\(.*\)\(\) is not async"):
        RateLimiter("1/s").throttle("key")(partial(print))
