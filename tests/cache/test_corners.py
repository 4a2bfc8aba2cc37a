"""Stores as the cache sees them, with one in memory; and corners that no other test comes by."""

from __future__ import annotations

import asyncio
import math
from functools import partial

import anyio
import pytest
from mcp_cache import PICKLE, Cache, CacheUnavailable, NotStored, StoreDown, StoreUp, canonical, lua
from mcp_cache.eviction import TinyLfu
from mcp_cache.keys import parsed
from mcp_cache.redis import RedisStore
from mcp_cache.store import Made, Stored

from tests.cache.source import Shelf


async def one():
    """Compute."""
    return 1


async def fail():
    """Fail."""
    raise LookupError("no")


@pytest.fixture
def shelf():
    """A store."""
    return Shelf()


async def test_closed_cache_asks_the_store_every_time(shelf):
    """Nobody would tell it that its copy is out of date."""
    cache = Cache(store=shelf)
    for _ in range(3):
        assert await cache.get_or_compute("key", one) == 1
    assert shelf.asked.count("read") == 3
    assert cache.statistics().entries == 0


async def test_opened_cache_keeps_copies_until_it_hears(shelf, clock):
    """By key, by tag; and everything when something may have been missed."""
    cache = Cache(store=shelf, clock=clock)
    async with cache:
        await clock.advance(0.1)
        for news in (("key", '="key"'), ("tag", "tag"), ("ready", ""), ("lost", "")):
            await cache.get_or_compute("key", one, tags=("tag",))
            await cache.get_or_compute("other", one)
            assert cache.explain("key").state == cache.explain("other").state == "fresh", news
            shelf.heard("key", "=unknown")
            shelf.heard(*news)
            assert cache.explain("key").state in ("absent", "invalidated"), news
            assert cache.explain("other").state == ("fresh" if news[0] in ("key", "tag") else "absent"), news
        shelf.heard("key", '="key"')
        assert await cache.get("key") == 1
        assert cache.explain("key").state == "absent", "what is heard before it is ready is no reason to trust"
        shelf.heard("ready", "")
        assert await cache.get("key") == 1
        assert cache.explain("key").state == "fresh"
    assert cache.statistics().entries == 0
    assert await cache.get("key") == 1
    assert cache.statistics().entries == 0, "closed, it does not hear any more"


async def test_store_that_is_down_is_left_alone_for_a_while(shelf, clock):
    """An event each way; what was invalidated meanwhile is made up for, in order, before anything is read."""
    events = []
    cache = Cache(store=shelf, clock=clock, on_event=events.append)
    await cache.set_many({"key": 0, "other": 0})
    shelf.error = OSError("gone")
    assert await cache.get_or_compute("key", one) == 1
    asked = len(shelf.asked)
    await cache.delete("key")
    await cache.invalidate(tag="tag")
    await cache.set("other", 2)
    assert await cache.get_many(["other", "key"]) == {"other": 2}
    with pytest.raises(LookupError):
        await cache.get_or_compute("failing", fail)
    assert len(shelf.asked) == asked
    shelf.error, gone = None, shelf.error
    await clock.advance(1)
    assert await cache.get_or_compute("key", one) == 1
    assert shelf.asked[asked:] == ["key", "tag", "key", "read", "write"]
    assert shelf.rows == {'="key"': Stored(b"1", math.inf, ())}, "the other is older than what was set"
    assert [event for event in events if isinstance(event, (StoreDown, StoreUp))] == [StoreDown(gone), StoreUp()]


@pytest.mark.parametrize("opened", [False, True])
async def test_nothing_outdated_after_an_outage(shelf, clock, opened):
    """What was computed meanwhile may be older than what another process has stored: unheard, it is forgotten."""
    now = []
    cache = Cache(ttl=100, store=shelf, clock=clock, on_event=now.append)

    async def run():
        await clock.advance(0.1)
        shelf.error = OSError("gone")
        assert await cache.get_or_compute("key", one) == 1
        assert cache.explain("key").state == "fresh"
        shelf.error = None
        await clock.advance(1.5)
        shelf.rows['="key"'] = Stored(b'"new"', 90.0, ())
        await cache.get("probe")
        assert isinstance(now[-1], StoreUp)
        assert await cache.get_or_compute("key", one) == (1 if opened else "new")

    if opened:
        async with cache:
            await run()
    else:
        await run()


