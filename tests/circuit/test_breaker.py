"""The breaker around functions, blocks and tasks, as a program uses it."""

from __future__ import annotations

import functools
import gc
import inspect
import math
import weakref
from collections.abc import Awaitable, Coroutine
from contextlib import suppress
from typing import Annotated

import anyio
import pytest
from mcp_circuit import CircuitBreaker, CircuitOpen, State, consecutive, failure_rate, slow_rate

from tests.support.measure import count_instructions
from tests.support.schedule import run_shuffled
from tests.support.sweep import sweep

QUICK = {"trip": consecutive(1)}
TIMED = {"trip": failure_rate(0.5, seconds=10, min_calls=1)}
SLOW = {"trip": [consecutive(1), slow_rate(1.0, slower_than=1.0, calls=1, min_calls=1)]}
JUDGED = {"trip": consecutive(1), "failed_result": lambda result: result == "bad"}
EVERY_PATH = pytest.mark.parametrize("options", [QUICK, TIMED, SLOW, JUDGED], ids=["quick", "timed", "slow", "judged"])


async def echo(value, *, more=0):
    return value, more


async def fail(error):
    raise error


def face(breaker, fn, how):
    """Return *fn* behind one of the ways to call through a breaker."""
    if how == "call":
        return functools.partial(breaker.call, fn)
    if how == "decorator":
        return breaker(fn)

    async def guarded(*args, **kwargs):
        async with breaker.guard():
            return await fn(*args, **kwargs)

    return guarded


EVERY_FACE = pytest.mark.parametrize("how", ["call", "decorator", "guard"])


@EVERY_FACE
@EVERY_PATH
async def test_success_passes_through(how, options):
    """Invariant 1: the very result, and every argument."""
    breaker, value = CircuitBreaker(**options), object()
    assert await face(breaker, echo, how)(value, more=5) == (value, 5)
    assert (breaker.statistics().calls, breaker.statistics().failures) == (1, 0)


@EVERY_FACE
@EVERY_PATH
async def test_disabled_counts_nothing(how, options):
    """On no path."""
    breaker = CircuitBreaker(**options)
    breaker.force("disabled")
    assert await face(breaker, echo, how)(1) == (1, 0)
    with pytest.raises(ConnectionError):
        await face(breaker, fail, how)(ConnectionError())
    assert (breaker.state, breaker.statistics().calls) == (State.DISABLED, 0)


@EVERY_FACE
@EVERY_PATH
async def test_failure_passes_through_and_trips(how, options):
    """Invariant 1: the very exception, also when it is the one that opens the circuit."""
    breaker, error = CircuitBreaker(**options), ConnectionError("down")
    with pytest.raises(ConnectionError) as caught:
        await face(breaker, fail, how)(error)
    assert caught.value is error
    assert error.__context__ is None
    assert breaker.state is State.OPEN
    with pytest.raises(CircuitOpen):
        await face(breaker, fail, how)(error)


@EVERY_FACE
async def test_refusal_calls_nothing(how):
    """Invariant 3."""
    breaker = CircuitBreaker()
    breaker.force("isolated")
    with pytest.raises(CircuitOpen) as caught:
        await face(breaker, fail, how)(AssertionError("called"))
    assert caught.value.__context__ is None


@EVERY_FACE
@EVERY_PATH
async def test_cancellation_is_neither(clock, how, options):
    """Invariant 2: a client that hangs up says nothing about the service."""
    breaker = CircuitBreaker(clock=clock, **options)
    with anyio.move_on_after(5):
        await face(breaker, anyio.sleep, how)(60)
    assert breaker.state is State.CLOSED
    assert breaker.statistics().calls == 0


@EVERY_FACE
async def test_cancelled_probe_gives_its_place_back(clock, how):
    """Invariant 2: or the breaker would wait for an answer that never comes."""
    breaker = CircuitBreaker(trip=consecutive(1), cooldown=1, clock=clock)
    breaker.acquire().fail()
    await anyio.sleep(1)
    with anyio.move_on_after(5):
        await face(breaker, anyio.sleep, how)(60)
    assert (breaker.state, breaker.snapshot().in_flight) == (State.HALF_OPEN, 0)
    await face(breaker, echo, how)(1)
    assert breaker.state is State.CLOSED


