"""The shared store, over a real server: one computation for all processes, and nothing that blocks or overwrites."""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
import os
import selectors
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import anyio
import pytest
from mcp_cache import PICKLE, Cache, CacheUnavailable, Computed, Invalidated, NotStored, StoreDown, StoreUp
from mcp_cache.redis import RedisStore
from mcp_cache.store import Made, Stored

from tests.cache.source import Source

redis = pytest.importorskip("redis.asyncio", reason="needs redis-py, the client of the store")
pytestmark = pytest.mark.parametrize("anyio_backend", ["uvloop"], indirect=True)  # real time, for a real server

WORKER = Path(__file__).with_name("worker.py")


@pytest.fixture
async def client(redis_server, anyio_backend):
    """A client of the empty server."""
    async with redis.Redis.from_url(redis_server.url) as client:
        yield client


def with_caches(test):
    """Hand *test* a function ``connect`` that makes a cache with a client of its own, as another process would have.

    Not a fixture: the tasks of opened caches end with the test, and before its guard looks for any that are left.
    """

    @functools.wraps(test)
    async def wrapper(redis_server, **arguments):
        async with AsyncExitStack() as stack:
            if "redis_server" in signature.parameters:
                arguments["redis_server"] = redis_server
            await test(connect=functools.partial(connect, redis_server, stack), **arguments)

    signature = inspect.signature(test)
    kept = [p for p in signature.parameters.values() if p.name not in ("connect", "redis_server")]
    own = inspect.Parameter("redis_server", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    wrapper.__signature__ = signature.replace(parameters=[own, *kept])
    return wrapper


async def connect(redis_server, stack, *, opened=True, lease=2.0, budget=5.0, **options):
    """Make a cache, and open it unless told otherwise; patient, since the machine may be busy."""
    client = redis.Redis.from_url(redis_server.url)
    stack.push_async_callback(client.aclose)
    cache = Cache(**{"ttl": 30, **options}, store=RedisStore(client, lease=lease, budget=budget))
    if opened:
        await stack.enter_async_context(cache)
        await is_listening(cache)
    return cache


async def is_listening(cache):
    """Wait up to 5 s until the opened *cache* hears what others invalidate."""
    with anyio.fail_after(5):
        while not cache._engine.remote.is_heard:
            await anyio.sleep(0.01)


async def eventually(check):
    """Wait up to 5 s until ``await check()`` is true."""
    with anyio.fail_after(5):
        while not await check():
            await anyio.sleep(0.01)


@with_caches
async def test_values_are_shared(connect):
    """What one has computed, the other finds; also without being opened, and in one round trip for many."""
    one, two, closed = await connect(), await connect(), await connect(opened=False)
    source = Source({"a": [1, None, "é"]})
    for cache in (one, two, closed, closed, one):
        assert await cache.get_or_compute(("key", 1), source) == source.value
    assert source.calls == 1
    await two.set_many({"b": 2, "c": 3})
    assert await closed.get_many(["b", "c", "d"]) == {"b": 2, "c": 3}
    assert await one.get("d", "absent") == "absent"


@pytest.mark.parametrize("opened", [True, False, "before"])
@with_caches
async def test_one_computation_for_two(redis_server, connect, opened):
    """The second waits for the first one's message: for no timer, and for no news of anything else."""
    one, two, other = [await connect(opened=opened is True and number < 2, lease=9.0) for number in range(3)]
    if opened == "before":
        for cache in (one, two):
            async with cache:
                await is_listening(cache)
    source = Source(seconds=0.3)
    before, began = commands(redis_server), time.monotonic()
    async with anyio.create_task_group() as tg:
        for cache in (one, two) * 5:
            tg.start_soon(cache.get_or_compute, "key", source)
        await anyio.sleep(0.1)
        await other.invalidate(tag='="key"')
    assert source.calls == 1
    assert time.monotonic() - began < 1.0
    # The news, and: acquire, commit; acquire, acquire again; unless subscribed, subscribe for the wait, is it leased?
    assert commands(redis_server) - before == 1 + (4 if opened is True else 6)


@pytest.mark.parametrize("how", ["delete", "tag", "glob", "where", "set"])
@with_caches
async def test_invalidation_reaches_other_processes(connect, how):
    """Within moments, and also what the other one has in its memory."""
    one, two = await connect(), await connect()
    for cache in (one, two):
        assert await cache.get_or_compute("user:1", Source("old"), tags=("user",)) == "old"
    assert two.explain("user:1").state == "fresh", "or nothing is tested"
    await {
        "delete": lambda: one.delete("user:1"),
        "tag": lambda: one.invalidate(tag="user"),
        "glob": lambda: one.invalidate(glob="user:*"),
        "where": lambda: one.invalidate(where=lambda key: key == "user:1"),
        "set": lambda: one.set("user:1", "new"),
    }[how]()
    assert await one.get_or_compute("user:1", Source("new")) == "new"
    began = time.monotonic()

    async def sees_the_new():
        return await two.get_or_compute("user:1", Source("other")) in ("new", "other")

    await eventually(sees_the_new)
    assert time.monotonic() - began < 0.5


@pytest.mark.parametrize("how", ["delete", "tag", "prefix"])
@with_caches
async def test_late_leader_overwrites_nothing(connect, how):
    """An invalidation by another process defeats a computation in flight: the commit is refused."""
    one, two = await connect(), await connect()
    old = Source("old", 0.3)

    async def change():
        await anyio.sleep(0.1)
        if how == "delete":
            await two.delete("key")
        else:
            await two.invalidate(**{how: "tag" if how == "tag" else "ke"})

    async with anyio.create_task_group() as tg:
        tg.start_soon(partial(one.get_or_compute, "key", old, tags=("tag",)))
        tg.start_soon(change)
    assert await two.get("key") is None
    assert await one.get_or_compute("key", Source("new")) == "new"


@with_caches
async def test_failing_leader_wakes_the_next(connect):
    """Another process's failure is not ours; we compute, at once."""
    one, two = await connect(), await connect()

    async def fail():
        await anyio.sleep(0.2)
        raise LookupError("no luck")

    async def lead():
        with pytest.raises(LookupError, match="no luck") as caught:
            await one.get_or_compute("key", fail)
        assert caught.value.__cause__ is caught.value.__context__ is None

    began = time.monotonic()
    async with anyio.create_task_group() as tg:
        tg.start_soon(lead)
        await anyio.sleep(0.1)
        assert await two.get_or_compute("key", Source("two")) == "two"
    assert time.monotonic() - began < 1


@with_caches
async def test_cancelled_leader_gives_its_lease_back(connect):
    """Nobody waits for the end of a lease that is known to be over."""
    one, two = await connect(), await connect()
    with anyio.move_on_after(0.1):
        await one.get_or_compute("key", Source(seconds=9))
    began = time.monotonic()
    assert await two.get_or_compute("key", Source("two")) == "two"
    assert time.monotonic() - began < 0.5


@with_caches
async def test_lease_is_renewed(connect):
    """A computation may take longer than a lease."""
    one, two = await connect(lease=0.3), await connect(lease=0.3)
    source = Source(seconds=1.0)
    async with anyio.create_task_group() as tg:
        tg.start_soon(one.get_or_compute, "key", source)
        tg.start_soon(two.get_or_compute, "key", source)
    assert source.calls == 1


class Workers:
    """Processes that share the server."""

    def __init__(self, server, count, *arguments):
        command = [sys.executable, str(WORKER), str(server.port), *map(str, arguments)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}  # where a vendored copy is found, too
        self.all = [subprocess.Popen(command, env=env, **pipes) for _ in range(count)]

    def __enter__(self):
        for worker in self.all:
            assert worker.stdout.readline() == "ready\n"
        for worker in self.all:
            self.go(worker)
        return self

    def __exit__(self, *_):
        for worker in self.all:
            worker.kill()
            worker.communicate()

    def go(self, worker):
        """Let it begin."""
        worker.stdin.write("\n")
        worker.stdin.flush()


@pytest.mark.uninstrumented
def test_one_computation_in_four_processes(redis_server, anyio_backend):
    """Four times 25 callers: one computation, no polling, at most four commands for each process that waits.

    Of its 25 callers one asks the server, and the others wait for that one.
    """
    before = commands(redis_server)
    with Workers(redis_server, 4, "key", 25, 1.0, 2.0) as workers:
        lines = [worker.stdout.read().splitlines() for worker in workers.all]
    assert sum(line.count("computing") for line in lines) == 1
    assert len({line[-1] for line in lines}) == 1
    of_the_leader = 4  # subscribe, acquire, renew once, commit
    assert commands(redis_server) - before - of_the_leader <= 4 * 3


def commands(redis_server):
    """Return how many scripts the server has run, and to how many channels it has had subscribers."""
    client = redis_sync(redis_server)
    stats = client.info("commandstats")
    client.close()
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("eval", "evalsha", "subscribe"))


