"""Imports: every good line in, every bad one in the reject file, once, also after an interruption."""

import asyncio
import json
from collections import Counter
from dataclasses import replace
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from intake.books.fold import differences, folded
from intake.books.seal import HASHED_COLUMNS, event_leaf_hash
from intake.bulk.loader import Import, ImportTally, _fingerprint, _next_size
from intake.bulk.source import LONGEST_LINE
from intake.dialects import REASONS
from intake.local import sample
from lookup import code as codes
from lookup.lookup_key import KeyRing
from lookup.schema import NEW_EPOCH
from tests.books import SEALS
from tests.conftest import KEY_SECRETS, Database
from tests.house import House, remove, until
from tests.intake.test_dialects import national, plain

UNTIL = date(2026, 11, 20)
KEYS = KeyRing.from_text(KEY_SECRETS)

# Which refusal each way of spoiling a line must lead to.
REASON = {
    "bad_date": "bad_date",
    "unknown_status": "unknown_status",
    "wrong_type": "wrong_shape",
    "truncated": "not_json",
    "nul_byte": "nul_character",
    "escaped_nul": "nul_character",
    "unknown_agency": "unknown_agency",
    "missing_code": "unknown_form",
    "malformed_code": "malformed_code",
    "oversized": "line_too_long",
}


def sample_file(folder: Path, n: int, broken: float = 0.0) -> Path:
    path = folder / "dossiers.ndjson"
    sample.write(path, n, until=UNTIL, days=30, broken=broken)
    return path


def rejects(path: Path) -> dict[int, str]:
    lines = path.with_name(path.name + ".rejected.ndjson").read_text("utf-8").splitlines()
    parsed = [json.loads(line) for line in lines]
    assert len({each["line"] for each in parsed}) == len(parsed)
    return {each["line"]: each["reason"] for each in parsed}


def keys_of(path: Path) -> dict[str, str]:
    """What stands in the key file: the lookup key of each code."""
    lines = path.with_name(path.name + ".keys.ndjson").read_text("utf-8").splitlines()
    return {each["code"]: each["lookup_key"] for each in map(json.loads, lines)}


def serials_of(path: Path) -> dict[str, int | None]:
    """The serial for which each key in the key file was made; None for a key that is not the dossier's."""
    return {code: KEYS.serial(codes.parse(code), key) for code, key in keys_of(path).items()}


def adds_up(tally: ImportTally) -> bool:
    """Whether every line is in one of the five, and every rejected one has a reason."""
    lines = tally.taken + tally.appended + tally.already_here + tally.rejected + tally.blank
    return tally.line == lines and tally.blank >= 0 and sum(tally.reasons.values()) == tally.rejected


async def state(connection: Any) -> list[Any]:
    """Everything an import could have changed, but for when."""
    return [
        await connection.fetch("SELECT * FROM dossier ORDER BY code"),
        await connection.fetch("SELECT * FROM event ORDER BY code, version"),
    ]


LATER = """
UPDATE dossier
   SET due_at = due_at + interval '1 day'
 WHERE code = (SELECT min(code) FROM dossier WHERE due_at IS NOT NULL)
"""


async def against_the_log(connection: Any) -> list[str]:
    """What is wrong with the books: rows that are not what their events say, seals and digests that do not fit, and
    bulk events of dossiers that were not made in the same transaction."""
    events: dict[str, list[Any]] = {}
    wrong = []
    for event in await connection.fetch("SELECT * FROM event ORDER BY code, version"):
        events.setdefault(event["code"], []).append(event)
        leaf = event_leaf_hash([event[name] for name in HASHED_COLUMNS], event["salt"])
        if SEALS.sealed_by(leaf, event["seal"]) is None:
            wrong.append(f"{event['code']} {event['version']}: seal")
        if event["bulk"] and event["xid"] != events[event["code"]][0]["xid"]:
            wrong.append(f"{event['code']} {event['version']}: bulk")
    digests = dict(await connection.fetch("SELECT code, digest FROM dossier_person"))
    for row in await connection.fetch("SELECT * FROM dossier"):
        of_it = events.pop(row["code"], [])
        wrong += [f"{row['code']}: {what}" for what in differences(row, folded(of_it))]
        if digests[row["code"]] != of_it[0]["person"]:
            wrong.append(f"{row['code']}: person")
    return wrong + [f"{code}: no dossier" for code in events]


