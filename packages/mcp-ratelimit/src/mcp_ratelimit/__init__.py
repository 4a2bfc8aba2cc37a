"""Rate limits that are exact, wait fairly, and hold on one machine or many."""

from __future__ import annotations

from .decision import GLOBAL, CostTooLarge, Decision, Key, LimiterStatistics, RateLimited, Refusal
from .limit import AlgorithmName, CalendarUnit, Limit
from .limiter import RateLimiter
from .memory import MemoryStore
from .slots import Slot

__version__ = "0.1.0"

__all__ = [
    "GLOBAL",
    "AlgorithmName",
    "CalendarUnit",
    "CostTooLarge",
    "Decision",
    "Key",
    "Limit",
    "LimiterStatistics",
    "MemoryStore",
    "RateLimited",
    "RateLimiter",
    "Refusal",
    "Slot",
]
