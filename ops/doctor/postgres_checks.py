"""What can be asked of settings, PostgreSQL and Redis without knowing what they hold.

Every function here makes checks or findings for ops/doctor/findings.py. A server is connected to once for each role,
when the first check needs it; one that is away costs one deadline, and everybody who needs it then gets Unavailable.
"""

import asyncio
import contextlib
import ipaddress
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ops.doctor.findings import Check, Finding, Verdict, reason
from ops.errors import Unavailable
from ops.settings import SettingsError, masked, read, unknown
from ops.stores.calls import reason_of
from ops.stores.certificates import certificate
from ops.stores.postgres import POOLER_IN_BETWEEN, Postgres, Row
from ops.stores.redis import Redis
from ops.stores.sentinels import Answer, Sentinels
from ops.stores.urls import RedisAddress, first, redis_address

SERVER_DEADLINE = 2.5
"""How long a server may take for one answer, in seconds; well within a check's."""
SKEW_REMARKED, SKEW_WRONG = 1.0, 60.0
"""Seconds a clock may differ from ours."""
WRITING_REMARKED, WRITING_WRONG = 10.0, 60.0
"""Seconds a transaction that has written may stay open."""
SECOND_LOOK = 1.0
"""Seconds until a transaction whose age is hidden from us is looked for again."""
DAYS_REMARKED, DAYS_WRONG = 30, 7
"""Days left of a certificate."""
MEMORY_REMARKED = 0.9
"""Share of maxmemory in use."""
OLDEST_POSTGRES = 17
"""The first with transaction_timeout."""

GREETING = """
SELECT current_user                                     AS role,
       current_setting('server_version')                AS version,
       current_setting('server_version_num')::int       AS number,
       current_setting('fsync')                         AS fsync,
       current_setting('synchronous_commit')            AS synchronous_commit,
       current_setting('synchronous_standby_names')     AS synchronous_standby_names,
       pg_is_in_recovery()                              AS standby,
       clock_timestamp()                                AS now,
       coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false) AS tls
"""

# Whoever has written holds its own transaction id. Of other roles' sessions we see that, but not since when.
WRITING = """
SELECT session.pid,
       session.usename                                  AS role,
       lock.transactionid::text                         AS xid,
       extract(epoch FROM clock_timestamp() - session.xact_start)::float8 AS age
  FROM pg_locks AS lock
  JOIN pg_stat_activity AS session USING (pid)
 WHERE lock.locktype = 'transactionid'
   AND lock.mode = 'ExclusiveLock'
   AND lock.granted
   AND lock.pid <> pg_backend_pid()
"""

PREPARED = "SELECT gid, extract(epoch FROM clock_timestamp() - prepared)::float8 AS age FROM pg_prepared_xacts"


# -- settings --------------------------------------------------------------------------------------------


def settings(environ: Mapping[str, str], processes: Mapping[str, tuple[str, type]]) -> list[Finding]:
    """Whether each process that is set up here could start. `processes`: name → (the variable that sets it up, class).

    A process is set up here when its variable or that variable's file is there.
    """
    here = {name: cls for name, (mark, cls) in processes.items() if environ.get(mark) or environ.get(f"{mark}_FILE")}
    findings = [finding for name, cls in here.items() for finding in _of_process(name, cls, environ)]
    findings += [
        Finding("settings", Verdict.WARNING, sentence, "Correct its name, or remove it: nobody reads it.")
        for sentence in unknown(environ, [cls for _, cls in processes.values()])
    ]
    if not here:
        marks = ", ".join(mark for mark, _ in processes.values())
        step = "Set them as docs/settings.md says, or run the doctor in the directory where `hoso24 up` runs."
        findings.append(Finding("settings", Verdict.WRONG, f"none of {marks} is set", step))
    return findings


