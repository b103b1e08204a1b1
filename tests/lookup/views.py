"""What each view of a dossier holds, exactly: the one place of its fields, and a dossier that has something in each.

A test that sees a view compares it with `only(FIELDS, values)` for equality: a field too many is a leak.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from lookup.dossier import Pause, Record, Shows, Step

ANYONE = ("code", "status", "status_number", "final", "completion", "version")
"""What anyone who has the code sees (TT 01/2018, art. 16(2)d)."""

DATES = ("submitted_at", "received_at", "finished_at", "returned_at")

ADDED: Mapping[Shows, tuple[str, ...]] = {
    Shows.DUE: ("due_on",),
    Shows.DATES: DATES,
    Shows.OFFICIAL_NUMBER: ("official_number",),
    Shows.AGENCY: ("agency",),
    Shows.SERVICE: ("service",),
}
"""What an installation's switches add to that; of a sensitive service nothing."""

HOLDER = (
    *(*ANYONE, "due_at", *DATES, "service", "agency", "origin", "official_number", "timeline", "action_needed"),
    *("outcome", "reason", "pauses", "supplements", "reappointments", "receipt"),
)
"""What the holder of the receipt sees."""

STALE = ("stale", "as_of")
"""What is in either view while it is marked as perhaps out of date, and at no other time."""

OFFICER = (
    *("code", "version", "status", "status_number", "final", "next", "due_at", *DATES),
    *(
        "service",
        "service_case",
        "agency",
        "origin",
        "channel",
        "official_number",
        "action_needed",
        "outcome",
        "reason",
    ),
    *("pauses", "supplements", "reappointments", "subject", "timeline", "applicant", "tasks"),
)
"""What an officer sees, from the intake."""


