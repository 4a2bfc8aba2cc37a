"""The cache itself: what is computed how often, who gets what, and what is left behind."""

from __future__ import annotations

import asyncio
import math
import pickle
import random
import re
import sys
import traceback
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import anyio
import pytest
from mcp_cache import (
    Cache,
    CacheStatistics,
    ComputationCancelled,
    Computed,
    Explanation,
    Failed,
    Invalidated,
    Left,
    NotStored,
    ServedStale,
)
from mcp_cache.config import Config

from tests.cache import source
from tests.cache.source import Shelf
from tests.support.schedule import run_shuffled
from tests.support.sweep import sweep


class Source(source.Source):
    """A computation that takes 1 s of virtual time unless told otherwise."""

    def __init__(self, value="value", seconds=1.0, error=None):
        super().__init__(value, seconds, error)


async def gather(*calls):
    """Await all *calls* at once; their results or exceptions, in order."""
    outcomes = [None] * len(calls)

    async def one(index, call):
        try:
            outcomes[index] = await call()
        except Exception as error:  # noqa: BLE001  # handed to the test
            outcomes[index] = error

    async with anyio.create_task_group() as tg:
        for index, call in enumerate(calls):
            tg.start_soon(one, index, call)
    return outcomes


HALF, OTHER = SimpleNamespace(dumps=repr), SimpleNamespace(loads=repr)


def is_idle(cache):
    """No flight is left in the air."""
    return not any(space.flights for space in cache._engine.table.spaces)


@pytest.mark.parametrize("value", [None, False, 0, "", [], math.nan])
async def test_falsy_values_are_values(value):
    """Half of the caches that people write compute None for ever."""
    cache, source = Cache(), Source(value, 0)
    assert [await cache.get_or_compute("key", source) for _ in range(2)] == [value, value]
    assert source.calls == 1
    assert await cache.get("key", "absent") is value
    assert await cache.get("other", "absent") == "absent"


async def test_one_computation_for_all(clock):
    """Invariant 1: a hundred callers, one computation, and every one has its value."""
    cache, source = Cache(clock=clock), Source()
    outcomes = await gather(*[partial(cache.get_or_compute, "key", source)] * 100)
    assert outcomes == ["value"] * 100
    assert source.calls == 1
    assert cache.statistics().joins == 99
    assert cache.statistics().hit_ratio == 0.99
    assert cache.statistics().seconds_saved == 99.0
    assert is_idle(cache)


async def test_hit_does_not_wait():
    """A hit has no checkpoint: it may be used where nothing else may run."""
    cache = Cache()
    await cache.set("key", "value")
    with pytest.raises(StopIteration) as caught:
        cache.get_or_compute("key", Source()).send(None)
    assert caught.value.value == "value"


async def test_error_reaches_every_caller_as_its_own_copy(clock):
    """Invariant 4: a shared exception grows its traceback with every caller, and one changes it for all."""
    error = LookupError("missing", 7)
    error.__cause__ = KeyError("cause")
    cache, source = Cache(clock=clock), Source(error=error)
    outcomes = await gather(*[partial(cache.get_or_compute, "key", source)] * 50)
    assert [outcome is error for outcome in outcomes].count(True) == 1
    assert source.calls == 1
    assert len({id(outcome) for outcome in outcomes}) == 50
    assert {(type(o), o.args, o.__cause__) for o in outcomes} == {(LookupError, ("missing", 7), error.__cause__)}
    assert max(len(traceback.extract_tb(outcome.__traceback__)) for outcome in outcomes) < 10
    assert "__call__" in {frame.name for frame in traceback.extract_tb(outcomes[-1].__traceback__)}
    source.error = None
    assert await cache.get_or_compute("key", source) == "value", "a failure is not cached"


class Awkward(Exception):
    """Its constructor takes something else than it keeps."""

    def __init__(self, *, code):
        super().__init__(f"code {code}")
        self.code = code


class Changeling(Exception):
    """Copies of it are something else."""

    def __reduce__(self):
        return ValueError, ("other",)


@pytest.mark.parametrize("error", [Awkward(code=7), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "why")])
async def test_errors_that_are_hard_to_copy(clock, error):
    """The type and the facts that a caller catches by must survive."""
    error.extra = "fact"
    if sys.version_info >= (3, 11):
        error.add_note("note")
    cache = Cache(clock=clock)
    outcomes = await gather(*[partial(cache.get_or_compute, "key", Source(error=error))] * 2)
    (second,) = [outcome for outcome in outcomes if outcome is not error]
    assert type(second) is type(error)
    assert (str(second), second.extra) == (str(error), "fact")
    assert getattr(second, "__notes__", []) == getattr(error, "__notes__", [])


@pytest.mark.parametrize("kind", [LookupError, partial(Awkward, code=7)])
async def test_containers_of_an_error_are_copies(clock, kind):
    """All the way down, or one caller changes them for all; but for what contains itself."""
    error, loop = kind(), []
    loop.append(loop)
    for args, is_shared in ((([1], {"a": [1]}, {1}, bytearray(b"x"), ([1],)), False), ((loop,), True)):
        error.args = args
        cache = Cache(clock=clock)
        outcomes = await gather(*[partial(cache.get_or_compute, "key", Source(error=error))] * 2)
        (second,) = [outcome for outcome in outcomes if outcome is not error]
        assert is_shared or second.args == args
        assert [one is other for one, other in zip(second.args, args, strict=True)] == [is_shared] * len(args)


async def test_error_that_cannot_be_copied_is_shared(clock):
    """Better the original than something else."""
    error = Changeling("x")
    cache = Cache(clock=clock)
    assert await gather(*[partial(cache.get_or_compute, "key", Source(error=error))] * 2) == [error, error]


@pytest.mark.parametrize("who", ["leader", "follower"])
async def test_cancelled_caller_takes_nobody_with_it(clock, who):
    """Invariant 2: whoever leaves, the others get their value."""
    cache, source = Cache(clock=clock), Source()
    results = []

    async def call(seconds):
        with anyio.move_on_after(seconds):
            results.append(await cache.get_or_compute("key", source))

    async with anyio.create_task_group() as tg:
        for seconds in (0.5, 9, 9) if who == "leader" else (9, 0.5, 9):
            tg.start_soon(call, seconds)
            await anyio.sleep(0.1)
    assert results == ["value", "value"]
    assert source.calls == (2 if who == "leader" else 1)
    assert source.most == 1
    assert is_idle(cache)