@pytest.mark.parametrize(
    ("size", "seconds", "following"),
    [
        (100, 0.0, 200),  # at most twice as many
        (100, 0.04, 125),
        (100, 0.05, 100),
        (100, 0.08, 62),
        (100, 60.0, 50),  # at least half as many
        (15, 60.0, 10),
        (1000, 0.0, 1000),
    ],
)
def test_next_transaction_has_as_many_lines_as_fit_fifty_milliseconds(
    size: int, seconds: float, following: int
) -> None:
    assert _next_size(size, seconds) == following


def test_file_of_an_import_that_another_release_began_is_known_again() -> None:
    assert (
        _fingerprint(BytesIO(b"x" * 100_000)).hex()
        == "e50a3852a815ba3ea16839949c138c4149a87ef69671b54d42ad56a2eab57560"
    )


async def test_good_lines_go_in_and_bad_ones_are_named(writer: Any, tmp_path: Path) -> None:
    path = sample_file(tmp_path, 2000, broken=0.02)
    breaks = sample.plan_breaks(2000, 0.02)
    assert set(breaks.values()) == set(REASON)
    tally = await Import(writer, path, KEYS, SEALS).run()
    assert rejects(path) == {line: REASON[kind] for line, kind in breaks.items()}
    assert (tally.line, tally.taken, tally.rejected) == (2000, 2000 - len(breaks), len(breaks))
    assert await writer.fetchval("SELECT count(*) FROM dossier") == tally.taken


async def test_stored_dossier_is_what_the_line_says(writer: Any, tmp_path: Path) -> None:
    path = sample_file(tmp_path, 50)
    await Import(writer, path, KEYS, SEALS).run()
    for line in path.read_bytes().splitlines():
        form = json.loads(line)
        row = await writer.fetchrow("SELECT * FROM dossier WHERE code = $1", codes.parse(form["MaHoSo"]).text)
        assert row["status"] == int(form["TrangThaiHoSo"])
        assert row["version"] == len(form["TienTrinh"])
        assert row["applicant_name"] == form["ChuHoSo"]
        assert len(json.loads(row["timeline"])) == row["version"]
        assert (row["origin"], row["calendar"]) == (form["DonViXuLy"], None)
        officers = {entry["NguoiXuLy"] for entry in form["TienTrinh"] if entry["NguoiXuLy"] != "Hệ thống"}
        assert not [name for name in officers if name in row["timeline"]]


async def test_importing_twice_changes_nothing(writer: Any, tmp_path: Path) -> None:
    path = sample_file(tmp_path, 600, broken=0.02)
    first = await Import(writer, path, KEYS, SEALS).run()
    before, refused, keys = await state(writer), rejects(path), path.with_name(path.name + ".keys.ndjson").read_bytes()
    again = await Import(writer, path, KEYS, SEALS).run()
    assert await state(writer) == before
    assert (again.taken, again.already_here, again.rejected) == (0, first.taken, first.rejected)
    assert rejects(path) == refused
    assert path.with_name(path.name + ".keys.ndjson").read_bytes() == keys


async def test_interrupted_import_goes_on_where_it_was(database: Database, writer: Any, tmp_path: Path) -> None:
    path = sample_file(tmp_path, 1200, broken=0.02)
    interrupted = await asyncpg.connect(database.writer_url)

    def interrupt(tally: ImportTally) -> None:
        if tally.line > 500:
            interrupted.terminate()

    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await Import(interrupted, path, KEYS, SEALS, interrupt).run()
    half = await writer.fetchval("SELECT count(*) FROM dossier")
    assert 0 < half < 1100
    with path.with_name(path.name + ".rejected.ndjson").open("ab") as leftover:
        leftover.write(b'{"line": 999, "reason": "written but never committed"}\n')

    tally = await Import(writer, path, KEYS, SEALS).run()
    breaks = sample.plan_breaks(1200, 0.02)
    assert tally.taken == await writer.fetchval("SELECT count(*) FROM dossier") == 1200 - len(breaks)
    assert tally.already_here == 0
    assert set(rejects(path)) == set(breaks)
    assert tally.reasons == Counter(REASON[kind] for kind in breaks.values())
    assert adds_up(tally)
    assert len(path.with_name(path.name + ".keys.ndjson").read_bytes().splitlines()) == tally.taken


