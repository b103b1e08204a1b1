"""The record: no room for people, the same from the caches as from the database. What views hold: test_views.py."""

import itertools
import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from lookup.clock import local
from lookup.dossier import COLUMNS, Anonymous, Pause, Record, Step, pack, pack_row, telling, unpack, unpack_essence
from lookup.status import Status


def record(**fields: Any) -> Record:
    """A dossier in the middle of its life."""
    known: dict[str, Any] = {
        "code": "G99.01.01-261122-0001",
        "version": 3,
        "status": 5,
        "service": "S.001",
        "agency": "G99.01.01",
        "submitted_at": datetime(2026, 11, 20, 1, 0, tzinfo=UTC),
        "received_at": datetime(2026, 11, 20, 2, 0, tzinfo=UTC),
        "due_at": datetime(2026, 12, 1, 17, 30, tzinfo=UTC),
        "action_needed": "Bổ sung bản sao giấy khai sinh (hư cấu)",
        "timeline": (Step(datetime(2026, 11, 20, 1, 0, tzinfo=UTC), "submitted", "G99.01.01", "Một cửa (hư cấu)"),),
        "key_serial": 2,
    }
    return Record(**known | fields)


def test_columns_read_are_those_a_record_is_made_of() -> None:
    assert [*COLUMNS] == [*Record.__struct_fields__, "removed"]


def test_record_has_no_room_for_an_applicant_or_an_officer() -> None:
    fields = {field.name for struct in (Record, Step) for field in msgspec.structs.fields(struct)}
    assert not [name for name in fields if any(word in name for word in ("applicant", "officer", "actor", "phone"))]


@pytest.mark.parametrize("optional", [{}, {"received_at": None, "due_at": None, "action_needed": None, "timeline": ()}])
def test_record_survives_the_cache(optional: dict[str, Any]) -> None:
    known = record(**optional)
    assert msgspec.json.decode(msgspec.json.encode(known), type=Record) == known


@pytest.mark.parametrize(
    "optional",
    [{}, {"received_at": None, "due_at": None, "timeline": ()}, {"status": 9, "outcome": "refused", "reason": "x"}],
)
def test_essence_of_a_record_shows_anyone_the_same(optional: dict[str, Any]) -> None:
    packed = pack(record(**optional))
    assert Anonymous.of(unpack_essence(packed)) == Anonymous.of(unpack(packed))


@pytest.mark.parametrize("packed", [b"", b"\x00", pack(["G99", 1]), pack(["G99", "1", 5, "S", "G", 0, 0, None])])
def test_what_is_no_record_has_no_essence(packed: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        unpack_essence(packed)


def test_times_leave_on_a_vietnamese_clock() -> None:
    assert msgspec.json.encode(local(datetime(2026, 11, 22, 17, 30, tzinfo=UTC))) == b'"2026-11-23T00:30:00+07:00"'
    assert local(None) is None


@pytest.mark.parametrize("status", Status)
def test_completion_is_the_same_from_the_essence(status: Status) -> None:
    """Also where a department is called as a step is."""
    times, departments = (None, datetime(2026, 11, 20, 2, 0, tzinfo=UTC)), (None, "processing", "Một cửa (hư cấu)")
    ways = [way for length in range(3) for way in itertools.product([each.slug for each in Status], repeat=length)]
    for way, received_at, department in itertools.product(ways, times, departments):
        timeline = tuple(Step(datetime(2026, 11, 20, tzinfo=UTC), slug, "G99.01.01", department) for slug in way)
        known = record(status=status.value, received_at=received_at, timeline=timeline)
        assert unpack_essence(pack(known)).completion() == known.completion()


class StepOfBefore(msgspec.Struct, frozen=True, array_like=True):
    """As the release before has it."""

    at: datetime
    status: str
    agency: str
    department: str | None = None


class RecordOfBefore(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """As the release before has it."""

    code: str
    version: int
    status: int
    service: str
    agency: str
    submitted_at: datetime
    received_at: datetime | None = None
    due_at: datetime | None = None
    finished_at: datetime | None = None
    returned_at: datetime | None = None
    official_number: str | None = None
    action_needed: str | None = None
    timeline: tuple[StepOfBefore, ...] = ()
    key_serial: int = 0


AT = datetime(2026, 11, 20, 1, 0, tzinfo=UTC)
BOOKED: dict[str, Any] = {
    "timeline": (
        Step(AT, "received", "G99.01.01", "Một cửa (hư cấu)"),
        Step(AT, "processing", "G99.01.01", late=True),
        Step(AT, "processing", "G99.01.01", due_at=AT, task=2, work="Thẩm định (hư cấu)"),
    ),
    "origin": "G99.01.01",
    "outcome": "refused",
    "reason": "Chưa đủ thời gian đóng (hư cấu)",
    "pauses": (Pause(5, AT, AT, "shift", AT), Pause(8, AT, None, "none", None)),
    "supplements": 1,
    "reappointments": 2,
}
"""Everything that the release before does not know."""


def test_release_before_reads_what_this_one_packs_and_the_other_way() -> None:
    """Both run during an update, over one Redis."""
    new = record(**BOOKED)
    old = msgspec.msgpack.decode(pack(new), type=RecordOfBefore)
    fields = [field for field in RecordOfBefore.__struct_fields__ if field != "timeline"]
    assert [getattr(old, field) for field in fields] == [getattr(new, field) for field in fields]
    assert [step.status for step in old.timeline] == ["received", "processing", "processing"]
    back = unpack(msgspec.msgpack.encode(old))
    assert back == record(
        timeline=tuple(Step(step.at, step.status, step.agency, step.department) for step in old.timeline)
    )
    assert (
        telling(pack(new))
        == telling(msgspec.msgpack.encode(old))
        == (5, True, ("received", "processing", "processing"))
    )


def test_row_is_packed_as_the_record_it_is() -> None:
    """Timeline and pauses are JSON text with times of Vietnam there, as the log's trigger writes them."""
    known = record(**BOOKED)
    row: dict[str, Any] = {name: getattr(known, name) for name in Record.__struct_fields__} | {"removed": False}
    for name in ("timeline", "pauses"):
        row[name] = json.dumps([_stored(each) for each in row[name]], ensure_ascii=False)
    assert unpack(pack_row([row[name] for name in COLUMNS])) == known
    row["timeline"], row["pauses"] = '[{"at": "2026-11-20T08:00:00+07:00", "status": "received", "agency": "A"}]', "[]"
    plain = unpack(pack_row([row[name] for name in COLUMNS]))
    assert (plain.timeline, plain.pauses) == ((Step(AT, "received", "A"),), ())
    (step,) = msgspec.msgpack.decode(pack_row([row[name] for name in COLUMNS]))[12]
    assert step[1:] == ["received", "A", None], "what only other steps have costs every answer its skipping"
    assert pack_row([(row | {"removed": True})[name] for name in COLUMNS]) == b""


def _stored(each: Step | Pause) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.structs.asdict(each)
    return {name: local(value).isoformat() if isinstance(value, datetime) else value for name, value in found.items()}


def test_essence_of_a_record_that_ends_early_is_as_if_it_had_no_steps() -> None:
    """As the caches hold one of an older release."""
    assert unpack_essence(pack(["G99.01.01-261122-0001", 3, 5])).completion() == 0.1
