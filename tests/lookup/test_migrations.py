"""Migrations: what one may do, how it gives way, and whether old code and new get on with each other's schema."""

import asyncio
import contextlib
import dataclasses
import io
import os
import re
import signal
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
import redis.asyncio

from lookup import schema
from lookup.catalogue import load
from lookup.schema import Migration
from ops.local.ports import free_port
from ops.local.reaper import Reaper
from ops.stores.postgres import connect_directly
from tests.conftest import KEY_SECRETS, ROLES, SEAL_KEYS, WEBHOOK_SECRET, Database
from tests.house import PATIENT_ENVIRON, House, new_token, open_house, submission, until
from tests.lookup.migration_rules import BASELINE, statements, violations
from tests.programs import leave_out

ROOT = Path(__file__).resolve().parents[2]


# -- what a migration may do ------------------------------------------------------------------------------------------


def test_every_migration_after_the_first_schema_keeps_the_rules() -> None:
    every = schema.migrations()
    found = {
        migration.name: violations(migration, every[:n])
        for n, migration in enumerate(every)
        if migration.version > BASELINE
    }
    assert {name: broken for name, broken in found.items() if broken} == {}


def test_migrations_are_numbered_without_a_gap() -> None:
    assert [migration.version for migration in schema.migrations()] == list(range(1, schema.LATEST + 1))


def test_this_release_works_on_a_schema_it_knows() -> None:
    assert BASELINE <= schema.NEEDED <= schema.LATEST


def expand(sql: str) -> Migration:
    return Migration(9, "0009_example", sql)


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE notice (id integer PRIMARY KEY, a text NOT NULL, CHECK (id > 0)); GRANT SELECT ON notice TO a;",
        "CREATE TABLE notice (id integer); CREATE INDEX ON notice (id); ALTER TABLE notice ADD CHECK (id > 0);",
        "ALTER TABLE dossier ADD COLUMN colour text;",
        "ALTER TABLE dossier ADD COLUMN urgent boolean NOT NULL DEFAULT false;",
        "ALTER TABLE dossier ADD COLUMN a text, ADD COLUMN b integer NOT NULL DEFAULT 0;",
        "ALTER TABLE event ADD CONSTRAINT note_is_short CHECK (length(note) < 999) NOT VALID;",
        "ALTER TABLE event VALIDATE CONSTRAINT note_is_short;",
        "ALTER TABLE event DROP CONSTRAINT note_is_short;",
        "-- DROP TABLE dossier; would be a mistake\nCREATE TABLE a (b text DEFAULT 'DROP TABLE dossier; RENAME');",
        "/* RENAME */ COMMENT ON TABLE dossier IS 'it''s; UPDATE nothing';",
        "-- outside a transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS event_by_day ON event (recorded_at);",
        "-- outside a transaction\n"
        "DROP INDEX CONCURRENTLY IF EXISTS e; CREATE INDEX CONCURRENTLY IF NOT EXISTS e ON event (note);",
        "ALTER TABLE event ADD CONSTRAINT unique_note UNIQUE USING INDEX e;",
    ],
)
def test_what_only_adds_is_allowed(sql: str) -> None:
    assert violations(expand(sql)) == []


