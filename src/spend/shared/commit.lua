-- One batch: decided and recorded in one step, in the order in which the ledger of a file does it. Sent again, it does nothing again.

local before = call('GET', key('reply', request.replica))
if before and not request.is_beat then
  before = cjson.decode(before)
  if before.seq == request.seq then
    -- Something is written, so that WAIT on a new connection waits for what came before it too.
    call('EXPIRE', key('reply', request.replica), 3600)
    return before.reply
  end
  if tonumber(before.seq) > tonumber(request.seq) then return cjson.encode({fenced = true}) end
end
local lost = loss()
if lost then
  return cjson.encode(lost == 'succeeded' and {succeeded = true} or {lost = lost})
end
bury_the_dead()
if call('HEXISTS', key('replicas'), request.replica) == 0 then
  return cjson.encode({fenced = true})
end
stay_alive()

local edition = call('HGET', state, 'edition')
local accounts = request.accounts
local now = tonumber(request.now)
local overrides = {}
for _, text in ipairs(call('LRANGE', key('overrides'), 0, -1)) do
  table.insert(overrides, cjson.decode(text))
end

local last
local function record(...)
  last = call('XADD', key('log'), '*', 'k', ...)
end

-- Where a charge is counted: by its quarter of an hour, of which every zone's windows are made.
local QUARTER = 15 * 60 * 1000000

local function covers(account, operation, enterprise, caller)
  return (not account.operation or account.operation == operation)
    and (not account.enterprise or account.enterprise == enterprise)
    and (not account.caller or account.caller == caller)
end

-- Adds up the cells of these accounts' windows, which are read once for all. No charge is later than clocks may be apart, and a day.
local function fold(missing)
  local latest = math.floor((server_ms + tonumber(request.skew_ms) + 24 * 3600 * 1000) * 1000 / QUARTER)
  local first, last = latest + 1, 0
  for _, account in ipairs(missing) do
    account.posted, account.held = 0, 0
    account.first = math.floor(tonumber(account.start) / QUARTER)
    account.last = math.min(math.floor((tonumber(account['end']) - 1) / QUARTER), latest)
    first, last = math.min(first, account.first), math.max(last, account.last)
  end
  for quarter = first, last do
    local cell = call('HGETALL', key('cell', whole(quarter)))
    for i = 1, #cell, 2 do
      local kind, operation, enterprise, caller = string.match(cell[i], '^([^|]*)|([^|]*)|([^|]*)|(.*)$')
      local sum = kind == 'p' and 'posted' or 'held'
      for _, account in ipairs(missing) do
        if account.first <= quarter and quarter <= account.last and covers(account, operation, enterprise, caller) then
          account[sum] = account[sum] + tonumber(cell[i + 1])
        end
      end
    end
  end
  for _, account in ipairs(missing) do
    call('HSET', account.key, 'posted', whole(account.posted), 'held', whole(account.held))
  end
end

local missing = {}
for _, account in ipairs(accounts) do
  account.key = key('account', edition, account.window)
  account.threshold_key = key('threshold', account.window)
  local found = call('HMGET', account.key, 'posted', 'held')
  if found[1] then
    account.posted, account.held = tonumber(found[1]), tonumber(found[2])
  else
    table.insert(missing, account)
  end
  account.threshold = tonumber(call('GET', account.threshold_key) or '0')
end
if #missing > 0 then fold(missing) end

local function limit(account)
  local sum = tonumber(account.limit)
  for _, granted in ipairs(overrides) do
    if granted.budget == account.budget and now < tonumber(granted.expires) then sum = sum + tonumber(granted.amount) end
  end
  return sum
end

