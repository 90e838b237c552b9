-- Takes units of a rate, by the generic cell rate algorithm and the clock of the server.
--
-- What is kept of a key is the instant at which all that was had has come back, in microseconds since 2025. A double
-- holds it to less than a hundredth of a microsecond for some decades.
--
-- KEYS[1]  the key of the rate
-- ARGV     the time of a unit in microseconds; units that may be had at once; units that are wanted; units without
--          which none are of use; units that were had already, or below nought go back
-- gives    units; units that are left; microseconds until all are back, and until there is what is of use
local unit, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local wanted, least, charge = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local time = redis.call('TIME')
local now = (tonumber(time[1]) - 1735689600) * 1000000 + tonumber(time[2])
local full = tonumber(redis.call('GET', KEYS[1]) or '') or now
full = math.max(math.max(full, now) + charge * unit, now)
local room = math.floor((now + burst * unit - full) / unit + 0.000001)
local units = math.min(wanted, math.max(room, 0))
if units < least then units = 0 end
full = full + units * unit
if units > 0 or charge ~= 0 then
  local keep = math.min(math.ceil((full - now) / 1000) + 1000, 315360000000)
  redis.call('SET', KEYS[1], string.format('%.17g', full), 'PX', string.format('%.0f', keep))
end
local wait = full + least * unit - (now + burst * unit)
local function whole(number) return math.min(math.max(math.ceil(number), 0), 1000000000000000) end
return { units, whole(room - units), whole(full - now), whole(wait) }
