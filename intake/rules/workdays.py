"""The working calendar and due dates: working days, office hours, holidays, swapped days.

Holidays follow the Labour Code 2019, art. 112, through the `holidays` package. Announced changes that the package does
not have yet go into OVERRIDES, each with its source. Counting starts on the day after reception. No I/O.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import cache

import holidays

from lookup.clock import VIETNAM

CALENDAR = "vn-2026.1"
"""The version of this calendar, stored with each dossier. A later calendar never moves a due date that is set."""

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
    """The office hours of an agency: a morning and an afternoon, eight hours together."""

    opens: time = time(7, 0)
    lunch: time = time(11, 30)
    resumes: time = time(13, 30)
    closes: time = time(17, 0)


OFFICE_HOURS = OfficeHours()


@cache
def _year(year: int) -> holidays.HolidayBase:
    return holidays.country_holidays("VN", years=(year,))


def is_working_day(day: date) -> bool:
    """True if agencies work on this day. Future Tết holidays are estimates until they are announced."""
    override = OVERRIDES.get(day)
    if override is not None:
        return override.working
    return bool(_year(day.year).is_working_day(day))


def add_working_days(start: date, days: int) -> date:
    """The `days`-th working day after `start`, which itself does not count."""
    day = start
    while days > 0:
        day += timedelta(days=1)
        days -= is_working_day(day)
    return day


def working_days_before(day: date, days: int) -> date:
    """The last day that is at least `days` working days before `day`: the inverse of add_working_days."""
    while days > 0:
        days -= is_working_day(day)
        day -= timedelta(days=1)
    return day


def effective_start(moment: datetime, hours: OfficeHours = OFFICE_HOURS) -> datetime:
    """When the time limit of something received at `moment` starts: then, or when the office next opens. UTC+7."""
    local = moment.astimezone(VIETNAM)
    day, clock = local.date(), local.time()
    if not is_working_day(day) or clock >= hours.closes:
        return _at(add_working_days(day, 1), hours.opens)
    if clock < hours.opens:
        return _at(day, hours.opens)
    if hours.lunch <= clock < hours.resumes:
        return _at(day, hours.resumes)
    return local


def due_after(received_at: datetime, working_hours: int, hours: OfficeHours = OFFICE_HOURS) -> datetime:
    """The due date of something received at `received_at` with a limit of `working_hours` (eight are a working day).

    Whole days are counted from the day after reception and keep the time of day. The remaining hours are counted in
    office hours from there.
    """
    start = effective_start(received_at, hours)
    days, rest = divmod(working_hours, HOURS_PER_DAY)
    due = _at(add_working_days(start.date(), days), start.time())
    return _add_office_time(due, timedelta(hours=rest), hours)


def shift(due_at: datetime, paused_at: datetime, resumed_at: datetime, hours: OfficeHours = OFFICE_HOURS) -> datetime:
    """The due date, moved by the working time between the beginning and the end of a pause."""
    due = due_at.astimezone(VIETNAM)
    if not is_working_day(due.date()):
        due = effective_start(due, hours)
    paused, resumed = effective_start(paused_at, hours), effective_start(resumed_at, hours)
    if resumed <= paused:
        return due_at
    whole_days = _working_days_between(paused.date(), resumed.date())
    rest = _since_opening(resumed.time(), hours) - _since_opening(paused.time(), hours)
    moved = _at(add_working_days(due.date(), whole_days), due.time())
    if rest < timedelta(0):
        # Paused in the afternoon and resumed in a morning: the last of the days was not a whole day.
        moved = _at(add_working_days(due.date(), whole_days - 1), due.time())
        rest += _day_length(hours)
    return _add_office_time(moved, rest, hours)


def _working_days_between(first: date, last: date) -> int:
    """Working days after `first` up to and including `last`."""
    span = (last - first).days
    return sum(is_working_day(first + timedelta(days=n)) for n in range(1, span + 1))


def _add_office_time(start: datetime, amount: timedelta, hours: OfficeHours) -> datetime:
    moment = start
    while amount > timedelta(0):
        moment = effective_start(moment, hours)
        end = hours.lunch if moment.time() < hours.lunch else hours.closes
        left_in_session = _at(moment.date(), end) - moment
        if amount <= left_in_session:
            return moment + amount
        amount -= left_in_session
        moment = _at(moment.date(), end)
    return moment


def _since_opening(clock: time, hours: OfficeHours) -> timedelta:
    """Office time from the opening to this time of day."""
    morning = _minutes(min(max(clock, hours.opens), hours.lunch)) - _minutes(hours.opens)
    afternoon = _minutes(min(max(clock, hours.resumes), hours.closes)) - _minutes(hours.resumes)
    return timedelta(minutes=morning + afternoon)


def _day_length(hours: OfficeHours) -> timedelta:
    return _since_opening(hours.closes, hours)


def _minutes(clock: time) -> float:
    return clock.hour * 60 + clock.minute + clock.second / 60


def _at(day: date, clock: time) -> datetime:
    return datetime.combine(day, clock.replace(tzinfo=None), VIETNAM)
