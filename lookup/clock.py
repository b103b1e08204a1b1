"""One clock, Postgres's, carried forward by this process's monotonic clock.

Ages compare a moment Postgres stamped with the present; were the present taken from this machine's wall
clock, a step of that clock would make every answer ageless or ancient. Moments are whole microseconds
since 1970.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

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


def microseconds(moment: datetime) -> int:
    """A moment as microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def moment(microseconds: int) -> datetime:
    """Microseconds since 1970 as a moment in UTC."""
    return _EPOCH + timedelta(microseconds=microseconds)


class DatabaseClock:
    """What Postgres's clock shows now. Until Postgres has answered once, this machine's wall clock."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._offset = time.time() - monotonic()
        self._round_trip = float("inf")
        self._sampled_at = float("-inf")
        self._of_primary = False

    def now(self) -> int:
        """Never earlier than Postgres's clock, but for drift: an age may come out too old, not too young."""
        return int((self._monotonic() + self._offset) * 1_000_000)

    def learn(self, database_time: datetime, asked_at: float, *, primary: bool = True) -> None:
        """Take in a time Postgres stamped on a query sent at `asked_at` (monotonic) and answered just now.

        The primary's clock is the one that counts; a standby's stands in until the primary has answered once.

        The stamp was made after `asked_at`, so the offset reckoned from there errs towards "later", by at
        most the round trip. A much slower sample than the last does not replace it while that is young.
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


# now() is the time this statement's transaction began, before its snapshot was taken: whatever the statement sees was
# certainly true then. A standby knows only what has reached it, so there the heartbeat row, read in the same snapshot,
# says how far that is. Every transaction below `horizon` had ended when the snapshot was taken.
