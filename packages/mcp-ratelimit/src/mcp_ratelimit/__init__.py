"""Rate limits that are exact, wait fairly, and hold on one machine or many."""

from __future__ import annotations

from ._seam import CallContext, Middleware, Refused, as_fastmcp
from .decision import GLOBAL, CostTooLarge, Decision, Key, LimiterStatistics, RateLimited, Refusal
from .limit import AlgorithmName, CalendarUnit, Limit
from .limiter import RateLimiter
from .memory import MemoryStore
from .middleware import COUNTED_METHODS, SEP_3304, CallRefused, RateLimitMiddleware, caller_of, charge
from .slots import Slot

__version__ = "0.1.0"

__all__ = [
    "COUNTED_METHODS",
    "GLOBAL",
    "SEP_3304",
    "AlgorithmName",
    "CalendarUnit",
    "CallContext",
    "CallRefused",
    "CostTooLarge",
    "Decision",
    "Key",
    "Limit",
    "LimiterStatistics",
    "MemoryStore",
    "Middleware",
    "RateLimitMiddleware",
    "RateLimited",
    "RateLimiter",
    "Refusal",
    "Refused",
    "Slot",
    "as_fastmcp",
    "caller_of",
    "charge",
]
