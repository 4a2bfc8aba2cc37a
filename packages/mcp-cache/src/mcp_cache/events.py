"""What a cache tells: events as they happen, figures when asked, and the reasons for one key."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal, Union

__all__ = [
    "CacheError",
    "CacheStatistics",
    "CacheUnavailable",
    "Computed",
    "Event",
    "Explanation",
    "Failed",
    "Invalidated",
    "Left",
    "NotStored",
    "ServedStale",
    "State",
    "StoreDown",
    "StoreUp",
]


class CacheError(Exception):
    """What all refusals of a cache have in common."""


class CacheUnavailable(CacheError):  # noqa: N818  # the field's word
    """The store does not answer, and the cache was told to refuse then."""


@dataclass(frozen=True)
class Computed:
    """A value was computed, in *seconds*."""

    key: Hashable
    seconds: float


@dataclass(frozen=True)
class Failed:
    """A computation raised *error*."""

    key: Hashable
    error: Exception


@dataclass(frozen=True)
class ServedStale:
    """A value past its time was served: while it is computed anew, or because that failed."""

    key: Hashable
    reason: Literal["revalidating", "failed"]


@dataclass(frozen=True)
class NotStored:
    """A value was returned but not kept, for a *reason*."""

    key: Hashable
    reason: str


@dataclass(frozen=True)
class Left:
    """An entry has gone: there was no room, or its time was over."""

    key: Hashable
    reason: Literal["evicted", "expired"]


@dataclass(frozen=True)
class Invalidated:
    """Something was invalidated: *by* key, tag, prefix, glob or predicate."""

    by: Literal["key", "tag", "prefix", "glob", "where"]
    what: object


@dataclass(frozen=True)
class StoreDown:
    """The store failed with *error*; until StoreUp, the cache lives on its own memory."""

    error: Exception


@dataclass(frozen=True)
class StoreUp:
    """The store answers again."""


Event = Union[Computed, Failed, ServedStale, NotStored, Left, Invalidated, StoreDown, StoreUp]  # noqa: UP007  # on 3.10


@dataclass(frozen=True)
class CacheStatistics:
    """Counts since the cache was made, and its size now; a consistent snapshot.

    ``hits`` were answered by what is in process, ``stale`` ones among them; ``misses`` were not, whether they led to a
    computation, to the store, or to nothing as with ``get``. A caller that waited for another's computation counts in
    ``joins`` alone. ``loads`` of values, from their source or from the store, have taken ``load_seconds`` in all.
    """

    hits: int
    misses: int
    loads: int
    joins: int
    stale: int
    failures: int
    evictions: int
    expirations: int
    entries: int
    weight: float
    load_seconds: float

    @property
    def hit_ratio(self) -> float:
        """The share of hits and joins among all who asked; 0.0 before the first one."""
        served = self.hits + self.joins
        return served / (served + self.misses) if served + self.misses else 0.0

    @property
    def seconds_saved(self) -> float:
        """Estimate the computing time saved: each hit and join spares what a load took on average."""
        return (self.hits + self.joins) * self.load_seconds / self.loads if self.loads else 0.0


State = Literal["absent", "fresh", "stale", "expired", "invalidated", "failure"]


@dataclass(frozen=True)
class Explanation:
    """What the cache would do with a key, and why; times in seconds from now."""

    state: State
    expires_in: float | None = None
    hits: int = 0
    tags: tuple[str, ...] = ()
    weight: float = 0.0
    waiting: int | None = None
    """How many callers wait for a computation of this key; None if there is none."""
