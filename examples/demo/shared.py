"""The three layers that several processes can share through one Redis or Valkey: limits, circuit and cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from mcp_cache import Cache
from mcp_cache.redis import RedisStore as SharedValues
from mcp_circuit import CircuitBreaker, SharedCircuitBreaker, consecutive
from mcp_circuit.redis import RedisStore as SharedState
from mcp_ratelimit import AsyncRateLimiter, Limit
from mcp_ratelimit import RedisStore as SharedAllowances
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff


class Shared(NamedTuple):
    """To be given to every process's ``Stack(..., **shared._asdict())``."""

    limiter: AsyncRateLimiter
    breaker: CircuitBreaker
    cache: Cache


def connected(url: str) -> Redis:
    """Return a client that gives up soon: the layers know better than it what to do then."""
    return Redis.from_url(url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=Retry(NoBackoff(), 1))


def over_redis(client: Redis, limit: str, on_event: Callable[[object], None] | None = None) -> Shared:
    """Return layers that count, stop and remember for all processes together.

    Without Redis nobody is let through: the limit holds, whatever happens.  ``on_store_error="local"`` would go on with
    each process's share.
    """
    exact = Limit(limit, algorithm="sliding_log", name=limit)
    breaker = CircuitBreaker(name="upstream", trip=consecutive(3), cooldown=1.0, on_event=on_event)
    return Shared(
        AsyncRateLimiter(
            exact, store=SharedAllowances(client), on_store_error="closed", budget=0.25, on_event=on_event
        ),
        SharedCircuitBreaker(breaker, SharedState(client), refresh=0.2),
        Cache(isolation="copy", store=SharedValues(client, lease=1.0), on_event=on_event),
    )
