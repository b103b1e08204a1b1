"""Kept answers and dead letters go after thirty days, a thousand at a time, whatever else happens to the tables."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from intake import tidy
from intake.clients import ACTIONS, add_client
from intake.tidy import delete_answers, delete_letters
from tests import books
from tests.conftest import Database
from tests.house import until

KEEP = """
INSERT INTO idempotency (client, key, fingerprint, answer, first_at)
SELECT 'office', $1 || n, ''::bytea, '{}', now() - $2::text::interval
  FROM generate_series(1, $3::integer) AS n
"""


@pytest.fixture
async def archivist(database: Database, owner: Any) -> AsyncIterator[Any]:
    await add_client(owner, "office", "Quầy mẫu", "G99", ACTIONS)
    connection = await asyncpg.connect(database.archivist_url, server_settings=tidy.LIKE_THE_TRIGGER)
    yield connection
    await connection.close()


async def total(connection: Any) -> int:
    return sum([n async for n in delete_answers(connection)])


async def kept(owner: Any) -> list[str]:
    return [row["key"] for row in await owner.fetch("SELECT key FROM idempotency ORDER BY key")]


async def test_answers_older_than_thirty_days_go_and_others_stay(archivist: Any, owner: Any) -> None:
    for name, age in [("old", "30 days 1 minute"), ("young", "29 days 23:59"), ("new", "0")]:
        await owner.execute(KEEP, name, age, 1)
    assert [n async for n in delete_answers(archivist)] == [1]
    assert await kept(owner) == ["new1", "young1"]
    assert [n async for n in delete_answers(archivist)] == []


async def test_transaction_has_a_thousand_rows_and_an_interrupted_run_goes_on(archivist: Any, owner: Any) -> None:
    await owner.execute(KEEP, "old", "31 days", 2_500)
    await owner.execute(KEEP, "new", "1 day", 10)
    async for _ in delete_answers(archivist):
        break
    assert len(await kept(owner)) == 1_510
    assert [n async for n in delete_answers(archivist)] == [1_000, 500]
    assert len(await kept(owner)) == 10


async def test_two_at_a_time_delete_each_answer_once(database: Database, archivist: Any, owner: Any) -> None:
    await owner.execute(KEEP, "old", "31 days", 3_000)
    other = await asyncpg.connect(database.archivist_url)

    assert sum(await asyncio.gather(total(archivist), total(other))) == 3_000
    assert await kept(owner) == []
    await other.close()


async def test_repeat_that_is_being_answered_is_not_disturbed(archivist: Any, owner: Any, writer: Any) -> None:
    await owner.execute(KEEP, "old", "31 days", 1)
    await owner.execute(KEEP, "new", "1 day", 1)
    transaction = writer.transaction()
    await transaction.start()
    await writer.execute("UPDATE idempotency SET replays = replays + 1 WHERE key IN ('old1', 'new1')")
    running = asyncio.create_task(total(archivist))
    await until(lambda: owner.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"))
    await transaction.commit()
    assert await running == 1
    assert await kept(owner) == ["new1"]


async def test_expired_answers_are_found_by_their_age_and_key_and_the_table_is_not_read(
    archivist: Any, owner: Any
) -> None:
    await owner.execute(KEEP, "new", "1 day", 20_000)
    await owner.execute("ANALYZE idempotency")
    plan = "\n".join(
        row[0] for row in await archivist.fetch(f"EXPLAIN {tidy.DELETE_ANSWERS}".replace("$1", "30").replace("$2", "9"))
    )
    assert "idempotency_by_age" in plan
    assert "Seq Scan on idempotency" not in plan


@pytest.mark.parametrize("statement", ["UPDATE idempotency SET replays = 0", "SELECT answer FROM idempotency"])
async def test_archivist_neither_reads_nor_changes_answers(archivist: Any, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await archivist.execute(statement)


# -- dead letters --------------------------------------------------------------------------------------------------

REFUSE = """
INSERT INTO dead_letter (client, source_event_id, line, error, detail, last_at, closed_at)
SELECT 'office', $1 || n, '{}', 'bad_date', '', now() - $2::text::interval - n * interval '1 second', $4
  FROM generate_series(1, $3::integer) AS n
