-- An operator takes what the server has for the ledger from now on. Gateways that knew another one follow.

local lost = loss()
if not lost or lost == 'succeeded' then return cjson.encode({nothing = true}) end
local generation = call('HGET', state, 'generation')
if not generation then
  call('HSET', state, 'schema', request.schema, 'compatible', request.compatible, 'edition', '0')
end
for _, known in ipairs({generation or '', request.generation}) do
  if known ~= '' then call('SADD', key('succeeded'), known) end
end
call('SUNIONSTORE', key('succeeded'), key('succeeded'), key('mourned'))
call('DEL', key('mourned'))
call('HSET', state, 'generation', request.new_generation)
call('HDEL', state, 'lost')
call('HINCRBY', state, 'edition', 1)
-- No id is used again.
if tonumber(call('HGET', state, 'hold') or '0') < tonumber(request.newest_hold) then
  call('HSET', state, 'hold', request.newest_hold)
end
call('XADD', key('log'), '*', 'k', 'acknowledged', 't', request.now, 'w', request.reason, 'u', request.author)
return '{}'
