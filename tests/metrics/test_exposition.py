"""Text formats: what parsers accept, and what they read is what was counted."""

from __future__ import annotations

import math
import subprocess
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_metrics import (
    Description,
    MetricsMiddleware,
    Point,
    Registry,
    StatsdWriter,
    openmetrics,
    prometheus_text,
    protobuf,
    to_otlp,
)
from mcp_metrics.exposition import CHUNK, FAMILY, POINT, _chunks
from mcp_metrics.testing import parse
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict_om
from prometheus_client.parser import text_string_to_metric_families as strict_text

from tests.support.servers import find_program

ALONE = CHUNK - FAMILY - POINT  # characters of a line that fills a chunk
ANY_TEXT = st.text(st.characters() | st.sampled_from('\n\\"{},= #%\ud800\0'), max_size=12)


def text(registry, scheme="underscores"):
    return "".join(prometheus_text(registry, scheme))


def om(registry, scheme="underscores"):
    return "".join(openmetrics(registry, scheme))


def example():
    registry = Registry(now=lambda: 1000.5)
    registry.counter("jobs_total", "Jobs\ndone.", labels=["job.kind"]).bind('ma"il\\').inc(2, {"trace_id": "abc"})
    registry.gauge("depth", 'How "deep".', unit="By").bind().set(math.inf)
    registry.info("build", "The build.", labels=["version"]).bind("1.0")
    series = registry.histogram("wait", "Waiting.", unit="s", labels=["queue", "none"], buckets=[0.1, 1]).bind("q", "")
    series.observe(0.05)
    series.observe(7, {"trace_id": "def"})
    return registry


def test_text():
    """The whole of it, once, to be read."""
    assert (
        "".join(prometheus_text(example()))
        == r"""# HELP mcp_metrics_overflow_total Label sets that found no room.
# TYPE mcp_metrics_overflow_total counter
# HELP jobs_total Jobs\ndone.
# TYPE jobs_total counter
jobs_total{job_kind="ma\"il\\"} 2
# HELP depth_bytes How "deep".
# TYPE depth_bytes gauge
depth_bytes +Inf
# HELP build_info The build.
# TYPE build_info gauge
build_info{version="1.0"} 1
# HELP wait_seconds Waiting.
# TYPE wait_seconds histogram
wait_seconds_bucket{queue="q",le="0.1"} 1
wait_seconds_bucket{queue="q",le="1.0"} 1
wait_seconds_bucket{queue="q",le="+Inf"} 2
wait_seconds_count{queue="q"} 2
wait_seconds_sum{queue="q"} 7.05
"""
    )


def test_openmetrics():
    """The same in OpenMetrics: units, start times, exemplars, and an end."""
    assert (
        "".join(openmetrics(example()))
        == r"""# HELP mcp_metrics_overflow Label sets that found no room.
# TYPE mcp_metrics_overflow counter
# HELP jobs Jobs\ndone.
# TYPE jobs counter
jobs_total{job_kind="ma\"il\\"} 2 # {trace_id="abc"} 2 1000.500
jobs_created{job_kind="ma\"il\\"} 1000.500
# HELP depth_bytes How \"deep\".
# TYPE depth_bytes gauge
# UNIT depth_bytes bytes
depth_bytes +Inf
# HELP build The build.
# TYPE build info
build_info{version="1.0"} 1
# HELP wait_seconds Waiting.
# TYPE wait_seconds histogram
# UNIT wait_seconds seconds
wait_seconds_bucket{queue="q",le="0.1"} 1
wait_seconds_bucket{queue="q",le="1.0"} 1
wait_seconds_bucket{queue="q",le="+Inf"} 2 # {trace_id="def"} 7 1000.500
wait_seconds_count{queue="q"} 2
wait_seconds_sum{queue="q"} 7.05
wait_seconds_created{queue="q"} 1000.500
# EOF
"""
    )


def test_names_in_utf_8():
    """Prometheus 3 reads names as they are; the metric's moves between the braces, in quotes."""
    registry = Registry(now=lambda: 1.0)
    registry.counter("mcp.calls", "Calls.", labels=["tool.name", "share%"]).bind("add", "5%").inc()
    registry.histogram("größe%", "Size.", buckets=[1]).bind().observe(3)
    lines = om(registry, "allow-utf-8").splitlines()
    assert '# TYPE "mcp.calls" counter' in lines
    assert '{"mcp.calls_total","tool.name"="add","share%"="5%"} 1' in lines
    assert '{"größe%_bucket",le="+Inf"} 1' in lines
    assert '{"größe%_count"} 1' in lines
    assert {family.name for family in parse("\n".join(lines))} >= {"mcp.calls", "größe%"}
    assert '{"mcp.calls_total","tool.name"="add","share%"="5%"} 1' in text(registry, "allow-utf-8").splitlines()


@pytest.mark.parametrize("scheme", ["underscores", "dots", "values", "allow-utf-8"])
def test_every_scheme_is_accepted(scheme):
    """Escaped or quoted, both parsers read it."""
    registry = Registry()
    registry.histogram("mcp.wait-time", "Wait.", unit="s", labels=["a.b"]).bind("x").observe(1)
    registry.counter("a:b.c", "Calls.").bind().inc()
    assert len(parse(om(registry, scheme))) == 3
    assert len(list(strict_om(om(registry, scheme)))) == 3
    assert len(list(strict_text(text(registry, scheme)))) == 3


class Foreign:
    """A source of somebody's own."""

    def collect(self):
        yield Description("counter", "jobs", "Jobs.", labels=("a", "b")), [Point(("",), 0.0, 1)]


