"""A history as rows: the dossier as it is now, and one sealed event of format 2 for each step. No I/O.

What the events say, folded, is the row (intake/books/fold.py). Due dates are the source's own, so `calendar` is null;
each event from the reception on has the one that the line tells.
"""

from collections.abc import Iterator
from datetime import date, datetime
from typing import Any, Final, NamedTuple

from intake.books.dossier import NewDossier, public_step, timeline
from intake.books.fold import NOT_IN_TIMELINE
from intake.books.seal import EventRecord, SealKeys, jsonb_text, new_salt, person_digest
from intake.bulk.dialects import History, HistoryStep
from intake.rules.apply import CROWDED_BYTES, ENDINGS, FULL_BYTES
from intake.rules.changes import Pause, pauses_told
from lookup.catalogue import Service
from lookup.clock import VIETNAM, local
from lookup.code import DossierCode, Scheme
from lookup.status import Status

SOURCE: Final = "import"
TIME_UNKNOWN: Final = "time_unknown"
"""The flag of an event whose source did not say since when: it adds no step, and begins no pause."""
_STEP_BYTES = 160
_REASONED = (Status.REJECTED, Status.WITHDRAWN, Status.SUSPENDED)
_DONE = (Status.COMPLETED, Status.RETURNED)


class Rows(NamedTuple):
    """The values of DOSSIER_COLUMNS and, for each event, of ROW_COLUMNS."""

    dossier: tuple[Any, ...]
    events: list[tuple[Any, ...]]


class Image(NamedTuple):
    """Four dates of a dossier after one of its steps."""

    received_at: datetime | None
    due_at: datetime | None
    finished_at: datetime | None
    returned_at: datetime | None


def rows_of(history: History, service: Service | None, *, now: datetime, epoch: int, seals: SealKeys) -> Rows:
    """The rows of a dossier that is not stored. `now` is the database's: when its events are recorded."""
    person = person_of(history)
    events, steps = [], []
    pauses: tuple[Pause, ...] = ()
    supplements = room = 0
    outcome: str | None = None
    reason: str | None = None
    note: str | None = None
    for version, (step, image) in enumerate(zip(history.steps, images(history), strict=True), 1):
        before, pauses = pauses, _paused(pauses, step, service, image.due_at if version == len(history.steps) else None)
        supplements += step.status is Status.SUPPLEMENT_REQUIRED
        note, kept = noted(step), reason if outcome == "refused" else None
        outcome = outcome_after(step, outcome)
        reason = note if step.status in _REASONED else None
        if outcome == "refused":
            reason = note or kept
        shown = step.timed and room < (FULL_BYTES if step.status in ENDINGS else CROWDED_BYTES)
        if shown:
            steps.append(public_step(step.at, step.status, step.agency, step.department))
            room += _STEP_BYTES + len(step.agency) + len((step.department or "").encode())
        salt = new_salt()
        event = EventRecord(
            epoch=epoch,
            code=history.code.text,
            version=version,
            kind="moved" if version > 1 else "received",
            bulk=True,
            occurred_at=step.at,
            recorded_at=now,
            source=SOURCE,
            flags=None if shown else [NOT_IN_TIMELINE] + [TIME_UNKNOWN] * (not step.timed),
            came_from=history.steps[version - 2].agency
            if version > 1 and step.agency != history.steps[version - 2].agency
            else None,
            status=step.status,
            agency=step.agency,
            origin=history.agency,
            outcome=outcome,
            received_at=image.received_at,
            due_at=image.due_at,
            finished_at=image.finished_at,
            returned_at=image.returned_at,
            pauses=None if pauses == before else jsonb_text(pauses_told(pauses)),
            supplements=supplements,
            service=history.service if version == 1 else None,
            service_case=history.service_case if version == 1 else None,
            channel=history.channel if version == 1 else None,
            submitted_at=history.submitted_at if version == 1 else None,
            person=person_digest(salt, person) if version == 1 else None,
            note=note,
            detail=jsonb_text({"items": list(step.items)}) if step.items else None,
            actor=step.officer or SOURCE,
            department=step.department,
        )
        events.append(event.row(salt, seals))
    kind, name, identity, phone, email, address, subject = person
    last = history.steps[-1]
    dossier = NewDossier(
        code=history.code.text,
        version=len(history.steps),
        status=last.status,
        agency=last.agency,
        origin=history.agency,
        service=history.service,
        service_case=history.service_case,
        channel=history.channel,
        submitted_at=history.submitted_at,
        received_at=history.received_at,
        due_at=history.due_at,
        finished_at=history.finished_at,
        returned_at=history.returned_at,
        calendar=None,
        pauses=jsonb_text(pauses_told(pauses)),
        supplements=supplements,
        outcome=outcome,
        reason=reason,
        action_needed=note if last.status.asks else None,
        timeline=timeline(*steps),
        applicant_kind=kind,
        applicant_name=name,
        applicant_id=identity,
        applicant_phone=phone,
        applicant_email=email,
        applicant_address=address,
        subject=subject,
    )
    return Rows(dossier.row(), events)


