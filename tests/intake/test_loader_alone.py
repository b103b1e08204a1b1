"""Imports over a stand-in for the database, each of their branches in milliseconds."""

import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import date
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import asyncpg
import pytest

from intake.books.fold import differences, folded
from intake.books.seal import HASHED_COLUMNS, ROW_COLUMNS, EventRecord
from intake.bulk import loader
from intake.bulk.loader import Import, ImportTally
from intake.dialects import Refused, read_line
from intake.local import sample
from lookup.lookup_key import KeyRing
from tests.books import SEALS
from tests.conftest import KEY_SECRETS
from tests.intake.alone import Books
from tests.intake.test_dialects import CODE, line, national, plain

KEYS = KeyRing.from_text(KEY_SECRETS)


@pytest.fixture
def stored() -> Books:
    return Books()


class Imports:
    """Imports of one file into these books."""

    def __init__(self, stored: Books, path: Path) -> None:
        self.stored, self.path = stored, path
        self.told: list[tuple[int, int]] = []

    async def run(self, *lines: bytes, progress: Callable[[ImportTally], None] | None = None) -> Import:
        if lines:
            self.path.write_bytes(b"".join(lines))
        one = Import(self.stored, self.path, KEYS, SEALS, progress or self._tell)
        assert await one.run() is one.tally
        return one

    def _tell(self, tally: ImportTally) -> None:
        self.told.append((tally.line, tally.taken))

    def lines_of(self, path: Path) -> list[Any]:
        return [json.loads(each) for each in path.read_bytes().splitlines()]


@pytest.fixture
def imports(stored: Books, tmp_path: Path) -> Imports:
    return Imports(stored, tmp_path / "dossiers.ndjson")


def counted(tally: ImportTally) -> dict[str, int]:
    names = ("line", "taken", "already_here", "rejected", "blank", "irregular")
    return {name: getattr(tally, name) for name in names}


def numbered(n: int, **fields: Any) -> bytes:
    return line(national(MaHoSo=f"G99.01.02-261008-{n:04d}", **fields))


async def test_line_is_a_row_its_events_and_a_key(imports: Imports, stored: Books) -> None:
    one = await imports.run(line(national()))
    assert counted(one.tally) == {
        "line": 1,
        "taken": 1,
        "already_here": 0,
        "rejected": 0,
        "blank": 0,
        "irregular": 0,
    }
    row = stored.dossiers[CODE]
    assert (row["version"], row["status"], row["service"], row["calendar"]) == (3, 4, "S.004", None)
    assert (row["applicant_name"], row["applicant_id"]) == ("Nguyễn Văn Mẫu (hư cấu)", "999000000001")
    assert stored.tables["day"] == {("G99.01.02", date(2026, 10, 8)): 975}
    assert [event["version"] for event in stored.events] == [1, 2, 3]
    assert [event["kind"] for event in stored.events] == ["received", "moved", "moved"]
    assert [event["actor"] for event in stored.events] == ["import", "import", "Cán bộ Mẫu"]
    assert {(event["source"], event["bulk"], event["epoch"]) for event in stored.events} == {("import", True, 3)}
    assert differences(row, folded(stored.events)) == []
    key = KEYS.key(read_line(line(national())).code, 0)
    assert imports.lines_of(one.key_path) == [{"code": CODE, "lookup_key": key}]
    assert (one.key_path.stat().st_mode & 0o777, one.reject_path.read_bytes()) == (0o600, b"")


async def test_paused_dossier_was_paused_by_its_last_step(imports: Imports, stored: Books) -> None:
    steps = [
        {"at": "2026-10-08T08:30:00+07:00", "status": "received"},
        {"at": "2026-10-09T10:00:00+07:00", "status": "supplement_required", "note": "Bổ sung"},
    ]
    await imports.run(line(plain(steps=steps)))
    row = stored.dossiers[CODE]
    (pause,) = json.loads(row["pauses"])
    assert (pause["since"], pause["until"], pause["policy"], pause["due_before"]) == (
        "2026-10-09T10:00:00+07:00",
        None,
        "restart",
        "2026-10-22T09:00:00+07:00",
    )
    assert (row["action_needed"], row["supplements"]) == ("Bổ sung", 1)


