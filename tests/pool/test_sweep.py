"""Cancelled anywhere: at every checkpoint, and under shuffled schedules, nothing is lost and nobody is forgotten."""

from __future__ import annotations

import contextlib
from typing import Any

import anyio
import pytest
from mcp_pool import KeyedPool, Pool, PoolClosed, PoolMiddleware

from tests.pool.storm import storm_of
from tests.pool.world import STEADY, Backend, Connection, all_closed, check_invariants
from tests.support.clock import settle
from tests.support.sweep import Victim, sweep


async def use(pool: Pool[Connection], seconds: float = 1.0) -> None:
    async with pool.acquire() as connection:
        assert connection.is_open
        await anyio.sleep(seconds)


async def use_while_open(pool: Pool[Connection], seconds: float) -> None:
    with contextlib.suppress(PoolClosed):
        await use(pool, seconds)


async def still_works(pool: Pool[Connection], backend: Backend) -> None:
    """All slots are there: as many as may be in use at once can be, and whoever waits is served."""
    check_invariants(pool, backend)
    async with anyio.create_task_group() as tg:
        for _ in range(pool.statistics().max_size + 1):
            tg.start_soon(use, pool)
    check_invariants(pool, backend)
    assert pool.statistics().waiting == pool.statistics().in_use == 0


async def pause(connection: Connection) -> None:
    await anyio.sleep(0.5)


async def failing(connection: Connection) -> bool:
    await anyio.sleep(0.5)
    return connection.number > 2


SCENARIOS: dict[str, dict[str, Any]] = {
    "connecting": {"max_size": 1},
    "queueing": {"max_size": 1, "others": 2},
    "two": {"max_size": 2, "others": 3},
    "check": {"max_size": 1, "check": pause, "check_after": 0, "others": 1},
    "failing check": {"max_size": 2, "check": failing, "check_after": 0, "others": 2},
    "hurried check": {"max_size": 1, "check": pause, "check_after": 0, "timeout": 9, "check_timeout": 10, "others": 1},
    "reset": {"max_size": 1, "reset": pause, "others": 1},
    "all": {"max_size": 2, "reset": pause, "check": pause, "check_after": 0, "check_on_return": True, "others": 2},
    "debug": {"max_size": 1, "debug": True, "leak_after": 0.2, "others": 1},
}


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("way", ["block", "take", "try"])
def test_a_borrower_cancelled_anywhere_loses_nothing(name: str, way: str) -> None:
    """Waiting, connecting, in the instant of hand-over, in check, in its block, in reset."""
    options = {"drain_timeout": 3.0, **SCENARIOS[name]}
    others = options.pop("others", 0)

    async def by_hand(pool: Pool[Connection]) -> None:
        connection = await pool.take()
        try:
            await anyio.sleep(1)
        except BaseException:
            pool.discard(connection)
            raise
        await pool.give_back(connection)

    async def perhaps(pool: Pool[Connection]) -> None:
        await use(pool)
        async with pool.try_acquire():
            await anyio.sleep(1)

    async def scenario(victim: Victim) -> None:
        backend = Backend(takes=0.25, closing_takes=0.1)
        async with backend.pool(**options) as pool:
            async with anyio.create_task_group() as tg:
                for _ in range(others):
                    tg.start_soon(use, pool)
                await settle()
                tg.start_soon(victim, {"block": use, "take": by_hand, "try": perhaps}[way], pool)
                await settle()
                tg.start_soon(use, pool)
            await still_works(pool, backend)
        all_closed(backend)

    sweep(scenario)


@pytest.mark.parametrize("how", ["pool", "close", "warm", "context"])
def test_a_life_cancelled_anywhere_leaves_nothing_open(how: str) -> None:
    """The task that runs the pool, while it opens, works, drains and closes."""

    async def live(pool: Pool[Connection]) -> None:
        async with pool:
            await pool.warm()
            async with anyio.create_task_group() as tg:
                tg.start_soon(use_while_open, pool, 2.0)
                tg.start_soon(use_while_open, pool, 1.0)
                if how == "close":
                    await pool.close(drain_timeout=0.5)

    async def scenario(victim: Victim) -> None:
        backend = Backend(takes=0.25, closing_takes=0.1)
        options = {"min_size": 1, "max_size": 2}
        pool = Pool.from_context(backend.context, **STEADY, **options) if how == "context" else backend.pool(**options)
        await victim(live, pool)
        all_closed(backend)

    sweep(scenario)


@pytest.mark.parametrize("least", [0, 1])
def test_a_borrower_of_one_key_cancelled_anywhere_takes_nothing_from_the_others(least: int) -> None:
    """Its share of the limit is free again, and its place in the line of keys."""

    async def use_key(pools: KeyedPool[str, Connection], key: str) -> None:
        async with pools.acquire(key) as connection:
            assert connection.is_open
            await anyio.sleep(1)

    async def scenario(victim: Victim) -> None:
        backend = Backend(takes=0.25, closing_takes=0.1)
        options = {"max_total": 2, "min_size": least, "timeout": 60}

        async def connect(key: str) -> Connection:
            return await backend.connect()

        async with KeyedPool(connect, close=backend.close, **{**STEADY, **options}) as pools:
            async with anyio.create_task_group() as tg:
                for key in "ab":
                    tg.start_soon(use_key, pools, key)
                await settle()
                tg.start_soon(victim, use_key, pools, "c")
                await settle()
                tg.start_soon(use_key, pools, "d")
            async with anyio.create_task_group() as tg:
                for key in "aabbccdd":
                    tg.start_soon(use_key, pools, key)
            assert not any(found.in_use or found.waiting for found in pools.statistics().values())
            assert backend.most_open <= 2
        all_closed(backend)

    sweep(scenario)


def test_a_request_cancelled_anywhere_returns_its_resource() -> None:
    """While it waits, in its handler, and in a handler that calls another one."""

    async def scenario(victim: Victim) -> None:
        backend = Backend(takes=0.25, closing_takes=0.1)
        async with backend.pool(max_size=1) as pool:
            middleware = PoolMiddleware(pool)

            async def inner(ctx: Request) -> None:
                assert middleware.current().is_open
                await anyio.sleep(1)

            async def outer(ctx: Request) -> None:
                await middleware(ctx, inner)

            async with anyio.create_task_group() as tg:
                tg.start_soon(use, pool)
                await settle()
                tg.start_soon(victim, middleware, Request(), outer)
            with pytest.raises(LookupError):
                middleware.current()
            await still_works(pool, backend)
        all_closed(backend)

    sweep(scenario)


class Request:
    method = "tools/call"


def test_shuffled_schedules() -> None:
    """Borrowers, cancellations, failures and resizes, in orders that asyncio by itself never takes."""
    assert len({storm_of(seed) for seed in range(200)}) > 1
