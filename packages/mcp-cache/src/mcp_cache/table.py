"""The entries of a cache and what bounds them: synchronous, and without a clock; every call is told the time.

A space is a dictionary of entries with the flights that may fill it; a cache has one for the keys of its own methods
and one for each function that it decorates. Eviction, expiry, tags and weight are common to all spaces of a table.

    tick        counts the invalidations; what began before one and is stored after it would be out of date
    tags        the tick at which each tag was invalidated last: an entry is gone if it was born before that
    sweep       looks at one entry for each one that comes, and at a few more if its time is over, so that what nobody
                asks for leaves, too, and no call ever takes long
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

from .adaptive import Adaptive
from .entries import NEVER, Entry
from .eviction import Lru, Policy, S3Fifo, TinyLfu
from .flight import Space

__all__ = ["POLICIES", "Table"]

POLICIES: dict[str, Callable[[int], Policy]] = {
    "adaptive": Adaptive,
    "lru": Lru,
    "s3fifo": S3Fifo,
    "tinylfu": TinyLfu,
}
STEPS = 4  # entries that may leave because their time is over, for each one that comes
TAGS = 4096  # tags whose last invalidation is remembered; one more, and every tagged entry is taken to be out of date


class Table:
    """All entries of a cache, within its bounds."""

    size: int
    tick: int
    evictions: int
    expirations: int

    def __init__(self, maxsize: int, max_weight: float, policy: str, keep: float) -> None:
        self.spaces: list[Space] = []
        self.maxsize = maxsize
        self.max_weight = max_weight
        self.keep = keep  # seconds for which an expired entry may still be of use
        self.size = 0
        self._weighs = max_weight != math.inf
        self._weight = 0.0
        self.tick = 0
        self.evictions = self.expirations = 0
        self.on_leave: Callable[[Entry, Literal["evicted", "expired"]], None] | None = None
        self._policy = POLICIES[policy](maxsize)
        self._tags: dict[str, int] = {}
        self._forgotten = 0  # the tick before which every tagged entry counts as invalidated
        self._lines = list(self._policy.lines)
        self._hand = self._lines[0].root
        self._expires = False

    @property
    def weight(self) -> float:
        """What all entries weigh together; one each if nothing weighs them."""
        return self._weight if self._weighs else float(self.size)

    def new_space(self, name: str) -> Space:
        """Add an empty space."""
        space = Space(name)
        self.spaces.append(space)
        return space

    def put(self, entry: Entry, now: float) -> None:
        """Store *entry* under its key, make room for it, and look after some others."""
        old = entry.table.setdefault(entry.key, entry)
        if self._weighs:
            self._weight += entry.facts.weight - (0 if old is entry else old.facts.weight)
        if old is entry:
            self.size += 1
            self._policy.insert(entry)
        else:
            entry = _renewed(old, entry)
            if self._policy.watches(entry):
                entry.fast_until = NEVER
        while self.size > self.maxsize or (self._weighs and self._weight > self.max_weight):
            self._take_out(self._policy.evict(), "evicted")
            self.evictions += 1
        if self._expires:
            hand = self._hand
            if hand.line is None or hand.expires + self.keep <= now:
                self._sweep(now)
            else:
                self._hand = hand.after
        elif entry.expires != math.inf:
            self._expires = True

    def drop(self, entry: Entry) -> None:
        """Take *entry* out."""
        self._policy.remove(entry)
        self._take_out(entry, "")

    def expire(self, entry: Entry) -> None:
        """Take *entry* out because its time is over."""
        self._policy.remove(entry)
        self._take_out(entry, "expired")
        self.expirations += 1

    def touch(self, entry: Entry, plain_until: float) -> None:
        """Let the policy see a hit. Until *plain_until*, the next ones may do without, unless it wants to see them."""
        entry.fast_until = plain_until
        if self._policy.watches(entry):
            self._policy.touch(entry)

    def invalidate_tag(self, tag: str) -> None:
        """Make every entry with *tag* that was born until now out of date; O(1)."""
        self.tick += 1
        if len(self._tags) >= TAGS and tag not in self._tags:
            self._tags.clear()
            self._forgotten = self.tick
        self._tags[tag] = self.tick

    def is_current(self, tags: Iterable[str], born: int) -> bool:
        """Say whether nothing with *tags* was invalidated after the tick *born*."""
        return all(self._tags.get(tag, self._forgotten) <= born for tag in tags)

    def matching(self, match: Callable[[Any], bool], space: Space) -> Iterator[Entry]:
        """Yield the entries of *space* whose key matches, and that are still there when it is their turn."""
        for entry in list(space.entries.values()):
            if entry.line is not None and match(entry.key):
                yield entry

    def _take_out(self, entry: Entry, why: Literal["evicted", "expired", ""]) -> None:
        del entry.table[entry.key]
        self.size -= 1
        if self._weighs:
            self._weight -= entry.facts.weight
        if why and self.on_leave is not None:
            self.on_leave(entry, why)

    def _sweep(self, now: float) -> None:
        """Take out what the hand points at, and go on for a few entries while their time is over."""
        for _ in range(STEPS):
            entry = self._hand
            if entry.line is None:  # the root of a line, or an entry that has left since
                self._lines.append(self._lines.pop(0))
                entry = self._lines[0].root
            self._hand = entry.after
            if entry.expires + self.keep > now:
                return
            self.expire(entry)


def _renewed(old: Entry, new: Entry) -> Entry:
    """Give *old*, which keeps its place and its hits, what *new* has."""
    old.value, old.born, old.facts = new.value, new.born, new.facts
    old.expires, old.fast_until = new.expires, new.fast_until
    return old
