"""The shared state in a real server: against the store in memory, from several processes, and when the server goes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import anyio
import pytest
import redis
import redis.asyncio
from hypothesis import given, settings
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

from tests.support.servers import RedisServer

in_real_time = pytest.mark.parametrize("anyio_backend", ["uvloop"], indirect=True)

TERMS = Terms(probe_concurrency=2, probe_max_wait=0.08, successes_needed=2, failures_allowed=1)
LONG, SHORT = 1000.0, 0.03


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of its own."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def client(server):
    """A client, on an empty server that runs."""
    server.start()
    server.flush()
    async with redis.asyncio.Redis.from_url(server.url, socket_timeout=1) as client:
        yield client


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
    st.tuples(st.just("sleep"), st.sampled_from([0.05, 0.1])),
)
OPENING = [("trip", "era", SHORT), ("sleep", 0.05)]


@in_real_time
@settings(max_examples=60)
@given(st.lists(operations, min_size=1, max_size=8), st.booleans())
async def test_script_does_what_the_memory_store_does(client, steps, is_open):
    """One operation after the other, compared in everything but the numbers of the eras."""
    await client.flushall()
    stores = [RedisStore(client), MemoryStore()]
    eras = [0, 0]
    for number, (operation, *details) in enumerate([*OPENING, *steps] if is_open else steps):
        if operation == "sleep":
            await anyio.sleep(*details)
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
            replies.append((*reply[3:], reply.state, reply.era != eras[place], pytest.approx(reply.wait, abs=0.02)))
            eras[place] = reply.era
        assert replies[0] == replies[1]


@in_real_time
async def test_one_round(client):
    """The example of the property: it opens, lends two places, and closes after two successes."""
    store = RedisStore(client)
    opened = await store.trip("db", TERMS, 0, SHORT, 1)
    assert (opened.state, opened.reopens, opened.leased) == (State.OPEN, 1, False)
    assert 0 < opened.wait <= SHORT
    await anyio.sleep(SHORT * 2)
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
    store = RedisStore(client, prefix="p", ttl=60)
    await store.trip("db", TERMS, 0, SHORT, 1)
    await anyio.sleep(SHORT * 2)
    await store.admit("db", TERMS, "a")
    keys = [key.decode() for key in await client.keys()]
    assert sorted(keys) == ["{p:db}", "{p:db}:leases"]
    assert all([0 < await client.pttl(key) <= 60_000 for key in keys])


@in_real_time
async def test_looking_writes_nothing(client):
    """A healthy breaker costs the server no memory."""
    await RedisStore(client).admit("db", TERMS, "a")
    assert await client.dbsize() == 0


@in_real_time
async def test_script_is_loaded_again_after_a_flush(client, server):
    """Others may flush the scripts of a server, and a restarted one knows none."""
    store = RedisStore(client)
    await store.trip("db", TERMS, 0, LONG, 1)
    server.command("SCRIPT FLUSH")
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


PROGRAM = """
import random, sys, anyio, redis.asyncio
from mcp_circuit import *
from mcp_circuit.redis import RedisStore

async def main(url):
    client = redis.asyncio.Redis.from_url(url)
    probing = dict(probes=4, probe_concurrency=2, probe_max_wait=0.2)
    local = CircuitBreaker(name="db", trip=consecutive(3), cooldown=0.05, **probing)
    breaker = SharedCircuitBreaker(local, RedisStore(client), refresh=0.02)
    async def service():
        lease = f"{id(object())}{random.random()}"
        if breaker.state is State.OPEN:
            await client.zadd("running", {lease: 1})
            await client.eval("local n = redis.call('ZCARD', 'running') redis.call('RPUSH', 'seen', n)", 0)
        await anyio.sleep(random.random() * 0.02)
        await client.zrem("running", lease)
        if random.random() < float(await client.get("rate")):
            raise ConnectionError

    async def caller():
        while not await client.exists("stop"):
            try:
                await breaker.call(service)
            except (CircuitOpen, ConnectionError):
                pass
            await anyio.sleep(random.random() * 0.01)

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(caller)
    await client.aclose()
    print(breaker.statistics().transitions, breaker.state.value)

anyio.run(main, sys.argv[1])
"""


def start(url):
    """Run PROGRAM in another process."""
    return subprocess.Popen([sys.executable, "-c", PROGRAM, url], stdout=subprocess.PIPE, text=True)


@pytest.mark.uninstrumented
@in_real_time
async def test_several_processes_admit_no_probe_too_many(client, server):
    """At most two in all, of fifteen callers in three processes, over many openings; and all close in the end."""
    await client.set("rate", 0.6)
    processes = [start(server.url) for _ in range(3)]
    with anyio.move_on_after(20):
        while await client.llen("seen") < 30:
            await anyio.sleep(0.05)
    await client.set("rate", 0)
    await anyio.sleep(0.5)
    await client.set("stop", 1)
    outputs = [await anyio.to_thread.run_sync(process.communicate) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    seen = [int(number) for number in await client.lrange("seen", 0, -1)]
    assert len(seen) >= 30
    assert max(seen) == 2
    assert {output.split()[1] for output, _ in outputs} == {"closed"}


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
@pytest.mark.parametrize("fault", ["stop", "freeze"])
async def test_works_on_while_the_server_is_gone(client, server, fault):
    """It trips and recovers by itself, no call waits for longer than the time-out, and it takes part again after."""
    events = []
    breaker, other = process(client, events), process(client)
    assert await end(breaker) == "ok"
    getattr(server, fault)()
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
        server.thaw() if fault == "freeze" else server.start()
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


@pytest.mark.parametrize("client", [redis.Redis(), SyncClient(), None, "redis://", redis.asyncio.Redis], ids=repr)
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


@pytest.mark.parametrize("ttl", [0, -1, float("nan")])
def test_ttl_must_be_a_time(ttl):
    """At construction."""
    with pytest.raises(ValueError, match="RedisStore needs 0 < ttl < inf seconds"):
        RedisStore(redis.asyncio.Redis(), ttl=ttl)
