"""Checks of `hoso24 doctor` on schema, roles, grants, epochs, the change stream and the public address."""

import asyncio
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from lookup import schema
from lookup.cache import Cache
from lookup.catalogue import CATALOGUE, from_rows, in_force, load
from lookup.clock import PRESENT, VIETNAM, microseconds
from lookup.reading.freshness import SECOND
from lookup.reading.hosts import LARGEST_LAG, nth_host
from lookup.schema import grants
from lookup.schema.grants import ANY_COLUMN, PUBLIC, ROLES, Grant
from ops import doctor
from ops.doctor.certificate_checks import certificates, is_near
from ops.doctor.findings import Check, Finding, Verdict
from ops.doctor.postgres_checks import DatabaseServer, DatabaseServers
from ops.errors import Unavailable
from ops.http import early_answers
from ops.settings import Secret, masked
from ops.stores.redis import Redis
from ops.stores.urls import each_host, first

POLICY = "volatile-lru"
"""Records expire, the stream does not: allkeys-lru would evict the stream itself."""
OLDEST_REDIS = (6, 2)
OF_THE_SITE = ("HOSO24_SITE_OWNER", "HOSO24_SITE_OWNER_CONTACT", "HOSO24_HOTLINE")
"""Settings that say who runs the site."""
FICTITIOUS = "hư cấu"
"""Stands in every name of the sample catalogue, and in the owner that `make up` declares."""
LATE, TOO_LATE = 2.0, 5.0
"""Ages of a heartbeat, in seconds: reported as a warning, and no longer trusted by lookups."""
CONFIRMED_BY = 10
"""The month from which next year's holidays should have been announced and loaded."""
PREFERRED = (
    *("reader", "relay", "writer", "owner", "notary", "auditor", "archivist", "webhooks", "desk", "notices", "figures"),
)
"""Roles to connect as, in order of preference."""

APPLIED = "SELECT version, name FROM schema_version ORDER BY version"
OWNER = """
SELECT relname::text AS "table", pg_get_userbyid(relowner)::text AS owner
  FROM pg_class
 WHERE relnamespace = to_regnamespace('hoso24') AND relkind IN ('r', 'p') AND relowner <> to_regrole('hoso24_owner')
"""

