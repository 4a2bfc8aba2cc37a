"""Permits, refusals, callbacks, and several threads at once."""

from __future__ import annotations

import pickle
import random
from contextlib import suppress
from functools import partial

import anyio
import pytest
from mcp_circuit import CircuitBreaker, CircuitOpen, Rejected, State, Transition, consecutive, failure_rate, slow_rate

from tests.support.measure import no_growth
from tests.support.threads import run_in_threads


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def tripped(**options):
    """A breaker that has just opened, for 10 seconds."""
    clock = Clock()
    breaker = CircuitBreaker(name="db", trip=consecutive(1), cooldown=10, clock=clock, **options)
    breaker.acquire().fail()
    return breaker, clock


def test_refusal_has_the_facts():
    """As attributes, and in words."""
    breaker, clock = tripped()
    clock.now = 4.0
    with pytest.raises(CircuitOpen) as caught:
        breaker.acquire()
    assert (caught.value.name, caught.value.state, caught.value.retry_after) == ("db", State.OPEN, 6.0)
    assert str(caught.value) == "circuit 'db' is open, retry after 6 s"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_refusal_without_an_end_says_nothing_of_time():
    """Isolated means until further notice."""
    breaker = CircuitBreaker()
    breaker.force("isolated")
    with pytest.raises(CircuitOpen, match=r"^circuit '' is isolated$") as caught:
        breaker.acquire()
    assert caught.value.retry_after is None


def test_refusal_can_be_pickled():
    """Errors cross process pools."""
    breaker, _ = tripped()
    with pytest.raises(CircuitOpen) as caught:
        breaker.acquire()
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), copy.name, copy.state, copy.retry_after) == (CircuitOpen, "db", State.OPEN, 10.0)


async def test_refusals_are_fresh_and_leave_nothing(anyio_backend):
    """Invariant 2: one exception raised again and again would grow a traceback for ever."""
    breaker, _ = tripped()
    seen = []

    def refused(keep=None):
        try:
            breaker.acquire()
        except CircuitOpen as error:
            if keep is not None:
                keep.append(error)

    refused(seen), refused(seen)
    assert seen[0] is not seen[1]
    assert seen[1].__context__ is None
    await no_growth(refused)


@pytest.mark.parametrize("first", ["succeed", "fail", "ignore", "record"])
@pytest.mark.parametrize("second", ["succeed", "fail", "ignore", "record"])
def test_permit_is_settled_once(first, second):
    """Invariant 1: counting a call twice would free a place that another call has."""
    breaker, clock = tripped(probe_concurrency=2, probes=2)
    clock.now = 10.0
    permit, _ = breaker.acquire(), breaker.acquire()
    getattr(permit, first)()
    after = breaker.snapshot()
    getattr(permit, second)()
    assert breaker.snapshot() == after


def test_record_judges():
    """Results and errors, by the breaker's own configuration."""
    breaker = CircuitBreaker(failures=ConnectionError, failed_result=lambda result: result == "bad")
    for options, counted in [
        ({"result": "good"}, (1, 0)),
        ({"result": "bad"}, (2, 1)),
        ({"error": ConnectionError()}, (3, 2)),
        ({"error": ValueError()}, (3, 2)),
    ]:
        breaker.acquire().record(**options)
        assert (breaker.snapshot().calls, breaker.snapshot().failures) == counted


def test_slow_calls_are_measured_by_the_permit():
    """Seconds from acquire to settle, and the limit itself is slow."""
    clock = Clock()
    breaker = CircuitBreaker(trip=slow_rate(1.0, slower_than=2.0, calls=2, min_calls=2), clock=clock)
    for seconds in (2.0, 1.9, 2.0, 2.0):
        permit = breaker.acquire()
        clock.now += seconds
        assert breaker.state is State.CLOSED
        permit.succeed()
    assert breaker.state is State.OPEN


def test_slow_probe_is_a_failed_probe():
    """A service that answers after a minute has not recovered, by the breaker's own rule."""
    clock = Clock()
    breaker = CircuitBreaker(trip=[consecutive(1), slow_rate(1.0, slower_than=2.0, calls=20)], cooldown=1, clock=clock)
    breaker.acquire().fail()
    clock.now = 1.0
    permit = breaker.acquire()
    clock.now = 3.0
    permit.succeed()
    assert breaker.state is State.OPEN


