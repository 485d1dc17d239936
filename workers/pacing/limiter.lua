-- The shared pace of one endpoint, key and model: how many calls may be in flight, how many requests,
-- tokens and roubles may start, and whether the endpoint is there at all. Decided here, by Redis's
-- clock, for all workers at once. docs/pace.md says why it is so.
--
-- KEYS[1]  hash, brought up to date at `at`; all other times are seconds that passed or remain then
--            limit             calls in flight that the endpoint bears, as far as is known
--            slow              1 until the first step back: the limit doubles per round
--            edge, hold, tries where it was refused, or where more brought no more; nothing grows
--                              past it for `hold` seconds, longer with each try that came to nothing
--            mark, served, since, best
--                              at `mark` calls in flight, `since` seconds ago, the count of answers
--                              began; `best` answers a second came before that
--            calm, ok, bad     since the last step back; answers and refusals lately, fading
--            steps, before, deaf  small steps back in a row, the limit before them, and how long
--                              a few refusals are taken for chance, since steps back did not help
--            rate, found       requests a second that are the most (0: none), and that were at first
--            met, tight        since the last refusal for a rate, since one last made somebody wait
--            late              by how much calls may arrive later or sooner than others, as far as
--                              refusals tell: so much longer than the endpoint's is our minute
--            clock, oldest     seconds that this pace is old, and the first bin in the ring
--            let_in, reqs, toks
--                              sums of the last minute: calls let in, requests and tokens granted
--            vain              refusals since the last answer
--            pause             for how long nothing may start (Retry-After)
--            req, tok, rub     levels of the buckets
--            trouble           faults in a row, over all workers
--            down, probe, probes  for how long it has been down (0: it is not), the time until the
--                              next probe, and how many there were
-- KEYS[2]  hash  worker -> "granted wanted expires weight flying"
-- KEYS[3]  hash, the last minute's ring: "let_in", "reqs", "toks" and a bin's number -> count
--
-- ARGV  1 worker, 2 lease in s, then the fields of workers.pacing.limiter.LeaseRequest in their order.
-- Answers the fields of workers.pacing.limiter.Lease in theirs; requests, tokens, roubles -1 where unlimited.

local START, CALM, MEMORY = 4, 1.0, 5.0
local CROWD, CUT, EDGE, GAIN = 0.25, 0.5, 0.05, 0.05
local SURELY = 2.5
local FREE, PAYS, DOUBLED_PAYS = 64, 1.04, 1.2
-- A call that ended here may not have ended there yet: the last places of a limit are not taken.
local LAST = 0.01
local HOLD, LONGER, LONGEST_HOLD, DEAF = 5, 3, 240, 60
local IN_A_ROW, SLOWER = 3, 0.75
-- A bucket holds BURST seconds of its rate, so that a worker that was late catches up. No more than a
-- minute's limit is granted in MINUTE + late seconds: what was granted starts within a tick or comes back,
-- and takes a while to arrive, not always the same. By how much too late, refusals tell: LATER each. Of
-- tokens some is left, as calls need now more and now less: SCATTER of what one of them needs, times the
-- root of their number.
local BURST, TICK, MINUTE, HOUR = 0.5, 0.1, 60, 3601
local LATE, LATER, LATEST, FORGET = 0.1, 0.2, 3, 0.2 / 3600
local SCATTER = 0.25
local WINDOW, BIN = 5.0, 0.1
local TROUBLE, LONGEST_PROBE = 8, 32

local t = redis.call('TIME')
local now = t[1] + t[2] / 1e6
local worker, lease = ARGV[1], tonumber(ARGV[2])
local ask = {}
for i, name in ipairs({ 'started', 'successes', 'throttles', 'limited', 'faults', 'alive', 'retry_after',
                        'window', 'wanted', 'flying', 'weight', 'most', 'rpm', 'tpm', 'rph',
                        'requests', 'tokens', 'rub', 'left_requests', 'left_tokens', 'left_rub' }) do
  ask[name] = tonumber(ARGV[i + 2])
end

local s, raw = {}, redis.call('HGETALL', KEYS[1])
for i = 1, #raw, 2 do s[raw[i]] = raw[i + 1] end
local function known(name, otherwise) s[name] = tonumber(s[name]) or otherwise end
for _, name in ipairs({ 'edge', 'hold', 'tries', 'served', 'since', 'best', 'ok', 'bad', 'steps',
                        'before', 'deaf', 'rate', 'pause', 'req', 'tok', 'rub', 'trouble', 'down',
                        'probe', 'probes', 'vain', 'clock', 'oldest', 'let_in', 'reqs', 'toks',
                        'found' }) do
  known(name, 0)
