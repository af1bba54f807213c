-- Marks keys whose usage is to be saved.
-- KEYS[1]  usage_due, a sorted set: "<tenant>", line feed, "<key id>", by the second (Unix) of the last mark
-- ARGV     the members to mark
-- returns  how many were marked
local time = redis.call('TIME')
local now = time[1] .. '.' .. string.format('%06d', time[2])

for _, member in ipairs(ARGV) do
  local answer = redis.pcall('ZADD', KEYS[1], now, member)
  if type(answer) == 'table' then
    if not string.find(answer.err, 'WRONGTYPE', 1, true) then return answer end
    redis.call('DEL', KEYS[1])
    redis.call('ZADD', KEYS[1], now, member)
  end
end
return #ARGV
