"""What may be written to a dossier: a state and a change give the state after it and the event that says so. No I/O.

Who may ask for the change is `scope`'s to say, and the caller's whether agency and
service are in force on the day of a reception. Every column of the state but `last_at` and `timeline_bytes` follows
from the events alone, by intake/books/fold.py.
"""

from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import msgspec

from intake.refusals import (
    BackdatedTooFar,
    BadDate,
    DatesOutOfOrder,
    KeysUsedUp,
    MoveNotAllowed,
    NumberTaken,
    ReasonRequired,
    UnknownDossier,
    UnknownService,
)
from intake.rules import one_stop, policies, tasks
from intake.rules.changes import (
    CORRECTABLE,
    CROWDED_BYTES,
    ONE_STOP,
    Applied,
    Binding,
    Change,
    Correction,
    Given,
    Move,
    Note,
    OwnerChange,
    Pause,
    Reception,
    Reissue,
    Removal,
    State,
    applied,
    pauses_told,
)
from intake.rules.due_dates import due_date
from intake.rules.requests import EARLIEST, LATEST, TOLERANCE, InvalidContent, nfc
from intake.rules.scope import require_known, require_own_number, require_target
from intake.rules.workdays import Calendar, calendar_of, shift
from lookup.catalogue import Service
from lookup.clock import VIETNAM, local
from lookup.status import FIRST, Status

BY_IMPORT: Final = "by_import"
NOT_IN_TIMELINE: Final = "not_in_timeline"
IRREGULAR_MOVE: Final = "irregular_move"
TOLD_AT: Final = "told_at"
"""In an event's `detail`: the time that the source told, where another one is recorded."""
NOTHING_TOLD: Final = -1
"""The `source_seq` of a dossier whose new owner has told nothing yet; a source's own begin with 0."""
FULL_BYTES: Final = 60 * 1024
"""From this size on none is: the largest step still fits below the 64 KiB that the schema allows."""
ENDINGS: Final = frozenset({Status.REJECTED, Status.WITHDRAWN, Status.COMPLETED, Status.RETURNED})
LAST_SERIAL: Final = 31
"""A lookup key has five bits for its serial."""
OUTCOMES: Final = ("granted", "refused", "partly")
_REASONED = frozenset({Status.REJECTED, Status.WITHDRAWN, Status.SUSPENDED})
_NEEDS_REASON = frozenset({Status.REJECTED, Status.SUSPENDED, Status.SUPPLEMENT_REQUIRED})
_ENDS_UNFINISHED = frozenset({Status.REJECTED, Status.WITHDRAWN})
_STEP_BYTES = 160
"""Of a step in jsonb, besides agency and department; rounded up."""


def code_day(now: datetime) -> date:
    """The day for which a new code is issued: today in Vietnam."""
    return now.astimezone(VIETNAM).date()


def apply(state: State | None, change: Change, given: Given) -> Applied:
    """The change, applied. `state` is None for a reception and only there.

    Raises BadDate, DatesOutOfOrder, BackdatedTooFar, MoveNotAllowed, ReasonRequired, TargetNotAllowed, UnknownAgency,
    UnknownService, NumberTaken, KeysUsedUp, InvalidContent, PolicyBlocks, PolicyAsks, TasksLive, TooManyTasks,
    WrongTask, and UnknownDossier for a removed one.
    """
    if isinstance(change, Reception):
        return _received(change, given)
    if state is None or state.removed:
        raise UnknownDossier
    if isinstance(change, Move):
        return _moved(state, change, given)
    if isinstance(change, Note):
        return _noted(state, change, given)
    if isinstance(change, Binding):
        return _bound(state, change, given)
    if isinstance(change, Reissue):
        return _reissued(state, change, given)
    if isinstance(change, OwnerChange):
        return _owned(state, change, given)
    if isinstance(change, Removal):
        return _removed(state, change, given)
    if isinstance(change, ONE_STOP):
        return one_stop.apply(state, change, given)
    return _corrected(state, change, given)


