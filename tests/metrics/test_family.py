"""Families: bounded, conserving, and never losing a series that is held on to."""

from __future__ import annotations

import threading

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from mcp_metrics import Overflow, Registry

from tests.metrics.elsewhere import elsewhere

IDLE = 60.0


class Time:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def scrape(family):
    return {point.labels: point for point in family.points()}


def test_bind_finds_the_series_again():
    """Equal labels, one series; whatever the labels are, they are text."""
    family = Registry(max_series=2).counter("jobs", "Jobs.", labels=["a", "b"])
    for _ in range(2):  # also when there is no more room
        assert family.bind("x", 1) is family.bind("x", "1")
        assert family.bind(["x"], None) is family.bind("['x']", "None")
    assert len(family) == 2


@pytest.mark.parametrize("values", [(), ("a",), ("a", "b", "c")])
def test_wrong_number_of_labels(values):
    """A slip in the code, told with the metric's name."""
    family = Registry().counter("jobs", "Jobs.", labels=["a", "b"])
    with pytest.raises(ValueError, match=r"jobs has the labels \('a', 'b'\), got"):
        family.bind(*values)
    assert len(family) == 0


def test_label_sets_without_room_share_one_series():
    """Invariant 1, and the event that tells of it."""
    events = []
    registry = Registry(max_series=3, on_event=events.append)
    family = registry.counter("jobs", "Jobs.", labels=["name"])
    for number in range(10):
        family.bind(f"job-{number}").inc()
    assert {labels[0]: point.value for labels, point in scrape(family).items()} == {
        "job-0": 1,
        "job-1": 1,
        "job-2": 1,
        "_OTHER": 7,
    }
    assert events == [Overflow("jobs")] * 7
    assert registry.statistics().overflowed == 7
    overflow = next(points for about, points in registry.collect() if about.name == "mcp_metrics_overflow")
    assert [(point.labels, point.value) for point in overflow] == [(("jobs",), 7)]


def test_overflow_itself_overflows():
    """Many families over their limit: the self-metric keeps its own."""
    registry = Registry(max_series=1)
    for name in ("one", "two"):
        family = registry.counter(name, "Jobs.", labels=["name"])
        for number in range(3):
            family.bind(number).inc()
    overflow = next(points for about, points in registry.collect() if about.name == "mcp_metrics_overflow")
    assert {point.labels[0]: point.value for point in overflow} == {"one": 2, "_OTHER": 2}


@pytest.mark.parametrize("kind", ["counter", "histogram"])
def test_idle_series_leave_and_come_back(kind):
    """Invariants 2 and 3: a bound child that was held on to is not lost."""
    clock, wall = Time(), Time()
    family = getattr(Registry(idle=IDLE, clock=clock, now=wall), kind)("jobs", "Jobs.", labels=["name"])
    series = family.bind("x")
    write = series.inc if kind == "counter" else lambda: series.observe(1)
    write()
    for clock.now in (0.0, 60.0, 120.0):
        assert ("x",) in scrape(family)  # seen, then frozen, then dropped, and told of for the last time
    assert len(family) == 0
    assert scrape(family) == {}
    assert family.activity() == 1
    wall.now = 500.0
    write()
    write()
    point = scrape(family)[("x",)]
    assert (point.created, series.activity(), family.activity()) == (500.0, 2, 3)


def test_two_scrapes_at_once_drop_a_series_once():
    """Each looks for idle series as it reads them; what the other has dropped is neither counted again nor missed."""
    clock = Time()
    family = Registry(idle=IDLE, clock=clock).counter("jobs", "Jobs.", labels=["name"])
    for name in "ab":
        family.bind(name).inc()
    for clock.now in (0.0, 60.0):
        scrape(family)
    clock.now = 120.0
    one = family.points()
    next(one)
    assert len(scrape(family)) == 1
    family.bind("b").inc(5)
    assert [point.labels for point in one] == [("b",)]
    assert scrape(family)[("b",)].value == 5
    assert (len(family), family.activity()) == (1, 7)


def test_a_write_thaws_a_frozen_series():
    """Half way out is not out: the start time stays."""
    clock = Time()
    family = Registry(idle=IDLE, clock=clock, now=lambda: 7.0 + clock.now).counter("jobs", "Jobs.")
    series = family.bind()
    series.inc()
    for clock.now in (0.0, 60.0):
        scrape(family)
    assert series.frozen
    series.inc()
    assert not series.frozen
    clock.now = 119.0
    assert scrape(family)[()].created == 7.0
    assert scrape(family)[()].value == 2


def test_a_series_is_idle_from_its_last_write_on():
    """Not from when the process began, whatever its clock says."""
    clock = Time()
    family = Registry(idle=IDLE, clock=clock).counter("jobs", "Jobs.")
    series = family.bind()
    for clock.now, frozen in ((1000.0, False), (1059.0, False), (1060.0, True)):
        scrape(family)
        assert series.frozen is frozen


