"""Stop calling what keeps failing: a circuit breaker for async Python and for MCP servers and clients."""

from __future__ import annotations

from ._seam import as_fastmcp
from .breaker import CircuitBreaker, Guard, Snapshot, Statistics
from .cooldown import Cooldown, Opening, from_error, growing, retry_after_of
from .core import Event, Permit, Rejected, StoreBack, StoreLost
from .judge import CircuitOpen, ErrorFilter
from .keyed import KeyedBreakers
from .memory import MemoryStore
from .middleware import CIRCUIT_OPEN, CircuitMiddleware, by_tool
from .rules import Rule, Window, consecutive, failure_rate, slow_rate
from .shared import Probe, Reply, SharedCircuitBreaker, Store, Terms
from .states import TRANSITIONS, Cause, State, Transition

__version__ = "0.1.0"

__all__ = [
    "CIRCUIT_OPEN",
    "TRANSITIONS",
    "Cause",
    "CircuitBreaker",
    "CircuitMiddleware",
    "CircuitOpen",
    "Cooldown",
    "ErrorFilter",
    "Event",
    "Guard",
    "KeyedBreakers",
    "MemoryStore",
    "Opening",
    "Permit",
    "Probe",
    "Rejected",
    "Reply",
    "Rule",
    "SharedCircuitBreaker",
    "Snapshot",
    "State",
    "Statistics",
    "Store",
    "StoreBack",
    "StoreLost",
    "Terms",
    "Transition",
    "Window",
    "as_fastmcp",
    "by_tool",
    "consecutive",
    "failure_rate",
    "from_error",
    "growing",
    "retry_after_of",
    "slow_rate",
]
