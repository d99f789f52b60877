-- What one key has used, counted for all replicas at once; the arithmetic of meters.py by the store's own clock.
-- KEYS: the levels of its buckets and when they were so (a hash), and what is being answered by when it lapses (a sorted set).
-- ARGV: admit, renew, settle or look; requests a minute, tokens a minute, requests at once (0: no limit); tokens spent;
--       ms that a lease lasts; leases.
-- Returns the rule that forbids it or '', and both levels.
local verb, rpm, tpm, concurrent = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local spent, lasts = tonumber(ARGV[5]), tonumber(ARGV[6])
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local known = redis.call('HMGET', KEYS[1], 'requests', 'tokens', 'at')

local function level(said, size)
  if not said then return size end
  return math.min(size, tonumber(said) + math.max(0, now - tonumber(known[3])) * size / 60000)
end
local requests, tokens = level(known[1], rpm), level(known[2], tpm)

redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
local refused = ''
if verb == 'admit' then
  if concurrent > 0 and redis.call('ZCARD', KEYS[2]) >= concurrent then
    refused = 'concurrent'
  elseif tpm > 0 and tokens < 1 then
    refused = 'tokens'
  elseif rpm > 0 and requests < 1 then
    refused = 'requests'
  elseif rpm > 0 then
    requests = requests - 1
  end
end
tokens = tokens - spent

if refused == '' and (verb == 'admit' or verb == 'renew') then
  for number = 7, #ARGV do
    redis.call('ZADD', KEYS[2], now + lasts, ARGV[number])
    redis.call('PEXPIRE', KEYS[2], lasts)
  end
elseif verb == 'settle' then
  for number = 7, #ARGV do redis.call('ZREM', KEYS[2], ARGV[number]) end
end

-- It is forgotten when both are full again: that is how one begins.
local function empty(size, found) return size > 0 and (size - found) / size or 0 end
local missing = math.max(empty(rpm, requests), empty(tpm, tokens))
if missing > 0 and (spent > 0 or verb == 'admit' and refused == '') then
  redis.call('HSET', KEYS[1], 'requests', string.format('%.6f', requests), 'tokens', string.format('%.6f', tokens),
    'at', string.format('%.3f', now))
  redis.call('PEXPIRE', KEYS[1], math.ceil(missing * 60000) + 1000)
end
return {refused, string.format('%.6f', requests), string.format('%.6f', tokens)}
