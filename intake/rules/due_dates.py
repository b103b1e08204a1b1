"""The due date that is promised at acceptance. No I/O."""

from datetime import datetime

from intake.rules.workdays import SHIPPED, Calendar, due_after, due_after_calendar_days, due_at_once
from lookup.catalogue import Service
from lookup.clock import VIETNAM


def due_date(
    service: Service | None, case: str, channel: str, received_at: datetime, calendar: Calendar = SHIPPED
) -> datetime | None:
    """The due date of a dossier of this service, case and channel; None if the catalogue has no time limit for it."""
    if service is None:
        return None
    limit = service.time_limit(case, channel, received_at.astimezone(VIETNAM).date())
    if limit is None:
        return None
    if limit.calendar_days is not None:
        return due_after_calendar_days(received_at, limit.calendar_days, calendar)
    return due_at_once(received_at, calendar) if limit.hours is None else due_after(received_at, limit.hours, calendar)
