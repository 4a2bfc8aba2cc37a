"""Functions that are cached; a table for each saves the making and hashing of a tuple with the function's name."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from .binding import Binding
from .engine import Engine
from .events import Explanation
from .explain import explained
from .flight import Space
from .invalidation import forget, forget_matching
from .keys import Unkeyable, freeze, written

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


class Cached(Protocol[P, R_co]):
    """A cached function; what a type checker knows of it.

    A method is one on its class, where ``key`` and the like take the instance first. Through an instance it can
    only be called: to bind the others would double the cost of a hit.
    """

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]:
        """Return what is cached for these arguments, or call the function."""
        ...

    def key(self, *args: P.args, **kwargs: P.kwargs) -> Hashable:
        """Return the key of a call with these arguments."""
        ...

    def explain(self, *args: P.args, **kwargs: P.kwargs) -> Explanation:
        """Say what there is for these arguments in process, as ``Cache.explain`` does."""
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
    def __get__(
        self: Cached[Concatenate[S, Q], R], instance: S, owner: type, /
    ) -> Callable[Q, Coroutine[Any, Any, R]]: ...


def decorated(
    engine: Engine, ttl: Any, tags: Any, bypasses: bool, fn: Callable[P, Coroutine[Any, Any, R]]
) -> Cached[P, R]:
    """Return *fn*, cached. Raises TypeError if it is not async, or a method whose cache has a store."""
    _refuse_unless_named_and_async(fn)
    name = f"{fn.__module__}.{fn.__qualname__}="
    binding = Binding(fn, freeze if engine.remote is None else written)
    if engine.remote is not None:
        _refuse_in_store(name, binding, engine)
    space = engine.table.new_space(name)

    async def missed(values: tuple[Any, ...]) -> Any:
        try:
            key = binding.key(values)
        except Unkeyable:
            if bypasses:
                return await binding.call(values)
            raise
        return await engine.obtain(space, key, partial(binding.call, values), ttl, tags)

    bare, hits = binding.wrapper(space.entries.get, engine.clock, missed)
    engine.hit_counters.append(hits)
    return _equipped(preserve_signature(bare, fn), fn, engine, space, binding)


def _refuse_unless_named_and_async(fn: Callable[..., Any]) -> None:
    if not inspect.iscoroutinefunction(fn):
        raise TypeError(f"{getattr(fn, '__qualname__', fn)}() is not async; did you forget 'async def'?")
    if not hasattr(fn, "__qualname__"):
        raise TypeError(f"a cache needs a function with a name to decorate, got {fn!r}; write an 'async def' around it")


def _refuse_in_store(name: str, binding: Binding, engine: Engine) -> None:
    """Raise ValueError or TypeError for a function whose entries a store cannot tell from others."""
    if any(space.name == name for space in engine.table.spaces):
        raise ValueError(f"{name[:-1]} has a namesake in this store; give one of the two another __qualname__")
    if binding.is_method:
        raise TypeError(
            f"{name[:-1]} is a method, and a store has no name for its self; cache a function of what identifies it"
        )


def _equipped(
    wrapper: Any, fn: Callable[P, Coroutine[Any, Any, R]], engine: Engine, space: Space, binding: Binding
) -> Cached[P, R]:
    """Return *wrapper* with what a ``Cached`` has beside the call."""
    takes_instance = binding.is_method and not fn.__name__.startswith("__")  # the class gives those another name

    def key(*args: P.args, **kwargs: P.kwargs) -> Hashable:
        if takes_instance and not (args and hasattr(args[0], fn.__name__)):
            raise TypeError(f"call it on the class, with the instance first: {fn.__qualname__}.invalidate(instance, …)")
        return binding.key(binding.values(*args, **kwargs))

    def explain(*args: P.args, **kwargs: P.kwargs) -> Explanation:
        return explained(engine, space, key(*args, **kwargs))

    async def invalidate(*args: P.args, **kwargs: P.kwargs) -> bool:
        return await forget(engine, space, key(*args, **kwargs))

    async def clear() -> None:
        await forget_matching(engine, space, lambda _: True)

    wrapper.key, wrapper.explain, wrapper.invalidate, wrapper.clear = key, explain, invalidate, clear
    return wrapper  # type: ignore[no-any-return]  # a function with four attributes


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
