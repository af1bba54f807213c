-- Drops counters of days and months long past, unless they have changed since they were read and saved.
-- KEYS[1]  tenant_limits:{<tenant>}, the hash of spend.lua
-- ARGV     1 the day (YYYYMMDD) that is done with when all of these are dropped, or empty;
--          then field and value of each counter, a few hundred at most
-- returns  how many are dropped
local key, day = KEYS[1], ARGV[1]
local dropped = 0
for i = 2, #ARGV, 2 do
  if redis.call('HGET', key, ARGV[i]) == ARGV[i + 1] then dropped = dropped + redis.call('HDEL', key, ARGV[i]) end
end
if day == '' or dropped * 2 < #ARGV - 1 then return dropped end

local all, days = redis.call('HGET', key, 'days'), {}
if not all then return dropped end -- the hash is gone, or another one
for known in string.gmatch(all, '%d+') do
  if known ~= day then days[#days + 1] = known end
end
redis.call('HSET', key, 'days', table.concat(days, ' '))
return dropped
