"""The relay: copies the event log, in commit order, into Redis and the change stream. One relay leads at a time.

The cursor is the pair `(xid, seq)`, never `seq` alone: a sequence has holes and is not commit order. The relay reads
only rows whose transactions are older than every open transaction, so no row can appear behind the cursor later. The
cursor is stored only in the stream: the id of the last entry is the pair, and an append does nothing unless the stream
still ends with that id. A Redis that lost its latest entries, was restored from a snapshot or failed over therefore
tells the relay where to go on.

A Redis that lost entries gets the newest version of each dossier, not every event once more. An event is left out only
if a later one of its dossier precedes the heartbeat of that moment. So the next heartbeat delivered has all behind it
that was left out, in newer versions; and the stream always ends with the log's newest event up to there, as
intake/books/lost_tail.py requires.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import asyncpg

from intake import metrics
from intake.books import lost_tail
from intake.books.writers import OpenWriters
from lookup import schema
from lookup.cache import Cache, Change, EntryTooSmallError, StreamMovedError, Value, dossier_key, number_key
from lookup.clock import microseconds
from lookup.dossier import COLUMNS, pack_row
from ops.errors import Unavailable
from ops.observe import tracing
from ops.stores.breaker import Breaker
from ops.stores.calls import measured
from ops.stores.postgres import POSTGRES_AWAY, connect_directly

log = logging.getLogger(__name__)

LEADERS_LOCK = 0x72656C6179  # "relay"
TRY_TO_LEAD = "SELECT pg_try_advisory_lock($1)"

# The oldest change after ($2, $3). Of a later moment it may be where its transaction began after this one.
WAITING = """
SELECT least(recorded_at, now())
  FROM event
 WHERE epoch = $1
   AND NOT bulk
   AND (xid, seq) > ($2::xid8, $3::bigint)
 ORDER BY xid, seq
 LIMIT 1
"""

# now() is taken before the transaction gets its xid: every change that committed before `at` has a lower xid, and is
# delivered before this row.
BEAT = f"""
UPDATE heartbeat
   SET at           = now(),
       xid          = pg_current_xact_id(),
       delivered_at = CASE WHEN $4 AND $1 = (SELECT max(number) FROM epoch) THEN coalesce(since, now())
                           ELSE delivered_at END
  FROM (SELECT ({WAITING}) AS since) AS oldest
RETURNING (SELECT max(number) FROM epoch) AS epoch,
          extract(epoch FROM at - since)::float8 AS waited
"""

# `at` and `xid` stay: with others the heartbeat would move behind all that waits, and never be delivered.
TELL_LAG = f"""
UPDATE heartbeat
   SET delivered_at = at - (now() - coalesce(since, now()))
  FROM (SELECT ({WAITING}) AS since) AS oldest
"""

# Before transaction $5, of a dossier's events only the newest and those that bind a number; with '0' all of them.
CHANGES = f"""
SELECT change.xid, change.seq, change.code, change.version, change.official_number, change.removing, change.at,
       now() AS asked_at,
       {", ".join(f"d.{name} AS dossier_{name}" for name in COLUMNS)}
  FROM ((SELECT e.xid, e.seq, e.code, e.version, e.official_number, e.kind = 'removed' AS removing,
                NULL::timestamptz AS at
           FROM event e
          WHERE e.epoch = $1
            AND NOT e.bulk
            AND (e.xid, e.seq) > ($2::xid8, $3::bigint)
            AND (e.xid >= $5::xid8 OR e.official_number IS NOT NULL OR NOT EXISTS (
                     SELECT FROM event AS later
                      WHERE later.code = e.code
                        AND later.version > e.version
                        AND later.epoch = e.epoch
                        AND NOT later.bulk
                        AND (later.xid, later.seq) > (e.xid, e.seq)
                        AND later.xid < $5::xid8))
            AND e.xid < pg_snapshot_xmin(pg_current_snapshot())
          ORDER BY e.xid, e.seq
          LIMIT $4)
        UNION ALL
        SELECT h.xid, 0, NULL, NULL, NULL, false, h.at
          FROM heartbeat h
         WHERE (h.xid, 0::bigint) > ($2::xid8, $3::bigint)
           AND h.xid < pg_snapshot_xmin(pg_current_snapshot())) AS change
  LEFT JOIN LATERAL (SELECT {", ".join(COLUMNS)}
                       FROM dossier
                      WHERE dossier.code = change.code
                      LIMIT 1) AS d
    ON true
 ORDER BY change.xid, change.seq
 LIMIT $4
