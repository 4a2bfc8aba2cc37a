"""Lend a bounded number of resources that are expensive to open, and lose none of them, whatever is cancelled.

    async with Pool(connect) as pool:            the pool lives: it connects, checks, replaces, closes
        async with pool.acquire() as resource:   one resource is yours until the block ends

This module is what one calls. Behind it, ``shelf`` knows where each resource is and who is next, ``supply`` has the
tasks that connect and close, and ``desk`` is where borrowers wait; the invariants are numbered there.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, cast

from . import opening
from .desk import Desk
from .errors import PoolMisuse
from .events import Statistics
from .lease import Lease, lend_idle
from .life import Life
from .settings import Settings, check_async, check_factory, check_timeout
from .supply import Supply

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .settings import Options

__all__ = ["Pool"]

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")
W = TypeVar("W", bound=Callable[..., Any])


class Pool(Life, Generic[T]):
    """At most *max_size* resources, lent to one borrower at a time, first come, first served.

    There are ways to borrow (``acquire``, ``try_acquire``, ``call``, as a decorator, and by hand), and to run the pool
    (``warm``, ``refresh``, ``resize``, ``close``, ``statistics``).

    Args:
        connect: ``await connect()`` opens a resource. It runs in a task of the pool, never in a caller's.
        close: ``await close(resource)`` closes it; by default the resource's own ``aclose`` or ``close``.
        options: See ``Settings``.

    Raises ValueError or TypeError for what cannot be meant. Use it as ``async with pool``; it can be opened once.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[T]],
        *,
        close: Callable[[T], Awaitable[object]] | None = None,
        **options: Unpack[Options[T]],
    ) -> None:
        check_async("connect", connect)
        if close is not None:
            check_async("close", close)
        self._set_up(functools.partial(opening.from_functions, connect, close), options)

    @classmethod
    def from_context(
        cls, factory: Callable[[], AbstractAsyncContextManager[R]], **options: Unpack[Options[R]]
    ) -> Pool[R]:
        """Make a pool of what ``async with factory() as resource`` gives.

        Each is entered and left by one task of its own, as task groups, cancel scopes and MCP sessions need it.
        Raises TypeError when *factory* cannot be called.
        """
        check_factory(factory)
        pool = cast("Pool[R]", cls.__new__(cls))
        pool._set_up(functools.partial(opening.from_context, factory), options)  # noqa: SLF001  # its own
        return pool

    def _set_up(self, opens: Callable[[Supply[T]], AbstractAsyncContextManager[T]], options: Options[T]) -> None:
        self._desk: Desk[T] = Desk(Supply(opens, Settings(**options)))

    def _start(self) -> None:
        self._desk.open(self._task_group)

    @property
    def name(self) -> str:
        """The name in events and errors."""
        return self._desk.settings.name

    def acquire(self, timeout: float | None = None) -> Lease[T]:
        """Borrow a resource for a block: ``async with pool.acquire() as resource``.

        Entering waits up to *timeout* seconds (by default the pool's), connecting and checks included. It raises
        PoolTimeout, PoolFull, PoolUnavailable, PoolClosed, or PoolMisuse where waiting could never end.
        """
        if timeout is not None:
            check_timeout(timeout)
        return Lease(self._desk, timeout)

    def try_acquire(self) -> AbstractAsyncContextManager[T | None]:
        """Borrow a resource only if one is idle: ``async with pool.try_acquire() as resource`` gives None otherwise.

        Waits for nothing but a check. Raises PoolClosed.
        """
        return lend_idle(self._desk)

    async def take(self, timeout: float | None = None) -> T:
        """Borrow a resource without a block: ``give_back`` or ``discard`` it, whatever happens.

        Waits, and raises, as ``acquire``.
        """
        entry = await self._desk.obtain(check_timeout(timeout))
        entry.taken = True
        return self._desk.show(entry)

    async def give_back(self, resource: T) -> None:
        """Return what ``take`` lent; waits for its reset.

        Raises PoolMisuse for what is not out, was lent to a block, or is not of this pool.
        """
        entry = self._desk.find(resource)
        if not entry.taken:
            raise PoolMisuse(f"{resource!r} is lent to a block, which returns it; give_back is for take()")
        await self._desk.release(entry)

    def discard(self, resource: T) -> None:
        """Say that a resource in use is broken: it is closed when it comes back, or now if ``take`` lent it.

        Raises PoolMisuse for what is not out.
        """
        entry = self._desk.find(resource)
        self._desk.discard(entry)

    async def call(self, fn: Callable[Concatenate[T, P], Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return ``await fn(resource, *args, **kwargs)``, with a resource for just that long.

        Waits, and raises, as ``acquire``.
        """
        async with self.acquire() as resource:
            return await fn(resource, *args, **kwargs)

    def __call__(self, fn: Callable[Concatenate[T, P], Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
        """Decorate an async function whose first parameter is a resource, which is filled in at each call.

        Callers, and frameworks that read signatures, do not see that parameter. Raises TypeError for a sync function.
        """
        check_async("function", fn)

        async def with_resource(*args: P.args, **kwargs: P.kwargs) -> R:
            async with self.acquire() as resource:
                return await fn(resource, *args, **kwargs)

        return _without_first(preserve_signature(with_resource, fn))

    async def warm(self, timeout: float | None = None) -> None:
        """Wait until *min_size* resources are connected, up to *timeout* seconds (by default the pool's).

        Raises PoolTimeout, PoolUnavailable with the cause when connecting fails, or PoolClosed.
        """
        await self._desk.warm(check_timeout(timeout))

    def refresh(self) -> None:
        """Replace every resource, as after new credentials: idle ones now, the others when they come back."""
        self._desk.supply.refresh()

    def resize(self, *, min_size: int | None = None, max_size: int | None = None) -> None:
        """Change the limits; what is over them is closed, idle ones first, those in use when they come back.

        Raises ValueError or TypeError, and changes nothing, for what cannot be meant.
        """
        self._desk.resize(min_size, max_size)

    async def close(self, *, drain_timeout: float | None = None) -> None:
        """Refuse new borrowers, wait for resources in use up to *drain_timeout* seconds, then close them as well.

        Those who wait get PoolClosed at once. Cancelled, it stops waiting and closes everything under a shield, which
        takes at most *close_timeout* seconds for each resource, all at once. To close twice is allowed.
        """
        seconds = check_timeout(drain_timeout, "drain_timeout")
        self._is_spent = True
        await self._desk.close(self._desk.settings.drain_timeout if seconds is None else seconds)

    def statistics(self) -> Statistics:
        """Return the figures of this moment."""
        return self._desk.supply.statistics()


def desk_of(pool: Pool[T]) -> Desk[T]:
    """Return what is behind *pool*; for the modules of this package."""
    return pool._desk  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # its own package's


def _without_first(fn: W) -> W:
    """Hide the first parameter of *fn* from whoever reads its signature."""
    signature = inspect.signature(fn)
    first, *others = signature.parameters.values()
    fn.__signature__ = signature.replace(parameters=others)  # type: ignore[attr-defined]  # what inspect reads
    fn.__annotations__.pop(first.name, None)
    return fn


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
