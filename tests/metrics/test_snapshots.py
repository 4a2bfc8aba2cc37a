"""Several processes, one sum: in any order, whatever a disk has done to the files."""

from __future__ import annotations

import json
import os
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_metrics import Registry, Snapshot, merge, openmetrics, read, snapshot, write
from mcp_metrics.testing import assert_metric, parse

OPERATIONS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(-64, 64).map(lambda n: n / 8), st.booleans()), max_size=15
)


def worker(operations=(), now=1000.0, schema=3):
    """A registry of every kind, with what happened to it; values are exact in binary, so that sums are too."""
    registry = Registry(now=lambda: now)
    counter = registry.counter("jobs", "Jobs.", labels=["kind"])
    gauges = [registry.gauge(mode, "Gauge.", merge=mode) for mode in ("sum", "max", "min")]
    wait = registry.histogram("wait", "Wait.", labels=["kind"], buckets=[0, 1], native=schema)
    registry.info("build", "Build.", labels=["v"]).bind("1")
    for kind, value, traced in operations:
        exemplar = {"trace_id": f"{value}"} if traced else None
        counter.bind(kind).inc(abs(value), exemplar)
        wait.bind(kind).observe(value, exemplar)
        for gauge in gauges:
            gauge.bind().set(value)
    return registry


def text(source):
    return "".join(openmetrics(source))


def state(taken):
    families = {}
    for about, points in taken.families.items():
        for point in points.values():
            native = point.native and (
                point.native.schema,
                point.native.zero_count,
                point.native.positive,
                point.native.negative,
            )
            families[about, point.labels] = (*point[1:3], list(point.counts), dict(point.exemplars), native)
    return families, taken.skipped


def test_workers_add_up(tmp_path):
    """Two workers, one answer; gauges as their family says."""
    write(worker([("a", 2.0, True)], now=500.0), tmp_path, "one")
    write(worker([("a", 0.5, False), ("b", 4.0, False)]), tmp_path, "two")
    everything = read(tmp_path)
    assert_metric(everything, "jobs_total", 2.5, kind="a")
    assert_metric(everything, "jobs_total", 4, kind="b")
    assert_metric(everything, "jobs_created", 500.0, kind="a")
    assert_metric(everything, "sum", 6)
    assert_metric(everything, "max", 4)
    assert_metric(everything, "min", 2)
    assert_metric(everything, "wait_count", 2, kind="a")
    assert_metric(everything, "build_info", 1)
    assert_metric(everything, "mcp_metrics_snapshots_skipped", 0)
    exemplars = [sample.exemplar for family in parse(text(everything)) for sample in family.samples if sample.exemplar]
    assert {found.labels["trace_id"] for found in exemplars} == {"2.0"}


@given(OPERATIONS, st.sampled_from([500.0, 1000.0]))
def test_what_is_written_is_read_back(tmp_path_factory, operations, now):
    """Invariant 2, first half: equal to the last bit."""
    folder = tmp_path_factory.mktemp("snapshots")
    registry = worker(operations, now)
    write(registry, folder)
    assert state(read(folder)) == state(snapshot(registry))


@given(OPERATIONS, OPERATIONS, OPERATIONS, st.sampled_from([0, 3]))
def test_merge_is_associative_and_commutative(one, two, three, schema):
    """Invariant 1."""
    a, b, c = snapshot(worker(one, 1.0)), snapshot(worker(two, 2.0, schema)), snapshot(worker(three, 3.0))
    assert state(merge(a, b)) == state(merge(b, a))
    assert state(merge(merge(a, b), c)) == state(merge(a, merge(b, c)))
    assert state(merge(a, Snapshot())) == state(a) == state(merge(Snapshot(), a))


def signed(body):
    return f"mcp-metrics 1 {zlib.crc32(body.encode()):08x}\n{body}"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        b"\xff\xfe\x00",
        b"mcp-metrics 1 00000000\n[]x",
        b"mcp-metrics 2 00000000\n[]",
        signed("{").encode(),
        signed("7").encode(),
        signed('[["x"]]').encode(),
        signed(json.dumps([[["counter", "c", "C.", "", ["a"], [], "sum"], [[[], 0, 1, [], [], None]]]])).encode(),
        signed("[" * 100_000).encode(),
    ],
)
def test_broken_files_are_skipped_and_counted(tmp_path, content):
    """Invariant 2, second half: one bad file must not end the scrape of all."""
    write(worker([("a", 1.0, False)]), tmp_path, "good")
    (tmp_path / "bad.metrics").write_bytes(content)
    everything = read(tmp_path)
    assert_metric(everything, "jobs_total", 1, kind="a")
    assert_metric(everything, "mcp_metrics_snapshots_skipped", 1)


def test_torn_at_every_length(tmp_path):
    """A disk that is full, or a kill: whatever the length, it is seen."""
    path = write(worker([("a", 1.0, True)]), tmp_path)
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        assert read(tmp_path).skipped == 1


def test_a_file_that_vanishes_is_no_fault(tmp_path):
    """A worker may end between the list and the reading."""
    (tmp_path / "gone.metrics").symlink_to(tmp_path / "nowhere")
    assert read(tmp_path).skipped == 0


def test_the_file_bears_the_process_id(tmp_path):
    """And is replaced, not added to; other files are not read."""
    registry = worker()
    assert write(registry, tmp_path) == write(registry, tmp_path) == tmp_path / f"{os.getpid()}.metrics"
    assert [path.name for path in tmp_path.iterdir()] == [f"{os.getpid()}.metrics"]


@pytest.mark.parametrize("name", ["", "a/b", "..", "x" * 65, "a b"])
def test_worker_names_stay_in_the_folder(tmp_path, name):
    """A name from outside must not write elsewhere."""
    with pytest.raises(ValueError, match="worker must be 1 to 64 letters"):
        write(worker(), tmp_path, name)


def test_workers_of_two_versions():
    """Families that share a name but differ: one is exposed, the same every time, and the text is valid."""
    old, new = Registry(), Registry()
    old.counter("jobs", "Jobs.").bind().inc()
    new.counter("jobs", "Jobs.", labels=["kind"]).bind("a").inc()
    one, two = merge(snapshot(old), snapshot(new)), merge(snapshot(new), snapshot(old))
    assert text(one) == text(two)
    assert len(parse(text(one))) == 3


def test_the_newest_exemplar_and_both_native_sets_are_kept():
    """By bucket; and a worker without native buckets takes none away."""
    old, new = worker([("a", 2.0, True)], now=1.0), worker([("a", 4.0, True), ("b", 0.5, True)], now=2.0)
    united = merge(snapshot(old), snapshot(new))
    points = next(points for about, points in united.families.items() if about.name == "wait")
    assert points["a",].exemplars[2].value == 4.0
    assert points["a",].native.count() == 2
    assert points["b",].exemplars[1].value == 0.5
    (point,) = merge(snapshot(Registry()), snapshot(Registry())).families.values()
    assert point == {}
    classic = [worker_without_native(value) for value in (1, 2)]
    (both,) = [points for about, points in merge(*classic).families.items() if about.name == "plain"]
    assert (both[()].value, both[()].native) == (3, None)


def worker_without_native(value):
    registry = Registry()
    registry.histogram("plain", "Plain.").bind().observe(value)
    return snapshot(registry)
