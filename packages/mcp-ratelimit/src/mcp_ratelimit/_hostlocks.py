"""The locks of a host file's buckets: waited for a moment, and no more once that was in vain.

    try ──free──▶ held ──▶ let go
     └─busy─▶ try again, for PATIENCE at most ──free──▶ held
                 └─still busy─▶ stuck: one try for each decision from now on ──free──▶ held, and stuck no longer

The kernel frees the locks of a process that ends, so only one that is stopped, or gets no turn, holds one for long.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

__all__ = ["Locks"]

PATIENCE = 0.02
"""Seconds, during which the event loop stands still.

A decision holds a lock for some millionths of one; but the processor may be taken from it meanwhile, and with five busy
processes for each processor that was 5 ms or more once in 2500 decisions about one key, and 20 ms once in 25000.
"""
NAP = 0.0005
"""Seconds between two tries, once it has taken as long: by then the holder may need this processor to go on."""
_FIRST = 1 << 40  # beyond the end of the file, where no byte is ever written


class Locks:
    """The locks of one file, by number; *stuck* are those that could not be had when they were last tried."""

    def __init__(self, file: int, fcntl: Any) -> None:
        self._file = file
        self._fcntl = fcntl
        self._exclusive = fcntl.LOCK_EX | fcntl.LOCK_NB
        self._free = fcntl.LOCK_UN
        self.stuck: set[int] = set()

    def take(self, number: int) -> bool:
        """Take a lock, and say whether that went well; blocks for ``PATIENCE`` at most."""
        return self._tried(number) or self._waited_for(number)

    def let_go(self, number: int) -> None:
        """Let go of a lock."""
        self._fcntl.lockf(self._file, self._free, 1, _FIRST + number)

    @contextmanager
    def for_all(self) -> Generator[None, None, None]:
        """Hold the lock of the file itself, which is taken to set it up; waits as long as it takes."""
        self._fcntl.lockf(self._file, self._fcntl.LOCK_EX, 1, _FIRST - 1)
        try:
            yield
        finally:
            self.let_go(-1)

    def are_stuck(self) -> bool:
        """Try those that were stuck once more, and say whether any still is.  Only while none is held."""
        for number in tuple(self.stuck):
            if self._tried(number):
                self.let_go(number)
                self.stuck.remove(number)
        return bool(self.stuck)

    def _waited_for(self, number: int) -> bool:
        began = now = time.monotonic()
        while number not in self.stuck:
            time.sleep(NAP if now - began > NAP else 0)
            if self._tried(number):
                return True
            now = time.monotonic()
            if now - began > PATIENCE:
                self.stuck.add(number)
        return False

    def _tried(self, number: int) -> bool:
        try:
            self._fcntl.lockf(self._file, self._exclusive, 1, _FIRST + number)
        except BlockingIOError:
            return False
        return True
