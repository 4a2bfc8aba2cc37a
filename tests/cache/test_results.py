"""What the middleware keeps of results: copies that share no data, and in a store what comes back exactly."""

from __future__ import annotations

import dataclasses
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import anyio
import pytest
from mcp_cache import PICKLE, Cache, CacheMiddleware, Computed, NotStored
from mcp_cache.keys import parsed
from mcp_cache.results import RESULTS, Sealed

from tests.cache.test_corners import Shelf
from tests.cache.test_middleware import A, Request, Server, ask

CALL = Request("tools/call", {"name": "look"})


@dataclasses.dataclass
class Text:
    """Data, with a constructor."""

    text: str
    meta: dict[str, Any] | None = None


class Model:
    """A model, as far as the cache looks at it."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    __hash__ = None

    @classmethod
    def of(cls, **fields: Any) -> Any:
        """Make one; a constructor of its own would be another case."""
        made = cls()
        vars(made).update(fields)
        return made

    def model_dump(self, *, mode: str, by_alias: bool, exclude_unset: bool) -> dict[str, Any]:
        """Say all but what begins with an underscore, as pydantic does; what it takes to read it again exactly."""
        assert (mode, by_alias, exclude_unset) == ("json", True, True)
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    @classmethod
    def model_validate(cls, fields: dict[str, Any]) -> Any:
        """Make one of what another has said."""
        return cls.of(**fields)


class Component(Model):
    """A tool of a list: it says something, and does more."""


class Built(Model):
    """A model with a constructor, which understands more than what it validates, as FastMCP 3 and 4 have one."""

    def __init__(self, meta: dict[str, Any] | None = None) -> None:
        self.meta = meta

    @classmethod
    def model_validate(cls, fields: dict[str, Any]) -> Any:
        """Refuse."""
        raise ValueError("it has no other way to be made than its constructor")


class Memo(Model):
    """A model that remembers what it was once asked, and does not count that."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Memo) and self.model_fields == other.model_fields

    __hash__ = None

    @property
    def model_fields(self) -> dict[str, Any]:
        """What counts."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}


class Heir(Text):
    """Data, with the constructor of its parent."""


class ToolResult:
    """A result that is no model and no dataclass, as FastMCP 2 has one."""

    def __init__(self, content: list[Text], meta: dict[str, Any] | None = None) -> None:
        self.content, self.meta = content, meta


class Choosy(Model):
    """A model that does not understand what it says."""

    @classmethod
    def model_validate(cls, fields: dict[str, Any]) -> Any:
        """Refuse."""
        raise ValueError("not like this")


@pytest.fixture(autouse=True)
def sdk(monkeypatch):
    """The module of an SDK, in which they all are."""
    module = ModuleType("fastmcp.tools.fake")
    for kind in (Text, Model, Component, Built, Memo, Heir, ToolResult, Choosy):
        monkeypatch.setattr(kind, "__module__", module.__name__)
        setattr(module, kind.__name__, kind)
    module.run = sys.exit
    module.Server = type("Server", (), {})
    for loaded in (ModuleType("fastmcp"), module):
        monkeypatch.setitem(sys.modules, loaded.__name__, loaded)


def sealed(result):
    """Seal a result for a minute."""
    return Sealed(result, 60.0, 60.0)


def test_no_caller_can_corrupt_what_another_gets():
    """All data is copied; functions, classes and whatever else could not be are shared."""

    def run():
        return 1

    client = SimpleNamespace(lock=anyio.Lock(), run=lambda: 2)
    tool = Component.of(name="t", fn=run, tags={"a"}, meta={"deep": [Text("x", {"y": []})]}, client=client, kind=Shelf)
    kept = sealed([tool])
    tool.meta["deep"].append("changed")
    (one,), (other,) = kept.open(), kept.open()
    assert one.fn is run
    assert one.client is client
    assert one.kind is Shelf
    assert one == other
    assert one.meta == {"deep": [Text("x", {"y": []})]}
    one.name = "changed"
    one.tags.add("b")
    one.meta["deep"][0].meta["y"].append(1)
    assert (other.name, other.tags, other.meta["deep"][0].meta) == ("t", {"a"}, {"y": []})
    assert kept.open()[0] == other
    assert len(kept) > 50


def test_result_itself_is_copied_whatever_its_class():
    """FastMCP 2 has results of a class that says nothing of being data."""
    result = ToolResult([Text("a")])
    kept = sealed(result)
    one, other = kept.open(), kept.open()
    one.content.append("changed")
    assert vars(other) == vars(result) == {"content": [Text("a")], "meta": None}


def said(result):
    """What can be compared: a ToolResult is equal to none but itself."""
    if isinstance(result, list):
        return [said(item) for item in result]
    return vars(result) if isinstance(result, ToolResult) else result


@pytest.mark.parametrize(
    "result",
    [
        {"content": [{"type": "text", "text": "x"}], "n": 1.5},
        Model.of(name="x", meta={"a": [1]}),
        [Text("a"), Text("b", {"c": [1, None]})],
        [],
        ["a", {"b": 1}],
        ToolResult([Text("a")], {"b": 1}),
        [ToolResult([Text("a")])],
        [Model.of(name="x"), Text("y"), Heir("z")],
        Built({"a": [1]}),
        Memo.of(name="x", _hash=1),
    ],
    ids=[*"abcdefghij"],
)
async def test_results_with_an_exact_json_form_are_stored(result):
    """The second process gets what the first one got: the same classes, and the same in them."""
    shelf, calls = Shelf(), []

    async def answer(_):
        calls.append(1)
        return result

    answers = [
        await CacheMiddleware(Cache(isolation="copy", store=shelf), tools={"look": 5})(CALL, answer) for _ in range(2)
    ]
    assert calls == [1]
    assert answers[0] is result
    assert type(answers[1]) is type(result)
    assert said(answers[1]) == said(result)
    assert [stored.tags for stored in shelf.rows.values()] == [("tools/call",)]


UNFIT = [
    [Component.of(name="t", fn=len)],
    Model.of(name="x", _own=1),
    Model.of(name=b"x"),
    Choosy.of(name="x"),
    {"content": {1: 2}},
    [Text("x", {"now": object})],
]


@pytest.mark.parametrize("result", UNFIT, ids=[*"abcdef"])
async def test_results_without_an_exact_json_form_are_not_stored(result):
    """They are returned, and an event says so; in process, where the store is heard, they are kept all the same."""
    shelf, events = Shelf(), []
    middleware = CacheMiddleware(
        Cache(isolation="copy", store=shelf, on_event=events.append, clock=lambda: 0.0), tools={"look": 5}
    )

    async def answer(_):
        return result

    assert await middleware(CALL, answer) is result
    assert shelf.rows == {}
    assert [type(event) for event in events] == [NotStored, Computed]
    async with middleware.cache:
        while not middleware.cache._engine.remote.is_heard:
            await anyio.sleep(0.001)
        for _ in range(2):
            await middleware(CALL, answer)
    assert [type(event) for event in events].count(Computed) == 2


@pytest.mark.parametrize("result", [Model.of(name=b"x", _own=1), Choosy.of(name="x")], ids=["inexact", "choosy"])
async def test_pickle_stores_all_that_can_be_pickled(result):
    """Where the operator trusts the store; also what has no exact JSON form."""
    shelf, calls = Shelf(), []

    async def answer(_):
        calls.append(1)
        return result

    for _ in range(2):
        cache = Cache(isolation="copy", store=shelf, serializer=PICKLE)
        assert await CacheMiddleware(cache, tools={"look": 5})(CALL, answer) == result
    assert calls == [1]


@pytest.mark.parametrize(
    "name", ["os:system", "mcp_cache:NotStored", "fastmcp.tools.fake:run", "fastmcp.tools.fake:Server"]
)
def test_store_names_no_other_class(name):
    """Who can write to a store must not choose what is called here, not even among classes of data."""
    with pytest.raises(ValueError, match=f"^{name} is no class of results$"):
        RESULTS.unpack([name, {"key": ["as it is", 1], "reason": ["as it is", "x"]}], 1.0, 1.0)


@pytest.mark.parametrize(
    "packed",
    [
        ["fastmcp.tools.fake:Missing", {}],
        ["fastmcp.tools.missing:Text", {}],
        ["fastmcp.tools.fake:Text", {"no": ["as it is", 1]}],
        {"content": []},
        5,
    ],
    ids=repr,
)
def test_what_is_stored_may_be_nonsense(packed):
    """It raises something, which the cache takes for a miss."""
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        RESULTS.unpack(packed, 1.0, 1.0)


def test_what_was_packed_is_unpacked_with_its_new_times():
    """Those of the store."""
    unpacked = RESULTS.unpack(RESULTS.pack(sealed({"a": 1})), 5.0, 9.0)
    assert (unpacked.open(), unpacked.seconds, unpacked.ends) == ({"a": 1}, 5.0, 9.0)


async def test_what_cannot_be_sealed_is_returned():
    """And not cached; an event says so."""

    @dataclasses.dataclass
    class Broken:
        text: str

        def __reduce__(self):
            raise TypeError("no")

    events = []
    middleware = CacheMiddleware(Cache(isolation="copy", on_event=events.append), tools={"look": 5})

    async def answer(_):
        return Broken("x")

    for _ in range(2):
        assert (await middleware(CALL, answer)).text == "x"
    assert [event.reason for event in events] == ["it cannot be isolated: TypeError('no')"] * 2
    assert {parsed(event.key)[0] for event in events} == {"tools/call"}


@pytest.mark.parametrize("told", [60_000, 1_001])
async def test_fresh_answer_says_its_own_ttl_whatever_is_kept(clock, told):
    """Also where nothing is kept in process: by a cache with a store that was not opened."""
    middleware, server = CacheMiddleware(Cache(isolation="copy", store=Shelf(), clock=clock)), Server(ttlMs=told)
    assert (await middleware(A, server)) == {**server.result, "call": 1}


async def test_stored_answer_says_what_is_left_in_the_store(clock):
    """By the store's clock, in another process."""
    shelf, server = Shelf(), Server(ttlMs=0)
    options = {"ttl": 60}
    first = CacheMiddleware(Cache(isolation="copy", store=shelf, clock=clock), **options)
    assert (await first(A, server))["ttlMs"] == 60_000
    ((name, stored),) = shelf.rows.items()
    assert stored.tags == ("resources/read", "resources/read memo://a")
    shelf.rows[name] = stored._replace(expires_in=42.0)
    other = CacheMiddleware(Cache(isolation="copy", store=shelf, clock=clock), **options)
    assert (await other(A, server))["ttlMs"] == 42_000
    async with other.cache:
        await clock.advance(0.1)
        await ask(other, server, A)
        await clock.advance(2)
        assert (await other(A, server))["ttlMs"] == 40_000, "a near copy ages"
    assert server.calls == 1


