"""Turn names, label values and numbers into what every exposition format accepts.

Names are chosen by the programmer, so a bad one is refused; values come from anywhere, so each is accepted somehow:

    metric and label names ── check_name ── escape(name, scheme) ── one of four schemes, asked for by the scraper
    label values           ── label_value ── at most 128 characters, no surrogate, no NUL; newlines are escaped later
    numbers                ── number ── what a parser of any language reads; canonical ── the one spelling of ``le``

Rules, each tested in ``tests/metrics/test_text.py``:

1. ``label_value`` and ``number`` never raise, whatever they are given.
2. Two names that no scheme confuses are those that ``underscores``, the most forgetful scheme, keeps apart.
"""

from __future__ import annotations

import math
import re
import zlib
from typing import Literal, get_args

__all__ = ["OTHER", "Scheme", "canonical", "check_name", "escape", "label_value", "number", "unit_word"]

Scheme = Literal["underscores", "dots", "values", "allow-utf-8"]

OTHER = "_OTHER"
"""The value that stands for all that were not admitted, as OpenTelemetry spells it."""
LONGEST_VALUE = 128  # characters
UNITS = {"s": "seconds", "ms": "milliseconds", "By": "bytes", "1": "ratio"}
"""UCUM, which OpenTelemetry speaks, to the words of Prometheus; any other unit is its own word."""
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
EXPONENT_FROM = 1e6  # where Go's shortest format begins to write an exponent

_LEGACY = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_NOT_LEGACY = re.compile(r"[^a-zA-Z0-9_:]|^[0-9]")
_INT64 = range(-(2**63), 2**63)


def check_name(name: object, what: str) -> str:
    """Return *name* if it may name a metric or a label, or raise ValueError that says *what* it was to be.

    Any printable characters but spaces will do: names that Prometheus 2 does not know are escaped for it.
    """
    if not isinstance(name, str) or not name.isprintable() or not name or " " in name or name.startswith("U__"):
        raise ValueError(f"{what} must be printable, without spaces, and not start with 'U__', got {name!r}")
    return name


def is_legacy(name: str) -> bool:
    """Say whether *name* needs no escaping, in any format."""
    return _LEGACY.fullmatch(name) is not None


def escape(name: str, scheme: Scheme) -> str:
    """Write *name* under one of the four schemes of the Prometheus escaping specification."""
    if scheme == "allow-utf-8" or (scheme != "dots" and is_legacy(name)):
        return name
    if scheme == "underscores":
        return _NOT_LEGACY.sub("_", name)
    if scheme == "dots":
        return _NOT_LEGACY.sub(lambda found: "_dot_" if found[0] == "." else "__", name.replace("_", "__"))
    return "U__" + _NOT_LEGACY.sub(lambda found: f"_{ord(found[0]):x}_", name.replace("_", "__"))


def unit_word(unit: str) -> str:
    """Return the word that ends the name of a metric with this unit; empty for annotations like ``{request}``."""
    return "" if unit.startswith("{") else UNITS.get(unit, unit)


def label_value(value: object) -> str:
    """Return *value* as text that is safe in a label.

    Longer texts keep their first 119 characters and end in a checksum of the whole, so that they stay apart.
    """
    try:
        text = str(value)
    except Exception:  # noqa: BLE001  # a foreign __str__
        text = f"<{type(value).__name__}>"
    text = valid(text)
    if len(text) > LONGEST_VALUE:
        text = f"{text[: LONGEST_VALUE - 9]}~{zlib.crc32(text.encode()):08x}"
    return text


def valid(text: str) -> str:
    """Return *text* with U+FFFD for halves of surrogate pairs, and for NUL, the end of the input for Prometheus 2."""
    if not text.isascii():
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.replace("\0", "\ufffd")


def number(value: float) -> str:
    """Write a sample's value; an int stays one, and anything that is no number becomes ``NaN``."""
    if type(value) is int and value in _INT64:
        return str(value)
    try:
        text = repr(float(value))
    except OverflowError:
        return "+Inf" if value > 0 else "-Inf"
    except Exception:  # noqa: BLE001  # whatever a callback or a foreign number type does
        return "NaN"
    return _SPECIAL.get(text, text)


def canonical(value: float) -> str:
    """Write a bucket's bound in the one spelling that OpenMetrics wants, Go's shortest: ``0.1``, ``1.0``, ``1e+06``.

    It is used in all formats, since Prometheus takes ``le="1"`` and ``le="1.0"`` for two series.
    """
    bound = float(value)
    if not EXPONENT_FROM <= abs(bound) < math.inf:
        return number(bound)
    spelt = (f"{bound:.{digits}e}" for digits in range(17))  # which tell any two floats apart
    return next(text for text in spelt if float(text) == bound)


def scheme_named(name: str) -> Scheme:
    """Return the scheme of this name; ``underscores``, which everyone reads, for any other name."""
    return name if name in SCHEMES else "underscores"


_SPECIAL = {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}
