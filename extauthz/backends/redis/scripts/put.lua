-- Keeps a record, unless a younger one is there already: who was slow must not put the past back.
-- KEYS[1]  the record's name
-- ARGV[1]  the record, a JSON object
-- ARGV[2]  milliseconds that it is good for, above 0
-- ARGV[3]  its version, the number of the read it came from
-- ARGV[4]  "1" if it says that a key is revoked
-- ARGV[5]  its loaded_at in Unix seconds, which decides between two reads of one number
-- returns  1 if it was kept, 0 if what was there stays
local held = redis.pcall('GET', KEYS[1])
if type(held) == 'string' then
  local ok, there = pcall(cjson.decode, held)
  if ok and type(there) == 'table' then
    local version, asked = tonumber(there['version']), tonumber(ARGV[3])
    local loaded_at = tonumber(there['loaded_at'])
    if version and (version > asked or (version == asked and loaded_at and loaded_at > tonumber(ARGV[5]))) then
      return 0
    end
    if type(there['revoked_at']) == 'number' and ARGV[4] ~= '1' then
      return 0
    end
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
