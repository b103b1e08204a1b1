"""The time of PostgreSQL's clock, extrapolated with this process's monotonic clock.

An age is the difference between a timestamp from PostgreSQL and now. Taking now from this machine's wall clock
would let a step of that clock make every answer look new or far too old. Moments are whole microseconds since 1970.
"""

import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Annotated, TypeAlias, overload

from msgspec import Meta

VIETNAM = timezone(timedelta(hours=7))
"""UTC+7 all year; every time in an answer is written in it."""

Zoned: TypeAlias = Annotated[datetime, Meta(tz=True)]
"""A time in an answer: with its offset from UTC."""

Micros: TypeAlias = int
"""A moment by PostgreSQL's clock: whole microseconds since 1970, UTC.

An alias and not a NewType: that would cost a call at each sum, two of which are in every answer from memory.
"""

PRESENT = """
SELECT now()                                                            AS asked_at,
       heartbeat.at                                                     AS beat_at,
       CASE WHEN pg_is_in_recovery() THEN heartbeat.at ELSE now() END   AS as_of,
       pg_is_in_recovery()                                              AS standby,
       pg_snapshot_xmin(pg_current_snapshot())::text::bigint            AS horizon,
       (SELECT max(number)  FROM epoch)                                 AS epoch,
       (SELECT max(version) FROM schema_version)                        AS schema_version
  FROM heartbeat
"""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SAMPLE_LIFETIME = 10.0


def microseconds(moment: datetime) -> Micros:
    """A moment as microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def moment(microseconds: Micros) -> datetime:
    """Microseconds since 1970 as a moment in UTC."""
    return _EPOCH + timedelta(microseconds=microseconds)


@overload
def local(moment: datetime) -> datetime: ...


@overload
def local(moment: datetime | None) -> datetime | None: ...


def local(moment: datetime | None) -> datetime | None:
    """The same moment in Vietnamese time; None stays None."""
    return moment and moment.astimezone(VIETNAM)


def day_of(at: Micros) -> date:
    """The day on which this moment falls in Vietnam."""
    return moment(at).astimezone(VIETNAM).date()


class DatabaseClock:
    """PostgreSQL's clock now; this machine's wall clock until PostgreSQL has answered once."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._offset = time.time() - monotonic()
        self._round_trip = float("inf")
        self._sampled_at = float("-inf")
        self._of_primary = False

    def now(self) -> Micros:
        """Never earlier than PostgreSQL's clock, except for drift: an age may be too high, never too low."""
        return int((self._monotonic() + self._offset) * 1_000_000)

    def learn(self, database_time: datetime, asked_at: float, *, primary: bool = True) -> None:
        """Set the clock from the time PostgreSQL returned for a query sent at `asked_at` (monotonic) and answered now.

        A standby's time is used only until the primary has answered once. PostgreSQL read its clock after `asked_at`,
        so the offset computed from it errs towards "later", by at most the round trip. A sample more than twice as slow
        as the last replaces it only after _SAMPLE_LIFETIME seconds.
        """
        if self._of_primary and not primary:
            return
        if primary and not self._of_primary:
            self._of_primary, self._sampled_at = True, float("-inf")
        now = self._monotonic()
        round_trip = now - asked_at
        if round_trip <= 2 * self._round_trip or now - self._sampled_at > _SAMPLE_LIFETIME:
            self._offset = microseconds(database_time) / 1_000_000 - asked_at
            self._round_trip = round_trip
            self._sampled_at = now


# now() is the start of this statement's transaction, before its snapshot: everything the statement sees was true then.
# A standby sees only what it has replayed, so there the heartbeat row of the same snapshot is the time. Every
# transaction below `horizon` had ended when the snapshot was taken.