def _received(new: Reception, given: Given) -> Applied:
    if new.status not in FIRST:
        raise InvalidContent(f"status: a dossier begins as submitted or received, not as {new.status.slug}")
    calendar = calendar_of(given.catalogue, new.agency)
    at = _when(new.submitted_at, None, given, calendar, any_day=new.by_sync)
    received_at = at if new.status is Status.RECEIVED else None
    due_at = received_at and _promise(
        given, new.service, new.service_case, new.channel, received_at, calendar, new.by_sync
    )
    if new.due_at is not None:
        due_at = _own_due_date(new.due_at, at)
    first = {"service": new.service, "service_case": new.service_case, "channel": new.channel, "submitted_at": at}
    state = State(
        code=new.code,
        version=1,
        status=new.status,
        agency=new.agency,
        origin=new.agency,
        **first,  # type: ignore[arg-type]
        calendar=calendar.name if new.due_at is None else None,
        last_at=at,
        timeline_bytes=_step_bytes(new.agency, new.department),
        submitted_by=new.submitted_by,
        owner=new.owner,
        source_seq=new.source_seq,
        received_at=received_at,
        due_at=due_at,
    )
    if not new.by_sync:
        service = given.catalogue.services.get(new.service)
        hours = policies.value_of(service, "decision_hours")
        route = one_stop.route_of(state, given)
        tasked = tasks.begun(at, state, route=route, calendar=calendar, decision_hours=hours)
        state = msgspec.structs.replace(state, tasks=tasked)
    route_told = one_stop.route_told(None, state, given)
    special = first | {
        "task": None if new.by_sync else 1,
        "source_seq": new.source_seq,
        "department": nfc(new.department),
        "detail": _told_otherwise(new.submitted_at, at) if new.by_sync else route_told or None,
    }
    return applied("received", state, at, given, special)


def _moved(state: State, move: Move, given: Given) -> Applied:
    before, after = state.status, move.to
    irregular = not before.may_become(after)
    any_day = move.by_import or move.by_sync
    if irregular and (before.final or not move.by_sync):
        allowed = [status.slug for status in Status if before.may_become(status)]
        raise MoveNotAllowed(
            f"A dossier that is {before.slug} may become: {', '.join(allowed) or 'nothing, this status is final'}.",
            allowed=allowed,
            current=before.slug,
            version=state.version,
        )
    service = given.catalogue.services.get(state.service)
    agency = move.agency or state.agency
    calendar = calendar_of(given.catalogue, agency)
    if move.by_sync:
        at = max(_told(move.at, state, given), state.last_at)
    else:
        at = _when(move.at, state.last_at, given, calendar, any_day=any_day)
    if agency != state.agency:
        require_known(given.catalogue, agency, state.agency)
    if agency not in (state.agency, state.origin) and not move.by_import:
        require_target(given.catalogue, state.agency, agency, at.astimezone(VIETNAM).date(), service)
    outcome = _outcome(state, move)
    note, items = _said(move, outcome)
    received_at, due_at, pauses = state.received_at, state.due_at, state.pauses
    if before.paused and pauses and pauses[-1].until is None:
        ended = msgspec.structs.replace(pauses[-1], until=local(at))
        pauses = (*pauses[:-1], ended)
        if received_at is not None and after not in _ENDS_UNFINISHED:
            due_at = _due_after(ended, at, state, service, calendar)
    if received_at is None and after in (Status.RECEIVED, Status.PROCESSING):
        received_at = at
        promised = _promise(given, state.service, state.service_case, state.channel, at, calendar, any_day)
        due_at = promised or due_at
    if move.due_at is not None:
        due_at = _own_due_date(move.due_at, state.submitted_at)
    if after.paused:
        pauses = (*pauses, Pause(after, at.astimezone(VIETNAM), None, _policy(service, after), local(due_at)))
    full = state.timeline_bytes >= (FULL_BYTES if after in ENDINGS else CROWDED_BYTES)
    flags = (BY_IMPORT,) * move.by_import + (IRREGULAR_MOVE,) * irregular + (NOT_IN_TIMELINE,) * full
    reason = note if after in _REASONED else None
    if outcome == "refused":
        reason = note or (state.reason if state.outcome == "refused" else None)
    moved = msgspec.structs.replace(
        state,
        version=state.version + 1,
        status=after,
        agency=agency,
        received_at=received_at,
        due_at=due_at,
        finished_at=_finished(state, after, at),
        returned_at=at if after is Status.RETURNED else None,
        calendar=_counted_by(state, move, due_at, calendar),
        pauses=pauses,
        supplements=state.supplements + (after is Status.SUPPLEMENT_REQUIRED),
        outcome=outcome,
        action_needed=note if after.asks else None,
        reason=reason,
        source_seq=state.source_seq if move.source_seq is None else move.source_seq,
        last_at=at,
        timeline_bytes=state.timeline_bytes + (0 if full else _step_bytes(agency, move.department)),
    )
    warnings = []
    if not any_day:
        found = policies.of_move(state, after, at, service, calendar)
        warnings = policies.judge(found, move.override)
    moved = one_stop.with_tasks(state, moved, at, given, by_itself=any_day)
    told = (
        ({"items": items} if items else {})
        | one_stop.route_told(state, moved, given)
        | policies.listed(warnings, move.override)
        | ((_told_otherwise(move.at, at) or {}) if move.by_sync else {})
    )
    special = {
        "came_from": state.agency if agency != state.agency else None,
        "source_seq": move.source_seq,
        "note": note,
        "detail": told or None,
        "department": nfc(move.department),
        "pauses": None if pauses == state.pauses else pauses_told(pauses),
    }
    told_warnings = tuple(each.told() for each in warnings)
    return applied("moved", moved, at, given, special, flags, told_warnings)


