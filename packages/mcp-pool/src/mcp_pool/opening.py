"""How one resource is opened and closed, as a context manager that its owner enters and leaves."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar

import anyio

from .supply import Supply

__all__ = ["from_context", "from_functions"]

T = TypeVar("T")


@asynccontextmanager
async def from_context(factory: Callable[[], AbstractAsyncContextManager[T]], supply: Supply[T]) -> AsyncGenerator[T]:
    """Open and close as a context manager of the user does."""
    del supply
    manager = factory()
    if not hasattr(manager, "__aenter__"):
        raise TypeError(f"the factory returned {manager!r}, which is no async context manager")
    async with manager as resource:
        yield resource


@asynccontextmanager
async def from_functions(
    connect: Callable[[], Awaitable[T]], close: Callable[[T], Awaitable[object]] | None, supply: Supply[T]
) -> AsyncGenerator[T]:
    """Open and close with two functions; without a *close*, the resource's own is used."""
    connecting = connect()
    if not inspect.isawaitable(connecting):
        raise TypeError(f"connect() returned {connecting!r}, which cannot be awaited; did you forget 'async def'?")
    resource = await connecting
    finish = close or _own_close(resource)
    supply.refuse_known(resource)  # before it is ours to close: somebody is using it
    try:
        yield resource
    finally:
        await _finish(finish, resource, supply.settings.close_timeout)


def _own_close(resource: Any) -> Callable[[Any], Any]:
    for name in ("aclose", "close"):
        if callable(getattr(resource, name, None)):
            return lambda resource: getattr(resource, name)()
    raise TypeError(f"{resource!r} has no aclose() or close(); say how it is closed with Pool(..., close=...)")


async def _finish(finish: Callable[[T], Any], resource: T, limit: float) -> None:
    with anyio.CancelScope(shield=True, deadline=anyio.current_time() + limit) as scope:
        closing = finish(resource)
        if inspect.isawaitable(closing):
            await closing
    if scope.cancelled_caught:
        raise TimeoutError(f"took longer than {limit} s")
