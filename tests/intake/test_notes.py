"""An agency's note is shown to the holder, or not, by its status alone: moved, imported in either form, or a sample."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from intake.bulk.loader import Import
from intake.local import sample
from intake.rules.requests import action_needed
from lookup import code as codes
from lookup.lookup_key import KeyRing
from lookup.status import FIRST, MOVES, Status
from tests.books import SEALS
from tests.conftest import KEY_SECRETS
from tests.house import House

KEYS = KeyRing.from_text(KEY_SECRETS)
NOTE = "Nộp bản chính (hư cấu)"
SHOWN_AT = {Status.SUPPLEMENT_REQUIRED, Status.PAYMENT_REQUIRED}


def course(to: Status) -> list[Status]:
    """The shortest way a dossier comes to this status by the usual moves, from the first status to it."""
    courses = [[status] for status in sorted(FIRST)]
    for way in courses:
        if way[-1] is to:
            return way
        courses += [[*way, after] for after in MOVES[way[-1]] if after not in way]
    raise AssertionError(f"{to.slug} cannot be reached")


async def moved(house: House, to: Status) -> dict[str, Any]:
    """The receipt of a dossier moved to this status through the API, each move with a note."""
    first, *later = course(to)
    receipt = await house.receive(status=first.slug)
    for status in later:
        await house.move(receipt["code"], status.slug, note=NOTE)
    return receipt


async def imported(writer: Any, path: Path) -> dict[str, str]:
    """The dossiers of this file, imported; code → key."""
    tally = await Import(writer, path, KEYS, SEALS).run()
    assert tally.rejected == 0
    lines = path.with_name(path.name + ".keys.ndjson").read_text("utf-8").splitlines()
    return {each["code"]: each["lookup_key"] for each in map(json.loads, lines)}


def own_form(code: str, to: Status) -> dict[str, Any]:
    """A dossier of our own form that has come to this status, each step with a note."""
    return {
        "code": code,
        "agency": "G99.01.01",
        "service": "S.004",
        "submitted_at": "2026-10-08T08:30:00+07:00",
        "applicant": {"name": "Nguyễn Văn Mẫu (hư cấu)"},
        "steps": [
            {"at": f"2026-10-{8 + day:02}T09:00:00+07:00", "status": status.slug, "note": NOTE}
            for day, status in enumerate(course(to))
        ],
    }


def national_form(code: str, to: Status) -> dict[str, Any]:
    """The same in the national form."""
    return {
        "MaHoSo": code,
        "MaTTHC": "S.004",
        "DonViXuLy": "G99.01.01",
        "TrangThaiHoSo": to.value,
        "KenhThucHien": 2,
        "NgayNopHoSo": "20261008083000",
        "ChuHoSo": "Nguyễn Văn Mẫu (hư cấu)",
        "TienTrinh": [
            {"ThoiDiemXuLy": f"202610{8 + day:02}090000", "TrangThai": status.value, "NoiDungXuLy": NOTE}
            for day, status in enumerate(course(to))
        ],
    }


@pytest.mark.parametrize("status", Status)
def test_note_is_a_task_only_at_a_status_that_asks_for_something(status: Status) -> None:
    assert action_needed(status, NOTE) == (NOTE if status in SHOWN_AT else None)
    assert action_needed(status, None) is None
    assert status.asks is (status in SHOWN_AT)


async def test_note_is_shown_or_hidden_alike_whichever_way_the_dossier_came(
    house: House, writer: Any, tmp_path: Path
) -> None:
    path = tmp_path / "noted.ndjson"
    number = "G99.01.01-261008-{form}{status:03}".format
    lines = [own_form(number(form=1, status=status), status) for status in Status]
    lines += [national_form(number(form=2, status=status), status) for status in Status]
    path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in lines), "utf-8")
    keys = await imported(writer, path)
    for status in Status:
        receipt, length = await moved(house, status), len(course(status))
        opened = {receipt["code"]: receipt["lookup_key"]}
        opened |= {code: keys[code] for code in (number(form=1, status=status), number(form=2, status=status))}
        for code, key in opened.items():
            found, view = await house.lookup(f"/api/v1/dossiers/{code}?at_least={length}", **{"Hoso24-Key": key})
            shown = view["action_needed"] and view["action_needed"].partition("\n")[0]  # the list of papers follows
            expected = NOTE if status in SHOWN_AT else None
            assert (found, view["status"], shown) == (200, status.slug, expected), code


async def test_notes_of_sample_dossiers_are_shown_by_the_same_rule(writer: Any, tmp_path: Path) -> None:
    path = tmp_path / "sample.ndjson"
    sample.write(path, 2000, until=date(2026, 11, 20), days=30, broken=0.0)
    await imported(writer, path)
    seen = set()
    for line in path.read_text("utf-8").splitlines():
        form = json.loads(line)
        status, note = Status(int(form["TrangThaiHoSo"])), form["TienTrinh"][-1]["NoiDungXuLy"]
        row = await writer.fetchrow(
            "SELECT action_needed FROM dossier WHERE code = $1", codes.parse(form["MaHoSo"]).text
        )
        assert note
        assert row["action_needed"] == (note if status in SHOWN_AT else None), (form["MaHoSo"], status)
        seen.add(status)
    assert seen == set(Status)
