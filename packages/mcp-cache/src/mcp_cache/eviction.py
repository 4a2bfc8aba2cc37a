"""Which entry has to go when the cache is full: four answers to one question.

Every policy is told of what comes and goes, and names a victim when asked; it knows no keys' values and no time:

    insert(entry)    it came, and is in ``entry.line`` from now on; who wants to see its next hit sets ``fast_until``
    touch(entry)     it was hit, if ``watches(entry)`` says that the policy wants to know
    remove(entry)    it was taken out for another reason than eviction
    evict()          take one out and return it

Hits are counted in the entry by whoever hits it and read here when the entry's turn comes, so they cost nothing when
they happen. ``TinyLfu`` is W-TinyLFU (Einziger, Friedman, Manes: TinyLFU, ACM ToS 2017) with both lines as clocks;
``S3Fifo`` is S3-FIFO (Yang et al.: FIFO queues are all you need for cache eviction, SOSP 2023).
Plain SIEVE was rejected: on traces whose keys come in quick pairs it falls from LRU's 33 % to 1 %.

``hash((key,))`` mixes the hash of a key, since that of a small int is the int itself; tuples do it well, and in C.

No call looks at more than ``PATIENCE`` entries: the exact algorithms may walk over the whole cache once all of it was
hit, which would stall the event loop.
"""

from __future__ import annotations

from array import array
from typing import Protocol

from .entries import NEVER, Entry, Line

__all__ = ["Lru", "Policy", "S3Fifo", "TinyLfu"]

PATIENCE = 16  # entries that one eviction may pass over
COUNTED = 3  # hits beyond this do not keep an entry any longer; the figure of the S3-FIFO paper
SATURATED = 15  # where a counter ends
SLICE = 1 << 16  # counters that are halved in one go, in about 60 us
HALVE = bytes(count >> 1 for count in range(256))


class Policy(Protocol):
    """What a cache asks of an eviction policy."""

    @property
    def lines(self) -> tuple[Line, ...]:
        """Where the entries are."""
        ...

    def watches(self, entry: Entry, /) -> bool:
        """Say whether hits of *entry* are to be told."""
        ...

    def insert(self, entry: Entry, /) -> None:
        """Take *entry* in."""
        ...

    def touch(self, entry: Entry, /) -> None:
        """Know that *entry*, which is watched, was hit."""
        ...

    def remove(self, entry: Entry, /) -> None:
        """Take *entry* out."""
        ...

    def evict(self) -> Entry:
        """Take out the entry that is worth least, and return it."""
        ...


class Lru:
    """Least recently used first. Every hit has to be seen, so hits cost more than with the other policies."""

    def __init__(self, capacity: int) -> None:
        del capacity
        self._line = Line()
        self.lines: tuple[Line, ...] = (self._line,)

    def watches(self, _: Entry, /) -> bool:
        """Every entry."""
        return True

    def insert(self, entry: Entry) -> None:
        """Take it as the most recent."""
        entry.fast_until = NEVER
        self._line.join(entry)

    def touch(self, entry: Entry) -> None:
        """Take it as the most recent, and look at its next hit too."""
        self._line.rejoin(entry)
        entry.fast_until = NEVER

    def remove(self, entry: Entry) -> None:
        """Forget it."""
        self._line.leave(entry)

    def evict(self) -> Entry:
        """Return the least recent."""
        victim = self._line.root.after
        self._line.leave(victim)
        return victim


class _TwoLines:
    """A probationary line that everything enters, and a main line that is read as a clock."""

    def __init__(self) -> None:
        self._small, self._main = Line(), Line()
        self.lines: tuple[Line, ...] = (self._small, self._main)

    def watches(self, _: Entry, /) -> bool:
        """None: hits are read from the entry when its turn comes."""
        return False

    def touch(self, _: Entry, /) -> None:
        """Nothing to do."""

    def remove(self, entry: Entry) -> None:
        """Forget it."""
        if entry.line is not None:
            entry.line.leave(entry)

    def _promote(self, entry: Entry) -> None:
        self._small.leave(entry)
        self._main.join(entry)

    def _turn(self) -> Entry:
        """Return the main entry whose turn has come: entries that were hit stay for another round."""
        main = self._main
        for _ in range(PATIENCE):
            entry = main.root.after
            if not entry.hits:
                break
            self._read(entry)
            main.rejoin(entry)
        return main.root.after

    def _read(self, entry: Entry) -> None:
        entry.hits = min(entry.hits, COUNTED) - 1


