-- Token buckets: what is in them now, and what is taken. The reference arithmetic is core/token_bucket.py.
--
--   stand(o, k, asked)   -- o.left, k.left: micro-tokens now; nothing is changed
-- Level and carry of a bucket now, and whether its time is yet to come: the clock has stepped back. It fills to what
-- leases leave of it.
local function refill(level, carry, at, limit, leased)
  local full = max(limit.burst - leased, 0) * MICRO
  if level < 0 then return full, 0 end
  level = min(level, full)
  if carry >= limit.seconds then carry = 0 end
  local elapsed = now - at
  if elapsed <= 0 then return level, level == full and 0 or carry, elapsed < 0 or nil end
  local per, part = floor(limit.tokens / limit.seconds), limit.tokens % limit.seconds
  if per > 0 and elapsed >= ceil((full - level) / per) then return full, 0 end
  -- elapsed is split before it is multiplied, so that no product passes 2^53
  local periods, rest = floor(elapsed / limit.seconds), elapsed % limit.seconds
  local sum = rest * part + carry
  level = level + elapsed * per + periods * part + floor(sum / limit.seconds)
  if level >= full then return full, 0 end
  return level, sum % limit.seconds
end

-- What is in the buckets now, in `left` and `part`; `ahead`: the time of a bucket is yet to come.
local function stand(o, k, asked)
  if asked.owner.tokens > 0 then
    o.left, o.part, o.ahead = refill(o.level, o.carry, o.at, asked.owner, held(o))
  else
    o.left, o.part, o.ahead = 0, 0, nil
  end
  if asked.own.tokens > 0 then
    k.left, k.part, k.ahead = refill(k.level, k.carry, k.at, asked.own, held(o, k.id))
  else
    k.left, k.part, k.ahead = 0, 0, nil
  end
end

-- Takes from one bucket, of an owner or of a key. The hash has to be kept until it is full.
local function pour(o, holder, limit, cost)
  local full, brim = limit.burst * MICRO, max(limit.burst - held(o, holder.id), 0) * MICRO
  local level = min(holder.left - cost * MICRO, brim)
  if level == brim then holder.part = 0 end
  holder.left, holder.level, holder.carry, holder.at = level, level, holder.part, now
  local fills = (full - level) / limit.tokens * limit.seconds / 1000 * 1.000001 + 1000
  -- set beyond what is needed, so that it need not be set again by every charge
  if milliseconds + fills > o.expires * 1000 then o.keep = max(o.keep or 0, milliseconds + fills * 1.25) end
end
