"""The calendar against announcements and the law, written down in holidays_vn.toml, and against sun and moon.

The product takes its days off from a package. Nothing here does.
"""

import tomllib
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from math import floor, radians, sin
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intake.rules.apply import apply
from intake.rules.changes import Given, Move, State
from intake.rules.due_dates import due_date
from intake.rules.workdays import OVERRIDES, add_working_days, is_working_day, working_days_before
from lookup.catalogue import Catalogue, Service, TimeLimit
from lookup.clock import VIETNAM
from lookup.status import Status

DAY = timedelta(days=1)
_TABLE: dict[str, Any] = tomllib.loads((Path(__file__).parent / "holidays_vn.toml").read_text("utf-8"))
SOURCES = _TABLE["sources"]
YEARS = {int(year): rows for year, rows in _TABLE.items() if year.isdecimal()}
OFF = {row["day"]: row for rows in YEARS.values() for row in rows["off"]}
WORKED = {row["day"]: row for rows in YEARS.values() for row in rows["worked"]}
FIRST, LAST = date(min(YEARS), 1, 1), date(max(YEARS), 12, 31)


def is_worked(day: date) -> bool:
    """Whether offices worked on this day, by the table."""
    return day in WORKED if day.weekday() >= 5 else day not in OFF


def worked_after(day: date) -> Iterator[date]:
    """The working days after this one, by the table."""
    while (day := day + DAY) <= LAST:
        if is_worked(day):
            yield day


# -- the table itself --------------------------------------------------------------------------------------


def test_table_has_each_year_from_2020_to_2027() -> None:
    assert list(YEARS) == list(range(2020, 2028))


@pytest.mark.parametrize("year", YEARS)
def test_days_of_the_table_are_in_their_year_in_order_and_have_a_source(year: int) -> None:
    for rows in (YEARS[year]["off"], YEARS[year]["worked"]):
        days = [row["day"] for row in rows]
        assert days == sorted(set(days))
        assert {day.year for day in days} <= {year}
        assert all(row["name"] and SOURCES[row["source"]]["title"] for row in rows)
    assert all(row["day"].weekday() < 5 for row in YEARS[year]["off"])
    assert all(row["day"].weekday() == 5 for row in YEARS[year]["worked"])


@pytest.mark.parametrize("year", YEARS)
def test_a_year_has_as_many_days_off_as_the_law_gives(year: int) -> None:
    """A holiday on a weekend has its day in lieu, and each swapped day off a Saturday that is worked."""
    rows = YEARS[year]
    assert len(rows["off"]) - len(rows["worked"]) == rows["statutory"]


@pytest.mark.parametrize("year", YEARS)
def test_holidays_of_fixed_date_are_off(year: int) -> None:
    fixed = [(1, 1), (4, 30), (5, 1), (9, 2), *([(11, 24)] if year >= 2026 else [])]
    assert not [day for day in (date(year, *each) for each in fixed) if is_worked(day)]


@pytest.mark.parametrize("year", YEARS)
def test_lunar_holidays_of_the_table_are_where_sun_and_moon_put_them(year: int) -> None:
    tet, hung_kings = lunar_month(year, RAIN_WATER), lunar_month(year, GRAIN_RAIN) + 9 * DAY
    assert (YEARS[year]["tet"], YEARS[year]["hung_kings"]) == (tet, hung_kings)
    assert not is_worked(hung_kings)
    assert len([row for row in YEARS[year]["off"] if abs(row["day"] - tet) < 7 * DAY]) == 5
    assert not [day for day in (tet - DAY, tet, tet + DAY, tet + 2 * DAY) if is_worked(day)]


# -- the product's calendar --------------------------------------------------------------------------------


