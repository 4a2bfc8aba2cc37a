"""Async generators: retried before their first item, and left alone afterwards."""

from __future__ import annotations

from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st
from mcp_retry import AttemptFailed, AttemptTimeout, Budget, GaveUp, Retry, Sleeping, Throttle, Throttled, constant

from tests.support.clock import run


def make(**options):
    return Retry(**{"on": ConnectionError, "backoff": constant(0), **options})


class Source:
    """An async generator function that fails before, or after, its first items."""

    def __init__(self, fails_before=0, items=3, fails_after=None):
        self.fails_before, self.items, self.fails_after = fails_before, items, fails_after
        self.started = self.closed = 0

    async def items_of(self):
        self.started += 1
        try:
            await checkpoint()
            if self.started <= self.fails_before:
                raise ConnectionError
            for number in range(self.items):
                if number == self.fails_after:
                    raise ConnectionError
                yield number
        finally:
            self.closed += 1


async def test_restarted_before_the_first_item():
    """Nobody has seen anything yet."""
    source, retry = Source(fails_before=2), make()
    assert [item async for item in retry(source.items_of)()] == [0, 1, 2]
    assert (source.started, source.closed) == (3, 3)
    assert retry.statistics().recovered == retry.statistics().budget.calls == 1


async def test_6_not_restarted_after_the_first_item():
    """Invariant 6: the consumer must not see an item twice."""
    source, seen = Source(fails_after=2), []

    async def consume():
        async for item in make()(source.items_of)():
            seen.append(item)  # noqa: PERF401  # the items before the failure are wanted

    with pytest.raises(ConnectionError):
        await consume()
    assert (seen, source.started) == ([0, 1], 1)


async def test_gives_up():
    """With the failure itself."""
    source = Source(fails_before=9)
    with pytest.raises(ConnectionError):
        await anext(make(attempts=2)(source.items_of)())
    assert source.started == 2


async def test_empty_stream_is_a_success():
    """No item is no failure."""
    source, retry = Source(items=0), make()
    assert [item async for item in retry(source.items_of)()] == []
    assert (source.started, retry.statistics().failures) == (1, 0)


async def test_early_end_reaches_the_source():
    """A consumer that stops must not leave a connection open."""
    source = Source()
    stream = make()(source.items_of)()
    assert await anext(stream) == 0
    await stream.aclose()
    assert source.closed == 1


async def test_values_and_exceptions_go_in():
    """A generator is a conversation."""

    @make()
    async def echo():
        said = yield "ready"
        while True:
            try:
                said = yield said
            except ValueError as error:
                said = repr(error)

    stream = echo()
    assert await anext(stream) == "ready"
    assert await stream.asend("hello") == "hello"
    assert await stream.athrow(ValueError("oops")) == "ValueError('oops')"
    with pytest.raises(LookupError):
        await stream.athrow(LookupError)


async def test_under_asynccontextmanager():
    """What comes before the yield is retried, the block is not, and its failure reaches the generator."""
    opened, seen = [], []

    @asynccontextmanager
    @make()
    async def connection():
        opened.append(1)
        if len(opened) < 2:
            raise ConnectionError
        try:
            yield "connection"
        except ConnectionError as error:
            seen.append(error)
            raise

    async def use():
        async with connection() as value:
            assert value == "connection"
            raise ConnectionError

    with pytest.raises(ConnectionError):
        await use()
    assert (len(opened), len(seen)) == (2, 1)


async def test_time_of_the_first_item_is_bounded(clock):
    """And that of the others is not."""
    calls = []

    @make(attempt_timeout=2, clock=clock)
    async def slow():
        calls.append(clock())
        await anyio.sleep(5 if len(calls) == 1 else 1)
        yield 1
        await anyio.sleep(50)
        yield 2

    assert [item async for item in slow()] == [1, 2]
    assert (calls, clock()) == ([0, 2], 53)
    calls.clear()
    with pytest.raises(AttemptTimeout):
        await anext(make(attempt_timeout=1, attempts=1, clock=clock)(slow)())


async def test_throttle_and_arguments():
    """A stream is a call like any other."""

    @make(throttle=Throttle(random=lambda: -1.0), budget=Budget())
    async def numbers(first, *, last):
        for number in range(first, last):
            yield number

    with pytest.raises(Throttled):
        await anext(numbers(1, last=3))

    @make()
    async def healthy(first, *, last):
        for number in range(first, last):
            yield number

    assert [number async for number in healthy(1, last=3)] == [1, 2]


async def test_what_it_counts_and_tells():
    """As for any other call: each stream is a call, each failure is told by its type."""
    events, retry = [], make(attempts=2, budget=Budget(clock=lambda: 0.0))
    watched = make(attempts=2, on_event=events.append)
    for _ in range(2):
        assert [item async for item in retry(Source().items_of)()] == [0, 1, 2]
        with pytest.raises(ConnectionError):
            await anext(watched(Source(fails_before=9).items_of)())
    assert retry.statistics().budget.calls == 2
    assert events[1:4] == [
        Sleeping(1, 0, None),
        AttemptFailed(2, ConnectionError),
        GaveUp(2, "attempts", ConnectionError),
    ]


ENDS = {"fail": ConnectionError, "bug": ValueError}
scripts = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["ok", "fail", "bug"])), max_size=4)
talks = st.lists(st.sampled_from(["next", "send", "catch", "throw"]), max_size=6)


class Conversation:
    """Attempt n yields so many items, each with what it has heard, and then ends as the n-th plan says."""

    def __init__(self, script, started=0):
        self.script = script
        self.started, self.closed = started, 0

    async def __call__(self):
        items, end = self.script[self.started]
        self.started += 1
        number, heard = self.started, None
        try:
            await checkpoint()
            for item in range(items):
                try:
                    heard = yield number, item, heard
                except LookupError:
                    heard = "caught"
        finally:
            self.closed += 1
        if end in ENDS:
            raise ENDS[end]


async def talk(stream, ways):
    """What the consumer sees, one thing for each way to go on."""
    said = {
        "next": stream.__anext__,
        "send": lambda: stream.asend("sent"),
        "catch": lambda: stream.athrow(LookupError()),
        "throw": lambda: stream.athrow(ConnectionError()),
    }
    seen = []
    for way in ways:
        try:
            seen.append(await said[way]())
        except (StopAsyncIteration, LookupError, *ENDS.values()) as error:
            seen.append(type(error))
    await stream.aclose()
    return seen


def attempts_of(script, *, attempts, tokens):
    """Which attempt the consumer gets to know."""
    allowed = min(attempts, 1 + tokens)
    return next(number for number, plan in enumerate(script, 1) if number == allowed or plan != (0, "fail"))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@given(script=scripts, ways=talks, attempts=st.integers(1, 5), tokens=st.integers(0, 4))
def test_6_from_the_first_item_on_it_is_the_generator_itself(backend, script, ways, attempts, tokens):
    """Invariant 6: whatever the consumer does, it sees one attempt alone, and each one that began is over."""
    script, ways = [*script, (2, "ok")], ["next", *ways]
    number = attempts_of(script, attempts=attempts, tokens=tokens)
    retried, bare = Conversation(script), Conversation(script, started=number - 1)
    budget = Budget(burst=1 + tokens, floor=1e-12, ratio=0)
    budget.spend()

    async def scenario():
        stream = make(attempts=attempts, budget=budget)(retried)()
        return await talk(stream, ways), await talk(bare(), ways)

    seen, expected = run(scenario, backend=backend)
    assert seen == expected
    assert retried.started == retried.closed == number
