"""The fold: rows that a small dossier office writes beside its events are what the events alone say."""

import json
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intake.books.fold import (
    AFTER_IMAGE,
    ERASED,
    FIRST_IMAGE,
    FOLDED_COLUMNS,
    NOT_IN_TIMELINE,
    DoesNotFollow,
    differences,
    folded,
    steps,
)
from intake.books.seal import CONTENT_COLUMNS, HASHED_COLUMNS, jsonb_text
from lookup.clock import VIETNAM
from lookup.status import Status

START = datetime(2026, 11, 16, 1, tzinfo=UTC)


class Office:
    """Keeps one dossier as an office would: it changes its row by what happens, and writes an event beside it."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.now = START
        self.events: list[dict[str, Any]] = []
        self.row: dict[str, Any] = dict.fromkeys(FOLDED_COLUMNS)
        self.row |= {"code": "G99.01-261116-0001", "version": 0, "pauses": "[]", "timeline": [], "removed": False}
        self.row |= {"supplements": 0, "reappointments": 0, "key_serial": 0}

    def receive(self, **special: Any) -> None:
        self.row |= {"status": 2, "agency": "G99.01", "origin": "G99.01", "submitted_by": "client-a"}
        self.row |= {"service": "S.001", "service_case": "default", "channel": "direct", "submitted_at": self.now}
        self.row |= {"received_at": self.now, "due_at": self.now + timedelta(days=14), "calendar": "vn-2026"}
        first = {name: self.row[name] for name in (*FIRST_IMAGE, "submitted_by")}
        self._write("received", {}, special | first, department="Một cửa")

    def something(self) -> None:
        """One of the things that may happen."""
        happens = [
            *(self.move, self.move, self.move, self.note, self.number, self.correct, self.key, self.owner),
            *(self.due, self.lead, self.task, self.task_ends, self.paper, self.unheard_of),
        ]
        self.random.choice(happens)()

    def move(self) -> None:
        status = self.random.choice(list(Status))
        note = self.random.choice([None, "Bổ sung bản sao", "Lý do"])
        full = self.random.random() < 0.2
        self.row["status"] = status.value
        self.row["agency"] = self.random.choice(["G99.01", "G99.02"])
        outcome = self.row["outcome"]
        self.row["outcome"] = self.random.choice(["granted", "refused"]) if status in {9, 10} else None
        if status in {9, 10}:
            self.row["finished_at"] = self.now
        if status == 5:
            self.row["supplements"] += 1
        pauses = None
        if status in {5, 6, 8}:
            pauses = self.row["pauses"] = jsonb_text([{"status": status.value, "since": str(self.now)}])
        self.row["action_needed"] = note if status in {5, 6} else None
        if status in {3, 7, 8}:
            self.row["reason"] = note
        elif self.row["outcome"] == "refused":
            self.row["reason"] = note or (self.row["reason"] if outcome == "refused" else None)
        else:
            self.row["reason"] = None
        flags = [NOT_IN_TIMELINE] if full else self.random.choice([None, [], ["by_import"]])
        special = {"note": note, "flags": flags, "pauses": pauses, "source_seq": self.random.choice([None, 7, 8])}
        self._write("moved", None if full else {}, special, department=self.random.choice([None, "Phòng A"]))
        if special["source_seq"] is not None:
            self.row["source_seq"] = special["source_seq"]

    def note(self) -> None:
        step = {"late": True, "status": "processing"}
        self._write("noted", step, {"step_status": 4, "source_seq": 3, "note": "told late", "flags": ["late"]})

    def number(self) -> None:
        self.row["official_number"] = f"{self.random.randrange(99_999):05d}/2026/99901"
        self._write("number_bound", None, {"official_number": self.row["official_number"]})

    def correct(self) -> None:
        self.row["service"] = self.random.choice(["S.001", "S.002"])
        self.row["submitted_at"] = START - timedelta(days=self.random.randrange(3))
        told = {name: self.row[name] for name in ("service", "submitted_at")}
        self._write("corrected", None, told | {"person": bytes(32), "detail": '{"applicant": ["name"]}'})

    def key(self) -> None:
        self.row["key_serial"] += 1
        self._write("key_reissued", None)

    def owner(self) -> None:
        self.row["owner"] = self.random.choice([None, "client-b"])
        self._write("owner_changed", None)

    def due(self) -> None:
        self.row["due_at"] = self.now + timedelta(days=3)
        self.row["reappointments"] += 1
        self._write("due_changed", {"due_at": self.row["due_at"].astimezone(VIETNAM)}, {"note": "Xin lỗi"})

    def lead(self) -> None:
        self.row["agency"] = "G99.03"
        self._write("led_by", {}, {"came_from": "G99.01", "note": "Chuyển"})

    def task(self) -> None:
        due = (self.now + timedelta(days=1)).astimezone(VIETNAM)
        detail = json.dumps({"work": "Thẩm định", "due_at": due.isoformat(), "agency": "G99.02"})
        self._write(
            "task_opened",
            {"agency": "G99.02", "task": 1, "work": "Thẩm định", "due_at": due},
            {"task": 1, "detail": detail},
        )

    def task_ends(self) -> None:
        done = self.random.random() < 0.5
        flags = None if done else [NOT_IN_TIMELINE]
        self._write("task_ended", {"task": 1} if done else None, {"task": 1, "flags": flags, "detail": "{}"})

    def paper(self) -> None:
        self._write("paper_issued", None, {"paper": bytes(32), "detail": '{"form": "M01"}'})

    def unheard_of(self) -> None:
        self.row["reappointments"] += 1
        self._write("of_a_later_release", None)

    def remove(self) -> None:
        emptied = {"removed": True, "timeline": [], "official_number": None, "action_needed": None, "reason": None}
        self._write("removed", None)
        self.row |= emptied

    def _write(
        self,
        kind: str,
        step: dict[str, Any] | None,
        special: dict[str, Any] | None = None,
        department: str | None = None,
    ) -> None:
        self.now += timedelta(minutes=self.random.randrange(1, 90), microseconds=self.random.choice([0, 500_000]))
        self.row["version"] += 1
        event = dict.fromkeys(HASHED_COLUMNS) | {name: self.row[name] for name in AFTER_IMAGE}
        event |= {"code": self.row["code"], "version": self.row["version"], "kind": kind, "occurred_at": self.now}
        event |= {"actor": "client-a", "department": department, "erased": None} | (special or {})
        self.events.append(event)
        if step is not None:
            at = {"at": self.now.astimezone(VIETNAM), "status": Status(self.row["status"]).slug}
            where = {"agency": self.row["agency"], "department": department}
            self.row["timeline"] = [*self.row["timeline"], at | where | step]

    def stored(self) -> dict[str, Any]:
        """The row as PostgreSQL gives it: jsonb as text, with another spelling of times."""
        text = json.dumps([step | _spelt(step) for step in self.row["timeline"]])
        return self.row | {"timeline": text, "pauses": self.row["pauses"].replace(", ", ",")}


def _spelt(step: dict[str, Any]) -> dict[str, str]:
    return {name: step[name].astimezone(UTC).isoformat() for name in step.keys() & {"at", "due_at"}}


def office(seed: int, count: int) -> Office:
    kept = Office(Random(seed))
    kept.receive()
    for _ in range(count):
        kept.something()
    return kept


HISTORIES = st.builds(office, st.integers(0, 2**32), st.integers(0, 30))


def erase(event: dict[str, Any]) -> dict[str, Any]:
    return event | dict.fromkeys(CONTENT_COLUMNS) | {"erased": bytes(32)}


@given(HISTORIES)
def test_row_follows_from_its_events_alone(kept: Office) -> None:
    assert folded(kept.events) == kept.row
    assert differences(kept.stored(), folded(kept.events)) == []


@given(HISTORIES)
def test_removed_dossier_is_empty_whatever_was_before(kept: Office) -> None:
    kept.remove()
    for events in (kept.events, [erase(event) for event in kept.events]):
        row = folded(events)
        assert row == kept.row
        assert (row["removed"], row["timeline"], row["official_number"]) == (True, [], None)
        assert differences(kept.stored(), row) == []


OTHER: dict[str, Any] = {"removed": True, "timeline": "[]", "pauses": '[{"status": 8}]', "version": 99, "code": "other"}


@given(HISTORIES, st.sampled_from(FOLDED_COLUMNS))
def test_every_altered_column_is_named(kept: Office, column: str) -> None:
    row, fold = kept.stored(), folded(kept.events)
    other = OTHER.get(column, START + timedelta(days=99) if column.endswith("_at") else "other")
    (finding,) = differences(row | {column: other}, fold)
    assert finding.startswith(f"{column} ")
    assert "the log says" in finding


@given(HISTORIES, st.data())
def test_every_altered_step_is_named(kept: Office, data: st.DataObject) -> None:
    row = kept.stored()
    timeline = json.loads(row["timeline"])
    number = data.draw(st.integers(0, len(timeline) - 1))
    name = data.draw(st.sampled_from([*timeline[number], "more"]))
    timeline[number][name] = "2020-01-01T00:00:00+07:00" if name in {"at", "due_at"} else "other"
    (finding,) = differences(row | {"timeline": json.dumps(timeline)}, folded(kept.events))
    assert finding.startswith(f"step {number + 1} of timeline: {name} is ")
    del timeline[number]
    (finding,) = differences(row | {"timeline": json.dumps(timeline)}, folded(kept.events))
    assert finding == f"timeline has {len(timeline)} steps, the log says {len(timeline) + 1}"


@given(HISTORIES, st.data())
def test_erased_events_agree_with_the_row_and_hide_nothing_else(kept: Office, data: st.DataObject) -> None:
    which = data.draw(st.sets(st.integers(0, len(kept.events) - 1)))
    events = [erase(event) if number in which else event for number, event in enumerate(kept.events)]
    fold = folded(events)
    assert differences(kept.stored(), fold) == []
    told = {"agency", "department", "work", "due_at", "official_number", "action_needed", "reason"}
    unknown = {name for name, value in fold.items() if value is ERASED}
    unknown |= {name for step in fold["timeline"] for name, value in step.items() if value is ERASED}
    assert unknown <= told
    assert bool(which) or not unknown
    for column in set(FOLDED_COLUMNS) - told:
        other = OTHER.get(column, START + timedelta(days=99) if column.endswith("_at") else "other")
        assert len(differences(kept.stored() | {column: other}, fold)) == 1


@given(st.integers(0, 2**32), st.integers(2, 12), st.data())
def test_events_that_do_not_follow_are_refused(seed: int, count: int, data: st.DataObject) -> None:
    events = office(seed, count).events
    at = data.draw(st.integers(0, len(events) - 2))
    swapped = [*events[:at], events[at + 1], events[at], *events[at + 2 :]]
    bad = [
        swapped,
        [*events[:at], *events[at + 1 :]],
        [*events[: at + 1], *events[at:]],
        [*events[: at + 1], events[at + 1] | {"code": "other"}],
        [*events[: at + 1], events[at + 1] | {"kind": "received"}],
        [events[0] | {"kind": "moved"}, *events[1:]],
        [],
    ]
    for each in bad:
        with pytest.raises(DoesNotFollow):
            folded(each)


def test_nothing_follows_a_removal() -> None:
    kept = office(1, 3)
    kept.remove()
    kept.key()
    with pytest.raises(DoesNotFollow, match=r"version 6 of G99.01-261116-0001, key_reissued, follows 5"):
        folded(kept.events)


def test_erased_reception_leaves_no_doubt_that_no_number_was_bound() -> None:
    kept = office(1, 0)
    assert folded([erase(kept.events[0])])["official_number"] is None
    kept.number()
    assert folded([erase(event) for event in kept.events])["official_number"] is ERASED


def test_refused_result_keeps_its_reason_when_it_is_handed_over() -> None:
    kept = office(1, 0)
    completed = kept.events[0] | {"version": 2, "kind": "moved", "status": 9, "outcome": "refused", "note": "Thiếu"}
    returned = completed | {"version": 3, "status": 10, "note": None}
    again = completed | {"version": 3, "status": 9, "note": None, "outcome": "granted"}
    assert folded([*kept.events, completed])["reason"] == "Thiếu"
    assert folded([*kept.events, completed, returned])["reason"] == "Thiếu"
    assert folded([*kept.events, completed, again])["reason"] is None
    assert folded([*kept.events, completed, returned | {"note": "Khác"}])["reason"] == "Khác"


def test_findings_read_as_sentences() -> None:
    kept = office(1, 0)
    row = kept.stored() | {"due_at": None, "status": 9}
    assert differences(row, folded(kept.events)) == [
        "status is 9, the log says 2",
        "due_at is nothing, the log says 2026-11-30 01:00:00+00:00",
    ]
    assert steps(kept.stored()["timeline"]) == kept.row["timeline"]
    assert repr(ERASED) == "erased"
