"""Working days, office hours and due dates, against announced calendars and against a plain count of minutes."""

from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intake.rules.workdays import (
    OVERRIDES,
    SHIPPED,
    Calendar,
    OfficeHours,
    add_working_days,
    calendar_of,
    due_after,
    due_after_calendar_days,
    due_at_once,
    effective_start,
    is_working_day,
    shift,
    working_days_before,
)
from lookup.catalogue import Agency, Catalogue
from lookup.catalogue import Calendar as LoadedCalendar
from lookup.catalogue import OfficeHours as LoadedHours
from lookup.clock import VIETNAM

DAY = timedelta(days=1)
SESSIONS = ((time(7, 0), time(11, 30)), (time(13, 30), time(17, 0)))

moments = st.datetimes(datetime(2024, 1, 1), datetime(2027, 12, 31)).map(
    lambda at: at.replace(second=0, microsecond=0, tzinfo=VIETNAM)
)
hours = st.integers(1, 400)
pauses = st.tuples(moments, st.integers(0, 60 * 24 * 60)).map(lambda p: (p[0], p[0] + timedelta(minutes=p[1])))


def at(text: str) -> datetime:
    """`2026-11-20 14:00` on a Vietnamese clock."""
    return datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=VIETNAM)


def is_working_moment(moment: datetime) -> bool:
    """Within office hours, the ends of both sessions included."""
    return is_working_day(moment.date()) and any(first <= moment.time() <= last for first, last in SESSIONS)


def office_time(start: datetime, end: datetime) -> timedelta:
    """Working time between two moments, counted session by session."""
    total = timedelta(0)
    day = start.date()
    while day <= end.date():
        for first, last in SESSIONS if is_working_day(day) else ():
            opens, closes = (datetime.combine(day, clock, VIETNAM) for clock in (first, last))
            total += max(timedelta(0), min(end, closes) - max(start, opens))
        day += DAY
    return total


@pytest.mark.parametrize(
    ("start", "days", "result"),
    [
        ("2020-01-20", 5, "2020-02-03"),  # Tết 23–29 January
        ("2020-03-16", 10, "2020-03-30"),
        ("2026-02-12", 5, "2026-02-26"),  # Tết 16–20 February
        ("2026-04-23", 5, "2026-05-05"),  # Giỗ Tổ on a Sunday, made up for on Monday; 30 April, 1 May
        ("2026-08-20", 5, "2026-08-26"),  # Saturday 22 August is worked
        ("2026-11-20", 3, "2026-11-26"),  # 24 November
        ("2026-12-30", 6, "2027-01-08"),  # New Year
    ],
)
def test_working_days_are_counted_from_the_day_after(start: str, days: int, result: str) -> None:
    assert add_working_days(date.fromisoformat(start), days) == date.fromisoformat(result)


@pytest.mark.parametrize(
    ("day", "working"),
    [
        ("2024-04-29", False),
        ("2024-05-04", True),
        ("2025-05-02", False),
        ("2025-04-26", True),
        ("2026-08-31", False),
        ("2026-08-22", True),
        ("2026-01-02", False),
        ("2026-01-10", True),
        ("2026-01-03", False),
        ("2026-01-05", True),
        ("2026-11-24", False),
        ("2026-11-21", False),
        ("2026-11-22", False),
        ("2026-11-23", True),
    ],
)
def test_swapped_days_and_holidays_are_known(day: str, working: bool) -> None:
    assert is_working_day(date.fromisoformat(day)) is working


def test_swapped_days_count_towards_a_due_date() -> None:
    assert add_working_days(date(2025, 12, 31), 1) == date(2026, 1, 5)
    assert add_working_days(date(2026, 1, 8), 2) == date(2026, 1, 10)


def test_every_override_names_its_source_and_its_own_day() -> None:
    assert all(day == override.day and override.source for day, override in OVERRIDES.items())


