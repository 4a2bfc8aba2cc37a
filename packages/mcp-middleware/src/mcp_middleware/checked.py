"""Refuse what cannot work as a middleware when the chain is built, not when the first request comes."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

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
    signature = inspect.signature(middleware)
    if not _is_async(middleware, signature):
        raise TypeError(f"{label} is not async; did you forget 'async def'?")
    try:
        second = list(signature.bind(None, None).arguments)[1]
    except (TypeError, IndexError):
        raise TypeError(f"{label} must take (ctx, call_next), but takes {signature}") from None
    if second != "call_next":
        raise TypeError(
            f"{label}: some SDKs pass the second parameter as call_next=..., so it cannot be called {second}"
        )
    return middleware


def _is_async(middleware: Callable[..., Any], signature: inspect.Signature) -> bool:
    """Accept a plain function too that says in its annotation that what it returns is to be awaited."""
    if inspect.iscoroutinefunction(middleware) or inspect.iscoroutinefunction(type(middleware).__call__):
        return True
    return any(word in str(signature.return_annotation) for word in ("Awaitable", "Coroutine"))