def _noted(state: State, told: Note, given: Given) -> Applied:
    at = _told(told.at, state, given)
    full = state.timeline_bytes >= CROWDED_BYTES
    elsewhere = {"told_agency": told.agency} if told.agency not in (None, state.agency) else {}
    after = msgspec.structs.replace(
        state,
        version=state.version + 1,
        timeline_bytes=state.timeline_bytes + (0 if full else _step_bytes(state.agency, told.department)),
    )
    special = {
        "source_seq": told.source_seq,
        "step_status": told.to.value,
        "note": nfc((told.note or "").strip()) or None,
        "department": nfc(told.department),
        "detail": ((_told_otherwise(told.at, at) or {}) | elsewhere) or None,
    }
    return applied("noted", after, at, given, special, (*told.why, *(NOT_IN_TIMELINE,) * full))


def _bound(state: State, bound: Binding, given: Given) -> Applied:
    if state.official_number == bound.number:
        return Applied(state, None)
    require_own_number(given.catalogue, bound.number, state.origin)
    if state.official_number is not None:
        raise NumberTaken(f"This dossier has the official number {state.official_number} already.")
    if bound.elsewhere:
        raise NumberTaken(f"{bound.number} belongs to another dossier, or is a dossier's code.")
    after = msgspec.structs.replace(state, version=state.version + 1, official_number=bound.number)
    special = {"official_number": bound.number}
    return applied("number_bound", after, given.now, given, special, (BY_IMPORT,) * bound.by_import)


