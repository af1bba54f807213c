-- Gives a tenant's counters back what Redis has forgotten, or marks that nobody could say.
--
-- KEYS[1]  tenant_limits:{<tenant>}, the hash of spend.lua
-- ARGV     1 epoch, 2 `known` or `unknown`, 3 milliseconds that the hash is kept at least;
--          then field and value of each counter as PostgreSQL knows it, values as the hash has them
-- returns  1 when the hash was changed, 0 when somebody else was faster
--
-- known: a counter that is here is raised to what PostgreSQL knows; one that was counted on since nobody could say gets
-- what it would have begun with. unknown: counters begin with what is here, which is remembered as was:<field>.
local key, epoch, known = KEYS[1], ARGV[1], ARGV[2] == 'known'

local mark = redis.pcall('HGET', key, 'seeded')
if type(mark) == 'table' then
  if not string.find(mark.err, 'WRONGTYPE', 1, true) then return mark end
  redis.call('DEL', key)
  mark = false
end
if mark == epoch or (mark == epoch .. '?' and not known) then return 0 end
local provisional = mark and string.sub(mark, -1) == '?' -- of any epoch: what was counted since is known here alone

-- Numbers of a counter: one, or the three of a key's day.
local function numbers(value)
  local read = {}
  for number in string.gmatch(value or '', '%d+') do read[#read + 1] = tonumber(number) end
  return read
end

local function text(read)
  local parts = {}
  for i, number in ipairs(read) do parts[i] = string.format('%.0f', number) end
  return table.concat(parts, ' ')
end

if not known and not provisional then
  for _, field in ipairs(redis.call('HKEYS', key)) do
    if string.find(field, '^[dm]:') then redis.call('HSET', key, 'was:' .. field, redis.call('HGET', key, field)) end
  end
end

local dates, seen = {}, {}
local function note(field)
  local date = string.match(field, '^d:(%d%d%d%d%d%d%d%d)') or ''
  if date ~= '' and not seen[date] then dates[#dates + 1], seen[date] = date, true end
end
for date in string.gmatch(redis.call('HGET', key, 'days') or '', '%d+') do note('d:' .. date) end

for i = 4, #ARGV, 2 do
  local field = ARGV[i]
  local base, here = numbers(ARGV[i + 1]), numbers(redis.call('HGET', key, field))
  local was = provisional and numbers(redis.call('HGET', key, 'was:' .. field)) or here
  local sum = {}
  for n, number in ipairs(base) do sum[n] = math.max(number, was[n] or 0) + (here[n] or 0) - (was[n] or 0) end
  redis.call('HSET', key, field, text(sum))
  note(field)
end

if known and provisional then
  for _, field in ipairs(redis.call('HKEYS', key)) do
    if string.find(field, '^was:') then redis.call('HDEL', key, field) end
  end
end
table.sort(dates)
redis.call('HSET', key, 'seeded', known and epoch or epoch .. '?', 'days', table.concat(dates, ' '))
if redis.call('PTTL', key) < tonumber(ARGV[3]) then redis.call('PEXPIRE', key, ARGV[3]) end
return 1
