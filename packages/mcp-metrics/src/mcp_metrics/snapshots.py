"""Add up the metrics of several processes: each writes its own to a file, and whoever is scraped reads them all.

    worker ── write(registry, folder) ──▶ folder/ID.metrics ──┐
    worker ── write(registry, folder) ──▶ folder/ID.metrics ──┼── read(folder) ──▶ Snapshot ──▶ MetricsApp
                                                              └── torn or garbage: skipped and counted

A file is replaced in one step and carries a checksum, so a reader sees the old or the new one, and knows when a full
disk or a kill has left something else. ``merge`` also works on snapshots that came by any other way.

Invariants, each tested in ``tests/metrics/test_snapshot.py``:

1. ``merge`` is associative and commutative (sums of floats up to rounding), and merging with nothing changes nothing.
2. What one worker wrote is read back equal; nothing that a file holds makes ``read`` raise.
3. Counters and histograms of workers that are gone stay in the sum until their file is removed.
"""

from __future__ import annotations

import json
import operator
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

from .exposition import Source
from .family import Description
from .native import NativeBuckets
from .series import Exemplar, Point

__all__ = ["Snapshot", "merge", "read", "snapshot", "write"]

MAGIC = "mcp-metrics 1"
SUFFIX = ".metrics"
WORKER = re.compile(r"[A-Za-z0-9_-]{1,64}")
GAUGES: dict[str, Callable[[float, float], float]] = {"sum": operator.add, "max": max, "min": min}

Points = dict[tuple[str, ...], Point]


@dataclass(frozen=True)
class Snapshot:
    """Metrics at one moment, of one or several processes; it can be exposed like a registry.

    Attributes:
        families: points by description and labels.
        skipped: files that could not be read.
    """

    families: Mapping[Description, Points] = field(default_factory=dict[Description, Points])
    skipped: int = 0

    def collect(self) -> Iterator[tuple[Description, Iterator[Point]]]:
        """Yield each family with its points; of families that share a name but differ, one, the same every time."""
        chosen = {description.name: description for description in sorted(self.families)}
        for description in chosen.values():
            yield description, iter(self.families[description].values())
        lost = Description("gauge", "mcp_metrics_snapshots_skipped", "Files of other processes that could not be read.")
        yield lost, iter([Point((), 0.0, self.skipped)])


def snapshot(source: Source) -> Snapshot:
    """Return what *source* says now."""
    return Snapshot({about: {point.labels: point for point in points} for about, points in source.collect()})


def merge(one: Snapshot, two: Snapshot) -> Snapshot:
    """Return both added up: counters and histograms summed, gauges as their family says, the earliest start time."""
    families = dict(one.families)
    for about, points in two.families.items():
        families[about] = _united(families.get(about, {}), points, about)
    return Snapshot(families, one.skipped + two.skipped)


def write(source: Source, folder: Path, worker: str | None = None) -> Path:
    """Write what *source* says now to its file in *folder*, replacing the last one, and return the path.

    *worker* names the file, letters and digits; by default it is the process id. Waits for the disk: call it from
    a thread. Raises OSError, and then the last file is still there.
    """
    name = str(os.getpid()) if worker is None else worker
    if not WORKER.fullmatch(name):
        raise ValueError(f"worker must be 1 to 64 letters, digits, '-' or '_', got {worker!r}")
    body = json.dumps(_dump(snapshot(source)), separators=(",", ":"))
    path, draft = folder / f"{name}{SUFFIX}", folder / f"{name}.tmp"
    draft.write_text(f"{MAGIC} {zlib.crc32(body.encode()):08x}\n{body}", "utf-8")
    draft.replace(path)
    return path


def read(folder: Path) -> Snapshot:
    """Return the sum of all files in *folder*; waits for the disk: call it from a thread."""
    return reduce(merge, map(_read_file, sorted(folder.glob(f"*{SUFFIX}"))), Snapshot())


def _united(one: Points, two: Points, about: Description) -> Points:
    united = dict(one)
    for labels, point in two.items():
        known = united.get(labels)
        united[labels] = point if known is None else _sum(known, point, about)
    return united


def _sum(one: Point, two: Point, about: Description) -> Point:
    if about.kind == "info":
        return one if one.created <= two.created else two
    add = GAUGES[about.merge] if about.kind == "gauge" else GAUGES["sum"]
    counts = [own + other for own, other in zip(one.counts, two.counts, strict=True)]
    exemplars = dict(one.exemplars)
    for bucket, exemplar in two.exemplars.items():
        exemplars[bucket] = max(exemplars.get(bucket, exemplar), exemplar, key=_newest)
    created = min(one.created, two.created)
    return Point(one.labels, created, add(one.value, two.value), counts, exemplars, _native_sum(one.native, two.native))


def _newest(exemplar: Exemplar) -> tuple[float, float, tuple[tuple[str, str], ...]]:
    return exemplar.timestamp, exemplar.value, exemplar.labels


def _native_sum(one: NativeBuckets | None, two: NativeBuckets | None) -> NativeBuckets | None:
    if one is None or two is None:
        return one or two
    total = one.copy()
    total.merge(two)
    return total


def _read_file(path: Path) -> Snapshot:
    try:
        head, _, body = path.read_text("utf-8").partition("\n")
        if head != f"{MAGIC} {zlib.crc32(body.encode()):08x}":
            return Snapshot(skipped=1)
        return _load(json.loads(body))
    except FileNotFoundError:  # removed since it was listed
        return Snapshot()
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return Snapshot(skipped=1)


def _dump(taken: Snapshot) -> list[Any]:
    return [[about, [_dump_point(point) for point in points.values()]] for about, points in taken.families.items()]


def _dump_point(point: Point) -> list[Any]:
    exemplars = [[bucket, *exemplar] for bucket, exemplar in point.exemplars.items()]
    native = point.native and [
        [point.native.schema, point.native.limit, point.native.zero_threshold, point.native.zero_count],
        list(point.native.positive.items()),
        list(point.native.negative.items()),
    ]
    return [point.labels, point.created, point.value, list(point.counts), exemplars, native]


def _load(families: list[Any]) -> Snapshot:
    loaded: dict[Description, Points] = {}
    for (kind, name, about, unit, labels, bounds, mode), points in families:
        description = Description(kind, name, about, unit, tuple(labels), tuple(bounds), mode)
        loaded[description] = {point.labels: point for point in map(_load_point, points)}
        if any(len(found) != len(labels) for found in loaded[description]):
            raise ValueError(f"{name}: labels and values do not match")
    return Snapshot(loaded)


def _load_point(stored: list[Any]) -> Point:
    labels, created, value, counts, exemplars, native = stored
    kept = {
        bucket: Exemplar(tuple((name, text) for name, text in pairs), amount, timestamp)
        for bucket, pairs, amount, timestamp in exemplars
    }
    return Point(tuple(labels), created, value, counts, kept, native and _load_native(*native))


def _load_native(shape: list[Any], positive: list[Any], negative: list[Any]) -> NativeBuckets:
    schema, limit, zero_threshold, zero_count = shape
    native = NativeBuckets(schema, limit=limit, zero_threshold=zero_threshold)
    native.zero_count = zero_count
    native.positive, native.negative = dict(positive), dict(negative)
    return native
