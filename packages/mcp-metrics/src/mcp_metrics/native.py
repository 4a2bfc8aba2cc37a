"""Count values in buckets that grow by a constant factor: Prometheus' native histogram.

Bucket *i* of schema *s* holds the values in ``(base**(i-1), base**i]`` with ``base = 2**(2**-s)``. Schema 3 tells
values apart that differ by 9 %, so a quantile is at most 4.4 % wrong; each finer schema halves that.

    schema 3   │ 8 │ 9 │10 │11 │     two neighbours become one bucket of the next coarser schema:
    schema 2   │   4   │   5   │     index ``ceil(i / 2)``, with no value moved to a wrong one

Invariants, each tested in ``tests/metrics/test_native.py``:

1. Nothing is lost: zero bucket, positive and negative buckets together hold as many values as were added.
2. There are never more than *limit* buckets: first the schema gets coarser, down to -4, then the zero bucket wider.
3. A value lies within the bounds of its bucket.
4. Merging does not depend on the order, and equals adding all values to one.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple, cast

__all__ = ["COARSEST", "FINEST", "NativeBuckets", "Span", "bound", "spans"]

FINEST, COARSEST = 8, -4
ZERO_THRESHOLD = 2.0**-128  # the default of client_golang
LIMIT = 160
"""Buckets; the default of OpenTelemetry, and enough for 20 octaves at schema 3."""

_FRACTIONS = {schema: [2.0 ** (step / 2**schema - 1) for step in range(2**schema)] for schema in range(1, FINEST + 1)}


class Span(NamedTuple):
    """A run of buckets without a gap: how far behind the last run it begins, and its counts."""

    offset: int
    counts: list[int]


def index(value: float, schema: int) -> int:
    """Return the bucket of a positive, finite *value*.

    The fraction is looked up among bounds instead of taking a logarithm, which is off by one at the bounds themselves.
    """
    fraction, exponent = math.frexp(value)
    if schema > 0:
        return bisect_left(_FRACTIONS[schema], fraction) + (exponent - 1) * (1 << schema)
    return _coarser(exponent - (fraction == 0.5), -schema)  # noqa: PLR2004  # a power of two is the upper bound


def bound(index: int, schema: int) -> float:
    """Return the upper bound of a bucket, infinite above the largest float."""
    octave = 2.0**schema  # buckets
    try:
        return math.ldexp(2.0 ** (index % octave / octave), int(index // octave))
    except OverflowError:
        return math.inf


def spans(buckets: dict[int, int]) -> Iterator[Span]:
    """Yield the runs of buckets in order; the offset of the first is its index."""
    end = 0
    for _, run in groupby(enumerate(sorted(buckets)), lambda pair: pair[1] - pair[0]):
        members = [position for _, position in run]
        yield Span(members[0] - end, [buckets[position] for position in members])
        end = members[-1] + 1


class NativeBuckets:
    """The buckets of one series.

    *schema* is 8 (0.3 % wide) to -4; it gets coarser by itself when more than *limit* buckets would be needed. Values
    as near to zero as *zero_threshold* are in the zero bucket: all where it is infinite, as it becomes when *limit*
    leaves the largest floats no other place. Raises ValueError for a schema or limit that is none.
    """

    __slots__ = ("limit", "negative", "positive", "schema", "zero_count", "zero_threshold")

    def __init__(self, schema: int = 3, *, limit: int = LIMIT, zero_threshold: float = ZERO_THRESHOLD) -> None:
        if type(schema) is not int or not COARSEST <= schema <= FINEST:
            raise ValueError(f"NativeBuckets needs a schema from {COARSEST} to {FINEST}, got {schema!r}")
        if type(limit) is not int or limit < 1:
            raise ValueError(f"NativeBuckets needs an int limit >= 1, got {limit!r}")
        given = cast("object", zero_threshold)
        if isinstance(given, bool) or not isinstance(given, (int, float)) or not given >= 0:
            raise ValueError(f"NativeBuckets needs a number zero_threshold >= 0, got {zero_threshold!r}")
        self.schema: int = schema
        self.limit: int = limit
        self.zero_threshold: float = zero_threshold
        self.zero_count: int = 0
        self.positive: dict[int, int] = {}
        self.negative: dict[int, int] = {}

    def add(self, value: float) -> None:
        """Count a finite *value*, or raise ValueError."""
        if value - value != 0:  # infinite or NaN
            raise ValueError(f"NativeBuckets.add() needs a finite value, got {value!r}")
        if -self.zero_threshold <= value <= self.zero_threshold:
            self.zero_count += 1
            return
        buckets = self.positive if value > 0 else self.negative
        place = index(abs(value), self.schema)
        buckets[place] = buckets.get(place, 0) + 1
        self._shrink()

    def merge(self, other: NativeBuckets) -> None:
        """Count what *other* has counted, too; *other* stays as it is."""
        theirs = other.copy()
        self.limit = min(self.limit, theirs.limit)
        for one, another in ((self, theirs), (theirs, self), (self, theirs)):  # a meeting may widen further than asked
            one._meet(another)  # noqa: SLF001  # of its own class
        self.zero_count += theirs.zero_count
        for mine, more in ((self.positive, theirs.positive), (self.negative, theirs.negative)):
            for place, count in more.items():
                mine[place] = mine.get(place, 0) + count
        self._shrink()

    def copy(self) -> NativeBuckets:
        """Return buckets that no longer change with these."""
        twin = NativeBuckets(self.schema, limit=self.limit, zero_threshold=self.zero_threshold)
        twin.zero_count = self.zero_count
        twin.positive, twin.negative = self.positive.copy(), self.negative.copy()
        return twin

    def count(self) -> int:
        """Return how many values were added."""
        return self.zero_count + sum(self.positive.values()) + sum(self.negative.values())

    def _meet(self, other: NativeBuckets) -> None:
        """Become as coarse, and as wide around zero, as *other*."""
        self._coarsen(self.schema - min(self.schema, other.schema))
        if other.zero_threshold > self.zero_threshold:
            self._widen(other.zero_threshold)

    def _shrink(self) -> None:
        while len(self.positive) + len(self.negative) > self.limit:
            if self.schema > COARSEST:
                self._coarsen(1)
            else:
                self._widen(bound(min([*self.positive, *self.negative]), self.schema))

    def _coarsen(self, steps: int) -> None:
        if steps:
            self.schema -= steps
            self.positive = _sums((_coarser(place, steps), count) for place, count in self.positive.items())
            self.negative = _sums((_coarser(place, steps), count) for place, count in self.negative.items())

    def _widen(self, threshold: float) -> None:
        """Move all buckets that begin below *threshold* into the zero bucket, which must not end within one."""
        for buckets in (self.positive, self.negative):
            for place in [place for place in buckets if bound(place - 1, self.schema) < threshold]:
                self.zero_count += buckets.pop(place)
                threshold = max(threshold, bound(place, self.schema))
        self.zero_threshold = max(threshold, self.zero_threshold)


def _coarser(index: int, steps: int) -> int:
    return -(-index >> steps)


def _sums(pairs: Iterable[tuple[int, int]]) -> dict[int, int]:
    sums: dict[int, int] = {}
    for place, count in pairs:
        sums[place] = sums.get(place, 0) + count
    return sums
