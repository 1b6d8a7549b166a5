-- The time, and how much of its memory the server uses. Who follows begins the stream, so that each follower has a position in it. ARGV: whether it may.

if ARGV[1] == '1' and call('EXISTS', KEYS[1]) == 0 then call('XADD', KEYS[1], '*', 'k', 'begin') end
local memory = call('INFO', 'memory')
return {whole(server_time()), string.match(memory, 'used_memory:(%d+)') or '0', string.match(memory, 'maxmemory:(%d+)') or '0'}
