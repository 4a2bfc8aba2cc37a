"""Run the user's check and reset within their time; what does not pass is closed.

On asyncio a hook is stepped by hand. If it ends without ever waiting there was nothing to limit, and no coroutine of
ours was needed to run it. Otherwise what is left of it is awaited, under a timer that cancels the task and is told
apart from a cancellation from outside as ``asyncio.timeout`` does. A cancel scope around the rest would not do: the
hook may have entered scopes of its own by then, which would have to be left after ours. On trio, whose scopes are
cheap, a hook runs in one from the start.
"""

from __future__ import annotations

import asyncio
import math
import types
from collections.abc import Generator
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import anyio

from .events import HookFailed
from .report import Report
from .settings import Settings
from .shelf import Entry, Shelf

__all__ = ["Hook", "Hooks"]

T = TypeVar("T")

Hook: TypeAlias = Literal["check", "reset"]

_COROUTINE: Any = types.CoroutineType


class Hooks(Generic[T]):
    """The two hooks of one pool."""

    def __init__(self, settings: Settings[T], shelf: Shelf[T], report: Report) -> None:
        self.steps_by_hand = False
        self._settings = settings
        self._fns: dict[Hook, Any] = {"check": settings.check, "reset": settings.reset}
        self._shelf = shelf
        self._report = report

    def start(self, entry: Entry[T], hook: Hook) -> bool:
        """Run *hook* as far as it goes without waiting; True if that was all, and it passed; otherwise ``finish``."""
        if not self.steps_by_hand:
            return False
        try:
            steps = self._fns[hook](entry.resource)
            if steps.__class__ is not _COROUTINE:
                steps = steps.__await__()
            request = steps.send(None)
        except StopIteration as end:
            if end.value is not False or hook == "reset":
                return True
            entry.pending = None, False
        except Exception as error:  # noqa: BLE001  # raised again by ``finish``
            entry.pending = None, error
        except BaseException:
            self._shelf.retire(entry, hook)
            raise
        else:
            entry.pending = steps, request
        return False

    async def finish(self, entry: Entry[T], hook: Hook, left: float = math.inf) -> bool:
        """Go on where ``start`` stopped; False, and the entry is closed, unless it passes in its time and in *left*."""
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
        """Do both: ``start`` and, if need be, ``finish``."""
        return self.start(entry, hook) or await self.finish(entry, hook, left)

    async def _rest(self, entry: Entry[T], hook: Hook, seconds: float) -> object:
        if not self.steps_by_hand:
            with anyio.fail_after(seconds):
                return await self._fns[hook](entry.resource)
        (steps, request), entry.pending = entry.pending, None
        if isinstance(request, Exception):
            raise request
        return False if steps is None else await _watched(steps, request, seconds)


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