class Interrupted(Exception):
    """Ends an import after one of its commits."""


@pytest.mark.parametrize("other", [b"x" * 100_000, b'{"reason": "not_json"}\n' * 10_000])
async def test_import_begins_anew_if_its_reject_file_is_another_one(writer: Any, tmp_path: Path, other: bytes) -> None:
    path = sample_file(tmp_path, 600, broken=0.02)

    def interrupt(tally: ImportTally) -> None:
        if tally.line > 200:
            raise Interrupted

    with pytest.raises(Interrupted):
        await Import(writer, path, KEYS, SEALS, interrupt).run()
    path.with_name(path.name + ".rejected.ndjson").write_bytes(other)
    tally = await Import(writer, path, KEYS, SEALS).run()
    breaks = sample.plan_breaks(600, 0.02)
    assert rejects(path) == {line: REASON[kind] for line, kind in breaks.items()}
    assert adds_up(tally)
    assert tally.already_here > 0
    assert tally.taken + tally.already_here == 600 - len(breaks) == len(keys_of(path))


async def test_progress_is_told_after_every_commit_and_adds_up(writer: Any, tmp_path: Path) -> None:
    path = sample_file(tmp_path, 600, broken=0.02)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\n\n", 5))
    told: list[ImportTally] = []

    def tell(tally: ImportTally) -> None:
        told.append(replace(tally, reasons=dict(tally.reasons)))

    tally = await Import(writer, path, KEYS, SEALS, tell).run()
    assert len(told) > 2
    assert all(adds_up(each) for each in told)
    assert [each.line for each in told] == sorted(each.line for each in told)
    assert told[-1] == tally
    assert (tally.line, tally.blank, tally.position) == (605, 5, path.stat().st_size)
    run = await writer.fetchrow("SELECT * FROM import_run")
    for name in ("position", "line", "taken", "appended", "already_here", "rejected"):
        assert run[name] == getattr(tally, name)
    assert json.loads(run["reasons"]) == tally.reasons
    assert run["finished_at"] is not None
    assert tally.read == path.stat().st_size


async def test_each_line_of_either_form_is_counted_as_what_became_of_it(
    writer: Any, owner: Any, tmp_path: Path
) -> None:
    await owner.execute("ALTER TABLE dossier ADD CONSTRAINT no_such_subject CHECK (subject NOT LIKE '%xyzzy%')")
    a, b, c, d, e = (f"G99.01.02-261118-000{n}" for n in range(1, 6))
    at = {"at": "2026-10-09T03:00:00Z"}
    skips = [at | {"status": "submitted"}, at | {"status": "returned"}]
    longer = {"ThoiDiemXuLy": "20261010100000", "TrangThai": 4}
    lines: list[tuple[Any, str]] = [
        (national(MaHoSo=a), "taken"),
        (plain(code=b), "taken"),
        (national(MaHoSo=a), "already here"),
        (None, "blank"),
        (plain(code=b), "already here"),
        (national(MaHoSo=a, TienTrinh=[*national()["TienTrinh"], longer]), "appended"),
        (plain(code=b, steps=[*plain()["steps"], at | {"status": "completed"}]), "appended"),
        (national(MaHoSo=c, TrangThaiHoSo=11), "unknown_status"),
        (plain(code=c, steps=[at | {"status": "done"}]), "unknown_status"),
        (national(MaHoSo=c, DonViXuLy="G77"), "unknown_agency"),
        (plain(code=c, agency="G77"), "unknown_agency"),
        (national(MaHoSo=c, MaTTHC="S.999"), "unknown_service"),
        (plain(code=c, service="S.999"), "unknown_service"),
        (national(MaHoSo=c, TrichYeuHoSo="xyzzy"), "refused_by_database"),
        (plain(code=c, subject="xyzzy", steps=skips), "refused_by_database"),
        (plain(code=d, steps=skips), "taken"),
        (plain(code=d, steps=skips), "already here"),
        (plain(code=e), "taken"),
    ]
    path = tmp_path / "mixed.ndjson"
    path.write_text("".join(f"{json.dumps(form) if form else ''}\n" for form, _ in lines))
    tally = await Import(writer, path, KEYS, SEALS).run()

    became = Counter(outcome for _, outcome in lines)
    refused = {n: outcome for n, (_, outcome) in enumerate(lines, start=1) if outcome in REASONS}
    assert (tally.taken, tally.already_here, tally.blank) == (became["taken"], became["already here"], became["blank"])
    assert tally.appended == became["appended"]
    assert (tally.rejected, tally.reasons) == (len(refused), Counter(refused.values()))
    assert tally.irregular == 1
    assert rejects(path) == refused
    assert {row["code"] for row in await writer.fetch("SELECT code FROM dossier")} == {a, b, d, e} == set(keys_of(path))


