"""Checks of PostgreSQL that know no schema: reachability, clocks, durability, long-running writing transactions.

Each server is connected to once per role, when the first check needs it. A server that is down costs one timeout; later
checks of it get Unavailable at once.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from ops import doctor
from ops.doctor.certificate_checks import _address, certificates, shown
from ops.doctor.findings import Check, Finding, Verdict, reason
from ops.errors import Unavailable
from ops.stores.postgres import POOLER_IN_BETWEEN, Postgres, Row

SKEW_REMARKED, SKEW_WRONG = 1.0, 60.0
"""Difference of a clock from ours, in seconds, that is a warning, and wrong."""
WRITING_REMARKED, WRITING_WRONG = 10.0, 60.0
"""Age of an open writing transaction, in seconds, that is a warning, and wrong."""
SECOND_LOOK = 1.0
"""Seconds until a second look for transactions whose age is hidden from our roles."""
OLDEST_POSTGRES = 17
"""The first major version with transaction_timeout."""

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

# A writing transaction holds a lock on its own id. For other roles' sessions we see the lock, but not its age.
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


class DatabaseServer:
    """A PostgreSQL host queried as one role. `variable`: the setting of its URL; `pooled`: through PgBouncer."""

    def __init__(self, name: str, role: str, variable: str, url: Callable[[], str], *, pooled: bool = False) -> None:
        self.name = name
        self.role = role
        self.variable = variable
        self.address = _address(url(), 5432)
        self._postgres = Postgres(name, url, size=4, deadline=doctor.SERVER_DEADLINE, pooled=pooled)
        self._greeting: asyncio.Task[Row] | None = None
        self.seconds = 0.0
        """Duration of the greeting, in seconds."""
        self.skew = 0.0
        """Seconds its clock is ahead of ours, with an error of up to half of `seconds`."""

    async def greet(self) -> Row:
        """The row of GREETING, queried once. Raises Unavailable."""
        if self._greeting is None:
            self._greeting = asyncio.create_task(self._greet())
        return await asyncio.shield(self._greeting)

    async def fetch(self, sql: str, *arguments: object) -> list[Row]:
        """The rows of one statement. Raises Unavailable, at once if the greeting failed."""
        await self.greet()
        return await self._postgres.fetch(sql, *arguments)

    async def close(self) -> None:
        """Close the connections."""
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


class DatabaseServers:
    """Every host of every role's URL. `servers`: in order of preference."""

    def __init__(self, servers: Sequence[DatabaseServer]) -> None:
        self.all = servers

    async def present(self) -> list[tuple[DatabaseServer, Row]]:
        """The reachable servers with their greetings, in order."""
        greetings = await asyncio.gather(*(server.greet() for server in self.all), return_exceptions=True)
        pairs = list(zip(self.all, greetings, strict=True))
        for _, greeting in pairs:
            if isinstance(greeting, BaseException) and not isinstance(greeting, Unavailable):
                raise greeting
        return [(server, greeting) for server, greeting in pairs if not isinstance(greeting, BaseException)]

    async def hosts(self) -> list[tuple[DatabaseServer, Row]]:
        """The first of `present` for each host."""
        by_address: dict[tuple[str, int] | None, tuple[DatabaseServer, Row]] = {}
        for server, greeting in await self.present():
            by_address.setdefault(server.address, (server, greeting))
        return list(by_address.values())

    async def fetch(self, sql: str, *arguments: object) -> list[Row]:
        """The rows of a statement that any role may run, preferably from the primary. Raises Unavailable."""
        present = await self.present()
        if not present:
            raise Unavailable("no PostgreSQL host answers")
        server, _ = min(present, key=lambda pair: bool(pair[1]["standby"]))
        return await server.fetch(sql, *arguments)

    async def primaries(self) -> list[DatabaseServer]:
        """The primary, once for each role that can connect. Raises Unavailable when there is none."""
        primaries = [server for server, greeting in await self.present() if not greeting["standby"]]
        if not primaries:
            raise Unavailable("no primary answers")
        return primaries

    async def primary(self, *roles: str) -> DatabaseServer:
        """The primary as the first of these roles that can connect, else as any. Raises Unavailable."""
        primaries = await self.primaries()
        by_role = {server.role: server for server in reversed(primaries)}
        return next((by_role[role] for role in roles if role in by_role), primaries[0])

    async def close(self) -> None:
        """Give every connection up."""
        await asyncio.gather(*(server.close() for server in self.all))


