"""What a cache reads from its store, and writes to it, without computing.

Meanwhile, a flight is in the air under each key: whoever asks for one waits, and what is set or invalidated before the
store has answered ends the flight, so that nothing outdated is kept.
"""

from __future__ import annotations

from typing import Any

from .engine import UNFIT, Engine
from .entries import Entry
from .flight import Space
from .remote import Remote

__all__ = ["read", "write"]


async def read(engine: Engine, remote: Remote, space: Space, keys: list[Any]) -> dict[Any, Any]:
    """Return what the store has of the *keys*."""
    tick = engine.table.tick
    flights = {key: space.take_off(key) for key in keys if key not in space.flights}
    found = dict[Any, Any]()
    try:
        for key, (value, seconds, tags) in (await remote.read(space, keys)).items():
            form = engine.form(key, value)
            found[key] = value if form is UNFIT or engine.config.isolation == "copy" else form
            flight = flights.get(key)
            is_ours = flight is not None and space.flights.get(key) is flight
            if is_ours and form is not UNFIT and engine.table.is_current(tags, tick):
                _keep(engine, space, Entry(space.entries, key, form, tick), seconds, tags)
    finally:
        for key, flight in flights.items():
            space.land(key, flight)
    return found


async def write(  # noqa: PLR0917  # what set() was told, and what it made of it
    engine: Engine, remote: Remote, space: Space, key: Any, value: Any, form: Any, seconds: float, tags: tuple[str, ...]
) -> None:
    """Write *value* to the store, and keep its *form* unless something else has happened to *key* meanwhile."""
    engine.remove(space, key)
    tick, flight = engine.table.tick, space.take_off(key)
    try:
        seconds = await remote.write(space, key, value, seconds, tags)
        if space.flights.get(key) is flight and engine.table.is_current(tags, tick):
            _keep(engine, space, Entry(space.entries, key, form, tick), seconds, tags)
    finally:
        space.land(key, flight)


def _keep(engine: Engine, space: Space, entry: Entry, seconds: float, tags: tuple[str, ...]) -> None:
    if seconds > 0:
        now = engine.clock()
        entry.expires = entry.fast_until = now + seconds
        engine.keep(space, entry, now, tags)
