"""Who has to go: policies keep the right things, and never look at much at once."""

from __future__ import annotations

import bisect
import itertools
import random

import pytest
from mcp_cache import Cache
from mcp_cache.adaptive import SAMPLE, Adaptive
from mcp_cache.entries import NEVER, Entry
from mcp_cache.eviction import TinyLfu
from mcp_cache.table import POLICIES

from tests.support.measure import count_instructions

EVERY = pytest.mark.parametrize("policy", list(POLICIES))


def zipf(length, keys=1000, skew=0.9, seed=1):
    """Popular keys and rare ones."""
    draw, sums = random.Random(seed).random, list(itertools.accumulate((n + 1) ** -skew for n in range(keys)))
    return [bisect.bisect(sums, draw() * sums[-1]) for _ in range(length)]


TRACES = {
    "zipf": zipf(8000),
    "loop": [n % 150 for n in range(8000)],
    "scan": [
        key for n in range(15) for key in [*zipf(500, 333, seed=n), *range(10_000 * (n + 1), 10_000 * (n + 1) + 200)]
    ],
    "pairs": [key for n in range(4000) for key in (n, n - 14)],
}


def hits(policy, trace, size):
    """Run *trace* as a cache would, and count its hits."""
    entries, chosen, count = {}, POLICIES[policy](size), 0
    for key in trace:
        entry = entries.get(key)
        if entry is None:
            entry = entries[key] = Entry(entries, key, None, 0)
            chosen.insert(entry)
            if len(entries) > size:
                del entries[chosen.evict().key]
            continue
        count += 1
        entry.hits += 1
        if entry.fast_until == NEVER:
            entry.fast_until = 0.0
            if chosen.watches(entry):
                chosen.touch(entry)
    return count


@pytest.mark.parametrize(
    ("trace", "size", "expected"),
    [
        ("zipf", 100, {"adaptive": 4418, "lru": 3749, "s3fifo": 4447, "tinylfu": 4433}),
        ("zipf", 500, {"adaptive": 6439, "lru": 6341, "s3fifo": 6370, "tinylfu": 6461}),
        ("loop", 100, {"adaptive": 4506, "lru": 0, "s3fifo": 3592, "tinylfu": 4280}),
        ("scan", 100, {"adaptive": 5130, "lru": 4454, "s3fifo": 5316, "tinylfu": 5142}),
        ("scan", 500, {"adaptive": 6985, "lru": 6381, "s3fifo": 6869, "tinylfu": 6956}),
        ("pairs", 100, {"adaptive": 3882, "lru": 3986, "s3fifo": 3986, "tinylfu": 139}),
    ],
)
def test_policies_keep_the_right_things(trace, size, expected):
    """Each pattern is some policy's undoing; the adaptive one must come near the best on all of them.

    Numbers have the same hash everywhere, so hits are counted to the last one: a policy that changes, changes here.
    """
    found = {policy: hits(policy, TRACES[trace], size) for policy in POLICIES}
    assert found == expected
    assert found["adaptive"] > max(found.values()) - 0.08 * len(TRACES[trace])


@pytest.mark.parametrize(("capacity", "window", "counters"), [(1, 1, 16), (5, 1, 128), (64, 6, 1024), (100, 10, 2048)])
def test_the_window_is_a_tenth(capacity, window, counters):
    """And at least one; there are sixteen counters an entry, rounded up, and one use is proof enough."""
    policy = TinyLfu(capacity)
    settings = policy._share, policy._room, policy._proven, len(policy._counts)
    assert settings == (window, capacity - window, 1, counters)


def test_the_window_keeps_its_share():
    """Of a cache that is full by weight before it is by number, none leaves a window that is not over."""
    policy, entries = TinyLfu(100, window=0.05), {}
    for key in range(10):
        policy.insert(Entry(entries, key, None, 0))
    policy.evict()
    for key in range(10, 15):
        policy.insert(Entry(entries, key, None, 0))
    policy.evict()
    assert [line.size for line in policy.lines] == [5, 8]


