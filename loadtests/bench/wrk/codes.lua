-- The n-th code, as loadtests/bench/dossiers.py writes it or as it stands in the file WRK_CODES names, and a request
-- for it from one of many clients.

local codes = {}

local PER_DAY, DAYS_A_MONTH = 10000, 25

local listed
if os.getenv("WRK_CODES") then
    listed = {}
    for code in io.lines(os.getenv("WRK_CODES")) do listed[#listed + 1] = code end
end

function codes.nth(n)
    if listed then return listed[n + 1] end
    local day = math.floor(n / PER_DAY)
    return string.format("G99.05.02-26%02d%02d-%05d",
        1 + math.floor(day / DAYS_A_MONTH), 1 + day % DAYS_A_MONTH, n % PER_DAY)
end

-- The client that asks for the n-th code, each time the same: a code that is asked for again is an answer given again.
-- Carriers' shared addresses (RFC 6598): a service that limits its clients sees up to four million of them.
local function client(n)
    return string.format("100.%d.%d.%d", 64 + n % 64, math.floor(n / 64) % 256, math.floor(n / 16384) % 256)
end

-- What stands before and after a code: the path in wrk's URL up to its last part, and wrk's headers.
local before, after

function codes.request(n)
    if not before then
        before = "GET " .. wrk.path:match("^.*/")
        after = " HTTP/1.1\r\n"
        for name, value in pairs(wrk.headers) do after = after .. name .. ": " .. value .. "\r\n" end
    end
    return before .. codes.nth(n) .. after .. "X-Forwarded-For: " .. client(n) .. "\r\n\r\n"
end

return codes
