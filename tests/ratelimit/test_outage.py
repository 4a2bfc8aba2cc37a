"""Real processes, a real server and real clients: the bounds under load, and the server stopped, killed and emptied."""

from __future__ import annotations

import socket
import time

import anyio
import pytest
from mcp_ratelimit import AsyncRateLimiter, Limit, RedisStore, StoreFailed, StoreRecovered

from tests.ratelimit.workers import answers, hammer, passed, worst
from tests.support.servers import RedisServer, client_of

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
def test_four_processes_count_in_the_servers_day(redis_server):
    """Clients send the calendar around their own time; by that time, each of these would count another day."""
    today = time.time() // 86400
    job = {"redis": redis_server.port, "amount": 40, "period": "day", "algorithm": "fixed_window", "seconds": 0.5}
    passed = hammer(job, (0, 86400, -86400, 400 * 86400))
    assert len(passed) == 40 or time.time() // 86400 != today


OUTAGES = [
    # In one window can pass what the server allows, and what the four shares do, or it anew when it has forgotten.
    ("freeze", "closed", 1),
    ("freeze", "local", 2),
    ("kill", "local", 2),
    ("flush", "closed", 2),
]


@pytest.mark.uninstrumented
@pytest.mark.parametrize(("outage", "policy", "allowances"), OUTAGES)
def test_an_outage_under_four_processes(redis_server, outage, policy, allowances):
    """No more passes through it than is documented, and a second after its end they share one allowance again."""
    times = {}

    def meanwhile():
        time.sleep(0.5)
        times["begin"] = time.monotonic()
        getattr(redis_server, outage)()
        if outage != "flush":
            time.sleep(0.8)
            redis_server.thaw() if outage == "freeze" else redis_server.start()
        times["end"] = time.monotonic()

    job = {"redis": redis_server.port, "amount": 100, "period": 0.5, "algorithm": "sliding_log", "seconds": 4.0}
    told = answers({**job, "policy": policy, "budget": 0.25}, (0, 1, 1, 2), meanwhile)
    spans = passed(told)
    assert 0 < worst(spans, 0.5) <= 100 * allowances
    if outage != "flush":
        assert any(times["begin"] + 0.2 < after < times["end"] for _, after in spans) is (policy == "local")
        returns = [at for answer in told for name, at in answer["events"] if name == "StoreRecovered"]
        assert min(at for at in returns if at > times["end"]) < times["end"] + 1.0  # the best of four on a busy machine
    assert sum(before > times["end"] + 1.0 for before, _ in spans) >= 50


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
    """A call pays the budget now and then, the others next to nothing; a second after its return it is asked again."""
    events = []
    client = redis.Redis(host=redis_server.host, port=redis_server.port)
    limiter = AsyncRateLimiter("1000/h", store=RedisStore(client), budget=0.2, on_event=events.append)

    async def work():
        assert await limiter.try_acquire("key")
        getattr(redis_server, outage)()
        begin, times = time.monotonic(), []
        while time.monotonic() - begin < 0.4:
            before = time.monotonic()
            await limiter.try_acquire("key")
            times.append(time.monotonic() - before)
            await anyio.sleep(0.001)
        assert sorted(times)[len(times) // 2] < 0.02  # on a busy machine, and still a tenth of the budget
        assert [type(event) for event in events] == [StoreFailed]
        redis_server.thaw() if outage == "freeze" else redis_server.start()
        begin = time.monotonic()
        while not limiter.statistics().is_store_answering:
            assert time.monotonic() - begin < 1.0
            await limiter.try_acquire("key")
            await anyio.sleep(0.01)
        assert isinstance(events[-1], StoreRecovered)
        assert await limiter.try_acquire("key")

    await used(client, work)


@on_uvloop
async def test_a_server_that_was_emptied_or_restarted_is_asked_on(redis_server, anyio_backend):
    """It has lost states and scripts, and nothing else; a refusal that it told before is believed for a second."""
    client = redis.Redis(host=redis_server.host, port=redis_server.port)
    limiter = AsyncRateLimiter("2/h", store=RedisStore(client), budget=5.0, on_store_error="closed")

    async def work():
        for disaster in (redis_server.flush, redis_server.restart):
            assert await limiter.try_acquire("key", 2)
            assert not await limiter.try_acquire("key", 2)
            disaster()
            await client.connection_pool.disconnect()
            with anyio.fail_after(5.0):  # a second, and more on a busy machine
                while not await limiter.try_acquire("key", 2):
                    await anyio.sleep(0.05)
            await limiter.reset("key")

    await used(client, work)


@pytest.mark.uninstrumented
@pytest.mark.parametrize("anyio_backend", ["uvloop", "trio"], indirect=True)
@pytest.mark.parametrize("library", ["redis", "valkey", "coredis"])
async def test_every_client_that_users_bring(redis_server, anyio_backend, library):
    """Their own objects, used as they are; on trio the one that runs there."""
    async with client_of(library, anyio_backend, redis_server) as client:
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
