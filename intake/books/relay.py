"""The relay: copies the event log, in commit order, into Redis and the change stream. One relay leads at a time.

The cursor is the pair `(xid, seq)`, never `seq` alone: a sequence has holes and is not commit order. The relay reads
only rows whose transactions are older than every open transaction, so no row can appear behind the cursor later. The
cursor is stored only in the stream: the id of the last entry is the pair, and an append does nothing unless the stream
still ends with that id. A Redis that lost its latest entries, was restored from a snapshot or failed over therefore
tells the relay where to go on.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import asyncpg

from intake import metrics
from intake.books import lost_tail
from lookup import schema
from lookup.cache import Cache, Change, EntryTooSmallError, StreamMovedError, Value, dossier_key, number_key
from lookup.clock import microseconds
from lookup.dossier import COLUMNS, pack_row
from ops.errors import Unavailable
from ops.observe.redaction import first_line
from ops.stores.postgres import POSTGRES_AWAY, connect_directly

log = logging.getLogger(__name__)

LEADERS_LOCK = 0x72656C6179  # "relay"
TRY_TO_LEAD = "SELECT pg_try_advisory_lock($1)"

# now() is taken before the transaction gets its xid: every change that committed before `at` has a lower xid, and is
# delivered before this row.
BEAT = """
UPDATE heartbeat
   SET at = now(), xid = pg_current_xact_id()
RETURNING (SELECT max(number) FROM epoch) AS epoch
"""

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

TEN_MINUTES_AGO = """
SELECT xid, seq
  FROM event
 WHERE epoch = $1
   AND NOT bulk
   AND recorded_at < now() - interval '10 minutes'
 ORDER BY xid DESC, seq DESC
 LIMIT 1
"""


BACKLOG = """
SELECT extract(epoch FROM now() - min(recorded_at))::float8
  FROM (SELECT recorded_at
          FROM event
         WHERE epoch = $1
           AND NOT bulk
           AND (xid, seq) > ($2::xid8, $3::bigint)
         ORDER BY xid, seq
         LIMIT 1) AS oldest
"""

# Every writing transaction, a prepared one too, holds a lock on its own id, and every role may read pg_locks.
WRITERS = """
SELECT transactionid::text
  FROM pg_locks
 WHERE locktype = 'transactionid'
   AND mode = 'ExclusiveLock'
   AND granted
