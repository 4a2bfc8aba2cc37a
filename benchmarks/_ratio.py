"""Compare candidates by CPU time, as ratios to a bare ``await noop()`` in the same process.

A figure in microseconds says more about the machine than about the code; a ratio survives a change of machine. All
candidates take turns within each round, so that a slow second of the machine hits all alike; a candidate's ratio is
taken within its round, and the median over the rounds is reported, with the tenth percentile as its noise floor.

    rows = compare({"ours": ours, "theirs": theirs}, peers=["theirs"])
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import platform
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

__all__ = ["Row", "compare"]

BASE = "await noop()"


@dataclass(frozen=True)
class Row:
    """One candidate: its ratio to a bare await (median and tenth percentile), and the CPU time of a call."""

    name: str
    ratio: float
    ratio_p10: float
    nanoseconds: float


def compare(
    candidates: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 25,
    calls: int = 5000,
    peers: Sequence[str] = (),
    path: Path | None = None,
) -> list[Row]:
    """Measure *candidates*, print a table, and return its rows, the bare await first.

    A candidate is an async or sync function without arguments; an async one is awaited on a running asyncio loop.
    *calls* calls are timed in each of *rounds* rounds. *peers* are distributions whose versions belong beside the
    figures. *path*, when given, receives all of it as JSON.
    """
    with _frozen_collector():
        seconds = asyncio.run(_measure({BASE: _noop, **candidates}, rounds, calls))
    rows = [_row(name, times, seconds[BASE], calls) for name, times in seconds.items()]
    versions = {"Python": platform.python_version(), **{name: _version(name) for name in peers}}
    print(_table(rows, versions))
    if path is not None:
        path.write_text(json.dumps({"versions": versions, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")
    return rows


async def _noop() -> None: ...


async def _measure(candidates: Mapping[str, Callable[[], object]], rounds: int, calls: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + 1):
        gc.collect()  # what the candidates leave in cycles must not pile up
        for name, fn in candidates.items():
            taken = await _time_async(fn, calls) if inspect.iscoroutinefunction(fn) else _time_sync(fn, calls)
            if number:  # the first round warms up
                seconds[name].append(taken)
    return seconds


async def _time_async(fn: Callable[[], Awaitable[object]], calls: int) -> float:
    began = time.process_time()
    for _ in range(calls):
        await fn()
    return time.process_time() - began


def _time_sync(fn: Callable[[], object], calls: int) -> float:
    began = time.process_time()
    for _ in range(calls):
        fn()
    return time.process_time() - began


def _row(name: str, times: list[float], base: list[float], calls: int) -> Row:
    ratios = [own / bare for own, bare in zip(times, base, strict=True)]
    tenth = statistics.quantiles(ratios, n=10, method="inclusive")[0]
    return Row(name, statistics.median(ratios), tenth, statistics.median(times) / calls * 1e9)


def _table(rows: list[Row], versions: Mapping[str, str]) -> str:
    width = max(len(row.name) for row in rows)
    lines = [", ".join(map(" ".join, versions.items())), f"{'':<{width}}  {'ratio':>8}  {'p10':>8}  {'ns a call':>10}"]
    lines += [f"{row.name:<{width}}  {row.ratio:8.2f}  {row.ratio_p10:8.2f}  {row.nanoseconds:10.0f}" for row in rows]
    return "\n".join(lines)


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


@contextmanager
def _frozen_collector() -> Iterator[None]:
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
