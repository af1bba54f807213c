-- Restores a tenant's counters that Redis has lost, some fields a call. A call that comes twice changes nothing.
--
-- Behind layout.lua and named.lua.
-- KEYS[1]  tenant_limits:{<tenant>}
-- ARGV     1 epoch, 2 milliseconds that the hash is kept at least, 3 `last` where nothing more is to come, else `more`;
--          then field and value of counters of keys and of credits, as PostgreSQL has them; a few hundred at most
-- returns  0 another call was faster; 1 done; 2 done, and fields was:<field> are left (provisional.lua drops them)
--
-- Credits are raised to what PostgreSQL has: nothing is taken from them while they are not known.
-- A counter that is here is raised to what PostgreSQL has. One that was counted on while PostgreSQL was away gets what it
-- would have begun with: was:<field> is what it did begin with. The organization is raised by what its keys are raised by.
local FEW = 800 -- fields that one call may look at without holding Redis
local key, epoch, last = KEYS[1], ARGV[1], ARGV[3] == 'last'

local mark = redis.pcall('HGET', key, 'seeded')
if type(mark) == 'table' then
  if not string.find(mark.err, 'WRONGTYPE', 1, true) then return mark end
  redis.call('DEL', key)
  mark = false
end
if mark == epoch then return 0 end
-- A ? of another epoch says nothing: an old copy of a hash may have been completed and saved since it was made.
local provisional, beginning = mark == epoch .. '?', mark == epoch .. '~?'
if not mark and redis.call('EXISTS', key) == 0 then begin_packed(key) end
unpack_owner(key)

-- Numbers of a counter: one, or the three of a key's day.
local function numbers(value)
  local read = {}
  for number in string.gmatch(value or '', '%d+') do read[#read + 1] = tonumber(number) end
  return read
end

local function joined(read)
  local parts = {}
  for i, number in ipairs(read) do parts[i] = string.format('%.0f', number) end
  return table.concat(parts, ' ')
end

local dates, seen = {}, {}
local function note(date)
  if date and not seen[date] then dates[#dates + 1], seen[date] = date, true end
end
for date in string.gmatch(redis.call('HGET', key, 'days') or '', '%d+') do note(date) end

local owners, by = {}, {} -- fields of the organization, and what each is raised by
local function raise(owner, more)
  if not by[owner] then owners[#owners + 1], by[owner] = owner, 0 end
  by[owner] = by[owner] + more
end

local fields, was_fields = {}, {}
for i = 4, #ARGV, 2 do
  fields[#fields + 1], was_fields[#was_fields + 1] = ARGV[i], 'was:' .. ARGV[i]
end
local writes = {}
local function write(field, value)
  writes[#writes + 1], writes[#writes + 2] = field, value
end

local unpacked_keys = {}
for _, field in ipairs(fields) do
  local id = string.match(field, '^[dm]:%d+:(.+)$')
  if id and not unpacked_keys[id] then
    unpacked_keys[id] = true
    unpack_key(key, id)
  end
end
if #fields > 0 then
  local here = redis.call('HMGET', key, unpack(fields))
  local was = provisional and redis.call('HMGET', key, unpack(was_fields)) or here
  for i, field in ipairs(fields) do
    local known, begun, now = numbers(ARGV[3 + 2 * i]), numbers(was[i]), numbers(here[i])
    local credits = string.match(field, '^credits')
    if credits then begun = now end
    local base, sum = {}, {}
    for n, number in ipairs(known) do
      base[n] = math.max(number, begun[n] or 0)
      sum[n] = (now[n] or 0) + base[n] - (begun[n] or 0)
    end
    write(field, joined(sum))
    if not credits then
      if provisional or beginning then write(was_fields[i], joined(base)) end
      raise(string.match(field, '^[dm]:%d+'), (sum[1] or 0) - (now[1] or 0))
      note(string.match(field, '^d:(%d+)'))
    end
  end
  for _, owner in ipairs(owners) do
    write(owner, joined({(numbers(redis.call('HGET', key, owner))[1] or 0) + by[owner]}))
    if provisional or beginning then
      write('was:' .. owner, joined({(numbers(redis.call('HGET', key, 'was:' .. owner))[1] or 0) + by[owner]}))
    end
  end
end
table.sort(dates)
write('days', table.concat(dates, ' '))
if last then write('seeded', epoch) end
redis.call('HSET', key, unpack(writes))
if redis.call('PTTL', key) < tonumber(ARGV[2]) then redis.call('PEXPIRE', key, ARGV[2]) end

if not last or string.sub(mark or '', -1) ~= '?' then return 1 end
if redis.call('HLEN', key) > FEW then return 2 end
local over = {}
for _, field in ipairs(redis.call('HKEYS', key)) do
  if string.find(field, '^was:') then over[#over + 1] = field end
end
if #over > 0 then redis.call('HDEL', key, unpack(over)) end
return 1
