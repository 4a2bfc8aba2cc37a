"""Compare candidates by CPU time, as ratios to a bare ``await noop()`` in the same process.

A figure in microseconds says more about the machine than about the code; a ratio survives a change of machine. All
candidates take turns within each round, so that a slow second of the machine hits all alike; a candidate's ratio is
taken within its round, and the median over the rounds is reported, with the tenth percentile as its noise floor.

    rows = compare({"ours": ours, "theirs": theirs}, title="a call that succeeds", peers=["theirs"])
    figure("memory of a key", 52, "bytes", at_most=70)

Both print, and both write down what they printed in the file named by the variable BENCH_RECORD, if there is one, from
which ``write_numbers.py`` makes the pages.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import os
import platform
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, TypeAlias

__all__ = ["Figure", "Record", "Row", "Table", "compare", "figure"]

Candidates: TypeAlias = Mapping[str, Callable[[], object]]

BASE = "await noop()"
LONGEST = 0.1  # seconds that one candidate may take in one round


@dataclass(frozen=True)
class Row:
    """One candidate: its ratio to a bare await (median and tenth percentile), and the CPU time of a call."""

    name: str
    ratio: float
    ratio_p10: float
    nanoseconds: float


@dataclass(frozen=True)
class Table:
    """What one call of ``compare`` found, and which of its rows are of others."""

    title: str
    versions: dict[str, str]
    rows: list[Row]


@dataclass(frozen=True)
class Figure:
    """A single figure, with the limit it is to keep, if any."""

    name: str
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def target(self) -> str:
        """The limit in words, and whether it is kept."""
        if self.at_most is not None:
            return f"at most {self.at_most:g}: {'kept' if self.value <= self.at_most else 'MISSED'}"
        if self.at_least is not None:
            return f"at least {self.at_least:g}: {'kept' if self.value >= self.at_least else 'MISSED'}"
        return ""


@dataclass
class Record:
    """All that one program has found so far."""

    tables: list[Table] = field(default_factory=list[Table])
    figures: list[Figure] = field(default_factory=list[Figure])

    def save(self) -> None:
        """Write it where BENCH_RECORD says."""
        if path := os.environ.get("BENCH_RECORD"):
            Path(path).write_text(json.dumps(asdict(self), indent=1) + "\n", "utf-8")


_record = Record()


def compare(
    candidates: Candidates | Callable[[AsyncExitStack], Awaitable[Candidates]],
    *,
    title: str = "",
    rounds: int = 25,
    calls: int = 5000,
    peers: Sequence[str] = (),
) -> list[Row]:
    """Measure *candidates*, print a table under *title*, and return its rows, the bare await first.

    A candidate is an async or sync function without arguments; an async one is awaited on a running asyncio loop. Those
    that need something open on that loop are made by an async function of the stack that will close it. *calls* calls
    are timed in each of *rounds* rounds, fewer of those that take long. *peers* are distributions whose versions belong
    beside the figures; a row is a peer's if its name begins with that of the distribution.
    """
    with _frozen_collector():
        seconds = asyncio.run(_measure(candidates, rounds, calls))
    rows = [_row(name, times, seconds[BASE]) for name, times in seconds.items()]
    table = Table(title, {"Python": platform.python_version(), **{name: _version(name) for name in peers}}, rows)
    print(_text(table))
    _record.tables.append(table)
    _record.save()
    return rows


def figure(
    name: str, value: float, unit: str = "", *, at_most: float | None = None, at_least: float | None = None
) -> None:
    """Print one figure, and whether it keeps its limit."""
    found = Figure(name, value, unit, at_most, at_least)
    print(f"{name}: {value:.4g} {unit}  {found.target}".rstrip())
    _record.figures.append(found)
    _record.save()


async def _noop() -> None: ...


async def _measure(candidates: Any, rounds: int, calls: int) -> dict[str, list[float]]:
    async with AsyncExitStack() as stack:
        found: Candidates = {BASE: _noop, **(await candidates(stack) if callable(candidates) else candidates)}
        counts = {name: await _count(fn, calls) for name, fn in found.items()}
        seconds: dict[str, list[float]] = {name: [] for name in found}
        for number in range(rounds + 1):
            gc.collect()  # what the candidates leave in cycles must not pile up
            for name, fn in found.items():
                taken = await _time(fn, counts[name])
                if number:  # the first round warms up
                    seconds[name].append(taken / counts[name])
        return seconds


async def _count(fn: Any, calls: int) -> int:
    """Return how many of the *calls* fit into LONGEST; the first call of all may do what no other has to."""
    await _time(fn, 1)
    return min(calls, max(1, int(LONGEST / max(await _time(fn, 1), 1e-9))))


async def _time(fn: Any, calls: int) -> float:
    return await _time_async(fn, calls) if inspect.iscoroutinefunction(fn) else _time_sync(fn, calls)


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


def _row(name: str, times: list[float], base: list[float]) -> Row:
    ratios = [own / bare for own, bare in zip(times, base, strict=True)]
    tenth = statistics.quantiles(ratios, n=10, method="inclusive")[0]
    return Row(name, statistics.median(ratios), tenth, statistics.median(times) * 1e9)


def _text(table: Table) -> str:
    width = max(len(row.name) for row in table.rows)
    lines = [f"\n{table.title}"] if table.title else []
    lines += [", ".join(map(" ".join, table.versions.items()))]
    lines += [f"{'':<{width}}  {'ratio':>8}  {'p10':>8}  {'ns a call':>10}"]
    for row in table.rows:
        lines.append(f"{row.name:<{width}}  {row.ratio:8.2f}  {row.ratio_p10:8.2f}  {row.nanoseconds:10.0f}")
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
