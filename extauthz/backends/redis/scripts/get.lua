-- Reads many values at once, and tells a value of another type from none, as MGET does not.
-- KEYS     the names
-- returns  for each its text, nothing where there is none, and `null` where there is a value of another type
local found = {}
for place, name in ipairs(KEYS) do
  local value = redis.pcall('GET', name)
  if type(value) == 'table' then
    if not string.find(value.err, 'WRONGTYPE', 1, true) then
      return value
    end
    value = 'null'
  end
  found[place] = value
end
return found
