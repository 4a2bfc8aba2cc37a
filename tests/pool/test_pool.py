"""Lending and taking back: what a borrower sees."""

from __future__ import annotations

import gc
import inspect
import math
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from mcp_pool import (
    Closed,
    Connected,
    Event,
    HookFailed,
    Leaked,
    Lease,
    Pool,
    PoolClosed,
    PoolError,
    PoolFull,
    PoolMisuse,
    PoolTimeout,
    PoolUnavailable,
)

from tests.pool.world import STEADY, Backend, Connection, Never, check_invariants, entries, until
from tests.support.clock import VirtualClock, settle

pytestmark = pytest.mark.anyio


async def hold(pool: Pool[Connection], seconds: float, log: list[Any] | None = None, name: object = None) -> None:
    async with pool.acquire() as connection:
        if log is not None:
            log.append(connection if name is None else name)
        await anyio.sleep(seconds)


class TestLending:
    async def test_a_resource_is_connected_when_it_is_needed_and_used_again(self) -> None:
        """Lazy growth, and reuse: what a pool is for."""
        backend = Backend()
        async with backend.pool() as pool:
            assert backend.made == 0
            async with pool.acquire() as first:
                assert first.is_open
            async with pool.acquire() as second:
                assert second is first
            async with pool.acquire() as one, pool.acquire() as other:
                assert one is not other
            assert backend.made == 2
        assert backend.open == set()

    async def test_no_more_than_max_size_are_open(self, clock: VirtualClock) -> None:
        """Fifty borrowers share three; the fiftieth waits for the seventeenth turn."""
        backend = Backend(takes=0.1)
        async with backend.pool(max_size=3, max_lifetime=math.inf) as pool:
            async with anyio.create_task_group() as tg:
                for _ in range(50):
                    tg.start_soon(hold, pool, 1.0)
                await anyio.sleep(0.5)
                check_invariants(pool, backend)
                assert pool.statistics().waiting == 47
            assert clock() == pytest.approx(17.1)
            assert backend.most_open == 3

    async def test_waiters_are_served_in_order_and_nobody_barges_in(self, clock: VirtualClock) -> None:
        """A task that releases and asks again goes behind those who wait."""
        backend, log = Backend(), []

        async def greedy(pool: Pool[Connection]) -> None:
            for _ in range(5):
                async with pool.acquire():
                    log.append("greedy")
                    await anyio.sleep(1)

        async with backend.pool(max_size=1) as pool, anyio.create_task_group() as tg:
            tg.start_soon(greedy, pool)
            await settle()
            for number in range(3):
                tg.start_soon(hold, pool, 1.0, log, number)
                await settle()
        assert log == ["greedy", 0, 1, 2, "greedy", "greedy", "greedy", "greedy"]

    @pytest.mark.parametrize(("order", "expected"), [("lifo", 1), ("fifo", 2)])
    async def test_order_of_reuse(self, order: str, expected: int) -> None:
        """Last in, first out lets a quiet pool shrink; first in, first out keeps all warm."""
        async with Backend().pool(order=order) as pool:
            async with pool.acquire(), pool.acquire():
                pass  # the second, connected last, comes back first
            async with pool.acquire() as connection:
                assert connection.number == expected

    async def test_timeout_covers_waiting_and_connecting(self, clock: VirtualClock) -> None:
        """A caller has one deadline, whatever the pool is busy with."""
        backend = Backend(takes=5)
        async with backend.pool(max_size=1) as pool:
            with pytest.raises(PoolTimeout, match=r"^pool has nothing within 2 s: 0 in use, 0 waiting$") as caught:
                async with pool.acquire(timeout=2):
                    pass
            assert (clock(), caught.value.timeout, caught.value.early) == (2.0, 2.0, False)
            assert isinstance(caught.value, TimeoutError)
            async with pool.acquire(timeout=4):  # the connect of the first caller serves the second
                assert clock() == 5.0
            assert backend.made == 1
            assert pool.statistics().timeouts == 1

    async def test_timeouts_of_several_waiters_end_each_in_its_time(self, clock: VirtualClock) -> None:
        """One timer serves all waiters, so it must be set for the earliest, and again after it fired."""
        ended: dict[float, float] = {}

        async def wait(pool: Pool[Connection], seconds: float) -> None:
            with pytest.raises(PoolTimeout):
                await pool.take(seconds)
            ended[seconds] = clock()

        async with Backend().pool(max_size=1, drain_timeout=0) as pool:
            await pool.take()
            async with anyio.create_task_group() as tg:
                for timeout in (3.0, 1.0, 7.0, 2.0, 1.0):
                    tg.start_soon(wait, pool, timeout)
        assert ended == {1.0: 1.0, 2.0: 2.0, 3.0: 3.0, 7.0: 7.0}

    async def test_more_than_max_waiters_are_refused_at_once(self, clock: VirtualClock) -> None:
        """Waiting has a limit, or a slow backend fills the memory."""
        async with Backend().pool(max_size=1, max_waiters=2) as pool, anyio.create_task_group() as tg:
            for _ in range(3):
                tg.start_soon(hold, pool, 1.0)
                await settle()
            with pytest.raises(PoolFull, match="2 callers wait for pool, which is max_waiters") as caught:
                await pool.take()
            assert caught.value.waiting == 2
            assert clock() == 0
            assert pool.statistics().refusals == 1

    async def test_who_cannot_be_served_in_time_is_refused_early(self, clock: VirtualClock) -> None:
        """With a mean use of 1 s and two ahead, nobody needs to wait to see 0.5 s go by; 4 s are enough."""
        async with Backend().pool(max_size=1, refuse_early=True) as pool, anyio.create_task_group() as tg:
            await hold(pool, 1.0)
            for _ in range(3):
                tg.start_soon(hold, pool, 1.0)
            await settle()
            with pytest.raises(PoolTimeout) as caught:
                await pool.take(timeout=0.5)
            assert (caught.value.early, caught.value.in_use, caught.value.waiting) == (True, 1, 2)
            with anyio.move_on_after(0.5), pytest.raises(PoolTimeout):  # the caller's own scope counts as well
                await pool.take()
            assert clock() == 1.0
            async with pool.acquire(timeout=4):
                assert clock() == 4.0

    async def test_the_expected_wait(self, clock: VirtualClock) -> None:
        """A mean use of 2 s by two resources and three ahead make 4 s; of an unused pool nothing is known."""
        async with Backend(takes=0.1).pool(max_size=2, refuse_early=True) as pool:
            async with anyio.create_task_group() as tg:
                for _ in range(2):
                    tg.start_soon(expect_a_turn_within, pool, 0.2)
            await clock.advance(8)
            async with anyio.create_task_group() as tg:
                for _ in range(5):
                    tg.start_soon(hold, pool, 99.0)
                await settle()
                for limit, refused in ((3.9, True), (4.1, False)):
                    with pytest.raises(PoolTimeout) as caught:
                        await pool.take(limit)
                    assert caught.value.early == refused
                with anyio.move_on_after(3.9), pytest.raises(PoolTimeout):
                    await pool.take()
                tg.cancel_scope.cancel()

    async def test_timeout_of_zero_never_waits(self) -> None:
        """Now, or not at all."""
        async with Backend().pool() as pool:
            with pytest.raises(PoolTimeout):
                await pool.take(timeout=0)
            await hold(pool, 0)
            async with pool.acquire(timeout=0):
                pass

    async def test_try_acquire_gives_what_is_idle_or_none(self) -> None:
        """For those who have something else to do."""
        backend = Backend()
        async with backend.pool(max_size=2) as pool:
            async with pool.try_acquire() as nothing:
                assert nothing is None
            await hold(pool, 0)
            async with pool.try_acquire() as connection, pool.try_acquire() as nothing:
                assert connection is not None
                assert nothing is None
            assert (pool.statistics().idle, backend.made) == (1, 1)

    async def test_take_and_give_back(self) -> None:
        """For lives that are no block."""
        async with Backend().pool() as pool:
            connection = await pool.take()
            assert pool.statistics().in_use == 1
            await pool.give_back(connection)
            assert pool.statistics().idle == 1

    async def test_call_and_decorator_fill_in_the_resource(self) -> None:
        """What a framework reads as the signature is what callers pass."""
        async with Backend().pool() as pool:

            async def query(connection: Connection, text: str, *, limit: int = 3) -> tuple[int, str, int]:
                """Ask."""
                assert pool.statistics().in_use == 1
                return connection.number, text, limit

            injected = pool(query)
            assert await pool.call(query, "a", limit=1) == (1, "a", 1)
            assert await injected("b") == (1, "b", 3)
            assert str(inspect.signature(injected)) == "(text: str, *, limit: int = 3) -> tuple[int, str, int]"
            assert "connection" not in injected.__annotations__
            assert injected.__doc__ == "Ask."
            with pytest.raises(TypeError, match=r"nothing is not async; did you forget 'async def'"):
                pool(_nothing)  # type: ignore[arg-type]

    async def test_statistics_add_up(self, clock: VirtualClock) -> None:
        """Figures that an operator compares with what happened."""
        async with Backend(takes=1).pool(max_size=1) as pool:
            async with anyio.create_task_group() as tg:
                tg.start_soon(hold, pool, 2.0)
                tg.start_soon(hold, pool, 2.0)
            found = pool.statistics()
        assert (found.connects, found.connect_seconds) == (1, 1.0)
        assert (found.uses, found.use_seconds) == (2, 4.0)
        assert (found.waits, found.wait_seconds, found.longest_wait) == (2, 4.0, 3.0)
        assert (found.idle, found.in_use, found.connecting, found.closing, found.waiting) == (1, 0, 0, 0, 0)
        assert (found.closed, found.available, found.name) == ({}, True, "pool")
        assert pool.statistics().closed == {"closing": 1}


