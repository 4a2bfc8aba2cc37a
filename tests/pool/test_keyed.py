"""One pool a key under one limit; the numbers are those of the module's invariants."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_pool import KeyedPool, PoolClosed, PoolFull, PoolMisuse, PoolTimeout

from tests.pool.world import STEADY, Backend, Connection, check_invariants
from tests.support.clock import VirtualClock, run, settle

pytestmark = pytest.mark.anyio


class Backends:
    """A backend for each key, and what is open at all of them."""

    def __init__(self) -> None:
        self.of: dict[Any, Backend] = {}
        self.most_open = 0

    async def connect(self, key: Any) -> Connection:
        backend = self.of.setdefault(key, Backend())
        connection = await backend.connect()
        connection.number = (key, connection.number)  # type: ignore[assignment]
        self.most_open = max(self.most_open, self.open)
        return connection

    async def close(self, connection: Any) -> None:
        await self.of[connection.number[0]].close(connection)

    @asynccontextmanager
    async def context(self, key: Any) -> AsyncIterator[Connection]:
        connection = await self.connect(key)
        async with anyio.create_task_group():  # must be left by the task that entered it
            yield connection
        await self.close(connection)

    @property
    def open(self) -> int:
        return sum(len(backend.open) for backend in self.of.values())

    def pools(self, **options: Any) -> KeyedPool[Any, Connection]:
        return KeyedPool(self.connect, close=self.close, **{**STEADY, **options})


async def hold(pools: KeyedPool[Any, Connection], key: object, seconds: float = 1.0, log: Any = None) -> None:
    async with pools.acquire(key) as connection:
        if log is not None:
            log.append((key, anyio.current_time()))
        assert connection.is_open
        await anyio.sleep(seconds)


async def test_each_key_has_resources_of_its_own() -> None:
    """A tenant never gets another one's connection."""
    backends = Backends()
    async with backends.pools() as pools:
        async with pools.acquire("a") as one, pools.acquire("b") as other:
            assert one.number == ("a", 1)
            assert other.number == ("b", 1)
        async with pools.acquire("a") as again:
            assert again is one
        assert pools.pool("a") is pools.pool("a")
        assert {key: found.connects for key, found in pools.statistics().items()} == {"a": 1, "b": 1}
    assert backends.open == 0


async def test_idle_resources_of_the_key_used_longest_ago_make_room(clock: VirtualClock) -> None:
    """1: the limit holds over all keys; what nobody uses goes first."""
    backends = Backends()
    async with backends.pools(max_total=2) as pools:
        for key in "abc":
            await hold(pools, key)
        assert backends.most_open == 2
        assert {key: found.idle for key, found in pools.statistics().items()} == {"a": 0, "b": 1, "c": 1}
        assert pools.pool("a").statistics().closed == {"evicted": 1}


async def test_a_busy_key_does_not_keep_a_quiet_one_out(clock: VirtualClock) -> None:
    """3: with everything in use by one key, the next that comes back makes room for the other."""
    backends, log = Backends(), []
    async with backends.pools(max_total=2, max_size=2) as pools, anyio.create_task_group() as tg:
        for _ in range(10):
            tg.start_soon(hold, pools, "busy")
        await settle()
        tg.start_soon(hold, pools, "quiet", 1.0, log)
        await clock.advance(1.5)
        assert pools.pool("busy").statistics().closed == {"evicted": 1}
    assert log == [("quiet", 1.0)]
    assert backends.most_open == 2


async def test_keys_take_turns_when_there_are_more_than_resources(clock: VirtualClock) -> None:
    """1 and 3: five keys, two places, ten seconds of work each: nobody is served twice before all were once."""
    backends, log = Backends(), []
    async with backends.pools(max_total=2) as pools, anyio.create_task_group() as tg:
        for _ in range(4):
            for key in range(5):
                tg.start_soon(hold, pools, key, 1.0, log)
                await settle()
    first = {key: min(time for other, time in log if other == key) for key in range(5)}
    assert max(first.values()) <= 5.0
    assert len(log) == 20
    assert backends.most_open == 2


