-- Spends from all limits of each asked, or from none of it. Each stands alone: one whose state cannot be used harms no
-- other. Behind the texts of scripts.CHARGING, which keep the state.
--
-- KEYS     tenant_limits:{<tenant>} or address_limits:{<route and address>}, each hash once, and the
--          charge_once:{<tenant>}:<id> of those that are charged once
-- ARGV     1 epoch: whose memory counters must come from
--          2 one string: for each asked five numbers (two bytes each, little endian), places of its limits in 3, of its
--          hash in KEYS, of its key's id and of its calendar behind 4 (0: none, nothing is counted), and of its
--          charge_once in KEYS (0: none)
--          3 one string: for each kind of limits 12 numbers (doubles, little endian): operation (0 spend, 1 peek), cost;
--          then of the owner and of the key: tokens and seconds of the rate (0 tokens: no bucket), burst, daily and
--          monthly quota (-1: none). Where there are hourly quotas or credits, 8 is added to the operation, and 12
--          more follow: hourly quota of the owner and of the key, credits of the owner and of the key (-1: none), the
--          rest 0
--          4 number of ids; then ids of keys; then calendars: three days and four bounds, three months and four bounds
--          (dates YYYYMMDD, bounds in Unix seconds), blanks between; four bounds of hours behind, where there are hourly
--          quotas
-- returns  {now (microseconds), one string, then words of failures}. The string holds 12 numbers for each asked, little
--          endian: refused (two bytes), flags, day, month (one byte each, all signed), level, carry, by day, by month, and
--          the last four of the key (eight bytes each); behind all of them, for each asked with 12 more numbers, the
--          hour (one byte), and its count of the owner and of the key (eight bytes each); with credits, what is used of
--          those of the owner and of the key (eight bytes each) behind that
--          refused: bits 0 to 5 bucket, day, month, and the key's, 6 and 7 hour, and the key's, 8 and 9 credits, and the
--          key's (all of them while the counters are provisional); 0: allowed; -1 no window
--          fits Redis's clock, -2 the counters are not of this epoch: nothing happened then; -3 Redis refused, nothing
--          was taken
--          flags: 1 charged before, 2 provisional, 8 the hour is not the second one; day, month, hour: which of the three
--          (1 without a calendar; 2 where no hour is counted)
--
-- Every argument is looked at before the first write.
local PLACES, NUMBERS, ROW = '<I2I2I2I2I2', '<' .. string.rep('d', 12), '<i2bbbi8i8i8i8i8i8i8i8'
local FURTHER, CREDITS = '<bi8i8', '<i8i8'
local PLACES_SIZE, NUMBERS_SIZE = 10, 96
local ONCE, REPEATS = 10000, 2 -- milliseconds in which a request may be repeated, and how often

local epoch, places, kinds = ARGV[1], ARGV[2], ARGV[3]
local provisional = epoch .. '?'
local failures, further = {}, {}

local function failed(i, words)
  failures[i] = words
  return -3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
end

-- One kind of limits, and where the next one is.
local function read_asked(position)
  local operation, cost, a, b, c, d, e, f, g, h, i, j = unpacked(NUMBERS, kinds, position)
  local longer = operation >= 8
  local asked = {
    operation = within(longer and operation - 8 or operation, 0, 1, 'operation'),
    cost = within(cost, 1, 1e9, 'cost'),
    owner = limits_of(a, b, c, d, e),
    own = limits_of(f, g, h, i, j),
    longer = longer,
  }
  position = position + NUMBERS_SIZE
  if longer then
    local of_owner, of_key, credits, key_credits = unpacked(NUMBERS, kinds, position)
    asked.owner.hourly, asked.own.hourly = further_of(of_owner, 'hourly quota'), further_of(of_key, 'hourly quota')
    asked.owner.credits, asked.own.credits = further_of(credits, 'credits'), further_of(key_credits, 'credits')
    asked.hourly = asked.owner.hourly or asked.own.hourly
    asked.credited = asked.owner.credits or asked.own.credits
    position = position + NUMBERS_SIZE
  end
  return asked, position
end

-- A request that may have been charged before, by the name of its charge_once.
local function charged_before(o, name)
  o.once = o.once or {}
  local once = o.once[name]
  if not once then
    local answer = pcall_redis('GET', name)
    once = {seen = type(answer) == 'string' and stored(answer, 9) or nil, repeats = {}}
    o.once[name] = once
  end
  return once
end

-- What a longer row has behind all others.
local function further_row(o, k, asked, hour)
  local owner, own = asked.owner, asked.own
  local row = pack(FURTHER, hour, owner.hourly and o.by_hour or 0, own.hourly and k.by_hour or 0)
  if not asked.credited then return row end
  return row .. pack(CREDITS, owner.credits and o.used or 0, own.credits and k.used or 0)
