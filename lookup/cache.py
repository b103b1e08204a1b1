"""The cache in Redis: formats of keys and values, compare-and-set, and appending to the change stream.

Every value is `<version> <as_of> <stream_name>\\n<body>` and is stored only over a lower version. Keys carry a
format version and the epoch. The relay (in intake) writes through this module too.

Why a copy cannot stay out of date, step by step for the interleaving that breaks ordinary caches.
A reader loads version 1 slowly, a writer commits version 2, the relay delivers it:

  1. The reader queries PostgreSQL. `as_of` := PostgreSQL's time before the snapshot; `horizon` := the
     snapshot's xmin, below which every transaction had ended. It gets version 1.
  2. The writer commits version 2.
  3. The relay reads version 2 from the log, and in one script sets the key to version 2, appends to the
     stream, and, when the batch held a heartbeat, moves the feed's `at` past the commit.
  4. The reader's fill arrives with version 1. It loses the comparison; version 2 is returned, and the
     citizen gets version 2.

  4b. But suppose Redis evicted the key between 3 and 4. The fill finds no value to compare with and stores
     version 1. Readers trust a value up to the later of its own `as_of` and the feed's `at`, and `at`
     will pass the commit: version 1 would count as current as long as heartbeats arrive. So a fill may
     lean on the feed only if the stream, at the moment of storing, ends below the load's horizon: then
     the load saw everything delivered so far, and a change it missed is yet to be delivered and will
     replace it. Otherwise `stream_name` is `-`: the value ages by its own `as_of` alone, and is loaded again
     within the soft age. (Comparing `as_of` with the feed's `at` is not enough: between two heartbeats
     the stream is ahead of `at`.) In that case "there is none" is not stored at all.

  5. Redis restarts from an old snapshot: values, stream and `at` are equally old, so no value counts as
     newer than it is. The relay reads the end of the stream itself and delivers the rest again.

  6. The stream is lost and the values are not: the relay starts a new stream, named by its first entry.
     `stream_name` is the name of the stream a value leans on; values of the lost stream lean on none.

  7. A relay that was stopped in mid-batch resumes after another relay has taken over, and tries to write
     version 2. The append refuses, because the stream no longer ends where that relay left it, and the
     values of the same script are not written either.

The same reasoning for process memory: lookup/reading/feed.py.
"""

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from redis.exceptions import NoScriptError

from lookup.clock import Micros
from lookup.metrics import UNREADABLE
from ops.stores.redis import Redis

STREAM_LENGTH = 200_000
"""Entries kept in the stream; about 25 MB."""

# Shared by both scripts. `put` returns nil when the value was stored, else the value that stays. A value of the same
# version that already leans on the stream continues to.
_PUT = """
local function put(key, version, as_of, body, ttl, at, stream_name, leans)
    local current = redis.call('GET', key)
    if current then
        local v, a, s = string.match(current, '^(%d+) (%d+) (%S+)\\n')
        v, a = tonumber(v), tonumber(a)
        local leaning = v and s == stream_name and s ~= '-'
        if leaning and at > a then a = at end
        if v and (v > tonumber(version) or (v == tonumber(version) and a >= tonumber(as_of))) then
            return current
        end
        if leaning and v == tonumber(version) then leans = true end
    end
    redis.call('SET', key, version .. ' ' .. as_of .. ' ' .. (leans and stream_name or '-') .. '\\n' .. body, 'EX', ttl)
    return nil
end

local function feed(key)
    local value = redis.call('GET', key)
    if not value then return 0, '-' end
    local at, stream_name = string.match(value, '^(%d+) (%S+)$')
    if not at then return 0, '-' end
    return tonumber(at), stream_name
end

local function stream_end(key)
    local last = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
    return last and last[1] or ''
end
"""

# KEYS: one key per value.
# ARGV: feed, stream, the load's horizon, then per value version, as_of, body, seconds to live.
# Feed and stream are no KEYS: a user that runs a script must be allowed to write all of those, and lookups only read
# these two (redis_users.py).
# Returns the feed's at and name, then per value 1 if it was stored and leans on the feed, 0 if it does not lean,
# or the value that won.
_FILL = (
    _PUT
    + """
local at, stream_name = feed(ARGV[1])
local last = stream_end(ARGV[2])
local saw_all = last == '' or tonumber(string.match(last, '^(%d+)')) < tonumber(ARGV[3])
local leans = saw_all and last ~= '' and stream_name ~= '-'
local results = {string.format('%.0f', at), stream_name}
for i = 1, #KEYS do
    local n = 4 * i - 1
    local missing = ARGV[n + 1] == '0'
    if missing and not saw_all then
        results[i + 2] = 0
    else
        local leaning = leans and not missing
        local winner = put(KEYS[i], ARGV[n + 1], ARGV[n + 2], ARGV[n + 3], ARGV[n + 4], at, stream_name, leaning)
        results[i + 2] = winner or (leaning and 1 or 0)
    end
end
return results
"""
)

