"""Put a middleware around a function, so that nobody who reads the function's signature can tell.

The function may be a tool of any SDK, a method, or nothing to do with MCP.  The middleware sees a ``Call`` with the
method ``tools/call``, the function's name and its arguments by name; ``self``, ``cls`` and an injected ``Context`` are
not among them. A sync function runs in a worker thread, and its wrapper is async.

Only its own name is answered: a context with another one, handed to ``call_next``, is a LookupError.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from anyio import to_thread

from ._seam import arguments, preserve_signature, target
from .context import Call

__all__ = ["around"]

_UNIONS = (typing.Union, types.UnionType)
_UNNAMED = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL)


def around(middleware: Callable[[Any, Any], Awaitable[Any]], fn: Any, *, method: str, name: str | None) -> Any:
    """Return an async function that calls *fn* through *middleware*, with *fn*'s name, signature and docstring.

    Raises TypeError for a class, an async generator function or anything else that cannot be awaited as a whole.
    """
    if isinstance(fn, (classmethod, staticmethod)):
        method_of: Any = classmethod if isinstance(fn, classmethod) else staticmethod
        return method_of(around(middleware, cast("Any", fn).__func__, method=method, name=name))
    if not callable(fn) or inspect.isclass(fn):
        raise TypeError(f"around needs a function, got {fn!r}; decorate a method of the class, or its factory")
    if inspect.isasyncgenfunction(fn) or inspect.isgeneratorfunction(fn):
        raise TypeError(f"{_name_of(fn)}() is a generator: its items come after the call; decorate what consumes them")
    shape = _Shape(fn)
    invoke: Any = fn if _is_async(fn) else functools.partial(_in_thread, fn)
    label = name or _name_of(fn)

    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        given = shape.visible(args, kwargs)
        call = Call(method, {"name": label, "arguments": given})

        async def terminal(ctx: Any) -> Any:
            # A middleware that asks for another name, as one does that hides this function, must not get this one.
            if ctx is not call and (asked := target(ctx)) != label:
                raise LookupError(f"there is no {asked}")
            current = arguments(ctx)
            if current is given:
                return await invoke(*args, **kwargs)
            receiver, named = shape.rewritten(args, kwargs, current)
            return await invoke(*receiver, **named)

        return await middleware(call, terminal)

    return preserve_signature(wrapper, fn)


class _Shape:
    """How the arguments of one function are named, and which of them are not the caller's."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        parameters = list(inspect.signature(preserve_signature(lambda: None, fn)).parameters.values())
        self._name = _name_of(fn)
        self._positional = [p.name for p in parameters if p.kind <= inspect.Parameter.POSITIONAL_OR_KEYWORD]
        self._receivers = int(bool(parameters) and parameters[0].name in ("self", "cls"))
        self._injected = {p.name for p in parameters if _is_context(p.annotation)}
        self._by_name = all(p.kind not in _UNNAMED for p in parameters[self._receivers :])

    def visible(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        named = {**dict(zip(self._positional, args, strict=False)), **kwargs}
        hidden = {*self._positional[: self._receivers], *self._injected}
        return {name: value for name, value in named.items() if name not in hidden}

    def rewritten(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], current: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if not self._by_name:
            raise TypeError(
                f"a middleware has rewritten the arguments of {self._name}(), which takes some without a name"
            )
        given = {**dict(zip(self._positional, args, strict=False)), **kwargs}
        injected = {name: value for name, value in given.items() if name in self._injected}
        return args[: self._receivers], {**injected, **current}


async def _in_thread(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    # In a tuple, because trio refuses a function whose result is itself to be awaited, as a lambda's may be.
    (result,) = await to_thread.run_sync(lambda: (fn(*args, **kwargs),))
    return await result if inspect.isawaitable(result) else result


def _is_async(fn: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(type(fn).__call__)


def _is_context(hint: object) -> bool:
    """Say whether an SDK injects this parameter: its Context class, alone, subscripted, in a union or as a string."""
    if typing.get_origin(hint) in _UNIONS:
        return any(map(_is_context, typing.get_args(hint)))
    cls = getattr(hint, "__origin__", hint)
    return getattr(cls, "__name__", None) == "Context" and cls.__module__.split(".")[0] in ("mcp", "fastmcp")


def _name_of(fn: Any) -> str:
    return str(getattr(fn, "__name__", None) or _name_of(getattr(fn, "func", None) or type(fn)))
