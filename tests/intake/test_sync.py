"""POST /api/v1/sync: what becomes of each line, whatever the body is like and whoever else writes meanwhile."""

import asyncio
import io
import json
import os
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
from prometheus_client import REGISTRY

from intake.books.verify import verify
from tests.conftest import Database
from tests.house import AGENCY, SERVICE, House, intake_at, intake_settings, new_client, new_token, submission

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "sync.md").read_text("utf-8")
PATH = "/api/v1/sync"
TYPE = {"Content-Type": "application/x-ndjson"}
PREFIX = f"{AGENCY}-261008-"


@pytest.fixture
async def office(database: Database) -> AsyncIterator[House]:
    """An intake alone, and a client that may do everything in G99."""
    token = await new_token(database)
    async with intake_at(intake_settings(database.writer_url)) as url, aiohttp.ClientSession() as http:
        yield House("", url, http, token)


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(database.owner_url)
    yield connection
    await connection.close()


def body(*lines: Any) -> bytes:
    return b"".join(each + b"\n" if isinstance(each, bytes) else json.dumps(each).encode() + b"\n" for each in lines)


def new(n: int, **fields: Any) -> dict[str, Any]:
    """A line that creates a dossier."""
    return {"id": f"c{n}", "dossier": f"{PREFIX}{n:04}", "source_seq": 1, "create": submission()} | fields


def step(n: int, status: str, seq: int | None = None, **fields: Any) -> dict[str, Any]:
    told = {"id": f"s{n}-{status}-{seq}", "dossier": f"{PREFIX}{n:04}", "status": status}
    return told | ({} if seq is None else {"source_seq": seq}) | fields


async def send(office: House, content: Any, *, token: str = "", url: str = "", **headers: str) -> tuple[int, Any]:
    """The status and the answer's lines, or the problem."""
    asked = {"Authorization": f"Bearer {token or office.token}"} | TYPE | headers
    content = io.BytesIO(content) if isinstance(content, bytes) else content
    async with office.http.post((url or office.intake_url) + PATH, data=content, headers=asked) as response:
        text = await response.text()
        if response.status != 200:
            return response.status, json.loads(text)
        assert response.headers["Content-Type"] == TYPE["Content-Type"]
        return 200, [json.loads(line) for line in text.splitlines()]


async def told(office: House, *lines: Any, **more: Any) -> list[dict[str, Any]]:
    """The answers to these lines; the summary counts them, and is complete."""
    status, answers = await send(office, body(*lines), **more)
    assert status == 200, answers
    *rest, end = answers
    assert end["complete"] is True
    assert {k: v for k, v in end["summary"].items() if v} == Counter(each["result"] for each in rest)
    return list(rest)


def results(answers: Sequence[dict[str, Any]]) -> list[str]:
    return [each["result"] for each in answers]


async def sound(database: Database) -> None:
    """The product's own verification finds nothing."""
    connection = await asyncpg.connect(database.auditor_url)
    found: list[str] = []
    result = await verify(connection, found.append)
    await connection.close()
    assert (found, result.findings) == ([], 0)


# -- what a line means -----------------------------------------------------------------------------------------------


async def test_dossier_is_created_moved_and_the_same_again(office: House, database: Database, owner: Any) -> None:
    lines = [new(1), step(1, "processing", 2), step(1, "completed", 3, outcome="granted")]
    created, moved, done = await told(office, *lines)
    assert (created["line"], created["id"], created["result"], created["version"]) == (1, "c1", "created", 1)
    assert len(created["lookup_key"]) > 10
    assert (moved["result"], moved["version"], done["version"]) == ("applied", 2, 3)
    row = await owner.fetchrow("SELECT * FROM dossier WHERE code = $1", created["dossier"])
    assert (row["status"], row["version"], row["source_seq"], row["outcome"]) == (9, 3, 3, "granted")
    assert row["owner"] == row["submitted_by"] is not None
    assert not await owner.fetchval("SELECT bool_or(bulk) FROM event")
    again = await told(office, *lines)
    assert results(again) == ["duplicate"] * 3
    assert again[0]["lookup_key"] == created["lookup_key"]
    assert await owner.fetchval("SELECT count(*) FROM event") == 3
    assert await owner.fetchval("SELECT last FROM daily_sequence WHERE agency = $1", AGENCY) == 1
    await sound(database)


