-- Begins a tenant's counters while PostgreSQL is away: they begin with what is here, which is remembered as
-- was:<field>, so that seed.lua can complete them. Many fields are remembered in several calls; nothing is charged
-- before the last one.
--
-- Behind layout.lua and named.lua.
-- KEYS[1]  tenant_limits:{<tenant>}
-- ARGV     1 epoch, 2 milliseconds that the hash is kept at least, 3 what to do:
--          `begin`     all of it, or the first step of it
--          `remember`  behind it names of fields, a few hundred at most: what these counters begin with
--          `begun`     the last step
--          `forget`    behind it fields was:<field>, which go once all is known
-- returns  1 there are many fields: each is to be remembered now, then `begun`; else 0
local FEW = 800 -- fields that one call may look at without holding Redis
local key, epoch, action = KEYS[1], ARGV[1], ARGV[3]

local mark = redis.pcall('HGET', key, 'seeded')
if type(mark) == 'table' then
  if not string.find(mark.err, 'WRONGTYPE', 1, true) then return mark end
  redis.call('DEL', key)
  mark = false
end

if action == 'forget' then
  if mark == epoch and #ARGV > 3 then redis.call('HDEL', key, unpack(ARGV, 4)) end
  return 0
end
if mark == epoch or mark == epoch .. '?' then return 0 end

-- While nothing can be charged, was:<field> is what the field is; one without its field is of an earlier time. Counters
-- of packed states are moved into their fields first.
local function remember(fields)
  local all = {}
  for _, field in ipairs(fields) do
    local id = string.match(field, '^state:(.*)$')
    local moved = id and unpack_key(key, id) or field == 'state' and unpack_owner(key) or {field}
    for _, name in ipairs(moved) do all[#all + 1] = name end
  end
  for _, field in ipairs(all) do
    local name = string.match(field, '^was:([dm]:.+)') or string.match(field, '^[dm]:.+')
    local value = name and redis.call('HGET', key, name)
    if value then
      redis.call('HSET', key, 'was:' .. name, value)
    elseif name then
      redis.call('HDEL', key, 'was:' .. name)
    end
  end
end

local beginning = epoch .. '~?'
if action == 'begin' then
  if not mark and redis.call('EXISTS', key) == 0 then begin_packed(key) end
  local many = redis.call('HLEN', key) > FEW
  if not many then remember(redis.call('HKEYS', key)) end
  redis.call('HSET', key, 'seeded', many and beginning or epoch .. '?')
  redis.call('HSETNX', key, 'days', '')
  if redis.call('PTTL', key) < tonumber(ARGV[2]) then redis.call('PEXPIRE', key, ARGV[2]) end
  return many and 1 or 0
end
if mark ~= beginning then return 0 end -- another call was faster, or all is lost once more
if action == 'remember' then
  local fields = {}
  for i = 4, #ARGV do fields[#fields + 1] = ARGV[i] end
  remember(fields)
  return 1
end
redis.call('HSET', key, 'seeded', epoch .. '?')
return 0