async def test_hung_probe_blocks_nobody_for_longer(clock):
    """After probe_max_wait another one is let in, and what the first one brings then is nobody's business."""
    breaker = CircuitBreaker(trip=consecutive(1), cooldown=1, probe_max_wait=30, clock=clock)
    breaker.acquire().fail()
    await anyio.sleep(1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(breaker.call, anyio.sleep, 100)
        await clock.advance(29.5)
        with pytest.raises(CircuitOpen) as caught:
            breaker.acquire()
        assert (caught.value.state, caught.value.retry_after) == (State.HALF_OPEN, 0.5)
        await clock.advance(0.5)
        probe = breaker.acquire()
        await clock.advance(70)
        assert breaker.state is State.HALF_OPEN
    probe.succeed()
    assert breaker.state is State.CLOSED


async def test_fifty_callers_make_one_probe(clock):
    """The stampede of most breakers: all that wait come at once when the cooldown is over."""
    breaker = CircuitBreaker(trip=consecutive(1), cooldown=1, clock=clock)
    breaker.acquire().fail()
    called, refused = [], []

    async def caller():
        await anyio.sleep(1)
        try:
            await breaker.call(probe)
        except CircuitOpen:
            refused.append(1)

    async def probe():
        called.append(1)
        await anyio.sleep(0.1)

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(caller)
    assert (len(called), len(refused)) == (1, 49)


async def test_slow_call_of_the_closed_era_takes_no_probes_place(clock):
    """Nor does its late success close the circuit."""
    breaker = CircuitBreaker(trip=consecutive(1), cooldown=1, clock=clock)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(breaker.call, anyio.sleep, 5)
        await clock.advance(0)
        breaker.acquire().fail()
        await clock.advance(1)
        probe = breaker.acquire()
        await clock.advance(5)
        assert breaker.state is State.HALF_OPEN
    probe.fail()
    assert breaker.state is State.OPEN


@EVERY_FACE
@pytest.mark.parametrize("error", [None, ConnectionError()], ids=repr)
async def test_slow_call_trips(clock, how, error):
    """Measured around the call itself, whether it fails or not; just below the limit is fast."""
    breaker = CircuitBreaker(trip=slow_rate(1.0, slower_than=2.0, calls=1, min_calls=1), clock=clock)

    async def slow(seconds):
        await anyio.sleep(seconds)
        if error:
            raise error

    await anyio.sleep(100)
    for seconds, state in [(1.9, State.CLOSED), (2.0, State.OPEN)]:
        with suppress(ConnectionError):
            await face(breaker, slow, how)(seconds)
        assert breaker.state is state
        assert breaker.statistics().calls == seconds // 1


@EVERY_FACE
async def test_slow_failing_result_trips(clock, how):
    """The time counts also where the result has already said that it failed."""
    rules = [slow_rate(1.0, slower_than=2.0, calls=1, min_calls=1), consecutive(2)]
    breaker = CircuitBreaker(trip=rules, clock=clock, failed_result=bool)

    async def slow(seconds):
        await anyio.sleep(seconds)
        return True

    await anyio.sleep(100)
    await breaker(slow)(1.0)
    assert breaker.state is State.CLOSED
    await breaker(echo)("a success of a sort", more=0)
    breaker.force("closed")
    await breaker(slow)(2.0)
    assert breaker.state is State.OPEN


@EVERY_FACE
async def test_quick_call_at_an_edge_is_not_slow(clock, how):
    """Where the window has to move on, the time of the call is still its own."""
    breaker = CircuitBreaker(trip=slow_rate(1.0, slower_than=2.0, seconds=10, min_calls=1), clock=clock)
    await anyio.sleep(100)
    await face(breaker, anyio.sleep, how)(1.5)
    assert (breaker.state, breaker.statistics().calls) == (State.CLOSED, 1)


@pytest.mark.parametrize(
    ("options", "reads"), [(QUICK, 0), (JUDGED, 0), (TIMED, 1), (SLOW, 2)], ids=["quick", "judged", "timed", "slow"]
)
async def test_success_reads_the_clock_no_oftener_than_its_rules_need(options, reads):
    """A third of the cost of a guarded call, where it can be spared."""
    read = []
    guarded = CircuitBreaker(clock=lambda: read.append(1) or 100.0, **options)(echo)
    await guarded(1)
    before = len(read)
    await guarded(1)
    assert len(read) - before == reads


@pytest.mark.parametrize("how", ["call", "decorator"])
async def test_window_moves_on_at_its_edge(clock, how):
    """A success at the very end of a slot belongs to the next one."""
    breaker = CircuitBreaker(trip=failure_rate(1.0, seconds=10, min_calls=1), clock=clock)
    for _ in range(3):
        await face(breaker, echo, how)(1)
    await anyio.sleep(1)
    await face(breaker, echo, how)(1)
    assert breaker.core.machine.era.edge == 2
    await anyio.sleep(9.5)
    with pytest.raises(ConnectionError):
        await face(breaker, fail, how)(ConnectionError())
    assert breaker.state is State.CLOSED
    await anyio.sleep(0.5)
    with pytest.raises(ConnectionError):
        await face(breaker, fail, how)(ConnectionError())
    assert breaker.state is State.OPEN


@EVERY_FACE
async def test_cooldown_sees_the_error(how):
    """Whichever way the call was made."""
    seen, error = [], ConnectionError()
    breaker = CircuitBreaker(trip=consecutive(1), cooldown=lambda opening: seen.append(opening.error) or 1)
    with pytest.raises(ConnectionError):
        await face(breaker, fail, how)(error)
    assert seen == [error]


@EVERY_FACE
@EVERY_PATH
async def test_successes_are_counted_one_by_one(how, options):
    """The second does not replace the first."""
    breaker = CircuitBreaker(**options)
    for _ in range(3):
        await face(breaker, echo, how)(1)
    assert breaker.statistics().calls == 3


@pytest.mark.parametrize("how", ["call", "decorator"])
async def test_arguments_reach_a_probe(how):
    """As they do while closed."""
    now = 0.0
    breaker = CircuitBreaker(trip=consecutive(1), cooldown=1, clock=lambda: now)
    breaker.acquire().fail()
    now = 1.0
    assert await face(breaker, echo, how)("a", more="b") == ("a", "b")


@pytest.mark.parametrize("how", ["call", "decorator"])
async def test_result_counts_as_failure(how):
    """And reaches the caller all the same."""
    breaker = CircuitBreaker(**JUDGED)
    assert await face(breaker, echo, how)("good") == ("good", 0)

    async def bad():
        return "bad"

    assert await face(breaker, bad, how)() == "bad"
    assert breaker.state is State.OPEN


async def test_guard_can_decide_for_itself():
    """What was decided inside the block stands, however the block ends."""
    breaker = CircuitBreaker(trip=consecutive(1))
    async with breaker.guard() as guard:
        guard.ignore()
    with suppress(ConnectionError):
        async with breaker.guard() as guard:
            guard.ignore()
            raise ConnectionError
    assert breaker.statistics().calls == 0
    async with breaker.guard() as guard:
        guard.fail()
    assert breaker.state is State.OPEN


async def test_guard_is_for_one_block():
    """Kept and used by two tasks, it would settle one call twice and the other never."""
    guard = CircuitBreaker().guard()
    async with guard:
        with pytest.raises(RuntimeError, match=r"^a guard is for one block; call guard\(\) again for each$"):
            await guard.__aenter__()


@EVERY_FACE
@EVERY_PATH
async def test_nothing_of_a_failed_call_is_kept(anyio_backend, how, options):
    """Invariant 1: without the collector, its locals die with the exception."""

    class Local:
        pass

    kept = []

    async def failing():
        local = Local()
        kept.append(weakref.ref(local))
        raise ConnectionError

    breaker = CircuitBreaker(**options)
    gc.disable()
    try:
        with pytest.raises(ConnectionError):
            await face(breaker, failing, how)()
        del failing
        assert kept[0]() is None
    finally:
        gc.enable()


@pytest.mark.uninstrumented
@pytest.mark.parametrize("how", ["call", "decorator"])
async def test_traceback_has_few_lines_of_ours(how):
    """A reader of a log looks for their own code."""
    breaker = CircuitBreaker(**QUICK)
    with pytest.raises(ConnectionError) as caught:
        await face(breaker, fail, how)(ConnectionError())
    ours = [entry for entry in caught.traceback if str(entry.path) != __file__]
    assert len(ours) == (1 if how == "decorator" else 2)


async def test_fallback_answers_for_refusals_only():
    """With the refusal and the arguments; errors and another breaker's refusals pass."""
    breaker, inner = CircuitBreaker(trip=consecutive(1)), CircuitBreaker()
    inner.force("isolated")

    async def cached(refusal, value, *, more=0):
        return "cached", refusal.state, value, more

    @breaker.with_fallback(cached)
    async def load(value, *, more=0):
        return await (inner.call(echo, value) if value == "inner" else fail(value) if more else echo(value))

    assert await load(1) == (1, 0)
    with pytest.raises(CircuitOpen):
        await load("inner")
    with pytest.raises(ConnectionError):
        await load(ConnectionError(), more=1)
    assert await load(2, more=3) == ("cached", State.OPEN, 2, 3)
    assert list(inspect.signature(load).parameters) == ["value", "more"]


async def test_fallback_keeps_nothing(anyio_backend):
    """The refusal has a traceback, which has the frame, which must not have the refusal."""
    refusals = []

    async def cached(refusal):
        refusals.append(refusal)

    breaker = CircuitBreaker()
    breaker.force("isolated")

    @breaker.with_fallback(cached)
    async def load():
        raise AssertionError("called")

    await load()
    assert refusals[0].__traceback__ is None


async def test_decorator_keeps_the_signature_of_functions_and_methods():
    """Frameworks read it; and a method is still bound."""
    breaker = CircuitBreaker()

    class Client:
        @breaker
        async def get(self, path: str, retries: int = 3) -> bytes:
            """Fetch it."""
            return path.encode() * retries

    assert await Client().get("a", retries=2) == b"aa"
    assert str(inspect.signature(Client.get)) == "(self, path: str, retries: int = 3) -> bytes"
    assert (Client.get.__name__, Client.get.__doc__) == ("get", "Fetch it.")
    assert inspect.iscoroutinefunction(Client.get)


def test_signature_is_resolved_for_frameworks():
    """Names are looked up where the function was written; what cannot be found stays as it is."""
    breaker = CircuitBreaker()

    @breaker
    async def known(limit: Annotated[int, "at most"]) -> int: ...

    @breaker
    async def unknown(limit: Missing) -> int: ...  # noqa: F821  # a name for type checkers alone

    @breaker
    async def bare(limit): ...

    assert known.__annotations__ == {"limit": Annotated[int, "at most"], "return": int}
    assert inspect.signature(known).return_annotation is int
    assert inspect.signature(known).parameters["limit"].annotation == Annotated[int, "at most"]
    assert unknown.__annotations__ == {"limit": "Missing", "return": "int"}
    assert inspect.signature(bare).return_annotation is inspect.Signature.empty
    assert not hasattr(known, "__wrapped__")


async def test_whatever_can_be_awaited_may_be_called():
    """A partial, an object with an async __call__, a plain function that returns a coroutine."""
    breaker = CircuitBreaker()

    class Caller:
        async def __call__(self, value):
            return value

    def plain(value) -> Awaitable[object]:
        return echo(value)

    def coroutine(value) -> Coroutine[object, object, object]:
        return echo(value)

    assert await breaker.call(lambda: echo(1)) == (1, 0)
    assert await breaker(functools.partial(echo, 2))() == (2, 0)
    assert await breaker(Caller())(3) == 3
    assert await breaker(plain)(4) == (4, 0)
    assert await breaker(coroutine)(5) == (5, 0)


def sync():
    pass


async def items():
    yield 1


class Plain:
    def __call__(self):
        pass


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (sync, "sync is not async; did you forget 'async def'?"),
        (Plain.__call__, "Plain.__call__ is not async; did you forget 'async def'?"),
        (5, "5 is not async; did you forget 'async def'?"),
        (None, "None is not async; did you forget 'async def'?"),
        (items, "items is not a call that ends in a result; guard what it does with breaker.guard()"),
        (Plain, "Plain is not a call that ends in a result; guard what it does with breaker.guard()"),
    ],
)
@pytest.mark.parametrize("how", ["decorator", "fallback"])
def test_what_cannot_be_awaited_is_refused(fn, message, how):
    """At decoration, and with the likely slip."""
    breaker = CircuitBreaker()
    with pytest.raises(TypeError) as caught:
        breaker(fn) if how == "decorator" else breaker.with_fallback(fn)
    assert str(caught.value) == message


