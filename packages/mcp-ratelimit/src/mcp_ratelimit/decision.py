"""What a limiter answers, what it raises, what it reports, and what it takes for a key and a cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal, NamedTuple, TypeAlias, cast

from .limit import Limit

__all__ = [
    "GLOBAL",
    "LONGEST_KEY",
    "CostTooLarge",
    "Decision",
    "Key",
    "LimiterStatistics",
    "RateLimited",
    "Refusal",
    "StoreFailed",
    "StoreRecovered",
    "checked_key",
    "checked_timeout",
]

Key: TypeAlias = "str | tuple[str, ...]"
"""Who is counted: one key for all limits of a limiter, or a tuple with one for each."""

GLOBAL = "*"
"""The key to use where everybody shares one allowance."""

LONGEST_KEY = 256
"""Characters; longer keys are counted under their hash, so that keys are no way to fill the memory."""


class Decision(NamedTuple):
    """The answer to one request; true when it may pass.

    Of several limits, *limit*, *remaining* and *reset_after* are those of the one with the least room.
    """

    allowed: bool
    limit: Limit
    remaining: int
    """What would pass right now, after this decision."""
    retry_after: float
    """Seconds until this very request would pass, if no other comes before; 0.0 when it is allowed."""
    reset_after: float
    """Seconds until the whole allowance is back, if nothing else comes."""
    violated: tuple[str, ...] = ()
    """The names of the limits that refuse."""

    def __bool__(self) -> bool:
        return self.allowed


class RateLimited(Exception):  # noqa: N818  # the field's word
    """A request may not pass, or could not within its timeout; ``decision`` says why and until when.

    ``reason`` is ``"timeout"`` when it could not pass in time, ``"max_waiters"`` when too many wait already.
    """

    def __init__(self, decision: Decision, reason: Literal["timeout", "max_waiters"] = "timeout") -> None:
        super().__init__(f"{', '.join(decision.violated)} exceeded; retry after {decision.retry_after:.3f} s")
        self.decision = decision
        self.reason = reason

    @property
    def retry_after(self) -> float:
        """Seconds until the request would pass, if no other comes before."""
        return self.decision.retry_after


class CostTooLarge(ValueError):  # noqa: N818  # names what is wrong, like its siblings
    """The cost is over what the limit lets through at once, so that no waiting would help."""

    def __init__(self, cost: int, limit: Limit) -> None:
        super().__init__(f"cost {cost} can never pass {limit.name!r}, which lets {limit.burst} through at once")
        self.cost = cost
        self.limit = limit


@dataclass(frozen=True)
class Refusal:
    """Event: a request was refused at once, or gave up waiting."""

    key: Key
    cost: int
    decision: Decision


@dataclass(frozen=True)
class StoreFailed:
    """Event: the store has not answered; decisions are made without it from now on."""

    error: str
    """The name of the class of what went wrong, as the client or the system has it."""


@dataclass(frozen=True)
class StoreRecovered:
    """Event: the store answers again."""

    after: float
    """Seconds since it failed."""


@dataclass(frozen=True)
class LimiterStatistics:
    """What a limiter holds at this moment."""

    keys: int
    """States held, the largest number of any limit."""
    waiting: int
    """Callers that wait."""


def checked_key(key: object, limits: Sequence[object], mark: str) -> tuple[str, ...]:
    """Return one key for each limit, a long one as *mark*, which begins with "~", and its hash.

    Raises TypeError or ValueError for what is no key.
    """
    if isinstance(key, str):
        return (_hashed(key, mark),) * len(limits)
    if not isinstance(key, tuple):
        raise TypeError(f"a key is a non-empty string, or a tuple of one for each limit, got {key!r}")
    parts = cast("tuple[object, ...]", key)
    if len(parts) != len(limits):
        raise ValueError(f"a tuple of keys needs one for each of the {len(limits)} limits, got {key!r}")
    return tuple(_hashed(part, mark) for part in parts)


def checked_timeout(timeout: object) -> float:
    """Return the seconds to wait, inf for None; TypeError or ValueError for what is no such number."""
    if timeout is None:
        return math.inf
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout needs to be a number of seconds or None, got {timeout!r}")
    if not timeout >= 0:
        raise ValueError(f"timeout needs to be >= 0 seconds, got {timeout!r}")
    return timeout


def _hashed(key: object, mark: str) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a key is a non-empty string, or a tuple of one for each limit, got {key!r}")
    if not key:
        raise ValueError("a key needs to be a non-empty string; use GLOBAL where everybody shares one allowance")
    if len(key) <= LONGEST_KEY and key[0] != "~":
        return key
    return mark + blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
