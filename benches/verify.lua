-- wrk: POST /v1/verify with the numbers of a CSV, or a batch of 1 000 of them.
-- NUMBERS: a CSV with a header line; KEY_FILE: the API key; BATCH: 1 for batches.
local numbers = {}
for line in io.lines(os.getenv("NUMBERS")) do
  if line ~= "pesel" then numbers[#numbers + 1] = line end
end
local key = io.open(os.getenv("KEY_FILE")):read("l")
local headers = {
  ["authorization"] = "Bearer " .. key,
  ["content-type"] = "application/json",
}
local requests, at = {}, 0

init = function()
  if os.getenv("BATCH") == "1" then
    local quoted = {}
    for place = 1, 1000 do quoted[place] = '"' .. numbers[(place - 1) % #numbers + 1] .. '"' end
    requests[1] = wrk.format("POST", "/v1/verify/batch", headers, '{"pesels":[' .. table.concat(quoted, ",") .. "]}")
  else
    for place, number in ipairs(numbers) do
      requests[place] = wrk.format("POST", "/v1/verify", headers, '{"pesel":"' .. number .. '"}')
    end
  end
end

request = function()
  at = at % #requests + 1
  return requests[at]
end
