"""Retry as an object, a decorator and around a block."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import logging
import math
import operator
import random
import sys
import traceback
import typing
import weakref
from types import SimpleNamespace

import anyio
import pytest
from anyio.lowlevel import checkpoint
from mcp_retry import (
    AttemptFailed,
    AttemptTimeout,
    Backoff,
    Budget,
    BudgetRefused,
    Fallback,
    GaveUp,
    Hedge,
    Recovered,
    Retry,
    RetryMiddleware,
    Sleeping,
    Throttle,
    Throttled,
    constant,
    exponential,
)

needs_notes = pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no notes on exceptions")
BIG = Budget(burst=1_000_000)


class Naps:
    """A sleep that takes no time and remembers."""

    def __init__(self):
        self.seconds = []

    async def __call__(self, seconds):
        self.seconds.append(seconds)
        await checkpoint()


class Flaky:
    """Fails so many times with what it is given, then returns how often it was called."""

    def __init__(self, failures, error=ConnectionError):
        self.failures = failures
        self.error = error
        self.calls = 0

    async def __call__(self, *args, **kwargs):
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return self.calls


def make(**options):
    """A retry without waiting or chance."""
    return Retry(**{"on": ConnectionError, "backoff": constant(1, jitter="none"), "sleep": Naps(), **options})


async def test_success_at_once():
    """Nothing happens that can be seen."""
    events = []
    retry = make(on_event=events.append)
    assert await retry.call(Flaky(0)) == 1
    assert (events, retry._settings.sleep.seconds) == ([], [])


async def test_success_reads_no_clock():
    """Nor does it draw a number: what only a failure needs is not made before."""
    retry = make(clock=lambda: pytest.fail("read"), random=lambda: pytest.fail("drawn"))
    assert await retry(Flaky(0))() == await retry.call(Flaky(0)) == 1


async def test_success_later():
    """The first good result is returned, and nothing afterwards is called."""
    flaky = Flaky(2)
    assert await make().call(flaky, 1, two=2) == 3
    assert flaky.calls == 3


@pytest.mark.parametrize("options", [{}, {"on_result": lambda result: False}, {"attempt_timeout": 9}])
@pytest.mark.parametrize(("args", "kwargs"), [((), {}), ((1, 2), {}), ((1,), {"two": 2}), ((), {"two": 2})])
async def test_arguments_reach_every_attempt(options, args, kwargs):
    """Each of the loops, with and without keywords."""
    seen = []

    async def fn(*args, **kwargs):
        seen.append((args, kwargs))
        if len(seen) < 3:
            raise ConnectionError

    await make(**options)(fn)(*args, **kwargs)
    await make(**options).call(fn, *args, **kwargs)
    assert seen == [(args, kwargs)] * 4


async def test_1_attempts_are_limited():
    """Invariant 1; the failure is the last one itself."""
    flaky = Flaky(9)
    retry = make(attempts=4)
    with pytest.raises(ConnectionError):
        await retry.call(flaky)
    assert flaky.calls == 4
    assert retry._settings.sleep.seconds == [1, 1, 1]


async def test_other_failures_pass():
    """What is not named must not be repeated."""
    flaky = Flaky(9, ValueError)
    with pytest.raises(ValueError) as caught:
        await make().call(flaky)
    assert flaky.calls == 1
    assert not hasattr(caught.value, "__notes__")


async def test_failure_is_the_last_one_itself():
    """No wrapper around it, nothing attached but notes."""
    errors = [ConnectionError(number) for number in range(3)]
    left = iter(errors)

    async def fail():
        raise next(left)

    with pytest.raises(ConnectionError) as caught:
        await make().call(fail)
    assert caught.value is errors[2]
    assert caught.value.__cause__ is caught.value.__context__ is None


@needs_notes
async def test_notes_tell_the_attempts():
    """One a attempt: what was raised, how long it waited, why it ended."""
    with pytest.raises(ConnectionError) as caught:
        await make(backoff=[0.25, 2]).call(Flaky(9))
    assert caught.value.__notes__ == [
        "retry: attempt 1 raised ConnectionError, then waited 0.25 s",
        "retry: attempt 2 raised ConnectionError, then waited 2 s",
        "retry: attempt 3 raised ConnectionError, then gave up: attempts",
    ]


@needs_notes
async def test_notes_of_a_failure_that_came_later():
    """A failure that is not retried still tells that it was not the first attempt."""
    errors = iter([ConnectionError(), ValueError()])

    async def fail():
        raise next(errors)

    with pytest.raises(ValueError) as caught:
        await make().call(fail)
    assert caught.value.__notes__[1:] == ["retry: attempt 2 raised ValueError, then gave up: not retryable"]


@needs_notes
async def test_notes_of_a_refused_result():
    """What was returned is not shown: it may be long, or secret."""
    answers = iter(["secret"])

    async def answer_once():
        for answer in answers:
            return answer
        raise ConnectionError

    with pytest.raises(ConnectionError) as caught:
        await make(on_result=lambda result: True, attempts=2).call(answer_once)
    assert caught.value.__notes__ == [
        "retry: attempt 1 returned a value to be retried, then waited 1 s",
        "retry: attempt 2 raised ConnectionError, then gave up: attempts",
    ]


@needs_notes
async def test_notes_are_bounded():
    """A call that goes on for days must not collect for days."""
    with pytest.raises(ConnectionError) as caught:
        await make(attempts=250, budget=False).call(Flaky(999))
    assert len(caught.value.__notes__) == 100
    assert caught.value.__notes__[-1].startswith("retry: attempt 250")


@pytest.mark.uninstrumented
async def test_5_one_frame_is_added():
    """Invariant 5: the reader of a traceback looks for his own code."""

    @make()
    async def decorated():
        raise ConnectionError

    async def plain():
        raise ConnectionError

    @make(max_elapsed=5)
    async def timed():
        raise ConnectionError

    @make()
    async def generator():
        raise ConnectionError
        yield

    def failing(ctx):
        return plain()

    def through(middleware, method="prompts/list"):
        return lambda: middleware(SimpleNamespace(method=method), failing)

    hedged, fallback = Hedge(after=1), Fallback(on=ValueError, value=None)
    for call, added in [
        (decorated, 1),
        (lambda: make().call(plain), 1),
        (timed, 1),
        (lambda: make(on_result=bool).call(plain), 1),
        (through(RetryMiddleware(make())), 1),
        (through(RetryMiddleware(make(max_elapsed=5))), 1),
        (through(RetryMiddleware(make(attempt_timeout=5))), 1),
        (through(RetryMiddleware(make(throttle=Throttle()))), 1),
        (through(RetryMiddleware(make(), hedge=hedged)), 1),
        (through(RetryMiddleware(make(), hedge=hedged), "tools/call"), 1),
        (hedged(plain), 1),
        (lambda: hedged.call(plain), 1),
        (fallback(plain), 1),
        (lambda: fallback.call(plain), 1),
        (lambda: anext(generator()), 1),
    ]:
        with pytest.raises(ConnectionError) as caught:
            await call()
        assert len(traceback.extract_tb(caught.value.__traceback__)) == 2 + added


async def test_5_nothing_of_a_failed_attempt_is_kept():
    """Invariant 5: with the collector off, the locals of each attempt are gone when the next begins."""

    class Local:
        pass

    kept = []

    async def fail():
        local = Local()
        assert [reference() for reference in kept] == [None] * len(kept)
        kept.append(weakref.ref(local))
        raise ConnectionError

    async def block(retry):
        async for attempt in retry:
            async with attempt:
                await fail()

    async def generator():
        await fail()
        yield

    async def first(retry):
        return await anext(retry(generator)())

    gc.disable()
    try:
        for options in ({}, {"attempt_timeout": 9}, {"on_event": lambda event: None}, {"on_result": bool}):
            retry = make(**options)
            for call in (retry(fail), functools.partial(block, retry), functools.partial(first, retry)):
                kept.clear()
                with pytest.raises(ConnectionError):
                    await call()
                assert len(kept) == 3
                assert kept[2]() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("error", [asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("options", [{}, {"max_elapsed": 5}, {"on_result": lambda result: False}])
async def test_3_what_is_no_exception_passes(error, options):
    """Invariant 3: a predicate that names what is *not* retried is the usual trap."""
    flaky = Flaky(9, error)
    retry = make(on=lambda error: not isinstance(error, ValueError), **options)
    outcome = None
    try:
        await retry.call(flaky)
    except BaseException as raised:  # noqa: BLE001  # pytest.raises cannot take a cancellation on every backend
        outcome = type(raised)
    assert (outcome, flaky.calls) == (error, 1)


@pytest.mark.parametrize("options", [{}, {"max_elapsed": 50}, {"attempt_timeout": 50}])
@pytest.mark.parametrize(("cancelled_at", "calls"), [(2, 1), (3.5, 1), (5, 2)])
async def test_3_cancelled_call_is_cancelled(clock, options, cancelled_at, calls):
    """Invariant 3, for real: during an attempt, during a sleep, and during the next attempt."""
    began = []

    async def slow():
        began.append(clock())
        await anyio.sleep(3)
        raise ConnectionError

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(make(on=lambda error: True, sleep=anyio.sleep, clock=clock, **options).call, slow)
        await clock.advance(cancelled_at)
        tasks.cancel_scope.cancel()
    assert (clock(), len(began)) == (cancelled_at, calls)


async def test_1_sleep_never_passes_an_enclosing_deadline(clock):
    """Invariant 1: the deadline of the caller is seen beforehand, and the failure comes at once."""
    flaky = Flaky(9)
    with anyio.fail_after(2.5), pytest.raises(ConnectionError):
        await make(attempts=9, sleep=anyio.sleep).call(flaky)
    assert (flaky.calls, clock()) == (3, 2)


async def test_1_sleep_never_passes_max_elapsed(clock):
    """Invariant 1: what cannot be done in time is not waited for."""
    flaky, events = Flaky(9), []
    clocks = {"clock": lambda: 1_000 + clock(), "sleep": anyio.sleep}  # a clock may begin anywhere
    retry = make(attempts=None, max_elapsed=3, on_event=events.append, **clocks)
    with pytest.raises(ConnectionError):
        await retry.call(flaky)
    assert (flaky.calls, clock()) == (3, 2)  # a third sleep would end with the time
    assert events[-1] == GaveUp(3, "deadline", ConnectionError)


async def test_1_max_elapsed_cuts_off_a_hung_attempt(clock):
    """Invariant 1: the limit holds for the attempt too."""
    calls = []

    async def hang():
        calls.append(clock())
        if len(calls) == 1:
            raise ConnectionError
        await anyio.sleep_forever()

    with pytest.raises(AttemptTimeout) as caught:
        await make(max_elapsed=5, sleep=anyio.sleep, clock=clock).call(hang)
    assert (clock(), calls, caught.value.seconds) == (5, [0, 1], 4)
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert isinstance(caught.value, TimeoutError)


async def test_attempt_timeout_is_worth_another_attempt(clock):
    """It was asked for in order to try again."""
    calls = []

    async def hang_once():
        calls.append(clock())
        if len(calls) == 1:
            await anyio.sleep_forever()
        return "answer"

    retry = make(attempt_timeout=2, sleep=anyio.sleep, clock=clock)
    assert await retry.call(hang_once) == "answer"
    assert calls == [0, 3]
    with pytest.raises(AttemptTimeout, match="no answer within 2 s"):
        await retry.call(anyio.sleep_forever)


async def test_the_callees_own_timeout_is_not_replaced(clock):
    """A TimeoutError of the function means what the function says."""
    own = TimeoutError("mine")

    async def fail():
        raise own

    with pytest.raises(TimeoutError) as caught:
        await make(attempt_timeout=2, max_elapsed=9).call(fail)
    assert caught.value is own


async def test_nested_deadlines_only_shorten(clock):
    """The inner retry sees the outer one's limit, and does not sleep past it."""
    inner = make(attempts=None, max_elapsed=60, sleep=anyio.sleep, clock=clock, budget=BIG)
    outer = make(attempts=1, max_elapsed=3.5, clock=clock)
    flaky = Flaky(99)
    with pytest.raises(ConnectionError):
        await outer.call(inner.call, flaky)
    assert (clock(), flaky.calls) == (3, 4)