_DURATION = re.compile(r"(\d+)\s*(ms|s|min|h)?$")
_MILLISECONDS = {None: 1, "": 1, "ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000}


def servers(urls: Mapping[str, Secret], *, pooled: bool = False) -> DatabaseServers:
    """Every host of every role's URL. `urls`: those of PREFERRED that are set.

    `pooled`: reader and writer go through PgBouncer, as their processes do.
    """
    return DatabaseServers(
        [server for role in PREFERRED if role in urls for server in _of_url(role, urls[role], pooled)]
    )


def _of_url(role: str, url: Secret, pooled: bool) -> Iterator[DatabaseServer]:
    count = len(each_host(first(url.reveal())))
    for n in range(count):
        name = f"postgres as {role}" if count == 1 else f"postgres-{n + 1} as {role}"
        variable = f"HOSO24_PG_{role.upper()}_URL"
        through = pooled and role in ("reader", "writer")
        yield DatabaseServer(name, f"hoso24_{role}", variable, nth_host(url.reveal, n), pooled=through)


def checks(database: DatabaseServers, redis: Redis | None) -> Iterator[Check]:
    """The checks of migrations, roles, grants, heartbeat and standbys; with `redis` also of epochs and the stream."""
    yield Check("early answers", _early_answers)
    yield Check("migrations", lambda: _migrations(database))
    yield Check("roles", lambda: _roles(database))
    yield Check("role settings", lambda: _role_settings(database))
    yield Check("grants", lambda: _grants(database))
    yield Check("functions", lambda: _functions(database))
    yield Check("catalogue", lambda: _catalogue(database))
    yield Check("heartbeat", lambda: _heartbeats(database))
    if redis is not None:
        cache = Cache(redis)
        yield Check("epoch", lambda: _epochs(database, cache))
        yield Check("stream", lambda: _stream(database, cache))


async def _early_answers() -> list[Finding]:
    """Whether the installed aiohttp has what early answers need; without them aiohttp handles every request."""
    absent = early_answers.missing()
    if not absent:
        return [Finding("early answers", Verdict.OK, "possible")]
    found = f"off: aiohttp {aiohttp.__version__} has no {', '.join(absent)}"
    step = "Install the locked version of aiohttp (requirements.lock), or a release that supports this one."
    return [Finding("early answers", Verdict.WARNING, found, step)]


# -- schema and roles --------------------------------------------------------------------------------------


async def _migrations(database: DatabaseServers) -> list[Finding]:
    if not await database.fetch("SELECT WHERE to_regclass('hoso24.schema_version') IS NOT NULL"):
        return [_wrong("migrations", "this database has no schema of ours", "Run `hoso24 migrate`.")]
    applied = {row["version"]: row["name"] for row in await database.fetch(APPLIED)}
    known = {version: name for version, name, _ in schema.migrations()}
    before = [name for version, name in applied.items() if version in known and name != known[version]]
    if before:
        found = f"made before this release's schema (by {before[0]}): nothing of it can be taken over"
        return [_wrong("migrations", found, "Use a new, empty database.")]
    newest = max(applied, default=0)
    findings = []
    if newest < schema.LATEST:
        missing = ", ".join(name for version, name in known.items() if version > newest)
        findings.append(_wrong("migrations", f"missing: {missing}", "Run `hoso24 migrate` before this release starts."))
    lost = [name for version, name in known.items() if version < newest and version not in applied]
    if lost:
        step = "Check whether it was applied (`\\d hoso24.*`): apply its file by hand if not, then insert its row."
        found = f"the table schema_version has no row for {', '.join(lost)}, but newer ones"
        findings.append(_wrong("migrations", found, step))
    if newest > schema.LATEST:
        found = f"the database is at {applied[newest]}, this program knows {known[schema.LATEST]}"
        ((asks_for,),) = await database.fetch(schema.ASKS_FOR)
        if (asks_for or 0) > schema.LATEST:
            found += f", and migration {asks_for} has taken away what it uses: it does not start"
            findings.append(_wrong("migrations", found, "Start the release that migrated it, or a newer one."))
        else:
            step = "Run the doctor of the release that migrated it; this release works until that one is rolled out."
            findings.append(Finding("migrations", Verdict.WARNING, found, step))
    return findings or [Finding("migrations", Verdict.OK, f"all {len(known)} applied, up to {known[schema.LATEST]}")]


async def _roles(database: DatabaseServers) -> list[Finding]:
    """Whether the roles exist, can log in, and have no privileges beyond those they need."""
    roles = {row["role"]: row for row in await database.fetch(grants.ATTRIBUTES, list(ROLES))}
    findings = []
    for role in ROLES:
        if role not in roles:
            step = "Run `hoso24 migrate` with HOSO24_PG_ADMIN_URL, which creates the roles."
            findings.append(_wrong("roles", f"{role} does not exist", step))
            continue
        findings += _of_role(role, roles[role])
    for row in await database.fetch(OWNER):
        step = f"Run `ALTER TABLE hoso24.{row['table']} OWNER TO hoso24_owner` as a superuser."
        findings.append(_wrong("roles", f"{row['table']} belongs to {row['owner']}, not to hoso24_owner", step))
    return findings or [Finding("roles", Verdict.OK, f"all {len(ROLES)}, none with more attributes than it needs")]


def _of_role(role: str, row: Any) -> Iterator[Finding]:
    excessive = {
        "rolsuper": "SUPERUSER",
        "rolcreaterole": "CREATEROLE",
        "rolcreatedb": "CREATEDB",
        "rolbypassrls": "BYPASSRLS",
        "rolreplication": "REPLICATION",
    }
    for attribute, word in excessive.items():
        if row[attribute]:
            yield _wrong("roles", f"{role} is {word}", f"Run `ALTER ROLE {role} NO{word}` as a superuser.")
    wanted = " ".join(grants.memberships().get(role, ()))
    for membership in row["member_of"]:
        other = membership.partition(" ")[0]
        if membership != wanted and other != wanted.partition(" ")[0]:
            yield _wrong("roles", f"{role} is a member of {other}", f"Run `REVOKE {other} FROM {role}` as a superuser.")
    if wanted and wanted not in row["member_of"]:
        group, _, how = wanted.partition(" ")
        found = f"{role} is not a member of {group} {how}, so it cannot end a session of it that holds delivery up"
        step = f"Run `GRANT {group} TO {role} {how}` as a superuser."
        yield Finding("roles", Verdict.WARNING, found, step)
    if not row["rolcanlogin"]:
        yield _wrong("roles", f"{role} may not log in", f"Run `ALTER ROLE {role} LOGIN` as a superuser.")


async def _role_settings(database: DatabaseServers) -> list[Finding]:
    """Whether the roles have the settings of roles.sql, such as timeouts, which the service relies on."""
    rows = await database.fetch(grants.ROLE_SETTINGS, list(ROLES))
    there = {(row["role"], row["name"]): row["value"] for row in rows}
    findings = []
    for (role, name), wanted in grants.role_settings().items():
        value = there.get((role, name))
        step = f"Run `ALTER ROLE {role} SET {name} = '{wanted}'` as a superuser; it applies to new sessions."
        if value is None:
            findings.append(_wrong("role settings", f"{role} has no {name}", step))
        elif _plain(value) != _plain(wanted):
            found = f"{role} has {name} = {value}; roles.sql sets {wanted}"
            findings.append(Finding("role settings", Verdict.WARNING, found, step))
    return findings or [Finding("role settings", Verdict.OK, f"{len(there)} as roles.sql sets them")]


async def _grants(database: DatabaseServers) -> list[Finding]:
    """The grants in the database against those of the migrations. The reader must not read an applicant's columns."""
    columns: dict[str, list[str]] = {}
    for row in await database.fetch(grants.COLUMNS):
        columns.setdefault(row["table"], []).append(row["column"])
    expected = grants.by_column(grants.expected(), columns)
    held = grants.held(await database.fetch(grants.HELD, list(ROLES[1:])))
    open_to_all = {grant for grant in held if grant.role == PUBLIC}
    held -= {grant._replace(role=role) for grant in open_to_all for role in ROLES} - expected
    surplus, missing = (_once(each) for each in (held - expected, expected - held))
    if any(row["version"] > schema.LATEST for row in await database.fetch(APPLIED)):
        # A newer release may have granted what this one does not know, but never an applicant's columns.
        surplus = {grant for grant in surplus if grant.column.startswith("applicant")}
    findings = [_too_much(each, expected) for each in _by_table(surplus)]
    findings += [_too_little(each) for each in _by_table(missing)]
    if findings:
        return findings
    return [Finding("grants", Verdict.OK, "as in the migrations; the reader cannot read an applicant's columns")]


def _once(differing: set[Grant]) -> set[Grant]:
    """Without what a role only has, or lacks, because it is a member of another that does."""
    groups = {member: group for member, (group, _) in grants.memberships().items()}
    return {
        grant
        for grant in differing
        if grant.role not in groups or grant._replace(role=groups[grant.role]) not in differing
    }


async def _functions(database: DatabaseServers) -> list[Finding]:
    """Whether PUBLIC may call what holds delivery up or fills the disk, and our roles what they need of it."""
    rows = await database.fetch(grants.callable_query(), list(ROLES))
    (temporary,) = await database.fetch(grants.TEMPORARY)
    there = {(row["role"], row["function"]) for row in rows}
    open_to_all = sorted(function for role, function in there if role == PUBLIC)
    findings = [
        _wrong("functions", f"{role} may not call {function}", f"Run `GRANT EXECUTE ON FUNCTION {function} TO {role}`.")
        for role, function in sorted(grants.callable_functions() - there)
    ]
    for row in await database.fetch(grants.OURS_OPEN):
        found = f"every role may call {row['function']}, which is the owner's"
        step = f"Run as the owner: `REVOKE EXECUTE ON FUNCTION {row['function']} FROM PUBLIC`."
        findings.append(_wrong("functions", found, step))
    if open_to_all or temporary["open_to_all"]:
        found = ", ".join([*open_to_all[:2], *(["…"] if open_to_all[2:] else [])]) or "temporary tables"
        step = "Run `hoso24 migrate` with HOSO24_PG_ADMIN_URL, or lookup/schema/functions.sql here as a superuser."
        findings.append(Finding("functions", Verdict.WARNING, f"every role may use {found}", step))
    return findings or [
        Finding("functions", Verdict.OK, "none that holds delivery up or fills the disk is open to all")
    ]


async def _catalogue(database: DatabaseServers) -> list[Finding]:
    """Whether a catalogue is loaded and in force, and from October on whether next year's holidays are confirmed."""
    known = from_rows(await database.fetch(CATALOGUE))
    real = [each for each in known.agencies.values() if not each.sandbox]
    if not real or not known.services:
        return [_wrong("catalogue", "none is loaded: no dossier can be received", load.STEP)]
    today = datetime.now(VIETNAM).date()
    if known.sample:
        return [Finding("catalogue", Verdict.OK, f"the sample, for trial only. {load.counted(known, today)}")]
    findings = [Finding("catalogue", Verdict.OK, load.counted(known, today))]
    in_both = (real, known.services.values())
    if not all(any(in_force(each, today) for each in kind) for kind in in_both):
        findings = [_wrong("catalogue", f"nothing can be received. {load.counted(known, today)}", load.STEP)]
    for calendar in known.calendars.values():
        for year in range(today.year, today.year + (2 if today.month >= CONFIRMED_BY else 1)):
            if year not in calendar.confirmed_years:
                found = f"the holidays of {year} in calendar {calendar.name} {calendar.version} are not confirmed"
                step = "Load its next version with the announced days and the year in `confirmed_years`."
                findings.append(Finding("catalogue", Verdict.WARNING, found, step))
    return findings


def _by_table(surplus: Iterable[Grant]) -> Iterator[list[Grant]]:
    for _, of_table in itertools.groupby(sorted(surplus), key=lambda grant: (grant.role, grant.table)):
        yield list(of_table)


def _too_much(surplus: list[Grant], expected: set[Grant]) -> Finding:
    step = f"Run as the owner: `{grants.statement('REVOKE', surplus)}`"
    whole = {grant.privilege for grant in surplus if grant.column == ANY_COLUMN}
    role, table = surplus[0].role, surplus[0].table
    # Revoking a privilege on a table also revokes it on every column, including separately granted ones.
    again = [grant for grant in expected if grant[:2] == (role, table) and grant.privilege in whole]
    if again:
        step += f", then `{grants.statement('GRANT', again)}`"
    return _wrong("grants", f"{role} has more than it should: {_listed(surplus)}", f"{step}.")


def _too_little(missing: list[Grant]) -> Finding:
    step = f"Run as the owner: `{grants.statement('GRANT', missing)}`."
    return _wrong("grants", f"{missing[0].role} lacks {_listed(missing)}", step)


def _listed(of_table: list[Grant]) -> str:
    whole = {grant.privilege for grant in of_table if grant.column == ANY_COLUMN}
    words = [f"{privilege} on {of_table[0].table}" for privilege in sorted(whole)]
    words += [
        f"{grant.privilege} on {grant.table}.{grant.column}"
        for grant in of_table
        if grant.column != ANY_COLUMN and (grant.privilege not in whole or grant.column.startswith("applicant"))
    ]
    return ", ".join(words)


def _plain(value: str) -> str:
    """A duration in milliseconds, from any unit; any other value unchanged."""
    duration = _DURATION.match(value)
    return str(int(duration[1]) * _MILLISECONDS[duration[2]]) if duration else value


# -- epochs, heartbeat, stream -----------------------------------------------------------------------------


async def _heartbeats(database: DatabaseServers) -> list[Finding]:
    """Whether a relay leads, judged by the primary's heartbeat, and how far the standbys lag."""
    hosts = [(server, await _present(server)) for server, _ in await database.hosts()]
    primaries = [row for _, row in hosts if not row["standby"]]
    if not primaries:
        raise Unavailable("no primary answers")
    newest = max(row["beat_at"] for row in primaries)
    age = min((row["asked_at"] - row["beat_at"]).total_seconds() for row in primaries)
    step = "Start a relay (`hoso24 relay`), or read its log; its metric relay_leader shows whether it leads."
    findings = [_graded("heartbeat", age, TOO_LATE, f"the primary's is {age:.1f} s old", step)]
    if len(primaries) > 1:
        step = "Fence off the demoted one at once: both may accept writes."
        findings.append(_wrong("heartbeat", f"{len(primaries)} hosts are primaries", step))
    for server, row in hosts:
        if row["standby"]:
            behind = (newest - row["beat_at"]).total_seconds()
            found = f"{server.name}, a standby, is {behind:.1f} s behind"
            step = "Look at pg_stat_replication on the primary; lookups use this standby only as a last resort."
            findings.append(_graded("standby", behind, LARGEST_LAG, found, step))
    return findings


async def _epochs(database: DatabaseServers, cache: Cache) -> list[Finding]:
    """Whether PostgreSQL, its standbys and Redis are in the same epoch."""
    rows = [await _present(server) for server, _ in await database.hosts()]
    if not rows:
        raise Unavailable("no PostgreSQL host answers")
    epoch, delivered = max(row["epoch"] for row in rows), await cache.epoch()
    findings = []
    if min(row["epoch"] for row in rows) != epoch:
        step = "Wait a second; if it remains, look at that standby's lag in pg_stat_replication on the primary."
        findings.append(Finding("epoch", Verdict.WARNING, f"a standby is not in epoch {epoch} yet", step))
    if delivered is None:
        step = "Start a relay (`hoso24 relay`), or correct HOSO24_REDIS_URL: no relay has written to this Redis."
        findings.append(_wrong("epoch", f"PostgreSQL is in epoch {epoch}, Redis in none", step))
    elif delivered < epoch:
        step = "Check that a relay leads: it enters the new epoch within a second of `hoso24 cache renew`."
        findings.append(_wrong("epoch", f"PostgreSQL is in epoch {epoch}, Redis still in {delivered}", step))
    elif delivered > epoch:
        step = "PostgreSQL was restored: run `hoso24 cache renew` until its epoch is above that of Redis."
        findings.append(_wrong("epoch", f"PostgreSQL is in epoch {epoch}, Redis in {delivered} already", step))
    return findings or [Finding("epoch", Verdict.OK, f"{epoch}, everywhere")]


async def _stream(database: DatabaseServers, cache: Cache) -> list[Finding]:
    """How far the change stream lags behind the primary's heartbeat."""
    server = await database.primary()
    row = await _present(server)
    end = await cache.join(row["epoch"])
    if not end.last:
        step = "Check that a relay leads and reaches this Redis: the first heartbeat starts the stream."
        return [_wrong("stream", f"there is none in epoch {row['epoch']}", step)]
    behind = max(0, microseconds(row["beat_at"]) - end.feed_at) / SECOND
    step = "Look for an open transaction (above), then at the relay: relay_lag_seconds, relay_halted, its log."
    return [_graded("stream", behind, TOO_LATE, f"ends with {end.last}, {behind:.1f} s behind the heartbeat", step)]


async def _present(server: DatabaseServer) -> Any:
    (row,) = await server.fetch(PRESENT)
    return row


def _graded(check: str, seconds: float, wrong: float, found: str, step: str) -> Finding:
    verdict = Verdict.WRONG if seconds > wrong else Verdict.WARNING if seconds > LATE else Verdict.OK
    return Finding(check, verdict, found, step if verdict else "")


def _wrong(check: str, found: str, step: str) -> Finding:
    return Finding(check, Verdict.WRONG, found, step)


def public_address(url: str) -> list[Check]:
    """Checks of the address citizens use: encryption and certificate. None for an empty address."""
    if not url:
        return []
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https":
        return [_seen_from_here(certificates(f"certificate of {host}", host, parts.port or 443))]

    async def ask() -> list[Finding]:
        if is_near(host):
            return [Finding("public address", Verdict.OK, f"{url}, on this machine only")]
        step = "Set HOSO24_PUBLIC_URL to the https:// address: receipts print it, with the lookup key in it."
        return [Finding("public address", Verdict.WARNING, f"{masked(url)} is not encrypted", step)]

    return [Check("public address", ask)]


def _seen_from_here(check: Check) -> Check:
    """The same check with failures to connect as warnings: other networks may reach the address."""

    async def ask() -> Iterable[Finding]:
        try:
            async with asyncio.timeout(doctor.SERVER_DEADLINE):
                return await check.ask()
        except (Unavailable, TimeoutError):
            step = "Run `HOSO24_PUBLIC_URL=… hoso24 doctor` outside the cluster: its network may block pods."
            return [Finding(check.name, Verdict.WARNING, "cannot be reached from here", step)]

    return Check(check.name, ask)


def site(environ: Mapping[str, str]) -> list[Check]:
    """A check of what pages say of who runs the site, where a lookup's settings are for citizens on other machines."""
    url = environ.get("HOSO24_PUBLIC_URL", "")
    lookup = environ.get("HOSO24_PG_READER_URL") or environ.get("HOSO24_PG_READER_URL_FILE")
    if not lookup or not url or is_near(urlsplit(url).hostname or ""):
        return []

    async def ask() -> list[Finding]:
        missing = [name for name in OF_THE_SITE if not (environ.get(name) or environ.get(f"{name}_FILE"))]
        sample = [name for name in OF_THE_SITE if FICTITIOUS in environ.get(name, "")]
        if missing:
            found = f"{', '.join(missing)} not set: pages do not name who runs them, or whom to ask"
        elif sample:
            found = f"{', '.join(sample)} names a fictitious agency of the sample"
        else:
            return [Finding("site", Verdict.OK, f"run by {environ.get('HOSO24_SITE_OWNER', '(in a file)')}")]
        step = f"Set {', '.join(missing or sample)} for the lookup; every page's footer leads to what they say."
        return [Finding("site", Verdict.WARNING, found, step)]

    return [Check("site", ask)]