async def test_key_file_has_the_serial_that_each_dossier_has_now(writer: Any, owner: Any, tmp_path: Path) -> None:
    serials = {"G99.01.02-261118-0001": 3, "G99.01.02-261118-0002": 31, "01234/2026/99901": 1, "05678/2026/99901": 0}
    path = tmp_path / "first.ndjson"
    one, two, three, four = serials
    forms = [national(MaHoSo=one), plain(code=two), national(MaHoSo=three), plain(code=four)]
    path.write_text("\n".join(map(json.dumps, forms)))
    await Import(writer, path, KEYS, SEALS).run()
    assert serials_of(path) == dict.fromkeys(serials, 0)

    for code, serial in serials.items():
        await owner.execute("UPDATE dossier SET key_serial = $2 WHERE code = $1", code, serial)
    again = path.rename(tmp_path / "again.ndjson")
    await Import(writer, again, KEYS, SEALS).run()
    assert serials_of(again) == serials


async def test_keys_of_the_key_file_open_the_dossiers(house: House, writer: Any, tmp_path: Path) -> None:
    path = sample_file(tmp_path, 20)
    await Import(writer, path, KEYS, SEALS).run()
    key_file = path.with_name(path.name + ".keys.ndjson")
    assert key_file.stat().st_mode & 0o777 == 0o600
    for line in key_file.read_bytes().splitlines():
        each = json.loads(line)
        status, view = await house.lookup(
            f"/api/v1/dossiers/{codes.parse(each['code']).path}", **{"Hoso24-Key": each["lookup_key"]}
        )
        assert status == 200
        assert view["timeline"]


async def test_row_of_an_imported_dossier_is_what_its_sealed_events_say(
    writer: Any, owner: Any, tmp_path: Path
) -> None:
    tally = await Import(writer, sample_file(tmp_path, 1200), KEYS, SEALS).run()
    assert tally.taken == 1200
    assert await against_the_log(owner) == []
    statuses = {status for (status,) in await owner.fetch("SELECT DISTINCT status FROM dossier")}
    assert len(statuses) == 10
    await owner.execute(LATER)
    (found,) = await against_the_log(owner)
    assert ": due_at is " in found


async def test_imported_events_are_bulk_and_imported_dossiers_can_be_moved(
    house: House, writer: Any, owner: Any, tmp_path: Path
) -> None:
    await Import(writer, sample_file(tmp_path, 100), KEYS, SEALS).run()
    assert await writer.fetchval("SELECT bool_and(bulk) FROM event")
    code = await writer.fetchval("SELECT code FROM dossier WHERE status = 4 ORDER BY code LIMIT 1")
    path = codes.parse(code).path
    status, before = await house.lookup(f"/api/v1/dossiers/{path}")
    assert status == 200
    moved = await house.move(path, "completed")
    assert moved["version"] == before["version"] + 1

    async def visible() -> bool:
        return bool((await house.lookup(f"/api/v1/dossiers/{path}"))[1]["status"] == "completed")

    await until(visible)
    assert await against_the_log(owner) == []


async def test_live_changes_are_seen_while_an_import_runs(database: Database, house: House, tmp_path: Path) -> None:
    path = sample_file(tmp_path, 3000)
    receipt = await house.receive()
    connection = await asyncpg.connect(database.writer_url)
    importing = asyncio.create_task(Import(connection, path, KEYS, SEALS).run())
    version = 1
    try:
        while not importing.done():
            version = (await house.move(receipt["code"], "processing"))["version"]

            async def visible(version: int = version) -> bool:
                return bool((await house.lookup(f"/api/v1/dossiers/{receipt['code']}"))[1]["version"] == version)

            await until(visible)
    finally:
        await importing
        await connection.close()
    assert version > 3


