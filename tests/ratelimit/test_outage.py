"""Real processes, a real server and real clients: the bounds under load, and the server stopped, killed and emptied."""

from __future__ import annotations

import socket
import time

import anyio
import pytest
from mcp_ratelimit import AsyncRateLimiter, Limit, RedisStore, StoreFailed, StoreRecovered

from tests.ratelimit.workers import hammer, worst
from tests.support.servers import RedisServer

redis = pytest.importorskip("redis.asyncio", reason="redis-py, a client of the user's own, is not installed")

on_uvloop = pytest.mark.parametrize("anyio_backend", ["uvloop"], indirect=True)


@pytest.mark.uninstrumented
@pytest.mark.parametrize("algorithm", ["gcra", "sliding_log"])
@pytest.mark.parametrize("skews", [(0, 0, 0, 0), (0, 1, 1, 2)], ids=["clocks agree", "clocks differ"])
def test_four_processes_never_pass_the_bound(redis_server, algorithm, skews):
    """By the server's clock alone; limiters that send their own time let two or three times the amount through."""
    job = {"redis": redis_server.port, "amount": 100, "period": 0.5, "algorithm": algorithm, "seconds": 1.2}
    passed = hammer(job, skews)
    assert 0 < worst(passed, 0.5) <= (200 if algorithm == "gcra" else 100)
    assert len(passed) >= 150


@pytest.mark.uninstrumented
@pytest.mark.parametrize(("lease", "ttl"), [(50, 0.2)])
def test_leases_never_pass_their_bound(redis_server, lease, ttl):
    """At most burst + rate x (W + ttl), over four processes, whatever the size of the lease."""
    job = {"redis": redis_server.port, "amount": 100, "period": 0.5, "algorithm": "gcra", "seconds": 1.2}
    passed = hammer({**job, "lease": lease, "lease_ttl": ttl}, (0, 0, 1, 2))
    assert 0 < worst(passed, 0.5) <= 200 + 200 * ttl


async def used(client, work):
    """Run *work* with *client*, and close it."""
    try:
        await work()
    finally:
        await client.aclose()


@on_uvloop
@pytest.mark.parametrize("outage", ["freeze", "kill"])
async def test_outage_and_return(redis_server, anyio_backend, outage):
    """A call pays the budget now and then, the others next to nothing; test_remote has the exact times."""
    events = []
    client = redis.Redis(host=redis_server.host, port=redis_server.port)
    limiter = AsyncRateLimiter("1000/h", store=RedisStore(client), budget=0.05, on_event=events.append)

    async def work():
        assert await limiter.try_acquire("key")
        getattr(redis_server, outage)()
        begin, times = time.monotonic(), []
        while time.monotonic() - begin < 0.4:
            before = time.monotonic()
            await limiter.try_acquire("key")
            times.append(time.monotonic() - before)
            await anyio.sleep(0.001)
        assert sorted(times)[len(times) // 2] < 0.02  # on a busy machine, and still less than the budget
        assert [type(event) for event in events] == [StoreFailed]
        redis_server.thaw() if outage == "freeze" else redis_server.start()
        begin = time.monotonic()
        while not limiter.statistics().is_store_answering:
            assert time.monotonic() - begin < 5.0
            await limiter.try_acquire("key")
            await anyio.sleep(0.01)
        assert isinstance(events[-1], StoreRecovered)
        assert await limiter.try_acquire("key")

    await used(client, work)


@on_uvloop
async def test_a_server_that_was_emptied_or_restarted_is_asked_on(redis_server, anyio_backend):
    """It has lost states and scripts, and nothing else."""
    client = redis.Redis(host=redis_server.host, port=redis_server.port)
    limiter = AsyncRateLimiter("2/h", store=RedisStore(client), budget=5.0, on_store_error="closed")

    async def work():
        for disaster in (redis_server.flush, redis_server.restart):
            assert await limiter.try_acquire("key", 2)
            disaster()
            limiter._known.forget(("key",))
            await client.connection_pool.disconnect()
            assert await limiter.try_acquire("key", 2)
            await limiter.reset("key")

    await used(client, work)


@pytest.mark.uninstrumented
@pytest.mark.parametrize("anyio_backend", ["uvloop", "trio"], indirect=True)
@pytest.mark.parametrize("library", ["redis", "valkey", "coredis"])
async def test_every_client_that_users_bring(redis_server, anyio_backend, library):
    """Their own objects, used as they are; on trio the one that runs there."""
    if "trio" in anyio_backend and library != "coredis":
        pytest.skip(f"{library}-py runs on asyncio alone")
    module = pytest.importorskip({"coredis": "coredis"}.get(library, f"{library}.asyncio"), reason=f"no {library} here")
    name = {"redis": "Redis", "valkey": "Valkey", "coredis": "Redis"}[library]
    client = getattr(module, name)(host=redis_server.host, port=redis_server.port)
    async with client:
        limiter = AsyncRateLimiter("3/h", Limit("9/h", algorithm="bucketed"), store=RedisStore(client), budget=5.0)
        assert [await limiter.try_acquire(library) for _ in range(4)] == [True, True, True, False]
        redis_server.command("SCRIPT FLUSH")
        await limiter.refund(library)
        assert (await limiter.check(library)).remaining == 0
        assert limiter.statistics().is_store_answering


class ClusterServer(RedisServer):
    """A cluster of one node, which serves all slots, and refuses what lies in several as any cluster does."""

    def arguments(self):
        with socket.socket() as probe:
            probe.bind((self.host, 0))
            port = str(probe.getsockname()[1])
        return [*super().arguments(), "--cluster-enabled", "yes", "--cluster-port", port]

    def start(self):
        super().start()
        assert self.command("CLUSTER ADDSLOTSRANGE 0 16383") == "+OK"
        deadline = time.monotonic() + 10
        while self.command("SET ready yes") != "+OK":
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.fixture
def cluster(tmp_path):
    server = ClusterServer(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.mark.uninstrumented
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.parametrize("library", ["redis", "valkey"])
async def test_a_cluster_decides_about_all_limits_in_one_place(cluster, anyio_backend, library):
    """Their keys have one hash tag; without it the cluster would refuse the script."""
    module = pytest.importorskip(f"{library}.asyncio", reason=f"no {library} here")
    client = getattr(module, f"{library.title()}Cluster")(host=cluster.host, port=cluster.port)
    async with client:
        limiter = AsyncRateLimiter("3/h", "9/h", store=RedisStore(client), budget=5.0, on_store_error="closed")
        keys = [("ann", "all"), ("bob", "all"), ("ann", "all"), ("ann", "all"), ("ann", "all")]
        assert [await limiter.try_acquire(key) for key in keys] == [True] * 4 + [False]
        assert limiter.statistics().is_store_answering
    assert cluster.command("EVAL 'return 1' 2 one two").startswith("-CROSSSLOT")