@pytest.mark.parametrize(
    ("sql", "rule"),
    [
        ("DROP TABLE import_run;", "drop"),
        ("ALTER TABLE dossier DROP COLUMN subject;", "drop"),
        ("alter table dossier\n  drop\n  column subject;", "drop"),
        ("DROP VIEW x;", "drop"),
        ("ALTER TABLE dossier DROP subject;", "drop"),
        ("DROP INDEX event_in_commit_order;", "drop index"),
        ("-- outside a transaction\nDROP INDEX CONCURRENTLY IF EXISTS event_in_commit_order;", "drop index"),
        ("ALTER TABLE dossier ALTER COLUMN channel DROP DEFAULT;", "drop default"),
        ("ALTER TABLE dossier ALTER channel DROP NOT NULL;", "drop not null"),
        ("ALTER TABLE dossier RENAME COLUMN subject TO matter;", "rename"),
        ("ALTER TABLE event RENAME TO history;", "rename"),
        ("ALTER TABLE event ALTER COLUMN version TYPE bigint;", "alter type"),
        ("ALTER TABLE event ALTER version SET DATA TYPE bigint;", "alter type"),
        ("REVOKE SELECT ON dossier FROM hoso24_reader;", "revoke"),
        ("ALTER TABLE event SET SCHEMA other;", "set schema"),
        ("ALTER TABLE dossier ADD COLUMN urgent boolean NOT NULL;", "not null without default"),
        ("ALTER TABLE dossier ADD urgent boolean NOT NULL, ADD b integer DEFAULT 1;", "not null without default"),
        ("ALTER TABLE dossier ADD COLUMN fee numeric(10, 2) NOT NULL;", "not null without default"),
        ("ALTER TABLE dossier ALTER COLUMN subject SET NOT NULL;", "set not null"),
        ("CREATE INDEX event_by_day ON event (recorded_at);", "index in the way"),
        ("CREATE UNIQUE INDEX ON dossier_number (code);", "index in the way"),
        ("REINDEX TABLE event;", "reindex in the way"),
        ("ALTER TABLE event ADD CONSTRAINT short CHECK (length(note) < 999);", "constraint that is checked at once"),
        ("ALTER TABLE event ADD FOREIGN KEY (code) REFERENCES dossier;", "constraint that is checked at once"),
        ("ALTER TABLE event ADD CONSTRAINT one UNIQUE (note);", "key that is built at once"),
        ("ALTER TABLE event ADD COLUMN id uuid DEFAULT gen_random_uuid();", "column that rewrites the table"),
        (
            "ALTER TABLE event ADD COLUMN n integer GENERATED ALWAYS AS (version + 1) STORED;",
            "column that rewrites the table",
        ),
        ("ALTER TABLE event SET TABLESPACE slow;", "table rewritten"),
        ("VACUUM FULL event;", "table rewritten"),
        ("LOCK TABLE dossier IN ACCESS EXCLUSIVE MODE;", "explicit lock"),
        ("ALTER TABLE dossier DETACH PARTITION dossier_00;", "detach in the way"),
        ("UPDATE dossier SET subject = 'x';", "rows changed"),
        ("DELETE FROM idempotency;", "rows changed"),
        ("DO $$ BEGIN UPDATE dossier SET subject = 'x'; END $$;", "rows changed"),
        ("TRUNCATE idempotency;", "rows changed"),
        ("DO $$ BEGIN EXECUTE 'DROP TABLE dossier'; END $$;", "statement that is put together"),
        ("DO $do$ BEGIN DROP TABLE dossier; END $do$;", "drop"),
        ("CREATE INDEX CONCURRENTLY IF NOT EXISTS e ON event (note);", "outside a transaction"),
        ("-- outside a transaction\nCREATE INDEX CONCURRENTLY e ON event (note);", "repeatable"),
        ("-- outside a transaction\nCREATE TABLE a (b integer);", "repeatable"),
        (
            "-- outside a transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS e ON event (a) WHERE note = ';';",
            "repeatable",
        ),
    ],
)
def test_what_takes_away_or_stands_in_the_way_is_found(sql: str, rule: str) -> None:
    assert [sentence for sentence in violations(expand(sql)) if sentence.startswith(f"{rule}: ")]


def test_not_null_is_allowed_behind_a_validated_check() -> None:
    added = Migration(7, "0007_a", "ALTER TABLE event ADD CONSTRAINT note_is_there CHECK (note IS NOT NULL) NOT VALID;")
    validated = Migration(8, "0008_b", "ALTER TABLE event VALIDATE CONSTRAINT note_is_there;")
    last = expand("ALTER TABLE event ALTER COLUMN note SET NOT NULL;")
    assert violations(last, [added]) != []
    assert violations(last, [added, validated]) == []
    assert violations(expand("ALTER TABLE event ALTER COLUMN actor SET NOT NULL;"), [added, validated]) != []