async def test_own_form_is_read_too(writer: Any, tmp_path: Path) -> None:
    path = tmp_path / "own.ndjson"
    dossier = {
        "code": "g99.01.01-261118-0007",
        "agency": "G99.01.01",
        "service": "S.004",
        "channel": "postal",
        "submitted_at": "2026-11-18T08:00:00+07:00",
        "applicant": {"name": "Lê Văn Thử (hư cấu)"},
        "steps": [
            {"at": "2026-11-18T08:00:00+07:00", "status": "received"},
            {"at": "2026-11-18T09:30:00+07:00", "status": "processing", "department": "Phòng Thử (hư cấu)"},
        ],
    }
    bad_date = dossier | {"code": "G99.01.01-261118-0008", "submitted_at": "2026-02-30T08:00:00+07:00"}
    unknown_field = dossier | {"code": "G99.01.01-261118-0009", "colour": "red"}
    path.write_text("\n".join(json.dumps(each, ensure_ascii=False) for each in (dossier, bad_date, unknown_field)))
    tally = await Import(writer, path, KEYS, SEALS).run()
    assert tally.taken == 1
    assert rejects(path) == {2: "bad_date", 3: "wrong_shape"}
    row = await writer.fetchrow("SELECT * FROM dossier")
    assert (row["code"], row["version"], row["status"]) == ("G99.01.01-261118-0007", 2, 4)


async def test_line_the_database_refuses_spoils_no_other(writer: Any, owner: Any, tmp_path: Path) -> None:
    await owner.execute("ALTER TABLE dossier ADD CONSTRAINT no_such_subject CHECK (subject NOT LIKE '%xyzzy%')")
    path = sample_file(tmp_path, 200)
    lines = path.read_bytes().splitlines()
    form = json.loads(lines[100])
    form["TrichYeuHoSo"] = "xyzzy"
    lines[100] = json.dumps(form, ensure_ascii=False).encode()
    path.write_bytes(b"\n".join(lines) + b"\n")
    tally = await Import(writer, path, KEYS, SEALS).run()
    assert (tally.taken, rejects(path)) == (199, {101: "refused_by_database"})


async def test_epoch_that_begins_before_a_commit_refuses_no_line(writer: Any, owner: Any, tmp_path: Path) -> None:
    class Overtaken(Import):
        begun = False

        async def _put(self, *rows: Any) -> Any:
            if not self.begun:
                self.begun = True
                await owner.fetchval(NEW_EPOCH, "a test")
            return await super()._put(*rows)

    tally = await Overtaken(writer, sample_file(tmp_path, 250), KEYS, SEALS).run()
    assert (tally.taken, tally.rejected) == (250, 0)
    assert [tuple(row) for row in await owner.fetch("SELECT DISTINCT epoch FROM event")] == [(2,)]
    assert await against_the_log(owner) == []


async def test_lines_of_any_length_are_told_apart(writer: Any, tmp_path: Path) -> None:
    good = sample_file(tmp_path, 3).read_bytes().splitlines()
    path = tmp_path / "long.ndjson"
    path.write_bytes(
        b"\n".join(
            [good[0], b"x" * (5 * LONGEST_LINE), good[1], b"", b"x" * LONGEST_LINE, good[2], b"y" * (2 * LONGEST_LINE)]
        )
    )
    tally = await Import(writer, path, KEYS, SEALS).run()
    assert (tally.taken, tally.line) == (3, 7)
    assert rejects(path) == {2: "line_too_long", 5: "not_json", 7: "line_too_long"}


# -- identity is by content --------------------------------------------------------------------------------------------


def written(folder: Path, *forms: Any, name: str = "lines.ndjson") -> Path:
    path = folder / name
    path.write_text("".join(f"{json.dumps(form, ensure_ascii=False)}\n" for form in forms), "utf-8")
    return path