async def test_the_idle_pool_used_longest_ago_makes_room_for_a_new_key() -> None:
    """2: keys come from outside, so their number is bounded."""
    backends = Backends()
    async with backends.pools(max_keys=2) as pools:
        await hold(pools, "a", 0)
        async with pools.acquire("b"):
            await hold(pools, "c", 0)
            assert sorted(pools.statistics()) == ["b", "c"]
            async with pools.acquire("c"):
                with pytest.raises(PoolFull, match="all 2 pools are in use, which is max_keys") as caught:
                    pools.acquire("d")
                assert caught.value.waiting == 0
    assert backends.open == 0


async def test_what_a_pool_leaves_when_it_makes_room_is_enough(clock: VirtualClock) -> None:
    """Its resources are being closed for the new key already: no other key loses one as well."""
    async with Backends().pools(max_total=2, max_keys=2) as pools:
        for key in "abc":
            await hold(pools, key)
        assert {key: found.idle for key, found in pools.statistics().items()} == {"b": 1, "c": 1}


@pytest.mark.parametrize("debug", [False, True])
async def test_who_has_a_resource_may_discard_it_without_knowing_its_key(clock: VirtualClock, debug: bool) -> None:
    """Its block goes on with what it has, as with a single pool; what is of no pool is refused."""
    backends = Backends()
    async with backends.pools(debug=debug) as pools:
        for key in "abc":
            await hold(pools, key, 0)
        async with pools.acquire("b") as connection:
            pools.discard(connection)
            assert connection.is_open
        await settle()
        assert [pools.pool(key).statistics().closed for key in "abc"] == [{}, {"discarded": 1}, {}]
        with pytest.raises(PoolMisuse, match=r"^<0> is not of these pools, or was returned and closed$"):
            pools.discard(Connection(0))


async def test_refresh_and_close_reach_every_key(clock: VirtualClock) -> None:
    """One call each."""
    backends = Backends()
    pools = backends.pools()
    with pytest.raises(PoolClosed, match=r"^these pools are not open$"):
        pools.acquire("a")
    async with pools:
        for key in "ab":
            await hold(pools, key, 0)
        pools.refresh()
        await settle()
        assert backends.open == 0
        async with anyio.create_task_group() as tg:
            tg.start_soon(hold, pools, "a", 9.0)
            await settle()
            await pools.close(drain_timeout=3)
            assert (clock(), backends.open) == (3.0, 0)
    with pytest.raises(PoolClosed):
        pools.acquire("a")
    with pytest.raises(PoolMisuse, match=r"^this KeyedPool was opened or closed before"):
        await pools.__aenter__()


async def test_nonsense_for_a_drain_timeout() -> None:
    """The pools go on."""
    async with Backends().pools() as pools:
        with pytest.raises(ValueError, match="0 to inf seconds as drain_timeout, got -1"):
            await pools.close(drain_timeout=-1)
        await hold(pools, "a", 0)


async def test_pools_that_were_never_opened_can_be_closed() -> None:
    """And not be opened afterwards, like a single pool."""
    pools = Backends().pools()
    await pools.close()
    with pytest.raises(PoolMisuse, match="opened or closed before"):
        await pools.__aenter__()


async def test_contexts(clock: VirtualClock) -> None:
    """``from_context`` with a key."""
    backends = Backends()
    async with KeyedPool.from_context(backends.context, max_total=1, name="upstream", **STEADY) as pools:
        for key in "ab":
            async with pools.acquire(key) as connection:
                assert connection.number == (key, 1)
        assert pools.pool("a").name == "upstream"
    assert backends.open == 0


