"""A file as it comes from elsewhere, each kind of dirt once: every line is in, or named with its number and reason."""

import gzip
import json
import os
import signal
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from intake.bulk.loader import Import
from intake.dialects import REASONS
from intake.local import sample
from lookup.lookup_key import KeyRing
from tests.books import SEALS
from tests.conftest import KEY_SECRETS, SEAL_KEYS, Database
from tests.intake.test_dialects import national, plain
from tests.intake.test_loader import against_the_log, rejects

KEYS = KeyRing.from_text(KEY_SECRETS)
TAKEN, HERE, APPENDED, BLANK = "taken", "already here", "appended", "blank"


def text(form: Any) -> str:
    return json.dumps(form, ensure_ascii=False)


def n(number: int) -> str:
    return f"G99.01.02-261008-{number:04d}"


def steps(*told: tuple[str, int]) -> list[dict[str, Any]]:
    """Entries of TienTrinh: the day of October with its hour, and the status."""
    return [{"ThoiDiemXuLy": f"202610{day}0000", "TrangThai": status} for day, status in told]


def own(number: int, *statuses: str, **of_the_last: str) -> str:
    """The plain form: every step at one time."""
    told: list[dict[str, str]] = [{"at": "2026-10-09T03:00:00Z", "status": status} for status in statuses]
    told[-1] |= of_the_last
    return text(plain(code=n(number), steps=told))


BACK, WORK, DONE = steps(("0909", 2), ("1009", 10)), steps(("1109", 4)), steps(("0909", 2), ("1009", 9))

DIRT: list[tuple[str, str]] = [
    (text(national(MaHoSo=n(1))), TAKEN),
    (text(national(MaHoSo=n(1))), HERE),
    ("", BLANK),
    ("  \t", BLANK),
    (text(national(MaHoSo=n(1), ChuHoSo="Trần Văn Khác (hư cấu)")), "differs_from_stored"),
    (text(national(MaHoSo=n(1), NgayHenTra="20261111090000")), "differs_from_stored"),
    (own(2, "received"), TAKEN),
    (own(2, "received", "completed"), APPENDED),
    (text(national(MaHoSo=n(3), TrangThaiHoSo=10, TienTrinh=BACK)), TAKEN),
    (text(national(MaHoSo=n(3), TrangThaiHoSo=4, TienTrinh=BACK + WORK)), "step_not_allowed"),
    (text(national(MaHoSo=n(4)))[:-40], "not_json"),
    ("PK\\x03 no JSON at all", "not_json"),
    ("[1, 2]", "wrong_shape"),
    ("{}", "unknown_form"),
    (text(national(MaHoSo=n(4)))[:-1] + ', "ChuHoSo": "Người khác"}', "repeated_key"),
    (text(national(MaHoSo=n(4), ChuHoSo="A\\u0000B")), "nul_character"),
    (text(national(MaHoSo=n(4), ChuHoSo="")), "wrong_shape"),
    (text(national(MaHoSo=n(4), ChuHoSo="   ")), "wrong_shape"),
    (text(plain(code=n(4), applicant={"name": "   "})), "unclear_text"),
    (text(plain(code=n(4), applicant={"name": "\u200b\u3164"})), "unclear_text"),
    (text(national(MaHoSo=n(4), ChuHoSo="Nguyễn \u202eVăn Mẫu")), "unclear_text"),
    (text(national(MaHoSo=n(4), ChuHoSo="x" * 301)), "unclear_text"),
    (text(national(MaHoSo="G99.01.02-261340-0001")), "malformed_code"),
    (text(national(MaHoSo=n(4), TrangThaiHoSo=11)), "unknown_status"),
    (text(national(MaHoSo=n(4), TrangThaiHoSo=9)), "history_disagrees"),
    (text(national(MaHoSo=n(4), DonViXuLy="G77")), "unknown_agency"),
    (own(4, "received", agency="G77"), "unknown_agency"),
    (text(national(MaHoSo=n(4), MaTTHC="1.001667")), "unknown_service"),
    (text(national(MaHoSo=n(4), NgayNopHoSo="2026-10-08")), "bad_date"),
    (text(national(MaHoSo=n(4), TrangThaiHoSo=9, TienTrinh=[])), "bad_date"),
    (text(national(MaHoSo=n(4), TienTrinh=steps(("1209", 2), ("0909", 4)))), "dates_out_of_order"),
    (text(national(MaHoSo=n(4), NgayTiepNhan="20241008090000")), "dates_out_of_order"),
    (text(national(MaHoSo=n(4), NgayHenTra="20261001090000")), "dates_out_of_order"),
    (text(national(MaHoSo=n(4), NgayNopHoSo="20270101090000", NgayTiepNhan="", NgayHenTra="")), "dates_out_of_order"),
    (text(national(TrangThaiHoSo=9, TienTrinh=DONE, NgayKetThucXuLy="20200101000000")), "dates_out_of_order"),
    (text(national(TrangThaiHoSo=9, TienTrinh=DONE, NgayKetThucXuLy="20980101000000")), "date_in_future"),
    (text(national(MaHoSo=n(4), TienTrinh=[{"ThoiDiemXuLy": "20980101000000", "TrangThai": 4}])), "date_in_future"),
    (text(national(MaHoSo=n(4), TrangThaiHoSo=1, TienTrinh=BACK + steps(("1109", 1)))), "impossible_history"),
    (text(national(MaHoSo=n(5), SoDienThoai=900000001, NgayNopHoSo=20261008083000, Email=[])), TAKEN),
    (unicodedata.normalize("NFD", text(national(MaHoSo=n(6), ChuHoSo="ễ" * 300))), TAKEN),
    (text(national(MaHoSo=n(7), TienTrinh=None)), TAKEN),
    (text(national(MaHoSo=n(8), TrangThaiHoSo=9, TienTrinh=steps(("0909", 1), ("1009", 9)))), TAKEN),  # irregular
    (text(national(MaHoSo="G99.01.02-261008-9999999999")), TAKEN),
    (text(national(MaHoSo=n(9)) | {"TrichYeuHoSo": "y" * (1 << 20)}), "line_too_long"),
]  # fmt: skip
LATIN = (text(national(MaHoSo=n(10))).encode("utf-8").replace("ễ".encode(), b"\xea\xde"), "not_utf8")

