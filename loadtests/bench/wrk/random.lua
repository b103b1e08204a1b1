-- Codes drawn uniformly from `count` beginning with number `first`, until wrk's duration is over.
-- Arguments: first, count, seed.

require("report")
local codes = require("codes")

local first, count

function init(args)
    wrk.headers["Host"] = wrk.host .. ":" .. wrk.port
    first, count = tonumber(args[1]), tonumber(args[2])
    math.randomseed(tonumber(args[3]))
end

function request()
    return codes.request(first + math.random(0, count - 1))
end
