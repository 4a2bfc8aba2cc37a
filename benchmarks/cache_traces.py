"""Sequences of keys, the optimum for them, and how often each cache hits.

The repository ships generators alone. Recorded traces, one key a line in gzip files, are read from the folder that the
environment variable ``CACHE_TRACES`` names.
"""

from __future__ import annotations

import bisect
import gzip
import heapq
import itertools
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from cachebox import LRUCache
from mcp_cache.entries import NEVER, Entry
from mcp_cache.table import POLICIES
from theine import Cache as Theine

LONGEST = 250_000  # requests of one trace
SHARES = (0.02, 0.1, 0.3)  # sizes, as shares of the distinct keys


def zipf(length: int, keys: int, skew: float, *, seed: int = 1, first: int = 0) -> list[int]:
    """Return *length* keys, of which the k-th most popular is asked for in proportion to ``k ** -skew``."""
    draw = random.Random(seed).random  # noqa: S311
    sums = list(itertools.accumulate((place + 1) ** -skew for place in range(keys)))
    return [first + bisect.bisect(sums, draw() * sums[-1]) for _ in range(length)]


def loop(length: int, keys: int) -> list[int]:
    """Return the same *keys* over and over."""
    return [place % keys for place in range(length)]


def scans(rounds: int) -> list[int]:
    """Return popular keys, interrupted by long runs of keys that never come back."""
    parts = [
        [*zipf(2000, 3000, 0.9, seed=n), *range(1_000_000 * (n + 1), 1_000_000 * (n + 1) + 1000)] for n in range(rounds)
    ]
    return list(itertools.chain.from_iterable(parts))


def shifts(rounds: int) -> list[int]:
    """Return popular keys whose popularity moves on."""
    return list(itertools.chain.from_iterable(zipf(10_000, 5000, 0.9, seed=n, first=2000 * n) for n in range(rounds)))


def pairs(length: int, distance: int) -> list[int]:
    """Return keys that come twice, *distance* new ones apart, and never again."""
    fresh = [(place, place) for place in range(length)]
    again = [(place + distance + 0.5, place) for place in range(length)]
    return [key for _, key in sorted(fresh + again)][:length]


def traces() -> Iterator[tuple[str, list[int]]]:
    """Yield the generated traces, and the recorded ones if there are any."""
    yield "zipf 0.7", zipf(100_000, 10_000, 0.7)
    yield "zipf 1.0", zipf(100_000, 10_000, 1.0)
    yield "loop", loop(50_000, 3000)
    yield "scan", scans(20)
    yield "shift", shifts(8)
    yield "pairs", pairs(50_000, 200)
    for path in sorted(Path(os.environ.get("CACHE_TRACES", "/nonexistent")).glob("*.gz")):
        with gzip.open(path, "rt") as file:
            yield (
                path.name.partition(".")[0],
                [hash(line.strip()) for line in itertools.islice(file, LONGEST) if line.strip()],
            )


def optimum(trace: list[int], size: int) -> int:
    """Count the hits of Belady's rule: the key that is needed last has to go."""
    following = [0] * len(trace)
    last: dict[int, int] = {}
    for place in range(len(trace) - 1, -1, -1):
        following[place] = last.get(trace[place], len(trace) + place)
        last[trace[place]] = place
    kept: dict[int, int] = {}
    queue: list[tuple[int, int]] = []
    hits = 0
    for key, needed in zip(trace, following, strict=True):
        hits += key in kept
        while key not in kept and len(kept) >= size:
            place, victim = heapq.heappop(queue)
            if kept.get(victim) == -place:
                del kept[victim]
        kept[key] = needed
        heapq.heappush(queue, (-needed, key))
    return hits


def ours(policy: str) -> Callable[[list[int], int], int]:
    """Return a function that counts the hits of one of our policies, told what the cache tells it."""

    def count(trace: list[int], size: int) -> int:
        entries: dict[int, Entry] = {}
        policy_ = POLICIES[policy](size)
        hits = 0
        for key in trace:
            entry = entries.get(key)
            if entry is None:
                entry = entries[key] = Entry(entries, key, None, 0)
                policy_.insert(entry)
                if policy_.watches(entry):
                    entry.fast_until = NEVER
                if len(entries) > size:
                    del entries[policy_.evict().key]
                continue
            hits += 1
            entry.hits += 1
            if entry.fast_until == NEVER:
                entry.fast_until = 0.0
                policy_.touch(entry)
        return hits

    return count


def theine(trace: list[int], size: int) -> int:
    """Count the hits of theine, the best of the Python libraries."""
    cache = Theine[int, int](size)
    hits = 0
    for key in trace:
        _, found = cache.get(key)
        hits += found
        if not found:
            cache.set(key, 1)
    cache.close()
    return hits


def cachebox_lru(trace: list[int], size: int) -> int:
    """Count the hits of cachebox's LRU."""
    cache: LRUCache[int, int] = LRUCache(size)
    hits = 0
    for key in trace:
        if cache.get(key) is not None:
            hits += 1
        else:
            cache[key] = 1
    return hits


CACHES: dict[str, Callable[[list[int], int], int]] = {
    **{policy: ours(policy) for policy in POLICIES},
    "theine": theine,
    "cachebox LRU": cachebox_lru,
}


def main() -> None:
    """Print a line for each trace and size, and below each column its share of the optimum."""
    print(f"{'':24}{'optimum':>9}" + "".join(f"{name:>13}" for name in CACHES))
    shares: dict[str, list[float]] = {name: [] for name in CACHES}
    regrets: dict[str, float] = dict.fromkeys(CACHES, 0.0)
    for name, trace in traces():
        for share in SHARES:
            size = max(2, int(len(set(trace)) * share))
            best = optimum(trace, size)
            ratios = {cache: count(trace, size) / len(trace) for cache, count in CACHES.items()}
            reference = max(ratios[cache] for cache in ("lru", "s3fifo", "tinylfu"))
            for cache, ratio in ratios.items():
                shares[cache].append(ratio * len(trace) / best)
                regrets[cache] = max(regrets[cache], 100 * (reference - ratio))
            line = "".join(f"{100 * ratio:12.1f}%" for ratio in ratios.values())
            print(f"{f'{name} @ {size}':24}{100 * best / len(trace):8.1f}%{line}")
    print(f"{'share of the optimum':33}" + "".join(f"{sum(found) / len(found):13.3f}" for found in shares.values()))
    print(f"{'worst regret, points':33}" + "".join(f"{regret:13.1f}" for regret in regrets.values()))


if __name__ == "__main__":
    main()
