"""Several processes, one sum, in any order."""

from __future__ import annotations

import json
import math
from functools import reduce
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_metrics import Description, NativeBuckets, Point, Registry, Snapshot, merge, openmetrics, snapshot
from mcp_metrics.snapshots import dump, load
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
                point.native.limit,
                point.native.zero_threshold,
                point.native.zero_count,
                point.native.positive,
                point.native.negative,
            )
            families[about, point.labels] = (*point[1:3], list(point.counts), dict(point.exemplars), native)
    return families, taken.skipped


def test_workers_add_up():
    """Two workers, one answer; gauges as their family says."""
    one = worker([("a", 2.0, True)], now=500.0)
    two = worker([("a", 0.5, False), ("b", 4.0, False)])
    everything = merge(snapshot(one), snapshot(two))
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


@pytest.mark.parametrize(("mode", "expected"), [("max", 3.0), ("min", 1.0)])
def test_no_number_is_no_value(mode, expected):
    """One worker without an answer must not hide the others', nor win or lose by its place."""
    workers = []
    for value in (1.0, math.nan, 3.0):
        registry = Registry()
        registry.gauge("depth", "Depth.", merge=mode).bind().set(value)
        workers.append(snapshot(registry))
    for order in permutations(workers):
        assert_metric(reduce(merge, order), "depth", expected)


def test_a_snapshot_of_a_snapshot_is_itself():
    """What is written on from one folder to the next says nothing twice."""
    taken = snapshot(worker([("a", 1.0, False)]))
    assert snapshot(taken) is taken
    parse(text(snapshot(merge(taken, taken))))


@pytest.mark.parametrize(
    "families",
    [
        7,
        [["x"]],
        [[["counter", "c", "C.", "", [], [], "sum"], 7]],
        [[["counter", "c", "C.", "", [], [], "sum"], [[[], 0, "1", [], [], None]]]],
        [[["counter", "c", "C.", "", [], [], "sum"], [[[], 0, 10**400, [], [], None]]]],
        [[["counter", "c", "C.", "", ["a"], [], "sum"], [[[], 0, 1, [], [], None]]]],
        [[["counter", "c", "C.", "", [], [], "sum"], [[[], 0, 1, [1], [], None]]]],
        [[["summary", "c", "C.", "", [], [], "sum"], [[[], 0, 1, [], [], None]]]],
        [[["gauge", "c", "C.", "", [], [], "mean"], [[[], 0, 1, [], [], None]]]],
        [[["histogram", "h", "H.", "", [], [1], "sum"], [[[], 0, 1, [1], [], None]]]],
        [[["histogram", "h", "H.", "", [], [], "sum"], [[[], 0, 1, ["x"], [], None]]]],
        [[["histogram", "h", "H.", "", [], [], "sum"], [[[], 0, 1, [1], [], [[9, 160, 0, 0], [], []]]]]],
        [[["histogram", "h", "H.", "", [], [], "sum"], [[[], 0, 1, [1], [], [[3, 0, 0, 0], [], []]]]]],
        [[["histogram", "h", "H.", "", [], [], "sum"], [[[], 0, 1, [1], [], [[3, 9, 0, 0], [[None, 1]], []]]]]],
    ],
)
def test_what_is_no_snapshot(families):
    """It is told when it is loaded, not when it is added up or scraped."""
    with pytest.raises((ValueError, TypeError, OverflowError)):
        load(families)


@given(OPERATIONS, st.sampled_from([500.0, 1000.0]))
def test_what_is_dumped_is_loaded(operations, now):
    """Equal to the last bit, through JSON."""
    taken = snapshot(worker(operations, now))
    assert state(load(json.loads(json.dumps(dump(taken))))) == state(taken)


