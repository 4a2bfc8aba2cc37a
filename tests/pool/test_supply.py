"""Connecting and closing, by the tasks that own the resources."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from mcp_pool import (
    Closed,
    Connected,
    ConnectFailed,
    Event,
    HookFailed,
    Pool,
    PoolClosed,
    PoolTimeout,
    PoolUnavailable,
    Recovered,
    Unavailable,
)

from tests.pool.world import (
    STEADY,
    Backend,
    Connection,
    Never,
    expect_closed,
    hold,
    on_trio,
    settle_on_any,
)
from tests.support.clock import VirtualClock, settle

pytestmark = pytest.mark.anyio


class TestConnecting:
    async def test_a_waiter_takes_whichever_comes_first(self, clock: VirtualClock) -> None:
        """A returned one or a new one; and the other stays for the next."""
        backend = Backend(takes=5)
        async with backend.pool(max_size=2) as pool:
            async with anyio.create_task_group() as tg:
                tg.start_soon(hold, pool, 1.0)
                await clock.advance(5)
                async with pool.acquire() as connection:
                    assert (connection.number, clock()) == (1, 6.0)
            await clock.advance(5)
            assert pool.statistics().idle == 2

    async def test_a_connect_outlives_its_caller(self, clock: VirtualClock) -> None:
        """What was begun for one caller serves the next."""
        backend = Backend(takes=5)
        async with backend.pool() as pool:
            with anyio.move_on_after(1):
                await pool.take()
            await clock.advance(5)
            assert pool.statistics().idle == 1
            await hold(pool, 0)
            assert backend.made == 1

    async def test_connects_in_flight_are_bounded(self, clock: VirtualClock) -> None:
        """A burst must not storm a server that has just come back."""
        backend = Backend(takes=1)
        async with backend.pool(max_size=10, max_connecting=2) as pool, anyio.create_task_group() as tg:
            for _ in range(10):
                tg.start_soon(hold, pool, 100.0)
            await clock.advance(0.5)
            assert pool.statistics().connecting == 2
            await clock.advance(4)
            assert backend.made == 8

    async def test_a_connect_that_hangs_is_given_up(self, clock: VirtualClock) -> None:
        """A slot must not be lost to a server that accepts and says nothing."""
        backend, events = Backend(), []
        backend.plan = [Never()]
        async with backend.pool(connect_timeout=3, max_size=1, backoff=1.0, on_event=events.append) as pool:
            await hold(pool, 0)
            assert clock() == 4.0
        errors = [repr(event.error) for event in events if isinstance(event, ConnectFailed)]
        assert errors == ["TimeoutError('took longer than 3 s')"]

    async def test_one_waiter_s_failures_back_off(self, clock: VirtualClock) -> None:
        """1 s, 2 s, then the gate is shut; 4 s, 4 s, then it works again."""
        backend, events = Backend(), []
        backend.default = error = OSError("refused")
        pool = backend.pool(backoff=1.0, max_backoff=4.0, connect_attempts=3, on_event=events.append)
        async with pool:
            with pytest.raises(PoolUnavailable, match=r"pool cannot connect: 3 failures in a row") as caught:
                await pool.take()
            assert (clock(), caught.value.__cause__, caught.value.retry_after) == (3.0, error, 4.0)
            await clock.advance(1)
            with pytest.raises(PoolUnavailable) as caught:
                await pool.take()
            assert (clock(), caught.value.retry_after) == (4.0, 3.0)
            assert not pool.statistics().available
            await clock.advance(2.5)
            with pytest.raises(PoolUnavailable) as caught:
                await pool.take()
            assert (clock(), caught.value.retry_after) == (6.5, 0.5)
            await clock.advance(1.5)
            backend.default = None
            await clock.advance(4)
            assert backend.attempts == [0.0, 1.0, 3.0, 7.0, 11.0]
            assert (pool.statistics().available, pool.statistics().connect_failures) == (True, 4)
            assert pool._desk.supply.gate.error is None  # nothing is kept once it works
            async with pool.acquire():
                assert clock() == 12.0
        assert events == [
            ConnectFailed("pool", error, 1, 1.0),
            ConnectFailed("pool", error, 2, 2.0),
            ConnectFailed("pool", error, 3, 4.0),
            Unavailable("pool", error),
            ConnectFailed("pool", error, 4, 4.0),
            Connected("pool", 0.0),
            Recovered("pool", 4),
            Closed("pool", "closing", 1.0, 1),
        ]

    async def test_one_probe_alone_is_in_flight(self, clock: VirtualClock) -> None:
        """Whoever asks meanwhile waits for it."""
        backend = Backend(takes=5)
        backend.plan = [OSError("refused"), OSError("refused")]
        async with backend.pool(backoff=1.0) as pool, anyio.create_task_group() as tg:
            for pause in (0, 4, 1):
                await clock.advance(pause)
                tg.start_soon(hold, pool, 1.0)
                tg.start_soon(hold, pool, 1.0)
        assert backend.attempts[:4] == [0.0, 0.0, 2.0, 7.0]

    async def test_failing_connects_do_not_refuse_those_who_may_get_a_returned_one(self, clock: VirtualClock) -> None:
        """A server that allows fewer connections than the pool would like still serves all."""
        backend = Backend()
        backend.plan = [0.0] + [OSError("too many connections")] * 99
        async with backend.pool(max_size=2, connect_attempts=1) as pool, anyio.create_task_group() as tg:
            for _ in range(3):
                tg.start_soon(hold, pool, 1.0)
                await settle()
            await clock.advance(0.5)
            assert pool.statistics().waiting == 2
        assert clock() == 3.0

    async def test_the_last_one_dying_refuses_those_who_wait(self, clock: VirtualClock) -> None:
        """Then there is nothing left to wait for."""
        backend = Backend()
        backend.plan = [0.0] + [OSError("down")] * 99
        log: list[tuple[int, float]] = []

        async def wait(number: int) -> None:
            with pytest.raises(PoolUnavailable):
                await pool.take()
            log.append((number, clock()))

        async with backend.pool(max_size=2, connect_attempts=1) as pool, anyio.create_task_group() as tg:
            connection = await pool.take()
            for number in range(3):
                tg.start_soon(wait, number)
                await settle()
            await clock.advance(5)
            pool.discard(connection)
            await clock.advance(9)  # further probes refuse nobody
            assert pool.statistics().refusals == 3
        assert log == [(0, 5.0), (1, 5.0), (2, 5.0)] or on_trio()  # which wakes in any order who is woken at once

    async def test_connect_that_cancels_itself_is_a_failure(self) -> None:
        """A CancelledError from inside a library is not the end of the pool."""
        backend = Backend()

        async def cancelled() -> None:
            with anyio.CancelScope() as scope:
                scope.cancel()
                await anyio.sleep(1)
            raise anyio.get_cancelled_exc_class() if not on_trio() else OSError

        backend.plan = [cancelled]
        async with backend.pool(backoff=0.001) as pool:
            await hold(pool, 0)
            assert pool.statistics().connect_failures == 1

    async def test_minimum_is_kept(self, clock: VirtualClock) -> None:
        """Also when resources are lost."""
        backend = Backend(takes=1)
        async with backend.pool(min_size=2, backoff=0.5) as pool:
            await pool.warm()
            assert (clock(), backend.made, pool.statistics().connect_seconds) == (1.0, 2, 2.0)
            backend.plan = [OSError("once")]
            async with pool.acquire() as connection:
                pool.discard(connection)
            await clock.advance(2)
            assert pool.statistics().idle == 2

    async def test_warm_says_why_it_cannot(self, clock: VirtualClock) -> None:
        """A program that starts should not have to guess."""
        backend = Backend(takes=9)
        async with backend.pool(min_size=1, timeout=2) as pool:
            for timeout, seconds in ((1, 1), (None, 2)):
                with anyio.fail_after(5), pytest.raises(PoolTimeout) as caught:
                    await pool.warm(timeout)
                assert (caught.value.early, caught.value.timeout) == (False, seconds)
            assert (clock(), pool.statistics().timeouts) == (3, 2)
        backend.default = OSError("refused")
        async with backend.pool(min_size=1, backoff=0.1) as pool:
            with pytest.raises(PoolUnavailable):
                await pool.warm()

    async def test_warm_ends_when_the_pool_is_closed(self, clock: VirtualClock) -> None:
        """Also between two attempts, when nothing else happens."""
        backend = Backend()
        backend.default = OSError("refused")
        async with backend.pool(min_size=1, backoff=20.0) as pool, anyio.create_task_group() as tg:
            tg.start_soon(expect_closed, pool.warm)
            await clock.advance(1)
            await pool.close()
        assert clock() == 1

    async def test_a_connect_that_is_late_in_spite_of_its_cancellation_is_not_lent(self, clock: VirtualClock) -> None:
        """Its task is being cancelled, so it would be closed in its borrower's hands; it is closed in peace."""
        backend, delays = Backend(closing_takes=1), [3.0, 0.0]

        async def connect() -> Connection:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(delays.pop(0))
                return await backend.connect()

        pool = Pool(connect, close=backend.close, connect_timeout=1, max_size=1, **{**STEADY, "backoff": 1.0})
        async with pool:
            async with pool.acquire() as connection:
                assert (connection.number, connection.is_open, clock()) == (2, True, 5.0)
            assert (pool.statistics().connect_failures, pool.statistics().connects) == (1, 1)

    async def test_refresh_replaces_all(self, clock: VirtualClock) -> None:
        """New credentials: idle ones now, those in use when they come back, those connecting when they arrive."""
        backend = Backend()
        async with backend.pool(max_size=3) as pool:
            idle, used = await pool.take(), await pool.take()
            await pool.give_back(idle)
            backend.takes = 2
            async with anyio.create_task_group() as tg:
                async with pool.acquire(), anyio.create_task_group() as inner:
                    inner.start_soon(hold, pool, 0)
                    await clock.advance(1)
                    pool.refresh()
                    await settle()
                    assert backend.open == {idle, used}
                    await pool.give_back(used)
                    await settle()
                    assert backend.open == {idle}
                    inner.cancel_scope.cancel()
                tg.cancel_scope.cancel()
            await clock.advance(9)
            assert not idle.is_open
            assert pool.statistics().closed == {"refresh": 3}

    async def test_resize(self, clock: VirtualClock) -> None:
        """Up lets waiters in; down closes idle ones first, and the others when they come back."""
        backend = Backend()
        async with backend.pool(max_size=2) as pool:
            async with anyio.create_task_group() as tg:
                for _ in range(4):
                    tg.start_soon(hold, pool, 10.0)
                await settle()
                assert pool.statistics().waiting == 2
                pool.resize(max_size=4)
                await settle()
                assert pool.statistics().waiting == 0
                pool.resize(max_size=1)
                await settle()
                assert len(backend.open) == 4
            await settle()
            assert len(backend.open) == 1
            assert pool.statistics().closed == {"shrink": 3}
            pool.resize(min_size=3, max_size=3)
            await settle()
            assert pool.statistics().idle == 3
            pool.resize(min_size=0, max_size=1)
            await settle()
            assert pool.statistics().idle == 1
            with pytest.raises(ValueError, match=r"min_size <= max_size, got min_size=2 and max_size=1"):
                pool.resize(min_size=2)
            assert pool.statistics().min_size == 0

    async def test_resizing_before_the_pool_is_open(self) -> None:
        """Limits may come from a configuration that is read late."""
        pool = Backend().pool(max_size=1)
        pool.resize(max_size=2)
        async with pool, pool.acquire(), pool.acquire():
            assert pool.statistics().in_use == 2
        pool.resize(max_size=3)
        with pytest.raises(PoolClosed):
            await pool.take()

    async def test_resizing_again_counts_what_is_leaving_already(self, clock: VirtualClock) -> None:
        """Otherwise each call would close more."""
        async with Backend().pool(max_size=4) as pool:
            async with anyio.create_task_group() as tg:
                for _ in range(4):
                    tg.start_soon(hold, pool, 10.0)
                await settle()
                for size in (2, 2, 3):
                    pool.resize(max_size=size)
            await settle()
            assert pool.statistics().closed == {"shrink": 2}
            assert pool.statistics().idle == 2

    async def test_idle_ones_go_and_not_the_older_one_in_use(self) -> None:
        """Age is not what counts."""
        backend = Backend()
        async with backend.pool() as pool:
            used, idle = await pool.take(), await pool.take()
            await pool.give_back(idle)
            pool.resize(max_size=1)
            await settle_on_any()
            assert backend.open == {used}
            pool.discard(used)

    async def test_what_was_discarded_makes_room_as_well(self) -> None:
        """It goes anyway, and nobody else has to."""
        async with Backend().pool() as pool:
            async with pool.acquire(), pool.acquire() as spoilt, pool.acquire():
                pool.discard(spoilt)
                pool.resize(max_size=2)
            await settle_on_any()
            assert pool.statistics().closed == {"discarded": 1}

    async def test_idle_ones_go_first_and_then_those_that_are_not_connected_yet(self, clock: VirtualClock) -> None:
        """Nobody's work is in vain where that can be helped."""
        backend = Backend()
        async with backend.pool(max_size=3) as pool, anyio.create_task_group() as tg:
            used, idle = await pool.take(), await pool.take()
            await pool.give_back(idle)
            pool.resize(max_size=2)
            assert pool.statistics().closing == 0
            backend.takes = 5
            tg.start_soon(hold, pool, 9.0)
            await settle()
            tg.start_soon(hold, pool, 9.0)
            await settle()
            assert (pool.statistics().in_use, pool.statistics().waiting) == (2, 1)
            pool.resize(max_size=3)
            await settle()
            assert pool.statistics().connecting == 1
            pool.resize(max_size=2)
            await clock.advance(5)
            assert (pool.statistics().in_use, pool.statistics().idle) == (2, 0)
            pool.resize(max_size=1)
            pool.discard(used)