@pytest.mark.parametrize(("callers", "cancelled"), [(2, 2), (3, 2), (3, 3)])
async def test_heir_cancelled_before_it_leads(clock, callers, cancelled):
    """Invariant 2: the others start again; without any, the key is free for whoever comes."""
    cache, source, scopes = Cache(clock=clock), Source(), []

    async def call():
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await cache.get_or_compute("key", source)

    async with anyio.create_task_group() as tg:
        for _ in range(callers):
            tg.start_soon(call)
            await anyio.sleep(0.1)
        for scope in scopes[:cancelled]:  # on asyncio in this order, so that the second has been told to lead
            scope.cancel()
    assert source.calls == 1 + callers - cancelled
    assert is_idle(cache)
    assert await cache.get_or_compute("key", source) == "value"


async def test_heir_whose_key_is_invalidated_before_it_leads(clock):
    """It starts again, and what it computes is kept."""
    cache, source = Cache(clock=clock), Source()

    async def lead():
        with anyio.move_on_after(0.5):
            await cache.get_or_compute("key", source)
        await cache.delete("key")

    async with anyio.create_task_group() as tg:
        tg.start_soon(lead)
        await anyio.sleep(0.1)
        assert await cache.get_or_compute("key", source) == "value"
    assert source.calls == 2
    assert cache.explain("key").state == "fresh"


async def test_last_one_to_leave_cancels_the_computation(clock):
    """Invariant 2: nobody waits, so nothing runs and nothing is left."""
    cache, source = Cache(clock=clock), Source()
    with anyio.move_on_after(0.5):
        await gather(*[partial(cache.get_or_compute, "key", source)] * 5)
    assert (source.running, source.calls) == (0, 1)
    assert is_idle(cache)
    assert await cache.get_or_compute("key", source) == "value"


def test_cancellation_sweep():
    """Invariant 2 at every checkpoint of a leader and of a follower, in every way a cancellation can come."""
    for role in (0, 1, 2):

        async def scenario(victim, role=role):
            cache, source, results = Cache(clock=anyio.current_time), Source(), []

            async def other():
                results.append(await cache.get_or_compute("key", source))

            async with anyio.create_task_group() as tg:
                for place in range(3):
                    if place == role:
                        tg.start_soon(victim, cache.get_or_compute, "key", source)
                    else:
                        tg.start_soon(other)
                    await anyio.sleep(0.1)
            assert results == ["value", "value"]
            assert source.most == 1
            return cache

        counts = sweep(scenario, is_idle)
        assert all(counts.values())


def test_any_order_of_tasks():
    """Invariants 1 and 2 under many schedules, with callers that give up at random-looking times."""

    async def scenario():
        cache, source, got = Cache(clock=anyio.current_time), Source(), []

        async def call(patience):
            with anyio.move_on_after(patience):
                got.append(await cache.get_or_compute("key", source))

        async with anyio.create_task_group() as tg:
            for patience in (0.2, 0.4, 1.3, 1.1, 5, 5, 5):
                tg.start_soon(call, patience)
        assert got.count("value") >= 3
        assert source.most == 1
        assert is_idle(cache)

    run_shuffled(scenario, seeds=range(30))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 cannot tell who cancelled")
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_computation_that_raises_cancelled_cancels_nobody_else(clock):
    """The followers were not cancelled, so what they catch must not say so."""
    cache = Cache(clock=clock)

    async def compute():
        await anyio.sleep(1)
        raise asyncio.CancelledError

    async def lead():
        with pytest.raises(asyncio.CancelledError):
            await cache.get_or_compute("key", compute)

    _, *others = await gather(lead, *[partial(cache.get_or_compute, "key", compute)] * 3)
    assert [type(other) for other in others] == [ComputationCancelled] * 3
    assert {str(other) for other in others} == {"the computation raised CancelledError"}
    assert is_idle(cache)


class Slow(Source):
    """What it returns is what was true when it began."""

    async def __call__(self):
        value = self.value
        await super().__call__()
        return value


@pytest.mark.parametrize("how", ["delete", "tag", "prefix", "glob", "where", "set"])
async def test_invalidation_defeats_what_is_being_computed(clock, how):
    """Invariant 3: a value from before must not come back after, neither stored nor to those who wait."""
    cache, source = Cache(clock=clock), Slow("old")
    invalidate = {
        "delete": lambda: cache.delete("key"),
        "tag": lambda: cache.invalidate(tag="tag"),
        "prefix": lambda: cache.invalidate(prefix="ke"),
        "glob": lambda: cache.invalidate(glob="k?y"),
        "where": lambda: cache.invalidate(where=lambda key: key == "key"),
        "set": lambda: cache.set("key", "new"),
    }[how]
    call = partial(cache.get_or_compute, "key", source, tags=("tag",))
    results = []

    async def change():
        await anyio.sleep(0.5)
        await invalidate()
        source.value = "new"

    async def follow():
        results.append(await call())

    async with anyio.create_task_group() as tg:
        for task in (follow, follow, change, follow):
            tg.start_soon(task)
        await anyio.sleep(0.7)
        tg.start_soon(follow)
    assert sorted(results) == ["new", "new", "new", "old"], "old for its leader alone"
    assert await cache.get("key") == await call() == "new"
    assert is_idle(cache)


async def test_failure_of_an_older_flight_leaves_the_newer_value(clock):
    """The first computation fails after the key was deleted and computed anew."""
    cache = Cache(clock=clock)
    slow, fast = Source(seconds=2, error=ValueError()), Source("new", 0.5)

    async def newer():
        await anyio.sleep(1)
        await cache.delete("key")
        assert await cache.get_or_compute("key", fast) == "new"

    outcomes = await gather(partial(cache.get_or_compute, "key", slow), newer)
    assert isinstance(outcomes[0], ValueError)
    assert await cache.get("key") == "new"


