"""The verifier finds nothing in an honest log, and names every event that was altered, removed or put in."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timezone
from typing import Any

import aiohttp
import asyncpg
import pytest

from intake.books import audit
from intake.books.audit import Tampering, verify
from intake.books.event import APPEND_EVENT, EVENT_COLUMNS, GENESIS, HASHED_COLUMNS, Event
from lookup.clock import VIETNAM
from lookup.status import Status
from tests.conftest import Database
from tests.house import House, intake_at, intake_settings, new_token


@pytest.fixture
async def house(database: Database) -> AsyncIterator[House]:
    async with intake_at(intake_settings(database.writer_url)) as url, aiohttp.ClientSession() as http:
        yield House("", url, http, await new_token(database))


@pytest.fixture
async def dossiers(house: House) -> list[str]:
    """Three dossiers of five events each, a number among them."""
    codes = [(await house.receive())["code"] for _ in range(3)]
    for number, dossier in enumerate(codes, start=1):
        await house.move(dossier, "processing", note="Thẩm định", officer="Cán bộ Mẫu")
        await house.hand_in("PUT", f"/api/v1/dossiers/{dossier}/official-number", {"number": f"{number}/2026/99901"})
        await house.move(dossier, "completed", department="Phòng Chế độ")
        await house.move(dossier, "returned")
    return codes


class VerifierBesideChanges:
    """The owner's connection; before each page it is asked for, a dossier changes."""

    def __init__(self, owner: Any, change: Any) -> None:
        self._owner = owner
        self._change = change
        self.changes = 0

    async def fetch(self, sql: str, *arguments: object) -> list[Any]:
        if self.changes < 10:
            self.changes += 1
            await self._change()
        return list(await self._owner.fetch(sql, *arguments))


async def findings(owner: Any) -> set[tuple[Tampering, str, int]]:
    """What the verifier says, without the explanations."""
    return {(found.tampering, found.code, found.version) async for found in verify(owner)}


async def self_consistent(owner: Any, dossier: str, version: int, prev_hash: bytes, **changes: Any) -> None:
    """Put an event into the log whose hash is right for what it says and for what it claims to follow."""
    event = dict(await owner.fetchrow("SELECT * FROM event WHERE code = $1 AND version = 2", dossier))
    event |= {"version": version, "source_event_id": f"forged-{version}"} | changes
    forged = Event(**{name: event[name] for name in HASHED_COLUMNS})
    await owner.execute("DELETE FROM event WHERE code = $1 AND version = $2", dossier, version)
    await owner.execute(APPEND_EVENT, *forged.row(1, prev_hash))


async def hash_of(owner: Any, dossier: str, version: int) -> bytes:
    return bytes(await owner.fetchval("SELECT hash FROM event WHERE code = $1 AND version = $2", dossier, version))


@pytest.mark.parametrize("zone", [UTC, VIETNAM])
def test_what_an_event_is_hashed_to_never_changes(zone: timezone) -> None:
    event = Event(
        code="G99.01.01-261116-0001",
        version=2,
        kind="moved",
        status=Status.SUPPLEMENT_REQUIRED,
        occurred_at=datetime(2026, 11, 16, 1, 30, 15, 123456, tzinfo=UTC).astimezone(zone),
        recorded_at=datetime(2026, 11, 16, 1, 30, 16, tzinfo=UTC),
        agency="G99.01",
        department="Phòng Chế độ",
        actor="desk/Cán bộ Mẫu",
        source="desk",
        source_event_id="key-1",
        note="Bổ sung bản sao",
    )
    before = bytes(range(32))
    assert event.hash_after(before).hex() == "4419514f946cbfc06e544b37740480c69650f411e30eaa5690192efab7dba6a8"
    assert event.row(1, before)[-2:] == (before, event.hash_after(before))


async def test_every_column_of_an_event_is_written_but_those_the_database_fills(owner: Any) -> None:
    rows = await owner.fetch(
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'event' ORDER BY ordinal_position"
    )
    assert [row["column_name"] for row in rows] == ["xid", "seq", *EVENT_COLUMNS]


