"""Meetings of two things that rarely meet, and what the hot path costs."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import math
import sys
from typing import Any, cast

import anyio
import anyio.to_thread
import pytest
from mcp_pool import Event, HookFailed, Pool, PoolMisuse, PoolTimeout

from tests.pool.world import ON_BOTH, STEADY, Backend, Connection, Never, check_invariants, entries
from tests.support.clock import VirtualClock, run, settle
from tests.support.measure import count_instructions, no_growth

pytestmark = pytest.mark.anyio

PER_USE = {
    "plain": {(3, 10): 180, (3, 11): 180, (3, 12): 170, (3, 13): 163},
    "check and reset": {(3, 10): 275, (3, 11): 275, (3, 12): 251, (3, 13): 248},
}
"""Bytecodes of one acquire and release of an idle resource, at most: as counted, and two or so for luck."""


async def test_a_resource_that_dies_at_the_hand_over_is_not_lent(clock: VirtualClock) -> None:
    """The waiter was woken with it, and finds it dead; it keeps its turn."""
    backend = Backend()
    async with Pool.from_context(backend.mortal, max_size=1, **STEADY) as pool, anyio.create_task_group() as tg:
        first = await pool.take()
        served: list[int] = []

        async def wait() -> None:
            async with pool.acquire() as connection:
                served.append(connection.number)

        tg.start_soon(wait)
        await settle()
        (entry,) = pool._desk.shelf.entries
        pool._desk.shelf.give(entry, clock())
        pool._desk.shelf.retire(entry, "died")
        await settle()
        assert served == [2]
        assert not first.is_open


async def test_a_connect_that_cannot_be_cancelled_is_closed_when_it_arrives(clock: VirtualClock) -> None:
    """The pool was closed meanwhile; the resource must not be forgotten."""
    backend = Backend()

    async def stubborn() -> Connection:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(3)
            return await backend.connect()

    async with Pool(stubborn, close=backend.close, min_size=1, connect_timeout=1, **STEADY):
        await settle()
    assert backend.open == set()
    assert clock() == 3


async def test_a_stand_in_that_is_dropped_after_a_forced_close(clock: VirtualClock) -> None:
    """The note it leaves is about a resource that is gone."""
    async with Backend().pool(debug=True) as pool:
        connection = await pool.take()
        await pool.close(drain_timeout=0)
        del connection
        gc.collect()
        pool._desk.supply.keeper.reclaim(0.0)
        assert pool.statistics().leaks == 0


async def test_hooks_that_return_other_awaitables(clock: VirtualClock) -> None:
    """A plain function that returns a future or the like is as good."""

    def reset(connection: Connection) -> Any:
        assert connection.is_open
        return Waits()

    reset.__annotations__["return"] = "Awaitable[None]"

    class Waits:
        def __await__(self) -> Any:
            return anyio.sleep(1).__await__()

    async with Backend().pool(reset=reset) as pool:
        async with pool.acquire():
            pass
        assert (clock(), pool.statistics().idle) == (1.0, 1)


async def test_a_hook_that_survives_its_cancellation_is_believed(clock: VirtualClock) -> None:
    """It was told that its time is over, cleaned up, and says that all is well; the task goes on undisturbed."""

    async def reset(connection: Connection) -> None:
        with contextlib.suppress(BaseException):
            await anyio.sleep(9)

    async with Backend().pool(reset=reset, reset_timeout=1) as pool:
        async with pool.acquire():
            pass
        await anyio.sleep(1)
        assert clock() == 2


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_a_cancelled_caller_is_cancelled_even_when_the_hook_s_time_is_over_too(clock: VirtualClock) -> None:
    """Its own scope counts for more than our limit."""
    async with Backend().pool(reset=Never(), reset_timeout=1, max_size=1) as pool:
        with anyio.CancelScope(deadline=1) as scope:
            async with pool.acquire():
                pass
            await anyio.sleep(5)
        assert scope.cancelled_caught
        await settle()
        check_invariants(pool)


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.skipif(sys.version_info < (3, 11), reason="tasks count who cancelled them since Python 3.11")
@pytest.mark.parametrize("seconds", [0.5, 1.0])
async def test_a_task_of_asyncio_cancelled_in_a_hook(clock: VirtualClock, seconds: float) -> None:
    """It is cancelled, whether the hook's time is over as well or not; nobody says that the hook was too slow."""
    events: list[Event] = []
    counted: list[int] = []

    async def use(pool: Pool[Connection]) -> None:
        try:
            async with pool.acquire():
                pass
        except asyncio.CancelledError:
            counted.append(cast("asyncio.Task[None]", asyncio.current_task()).cancelling())
            raise

    async with Backend().pool(reset=Never(), reset_timeout=1, on_event=events.append) as pool:
        task = asyncio.create_task(use(pool))
        await asyncio.sleep(seconds)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert counted == [1]
    assert not any(isinstance(event, HookFailed) for event in events)


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_a_task_of_asyncio_that_survived_a_cancellation_may_use_hooks(clock: VirtualClock) -> None:
    """It caught a CancelledError once, and goes on: whoever counts on asyncio's count must begin where it is."""
    async with Backend().pool(reset=Never(), reset_timeout=1) as pool:
        cast("asyncio.Task[None]", asyncio.current_task()).cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(0)
        async with pool.acquire():
            pass
        assert clock() == 1
        await settle()
        assert pool.statistics().closed == {"reset": 1}


