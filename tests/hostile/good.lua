-- wrk: the good client's requests (benches/verify.lua) with a result that a
-- program can read. CLOSE=1: one request a connection.
dofile("benches/verify.lua")

if os.getenv("CLOSE") == "1" then
  local plain = init
  init = function(arguments)
    local format = wrk.format
    wrk.format = function(method, path, headers, body)
      if headers then headers["connection"] = "close" end
      return format(method, path, headers, body)
    end
    plain(arguments)
  end
end

done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'result {"requests":%d,"seconds":%f,"p50_ms":%f,"p99_ms":%f,"refused":%d,"broken":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
