"""The shared state in Redis 5 or newer, or Valkey: one script, one round trip an operation, the server's clock.

    {prefix:name}          hash: era, state, until, reopens, successes, failures
    {prefix:name}:leases   sorted set: lease, by the time at which it expires

The braces make both keys live in the same slot of a cluster.  Both expire ``ttl`` seconds after the last change: a
breaker that nobody has used for that long is CLOSED.  Eras begin at the server's time in microseconds, so that one
which comes after the keys are gone is never taken for one before.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Awaitable
from typing import Any, Protocol

from .checks import check_seconds
from .shared import Probe, Reply, Terms
from .states import State

__all__ = ["RedisClient", "RedisStore"]


class RedisClient(Protocol):
    """What is needed of a client, as ``redis.asyncio.Redis`` and ``valkey.asyncio.Valkey`` have it."""

    def evalsha(self, sha: str, numkeys: int, *keys_and_args: Any) -> Awaitable[Any]:
        """Run a script that the server knows."""
        ...

    def eval(self, script: str, numkeys: int, *keys_and_args: Any) -> Awaitable[Any]:
        """Run a script, and let the server know it from then on."""
        ...


_STATES = (State.CLOSED, State.OPEN, State.HALF_OPEN)

# Times are whole milliseconds: Lua's numbers hold them and the eras exactly.
_SCRIPT = """
local key, leases = KEYS[1], KEYS[2]
local operation, ttl, places, max_wait, needed, allowed = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5], ARGV[6]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local fields = redis.call('HMGET', key, 'era', 'state', 'until', 'reopens', 'successes', 'failures')
for place = 1, 6 do fields[place] = tonumber(fields[place]) or 0 end
local era, state, ends, reopens, successes, failures = unpack(fields)
local leased, is_changed = 0, false

local function change(new_state, new_ends)
    era = math.max(era + 1, time[1] * 1000000 + time[2])
    state, ends, successes, failures, is_changed = new_state, new_ends, 0, 0, true
    redis.call('DEL', leases)
end

if operation == 'admit' then
    if state == 1 and now >= ends then change(2, 0) end
    if state == 2 then
        redis.call('ZREMRANGEBYSCORE', leases, '-inf', now)
        if redis.call('ZCARD', leases) < places then
            redis.call('ZADD', leases, now + max_wait, ARGV[7])
            leased, is_changed = 1, true
        end
    end
elseif operation == 'trip' then
    if state == 0 and era == tonumber(ARGV[7]) then
        change(1, now + ARGV[8])
        reopens = ARGV[9]
    end
elseif era == tonumber(ARGV[7]) then
    local expires = tonumber(redis.call('ZSCORE', leases, ARGV[10]) or 0)
    redis.call('ZREM', leases, ARGV[10])
    if expires > now then
        is_changed = true
        if ARGV[11] == 'success' then successes = successes + 1 end
        if ARGV[11] == 'failure' then failures = failures + 1 end
        if failures > tonumber(allowed) then
            change(1, now + ARGV[8])
            reopens = ARGV[9]
        elseif successes >= tonumber(needed) then
            change(0, 0)
        end
    end
end

if is_changed then
    redis.call('HSET', key, 'era', string.format('%.0f', era), 'state', state, 'until', string.format('%.0f', ends),
        'reopens', reopens, 'successes', successes, 'failures', failures)
    redis.call('PEXPIRE', key, ttl)
    redis.call('PEXPIRE', leases, ttl)
end
if state == 2 then
    local first = redis.call('ZRANGE', leases, 0, 0, 'WITHSCORES')
    ends = tonumber(first[2]) or 0
end
return {string.format('%.0f', era), state, math.max(ends - now, 0), tonumber(reopens), leased}
"""


class RedisStore:
    """Keeps shared breakers in Redis or Valkey.

    Args:
        client: Your own async client; it stays yours to close, and its time-outs are its own affair.
        prefix: Begins every key.
        ttl: Seconds after which an unused breaker is forgotten; longer than any cooldown.

    Raises:
        TypeError: For a client that is not async.
        ValueError: For a *ttl* that is no time.
    """

    def __init__(self, client: RedisClient, *, prefix: str = "mcp-circuit", ttl: float = 86_400.0) -> None:
        call = getattr(client, "execute_command", None) or getattr(client, "evalsha", None)
        if isinstance(client, type) or not inspect.iscoroutinefunction(call):
            raise TypeError(f"RedisStore needs an async client such as redis.asyncio.Redis(), got {client!r}")
        self._client = client
        self._prefix = prefix
        self._ttl = _milliseconds(check_seconds("RedisStore", "ttl", ttl))
        self._sha = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()

    async def admit(self, name: str, terms: Terms, lease: str) -> Reply:
        """See ``Store.admit``."""
        return await self._run(name, terms, "admit", lease)

    async def trip(self, name: str, terms: Terms, era: int, cooldown: float, reopens: int) -> Reply:
        """See ``Store.trip``."""
        return await self._run(name, terms, "trip", era, _milliseconds(cooldown), reopens)

    async def settle(self, name: str, terms: Terms, probe: Probe) -> Reply:
        """See ``Store.settle``."""
        found = probe.era, _milliseconds(probe.cooldown), probe.reopens, probe.lease, probe.verdict
        return await self._run(name, terms, "settle", *found)

    async def _run(self, name: str, terms: Terms, operation: str, *arguments: Any) -> Reply:
        key = f"{{{self._prefix}:{name}}}"
        wait = _milliseconds(terms.probe_max_wait)
        given = operation, self._ttl, terms.probe_concurrency, wait, terms.successes_needed, terms.failures_allowed
        call = 2, key, f"{key}:leases", *given, *arguments
        try:
            reply = await self._client.evalsha(self._sha, *call)
        except Exception as error:
            if "NOSCRIPT" not in f"{type(error).__name__} {error}".upper():  # restarted, or flushed by others
                raise
            reply = await self._client.eval(_SCRIPT, *call)
        era, state, left, reopens, leased = map(int, reply)
        return Reply(era, _STATES[state], left / 1000, reopens, bool(leased))


def _milliseconds(seconds: float) -> int:
    return max(round(seconds * 1000), 1)
