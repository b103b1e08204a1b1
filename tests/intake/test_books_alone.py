"""The verifier, the lost tail and imports over stand-ins for the servers, each of their branches in milliseconds."""

import hashlib
import json
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import asyncpg
import pytest

from intake.books import audit, lost_tail
from intake.books.audit import Tampering, verify
from intake.books.event import GENESIS, HASHED_COLUMNS, Event
from intake.bulk import loader
from intake.bulk.dialects import Refused, read_line
from intake.bulk.loader import Import, ImportTally
from intake.rules.workdays import CALENDAR
from lookup.cache import Cache, Entry, Heard, Read
from lookup.clock import VIETNAM
from lookup.dossier import Record, pack
from lookup.lookup_key import KeyRing
from lookup.status import Status
from tests.books import SEALS
from tests.conftest import KEY_SECRETS
from tests.intake.alone import NOW, Books
from tests.intake.test_dialects import CODE, line, national, plain

KEYS = KeyRing.from_text(KEY_SECRETS)
A, B = "G99.01.01-261130-0001", "G99.01.01-261130-0002"


@pytest.fixture
def stored() -> Books:
    return Books()


# -- the verifier ------------------------------------------------------------------------------------------------------


def chain(stored: Books, code: str, versions: int) -> list[dict[str, Any]]:
    """A dossier at this version with an event for each."""
    prev_hash = GENESIS
    for version in range(1, versions + 1):
        event = Event(
            code=code,
            version=version,
            kind="moved",
            status=4,
            occurred_at=NOW,
            recorded_at=NOW,
            agency="G99.01.01",
            department=None,
            actor="desk",
            source="desk",
            source_event_id=None,
        )
        *_, prev, own = event.row(1, prev_hash)
        stored.events.append({name: getattr(event, name) for name in HASHED_COLUMNS} | {"prev_hash": prev, "hash": own})
        prev_hash = own
    stored.dossiers[code] = {"code": code, "version": versions}
    return stored.events[-versions:]


async def found(stored: Books) -> list[tuple[str, str, int]]:
    return [(each.tampering.value, each.code, each.version) async for each in verify(stored)]


async def test_honest_log_is_read_page_by_page_and_nothing_is_found(
    stored: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "PAGE", 2)
    chain(stored, B, 3)
    chain(stored, A, 2)
    told: list[int] = []
    assert [each async for each in verify(stored, told.append)] == []
    assert told == [2, 4, 5]
    asked = [asked[1:] for asked in stored.asked if asked[0] == audit.EVENTS]
    assert asked == [("", 0, 2), (A, 2, 2), (B, 2, 2), (B, 3, 2)]
    asked = [asked[1:] for asked in stored.asked if asked[0] == audit.WITHOUT_FIRST_EVENT]
    assert asked == [("", 2), (B, 2)]


async def test_altered_event_is_named(stored: Books) -> None:
    chain(stored, A, 3)[1]["status"] = 9
    assert await found(stored) == [("altered", A, 2)]


@pytest.mark.parametrize(("version", "others"), [(1, []), (2, []), (3, []), (1, [2])])
async def test_removed_events_are_named_wherever_they_were(stored: Books, version: int, others: list[int]) -> None:
    chain(stored, A, 3)
    chain(stored, B, 1)
    gone = [version, *others]
    stored.tables["event"] = [e for e in stored.events if e["code"] != A or e["version"] not in gone]
    assert await found(stored) == [("removed", A, each) for each in gone]


async def test_dossier_without_any_event_is_named(stored: Books) -> None:
    chain(stored, A, 2)
    chain(stored, B, 1)
    stored.tables["event"] = [e for e in stored.events if e["code"] != A]
    (finding,) = [each async for each in verify(stored)]
    assert str(finding) == f"removed: event 1 of {A}: the dossier has no events"


async def test_events_after_the_last_version_are_named(stored: Books) -> None:
    chain(stored, A, 4)
    stored.dossiers[A]["version"] = 2
    assert await found(stored) == [("inserted", A, 3), ("inserted", A, 4)]
    stored.dossiers[A]["version"] = 6
    assert await found(stored) == [("removed", A, 5), ("removed", A, 6)]