def test_a_write_that_had_begun_before_the_freeze_is_seen():
    """The owner may be between its check and its write when another thread freezes the series."""
    clock = Time()
    family = Registry(idle=IDLE, clock=clock).counter("jobs", "Jobs.")
    series = family.bind()
    series.inc()
    for clock.now in (0.0, 60.0):
        scrape(family)
    series._value += 1  # what the owner does, late
    clock.now = 120.0
    assert scrape(family)[()].value == 2


def test_who_thaws_a_series_does_not_overwrite_its_owner():
    """The owner may be stopped within a write while another thread thaws the series and goes on writing."""
    clock = Time()
    series = (family := Registry(idle=IDLE, clock=clock).counter("jobs", "Jobs.")).bind()
    series.inc()
    for clock.now in (0.0, 60.0):
        scrape(family)
    read = series._value
    elsewhere(lambda: [series.inc() for _ in range(3)])
    series._value = read + 1  # what the owner does, late
    assert not series.frozen
    assert series.activity() == 5
    series.inc()  # is still the owner
    assert (series._value, series.activity()) == (read + 2, 6)


def test_a_dropped_child_finds_its_successor():
    """Two children of the same labels, one from before the eviction: one series."""
    clock = Time()
    family = Registry(idle=IDLE, clock=clock).counter("jobs", "Jobs.")
    old = family.bind()
    old.inc()
    for clock.now in (0.0, 60.0, 120.0):
        scrape(family)
    family.bind().inc(10)
    old.inc(100)
    assert scrape(family)[()].value == 110
    assert family.activity() == 111


@pytest.mark.parametrize("kind", ["counter", "histogram"])
def test_a_child_that_comes_back_to_a_full_family(kind):
    """The limit holds for those who return, too, and each refusal is told."""
    clock = Time()
    registry = Registry(max_series=1, idle=IDLE, clock=clock)
    family = getattr(registry, kind)("jobs", "Jobs.", labels=["name"])
    old = family.bind("old")
    write = old.inc if kind == "counter" else old.observe
    write(1)
    for clock.now in (0.0, 60.0, 120.0):
        scrape(family)
    family.bind("new")
    assert registry.statistics().overflowed == 0
    write(5)
    write(2)
    assert {labels[0]: point.value for labels, point in scrape(family).items()} == {"new": 0, "_OTHER": 7}
    assert registry.statistics().overflowed == 2


def test_a_child_bound_without_room_stays_with_the_others():
    """It is their series; who binds again finds the room there is by then."""
    clock = Time()
    family = Registry(max_series=1, idle=IDLE, clock=clock).counter("jobs", "Jobs.", labels=["name"])
    family.bind("old").inc()
    child = family.bind("new")
    for clock.now in (0.0, 60.0, 120.0):
        child.inc()
        scrape(family)
    child.inc()
    assert child.labels == ("_OTHER",)
    assert family.bind("new").labels == ("new",)


def test_gauges_do_not_leave():
    """A value that was set once, such as a limit, is as true as ever."""
    clock = Time()
    family = Registry(idle=IDLE, clock=clock).gauge("limit", "Limit.")
    family.bind().set(5)
    for clock.now in (0.0, 60.0, 120.0, 180.0):
        assert scrape(family)[()].value == 5
    assert family.activity() == 0, "what only goes up is conserved, a gauge is not"


class Conservation(RuleBasedStateMachine):
    """Invariants 1 and 2 over any order of writes, held children, scrapes and pauses, from two threads."""

    def __init__(self):
        super().__init__()
        self.clock = Time()
        self.family = Registry(max_series=3, idle=IDLE, clock=self.clock).counter("jobs", "Jobs.", labels=["name"])
        self.held = [self.family.bind("held")]
        self.written = 0

    @rule(name=st.sampled_from("abcdefgh"))
    def write(self, name):
        self.family.bind(name).inc()
        self.written += 1

    @rule(name=st.sampled_from("abcdefgh"))
    def hold(self, name):
        self.held.append(self.family.bind(name))

    @rule(which=st.integers(0, 99), foreign=st.booleans())
    def write_held(self, which, foreign):
        series = self.held[which % len(self.held)]
        if foreign:
            thread = threading.Thread(target=series.inc)
            thread.start()
            thread.join()
        else:
            series.inc()
        self.written += 1

    @rule(seconds=st.sampled_from([1, 30, 60]))
    def scrape(self, seconds):
        self.clock.now += seconds
        assert all(point.value >= 0 for point in self.family.points())

    @invariant()
    def conserved(self):
        assert self.family.activity() == self.written
        assert len(self.family) <= 4


TestConservation = Conservation.TestCase
TestConservation.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
