"""The database's shape: numbered SQL files, applied forward only, and the roles that use them.

Migrating is a separate step, never part of starting a service: two replicas would race, and only the
owner's role may change the schema. The previous release answers citizens meanwhile, so:

  - A migration only adds (expand). Removing something that an older release uses (contract) waits for a release
    later than the first one that does not use it. The file's name states the oldest release allowed:
    `0009_contract_0007_drop_old_column.sql` requires programs that know migration 0007.
  - It blocks no other session for long. While it waits for a table lock, later statements on that table queue behind
    it, so it waits three seconds, gives up the attempt, and tries again.
  - A statement that cannot run in a transaction (CREATE INDEX CONCURRENTLY) has its own file, with the line
    `-- outside a transaction`; its statements can be repeated.

tests/lookup/migration_rules.py checks every migration for these rules.
"""

import asyncio
import base64
import contextlib
import functools
import hashlib
import hmac
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import resources
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, unquote, urlsplit

import asyncpg

from ops.settings import SettingsError
from ops.stores import urls
from ops.stores.postgres import connect_directly

T = TypeVar("T")
Say = Callable[[str], None]

SCHEMA = "hoso24"
_LOCK = 0x686F736F3234  # "hoso24": one migrator at a time
_ROUNDS = 4096
"""Iterations of SCRAM-SHA-256, PostgreSQL's default; passwords here are random and long."""
OUTSIDE = "-- outside a transaction"

LOCK_TIMEOUT = 3.0
"""Seconds a migration waits for a lock before the attempt ends. Later statements on that table queue behind it."""
ATTEMPTS = 10
"""Attempts of a migration; with the pauses about two minutes, then it fails with CannotMigrate."""
LONGEST_PAUSE = 15.0
"""Seconds between two attempts at most; the first pause is a third of the timeout, each next one doubles."""

CREATE_SCHEMA = f"""
CREATE SCHEMA IF NOT EXISTS {SCHEMA};
CREATE TABLE IF NOT EXISTS {SCHEMA}.schema_version (
    version     integer     PRIMARY KEY,
    name        text        NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT now()
);
"""


BLOCKERS = """
SELECT pid, usename
  FROM pg_stat_activity
 WHERE pid = ANY (pg_blocking_pids($1))
"""


class WrongSchema(SettingsError):
    """The configured database has a schema this program cannot use; the message says why."""

    def __init__(self, sentence: str) -> None:
        super().__init__([sentence])


class MadeBefore(WrongSchema):
    """The database's schema was made before this release's, by migrations of other names under the same numbers."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The database was made before this release's schema (its migration is {name}, this release has none of "
            "that name), and nothing of it can be taken over: use a new, empty database."
        )


class CannotMigrate(Exception):
    """A migration did not get its locks. It changed nothing and can be run again at any time."""


class Migration(NamedTuple):
    """One numbered file."""

    version: int
    name: str
    sql: str

    @property
    def asks_for(self) -> int:
        """The migration that programs must know once this one is applied; 0 for one that only adds."""
        contract = re.match(r"\d{4}_contract_(\d{4})_", self.name)
        return int(contract[1]) if contract else 0

    @property
    def outside_a_transaction(self) -> bool:
        """Whether each statement runs by itself; a statement may have run before."""
        return OUTSIDE in self.sql.splitlines()

    @property
    def statements(self) -> list[str]:
        """Its statements, split at `;`. For migrations outside a transaction: no quotes of theirs hold `;` or `--`."""
        plain = re.sub(r"--.*", "", self.sql)
        return [statement.strip() for statement in plain.split(";") if statement.strip()]


def migrations() -> list[Migration]:
    """Every migration, in order."""
    files = sorted(file.name for file in resources.files(__name__).iterdir() if file.name[:4].isdigit())
    return [
        Migration(int(name[:4]), name.removesuffix(".sql"), resources.files(__name__).joinpath(name).read_text("utf-8"))
        for name in files
    ]


LATEST = migrations()[-1].version
"""The newest migration this program knows."""

# The migration a program must know is part of the applied names, so an older release can read it too.
ASKS_FOR = r"SELECT coalesce(max(substring(name FROM '^\d{4}_contract_(\d{4})_')::integer), 0) FROM schema_version"
# The first applied migration that this program knows under another name: there was a schema before this one.
MADE_BY = f"""SELECT name
  FROM schema_version
 WHERE version <= {LATEST}
   AND name <> ALL (ARRAY[{", ".join(f"'{migration.name}'" for migration in migrations())}])
 ORDER BY version
 LIMIT 1"""  # noqa: S608 - the names of our own files
STATE = f"""
SELECT (SELECT coalesce(max(version), 0) FROM schema_version) AS version,
       ({ASKS_FOR}) AS asks_for,
       ({MADE_BY}) AS made_by