@pytest.mark.parametrize("make", [lambda it: it.pools, lambda it: partial(KeyedPool.from_context, it.context)])
async def test_limits_by_default(clock: VirtualClock, make: Any) -> None:
    """A hundred resources, a thousand keys."""
    async with make(Backends())(max_size=200) as pools:
        for key in range(1001):
            pools.pool(key)
        assert len(pools.statistics()) == 1000
        taken = [await pools.pool(key).take() for key in range(900, 1000)]
        with pytest.raises(PoolTimeout):
            await pools.pool(0).take(timeout=1)
        for key, connection in enumerate(taken, 900):
            await pools.pool(key).give_back(connection)


async def test_the_timeout_of_an_acquire(clock: VirtualClock) -> None:
    """As for a single pool."""
    async with Backends().pools(max_total=1) as pools, pools.acquire("a"):
        with pytest.raises(PoolTimeout):
            async with pools.acquire("a", timeout=2):
                pass
        assert clock() == 2


async def test_a_key_alone_at_the_limit_keeps_what_it_has(clock: VirtualClock) -> None:
    """It would only take from itself."""
    async with Backends().pools(max_total=2) as pools:
        async with anyio.create_task_group() as tg:
            taken = await pools.pool("a").take()
            for _ in range(5):
                tg.start_soon(hold, pools, "a")
            await settle()
            pools.pool("a").discard(taken)
        assert pools.pool("a").statistics().closed == {"discarded": 1}


async def test_the_idle_resource_used_longest_ago_makes_room(clock: VirtualClock) -> None:
    """Of the pool that has to give one."""
    async with Backends().pools(max_total=2) as pools:
        first, second = await pools.pool("a").take(), await pools.pool("a").take()
        for connection in (second, first):
            await clock.advance(1)
            await pools.pool("a").give_back(connection)
        await hold(pools, "b")
        assert (first.is_open, second.is_open) == (True, False)


async def test_a_minimum_is_kept_only_as_far_as_there_is_room(clock: VirtualClock) -> None:
    """3: what is kept ready for a key that rests goes to one that has nothing, and is not fetched back from it."""
    backends = Backends()
    async with backends.pools(max_total=2, min_size=1) as pools:
        for key in "abc":
            await hold(pools, key)
        await clock.advance(60)
        assert {key: found.idle for key, found in pools.statistics().items()} == {"a": 0, "b": 1, "c": 1}
        assert [backends.of[key].made for key in "abc"] == [1, 1, 1]


async def test_a_minimum_is_restored_when_there_is_room_and_nobody_waits(clock: VirtualClock) -> None:
    """Those who wait come first, however long the other has gone without."""
    backends, log = Backends(), []
    async with backends.pools(max_total=2, min_size=1) as pools:
        for key in "abc":
            await hold(pools, key, 1.0)
        async with anyio.create_task_group() as tg:
            connection = await pools.pool("b").take()
            tg.start_soon(hold, pools, "c", 1.0)
            await settle()
            tg.start_soon(hold, pools, "d", 1.0, log)
            await settle()
            pools.pool("b").discard(connection)
        assert log == [("d", 3.0)]
        pools.pool("d").resize(min_size=0)
        pools.pool("d").refresh()
        await settle()
        assert {key: found.idle for key, found in pools.statistics().items()} == {"a": 1, "b": 0, "c": 1, "d": 0}


async def test_idle_ones_above_a_minimum_go_first(clock: VirtualClock) -> None:
    """Even if their key was used later."""
    async with Backends().pools(max_total=3, min_size=1) as pools:
        await hold(pools, "a")
        async with pools.acquire("b"), pools.acquire("b"):
            pass
        await hold(pools, "c")
        assert {key: found.idle for key, found in pools.statistics().items()} == {"a": 1, "b": 1, "c": 1}


@pytest.mark.parametrize(("least", "served_at"), [(0, [1.0, 1.0]), (1, [1.0, 2.0])])
async def test_a_key_that_has_something_leaves_the_others_their_minimum(
    clock: VirtualClock, least: int, served_at: list[float]
) -> None:
    """It gets its own back soon enough; what is idle above a minimum, it may have."""
    log: list[Any] = []
    async with Backends().pools(max_total=2, min_size=least) as pools:
        await hold(pools, "a")
        async with anyio.create_task_group() as tg:
            for _ in range(2):
                tg.start_soon(hold, pools, "b", 1.0, log)
                await settle()
        assert [time for _, time in log] == served_at
        assert pools.pool("a").statistics().idle == least