def test_every_counter_is_halved():
    """In the first slice as in the last."""
    policy = TinyLfu(10_000)
    policy._counts[:] = bytes([8]) * len(policy._counts)
    for _ in range(len(policy._counts) // (1 << 16)):
        policy._halve()
    assert set(policy._counts) == {4}


@pytest.mark.parametrize(
    ("capacity", "sample"), [(1, 2), (2, 2), (32, 32), (64, 64), (65, 32), (1000, 62), (10**6, 61)]
)
def test_a_miniature_is_large_enough_to_tell(capacity, sample):
    """Every one of them, and no cache is too small to have them."""
    assert [mini._capacity for mini in Adaptive(capacity)._miniatures] == [sample] * 3
    assert sample >= min(capacity, SAMPLE)


def test_watched_is_what_is_sampled():
    """By the same bits when an entry comes as when it is renewed or hit."""
    policy, entries = Adaptive(1000), {}
    for key in range(1000):
        entry = entries[key] = Entry(entries, key, None, 0)
        policy.insert(entry)
        assert policy.watches(entry) == (entry.fast_until == NEVER)
    assert 30 < sum(map(policy.watches, entries.values())) < 120


@EVERY
@pytest.mark.parametrize("size", [1, 2, 3, 10])
def test_tiny_caches(policy, size):
    """Shares of next to nothing are still at least one entry."""
    assert 0 < hits(policy, [key for n in range(2000) for key in (n, n)], size) <= 2000


@EVERY
@pytest.mark.uninstrumented
def test_one_eviction_looks_at_little(policy):
    """The exact algorithms walk over everything once everything was hit; that would stall the loop."""
    chosen, entries = POLICIES[policy](5000), {}
    for key in range(5000):
        entry = entries[key] = Entry(entries, key, None, 0)
        chosen.insert(entry)
        entry.hits = 50
    assert count_instructions(chosen.evict) < 5000


@EVERY
def test_removed_entries_are_gone(policy):
    """From wherever they are; and what is removed is never named as a victim."""
    chosen, entries = POLICIES[policy](100), {}
    for key in range(100):
        entry = entries[key] = Entry(entries, key, None, 0)
        chosen.insert(entry)
        chosen.touch(entry)
    for key in range(0, 100, 2):
        chosen.remove(entries.pop(key))
    assert sum(line.size for line in chosen.lines) == 50
    assert {chosen.evict().key for _ in range(50)} == set(entries)


def test_what_is_touched_twice_between_two_insertions_counts_once():
    """Nothing can have changed in between, and hits are many."""
    chosen, entries = POLICIES["adaptive"](4), {}
    for key in range(4):
        entry = entries[key] = Entry(entries, key, None, 0)
        chosen.insert(entry)
    del entries[chosen.evict().key]
    counted = []
    for _ in range(2):
        chosen.touch(next(iter(entries.values())))
        counted.append(chosen._accesses)
    assert counted == [1, 1]


@pytest.mark.uninstrumented
async def test_bulk_expiry_takes_little_at_a_time(clock):
    """Twenty thousand entries end at once: no call does more than look at two of them."""
    cache = Cache(maxsize=100_000, ttl=10, clock=clock)
    await cache.set_many(dict.fromkeys(range(20_000), 0))
    for _ in range(2):  # the hand goes past the end of the line
        await cache.set("new", 1)
    usual = work(cache)
    await clock.advance(11)
    assert work(cache) < usual + 600


async def test_sweeping_stops_at_what_may_still_be_of_use(clock):
    """Only what is over for good leaves, whoever stands behind it."""
    cache = Cache(policy="lru", stale_if_error=100, clock=clock)
    await cache.set("over", 0, ttl=1)
    await cache.set("stale", 0, ttl=50)
    await clock.advance(102)
    for _ in range(9):  # until the hand has come round
        await cache.set("new", 0)
    assert cache.statistics().expirations == 1
    assert [cache.explain(key).state for key in ("over", "stale")] == ["absent", "stale"]


def work(cache):
    """Count the bytecodes of replacing an entry."""
    return count_instructions(lambda: cache.set("new", 1))


@pytest.mark.uninstrumented
async def test_hit_stays_short():
    """The gate of the hot path: bytecodes of one hit, the same in every run; each Python has its own figure."""
    cache = Cache(ttl=1000)

    @cache
    async def one(key):
        return key

    async def compute():
        return 1

    await cache.get_or_compute("key", compute)
    await one("key")
    await cache.set("tagged", 1, tags=("tag",))
    assert count_instructions(lambda: cache.get_or_compute("key", compute)) < 60
    assert count_instructions(lambda: one("key")) < 70
    assert count_instructions(lambda: cache.get_or_compute("tagged", compute)) < 400


async def test_s3fifo_keeps_what_is_hit_twice():
    """While in the small line; once is not enough, and what is in the main line goes last."""
    cache = Cache(maxsize=10, policy="s3fifo")

    async def compute():
        return 0

    await cache.set_many(dict.fromkeys("abc", 0))
    for key in "aab":
        await cache.get_or_compute(key, compute)
    for number in range(12):
        await cache.set(number, 0)
    assert [key for key in "abc" if cache.explain(key).state == "fresh"] == ["a"]
    for number in range(100, 400):
        await cache.set(number % 113, 0)
    assert cache.statistics().entries == 10
