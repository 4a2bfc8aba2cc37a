"""A thread may lose its processor between any two readings of the clock: nothing may hang or be lost then."""

from __future__ import annotations

import contextlib

import anyio
import pytest
from mcp_pool import Pool, PoolError

from tests.pool.world import Backend, Connection, all_closed, check_invariants, until
from tests.support.clock import run


class Jumping:
    """The time, which is *seconds* later from the reading number *at* on."""

    def __init__(self, at: int, seconds: float) -> None:
        self.reads = 0
        self._at = at
        self._seconds = seconds

    def __call__(self) -> float:
        self.reads += 1
        return anyio.current_time() + self._seconds * (self.reads > self._at)


async def work(connection: Connection) -> None:
    await anyio.sleep(0.05)


async def use(pool: Pool[Connection]) -> None:
    with contextlib.suppress(PoolError):
        async with pool.acquire(timeout=5.0) as connection:
            assert connection.is_open
            await anyio.sleep(0.3)


async def busy_life(clock: Jumping) -> None:
    """Everything a pool does in time: back-off, checks, resets, ages, leaks, an outage and the recovery from it."""
    backend = Backend(takes=0.1, closing_takes=0.05)
    backend.plan = [OSError("refused"), OSError("refused")]
    limits = {"min_size": 1, "max_size": 2, "backoff": 0.2, "connect_attempts": 3, "idle_timeout": 0.7}
    hooks = {"check": work, "check_after": 0.1, "check_interval": 0.4, "reset": work}
    async with backend.pool(clock=clock, max_lifetime=2.0, leak_after=0.2, **limits, **hooks) as pool:
        for pause in (0.0, 1.0):
            async with anyio.create_task_group() as tg:
                for _ in range(4):
                    tg.start_soon(use, pool)
            await anyio.sleep(pause)
        backend.default = OSError("down")
        pool.refresh()
        await until(lambda: not pool.statistics().available, step=0.1)
        backend.default = None
        await until(lambda: pool.statistics().idle == 1, step=0.1)
        async with anyio.create_task_group() as tg:
            for _ in range(3):
                tg.start_soon(use, pool)
        check_invariants(pool)
        assert pool.statistics().waiting == pool.statistics().in_use == 0
    all_closed(backend)


@pytest.mark.parametrize("seconds", [0.15, 60.0])
def test_a_jump_of_the_clock_at_any_reading(seconds: float) -> None:
    """By less than most limits, or by more; for every reading of a whole life."""
    steady = Jumping(10**9, 0.0)
    run(busy_life, steady)
    for at in range(steady.reads):
        try:
            run(busy_life, Jumping(at, seconds))
        except BaseException as error:
            raise AssertionError(f"at reading {at}") from error