"""

# All before it can be delivered, and no heartbeat is older.
SAFELY_PAST = """
SELECT least(xid, pg_snapshot_xmin(pg_current_snapshot()))
  FROM heartbeat
"""

TEN_MINUTES_AGO = """
SELECT xid, seq
  FROM event
 WHERE epoch = $1
   AND NOT bulk
   AND recorded_at < now() - interval '10 minutes'
 ORDER BY xid DESC, seq DESC
 LIMIT 1
"""

REMIND_AFTER = 60.0
"""Seconds between two log lines about the same trouble: a halted relay, or one that cannot deliver."""
TOO_LATE = 5.0
"""Lag in seconds from which the health report fails; a heartbeat is delivered every second."""
TELL_EVERY = 0.1
"""Seconds between two statements of the lag, besides those of the heartbeats, while more wait than a batch holds."""
POSTGRES_DEADLINE = 2.0
"""Timeout of a connection or a statement, in seconds."""

# As connect_directly and a statement raise them. The log is the relay's only work: whatever PostgreSQL refuses, a
# missing grant too, is tried again and keeps no other relay from leading.
_NO_LOG = (*POSTGRES_AWAY, asyncpg.PostgresError)


class WentBackInTimeError(Exception):
    """The log does not continue where the stream ends: PostgreSQL has lost its latest changes."""


class LogUnavailable(Exception):
    """PostgreSQL's primary cannot be reached, or refuses: the relay cannot lead. The reason is in the log."""


class Position(NamedTuple):
    """All events up to (xid, seq) are delivered. `last` is the id of the stream's last entry, '' if it is empty."""

    xid: int
    seq: int
    last: str

    @classmethod
    def of(cls, entry_id: str) -> "Position":
        """The position after the entry with this id."""
        xid, _, seq = entry_id.partition("-")
        return cls(int(xid), int(seq), entry_id)


class EventLog:
    """The relay's access to PostgreSQL's primary: one session, measured call by call.

    Every method raises LogUnavailable.
    """

    def __init__(self, url: Callable[[], str]) -> None:
        self._url = url
        self._breaker = Breaker("postgres", after=2)
        self._connection: Any = None
        self.trouble: str | None = "postgres has not been asked yet."
        """Why the last call failed; None when it succeeded."""

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[None]:
        """A session for the block.

        Not one of a pool: the leader's lock is held by this session, and the server ends the session of a relay that
        has been stopped for three seconds.
        """
        with self._asking("connect"):
            self._connection = await connect_directly(
                self._url,
                timeout=POSTGRES_DEADLINE,
                command_timeout=POSTGRES_DEADLINE,
                target_session_attrs="primary",
            )
        try:
            yield
        finally:
            self._connection.terminate()

    async def fetch(self, sql: str, *arguments: object) -> list[Any]:
        """The rows of one statement."""
        with self._asking(tracing.command(sql)[0]):
            return list(await self._connection.fetch(sql, *arguments))

    async def fetchrow(self, sql: str, *arguments: object) -> Any:
        """The first row; None for no row."""
        return next(iter(await self.fetch(sql, *arguments)), None)

    async def fetchval(self, sql: str, *arguments: object) -> Any:
        """The first row's first value; None for no row."""
        row = await self.fetchrow(sql, *arguments)
        return None if row is None else row[0]

    @contextlib.contextmanager
    def _asking(self, operation: str) -> Iterator[None]:
        try:
            with self._breaker.trial(), measured("postgres", "postgresql", operation, _NO_LOG, POSTGRES_DEADLINE, None):
                yield
        except Unavailable as away:
            self.trouble = f"{away.detail} {away.reason}"
            metrics.RELAY_PRIMARY_REACHABLE.set(0)
            raise LogUnavailable from None
        self.trouble = None
        metrics.RELAY_PRIMARY_REACHABLE.set(1)


