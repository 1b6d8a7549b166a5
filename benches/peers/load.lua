-- What wrk sends: the paths of a file, one after the other, over and over. Arguments after "--": the file, the caller's key.
-- Prints a line of JSON in the end; latencies are in milliseconds.

local requests, at = {}, 0

function init(args)
  local head = " HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: wrk\r\nAccept: application/json\r\nAuthorization: Bearer " .. args[2] .. "\r\n\r\n"
  for path in io.lines(args[1]) do
    requests[#requests + 1] = "GET " .. path .. head
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary, latency)
  local errors = summary.errors
  local function at_percent(percent) return latency:percentile(percent) / 1000 end
  print(string.format('{"requests":%d,"seconds":%f,"p50":%f,"p99":%f,"p999":%f,"errors":%d}', summary.requests, summary.duration / 1e6,
    at_percent(50), at_percent(99), at_percent(99.9), errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