"""


async def test_letters_that_were_refused_last_thirty_days_ago_go_and_others_stay(archivist: Any, owner: Any) -> None:
    await owner.execute(REFUSE, "old", "30 days 1 minute", 2_500, None)
    await owner.execute(REFUSE, "closed", "30 days 1 minute", 1, datetime.now(UTC))
    await owner.execute(REFUSE, "young", "29 days 23:00", 1, None)
    async for deleted in delete_letters(archivist):
        assert deleted == 1_000
        break
    assert [n async for n in delete_letters(archivist)] == [1_000, 501]
    left = await owner.fetch("SELECT source_event_id AS id FROM dead_letter")
    assert [row["id"] for row in left] == ["young1"]


async def test_letter_that_is_refused_again_meanwhile_stays(archivist: Any, owner: Any, writer: Any) -> None:
    await owner.execute(REFUSE, "old", "31 days", 2, None)
    transaction = writer.transaction()
    await transaction.start()
    await writer.execute("UPDATE dead_letter SET seen = 2, last_at = now() WHERE source_event_id = 'old1'")

    async def total_of_letters() -> int:
        return sum([n async for n in delete_letters(archivist)])

    running = asyncio.create_task(total_of_letters())
    await until(lambda: owner.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"))
    await transaction.commit()
    assert await running == 1
    left = await owner.fetch("SELECT source_event_id AS id FROM dead_letter")
    assert [row["id"] for row in left] == ["old1"]


async def test_expired_letters_are_found_by_their_age_and_the_archivist_reads_none(archivist: Any, owner: Any) -> None:
    await owner.execute(REFUSE, "new", "1 day", 20_000, None)
    await owner.execute("ANALYZE dead_letter")
    plan = "\n".join(
        row[0] for row in await archivist.fetch(f"EXPLAIN {tidy.DELETE_LETTERS}".replace("$1", "30").replace("$2", "9"))
    )
    assert "Seq Scan on dead_letter" not in plan
    for statement in ("SELECT line FROM dead_letter", "UPDATE dead_letter SET line = ''", "SELECT n FROM dead_letter"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await archivist.execute(statement)


async def test_notices_go_ninety_days_after_their_end_and_sessions_when_they_end(archivist: Any, owner: Any) -> None:
    await books.receive(owner, "G99.01.01-261201-0001")
    for version, (state, age) in enumerate(
        [("sent", 91), ("dead", 91), ("superseded", 91), ("sent", 89), ("due", 91)], start=1
    ):
        await owner.execute(
            """INSERT INTO notice (code, version, channel, kind, state, made_at, ended_at)
               VALUES ('G99.01.01-261201-0001', $1, 'mail', 'ready', $2, now() - $3 * interval '1 day',
                       CASE WHEN $2 <> 'due' THEN now() - $3 * interval '1 day' END)""",
            *(version, state, age),
        )
    assert [n async for n in tidy.delete_notices(archivist)] == [3]
    assert [row["version"] for row in await owner.fetch("SELECT version FROM notice ORDER BY version")] == [4, 5]
    await owner.execute(
        "INSERT INTO officer (issuer, subject, name, agency, roles) VALUES ('local', 'a', 'A', 'G99.01.01', '{head}')"
    )
    for number, ends in ((1, "-1 minute"), (2, "1 minute")):
        await owner.execute(
            """INSERT INTO desk_session (hash, issuer, subject, ends_at)
               VALUES (sha256($1::text::bytea), 'local', 'a', now() + $2::text::interval)""",
            *(str(number), ends),
        )
    assert [n async for n in tidy.delete_sessions(archivist)] == [1]
    assert await owner.fetchval("SELECT count(*) FROM desk_session") == 1
