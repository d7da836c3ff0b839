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
local weights = {1, 3, 7, 9, 1, 3, 7, 9, 1, 3}

-- A fictional number, born 1800-1899.
local function random_number()
  local head = string.format("%02d%02d%02d%04d", math.random(0, 99), math.random(81, 92), math.random(1, 28), math.random(0, 9999))
  local sum = 0
  for place, weight in ipairs(weights) do sum = sum + weight * (head:byte(place) - 48) end
  return head .. (10 - sum % 10) % 10
end

init = function()
  if os.getenv("BATCH") == "1" then
    -- Random numbers of the demo's century, so that the set is looked up cold;
    -- one in four from the register.
    for batch = 1, 200 do
      local quoted = {}
      for place = 1, 1000 do
        quoted[place] = '"' .. (place % 4 == 0 and numbers[math.random(#numbers)] or random_number()) .. '"'
      end
      requests[batch] = wrk.format("POST", "/v1/verify/batch", headers, '{"pesels":[' .. table.concat(quoted, ",") .. "]}")
    end
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
