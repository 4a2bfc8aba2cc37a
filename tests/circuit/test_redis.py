"""The shared state in a real server: against the store in memory, from several processes, and when the server goes."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import anyio
import pytest
import redis
import redis.asyncio
from hypothesis import given
from hypothesis import strategies as st
from mcp_circuit import (
    CircuitBreaker,
    CircuitOpen,
    MemoryStore,
    Probe,
    SharedCircuitBreaker,
    State,
    StoreBack,
    StoreLost,
    Terms,
    consecutive,
)
from mcp_circuit.redis import RedisStore

in_real_time = pytest.mark.parametrize("anyio_backend", ["uvloop"], indirect=True)

TERMS = Terms(probe_concurrency=2, probe_max_wait=80.0, successes_needed=2, failures_allowed=1)
LONG, SHORT = 1000.0, 30.0
AGE = """
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HINCRBY', KEYS[1], 'until', -ARGV[1]) end
for _, lease in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do redis.call('ZINCRBY', KEYS[2], -ARGV[1], lease) end
"""


@pytest.fixture
async def client(redis_server):
    """A client of the empty server."""
    async with redis.asyncio.Redis.from_url(redis_server.url, socket_timeout=1) as client:
        yield client


async def age(client, seconds, key="{mcp-circuit:db}"):
    """Make what is stored older, since a server's clock cannot be set."""
    await client.eval(AGE, 2, key, f"{key}:leases", int(seconds * 1000))


operations = st.one_of(
    st.tuples(st.just("admit"), st.sampled_from("abc")),
    st.tuples(st.just("trip"), st.sampled_from(["era", "old"]), st.sampled_from([LONG, SHORT])),
    st.tuples(
        st.just("settle"),
        st.sampled_from(["era", "old"]),
        st.sampled_from("abc"),
        st.sampled_from(["success", "failure", "ignored"]),
        st.sampled_from([LONG, SHORT]),
    ),
    st.tuples(st.just("age"), st.sampled_from([50, 100])),
)
OPENING = [("trip", "era", SHORT), ("age", 50)]


@in_real_time
@given(st.lists(operations, min_size=1, max_size=12), st.booleans())
async def test_script_does_what_the_memory_store_does(client, steps, is_open):
    """One operation after the other, compared in everything but the numbers of the eras."""
    await client.flushall()
    now = 0.0
    stores = [RedisStore(client), MemoryStore(clock=lambda: now)]
    eras = [0, 0]
    for number, (operation, *details) in enumerate([*OPENING, *steps] if is_open else steps):
        if operation == "age":
            await age(client, *details)
            now += details[0]
            continue
        replies = []
        for place, store in enumerate(stores):
            era = eras[place] - (details[0] == "old")
            if operation == "admit":
                reply = await store.admit("db", TERMS, details[0])
            elif operation == "trip":
                reply = await store.trip("db", TERMS, era, details[1], number)
            else:
                reply = await store.settle("db", TERMS, Probe(era, *details[1:], number))
            replies.append((*reply[3:], reply.state, reply.era != eras[place], pytest.approx(reply.wait, abs=5)))
            eras[place] = reply.era
        assert replies[0] == replies[1]


@in_real_time
async def test_one_round(client):
    """The example of the property: it opens, lends two places, and closes after two successes."""
    store = RedisStore(client)
    opened = await store.trip("db", TERMS, 0, SHORT, 1)
    assert (opened.state, opened.reopens, opened.leased) == (State.OPEN, 1, False)
    assert 0 < opened.wait <= SHORT
    await age(client, SHORT)
    leases = [await store.admit("db", TERMS, lease) for lease in "abc"]
    assert [reply.leased for reply in leases] == [True, True, False]
    era = leases[0].era
    assert era > opened.era
    settled = [await store.settle("db", TERMS, Probe(era, lease, "success", LONG, 2)) for lease in "aab"]
    assert [reply.state for reply in settled] == [State.HALF_OPEN, State.HALF_OPEN, State.CLOSED]


@in_real_time
async def test_each_operation_is_one_round_trip(client):
    """Once the server knows the script."""
    store = RedisStore(client)
    await store.admit("db", TERMS, "a")
    before = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"]
    for _ in range(10):
        await store.admit("db", TERMS, "a")
    stats = await client.info("commandstats")
    assert stats["cmdstat_evalsha"]["calls"] == before + 10
    assert "cmdstat_get" not in stats


@in_real_time
async def test_keys_expire_and_share_a_slot(client):
    """An abandoned breaker leaves nothing behind; a cluster runs a script on keys of one slot only."""
    store = RedisStore(client, prefix="p", ttl=90)
    await store.trip("db", TERMS, 0, SHORT, 1)
    await age(client, SHORT, "{p:db}")
    await store.admit("db", TERMS, "a")
    keys = [key.decode() for key in await client.keys()]
    assert sorted(keys) == ["{p:db}", "{p:db}:leases"]
    assert all([80_000 < await client.pttl(key) <= 90_000 for key in keys])


