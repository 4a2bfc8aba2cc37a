"""One limit's file of a ``HostStore``: see there for its layout and its promises."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from ._algorithms import Algorithm, algorithm_for
from ._core import ROUND, KeysExhausted, Table
from ._hostlocks import Locks
from .limit import Limit

__all__ = ["WAYS", "HostTable"]

WAYS = 16
MAGIC = b"mcplimit"
_HEADER = struct.Struct("<8s2Q16s")  # MAGIC, buckets, width, the boot of the machine
_TIME = struct.Struct("<d")
_WHICH = struct.Struct("<Q")
_COPY = struct.Struct("<5d")  # expiry in seconds, amount, period, burst, number of values
_ONE = struct.Struct("<6d")  # the same with one value
HEADER_SIZE = 64


class HostTable:
    """The states of the keys of one limit, in one file."""

    def __init__(
        self,
        path: Path,
        limit: Limit,
        buckets: int,
        clock: Callable[[], float],
        fcntl: Any,
        *,
        stand_in: Table,
        deny: bool,
    ) -> None:
        self.path: Path = path
        self.limit: Limit = limit
        self.algorithm: Algorithm = algorithm_for(limit)
        self._clock = clock
        self.stand_in: Table = stand_in
        self._deny = deny
        self._figures = (float(limit.amount), limit.period, float(limit.burst))
        self._copy = _COPY.size + 8 * self.algorithm.width
        self._slot = 8 + 2 * self._copy
        self._bucket = 8 + 16 * WAYS + (WAYS + 1) * self._slot
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.locks: Locks = Locks(self._file, fcntl)
        self._buckets = buckets
        self._map = self._mapped(_HEADER.pack(MAGIC, buckets, self.algorithm.width, _boot()))

    def _mapped(self, header: bytes) -> mmap.mmap:
        size = HEADER_SIZE + self._buckets * self._bucket
        with self.locks.for_all():
            found = os.pread(self._file, len(header), 0)
            if not found.strip(b"\0") or (found[:24] == header[:24] and found != header):  # new, or of an earlier boot
                os.ftruncate(self._file, 0)
                os.ftruncate(self._file, size)
                os.pwrite(self._file, header, 0)
            elif found != header:
                raise ValueError(f"{self.path} was made for other keys= or another amount; remove it or its folder")
        return mmap.mmap(self._file, size)

    def __len__(self) -> int:
        """Count the keys that are not idle; reads the whole file."""
        now = self._clock()
        slots = (HEADER_SIZE + n * self._bucket + 8 + 16 * WAYS for n in range(self._buckets))
        return sum(self._load(first + way * self._slot)[0] > now for first in slots for way in range(WAYS))

    def lock(self, key: str) -> bool:
        """Take the lock of *key*'s bucket, and find its slot; False if another process does not let go of it."""
        digest, number = _hash(key)
        self._number = number % self._buckets
        if not self.locks.take(self._number):
            return False
        at = HEADER_SIZE + self._number * self._bucket
        # The latest time that any process has seen counts for all, so that a clock which lags lets nothing more pass.
        self._seconds = max(self._clock(), *_TIME.unpack_from(self._map, at))
        _TIME.pack_into(self._map, at, self._seconds)
        self._hashes, self._digest = at + 8, digest
        self._way, self._is_new = self._found()
        self._at = at + 8 + 16 * WAYS + self._way * self._slot
        return True

    def unlock(self) -> None:
        """Let go of the lock."""
        self.locks.let_go(self._number)

    def now(self) -> float:
        """Return the time, in ticks of the algorithm, at which the lock was taken."""
        now: float = self._seconds * self.algorithm.hz + ROUND - ROUND
        return now

    def place(self, key: str) -> str:
        """Return *key*; raise KeysExhausted if there is no slot for it."""
        if self._deny and self._way == WAYS:
            first = self._hashes + 16 * WAYS
            until = min(self._load(first + way * self._slot)[0] for way in range(WAYS))
            raise KeysExhausted(until - self._seconds)
        return key

    def read(self, key: str) -> Any:  # noqa: ARG002  # it was found when it was locked
        """Return the state under the locked key, None if there is none."""
        expiry, figures, values = self._load(self._at)
        if self._is_new or expiry <= self._seconds:
            return None
        state = self.algorithm.unpack(values)
        if figures == self._figures:
            return state
        before = algorithm_for(self.limit.resized(*figures))
        used = before.used(state, self._seconds * before.hz + ROUND - ROUND)
        return self.algorithm.owing(used, self.now())

    def write(self, key: str, state: Any) -> None:  # noqa: ARG002  # it is the one that is locked
        """Set the state under the locked key; None removes it."""
        if state is None and (self._is_new or self._way == WAYS):
            return
        if self._is_new:
            place = self._hashes + 16 * self._way
            self._map[place : place + 16] = self._digest
        values = () if state is None else self.algorithm.pack(state)
        rest = 0.0 if state is None else (self.algorithm.reset_after(state, self.now()) + 1) / self.algorithm.hz
        other = 1 - self._map[self._at]
        place = self._at + 8 + other * self._copy
        copy = struct.pack(f"<5d{len(values)}d", self._seconds + rest, *self._figures, len(values), *values)
        self._map[place : place + len(copy)] = copy
        _WHICH.pack_into(self._map, self._at, other)

    def charge_one(self, key: str) -> bool:
        """Charge one unit by GCRA if it may pass; False for whatever is not the usual case.  Only for tables of GCRA.

        It decides as ``_core`` does, flat: 3 us, half of them the kernel's for the lock, against 16 us.
        """
        memory = self._map
        gcra: Any = self.algorithm
        digest, number = _hash(key)
        number %= self._buckets
        at = HEADER_SIZE + number * self._bucket
        if self.locks.stuck or not self.locks.take(number):
            return False
        try:
            (latest,) = _TIME.unpack_from(memory, at)
            seconds = self._clock()
            place = memory.find(digest, at + 8, at + 8 + 16 * WAYS) - at - 8
            if seconds < latest or place < 0 or place % 16:
                return False
            slot = at + 8 + 16 * WAYS + place // 16 * self._slot
            which = memory[slot]
            _, amount, period, burst, count, state = _ONE.unpack_from(memory, slot + 8 + which * self._copy)
            if (amount, period, burst) != self._figures or not count:
                return False
            now = seconds * gcra.hz + ROUND - ROUND
            state = gcra.interval + (now if state < now else state)  # noqa: FURB136  # ``max`` costs 80 ns
            owed = state - now
            if owed > gcra.tolerance:
                return False
            until = seconds + (owed + 1) / gcra.hz
            _ONE.pack_into(memory, slot + 8 + (1 - which) * self._copy, until, amount, period, burst, 1.0, state)
            _WHICH.pack_into(memory, slot, 1 - which)
            _TIME.pack_into(memory, at, seconds)
            return True
        finally:
            self.locks.let_go(number)

    def change(self, limit: Limit) -> None:
        """Count by *limit* from now on; each key keeps its debt, in units, as it is when it is asked about next."""
        algorithm = algorithm_for(limit)
        room = (self._copy - _COPY.size) // 8
        if algorithm.width > room:
            raise ValueError(f"{self.path} has room for {room} entries a key, {limit.name!r} needs more")
        self.limit, self.algorithm = limit, algorithm
        self.stand_in.change(limit)
        self._figures = (float(limit.amount), limit.period, float(limit.burst))

    def close(self) -> None:
        """Close the file."""
        self._map.close()
        os.close(self._file)

    def _found(self) -> tuple[int, bool]:
        """Return the way of the locked key, and whether it is new there."""
        hashes = self._map[self._hashes : self._hashes + 16 * WAYS]
        place = hashes.find(self._digest)
        while place % 16 and place >= 0:
            place = hashes.find(self._digest, place + 1)
        if place >= 0:
            return place // 16, False
        first = self._hashes + 16 * WAYS
        for way in range(WAYS):
            if self._load(first + way * self._slot)[0] <= self._seconds:
                return way, True
        return WAYS, False

    def _load(self, at: int) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
        """Return expiry, figures and values of the slot at *at*."""
        place = at + 8 + self._map[at] * self._copy
        expiry, *figures, count = _COPY.unpack_from(self._map, place)
        return expiry, tuple(figures), struct.unpack_from(f"<{int(count)}d", self._map, place + _COPY.size)


@lru_cache(maxsize=4096)
def _hash(key: str) -> tuple[bytes, int]:
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return digest, int.from_bytes(digest, "little")


def _boot() -> bytes:
    """Return what is different after each start of the machine, where the system tells."""
    try:
        return bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip().replace("-", ""))
    except OSError:
        return bytes(16)
