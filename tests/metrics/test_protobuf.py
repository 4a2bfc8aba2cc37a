"""Protobuf: read back by a decoder of another hand, field by field."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mcp_metrics import Registry, protobuf
from mcp_metrics.protobuf import BREATH, _varint, _zigzag


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def read(data, schema):
    """Decode one message by a schema; a field that comes once is its value, one that comes again a list."""
    found, at = {}, 0
    while at < len(data):
        key, at = varint(data, at)
        name, inner = schema[key >> 3]
        if key & 7 == 0:
            value, at = varint(data, at)
            value = signed(value) if name in SIGNED else value
        elif key & 7 == 1:
            value, at = struct.unpack("<d", data[at : at + 8])[0], at + 8
        else:
            assert key & 7 == 2
            length, at = varint(data, at)
            value, at = data[at : at + length], at + length
            assert len(value) == length
            value = value.decode() if inner is None else read(value, inner)
        found.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def families(data):
    at, found = 0, {}
    while at < len(data):
        length, at = varint(data, at)
        family = read(data[at : at + length], FAMILY)
        found[family["name"]] = family
        at += length
    assert at == len(data)
    return found


def signed(value):
    return value >> 1 ^ -(value & 1)


def decode(registry, *scheme):
    return families(b"".join(protobuf(registry, *scheme)))


# The part of metrics.proto that is written: {number: (name, schema of a message)}.
LABEL = {1: ("name", None), 2: ("value", None)}
TIME = {1: ("seconds", None), 2: ("nanos", None)}
EXEMPLAR = {1: ("label", LABEL), 2: ("value", None), 3: ("timestamp", TIME)}
COUNTER = {1: ("value", None), 2: ("exemplar", EXEMPLAR), 3: ("created", TIME)}
BUCKET = {1: ("count", None), 2: ("bound", None), 3: ("exemplar", EXEMPLAR)}
SPAN = {1: ("offset", None), 2: ("length", None)}
HISTOGRAM = {
    1: ("count", None),
    2: ("sum", None),
    3: ("bucket", BUCKET),
    5: ("schema", None),
    6: ("zero_threshold", None),
    7: ("zero_count", None),
    9: ("negative_span", SPAN),
    10: ("negative_delta", None),
    12: ("positive_span", SPAN),
    13: ("positive_delta", None),
    15: ("created", TIME),
}
METRIC = {1: ("label", LABEL), 2: ("gauge", {1: ("value", None)}), 3: ("counter", COUNTER), 7: ("histogram", HISTOGRAM)}
FAMILY = {1: ("name", None), 2: ("help", None), 3: ("type", None), 4: ("metric", METRIC), 5: ("unit", None)}
SIGNED = {"schema", "offset", "negative_delta", "positive_delta"}

BEGAN = {"seconds": 1000, "nanos": 999_023_437}


def test_counter_gauge_info():
    """Names, types, labels and values; an empty label is left out."""
    registry = Registry(now=lambda: 1000 + 1023 / 1024)
    jobs = registry.counter("jobs", "J\ud800bs.", labels=["kind.of", "none", "by"])
    jobs.bind("mä\n", "", "x").inc(2.5, {"trace_id": "abc", "x": "y"})
    jobs.bind("", "", "").inc()
    registry.gauge("depth", "Depth.", unit="By").bind().set(-1)
    registry.info("build", "Build.", labels=["v"]).bind("1")
    exemplar = {"label": [{"name": "trace_id", "value": "abc"}, {"name": "x", "value": "y"}], "value": 2.5}
    job = {
        "label": [{"name": "kind_of", "value": "mä\n"}, {"name": "by", "value": "x"}],
        "counter": {"value": 2.5, "exemplar": {**exemplar, "timestamp": BEGAN}, "created": BEGAN},
    }
    build = {"label": {"name": "v", "value": "1"}, "gauge": {"value": 1.0}}
    found = decode(registry)
    del found["mcp_metrics_overflow_total"]
    assert list(found.values()) == [
        {
            "name": "jobs_total",
            "help": "J\ufffdbs.",
            "type": 0,
            "metric": [job, {"counter": {"value": 1.0, "created": BEGAN}}],
        },
        {"name": "depth_bytes", "help": "Depth.", "type": 1, "metric": {"gauge": {"value": -1.0}}, "unit": "bytes"},
        {"name": "build_info", "help": "Build.", "type": 1, "metric": build},
    ]


def test_classic_and_native_in_one_family():
    """The histogram that no other Python library can send."""
    registry = Registry(now=lambda: 1000 + 1023 / 1024)
    series = registry.histogram("h", "Help.", buckets=[1, 10], native=0).bind()
    for value in (0, 1.5, 1.625, 100, -3):
        series.observe(value)
    for value, trace in ((0.75, "fast"), (200, "slow")):
        series.observe(value, {"trace_id": trace})
    fast, slow = (
        {"label": {"name": "trace_id", "value": trace}, "value": value, "timestamp": BEGAN}
        for trace, value in (("fast", 0.75), ("slow", 200.0))
    )
    assert decode(registry)["h"] == {
        "name": "h",
        "help": "Help.",
        "type": 4,
        "metric": {
            "histogram": {
                "count": 7,
                "sum": 300.875,
                "bucket": [
                    {"count": 3, "bound": 1.0, "exemplar": fast},
                    {"count": 5, "bound": 10.0},
                    {"count": 7, "bound": math.inf, "exemplar": slow},
                ],
                "schema": 0,
                "zero_threshold": 2.0**-128,
                "zero_count": 1,
                "negative_span": {"offset": 2, "length": 1},
                "negative_delta": 1,
                "positive_span": [{"offset": 0, "length": 2}, {"offset": 5, "length": 2}],  # 0.5 to 2, 64 to 256
                "positive_delta": [1, 1, -1, 0],
                "created": BEGAN,
            }
        },
    }


def test_a_classic_histogram():
    """Without exemplars, without native buckets: nothing of them is written."""
    registry = Registry(now=lambda: 1000 + 1023 / 1024)
    registry.histogram("h", "Help.", buckets=[1]).bind().observe(0.5)
    histogram = {"count": 1, "sum": 0.5, "bucket": {"count": 1, "bound": 1.0}, "created": BEGAN}
    assert decode(registry)["h"]["metric"] == {"histogram": histogram}


@pytest.mark.parametrize(
    ("scheme", "name", "label"),
    [
        ((), "a_b_total", "c_d"),
        (("dots",), "a_dot_b__total", "c_dot_d"),
        (("values",), "U__a_2e_b__total", "U__c_2e_d"),
        (("allow-utf-8",), "a.b_total", "c.d"),
    ],
)
def test_names_are_escaped_as_it_was_asked_for(scheme, name, label):
    """Names of metrics and of labels alike; with underscores where nothing was said."""
    registry = Registry()
    registry.counter("a.b", "Help.", labels=["c.d"]).bind("x").inc()
    assert decode(registry, *scheme)[name]["metric"]["label"] == {"name": label, "value": "x"}


@given(st.integers(0, 2**64 - 1))
@example(128)
@example(2**14)
def test_varint(value):
    """Every length of it."""
    assert varint(_varint(value), 0) == (value, len(_varint(value)))


@given(st.integers(-(2**62), 2**62))
def test_zigzag(value):
    """Small numbers of either sign stay short."""
    assert signed(_zigzag(value)) == value


def test_large_families_let_the_loop_breathe():
    """A family is one message, but not one stall."""
    registry = Registry(max_series=5000)
    family = registry.histogram("h", "Help.", labels=["name"])
    for number in range(500):
        family.bind(number).observe(1)
    chunks = list(protobuf(registry))
    assert chunks.count(b"") > 3
    assert len(families(b"".join(chunks))["h"]["metric"]) == 500


@pytest.mark.parametrize(("missing", "breathes"), [(0, True), (1, False)])
def test_a_breath_is_taken_after_so_many_bytes(missing, breathes):
    """To the byte: a family whose one point fills them is followed by an empty chunk."""

    def chunks(characters):
        registry = Registry()
        registry.gauge("g", "x" * characters).bind().set(1)
        return list(protobuf(registry))

    some = BREATH // 2
    enough = some + BREATH - len(chunks(some)[-1])
    assert (b"" in chunks(enough - missing)) is breathes


def test_numbers_beyond_floats_do_not_end_a_scrape():
    """A Python int has no limit; the formats have."""
    registry = Registry()
    registry.counter("huge", "Huge.").bind().inc(10**400)
    registry.gauge("low", "Low.").bind().set(-(10**400))
    found = decode(registry)
    assert found["huge_total"]["metric"]["counter"]["value"] == math.inf
    assert found["low"]["metric"]["gauge"]["value"] == -math.inf
