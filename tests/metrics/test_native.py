"""Native buckets: exact at their bounds, bounded in number, indifferent to order."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mcp_metrics import NativeBuckets
from mcp_metrics.native import COARSEST, FINEST, bound, index, spans

VALUES = st.floats(allow_nan=False, allow_infinity=False)
SCHEMAS = st.integers(COARSEST, FINEST)


def filled(values, schema=3, limit=160):
    buckets = NativeBuckets(schema, limit=limit)
    for value in values:
        buckets.add(value)
    return buckets


def state(buckets):
    return buckets.schema, buckets.zero_threshold, buckets.zero_count, buckets.positive, buckets.negative


@given(st.floats(min_value=5e-324, allow_infinity=False), SCHEMAS)
@example(1.0, 0)
@example(0.5, -4)
@example(math.nextafter(1, 2), 8)
def test_a_value_lies_within_its_bucket(value, schema):
    """Invariant 3."""
    place = index(value, schema)
    assert bound(place - 1, schema) < value <= bound(place, schema) or value < 2.3e-308  # bounds of subnormals round


@pytest.mark.parametrize("schema", range(COARSEST, FINEST + 1))
def test_bounds_are_in_the_bucket_they_close(schema):
    """A logarithm would be off by one here."""
    for place in range(-20, 21):
        assert index(bound(place, schema), schema) == place


@pytest.mark.parametrize(("schema", "place"), [(3, 10**6), (-4, 10**6)])
def test_bounds_above_all_floats_are_infinite(schema, place):
    """The last bucket has an end too."""
    assert bound(place, schema) == math.inf


@given(st.lists(VALUES, max_size=60), SCHEMAS, st.integers(2, 12))
def test_nothing_is_lost_and_the_number_is_bounded(values, schema, limit):
    """Invariants 1 and 2."""
    buckets = filled(values, schema, limit)
    assert buckets.count() == len(values)
    assert len(buckets.positive) + len(buckets.negative) <= limit
    assert COARSEST <= buckets.schema <= schema


@given(st.lists(VALUES, max_size=40), st.lists(VALUES, max_size=40), SCHEMAS, st.integers(2, 12), st.randoms())
def test_merging_equals_adding(one, two, schema, limit, rng):
    """Invariant 4: whichever comes first, and whatever is added where."""
    merged = filled(one, schema, limit)
    merged.merge(filled(two, schema, limit))
    backwards = filled(two, schema, limit)
    backwards.merge(filled(one, schema, limit))
    everything = [*one, *two]
    rng.shuffle(everything)
    assert state(merged) == state(backwards) == state(filled(everything, schema, limit))


@given(st.lists(VALUES, max_size=30), st.lists(VALUES, max_size=30), SCHEMAS, SCHEMAS)
def test_merging_different_schemas_keeps_all(one, two, fine, coarse):
    """Workers of two versions may differ in schema; the coarser one is what both can say."""
    first, second = filled(one, fine), filled(two, coarse)
    before = state(second)
    first.merge(second)
    assert first.count() == len(one) + len(two)
    assert first.schema <= min(fine, coarse)
    assert state(second) == before


def test_merging_different_zero_buckets():
    """The wider zero bucket wins, and swallows the buckets that it reaches into."""
    narrow, wide = filled([0.001, 5.0]), NativeBuckets(3, zero_threshold=0.01)
    narrow.merge(wide)
    assert narrow.zero_count == 1
    assert sum(narrow.positive.values()) == 1
    assert narrow.zero_threshold >= 0.01


@pytest.mark.parametrize("threshold", [0, 0.6])
def test_the_zero_bucket_is_as_wide_as_it_is_told(threshold):
    """Closed at both ends; to meet another as wide moves nothing, even from a bucket that begins within it."""
    buckets = NativeBuckets(0, zero_threshold=threshold)
    for value in (threshold, -threshold, 0.7, -0.7):
        buckets.add(value)
    buckets.merge(NativeBuckets(0, zero_threshold=threshold))
    assert state(buckets) == (0, threshold, 2, {0: 1}, {0: 1})


@given(st.dictionaries(st.integers(-50, 50), st.integers(1, 9)))
def test_spans_tell_the_buckets(buckets):
    """What is written as runs and gaps is read back as the same buckets."""
    read, place = {}, 0
    for span in spans(buckets):
        place += span.offset
        for count in span.counts:
            read[place] = count
            place += 1
    assert read == buckets


def test_quantiles_are_within_the_promised_error():
    """The middle of a schema 3 bucket is at most 4.4 % off."""
    rng = random.Random(1)
    values = sorted(rng.lognormvariate(-3, 1.5) for _ in range(20_000))
    buckets = filled(values)
    for quantile in (50, 90, 99):
        true = statistics.quantiles(values, n=100)[quantile - 1]
        left = quantile / 100 * len(values)
        for place in sorted(buckets.positive):
            left -= buckets.positive[place]
            if left <= 0:
                break
        middle = math.sqrt(bound(place, buckets.schema) * bound(place - 1, buckets.schema))
        assert abs(middle / true - 1) <= 0.045


def test_too_many_buckets_make_the_schema_coarser_and_then_zero_wider():
    """Invariant 2, step by step, on both sides of zero."""
    assert state(filled([1, -2], 0, limit=2)) == (0, 2.0**-128, 0, {0: 1}, {1: 1})  # just room enough
    buckets = filled([1, 2, 4, -1], 0, limit=2)
    assert state(buckets) == (COARSEST, 1.0, 2, {1: 2}, {})  # -1 and 1 are zero now
    huge = filled([1e-30, 1e-10, 1.0, 1e10, 1e30, -1e-10], 0, limit=2)
    assert huge.schema == COARSEST
    assert len(huge.positive) + len(huge.negative) <= 2
    assert huge.zero_count + sum(huge.positive.values()) == 6
    assert huge.zero_threshold >= 1e-10


def test_merging_by_example():
    """A coarser one and a finer one meet at the coarser."""
    fine, coarse = filled([1.0, 1.1, -3.0], 3), filled([1.0, 0.0], 0)
    fine.merge(coarse)
    assert state(fine) == (0, 2.0**-128, 1, {0: 2, 1: 1}, {2: 1})
    assert fine.count() == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schema": 9}, "schema from -4 to 8, got 9"),
        ({"schema": -5}, "got -5"),
        ({"schema": True}, "got True"),
        ({"schema": 3.0}, "got 3.0"),
        ({"limit": 0}, "limit >= 1, got 0"),
        ({"limit": True}, "got True"),
        ({"limit": 2.5}, "got 2.5"),
        ({"zero_threshold": -1.0}, "zero_threshold >= 0, got -1.0"),
        ({"zero_threshold": math.nan}, "got nan"),
        ({"zero_threshold": "0"}, "got '0'"),
        ({"zero_threshold": True}, "got True"),
    ],
)
def test_nonsense_is_refused(options, message):
    """At construction, and not by a scrape."""
    with pytest.raises(ValueError, match=message):
        NativeBuckets(**options)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_has_no_bucket(value):
    """Refused, and nothing is counted."""
    buckets = NativeBuckets()
    with pytest.raises(ValueError, match=f"finite value, got {value!r}"):
        buckets.add(value)
    assert buckets.count() == 0


def test_the_largest_floats_may_have_the_zero_bucket_alone():
    """Their bound is infinite, and such buckets are copied by every scrape."""
    buckets = filled([1e308, -1e308], limit=1).copy()
    assert (buckets.zero_threshold, buckets.count()) == (math.inf, 2)


def test_a_copy_is_like_its_original():
    """All of it, and no longer tied to it."""
    buckets = NativeBuckets(1, limit=2, zero_threshold=0.5)
    for value in (0.25, 4.0, -4.0):
        buckets.add(value)
    twin = buckets.copy()
    buckets.add(1e9)
    assert (twin.limit, *state(twin)) == (2, 1, 0.5, 1, {4: 1}, {4: 1})
    assert NativeBuckets().copy().schema == NativeBuckets().schema == 3


@pytest.mark.parametrize("value", [1.0, -2.5, 5e-324, 0.0])
def test_one_bucket_is_enough(value):
    """Invariant 2 at its smallest limit."""
    buckets = filled([value, value], limit=1)
    assert buckets.count() == 2
    assert len(buckets.positive) + len(buckets.negative) <= 1
