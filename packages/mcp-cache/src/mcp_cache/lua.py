"""What the Redis store has the server do, each a script: so it is atomic, and one round trip.

``ARGV[1]`` is what all keys begin with, ``ARGV[2]`` the milliseconds for which anything is kept at most. What others
have written where it cannot be read stops nothing: a value counts as corrupt, a tag as invalidated just now, a lease
without an end as none, and a counter that does not count begins anew, far beyond where it can have been.
"""

from __future__ import annotations

__all__ = ["ACQUIRE", "COMMIT", "FORGET", "FORGET_TAG", "IS_LEASED", "READ", "RENEW", "SCAN", "WRITE"]

_COMMON = """
local function next_seq()
  local key = ARGV[1] .. 'seq'
  local seq = redis.pcall('INCR', key)
  if type(seq) == 'table' then
    local time = redis.call('TIME')
    seq = time[1] * 1000000 + time[2]
    redis.call('SET', key, string.format('%.0f', seq))
  end
  redis.call('PEXPIRE', key, 2 * tonumber(ARGV[2]))
  return seq
end
local function invalidated(tag)
  local key = ARGV[1] .. 't:' .. tag
  local seq = redis.pcall('GET', key)
  if seq and not tonumber(seq) then
    seq = next_seq()
    redis.call('SET', key, seq, 'PX', ARGV[2])
  end
  return seq and tonumber(seq) or 0
end
local function valid(token, tags)
  for _, tag in ipairs(cjson.decode(tags)) do
    if invalidated(tag) > tonumber(token) then return false end
  end
  return true
end
local function find(key)
  local v = redis.pcall('HMGET', key, 't', 'p', 'g')
  if v[1] == false and v[2] == false and v[3] == false then return nil end
  local can_be_read, is_valid = pcall(valid, v[1], v[3])
  if not (can_be_read and v[1] and v[2]) then return {} end
  if is_valid then return {v[2], redis.call('PTTL', key), v[3]} end
end
local function store(key, token, payload, ttl, tags)
  redis.call('DEL', key)
  redis.call('HSET', key, 't', token, 'p', payload, 'g', tags)
  redis.call('PEXPIRE', key, ttl)
end
"""
READ = f"""{_COMMON}
local found = {{}}
for i, key in ipairs(KEYS) do found[i] = find(key) or 0 end
return found
"""
ACQUIRE = f"""{_COMMON}
local found = find(KEYS[1])
if found then return {{'found', unpack(found)}} end
local left = redis.call('PTTL', KEYS[2])
if left >= 0 then return {{'busy', left}} end
local token = next_seq()
redis.call('SET', KEYS[2], token, 'PX', ARGV[3])
return {{'leased', token}}
"""
RENEW = """
if redis.pcall('GET', KEYS[1]) == ARGV[3] then return redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
return 0
"""
COMMIT = f"""{_COMMON}
if redis.pcall('GET', KEYS[2]) ~= ARGV[3] then return 0 end
redis.call('DEL', KEYS[2])
local keep = ARGV[6] ~= '' and valid(ARGV[3], ARGV[5])
if keep then store(KEYS[1], ARGV[3], ARGV[4], ARGV[6], ARGV[5]) end
redis.call('PUBLISH', ARGV[7], ARGV[8])
return keep and 1 or 0
"""
WRITE = f"""{_COMMON}
redis.call('DEL', KEYS[2])
store(KEYS[1], next_seq(), ARGV[3], ARGV[5], ARGV[4])
redis.call('PUBLISH', ARGV[6], ARGV[7])
"""
FORGET = f"""{_COMMON}
next_seq()
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('PUBLISH', ARGV[3], ARGV[4])
"""
FORGET_TAG = f"""{_COMMON}
redis.call('SET', KEYS[1], next_seq(), 'PX', ARGV[2])
redis.call('PUBLISH', ARGV[3], ARGV[4])
"""
IS_LEASED = "return redis.call('PTTL', KEYS[1]) >= 0 and 1 or 0"
SCAN = "return redis.call('SCAN', ARGV[3], 'MATCH', ARGV[4], 'COUNT', ARGV[5])"
