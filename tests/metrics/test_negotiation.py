"""The format is the one that was asked for, and no header raises."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_metrics import Registry
from mcp_metrics.negotiation import accepts_gzip, choose

OM = "application/openmetrics-text"
PROTO = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
PROMETHEUS_2 = f"{PROTO},{OM};version=1.0.0;q=0.8,{OM};version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
PROMETHEUS_3 = (
    f"{OM};version=1.0.0;escaping=allow-utf-8;q=0.6,{OM};version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "kind", "scheme"),
    [
        ("", "text/plain", "underscores"),
        ("*/*", "text/plain", "underscores"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/plain", "underscores"),
        (PROMETHEUS_2, PROTO.partition(";")[0], "underscores"),
        (PROMETHEUS_2.partition(",")[2], OM, "underscores"),
        (PROMETHEUS_3, OM, "allow-utf-8"),
        (OM, OM, "underscores"),
        (OM.upper(), OM, "underscores"),
        (f'{OM}; version="1.0.0"', OM, "underscores"),
        (f"{OM}; version=1.0.0; q=0", "text/plain", "underscores"),
        (f"{OM};q=0.2, text/plain;q=0.9", "text/plain", "underscores"),
        (f"{OM};q=0.9, text/plain;q=0.2", OM, "underscores"),
        (f"text/*;q=0.1, {OM};q=0.05", "text/plain", "underscores"),
        (f"text/plain;q=0, text/*, {OM};q=0.3", OM, "underscores"),
        (f"{OM};version=2.0.0", OM, "underscores"),
        (f"{OM};version=1.0", OM, "underscores"),
        (f"{OM};version=1", OM, "underscores"),
        (f"{OM};version=1.0.0.0", OM, "underscores"),
        (f"{OM};version=0", "text/plain", "underscores"),
        (f"{OM};version=0.0.1", "text/plain", "underscores"),
        (f"{OM};q=0.5, text/plain;version=0", OM, "underscores"),
        (f"{OM};version=banana", "text/plain", "underscores"),
        (f"text/plain, {OM}", OM, "underscores"),
        (f"{OM}, {PROTO}", PROTO.partition(";")[0], "underscores"),
        (f"{OM};q=0.3, */*;q=0.9", "text/plain", "underscores"),
        (f"{OM};version=1.0.0;q=0.1, {OM};q=0.9, text/plain;q=0.5", "text/plain", "underscores"),
        (f"{OM};q=0.1, {OM};version=1.0.0;q=0.9, text/plain;q=0.5", OM, "underscores"),
        (f";bad, {OM}, text/plain;q=0.1", OM, "underscores"),
        (f"text/html, ;bad, {OM}", OM, "underscores"),
        (f'{OM};version="1\\.0.0"', OM, "underscores"),
        (f"{OM};escaping=values", OM, "values"),
        (f"{OM};escaping=emoji", OM, "underscores"),
        ("text/plain;version=1.0.0;escaping=dots", "text/plain", "dots"),
        ("application/vnd.google.protobuf;proto=other;encoding=delimited", "text/plain", "underscores"),
        (f'garbage;;;"",{OM}', OM, "underscores"),
        (f"{OM};q=banana", "text/plain", "underscores"),
        (f"{OM};charset=UTF-8", OM, "underscores"),
        (f"{OM};charset=latin-1", "text/plain", "underscores"),
        (f'text/plain;x="a,b\\";c";q=0.5,{OM};q=0.4', "text/plain", "underscores"),
    ],
)
def test_choose(accept, kind, scheme):
    """Rule 2, by what scrapers and people really send."""
    form = choose(accept)
    assert form.content_type.partition(";")[0] == kind
    assert form.scheme == scheme


@pytest.mark.parametrize(
    ("accept", "told"),
    [
        (f"{OM};version=99.0.0", f"{OM}; version=1.0.0; charset=utf-8"),
        (f"{OM};version=1.0.0;escaping=dots", f"{OM}; version=1.0.0; charset=utf-8; escaping=dots"),
        ("text/plain;version=0.0.4", "text/plain; version=0.0.4; charset=utf-8"),
        (
            "text/plain;version=1.0.0;escaping=allow-utf-8",
            "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
        ),
    ],
)
def test_the_content_type_says_what_is_sent(accept, told):
    """Rule 3: a version is never echoed."""
    assert choose(accept).content_type == told


@pytest.mark.parametrize(("accept", "end"), [("", "counter\n"), (OM, "# EOF\n"), (PROTO, b"\x18\x00")])
def test_what_is_written_is_what_was_chosen(accept, end):
    """Each format by its last line or bytes."""
    form = choose(accept)
    assert list(form.write(Registry(), form.scheme))[-1].endswith(end)


@pytest.mark.parametrize(
    ("header", "allowed"),
    [
        ("gzip", True),
        ("deflate, gzip;q=0.5", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("*", True),
        ("gzip;q=0", False),
        ("gzip;q=0, *", False),
        ("*;q=0", False),
        ("identity", False),
        ("", False),
    ],
)
def test_gzip(header, allowed):
    """Rule 2 for encodings; ``q=0`` means no."""
    assert accepts_gzip(header) is allowed


@given(st.text(st.sampled_from('abc/*;,="\\ q.019\ud800\n') | st.characters(), max_size=200))
def test_no_header_raises(header):
    """Rule 1."""
    assert choose(header).content_type
    assert accepts_gzip(header) in (True, False)


@pytest.mark.parametrize("header", [";" * 10**6, '"' * 10**6, "a/b;" * 10**5, ("a/b;x=" + '"\\' * 10**5)])
def test_long_headers_take_no_time(header):
    """A header is not worth more than a few microseconds."""
    assert choose(header).content_type.startswith("text/plain")
