"""The store in a file: survives the process, whatever ends it, and stays within its size."""

from __future__ import annotations

import math
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from functools import partial
from threading import Event

import anyio
import pytest
from anyio import to_thread
from mcp_cache import Cache, NotStored, StoreDown
from mcp_cache.sqlite import SqliteStore
from mcp_cache.store import Made, Stored

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
        assert [path.name for path in tmp_path.iterdir()] == ["cache.db"], "closed, it needs no log beside it"
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
    now += 4
    assert await store.read(['="short"', '="none"']) == [Stored(b"1", 6.0, ("a", "b")), None]
    now += 6
    assert await cache.get_many(["short", "long", "free"]) == {"long": 2, "free": 3}
    assert await store.read(['="long"']) == [Stored(b"2", math.inf, ("a",))]
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
    one, other = (SqliteStore(path, max_bytes=9 * 102) for _ in range(2))
    for number in range(8):
        await one.write(f"a{number}", Made(b"x" * 100, 60))
        await other.write(f"b{number}", Made(b"x" * 100, 60))
        assert stored_bytes(path) <= 9 * 102
    await other.invalidate("match", lambda _: True)
    for number in range(10):
        await one.write(f"c{number}", Made(b"x" * 100, 60))
    assert stored_bytes(path) == 9 * 102, "full to the last byte"
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


@pytest.mark.parametrize("payload", [b"x", None])
@pytest.mark.parametrize(
    ("by", "what", "left"),
    [
        ("key", "key", {"other"}),
        ("tag", "tag", {"other"}),
        ("match", lambda key: key == "key", {"other"}),
        ("key", "other", {"key"}),
        ("tag", "none", {"key", "other"}),
        ("match", lambda key: key == "other", {"key"}),
    ],
)
async def test_what_was_overtaken_comes_back_with_no_seconds_left(tmp_path, payload, by, what, left):
    """And only that: what nothing has happened to is stored, if it is to be."""
    store = SqliteStore(tmp_path / "cache.db")
    await store.write("other", Made(b"other", 60))

    async def compute():
        await store.invalidate(by, what)
        return Made(payload, 60, ("tag",))

    overtaken = payload is not None and "key" not in left
    assert await store.load("key", compute) == (Stored(payload, 0.0, ("tag",)) if overtaken else None)
    found = dict(zip(("key", "other"), await store.read(["key", "other"]), strict=True))
    assert {key for key, stored in found.items() if stored} == (left if payload else left - {"key"})
    await store.aclose()


async def test_invalidations_are_remembered_for_as_long_as_anybody_computes(tmp_path):
    """They concern those who began before, and not those who began after; whoever is ready first."""
    store = SqliteStore(tmp_path / "cache.db")

    async def compute(*invalidated):
        for key in invalidated:
            await store.invalidate("key", key)
        return Made(b"x", 60)

    async def first():
        made = await compute("first", "second")
        assert await store.load("second", compute) is None
        assert await store.load("third", partial(compute, "third")) == Stored(b"x", 0.0)
        return made

    assert await store.load("first", first) == Stored(b"x", 0.0)
    assert store._invalidated == []
    await store.aclose()


async def test_any_thread_may_do_the_work(tmp_path):
    """The one that did it before may be busy with something else."""
    store, begun, done = SqliteStore(tmp_path / "cache.db"), Event(), Event()
    await store.write("key", Made(b"x", 60))

    def work():
        begun.set()
        assert done.wait(5)

    async with anyio.create_task_group() as tg:
        tg.start_soon(to_thread.run_sync, work)
        while not begun.is_set():
            await anyio.sleep(0.001)
        try:
            assert (await store.read(["key"]))[0].payload == b"x"
        finally:
            done.set()
    await store.aclose()


async def test_nobody_else_invalidates(tmp_path):
    """So what an opened cache keeps in process is never out of date."""
    heard = []
    await SqliteStore(tmp_path / "cache.db").listen(lambda *news: heard.append(news))
    assert heard == [("ready", "")]


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
        assert await store.read(['="key"']) == [Stored(None, 0.0)]
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
    with pytest.raises(ValueError, match=rf"^SqliteStore needs an int >= 1 as max_bytes, got {max_bytes}$"):
        SqliteStore(tmp_path / "x", max_bytes=max_bytes)
    SqliteStore(tmp_path / "x", max_bytes=1)


async def test_values_that_cannot_be_stored(tmp_path):
    """Returned, and nothing is written; an older value is removed."""
    store = SqliteStore(tmp_path / "cache.db")
    cache = Cache(store=store)
    assert await cache.get_or_compute("key", Source({1})) == {1}
    assert await cache.get("key") is None
    await store.write("key", Made(b"old", 60))
    await store.write("key", Made(None, 0.0))
    assert await store.read(["key"]) == [None]
    await store.aclose()