async def test_ttl_per_cache_per_entry_and_from_the_result(clock):
    """Invariant 5, to the instant."""
    cache = Cache(ttl=10, clock=clock)
    await cache.set("own", 1)
    await cache.set("entry", 2, ttl=5)
    await cache.get_or_compute("result", Source(3, 0), ttl=lambda value: value)
    await cache.set("never", 4, ttl=math.inf)
    await cache.get_or_compute("unwanted", Source(5, 0), ttl=lambda value: 0)
    assert await cache.get_many(["own", "entry", "result", "never", "unwanted"]) == {
        "own": 1, "entry": 2, "result": 3, "never": 4,
    }  # fmt: skip
    await clock.advance(3)
    assert await cache.get("result") is None
    await clock.advance(2)
    assert await cache.get("entry") is None
    await clock.advance(4.75)
    assert await cache.get("own") == 1
    await clock.advance(0.25)
    assert await cache.get_or_compute("own", Source("anew", 0)) == "anew"
    assert await cache.get("never") == 4


async def test_ttl_of_the_result_may_be_none_or_nonsense(clock):
    """None is no end; NaN and negative figures, which a server may send, are "do not store"."""
    cache = Cache(ttl=lambda value: value, clock=clock)
    for value in (None, math.nan, -1.0, 0):
        await cache.set(str(value), value, tags=lambda value: (f"tag {value}",))
    assert cache.statistics().entries == 1
    assert (await cache.get("None", 1), cache.explain("None").tags) == (None, ("tag None",))


async def test_jitter_only_shortens(clock):
    """A fleet that was filled at once must not expire at once."""
    cache = Cache(ttl=10, jitter=0.5, clock=clock, random=iter([0.0, 0.5, 0.999]).__next__)
    for key in "abc":
        await cache.set(key, key)
    left = [cache.explain(key).expires_in for key in "abc"]
    assert left == pytest.approx([10, 7.5, 5.005])


async def test_idle_entries_end(clock):
    """What is asked for stays, but not beyond its TTL."""
    cache = Cache(ttl=10, idle=3, clock=clock)
    await cache.set("busy", 1)
    await cache.set("idle", 2)
    for _ in range(4):
        await clock.advance(2)
        assert await cache.get_or_compute("busy", Source(9, 0)) == 1
    assert await cache.get("idle") is None
    await clock.advance(2)
    assert await cache.get("busy") is None, "the TTL is over, however busy it was"


@pytest.mark.parametrize("opened", [False, True])
async def test_what_idled_out_is_not_served_in_any_window(clock, opened):
    """The windows are for what has been in use until its TTL was over."""
    cache = Cache(ttl=100, idle=3, stale_while_revalidate=50, stale_if_error=50, clock=clock)
    async with cache if opened else nullcontext():
        await cache.set("key", "old")
        await clock.advance(3)
        assert cache.explain("key").state == "expired"
        with pytest.raises(LookupError):
            await cache.get_or_compute("key", Source(error=LookupError()))
        await cache.set("other", "old", ttl=5)
        await clock.advance(2)
        await cache.get("other")
        await clock.advance(4)
        assert cache.explain("other").state == "stale"
        assert await cache.get_or_compute("other", Source(error=LookupError())) == "old"


async def test_value_that_idles_out_while_it_is_computed_anew(clock):
    """It is no fallback any more when that fails."""
    cache = Cache(ttl=100, idle=3, refresh_ahead=1, stale_if_error=50, clock=clock, random=lambda: 1 - 1e-12)
    assert await cache.get_or_compute("key", Source("old", 2)) == "old"
    with pytest.raises(LookupError):
        await cache.get_or_compute("key", Source("new", 4, LookupError()))


async def test_stale_value_while_one_computes_anew(clock):
    """Opened: nobody waits, a task refreshes."""
    events = []
    cache = Cache(ttl=10, stale_while_revalidate=5, clock=clock, on_event=events.append)
    async with cache:
        await cache.set("key", "old")
        await clock.advance(12)
        source = Source("new")
        outcomes = await gather(*[partial(cache.get_or_compute, "key", source)] * 10)
        assert outcomes == ["old"] * 10
        assert (cache.statistics().hits, cache.statistics().stale, cache.explain("key").hits) == (10, 10, 10)
        await clock.advance(1)
        assert not cache._engine.refreshing
        assert await cache.get_or_compute("key", source) == "new"
    assert source.calls == 1
    assert events == [*[ServedStale("key", "revalidating")] * 10, Computed("key", 1.0)]
    assert (cache.statistics().hits, cache.statistics().stale) == (11, 10)


async def test_refresh_is_as_it_was_asked_for(clock):
    """With the caller's own TTL and tags; nonsense is refused, and its caller told."""
    cache = Cache(ttl=10, stale_while_revalidate=50, clock=clock)
    async with cache:
        await cache.set("key", "old")
        await clock.advance(12)
        with pytest.raises(ValueError, match="ttl"):
            await cache.get_or_compute("key", Source("new"), ttl=0)
        assert await cache.get_or_compute("key", Source("new"), 5, iter(("tag",))) == "old"
        await clock.advance(1)
        assert (cache.explain("key").expires_in, cache.explain("key").tags) == (5, ("tag",))


async def test_refresh_is_followed_by_who_finds_nothing(clock):
    """What was stale is evicted before the task has begun: there is one computation all the same."""
    cache, source = Cache(maxsize=1, ttl=10, stale_while_revalidate=50, clock=clock), Source("new")
    async with cache:
        await cache.set("key", "old")
        await clock.advance(12)
        assert await cache.get_or_compute("key", source) == "old"
        await cache.set("other", 1)
        assert cache.explain("key").state == "absent"
        assert await cache.get_or_compute("key", source) == "new"
    assert source.calls == 1


async def test_stale_value_without_a_task_group(clock):
    """Not opened: one caller computes, the others do not wait."""
    cache, source = Cache(ttl=10, stale_while_revalidate=5, clock=clock), Source("new")
    await cache.set("key", "old")
    await clock.advance(12)
    assert sorted(await gather(*[partial(cache.get_or_compute, "key", source)] * 3)) == ["new", "old", "old"]
    assert source.calls == 1


@pytest.mark.parametrize("other", [0, 50])
async def test_stale_window_ends(clock, other):
    """Invariant 5: beyond the window, everybody waits for a new value; if there is one for failures, too."""
    async with Cache(ttl=10, stale_while_revalidate=5, stale_if_error=other, clock=clock) as cache:
        await cache.set("key", "old")
        await clock.advance(15)
        assert await cache.get_or_compute("key", Source("new")) == "new"