-- Moves money of a charge, in its cell and in the accounts that it counts in.
local function move(charge, indexes, posted, held)
  local cell = key('cell', whole(math.floor(tonumber(charge.at) / QUARTER)))
  local scope = '|' .. charge.operation .. '|' .. charge.enterprise .. '|' .. charge.caller
  if posted ~= 0 then call('HINCRBY', cell, 'p' .. scope, whole(posted)) end
  if held ~= 0 then call('HINCRBY', cell, 'h' .. scope, whole(held)) end
  call('EXPIRE', cell, KEPT)
  for _, index in ipairs(indexes) do
    local account = accounts[index + 1]
    account.posted, account.held, account.moved = account.posted + posted, account.held + held, true
  end
end

-- What is known of a subject: who has holds open for it, and the last calls.
local function known_of(name)
  local known, fields = {open = {}}, call('HGETALL', key('subject', name))
  for i = 1, #fields, 2 do
    local id = string.match(fields[i], '^open:(.+)$')
    if id then table.insert(known.open, id) else known[fields[i]] = cjson.decode(fields[i + 1]) end
  end
  return known
end

local function is_later(id, other)
  return not other or tonumber(id) > tonumber(other.id)
end

-- How a hold ends, or is corrected, is how its subject's last call ended. A later call says more than an earlier one.
local function remember(charge, id, kind)
  if not charge.subject then return end
  local subject, known = key('subject', charge.subject), known_of(charge.subject)
  local past = cjson.encode({id = id, since = charge.since, price = charge.price, variant = charge.variant})
  call('HDEL', subject, 'open:' .. id)
  if kind == 'settled' and is_later(id, known.paid) then call('HSET', subject, 'paid', past) end
  if kind == 'settled' and known.unknown and not is_later(known.unknown.id, {id = id}) then call('HDEL', subject, 'unknown') end
  if kind == 'assumed' and is_later(id, known.paid) and is_later(id, known.unknown) then call('HSET', subject, 'unknown', past) end
  if kind == 'released' and known.unknown and known.unknown.id == id then call('HDEL', subject, 'unknown') end
  local others = 0
  for _, open in ipairs(known.open) do
    if open ~= id then others = others + 1 end
  end
  if others == 0 then call('PEXPIRE', subject, request.remembered_ms) end
end

-- What an entry says of a charge that claims something, for the gateways that follow the log.
local function of_subject(charge)
  if not charge.subject then return end
  return 'e', charge.enterprise, 'n', charge.number or '', 'o', charge.operation, 'h', charge.since, 'p', charge.price, 'v', charge.variant or ''
end

local function hold(charge, indexes)
  charge.id, charge.since = whole(call('HINCRBY', state, 'hold', 1)), whole(server_ms)
  if charge.subject then
    call('HSET', key('subject', charge.subject), 'open:' .. charge.id, '')
    call('PERSIST', key('subject', charge.subject))
  end
  call('HSET', key('holds'), charge.id, cjson.encode(charge))
  call('SADD', key('held', charge.owner), charge.id)
  move(charge, indexes, 0, tonumber(charge.price))
  record('held', 'i', charge.id, 't', charge.at, 'q', charge.request_id, 'c', charge.caller, 'e', charge.enterprise,
    'n', charge.number or '', 'o', charge.operation, 'p', charge.price)
  return charge.id
end

-- What is known of an assumed hold, once. What it posted is taken back, if it was not billed.
local function correct(id, is_billed, why, indexes)
  local assumed = call('GET', key('assumed', id))
  if not assumed then return nil end
  call('DEL', key('assumed', id))
  local charge = cjson.decode(assumed)
  local amount = is_billed and 0 or -tonumber(charge.price)
  if not is_billed then call('SET', key('unbilled', id), charge.owner, 'EX', CORRECTABLE) end
  move(charge, indexes, amount, 0)
  remember(charge, id, is_billed and 'settled' or 'released')
  record('corrected', 'i', id, 't', request.now, 'a', whole(amount), 'w', why, of_subject(charge))
  return charge
end

local reply = {ends = {}, corrections = {}, grants = {}, holds = {}, thresholds = {}}
local posted_something = false

-- The ledger that follows one that was lost may have given an id again: only with its owner it is the same hold.
local function of_owner(text, owner)
  return text and cjson.decode(text).owner == owner and text or nil
