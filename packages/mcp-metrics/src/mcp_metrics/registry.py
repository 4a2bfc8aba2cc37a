"""Register metrics once, at start, and have every mistake in their description refused then.

    Registry ── counter, gauge, histogram, info ──▶ Family ── bind(*values) ──▶ the series that is written to
        └── collect() ──▶ what all of them say, for an exposition

Rules, each tested in ``tests/metrics/test_registry.py``:

1. No two families expose the same name, under any escaping scheme and with any suffix that a format adds.
2. Whatever is refused is refused with ValueError at registration, and names the culprit.
3. A label value that found no room is counted in ``mcp_metrics_overflow_total``, by metric.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, cast

from .checks import checked_function
from .family import ENDINGS, KINDS, Description, Family, S
from .histogram import Histogram, NativeHistogram
from .native import COARSEST, FINEST
from .series import Counter, Gauge, Info, Point
from .text import check_name, escape, valid

__all__ = ["DEFAULT_BUCKETS", "Overflow", "Registry", "RegistryStatistics"]

DEFAULT_BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Seconds; what the OpenTelemetry conventions for MCP advise."""
MAX_BUCKETS = 200
RESERVED_LABELS = {"le", "quantile"}

Merge = Literal["sum", "max", "min"]


@dataclass(frozen=True)
class Overflow:
    """A label set found no room in the family *metric*; what is observed under it goes to ``_OTHER``."""

    metric: str


@dataclass(frozen=True)
class RegistryStatistics:
    """How much a registry holds: families, series, label sets that found no room."""

    families: int
    series: int
    overflowed: int


class Registry:
    """All metrics of a program, or of one part of it.

    Args:
        max_series: of each family; label sets beyond it share one series, whose labels are ``_OTHER``.
        idle: seconds after which a counter or histogram that nobody writes to is let go, looked at when it is scraped;
            None never. Make it several times the scrape interval, or ``rate()`` has too few samples.
        clock: for *idle*, seconds.
        now: for start times and exemplars, Unix seconds.
        on_event: is told of every ``Overflow``, in the thread that writes; what it raises is logged.
    """

    def __init__(
        self,
        *,
        max_series: int = 2000,
        idle: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        on_event: Callable[[Overflow], None] | None = None,
    ) -> None:
        if type(max_series) is not int or max_series < 1:
            raise ValueError(f"Registry needs an int max_series >= 1, got {max_series!r}")
        if idle is not None and (type(idle) not in (int, float) or not 0 < idle < math.inf):
            raise ValueError(f"Registry needs 0 < idle < inf seconds, or None, got {idle!r}")
        checked_function("Registry", "clock", clock)
        checked_function("Registry", "now", now)
        if on_event is not None:
            checked_function("Registry", "on_event", on_event)
        self._families: dict[str, Family[Any]] = {}
        self._claimed: dict[str, str] = {}
        self._options: dict[str, Any] = {"max_series": max_series, "idle": idle, "clock": clock, "now": now}
        self._on_event = on_event
        self._overflowed = 0
        self._overflow = self.counter("mcp_metrics_overflow", "Label sets that found no room.", labels=["metric"])

    def counter(self, name: str, help: str, *, unit: str = "", labels: Sequence[str] = ()) -> Family[Counter]:  # noqa: A002  # the field's word
        """Register a total that only grows; ``_total`` is added to its name where a format wants it."""
        return self._register(Counter, name, help, unit=unit, labels=labels)

    def gauge(
        self,
        name: str,
        help: str,  # noqa: A002  # the field's word
        *,
        unit: str = "",
        labels: Sequence[str] = (),
        merge: Merge = "sum",
    ) -> Family[Gauge]:
        """Register a value that goes up and down; *merge* says what several processes' values become."""
        if merge not in ("sum", "max", "min"):
            raise ValueError(f"{name}: merge must be 'sum', 'max' or 'min', got {merge!r}")
        return self._register(Gauge, name, help, unit=unit, labels=labels, merge=merge)

    def info(self, name: str, help: str, *, labels: Sequence[str]) -> Family[Info]:  # noqa: A002  # the field's word
        """Register facts about the program; ``bind`` states them."""
        return self._register(Info, name, help, labels=labels)

    def histogram(
        self,
        name: str,
        help: str,  # noqa: A002  # the field's word
        *,
        unit: str = "",
        labels: Sequence[str] = (),
        buckets: Iterable[float] = DEFAULT_BUCKETS,
        native: int | None = None,
    ) -> Family[Histogram]:
        """Register values counted by size.

        *buckets* are upper bounds, ascending; one without a bound is added. *native* is the schema of native buckets
        (8 to -4; 3 is 9 % wide) beside them, which only the protobuf format shows.
        """
        bounds = _bounds(name, buckets)
        if native is None:
            return self._register(Histogram, name, help, unit=unit, labels=labels, bounds=bounds)
        if type(native) is not int or not COARSEST <= native <= FINEST:
            raise ValueError(f"{name}: native must be a schema from {COARSEST} to {FINEST}, got {native!r}")
        kind: type[Histogram] = NativeHistogram
        return self._register(kind, name, help, schema=native, unit=unit, labels=labels, bounds=bounds)

    def collect(self) -> Iterator[tuple[Description, Iterator[Point]]]:
        """Yield each family's description and points, which are read while they are iterated over."""
        for family in tuple(self._families.values()):
            yield family.description, family.points()

    def statistics(self) -> RegistryStatistics:
        """Return how much is held now."""
        return RegistryStatistics(len(self._families), sum(map(len, self._families.values())), self._overflowed)

    def _register(
        self,
        kind: type[S],
        name: str,
        help: str,  # noqa: A002  # the field's word
        *,
        unit: str = "",
        labels: Sequence[str] = (),
        schema: int = 3,
        **rest: Any,
    ) -> Family[S]:
        short = check_name(name, "the name of a metric").removesuffix(ENDINGS[KINDS[kind]])
        if type(help) is not str or not help:
            raise ValueError(f"{name}: help must be text that says what is counted, got {help!r}")
        if type(unit) is not str:
            raise ValueError(f"{name}: unit must be text, empty for none, got {unit!r}")
        description = Description(KINDS[kind], short, valid(help), unit, _labels(name, labels), **rest)
        self._claim(description)
        family = Family(kind, description, schema=schema, on_overflow=self._overflows, **self._options)
        self._families[short] = family
        return family

    def _claim(self, description: Description) -> None:
        check_name(description.exposed, "a name with its unit")
        names = description.samples
        if taken := [name for name in names if name in self._claimed]:
            raise ValueError(f"{description.name} would expose {taken[0]!r}, as {self._claimed[taken[0]]!r} does")
        self._claimed.update(dict.fromkeys(names, description.name))

    def _overflows(self, metric: str) -> None:
        self._overflowed += 1
        if metric != self._overflow.name:  # it has one series a family; never more than it may have
            self._overflow.bind(metric).inc()
        if self._on_event is not None:
            _report(self._on_event, Overflow(metric))