async def test_closing_stops_refreshing_and_leaves_nothing(clock):
    """A refresh that has not even begun must not hold its key for ever."""
    cache, source = Cache(ttl=10, stale_while_revalidate=50, clock=clock), Source("new", 5)
    await cache.set("key", "old")
    await clock.advance(12)
    for pauses in ((), (0,), (1,)):
        async with cache:
            assert await cache.get_or_compute("key", source) == "old"
            for pause in pauses:
                await anyio.sleep(pause)
        assert is_idle(cache)
    with pytest.raises(RuntimeError, match=r"^this cache is open already$"):
        async with cache, cache:
            pass
    with pytest.raises(KeyError):
        async with cache:
            raise KeyError("the block's own error, and no group around it")


async def test_closing_ends_what_a_task_that_never_began_has_left():
    """A loop that is closed cancels tasks before their first step; the next one must not wait for them."""
    cache = Cache()
    async with cache:
        cache._engine.refreshing[cache._space, "key"] = cache._space.take_off("key")
    assert is_idle(cache)
    assert not cache._engine.refreshing


async def test_refresh_that_was_overtaken_before_it_began(clock):
    """Nobody needs what it would compute."""
    cache, source = Cache(ttl=10, stale_while_revalidate=50, clock=clock), Source("new")
    async with cache:
        await cache.set("key", "old")
        await clock.advance(12)
        assert await cache.get_or_compute("key", source) == "old"
        await cache.delete("key")
        await clock.advance(2)
    assert source.calls == 0
    assert is_idle(cache)


async def test_refresh_that_ends_after_a_newer_one_began(clock):
    """It was overtaken by what was set; the newer one goes on, and is ended with the cache."""
    cache = Cache(ttl=1, stale_while_revalidate=50, clock=clock)
    slow, slower = Source("slow", 5), Source("slower", 9)
    async with cache:
        await cache.set("key", "old")
        await clock.advance(2)
        assert await cache.get_or_compute("key", slow) == "old"
        await clock.advance(0.5)
        await cache.set("key", "set")
        await clock.advance(2)
        assert await cache.get_or_compute("key", slower) == "set"
        await clock.advance(4)
        assert (slow.running, slower.running) == (0, 1)
    assert slower.running == 0
    assert is_idle(cache)
    assert not cache._engine.refreshing


async def test_refresh_that_fails_is_an_event(clock):
    """Nobody waits for it, so nothing may be raised anywhere."""
    events, error = [], OSError("down")
    cache = Cache(ttl=10, stale_while_revalidate=5, clock=clock, on_event=events.append)
    async with cache:
        await cache.set("key", "old")
        await clock.advance(12)
        assert await cache.get_or_compute("key", Source(error=error)) == "old"
        await clock.advance(1)
    assert Failed("key", error) in events


async def test_stale_value_if_computing_fails(clock):
    """For as long as it was allowed, and not longer."""
    events, error = [], OSError("down")
    cache, source = Cache(ttl=10, stale_if_error=5, clock=clock, on_event=events.append), Source(error=error)
    await cache.set("key", "old")
    await clock.advance(11)
    assert await gather(*[partial(cache.get_or_compute, "key", source)] * 3) == ["old"] * 3
    assert source.calls == 1
    assert events == [Failed("key", error), ServedStale("key", "failed")]
    assert (cache.statistics().stale, cache.statistics().failures) == (1, 1)
    await clock.advance(2)
    with pytest.raises(OSError, match="down"):
        await cache.get_or_compute("key", source)


async def test_invalidated_value_is_no_fallback(clock):
    """Invariant 3 also holds when computing fails."""
    cache = Cache(ttl=10, stale_if_error=50, clock=clock)
    await cache.set("key", "old", tags=("tag",))
    await clock.advance(11)
    source = Source(error=OSError("down"))

    async def later():
        await anyio.sleep(0.5)
        await cache.invalidate(tag="tag")

    outcomes = await gather(partial(cache.get_or_compute, "key", source), later)
    assert isinstance(outcomes[0], OSError)


async def test_refresh_ahead_rolls_dice_near_the_end(clock):
    """With dice that always say yes, as early as theory allows; far from the end not even then."""
    cache = Cache(ttl=100, idle=200, refresh_ahead=1, clock=clock, random=lambda: 0.9999)
    source = Source("old")
    async with cache:
        await cache.get_or_compute("key", source)
        await cache.set("set", "for nothing")
        source.value = "new"
        await clock.advance(80)
        assert await cache.get_or_compute("key", source) == "old"
        assert source.calls == 1
        await clock.advance(15)
        assert await cache.get("key") == "old"
        assert await cache.get_or_compute("key", source) == "old"
        assert await cache.get_or_compute("set", source) == "for nothing", "what cost nothing is not computed ahead"
        assert cache.statistics().stale == 0
        await clock.advance(1)
        assert await cache.get_or_compute("key", source) == "new"
    assert source.calls == 2


async def test_refresh_ahead_begins_at_the_instant_that_was_drawn(clock):
    """Computing took 1 s, so half a second before the end for this number."""
    cache = Cache(ttl=2, refresh_ahead=1, clock=clock, random=lambda: 1 - math.exp(-0.5))
    source = Source()
    async with cache:
        await cache.get_or_compute("key", source)
        for seconds, calls in ((1.25, 1), (0.25, 2)):
            await clock.advance(seconds)
            await cache.get_or_compute("key", source)
            await clock.advance(0)
            assert source.calls == calls


async def test_negative_ttl_by_type(clock):
    """A failure of a known kind is remembered, everyone gets a copy, and it ends."""
    ttls = {LookupError: 5}
    cache = Cache(ttl=10, negative_ttl=ttls, stale_if_error=60, clock=clock)
    ttls.clear()
    missing, broken = Source(error=KeyError("no such user")), Source(error=OSError())
    raised = []
    for _ in range(2):
        with pytest.raises(KeyError) as caught:
            await cache.get_or_compute("user", missing)
        raised.append(caught.value)
        with pytest.raises(OSError):
            await cache.get_or_compute("other", broken)
    assert (missing.calls, broken.calls) == (1, 2)
    assert raised[0] is not raised[1]
    assert cache.explain("user").state == "failure"
    with pytest.raises(KeyError):
        await cache.get("user")
    await clock.advance(5)
    missing.error = None
    assert await cache.get_or_compute("user", missing) == "value"


