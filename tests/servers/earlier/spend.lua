-- Spends from all limits of each asked, or from none of it. Each stands alone: one whose state cannot be used harms no
-- other. The reference arithmetic is core/token_bucket.py.
--
-- KEYS     one hash for each asked: tenant_limits:{<tenant>} or address_limits:{<route and address>}; behind them the
--          charge_once:{<tenant>}:<id> of those that are charged once
-- ARGV     1 epoch: whose memory counters must come from; 2 number of calendars, 3 number of asked;
--          then each calendar: three days and four bounds, three months and four bounds (dates YYYYMMDD, bounds in Unix
--          seconds), blanks between;
--          then for each asked two: numbers with blanks between, and the key's id. The numbers: operation (0 spend, 1 peek,
--          2 refund), calendar (0: none, nothing is counted), place in KEYS of its charge_once (0: none), cost, microsecond
--          of the charge (refund); then limits of the owner and of the key: tokens and seconds of the rate (0 tokens: no
--          bucket), burst, daily and monthly quota (-1: none)
-- returns  {now (microseconds), then 12 for each asked: refused, flags, day, month, level, carry, by day, by month,
--          and the last four of the key; then words of failures}
--          refused: bits 0 to 5 bucket, day, month, and the key's; 0: allowed; -1 no window fits Redis's clock, -2 the
--          counters are not of this epoch: nothing happened then; -3 Redis refused, nothing was taken
--          flags: 1 charged before, 2 provisional; day, month: which of the three (1 without a calendar)
--
-- The hash: `seeded` the epoch (with a ? behind it: provisional); `bucket` and `bucket:<key>` level (micro-tokens), carry
-- (1 / seconds micro-tokens) and at (microseconds); `d:<date>`, `m:<date>` and `m:<date>:<key>` cost; `d:<date>:<key>`
-- cost, requests and number of changes; `days` the dates that have fields.
--
-- Numbers are doubles: everything stays a whole number below 2^53, and every argument is looked at before the first write.
local MICRO = 1000000
local GRACE = 7 * 86400000 -- milliseconds that counters outlive their month, so that they can be saved
local SLACK = 500 -- milliseconds of what is added to the time to full, so that an expiry need not be set at every charge
local ONCE, REPEATS = 10000, 2 -- milliseconds in which a request may be repeated, and how often

local call, pcall_redis = redis.call, redis.pcall
local match, format, floor, max, min = string.match, string.format, math.floor, math.max, math.min

local time = redis.call('TIME')
local now = tonumber(time[1]) * MICRO + tonumber(time[2])

local function within(number, low, high, what)
  number = tonumber(number)
  if not number or number < low or number > high or number ~= math.floor(number) then
    error(what .. ' must be a whole number from ' .. low .. ' to ' .. high)
  end
  return number
end

-- The windows that hold at a microsecond, or nil. Names and bounds: see ARGV.
local function index(bounds, at)
  for i = 1, 3 do
    if bounds[i] * MICRO <= at and at < bounds[i + 1] * MICRO then return i end
  end
  return nil
end

local NUMBER = '(%d+)'
local CALENDAR = '^' .. string.rep(string.rep('(%d%d%d%d%d%d%d%d) ', 3) .. string.rep(NUMBER .. ' ', 4), 2) .. '$'
local function calendar(text)
  local c = {string.match(text .. ' ', CALENDAR)}
  if #c ~= 14 then error('a calendar is not three days, four bounds, three months, four bounds') end
  local read = {days = {c[1], c[2], c[3]}, months = {c[8], c[9], c[10]}, day_bounds = {}, month_bounds = {}}
  for i = 1, 4 do
    read.day_bounds[i] = within(c[3 + i], 0, 4e9, 'a bound')
    read.month_bounds[i] = within(c[10 + i], 0, 4e9, 'a bound')
  end
  read.day, read.month = index(read.day_bounds, now), index(read.month_bounds, now)
  if read.day and read.month then
    read.day_field, read.month_field = 'd:' .. read.days[read.day], 'm:' .. read.months[read.month]
  end
  local last = math.max(read.day_bounds[4], read.month_bounds[4]) * 1000
  read.keep = last - math.floor(now / 1000) + GRACE
  return read
