"""Who sees what: the anonymous view gives away nothing but a status, and the holder's no officer and no applicant."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from lookup import catalogue
from lookup.catalogue import Catalogue
from lookup.dossier import (
    VIETNAM,
    Anonymous,
    Record,
    Shows,
    Step,
    anonymous_view,
    holder_view,
    local,
    pack,
    unpack,
    unpack_essence,
)
from lookup.status import Status

AGENCIES, SERVICES = catalogue.sample()
CATALOGUE = Catalogue({agency.code: agency for agency in AGENCIES}, {service.code: service for service in SERVICES})
SENSITIVE, ORDINARY = "S.008", "S.001"
EVERYTHING = frozenset(Shows)


def record(**fields: Any) -> Record:
    """A dossier in the middle of its life."""
    known: dict[str, Any] = {
        "code": "G99.01.01-261122-0001",
        "version": 3,
        "status": 5,
        "service": ORDINARY,
        "agency": "G99.01.01",
        "submitted_at": datetime(2026, 11, 20, 1, 0, tzinfo=UTC),
        "received_at": datetime(2026, 11, 20, 2, 0, tzinfo=UTC),
        "due_at": datetime(2026, 12, 1, 17, 30, tzinfo=UTC),
        "action_needed": "Bổ sung bản sao giấy khai sinh (hư cấu)",
        "timeline": (Step(datetime(2026, 11, 20, 1, 0, tzinfo=UTC), "submitted", "G99.01.01", "Một cửa (hư cấu)"),),
        "key_serial": 2,
    }
    return Record(**known | fields)


def test_anonymous_view_has_exactly_what_the_law_owes() -> None:
    assert anonymous_view(record(), frozenset(), CATALOGUE) == {
        "code": "G99.01.01-261122-0001",
        "status": "supplement_required",
        "status_number": 5,
        "final": False,
        "completion": 0.4,
        "due_at": datetime(2026, 12, 2, 0, 30, tzinfo=VIETNAM),
        "version": 3,
    }


@pytest.mark.parametrize(
    ("shows", "added"),
    [
        (Shows.DATES, {"submitted_at", "received_at", "finished_at", "returned_at"}),
        (Shows.OFFICIAL_NUMBER, {"official_number"}),
        (Shows.AGENCY, {"agency"}),
        (Shows.SERVICE, {"service"}),
    ],
)
def test_each_switch_adds_its_own_members_only(shows: Shows, added: set[str]) -> None:
    plain = anonymous_view(record(), frozenset(), CATALOGUE)
    assert set(anonymous_view(record(), frozenset({shows}), CATALOGUE)) - set(plain) == added


@pytest.mark.parametrize("service", [SENSITIVE, "S.unknown"])
def test_sensitive_service_is_never_anonymous(service: str) -> None:
    view = anonymous_view(record(service=service), EVERYTHING, CATALOGUE)
    assert "service" not in view
    assert service not in str(view)


def test_nothing_is_known_to_be_harmless_before_the_catalogue_was_read() -> None:
    assert "service" not in anonymous_view(record(), EVERYTHING, Catalogue())


def test_no_switch_shows_what_is_for_the_holder() -> None:
    view = anonymous_view(record(), EVERYTHING, CATALOGUE)
    assert not {"timeline", "action_needed", "receipt", "key_serial"} & set(view)


def test_holder_sees_service_steps_and_what_to_bring() -> None:
    view = holder_view(record(service=SENSITIVE), CATALOGUE, {"number": "x"})
    assert view["service"]["name"].startswith("Hưởng chế độ tai nạn")
    assert view["agency"]["name_en"] == "Song May Local Social Insurance Office 1 (fictitious)"
    assert view["action_needed"] == "Bổ sung bản sao giấy khai sinh (hư cấu)"
    assert view["receipt"] == {"number": "x"}
    assert view["timeline"] == [
        {
            "at": datetime(2026, 11, 20, 8, 0, tzinfo=VIETNAM),
            "status": "submitted",
            "agency": CATALOGUE.agency_view("G99.01.01"),
            "department": "Một cửa (hư cấu)",
        }
    ]


def test_record_has_no_room_for_an_applicant_or_an_officer() -> None:
    fields = {field.name for struct in (Record, Step) for field in msgspec.structs.fields(struct)}
    assert not [name for name in fields if any(word in name for word in ("applicant", "officer", "actor", "phone"))]


def test_key_serial_is_in_no_view() -> None:
    assert "key_serial" not in anonymous_view(record(), EVERYTHING, CATALOGUE) | holder_view(record(), CATALOGUE, {})


@pytest.mark.parametrize("status", Status)
def test_view_of_every_status_agrees_with_the_table(status: Status) -> None:
    view = anonymous_view(record(status=status.value), frozenset(), CATALOGUE)
    assert (view["status"], view["status_number"]) == (status.slug, status.value)
    assert (view["final"], view["completion"]) == (status.final, status.completion)


@pytest.mark.parametrize("optional", [{}, {"received_at": None, "due_at": None, "action_needed": None, "timeline": ()}])
def test_record_survives_the_cache(optional: dict[str, Any]) -> None:
    known = record(**optional)
    assert msgspec.json.decode(msgspec.json.encode(known), type=Record) == known


@pytest.mark.parametrize("optional", [{}, {"received_at": None, "due_at": None, "timeline": ()}, {"status": 9}])
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
