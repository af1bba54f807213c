-- How an owner's state is kept in its hash. Every script that reads or writes tenant_limits:{<tenant>} or
-- address_limits:{...} begins with this text; backends/redis/layout.py reads the same.
--
-- seeded         the epoch whose memory the counters come from, with ? behind it: provisional (seed.lua, provisional.lua)
-- days           the dates that have fields, ascending, blanks between
-- d:<date>       the owner's cost on a day, decimal
-- state          OWNER: the owner's bucket, the day and the month that were charged last, and when the hash expires
-- state:<key>    KEY: the same of a key
-- d:<date>:<key> "cost requests changes", m:<date> and m:<date>:<key> cost: what is of another day or month than the
--                packed state. A counter is in one of the two places; where both have it, they are added.
-- hour           "start count start count" of two hours, the one charged last and another one, by their first seconds;
-- hour:<key>     the same of a key. Only of what has an hourly quota; never saved, and never seeded
-- credits        what is used of the owner's credits, decimal: since the first grant, whatever the day
-- credits:<key>  the same of a key. Only of what has credits
-- was:<field>    what a counter began with while nothing was known of it (provisional.lua)
--
-- Hashes of releases before this layout have no `state`: all counters are in named fields, and `bucket` and
-- `bucket:<key>` are "level carry at". They stay so until `text_until` (counters.lua).
--
-- Numbers are doubles: everything stays a whole number below 2^53. Dates are YYYYMMDD as a number, 0: none.
local OWNER = '<BdI4dI4dI4dI4I4' -- version, level (-1: none), carry, at, day, by day, month, by month, expires, foreign
local KEY = '<BdI4dI4dddI4d' -- version, level, carry, at, day, cost, requests, changes, month, by month
local VERSION, OWNER_SIZE, KEY_SIZE = 1, 53, 61 -- below 64 bytes, beyond which Redis keeps small hashes less compactly
local MOST, LATEST = 9e15, 4e15 -- of any counter; of a time in microseconds
local pack, unpacked = struct.pack, struct.unpack

-- What is stored and malformed counts as never written.
local function stored(value, high)
  local number = value and string.match(value, '^%d+$') and tonumber(value)
  if number and number <= high then return number end
  return nil
end

-- Three numbers that are kept together as text, or nil.
local function three(value, first_high, second_high, third_high)
  local first, second, third = string.match(value or '', '^(%d+) (%d+) (%d+)$')
  if not first then return nil end
  first, second, third = tonumber(first), tonumber(second), tonumber(third)
  if first <= first_high and second <= second_high and third <= third_high then return first, second, third end
  return nil
end

local function text(first, second, third)
  return string.format('%.0f %.0f %.0f', first, second, third)
end

local function sound(level, carry, at, day, month)
  return level >= -1 and level <= 1e15 and carry <= 864000 and at >= 0 and at <= LATEST and day < 1e8 and month < 1e8
end

-- Reads `state` into `o`, or what stands for none; whether there was one.
local function read_owner(o, value)
  if value and #value == OWNER_SIZE then
    local version, level, carry, at, day, by_day, month, by_month, expires, foreign = unpacked(OWNER, value)
    if version == VERSION and sound(level, carry, at, day, month)
      and by_day >= 0 and by_day <= MOST and by_month >= 0 and by_month <= MOST then
      o.level, o.carry, o.at, o.day, o.by_day = level, carry, at, day, by_day
      o.month, o.by_month, o.expires = month, by_month, expires
      o.foreign = foreign > 0 and foreign or nil -- one field less where it says nothing
      return true
    end
  end
  o.level, o.carry, o.at, o.day, o.by_day, o.month, o.by_month, o.expires, o.foreign = -1, 0, 0, 0, 0, 0, 0, 0, nil
  return false
end

local function packed_owner(o)
  return pack(OWNER, VERSION, o.level, o.carry, o.at, o.day, o.by_day, o.month, o.by_month, o.expires, o.foreign or 0)
end

-- The same of `state:<key>`.
local function read_key(k, value)
  if value and #value == KEY_SIZE then
    local version, level, carry, at, day, cost, requests, changes, month, by_month = unpacked(KEY, value)
    if version == VERSION and sound(level, carry, at, day, month) and cost >= 0 and cost <= MOST and requests >= 0
      and requests <= MOST and changes >= 0 and changes <= MOST and by_month >= 0 and by_month <= MOST then
      k.level, k.carry, k.at, k.day, k.cost = level, carry, at, day, cost
      k.requests, k.changes, k.month, k.by_month = requests, changes, month, by_month
      return true
    end
  end
  k.level, k.carry, k.at, k.day, k.cost, k.requests, k.changes, k.month, k.by_month = -1, 0, 0, 0, 0, 0, 0, 0, 0
  return false
end

local function packed_key(k)
  return pack(KEY, VERSION, k.level, k.carry, k.at, k.day, k.cost, k.requests, k.changes, k.month, k.by_month)
end
