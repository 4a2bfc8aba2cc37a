"""Pools in bad weather, each seed another: a program for long runs, of which the tests run the beginning.

python -m tests.pool.storm 100000     takes some ten minutes; stops at the first seed that breaks an invariant
"""

from __future__ import annotations

import contextlib
import functools
import random
import sys
from typing import Any

import anyio
from mcp_pool import Pool, PoolError

from tests.pool.world import STEADY, Backend, Connection, all_closed, check_invariants
from tests.support.schedule import run_shuffled


def storm_of(seed: int) -> int:
    """Run the storm of *seed* under the schedule of *seed*; return how many uses there were."""
    return run_shuffled(functools.partial(storm, seed), seeds=[seed])[0]


async def storm(seed: int) -> int:  # noqa: C901  # a storm has many winds
    """Run 25 borrowers on a backend that fails now and then; return how many uses there were."""
    dice = random.Random(seed)
    backend = Backend()

    async def connect() -> Connection:
        await anyio.sleep(dice.choice([0, 0.01]))
        if dice.random() < 0.2:
            raise OSError("refused")
        return await backend.connect()

    async def hook(connection: Connection) -> bool:
        await anyio.sleep(dice.choice([0, 0.01]))
        if dice.random() < 0.1:
            raise OSError("stale")
        return dice.random() > 0.1

    async def borrow(pool: Pool[Connection]) -> None:
        with contextlib.suppress(PoolError), anyio.move_on_after(dice.choice([0.02, 0.1, 10.0])):
            async with pool.acquire(timeout=dice.choice([0.05, 10.0])) as connection:
                assert connection.is_open
                await anyio.sleep(dice.choice([0, 0.01, 0.03]))
                if dice.random() < 0.1:
                    pool.discard(connection)

    def disturb(pool: Pool[Connection], number: int) -> None:
        if number == 10:
            pool.resize(max_size=2)
        if number == 15:
            pool.refresh()
        if number == 20:
            pool.resize(min_size=1, max_size=3)

    options: dict[str, Any] = {"max_size": 3, "check": hook, "check_after": 0.005, "check_interval": 0.03}
    hooks = {"reset": hook if seed % 2 else None, "backoff": 0.01, "max_lifetime": 0.2, "idle_timeout": 0.1}
    async with Pool(connect, close=backend.close, **{**STEADY, **options, **hooks}) as pool:
        async with anyio.create_task_group() as tg:
            for number in range(25):
                tg.start_soon(borrow, pool)
                disturb(pool, number)
                await anyio.sleep(dice.choice([0, 0, 0.01]))
                check_invariants(pool)
        check_invariants(pool)
        await anyio.sleep(0.02)  # a check that its borrower had no time for is the pool's, and ends by itself
        assert backend.most_open <= 3
        assert pool.statistics().in_use == pool.statistics().waiting == 0
    all_closed(backend)
    return pool.statistics().uses


if __name__ == "__main__":
    for seed in range(int(sys.argv[1])):
        storm_of(seed)
        if seed % 1000 == 999:
            print(f"{seed + 1} schedules, nothing lost", flush=True)  # noqa: T201  # it is a program
