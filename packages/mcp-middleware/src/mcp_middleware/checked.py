"""Refuse what cannot work as a middleware when the chain is built, not when the first request comes."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import TypeAlias

__all__ = ["AnyMiddleware", "checked"]

AnyMiddleware: TypeAlias = Callable[[Any, Any], Awaitable[Any]]
"""Whatever may stand in a chain: universal, or written for the context of one SDK."""


def checked(middleware: AnyMiddleware) -> AnyMiddleware:
    """Return *middleware*; raise TypeError, with the fix in its message, when it cannot be one."""
    label = getattr(middleware, "__qualname__", None) or repr(middleware)
    if inspect.isclass(middleware):
        raise TypeError(f"{label} is a class; a chain takes an instance: {label}(...)")
    if not callable(middleware):
        raise TypeError(f"{label} is not callable; a middleware is an async function of (ctx, call_next)")
    if not (inspect.iscoroutinefunction(middleware) or inspect.iscoroutinefunction(type(middleware).__call__)):
        raise TypeError(f"{label} is not async; did you forget 'async def'?")
    parameters = list(inspect.signature(middleware).parameters.values())
    required = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(positional) < 2 or len(required) > 2 or any(p.kind is p.KEYWORD_ONLY for p in required):
        raise TypeError(f"{label} must take (ctx, call_next), but takes {inspect.signature(middleware)}")
    if positional[1] != "call_next":
        raise TypeError(f"{label}: the second parameter must be called call_next, not {positional[1]}: some SDKs pass it by name")
    return middleware
