"""The default policy: three ways to run the window are tried out in miniature, and the cache follows the best.

    every access ──▶ one key in a few ──▶ miniature 1 (narrow window: loops, scans, stable favourites)
                                     ──▶ miniature 2 (wide window)                  whichever had the most hits lately
                                     ──▶ miniature 3 (nearly all window: recency)   sets the window of the whole cache

A miniature is the same policy over a sample of the keys, with the capacity reduced by as much (Waldspurger et al.:
Cache Modeling and Optimization using Miniature Simulations, USENIX ATC 2017). Because a sampled entry is looked at
only once between two insertions, a hit on anything else, or again on the same entry, costs nothing.

Rejected: hill climbing on the hit ratio, which does not find its way out of a plateau; two full shadow directories,
which double the memory; adapting to ghost hits, which overshoots on loops.
"""

from __future__ import annotations

import math
from typing import Any

from .entries import NEVER, Entry
from .eviction import TinyLfu

__all__ = ["Adaptive"]

SETTINGS = ((0.05, 1), (0.3, 1), (0.95, 2))  # window's share, uses that prove an entry; by experiment on seven traces
SAMPLE = 32  # entries a miniature holds at least, in a cache at least as large
SAMPLED_BY = 40  # the lowest bit of the hash that decides on sampling
PERIOD = 2  # accesses for each entry of a miniature between two comparisons
FADE = 0.5  # what a hit still counts for one period later


class _Miniature:
    """A cache of keys alone."""

    def __init__(self, capacity: int, window: float) -> None:
        self._table: dict[Any, Entry] = {}
        self._capacity = capacity
        self._policy = TinyLfu(capacity, window)  # whose main line is always full, so that nothing has to prove itself
        self.hits = 0.0

    def access(self, key: Any, mixed: int) -> None:
        entry = self._table.get(key)
        if entry is not None:
            entry.hits += 1
            self.hits += 1
            return
        entry = self._table[key] = Entry(self._table, key, None, 0)
        self._policy.enter(entry, mixed)
        if len(self._table) > self._capacity:
            del self._table[self._policy.evict().key]


class Adaptive(TinyLfu):
    """The policy of the cache, with the miniatures that tune it."""

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity, *SETTINGS[0])
        rate = 1 << max(0, math.ceil(math.log2(capacity / SAMPLE)) - 1)
        size = max(2, capacity // rate)
        self._unsampled = rate - 1
        self._miniatures = [_Miniature(size, window) for window, _ in SETTINGS]
        self._period = PERIOD * size
        self._accesses = 0
        self._seen: set[Entry] = set()

    def watches(self, entry: Entry, /) -> bool:
        """One key in a few: as many as make the sample, by other bits of the hash than those that count it."""
        return not hash((entry.key,)) >> SAMPLED_BY & self._unsampled

    def insert(self, entry: Entry) -> None:
        """Take it in; from now on, the next hit of a sampled entry is looked at again."""
        mixed = hash((entry.key,))
        self.enter(entry, mixed)
        if self._seen:
            for seen in self._seen:
                seen.fast_until = NEVER
            self._seen.clear()
        if not mixed >> SAMPLED_BY & self._unsampled:  # watches(), without the call
            entry.fast_until = NEVER
            self._access(entry.key, mixed)

    def touch(self, entry: Entry, /) -> None:
        """Let the miniatures know; at most once for each entry between two insertions."""
        if entry not in self._seen:
            self._seen.add(entry)
            self._access(entry.key, hash((entry.key,)))

    def _access(self, key: Any, mixed: int) -> None:
        if not self._is_full:  # until the first eviction all settings are the same, and nothing is tried out
            return
        for miniature in self._miniatures:
            miniature.access(key, mixed)
        self._accesses += 1
        if self._accesses >= self._period:
            self._accesses = 0
            best = max(range(len(SETTINGS)), key=lambda i: self._miniatures[i].hits)
            self.tune(*SETTINGS[best])
            for miniature in self._miniatures:
                miniature.hits *= FADE