end

local function limits(n, from)
  return {
    tokens = within(n[from], 0, 1e15, 'tokens'),
    seconds = within(n[from + 1], 1, 864000, 'seconds'),
    burst = within(n[from + 2], 0, 1e9, 'burst'),
    daily = within(n[from + 3], -1, 1e12, 'daily quota'),
    monthly = within(n[from + 4], -1, 1e12, 'monthly quota'),
  }
end

-- Most that are asked for in one call ask for the same: that is read once.
local ASKED = '^' .. string.rep('(%-?%d+) ', 15) .. '$'
local read_before = {}
local function read_asked(text, calendars, count)
  local read = read_before[text]
  if read then return read end
  local n = {match(text .. ' ', ASKED)}
  if #n ~= 15 then error('what is asked is not 15 whole numbers') end
  local cal, once = within(n[2], 0, #calendars, 'calendar'), within(n[3], 0, #KEYS - count, 'charge_once')
  read = {
    operation = within(n[1], 0, 2, 'operation'),
    calendar = calendars[cal],
    once = once > 0 and KEYS[count + once] or nil,
    cost = within(n[4], 1, 1e9, 'cost'),
    at = within(n[5], 0, 4e15, 'the time of the charge'),
    owner = limits(n, 6),
    own = limits(n, 11),
  }
  read_before[text] = read
  return read
end

-- What is stored and makes no sense counts as never written.
local function stored(value, high)
  local number = value and match(value, '^%d+$') and tonumber(value)
  if number and number <= high then return number end
  return nil
end

-- Three numbers that are kept together, or nil.
local function three(value, first_high, second_high, third_high)
  local first, second, third = match(value or '', '^(%d+) (%d+) (%d+)$')
  if not first then return nil end
  first, second, third = tonumber(first), tonumber(second), tonumber(third)
  if first <= first_high and second <= second_high and third <= third_high then return first, second, third end
  return nil
end

-- Level and carry of a bucket now, and whether its time is yet to come: the clock has stepped back.
local function refill(value, limit)
  local full = limit.burst * MICRO
  local level, carry, at = three(value, 1e15, 864000, 4e15)
  if not level then return full, 0, false end
  level = math.min(level, full)
  if carry >= limit.seconds then carry = 0 end
  local elapsed = math.max(now - at, 0)
  local per, part = math.floor(limit.tokens / limit.seconds), limit.tokens % limit.seconds
  if per > 0 and elapsed >= math.ceil((full - level) / per) then return full, 0, at > now end
  -- elapsed is split before it is multiplied, so that no product passes 2^53
  local periods, rest = math.floor(elapsed / limit.seconds), elapsed % limit.seconds
  local sum = rest * part + carry
  level = level + elapsed * per + periods * part + math.floor(sum / limit.seconds)
  if level >= full then return full, 0, at > now end
  return level, sum % limit.seconds, at > now
end

local function packed(level, carry, at)
  return string.format('%.0f %.0f %.0f', level, carry, at)
end

-- Milliseconds, rounded up and then some, until a bucket is full.
local function to_full(level, limit)
  return math.ceil((limit.burst * MICRO - level) / limit.tokens * limit.seconds / 1000 * 1.000001) + 1000
end

local function failed(words, failures)
  failures[#failures + 1] = words
  return {-3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
end

-- The dates of the hash's counters, with one that is new.
local function with_day(key, date)
  local dates = {}
  for known in string.gmatch(redis.call('HGET', key, 'days') or '', '%d%d%d%d%d%d%d%d') do
    if known ~= date then dates[#dates + 1] = known end
  end
  dates[#dates + 1] = date
  table.sort(dates)
  return table.concat(dates, ' ')
end

local function bits(asked, s)
  local refused = 0
  local cost, owner, own = asked.cost, asked.owner, asked.own
  if owner.tokens > 0 and s.level < cost * MICRO then refused = 1 end
  if own.tokens > 0 and s.key_level < cost * MICRO then refused = refused + 8 end
  if asked.calendar then
    if owner.daily >= 0 and s.by_day + cost > owner.daily then refused = refused + 2 end
    if owner.monthly >= 0 and s.by_month + cost > owner.monthly then refused = refused + 4 end
    if own.daily >= 0 and s.key_by_day + cost > own.daily then refused = refused + 16 end
    if own.monthly >= 0 and s.key_by_month + cost > own.monthly then refused = refused + 32 end
  end
  return refused
end

-- Takes `cost` and `requests`, or gives them back where they are negative; the words of Redis's refusal, or nil.
local function write(asked, one, s, cost, requests)
  local values, keep = {}, 1000
  local owner, own = asked.owner, asked.own
  if owner.tokens > 0 then
    s.level = min(s.level - cost * MICRO, owner.burst * MICRO)
    if s.level == owner.burst * MICRO then s.carry = 0 end
    values[1], values[2] = 'bucket', packed(s.level, s.carry, now)
    keep = max(keep, to_full(s.level, owner))
  end
  if own.tokens > 0 then
    s.key_level = min(s.key_level - cost * MICRO, own.burst * MICRO)
    if s.key_level == own.burst * MICRO then s.key_carry = 0 end
    values[#values + 1], values[#values + 2] = 'bucket:' .. one.key_id, packed(s.key_level, s.key_carry, now)
    keep = max(keep, to_full(s.key_level, own))
  end
  if asked.calendar then
    local days = not s.known and with_day(one.key, asked.calendar.days[s.day])
    s.by_day, s.by_month = max(s.by_day + cost, 0), max(s.by_month + cost, 0)
    s.key_by_day, s.key_by_month = max(s.key_by_day + cost, 0), max(s.key_by_month + cost, 0)
    local n = #values
    values[n + 1], values[n + 2] = s.day_field, s.by_day
    values[n + 3], values[n + 4] = s.month_field, s.by_month
    values[n + 5] = s.key_day_field
    values[n + 6] = packed(s.key_by_day, max(s.requests + requests, 0), s.changes + 1)
    values[n + 7], values[n + 8] = s.key_month_field, s.key_by_month
    if days then values[n + 9], values[n + 10] = 'days', days end
    keep = max(keep, asked.calendar.keep)
  end
  if #values == 0 then return nil end
  local answer = pcall_redis('HSET', one.key, unpack(values))
  if type(answer) == 'table' and answer.err then return answer.err end
  -- never sooner than it was: the bucket of another key may need longer
  if call('PTTL', one.key) + SLACK < keep then call('PEXPIRE', one.key, format('%.0f', keep)) end
  return nil
end

-- Buckets whose time is yet to come would not fill until then; from now on they do. The refusal stands in any case.
local function set_back(one, s)
  local values = {}
  if s.ahead then values = {'bucket', packed(s.level, s.carry, now)} end
  if s.key_ahead then
    values[#values + 1], values[#values + 2] = 'bucket:' .. one.key_id, packed(s.key_level, s.key_carry, now)
  end
  pcall_redis('HSET', one.key, unpack(values))
end

local function read_state(asked, one, day, month)
  local cal = asked.calendar
  local s = {day = day or 1, month = month or 1, requests = 0, changes = 0, known = false}
  local state
  if cal then
    local of_day, of_month = cal.day_field, cal.month_field
    if asked.operation == 2 then of_day, of_month = 'd:' .. cal.days[day], 'm:' .. cal.months[month] end
    s.day_field, s.month_field = of_day, of_month
    s.key_day_field, s.key_month_field = of_day .. ':' .. one.key_id, of_month .. ':' .. one.key_id
    state = pcall_redis(
      'HMGET', one.key, 'bucket', 'bucket:' .. one.key_id, 'seeded', of_day, of_month, s.key_day_field, s.key_month_field
    )
  else
    state = pcall_redis('HMGET', one.key, 'bucket', 'bucket:' .. one.key_id)
  end
  if state.err then
    if not string.find(state.err, 'WRONGTYPE', 1, true) then return nil, state.err end
    if asked.operation ~= 1 then call('DEL', one.key) end -- thrown away, and seeded again
    state = {}
  end
  s.level, s.carry, s.key_level, s.key_carry = 0, 0, 0, 0
  if asked.owner.tokens > 0 then s.level, s.carry, s.ahead = refill(state[1], asked.owner) end
  if asked.own.tokens > 0 then s.key_level, s.key_carry, s.key_ahead = refill(state[2], asked.own) end
  s.seeded = state[3]
  local by_day = stored(state[4], 9e15)
  s.known = by_day ~= nil
  s.by_day, s.by_month = by_day or 0, stored(state[5], 9e15) or 0
  s.key_by_day, s.requests, s.changes = three(state[6], 9e15, 9e15, 9e15)
  if not s.key_by_day then s.key_by_day, s.requests, s.changes = 0, 0, 0 end
  s.key_by_month = stored(state[7], 9e15) or 0
  return s, nil
end

local function run(one, epoch, failures)
  local asked = one.asked
  local cal = asked.calendar
  local day, month = cal and cal.day, cal and cal.month
  if cal and asked.operation == 2 then day, month = index(cal.day_bounds, asked.at), index(cal.month_bounds, asked.at) end
  if cal and not (day and month) then return {-1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0} end
  local s, words = read_state(asked, one, day, month)
  if not s then return failed(words, failures) end
  local flags = 0
  if cal and s.seeded == epoch .. '?' then
    flags = 2
  elseif cal and s.seeded ~= epoch then
    return {-2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
  end
  local refused = 0
  local seen = nil
  if asked.once and asked.operation == 0 then
    local answer = pcall_redis('GET', asked.once)
    seen = type(answer) == 'string' and stored(answer, 9) or nil
  end
  if seen and seen < REPEATS then
    local answer = pcall_redis('INCR', asked.once)
    words = type(answer) == 'table' and answer.err or nil
    flags = flags + 1
  elseif asked.operation == 2 then
    words = write(asked, one, s, -asked.cost, -1)
  else
    refused = bits(asked, s)
    if refused == 0 and asked.operation == 0 then
      words = write(asked, one, s, asked.cost, 1)
      if asked.once and not seen and not words then pcall_redis('SET', asked.once, '0', 'PX', ONCE) end
    elseif asked.operation == 0 and (s.ahead or s.key_ahead) then
      set_back(one, s)
    end
  end
  if words then return failed(words, failures) end
  return {
    refused, flags, s.day, s.month, s.level, s.carry, s.by_day, s.by_month,
    s.key_level, s.key_carry, s.key_by_day, s.key_by_month,
  }
end

local epoch = ARGV[1]
local calendar_count = within(ARGV[2], 0, 1000, 'the number of calendars')
local count = within(ARGV[3], 0, #KEYS, 'the number of asked')
if #ARGV ~= 3 + calendar_count + 2 * count then error('wrong number of arguments') end
local calendars, all = {}, {}
for i = 1, calendar_count do calendars[i] = calendar(ARGV[3 + i]) end
for i = 1, count do
  local base = 3 + calendar_count + 2 * i
  all[i] = {asked = read_asked(ARGV[base - 1], calendars, count), key = KEYS[i], key_id = ARGV[base]}
end

local reply, failures = {now}, {}
for i = 1, count do
  local result, base = run(all[i], epoch, failures), 12 * i - 11
  for j = 1, 12 do reply[base + j] = result[j] end
end
for _, words in ipairs(failures) do reply[#reply + 1] = words end
return reply
