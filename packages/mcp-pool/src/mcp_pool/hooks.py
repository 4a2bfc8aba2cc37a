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
import math
import types
from collections.abc import Callable, Generator
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import anyio

from .events import HookFailed
from .report import Report
from .settings import Settings
from .shelf import Entry, Shelf

__all__ = ["Hook", "Hooks"]

T = TypeVar("T")

Hook: TypeAlias = Literal["check", "reset"]


class Hooks(Generic[T]):
    """The two hooks of one pool."""

    def __init__(self, settings: Settings[T], shelf: Shelf[T], report: Report) -> None:
        self.start_check: Callable[[Entry[T]], bool] = _not_at_all
        """Run the check as far as it goes without waiting; True if that was all, and it passed; else ``finish`` it."""
        self.start_reset: Callable[[Entry[T]], bool] = _not_at_all
        """The same with the reset, which passes whatever it returns."""
        self._settings = settings
        self._shelf = shelf
        self._report = report
        self._check, self._reset = (_as_coroutine(fn) for fn in (settings.check, settings.reset))
        self._steps_by_hand = False

    def step_by_hand(self) -> None:
        """From now on, on asyncio: begin hooks in ``start_check`` and ``start_reset``."""
        self._steps_by_hand = True
        self.start_check, self.start_reset = self._step_check, self._step_reset

    def _step_check(self, entry: Entry[T]) -> bool:
        try:
            steps = self._check(entry.resource)
            entry.pending = steps, steps.send(None)
        except StopIteration as end:
            if end.value is not False:
                return True
            entry.pending = None, False
        except BaseException as error:  # noqa: BLE001  # raised again by ``finish``
            entry.pending = None, error
        return False

    def _step_reset(self, entry: Entry[T]) -> bool:
        try:
            steps = self._reset(entry.resource)
            entry.pending = steps, steps.send(None)
        except StopIteration:
            return True
        except BaseException as error:  # noqa: BLE001  # raised again by ``finish``
            entry.pending = None, error
        return False

    async def finish(self, entry: Entry[T], hook: Hook, left: float = math.inf) -> bool:
        """Go on where it was started; False, and the entry is closed, unless it passes in its time and in *left*."""
        state, error, passed = entry.state, None, False
        settings = self._settings
        limit = min(settings.check_timeout if hook == "check" else settings.reset_timeout, left)
        try:
            passed = await self._rest(entry, hook, limit) is not False or hook == "reset"
        except Exception as caught:  # noqa: BLE001  # whatever it is, this resource is not to be lent again
            error = caught
        finally:
            if not passed:
                self._shelf.retire(entry, hook)
        if not passed:
            self._report.tell(HookFailed(self._report.name, hook, error or ValueError("check returned False")))
        return passed and entry.state is state  # it may have been closed by force meanwhile

    async def passes(self, entry: Entry[T], hook: Hook, left: float = math.inf) -> bool:
        """Start a hook and, if need be, finish it."""
        start = self.start_check if hook == "check" else self.start_reset
        return start(entry) or await self.finish(entry, hook, left)

    async def _rest(self, entry: Entry[T], hook: Hook, seconds: float) -> object:
        if not self._steps_by_hand:
            with anyio.fail_after(seconds):
                return await (self._check if hook == "check" else self._reset)(entry.resource)
        (steps, request), entry.pending = entry.pending, None
        if isinstance(request, BaseException):
            raise request
        return False if steps is None else await _watched(steps, request, seconds)


def _not_at_all(_: object) -> bool:
    return False


def _as_coroutine(fn: Any) -> Any:
    """Give a function that returns another awaitable the shape of an async one; only coroutines can be stepped."""
    if inspect.iscoroutinefunction(fn):
        return fn

    async def call(resource: object) -> object:
        return await fn(resource)

    return call


@types.coroutine
def _watched(steps: Any, request: Any, seconds: float) -> Generator[Any, Any, Any]:
    deadline = _Deadline(seconds)
    try:
        return (yield from _continued(steps, request))
    except asyncio.CancelledError:
        if deadline.is_over_alone():
            raise TimeoutError(f"took longer than {seconds} s") from None
        raise
    finally:
        deadline.close()


def _continued(steps: Any, request: Any) -> Generator[Any, Any, Any]:
    """Go on with *steps*, of which *request* was the first thing that it waits for."""
    while True:
        resume = steps.send
        try:
            value = yield request
        except BaseException as error:  # noqa: BLE001  # whatever is thrown in is for the hook to handle
            value, resume = error, steps.throw
        try:
            request = resume(value)
        except StopIteration as end:
            return end.value


_COUNTS: bool = hasattr(asyncio.Task, "uncancel")  # since Python 3.11, tasks count who cancelled them


class _Deadline:
    """Cancels the current task of asyncio once, unless closed before."""

    def __init__(self, seconds: float) -> None:
        task: Any = asyncio.current_task()
        self._task = task
        self._cancelling: int = task.cancelling() if _COUNTS else 0
        self._fired = self._uncancelled = False
        self._timer = asyncio.get_running_loop().call_later(min(seconds, 1e6), self._fire)

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