async def test_events_of_no_dossier_are_named(stored: Books) -> None:
    chain(stored, A, 2)
    del stored.dossiers[A]
    (finding,) = [each async for each in verify(stored)]
    assert (finding.tampering, finding.version, finding.explanation) == (
        Tampering.INSERTED,
        2,
        "there is no such dossier",
    )


async def test_event_that_follows_another_one_is_named(stored: Books) -> None:
    """Its own hash is right for what it says it follows."""
    event = chain(stored, A, 2)[1]
    event["prev_hash"] = bytes(31) + b"1"
    event["hash"] = Event(**{name: event[name] for name in HASHED_COLUMNS}).hash_after(event["prev_hash"])
    assert await found(stored) == [("inserted", A, 2)]


# -- the lost tail -----------------------------------------------------------------------------------------------------


class Log:
    """The event log: ids of changes, highest assigned transaction id."""

    def __init__(self, *ids: str, assigned: int = 10**6) -> None:
        self.ids = {lost_tail._pair(each) for each in ids}
        self.assigned = assigned
        self.asked: list[tuple[Any, ...]] = []

    async def fetch(self, sql: str, /, *given: Any) -> list[Any]:
        self.asked.append((sql, *given))
        match sql:
            case lost_tail.IN_LOG:
                _, _, _, xids, seqs = given
                pairs = enumerate(zip(xids, seqs, strict=True), 1)
                return [{"n": n} for n, pair in pairs if pair in self.ids]
            case lost_tail.ID_IS_IN_USE:
                return [(given[0] < self.assigned,)]
        assert sql == lost_tail.NEWEST_UP_TO
        upto = [pair for pair in self.ids if pair <= (given[1], given[2])]
        return [dict(zip(("xid", "seq"), max(upto), strict=True))] if upto else []


class Stream:
    """The stream's entries, oldest first, and what Redis has of the dossiers."""

    def __init__(self, *entries: Heard, records: dict[str, Entry] | None = None) -> None:
        self.entries = entries
        self.records = records or {}
        self.asked: list[tuple[int, str, int]] = []

    async def before(self, epoch: int, entry_id: str, *, most: int) -> list[Heard]:
        self.asked.append((epoch, entry_id, most))
        ids = [entry.id for entry in self.entries]
        until = ids.index(entry_id) if entry_id else len(ids)
        return [*reversed(self.entries[:until])][:most]

    async def read(self, epoch: int, keys: Sequence[str]) -> Read:
        return Read([self.records.get(key.rpartition(":")[2]) for key in keys], 0, b"-")


def change(entry_id: str, code: str = A, number: str = "") -> Heard:
    return Heard(entry_id, "", code, 2, number)


def beat(entry_id: str, at: int = 1_763_800_000_000_000) -> Heard:
    return Heard(entry_id, "", at=at, stream_name=b"1-0")


async def tail(log: Log, *entries: Heard) -> lost_tail.LostTail:
    return await lost_tail.find(log, cast(Cache, Stream(*entries)), 3)


@pytest.mark.parametrize(
    ("log", "entries", "fault"),
    [
        (Log(), [], ""),
        (Log("5-1"), [change("5-1"), beat("6-0")], ""),
        (Log("5-1", "6-1"), [change("5-1"), beat("6-0")], ""),
        (Log("4-9"), [beat("5-0"), beat("6-0")], ""),
        (Log("5-1"), [beat("5-1"), beat("6-0")], ""),
        (Log("5-2"), [beat("5-1"), beat("6-0")], "passed without delivering"),
        (Log("5-1", "5-2"), [change("5-1"), beat("6-0")], "passed without delivering"),
        (Log("5-1", assigned=6), [change("5-1"), beat("6-0")], "has not assigned yet"),
        (Log("5-1", assigned=7), [change("5-1"), beat("6-0")], ""),
        (Log("4-1"), [change("4-1"), change("5-1")], "changes that the log does not have"),
    ],
)
async def test_fault_is_which_rule_the_log_breaks(log: Log, entries: list[Heard], fault: str) -> None:
    found = await tail(log, *entries)
    assert (fault in found.fault) if fault else found.fault == ""
    assert (found.epoch, found.last) == (3, entries[-1].id if entries else "")


