"""The papers that an applicant is handed: which change makes which, and what each of them says. No I/O.

A paper is its content: the page is made from it whenever it is printed, and the event that issued it holds the
content's digest. No lookup key ever stands in it; the key is derived when the page is made. `nonce` keeps the digest
from being guessed once the content was erased.

Papers are issued by the agency that received the dossier, whose one-stop alone speaks with the applicant (Decree
61/2018 art. 5), or by the one that answers for it now.
"""

import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from intake.rules.apply import code_day
from intake.rules.changes import Change, Correction, Given, IssuePaper, Move, PutOff, Reception, State
from intake.rules.requests import OnReceipt, nfc
from lookup.catalogue import Catalogue
from lookup.clock import VIETNAM, local
from lookup.status import Status

Form = Literal["receipt", "supplement", "refusal", "apology", "stop", "control"]

FORMAT: Final = "hoso24/paper-1"
FORM_VERSION: Final = "2025-09-15"
"""The day from which the forms hold that are issued now: those of Circular 03/2025/TT-VPCP."""
_NONCE_BYTES = 16

_OF_MOVES: Final[Mapping[Status, Form]] = {
    Status.SUPPLEMENT_REQUIRED: "supplement",
    Status.REJECTED: "refusal",
    Status.WITHDRAWN: "stop",
    Status.SUSPENDED: "stop",
}


class Office(msgspec.Struct, frozen=True, omit_defaults=True):
    """An agency as a paper names it, with the one above it; all texts in Vietnamese."""

    code: str
    name: str
    above: str | None = None
    address: str | None = None
    phone: str | None = None
    email: str | None = None
    hours: str | None = None


class Person(msgspec.Struct, frozen=True, omit_defaults=True):
    """The applicant. `kind`: 1 citizen, 2 enterprise, 3 state body, 4 other."""

    kind: int | None = None
    name: str | None = None
    id: str | None = None
    phone: str | None = None
    email: str | None = None
    address: str | None = None


class Representative(msgspec.Struct, frozen=True, omit_defaults=True):
    """The person who acts for the applicant, and the paper that says so."""

    name: str
    id: str | None = None
    authority: str | None = None


class Document(msgspec.Struct, frozen=True, omit_defaults=True):
    """A document of the application; `copies` as the law words it, such as "01 bản chính"."""

    name: str
    copies: str | None = None


class Limit(msgspec.Struct, frozen=True, omit_defaults=True):
    """The time limit by law: one of the three. Eight working hours are a working day."""

    working_hours: int | None = None
    calendar_days: int | None = None
    at_once: bool = False


