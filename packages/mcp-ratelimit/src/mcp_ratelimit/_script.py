"""The script that decides inside of Redis or Valkey: the algorithms of ``_algorithms`` in Lua, and their caller.

It takes limits and requests as JSON:

    [limits, requests]
    limit      [algorithm, hz, unit, capacity, edges of the calendar's windows]
    request    [op, cost, most, limit, key, limit, key, …], the last ones as numbers

It reads the server's clock once, and answers with that time and with a text of numbers: for each request, what was
granted, and the wait, the use and the reset_after of each limit, in ticks.  The time alone is the answer when the
client's idea of the calendar does not reach it.  A state is kept with the figures of its limit, so that a limit
whose figures change finds its debts told in its own terms; and with the time of its last change.  No later decision is
made at an earlier one: after the clock has stepped back, it stands still for that key until it has caught up, and the
answers tell of the time that this takes.  Every key gets the time to live that its state needs, and a second more for
rounding.
"""

from __future__ import annotations

from hashlib import sha1

__all__ = ["SCRIPT", "SHA"]

SCRIPT = """
local floor, ceil, max, min = math.floor, math.ceil, math.max, math.min
local gcra, log, bucketed, counter, fixed = {}, {}, {}, {}, {}
local algorithms = {gcra = gcra, strict_gcra = gcra, sliding_log = log, bucketed = bucketed,
                    sliding_counter = counter, fixed_window = fixed}

function gcra.wait(s, now, cost, p)
  return max(0, max(s and s[1] or now, now) + cost * p.unit - now - p.capacity * p.unit)
end
function gcra.charge(s, now, cost, p) return {max(s and s[1] or now, now) + cost * p.unit} end
function gcra.refund(s, now, cost, p)
  local left = s[1] - cost * p.unit
  return left > now and {left} or nil
end
function gcra.used(s, now, p) return s and max(0, (s[1] - now) / p.unit) or 0 end
function gcra.owing(used, now, p) return {now + ceil(used * p.unit)} end
function gcra.reset(s, now, p) return s and max(0, s[1] - now) or 0 end

local function live(s, now, p)
  local kept = {}
  for _, at in ipairs(s or {}) do
    if at > now - p.unit then kept[#kept + 1] = at end
  end
  return kept
end
function log.wait(s, now, cost, p)
  local kept = live(s, now, p)
  local surplus = #kept + cost - p.capacity
  return surplus > 0 and kept[surplus] + p.unit - now or 0
end
function log.charge(s, now, cost, p)
  local kept = live(s, now, p)
  for _ = 1, cost do kept[#kept + 1] = now end
  return kept
end
function log.refund(s, now, cost, p)
  local kept, left = live(s, now, p), {}
  for i = cost + 1, #kept do left[#left + 1] = kept[i] end
  return left[1] and left or nil
end
function log.used(s, now, p) return #live(s, now, p) end
function log.owing(used, now, p) return log.charge(nil, now, ceil(used), p) end
function log.reset(s, now, p) return s and max(0, s[#s] + p.unit - now) or 0 end

local function buckets(s, now, p)
  local index = floor(now / (p.unit / 16))
  local passed = s and index - s[1] or 17
  local shifted = {index}
  for i = 1, 17 do shifted[i + 1] = s and passed + i <= 17 and s[passed + i + 1] or 0 end
  return shifted
end
function bucketed.wait(s, now, cost, p)
  local b = buckets(s, now, p)
  local surplus = bucketed.used(s, now, p) + cost - p.capacity
  if surplus <= 0 then return 0 end
  for i = 1, 17 do
    surplus = surplus - b[i + 1]
    if surplus <= 0 then return (b[1] + i) * (p.unit / 16) - now end
  end
end
function bucketed.charge(s, now, cost, p)
  local b = buckets(s, now, p)
  b[18] = b[18] + cost
  return b
end
function bucketed.refund(s, now, cost, p)
  local b = buckets(s, now, p)
  for i = 2, 18 do
    local given = min(cost, b[i])
    b[i], cost = b[i] - given, cost - given
  end
  return bucketed.used(b, now, p) > 0 and b or nil
end
function bucketed.used(s, now, p)
  local total, b = 0, buckets(s, now, p)
  for i = 2, 18 do total = total + b[i] end
  return total
end
function bucketed.owing(used, now, p) return bucketed.charge(nil, now, ceil(used), p) end
function bucketed.reset(s, now, p)
  local b = buckets(s, now, p)
  for i = 18, 2, -1 do
    if b[i] > 0 then return (b[1] + i - 1) * (p.unit / 16) - now end
  end
  return 0
end

local function windows(s, now, p)
  local index = floor(now / p.unit)
  if not s or s[1] < index - 1 then return index, 0, 0 end
  if s[1] == index then return s[1], s[2], s[3] end
  return index, 0, s[2]
end
local function faded(count, room, p) return count > room and p.unit - floor(room * p.unit / count) or 0 end
function counter.wait(s, now, cost, p)
  local index, count, before = windows(s, now, p)
  local room = p.capacity - count - cost
  if room >= 0 then return max(0, faded(before, room, p) - (now - index * p.unit)) end
  return (index + 1) * p.unit - now + faded(count, p.capacity - cost, p)
end
function counter.charge(s, now, cost, p)
  local index, count, before = windows(s, now, p)
  return {index, count + cost, before}
end
function counter.refund(s, now, cost, p)
  local index, count, before = windows(s, now, p)
  local given = min(cost, before)
  count, before = max(0, count - (cost - given)), before - given
  return (count > 0 or before > 0) and {index, count, before} or nil
end
function counter.used(s, now, p)
  local index, count, before = windows(s, now, p)
  return min(p.capacity, count + before * ((index + 1) * p.unit - now) / p.unit)
end
function counter.owing(used, now, p) return counter.charge(nil, now, ceil(used), p) end
function counter.reset(s, now, p)
  local index, count, before = windows(s, now, p)
  return count > 0 and (index + 2) * p.unit - now or before > 0 and (index + 1) * p.unit - now or 0
end

local function ends(s, now, p)
  if s and now < s[1] then return s[1] end
  if not p.edges then return now - now % p.unit + p.unit end
  for i = 1, #p.edges - 1 do
    if p.edges[i] <= now and now < p.edges[i + 1] then return p.edges[i + 1] end
  end
  error({calendar = now / p.hz})
end
function fixed.used(s, now) return s and now < s[1] and s[2] or 0 end
function fixed.wait(s, now, cost, p)
  return fixed.used(s, now) + cost > p.capacity and ends(s, now, p) - now or 0
end
function fixed.charge(s, now, cost, p) return {ends(s, now, p), fixed.used(s, now) + cost} end
function fixed.refund(s, now, cost)
  local left = fixed.used(s, now) - cost
  return left > 0 and {s[1], left} or nil
end
function fixed.owing(used, now, p) return fixed.charge(nil, now, ceil(used), p) end
function fixed.reset(s, now) return fixed.used(s, now) > 0 and s[1] - now or 0 end

local time = redis.call('TIME')
local clock = time[1] * 1000000 + time[2]
local function ticks(microseconds, hz)
  return floor(floor(microseconds / 1000000) * hz + microseconds % 1000000 * hz / 1000000)
end

local function delay(row, wait) return wait > 0 and wait + row.now - ticks(clock, row.hz) or 0 end

local held = {}
local function load(row)
  local key = held[row.key] or {seen = clock, row = row}
  local raw = not held[row.key] and redis.call('GET', KEYS[row.key])
  if raw then
    key.state = cmsgpack.unpack(raw)
    local hz, unit, capacity, seen = unpack(table.remove(key.state, 1))
    key.row = {hz = tonumber(hz), unit = unit, capacity = capacity}
    key.seen = max(clock, seen)
  end
  held[row.key], row.now = key, ticks(key.seen, row.hz)
  local old = key.row
  if key.state and (old.hz ~= row.hz or old.unit ~= row.unit or old.capacity ~= row.capacity) then
    local used = row.algorithm.used(key.state, ticks(key.seen, old.hz), old)
    key.state = row.algorithm.owing(min(used, row.capacity), row.now, row)
  end
  key.row = row
  return key
end
local function store(key, state)
  key.state, key.changed = state, true
  if not state then key.seen = clock end
end
local function flush()
  for place, key in pairs(held) do
    local s, row = key.state, key.row
    if key.changed and s then
      local life = ceil(delay(row, row.algorithm.reset(s, row.now, row)) / row.hz * 1000) + 1000
      table.insert(s, 1, {string.format('%.17g', row.hz), row.unit, row.capacity, key.seen})
      redis.call('SET', KEYS[place], cmsgpack.pack(s), 'PX', string.format('%d', life))
    elseif key.changed then
      redis.call('DEL', KEYS[place])
    end
  end
end

local function take(request, rows)
  local cost, granted = request[2], request[3]
  for _, row in ipairs(rows) do
    row.wait = row.algorithm.wait(row.held.state, row.now, cost, row)
    local room = max(0, floor(row.capacity - row.algorithm.used(row.held.state, row.now, row)))
    granted = row.wait > 0 and 0 or min(granted, room)
  end
  for _, row in ipairs(granted > 0 and rows or {}) do
    store(row.held, row.algorithm.charge(row.held.state, row.now, granted, row))
  end
  return granted
end
local function refund(request, rows)
  for _, row in ipairs(rows) do
    local s = row.held.state
    if s then store(row.held, row.algorithm.refund(s, row.now, request[2], row)) end
  end
end
local function reset(_, rows)
  for _, row in ipairs(rows) do store(row.held, nil) end
end

local operations = {take = take, refund = refund, reset = reset}
local function answer(limits, request)
  local rows = {}
  for i = 4, #request, 2 do
    local limit = limits[request[i]]
    local row = {algorithm = algorithms[limit[1]], hz = limit[2], unit = limit[3], capacity = limit[4],
                 edges = limit[5], key = request[i + 1]}
    row.held = load(row)
    rows[#rows + 1] = row
  end
  local fields = {operations[request[1]](request, rows) or 0}
  for _, row in ipairs(rows) do
    local s = row.held.state
    local used, reset = row.algorithm.used(s, row.now, row), row.algorithm.reset(s, row.now, row)
    fields[#fields + 1] = string.format('%.0f %.17g %.0f', delay(row, row.wait or 0), used, delay(row, reset))
  end
  return table.concat(fields, ' ')
end

local function run()
  local answers, asked = {}, cjson.decode(ARGV[1])
  for i, request in ipairs(asked[2]) do answers[i] = answer(asked[1], request) end
  flush()
  return {time[1] .. ' ' .. time[2], table.concat(answers, ' ')}
end
local ok, answers = pcall(run)
if ok then return answers end
if type(answers) == 'table' and answers.calendar then return {string.format('%d', answers.calendar)} end
error(answers)
"""

SHA = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
