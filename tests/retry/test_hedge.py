"""Hedging: a second request when the first is late."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import random
import traceback
import weakref
from contextlib import suppress
from functools import partial

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st
from mcp_retry import Budget, BudgetRefused, Hedge, Hedged, HedgeWon, Quantile

from tests.support.schedule import run_shuffled
from tests.support.sweep import sweep


class Servers:
    """Answers attempt n after the n-th delay, or fails then; knows what is in flight, and what was cancelled."""

    def __init__(self, *plans, wants=None):
        self.plans = list(plans)
        self.wants = wants
        self.started = self.cancelled = self.running = self.most = 0

    async def __call__(self, *args, **kwargs):
        assert self.wants in (None, (args, kwargs))
        plan = self.plans[self.started]
        self.started += 1
        number = self.started
        self.running += 1
        self.most = max(self.most, self.running)
        delay, error = plan if isinstance(plan, tuple) else (plan, None)
        try:
            await anyio.sleep(delay)
        except anyio.get_cancelled_exc_class():
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        if error is not None:
            raise error
        return number


async def test_quick_answer_is_not_hedged(clock):
    """The usual case costs nothing."""
    hedge, servers = Hedge(after=2), Servers(1)
    assert await hedge.call(servers) == 1
    assert (servers.started, clock()) == (1, 1)


async def test_late_answer_is_hedged(clock):
    """The second attempt answers, the first is cancelled."""
    events = []
    hedge, servers = Hedge(after=2, on_event=events.append), Servers(60, 1)
    assert await hedge.call(servers) == 2
    assert (servers.started, servers.cancelled, clock()) == (2, 1, 3)
    assert events == [Hedged(2, 2.0), HedgeWon(2)]
    statistics = hedge.statistics()
    assert (statistics.calls, statistics.hedges, statistics.won, statistics.budget_refusals) == (1, 1, 1, 0)
    assert statistics.budget.spent == 1


async def test_statistics_add_up(clock):
    """Over several calls, some of them hedged, some for free."""
    hedge = Hedge(after=2, budget=Budget(burst=2, floor=1e-9))
    own = Hedge(after=2)
    for _ in range(4):
        assert await hedge.call(Servers(4, 1)) in (1, 2)
        await own.call(Servers(0))
    statistics = hedge.statistics()
    assert (statistics.calls, statistics.hedges, statistics.won, statistics.budget_refusals) == (4, 2, 2, 2)
    assert own.statistics().budget.calls == 4


async def test_all_attempts_may_fail(clock):
    """Three of them, one after the other; the race ends with the last."""
    failures = [(3, ConnectionError()), (3, ValueError()), (3, LookupError())]
    with pytest.raises(LookupError):
        await Hedge(after=2, attempts=3).call(Servers(*failures))
    assert clock() == 7


async def test_the_first_may_still_win(clock):
    """Late is not lost."""
    events = []
    hedge, servers = Hedge(after=2, on_event=events.append), Servers(3, 60)
    assert await hedge.call(servers) == 1
    assert (servers.cancelled, clock(), hedge.statistics().won) == (1, 3, 0)
    assert events == [Hedged(2, 2.0)]


async def test_1_no_more_than_attempts(clock):
    """Invariant 1: each waits its turn, none is left."""
    servers = Servers(60, 60, 60, wants=((1,), {"key": 2}))
    assert await Hedge(after=2, attempts=3).call(servers, 1, key=2) == 1
    assert (servers.most, servers.running, clock()) == (3, 0, 60)


async def test_2_refused_hedge_leaves_the_first_alone(clock):
    """Invariant 2: an empty budget must not kill what is in flight."""
    budget, events = Budget(burst=1, floor=0), []
    budget.spend()
    hedge, servers = Hedge(after=2, budget=budget, on_event=events.append), Servers(60, 1)
    assert await hedge.call(servers) == 1
    assert events == [BudgetRefused(1)]
    assert (servers.started, hedge.statistics().budget_refusals, clock()) == (1, 1, 60)


async def test_3_failure_waits_for_those_in_flight(clock):
    """Invariant 3: one broken server is what hedging is for."""
    assert await Hedge(after=2).call(Servers((3, ConnectionError()), 5)) == 2
    assert clock() == 7


@pytest.mark.parametrize(
    ("delays", "bad", "winner", "seconds"), [((5, 1), {2}, 1, 5), ((3, 2), {1}, 2, 4), ((60, 60), {1, 2}, 2, 62)]
)
async def test_3_bad_result_waits_for_those_in_flight(clock, delays, bad, winner, seconds):
    """Invariant 3: an answer that says no is no reason to drop the one that says yes, unless it is the last."""
    hedge = Hedge(after=2, on_result=bad.__contains__)
    for call in (partial(hedge.call, Servers(*delays)), hedge(Servers(*delays))):
        began = clock()
        assert await call() == winner
        assert clock() - began == seconds


async def test_bad_result_is_not_hedged(clock):
    """Like a failure that comes before the second attempt."""
    assert await Hedge(after=2, on_result=lambda answer: True).call(Servers(1, 1)) == 1
    assert clock() == 1


async def test_failing_on_result_takes_the_answer(clock, caplog):
    """A fault in a predicate must not take the place of the answer."""
    assert await Hedge(after=2, on_result=lambda answer: 1 / 0).call(Servers(3, 1.5)) == 1
    message = "on_result failed; its result is taken for a good one"
    assert caplog.record_tuples == [("mcp_retry.hedge", logging.ERROR, message)]


@pytest.mark.uninstrumented
async def test_3_last_failure_comes_out_itself(clock):
    """Invariant 3: in no group, without a frame of ours but one."""
    first, last = ConnectionError("first"), ConnectionError("last")
    with pytest.raises(ConnectionError) as caught:
        await Hedge(after=2).call(Servers((3, first), (5, last)))
    assert caught.value is last
    assert caught.value.__context__ is None
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names[1:] == ["call", "__call__"]


async def test_answer_that_comes_first_is_not_hedged(clock):
    """Though the time for it is up before the caller's task runs again: a request would be sent for nothing."""

    async def sleep(seconds):
        with anyio.CancelScope(shield=True):
            await anyio.sleep(seconds)

    for plan in (2, (2, SystemExit())):
        servers, hedge = Servers(plan, 1), Hedge(after=2.5, sleep=sleep)
        with suppress(SystemExit):
            assert await hedge.call(servers) == 1
        assert (servers.started, hedge.statistics().budget.spent) == (1, 0)


