"""Keys are equal exactly when the values are, and decorated functions make them from their arguments."""

from __future__ import annotations

import asyncio
import enum
import gc
import inspect
import math
import weakref
from contextlib import nullcontext
from functools import partial
from typing import Annotated

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_cache import Cache, Unkeyable, cached, canonical
from mcp_cache.keys import freeze, parsed
from mcp_cache.sqlite import SqliteStore

from tests.cache.source import Shelf
from tests.support.measure import count_instructions

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)) | st.binary()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner), max_leaves=8
)


def same(one, other):
    """The model: equal, of equal type, and so are the parts; two NaN are the same."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return (one == other and math.copysign(1, one) == math.copysign(1, other)) or (
            math.isnan(one) and math.isnan(other)
        )
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@given(VALUES, VALUES)
def test_canonical_is_injective(one, other):
    """Two kinds of values with one text are another user's answer."""
    assert (canonical(one) == canonical(other)) == same(one, other)
    assert canonical(one).isascii()


@given(VALUES)
def test_canonical_can_be_read_again(value):
    """Which is the proof that nothing was lost; a store's keys are read to be matched."""
    try:
        assert same(parsed(canonical(value)), value)
    except ValueError:
        assert "nan" in canonical(value)


ALIKE = [
    1,
    1.0,
    True,
    "1",
    b"1",
    [1],
    (1,),
    {"1": 1},
    None,
    "None",
    "",
    [],
    (),
    {},
    0,
    0.0,
    -0.0,
    False,
    "a,b",
    ["a", "b"],
]


def test_what_is_easily_confused():
    """Pairs at which caches have been caught."""
    assert len({canonical(value) for value in ALIKE}) == len(ALIKE)
    assert canonical({"b": 1, "a": [2]}) == canonical({"a": [2], "b": 1})
    assert canonical([math.inf, -math.inf, "inf", 1.5]) == '[1e999,-1e999,"inf",1.5,]', "each can be read as a literal"


class Colour(str, enum.Enum):
    """A string that is none."""

    RED = "red"


CYCLE: list[object] = []
CYCLE.append(CYCLE)
DEEP: list[object] = []
for _ in range(100_000):
    DEEP = [DEEP]


WRONG = {"object": object(), "int name": {1: 2}, "set": {1}, "enum": Colour.RED, "cycle": CYCLE, "deep": DEEP}


@pytest.mark.parametrize("value", [*WRONG.values(), 10**5000, {"a": [object()]}], ids=[*WRONG, "huge", "inner"])
def test_what_has_no_canonical_form(value):
    """Refused, not guessed, and a request cannot break the interpreter with it."""
    with pytest.raises(Unkeyable):
        canonical(value)


@pytest.mark.parametrize(
    ("make", "value", "message"),
    [
        (canonical, {*range(99)}, "a key needs a JSON value, got {0, 1, 2, 3, 4, 5, ...} of type set"),
        (canonical, {1: 2}, "a key needs objects whose members are named by strings, got {1: 2} of type dict"),
        (freeze, [{1}], "a key needs a JSON or a hashable value, got [{1}] of type list"),
    ],
)
def test_refusal_shows_the_value(make, value, message):
    """And its type; both shortened, since a request may be long."""
    with pytest.raises(Unkeyable) as caught:
        make(value)
    assert str(caught.value) == message


async def test_decorated_function_tells_its_arguments_apart():
    """Invariant of every key: what a call means, not how it is written."""
    calls = []
    cache = Cache()

    @cache
    async def double(value, times=2, *, suffix=""):
        calls.append(value)
        return [value] * times + [suffix]

    for value in ALIKE:
        assert await double(value) == [value, value, ""]
        assert type((await double(value))[0]) is type(value)
    assert len(calls) == len(ALIKE)
    await double(1, 2)
    await double(1, times=2, suffix="")
    await double(value=1)
    assert len(calls) == len(ALIKE)
    await double(1, 3)
    await double("a", suffix="b")
    assert len(calls) == len(ALIKE) + 2
    assert cache.statistics().entries == len(calls)
    with pytest.raises(TypeError, match="missing"):
        await double()


def took_the_fast_way(cache):
    """How many hits the compiled wrappers have answered by themselves; the default policy sees some of them, too."""
    return cache.statistics().hits - cache._engine.hits


