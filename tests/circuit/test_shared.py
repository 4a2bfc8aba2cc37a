"""One state for several breakers, each of which stands for a process of its own."""

from __future__ import annotations

import gc
import itertools
import math
import weakref
from contextlib import suppress

import anyio
import pytest
from mcp_circuit import (
    CircuitBreaker,
    CircuitMiddleware,
    CircuitOpen,
    MemoryStore,
    Probe,
    Reply,
    SharedCircuitBreaker,
    State,
    StoreBack,
    StoreLost,
    Terms,
    Transition,
    consecutive,
    growing,
    slow_rate,
)

from tests.support.sweep import sweep


class Flaky(MemoryStore):
    """A store that can fail or hang, and counts its round trips."""

    delay = 0.001
    fault = None
    trips = 0

    async def admit(self, *arguments):
        return await self._operate(super().admit, *arguments)

    async def trip(self, *arguments):
        return await self._operate(super().trip, *arguments)

    async def settle(self, *arguments):
        return await self._operate(super().settle, *arguments)

    async def _operate(self, operation, *arguments):
        self.trips += 1
        await anyio.sleep(self.delay)
        if self.fault == "hang":
            await anyio.sleep(math.inf)
        if self.fault:
            raise self.fault
        return await operation(*arguments)


def process(store, clock, *, events=None, options=None, **configuration):
    """One process of many: a breaker of its own, and the common store."""
    local = CircuitBreaker(
        name="db",
        clock=clock,
        on_event=None if events is None else events.append,
        **{"trip": consecutive(2), "cooldown": 10, "probe_max_wait": 5, **configuration},
    )
    return SharedCircuitBreaker(local, store, **(options or {}))


async def ok():
    return "ok"


async def fail():
    raise ConnectionError


async def end(breaker, fn=ok):
    """Make one call, and say in a word how it ended."""
    try:
        return await breaker.call(fn)
    except ConnectionError:
        return "failed"
    except CircuitOpen as refusal:
        return refusal


async def open_it(breaker):
    """Fail until it is open."""
    for _ in range(2):
        assert await end(breaker, fail) == "failed"
    assert breaker.state is State.OPEN


async def test_call_passes_all_arguments(clock):
    """As without a store."""

    async def fn(*args, **kwargs):
        return args, kwargs

    assert await process(MemoryStore(clock=clock), clock).call(fn, 1, two=2) == ((1,), {"two": 2})


async def test_one_opens_for_all(clock):
    """What one process has seen keeps the others from finding out for themselves."""
    store = MemoryStore(clock=clock)
    first, second = process(store, clock), process(store, clock)
    assert await end(second) == "ok"
    await open_it(first)
    await anyio.sleep(1)
    refusal = await end(second)
    assert (refusal.name, refusal.state, refusal.retry_after) == ("db", State.OPEN, 9)


async def test_closed_costs_one_look_a_refresh(clock):
    """And a refusal costs none."""
    store = Flaky(clock=clock)
    breaker = process(store, clock, options={"refresh": 2})
    for _ in range(10):
        await end(breaker)
    assert store.trips == 1
    await anyio.sleep(2)
    await end(breaker)
    assert store.trips == 2
    await open_it(breaker)
    assert store.trips == 3
    for _ in range(10):
        await end(breaker)
    assert store.trips == 3


async def test_probes_are_leased_in_all(clock):
    """Invariant 1: twenty processes with ten callers each, three places, and never a fourth."""
    store = MemoryStore(clock=clock)
    breakers = [process(store, clock, probes=3, probe_concurrency=3) for _ in range(20)]
    await open_it(breakers[0])
    for breaker in breakers[1:]:
        await end(breaker)
    await anyio.sleep(10)
    running, most, ends = 0, 0, []

    async def probe():
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.sleep(1)
        running -= 1
        return "ok"

    async def caller(breaker):
        ends.append(await end(breaker, probe))

    async with anyio.create_task_group() as tasks:
        for breaker in breakers:
            for _ in range(10):
                tasks.start_soon(caller, breaker)
    assert most == 3
    assert ends.count("ok") == 3
    assert {refusal.state for refusal in ends if refusal != "ok"} == {State.HALF_OPEN}
    await anyio.sleep(1)
    assert [await end(breaker) for breaker in breakers] == ["ok"] * 20
    assert {breaker.state for breaker in breakers} == {State.CLOSED}


