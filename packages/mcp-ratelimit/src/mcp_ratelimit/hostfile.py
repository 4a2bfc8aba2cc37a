"""Share limits between the processes of one machine, without a server: a mapped file and the kernel's locks.

    file     header │ bucket │ bucket │ …
    bucket   latest time seen │ 16 hashes of keys │ 17 slots: one for each, and one for all who find the bucket full
    slot     which copy counts │ copy │ copy
    copy     expiry, the limit's figures, the state's values

A key belongs to one bucket, and whoever decides holds that bucket's lock (those of all limits, in one order).
The kernel frees a lock when its holder dies, at any point: a new state is written into the copy that does not count,
and then counts by one store of eight bytes.  What has expired is as good as empty, and its slot is used again.

1. Over any number of processes a decision is what one process alone would have decided.
2. A process that is killed holding a lock blocks nobody, and leaves the state before or after its charge.
3. A key in debt never makes place for another.
4. A lock that a stopped process holds is an error after ``PATIENCE``, not a hang.

One thread of a process may use a store; its event loop's, that is.
"""

from __future__ import annotations

import importlib
import mmap
import os
import struct
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from ._algorithms import Algorithm, algorithm_for
from ._core import KeysExhausted
from .limit import Limit, whole
from .memory import ROUND

__all__ = ["HostStore", "HostTable"]

WAYS = 16
PATIENCE = 1.0
"""Seconds; a decision holds a lock for some millionths of one."""
MAGIC = b"mcplimit"
_HEADER = struct.Struct("<8s2Q16s")  # MAGIC, buckets, width, the boot of the machine
_TIME = struct.Struct("<d")
_WHICH = struct.Struct("<Q")
_COPY = struct.Struct("<5d")  # expiry in seconds, amount, period, burst, number of values
_LOCKS = 1 << 40  # locks lie beyond the end of the file, where no byte is ever written
HEADER_SIZE = 64


