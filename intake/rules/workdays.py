"""The working calendar and due dates: working days, office hours, holidays, swapped days.

A calendar that is loaded with the catalogue decides for its years. Before one is loaded, and for other years, holidays
follow the Labour Code 2019, art. 112, through the `holidays` package, and OVERRIDES, each with its source. Counting
starts on the day after reception. No I/O.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from functools import cache

import holidays

from lookup.catalogue import Calendar as LoadedCalendar
from lookup.catalogue import Catalogue
from lookup.clock import VIETNAM

CALENDAR = "vn-2026.1"
"""The version of the shipped calendar, stored with each dossier. A later one never moves a due date that is set."""

HOURS_PER_DAY = 8


@dataclass(frozen=True, slots=True)
class Override:
    """One day that differs from the package's calendar, and the announcement of it."""

    day: date
    working: bool
    source: str


OVERRIDES: Mapping[date, Override] = {
    override.day: override
    for override in (
        Override(date(2026, 1, 2), working=False, source="Công văn 12729/VPCP-KGVX (25/12/2025)"),
        Override(date(2026, 1, 10), working=True, source="Công văn 12729/VPCP-KGVX (25/12/2025)"),
    )
}


@dataclass(frozen=True, slots=True)
class OfficeHours:
    """Office hours: a morning and an afternoon, usually eight hours; without a break `lunch` and `resumes` are null."""

    opens: time = time(7, 0)
    lunch: time | None = time(11, 30)
    resumes: time | None = time(13, 30)
    closes: time = time(17, 0)


@dataclass(frozen=True, slots=True)
class Calendar:
    """Working days and office hours. The days that a loaded calendar does not know are those of the package."""

    name: str = CALENDAR
    """As stored with each dossier."""
    hours: OfficeHours = OfficeHours()
    own_hours: Mapping[int, OfficeHours] = field(default_factory=dict)
    """Of weekdays (1 is Monday) that differ from `hours`."""
    loaded: LoadedCalendar | None = None

    def is_working_day(self, day: date) -> bool:
        """True if agencies work on this day. Future Tết holidays are estimates until they are announced."""
        if self.loaded is not None and self.loaded.first <= day <= self.loaded.last:
            return day not in self.loaded.off
        override = OVERRIDES.get(day)
        return override.working if override is not None else bool(_year(day.year).is_working_day(day))

    def hours_on(self, day: date) -> OfficeHours:
        """The office hours of that day, if it is a working day."""
        return self.own_hours.get(day.isoweekday(), self.hours)


SHIPPED = Calendar()
"""Where no calendar is loaded."""


def calendar_of(catalogue: Catalogue, agency: str) -> Calendar:
    """The agency's own calendar or that of the nearest one above that has one, else the national one."""
    loaded = catalogue.calendars.get(catalogue.calendar_name(agency))
    if loaded is None:
        return SHIPPED
    hours = {
        each.weekday: OfficeHours(each.opens, each.lunch, each.resumes, each.closes)
        for each in sorted(loaded.hours, key=lambda each: each.weekday)
    }
    usual = next(iter(hours.values()), SHIPPED.hours)  # also of a weekday that has none and is worked for another
    return Calendar(f"{loaded.name}-{loaded.version}", usual, hours, loaded)


@cache
def _year(year: int) -> holidays.HolidayBase:
    return holidays.country_holidays("VN", years=(year,))


def is_working_day(day: date) -> bool:
    """True if agencies work on this day by the calendar that is shipped."""
    return SHIPPED.is_working_day(day)


def add_working_days(start: date, days: int, calendar: Calendar = SHIPPED) -> date:
    """The `days`-th working day after `start`, which itself does not count."""
    day = start
    while days > 0:
        day += timedelta(days=1)
        days -= calendar.is_working_day(day)
    return day


def working_day_before(day: date, calendar: Calendar = SHIPPED) -> date:
    """The last working day before this day."""
    day -= timedelta(days=1)
    while not calendar.is_working_day(day):
        day -= timedelta(days=1)
    return day


def working_days_before(day: date, days: int) -> date:
    """The last day that is at least `days` working days before `day`: the inverse of add_working_days."""
    while days > 0:
        days -= is_working_day(day)
        day -= timedelta(days=1)
    return day


