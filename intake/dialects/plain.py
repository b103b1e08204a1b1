"""The plain form: the field names of the API, one dossier with its history a line, times in RFC 3339."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from intake.dialects import History, HistoryStep, Person, Refused, cleaned, ends, shape
from intake.rules.requests import Moment
from intake.rules.texts import before_composing
from lookup import code as codes
from lookup.status import Status

WORD, LINE, SUBJECT, TEXT = 64, 300, 1000, 4000
"""Characters of the longest text of each kind."""

Word = Annotated[str, Meta(max_length=before_composing(WORD))]
Line = Annotated[str, Meta(max_length=before_composing(LINE))]


class PlainStep(msgspec.Struct, forbid_unknown_fields=True):
    """One step: a status, the time the dossier took it, and the unit and officer that had the dossier.

    `outcome` belongs to a step `completed`.
    """

    at: Moment
    status: Word
    agency: Word | None = None
    department: Line | None = None
    officer: Line | None = None
    note: Annotated[str, Meta(max_length=before_composing(TEXT))] | None = None
    outcome: Literal["granted", "refused", "partly"] | None = None


class PlainApplicant(msgspec.Struct, forbid_unknown_fields=True):
    """The applicant. `kind`: 1 citizen, 2 enterprise, 3 state body, 4 other."""

    name: Line
    kind: Annotated[int, Meta(ge=1, le=4)] = 1
    id: Word | None = None
    phone: Word | None = None
    email: Line | None = None
    address: Line | None = None


class PlainDossier(msgspec.Struct, forbid_unknown_fields=True):
    """A dossier with its steps, oldest first."""

    code: Annotated[str, Meta(max_length=codes.LONGEST)]
    agency: Word
    service: Word
    submitted_at: Moment
    applicant: PlainApplicant
    steps: Annotated[list[PlainStep], Meta(min_length=1, max_length=400)]
    channel: Literal["direct", "online", "postal"] = "online"
    service_case: Word = "default"
    received_at: Moment | None = None
    due_at: Moment | None = None
    finished_at: Moment | None = None
    returned_at: Moment | None = None
    subject: Annotated[str, Meta(max_length=before_composing(SUBJECT))] | None = None


def read(form: dict[str, Any]) -> History:
    """The history in this object. Raises Refused."""
    told: PlainDossier = shape(form, PlainDossier)
    try:
        code = codes.parse(told.code)
    except codes.MalformedCode as error:
        raise Refused("malformed_code", error.detail) from None
    agency = cleaned("agency", told.agency, WORD)
    steps = tuple(_step(step, agency) for step in told.steps)
    finished_at, returned_at = ends(steps, told.finished_at, told.returned_at)
    applicant = told.applicant
    return History(
        code=code,
        agency=agency,
        service=cleaned("service", told.service, WORD),
        service_case=cleaned("service_case", told.service_case, WORD),
        channel=told.channel,
        submitted_at=told.submitted_at,
        received_at=told.received_at or next((s.at for s in steps if s.status is Status.RECEIVED), None),
        due_at=told.due_at,
        finished_at=finished_at,
        returned_at=returned_at,
        applicant=Person(
            applicant.kind,
            cleaned("applicant.name", applicant.name, LINE),
            _optional("applicant.id", applicant.id, WORD),
            _optional("applicant.phone", applicant.phone, WORD),
            _optional("applicant.email", applicant.email, LINE),
            _optional("applicant.address", applicant.address, LINE),
        ),
        subject=_optional("subject", told.subject, SUBJECT),
        steps=steps,
    )


def _step(step: PlainStep, agency: str) -> HistoryStep:
    status = _status(step.status)
    if step.outcome is not None and status is not Status.COMPLETED:
        raise Refused("wrong_shape", f"outcome: only a step completed has one, not {status.slug}")
    return HistoryStep(
        step.at,
        status,
        agency if step.agency is None else cleaned("agency", step.agency, WORD),
        _optional("department", step.department, LINE),
        _optional("officer", step.officer, LINE),
        None if step.note is None else cleaned("note", step.note, TEXT, lines=True),
        outcome=step.outcome,
    )


def _optional(field: str, text: str | None, longest: int) -> str | None:
    return None if text is None else cleaned(field, text, longest)


def _status(slug: str) -> Status:
    try:
        return Status.from_slug(slug)
    except ValueError as error:
        raise Refused("unknown_status", str(error)) from None
