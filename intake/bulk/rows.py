"""A history as rows: the dossier as it is now, and one sealed event of format 2 for each step. No I/O.

What the events say, folded, is the row (intake/books/fold.py). Due dates are the source's own, so `calendar` is null;
each event from the reception on has the one that the line tells.
"""

import functools
import os
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from intake.books.dossier import NewDossier, public_step, timeline
from intake.books.fold import NOT_IN_TIMELINE
from intake.books.seal import HASHED_COLUMNS, SALT_BYTES, SealKeys, event_leaf_hash, jsonb_text, person_digest
from intake.dialects import History, HistoryStep
from intake.dialects.dated import TIME_UNKNOWN, images, noted, outcome_after, person_of
from intake.rules.apply import ENDINGS, FULL_BYTES
from intake.rules.changes import CROWDED_BYTES, Pause, pauses_told
from lookup.catalogue import Service
from lookup.clock import VIETNAM, local
from lookup.status import Status

SOURCE: Final = "import"
_STEP_BYTES = 160
_REASONED = (Status.REJECTED, Status.WITHDRAWN, Status.SUSPENDED)


# Where the columns stand in an event: a list filled by place takes half as long as an EventRecord, and a line has four
# or five. A test compares the two.
_at = HASHED_COLUMNS.index
_EPOCH, _CODE, _VERSION, _KIND, _BULK = map(_at, ("epoch", "code", "version", "kind", "bulk"))
_OCCURRED_AT, _RECORDED_AT, _SOURCE, _FLAGS = map(_at, ("occurred_at", "recorded_at", "source", "flags"))
_CAME_FROM, _STATUS, _AGENCY, _ORIGIN = map(_at, ("came_from", "status", "agency", "origin"))
_OUTCOME, _PAUSES, _SUPPLEMENTS = map(_at, ("outcome", "pauses", "supplements"))
_REAPPOINTMENTS, _KEY_SERIAL, _SERVICE = map(_at, ("reappointments", "key_serial", "service"))
_CASE, _CHANNEL, _SUBMITTED_AT, _PERSON = map(_at, ("service_case", "channel", "submitted_at", "person"))
_NOTE, _DETAIL, _ACTOR, _DEPARTMENT = map(_at, ("note", "detail", "actor", "department"))
_RECEIVED_AT, _DUE_AT, _FINISHED_AT, _RETURNED_AT = map(_at, ("received_at", "due_at", "finished_at", "returned_at"))


class Rows(NamedTuple):
    """The values of DOSSIER_COLUMNS and, for each event, of ROW_COLUMNS."""

    dossier: tuple[Any, ...]
    events: list[tuple[Any, ...]]


def rows_of(history: History, service: Service | None, *, now: datetime, epoch: int, seals: SealKeys) -> Rows:
    """The rows of a dossier that is not stored. `now` is the database's, in UTC: when its events are recorded."""
    person, number_of_steps = person_of(history), len(history.steps)
    salts = os.urandom(SALT_BYTES * number_of_steps)
    same: list[Any] = [None] * len(HASHED_COLUMNS)
    same[_EPOCH], same[_CODE], same[_BULK], same[_RECORDED_AT] = epoch, history.code.text, True, now
    same[_SOURCE], same[_ORIGIN], same[_REAPPOINTMENTS], same[_KEY_SERIAL] = SOURCE, history.agency, 0, 0
    events, steps = [], []
    pauses: tuple[Pause, ...] = ()
    supplements = room = 0
    outcome: str | None = None
    reason: str | None = None
    note: str | None = None
    holder: str | None = None
    for version, (step, image) in enumerate(zip(history.steps, images(history), strict=True), 1):
        status, values = step.status, same.copy()
        if status.paused or pauses:
            before = pauses
            pauses = _paused(pauses, step, service, image.due_at if version == number_of_steps else None)
            values[_PAUSES] = None if pauses == before else jsonb_text(pauses_told(pauses))
        supplements += status is Status.SUPPLEMENT_REQUIRED
        note, kept = noted(step), reason if outcome == "refused" else None
        outcome = outcome_after(step, outcome)
        reason = note if status in _REASONED else None
        if outcome == "refused":
            reason = note or kept
        if step.timed and room < (FULL_BYTES if status in ENDINGS else CROWDED_BYTES):
            steps.append(public_step(step.at, status, step.agency, step.department))
            room += _STEP_BYTES + len(step.agency) + len((step.department or "").encode())
        else:
            values[_FLAGS] = [NOT_IN_TIMELINE] + [TIME_UNKNOWN] * (not step.timed)
        values[_VERSION], values[_KIND], values[_OCCURRED_AT] = version, "moved", _in_utc(step.at)
        values[_STATUS], values[_AGENCY], values[_OUTCOME] = status.value, step.agency, outcome
        values[_RECEIVED_AT], values[_DUE_AT], values[_FINISHED_AT], values[_RETURNED_AT] = map(_in_utc, image)
        values[_SUPPLEMENTS], values[_NOTE], values[_DEPARTMENT] = supplements, note, step.department
        values[_ACTOR] = step.officer or SOURCE
        if step.items:
            values[_DETAIL] = jsonb_text({"items": list(step.items)})
        salt = salts[SALT_BYTES * (version - 1) : SALT_BYTES * version]
        if version == 1:
            values[_KIND], values[_SERVICE], values[_CASE] = "received", history.service, history.service_case
            values[_CHANNEL], values[_SUBMITTED_AT] = history.channel, _in_utc(history.submitted_at)
            values[_PERSON] = person_digest(salt, person)
        elif step.agency != holder:
            values[_CAME_FROM] = holder
        holder = step.agency
        events.append((*values, salt, seals.seal(event_leaf_hash(values, salt))))
    kind, name, identity, phone, email, address, subject = person
    last = history.steps[-1]
    dossier = NewDossier(
        code=history.code.text,
        version=number_of_steps,
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


@functools.lru_cache(maxsize=64)  # the events of a line tell few different moments, most of them several times
def _in_utc(moment: datetime | None) -> datetime | None:
    return moment and moment.astimezone(UTC)


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
