"""Moments as a citizen reads them, in Vietnam's time: "16:30 ngày 09/12/2026", "9 December 2026, 16:30"."""

from datetime import date, datetime

from lookup.clock import VIETNAM

_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


def day_of(at: datetime, lang: str) -> str:
    """The day: "09/12/2026", "9 December 2026"."""
    at = at.astimezone(VIETNAM)
    return f"{at:%d/%m/%Y}" if lang == "vi" else f"{at.day} {_MONTHS[at.month - 1]} {at.year}"


def month_of(month: date, lang: str) -> str:
    """The month: "tháng 12/2026", "December 2026"."""
    return f"tháng {month:%m/%Y}" if lang == "vi" else f"{_MONTHS[month.month - 1]} {month.year}"


def hour_of(at: datetime) -> str:
    """The hour and minute: "16:30"."""
    return f"{at.astimezone(VIETNAM):%H:%M}"


def when(at: datetime, lang: str) -> str:
    """The minute and the day."""
    return f"{hour_of(at)} ngày {day_of(at, lang)}" if lang == "vi" else f"{day_of(at, lang)}, {hour_of(at)}"


def machine_time(at: datetime) -> str:
    """The same minute for `<time datetime>`: "2026-12-09T16:30+07:00"."""
    return at.astimezone(VIETNAM).isoformat(timespec="minutes")


def machine_day(at: datetime) -> str:
    """The day for `<time datetime>`: "2026-12-09"."""
    return f"{at.astimezone(VIETNAM):%Y-%m-%d}"
