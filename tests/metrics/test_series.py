"""Counters, gauges and facts: exact whoever writes, and refusing what would poison them."""

from __future__ import annotations

import math
import threading

import pytest
from mcp_metrics import Registry
from mcp_metrics.testing import assert_metric

from tests.metrics.elsewhere import elsewhere
from tests.support.measure import count_instructions


@pytest.fixture
def registry():
    return Registry(now=lambda: 1000.0)


def test_counter(registry):
    """The owner's writes and those of others are one total."""
    counter = registry.counter("jobs_total", "Jobs.", labels=["kind"]).bind("mail")
    counter.inc()
    counter.inc(2.5)
    elsewhere(counter.inc, lambda: counter.inc(4))
    assert_metric(registry, "jobs_total", 8.5, kind="mail")
    assert_metric(registry, "jobs_created", 1000.0, kind="mail")


@pytest.mark.parametrize("amount", [-1, -0.1, math.nan, math.inf, -math.inf])
def test_counter_refuses(registry, amount):
    """Invariant 3: a total that falls, or is no number, ruins every rate after it."""
    counter = registry.counter("jobs", "Jobs.").bind()
    counter.inc(3)
    with pytest.raises(ValueError, match=rf"jobs: inc\(\) needs a finite amount >= 0, got {amount!r}"):
        counter.inc(amount)
    assert counter.read().value == 3


def test_gauge(registry):
    """Up, down, and set, by any thread."""
    gauge = registry.gauge("depth", "Depth.").bind()
    gauge.inc(5)
    gauge.dec()
    elsewhere(gauge.inc)
    elsewhere(gauge.dec)
    assert gauge.read().value == 4
    gauge.set(10)
    assert gauge.read().value == 10
    elsewhere(lambda: gauge.set(-2))
    assert gauge.read().value == -2
    gauge.set(math.nan)
    assert math.isnan(gauge.read().value)
    gauge.set(1)
    assert gauge.read().value == 1


def test_gauge_of_what_is_running(registry):
    """What begins and ends is counted by any thread, beside what was set."""
    gauge = registry.gauge("running", "Running.").bind()
    running = gauge.running()
    running.append(None)
    elsewhere(lambda: running.append(None), lambda: running.append(None))
    assert gauge.read().value == 3
    elsewhere(running.pop)
    gauge.running().append(None)
    assert gauge.read().value == 3
    gauge.set(10)
    assert gauge.read().value == 13


def test_gauge_recovers_from_what_is_no_number(registry):
    """Set by whichever thread: infinity minus infinity must not stay behind."""
    gauge = registry.gauge("depth", "Depth.").bind()
    for nonsense in (math.inf, math.nan):
        gauge.set(nonsense)
        elsewhere(lambda: gauge.set(5))
        assert gauge.read().value == 5


def test_info(registry):
    """Facts are a series of value 1."""
    registry.info("build", "The build.", labels=["version"]).bind("1.2")
    assert_metric(registry, "build_info", 1, version="1.2")


def test_exemplar(registry):
    """The newest is kept; one that OpenMetrics would refuse is left out."""
    counter = registry.counter("jobs", "Jobs.").bind()
    counter.inc(exemplar={"trace_id": "a"})
    longest = {"trace_id": "x" * 120}
    counter.inc(2, exemplar=longest)
    counter.inc(3, exemplar={"trace_id": "x" * 121})
    counter.inc(4, exemplar={})
    for reserved in ({"__": "x"}, {"": "x"}, {"a.b": "x", "a_b": "y"}):
        counter.inc(0, exemplar=reserved)
    assert counter.read().exemplars == {0: (tuple(longest.items()), 2, 1000.0)}
    assert counter.read().value == 10


def test_totals_are_exact_under_threads(registry):
    """Invariant 1: eight threads, one counter, one gauge; the owner is one of them."""
    counter, gauge = registry.counter("jobs", "Jobs.").bind(), registry.gauge("depth", "Depth.").bind()
    running = gauge.running()

    def work():
        for _ in range(20_000):
            running.append(None)
            counter.inc()
            gauge.inc(2)
            gauge.dec(2)
            running.pop()

    threads = [threading.Thread(target=work) for _ in range(7)]
    for thread in threads:
        thread.start()
    work()
    for thread in threads:
        thread.join()
    assert counter.read().value == 8 * 20_000
    assert gauge.read().value == 0


@pytest.mark.uninstrumented
def test_inc_is_cheap(registry):
    """The gate of the hot path: bytecodes, the most of any Python."""
    counter = registry.counter("jobs", "Jobs.").bind()
    assert count_instructions(counter.inc) <= 37


@pytest.mark.parametrize("value", ["x", None, [1]])
def test_gauge_refuses_what_is_no_number(registry, value):
    """At the line that sets it, since a scrape would fail every time."""
    gauge = registry.gauge("depth", "Depth.").bind()
    gauge.set(3)
    with pytest.raises(TypeError):
        gauge.set(value)
    assert gauge.read().value == 3
