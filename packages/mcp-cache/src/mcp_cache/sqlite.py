"""A store in one SQLite file: for one machine, outlives the process, needs nothing but the standard library.

All work is done in a worker thread, one call at a time, so that the event loop never waits for a disk. The file is in
WAL mode: what a call has returned from survives ``kill -9`` of the process (a loss of power may take the last moments).
Expired rows and, above *max_bytes*, those that end first are deleted as others come. The sum is kept in the file, by
triggers: so it is right whichever process writes, and whichever transaction is rolled back.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, cast

import anyio
from anyio import to_thread

from .store import By, Heard, Made, Stored

__all__ = ["SqliteStore"]

T = TypeVar("T")

SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    key TEXT PRIMARY KEY, payload BLOB NOT NULL, ends REAL NOT NULL, tags TEXT NOT NULL, size INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_end ON entries (ends);
CREATE TABLE IF NOT EXISTS tagged (tag TEXT, key TEXT, PRIMARY KEY (tag, key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_key ON tagged (key);
CREATE TABLE IF NOT EXISTS total (id INTEGER PRIMARY KEY, bytes INTEGER NOT NULL);
INSERT OR IGNORE INTO total SELECT 1, COALESCE(SUM(size), 0) FROM entries;
CREATE TRIGGER IF NOT EXISTS added AFTER INSERT ON entries BEGIN UPDATE total SET bytes = bytes + NEW.size; END;
CREATE TRIGGER IF NOT EXISTS removed AFTER DELETE ON entries BEGIN
    UPDATE total SET bytes = bytes - OLD.size;
    DELETE FROM tagged WHERE key = OLD.key;
END;
"""
FOREVER = 1e11  # seconds since 1970; the year 5138
SWEEP = 4  # rows that may be deleted for each one that comes


class SqliteStore:
    """Values in the file at *path*, of at most *max_bytes* of payload.

    Each process that uses the file computes for itself what no other has stored, and hears nothing of what others
    invalidate: for several that must agree, use Redis. *clock* tells the seconds since 1970, since monotonic clocks do
    not outlive a process. Methods raise ``sqlite3.Error``.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, max_bytes: int = 64 * 1024 * 1024, clock: Callable[[], float] = time.time
    ) -> None:
        if type(max_bytes) is not int or max_bytes < 1:
            raise ValueError(f"SqliteStore needs an int >= 1 as max_bytes, got {max_bytes!r}")
        self._path = os.fspath(path)
        self._max_bytes = max_bytes
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        self._turn = anyio.Lock()
        self._tick = 0
        self._invalidated: list[tuple[int, Callable[[str, tuple[str, ...]], bool]]] = []
        self._computing = 0

    async def load(self, key: str, compute: Callable[[], Awaitable[Made]]) -> Stored | None:
        """Return what is stored; else compute and store it, and return None."""
        (found,) = await self.read((key,))
        if found is not None:
            return found
        began = self._tick
        self._computing += 1
        try:
            made = await compute()
            if any(tick > began and hit(key, made.tags) for tick, hit in self._invalidated):
                return None if made.payload is None else Stored(made.payload, 0.0, made.tags)
            if made.payload is not None:
                await self._in_thread(self._insert, key, made)
        finally:
            self._computing -= 1
            if not self._computing:
                self._invalidated.clear()
        return None

    async def read(self, keys: Sequence[str]) -> list[Stored | None]:
        """Return what is stored under each of the *keys*."""
        return await self._in_thread(self._select, keys)

    async def write(self, key: str, made: Made) -> None:
        """Store a value."""
        self._note(lambda other, _: other == key)
        if made.payload is None:
            await self._in_thread(self._delete, [key])
        else:
            await self._in_thread(self._insert, key, made)

    async def invalidate(self, by: By, what: str | Callable[[str], bool]) -> None:
        """Delete by key, by tag, or by a function of the key."""
        if callable(what):
            match = what
            self._note(lambda key, _: match(key))
            await self._in_thread(self._delete_matching, match)
        elif by == "tag":
            self._note(lambda _, tags: what in tags)
            await self._in_thread(self._delete_tagged, what)
        else:
            self._note(lambda key, _: key == what)
            await self._in_thread(self._delete, [what])

    async def listen(self, heard: Heard) -> None:
        """Say that nothing will be missed: nobody else invalidates."""
        heard("ready", "")

    async def aclose(self) -> None:
        """Close the file; it is opened again when it is needed."""
        await self._in_thread(self._close)

    def _note(self, hit: Callable[[str, tuple[str, ...]], bool]) -> None:
        """Remember an invalidation for as long as something is being computed that it may concern."""
        self._tick += 1
        if self._computing:
            self._invalidated.append((self._tick, hit))

    async def _in_thread(self, fn: Callable[..., T], *args: Any) -> T:
        async with self._turn:
            return await to_thread.run_sync(fn, *args)

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = sqlite3.connect(self._path, check_same_thread=False)
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=NORMAL")
                connection.executescript(SCHEMA)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _select(self, keys: Sequence[str]) -> list[Stored | None]:
        now, connection = self._clock(), self._open()
        query = "SELECT payload, ends, tags FROM entries WHERE key = ? AND ends > ?"
        rows = [connection.execute(query, (key, now)).fetchone() for key in keys]
        return [row and _stored(row, now) for row in rows]

    def _insert(self, key: str, made: Made) -> None:
        payload, connection = cast("bytes", made.payload), self._open()
        ends = min(self._clock() + made.ttl, FOREVER)
        connection.execute("BEGIN IMMEDIATE")
        with connection:
            self._remove([key])
            row = (key, payload, ends, json.dumps(made.tags), len(payload) + len(key))
            connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?)", row)
            connection.executemany("INSERT OR IGNORE INTO tagged VALUES (?, ?)", [(tag, key) for tag in made.tags])
            self._make_room()

    def _make_room(self) -> None:
        """Delete a few rows that have expired, and as many as it takes of those that end first."""
        connection = self._open()
        query = "SELECT key FROM entries WHERE ends <= ? ORDER BY ends LIMIT ?"
        self._remove([key for (key,) in connection.execute(query, (self._clock(), SWEEP))])
        while connection.execute("SELECT bytes FROM total").fetchone()[0] > self._max_bytes:
            self._remove(connection.execute("SELECT key FROM entries ORDER BY ends LIMIT 1").fetchone())

    def _delete(self, keys: Sequence[str]) -> None:
        connection = self._open()
        connection.execute("BEGIN IMMEDIATE")
        with connection:
            self._remove(keys)

    def _delete_tagged(self, tag: str) -> None:
        self._delete(
            [key for (key,) in self._open().execute("SELECT key FROM tagged WHERE tag = ?", (tag,)).fetchall()]
        )

    def _delete_matching(self, match: Callable[[str], bool]) -> None:
        self._delete([key for (key,) in self._open().execute("SELECT key FROM entries").fetchall() if match(key)])

    def _remove(self, keys: Sequence[str]) -> None:
        self._open().executemany("DELETE FROM entries WHERE key = ?", [(key,) for key in keys])


def _stored(row: tuple[Any, Any, Any], now: float) -> Stored:
    payload, ends, tags = row
    try:
        return Stored(payload, math.inf if ends == FOREVER else ends - now, tuple(json.loads(tags)))
    except (TypeError, ValueError):  # written by somebody else
        return Stored(None, 0.0)
