"""What is counted and told: the totals behind ``statistics()``, and the way to ``on_event``."""

from __future__ import annotations

import logging
from typing import Any

from .events import Event, Statistics
from .gate import Gate
from .settings import Settings
from .shelf import Shelf

__all__ = ["Report"]


class Report:
    """The totals of one pool."""

    def __init__(self, settings: Settings[Any]) -> None:
        self.name: str = settings.name
        self.connects: int = 0
        self.connect_failures: int = 0
        self.waits: int = 0
        self.timeouts: int = 0
        self.refusals: int = 0
        self.leaks: int = 0
        self.connect_seconds: float = 0.0
        self.wait_seconds: float = 0.0
        self.longest_wait: float = 0.0
        self._on_event = settings.on_event

    def tell(self, event: Event) -> None:
        """Report *event*; what the callback raises is logged, because the pool's own work must go on."""
        if self._on_event is not None:
            try:
                self._on_event(event)
            except Exception:
                logging.getLogger(__package__).exception("on_event of %s failed", self.name)

    def waited(self, seconds: float) -> None:
        """Count a wait that is over."""
        self.wait_seconds += seconds
        self.longest_wait = max(self.longest_wait, seconds)

    def statistics(self, shelf: Shelf[Any], gate: Gate) -> Statistics:
        """Put the totals beside the state of this moment."""
        return Statistics(
            name=self.name,
            min_size=shelf.min_size,
            max_size=shelf.max_size,
            idle=len(shelf.idle),
            in_use=shelf.in_use,
            connecting=shelf.connecting,
            serviced=shelf.serviced,
            closing=shelf.closing,
            waiting=len(shelf.waiters),
            available=not gate.is_shut,
            connects=self.connects,
            connect_failures=self.connect_failures,
            connect_seconds=self.connect_seconds,
            closed=dict(shelf.closed),
            uses=shelf.uses,
            use_seconds=shelf.use_seconds,
            waits=self.waits,
            wait_seconds=self.wait_seconds,
            longest_wait=self.longest_wait,
            timeouts=self.timeouts,
            refusals=self.refusals,
            leaks=self.leaks,
        )
