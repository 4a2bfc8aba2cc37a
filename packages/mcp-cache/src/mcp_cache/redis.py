"""A store on Redis or Valkey: one computation for all processes, and every process hears what another invalidates.

    acquire ──▶ found: the value
            ──▶ leased: this process computes, renewing its lease, and commits with the lease's token
            ──▶ busy: wait for a message, or for the end of the lease; then acquire again

Each step is one script, so it is atomic, and one round trip. ``seq`` counts leases and invalidations: a token is a
place in that order. A value is valid if none of its tags was invalidated after its token; a commit is refused if the
lease is no longer that token's. So a leader that died blocks nobody for longer than its lease, and one that was only
slow never overwrites what came after it. At most one computation at a time is what the lease makes likely, not what it
guarantees: a process that stops for longer than its lease still computes.

Keys, all with the same hash tag, so that they lie in the same slot of a cluster; each has a TTL:

    {name}:v:KEY    hash of t token, p payload, g tags        {name}:l:KEY    the token of the lease
    {name}:t:TAG    seq of its last invalidation              {name}:seq      the counter
"""

from __future__ import annotations

import json
import math
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Protocol, cast

import anyio

from .store import By, Heard, Made, Stored

__all__ = ["RedisClient", "RedisStore"]

_VALID = """
local function valid(token, tags)
  for _, tag in ipairs(cjson.decode(tags)) do
    local seq = redis.call('GET', ARGV[1] .. 't:' .. tag)
    if seq and tonumber(seq) > tonumber(token) then return false end
  end
  return true
end
local function next_seq()
  local seq = redis.call('INCR', ARGV[1] .. 'seq')
  redis.call('PEXPIRE', ARGV[1] .. 'seq', 2 * tonumber(ARGV[2]))
  return seq
end
local function store(key, token, payload, ttl, tags)
  redis.call('DEL', key)
  redis.call('HSET', key, 't', token, 'p', payload, 'g', tags)
  redis.call('PEXPIRE', key, ttl)
end
"""
_READ = """
local found = {}
for i, key in ipairs(KEYS) do
  local v = redis.call('HMGET', key, 't', 'p', 'g')
  if v[1] and valid(v[1], v[3]) then found[i] = {v[2], redis.call('PTTL', key), v[3]} else found[i] = 0 end
end
return found
"""
_ACQUIRE = """
local v = redis.call('HMGET', KEYS[1], 't', 'p', 'g')
if v[1] and valid(v[1], v[3]) then return {'found', v[2], redis.call('PTTL', KEYS[1]), v[3]} end
if redis.call('EXISTS', KEYS[2]) == 1 then return {'busy', redis.call('PTTL', KEYS[2])} end
local token = next_seq()
redis.call('SET', KEYS[2], token, 'PX', ARGV[3])
return {'leased', token}
"""
_RENEW = """
if redis.call('GET', KEYS[1]) == ARGV[3] then return redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
return 0
"""
_COMMIT = """
if redis.call('GET', KEYS[2]) ~= ARGV[3] then return 0 end
redis.call('DEL', KEYS[2])
local keep = ARGV[6] ~= '' and valid(ARGV[3], ARGV[5])
if keep then store(KEYS[1], ARGV[3], ARGV[4], ARGV[6], ARGV[5]) end
redis.call('PUBLISH', ARGV[7], ARGV[8])
return keep and 1 or 0
"""
_WRITE = """
redis.call('DEL', KEYS[2])
store(KEYS[1], next_seq(), ARGV[3], ARGV[5], ARGV[4])
redis.call('PUBLISH', ARGV[6], ARGV[7])
"""
_FORGET = """
next_seq()
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('PUBLISH', ARGV[3], ARGV[4])
"""
_FORGET_TAG = """
redis.call('SET', KEYS[1], next_seq(), 'PX', ARGV[2])
redis.call('PUBLISH', ARGV[3], ARGV[4])
"""

DAY = 86_400.0  # seconds
BATCH = 512  # keys that are asked for at once when all are looked through
LATE = 0.02  # seconds after the end of a lease at which it is certainly over


class RedisClient(Protocol):
    """The two methods of a client that are used; redis-py's and valkey-py's asyncio clients have them."""

    def execute_command(self, *args: Any) -> Awaitable[Any]:
        """Send one command and return the answer."""
        ...

    def pubsub(self) -> Any:
        """Return a subscriber with ``subscribe``, ``get_message`` and ``aclose``."""
        ...


