"""The strict parser: one fault a line, and the public suite where it is at hand."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest
from mcp_metrics import Registry
from mcp_metrics.testing import OpenMetricsError, ParsedExemplar, assert_metric, find, parse

HISTOGRAM = '# TYPE h histogram\nh_bucket{le="1.0"} 1\nh_bucket{le="+Inf"} 2\nh_count 2\nh_sum 3\n'


def families(text):
    return parse(f"{text}# EOF\n")


def test_reads_everything():
    """Metadata, labels, escapes, timestamps and exemplars."""
    text = (
        "# HELP c Two\\nlines \\\\ \\q.\n# TYPE c counter\n"
        'c_total{a="x\\"\\n\\\\",b=""} 1.5 12.25 # {trace_id="t"} 0.5 12.5\nc_created{a="x\\"\\n\\\\",b=""} 1\n'
    )
    (family,) = families(text)
    assert (family.name, family.type, family.help, family.unit) == ("c", "counter", "Two\nlines \\ \\q.", "")
    total, created = family.samples
    assert (total.name, total.labels, total.value, total.timestamp) == ("c_total", {"a": 'x"\n\\', "b": ""}, 1.5, 12.25)
    assert total.exemplar == ParsedExemplar({"trace_id": "t"}, 0.5, 12.5)
    assert created.exemplar is None


def test_reads_names_in_quotes():
    """Prometheus 3 puts them between the braces."""
    (family,) = families('# TYPE "a.b" counter\n{"a.b_total","c.d"="x"} 1\n{"a.b_total"} 2\n')
    assert [(sample.name, sample.labels) for sample in family.samples] == [
        ("a.b_total", {"c.d": "x"}),
        ("a.b_total", {}),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "a 1\nb 2\n",
        HISTOGRAM,
        '# TYPE a gaugehistogram\na_bucket{le="-1"} 1\na_bucket{le="+Inf"} 3\na_gcount 3\na_gsum -5\n',
        '# TYPE a histogram\na_bucket{le="+Inf"} 1 1\na_count 1 1\na_sum 1 1\na_bucket{le="+Inf"} 2 2\n',
        '# TYPE a summary\na_count 1\na_sum 2\na{quantile="0"} 0\na{quantile="0.5"} 0.7\na{quantile="1"} 1\n',
        '# TYPE a stateset\na{a="on"} 1\na{a="off"} 0\n',
        "# TYPE a gauge\na 1 1\na 2 1\na 3 2\n",
        '# TYPE a counter\na_total 1 # {b="' + "x" * 127 + '"} 1\n',
        "# UNIT a \n",
        '# UNIT "a_\\\\n" \\n\n',
        "a -Inf\nb nan\nc .5e-3\n",
    ],
)
def test_accepts(text):
    """What the specification allows, and is easily refused."""
    families(text)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a 1\n\n", 2, "not a sample"),
        ("a\n", 1, "not a sample"),
        (" a 1\n", 1, "not a sample"),
        ("a 1 \n", 1, "not a sample"),
        ("a 0x1\n", 1, "not a sample"),
        ("a 1_0\n", 1, "not a sample"),
        ('a{b="1",} 1\n', 1, "not a sample"),
        ('a{b="1",b="2"} 1\n', 1, "a label twice"),
        ('a{b="1","c"} 1\n', 1, "a label twice, or without a name"),
        ('a{"b"} 1\n', 1, "needs one name"),
        ("{} 1\n", 1, "needs one name"),
        ("# FOO a x\n", 1, "neither HELP, TYPE, UNIT nor a sample"),
        ("# TYPE a meh\n", 1, "no such type"),
        ("# TYPE a gauge\n# TYPE a gauge\n", 2, "second time"),
        ("# HELP a x\na 1\n# TYPE a gauge\n", 3, "after its samples"),
        ("# TYPE a counter\n# TYPE b gauge\n# TYPE a counter\n", 3, "there twice"),
        ("# TYPE a_created gauge\n# TYPE a counter\n", 2, "clashes"),
        ("# UNIT a seconds\n", 1, "cannot have the unit"),
        ("# TYPE x_u info\n# UNIT x_u u\n", 2, "cannot have the unit"),
        ("# TYPE x_u stateset\n# UNIT x_u u\n", 2, "cannot have the unit"),
        ("# TYPE a counter\na_total -1\n", 2, "negative or no number"),
        ("# TYPE a summary\na_count 0.5\n", 2, "is no count"),
        ("# TYPE a info\na_info 2\n", 2, "cannot be 2"),
        ("# TYPE a stateset\na 1\n", 2, "label of its own name"),
        ('# TYPE a stateset\na{a="on"} 2\n', 2, "the value of stateset cannot be 2"),
        ('# TYPE a summary\na{quantile="2"} 1\n', 2, "a quantile is from 0 to 1"),
        ("# TYPE a gauge\na 1 # {} 1\n", 2, "no exemplars here"),
        ('# TYPE a counter\na_total 1 # {"b"} 1\n', 2, "an exemplar's label without a name: 'b'"),
        ('# TYPE a counter\na_total 1 # {a="' + "x" * 128 + '"} 1\n', 2, "more than 128 characters"),
        ("# TYPE a histogram\na_bucket 1\n", 2, "'le' is missing"),
        ("# TYPE a histogram\na_sum 1\n", 2, "the last bucket must be"),
        ('# TYPE a histogram\na_bucket{le="2"} 1\na_bucket{le="1"} 1\na_bucket{le="+Inf"} 1\n', 4, "must ascend"),
        ('# TYPE a histogram\na_bucket{le="1"} 1\na_bucket{le="1.0"} 1\na_bucket{le="+Inf"} 1\n', 4, "must ascend"),
        (HISTOGRAM.replace("h_count 2", "h_count 3"), 5, "sum and count go together"),
        (HISTOGRAM.replace("h_count 2\n", ""), 4, "sum and count go together"),
        (HISTOGRAM.replace("1.0", "-1.0"), 5, "does not go with these buckets"),
        ('# TYPE a gaugehistogram\na_bucket{le="+Inf"} 1\na_gcount 1\na_gsum -1\n', 4, "does not go with"),
        ('# TYPE a gauge\na{b="1"} 1\na{b="2"} 1\na{b="1"} 1\n', 4, "samples of one metric are apart"),
        ('# TYPE a stateset\na{a="x",b="1"} 1\na{a="x",b="2"} 1\na{a="y",b="1"} 0\n', 4, "are apart"),
        ('# TYPE a summary\na_sum{b="1"} 1\na_sum{b="2"} 1\na{b="1",quantile="0"} 1\n', 4, "are apart"),
        ("# TYPE a gauge\na 1\na 1\n", 3, "one sample twice"),
        ("# TYPE a gauge\na 1 2\na 1 1\n", 3, "going back in time"),
    ],
)
def test_refuses(text, line, message):
    """One fault each, told with the line where it was noticed."""
    with pytest.raises(OpenMetricsError, match=message) as caught:
        families(text)
    assert caught.value.line == line
    assert str(caught.value).startswith(f"line {line}: ")


@pytest.mark.parametrize(
    ("text", "line"), [("", 1), ("a 1\n", 1), ("# EOF\n\n", 2), ("# EOFx", 1), ("# EOF\na 1\n", 2), ("\n# EOF \n", 2)]
)
def test_needs_an_end(text, line):
    """A truncated answer must not pass."""
    with pytest.raises(OpenMetricsError, match=f"^line {line}: the last line must be '# EOF'$") as caught:
        parse(text)
    assert caught.value.line == line


def test_the_public_suite():
    """The 211 cases of the OpenMetrics repository, each read or refused as it says."""
    folder = os.environ.get("OPENMETRICS_CASES")
    if not folder:
        pytest.skip("set OPENMETRICS_CASES to tests/testdata/parsers of a checkout of prometheus/OpenMetrics")
    verdicts = {}
    for case in sorted(Path(folder).iterdir()):
        expected = json.loads((case / "test.json").read_text("utf-8"))["shouldParse"]
        try:
            parse((case / "metrics").read_bytes().decode())
        except OpenMetricsError:
            verdicts[case.name] = not expected
        else:
            verdicts[case.name] = expected
    assert len(verdicts) >= 211
    assert [name for name, right in verdicts.items() if not right] == []


def test_assert_metric():
    """By name, labels and value; None for what must not be there."""
    registry = Registry()
    registry.counter("jobs", "Jobs.", labels=["kind"]).bind("a").inc(2)
    assert_metric(registry, "jobs_total", 2, kind="a")
    assert_metric(registry, "jobs_total", None, kind="b")
    assert_metric("# TYPE a gauge\na 1\n# EOF\n", "a", 1)
    assert len(find(registry, "jobs_total")) == 1


@pytest.mark.parametrize(
    ("name", "value", "labels", "message"),
    [
        ("jobs_total", 3, {"kind": "a"}, "expected jobs_total{'kind': 'a'} 3, there is\n  jobs_total{'kind': 'a'} 2.0"),
        ("jobs_total", None, {}, "expected jobs_total{} absent"),
        ("gone", 1, {}, "expected gone{} 1, there is\n  nothing of this name"),
    ],
)
def test_assert_metric_says_what_there_is(name, value, labels, message):
    """The message is what one would look up next."""
    registry = Registry()
    registry.counter("jobs", "Jobs.", labels=["kind"]).bind("a").inc(2)
    with pytest.raises(AssertionError) as caught:
        assert_metric(registry, name, value, **labels)
    assert message in str(caught.value)


def test_assert_metric_knows_nan():
    """A gauge may say that it has no value, and a test may want that."""
    registry = Registry()
    registry.gauge("depth", "Depth.").bind().set(math.nan)
    assert_metric(registry, "depth", math.nan)
    with pytest.raises(AssertionError):
        assert_metric(registry, "depth", 0)
    with pytest.raises(AssertionError):
        assert_metric(registry, "gone", math.nan)


def test_assert_metric_tells_close_values_apart():
    """A message that says the same number twice helps nobody."""
    with pytest.raises(AssertionError, match=r"expected a\{\} 1000001, there is\n  a\{\} 1000002.0"):
        assert_metric("# TYPE a gauge\na 1000002\n# EOF\n", "a", 1000001)
