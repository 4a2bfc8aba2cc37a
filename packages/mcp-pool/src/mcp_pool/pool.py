"""Lend a bounded number of resources that are expensive to open, and lose none of them, whatever is cancelled.

    async with Pool(connect) as pool:            the pool lives: it connects, checks, replaces, closes
        async with pool.acquire() as resource:   one resource is yours until the block ends

``shelf`` knows where each resource is and who is next; ``engine`` runs the tasks that connect and close; this module
is what one calls. The invariants are numbered there.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, cast

import anyio
from anyio.abc import TaskGroup

from .desk import Desk
from .errors import PoolMisuse
from .events import Statistics
from .settings import Settings, check_async, check_timeout
from .shelf import IN_USE, Entry
from .supply import Supply

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from .settings import Options

__all__ = ["Lease", "Pool", "TryLease"]

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")
W = TypeVar("W", bound=Callable[..., Any])


class Lease(Generic[T]):
    """One borrowing: ``async with lease as resource``.  Made by ``pool.acquire()``, to be entered once at a time."""

    __slots__ = ("_desk", "_entry", "_shown", "_timeout")

    def __init__(self, desk: Any, timeout: float | None) -> None:  # made by the pool; what a desk is, is its affair
        self._desk: Desk[Any] = desk
        self._timeout = timeout
        self._entry: Entry[Any] | None = None

    async def _obtain(self, started: Entry[Any] | None) -> T:
        if self._entry is not None:
            raise PoolMisuse("this lease has a resource already; call acquire() for each block")
        self._entry = entry = await self._desk.obtain(self._timeout, started)
        self._shown = self._desk.show(entry)  # held here, since the block need not hold it
        return cast("T", self._shown)

    if TYPE_CHECKING:

        async def __aenter__(self) -> T: ...

        async def __aexit__(
            self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
        ) -> None: ...

    else:
        # Where nothing is to be waited for, these return what was made once and can be awaited again and again: two
        # coroutines for each use would be a third of the whole.
        def __aenter__(self):
            desk, entry = self._desk, None
            if desk.lends_plainly and desk.idle and self._entry is None:
                now = desk.clock()
                entry = desk.pick()  # as ``shelf.take`` would; another call is a twentieth of the whole
                if now >= entry.retire_at:
                    desk.shelf.drop(entry)
                    return self._obtain(None)
                entry.state = IN_USE
                entry.taken_at = now
                if now - entry.used_at < desk.check_after or desk.start_check(entry):
                    self._entry = entry
                    return entry.ready
            return self._obtain(entry)

        def __aexit__(self, kind, error, traceback):
            desk, entry, self._entry = self._desk, self._entry, None
            if error is not None or not desk.takes_plainly or entry.state is not IN_USE:
                return desk.release(entry, error)
            if desk.resets and not desk.start_reset(entry):
                return desk.release(entry, started=True)
            desk.give(entry, desk.clock())
            return desk.returned


class TryLease(Generic[T]):
    """A borrowing that does not wait: the block gets None when nothing is idle.  Made by ``pool.try_acquire()``."""

    __slots__ = ("_desk", "_entry", "_shown")

    def __init__(self, desk: Any) -> None:
        self._desk: Desk[T] = desk
        self._entry: Entry[T] | None = None

    async def __aenter__(self) -> T | None:
        self._entry = entry = await self._desk.obtain_idle()
        self._shown = None if entry is None else self._desk.show(entry)
        return self._shown

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        entry, self._entry = self._entry, None
        if entry is not None:
            await self._desk.release(entry, error)


class Pool(Generic[T]):
    """At most *max_size* resources, lent to one borrower at a time, first come, first served.

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
        self._desk: Desk[T] = Desk(Supply(functools.partial(self._opened, connect, close), Settings(**options)))
        self._task_group: TaskGroup

    @classmethod
    def from_context(
        cls, factory: Callable[[], AbstractAsyncContextManager[R]], **options: Unpack[Options[R]]
    ) -> Pool[R]:
        """Make a pool of what ``async with factory() as resource`` gives.

        Each is entered and left by one task of its own, as task groups, cancel scopes and MCP sessions need it.
        Raises TypeError when *factory* cannot be called.
        """
        if not callable(factory):
            raise TypeError(f"Pool.from_context needs a function that returns a context manager, got {factory!r}")
        pool = cast("Pool[R]", cls.__new__(cls))
        pool._desk = Desk(Supply(functools.partial(_entered, factory), Settings(**options)))  # noqa: SLF001  # its own
        return pool

    async def __aenter__(self) -> Self:
        """Start the pool's own tasks; waits for no resource (see ``warm``).  Raises PoolMisuse the second time."""
        if self._desk.was_opened:
            raise PoolMisuse(f"{self.name} was opened before; a pool lives once, make another")
        self._task_group = await anyio.create_task_group().__aenter__()
        self._desk.open(self._task_group)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the pool, see ``close``."""
        try:
            await self.close()
        finally:
            # Owners are shielded and end by themselves; what came out of the block is not the group's business.
            self._task_group.cancel_scope.cancel()
            await self._task_group.__aexit__(None, None, None)

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

    def try_acquire(self) -> TryLease[T]:
        """Borrow a resource only if one is idle: ``async with pool.try_acquire() as resource`` gives None otherwise.

        Waits for nothing but a check. Raises PoolClosed.
        """
        return TryLease(self._desk)

    async def take(self, timeout: float | None = None) -> T:  # noqa: ASYNC109  # anyio's scopes are no limit in a queue
        """Borrow a resource without a block: ``give_back`` or ``discard`` it, whatever happens.

        Waits, and raises, as ``acquire``.
        """
        entry = await self._desk.obtain(timeout if timeout is None else check_timeout(timeout))
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

    async def warm(self, timeout: float | None = None) -> None:  # noqa: ASYNC109  # as above
        """Wait until *min_size* resources are connected, up to *timeout* seconds (by default the pool's).

        Raises PoolTimeout, PoolUnavailable with the cause when connecting fails, or PoolClosed.
        """
        await self._desk.warm(timeout if timeout is None else check_timeout(timeout))

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
        default = self._desk.settings.drain_timeout
        await self._desk.close(default if drain_timeout is None else check_timeout(drain_timeout))

    def statistics(self) -> Statistics:
        """Return the figures of this moment."""
        return self._desk.supply.statistics()

    @asynccontextmanager
    async def _opened(
        self, connect: Callable[[], Awaitable[T]], close: Callable[[T], Awaitable[object]] | None
    ) -> AsyncGenerator[T]:
        connecting = connect()
        if not inspect.isawaitable(connecting):
            raise TypeError(f"connect() returned {connecting!r}, which cannot be awaited; did you forget 'async def'?")
        resource = await connecting
        finish = close or _own_close(resource)
        self._desk.supply.refuse_known(resource)
        try:
            yield resource
        finally:
            await self._finish(finish, resource)

    async def _finish(self, finish: Callable[[T], Any], resource: T) -> None:
        limit = self._desk.settings.close_timeout
        with anyio.CancelScope(shield=True, deadline=anyio.current_time() + limit) as scope:
            closing = finish(resource)
            if inspect.isawaitable(closing):
                await closing
        if scope.cancelled_caught:
            raise TimeoutError(f"took longer than {limit} s")


def desk_of(pool: Pool[T]) -> Desk[T]:
    """Return what is behind *pool*; for the modules of this package."""
    return pool._desk  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def _own_close(resource: Any) -> Callable[[Any], Any]:
    for name in ("aclose", "close"):
        if callable(getattr(resource, name, None)):
            return lambda resource: getattr(resource, name)()
    raise TypeError(f"{resource!r} has no aclose() or close(); say how it is closed with Pool(..., close=...)")


@asynccontextmanager
async def _entered(factory: Callable[[], AbstractAsyncContextManager[T]]) -> AsyncGenerator[T]:
    manager = factory()
    if not hasattr(manager, "__aenter__"):
        raise TypeError(f"the factory returned {manager!r}, which is no async context manager")
    async with manager as resource:
        yield resource


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
