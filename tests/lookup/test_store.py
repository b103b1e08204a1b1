"""What the lookup reads from Postgres: the plan, the moment of truth, what is not there."""

from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from intake.bulk.loader import Import
from intake.local import sample
from lookup.clock import DatabaseClock, microseconds
from lookup.dossier import unpack
from lookup.lookup_key import KeyRing
from lookup.reading.hosts import Hosts
from lookup.reading.store import DOSSIERS, NUMBERS, Store
from tests.books import SEALS
from tests.conftest import KEY_SECRETS, Database

# The planner multiplies the rows per page that are claimed here with the pages there are.
CLAIM = """
UPDATE pg_class
   SET reltuples = $1
 WHERE relname LIKE 'dossier%'
   AND relkind IN ('r', 'i')
   AND reltuples > 0
"""


@pytest.fixture
async def filled(database: Database, writer: Any, tmp_path: Path) -> list[str]:
    path = tmp_path / "sample.ndjson"
    sample.write(path, 1500, until=date(2026, 11, 20), days=60)
    await Import(writer, path, KeyRing.from_text(KEY_SECRETS), SEALS).run()
    return [row["code"] for row in await writer.fetch("SELECT code FROM dossier ORDER BY code")]


@pytest.fixture
async def store(database: Database) -> AsyncIterator[Store]:
    hosts = Hosts(lambda: database.reader_url, DatabaseClock(), size=2, deadline=5.0, pooled=False)
    yield Store(hosts)
    await hosts.close()


@pytest.mark.parametrize("sql", [DOSSIERS, NUMBERS], ids=["dossiers", "numbers"])
@pytest.mark.parametrize("rows", [None, 1_500, 1_000, 100_000, 1_000_000, 100_000_000])
async def test_batch_is_read_by_index_whatever_the_planner_knows(
    database: Database, owner: Any, filled: list[str], sql: str, rows: int | None
) -> None:
    """Never analysed, analysed, and with statistics that speak of more and more rows in each partition."""
    await owner.execute(
        """
        INSERT INTO dossier_number (number, code, version)
        SELECT to_char(row_number() OVER (), 'FM00000') || '/2026/99901', code, version FROM dossier
        """
    )
    if rows is not None:
        await owner.execute("ANALYZE")
        admin = await asyncpg.connect(urlunsplit(urlsplit(database.admin_url)._replace(path=f"/{database.name}")))
        try:
            claimed = await admin.execute(CLAIM, rows)
        finally:
            await admin.close()
        assert claimed != "UPDATE 0"
    reader = await asyncpg.connect(database.reader_url)
    try:
        await reader.execute(f"PREPARE batch AS {sql}")
        plan = [row[0] for row in await reader.fetch("EXPLAIN EXECUTE batch ($$" + _array(filled[:100]) + "$$)")]
    finally:
        await reader.close()
    tables = [line for line in plan if "Scan" in line and "dossier" in line]
    assert tables
    assert not [line for line in tables if "Seq Scan" in line], "\n".join(plan)


async def test_found_records_are_what_is_stored_and_the_rest_is_absent(store: Store, filled: list[str]) -> None:
    unknown = "G99.12.01-260101-9999"
    loaded = await store.dossiers([*filled[:20], unknown])
    assert set(loaded.found) == set(filled[:20])
    for code, (version, body) in loaded.found.items():
        record = unpack(body)
        assert (record.code, record.version) == (code, version)
        assert len(record.timeline) == version


async def test_as_of_is_before_the_question(store: Store, owner: Any, filled: list[str]) -> None:
    before = microseconds(await owner.fetchval("SELECT clock_timestamp()"))
    loaded = await store.dossiers(filled[:1])
    after = microseconds(await owner.fetchval("SELECT clock_timestamp()"))
    assert before <= loaded.as_of <= after
    assert loaded.epoch == 1


async def test_batch_of_nothing_but_unknown_codes_still_says_when(store: Store) -> None:
    loaded = await store.dossiers(["G99.12.01-260101-9999"])
    assert loaded.found == {}
    assert loaded.as_of > 0
    assert not loaded.standby


async def test_horizon_is_the_oldest_transaction_still_open(store: Store, database: Database, owner: Any) -> None:
    async with owner.transaction():
        open_xid = await owner.fetchval("SELECT pg_current_xact_id()::text::bigint")
        connection = await asyncpg.connect(database.relay_url)
        try:
            await connection.execute("UPDATE heartbeat SET at = now(), xid = pg_current_xact_id()")
        finally:
            await connection.close()
        assert (await store.dossiers(["x"])).horizon == open_xid
    assert (await store.dossiers(["x"])).horizon > open_xid


async def test_removed_dossier_is_an_empty_body_at_its_version(store: Store, owner: Any, filled: list[str]) -> None:
    await owner.execute(
        """
        UPDATE dossier
           SET removed = true, version = version + 1, timeline = '[]', action_needed = NULL, subject = NULL,
               applicant_kind = NULL, applicant_name = NULL, applicant_id = NULL, applicant_phone = NULL,
               applicant_email = NULL, applicant_address = NULL, reason = NULL, official_number = NULL
         WHERE code = $1
        """,
        filled[0],
    )
    loaded = await store.dossiers(filled[:1])
    assert loaded.found[filled[0]][1] == b""
    assert loaded.found[filled[0]][0] > 1


def _array(codes: list[str]) -> str:
    return "{" + ",".join(codes) + "}"
