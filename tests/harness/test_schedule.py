"""The shuffled schedule finds races that asyncio's own order hides, and names the seed."""

from __future__ import annotations

import anyio
import pytest

from tests.support.clock import run
from tests.support.schedule import ScheduleFailed, run_shuffled


async def wake_five() -> tuple[int, ...]:
    """The order in which five waiters of one event come back."""
    event, order = anyio.Event(), []

    async def waiter(number: int) -> None:
        await event.wait()
        order.append(number)

    async with anyio.create_task_group() as tg:
        for number in range(5):
            tg.start_soon(waiter, number)
        await anyio.sleep(1)
        event.set()
    return tuple(order)


async def read_too_early() -> None:
    """A race between two tasks a few awaits apart: the reader only hopes that the writer is done."""
    written = []

    async def writer() -> None:
        await anyio.lowlevel.checkpoint()
        written.append(True)

    async def reader() -> None:
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        assert written, "read before it was written"

    async with anyio.create_task_group() as tg:
        tg.start_soon(writer)
        tg.start_soon(reader)


async def read_in_time() -> None:
    """The same without the race."""
    written = anyio.Event()

    async def reader() -> None:
        await written.wait()

    async with anyio.create_task_group() as tg:
        tg.start_soon(reader)
        await anyio.lowlevel.checkpoint()
        written.set()


def test_many_orders_where_asyncio_shows_one() -> None:
    """Of the 120 orders of five waiters, 200 seeds show most."""
    assert {run(wake_five) for _ in range(5)} == {(0, 1, 2, 3, 4)}
    assert len(set(run_shuffled(wake_five, seeds=range(200)))) > 60


def test_a_planted_race_is_found() -> None:
    """asyncio's own order never fails; one of twenty seeds does."""
    for _ in range(20):
        run(read_too_early)
    with pytest.raises(ScheduleFailed, match="read before it was written"):
        run_shuffled(read_too_early)


def test_the_correct_version_passes() -> None:
    """No false alarm in a thousand orders."""
    run_shuffled(read_in_time, seeds=range(1000))


def test_a_seed_is_an_order() -> None:
    """The seed in the message reproduces the failure, and a seed always gives the same order."""
    with pytest.raises(ScheduleFailed) as caught:
        run_shuffled(read_too_early)
    seed = int(str(caught.value).partition("seed=")[2].split()[0])
    with pytest.raises(ScheduleFailed, match=f"seed={seed} "):
        run_shuffled(read_too_early, seeds=[seed])
    assert run_shuffled(wake_five) == run_shuffled(wake_five)


def test_virtual_time_is_exact_under_every_seed() -> None:
    """Putting a step off takes no time."""

    async def sleeps() -> float:
        async with anyio.create_task_group() as tg:
            for _ in range(10):
                tg.start_soon(anyio.sleep, 0.1)
            await anyio.sleep(0.3)
        return anyio.current_time()

    assert set(run_shuffled(sleeps)) == {0.3}


def test_without_seeds_nothing_is_tested() -> None:
    """An empty range must not pass for a green run."""
    with pytest.raises(ValueError, match="at least one seed"):
        run_shuffled(wake_five, seeds=[])