async def test_tags_reach_members_whatever_their_ttl(clock):
    """A set of keys that expires with its last member forgets the others; a generation does not."""
    cache = Cache(clock=clock)
    for _ in range(2):
        await cache.invalidate(tag="none")
    await cache.set("long", 1, ttl=1000, tags=("user",))
    await cache.set("short", 2, ttl=1, tags=("user", "other"))
    await cache.set("free", 3)
    await clock.advance(10)
    await cache.invalidate(tag="user")
    assert cache.explain("long").state == "invalidated"
    assert await cache.get_many(["long", "short", "free"]) == {"free": 3}
    await cache.set("long", 4, tags=("user",))
    assert await cache.get_or_compute("long", Source()) == 4


async def test_many_are_set_with_their_tags_and_ttl(clock):
    """As one by one."""
    cache = Cache(clock=clock)
    await cache.set_many({"a": 1, "b": 2}, ttl=lambda value: 5 * value, tags=lambda value: (f"tag {value}",))
    kept = [cache.explain(key) for key in "ab"]
    assert [(each.expires_in, each.tags) for each in kept] == [(5, ("tag 1",)), (10, ("tag 2",))]


async def test_tags_do_not_pile_up():
    """Tags come from requests; when too many were invalidated, all that have tags are taken to be."""
    cache = Cache()
    await cache.set("tagged", 1, tags=("rare",))
    await cache.set("plain", 2)
    for number in range(5000):
        await cache.invalidate(tag=f"user:{number}")
        assert len(cache._engine.table._tags) <= 4096
    assert await cache.get_many(["tagged", "plain"]) == {"plain": 2}


@pytest.mark.parametrize("options", [{"tag": 5}, {"tag": ["a"]}, {"prefix": 5}, {"glob": 5}, {"where": 5}], ids=str)
async def test_nonsense_is_no_invalidation(options):
    """Refused before anything is forgotten; a number would match nothing, and the caller think that it is gone."""
    cache = Cache()
    await cache.set("a", 1, tags=("b",))
    ((name, value),) = options.items()
    kinds = {"tag": "tag= to be a str", "prefix": "prefix= to be a str or tuple", "glob": "glob= to be a str"}
    needs = f"{kinds.get(name, 'where to be callable')}, got {value!r}"
    with pytest.raises(TypeError, match=rf"^invalidate\(\) needs {re.escape(needs)}$"):
        await cache.invalidate(**{"tag": "b", **options})
    assert await cache.get("a") == 1


def is_int(key):
    """Say whether the key is a number."""
    return isinstance(key, int)


async def test_prefix_glob_and_predicate():
    """Of strings and of tuples; nothing is taken for a regular expression."""
    events = []
    cache = Cache(on_event=events.append)
    for _ in range(2):
        await cache.invalidate(tag="none")
    keys = ["user:1", "user:2", "us.r:3", ("user", 1), ("user", 2), 7]
    await cache.set_many(dict.fromkeys(keys, 0))
    await cache.invalidate(prefix=("user",))
    assert [*await cache.get_many(keys)] == ["user:1", "user:2", "us.r:3", 7]
    await cache.invalidate(glob="us.r:*")
    assert [*await cache.get_many(keys)] == ["user:1", "user:2", 7]
    await cache.invalidate(prefix="user:2")
    assert [*await cache.get_many(keys)] == ["user:1", 7]
    await cache.invalidate(where=is_int)
    assert [*await cache.get_many(keys)] == ["user:1"]
    assert await cache.delete("user:1")
    told = [
        ("tag", "none"),
        ("tag", "none"),
        ("prefix", ("user",)),
        ("glob", "us.r:*"),
        ("prefix", "user:2"),
        ("where", is_int),
        ("key", "user:1"),
    ]
    assert events == [Invalidated(by, what) for by, what in told]
    with pytest.raises(TypeError, match=r"^invalidate\(\) needs one of tag=, prefix=, glob= and where=$"):
        await cache.invalidate()


async def test_invalidating_much_lets_others_run(clock):
    """Ten thousand keys are no reason to stall the loop, and what is set meanwhile stays, anew or again."""
    cache = Cache(maxsize=20_000, clock=clock)
    await cache.set_many({f"user:{number}": number for number in range(10_000)})
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await cache.set_many({"user:new": ticks, "user:9999": ticks})
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tg:
        tg.start_soon(tick)
        await cache.invalidate(prefix="user:")
        tg.cancel_scope.cancel()
    assert 10 < ticks < 100
    assert cache.statistics().entries == 2
    assert await cache.get_many(["user:new", "user:9999"]) == {"user:new": ticks, "user:9999": ticks}


@pytest.mark.parametrize("policy", ["adaptive", "lru", "s3fifo", "tinylfu"])
async def test_never_more_than_maxsize(policy):
    """Invariant 6, whatever comes and goes."""
    events = []
    cache = Cache(maxsize=50, policy=policy, on_event=events.append)
    for number in range(2000):
        await cache.set(number * 7919 % 300, number)
        await cache.get_or_compute(number % 37, Source(0, 0))
        if number % 11 == 0:
            await cache.delete(number % 37)
        assert cache.statistics().entries <= 50
    assert cache.statistics().evictions > 100
    assert any(isinstance(event, Left) and event.reason == "evicted" for event in events)
    assert (
        len(cache._space.entries) == cache.statistics().entries == sum(line.size for line in cache._engine.table._lines)
    )


async def test_lru_order():
    """The option is what its name says."""
    cache = Cache(maxsize=3, policy="lru")
    await cache.set_many({"a": 0, "b": 2, "c": 3})
    await cache.set("a", 1)
    for key in "aba":
        assert await cache.get_or_compute(key, Source()) in (1, 2)
    await cache.set("d", 4)
    assert [*await cache.get_many("abcd")] == ["a", "b", "d"]


async def test_weight():
    """Invariant 6 for weights; what is too heavy by itself is returned and not stored."""
    events = []
    cache = Cache(max_weight=10, weigh=len, on_event=events.append)
    for key in "abcd":
        await cache.set(key, "xxx")
        assert cache.statistics().weight <= 10
    assert cache.statistics().entries == 3
    assert await cache.get_or_compute("heavy", Source("x" * 11, 0)) == "x" * 11
    assert await cache.get("heavy") is None
    assert events[-1] == NotStored("heavy", "its weight is 11, of at most 10")
    await cache.set("light", "")
    assert await cache.get("light") == ""


