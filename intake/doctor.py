"""The doctor's checks of what intake, relay and notary leave: the relay's leadership, whether the event log continues
where the stream ends, whether what has expired is deleted, whether lines of partners wait for a correction, whether
their webhooks are paused, whether citizens are told, whether clients are refused for their limits or about to have no
token, whether the sandbox moves where it should not, and whether the books keep up with the log.
"""

from collections.abc import Iterator
from typing import Any

import aiohttp
import msgspec

from intake.books import lost_tail
from intake.books.relay import LEADERS_LOCK
from intake.clients import ENDS_SOON
from intake.tidy import KEPT_DAYS
from lookup import sandbox
from lookup.cache import Cache
from lookup.catalogue import CATALOGUE, from_rows
from lookup.clock import PRESENT
from ops.doctor import SERVER_DEADLINE
from ops.doctor.client_checks import report
from ops.doctor.findings import Check, Finding, Verdict
from ops.doctor.postgres_checks import DatabaseServers
from ops.stores.redis import Redis

WRITER, RELAY, READER = "hoso24_writer", "hoso24_relay", "hoso24_reader"

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

OLDEST_ANSWER = """
SELECT extract(epoch FROM now() - min(first_at))::float8 / 86400 AS days
  FROM idempotency
"""

FIGURES_AGE = """
SELECT extract(epoch FROM now() - min(at))::float8 / 3600 AS hours
  FROM figure_cursor
"""

LAST_TOKENS = """
SELECT t.client,
       max(t.expires_at) <= now()                                      AS ended,
       (max(t.expires_at) AT TIME ZONE interval '7 hours')::date::text AS last_day
  FROM client_token AS t
  JOIN client AS c ON c.id = t.client
 WHERE c.disabled_at IS NULL
   AND NOT c.sandbox
   AND t.revoked_at IS NULL
 GROUP BY t.client
HAVING bool_and(t.expires_at IS NOT NULL)
   AND max(t.expires_at) BETWEEN now() - interval '1 day' * $1 AND now() + interval '1 day' * $1
 ORDER BY max(t.expires_at), t.client
"""

DEAD_LETTERS = f"""
SELECT count(*) AS letters, extract(epoch FROM now() - min(first_at))::float8 / 3600 AS hours
  FROM dead_letter
 WHERE closed_at IS NULL
   AND {sandbox.OF_REAL_CLIENT}
"""  # noqa: S608 - our own words

WEBHOOKS = """
SELECT w.state, count(*) AS count, array_agg(DISTINCT w.client) AS clients
  FROM webhook AS w
  JOIN client AS c ON c.id = w.client AND c.disabled_at IS NULL AND NOT c.sandbox
 GROUP BY w.state
 ORDER BY w.state
"""

NOTICES = """
SELECT count(*) FILTER (WHERE state = 'due' AND next_at <= now())                                AS due,
       count(*) FILTER (WHERE state = 'sent' AND ended_at > now() - interval '1 day')            AS sent,
       count(*) FILTER (WHERE state = 'dead' AND ended_at > now() - interval '1 day')            AS dead,
       coalesce(max(extract(epoch FROM now() - next_at)) FILTER (WHERE state = 'due' AND channel = 'mail'), 0)::float8
                                                                                                 AS waits
  FROM notice
 WHERE state = 'due'
    OR ended_at > now() - interval '1 day'
"""

CORRECTED_WITHIN_HOURS = 24
"""How long a refused line may wait for its partner to correct it, as for the alert."""

SANDBOX_MOVES = """
SELECT lease_token > 0 AND lease_until > now() FROM sandbox_lease
"""

SENT_WITHIN = 600.0
"""Seconds that a due mail may wait; a process sends within two."""
DEAD_IN_A_DAY = 20
"""Notices that may be given up in a day, besides a tenth: addresses are typed wrongly."""
TIDIED_WITHIN_DAYS = 1
"""How long after its time an answer may still be there: `hoso24 tidy` runs every hour."""
COUNTED_WITHIN_HOURS = 3
"""How old the public figures may be: `hoso24 figures` runs every hour."""


def books(admin_port: str) -> Iterator[Check]:
    """The check of the notary's process on this machine; nothing for a port that is no number, which the check of the
    settings reports."""
    if admin_port.isdecimal():
        yield Check("books", lambda: _books(f"http://127.0.0.1:{admin_port}/health"))


