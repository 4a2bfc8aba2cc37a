"""The cache against a model: any sequence of calls, failures, cancellations, invalidations and passing time.

The model is what the invariants say. Each computed value carries the moment at which its computation began; an
invalidation that has returned leaves a mark for its key; no value from before the mark may be served after it, and none
after its time. Nothing is cancelled but who was told to leave, and at the end nothing is left in the air.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp_cache import Cache

from tests.support.clock import run

TTL, STALE = 10.0, 5.0
KEYS = ("a", "b", "c")

steps = st.one_of(
    st.tuples(
        st.just("call"),
        st.sampled_from(KEYS),
        st.sampled_from([0.0, 1.0, 3.0]),
        st.booleans(),
        st.sampled_from([0.5, 2.0, 99.0]),
    ),
    st.tuples(st.just("sleep"), st.sampled_from([0.1, 0.6, 4.0, 11.0])),
    st.tuples(st.just("set"), st.sampled_from(KEYS)),
    st.tuples(st.just("delete"), st.sampled_from(KEYS)),
    st.tuples(st.just("tag"), st.sampled_from(["all", *KEYS])),
    st.tuples(st.just("prefix"), st.sampled_from(KEYS)),
)


@dataclass
class Model:
    """What may be served: values are numbers, in the order in which their computations began."""

    numbers: itertools.count = field(default_factory=lambda: itertools.count(1))
    ended: dict[int, float] = field(default_factory=dict)
    mark: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KEYS, 0))

    def invalidate(self, keys):
        """An invalidation has returned: what began before is out of date."""
        newest = next(self.numbers)
        for key in keys:
            self.mark[key] = newest

    def check(self, number, mark, own):
        """A call that began when *mark* was the latest invalidation of its key was answered with *number*."""
        assert number > mark or number == own, "older than an invalidation that had returned before the call began"
        age = anyio.current_time() - self.ended.get(number, anyio.current_time())
        assert age < TTL + STALE, f"{age} s after its computation"


async def play(script, policy, opened, remembers):  # noqa: C901  # one story, told by inner functions
    """Run the script in virtual time, and check every answer."""
    model = Model()
    cache = Cache(
        maxsize=2,
        ttl=TTL,
        stale_while_revalidate=STALE,
        negative_ttl={LookupError: TTL} if remembers else None,
        policy=policy,
        clock=anyio.current_time,
    )

    async def call(key, seconds, fails, patience):
        own = []

        async def compute():
            number = next(model.numbers)
            own.append(number)
            await anyio.sleep(seconds)
            if fails:
                raise LookupError(number)
            model.ended[number] = anyio.current_time()
            return number

        mark = model.mark[key]
        with anyio.move_on_after(patience):
            try:
                model.check(await cache.get_or_compute(key, compute, tags=("all", key)), mark, own and own[-1])
            except LookupError as error:
                assert error.args[0] > mark or error.args[0] in own  # noqa: PT017  # most calls do not fail

    async def apply(kind, what):
        if kind == "set":
            number = next(model.numbers)
            model.ended[number] = anyio.current_time()
            await cache.set(what, number, tags=("all", what))
            model.mark[what] = number - 1
        elif kind == "delete":
            await cache.delete(what)
            model.invalidate([what])
        elif kind == "tag":
            await cache.invalidate(tag=what)
            model.invalidate(KEYS if what == "all" else [what])
        else:
            await cache.invalidate(prefix=what)
            model.invalidate([what])

    async def story():
        async with anyio.create_task_group() as callers:
            for kind, *facts in script:
                if kind == "call":
                    callers.start_soon(call, *facts)
                    await anyio.lowlevel.checkpoint()
                elif kind == "sleep":
                    await anyio.sleep(facts[0])
                else:
                    await apply(kind, *facts)
                assert cache.statistics().entries <= 2

    if opened:
        async with cache:
            await story()
    else:
        await story()
    assert not cache._space.flights
    assert not cache._engine.refreshing


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@given(
    script=st.lists(steps, max_size=40),
    policy=st.sampled_from(["adaptive", "lru", "s3fifo"]),
    opened=st.booleans(),
    remembers=st.booleans(),
)
@settings(max_examples=150)
def test_against_the_model(backend, script, policy, opened, remembers):
    """Invariants 1 to 6 together, in any order of events; failures are forgotten or remembered."""
    run(play, script, policy, opened, remembers, backend=backend)
