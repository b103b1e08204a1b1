"""What the doctor examines of the relay: who leads, and whether the stream ends where the log knows it."""

from collections.abc import Iterator

from intake.books import lost_tail
from intake.books.relay import LEADERS_LOCK
from lookup.cache import Cache
from lookup.clock import PRESENT
from ops.doctor.findings import Check, Finding, Verdict
from ops.doctor.postgres_checks import DatabaseServers
from ops.stores.redis import Redis

WRITER, RELAY = "hoso24_writer", "hoso24_relay"

LEADER = """
SELECT session.pid, session.usename::text AS role
  FROM pg_locks AS lock
  JOIN pg_stat_activity AS session USING (pid)
 WHERE lock.locktype = 'advisory'
   AND lock.granted
   AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND (lock.classid::bigint << 32 | lock.objid::bigint) = $1
   AND lock.objsubid = 1
"""


def checks(database: DatabaseServers, redis: Redis | None) -> Iterator[Check]:
    """The relay's leadership, and with Redis and a role that may read the log, whether PostgreSQL has gone back in time
    behind its back."""
    yield Check("relay", lambda: _leader(database))
    if redis is not None and any(server.role in (RELAY, WRITER) for server in database.all):
        yield Check("log", lambda: _log(database, Cache(redis)))


async def _leader(database: DatabaseServers) -> list[Finding]:
    primary = await database.primary()
    rows = await primary.fetch(LEADER, LEADERS_LOCK)
    if not rows:
        step = "Start a relay: `hoso24 relay`, or `kubectl rollout restart deployment/relay`."
        return [Finding("relay", Verdict.WRONG, "none leads: no change reaches the caches", step)]
    if rows[0]["role"] != RELAY:
        step = f"Let HOSO24_PG_RELAY_URL log in as {RELAY}: its timeouts end a leader that was stopped."
        return [Finding("relay", Verdict.WRONG, f"one leads as {rows[0]['role']}", step)]
    return [Finding("relay", Verdict.OK, f"one leads, session {rows[0]['pid']}")]


async def _log(database: DatabaseServers, cache: Cache) -> list[Finding]:
    """Whether the log goes on where the stream ends; if not, the relay halts for the same reason."""
    primary = await database.primary(RELAY, WRITER)
    (present,) = await primary.fetch(PRESENT)
    tail = await lost_tail.find(primary, cache, present["epoch"])
    if tail.fault:
        step = "Follow docs/runbooks/restore.md: keep what `hoso24 cache lost` prints, then run `hoso24 cache renew`."
        return [Finding("log", Verdict.WRONG, str(tail), step)]
    if not tail.last:
        return [Finding("log", Verdict.OK, "the stream is empty, and begins ten minutes back")]
    return [Finding("log", Verdict.OK, f"goes on where the stream ends, {tail.last}")]