"""

REMIND_AFTER = 60.0
"""Seconds between two alarms of a halted relay."""


class WentBackInTimeError(Exception):
    """The log does not continue where the stream ends: PostgreSQL has lost its latest changes."""


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
        self._url = url
        self._cache = cache
        self._record_ttl = record_ttl
        self._poll_every = poll_every
        self._beat_every = beat_every
        self._batch = batch
        self._epoch = 0
        self._position: Position | None = None
        self._reached: Position | None = None  # as above, but kept while Redis is unavailable
        self._why = "start"
        self._writers: dict[str, float] = {}
        self._reminded_at = 0.0
        self.halted = False
        """True while nothing is delivered, because PostgreSQL seems to have gone back in time."""

    async def run(self) -> None:
        """Lead whenever the lock is free. An error of PostgreSQL ends the leadership, not the relay.

        Raises BehindPooler or WrongSchema, which end the process.
        """
        while True:
            try:
                await self._connect_and_lead()
            except (*POSTGRES_AWAY, asyncpg.PostgresError) as error:
                log.warning(
                    "The relay lost its connection to PostgreSQL: %s: %s", type(error).__name__, first_line(error)
                )
            finally:
                metrics.RELAY_LEADER.set(0)
                metrics.OLDEST_WRITER.set(0)  # only the leader measures these two
                metrics.RELAY_BACKLOG.set(0)
                self._set_halted(False)  # the next leader checks the log again
            await asyncio.sleep(self._beat_every / 2)

    async def _connect_and_lead(self) -> None:
        # A connection of its own, not from a pool: the lock is held by this session, and the server ends the
        # session of a relay that has been stopped for three seconds.
        connection = await connect_directly(self._url, timeout=2, command_timeout=2, target_session_attrs="primary")
        try:
            state = await connection.fetchrow(schema.STATE)
            schema.check(state["version"], state["asks_for"])
            while not await connection.fetchval(TRY_TO_LEAD, LEADERS_LOCK):  # noqa: ASYNC110 - another process releases the lock
                await asyncio.sleep(self._beat_every / 2)
            metrics.RELAY_LEADER.set(1)
            log.info("This relay has become the leader")
            await self._lead(connection)
        finally:
            connection.terminate()

    async def _lead(self, connection: Any) -> None:
        self._forget_position("leader")
        next_beat = 0.0
        while True:
            if time.monotonic() >= next_beat:
                next_beat = time.monotonic() + self._beat_every
                await self._beat(connection)
                await self._look_around(connection)
            delivered = await self._deliver_next(connection)
            await asyncio.sleep(0 if delivered >= self._batch else self._poll_every)

    async def _beat(self, connection: Any) -> None:
        epoch = await connection.fetchval(BEAT)
        if epoch != self._epoch:
            self._epoch = epoch
            self._reached = None
            self._forget_position("epoch")

    async def _look_around(self, connection: Any) -> None:
        """Measure what delays delivery: the age of the oldest open writing transaction, and of the oldest change."""
        now = time.monotonic()
        writers = [row["transactionid"] for row in await connection.fetch(WRITERS)]
        self._writers = {each: self._writers.get(each, now) for each in writers}
        metrics.OLDEST_WRITER.set(now - min(self._writers.values(), default=now))
        if self._reached is not None:
            waited = await connection.fetchval(BACKLOG, self._epoch, self._reached.xid, self._reached.seq)
            metrics.RELAY_BACKLOG.set(waited or 0.0)

    async def _deliver_next(self, connection: Any) -> int:
        """Deliver the next batch; its size, 0 if there is none or it could not be delivered."""
        try:
            if self._position is None:
                self._position = self._reached = await self._resume(connection)
            rows = await connection.fetch(CHANGES, self._epoch, self._position.xid, self._position.seq, self._batch)
            if rows:
                self._position = self._reached = await self._deliver(rows, self._position)
            self._set_halted(False)
            return len(rows)
        except StreamMovedError:
            self._forget_position("moved")
        except Unavailable as away:
            if self._why != "redis":
                log.warning("The relay cannot deliver while Redis is unavailable: %s", away)
            self._forget_position("redis")  # it is unknown whether Redis appended the batch; the stream's end tells
            await asyncio.sleep(self._beat_every / 4)
        except (WentBackInTimeError, EntryTooSmallError) as alarm:
            self._halt(alarm)
            self._forget_position("halted")
            await asyncio.sleep(self._beat_every)
        return 0

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
        self._why = why

    async def _resume(self, connection: Any) -> Position:
        """Where to go on: at the stream's end, or ten minutes back when there is no stream.

        Raises WentBackInTimeError, Unavailable.
        """
        metrics.RELAY_RESUMED.labels(self._why).inc()
        last = await self._cache.stream_end(self._epoch)
        if not last:
            row = await connection.fetchrow(TEN_MINUTES_AGO, self._epoch)
            position = Position(row["xid"], row["seq"], "") if row else Position(0, 0, "")
        else:
            position = Position.of(last)
            tail = await lost_tail.find(connection, self._cache, self._epoch)
            if tail.fault:
                raise WentBackInTimeError(str(tail))
        log.info("The relay goes on from %s (%s)", position.last or "ten minutes ago", self._why)
        self._why = "running"
        return position

    async def _deliver(self, rows: list[Any], position: Position) -> Position:
        values: dict[str, Value] = {}
        changes = []
        heartbeat = None
        for row in rows:
            changes.append(_change(row))
            if row["at"] is not None:
                heartbeat = row
            for value in self._values(row):
                values[value.key] = value
        last = await self._cache.append(
            self._epoch,
            position.last,
            changes,
            list(values.values()),
            heartbeat and microseconds(heartbeat["at"]),
        )
        if heartbeat:
            metrics.RELAY_LAG.set((heartbeat["asked_at"] - heartbeat["at"]).total_seconds())
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