async def test_step_out_of_turn_is_kept_and_stands_in_the_timeline(
    office: House, owner: Any, database: Database
) -> None:
    at = "2026-11-16T10:00:00+07:00"
    first = new(1, create=submission(submitted_at="2026-11-09T09:00:00+07:00"))
    answers = await told(
        office,
        first,
        step(1, "processing", 5, at=at),
        step(1, "supplement_required", 3, at="2026-11-12T10:00:00+07:00", note="Thi\u1ebfu"),
        step(1, "returned", 6, at="2026-11-20T10:00:00+07:00"),
        step(1, "processing", 7),
    )
    assert results(answers) == ["created", "applied", "kept", "applied", "kept"]
    assert [each.get("flags") for each in answers] == [
        None, None, ["late"], ["irregular_move"], ["after_final"]
    ]  # fmt: skip
    row = await owner.fetchrow("SELECT status, version, timeline::text AS steps FROM dossier")
    assert (row["status"], row["version"]) == (10, 5)
    steps = json.loads(row["steps"])
    assert [(each["status"], each.get("late", False)) for each in steps] == [
        ("received", False), ("processing", False), ("supplement_required", True), ("returned", False),
        ("processing", True),
    ]  # fmt: skip
    assert steps[2]["at"].startswith("2026-11-12T10:00:00")
    await sound(database)


async def test_only_the_owner_sets_the_status(office: House, database: Database, owner: Any) -> None:
    other = await new_token(database)
    await told(office, new(1))
    (kept,) = await told(office, step(1, "processing", 9), token=other)
    assert (kept["result"], kept["flags"], kept["version"]) == ("kept", ["not_owner"], 2)
    assert await owner.fetchval("SELECT status FROM dossier") == 2


async def test_dossier_of_a_desk_has_no_owner_and_any_client_of_the_scope_moves_it(
    office: House, database: Database
) -> None:
    code = (await office.receive())["code"]
    moved, strange = await told(
        office,
        {"id": "1", "dossier": code, "status": "processing"},
        {"id": "2", "dossier": code, "status": "submitted"},
    )
    assert (moved["result"], moved["version"]) == ("applied", 2)
    assert (strange["result"], strange["flags"]) == ("kept", ["irregular_move"])
    assert (await office.move(code, "completed"))["version"] == 4
    await sound(database)


async def test_receiving_agency_takes_no_step_and_binds_no_number_that_is_the_holders(
    office: House, database: Database, owner: Any
) -> None:
    steps = [("20261109090000", 2), ("20261110090000", 4)]
    await told(office, national(1, 4, steps), step(1, "processing", 20261110090001, agency="G99.01"))
    desk = (await office.receive(channel="direct"))["code"]
    await office.move(desk, "processing", agency="G99.01")
    origin = await new_client(database, "origin", AGENCY)
    later = [*steps, ("20261111090000", 9), ("20261112090000", 10)]
    refused = await told(
        office,
        national(1, 10, later, NgayKetThucXuLy="20261111090000"),
        {"id": "1", "dossier": desk, "status": "returned", "official_number": "01234/2026/99901"},
        token=origin,
    )
    assert [(each["result"], each.get("code")) for each in refused] == [("rejected", "dossier_not_found")] * 2
    assert await owner.fetchval("SELECT max(version) FROM event") == 3
    (allowed,) = await told(office, {"id": "2", "dossier": desk, "status": "returned"}, token=origin)
    assert (allowed["result"], allowed["flags"]) == ("kept", ["irregular_move"])