async def _books(url: str) -> list[Finding]:
    """What the notary says of itself; no finding where none answers at this admin port."""
    try:
        timeout = aiohttp.ClientTimeout(total=SERVER_DEADLINE)
        async with aiohttp.ClientSession(timeout=timeout) as http, http.get(url) as response:
            health: dict[str, Any] = msgspec.json.decode(await response.read(), type=dict[str, Any])
    except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError):
        return []
    check = health["checks"].get("books", {})
    if check.get("status") == "ok":
        return [Finding("books", Verdict.OK, str(check.get("detail", "up to date")))]
    step = "Follow docs/runbooks/BooksHalted.md; nothing else waits for the books."
    return [Finding("books", Verdict.WRONG, str(check.get("error", "the notary enters nothing")), step)]


def limits(admin_port: str) -> Iterator[Check]:
    """The check of the intake on this machine for clients over their limits; nothing for a port that is no number."""
    if admin_port.isdecimal():
        yield Check("client limits", lambda: _limits(admin_port))


async def _limits(admin_port: str) -> list[Finding]:
    """Clients that the intake refused in the last hour; no finding where none answers at this admin port."""
    told = await report(admin_port, "budgets")
    if told is None:
        return []
    over = [f"{each['client']} for {each['budget']} ({each['refused']:,} since it started)" for each in told["limited"]]
    if not over:
        return [Finding("client limits", Verdict.OK, "no client was refused for its limit in the last hour")]
    found = f"refused in the last hour for a limit: {', '.join(over)}"
    step = (
        "Ask those who run the client to obey Retry-After; if it needs more, raise HOSO24_CLIENT_WRITES, "
        "HOSO24_CLIENT_READS or HOSO24_CLIENT_LINES."
    )
    return [Finding("client limits", Verdict.WARNING, found, step)]


def checks(database: DatabaseServers, redis: Redis | None) -> Iterator[Check]:
    """The checks that these servers allow: the log is compared with the stream only with Redis and a role that may read
    the log."""
    yield Check("relay", lambda: _leader(database))
    if redis is not None and any(server.role in (RELAY, WRITER) for server in database.all):
        yield Check("log", lambda: _log(database, Cache(redis)))
    if any(server.role == READER for server in database.all):
        yield Check("figures", lambda: _figures(database))
    if any(server.role == WRITER for server in database.all):
        yield Check("tokens", lambda: _tokens(database))
        yield Check("tidy", lambda: _tidy(database))
        yield Check("dead letters", lambda: _dead_letters(database))
        yield Check("sandbox", lambda: _sandbox(database))
        yield Check("webhooks", lambda: _webhooks(database))
        yield Check("notices", lambda: _notices(database))


async def _leader(database: DatabaseServers) -> list[Finding]:
    primary = await database.primary()
    rows = await primary.fetch(LEADER, LEADERS_LOCK)
    if not rows:
        step = "Start a relay: `hoso24 relay`, or `kubectl rollout restart deployment/relay`."
        return [Finding("relay", Verdict.WRONG, "no relay leads: no change reaches the caches", step)]
    if rows[0]["role"] != RELAY:
        step = f"Use the role {RELAY} in HOSO24_PG_RELAY_URL: its timeouts end a leader that was stopped."
        return [Finding("relay", Verdict.WRONG, f"the leader uses the role {rows[0]['role']}", step)]
    return [Finding("relay", Verdict.OK, f"a relay leads, session {rows[0]['pid']}")]


async def _log(database: DatabaseServers, cache: Cache) -> list[Finding]:
    """Whether the log continues where the stream ends; if not, the relay halts for the same reason."""
    primary = await database.primary(RELAY, WRITER)
    (present,) = await primary.fetch(PRESENT)
    tail = await lost_tail.find(primary, cache, present["epoch"])
    if tail.fault:
        step = "Follow docs/runbooks/restore.md: save the output of `hoso24 cache lost`, then run `hoso24 cache renew`."
        return [Finding("log", Verdict.WRONG, str(tail), step)]
    if not tail.last:
        return [
            Finding(
                "log", Verdict.OK, "the stream is empty; a relay starts it with the changes of the last ten minutes"
            )
        ]
    return [Finding("log", Verdict.OK, f"continues where the stream ends, at {tail.last}")]


async def _tokens(database: DatabaseServers) -> list[Finding]:
    """Clients that are about to have no token any more, or whose last one ended lately."""
    primary = await database.primary(WRITER)
    ending = await primary.fetch(LAST_TOKENS, ENDS_SOON)
    if not ending:
        return [Finding("tokens", Verdict.OK, f"no client's last token ends within {ENDS_SOON} days")]
    told = [f"{row['client']}'s {'ended' if row['ended'] else 'ends'} on {row['last_day']}" for row in ending]
    step = f"Make them another, and hand it over: `hoso24 client token {ending[0]['client']}`."
    return [Finding("tokens", Verdict.WARNING, f"last tokens: {', '.join(told)}", step)]


