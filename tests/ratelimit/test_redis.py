"""RedisStore against a real server: the script equals the model, its keys live long enough, one round trip is one."""

from __future__ import annotations

import time

import pytest
from mcp_ratelimit import Limit, RedisStore
from mcp_ratelimit._script import SCRIPT, SHA
from mcp_ratelimit.redis import Request

from tests.ratelimit.walks import ALGORITHMS, SteppingClock, limit_of, walk_redis


def take(limit, key, cost, most=None):
    return Request((limit,), (key,), cost, cost if most is None else most)


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("figures", [(40, 0.05, 5), (7, 0.02, None)])
async def test_every_answer_equals_that_of_the_model(client, anyio_backend, algorithm, figures):
    """The algorithms once more in another language; only a real server can say that they are the same."""
    await walk_redis(limit_of(algorithm, *figures), client, 1500)


MONTHLY = Limit("7/month", algorithm="fixed_window", timezone="Europe/Paris")


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.parametrize("limit", [*(limit_of(name, 7, 0.02, 3) for name in ALGORITHMS), MONTHLY], ids=repr)
async def test_a_clock_that_steps_back_stands_still(client, anyio_backend, limit):
    """A replica whose clock is behind takes over: what was spent stays spent, and retry_after stays exact."""
    await walk_redis(limit, client, 2000, SteppingClock(client, limit))


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_what_was_seen_outlives_a_change_of_the_limit(client, anyio_backend):
    """The time up to which a clock stands still is not in the terms of any limit."""
    day, month = (Limit(f"5/{unit}", algorithm="fixed_window", name="plan") for unit in ("day", "month"))
    clock = SteppingClock(client, day)
    store = RedisStore(clock)
    await store.run([take(month, "key", 3)], clock.microseconds / 1e6)
    clock.microseconds -= 40 * 86400 * 10**6
    assert len(await store.run([take(day, "key", 1)], clock.microseconds / 1e6)) == 1  # the time to know a calendar for
    (seen,) = await store.run([take(day, "key", 1)], clock.microseconds / 1e6)
    _, numbers = await store.run([take(day, "key", 1)], float(seen.split()[0]))
    assert numbers.split()[2] == b"4"


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_a_limit_that_changed_in_one_batch(client, anyio_backend):
    """While a limit changes, requests by the old and by the new figures share a round trip, and a key."""
    store = RedisStore(client)
    old, new = (limit_of("gcra", amount, 360_000.0, amount).renamed("api") for amount in (10, 300))
    requests = [take(old, "key", 6), take(new, "key", 1), take(old, "key", 1)]
    assert [decision.remaining for _, decision in await store.send(requests)] == [4, 293, 2]


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_calendar_by_the_servers_clock(client, anyio_backend):
    """A client whose clock is a year off asks once more, and never counts in the wrong window."""
    limit = Limit("40/month", algorithm="fixed_window", timezone="Europe/Paris")
    await walk_redis(limit, client, 400)
    store = RedisStore(client, prefix="skewed")
    _, end = store.counted(limit).algorithm.bounds(time.time() * 1e6)
    uniform = Limit("40/h", algorithm="fixed_window")  # which needs no calendar
    assert len(await store.run([take(uniform, "key", 1)], time.time() - 366 * 86400)) == 2
    client.sent = 0
    assert len(await store.run([take(limit, "key", 1)], time.time() - 366 * 86400)) == 1
    real, time.time = time.time, lambda: 0.0
    try:
        ((granted, decision),) = await store.send([take(limit, "key", 1)])
    finally:
        time.time = real
    assert client.sent == 3
    assert granted == 1
    assert decision.reset_after == pytest.approx((end / 1e6 - time.time()), abs=5)


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_one_round_trip_for_all_limits_of_all_requests(client, anyio_backend):
    """All or nothing over different keys, several requests one after the other in one step."""
    store = RedisStore(client)
    limits = (Limit("5/h"), Limit("2/h", algorithm="sliding_log"), Limit("9/h", algorithm="bucketed"))
    await store.send([Request(limits, ("warm", "warm", "warm"), 1, 1)])
    client.sent = 0
    requests = [Request(limits, ("ann", "ann/search", "*"), 1, 1)] * 3 + [Request(limits, ("bob", "bob/x", "*"), 1, 2)]
    answers = await store.send(requests)
    assert client.sent == 1
    assert [granted for granted, _ in answers] == [1, 1, 0, 2]
    assert answers[2][1].violated == ("2/h",)
    ((_, peek),) = await store.send([Request(limits, ("ann", "new", "*"), 1, 0)])
    assert (peek.limit.name, peek.remaining) == ("2/h", 2)


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("period", [0.05, 3600.0])
async def test_every_key_lives_as_long_as_its_state_matters(client, anyio_backend, algorithm, period):
    """Too short a life forgives debts; none at all fills the server."""
    store = RedisStore(client)
    limit = limit_of(algorithm, 4, period, 4)
    ((_, decision),) = await store.send([take(limit, "key", limit.burst)])
    (key,) = client.send("KEYS", "*")
    assert key.startswith(b"{mcp-ratelimit}:")
    life = client.send("PTTL", key.decode()) / 1000
    assert decision.reset_after <= life <= decision.reset_after + 1.1
    await store.send([Request((limit,), ("key",), limit.burst, 0, "refund")])
    assert client.send("KEYS", "*") == []


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_heals_when_the_server_has_lost_its_scripts(client, anyio_backend):
    """After a restart, SCRIPT FLUSH, or a failover."""
    store = RedisStore(client)
    limit = Limit("3/h")
    await store.send([take(limit, "key", 1)])
    client.send("SCRIPT", "FLUSH")
    ((granted, decision),) = await store.send([take(limit, "key", 1)])
    assert (granted, decision.remaining) == (1, 1)
    client.sent = 0
    await store.send([take(limit, "key", 1)])
    assert client.sent == 1


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_limit_that_changed_finds_its_debts(client, anyio_backend, algorithm):
    """Two workers with two versions of the configuration, as while a new one is rolled out."""
    store = RedisStore(client)
    old, new = (limit_of(algorithm, amount, 360_000.0, amount).renamed("api") for amount in (10, 20))
    await store.send([take(old, "key", 6)])
    ((_, decision),) = await store.send([take(new, "key", 1)])
    assert decision.remaining == 13
    ((_, decision),) = await store.send([take(old, "key", 1, 0)])
    assert decision.remaining == 3
    await store.send([take(new, "key", 13)])
    ((_, decision),) = await store.send([take(old, "key", 1)])
    assert not decision


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_reset_and_foreign_errors(client, anyio_backend):
    """Everything under a key goes; what the server complains about is not hidden."""
    store = RedisStore(client)
    limit = Limit("3/h")
    await store.send([take(limit, "key", 3)])
    ((_, decision),) = await store.send([Request((limit,), ("key",), 0, 0, "reset")])
    assert decision.remaining == 3
    client.send("SET", "{mcp-ratelimit}:3/h:gcra:key", "nonsense")
    with pytest.raises(RuntimeError):
        await store.send([take(limit, "key", 1)])


