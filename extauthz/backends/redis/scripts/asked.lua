-- What is asked of limits: the moment, windows of a calendar, limits as numbers. ARGV are checked here.
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

-- An hourly quota, or credits in total; nil where there is no such limit.
local function further_of(size, what)
  size = within(size, -1, 1e12, what)
  return size >= 0 and size or nil
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
