"""Send what is measured to an OpenTelemetry ``Meter`` instead of a registry, without importing OpenTelemetry.

    MetricsMiddleware(MeterSink(meter)) ── observe ──▶ meter.create_histogram(...).record(value, attributes)

A series is bound once, so the attributes of its records are made once; those that are empty are left out.
Start times, idle series and limits of cardinality are then OpenTelemetry's own business; the names are admitted here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from .registry import DEFAULT_BUCKETS, Merge, Registry
from .semconv import attributes
from .text import label_value

__all__ = ["Instruments", "MeterSink"]


class MeterSink:  # its signatures repeat Registry's, whose families have a type for each kind; a test compares them
    """Registers everything with an OpenTelemetry *meter*, as ``opentelemetry.metrics.get_meter`` returns one."""

    def __init__(self, meter: Any) -> None:
        if not callable(getattr(meter, "create_histogram", None)):
            raise TypeError(f"MeterSink needs an OpenTelemetry Meter, got {meter!r}")
        self._meter = meter

    def counter(self, name: str, help: str, *, unit: str = "", labels: Sequence[str] = ()) -> MeterFamily:  # noqa: A002  # the field's word
        """Create a counter."""
        instrument = self._meter.create_counter(name, unit=unit, description=help)
        return MeterFamily(instrument.add, labels)

    def gauge(
        self,
        name: str,
        help: str,  # noqa: A002  # the field's word
        *,
        unit: str = "",
        labels: Sequence[str] = (),
        merge: Merge = "sum",  # noqa: ARG002  # processes are put together by whoever the SDK exports to
    ) -> MeterFamily:
        """Create an up-down counter."""
        instrument = self._meter.create_up_down_counter(name, unit=unit, description=help)
        return MeterFamily(instrument.add, labels)

    def histogram(
        self,
        name: str,
        help: str,  # noqa: A002  # the field's word
        *,
        unit: str = "",
        labels: Sequence[str] = (),
        buckets: Iterable[float] = DEFAULT_BUCKETS,
        native: int | None = None,  # noqa: ARG002  # exponential buckets are chosen by a view of the SDK
    ) -> MeterFamily:
        """Create a histogram that advises these *buckets*."""
        advice = {"explicit_bucket_boundaries_advisory": list(buckets)}
        instrument = self._meter.create_histogram(name, unit=unit, description=help, **advice)
        return MeterFamily(instrument.record, labels)


class MeterFamily:
    """A family that hands on what its series are told."""

    def __init__(self, write: Callable[..., object], labels: Sequence[str]) -> None:
        self._write = write
        self._labels = tuple(labels)

    def bind(self, *values: object) -> MeterSeries:
        """Return the series with these label values."""
        labels = tuple(map(label_value, values))
        return MeterSeries(partial(self._write, attributes=attributes(self._labels, labels)), labels)


class MeterSeries:
    """A counter, a gauge or a histogram, as the middleware and ``Timed`` write to it."""

    def __init__(self, write: Callable[[float], object], labels: tuple[str, ...]) -> None:
        self._write = write
        self.labels: tuple[str, ...] = labels

    def inc(self, amount: float = 1) -> None:
        """Add *amount*."""
        self._write(amount)

    def running(self) -> MeterSeries:
        """Return what can be appended to and popped from."""
        return self

    def append(self, _begun: None, /) -> None:
        """Count one more."""
        self._write(1)

    def pop(self) -> None:
        """Count one less."""
        self._write(-1)

    def observe(self, value: float, exemplar: Mapping[str, object] | None = None) -> None:  # noqa: ARG002  # the SDK samples its own
        """Count *value*."""
        self._write(value)


Instruments: TypeAlias = Registry | MeterSink
"""Where ``MetricsMiddleware`` and ``Timed`` register what they measure."""
