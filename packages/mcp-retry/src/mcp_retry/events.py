"""What a retry tells ``on_event``: frozen facts, made only where somebody listens.

No event holds an exception: who keeps events would keep its traceback, and with it every local variable of the attempt.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = [
    "AttemptFailed",
    "BudgetRefused",
    "Event",
    "GaveUp",
    "HedgeWon",
    "Hedged",
    "Reason",
    "Recovered",
    "Sleeping",
    "report",
]

Reason: TypeAlias = Literal["attempts", "deadline", "budget", "throttle", "not retryable"]
"""Why there is no further attempt."""


@dataclass(frozen=True)
class AttemptFailed:
    """Attempt number *attempt*, 1 for the first, raised *error*; None: it returned a value that is to be retried."""

    attempt: int
    error: type[BaseException] | None


@dataclass(frozen=True)
class Sleeping:
    """The next attempt comes after *delay* seconds, of which the other side has asked for *hint*."""

    attempt: int
    delay: float
    hint: float | None


@dataclass(frozen=True)
class BudgetRefused:
    """The budget had no token for another attempt after this one, or for a hedge; ``GaveUp`` follows for a retry."""

    attempt: int


@dataclass(frozen=True)
class GaveUp:
    """After *attempts* attempts the last failure was handed to the caller."""

    attempts: int
    reason: Reason
    error: type[BaseException] | None


@dataclass(frozen=True)
class Recovered:
    """Attempt number *attempts*, not the first, succeeded."""

    attempts: int


@dataclass(frozen=True)
class Hedged:
    """No answer after *waited* seconds: attempt number *attempt* was sent beside those in flight."""

    attempt: int
    waited: float


@dataclass(frozen=True)
class HedgeWon:
    """The answer is that of attempt number *attempt*, a hedge."""

    attempt: int


Event: TypeAlias = AttemptFailed | Sleeping | BudgetRefused | GaveUp | Recovered | Hedged | HedgeWon


def report(on_event: Callable[[Event], object], event: Event) -> None:
    """Hand *event* over; what the listener raises is logged, since it must not change what the caller gets."""
    try:
        on_event(event)
    except Exception:
        logging.getLogger(__name__).exception("on_event failed for %r", event)
