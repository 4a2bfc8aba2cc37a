"""Rate limits that are exact, wait fairly, and hold on one machine or many."""

from __future__ import annotations

from ._seam import CallContext, Middleware, Refused, as_fastmcp
from .asgi import limit_asgi, with_rate_limit_fields
from .decision import (
    GLOBAL,
    CostTooLarge,
    Decision,
    Key,
    LimiterStatistics,
    RateLimited,
    Refusal,
    StoreFailed,
    StoreRecovered,
)
from .headers import (
    QuotaPolicy,
    ServiceLimit,
    parse_policy,
    parse_rate_limit,
    parse_retry_after,
    rate_limit_fields,
)
from .hostfile import HostStore
from .limit import AlgorithmName, CalendarUnit, Limit
from .limiter import RateLimiter
from .memory import MemoryStore
from .middleware import COUNTED_METHODS, SEP_3304, CallRefused, RateLimitMiddleware, caller_of, charge
from .redis import RedisStore
from .remote import AsyncRateLimiter, RemoteStatistics
from .slots import Slot

__version__ = "0.1.0"

__all__ = [
    "COUNTED_METHODS",
    "GLOBAL",
    "SEP_3304",
    "AlgorithmName",
    "AsyncRateLimiter",
    "CalendarUnit",
    "CallContext",
    "CallRefused",
    "CostTooLarge",
    "Decision",
    "HostStore",
    "Key",
    "Limit",
    "LimiterStatistics",
    "MemoryStore",
    "Middleware",
    "QuotaPolicy",
    "RateLimitMiddleware",
    "RateLimited",
    "RateLimiter",
    "RedisStore",
    "Refusal",
    "Refused",
    "RemoteStatistics",
    "ServiceLimit",
    "Slot",
    "StoreFailed",
    "StoreRecovered",
    "as_fastmcp",
    "caller_of",
    "charge",
    "limit_asgi",
    "parse_policy",
    "parse_rate_limit",
    "parse_retry_after",
    "rate_limit_fields",
    "with_rate_limit_fields",
]
