"""The first row of a dossier, and the public steps of its timeline.

The ledger inserts one row per reception, an import copies many; both use `NewDossier`. Afterwards the row follows the
log. lookup/schema/0002_dossier.sql says what each column means.
"""

from dataclasses import dataclass, fields
from datetime import datetime
from operator import attrgetter
from typing import Any

import msgspec

from intake.rules.requests import nfc
from lookup.clock import VIETNAM
from lookup.status import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDossier:
    """The row of a dossier that is not stored yet. Its version is the number of its events: an import has several."""

    code: str
    version: int
    status: int
    agency: str
    origin: str
    submitted_by: str | None = None
    owner: str | None = None
    source_seq: int | None = None
    service: str
    service_case: str
    channel: str
    submitted_at: datetime
    received_at: datetime | None
    due_at: datetime | None
    finished_at: datetime | None = None
    returned_at: datetime | None = None
    calendar: str | None
    pauses: str = "[]"
    supplements: int = 0
    outcome: str | None = None
    reason: str | None = None
    action_needed: str | None = None
    timeline: str
    applicant_kind: int
    applicant_name: str | None
    applicant_id: str | None
    applicant_phone: str | None
    applicant_email: str | None
    applicant_address: str | None
    subject: str | None

    def row(self) -> tuple[Any, ...]:
        """The values of DOSSIER_COLUMNS."""
        values: tuple[Any, ...] = _values(self)
        return values


DOSSIER_COLUMNS = tuple(field.name for field in fields(NewDossier))
"""The columns of a new row of table `dossier`; all others take their defaults."""

INSERT_DOSSIER = f"""
INSERT INTO dossier ({", ".join(DOSSIER_COLUMNS)})
VALUES ({", ".join(f"${n}" for n, _ in enumerate(DOSSIER_COLUMNS, start=1))})
"""

_values = attrgetter(*DOSSIER_COLUMNS)
_encode = msgspec.json.Encoder().encode


def public_step(at: datetime, status: Status, agency: str, department: str | None) -> dict[str, Any]:
    """One step of a timeline, its time in UTC+7."""
    return {"at": at.astimezone(VIETNAM), "status": status.slug, "agency": agency, "department": nfc(department)}


def timeline(*steps: dict[str, Any]) -> str:
    """These steps, oldest first, as the JSON text of column `timeline`."""
    return _encode(steps).decode()