@pytest.mark.parametrize("year", YEARS)
def test_every_day_of_the_year_is_worked_or_off_as_announced(year: int) -> None:
    days = [date(year, 1, 1) + n * DAY for n in range(366)]
    differing = {
        day.isoformat(): f"the table says {'worked' if is_worked(day) else 'off'}"
        for day in days
        if day.year == year and is_working_day(day) is not is_worked(day)
    }
    assert differing == {}


def test_overrides_are_announced_days_and_say_where_they_were() -> None:
    for day, override in OVERRIDES.items():
        row = (WORKED if override.working else OFF)[day]
        assert SOURCES[row["source"]]["title"] == override.source


@given(st.dates(FIRST, LAST - 90 * DAY), st.integers(1, 40))
def test_working_days_are_counted_as_the_table_counts_them(start: date, days: int) -> None:
    nth = next(islice(worked_after(start), days - 1, None))
    assert add_working_days(start, days) == nth
    before = working_days_before(nth, days)
    assert nth == next(islice(worked_after(before), days - 1, None))
    assert is_worked(before + DAY)  # a day later would be too late


# -- due dates across them ---------------------------------------------------------------------------------

FIVE_DAYS = Service("S.1", "Thủ tục (ví dụ)", "Service (example)", "F.1", False, (TimeLimit("any", 40, FIRST),))


def at(text: str) -> datetime:
    """`2025-01-24 10:00` on a Vietnamese clock."""
    return datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=VIETNAM)


@pytest.mark.parametrize(
    ("received", "due"),
    [
        ("2020-01-22 10:00", "2020-02-05 10:00"),
        ("2021-02-09 10:00", "2021-02-23 10:00"),
        ("2021-04-29 10:00", "2021-05-10 10:00"),
        ("2022-01-28 10:00", "2022-02-11 10:00"),
        ("2023-04-28 10:00", "2023-05-10 10:00"),
        ("2023-08-31 10:00", "2023-09-11 10:00"),
        ("2024-04-26 10:00", "2024-05-07 10:00"),
        ("2025-01-24 10:00", "2025-02-07 10:00"),
        ("2025-04-25 10:00", "2025-05-06 10:00"),
        ("2026-01-08 10:00", "2026-01-14 10:00"),
        ("2027-02-03 10:00", "2027-02-17 10:00"),
        ("2027-02-06 10:00", "2027-02-18 07:00"),
    ],
)
def test_five_working_days_are_five_days_on_which_offices_work(received: str, due: str) -> None:
    assert due_date(FIVE_DAYS, "default", "direct", at(received)) == at(due)


def test_time_limit_is_that_of_the_day_in_vietnam() -> None:
    changed = date(2026, 7, 1)
    times = (TimeLimit("any", 40, FIRST, changed), TimeLimit("any", 8, changed))
    service = msgspec.structs.replace(FIVE_DAYS, times=times)
    late = datetime(2026, 6, 30, 16, 59, tzinfo=UTC)
    assert due_date(service, "default", "direct", late) == at("2026-07-08 07:00")
    assert due_date(service, "default", "direct", late + timedelta(minutes=1)) == at("2026-07-02 07:00")


@pytest.mark.parametrize(
    ("status", "resumed", "due"),
    [
        # A supplement: five days anew. Any other pause: as much later as it took in working days.
        (Status.SUPPLEMENT_REQUIRED, "2025-02-03 10:00", "2025-02-10 10:00"),
        (Status.SUSPENDED, "2025-02-03 10:00", "2025-02-10 10:00"),
        (Status.PAYMENT_REQUIRED, "2025-01-27 10:00", "2025-02-07 17:00"),
        (Status.SUSPENDED, "2025-02-05 10:00", "2025-02-12 10:00"),
    ],
)
def test_pause_over_the_lunar_new_year_costs_no_day_off(status: Status, resumed: str, due: str) -> None:
    paused = Move(to=status, at=at("2025-01-23 10:00"), note="Thiếu (ví dụ).", items=("Giấy",) * (status == 5))
    state = State(
        code="G99-250122-0001",
        version=1,
        status=Status.PROCESSING,
        agency="G99",
        origin="G99",
        service=FIVE_DAYS.code,
        service_case="default",
        channel="direct",
        submitted_at=at("2025-01-22 10:00"),
        received_at=at("2025-01-22 10:00"),
        due_at=at("2025-02-06 10:00"),
        calendar="vn",
        last_at=at("2025-01-22 10:00"),
        timeline_bytes=0,
    )
    catalogue = Catalogue({}, {FIVE_DAYS.code: FIVE_DAYS})
    for move in (paused, Move(to=Status.PROCESSING, at=at(resumed))):
        state = apply(state, move, Given(at(resumed), catalogue, backdating=30)).state
    assert state.due_at == at(due)


