"""Registration: every mistake is told at once, and no two families clash in any format."""

from __future__ import annotations

import math
import threading

import pytest
from mcp_metrics import DEFAULT_BUCKETS, Description, Overflow, Registry, RegistryStatistics, openmetrics
from mcp_metrics.testing import assert_metric, parse


def names(registry):
    return [about.name for about, _ in registry.collect()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_series": 0}, "Registry needs an int max_series >= 1, got 0"),
        ({"max_series": True}, "max_series >= 1, got True"),
        ({"max_series": 2.5}, "max_series >= 1, got 2.5"),
        ({"idle": 0}, "Registry needs 0 < idle < inf seconds, or None, got 0"),
        ({"idle": -1}, "got -1"),
        ({"idle": math.nan}, "got nan"),
        ({"idle": math.inf}, "got inf"),
        ({"idle": True}, "got True"),
        ({"idle": "5"}, "got '5'"),
    ],
)
def test_registry_refuses_nonsense(options, message):
    """A limit that limits nothing is found at start."""
    with pytest.raises(ValueError, match=message):
        Registry(**options)


async def asynchronous():
    raise AssertionError


@pytest.mark.parametrize("name", ["clock", "now", "on_event"])
@pytest.mark.parametrize(("value", "shown"), [(3, "got 3"), (asynchronous, "that is not async, got <function")])
def test_registry_refuses_what_cannot_be_called(name, value, shown):
    """At start, and not in the middle of a scrape."""
    with pytest.raises(TypeError, match=f"Registry needs a callable {name},? {shown}"):
        Registry(**{name: value})


@pytest.mark.parametrize("name", ["clock", "now"])
def test_registry_needs_its_clocks(name):
    """None is no default."""
    with pytest.raises(TypeError, match=f"Registry needs a callable {name}, got None"):
        Registry(**{name: None})


@pytest.mark.parametrize(
    ("kind", "arguments", "options", "message"),
    [
        ("counter", ("", "Help."), {}, "the name of a metric must be printable"),
        ("counter", ("a b", "Help."), {}, "got 'a b'"),
        ("counter", ("a", ""), {}, "a: help must be text that says what is counted, got ''"),
        ("counter", ("a", None), {}, "got None"),
        ("counter", (None, "Help."), {}, "the name of a metric must be printable, .* got None"),
        ("counter", ("_total", "Help."), {}, "printable, .* got ''"),
        ("info", (7, "Help."), {"labels": ["x"]}, "got 7"),
        ("gauge", ("a", "Help."), {"unit": None}, "a: unit must be text, empty for none, got None"),
        ("gauge", ("a", "Help."), {"unit": "b c"}, "a name with its unit must be printable, .* got 'a_b c'"),
        ("counter", ("a", "Help."), {"labels": ["x y"]}, "a label of a must be"),
        ("counter", ("a", "Help."), {"labels": ["le"]}, "the label 'le' is reserved"),
        ("counter", ("a", "Help."), {"labels": ["__name"]}, "reserved"),
        ("counter", ("a", "Help."), {"labels": ["..name"]}, "reserved"),
        ("counter", ("a", "Help."), {"labels": ["x:y"]}, "reserved"),
        ("counter", ("a", "Help."), {"labels": "name"}, "a: labels must be a sequence of names, got 'name'"),
        ("counter", ("a", "Help."), {"labels": None}, "a: labels must be a sequence of names, got None"),
        ("counter", ("a", "Help."), {"labels": 7}, "got 7"),
        ("counter", ("a", "Help."), {"labels": ["a.b", "a_b"]}, "'a.b' and 'a_b' are the same to a scraper"),
        ("gauge", ("a", "Help."), {"merge": "mean"}, "merge must be 'sum', 'max' or 'min', got 'mean'"),
        ("histogram", ("a", "Help."), {"buckets": [2, 1]}, "buckets must be finite and ascending"),
        ("histogram", ("a", "Help."), {"buckets": [1, 1]}, "ascending"),
        ("histogram", ("a", "Help."), {"buckets": [1, math.nan]}, "nan"),
        ("histogram", ("a", "Help."), {"buckets": [-math.inf, 1]}, "-inf"),
        ("histogram", ("a", "Help."), {"buckets": "12"}, "a: buckets must be numbers, got '12'"),
        ("histogram", ("a", "Help."), {"buckets": ["a"]}, r"a: buckets must be numbers, got \['a'\]"),
        ("histogram", ("a", "Help."), {"buckets": [10**400]}, r"a: buckets must be numbers, got \[1000"),
        ("histogram", ("a", "Help."), {"buckets": None}, "a: buckets must be numbers, got None"),
        ("histogram", ("a", "Help."), {"buckets": range(201)}, "at most 200 buckets, got 201"),
        ("histogram", ("a", "Help."), {"native": 9}, "native must be a schema from -4 to 8, got 9"),
        ("histogram", ("a", "Help."), {"native": -5}, "got -5"),
        ("histogram", ("a", "Help."), {"native": True}, "got True"),
    ],
)
def test_registration_refuses_nonsense(kind, arguments, options, message):
    """Rule 2: the culprit is named, and nothing is registered."""
    registry = Registry()
    with pytest.raises(ValueError, match=message):
        getattr(registry, kind)(*arguments, **options)
    assert names(registry) == ["mcp_metrics_overflow"]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (("counter", "a"), ("counter", "a")),
        (("counter", "a"), ("counter", "a_total")),
        (("counter", "a.b"), ("gauge", "a_b")),
        (("counter", "a"), ("gauge", "a_created")),
        (("histogram", "a"), ("gauge", "a_count")),
        (("gauge", "a_bucket"), ("histogram", "a")),
        (("info", "a"), ("gauge", "a_info")),
        (("gauge", "größe"), ("gauge", "grööe")),
    ],
)
def test_names_that_clash_are_refused(one, two):
    """Rule 1: a scraper that finds a name twice throws the whole exposition away."""
    registry = Registry()

    def register(kind, name):
        return getattr(registry, kind)(name, "Help.", **({"labels": ["x"]} if kind == "info" else {}))

    register(*one)
    with pytest.raises(ValueError, match="would expose"):
        register(*two)
    assert len(names(registry)) == 2