def test_contract_says_since_which_release_what_it_removes_is_not_needed() -> None:
    sql = "ALTER TABLE dossier DROP COLUMN subject;"
    since = "-- Contract: not needed since release 0.3.0, which reads `matter` instead.\n"
    assert violations(Migration(9, "0009_contract_0007_subject", since + sql)) == []
    assert violations(Migration(9, "0009_contract_0007_subject", sql))
    assert violations(Migration(9, "0009_contract_subject", since + sql))
    assert violations(Migration(9, "0009_contract_0009_subject", since + sql))
    slow = "CREATE INDEX e ON event (note);"
    assert [
        each for each in violations(Migration(9, "0009_contract_0007_x", since + slow)) if "index in the way" in each
    ]


def test_statements_are_told_apart() -> None:
    assert statements("SELECT 1; -- a;b\nSELECT\n 'a;b' /* ; */ ; DO $x$ BEGIN a; b; END $x$;") == [
        "SELECT 1",
        "SELECT ''",
        "DO BEGIN a",
        "b",
        "END",
    ]


# -- which schema a release accepts -----------------------------------------------------------------------------------


def test_contract_is_in_the_name() -> None:
    assert Migration(9, "0009_contract_0007_subject", "").asks_for == 7
    assert Migration(9, "0009_contract_subject", "").asks_for == 0
    assert expand("").asks_for == 0


def test_schema_older_than_needed_is_refused_and_one_between_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "LATEST", schema.NEEDED + 2)
    for version in range(schema.NEEDED, schema.NEEDED + 4):
        schema.check(version)
    with pytest.raises(schema.WrongSchema, match="hoso24 migrate"):
        schema.check(schema.NEEDED - 1)


def test_newer_schema_is_accepted_until_it_no_longer_serves_this_release() -> None:
    schema.check(schema.LATEST + 5, asks_for=schema.LATEST)
    with pytest.raises(schema.WrongSchema, match="Start a newer release"):
        schema.check(schema.LATEST + 5, asks_for=schema.LATEST + 1)


async def test_every_process_asks_what_the_schema_asks_for(
    database: Database, redis_url: str, owner: Any, writer: Any
) -> None:
    """Lookup and intake refuse to start, and the relay ends, on a schema that no longer serves them."""
    name = f"{schema.LATEST + 2:04d}_contract_{schema.LATEST + 1:04d}_example"
    await owner.execute("INSERT INTO schema_version (version, name) VALUES ($1, $2)", schema.LATEST + 2, name)
    state = await writer.fetchrow(schema.STATE)
    assert tuple(state) == (schema.LATEST + 2, schema.LATEST + 1, None)
    await every_process_says(database, redis_url, "Start a newer release")


async def test_every_process_refuses_a_schema_of_before(database: Database, redis_url: str, owner: Any) -> None:
    await owner.execute("UPDATE schema_version SET name = '0003_event' WHERE version = 3")
    await every_process_says(database, redis_url, "nothing of it can be taken over")


async def every_process_says(database: Database, redis_url: str, words: str) -> None:
    kinds, environ = ("lookup", "intake", "relay"), environ_for(database, redis_url)
    outcomes = await asyncio.gather(*(ended(kind, environ) for kind in kinds))
    assert [status for status, _ in outcomes] == [2, 2, 1]
    assert [kind for kind, (_, output) in zip(kinds, outcomes, strict=True) if words not in output] == []


async def ended(kind: str, environ: dict[str, str]) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hoso24", kind),
        cwd=ROOT,
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(90):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, output.decode()


# -- giving way -------------------------------------------------------------------------------------------------------


