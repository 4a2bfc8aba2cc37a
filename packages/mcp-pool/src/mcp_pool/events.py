"""What a pool reports: events for ``on_event``, each when it happens, and the figures of ``statistics()``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = [
    "Closed",
    "ConnectFailed",
    "Connected",
    "Event",
    "HookFailed",
    "Leaked",
    "Reason",
    "Recovered",
    "Statistics",
    "Unavailable",
]

Reason: TypeAlias = Literal[
    "broken", "check", "closing", "died", "discarded", "evicted", "idle", "leaked", "lifetime", "refresh", "reset",
    "shrink", "uses",
]  # fmt: skip
"""Why a resource was closed."""


@dataclass(frozen=True)
class Connected:
    """A resource was connected, which took *seconds*."""

    pool: str
    seconds: float


@dataclass(frozen=True)
class ConnectFailed:
    """A connect failed, the *failures*-th in a row; the next comes in *retry_after* seconds."""

    pool: str
    error: BaseException
    failures: int
    retry_after: float


@dataclass(frozen=True)
class Unavailable:
    """So many connects failed in a row that callers are refused at once when no resource is left to wait for."""

    pool: str
    error: BaseException


@dataclass(frozen=True)
class Recovered:
    """A connect succeeded after *failures* in a row."""

    pool: str
    failures: int


@dataclass(frozen=True)
class Closed:
    """A resource was closed *age* seconds after it was connected, for *reason*, having been lent *uses* times."""

    pool: str
    reason: Reason
    age: float
    uses: int


@dataclass(frozen=True)
class HookFailed:
    """A check, a reset or a close raised *error*, or took too long; the resource is not used again."""

    pool: str
    hook: Literal["check", "reset", "close"]
    error: BaseException


@dataclass(frozen=True)
class Leaked:
    """A resource has been out for *seconds*, longer than ``leak_after``; or it was dropped, and is *reclaimed*."""

    pool: str
    seconds: float
    task: str
    stack: tuple[str, ...]
    reclaimed: bool


Event: TypeAlias = Connected | ConnectFailed | Unavailable | Recovered | Closed | HookFailed | Leaked


@dataclass(frozen=True)
class Statistics:
    """A pool at one moment, and its totals since it was made; times in seconds."""

    name: str
    min_size: int
    max_size: int
    idle: int
    in_use: int
    connecting: int
    serviced: int
    """Being checked, or reset after a cancellation, by the pool."""
    closing: int
    waiting: int
    available: bool
    """Whether the last connects did not all fail."""
    connects: int
    connect_failures: int
    connect_seconds: float
    closed: Mapping[Reason, int]
    uses: int
    use_seconds: float
    waits: int
    """Calls that had to wait, whatever came of it."""
    wait_seconds: float
    longest_wait: float
    timeouts: int
    refusals: int
    """Calls refused without waiting: the queue was full, or too long, or there was nothing to wait for."""
    leaks: int