end

-- An end is recorded once. One that comes after others gave the hold up says what became of it, which corrects what they assumed.
local function finish(ending)
  local id, owner = ending.id, ending.charge.owner
  local found = of_owner(call('HGET', key('holds'), id), owner)
  local assumed = not found and of_owner(call('GET', key('assumed', id)), owner)
  -- Billed after all, which the gateway that corrected what was assumed could not know: its call came too late.
  local is_late = not found and not assumed and ending.kind == 'settled' and call('GET', key('unbilled', id)) == owner
  if is_late then call('DEL', key('unbilled', id)) end
  if not found and not assumed and (ending.former or is_late) then
    id = hold(ending.charge, ending.accounts)
    found = call('HGET', key('holds'), id)
  end
  if not found then
    if not assumed or ending.kind == 'assumed' then return 'gone' end
    correct(id, ending.kind == 'settled', ending.why, ending.accounts)
    return 'corrected'
  end
  local charge = cjson.decode(found)
  local price = tonumber(charge.price)
  local posted = ending.kind == 'released' and 0 or price
  call('HDEL', key('holds'), id)
  call('SREM', key('held', charge.owner), id)
  call('SREM', key('orphans'), id)
  move(charge, ending.accounts, posted, -price)
  remember(charge, id, ending.kind)
  record(ending.kind, 'i', id, 't', request.now, 'a', whole(posted), 'w', ending.why, of_subject(charge))
  if ending.kind == 'assumed' then call('SET', key('assumed', id), found, 'EX', CORRECTABLE) end
  posted_something = true
  return 'ended'
end

for _, ending in ipairs(request.ends) do
  table.insert(reply.ends, finish(ending))
end
for _, correction in ipairs(request.corrections) do
  table.insert(reply.corrections, correct(correction.id, correction.billed, correction.why, correction.accounts) ~= nil)
end

for _, set in ipairs(request.switches) do
  call('HSET', state, 'stop', cjson.encode(set))
  record('switch', 't', set.at, 's', set.on and '1' or '0', 'w', set.reason, 'u', set.author)
end

local function grant(granted)
  local in_force = 0
  for _, other in ipairs(overrides) do
    if other.budget == granted.budget and now < tonumber(other.expires) then in_force = in_force + 1 end
  end
  if in_force >= request.most_overrides then return false end
  call('RPUSH', key('overrides'), cjson.encode(granted))
  table.insert(overrides, granted)
  record('override', 't', granted.at, 'b', granted.budget, 'a', granted.amount, 'x', granted.expires, 'w', granted.reason, 'u', granted.author)
  return true
end

for _, granted in ipairs(request.grants) do
  -- A clock may be set back, but not by a week.
  for _, text in ipairs(call('LRANGE', key('overrides'), 0, -1)) do
    if tonumber(cjson.decode(text).expires) < now - CORRECTABLE * 1000000 then call('LREM', key('overrides'), 1, text) end
  end
  table.insert(reply.grants, grant(granted))
end

if posted_something then
  for index, account in ipairs(accounts) do
    local most = limit(account)
    for _, percent in ipairs(request.thresholds) do
      if percent > account.threshold and account.posted > 0 and account.posted * 100 >= most * percent then
        account.threshold = percent
        call('SET', account.threshold_key, percent, 'EX', KEPT)
        record('threshold', 'b', account.budget, 's', account.start, 'e', account['end'], 'h', percent, 't', request.now,
          'a', whole(account.posted), 'l', whole(most))
        table.insert(reply.thresholds, {account = index - 1, percent = percent, spent = whole(account.posted), limit = whole(most)})
      end
    end
  end
end

local stop = call('HGET', state, 'stop')
local is_stopped = stop and cjson.decode(stop).on
local skew = math.abs(now / 1000 - server_ms)