def details(path: Path) -> dict[int, str]:
    lines = path.with_name(path.name + ".rejected.ndjson").read_text("utf-8").splitlines()
    return {each["line"]: each["detail"] for each in map(json.loads, lines)}


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"ChuHoSo": "Trần Văn Khác (hư cấu)"}, "applicant or subject"),
        ({"SoDienThoai": "0000000002"}, "applicant or subject"),
        ({"TrichYeuHoSo": "Việc khác"}, "applicant or subject"),
        ({"MaTTHC": "S.001"}, "service"),
        ({"DonViXuLy": "G99.01.01"}, "agency and another steps"),
        ({"NgayNopHoSo": "20261008083001"}, ""),
        ({"ThongTinKhac": "Trường hợp: khác"}, "service_case"),
        ({"NgayHenTra": "20261023090000"}, "due_at"),
        ({"NgayTiepNhan": "20261008090001"}, "received_at"),
    ],
)
async def test_another_dossier_under_a_stored_code_is_refused_by_name_and_gets_no_key(
    writer: Any, owner: Any, tmp_path: Path, fields: dict[str, Any], what: str
) -> None:
    first = written(tmp_path, national(), name="first.ndjson")
    assert (await Import(writer, first, KEYS, SEALS).run()).taken == 1
    before = await state(owner)
    second = written(tmp_path, national(**fields), national())
    tally = await Import(writer, second, KEYS, SEALS).run()
    if "NgayNopHoSo" in fields:  # the first step is then before the submission
        assert rejects(second) == {1: "dates_out_of_order"}
    else:
        assert rejects(second) == {1: "differs_from_stored"}
        assert what.split(maxsplit=1)[0] in details(second)[1]
    assert (tally.taken, tally.appended, tally.already_here, tally.rejected) == (0, 0, 1, 1)
    assert await state(owner) == before
    assert len(second.with_name(second.name + ".keys.ndjson").read_text().splitlines()) == 1


async def test_two_people_under_one_code_in_one_file_are_told_apart(writer: Any, owner: Any, tmp_path: Path) -> None:
    other = national(ChuHoSo="Trần Văn Khác (hư cấu)")
    path = written(tmp_path, national(), other, national(), other)
    tally = await Import(writer, path, KEYS, SEALS).run()
    assert (tally.taken, tally.already_here, tally.rejected) == (1, 1, 2)
    assert rejects(path) == {2: "differs_from_stored", 4: "differs_from_stored"}
    assert await owner.fetchval("SELECT applicant_name FROM dossier") == "Nguyễn Văn Mẫu (hư cấu)"


async def test_newer_state_is_appended_seen_and_imported_once(
    house: House, writer: Any, owner: Any, tmp_path: Path
) -> None:
    steps = national()["TienTrinh"]
    await Import(writer, written(tmp_path, national(), name="first.ndjson"), KEYS, SEALS).run()
    path = "G99.01.02-261008-0975"
    assert (await house.lookup(f"/api/v1/dossiers/{path}"))[1]["status"] == "processing"
    more = [
        {"ThoiDiemXuLy": "20261012080000", "TrangThai": 5, "NoiDungXuLy": "Thiếu giấy tờ"},
        {"ThoiDiemXuLy": "20261013080000", "TrangThai": 4},
        {"ThoiDiemXuLy": "20261014080000", "TrangThai": 9},
    ]
    asked = [{"NoiDungBoSung": "Sổ", "NgayHenTraTruoc": "20261022090000"}]
    longer = national(TrangThaiHoSo=9, TienTrinh=steps + more, NgayHenTra="20261026090000", DanhSachHoSoBoSung=asked)
    newer = written(tmp_path, longer, longer, national())
    tally = await Import(writer, newer, KEYS, SEALS).run()
    assert (tally.taken, tally.appended, tally.already_here, tally.rejected) == (0, 1, 2, 0)
    assert await against_the_log(owner) == []
    row = await owner.fetchrow("SELECT * FROM dossier")
    assert (row["version"], row["status"], row["calendar"], row["supplements"]) == (6, 9, None, 1)
    assert row["due_at"].isoformat() == "2026-10-26T02:00:00+00:00", "the source's own, not counted here"
    assert row["finished_at"].isoformat() == "2026-10-14T01:00:00+00:00"
    assert row["outcome"] is None, "the source does not say"
    (pause,) = json.loads(row["pauses"])
    assert (pause["since"], pause["until"]) == ("2026-10-12T08:00:00+07:00", "2026-10-13T08:00:00+07:00")
    appended = await owner.fetch("SELECT * FROM event WHERE version > 3 ORDER BY version")
    assert [(event["bulk"], event["flags"], event["source"]) for event in appended] == [
        (False, ["by_import"], "import")
    ] * 3
    assert appended[0]["note"] == "Thiếu giấy tờ\n– Sổ"

    async def visible() -> bool:
        return bool((await house.lookup(f"/api/v1/dossiers/{path}"))[1]["status"] == "completed")

    await until(visible)