SAVED: dict[str, Callable[[list[bytes]], bytes]] = {
    "plain": lambda lines: b"\n".join([*lines, b""]),
    "BOM and CRLF, no end": lambda lines: b"\xef\xbb\xbf" + b"\r\n".join(lines),
    "gzip": lambda lines: gzip.compress(b"\n".join(lines)),
}


@pytest.mark.parametrize("saved", SAVED.values(), ids=SAVED)
async def test_every_line_of_a_dirty_file_is_in_or_named(
    writer: Any, owner: Any, tmp_path: Path, saved: Callable[[list[bytes]], bytes]
) -> None:
    lines = [(line.encode(), became) for line, became in DIRT] + [LATIN]
    path = tmp_path / "dirty.ndjson"
    path.write_bytes(saved([line for line, _ in lines]))
    tally = await Import(writer, path, KEYS, SEALS).run()
    named = {number: became for number, (_, became) in enumerate(lines, 1) if became in REASONS}
    assert rejects(path) == named
    became = [outcome for _, outcome in lines]
    assert (tally.taken, tally.already_here, tally.appended, tally.blank) == (
        became.count(TAKEN),
        became.count(HERE),
        became.count(APPENDED),
        became.count(BLANK),
    )
    assert (tally.irregular, tally.not_raised) == (2, 1)
    assert await against_the_log(owner) == []
    never = {"number_taken", "refused_by_database"}  # those need a database that holds something already
    assert set(named.values()) == set(REASONS) - never


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
@pytest.mark.parametrize("array", [False, True])
async def test_dirty_file_in_utf_16_and_as_one_array(writer: Any, tmp_path: Path, encoding: str, array: bool) -> None:
    lines = [(line, became) for line, became in DIRT if became not in {"not_json", BLANK}]
    told = ",\n".join(line for line, _ in lines)
    path = tmp_path / "dirty.json"
    path.write_bytes((f"[{told}]\n" if array else told.replace(",\n{", "\n{").replace(",\n[", "\n[")).encode(encoding))
    await Import(writer, path, KEYS, SEALS).run()
    assert rejects(path) == {number: became for number, (_, became) in enumerate(lines, 1) if became in REASONS}


@pytest.mark.servers
async def test_killed_import_goes_on_and_counts_right(
    database: Database, writer: Any, owner: Any, tmp_path: Path
) -> None:
    path = tmp_path / "dossiers.ndjson"
    sample.write(path, 3000, until=date(2026, 11, 20), days=30, broken=0.1)
    broken = len(sample.plan_breaks(3000, 0.1))
    environ = os.environ | {
        "HOSO24_PG_WRITER_URL": database.writer_url,
        "HOSO24_LOOKUP_KEY_SECRETS": KEY_SECRETS,
        "HOSO24_SEAL_KEYS": SEAL_KEYS,
    }
    command = [sys.executable, "-m", "hoso24", "import", str(path)]
    with subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL) as process:  # noqa: ASYNC220
        while (await owner.fetchval("SELECT coalesce(max(rejected), 0) FROM import_run")) < 10:
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    run = await owner.fetchrow("SELECT * FROM import_run")
    assert run["finished_at"] is None
    assert sum(json.loads(run["reasons"]).values()) == run["rejected"] < broken
    tally = await Import(writer, path, KEYS, SEALS).run()
    assert (tally.taken, tally.already_here, tally.rejected) == (3000 - broken, 0, broken)
    assert sum(tally.reasons.values()) == broken == len(rejects(path))
    run = await owner.fetchrow("SELECT * FROM import_run")
    assert json.loads(run["reasons"]) == tally.reasons
    assert run["finished_at"] is not None