async def test_2_budget_is_on_by_default():
    """Invariant 2: ten retries at once, and then one for each ten calls."""
    retry, sent = make(attempts=2), Flaky(10_000)
    for _ in range(200):
        with pytest.raises(ConnectionError):
            await retry.call(sent)
    statistics = retry.statistics()
    assert statistics.budget.calls == 200
    assert statistics.retries == statistics.budget.spent <= 10 + 20 + 1
    assert statistics.budget_refusals == statistics.budget.refused >= 169


async def test_2_refusal_is_known_before_the_sleep():
    """Invariant 2: nobody waits for nothing."""
    events, naps = [], Naps()
    budget = Budget(burst=1, floor=0)
    budget.spend()
    retry = make(budget=budget, sleep=naps, on_event=events.append)
    with pytest.raises(ConnectionError):
        await retry.call(Flaky(1))
    assert naps.seconds == []
    assert events[-2:] == [BudgetRefused(1), GaveUp(1, "budget", ConnectionError)]


async def test_shared_budget():
    """Two retries that call the same server spend from one purse, and both pay in."""
    budget = Budget(burst=1, floor=0, ratio=0.5)
    one, two = make(budget=budget), make(budget=budget)
    assert await one.call(Flaky(1)) == 2
    with pytest.raises(ConnectionError):
        await two.call(Flaky(1))
    assert await one.call(Flaky(1)) == 2  # paid by the three calls
    assert budget.statistics().calls == 3