async def test_those_who_wait_are_told_when_it_ends(clock):
    """The one who computes knows it, the others get what it made."""
    middleware, server = CacheMiddleware(Cache(isolation="copy", store=Shelf(), clock=clock)), Server(1, ttlMs=60_000)
    answers = []

    async def one():
        answers.append((await middleware(A, server))["ttlMs"])

    async with anyio.create_task_group() as tg:
        for _ in range(3):
            tg.start_soon(one)
    assert answers == [60_000] * 3
    assert server.calls == 1


async def test_stale_answer_has_nothing_left(clock):
    """It is served while it is computed anew, and must not be kept by anybody."""
    cache = Cache(isolation="copy", clock=clock, stale_while_revalidate=100)
    middleware, server = CacheMiddleware(cache), Server(ttlMs=1000)
    async with cache:
        await ask(middleware, server, A)
        await clock.advance(5)
        assert (await middleware(A, server))["ttlMs"] == 0
        await clock.advance(0.1)


async def test_public_models_say_so():
    """As dictionaries do."""

    class Read(Model):
        def model_copy(self, *, update):
            return Read.of(**{**vars(self), **update})

    middleware = CacheMiddleware(public=["resources/read"])

    async def answer(_):
        return Read.of(ttl_ms=5000, cache_scope=None)

    for _ in range(2):
        assert (await middleware(A, answer)).cache_scope == "public"


async def test_two_middlewares_share_what_one_cache_has():
    """As they would a store."""
    events, server = [], Server()
    cache = Cache(isolation="copy", on_event=events.append)
    assert await ask(CacheMiddleware(cache), server, A) == await ask(CacheMiddleware(cache), server, A) == [1]
    (computed,) = events
    assert cache.explain(computed.key).state == "absent", "apart from what the cache's own methods reach"
