"""Retries, hedging and fallbacks for async calls and MCP requests that cannot make an outage worse."""

from __future__ import annotations

from ._seam import as_fastmcp
from .attempts import Attempt
from .backoff import Backoff, constant, exponential, linear
from .budget import Budget, BudgetStatistics
from .events import AttemptFailed, BudgetRefused, Event, GaveUp, Hedged, HedgeWon, Reason, Recovered, Sleeping
from .fallback import Fallback, FallbackStatistics
from .hedge import Hedge, HedgeStatistics, Quantile
from .middleware import RetryMiddleware
from .retry import Retry, RetryStatistics
from .retry_after import retry_after
from .run import AttemptTimeout
from .throttle import Throttle, Throttled

__version__ = "0.1.0"

__all__ = [
    "Attempt",
    "AttemptFailed",
    "AttemptTimeout",
    "Backoff",
    "Budget",
    "BudgetRefused",
    "BudgetStatistics",
    "Event",
    "Fallback",
    "FallbackStatistics",
    "GaveUp",
    "Hedge",
    "HedgeStatistics",
    "HedgeWon",
    "Hedged",
    "Quantile",
    "Reason",
    "Recovered",
    "Retry",
    "RetryMiddleware",
    "RetryStatistics",
    "Sleeping",
    "Throttle",
    "Throttled",
    "as_fastmcp",
    "constant",
    "exponential",
    "linear",
    "retry_after",
]