@pytest.fixture
def more(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts migrations behind the real ones."""

    def put(*sqls: str) -> None:
        real = schema.migrations()
        added = [
            Migration(number, f"{number:04d}_example", sql) for number, sql in enumerate(sqls, real[-1].version + 1)
        ]
        monkeypatch.setattr(schema, "migrations", lambda: [*real, *added])
        monkeypatch.setattr(schema, "LATEST", added[-1].version)

    return put


@contextlib.asynccontextmanager
async def holding(database: Database, lock: str) -> AsyncIterator[Any]:
    """A connection that has a lock until the block ends, or until it is closed in it."""
    holder = await asyncpg.connect(database.owner_url)
    await holder.execute("BEGIN")
    await holder.execute(lock)
    try:
        yield holder
    finally:
        holder.terminate()


READS = "SELECT count(*) FROM dossier"


async def test_migration_gives_way_and_tries_again(database: Database, owner: Any, more: Any) -> None:
    """While it waits for its lock everybody who comes later waits behind it; so it does not wait for long."""
    more("ALTER TABLE dossier ADD COLUMN colour text;")
    said: list[str] = []
    gave_way = asyncio.Event()

    def say(line: str) -> None:
        said.append(line)
        if "will retry" in line and f"process {pid} (hoso24_owner)" in line:
            gave_way.set()

    async with holding(database, READS) as holder:
        pid = holder.get_server_pid()
        migrating = asyncio.create_task(schema.migrate(database.owner_url, say, lock_timeout=1.0))
        async with asyncio.timeout(60):
            await gave_way.wait()
        assert await owner.fetchval(READS, timeout=20) == 0  # no query waits behind one that has given way
    async with asyncio.timeout(60):
        assert await migrating == 1
    assert await owner.fetchval("SELECT count(colour) FROM dossier") == 0


async def test_migration_that_never_gets_its_lock_says_who_has_it_and_leaves_nothing_behind(
    database: Database, owner: Any, more: Any
) -> None:
    more(
        "CREATE TABLE scrap (id integer);",
        "CREATE TABLE other (id integer); ALTER TABLE dossier ADD COLUMN colour text;",
    )
    async with holding(database, READS) as holder:
        with pytest.raises(schema.CannotMigrate) as refused:
            await schema.migrate(database.owner_url, lock_timeout=3.0, attempts=2)
        assert f"process {holder.get_server_pid()} (hoso24_owner)" in str(refused.value)
    assert f"{schema.LATEST:04d}_example" in str(refused.value)
    assert await owner.fetchval("SELECT max(version) FROM schema_version") == schema.LATEST - 1
    assert await owner.fetchval("SELECT to_regclass('scrap') IS NOT NULL AND to_regclass('other') IS NULL")


async def test_second_migrator_waits_for_the_first(database: Database, more: Any) -> None:
    more("ALTER TABLE dossier ADD COLUMN colour text;")
    said: list[str] = []

    async def both_give_way() -> bool:
        waits = {line.partition(":")[0] for line in said if "will retry" in line}
        return waits == {"the right to migrate", f"migration {schema.LATEST:04d}_example"}

    async with holding(database, READS):
        first = asyncio.create_task(schema.migrate(database.owner_url, said.append, lock_timeout=0.2))
        second = asyncio.create_task(schema.migrate(database.owner_url, said.append, lock_timeout=0.2))
        await until(both_give_way, within=60)
        assert not first.done()
        assert not second.done()
    async with asyncio.timeout(30):
        assert sorted(await asyncio.gather(first, second)) == [0, 1]


async def test_migration_outside_a_transaction_is_begun_again_where_it_failed(
    database: Database, owner: Any, more: Any
) -> None:
    index = f"{schema.OUTSIDE}\nCREATE INDEX CONCURRENTLY IF NOT EXISTS event_by_day ON event (recorded_at);"
    more(index, f"{schema.OUTSIDE}\n{index}\nALTER TABLE event VALIDATE CONSTRAINT not_there;")
    with pytest.raises(asyncpg.UndefinedObjectError):
        await schema.migrate(database.owner_url)
    assert await owner.fetchval("SELECT max(version) FROM schema_version") == schema.LATEST - 1
    assert await owner.fetchval("SELECT indisvalid FROM pg_index WHERE indexrelid = 'event_by_day'::regclass")


# -- yesterday's code and today's -------------------------------------------------------------------------------------


def environ_for(database: Database, redis_url: str) -> dict[str, str]:
    """What a process of any release needs."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HOSO24_", "OTEL_"))}
    lookup, lookup_admin, intake, intake_admin, relay_admin = ports(5)
    return inherited | {
        "HOSO24_PG_READER_URL": database.reader_url,
        "HOSO24_PG_WRITER_URL": database.writer_url,
        "HOSO24_PG_RELAY_URL": database.relay_url,
        "HOSO24_REDIS_URL": redis_url,
        "HOSO24_LOOKUP_KEY_SECRETS": KEY_SECRETS,
        "HOSO24_SEAL_KEYS": SEAL_KEYS,
        "HOSO24_WEBHOOK_SECRET": WEBHOOK_SECRET,
        "HOSO24_HOST": "127.0.0.1",
        "HOSO24_DRAIN_SECONDS": "0",
        "HOSO24_LOOKUP_PORT": lookup,
        "HOSO24_LOOKUP_ADMIN_PORT": lookup_admin,
        "HOSO24_INTAKE_PORT": intake,
        "HOSO24_INTAKE_ADMIN_PORT": intake_admin,
        "HOSO24_RELAY_ADMIN_PORT": relay_admin,
        **PATIENT_ENVIRON,
    }


