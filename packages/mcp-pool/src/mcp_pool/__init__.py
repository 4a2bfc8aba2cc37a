"""Lend connections, sessions and other async resources, and lose none of them, whatever is cancelled."""

from __future__ import annotations

from ._seam import as_fastmcp
from .errors import PoolClosed, PoolError, PoolFull, PoolMisuse, PoolTimeout, PoolUnavailable
from .events import (
    Closed,
    Connected,
    ConnectFailed,
    Event,
    HookFailed,
    Leaked,
    Reason,
    Recovered,
    Statistics,
    Unavailable,
)
from .keyed import KeyedPool
from .lease import Lease
from .middleware import PoolMiddleware
from .pool import Pool

__version__ = "0.1.0"

__all__ = [
    "Closed",
    "ConnectFailed",
    "Connected",
    "Event",
    "HookFailed",
    "KeyedPool",
    "Leaked",
    "Lease",
    "Pool",
    "PoolClosed",
    "PoolError",
    "PoolFull",
    "PoolMiddleware",
    "PoolMisuse",
    "PoolTimeout",
    "PoolUnavailable",
    "Reason",
    "Recovered",
    "Statistics",
    "Unavailable",
    "as_fastmcp",
]
