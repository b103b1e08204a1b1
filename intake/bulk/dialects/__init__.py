"""The forms in which other systems write a dossier with its history, each in a module of its own.

A dialect turns one line into a History, or refuses it with a reason from a closed set. No I/O.
"""

from dataclasses import dataclass
from datetime import datetime

import msgspec

from lookup.code import DossierCode
from lookup.status import Status

YEARS = range(1990, 2100)
"""When a dossier can have had a date at all."""


class Refused(Exception):
    """A line that cannot be taken; `reason` is one of REASONS, the message says what is wrong."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


REASONS = {
    "line_too_long": "the line is longer than a dossier can be",
    "not_json": "the line is not well-formed JSON, or not UTF-8",
    "nul_character": "a text has a NUL character in it",
    "wrong_shape": "a field is missing, of the wrong type, or too long",
    "unknown_form": "neither our own form nor the national one",
    "malformed_code": "the dossier's code is in none of the schemes",
    "bad_date": "a date does not exist or is not written as the form asks",
    "dates_out_of_order": "the promised date lies before the submission",
    "unknown_status": "not one of the ten national statuses",
    "history_disagrees": "the dossier's status is not the last one of its history",
    "unknown_agency": "the agency is not in the catalogue",
    "unknown_service": "the service is not in the catalogue",
    "differs_from_stored": "a dossier with this code is stored and has a shorter history",
    "refused_by_database": "the database's constraints do not allow it",
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
    """The applicant as the source names them."""

    kind: int
    name: str
    id: str | None
    phone: str | None
    email: str | None
    address: str | None


@dataclass(frozen=True, slots=True)
class History:
    """A dossier from its submission to where it stands, oldest step first; never empty."""

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
        """Whether some step does not follow from the one before by the usual moves; no reason to refuse it."""
        return any(
            not before.status.may_become(after.status)
            for before, after in zip(self.steps, self.steps[1:], strict=False)
        )


def read_line(line: bytes) -> History:
    """The history a line of either form tells. Raises Refused."""
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
    raise Refused("unknown_form", "the line has neither MaHoSo (national form) nor code (our own)")


def _plausible(history: History) -> History:
    """The history, unless one of its dates is one nobody can mean; the ends of time cannot even be turned into UTC."""
    said = (history.submitted_at, history.received_at, history.due_at, history.finished_at, history.returned_at)
    for moment in (*said, *(step.at for step in history.steps)):
        if moment is not None and moment.year not in YEARS:
            raise Refused("bad_date", f"{moment.isoformat()} is no date of a dossier")
    return history


class _Either(msgspec.Struct):
    """Just enough of a line to see which form it is in."""

    national: msgspec.Raw | msgspec.UnsetType = msgspec.field(name="MaHoSo", default=msgspec.UNSET)
    plain: msgspec.Raw | msgspec.UnsetType = msgspec.field(name="code", default=msgspec.UNSET)