class RedisStore:
    """Values in Redis or Valkey, shared by every process that uses the same server and *prefix*.

    Args:
        client: A ``redis.asyncio.Redis``, or another client of that shape; it stays yours to close.
        prefix: What all keys begin with, also their hash tag; sets one cache apart from all others on the server.
        lease: Seconds after which a process that computes, and no longer says so, is taken to be dead. It says so three
            times a lease.
        max_ttl: The most seconds for which anything is kept; what has no end is kept for so long.

    Methods raise what the client raises. Runs where the client runs: redis-py's on asyncio alone.
    """

    def __init__(
        self, client: RedisClient, *, prefix: str = "mcp-cache", lease: float = 2.0, max_ttl: float = DAY
    ) -> None:
        for argument, value in (("lease", lease), ("max_ttl", max_ttl)):
            if isinstance(value, bool) or not 0 < value < math.inf:
                raise ValueError(f"RedisStore needs 0 < {argument} < inf, got {value!r}")
        if not prefix or not set("{}").isdisjoint(str(prefix)) or str(prefix) != prefix:
            raise ValueError(f"RedisStore needs prefix to be a non-empty string without braces, got {prefix!r}")
        self._client = client
        self._prefix = f"{{{prefix}}}:"
        self._channel = f"{{{prefix}}}:news"
        self._lease = lease
        self._max_ttl = max_ttl
        self._origin = uuid.uuid4().hex[:12]
        self._waiting: dict[str, set[anyio.Event]] = {}
        self._is_listening = False

    async def load(self, key: str, compute: Callable[[], Awaitable[Made]]) -> Stored | None:
        """Return what is stored; else compute and store it, and return None.

        What was computed but overtaken by an invalidation comes back with no seconds left.
        """
        while True:
            with self._expecting(key) as news:
                state, *facts = await self._run(_ACQUIRE, self._keys(key), self._milliseconds(self._lease))
                state = _text(state)
                if state == "found":
                    return _stored(*facts)
                if state == "leased":
                    return await self._lead(key, str(facts[0]), compute)
                await self._wait(key, news, max(0, facts[0]) / 1000 + LATE)

    async def read(self, keys: Sequence[str]) -> list[Stored | None]:
        """Return what is stored under each of the *keys*, in one round trip."""
        found = await self._run(_READ, [f"{self._prefix}v:{key}" for key in keys])
        return [_stored(*answer) if answer else None for answer in found]

    async def write(self, key: str, made: Made) -> None:
        """Store a value; what is being computed under its key is not stored any more."""
        if made.payload is None:
            return await self.invalidate("key", key)
        ttl, tags = self._milliseconds(made.ttl), json.dumps(made.tags)
        await self._run(_WRITE, self._keys(key), made.payload, tags, ttl, self._channel, self._news("key", key))
        return None

    async def invalidate(self, by: By, what: str | Callable[[str], bool]) -> None:
        """Invalidate by key or by tag in one round trip; by a function of the key, by looking at every key there is.

        In a cluster, that reaches the keys of the node that the client asks.
        """
        if by == "tag":
            await self._run(_FORGET_TAG, [f"{self._prefix}t:{what}"], self._channel, self._news("tag", str(what)))
        elif by == "key":
            await self._run(_FORGET, self._keys(str(what)), self._channel, self._news("key", str(what)))
        else:
            async for key in self._all_keys():
                if cast("Callable[[str], bool]", what)(key):
                    await self.invalidate("key", key)

    async def listen(self, heard: Heard) -> None:
        """Tell what other processes invalidate, until cancelled."""
        subscriber = self._client.pubsub()
        try:
            await subscriber.subscribe(self._channel)
            while True:
                message = await subscriber.get_message(timeout=None) or {"type": ""}
                if message["type"] == "subscribe":  # after a lost connection, too
                    self._is_listening = True
                    heard("ready", "")
                elif message["type"] == "message":
                    self._hear(_text(message["data"]), heard)
        finally:
            self._is_listening = False
            with anyio.move_on_after(1, shield=True), suppress(Exception):  # a cancellation must not be lost by it
                await subscriber.aclose()

    @contextmanager
    def _expecting(self, key: str) -> Generator[anyio.Event, None, None]:
        """Have an event set by the next news of *key*; from before the server is asked, so that none is missed."""
        news = anyio.Event()
        self._waiting.setdefault(key, set()).add(news)
        try:
            yield news
        finally:
            self._waiting[key].discard(news)
            if not self._waiting[key]:
                del self._waiting[key]

    async def _lead(self, key: str, token: str, compute: Callable[[], Awaitable[Made]]) -> Stored | None:
        failure: Exception | None = None
        made = Made(None, 0.0)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._renew, key, token)
                try:
                    made = await compute()
                except Exception as error:  # noqa: BLE001  # raised below, where no group wraps it
                    failure = error
                group.cancel_scope.cancel()
        except BaseException:
            with anyio.move_on_after(1, shield=True):
                await self._release(key, token)
            raise
        if failure is not None:
            await self._release(key, token)
            raise failure
        stored = await self._commit(key, token, made)
        return None if stored or made.payload is None else Stored(made.payload, 0.0, made.tags)

    async def _release(self, key: str, token: str) -> None:
        """Let others lead; where that fails, the lease ends by itself, and what is being raised must not be lost."""
        with suppress(Exception):
            await self._commit(key, token, Made(None, 0.0))

    async def _commit(self, key: str, token: str, made: Made) -> bool:
        ttl = "" if made.payload is None else str(self._milliseconds(made.ttl))
        news = self._news("done", key)
        answer = await self._run(
            _COMMIT, self._keys(key), token, made.payload or b"", json.dumps(made.tags), ttl, self._channel, news
        )
        return bool(answer)

    async def _renew(self, key: str, token: str) -> None:
        """Keep the lease until cancelled, or until it is lost; then the commit will be refused."""
        held = True
        while held:
            await anyio.sleep(self._lease / 3)
            try:
                held = bool(await self._run(_RENEW, self._keys(key)[1:], token, self._milliseconds(self._lease)))
            except Exception:  # noqa: BLE001  # the commit will say it
                held = False

    async def _wait(self, key: str, news: anyio.Event, seconds: float) -> None:
        """Wait until there is news of *key*, for as long as its lease can last at most."""
        with anyio.move_on_after(seconds):
            await (news.wait() if self._is_listening else self._listen_for(key, news))

    async def _listen_for(self, key: str, news: anyio.Event) -> None:
        """Subscribe for one wait; the lease may have ended before the subscription began."""
        subscriber = self._client.pubsub()
        try:
            await subscriber.subscribe(self._channel)
            while not news.is_set():
                message = await subscriber.get_message(timeout=None) or {"type": ""}
                if message["type"] == "subscribe" and not await self._is_leased(key):
                    return
                if message["type"] == "message":
                    self._hear(_text(message["data"]), _ignore)
        finally:
            with anyio.move_on_after(1, shield=True), suppress(Exception):  # a cancellation must not be lost by it
                await subscriber.aclose()

    async def _is_leased(self, key: str) -> bool:
        return bool(await self._client.execute_command("EXISTS", self._keys(key)[1]))

    async def _all_keys(self) -> AsyncIterator[str]:
        """Yield every key that has a value or a lease, some of them twice."""
        pattern, cursor = re.sub(r"([\[\]*?\\^])", r"\\\1", self._prefix) + "[vl]:*", "0"
        while True:
            cursor, names = await self._client.execute_command("SCAN", cursor, "MATCH", pattern, "COUNT", BATCH)
            cursor = _text(cursor)
            for name in names:
                yield _text(name)[len(self._prefix) + 2 :]
            if cursor == "0":
                return

    def _hear(self, news: str, heard: Heard) -> None:
        kind, origin, what = news.split(" ", 2)
        if kind != "tag":
            for event in self._waiting.get(what, ()):
                event.set()
        if kind != "done" and origin != self._origin:
            heard("tag" if kind == "tag" else "key", what)

    def _news(self, kind: str, what: str) -> str:
        return f"{kind} {self._origin} {what}"

    def _keys(self, key: str) -> list[str]:
        return [f"{self._prefix}v:{key}", f"{self._prefix}l:{key}"]

    def _milliseconds(self, seconds: float) -> int:
        return max(1, int(min(seconds, self._max_ttl) * 1000))

    async def _run(self, script: str, keys: list[str], *args: Any) -> Any:
        common = (self._prefix, self._milliseconds(self._max_ttl))
        return await self._client.execute_command("EVAL", _VALID + script, len(keys), *keys, *common, *args)


def _stored(payload: Any, milliseconds: int, tags: Any) -> Stored:
    content = payload.encode() if isinstance(payload, str) else payload
    return Stored(content, max(0, milliseconds) / 1000, tuple(json.loads(tags)))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _ignore(_: str, __: str) -> None:
    """Hear nothing but what is waited for."""
