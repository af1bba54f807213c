-- Removes marks whose counters are saved, unless they were set again.
-- KEYS[1]  usage_due, the sorted set of due.lua
-- ARGV     member and score of each mark, as they were read
-- returns  how many are gone
local gone = 0
for i = 1, #ARGV, 2 do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if score and tonumber(score) == tonumber(ARGV[i + 1]) then
    gone = gone + redis.call('ZREM', KEYS[1], ARGV[i])
  end
end
return gone
