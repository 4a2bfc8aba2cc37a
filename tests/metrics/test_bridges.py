"""Bridges: OTLP as a collector reads it, statsd lines that no name can break, an OpenTelemetry meter."""

from __future__ import annotations

import inspect
import math
import re

import pytest
from google.protobuf.json_format import ParseDict
from hypothesis import given
from hypothesis import strategies as st
from mcp_metrics import (
    MeterSink,
    MetricsMiddleware,
    Registry,
    StatsdWriter,
    Timed,
    merge,
    openmetrics,
    snapshot,
    to_otlp,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

LINE = re.compile(
    r"[A-Za-z0-9._/-]+:-?[0-9.e+-]+\|[cg](\|#[A-Za-z0-9._/-]+:[^:,|#\s]*(,[A-Za-z0-9._/-]+:[^:,|#\s]*)*)?"
)


class Time:
    now = 1000.0

    def __call__(self):
        return self.now


def cumulative(point):
    return {"dataPoints": [point], "aggregationTemporality": 2}


def otlp(registry):
    """What a collector makes of it: {name: metric}."""
    request = ParseDict(
        to_otlp(registry, resource={"service.name": "x"}, now=lambda: 2000.0), ExportMetricsServiceRequest()
    )
    (sent,) = request.resource_metrics
    assert sent.resource.attributes[0].value.string_value == "x"
    return {metric.name: metric for metric in sent.scope_metrics[0].metrics}


def test_otlp():
    """The whole of it, once, to be read: every kind, with names and units as they were registered."""
    registry = Registry(now=Time())
    jobs = registry.counter("jobs", "Jobs.", labels=["job.kind", "none", "server.port"])
    jobs.bind("mail", "", "443").inc(2, {"trace_id": "ab" * 16, "x": "y"})
    registry.gauge("depth", "Depth.", unit="bytes").bind().set(math.inf)
    registry.info("build", "The build.", labels=["version"]).bind("1.0")
    wait = registry.histogram("wait.time", "Wait.", unit="s", labels=["queue"], buckets=[1, 2]).bind("q")
    wait.observe(1.5, {"span_id": "cd" * 8})
    size = registry.histogram("size", "Size.", labels=["queue"], native=0).bind("q")
    size.observe(3, {"x": "y"})
    taken = {"timeUnixNano": "2000000000000"}
    begun = {**taken, "startTimeUnixNano": "1000000000000"}
    seen = {"timeUnixNano": "1000000000000"}
    queue = {"attributes": [{"key": "queue", "value": {"stringValue": "q"}}]}
    xy = {"filteredAttributes": [{"key": "x", "value": {"stringValue": "y"}}]}
    job = {
        "attributes": [
            {"key": "job.kind", "value": {"stringValue": "mail"}},
            {"key": "server.port", "value": {"intValue": "443"}},
        ],
        "exemplars": [{**seen, "asDouble": 2.0, **xy, "traceId": "ab" * 16}],
        "asDouble": 2.0,
    }
    waited = {
        "exemplars": [{**seen, "asDouble": 1.5, "filteredAttributes": [], "spanId": "cd" * 8}],
        "count": "1",
        "sum": 1.5,
        "bucketCounts": ["0", "1", "0"],
        "explicitBounds": [1.0, 2.0],
    }
    sized = {
        "exemplars": [{**seen, "asDouble": 3.0, **xy}],
        "count": "1",
        "sum": 3.0,
        "scale": 0,
        "zeroCount": "0",
        "zeroThreshold": 2.0**-128,
        "positive": {"offset": 1, "bucketCounts": ["1"]},
        "negative": {"offset": 0, "bucketCounts": []},
    }
    version = {"attributes": [{"key": "version", "value": {"stringValue": "1.0"}}], "asDouble": 1.0}
    metrics = [
        {"name": "jobs", "description": "Jobs.", "unit": "", "sum": {**cumulative(begun | job), "isMonotonic": True}},
        {"name": "depth", "description": "Depth.", "unit": "By"}
        | {"gauge": {"dataPoints": [taken | {"attributes": [], "asDouble": "Infinity"}]}},
        {"name": "build", "description": "The build.", "unit": "", "gauge": {"dataPoints": [taken | version]}},
        {"name": "wait.time", "description": "Wait.", "unit": "s", "histogram": cumulative(begun | queue | waited)},
        {"name": "size", "description": "Size.", "unit": "", "exponentialHistogram": cumulative(begun | queue | sized)},
    ]
    request = to_otlp(registry, resource={"service.name": "x"}, now=lambda: 2000.0)
    scope = {"scope": {"name": "mcp-metrics".replace("-", "_")}, "metrics": metrics}  # of a copy too
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "x"}}]}
    assert request == {"resourceMetrics": [{"resource": resource, "scopeMetrics": [scope]}]}
    assert len(otlp(registry)) == 5


