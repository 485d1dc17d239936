-- The shared pace of one endpoint, key and model: how many calls may be in flight, and how many
-- requests and tokens may start. Decided here, by Redis's clock, for all workers at once.
--
-- KEYS[1]  hash    limit      calls in flight that the endpoint bears, as far as is known
--                  slow       1 until a crowd was refused: the limit doubles per round
--                  cut_at     when the limit was last lowered
--                  ok, bad    answers and refusals of the last seconds, fading
--                  pause      for how long from `at` on nothing may start (Retry-After)
--                  req, tok   levels of the two buckets at `at`
--                  at         when this hash was last brought up to date
-- KEYS[2]  hash    worker -> "granted wanted expires": the calls in flight each may have
--
-- ARGV  1 worker         2 lease, s          3 wanted in flight    4 in flight now
--       5 successes      6 throttles         7 longest Retry-After met, s
--       8 most in flight (0: find out)       9 requests/min (0: none)  10 tokens/min (0: none)
--      11 requests asked for   12 tokens asked for
--
-- Answers { slots, requests, tokens, pause in ms, limit }; requests and tokens -1 where unlimited.

local START, CALM, MEMORY = 4, 1.0, 5.0
local CROWD, CUT = 0.25, 0.5
local EDGE, STEP, GAIN = 0.05, 0.02, 0.05
-- A bucket holds BURST seconds of its rate: enough to ride over a worker's tick.
-- A call starts up to a second after it was granted, and half a second's worth may be granted at
-- once: so a minute of the endpoint's sees at most 61.5 s of the rate.
local BURST, TICK, MINUTE = 0.5, 0.1, 61.5

local t = redis.call('TIME')
local now = t[1] + t[2] / 1e6
local worker, lease = ARGV[1], tonumber(ARGV[2])
local wanted, flying = tonumber(ARGV[3]), tonumber(ARGV[4])
local successes, throttles, retry_after = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local most, rpm, tpm = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])

local h = redis.call('HMGET', KEYS[1], 'limit', 'slow', 'cut_at', 'pause', 'req', 'tok', 'at',
                     'ok', 'bad')
local limit = tonumber(h[1]) or (most > 0 and most or START)
local slow = tonumber(h[2]) or 1
-- The clock of this machine may be set back or forth: only what passed since the last exchange
-- counts, and what seems to lie in the future is as good as now.
local cut_at = math.min(tonumber(h[3]) or 0, now)
local elapsed = math.max(0, now - (tonumber(h[7]) or now))
local pause = math.max(0, (tonumber(h[4]) or 0) - elapsed)

-- Who else is there, and what do they hold?
local others, others_wanted, count = 0, 0, 1
local all = redis.call('HGETALL', KEYS[2])
local mine = 0
for i = 1, #all, 2 do
  local granted, want, expires = string.match(all[i + 1], '(%S+) (%S+) (%S+)')
  if tonumber(expires) > now + 2 * lease then
    redis.call('HSET', KEYS[2], all[i], granted .. ' ' .. want .. ' ' .. (now + lease))
  end
  if tonumber(expires) < now then
    redis.call('HDEL', KEYS[2], all[i])
  elseif all[i] == worker then
    mine = tonumber(granted)
  else
    others = others + tonumber(granted)
    others_wanted = others_wanted + tonumber(want)
    if tonumber(want) > 0 then count = count + 1 end
  end
end

-- What share of the calls is refused lately? Refusals come at once and answers late, so both fade.
local fade = math.exp(-elapsed / MEMORY)
local ok = (tonumber(h[8]) or 0) * fade + successes
local bad = (tonumber(h[9]) or 0) * fade + throttles
local refused = ok + bad > 0 and bad / (ok + bad) or 0

-- A crowd is refused in numbers: what is still in flight afterwards is what the endpoint bears. A
-- few refusals are the edge of a limit, or chance: a small step back.
local used = others + flying
if throttles > 0 and now - cut_at > CALM and (refused > CROWD or (slow == 0 and refused > EDGE)) then
  if refused > CROWD then
    limit = math.max(1, used, math.floor(limit * CUT))
    slow = 0
  else
    limit = math.max(1, limit - math.max(1, STEP * limit))
  end
  cut_at = now
elseif successes > 0 and used >= 0.8 * limit and now - cut_at > CALM then
  if slow == 1 then
    limit = limit + successes
  elseif refused <= EDGE then
    limit = limit + successes * math.max(1, GAIN * limit) / limit
  end
end
if most > 0 then limit = math.min(limit, most) end
pause = math.max(pause, retry_after)

-- My part: what the others leave, at least a fair share once they gave it back.
local whole = math.floor(limit + 1e-6)
local share = math.max(whole / count, whole - others_wanted)
local slots = math.max(0, math.min(wanted, math.floor(share + 0.5), whole - others))
if flying > slots then slots = math.min(flying, math.max(mine, slots)) end
redis.call('HSET', KEYS[2], worker, slots .. ' ' .. wanted .. ' ' .. (now + lease))
redis.call('EXPIRE', KEYS[2], 3600)

-- The two buckets.
local function take(level, per_minute, asked)
  if per_minute <= 0 then return level, -1 end
  local rate = per_minute / MINUTE
  -- Where the rate is slow, one request, and what came in over it between two ticks.
  local burst = math.max(rate * BURST, 1 + rate * TICK)
  level = math.min(burst, level + elapsed * rate)
  local granted = math.max(0, math.min(asked, math.floor(level)))
  return level - granted, granted
end
local req, requests = take(tonumber(h[5]) or 0, rpm, tonumber(ARGV[11]))
local tok, tokens = take(tonumber(h[6]) or 0, tpm, tonumber(ARGV[12]))

redis.call('HSET', KEYS[1], 'limit', limit, 'slow', slow, 'cut_at', cut_at, 'pause', pause,
           'req', req, 'tok', tok, 'at', now, 'ok', ok, 'bad', bad)
redis.call('EXPIRE', KEYS[1], 86400)
return { slots, requests, tokens, math.ceil(pause * 1000), whole }
