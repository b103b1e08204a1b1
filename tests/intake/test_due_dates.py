"""The due date that is promised at acceptance, by the service's time limit."""

from datetime import date, datetime
from typing import Any

import msgspec

from intake.rules.due_dates import due_date
from lookup.catalogue import Service, TimeLimit
from lookup.clock import VIETNAM

ONE_DAY = Service("S.1", "Ví dụ", "Example", "F.1", False, (TimeLimit("any", 8, date(2020, 1, 1)),))


def at(text: str) -> datetime:
    """`11-16 10:00` of 2026 on a Vietnamese clock; the sixteenth of November is a Monday."""
    return datetime.strptime(f"2026-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=VIETNAM)


def test_due_date_is_counted_in_the_unit_of_the_time_limit() -> None:
    def due(**changed: Any) -> datetime | None:
        limit = msgspec.structs.replace(ONE_DAY.times[0], **changed)
        of = msgspec.structs.replace(ONE_DAY, times=(limit,))
        return due_date(of, "default", "online", at("11-20 10:00"))

    assert due() == at("11-23 10:00")
    assert due(hours=None, calendar_days=5) == at("11-25 10:00")
    assert due(hours=None, at_once=True) == at("11-20 17:00")


def test_nothing_is_promised_without_a_time_limit() -> None:
    without = msgspec.structs.replace(ONE_DAY, times=())
    assert due_date(without, "default", "direct", at("11-20 10:00")) is None
    assert due_date(None, "default", "direct", at("11-20 10:00")) is None