def test_events_tell_the_whole_story():
    """Each transition and each refusal, in order, as values."""
    events = []
    breaker, clock = tripped(on_event=events.append, ramp=5.0)
    with pytest.raises(CircuitOpen):
        breaker.acquire()
    clock.now = 10.0
    breaker.acquire().succeed()
    clock.now = 15.0
    breaker.acquire().ignore()
    breaker.force("disabled")
    assert events == [
        Transition("db", "tripped", State.CLOSED, State.OPEN, 10.0),
        Rejected("db", State.OPEN, 10.0),
        Transition("db", "cooled", State.OPEN, State.HALF_OPEN),
        Transition("db", "eased", State.HALF_OPEN, State.RAMPING),
        Transition("db", "recovered", State.RAMPING, State.CLOSED),
        Transition("db", "disabled", State.CLOSED, State.DISABLED),
    ]


def test_callback_that_raises_reaches_nobody(caplog):
    """Invariant 3: neither the caller nor the state may suffer from it."""

    def broken(event):
        raise RuntimeError("no disk")

    breaker, clock = tripped(on_event=broken)
    assert breaker.state is State.OPEN
    with pytest.raises(CircuitOpen):
        breaker.acquire()
    clock.now = 10.0
    breaker.acquire().succeed()
    assert breaker.state is State.CLOSED
    assert len(caplog.records) == 4


def test_callback_may_use_the_breaker():
    """Invariant 3: it runs after the transition and outside the lock, and events come in order all the same."""
    events = []

    def interfering(event):
        events.append((event.cause, breaker.state))
        if event.cause == "tripped":
            run_in_threads(isolate)

    async def isolate():
        breaker.force("isolated")

    breaker = CircuitBreaker(trip=consecutive(1), on_event=interfering)
    breaker.acquire().fail()
    assert events == [("tripped", State.OPEN), ("isolated", State.ISOLATED)]


def test_ramp_admits_a_growing_share():
    """Over 10 s at 100 calls a second, each second's share is about what has passed of the ramp."""
    breaker, clock = tripped(ramp=10.0)
    clock.now = 10.0
    breaker.acquire().succeed()
    shares, refusals = [], []
    for second in range(10):
        admitted = 0
        for call in range(100):
            clock.now = 10.0 + second + call / 100
            try:
                breaker.acquire().succeed()
            except CircuitOpen as error:
                refusals.append((error.state, error.retry_after + clock.now))
            else:
                admitted += 1
        shares.append(admitted)
    assert shares == [pytest.approx(10 * second + 5, abs=2) for second in range(10)]
    assert refusals == [(State.RAMPING, pytest.approx(20.0))] * (1000 - sum(shares))
    clock.now = 20.0
    breaker.acquire().succeed()
    assert breaker.state is State.CLOSED


async def test_ramp_holds_for_decorated_functions():
    """The short way through the wrapper is for CLOSED only."""

    @(breaker := tripped(ramp=10.0)[0])
    async def fn():
        return None

    clock = breaker.core.clock
    clock.now = 10.0
    await fn()
    assert breaker.state is State.RAMPING
    await fn()
    with pytest.raises(CircuitOpen):
        await fn()


def test_machine_refuses_what_came_too_late():
    """Between the look without the lock and the look with it, another thread may have opened the circuit."""
    breaker, clock = tripped()
    clock.now = 4.0
    assert breaker.core.machine.refuse(clock.now) == 6.0
    assert breaker.state is State.OPEN


def test_ramp_trips_again():
    """A service that breaks under the returning load opens the circuit at once, by the usual rules."""
    breaker, clock = tripped(ramp=10.0)
    clock.now = 10.0
    breaker.acquire().succeed()
    breaker.acquire().fail()
    assert breaker.state is State.OPEN
    assert breaker.snapshot().reopens == 2


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.6, 0.7, 1.0])
@pytest.mark.parametrize("probes", [1, 3, 10])
def test_probe_ratio_is_decided_as_soon_as_it_is_certain(probes, ratio):
    """Neither a probe more than it takes, nor one fewer, also where 10 * 0.7 is a little more than 7."""
    needed = min(k for k in range(1, probes + 1) if k / probes >= ratio)
    breaker, clock = tripped(probes=probes, probe_ratio=ratio)
    clock.now = 10.0
    for _ in range(probes - needed):
        breaker.acquire().fail()
    for _ in range(needed):
        assert breaker.state in (State.HALF_OPEN, State.OPEN)
        breaker.acquire().succeed()
    assert breaker.state is State.CLOSED
    breaker, clock = tripped(probes=probes, probe_ratio=ratio)
    clock.now = 10.0
    for _ in range(probes - needed):
        breaker.acquire().fail()
        assert breaker.state is State.HALF_OPEN
    breaker.acquire().fail()
    assert breaker.state is State.OPEN