# KEYS: stream, feed, epoch, then one key per value.
# ARGV: where the stream must end ('' for "nowhere yet"), epoch, heartbeat ('' for none), length kept,
#       number of values, per value version, as_of, body, seconds to live;
#       then per entry its id, and code, version, number ('' for none; code '' for a heartbeat), removed (1 or '').
# A value read together with a batch of the log includes at least that batch, so it always leans on the stream.
_APPEND = (
    _PUT
    + """
local stream, feed_key = KEYS[1], KEYS[2]
local last = stream_end(stream)
if last ~= ARGV[1] then return {'moved', last} end

local at, stream_name = feed(feed_key)
local values = tonumber(ARGV[5])
local first_entry = 6 + 4 * values
if last == '' or stream_name == '-' then stream_name = ARGV[first_entry] end

local prev = last
for n = first_entry, #ARGV, 5 do
    local id, code, version, number, removed = ARGV[n], ARGV[n + 1], ARGV[n + 2], ARGV[n + 3], ARGV[n + 4]
    local fields = {'prev', prev}
    if code ~= '' then
        fields = {'code', code, 'version', version, 'prev', prev}
    elseif ARGV[3] ~= '' then
        fields = {'at', ARGV[3], 'since', stream_name, 'prev', prev}
    end
    if number ~= '' then table.insert(fields, 'number') table.insert(fields, number) end
    if removed ~= '' then table.insert(fields, 'removed') table.insert(fields, removed) end
    local added = redis.pcall('XADD', stream, 'MAXLEN', '~', ARGV[4], id, unpack(fields))
    if type(added) == 'table' and added.err then
        if n > first_entry then error(added.err) end
        if string.find(added.err, 'equal or smaller') or string.find(added.err, 'must be greater') then
            return {'too small', added.err}
        end
        return added
    end
    prev = id
end
for i = 0, values - 1 do
    local n = 6 + 4 * i
    put(KEYS[4 + i], ARGV[n], ARGV[n + 1], ARGV[n + 2], ARGV[n + 3], at, stream_name, true)
end
if ARGV[3] ~= '' then at = tonumber(ARGV[3]) end
redis.call('SET', feed_key, string.format('%.0f', at) .. ' ' .. stream_name)
redis.call('SET', KEYS[3], ARGV[2])
return {'appended', prev}
"""
)

# KEYS: one per name. ARGV: per name how far its due time is ahead of now in the process that asks, and what that
# process spent since it asked last, in seconds. Returns per name how far all processes together are ahead.
# Redis's own clock counts, so processes need not agree on the time.
_SPEND = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local answers = {}
for i = 1, #KEYS do
    local ahead, spent = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
    local due = tonumber(redis.call('GET', KEYS[i]) or nil)
    if due then ahead = math.max(due - now, 0) + spent end
    redis.call('SET', KEYS[i], string.format('%.3f', now + ahead), 'PX', math.ceil(ahead * 1000) + 1)
    answers[i] = string.format('%.3f', ahead)
end
return answers
"""


class Entry(NamedTuple):
    """One cached value. Version 0 means "there is none"; an empty body at a higher version, "removed".

    `leans`: it is current up to the feed's last heartbeat; `as_of` already includes that.
    """

    version: int
    as_of: Micros
    body: bytes
    leans: bool = False


class Value(NamedTuple):
    """A value to store under a key: see Entry; `ttl` in seconds."""

    key: str
    version: int
    as_of: Micros
    body: bytes
    ttl: int


class Change(NamedTuple):
    """One stream entry; `code` is empty for a heartbeat. `removed`: at this version the dossier has no content."""

    id: str
    code: str = ""
    version: int = 0
    number: str = ""
    removed: bool = False


class StreamMovedError(Exception):
    """The stream does not end where the relay left it; `last` is its last id ('' for an empty stream)."""

    def __init__(self, last: str) -> None:
        super().__init__(last)
        self.last = last


class EntryTooSmallError(Exception):
    """Redis has already seen a higher entry id: PostgreSQL was restored to an earlier state."""


@dataclass(frozen=True, slots=True)
class Read:
    """The result of one round trip to Redis."""

    entries: Sequence[Entry | None]
    """One per key, in order."""
    feed_at: Micros
    """Up to when every committed change has been delivered; 0 when no relay delivers."""
    stream_name: bytes
    """The stream's name, which is its first entry's id; `-` for none."""


NOTHING_READ = Read((), 0, b"-")
"""The result while Redis is unreachable."""


@dataclass(frozen=True, slots=True)
class Filled:
    """The result of one fill for each value, and the feed's state at the same moment."""

    outcomes: Sequence[Entry | bool]
    """Per value the entry that won instead, or whether the stored value leans on the feed."""
    feed_at: Micros
    stream_name: bytes


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """The end of the change stream at one moment: the last id ('' for none), and the feed's state as in Read."""

    last: str
    feed_at: Micros
    stream_name: bytes