async def test_honest_log_has_no_findings(owner: Any, dossiers: list[str]) -> None:
    assert await findings(owner) == set()
    assert await owner.fetchval("SELECT count(*) FROM event") == 15


async def test_empty_log_has_no_findings(owner: Any) -> None:
    assert await findings(owner) == set()


async def test_pages_join_without_a_seam(owner: Any, dossiers: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    for page in (1, 2, 4, 5, 15):
        monkeypatch.setattr(audit, "PAGE", page)
        assert [found async for found in verify(owner, seen.append)] == []
        assert seen[-1] == 15
    await owner.execute("DELETE FROM event WHERE code = $1 AND version = 5", dossiers[1])
    for page in (1, 2, 4, 5):
        monkeypatch.setattr(audit, "PAGE", page)
        assert await findings(owner) == {(Tampering.REMOVED, dossiers[1], 5)}


@pytest.mark.parametrize(
    "change",
    [
        "note = 'Đã sửa'",
        "note = NULL",
        "occurred_at = occurred_at - interval '1 microsecond'",
        "recorded_at = recorded_at + interval '1 day'",
        "status = 8",
        "agency = 'G99.02'",
        "department = 'Phòng khác'",
        "actor = 'another'",
        "source = 'elsewhere'",
        "source_event_id = 'other'",
        "source_event_id = NULL",
        "bulk = true",
        "kind = 'removed'",
        r"prev_hash = decode(repeat('00', 32), 'hex')",
    ],
)
async def test_altered_event_is_named(owner: Any, dossiers: list[str], change: str) -> None:
    await owner.execute(f"UPDATE event SET {change} WHERE code = $1 AND version = 2", dossiers[1])
    assert await findings(owner) == {(Tampering.ALTERED, dossiers[1], 2)}


async def test_altered_number_is_named(owner: Any, dossiers: list[str]) -> None:
    await owner.execute(
        "UPDATE event SET official_number = '9/2026/99901' WHERE code = $1 AND version = 3", dossiers[0]
    )
    assert await findings(owner) == {(Tampering.ALTERED, dossiers[0], 3)}


async def test_altered_hash_is_named(owner: Any, dossiers: list[str]) -> None:
    await owner.execute("UPDATE event SET hash = sha256('x') WHERE code = $1 AND version = 2", dossiers[0])
    assert (Tampering.ALTERED, dossiers[0], 2) in await findings(owner)


@pytest.mark.parametrize("version", [1, 2, 4, 5])
async def test_removed_event_is_named(owner: Any, dossiers: list[str], version: int) -> None:
    await owner.execute("DELETE FROM event WHERE code = $1 AND version = $2", dossiers[1], version)
    assert await findings(owner) == {(Tampering.REMOVED, dossiers[1], version)}


async def test_each_of_several_removed_events_is_named(owner: Any, dossiers: list[str]) -> None:
    await owner.execute("DELETE FROM event WHERE code = $1 AND version IN (2, 3, 5)", dossiers[2])
    assert await findings(owner) == {(Tampering.REMOVED, dossiers[2], version) for version in (2, 3, 5)}


async def test_dossier_without_any_event_is_named(owner: Any, dossiers: list[str]) -> None:
    await owner.execute("DELETE FROM event WHERE code = $1", dossiers[0])
    assert await findings(owner) == {(Tampering.REMOVED, dossiers[0], 1)}


async def test_log_without_any_event_is_named_dossier_by_dossier(owner: Any, dossiers: list[str]) -> None:
    await owner.execute("TRUNCATE event")
    assert await findings(owner) == {(Tampering.REMOVED, dossier, 1) for dossier in dossiers}


async def test_appended_event_is_named_though_its_hash_is_right(owner: Any, dossiers: list[str]) -> None:
    await self_consistent(owner, dossiers[0], 6, await hash_of(owner, dossiers[0], 5))
    assert await findings(owner) == {(Tampering.INSERTED, dossiers[0], 6)}


async def test_event_put_in_anothers_place_is_found_though_its_hash_is_right(owner: Any, dossiers: list[str]) -> None:
    await self_consistent(owner, dossiers[0], 2, await hash_of(owner, dossiers[0], 1), note="Đã sửa")
    assert await findings(owner) == {(Tampering.INSERTED, dossiers[0], 3)}


async def test_first_event_put_in_anew_is_found(owner: Any, dossiers: list[str]) -> None:
    await self_consistent(owner, dossiers[0], 1, GENESIS, kind="received")
    assert await findings(owner) == {(Tampering.INSERTED, dossiers[0], 2)}


async def test_chain_that_does_not_begin_at_the_beginning_is_found(owner: Any, dossiers: list[str]) -> None:
    other = await hash_of(owner, dossiers[1], 5)
    await self_consistent(owner, dossiers[0], 1, other, kind="received")
    assert (Tampering.INSERTED, dossiers[0], 1) in await findings(owner)


async def test_event_of_a_dossier_there_is_not_is_named(owner: Any, dossiers: list[str]) -> None:
    await self_consistent(owner, dossiers[0], 1, GENESIS, kind="received", code="G99.01.01-200101-0001")
    await owner.execute("DELETE FROM event WHERE code = $1", dossiers[0])
    assert await findings(owner) == {
        (Tampering.INSERTED, "G99.01.01-200101-0001", 1),
        (Tampering.REMOVED, dossiers[0], 1),
    }


async def test_exchanged_events_are_both_named(owner: Any, dossiers: list[str]) -> None:
    await owner.execute("UPDATE event SET version = 99 WHERE code = $1 AND version = 4", dossiers[0])
    await owner.execute("UPDATE event SET version = 4 WHERE code = $1 AND version = 2", dossiers[0])
    await owner.execute("UPDATE event SET version = 2 WHERE code = $1 AND version = 99", dossiers[0])
    assert {(Tampering.ALTERED, dossiers[0], 2), (Tampering.ALTERED, dossiers[0], 4)} <= await findings(owner)


async def test_events_exchanged_between_dossiers_are_both_named(owner: Any, dossiers: list[str]) -> None:
    await owner.execute("UPDATE event SET code = 'x' WHERE code = $1 AND version = 2", dossiers[0])
    await owner.execute("UPDATE event SET code = $1 WHERE code = $2 AND version = 2", dossiers[0], dossiers[1])
    await owner.execute("UPDATE event SET code = $1 WHERE code = 'x'", dossiers[1])
    found = await findings(owner)
    assert {(Tampering.ALTERED, dossiers[0], 2), (Tampering.ALTERED, dossiers[1], 2)} <= found
    assert dossiers[2] not in {dossier for _, dossier, _ in found}


async def test_tampering_with_one_dossier_accuses_no_other(owner: Any, dossiers: list[str]) -> None:
    await owner.execute("UPDATE event SET note = 'x' WHERE code = $1", dossiers[1])
    assert await findings(owner) == {(Tampering.ALTERED, dossiers[1], version) for version in range(1, 6)}


async def test_finding_reads_as_a_sentence_with_code_and_version(owner: Any, dossiers: list[str]) -> None:
    await owner.execute("UPDATE event SET note = 'x' WHERE code = $1 AND version = 2", dossiers[1])
    (found,) = [str(found) async for found in verify(owner)]
    assert found == f"altered: event 2 of {dossiers[1]}: its content does not match its hash"


async def test_changes_made_while_the_log_is_read_are_no_faults(
    owner: Any, house: House, dossiers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "PAGE", 2)
    last = (await house.receive())["code"]
    found = []
    connection = VerifierBesideChanges(owner, lambda: house.move(last, "processing"))
    async for finding in verify(connection):
        found.append(finding)
    assert found == []
    assert connection.changes > 5


async def test_writer_can_do_none_of_this(database: Database, dossiers: list[str]) -> None:
    connection = await asyncpg.connect(database.writer_url)
    for statement in ("UPDATE event SET note = 'x'", "DELETE FROM event", "TRUNCATE event"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    await connection.close()