async def test_one_caller_asks_a_store_that_is_down(shelf, clock):
    """It may hang; then one waits for it, and not everybody."""
    cache, asked = Cache(store=shelf, clock=clock), []

    async def hang(keys):
        asked.append(keys)
        await anyio.sleep(0.5)
        raise TimeoutError

    shelf.read = hang
    await cache.get("first")
    await clock.advance(1.5)
    began = clock()
    async with anyio.create_task_group() as tg:
        tg.start_soon(cache.get, "second")
        await anyio.sleep(0.1)
        for _ in range(3):
            await cache.get("others")
        assert clock() - began == pytest.approx(0.1)
    assert len(asked) == 2


async def test_store_that_answers_is_up_however_long_computing_takes(shelf, clock):
    """The answer was that there is nothing."""
    events = []
    cache = Cache(store=shelf, clock=clock, on_event=events.append)

    async def long():
        assert isinstance(events[-1], StoreUp)
        return 1

    shelf.error = OSError("gone")
    await cache.get("key")
    shelf.error = None
    await clock.advance(1.5)
    assert await cache.get_or_compute("key", long) == 1


async def test_two_who_make_up_for_the_same(shelf, clock):
    """What the one has told the store, the other must not tick off in place of what comes next."""
    cache = Cache(store=shelf, clock=clock)
    await cache.set_many({"a": 1, "b": 2})
    shelf.error = OSError("gone")
    for key in "ab":
        await cache.delete(key)
    shelf.error = None
    await clock.advance(1.5)
    invalidate, told = shelf.invalidate, []

    async def slow(by, what):
        told.append(what)
        await anyio.sleep(1 + len(told))
        if told.count('="b"') == 1 and what == '="b"':
            raise OSError("gone again")
        await invalidate(by, what)

    shelf.invalidate = slow
    async with anyio.create_task_group() as tg:
        tg.start_soon(cache.get, "x")
        await anyio.sleep(1.1)
        tg.start_soon(cache.get, "y")
    await clock.advance(1.5)
    assert await cache.get("b") is None
    assert '="b"' not in shelf.rows


@pytest.mark.parametrize(("missed", "told"), [(1000, ["key"] * 1000), (1001, ["match"])])
async def test_too_much_to_make_up_for_is_everything(shelf, clock, missed, told):
    """What is remembered for a store that is down is bounded."""
    cache = Cache(store=shelf, clock=clock)
    await cache.set("kept", 1)
    shelf.error = OSError("gone")
    for number in range(missed):
        await cache.delete(number)
    shelf.error = None
    await clock.advance(1.5)
    asked = len(shelf.asked)
    assert await cache.get("kept") == (1 if missed == 1000 else None)
    assert shelf.asked[asked:] == [*told, "read"]


async def test_store_that_is_down_may_be_denied(shelf):
    """The refusal says why."""
    shelf.error = OSError("gone")
    with pytest.raises(CacheUnavailable, match=r"^the store does not answer$"):
        await Cache(store=shelf, on_store_error="deny").get_or_compute("key", one)


async def test_listening_begins_again(shelf, clock):
    """A connection that breaks is no reason to stay deaf."""
    events, gone = [], OSError("gone")
    shelf.error = gone
    cache = Cache(store=shelf, clock=clock, on_event=events.append)
    async with cache:
        await clock.advance(2.5)
        assert shelf.asked.count("listen") == 3
        assert events == [StoreDown(gone)]
        shelf.error = None
        await clock.advance(1)
        await cache.get_or_compute("key", one)
        assert cache.explain("key").state == "fresh"


