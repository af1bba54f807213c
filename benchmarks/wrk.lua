-- What wrk does for a bench: the requests of client.py's Job, and its Outcome as the last line.
-- Arguments: the request with {number} and {key} in it, a file of keys or nothing, the status that is wanted, how many
-- keys to leave out at the beginning, the first number.

local thread_of_load

function setup(thread)
   thread_of_load = thread
end

function init(args)
   wanted, place, number = tonumber(args[3]), tonumber(args[4]), tonumber(args[5])
   keys = {}
   if args[2] == "" then
      keys[1] = ""
   else
      for line in io.lines(args[2]) do
         keys[#keys + 1] = line
      end
   end
   -- Text and names in turn; a place of `pieces` that has a name is filled at each request.
   pieces, names = {}, {}
   for text, name in (args[1] .. "{}"):gmatch("(.-){(%a*)}") do
      pieces[#pieces + 1] = text
      pieces[#pieces + 1] = ""
      names[#pieces] = name
   end
end

function request()
   place = place % #keys + 1
   for index, name in pairs(names) do
      if name == "number" then
         pieces[index] = string.format("%012d", number)
      elseif name == "key" then
         pieces[index] = keys[place]
      end
   end
   number = number + 1
   return table.concat(pieces)
end

function done(summary, latency, _)
   local errors = summary.errors
   local refused = errors.status -- 400 and more
   local others = thread_of_load:get("wanted") < 400 and refused or summary.requests - refused
   others = others + errors.connect + errors.read + errors.write + errors.timeout
   io.write(string.format(
      '\n{"requests": %d, "seconds": %f, "others": %d, "p50": %f, "p90": %f, "p99": %f, "p999": %f}\n',
      summary.requests, summary.duration / 1e6, others,
      latency:percentile(50) / 1000, latency:percentile(90) / 1000, latency:percentile(99) / 1000,
      latency:percentile(99.9) / 1000
   ))
end
