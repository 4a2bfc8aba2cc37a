"""Leaks are found with their line, and a longer hot path has a higher count."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable

import anyio
import pytest

from tests.support.measure import count_instructions, no_growth


async def test_no_growth_passes_what_keeps_nothing() -> None:
    """Objects made and dropped, buffers that fill up, and waiting are no growth."""
    recent: deque[object] = deque(maxlen=50)

    async def bounded() -> None:
        recent.append([object()])
        await anyio.lowlevel.checkpoint()

    await no_growth(bounded)
    await no_growth(lambda: dict.fromkeys(range(100)))


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.parametrize("leak", [object, lambda: b"x" * 5000, lambda: None])
async def test_a_planted_leak_is_found(leak: Callable[[], object]) -> None:
    """Small objects, large buffers, and even one slot of a list a call."""
    kept = []

    def keep() -> None:
        kept.append(leak())

    with pytest.raises(AssertionError, match=r"bytes of memory behind:\n.*test_measure\.py"):
        await no_growth(keep)


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_a_planted_cycle_is_found() -> None:
    """A reference cycle is told from a leak, and may be allowed."""

    def cycle() -> None:
        ring: list[object] = []
        ring.append(ring)

    with pytest.raises(AssertionError, match="bytes of reference cycles behind"):
        await no_growth(cycle)
    await no_growth(cycle, cycles=True)


def test_the_count_is_the_work() -> None:
    """Every turn of a loop costs the same number of bytecodes, and the count is the same each time."""

    def loop(turns: int) -> None:
        for _ in range(turns):
            pass

    counts = [count_instructions(lambda turns=turns: loop(turns)) for turns in (10, 20, 30, 30)]
    assert counts[1] - counts[0] == counts[2] - counts[1] > 0
    assert counts[2] == counts[3]


def test_async_code_is_counted_without_a_loop() -> None:
    """A decision in a coroutine counts with the frames it calls."""

    async def inner() -> int:
        return 1

    async def outer() -> int:
        return await inner() + await inner()

    assert count_instructions(outer) > 2 * count_instructions(inner)


def test_code_that_waits_is_refused() -> None:
    """Half a coroutine is no figure."""

    class Suspends:
        def __await__(self):
            yield

    async def waits() -> None:
        await Suspends()

    with pytest.raises(RuntimeError, match="waits suspended"):
        count_instructions(waits)


def test_an_unsteady_count_is_refused() -> None:
    """A figure that changes from call to call would make a flaky gate."""
    calls: list[int] = []

    def grows() -> None:
        calls.append(0)
        for _ in calls:
            pass

    with pytest.raises(RuntimeError, match="does it do the same twice"):
        count_instructions(grows)


def test_an_outer_tracer_survives() -> None:
    """Coverage goes on behind a count."""

    def tracer(*_: object) -> None: ...

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        count_instructions(lambda: None)
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(before)
