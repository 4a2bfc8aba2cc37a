"""What keeps one caller's changes to a value from another: nothing, a copy each, or a value that cannot change.

``copy`` keeps a pickle and unpickles it for each caller: four times cheaper than a deep copy, and what cannot be
pickled is noticed when it is stored. Values that cannot change anyway are kept as they are.

``frozen`` makes lists, dictionaries and sets into what cannot be changed. Of other types, those that are hashable by
their value are taken to be unchanging, as dictionaries take their keys to be; the rest is refused.
"""

from __future__ import annotations

import pickle
from types import MappingProxyType
from typing import Any, Literal, cast

__all__ = ["Isolation", "Pickled", "Unchanging", "kept", "shown"]

Isolation = Literal["share", "copy", "frozen"]

UNCHANGING = frozenset({str, int, float, bool, bytes, complex, type(None)})


class Unchanging:
    """What cannot be changed by those who get it, of a class of its own."""

    __slots__ = ()


class Pickled(bytes):
    """A value that every caller gets a copy of."""


def kept(value: Any, isolation: Isolation) -> Any:
    """Return the form in which *value* is kept. Raises whatever pickling it raises, and TypeError if it can change."""
    if isolation == "share" or value.__class__ in UNCHANGING or isinstance(value, Unchanging):
        return value
    if isolation == "copy":
        return Pickled(pickle.dumps(value))
    return _frozen(value)


def shown(value: Any) -> Any:
    """Return what a caller gets for what is kept."""
    return pickle.loads(value) if value.__class__ is Pickled else value  # noqa: S301  # pickled by this process


def _frozen(value: Any) -> Any:
    kind = cast("Any", type)(value)
    if kind in {dict, MappingProxyType}:
        return MappingProxyType({name: _frozen(item) for name, item in value.items()})
    if kind in {list, tuple}:
        return tuple(map(_frozen, value))
    if kind in {set, frozenset}:
        return frozenset(map(_frozen, value))
    if kind is bytearray:
        return bytes(value)
    if kind not in UNCHANGING and kind.__hash__ is object.__hash__:  # goes by identity, which changes do not touch
        raise TypeError(f"cannot freeze {kind.__qualname__!r} object")
    hash(value)
    return value