"""  # noqa: S608

NEEDED = 13
"""The oldest schema this program works on. Raise it with the migration that the code requires; a test runs the services
on every schema from this one to the newest."""


async def migrate(
    owner_url: str,
    say: Say = lambda _: None,
    *,
    lock_timeout: float = LOCK_TIMEOUT,
    attempts: int = ATTEMPTS,
) -> int:
    """Apply the missing migrations, each in its own transaction; returns how many were applied.

    Safe to run twice, concurrently, and while the services run. Raises WrongSchema when the database is newer than this
    program, MadeBefore when it has the schema of before this one, CannotMigrate when no lock was granted within
    `lock_timeout` seconds in `attempts` attempts, and BehindPooler when the URL leads to a pooler: the advisory lock
    against a second migrator needs a session.
    """
    connection = await connect_directly(lambda: owner_url)
    try:
        await connection.execute(f"SET lock_timeout = '{round(lock_timeout * 1000):d}ms'")
        patience = _Patience(owner_url, connection, say, lock_timeout, attempts)
        await patience.have("the right to migrate", lambda: connection.execute("SELECT pg_advisory_lock($1)", _LOCK))
        await patience.have("the schema", lambda: connection.execute(CREATE_SCHEMA))
        await connection.execute(f"SET search_path = {SCHEMA}")
        applied = await connection.fetchval("SELECT coalesce(max(version), 0) FROM schema_version")
        if applied > LATEST:
            raise WrongSchema(
                f"The database's schema is version {applied}, this program knows {LATEST}: start a newer release."
            )
        if (made_by := await connection.fetchval(MADE_BY)) is not None:
            raise MadeBefore(made_by)
        todo = [migration for migration in migrations() if migration.version > applied]
        for migration in todo:
            say(f"migration {migration.name}")
            await patience.have(f"migration {migration.name}", functools.partial(_apply, connection, migration))
        return len(todo)
    finally:
        await connection.close()


async def _apply(connection: Any, migration: Migration) -> None:
    """Atomic in a transaction; outside one, statement by statement, repeated from the first after a failure."""
    if migration.outside_a_transaction:
        for statement in migration.statements:
            await connection.execute(statement)
        await _note(connection, migration)
    else:
        async with connection.transaction():
            await connection.execute(migration.sql)
            await _note(connection, migration)


async def _note(connection: Any, migration: Migration) -> None:
    await connection.execute(
        "INSERT INTO schema_version (version, name) VALUES ($1, $2)", migration.version, migration.name
    )


class _Patience:
    """Retries work that needs a lock, pausing between attempts, and reports which process holds the lock."""

    def __init__(self, owner_url: str, connection: Any, say: Say, lock_timeout: float, attempts: int) -> None:
        self._owner_url = owner_url
        self._connection = connection
        self._say = say
        self._lock_timeout = lock_timeout
        self._attempts = attempts

    async def have(self, what: str, work: Callable[[], Awaitable[T]]) -> T:
        """The work's result. Raises CannotMigrate when another session held the lock in every attempt."""
        pause = self._lock_timeout / 3
        for attempt in range(1, self._attempts + 1):
            async with self._blockers() as blockers:
                try:
                    return await work()
                except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
                    held = ", ".join(sorted(blockers)) or "a session that has ended since"
            self._say(f"{what}: a lock is held by {held}; will retry (attempt {attempt} of {self._attempts})")
            if attempt < self._attempts:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
        raise CannotMigrate(
            f"{what}: a lock it needs was held by {held} in each of {self._attempts} attempts of "
            f"{self._lock_timeout:g} s. Nothing was changed. End the session that holds it, or retry at a quieter time."
        )

    @contextlib.asynccontextmanager
    async def _blockers(self) -> AsyncIterator[set[str]]:
        """The sessions that block our connection, collected on a second connection while the block runs."""
        seen: set[str] = set()
        watching = asyncio.create_task(self._watch(self._connection.get_server_pid(), seen))
        try:
            yield seen
        finally:
            watching.cancel()
            await asyncio.wait([watching])

    async def _watch(self, pid: int, seen: set[str]) -> None:
        await asyncio.sleep(self._lock_timeout / 4)  # most locks are granted at once, without a second connection
        observer = await connect_directly(lambda: self._owner_url)
        try:
            while True:
                for row in await observer.fetch(BLOCKERS, pid):
                    seen.add(f"process {row['pid']} ({row['usename'] or 'the server itself'})")
                await asyncio.sleep(self._lock_timeout / 4)
        finally:
            observer.terminate()