async def test_without_budget():
    """For those who know better."""
    retry = make(budget=False, attempts=1_000)
    assert await retry.call(Flaky(999)) == 1_000
    assert retry.statistics().budget is None


async def test_4_calls_do_not_share_their_backoff():
    """Invariant 4: forty calls at once wait as one does."""
    naps = {}

    async def sleep(seconds):
        naps.setdefault(anyio.get_current_task().id, []).append(seconds)
        await checkpoint()

    retry = make(attempts=4, backoff=Backoff([1, 2, 4]), sleep=sleep, budget=False)

    async def call():
        with pytest.raises(ConnectionError):
            await retry.call(Flaky(9))

    async with anyio.create_task_group() as tasks:
        for _ in range(40):
            tasks.start_soon(call)
    assert list(naps.values()) == [[1, 2, 4]] * 40


async def test_hint_comes_before_the_backoff():
    """The other side's wish, clamped, with the backoff on top so that not all return together."""
    error = ConnectionError()
    naps = Naps()
    for hint in (5, 500, math.nan, -1):
        error.retry_after = hint
        with pytest.raises(ConnectionError):
            await make(attempts=2, retry_after_cap=20, sleep=naps).call(Flaky(9, error))
    assert naps.seconds == [6, 21, 1, 1]


async def test_hint_is_no_part_of_the_backoff():
    """Decorrelated waits grow from the last wait, not from what a server asked for."""
    error = ConnectionError()
    error.retry_after = 50
    naps = Naps()
    backoff = exponential(0.5, cap=100, jitter="decorrelated")
    with pytest.raises(ConnectionError):
        await make(backoff=backoff, random=lambda: 0.5, sleep=naps).call(Flaky(9, error))
    assert naps.seconds == [50 + 1, 50 + 1.75]


