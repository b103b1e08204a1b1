-- Loaded by the other scripts: at the end of a run, one line of JSON that begins with REPORT.

function done(summary, latency, requests)
    local errors = summary.errors
    io.write(string.format(
        'REPORT {"answers":%d,"microseconds":%d,"median":%d,"p99":%d,"longest":%d,'
            .. '"connect":%d,"read":%d,"write":%d,"timeout":%d,"status":%d}\n',
        summary.requests, summary.duration,
        latency:percentile(50), latency:percentile(99), latency.max,
        errors.connect, errors.read, errors.write, errors.timeout, errors.status))
end
