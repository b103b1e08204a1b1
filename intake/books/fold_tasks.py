"""A dossier's tasks, recomputed from its events: by the same rules that wrote them (intake/rules/tasks.py), without a
catalogue or a calendar.

The first event says whether the dossier has tasks of its own path, and the event that accepts it the route of its
service. A due date that only a calendar knows is not compared: the decision's, those of a route's parts, and others
once they were put off with the dossier's.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec

from intake.books.fold import DoesNotFollow
from intake.rules import tasks
from intake.rules.policies import RULES
from intake.rules.tasks import COUNTED, Task, Tasks
from lookup.catalogue import Part
from lookup.status import Status

TASK_COLUMNS: Final = tuple(Task.__struct_fields__)
"""Columns of `task` that follow from the events, besides `code` and `version`."""

FoldedTasks = Mapping[int, tuple[Task, int]]
"""Number → the task, and the version since which it has not changed, but for a due date that is COUNTED."""


class _Standing(NamedTuple):
    """What of the dossier its tasks follow, as an event says it."""

    status: Status
    agency: str
    origin: str
    received_at: datetime | None
    due_at: datetime | None


def folded_tasks(events: Sequence[Mapping[str, Any]]) -> FoldedTasks:
    """The tasks after these events of one dossier, which fold.folded takes, none of them erased.

    Raises DoesNotFollow, Refusal for what the rules do not allow, and what reading `detail` raises.
    """
    if events[0]["task"] is None and all(event["kind"] != "task_opened" for event in events):
        return {}
    present: Tasks = ()
    versions: dict[int, int] = {}
    before: _Standing | None = None
    for event in events:
        now = _Standing(
            Status(event["status"]), event["agency"], event["origin"], event["received_at"], event["due_at"]
        )
        after = _after(present, event, before, now)
        versions |= {
            task.number: event["version"]
            for place, task in enumerate(after)
            if place >= len(present) or _changed(present[place], task)
        }
        present, before = after, now
    return {task.number: (task, versions[task.number]) for task in present}


def _changed(before: Task, after: Task) -> bool:
    if after.due_at is COUNTED:
        before = msgspec.structs.replace(before, due_at=COUNTED)
    return before != after


def _after(present: Tasks, event: Mapping[str, Any], before: _Standing | None, now: _Standing) -> Tasks:
    kind, at = event["kind"], event["occurred_at"]
    detail: dict[str, Any] = msgspec.json.decode(event["detail"]) if event["detail"] else {}
    route = msgspec.convert(detail.get("route", ()), tuple[Part, ...])
    if before is None:
        if event["task"] is None:
            return ()
        hours = RULES["decision_hours"].value
        return tasks.begun(at, now, route=route, calendar=None, decision_hours=hours)
    if kind == "removed":
        return tasks.emptied(present, at)
    if kind == "task_ended":
        return tasks.ended(present, event["task"], detail["state"], at)
    if kind == "task_opened":
        opened = _opened(present, now, detail, at)
        if event["task"] != opened[-1].number:
            raise DoesNotFollow(f"version {event['version']} opens task {event['task']}, not {opened[-1].number}")
        return opened
    return tasks.follow(present, at, before, now, route=route, calendar=None, by_itself=True)


def _opened(present: Tasks, now: _Standing, detail: Mapping[str, Any], at: datetime) -> Tasks:
    if "asked_by" in detail:
        return tasks.asked(present, detail["asked_by"], now.agency, detail["work"], at)
    return tasks.opened(
        present,
        at,
        agency=detail["agency"],
        kind=detail["kind"],
        work=detail["work"],
        after=detail["after"],
        due_at=detail["due_at"] and datetime.fromisoformat(detail["due_at"]),
    )


def task_differences(rows: Iterable[Mapping[str, Any]], told: FoldedTasks) -> list[str]:
    """One clause for each task that is not as the log says.

    `rows` have TASK_COLUMNS and `version`, their `due_at` null where nothing was promised.
    """
    stored = {row["number"]: row for row in rows}
    found = [
        f"task {number}, {told[number][0].kind} of {told[number][0].agency}, is missing"
        for number in sorted(told.keys() - stored.keys())
    ]
    for number, row in sorted(stored.items()):
        if number not in told:
            found.append(f"task {number} is there, and the log knows of none")
            continue
        task, version = told[number]
        for name in TASK_COLUMNS:
            says = getattr(task, name)
            if says != row[name] and says is not COUNTED:
                found.append(f"{name} of task {number} is {_words(row[name])}, the log says {_words(says)}")
        if row["version"] < version:
            found.append(f"task {number} is of version {row['version']}, the log says {version}")
    return found


def left_in_removed(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """One clause for each task of a removed dossier that is live or has words: its events are erased."""
    return [
        f"task {row['number']} is {row['state']}, and the dossier was removed"
        for row in rows
        if row["state"] in tasks.LIVE or row["work"]
    ]


def _words(value: Any) -> str:
    return "nothing" if value in (None, "") else str(value)
