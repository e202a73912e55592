-- One step of a token bucket that processes share. Redis runs it alone, so that nothing comes
-- between, and by its own clock.
--
-- Each process has at most one place in the line: a time from which it may take its tokens. Those
-- times come from the same arithmetic as the level (GCRA, ITU-T I.371), counted when a place is
-- taken; the level is counted when tokens are, and has the last word. Times are in microseconds.
--
-- KEYS[1]  the bucket
-- ARGV     1 rate (tokens a second), 2 capacity,
--          3 run of the server that the place and the tokens given back are from,
--          4 weight of the place held (0: none), 5 its time,
--          6 tokens given back (0: none), 7 when they were taken,
--          8... weights wanted, in order; below 0: whoever wants it does not wait
-- returns  a letter for each weight decided (g granted, r refused, w waits: the last one then),
--          the time of the place held from now on, the run, and now;
--          or 'LIMIT' and the other limit, if the bucket is in use with another one

local EARLY = 0.5 -- clocks count whole microseconds; what is taken early stays owed

local given = ARGV[1] .. ' ' .. ARGV[2]
local rate, capacity = tonumber(ARGV[1]) / 1e6, tonumber(ARGV[2])
local time = redis.call('TIME')
local state = redis.call('HMGET', KEYS[1], 'limit', 'run', 'last', 'full_at', 'spent', 'line')
if state[1] and state[1] ~= given then
  return {'LIMIT', state[1]}
end
local now = math.max(time[1] * 1e6 + time[2], tonumber(state[3] or 0)) -- a clock set back stands

-- Which run of the server this is, and how long it has lasted at least (it counts in seconds).
local run, lasted = '', 0
local info = redis.pcall('INFO', 'server') -- refused to some users: then nothing is known
if type(info) == 'string' then
  run = string.match(info, 'run_id:(%x+)')
  lasted = math.max(0, string.match(info, 'uptime_in_seconds:(%d+)') - 1) * 1e6
end

local known = state[2] == run
local full_at, spent, line = tonumber(state[4]), tonumber(state[5]), tonumber(state[6])
if not known then
  -- Nobody has asked for so long that the bucket is full; or the server was started anew, and what
  -- was taken before is forgotten: then it holds what has flowed in since, and no more.
  full_at, spent, line = now, math.max(0, capacity - rate * lasted), now
end
local same_run = known and ARGV[3] == run

local function full()
  return full_at + spent / rate
end

local function arrive(weight)
  line = math.max(line, full(), now) + weight / rate
  return line - capacity / rate
end

local back = tonumber(ARGV[6])
if back > 0 and same_run then
  -- Without it the bucket might have been full since, and that time have passed unused.
  back = math.min(spent, math.max(0, back - rate * (now - ARGV[7])))
  spent, line = spent - back, line - back / rate
end

local held = tonumber(ARGV[4])
local place = nil
if held > 0 and same_run then
  place = tonumber(ARGV[5])
  if #ARGV < 8 then -- given up
    line = line - held / rate
  end
end

local decided, due = '', 0
for index = 8, #ARGV do
  local weight = math.abs(ARGV[index])
  local mine
  if place then -- kept for the first, whose weight may be another one by now
    line, mine = line + (weight - held) / rate, place + (weight - held) / rate
    place = nil
  else
    mine = arrive(weight)
  end
  local ready = full_at + (spent + weight - capacity) / rate
  if math.max(mine, ready) <= now + EARLY then
    if now >= full() then
      full_at, spent = now, 0
    end
    spent = spent + weight
    decided = decided .. 'g'
  elseif tonumber(ARGV[index]) < 0 then
    line = line - weight / rate
    decided = decided .. 'r'
  else
    if ready > mine then -- time has passed unused: who comes later stays later
      line, mine = line + ready - mine, ready
    end
    decided, due = decided .. 'w', mine
    break
  end
end

local function text(number)
  return string.format('%.17g', number)
end
redis.call('HSET', KEYS[1], 'limit', given, 'run', run, 'last', text(now),
  'full_at', text(full_at), 'spent', text(spent), 'line', text(line))
-- Once it is full and nobody waits, it is as if it had never been.
redis.call('PEXPIRE', KEYS[1], math.ceil((math.max(full(), line) - now) / 1000) + 1000)
return {decided, text(due), run, text(now)}
