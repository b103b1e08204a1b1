"""What is late or will be: live tasks by due date, applications nobody has decided on, and apologies that are owed.

For the command, the officers' pages and the morning's mail alike. The clock of a dossier that waits for its applicant
or is suspended stands still, so nothing of it is late. Nor is a task that waits for another one: the other one is.
"""

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from typing import Any, Final, Literal, NamedTuple

from intake.rules import policies
from intake.rules.workdays import Calendar, add_working_days, calendar_of, working_day_before
from lookup.catalogue import Catalogue
from lookup.clock import VIETNAM
from lookup.status import Status

What = Literal["undecided", "late", "today", "tomorrow", "apology"]
WHATS: Final[tuple[What, ...]] = ("undecided", "late", "today", "tomorrow", "apology")
"""Applications that should be decided on; other tasks that are over, due on the day, and on the next working day;
dossiers whose due date nobody has put off, although the day for the apology has come."""

_PAUSED = [status.value for status in Status if status.paused]
_WORKED_ON = [status.value for status in (Status.RECEIVED, Status.PROCESSING)]

TASKS = """
SELECT t.code, t.number, t.agency, t.kind, t.work, t.due_at, d.agency AS lead
  FROM task AS t
  JOIN dossier AS d ON d.code = t.code
 WHERE t.agency = ANY ($1)
   AND t.state IN ('open', 'asked')
   AND t.due_at < $2
   AND d.status <> ALL ($3)
 ORDER BY t.due_at, t.code, t.number
"""

WORKED_ON = """
SELECT d.code, d.agency, d.service, d.due_at
  FROM dossier AS d
 WHERE d.code IN (SELECT code
                    FROM task
                   WHERE agency = ANY ($1)
                     AND state IN ('open', 'asked'))
   AND d.agency = ANY ($1)
   AND d.due_at < $2
   AND d.status = ANY ($3)
 ORDER BY d.due_at, d.code
"""


class Owed(NamedTuple):
    """What somebody owes: a task, or with `number` null an apology by the lead. `work` is empty for its own path."""

    what: What
    code: str
    number: int | None
    agency: str
    kind: str
    work: str
    due_at: datetime
    lead: str

    @property
    def late(self) -> bool:
        """Whether it should be done already."""
        return self.what in ("undecided", "late")


async def owed(connection: Any, catalogue: Catalogue, at: datetime, agency: str | None = None) -> Sequence[Owed]:
    """What is owed at this time, in the order of WHATS and by due date: of this agency and all below it, or of all.

    The sandbox's dossiers are told only of an agency of the sandbox. `connection` is the writer's or another that reads
    dossiers and tasks. Raises what it raises.
    """
    at = at.astimezone(VIETNAM)
    whose = [
        code
        for code, known in catalogue.agencies.items()
        if (not known.sandbox if agency is None else catalogue.within(code, agency))
    ]
    calendars = {code: calendar_of(catalogue, code) for code in whose}
    by_name = {calendar.name: calendar for calendar in calendars.values()}
    days = max((policies.value_of(each, "apology_days") for each in catalogue.services.values()), default=1)
    horizon = max((_end_of_day(at.date(), max(days, 1), each) for each in by_name.values()), default=at)
    tasks = await connection.fetch(TASKS, whose, horizon, _PAUSED)
    found = [
        Owed(what, **dict(row.items()))
        for row in tasks
        if (what := _what(row, at, calendars[row["agency"]])) is not None
    ]
    for row in await connection.fetch(WORKED_ON, whose, horizon, _WORKED_ON):
        wanted = policies.value_of(catalogue.services.get(row["service"]), "apology_days")
        last = row["due_at"].astimezone(VIETNAM).date()
        for _ in range(wanted):
            last = working_day_before(last, calendars[row["agency"]])
        if last <= at.date():
            found.append(Owed("apology", row["code"], None, row["agency"], "", "", row["due_at"], row["agency"]))
    return sorted(found, key=lambda each: (WHATS.index(each.what), each.due_at, each.code))


def _what(row: Any, at: datetime, calendar: Calendar) -> What | None:
    if row["due_at"] < at:
        return "undecided" if row["kind"] == "decide" else "late"
    if row["due_at"] < _end_of_day(at.date(), 0, calendar):
        return "today"
    return "tomorrow" if row["due_at"] < _end_of_day(at.date(), 1, calendar) else None


def _end_of_day(day: date, working_days: int, calendar: Calendar) -> datetime:
    """The end of the day so many working days later."""
    later = add_working_days(day, working_days, calendar) + timedelta(days=1)
    return datetime.combine(later, time(), VIETNAM)