async def test_hint_of_a_refused_result():
    """An answer may say when to come back as well."""
    naps = Naps()
    busy = SimpleNamespace(retry_after=4)

    async def server():
        return busy

    assert await make(on_result=lambda result: result is busy, sleep=naps).call(server) is busy
    assert naps.seconds == [5, 5]


async def test_own_reader_of_hints():
    """For a protocol of one's own; its nonsense is ignored too."""
    naps = Naps()
    hints = []
    for answer in (4, 0.5, 0, None, -1, math.inf, math.nan):
        events = []
        retry = make(retry_after=lambda error, answer=answer: answer, sleep=naps, on_event=events.append)
        assert await retry.call(Flaky(1)) == 2
        hints.append(events[1].hint)
    assert naps.seconds == [5, 1.5, 1, 1, 1, 1, 1]
    assert hints == [4, 0.5, 0, None, None, None, None]


@pytest.mark.parametrize("name", ["backoff", "retry_after"])
async def test_faulty_function_of_the_user_does_not_mask_the_failure(name):
    """It means: do not retry; on Python 3.11 and later a note says so."""
    flaky, events = Flaky(9), []
    for options in ({}, {"on_result": lambda result: False}):
        with pytest.raises(ConnectionError) as caught:
            await make(**{name: lambda value: 1 // 0}, on_event=events.append, **options).call(flaky)
        assert flaky.calls == 1
        assert events[-1] == GaveUp(1, "not retryable", ConnectionError)
        if sys.version_info >= (3, 11):
            assert caught.value.__notes__[0].endswith("raised ZeroDivisionError: integer division or modulo by zero")
        flaky.calls = 0


async def test_faulty_function_of_the_user_after_a_refused_result():
    """There is no error to note it on; the result is returned."""
    assert await make(on_result=bool, retry_after=lambda value: 1 // 0).call(Flaky(0)) == 1


async def test_results_can_be_refused():
    """An answer may be a failure; when all is used up, it is returned as it is."""
    flaky = Flaky(0)
    retry = make(on_result=lambda result: result < 3)
    assert await retry.call(flaky) == 3
    assert await make(on_result=lambda result: True, attempts=2).call(flaky) == 5
    assert retry.statistics().recovered == 1


async def test_refused_result_then_failure():
    """The attempts of a call are counted together."""
    answers = iter([None, ConnectionError(), "answer"])

    async def mixed():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert await make(on_result=lambda result: result is None).call(mixed) == "answer"


async def test_faulty_predicate_on_results_means_good(caplog):
    """The caller gets the answer, the operator the traceback."""
    with caplog.at_level(logging.ERROR):
        assert await make(on_result=lambda result: result.missing).call(Flaky(0)) == 1
    message = "on_result failed; its result is returned as it is"
    assert caplog.record_tuples == [("mcp_retry.retry", logging.ERROR, message)]
    assert "AttributeError" in caplog.text


async def test_events_tell_the_story():
    """Typed, in order, without exceptions that would keep what they have seen."""
    events = []
    await make(on_event=events.append).call(Flaky(1))
    assert events == [AttemptFailed(1, ConnectionError), Sleeping(1, 1.0, None), Recovered(2)]
    events.clear()
    error = ConnectionError()
    error.retry_after = 2
    with pytest.raises(ConnectionError):
        await make(on_event=events.append, attempts=2).call(Flaky(9, error))
    assert events[1:] == [
        Sleeping(1, 3.0, 2.0),
        AttemptFailed(2, ConnectionError),
        GaveUp(2, "attempts", ConnectionError),
    ]
    events.clear()
    await make(on_event=events.append, on_result=bool, attempts=1).call(Flaky(0))
    assert events == [AttemptFailed(1, None), GaveUp(1, "attempts", None)]


async def test_faulty_listener_changes_nothing(caplog):
    """What listens must not be able to break what it listens to."""

    def listen(event):
        raise RuntimeError("deaf")

    with caplog.at_level(logging.ERROR):
        assert await make(on_event=listen).call(Flaky(1)) == 2
    message = f"on_event failed for {AttemptFailed(1, ConnectionError)}"
    assert caplog.record_tuples[0] == ("mcp_retry.events", logging.ERROR, message)


async def test_throttle_holds_back_first_attempts():
    """While nothing is accepted, most calls are not sent; business errors count as answers."""
    draws = random.Random(1)
    throttle = Throttle(k=1.5, random=draws.random)
    retry, flaky = make(throttle=throttle, attempts=1), Flaky(10_000)
    dropped = 0
    for _ in range(300):
        try:
            await retry.call(flaky)
        except Throttled:
            dropped += 1
        except ConnectionError:
            pass
    assert dropped == retry.statistics().throttled > 250
    assert flaky.calls == 300 - dropped
    healthy = make(throttle=Throttle())
    for error in (None, ValueError):
        for _ in range(50):
            try:
                await healthy.call(Flaky(int(error is not None), error))
            except ValueError:
                continue
    assert healthy.statistics().throttled == 0


async def test_being_cut_off_is_no_answer(clock):
    """Whatever limit it was: the server has accepted nothing."""
    for limit in ({"max_elapsed": 1}, {"attempt_timeout": 1, "attempts": 1}):
        throttle = Throttle(clock=lambda: 0.0, random=lambda: 1.0)
        with pytest.raises(AttemptTimeout):
            await make(throttle=throttle, clock=clock, **limit).call(anyio.sleep_forever)
        assert throttle.probability == 0.5


async def test_throttle_is_asked_before_a_retry():
    """A retry that would be held back is not waited for, and costs no token."""
    events, draws = [], iter([0.9, 0.0, 0.9, 0.0])
    retry = make(throttle=Throttle(random=lambda: next(draws)), on_event=events.append)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            await retry.call(Flaky(9))
        assert events[-1] == GaveUp(1, "throttle", ConnectionError)
    assert (retry.statistics().budget.spent, retry.statistics().throttled) == (0, 2)


async def test_cancelled_call_says_nothing_of_the_server(clock):
    """Neither success nor failure: clients that give up must not make the others hold back."""
    throttle = Throttle(clock=lambda: 0.0, random=lambda: 1.0)
    for _ in range(5):
        with anyio.move_on_after(1):
            await make(throttle=throttle).call(anyio.sleep_forever)
        with anyio.move_on_after(1):
            async for attempt in make(throttle=throttle):
                async with attempt:
                    await anyio.sleep_forever()
    assert throttle.probability == 0


@pytest.mark.parametrize("face", ["call", "block", "generator"])
async def test_retry_that_is_not_waited_for_was_no_request(clock, face):
    """Cancelled in the sleep before it: only the attempt that was sent counts."""
    throttle = Throttle(clock=lambda: 0.0, random=lambda: 1.0)
    retry = make(throttle=throttle, sleep=anyio.sleep)

    @retry
    async def generator():
        raise ConnectionError
        yield

    async def block():
        async for attempt in retry:
            async with attempt:
                raise ConnectionError

    faces = {"call": lambda: retry.call(Flaky(9)), "block": block, "generator": lambda: anext(generator())}
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(faces[face])
        await clock.advance(0.5)
        tasks.cancel_scope.cancel()
    assert (retry.statistics().retries, throttle.probability) == (1, 0.5)


async def test_blocks_tell_what_calls_tell(clock):
    """The same events, for what is raised and for what is cut off."""
    for options, block, error in (
        ({}, Flaky(9), ConnectionError),
        ({"attempt_timeout": 1, "clock": clock}, anyio.sleep_forever, AttemptTimeout),
    ):
        events = []
        retry = make(attempts=2, backoff=constant(0), on_event=events.append, **options)

        async def call(retry=retry, block=block):
            async for attempt in retry:
                async with attempt:
                    await block()

        with pytest.raises(error):
            await call()
        assert events == [
            AttemptFailed(1, error),
            Sleeping(1, 0, None),
            AttemptFailed(2, error),
            GaveUp(2, "attempts", error),
        ]


async def test_statistics():
    """Everything an operator wants to see, at any time."""
    retry = make(attempts=2)
    await retry.call(Flaky(0))
    await retry.call(Flaky(1))
    await retry.call(Flaky(1))
    for failing in (Flaky(9), Flaky(9, ValueError)):
        with pytest.raises((ConnectionError, ValueError)):
            await retry.call(failing)
    statistics = retry.statistics()
    assert (statistics.failures, statistics.retries, statistics.recovered, statistics.gave_up) == (5, 3, 2, 2)
    assert (statistics.budget_refusals, statistics.throttled, statistics.budget.calls) == (0, 0, 5)
    with pytest.raises(AttributeError):
        statistics.failures = 0


@pytest.mark.parametrize("options", [{}, {"on_result": lambda result: False}, {"attempt_timeout": 9}])
async def test_each_call_is_counted_once(options):
    """By each of the loops, and around a block."""
    retry = make(**options)
    decorated = retry(Flaky(1))
    for _ in range(2):
        await decorated()
        await retry.call(Flaky(1))
        async for attempt in retry:
            async with attempt:
                await checkpoint()
    assert retry.statistics().budget.calls == 6


async def test_testing_switch():
    """No sleep, few attempts, no budget, for all that was decorated before; and back."""
    retry = make(attempts=None, backoff=constant(60, jitter="none"), budget=Budget(burst=1, floor=0))
    flaky = Flaky(99)
    call = retry(flaky)
    with retry.testing():
        with pytest.raises(ConnectionError):
            await call()
        assert (flaky.calls, retry._settings.sleep.seconds) == (3, [0, 0])
        with retry.testing(attempts=1), pytest.raises(ConnectionError):
            await call()
    assert flaky.calls == 4
    retry._settings.sleep.seconds.clear()
    with pytest.raises(ConnectionError):
        await call()
    assert retry._settings.sleep.seconds == [60]


async def test_testing_makes_no_more_attempts_than_usual():
    """The switch caps, it does not raise."""
    retry, flaky = make(attempts=2), Flaky(99)
    with retry.testing(attempts=50), pytest.raises(ConnectionError):
        await retry.call(flaky)
    assert flaky.calls == 2


async def test_block():
    """Attempts at a block, with what the last one leaves behind."""
    retry, numbers = make(), []
    async for attempt in retry:
        async with attempt:
            numbers.append(attempt.number)
            if attempt.number < 3:
                raise ConnectionError
    assert numbers == [1, 2, 3]
    assert retry._settings.sleep.seconds == [1, 1]
    assert retry.statistics().recovered == 1
    assert retry.statistics().budget.calls == 1


async def test_block_gives_up():
    """The failure comes out of the block."""
    for error, expected in ((ConnectionError, 3), (ValueError, 1), (TypeError, 1), (asyncio.CancelledError, 1)):
        numbers, outcome = [], None
        try:
            async for attempt in make():
                async with attempt:
                    numbers.append(attempt.number)
                    raise error  # noqa: TRY301  # the block is what is tested
        except BaseException as raised:  # noqa: BLE001  # as above
            outcome = type(raised)
        assert (outcome, len(numbers)) == (error, expected)


async def test_block_retries_a_type_error_that_is_named():
    """Only a call's own TypeError is special."""
    numbers = []
    async for attempt in make(on=TypeError):
        async with attempt:
            numbers.append(attempt.number)
            if len(numbers) < 3:
                raise TypeError
    assert numbers == [1, 2, 3]


async def test_block_is_bounded(clock):
    """The limits hold for a block as well."""
    began = []

    async def hang():
        async for attempt in aiter(make(attempt_timeout=2, attempts=2, sleep=anyio.sleep, clock=clock)):
            async with attempt:
                began.append(clock())
                await anyio.sleep_forever()

    with pytest.raises(AttemptTimeout):
        await hang()
    assert (began, clock()) == ([0, 3], 5)


async def test_block_that_is_not_entered_is_not_repeated():
    """A forgotten ``async with`` must not become an endless loop."""
    assert [attempt.number async for attempt in make()] == [1]


async def test_block_left_early():
    """break and return are successes."""
    retry = make()
    async for attempt in retry:
        async with attempt:
            break
    assert retry.statistics().failures == 0


async def answer(first: int, second: str = "b", *, third: float = 0.5) -> bytes:
    """Answer."""
    return f"{first}{second}{third}".encode()


async def test_decorated_function_looks_the_same():
    """For everything that reads signatures."""
    decorated = make()(answer)
    assert await decorated(1, third=2.5) == b"1b2.5"
    assert (decorated.__name__, decorated.__doc__, decorated.__module__) == ("answer", "Answer.", __name__)
    assert inspect.iscoroutinefunction(decorated)
    assert not hasattr(decorated, "__wrapped__")
    assert typing.get_type_hints(decorated) == typing.get_type_hints(answer)
    assert inspect.signature(decorated) == inspect.signature(answer, eval_str=True)


async def test_everything_that_returns_an_awaitable():
    """Functions, methods of each kind, partials, callables, lambdas, wrappers, and plain functions that say so."""

    class Service:
        def __init__(self):
            self.flaky = Flaky(1)

        async def method(self):
            return await self.flaky()

        @make()
        async def decorated(self):
            return await self.flaky()

        @make()
        @classmethod
        async def of_class(cls):
            return cls.__name__

        @make()
        @staticmethod
        async def static():
            return "static"

    @functools.wraps(answer)
    def wrapper(*args):
        return answer(*args)

    async def plain(flaky):
        return await flaky()

    flaky = Flaky(1)
    assert await make()(flaky)() == 2
    assert await make()(Service().method)() == 2
    assert await Service().decorated() == 2
    assert (await Service.of_class(), await Service().static()) == ("Service", "static")
    assert await make()(functools.partial(functools.partial(plain), Flaky(1)))() == 2
    assert await make()(lambda number: Flaky(number)())(0) == 1
    assert await make()(wrapper)(1) == b"1b0.5"


@pytest.mark.parametrize(
    "returns",
    [
        "typing.Awaitable[int]",
        "Coroutine[Any, Any, int]",
        "asyncio.Future[int]",
        asyncio.Task,
        asyncio.Future[int],
        typing.Awaitable[int],
    ],
)
async def test_sync_function_that_says_it_returns_an_awaitable(returns):
    """By the last word of the type, however it was imported."""

    def sync():
        return Flaky(0)()

    sync.__annotations__["return"] = returns
    assert await make().call(make()(sync)) == 1


def sync_function():
    """Not async."""


def returns_iterator() -> typing.AsyncIterator[int]:
    """For ``async for``, and nothing to await."""


def returns_tasks() -> list[asyncio.Task[int]]:
    """Something to await inside, and itself nothing to await."""


def returns_future_value() -> FutureValue:  # noqa: F821  # only its name is looked at
    """A word that only begins like one."""


def generator_function():
    yield


class Synchronous:
    def __call__(self):
        """Not async."""


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (sync_function, r"sync_function\(\) is not async; did you forget 'async def'\?"),
        (functools.partial(sync_function), r"^functools\.partial\(.*sync_function.*\)\(\) is not async"),
        (returns_iterator, r"returns_iterator\(\) is not async"),
        (returns_tasks, r"returns_tasks\(\) is not async"),
        (returns_future_value, r"returns_future_value\(\) is not async"),
        (lambda: (yield), r"<lambda>\(\) is not async"),
        (generator_function, r"generator_function\(\) is not async"),
        (Synchronous(), "is not async"),
        (Flaky, r"^Retry\(\) needs an async function, got <class"),
        (3, "needs an async function, got 3"),
        (None, "needs an async function, got None"),
    ],
)
def test_what_is_not_async_is_refused(fn, message):
    """When it is decorated, with the likely slip."""
    with pytest.raises(TypeError, match=message):
        make()(fn)


@pytest.mark.parametrize("options", [{}, {"on_result": lambda result: False}, {"attempt_timeout": 9}])
async def test_mistakes_of_the_caller_are_not_repeated(options):
    """Wrong arguments, and a result that is nothing to await, whatever *on* says."""
    calls = []
    retry = make(on=Exception, **options)
    with pytest.raises(TypeError, match="missing 1 required"):
        await retry(answer)()
    with pytest.raises(TypeError, match="missing 1 required"):
        await retry.call(answer)
    assert retry.statistics().retries == 0
    with pytest.raises(TypeError, match="await"):
        await retry.call(lambda: calls.append(1))
    assert len(calls) == 1

    async def wrong():
        calls.append(1)
        raise TypeError

    with pytest.raises(TypeError):
        await retry.call(wrong)
    assert len(calls) == 4


def print_seconds(seconds):
    """Not async."""


@pytest.mark.parametrize(
    ("options", "fault", "message"),
    [
        ({"attempts": 0}, ValueError, "attempts must be 1 or more, got 0"),
        ({"attempts": -1}, ValueError, "attempts must be 1 or more, got -1"),
        ({"attempts": True}, TypeError, "attempts must be a whole number, got True"),
        ({"attempts": 2.5}, TypeError, "attempts must be a whole number, got 2.5"),
        ({"attempts": "3"}, TypeError, "attempts must be a whole number, got '3'"),
        *(
            ({name: value}, ValueError, f"{name} must be 0 < seconds < inf, got {value!r}")
            for name in ("max_elapsed", "attempt_timeout", "retry_after_cap")
            for value in (0, -1, math.nan, math.inf, 10**400)
        ),
        *(
            ({name: value}, TypeError, f"{name} must be a number of seconds, got {value!r}")
            for name in ("max_elapsed", "attempt_timeout", "retry_after_cap")
            for value in (True, "1")
        ),
        *(
            ({name: value}, TypeError, f"{name} must be a function, got {value!r}")
            for name in ("on_result", "retry_after", "on_event", "clock", "random")
            for value in (3, "text")
        ),
        *(
            ({name: value}, TypeError, f"{name} must be a function that is not async, got <")
            for name in ("on_result", "retry_after", "on_event", "clock", "random")
            for value in (anyio.sleep, Naps())
        ),
        ({"sleep": 3}, TypeError, "sleep needs an async function, got 3"),
        ({"sleep": Naps}, TypeError, "sleep needs an async function, got <class"),
        ({"sleep": print_seconds}, TypeError, r"print_seconds\(\) is not async; did you forget"),
        *(({"budget": value}, TypeError, f"budget must be a Budget, got {value!r}") for value in (0, None)),
        ({"budget": 0.1}, TypeError, "budget must be a Budget, got 0.1"),
        ({"budget": Budget}, TypeError, "budget must be a Budget, got <class"),
        ({"throttle": True}, TypeError, "throttle must be a Throttle, got True"),
        ({"backoff": -1}, TypeError, "got -1"),
        ({"backoff": [math.nan]}, ValueError, "got nan"),
        ({"backoff": "fast"}, TypeError, "got 'fast'"),
        *(
            ({"backoff": value}, TypeError, "function of the attempt number or an iterable of seconds, got <")
            for value in (anyio.sleep, Naps())
        ),
        ({"on": []}, ValueError, r"got \[\]"),
        ({"on": "ConnectionError"}, TypeError, "got 'ConnectionError'"),
    ],
)
def test_nonsense_is_refused(options, fault, message):
    """At construction, with the argument and the value."""
    with pytest.raises(fault, match=message):
        make(**options)


def test_greatest_number_of_seconds_is_valid():
    """Every number below infinity will do."""
    assert make(max_elapsed=sys.float_info.max)._settings.max_elapsed == sys.float_info.max


def test_what_says_nothing_of_itself_is_taken():
    """Callables that are not written in Python, and have no annotations."""
    assert make(sleep=operator.methodcaller("sleep"))


def test_signature_of_any_function_is_kept():
    """With what a framework reads from it: resolved, with the extras, and nothing where nothing was said."""

    @make()
    async def annotated(a: typing.Annotated[int, "extra"], b) -> typing.Annotated[str, "extra"]: ...

    @make()
    async def silent(a, b: Unknown): ...  # noqa: F821  # a name for type checkers alone

    shown = inspect.signature(annotated)
    assert shown.parameters["a"].annotation == typing.Annotated[int, "extra"]
    assert shown.parameters["b"].annotation is inspect.Parameter.empty
    assert shown.return_annotation == typing.Annotated[str, "extra"]
    assert inspect.signature(silent).return_annotation is inspect.Signature.empty
    assert silent.__annotations__ == {"b": "Unknown"}


def test_on_has_no_default():
    """Only the user knows what may be repeated."""
    with pytest.raises(TypeError, match="'on'"):
        Retry()


@pytest.mark.parametrize("is_refused", [None, lambda result, args: False])
async def test_adapters_judge_by_the_arguments(is_refused):
    """What loop() is for: who is calling what decides, and not the error alone."""
    judged = []

    def is_retryable(error, args):
        judged.append((type(error), args))
        return len(judged) % 3

    loop = make(attempts=9).loop(is_retryable=is_retryable, is_refused=is_refused)
    for call in (loop.around(Flaky(9)), functools.partial(loop.call(), Flaky(9))):
        with pytest.raises(ConnectionError):
            await call("a", "b")
    assert judged == [(ConnectionError, ("a", "b"))] * 6


def test_one_object_in_many_event_loops():
    """Made at import time, used in each program's own loop."""
    retry = make()
    for backend in ("asyncio", "trio", "asyncio"):
        assert anyio.run(retry.call, Flaky(1), backend=backend) == 2


async def test_defaults():
    """The table in the documentation."""
    naps = Naps()
    retry = Retry(on=ConnectionError, sleep=naps, random=lambda: 0.5)
    with pytest.raises(ConnectionError):
        await retry.call(Flaky(9))
    assert naps.seconds == [0.05, 0.1]
    settings = retry._settings
    assert (settings.max_elapsed, settings.attempt_timeout, settings.retry_after_cap) == (None, None, 60)
    assert SimpleNamespace(**vars(settings)).sleep is naps
