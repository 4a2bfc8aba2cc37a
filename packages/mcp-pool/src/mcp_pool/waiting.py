"""A place in the queue of a pool, woken with a resource or an error.

anyio's event and deadlines cost several times what a hand-over does. On asyncio a bare future takes their place, and
one timer for all: it is set for the earliest deadline known, and looks through the queue when it fires, which is once
in the length of a timeout and not once a waiter. On trio anyio's own are used, which are cheaper there.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Generator, MutableMapping
from typing import Any, Generic, TypeVar

import anyio
from anyio.lowlevel import RunVar

from .errors import PoolMisuse
from .shelf import Waiter

T = TypeVar("T")

__all__ = ["AsyncioWaiting", "OtherWaiting", "is_asyncio"]

_ELSEWHERE = "this pool was opened in another event loop; each event loop needs a pool of its own"
_RUN: RunVar[object] = RunVar("mcp_pool_run")


def is_asyncio() -> bool:
    """Say whether the running task is one of asyncio."""
    return issubclass(anyio.get_cancelled_exc_class(), asyncio.CancelledError)


def _run() -> object:
    """Return what is the same within one run of an event loop, and only there."""
    try:
        return _RUN.get()
    except LookupError:
        _RUN.set(object())
        return _RUN.get()


class _FutureWaiter:
    __slots__ = ("deadline", "future", "outcome")

    def __init__(self, future: asyncio.Future[None], deadline: float) -> None:
        self.future = future
        self.deadline = deadline
        self.outcome: Any = None

    def give(self, outcome: Any) -> bool:
        if self.future.done():
            return False
        self.outcome = outcome
        self.future.set_result(None)
        return True

    def __await__(self) -> Generator[Any, None, None]:
        return self.future.__await__()


class AsyncioWaiting:
    """Makes the waiters of one queue, and ends their waiting in time."""

    def __init__(self, queue: MutableMapping[Waiter, None]) -> None:
        self._queue: Any = queue
        self._loop = asyncio.get_running_loop()
        self._alarm: asyncio.TimerHandle | None = None

    def waiter(self, timeout: float) -> Waiter:
        """Make one that waits up to *timeout* seconds, to be put into the queue now.

        Raises PoolMisuse in another event loop than the pool's: nothing here may be touched from another thread.
        """
        if asyncio.get_running_loop() is not self._loop:
            raise PoolMisuse(_ELSEWHERE)
        deadline = self._loop.time() + timeout
        if self._alarm is None or deadline < self._alarm.when():
            self._set(deadline)
        return _FutureWaiter(self._loop.create_future(), deadline)

    def ready(self, value: T) -> Awaitable[T]:
        """Return what can be awaited again and again, and gives *value* at once; cheaper than a coroutine each time."""
        future: asyncio.Future[T] = self._loop.create_future()
        future.set_result(value)
        return future

    def stop(self) -> None:
        """Leave no timer behind."""
        if self._alarm is not None:
            self._alarm.cancel()

    def _set(self, deadline: float) -> None:
        self.stop()
        self._alarm = self._loop.call_at(deadline, self._ring)

    def _ring(self) -> None:
        now = self._loop.time()
        for waiter in [waiter for waiter in self._queue if waiter.deadline <= now]:
            del self._queue[waiter]
            waiter.give(None)
        self._set(min((waiter.deadline for waiter in self._queue), default=math.inf))


class _EventWaiter:
    __slots__ = ("_event", "_timeout", "outcome")

    def __init__(self, timeout: float) -> None:
        self.outcome: Any = None
        self._event = anyio.Event()
        self._timeout = timeout

    def give(self, outcome: Any) -> bool:
        self.outcome = outcome
        self._event.set()
        return True

    def __await__(self) -> Generator[Any, Any, None]:
        return self._wait().__await__()

    async def _wait(self) -> None:
        with anyio.move_on_after(self._timeout):
            await self._event.wait()


class _Ready(Generic[T]):
    def __init__(self, value: T) -> None:
        self._value = value

    def __await__(self) -> Generator[Any, None, T]:
        yield from ()
        return self._value


class OtherWaiting:
    """The same on any backend of anyio; each waiter has a deadline of its own."""

    def __init__(self) -> None:
        self._home = _run()

    def waiter(self, timeout: float) -> Waiter:
        """Make one, as above."""
        if _run() is not self._home:
            raise PoolMisuse(_ELSEWHERE)
        return _EventWaiter(timeout)

    def ready(self, value: T) -> Awaitable[T]:
        """Return what can be awaited again and again, and gives *value* at once."""
        return _Ready(value)

    def stop(self) -> None:
        """Leave no timer behind: there is none."""