class Heard(NamedTuple):
    """One entry of the change stream as a follower reads it. A heartbeat has `at` and `stream_name`, a change
    `code`."""

    id: str
    prev: str
    code: str = ""
    version: int = 0
    number: str = ""
    at: Micros = 0
    stream_name: bytes = b""
    removed: bool = False


def dossier_key(epoch: int, code: str) -> str:
    """The key of a dossier's record."""
    return f"dossier:v2:{epoch}:{code}"


def number_key(epoch: int, number: str) -> str:
    """The key of the code behind an official number."""
    return f"number:v1:{epoch}:{number}"


def stream_key(epoch: int) -> str:
    """The key of the change stream."""
    return f"changes:v1:{epoch}"


def feed_key(epoch: int) -> str:
    """The key of the feed's state, `<at> <name of the stream>`."""
    return f"feed:v1:{epoch}"


def limit_key(name: str) -> str:
    """The key of what one network has used of one allowance; `name` is a keyed hash, never an address."""
    return f"limit:v1:{name}"


EPOCH_KEY = "epoch:v1"
"""The relay's epoch, for a lookup that starts while PostgreSQL is unreachable."""


class Cache:
    """The cache in Redis. Every method raises Unavailable within the connection's deadline."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._fill = _Script(_FILL)
        self._append = _Script(_APPEND)
        self._spend = _Script(_SPEND)

    async def read(self, epoch: int, keys: Sequence[str]) -> Read:
        """The entries under these keys, and the feed's state at the same moment, in one command."""
        feed, *values = await self._redis.call("MGET", feed_key(epoch), *keys)
        at, stream_name = _parse_feed(feed)
        return Read([_parse(value, at, stream_name) for value in values], at, stream_name)

    async def fill(self, epoch: int, values: Sequence[Value], horizon: int) -> Filled:
        """Store each value unless the cache has a newer one. `horizon`: the xmin of the snapshot they were read in.

        "There is none" (version 0) is not stored when the stream has passed the horizon: it may have delivered that
        dossier.
        """
        arguments: list[Any] = [feed_key(epoch), stream_key(epoch), horizon]
        for value in values:
            arguments += (value.version, value.as_of, value.body, value.ttl)
        keys = [value.key for value in values]
        at, stream_name, *results = await self._fill.run(self._redis, keys, arguments)
        feed_at = int(at)
        return Filled([_outcome(result, feed_at, stream_name) for result in results], feed_at, stream_name)

    async def append(
        self, epoch: int, last: str, changes: Sequence[Change], values: Sequence[Value], heartbeat: int | None
    ) -> str:
        """Deliver one batch: the values, then the stream's entries, all or nothing; returns the new last id.

        Raises StreamMovedError when the stream does not end at `last`, EntryTooSmallError when Redis
        refuses the first id.
        """
        arguments: list[Any] = [last, epoch, heartbeat or "", STREAM_LENGTH, len(values)]
        for value in values:
            arguments += (value.version, value.as_of, value.body, value.ttl)
        for change in changes:
            arguments += (change.id, change.code, change.version, change.number, 1 if change.removed else "")
        keys = [stream_key(epoch), feed_key(epoch), EPOCH_KEY, *(value.key for value in values)]
        outcome, detail = await self._append.run(self._redis, keys, arguments)
        if outcome == b"moved":
            raise StreamMovedError(detail.decode())
        if outcome == b"too small":
            raise EntryTooSmallError(detail.decode())
        return str(detail.decode())

    async def spend(self, names: Sequence[str], seconds: Sequence[float]) -> list[float]:
        """Add up what processes spent of their limits; returns per name how far all together are ahead of now.

        `seconds`: per name how far this process is ahead, and what it spent since it told last.
        """
        return [float(ahead) for ahead in await self._spend.run(self._redis, [*map(limit_key, names)], seconds)]

    async def forget(self, key: str) -> None:
        """Delete one key; no error when it does not exist."""
        await self._bytes(lambda client: client.delete(key))

    async def time_to_live(self, key: str) -> int:
        """Seconds until this key expires; negative when it does not exist or never expires."""
        return int(await self._bytes(lambda client: client.ttl(key)))

    async def stream_end(self, epoch: int) -> str:
        """The id of the stream's last entry, or '' for an empty stream."""
        entries = await self._bytes(lambda client: client.xrevrange(stream_key(epoch), count=1))
        return entries[0][0].decode() if entries else ""

    async def before(self, epoch: int, entry_id: str, *, most: int) -> list[Heard]:
        """The entries before this id ('' for the stream's end), the last one first."""
        highest = f"({entry_id}" if entry_id else "+"
        entries = await self._bytes(lambda client: client.xrevrange(stream_key(epoch), max=highest, count=most))
        return [_heard(each, fields) for each, fields in entries]

    async def join(self, epoch: int) -> StreamEnd:
        """Where a follower starts: the stream's end and the feed's state, read atomically."""

        async def command(client: Any) -> Any:
            pipeline = client.pipeline(transaction=True)
            pipeline.xrevrange(stream_key(epoch), count=1)
            pipeline.get(feed_key(epoch))
            return await pipeline.execute()

        entries, feed = await self._bytes(command)
        return StreamEnd(entries[0][0].decode() if entries else "", *_parse_feed(feed))

    async def follow(self, epoch: int, after: str, *, wait: float, most: int = 1000) -> list[Heard]:
        """The entries after this id, waiting up to `wait` seconds for the first; none is an empty list.

        Occupies a connection while it waits, so it needs a Redis client of its own.
        """
        read = await self._bytes(
            lambda client: client.xread({stream_key(epoch): after or "0-0"}, count=most, block=int(wait * 1000)),
            waiting=wait,
        )
        return [_heard(entry_id, fields) for _, entries in read or () for entry_id, fields in entries]

    async def epoch(self) -> int | None:
        """The epoch the relay delivers in, or None before its first delivery."""
        value = await self._redis.run(lambda client: client.get(EPOCH_KEY))
        return int(value) if value else None

    async def ping(self) -> None:
        """Return if Redis answers."""
        await self._bytes(lambda client: client.ping())

    async def _bytes(self, command: Callable[[Any], Awaitable[Any]], waiting: float = 0.0) -> Any:
        # The client's types include decoded answers; ours are always bytes.
        return await self._redis.run(command, waiting=waiting)