@pytest.mark.parametrize(
    "write", [prometheus_text, openmetrics, protobuf, to_otlp, lambda source: StatsdWriter(source).lines()]
)
def test_a_point_that_does_not_fit_its_family_is_told_of(write):
    """Each way out refuses it: half of its labels would be another series."""
    with pytest.raises(ValueError, match="shorter than argument 1"):
        list(write(Foreign()))


def test_bounds_below_zero_leave_the_sum_out():
    """OpenMetrics forbids a sum that may fall; the older format has no such rule."""
    registry = Registry()
    registry.histogram("delta", "Change.", buckets=[-1, 0, 1]).bind().observe(-0.5)
    assert "delta_sum" not in om(registry)
    assert "delta_sum -0.5" in text(registry)
    parse(om(registry))


@given(
    st.lists(
        st.tuples(ANY_TEXT, ANY_TEXT, st.integers(0, 10**6), st.dictionaries(ANY_TEXT, ANY_TEXT, max_size=2)),
        max_size=6,
    ),
    ANY_TEXT.filter(bool),
)
def test_what_is_read_is_what_was_counted(observations, about):
    """Rules 1, 2 and 4, by our parser and by prometheus_client's two, for any text."""
    registry = Registry()
    counter = registry.counter("c", about, labels=["one", "two"])
    histogram = registry.histogram("h", about, labels=["one", "two"], buckets=[10, 1000])
    totals = {}
    for one, two, amount, exemplar in observations:
        # No quotes in exemplars: prometheus_client's strict parser cannot read them escaped; the next test has one.
        named = ((name, value) for name, value in exemplar.items() if name.isidentifier() and name.isascii())
        known = {name: value.replace('"', "") for name, value in named}
        counter.bind(one, two).inc(amount, known)
        histogram.bind(one, two).observe(amount, known)
        labels = counter.bind(one, two).labels
        totals[labels] = totals.get(labels, 0) + amount
    for families in (parse(om(registry)), list(strict_om(om(registry))), list(strict_text(text(registry)))):
        for name in ("c_total", "h_sum"):
            found = {
                (sample.labels.get("one", ""), sample.labels.get("two", "")): sample.value
                for family in families
                for sample in family.samples
                if sample.name == name
            }
            assert found == totals


def test_an_exemplar_with_a_strange_name_breaks_no_line():
    """Rule 4: names of exemplar labels are escaped like others."""
    registry = Registry()
    registry.counter("c", "Calls.").bind().inc(1, {"trace.id": 'a"b\n'})
    (sample,) = [s for family in parse(om(registry)) for s in family.samples if s.name == "c_total"]
    assert sample.exemplar.labels == {"trace_id": 'a"b\n'}


@pytest.mark.parametrize("value", ["a\\b", 'a"b', "a\nb"])
def test_each_character_that_would_end_a_value_is_escaped(value):
    """Alone, since most values have none of them, and are written as they are."""
    registry = Registry()
    registry.gauge("depth", "Depth.", labels=["queue"]).bind(value).set(1)
    (queue,) = [sample.labels["queue"] for family in parse(om(registry)) for sample in family.samples]
    assert queue == value


@pytest.mark.parametrize(
    ("families", "chunks"),
    [
        ([[ALONE, 1]], [[ALONE], [1]]),
        ([[ALONE - 1, 1], [1]], [[ALONE - 1, 1], [1]]),
        ([[1], [ALONE - FAMILY - POINT - 1], [1]], [[1, ALONE - FAMILY - POINT - 1], [1]]),
        ([[ALONE, CHUNK - POINT - 1, 1, 1]], [[ALONE], [CHUNK - POINT - 1, 1], [1]]),
        ([[ALONE]], [[ALONE], []]),
    ],
)
def test_a_chunk_ends_with_the_line_that_makes_it_long_enough(families, chunks):
    """To the character, beginnings of families and points counted in; by the lengths of lines."""
    written = list(_chunks([["x" * length for length in lines] for lines in families]))
    assert written == ["x" * sum(lengths) for lengths in chunks]


def test_chunks_are_small():
    """How long a chunk is, is how long the event loop waits."""
    registry = Registry(max_series=10_000)
    family = registry.histogram("h", "Help.", labels=["name"])
    for number in range(1000):
        family.bind(number).observe(1)
    chunks = list(openmetrics(registry))
    assert len(chunks) > 10
    assert max(map(len, chunks)) < CHUNK + 2000
    assert "".join(chunks).endswith("# EOF\n")


def promtool(text):
    return subprocess.run(
        [find_program(("promtool",)), "check", "metrics"],
        input=text,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_promtool_finds_nothing():
    """Not a word, not even of style."""
    done = promtool(text(example()))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


async def answer(ctx):
    return {"isError": False}


async def test_promtool_finds_nothing_in_what_the_middleware_says():
    """Both sides, with all that they can measure, and series without room."""
    registry = Registry(max_series=3)
    for side in ("server", "client"):
        metrics = MetricsMiddleware(registry, side=side, sizes=True, native=3, exemplars=True)
        with metrics.session(protocol_version="2026-07-28"):
            for name in "abcdef":
                await metrics(SimpleNamespace(method="tools/call", params={"name": name}), answer)
            await metrics(SimpleNamespace(method="subscriptions/listen"), answer)
    assert "_OTHER" in text(registry)
    done = promtool(text(registry))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_promtool_finds_what_is_wrong():
    """A judge that accepts anything would prove nothing."""
    assert promtool("a{b=c} 1\n").returncode != 0
