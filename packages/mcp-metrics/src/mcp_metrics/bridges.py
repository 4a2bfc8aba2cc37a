"""Hand metrics to systems that do not scrape: OTLP as JSON, and lines for a statsd agent.

Both take what a scrape would: a ``Registry`` or a ``Snapshot``. Sending is yours: an HTTP client, a UDP socket.

Rules, each tested in ``tests/metrics/test_bridges.py``:

1. ``to_otlp`` is a valid ``ExportMetricsServiceRequest`` in OTLP's JSON, with names, units and start times kept.
2. No text from outside can end a statsd line or begin a field: all but letters, digits and ``._-/`` become ``_``.
3. The deltas of all ``StatsdWriter.lines`` of a counter add up to its total.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .checks import checked_source
from .exposition import Source
from .family import Description
from .native import NativeBuckets
from .semconv import attributes
from .series import Exemplar, Point
from .text import number

__all__ = ["StatsdWriter", "to_otlp"]

CUMULATIVE = 2  # AGGREGATION_TEMPORALITY_CUMULATIVE
UCUM = {"seconds": "s", "milliseconds": "ms", "bytes": "By", "ratio": "1"}
Key = tuple[str, tuple[str, ...]]  # a name and the labels as they are: two may be written alike

IDS = {  # as exemplars name them, as OTLP does, and what they look like there
    "trace_id": ("traceId", re.compile("[0-9a-fA-F]{32}")),
    "span_id": ("spanId", re.compile("[0-9a-fA-F]{16}")),
}
NOT_FINITE = {"+Inf": "Infinity", "-Inf": "-Infinity", "NaN": "NaN"}

_UNSAFE = re.compile(r"[^A-Za-z0-9._/-]")


def to_otlp(
    source: Source, *, resource: Mapping[str, str] | None = None, now: Callable[[], float] = time.time
) -> dict[str, Any]:
    """Return an OTLP/JSON request, to be posted to a collector's ``/v1/metrics``.

    *resource* are attributes of the sender, ``service.name`` above all. A histogram with native buckets becomes an
    exponential one: OTLP has no place for both.
    """
    moment = _nanoseconds(now())
    told = ((about, list(points)) for about, points in source.collect())
    metrics = [_metric(about, points, moment) for about, points in told if points]
    scope = {"scope": {"name": "mcp_metrics"}, "metrics": metrics}
    return {"resourceMetrics": [{"resource": {"attributes": _attributes(resource or {})}, "scopeMetrics": [scope]}]}


class StatsdWriter:
    """Writes what has changed since the last time as lines of statsd, with tags in the way of Datadog.

    Histograms become two counters, ``.count`` and ``.sum``: an agent makes quantiles from single values, which are gone
    by then. It holds two numbers a series; make one writer an agent. Ask it for lines more often than series go idle:
    what one had counted when it left its registry can no longer be read.
    """

    def __init__(self, source: Source, *, prefix: str = "") -> None:
        self._source = checked_source("StatsdWriter", source, "collect", "a Registry or a Snapshot")
        self._prefix = prefix and _safe(prefix) + "."
        self._sent: dict[Key, tuple[float, float]] = {}

    def lines(self) -> list[str]:
        """Return one line, without its end, for every gauge and for every counter that has grown."""
        sent, self._sent = self._sent, {}
        return [
            line
            for about, points in self._source.collect()
            for point in points
            for line in self._of(about, point, sent)
        ]

    def _of(self, about: Description, point: Point, sent: Mapping[Key, tuple[float, float]]) -> Iterator[str]:
        pairs = zip(about.labels, point.labels, strict=True)
        tags = ",".join(f"{_safe(label)}:{_safe(value)}" for label, value in pairs if value)
        name, end = self._prefix + _safe(about.exposed), f"|#{tags}" if tags else ""
        if about.kind in ("gauge", "info"):
            yield from _gauge(name, number(point.value), end)
            return
        totals = {name: point.value}
        if about.kind == "histogram":
            totals = {f"{name}.count": sum(point.counts), f"{name}.sum": point.value}
        for each, total in totals.items():
            self._sent[each, point.labels] = point.created, total
            created, before = sent.get((each, point.labels), (point.created, 0))
            delta = number(total - (before if created == point.created else 0))
            if float(delta) and delta not in NOT_FINITE:
                yield f"{each}:{delta}|c{end}"


def _gauge(name: str, value: str, end: str) -> Iterator[str]:
    if value in NOT_FINITE:
        return
    if value.startswith("-"):  # a sign would make it a change
        yield f"{name}:0|g{end}"
    yield f"{name}:{value}|g{end}"


def _safe(text: str) -> str:
    return _UNSAFE.sub("_", text)


def _metric(about: Description, points: list[Point], moment: str) -> dict[str, Any]:
    # OTLP has one kind a metric; a merge with a process that has no native buckets leaves some points without.
    if len({point.native is None for point in points}) > 1:
        points = [point._replace(native=None) for point in points]
    told = [_data_point(about, point, moment) for point in points]
    head = {"name": about.name, "description": about.help, "unit": UCUM.get(about.unit, about.unit)}
    if about.kind == "counter":
        return {**head, "sum": {"dataPoints": told, "aggregationTemporality": CUMULATIVE, "isMonotonic": True}}
    if about.kind != "histogram":
        return {**head, "gauge": {"dataPoints": told}}
    field = "exponentialHistogram" if points[0].native else "histogram"
    return {**head, field: {"dataPoints": told, "aggregationTemporality": CUMULATIVE}}


def _data_point(about: Description, point: Point, moment: str) -> dict[str, Any]:
    told = _attributes(attributes(about.labels, point.labels))
    shared: dict[str, Any] = {"attributes": told, "timeUnixNano": moment}
    if about.kind in ("counter", "histogram"):
        exemplars = [_exemplar(exemplar) for exemplar in point.exemplars.values()]
        shared |= {"startTimeUnixNano": _nanoseconds(point.created), "exemplars": exemplars}
    if about.kind != "histogram":
        return {**shared, "asDouble": _double(point.value)}
    shared |= {"count": str(sum(point.counts)), "sum": _double(point.value)}
    if point.native is not None:
        return {**shared, **_exponential(point.native)}
    return {**shared, "bucketCounts": list(map(str, point.counts)), "explicitBounds": list(about.bounds)}


def _exponential(native: NativeBuckets) -> dict[str, Any]:
    return {
        "scale": native.schema,
        "zeroCount": str(native.zero_count),
        "zeroThreshold": native.zero_threshold,
        "positive": _dense(native.positive),
        "negative": _dense(native.negative),
    }


def _dense(buckets: dict[int, int]) -> dict[str, Any]:
    """Write buckets without gaps; OTLP names a bucket by its lower bound, Prometheus by its upper one."""
    if not buckets:
        return {"offset": 0, "bucketCounts": []}
    first, last = min(buckets), max(buckets)
    return {"offset": first - 1, "bucketCounts": [str(buckets.get(place, 0)) for place in range(first, last + 1)]}


def _exemplar(exemplar: Exemplar) -> dict[str, Any]:
    labels = dict(exemplar.labels)
    # A collector refuses the whole request for one id that is none: such a one stays an attribute.
    ids = {key: labels.pop(name) for name, (key, form) in IDS.items() if form.fullmatch(labels.get(name, ""))}
    told = {"timeUnixNano": _nanoseconds(exemplar.timestamp), "asDouble": _double(exemplar.value)}
    return {**told, "filteredAttributes": _attributes(labels), **ids}


def _attributes(pairs: Mapping[str, str | int]) -> list[dict[str, Any]]:
    return [
        {"key": key, "value": {"stringValue": value} if isinstance(value, str) else {"intValue": str(value)}}
        for key, value in pairs.items()
    ]


def _double(value: float) -> float | str:
    """Return *value* as JSON can hold it: OTLP spells out what is not finite."""
    text = number(value)
    return NOT_FINITE.get(text) or float(text)


def _nanoseconds(seconds: float) -> str:
    return str(int(seconds * 1e9))
