"""Run the user's check and reset within their time; what does not pass is closed.

On asyncio a hook is stepped by hand. If it ends without ever waiting there was nothing to limit, and no coroutine of
ours was needed to run it. Otherwise what is left of it is awaited, under a timer that cancels the task and is told
apart from a cancellation from outside as ``asyncio.timeout`` does. A cancel scope around the rest would not do: the
hook may have entered scopes of its own by then, which would have to be left after ours. On trio, whose scopes are
cheap, a hook runs in one from the start.
"""

from __future__ import annotations

import asyncio
import inspect
import types
from collections.abc import Callable, Generator
from typing import Any, Generic, Literal, TypeVar

import anyio

from .entry import Entry
from .events import HookFailed
from .report import Report
from .shelf import Shelf

__all__ = ["Hook", "not_begun"]

T = TypeVar("T")

_DONE: Any = object()


class Hook(Generic[T]):
    """The check or the reset of one pool, at most *limit* seconds each time."""

    def __init__(self, name: Literal["check", "reset"], fn: Any, limit: float, shelf: Shelf[T], report: Report) -> None:
        self.name: Literal["check", "reset"] = name
        self.start: Callable[[Entry[T]], bool] = not_begun
        """Run it as far as it goes without waiting; True if that was all, and it passed; else ``passes`` goes on."""
        self._steps: Callable[[Entry[T]], Any] = (_checking if name == "check" else _resetting)(_as_coroutine(fn))
        self._limit = limit
        self._shelf = shelf
        self._report = report

    def step_by_hand(self) -> None:
        """From now on, on asyncio: begin it in ``start``."""
        self.start = self._start

    def _start(self, entry: Entry[T]) -> bool:
        steps = self._steps(entry)
        try:
            request = next(steps, _DONE)  # unlike ``send``, it makes no exception of the end: a tenth of the whole
        except BaseException as error:  # noqa: BLE001  # raised again by ``passes``
            entry.pending = None, error
            return False
        if request is not _DONE:
            entry.pending = steps, request
        elif entry.verdict:
            return True
        else:
            entry.pending = None, None
        return False

    async def passes(self, entry: Entry[T]) -> bool:
        """Run it, or go on where it was started; False, and *entry* is closed, unless it passes in time."""
        return (entry.pending is None and self.start(entry)) or await self._finish(entry)

    async def _finish(self, entry: Entry[T]) -> bool:
        state, error, passed = entry.state, None, False
        try:
            await self._rest(entry)
            passed = entry.verdict
        except Exception as caught:  # noqa: BLE001  # whatever it is, this resource is not to be lent again
            error = caught
        finally:
            if not passed:
                self._shelf.retire(entry, self.name)
        if not passed:
            self._report.tell(HookFailed(self._report.name, self.name, error or ValueError("check returned False")))
        return passed and entry.state is state  # it may have been closed by force meanwhile

    async def _rest(self, entry: Entry[T]) -> None:
        if entry.pending is None:
            with anyio.move_on_after(self._limit) as scope:
                await self._steps(entry)
            if scope.cancelled_caught:
                raise _too_long(self._limit)
            return
        (steps, request), entry.pending = entry.pending, None
        if isinstance(request, BaseException):
            raise request
        if steps is not None:
            await _watched(steps, request, self._limit)


def not_begun(_: object) -> bool:
    """Stand in for ``start`` where a hook is left to ``passes`` altogether."""
    return False


def _too_long(seconds: float) -> TimeoutError:
    return TimeoutError(f"took longer than {seconds} s")


# Generators instead of coroutines: they need no second object to be stepped.
def _checking(check: Callable[[Any], Any]) -> Callable[[Entry[Any]], Any]:
    @types.coroutine
    def steps(entry: Entry[Any]) -> Generator[Any, Any, None]:
        entry.verdict = (yield from check(entry.resource)) is not False

    return steps


def _resetting(reset: Callable[[Any], Any]) -> Callable[[Entry[Any]], Any]:
    @types.coroutine
    def steps(entry: Entry[Any]) -> Generator[Any, Any, None]:
        yield from reset(entry.resource)
        entry.verdict = True

    return steps


def _as_coroutine(fn: Any) -> Any:
    """Give a function that returns another awaitable the shape of an async one; only coroutines can be stepped."""
    if inspect.iscoroutinefunction(fn):
        return fn

    async def call(resource: object) -> object:
        return await fn(resource)

    return call


@types.coroutine
def _watched(steps: Any, request: Any, seconds: float) -> Generator[Any, Any, None]:
    deadline = _Deadline(seconds)
    try:
        yield from _continued(steps, request)
    except asyncio.CancelledError:
        if deadline.is_over_alone():
            raise _too_long(seconds) from None
        raise
    finally:
        deadline.close()


def _continued(steps: Any, request: Any) -> Generator[Any, Any, None]:
    """Go on with *steps*, of which *request* was the first thing that it waits for."""
    while request is not _DONE:
        resume = steps.send
        try:
            value = yield request
        except BaseException as error:  # noqa: BLE001  # whatever is thrown in is for the hook to handle
            value, resume = error, steps.throw
        try:
            request = resume(value)
        except StopIteration:
            request = _DONE


_COUNTS: bool = hasattr(asyncio.Task, "uncancel")  # since Python 3.11, tasks count who cancelled them


class _Deadline:
    """Cancels the current task of asyncio once, unless closed before."""

    def __init__(self, seconds: float) -> None:
        task: Any = asyncio.current_task()
        self._task = task
        self._cancelling: int = task.cancelling() if _COUNTS else 0
        self._fired = self._uncancelled = False
        self._timer = asyncio.get_running_loop().call_later(seconds, self._fire)

    def _fire(self) -> None:
        self._fired = True
        self._task.cancel()

    def is_over_alone(self) -> bool:
        """Whether it was this deadline that cancelled the task, and nobody else."""
        return self._fired and self._uncancel() <= self._cancelling

    def close(self) -> None:
        """Stop the timer, and take back a cancellation that the hook survived."""
        self._timer.cancel()
        if self._fired:
            self._uncancel()

    def _uncancel(self) -> int:
        if self._uncancelled or not _COUNTS:
            return self._cancelling
        self._uncancelled = True
        return int(self._task.uncancel())