def redis_sync(redis_server):
    """Return a blocking client."""
    from redis import Redis

    return Redis.from_url(redis_server.url)


@pytest.mark.uninstrumented
def test_killed_leader_is_replaced(redis_server, anyio_backend):
    """``kill -9``: another takes over within the lease and 0.2 s, and nobody loses its call."""
    lease = 1.0
    with Workers(redis_server, 1, "key", 1, 60, lease) as first:
        assert first.all[0].stdout.readline() == "computing\n"
        with Workers(redis_server, 3, "key", 25, 0.1, lease) as others:
            time.sleep(0.3)
            killed = time.monotonic()
            first.all[0].kill()
            with selectors.DefaultSelector() as selector:
                for worker in others.all:
                    selector.register(worker.stdout, selectors.EVENT_READ)
                assert selector.select(timeout=10)
            taken = time.monotonic() - killed
            lines = [worker.stdout.read().splitlines() for worker in others.all]
    assert sum(line.count("computing") for line in lines) == 1
    assert all(line[-1].startswith("got") for line in lines)
    assert taken < lease + 0.2


@with_caches
async def test_store_down_and_up_again(redis_server, connect):
    """The cache lives on its own memory, says so once each way, and makes up for what the store missed."""
    events = []
    one = await connect(on_event=events.append, retry_store_after=0.1)
    two = await connect(retry_store_after=0.1)
    source = Source()
    assert await one.get_or_compute("before", source, ttl=math.inf) == "value"
    redis_server.stop()
    for _ in range(3):
        assert await one.get_or_compute("during", source) == "value"
    assert source.calls == 2, "its own memory still serves"
    await one.set("set", 1)
    assert await one.get("set") == 1
    await one.invalidate(tag="tag")
    assert [type(event) for event in events].count(StoreDown) == 1
    redis_server.start()

    async def is_up():
        await one.get_or_compute(f"probe {time.monotonic()}", source)
        return StoreUp() in events

    await eventually(is_up)
    assert [type(event) for event in events].count(StoreDown) == 1

    async def is_shared():
        await one.set("after", "shared")
        return await two.get("after") == "shared"

    await eventually(is_shared)


