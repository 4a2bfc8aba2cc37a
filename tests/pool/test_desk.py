"""Lending and taking back: what a borrower sees."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any

import anyio
import anyio.lowlevel
import pytest
from mcp_pool import (
    Lease,
    Pool,
    PoolClosed,
    PoolError,
    PoolFull,
    PoolMisuse,
    PoolTimeout,
    PoolUnavailable,
)

from tests.pool.world import (
    ON_BOTH,
    Backend,
    Connection,
    check_invariants,
    hold,
)
from tests.support.clock import VirtualClock, settle

pytestmark = pytest.mark.anyio

Text = Annotated[str, "what to ask"]


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

    async def test_who_got_one_that_does_not_work_keeps_its_turn(self, clock: VirtualClock) -> None:
        """It goes before the next, who came later, and is not refused because as many wait as may."""
        backend, log = Backend(), []

        async def check(connection: Connection) -> bool:
            await anyio.sleep(connection.number == 1 and pool.statistics().uses)
            return connection.number != 1 or not pool.statistics().uses

        async with backend.pool(max_size=1, max_waiters=1, check=check, check_after=0) as pool:
            connection = await pool.take()
            async with anyio.create_task_group() as tg:
                for number in range(2):
                    tg.start_soon(hold, pool, 1.0, log, number)
                    await settle()
                    if number == 0:
                        await pool.give_back(connection)
        assert (log, clock(), backend.made) == ([0, 1], 3.0, 2)

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

    @ON_BOTH
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
            for refusals in (1, 2):
                with pytest.raises(PoolFull, match=r"^2 callers wait for pool, which is max_waiters$") as caught:
                    await pool.take()
                assert (clock(), caught.value.waiting, pool.statistics().refusals) == (0, 2, refusals)

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
                for limit, refused in ((3.9, True), (4.0, False)):
                    with pytest.raises(PoolTimeout) as caught:
                        await pool.take(limit)
                    assert caught.value.early == refused
                with pytest.raises(PoolTimeout), anyio.move_on_after(3.9):  # the caller's own scope counts as well
                    await pool.take()
                tg.cancel_scope.cancel()

    async def test_timeout_of_zero_never_waits(self) -> None:
        """Now, or not at all."""
        backend = Backend()
        async with backend.pool() as pool:
            with pytest.raises(PoolTimeout) as caught:
                await pool.take(timeout=0)
            assert (caught.value.early, pool.statistics().waits, backend.attempts) == (True, 0, [])
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

            async def query(connection: Connection, text: Text, *, limit: int = 3) -> tuple[int, str, int]:
                """Ask."""
                assert pool.statistics().in_use == 1
                return connection.number, text, limit

            injected = pool(query)
            assert await pool.call(query, "a", limit=1) == (1, "a", 1)
            assert await injected("b") == (1, "b", 3)
            assert await injected("b", limit=2) == (1, "b", 2)
            signature = inspect.signature(injected)
            assert str(signature).replace("typing.", "") == (
                "(text: Annotated[str, 'what to ask'], *, limit: int = 3) -> tuple[int, str, int]"
            )
            assert injected.__annotations__ == {"text": Text, "limit": int, "return": tuple[int, str, int]}
            assert injected.__doc__ == "Ask."
            with pytest.raises(TypeError, match=r"^function=_nothing is not async; did you forget 'async def'\?$"):
                pool(_nothing)  # type: ignore[arg-type]

    async def test_decorating_what_says_little_of_itself(self) -> None:
        """Annotations that are missing, or for type checkers only, are not made up; a partial has none at all."""
        async with Backend().pool() as pool:

            async def cryptic(connection: Missing, text: str) -> str:  # type: ignore[name-defined]  # noqa: F821
                return text

            async def bare(connection, text):  # type: ignore[no-untyped-def]
                return text

            for fn, shown in ((cryptic, "(text: 'str') -> 'str'"), (bare, "(text)"), (partial(bare), "(text)")):
                injected = pool(fn)
                assert await injected("a") == "a"
                assert str(inspect.signature(injected)) == shown
            assert pool(cryptic).__annotations__ == {"text": "str", "return": "str"}

    async def test_statistics_add_up(self, clock: VirtualClock) -> None:
        """Figures that an operator compares with what happened."""
        async with Backend(takes=1).pool(max_size=1) as pool:
            await clock.advance(1)
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
                with pytest.raises(PoolMisuse) as caught:
                    await pool.take()
                assert str(caught.value) == (
                    "this task has the only resource of pool and asks for another, for which it would wait until it"
                    " returns the first; pass the first one on, or make max_size larger"
                )
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
            with pytest.raises(
                PoolMisuse, match=r"^this Pool was opened or closed before; it lives once, make another$"
            ):
                await pool.__aenter__()
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
        with pytest.raises(PoolClosed, match=r"^pool is closed$"):
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
                with pytest.raises(PoolTimeout, match="connect returned <1>, which pool has already"):
                    await pool.take(timeout=0.05)
            assert closed == []
        assert closed == [same]

    async def test_so_is_one_that_a_context_gives(self) -> None:
        """Even if it keeps that to itself."""
        same = Connection(1)

        @asynccontextmanager
        async def factory() -> AsyncIterator[Connection]:
            with contextlib.suppress(PoolMisuse):
                yield same

        async with Pool.from_context(factory, connect_attempts=1) as pool, pool.acquire():
            with pytest.raises(PoolTimeout):
                await pool.take(timeout=0.05)
            error = pool._desk.supply.gate.error
            assert isinstance(error, PoolUnavailable)
            assert str(error) == "its context manager hides why connecting failed"
            assert error.retry_after == 0

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


async def test_every_error_has_one_root() -> None:
    """One except clause for a caller that does not care why."""
    for error in (PoolClosed, PoolFull, PoolMisuse, PoolTimeout, PoolUnavailable):
        assert issubclass(error, PoolError)
