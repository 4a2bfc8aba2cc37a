"""A store in this process: for breakers of several event loops, for tests, and as the model of the real ones."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from .shared import Probe, Reply, Terms
from .states import State

__all__ = ["MemoryStore"]


@dataclass
class _Entry:
    era: int = 0
    state: State = State.CLOSED
    until: float = 0.0
    reopens: int = 0
    successes: int = 0
    failures: int = 0
    leases: dict[str, float] = field(default_factory=dict[str, float])

    def change(self, state: State, until: float = 0.0) -> None:
        self.era += 1
        self.state, self.until = state, until
        self.successes = self.failures = 0
        self.leases = {}


class MemoryStore:
    """Keeps one entry a name, for ever."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()

    async def admit(self, name: str, terms: Terms, lease: str) -> Reply:
        """See ``Store.admit``."""
        with self._lock:
            entry, now = self._entries.setdefault(name, _Entry()), self._clock()
            if entry.state is State.OPEN and now >= entry.until:
                entry.change(State.HALF_OPEN)
            if entry.state is not State.HALF_OPEN:
                return self._reply(entry, now)
            entry.leases = {held: end for held, end in entry.leases.items() if end > now}
            is_free = len(entry.leases) < terms.probe_concurrency
            if is_free:
                entry.leases[lease] = now + terms.probe_max_wait
            return self._reply(entry, now, leased=is_free)

    async def trip(self, name: str, terms: Terms, era: int, cooldown: float, reopens: int) -> Reply:  # noqa: ARG002  # as the protocol has it
        """See ``Store.trip``."""
        with self._lock:
            entry, now = self._entries.setdefault(name, _Entry()), self._clock()
            if entry.state is State.CLOSED and entry.era == era:
                entry.change(State.OPEN, now + cooldown)
                entry.reopens = reopens
            return self._reply(entry, now)

    async def settle(self, name: str, terms: Terms, probe: Probe) -> Reply:
        """See ``Store.settle``."""
        with self._lock:
            entry, now = self._entries.setdefault(name, _Entry()), self._clock()
            if entry.era == probe.era and entry.leases.pop(probe.lease, now) > now:
                entry.successes += probe.verdict == "success"
                entry.failures += probe.verdict == "failure"
                if entry.failures > terms.failures_allowed:
                    entry.change(State.OPEN, now + probe.cooldown)
                    entry.reopens = probe.reopens
                elif entry.successes >= terms.successes_needed:
                    entry.change(State.CLOSED)
            return self._reply(entry, now)

    def _reply(self, entry: _Entry, now: float, *, leased: bool = False) -> Reply:
        end = min(entry.leases.values(), default=0.0) if entry.state is State.HALF_OPEN else entry.until
        return Reply(entry.era, entry.state, max(end - now, 0.0), entry.reopens, leased)