def effective_start(moment: datetime, calendar: Calendar = SHIPPED) -> datetime:
    """When the time limit of something received at `moment` starts: then, or when the office next opens. UTC+7."""
    local = moment.astimezone(VIETNAM)
    day, clock = local.date(), local.time()
    hours = calendar.hours_on(day)
    if not calendar.is_working_day(day) or clock >= hours.closes:
        day = add_working_days(day, 1, calendar)
        return _at(day, calendar.hours_on(day).opens)
    if clock < hours.opens:
        return _at(day, hours.opens)
    if hours.lunch and hours.resumes and hours.lunch <= clock < hours.resumes:
        return _at(day, hours.resumes)
    return local


def due_after(received_at: datetime, working_hours: int, calendar: Calendar = SHIPPED) -> datetime:
    """The due date of something received at `received_at` with a limit of `working_hours` (eight are a working day).

    Whole days are counted from the day after reception and keep the time of day. The remaining hours are counted in
    office hours from there.
    """
    start = effective_start(received_at, calendar)
    days, rest = divmod(working_hours, HOURS_PER_DAY)
    due = effective_start(_at(add_working_days(start.date(), days, calendar), start.time()), calendar)
    return _add_office_time(due, timedelta(hours=rest), calendar)


def after_hours(moment: datetime, hours: int, calendar: Calendar = SHIPPED) -> datetime:
    """When so many office hours have passed since `moment`: the clock of a decision.

    It may end at a closing time, where `due_after`, which counts whole days, goes on to the next opening.
    """
    return _add_office_time(effective_start(moment, calendar), timedelta(hours=hours), calendar)


def due_after_calendar_days(received_at: datetime, days: int, calendar: Calendar = SHIPPED) -> datetime:
    """The due date with a limit in calendar days: days off count, and one that it would fall on moves it to the opening
    of the next working day. Counting starts on the day after reception; the time of day is kept."""
    start = effective_start(received_at, calendar)
    return effective_start(_at(start.date() + timedelta(days=days), start.time()), calendar)


def due_at_once(received_at: datetime, calendar: Calendar = SHIPPED) -> datetime:
    """The due date of a result that is handed over at once: the end of the office hours in which it is received."""
    start = effective_start(received_at, calendar)
    return _at(start.date(), calendar.hours_on(start.date()).closes)


def shift(due_at: datetime, paused_at: datetime, resumed_at: datetime, calendar: Calendar = SHIPPED) -> datetime:
    """The due date, moved by the working time between the beginning and the end of a pause."""
    due = due_at.astimezone(VIETNAM)
    if not calendar.is_working_day(due.date()):
        due = effective_start(due, calendar)
    paused, resumed = effective_start(paused_at, calendar), effective_start(resumed_at, calendar)
    if resumed <= paused:
        return due_at
    whole_days = _working_days_between(paused.date(), resumed.date(), calendar)
    hours = calendar.hours_on(paused.date())
    rest = _since_opening(resumed.time(), calendar.hours_on(resumed.date())) - _since_opening(paused.time(), hours)
    if rest < timedelta(0):
        # Paused in the afternoon and resumed in a morning: the last of the days was not a whole day.
        whole_days -= 1
        rest += _since_opening(hours.closes, hours)
    moved = _at(add_working_days(due.date(), whole_days, calendar), due.time())
    return _add_office_time(moved, rest, calendar)


def _working_days_between(first: date, last: date, calendar: Calendar) -> int:
    """Working days after `first` up to and including `last`."""
    span = (last - first).days
    return sum(calendar.is_working_day(first + timedelta(days=n)) for n in range(1, span + 1))


def _add_office_time(start: datetime, amount: timedelta, calendar: Calendar) -> datetime:
    moment = start
    while amount > timedelta(0):
        moment = effective_start(moment, calendar)
        hours = calendar.hours_on(moment.date())
        end = hours.lunch if hours.lunch and moment.time() < hours.lunch else hours.closes
        left_in_session = _at(moment.date(), end) - moment
        if amount <= left_in_session:
            return moment + amount
        amount -= left_in_session
        moment = _at(moment.date(), end)
    return moment


def _since_opening(clock: time, hours: OfficeHours) -> timedelta:
    """Office time from the opening to this time of day."""
    lunch, resumes = hours.lunch or hours.closes, hours.resumes or hours.closes
    morning = _minutes(min(max(clock, hours.opens), lunch)) - _minutes(hours.opens)
    afternoon = _minutes(min(max(clock, resumes), hours.closes)) - _minutes(resumes)
    return timedelta(minutes=morning + afternoon)


def _minutes(clock: time) -> float:
    return clock.hour * 60 + clock.minute + clock.second / 60


def _at(day: date, clock: time) -> datetime:
    return datetime.combine(day, clock.replace(tzinfo=None), VIETNAM)