def secret_files(environ: Mapping[str, str]) -> list[Finding]:
    """Whether the files that hold secrets are for those only who need them."""
    findings = []
    for name, text in sorted(environ.items()):
        if not (name.startswith("HOSO24_") and name.endswith("_FILE") and text):
            continue
        with contextlib.suppress(OSError):  # one that cannot be read is a fault of the settings already
            mode = stat.S_IMODE(Path(text).stat().st_mode)
            step = f"Run `chmod o= {text}`, or give the volume a defaultMode of 0440."
            open_to_all = Finding(name, Verdict.WARNING, f"everybody on this machine may read it ({mode:o})", step)
            closed = Finding(name, Verdict.OK, f"readable, mode {mode:o}")
            findings.append(open_to_all if mode & stat.S_IRWXO else closed)
    return findings


def _of_process(name: str, cls: type, environ: Mapping[str, str]) -> list[Finding]:
    check = f"settings of {name}"
    try:
        read(cls, environ)
    except SettingsError as error:
        step = f"Set it as docs/settings.md says, then restart the {name}."
        return [Finding(check, Verdict.WRONG, fault, step) for fault in error.faults]
    return [Finding(check, Verdict.OK, "complete and well-formed")]


# -- PostgreSQL ------------------------------------------------------------------------------------------


class Server:
    """One PostgreSQL host asked as one role. `variable`: the setting of its URL; `pooled`: through PgBouncer."""

    def __init__(self, name: str, role: str, variable: str, url: Callable[[], str], *, pooled: bool = False) -> None:
        self.name = name
        self.role = role
        self.variable = variable
        self.address = _address(url(), 5432)
        self._postgres = Postgres(name, url, size=4, deadline=SERVER_DEADLINE, pooled=pooled)
        self._greeting: asyncio.Task[Row] | None = None
        self.seconds = 0.0
        """How long the greeting took."""
        self.skew = 0.0
        """Seconds its clock is ahead of ours, give or take half of that."""

    async def greet(self) -> Row:
        """What it says of itself, asked once. Raises Unavailable."""
        if self._greeting is None:
            self._greeting = asyncio.create_task(self._greet())
        return await asyncio.shield(self._greeting)

    async def fetch(self, sql: str, *arguments: object) -> list[Row]:
        """The rows of one statement. Raises Unavailable, at once if it did not greet."""
        await self.greet()
        return await self._postgres.fetch(sql, *arguments)

    async def close(self) -> None:
        """Give the connections up."""
        if self._greeting is not None:
            self._greeting.cancel()
            await asyncio.gather(self._greeting, return_exceptions=True)
        await self._postgres.close()

    async def _greet(self) -> Row:
        async with self._postgres.connection() as connection:
            before, began = time.time(), time.monotonic()
            row = await connection.fetchrow(GREETING)
            self.seconds = time.monotonic() - began
            self.skew = row["now"].timestamp() - (before + self.seconds / 2)
            return row