def test_what_has_widened_stays_wide():
    """A zero bucket that had to take in others holds values that a narrower one would not."""
    native = NativeBuckets(-4, limit=7, zero_threshold=0.5)
    native.add(0.25)
    about = Description("histogram", "wait", "Wait.")
    taken = Snapshot({about: {(): Point((), 1.0, 0.25, [1], {}, native)}})
    assert state(load(json.loads(json.dumps(dump(taken))))) == state(taken)


def test_what_does_not_fit_its_family_is_named():
    """One family of many: the message says which."""
    with pytest.raises(ValueError, match="c: labels and values, or bounds and counts, do not match"):
        load([[["counter", "c", "C.", "", ["a"], [], "sum"], [[[], 0, 1, [], [], None]]]])


def test_nothing_but_how_many_files_were_skipped():
    """It is there without any family."""
    ((about, points),) = Snapshot(skipped=3).collect()
    assert about.name == "mcp_metrics_snapshots_skipped"
    assert list(points) == [Point((), 0.0, 3)]


@given(OPERATIONS, OPERATIONS, OPERATIONS, st.sampled_from([0, 3]))
def test_merge_is_associative_and_commutative(one, two, three, schema):
    """Invariant 1."""
    a, b, c = snapshot(worker(one, 1.0)), snapshot(worker(two, 2.0, schema)), snapshot(worker(three, 3.0))
    assert state(merge(a, b)) == state(merge(b, a))
    assert state(merge(merge(a, b), c)) == state(merge(a, merge(b, c)))
    assert state(merge(a, Snapshot())) == state(a) == state(merge(Snapshot(), a))


def test_workers_of_two_versions():
    """Families that share a name but differ: one is exposed, the same every time, and the text is valid."""
    old, new = Registry(), Registry()
    old.counter("jobs", "Jobs.").bind().inc()
    new.counter("jobs", "Jobs.", labels=["kind"]).bind("a").inc()
    one, two = merge(snapshot(old), snapshot(new)), merge(snapshot(new), snapshot(old))
    assert text(one) == text(two)
    assert len(parse(text(one))) == 3


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (("counter", "jobs.done"), ("counter", "jobs_done")),
        (("gauge", "jobs_count"), ("histogram", "jobs")),
        (("gauge", "jobs_total"), ("counter", "jobs")),
        (("gauge", "jobs"), ("counter", "jobs")),
        (("counter", "jobs"), ("gauge", "mcp.metrics.snapshots.skipped")),
    ],
)
def test_workers_whose_names_clash_only_when_exposed(old, new):
    """What a registry refuses at registration comes from two processes nevertheless; a scrape must not fail by it."""
    taken = []
    for kind, name in (old, new):
        series = getattr(registry := Registry(), kind)(name, "Jobs.").bind()
        (series.observe if kind == "histogram" else series.inc)(1)
        taken.append(snapshot(registry))
    one, two = merge(*taken), merge(*reversed(taken))
    assert text(one) == text(two)
    assert len(parse(text(one))) == 3


def test_native_buckets_of_one_alone_are_dropped():
    """Half of the values would be missing from them, and Prometheus compares their number with the count."""
    one, two = Registry(), Registry()
    one.histogram("plain", "Plain.", native=3).bind().observe(1)
    two.histogram("plain", "Plain.").bind().observe(2)
    for pair in permutations((snapshot(one), snapshot(two))):
        (point,) = next(points for about, points in merge(*pair).families.items() if about.name == "plain").values()
        assert (point.value, point.native) == (3, None)


def test_the_newest_exemplar_and_both_native_sets_are_kept():
    """By bucket, and by labels."""
    old, new = worker([("a", 4.0, True)], now=1.0), worker([("a", 2.0, True), ("b", 0.5, True)], now=2.0)
    united = merge(snapshot(old), snapshot(new))
    points = next(points for about, points in united.families.items() if about.name == "wait")
    assert points["a",].exemplars[2].value == 2.0
    assert points["a",].native.count() == 2
    assert points["b",].exemplars[1].value == 0.5
    (point,) = merge(snapshot(Registry()), snapshot(Registry())).families.values()
    assert point == {}
