-- Limits of an owner and of its key: read, refilled, looked at, charged, written back once at the end of a call. Scripts
-- that charge begin with layout.lua and this text. The reference arithmetic is core/token_bucket.py.
--
--   local o = owner_of(KEYS[1])             -- read when it is first needed, once a call
--   local k = key_of(o, key_id, calendar)   -- nil, words: Redis refused the read
--   stand(o, k, asked)                      -- o.left, k.left: micro-tokens now; nothing is changed
--   if bits(o, k, asked, cost) == 0 then take(o, k, asked, calendar, cost, requests) end
--   local words = save(o)                   -- words of Redis's refusal, or nil; nothing is written where nothing was taken
--
-- A hash of an earlier release stays as it was written for SIDE_BY_SIDE seconds from its first charge, so that workers of
-- both releases charge the same counters; then its fields move into the packed state. What an earlier release still
-- charges after that is found by d:<date>, which both write, and added.
local MICRO = 1000000
local GRACE = 7 * 86400000 -- milliseconds that counters outlive their month, so that they can be saved
local SIDE_BY_SIDE = 3600 -- seconds

local call, pcall_redis = redis.call, redis.pcall
local floor, ceil, max, min = math.floor, math.ceil, math.max, math.min

local time = redis.call('TIME')
local seconds = tonumber(time[1])
local now = seconds * MICRO + tonumber(time[2])
local milliseconds = floor(now / 1000)

local function within(number, low, high, what)
  number = tonumber(number)
  if not number or number < low or number > high or number ~= floor(number) then
    error(what .. ' must be a whole number from ' .. low .. ' to ' .. high)
  end
  return number
end

-- The window that holds at a microsecond, or nil. Names and bounds: see ARGV of spend.lua.
local function index(bounds, at)
  for i = 1, 3 do
    if bounds[i] * MICRO <= at and at < bounds[i + 1] * MICRO then return i end
  end
  return nil
end

local CALENDAR = '^' .. string.rep(string.rep('(%d%d%d%d%d%d%d%d) ', 3) .. string.rep('(%d+) ', 4), 2) .. '(.*)$'
local HOURS = '^' .. string.rep('(%d+) ', 4) .. '$'
local function read_calendar(words)
  local c = {string.match(words .. ' ', CALENDAR)}
  if #c ~= 15 then error('a calendar is not three days, four bounds, three months, four bounds') end
  local read = {days = {}, months = {}, day_bounds = {}, month_bounds = {}}
  for i = 1, 3 do
    read.days[i], read.months[i] = tonumber(c[i]), tonumber(c[7 + i])
  end
  for i = 1, 4 do
    read.day_bounds[i] = within(c[3 + i], 0, 4e9, 'a bound')
    read.month_bounds[i] = within(c[10 + i], 0, 4e9, 'a bound')
  end
  read.day, read.month = index(read.day_bounds, now), index(read.month_bounds, now)
  read.expires = max(read.day_bounds[4], read.month_bounds[4]) * 1000 + GRACE
  if c[15] ~= '' then
    local h = {string.match(c[15], HOURS)}
    if #h ~= 4 then error('hours are not four bounds') end
    for i = 1, 4 do h[i] = within(h[i], 0, 4e9, 'a bound') end
    read.hour_bounds, read.hour = h, index(h, now)
  end
  return read
end

-- An hourly quota, or nil.
local function hourly_of(quota)
  quota = within(quota, -1, 1e12, 'hourly quota')
  return quota >= 0 and quota or nil
end

-- Credits in total, or nil.
local function credits_of(total)
  total = within(total, -1, 1e12, 'credits')
  return total >= 0 and total or nil
end

-- Limits of an owner or a key from five numbers.
local function limits_of(tokens, per, burst, daily, monthly)
  return {
    tokens = within(tokens, 0, 1e15, 'tokens'),
    seconds = within(per, 1, 864000, 'seconds'),
    burst = within(burst, 0, 1e9, 'burst'),
    daily = within(daily, -1, 1e12, 'daily quota'),
    monthly = within(monthly, -1, 1e12, 'monthly quota'),
  }
end

-- Level and carry of a bucket now, and whether its time is yet to come: the clock has stepped back. It fills to what
-- leases leave of it.
local function refill(level, carry, at, limit, leased)
  local full = max(limit.burst - leased, 0) * MICRO
  if level < 0 then return full, 0 end
  level = min(level, full)
  if carry >= limit.seconds then carry = 0 end
  local elapsed = now - at
  if elapsed <= 0 then return level, level == full and 0 or carry, elapsed < 0 or nil end
  local per, part = floor(limit.tokens / limit.seconds), limit.tokens % limit.seconds
  if per > 0 and elapsed >= ceil((full - level) / per) then return full, 0 end
  -- elapsed is split before it is multiplied, so that no product passes 2^53
  local periods, rest = floor(elapsed / limit.seconds), elapsed % limit.seconds
  local sum = rest * part + carry
  level = level + elapsed * per + periods * part + floor(sum / limit.seconds)
  if level >= full then return full, 0 end
  return level, sum % limit.seconds