end

local function run(i, o, id, asked, calendar, once_name)
  local operation, cost, longer = asked.operation, asked.cost, asked.longer
  local day, month, hour = 1, 1, 2
  if longer then further[i] = pack(FURTHER, 0, 0, 0) .. (asked.credited and pack(CREDITS, 0, 0) or '') end
  if calendar then
    day, month = calendar.day, calendar.month
    if longer and asked.hourly then hour = calendar.hour end
    if not (day and month and hour) then return -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 end
  end
  local k = key_of(o, id, calendar and calendar.days[day])
  if not k then return failed(i, o.words) end
  if o.wrong and operation ~= 1 then o.thrown = true end
  local flags = 0
  if calendar then
    if o.seeded == provisional then
      flags, o.unknown = 2, true
    elseif o.seeded ~= epoch then
      return -2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    end
    enter(o, k, calendar.days[day], calendar.months[month])
    if longer then
      enter_further(o, k, asked, asked.hourly and calendar.hour_bounds[hour])
      if hour ~= 2 then flags = flags + 8 end
    end
  end
  stand(o, k, asked)
  if operation ~= 1 then lapse(o, k, asked) end
  local refused = 0
  local once = once_name and operation == 0 and charged_before(o, once_name)
  if once and once.seen and once.seen < REPEATS then
    once.seen, flags = once.seen + 1, flags + 1
    once.repeats[#once.repeats + 1] = i
  else
    refused = bits(o, k, asked, calendar, cost)
    if refused == 0 and operation == 0 then
      if o.refused then return failed(i, o.refused) end
      take(o, k, asked, calendar, cost, 1)
      if once and not once.seen then once.seen, once.new = 0, true end
    elseif operation == 0 and (o.ahead or k.ahead) then
      set_back(o, k)
    end
  end
  if longer then further[i] = further_row(o, k, asked, hour) end
  if not calendar then return refused, flags, day, month, o.left, o.part, 0, 0, k.left, k.part, 0, 0 end
  return refused, flags, day, month, o.left, o.part, o.by_day, o.by_month, k.left, k.part, k.cost, k.by_month
end

local count = #places / PLACES_SIZE
local id_count = within(ARGV[4], 0, #ARGV - 4, 'the number of ids')
if count ~= floor(count) or #kinds % NUMBERS_SIZE ~= 0 then error('wrong number of bytes') end
local calendars, all_asked = {}, {}
for i = 5 + id_count, #ARGV do calendars[i - 4 - id_count] = read_calendar(ARGV[i]) end
local position = 1
while position <= #kinds do all_asked[#all_asked + 1], position = read_asked(position) end

-- What is asked at a place: what `run` takes, but for its first argument.
local function asked_at(i)
  local kind, hash, id, calendar, once = unpacked(PLACES, places, PLACES_SIZE * (i - 1) + 1)
  local asked, name, key_id = all_asked[kind], KEYS[hash], id <= id_count and ARGV[4 + id]
  if not (asked and name and key_id) or calendar > #calendars or once > #KEYS then error('a place of nothing') end
  if asked.longer then
    if calendar == 0 then error('what a longer row counts needs a calendar') end
    if asked.hourly and not calendars[calendar].hour_bounds then error('a calendar has no hours') end
  end
  return owner_of(name), key_id, asked, calendars[calendar], KEYS[once]
end

local rows = {}
for i = 1, count do rows[i] = pack(ROW, run(i, asked_at(i))) end

-- Asks once more on behalf of an owner whose charges Redis refuses: peeks and refusals are answered all the same.
local function run_again(o, words)
  local again = new_owner(o.name)
  again.refused, owners[o.name] = words, again
  for i = 1, count do
    local here, id, asked, calendar, once = asked_at(i)
    if here == again then rows[i] = pack(ROW, run(i, here, id, asked, calendar, once)) end
  end
  return again
end

-- Marks requests as charged, and counts their repeats; a repeat that cannot be counted has failed.
local function save_once(o)
  for name, once in pairs(o.once) do
    if once.new then
      pcall_redis('SET', name, once.seen, 'PX', ONCE)
    else
      for _, i in ipairs(once.repeats) do
        local answer = pcall_redis('INCR', name)
        if type(answer) == 'table' and answer.err then rows[i] = pack(ROW, failed(i, answer.err)) end
      end
    end
  end
end

for _, o in ipairs(order) do
  local charged = o.changed
  local words = save(o)
  if words and charged then o = run_again(o, words) end
  if o.once then save_once(o) end
end

local said = {}
for i = 1, count do
  rows[#rows + 1] = further[i]
  said[#said + 1] = failures[i]
end
return {now, table.concat(rows), unpack(said)}