@pytest.mark.parametrize("opened", [True, False])
@with_caches
async def test_store_that_hangs(redis_server, connect, opened):
    """It is down, like one that refuses: one call waits for its budget, and none longer; thawed, it is up again."""
    events = []
    cache = await connect(opened=opened, budget=0.25, on_event=events.append, retry_store_after=0.5)
    source, times = Source(), []

    async def timed(key):
        began = time.monotonic()
        assert await cache.get_or_compute(key, source) == "value"
        times.append(time.monotonic() - began)

    await timed("before")
    redis_server.freeze()
    try:
        for number in range(20):
            await timed(f"during {number}")
        assert [type(event) for event in events if not isinstance(event, Computed)] == [StoreDown]
        assert any(isinstance(event, StoreDown) and isinstance(event.error, TimeoutError) for event in events)
        assert max(times) < 1.0, "a budget of 0.25 s, on a busy machine"
        assert sorted(times)[10] < 0.02
    finally:
        redis_server.thaw()

    async def is_up():
        await cache.get(f"probe {time.monotonic()}")
        return isinstance(events[-1], StoreUp)

    await eventually(is_up)


@with_caches
async def test_store_that_hangs_while_a_value_is_computed(redis_server, connect):
    """Computing takes as long as it takes; the value is returned, and those who wait elsewhere go on, too."""
    one, two = await connect(lease=0.5, budget=0.25), await connect(opened=False, lease=0.5, budget=0.25)
    source, seconds = Source(seconds=0.6), []

    async def get(cache):
        began = time.monotonic()
        assert await cache.get_or_compute("key", source) == "value"
        seconds.append(time.monotonic() - began)

    try:
        async with anyio.create_task_group() as tg:
            tg.start_soon(get, one)
            await anyio.sleep(0.2)
            tg.start_soon(get, two)
            await anyio.sleep(0.1)
            redis_server.freeze()
    finally:
        redis_server.thaw()
    assert max(seconds) < 0.5 + 0.6 + 3 * 0.25 + 0.5, "lease, computation, budgets, and a busy machine"