async def test_every_line_is_counted_as_what_became_of_it(imports: Imports, stored: Books) -> None:
    stranger = numbered(2, DonViXuLy="G77.77")
    unknown = numbered(3, MaTTHC="S.777")
    at = "2026-10-08T08:30:00+07:00"
    odd = plain(received_at=at, steps=[{"at": at, "status": status} for status in ("received", "returned")])
    lines = [numbered(1), b" \n", stranger, unknown, b"{\n", line(odd), numbered(1), b"x" * (1 << 20) + b"y\n"]
    one = await imports.run(*lines)
    assert counted(one.tally) == {
        "line": 8,
        "taken": 2,
        "already_here": 1,
        "rejected": 4,
        "blank": 1,
        "irregular": 1,
    }
    assert one.tally.reasons == {"unknown_agency": 1, "unknown_service": 1, "not_json": 1, "line_too_long": 1}
    assert one.tally.position == imports.path.stat().st_size
    refused = imports.lines_of(one.reject_path)
    assert [(each["line"], each["reason"]) for each in refused] == [
        (3, "unknown_agency"),
        (4, "unknown_service"),
        (5, "not_json"),
        (8, "line_too_long"),
    ]
    assert refused[0]["detail"] == "there is no agency G77.77"
    assert len(imports.lines_of(one.key_path)) == 3
    assert imports.told == [(8, 2)]


async def test_stored_dossier_is_taken_once_and_a_longer_history_is_appended(imports: Imports, stored: Books) -> None:
    shorter = national()
    shorter["TienTrinh"] = shorter["TienTrinh"][:2]
    await imports.run(line(shorter | {"TrangThaiHoSo": 2}))
    stored.dossiers[CODE]["key_serial"] = 4
    again = await imports.run(line(shorter | {"TrangThaiHoSo": 2}))
    assert (again.tally.already_here, again.tally.taken, len(stored.events)) == (1, 0, 2)
    assert imports.lines_of(again.key_path)[0]["lookup_key"] == KEYS.key(read_line(line(national())).code, 4)
    longer = await imports.run(line(national()))
    assert (longer.tally.appended, longer.tally.reasons) == (1, {})
    assert [event["bulk"] for event in stored.events] == [True, True, False]
    assert (stored.dossiers[CODE]["version"], stored.dossiers[CODE]["status"]) == (3, 4)
    other = await imports.run(line(national(ChuHoSo="Trần Văn Khác (hư cấu)")))
    (refused,) = imports.lines_of(other.reject_path)
    assert refused["detail"] == f"{CODE} is stored with another applicant or subject"
    assert other.key_path.read_bytes() == b""


class Broken(asyncpg.CheckViolationError):  # type: ignore[misc]
    """A rule of the database was broken."""

    def __init__(self, name: str | None) -> None:
        super().__init__("it is too long")
        self.constraint_name = name


@pytest.mark.parametrize(("name", "told"), [("a_rule", "a_rule"), (None, "it is too long")])
async def test_line_the_database_refuses_spoils_no_other(
    imports: Imports, stored: Books, name: str | None, told: str
) -> None:
    copy_records = stored.copy_records_to_table

    async def but_the_third(table: str, *, columns: Sequence[str], records: Any) -> None:
        if any("G99.01.02-261008-0003" in record for record in records) and table == "dossier":
            raise Broken(name)
        await copy_records(table, columns=columns, records=records)

    stored.copy_records_to_table = but_the_third  # type: ignore[method-assign]
    one = await imports.run(*(numbered(n) for n in range(1, 6)))
    assert (one.tally.taken, one.tally.reasons) == (4, {"refused_by_database": 1})
    assert imports.lines_of(one.reject_path) == [{"line": 3, "reason": "refused_by_database", "detail": told}]
    assert len(imports.lines_of(one.key_path)) == len(stored.dossiers) == 4
    (run,) = stored.tables["run"].values()
    assert (run["taken"], run["rejected"], run["finished"]) == (4, 1, True)


class Interrupted(Exception):
    """Ends an import after one of its commits."""


def interrupt(_: ImportTally) -> None:
    raise Interrupted


async def test_interrupted_import_goes_on_after_its_last_commit(imports: Imports, stored: Books) -> None:
    lines = [numbered(n) for n in range(1, 131)]
    lines[1] = lines[120] = b"{\n"
    with pytest.raises(Interrupted):
        await imports.run(*lines, progress=interrupt)
    (run,) = stored.tables["run"].values()
    assert (run["name"], run["line"], run["taken"], run["rejected"]) == ("dossiers.ndjson", 100, 99, 1)
    assert run["position"] == len(b"".join(lines[:100]))
    one = Import(stored, imports.path, KEYS, SEALS)
    with one.reject_path.open("ab") as file:
        file.write(b'{"line": 999, "reason": "never committed"}\n')
    await one.run()
    assert (one.tally.line, one.tally.taken, one.tally.already_here, one.tally.reasons) == (
        130,
        128,
        0,
        {"not_json": 2},
    )
    assert [each["line"] for each in imports.lines_of(one.reject_path)] == [2, 121]
    assert len(imports.lines_of(one.key_path)) == 128


