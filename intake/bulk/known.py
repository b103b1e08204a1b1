"""Lines whose code is stored: already here, to be appended, or refused by name. Identity is by content."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from intake.books import task_rows
from intake.books.ledger import LOCK_DOSSIER, record_of, state_of
from intake.books.seal import PERSON_COLUMNS, SealKeys, new_salt
from intake.bulk.rows import SOURCE
from intake.dialects import History, HistoryStep, Refused
from intake.dialects.dated import TIME_UNKNOWN, Image, applied_step, images, person_of
from intake.rules.changes import Given
from intake.rules.reconcile import Result, Step, Told, reconcile
from lookup.status import Status
from ops.errors import Refusal

KNOWN = """
SELECT d.code, d.version, d.status, d.key_serial, d.removed, d.service, d.service_case, d.origin, d.submitted_at,
       d.received_at, d.due_at, d.finished_at, d.returned_at,
       d.applicant_kind, d.applicant_name, d.applicant_id, d.applicant_phone, d.applicant_email, d.applicant_address,
       d.subject
  FROM unnest($1::text[]) AS wanted (code)
 CROSS JOIN LATERAL (SELECT * FROM dossier WHERE dossier.code = wanted.code LIMIT 1) AS d
"""

STEPS = """
SELECT e.code, e.occurred_at, e.status, e.agency, coalesce($2 = ANY (e.flags), false) AS untimed
  FROM unnest($1::text[]) AS wanted (code)
 CROSS JOIN LATERAL (SELECT code, version, occurred_at, status, agency, flags
                       FROM event
                      WHERE event.code = wanted.code
                        AND kind IN ('received', 'moved')
                      ORDER BY version) AS e
"""

NUMBERS = """
SELECT number
  FROM dossier_number
 WHERE number = ANY ($1)
"""

_DATES = Image._fields
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Known:
    """A stored dossier: columns of its row, and the steps whose time is known."""

    row: Mapping[str, Any]
    steps: tuple[Step, ...]


async def known(connection: Any, codes: Sequence[str]) -> dict[str, Known]:
    """Those of these codes that are stored."""
    rows = {row["code"]: row for row in await connection.fetch(KNOWN, codes)}
    steps: dict[str, list[Step]] = {code: [] for code in rows}
    if rows:
        for step in await connection.fetch(STEPS, list(rows), TIME_UNKNOWN):
            if not step["untimed"]:
                steps[step["code"]].append(Step(step["occurred_at"], step["status"], step["agency"]))
    return {code: Known(row, tuple(steps[code])) for code, row in rows.items()}


async def bound_numbers(connection: Any, codes: Sequence[str]) -> set[str]:
    """Those of these codes that are official numbers of dossiers."""
    return {row["number"] for row in await connection.fetch(NUMBERS, codes)}


def further_steps(stored: Known, history: History) -> tuple[HistoryStep, ...]:
    """The steps of the line that the stored dossier does not have; none if it is already here. Raises Refused."""
    if stored.row["removed"]:
        raise Refused("differs_from_stored", f"{history.code} was removed")
    timed = tuple(step for step in history.steps if step.timed)
    found = reconcile(_told(stored), _told_by(history, timed))
    if found.refusal is not None:
        raise Refused("differs_from_stored", _in_what(found.refusal, history))
    further = timed[len(timed) - len(found.steps) :] if found.result is Result.APPEND else ()
    present = Status(further[-1].status if further else stored.row["status"])
    if history.status is not present and len(timed) >= len(stored.steps):
        return (*further, history.steps[-1])  # only the present status, which came without a time, can differ
    if not further and len(timed) == len(stored.steps):
        last = list(images(history))[-1]
        differs = [name for name in _DATES if getattr(last, name) not in (None, stored.row[name])]
        if differs:
            raise Refused("differs_from_stored", f"{history.code} is stored with another {' and '.join(differs)}")
    if not history.steps[-1].timed and len(timed) < len(stored.steps):
        later = {step.status for step in stored.steps[len(timed) :]}
        if history.status not in later:
            raise Refused("differs_from_stored", f"{history.code} is stored with another status, {present.slug}")
    return further


def _told(stored: Known) -> Told:
    row = stored.row
    return Told(
        service=row["service"],
        service_case=row["service_case"],
        agency=row["origin"],
        submitted_at=row["submitted_at"],
        person=_encode([row[name] for name in PERSON_COLUMNS]),
        steps=stored.steps,
    )


def _told_by(history: History, timed: tuple[HistoryStep, ...]) -> Told:
    return Told(
        service=history.service,
        service_case=history.service_case,
        agency=history.agency,
        submitted_at=history.submitted_at,
        person=_encode(person_of(history)),
        steps=tuple(Step(step.at, step.status, step.agency) for step in timed),
    )


def _in_what(refusal: Refusal, history: History) -> str:
    differs: Any = refusal.members.get("differs", ())
    if differs == ["steps"]:
        return f"{history.code} is stored with another history. {refusal.detail}"
    names = ["applicant or subject" if name == "person" else name for name in differs]
    return f"{history.code} is stored with another {' and another '.join(names)}"


async def append(
    connection: Any, stored: Known, history: History, *, given: Given, epoch: int, seals: SealKeys
) -> list[tuple[Any, ...]]:
    """The rows of the events that give the stored dossier its further steps. Locks its row until the commit.

    Raises Refused.
    """
    code = history.code.text
    row = await connection.fetchrow(LOCK_DOSSIER, code)
    if row["newest"] != row["version"] or row["version"] != stored.row["version"]:
        row = await connection.fetchrow(LOCK_DOSSIER, code)
        stored = (await known(connection, [code]))[code]
    further = further_steps(stored, history)
    state = state_of(row)
    tasks_before = state.tasks
    rows = []
    after = list(images(history))[len(history.steps) - len(further) :]
    for step, image in zip(further, after, strict=True):
        try:
            applied = applied_step(state, step, image, given)
        except Refusal as refusal:
            raise Refused("step_not_allowed", f"{code}, step {step.status.slug}: {refusal}") from None
        state = applied.state
        record = record_of(
            applied, epoch=epoch, source=SOURCE, source_event_id=None, actor=step.officer or SOURCE, person=None
        )
        rows.append(record.row(new_salt(), seals))
    await task_rows.write(connection, [(tasks_before, state)])
    return rows
