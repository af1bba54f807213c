-- Gives a hash back the fields of releases before packed states, for workers of such a release. A worker that charges it
-- meanwhile, of either release, goes on with these fields (counters.lua). Behind layout.lua and named.lua.
-- KEYS[1]  tenant_limits:{<tenant>} or address_limits:{<route and address>}
-- ARGV     fields `state:<key>`, a few hundred at most; `state` before all of them
-- returns  how many were unpacked
local hash, count = KEYS[1], 0

local function unpack_bucket(field, held)
  if held.level >= 0 then redis.call('HSET', hash, field, text(held.level, held.carry, held.at)) end
end

for _, field in ipairs(ARGV) do
  local id, held = string.match(field, '^state:(.*)$'), {}
  local value = redis.call('HGET', hash, field)
  if id and read_key(held, value) then
    unpack_bucket('bucket:' .. id, held)
    unpack_key(hash, id)
  elseif field == 'state' and read_owner(held, value) then
    unpack_bucket('bucket', held)
    unpack_owner(hash)
    redis.call('HDEL', hash, 'text_until')
  end
  if id or field == 'state' then count = count + redis.call('HDEL', hash, field) end
end
return count
