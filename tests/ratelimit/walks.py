"""Random requests, step by step, to a limiter and to the exact model; every answer must be equal.

The tests take some thousand steps each.  For more, to any of the stores:

    python -m tests.ratelimit.walks 1000000 memory host redis
"""

from __future__ import annotations

import itertools
import math
import random
import sys
import tempfile
import time
from pathlib import Path

import anyio
from mcp_ratelimit import HostStore, Limit, MemoryStore, RateLimiter, RedisStore
from mcp_ratelimit._core import ROUND
from mcp_ratelimit._script import SCRIPT
from mcp_ratelimit.redis import Request

from tests.ratelimit.conftest import Client
from tests.ratelimit.model import model_of
from tests.support.servers import RedisServer

ALGORITHMS = ("gcra", "strict_gcra", "sliding_log", "bucketed", "fixed_window", "sliding_counter")


def limit_of(algorithm, amount, period, burst=None):
    if algorithm == "strict_gcra":
        return Limit(amount=amount + 1, per=period, burst=min(amount, burst or 1), algorithm=algorithm)
    return Limit(amount=amount, per=period, burst=burst if algorithm == "gcra" else None, algorithm=algorithm)


class Time:
    def __init__(self, now=1_000.0):
        self.now = now

    def __call__(self):
        return self.now


def walk(limit, store, time, steps, *, seed=0, keys=3):
    """Drive one limiter and one model a key with the same random requests; every answer must be equal."""
    rng = random.Random(seed)
    limiter = RateLimiter(limit, store=store)
    algorithm = store.table(limit).algorithm
    models = {f"key {i}": model_of(limit, algorithm) for i in range(keys)}
    spacing = limit.period / limit.amount
    for _ in range(steps):
        time.now += rng.choice((0.0, spacing * rng.random(), spacing, limit.period * rng.random(), 1e-6))
        key = rng.choice(list(models))
        cost = rng.choice((1, 1, 1, rng.randint(0, limit.burst)))
        model, hz = models[key], algorithm.hz
        now = time.now * hz + ROUND - ROUND
        if rng.random() < 0.1:
            limiter.refund(key, cost)
            model.refund(now, cost)
        fits = model.fits(now, cost)
        decision = limiter.check(key, cost)
        assert decision.allowed is fits
        if fits:
            model.charge(now, cost)
            assert decision.retry_after == 0.0
        else:
            wait = round(decision.retry_after * hz - 0.25)
            assert model.fits(now + wait, cost)
            assert not model.fits(now + wait - 1, cost)
        used = model.used(now)
        assert decision.remaining == math.floor(limit.burst - used)
        empty = round(decision.reset_after * hz)
        assert model.used(now + empty) == 0
        assert empty == 0 or model.used(now + empty - 1) > 0


class SteppingClock:
    """A client whose server reads the time from here: it goes on, and now and then steps back, up to three periods."""

    def __init__(self, client, limit):
        self.client, self.period = client, limit.period
        self.microseconds = 1_800_000_000_000_000

    async def __call__(self, _, script, *rest):
        self.client.send("MSET", "seconds", self.microseconds // 10**6, "fraction", self.microseconds % 10**6)
        script = SCRIPT.replace("redis.call('TIME')", "redis.call('MGET', 'seconds', 'fraction')")
        script = script.replace("'PX'", "'EX'")  # keys die by the real clock: let them live long enough for this one
        return self.client.send("EVAL", script, *rest)

    def step(self, rng):
        periods = rng.choice((0.0, rng.random(), rng.random(), 0.01, 0.1, 1.0, 3.0, -0.001, -0.1, -rng.random(), -3.0))
        self.microseconds += int(periods * self.period * 1e6)


def twenty(rng, limit, keys):
    """Requests for one round trip."""
    for _ in range(20):
        cost, op = rng.choice((1, 1, 1, rng.randint(0, limit.burst))), rng.choice(("take",) * 9 + ("refund",))
        most = rng.choice((cost, cost, 0, limit.burst)) if op == "take" else 0
        yield Request((limit,), (rng.choice(keys),), cost, most, op)


async def walk_redis(limit, client, count, clock=None):
    """Drive the script and the models with the same requests, many a round trip, at the times that the server read.

    A *clock* that steps back stands still for a key until it has caught up with the last change of it.
    """
    rng = random.Random(limit.amount)
    store = RedisStore(clock or client)
    algorithm = store.counted(limit).algorithm
    models = {f"key {number}": model_of(limit, algorithm) for number in range(3)}
    changed = dict.fromkeys(models, 0.0)
    for _ in range(count // 20):
        requests = list(twenty(rng, limit, list(models)))
        if clock:
            clock.step(rng)
        elif rng.random() < 0.5:
            time.sleep(rng.random() * 2 * min(0.002, limit.period / limit.amount))  # noqa: ASYNC251  # real time
        seconds, numbers = await store.run(requests, clock.microseconds / 1e6 if clock else time.time())
        fields = map(float, numbers.split())
        whole, fraction = map(float, seconds.split())
        now = float(math.floor(whole * algorithm.hz + fraction * algorithm.hz / 1_000_000))
        times = {key: max(now, last) for key, last in changed.items()}
        for request in requests:
            (key,) = request.keys
            model, at = models[key], times[key]
            granted, wait, used, reset = itertools.islice(fields, 4)
            if request.op == "take":
                check_take(model, request, (granted, wait), now, at)
            else:
                model.refund(at, request.cost)
            if granted or request.op == "refund":
                changed[key] = at
            assert used == min(limit.burst, model.used(at))
            assert model.used(max(at, now + reset)) == 0
            assert reset == 0 or model.used(max(at, now + reset - 1)) > 0
            if request.op == "refund" and used == 0:  # nothing is left of it, nor of the time that it had seen
                models[key], changed[key], times[key] = model_of(limit, algorithm), 0.0, now


def check_take(model, request, answer, now, at):
    """Hold an answer, told at *now* of what was decided as of *at*, against the model, and charge that."""
    cost, (granted, wait) = request.cost, answer
    if model.fits(at, cost):
        assert wait == 0
        assert granted == min(request.most, math.floor(model.capacity - model.used(at)))
        if granted:
            model.charge(at, int(granted))
    else:
        assert granted == 0
        assert model.fits(max(at, now + wait), cost)
        assert not model.fits(max(at, now + wait - 1), cost)


def memory(limit, folder, count):
    time = Time()
    walk(limit, MemoryStore(clock=time, wall_clock=time), time, count)


def host(limit, folder, count):
    time = Time()
    store = HostStore(folder, keys=64, clock=time, wall_clock=time)
    walk(limit, store, time, count)
    store.close()


def redis(limit, folder, count):
    server = RedisServer(folder)
    server.start()
    client = Client(server)
    try:
        anyio.run(walk_redis, limit, client, count)
        client.send("FLUSHALL")
        anyio.run(walk_redis, limit, client, count, SteppingClock(client, limit))
    finally:
        server.kill()


def main(count, *stores):
    """Take *count* steps with every algorithm in each of *stores*, and print a line for each."""
    for store, algorithm in itertools.product(stores, ALGORITHMS):
        limit = limit_of(algorithm, *((7, 0.02, 3) if store == "redis" else (7, 1.0, 3)))
        begin = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            {"memory": memory, "host": host, "redis": redis}[store](limit, Path(folder), int(count))
        print(f"{store:8} {algorithm:16} {count} steps equal, {time.monotonic() - begin:.0f} s", flush=True)  # noqa: T201  # a program


if __name__ == "__main__":
    main(*sys.argv[1:])
