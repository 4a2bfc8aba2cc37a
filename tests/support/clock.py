"""Virtual time for tests, the same on asyncio and trio: it jumps when nothing is ready, and reports deadlocks.

In a test, ask for the ``clock`` fixture: a ``VirtualClock``, to be called for the time, passed as ``clock=``, and moved
with ``await clock.advance(seconds)``. Sleeping is ``anyio.sleep``, which takes no real time. Outside pytest's
fixtures, ``run(async_fn)`` is ``anyio.run`` in fresh virtual time.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import anyio
import trio.lowlevel

from tests.support.virtual_asyncio import VirtualLoop
from tests.support.virtual_trio import TrioTime
from tests.support.waiting import Deadlock, suspended_at

__all__ = ["Deadlock", "VirtualClock", "guarded", "run", "settle"]

T = TypeVar("T")
TICKS = 5  # turns of the loop that a task cancelled at the very end of a test gets to finish


class VirtualClock:
    """Virtual seconds of the run in progress: 0.0 at its start, readable from any task and thread."""

    def __init__(self, backend: str = "asyncio", loop: Callable[[], VirtualLoop] = VirtualLoop) -> None:
        self._loop = loop
        self._now: Callable[[], float] = float
        if backend == "trio":
            trio_time = TrioTime()
            self._now = trio_time.clock.current_time
            self.options = trio_time.options
        else:
            self.options = {"loop_factory": self._new_loop}

    def __call__(self) -> float:
        return self._now()

    async def advance(self, seconds: float) -> None:
        """Move time by *seconds*, and let all that is due until then run."""
        await anyio.sleep(seconds)
        await settle()

    def _new_loop(self) -> VirtualLoop:
        loop = self._loop()
        self._now = loop.time
        return loop


async def settle() -> None:
    """Wait until every other task is blocked, without moving the virtual clock (which anyio's own does on asyncio)."""
    loop = _virtual_loop()
    await (loop.idle() if loop else anyio.wait_all_tasks_blocked())


def run(
    fn: Callable[..., Awaitable[T]],
    *args: object,
    backend: str = "asyncio",
    loop: Callable[[], VirtualLoop] = VirtualLoop,
    debug: bool = False,
) -> T:
    """Run ``fn(*args)`` in fresh virtual time, with the checks that every async test gets.

    *loop* and *debug* (asyncio's debug mode) are for asyncio alone.
    """
    options = VirtualClock(backend, loop).options
    if debug:
        options["debug"] = True
    return anyio.run(functools.partial(guarded(fn), *args), backend=backend, backend_options=options)


def guarded(fn: Callable[..., Awaitable[T]]) -> Callable[..., Coroutine[Any, Any, T]]:
    """Make *fn* fail when it deadlocks in virtual time, and when it leaves an asyncio task behind."""

    @functools.wraps(fn)
    async def checked(*args: object, **kwargs: object) -> T:
        on_asyncio = not trio.lowlevel.in_trio_task()
        before = asyncio.all_tasks() if on_asyncio else set()
        with _watching(on_asyncio=on_asyncio):
            result = await fn(*args, **kwargs)
        if on_asyncio:
            await _no_task_left(before)
        return result

    return checked


def _watching(*, on_asyncio: bool) -> AbstractContextManager[None]:
    time = _virtual_loop() if on_asyncio else TrioTime.current()
    return time.watching() if time else nullcontext()


def _virtual_loop() -> VirtualLoop | None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    return loop if isinstance(loop, VirtualLoop) else None


async def _no_task_left(before: set[asyncio.Task[Any]]) -> None:
    for _ in range(TICKS):
        if asyncio.all_tasks() <= before:
            return
        await asyncio.sleep(0)
    left = [f"{task.get_name()} at {suspended_at(task.get_coro())}" for task in asyncio.all_tasks() - before]
    if left:
        raise AssertionError("tasks are still pending at the end of the test: " + ", ".join(sorted(left)))