async def expect_a_turn_within(pool: Pool[Connection], seconds: float) -> None:
    async with pool.acquire(timeout=seconds):
        await anyio.sleep(2)


async def expect_timeout(lease: Lease[Connection]) -> None:
    with pytest.raises(PoolTimeout):
        await lease.__aenter__()


async def _nothing_wrong(connection: Connection) -> None: ...


async def _resource() -> Connection:
    return Connection(0)


def _nothing(connection: Connection) -> None: ...


class TestMisuse:
    async def test_foreign_and_returned_resources_are_refused(self) -> None:
        """A slip must not put a stranger into the pool, nor the same resource twice."""
        async with Backend().pool() as pool:
            connection = await pool.take()
            with pytest.raises(PoolMisuse, match=r"<0> is not of pool"):
                await pool.give_back(Connection(0))
            await pool.give_back(connection)
            with pytest.raises(PoolMisuse, match=r"<1> is not in use; was it returned twice\?"):
                await pool.give_back(connection)
            with pytest.raises(PoolMisuse):
                pool.discard(connection)
            assert pool.statistics().idle == 1

    async def test_what_a_block_has_is_not_given_back_by_hand(self) -> None:
        """Otherwise the block would go on with what somebody else gets."""
        async with Backend().pool() as pool:
            async with pool.acquire() as connection:
                with pytest.raises(PoolMisuse, match="lent to a block"):
                    await pool.give_back(connection)
            assert pool.statistics().idle == 1

    async def test_a_lease_is_entered_once_at_a_time(self) -> None:
        """Its second resource would be lost."""
        async with Backend().pool() as pool:
            lease = pool.acquire()
            async with lease:
                with pytest.raises(
                    PoolMisuse, match=r"^this lease is in use already; call acquire\(\) for each block$"
                ):
                    await lease.__aenter__()
            async with lease:
                pass

    async def test_a_lease_that_is_waited_for_is_not_entered_by_another_task(self, clock: VirtualClock) -> None:
        """Whoever came first would lose what it gets; and a lease whose wait ended badly can be entered again."""
        async with Backend().pool(max_size=1) as pool:
            lease = pool.acquire(timeout=2)
            connection = await pool.take()
            async with anyio.create_task_group() as tg:
                tg.start_soon(expect_timeout, lease)
                await settle()
                with pytest.raises(PoolMisuse):
                    await lease.__aenter__()
            await pool.give_back(connection)
            async with lease:
                pass
            assert pool.statistics().idle == 1

    async def test_a_second_acquire_that_must_deadlock_is_refused(self) -> None:
        """The task that has all there is would wait for itself."""
        async with Backend().pool(max_size=1) as pool:
            async with pool.acquire():
                with pytest.raises(PoolMisuse, match="has the only resource of pool"):
                    await pool.take()
            connection = await pool.take()  # may be given back by another task, so waiting for it makes sense
            with pytest.raises(PoolTimeout):
                await pool.take(timeout=0.01)
            await pool.give_back(connection)

    async def test_a_pool_that_is_not_open_lends_nothing(self) -> None:
        """Before and after its life."""
        pool = Backend().pool()
        with pytest.raises(PoolClosed, match=r"pool is not open; enter it first: async with pool"):
            await pool.take()
        async with pool:
            pass
        for borrow in (pool.acquire, pool.try_acquire):
            with pytest.raises(PoolClosed, match="pool is closed"):
                async with borrow():
                    pass
        with pytest.raises(PoolClosed):
            await pool.warm()
        with pytest.raises(PoolMisuse, match="opened or closed before"):
            await pool.__aenter__()

    async def test_closing_what_was_never_opened(self) -> None:
        """Clean-up code need not know how far set-up came."""
        pool = Backend().pool()
        await pool.close()
        with pytest.raises(PoolClosed):
            await pool.take()

    @pytest.mark.parametrize("value", [-1, math.nan, True, "1"])
    async def test_nonsense_for_a_timeout(self, value: Any) -> None:
        """Refused before anything is lent."""
        async with Backend().pool() as pool:
            with pytest.raises((ValueError, TypeError), match=r"0 to inf seconds as timeout, got "):
                pool.acquire(timeout=value)
            with pytest.raises((ValueError, TypeError)):
                await pool.take(value)

    async def test_a_resource_that_is_in_the_pool_already_is_refused(self) -> None:
        """Two borrowers would have the same one; it is not closed either, since the first is using it."""
        same, closed = Connection(1), []

        async def close(connection: Connection) -> None:
            closed.append(connection)

        async def connect() -> Connection:
            return same

        async with Pool(connect, close=close, connect_attempts=1) as pool:
            async with pool.acquire():
                with pytest.raises(PoolTimeout, match="which pool has already"):
                    await pool.take(timeout=0.05)
            assert closed == []
        assert closed == [same]

    async def test_connect_that_is_not_async_is_named(self) -> None:
        """A lambda can only be seen through when it runs."""
        async with Pool(lambda: 3, connect_attempts=1) as pool:  # type: ignore[arg-type,return-value]
            with pytest.raises(PoolUnavailable) as caught:
                await pool.take()
        assert "connect() returned 3, which cannot be awaited" in str(caught.value.__cause__)

    async def test_resource_that_cannot_be_closed_is_named(self) -> None:
        """Otherwise it would leak in silence."""
        async with Pool(_resource, connect_attempts=1) as pool:
            with pytest.raises(PoolUnavailable) as caught:
                await pool.take()
        assert "<0> has no aclose() or close(); say how it is closed" in str(caught.value.__cause__)

    async def test_factory_without_a_context_manager_is_named(self) -> None:
        """As above."""
        async with Pool.from_context(lambda: 3, connect_attempts=1) as pool:  # type: ignore[arg-type,return-value]
            with pytest.raises(PoolUnavailable) as caught:
                await pool.take()
        assert "the factory returned 3, which is no async context manager" in str(caught.value.__cause__)


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


