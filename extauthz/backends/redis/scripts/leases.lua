-- Leases of an owner: what its workers hold ahead of requests. Scripts that charge begin with layout.lua and this text.
-- The reference arithmetic is in core/token_bucket.py (`held`, `lapse`) and core/leases.py (`lapsing`).
--
-- Two fields of the hash, records in the order in which they began, each ended by a line feed:
-- leases   id, cost, day, month, units granted, units served as last reported, microsecond at which it is late, stage
--          (0 fresh, 1 late, 2 ended), own (1: the key has a bucket of its own), id of the key
-- lapsed   the same of leases that ended without a word of their workers
local HOLD = 2000000 -- microseconds after which a lease that was not renewed is late
local LAPSED_MAX = 32
local ENDED = 2
local LEASE = '^(%x+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d) (%d) (.*)$'
local LEASE_FORM = '%s %.0f %.0f %.0f %.0f %.0f %.0f %d %d %s\n'

local function read_leases(value)
  local leases = {}
  for line in string.gmatch(value or '', '([^\n]+)\n') do
    local id, cost, day, month, granted, served, late, stage, own, key = string.match(line, LEASE)
    if id then
      leases[#leases + 1] = {
        id = id, cost = tonumber(cost), day = tonumber(day), month = tonumber(month), granted = tonumber(granted),
        served = tonumber(served), late = tonumber(late), stage = tonumber(stage), own = tonumber(own), key = key,
      }
    end
  end
  return leases
end

-- The value of a field; false where there is nothing to keep.
local function leases_text(leases)
  local lines = {}
  for i, l in ipairs(leases) do
    lines[i] = string.format(
      LEASE_FORM, l.id, l.cost, l.day, l.month, l.granted, l.served, l.late, l.stage, l.own, l.key
    )
  end
  return #lines > 0 and table.concat(lines)
end

-- Tokens of the owner's bucket that are leased, or of the bucket of a key.
local function held(o, key)
  local sum = 0
  for _, l in ipairs(o.leases) do
    if key and l.key == key or not key and l.stage < ENDED then sum = sum + (l.granted - l.served) * l.cost end
  end
  return sum
end

local function find_lease(leases, id)
  for i, l in ipairs(leases) do
    if l.id == id then return l, i end
  end
  return nil
end

-- Whether a lease is seen otherwise at a moment than it is kept.
local function seen(l, at)
  if l.stage == ENDED then return false end
  if at >= l.late then
    l.stage, l.late = l.stage + 1, at + HOLD
  elseif l.late > at + HOLD then
    l.late = at + HOLD
  else
    return false
  end
  return true
end
