-- A gateway joins those that share the ledger, or founds it. Refused where its version or its terms do not go with those of the others.

local found = call('HMGET', state, 'schema', 'compatible', 'terms')
if found[2] and tonumber(found[2]) > request.schema then
  return cjson.encode({later = found[1]})
end
local lost = loss()
if lost and lost ~= 'succeeded' then
  return cjson.encode({lost = lost})
end
local living = bury_the_dead()
if not found[1] then
  call('HSET', state, 'generation', request.new_generation, 'edition', '0')
end
if found[3] ~= request.terms then
  if living > 0 and found[3] then
    return cjson.encode({terms = found[3]})
  end
  -- Sums of the budgets before are no use to these.
  call('HSET', state, 'terms', request.terms)
  call('HINCRBY', state, 'edition', 1)
end
if not found[1] or tonumber(found[1]) < request.schema then
  call('HSET', state, 'schema', request.schema, 'compatible', request.compatible)
end
-- What it has open is its own again, unless somebody gave it up meanwhile.
local kept = {}
for _, open in ipairs(request.open) do
  local found = call('HGET', key('holds'), open.id)
  local charge = found and cjson.decode(found)
  -- Its own already, if the answer to this was lost before.
  if charge and (charge.owner == open.owner or charge.owner == request.replica) then
    charge.owner = request.replica
    call('HSET', key('holds'), open.id, cjson.encode(charge))
    call('SREM', key('orphans'), open.id)
    call('SREM', key('held', open.owner), open.id)
    call('SADD', key('held', request.replica), open.id)
    table.insert(kept, open.id)
  end
end
stay_alive()
return cjson.encode({generation = call('HGET', state, 'generation'), kept = kept})
