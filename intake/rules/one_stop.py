"""What the one-stop does besides moving a dossier: put its due date off, change its lead, give and end tasks, issue a
paper. No I/O.

`apply` (intake/rules/apply.py) hands these changes on to here.
"""

from dataclasses import replace
from datetime import datetime
from typing import Any

import msgspec

from intake.refusals import BadDate, MoveNotAllowed, ReasonRequired
from intake.rules import policies, tasks
from intake.rules.changes import (
    CROWDED_BYTES,
    Applied,
    AskLead,
    EndTask,
    Given,
    IssuePaper,
    Lead,
    OpenTask,
    PutOff,
    State,
    applied,
)
from intake.rules.requests import LATEST, InvalidContent, nfc
from intake.rules.scope import require_known, require_target, same_world
from intake.rules.workdays import calendar_of
from lookup.catalogue import Part
from lookup.clock import VIETNAM
from lookup.status import Status

NOT_IN_TIMELINE = "not_in_timeline"
_OVER = frozenset({Status.REJECTED, Status.WITHDRAWN, Status.COMPLETED, Status.RETURNED})


def apply(state: State, change: PutOff | Lead | OpenTask | EndTask | AskLead | IssuePaper, given: Given) -> Applied:
    """The change, applied to a dossier that is worked on. A crowded timeline gets no step of it.

    A control slip may be issued of one that is over, too.

    Raises MoveNotAllowed for one that is over, BadDate, ReasonRequired, UnknownAgency, TargetNotAllowed,
    InvalidContent, PolicyBlocks, PolicyAsks, TooManyTasks, WrongTask.
    """
    if isinstance(change, IssuePaper) and change.form == "control":
        return _issued(state, change, given)
    if state.status in _OVER:
        raise MoveNotAllowed(
            f"A dossier that is {state.status.slug} has nothing that is owed.",
            allowed=[],
            current=state.status.slug,
            version=state.version,
        )
    if isinstance(change, IssuePaper):
        return _issued(state, change, given)
    done = _applied(state, change, given)
    if state.timeline_bytes < CROWDED_BYTES or done.event is None or NOT_IN_TIMELINE in done.flags:
        return done
    flags = (*done.flags, NOT_IN_TIMELINE)
    return replace(done, event=done.event | {"flags": list(flags)}, flags=flags)


def _applied(state: State, change: PutOff | Lead | OpenTask | EndTask | AskLead, given: Given) -> Applied:
    if isinstance(change, PutOff):
        return _put_off(state, change, given)
    if isinstance(change, Lead):
        return _led(state, change, given)
    if isinstance(change, OpenTask):
        return _opened(state, change, given)
    if isinstance(change, EndTask):
        return _ended(state, change, given)
    return _asked(state, change, given)


def route_told(before: State | None, after: State, given: Given) -> dict[str, Any]:
    """What the event that accepts a dossier with tasks says of the service's route, which a later catalogue changes."""
    route = route_of(after, given)
    accepts = after.received_at is not None and (before is None or before.received_at is None)
    return {"route": list(map(msgspec.to_builtins, route))} if route and accepts and after.tasks else {}


def route_of(dossier: State, given: Given) -> tuple[Part, ...]:
    """The parts of the work on this dossier, as its service has them; one of the other world's agency is the lead's."""
    route = tasks.route_of(given.catalogue.services.get(dossier.service))
    return tuple(
        msgspec.structs.replace(part, agency=None)
        if part.agency is not None and not same_world(given.catalogue, part.agency, dossier.origin)
        else part
        for part in route
    )


def with_tasks(before: State, after: State, at: datetime, given: Given, *, by_itself: bool = False) -> State:
    """The state after a change, with the tasks that follow it. `by_itself` as in tasks.follow, which may raise."""
    followed = tasks.follow(
        before.tasks,
        at,
        before,
        after,
        route=route_of(after, given),
        calendar=calendar_of(given.catalogue, after.agency),
        by_itself=by_itself,
    )
    return msgspec.structs.replace(after, tasks=followed)


def _put_off(state: State, change: PutOff, given: Given) -> Applied:
    reason = _reason(change.reason, "A re-appointment")
    calendar = calendar_of(given.catalogue, state.agency)
    if state.due_at is None:
        raise BadDate(
            "due_at: no due date was promised for this dossier.", detail_vi="Hồ sơ này chưa có ngày hẹn trả kết quả."
        )
    if change.due_at <= max(state.due_at, given.now):
        raise BadDate(
            f"due_at: {change.due_at.isoformat()} is not later than {state.due_at.isoformat()} and now.",
            detail_vi=f"Ngày hẹn mới phải sau hiện tại và sau {state.due_at.astimezone(VIETNAM):%H:%M ngày %d/%m/%Y}.",
        )
    if change.due_at > LATEST:
        raise BadDate(f"due_at: {change.due_at.isoformat()} is after {LATEST.year}.", detail_vi="Ngày hẹn mới quá xa.")
    if not calendar.is_working_day(change.due_at.astimezone(VIETNAM).date()):
        raise BadDate(
            f"due_at: {change.due_at.isoformat()} is not on a working day.",
            detail_vi=f"Ngày hẹn mới, {change.due_at.astimezone(VIETNAM):%d/%m/%Y}, không phải là ngày làm việc.",
        )
    service = given.catalogue.services.get(state.service)
    found = policies.of_new_due_date(state, given.now, service, calendar)
    warnings = policies.judge(found, change.override)
    after = msgspec.structs.replace(
        state,
        version=state.version + 1,
        due_at=change.due_at,
        reappointments=state.reappointments + 1,
        calendar=calendar.name,
    )
    special = {"note": reason, "detail": policies.listed(warnings, change.override) or None}
    after = with_tasks(state, after, given.now, given)
    return applied("due_changed", after, given.now, given, special, (), tuple(each.told() for each in warnings))