end
known('at', now)
known('limit', ask.most > 0 and ask.most or START)
known('slow', 1)
known('mark', s.limit)
known('late', LATE)
for _, name in ipairs({ 'calm', 'met', 'tight' }) do known(name, 1e6) end

-- The clock of this machine may be set back or forth: only what passed since the last exchange
-- counts.
local elapsed = math.max(0, now - s.at)
s.at = now
for _, name in ipairs({ 'calm', 'since', 'met', 'tight' }) do s[name] = s[name] + elapsed end
for _, name in ipairs({ 'hold', 'deaf', 'pause', 'probe' }) do
  s[name] = math.max(0, s[name] - elapsed)
end
s.pause = math.max(s.pause, ask.retry_after)

-- Who else is there, what do they hold, and what weighs how much?
local others, others_wanted, weights, used = 0, 0, ask.wanted > 0 and ask.weight or 0, ask.flying
local mine, mine_since = 0, 0
local all = redis.call('HGETALL', KEYS[2])
for i = 1, #all, 2 do
  local granted, want, expires, weight, flying =
    string.match(all[i + 1], '(%S+) (%S+) (%S+) (%S+) (%S+)')
  if tonumber(expires) > now + 2 * lease then
    expires = now + lease
    redis.call('HSET', KEYS[2], all[i],
               table.concat({ granted, want, expires, weight, flying }, ' '))
  end
  if tonumber(expires) < now then
    redis.call('HDEL', KEYS[2], all[i])
  elseif all[i] == worker then
    mine, mine_since = tonumber(granted), math.max(0, now - (expires - lease))
  else
    others = others + tonumber(granted)
    others_wanted = others_wanted + tonumber(want)
    used = used + tonumber(flying)
    if tonumber(want) > 0 then weights = weights + tonumber(weight) end
  end
end
local part = weights > 0 and ask.weight / weights or 1

-- Is the endpoint there? Faults in a row, with no sign of life between, are an outage: then one
-- call at a time asks, by turns of whoever wants, and what was waiting comes back step by step.
local probing = 0
if ask.alive > 0 then
  if s.down > 0 then
    s.limit, s.slow = math.min(s.limit, math.max(START, s.limit / 8)), 1
    s.mark, s.served, s.since, s.best = s.limit, 0, 0, 0
  end
  s.trouble, s.down = 0, 0
else
  s.trouble = s.trouble + ask.faults
  if s.down > 0 then
    s.down = s.down + elapsed
  elseif s.trouble >= TROUBLE then
    s.down, s.probe, s.probes = 1e-3, 1, 0
  end
end
if s.down > 0 and s.probe == 0 and s.pause == 0 and ask.wanted > 0 then
  s.probes = s.probes + 1
  s.probe = math.min(2 ^ math.min(s.probes, 10), LONGEST_PROBE)
  probing = 1
end

-- What share of the calls is refused lately? Refusals come at once and answers late, so both fade.
local fade = math.exp(-elapsed / MEMORY)
s.ok = s.ok * fade + ask.successes
s.bad = s.bad * fade + ask.throttles
s.vain = ask.successes > 0 and 0 or s.vain + ask.throttles
local refused = s.ok + s.bad > 0 and s.bad / (s.ok + s.bad) or 0

-- How many calls were let in during the last minute, and how many requests and tokens were granted?
-- A minute of ours is longer than the endpoint's by what some calls are later on their way than others.
s.late = math.max(LATE, s.late - elapsed * FORGET)
s.clock = s.clock + elapsed
local minute = MINUTE + s.late
local index, kept = math.floor(s.clock / BIN), math.ceil(minute / BIN)
if index - s.oldest > 2 * kept then
  redis.call('DEL', KEYS[3])
  s.oldest, s.let_in, s.reqs, s.toks = index, 0, 0, 0
end
while s.oldest < index - kept do
  for _, name in ipairs({ 'let_in', 'reqs', 'toks' }) do
    local count = redis.call('HGET', KEYS[3], name .. s.oldest)
    if count then
      s[name] = s[name] - count
      redis.call('HDEL', KEYS[3], name .. s.oldest)
    end
  end
  s.oldest = s.oldest + 1
