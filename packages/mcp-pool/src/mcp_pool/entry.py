"""One resource of a pool: its states, and what is known of it.

connecting ──▶ idle ◀──▶ in use ──▶ serviced ──▶ idle, in use
     │           └─────────┴────────────┴──────▶ closing ──▶ gone
     └─────────▶ in use (somebody waits), closing, gone (it failed)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar

from .events import Reason

__all__ = ["CLOSING", "CONNECTING", "GONE", "IDLE", "IN_USE", "SERVICED", "TRANSITIONS", "Entry", "State"]

T = TypeVar("T")

State: TypeAlias = Literal["connecting", "idle", "in use", "serviced", "closing", "gone"]
CONNECTING: Final = "connecting"
IDLE: Final = "idle"
IN_USE: Final = "in use"
SERVICED: Final = "serviced"
CLOSING: Final = "closing"
GONE: Final = "gone"

TRANSITIONS: Final[dict[State, frozenset[State]]] = {
    CONNECTING: frozenset({IDLE, IN_USE, CLOSING, GONE}),
    IDLE: frozenset({IN_USE, SERVICED, CLOSING}),
    IN_USE: frozenset({IDLE, SERVICED, CLOSING}),
    SERVICED: frozenset({IDLE, IN_USE, CLOSING}),
    CLOSING: frozenset({GONE}),
    GONE: frozenset(),
}


class Entry(Generic[T]):
    """One resource and what is known of it, from the start of its connect until it is closed."""

    __slots__ = (
        "born_at", "borrower", "checked_at", "connected", "holder", "interrupt", "is_dirty", "leaving", "max_uses",
        "pending", "ready", "reason", "resource", "retire_at", "stand_in", "state", "taken", "taken_at", "used_at",
        "uses", "verdict", "wake",
    )  # fmt: skip

    def __init__(self, max_uses: float) -> None:
        self.state: State = CONNECTING
        self.max_uses: float = max_uses
        self.leaving: bool = False
        """Whether it is wanted elsewhere, and goes after its next use."""
        self.reason: Reason = "lifetime"
        self.retire_at: float = math.inf
        self.taken_at: float = math.inf
        self.born_at: float  # what has no value here gets one before it is looked at
        self.used_at: float
        self.checked_at: float
        self.uses: int = 0
        self.connected: bool = False
        self.resource: Any
        self.ready: Any
        """The resource, as something that can be awaited."""
        self.stand_in: Any = None
        """In debug mode, a weak reference to what the borrower has instead of the resource."""
        self.taken: bool = False
        """Borrowed without a block, to be given back by hand."""
        self.holder: object = None
        """In a pool of one, the task that has it."""
        self.borrower: Any = None
        """Where leaks are looked for, the task and the stack that have it."""
        self.is_dirty: bool
        """Whether its owner is to reset it, and not only to check it."""
        self.verdict: bool
        """Whether the last hook was content; if not, the resource is closed."""
        self.pending: Any = None
        """What is left of a hook that began to wait, and what it waits for."""
        self.interrupt: Callable[[], object] = bool
        """Ends what the owner waits for, where that can be ended."""
        self.wake: Any