async def test_clock_that_moves_on_at_every_look_lends_no_place(clock):
    """Invariant 1: a cooldown that ends between two looks at the clock must not let a probe through unasked."""
    store = MemoryStore(clock=clock)
    times = itertools.repeat(0.0)
    breaker = process(store, lambda: next(times))
    await open_it(breaker)
    for step in (0.6, 1.7, 3.3, 9.9):
        times = itertools.count(9.5, step)
        assert (await end(breaker)).state is State.OPEN
        assert breaker.state is State.OPEN


async def test_failed_probe_opens_for_all(clock):
    """With the cooldown of a re-opening, which no process has counted alone."""
    store = MemoryStore(clock=clock)
    first, second = (process(store, clock, cooldown=growing(10, jitter=0)) for _ in range(2))
    await end(second)
    await open_it(first)
    await anyio.sleep(10)
    assert await end(second, fail) == "failed"
    refusal = await end(second)
    assert (refusal.state, refusal.retry_after) == (State.OPEN, 20)
    assert (await end(first)).retry_after == 20
    await anyio.sleep(20)
    assert await end(first, fail) == "failed"
    assert (await end(first)).retry_after == 40
    assert first.snapshot().reopens == 3
    await anyio.sleep(40)
    assert await end(first) == "ok"
    assert await end(second) == "ok"


async def test_cooldown_of_a_failed_probe_elsewhere_is_waited_for(clock):
    """However short: a process whose own count of the first one is over must not take the circuit for half-open."""
    store = MemoryStore(clock=clock)
    cooldowns = iter([10, 0.5])
    first = process(store, clock, cooldown=lambda opening: next(cooldowns))
    second = process(store, clock)
    await open_it(first)
    await end(second)
    await anyio.sleep(10)
    assert await end(first, fail) == "failed"
    refusal = await end(second)
    assert (refusal.state, refusal.retry_after) == (State.OPEN, 0.5)


async def test_store_counts_outcomes_and_ends_no_wait_too_late(clock):
    """The failures of all probes add up; without a lease, or while CLOSED, there is nothing to wait for."""
    now = 0.0
    store, terms = MemoryStore(clock=lambda: now), Terms(2, 5.0, 2, 1)
    await store.trip("db", terms, 0, 0.5, 1)
    now = 0.5
    await store.admit("db", terms, "a")
    assert await store.settle("db", terms, Probe(2, "a", "ignored", 0.0, 2)) == Reply(2, State.HALF_OPEN, 0.0, 1)
    for lease in "bc":
        await store.admit("db", terms, lease)
        reply = await store.settle("db", terms, Probe(2, lease, "failure", 0.25, 2))
    assert reply == Reply(3, State.OPEN, 0.25, 2)
    now = 0.75
    for lease in "de":
        await store.admit("db", terms, lease)
        reply = await store.settle("db", terms, Probe(4, lease, "success", 0.0, 3))
    assert reply == Reply(5, State.CLOSED, 0.0, 2)


async def test_guarded_probe_that_succeeds_closes(clock):
    """The end of the block is the success."""
    breaker = process(MemoryStore(clock=clock), clock)
    await open_it(breaker)
    await anyio.sleep(10)
    async with breaker.guard():
        pass
    assert breaker.state is State.CLOSED


@pytest.mark.parametrize("verdict", ["cancelled", "ignored"])
async def test_place_is_given_back(clock, verdict):
    """By a probe that was cancelled, and by one that says nothing."""
    store = MemoryStore(clock=clock)
    breaker = process(store, clock, ignored=ValueError)
    await open_it(breaker)
    await anyio.sleep(10)
    if verdict == "cancelled":
        with anyio.move_on_after(1):
            await breaker.call(anyio.sleep, 60)
    else:
        async with breaker.guard() as guard:
            guard.ignore()
    assert await end(breaker) == "ok"
    assert breaker.state is State.CLOSED