def _corrected(state: State, correction: Correction, given: Given) -> Applied:
    unknown = correction.fields.keys() - set(CORRECTABLE)
    new = {name: value for name, value in correction.fields.items() if unknown or getattr(state, name) != value}
    if unknown or None in new.values() or not (new or correction.applicant):
        what = f"cannot change {', '.join(sorted(unknown))}" if unknown else "changes nothing, or empties a field"
        raise InvalidContent(f"fields: the correction {what}; it may change {', '.join(CORRECTABLE)}")
    reason = nfc(correction.reason.strip())
    if not reason:
        raise ReasonRequired("A correction needs a reason.", missing=["reason"])
    after = msgspec.structs.replace(state, version=state.version + 1, **new)
    if "agency" in new:
        require_known(given.catalogue, after.agency, state.agency)
    service = given.catalogue.services.get(after.service)
    cases = {limit.service_case for limit in service.times} if service else set()
    if new.keys() & {"service", "service_case"} and after.service_case not in cases:
        raise UnknownService(f"There is no service {after.service} with a case {after.service_case}.")
    if not EARLIEST <= after.submitted_at <= given.now:
        raise BadDate(f"submitted_at: {after.submitted_at.isoformat()} is in the future or before 1990.")
    if "submitted_at" in new and after.submitted_at > (state.received_at or state.last_at):
        raise DatesOutOfOrder(f"submitted_at: {after.submitted_at.isoformat()} is after the reception.")
    if "official_number" in new:
        require_own_number(given.catalogue, new["official_number"], state.origin)
    if "official_number" in new and correction.elsewhere:
        raise NumberTaken(f"{after.official_number} belongs to another dossier, or is a dossier's code.")
    if "agency" in new:
        after = one_stop.with_tasks(state, after, given.now, given)
    detail = {name: [_text(getattr(state, name)), _text(value)] for name, value in new.items()}
    special = {name: value for name, value in new.items() if name != "agency"}
    special |= {"note": reason, "came_from": state.agency if "agency" in new else None}
    special["detail"] = detail | ({"applicant": list(correction.applicant)} if correction.applicant else {})
    return applied("corrected", after, given.now, given, special)


def _reissued(state: State, change: Reissue, given: Given) -> Applied:
    if state.key_serial >= LAST_SERIAL:
        raise KeysUsedUp(f"Its lookup key has been issued {LAST_SERIAL + 1} times.")
    after = msgspec.structs.replace(state, version=state.version + 1, key_serial=state.key_serial + 1)
    return applied("key_reissued", after, given.now, given, {"note": nfc(change.reason)})


def _owned(state: State, change: OwnerChange, given: Given) -> Applied:
    if change.owner == state.owner:
        return Applied(state, None)
    after = msgspec.structs.replace(state, version=state.version + 1, owner=change.owner, source_seq=NOTHING_TOLD)
    special = {"source_seq": NOTHING_TOLD, "note": nfc((change.reason or "").strip()) or None}
    return applied("owner_changed", after, given.now, given, special)


def _removed(state: State, change: Removal, given: Given) -> Applied:
    reason = nfc(change.reason.strip())
    if not reason:
        raise ReasonRequired("A removal needs a reason.", missing=["reason"])
    after = msgspec.structs.replace(
        state,
        version=state.version + 1,
        removed=True,
        official_number=None,
        action_needed=None,
        reason=None,
        tasks=tasks.emptied(state.tasks, given.now),
    )
    return applied("removed", after, given.now, given, {"note": reason})


# -- times -----------------------------------------------------------------------------------------------------------


def _when(
    at: datetime | None, last_at: datetime | None, given: Given, calendar: Calendar, *, any_day: bool = False
) -> datetime:
    """The time of a step: as stated, but not after now nor before the last step where clocks differ a little."""
    if at is None:
        return max(given.now, last_at or given.now)
    if not EARLIEST <= at <= given.now + TOLERANCE:
        raise BadDate(f"{at.isoformat()} is in the future or before 1990.")
    if last_at is not None and at < last_at - TOLERANCE:
        last = last_at.astimezone(VIETNAM).isoformat()
        raise DatesOutOfOrder(f"{at.isoformat()} is before the dossier's last step, {last}.", last_at=last)
    at = max(min(at, given.now), last_at or at)
    earliest = _earliest(code_day(given.now), given.backdating, calendar)
    if not any_day and at.astimezone(VIETNAM).date() < earliest:
        raise BackdatedTooFar(f"{at.isoformat()} is before {earliest}.", earliest=earliest.isoformat())
    return at


def _told(at: datetime | None, state: State, given: Given) -> datetime:
    """The time of a step that a source tells: any since the submission, but not after now."""
    if at is None:
        return given.now
    if not EARLIEST <= at <= given.now + TOLERANCE:
        raise BadDate(f"{at.isoformat()} is in the future or before 1990.")
    if at < state.submitted_at - TOLERANCE:
        first = state.submitted_at.astimezone(VIETNAM).isoformat()
        raise DatesOutOfOrder(f"{at.isoformat()} is before the dossier's submission, {first}.", last_at=first)
    return min(at, given.now)