def check(version: int, asks_for: int = 0, made_by: str | None = None) -> None:
    """Raise WrongSchema unless this program works on a schema of this version; the arguments are those of STATE.

    It must be NEEDED or newer. A schema newer than this program is accepted while it still serves it: `asks_for` is the
    migration that programs must know since a contract migration was applied; 0 when none was. `made_by` is a migration
    of the schema before this one: MadeBefore.
    """
    if made_by is not None:
        raise MadeBefore(made_by)
    if version < NEEDED:
        raise WrongSchema(
            f"The database's schema is version {version}, this program needs {NEEDED}: run `hoso24 migrate` first."
        )
    if asks_for > LATEST:
        raise WrongSchema(
            f"The database's schema (version {version}) no longer has what this program uses: it requires releases "
            f"that know migration {asks_for}, this one knows {LATEST}. Start a newer release."
        )


async def create_roles(admin_url: str, *role_urls: str) -> None:
    """Create the roles and the database of the URLs, with the URLs' passwords, and close what every role may do in
    a new database (functions.sql). Safe to run again, and while processes of this release or the one before run.

    Where a setting holds several URLs, one per line, the first one's password is used.
    """
    wanted = [urlsplit(urls.first(url)) for url in role_urls]
    database = unquote(wanted[0].path.lstrip("/"))
    connection = await connect_directly(lambda: admin_url)
    try:
        await connection.execute(_file("roles.sql"))
        for url in wanted:
            await connection.execute(
                await connection.fetchval(
                    "SELECT format('ALTER ROLE %I PASSWORD %L', $1::text, $2::text)",
                    unquote(url.username or ""),
                    password_verifier(unquote(url.password or "")),
                )
            )
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", database):
            await connection.execute(
                await connection.fetchval("SELECT format('CREATE DATABASE %I OWNER hoso24_owner', $1::text)", database)
            )
    finally:
        await connection.close()
    inside = urlsplit(admin_url)._replace(path=f"/{quote(database, safe='')}").geturl()
    connection = await connect_directly(lambda: inside)
    try:
        await connection.execute(_file("functions.sql"))
    finally:
        await connection.close()


def _file(name: str) -> str:
    return resources.files(__name__).joinpath(name).read_text("utf-8")


def password_verifier(password: str) -> str:
    """The SCRAM-SHA-256 verifier PostgreSQL stores (RFC 7677), so that no statement, which a server may log, contains
    the password. An empty or non-ASCII password is returned unchanged; the server hashes it."""
    if not password or not password.isascii():
        return password
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ROUNDS)
    client, server = (hmac.digest(salted, key, "sha256") for key in (b"Client Key", b"Server Key"))
    stored = hashlib.sha256(client).digest()
    salt64, stored64, server64 = (base64.b64encode(each).decode() for each in (salt, stored, server))
    return f"SCRAM-SHA-256${_ROUNDS}:{salt64}${stored64}:{server64}"


NEW_EPOCH = "INSERT INTO epoch (number, reason) SELECT max(number) + 1, $1 FROM epoch RETURNING number"