@with_caches
async def test_store_down_denied(redis_server, connect):
    """For those who would rather not answer than compute everywhere."""
    cache = await connect(opened=False, on_store_error="deny")
    redis_server.stop()
    for _ in range(2):
        with pytest.raises(CacheUnavailable):
            await cache.get_or_compute("key", Source())
    redis_server.start()


@with_caches
async def test_corrupt_entry_is_a_miss_and_an_event(redis_server, connect):
    """Who can write to the server can write nonsense; it is computed anew, and repaired."""
    events = []
    one, two = await connect(on_event=events.append), await connect()
    await two.set("key", "value")
    client = redis_sync(redis_server)
    (name,) = client.keys("*v:*")
    client.hset(name, "p", b"\xff{")
    client.close()
    assert await one.get_or_compute("key", Source("new")) == "new"
    assert any(isinstance(event, NotStored) and "corrupt" in event.reason for event in events)

    async def is_repaired():
        return await two.get_or_compute("key", Source()) == "new"

    await eventually(is_repaired)


KEY = '{mcp-cache}:v:="key"'
CORRUPT = {
    "tags": lambda client: client.hset(KEY, "g", "nonsense"),
    "tags that are no list": lambda client: client.hset(KEY, "g", "5"),
    "tags that are no text": lambda client: client.hset(KEY, "g", b'["\xff"]'),
    "token": lambda client: client.hset(KEY, mapping={"t": "zz", "g": '["x"]'}) and client.set("{mcp-cache}:t:x", 5),
    "type": lambda client: client.delete(KEY) and client.set(KEY, "x"),
    "missing": lambda client: client.hdel(KEY, "p"),
}


@pytest.mark.parametrize("what", CORRUPT)
@pytest.mark.parametrize("how", ["get", "get_or_compute"])
@with_caches
async def test_corrupt_key_is_a_miss_and_no_outage(redis_server, connect, what, how):
    """Of that key alone: it is removed, and all others are there as before."""
    events = []
    cache = await connect(opened=False, on_event=events.append)
    await cache.set_many({"key": "old", "other": 1})
    client = redis_sync(redis_server)
    CORRUPT[what](client)
    if how == "get":
        assert await cache._engine.remote._store.read(['="key"']) == [Stored(None, 0.0)]
        assert await cache.get_many(["key", "other"]) == {"other": 1}
        assert not client.exists(KEY)
    assert await cache.get_or_compute("key", Source("new")) == "new"
    assert await cache.get_or_compute("key", Source()) == "new"
    assert await cache.get("other") == 1
    assert [type(event) for event in events if not isinstance(event, Computed)] == [NotStored]
    client.close()


@pytest.mark.parametrize(
    "nonsense", [lambda client, key: client.set(key, "x"), lambda client, key: client.lpush(key, 1)]
)
@pytest.mark.parametrize("name", ["t:tag", "l:key", "seq"])
@with_caches
async def test_nonsense_in_other_keys_is_mended(redis_server, connect, name, nonsense):
    """A tag that cannot be read counts as invalidated, a lease without an end as none; and counting goes on."""
    events = []
    cache = await connect(opened=False, on_event=events.append)
    await cache.set("key", "old", tags=("tag",))
    client = redis_sync(redis_server)
    at = '{mcp-cache}:l:="fresh"' if name == "l:key" else f"{{mcp-cache}}:{name}"
    client.delete(at)
    nonsense(client, at)
    assert await cache.get("key") == (None if name == "t:tag" else "old")
    for key in ("key", "fresh"):
        for _ in range(2):
            assert await cache.get_or_compute(key, Source(f"{key} anew"), tags=("tag",)) in ("old", f"{key} anew")
    await cache.invalidate(tag="tag")
    for key in ("key", "fresh"):
        assert await cache.get(key) is None
        assert await cache.get_or_compute(key, Source("newest"), tags=("tag",)) == "newest"
        assert await cache.get(key) == "newest"
    assert {type(event) for event in events} <= {Computed, Invalidated}
    assert all(client.pttl(name) > 0 for name in client.keys("*"))
    client.close()


