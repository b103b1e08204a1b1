"""The lost tail: changes that were delivered and are missing from the log since PostgreSQL was restored.

While PostgreSQL never goes back in time, three rules hold, whatever was written in the meantime:

  1. Every change in the stream is in the log, under the same xid and seq.
  2. The newest event of the log that is not beyond the stream's end is the stream's last change. (A newer one would
     have been delivered.)
  3. PostgreSQL assigns no transaction id that the stream has seen already.

After a restore PostgreSQL assigns ids a second time. Then changes are missing (1), or new changes have ids that the
stream is past, so that they would never be delivered (2), or that is about to happen (3). Heartbeats alone prove
nothing: they use up ids too, and a relay that waited for its own heartbeats to pass the stream's end would take the
lost time for its own.
"""

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from rich.table import Table

from intake.settings import RelaySettings
from lookup.cache import Cache, Heard, dossier_key
from lookup.clock import VIETNAM, moment
from lookup.dossier import unpack
from lookup.status import Status
from ops.errors import Unavailable
from ops.stores.postgres import POSTGRES_AWAY, connect_directly
from ops.stores.redis import Redis

CHUNK = 1000
"""Entries of the stream read at a time. A transaction lasts ten seconds at most, so lost and kept changes are mixed for
no longer than that: the search ends at a chunk that has changes and lost none of them."""
NAMED = 20
"""Number of entries that an alarm names; `hoso24 cache lost` names all."""
DEADLINE = 5.0
"""Timeout of one query of `hoso24 cache lost` to PostgreSQL or Redis, in seconds."""

PRESENT_EPOCH = "SELECT max(number) FROM epoch"

IN_LOG = """
SELECT asked.n
  FROM unnest($2::text[], $3::integer[], $4::xid8[], $5::bigint[]) WITH ORDINALITY
       AS asked (code, version, xid, seq, n)
  JOIN event e
    ON e.code = asked.code
   AND e.version = asked.version
   AND e.xid = asked.xid
   AND e.seq = asked.seq
 WHERE e.epoch = $1
"""

NEWEST_UP_TO = """
SELECT xid, seq
  FROM event
 WHERE epoch = $1
   AND NOT bulk
   AND (xid, seq) <= ($2::xid8, $3::bigint)
 ORDER BY xid DESC, seq DESC
 LIMIT 1
"""

_LOST = "the stream holds changes that the log does not have"
ID_IS_IN_USE = "SELECT $1::xid8 < pg_snapshot_xmax(pg_current_snapshot())"


@dataclass(frozen=True, slots=True)
class LostTail:
    """What the stream has and the log does not have. `at` is in microseconds since 1970, 0 if unknown."""

    epoch: int
    last: str
    """The id of the stream's last entry; '' for an empty stream."""
    at: int
    """The last delivered heartbeat: every change committed up to then may be in the caches."""
    changes: Sequence[Heard]
    """The lost changes, oldest first."""
    fault: str
    """Why the log does not continue where the stream ends; '' when it does."""
    common: str = ""
    """The id of the newest change that both have and that is older than all that are lost; '' for none."""

    def __str__(self) -> str:
        ids = ", ".join(change.id for change in self.changes[:NAMED])
        more = f" and {len(self.changes) - NAMED} more" if len(self.changes) > NAMED else ""
        until = f", up to {moment(self.at).astimezone(VIETNAM):%Y-%m-%d %H:%M:%S}" if self.at else ""
        lost = f"changes lost: {len(self.changes)} ({ids}{more})" if ids else "no change is lost"
        return f"{self.fault}; the stream ends with {self.last or 'nothing'}{until}; {lost}"


class EventLog(Protocol):
    """Where the event log is read from: a connection or a pool."""

    async def fetch(self, sql: str, /, *arguments: Any) -> list[Any]: ...


async def find(log: EventLog, cache: Cache, epoch: int) -> LostTail:
    """Compare the end of the stream with the log. Raises Unavailable while Redis is unavailable."""
    last = oldest = newest_change = ""
    at = 0
    lost: list[Heard] = []
    kept: list[str] = []
    while entries := await cache.before(epoch, oldest, most=CHUNK):
        last, oldest = last or entries[0].id, entries[-1].id
        at = at or next((entry.at for entry in entries if entry.at), 0)
        changes = [entry for entry in entries if entry.code]
        missing = await _missing(log, epoch, changes)
        lost += missing
        kept += [entry.id for entry in changes if entry not in missing]
        newest_change = newest_change or next((change.id for change in changes), "")
        if changes and not missing:
            break
    fault = _LOST if lost else await _fault(log, epoch, last, newest_change, oldest)
    common = next((each for each in kept if not lost or pair(each) < pair(lost[-1].id)), "")
    return LostTail(epoch, last, at, tuple(reversed(lost)), fault, common)


