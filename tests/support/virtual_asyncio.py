"""An asyncio event loop whose time jumps to the next timer as soon as nothing is ready.

All of asyncio's waiting happens in one call, ``selector.select(timeout)``. Ours looks for events without waiting, and
when there are none moves ``time()`` by *timeout* and returns. Work outside the loop (an executor, a worker thread, a
watched socket) makes it wait for real instead, see ``waiting``. With no timer either, nothing can ever wake the loop:
the watched task is cancelled and told why, and without one, ``Deadlock`` comes out of ``run_until_complete``.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread
import math
import selectors
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.waiting import MAX_JUMPS, MAX_TURNS, Deadlock, RealWait, instead_of_its_consequences, report

__all__ = ["VirtualLoop"]

Events = list[tuple[selectors.SelectorKey, int]]


class _Selector(selectors.DefaultSelector):
    """A selector that lets the loop decide how to wait."""

    wait: Callable[[Callable[[float], Events], float | None], Events]

    def select(self, timeout: float | None = None) -> Events:
        return self.wait(super().select, timeout)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop that starts at 0.0 s and is never ahead of what its tasks can observe."""

    def __init__(self) -> None:
        self._now = 0.0
        self._jumps = self._turns = 0
        self._idle: list[asyncio.Future[None]] = []
        self._executing = 0
        self._real_wait = RealWait()
        self._progressed = True
        self._watched: asyncio.Task[Any] | None = None
        self._deadlock: Deadlock | None = None
        self._threads_before = set(threading.enumerate())
        selector = _Selector()
        selector.wait = self._wait
        super().__init__(selector)
        self._jump(0.0)  # sets what the base class took from a real clock
        self._own_files = len(selector.get_map())

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    async def idle(self) -> None:
        """Wait until every other task is blocked, without moving the clock."""
        future = self.create_future()
        self._idle.append(future)
        await future

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Turn a deadlock into an exception in the task that runs this block."""
        task = self._watched = asyncio.current_task()
        with instead_of_its_consequences(lambda: self._deadlock):
            try:
                yield
            finally:
                self._watched = None
                if self._deadlock and sys.version_info >= (3, 11):
                    task.uncancel()  # the task lives on: anyio runs the tear-down of fixtures in it

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        """As in asyncio; the clock waits for *func*."""
        future = super().run_in_executor(executor, func, *args)
        self._executing += 1
        future.add_done_callback(self._executed)
        return future

    def _executed(self, _: object) -> None:
        self._executing -= 1

    def _wait(self, select: Callable[[float], Events], timeout: float | None) -> Events:
        events = select(0)
        if events or timeout == 0:
            self._progressed = True
            self._count_turn()
            return events
        self._turns = 0
        if self._idle:
            idle, self._idle = self._idle, []
            for future in idle:
                if not future.done():
                    future.set_result(None)
            return events
        try:
            if self._is_awaited_outside():
                return self._wait_for_real(select, timeout)
            self._progressed = True
            # A thread wakes the loop before it ends: one that ended since the first look is only heard in a second.
            events = select(0)
            if not events:
                self._jump(timeout)
        except Deadlock as deadlock:
            self._break(str(deadlock))
        return events

    def _wait_for_real(self, select: Callable[[float], Events], timeout: float | None) -> Events:
        remaining = math.inf if timeout is None else timeout
        real = self._real_wait.slice(self._now + remaining, remaining, progressed=self._progressed)
        events = select(real)
        self._progressed = bool(events)
        if not events and not real:
            self._jump(timeout)
        return events

    def _jump(self, timeout: float | None) -> None:
        if timeout is None:
            raise Deadlock("deadlock: every task is blocked, and no timer, thread or socket can wake one")
        self._jumps += 1
        if self._jumps > MAX_JUMPS:
            raise Deadlock(f"runaway: the clock has jumped {MAX_JUMPS} times, to {self._now} s")
        self._now += timeout
        self._clock_resolution = math.ulp(self._now)  # asyncio runs timers due *before* time + resolution: so, exactly

    def _count_turn(self) -> None:
        self._turns += 1
        if self._turns > MAX_TURNS:
            self._turns = 0
            self._break(f"livelock: {MAX_TURNS} turns of the loop at {self._now} s, and no end")

    def _break(self, reason: str) -> None:
        tasks = [task for task in asyncio.all_tasks(self) if not task.done()]
        deadlock = report(reason, [(task.get_name(), task.get_coro()) for task in tasks])
        if self._watched is None or self._deadlock is not None:
            raise deadlock
        self._deadlock = deadlock
        self._watched.cancel()

    def _is_awaited_outside(self) -> bool:
        return (
            self._executing > 0
            or len(self._selector.get_map()) > self._own_files
            or any(map(_is_busy, set(threading.enumerate()) - self._threads_before))
        )


def _is_busy(thread: threading.Thread) -> bool:
    idle_workers = getattr(thread, "idle_workers", None)  # anyio's worker threads stay alive between two calls
    if idle_workers is not None:
        return thread not in idle_workers
    return thread not in concurrent.futures.thread._threads_queues  # counted by run_in_executor
