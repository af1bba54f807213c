-- Writes an owner and its keys back, once at the end of a call.
--
--   local words = save(o)   -- words of Redis's refusal, or nil; nothing is written where nothing was taken
-- The fields of a hash that stays as an earlier release wrote it.
local function as_text(o)
  local writes = o.writes
  if not o.text_until then writes.text_until = string.format('%.0f', seconds + SIDE_BY_SIDE) end
  if o.level >= 0 then writes.bucket = text(o.level, o.carry, o.at) end
  if o.month > 0 then writes['m:' .. o.month] = string.format('%.0f', o.by_month) end
  for id, k in pairs(o.keys) do
    if k.changed and k.level >= 0 then writes['bucket:' .. id] = text(k.level, k.carry, k.at) end
    if k.counted and k.month > 0 then
      if k.changes > 0 then writes['d:' .. k.day .. ':' .. id] = text(k.cost, k.requests, k.changes) end
      writes['m:' .. k.month .. ':' .. id] = string.format('%.0f', k.by_month)
    end
  end
end

-- Writes what has changed, all of it or nothing; the words of Redis's refusal, or nil.
local function save(o)
  if o.wrong and o.thrown then call('DEL', o.name) end
  if not o.changed and not o.turned then return nil end
  local fields, n, gone = {0, 0, 0, 0, 0, 0}, 0, nil
  if o.keep then o.expires = ceil(o.keep / 1000) end
  if o.text then
    as_text(o)
  else
    fields[1], fields[2], n = 'state', packed_owner(o), 2
    for _, k in pairs(o.keys) do
      if k.changed or k.shifted then
        fields[n + 1], fields[n + 2], n = k.field, packed_key(k), n + 2
      end
    end
  end
  if o.counted then
    fields[n + 1], fields[n + 2], n = 'd:' .. o.day, o.by_day, n + 2
  end
  for field, value in pairs(o.writes) do
    if value then
      fields[n + 1], fields[n + 2], n = field, value, n + 2
    else
      gone = gone or {}
      gone[#gone + 1] = field
    end
  end
  local answer = pcall_redis('HSET', o.name, unpack(fields, 1, n))
  if type(answer) == 'table' and answer.err then return answer.err end
  if gone then call('HDEL', o.name, unpack(gone)) end
  -- never sooner than it was: counters that were given back are kept longer
  local kept = o.keep and ceil(o.keep - milliseconds)
  if kept and call('PTTL', o.name) < kept then call('PEXPIRE', o.name, string.format('%.0f', kept)) end
  return nil
end