async def _missing(log: EventLog, epoch: int, changes: Sequence[Heard]) -> list[Heard]:
    """The changes that are not in the log under the code, version and ids they were delivered with."""
    ids = [pair(change.id) for change in changes]
    rows = await log.fetch(
        IN_LOG,
        epoch,
        [change.code for change in changes],
        [change.version for change in changes],
        [xid for xid, _ in ids],
        [seq for _, seq in ids],
    )
    there = {row["n"] for row in rows}
    return [change for n, change in enumerate(changes, 1) if n not in there]


async def _fault(log: EventLog, epoch: int, last: str, newest_change: str, oldest: str) -> str:
    """The violation of rule 2 or 3, when no change is missing; '' for none. `oldest` is the oldest entry compared."""
    if not last:
        return ""
    xid, seq = pair(last)
    (row,) = await log.fetch(ID_IS_IN_USE, xid)
    if not row[0]:
        return "the stream has ids of transactions that PostgreSQL has not assigned yet"
    for newest in await log.fetch(NEWEST_UP_TO, epoch, xid, seq):
        found = (newest["xid"], newest["seq"])
        if found != pair(newest_change) if newest_change else found > pair(oldest):
            return "the log has a change that the stream passed without delivering it"
    return ""


def pair(entry_id: str) -> tuple[int, int]:
    """The transaction id and the sequence number of an entry's id."""
    xid, _, seq = entry_id.partition("-")
    return int(xid), int(seq)


@dataclass(frozen=True, slots=True)
class LostChange:
    """One lost change, for the officers who have to make it again. It has no data of the applicant."""

    code: str
    version: int
    entry: str
    status: str | None
    """As Redis still has it; None if the record was evicted, or is of another version."""
    agency: str | None
    official_number: str | None


async def look(settings: RelaySettings, epoch: int | None = None) -> tuple[LostTail, list[LostChange]]:
    """The lost tail of an epoch (default: the present one), and what Redis still has of its changes.

    Raises Unavailable while Redis or PostgreSQL is unavailable.
    """
    redis = Redis("redis", settings.redis_url.reveal, size=1, deadline=DEADLINE)
    try:
        with _postgres_unavailable():
            connection = await connect_directly(settings.pg_url.reveal, timeout=DEADLINE, command_timeout=DEADLINE)
            try:
                cache = Cache(redis)
                tail = await find(connection, cache, epoch or await connection.fetchval(PRESENT_EPOCH))
                return tail, [told async for told in _told(cache, tail)]
            finally:
                connection.terminate()
    finally:
        await redis.close()


@contextlib.contextmanager
def _postgres_unavailable() -> Iterator[None]:
    try:
        yield
    except POSTGRES_AWAY as away:
        raise Unavailable(f"PostgreSQL cannot be used now ({type(away).__name__}: {away}).") from away


async def _told(cache: Cache, tail: LostTail) -> AsyncIterator[LostChange]:
    for start in range(0, len(tail.changes), CHUNK):
        some = tail.changes[start : start + CHUNK]
        read = await cache.read(tail.epoch, [dossier_key(tail.epoch, change.code) for change in some])
        for change, entry in zip(some, read.entries, strict=True):
            yield _change(change, entry.body if entry is not None and entry.version == change.version else b"")


def _change(change: Heard, body: bytes) -> LostChange:
    try:
        record = unpack(body) if body else None
    except msgspec.DecodeError:
        record = None
    if record is None:
        return LostChange(change.code, change.version, change.id, None, None, change.number or None)
    slug = Status(record.status).slug
    return LostChange(change.code, change.version, change.id, slug, record.agency, record.official_number)


def lines(told: Sequence[LostChange]) -> Iterator[bytes]:
    """One line of JSON for each change. Keep them: after `hoso24 cache renew` Redis forgets them within a day."""
    for change in told:
        yield msgspec.json.encode(change) + b"\n"


def show(tail: LostTail, told: Sequence[LostChange]) -> Iterator[Any]:
    """For a terminal: a table of the lost changes, if there are any, and one sentence."""
    if told:
        table = Table(
            title="Changes that citizens may have seen and that are missing from the log", title_justify="left"
        )
        for column in ("dossier", "version", "status", "agency", "official number", "entry"):
            table.add_column(column, justify="right" if column == "version" else "left")
        for change in told:
            words = (change.status, change.agency, change.official_number)
            table.add_row(change.code, str(change.version), *(word or "–" for word in words), change.entry)
        yield table
    yield (
        f"Epoch {tail.epoch}: {tail}." if tail.fault else f"Epoch {tail.epoch}: the log goes on where the stream ends."
    )