def _told_otherwise(told: datetime | None, kept: datetime) -> dict[str, str] | None:
    """Of a step that is recorded at another time than its source told: the told one, in UTC."""
    return None if told is None or told == kept else {TOLD_AT: told.astimezone(UTC).isoformat()}


def _own_due_date(due_at: datetime, submitted_at: datetime) -> datetime:
    if due_at > LATEST:
        raise BadDate(f"due_at: {due_at.isoformat()} is after {LATEST.year}.")
    if due_at < submitted_at:
        raise DatesOutOfOrder(f"due_at: {due_at.isoformat()} is before the submission, {submitted_at.isoformat()}.")
    return due_at


def _counted_by(state: State, move: Move, due_at: datetime | None, calendar: Calendar) -> str | None:
    """The calendar by which the due date was counted; None where the source counted it."""
    if move.due_at is not None:
        return None
    return state.calendar if due_at == state.due_at else calendar.name


def _earliest(today: date, working_days: int, calendar: Calendar) -> date:
    """The working day so many before today: Friday for one before Monday."""
    while working_days > 0:
        today -= timedelta(days=1)
        working_days -= calendar.is_working_day(today)
    return today


def _promise(
    given: Given, service: str, case: str, channel: str, at: datetime, calendar: Calendar, any_day: bool = False
) -> datetime | None:
    """The due date at acceptance. Raises BadDate if it would be over before today."""
    due = due_date(given.catalogue.services.get(service), case, channel, at, calendar)
    if due is not None and not any_day and due.astimezone(VIETNAM).date() < code_day(given.now):
        raise BadDate(f"Received at {at.isoformat()}, its due date {due.isoformat()} is in the past.")
    return due


def _policy(service: Service | None, paused_as: Status) -> str:
    return "none" if service is None else service.clock_after(paused_as)


def _due_after(
    pause: Pause, at: datetime, state: State, service: Service | None, calendar: Calendar
) -> datetime | None:
    """The due date after a pause, by the pause's own policy: counted anew, moved by its length, or kept."""
    if state.due_at is None:
        return None
    if pause.policy == "restart":
        return due_date(service, state.service_case, state.channel, at, calendar) or state.due_at
    return shift(state.due_at, pause.since, at, calendar) if pause.policy == "shift" else state.due_at


def _finished(state: State, after: Status, at: datetime) -> datetime | None:
    # A correction of the result (art. 21) reopens the work, and so does whatever else another system makes of it.
    return state.finished_at or at if after in (Status.COMPLETED, Status.RETURNED) else None


# -- words -----------------------------------------------------------------------------------------------------------


def _outcome(state: State, move: Move) -> str | None:
    if move.to is Status.COMPLETED and (move.outcome is None or move.outcome in OUTCOMES):
        return move.outcome or (None if move.by_sync else "granted")  # of another system's work nothing is supposed
    if move.outcome is not None:
        raise InvalidContent(f"outcome: a completion has one of {', '.join(OUTCOMES)}, other moves have none")
    return state.outcome if move.to is Status.RETURNED else None


def _said(move: Move, outcome: str | None) -> tuple[str | None, list[str]]:
    """The note as the holder reads it, the items of a supplement below it, and these items. Raises ReasonRequired."""
    note = nfc((move.note or "").strip()) or None
    items = [each for each in (nfc(item.strip()) for item in move.items) if each]
    supplement = move.to is Status.SUPPLEMENT_REQUIRED
    if items and not supplement:
        raise InvalidContent("items: only a request for a supplement has them")
    needed = move.to in _NEEDS_REASON or (move.to is Status.COMPLETED and outcome == "refused")
    missing = ["note"] * (needed and note is None) + ["items"] * (supplement and not items)
    if missing and not (move.by_import or move.by_sync):
        raise ReasonRequired(f"A move to {move.to.slug} needs: {', '.join(missing)}.", missing=missing)
    return "\n".join([*([note] if note else []), *(f"– {item}" for item in items)]) or None, items


def _step_bytes(agency: str, department: str | None) -> int:
    return _STEP_BYTES + len(agency.encode()) + len((nfc(department) or "").encode())


def _text(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
