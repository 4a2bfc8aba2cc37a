"""Choose the format of an answer by the ``Accept`` header of the request (RFC 9110, 12.5).

Rules, each tested in ``tests/metrics/test_negotiation.py``:

1. No header raises; one that accepts nothing of ours gets text 0.0.4, since a scrape is better answered than refused.
2. The highest ``q`` wins, the more specific range gives it, and on a tie the richer format is sent.
3. A version is never claimed that is not spoken: whoever asks for another gets the newest that is not newer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from .exposition import Source, openmetrics, prometheus_text
from .protobuf import protobuf
from .text import Scheme, scheme_named

__all__ = ["Format", "accepts_gzip", "choose"]

_RANGE = re.compile(r'\s*([^\s;,="]+)\s*((?:;(?:[^,;"]|"(?:[^"\\]|\\.)*")*)*)(?:,|$)')
_PARAMETER = re.compile(r';\s*([^\s;,="]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*))')
_Q = re.compile(r"0(?:\.\d{0,3})?|1(?:\.0{0,3})?")
LONGEST = 4096  # characters of a header that are looked at


Write = Callable[[Source, Scheme], Iterator[str]] | Callable[[Source, Scheme], Iterator[bytes]]


class Format(NamedTuple):
    """What to send: the value of ``Content-Type``, and how to write it."""

    content_type: str
    write: Write
    scheme: Scheme = "underscores"


class _Range(NamedTuple):
    """One media range of the header, names and types in small letters."""

    media_type: str
    parameters: dict[str, str]
    q: float


class _Offer(NamedTuple):
    media_type: str
    parameters: dict[str, str]
    write: Write


_NO_RANGE = _Range("", {}, 0.0)
_TEXT = _Offer("text/plain", {"version": "0.0.4", "charset": "utf-8"}, prometheus_text)
_OFFERS = (  # the richest first
    _Offer(
        "application/vnd.google.protobuf",
        {"proto": "io.prometheus.client.MetricFamily", "encoding": "delimited"},
        protobuf,
    ),
    _Offer("application/openmetrics-text", {"version": "1.0.0", "charset": "utf-8"}, openmetrics),
    _TEXT,
)


def choose(accept: str) -> Format:
    """Return the format that suits this ``Accept`` header best; never raises."""
    ranges = list(_ranges(accept))
    asked_for = [(offer, found) for offer in _OFFERS for found in [_most_specific(offer, ranges)] if found.q > 0]
    # Only those who name a format other than text want one: `*/*` is what a person's browser or curl sends.
    wanted = [(offer, found) for offer, found in asked_for if offer is _TEXT or found.media_type == offer.media_type]
    offer, found = max(wanted, key=lambda pair: pair[1].q, default=(_TEXT, _NO_RANGE))
    asked = found.parameters.get("escaping", "")
    scheme = scheme_named(asked)
    told = {**offer.parameters, "escaping": scheme} if asked else dict(offer.parameters)
    if offer is _TEXT and scheme == "allow-utf-8":  # the first version that knows names in quotes
        told["version"] = "1.0.0"
    content_type = "; ".join([offer.media_type, *(f"{name}={value}" for name, value in told.items())])
    return Format(content_type, offer.write, scheme)


def accepts_gzip(accept_encoding: str) -> bool:
    """Say whether this ``Accept-Encoding`` header allows gzip; ``gzip;q=0`` does not."""
    qualities = {found.media_type: found.q for found in _ranges(accept_encoding)}
    return qualities.get("gzip", qualities.get("x-gzip", qualities.get("*", 0.0))) > 0


def _ranges(header: str) -> Iterator[_Range]:
    """Yield what can be understood; a malformed range ends at the next comma."""
    place, header = 0, header[:LONGEST]
    while place < len(header):
        found = _RANGE.match(header, place)
        if found is None:
            place = header.find(",", place) + 1 or len(header)
            continue
        place = found.end()
        pairs = _PARAMETER.findall(found[2])
        parameters = {name.lower(): re.sub(r"\\(.)", r"\1", quoted) or plain for name, quoted, plain in pairs}
        q = parameters.pop("q", "1")
        yield _Range(found[1].lower(), parameters, float(q) if _Q.fullmatch(q) else 0.0)


def _most_specific(offer: _Offer, ranges: list[_Range]) -> _Range:
    """Return the range whose quality *offer* has."""
    matching = [found for found in ranges if _matches(found, offer)]
    return max(matching, key=lambda found: _specificity(found, offer), default=_NO_RANGE)


def _matches(found: _Range, offer: _Offer) -> bool:
    kind = offer.media_type.partition("/")[0]
    if found.media_type not in (offer.media_type, f"{kind}/*", "*/*"):
        return False
    others = {name: value for name, value in found.parameters.items() if name in offer.parameters}
    version = others.pop("version", None)
    if version is not None and not _speaks(offer.parameters["version"], version):
        return False
    return all(offer.parameters[name].lower() == value.lower() for name, value in others.items())


def _specificity(found: _Range, offer: _Offer) -> tuple[int, int, float]:
    exact = sum(offer.parameters.get(name) == value for name, value in found.parameters.items())
    return -found.media_type.count("*"), exact, found.q


def _speaks(ours: str, asked: str) -> bool:
    """Say whether who asks for a version can be given ours: it is not newer. Parts left out are zero: 1 is 1.0.0."""
    try:
        own, other = ([int(part) for part in version.split(".")] for version in (ours, asked))
    except ValueError:
        return False
    return own <= other + [0] * len(own)