async def _tidy(database: DatabaseServers) -> list[Finding]:
    """Whether expired answers are deleted, told by the age of the oldest."""
    primary = await database.primary(WRITER)
    ((days,),) = await primary.fetch(OLDEST_ANSWER)
    if days is None or days <= KEPT_DAYS + TIDIED_WITHIN_DAYS:
        return [Finding("tidy", Verdict.OK, "nothing that has expired is left")]
    found = f"the oldest kept answer is {days:.0f} days old, and {KEPT_DAYS} are enough: nothing has tidied since"
    step = "Run `hoso24 tidy` as hoso24_archivist, and every hour from now on: in Kubernetes the CronJob `tidy` does."
    return [Finding("tidy", Verdict.WARNING, found, step)]


async def _figures(database: DatabaseServers) -> list[Finding]:
    """Whether the public figures are counted, told by their age."""
    primary = await database.primary(READER)
    ((hours,),) = await primary.fetch(FIGURES_AGE)
    if hours is not None and hours <= COUNTED_WITHIN_HOURS:
        return [Finding("figures", Verdict.OK, f"the public figures are {hours:.0f} hours old")]
    found = "no public figures were counted yet" if hours is None else f"the public figures are {hours:.0f} hours old"
    step = (
        "Run `hoso24 figures` as hoso24_figures, and every hour from now on: in Kubernetes the CronJob `figures` does."
    )
    return [Finding("figures", Verdict.WARNING, found, step)]


async def _dead_letters(database: DatabaseServers) -> list[Finding]:
    """Whether lines of synchronisations that were refused wait for their partners to correct them."""
    primary = await database.primary(WRITER)
    ((letters, hours),) = await primary.fetch(DEAD_LETTERS)
    if not letters:
        return [Finding("dead letters", Verdict.OK, "no refused line of a partner waits")]
    found = f"refused lines of partners wait: {letters:,}, the oldest for {hours:.0f} h"
    if hours <= CORRECTED_WITHIN_HOURS:
        return [Finding("dead letters", Verdict.OK, found)]
    step = "Look at them with `hoso24 deadletters list`, and follow docs/runbooks/DeadLettersWait.md."
    return [Finding("dead letters", Verdict.WARNING, found, step)]


async def _sandbox(database: DatabaseServers) -> list[Finding]:
    """Whether an intake moves the sandbox's dossiers, and whether that is meant; no finding where none does."""
    primary = await database.primary(WRITER)
    ((moves,),) = await primary.fetch(SANDBOX_MOVES)
    known = from_rows(await primary.fetch(CATALOGUE))
    root = sandbox.root(known)
    if not moves or root is None:
        return []
    if known.sample:
        return [Finding("sandbox", Verdict.OK, f"an intake moves the dossiers of {root}, beside the sample")]
    found = f"an intake moves the dossiers of {root} beside a real catalogue"
    step = "Unless this installation is for trials, set HOSO24_SANDBOX=off for the intake, and restart it."
    return [Finding("sandbox", Verdict.WARNING, found, step)]


async def _webhooks(database: DatabaseServers) -> list[Finding]:
    """How many webhooks are in which state, and whose receivers failed for so long that nothing more is sent."""
    primary = await database.primary(WRITER)
    rows = {row["state"]: row for row in await primary.fetch(WEBHOOKS)}
    if not rows:
        return [Finding("webhooks", Verdict.OK, "no client has one")]
    found = ", ".join(f"{row['count']} {state}" for state, row in rows.items())
    if "paused" not in rows:
        return [Finding("webhooks", Verdict.OK, found)]
    whose = ", ".join(rows["paused"]["clients"])
    step = "Call their partners, who see the reason and resume; docs/runbooks/WebhookPaused.md."
    return [Finding("webhooks", Verdict.WARNING, f"{found}; paused are those of {whose}", step)]


async def _notices(database: DatabaseServers) -> list[Finding]:
    """What became of notices to citizens in a day, and whether mails wait that nobody sends."""
    primary = await database.primary(WRITER)
    ((due, sent, dead, waits),) = await primary.fetch(NOTICES)
    found = f"in a day {sent:,} sent, {dead:,} given up; {due:,} wait now"
    if waits > SENT_WITHIN:
        step = "Start `hoso24 notices`, and look at its log: docs/runbooks/NoticesBehind.md."
        return [Finding("notices", Verdict.WARNING, f"{found}, a mail for {waits / 60:.0f} min", step)]
    if dead > max(DEAD_IN_A_DAY, sent / 10):
        step = "Look at the mail server's answers in column `last`, and call these applicants: NoticesDying.md."
        return [Finding("notices", Verdict.WARNING, found, step)]
    return [Finding("notices", Verdict.OK, found)]
