-- What wrk does for a bench: the requests of client.py's Job, and its Outcome as the last line.
-- Arguments: what stands before the key in a request, what after it, a file of keys or nothing, the status that is
-- wanted, how many keys to leave out at the beginning.

local thread_of_load

function setup(thread)
   thread_of_load = thread
end

function init(args)
   before, after, wanted, number = args[1], args[2], tonumber(args[4]), tonumber(args[5])
   keys = {}
   if args[3] == "" then
      keys[1] = ""
   else
      for line in io.lines(args[3]) do
         keys[#keys + 1] = line
      end
   end
end

function request()
   number = number % #keys + 1
   return before .. keys[number] .. after
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
