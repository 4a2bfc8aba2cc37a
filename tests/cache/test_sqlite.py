"""The store in a file: survives the process, whatever ends it, and stays within its size."""

from __future__ import annotations

import math
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from functools import partial

import anyio
import pytest
from mcp_cache import Cache, NotStored, StoreDown
from mcp_cache.sqlite import SqliteStore
from mcp_cache.store import Made

from tests.cache.source import Source

WRITER = """
import anyio, os, signal, sys
from mcp_cache import Cache
from mcp_cache.sqlite import SqliteStore

async def main():
    cache = Cache(store=SqliteStore(sys.argv[1]))
    for number in range(20):
        await cache.set(f"key:{number}", number, ttl=1000)
    os.kill(os.getpid(), signal.SIGKILL)

anyio.run(main)
"""


async def test_values_outlive_the_cache(tmp_path):
    """A second cache on the same file computes nothing."""
    source = Source({"a": [1, None]})
    for _ in range(2):
        store = SqliteStore(tmp_path / "cache.db")
        async with Cache(ttl=60, store=store) as cache:
            await cache.set_many({"b": 1, "c": 2})
            for _ in range(2):
                assert await cache.get_or_compute("key", source, tags=("tag",)) == source.value
                assert await cache.get_many(["b", "c", "d"]) == {"b": 1, "c": 2}
        await store.aclose()
        await store.aclose()
    assert source.calls == 1


