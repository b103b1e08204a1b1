"""Nobody is shown personal data without a row in the log of reads."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from intake.books.reads import note_read
from ops.errors import Unavailable
from ops.stores.postgres import Postgres
from tests.conftest import Database

CODE = "G99.01.01-261130-0001"


@pytest.fixture
async def postgres(database: Database) -> AsyncIterator[Postgres]:
    pool = Postgres("postgres", lambda: database.writer_url, size=1, deadline=5)
    yield pool
    await pool.close()


async def rows(database: Database) -> list[tuple[Any, ...]]:
    auditor = await asyncpg.connect(database.auditor_url)
    try:
        return [tuple(row) for row in await auditor.fetch("SELECT reader, client, code, screen FROM personal_read")]
    finally:
        await auditor.close()


async def test_read_is_in_the_log_for_the_auditor_and_not_for_the_writer(
    database: Database, postgres: Postgres, writer: Any
) -> None:
    await note_read(postgres, "nguyen.van.mau", "desk-1", CODE, "dossier")
    await note_read(writer, "desk-1", "desk-1", CODE, "key")
    assert sorted(await rows(database)) == [
        ("desk-1", "desk-1", CODE, "key"),
        ("nguyen.van.mau", "desk-1", CODE, "dossier"),
    ]
    for statement in (
        "SELECT FROM personal_read",
        "DELETE FROM personal_read",
        "UPDATE personal_read SET reader = 'x'",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await writer.execute(statement)


async def test_read_of_a_transaction_that_is_rolled_back_is_not_in_the_log(database: Database, writer: Any) -> None:
    transaction = writer.transaction()
    await transaction.start()
    await note_read(writer, "desk-1", "desk-1", CODE, "dossier")
    await transaction.rollback()
    assert await rows(database) == []


@pytest.mark.parametrize(
    "broken",
    ["REVOKE INSERT ON personal_read FROM hoso24_writer", "DROP TABLE personal_read"],
)
async def test_read_that_cannot_be_logged_is_refused(postgres: Postgres, writer: Any, owner: Any, broken: str) -> None:
    await owner.execute(broken)
    for way in (postgres, writer):
        with pytest.raises(Unavailable, match="log of reads") as refused:
            await note_read(way, "desk-1", "desk-1", CODE, "dossier")
        assert "personal_read" in refused.value.reason


async def test_read_is_refused_while_postgres_is_away(writer: Any) -> None:
    nowhere = Postgres("postgres", lambda: "postgresql://writer:x@127.0.0.1:1/nowhere", size=1, deadline=1)
    with pytest.raises(Unavailable):
        await note_read(nowhere, "desk-1", "desk-1", CODE, "dossier")
    await nowhere.close()
    writer.terminate()
    with pytest.raises(Unavailable, match="log of reads"):
        await note_read(writer, "desk-1", "desk-1", CODE, "dossier")
