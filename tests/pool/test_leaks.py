"""Who has a resource too long, forgot it, or uses it after its return."""

from __future__ import annotations

import gc
from pathlib import Path

import anyio
import anyio.lowlevel
import mcp_pool
import pytest
from mcp_pool import (
    Event,
    Leaked,
    Pool,
    PoolMisuse,
)

from tests.pool.world import (
    STEADY,
    Backend,
    Connection,
    hold,
)
from tests.support.clock import VirtualClock, settle

pytestmark = pytest.mark.anyio


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

    async def test_a_leak_is_reported_with_the_place(self, clock: VirtualClock) -> None:
        """Whoever has it finds where in the program it was borrowed, and no more than that; we are not in the way."""
        events: list[Event] = []
        async with Backend().pool(leak_after=1, on_event=events.append) as pool:
            await hold(pool, 2)
        (leak,) = (event for event in events if isinstance(event, Leaked))
        files, functions = zip(*(spot.split(" in ") for spot in leak.stack), strict=True)
        assert len(files) == 12
        assert files[functions.index("hold")].startswith(f"{hold.__code__.co_filename}:")
        assert functions.index("hold") < functions.index("test_a_leak_is_reported_with_the_place")
        assert not any(str(Path(mcp_pool.__file__).parent) in file for file in files)

    async def test_try_acquire_looks_for_what_was_dropped(self, clock: VirtualClock) -> None:
        """As ``acquire`` does: it may be all there is."""
        events: list[Event] = []
        async with Backend().pool(debug=True, max_size=1, on_event=events.append) as pool:
            await pool.take()
            gc.collect()
            async with pool.try_acquire() as nothing:
                assert nothing is None
            assert [event.reclaimed for event in events if isinstance(event, Leaked)] == [True]

    async def test_one_that_is_dropped_after_it_died_is_no_leak(self, clock: VirtualClock) -> None:
        """The note that it leaves is about nothing; the next one may be."""
        async with Pool.from_context(Backend().mortal, debug=True, **STEADY) as pool:
            dead, lost = await pool.take(), await pool.take()
            dead.scope.cancel()
            await settle()
            del dead
            gc.collect()
            del lost
            gc.collect()
            pool._desk.supply.keeper.reclaim(clock())
            await settle()
            assert (pool.statistics().leaks, pool.statistics().closed) == (1, {"died": 1, "leaked": 1})

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

            def __call__(self, text: str, *, times: int) -> str:
                return text * times

            async def __aenter__(self) -> str:
                return "entered"

            async def __aexit__(self, *_: object) -> None: ...

            async def aclose(self) -> None: ...

        async def connect() -> Rich:
            return Rich(1)

        async with Pool(connect, debug=True) as pool:
            async with pool.acquire() as rich:
                assert isinstance(rich, Rich)
                assert (len(rich), rich.number, repr(rich), rich("ab", times=2)) == (7, 1, "<1>", "abab")
                rich.number = 2
                async with rich as word:
                    assert word == "entered"
            for use in (lambda: rich.number, lambda: len(rich), lambda: setattr(rich, "number", 3)):
                with pytest.raises(
                    PoolMisuse,
                    match=r"^this resource was returned to its pool and may serve somebody else; acquire it again$",
                ):
                    use()
            assert isinstance(rich, Rich)  # what only asks for the class, as a debugger does, is not refused
            again = await pool.take()
            assert again.number == 2
            await pool.give_back(again)
            with pytest.raises(PoolMisuse):
                await pool.give_back(again)
