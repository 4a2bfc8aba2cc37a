"""The loop itself, around any function, with everything looked up beforehand.

It is written twice.  Where nothing is to be done around an attempt, and nobody looks at results, a success costs one
coroutine frame and one increment: no clock, no lock, no context manager, no object for the call.  The two tests that
the other one needs would add 10 ns to the 140 of the wrapper.

A handler is left before a sleep: inside, a cancellation would carry the failed attempt as its context, and keep its
traceback alive.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, Protocol, TypeVar

from .budget import Budget
from .run import Run, Settings

__all__ = ["Call", "looped"]

P = ParamSpec("P")
R = TypeVar("R")

Begin = Callable[[], Run]
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
    begin: Begin,
    fn: Fn,
    *,
    is_retryable: IsRetryable,
    is_refused: IsRefused | None,
) -> Looped:
    """Return an async function that calls *fn* until it succeeds or a ``Run`` of *begin* gives up.

    *is_retryable* judges an error, *is_refused* a result; both see the positional arguments of the call.
    """
    if settings.is_plain and is_refused is None:
        return _plain(counter, begin, settings.sleep, fn, is_retryable)
    return _watched(settings, counter, begin, fn, is_retryable=is_retryable, is_refused=is_refused or _is_fine)


def _plain(counter: Budget, begin: Begin, sleep: Fn, fn: Fn, is_retryable: IsRetryable) -> Looped:
    async def attempts(*args: Any, **kwargs: Any) -> Any:
        counter.calls += 1
        try:
            # Without the test, an empty dict would be copied for nothing: 10 ns.
            return await (fn(*args, **kwargs) if kwargs else fn(*args))
        except Exception as error:
            run = begin()
            if not run.goes_on_after(error, retryable=is_retryable(error, args)):
                raise
        while True:
            await sleep(run.delay)
            try:
                result = await fn(*args, **kwargs)
            except Exception as error:
                if not run.goes_on_after(error, retryable=is_retryable(error, args)):
                    raise
            else:
                run.succeeded()
                return result

    return attempts


def _watched(  # noqa: C901  # because of the function inside
    settings: Settings,
    counter: Budget,
    begin: Begin,
    fn: Fn,
    *,
    is_retryable: IsRetryable,
    is_refused: IsRefused,
) -> Looped:
    sleep, is_plain = settings.sleep, settings.is_plain

    async def attempts(*args: Any, **kwargs: Any) -> Any:  # noqa: C901  # one function is one frame in a traceback
        counter.calls += 1
        if is_plain:
            try:
                result = await (fn(*args, **kwargs) if kwargs else fn(*args))
            except Exception as error:
                run = begin()
                if not run.goes_on_after(error, retryable=is_retryable(error, args)):
                    raise
            else:
                if not is_refused(result, args):
                    return result
                run = begin()
                if not run.goes_on_with(result, is_good=False):
                    return result
            await sleep(run.delay)
        else:
            run = begin()
        while True:
            try:
                with run:
                    result = await fn(*args, **kwargs)
                run.check()
            except Exception as error:
                if not run.goes_on_after(error, retryable=is_retryable(error, args)):
                    raise
            else:
                if not run.goes_on_with(result, is_good=not is_refused(result, args)):
                    return result
            await sleep(run.delay)

    return attempts


def _is_fine(_result: object, _args: tuple[Any, ...]) -> bool:
    return False