def only(fields: Iterable[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """These fields of the dossier. KeyError where the values lack one."""
    return {field: values[field] for field in fields}


SEEN = datetime(2026, 11, 22, 17, 4, 5, tzinfo=UTC)

# One moment a field, and each on another day in Vietnam than in UTC: none can stand for another unseen.
RECORD = Record(
    code="G99.01.01-261109-0007",
    version=9,
    status=10,
    service="S.004",
    agency="G99.01.01",
    submitted_at=datetime(2026, 11, 8, 17, 1, tzinfo=UTC),
    received_at=datetime(2026, 11, 9, 17, 2, tzinfo=UTC),
    due_at=datetime(2026, 11, 30, 17, 3, tzinfo=UTC),
    finished_at=datetime(2026, 11, 18, 17, 4, tzinfo=UTC),
    returned_at=datetime(2026, 11, 20, 17, 5, tzinfo=UTC),
    official_number="04321/2026/99901",
    action_needed="Bổ sung bản sao (hư cấu)",
    timeline=(
        Step(datetime(2026, 11, 9, 17, 2, tzinfo=UTC), "received", "G99.01.01", "Một cửa (hư cấu)"),
        Step(datetime(2026, 11, 18, 17, 4, tzinfo=UTC), "completed", "G99.01"),
        Step(datetime(2026, 11, 17, 17, 6, tzinfo=UTC), "processing", "G99.01", late=True),
    ),
    key_serial=3,
    origin="G99.01",
    outcome="refused",
    reason="Chưa đủ thời gian đóng (hư cấu)",
    pauses=(
        Pause(
            status=5,
            since=datetime(2026, 11, 10, 17, 7, tzinfo=UTC),
            until=datetime(2026, 11, 11, 17, 8, tzinfo=UTC),
            policy="shift",
            due_before=datetime(2026, 11, 9, 17, 9, tzinfo=UTC),
        ),
    ),
    supplements=1,
    reappointments=2,
)

_SONG_MAY = {
    "code": "G99.01.01",
    "name": "Bảo hiểm xã hội cơ sở Sông Mây 1 (hư cấu)",
    "name_en": "Song May Local Social Insurance Office 1 (fictitious)",
}
_PROVINCE = {
    "code": "G99.01",
    "name": "Bảo hiểm xã hội tỉnh Sông Mây (hư cấu)",
    "name_en": "Social Insurance of Song May Province (fictitious)",
}

ORDINARY: Mapping[str, Any] = {"late": False, "due_at": None, "task": None, "work": None}
"""What a step has besides, that only a move makes."""

NOTHING_YET: Mapping[str, Any] = {
    "outcome": None,
    "reason": None,
    "pauses": [],
    "supplements": 0,
    "reappointments": 0,
}
"""What a dossier has besides, that was never paused and is not done."""

KNOWN: Mapping[str, Any] = {
    "code": "G99.01.01-261109-0007",
    "status": "returned",
    "status_number": 10,
    "final": True,
    "completion": 1.0,
    "due_at": "2026-12-01T00:03:00+07:00",
    "due_on": "2026-12-01",
    "version": 9,
    "submitted_at": "2026-11-09T00:01:00+07:00",
    "received_at": "2026-11-10T00:02:00+07:00",
    "finished_at": "2026-11-19T00:04:00+07:00",
    "returned_at": "2026-11-21T00:05:00+07:00",
    "service": {
        "code": "S.004",
        "name": "Cấp lại, đổi, điều chỉnh thông tin trên sổ BHXH, thẻ BHYT",
        "name_en": "Re-issue or correction of the insurance book or health card",
    },
    "agency": _SONG_MAY,
    "official_number": "04321/2026/99901",
    "timeline": [
        {
            "at": "2026-11-10T00:02:00+07:00",
            "status": "received",
            "agency": _SONG_MAY,
            "department": "Một cửa (hư cấu)",
            **ORDINARY,
        },
        {"at": "2026-11-19T00:04:00+07:00", "status": "completed", "agency": _PROVINCE, "department": None, **ORDINARY},
        {
            "at": "2026-11-18T00:06:00+07:00",
            "status": "processing",
            "agency": _PROVINCE,
            "department": None,
            **ORDINARY,
            "late": True,
        },
    ],
    "action_needed": "Bổ sung bản sao (hư cấu)",
    "origin": _PROVINCE,
    "outcome": "refused",
    "reason": "Chưa đủ thời gian đóng (hư cấu)",
    "pauses": [
        {
            "status": "supplement_required",
            "since": "2026-11-11T00:07:00+07:00",
            "until": "2026-11-12T00:08:00+07:00",
            "policy": "shift",
            "due_before": "2026-11-10T00:09:00+07:00",
        }
    ],
    "supplements": 1,
    "reappointments": 2,
    "receipt": {
        "number": "G99.01.01-261109-0007",
        "link": "https://tra-cuu.example/tra-cuu/G99.01.01-261109-0007",
    },
    "stale": True,
    "as_of": "2026-11-23T00:04:05+07:00",
}
"""Every field of any view of that dossier as JSON has it, read at SEEN."""

LEAST = Record(code=RECORD.code, version=1, status=1, service="S.004", agency="G99.01.01", submitted_at=SEEN)
"""A dossier of which as little is known as can be."""

LEAST_KNOWN: Mapping[str, Any] = dict(KNOWN) | {
    "status": "submitted",
    "status_number": 1,
    "final": False,
    "completion": 0.1,
    "version": 1,
    "due_at": None,
    "due_on": None,
    "received_at": None,
    "finished_at": None,
    "returned_at": None,
    "submitted_at": "2026-11-23T00:04:05+07:00",
    "official_number": None,
    "action_needed": None,
    "timeline": [],
    **NOTHING_YET,
    "origin": None,
}


def just_received(receipt: Mapping[str, Any], agency: Mapping[str, Any] = _SONG_MAY, **changes: Any) -> dict[str, Any]:
    """The values of a dossier that tests/house.py handed in and that has not moved; `receipt`: what intake answered."""
    received_at, code = receipt["receipt"]["received_at"], receipt["code"]
    return {
        "code": code,
        "status": "received",
        "status_number": 2,
        "final": False,
        "completion": 0.25,
        "due_at": receipt["due_at"],
        "version": 1,
        "submitted_at": receipt["receipt"]["submitted_at"],
        "received_at": received_at,
        "finished_at": None,
        "returned_at": None,
        "service": KNOWN["service"],
        "agency": agency,
        "official_number": None,
        "timeline": [{"at": received_at, "status": "received", "agency": agency, "department": None, **ORDINARY}],
        "action_needed": None,
        "origin": agency,
        **NOTHING_YET,
        "receipt": {"number": code, "link": f"http://127.0.0.1:8080/tra-cuu/{code.replace('/', '-')}"},
        **changes,
    }
