"""The shared state in Redis 5 or newer, or Valkey: one script, one round trip an operation, the server's clock.

    {prefix:name}          hash: era, state, until, reopens, successes, failures
    {prefix:name}:leases   sorted set: lease, by the time at which it expires

The braces make both keys live in the same slot of a cluster.  Both expire ``ttl`` seconds after the last change, but
never before a cooldown or a lease is over: a breaker that has not changed for that long is CLOSED.  Eras begin at the
server's time in microseconds, so that one which comes after the keys are gone is never taken for one before.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from .checks import check_seconds
from .shared import Probe, Reply, Terms
from .states import State

__all__ = ["RedisStore"]


_STATES = (State.CLOSED, State.OPEN, State.HALF_OPEN)

# Times are whole milliseconds: Lua's numbers hold them and the eras exactly.
_SCRIPT = """
local key, leases = KEYS[1], KEYS[2]
local operation = ARGV[1]
local ttl, places, max_wait = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local needed, allowed = tonumber(ARGV[5]), tonumber(ARGV[6])
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
        if failures > allowed then
            change(1, now + ARGV[8])
            reopens = ARGV[9]
        elseif successes >= needed then
            change(0, 0)
        end
    end
end

if is_changed then
    redis.call('HSET', key, 'era', string.format('%.0f', era), 'state', state, 'until', string.format('%.0f', ends),
        'reopens', reopens, 'successes', successes, 'failures', failures)
    local life = math.max(ttl, max_wait, ends - now)
    redis.call('PEXPIRE', key, life)
    redis.call('PEXPIRE', leases, life)
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
        client: Your own async client of redis-py, valkey-py or coredis (which runs on trio too), of one server or of a
            cluster; it stays yours to close.
        prefix: What all keys begin with.
        ttl: Seconds without a change after which a breaker is forgotten, though not within its cooldown.

    Raises:
        TypeError: For a client that is not async.
        ValueError: For a *ttl* that is no time, and a *prefix* that is empty or has braces, which make a hash tag.
    """

    def __init__(self, client: Any, *, prefix: str = "mcp-circuit", ttl: float = 86_400.0) -> None:
        if not prefix or not set("{}").isdisjoint(str(prefix)) or str(prefix) != prefix:
            raise ValueError(f"RedisStore needs prefix to be a non-empty string without braces, got {prefix!r}")
        self._execute = _executor(client)
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
        keys, texts = [key, f"{key}:leases"], [*map(str, given), *map(str, arguments)]
        try:
            reply = await self._execute("evalsha", self._sha, keys, texts)
        except Exception as error:
            if "NOSCRIPT" not in f"{type(error).__name__} {error}".upper():  # restarted, or flushed by others
                raise
            reply = await self._execute("eval", _SCRIPT, keys, texts)
        era, state, left, reopens, leased = map(int, reply)
        return Reply(era, _STATES[state], left / 1000, reopens, bool(leased))


def _executor(client: Any) -> Callable[[str, str, list[str], list[str]], Awaitable[Any]]:
    """Return what runs a script by the client's own methods, which take their arguments in two ways."""
    call = getattr(client, "execute_command", None) or getattr(client, "evalsha", None)
    if isinstance(client, type) or not inspect.iscoroutinefunction(call):
        raise TypeError(f"RedisStore needs an async client such as redis.asyncio.Redis(), got {client!r}")
    if type(client).__module__.partition(".")[0] == "coredis":
        return lambda method, script, keys, texts: getattr(client, method)(script, keys, texts)
    return lambda method, script, keys, texts: getattr(client, method)(script, len(keys), *keys, *texts)


def _milliseconds(seconds: float) -> int:
    return max(round(seconds * 1000), 1)
