-- Does to one name what the other scripts, and whatever saves usage, do to names of its kind. The first refusal is the
-- answer; nothing is left behind.
-- KEYS[1]  a name that no tenant and no key has (`usage_due` alone is the real one, and stays as it is)
-- ARGV[1]  `hash`, `string` or `set`
-- returns  1
local key, kind = KEYS[1], ARGV[1]
local now = redis.call('TIME')[1]

-- The first command is one that a full memory refuses: after another write Redis no longer looks.
local function write_first(...)
  local answer = redis.pcall(...)
  if type(answer) ~= 'table' or not answer.err then return end
  if not string.find(answer.err, 'WRONGTYPE', 1, true) then error(answer, 0) end
  redis.call('DEL', key)
  redis.call(...)
end

if kind == 'hash' then
  write_first('HSET', key, 'seen', now)
  redis.call('PEXPIRE', key, 60000)
  for _, command in ipairs({'HLEN', 'HKEYS', 'PTTL', 'EXISTS'}) do redis.call(command, key) end
  for _, command in ipairs({'HGET', 'HMGET', 'HDEL'}) do redis.call(command, key, 'seen') end
  redis.call('HSETNX', key, 'seen', now)
  redis.call('HSCAN', key, '0')
  redis.call('DEL', key)
elseif kind == 'string' then
  write_first('SET', key, '0', 'PX', 60000)
  redis.call('INCR', key)
  redis.call('PEXPIRE', key, 60000)
  for _, command in ipairs({'GET', 'PTTL', 'DEL'}) do redis.call(command, key) end
else
  write_first('ZADD', key, 'XX', now, '.')
  redis.call('ZRANGE', key, 0, 0)
  redis.call('ZSCORE', key, '.')
  redis.call('ZREM', key, '.')
end
return 1
