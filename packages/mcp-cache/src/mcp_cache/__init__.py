"""Cache what async code computes: once for all who ask, never across users, keeping what is worth keeping."""

from __future__ import annotations

from ._seam import as_fastmcp
from .cache import Cache, cached
from .decorate import Cached
from .events import (
    CacheError,
    CacheStatistics,
    CacheUnavailable,
    Computed,
    Event,
    Explanation,
    Failed,
    Invalidated,
    Left,
    NotStored,
    ServedStale,
    StoreDown,
    StoreUp,
)
from .flight import ComputationCancelled, Uncacheable
from .keys import Unkeyable, canonical
from .middleware import CacheMiddleware
from .store import JSON, PICKLE, Made, Serializer, Store, Stored

__version__ = "0.1.0"

__all__ = [
    "JSON",
    "PICKLE",
    "Cache",
    "CacheError",
    "CacheMiddleware",
    "CacheStatistics",
    "CacheUnavailable",
    "Cached",
    "ComputationCancelled",
    "Computed",
    "Event",
    "Explanation",
    "Failed",
    "Invalidated",
    "Left",
    "Made",
    "NotStored",
    "Serializer",
    "ServedStale",
    "Store",
    "StoreDown",
    "StoreUp",
    "Stored",
    "Uncacheable",
    "Unkeyable",
    "as_fastmcp",
    "cached",
    "canonical",
]