async def test_nothing_is_kept_while_nobody_listens(shelf, clock):
    """From the moment at which a connection breaks until the next one is ready."""
    cache, listen, states = Cache(store=shelf, clock=clock), shelf.listen, []

    async def breaking(heard):
        heard("ready", "")
        await anyio.sleep(1)
        shelf.listen = slow
        raise OSError("gone")

    async def slow(heard):
        await anyio.sleep(2)
        await listen(heard)

    shelf.listen = breaking
    async with cache:
        for seconds in (0.5, 2, 2):
            await clock.advance(seconds)
            states.append(cache.explain("key").state)
            await cache.get_or_compute("key", one)
            states.append(cache.explain("key").state)
    assert states == ["absent", "fresh", "absent", "absent", "absent", "fresh"]


async def test_failure_passes_through_a_store(shelf):
    """The same object, and without a trace of the store's machinery."""
    with pytest.raises(LookupError) as caught:
        await Cache(store=shelf).get_or_compute("key", fail)
    assert caught.value.__cause__ is caught.value.__context__ is None


async def test_failure_is_remembered_in_process_alone(shelf):
    """A store has values."""
    cache, calls = Cache(store=shelf, negative_ttl={LookupError: 5}), []

    async def compute():
        calls.append(1)
        await fail()

    for _ in range(2):
        with pytest.raises(LookupError):
            await cache.get_or_compute("key", compute)
    assert (calls, shelf.rows) == ([1], {})


async def test_store_that_fails_after_the_computation(shelf):
    """The value is there; it is not computed again."""
    calls = []

    async def compute():
        calls.append(1)
        shelf.error = OSError("gone")
        return 1

    assert await Cache(store=shelf).get_or_compute("key", compute) == 1
    assert calls == [1]


async def test_corrupt_rows(shelf):
    """A miss and an event, for one and for many; what cannot be read is removed, and nothing else suffers."""
    events = []
    cache = Cache(store=shelf, on_event=events.append)
    await cache.set("sound", 0)
    reasons = {
        b"\xff": "UnicodeDecodeError('utf-8', b'\\xff', 0, 1, 'invalid start byte')",
        None: "it is no entry of the store's",
    }
    for payload in reasons:
        shelf.rows['="key"'] = Stored(payload, math.inf, ())
        assert await cache.get_many(["key", "sound"]) == {"sound": 0}
        assert '="key"' not in shelf.rows
        shelf.rows['="key"'] = Stored(payload, math.inf, ())
        with pytest.raises(LookupError):
            await cache.get_or_compute("key", fail)
        assert '="key"' not in shelf.rows
        shelf.rows['="key"'] = Stored(payload, math.inf, ())
        assert await cache.get_or_compute("key", one, lambda value: 5 * value, lambda value: (f"tag {value}",)) == 1
        assert shelf.rows['="key"'] == Stored(b"1", 5, ("tag 1",))
    expected = [NotStored("key", f"what is stored is corrupt: {why}") for why in reasons.values() for _ in range(3)]
    assert [event for event in events if isinstance(event, (NotStored, StoreDown))] == expected


async def test_keys_that_json_would_make_strings(shelf):
    """What comes back must be what was stored: anything else is returned, and not stored."""
    events = []
    cache = Cache(store=shelf, on_event=events.append)
    values = [{1: "a"}, [{"a": {None: 1}}], ({True: 1},)]
    for key, value in enumerate(values):
        await cache.set(key, value)

    async def compute():
        return values[0]

    assert await cache.get_or_compute(3, compute) is values[0]
    assert shelf.rows == {}
    told = [f"it cannot be serialized: TypeError('keys in JSON are strings, got {key}')" for key in (1, None, True, 1)]
    assert [event for event in events if isinstance(event, NotStored)] == [*map(NotStored, range(4), told)]
    await cache.set("kept", {"1": [{"a": None}]})
    assert await cache.get("kept") == {"1": [{"a": None}]}


async def test_names_are_forgotten_with_their_entries(shelf, clock):
    """What is remembered for other processes' news is bounded by the entries."""
    cache = Cache(maxsize=4, store=shelf, clock=clock)
    async with cache:
        await clock.advance(0.1)
        sizes = []
        for number in range(100):
            await cache.get_or_compute(number, one)
            places = cache._engine.remote.places
            sizes.append(len(places))
            assert {key for _, key in places.values()} >= {*cache._space.entries}, "of those that are there, all"
    assert max(sizes) == 4 * 4