def test_otlp_of_ports_without_room():
    """Where a family is full, a port is ``_OTHER`` too, which is no number."""
    registry = Registry(max_series=1)
    family = registry.counter("jobs", "Jobs.", labels=["server.port"])
    for port in (80, 81):
        family.bind(port).inc()
    known, other = otlp(registry)["jobs"].sum.data_points
    assert (known.attributes[0].value.int_value, other.attributes[0].value.string_value) == (80, "_OTHER")


def test_otlp_exponential():
    """Bucket i of Prometheus is closed above, bucket i of OTLP below: the offset moves by one."""
    registry = Registry()
    series = registry.histogram("wait", "Wait.", native=0).bind()
    for value in (0, 1.5, 1.6, 10, -3):
        series.observe(value)
    (point,) = otlp(registry)["wait"].exponential_histogram.data_points
    assert (point.scale, point.zero_count, point.count) == (0, 1, 5)
    assert (point.positive.offset, list(point.positive.bucket_counts)) == (0, [2, 0, 0, 1])  # (1, 2] to (8, 16]
    assert (point.negative.offset, list(point.negative.bucket_counts)) == (1, [1])
    Registry().histogram("empty", "Help.", native=3).bind()


def test_otlp_of_a_family_that_is_only_partly_native():
    """A metric of OTLP is of one kind: after a merge with a process without native buckets, the explicit ones."""
    one, two = Registry(), Registry()
    one.histogram("wait", "Wait.", labels=["x"], native=3).bind("a").observe(1)
    one.histogram("other", "Other.", native=3).bind().observe(1)
    two.histogram("wait", "Wait.", labels=["x"]).bind("b").observe(2)
    metrics = otlp(merge(snapshot(one), snapshot(two)))
    assert [sum(point.bucket_counts) for point in metrics["wait"].histogram.data_points] == [1, 1]
    assert len(metrics["other"].exponential_histogram.data_points) == 1


@pytest.mark.parametrize("trace", ["ab", "g" * 32, "ab" * 16 + "\n"])
def test_otlp_exemplar_with_an_id_that_is_none(trace):
    """A collector refuses all metrics for one malformed id."""
    registry = Registry()
    registry.counter("jobs", "Jobs.").bind().inc(1, {"trace_id": trace, "span_id": "12" * 8})
    (exemplar,) = otlp(registry)["jobs"].sum.data_points[0].exemplars
    assert exemplar.trace_id == b""
    assert exemplar.span_id
    assert [(pair.key, pair.value.string_value) for pair in exemplar.filtered_attributes] == [("trace_id", trace)]


def test_otlp_of_nothing_but_zeros():
    """No positive bucket, and still a valid request."""
    registry = Registry()
    registry.histogram("wait", "Wait.", native=0).bind().observe(0)
    (point,) = otlp(registry)["wait"].exponential_histogram.data_points
    assert list(point.positive.bucket_counts) == []


def test_statsd():
    """What has changed, once."""
    clock = Time()
    registry = Registry(now=clock)
    counter = registry.counter("jobs", "Jobs.", labels=["kind", "none", "by"]).bind("a b|c", "", "x")
    gauge = registry.gauge("depth", "Depth.").bind()
    wait = registry.histogram("wait", "Wait.", unit="s").bind()
    writer = StatsdWriter(registry, prefix="my:app")
    counter.inc(2)
    gauge.set(-5)
    wait.observe(0.5)
    assert writer.lines() == [
        "my_app.jobs:2|c|#kind:a_b_c,by:x",
        "my_app.depth:0|g",
        "my_app.depth:-5|g",
        "my_app.wait_seconds.count:1|c",
        "my_app.wait_seconds.sum:0.5|c",
    ]
    gauge.set(3)
    counter.inc()
    assert writer.lines() == ["my_app.jobs:1|c|#kind:a_b_c,by:x", "my_app.depth:3|g"]
    for nothing in (math.nan, math.inf, -(10**400)):
        gauge.set(nothing)
        assert writer.lines() == []
    counter.inc(10**400)
    assert writer.lines() == []


def test_statsd_of_facts():
    """They do not change, and an agent forgets what it is not told again."""
    registry = Registry()
    registry.info("build", "The build.", labels=["version"]).bind("1.2")
    writer = StatsdWriter(registry)
    assert writer.lines() == writer.lines() == ["build:1|g|#version:1.2"]