def person_of(history: History) -> tuple[Any, ...]:
    """The values of PERSON_COLUMNS."""
    who = history.applicant
    return (who.kind, who.name, who.id, who.phone, who.email, who.address, history.subject)


def images(history: History) -> Iterator[Image]:
    """The dates after each step. After the last they are those of the history."""
    steps, received = history.steps, history.received_at
    end = len(steps)
    while end and steps[end - 1].status in _DONE:
        end -= 1  # from here on the work is finished, and stays so
    finished = None
    for number, step in enumerate(steps, 1):
        if number == len(steps):
            yield Image(received, history.due_at, history.finished_at, history.returned_at)
            return
        accepted = received is not None and step.at >= received
        finished = (finished or step.at) if step.status in _DONE else None
        yield Image(
            received if accepted else None,
            history.due_at if accepted else None,
            history.finished_at if number > end else finished,
            step.at if step.status is Status.RETURNED else None,
        )


def noted(step: HistoryStep) -> str | None:
    """The note of a step, and below it what a supplement has to bring; as `apply` writes it."""
    return "\n".join([*([step.note] if step.note else []), *(f"– {item}" for item in step.items)]) or None


def outcome_after(step: HistoryStep, outcome: str | None) -> str | None:
    """The outcome of the work after a step: as the source says, never supposed."""
    if step.status is Status.COMPLETED:
        return step.outcome
    return outcome if step.status is Status.RETURNED else None


def _paused(
    pauses: tuple[Pause, ...], step: HistoryStep, service: Service | None, due_at: datetime | None
) -> tuple[Pause, ...]:
    """The pauses after a step: it ends the one that lasts, and may begin another."""
    if pauses and pauses[-1].until is None:
        lasted = pauses[-1]
        ended = Pause(lasted.status, lasted.since, local(step.at), lasted.policy, lasted.due_before)
        pauses = (*pauses[:-1], ended)
    if step.status.paused and step.timed:
        since, due_before = step.at.astimezone(VIETNAM), local(step.due_before or due_at)
        pauses = (*pauses, Pause(step.status, since, None, _policy(step.status, service), due_before))
    return pauses


def _policy(status: Status, service: Service | None) -> str:
    """What the clock does after such a pause, which is asked when the dossier goes on here."""
    if service is None:
        return "none"
    supplement = status is Status.SUPPLEMENT_REQUIRED
    return service.clock_after_supplement if supplement else service.clock_after_suspension


def sequence_of(code: DossierCode) -> tuple[str, date, int]:
    """The agency, the day (1 January for scheme D) and the running number by which an intake could issue this code."""
    if code.scheme is Scheme.D:
        number, year, agency = code.text.split("/")
        return agency, date(int(year), 1, 1), int(number)
    agency, day, number = code.text.rsplit("-", 2)
    owner = agency[1:3] if code.scheme is Scheme.C else ""
    return agency, date(2000 + int(day[:2]), int(day[2:4]), int(day[4:])), int(number.removeprefix(owner))