@ON_BOTH
async def test_a_caller_in_another_event_loop_is_told(anyio_backend: Any, clock: VirtualClock) -> None:
    """It would wait for a wake-up that another thread's loop cannot give it."""
    async with Backend().pool() as pool:
        with pytest.raises(PoolMisuse, match="opened in another event loop"):
            await anyio.to_thread.run_sync(functools.partial(anyio.run, pool.take, backend=anyio_backend[0]))
        assert (pool.statistics().waiting, pool.statistics().connecting) == (0, 0)
        async with pool.acquire():
            pass


async def test_waiters_that_gave_up_cost_nothing() -> None:
    """A pool that is stuck for hours must not remember everybody who ever waited."""
    async with Backend().pool(max_size=1, drain_timeout=0) as pool:
        await pool.take()

        async def give_up() -> None:
            with pytest.raises(PoolTimeout):
                await pool.take(timeout=0.0001)

        await give_up()
        assert pool.statistics().waiting == 0


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_a_use_keeps_no_memory(clock: VirtualClock) -> None:
    """Nothing is left of a borrowing, nor any garbage in cycles."""
    async with Backend().pool(max_size=2, leak_after=math.inf) as pool:

        async def use() -> None:
            async with pool.acquire():
                pass

        await no_growth(use)


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.parametrize("with_hooks", [False, True])
async def test_the_shortest_way_makes_nothing_new(clock: VirtualClock, with_hooks: bool) -> None:
    """What both ends of a block wait for was made once; two coroutines would be a third of the whole."""

    async def nothing(connection: Connection) -> None: ...

    hooks = {"check": nothing, "reset": nothing, "check_after": 0, "timeout": 5, "check_timeout": 5}
    async with Backend().pool(**(hooks if with_hooks else {})) as pool:
        async with pool.acquire():
            pass
        lease = pool.acquire()
        first = lease.__aenter__()
        await first
        last = lease.__aexit__(None, None, None)
        await last
        assert (first, last) == (entries(pool)[0].ready, pool._desk.returned)
        assert asyncio.isfuture(first)  # which asyncio awaits without calling any Python


@pytest.mark.uninstrumented
@pytest.mark.skipif(sys.version_info[:2] not in PER_USE["plain"], reason="counted on Python 3.10 to 3.13")
@pytest.mark.parametrize("kind", PER_USE)
def test_an_acquire_and_release_runs_few_instructions(kind: str) -> None:
    """Time depends on the machine, instructions do not: this fails when the hot path gets longer."""

    async def nothing(connection: Connection) -> None: ...

    hooks = {} if kind == "plain" else {"check": nothing, "reset": nothing, "check_after": 0}

    async def scenario() -> int:
        async with Backend().pool(clock=float, **hooks) as pool:

            async def use() -> None:
                async with pool.acquire():
                    pass

            await use()
            return count_instructions(use)

    assert run(scenario) <= PER_USE[kind][sys.version_info[:2]]


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_a_hundred_tasks_and_a_greedy_one_are_served_in_the_order_of_their_requests(clock: VirtualClock) -> None:
    """Not one inversion; whoever asks again at once is never more than a turn ahead of those who waited."""
    tickets, served = iter(range(10_000)), list[int]()
    turns = {"greedy": 0, "others": 0}

    async def borrow(pool: Pool[Connection], kind: str, pause: float) -> None:
        while clock() < 50:
            ticket = next(tickets)
            async with pool.acquire():
                served.append(ticket)
                turns[kind] += 1
                await anyio.sleep(1)
            await anyio.sleep(pause)

    async with Backend().pool(max_size=10, timeout=math.inf) as pool, anyio.create_task_group() as tg:
        tg.start_soon(borrow, pool, "greedy", 0)
        for number in range(100):
            tg.start_soon(borrow, pool, "others", number % 3 / 10)
    assert served == sorted(served)
    assert turns["greedy"] <= turns["others"] / 100 + 2