@pytest.mark.parametrize("state", ["closed", "isolated", "disabled", "observing"])
def test_force(state):
    """From any state, also from itself."""
    breaker = CircuitBreaker()
    breaker.force(state)
    breaker.force(state)
    assert breaker.state == state
    assert repr(breaker) == f"<CircuitBreaker '' {state}>"


@pytest.mark.parametrize("state", ["open", "half_open", "OPEN", "", None, 5, []], ids=repr)
def test_force_refuses_an_unknown_state(state):
    """And leaves the breaker as it was."""
    breaker = CircuitBreaker()
    with pytest.raises(ValueError, match="force needs one of closed, isolated, disabled, observing, got"):
        breaker.force(state)
    assert breaker.state is State.CLOSED


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"probes": 0}, ValueError, "probes >= 1, got 0"),
        ({"probes": 1.0}, TypeError, "int as probes, got 1.0"),
        ({"probe_concurrency": 0}, ValueError, "probe_concurrency >= 1, got 0"),
        ({"probe_concurrency": True}, TypeError, "int as probe_concurrency, got True"),
        ({"probe_ratio": 0}, ValueError, "0 < probe_ratio <= 1, got 0"),
        ({"probe_ratio": 1.5}, ValueError, "0 < probe_ratio <= 1, got 1.5"),
        ({"probe_ratio": math.nan}, ValueError, "probe_ratio <= 1, got nan"),
        ({"probe_max_wait": 0}, ValueError, "0 < probe_max_wait < inf seconds, got 0"),
        ({"probe_max_wait": math.inf}, ValueError, "probe_max_wait < inf seconds, got inf"),
        ({"forgive_after": -1}, ValueError, "0 < forgive_after < inf seconds, got -1"),
        ({"ramp": -1}, ValueError, "0 <= ramp < inf seconds, got -1"),
        ({"ramp": math.nan}, ValueError, "0 <= ramp < inf seconds, got nan"),
        ({"ramp": "1"}, TypeError, "number as ramp, got '1'"),
        ({"on_event": "print"}, TypeError, "callable as on_event, got 'print'"),
        ({"on_event": ""}, TypeError, "callable as on_event, got ''"),
        ({"clock": 5}, TypeError, "callable as clock, got 5"),
        ({"clock": None}, TypeError, "callable as clock, got None"),
    ],
)
def test_nonsense_is_refused(options, error, message):
    """At construction, naming the argument and the value."""
    with pytest.raises(error, match=f"CircuitBreaker needs .*{message}"):
        CircuitBreaker(**options)