class Servers:
    """Every host of every role's URL, and which of them to ask. `servers`: those to prefer first."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self.all = servers

    async def present(self) -> list[tuple[Server, Row]]:
        """Those that greet, with what they said, in order."""
        greetings = await asyncio.gather(*(server.greet() for server in self.all), return_exceptions=True)
        pairs = list(zip(self.all, greetings, strict=True))
        for _, greeting in pairs:
            if isinstance(greeting, BaseException) and not isinstance(greeting, Unavailable):
                raise greeting
        return [(server, greeting) for server, greeting in pairs if not isinstance(greeting, BaseException)]

    async def hosts(self) -> list[tuple[Server, Row]]:
        """One of `present` for each host."""
        by_address: dict[tuple[str, int] | None, tuple[Server, Row]] = {}
        for server, greeting in await self.present():
            by_address.setdefault(server.address, (server, greeting))
        return list(by_address.values())

    async def fetch(self, sql: str, *arguments: object) -> list[Row]:
        """The rows of a statement that any role may run, from the primary if it is there. Raises Unavailable."""
        present = await self.present()
        if not present:
            raise Unavailable("no PostgreSQL answers")
        server, _ = min(present, key=lambda pair: bool(pair[1]["standby"]))
        return await server.fetch(sql, *arguments)

    async def primaries(self) -> list[Server]:
        """The primary as every role it can be asked as. Raises Unavailable when it cannot."""
        primaries = [server for server, greeting in await self.present() if not greeting["standby"]]
        if not primaries:
            raise Unavailable("no primary answers")
        return primaries

    async def primary(self, *roles: str) -> Server:
        """The primary as the first of these roles it can be asked as, else as any. Raises Unavailable."""
        primaries = await self.primaries()
        by_role = {server.role: server for server in reversed(primaries)}
        return next((by_role[role] for role in roles if role in by_role), primaries[0])

    async def close(self) -> None:
        """Give every connection up."""
        await asyncio.gather(*(server.close() for server in self.all))


def postgres(servers: Servers, *, writing: str) -> Iterator[Check]:
    """Connections, versions, clocks, certificates, durability and open transactions. `writing`: the role that commits
    what must not be lost."""
    for server in servers.all:
        yield Check(server.name, _of(server, _connection))
    yield Check("clock", lambda: _clocks(servers))
    yield Check("durability", lambda: _durability(servers, writing))
    yield Check("oldest writing transaction", lambda: _oldest_writing(servers))
    for address in dict.fromkeys(server.address for server in servers.all if server.address):
        yield certificates(f"certificate of PostgreSQL {_shown(address)}", *address, postgres=True)


def _of(server: Server, ask: Callable[[Server], Any]) -> Callable[[], Any]:
    return lambda: ask(server)


async def _connection(server: Server) -> list[Finding]:
    try:
        greeting = await server.greet()
    except Unavailable as away:
        step = f"Start it, or correct {server.variable}; try `psql` with that URL to see more."
        if away.reason == POOLER_IN_BETWEEN:
            step = f"Let {server.variable} name PostgreSQL itself; only lookup and intake may go through a pooler."
        return [Finding(server.name, Verdict.WRONG, f"cannot be reached: {reason(away)}", step)]
    kind = "a standby" if greeting["standby"] else "the primary"
    tls = "with TLS" if greeting["tls"] else "without TLS"
    found = f"PostgreSQL {greeting['version']}, {kind}, {tls}, answered in {server.seconds * 1000:.0f} ms"
    if greeting["number"] < OLDEST_POSTGRES * 10_000:
        step = f"Upgrade it to PostgreSQL {OLDEST_POSTGRES} or newer: `transaction_timeout` came with that."
        return [Finding(server.name, Verdict.WRONG, found, step)]
    if greeting["role"] != server.role:
        step = f"Let {server.variable} log in as {server.role}: grants and timeouts are that role's."
        return [Finding(server.name, Verdict.WRONG, f"{found}, but as {greeting['role']}", step)]
    return [Finding(server.name, Verdict.OK, found)]


async def _clocks(servers: Servers) -> list[Finding]:
    """Every host's clock against ours; who measured takes the blame for half of the round trip."""
    findings = []
    for server, _ in await servers.hosts():
        skew = max(0.0, abs(server.skew) - server.seconds / 2)
        verdict = _grade(skew, SKEW_REMARKED, SKEW_WRONG)
        direction = "ahead of" if server.skew > 0 else "behind"
        found = f"{server.name} is {skew:.1f} s {direction} this machine" if skew > 0.05 else f"{server.name} agrees"
        step = "Run `timedatectl` (or `chronyc tracking`) here and there, and let both follow one time service."
        findings.append(Finding("clock", verdict, found, step if verdict else ""))
    if not findings:
        raise Unavailable("no PostgreSQL answers")
    return findings