# -- the lunar calendar ------------------------------------------------------------------------------------
#
# A month begins on the day of the new moon in UTC+7. The one in which the sun reaches 330° is the first, the one in
# which it reaches 30° the third; a month in which it reaches no multiple of 30° is a leap month. New moon and sun by
# the series of Jean Meeus, Astronomical Algorithms, chapters 49 and 25: a few minutes exact, which is enough while
# none of the moments asked for lies that near midnight.

RAIN_WATER, GRAIN_RAIN = 330.0, 30.0
J2000 = datetime(2000, 1, 1, 12, tzinfo=UTC)
NEAR_MIDNIGHT = timedelta(minutes=20)


def new_moon(number: int) -> datetime:
    """The `number`-th new moon after the one of 6 January 2000."""
    t = number / 1236.85
    sun, moon, node = (
        radians(2.5534 + 29.10535670 * number),
        radians(201.5643 + 385.81693528 * number),
        radians(160.7108 + 390.67050284 * number),
    )
    e = 1 - 0.002516 * t
    days = (
        5.09766 + 29.530588861 * number - 0.40720 * sin(moon) + 0.17241 * e * sin(sun) + 0.01608 * sin(2 * moon)
        + 0.01039 * sin(2 * node) + 0.00739 * e * sin(moon - sun) - 0.00514 * e * sin(moon + sun)
        + 0.00208 * e * e * sin(2 * sun) - 0.00111 * sin(moon - 2 * node) - 0.00057 * sin(moon + 2 * node)
    )  # fmt: skip
    return J2000 + timedelta(days=days)


def sun_at(moment: datetime) -> float:
    """The sun's apparent longitude in degrees."""
    t = (moment - J2000) / timedelta(days=36525)
    anomaly = radians(357.52911 + 35999.05029 * t)
    centre = 1.914602 * sin(anomaly) + 0.019993 * sin(2 * anomaly) + 0.000289 * sin(3 * anomaly)
    nutation = 0.00569 + 0.00478 * sin(radians(125.04 - 1934.136 * t))
    return (280.46646 + 36000.76983 * t + centre - nutation) % 360


def reached(year: int, longitude: float) -> datetime:
    """When the sun reaches a longitude in the first half of this year."""
    moment, step = datetime(year, 1, 1, tzinfo=UTC), timedelta(days=8)
    while step > timedelta(seconds=10):
        while (longitude - sun_at(moment + step)) % 360 < 180:
            moment += step
        step /= 2
    return moment


def lunar_month(year: int, longitude: float) -> date:
    """The first day of the lunar month in which the sun reaches this longitude."""
    term = day_of(reached(year, longitude))
    number = floor((year - 2000) * 12.3685) - 1
    while day_of(new_moon(number + 1)) <= term:
        number += 1
    return day_of(new_moon(number))


def day_of(moment: datetime) -> date:
    """The day in Vietnam, of a moment that is not so near midnight that it could be another one."""
    local = moment.astimezone(VIETNAM)
    assert (local - NEAR_MIDNIGHT).date() == (local + NEAR_MIDNIGHT).date(), f"{local} is too near midnight"
    return local.date()
