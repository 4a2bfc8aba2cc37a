"""Cancel a task at its first checkpoint, then at its second, and so on, and check the invariants each time.

A scenario is an async function that builds fresh state, runs one coroutine function as the ``victim``, and returns
the state to check::

    async def scenario(victim: Victim) -> Limiter:
        limiter = Limiter(1)
        async with anyio.create_task_group() as tg:
            tg.start_soon(hold_for_a_while, limiter)
            tg.start_soon(victim, wait_for_a_turn, limiter)
        return limiter

    sweep(scenario, lambda limiter: limiter.borrowed == 0)

The victim's coroutine is driven by hand, one suspension after the other, and struck at the k-th. There are several
ways to strike, because the libraries differ in what they do when a cancellation meets a wake-up:

- ``scope``: its anyio cancel scope is cancelled while it is blocked.
- ``task``: the same with ``asyncio.Task.cancel``, as ``asyncio.timeout`` and ``wait_for`` do it. asyncio only.
- ``handover``: the cancellation comes after what it waited for was given to it, and before it ran again. On asyncio
  ``Task.cancel`` then throws at this very await, and what was handed over is lost unless the code gives it back; on
  trio the wake-up wins, and the next checkpoint raises.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, TypeVar

import anyio
import trio.lowlevel

from tests.support.clock import run
from tests.support.waiting import suspended_at

__all__ = ["SweepFailed", "Victim", "sweep"]

T = TypeVar("T")
WAYS = (("asyncio", "scope"), ("asyncio", "task"), ("asyncio", "handover"), ("trio", "scope"), ("trio", "handover"))
LIMIT = 1000  # checkpoints; a scenario with more is a loop that does not end


class SweepFailed(AssertionError):
    """The scenario or the check failed after one strike; the message names it, ``__cause__`` is the failure."""


class Victim:
    """Runs one coroutine function and cancels it at one of its checkpoints.

    Attributes:
        checkpoints: how often it was suspended.
        cancelled: whether a cancellation came out of it.
        struck_at: file, line and function where it was suspended then; None if it ended before.
    """

    def __init__(self, way: str, strike_at: int) -> None:
        self.checkpoints = 0
        self.cancelled = False
        self.struck_at: str | None = None
        self._way = way
        self._strike_at = strike_at
        self._outcome: Callable[[], Any] = lambda: None

    async def __call__(self, fn: Callable[..., Coroutine[Any, Any, T]], *args: object) -> T | None:
        """Run ``fn(*args)`` in a task of its own; its result, None if it was cancelled, or its exception."""
        async with anyio.create_task_group() as tg:
            tg.start_soon(self._run, fn(*args), name="victim")
        return self._outcome()

    async def _run(self, coro: Coroutine[Any, Any, Any]) -> None:
        with anyio.CancelScope() as self._scope:
            await self._suffer(coro)

    async def _suffer(self, coro: Coroutine[Any, Any, Any]) -> None:
        try:
            result = await self._drive(coro)
        except anyio.get_cancelled_exc_class():
            self.cancelled = True
            raise
        except Exception as error:  # noqa: BLE001 raised again from __call__, outside the task group
            self._outcome = functools.partial(_throw, error)
        else:
            self._outcome = lambda: result

    @types.coroutine
    def _drive(self, coro: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        resume: Callable[[Any], Any] = coro.send
        value: Any = None
        while True:
            try:
                request = resume(value)
            except StopIteration as end:
                return end.value
            self.checkpoints += 1
            struck = self.checkpoints == self._strike_at
            if struck:
                self.struck_at = suspended_at(coro)
                self._strike(request)
            try:
                value = yield request
                resume = coro.send
            except BaseException as error:  # noqa: BLE001 thrown into the coroutine, which decides
                value, resume = error, coro.throw
            if struck and self._way == "handover" and trio.lowlevel.in_trio_task():
                self._scope.cancel()

    def _strike(self, request: object) -> None:
        if self._way == "scope":
            self._scope.cancel()
        elif not trio.lowlevel.in_trio_task():
            task = asyncio.current_task()
            assert task is not None
            if self._way == "handover" and isinstance(request, asyncio.Future):
                request.add_done_callback(lambda _: task.cancel())  # before the task's own callback, which comes next
            else:
                asyncio.get_running_loop().call_soon(task.cancel)


def sweep(
    scenario: Callable[[Victim], Awaitable[T]],
    check: Callable[[T], object] | None = None,
    *,
    ways: tuple[tuple[str, str], ...] = WAYS,
) -> dict[tuple[str, str], int]:
    """Strike the victim of *scenario* at every checkpoint, in all *ways*, each time in fresh virtual time.

    After each run ``check(state)``, sync or async, must neither raise nor return False; without it, the scenario
    asserts for itself. The last run of each way is one without a strike. Returns the number of checkpoints by
    (backend, way). Raises SweepFailed, also for a deadlock, and ValueError when there was nothing to strike.
    """
    return {way: _sweep_one_way(scenario, check, *way) for way in ways}


def _sweep_one_way(scenario: Callable[[Victim], Awaitable[T]], check: Any, backend: str, way: str) -> int:
    for strike_at in range(1, LIMIT):
        victim = Victim(way, strike_at)
        try:
            run(_once, scenario, victim, check, backend=backend)
        except Exception as error:
            place = f"struck at checkpoint {strike_at}, {victim.struck_at}" if victim.struck_at else "not struck at all"
            raise SweepFailed(f"{backend}, {way}: {place}: {error!r}") from error
        if victim.checkpoints == 0:
            raise ValueError(f"the victim of {scenario.__qualname__} has no checkpoint, so nothing was tested")
        if victim.struck_at is None:
            return victim.checkpoints
    raise ValueError(f"the victim of {scenario.__qualname__} still runs after {LIMIT} checkpoints")


async def _once(scenario: Callable[[Victim], Awaitable[T]], victim: Victim, check: Any) -> None:
    state = await scenario(victim)
    verdict = check(state) if check else None
    if inspect.isawaitable(verdict):
        verdict = await verdict
    assert verdict is not False, f"the check refuses {state!r}"


def _throw(error: BaseException) -> None:
    raise error
