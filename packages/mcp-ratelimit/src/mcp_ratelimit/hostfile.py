"""Share limits between the processes of one machine, without a server: a mapped file and the kernel's locks.

    file     header │ bucket │ bucket │ …
    bucket   latest time seen │ 16 hashes of keys │ 17 slots: one for each, and one for all who find the bucket full
    slot     which copy counts │ copy │ copy
    copy     expiry, the limit's figures, the state's values

A key belongs to one bucket, and whoever decides holds that bucket's lock (those of all limits, in one order).
The kernel frees a lock when its holder dies, at any point: a new state is written into the copy that does not count,
and then counts by one store of eight bytes.  What has expired is as good as empty, and its slot is used again.
While a lock cannot be had, because its holder was stopped, a stand-in decides about the keys of that bucket.

1. Over any number of processes a decision is what one process alone would have decided.
2. A process that is killed holding a lock blocks nobody, and leaves the state before or after its charge.
3. A key in debt never makes place for another.
4. A lock that a stopped process holds takes each process ``PATIENCE`` once, and no decision fails for it.

One thread of a process may use a store; its event loop's, that is.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from ._core import Table
from ._hosttable import WAYS, HostTable
from ._standins import OnStoreError, stand_in
from .decision import Key, StoreFailed, StoreRecovered, checked_key
from .limit import Limit, whole

__all__ = ["HostStore"]


class HostStore:
    """States in files under *folder*, shared by all processes of this machine that name the same folder.

    ``/dev/shm/NAME`` is the place on Linux: memory, and empty after a start of the machine, as the clock is.

    Args:
        folder: Where the files are, one for each limit, readable by this user alone; it is made if it is missing.
        keys: How many keys of one limit there is room for; a quarter of it in use is a good measure.
        on_full: What becomes of a new key whose bucket is full: ``"overflow"`` lets such keys share an allowance,
            ``"deny"`` refuses them until there is room again.
        on_store_error: What decides about a key whose lock another process, which was stopped, does not let go:
            ``"closed"`` refuses, so that never more passes than the limits say; ``"local"``, limits of this process at
            its share; ``"open"``, nothing, all passes.  Refunds and resets are lost meanwhile.
        workers: How many processes share the limits, for the share of one.
        on_event: Called with ``StoreFailed`` when a lock cannot be had, and with ``StoreRecovered`` at the first
            decision about any key of that limit once all locks can be had again.
        clock: Seconds that all processes agree on and that never step back, as ``time.monotonic`` does on one machine.
        wall_clock: Seconds since 1970, for ``fixed_window``.

    Raises ModuleNotFoundError on Windows, which has no such locks.
    """

    mark: str = "~"

    def __init__(
        self,
        folder: str | Path,
        *,
        keys: int = 65536,
        on_full: Literal["overflow", "deny"] = "overflow",
        on_store_error: OnStoreError = "closed",
        workers: int = 1,
        on_event: Callable[[StoreFailed | StoreRecovered], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        for name, value, choices in (
            ("on_full", on_full, ("overflow", "deny")),
            ("on_store_error", on_store_error, ("local", "open", "closed")),
        ):
            if value not in choices:
                raise ValueError(f"HostStore needs {name} to be one of {choices}, got {value!r}")
        for name, function in (("clock", clock), ("wall_clock", wall_clock)):
            if not callable(function):
                raise TypeError(f"HostStore needs {name} to be a function that returns seconds, got {function!r}")
        if on_event is not None and not callable(on_event):
            raise TypeError(f"HostStore needs on_event to be a function of the event, got {on_event!r}")
        self.folder: Path = Path(folder)
        self._buckets = -(-whole("HostStore", "keys", keys) // WAYS)
        self._policy: OnStoreError = on_store_error
        self._workers = whole("HostStore", "workers", workers)
        self._on_event = on_event
        self._failed_at: float | None = None
        self._deny = on_full == "deny"
        self._clocks = clock, wall_clock
        self._tables: dict[str, HostTable] = {}
        self._fcntl: Any = importlib.import_module("fcntl")
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def table(self, limit: Limit) -> HostTable:
        """Return the states of all keys under *limit*, from the file of its name and algorithm.

        Raises ValueError if that file has another size, or is no file of this kind.
        """
        if limit.name not in self._tables:
            path = self.folder / f"{quote(limit.name, safe='')}.{limit.algorithm}"
            clock = self._clocks[limit.algorithm == "fixed_window"]
            spare = stand_in(self._policy, limit, self._workers, clock)
            self._tables[limit.name] = HostTable(
                path, limit, self._buckets, clock, self._fcntl, stand_in=spare, deny=self._deny
            )
        table = self._tables[limit.name]
        if table.limit != limit:
            raise ValueError(f"this store has another limit named {limit.name!r}, {table.limit!r}; name one of them")
        return table

    def quickly(self, tables: Sequence[Any]) -> Callable[[Key], bool] | None:
        """Return the short way to charge one unit, where there is one; it may say no to what passes by the long way."""
        table = tables[0]
        if len(tables) > 1 or table.limit.algorithm not in ("gcra", "strict_gcra"):
            return None
        return lambda key: table.charge_one(*checked_key(key, tables, self.mark))

    @contextmanager
    def locked(self, tables: Sequence[HostTable], keys: tuple[str, ...]) -> Generator[list[Table], None, None]:
        """Hold the locks of all buckets that a decision reads; the same order everywhere, so nobody waits in a ring."""
        order = sorted(zip(tables, keys, strict=True), key=lambda pair: pair[0].path)
        held: list[HostTable] = []
        try:
            for table, key in order:
                if table.lock(key):
                    held.append(table)
            yield [table if table in held else table.stand_in for table in tables]
        finally:
            for table in reversed(held):
                table.unlock()
            if self._failed_at is not None or any(table.locks.stuck for table in tables):
                self._report()

    def close(self) -> None:
        """Close the files; what is in them stays."""
        for table in self._tables.values():
            table.close()
        self._tables.clear()

    def _report(self) -> None:
        """Tell when the first lock cannot be had, and when the last can be had again."""
        since = self._failed_at
        if since is None:
            self._failed_at = time.monotonic()
            self._tell(StoreFailed("TimeoutError"))
        elif not any(table.locks.are_stuck() for table in self._tables.values()):
            self._failed_at = None
            self._tell(StoreRecovered(time.monotonic() - since))

    def _tell(self, event: StoreFailed | StoreRecovered) -> None:
        if self._on_event is not None:
            self._on_event(event)
