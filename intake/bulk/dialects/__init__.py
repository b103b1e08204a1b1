"""The dialects in which other systems write a dossier with its history: one module each.

A dialect turns one line into a History, or refuses it with one of REASONS. No I/O.
"""

from dataclasses import dataclass
from datetime import datetime

import msgspec

from lookup.code import DossierCode
from lookup.status import Status

YEARS = range(1990, 2100)
"""The years that a date of a dossier can have."""


class Refused(Exception):
    """A line that cannot be imported; `reason` is a key of REASONS, `detail` says what is wrong with the line."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


REASONS = {
    "line_too_long": "the line is too long",
    "not_json": "the line is not well-formed JSON, or not UTF-8",
    "nul_character": "a text contains a NUL character",
    "wrong_shape": "a field is missing, of the wrong type, or too long",
    "unknown_form": "the line is in neither the plain nor the national form",
    "malformed_code": "the dossier's code fits none of the schemes",
    "bad_date": "a date does not exist or is in another format than the form's",
    "dates_out_of_order": "the due date is before the submission",
    "unknown_status": "the status is not one of the ten national statuses",
    "history_disagrees": "the dossier's status is not the last status of its history",
    "unknown_agency": "the agency is not in the catalogue",
    "unknown_service": "the service is not in the catalogue",
    "differs_from_stored": "a dossier with this code is stored already, with a shorter history",
    "refused_by_database": "the dossier violates a constraint of the database",
}


@dataclass(frozen=True, slots=True)
class HistoryStep:
    """One step of a history."""

    at: datetime
    status: Status
    agency: str
    department: str | None
    officer: str | None
    note: str | None


@dataclass(frozen=True, slots=True)
class Person:
    """The applicant, as the source writes it. `kind`: 1 citizen, 2 enterprise, 3 state body, 4 other."""

    kind: int
    name: str
    id: str | None
    phone: str | None
    email: str | None
    address: str | None


@dataclass(frozen=True, slots=True)
class History:
    """A dossier with its steps from the submission to the present status, oldest first; at least one step."""

    code: DossierCode
    agency: str
    service: str
    service_case: str
    channel: str
    submitted_at: datetime
    received_at: datetime | None
    due_at: datetime | None
    finished_at: datetime | None
    returned_at: datetime | None
    applicant: Person
    subject: str | None
    steps: tuple[HistoryStep, ...]

    @property
    def irregular(self) -> bool:
        """True if a step is not an allowed move from the step before. Such a history is imported and counted."""
        return any(
            not before.status.may_become(after.status)
            for before, after in zip(self.steps, self.steps[1:], strict=False)
        )


def read_line(line: bytes) -> History:
    """The history in a line of either form. Raises Refused."""
    from intake.bulk.dialects import national, plain

    if b"\\u0000" in line or b"\0" in line:
        raise Refused("nul_character", "a NUL character cannot be stored in a text")
    try:
        line.decode("utf-8")
        shape = msgspec.json.decode(line, type=_Either)
    except msgspec.ValidationError as error:
        raise Refused("wrong_shape", str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused("not_json", str(error)) from None
    if shape.national is not msgspec.UNSET:
        return _plausible(national.read(line))
    if shape.plain is not msgspec.UNSET:
        return _plausible(plain.read(line))
    raise Refused("unknown_form", "the line has neither MaHoSo (national form) nor code (plain form)")


def _plausible(history: History) -> History:
    """The history. Raises Refused if a date's year is not in YEARS; datetime.min and max cannot be converted to UTC."""
    said = (history.submitted_at, history.received_at, history.due_at, history.finished_at, history.returned_at)
    for moment in (*said, *(step.at for step in history.steps)):
        if moment is not None and moment.year not in YEARS:
            raise Refused("bad_date", f"{moment.isoformat()} is not between {YEARS[0]} and {YEARS[-1]}")
    return history


class _Either(msgspec.Struct):
    """The fields that tell the form of a line."""

    national: msgspec.Raw | msgspec.UnsetType = msgspec.field(name="MaHoSo", default=msgspec.UNSET)
    plain: msgspec.Raw | msgspec.UnsetType = msgspec.field(name="code", default=msgspec.UNSET)
