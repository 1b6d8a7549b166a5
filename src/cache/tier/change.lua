-- Records changes: the moment of each scope, and an entry for who follows. KEYS: the stream, the scopes' moments. ARGV: the author, how long
-- moments are kept in milliseconds, how many entries are; of each change what becomes of its copies, its enterprise, its number.

local now = whole(server_time())
for n = 0, (#ARGV - 3) / 3 - 1 do
  local how, enterprise, number = ARGV[3 * n + 4], ARGV[3 * n + 5], ARGV[3 * n + 6]
  call('HSET', KEYS[n + 2], how, now)
  call('PEXPIRE', KEYS[n + 2], ARGV[2])
  call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*', 'k', how, 'e', enterprise, 'n', number, 'a', ARGV[1])
end
return {now}