-- Which charges of a wish claim what another hold is open for, and of which the last call is not known to whoever wishes.
local function claimed(wish)
  local busy, later = {}, {}
  local function told(past)
    return past and {id = past.id, ago_ms = whole(math.max(0, server_ms - tonumber(past.since))), price = past.price, variant = past.variant}
  end
  for index, wanted in ipairs(wish.charges) do
    local found = wanted.charge.subject and known_of(wanted.charge.subject)
    for _, id in ipairs(found and found.open or {}) do
      if call('HEXISTS', key('holds'), id) == 1 then table.insert(busy, id) end
    end
    -- Who knows a call to be billed that is of unknown outcome here knows more.
    if found and ((found.paid and is_later(found.paid.id, {id = wanted.paid}))
        or (found.unknown and is_later(found.unknown.id, {id = wanted.unknown}) and is_later(found.unknown.id, {id = wanted.paid}))) then
      table.insert(later, {charge = index - 1, paid = told(found.paid), unknown = told(found.unknown)})
    end
  end
  return busy, later
end

-- What the rates that a wish takes would be afterwards, or the first that is used up (GCRA). No rate lends more than its burst, also where the
-- server's clock was set back.
local function taken(rates)
  local cells = {}
  for index, rate in ipairs(rates) do
    local cell, interval = key('rate', rate.name), tonumber(rate.interval_ns) / 1000
    local full = math.min(math.max(tonumber(call('GET', cell) or '0'), server_us), server_us + interval * rate.burst)
    local after = full + interval * rate.calls
    local wait = after - interval * rate.burst - server_us
    if wait > 0 then return nil, {rate = index - 1, wait_us = whole(math.ceil(wait))} end
    table.insert(cells, {cell = cell, full = after})
  end
  return cells
end

-- All of a wish or nothing. One that is refused takes nothing, of no budget and of no rate, and waits for nobody.
local function decide(wish)
  if is_stopped then return {stopped = true} end
  if skew > tonumber(request.skew_ms) then return {skew_ms = whole(skew)} end
  local busy, later = claimed(wish)
  if #busy > 0 then return {busy = busy} end
  if #later > 0 then return {later = later} end
  local answer, is_refused = {rooms = {}}, false
  for _, need in ipairs(wish.needs) do
    local account = accounts[need.account + 1]
    local has_room = account.posted + account.held + tonumber(need.amount) <= limit(account)
    is_refused = is_refused or (account.enforce and not has_room)
    table.insert(answer.rooms, {account = need.account, has_room = has_room, posted = whole(account.posted), held = whole(account.held)})
  end
  if is_refused then return answer end
  local cells, limited = taken(wish.rates)
  if limited then return {limited = limited} end
  for _, each in ipairs(cells) do
    call('SET', each.cell, whole(each.full), 'PX', whole(math.ceil((each.full - server_us) / 1000) + 1))
  end
  answer.ids = {}
  for _, wanted in ipairs(wish.charges) do
    table.insert(answer.ids, hold(wanted.charge, wanted.accounts))
  end
  return answer
end

for _, wish in ipairs(request.holds) do
  table.insert(reply.holds, decide(wish))
end

reply.standings = {}
for _, account in ipairs(accounts) do
  if account.moved then call('HSET', account.key, 'posted', whole(account.posted), 'held', whole(account.held)) end
  call('EXPIRE', account.key, KEPT)
  table.insert(reply.standings, {posted = whole(account.posted), held = whole(account.held), threshold = account.threshold})
end
reply.last = last
reply.overrides = overrides
reply.stop = stop and cjson.decode(stop) or nil
-- Open holds of the dead, for whoever asks first to give up.
reply.orphans = {}
for _, id in ipairs(call('SRANDMEMBER', key('orphans'), request.most_orphans)) do
  local found = call('HGET', key('holds'), id)
  if found then table.insert(reply.orphans, cjson.decode(found)) else call('SREM', key('orphans'), id) end
end
reply = cjson.encode(reply)
if request.is_beat then return reply end
call('SET', key('reply', request.replica), cjson.encode({seq = request.seq, reply = reply}), 'EX', 3600)
return reply
