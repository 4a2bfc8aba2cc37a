"""Checks, resets, and what else decides whether a resource is lent again."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from mcp_pool import (
    ConnectFailed,
    Event,
    HookFailed,
    Pool,
    PoolTimeout,
)

from tests.pool.world import (
    ON_BOTH,
    STEADY,
    Backend,
    Connection,
    Never,
    check_invariants,
    entries,
    expect_closed,
    hold,
    settle_on_any,
    until,
)
from tests.support.clock import VirtualClock, settle

pytestmark = pytest.mark.anyio


class Strange(BaseException):
    """Neither an error nor a cancellation."""


async def _nothing_wrong(connection: Connection) -> None: ...


async def hold_within(pool: Pool[Connection], limit: float) -> None:
    async with pool.acquire(limit):
        pass


async def expect_timeout(pool: Pool[Connection], limit: float) -> None:
    with pytest.raises(PoolTimeout):
        await pool.take(limit)


async def hold_step(coroutine: Any, pool: Pool[Connection]) -> None:
    """Connect one, and step *coroutine* into its block."""
    connection = await pool.take()
    pool._desk.shelf.give(next(iter(entries(pool))), 0.0)
    next(iter(entries(pool))).taken = False
    del connection
    coroutine.send(None)


class TestHealth:
    @pytest.mark.parametrize("options", [{}, {"leak_after": 99}])
    async def test_check_on_borrow_is_skipped_after_recent_use(
        self, clock: VirtualClock, options: dict[str, Any]
    ) -> None:
        """A check costs a round trip; what worked a moment ago works."""
        checked: list[float] = []

        async def check(connection: Connection) -> None:
            checked.append(clock())

        async with Backend().pool(check=check, check_after=1.0, **options) as pool:
            for pause in (0.0, 0.5, 1.0, 0.9, 1.5):
                await anyio.sleep(pause)
                await hold(pool, 0)
        assert checked == [1.5, 3.9]

    @ON_BOTH
    @pytest.mark.parametrize("failure", ["false", "error", "slow error", "hang", "base"])
    async def test_what_fails_its_check_is_replaced(self, clock: VirtualClock, failure: str) -> None:
        """The borrower gets one that works, and does not lose its turn; nothing is checked twice."""
        events: list[Event] = []
        checked: list[int] = []

        async def check(connection: Connection) -> bool:
            checked.append(connection.number)
            if connection.number > 1 or not pool.statistics().uses:
                return True
            if failure == "base":
                raise Strange
            if failure != "error":
                await anyio.sleep(math.inf if failure == "hang" else failure != "false")
            if "error" in failure:
                raise OSError("gone")
            return False

        backend = Backend()
        async with backend.pool(check=check, check_after=0, check_timeout=2, on_event=events.append) as pool:
            first = await pool.take()
            await pool.give_back(first)
            if failure == "base":
                with pytest.raises(Strange):
                    await pool.take()
            async with pool.acquire(timeout=2.5) as connection:
                assert connection.number == 2
            assert pool.statistics().closed == {"check": 1}
            assert clock() == {"hang": 2, "slow error": 1}.get(failure, 0)
            check_invariants(pool, backend)
        assert checked == [1, 1, 2]
        failed = [(event.pool, event.hook, repr(event.error)) for event in events if isinstance(event, HookFailed)]
        expected = {"false": "ValueError('check returned False')", "hang": "TimeoutError('took longer than 2 s')"}
        assert failed == ([] if failure == "base" else [("pool", "check", expected.get(failure, "OSError('gone')"))])

    async def test_hooks_that_wait_for_nothing_run_in_one_go(self) -> None:
        """No other task gets a turn, which would cost many times what the hooks do."""

        async def use() -> None:
            async with pool.acquire():
                pass

        async with Backend().pool(check=_nothing_wrong, check_after=0, reset=_nothing_wrong) as pool:
            await use()
            with pytest.raises(StopIteration):
                use().send(None)

    async def test_a_hook_that_passed_has_no_say_any_more(self, clock: VirtualClock) -> None:
        """Its time goes by in the block that follows."""

        async def check(connection: Connection) -> None:
            await anyio.sleep(1)

        async with Backend().pool(check=check, check_after=0, check_timeout=2) as pool:
            await hold(pool, 10)
            assert clock() == 11

    async def test_what_passes_its_check_after_a_forced_close_is_not_lent(self, clock: VirtualClock) -> None:
        """It is closed by then."""

        async def check(connection: Connection) -> None:
            await anyio.sleep(5)

        pool = Backend().pool(check=check, check_after=0, check_timeout=9)
        async with pool, anyio.create_task_group() as tg:
            tg.start_soon(expect_closed, pool.take)
            await clock.advance(1)
            await pool.close(drain_timeout=1)
            assert clock() == 2
        assert clock() == 5

    async def test_a_check_that_returns_false_at_once(self) -> None:
        """As above, for a check that never waits."""
        checked: list[int] = []

        async def check(connection: Connection) -> bool:
            checked.append(connection.number)
            return connection.number > 1 or not pool.statistics().uses

        async with Backend().pool(check=check, check_after=0) as pool:
            await hold(pool, 0)
            await hold(pool, 0)
            assert pool.statistics().closed == {"check": 1}
            async with pool.try_acquire() as connection:
                assert connection is not None
        assert checked == [1, 1, 2, 2]

    async def test_try_acquire_checks_until_one_works(self) -> None:
        """Nothing broken is lent, and nothing is waited for."""

        async def check(connection: Connection) -> bool:
            await anyio.lowlevel.checkpoint()
            return not pool.statistics().uses

        async with Backend().pool(check=check, check_after=0) as pool:
            async with pool.acquire(), pool.acquire():
                pass
            async with pool.try_acquire() as connection:
                assert connection is None
            await settle_on_any()
            assert pool.statistics().closed == {"check": 2}

    @ON_BOTH
    @pytest.mark.parametrize("by_default", [True, False])
    async def test_the_caller_s_deadline_ends_its_wait_for_a_check(self, clock: VirtualClock, by_default: bool) -> None:
        """The acquire's timeout covers the check as well; the check itself has the time that was promised to it."""
        options = {"timeout": 3} if by_default else {}
        async with Backend().pool(check=Never(), check_after=1, check_timeout=9, **options) as pool:
            await hold(pool, 0)
            await clock.advance(2)
            with pytest.raises(PoolTimeout) as caught:
                async with pool.acquire(None if by_default else 3):
                    pass
            assert (clock(), caught.value.timeout, caught.value.early, pool.statistics().timeouts) == (5, 3, False, 1)
            assert pool.statistics().waits == 1  # the one for the connect: with no time left there is none
            assert pool.statistics().closed == {}
            await clock.advance(6)
            assert pool.statistics().closed == {"check": 1}

    @ON_BOTH
    @pytest.mark.parametrize("limit", [0, 0.02])
    async def test_an_impatient_caller_closes_nothing(self, clock: VirtualClock, limit: float) -> None:
        """That its time is over says nothing of the resources; and the one that was checked for it is there now."""
        events: list[Event] = []
        checked: list[int] = []

        async def check(connection: Connection) -> None:
            checked.append(connection.number)
            await anyio.sleep(0.05)

        async with Backend().pool(min_size=3, check=check, on_event=events.append) as pool:
            await pool.warm()
            await clock.advance(0.6)
            events.clear()
            with pytest.raises(PoolTimeout):
                await pool.take(limit)
            assert clock() == pytest.approx(0.6 + limit)
            assert (pool.statistics().in_use, pool.statistics().idle) == (1, 2)
            await clock.advance(0.06)
            assert (pool.statistics().in_use, pool.statistics().idle, events) == (0, 3, [])
            async with pool.acquire(limit):
                assert len(checked) == 1
            assert pool.statistics().available

    @ON_BOTH
    async def test_a_check_that_waits_for_nothing_passes_in_no_time(self, clock: VirtualClock) -> None:
        """A timeout of zero is for what can be had now, and so can this; what fails is passed over."""

        async def check(connection: Connection) -> bool:
            return connection.number == 1

        async with Backend().pool(check=check, check_after=1) as pool:
            async with pool.acquire(), pool.acquire():
                pass
            await clock.advance(2)
            async with pool.acquire(timeout=0) as connection:
                assert connection.number == 1
            assert (clock(), pool.statistics().closed) == (2, {})
            async with pool.acquire():
                await clock.advance(2)
                with pytest.raises(PoolTimeout) as caught:
                    await pool.take(timeout=0)
            assert (clock(), pool.statistics().closed) == (4, {"check": 1})
            assert (caught.value.early, pool.statistics().waits) == (False, 2)  # those for the connects

    @ON_BOTH
    @pytest.mark.parametrize("seconds", [1, 3])
    async def test_who_is_cancelled_while_the_pool_checks_leaves_nothing_undone(
        self, clock: VirtualClock, seconds: float
    ) -> None:
        """Whether the check is over in the same moment or not."""

        async def check(connection: Connection) -> None:
            await anyio.sleep(3)

        async with Backend().pool(check=check, check_after=1, max_size=1) as pool:
            await hold(pool, 0)
            await clock.advance(2)
            with anyio.move_on_after(seconds):
                await hold_within(pool, 4)
            await clock.advance(4 - seconds)
            assert (pool.statistics().idle, pool.statistics().closed) == (1, {})

    async def test_a_check_that_nobody_waits_for_serves_the_next(self, clock: VirtualClock) -> None:
        """Whoever came later and has more time."""

        async def check(connection: Connection) -> None:
            await anyio.sleep(3)

        async with Backend().pool(check=check, check_after=1, max_size=1) as pool, anyio.create_task_group() as tg:
            await hold(pool, 0)
            await clock.advance(2)
            tg.start_soon(expect_timeout, pool, 2.0)
            await settle()
            async with pool.acquire() as connection:
                assert (connection.number, clock()) == (1, 5)

    @ON_BOTH
    @pytest.mark.parametrize(("limit", "by"), [(5, "borrower"), (4, "pool check")])
    async def test_a_borrower_runs_a_check_that_it_has_time_for(
        self, clock: VirtualClock, limit: float, by: str
    ) -> None:
        """Another task for it would cost twenty times as much."""
        names: list[str | None] = []

        async def check(connection: Connection) -> None:
            names.append(anyio.get_current_task().name)

        async with Backend().pool(check=check, check_after=1, check_timeout=5) as pool:
            await hold(pool, 0)
            await clock.advance(2)
            async with anyio.create_task_group() as tg:
                tg.start_soon(hold_within, pool, limit, name="borrower")
        assert names == [by]

    @pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)  # trio wakes them in any order
    async def test_what_dies_in_the_moment_in_which_it_passed_is_not_lent(self, clock: VirtualClock) -> None:
        """The check was run by the pool, and its borrower is woken after the owner."""

        async def check(connection: Connection) -> None:
            if connection.number == 1:
                await anyio.sleep(1)
                connection.scope.cancel()

        async with Pool.from_context(Backend().mortal, check=check, check_after=1, **STEADY) as pool:
            await hold(pool, 0)
            await clock.advance(2)
            async with pool.acquire(4) as connection:
                assert (connection.number, connection.is_open) == (2, True)

    @ON_BOTH
    async def test_a_cancelled_error_of_the_resource_s_own_does_not_end_the_pool(self, clock: VirtualClock) -> None:
        """A client of asyncio whose connection is gone may answer with that."""

        async def check(connection: Connection) -> None:
            if connection.number == 1:
                raise asyncio.CancelledError

        async with Backend().pool(check=check, check_after=1) as pool:
            await hold(pool, 0)
            await clock.advance(2)
            async with pool.acquire(4) as connection:
                assert connection.number == 2
            assert pool.statistics().closed == {"check": 1}

    @ON_BOTH
    async def test_a_check_goes_on_in_a_shielded_block_of_a_cancelled_program(self, clock: VirtualClock) -> None:
        """As all that the pool does, until it is closed."""
        served: list[tuple[int, float]] = []

        async def check(connection: Connection) -> None:
            await anyio.sleep(3)

        with anyio.CancelScope() as program:
            async with Backend().pool(check=check, check_after=1) as pool:
                with anyio.CancelScope(shield=True):
                    await hold(pool, 0)
                    await clock.advance(2)
                    program.cancel()
                    async with pool.acquire(4) as connection:
                        served.append((connection.number, clock()))
        assert served == [(1, 5)]

    async def test_what_was_idle_and_does_not_work_any_more_is_no_failed_connect(self, clock: VirtualClock) -> None:
        """A firewall forgot them; connecting works as ever, and nobody is refused."""
        events: list[Event] = []

        async def check(connection: Connection) -> bool:
            return connection.number > 3

        async with Backend().pool(min_size=3, check=check, on_event=events.append) as pool:
            await pool.warm()
            await clock.advance(1)
            async with pool.acquire() as connection:
                assert connection.number > 3
            assert pool.statistics().closed == {"check": 3}
        assert not any(isinstance(event, ConnectFailed) for event in events)

    async def test_a_backend_whose_new_resources_fail_their_check_is_not_stormed(self, clock: VirtualClock) -> None:
        """Connecting works, using does not: that calls for backing off as well."""

        async def check(connection: Connection) -> bool:
            return False

        backend = Backend()
        async with backend.pool(check=check, check_after=0, backoff=1.0) as pool:
            with pytest.raises(PoolTimeout) as caught:
                await pool.take(timeout=3.5)
            assert backend.attempts == [0.0, 1.0, 2.0, 3.0]
        cause = "the last connect failed with ValueError('a new resource did not pass its check')"
        assert str(caught.value) == f"pool has nothing within 3.5 s: 0 in use, 0 waiting; {cause}"

    async def test_reset_runs_after_each_use(self, clock: VirtualClock) -> None:
        """The next borrower gets it clean."""
        log: list[object] = []

        async def reset(connection: Connection) -> bool:
            await anyio.sleep(len(log))
            log.append(connection)
            return False  # which says nothing: only an exception is a failure

        async with Backend().pool(reset=reset) as pool:
            await hold(pool, 0)
            with pytest.raises(KeyError):
                async with pool.acquire():
                    raise KeyError
            assert (len(log), clock()) == (2, 1.0)
            assert pool.statistics().idle == 1

    @pytest.mark.parametrize(("failure", "seconds"), [(OSError("gone"), 0), (Never(), 2)])
    async def test_what_cannot_be_reset_is_closed(self, clock: VirtualClock, failure: Any, seconds: float) -> None:
        """The borrower's work is done, so its block ends well all the same."""
        events: list[Event] = []

        async def reset(connection: Connection) -> None:
            if isinstance(failure, OSError):
                raise failure
            await failure()

        async with Backend().pool(reset=reset, reset_timeout=2, on_event=events.append) as pool:
            await hold(pool, 0)
            assert clock() == seconds
            await settle()
        failed = next(event for event in events if isinstance(event, HookFailed))
        assert failed.hook == "reset"
        assert isinstance(failed.error, OSError if seconds == 0 else TimeoutError)
        assert pool.statistics().closed == {"reset": 1}

    async def test_check_on_return(self) -> None:
        """Broken ones are found while nobody waits for them."""
        verdicts = [True, False]

        async def check(connection: Connection) -> bool:
            return verdicts.pop(0)

        async with Backend().pool(check=check, check_on_return=True) as pool:
            await hold(pool, 0)
            assert pool.statistics().idle == 1
            await hold(pool, 0)
            await settle_on_any()
            assert pool.statistics().closed == {"check": 1}

    async def test_idle_resources_are_checked_in_the_background_one_at_a_time(self, clock: VirtualClock) -> None:
        """A dead connection is found before anybody wants it, and the pool is never empty because of that."""
        most = 0

        async def check(connection: Connection) -> bool:
            nonlocal most
            most = max(most, pool.statistics().serviced)
            await anyio.sleep(1)
            return connection.number != 2

        async with Backend().pool(check=check, check_interval=10, min_size=3, check_after=99) as pool:
            await pool.warm()
            await clock.advance(13.5)
            assert most == 1
            assert pool.statistics().closed == {"check": 1}
            assert pool.statistics().idle + pool.statistics().serviced == 3
            assert pool.statistics().connects == 4

    async def test_without_a_check_there_is_nothing_to_do_at_its_interval(self, clock: VirtualClock) -> None:
        """One option of two is no error, as when a program takes its checks out for a while."""
        async with Backend().pool(check_interval=1) as pool:
            await hold(pool, 0)
            async with pool.acquire(), pool.acquire():
                await clock.advance(5)
            await clock.advance(5)
            assert (pool.statistics().idle, pool.statistics().closed) == (2, {})

    async def test_max_lifetime_with_jitter(self, clock: VirtualClock) -> None:
        """Connected together, they must not die together; the one in use goes when it comes back."""
        draws = iter([0.0, 0.5, 1.0])
        backend = Backend()
        pool = backend.pool(max_lifetime=100, jitter=0.2, random=lambda: next(draws), idle_timeout=math.inf)
        async with pool:
            held = await pool.take()
            others = [await pool.take() for _ in range(2)]
            for connection in others:
                await pool.give_back(connection)
            ages = []
            for _ in range(2):
                size = len(backend.open)
                await until(lambda size=size: len(backend.open) < size, limit=200, step=0.5)  # type: ignore[misc]
                ages.append(round(clock()))
            await clock.advance(30)
            assert held.is_open
            await pool.give_back(held)
            await settle()
        assert ages == [80, 90]
        assert pool.statistics().closed == {"lifetime": 3}

    @pytest.mark.parametrize("debug", [False, True])
    async def test_an_expired_idle_resource_is_never_lent(self, clock: VirtualClock, debug: bool) -> None:
        """Even when it is asked for before the keeper came round."""
        now = 0.0
        async with Backend().pool(max_lifetime=100, clock=lambda: now, debug=debug) as pool:
            await hold(pool, 0)
            now = 100.0
            async with pool.acquire() as connection:
                assert connection.number == 2
            await settle()
            assert pool.statistics().closed == {"lifetime": 1}

    async def test_idle_timeout_shrinks_to_the_minimum(self, clock: VirtualClock) -> None:
        """A burst must not keep connections for ever."""
        async with Backend().pool(min_size=1, idle_timeout=60) as pool:
            async with anyio.create_task_group() as tg:
                for _ in range(5):
                    tg.start_soon(hold, pool, 1.0)
            await clock.advance(59)
            assert pool.statistics().idle == 5
            await clock.advance(1.1)
            assert pool.statistics().idle == 1
            assert pool.statistics().closed == {"idle": 4}
            await clock.advance(1000)
            assert pool.statistics().idle == 1

    async def test_max_uses(self) -> None:
        """For backends that leak a little at each use."""
        async with Backend().pool(max_uses=2) as pool:
            for _ in range(5):
                await hold(pool, 0)
            assert pool.statistics().closed == {"uses": 2}
            assert pool.statistics().uses == 5

    async def test_discard(self) -> None:
        """The borrower knows best; its block goes on with what it has."""
        async with Backend().pool() as pool:
            async with pool.acquire() as connection:
                pool.discard(connection)
                pool.refresh()  # the first reason counts
                assert connection.is_open
            taken = await pool.take()
            assert taken is not connection
            pool.discard(taken)
            await settle_on_any()
            assert not taken.is_open
            assert pool.statistics().closed == {"discarded": 2}

    @pytest.mark.parametrize(("error", "kept"), [(KeyError(), True), (ConnectionError(), False)])
    async def test_broken_says_which_exceptions_spoil_a_resource(self, error: Exception, kept: bool) -> None:
        """A failed lookup says nothing about the connection, a broken pipe does; both reach the caller unchanged."""
        broken = lambda error: isinstance(error, ConnectionError)  # noqa: E731  # as short as the option it stands for
        async with Backend().pool(broken=broken) as pool:
            with pytest.raises(type(error)) as caught:
                async with pool.acquire():
                    raise error
            assert caught.value is error
            assert error.__context__ is None
            assert pool.statistics().idle == kept

    async def test_a_predicate_that_raises_loses_nothing(self) -> None:
        """Its error comes out, and the resource is closed."""

        def broken(error: BaseException) -> bool:
            raise LookupError("bug")

        async with Backend().pool(broken=broken) as pool:
            with pytest.raises(LookupError, match="bug"):
                async with pool.acquire():
                    raise KeyError
            await settle_on_any()
            assert pool.statistics().in_use == 0
        assert pool.statistics().closed == {"broken": 1}

    @pytest.mark.parametrize("reset", [True, False])
    async def test_a_cancelled_block(self, clock: VirtualClock, reset: bool) -> None:
        """Half an answer may be left on the line: its owner resets it, and without a reset it is closed."""
        done: list[float] = []

        async def clean(connection: Connection) -> None:
            await anyio.sleep(1)
            done.append(clock())

        async with Backend().pool(reset=clean if reset else None) as pool:
            with anyio.move_on_after(2):
                await hold(pool, 10)
            assert clock() == 2  # the cancelled caller does not wait for the reset
            assert pool.statistics().serviced == reset
            async with pool.acquire() as connection:
                assert connection.number == (1 if reset else 2)
            assert pool.statistics().closed == ({} if reset else {"broken": 1})
            assert done[:1] == ([3.0] if reset else [])

    async def test_a_cancelled_block_of_an_old_resource_is_not_reset(self, clock: VirtualClock) -> None:
        """It goes anyway."""

        async with Backend().pool(reset=Never(), max_lifetime=1) as pool:
            with anyio.move_on_after(1):
                await hold(pool, 10)
            await settle()
            assert pool.statistics().closed == {"lifetime": 1}

    @pytest.mark.parametrize(("seconds", "resets"), [(0.5, 1), (1.0, 0), (1.5, 0)])
    async def test_a_resource_whose_time_is_over_is_not_reset(
        self, clock: VirtualClock, seconds: float, resets: int
    ) -> None:
        """As above: a round trip for nothing."""
        done: list[Connection] = []

        async def reset(connection: Connection) -> None:
            done.append(connection)

        # Some option that takes it off the shortest way, which does not look at the time before a reset.
        async with Backend().pool(reset=reset, max_lifetime=1, check_on_return=True, check=_nothing_wrong) as pool:
            await hold(pool, seconds)
            assert (len(done), pool.statistics().idle) == (resets, resets)

    async def test_a_cancelled_block_may_be_declared_harmless(self) -> None:
        """For stateless clients, which are expensive to open again."""
        async with Backend().pool(broken=lambda _: False) as pool:
            with anyio.move_on_after(0.01):
                await hold(pool, 10)
            assert pool.statistics().idle == 1

    async def test_a_reset_that_hangs_in_the_owner_s_hands_ends(self, clock: VirtualClock) -> None:
        """Otherwise a cancelled caller would cost the pool a slot and its owner for ever."""
        async with Backend().pool(reset=Never(), reset_timeout=2, max_size=1) as pool:
            with anyio.move_on_after(1):
                await hold(pool, 10)
            connection = await pool.take()
            assert (connection.number, clock()) == (2, 3.0)
            pool.discard(connection)

    async def test_a_coroutine_that_is_dropped_in_its_block(self, clock: VirtualClock) -> None:
        """Garbage collection closes it at the await, where nothing more can be awaited."""
        async with Backend().pool(reset=Never(), max_size=1, reset_timeout=1) as pool:
            dropped = hold(pool, 10)
            await hold_step(dropped, pool)
            dropped.close()
            await clock.advance(2)
            assert pool.statistics().closed == {"reset": 1}