end

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

-- The same of what has an hourly quota.
local function enter_hours(o, k, asked, start)
  if asked.owner.hourly then enter_hour(o, o, 'hour', start) end
  if asked.own.hourly then enter_hour(o, k, 'hour:' .. k.id, start) end
end

local function take_of_hour(o, holder, field, cost)
  holder.by_hour = max(holder.by_hour + cost, 0)
  o.writes[field] = string.format(
    '%.0f %.0f %.0f %.0f', holder.hour, holder.by_hour, holder.other_hour, holder.by_other_hour
  )
end

-- Reads what is used of the credits of an owner or of a key. While counters are provisional it is not known.
local function enter_credits(o, k, asked)
  if asked.owner.credits and not o.used then o.used = stored(named(o, 'credits'), MOST) or 0 end
  if asked.own.credits and not k.used then k.used = stored(named(o, 'credits:' .. k.id), MOST) or 0 end
end

local function take_of_credits(o, holder, field, cost)
  holder.used = min(holder.used + cost, MOST)
  o.writes[field] = string.format('%.0f', holder.used)
end

-- What is in the buckets now, in `left` and `part`; `ahead`: the time of a bucket is yet to come.
local function stand(o, k, asked)
  if asked.owner.tokens > 0 then
    o.left, o.part, o.ahead = refill(o.level, o.carry, o.at, asked.owner, held(o))
  else
    o.left, o.part, o.ahead = 0, 0, nil
  end
  if asked.own.tokens > 0 then
    k.left, k.part, k.ahead = refill(k.level, k.carry, k.at, asked.own, held(o, k.id))
  else
    k.left, k.part, k.ahead = 0, 0, nil
  end
end

-- The limits that `cost` does not fit, a bit each; 0: it fits.
local function bits(o, k, asked, calendar, cost)
  local refused, owner, own = 0, asked.owner, asked.own
  if owner.tokens > 0 and o.left < cost * MICRO then refused = 1 end
  if own.tokens > 0 and k.left < cost * MICRO then refused = refused + 8 end
  if calendar then
    if owner.daily >= 0 and o.by_day + cost > owner.daily then refused = refused + 2 end
    if owner.monthly >= 0 and o.by_month + cost > owner.monthly then refused = refused + 4 end
    if own.daily >= 0 and k.cost + cost > own.daily then refused = refused + 16 end
    if own.monthly >= 0 and k.by_month + cost > own.monthly then refused = refused + 32 end
    if owner.hourly and o.by_hour + cost > owner.hourly then refused = refused + 64 end
    if own.hourly and k.by_hour + cost > own.hourly then refused = refused + 128 end
    if owner.credits and (o.unknown or o.used + cost > owner.credits) then refused = refused + 256 end
    if own.credits and (o.unknown or k.used + cost > own.credits) then refused = refused + 512 end
  end
  return refused
end

-- Takes from one bucket, of an owner or of a key. The hash has to be kept until it is full.
local function pour(o, holder, limit, cost)
  local full, brim = limit.burst * MICRO, max(limit.burst - held(o, holder.id), 0) * MICRO
  local level = min(holder.left - cost * MICRO, brim)
  if level == brim then holder.part = 0 end
  holder.left, holder.level, holder.carry, holder.at = level, level, holder.part, now
  local fills = (full - level) / limit.tokens * limit.seconds / 1000 * 1.000001 + 1000
  -- set beyond what is needed, so that it need not be set again by every charge
  if milliseconds + fills > o.expires * 1000 then o.keep = max(o.keep or 0, milliseconds + fills * 1.25) end
end