def _report(on_event: Callable[[Overflow], object], event: Overflow) -> None:
    """Hand *event* over; what the listener raises is logged, since a write must not fail by it."""
    try:
        on_event(event)
    except Exception:
        logging.getLogger(__name__).exception("on_event failed for %r", event)


def _labels(metric: str, labels: Sequence[str]) -> tuple[str, ...]:
    given = cast("object", labels)
    if not isinstance(given, Iterable) or isinstance(given, str):
        raise ValueError(f"{metric}: labels must be a sequence of names, got {labels!r}")  # noqa: TRY004  # a wrong value, like all that is wrong with labels
    escaped: dict[str, str] = {}
    for label in labels:
        short = escape(check_name(label, f"a label of {metric}"), "underscores")
        if ":" in label or short.startswith("__") or short in RESERVED_LABELS:
            raise ValueError(f"{metric}: the label {label!r} is reserved: no ':', no '__' in front, not le, quantile")
        if short in escaped:
            raise ValueError(f"{metric}: the labels {escaped[short]!r} and {label!r} are the same to a scraper")
        escaped[short] = label
    return tuple(escaped.values())


def _bounds(metric: str, buckets: Iterable[float]) -> tuple[float, ...]:
    given = cast("object", buckets)
    refusal = f"{metric}: buckets must be numbers, got {buckets!r}"
    if isinstance(given, str):  # whose digits could be taken for numbers
        raise ValueError(refusal)  # noqa: TRY004  # a wrong value, as below
    try:
        bounds = tuple(map(float, buckets))
    except (TypeError, ValueError, OverflowError):
        raise ValueError(refusal) from None
    if bounds and bounds[-1] == math.inf:
        bounds = bounds[:-1]
    if not all(map(math.isfinite, bounds)) or any(low >= high for low, high in pairwise(bounds)):
        raise ValueError(f"{metric}: buckets must be finite and ascending, got {bounds}")
    if len(bounds) > MAX_BUCKETS:
        raise ValueError(f"{metric}: at most {MAX_BUCKETS} buckets, got {len(bounds)}")
    return bounds
