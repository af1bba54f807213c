-- Spends from all limits of one tenant, or from none. The reference arithmetic is core/spend.py.
--
-- KEYS[1]  tenant_limits:{<tenant>}, a hash: level (micro-tokens), carry (1 / seconds micro-tokens), at (microseconds),
--          and one counter for each window, by its field
-- ARGV     1 cost, 2 tokens and 3 seconds of the rate (0 tokens: no bucket), 4 burst, 5 number of quotas;
--          then for each quota: limit (-1: count only) and three windows of field, start, end (microseconds)
-- returns  {refused, now, level, carry, used, window, used, window, ...}
--          refused: bit 0 the bucket, bit i quota i; 0: taken; -1: no window fits Redis's clock, nothing happened
--          window: which of the three (1 to 3)
--
-- Numbers are doubles: everything stays a whole number below 2^53, and every argument is looked at before the first write.
local MICRO = 1000000
local GRACE = 86400000

local function whole(index, low, high)
  local text = ARGV[index]
  local number = text and string.match(text, '^-?%d+$') and tonumber(text)
  if not number or number < low or number > high then
    error('argument ' .. index .. ' is no whole number from ' .. low .. ' to ' .. high)
  end
  return number
end

local function text(number)
  return string.format('%.0f', number)
end

-- What is stored and makes no sense counts as never written.
local function stored(value, high)
  local number = value and string.match(value, '^%d+$') and tonumber(value)
  if number and number <= high then return number end
  return nil
end

local key = KEYS[1]
local cost = whole(1, 1, 1e9)
local tokens = whole(2, 0, 1e15)
local seconds = whole(3, 1, 864000)
local burst = whole(4, 0, 1e9)
local count = whole(5, 0, 16)

local time = redis.call('TIME')
local now = tonumber(time[1]) * MICRO + tonumber(time[2])

-- the window of each quota that holds now
local quotas = {}
local last_end = now
for i = 1, count do
  local base = 6 + (i - 1) * 10
  local quota = {limit = whole(base, -1, 1e12), known = {}}
  for w = 1, 3 do
    local field = ARGV[base + w * 3 - 2]
    local first, after = whole(base + w * 3 - 1, 0, 4e15), whole(base + w * 3, 0, 4e15)
    quota.known[field] = true
    if first <= now and now < after then
      quota.field, quota.window = field, w
      if after > last_end then last_end = after end
    end
  end
  if not quota.field then return {-1, now, 0, 0} end
  quotas[i] = quota
end

-- state of the wrong type is thrown away and seeded again
local fields = {'level', 'carry', 'at'}
for i = 1, count do fields[3 + i] = quotas[i].field end
local state = redis.pcall('HMGET', key, unpack(fields))
if state.err then
  if not string.find(state.err, 'WRONGTYPE', 1, true) then return state end
  redis.call('DEL', key)
  state = {}
end

-- refill
local refused = 0
local level, carry = 0, 0
local full = burst * MICRO
if tokens > 0 then
  level = stored(state[1], 1e15)
  local at = stored(state[3], 4e15)
  if not level or not at then
    level = full
  else
    level = math.min(level, full)
    carry = stored(state[2], seconds - 1) or 0
    local elapsed = math.max(now - at, 0)
    local per, part = math.floor(tokens / seconds), tokens % seconds
    if per > 0 and elapsed >= math.ceil((full - level) / per) then
      level, carry = full, 0
    else
      -- elapsed is split before it is multiplied, so that no product passes 2^53
      local periods, rest = math.floor(elapsed / seconds), elapsed % seconds
      local sum = rest * part + carry
      level = level + elapsed * per + periods * part + math.floor(sum / seconds)
      carry = sum % seconds
      if level >= full then level, carry = full, 0 end
    end
  end
  if level < cost * MICRO then refused = refused + 1 end
end

-- check every quota
local bit = 1
for i = 1, count do
  bit = bit * 2
  local quota = quotas[i]
  quota.used = stored(state[3 + i], 9e15) or 0
  if quota.limit >= 0 and quota.used + cost > quota.limit then refused = refused + bit end
end

-- take from all
if refused == 0 then
  local write = {}
  local keep = (last_end - now) / 1000 + GRACE
  if tokens > 0 then
    level = level - cost * MICRO
    write = {'level', text(level), 'carry', text(carry), 'at', text(now)}
    keep = math.max(keep, (full - level) / tokens * seconds / 1000 * 1.000001 + 1000)
  end
  local first_of_window = false
  for i = 1, count do
    local quota = quotas[i]
    first_of_window = first_of_window or quota.used == 0
    quota.used = quota.used + cost
    write[#write + 1] = quota.field
    write[#write + 1] = text(quota.used)
  end
  if #write > 0 then
    redis.call('HSET', key, unpack(write))
    redis.call('PEXPIRE', key, text(math.ceil(keep)))
  end
  -- counters of windows long past go when a new window begins
  if first_of_window then
    for _, field in ipairs(redis.call('HKEYS', key)) do
      local known = not string.find(field, ':', 1, true)
      for i = 1, count do known = known or quotas[i].known[field] end
      if not known then redis.call('HDEL', key, field) end
    end
  end
end

local reply = {refused, now, level, carry}
for i = 1, count do
  reply[#reply + 1] = quotas[i].used
  reply[#reply + 1] = quotas[i].window
end
return reply
