-- What every script of the ledger begins with.
--
-- KEYS[1] is the ledger's state; the other keys have the same prefix, and with it the same slot of a Cluster:
--   state                   hash: schema, compatible, generation, edition, terms, hold (the last id), stop, lost
--   replicas                hash: each gateway's id, and until when it is taken to live (milliseconds by the server)
--   held:REPLICA            set: ids of the holds that a gateway has open
--   orphans                 set: ids of open holds whose gateway died
--   holds                   hash: open holds, by id
--   assumed:ID              a hold that was assumed and may be corrected
--   subject:WHAT            hash: the holds that are open for what is claimed (open:ID), and the last that was billed (paid) or may have been (unknown)
--   rate:NAME               when a rate would be full again (microseconds by the server)
--   unbilled:ID             whose hold it was that was assumed and then corrected as not billed
--   account:EDITION:NAME:.. hash: what is posted and held in one window of one budget; a sum of cells, and made again from them
--   cell:QUARTER            hash: what is posted (p) and held (h) for charges of a quarter of an hour, by operation, enterprise and caller
--   threshold:NAME:..       the highest threshold that was reached in one window of one budget
--   overrides               list
--   log                     stream: every fact, in its order
--   reply:REPLICA           what a gateway's last batch was answered
--   succeeded               set: generations that were given up
--   mourned                 set: generations of which something was found to be lost, and nobody acknowledged it yet
--
-- Amounts are whole micro-dollars and instants whole microseconds, both below 2^53, and both strings outside of sums.

local call = redis.call
local request = cjson.decode(ARGV[1])
local base = string.sub(KEYS[1], 1, -6)
local state = KEYS[1]

-- Longer than any window: what nobody touched for so long is not asked for again.
local KEPT = 40 * 24 * 3600
-- Longer than anyone looks for what became of a call.
local CORRECTABLE = 7 * 24 * 3600

local server_time = call('TIME')
local server_us = tonumber(server_time[1]) * 1000000 + tonumber(server_time[2])
local server_ms = math.floor(server_us / 1000)

local function key(...)
  return base .. table.concat({...}, ':')
end

local function whole(number)
  return string.format('%.0f', number)
end

-- Takes gateways whose lease is over for dead: their holds are orphans, and they are told when they come back. Returns how many live.
local function bury_the_dead()
  local replicas, living = call('HGETALL', key('replicas')), 0
  for i = 1, #replicas, 2 do
    if tonumber(replicas[i + 1]) < server_ms then
      call('HDEL', key('replicas'), replicas[i])
      call('SUNIONSTORE', key('orphans'), key('orphans'), key('held', replicas[i]))
      call('DEL', key('held', replicas[i]))
    else
      living = living + 1
    end
  end
  return living
end

local function stay_alive()
  call('HSET', key('replicas'), request.replica, whole(server_ms + tonumber(request.lease_ms)))
end

-- Whether the log has the entry that this gateway saw last, or has let go of entries as old in order.
local function has_seen_entry()
  if request.seen == '0-0' then return true end
  if #call('XRANGE', key('log'), request.seen, request.seen) == 1 then return true end
  local oldest = call('XRANGE', key('log'), '-', '+', 'COUNT', 1)[1]
  return oldest ~= nil and tonumber(string.match(oldest[1], '^%d+')) > tonumber(string.match(request.seen, '^%d+'))
end

-- Holds what the server has against what this gateway knows it had. A loss is written down, so that all stop until it is acknowledged.
local function loss()
  local generation = call('HGET', state, 'generation')
  local what
  if request.generation ~= '' and generation ~= request.generation then
    if call('SISMEMBER', key('succeeded'), request.generation) == 1 then return 'succeeded' end
    what = generation and 'it has another ledger than the one that was known' or 'it is empty, and had a ledger'
  elseif generation and not has_seen_entry() then
    what = 'it has forgotten entries of the ledger that were there, ' .. request.seen .. ' among them'
  end
  if what then
    call('HSET', state, 'lost', what)
    -- Whichever gateway acknowledges it, this ledger is given up too.
    if request.generation ~= '' then call('SADD', key('mourned'), request.generation) end
  end
  return call('HGET', state, 'lost')
end
