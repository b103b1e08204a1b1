"""Events as the intake writes them, for tests that need a log and no intake: straight into the table, sealed."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from intake.books.dossier import INSERT_DOSSIER, NewDossier, public_step, timeline
from intake.books.event import APPEND_EVENT
from intake.books.seal import EventRecord, SealKeys, new_salt, person_digest
from lookup.status import Status
from tests.conftest import SEAL_KEYS

SEALS = SealKeys.from_text(SEAL_KEYS)
AGENCY, SERVICE = "G99.01.01", "S.004"
PERSON = (1, "Nguyễn Văn Mẫu (hư cấu)", None, None, None, None, None)

STANDS = """
SELECT code, version, status, agency, origin, owner, outcome, received_at, due_at, finished_at, returned_at, calendar,
       supplements, reappointments, key_serial,
       now()                           AS now,
       (SELECT max(number) FROM epoch) AS epoch
  FROM dossier
 WHERE code = $1
"""

NOW = "SELECT now() AS now, (SELECT max(number) FROM epoch) AS epoch"


async def receive(connection: Any, code: str, *, bulk: bool = False, **fields: Any) -> None:
    """A dossier with its first event; `fields` are columns of both."""
    start = await connection.fetchrow(NOW)
    at = fields.pop("submitted_at", start["now"])
    told: dict[str, Any] = {
        "status": Status.RECEIVED,
        "agency": AGENCY,
        "origin": AGENCY,
        "received_at": at,
        "due_at": None,
        "calendar": None,
    }
    first: dict[str, Any] = {"service": SERVICE, "service_case": "default", "channel": "direct", "submitted_at": at}
    told |= {name: value for name, value in fields.items() if name not in first}
    first |= {name: value for name, value in fields.items() if name in first}
    person: dict[str, Any] = dict(zip(("kind", "name", "id", "phone", "email", "address"), PERSON, strict=False))
    row = NewDossier(
        code=code,
        version=1,
        **told,
        **first,
        timeline=timeline(public_step(at, Status(told["status"]), told["agency"], None)),
        **{f"applicant_{name}": value for name, value in person.items()},
        subject=None,
    )
    await connection.execute(INSERT_DOSSIER, *row.row())
    salt = new_salt()
    record = EventRecord(
        epoch=start["epoch"],
        code=code,
        version=1,
        kind="received",
        bulk=bulk,
        occurred_at=at,
        recorded_at=start["now"],
        source="test",
        actor="test",
        person=person_digest(salt, PERSON),
        **told,
        **first,
    )
    await connection.execute(APPEND_EVENT, *record.row(salt, SEALS))


async def append(connection: Any, code: str, kind: str = "moved", **fields: Any) -> int:
    """A further event: what it does not say stays as the dossier's row has it; the version after it."""
    row = dict(await connection.fetchrow(STANDS, code))
    now = row.pop("now")
    row |= {"kind": kind, "version": row["version"] + 1, "occurred_at": now, "recorded_at": now, "source": "test"}
    record = msgspec.convert(row | {"actor": "test"} | fields, EventRecord, strict=False)
    await connection.execute(APPEND_EVENT, *record.row(new_salt(), SEALS))
    return record.version


def utc(text: str) -> datetime:
    """A moment in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
