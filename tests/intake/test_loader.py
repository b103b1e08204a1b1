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

from intake.books import audit
from intake.bulk.dialects import REASONS
from intake.bulk.loader import LONGEST_LINE, Import, ImportTally, _fingerprint, _next_size
from intake.local import sample
from lookup import code as codes
from lookup.lookup_key import KeyRing
from tests.conftest import KEY_SECRETS, Database
from tests.house import House, until
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
    """Whether every line is in one of the four, and every rejected one has a reason."""
    lines = tally.taken + tally.already_here + tally.rejected + tally.blank
    return tally.line == lines and tally.blank >= 0 and sum(tally.reasons.values()) == tally.rejected


async def state(connection: Any) -> list[Any]:
    """Everything an import could have changed, but for when."""
    return [
        await connection.fetch("SELECT * FROM dossier ORDER BY code"),
        await connection.fetch("SELECT code, version, hash FROM event ORDER BY code, version"),
    ]


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
    tally = await Import(writer, path, KEYS).run()
    assert rejects(path) == {line: REASON[kind] for line, kind in breaks.items()}
    assert (tally.line, tally.taken, tally.rejected) == (2000, 2000 - len(breaks), len(breaks))
    assert await writer.fetchval("SELECT count(*) FROM dossier") == tally.taken


async def test_stored_dossier_is_what_the_line_says(writer: Any, tmp_path: Path) -> None:
    path = sample_file(tmp_path, 50)
    await Import(writer, path, KEYS).run()
    for line in path.read_bytes().splitlines():
        form = json.loads(line)
        row = await writer.fetchrow("SELECT * FROM dossier WHERE code = $1", codes.parse(form["MaHoSo"]).text)
        assert row["status"] == int(form["TrangThaiHoSo"])
        assert row["version"] == len(form["TienTrinh"])
        assert row["applicant_name"] == form["ChuHoSo"]
        assert len(json.loads(row["timeline"])) == row["version"]
        officers = {entry["NguoiXuLy"] for entry in form["TienTrinh"] if entry["NguoiXuLy"] != "Hệ thống"}
        assert not [name for name in officers if name in row["timeline"]]


async def test_importing_twice_changes_nothing(writer: Any, tmp_path: Path) -> None:
    path = sample_file(tmp_path, 600, broken=0.02)
    first = await Import(writer, path, KEYS).run()
    before, refused, keys = await state(writer), rejects(path), path.with_name(path.name + ".keys.ndjson").read_bytes()
    again = await Import(writer, path, KEYS).run()
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
        await Import(interrupted, path, KEYS, interrupt).run()
    half = await writer.fetchval("SELECT count(*) FROM dossier")
    assert 0 < half < 1100
    with path.with_name(path.name + ".rejected.ndjson").open("ab") as leftover:
        leftover.write(b'{"line": 999, "reason": "written but never committed"}\n')

    tally = await Import(writer, path, KEYS).run()
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
        await Import(writer, path, KEYS, interrupt).run()
    path.with_name(path.name + ".rejected.ndjson").write_bytes(other)
    tally = await Import(writer, path, KEYS).run()
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

    tally = await Import(writer, path, KEYS, tell).run()
    assert len(told) > 2
    assert all(adds_up(each) for each in told)
    assert [each.line for each in told] == sorted(each.line for each in told)
    assert told[-1] == tally
    assert (tally.line, tally.blank, tally.position) == (605, 5, path.stat().st_size)
    run = await writer.fetchrow("SELECT position, line, taken, already_here, rejected, finished_at FROM import_run")
    assert tuple(run)[:-1] == (tally.position, tally.line, tally.taken, tally.already_here, tally.rejected)
    assert run["finished_at"] is not None


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
        (national(MaHoSo=a, TienTrinh=[*national()["TienTrinh"], longer]), "differs_from_stored"),
        (plain(code=b, steps=[*plain()["steps"], at | {"status": "completed"}]), "differs_from_stored"),
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
    tally = await Import(writer, path, KEYS).run()

    became = Counter(outcome for _, outcome in lines)
    refused = {n: outcome for n, (_, outcome) in enumerate(lines, start=1) if outcome in REASONS}
    assert (tally.taken, tally.already_here, tally.blank) == (became["taken"], became["already here"], became["blank"])
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
    await Import(writer, path, KEYS).run()
    assert serials_of(path) == dict.fromkeys(serials, 0)

    for code, serial in serials.items():
        await owner.execute("UPDATE dossier SET key_serial = $2 WHERE code = $1", code, serial)
    again = path.rename(tmp_path / "again.ndjson")
    await Import(writer, again, KEYS).run()
    assert serials_of(again) == serials


async def test_keys_of_the_key_file_open_the_dossiers(house: House, writer: Any, tmp_path: Path) -> None:
    path = sample_file(tmp_path, 20)
    await Import(writer, path, KEYS).run()
    key_file = path.with_name(path.name + ".keys.ndjson")
    assert key_file.stat().st_mode & 0o777 == 0o600
    for line in key_file.read_bytes().splitlines():
        each = json.loads(line)
        status, view = await house.lookup(
            f"/api/v1/dossiers/{codes.parse(each['code']).path}", **{"Hoso24-Key": each["lookup_key"]}
        )
        assert status == 200
        assert view["timeline"]


async def test_imported_history_verifies(writer: Any, tmp_path: Path) -> None:
    await Import(writer, sample_file(tmp_path, 300), KEYS).run()
    assert [finding async for finding in audit.verify(writer)] == []


async def test_imported_events_are_bulk_and_imported_dossiers_can_be_moved(
    house: House, writer: Any, tmp_path: Path
) -> None:
    await Import(writer, sample_file(tmp_path, 100), KEYS).run()
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
    assert [finding async for finding in audit.verify(writer)] == []


async def test_live_changes_are_seen_while_an_import_runs(database: Database, house: House, tmp_path: Path) -> None:
    path = sample_file(tmp_path, 3000)
    receipt = await house.receive()
    connection = await asyncpg.connect(database.writer_url)
    importing = asyncio.create_task(Import(connection, path, KEYS).run())
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
    tally = await Import(writer, path, KEYS).run()
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
    tally = await Import(writer, path, KEYS).run()
    assert (tally.taken, rejects(path)) == (199, {101: "refused_by_database"})


async def test_longer_history_of_a_stored_dossier_is_refused(writer: Any, tmp_path: Path) -> None:
    path = sample_file(tmp_path, 30)
    await Import(writer, path, KEYS).run()
    form = json.loads(path.read_bytes().splitlines()[3])
    form["TienTrinh"] += [form["TienTrinh"][-1]]
    longer = tmp_path / "longer.ndjson"
    longer.write_text(json.dumps(form, ensure_ascii=False))
    await Import(writer, longer, KEYS).run()
    assert rejects(longer) == {1: "differs_from_stored"}


async def test_lines_of_any_length_are_told_apart(writer: Any, tmp_path: Path) -> None:
    good = sample_file(tmp_path, 3).read_bytes().splitlines()
    path = tmp_path / "long.ndjson"
    path.write_bytes(
        b"\n".join(
            [good[0], b"x" * (5 * LONGEST_LINE), good[1], b"", b"x" * LONGEST_LINE, good[2], b"y" * (2 * LONGEST_LINE)]
        )
    )
    tally = await Import(writer, path, KEYS).run()
    assert (tally.taken, tally.line) == (3, 7)
    assert rejects(path) == {2: "line_too_long", 5: "not_json", 7: "line_too_long"}