async def test_prefix_and_the_keys_of_others(shelf):
    """A prefix reaches the cache's own keys alone; what cannot be read is taken to match."""
    cache = Cache(store=shelf)

    @cache
    async def fn(value):
        return value

    await fn("user:1")
    await cache.set("user:1", 1)
    await cache.set("user:2", 2)
    await cache.set("other", 3)
    shelf.rows["=nan"] = Stored(b"1", math.inf, ())
    await cache.invalidate(prefix="user:")
    assert shelf.asked[-1] == "match"
    assert sorted(key.partition("=")[2] for key in shelf.rows) == ['"other"', '"user:1"']


def test_keys_are_read_again():
    """Infinities, characters beyond U+FFFF, and parts of parts."""
    for value, text in ((math.inf, "1e999"), (-math.inf, "-1e999"), ({"\U0001f600": ["\ud83d"]}, None)):
        assert text in (None, canonical(value))
        assert parsed(canonical(value)) == value


async def test_value_not_to_be_stored_is_not_written(shelf):
    """A TTL of nothing, told by the value."""
    cache = Cache(store=shelf, ttl=lambda value: 0)
    await cache.get_or_compute("key", one)
    await cache.set("other", 1)
    await cache.set("brief", 1, ttl=0.5)
    assert shelf.rows == {'="brief"': Stored(b"1", 0.5, ())}


async def test_failing_ttl_and_tags_release_the_key():
    """What the caller passes may raise; the next caller must not wait for ever."""
    cache = Cache()

    def broken(_):
        raise ZeroDivisionError

    for options in ({"ttl": broken}, {"tags": broken}):
        with pytest.raises(ZeroDivisionError):
            await cache.get_or_compute("key", one, **options)
    assert await cache.get_or_compute("key", one) == 1