async def test_what_a_reception_does_not_have_is_refused_and_not_lost(office: House, owner: Any) -> None:
    lines = [
        new(1, status="received", note="Giấy tờ đủ (ví dụ)"),
        new(2, status="received", agency="G99.01"),
        {"id": "n", "dossier": f"{PREFIX}0003", "official_number": "1/2026/99901", "due_at": "2027-01-05T10:00:00Z"},
        new(4, status="received", due_at="9999-12-31T23:59:59-07:00"),
        new(5),
        step(5, "supplement_required", 2, due_at="9999-12-31T23:59:59-07:00", note="Thiếu"),
    ]
    answers = await told(office, *lines)
    assert [each.get("code") for each in answers] == [
        "invalid_content", "invalid_content", "invalid_content", "bad_date", None, "bad_date"
    ]  # fmt: skip


async def test_unknown_foreign_and_removed_dossiers_are_the_same(office: House, database: Database, owner: Any) -> None:
    await told(office, new(1))
    foreign = await new_token(database, "G99.12")
    answers = await told(office, step(1, "processing", 2), step(2, "processing", 2), token=foreign)
    assert [(each["result"], each["code"]) for each in answers] == [("rejected", "dossier_not_found")] * 2
    assert len({each["detail"] for each in answers}) == 1


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"dossier": "G99.12.01-261008-0001"}, None),
        ({"dossier": "G98.01-261008-0001"}, "out_of_scope"),
        ({"dossier": "nonsense"}, "malformed_code"),
        ({"create": submission(agency="G99.77")}, "unknown_agency"),
        ({"create": submission(service="S.999")}, "unknown_service"),
        ({"create": submission(service_case="other")}, "unknown_service"),
        ({"create": submission(status="processing")}, "invalid_content"),
        ({"create": {"agency": AGENCY}}, "invalid_content"),
        ({"create": submission(submitted_at="2999-01-01T00:00:00Z")}, "bad_date"),
        ({"create": submission(submitted_at="1989-01-01T00:00:00Z")}, "bad_date"),
        ({"create": None}, "invalid_content"),
        ({"create": None, "status": "processing"}, "dossier_not_found"),
        ({"status": "nonsense"}, "unknown_status"),
        ({"status": "processing", "at": "2026-11-16T10:00:00"}, "invalid_content"),
        ({"status": "processing", "at": "2999-01-01T00:00:00Z"}, "bad_date"),
        ({"due_at": "2001-01-01T00:00:00Z"}, "dates_out_of_order"),
        ({"status": "processing", "agency": "G99.77"}, "unknown_agency"),
        ({"source_seq": 2**63}, "invalid_content"),
        ({"source_seq": -1}, "invalid_content"),
        ({"source_seq": 2**63 - 1}, None),
        ({"id": ""}, "invalid_content"),
        ({"id": "x" * 256}, "invalid_content"),
        ({"id": "a\u0000b"}, "invalid_content"),
        ({"id": "a\nb"}, "invalid_content"),
        ({"id": None}, "invalid_content"),
        ({"note": "\ud800", "status": "processing"}, "malformed_json"),
        ({"note": "no step"}, "invalid_content"),
        ({"surprise": 1}, "invalid_content"),
        ({"official_number": "12"}, "malformed_code"),
        ({"official_number": "G99.01-261008-0001"}, "invalid_content"),
    ],
)  # fmt: skip
async def test_what_is_wrong_with_a_line_is_told_by_a_code_and_costs_no_other_line(
    office: House, owner: Any, fields: dict[str, Any], code: str | None
) -> None:
    fine, line, after = await told(office, new(1), new(2) | fields, new(3))
    assert results([fine, after]) == ["created", "created"]
    assert (line["line"], line.get("code")) == (2, code)
    assert await owner.fetchval("SELECT count(*) FROM dossier") == 2 + (code is None)
    if code is not None:
        assert line["result"] == "rejected"
        assert line["detail"]


async def test_line_of_another_client_s_scope_creates_nothing(office: House, database: Database, owner: Any) -> None:
    narrow = await new_token(database, "G99.12")
    (line,) = await told(office, new(1), token=narrow)
    assert line["code"] == "out_of_scope"
    (line,) = await told(office, new(1, dossier="G99.12.01-261008-0001"), token=narrow)  # its agency is another's
    assert line["code"] == "out_of_scope"
    assert await owner.fetchval("SELECT count(*) FROM dossier") == 0