class HostStore:
    """States in files under *folder*, shared by all processes of this machine that name the same folder.

    ``/dev/shm/NAME`` is the place on Linux: memory, and empty after a start of the machine, as the clock is.

    Args:
        folder: Where the files are, one for each limit, readable by this user alone; it is made if it is missing.
        keys: How many keys of one limit there is room for; a quarter of it in use is a good measure.
        on_full: What becomes of a new key whose bucket is full: ``"overflow"`` lets such keys share an allowance,
            ``"deny"`` refuses them until there is room again.
        clock: Seconds that all processes agree on and that never step back, as ``time.monotonic`` does on one machine.
        wall_clock: Seconds since 1970, for ``fixed_window``.

    Raises ModuleNotFoundError on Windows, which has no such locks.
    """

    mark = "~"

    def __init__(
        self,
        folder: str | Path,
        *,
        keys: int = 65536,
        on_full: Literal["overflow", "deny"] = "overflow",
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        if on_full not in ("overflow", "deny"):
            raise ValueError(f"HostStore needs on_full to be 'overflow' or 'deny', got {on_full!r}")
        self._folder = Path(folder)
        self._buckets = -(-whole("HostStore", "keys", keys) // WAYS)
        self._deny = on_full == "deny"
        self._clocks = clock, wall_clock
        self._tables: dict[str, HostTable] = {}
        self._fcntl: Any = importlib.import_module("fcntl")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def table(self, limit: Limit) -> HostTable:
        """Return the states of all keys under *limit*, from the file of its name and algorithm.

        Raises ValueError if that file has another size, or is no file of this kind.
        """
        if limit.name not in self._tables:
            path = self._folder / f"{quote(limit.name, safe='')}.{limit.algorithm}"
            clock = self._clocks[limit.algorithm == "fixed_window"]
            self._tables[limit.name] = HostTable(path, limit, self._buckets, clock, self._fcntl, deny=self._deny)
        table = self._tables[limit.name]
        if table.limit != limit:
            raise ValueError(f"this store has another limit named {limit.name!r}, {table.limit!r}; name one of them")
        return table

    @contextmanager
    def locked(self, tables: Sequence[HostTable], keys: tuple[str, ...]) -> Generator[None, None, None]:
        """Hold the locks of all buckets that a decision reads; the same order everywhere, so nobody waits in a ring."""
        order = sorted(zip(tables, keys, strict=True), key=lambda pair: pair[0].path)
        held: list[HostTable] = []
        try:
            for table, key in order:
                table.lock(key)
                held.append(table)
            yield
        finally:
            for table in reversed(held):
                table.unlock()

    def close(self) -> None:
        """Close the files; what is in them stays."""
        for table in self._tables.values():
            table.close()
        self._tables.clear()


class HostTable:
    """The states of the keys of one limit, in one file."""

    def __init__(
        self, path: Path, limit: Limit, buckets: int, clock: Callable[[], float], fcntl: Any, *, deny: bool
    ) -> None:
        self.path = path
        self.limit = limit
        self.algorithm: Algorithm = algorithm_for(limit)
        self._clock = clock
        self._fcntl = fcntl
        self._deny = deny
        self._figures = (float(limit.amount), limit.period, float(limit.burst))
        self._copy = _COPY.size + 8 * self.algorithm.width
        self._slot = 8 + 2 * self._copy
        self._bucket = 8 + 16 * WAYS + (WAYS + 1) * self._slot
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._buckets = buckets
        self._map = self._mapped(_HEADER.pack(MAGIC, buckets, self.algorithm.width, _boot()))

    def _mapped(self, header: bytes) -> mmap.mmap:
        size = HEADER_SIZE + self._buckets * self._bucket
        self._fcntl.lockf(self._file, self._fcntl.LOCK_EX, 1, _LOCKS - 1)
        try:
            found = os.pread(self._file, len(header), 0)
            if not found.strip(b"\0") or (found[:24] == header[:24] and found != header):  # new, or of an earlier boot
                os.ftruncate(self._file, 0)
                os.ftruncate(self._file, size)
                os.pwrite(self._file, header, 0)
            elif found != header:
                raise ValueError(f"{self.path} was made for other keys= or another amount; remove it or its folder")
        finally:
            self._fcntl.lockf(self._file, self._fcntl.LOCK_UN, 1, _LOCKS - 1)
        return mmap.mmap(self._file, size)

    def __len__(self) -> int:
        """Count the keys that are not idle; reads the whole file."""
        now = self._clock()
        slots = (HEADER_SIZE + n * self._bucket + 8 + 16 * WAYS for n in range(self._buckets))
        return sum(self._load(first + way * self._slot)[0] > now for first in slots for way in range(WAYS))

    def lock(self, key: str) -> None:
        """Take the lock of *key*'s bucket, and find its slot; TimeoutError if another process does not let go."""
        digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        self._number = int.from_bytes(digest, "little") % self._buckets
        self._wait_for_lock()
        at = HEADER_SIZE + self._number * self._bucket
        # The latest time that any process has seen counts for all, so that a clock which lags lets nothing more pass.
        self._seconds = max(self._clock(), *_TIME.unpack_from(self._map, at))
        _TIME.pack_into(self._map, at, self._seconds)
        self._hashes, self._digest = at + 8, digest
        self._way, self._is_new = self._found()
        self._at = at + 8 + 16 * WAYS + self._way * self._slot

    def unlock(self) -> None:
        """Let go of the lock."""
        self._fcntl.lockf(self._file, self._fcntl.LOCK_UN, 1, _LOCKS + self._number)

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

    def write(self, key: str, state: Any) -> None:  # noqa: ARG002
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

    def change(self, limit: Limit) -> None:
        """Count by *limit* from now on; each key keeps its debt, in units, as it is when it is asked about next."""
        algorithm = algorithm_for(limit)
        if algorithm.width > self.algorithm.width:
            raise ValueError(
                f"{self.path} has room for {self.algorithm.width} entries a key, {limit.name!r} needs more"
            )
        self.limit, self.algorithm = limit, algorithm
        self._figures = (float(limit.amount), limit.period, float(limit.burst))

    def close(self) -> None:
        """Close the file."""
        self._map.close()
        os.close(self._file)

    def _wait_for_lock(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self._fcntl.lockf(self._file, self._fcntl.LOCK_EX | self._fcntl.LOCK_NB, 1, _LOCKS + self._number)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"another process has held a lock of {self.path} for {PATIENCE} s") from None
                time.sleep(0)
            else:
                return

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


def _boot() -> bytes:
    """Return what is different after each start of the machine, where the system tells."""
    try:
        return bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip().replace("-", ""))
    except OSError:
        return bytes(16)
