"""Histograms: one moment, exact totals, nothing left by what was refused."""

from __future__ import annotations

import math
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_metrics import Registry
from mcp_metrics import histogram as module

from tests.metrics.elsewhere import elsewhere
from tests.support.measure import count_instructions, no_growth

KINDS = pytest.mark.parametrize("native", [None, 3])


def make(native=None, **options):
    return Registry(**options).histogram("size", "Size.", buckets=[1, 2, 5], native=native).bind()


@KINDS
def test_observe(native):
    """A value on a bound belongs below it; owner and others are one."""
    series = make(native)
    assert (series.read().value, list(series.read().counts)) == (0, [0, 0, 0, 0])
    for value in (0.5, 1, 2, 2.1, 100):
        series.observe(value)
    elsewhere(lambda: series.observe(-3), lambda: series.observe(5))
    point = series.read()
    assert list(point.counts) == [3, 1, 2, 1]
    assert point.value == pytest.approx(107.6)
    assert series.activity() == 7
    assert (point.native.count() if native else 7) == 7


@KINDS
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1.7e308])
def test_refused_values_leave_no_trace(native, value):
    """Invariant 3: one NaN in a sum stays there for ever."""
    series = make(native)
    series.observe(1.7e308)
    before = series.read()
    with pytest.raises(ValueError, match=r"size: observe\(\) needs a finite value .* got"):
        series.observe(value)
    after = series.read()
    assert (before.value, list(before.counts)) == (after.value, list(after.counts))
    assert after.exemplars == {}


def test_refused_with_an_exemplar():
    """The slow path refuses alike, and keeps no exemplar of it."""
    series = make()
    with pytest.raises(ValueError, match="got nan"):
        series.observe(math.nan, {"trace_id": "a"})
    assert series.activity() == 0
    assert series.read().exemplars == {}


def test_exemplars_are_kept_by_bucket():
    """A dashboard shows one trace a bucket."""
    series = make(now=lambda: 9.0)
    series.observe(0.5, {"trace_id": "fast"})
    series.observe(50, {"trace_id": "slow"})
    series.observe(60, {"trace_id": "slower"})
    assert {place: found.labels[0][1] for place, found in series.read().exemplars.items()} == {0: "fast", 3: "slower"}


@given(st.lists(st.integers(-10, 10).map(lambda half: half / 2)))
def test_model(values):
    """Buckets, count and sum are those of the list of values."""
    series = make()
    for value in values:
        series.observe(value)
    point = series.read()
    below = [sum(value <= bound for value in values) for bound in (1, 2, 5, math.inf)]
    assert [sum(point.counts[: place + 1]) for place in range(4)] == below
    assert point.value == sum(values)


@KINDS
def test_no_snapshot_is_torn_and_totals_are_exact(native):
    """Invariants 1 and 2: eight threads write the value 3, so that every sum is three times its count."""
    series = make(native)
    snapshots, stop = [], threading.Event()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    each = 5_000

    def work():
        for _ in range(each):
            series.observe(3)

    def read():
        while not stop.is_set():
            snapshots.append(series.read())

    reader = threading.Thread(target=read)
    workers = [threading.Thread(target=work) for _ in range(7)]
    try:
        for thread in (reader, *workers):
            thread.start()
        work()
        for thread in workers:
            thread.join()
    finally:
        stop.set()
        reader.join()
        sys.setswitchinterval(interval)
    assert len(snapshots) > 10
    assert all(point.value == 3 * sum(point.counts) for point in snapshots)
    assert sum(series.read().counts) == 8 * each


def test_an_interrupted_write_does_not_hang_the_reader(monkeypatch):
    """A signal between bucket and count must not stop all scrapes for ever."""
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    series = make()
    series.observe(1)
    series._counts[0] += 1
    seen = []
    elsewhere(lambda: seen.append(series.read()))
    assert slept == [0] * module.PATIENCE == [0] * 100
    assert sum(seen[0].counts) == sum(series.read().counts) == 2
    assert len(slept) == 100, "the owner waits for nobody"


def test_a_reader_waits_for_the_owner(monkeypatch):
    """A write that is half done is finished while the reader sleeps, and then read whole."""
    series = make()
    for _ in range(2):
        series.observe(1)
    series._counts[0] += 1
    series._sum += 1

    slept = []

    def finish(seconds):
        slept.append(seconds)
        series._count += 1

    monkeypatch.setattr(module.time, "sleep", finish)
    seen = []
    elsewhere(lambda: seen.append(series.read()))
    assert (seen[0].value, sum(seen[0].counts), slept) == (3.0, 3, [0])


@pytest.mark.uninstrumented
def test_observe_is_cheap():
    """The gate of the hot path: bytecodes, the most of any Python."""
    series = make()
    assert count_instructions(lambda: series.observe(3)) <= 61


async def test_observing_keeps_nothing():
    """A value is counted, not kept."""
    series = make()
    await no_growth(lambda: series.observe(3.0))
