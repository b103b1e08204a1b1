"""What is known of one person is told whole, of nobody else, and only once the reading is written down."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from click.testing import CliRunner

import hoso24
from intake.retention import persons
from ops.errors import Unavailable
from tests.conftest import Database
from tests.house import House

NUMBER = "079 123-456.742"


@pytest.fixture
async def roles(database: Database) -> AsyncIterator[list[Any]]:
    found = [await asyncpg.connect(database.url(f"hoso24_{name}")) for name in ("writer", "archivist", "auditor")]
    yield found
    for each in found:
        await each.close()


async def applied(house: House, number: str, **more: Any) -> str:
    applicant = {"name": "Nguyễn Văn Mẫu (hư cấu)", "id": number, "phone": "0000000001"}
    return str((await house.receive(applicant=applicant, **more))["code"])


async def test_everything_of_a_person_is_told_and_nothing_of_others(house: House, owner: Any, roles: list[Any]) -> None:
    mine = [await applied(house, "079123456742"), await applied(house, NUMBER)]
    others = [await applied(house, "079123456743"), await applied(house, "1079123456742")]
    await house.move(mine[0], "supplement_required", note="Thiếu bản sao (ví dụ).", officer="cb-07")
    consent = "INSERT INTO consent (code, channel, address, given_by) VALUES ($1, 'mail', 'a@b.example', 'desk')"
    for code in (*mine, *others):
        await owner.execute(consent, code)
        await owner.execute(
            "INSERT INTO notice (code, version, channel, kind) VALUES ($1, 1, 'mail', 'accepted')", code
        )
    found = await persons.export(roles[0], roles[1], roles[2], "079123456742", by="an")
    assert [each["code"] for each in found] == mine
    first = found[0]
    assert (first["applicant_phone"], first["status"]) == ("0000000001", 5)
    assert [each["kind"] for each in first["events"]] == ["received", "moved"]
    assert first["events"][1]["note"].startswith("Thiếu bản sao (ví dụ).")
    assert [each["form"] for each in first["papers"]] == ["receipt", "supplement"]
    assert first["papers"][0]["content"]["applicant"]["id"] == "079123456742"
    assert [each["address"] for each in first["consents"]] == ["a@b.example"]
    assert [each["kind"] for each in first["notices"]] == ["accepted"]
    assert [(each["reader"], each["screen"]) for each in first["reads"]] == [("an", "person")]
    text = persons.as_text(found) + persons.as_json(found).decode()
    assert not [code for code in others if code in text]
    reads = await owner.fetch("SELECT code, reader, screen FROM personal_read ORDER BY code")
    assert [tuple(row) for row in reads] == [(code, "an", "person") for code in sorted(mine)]


async def test_nothing_is_told_that_cannot_be_logged(house: House, owner: Any, roles: list[Any]) -> None:
    await applied(house, NUMBER)
    await owner.execute("REVOKE INSERT ON personal_read FROM hoso24_writer")
    with pytest.raises(Unavailable):
        await persons.export(roles[0], roles[1], roles[2], NUMBER, by="an")


@pytest.mark.parametrize("number", ["", "12345", " . - . ", "7-4-2"])
async def test_part_of_a_number_finds_nobody(house: House, roles: list[Any], number: str) -> None:
    await applied(house, NUMBER)
    with pytest.raises(ValueError, match="six signs"):
        await persons.export(roles[0], roles[1], roles[2], number, by="an")
    assert await persons.export(roles[0], roles[1], roles[2], "123456742", by="an") == []
    assert await persons.export(roles[0], roles[1], roles[2], "079%742%", by="an") == []


async def test_command_writes_a_folder_that_others_cannot_read(
    house: House, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = await applied(house, NUMBER)
    for name in ("writer", "archivist", "auditor"):
        monkeypatch.setenv(f"HOSO24_PG_{name.upper()}_URL", database.url(f"hoso24_{name}"))
    out = tmp_path / "person"
    asked = ["person", "export", "--id", NUMBER, "--by", "an"]

    def run(*more: str) -> Any:
        return CliRunner().invoke(hoso24.cli, [*asked, *more])

    ran = await asyncio.to_thread(run, "--out", str(out))
    assert ran.exit_code == 0, ran.output
    assert out.stat().st_mode & 0o777 == 0o700
    assert json.loads((out / "person.json").read_text("utf-8"))[0]["code"] == code
    assert f"== {code} ==" in (out / "person.txt").read_text("utf-8")
    again = await asyncio.to_thread(run, "--out", str(out))
    assert again.exit_code == 2
    assert "name a folder that is not there yet" in again.output
    printed = await asyncio.to_thread(run)
    assert json.loads(printed.output)[0]["code"] == code