SOME, MORE = Limit("3/h"), Limit("5/h", algorithm="sliding_log")
ANSWERS = [  # what the script tells of each limit, in units and seconds: (wait, used, reset); and the decision
    ([(0, 1.5, 4)], (True, SOME, 1, 0, 4, ())),
    ([(7, 3, 9)], (False, SOME, 0, 7, 9, ("3/h",))),
    ([(0, 1, 4), (0, 4, 5)], (True, MORE, 1, 0, 5, ())),
    ([(7, 3, 9), (0, 1, 4)], (False, SOME, 0, 7, 9, ("3/h",))),
    ([(7, 3, 9), (8, 5, 10)], (False, MORE, 0, 8, 10, ("3/h", "5/h"))),
]


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.parametrize(("told", "decision"), ANSWERS)
async def test_a_decision_tells_everything(anyio_backend, told, decision):
    """Of the limit with the least room, or of the one that takes longest; never a moment too early."""

    async def client(*parts):
        return [b"1800000000 0", numbers]

    store, limits = RedisStore(client), (SOME, MORE)[: len(told)]
    rates = [store.counted(limit).algorithm.hz for limit in limits]
    fields = (f" {wait * hz:.0f} {used} {reset * hz:.0f}" for (wait, used, reset), hz in zip(told, rates, strict=True))
    numbers = "".join(["1", *fields]).encode()
    ((granted, answer),) = await store.send([Request(limits, ("key",) * len(limits), 1, 1)])
    allowed, limit, remaining, wait, reset, violated = decision
    times = pytest.approx(wait, abs=1e-5), pytest.approx(reset)
    assert (granted, answer) == (1, (allowed, limit, remaining, *times, violated))
    assert answer.retry_after >= wait


class NoScriptError(Exception):
    """As the clients name it, whose text may be their own."""


class WithCommands:
    """A client of redis-py or valkey-py, as far as it is used, whose server knows no script."""

    def __init__(self):
        self.sent = []

    async def execute_command(self, *parts):
        self.sent.append(parts)
        if parts[0] == "EVALSHA":
            raise NoScriptError
        return [b"1800000000 0", b"1 0 1 0 0 1 0"]


class WithMethods:
    """One of coredis, which takes keys and arguments apart."""

    __module__ = "coredis.client"

    def __init__(self):
        self.commands = WithCommands()
        self.sent = self.commands.sent

    async def evalsha(self, script, keys, arguments):
        return await self.commands.execute_command("EVALSHA", script, str(len(keys)), *keys, *arguments)

    async def eval(self, script, keys, arguments):
        return await self.commands.execute_command("EVAL", script, str(len(keys)), *keys, *arguments)


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.parametrize("kind", [WithCommands, WithMethods])
async def test_what_each_client_sends(anyio_backend, kind):
    """The script by its name, and in full to a server that does not know it; with the keys, as a cluster needs them."""
    client = kind()
    await RedisStore(client, prefix="XY").send([Request((SOME, MORE), ("ann", "all"), 1, 1)])
    by_name, in_full = client.sent
    keys = "2", "{XY}:3/h:gcra:ann", "{XY}:5/h:sliding_log:all"
    assert (by_name[:5], in_full[:5]) == (("EVALSHA", SHA, *keys), ("EVAL", SCRIPT, *keys))
    assert by_name[5:] == in_full[5:]
    assert len(by_name) == 6


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_a_request_needs_a_key_for_each_limit(client, anyio_backend):
    """One too few would leave a limit out."""
    store = RedisStore(client)
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        await store.send([Request((SOME, MORE), ("key",), 1, 1)])
    assert client.sent == 0


def test_what_counts_a_limit_is_made_once():
    """It knows the calendar, which takes long to compute."""
    store = RedisStore(print)
    assert store.counted(SOME) is store.counted(SOME)


@pytest.mark.parametrize("prefix", ["", None, 3, "a{b", "a}b"])
def test_nonsense_prefix(prefix):
    """Braces would make another hash tag."""
    with pytest.raises(ValueError, match="prefix to be a non-empty string without braces"):
        RedisStore(lambda: None, prefix=prefix)


@pytest.mark.parametrize("client", [None, 3, "redis://localhost", dict])
def test_nonsense_client(client):
    """A URL or a class is the likely slip."""
    with pytest.raises(TypeError, match="RedisStore needs an async client"):
        RedisStore(client)