def _issued(state: State, change: IssuePaper, given: Given) -> Applied:
    reason = nfc((change.reason or "").strip()) or None
    if change.form == "apology" and reason is None:
        raise ReasonRequired("An apology needs a reason.", missing=["reason"])
    if change.form == "apology" and state.due_at is None:
        raise BadDate(
            "due_at: no due date was promised for this dossier.", detail_vi="Hồ sơ này chưa có ngày hẹn trả kết quả."
        )
    after = msgspec.structs.replace(state, version=state.version + 1)
    return applied("paper_issued", after, given.now, given, {"note": reason, "detail": {"form": change.form}})


def _led(state: State, change: Lead, given: Given) -> Applied:
    reason = _reason(change.reason, "Another lead")
    if change.agency == state.agency:
        return Applied(state, None)
    _must_take(state, change.agency, given)
    after = msgspec.structs.replace(state, version=state.version + 1, agency=change.agency)
    after = with_tasks(state, after, given.now, given)
    return applied("led_by", after, given.now, given, {"came_from": state.agency, "note": reason})


def _opened(state: State, change: OpenTask, given: Given) -> Applied:
    work = nfc(change.work.strip())
    if not work:
        raise InvalidContent("work: say what the agency has to do")
    _must_take(state, change.agency, given)
    due_at = change.due_at or state.due_at
    if change.due_at is not None and change.due_at <= given.now:
        raise BadDate(f"due_at: {change.due_at.isoformat()} is over.", detail_vi="Hạn của việc này đã qua.")
    if change.due_at is not None and change.due_at > LATEST:
        raise BadDate(f"due_at: {change.due_at.isoformat()} is after {LATEST.year}.")
    opened = tasks.opened(
        state.tasks,
        given.now,
        agency=change.agency,
        kind=change.kind,
        work=work,
        after=change.after,
        due_at=due_at,
    )
    return _with_new_task(state, opened, given, {})


def _asked(state: State, change: AskLead, given: Given) -> Applied:
    question = nfc(change.question.strip())
    if not question:
        raise ReasonRequired("A question to the lead needs its words.", missing=["question"])
    asked = tasks.asked(state.tasks, change.number, state.agency, question, given.now)
    return _with_new_task(state, asked, given, {"asked_by": change.number}, (NOT_IN_TIMELINE,))


def _with_new_task(
    state: State, after: tasks.Tasks, given: Given, told: dict[str, int], flags: tuple[str, ...] = ()
) -> Applied:
    new = after[-1]
    detail = {
        "kind": new.kind,
        "work": new.work,
        "agency": new.agency,
        "after": new.after,
        "due_at": new.due_at and new.due_at.astimezone(VIETNAM).isoformat(),
    }
    moved = msgspec.structs.replace(state, version=state.version + 1, tasks=after)
    return applied("task_opened", moved, given.now, given, {"task": new.number, "detail": detail | told}, flags)


def _ended(state: State, change: EndTask, given: Given) -> Applied:
    reason = nfc((change.reason or "").strip()) or None
    if change.end != "done" and reason is None:
        raise ReasonRequired(f"A task that is {change.end} needs a reason.", missing=["reason"])
    after = msgspec.structs.replace(
        state, version=state.version + 1, tasks=tasks.ended(state.tasks, change.number, change.end, given.now)
    )
    flags = () if change.end == "done" else (NOT_IN_TIMELINE,)
    agency = after.tasks[change.number - 1].agency
    special = {"task": change.number, "detail": {"state": change.end, "reason": reason, "agency": agency}}
    return applied("task_ended", after, given.now, given, special, flags)


def _must_take(state: State, agency: str, given: Given) -> None:
    """Raises UnknownAgency, TargetNotAllowed unless this agency may take a part of the work today."""
    require_known(given.catalogue, agency, state.agency)
    if agency not in (state.agency, state.origin):
        service = given.catalogue.services.get(state.service)
        require_target(given.catalogue, state.agency, agency, given.now.astimezone(VIETNAM).date(), service)


def _reason(text: str, what: str) -> str:
    reason = nfc(text.strip())
    if not reason:
        raise ReasonRequired(f"{what} needs a reason.", missing=["reason"])
    return reason