@with_caches
async def test_value_that_cannot_be_serialized(connect):
    """Returned, not stored, an event; with another serializer, it can."""
    events = []
    cache = await connect(on_event=events.append)
    assert await cache.get_or_compute("key", Source({1, 2})) == {1, 2}
    assert [type(event) for event in events].count(NotStored) == 1
    one, two = await connect(serializer=PICKLE), await connect(serializer=PICKLE)
    await one.set("pickled", {1, 2})
    assert await two.get("pickled") == {1, 2}


@with_caches
async def test_every_key_has_an_end(redis_server, connect):
    """Nothing is left on the server for ever, whatever becomes of us."""
    cache = await connect()
    await cache.set("key", 1, ttl=math.inf, tags=("tag",))
    await cache.invalidate(tag="tag")
    await cache.get_or_compute("other", Source())
    client = redis_sync(redis_server)
    assert all(client.pttl(name) > 0 for name in client.keys("*"))
    assert all(name.startswith(b"{mcp-cache}:") for name in client.keys("*"))
    client.close()


async def test_named_stores_do_not_meet(redis_server, anyio_backend):
    """Two caches on one server; a name is no pattern, whatever is in it."""
    client = redis.Redis.from_url(redis_server.url)
    one, two = (RedisStore(client, prefix=prefix, budget=5.0) for prefix in ("X-[ray]*", "two"))
    await one.write("key", Made(b"x", 5.0))
    assert await two.read(["key"]) == [None]
    assert (await one.read(["key"]))[0].payload == b"x"
    await two.invalidate("match", lambda key: True)
    assert (await one.read(["key"]))[0].payload == b"x"
    await one.invalidate("match", lambda key: key == "key")
    assert await one.read(["key"]) == [None]
    await client.aclose()


@pytest.mark.parametrize("decode_responses", [False, True])
async def test_what_is_read_is_what_was_written(redis_server, anyio_backend, decode_responses):
    """Its time to the millisecond, whether the client hands over bytes or text; without an end, it is over at once."""
    client = redis.Redis.from_url(redis_server.url, decode_responses=decode_responses)
    store = RedisStore(client, budget=5.0)
    assert await store.load("key", lambda: made(math.inf)) is None
    for found in (await store.load("key", made), *await store.read(["key"])):
        assert (found.payload, found.tags) == (b"made", ("tag",))
        assert 86_395 < found.expires_in <= 86_400
    await client.persist("{mcp-cache}:v:key")
    assert await store.read(["key"]) == [Stored(b"made", 0.0, ("tag",))]
    await client.aclose()


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"lease": 0}, "0 < lease < inf, got 0"),
        ({"lease": True}, "0 < lease < inf, got True"),
        ({"lease": "2"}, "0 < lease < inf, got '2'"),
        ({"budget": -1}, "0 < budget < inf, got -1"),
        ({"max_ttl": math.inf}, "0 < max_ttl < inf, got inf"),
        ({"prefix": "a}b"}, "prefix to be a non-empty string without braces, got 'a}b'"),
        ({"prefix": ""}, "prefix to be a non-empty string without braces, got ''"),
        ({"prefix": 3}, "prefix to be a non-empty string without braces, got 3"),
    ],
)
def test_nonsense_is_refused(options, argument, anyio_backend):
    """At construction."""
    with pytest.raises(ValueError, match=f"^RedisStore needs {argument}$"):
        RedisStore(redis.Redis(), **options)


