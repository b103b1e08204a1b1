"""Maintenance is announced seven working days ahead, or with a reason on record; nothing announced is ever changed."""

import asyncio
import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from click.testing import CliRunner, Result

import hoso24
from intake.maintenance import NoticeRefused, Plan, announce, announced, check, earliest_start, withdraw
from lookup.clock import VIETNAM
from lookup.maintenance import Part
from tests.conftest import Database

HOUR = timedelta(hours=1)
WORDS = ("Nâng cấp máy chủ (ví dụ).", "Servers are upgraded (example).")


def plan(starts_at: datetime, ends_at: datetime | None = None, urgent: str | None = None) -> Plan:
    return Plan(starts_at, ends_at or starts_at + 2 * HOUR, [Part.LOOKUP, Part.INTAKE], *WORDS, urgent)


def local(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=VIETNAM)


@pytest.mark.parametrize(
    ("now", "days", "earliest"),
    [
        ("2026-11-12 10:00", 7, "2026-11-23"),
        ("2026-11-12 23:59", 7, "2026-11-23"),  # today does not count, at whatever hour
        ("2026-11-13 10:00", 7, "2026-11-25"),  # 24 November is a day off
        ("2026-11-13 10:00", 1, "2026-11-16"),
    ],
)
def test_first_day_it_may_start_is_seven_working_days_ahead(now: str, days: int, earliest: str) -> None:
    assert earliest_start(local(now), days) == date.fromisoformat(earliest)
    first = local(f"{earliest} 00:00")
    check(plan(first), local(now), days)
    with pytest.raises(NoticeRefused, match=f"{days} working days ahead.*{earliest}.*--urgent"):
        check(plan(first - timedelta(minutes=1)), local(now), days)
    check(plan(first - timedelta(minutes=1), urgent="A hole has to be closed."), local(now), days)


def test_without_days_of_notice_it_may_start_at_once() -> None:
    now = local("2026-11-13 10:00")
    check(plan(now), now, 0)


def test_what_cannot_be_is_refused_urgent_or_not() -> None:
    now = local("2026-11-13 10:00")
    with pytest.raises(NoticeRefused, match="end after it starts"):
        check(plan(now + 999 * HOUR, now + 998 * HOUR, urgent="x"), now, 7)
    with pytest.raises(NoticeRefused, match="over already"):
        check(plan(now - 3 * HOUR, now - HOUR, urgent="x"), now, 7)


async def test_announced_one_is_shown_from_its_seventh_working_day_on(writer: Any) -> None:
    start = datetime.combine(date.today() + timedelta(days=60), datetime.min.time(), VIETNAM) + 22 * HOUR
    number = await announce(writer, plan(start), by="a test", notice_days=7)
    row = await writer.fetchrow("SELECT * FROM maintenance WHERE number = $1", number)
    shown = row["shown_from"].astimezone(VIETNAM)
    assert shown.time() == datetime.min.time()
    assert earliest_start(shown, 7) <= start.date() < earliest_start(shown + timedelta(days=1), 7)
    assert (row["affects"], row["text_vi"], row["announced_by"], row["urgent_reason"]) == (
        ["lookup", "intake"],
        WORDS[0],
        "a test",
        None,
    )


