"""The loop itself, around any function, with everything looked up beforehand.

It is written twice.  Where nothing has to be done around an attempt, and results are not looked at, a success costs one
coroutine frame and one increment: no clock, no lock, no context manager, no object for the call.  The other loop does
everything, and would make those calls 30 ns slower, a fifth of what the wrapper adds.

Both leave a handler before they sleep: inside, a cancellation would carry the failed attempt as its context, and keep
its traceback alive.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, Protocol, TypeVar

from .budget import Budget
from .run import Run, Settings

__all__ = ["Call", "looped"]

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


def looped(
    settings: Settings,
    counter: Budget,
    begin: Callable[[], Run],
    fn: Fn,
    is_retryable: IsRetryable,
    is_refused: IsRefused | None,
) -> Looped:
    """Return an async function that calls *fn* until it succeeds or a ``Run`` of *begin* gives up.

    *is_retryable* judges an error, *is_refused* a result; both see the positional arguments of the call.
    """
    if settings.is_plain and is_refused is None:
        return _plain(counter, begin, settings.sleep, fn, is_retryable)
    first = _nothing if settings.is_plain else begin
    return _watched(counter, first, begin, settings.sleep, fn, is_retryable, is_refused or _is_fine)


def _plain(counter: Budget, begin: Callable[[], Run], sleep: Fn, fn: Fn, is_retryable: IsRetryable) -> Looped:
    async def attempts(*args: Any, **kwargs: Any) -> Any:
        counter.calls += 1
        run = None
        while True:
            try:
                # Without the test, an empty dict would be copied for nothing: 10 ns.
                result = await (fn(*args, **kwargs) if kwargs else fn(*args))
                if run is not None:
                    run.succeeded()
                return result
            except Exception as error:
                run = run or begin()
                if not run.goes_on_after(error, retryable=is_retryable(error, args)):
                    raise
            await sleep(run.delay)

    return attempts


def _watched(
    counter: Budget,
    first: Callable[[], Run | None],
    begin: Callable[[], Run],
    sleep: Fn,
    fn: Fn,
    is_retryable: IsRetryable,
    is_refused: IsRefused,
) -> Looped:
    async def attempts(*args: Any, **kwargs: Any) -> Any:
        counter.calls += 1
        run = first()
        while True:
            try:
                if run is None:
                    result = await (fn(*args, **kwargs) if kwargs else fn(*args))
                else:
                    with run:
                        result = await fn(*args, **kwargs)
                    run.check()
            except Exception as error:
                run = run or begin()
                if not run.goes_on_after(error, retryable=is_retryable(error, args)):
                    raise
            else:
                if not is_refused(result, args):
                    if run is not None:
                        run.succeeded()
                    return result
                run = run or begin()
                if not run.goes_on_with(result):
                    return result
            await sleep(run.delay)

    return attempts


def _nothing() -> None:
    """Begin without a ``Run``."""


def _is_fine(_result: object, _args: tuple[Any, ...]) -> bool:
    return False