async def test_whole_history_at_once_gives_the_same_row_as_in_two_parts(
    writer: Any, owner: Any, tmp_path: Path
) -> None:
    """Every history of a sample, cut somewhere, and then whole; but pauses begun before the cut know no due date."""
    lines = [json.loads(line) for line in sample_file(tmp_path, 150).read_bytes().splitlines()]
    begun, whole = [], []
    for number, form in enumerate(lines):
        steps = form["TienTrinh"]
        cut = number % len(steps) + 1
        last = steps[cut - 1]["TrangThai"]
        dates = {
            "NgayTiepNhan": form["NgayTiepNhan"] if any(step["TrangThai"] == "2" for step in steps[:cut]) else "",
            "NgayKetThucXuLy": "",
            "NgayTra": "",
            "NgayTuChoi": "",
            "NgayHenTra": form["NgayHenTra"] if any(step["TrangThai"] == "2" for step in steps[:cut]) else "",
        }
        begun.append(form | dates | {"TienTrinh": steps[:cut], "TrangThaiHoSo": last})
        whole.append(form)
    await Import(writer, written(tmp_path, *begun, name="begun.ndjson"), KEYS, SEALS).run()
    path = written(tmp_path, *whole)
    tally = await Import(writer, path, KEYS, SEALS).run()
    cut_short = sum(len(b["TienTrinh"]) < len(w["TienTrinh"]) for b, w in zip(begun, whole, strict=True))
    assert details(path) == {}
    assert (tally.appended, tally.already_here, tally.taken) == (cut_short, 150 - cut_short, 0)
    assert await against_the_log(owner) == []
    in_parts = {row["code"]: row for row in await owner.fetch("SELECT * FROM dossier")}
    await owner.execute("TRUNCATE dossier, task, event, dossier_number, daily_sequence, import_run CASCADE")
    await Import(writer, path, KEYS, SEALS).run()
    for row in await owner.fetch("SELECT * FROM dossier"):
        twice = in_parts[row["code"]]
        for name in set(row.keys()) - {"pauses", "timeline"}:
            assert (name, twice[name]) == (name, row[name])


@pytest.mark.parametrize(
    ("statuses", "said"),
    [((10, 4), "move_not_allowed"), ((3, 2), "move_not_allowed")],
)
async def test_further_step_that_cannot_follow_is_refused_by_name(
    writer: Any, owner: Any, tmp_path: Path, statuses: tuple[int, int], said: str
) -> None:
    steps = [{"ThoiDiemXuLy": f"2026101{n}080000", "TrangThai": status} for n, status in enumerate(statuses)]
    await Import(
        writer,
        written(tmp_path, national(TrangThaiHoSo=statuses[0], TienTrinh=steps[:1]), name="first.ndjson"),
        KEYS,
        SEALS,
    ).run()
    before = await state(owner)
    path = written(tmp_path, national(TrangThaiHoSo=statuses[1], TienTrinh=steps))
    await Import(writer, path, KEYS, SEALS).run()
    assert rejects(path) == {1: "step_not_allowed"}
    assert said in details(path)[1]
    assert await state(owner) == before


async def test_status_without_a_time_is_no_step_and_a_later_one_is_appended(
    writer: Any, owner: Any, tmp_path: Path
) -> None:
    def line(**fields: Any) -> dict[str, Any]:
        return national(TienTrinh=None, **fields)

    async def imported(form: Any, name: str) -> ImportTally:
        path = written(tmp_path, form, form, name=name)
        tally = await Import(writer, path, KEYS, SEALS).run()
        assert details(path) == {}
        return tally

    async def stands() -> tuple[Any, ...]:
        assert await against_the_log(owner) == []
        row = await owner.fetchrow("SELECT * FROM dossier")
        return row["version"], row["status"], [step["status"] for step in json.loads(row["timeline"])], row["pauses"]

    tally = await imported(line(), "one.ndjson")
    assert (tally.taken, tally.already_here) == (1, 1)
    assert await stands() == (3, 4, ["submitted", "received"], "[]")
    tally = await imported(line(TrangThaiHoSo=6), "two.ndjson")
    assert (tally.appended, tally.already_here) == (1, 1)
    assert await stands() == (4, 6, ["submitted", "received"], "[]")
    tally = await imported(line(TrangThaiHoSo=9, NgayKetThucXuLy="20261020080000"), "three.ndjson")
    assert (tally.appended, tally.already_here) == (1, 1)
    assert await stands() == (5, 9, ["submitted", "received", "completed"], "[]")


