"""What the database itself promises: roles, grants, constraints, and the words it shares with the code."""

import secrets
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest

from lookup import schema
from lookup.dossier import COLUMNS
from lookup.status import Status
from tests.conftest import Database, role_url

APPLICANT = ("name", "id", "phone", "email", "address", "kind")


@pytest.fixture
async def reader(database: Database) -> Any:
    connection = await asyncpg.connect(database.reader_url)
    yield connection
    await connection.close()


@pytest.mark.parametrize("column", [*(f"applicant_{word}" for word in APPLICANT), "subject", "*"])
async def test_reader_cannot_select_an_applicant(reader: Any, column: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await reader.fetch(f"SELECT {column} FROM dossier")


async def test_reader_cannot_get_round_the_grants_through_a_partition(reader: Any) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await reader.fetch("SELECT applicant_name FROM dossier_00")


async def test_reader_may_select_the_columns_of_a_record(reader: Any) -> None:
    """tests/test_roles.py says who may do what besides."""
    assert await reader.fetch(f"SELECT {', '.join(COLUMNS)} FROM dossier") == []


async def test_statuses_in_the_database_are_those_in_the_code(writer: Any) -> None:
    rows = await writer.fetch("SELECT number, slug, final FROM status ORDER BY number")
    assert [tuple(row) for row in rows] == [(status.value, status.slug, status.final) for status in Status]


async def test_dossiers_are_spread_over_sixteen_partitions(writer: Any) -> None:
    assert await writer.fetchval("SELECT count(*) FROM pg_inherits WHERE inhparent = 'dossier'::regclass") == 16


async def test_migrating_again_changes_nothing(database: Database) -> None:
    assert await schema.migrate(database.owner_url) == 0


async def test_newer_database_is_not_migrated(database: Database, owner: Any) -> None:
    await owner.execute("INSERT INTO schema_version (version, name) VALUES (9999, 'from the future')")
    with pytest.raises(schema.WrongSchema, match="9999"):
        await schema.migrate(database.owner_url)


@pytest.mark.parametrize("name", ["0003_event", "0007_catalogue_files"])
async def test_database_of_an_earlier_schema_is_refused_by_its_names(
    database: Database, owner: Any, writer: Any, name: str
) -> None:
    """The numbers are the same, so an older or newer version says nothing."""
    version = int(name[:4])
    await owner.execute("UPDATE schema_version SET name = $1 WHERE version = $2", name, version)
    said = f"before this release's schema .*{name}.* nothing of it can be taken over"
    with pytest.raises(schema.MadeBefore, match=said):
        await schema.migrate(database.owner_url)
    with pytest.raises(schema.MadeBefore, match=said):
        schema.check(*await writer.fetchrow(schema.STATE))
    await owner.execute("INSERT INTO schema_version (version, name) VALUES (9999, 'of a later release')")
    assert (await writer.fetchrow(schema.STATE))["made_by"] == name


def test_older_database_is_refused_and_newer_one_accepted() -> None:
    with pytest.raises(schema.WrongSchema, match="hoso24 migrate"):
        schema.check(schema.NEEDED - 1)
    schema.check(schema.LATEST + 1)


async def test_every_constraint_of_ours_is_named_as_a_statement(writer: Any) -> None:
    names = await writer.fetch(
        """
        SELECT conname FROM pg_constraint
         WHERE contype = 'c' AND connamespace = 'hoso24'::regnamespace AND conislocal
        """
    )
    assert names
    assert not [row["conname"] for row in names if row["conname"].endswith(("_check", "_check1"))]


async def test_password_stands_in_no_statement_a_server_may_log(postgres_server: Any, template: Database) -> None:
    password = f"hush {secrets.token_hex(8)}"
    admin = await asyncpg.connect(template.admin_url)
    try:
        await admin.execute("CREATE ROLE scribe LOGIN")
        logged = postgres_server.log_path.stat().st_size
        url = role_url(template.admin_url, "scribe", template.name).replace(
            "scribe:scribe", f"scribe:{quote(password)}"
        )
        await schema.create_roles(f"{template.admin_url}?log_statement=all", url)
        text = postgres_server.log_path.read_bytes()[logged:].decode()
        assert "ALTER ROLE scribe PASSWORD" in text
        assert password not in text
        scribe = await asyncpg.connect(url.replace(template.name, "postgres"))
        await scribe.close()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(url.replace("hush", "other").replace(template.name, "postgres"))
    finally:
        await admin.execute("DROP ROLE scribe")
        await admin.close()