async def test_weight_of_what_is_replaced_or_removed_is_free_again():
    """To the last bit of it."""
    cache, weights = Cache(max_weight=5, weigh=len), []
    for change in (
        lambda: cache.set("a", "xxx"),
        lambda: cache.set("b", "xx"),
        lambda: cache.set("a", "x"),
        lambda: cache.delete("b"),
    ):
        await change()
        weights.append(cache.statistics().weight)
    assert weights == [3, 5, 3, 1]


async def test_what_has_to_go_is_counted():
    """One by one."""
    cache = Cache(maxsize=2)
    await cache.set_many(dict.fromkeys("abcde", 0))
    assert (cache.statistics().entries, cache.statistics().evictions) == (2, 3)


async def test_what_may_still_be_of_use_is_not_swept(clock):
    """Until its window is over, to the instant."""
    cache = Cache(ttl=10, stale_if_error=5, clock=clock)
    await cache.set("old", 0)
    for seconds, state in ((14, "stale"), (1, "absent")):
        await clock.advance(seconds)
        for number in range(10):
            await cache.set(number, 0, ttl=100)
        assert cache.explain("old").state == state


@pytest.mark.parametrize("policy", ["adaptive", "lru", "s3fifo", "tinylfu"])
async def test_expired_entries_leave_without_being_asked_for(clock, policy):
    """No task and no timer, and yet memory is given back as new entries come."""
    events = []
    cache = Cache(maxsize=10_000, policy=policy, clock=clock, on_event=events.append)
    await cache.set_many({f"old:{number}": 0 for number in range(100)}, ttl=1)
    await clock.advance(1)
    await cache.set_many({f"new:{number}": 0 for number in range(150)}, ttl=100)
    assert cache.statistics().entries == 150
    assert cache.statistics().expirations == 100
    assert {*events} == {Left(f"old:{number}", "expired") for number in range(100)}


async def test_set_again_keeps_the_place_and_takes_the_new_time(clock):
    """An old timer, or an old tag, must not reach the new value."""
    cache = Cache(clock=clock)
    await cache.set("key", 1, ttl=1, tags=("tag",))
    await cache.set("key", 2, ttl=10)
    await clock.advance(5)
    await cache.invalidate(tag="tag")
    assert await cache.get_or_compute("key", Source()) == 2


@pytest.mark.parametrize("isolation", ["copy", "frozen"])
async def test_isolation(isolation):
    """What one caller does to a value must not reach another, not even the leader and the followers of one flight."""
    cache = Cache(isolation=isolation)
    outcomes = await gather(*[partial(cache.get_or_compute, "key", Source({"list": [1], "set": {1}}, 0.01))] * 3)
    outcomes += [await cache.get_or_compute("key", Source()), await cache.get("key")]
    if isolation == "frozen":
        assert all(outcome["list"] == (1,) and isinstance(outcome["set"], frozenset) for outcome in outcomes)
        with pytest.raises(TypeError):
            outcomes[0]["x"] = 1
    else:
        for outcome in outcomes:
            outcome["list"].append(2)
        assert [outcome["list"] for outcome in outcomes] == [[1, 2]] * 5
    assert await cache.get_or_compute("text", Source("text", 0)) == "text"
    assert await cache.get_or_compute("bytes", Source(bytearray(b"x"), 0)) == b"x"


class Original:
    """It refuses to be copied."""

    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        raise self.error


async def test_value_that_cannot_be_copied_is_returned_and_not_stored(clock):
    """Each caller computes its own, since it cannot have a copy of another's."""
    events = []
    error = pickle.PicklingError("no copies")
    cache, source = Cache(isolation="copy", clock=clock, on_event=events.append), Source(Original(error))
    outcomes = await gather(*[partial(cache.get_or_compute, "key", source)] * 3)
    assert outcomes == [source.value] * 3
    assert source.calls == 3
    await cache.set("key", source.value)
    assert await cache.get("key") is None
    why = f"it cannot be isolated: {error!r}"
    assert [event for event in events if isinstance(event, NotStored)] == [NotStored("key", why)] * 4


async def test_statistics_count_what_get_does_not_find(clock):
    """Else a cache that never has what it is asked for would look perfect."""
    cache = Cache(ttl=10, clock=clock)
    await cache.set("one", 1)
    assert await cache.get("two") is None
    assert await cache.get_many(["one", "three"]) == {"one": 1}
    assert cache.statistics().hit_ratio == 1 / 3
    for _ in range(3):
        await cache.get_or_compute("one", Source())
    await clock.advance(10)
    await cache.get("one")
    assert (cache.statistics().hits, cache.statistics().misses) == (4, 3)
    assert (cache.statistics().entries, cache.statistics().expirations) == (0, 1)


async def test_seconds_saved_are_those_of_what_was_loaded(clock):
    """Neither what failed nor what was not found says how long a value takes."""
    cache = Cache(clock=clock)
    await cache.get("key")
    for _ in range(2):
        await gather(partial(cache.get_or_compute, "key", Source(error=LookupError())))
    await gather(*[partial(cache.get_or_compute, "key", Source(seconds=3))] * 2)
    await cache.get("key")
    assert (cache.statistics().loads, cache.statistics().seconds_saved) == (1, 6)
    await cache.get_or_compute("other", Source(seconds=1))
    assert cache.statistics() == CacheStatistics(
        hits=1,
        misses=5,
        loads=2,
        joins=1,
        stale=0,
        failures=2,
        evictions=0,
        expirations=0,
        entries=2,
        weight=2.0,
        load_seconds=4.0,
    )
    assert cache.statistics().seconds_saved == 4


async def test_explain_calls_no_failure_stale(clock):
    """One that is over is of no more use, however long values are."""
    cache = Cache(clock=clock, negative_ttl={KeyError: 5}, stale_if_error=60)
    with pytest.raises(KeyError):
        await cache.get_or_compute("key", Source(error=KeyError()))
    await clock.advance(5)
    assert cache.explain("key").state == "expired"


