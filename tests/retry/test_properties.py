"""Invariants of the loop for any script of outcomes, any moment of cancellation and any order of tasks."""

from __future__ import annotations

import gc
import math
import traceback
import weakref
from contextlib import aclosing
from types import SimpleNamespace

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp_retry import AttemptTimeout, Backoff, Budget, Retry, RetryMiddleware, Throttle
from mcp_retry._seam import refuse

from tests.retry.slow import SlowServer
from tests.support.clock import run
from tests.support.schedule import run_shuffled
from tests.support.sweep import sweep

FOREVER = 1e9
FACES = ["call", "decorator", "block", "generator", "middleware"]
REQUEST = SimpleNamespace(method="tools/call", params={"name": "tool"})
OUTCOMES = {"fail": ConnectionError, "bug": ValueError}
scripts = st.lists(
    st.tuples(st.sampled_from(["ok", "fail", "bug"]), st.sampled_from([0, 0.5, 1, 3, FOREVER])), min_size=1, max_size=8
)


def limits(fraction):
    """Limits that never fall together with another time, so that no run depends on who comes first."""
    return st.one_of(st.none(), st.sampled_from([whole + fraction for whole in (0.2, 0.7, 1.2, 2.6, 7.1)]))


def model(script, *, delays, attempts, max_elapsed, attempt_timeout, ambient, tokens):
    """What must happen: (outcome, time at the end, times at which attempts began)."""
    now, began = 0.0, []
    max_elapsed, ambient = max_elapsed or math.inf, ambient or math.inf
    for number, (kind, seconds) in enumerate(script, 1):
        began.append(now)
        limit = min(attempt_timeout or math.inf, max_elapsed - now)
        if ambient < now + min(seconds, limit):
            return "cancelled", ambient, began
        ended = kind if seconds <= limit else "timeout"
        now += min(seconds, limit)
        delay = delays[min(number, len(delays)) - 1]
        is_final = ended in ("ok", "bug") or (ended == "timeout" and not attempt_timeout)
        if is_final or number >= attempts or now + delay >= min(max_elapsed, ambient) or tokens < 1:
            return ended, now, began
        tokens -= 1
        now += delay
    raise AssertionError("the script is too short")


@settings(max_examples=60)
@given(
    script=scripts,
    delays=st.lists(st.sampled_from([0, 0.1, 1, 2.5]), min_size=1, max_size=4),
    attempts=st.integers(1, 8),
    max_elapsed=limits(0.01),
    attempt_timeout=limits(0.02),
    ambient=limits(0.005),
    tokens=st.integers(0, 4),
)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("face", FACES)
def test_1_2_3_4_any_script(face, backend, script, **options):
    """Invariants 1 to 4: attempts, sleeps, limits, tokens and outcome are those of the model."""
    script = [*script, ("ok", 0)]
    expected = model(script, **options)

    async def scenario():
        began, start = [], anyio.current_time()
        retry = _retry(options)

        async def server():
            kind, seconds = script[len(began)]
            began.append(anyio.current_time() - start)
            await anyio.sleep(seconds)
            if kind != "ok":
                raise OUTCOMES[kind]

        outcome = "cancelled"
        with anyio.move_on_after(options["ambient"] or math.inf):
            outcome = await _outcome(face, retry, server)
        return outcome, anyio.current_time() - start, began

    outcome, ended, began = run(scenario, backend=backend)
    assert outcome == expected[0]
    assert [ended, *began] == pytest.approx([expected[1], *expected[2]], abs=1e-6)


def _retry(options):
    budget = Budget(burst=1 + options["tokens"], floor=1e-12, ratio=0)
    budget.spend()
    limits = {name: options[name] for name in ("attempts", "max_elapsed", "attempt_timeout")}
    return Retry(
        on=ConnectionError, backoff=Backoff(options["delays"]), budget=budget, clock=anyio.current_time, **limits
    )


def _face(face, retry, server):
    """One of the ways to call *server*."""

    async def generator():
        await server()
        yield

    async def first():
        async with aclosing(retry(generator)()) as items:
            await anext(items)

    async def block():
        async for attempt in retry:
            async with attempt:
                await server()

    async def request():
        return await RetryMiddleware(retry, safe=["tool"])(REQUEST, lambda ctx: server())

    faces = {
        "call": lambda: retry.call(server),
        "decorator": retry(server),
        "block": block,
        "generator": first,
        "middleware": request,
    }
    return faces[face]


async def _outcome(face, retry, server):
    try:
        await _face(face, retry, server)()
    except ConnectionError:
        return "fail"
    except ValueError:
        return "bug"
    except (AttemptTimeout, type(refuse(-31104, ""))):  # the latter is the middleware's
        return "timeout"
    return "ok"