class TestOwners:
    async def test_tasks_have_the_name_of_the_pool(self) -> None:
        """Whoever looks at a program's tasks sees whose they are."""
        async with Backend().pool(name="db") as pool:
            await hold(pool, 0)
            assert {"db keeper", "db owner"} <= {task.name for task in anyio.get_running_tasks()}

    async def test_each_context_is_left_by_the_task_that_entered_it(self) -> None:
        """A cancel scope inside would otherwise raise, as MCP sessions do in every other pool."""
        backend = Backend()
        pool = Pool.from_context(backend.context, max_size=5, max_uses=1, **STEADY)
        async with pool:

            async def use() -> None:
                async with pool.acquire():
                    await anyio.lowlevel.checkpoint()

            async with anyio.create_task_group() as tg:
                for _ in range(20):
                    tg.start_soon(use)
        assert backend.made == 20
        assert backend.open == set()
        assert pool.statistics().closed == {"uses": 20}

    async def test_a_resource_that_dies_is_replaced(self, clock: VirtualClock) -> None:
        """Its own task group was cancelled: idle it vanishes, in use it is not lent again."""
        backend = Backend()
        async with Pool.from_context(backend.mortal, **STEADY) as pool:
            async with pool.acquire() as connection:
                pass
            connection.scope.cancel()
            await settle()
            assert pool.statistics().idle == 0
            async with pool.acquire() as connection:
                connection.scope.cancel()
                await settle()
                assert not connection.is_open
            async with pool.acquire() as connection:
                assert connection.number == 3
            assert pool.statistics().closed == {"died": 2}

    async def test_a_resource_that_is_dying_is_not_lent_and_dies_in_time(self, clock: VirtualClock) -> None:
        """Its context manager may take long to unwind; the limit of a close holds for that too."""
        backend = Backend(closing_takes=1)
        events: list[Event] = []

        @asynccontextmanager
        async def mortal() -> Any:
            async with backend.mortal() as connection:
                yield connection
            await anyio.sleep(math.inf if connection.number == 1 else 0)

        pool = Pool.from_context(mortal, max_size=2, close_timeout=3, on_event=events.append, **STEADY)
        async with pool:
            async with pool.acquire() as connection:
                pass
            connection.scope.cancel()
            await settle()
            assert (pool.statistics().closing, pool.statistics().idle) == (1, 0)
            async with pool.acquire() as other:
                assert other.number == 2
            await clock.advance(3)
            assert pool.statistics().closed == {"died": 1}
        assert [type(event.error) for event in events if isinstance(event, HookFailed)] == [TimeoutError]

    async def test_an_event_that_closes_what_was_just_connected(self, clock: VirtualClock) -> None:
        """A callback runs in the middle of the work: what it asks for is done, and in peace."""
        backend, errors = Backend(closing_takes=1), []

        def on_event(event: Event) -> None:
            if isinstance(event, Connected) and backend.made == 1:
                pool.refresh()
            if isinstance(event, HookFailed):
                errors.append(event)

        pool = Pool.from_context(backend.patient, min_size=1, max_size=1, on_event=on_event, **STEADY)
        async with pool:
            await clock.advance(2)
            assert (backend.made, errors, pool.statistics().idle) == (2, [], 1)
            assert pool.statistics().closed == {"refresh": 1}

    async def test_errors_of_a_close_are_reported(self, clock: VirtualClock) -> None:
        """Nobody is there to catch them."""
        events: list[Event] = []

        async def close(connection: Connection) -> None:
            await anyio.sleep(math.inf if connection.number == 1 else 0)
            raise OSError("broken pipe")

        async with Backend().pool(close=close, close_timeout=2, on_event=events.append) as pool:
            for _ in range(2):
                async with pool.acquire() as connection:
                    pool.discard(connection)
        errors = [(event.pool, event.hook, repr(event.error)) for event in events if isinstance(event, HookFailed)]
        assert sorted(errors) == [
            ("pool", "close", "OSError('broken pipe')"),
            ("pool", "close", "TimeoutError('took longer than 2 s')"),
        ]
        assert pool.statistics().closed == {"discarded": 2}

    async def test_a_context_that_hangs_on_its_way_out_is_cut_off(self, clock: VirtualClock) -> None:
        """The limit of a close holds for context managers too."""

        @asynccontextmanager
        async def factory() -> Any:
            yield object()
            await anyio.sleep_forever()

        events: list[Event] = []
        async with Pool.from_context(factory, close_timeout=2, on_event=events.append, **STEADY) as pool:
            await hold(pool, 0)
        assert clock() == 2
        errors = [repr(event.error) for event in events if isinstance(event, HookFailed)]
        assert errors == ["TimeoutError('took longer than 2 s')"]

    async def test_a_failing_callback_does_not_hurt_the_pool(self, caplog: pytest.LogCaptureFixture) -> None:
        """It runs in the middle of the pool's work."""

        def on_event(event: Event) -> None:
            raise LookupError("bug")

        async with Backend().pool(on_event=on_event) as pool:
            await hold(pool, 0)
        assert {(record.name, record.message) for record in caplog.records} == {("mcp_pool", "on_event of pool failed")}


