"""Write metrics as length-delimited Prometheus protobuf, the one format that carries native histograms.

Field numbers are those of ``io.prometheus.client`` (metrics.proto); wire types those of Protocol Buffers: 0 varint,
1 eight bytes, 2 length and bytes. Numbers are written even when they are zero: for some of them Prometheus looks
whether they are there.

    MetricFamily  name 1 · help 2 · type 3 · metric 4 · unit 5
    Metric        label 1 (name 1, value 2) · gauge 2 · counter 3 · histogram 7
    Histogram     count 1 · sum 2 · bucket 3 · created 15
                  schema 5 · zero_threshold 6 · zero_count 7 · negative 9, 10 · positive 12, 13
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from itertools import accumulate, pairwise

from .exposition import Source
from .family import ENDINGS, Description
from .native import NativeBuckets, spans
from .series import Exemplar, Point
from .text import Scheme, escape, number, unit_word

__all__ = ["protobuf"]

BREATH = 2048  # bytes: 0.3 ms of encoding
TYPES = {"counter": 0, "gauge": 1, "info": 1, "histogram": 4}


def protobuf(source: Source, scheme: Scheme = "underscores") -> Iterator[bytes]:
    """Yield the chunks of a delimited exposition.

    A family is one message, whose length stands before it: while its parts are written, empty chunks are yielded, so
    that an event loop can breathe.
    """
    for description, points in source.collect():
        labels = [_text(1, escape(label, scheme)) for label in description.labels]
        parts: list[bytes] = []
        last = _family(description, scheme)
        for point in points:
            last += _message(4, _metric(description, labels, point))
            if len(last) >= BREATH:
                parts.append(last)
                last = b""
                yield b""
        yield _varint(sum(map(len, parts)) + len(last))
        yield from (*parts, last)


def _family(description: Description, scheme: Scheme) -> bytes:
    exposed = description.exposed + ENDINGS[description.kind]
    name, unit = escape(exposed, scheme), unit_word(description.unit)
    head = _text(1, name) + _text(2, description.help) + _integer(3, TYPES[description.kind])
    return head + (_text(5, unit) if unit else b"")


def _metric(description: Description, labels: list[bytes], point: Point) -> bytes:
    pairs = zip(labels, point.labels, strict=True)
    head = b"".join(_message(1, label + _text(2, value)) for label, value in pairs if value)
    if description.kind == "histogram":
        return head + _message(7, _histogram(description, point))
    if description.kind == "counter":
        exemplar = point.exemplars.get(0)
        value = _double(1, point.value) + (_message(2, _exemplar(exemplar)) if exemplar else b"")
        return head + _message(3, value + _message(3, _timestamp(point.created)))
    return head + _message(2, _double(1, point.value))


def _histogram(description: Description, point: Point) -> bytes:
    totals = list(accumulate(point.counts))
    classic = b"".join(
        _message(3, _bucket(bound, totals[place], place, point.exemplars))
        for place, bound in enumerate(description.bounds)
    )
    if (last := len(description.bounds)) in point.exemplars:
        classic += _message(3, _bucket(math.inf, totals[-1], last, point.exemplars))
    native = _native(point.native) if point.native else b""
    head = _integer(1, totals[-1]) + _double(2, point.value)
    return head + classic + native + _message(15, _timestamp(point.created))


def _bucket(bound: float, total: int, place: int, exemplars: Mapping[int, Exemplar]) -> bytes:
    exemplar = exemplars.get(place)
    return _integer(1, total) + _double(2, bound) + (_message(3, _exemplar(exemplar)) if exemplar else b"")


def _native(native: NativeBuckets) -> bytes:
    head = _integer(5, _zigzag(native.schema)) + _double(6, native.zero_threshold) + _integer(7, native.zero_count)
    return head + _spans(9, native.negative) + _spans(12, native.positive)


def _spans(field: int, buckets: dict[int, int]) -> bytes:
    """Write runs as spans, and counts as what each differs from the one before, whatever lies between them."""
    runs = list(spans(buckets))
    counts = [0, *(count for run in runs for count in run.counts)]
    written = [_message(field, _integer(1, _zigzag(run.offset)) + _integer(2, len(run.counts))) for run in runs]
    written += [_integer(field + 1, _zigzag(count - before)) for before, count in pairwise(counts)]
    return b"".join(written)


def _exemplar(exemplar: Exemplar) -> bytes:
    labels = b"".join(_message(1, _text(1, name) + _text(2, text)) for name, text in exemplar.labels)
    return labels + _double(2, exemplar.value) + _message(3, _timestamp(exemplar.timestamp))


def _timestamp(seconds: float) -> bytes:
    whole, part = divmod(seconds, 1)
    return _integer(1, int(whole)) + _integer(2, int(part * 1e9))


def _text(field: int, text: str) -> bytes:
    return _message(field, text.encode())


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _double(field: int, value: float) -> bytes:
    try:
        packed = _EIGHT_BYTES(value)
    except (OverflowError, struct.error):  # an int above all floats, a number of a foreign type
        packed = _EIGHT_BYTES(float(number(value)))
    return _varint(field << 3 | 1) + packed


def _integer(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


def _varint(value: int) -> bytes:
    if value < 128:  # noqa: PLR2004  # seven bits a byte
        return _SMALL[value]
    encoded = bytearray()
    while value >= 128:  # noqa: PLR2004  # seven bits a byte
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


_EIGHT_BYTES = struct.Struct("<d").pack
_SMALL = [bytes([value]) for value in range(128)]
