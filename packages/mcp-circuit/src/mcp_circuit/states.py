"""The states and what leads from one to the next, as data; the pictures in the documents are drawn from it.

CLOSED ──tripped──▶ OPEN ──cooled──▶ HALF_OPEN ──recovered──▶ CLOSED
                     ▲                │  │  └─────eased─────▶ RAMPING ──recovered──▶ CLOSED
                     ├────relapsed────┘  └──abandoned──▶ HALF_OPEN (anew)
                     └────tripped──── RAMPING
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal, TypeAlias

__all__ = ["AUTOMATIC", "MANUAL", "TRANSITIONS", "Cause", "State", "Transition", "Verdict"]

Verdict: TypeAlias = Literal["success", "failure", "ignored"]
Cause: TypeAlias = Literal[
    "tripped",
    "cooled",
    "abandoned",
    "relapsed",
    "eased",
    "recovered",
    "isolated",
    "disabled",
    "observed",
    "reset",
    "store_opened",
    "store_closed",
]


class State(str, Enum):
    """What the breaker does with calls."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    RAMPING = "ramping"
    ISOLATED = "isolated"
    DISABLED = "disabled"
    OBSERVING = "observing"


MANUAL: Mapping[State, Cause] = {
    State.CLOSED: "reset",
    State.ISOLATED: "isolated",
    State.DISABLED: "disabled",
    State.OBSERVING: "observed",
}
"""The states that ``force`` can bring about, and the cause that does."""

AUTOMATIC = (State.CLOSED, State.OPEN, State.HALF_OPEN, State.RAMPING)
"""The states that outcomes and time lead through."""

TRANSITIONS: Mapping[tuple[State, Cause], State] = {
    (State.CLOSED, "tripped"): State.OPEN,
    (State.OPEN, "cooled"): State.HALF_OPEN,
    (State.HALF_OPEN, "abandoned"): State.HALF_OPEN,
    (State.HALF_OPEN, "relapsed"): State.OPEN,
    (State.HALF_OPEN, "recovered"): State.CLOSED,
    (State.HALF_OPEN, "eased"): State.RAMPING,
    (State.RAMPING, "tripped"): State.OPEN,
    (State.RAMPING, "recovered"): State.CLOSED,
    (State.OBSERVING, "tripped"): State.OBSERVING,
    **{(source, cause): target for target, cause in MANUAL.items() for source in State},
    **{(source, "store_opened"): State.OPEN for source in AUTOMATIC},
    **{(source, "store_closed"): State.CLOSED for source in AUTOMATIC},
}
"""Which state follows, by state and cause.  OBSERVING trips in name only; only shared breakers have a store."""


@dataclass(frozen=True)
class Transition:
    """An event: the breaker *name* went from one state to another.  ``cooldown`` is set in seconds when it opened."""

    name: str
    cause: Cause
    source: State
    target: State
    cooldown: float | None = None