async def test_id_that_comes_with_something_else_is_refused(office: House, owner: Any) -> None:
    at = "2026-11-16T10:00:00+07:00"
    old = {"create": submission(submitted_at="2026-11-09T09:00:00+07:00")}
    await told(
        office, new(1, **old), new(2, **old), {"id": "a", "dossier": f"{PREFIX}0001", "status": "processing", "at": at}
    )
    for other in ({"dossier": f"{PREFIX}0002"}, {"status": "completed"}, {"at": "2026-11-16T10:00:01+07:00"}):
        line = {"id": "a", "dossier": f"{PREFIX}0001", "status": "processing", "at": at} | other
        (answer,) = await told(office, line)
        assert (answer["result"], answer["code"]) == ("rejected", "id_reused"), other
    (answer,) = await told(
        office, {"id": "a", "dossier": f"{PREFIX}0001", "status": "processing", "at": at, "note": "x"}
    )
    assert answer["result"] == "duplicate"
    one, two = await told(office, step(2, "processing", 2, id="b"), step(2, "completed", 3, id="b"))
    assert (one["result"], two["code"]) == ("applied", "id_reused")
    assert await owner.fetchval("SELECT count(*) FROM event") == 4


async def test_time_before_the_last_step_is_no_other_content_when_it_comes_again(office: House) -> None:
    lines = [new(1, create=submission(submitted_at="2026-11-09T09:00:00+07:00"))]
    lines.append(step(1, "processing", 2, at="2026-11-16T10:00:00+07:00"))
    lines.append(step(1, "completed", 3, at="2026-11-16T09:00:00+07:00"))
    assert results(await told(office, *lines)) == ["created", "applied", "applied"]
    assert results(await told(office, *lines)) == ["duplicate"] * 3


async def test_official_number_is_bound_and_never_taken_as_a_code(
    office: House, owner: Any, database: Database
) -> None:
    number = "01234/2026/99901"
    bound, again, other = await told(
        office,
        new(1, official_number=number),
        {"id": "n", "dossier": f"{PREFIX}0001", "official_number": "1234-2026-99901"},
        new(2, official_number=number),
    )
    assert (bound["result"], bound["version"]) == ("created", 2)
    assert again["result"] == "duplicate"
    assert (other["result"], other["code"]) == ("rejected", "number_taken")
    create, move = await told(office, new(3, dossier=number), {"id": "m", "dossier": number, "status": "processing"})
    assert create["code"] in ("number_taken", "out_of_scope")
    assert move["code"] == "dossier_not_found"
    assert await owner.fetchval("SELECT code FROM dossier_number") == f"{PREFIX}0001"
    await sound(database)


async def test_dossier_is_created_in_the_step_that_is_told(office: House, owner: Any, database: Database) -> None:
    """Online it begins as submitted; the step is a second event, and a repeat of the line knows both."""
    create = submission(channel="online", submitted_at="2026-11-09T09:00:00+07:00")
    line = new(
        1, create=create, status="processing", at="2026-11-10T09:00:00+07:00", due_at="2026-12-24T17:00:00+07:00"
    )
    (created,) = await told(office, line)
    assert (created["result"], created["version"], created.get("flags")) == ("created", 2, ["irregular_move"])
    row = await owner.fetchrow("SELECT status, due_at, calendar, submitted_at, received_at FROM dossier")
    assert (row["status"], row["calendar"], row["due_at"].isoformat()) == (4, None, "2026-12-24T10:00:00+00:00")
    assert row["received_at"] > row["submitted_at"]
    (again,) = await told(office, line)
    assert (again["result"], again["lookup_key"]) == ("duplicate", created["lookup_key"])
    (known,) = await told(office, new(1, id="other"))
    assert (known["result"], known["flags"]) == ("duplicate", ["existed_already"])
    await sound(database)


