-- Counters of an owner and of its key: read when they are first needed, and moved to the window of the moment.
--
--   local o = owner_of(KEYS[1])             -- read when it is first needed, once a call
--   local k = key_of(o, key_id, calendar)   -- nil, words: Redis refused the read
--
-- A hash of an earlier release stays as it was written for SIDE_BY_SIDE seconds from its first charge, so that workers of
-- both releases charge the same counters; then its fields move into the packed state. What an earlier release still
-- charges after that is found by d:<date>, which both write, and added.
-- Tables have from the start the fields that every check sets: one that grows costs more than what is computed in it.
-- `level` false: not read yet.
local function new_owner(name)
  return {
    name = name, keys = {}, writes = {}, leases = {}, seeded = false, known = false, counted = false, changed = false,
    level = false, carry = 0, at = 0, day = 0, by_day = 0, month = 0, by_month = 0, expires = 0, left = 0, part = 0,
  }
end

local function new_key(id, field)
  return {
    id = id, field = field, level = 0, carry = 0, at = 0, day = 0, cost = 0, requests = 0, changes = 0, month = 0,
    by_month = 0, left = 0, part = 0, changed = false, counted = false,
  }
end

local owners, order = {}, {}
local function owner_of(name)
  local o = owners[name]
  if not o then
    o = new_owner(name)
    owners[name], order[#order + 1] = o, o
  end
  return o
end

-- The value of a named field: as it is about to be written, or as it is; false where there is none.
local function named(o, field)
  local value = o.writes[field]
  if value == nil and not o.wrong then value = call('HGET', o.name, field) end
  return value
end

-- A named field has gone into the packed state; in a hash that stays text it is written over.
local function moved(o, field)
  if not o.text then o.writes[field] = false end
end

local function read_first(o, field, date)
  local found = pcall_redis('HMGET', o.name, 'state', field, 'seeded', 'd:' .. date, 'leases')
  if found.err then
    if not string.find(found.err, 'WRONGTYPE', 1, true) then
      o.words = found.err
      return nil
    end
    o.wrong, found = true, {} -- dropped by the first charge, and seeded again
  end
  o.seeded = found[3]
  if found[5] then o.leases = read_leases(found[5]) end
  if not read_owner(o, found[1]) and not found[1] and not o.wrong then
    local old = call('HMGET', o.name, 'bucket', 'text_until')
    o.text_until = stored(old[2], 4e9)
    o.text = (old[1] or o.seeded) and (o.text_until or seconds + 1) > seconds
    local level, carry, at = three(old[1], 1e15, 864000, LATEST)
    if level then o.level, o.carry, o.at = level, carry, at end
    if old[1] then moved(o, 'bucket') end
    if old[2] then moved(o, 'text_until') end
  end
  local by_day = stored(found[4], MOST)
  -- Both releases write this field: where it is not what we have written last, the other one has charged since.
  if o.day == date and o.by_day ~= (by_day or 0) then o.foreign = seconds + SIDE_BY_SIDE end
  o.day, o.by_day, o.known = date, by_day or 0, by_day ~= nil
  return found
end

-- The key of an owner; `date`: the day it is about to be charged on, or nil. nil where Redis refuses: see o.words.
local function key_of(o, id, date)
  local k = o.keys[id]
  if k then return k end
  local value
  local own = 'state:' .. id
  if not o.level then
    local found = read_first(o, own, date or 0)
    if not found then return nil end
    value = found[2]
  elseif not o.wrong then
    value = call('HGET', o.name, own)
  end
  k = new_key(id, own)
  if not read_key(k, value) and not o.wrong then
    local field = 'bucket:' .. id
    local old = named(o, field)
    local level, carry, at = three(old, 1e15, 864000, LATEST)
    if level then k.level, k.carry, k.at = level, carry, at end
    if old then
      moved(o, field)
      k.shifted = true
    end
  end
  if value and o.text then -- was about to be unpacked (unpack.lua)
    o.writes[own] = false
    k.changed, k.counted = true, true
  end
  o.keys[id] = k
  return k
end

-- Whether named fields may hold what another release has charged, which is to be added to the packed state.
local function may_be_foreign(o)
  return o.foreign and o.foreign > seconds
end

local function add_named(o, field, count)
  local value = named(o, field)
  if not value then return count end
  moved(o, field)
  return min(count + (stored(value, MOST) or 0), MOST)
end

local function enter_owner(o, day, month)
  if o.day ~= day then
    if o.counted then o.writes['d:' .. o.day] = string.format('%.0f', o.by_day) end
    local field = 'd:' .. day
    local value = stored(named(o, field), MOST)
    o.day, o.by_day, o.known, o.counted = day, value or 0, value ~= nil, o.writes[field] ~= nil
    o.writes[field] = nil
  end
  if o.month == month and (o.joined or not may_be_foreign(o)) then return end
  if o.month ~= month then
    if o.by_month > 0 then o.writes['m:' .. o.month] = string.format('%.0f', o.by_month) end
    o.month, o.by_month = month, 0
  end
  o.by_month, o.joined = add_named(o, 'm:' .. month, o.by_month), true
end

local function enter_key(o, k, day, month)
  local join = may_be_foreign(o) and not k.joined
  if k.day == day and k.month == month and not join then return end
  k.shifted, k.joined = true, true
  local new_day, new_month = k.day ~= day, k.month ~= month
  if new_day then
    if k.changes > 0 then o.writes['d:' .. k.day .. ':' .. k.id] = text(k.cost, k.requests, k.changes) end
    k.day, k.cost, k.requests, k.changes = day, 0, 0, 0
  end
  if new_month then
    if k.by_month > 0 then o.writes['m:' .. k.month .. ':' .. k.id] = string.format('%.0f', k.by_month) end
    k.month, k.by_month = month, 0
  end
  local field = 'd:' .. day .. ':' .. k.id
  local old = (new_day or join) and named(o, field)
  if old then
    local cost, requests, changes = three(old, MOST, MOST, MOST)
    if cost then
      k.cost, k.requests = min(k.cost + cost, MOST), min(k.requests + requests, MOST)
      k.changes = min(k.changes + changes, MOST)
    end
    moved(o, field)
  end
  if new_month or join then k.by_month = add_named(o, 'm:' .. month .. ':' .. k.id, k.by_month) end
end

-- Moves the counters of an owner and a key to a day and a month. Those of the day and month before go into named fields.
local function enter(o, k, day, month)
  enter_owner(o, day, month)
  enter_key(o, k, day, month)
end

-- Moves the hours of an owner or a key to the one that begins at `start`. Of the others the latest is kept, so that a
-- clock which steps back over a full hour finds its count again.
local function enter_hour(o, holder, field, start)
  if not holder.hour then
    local a, b, c, d = string.match(named(o, field) or '', '^(%d+) (%d+) (%d+) (%d+)$')
    holder.hour, holder.by_hour = stored(a, 4e9) or 0, stored(b, MOST) or 0
    holder.other_hour, holder.by_other_hour = stored(c, 4e9) or 0, stored(d, MOST) or 0
  end
  if holder.hour == start then return end
  if holder.other_hour == start then
    holder.hour, holder.by_hour, holder.other_hour, holder.by_other_hour =
      holder.other_hour, holder.by_other_hour, holder.hour, holder.by_hour
    return
  end
  if holder.hour >= holder.other_hour then
    holder.other_hour, holder.by_other_hour = holder.hour, holder.by_hour
  end
  holder.hour, holder.by_hour = start, 0
end

local function take_of_hour(o, holder, field, cost)
  holder.by_hour = max(holder.by_hour + cost, 0)
  o.writes[field] = string.format(
    '%.0f %.0f %.0f %.0f', holder.hour, holder.by_hour, holder.other_hour, holder.by_other_hour
  )
end

local function take_of_credits(o, holder, field, cost)
  holder.used = min(holder.used + cost, MOST)
  o.writes[field] = string.format('%.0f', holder.used)
end

-- Reads the hours that begin at `start`, and what is used of credits, of what has such limits (asked.longer). While
-- counters are provisional, what is used of credits is not known.
local function enter_further(o, k, asked, start)
  local owner, own = asked.owner, asked.own
  if owner.hourly then enter_hour(o, o, 'hour', start) end
  if own.hourly then enter_hour(o, k, 'hour:' .. k.id, start) end
  if owner.credits and not o.used then o.used = stored(named(o, 'credits'), MOST) or 0 end
  if own.credits and not k.used then k.used = stored(named(o, 'credits:' .. k.id), MOST) or 0 end
end
