"""The steps of a history with what the source says of each: the four dates after it, its note and its outcome. No I/O.

Due dates are the source's own, so `calendar` is null; each event from the reception on has the one that the line tells.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec

from intake.dialects import History, HistoryStep
from intake.rules import one_stop
from intake.rules.apply import NOT_IN_TIMELINE, apply
from intake.rules.changes import Applied, Given, Move, State, pauses_told
from lookup.status import Status

TIME_UNKNOWN: Final = "time_unknown"
"""The flag of an event whose source did not say since when: it adds no step, and begins no pause."""

_DONE = (Status.COMPLETED, Status.RETURNED)


class Image(NamedTuple):
    """Four dates of a dossier after one of its steps."""

    received_at: datetime | None
    due_at: datetime | None
    finished_at: datetime | None
    returned_at: datetime | None


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
    if not step.items:
        return step.note or None
    return "\n".join([*([step.note] if step.note else []), *(f"– {item}" for item in step.items)])


def outcome_after(step: HistoryStep, outcome: str | None) -> str | None:
    """The outcome of the work after a step: as the source says, never supposed."""
    if step.status is Status.COMPLETED:
        return step.outcome
    return outcome if step.status is Status.RETURNED else None


def applied_step(
    state: State, step: HistoryStep, image: Image, given: Given, *, by_sync: bool = False, source_seq: int | None = None
) -> Applied:
    """The step, applied by an import or `by_sync`; but what the line says of dates and outcome is the source's own.

    Raises Refusal.
    """
    move = Move(
        to=step.status,
        at=step.at,
        agency=step.agency,
        department=step.department,
        note=step.note,
        items=step.items,
        outcome=step.outcome,
        by_import=not by_sync,
        by_sync=by_sync,
        source_seq=source_seq,
    )
    applied = apply(state, move, given)
    own: dict[str, Any] = {name: value for name, value in image._asdict().items() if value is not None}
    if image.due_at is not None:
        own["calendar"] = None
    own["outcome"] = outcome_after(step, state.outcome)
    event = (applied.event or {}) | own
    after = msgspec.structs.replace(applied.state, **own)
    if not step.timed:
        event["flags"] = list(dict.fromkeys((*applied.flags, NOT_IN_TIMELINE, TIME_UNKNOWN)))
        if step.status.paused:
            after = msgspec.structs.replace(after, pauses=after.pauses[:-1])
            event["pauses"] = pauses_told(after.pauses)
    if state.tasks:  # they follow the source's own dates
        after = one_stop.with_tasks(state, after, event["occurred_at"], given, by_itself=True)
        event["detail"] = ((event["detail"] or {}) | one_stop.route_told(state, after, given)) or None
    return Applied(after, event, applied.flags)
