-- Keeps records, each unless a younger one is there already: a slow reading must not put the past back.
-- KEYS     the records' names
-- ARGV     for each name five in a row:
--   1  the record, a JSON object
--   2  milliseconds that it is good for, above 0
--   3  its version, the number of the read it came from
--   4  "1" if it says that a key is revoked
--   5  its loaded_at in Unix seconds, which decides between two reads of one number
-- returns  how many were kept
local function stays(name, version, revoked, loaded_at)
  local held = redis.pcall('GET', name)
  if type(held) ~= 'string' then
    return false
  end
  local ok, there = pcall(cjson.decode, held)
  if not ok or type(there) ~= 'table' then
    return false
  end
  local other, other_loaded_at = tonumber(there['version']), tonumber(there['loaded_at'])
  if other and (other > version or (other == version and other_loaded_at and other_loaded_at > loaded_at)) then
    return true
  end
  return type(there['revoked_at']) == 'number' and revoked ~= '1'
end

local kept = 0
for place, name in ipairs(KEYS) do
  local at = 5 * place - 4
  if not stays(name, tonumber(ARGV[at + 2]), ARGV[at + 3], tonumber(ARGV[at + 4])) then
    redis.call('SET', name, ARGV[at], 'PX', ARGV[at + 1])
    kept = kept + 1
  end
end
return kept
