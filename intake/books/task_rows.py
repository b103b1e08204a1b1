"""Table `task`: what intake/rules/tasks.py makes of a dossier's tasks, as rows."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from intake.rules.changes import State
from intake.rules.tasks import Task, Tasks

TASKS_OF_D: Final = """(SELECT jsonb_agg(jsonb_build_object(
                   'number',    task.number,
                   'agency',    task.agency,
                   'kind',      task.kind,
                   'work',      task.work,
                   'state',     task.state,
                   'after',     task.after,
                   'due_at',    nullif(task.due_at, 'infinity'),
                   'opened_at', task.opened_at,
                   'ended_at',  task.ended_at) ORDER BY task.number)
          FROM task
         WHERE task.code = d.code)"""
"""The tasks of dossier `d` as JSON; null where it has none."""

WRITE = """
INSERT INTO task AS t (code, number, agency, kind, work, state, after, due_at, opened_at, ended_at, version)
SELECT code, number, agency, kind, work, state, after, coalesce(due_at, 'infinity'), opened_at, ended_at, version
  FROM jsonb_to_recordset($1::jsonb) AS told (code text, number smallint, agency text, kind text, work text, state text,
                                              after smallint, due_at timestamptz, opened_at timestamptz,
                                              ended_at timestamptz, version integer)
ON CONFLICT (code, number) DO UPDATE
   SET agency    = excluded.agency,
       kind      = excluded.kind,
       work      = excluded.work,
       state     = excluded.state,
       after     = excluded.after,
       due_at    = excluded.due_at,
       opened_at = excluded.opened_at,
       ended_at  = excluded.ended_at,
       version   = excluded.version
"""


def tasks_in(stored: str | None) -> Tasks:
    """The tasks that TASKS_OF_D found."""
    return () if stored is None else tuple(msgspec.json.decode(stored, type=list[Task]))


async def write(connection: Any, changed: Iterable[tuple[Tasks, State]]) -> None:
    """Write the tasks that changes have made or altered, in the transaction of their events.

    `changed`: of each dossier its tasks before, and its state after.
    """
    told = [
        {"code": after.code, "version": after.version, **msgspec.structs.asdict(task)}
        for before, after in changed
        for place, task in enumerate(after.tasks)
        if place >= len(before) or task != before[place]
    ]
    if told:
        await connection.execute(WRITE, msgspec.json.encode(told).decode())
