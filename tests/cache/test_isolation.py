"""What one caller does to a value, or to an exception, must not reach another."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from types import MappingProxyType
from typing import NamedTuple

import pytest
from mcp_cache import Cache, NotStored

from tests.cache.source import Source


class Pair(NamedTuple):
    """As unchanging as what is in it."""

    one: object
    two: object


class Mutable:
    """An object that goes by its identity."""


@dataclass
class Row:
    """An object that changes, and has no hash."""

    cells: list = field(default_factory=list)


CHANGING = [Mutable(), Row(), OrderedDict(a=1), defaultdict(list), deque([1]), [Row()], {"a": deque()}, (Mutable(),)]


@pytest.mark.parametrize("value", [*CHANGING, Pair([], 1)], ids=str)
async def test_value_that_cannot_be_frozen_is_returned_and_not_stored(value):
    """Rather computed twice than shared by callers who can change it."""
    events = []
    cache = Cache(isolation="frozen", on_event=events.append)
    for _ in range(2):
        assert await cache.get_or_compute("key", Source(value)) is value
    await cache.set("key", value)
    assert cache.statistics().entries == 0
    assert [event.reason[:21] for event in events if isinstance(event, NotStored)] == ["it cannot be isolated"] * 3


@pytest.mark.parametrize(
    "value", [Pair(1, "x"), date(2026, 1, 2), Decimal("1.5"), frozenset({1}), range(3), 1j], ids=str
)
async def test_value_that_cannot_change_is_kept_as_it_is(value):
    """There is nothing to freeze."""
    cache = Cache(isolation="frozen")
    await cache.set("key", [value])
    assert await cache.get("key") == (value,)
    assert type((await cache.get("key"))[0]) is type(value)


async def test_view_of_a_mapping_is_frozen():
    """Whoever has the mapping could change what is seen."""
    inner = {"a": [1]}
    cache = Cache(isolation="frozen")
    await cache.set("key", MappingProxyType(inner))
    inner["a"].append(2)
    assert await cache.get("key") == {"a": (1,)}