class _Script:
    """A Lua script run by its digest, and sent in full when Redis does not have it."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()

    async def run(self, redis: Redis, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        try:
            return await redis.call("EVALSHA", self._digest, len(keys), *keys, *arguments)
        except NoScriptError:
            return await redis.call("EVAL", self._source, len(keys), *keys, *arguments)


def _parse_feed(value: bytes | None) -> tuple[int, bytes]:
    try:
        at, stream_name = (value or b"0 -").split(b" ")
        return int(at), stream_name
    except ValueError:
        UNREADABLE.inc()
        return 0, b"-"


def _parse(value: bytes | None, feed_at: Micros, feed_stream: bytes) -> Entry | None:
    """The entry; None for a missing or malformed value, so that one bad value affects no other."""
    if value is None:
        return None
    try:
        head, _, body = value.partition(b"\n")
        version, own, stream_name = head.split(b" ")
        as_of = int(own)
        leans = stream_name == feed_stream and stream_name != b"-"
        if leans and feed_at > as_of:
            as_of = feed_at
        return Entry(int(version), as_of, body, leans)
    except ValueError:
        UNREADABLE.inc()
        return None


def _outcome(result: int | bytes, feed_at: Micros, stream_name: bytes) -> Entry | bool:
    if isinstance(result, int):
        return result == 1
    return _parse(result, feed_at, stream_name) or False


def _heard(entry_id: bytes, fields: Mapping[bytes, bytes]) -> Heard:
    return Heard(
        entry_id.decode(),
        fields.get(b"prev", b"").decode(),
        fields.get(b"code", b"").decode(),
        int(fields.get(b"version", 0)),
        fields.get(b"number", b"").decode(),
        int(fields.get(b"at", 0)),
        fields.get(b"since", b""),  # its name on the wire, which releases share
        b"removed" in fields,
    )