class Relay:
    """Tries to become the leader, and delivers while it leads.

    All intervals are in seconds. `record_ttl` is the TTL of a record in Redis, `batch` the largest number of changes
    delivered at once.
    """

    def __init__(
        self,
        url: Callable[[], str],
        cache: Cache,
        *,
        record_ttl: int,
        poll_every: float = 0.025,
        beat_every: float = 1.0,
        batch: int = 250,
    ) -> None:
        self._log = EventLog(url)
        self._cache = cache
        self._redis = Breaker("redis", after=2)
        self._record_ttl = record_ttl
        self._poll_every = poll_every
        self._beat_every = beat_every
        self._batch = batch
        self._epoch = 0
        self._position: Position | None = None
        self._reached: Position | None = None  # as above, but kept while Redis is unavailable
        self._tell_at = 0.0
        self._more_waits = True  # as far as was told: the next delivery tells otherwise
        self._newest_before = 0  # events of earlier transactions that a later one supersedes are left out
        self._why = "leader"
        self._writers = OpenWriters()
        self._reminded_at = 0.0
        self._as_of = time.monotonic()
        self._trouble = ""  # why Redis took no delivery at the last attempt
        self._troubled_since = 0.0
        self.leading = False
        """True while this relay holds the leader's lock."""
        self.halted = False
        """True while nothing is delivered, because PostgreSQL seems to have gone back in time."""

    @property
    def lag(self) -> float:
        """Seconds since the moment up to which everything is delivered, or since another relay was seen to lead."""
        return time.monotonic() - self._as_of

    async def run(self) -> None:
        """Lead whenever the lock is free. An error of PostgreSQL ends the leadership, not the relay.

        Raises BehindPooler or WrongSchema, which end the process.
        """
        metrics.RELAY_LAG.set_function(lambda: self.lag)
        while True:
            try:
                await self._connect_and_lead()
            except LogUnavailable:
                if self.leading:
                    log.warning("This relay no longer leads: it has lost its session with PostgreSQL")
            finally:
                self._set_leading(False)
            await asyncio.sleep(self._beat_every / 2)

    async def watch(self) -> None:
        """Ask Redis whether it answers while this relay does not lead; a leader's deliveries tell."""
        while True:
            if not self.leading:
                with contextlib.suppress(Unavailable), self._redis.trial():
                    await self._cache.ping()
            await asyncio.sleep(self._beat_every)

    async def check_postgres(self) -> str:
        """For the health report: what this relay is. Raises Unavailable when the primary cannot be used."""
        if self._log.trouble is not None:
            raise Unavailable(self._log.trouble)
        return "leader" if self.leading else "standby"

    async def check_redis(self) -> None:
        """For the health report. Raises Unavailable when Redis refused the last delivery, or does not answer."""
        if self.leading and self._trouble:
            raise Unavailable(self._trouble)
        await self._cache.ping()

    async def check_delivery(self) -> str:
        """For the health report: the lag. Raises Unavailable when it is TOO_LATE, or the relay is halted."""
        if self.halted:
            raise Unavailable("Nothing is delivered: PostgreSQL seems to have gone back in time.")
        if self.lag > TOO_LATE:
            raise Unavailable(f"Nothing has been delivered for {self.lag:.0f} s.")
        return f"{self.lag:.1f} s behind" if self.leading else "another relay leads"

    async def _connect_and_lead(self) -> None:
        async with self._log.session():
            schema.check(*await self._log.fetchrow(schema.STATE))
            while not await self._log.fetchval(TRY_TO_LEAD, LEADERS_LOCK):  # another process releases the lock
                self._as_of = time.monotonic()
                await asyncio.sleep(self._beat_every / 2)
            log.info("This relay has become the leader")
            self._set_leading(True)
            await self._lead()

    def _set_leading(self, leading: bool) -> None:
        self.leading = leading
        metrics.RELAY_LEADER.set(leading)
        if not leading:
            self._writers.stop()  # only the leader measures these
            metrics.RELAY_BACKLOG.set(0)
            self._set_halted(False)  # the next leader checks the log again

    async def _lead(self) -> None:
        self._newest_before = 0
        self._trouble = ""
        self._forget_position("leader")
        next_beat = 0.0
        while True:
            if time.monotonic() >= next_beat:
                next_beat = time.monotonic() + self._beat_every
                await self._beat()
                await self._writers.look(self._log.fetch)
            delivered = await self._deliver_next()
            await self._tell_lag(more=delivered >= self._batch)
            await asyncio.sleep(0 if delivered >= self._batch else self._poll_every)

    async def _beat(self) -> None:
        """Write the heartbeat, and with it how long the oldest change has waited, as far as that is known."""
        reached = self._reached
        xid, seq = (None, None) if reached is None else reached[:2]
        row = await self._log.fetchrow(BEAT, self._epoch, xid, seq, reached is not None and not self.halted)
        if row["epoch"] != self._epoch:
            self._epoch = row["epoch"]
            self._reached = None
            self._newest_before = 0
            self._forget_position("epoch")
        elif reached is not None:
            metrics.RELAY_BACKLOG.set(row["waited"] or 0.0)

    async def _tell_lag(self, *, more: bool) -> None:
        """Write the lag between two heartbeats: while more waits than a batch holds, and once when that is over."""
        if self._position is None or not (more or self._more_waits):
            return
        if more and time.monotonic() < self._tell_at:
            return
        self._more_waits = more
        self._tell_at = time.monotonic() + TELL_EVERY
        await self._log.fetch(TELL_LAG, self._epoch, self._position.xid, self._position.seq)

    async def _deliver_next(self) -> int:
        """Deliver the next batch; its size, 0 if there is none or it could not be delivered."""
        try:
            with self._redis.trial():
                return await self._read_and_deliver()
        except StreamMovedError:
            self._forget_position("moved")
        except Unavailable as away:
            self._note_trouble(away)
            self._forget_position("redis")  # it is unknown whether Redis appended the batch; the stream's end tells
            await asyncio.sleep(self._beat_every / 4)
        except (WentBackInTimeError, EntryTooSmallError) as alarm:
            self._halt(alarm)
            self._forget_position("halted")
            await asyncio.sleep(self._beat_every)
        return 0

    async def _read_and_deliver(self) -> int:
        if self._position is None:
            self._position = self._reached = await self._resume()
        began = time.time_ns()
        rows = await self._log.fetch(
            CHANGES, self._epoch, self._position.xid, self._position.seq, self._batch, self._newest_before
        )
        if rows:
            before = self._position
            self._position = self._reached = await self._deliver(rows, before, began)
            self._note_success(before)
        self._set_halted(False)
        return len(rows)

    def _note_success(self, before: Position) -> None:
        """Log what has been resumed, once it has led to a delivery: while Redis refuses writes, each attempt begins."""
        if self._trouble:
            log.info("The relay delivers again after %.1f s", time.monotonic() - self._troubled_since)
            self._trouble = ""
        if self._why != "running":
            log.info("The relay goes on from %s (%s)", before.last or "ten minutes ago", self._why)
            self._why = "running"

    def _note_trouble(self, away: Unavailable) -> None:
        """Log that nothing can be delivered: at once, and every REMIND_AFTER seconds. The reason is logged already."""
        now = time.monotonic()
        if not self._trouble:
            self._troubled_since = now
        if not self._trouble or now - self._reminded_at >= REMIND_AFTER:
            self._reminded_at = now
            log.warning("The relay cannot deliver: %s", away.detail)
        self._trouble = f"{away.detail} {away.reason}"

    def _halt(self, alarm: Exception) -> None:
        """Log what was lost: at once, and every REMIND_AFTER seconds while the relay is halted."""
        if not self.halted or time.monotonic() - self._reminded_at >= REMIND_AFTER:
            self._reminded_at = time.monotonic()
            log.critical(
                "The relay has stopped: %s. If PostgreSQL was restored, save the output of `hoso24 cache lost`, then "
                "run `hoso24 cache renew` (docs/runbooks/restore.md)",
                alarm,
            )
        self._set_halted(True)

    def _set_halted(self, halted: bool) -> None:
        self.halted = halted
        metrics.RELAY_HALTED.set(halted)

    def _forget_position(self, why: str) -> None:
        self._position = None
        self._more_waits = True
        self._why = why

    async def _resume(self) -> Position:
        """Where to go on: at the stream's end, or ten minutes back when there is no stream.

        Raises WentBackInTimeError, Unavailable, LogUnavailable.
        """
        metrics.RELAY_RESUMED.labels(self._why).inc()
        last = await self._cache.stream_end(self._epoch)
        if not last:
            row = await self._log.fetchrow(TEN_MINUTES_AGO, self._epoch)
            position = Position(row["xid"], row["seq"], "") if row else Position(0, 0, "")
        else:
            position = Position.of(last)
            tail = await lost_tail.find(self._log, self._cache, self._epoch)
            if tail.fault:
                raise WentBackInTimeError(str(tail))
        if not last or (self._reached is not None and position[:2] < self._reached[:2]):
            self._newest_before = await self._log.fetchval(SAFELY_PAST)
        return position

    async def _deliver(self, rows: list[Any], position: Position, began: int) -> Position:
        read_at = time.monotonic()
        values: dict[str, Value] = {}
        changes = []
        heartbeat = None
        for row in rows:
            changes.append(_change(row))
            if row["at"] is not None:
                heartbeat = row
            for value in self._values(row):
                values[value.key] = value
        with _delivering(changes, began):
            last = await self._cache.append(
                self._epoch,
                position.last,
                changes,
                list(values.values()),
                heartbeat and microseconds(heartbeat["at"]),
            )
        if heartbeat:
            self._as_of = read_at - (heartbeat["asked_at"] - heartbeat["at"]).total_seconds()
        delivered = len(rows) - (heartbeat is not None)
        metrics.RELAY_DELIVERED.inc(delivered)
        if delivered:
            metrics.RELAY_BATCH.observe(delivered)
        return Position.of(last)

    def _values(self, row: Any) -> list[Value]:
        """What Redis holds of this change: the dossier's present record, and its official number if one was bound."""
        if row["code"] is None or row["dossier_version"] is None:
            return []
        as_of = microseconds(row["asked_at"])
        code, version = row["code"], row["dossier_version"]
        body = pack_row([row[f"dossier_{name}"] for name in COLUMNS])
        values = [Value(dossier_key(self._epoch, code), version, as_of, body, self._record_ttl)]
        if row["official_number"]:
            key = number_key(self._epoch, row["official_number"])
            values.append(Value(key, row["version"], as_of, code.encode(), self._record_ttl))
        return values


def _delivering(changes: Sequence[Change], began: int) -> AbstractContextManager[object]:
    """The span of a delivery, which names its events as the intake's spans do; none for a heartbeat alone."""
    events = [change.id for change in changes if change.code]
    if not events:
        return contextlib.nullcontext()
    attributes: dict[str, tracing.Attribute] = {"hoso24.batch.size": len(events), "hoso24.events": events}
    return tracing.root_span("deliver changes", began, **attributes)


def _change(row: Any) -> Change:
    entry_id = f"{row['xid']}-{row['seq']}"
    if row["code"] is None:
        return Change(entry_id)
    return Change(entry_id, row["code"], row["version"], row["official_number"] or "", row["removing"])


@contextlib.asynccontextmanager
async def leading(relay: Relay) -> Any:
    """Run the relay during the block."""
    task = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