class Strange(BaseException):
    """Neither an error nor a cancellation."""


class TestHealth:
    async def test_check_on_borrow_is_skipped_after_recent_use(self, clock: VirtualClock) -> None:
        """A check costs a round trip; what worked a moment ago works."""
        checked: list[float] = []

        async def check(connection: Connection) -> None:
            checked.append(clock())

        async with Backend().pool(check=check, check_after=1.0) as pool:
            for pause in (0.0, 0.5, 1.0, 0.9, 1.5):
                await anyio.sleep(pause)
                await hold(pool, 0)
        assert checked == [1.5, 3.9]

    @pytest.mark.parametrize("failure", ["false", "error", "slow error", "hang", "base"])
    async def test_what_fails_its_check_is_replaced(self, clock: VirtualClock, failure: str) -> None:
        """The borrower gets one that works, and does not lose its turn."""
        events: list[Event] = []

        async def check(connection: Connection) -> bool:
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
            async with pool.acquire() as connection:
                assert connection.number == 2
            assert pool.statistics().closed == {"check": 1}
            assert clock() == {"hang": 2, "slow error": 1}.get(failure, 0)
            check_invariants(pool, backend)
        errors = [type(event.error) for event in events if isinstance(event, HookFailed)]
        expected = {"false": ValueError, "error": OSError, "slow error": OSError, "hang": TimeoutError}
        assert errors == ([] if failure == "base" else [expected[failure]])

    async def test_a_check_that_returns_false_at_once(self) -> None:
        """As above, for a check that never waits."""

        async def check(connection: Connection) -> bool:
            return connection.number > 1 or not pool.statistics().uses

        async with Backend().pool(check=check, check_after=0) as pool:
            await hold(pool, 0)
            await hold(pool, 0)
            assert pool.statistics().closed == {"check": 1}
            async with pool.try_acquire() as connection:
                assert connection is not None

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

    async def test_the_caller_s_deadline_ends_a_check(self, clock: VirtualClock) -> None:
        """The acquire's timeout covers the check as well."""
        async with Backend().pool(check=Never(), check_after=1, check_timeout=9, max_size=1) as pool:
            connection = await pool.take()
            await pool.give_back(connection)
            await clock.advance(2)
            with pytest.raises(PoolTimeout):
                await pool.take(timeout=3)
            assert clock() == 5

    async def test_a_backend_whose_new_resources_fail_their_check_is_not_stormed(self, clock: VirtualClock) -> None:
        """Connecting works, using does not: that calls for backing off as well."""

        async def check(connection: Connection) -> bool:
            return False

        backend = Backend()
        async with backend.pool(check=check, check_after=0, backoff=1.0) as pool:
            with pytest.raises(PoolTimeout):
                await pool.take(timeout=3.5)
            assert backend.attempts == [0.0, 1.0, 2.0, 3.0]

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
        broken = lambda error: isinstance(error, ConnectionError)  # noqa: E731
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
            assert len(done) == resets

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


