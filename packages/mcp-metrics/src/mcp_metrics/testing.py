"""Check metrics in tests: a strict OpenMetrics parser, and one assertion.

assert_metric(registry, "jobs_total", 3, kind="mail")
families = parse(response.text)
"""

from __future__ import annotations

from collections.abc import Iterator

from .exposition import Source, openmetrics
from .parser import MetricFamily, OpenMetricsError, ParsedExemplar, Sample, parse

__all__ = ["MetricFamily", "OpenMetricsError", "ParsedExemplar", "Sample", "assert_metric", "find", "parse"]


def find(source: Source | str, name: str, /, **labels: str) -> list[Sample]:
    """Return the samples of this whole name, ``_total`` and all, that have at least these labels.

    *source* is a registry, a snapshot, or OpenMetrics text. Raises OpenMetricsError for text that is none.
    """
    return [sample for sample in _samples(source) if sample.name == name and labels.items() <= sample.labels.items()]


def assert_metric(source: Source | str, name: str, value: float | None, /, **labels: str) -> None:
    """Fail unless exactly one sample of this name has at least these labels, and this *value*.

    None asserts that there is no such sample. The message lists what there is of this name.
    """
    found = [sample.value for sample in find(source, name, **labels)]
    if list(map(repr, found)) == ([] if value is None else [repr(float(value))]):  # since NaN does not equal itself
        return
    there = [f"{sample.name}{dict(sample.labels)} {sample.value!r}" for sample in find(source, name)]
    wanted = f"{name}{labels} {'absent' if value is None else repr(value)}"
    raise AssertionError("\n  ".join([f"expected {wanted}, there is", *(there or ["nothing of this name"])]))


def _samples(source: Source | str) -> Iterator[Sample]:
    text = source if isinstance(source, str) else "".join(openmetrics(source))
    for family in parse(text):
        yield from family.samples