@in_real_time
@pytest.mark.parametrize(("ttl", "probe_max_wait", "expected"), [(1, 1.0, 60), (1, 90.0, 90), (120, 1.0, 120)])
async def test_no_key_expires_too_soon(client, ttl, probe_max_wait, expected):
    """A circuit whose key is gone is closed, and so it must stay for the cooldown, and longer than any lease."""
    await RedisStore(client, ttl=ttl).trip("db", TERMS._replace(probe_max_wait=probe_max_wait), 0, 60.0, 1)
    assert expected - 5 < await client.ttl("{mcp-circuit:db}") <= expected


@in_real_time
async def test_looking_writes_nothing(client):
    """A healthy breaker costs the server no memory."""
    await RedisStore(client).admit("db", TERMS, "a")
    assert await client.dbsize() == 0


@in_real_time
async def test_script_is_loaded_again_after_a_flush(client, redis_server):
    """Others may flush the scripts of a server, and a restarted one knows none."""
    store = RedisStore(client)
    await store.trip("db", TERMS, 0, LONG, 1)
    redis_server.command("SCRIPT FLUSH")
    assert (await store.admit("db", TERMS, "a")).state is State.OPEN


@in_real_time
async def test_other_errors_of_the_server_come_out(client):
    """The breaker decides what to do about them."""
    await client.set("{mcp-circuit:db}", "not a hash")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        await RedisStore(client).admit("db", TERMS, "a")


@in_real_time
async def test_era_never_comes_again(client):
    """A vote for an era before the keys were lost must not count in one after."""
    store = RedisStore(client)
    first = await store.trip("db", TERMS, 0, LONG, 1)
    await client.flushall()
    second = await store.trip("db", TERMS, 0, LONG, 1)
    assert second.era > first.era


@pytest.mark.parametrize(
    ("anyio_backend", "library"),
    [("uvloop", "redis.asyncio"), ("uvloop", "coredis"), ("trio", "coredis")],
    indirect=["anyio_backend"],
)
async def test_every_client_that_users_bring(anyio_backend, redis_server, library):
    """Its own object, used as it is: all operations, and a script that the server has lost."""
    async with importlib.import_module(library).Redis(host=redis_server.host, port=redis_server.port) as client:
        store = RedisStore(client)
        opened = await store.trip("db", TERMS, 0, 0.001, 1)
        while not (probe := await store.admit("db", TERMS, "a")).leased:
            assert probe.state is State.OPEN
        redis_server.command("SCRIPT FLUSH")
        settled = await store.settle("db", TERMS._replace(successes_needed=1), Probe(probe.era, "a", "success", 1.0, 2))
        assert (opened.state, settled.state) == (State.OPEN, State.CLOSED)
        breaker = SharedCircuitBreaker(CircuitBreaker(name="db", trip=consecutive(1)), store)
        assert await end(breaker, ConnectionError()) == "failed"
        assert (await store.admit("db", TERMS, "b")).state is State.OPEN


PROGRAM = """
import random, sys, anyio, redis.asyncio
from mcp_circuit import *
from mcp_circuit.redis import RedisStore

COUNT = '''
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('RPUSH', 'seen', redis.call('ZCARD', KEYS[1]))
'''

async def main(url):
    client = redis.asyncio.Redis.from_url(url)
    probing = dict(probes=2, probe_concurrency=2, probe_max_wait=2)
    local = CircuitBreaker(name="db", trip=consecutive(3), cooldown=0.02, **probing)
    breaker = SharedCircuitBreaker(local, RedisStore(client), refresh=0.01)

    async def service():
        call, era = str(random.random()), f"era {breaker.core._era}"
        if breaker.state is not State.CLOSED:
            await client.eval(COUNT, 1, era, call)
        await anyio.sleep(random.random() * 0.01)
        await client.zrem(era, call)
        if random.random() < float(await client.get("rate")):
            raise ConnectionError

    async def caller():
        while not (await client.exists("stop") and breaker.state is State.CLOSED):
            try:
                await breaker.call(service)
            except (CircuitOpen, ConnectionError):
                pass
            await anyio.sleep(random.random() * 0.005)

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(caller)
    await client.aclose()

anyio.run(main, sys.argv[1])
"""


@contextmanager
def running(url, count):
    """Run PROGRAM in so many processes."""
    processes = [subprocess.Popen([sys.executable, "-c", PROGRAM, url]) for _ in range(count)]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.mark.uninstrumented
@in_real_time
async def test_several_processes_admit_no_probe_too_many(client, redis_server):
    """At most two in all and in an era, of fifteen callers in three processes, over many openings; also if one dies."""

    async def probes(times):
        with anyio.fail_after(20):
            while await client.llen("seen") < times:
                await anyio.sleep(0.01)

    await client.set("rate", 0.8)
    with running(redis_server.url, 3) as processes:
        await probes(20)
        processes[0].kill()
        await probes(50)
        await client.mset({"rate": 0, "stop": 1})
        codes = [await anyio.to_thread.run_sync(process.wait, 20) for process in processes]
    assert codes == [-signal.SIGKILL, 0, 0]  # which the others end with once they are closed
    assert max(map(int, await client.lrange("seen", 0, -1))) == 2