async def test_two_hundred_changes_of_one_dossier_in_a_body(office: House, owner: Any, database: Database) -> None:
    lines = [new(1), *(step(1, "processing", n, id=f"p{n}") for n in range(2, 202))]
    answers = await told(office, *lines)
    assert [each["version"] for each in answers] == list(range(1, 202))
    assert await owner.fetchval("SELECT version FROM dossier") == 201
    await sound(database)


async def test_sequence_backwards_equal_and_absent(office: House, owner: Any) -> None:
    answers = await told(
        office, new(1), *(step(1, "processing", seq, id=f"q{n}") for n, seq in enumerate([5, 5, 4, None, 6]))
    )
    assert results(answers)[1:] == ["applied", "kept", "kept", "applied", "applied"]
    assert await owner.fetchval("SELECT source_seq FROM dossier") == 6


async def test_lines_are_counted(office: House) -> None:
    def lines(outcome: str) -> float:
        return REGISTRY.get_sample_value("intake_sync_lines_total", {"outcome": outcome}) or 0.0

    before = {outcome: lines(outcome) for outcome in ("created", "rejected", "duplicate")}
    await told(office, new(1), new(1), {"id": "x"})
    assert {outcome: lines(outcome) - before[outcome] for outcome in before} == dict.fromkeys(before, 1.0)


# -- the national form -----------------------------------------------------------------------------------------------


def national(n: int, status: int, steps: Sequence[tuple[str, int]] = (), **fields: Any) -> dict[str, Any]:
    """A line of DongBoHoSoMC."""
    return {
        "MaHoSo": f"{PREFIX}{n:04}",
        "MaTTHC": SERVICE,
        "TrangThaiHoSo": status,
        "DonViXuLy": AGENCY,
        "KenhThucHien": "1",
        "ChuHoSo": "Nguy\u1ec5n V\u0103n M\u1eabu (h\u01b0 c\u1ea5u)",
        "NgayNopHoSo": "20261109090000",
        "NgayTiepNhan": "20261109090000",
        "NgayHenTra": "20261207170000",
        "TienTrinh": [{"ThoiDiemXuLy": at, "TrangThai": to} for at, to in steps],
    } | fields


async def test_national_history_is_created_and_only_what_is_new_is_appended(
    office: House, owner: Any, database: Database
) -> None:
    steps = [("20261109090000", 2), ("20261110090000", 4)]
    created, same, spelt = await told(
        office,
        national(1, 4, steps),
        national(1, 4, steps),
        national(1, 4, steps, GhiChu="", MaTTHC=SERVICE, KenhThucHien=1, DanhSachLePhi=[]),
    )
    assert (created["result"], created["version"], results([same, spelt])) == ("created", 2, ["duplicate"] * 2)
    assert created["lookup_key"] == same.get("lookup_key", created["lookup_key"])
    (longer,) = await told(office, national(1, 9, [*steps, ("20261112090000", 9)], NgayKetThucXuLy="20261112090000"))
    assert (longer["result"], longer["version"]) == ("applied", 3)
    (inserted,) = await told(office, national(1, 9, [*steps, ("20261111090000", 5), ("20261112090000", 9)]))
    assert (inserted["result"], inserted["flags"], inserted["version"]) == ("kept", ["late"], 4)
    row = await owner.fetchrow("SELECT status, due_at, calendar, finished_at, source_seq, outcome FROM dossier")
    assert (row["status"], row["calendar"], row["source_seq"], row["outcome"]) == (9, None, 20261112090000, None)
    assert row["due_at"].isoformat() == "2026-12-07T10:00:00+00:00"
    await sound(database)


async def test_progress_alone(office: House, owner: Any, database: Database) -> None:
    entry = {
        "MaHoSo": f"{PREFIX}0001",
        "TrangThai": "4",
        "ThoiDiemXuLy": "20261110090000",
        "NoiDungXuLy": "X\u1eed l\u00fd",
    }
    unknown, _, applied, again = await told(
        office, entry, national(1, 2, [("20261109090000", 2)]), entry, entry | {"TrangThai": 4, "ChucDanh": None}
    )
    assert (unknown["code"], applied["result"], again["result"]) == ("dossier_not_found", "applied", "duplicate")
    assert await owner.fetchval("SELECT status FROM dossier") == 4
    await sound(database)