async def test_status_without_a_time_that_the_stored_dossier_never_had_is_refused(writer: Any, tmp_path: Path) -> None:
    await Import(writer, written(tmp_path, national(), name="first.ndjson"), KEYS, SEALS).run()
    path = written(tmp_path, national(TienTrinh=None, TrangThaiHoSo=8), national(TienTrinh=None))
    tally = await Import(writer, path, KEYS, SEALS).run()
    assert rejects(path) == {1: "differs_from_stored"}
    assert tally.already_here == 1


async def test_imported_code_that_is_an_official_number_is_refused_and_the_lookup_stays(
    house: House, writer: Any, owner: Any, tmp_path: Path
) -> None:
    receipt = await house.receive()
    number = "01234/2026/99901"
    status, _ = await house.hand_in("PUT", f"/api/v1/dossiers/{receipt['code']}/official-number", {"number": number})
    assert status == 200
    path = written(tmp_path, national(MaHoSo=number), national())
    tally = await Import(writer, path, KEYS, SEALS).run()
    assert rejects(path) == {1: "number_taken"}
    assert (tally.taken, set(keys_of(path))) == (1, {"G99.01.02-261008-0975"})
    assert await owner.fetchval("SELECT count(*) FROM dossier WHERE code = $1", number) == 0


async def test_removed_dossier_stays_removed(house: House, writer: Any, owner: Any, tmp_path: Path) -> None:
    first = written(tmp_path, national(), name="first.ndjson")
    await Import(writer, first, KEYS, SEALS).run()
    await remove(owner, "G99.01.02-261008-0975")
    path = written(tmp_path, national())
    await Import(writer, path, KEYS, SEALS).run()
    assert rejects(path) == {1: "differs_from_stored"}
    assert details(path)[1].endswith("was removed")


# -- sequences ---------------------------------------------------------------------------------------------------------


async def sequences(connection: Any) -> dict[tuple[str, str], int]:
    rows = await connection.fetch("SELECT agency, day, last FROM daily_sequence")
    return {(row["agency"], f"{row['day']}"): row["last"] for row in rows}


async def test_import_raises_the_sequences_of_the_codes_it_brings(writer: Any, tmp_path: Path) -> None:
    codes_brought = [
        "G99.01.02-261008-0975",
        "G99.01.02-261008-0012",
        "G99.01.02-261007-0003",
        "00123/2026/99901",
        "0004567/2026/99901",
        "00009/2025/99901",
        "G77.01-261008-0100",  # of an agency that is not in the catalogue: nobody numbers for it here
        "G99.01.01-261008-1000000",
        "G99.01.01-261008-9999999999",
        "G99.01.01-261008-0007",
    ]
    path = written(tmp_path, *(national(MaHoSo=code) for code in codes_brought))
    tally = await Import(writer, path, KEYS, SEALS).run()
    assert (tally.taken, tally.not_raised) == (len(codes_brought), 2)
    expected = {
        ("G99.01.02", "2026-10-08"): 975,
        ("G99.01.02", "2026-10-07"): 3,
        ("99901", "2026-01-01"): 4567,
        ("99901", "2025-01-01"): 9,
        ("G99.01.01", "2026-10-08"): 7,
    }
    assert await sequences(writer) == expected
    await Import(writer, path, KEYS, SEALS).run()
    lower = written(tmp_path, national(MaHoSo="00122/2026/99901"), name="lower.ndjson")
    await Import(writer, lower, KEYS, SEALS).run()
    assert await sequences(writer) == expected


async def test_sequence_is_raised_with_the_dossiers_or_not_at_all(writer: Any, owner: Any, tmp_path: Path) -> None:
    await owner.execute("ALTER TABLE dossier ADD CONSTRAINT no_such_subject CHECK (subject NOT LIKE '%xyzzy%')")
    spoilt = national(MaHoSo="G99.01.02-261008-0999", TrichYeuHoSo="xyzzy")
    path = written(tmp_path, national(), spoilt)
    await Import(writer, path, KEYS, SEALS).run()
    assert rejects(path) == {2: "refused_by_database"}
    assert await sequences(writer) == {("G99.01.02", "2026-10-08"): 975}