def test_client_that_is_none(anyio_backend):
    """Refused at construction, too: each call would only say that the store is down."""
    from redis import Redis

    for client in (None, "redis://localhost", redis.Redis, Redis()):
        with pytest.raises(TypeError, match=r"async client such as redis\.asyncio\.Redis\(\), got"):
            RedisStore(client)


@with_caches
async def test_decorated_function_with_any_json_argument(connect):
    """Another process finds what this one has computed, and clears it."""
    calls, functions = [], []
    for opened in (True, False):

        @await connect(opened=opened)
        async def fn(value, *, other=None):
            calls.append(value)
            return repr(value)

        functions.append(fn)
    one, two = functions
    arguments = [1, 1.0, True, "1", None, [1], (1,), {"a": [None]}, b"1"]
    for fn in functions:
        assert [await fn(value) for value in arguments] == list(map(repr, arguments))
    assert calls == arguments
    await two.invalidate([1])
    assert await two([1]) == "[1]"
    await one.clear()
    assert await two(1.0) == "1.0"
    assert calls[len(arguments) :] == [[1], 1.0]


@with_caches
async def test_set_of_what_cannot_be_serialized(connect):
    """The old value must not outlive it; keys that do not match stay."""
    one, two = await connect(opened=False), await connect(opened=False)
    await one.set_many({"key": 1, "other": 2})
    await one.set("key", {1, 2})
    assert await two.get_many(["key", "other"]) == {"other": 2}
    await two.invalidate(prefix="k")
    assert await one.get("other") == 2


async def made(ttl=5.0):
    """Compute for a store."""
    return Made(b"made", ttl, ("tag",))


async def test_lease_that_ends_before_the_subscription_begins(client, monkeypatch):
    """Nobody will send the message any more, so it is not waited for."""
    lease, subscriber = "{mcp-cache}:l:key", client.pubsub()
    subscribe = subscriber.subscribe

    async def late(channel):
        await client.delete(lease)
        await subscribe(channel)

    monkeypatch.setattr(subscriber, "subscribe", late)
    monkeypatch.setattr(client, "pubsub", lambda: subscriber)
    await client.set(lease, 1, px=60_000)
    with anyio.fail_after(5):
        assert await RedisStore(client).load("key", made) is None


@pytest.mark.parametrize("trouble", ["lost", "error"])
async def test_lease_that_cannot_be_renewed(client, monkeypatch, trouble):
    """The computation goes on. A lost lease is not renewed any more; its value is returned, and not stored."""
    lease = 0.3
    store = RedisStore(client, lease=lease)
    execute, asked, renewed = client.execute_command, [], anyio.Event()

    async def meddled(*args):
        asked.append(args[0])
        if len(asked) != 2:
            return await execute(*args)
        renewed.set()
        if trouble == "error":
            raise OSError("gone for a moment")
        await execute("DEL", "{mcp-cache}:l:key")
        return await execute(*args)

    async def compute():
        await renewed.wait()
        await anyio.sleep(lease)
        return await made()

    monkeypatch.setattr(client, "execute_command", meddled)
    overtaken = await store.load("key", compute)
    if trouble == "lost":
        assert overtaken == Stored(b"made", 0.0, ("tag",))
        assert asked == ["EVAL"] * 3, "acquire, renew, commit"
        assert await store.read(["key"]) == [None]
    else:
        assert overtaken is None
        assert (await store.read(["key"]))[0].payload == b"made", "it was renewed the next time"


@pytest.mark.parametrize(("error", "expected"), [(None, asyncio.CancelledError), (KeyError("own"), KeyError)])
async def test_lease_that_cannot_be_given_back(client, monkeypatch, error, expected):
    """The store fails when it is told that nothing came of it: what did happen comes out, and nothing is repeated."""
    execute, calls = client.execute_command, []

    async def failing(*args):
        if calls:
            raise OSError("gone")
        return await execute(*args)

    async def compute():
        calls.append(1)
        if error is not None:
            raise error
        await anyio.sleep_forever()

    async def has_begun():
        return bool(calls)

    monkeypatch.setattr(client, "execute_command", failing)
    task = asyncio.create_task(Cache(store=RedisStore(client)).get_or_compute("key", compute))
    await eventually(has_begun)
    if error is None:
        task.cancel()  # asyncio's own cancellation comes once: whoever replaces it loses it
    with pytest.raises(expected):
        await task
    assert calls == [1]


