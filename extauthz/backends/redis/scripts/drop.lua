-- Drops counters of days and months long past, unless they have changed since they were read and saved.
-- Behind layout.lua and named.lua.
-- KEYS[1]  tenant_limits:{<tenant>}
-- ARGV     1 the day (YYYYMMDD) that is done with when all of these are dropped, or empty;
--          then field and value of each counter, a few hundred at most: by its name, wherever it is kept
-- returns  how many are dropped
local key, day = KEYS[1], ARGV[1]

-- Drops a key's counter; what is left of its packed state is kept while it has a bucket or another counter.
local function drop_of_key(kind, date, id, field, value)
  local k, name, here = {}, 'state:' .. id, redis.call('HGET', key, field)
  local packed = read_key(k, redis.call('HGET', key, name))
  if packed and kind == 'd' and k.day == date then
    here = sum(here, k.cost, k.requests, k.changes)
    k.day, k.cost, k.requests, k.changes = 0, 0, 0, 0
  elseif packed and kind == 'm' and k.month == date then
    here = of_month(here, k.by_month)
    k.month, k.by_month = 0, 0
  else
    packed = false
  end
  if here ~= value then return 0 end
  redis.call('HDEL', key, field)
  if packed and k.level < 0 and k.day == 0 and k.month == 0 then
    redis.call('HDEL', key, name, 'hour:' .. id)
  elseif packed then
    redis.call('HSET', key, name, packed_key(k))
  end
  return 1
end

local function drop_of_owner(date, field, value)
  local o, here = {}, redis.call('HGET', key, field)
  local packed = read_owner(o, redis.call('HGET', key, 'state')) and o.month == date
  if packed then here = of_month(here, o.by_month) end
  if here ~= value then return 0 end
  redis.call('HDEL', key, field)
  if packed then
    o.month, o.by_month = 0, 0
    redis.call('HSET', key, 'state', packed_owner(o))
  end
  return 1
end

local dropped = 0
for i = 2, #ARGV, 2 do
  local field, value = ARGV[i], ARGV[i + 1]
  local kind, date, id = string.match(field, '^([dm]):(%d+):(.+)$')
  if id then
    dropped = dropped + drop_of_key(kind, tonumber(date), id, field, value)
  elseif string.find(field, '^m:') then
    dropped = dropped + drop_of_owner(tonumber(string.sub(field, 3)), field, value)
  elseif redis.call('HGET', key, field) == value then
    dropped = dropped + redis.call('HDEL', key, field)
  end
end
if day == '' or dropped * 2 < #ARGV - 1 then return dropped end

local all, days = redis.call('HGET', key, 'days'), {}
if not all then return dropped end -- the hash is gone, or another one
for known in string.gmatch(all, '%d+') do
  if known ~= day then days[#days + 1] = known end
end
redis.call('HSET', key, 'days', table.concat(days, ' '))
return dropped
