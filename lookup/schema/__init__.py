"""The database's shape: numbered SQL files, applied forward only, and the roles that use them.

Migrating is a step of its own, never part of starting a service: two replicas would race, and only the
owner's role may change the schema.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable
from importlib import resources
from urllib.parse import unquote, urlsplit

from ops import addresses
from ops.connections import connect_directly
from ops.settings import SettingsError

SCHEMA = "hoso24"
_LOCK = 0x686F736F3234  # "hoso24": one migrator at a time
_ROUNDS = 4096
"""As PostgreSQL has it; a password here is random and long."""

CREATE_SCHEMA = f"""
CREATE SCHEMA IF NOT EXISTS {SCHEMA};
CREATE TABLE IF NOT EXISTS {SCHEMA}.schema_version (
    version     integer     PRIMARY KEY,
    name        text        NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT now()
);
"""


class WrongSchema(SettingsError):
    """The database the settings name has a schema this program cannot work with; the message says why."""

    def __init__(self, sentence: str) -> None:
        super().__init__([sentence])


def migrations() -> list[tuple[int, str, str]]:
    """Every migration as (version, name, SQL), in order."""
    files = sorted(file.name for file in resources.files(__name__).iterdir() if file.name[:4].isdigit())
    return [
        (
            int(name[:4]),
            name.removesuffix(".sql"),
            resources.files(__name__).joinpath(name).read_text("utf-8"),
        )
        for name in files
    ]


LATEST = migrations()[-1][0]


async def migrate(owner_url: str, say: Callable[[str], None] = lambda _: None) -> int:
    """Apply what is missing, each migration in a transaction of its own; returns how many were applied.

    Safe to run twice and from two places at once. Raises WrongSchema when the database is newer than this
    program, and BehindPooler when the URL leads to a pooler: the lock that keeps a second migrator waiting lives
    in a session.
    """
    connection = await connect_directly(lambda: owner_url)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        await connection.execute(CREATE_SCHEMA)
        await connection.execute(f"SET search_path = {SCHEMA}")
        applied = await connection.fetchval("SELECT coalesce(max(version), 0) FROM schema_version")
        if applied > LATEST:
            raise WrongSchema(
                f"The database's schema is version {applied}, this program knows {LATEST}: start a newer release."
            )
        todo = [migration for migration in migrations() if migration[0] > applied]
        for version, name, sql in todo:
            say(f"migration {name}")
            async with connection.transaction():
                await connection.execute(sql)
                await connection.execute("INSERT INTO schema_version (version, name) VALUES ($1, $2)", version, name)
        return len(todo)
    finally:
        await connection.close()


def check(version: int) -> None:
    """Raise WrongSchema if the database is older than this program needs.

    A newer one is fine: migrations only ever add until no release that needs the old form is left.
    """
    if version < LATEST:
        raise WrongSchema(
            f"The database's schema is version {version}, this program needs {LATEST}: run `hoso24 migrate` first."
        )


async def create_roles(admin_url: str, *role_urls: str) -> None:
    """Create the four roles and the database the URLs name, with the URLs' passwords. Safe to run again.

    Where a URL is given several times, one a line, the first one's password counts.
    """
    wanted = [urlsplit(addresses.first(url)) for url in role_urls]
    database = unquote(wanted[0].path.lstrip("/"))
    connection = await connect_directly(lambda: admin_url)
    try:
        await connection.execute(resources.files(__name__).joinpath("roles.sql").read_text("utf-8"))
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


def password_verifier(password: str) -> str:
    """What PostgreSQL keeps of a password (RFC 7677), so that the password itself never stands in a statement, which a
    server may log. One that is empty, or has to be prepared because it is not ASCII, is left to the server."""
    if not password or not password.isascii():
        return password
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ROUNDS)
    client, server = (hmac.digest(salted, key, "sha256") for key in (b"Client Key", b"Server Key"))
    stored = hashlib.sha256(client).digest()
    salt64, stored64, server64 = (base64.b64encode(each).decode() for each in (salt, stored, server))
    return f"SCRAM-SHA-256${_ROUNDS}:{salt64}${stored64}:{server64}"


NEW_EPOCH = "INSERT INTO epoch (number, reason) SELECT max(number) + 1, $1 FROM epoch RETURNING number"