async def test_withdrawn_one_is_gone_from_the_list_and_stays_on_record(writer: Any) -> None:
    soon = datetime.now(UTC) + HOUR
    number = await announce(writer, plan(soon, urgent="A test."), by="one", notice_days=7)
    assert [row["number"] for row in await announced(writer, everything=False)] == [number]
    await withdraw(writer, number, by="two", reason="Not needed.")
    assert await announced(writer, everything=False) == []
    (row,) = await announced(writer, everything=True)
    assert (row["urgent_reason"], row["withdrawal_reason"]) == ("A test.", "Not needed.")
    for unknown in (number, number + 1):
        with pytest.raises(NoticeRefused, match="hoso24 maintenance list"):
            await withdraw(writer, unknown, by="two", reason="Again.")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE maintenance SET ends_at = ends_at",
        "DELETE FROM maintenance",
        "UPDATE maintenance_withdrawal SET reason = ''",
        "DELETE FROM maintenance_withdrawal",
        "DELETE FROM sign_of_life",
    ],
)
async def test_writer_only_appends_notices(writer: Any, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await writer.execute(statement)


async def test_reader_reads_notices_and_writes_none(database: Database) -> None:
    reader = await asyncpg.connect(database.reader_url)
    try:
        assert await reader.fetch("SELECT * FROM maintenance, maintenance_withdrawal, sign_of_life") == []
        await reader.execute("SET default_transaction_read_only = off")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.execute("INSERT INTO maintenance_withdrawal VALUES (1, now(), 'x', 'x')")
    finally:
        await reader.close()


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ("ends_at = starts_at", "maintenance_ends_after_it_starts"),
        ("announced_at = ends_at", "maintenance_is_announced_before_it_ends"),
        ("shown_from = starts_at + interval '1 minute'", "maintenance_is_shown_before_it_starts"),
        ("affects = '{}'", "maintenance_affects_known_parts"),
        ("affects = '{everything}'", "maintenance_affects_known_parts"),
        ("text_en = ''", "maintenance_is_told_in_both_languages"),
        ("text_vi = repeat('x', 501)", "maintenance_is_told_in_both_languages"),
    ],
)
async def test_database_keeps_the_same_promises(writer: Any, owner: Any, change: str, constraint: str) -> None:
    await announce(writer, plan(datetime.now(UTC) + HOUR, urgent="A test."), by="one", notice_days=7)
    with pytest.raises(asyncpg.CheckViolationError) as violated:
        await owner.execute(f"UPDATE maintenance SET {change}")
    assert violated.value.constraint_name == constraint


async def test_parts_in_the_database_are_those_in_the_code(owner: Any) -> None:
    definition = await owner.fetchval(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'maintenance_affects_known_parts'"
    )
    assert set(re.findall(r"'(\w+)'::text", definition)) == {part.value for part in Part}


async def test_text_that_is_too_long_is_refused_in_a_sentence(writer: Any) -> None:
    long = plan(datetime.now(UTC) + HOUR, urgent="A test.")._replace(text_en="x" * 501)
    with pytest.raises(NoticeRefused, match="told in both languages"):
        await announce(writer, long, by="one", notice_days=7)


# -- the command -------------------------------------------------------------------------------------------


async def call(database: Database, monkeypatch: pytest.MonkeyPatch, *words: str) -> Result:
    monkeypatch.setattr(hoso24, "environment", lambda: {"HOSO24_PG_WRITER_URL": database.writer_url})
    return await asyncio.to_thread(CliRunner().invoke, hoso24.cli, ["maintenance", *words])


async def test_command_announces_lists_and_withdraws(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "No maintenance" in (await call(database, monkeypatch, "list")).output
    tomorrow = datetime.now(VIETNAM) + timedelta(days=1)
    times = ["--start", f"{tomorrow:%Y-%m-%d} 22:00", "--end", f"{tomorrow:%Y-%m-%d} 23:30"]
    words = [
        "--affects",
        "intake",
        "--affects",
        "lookup",
        "--vi",
        WORDS[0],
        "--en",
        WORDS[1],
        "--by",
        "tổ trực (ví dụ)",
    ]
    refused = await call(database, monkeypatch, "announce", *times, *words)
    assert refused.exit_code == 1
    assert "--urgent REASON" in refused.output
    done = await call(database, monkeypatch, "announce", *times, *words, "--urgent", "A hole is open.")
    assert done.exit_code == 0, done.output
    (number,) = re.findall(r"notice (\d+)", done.output)
    listed = await call(database, monkeypatch, "list")
    assert "coming" in listed.output
    assert "22:00" in listed.output
    withdrawn = await call(database, monkeypatch, "withdraw", number, "--reason", "It was closed otherwise.")
    assert withdrawn.exit_code == 0
    assert "No maintenance" in (await call(database, monkeypatch, "list")).output
    assert "withdrawn" in (await call(database, monkeypatch, "list", "--all")).output
    again = await call(database, monkeypatch, "withdraw", number, "--reason", "Twice.")
    assert again.exit_code == 1