class S3Fifo(_TwoLines):
    """What is hit twice while in the small line, or comes back soon after leaving it, goes to the main line."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self._share = capacity // 10
        # The ghosts: a hash in its slot says that the key left not long ago. A slot forgets when it is needed again.
        size = 1 << capacity.bit_length()
        self._ghosts, self._mask = array("q", bytes(8 * size)), size - 1

    def insert(self, entry: Entry) -> None:
        """Take it in, to the main line at once if it has just left."""
        mixed = hash((entry.key,))
        slot = mixed & self._mask
        if self._ghosts[slot] == mixed:
            self._ghosts[slot] = 0
            self._main.join(entry)
        else:
            self._small.join(entry)

    def evict(self) -> Entry:
        """Return the oldest that was not hit enough."""
        small = self._small
        for _ in range(PATIENCE):
            entry = small.root.after
            if (small.size <= self._share and self._main.size) or entry.hits < 2:  # noqa: PLR2004  # the paper's
                break
            entry.hits = 0
            self._promote(entry)
        if small.size > self._share or not self._main.size:
            return self._drop(small.root.after)
        victim = self._turn()
        self._main.leave(victim)
        return victim

    def _drop(self, entry: Entry) -> Entry:
        mixed = hash((entry.key,))
        self._ghosts[mixed & self._mask] = mixed
        self._small.leave(entry)
        return entry


class TinyLfu(_TwoLines):
    """A window for what is new, and a main line, where a key must be asked for more often than one that has to leave.

    *window* is its share of all entries. While the main line has room, whatever was asked for *proven* times, lately
    and in all, may enter it.

    How often a key was asked for lately is kept roughly, in a row of saturating counters that are halved now and then.
    Ten additions for each entry of the cache make the first period, five every later one: the figures of the paper. One
    row of sixteen counters an entry errs as rarely as two rows of eight, for half the work.
    """

    def __init__(self, capacity: int, window: float = 0.1, proven: int = 1) -> None:
        super().__init__()
        self._capacity = capacity
        self._is_full = False
        self.tune(window, proven)
        size = 1 << (16 * capacity - 1).bit_length()
        self._counts = bytearray(size)
        self._mask = size - 1
        self._left = 10 * capacity  # additions until the counters are halved
        self._halved = 0

    def tune(self, window: float, proven: int) -> None:
        """Change the settings; the entries move over as they take their turns."""
        self._share = max(1, int(window * self._capacity))
        self._room = self._capacity - self._share
        self._proven = proven

    def insert(self, entry: Entry) -> None:
        """Take it into the window; until anything has to go, to the main line while that has room."""
        self.enter(entry, hash((entry.key,)))

    def enter(self, entry: Entry, mixed: int) -> None:
        """Do the same for one whose key's mixed hash is at hand."""
        counts, slot = self._counts, mixed & self._mask  # _count(), without the call
        if counts[slot] < SATURATED:
            counts[slot] += 1
        self._left -= 1
        if self._left <= 0:
            self._halve()
        (self._small if self._is_full or self._main.size >= self._room else self._main).join(entry)

    def evict(self) -> Entry:
        """Return the oldest of the window, or the main entry whose turn it is, whichever is asked for less."""
        self._is_full = True
        window, main = self._small, self._main
        if main.size < self._room:
            self._fill()
        candidate = window.root.after
        if main.size:
            if window.size <= self._share:
                victim = self._turn()
                main.leave(victim)
                return victim
            if main.size >= self._room:
                victim = main.root.after
                if victim.hits:
                    victim = self._turn()
                counts, mask = self._counts, self._mask
                asked = self._frequency(candidate) if candidate.hits else counts[hash((candidate.key,)) & mask]
                if asked > counts[hash((victim.key,)) & mask]:
                    main.leave(victim)
                    self._promote(candidate)
                    return victim
        window.leave(candidate)
        return candidate

    def _fill(self) -> None:
        """Let what has proved itself into the main line, while that has room."""
        for _ in range(PATIENCE):
            is_settled = self._main.size >= self._room or (self._main.size and self._small.size <= self._share)
            if is_settled or self._frequency(self._small.root.after) < self._proven:
                return
            self._promote(self._small.root.after)

    def _frequency(self, entry: Entry) -> int:
        """Return how often *entry* was asked for lately, the hits that it had in the window included."""
        hits, entry.hits = entry.hits, 0
        return self._count(hash((entry.key,)), hits)

    def _count(self, mixed: int, times: int) -> int:
        """Count a key *times* more, and return how often it was asked for."""
        slot, counts = mixed & self._mask, self._counts
        count = counts[slot] + times
        counts[slot] = count = count if count < SATURATED else SATURATED  # noqa: FURB136  # min() costs as much again
        self._left -= times
        if self._left <= 0:
            self._halve()
        return count

    def _halve(self) -> None:
        """Halve one slice of the counters: all at once would hold up the event loop when there are millions."""
        part = slice(self._halved, self._halved + SLICE)
        self._counts[part] = self._counts[part].translate(HALVE)
        self._halved += SLICE
        if self._halved > self._mask:
            self._halved, self._left = 0, 5 * self._capacity

    def _read(self, entry: Entry) -> None:
        # The rounds that are left are counted again: what stays in use must not lose to newcomers by ageing.
        self._count(hash((entry.key,)), entry.hits)
        super()._read(entry)
