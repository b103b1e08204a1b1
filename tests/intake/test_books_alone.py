"""The lost tail over stand-ins for the servers, each of its branches in milliseconds."""

import json
from collections.abc import Sequence
from typing import Any, cast

import pytest

from intake.books import lost_tail
from lookup.cache import Cache, Entry, Heard, Read
from lookup.dossier import Record, pack
from lookup.lookup_key import KeyRing
from lookup.status import Status
from tests.conftest import KEY_SECRETS
from tests.intake.alone import NOW, Books
from tests.intake.test_dialects import CODE

KEYS = KeyRing.from_text(KEY_SECRETS)
A, B = "G99.01.01-261130-0001", "G99.01.01-261130-0002"


@pytest.fixture
def stored() -> Books:
    return Books()


# -- the lost tail -----------------------------------------------------------------------------------------------------


class Log:
    """The event log: ids of changes, highest assigned transaction id."""

    def __init__(self, *ids: str, assigned: int = 10**6) -> None:
        self.ids = {lost_tail.pair(each) for each in ids}
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
