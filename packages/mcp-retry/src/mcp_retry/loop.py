"""The loop itself, around any function.

    first attempt, in the caller's own frame ──good──▶ its result
        │ failed, and worth it
        ▼
    ``go_on``: sleep ──▶ attempt ──failed──▶ again, or give up

The first attempt is written out wherever nothing has to be done around it: a success then costs one coroutine frame and
one increment, and no clock, lock, context manager or object.  On Python 3.11 a frame that only passes ``*args`` and
``**kwargs`` on makes 2.2 bare awaits of one, and all of it 2.35; with the loop in the same frame it was 0.1 more, for
the variables that are then made and cleared.

A traceback has one frame more, however many attempts there were (see ``frames``).  A handler is left before a sleep:
inside, a cancellation would carry the failed attempt as its context, and keep it alive.  For the same reason a refused
result is dropped there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, Protocol, TypeVar

from .budget import Budget
from .frames import hidden, unseen
from .run import Run, Settings

__all__ = ["Call", "Loop"]

P = ParamSpec("P")
R = TypeVar("R")

Fn = Callable[..., Awaitable[Any]]
Looped = Callable[..., Coroutine[Any, Any, Any]]
IsRetryable = Callable[[Exception, tuple[Any, ...]], bool]
IsRefused = Callable[[Any, tuple[Any, ...]], bool]


class Call(Protocol):
    """How a function is called under a policy."""

    def __call__(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Call ``fn(*args, **kwargs)``, and return what it returns."""
        ...


class Loop:
    """How calls under one policy go on: *is_retryable* judges an error, *is_refused* a result.

    Both see the positional arguments of the call, and neither may raise.  *counter* counts first attempts, *begin*
    makes the ``Run`` of a call.
    """

    __slots__ = ("begin", "counter", "is_plain", "is_refused", "is_retryable")

    def __init__(
        self,
        settings: Settings,
        counter: Budget,
        begin: Callable[[], Run],
        is_retryable: IsRetryable,
        is_refused: IsRefused | None,
    ) -> None:
        self.counter: Budget = counter
        self.begin: Callable[[], Run] = begin
        self.is_plain: bool = settings.is_plain
        self.is_retryable: IsRetryable = is_retryable
        self.is_refused: IsRefused | None = is_refused

    def around(self, fn: Fn) -> Looped:
        """Return an async function that calls *fn* until it succeeds, or a run gives up."""
        if not self.is_plain:
            return _bounded(self, fn)
        return _plain(self, fn) if self.is_refused is None else _judged(self, fn, self.is_refused)

    def call(self) -> Call:
        """Return an async function that calls its first argument with the others, likewise."""
        if self.is_plain and self.is_refused is None:
            return _called(self)

        async def attempts(fn: Fn, /, *args: Any, **kwargs: Any) -> Any:
            with unseen:
                return await self.around(fn)(*args, **kwargs)

        return attempts

    def after_error(self, error: Exception, args: tuple[Any, ...]) -> Run | None:
        """Begin a run whose first attempt raised *error*; None if there is to be no other."""
        run = self.begin()
        return run if run.goes_on_after(error, retryable=self.is_retryable(error, args)) else None

    def after_refused(self, result: object) -> Run | None:
        """Begin a run whose first attempt returned *result*, which is refused; None if there is to be no other."""
        run = self.begin()
        return run if run.goes_on_with(result, is_good=False) else None

    @hidden
    async def go_on(
        self, run: Run, fn: Callable[..., Awaitable[R]], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> R:
        """Make the attempts that *run* has left."""
        while True:
            if run.failed:
                await run.sleep()
            try:
                with run:
                    result = await fn(*args, **kwargs)
                run.check()
            except Exception as error:
                if not run.goes_on_after(error, retryable=self.is_retryable(error, args)):
                    raise
            else:
                is_good = self.is_refused is None or not self.is_refused(result, args)
                if not run.goes_on_with(result, is_good=is_good):
                    return result
                del result


def _plain(loop: Loop, fn: Fn) -> Looped:
    counter = loop.counter

    async def attempts(*args: Any, **kwargs: Any) -> Any:
        counter.calls += 1
        try:
            # Without the test, an empty dict would be copied for nothing: 10 ns.
            return await (fn(*args, **kwargs) if kwargs else fn(*args))
        except Exception as error:
            run = loop.after_error(error, args)
            if run is None:
                raise
        with unseen:
            return await loop.go_on(run, fn, args, kwargs)

    return attempts


def _called(loop: Loop) -> Call:
    counter = loop.counter

    async def attempts(fn: Fn, /, *args: Any, **kwargs: Any) -> Any:
        counter.calls += 1
        try:
            return await (fn(*args, **kwargs) if kwargs else fn(*args))
        except Exception as error:
            run = loop.after_error(error, args)
            if run is None:
                raise
        with unseen:
            return await loop.go_on(run, fn, args, kwargs)

    return attempts


def _judged(loop: Loop, fn: Fn, is_refused: IsRefused) -> Looped:
    counter = loop.counter

    @hidden
    async def attempts(*args: Any, **kwargs: Any) -> Any:
        counter.calls += 1
        try:
            result = await (fn(*args, **kwargs) if kwargs else fn(*args))
        except Exception as error:
            run = loop.after_error(error, args)
            if run is None:
                raise
        else:
            if not is_refused(result, args):
                return result
            run = loop.after_refused(result)
            if run is None:
                return result
            del result
        with unseen:
            return await loop.go_on(run, fn, args, kwargs)

    return attempts


def _bounded(loop: Loop, fn: Fn) -> Looped:
    @hidden
    async def attempts(*args: Any, **kwargs: Any) -> Any:
        loop.counter.calls += 1
        run = loop.begin()
        with unseen:
            return await loop.go_on(run, fn, args, kwargs)

    return attempts
