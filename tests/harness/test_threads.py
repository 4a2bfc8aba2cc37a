"""Two loops in two threads run at the same time, and failures come back."""

from __future__ import annotations

import threading

import anyio
import pytest

from tests.support.threads import run_in_threads


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_each_function_has_its_own_thread_and_loop(backend: str) -> None:
    """Results come in the order of the functions, from threads that ran side by side."""
    meeting = threading.Barrier(2, timeout=10)

    async def meet() -> int:
        meeting.wait()
        return threading.get_ident()

    here, there = run_in_threads(meet, meet, backend=backend)
    assert len({here, there, threading.get_ident()}) == 3


def test_a_failure_in_a_thread_is_raised() -> None:
    """An exception is not left behind in its thread."""

    async def fails() -> None:
        raise LookupError("planted")

    with pytest.raises(LookupError, match="planted"):
        run_in_threads(anyio.lowlevel.checkpoint, fails)


def test_a_thread_that_hangs_is_reported() -> None:
    """A lost wake-up across threads must not hang the run."""
    release = threading.Event()

    async def hangs() -> None:
        release.wait()

    with pytest.raises(TimeoutError, match="1 of 1 threads"):
        run_in_threads(hangs, timeout=0.1)
    release.set()
