-- What some keys of a tenant were charged on its newest two days, and what is used of credits, all of one moment.
-- Behind layout.lua and named.lua.
-- KEYS[1]  tenant_limits:{<tenant>}
-- ARGV     ids of keys, a few hundred at most; none: only state, days and the tenant's credits are asked for
-- returns  {state, days, what is used of the tenant's credits and of those of each key (where state is 2), then for each of the newest two days, oldest first, what each key was charged on it: "cost requests changes"}
--          state: 0 nothing is there, 1 not to be saved yet, since it was counted without knowing what was before,
--          2 to be saved; days: all dates that have fields, ascending, blanks between
local key = KEYS[1]
local seeded = redis.pcall('HMGET', key, 'seeded', 'days')
if seeded.err or (not seeded[1] and redis.call('EXISTS', key) == 0) then return {0, ''} end
-- What another server has counted is as good: a row is replaced by more changes only. What was counted without knowing
-- what was before is not.
if string.sub(seeded[1] or '?', -1) == '?' then return {1, seeded[2] or ''} end

local days = {}
for day in string.gmatch(seeded[2] or '', '%d+') do days[#days + 1] = day end
local reply = {2, table.concat(days, ' ')}
local counts = {'credits'}
for i = 1, #ARGV do counts[i + 1] = 'credits:' .. ARGV[i] end
for i, used in ipairs(redis.call('HMGET', key, unpack(counts))) do reply[2 + i] = used end
if #ARGV == 0 then return reply end
local names = {}
for i = 1, #ARGV do names[i] = 'state:' .. ARGV[i] end
local states = redis.call('HMGET', key, unpack(names))
for i = math.max(#days - 1, 1), #days do
  local fields = {}
  for k = 1, #ARGV do fields[k] = 'd:' .. days[i] .. ':' .. ARGV[k] end
  for k, value in ipairs(redis.call('HMGET', key, unpack(fields))) do
    reply[#reply + 1] = of_day(value, states[k], tonumber(days[i]))
  end
end
return reply
