"""The plain form: the field names of the API, one dossier with its history a line, times in RFC 3339."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from intake.bulk.dialects import History, HistoryStep, Person, Refused
from intake.rules.requests import Applicant, Line, Moment, Text, Word
from lookup import code as codes
from lookup.status import Status


class PlainStep(msgspec.Struct, forbid_unknown_fields=True):
    """One step: a status, the time the dossier took it, and the unit and officer that had the dossier."""

    at: Moment
    status: Word
    agency: Word | None = None
    department: Line | None = None
    officer: Line | None = None
    note: Text | None = None


class PlainDossier(msgspec.Struct, forbid_unknown_fields=True):
    """A dossier with its steps, oldest first."""

    code: Word
    agency: Word
    service: Word
    submitted_at: Moment
    applicant: Applicant
    steps: Annotated[list[PlainStep], Meta(min_length=1, max_length=400)]
    channel: Literal["direct", "online", "postal"] = "online"
    service_case: Word = "default"
    received_at: Moment | None = None
    due_at: Moment | None = None
    finished_at: Moment | None = None
    returned_at: Moment | None = None
    subject: Annotated[str, Meta(max_length=1000)] | None = None


_decoder = msgspec.json.Decoder(PlainDossier)


def read(line: bytes) -> History:
    """The history in this line. Raises Refused."""
    try:
        form = _decoder.decode(line)
    except msgspec.ValidationError as error:
        reason = "bad_date" if "RFC3339" in str(error) else "wrong_shape"
        raise Refused(reason, str(error)) from None
    try:
        code = codes.parse(form.code)
    except codes.MalformedCode as error:
        raise Refused("malformed_code", error.detail) from None
    if form.due_at is not None and form.due_at < form.submitted_at:
        raise Refused("dates_out_of_order", "due_at is before submitted_at")
    steps = tuple(
        HistoryStep(
            step.at,
            _status(step.status),
            step.agency or form.agency,
            step.department,
            step.officer,
            step.note,
        )
        for step in form.steps
    )
    status, last = steps[-1].status, steps[-1].at
    applicant = form.applicant
    return History(
        code=code,
        agency=form.agency,
        service=form.service,
        service_case=form.service_case,
        channel=form.channel,
        submitted_at=form.submitted_at,
        received_at=form.received_at or next((s.at for s in steps if s.status is Status.RECEIVED), None),
        due_at=form.due_at,
        finished_at=(form.finished_at or last) if status in (Status.COMPLETED, Status.RETURNED) else None,
        returned_at=(form.returned_at or last) if status is Status.RETURNED else None,
        applicant=Person(
            applicant.kind, applicant.name, applicant.id, applicant.phone, applicant.email, applicant.address
        ),
        subject=form.subject,
        steps=steps,
    )


def _status(slug: str) -> Status:
    try:
        return Status.from_slug(slug)
    except ValueError as error:
        raise Refused("unknown_status", str(error)) from None
