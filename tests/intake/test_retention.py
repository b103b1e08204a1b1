"""What was kept long enough goes, from everywhere, and what is held or of an unknown class stays."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from intake import operator
from intake.books.seal import SealKeys
from intake.books.verify import verify
from intake.refusals import DossierHeld, UnknownDossier
from intake.retention import LONG_READS, expiry, holds
from lookup import code as codes
from lookup.clock import VIETNAM
from tests.conftest import SEAL_KEYS, Database
from tests.house import House, until

SEALS = SealKeys.from_text(SEAL_KEYS)
LATER = datetime(2100, 1, 1, tzinfo=VIETNAM)


@pytest.fixture
async def archivist(database: Database) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(database.archivist_url)
    yield connection
    await connection.close()


async def finished(house: House) -> str:
    """A dossier that is done, with a receipt."""
    code = str((await house.receive())["code"])
    await house.move(code, "processing")
    await house.move(code, "completed", outcome="granted")
    return code


async def removed(writer: Any, archivist: Any, at: datetime = LATER, limit: int = 100) -> list[str]:
    return [code async for code in expiry.run(writer, archivist, SEALS, at, by="an", limit=limit)]


async def everywhere(owner: Any, code: str) -> dict[str, int]:
    """In how many rows somebody is still told of."""
    asked = {
        "paper": "SELECT count(*) FROM paper WHERE code = $1 AND content IS NOT NULL",
        "event": "SELECT count(*) FROM event WHERE code = $1 AND erased IS NULL",
        "dossier": "SELECT count(*) FROM dossier WHERE code = $1 AND applicant_name IS NOT NULL",
        "consent": "SELECT count(*) FROM consent WHERE code = $1 AND address IS NOT NULL",
        "applicant_search": "SELECT count(*) FROM applicant_search WHERE code = $1",
        "notice": "SELECT count(*) FROM notice WHERE code = $1",
    }
    return {table: await owner.fetchval(sql, code) for table, sql in asked.items()}


async def test_dossier_that_was_kept_long_enough_is_gone_from_everywhere(
    house: House, writer: Any, owner: Any, archivist: Any, database: Database
) -> None:
    code = await finished(house)
    await owner.execute("INSERT INTO consent (code, channel, address, given_by) VALUES ($1, 'mail', 'a@b', 'x')", code)
    await owner.execute("INSERT INTO notice (code, version, channel, kind) VALUES ($1, 1, 'mail', 'accepted')", code)
    assert (await house.lookup(f"/api/v1/dossiers/{code}"))[0] == 200
    assert min((await everywhere(owner, code)).values()) == 1
    assert await removed(writer, archivist) == [code]
    assert set((await everywhere(owner, code)).values()) == {0}

    async def unknown() -> bool:
        return bool((await house.lookup(f"/api/v1/dossiers/{code}"))[0] == 404)

    await until(unknown)
    auditor = await asyncpg.connect(database.url("hoso24_auditor"))
    found: list[str] = []
    await verify(auditor, found.append)
    await auditor.close()
    assert found == []
    assert await removed(writer, archivist) == []


async def test_nothing_goes_before_its_time_or_while_it_is_in_work(house: House, writer: Any, archivist: Any) -> None:
    code = await finished(house)
    await house.receive()
    (told,) = await expiry.report(archivist, datetime.now(UTC))
    assert (told.retention_class, told.kept, told.expired, told.held) == ("20y", 1, 0, 0)
    assert await removed(writer, archivist, datetime.now(UTC)) == []
    (told,) = await expiry.report(archivist, LATER)
    assert (told.expired, told.understood) == (1, True)
    assert await removed(writer, archivist) == [code]


@pytest.mark.parametrize("word", ["forever", "0y", "y", "20years", None])
async def test_class_that_says_no_years_keeps(house: House, writer: Any, owner: Any, archivist: Any, word: Any) -> None:
    await finished(house)
    await owner.execute("UPDATE service SET retention_class = $1", word)
    (told,) = await expiry.report(archivist, LATER)
    assert (told.retention_class, told.expired, told.understood) == (word, 0, False)
    assert await removed(writer, archivist) == []


async def test_own_class_of_a_dossier_goes_before_its_services(
    house: House, writer: Any, owner: Any, archivist: Any
) -> None:
    code = await finished(house)
    await owner.execute("UPDATE dossier SET retention_class = '200y' WHERE code = $1", code)
    assert await removed(writer, archivist) == []


async def test_legal_hold_keeps_from_every_way_of_removing_until_it_is_lifted(
    house: House, writer: Any, owner: Any, archivist: Any
) -> None:
    code = await finished(house)
    await holds.hold(archivist, code, "legal", reason="Đang có khiếu nại (ví dụ).", by="an")
    await holds.hold(archivist, code, "legal", reason="Vụ án (ví dụ).", by="binh")
    (held,) = await holds.holds(archivist)
    assert (held["code"], held["reason"], held["by"]) == (code, "Vụ án (ví dụ).", "binh")
    (told,) = await expiry.report(archivist, LATER)
    assert (told.expired, told.held) == (0, 1)
    assert await removed(writer, archivist) == []
    with pytest.raises(DossierHeld):
        await operator.remove(writer, archivist, SEALS, codes.parse(code), by="an", reason="x")
    assert await owner.fetchval("SELECT max(version) FROM event WHERE code = $1", code) == 3
    assert await holds.lift(archivist, code, "legal")
    assert not await holds.lift(archivist, code, "legal")
    assert await removed(writer, archivist) == [code]


async def test_restricted_hold_does_not_keep(house: House, writer: Any, archivist: Any) -> None:
    code = await finished(house)
    await holds.hold(archivist, code, "restricted", reason="Yêu cầu hạn chế (ví dụ).", by="an")
    assert await removed(writer, archivist) == [code]
    with pytest.raises(UnknownDossier):
        await holds.hold(archivist, code, "legal", reason="x", by="an")
    with pytest.raises(UnknownDossier):
        await holds.hold(archivist, "G99.01.01-261130-9999", "legal", reason="x", by="an")


async def test_long_reads_are_not_cut_off_as_short_transactions_are(database: Database) -> None:
    for role in ("writer", "archivist", "auditor"):
        connection = await asyncpg.connect(database.url(f"hoso24_{role}"), server_settings=LONG_READS)
        assert await connection.fetchval("SHOW transaction_timeout") == "30min"
        await connection.close()


async def test_interrupted_between_event_and_erasure_the_next_run_goes_on(
    house: House, writer: Any, owner: Any, archivist: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await finished(house), await finished(house)

    async def killed(*_: Any) -> int:
        raise ConnectionResetError

    monkeypatch.setattr(operator, "erase", killed)
    with pytest.raises(ConnectionResetError):
        await removed(writer, archivist)
    monkeypatch.undo()
    assert await owner.fetchval("SELECT removed FROM dossier WHERE code = $1", first)
    assert (await everywhere(owner, first))["event"] > 0
    assert await removed(writer, archivist) == [first, second]
    assert set((await everywhere(owner, first)).values()) == {0}


async def test_limit_is_kept(house: House, writer: Any, archivist: Any) -> None:
    codes_ = [await finished(house) for _ in range(3)]
    assert await removed(writer, archivist, limit=2) == codes_[:2]
    assert await removed(writer, archivist, limit=2) == codes_[2:]