def ports(count: int) -> list[str]:
    taken: list[int] = []
    for n in range(count):
        taken.append(free_port(23_000 + 200 * n, avoid=taken))
    return [str(port) for port in taken]


async def its_life(house: House) -> None:
    """A dossier is handed in, moved on, given its number, and seen by citizens each time."""
    receipt = await house.receive()
    code, key = receipt["code"], receipt["lookup_key"]
    assert (await house.lookup(f"/api/v1/dossiers/{code}"))[1]["version"] == 1
    assert (await house.move(code, "processing"))["version"] == 2
    path = f"/api/v1/dossiers/{code}/official-number"
    status, bound = await house.hand_in("PUT", path, {"number": "01234/2026/99901"})
    assert (status, bound["version"]) == (200, 3)

    async def seen() -> bool:
        status, shown = await house.lookup("/api/v1/dossiers/01234-2026-99901", **{"Hoso24-Key": key})
        return status == 200 and shown["version"] == 3 and shown["status"] == "processing"

    await until(seen)


async def made(database: Database, name: str, to: Sequence[Migration]) -> Database:
    """A database whose schema has only these migrations, with the sample catalogue in it."""
    other = dataclasses.replace(database, name=name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "migrations", lambda: list(to))
        patch.setattr(schema, "LATEST", to[-1].version)
        await schema.create_roles(other.admin_url, *(other.url(role) for role in ROLES))
        await schema.migrate(other.owner_url)
    connection = await connect_directly(lambda: other.owner_url)
    try:
        await load.install_sample(connection)
    finally:
        await connection.close()
    return other


async def drop(database: Database) -> None:
    admin = await asyncpg.connect(database.admin_url)
    await admin.execute(f"DROP DATABASE {database.name} WITH (FORCE)")
    await admin.close()


async def test_todays_code_works_on_every_schema_it_accepts(
    database: Database, redis_url: str, owner: Any, more: Any
) -> None:
    """From the oldest it needs; and where that is the newest there is, with one more to come."""
    older = range(schema.NEEDED, schema.LATEST)
    for version in older:
        async with redis.asyncio.Redis.from_url(redis_url) as client:
            await client.flushall()  # the stream of another database is nothing for this one's relay
        before = await made(database, f"{database.name}_{version}", schema.migrations()[:version])
        try:
            async with open_house(before, redis_url) as house:
                await its_life(house)
        finally:
            await drop(before)
    if not older:
        more("ALTER TABLE dossier ADD COLUMN colour text;")
        assert await owner.fetchval("SELECT max(version) FROM schema_version") == schema.LATEST - 1
        async with open_house(database, redis_url) as house:
            await its_life(house)