@pytest.mark.parametrize("swept_by_writer", [True, False])
def test_statsd_after_an_eviction(swept_by_writer):
    """A series that began again is counted from zero, whoever saw it leave."""
    clock, idle = Time(), Time()
    registry = Registry(idle=10, clock=idle, now=clock)
    counter = registry.counter("jobs", "Jobs.").bind()
    writer = StatsdWriter(registry)
    counter.inc(5)
    assert writer.lines() == ["jobs:5|c"]
    for idle.now in (1010.0, 1020.0, 1030.0):
        writer.lines() if swept_by_writer else "".join(openmetrics(registry))
    clock.now = 1500.0
    counter.inc(7)
    assert writer.lines() == ["jobs:7|c"]


@given(st.lists(st.tuples(st.text(), st.integers(0, 1000)), max_size=10))
def test_no_text_breaks_a_line(written):
    """Rules 2 and 3."""
    registry = Registry()
    family = registry.counter("jobs", "Jobs.", labels=["kind"])
    writer = StatsdWriter(registry)
    total = 0
    for kind, amount in written:
        family.bind(kind).inc(amount)
        for line in writer.lines():
            assert LINE.fullmatch(line), line
            total += int(line.partition(":")[2].partition("|")[0])
    assert total == sum(amount for _, amount in written)


async def test_meter_sink():
    """The real SDK, fed by the same middleware: its histogram has the advised buckets and our attributes."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    sink = MeterSink(provider.get_meter("test"))
    metrics = MetricsMiddleware(sink, native=3)
    timed = Timed(sink, "work", "Work.")

    class Context:
        method, params, protocol_version, request = "tools/call", {"name": "add"}, "2026-07-28", None

    class Listen(Context):
        method = "subscriptions/listen"

    async def handler(ctx):
        return {"isError": False}

    for _ in range(2):
        await metrics(Context(), handler)
    await metrics(Listen(), handler)
    with timed.block():
        pass
    (scope,) = reader.get_metrics_data().resource_metrics[0].scope_metrics
    found = {metric.name: metric for metric in scope.metrics}
    (point,) = found["mcp.server.operation.duration"].data.data_points
    assert (point.count, point.explicit_bounds[0], found["mcp.server.operation.duration"].unit) == (2, 0.01, "s")
    assert point.attributes["gen_ai.tool.name"] == "add"
    assert "error.type" not in point.attributes
    assert found["mcp.server.active_requests"].data.data_points[0].value == 0
    assert found["mcp.server.unmeasured"].data.data_points[0].attributes == {"kind": "stream"}
    assert found["work.duration"].data.data_points[0].count == 1
    provider.shutdown()


def test_meter_sink_hands_everything_on():
    """Names, units and descriptions are the SDK's to show, and every write is one of its instruments'."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    sink = MeterSink(provider.get_meter("test"))
    for end, unit in (("", {}), ("_size", {"unit": "By"})):
        sink.counter(f"jobs{end}", "Jobs.", **unit).bind().inc()
        sink.gauge(f"depth{end}", "Depth.", **unit).bind().running().append(None)
        sink.histogram(f"wait{end}", "Wait.", **unit).bind().observe(2.5)
    (scope,) = reader.get_metrics_data().resource_metrics[0].scope_metrics
    values = {"jobs": ("Jobs.", 1), "depth": ("Depth.", 1), "wait": ("Wait.", 2.5)}
    for metric in scope.metrics:
        name, _, end = metric.name.partition("_")
        (point,) = metric.data.data_points
        assert (metric.unit, metric.description) == ("By" if end else "", values[name][0])
        assert (point.sum if name == "wait" else point.value) == values[name][1]
    assert len(scope.metrics) == 6
    provider.shutdown()


@pytest.mark.parametrize("meter", [None, "meter", Registry])
def test_meter_sink_needs_a_meter(meter):
    """Told at construction."""
    with pytest.raises(TypeError, match="needs an OpenTelemetry Meter"):
        MeterSink(meter)


@pytest.mark.parametrize("kind", ["counter", "gauge", "histogram"])
def test_meter_sink_takes_what_a_registry_takes(kind):
    """One goes in the other's place: the same parameters, by the same names, with the same defaults."""
    theirs, ours = (inspect.signature(getattr(cls, kind)).parameters for cls in (Registry, MeterSink))
    assert list(ours.values()) == list(theirs.values())


@pytest.mark.parametrize("source", [None, Registry])
def test_statsd_needs_a_source(source):
    """An instance, not the class."""
    with pytest.raises(TypeError, match="StatsdWriter needs a Registry or a Snapshot, got"):
        StatsdWriter(source)