async def test_present_status_without_a_time_sets_the_status_once(
    office: House, owner: Any, database: Database
) -> None:
    answers = await told(
        office,
        *(national(1, 2), national(1, 4), national(1, 4, GhiChu="the same")),
        *(national(1, 2, GhiChu="older"), national(1, 5)),
    )
    assert results(answers) == ["created", "applied", "duplicate", "duplicate", "applied"]
    row = await owner.fetchrow("SELECT status, jsonb_array_length(timeline) AS n, pauses::text AS pauses FROM dossier")
    assert tuple(row) == (5, 1, "[]")
    await sound(database)


async def test_another_dossier_under_the_same_code_is_refused(office: House) -> None:
    steps = [("20261109090000", 2)]
    _, other, updating, existed = await told(
        office,
        national(1, 2, steps),
        national(1, 2, steps, MaTTHC="S.001", GhiChu="y"),
        national(2, 2, steps, isUpdating=True),
        national(1, 4, [*steps, ("20261110090000", 4)], isUpdating="false"),
    )
    assert other["code"] == "history_differs"
    assert (updating["result"], updating["flags"]) == ("created", ["created_though_updating"])
    assert (existed["result"], existed["flags"]) == ("applied", ["existed_already"])


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"NgayNopHoSo": "20261399999999"}, "bad_date"),
        ({"NgayNopHoSo": "20991109090000", "NgayTiepNhan": "20991109090000", "NgayHenTra": ""}, "bad_date"),
        ({"TrangThaiHoSo": 11}, "unknown_status"),
        ({"MaHoSo": "x"}, "malformed_code"),
        ({"MaTTHC": "S.999"}, "unknown_service"),
        ({"DonViXuLy": "G99.77"}, "unknown_agency"),
        ({"NgayHenTra": "20010101000000"}, "dates_out_of_order"),
        ({"ChuHoSo": ""}, "invalid_content"),
    ],
)
async def test_national_line_is_refused_by_the_same_codes(office: House, fields: dict[str, Any], code: str) -> None:
    (line,) = await told(office, national(1, 2) | fields)
    assert line.get("code") == code, line


async def test_line_that_cannot_be_read_names_its_dossier_all_the_same(office: House) -> None:
    unknown, undated, call, nameless = await told(
        office,
        step(1, "processing") | {"stat": "x"},
        national(1, 2, NgayNopHoSo="2026-11-09T09:00:00+07:00"),
        {"service": "DongBoHoSoMC", "isUpdating": "true", "data": [national(1, 2)]},
        {"dossier": 7, "status": "processing"},
    )
    assert [each.get("dossier") for each in (unknown, undated, call, nameless)] == [f"{PREFIX}0001"] * 2 + [None] * 2
    assert "yyyyMMddHHmmss" in undated["detail"]
    assert (call["code"], "each object of its `data` as a line" in call["detail"]) == ("invalid_content", True)


# -- what integrators read -------------------------------------------------------------------------------------------


async def test_national_lines_of_the_page_work_as_they_stand(office: House, database: Database) -> None:
    (lines,) = re.findall(r"```ndjson\n(.*?)```", PAGE, re.DOTALL)
    _, (*answers, end) = await send(office, lines.encode())
    assert (results(answers), end["complete"]) == (["created", "applied"], True)
    assert not any(each.get("flags") for each in answers)
    await sound(database)


async def test_example_of_the_page_works_as_it_stands(office: House) -> None:
    (command,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    (shown,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    program = await asyncio.create_subprocess_exec(
        *("bash", "-c", command.replace("https://intake.example", office.intake_url)),
        env={"TOKEN": office.token, "PATH": os.environ["PATH"]},
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await program.communicate()
    assert program.returncode == 0
    for line, expected in zip(printed.decode().splitlines(), shown.splitlines(), strict=True):
        told, said = json.loads(line), json.loads(expected)
        assert told.keys() == said.keys()
        assert all(told[name] == value for name, value in said.items() if value != "…")