async def test_function_of_one_argument():
    """Its fast way must tell the same apart as the slow one."""
    calls = []
    cache = Cache(policy="s3fifo")

    @cached(cache)
    async def one(value):
        calls.append(value)
        return value

    for _ in range(3):
        assert [repr(await one(value)) for value in ALIKE] == [repr(value) for value in ALIKE]
    assert len(calls) == len(ALIKE)
    assert await one(value=1) == 1
    assert len(calls) == len(ALIKE)
    assert cache.statistics().hits == 2 * len(ALIKE) + 1
    assert took_the_fast_way(cache) == 2 * sum(type(value) in (int, str) for value in ALIKE) + 1
    with pytest.raises(TypeError):
        await one(1, 2)


async def test_two_functions_do_not_meet():
    """One cache, the same arguments."""
    cache = Cache()

    def make(result):
        @cache
        async def fn(value):
            return result

        return fn

    assert [await make(1)("x"), await make(2)("x")] == [1, 2]


async def test_invalidate_key_and_clear():
    """By arguments, in any spelling; and all of one function, but of no other."""
    calls = []
    cache = Cache()

    @cache
    async def add(a, b=2):
        calls.append((a, b))
        return a + b

    @cache
    async def other(a):
        calls.append(a)

    await add(1)
    await add(2)
    await other(1)
    assert add.key(1) == add.key(b=2, a=1)
    assert await add.invalidate(b=2, a=1)
    assert not await add.invalidate(1)
    await add(1)
    assert calls == [(1, 2), (2, 2), 1, (1, 2)]
    await add.clear()
    await add(1)
    await other(1)
    assert len(calls) == 5
    assert (add.explain(b=2, a=1).state, add.explain(7).state, cache.explain(1).state) == ("fresh", "absent", "absent")
    assert add.explain(1).hits == 0
    assert await other.invalidate(1)


async def test_tags_and_ttl_of_a_decorated_function(clock):
    """The cache's own methods reach it by its tags."""
    calls = []
    cache = Cache(clock=clock)

    @cached(cache, ttl=lambda value: value, tags=lambda value: (f"n:{value}",))
    async def number(value: int) -> int:
        calls.append(value)
        return value

    await number(5)
    await number(9)
    await cache.invalidate(tag="n:5")
    await number(5)
    await number(9)
    await clock.advance(6)
    await number(5)
    await number(9)
    assert calls == [5, 9, 5, 5]


async def test_methods():
    """Each instance has its own, and the cache keeps none of them alive."""
    cache = Cache(policy="s3fifo")

    class Service:
        def __init__(self, name):
            self.name, self.calls = name, 0

        @cache
        async def greet(self, whom="you"):
            self.calls += 1
            return f"{self.name} greets {whom}"

    one, two = Service("one"), Service("two")
    assert [await s.greet("you") for s in (one, two, one, two)] == ["one greets you", "two greets you"] * 2
    assert (one.calls, two.calls) == (1, 1)
    assert await Service.greet.invalidate(one, "you")
    assert await one.greet(whom="you") == "one greets you"
    assert one.calls == 2
    assert took_the_fast_way(cache) == cache.statistics().hits == 2
    for wrong in (partial(one.greet.invalidate, whom="you"), partial(one.greet.invalidate, Colour.RED)):
        with pytest.raises(TypeError, match=r"on the class, .*Service\.greet\.invalidate\(instance"):
            await wrong()
    reference = weakref.ref(one)
    del one
    gc.collect()
    assert reference() is None


async def test_signature_is_kept():
    """Frameworks read it to make a schema."""

    @Cache()
    async def fn(a: int, *, b: Annotated[str, "at most"] = "x") -> list[int]:
        """Its words."""
        return [a]

    hints = {"a": int, "b": Annotated[str, "at most"], "return": list[int]}
    shown = inspect.signature(fn)
    assert [p.annotation for p in shown.parameters.values()] + [shown.return_annotation] == [*hints.values()]
    assert (shown.parameters["b"].default, fn.__annotations__) == ("x", hints)
    assert inspect.iscoroutinefunction(fn)
    assert (fn.__name__, fn.__doc__) == ("fn", "Its words.")
    assert not hasattr(fn, "__wrapped__")


async def test_hashable_arguments_that_are_no_json():
    """By their own equality, with their type."""
    calls = []

    @Cache()
    async def fn(value):
        calls.append(value)
        return value

    for value in (Colour.RED, "red", Colour.RED, frozenset({1}), frozenset({1})):
        assert await fn(value) is value or value == frozenset({1})
    assert len(calls) == 3


@pytest.mark.parametrize("unkeyable", ["raise", "bypass"])
async def test_argument_without_a_key(unkeyable):
    """Named in the error; or the call is made, and not cached."""
    calls = []

    @cached(Cache(), unkeyable=unkeyable)
    async def fn(a, b):
        calls.append(a)

    if unkeyable == "bypass":
        await fn(1, {object()})
        await fn(1, {object()})
        assert calls == [1, 1]
        return
    with pytest.raises(Unkeyable, match=r"argument 'b' of .*fn\(\): a key needs .*, got \{1\} of type set$") as caught:
        await fn(1, {1})
    assert caught.value.argument == "b"