async def test_lease_of_a_hung_probe_expires(clock):
    """Invariant 1: its place goes to another, and its late success is nobody's business."""
    store = MemoryStore(clock=clock)
    first, second = process(store, clock), process(store, clock)
    await open_it(first)
    await anyio.sleep(10)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first.call, anyio.sleep, 8)
        await clock.advance(4.5)
        refusal = await end(second)
        assert (refusal.state, refusal.retry_after) == (State.HALF_OPEN, 0.5)
        assert (await end(second)).retry_after == pytest.approx(0.5)
        await clock.advance(0.5)
        async with second.guard():
            await clock.advance(5)
            assert store._entries["db"].state is State.HALF_OPEN
        assert store._entries["db"].state is State.HALF_OPEN


async def test_refusal_in_half_open_is_remembered_for_a_moment(clock):
    """A crowd at a closed door must not become a crowd at the store."""
    store, events = Flaky(clock=clock), []
    first, second = process(store, clock), process(store, clock, events=events)
    await open_it(first)
    await anyio.sleep(10)
    async with first.guard():
        before = store.trips
        ends = [await end(second) for _ in range(10)]
        assert store.trips == before + 1
        await anyio.sleep(1)
        ends.append(await end(second))
        assert store.trips == before + 2
    assert {refusal.state for refusal in ends} == {State.HALF_OPEN}
    assert [event.cause for event in events if isinstance(event, Transition)] == ["store_opened"]


async def test_stale_trip_changes_nothing(clock):
    """Invariant 2: the era that it was decided in is over."""
    store = MemoryStore(clock=clock)
    first, second = process(store, clock), process(store, clock)
    await end(first)
    await open_it(second)
    before = store._entries["db"].until
    await anyio.sleep(0.5)
    await open_it(first)
    assert store._entries["db"].until == before
    assert store._entries["db"].era == 1


async def test_late_end_of_a_call_is_not_told_to_the_store(clock):
    """Invariant 2: it belongs to an era that is over, and did not open the circuit."""
    store = Flaky(clock=clock)
    breaker = process(store, clock)
    async with breaker.guard():
        await open_it(breaker)
        before = store.trips
    assert store.trips == before


@pytest.mark.parametrize("fault", [ConnectionRefusedError(), "hang"], ids=repr)
async def test_works_on_without_the_store(clock, fault):
    """Invariants 3 and 4: as a local breaker, at the price of one time-out a refresh, and back by itself."""
    store, events = Flaky(clock=clock), []
    breaker = process(store, clock, events=events, options={"refresh": 5}, ramp=60)
    other = process(store, clock)
    store.fault = fault
    began = clock()
    assert await end(breaker) == "ok"
    assert clock() - began <= 0.25
    for _ in range(2):
        assert await end(breaker, fail) == "failed"
    assert (await end(breaker)).state is State.OPEN
    await anyio.sleep(10)
    assert await end(breaker) == "ok"
    assert breaker.state is State.CLOSED
    assert clock() - began <= 11
    store.fault = None
    await open_it(other)
    await anyio.sleep(5)
    assert (await end(breaker)).state is State.OPEN
    name = "TimeoutError" if fault == "hang" else "ConnectionRefusedError"
    told = [event for event in events if isinstance(event, (StoreLost, StoreBack))]
    assert told == [StoreLost("db", name), StoreBack("db")]


async def test_lost_store_is_asked_again_when_the_refresh_is_over(clock):
    """At that moment, not after it."""
    store = Flaky(clock=clock)
    store.delay, store.fault = 0, OSError()
    breaker = process(store, clock, options={"refresh": 4})
    for seconds, trips in [(0, 1), (3, 1), (1, 2)]:
        await anyio.sleep(seconds)
        await end(breaker)
        assert store.trips == trips


async def test_opens_for_all_though_its_first_look_failed(clock):
    """A store from which nothing was heard yet is taken to be as new."""
    store = Flaky(clock=clock)
    breaker, other = process(store, clock), process(store, clock)
    store.fault = OSError()
    assert await end(breaker, fail) == "failed"
    store.fault = None
    assert await end(breaker, fail) == "failed"
    assert (await end(other)).state is State.OPEN