@pytest.mark.uninstrumented
def test_survives_kill_9(tmp_path):
    """What a call has returned from is there, and the file is sound."""
    path = tmp_path / "cache.db"
    done = subprocess.run([sys.executable, "-c", WRITER, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL

    async def look():
        store = SqliteStore(path)
        found = await Cache(store=store).get_many([f"key:{number}" for number in range(20)])
        await store.aclose()
        return found

    assert anyio.run(look) == {f"key:{number}": number for number in range(20)}
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


async def test_time_and_tags(tmp_path):
    """TTLs go on while the process does not; a tag reaches every member."""
    now = 1000.0
    store = SqliteStore(tmp_path / "cache.db", clock=lambda: now)
    cache = Cache(store=store)
    await cache.set("short", 1, ttl=10, tags=("a", "b"))
    await cache.set("long", 2, tags=("a",))
    await cache.set("free", 3)
    now += 10
    assert await cache.get_many(["short", "long", "free"]) == {"long": 2, "free": 3}
    assert (await store.read(['="long"']))[0].expires_in == math.inf
    await cache.invalidate(tag="a")
    assert await cache.get_many(["short", "long", "free"]) == {"free": 3}
    await cache.delete("free")
    assert await cache.get("free") is None
    await store.aclose()


def stored_bytes(path):
    """What the rows of the file at *path* take."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT COALESCE(SUM(size), 0) FROM entries").fetchone()[0]


async def test_size_is_bounded_for_all_who_write(tmp_path):
    """Two on one file keep its bound together, and what the one deletes is room for the other."""
    path = tmp_path / "cache.db"
    one, other = (SqliteStore(path, max_bytes=1000) for _ in range(2))
    for number in range(8):
        await one.write(f"a{number}", Made(b"x" * 100, 60))
        await other.write(f"b{number}", Made(b"x" * 100, 60))
        assert stored_bytes(path) <= 1000
    await other.invalidate("match", lambda _: True)
    for number in range(9):
        await one.write(f"c{number}", Made(b"x" * 100, 60))
    assert stored_bytes(path) == 9 * 102
    for store in (one, other):
        await store.aclose()


async def test_write_that_fails_changes_nothing(tmp_path):
    """Neither the rows nor their sum: a full disk must not make the file seem to have more room, or less."""
    path = tmp_path / "cache.db"
    store = SqliteStore(path, max_bytes=1000)
    await store.write("key", Made(b"x" * 100, 60))
    for _ in range(12):
        with pytest.raises(sqlite3.Error):
            await store.write("key", Made({"no": "bytes"}, 60))  # found out after the old row was removed
    assert (await store.read(["key"]))[0].payload == b"x" * 100
    await store.write("other", Made(b"x" * 895, 60))
    assert stored_bytes(path) == 900, "the two together would be 1003"
    await store.aclose()


async def test_size_is_bounded(tmp_path):
    """Expired rows go first, a few for each that comes; then those that end first."""
    now = 1000.0
    store = SqliteStore(tmp_path / "cache.db", max_bytes=10_000, clock=lambda: now)
    for number in range(100):
        await store.write(f"expired:{number}", Made(b"x" * 50, 1.0, ("tag",)))
    now += 2
    for number in range(200):
        await store.write(f"key:{number}", Made(b"x" * 100, 100.0 + number))
        assert stored_bytes(tmp_path / "cache.db") <= 10_000
    found = await store.read([f"key:{number}" for number in range(200)])
    kept = [number for number, stored in enumerate(found) if stored]
    assert kept == list(range(200 - len(kept), 200))
    assert len(kept) > 80
    await store.aclose()
    with sqlite3.connect(tmp_path / "cache.db") as connection:
        assert connection.execute("SELECT COUNT(*), SUM(size) - bytes FROM entries, total").fetchone() == (len(kept), 0)
        assert connection.execute("SELECT COUNT(*) FROM tagged").fetchone() == (0,)
    connection.close()


@pytest.mark.parametrize("how", ["delete", "tag", "prefix", "set", "unstorable", None])
async def test_invalidation_defeats_what_is_being_computed(tmp_path, how):
    """As in process: what began before is not stored after."""
    store = SqliteStore(tmp_path / "cache.db")
    cache, source = Cache(store=store), Source("old", 0.5)

    async def change():
        while not source.calls:
            await anyio.sleep(0.001)
        await {
            "delete": lambda: cache.delete("key"),
            "tag": lambda: cache.invalidate(tag="tag"),
            "prefix": lambda: cache.invalidate(prefix="k"),
            "set": lambda: cache.set("key", "new"),
            "unstorable": lambda: cache.set("key", {1}),
            None: lambda: cache.delete("other"),
        }[how]()

    async with anyio.create_task_group() as tg:
        tg.start_soon(partial(cache.get_or_compute, "key", source, tags=("tag",)))
        tg.start_soon(change)
    assert await cache.get("key") == {"set": "new", None: "old"}.get(how)
    assert store._invalidated == []
    await store.aclose()


@pytest.mark.parametrize("row", ["tags = 'nonsense'", "tags = '5'", "ends = 'never'"])
async def test_corrupt_row_is_a_miss_and_no_outage(tmp_path, row):
    """Of that row alone: it is removed, and all others are there as before."""
    events, path = [], tmp_path / "cache.db"
    store = SqliteStore(path)
    cache = Cache(store=store, on_event=events.append)
    await cache.set("key", "old", ttl=60, tags=("tag",))
    await cache.set("other", 1, ttl=60, tags=("tag",))
    for _ in range(2):
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(f"UPDATE entries SET {row} WHERE key = '=\"key\"'")
        assert await cache.get_many(["key", "other"]) == {"other": 1}
        assert await cache.get_or_compute("key", Source("new"), tags=("tag",)) == "new"
        assert await cache.get("key") == "new"
    assert [type(event) for event in events].count(NotStored) == 2
    assert not any(isinstance(event, StoreDown) for event in events)
    await cache.invalidate(tag="tag")
    assert await cache.get_many(["key", "other"]) == {}
    await store.aclose()


async def test_file_that_is_none(tmp_path):
    """The store fails, the cache does not."""
    events = []
    (tmp_path / "cache.db").write_bytes(b"no database" * 100)
    cache = Cache(store=SqliteStore(tmp_path / "cache.db"), on_event=events.append)
    source = Source()
    assert [await cache.get_or_compute("key", source) for _ in range(3)] == ["value"] * 3
    assert source.calls == 1
    assert [type(event) for event in events].count(StoreDown) == 1


@pytest.mark.parametrize("max_bytes", [0, -1, True, 1.5])
def test_nonsense_is_refused(tmp_path, max_bytes):
    """At construction."""
    with pytest.raises(ValueError, match="max_bytes"):
        SqliteStore(tmp_path / "x", max_bytes=max_bytes)


async def test_values_that_cannot_be_stored(tmp_path):
    """Returned, and nothing is written; two at once, and the record of invalidations goes with the last."""
    store = SqliteStore(tmp_path / "cache.db")
    cache = Cache(store=store)
    async with anyio.create_task_group() as tg:
        tg.start_soon(cache.get_or_compute, "a", Source({1}, 0.1))
        tg.start_soon(cache.get_or_compute, "b", Source({1}, 0.5))
    assert await cache.get_many(["a", "b"]) == {}
    await store.aclose()