async def _durability(servers: Servers, writing: str) -> list[Finding]:
    """Whether an acknowledged commit outlives the primary's process, and the primary."""
    server = await servers.primary(writing)
    greeting = await server.greet()
    findings = []
    if greeting["fsync"] != "on" or greeting["synchronous_commit"] in ("off", "local"):
        found = f"fsync is {greeting['fsync']}, synchronous_commit {greeting['synchronous_commit']} for {server.role}"
        step = "Set both to `on` in postgresql.conf and reload: what was acknowledged may be lost."
        findings.append(Finding("durability", Verdict.WRONG, found, step))
    else:
        findings.append(Finding("durability", Verdict.OK, "commits are on disk before they are acknowledged"))
    names = greeting["synchronous_standby_names"]
    if names:
        findings.append(Finding("synchronous standby", Verdict.OK, f"synchronous_standby_names is {names}"))
    else:
        step = "Add a standby and set `synchronous_standby_names = 'ANY 1 (…)'`: a lost primary takes receipts with it."
        findings.append(Finding("synchronous standby", Verdict.WARNING, "commits wait for no standby", step))
    return findings


class _Writing(NamedTuple):
    """A transaction that holds the feed back: what it is called, and the SQL that ends it."""

    name: str
    end: str


async def _oldest_writing(servers: Servers) -> list[Finding]:
    """Open transactions that have written: the change feed waits for the oldest of them, whoever's it is."""
    primaries = await servers.primaries()
    ages = await _writing(primaries)
    hidden = {who for who, age in ages.items() if age is None}
    if hidden:
        await asyncio.sleep(SECOND_LOOK)
        again = await _writing(primaries)
        ages = {who: SECOND_LOOK if who in hidden else age for who, age in ages.items() if who in again}
    for row in await primaries[0].fetch(PREPARED):
        ages[_Writing(f"the prepared transaction {row['gid']}", f"ROLLBACK PREPARED '{row['gid']}'")] = row["age"]
    if not ages:
        return [Finding("oldest writing transaction", Verdict.OK, "none is open")]
    return [_age_of_writing(who, age or 0.0, hidden=who in hidden) for who, age in ages.items()]


async def _writing(primaries: Iterable[Server]) -> dict[_Writing, float | None]:
    """Who has written and has not ended, and for how many seconds it has been open, as far as any of our roles sees."""
    ages: dict[_Writing, float | None] = {}
    for server in primaries:
        for row in await server.fetch(WRITING):
            name = f"process {row['pid']} of {row['role']} (xid {row['xid']})"
            who = _Writing(name, f"SELECT pg_terminate_backend({row['pid']})")
            ages[who] = row["age"] if ages.get(who) is None else ages[who]
    return ages


def _age_of_writing(who: "_Writing", age: float, *, hidden: bool) -> Finding:
    verdict = max(_grade(age, WRITING_REMARKED, WRITING_WRONG), Verdict.WARNING if hidden else Verdict.OK)
    found = f"{who.name} has been open for {'at least ' if hidden else ''}{age:.0f} s"
    step = f"Find out what it is (pg_stat_activity, as a superuser); to end it: `{who.end}`."
    return Finding("oldest writing transaction", verdict, found, step if verdict else "")


# -- Redis -----------------------------------------------------------------------------------------------


def redis(server: Redis, *, policy: str, oldest: tuple[int, int]) -> Iterator[Check]:
    """Connection, version, role, memory and its policy. `policy`: the maxmemory-policy that is needed."""

    async def ask() -> list[Finding]:
        try:
            told: dict[str, Any] = await server.run(lambda client: client.info("everything"))
        except Unavailable as away:
            step = "Start it, or correct HOSO24_REDIS_URL; try `redis-cli -u` with that URL to see more."
            return [Finding("redis", Verdict.WRONG, f"cannot be reached: {reason(away)}", step)]
        return [_version(told, oldest), *_role(told), _policy(told, policy), _memory(told), *_saving(told)]

    yield Check("redis", ask)


def _version(told: Mapping[str, Any], oldest: tuple[int, int]) -> Finding:
    name = f"Valkey {told['valkey_version']}" if "valkey_version" in told else f"Redis {told['redis_version']}"
    major, minor, *_ = (int(part) for part in str(told["redis_version"]).split("."))
    if (major, minor) < oldest:
        wanted = ".".join(map(str, oldest))
        return Finding("redis", Verdict.WRONG, name, f"Upgrade it to Redis {wanted} or newer, or to Valkey.")
    return Finding("redis", Verdict.OK, f"{name} answers")


