-- Counters under their names, for scripts that read or change them by name. They begin with layout.lua and this text.

local function sum(value, cost, requests, changes)
  local a, b, c = three(value, MOST, MOST, MOST)
  if not a and changes == 0 then return value end
  return text((a or 0) + cost, (b or 0) + requests, (c or 0) + changes)
end

-- What a key was charged on a day, "cost requests changes", from its field and from its packed state; false: nothing.
local function of_day(field, state, date)
  local k = {}
  if read_key(k, state) and k.day == date then return sum(field, k.cost, k.requests, k.changes) end
  return field
end

-- The same of a month, or of an owner's month.
local function of_month(field, by_month)
  if by_month == 0 then return field end
  return string.format('%.0f', (stored(field, MOST) or 0) + by_month)
end

-- Moves the counters of a key's packed state into named fields, which are returned. Its bucket stays where it is.
local function unpack_key(hash, id)
  local k, name = {}, 'state:' .. id
  if not read_key(k, redis.call('HGET', hash, name)) then return {} end
  local fields = {}
  if k.day > 0 and k.changes > 0 then
    local field = 'd:' .. k.day .. ':' .. id
    redis.call('HSET', hash, field, sum(redis.call('HGET', hash, field), k.cost, k.requests, k.changes))
    fields[#fields + 1] = field
  end
  if k.month > 0 and k.by_month > 0 then
    local field = 'm:' .. k.month .. ':' .. id
    redis.call('HSET', hash, field, of_month(redis.call('HGET', hash, field), k.by_month))
    fields[#fields + 1] = field
  end
  k.day, k.cost, k.requests, k.changes, k.month, k.by_month = 0, 0, 0, 0, 0, 0
  redis.call('HSET', hash, name, packed_key(k))
  return fields
end

-- The same of the owner's. Its day is in a named field at any time.
local function unpack_owner(hash)
  local o = {}
  if not read_owner(o, redis.call('HGET', hash, 'state')) then return {} end
  local fields = {}
  if o.month > 0 and o.by_month > 0 then
    local field = 'm:' .. o.month
    redis.call('HSET', hash, field, of_month(redis.call('HGET', hash, field), o.by_month))
    fields[1] = field
  end
  o.day, o.by_day, o.month, o.by_month = 0, 0, 0, 0
  redis.call('HSET', hash, 'state', packed_owner(o))
  return fields
end

-- A hash that begins now is in this layout from the start.
local function begin_packed(hash)
  local o = {}
  read_owner(o, false)
  redis.call('HSETNX', hash, 'state', packed_owner(o))
end