@pytest.mark.parametrize("spoilt", ["rejects", "keys", "another"])
async def test_import_whose_files_are_not_its_own_begins_anew(imports: Imports, stored: Books, spoilt: str) -> None:
    lines = [numbered(n) for n in range(1, 131)]
    lines[1] = b"{\n"
    with pytest.raises(Interrupted):
        await imports.run(*lines, progress=interrupt)
    one = Import(stored, imports.path, KEYS, SEALS)
    if spoilt == "another":
        one.reject_path.write_bytes(b"no JSON at all, and longer than what was written before" * 9)
    else:
        path = one.reject_path if spoilt == "rejects" else one.key_path
        path.write_bytes(path.read_bytes()[:-1])
    await one.run()
    assert (one.tally.already_here, one.tally.taken, one.tally.rejected) == (99, 30, 1)
    assert len(imports.lines_of(one.key_path)) == 129


def test_file_is_known_by_its_size_and_first_64_kib() -> None:
    content = bytes(range(256)) * 300
    expected = hashlib.sha256(len(content).to_bytes(8) + content[: 1 << 16]).digest()
    file = BytesIO(content)
    file.seek(77)
    assert loader._fingerprint(file) == expected
    assert loader._fingerprint(BytesIO(content[:-1] + b"x")) == expected


@pytest.mark.parametrize(
    ("content", "length", "reasons"),
    [
        (b"", 0, {}),
        (b'{"reason": "a"}\n{"reason": "b"}\n{"reason": "a"}\n', 32, {"a": 1, "b": 1}),
        (b'{"reason": "a"}\n{"reason": "b"}\n{"reason": "a"}\n', 48, {"a": 2, "b": 1}),
        (b'{"reason": "a"}\nno JSON\n', 20, {}),
    ],
)
def test_reasons_are_counted_in_what_was_committed(
    tmp_path: Path, content: bytes, length: int, reasons: dict[str, int]
) -> None:
    path = tmp_path / "rejected"
    path.write_bytes(content)
    assert loader._reasons_in(path, length) == reasons
    assert loader._size(path) == len(content)
    assert loader._size(tmp_path / "absent") == 0


def test_outcomes_of_two_halves_add_up() -> None:
    refused = cast(Any, SimpleNamespace())
    day, other = ("A", date(2026, 1, 1)), ("A", date(2026, 1, 2))
    one = loader._Outcome(1, 2, 3, 4, 5, [(4, refused)], [("a", "k")], {day: 3})
    both = one.plus(loader._Outcome(10, 20, 30, 40, 50, [(5, refused)], [("b", "l")], {day: 2, other: 1}))
    assert (both.taken, both.appended, both.already_here, both.irregular, both.not_raised) == (11, 22, 33, 44, 55)
    assert (both.refused, both.keys) == ([(4, refused), (5, refused)], [("a", "k"), ("b", "l")])
    assert both.raised == {day: 3, other: 1}


async def test_transactions_have_as_many_lines_as_the_last_but_one_left_time_for(
    imports: Imports, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines of the next one are read meanwhile."""
    seconds = iter([1.0, 1.1, 0.0, 0.05, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0])
    monkeypatch.setattr(loader, "time", SimpleNamespace(perf_counter=lambda: next(seconds)))
    one = await imports.run(b"\n" * 300)
    assert imports.told == [(100, 0), (200, 0), (250, 0), (300, 0), (300, 0)]
    assert (one.reject_path.name, one.key_path.name) == (
        "dossiers.ndjson.rejected.ndjson",
        "dossiers.ndjson.keys.ndjson",
    )


async def test_why_a_line_is_refused_is_told_in_300_characters(imports: Imports) -> None:
    one = Import(imports.stored, imports.path, KEYS, SEALS)
    one._rejects = cast(Any, BytesIO())
    one._reject(1, Refused("not_json", "x" * 400))
    assert json.loads(cast(BytesIO, one._rejects).getvalue())["detail"] == "x" * 300


async def test_rows_of_an_import_are_those_of_event_records(imports: Imports, stored: Books, tmp_path: Path) -> None:
    sample.write(imports.path, 300, until=date(2026, 11, 20), days=30)
    await imports.run()
    assert len(stored.dossiers) == 300
    for event in stored.events:
        record = EventRecord(**{name: event[name] for name in HASHED_COLUMNS})
        assert record.row(event["salt"], SEALS) == tuple(event[name] for name in ROW_COLUMNS)
        assert event["salt"] != stored.events[0]["salt"] or event is stored.events[0]