@pytest.mark.parametrize("options", [{}, {"attempt_timeout": 2, "max_elapsed": 30}])
@pytest.mark.parametrize("face", FACES)
def test_3_cancelled_at_every_checkpoint(face, options):
    """Invariant 3: no attempt begins after the cancellation, and the next call is as good as new."""

    async def scenario(victim):
        retry = Retry(on=lambda error: True, backoff=Backoff([1]), clock=anyio.current_time, **options)
        server = SlowServer(2)
        await victim(_outcome, face, retry, server)
        attempts = server.began
        await anyio.sleep(10)
        assert (server.began, server.running) == (attempts, 0)
        assert await retry.call(_answer) == "answer"

    assert all(count > 3 for count in sweep(scenario).values())


async def _answer():
    return "answer"


def test_4_any_order_of_tasks():
    """Invariant 4: with a shared budget, each token is spent once, whoever comes first."""

    async def scenario():
        budget = Budget(burst=5, floor=1e-12, ratio=0)
        retry = Retry(on=ConnectionError, backoff=Backoff([1]), budget=budget, attempts=3)
        attempts = 0

        async def server():
            nonlocal attempts
            attempts += 1
            await anyio.sleep(1)
            raise ConnectionError

        async def call():
            with pytest.raises(ConnectionError):
                await retry.call(server)

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(call)
        return attempts, retry.statistics().gave_up, budget.statistics().spent

    assert set(run_shuffled(scenario)) == {(15, 10, 5)}


class Local:
    """What a failure could keep alive; returned, a result of a tool that says no."""

    is_error = True


class Leaky:
    """Attempt n ends as the n-th word says, and looks for what is left of those before."""

    def __init__(self, script):
        self.script = script
        self.began = []

    async def __call__(self):
        kind, local = self.script[len(self.began)], Local()
        assert self.left() == []
        self.began.append(weakref.ref(local))
        if kind == "hang":
            await anyio.sleep(FOREVER)
        if kind == "caused":
            await self._fail(local)
        if kind == "fail":
            raise ConnectionError(local)
        return local

    async def _fail(self, local):
        try:
            await aiter(local)
        except TypeError as error:
            raise ConnectionError from error

    def left(self):
        return [number for number, reference in enumerate(self.began, 1) if reference()]


policies = st.fixed_dictionaries(
    {},
    optional={
        "attempt_timeout": st.just(2),
        "max_elapsed": st.just(FOREVER),
        "on_event": st.just(lambda event: None),
        "on_result": st.just(lambda result: isinstance(result, Local)),
        "throttle": st.builds(Throttle, random=st.just(lambda: 1.0)),
    },
)


@settings(max_examples=60)
@given(script=st.lists(st.sampled_from(["fail", "caused", "hang", "refuse"]), min_size=1, max_size=4), options=policies)
@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_5_nothing_is_kept_after_any_script(backend, face, script, options):
    """Invariant 5: with the collector off, each attempt and each refused result is gone when the next one begins."""
    can_refuse = face == "middleware" or ("on_result" in options and face in ("call", "decorator"))
    possible = {"fail": True, "caused": True, "hang": "attempt_timeout" in options, "refuse": can_refuse}
    server = Leaky([kind if possible[kind] else "fail" for kind in script])

    async def scenario():
        retry = Retry(on=ConnectionError, attempts=len(script), backoff=Backoff([1]), budget=False, **options)
        await _outcome(face, retry, server)
        await checkpoint()  # the event loop lets go of the last cancellation
        return server.left()

    gc.disable()
    try:
        assert run(scenario, backend=backend) == []
    finally:
        gc.enable()
    assert len(server.began) == len(script)


@pytest.mark.uninstrumented
@settings(max_examples=60)
@given(failures=st.integers(1, 4), depth=st.integers(0, 3), options=policies)
@pytest.mark.parametrize("face", FACES)
def test_5_one_frame_is_added_after_any_number_of_attempts(face, failures, depth, options):
    """Invariant 5: beside the frames of the caller and of his function stands one of ours; of a block, none."""

    async def server(levels=depth):
        if levels:
            await server(levels - 1)
        raise ConnectionError

    async def scenario():
        retry = Retry(on=ConnectionError, attempts=failures, backoff=Backoff([1]), budget=False, **options)
        try:
            await _face(face, retry, server)()
        except ConnectionError as error:
            return [frame.filename for frame in traceback.extract_tb(error.__traceback__)]

    files = run(scenario)
    assert files.count(__file__) == len(files) - (face != "block")
    assert files.count(__file__) > depth + 1
