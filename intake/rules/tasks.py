"""Who owes what of a dossier, and by when: its tasks. No I/O.

A dossier has one status and one due date, whoever works on it. The agency that holds it leads: it sets the status, and
gives tasks to other agencies. Each agency ends its own tasks. The work is not completed while another agency has a live
task, so that nobody's part is passed over; the lead may cancel one.

`after` names the task that has to end first. A waiting task opens when that one is done or cancelled; when it was
refused, the lead decides. An agency that needs something asks the lead, since only the one-stop speaks with the citizen
(Decree 61/2018 art. 5): its task is `asked` after the lead's new task, the answer, and opens again when that one ends.

The tasks of the one-stop's own path, the decision on an application, the work, and handing over the result, follow the
dossier's moves (`follow`). Nobody ends these by themselves.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, Literal, Protocol

import msgspec

from intake.refusals import TasksLive, TooManyTasks, WrongTask
from intake.rules.workdays import Calendar, after_hours, due_after, shift
from lookup.catalogue import Part, Service
from lookup.status import Status

Kind = Literal["decide", "work", "opinion", "transfer", "hand_over"]
State = Literal["waiting", "open", "asked", "done", "refused", "cancelled"]
End = Literal["done", "refused", "cancelled"]

MOST: Final = 12
"""Tasks of a dossier. Two places are kept for what its moves open: work done anew, and handing over the result."""
LIVE: Final = frozenset({"waiting", "open", "asked"})
BY_MOVES: Final = frozenset({"decide", "hand_over"})
"""Kinds that only the dossier's moves open and end."""
COUNTED: Final = datetime.max.replace(tzinfo=UTC)
"""The due date of a task, where a calendar counts it and none is given: the books are verified without calendars."""

