-- What the scripts of shared copies have in common. Times are microseconds of Unix time, by this server's clock.

local call = redis.call

local function server_time()
  local time = call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- Without an exponent.
local function whole(number)
  return string.format('%.0f', number)
end

-- When what these keys are of was last outdated, and when last forgotten.
local function moments(...)
  local outdated, gone = -1, -1
  for _, key in ipairs({...}) do
    local found = call('HMGET', key, 'soft', 'hard')
    outdated, gone = math.max(outdated, tonumber(found[1] or -1)), math.max(gone, tonumber(found[2] or -1))
  end
  return outdated, gone
end

-- What stands before a copy's record; nothing, where that is no copy of this version. The layout is that of `value.rs`.
local function head(value)
  if not value or #value < 136 or string.sub(value, 1, 4) ~= 'rgc1' then return nil end
  local begun, came_by = tonumber(string.sub(value, 5, 20)), tonumber(string.sub(value, 37, 52))
  return begun and came_by and {begun = begun, came_by = came_by, refreshed = string.sub(value, 53, 84)}
end