async def test_lost_changes_are_searched_for_until_a_chunk_has_lost_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lost_tail, "CHUNK", 2)
    entries = [change("1-1"), change("2-1"), beat("3-0", at=33), beat("4-0", at=44), change("5-1"), change("6-1", B)]
    stream = Stream(*entries, beat("7-0", at=0))
    log = Log("1-1", "2-1", "5-1")
    found = await lost_tail.find(log, cast(Cache, stream), 3)
    assert ([each.id for each in found.changes], found.at, found.last) == (["6-1"], 44, "7-0")
    assert stream.asked == [(3, "", 2), (3, "6-1", 2)]
    assert log.asked[0] == (lost_tail.IN_LOG, 3, [B], [2], [6], [1])


async def test_search_ends_where_a_chunk_has_changes_and_lost_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lost_tail, "CHUNK", 1)
    stream = Stream(change("1-1"), change("2-1"), beat("3-0"))
    assert (await lost_tail.find(Log("1-1", "2-1"), cast(Cache, stream), 3)).fault == ""
    assert [before for _, before, _ in stream.asked] == ["", "3-0"]


@pytest.mark.parametrize(
    ("lost", "at", "said"),
    [
        (0, 0, "a fault; the stream ends with 9-0; no change is lost"),
        (1, 0, "a fault; the stream ends with 9-0; changes lost: 1 (0-1)"),
        (20, 0, "changes lost: 20 (0-1, 1-1, 2-1, 3-1"),
        (22, 0, "19-1 and 2 more)"),
        (1, 1_763_800_000_000_000, ", up to 2025-11-22 15:26:40; changes lost: 1"),
    ],
)
def test_alarm_names_twenty_entries_and_says_up_to_when(lost: int, at: int, said: str) -> None:
    found = lost_tail.LostTail(3, "9-0", at, [change(f"{n}-1") for n in range(lost)], "a fault")
    assert said in str(found)
    assert (" more)" in str(found)) is (lost > 20)
    assert "ends with nothing" in str(lost_tail.LostTail(3, "", 0, [], "a fault"))


async def test_lost_changes_are_told_with_what_redis_still_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lost_tail, "CHUNK", 2)
    record = Record(code=A, version=2, status=4, service="S.004", agency="G99.01", submitted_at=NOW)
    records = {A: Entry(2, 5, pack(record)), B: Entry(3, 5, pack(record))}
    changes = [change("1-1", A), change("2-1", B, number="01234/2026/99901"), change("3-1", CODE)]
    found = lost_tail.LostTail(3, "9-0", 0, changes, "a fault")
    told = [each async for each in lost_tail._told(cast(Cache, Stream(records=records)), found)]
    assert told == [
        lost_tail.LostChange(A, 2, "1-1", Status(4).slug, "G99.01", None),
        lost_tail.LostChange(B, 2, "2-1", None, None, "01234/2026/99901"),
        lost_tail.LostChange(CODE, 2, "3-1", None, None, None),
    ]
    assert [json.loads(each)["code"] for each in lost_tail.lines(told)] == [A, B, CODE]
    table, sentence = lost_tail.show(found, told)
    assert [column.justify for column in table.columns] == ["left", "right", "left", "left", "left", "left"]
    assert [*table.columns[2].cells] == [Status(4).slug, "–", "–"]
    assert sentence == f"Epoch 3: {found}."
    (well,) = lost_tail.show(lost_tail.LostTail(3, "9-0", 0, [], ""), [])
    assert well == "Epoch 3: the log goes on where the stream ends."


