"""All the layers before one service, in the recommended order: copy this file, and make it yours.

    metrics → rbac → ratelimit → cache → retry → circuit → pool → tool

Nothing here knows an SDK, a transport or an event loop: ``stack.chain`` goes, unchanged, before a server of any SDK, a
client, or a function of a program that has nothing to do with MCP.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Generic, Literal, TypeVar

from mcp_cache import Cache, CacheMiddleware
from mcp_circuit import CircuitBreaker, CircuitMiddleware, consecutive, growing
from mcp_metrics import MetricsMiddleware, Registry
from mcp_middleware import Chain, for_tools
from mcp_pool import Pool, PoolMiddleware
from mcp_ratelimit import AsyncRateLimiter, RateLimiter, RateLimitMiddleware
from mcp_rbac import PolicySource, RBACMiddleware, Subject
from mcp_retry import Retry, RetryMiddleware, exponential

T = TypeVar("T")


class Stack(Generic[T]):
    """The layers and what they remember; open it around the life of the server.

    Args:
        policy: Who may do what.
        pool: The connections that tools borrow.
        upstream: The tools that only read, and read from the other service: answers are kept for 5 s, failures tried
            again, and when there are too many nobody asks any more for a while.
        database: The tools that borrow a connection, which they find in ``stack.database.current()``.
        side: Of the connection on which it stands.
        local: Who calls without HTTP; None lets nobody.
        limiter: How often one caller may call.
        breaker: When to stop asking the other service.
        cache: Where answers are kept; must isolate by ``copy``.
        on_event: Told of everything that a layer has to tell.
    """

    def __init__(
        self,
        policy: PolicySource,
        pool: Pool[T],
        *,
        upstream: Sequence[str],
        database: Sequence[str],
        side: Literal["server", "client"] = "server",
        local: Subject | None = None,
        limiter: RateLimiter | AsyncRateLimiter | None = None,
        breaker: CircuitBreaker | None = None,
        cache: Cache | None = None,
        on_event: Callable[[object], None] | None = None,
    ) -> None:
        self.pool = pool
        self.registry = Registry()
        self.limiter = limiter or RateLimiter("600/min burst 60")
        self.cache = cache or Cache(isolation="copy", jitter=0.1, on_event=on_event)
        self.retry = Retry(on=ConnectionError, backoff=exponential(0.02, cap=1.0), on_event=on_event)
        self.breaker = breaker or CircuitBreaker(
            name="upstream", trip=consecutive(5), cooldown=growing(2.0, maximum=30.0), on_event=on_event
        )
        self.database = PoolMiddleware(pool, timeout=5.0)
        self.chain = Chain(
            MetricsMiddleware(self.registry, side=side, native=3),
            RBACMiddleware(policy, local=local, on_deny="challenge", on_event=on_event),
            RateLimitMiddleware(self.limiter, on_event=on_event),
            CacheMiddleware(self.cache, tools=dict.fromkeys(upstream, 5.0)),
            RetryMiddleware(self.retry, safe=upstream),
            for_tools(upstream, CircuitMiddleware(self.breaker)),
            for_tools(database, self.database),
        )

    async def __aenter__(self) -> Stack[T]:
        async with AsyncExitStack() as opening:
            await opening.enter_async_context(self.pool)
            await opening.enter_async_context(self.cache)
            self._open = opening.pop_all()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._open.aclose()