async def test_allow_lets_all_pass_without_the_store(clock):
    """And counts nothing."""
    store = Flaky(clock=clock)
    store.fault = OSError()
    breaker = process(store, clock, options={"on_store_error": "allow"})
    for _ in range(5):
        assert await end(breaker, fail) == "failed"
        with pytest.raises(ConnectionError):
            async with breaker.guard():
                raise ConnectionError
    assert breaker.state is State.CLOSED


async def test_deny_says_to_come_back_at_once_where_the_store_took_too_long(clock):
    """The time to ask it again is over when it has been waited for longer than that."""
    store = Flaky(clock=clock)
    store.fault = "hang"
    breaker = process(store, clock, options={"on_store_error": "deny", "refresh": 0.1, "timeout": 0.25})
    assert (await end(breaker)).retry_after == 0


async def test_deny_refuses_all_without_the_store(clock):
    """Until it is asked again."""
    store = Flaky(clock=clock)
    store.fault = OSError()
    breaker = process(store, clock, options={"on_store_error": "deny", "refresh": 5})
    await end(breaker)
    await anyio.sleep(2)
    refusal = await end(breaker)
    assert (refusal.state, refusal.retry_after) == (State.CLOSED, pytest.approx(3, abs=0.01))
    store.fault = None
    await anyio.sleep(5)
    assert await end(breaker) == "ok"


async def test_store_that_lost_its_memory_is_believed(clock):
    """It was restarted: the circuit closes at the next look, and opens again by what happens then."""
    store = MemoryStore(clock=clock)
    first, second = process(store, clock), process(store, clock)
    await open_it(first)
    await anyio.sleep(1)
    assert (await end(second)).state is State.OPEN
    store._entries.clear()
    await anyio.sleep(10)
    assert await end(second) == "ok"
    await open_it(second)
    await anyio.sleep(1)
    assert (await end(first)).state is State.OPEN


async def test_events_name_the_store(clock):
    """Who reads them sees that the decision was not made here."""
    store, events = MemoryStore(clock=clock), []
    first, second = process(store, clock), process(store, clock, events=events)
    await open_it(first)
    await end(second)
    await anyio.sleep(10)
    await end(first)
    await end(second)
    assert [(event.cause, event.cooldown) for event in events if isinstance(event, Transition)] == [
        ("store_opened", 10),
        ("store_closed", None),
    ]


async def test_slow_probe_is_a_failed_probe(clock):
    """As it is without a store."""
    rules = [consecutive(2), slow_rate(1.0, slower_than=2, calls=10)]
    breaker = process(MemoryStore(clock=clock), clock, trip=rules, probes=2)
    await open_it(breaker)
    await anyio.sleep(10)
    await breaker.call(anyio.sleep, 1.5)
    await breaker.call(anyio.sleep, 2)
    assert breaker.state is State.OPEN
    assert (await end(breaker)).retry_after == 10


async def test_cooldown_sees_the_error_of_a_probe(clock):
    """What the service asks for counts for all processes."""
    store, seen = MemoryStore(clock=clock), []
    breaker = process(store, clock, cooldown=lambda opening: seen.append(opening) or 10)
    await open_it(breaker)
    await anyio.sleep(10)
    await end(breaker, fail)
    assert [(opening.reopens, type(opening.error)) for opening in seen] == [(0, ConnectionError), (1, ConnectionError)]
    await anyio.sleep(10)
    assert await end(breaker) == "ok"
    assert len(seen) == 2


async def test_manual_states_are_of_one_process(clock):
    """They need no store, and the store changes nothing about them."""
    store = Flaky(clock=clock)
    breaker, other = process(store, clock), process(store, clock)
    breaker.force("disabled")
    for _ in range(5):
        assert await end(breaker, fail) == "failed"
    assert store.trips == 0
    breaker.force("closed")
    await open_it(other)
    assert (await end(breaker)).state is State.OPEN


async def test_state_forced_while_the_store_is_asked_stays(clock):
    """The answer comes too late."""
    store = Flaky(clock=clock)
    breaker, other = process(store, clock), process(store, clock)
    await open_it(other)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end, breaker)
        await clock.advance(0)
        breaker.force("disabled")
    assert breaker.state is State.DISABLED


