-- Limits of an owner and of its key: looked at, and charged all at once or not at all. Scripts that charge begin with the
-- texts that scripts.CHARGING names, in that order.
--
--   if bits(o, k, asked, calendar, cost) == 0 then take(o, k, asked, calendar, cost, requests) end

-- The bits of those limits that `cost` does not fit.
local function further_bits(o, k, owner, own, cost)
  local refused = 0
  if owner.hourly and o.by_hour + cost > owner.hourly then refused = 64 end
  if own.hourly and k.by_hour + cost > own.hourly then refused = refused + 128 end
  if owner.credits and (o.unknown or o.used + cost > owner.credits) then refused = refused + 256 end
  if own.credits and (o.unknown or k.used + cost > own.credits) then refused = refused + 512 end
  return refused
end

local function take_further(o, k, owner, own, cost)
  if owner.hourly then take_of_hour(o, o, 'hour', cost) end
  if own.hourly then take_of_hour(o, k, 'hour:' .. k.id, cost) end
  if owner.credits then take_of_credits(o, o, 'credits', cost) end
  if own.credits then take_of_credits(o, k, 'credits:' .. k.id, cost) end
end

-- The limits that `cost` does not fit, a bit each; 0: it fits.
local function bits(o, k, asked, calendar, cost)
  local refused, owner, own = 0, asked.owner, asked.own
  if owner.tokens > 0 and o.left < cost * MICRO then refused = 1 end
  if own.tokens > 0 and k.left < cost * MICRO then refused = refused + 8 end
  if calendar then
    if owner.daily >= 0 and o.by_day + cost > owner.daily then refused = refused + 2 end
    if owner.monthly >= 0 and o.by_month + cost > owner.monthly then refused = refused + 4 end
    if own.daily >= 0 and k.cost + cost > own.daily then refused = refused + 16 end
    if own.monthly >= 0 and k.by_month + cost > own.monthly then refused = refused + 32 end
    if asked.longer then refused = refused + further_bits(o, k, owner, own, cost) end
  end
  return refused
end

-- The dates of the hash's counters, with one that is new.
local function with_day(o, date)
  local dates = {}
  for known in string.gmatch(named(o, 'days') or '', '%d%d%d%d%d%d%d%d') do
    if tonumber(known) ~= date then dates[#dates + 1] = known end
  end
  dates[#dates + 1] = string.format('%08d', date)
  table.sort(dates)
  return table.concat(dates, ' ')
end

-- Takes `cost` and `requests` from everything, or gives them back where they are negative. What is taken is written by
-- save.
local function take(o, k, asked, calendar, cost, requests)
  if asked.owner.tokens > 0 then
    pour(o, o, asked.owner, cost)
    o.changed = true
  end
  if asked.own.tokens > 0 then
    pour(o, k, asked.own, cost)
    o.changed, k.changed = true, true
  end
  if not calendar then return end
  o.changed, o.counted, k.changed, k.counted = true, true, true, true
  o.by_day, o.by_month = max(o.by_day + cost, 0), max(o.by_month + cost, 0)
  k.cost, k.by_month = max(k.cost + cost, 0), max(k.by_month + cost, 0)
  k.requests, k.changes = max(k.requests + requests, 0), k.changes + 1
  if asked.longer then take_further(o, k, asked.owner, asked.own, cost) end
  if not o.known then
    o.writes.days = with_day(o, o.day)
    o.known = true
  end
  if calendar.expires > o.expires * 1000 then o.keep = max(o.keep or 0, calendar.expires) end
end

-- Buckets whose time is yet to come would not fill until then; from now on they do. The refusal stands in any case.
local function set_back(o, k)
  if o.ahead then o.level, o.carry, o.at, o.turned = o.left, o.part, now, true end
  if k.ahead then k.level, k.carry, k.at, k.changed, o.turned = k.left, k.part, now, true, true end
end

-- Keeps the buckets as they are now, because what comes in from here on may fill another capacity.
local function keep(o, k, asked)
  if asked.owner.tokens > 0 then o.level, o.carry, o.at = o.left, o.part, now end
  if asked.own.tokens > 0 then k.level, k.carry, k.at, k.changed = k.left, k.part, now, true end
  o.turned = true
end

-- Ends leases that are late. What was granted stays charged, since it may have been served; those of the bucket of
-- another key hold it until that key is charged, because only then its limits are known.
local function lapse(o, k, asked)
  if #o.leases == 0 then return end
  local changed, kept, ended = false, {}, nil
  for _, l in ipairs(o.leases) do
    changed = seen(l, now) or changed
    if l.stage == ENDED and (l.key == k.id or l.own == 0) then
      ended = ended or read_leases(named(o, 'lapsed'))
      ended[#ended + 1], changed = l, true
    else
      kept[#kept + 1] = l
    end
  end
  if not changed then return end
  o.leases, o.writes.leases = kept, leases_text(kept)
  if ended then
    while #ended > LAPSED_MAX do table.remove(ended, 1) end
    o.writes.lapsed = leases_text(ended)
  end
  keep(o, k, asked)
end