async def test_early_failure_is_not_hedged(clock):
    """Repeating is a retry's business."""
    servers = Servers((1, ConnectionError()), 1)
    with pytest.raises(ConnectionError):
        await Hedge(after=2).call(servers)
    assert (servers.started, clock()) == (1, 1)


async def test_base_exceptions_come_out_themselves():
    """A SystemExit of the function must end the program, not turn up in a group."""
    with pytest.raises(SystemExit):
        await Hedge(after=2).call(Servers((0, SystemExit())))


async def test_base_exceptions_end_the_race(clock):
    """Whatever else is in flight, and would still have answered, or failed while it was cancelled."""
    servers = Servers(60, (1, SystemExit()))
    with pytest.raises(SystemExit):
        await Hedge(after=2).call(servers)
    assert (clock(), servers.cancelled) == (3, 1)

    async def one_after_the_other(order=[]):  # noqa: B006  # the calls share it
        order.append(clock())
        if len(order) > 1:
            raise SystemExit
        try:
            await anyio.sleep_forever()
        finally:
            raise ConnectionError

    with pytest.raises(SystemExit):
        await Hedge(after=2).call(one_after_the_other)


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_cancellation_of_its_own_comes_out_itself(anyio_backend):
    """asyncio raises one for a future that somebody has cancelled, though nobody has cancelled the call."""
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    with pytest.raises(asyncio.CancelledError):
        await Hedge(after=2).call(lambda: future)


async def test_decorator_keeps_the_looks():
    """As everywhere."""

    @Hedge(after=2)
    async def fetch(name: str, *, times: int = 1) -> str:
        """Fetch."""
        return name * times

    assert await fetch("x", times=2) == "xx"
    assert (fetch.__name__, fetch.__doc__) == ("fetch", "Fetch.")
    with pytest.raises(TypeError, match="is not async"):
        Hedge(after=2)(test_nonsense_is_refused)

    async def generator():
        yield

    with pytest.raises(TypeError, match=r"^Hedge\(\) needs a function with one result, got the async generator"):
        Hedge(after=2)(generator)


async def test_budget_pays_in_only_for_its_owner():
    """Beside a retry around the same calls, each call must be counted once."""
    shared = Budget()
    await Hedge(after=2, budget=shared).call(Servers(0))
    assert shared.statistics().calls == 0
    own = Hedge(after=2)
    await own.call(Servers(0))
    assert own.statistics().budget.calls == 1
    free = Hedge(after=0.001, budget=False)
    assert await free.call(Servers(60, 0)) == 2
    assert free.statistics().budget is None


async def test_nothing_is_retained():
    """With the collector off, a failed call leaves nothing behind."""

    class Local:
        pass

    kept = []

    async def fail():
        local = Local()
        kept.append(weakref.ref(local))
        raise ConnectionError

    gc.disable()
    try:
        with pytest.raises(ConnectionError):
            await Hedge(after=2).call(fail)
        await checkpoint()  # the event loop lets go of its last task
        assert kept[0]() is None
    finally:
        gc.enable()


def test_quantile_defaults():
    """A second until twenty latencies are known, then of the last two hundred."""
    quantile = Quantile(0.5)
    for number in range(200):
        assert (quantile.seconds == 1) is (number < 20)
        quantile.add(100 + number)
    assert quantile.seconds == 199
    quantile.add(1_000)
    assert quantile.seconds == 200


def test_quantile():
    """Initial until it knows enough, then the value that so many did not exceed, of the last window."""
    quantile = Quantile(0.9, initial=7, window=20, least=10)
    for number in range(9):
        quantile.add(number)
    assert quantile.seconds == 7
    quantile.add(9)
    assert quantile.seconds == 8
    for number in range(100, 120):
        quantile.add(number)
    assert quantile.seconds == 117


