"""Functions that are cached: the wrapper looks its arguments up in a table of its own before anything else.

A table for each function saves the making and hashing of a tuple with the function's name: a quarter of a hit.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Coroutine, Hashable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast, overload

from .engine import Engine
from .flight import Space
from .invalidation import forget, forget_matching
from .keys import Binder, Unkeyable

if TYPE_CHECKING:
    from typing import Concatenate

    from typing_extensions import ParamSpec, Self

    P = ParamSpec("P")
    Q = ParamSpec("Q")
else:
    from typing import ParamSpec

    P = ParamSpec("P")

__all__ = ["Cached", "P", "R", "decorated"]

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")
W = TypeVar("W", bound=Callable[..., Any])
ABSENT: Any = object()  # no argument


class Cached(Protocol[P, R_co]):
    """A cached function; what a type checker knows of it."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]:
        """Return what is cached for these arguments, or call the function."""
        ...

    def key(self, *args: P.args, **kwargs: P.kwargs) -> Hashable:
        """Return the key of a call with these arguments."""
        ...

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, bool]:
        """Forget the call with these arguments; say whether it was in process."""
        ...

    def clear(self) -> Coroutine[Any, Any, None]:
        """Forget every call."""
        ...

    @overload
    def __get__(self, instance: None, owner: type, /) -> Self: ...
    @overload
    def __get__(self: Cached[Concatenate[S, Q], R], instance: S, owner: type, /) -> Cached[Q, R]: ...


def decorated(
    engine: Engine, ttl: Any, tags: Any, bypasses: bool, fn: Callable[P, Coroutine[Any, Any, R]]
) -> Cached[P, R]:
    """Return *fn*, cached. Raises TypeError if it is not async."""
    if not inspect.iscoroutinefunction(fn):
        raise TypeError(f"{getattr(fn, '__qualname__', fn)}() is not async; did you forget 'async def'?")
    space = engine.table.new_space(f"{fn.__module__}.{fn.__qualname__}=")
    binder = Binder(fn)

    async def missed(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            key = _key(binder, args, kwargs)
        except Unkeyable:
            if bypasses:
                return await fn(*args, **kwargs)
            raise
        return await engine.obtain(space, key, lambda: fn(*args, **kwargs), ttl, tags)

    make = _of_one if binder.arity == 1 else _of_any
    wrapper: Any = preserve_signature(make(engine, space, binder, missed), fn)

    def key(*args: P.args, **kwargs: P.kwargs) -> Hashable:
        return cast("Hashable", _key(binder, args, kwargs))

    async def invalidate(*args: P.args, **kwargs: P.kwargs) -> bool:
        return await forget(engine, space, _key(binder, args, kwargs))

    async def clear() -> None:
        await forget_matching(engine, space, lambda _: True)

    wrapper.key, wrapper.invalidate, wrapper.clear = key, invalidate, clear
    return wrapper  # type: ignore[no-any-return]  # a function with three attributes


Missed = Callable[[tuple[Any, ...], dict[str, Any]], Coroutine[Any, Any, Any]]


def _key(binder: Binder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    key = binder.key(args, kwargs)
    return key[0] if binder.arity == 1 else key


def _of_one(engine: Engine, space: Space, _: Binder, missed: Missed) -> Callable[..., Any]:
    """Wrap a function of one argument: a string or an int is its own key."""
    entries, clock, hits = space.entries, engine.clock, 0

    async def wrapper(value: Any = ABSENT, /, *more: Any, **kwargs: Any) -> Any:
        nonlocal hits
        kind = value.__class__
        if (kind is str or kind is int) and not more and not kwargs:  # a set of types would cost a tenth of the hit
            try:
                entry = entries[value]
                if entry.fast_until > clock():
                    entry.hits += 1
                    hits += 1
                    return entry.value
            except KeyError:
                pass
        return await missed((*(() if value is ABSENT else (value,)), *more), kwargs)

    engine.hit_counters.append(lambda: hits)
    return wrapper


def _of_any(engine: Engine, space: Space, binder: Binder, missed: Missed) -> Callable[..., Any]:
    """Wrap any other function: arguments that are all there, and all strings or ints, are the key as they are."""
    entries, clock, hits, arity = space.entries, engine.clock, 0, binder.arity

    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        nonlocal hits
        if not kwargs and len(args) == arity:
            for value in args:
                kind = value.__class__
                if kind is not str and kind is not int:
                    break
            else:
                entry = entries.get(args)
                if entry is not None and entry.fast_until > clock():
                    entry.hits += 1
                    hits += 1
                    return entry.value
        return await missed(args, kwargs)

    engine.hit_counters.append(lambda: hits)
    return wrapper


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