def test_unit_is_part_of_the_name_in_clashes():
    """What is compared is what is exposed."""
    registry = Registry()
    registry.histogram("wait", "Wait.", unit="s")
    with pytest.raises(ValueError, match="wait_seconds would expose 'wait_seconds', as 'wait' does"):
        registry.gauge("wait_seconds", "Wait.")


@pytest.mark.parametrize(
    ("kind", "name", "kept"),
    [("counter", "jobs_total", "jobs"), ("info", "build_info", "build"), ("gauge", "jobs_total", "jobs_total")],
)
def test_what_a_format_adds_is_not_kept(kind, name, kept):
    """Or it would be there twice."""
    assert getattr(Registry(), kind)(name, "Help.", labels=["x"]).description.name == kept


def test_infinite_bucket_is_implied():
    """Writing it changes nothing."""
    registry = Registry()
    assert registry.histogram("a", "Help.", buckets=[1, 2, math.inf]).description.bounds == (1.0, 2.0)
    assert registry.histogram("b", "Help.").description.bounds == DEFAULT_BUCKETS


def test_statistics():
    """How much is held, and how often there was no room; by default for 2000 series of a family."""
    registry = Registry()
    family = registry.counter("a", "Help.", labels=["x"])
    registry.gauge("b", "Help.").bind()
    for number in range(2000):
        family.bind(number)
    assert registry.statistics() == RegistryStatistics(families=3, series=2001, overflowed=0)
    family.bind("late")
    family.bind("later")
    assert registry.statistics() == RegistryStatistics(families=3, series=2003, overflowed=2)
    assert next(registry.collect())[0] == Description(
        "counter", "mcp_metrics_overflow", "Label sets that found no room.", labels=("metric",)
    )
    assert_metric(registry, "mcp_metrics_overflow_total", 2, metric="a")


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("counter", {"unit": "s"}, {"unit": "s"}),
        ("gauge", {"unit": "s"}, {"unit": "s", "merge": "sum"}),
        ("gauge", {"merge": "max"}, {"merge": "max"}),
        ("info", {}, {}),
        ("histogram", {"unit": "s"}, {"unit": "s", "bounds": DEFAULT_BUCKETS}),
        ("histogram", {"buckets": range(200)}, {"bounds": tuple(map(float, range(200)))}),
        ("histogram", {"native": 8, "unit": "s"}, {"unit": "s", "bounds": DEFAULT_BUCKETS}),
        ("histogram", {"native": -4, "buckets": []}, {"bounds": ()}),
    ],
)
def test_what_is_registered_is_described(kind, options, expected):
    """The whole of it; labels may come from a generator, since they are read once."""
    family = getattr(Registry(), kind)("a", "Help.", labels=(name for name in ("x", "y")), **options)
    assert family.description == Description(kind, "a", "Help.", labels=("x", "y"), **expected)
    if kind == "histogram":
        family.bind(1, 2).observe(1)
        (point,) = family.points()
        assert (point.native and point.native.schema) == options.get("native")


@pytest.mark.parametrize(
    ("name", "unit", "exposed"),
    [
        ("wait", "s", "wait_seconds"),
        ("wait.seconds", "s", "wait.seconds"),
        ("seconds", "s", "seconds"),
        ("system", "m", "system_m"),
        ("wait_microseconds", "s", "wait_microseconds_seconds"),
        ("speed", "m/s", "speed_m/s"),
        ("load", "%", "load_%"),
    ],
)
def test_units_are_words_of_the_name(name, unit, exposed):
    """A unit is there once, and OpenMetrics is told of it only where it can find it, under every scheme."""
    registry = Registry()
    assert registry.gauge(name, "Help.", unit=unit).description.exposed == exposed
    for scheme in ("underscores", "dots", "values", "allow-utf-8"):
        assert len(parse("".join(openmetrics(registry, scheme)))) == 2


def test_a_listener_may_write_to_what_overflows():
    """It is called without a lock held: to read the registry, or to count, must not wait for ever."""
    heard = []

    def listen(event):
        heard.append(event)
        family.bind("old").inc()
        "".join(openmetrics(registry))

    registry = Registry(max_series=1, idle=1, on_event=listen)
    family = registry.counter("jobs", "Jobs.", labels=["name"])
    old = family.bind("old")
    thread = threading.Thread(target=lambda: (family.bind("new").inc(), old.inc()), daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert heard == [Overflow("jobs")]