async def test_a_minimum_takes_nothing_from_the_others_while_its_waiters_are_provided_for(clock: VirtualClock) -> None:
    """What the pool resets will be theirs."""

    async def reset(connection: Connection) -> None:
        await anyio.sleep(1)

    async with Backends().pools(max_total=2, min_size=2, reset=reset) as pools:
        pools.pool("b").resize(min_size=0)
        await hold(pools, "b", 0)
        with anyio.move_on_after(1):
            await hold(pools, "a", 9)
        await hold(pools, "a", 0)
        assert (clock(), pools.pool("b").statistics().idle) == (4.0, 1)


async def test_one_that_is_being_connected_does_not_make_room_while_others_may(clock: VirtualClock) -> None:
    """It would be closed after its first use."""
    backends = Backends()
    async with backends.pools(max_total=3) as pools, anyio.create_task_group() as tg:
        taken = [await pools.pool("a").take() for _ in range(2)]
        backends.of["a"].takes = 5
        tg.start_soon(hold, pools, "a", 20.0)
        await settle()
        tg.start_soon(hold, pools, "b")
        await settle()
        for connection in taken:
            await clock.advance(1)
            await pools.pool("a").give_back(connection)
        await settle()
        assert [connection.is_open for connection in taken] == [False, True]


async def test_what_comes_for_somebody_who_has_just_left_goes_where_it_is_wanted(clock: VirtualClock) -> None:
    """Cancelled in the moment of its arrival, a waiter is still in the queue; idle, it would stay where it is."""
    backends, log = Backends(), []
    backends.of["a"] = Backend(takes=1.0)
    waiting = anyio.CancelScope()

    async def connect(key: str) -> Connection:
        connection = await backends.connect(key)
        waiting.cancel()
        return connection

    async def give_up() -> None:
        with waiting:
            await hold(pools, "a")

    pools = KeyedPool(connect, close=backends.close, max_total=1, **STEADY)
    async with pools, anyio.create_task_group() as tg:
        tg.start_soon(give_up)
        await settle()
        tg.start_soon(hold, pools, "b", 1.0, log)
    assert log == [("b", 1.0)]


async def test_a_promise_to_somebody_who_left_keeps_nobody_from_what_is_idle(clock: VirtualClock) -> None:
    """3: the use at whose end a resource was to go may take long."""
    log: list[Any] = []
    async with Backends().pools(max_total=2) as pools, anyio.create_task_group() as tg:
        tg.start_soon(hold, pools, "a", 100.0)
        await settle()
        async with pools.acquire("c"):
            with pytest.raises(PoolTimeout):
                await pools.pool("b").take(timeout=1)
        await hold(pools, "d", 1.0, log)
    assert log == [("d", 1.0)]


async def test_what_a_key_is_losing_is_enough_for_itself(clock: VirtualClock) -> None:
    """Its own broken one makes room for the next when it is closed."""
    backends = Backends()
    async with backends.pools(max_total=2) as pools:
        await hold(pools, "b", 0)
        taken = await pools.pool("a").take()
        backends.of["a"].closing_takes = 1.0
        pools.pool("a").discard(taken)
        await hold(pools, "a")
        assert (clock(), pools.pool("b").statistics().idle) == (2.0, 1)