_ENDS_UNFINISHED = frozenset({Status.REJECTED, Status.WITHDRAWN})


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What an agency owes. `due_at` is null where nothing was promised, `opened_at` while it waits."""

    number: int
    agency: str
    kind: Kind
    work: str
    state: State
    after: int | None = None
    due_at: datetime | None = None
    opened_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def live(self) -> bool:
        """Whether it has not ended."""
        return self.state in LIVE


Tasks = tuple[Task, ...]
"""All tasks of a dossier in the order of their numbers, which count from one."""


class Standing(Protocol):
    """What of a dossier its tasks follow: a State has it."""

    @property
    def status(self) -> Status: ...
    @property
    def agency(self) -> str: ...
    @property
    def origin(self) -> str: ...
    @property
    def received_at(self) -> datetime | None: ...
    @property
    def due_at(self) -> datetime | None: ...


def route_of(service: Service | None) -> tuple[Part, ...]:
    """The parts of the work on a dossier of this service; empty where the catalogue names none."""
    return (service.route if service is not None else None) or ()


def opened(
    tasks: Tasks,
    at: datetime,
    *,
    agency: str,
    kind: Kind,
    work: str,
    after: int | None = None,
    due_at: datetime | None = None,
) -> Tasks:
    """With one more task, which waits if `after` is live. Raises TooManyTasks, and WrongTask for an `after` there is
    not and for a kind that follows the moves."""
    if kind in BY_MOVES:
        raise WrongTask(f"A task {kind} is opened by the dossier's moves.")
    if len(tasks) >= MOST - 2:
        raise TooManyTasks(f"A dossier has {MOST} tasks at most, two of them for its own moves.")
    waits = after is not None and _of(tasks, after).live
    state: State = "waiting" if waits else "open"
    return (*tasks, _new(tasks, at, agency=agency, kind=kind, work=work, after=after, due_at=due_at, state=state))


def ended(tasks: Tasks, number: int, end: End, at: datetime) -> Tasks:
    """After this task has ended, and with those open that waited for it. Raises WrongTask unless it may end so now:
    one that waits or is asked can only be cancelled."""
    task = _of(tasks, number)
    if task.kind in BY_MOVES:
        raise WrongTask(f"Task {number}, {task.kind}, ends with a move of the dossier.")
    if not task.live:
        raise WrongTask(f"Task {number} is {task.state} already.")
    if end != "cancelled" and task.state != "open":
        raise WrongTask(f"Task {number} is {task.state}: it waits for task {task.after}.")
    return _ended(tasks, number, end, at)


def asked(tasks: Tasks, number: int, lead: str, question: str, at: datetime) -> Tasks:
    """With a question of this task's agency to the lead: a new task of the lead's, for which this one waits.

    Raises WrongTask unless it is open and another agency's than the lead, and TooManyTasks.
    """
    task = _of(tasks, number)
    if task.state != "open" or task.kind in BY_MOVES:
        raise WrongTask(f"Task {number}, {task.kind}, is {task.state}: only one that is open can be asked about.")
    if task.agency == lead:
        raise WrongTask(f"Task {number} is the lead's own: there is nobody to ask.")
    more = opened(tasks, at, agency=lead, kind="opinion", work=question)
    waiting = msgspec.structs.replace(task, state="asked", after=more[-1].number)
    return _with(more, waiting)


def begun(
    at: datetime, now: Standing, *, route: Iterable[Part], calendar: Calendar | None, decision_hours: int
) -> Tasks:
    """The tasks of a dossier that comes in: the decision on an application, or the work on one that is accepted.

    Without a `calendar` those due dates that it would count are COUNTED.
    """
    if now.received_at is None:
        due_at = after_hours(at, decision_hours, calendar) if calendar is not None else COUNTED
        return (_new((), at, agency=now.agency, kind="decide", work="", due_at=due_at),)
    return _work((), at, now, route, calendar)


def follow(
    tasks: Tasks,
    at: datetime,
    before: Standing,
    now: Standing,
    *,
    route: Iterable[Part],
    calendar: Calendar | None,
    by_itself: bool = False,
) -> Tasks:
    """The tasks after a move of the dossier, a new due date or another lead; unchanged where there are none.

    Live tasks of the former lead are the new lead's, and a due date is as far from the dossier's as it was. Raises
    TasksLive for a completion while another agency's task is live; with `by_itself`, where another system says that it
    is completed, that task is cancelled.
    """
    if not tasks:
        return tasks
    if now.status is not before.status and now.status in _ENDS_UNFINISHED:
        return _all_ended(tasks, "cancelled", at)
    if now.agency != before.agency:
        tasks = _handed(tasks, before.agency, now.agency)
    if before.due_at and now.due_at and now.due_at != before.due_at:
        tasks = _put_off(tasks, before.due_at, now.due_at, calendar)
    if before.received_at is None and now.received_at is not None:
        decided = _all_ended(tasks, "done", at, kinds={"decide"})
        tasks = _work(decided, at, now, route, calendar)
    if now.status is before.status:
        return tasks
    if now.status is Status.COMPLETED:
        others = [task for task in tasks if task.live and task.agency != now.agency]
        for task in others if by_itself else ():
            tasks = _with(tasks, msgspec.structs.replace(task, state="cancelled", ended_at=at))
        if others and not by_itself:
            named = ", ".join(f"{task.number} of {task.agency}" for task in others)
            raise TasksLive(f"Live tasks: {named}.", tasks=[task.number for task in others])
        tasks = _all_ended(tasks, "done", at)
        return _again(tasks, at, agency=now.origin, kind="hand_over", due_at=now.due_at)
    if now.status is Status.RETURNED:
        return _all_ended(tasks, "done", at)
    if before.status is Status.COMPLETED:  # the result is corrected (art. 21)
        tasks = _all_ended(tasks, "cancelled", at, kinds={"hand_over"})
        return _again(tasks, at, agency=now.agency, kind="work", due_at=now.due_at)
    return tasks


def emptied(tasks: Tasks, at: datetime) -> Tasks:
    """The tasks of a dossier that is removed: nothing is owed any more, and no words are left."""
    return tuple(msgspec.structs.replace(task, work="") for task in _all_ended(tasks, "cancelled", at))


def _work(tasks: Tasks, at: datetime, now: Standing, route: Iterable[Part], calendar: Calendar | None) -> Tasks:
    """With the work itself: the parts of the service's route one after another, or one task of the lead's."""
    parts = tuple(route)[: MOST - 2 - len(tasks)]
    if not parts:
        return (*tasks, _new(tasks, at, agency=now.agency, kind="work", work="", due_at=now.due_at))
    hours = 0
    for place, part in enumerate(parts):
        hours += part.hours
        due_at = due_after(at, hours, calendar) if calendar is not None else COUNTED
        if now.due_at is not None and calendar is not None:
            due_at = min(due_at, now.due_at)
        state: State = "waiting" if place else "open"
        after = len(tasks) if place else None
        agency = part.agency or now.agency
        new = _new(tasks, at, agency=agency, kind="work", work=part.work, after=after, due_at=due_at, state=state)
        tasks = (*tasks, new)
    return tasks


def _new(
    tasks: Tasks,
    at: datetime,
    *,
    agency: str,
    kind: Kind,
    work: str,
    after: int | None = None,
    due_at: datetime | None = None,
    state: State = "open",
) -> Task:
    return Task(
        number=len(tasks) + 1,
        agency=agency,
        kind=kind,
        work=work,
        state=state,
        after=after,
        due_at=due_at,
        opened_at=None if state == "waiting" else at,
    )


def _again(tasks: Tasks, at: datetime, *, agency: str, kind: Kind, due_at: datetime | None) -> Tasks:
    """With this task open: the last one of its kind once more, so that a dossier may be reopened for ever."""
    before = next((task for task in reversed(tasks) if task.kind == kind), None)
    if before is None:
        return (*tasks, _new(tasks, at, agency=agency, kind=kind, work="", due_at=due_at))
    new = _new(tasks[: before.number - 1], at, agency=agency, kind=kind, work=before.work, due_at=due_at)
    return _with(tasks, new)


def _handed(tasks: Tasks, former: str, lead: str) -> Tasks:
    """The former lead's live tasks are the new lead's. What it waits for of itself is not asked any longer."""
    return tuple(
        msgspec.structs.replace(task, agency=lead)
        if task.live and task.agency == former and task.kind != "hand_over"
        else task
        for task in tasks
    )


def _put_off(tasks: Tasks, old: datetime, new: datetime, calendar: Calendar | None) -> Tasks:
    def later(due_at: datetime) -> datetime:
        if due_at == old:
            return new
        return shift(due_at, old, new, calendar) if calendar is not None else COUNTED

    return tuple(
        msgspec.structs.replace(task, due_at=later(task.due_at)) if task.live and task.due_at else task
        for task in tasks
    )


def _ended(tasks: Tasks, number: int, end: End, at: datetime) -> Tasks:
    tasks = _with(tasks, msgspec.structs.replace(tasks[number - 1], state=end, ended_at=at))
    for task in tasks:
        frees = task.after == number and (task.state == "asked" or (task.state == "waiting" and end != "refused"))
        if frees:
            tasks = _with(tasks, msgspec.structs.replace(task, state="open", opened_at=task.opened_at or at))
    return tasks


def _all_ended(tasks: Tasks, end: End, at: datetime, kinds: frozenset[str] | set[str] | None = None) -> Tasks:
    return tuple(
        msgspec.structs.replace(task, state=end, ended_at=at)
        if task.live and (kinds is None or task.kind in kinds)
        else task
        for task in tasks
    )


def _with(tasks: Tasks, task: Task) -> Tasks:
    return (*tasks[: task.number - 1], task, *tasks[task.number :])


def _of(tasks: Tasks, number: int) -> Task:
    if not 1 <= number <= len(tasks):
        raise WrongTask(f"This dossier has no task {number}.")
    return tasks[number - 1]
