"""Something to return when all is lost: a value, or the answer of an async function that sees the last error.

    @Fallback(on=ConnectionError, value=())                the value, the same object every time
    @retry
    async def search(query: str) -> tuple[str, ...]: ...

    Fallback(on=ConnectionError, function=from_cache)      await from_cache(error)

It stands outside of a retry, whose failures, ``Throttled`` and ``AttemptTimeout`` among them, it then sees.  If the
function raises, that is what the caller gets, with the first failure as its context.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

from .decoration import checked_async, preserve_signature
from .failures import Failures, On
from .frames import hidden, unseen

__all__ = ["Fallback", "FallbackStatistics"]

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F")

_UNSET: Any = object()


@dataclass(frozen=True)
class FallbackStatistics:
    """How often the fallback was used."""

    used: int


class Fallback(Generic[F]):
    """Return something else instead of a failure.

    *on* says which failures, as for ``Retry``; others pass.  Give either *value*, or *function*, which is called with
    the failure and awaited.

    Raises TypeError unless exactly one of them is given, and for a *function* that is not async.
    """

    @overload
    def __init__(self, *, on: On, value: F) -> None: ...
    @overload
    def __init__(self, *, on: On, function: Callable[[Exception], Awaitable[F]]) -> None: ...
    def __init__(self, *, on: On, value: Any = _UNSET, function: Any = None) -> None:
        if (value is _UNSET) == (function is None):
            raise TypeError(f"Fallback needs either value or function, got value={value!r} and function={function!r}")
        if function is not None:
            checked_async("function", function)
        self._failures = Failures(on)
        self._value = value
        self._function = function
        self._used = 0

    @hidden
    async def call(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R | F:
        """Call ``fn(*args, **kwargs)``, and return what it returns, or else the fallback."""
        try:
            return await fn(*args, **kwargs)
        except Exception as error:
            if not self._failures(error):
                raise
            self._used += 1
            return cast("F", self._value if self._function is None else await self._function(error))

    def __call__(self, fn: Callable[P, Awaitable[R]]) -> Callable[P, Coroutine[Any, Any, R | F]]:
        """Decorate *fn*, an async function; its name and parameters stay."""
        checked_async("Fallback()", fn)

        async def lucky(*args: P.args, **kwargs: P.kwargs) -> R | F:
            with unseen:
                return await self.call(fn, *args, **kwargs)

        return preserve_signature(lucky, fn)

    def statistics(self) -> FallbackStatistics:
        """Return the count so far."""
        return FallbackStatistics(self._used)
