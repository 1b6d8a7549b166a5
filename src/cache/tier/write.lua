-- Keeps copies, each unless something newer is kept, or may be at Telnyx. KEYS: the moment of all; of each copy its key, its enterprise's moment
-- and its number's. ARGV: of each when it was asked for, when its data was refreshed, its life in milliseconds, the value.

local kept = {whole(server_time())}
for n = 0, #ARGV / 4 - 1 do
  local key = KEYS[2 + 3 * n]
  local begun, refreshed = tonumber(ARGV[4 * n + 1]), ARGV[4 * n + 2]
  local outdated, gone = moments(KEYS[1], KEYS[3 + 3 * n], KEYS[4 + 3 * n])
  local stands = begun > outdated and begun > gone
  local other = stands and head(call('GET', key))
  if other and other.begun > outdated and other.begun > gone then
    local both_known = string.sub(refreshed, 1, 1) ~= '-' and string.sub(other.refreshed, 1, 1) ~= '-'
    if both_known then stands = other.refreshed <= refreshed else stands = other.came_by <= begun end
  end
  if stands then call('SET', key, ARGV[4 * n + 4], 'PX', ARGV[4 * n + 3]) end
  table.insert(kept, stands and 1 or 0)
end
return kept