def _role(told: Mapping[str, Any]) -> Iterator[Finding]:
    if told.get("role") != "master":
        step = "Let HOSO24_REDIS_URL name the primary: a replica refuses what the relay writes."
        yield Finding("redis role", Verdict.WRONG, f"it is a replica of {told.get('master_host')}", step)


def _policy(told: Mapping[str, Any], wanted: str) -> Finding:
    policy = str(told.get("maxmemory_policy", "unknown"))
    if policy == wanted:
        return Finding("redis policy", Verdict.OK, f"maxmemory-policy {policy}")
    # Under volatile-* only what has a time to live goes; everything else drops what must stay, or refuses writes.
    verdict = Verdict.WARNING if policy.startswith("volatile-") else Verdict.WRONG
    step = f"Run `redis-cli CONFIG SET maxmemory-policy {wanted}` and write it into redis.conf."
    return Finding("redis policy", verdict, f"maxmemory-policy {policy}", step)


def _memory(told: Mapping[str, Any]) -> Finding:
    used, most = int(told["used_memory"]), int(told.get("maxmemory", 0))
    if not most:
        step = "Run `redis-cli CONFIG SET maxmemory 2gb`, or what there is to spare, and write it into redis.conf."
        return Finding("redis memory", Verdict.WARNING, f"{used / 2**20:.0f} MiB used, and no maxmemory", step)
    found = f"{used / 2**20:.0f} of {most / 2**20:.0f} MiB used, {told.get('evicted_keys', 0)} keys evicted so far"
    if used > MEMORY_REMARKED * most:
        step = "Raise it with `redis-cli CONFIG SET maxmemory …`: the next fills throw out what is still wanted."
        return Finding("redis memory", Verdict.WARNING, found, step)
    return Finding("redis memory", Verdict.OK, found)


def _saving(told: Mapping[str, Any]) -> Iterator[Finding]:
    """Its disk, as far as it can be seen from here: a Redis that cannot save refuses to be written to."""
    failed = [name for name in ("rdb_last_bgsave_status", "aof_last_write_status") if told.get(name, "ok") != "ok"]
    if failed:
        step = "Give its disk space or the right owner, then run `redis-cli BGSAVE`."
        yield Finding("redis saving", Verdict.WRONG, f"{', '.join(failed)}: failed", step)


def sentinels(url: str) -> list[Check]:
    """Whether every Sentinel of this URL answers, and all mean the same primary; without Sentinels there are none."""
    try:
        address = redis_address(first(url))
    except ValueError:
        return []  # a fault of the settings, and told there
    if not address.primary:
        return []

    async def ask() -> list[Finding]:
        asking = Sentinels(SERVER_DEADLINE)
        try:
            return list(_of_sentinels(address, await asking.each(address)))
        finally:
            await asking.close()

    return [Check("sentinels", ask)]


def _of_sentinels(address: RedisAddress, said: Sequence[Answer | BaseException]) -> Iterator[Finding]:
    answers = [each for each in said if isinstance(each, Answer)]
    enough = len(answers) > len(said) // 2
    for place, away in zip(address.places, said, strict=True):
        if isinstance(away, BaseException):
            step = "Start it, or correct HOSO24_REDIS_URL: half of them or fewer put nobody in a lost primary's place."
            found = f"{_shown(place)} does not answer: {reason_of(away)}"
            yield Finding("sentinels", Verdict.WARNING if enough else Verdict.WRONG, found, step)
    named = sorted({_shown(answer.primary) for answer in answers})
    if len(named) > 1:
        step = "Run it again in some seconds; if it stays, find out which of them is cut off from the others."
        yield Finding("sentinels", Verdict.WRONG, f"they name different primaries: {', '.join(named)}", step)
    elif any(answer.down for answer in answers):
        step = "Look at that Redis, and at the Sentinels' logs: they put another in its place, if a replica is left."
        yield Finding("sentinels", Verdict.WRONG, f"to some the primary, {named[0]}, is down", step)
    elif answers and not min(answer.replicas for answer in answers):
        step = "Start a replica: nobody could take over from the primary."
        yield Finding("sentinels", Verdict.WARNING, f"{named[0]} is the primary and has no replica", step)
    elif answers:
        found = f"{len(answers)} of {len(said)} name {named[0]}, which has {answers[0].replicas} replicas"
        yield Finding("sentinels", Verdict.OK, found)


