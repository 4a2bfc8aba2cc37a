"""Stop calling what keeps failing: a circuit breaker for async Python and for MCP servers and clients."""

from __future__ import annotations

from .breaker import CircuitBreaker, Guard, Snapshot, Statistics
from .cooldown import Cooldown, Opening, from_error, growing, retry_after_of
from .core import Event, Permit, Rejected
from .judge import CircuitOpen, ErrorFilter
from .machine import TRANSITIONS, Cause, State, Transition
from .rules import Rule, Window, consecutive, failure_rate, slow_rate

__version__ = "0.1.0"

__all__ = [
    "TRANSITIONS",
    "Cause",
    "CircuitBreaker",
    "CircuitOpen",
    "Cooldown",
    "ErrorFilter",
    "Event",
    "Guard",
    "Opening",
    "Permit",
    "Rejected",
    "Rule",
    "Snapshot",
    "State",
    "Statistics",
    "Transition",
    "Window",
    "consecutive",
    "failure_rate",
    "from_error",
    "growing",
    "retry_after_of",
    "slow_rate",
]