@pytest.mark.parametrize(
    ("handed_in", "begins"),
    [
        ("2026-11-20 06:59", "2026-11-20 07:00"),
        ("2026-11-20 07:00", "2026-11-20 07:00"),
        ("2026-11-20 09:15", "2026-11-20 09:15"),
        ("2026-11-20 11:29", "2026-11-20 11:29"),
        ("2026-11-20 11:30", "2026-11-20 13:30"),
        ("2026-11-20 12:00", "2026-11-20 13:30"),
        ("2026-11-20 13:30", "2026-11-20 13:30"),
        ("2026-11-20 16:59", "2026-11-20 16:59"),
        ("2026-11-20 17:00", "2026-11-23 07:00"),
        ("2026-11-20 23:59", "2026-11-23 07:00"),
        ("2026-11-21 10:00", "2026-11-23 07:00"),
        ("2026-11-22 00:00", "2026-11-23 07:00"),
        ("2026-11-23 17:30", "2026-11-25 07:00"),
        ("2026-08-22 10:00", "2026-08-22 10:00"),
    ],
)
def test_work_begins_when_the_office_is_open(handed_in: str, begins: str) -> None:
    assert effective_start(at(handed_in)) == at(begins)


def test_work_begins_by_the_clock_of_vietnam() -> None:
    assert effective_start(datetime(2026, 11, 19, 23, 30, tzinfo=UTC)) == at("2026-11-20 07:00")


@pytest.mark.parametrize(
    ("received", "hours", "due"),
    [
        ("2026-11-16 09:15", 40, "2026-11-23 09:15"),
        ("2026-11-16 09:15", 8, "2026-11-17 09:15"),
        ("2026-11-16 06:00", 8, "2026-11-17 07:00"),
        ("2026-11-16 12:10", 8, "2026-11-17 13:30"),
        ("2026-11-16 18:00", 8, "2026-11-18 07:00"),
        ("2026-11-14 10:00", 8, "2026-11-17 07:00"),
        ("2026-11-16 08:00", 2, "2026-11-16 10:00"),
        ("2026-11-16 10:00", 2, "2026-11-16 14:00"),
        ("2026-11-16 15:00", 2, "2026-11-16 17:00"),
        ("2026-11-16 16:00", 2, "2026-11-17 08:00"),
        ("2026-11-20 16:00", 4, "2026-11-23 10:00"),
        ("2026-11-20 16:00", 12, "2026-11-25 10:00"),
        ("2026-11-20 07:00", 7, "2026-11-20 16:00"),
        ("2026-11-16 09:00", 7, "2026-11-17 08:00"),
    ],
)
def test_due_date_is_whole_days_and_then_what_is_left_in_office_hours(received: str, hours: int, due: str) -> None:
    # 17:00 and 07:00 of the next working day are the same moment of work.
    counted = due_after(at(received), hours)
    assert at(due) in (counted, effective_start(counted))
    assert counted.utcoffset() == timedelta(hours=7)


def test_agency_with_hours_of_its_own_is_counted_by_them() -> None:
    late = Calendar(hours=OfficeHours(opens=time(8, 0), lunch=time(12, 0), resumes=time(13, 0), closes=time(17, 0)))
    assert due_after(at("2026-11-16 07:10"), 2, late) == at("2026-11-16 10:00")
    assert due_after(at("2026-11-16 11:00"), 2, late) == at("2026-11-16 14:00")


# -- a calendar that is loaded -----------------------------------------------------------------------------------------

FIRST, LAST = date(2024, 1, 1), date(2029, 12, 31)
ALL_DAYS = [FIRST + n * DAY for n in range((LAST - FIRST).days + 1)]
USUAL = (time(7), time(11, 30), time(13, 30), time(17))


def loaded(name: str, off: frozenset[date], *rows: LoadedHours) -> LoadedCalendar:
    weekdays = tuple(LoadedHours(weekday, *USUAL) for weekday in range(1, 6))
    return LoadedCalendar(name, "2026.1", (2026,), FIRST, LAST, off, (*weekdays, *rows))