@pytest.mark.parametrize("name", ["ttl", "tags"])
async def test_caller_whose_function_of_the_value_fails_is_no_outage(shelf, name):
    """It is told itself; the store did nothing wrong, and is asked again."""
    events = []
    cache = Cache(store=shelf, on_event=events.append, on_store_error="deny")

    def broken(_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await cache.get_or_compute("key", one, **{name: broken})
    assert not any(isinstance(event, StoreDown) for event in events)
    assert await cache.get_or_compute("key", one) == 1
    assert shelf.rows['="key"'].payload == b"1"


async def test_jitter_shortens_what_is_stored_once(shelf):
    """However it comes there."""
    cache = Cache(store=shelf, ttl=100, jitter=0.5, random=lambda: 1.0)
    await cache.set("set", 1)
    await cache.get_or_compute("computed", one)
    assert {name: stored.expires_in for name, stored in shelf.rows.items()} == {'="set"': 50.0, '="computed"': 50.0}


async def test_jitter_shortens_what_is_kept_of_a_store_once(shelf, clock):
    """It ends in process when it ends in the store, whether it was computed here or found there."""
    for _ in ("computed", "found"):
        cache = Cache(store=shelf, ttl=100, jitter=0.5, random=lambda: 1.0, clock=clock)
        async with cache:
            await clock.advance(0)
            assert await cache.get_or_compute("key", one) == 1
            assert cache.explain("key").expires_in == pytest.approx(50)


async def test_failure_during_an_outage_has_no_trace_of_it(shelf):
    """The same object, and nothing that it could be taken to have come from."""
    shelf.error = OSError("gone")
    with pytest.raises(LookupError) as caught:
        await Cache(store=shelf).get_or_compute("key", fail)
    assert caught.value.__cause__ is caught.value.__context__ is None


async def test_empty_main_line_and_removal_from_no_line():
    """Corners of the policies that a cache does not come by."""
    from mcp_cache.entries import Entry
    from mcp_cache.eviction import S3Fifo

    for policy in (TinyLfu(4, 1.0, 1), S3Fifo(4)):
        entries = {}
        for key in range(4):
            entries[key] = Entry(entries, key, None, 0)
            policy.insert(entries[key])
        policy.remove(Entry(entries, "never came", None, 0))
        assert {policy.evict().key for _ in range(4)} == {0, 1, 2, 3}


def test_counters_are_halved_in_slices():
    """So that no call takes long; and after the last slice, counting goes on."""
    policy, popular = TinyLfu(10_000), hash(("popular",))
    for _ in range(8):
        policy._count(popular, 1)
    before = policy._count(popular, 0)
    for number in range(100_000):
        policy._count(hash((number,)), 1)
    assert before == 8
    assert 4 <= policy._count(popular, 0) <= 10


@pytest.mark.parametrize("how", ["delete", "tag", "prefix"])
@pytest.mark.parametrize("seconds", [0, 2])
async def test_what_is_loaded_while_the_store_is_told_is_forgotten(shelf, clock, how, seconds):
    """Telling takes a while; what comes meanwhile, or is still being computed then, may be of the old value."""
    cache, invalidate = Cache(store=shelf, clock=clock), shelf.invalidate

    async def compute():
        await anyio.sleep(seconds)
        return 1

    async def slow(by, what):
        tg.start_soon(partial(cache.get_or_compute, "key", compute, tags=("tag",)))
        await anyio.sleep(1)
        assert cache.explain("key").state == ("absent" if seconds else "fresh")
        await invalidate(by, what)

    forget = {
        "delete": lambda: cache.delete("key"),
        "tag": lambda: cache.invalidate(tag="tag"),
        "prefix": lambda: cache.invalidate(prefix="k"),
    }[how]
    async with cache, anyio.create_task_group() as tg:
        await clock.advance(0.1)
        shelf.invalidate = slow
        await forget()
        for _ in range(2):
            assert cache.explain("key").state in ("absent", "invalidated")
            await anyio.sleep(2)


async def test_values_in_another_form_come_back_with_their_time(shelf, clock):
    """A codec is told how long what it makes is fresh, and until when."""

    class Codec:
        pack = staticmethod(lambda value: ["packed", value])
        unpack = staticmethod(lambda packed, seconds, ends: (packed, seconds, ends))

    cache = Cache(store=shelf, clock=clock)
    cache._space.codec = Codec()
    await clock.advance(2)
    await cache.set("key", 1, ttl=5)
    assert shelf.rows['="key"'].payload == b'["packed",1]'
    assert await cache.get("key") == (["packed", 1], 5, 7)


async def test_what_is_deleted_while_it_is_read_is_not_kept(shelf, clock):
    """The store's answer is older than the deletion."""
    cache, read = Cache(store=shelf, clock=clock), shelf.read

    async def slow(keys):
        found = await read(keys)
        await anyio.sleep(1)
        return found

    await cache.set("key", "old")
    shelf.read = slow
    async with cache:
        await clock.advance(0.1)
        async with anyio.create_task_group() as tg:
            tg.start_soon(cache.get, "key")
            await anyio.sleep(0.5)
            await cache.delete("key")
        assert cache.explain("key").state == "absent"


async def test_set_that_was_overtaken_is_not_kept(shelf, clock):
    """The store has what was set last, so the copy in process must be that, too."""
    cache, write = Cache(store=shelf, clock=clock), shelf.write

    async def slow(key, made):
        await write(key, made)
        await anyio.sleep(1 if made.payload == b"1" else 0.1)

    shelf.write = slow
    async with cache:
        await clock.advance(0.1)
        async with anyio.create_task_group() as tg:
            tg.start_soon(cache.set, "key", 1)
            await anyio.sleep(0.5)
            await cache.set("key", 2)
        assert cache.explain("key").state == "fresh"
        assert await cache.get("key") == 2


async def test_what_is_read_is_kept_as_it_is_stored(shelf, clock):
    """With its time and its tags, however little time that is; and it goes with them."""
    cache = Cache(store=shelf, clock=clock)
    async with cache:
        await clock.advance(0.1)
        for name, seconds in (("read", 0.5), ("loaded", 0.5), ("expired", 0.0)):
            shelf.rows[f'="{name}"'] = Stored(b"1", seconds, ("tag",))
        await cache.get_many(["read", "expired"])
        await cache.get_or_compute("loaded", fail)
        await cache.set("set", 1, ttl=0.5, tags=("tag",))
        await cache.get_or_compute("computed", one, 0.5, ("tag",))
        for key in ("read", "loaded", "set", "computed"):
            kept = cache.explain(key)
            assert (kept.state, kept.expires_in, kept.tags) == ("fresh", pytest.approx(0.5), ("tag",)), key
        assert cache.explain("expired").state == "absent"
        shelf.heard("tag", "tag")
        assert {cache.explain(key).state for key in ("read", "loaded", "set", "computed")} == {"invalidated"}
        for key in ("read", "loaded", "set", "computed"):
            shelf.heard("key", f'="{key}"')
            assert cache.explain(key).state == "absent", key


async def test_what_another_process_invalidates_while_it_is_computed_is_not_kept(shelf, clock):
    """As what this one invalidates."""
    cache = Cache(store=shelf, clock=clock)

    async def compute():
        await anyio.sleep(1)
        return 1

    async with cache, anyio.create_task_group() as tg:
        await clock.advance(0.1)
        tg.start_soon(cache.get_or_compute, "key", compute)
        await anyio.sleep(0.5)
        shelf.heard("key", '="key"')
        await anyio.sleep(1)
        assert cache.explain("key").state == "absent"


@pytest.mark.parametrize("isolation", ["share", "copy", "frozen"])
async def test_what_is_read_is_isolated(shelf, clock, isolation):
    """Like what is computed, and kept."""
    cache = Cache(store=shelf, clock=clock, isolation=isolation)
    async with cache:
        await clock.advance(0.1)
        shelf.rows['="key"'] = Stored(b"[1]", 5.0, ())
        for _ in range(2):
            found = await cache.get("key")
            assert found == ((1,) if isolation == "frozen" else [1])
            assert type(found) is (tuple if isolation == "frozen" else list)
            if isolation == "copy":
                found.append(2)
        assert shelf.asked.count("read") == 1


async def test_what_is_read_and_cannot_be_isolated(shelf, clock):
    """Is handed out as it is, and not kept."""
    events = []
    cache = Cache(store=shelf, serializer=PICKLE, isolation="frozen", clock=clock, on_event=events.append)
    async with cache:
        await clock.advance(0.1)
        shelf.rows['="key"'] = Stored(PICKLE.dumps(LookupError("mutable")), 5.0, ())
        assert isinstance(await cache.get("key"), LookupError)
        assert cache.explain("key").state == "absent"
    assert events == [NotStored("key", "it cannot be isolated: TypeError(\"cannot freeze 'LookupError' object\")")]


async def test_value_that_is_being_replaced_in_the_store_is_served_no_more(shelf, clock):
    """Whoever asks meanwhile waits for the new one."""
    cache, write, results = Cache(store=shelf, clock=clock), shelf.write, []

    async def slow(key, made):
        await anyio.sleep(1)
        await write(key, made)

    async def ask():
        results.append(await cache.get_or_compute("key", one))

    async with cache, anyio.create_task_group() as tg:
        await clock.advance(0.1)
        await cache.set("key", "old")
        shelf.write = slow
        tg.start_soon(cache.set, "key", "new")
        await anyio.sleep(0.5)
        assert cache.explain("key").state == "absent"
        tg.start_soon(ask)
    assert results == ["new"]
    assert shelf.asked.count("read") == 0


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.parametrize("how", ["read", "set"])
async def test_caller_cancelled_when_it_was_told_to_ask_again(shelf, clock, how):
    """By asyncio itself, which cancels a task that was woken, too: nobody looks for it where it has left."""
    cache = Cache(store=shelf, clock=clock)

    async def slow(*_):
        await anyio.sleep(1)
        return [None]

    async def ask():
        await anyio.sleep(0.5)
        await cache.get_or_compute("key", one)

    shelf.read = shelf.write = slow
    follower = asyncio.create_task(ask())
    await (cache.get("key") if how == "read" else cache.set("key", 1))
    follower.cancel()
    with pytest.raises(asyncio.CancelledError):
        await follower


async def test_who_asks_while_a_value_is_read_gets_it(shelf, clock):
    """A read is a flight like any other: nobody computes what is there."""
    cache, read, calls, asked = Cache(store=shelf, clock=clock), shelf.read, [], []

    async def slow(keys):
        asked.append(keys)
        await anyio.sleep(1)
        return await read(keys)

    async def compute():
        calls.append(1)
        return 1

    await cache.set("key", "there")
    shelf.read = slow
    async with cache, anyio.create_task_group() as tg:
        await clock.advance(0.1)
        tg.start_soon(cache.get, "key")
        await anyio.sleep(0.5)
        assert await cache.get_or_compute("key", compute) == "there"
    assert not calls
    assert asked == [['="key"']], "nor asks the store again"


class Answers:
    """A client of Redis that has its answers in a list, and notes when it was asked for what."""

    def __init__(self, *answers):
        self.answers, self.times, self.asked = [*answers], [], []

    async def execute_command(self, *command):
        self.times.append(anyio.current_time())
        self.asked.append(command)
        return self.answers.pop(0)

    def pubsub(self, **_):
        return self

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.aclose()

    async def subscribe(self, _):
        """Say nothing about it."""

    async def get_message(self, **_):
        await anyio.sleep_forever()

    async def aclose(self):
        """End no wait."""


class Coredis(Answers):
    """The same, asked in another way."""

    __module__ = "coredis.client.basic"

    async def eval(self, script, keys, args):
        return await self.execute_command("EVAL", script, len(keys), *keys, *args)


async def nothing():
    """Compute what is not to be stored."""
    return Made(None, 0.0)


async def hang(*_):
    """Never answer."""
    await anyio.sleep_forever()


async def test_what_a_redis_store_does_unless_told_otherwise(clock):
    """A question may take a quarter of a second, another process two without a word, and nothing stays over a day."""
    client = Answers([b"leased", 7], 1)
    store = RedisStore(client)
    await store.load("key", nothing)
    assert client.asked[0][-2:] == (86_400_000, 2000)
    client.execute_command = hang
    began = clock()
    with pytest.raises(TimeoutError):
        await store.read(["key"])
    assert clock() - began == pytest.approx(0.25)


@pytest.mark.parametrize("kind", [Answers, Coredis])
@pytest.mark.parametrize(
    ("made", "committed"),
    [(Made(b"x", 1e-9, ("tag",)), (b"x", '["tag"]', "1")), (Made(None, 0.0), (b"", "[]", ""))],
    ids=["stored", "not stored"],
)
async def test_when_a_redis_store_asks_for_what(clock, kind, made, committed):
    """Again when another's lease is over, with a little to spare; and three times a lease that it still computes."""
    client = kind([b"busy", 100_000], [b"leased", 7], 1, 1, 1, 1)
    store = RedisStore(client, lease=3.0, max_ttl=60.0)

    async def compute():
        await anyio.sleep(3.5)
        return made

    assert await store.load("key", compute) is None
    value, lease, given = "{mcp-cache}:v:key", "{mcp-cache}:l:key", ("{mcp-cache}:", 60_000)
    acquire = ("EVAL", lua.ACQUIRE, 2, value, lease, *given, 3000)
    renew = ("EVAL", lua.RENEW, 1, lease, *given, "7", 3000)
    news = ("{mcp-cache}:news", f"done {store._origin} key")
    commit = ("EVAL", lua.COMMIT, 2, value, lease, *given, "7", *committed, *news)
    assert client.asked == [acquire, acquire, renew, renew, renew, commit]
    began = client.times[0]
    assert [time - began for time in client.times] == pytest.approx([0, 100.02, 101.02, 102.02, 103.02, 103.52])
