"""What a cache holds: entries, and the lines in which they wait for their turn to be evicted.

    root ⇄ oldest ⇄ … ⇄ newest ⇄ root          a ring, threaded through the entries themselves

An entry is in at most one line, so that leaving it takes no search and leaves no tombstone. ``fast_until`` is the one
fact that a hit has to look at: until then the value may be handed out as it is. Whoever needs to see a hit (a tag that
may have been invalidated, a value to be copied, a policy that samples) sets it to ``NEVER``, and pays for it alone.
"""

from __future__ import annotations

import math
from typing import Any

__all__ = ["NEVER", "Entry", "Facts", "Line"]

NEVER = -math.inf


class Facts:
    """What only some entries have: tags, a weight, an end that idling brings forward, the cost of computing it."""

    __slots__ = ("cost", "deadline", "tags", "weight")

    tags: tuple[str, ...]
    weight: float
    deadline: float
    cost: float

    def __init__(self, tags: tuple[str, ...], weight: float, deadline: float, cost: float) -> None:
        self.tags = tags
        self.weight = weight
        self.deadline = deadline
        self.cost = cost


PLAIN = Facts(tags=(), weight=1.0, deadline=NEVER, cost=0.0)


class Entry:
    """One value; ``born`` is the tick of the cache at which its computation began."""

    __slots__ = ("after", "before", "born", "expires", "facts", "fast_until", "hits", "key", "line", "table", "value")

    table: dict[Any, Entry]
    key: Any
    value: Any
    born: int
    hits: int
    facts: Facts
    expires: float
    fast_until: float
    line: Line | None
    after: Entry
    before: Entry

    def __init__(self, table: dict[Any, Entry], key: Any, value: Any, born: int, expires: float = math.inf) -> None:
        self.table = table
        self.key = key
        self.value = value
        self.born = born
        self.hits = 0
        self.facts = PLAIN
        self.expires = self.fast_until = expires
        self.line = None

    def has_idled(self, now: float) -> bool:
        """Say whether it is over, and before its deadline: because nobody has asked for it."""
        return self.expires <= now and self.expires < self.facts.deadline


class Line:
    """Entries in the order in which they joined."""

    __slots__ = ("root", "size")

    root: Entry
    size: int

    def __init__(self) -> None:
        self.root = Entry({}, None, None, 0)
        self.root.before = self.root.after = self.root
        self.size = 0

    def join(self, entry: Entry) -> None:
        """Put *entry*, which is in no line, at the end."""
        root = self.root
        last = root.before
        last.after = root.before = entry
        entry.before = last
        entry.after = root
        entry.line = self
        self.size += 1

    def leave(self, entry: Entry) -> None:
        """Take *entry* out; it keeps no neighbour alive."""
        before = entry.before
        before.after = after = entry.after
        after.before = before
        del entry.before, entry.after
        entry.line = None
        self.size -= 1

    def rejoin(self, entry: Entry) -> None:
        """Move *entry*, which is in this line, to its end."""
        self.leave(entry)
        self.join(entry)