async def fine():
    """Do what may be decorated."""


def plain():
    """Do what may not."""


def test_nonsense_is_refused():
    """At decoration."""
    cache = Cache()
    for fn, name in ((plain, "plain"), (partial(plain), repr(partial(plain)))):
        with pytest.raises(TypeError) as caught:
            cache(fn)
        assert str(caught.value) == f"{name}() is not async; did you forget 'async def'?"
    with pytest.raises(TypeError, match=r"@cached\(cache\) needs a Cache"):
        cached(lambda: 1)
    for decorate in (cache, lambda fn, **options: cached(cache, **options)):
        with pytest.raises(ValueError, match="ttl"):
            decorate(fine, ttl=0)
        with pytest.raises(TypeError, match="tags"):
            decorate(fine, tags="x")
        with pytest.raises(ValueError, match="unkeyable to be 'raise' or 'bypass', got 'x'"):
            decorate(fine, unkeyable="x")
    assert len(cache._engine.table.spaces) == 1


async def test_decorated_calls_share_one_computation(clock):
    """Single flight is the cache's, so the decorator has it, too."""
    calls = []

    @Cache(clock=clock)
    async def fn(a, b):
        calls.append(a)
        await anyio.sleep(1)
        return a + b

    async with anyio.create_task_group() as tg:
        for _ in range(10):
            tg.start_soon(fn, 1, 2)
            tg.start_soon(partial(fn, 1, b=2))
    assert calls == [1]


async def test_function_of_two_arguments():
    """Its fast way, too, must tell the same apart as the slow one."""
    calls = []
    cache = Cache(policy="s3fifo")

    @cache
    async def two(a, b):
        calls.append((a, b))
        return a, b

    for pair in [("a", 1), ("a", 1), ("a", True), ("a", 1.0), ("a", "1"), ("a", 1)]:
        assert repr(await two(*pair)) == repr(pair)
    assert len(calls) == 4
    assert cache.statistics().hits == took_the_fast_way(cache) == 2


async def test_annotations_that_cannot_be_resolved():
    """A name that exists for type checkers alone must not keep a function from being decorated."""

    @Cache()
    async def fn(a: OnlyForCheckers) -> int:  # noqa: F821  # a name for type checkers alone
        return 1

    assert await fn(1) == 1
    assert str(inspect.signature(fn)) == "(a: 'OnlyForCheckers') -> 'int'"
    assert fn.__annotations__ == {"a": "OnlyForCheckers", "return": "int"}


async def test_signature_of_its_own_is_kept():
    """A function may say that it takes other parameters than those that it was written with."""

    async def fn(*args, **kwargs):
        return args, kwargs

    fn.__signature__ = inspect.signature(lambda a, b=Colour.RED: None).replace(return_annotation=Colour)
    wrapper = Cache()(fn)
    assert inspect.signature(wrapper) == fn.__signature__
    assert await wrapper(b=1, a=2) == ((2, 1), {})


async def test_every_kind_of_parameter():
    """By place, by name, by default, or as one of many: equal calls are one, others are not."""
    calls = []
    cache = Cache(policy="s3fifo")

    @cache
    async def many(a, /, b, c=3, *rest, d, e=5, **more):
        calls.append((a, b, c, rest, d, e, more))
        return len(calls)

    @cache
    async def none():
        calls.append("none")

    same = [await many(1, 2, d=4), await many(1, b=2, c=3, e=5, d=4), await many(1, 2, 3, d=4)]
    others = [
        await many(1, 2, 3, 4, d=4),
        await many(1, 2, d=4, x=1),
        await many(1, 2, d=True),
        await many(1, 2, 3, 4.0, d=4),
    ]
    assert (same, others) == ([1, 1, 1], [2, 3, 4, 5])
    assert calls[4] == (1, 2, 3, (4.0,), 4, 5, {})
    assert many.key(1, 2, d=4) == many.key(1, d=4, b=2)
    assert await many.invalidate(1, 2, e=5, d=4)
    for _ in range(2):
        await none()
    assert calls[5:] == ["none"]
    assert took_the_fast_way(cache) == 1, "of the function without arguments alone"
    with pytest.raises(TypeError, match=r"many\(\) missing 1 required positional argument: 'b'"):
        many(1)
    with pytest.raises(TypeError, match=r"many\(\) missing 1 required keyword-only argument: 'd'"):
        many(1, 2)


