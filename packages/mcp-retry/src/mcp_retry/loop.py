"""The loop itself, around any function, with everything looked up beforehand.

It is written twice.  Where nothing is to be done around an attempt, and nobody looks at results, a success costs one
coroutine frame and one increment: no clock, no lock, no context manager, no object for the call.  The first attempt
stands before the loop there, since the tests of a general loop would add 25 ns to the 140 of the wrapper.

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
    return _watched(settings, counter, begin, fn, is_retryable=is_retryable, is_refused=is_refused)


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


def _watched(
    settings: Settings,
    counter: Budget,
    begin: Begin,
    fn: Fn,
    *,
    is_retryable: IsRetryable,
    is_refused: IsRefused | None,
) -> Looped:
    sleep, is_plain = settings.sleep, settings.is_plain

    async def attempts(*args: Any, **kwargs: Any) -> Any:
        counter.calls += 1
        run = None if is_plain else begin()
        while True:
            try:
                with run or _UNBOUNDED:
                    result = await fn(*args, **kwargs)
                if run is not None:
                    run.check()
            except Exception as error:
                run = run or begin()
                if not run.goes_on_after(error, retryable=is_retryable(error, args)):
                    raise
            else:
                is_good = is_refused is None or not is_refused(result, args)
                if is_good and run is None:
                    return result
                run = run or begin()
                if not run.goes_on_with(result, is_good=is_good):
                    return result
            await sleep(run.delay)

    return attempts


class _Unbounded:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


_UNBOUNDED = _Unbounded()