async def hold_step(coroutine: Any, pool: Pool[Connection]) -> None:
    """Connect one, and step *coroutine* into its block."""
    connection = await pool.take()
    pool._desk.shelf.give(next(iter(entries(pool))), 0.0)
    next(iter(entries(pool))).taken = False
    del connection
    coroutine.send(None)


async def settle_on_any() -> None:
    """Let the pool's tasks run on every backend."""
    for _ in range(10):
        await anyio.lowlevel.checkpoint()
    await anyio.sleep(0.001)


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
        backend = Backend()
        backend.plan = [Never()]
        async with backend.pool(connect_timeout=3, max_size=1, backoff=1.0) as pool:
            await hold(pool, 0)
            assert clock() == 4.0
            assert pool.statistics().connect_failures == 1

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
            await clock.advance(4)
            backend.default = None
            await clock.advance(4)
            assert backend.attempts == [0.0, 1.0, 3.0, 7.0, 11.0]
            assert pool.statistics().available
            assert pool._desk.supply.gate.error is None  # nothing is kept once it works
            async with pool.acquire():
                assert clock() == 12.0
        names = [type(event).__name__ for event in events]
        assert names == [
            "ConnectFailed", "ConnectFailed", "ConnectFailed", "Unavailable", "ConnectFailed", "Connected",
            "Recovered", "Closed",
        ]  # fmt: skip

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
        async with backend.pool(max_size=2, connect_attempts=1) as pool, anyio.create_task_group() as tg:
            connection = await pool.take()
            tg.start_soon(expect_unavailable, pool, clock, 5.0)
            await clock.advance(5)
            pool.discard(connection)

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
            assert (clock(), backend.made) == (1.0, 2)
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