def catalogue_with(*calendars: LoadedCalendar) -> Catalogue:
    """A province with its own calendar, an office below it, and one elsewhere."""
    agencies = (
        Agency("G1", None, "Tỉnh", "Province", FIRST, calendar="tinh"),
        Agency("G1.01", "G1", "Cơ sở", "Office", FIRST),
        Agency("G2", None, "Tỉnh khác", "Elsewhere", FIRST),
    )
    return Catalogue({each.code: each for each in agencies}, calendars={each.name: each for each in calendars})


SAME = calendar_of(catalogue_with(loaded("vn", frozenset(day for day in ALL_DAYS if not is_working_day(day)))), "G2")
SATURDAYS = calendar_of(
    catalogue_with(
        loaded(
            "tinh",
            frozenset(day for day in ALL_DAYS if day.isoweekday() == 7 or day == date(2026, 11, 18)),
            LoadedHours(6, time(7), None, None, time(11, 30)),
        )
    ),
    "G1.01",
)


@given(moments, hours)
def test_calendar_with_the_same_days_and_hours_gives_the_same_due_dates(received: datetime, allowed: int) -> None:
    assert due_after(received, allowed, SAME) == due_after(received, allowed)
    assert shift(due_after(received, allowed), received, received + 9 * DAY, SAME) == shift(
        due_after(received, allowed), received, received + 9 * DAY
    )


def test_agency_counts_by_its_own_calendar_or_the_one_above_or_the_national_or_the_shipped() -> None:
    both = catalogue_with(loaded("vn", frozenset()), loaded("tinh", frozenset()))
    assert [calendar_of(both, code).name for code in ("G1", "G1.01", "G2", "unknown")] == [
        "tinh-2026.1",
        "tinh-2026.1",
        "vn-2026.1",
        "vn-2026.1",
    ]
    assert calendar_of(Catalogue(), "G1") is SHIPPED
    assert calendar_of(catalogue_with(), "G1") is SHIPPED


@pytest.mark.parametrize(
    ("received", "hours", "due"),
    [
        ("2026-11-16 09:00", 16, "2026-11-19 09:00"),  # Wednesday the 18th is this province's own day off
        ("2026-11-19 09:00", 16, "2026-11-21 09:00"),  # a Saturday morning
        ("2026-11-19 15:00", 16, "2026-11-23 07:00"),  # Saturday has no afternoon
        ("2026-11-20 16:00", 4, "2026-11-21 10:00"),
        ("2026-11-21 11:00", 1, "2026-11-23 07:30"),
        ("2026-11-21 12:00", 8, "2026-11-24 07:00"),
    ],
)
def test_saturday_mornings_and_own_days_off_are_counted(received: str, hours: int, due: str) -> None:
    assert due_after(at(received), hours, SATURDAYS) == at(due)


def test_day_that_is_worked_on_a_weekday_without_hours_has_the_usual_ones() -> None:
    swapped = calendar_of(catalogue_with(loaded("vn", frozenset({date(2026, 11, 22)}))), "G2")  # Saturday is worked
    assert due_after(at("2026-11-20 16:00"), 4, swapped) == at("2026-11-21 10:00")


def test_year_that_a_calendar_does_not_know_is_counted_by_the_shipped_one() -> None:
    short = calendar_of(catalogue_with(LoadedCalendar("vn", "2026.1", (), FIRST, FIRST, frozenset(), ())), "G2")
    assert due_after(at("2026-11-20 16:00"), 12, short) == at("2026-11-25 10:00")


@pytest.mark.parametrize(
    ("received", "days", "due"),
    [
        ("2026-11-16 09:00", 4, "2026-11-20 09:00"),
        ("2026-11-16 09:00", 5, "2026-11-23 07:00"),  # Saturday: the opening of Monday
        ("2026-11-16 09:00", 7, "2026-11-23 09:00"),
        ("2026-11-20 18:00", 1, "2026-11-25 07:00"),  # taken in on Monday; the 24th is a holiday
        ("2026-02-13 10:00", 1, "2026-02-23 07:00"),  # Tết
    ],
)
def test_calendar_days_are_counted_through_days_off_and_end_on_a_working_day(
    received: str, days: int, due: str
) -> None:
    assert due_after_calendar_days(at(received), days) == at(due)


