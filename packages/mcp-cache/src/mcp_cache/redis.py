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
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from inspect import iscoroutinefunction
from typing import Any, cast

import anyio

from . import lua
from .store import By, Heard, Made, Stored

__all__ = ["RedisStore"]

DAY = 86_400.0  # seconds
BATCH = 512  # keys that are asked for at once when all are looked through
LATE = 0.02  # seconds after the end of a lease at which it is certainly over


class RedisStore:
    """Values in Redis or Valkey, shared by every process that uses the same server and *prefix*.

    Args:
        client: Your own async client of redis-py, valkey-py or coredis (which runs on trio too); it stays yours to
            close.
        prefix: What all keys begin with, also their hash tag; sets one cache apart from all others on the server.
        lease: Seconds after which a process that computes, and no longer says so, is taken to be dead. It says so three
            times a lease.
        budget: Seconds that one question to the server may take, the making of a connection included; what takes longer
            has failed. Neither computing counts nor waiting for another process that computes.
        max_ttl: The most seconds for which anything is kept; what has no end is kept for so long.

    Methods raise what the client raises, and TimeoutError when the server takes longer than the budget.
    """

    def __init__(
        self,
        client: Any,
        *,
        prefix: str = "mcp-cache",
        lease: float = 2.0,
        budget: float = 0.25,
        max_ttl: float = DAY,
    ) -> None:
        if isinstance(client, type) or not iscoroutinefunction(getattr(client, "execute_command", None)):
            raise TypeError(f"RedisStore needs an async client such as redis.asyncio.Redis(), got {client!r}")
        for argument, value in (("lease", lease), ("budget", budget), ("max_ttl", max_ttl)):
            if type(value) not in (int, float) or not 0 < value < math.inf:
                raise ValueError(f"RedisStore needs 0 < {argument} < inf, got {value!r}")
        if not prefix or not set("{}").isdisjoint(str(prefix)) or str(prefix) != prefix:
            raise ValueError(f"RedisStore needs prefix to be a non-empty string without braces, got {prefix!r}")
        self._client = client
        self._is_coredis = type(client).__module__.partition(".")[0] == "coredis"
        self._prefix = f"{{{prefix}}}:"
        self._channel = f"{{{prefix}}}:news"
        self._lease = lease
        self._budget = budget
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
                state, *facts = await self._run(lua.ACQUIRE, self._keys(key), self._milliseconds(self._lease))
                state = _text(state)
                if state == "found":
                    return _stored(*facts)
                if state == "leased":
                    return await self._lead(key, str(facts[0]), compute)
                await self._wait(key, news, facts[0] / 1000 + LATE)

    async def read(self, keys: Sequence[str]) -> list[Stored | None]:
        """Return what is stored under each of the *keys*, in one round trip."""
        found = await self._run(lua.READ, [f"{self._prefix}v:{key}" for key in keys])
        return [None if answer == 0 else _stored(*answer) for answer in found]

    async def write(self, key: str, made: Made) -> None:
        """Store a value; what is being computed under its key is not stored any more."""
        if made.payload is None:
            return await self.invalidate("key", key)
        ttl, tags = self._milliseconds(made.ttl), json.dumps(made.tags)
        await self._run(lua.WRITE, self._keys(key), made.payload, tags, ttl, self._channel, self._news("key", key))
        return None

    async def invalidate(self, by: By, what: str | Callable[[str], bool]) -> None:
        """Invalidate by key or by tag in one round trip; by a function of the key, by looking at every key there is."""
        if by == "tag":
            await self._run(lua.FORGET_TAG, [f"{self._prefix}t:{what}"], self._channel, self._news("tag", str(what)))
        elif by == "key":
            await self._run(lua.FORGET, self._keys(str(what)), self._channel, self._news("key", str(what)))
        else:
            async for key in self._all_keys():
                if cast("Callable[[str], bool]", what)(key):
                    await self.invalidate("key", key)

    async def listen(self, heard: Heard) -> None:
        """Tell what other processes invalidate, until cancelled."""
        try:
            async with self._subscribed() as next_message:
                while True:
                    self._take(await next_message(), heard)
        finally:
            self._is_listening = False

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
            with anyio.CancelScope(shield=True):
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
            lua.COMMIT, self._keys(key), token, made.payload or b"", json.dumps(made.tags), ttl, self._channel, news
        )
        return bool(answer)

    async def _renew(self, key: str, token: str) -> None:
        """Keep the lease until cancelled, or until it is lost; then the commit will be refused."""
        held = True
        while held:
            await anyio.sleep(self._lease / 3)
            with suppress(Exception):  # the next time may succeed, and if none does, the commit will say it
                held = bool(await self._run(lua.RENEW, self._keys(key)[1:], token, self._milliseconds(self._lease)))

    async def _wait(self, key: str, news: anyio.Event, seconds: float) -> None:
        """Wait until there is news of *key*, for as long as its lease can last at most."""
        with anyio.move_on_after(seconds):
            await (news.wait() if self._is_listening else self._listen_for(key, news))

    async def _listen_for(self, key: str, news: anyio.Event) -> None:
        """Subscribe for one wait; the lease may have ended before the subscription began."""
        async with self._subscribed() as next_message:
            while not news.is_set():
                message: Any = await next_message()
                kind = message and message["type"]
                if kind == "subscribe" and not await self._run(lua.IS_LEASED, self._keys(key)[1:]):
                    return
                if kind == "message":
                    self._hear(_text(message["data"]), _ignore)

    @asynccontextmanager
    async def _subscribed(self) -> AsyncGenerator[Callable[[], Awaitable[Any]], None]:
        """Subscribe to the channel, and hand over what waits for its next message."""
        if self._is_coredis:
            async with self._client.pubsub(channels=[self._channel], subscription_timeout=self._budget) as subscriber:
                yield subscriber.get_message
            return
        subscriber = self._client.pubsub()
        try:
            with anyio.fail_after(self._budget):
                await subscriber.subscribe(self._channel)
            yield partial(subscriber.get_message, timeout=None)
        finally:
            with anyio.move_on_after(self._budget, shield=True), suppress(Exception):  # or a cancellation would be lost
                await subscriber.aclose()

    async def _all_keys(self) -> AsyncIterator[str]:
        """Yield every key that has a value or a lease, some of them twice."""
        pattern, cursor = re.sub(r"([\[\]*?\\^])", r"\\\1", self._prefix) + "[vl]:*", "0"
        while True:
            # By a script with a key, so that a cluster looks where the keys are.
            cursor, names = await self._run(lua.SCAN, [f"{self._prefix}seq"], cursor, pattern, BATCH)
            cursor = _text(cursor)
            for name in names:
                yield _text(name)[len(self._prefix) + 2 :]
            if cursor == "0":
                return

    def _take(self, message: Any, heard: Heard) -> None:
        if message is None:
            return
        if message["type"] == "subscribe":  # after a lost connection, too
            self._is_listening = True
            heard("ready", "")
        elif message["type"] == "message":
            self._hear(_text(message["data"]), heard)

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
        given = [self._prefix, self._milliseconds(self._max_ttl), *args]
        with anyio.fail_after(self._budget):
            if self._is_coredis:
                return await self._client.eval(script, keys, given)
            return await self._client.execute_command("EVAL", script, len(keys), *keys, *given)


def _stored(*facts: Any) -> Stored:
    try:
        payload, milliseconds, tags = facts
        content = payload.encode() if isinstance(payload, str) else payload
        return Stored(content, max(0, milliseconds) / 1000, tuple(json.loads(tags)))
    except ValueError:  # not even facts, no JSON, or no UTF-8
        return Stored(None, 0.0)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _ignore(_: str, __: str) -> None:
    """Hear nothing but what is waited for."""