def test_ramp_of_zero_is_none():
    """The default, spelt out."""
    CircuitBreaker(ramp=0)


@EVERY_FACE
@EVERY_PATH
def test_cancelled_anywhere_nothing_is_left(how, options):
    """Invariant 2, at every checkpoint, on asyncio and trio: no place is kept, and the next probe closes."""

    async def scenario(victim):
        breaker = CircuitBreaker(**options, cooldown=1, clock=anyio.current_time)
        breaker.acquire().fail()
        await anyio.sleep(1)
        await victim(face(breaker, anyio.sleep, how), 0.5)
        return breaker

    def check(breaker):
        if breaker.state is State.HALF_OPEN:
            assert breaker.snapshot().in_flight == 0
            breaker.acquire().succeed()
        assert breaker.state is State.CLOSED

    sweep(scenario, check)


@EVERY_PATH
def test_any_order_of_tasks(options):
    """Twenty orders of forty callers of a service that fails for a while: never two probes, and closed in the end."""

    async def scenario():
        breaker = CircuitBreaker(**options, cooldown=1, clock=anyio.current_time)
        probing = 0

        async def service():
            nonlocal probing
            is_probe = breaker.state is State.HALF_OPEN
            probing += is_probe
            assert probing <= 1
            try:
                await anyio.sleep(0.1)
                if anyio.current_time() < 3:
                    raise ConnectionError
            finally:
                probing -= is_probe

        async def caller(start):
            for _ in range(12):
                await anyio.sleep(0.3 + start)
                with suppress(ConnectionError, CircuitOpen):
                    await breaker.call(service)

        async with anyio.create_task_group() as tasks:
            for number in range(40):
                tasks.start_soon(caller, number % 4 / 20)
        return breaker.state

    assert set(run_shuffled(scenario)) == {State.CLOSED}


@pytest.mark.uninstrumented
@pytest.mark.parametrize(("options", "limit"), [(QUICK, 40), (TIMED, 55)], ids=["quick", "timed"])
def test_work_of_a_success(options, limit):
    """The gate of the hot path: bytecodes added to a bare call, which do not depend on the machine's load."""

    async def noop():
        return None

    guarded = CircuitBreaker(clock=lambda: 0.0, **options)(noop)
    assert count_instructions(guarded) - count_instructions(noop) <= limit


@pytest.mark.uninstrumented
def test_work_does_not_grow_with_the_window():
    """Ten seconds, or an hour, or the last million calls."""

    async def noop():
        return None

    rules = [failure_rate(0.5, seconds=seconds, min_calls=1) for seconds in (10, 3600)]
    assert len({count_instructions(CircuitBreaker(trip=rule, clock=lambda: 0.0)(noop)) for rule in rules}) == 1
    rules = [failure_rate(0.5, calls=calls, min_calls=10) for calls in (10, 10**6)]
    assert len({count_instructions(CircuitBreaker(trip=rule)(noop)) for rule in rules}) == 1
