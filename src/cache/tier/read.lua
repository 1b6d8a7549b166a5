-- A copy, if it stands. KEYS: the copy, the moments that count for it.

local value = call('GET', KEYS[1])
local found = head(value)
if not found then return {whole(server_time()), value} end
local outdated, gone = moments(KEYS[2], KEYS[3], KEYS[4])
-- What is from the very moment is from before it.
if found.begun <= gone then call('DEL', KEYS[1]) end
if found.begun <= gone or found.begun <= outdated then value = false end
return {whole(server_time()), value}
