"""What one caller does to a value, or to an exception, must not reach another."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from types import MappingProxyType
from typing import NamedTuple

import anyio
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
    "value", [Pair(1, "x"), date(2026, 1, 2), Decimal("1.5"), frozenset({1}), range(3), 1j, None], ids=str
)
async def test_value_that_cannot_change_is_kept_as_it_is(value):
    """There is nothing to freeze."""
    cache = Cache(isolation="frozen")
    await cache.set("key", [value])
    assert await cache.get("key") == (value,)
    assert type((await cache.get("key"))[0]) is type(value)


async def test_value_that_cannot_change_is_not_copied():
    """It is the same for all, and no pickle is kept of it."""
    cache, text = Cache(isolation="copy"), "long" * 100
    await cache.set("key", text)
    assert await cache.get("key") is text


@pytest.mark.parametrize("policy", ["adaptive", "lru", "s3fifo", "tinylfu"])
async def test_no_hit_shows_the_form_in_which_a_value_is_kept(policy):
    """However often it was hit before: neither the bytes of a copy, nor what stands for a failure."""
    cache = Cache(isolation="copy", negative_ttl={LookupError: 60}, policy=policy)

    async def row():
        return [1]

    async def missing():
        raise LookupError

    await cache.set("set", [1])
    for _ in range(4):
        assert await cache.get_or_compute("row", row) == await cache.get_or_compute("set", row) == [1]
        with pytest.raises(LookupError):
            await cache.get_or_compute("missing", missing)
    assert cache.statistics().hits == 3 + 4 + 3


async def test_refusal_to_freeze_names_the_class():
    """It is the class that has to be changed."""
    events = []
    await Cache(isolation="frozen", on_event=events.append).set("key", [Mutable()])
    assert events[:1] == [NotStored("key", """it cannot be isolated: TypeError("cannot freeze 'Mutable' object")""")]


async def test_bytearray_becomes_bytes():
    """It has a sibling that cannot be changed."""
    cache = Cache(isolation="frozen")
    await cache.set("key", bytearray(b"x"))
    assert await cache.get("key") == b"x"
    assert type(await cache.get("key")) is bytes


async def test_view_of_a_mapping_is_frozen():
    """Whoever has the mapping could change what is seen."""
    inner = {"a": [1]}
    cache = Cache(isolation="frozen")
    await cache.set("key", MappingProxyType(inner))
    inner["a"].append(2)
    assert await cache.get("key") == {"a": (1,)}


class Refused(Exception):
    """An error with facts."""

    def __init__(self, facts):
        super().__init__(facts)
        self.facts = facts
        self.source = Mutable()


@pytest.mark.parametrize("remembered", [False, True])
async def test_facts_of_an_error_are_each_callers_own(remembered):
    """What one caller adds to them, the others must not find, nor who comes later."""
    error, caught = Refused({"a": [1], "b": ({2},)}), []
    cache, source = Cache(negative_ttl={Refused: 60} if remembered else None), Source(error=error, seconds=0.01)

    async def call():
        try:
            await cache.get_or_compute("key", source)
        except Refused as own:
            caught.append(own)

    async with anyio.create_task_group() as tg:
        for _ in range(3):
            tg.start_soon(call)
    await call()
    for own in caught:
        for facts in (own.args[0], own.facts):
            facts["a"].append(2)
            facts["b"][0].add(3)
    assert source.calls == 1 + (not remembered)
    assert {id(own.source) for own in caught} == {id(error.source)}, "no container is copied"
    for own in caught:
        if own is not error:
            assert own.args[0] == own.facts == {"a": [1, 2], "b": ({2, 3},)}


class ReadOnly(Refused):
    """Its arguments cannot be put in place."""

    args = property(lambda self: ())


CYCLE = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize("error", [Refused(CYCLE), ReadOnly([1])], ids=["cycle", "read-only"])
async def test_error_whose_facts_cannot_be_copied(error):
    """They are shared, rather than the error lost."""
    cache = Cache(negative_ttl={Refused: 60})
    for _ in range(2):
        with pytest.raises(Refused) as caught:
            await cache.get_or_compute("key", Source(error=error))
        assert caught.value.facts is error.facts