async def test_two_caches_on_one_store(client):
    """They wait for each other as processes do."""
    store, found = RedisStore(client), []

    async def compute():
        with anyio.fail_after(5):
            while len(store._waiting['="key"']) < 2:
                await anyio.sleep(0.01)
        return len(found)

    async def call():
        found.append(await Cache(store=store).get_or_compute("key", compute))

    async with anyio.create_task_group() as tg:
        tg.start_soon(call)
        tg.start_soon(call)
    assert found == [0, 0]
    assert not store._waiting


async def test_messages_that_are_no_news(client, monkeypatch):
    """A client may answer with nothing, or with what its checks of the connection got; a key may have spaces in it."""
    store, subscriber, noise, heard = RedisStore(client), client.pubsub(), [None, {"type": "pong"}], []
    get_message = subscriber.get_message

    async def noisy(timeout):  # noqa: ASYNC109  # the client's signature
        return noise.pop() if noise else await get_message(timeout=timeout)

    async def has_heard(news):
        return news in heard

    monkeypatch.setattr(subscriber, "get_message", noisy)
    monkeypatch.setattr(client, "pubsub", lambda: subscriber)
    async with anyio.create_task_group() as tg:
        tg.start_soon(store.listen, lambda *news: heard.append(news))
        await eventually(partial(has_heard, ("ready", "")))
        await store.invalidate("key", "its own")
        await RedisStore(client).invalidate("key", "a key")
        await RedisStore(client).invalidate("tag", " a tag ")
        await eventually(partial(has_heard, ("tag", " a tag ")))
        tg.cancel_scope.cancel()
    assert heard == [("ready", ""), ("key", "a key"), ("tag", " a tag ")]
    noise += [None, {"type": "pong"}]
    await client.set("{mcp-cache}:l:key", 1, px=100)
    assert await RedisStore(client).load("key", made) is None
    assert not noise


async def test_news_on_the_channel(client):
    """Kind, origin, and what it is about: processes of another version may read it."""
    store, subscriber, news = RedisStore(client), client.pubsub(), []
    await subscriber.subscribe("{mcp-cache}:news")
    await subscriber.get_message(timeout=5)
    await store.load("key", made)
    await store.write("a key", await made())
    await store.write("key", Made(None, 0.0))
    await store.invalidate("tag", "a tag")
    while len(news) < 4:
        news.append((await subscriber.get_message(timeout=5))["data"].decode().split(" ", 2))
    await subscriber.aclose()
    about = [("done", "key"), ("key", "a key"), ("key", "key"), ("tag", "a tag")]
    assert news == [[kind, store._origin, what] for kind, what in about]


async def test_slow_client_gives_the_lease_of_a_cancelled_leader_back(client, monkeypatch):
    """However long that takes; and nothing is stored by it."""
    execute = client.execute_command

    async def slow(*args):
        await anyio.sleep(0.05)
        return await execute(*args)

    monkeypatch.setattr(client, "execute_command", slow)
    with anyio.move_on_after(0.2):
        await RedisStore(client).load("key", anyio.sleep_forever)
    assert await execute("KEYS", "*") == [b"{mcp-cache}:seq"]


async def test_what_a_leader_raises_is_raised_by_the_store(client):
    """The same object, outside of any group, and the lease is given back."""
    error = LookupError("no luck")

    async def fail():
        raise error

    with pytest.raises(LookupError) as caught:
        await RedisStore(client).load("key", fail)
    assert caught.value is error
    assert await client.execute_command("KEYS", "*") == [b"{mcp-cache}:seq"]


async def test_looking_through_all_keys_takes_several_steps(client, monkeypatch):
    """None is passed over, and none that does not match is taken."""
    monkeypatch.setattr("mcp_cache.redis.BATCH", 2)
    store, keys = RedisStore(client), [f"{word}{number}" for word in ("old", "new") for number in range(20)]
    for key in keys:
        await store.write(key, await made())
    await store.invalidate("match", lambda key: key.startswith("old"))
    assert [stored is not None for stored in await store.read(keys)] == [False] * 20 + [True] * 20
