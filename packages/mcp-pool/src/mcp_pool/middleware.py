"""One resource for each request: taken before the handler, given back after it, whatever happens in between.

A request that is handled inside another one of the same pool (a tool that calls a tool of its own server) gets the
resource of the outer one: it could wait for ever for a second.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection, Hashable
from contextlib import AbstractContextManager, AsyncExitStack
from contextvars import ContextVar
from typing import Any, ClassVar, Generic, TypeVar

from ._seam import CallContext, is_internal, principal, refuse
from .errors import PoolError, PoolFull, PoolMisuse, PoolTimeout, PoolUnavailable
from .keyed import KeyedPool
from .lease import Lease
from .pool import Pool
from .settings import check_timeout, is_sync

__all__ = ["PoolMiddleware"]

C = TypeVar("C", bound=CallContext)
R = TypeVar("R")
T = TypeVar("T")

TIMED_OUT, UNAVAILABLE = -31008, -31103  # codes of ours, outside what JSON-RPC and MCP reserve


class _Loan(Generic[T]):
    """What a request has, until it ends; tasks that outlive the request still see the loan, but not the resource."""

    def __init__(self, resource: T) -> None:
        self.resource = resource
        self.is_over = False


class PoolMiddleware(Generic[T]):
    """Hold a resource of *pool* while a request is handled; the handler gets it from ``middleware.current()``.

    Args:
        pool: A ``Pool``, or a ``KeyedPool`` together with *key*.
        key: Which pool of a KeyedPool a request uses, ``key(ctx)``; by default the client, issuer and subject of the
            verified token, so that no two principals share a resource.
        methods: The methods whose requests get a resource; of a stream, it is held until the stream ends.
        timeout: Seconds to wait for it at most; by default the pool's.
        bind: ``with bind(resource)`` is put around the handler, to hand the resource on in your own way.

    Refuses with code -31008 when none is free in time or the queue is full, and with -31103 when the pool cannot
    connect, or is closed; the data has a ``reason`` and, where it makes sense, ``retryAfter`` in seconds.
    """

    layer: ClassVar[str] = "pool"

    def __init__(
        self,
        pool: Pool[T] | KeyedPool[Any, T],
        *,
        key: Callable[[Any], Hashable] | None = None,
        methods: Collection[str] = ("tools/call", "resources/read", "prompts/get"),
        timeout: float | None = None,
        bind: Callable[[T], AbstractContextManager[object]] | None = None,
    ) -> None:
        if not isinstance(pool, (Pool, KeyedPool)):  # pyright: ignore[reportUnnecessaryIsInstance]  # a caller may err
            raise TypeError(f"PoolMiddleware needs a Pool or a KeyedPool, got {pool!r}")
        if key is not None and (isinstance(pool, Pool) or not is_sync(key)):
            wanted = "a function of ctx as key, which is not async, and a KeyedPool for it"
            raise TypeError(f"PoolMiddleware needs {wanted}, got {key!r}")
        if bind is not None and not _makes_context(bind):
            raise TypeError(f"PoolMiddleware needs a function that returns a context manager as bind, got {bind!r}")
        _check_methods(methods)
        self._pool = pool
        self._key = key or _principal_of
        self._methods = frozenset(methods)
        self._timeout = check_timeout(timeout)
        self._bind = bind
        self._loan: ContextVar[_Loan[T] | None] = ContextVar("loan", default=None)

    def current(self) -> T:
        """Return the resource of the request that is being handled.  Raises LookupError outside of one."""
        loan = self._loan.get()
        if loan is None or loan.is_over:
            raise LookupError("no request is being handled that has a resource of this pool")
        return loan.resource

    async def __call__(self, ctx: C, call_next: Callable[[C], Awaitable[R]]) -> R:
        """Hold a resource around *call_next*."""
        outer = self._loan.get()
        nested = outer is not None and not outer.is_over
        if ctx.method not in self._methods or is_internal(ctx) or nested:
            return await call_next(ctx)
        async with AsyncExitStack() as stack:
            try:
                resource = await stack.enter_async_context(self._lease(ctx))
            except PoolMisuse:  # a slip of the program, of which the client is told nothing
                raise
            except PoolError as error:
                raise _refusal(error) from error
            return await self._lent(resource, ctx, call_next)

    def _lease(self, ctx: CallContext) -> Lease[T]:
        if isinstance(self._pool, Pool):
            return self._pool.acquire(self._timeout)
        return self._pool.acquire(self._key(ctx), self._timeout)

    async def _lent(self, resource: T, ctx: C, call_next: Callable[[C], Awaitable[R]]) -> R:
        loan = _Loan(resource)
        token = self._loan.set(loan)
        try:
            if self._bind is None:
                return await call_next(ctx)
            with self._bind(resource):
                return await call_next(ctx)
        finally:
            loan.is_over = True
            self._loan.reset(token)


def _makes_context(fn: Any) -> bool:
    """Whether it can be, as far as can be seen: nothing async, and no generator that lacks its decorator."""
    return is_sync(fn) and not inspect.isgeneratorfunction(fn) and not inspect.isasyncgenfunction(inspect.unwrap(fn))


def _check_methods(methods: object) -> None:
    names: Any = methods
    fits = isinstance(methods, Collection) and all(isinstance(name, str) for name in names)
    if not fits or isinstance(methods, str) or not methods:
        refused = ValueError if fits else TypeError
        raise refused(f"PoolMiddleware needs a collection of method names as methods, got {methods!r}")


def _principal_of(ctx: object) -> Hashable:
    found = principal(ctx)
    return found and found[:3]


def _refusal(error: PoolError) -> Exception:
    if isinstance(error, PoolTimeout):
        return refuse(TIMED_OUT, "no resource became free in time", {"reason": "timeout", "timeout": error.timeout})
    if isinstance(error, PoolFull):
        return refuse(TIMED_OUT, "too many requests wait for a resource", {"reason": "full"})
    if isinstance(error, PoolUnavailable):
        facts = {"reason": "unavailable", "retryAfter": error.retry_after}
        return refuse(UNAVAILABLE, "the backend is unavailable", facts)
    return refuse(UNAVAILABLE, "the pool lends nothing", {"reason": "closed"})