async def test_explain_tells_and_does_not_count(clock):
    """For a person who wonders why."""
    cache = Cache(ttl=10, stale_if_error=5, clock=clock)
    assert cache.explain("key") == Explanation("absent")
    await cache.set("key", 1, tags=("tag",))
    for _ in range(2):
        await cache.get("key")
        await cache.get_or_compute("key", Source())
    before = cache.statistics()
    await clock.advance(4)
    assert cache.explain("key") == Explanation("fresh", 6.0, 4, ("tag",), 1.0)
    assert cache.statistics() == before
    await clock.advance(8)
    assert cache.explain("key").state == "stale"
    async with anyio.create_task_group() as tg:
        for key in ("key", "key", "key", "other"):
            tg.start_soon(partial(cache.get_or_compute, key, Source()))
        await clock.advance(0.5)
        assert cache.explain("key") == Explanation("stale", -2.5, 4, ("tag",), 1.0, waiting=2)
        assert cache.explain("other") == Explanation("absent", waiting=0)
    await clock.advance(15)
    assert cache.explain("key") == Explanation("expired", -5.0, 4, (), 1.0)


@pytest.mark.parametrize("store", [None, Shelf()])
async def test_not_async_says_so(store):
    """The likeliest slip."""
    cache = Cache(store=store)

    def compute():
        return 1

    for fn, name in ((compute, compute.__qualname__), (partial(compute), repr(partial(compute)))):
        with pytest.raises(TypeError) as caught:
            await cache.get_or_compute("key", fn)
        assert str(caught.value) == f"{name}() is not async; did you forget 'async def'?"
    assert is_idle(cache)


async def test_anything_that_can_be_awaited_will_do():
    """A future, or what another library makes."""

    class Later:
        def __await__(self):
            yield from ()
            return 1

    assert await Cache().get_or_compute("key", Later) == 1


async def test_unhashable_key_says_so():
    """As a dictionary would."""
    with pytest.raises(TypeError, match="unhashable"):
        await Cache().get_or_compute(["key"], Source())


@pytest.mark.parametrize(
    ("options", "error", "needs"),
    [
        ({"maxsize": 0}, ValueError, "maxsize >= 1, got 0"),
        ({"maxsize": True}, TypeError, "an int as maxsize, got True"),
        ({"maxsize": 1.5}, TypeError, "an int as maxsize, got 1.5"),
        ({"ttl": 0}, ValueError, "0 < ttl <= inf, got 0; leave it out for no end"),
        ({"ttl": -1}, ValueError, "0 < ttl <= inf, got -1; leave it out for no end"),
        ({"ttl": math.nan}, ValueError, "0 < ttl <= inf, got nan; leave it out for no end"),
        ({"ttl": True}, TypeError, "a number as ttl, got True"),
        ({"ttl": "1"}, TypeError, "a number as ttl, got '1'"),
        ({"jitter": 1}, ValueError, "0 <= jitter < 1, got 1"),
        ({"jitter": math.nan}, ValueError, "0 <= jitter < 1, got nan"),
        ({"idle": 0}, ValueError, "0 < idle <= inf, got 0; leave it out for no end"),
        ({"stale_while_revalidate": -1}, ValueError, "0 <= stale_while_revalidate < inf, got -1"),
        ({"stale_if_error": math.inf}, ValueError, "0 <= stale_if_error < inf, got inf"),
        ({"refresh_ahead": math.nan}, ValueError, "0 <= refresh_ahead < inf, got nan"),
        ({"negative_ttl": [5]}, TypeError, "a mapping of exceptions as negative_ttl, got [5]"),
        ({"negative_ttl": {"a": 1}}, TypeError, "subclasses of Exception as keys of negative_ttl, got 'a'"),
        ({"negative_ttl": {int: 1}}, TypeError, "subclasses of Exception as keys of negative_ttl, got <class 'int'>"),
        ({"negative_ttl": {KeyError: 0}}, ValueError, "0 < negative_ttl[KeyError] < inf, got 0"),
        ({"negative_ttl": {KeyError: math.inf}}, ValueError, "0 < negative_ttl[KeyError] < inf, got inf"),
        ({"max_weight": 0, "weigh": len}, ValueError, "0 < max_weight <= inf, got 0"),
        ({"max_weight": 5}, ValueError, "weigh= and max_weight= together"),
        ({"weigh": len}, ValueError, "weigh= and max_weight= together"),
        ({"weigh": 3, "max_weight": 5}, TypeError, "weigh to be callable or None, got 3"),
        ({"policy": "LRU"}, ValueError, "policy to be one of adaptive, lru, s3fifo, tinylfu, got 'LRU'"),
        ({"policy": []}, ValueError, "policy to be one of adaptive, lru, s3fifo, tinylfu, got []"),
        ({"isolation": "deep"}, ValueError, "isolation to be one of share, copy, frozen, got 'deep'"),
        ({"isolation": None}, ValueError, "isolation to be one of share, copy, frozen, got None"),
        ({"on_store_error": "allow"}, ValueError, "on_store_error to be one of local, deny, got 'allow'"),
        ({"retry_store_after": 0}, ValueError, "0 < retry_store_after < inf, got 0"),
        ({"retry_store_after": math.inf}, ValueError, "0 < retry_store_after < inf, got inf"),
        ({"retry_store_after": math.nan}, ValueError, "0 < retry_store_after < inf, got nan"),
        ({"retry_store_after": True}, TypeError, "a number as retry_store_after, got True"),
        ({"on_event": 3}, TypeError, "on_event to be callable or None, got 3"),
        ({"clock": None}, TypeError, "clock to be callable, got None"),
        ({"random": 3}, TypeError, "random to be callable, got 3"),
        ({"store": 3}, TypeError, "a store such as RedisStore(client), got 3"),
        ({"store": Shelf}, TypeError, f"a store such as RedisStore(client), got {Shelf!r}"),
        ({"serializer": HALF}, TypeError, f"a Serializer(dumps, loads) as serializer, got {HALF!r}"),
        ({"serializer": OTHER}, TypeError, f"a Serializer(dumps, loads) as serializer, got {OTHER!r}"),
    ],
)
def test_nonsense_is_refused(options, error, needs):
    """At construction, naming the argument and the value, and what would be valid."""
    with pytest.raises(error) as caught:
        Cache(**options)
    assert str(caught.value) == f"Cache needs {needs}"