OLDER_CODE = "a release of yesterday beside today's schema"


def git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True).stdout


def yesterdays() -> str:
    """The newest commit that knows fewer of these migrations than today's code; the present one if none does."""
    if not (ROOT / ".git").exists():
        leave_out("no history here", OLDER_CODE, "run in a clone")
    if git("rev-parse", "--is-shallow-repository").strip() == b"true":
        leave_out("the clone is shallow", OLDER_CODE, "git fetch --unshallow")
    today = [f"{migration.name}.sql" for migration in schema.migrations()]
    changed = git("rev-list", "--topo-order", "HEAD", "--", "lookup/schema").decode().split()
    for commit in changed:
        for before in git("rev-parse", f"{commit}^@").decode().split():
            files = git("ls-tree", "-r", "--name-only", before, "--", "lookup/schema").decode()
            known = sorted(re.findall(r"/(\d{4}_\w+\.sql)$", files, re.MULTILINE))
            if BASELINE <= len(known) < len(today) and known == today[: len(known)]:
                return before
    return "HEAD"


@pytest.fixture
def yesterday(tmp_path: Path) -> Path:
    """Yesterday's code, unpacked."""
    archive = git("archive", "--format=tar", yesterdays())
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extraction_filter = getattr(tarfile, "data_filter", None)  # 3.11.2, Debian 12's, has none
        tar.extractall(tmp_path / "yesterday")  # noqa: S202 - our own archive
    return tmp_path / "yesterday"


@contextlib.contextmanager
def running(code: Path, environ: dict[str, str], reaper: Reaper, log: Path) -> Iterator[None]:
    """Lookup, intake and relay of that code, each a process; all of them have to end well."""
    processes = []
    try:
        for kind in ("lookup", "intake", "relay"):
            with log.open("ab") as output:
                process = subprocess.Popen(
                    [sys.executable, "-m", "hoso24", kind],
                    cwd=code,
                    env=environ | {"PYTHONPATH": str(code)},
                    stdout=output,
                    stderr=output,
                )
            reaper.watch(process.pid, signal.SIGKILL)
            processes.append(process)
        yield
        for process in processes:
            process.terminate()
        assert [process.wait(20) for process in processes] == [0, 0, 0], log.read_text()
    finally:
        for process in processes:
            process.kill()
            process.wait()
            reaper.forget(process.pid)


async def test_yesterdays_code_works_on_todays_schema_and_what_comes_next(
    database: Database, redis_url: str, yesterday: Path, reaper: Reaper, tmp_path: Path, more: Any, owner: Any
) -> None:
    """What a rollout needs, and a rollback: the processes of an older release, on a schema that has gone ahead.

    Until these migrations have a successor, the older release is the present commit.

    In the end something is taken away that they use: unless that is noticed, the rest proves nothing.
    """
    more("ALTER TABLE dossier ADD COLUMN colour text; ALTER TABLE event ADD COLUMN colour text DEFAULT 'blue';")
    assert await schema.migrate(database.owner_url) == 1
    environ = environ_for(database, redis_url)
    with running(yesterday, environ, reaper, tmp_path / "log"):
        async with aiohttp.ClientSession() as http:
            lookup, intake = (f"http://127.0.0.1:{environ[f'HOSO24_{kind}_PORT']}" for kind in ("LOOKUP", "INTAKE"))
            house = House(lookup, intake, http, await new_token(database))

            async def ready() -> bool:
                admins = [environ[f"HOSO24_{kind}_ADMIN_PORT"] for kind in ("LOOKUP", "INTAKE", "RELAY")]
                return all([await answers(http, f"http://127.0.0.1:{port}/readyz") for port in admins])

            await until(ready, within=120)
            await its_life(house)
            await owner.execute("ALTER TABLE dossier DROP COLUMN calendar")
            status, _ = await house.hand_in("POST", "/api/v1/dossiers", submission())
            assert status == 500


async def answers(http: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with http.get(url) as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False
