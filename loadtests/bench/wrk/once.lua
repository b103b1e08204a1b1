-- Each of `count` codes beginning with number `first` exactly once, in an order that looks random.
-- Arguments: first, count, seed, connections.
--
-- When all have been asked for, a connection that comes for more gets an empty request and falls silent. As soon as
-- the last has, every answer is here: the script says EXHAUSTED, and the program that started wrk interrupts it.

require("report")
local codes = require("codes")

local first, count, connections, step, position
local probing = true -- wrk asks for one request before the run and does not send it
local asked, silent = 0, 0

local function gcd(a, b)
    while b ~= 0 do a, b = b, a % b end
    return a
end

function init(args)
    wrk.headers["Host"] = wrk.host .. ":" .. wrk.port
    first, count = tonumber(args[1]), tonumber(args[2])
    connections = tonumber(args[4])
    math.randomseed(tonumber(args[3]))
    -- A step that has no divisor in common with the count visits every number once.
    step = math.floor(count * 0.6180339887)
    while gcd(step, count) ~= 1 do step = step + 1 end
    position = math.random(0, count - 1)
end

function request()
    if probing then
        probing = false
        return codes.request(first)
    end
    if asked < count then
        asked = asked + 1
        position = (position + step) % count
        return codes.request(first + position)
    end
    silent = silent + 1
    if silent == connections then
        wrk.thread:stop()
        io.write("EXHAUSTED\n")
        io.flush()
    end
    return ""
end