def on_trio() -> bool:
    return anyio.get_cancelled_exc_class().__module__.startswith("trio")


async def expect_unavailable(pool: Pool[Connection], clock: VirtualClock, at: float) -> None:
    with pytest.raises(PoolUnavailable):
        await pool.take()
    assert clock() == at


class TestOwners:
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
        errors = [event.error for event in events if isinstance(event, HookFailed)]
        assert sorted(map(repr, errors)) == ["OSError('broken pipe')", "TimeoutError('took longer than 2 s')"]
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
        assert [type(event.error) for event in events if isinstance(event, HookFailed)] == [TimeoutError]

    async def test_a_failing_callback_does_not_hurt_the_pool(self, caplog: pytest.LogCaptureFixture) -> None:
        """It runs in the middle of the pool's work."""

        def on_event(event: Event) -> None:
            raise LookupError("bug")

        async with Backend().pool(on_event=on_event) as pool:
            await hold(pool, 0)
        assert "on_event of pool failed" in caplog.text


class TestLeaks:
    async def test_one_that_is_out_too_long_is_reported_once(self, clock: VirtualClock) -> None:
        """With the task that has it; the short use before is not mentioned."""
        events: list[Event] = []
        async with Backend().pool(leak_after=10, on_event=events.append, name="db") as pool:
            await hold(pool, 9)
            async with anyio.create_task_group() as tg:
                tg.start_soon(hold, pool, 25, name="forgetful")
                tg.start_soon(hold, pool, 12, name="slow")
            leaks = [event for event in events if isinstance(event, Leaked)]
            facts = {(leak.pool, leak.seconds, leak.task, leak.reclaimed) for leak in leaks}
            assert facts == {("db", 10.0, "forgetful", False), ("db", 10.0, "slow", False)}
            assert (pool.statistics().leaks, pool.statistics().idle) == (2, 2)

    @pytest.mark.uninstrumented
    async def test_a_leak_is_reported_with_the_place(self, clock: VirtualClock) -> None:
        """Whoever has it finds where in the program it was borrowed; our own frames are not in the way."""
        events: list[Event] = []
        async with Backend().pool(leak_after=1, on_event=events.append) as pool:
            await hold(pool, 2)
        (leak,) = (event for event in events if isinstance(event, Leaked))
        assert leak.stack[0].startswith(f"{__file__}:")
        assert leak.stack[0].endswith(" in hold")

    async def test_try_acquire_looks_for_what_was_dropped(self, clock: VirtualClock) -> None:
        """As ``acquire`` does: it may be all there is."""
        events: list[Event] = []
        async with Backend().pool(debug=True, max_size=1, on_event=events.append) as pool:
            await pool.take()
            gc.collect()
            async with pool.try_acquire() as nothing:
                assert nothing is None
            assert [event.reclaimed for event in events if isinstance(event, Leaked)] == [True]

    @pytest.mark.parametrize("reset", [True, False])
    async def test_one_that_is_dropped_comes_back(self, clock: VirtualClock, reset: bool) -> None:
        """In debug mode; reset if there is a way, closed otherwise."""
        events: list[Event] = []

        async def clean(connection: Connection) -> None: ...

        async with Backend().pool(debug=True, on_event=events.append, reset=clean if reset else None) as pool:
            await pool.take()
            gc.collect()
            await clock.advance(2)
            assert pool.statistics().idle == reset
        assert [event.reclaimed for event in events if isinstance(event, Leaked)] == [True]
        assert pool.statistics().closed == ({"closing": 1} if reset else {"leaked": 1})

    async def test_one_that_is_dropped_is_there_for_the_next_who_asks(self) -> None:
        """Who would wait looks for it first."""
        async with Backend().pool(debug=True, max_size=1) as pool:
            await pool.take()
            gc.collect()
            connection = await pool.take()
            pool.discard(connection)

    async def test_one_that_came_back_by_itself_is_like_any_other(self, clock: VirtualClock) -> None:
        """It had been taken by hand, and is lent to a block now; and nobody has it any more, in a pool of one."""

        async def clean(connection: Connection) -> None:
            await anyio.sleep(1)

        async with Backend().pool(debug=True, max_size=1, reset=clean) as pool:
            await pool.take()
            gc.collect()
            async with pool.acquire() as connection:
                assert clock() == 1
                with pytest.raises(PoolMisuse, match="lent to a block"):
                    await pool.give_back(connection)

    async def test_a_slow_check_is_not_blamed_on_who_had_it_before(self, clock: VirtualClock) -> None:
        """From its return on, the former borrower has nothing to do with it."""
        events: list[Event] = []

        async def check(connection: Connection) -> None:
            await anyio.sleep(2 if pool.statistics().uses else 0)

        async with Backend().pool(leak_after=1, check=check, check_after=0, on_event=events.append) as pool:
            await hold(pool, 0)
            await hold(pool, 0)
            assert clock() == 2
        assert not any(isinstance(event, Leaked) for event in events)

    async def test_a_report_may_discard_what_is_about_to_be_reported(self, clock: VirtualClock) -> None:
        """Two leaks are due at once; the first report ends the other's loan."""
        taken: list[Connection] = []

        def on_event(event: Event) -> None:
            if isinstance(event, Leaked) and taken:
                for connection in (taken.pop(), taken.pop()):
                    pool.discard(connection)

        async with Backend().pool(leak_after=1, on_event=on_event) as pool:
            taken += [await pool.take(), await pool.take()]
            await clock.advance(2)
            assert pool.statistics().closed == {"discarded": 2}

    async def test_a_stand_in_behaves_like_the_resource_until_it_is_returned(self) -> None:
        """And then it says so, instead of talking to somebody else's connection."""

        class Rich(Connection):
            def __len__(self) -> int:
                return 7

            async def __aenter__(self) -> str:
                return "entered"

            async def __aexit__(self, *_: object) -> None: ...

            async def aclose(self) -> None: ...

        async def connect() -> Rich:
            return Rich(1)

        async with Pool(connect, debug=True) as pool:
            async with pool.acquire() as rich:
                assert isinstance(rich, Rich)
                assert (len(rich), rich.number, repr(rich)) == (7, 1, "<1>")
                rich.number = 2
                async with rich as word:
                    assert word == "entered"
            for use in (lambda: rich.number, lambda: len(rich), lambda: setattr(rich, "number", 3)):
                with pytest.raises(PoolMisuse, match="was returned to its pool"):
                    use()
            again = await pool.take()
            assert again.number == 2
            await pool.give_back(again)
            with pytest.raises(PoolMisuse):
                await pool.give_back(again)


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


async def expect_closed(use: Callable[[], Awaitable[object]]) -> None:
    with pytest.raises(PoolClosed):
        await use()


async def test_every_error_has_one_root() -> None:
    """One except clause for a caller that does not care why."""
    for error in (PoolClosed, PoolFull, PoolMisuse, PoolTimeout, PoolUnavailable):
        assert issubclass(error, PoolError)


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