# -- TLS -------------------------------------------------------------------------------------------------


def certificates(name: str, host: str, port: int, *, postgres: bool = False) -> Check:
    """How many days the certificate shown there has left."""

    async def ask() -> list[Finding]:
        try:
            shown = await certificate(host, port, postgres=postgres)
        except OSError as error:
            raise Unavailable(f"no handshake with {host}:{port}") from error
        if shown is None:
            if _is_near(host):
                return [Finding(name, Verdict.OK, "no TLS, and no network in between")]
            step = "Give that server a certificate and demand it in the URL (sslmode=verify-full)."
            return [Finding(name, Verdict.WARNING, "no TLS: passwords and data cross the network in clear", step)]
        return [_days_left(name, shown.ends_at, shown.fault)]

    return Check(name, ask)


def public_address(url: str) -> list[Check]:
    """The address citizens use: its certificate, if it has one. Nothing for an empty one, which is not set here."""
    if not url:
        return []
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https":
        return [_seen_from_here(certificates(f"certificate of {host}", host, parts.port or 443))]

    async def ask() -> list[Finding]:
        if _is_near(host):
            return [Finding("public address", Verdict.OK, f"{url}, on this machine only")]
        step = "Set HOSO24_PUBLIC_URL to the https:// address: it stands on receipts, with the lookup key in it."
        return [Finding("public address", Verdict.WARNING, f"{masked(url)} is not encrypted", step)]

    return [Check("public address", ask)]


def _seen_from_here(check: Check) -> Check:
    """The same of an address for others: that it cannot be reached from here says nothing about them."""

    async def ask() -> Iterable[Finding]:
        try:
            async with asyncio.timeout(SERVER_DEADLINE):
                return await check.ask()
        except (Unavailable, TimeoutError):
            step = "Run `HOSO24_PUBLIC_URL=… hoso24 doctor` from where citizens are: a cluster may let no pod out."
            return [Finding(check.name, Verdict.WARNING, "cannot be reached from here", step)]

    return Check(check.name, ask)


def _days_left(name: str, ends_at: datetime | None, fault: str) -> Finding:
    step = "Renew it (`certbot renew`, or `kubectl get certificate` where cert-manager does it) and reload that server."
    if ends_at is None:
        return Finding(name, Verdict.WRONG, f"not valid: {fault}", step)
    left = (ends_at - datetime.now(UTC)) // timedelta(days=1)
    verdict = Verdict.WRONG if left < DAYS_WRONG else Verdict.WARNING if left < DAYS_REMARKED else Verdict.OK
    return Finding(name, verdict, f"{left} days left, until {ends_at:%Y-%m-%d}", step if verdict else "")


def redis_certificates(url: str) -> list[Check]:
    """The certificates of a `rediss://` server, or of the Sentinels that know it; without TLS there are none."""
    try:
        address = redis_address(first(url))
    except ValueError:
        return []  # a fault of the settings, and told there
    if address.trust is None:
        return []
    whose = "the Sentinel" if address.primary else "Redis"
    return [certificates(f"certificate of {whose} {_shown(place)}", *place) for place in address.places]


def _grade(figure: float, remarked: float, wrong: float) -> Verdict:
    return Verdict.WRONG if figure > wrong else Verdict.WARNING if figure > remarked else Verdict.OK


def _address(url: str, port: int) -> tuple[str, int] | None:
    """Host and port of a URL; None for a socket of this machine. Of several URLs, one a line, the first counts."""
    parts = urlsplit(first(url))
    return (parts.hostname, parts.port or port) if parts.hostname else None


def _shown(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"


def _is_near(host: str) -> bool:
    """Whether there is no network between this host and us."""
    if host in ("", "localhost") or host.startswith(os.sep):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
