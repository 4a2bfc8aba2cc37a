"""Add up the metrics of several processes.

    Registry ── snapshot ──▶ Snapshot ──┐
    Registry ── snapshot ──▶ Snapshot ──┴── merge ──▶ Snapshot ── collect() ──▶ any exposition

How snapshots get from one process to another is the business of others: of ``folder.py``, or of any pipe of yours.

Invariant, tested in ``tests/metrics/test_snapshots.py``: ``merge`` is associative and commutative (sums of floats up to
rounding), and merging with nothing changes nothing.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from .exposition import Source
from .family import SUFFIXES, Description
from .native import NativeBuckets
from .series import Exemplar, Point

__all__ = ["Snapshot", "dump", "lasting", "load", "merge", "snapshot"]

LASTING = ("counter", "histogram")

SKIPPED = Description("gauge", "mcp_metrics_snapshots_skipped", "Files of other processes that could not be read.")

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
        """Yield each family with its points; of families with a line of the same name one, the same every time."""
        yield SKIPPED, iter([Point((), 0.0, self.skipped)])
        taken = set(SKIPPED.samples)
        for description in sorted(self.families):
            if taken.isdisjoint(description.samples):
                taken.update(description.samples)
                yield description, iter(self.families[description].values())


def snapshot(source: Source) -> Snapshot:
    """Return what *source* says now; a snapshot as it is."""
    if isinstance(source, Snapshot):
        return source
    return Snapshot({about: {point.labels: point for point in points} for about, points in source.collect()})


def merge(one: Snapshot, two: Snapshot) -> Snapshot:
    """Return both added up: counters and histograms summed, gauges as their family says, the earliest start time."""
    families = dict(one.families)
    for about, points in two.families.items():
        families[about] = _united(families.get(about, {}), points, about)
    return Snapshot(families, one.skipped + two.skipped)


def lasting(taken: Snapshot) -> Snapshot:
    """Return what stays true when a process is gone: what it has counted."""
    return Snapshot({about: points for about, points in taken.families.items() if about.kind in LASTING})


def dump(taken: Snapshot) -> list[Any]:
    """Return the families as JSON can hold them."""
    return [[about, [_dump_point(point) for point in points.values()]] for about, points in taken.families.items()]


def load(families: list[Any]) -> Snapshot:
    """Return what was dumped; for anything else raise ValueError, TypeError or one of their like."""
    loaded: dict[Description, Points] = {}
    for (kind, name, about, unit, labels, bounds, mode), points in families:
        words = f"{kind}", f"{name}", f"{about}", f"{unit}"
        description = Description(*words, tuple(map(str, labels)), tuple(map(float, bounds)), mode)
        loaded[description] = {point.labels: point for point in map(_load_point, points)}
        if not all(_fits(point, description) for point in loaded[description].values()):
            raise ValueError(f"{name}: labels and values, or bounds and counts, do not match")
    return Snapshot(loaded)


def _united(one: Points, two: Points, about: Description) -> Points:
    united = dict(one)
    for labels, point in two.items():
        known = united.get(labels)
        united[labels] = point if known is None else _sum(known, point, about)
    return united


def _sum(one: Point, two: Point, about: Description) -> Point:
    if about.kind == "info":
        return one if one.created <= two.created else two
    add = GAUGES[about.merge]
    counts = list(map(operator.add, one.counts, two.counts))
    exemplars = dict(one.exemplars)
    for bucket, exemplar in two.exemplars.items():
        exemplars[bucket] = max(exemplars.get(bucket, exemplar), exemplar, key=_newest)
    created = min(one.created, two.created)
    return Point(one.labels, created, add(one.value, two.value), counts, exemplars, _native_sum(one.native, two.native))


def _newest(exemplar: Exemplar) -> tuple[float, float, tuple[tuple[str, str], ...]]:
    return exemplar.timestamp, exemplar.value, exemplar.labels


def _native_sum(one: NativeBuckets | None, two: NativeBuckets | None) -> NativeBuckets | None:
    if one is None or two is None:  # half of the values would be none
        return None
    total = one.copy()
    total.merge(two)
    return total


def _known(choose: Callable[[float, float], float], one: float, two: float) -> float:
    """Choose one of two values that may be NaN: that is no value, and the order must not matter."""
    return two if math.isnan(one) else one if math.isnan(two) else choose(one, two)


GAUGES: dict[str, Callable[[float, float], float]] = {
    "sum": operator.add,
    "max": partial(_known, max),
    "min": partial(_known, min),
}


def _dump_point(point: Point) -> list[Any]:
    exemplars = [[bucket, *exemplar] for bucket, exemplar in point.exemplars.items()]
    native = point.native and [
        [point.native.schema, point.native.limit, point.native.zero_threshold, point.native.zero_count],
        list(point.native.positive.items()),
        list(point.native.negative.items()),
    ]
    return [point.labels, point.created, point.value, list(point.counts), exemplars, native]


def _fits(point: Point, about: Description) -> bool:
    shape = len(about.labels), len(about.bounds) + 1 if about.kind == "histogram" else 0
    return (len(point.labels), len(point.counts)) == shape and about.merge in GAUGES and about.kind in SUFFIXES


def _load_point(stored: list[Any]) -> Point:
    labels, created, value, counts, exemplars, native = stored
    math.isnan(value)  # raises for what is no number
    kept = {
        int(bucket): Exemplar(tuple((f"{name}", f"{text}") for name, text in pairs), float(amount), float(timestamp))
        for bucket, pairs, amount, timestamp in exemplars
    }
    told = tuple(map(str, labels)), float(created), value, list(map(int, counts)), kept
    return Point(*told, native and _load_native(*native))


def _load_native(shape: list[Any], positive: list[Any], negative: list[Any]) -> NativeBuckets:
    schema, limit, zero_threshold, zero_count = shape
    native = NativeBuckets(schema, limit=limit, zero_threshold=float(zero_threshold))
    native.zero_count = int(zero_count)
    for mine, stored in ((native.positive, positive), (native.negative, negative)):
        mine.update((int(place), int(count)) for place, count in stored)
    return native
