"""The decision that several limits make most of the time, written flat: cost 1, token buckets, in memory, enough room.

It decides as ``_core`` does (a property compares them), and steps aside, with False, whenever anything is out of the
ordinary: a new key, an odd argument, no room.  Each limit is a link of a chain, which charges when those behind it have
charged: so all do, or none.  It pays: 0.8 us against 8 us for three limits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from ._core import ROUND

if TYPE_CHECKING:
    from .memory import MemoryTable

__all__ = ["quickly"]

Link: TypeAlias = "Callable[[float, tuple[Any, ...]], bool]"


def quickly(tables: Sequence[MemoryTable]) -> Callable[[Any], bool]:
    """Return what charges one unit under a key, or under each of a tuple of them, if all may pass."""
    number = len(tables)
    first, *others = tables
    rest: Link | None = None
    for place, table in reversed([*enumerate(others, 1)]):
        rest = _link(table, place, rest)
    charge = _link(first, 0, rest)

    def charge_all(key: Any) -> bool:
        keys = key if key.__class__ is tuple else (key,) * number
        return len(keys) == number and charge(first.clock(), keys)  # tables of one store have one clock

    return charge_all


def _link(table: MemoryTable, place: int, rest: Link | None) -> Link:
    def charge(seconds: float, keys: tuple[Any, ...]) -> bool:
        now = seconds * table.hz + ROUND - ROUND
        if table.last <= now < table.due:
            table.last = now
        else:
            now = table.advanced(now)
        key = keys[place]
        shard = table.only or table.shards[hash(key) & table.mask]
        try:
            state = shard[key]
        except KeyError:
            return False
        state = table.interval + (now if state < now else state)  # noqa: FURB136  # ``max`` costs 80 ns
        if state - now > table.tolerance or (rest is not None and not rest(seconds, keys)):
            return False
        shard[key] = state
        return True

    return charge
