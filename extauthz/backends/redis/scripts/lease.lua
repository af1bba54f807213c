-- Takes units of a spend ahead, reports what was served of them, gives back the rest. Behind the texts
-- of scripts.CHARGING, which keep the state. The reference arithmetic is core/lease_steps.py.
--
-- KEYS     one tenant_limits:{<tenant>} for each asked
-- ARGV     1 epoch: whose memory counters must come from
--          then for each asked four: numbers with blanks between, the id of the lease, the id of the key, its calendar (as
--          for spend.lua). The numbers: operation (0 take, 1 more, 2 close), cost of a unit, units served since the lease
--          began, units wanted; then limits of the owner and of the key as for spend.lua
-- returns  {now (microseconds), one string, then words of failures}. The string holds 13 numbers for each asked: units
--          added or given back (eight bytes), then the row of spend.lua with what is left afterwards
--          refused: also -4 there is no such lease, or it is of another day, month or cost; flags: 4 a limit is near
local SHARE, RESERVE, UNITS_MIN, LEASES_MAX = 100, 10, 2, 64
local TAKE, MORE, CLOSE = 0, 1, 2
local NO_LEASE, NEAR = -4, 4
local ROW = '<i8i2bbbi8i8i8i8i8i8i8i8'
local NUMBERS = '^' .. string.rep('(%-?%d+) ', 14) .. '$'
local NO_BUCKETS = {owner = {tokens = 0}, own = {tokens = 0}}

local epoch, failures = ARGV[1], {}

local function nothing(why)
  return 0, why, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
end

local function failed(i, words)
  failures[i] = words
  return nothing(-3)
end

local function read_asked(i)
  local base = 4 * i - 2
  local n = {string.match(ARGV[base] .. ' ', NUMBERS)}
  if #n ~= 14 then error('what is asked is not 14 whole numbers') end
  return {
    operation = within(n[1], TAKE, CLOSE, 'operation'),
    cost = within(n[2], 1, 1e9, 'cost'),
    served = within(n[3], 0, 1e12, 'units served'),
    wanted = within(n[4], 0, 1e6, 'units wanted'),
    owner = limits_of(n[5], n[6], n[7], n[8], n[9]),
    own = limits_of(n[10], n[11], n[12], n[13], n[14]),
    lease = string.match(ARGV[base + 1], '^%x+$') or error('a lease has no name'),
    key = ARGV[base + 2],
    calendar = read_calendar(ARGV[base + 3]),
    name = KEYS[i],
  }
end

-- Units that may be added, and whether one of the limits has too little left for any.
local function room(o, k, asked)
  local units, near, cost = asked.wanted, false, asked.cost
  local function fit(size, left, leased)
    local spare = floor((left - ceil(size / RESERVE)) / cost)
    near = near or spare < UNITS_MIN
    units = min(units, floor((floor(size / SHARE) - leased) / cost), spare)
  end
  local owner, own, leased, leased_of_key = asked.owner, asked.own, held(o), held(o, k.id)
  if owner.tokens > 0 then fit(owner.burst, floor(o.left / MICRO), leased) end
  if owner.daily >= 0 then fit(owner.daily, owner.daily - o.by_day, leased) end
  if owner.monthly >= 0 then fit(owner.monthly, owner.monthly - o.by_month, leased) end
  if own.tokens > 0 then fit(own.burst, floor(k.left / MICRO), leased_of_key) end
  if own.daily >= 0 then fit(own.daily, own.daily - k.cost, leased_of_key) end
  if own.monthly >= 0 then fit(own.monthly, own.monthly - k.by_month, leased_of_key) end
  return units >= UNITS_MIN and units or 0, near
end

-- A new lease; nil where there may be none. While workers of an earlier release charge the same hash, which leave
-- nothing to leases, there is none.
local function begin(o, k, asked)
  if o.text or may_be_foreign(o) or #o.leases >= LEASES_MAX then return nil end
  if find_lease(o.leases, asked.lease) or find_lease(read_leases(named(o, 'lapsed')), asked.lease) then return nil end
  return {
    id = asked.lease, cost = asked.cost, day = o.day, month = o.month, granted = 0, served = 0,
    own = asked.own.tokens > 0 and 1 or 0, key = k.id,
  }
end

-- Of a lease that had ended, buckets get nothing back: they may have been full meanwhile.
local function close(o, k, asked)
  local l, place = find_lease(o.leases, asked.lease)
  local lapsed = nil
  if not l then
    lapsed = read_leases(named(o, 'lapsed'))
    l, place = find_lease(lapsed, asked.lease)
  end
  if not l then return nothing(NO_LEASE) end
  table.remove(lapsed or o.leases, place)
  o.writes[lapsed and 'lapsed' or 'leases'] = leases_text(lapsed or o.leases)
  local units = l.granted - min(max(l.served, asked.served), l.granted)
  enter(o, k, l.day, l.month)
  take(o, k, lapsed and NO_BUCKETS or asked, asked.calendar, -units * l.cost, -units)
  return units, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
end

local function run(i, asked)
  local o, calendar = owner_of(asked.name), asked.calendar
  local day, month = calendar.day, calendar.month
  local closes = asked.operation == CLOSE
  if not (day and month) and not closes then return nothing(-1) end
  local k = key_of(o, asked.key, calendar.days[day or 2])
  if not k then return failed(i, o.words) end
  if o.seeded ~= epoch and not closes then return nothing(-2) end
  stand(o, k, asked)
  if closes then
    lapse(o, k, asked)
    return close(o, k, asked)
  end
  enter(o, k, calendar.days[day], calendar.months[month])
  lapse(o, k, asked)
  local new = asked.operation == TAKE
  local l = nil
  if new then l = begin(o, k, asked) else l = find_lease(o.leases, asked.lease) end
  if not l or l.cost ~= asked.cost or l.day ~= o.day or l.month ~= o.month then return nothing(NO_LEASE) end
  l.served = min(max(l.served, asked.served), l.granted)
  l.stage, l.late = 0, now + HOLD
  local units, near = room(o, k, asked)
  if units > 0 then take(o, k, asked, calendar, units * l.cost, units) end
  if new and units > 0 then o.leases[#o.leases + 1] = l end
  if not new or units > 0 then
    l.granted = l.granted + units
    o.writes.leases = leases_text(o.leases)
    keep(o, k, asked)
  end
  return units, 0, near and NEAR or 0, day, month, o.left, o.part, o.by_day, o.by_month, k.left, k.part, k.cost, k.by_month
end

local count = (#ARGV - 1) / 4
if count ~= #KEYS then error('wrong number of arguments') end
local all_asked, rows, said = {}, {}, {}
for i = 1, count do all_asked[i] = read_asked(i) end
for i = 1, count do rows[i] = pack(ROW, run(i, all_asked[i])) end
for _, o in ipairs(order) do
  local words = save(o)
  for i = 1, count do
    if words and all_asked[i].name == o.name then rows[i] = pack(ROW, failed(i, words)) end
  end
end
for i = 1, count do said[#said + 1] = failures[i] end
return {now, table.concat(rows), unpack(said)}