@pytest.mark.parametrize("how", ["call", "guard"])
async def test_nothing_of_a_failed_probe_is_kept(clock, how):
    """Without the collector, its locals die with the exception, though the cooldown policy may look at it."""

    class Local:
        pass

    kept = []

    async def failing():
        local = Local()
        kept.append(weakref.ref(local))
        raise ConnectionError

    breaker = process(MemoryStore(clock=clock), clock)
    await open_it(breaker)
    await anyio.sleep(10)
    gc.disable()
    try:
        with suppress(ConnectionError):
            if how == "call":
                await breaker.call(failing)
            else:
                async with breaker.guard():
                    await failing()
        assert kept[0]() is None
    finally:
        gc.enable()


async def test_guard_and_decorator_are_shared_too(clock):
    """Every way in leads through the store."""
    store = MemoryStore(clock=clock)
    first, second = process(store, clock), process(store, clock)
    with pytest.raises(ConnectionError):
        async with first.guard():
            raise ConnectionError
    with pytest.raises(ConnectionError):
        await first(fail)()
    assert (await end(second)).state is State.OPEN
    with pytest.raises(CircuitOpen):
        async with second.guard():
            raise AssertionError("entered")
    message = r"^a shared breaker asks its store, which takes an await; use guard\(\) or call\(\)$"
    with pytest.raises(TypeError, match=message):
        first.acquire()


async def test_middleware_takes_a_shared_breaker(clock):
    """Unchanged."""

    class Context:
        method = "tools/call"
        params = {"name": "search"}  # noqa: RUF012  # a fake

    async def call_next(ctx):
        return {"content": [], "isError": True}

    store = MemoryStore(clock=clock)
    middleware = CircuitMiddleware(process(store, clock))
    for _ in range(2):
        await middleware(Context(), call_next)
    assert (await end(process(store, clock))).state is State.OPEN
    with pytest.raises(Exception, match="circuit 'db' is open"):
        await middleware(Context(), call_next)


def test_cancelled_anywhere_no_lease_is_left():
    """Invariant 4, at every checkpoint: also while the store is asked, and while it is told.

    A task that asyncio itself cancels stops waiting for the store at once, so its lease may be left to expire.
    """

    async def scenario(victim):
        store = Flaky(clock=anyio.current_time)
        breaker = process(store, anyio.current_time)
        await open_it(breaker)
        await anyio.sleep(10)
        await victim(breaker.call, anyio.sleep, 0.5)
        return store

    def check(store):
        assert store._entries["db"].leases == {}

    sweep(scenario, check, ways=(("asyncio", "scope"), ("trio", "scope"), ("trio", "handover")))


class SyncStore:
    """As somebody writes it who forgets 'async'."""

    def admit(self, name, terms, lease): ...

    trip = settle = admit


@pytest.mark.parametrize(
    ("local", "store", "options", "error", "message"),
    [
        (CircuitBreaker(), MemoryStore(), {}, ValueError, "local to have a name, under which to share it, got <"),
        ("db", MemoryStore(), {}, TypeError, "a CircuitBreaker as local, got 'db'"),
        (CircuitBreaker, MemoryStore(), {}, TypeError, "a CircuitBreaker as local, got <class"),
        (CircuitBreaker(name="db"), None, {}, TypeError, r"async methods such as RedisStore\(client\), got None"),
        (CircuitBreaker(name="db"), MemoryStore, {}, TypeError, r"async methods such as RedisStore\(client\), got <"),
        (CircuitBreaker(name="db"), SyncStore(), {}, TypeError, r"async methods such as RedisStore\(client\), got <"),
        (CircuitBreaker(name="db"), MemoryStore(), {"refresh": 0}, ValueError, "0 < refresh < inf seconds, got 0"),
        (CircuitBreaker(name="db"), MemoryStore(), {"timeout": math.inf}, ValueError, "timeout < inf seconds, got inf"),
        (CircuitBreaker(name="db"), MemoryStore(), {"on_store_error": "close"}, ValueError, "'deny', got 'close'"),
    ],
)
def test_nonsense_is_refused(local, store, options, error, message):
    """At construction, naming the argument."""
    with pytest.raises(error, match=f"SharedCircuitBreaker needs .*{message}"):
        SharedCircuitBreaker(local, store, **options)