class TestClosingByItself:
    @pytest.mark.parametrize("name", ["aclose", "close"])
    @pytest.mark.parametrize("is_async", [True, False])
    async def test_the_resource_s_own_close_is_used(self, name: str, is_async: bool) -> None:
        """httpx has aclose, asyncpg an async close, sqlite3 a sync one."""
        closed = []

        async def close_async(self: object) -> None:
            closed.append(self)

        def close(self: object) -> None:
            closed.append(self)

        kind = type("Resource", (), {name: close_async if is_async else close})

        async def connect() -> Any:
            return kind()

        async with Pool(connect) as pool, pool.acquire() as resource:
            pass
        assert closed == [resource]


class TestClosing:
    async def test_waits_for_those_in_use_and_refuses_the_others(self, clock: VirtualClock) -> None:
        """Graceful: work in progress ends, nothing new begins, and closing twice is closing."""
        backend = Backend()
        pool = backend.pool(max_size=1)
        async with anyio.create_task_group() as tg, pool:
            tg.start_soon(hold, pool, 5.0)
            await settle()
            tg.start_soon(expect_closed, pool.take)
            await settle()
            tg.start_soon(pool.close)
            await settle()
            await expect_closed(pool.take)
            await pool.close()
            assert clock() == 5.0
        assert backend.open == set()
        assert pool.statistics().closed == {"closing": 1}

    async def test_after_the_deadline_all_is_closed(self, clock: VirtualClock) -> None:
        """Forced: the borrower finds its connection closed, and its block still ends."""
        backend = Backend()
        async with anyio.create_task_group() as tg, backend.pool() as pool:
            tg.start_soon(hold, pool, 50.0)
            await settle()
            await pool.close(drain_timeout=3)
            assert (clock(), backend.open) == (3.0, set())
        assert clock() == 50.0

    async def test_connects_in_flight_are_given_up(self, clock: VirtualClock) -> None:
        """Nobody would use them."""
        backend = Backend(takes=50)
        async with backend.pool(min_size=1) as pool:
            await settle()
        assert (clock(), backend.open) == (0.0, set())
        assert pool.statistics().connect_failures == 0
        assert pool.statistics().closed == {}

    async def test_a_pool_closed_before_its_owners_started(self) -> None:
        """An owner that was just spawned has nothing to connect any more."""
        backend = Backend()
        async with backend.pool(min_size=3) as pool:
            pool._desk.supply.grow(anyio.current_time())
        assert backend.attempts == []

    async def test_close_under_cancellation_completes(self, clock: VirtualClock) -> None:
        """Cancelled programs leave nothing behind either; the rest is cut off at its limit."""
        backend = Backend(closing_takes=99)
        with anyio.move_on_after(1) as scope:
            async with backend.pool(close_timeout=2) as pool, pool.acquire():
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        assert (clock(), backend.open) == (3.0, set())

    async def test_a_close_that_is_cancelled_still_waits_until_all_is_closed(self, clock: VirtualClock) -> None:
        """It stops waiting for those in use, and nothing else."""
        backend = Backend(closing_takes=3)
        async with backend.pool() as pool:
            connection = await pool.take()
            with anyio.move_on_after(1):
                await pool.close()
            assert (clock(), connection.is_open, pool.statistics().closed) == (4, False, {"closing": 1})

    async def test_a_cancelled_program_may_finish_with_what_it_has(self) -> None:
        """Its clean-up, under a shield, still finds the resource open."""
        with anyio.CancelScope() as scope:
            async with Backend().pool() as pool, pool.acquire() as connection:
                scope.cancel()
                with anyio.CancelScope(shield=True):
                    await settle_on_any()
                    assert connection.is_open
        assert pool.statistics().closed == {"closing": 1}

    async def test_a_reset_in_the_owner_s_hands_is_cut_off_by_a_forced_close(self, clock: VirtualClock) -> None:
        """Otherwise a close under a shield would take as long as the reset is allowed to, perhaps for ever."""
        backend = Backend()
        async with backend.pool(reset=Never(), reset_timeout=math.inf) as pool:
            with anyio.move_on_after(1):
                await hold(pool, 10)
            await pool.close(drain_timeout=2)
            assert (clock(), backend.open) == (3.0, set())
        assert pool.statistics().closed == {"closing": 1}

    async def test_nonsense_for_a_drain_timeout(self) -> None:
        """The pool goes on."""
        async with Backend().pool() as pool:
            with pytest.raises(ValueError, match="0 to inf seconds as drain_timeout, got -1"):
                await pool.close(drain_timeout=-1)
            await hold(pool, 0)

    async def test_an_error_in_the_block_comes_out_alone(self) -> None:
        """Not in a group: the pool's tasks are its own affair."""

        async def fail() -> None:
            async with Backend().pool() as pool:
                await hold(pool, 0)
                raise KeyError

        with pytest.raises(KeyError):
            await fail()


async def test_events_of_a_life() -> None:
    """The whole story of one resource."""
    events: list[Event] = []
    async with Backend().pool(on_event=events.append, name="db") as pool:
        await hold(pool, 0)
    connected, closed = events
    assert isinstance(connected, Connected)
    assert connected.pool == "db"
    assert isinstance(closed, Closed)
    assert (closed.reason, closed.uses) == ("closing", 1)
