-- Raises a fence: records of a thing that were read with a lower version are not accepted any more.
-- KEYS[1]  the fence's name
-- ARGV[1]  the lowest version to be accepted, above 0
-- ARGV[2]  milliseconds for which older records can be anywhere, above 0
-- returns  the fence as it stands
local fence, milliseconds = tonumber(ARGV[1]), tonumber(ARGV[2])
local standing = redis.pcall('GET', KEYS[1])
local before = type(standing) == 'string' and tonumber(standing)
if before then
  -- Another process may know of longer times; no fence is lowered or shortened.
  milliseconds = math.max(milliseconds, redis.call('PTTL', KEYS[1]))
end
if before and before > fence then
  redis.call('PEXPIRE', KEYS[1], milliseconds)
  return standing
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', milliseconds)
return ARGV[1]
