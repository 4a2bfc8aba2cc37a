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
import statistics
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

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


GENERATED: dict[str, Callable[[], list[int]]] = {
    "zipf 0.7": lambda: zipf(100_000, 10_000, 0.7),
    "zipf 1.0": lambda: zipf(100_000, 10_000, 1.0),
    "loop": lambda: loop(50_000, 3000),
    "scan": lambda: scans(20),
    "shift": lambda: shifts(8),
    "pairs": lambda: pairs(50_000, 200),
}


def traces() -> Iterator[tuple[str, list[int]]]:
    """Yield the generated traces, and the recorded ones if there are any."""
    for name, generate in GENERATED.items():
        yield name, generate()
    for path in sorted(Path(os.environ.get("CACHE_TRACES", "/nonexistent")).glob("*.gz")):
        with gzip.open(path, "rb") as file:  # checksums, since Python's own hashes of strings differ in every process
            lines = itertools.islice(file, LONGEST)
            yield path.name.partition(".")[0], [zlib.crc32(line.strip()) for line in lines if line.strip()]


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


class Figures(NamedTuple):
    """How the adaptive policy did on some traces: its mean share of the optimum, its worst distance in points."""

    share: float
    regret: float


def main() -> dict[str, Figures]:
    """Print a line for each trace and size, and below each column its share of the optimum; return the sums."""
    print(f"{'':24}{'optimum':>9}" + "".join(f"{name:>13}" for name in CACHES))
    found: dict[str, list[tuple[dict[str, float], dict[str, float]]]] = {}
    for name, trace in traces():
        for size in (max(2, int(len(set(trace)) * share)) for share in SHARES):
            best = optimum(trace, size)
            ratios = {cache: count(trace, size) / len(trace) for cache, count in CACHES.items()}
            reference = max(ratios[cache] for cache in ("lru", "s3fifo", "tinylfu"))
            shares = {cache: ratio * len(trace) / best for cache, ratio in ratios.items()}
            regrets = {cache: 100 * (reference - ratio) for cache, ratio in ratios.items()}
            found.setdefault("generated" if name in GENERATED else "recorded", []).append((shares, regrets))
            line = "".join(f"{100 * ratio:12.1f}%" for ratio in ratios.values())
            print(f"{f'{name} @ {size}':24}{100 * best / len(trace):8.1f}%{line}")
    for kind, rows in found.items():
        means = [statistics.fmean(shares[cache] for shares, _ in rows) for cache in CACHES]
        print(f"{f'share of the optimum, {kind}':33}" + "".join(f"{mean:13.3f}" for mean in means))
        worst = [max(regrets[cache] for _, regrets in rows) for cache in CACHES]
        print(f"{f'worst regret, points, {kind}':33}" + "".join(f"{points:13.1f}" for points in worst))
    return {
        kind: Figures(statistics.fmean(s["adaptive"] for s, _ in rows), max(r["adaptive"] for _, r in rows))
        for kind, rows in found.items()
    }


if __name__ == "__main__":
    main()