def test_limits_are_allowed():
    """The least that each argument can be, and the most."""
    least = {
        "maxsize": 1,
        "max_weight": 1e-9,
        "weigh": len,
        "idle": 1e-9,
        "jitter": 0,
        "negative_ttl": {KeyError: 1e-9},
    }
    Cache(**least, ttl=1e-9, retry_store_after=1e-9)
    Cache(max_weight=math.inf, idle=math.inf, ttl=math.inf, jitter=0.999)


def test_defaults():
    """Those of the documentation."""
    assert Cache()._engine.config == Config(
        maxsize=1024,
        max_weight=math.inf,
        weigh=None,
        policy="adaptive",
        ttl=None,
        jitter=0,
        idle=math.inf,
        stale_while_revalidate=0,
        stale_if_error=0,
        refresh_ahead=0,
        negative_ttl={},
        isolation="share",
        random=random.random,
    )


@pytest.mark.parametrize("ttl", [0, -1, math.nan, True])
async def test_nonsense_per_entry_is_refused(ttl):
    """And nothing is stored."""
    cache = Cache()
    with pytest.raises((ValueError, TypeError), match="ttl"):
        await cache.set("key", 1, ttl=ttl)
    for tags in ("tag", 5, (1, 2), lambda _: None):
        with pytest.raises(TypeError, match="tags needs a collection of strings"):
            await cache.set("key", 1, tags=tags)
    assert cache.statistics().entries == 0
    assert cache.statistics().hit_ratio == cache.statistics().seconds_saved == 0.0


async def test_value_that_is_not_stored_leaves_no_older_one():
    """What was set last is the truth, even where it cannot be kept."""
    events = []
    for options, ttl, value in (
        ({}, lambda _: 0, "new"),
        ({"isolation": "copy"}, None, lambda: "new"),
        ({"max_weight": 3, "weigh": len}, None, "heavy"),
    ):
        cache = Cache(**options, on_event=events.append)
        await cache.set("key", "old")
        await cache.set("key", value, ttl=ttl)
        assert cache.statistics().entries == 0
        assert await cache.get("key") is None
    assert [type(event) for event in events].count(NotStored) == 2


@pytest.mark.parametrize("how", ["tags", "a function of the value"])
async def test_failure_from_before_an_invalidation_is_nobody_elses(clock, how):
    """Invariant 3 holds for failures, too: neither told to those who came after it, nor remembered."""
    cache = Cache(clock=clock, negative_ttl={LookupError: 60})
    source, results = Source(error=LookupError("old")), []
    tags = ("tag",) if how == "tags" else lambda value: ("tag",)
    call = partial(cache.get_or_compute, "key", source, tags=tags)

    async def lead():
        with pytest.raises(LookupError):
            await call()

    async with anyio.create_task_group() as tg:
        tg.start_soon(lead)
        await anyio.sleep(0.5)
        await cache.invalidate(tag="tag")
        source.error = None
        source.value = "new"

        async def follow():
            results.append(await call())

        tg.start_soon(follow)
        await anyio.sleep(0.1)
        source.error = LookupError("old")
        await anyio.sleep(0.45)
        source.error = None
    assert results == ["new"]


async def test_remembered_failure_has_the_tags_of_its_key(clock):
    """Or a resource that now exists would stay missing."""
    cache = Cache(clock=clock, negative_ttl={LookupError: 60})
    source = Source(error=LookupError("missing"))

    async def ask():
        with pytest.raises(LookupError):
            await cache.get_or_compute("key", source, tags=("tag",))

    async with anyio.create_task_group() as tg:
        tg.start_soon(ask)
        await anyio.sleep(0.5)
        await cache.invalidate(tag="other")
    await ask()
    assert source.calls == 1
    await cache.invalidate(tag="tag")
    source.error = None
    assert await cache.get_or_compute("key", source, tags=("tag",)) == "value"


@pytest.mark.parametrize("store", [None, Shelf()])
async def test_forgotten_await_says_so(store):
    """A coroutine can be awaited once: cached, it would fail for everybody but the first."""
    inner = Source()

    async def compute():
        return inner()

    cache, name = Cache(store=store), compute.__qualname__
    with pytest.raises(TypeError) as caught:
        await cache.get_or_compute("key", compute)
    assert str(caught.value) == f"{name}() has returned a coroutine that nobody awaited; did you forget 'await'?"
    assert cache.statistics().entries == 0
    assert is_idle(cache)


async def test_callback_that_raises_leaves_nothing_in_the_air(clock):
    """It must not raise; if it does, its own caller is told, and the key is free."""
    cache = Cache(clock=clock, on_event=lambda event: 1 / 0)
    for compute in (Source(), Source(error=LookupError())):
        outcomes = await gather(*[partial(cache.get_or_compute, "key", compute)] * 3)
        assert any(isinstance(outcome, ZeroDivisionError) for outcome in outcomes)
        assert is_idle(cache)


@pytest.mark.parametrize(
    "options", [{"ttl": 0}, {"ttl": -1}, {"ttl": math.nan}, {"ttl": True}, {"tags": "tag"}, {"tags": 5}]
)
async def test_nonsense_per_call_is_refused(options):
    """Before anything is computed."""
    cache, source = Cache(), Source()
    with pytest.raises((ValueError, TypeError), match=r"ttl|tags"):
        await cache.get_or_compute("key", source, **options)
    assert source.calls == 0
    assert is_idle(cache)


@pytest.mark.parametrize("options", [{"ttl": 0}, {"tags": "tag"}])
async def test_nonsense_of_one_who_would_wait_holds_up_nobody(clock, options):
    """It is refused before it lines up: as the heir of a cancelled leader, it would leave the others waiting."""
    cache, source, results = Cache(clock=clock), Source(), []

    async def lead():
        with anyio.move_on_after(0.5):
            await cache.get_or_compute("key", source)

    async def follow():
        results.append(await cache.get_or_compute("key", source, 5, iter(("tag",))))

    async with anyio.create_task_group() as tg:
        tg.start_soon(lead)
        await anyio.sleep(0.1)
        with pytest.raises((ValueError, TypeError), match=r"ttl|tags"):
            await cache.get_or_compute("key", source, **options)
        for _ in range(2):
            tg.start_soon(follow)
    assert results == ["value", "value"]
    assert (cache.explain("key").tags, cache.explain("key").expires_in) == (("tag",), 5)
