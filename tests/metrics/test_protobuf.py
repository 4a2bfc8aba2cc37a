"""Protobuf: read back by a decoder of another hand, field by field."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_metrics import Registry, protobuf
from mcp_metrics.protobuf import _varint, _zigzag


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def fields(data):
    """Decode one message into {number: [values]}."""
    found, at = {}, 0
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 0:
            value, at = varint(data, at)
        elif key & 7 == 1:
            value, at = struct.unpack("<d", data[at : at + 8])[0], at + 8
        else:
            assert key & 7 == 2
            length, at = varint(data, at)
            value, at = data[at : at + length], at + length
            assert len(value) == length
        found.setdefault(key >> 3, []).append(value)
    return found


def families(data):
    at, found = 0, {}
    while at < len(data):
        length, at = varint(data, at)
        family = fields(data[at : at + length])
        found[family[1][0].decode()] = family
        at += length
    assert at == len(data)
    return found


def signed(value):
    return value >> 1 ^ -(value & 1)


def decode(registry, scheme="underscores"):
    return families(b"".join(protobuf(registry, scheme)))


def labels(metric):
    pairs = [fields(pair) for pair in metric.get(1, [])]
    return {pair[1][0].decode(): pair[2][0].decode() for pair in pairs}


def test_counter_gauge_info():
    """Names, types, labels and values; an empty label is left out."""
    registry = Registry(now=lambda: 1000.25)
    registry.counter("jobs", "Jobs.", labels=["kind.of", "none"]).bind("mä\n", "").inc(
        2.5, {"trace_id": "abc", "x": "y"}
    )
    registry.gauge("depth", "Depth.", unit="By").bind().set(-1)
    registry.info("build", "Build.", labels=["v"]).bind("1")
    found = decode(registry)
    assert {name: family.get(3, [0])[0] for name, family in found.items()} == {
        "mcp_metrics_overflow_total": 0,
        "jobs_total": 0,
        "depth_bytes": 1,
        "build_info": 1,
    }
    job = fields(found["jobs_total"][4][0])
    assert labels(job) == {"kind_of": "mä\n"}
    counter = fields(job[3][0])
    assert counter[1] == [2.5]
    assert fields(counter[3][0]) == {1: [1000], 2: [250_000_000]}
    exemplar = fields(counter[2][0])
    assert (set(exemplar), exemplar[2]) == ({1, 2, 3}, [2.5])
    assert list(map(fields, exemplar[1])) == [{1: [b"trace_id"], 2: [b"abc"]}, {1: [b"x"], 2: [b"y"]}]
    assert fields(exemplar[3][0]) == {1: [1000], 2: [250_000_000]}
    assert fields(fields(found["depth_bytes"][4][0])[2][0]) == {1: [-1.0]}
    assert found["depth_bytes"][5] == [b"bytes"]
    assert found["depth_bytes"][2] == [b"Depth."]


def test_classic_and_native_in_one_family():
    """The histogram that no other Python library can send."""
    registry = Registry(now=lambda: 1000.0)
    series = registry.histogram("h", "Help.", buckets=[1, 10], native=0).bind()
    for value in (0, 0.75, 1.5, 1.6, 100, -3):
        series.observe(value)
    series.observe(200, {"trace_id": "slow"})
    histogram = fields(fields(decode(registry)["h"][4][0])[7][0])
    assert set(histogram) == {1, 2, 3, 5, 6, 7, 9, 10, 12, 13, 15}
    assert (histogram[1], histogram[2]) == ([7], [pytest.approx(300.85)])
    buckets = [fields(bucket) for bucket in histogram[3]]
    assert [(bucket.get(1, [0])[0], bucket[2][0]) for bucket in buckets] == [(3, 1.0), (5, 10.0), (7, float("inf"))]
    assert fields(buckets[2][3][0])[2] == [200.0]
    assert [signed(value) for value in histogram[5]] == [0]
    assert histogram[6] == [2.0**-128]
    assert histogram[7] == [1]
    spans = [fields(span) for span in histogram[12]]
    assert [(signed(span[1][0]), span[2][0]) for span in spans] == [(0, 2), (5, 2)]  # 0.5..1, 1..2, then 64..256
    assert [signed(value) for value in histogram[13]] == [1, 1, -1, 0]
    assert [signed(fields(span)[1][0]) for span in histogram[9]] == [2]
    assert [signed(value) for value in histogram[10]] == [1]


@given(st.integers(0, 2**64 - 1))
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
    assert len(families(b"".join(chunks))["h"][4]) == 500


def test_numbers_beyond_floats_do_not_end_a_scrape():
    """A Python int has no limit; the formats have."""
    registry = Registry()
    registry.counter("huge", "Huge.").bind().inc(10**400)
    registry.gauge("low", "Low.").bind().set(-(10**400))
    found = decode(registry)
    assert fields(fields(found["huge_total"][4][0])[3][0])[1] == [float("inf")]
    assert fields(fields(found["low"][4][0])[2][0])[1] == [float("-inf")]
