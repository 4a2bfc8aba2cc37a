"""What a cache would do with one key, and why."""

from __future__ import annotations

from typing import Any

from .engine import Engine
from .entries import Entry
from .events import Explanation, State
from .flight import Failure, Space

__all__ = ["explained"]


def explained(engine: Engine, space: Space, key: Any) -> Explanation:
    """Say what there is under *key* in process, without counting as a hit."""
    flight, entry = space.flights.get(key), space.entries.get(key)
    waiting = None if flight is None else len(flight)
    if entry is None:
        return Explanation("absent", waiting=waiting)
    now, facts = engine.clock(), entry.facts
    return Explanation(_state(engine, entry, now), entry.expires - now, entry.hits, facts.tags, facts.weight, waiting)


def _state(engine: Engine, entry: Entry, now: float) -> State:
    is_failure = isinstance(entry.value, Failure)
    if not engine.table.is_current(entry.facts.tags, entry.born):
        return "invalidated"
    if now < entry.expires:
        return "failure" if is_failure else "fresh"
    is_over = is_failure or entry.has_idled(now) or now - entry.expires >= engine.config.windows
    return "expired" if is_over else "stale"