# -- imports -----------------------------------------------------------------------------------------------------------


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
    assert (row["version"], row["status"], row["service"], row["calendar"]) == (3, 4, "S.004", CALENDAR)
    assert (row["applicant_name"], row["applicant_id"], row["paused_at"]) == (
        "Nguyễn Văn Mẫu (hư cấu)",
        "999000000001",
        None,
    )
    assert [event["version"] for event in stored.events] == [1, 2, 3]
    assert [event["kind"] for event in stored.events] == ["received", "moved", "moved"]
    assert [event["actor"] for event in stored.events] == ["import", "import", "Cán bộ Mẫu"]
    assert {(event["source"], event["bulk"], event["epoch"]) for event in stored.events} == {("import", True, 3)}
    assert [finding async for finding in verify(stored)] == []
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
    assert (row["paused_at"].astimezone(VIETNAM).isoformat(), row["action_needed"]) == (
        "2026-10-09T10:00:00+07:00",
        "Bổ sung",
    )


async def test_every_line_is_counted_as_what_became_of_it(imports: Imports, stored: Books) -> None:
    stranger = numbered(2, DonViXuLy="G77.77")
    unknown = numbered(3, MaTTHC="S.777")
    odd = plain(steps=[{"at": "2026-10-08T08:30:00+07:00", "status": s} for s in ("received", "returned")])
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


async def test_stored_dossier_is_taken_once_and_a_longer_history_is_refused(imports: Imports, stored: Books) -> None:
    shorter = national()
    shorter["TienTrinh"] = shorter["TienTrinh"][:2]
    await imports.run(line(shorter | {"TrangThaiHoSo": 2}))
    stored.dossiers[CODE]["key_serial"] = 4
    again = await imports.run(line(shorter | {"TrangThaiHoSo": 2}))
    assert (again.tally.already_here, again.tally.taken, len(stored.events)) == (1, 0, 2)
    assert imports.lines_of(again.key_path)[0]["lookup_key"] == KEYS.key(read_line(line(national())).code, 4)
    longer = await imports.run(line(national()))
    assert longer.tally.reasons == {"differs_from_stored": 1}
    (refused,) = imports.lines_of(longer.reject_path)
    assert f"{CODE} is stored at version 2" in refused["detail"]


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
    ("content", "lines"),
    [
        (b"", []),
        (b"a\nb", [(b"a\n", 2), (b"b", 3)]),
        (b"1234\n5\n", [(b"1234\n", 5), (b"5\n", 7)]),
        (b"1234", [(b"1234", 4)]),
        (b"12345\n6\n", [(None, 6), (b"6\n", 8)]),
        (b"12345", [(None, 5)]),
        (b"123456789012\n6\n", [(None, 13), (b"6\n", 15)]),
    ],
)
def test_lines_are_told_apart_by_length(
    content: bytes, lines: list[tuple[bytes | None, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "LONGEST_LINE", 4)
    assert [*loader._lines(BytesIO(content), 0)] == lines
    assert [end for _, end in loader._lines(BytesIO(content), 70)] == [end + 70 for _, end in lines]


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
    one = loader._Outcome(1, 2, 3, [(4, refused)], [("a", "k")])
    both = one.plus(loader._Outcome(10, 20, 30, [(5, refused)], [("b", "l")]))
    assert (both.taken, both.already_here, both.irregular) == (11, 22, 33)
    assert (both.refused, both.keys) == ([(4, refused), (5, refused)], [("a", "k"), ("b", "l")])
    assert loader._Outcome() == loader._Outcome(0, 0, 0, [], [])


async def test_transactions_have_as_many_lines_as_the_last_one_left_time_for(
    imports: Imports, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter([1.0, 1.1, 0.0, 0.05, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0])
    monkeypatch.setattr(loader, "time", SimpleNamespace(perf_counter=lambda: next(seconds)))
    one = await imports.run(b"\n" * 300)
    assert imports.told == [(100, 0), (150, 0), (200, 0), (300, 0), (300, 0)]
    assert (one.reject_path.name, one.key_path.name) == (
        "dossiers.ndjson.rejected.ndjson",
        "dossiers.ndjson.keys.ndjson",
    )


async def test_why_a_line_is_refused_is_told_in_300_characters(imports: Imports) -> None:
    one = Import(imports.stored, imports.path, KEYS, SEALS)
    one._rejects = cast(Any, BytesIO())
    one._reject(1, Refused("not_json", "x" * 400))
    assert json.loads(cast(BytesIO, one._rejects).getvalue())["detail"] == "x" * 300