class WorkStep(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of the control slip: what an agency owes or owed. `work` is empty for the steps that every dossier has."""

    agency: str
    name: str
    kind: str
    work: str
    state: str
    opened_at: datetime | None = None
    due_at: datetime | None = None
    ended_at: datetime | None = None


class Replaced(msgspec.Struct, frozen=True):
    """The receipt that a corrected one replaces."""

    number: int
    year: int


class Content(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a paper says. Times are in Vietnam's; what is not said is left out.

    `agency` issues it, `office` works on the dossier now; null: the same. `officer`: the person that the client named.
    `reason`: why something is asked for, refused, stopped or late, as the applicant reads it; `items`: what a
    supplement has to bring. An apology with a new date has `due_before` too. `sample`: of a catalogue that is made up.
    """

    format: str
    nonce: str
    form: Form
    form_version: str
    agency: Office
    year: int
    number: int
    code: str
    version: int
    issued_at: datetime
    service: str
    service_name: str
    applicant: Person
    officer: str | None = None
    office: Office | None = None
    service_case: str = "default"
    channel: str = "direct"
    subject: str | None = None
    official_number: str | None = None
    representative: Representative | None = None
    submitted_at: datetime | None = None
    received_at: datetime | None = None
    due_at: datetime | None = None
    due_before: datetime | None = None
    finished_at: datetime | None = None
    limit: Limit | None = None
    documents: tuple[Document, ...] = ()
    sets: int | None = None
    result_by: str | None = None
    """How the applicant wants the result: `counter`, `post` or `electronic`."""
    reason: str | None = None
    items: tuple[str, ...] = ()
    status: str | None = None
    steps: tuple[WorkStep, ...] = ()
    replaces: Replaced | None = None
    sample: bool = False


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What a paper needs besides the dossier's state: the columns of its applicant, and what the request says."""

    person: Mapping[str, Any]
    officer: str | None = None
    on_receipt: OnReceipt | None = None
    receipt_wanted: bool = True
    replaces: Replaced | None = None
    """The newest receipt of the dossier: a correction issues another one."""


def form_of(before: State | None, change: Change, after: State, said: Said) -> Form | None:
    """The paper that this change makes of the dossier; None for none.

    A receipt comes with the acceptance and never with the submission, a refusal with status 3, a stop notice with a
    withdrawal or a suspension. A correction issues the receipt anew until the work is done.
    """
    if isinstance(change, IssuePaper):
        return change.form
    if isinstance(change, PutOff):
        return "apology"
    if isinstance(change, Correction):
        return "receipt" if said.replaces is not None and after.finished_at is None else None
    if not isinstance(change, Move | Reception):
        return None
    if after.received_at is not None and (before is None or before.received_at is None):
        return "receipt" if said.receipt_wanted else None
    return _OF_MOVES.get(after.status) if isinstance(change, Move) else None


def issuer_of(state: State, given: Given) -> str:
    """The code of the agency whose paper it is, and whose numbers are counted."""
    answering = given.catalogue.now_answering(state.origin, code_day(given.now))
    return answering.code if answering else state.origin


def year_of(given: Given) -> int:
    """The year in Vietnam in whose sequence a paper is numbered."""
    return code_day(given.now).year


def content(
    form: Form, number: int, before: State | None, change: Change, after: State, said: Said, given: Given
) -> Content:
    """What this paper says. `number` is its own in the sequence of issuer_of, form and year_of."""
    catalogue = given.catalogue
    service = catalogue.services.get(after.service)
    issuer = issuer_of(after, given)
    person = said.person
    told: dict[str, Any] = {}
    if form == "receipt":
        told = _of_receipt(after, said, given)
    elif form == "control":
        told = {"steps": _steps(after, catalogue), "finished_at": local(after.finished_at), "status": after.status.slug}
    elif form == "apology" and before is not None and before.due_at != after.due_at:
        told = {"due_before": local(before.due_at)}
    reason, items = _words(change)
    return Content(
        format=FORMAT,
        nonce=os.urandom(_NONCE_BYTES).hex(),
        form=form,
        form_version=FORM_VERSION,
        agency=_office(issuer, catalogue, given),
        office=None if after.agency == issuer else _office(after.agency, catalogue, given),
        year=year_of(given),
        number=number,
        code=after.code,
        version=after.version,
        issued_at=local(given.now),
        officer=nfc(said.officer),
        service=after.service,
        service_name=nfc(service.name_vi) or after.service if service else after.service,
        service_case=after.service_case,
        channel=after.channel,
        applicant=Person(*(person[f"applicant_{name}"] for name in Person.__struct_fields__)),
        subject=person["subject"],
        official_number=after.official_number,
        submitted_at=local(after.submitted_at),
        received_at=local(after.received_at),
        due_at=local(after.due_at),
        reason=reason,
        items=items,
        sample=catalogue.sample,
        **told,
    )


def _of_receipt(after: State, said: Said, given: Given) -> dict[str, Any]:
    service, on_receipt = given.catalogue.services.get(after.service), said.on_receipt or OnReceipt()
    needed = service.papers if service else None
    documents = tuple(Document(nfc(each.vi) or "", nfc(each.copies)) for each in (needed.list if needed else ()))
    if on_receipt.documents is not None:
        documents = tuple(Document(each.name, each.copies) for each in on_receipt.documents)
    received_at = after.received_at or given.now
    limit = service and service.time_limit(after.service_case, after.channel, received_at.astimezone(VIETNAM).date())
    return {
        "limit": limit and Limit(limit.hours, limit.calendar_days, limit.at_once),
        "documents": documents,
        "sets": on_receipt.sets or (needed.sets if needed else None),
        "result_by": on_receipt.result_by,
        "representative": on_receipt.representative
        and Representative(*msgspec.structs.astuple(on_receipt.representative)),
        "replaces": said.replaces,
    }


def _words(change: Change) -> tuple[str | None, tuple[str, ...]]:
    """What the applicant reads: why, and what has to be brought."""
    if isinstance(change, Move):
        items = tuple(each for each in (nfc(item.strip()) for item in change.items) if each)
        return nfc((change.note or "").strip()) or None, items
    if isinstance(change, PutOff | IssuePaper):
        return nfc((change.reason or "").strip()) or None, ()
    return None, ()


def _steps(state: State, catalogue: Catalogue) -> tuple[WorkStep, ...]:
    return tuple(
        WorkStep(
            agency=task.agency,
            name=_name(task.agency, catalogue),
            kind=task.kind,
            work=task.work,
            state=task.state,
            opened_at=local(task.opened_at),
            due_at=local(task.due_at),
            ended_at=local(task.ended_at),
        )
        for task in state.tasks
    )


def _office(code: str, catalogue: Catalogue, given: Given) -> Office:
    known = catalogue.agencies.get(code)
    if known is None:
        return Office(code, code)
    contact = catalogue.contact_of(code, code_day(given.now))
    return Office(
        code,
        _name(code, catalogue),
        above=_name(known.parent, catalogue) if known.parent else None,
        address=nfc(known.address_vi),
        phone=contact.hotline if contact else None,
        email=known.email,
        hours=nfc(known.hours_vi),
    )


def _name(code: str, catalogue: Catalogue) -> str:
    known = catalogue.agencies.get(code)
    return nfc(known.name_vi) or code if known else code