def test_clock_that_goes_back_neither_opens_nor_closes():
    """It counts as one that stands still."""
    breaker, clock = tripped()
    clock.now = -1000.0
    with pytest.raises(CircuitOpen) as caught:
        breaker.acquire()
    assert caught.value.retry_after == 10.0
    clock.now = 10.0
    permit = breaker.acquire()
    clock.now = 0.0
    with pytest.raises(CircuitOpen) as caught:
        breaker.acquire()
    assert caught.value.retry_after == 30.0
    permit.succeed()
    assert breaker.state is State.CLOSED


def test_observing_only_tells():
    """Nothing is refused, and the user learns when it would have been."""
    events = []
    breaker = CircuitBreaker(trip=consecutive(2), on_event=events.append)
    breaker.force("observing")
    for _ in range(5):
        breaker.acquire().fail()
    assert [event.cause for event in events] == ["observed", "tripped", "tripped"]
    assert breaker.statistics().rejected == 0
    assert breaker.snapshot().failures == 1


def test_disabled_counts_nothing():
    """Whatever fails."""
    breaker = CircuitBreaker(trip=consecutive(1))
    breaker.force("disabled")
    for _ in range(5):
        breaker.acquire().fail()
        breaker.acquire().succeed()
    assert breaker.state is State.DISABLED
    assert breaker.statistics().calls == 0


def test_statistics_add_up_over_eras():
    """Totals of what was counted; what ended after its era is in none of them."""
    breaker, clock = tripped()
    for _ in range(2):
        with pytest.raises(CircuitOpen):
            breaker.acquire()
    clock.now = 10.0
    late = breaker.acquire()
    breaker.force("closed")
    late.fail()
    breaker.acquire().succeed()
    statistics = breaker.statistics()
    assert (statistics.calls, statistics.failures, statistics.rejected, statistics.transitions) == (2, 1, 2, 3)
    assert statistics.state is State.CLOSED


@pytest.mark.parametrize("trip", [consecutive(3), failure_rate(0.5, seconds=0.05, min_calls=2)], ids=["count", "time"])
def test_two_loops_in_two_threads(trip):
    """Counts may be approximate; it never wedges, never counts below zero, and keeps the cap on probes."""
    breaker = CircuitBreaker(trip=trip, cooldown=0.001, probes=2, probe_concurrency=2, probe_max_wait=0.02)
    eras = []

    async def load(seed=0):
        draw = random.Random(seed).random
        for _ in range(3000):
            try:
                permit = breaker.acquire()
            except CircuitOpen:
                await anyio.sleep(0.0005)
                continue
            if permit._era.state is State.HALF_OPEN:
                eras.append(permit._era.in_flight)
            if draw() < 0.01:
                await anyio.lowlevel.checkpoint()
            [permit.succeed, permit.succeed, permit.fail, permit.ignore][int(draw() * 4)]()

    run_in_threads(load, load)
    assert breaker.snapshot().in_flight == 0
    assert all(0 <= in_flight <= 2 for in_flight in eras)
    assert len(eras) > 10
    for _ in range(1000):
        try:
            breaker.acquire().succeed()
        except CircuitOpen as refusal:
            anyio.run(anyio.sleep, refusal.retry_after)
        if breaker.state is State.CLOSED:
            return
    raise AssertionError(f"wedged: {breaker.snapshot()}")


def test_two_loops_through_the_decorator():
    """The short way through it takes no lock: a success may be lost, never a failure, and no place."""
    breaker = CircuitBreaker(trip=consecutive(3), cooldown=0.001)
    failed = []

    @breaker
    async def service(is_up):
        await anyio.lowlevel.checkpoint()
        if not is_up:
            failed.append(1)
            raise ConnectionError

    async def load():
        for number in range(2000):
            with suppress(ConnectionError, CircuitOpen):
                await service(number % 50 > 3)

    run_in_threads(load, load)
    statistics = breaker.statistics()
    assert 0 < statistics.failures <= len(failed)
    assert statistics.failures < statistics.calls
    assert breaker.snapshot().in_flight == 0
    run_in_threads(partial(anyio.sleep, 0.002))
    run_in_threads(partial(service, is_up=True))
    assert breaker.state is State.CLOSED