end
local function note(name, count, bin)
  if count == 0 or bin < s.oldest then return end
  s[name] = s[name] + count
  redis.call('HINCRBYFLOAT', KEYS[3], name .. bin, count)
end
note('let_in', ask.started - ask.throttles, index)
-- What was granted last and not used is taken out of where it was put in.
local granted_in = math.floor((s.clock - mine_since) / BIN)
note('reqs', -ask.left_requests, granted_in)
note('toks', -ask.left_tokens, granted_in)

-- A limit that is told to last for a while, or that even one call at a time meets, is one of
-- requests per minute: what was let in during the last one is what it is.
local by_rate = false
if s.rate > 0 then
  s.rate = s.rate * (1 + math.min(elapsed, 1) * 0.001 * (1 + s.met / 30))
  if s.met > 900 then s.rate = 0 end
end
if ask.limited > 0 then
  -- One of a few calls may be refused by chance, and a minute is long to suffer for it.
  local alone = s.limit <= 2 and refused > 2 * CROWD and s.vain >= IN_A_ROW and s.deaf == 0
  if s.rate > 0 and s.tight < 2 then
    by_rate = true
    if s.met > CALM then s.rate = math.max(1 / 60, math.min(s.rate, 0.985 * s.let_in / minute)) end
    s.met = 0
    -- A rate that is kept to is hardly ever met. Who is refused however slow it gets, is by chance.
    if s.rate < SLOWER * s.found and ask.window < WINDOW then s.rate, s.deaf = 0, DEAF end
  elseif s.let_in >= 10 and (ask.window >= WINDOW or alone) then
    by_rate = true
    s.rate, s.met = 0.985 * s.let_in / minute, 0
    s.found = s.rate
  elseif s.tight < 2 and s.late < LATEST then
    -- One that was told is kept to, and met all the same.
    by_rate = true
    if s.met > CALM then s.late = s.late + LATER end
    s.met = 0
  end
end

-- A step back from refusals: a crowd is refused in numbers, and what is still in flight afterwards
-- is what the endpoint bears; a few are the edge of a limit, or chance.
local function rest_here()
  s.hold = math.min(LONGEST_HOLD, HOLD * LONGER ^ s.tries)
  s.tries, s.edge, s.slow = math.min(s.tries + 1, 10), s.limit, 0
  s.mark, s.served, s.since, s.best = s.limit, 0, 0, 0
end
-- Of a few calls as many may be refused by chance: what is a crowd is more than a tenth would bring.
local ended = s.ok + s.bad
local crowd = refused > CROWD and s.bad - 0.5 > 0.1 * ended + SURELY * math.sqrt(0.09 * ended)
local beyond = s.edge > 0 and s.limit > s.edge
-- A refusal that stops everybody for a while costs more than one place of many does.
local dear = refused > EDGE or (ask.retry_after > 0 and s.limit >= FREE)
if ask.throttles > 0 and not by_rate and s.calm > CALM
   and (crowd or beyond or (dear and s.slow == 0 and s.deaf == 0)) then
  if crowd then
    s.limit = math.max(1, math.min(s.limit, math.max(used, math.floor(s.limit * CUT))))
    s.steps, s.tries = 0, beyond and s.tries or 0
  elseif beyond then
    -- It was tried whether more is borne by now, and this is how much more.
    local more = math.floor(s.limit) - math.floor(LAST * s.limit) - ask.throttles
    s.limit = math.max(s.edge, more)
  else
    if s.steps == 0 then s.before = s.limit end
    s.steps, s.tries = s.steps + 1, 0
    s.limit = math.max(1, s.limit - math.max(1, LAST * s.limit, refused * s.limit))
    if s.steps > 4 then s.limit, s.steps, s.deaf = s.before, 0, DEAF end
  end
  rest_here()
  -- No step back made them fewer: there is no edge here, and what is low grows as at first.
  if s.deaf == DEAF and s.limit < FREE then s.edge, s.hold, s.slow = 0, 0, 1 end
  s.calm, s.ok, s.bad = 0, 0, 0
elseif ask.throttles == 0 and used < 0.8 * math.floor(s.limit) then
  -- Nobody needs it all, so nothing is learned of it.
  s.mark, s.served, s.since, s.best = s.limit, 0, 0, 0
