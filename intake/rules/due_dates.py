"""The dates of a dossier: the due date set at reception, and how a move changes the dates. No I/O.

After a pause the due date is counted anew, moved by the length of the pause, or kept, by the policy of the service. The
law counts anew after a supplement (Decree 61/2018, art. 19(4)); in practice other pauses move the date.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from intake.rules.workdays import SHIPPED, Calendar, due_after, due_after_calendar_days, due_at_once, shift
from lookup.catalogue import Service
from lookup.clock import VIETNAM
from lookup.status import Status


@dataclass(frozen=True, slots=True)
class Dates:
    """The five dates that a move may change. `paused_at` is when the present pause began."""

    received_at: datetime | None
    due_at: datetime | None
    finished_at: datetime | None
    returned_at: datetime | None
    paused_at: datetime | None


_GOES_ON = frozenset({Status.RECEIVED, Status.PROCESSING, Status.COMPLETED, Status.RETURNED})
"""Statuses that end a pause because the agency works again, or has finished."""


def dates_after(
    dossier: Any, after: Status, at: datetime, service: Service | None, calendar: Calendar = SHIPPED
) -> Dates:
    """The dates of a dossier that takes the status `after` at `at`. Due, finished and returned are three dates."""
    before = Status(dossier["status"])
    received_at, due_at = dossier["received_at"], dossier["due_at"]
    finished_at = dossier["finished_at"]
    if after in (Status.RECEIVED, Status.PROCESSING) and received_at is None:
        received_at = at
        due_at = due_date(service, dossier["service_case"], dossier["channel"], at, calendar) or due_at
    elif before.paused and after in _GOES_ON:
        due_at = _due_after_pause(dossier, before, at, service, calendar)
    if after is Status.PROCESSING:
        finished_at = None  # a correction (art. 21) reopens the work
    if after in (Status.COMPLETED, Status.RETURNED):
        finished_at = finished_at or at
    returned_at = at if after is Status.RETURNED else None
    paused_at = (dossier["paused_at"] or at) if after.paused else None
    return Dates(received_at, due_at, finished_at, returned_at, paused_at)


def _due_after_pause(
    dossier: Any, paused_as: Status, at: datetime, service: Service | None, calendar: Calendar
) -> datetime | None:
    """The due date after a pause: counted anew, moved by the pause, or kept, by the policy of the service."""
    due_at: datetime | None = dossier["due_at"]
    if service is None or due_at is None:
        return due_at
    supplement = paused_as is Status.SUPPLEMENT_REQUIRED
    policy = service.clock_after_supplement if supplement else service.clock_after_suspension
    if policy == "restart":
        return due_date(service, dossier["service_case"], dossier["channel"], at, calendar) or due_at
    if policy == "shift" and dossier["paused_at"] is not None:
        return shift(due_at, dossier["paused_at"], at, calendar)
    return due_at


def due_date(
    service: Service | None, case: str, channel: str, received_at: datetime, calendar: Calendar = SHIPPED
) -> datetime | None:
    """The due date of a dossier of this service, case and channel; None if the catalogue has no time limit for it."""
    if service is None:
        return None
    limit = service.time_limit(case, channel, received_at.astimezone(VIETNAM).date())
    if limit is None:
        return None
    if limit.at_once:
        return due_at_once(received_at, calendar)
    if limit.calendar_days is not None:
        return due_after_calendar_days(received_at, limit.calendar_days, calendar)
    return due_after(received_at, limit.hours, calendar)