@given(st.lists(st.floats(0, 100), min_size=1, max_size=300), st.floats(0.01, 0.99), st.integers(1, 50))
def test_quantile_is_that_of_the_sorted_window(latencies, q, window):
    """Against the definition."""
    quantile = Quantile(q, window=window, least=1)
    for seconds in latencies:
        quantile.add(seconds)
    recent = sorted(latencies[-window:])
    assert quantile.seconds == recent[math.ceil(q * len(recent)) - 1]


async def test_quantile_hedges_that_share_of_the_calls(clock):
    """One call in ten is late; learning from hedged calls must not make more of them late."""
    draws = random.Random(1)
    hedge = Hedge(after=Quantile(0.9, initial=1), clock=clock, budget=Budget(ratio=1, burst=1_000))

    async def server():
        await anyio.sleep(draws.expovariate(10))

    for _ in range(2_000):
        await hedge.call(server)
    assert 0.07 < hedge.statistics().hedges / 2_000 < 0.13


async def test_extra_load_is_bounded(clock):
    """When everything is slow, the budget holds: at most its ratio, and what it began with."""
    hedge = Hedge(after=1, budget=True)

    async def slow():
        await anyio.sleep(0.001 if clock() < 1 else 2)

    for _ in range(100):
        await hedge.call(slow)
    spent = hedge.statistics().budget.spent
    assert hedge.statistics().hedges == spent <= 10 + 0.1 * 100 + clock()


@pytest.mark.parametrize(
    ("make", "fault", "message"),
    [
        (lambda: Hedge(after=0), ValueError, "after must be 0 < seconds < inf, got 0"),
        (lambda: Hedge(after=math.nan), ValueError, "got nan"),
        (lambda: Hedge(after=True), TypeError, "got True"),
        (lambda: Hedge(after=Quantile), TypeError, "got <class"),
        (lambda: Hedge(after=1, attempts=1), ValueError, "attempts must be 2 or more, got 1"),
        (lambda: Hedge(after=1, attempts=True), TypeError, "got True"),
        (lambda: Hedge(after=1, budget=3), TypeError, "budget must be a Budget, got 3"),
        (lambda: Hedge(after=1, on_result=3), TypeError, "^on_result must be a function, got 3"),
        (lambda: Hedge(after=1, on_event=3), TypeError, "on_event must be a function, got 3"),
        (lambda: Hedge(after=1, clock=3), TypeError, "clock must be a function, got 3"),
        (lambda: Hedge(after=1, sleep=3), TypeError, "sleep needs an async function, got 3"),
        (lambda: Quantile(0), ValueError, "0 < q < 1, got 0"),
        (lambda: Quantile(1), ValueError, "0 < q < 1, got 1"),
        (lambda: Quantile(math.nan), ValueError, "0 < q < 1, got nan"),
        (lambda: Quantile(True), TypeError, "q as a number, got True"),
        (lambda: Quantile("0.9"), TypeError, "q as a number, got '0.9'"),
        (lambda: Quantile(0.9, initial=0), ValueError, "initial must be 0 < seconds < inf, got 0"),
        (lambda: Quantile(0.9, least=0), ValueError, "least must be 1 or more, got 0"),
        (lambda: Quantile(0.9, window=5, least=6), ValueError, "window must be 6 or more, got 5"),
    ],
)
def test_nonsense_is_refused(make, fault, message):
    """At construction, with the argument and the value."""
    with pytest.raises(fault, match=message):
        make()


def test_1_cancelled_anywhere_nothing_is_left():
    """Invariant 1, cancelled at every checkpoint: no attempt goes on."""

    async def scenario(victim):
        servers = Servers(3, 60, 60)
        await victim(Hedge(after=2, attempts=3).call, servers)
        return servers

    assert all(sweep(scenario, lambda servers: servers.running == 0).values())


def test_any_order_of_tasks():
    """Answers, failures and hedges that fall together, in twenty orders."""

    async def scenario():
        hedge = Hedge(after=1, attempts=3, budget=Budget(burst=100))
        servers = [Servers(*plans) for plans in ((1, 1, 1), (2, 1, 60), ((1, ConnectionError()), (1, OSError()), 1))]
        results = []

        async def call(each):
            try:
                results.append(await hedge.call(each))
            except OSError as error:
                results.append(error)

        async with anyio.create_task_group() as tasks:
            for each in servers:
                tasks.start_soon(call, each)
        assert [each.running for each in servers] == [0, 0, 0]
        assert len(results) == 3
        return [each.started for each in servers]

    assert all(1 <= number <= 3 for started in run_shuffled(scenario) for number in started)


def test_quantile_remembers_two_hundred():
    """By default; the one before has no say any more."""
    quantile = Quantile(0.999)
    quantile.add(5)
    for _ in range(199):
        quantile.add(1)
    assert quantile.seconds == 5
    quantile.add(1)
    assert quantile.seconds == 1