-- The dates of the hash's counters, with one that is new.
local function with_day(o, date)
  local dates = {}
  for known in string.gmatch(named(o, 'days') or '', '%d%d%d%d%d%d%d%d') do
    if tonumber(known) ~= date then dates[#dates + 1] = known end
  end
  dates[#dates + 1] = string.format('%08d', date)
  table.sort(dates)
  return table.concat(dates, ' ')
end

-- Takes `cost` and `requests` from everything, or gives them back where they are negative. What is taken is written by
-- save.
local function take(o, k, asked, calendar, cost, requests)
  if asked.owner.tokens > 0 then
    pour(o, o, asked.owner, cost)
    o.changed = true
  end
  if asked.own.tokens > 0 then
    pour(o, k, asked.own, cost)
    o.changed, k.changed = true, true
  end
  if not calendar then return end
  o.changed, o.counted, k.changed, k.counted = true, true, true, true
  o.by_day, o.by_month = max(o.by_day + cost, 0), max(o.by_month + cost, 0)
  k.cost, k.by_month = max(k.cost + cost, 0), max(k.by_month + cost, 0)
  k.requests, k.changes = max(k.requests + requests, 0), k.changes + 1
  if asked.owner.hourly then take_of_hour(o, o, 'hour', cost) end
  if asked.own.hourly then take_of_hour(o, k, 'hour:' .. k.id, cost) end
  if asked.owner.credits then take_of_credits(o, o, 'credits', cost) end
  if asked.own.credits then take_of_credits(o, k, 'credits:' .. k.id, cost) end
  if not o.known then
    o.writes.days = with_day(o, o.day)
    o.known = true
  end
  if calendar.expires > o.expires * 1000 then o.keep = max(o.keep or 0, calendar.expires) end
end

-- Buckets whose time is yet to come would not fill until then; from now on they do. The refusal stands in any case.
local function set_back(o, k)
  if o.ahead then o.level, o.carry, o.at, o.turned = o.left, o.part, now, true end
  if k.ahead then k.level, k.carry, k.at, k.changed, o.turned = k.left, k.part, now, true, true end
end

-- Keeps the buckets as they are now, because what comes in from here on may fill another capacity.
local function keep(o, k, asked)
  if asked.owner.tokens > 0 then o.level, o.carry, o.at = o.left, o.part, now end
  if asked.own.tokens > 0 then k.level, k.carry, k.at, k.changed = k.left, k.part, now, true end
  o.turned = true
end

-- Ends leases that are late. What was granted stays charged, since it may have been served; those of the bucket of
-- another key hold it until that key is charged, because only then its limits are known.
local function lapse(o, k, asked)
  if #o.leases == 0 then return end
  local changed, kept, ended = false, {}, nil
  for _, l in ipairs(o.leases) do
    changed = seen(l, now) or changed
    if l.stage == ENDED and (l.key == k.id or l.own == 0) then
      ended = ended or read_leases(named(o, 'lapsed'))
      ended[#ended + 1], changed = l, true
    else
      kept[#kept + 1] = l
    end
  end
  if not changed then return end
  o.leases, o.writes.leases = kept, leases_text(kept)
  if ended then
    while #ended > LAPSED_MAX do table.remove(ended, 1) end
    o.writes.lapsed = leases_text(ended)
  end
  keep(o, k, asked)
end

-- The fields of a hash that stays as an earlier release wrote it.
local function as_text(o)
  local writes = o.writes
  if not o.text_until then writes.text_until = string.format('%.0f', seconds + SIDE_BY_SIDE) end
  if o.level >= 0 then writes.bucket = text(o.level, o.carry, o.at) end
  if o.month > 0 then writes['m:' .. o.month] = string.format('%.0f', o.by_month) end
  for id, k in pairs(o.keys) do
    if k.changed and k.level >= 0 then writes['bucket:' .. id] = text(k.level, k.carry, k.at) end
    if k.counted and k.month > 0 then
      if k.changes > 0 then writes['d:' .. k.day .. ':' .. id] = text(k.cost, k.requests, k.changes) end
      writes['m:' .. k.month .. ':' .. id] = string.format('%.0f', k.by_month)
    end
  end
end

-- Writes what has changed, all of it or nothing; the words of Redis's refusal, or nil.
local function save(o)
  if o.wrong and o.thrown then call('DEL', o.name) end
  if not o.changed and not o.turned then return nil end
  local fields, n, gone = {0, 0, 0, 0, 0, 0}, 0, nil
  if o.keep then o.expires = ceil(o.keep / 1000) end
  if o.text then
    as_text(o)
  else
    fields[1], fields[2], n = 'state', packed_owner(o), 2
    for _, k in pairs(o.keys) do
      if k.changed or k.shifted then
        fields[n + 1], fields[n + 2], n = k.field, packed_key(k), n + 2
      end
    end
  end
  if o.counted then
    fields[n + 1], fields[n + 2], n = 'd:' .. o.day, o.by_day, n + 2
  end
  for field, value in pairs(o.writes) do
    if value then
      fields[n + 1], fields[n + 2], n = field, value, n + 2
    else
      gone = gone or {}
      gone[#gone + 1] = field
    end
  end
  local answer = pcall_redis('HSET', o.name, unpack(fields, 1, n))
  if type(answer) == 'table' and answer.err then return answer.err end
  if gone then call('HDEL', o.name, unpack(gone)) end
  -- never sooner than it was: counters that were given back are kept longer
  local kept = o.keep and ceil(o.keep - milliseconds)
  if kept and call('PTTL', o.name) < kept then call('PEXPIRE', o.name, string.format('%.0f', kept)) end
  return nil
end
