"""What the decorators of this package share: is it an async function, and how does a wrapper take on its looks."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["checked_async", "is_async_generator", "preserve_signature"]

W = TypeVar("W", bound=Callable[..., Any])


def checked_async(where: str, fn: W, *, generators: bool = False) -> W:
    """Return *fn*; raise TypeError unless calling it gives something to await, as far as one can tell beforehand.

    With *generators*, an async generator function will do as well.  A sync function passes if it wraps an async one
    (``__wrapped__``), if its annotation says that what it returns is to be awaited, and if it is a lambda or not
    written in Python, which say nothing.
    """
    given: object = fn
    if not callable(given) or isinstance(given, type):
        raise TypeError(f"{where} needs an async function, got {fn!r}")
    called = _called(fn)
    if inspect.isasyncgenfunction(called) and not generators:
        raise TypeError(f"{where} needs a function with one result, got the async generator {fn!r}")
    if inspect.isgeneratorfunction(called) or not _is_async(called):
        raise TypeError(f"{getattr(fn, '__qualname__', repr(fn))}() is not async; did you forget 'async def'?")
    return fn


def is_async_generator(fn: Any) -> bool:
    """Say whether calling *fn* gives an async generator."""
    return inspect.isasyncgenfunction(_called(fn))


def _called(fn: Any) -> Any:
    """Find the function inside partials, wrappers and callable objects."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    fn = inspect.unwrap(fn)
    return fn if inspect.isroutine(fn) else type(fn).__call__


def _is_async(fn: Any) -> bool:
    if inspect.iscoroutinefunction(fn) or inspect.isasyncgenfunction(fn):
        return True
    says_nothing = not hasattr(fn, "__code__") or fn.__name__ == "<lambda>"
    returns: Any = getattr(fn, "__annotations__", {}).get("return")
    kind = str(getattr(returns, "__name__", returns)).partition("[")[0].rpartition(".")[2]
    return says_nothing or kind in ("Awaitable", "Coroutine", "Future", "Task")


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