@pytest.mark.parametrize(("shares", "waiting", "evicted"), [((2, 1), "ab", {}), ((3, 1), "b", {"evicted": 1})])
async def test_shares_that_differ_by_one_are_equal(
    clock: VirtualClock, shares: tuple[int, int], waiting: str, evicted: dict[str, int]
) -> None:
    """What is closed for the other key would only be closed again for the first; a larger difference is evened out."""
    async with Backends().pools(max_total=sum(shares)) as pools, anyio.create_task_group() as tg:
        a, b = pools.pool("a"), pools.pool("b")
        taken = [(pool, await pool.take()) for pool, share in zip((a, b), shares, strict=True) for _ in range(share)]
        for key in waiting:
            tg.start_soon(hold, pools, key)
            await settle()
        for pool, connection in taken:
            await pool.give_back(connection)
            await clock.advance(2)
        assert (a.statistics().closed, b.statistics().closed) == (evicted, {})


async def test_a_key_whose_connects_fail_waits_for_room_as_well(clock: VirtualClock) -> None:
    """Its next attempt is due while the other key has all there is."""
    backends, log = Backends(), []
    backends.of["b"] = Backend()
    backends.of["b"].plan = [OSError("refused")]
    async with backends.pools(max_total=1, backoff=1.0) as pools, anyio.create_task_group() as tg:
        tg.start_soon(hold, pools, "b", 1.0, log)
        await settle()
        await hold(pools, "a", 2.0)
    assert log == [("b", 2.0)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_total": 0}, "Pool needs an int of at least 1 as max_total, got 0"),
        ({"max_total": True}, "Pool needs an int of at least 1 as max_total, got True"),
        ({"max_keys": math.inf}, "Pool needs an int of at least 1 as max_keys, got inf"),
        ({"max_size": 0}, "Pool needs an int of at least 1 as max_size, got 0"),
        ({"timeout": -1}, "Pool needs 0 to inf seconds as timeout, got -1"),
        ({"min_size": 3, "max_total": 2}, "KeyedPool needs min_size <= max_total, got min_size=3 and max_total=2"),
    ],
)
def test_nonsense(options: dict[str, Any], message: str) -> None:
    """Refused when it is made, not when the first key comes."""
    with pytest.raises((ValueError, TypeError)) as caught:
        KeyedPool(Backends().connect, **options)
    assert str(caught.value) == message


def test_functions_that_cannot_be_meant_are_named() -> None:
    """As by a single pool."""
    with pytest.raises(TypeError, match=r"^connect=sync is not async; did you forget 'async def'\?$"):
        KeyedPool(sync)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="from_context needs a function that returns a context manager, got 3"):
        KeyedPool.from_context(3)  # type: ignore[arg-type]


def sync(key: object) -> None: ...


LONGEST = 2.0  # seconds of a use
Requests = st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from([0.0, 0.5, LONGEST])), min_size=1, max_size=25)


@given(Requests, st.integers(1, 3), st.integers(1, 3), st.integers(0, 1))
def test_all_are_served_within_the_limit(requests: list[tuple[str, float]], total: int, size: int, least: int) -> None:
    """1 and 3, for any requests: never is more open than allowed, and who has nothing waits no longer than promised."""

    async def use(pools: KeyedPool[Any, Connection], key: str, seconds: float) -> None:
        mine, began = pools.pool(key).statistics(), anyio.current_time()
        keys_waiting = 1 + sum(found.waiting > 0 for found in pools.statistics().values())
        uses = math.ceil(keys_waiting / total)
        has_nothing = not (mine.waiting + mine.idle + mine.in_use + mine.connecting + mine.closing)
        async with pools.acquire(key):
            assert not has_nothing or anyio.current_time() - began <= uses * LONGEST
            await anyio.sleep(seconds)

    async def scenario() -> None:
        backends = Backends()
        async with backends.pools(max_total=total, max_size=size, min_size=least, timeout=math.inf) as pools:
            with anyio.fail_after(300):
                async with anyio.create_task_group() as tg:
                    for key, seconds in requests:
                        tg.start_soon(use, pools, key, seconds)
                        await anyio.sleep(seconds / 2)
            for key in pools.statistics():
                check_invariants(pools.pool(key))
        assert backends.most_open <= total
        assert backends.open == 0

    run(scenario)