@pytest.mark.parametrize(
    ("received", "due"),
    [
        ("2026-11-16 09:00", "2026-11-16 17:00"),
        ("2026-11-16 17:00", "2026-11-17 17:00"),
        ("2026-11-21 09:00", "2026-11-23 17:00"),
    ],
)
def test_result_at_once_is_due_at_the_end_of_that_day(received: str, due: str) -> None:
    assert due_at_once(at(received)) == at(due)


@given(moments, hours)
def test_due_date_is_a_working_moment_after_reception(received: datetime, allowed: int) -> None:
    due = due_after(received, allowed)
    assert is_working_moment(due)
    assert due > received


@given(moments, hours)
def test_due_date_leaves_exactly_the_office_time_allowed(received: datetime, allowed: int) -> None:
    assert office_time(received, due_after(received, allowed)) == timedelta(hours=allowed)


@given(moments, moments, hours)
def test_later_reception_has_no_earlier_due_date(one: datetime, other: datetime, allowed: int) -> None:
    first, second = sorted((one, other))
    assert due_after(first, allowed) <= due_after(second, allowed)


@pytest.mark.parametrize(
    ("due", "paused", "resumed", "moved"),
    [
        ("2026-11-30 09:15", "2026-11-16 08:00", "2026-11-16 10:00", "2026-11-30 11:15"),
        ("2026-11-30 09:15", "2026-11-16 08:00", "2026-11-17 08:00", "2026-12-01 09:15"),
        ("2026-11-30 09:15", "2026-11-16 15:00", "2026-11-17 08:00", "2026-11-30 14:15"),
        ("2026-11-30 09:15", "2026-11-20 16:00", "2026-11-25 08:00", "2026-12-01 11:15"),
        ("2026-11-30 09:15", "2026-11-20 17:30", "2026-11-23 06:30", "2026-11-30 09:15"),
        ("2026-11-30 09:15", "2026-11-21 08:00", "2026-11-22 20:00", "2026-11-30 09:15"),
        ("2026-11-30 17:00", "2026-11-16 08:00", "2026-11-17 08:00", "2026-12-01 17:00"),
        ("2026-11-30 11:30", "2026-11-16 08:00", "2026-11-17 08:00", "2026-12-01 11:30"),
        ("2026-11-29 10:00", "2026-11-16 08:00", "2026-11-17 08:00", "2026-12-01 07:00"),
    ],
)
def test_pause_moves_the_due_date_by_its_office_time(due: str, paused: str, resumed: str, moved: str) -> None:
    assert shift(at(due), at(paused), at(resumed)) == at(moved)


@given(moments, hours, moments)
def test_pause_of_no_length_moves_nothing(received: datetime, allowed: int, paused: datetime) -> None:
    due = due_after(received, allowed)
    assert shift(due, paused, paused) == due
    assert shift(due, paused, paused - DAY) == due


@given(moments, hours, pauses)
def test_shifted_date_is_a_working_moment_that_much_later(
    received: datetime, allowed: int, pause: tuple[datetime, datetime]
) -> None:
    due = due_after(received, allowed)
    moved = shift(due, *pause)
    assert is_working_moment(moved)
    assert office_time(due, moved) == office_time(*pause)


@given(moments, hours, pauses, st.integers(0, 60 * 24 * 30))
def test_two_pauses_on_end_move_as_far_as_one(
    received: datetime, allowed: int, pause: tuple[datetime, datetime], more: int
) -> None:
    due, (paused, resumed) = due_after(received, allowed), pause
    later = resumed + timedelta(minutes=more)
    in_two = shift(shift(due, paused, resumed), resumed, later)
    assert effective_start(in_two) == effective_start(shift(due, paused, later))


@given(st.dates(date(2024, 1, 1), date(2027, 12, 31)), st.integers(0, 30))
def test_working_days_before_is_the_last_day_they_can_be_counted_from(day: date, days: int) -> None:
    before = working_days_before(day, days)
    assert add_working_days(before, days) <= day
    assert days == 0 or add_working_days(before + DAY, days) > day
