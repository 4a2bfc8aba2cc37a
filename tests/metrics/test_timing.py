"""Timed: each call once, however it ends, and the decorated function as it was."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import inspect
import weakref
from collections.abc import AsyncIterator
from functools import partial, wraps
from typing import Annotated

import anyio
import pytest
import trio
from mcp_metrics import Registry, Timed
from mcp_metrics.testing import assert_metric, find

from tests.support.sweep import sweep

TOTAL, FIRST = "work_duration_seconds", "work_time_to_first_item_seconds"


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Work:
    """A registry, a clock to move, and what measures with it."""

    def __init__(self):
        self.registry, self.clock = Registry(), Clock()
        self.timed = Timed(self.registry, "work", "Work.", clock=self.clock)

    def counts(self):
        return {sample.labels.get("error_type", ""): sample.value for sample in find(self.registry, f"{TOTAL}_count")}

    def seconds(self, name=TOTAL):
        return sum(sample.value for sample in find(self.registry, f"{name}_sum"))


@pytest.fixture
def work():
    return Work()


async def test_coroutine_function(work):
    """The peers time how long it takes to make the coroutine: nothing."""

    @work.timed
    async def fetch(seconds: float, *, fail: bool = False) -> str:
        """Fetch."""
        await anyio.lowlevel.checkpoint()
        work.clock.now += seconds
        if fail:
            raise LookupError
        return "found"

    assert await fetch(2) == "found"
    with pytest.raises(LookupError):
        await fetch(3, fail=True)
    assert work.counts() == {"": 1, "LookupError": 1}
    assert work.seconds() == 5
    assert inspect.iscoroutinefunction(fetch)
    assert inspect.signature(fetch) == inspect.Signature(
        [
            inspect.Parameter("seconds", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=float),
            inspect.Parameter("fail", inspect.Parameter.KEYWORD_ONLY, annotation=bool, default=False),
        ],
        return_annotation=str,
    )
    assert fetch.__doc__ == "Fetch."


def test_signature_is_resolved_for_frameworks(work):
    """Names are looked up where the function was written; what cannot be found stays as it is."""

    @work.timed
    def known(limit: Annotated[int, "at most"]) -> int: ...

    @work.timed
    def unknown(limit: Missing) -> int: ...  # noqa: F821  # a name for type checkers alone

    @work.timed
    def bare(limit): ...

    assert known.__annotations__ == {"limit": Annotated[int, "at most"], "return": int}
    assert inspect.signature(known).parameters["limit"].annotation == Annotated[int, "at most"]
    assert unknown.__annotations__ == {"limit": "Missing", "return": "int"}
    assert inspect.signature(bare) == inspect.Signature(
        [inspect.Parameter("limit", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    )


def test_a_function_that_raises(work):
    """Its exception passes, and is counted."""

    @work.timed
    def fetch():
        work.clock.now += 2
        raise LookupError

    with pytest.raises(LookupError):
        fetch()
    assert work.counts() == {"LookupError": 1}
    assert work.seconds() == 2


def test_function(work):
    """Synchronous ones too, and methods."""

    class Shop:
        @work.timed
        def sell(self, count):
            work.clock.now += count
            return count

    assert Shop().sell(4) == Shop().sell(count=4) == 4
    assert work.seconds() == 8


async def test_callable_objects_and_partials(work):
    """What a framework may hand over instead of a function."""

    class Fetch:
        __name__ = "fetch"

        async def __call__(self, seconds):
            work.clock.now += seconds

    async def fetch(seconds):
        work.clock.now += seconds

    await work.timed(Fetch())(1)
    await work.timed(partial(fetch, 2))()
    assert work.counts() == {"": 2}
    assert work.seconds() == 3


def test_callable_objects_and_partials_that_yield(work):
    """They are over when they are at their end, not when they have made a generator."""

    class Count:
        def __call__(self, stop):
            work.clock.now += 1
            yield from range(stop)

    def count(stop):
        work.clock.now += 1
        yield from range(stop)

    assert list(work.timed(Count())(2)) == list(work.timed(partial(count, 2))()) == [0, 1]
    assert work.counts() == {"": 2}
    assert (work.seconds(FIRST), work.seconds()) == (2, 2)


def test_generator(work):
    """Until the first item, and until the end; what is sent and thrown in arrives, what is returned comes out."""

    @work.timed
    def talk(greeting):
        work.clock.now += 1
        heard = yield greeting
        try:
            yield heard
        except KeyError:
            work.clock.now += 10
            yield "caught"
        return "bye"

    conversation = talk(greeting="hello")
    assert next(conversation) == "hello"
    assert conversation.send("you") == "you"
    assert conversation.throw(KeyError()) == "caught"
    with pytest.raises(StopIteration) as end:
        next(conversation)
    assert end.value.value == "bye"
    assert inspect.isgeneratorfunction(talk)
    assert work.counts() == {"": 1}
    assert (work.seconds(FIRST), work.seconds()) == (1, 11)


def test_generator_left_or_failed(work):
    """Enough is no error; an exception is one; an empty one has no first item."""
    closed = []

    @work.timed
    def count(stop, error=None):
        try:
            yield from range(stop)
            if error:
                raise error
        finally:
            closed.append(stop)

    for _ in count(5):
        break
    left = count(3)
    next(left)
    left.close()
    assert list(count(0)) == []
    with pytest.raises(LookupError):
        list(count(1, LookupError()))
    assert closed == [5, 3, 0, 1]
    assert work.counts() == {"": 3, "LookupError": 1}
    assert_metric(work.registry, f"{FIRST}_count", 3)


async def test_async_generator(work):
    """The same, awaiting."""

    @work.timed
    async def talk(greeting):
        work.clock.now += 1
        heard = yield greeting
        try:
            yield heard
        except KeyError:
            work.clock.now += 10
            yield "caught"

    conversation = talk(greeting="hello")
    assert await conversation.asend(None) == "hello"
    assert await conversation.asend("you") == "you"
    assert await conversation.athrow(KeyError()) == "caught"
    with pytest.raises(StopAsyncIteration):
        await conversation.__anext__()
    assert inspect.isasyncgenfunction(talk)
    assert work.counts() == {"": 1}
    assert (work.seconds(FIRST), work.seconds()) == (1, 11)


async def test_async_generator_left_or_failed(work):
    """Closing the outer closes the inner one at once."""
    closed = []

    @work.timed
    async def count(stop, error=None):
        try:
            for number in range(stop):
                yield number
            if error:
                raise error
        finally:
            await anyio.lowlevel.checkpoint()
            closed.append(stop)

    left = count(5)
    await left.__anext__()
    await left.aclose()
    assert closed == [5]
    assert [number async for number in count(2)] == [0, 1]
    with pytest.raises(LookupError):
        [number async for number in count(1, LookupError())]
    assert work.counts() == {"": 2, "LookupError": 1}


async def test_stream(work):
    """Any async iterator, closed with its consumer if it can be closed."""

    class Items:
        closed = False

        def __init__(self, stop):
            self.left = stop

        def __aiter__(self) -> AsyncIterator[int]:
            return self

        async def __anext__(self):
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            work.clock.now += 1
            return self.left

    class Closing(Items):
        async def aclose(self):
            self.closed = True

    assert [item async for item in work.timed.stream(Items(3))] == [2, 1, 0]
    source = Closing(3)
    stream = work.timed.stream(source)
    await stream.__anext__()
    await stream.aclose()
    assert source.closed
    assert work.counts() == {"": 2}
    assert (work.seconds(FIRST), work.seconds()) == (2, 4)


async def test_block(work):
    """TimeoutError and cancellation have names of their own; a BaseException is counted too."""
    for error in (TimeoutError(), KeyboardInterrupt(), SystemExit()):
        with pytest.raises(type(error)), work.timed.block():
            raise error
    with anyio.CancelScope() as scope:
        scope.cancel()
        with work.timed.block():
            await anyio.lowlevel.checkpoint()
    assert work.counts() == {"timeout": 1, "KeyboardInterrupt": 1, "SystemExit": 1, "cancelled": 1}


def test_each_call_is_counted_once_wherever_it_is_cancelled():
    """The sweep, over a decorated async generator consumed to its end."""

    async def scenario(victim):
        work = Work()

        @work.timed
        async def items():
            for number in range(2):
                await anyio.lowlevel.checkpoint()
                yield number

        async def consume():
            stream = items()
            try:
                async for _ in stream:
                    await anyio.lowlevel.checkpoint()
            finally:
                with anyio.CancelScope(shield=True):
                    await stream.aclose()

        await victim(consume)
        return work

    sweep(scenario, lambda work: sum(work.counts().values()) == 1)


def test_only_functions_are_decorated(work):
    """A slip of the pen."""
    with pytest.raises(TypeError, match="Timed decorates functions, got 7"):
        work.timed(7)


async def test_what_runs_decides_how_it_is_measured(work):
    """A partial of an object, and an object that happens to have a ``func``: both are awaited."""

    class Fetch:
        func = len
        __name__ = "fetch"

        async def __call__(self, seconds):
            work.clock.now += seconds

    await work.timed(Fetch())(1)
    await work.timed(partial(Fetch(), 2))()
    assert work.seconds() == 3


async def test_what_returns_a_coroutine_is_over_when_that_is(work):
    """A lambda, or a wrapper that is not async itself: measured as a call, it would take no time and never fail."""

    async def fetch(fails):
        work.clock.now += 2
        if fails:
            raise ValueError(fails)
        return "fetched"

    @wraps(fetch)
    def wrapper(*args):
        return fetch(*args)

    for each in (lambda *args: fetch(*args), wrapper):  # noqa: PLW0108  # the lambda is what is tested
        assert await work.timed(each)(0) == "fetched"
        with pytest.raises(ValueError, match="1"):
            await work.timed(each)(1)
    assert work.counts() == {"": 2, "ValueError": 2}
    assert work.seconds() == 8


async def test_what_returns_an_async_generator_is_over_when_that_is(work):
    """With its time until the first item, as if it were one itself."""

    async def items():
        work.clock.now += 2
        yield 1

    assert [item async for item in work.timed(lambda: items())()] == [1]  # noqa: PLW0108  # as above
    assert work.counts() == {"": 1}
    assert work.seconds() == 2


@pytest.mark.parametrize("wrap", [staticmethod, classmethod])
def test_methods_are_decorated_inside_out(work, wrap):
    """Above ``@staticmethod`` an async function would be measured as one that returns at once."""

    async def fetch():
        raise AssertionError

    with pytest.raises(TypeError, match=f"got <{wrap.__name__}.*; is it above @staticmethod instead of below"):
        work.timed(wrap(fetch))


@pytest.mark.parametrize("error", [asyncio.TimeoutError, concurrent.futures.TimeoutError, trio.TooSlowError])
def test_every_timeout_is_one(work, error):
    """In Python 3.10 asyncio has a class of its own, which is no TimeoutError."""
    with pytest.raises(error), work.timed.block():
        raise error
    assert work.counts() == {"timeout": 1}


@pytest.mark.parametrize(
    ("registry", "options", "message"),
    [
        (None, {}, "Timed needs a Registry or a MeterSink, got None"),
        (Registry, {}, "got <class"),
        (Registry(), {"clock": 3}, "Timed needs a callable clock, got 3"),
    ],
)
def test_nonsense_is_refused(registry, options, message):
    """At construction, naming the value."""
    with pytest.raises(TypeError, match=message):
        Timed(registry, "work", "Work.", **options)


class Thrown(Exception):
    """Can be looked at from outside; the peers' generators keep it."""


async def test_what_is_thrown_in_is_not_kept(work):
    """An exception that a generator was told of is gone with the last one who holds it."""

    @work.timed
    def plain():
        while True:
            with contextlib.suppress(Thrown):
                yield 1

    @work.timed
    async def awaiting():
        while True:
            with contextlib.suppress(Thrown):
                yield 1

    one, two = plain(), awaiting()
    next(one)
    await two.__anext__()
    gc.disable()
    try:
        first, second = Thrown(), Thrown()
        left = [weakref.ref(first), weakref.ref(second)]
        one.throw(first)
        await two.athrow(second)
        del first, second
        assert [ref() for ref in left] == [None, None]
    finally:
        gc.enable()
        one.close()
        await two.aclose()