async def end(breaker, error=None):
    """Make one call, and say how it ended."""

    async def service():
        if error:
            raise error

    try:
        await breaker.call(service)
    except ConnectionError:
        return "failed"
    except CircuitOpen as refusal:
        return refusal.state
    return "ok"


def process(client, events=()):
    """A breaker of one process."""
    local = CircuitBreaker(name="db", trip=consecutive(2), cooldown=0.2, on_event=getattr(events, "append", None))
    return SharedCircuitBreaker(local, RedisStore(client), refresh=0.05, timeout=0.1)


@in_real_time
@pytest.mark.parametrize("fault", ["stop", "kill", "freeze"])
async def test_works_on_while_the_server_is_gone(client, redis_server, fault):
    """It trips and recovers by itself, no call waits for longer than the time-out, and it takes part again after."""
    events = []
    breaker, other = process(client, events), process(client)
    assert await end(breaker) == "ok"
    getattr(redis_server, fault)()
    try:
        await anyio.sleep(0.06)
        slowest = 0.0
        ends = []
        for error in [ConnectionError(), ConnectionError(), None]:
            began = time.monotonic()
            ends.append(await end(breaker, error))
            slowest = max(slowest, time.monotonic() - began)
        assert ends == ["failed", "failed", State.OPEN]
        assert slowest < 1
        await anyio.sleep(0.25)
        assert await end(breaker) == "ok"
    finally:
        redis_server.thaw() if fault == "freeze" else redis_server.start()
    await anyio.sleep(0.2)
    for _ in range(2):
        assert await end(other, ConnectionError()) == "failed"
    await anyio.sleep(0.1)
    assert await end(breaker) is State.OPEN
    assert [type(event) for event in events if isinstance(event, (StoreLost, StoreBack))] == [StoreLost, StoreBack]


class SyncClient:
    def evalsha(self, *arguments):
        return [0, 0, 0, 0, 0]

    eval = evalsha


@pytest.mark.parametrize("client", [redis.Redis(), SyncClient(), None, "redis://", redis.asyncio.Redis])
def test_client_must_be_async(client):
    """A sync client would stop the whole event loop; a class or a URL is a slip."""
    with pytest.raises(TypeError, match=r"RedisStore needs an async client such as redis\.asyncio\.Redis\(\), got"):
        RedisStore(client)


def test_client_may_be_any_with_two_async_methods():
    """No library is prescribed."""

    class Client:
        async def evalsha(self, *arguments):
            return [b"7", 1, 1500, 2, 0]

        eval = evalsha

    reply = asyncio.run(RedisStore(Client()).admit("db", TERMS, "a"))
    assert (reply.era, reply.state, reply.wait, reply.reopens, reply.leased) == (7, State.OPEN, 1.5, 2, False)


@pytest.mark.parametrize(("options", "ttl"), [({}, "86400000"), ({"ttl": 0.0001}, "1")])
def test_script_is_named_by_its_hash_and_told_all(options, ttl):
    """A wrong hash would send the whole script each time; no time is rounded to 0, which the server refuses."""
    calls = []

    class Client:
        async def evalsha(self, *arguments):
            calls.append(arguments)
            raise redis.exceptions.NoScriptError

        async def eval(self, script, *arguments):
            calls.append((hashlib.sha1(script.encode()).hexdigest(), *arguments))
            return [1, 2, 0, 0, 0]

    store = RedisStore(Client(), **options)
    asyncio.run(store.settle("db", TERMS, Probe(1, "a", "failure", LONG, 3)))
    keys = 2, "{mcp-circuit:db}", "{mcp-circuit:db}:leases"
    told = "settle", ttl, "2", "80000", "2", "1", "1", "1000000", "3", "a", "failure"
    assert [arguments for _, *arguments in calls] == [[*keys, *told]] * 2
    assert calls[0] == calls[1]


@pytest.mark.parametrize("ttl", [0, -1, float("nan")])
def test_ttl_must_be_a_time(ttl):
    """At construction."""
    with pytest.raises(ValueError, match="RedisStore needs 0 < ttl < inf seconds"):
        RedisStore(redis.asyncio.Redis(), ttl=ttl)


@pytest.mark.parametrize("prefix", ["", None, 3, "a{b", "a}b"])
def test_prefix_must_leave_the_hash_tag_alone(prefix):
    """Braces would make another."""
    with pytest.raises(ValueError, match=f"prefix to be a non-empty string without braces, got {prefix!r}"):
        RedisStore(redis.asyncio.Redis(), prefix=prefix)
