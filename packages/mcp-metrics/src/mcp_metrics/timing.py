"""Measure any function, generator, stream or block: how often, how it failed, how long it took.

    queries = Timed(registry, "db.query", "Time of a query.")

    @queries                      async def, def, async generators and generators
    with queries.block(): ...     a block
    queries.stream(items)         any async iterator

What yields items has two times: until its first item (``NAME.time_to_first_item``) and until its end
(``NAME.duration``).

Invariants, each tested in ``tests/metrics/test_timing.py``:

1. Each call is counted once, when it is over, however it ended: returned, raised, cancelled, left in the middle.
2. ``error.type`` is the exception's class, ``cancelled`` or ``timeout``; empty for success, and for a consumer that has
   had enough.
3. A decorated function behaves as before: its signature, its kind, what is sent and thrown into it.
"""

from __future__ import annotations

import functools
import inspect
import time
import typing
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from contextlib import contextmanager
from types import AsyncGeneratorType, CoroutineType
from typing import Any, ParamSpec, TypeVar

from .checks import checked_function, checked_source
from .names import Names
from .registry import DEFAULT_BUCKETS
from .sink import Instruments

__all__ = ["Timed"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
W = TypeVar("W", bound=Callable[..., Any])
ERROR_TYPES = 64
TIMEOUTS = {"TimeoutError", "TooSlowError"}  # also asyncio's of Python 3.10, which is another class, and trio's
CANCELLATIONS = {"CancelledError", "Cancelled"}  # asyncio's and trio's


class Timed:
    """Times what it decorates, in seconds; one object may decorate any number of functions.

    Args:
        registry: a ``Registry`` or a ``MeterSink``.
        name: of the operation; the metric is ``NAME.duration``.
        help: what is measured.
        buckets: upper bounds, seconds.
        native: the schema of native buckets beside them, 8 to -4.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        registry: Instruments,
        name: str,
        help: str,  # noqa: A002  # the field's word
        *,
        buckets: tuple[float, ...] = DEFAULT_BUCKETS,
        native: int | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        checked_source("Timed", registry, "histogram", "a Registry or a MeterSink")
        self._clock = checked_function("Timed", "clock", clock)
        how: dict[str, Any] = {"unit": "s", "buckets": buckets, "native": native}
        self._durations = registry.histogram(f"{name}.duration", help, labels=["error.type"], **how)
        self._firsts = registry.histogram(f"{name}.time_to_first_item", f"{help} Until its first item.", **how)
        self._errors = Names(limit=ERROR_TYPES)

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Return *fn*, measured; of the same kind, with the same signature.

        A function that returns a future, or another object to await, is measured until it returns it.
        """
        if isinstance(fn, staticmethod) or not callable(fn):
            raise TypeError(f"Timed decorates functions, got {fn!r}; is it above @staticmethod instead of below?")
        return preserve_signature(self._wrapper(fn), fn)

    @contextmanager
    def block(self) -> Generator[None, None, None]:
        """Measure the block, which may await."""
        began = self._clock()
        try:
            yield
        except BaseException as error:
            self._over(began, self._error_type(error))
            raise
        self._over(began)

    async def stream(self, items: AsyncIterator[T]) -> AsyncGenerator[T, None]:
        """Yield *items*, measured from the first request for one; closes them when it is closed."""
        try:
            with self._items() as arrived:
                async for item in items:
                    arrived()
                    yield item
        finally:
            close = getattr(items, "aclose", None)
            if close is not None:
                await close()

    @contextmanager
    def _items(self) -> Generator[Callable[[], None], None, None]:
        began = self._clock()
        waiting = True

        def arrived() -> None:
            nonlocal waiting
            if waiting:
                waiting = False
                self._firsts.bind().observe(self._clock() - began)

        with self.block():
            yield arrived

    def _over(self, began: float, error_type: str = "") -> None:
        self._durations.bind(error_type).observe(self._clock() - began)

    def _error_type(self, error: BaseException) -> str:
        if isinstance(error, GeneratorExit):
            return ""
        if {cls.__name__ for cls in type(error).__mro__} & TIMEOUTS:
            return "timeout"
        if type(error).__name__ in CANCELLATIONS:
            return "cancelled"
        return self._errors.admit(type(error).__qualname__, succeeded=True)

    def _wrapper(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        called: Any = fn
        while isinstance(called, functools.partial):
            called = called.func
        if not inspect.isroutine(called):  # an object
            called = type(called).__call__
        if inspect.isasyncgenfunction(called):
            return self._async_generator(fn)
        if inspect.iscoroutinefunction(called):
            return self._coroutine(fn)
        return self._generator(fn) if inspect.isgeneratorfunction(called) else self._function(fn)

    def _function(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        # A lambda or a wrapper may return what an `async def` returns: then it is over when that is.
        later = {CoroutineType: self._coroutine, AsyncGeneratorType: self._async_generator}

        def timed(*args: Any, **kwargs: Any) -> Any:
            began = self._clock()
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:
                self._over(began, self._error_type(error))
                raise
            if type(result) in later:
                return later[type(result)](lambda: result)()
            self._over(began)
            return result

        return timed

    def _coroutine(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        async def timed(*args: Any, **kwargs: Any) -> Any:
            with self.block():
                return await fn(*args, **kwargs)

        return timed

    def _generator(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            inner = fn(*args, **kwargs)
            step: Callable[[], Any] = functools.partial(next, inner)
            with self._items() as arrived:
                while True:
                    try:
                        item = step()
                    except StopIteration as end:
                        return end.value
                    finally:
                        del step  # which may hold an exception, and so its traceback
                    arrived()
                    try:
                        sent = yield item
                    except GeneratorExit:
                        inner.close()
                        raise
                    except BaseException as error:  # noqa: BLE001  # thrown in by the consumer: the inner one decides
                        step = functools.partial(inner.throw, error)
                    else:
                        step = functools.partial(inner.send, sent)

        return timed

    def _async_generator(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        async def timed(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            inner = fn(*args, **kwargs)
            step = inner.__anext__()
            with self._items() as arrived:
                while True:
                    try:
                        item = await step
                    except StopAsyncIteration:
                        return
                    finally:
                        del step  # as above
                    arrived()
                    try:
                        sent = yield item
                    except GeneratorExit:
                        await inner.aclose()
                        raise
                    except BaseException as error:  # noqa: BLE001  # thrown in by the consumer: the inner one decides
                        step = inner.athrow(error)
                    else:
                        step = inner.asend(sent)

        return timed


# --- preserve_signature: the same lines in every module that decorates
def preserve_signature(wrapper: W, fn: Callable[..., Any]) -> W:
    """Make *wrapper* look like *fn* to every framework that reads signatures, and return it.

    The annotations are resolved, since no SDK can do that in a foreign module, and ``__wrapped__`` is removed, since
    FastMCP looks through it and finds an unbound ``self``.
    """
    functools.update_wrapper(wrapper, fn)
    del wrapper.__wrapped__  # type: ignore[attr-defined]  # update_wrapper has just set it
    signature = inspect.signature(fn)
    try:
        hints = typing.get_type_hints(fn, include_extras=True)
    except (NameError, TypeError):  # a name that exists for type checkers only, or an object that has no hints
        hints = dict(getattr(fn, "__annotations__", {}))
    parameters = [p.replace(annotation=hints.get(p.name, p.annotation)) for p in signature.parameters.values()]
    returns = hints.get("return", signature.return_annotation)
    shown = signature.replace(parameters=parameters, return_annotation=returns)
    wrapper.__signature__ = shown  # type: ignore[attr-defined]  # what inspect reads
    wrapper.__annotations__ = hints
    return wrapper


# --- end preserve_signature