async def test_parameter_may_have_the_name_of_a_builtin():
    """What is passed is never called, nor is it any slower."""
    called = []
    cache = Cache(policy="s3fifo")

    @cache
    async def fetch(type):  # noqa: A002  # as many functions have it
        return type

    for kind in ("text", "text", called.append):
        assert await fetch(kind) is kind
    assert took_the_fast_way(cache) == 1
    assert not called


@pytest.mark.uninstrumented
async def test_keyword_only_arguments_have_the_fast_way():
    """Named arguments are bound by Python itself, not by looking at the signature for each call."""
    cache = Cache()

    @cache
    async def price(item, *, currency="EUR"):
        return f"{item} {currency}"

    assert await price("tea") == "tea EUR"
    hit = count_instructions(lambda: price("tea", currency="EUR"))
    assert hit == count_instructions(lambda: price(currency="EUR", item="tea")) < 70
    assert await price("tea", currency="USD") == "tea USD"


@pytest.mark.parametrize("unkeyable", ["raise", "bypass"])
async def test_instance_that_makes_no_key(unkeyable):
    """One without a hash, one that takes no weak reference: named, or not cached."""
    calls = []

    class Bare:
        __slots__ = ()

        @cached(Cache(), unkeyable=unkeyable)
        async def method(self, value):
            calls.append(value)

    class Unhashable:
        __hash__ = None
        method = Bare.method

    for instance in (Bare(), Unhashable()):
        for _ in range(2):
            if unkeyable == "bypass":
                await instance.method(1)
            else:
                with pytest.raises(Unkeyable, match="argument 'self'"):
                    await instance.method(1)
    assert len(calls) == (4 if unkeyable == "bypass" else 0)


async def test_private_method():
    """The class knows it by another name."""

    class Service:
        @Cache()
        async def __load(self):
            return object()

        async def changes(self):
            before = await self.__load()
            assert await Service.__load.invalidate(self)
            return before is not await self.__load()

    assert await Service().changes()


@pytest.mark.parametrize("opened", [False, True])
async def test_any_json_argument_has_a_key_in_a_store(opened):
    """What the store is asked for must tell the arguments apart as the cache in process does."""
    calls, store = [], Shelf()

    @cached(cache := Cache(store=store))
    async def fn(value, other=None):
        calls.append(value)
        return repr(value)

    async with cache if opened else nullcontext():
        for _ in range(2):
            assert [await fn(value) for value in ALIKE] == list(map(repr, ALIKE))
        assert len(calls) == len(store.rows) == len(ALIKE)
        await fn.invalidate(True)
        await fn(True)
        assert len(calls) == len(ALIKE) + 1
        await fn.clear()
        assert not store.rows


@pytest.mark.parametrize(
    "value", [Colour.RED, {1}, frozenset({1}), object(), 10**5000], ids=lambda value: type(value).__name__
)
async def test_argument_that_a_store_cannot_write_down(value):
    """Named in the error, or not cached: what is equal in this process means nothing to another."""
    calls, cache = [], Cache(store=Shelf())

    @cached(cache, unkeyable="bypass")
    async def lenient(value):
        calls.append(value)

    @cache
    async def strict(value):
        calls.append(value)

    await lenient(value)
    await lenient(value)
    with pytest.raises(Unkeyable, match=r"argument 'value' of .*strict\(\): a key needs"):
        await strict(value)
    assert len(calls) == 2


def test_method_in_a_store():
    """Its self has no name that another process knows, so no entry would ever be found."""
    with pytest.raises(TypeError, match=r"Service\.method is a method, and a store has no name for its self"):

        class Service:
            @Cache(store=Shelf())
            async def method(self, value):
                """Never called."""


async def test_keys_that_a_dictionary_takes_for_the_same_are_one_in_a_store():
    """Those of the cache's own methods, whether there is a store or not."""
    for cache in (Cache(), Cache(store=Shelf())):
        for key in (1, 1.0, True, (0, ("a", 1))):
            await cache.set(key, repr(key))
        assert [await cache.get(key) for key in (1, 1.0, True, "1", (-0.0, ("a", True)), ("0", ("a", 1)))] == [
            *["True"] * 3,
            None,
            "(0, ('a', 1))",
            None,
        ]


def test_functions_that_could_be_taken_for_each_other():
    """In a store, a function goes by its name."""
    cache = Cache(store=SqliteStore("unused"))

    def make():
        @cache
        async def fn(value):
            return value

    make()
    with pytest.raises(ValueError, match=r"fn has a namesake in this store"):
        make()
    with pytest.raises(TypeError, match="a function with a name"):
        cache(partial(asyncio.sleep, 1))
