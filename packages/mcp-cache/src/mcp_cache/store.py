"""What a cache asks of a shared or persistent store, and how values become bytes.

    load(key, compute)     the value that is there, or computed by one process for all
    read, write            without computing
    invalidate             by key, by tag, or whatever matches
    listen                 what other processes invalidate, for as long as it is awaited

A store knows keys as text and values as bytes. It raises whatever its client raises: the cache decides what then.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

__all__ = ["JSON", "PICKLE", "By", "Codec", "Heard", "Made", "Serializer", "Store", "Stored"]

By = Literal["key", "tag", "match"]
Heard = Callable[[Literal["ready", "lost", "key", "tag"], str], None]
"""Told "ready" once nothing can be missed any more, "lost" when something may have been missed."""


class Made(NamedTuple):
    """What was computed, for how many seconds (``inf`` for as long as the store likes); None if not to be stored."""

    payload: bytes | None
    ttl: float
    tags: tuple[str, ...] = ()


class Stored(NamedTuple):
    """What was found, and for how many seconds it stays fresh; None if it is there and cannot be read."""

    payload: bytes | None
    expires_in: float
    tags: tuple[str, ...] = ()


class Store(Protocol):
    """A place for values outside of this process; ``mcp_cache.redis`` and ``mcp_cache.sqlite`` have one each."""

    async def load(self, key: str, compute: Callable[[], Awaitable[Made]]) -> Stored | None:
        """Return what is stored; else compute and store it, and return None. Raises what *compute* raises."""
        ...

    async def read(self, keys: Sequence[str]) -> list[Stored | None]:
        """Return what is stored under each of the *keys*."""
        ...

    async def write(self, key: str, made: Made) -> None:
        """Store a value that was not computed under ``load``."""
        ...

    async def invalidate(self, by: By, what: str | Callable[[str], bool]) -> None:
        """Remove a key, everything with a tag, or every key that a function says yes to; in-flight results, too."""
        ...

    async def listen(self, heard: Heard) -> None:
        """Tell what others invalidate, until cancelled; return at once if there can be no others."""
        ...


class Codec(Protocol):
    """What stands between the values of one kind and the serializer."""

    def pack(self, value: Any, /) -> Any:
        """Return what the serializer is given for *value*."""
        ...

    def unpack(self, packed: Any, seconds: float, ends: float, /) -> Any:
        """Return the value, fresh for *seconds*, until the cache's clock says *ends*.

        Raises for what it cannot read.
        """
        ...


class Serializer(NamedTuple):
    """Two functions; for msgpack: ``Serializer(msgpack.packb, msgpack.unpackb)``."""

    dumps: Callable[[Any], bytes]
    loads: Callable[[bytes], Any]


def _dump_json(value: Any) -> bytes:
    _refuse_other_keys(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _refuse_other_keys(value: Any) -> None:
    """Raise TypeError for keys that are no strings: JSON would make them some, and {1: …} come back as {"1": …}."""
    members: Any = value
    if isinstance(value, dict):
        for key, item in members.items():
            if not isinstance(key, str):
                raise TypeError(f"keys in JSON are strings, got {key!r}")
            _refuse_other_keys(item)
    elif isinstance(value, (list, tuple)):
        for item in members:
            _refuse_other_keys(item)


JSON = Serializer(_dump_json, json.loads)
"""Safe whoever can write to the store. Tuples come back as lists; anything that is no JSON value is not stored,
nor is a dictionary whose keys are no strings."""

PICKLE = Serializer(pickle.dumps, pickle.loads)
"""Any value, but whoever can write to the store can run code in this process: only where nobody else can."""