def postgres(servers: DatabaseServers, *, writing: str) -> Iterator[Check]:
    """Checks of connections, versions, clocks, certificates, durability and open transactions. `writing`: the role
    whose commits must not be lost."""
    for server in servers.all:
        yield Check(server.name, _of(server, _connection))
    yield Check("clock", lambda: _clocks(servers))
    yield Check("durability", lambda: _durability(servers, writing))
    yield Check("oldest writing transaction", lambda: _oldest_writing(servers))
    for address in dict.fromkeys(server.address for server in servers.all if server.address):
        yield certificates(f"certificate of PostgreSQL {shown(address)}", *address, postgres=True)


def _of(server: DatabaseServer, ask: Callable[[DatabaseServer], Any]) -> Callable[[], Any]:
    return lambda: ask(server)


async def _connection(server: DatabaseServer) -> list[Finding]:
    try:
        greeting = await server.greet()
    except Unavailable as away:
        step = f"Start it, or correct {server.variable}; try `psql` with that URL to see more."
        if away.reason == POOLER_IN_BETWEEN:
            step = (
                f"Let {server.variable} name PostgreSQL itself, or set HOSO24_PG_POOLED=1 if its process may be pooled."
            )
        return [Finding(server.name, Verdict.WRONG, f"cannot be reached: {reason(away)}", step)]
    kind = "a standby" if greeting["standby"] else "the primary"
    tls = "with TLS" if greeting["tls"] else "without TLS"
    found = f"PostgreSQL {greeting['version']}, {kind}, {tls}, answered in {server.seconds * 1000:.0f} ms"
    if greeting["number"] < OLDEST_POSTGRES * 10_000:
        step = f"Upgrade it to PostgreSQL {OLDEST_POSTGRES} or newer, which has `transaction_timeout`."
        return [Finding(server.name, Verdict.WRONG, found, step)]
    if greeting["role"] != server.role:
        step = f"Let {server.variable} log in as {server.role}: grants and timeouts are that role's."
        return [Finding(server.name, Verdict.WRONG, f"{found}, but as {greeting['role']}", step)]
    return [Finding(server.name, Verdict.OK, found)]


async def _clocks(servers: DatabaseServers) -> list[Finding]:
    """Every host's clock against ours; half of the round trip is allowed as an error."""
    findings = []
    for server, _ in await servers.hosts():
        skew = max(0.0, abs(server.skew) - server.seconds / 2)
        verdict = _grade(skew, SKEW_REMARKED, SKEW_WRONG)
        direction = "ahead of" if server.skew > 0 else "behind"
        found = f"{server.name} is {skew:.1f} s {direction} this machine" if skew > 0.05 else f"{server.name} agrees"
        step = "Run `timedatectl` (or `chronyc tracking`) on both machines, and let both use one time service."
        findings.append(Finding("clock", verdict, found, step if verdict else ""))
    if not findings:
        raise Unavailable("no PostgreSQL host answers")
    return findings


async def _durability(servers: DatabaseServers, writing: str) -> list[Finding]:
    """Whether an acknowledged commit survives a crash of the primary, and its loss."""
    server = await servers.primary(writing)
    greeting = await server.greet()
    findings = []
    if greeting["fsync"] != "on" or greeting["synchronous_commit"] in ("off", "local"):
        found = f"fsync is {greeting['fsync']}, synchronous_commit {greeting['synchronous_commit']} for {server.role}"
        step = "Set both to `on` in postgresql.conf and reload: acknowledged commits may be lost."
        findings.append(Finding("durability", Verdict.WRONG, found, step))
    else:
        findings.append(Finding("durability", Verdict.OK, "commits are on disk before they are acknowledged"))
    names = greeting["synchronous_standby_names"]
    if names:
        findings.append(Finding("synchronous standby", Verdict.OK, f"synchronous_standby_names is {names}"))
    else:
        step = "Add a standby and set `synchronous_standby_names = 'ANY 1 (…)'`: a lost primary would lose commits."
        findings.append(Finding("synchronous standby", Verdict.WARNING, "commits wait for no standby", step))
    return findings


class _Writing(NamedTuple):
    """A transaction that delays the change feed: its description, and the SQL that ends it."""

    name: str
    end: str


async def _oldest_writing(servers: DatabaseServers) -> list[Finding]:
    """Open writing transactions of any role: the change feed waits for the oldest of them."""
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


async def _writing(primaries: Iterable[DatabaseServer]) -> dict[_Writing, float | None]:
    """Open writing transactions with their age in seconds; None when it is hidden from all our roles."""
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
    step = f"Look it up in pg_stat_activity, as a superuser; to end it: `{who.end}`."
    return Finding("oldest writing transaction", verdict, found, step if verdict else "")


def _grade(figure: float, remarked: float, wrong: float) -> Verdict:
    return Verdict.WRONG if figure > wrong else Verdict.WARNING if figure > remarked else Verdict.OK
