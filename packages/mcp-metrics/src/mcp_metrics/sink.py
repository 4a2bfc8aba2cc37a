"""Send what is measured to an OpenTelemetry ``Meter`` instead of a registry, without importing OpenTelemetry.

    MetricsMiddleware(MeterSink(meter)) ── observe ──▶ meter.create_histogram(...).record(value, attributes)

``Instruments`` is what the middleware and ``Timed`` need of a registry; ``MeterSink`` is one of the two that there are.
A series is bound once, so the attributes of its records are made once; those that are empty are left out.
Start times, idle series and limits of cardinality are then OpenTelemetry's own business; the names are admitted here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from .registry import DEFAULT_BUCKETS
from .semconv import attributes
from .text import label_value

__all__ = ["Instruments", "MeterSink"]


class Incremented(Protocol):
    """A bound counter."""

    def inc(self, amount: float = 1) -> None:
        """Add *amount*."""


class Running(Protocol):
    """What is going on, as far as it is counted."""

    def append(self, begun: None, /) -> object:
        """Count one more."""

    def pop(self) -> object:
        """Count one less."""


class Moved(Protocol):
    """A bound gauge."""

    def running(self) -> Running:
        """Return what begins and ends."""
        ...


class Observed(Protocol):
    """A bound histogram."""

    def observe(self, value: float, exemplar: Mapping[str, object] | None = None) -> None:
        """Count *value*."""


class Counters(Protocol):
    """Counters by label values."""

    def bind(self, *values: object) -> Incremented:
        """Return one of them."""
        ...


class Gauges(Protocol):
    """Gauges by label values."""

    def bind(self, *values: object) -> Moved:
        """Return one of them."""
        ...


class Histograms(Protocol):
    """Histograms by label values."""

    def bind(self, *values: object) -> Observed:
        """Return one of them."""
        ...


class Instruments(Protocol):
    """Where metrics are registered: a ``Registry`` or a ``MeterSink``."""

    def counter(self, name: str, help: str, *, unit: str = "", labels: Sequence[str] = ()) -> Counters:  # noqa: A002
        """Register a total."""
        ...

    def gauge(self, name: str, help: str, *, unit: str = "", labels: Sequence[str] = ()) -> Gauges:  # noqa: A002
        """Register a value that goes up and down."""
        ...

    def histogram(
        self,
        name: str,
        help: str,  # noqa: A002
        *,
        unit: str = "",
        labels: Sequence[str] = (),
        buckets: Iterable[float] = DEFAULT_BUCKETS,
        native: int | None = None,
    ) -> Histograms:
        """Register values counted by size."""
        ...


class MeterSink:
    """Registers everything with an OpenTelemetry *meter*, as ``opentelemetry.metrics.get_meter`` returns one."""

    def __init__(self, meter: Any) -> None:
        if not callable(getattr(meter, "create_histogram", None)):
            raise TypeError(f"MeterSink needs an OpenTelemetry Meter, got {meter!r}")
        self._meter = meter

    def counter(self, name: str, help: str, *, unit: str = "", labels: Sequence[str] = ()) -> Counters:  # noqa: A002
        """Create a counter."""
        instrument = self._meter.create_counter(name, unit=unit, description=help)
        return _Forwarding(instrument.add, labels)

    def gauge(self, name: str, help: str, *, unit: str = "", labels: Sequence[str] = ()) -> Gauges:  # noqa: A002
        """Create an up-down counter."""
        instrument = self._meter.create_up_down_counter(name, unit=unit, description=help)
        return _Forwarding(instrument.add, labels)

    def histogram(
        self,
        name: str,
        help: str,  # noqa: A002
        *,
        unit: str = "",
        labels: Sequence[str] = (),
        buckets: Iterable[float] = DEFAULT_BUCKETS,
        native: int | None = None,  # noqa: ARG002  # exponential buckets are chosen by a view of the SDK
    ) -> Histograms:
        """Create a histogram that advises these *buckets*."""
        advice = {"explicit_bucket_boundaries_advisory": list(buckets)}
        instrument = self._meter.create_histogram(name, unit=unit, description=help, **advice)
        return _Forwarding(instrument.record, labels)


class _Forwarding:
    """A family that hands on what its series are told."""

    def __init__(self, write: Callable[..., object], labels: Sequence[str]) -> None:
        self._write = write
        self._labels = tuple(labels)

    def bind(self, *values: object) -> _Bound:
        return _Bound(partial(self._write, attributes=attributes(self._labels, map(label_value, values))))


class _Bound:
    def __init__(self, write: Callable[[float], object]) -> None:
        self._write = write

    def inc(self, amount: float = 1) -> None:
        self._write(amount)

    def running(self) -> _Bound:
        return self

    def append(self, _begun: None, /) -> None:
        self._write(1)

    def pop(self) -> None:
        self._write(-1)

    def observe(self, value: float, exemplar: Mapping[str, object] | None = None) -> None:  # noqa: ARG002  # the SDK samples its own
        self._write(value)