elseif ask.successes > 0 and s.calm > CALM
   and (ask.throttles == 0 or (s.deaf > 0 and s.limit < FREE and not crowd)) then
  if s.calm > 2 * MEMORY then s.steps = 0 end
  s.served = s.served + ask.successes
  if s.edge == 0 or s.limit < s.edge or s.hold == 0 then
    if s.limit == s.mark and s.edge > 0 and s.limit >= s.edge and s.since > 0 then
      s.best, s.served, s.since = s.served / s.since, 0, 0
    end
    local gain = s.slow == 1 and 1 or math.max(1 / s.limit, GAIN)
    s.limit = s.limit + ask.successes * gain
    if s.edge > 0 and s.limit >= 1.25 * s.edge then s.edge, s.tries = 0, 0 end
  end
  -- More in flight must bring more: a limit of the endpoint's that nobody tells is not queued at.
  if s.limit >= s.mark * (s.slow == 1 and 2 or 1.25) then
    local through = s.served / math.max(s.since, TICK)
    if s.mark >= FREE and s.best > 0
       and through < s.best * (s.slow == 1 and DOUBLED_PAYS or PAYS) then
      s.limit = s.mark
      rest_here()
    else
      s.mark, s.served, s.since, s.best = s.limit, 0, 0, through
    end
  end
end
if ask.most > 0 then s.limit = math.min(s.limit, ask.most) end

-- My part: what the others leave, at least a fair share once they gave it back. A fraction of a call
-- is one now and then, so that nobody is left with none for ever.
local whole = math.floor(s.limit + 1e-6)
local share = math.max(whole * part, whole - others_wanted)
local slots = math.max(0, math.min(ask.wanted, math.floor(share + t[2] % 1000 / 1000), whole - others))
if s.down > 0 then slots = ask.flying + probing end
-- What is above it starts no more, but is nobody else's before it has ended.
local held = math.max(slots, math.min(ask.flying, mine))
redis.call('HSET', KEYS[2], worker,
           table.concat({ held, ask.wanted, now + lease, ask.weight, ask.flying }, ' '))
redis.call('EXPIRE', KEYS[2], 3600)

-- The buckets. Each who asks puts back what it has left, and gets its part of the level, so that no
-- one's tick is always first. Who has no place in flight for what it had gets nothing this time: others
-- may have.
local function take(name, rate, asked, left, room, whole_numbers)
  if rate <= 0 then
    s[name] = 0
    return -1
  end
  local burst = rate * BURST + (whole_numbers and 1 or 0)
  local level = math.min(burst, s[name] + elapsed * rate + left)
  local free = math.max(0, math.min(level, room))
  if left > 0 and ask.started == 0 and ask.flying >= slots then asked = 0 end
  local granted = math.min(asked, free * part)
  if whole_numbers then granted = math.min(math.ceil(free * part), math.floor(free), asked) end
  s[name] = level - granted
  return granted
end
local function room(limit, granted) return limit > 0 and limit - granted or math.huge end
local per_second = ask.rpm / MINUTE
if s.rate > 0 and (per_second == 0 or s.rate < per_second) then per_second = s.rate end
-- What started before a limit was told or found counts, too.
local requests = take('req', per_second, ask.requests, ask.left_requests,
                      room(per_second * MINUTE, math.max(s.reqs, s.let_in)), true)
local scatter = SCATTER / math.sqrt(math.max(1, s.let_in))
local tokens = take('tok', ask.tpm / MINUTE, ask.tokens, ask.left_tokens,
                    room(ask.tpm * (1 - scatter), s.toks))
note('reqs', math.max(0, requests), index)
note('toks', math.max(0, tokens), index)
if (requests >= 0 and requests < ask.requests) or (tokens >= 0 and tokens < ask.tokens) then
  s.tight = 0
end
local rub = take('rub', ask.rph / HOUR, ask.rub, ask.left_rub, math.huge)

local out = {}
for name, value in pairs(s) do
  out[#out + 1] = name
  out[#out + 1] = value
end
redis.call('HSET', KEYS[1], unpack(out))
redis.call('EXPIRE', KEYS[1], 86400)
redis.call('EXPIRE', KEYS[3], 86400)
return { slots, requests, tostring(tokens), tostring(rub), tostring(s.pause), whole,
         tostring(s.down), probing }
