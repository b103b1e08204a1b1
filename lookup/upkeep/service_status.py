"""The public status of the service: which parts work, since when one does not, and planned maintenance. Without I/O.

The pulse updates the facts once a second, and requests are answered from memory, also while PostgreSQL and Redis are
unreachable.

The lookup must not connect to intake. It reads a row in PostgreSQL that an intake process updates every few seconds
(`sign_of_life`). Intake's `/readyz` would say less: it answers 200 also while no transaction can be committed, which
submitting a dossier needs, and intake would have to be reachable from the lookup's network. The row does not show
whether clients can reach intake from outside.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

import asyncpg
import msgspec

from lookup.clock import PRESENT, Micros, microseconds, moment
from lookup.maintenance import Notice, Part
from lookup.reading.freshness import SECOND
from lookup.reading.hosts import Hosts
from lookup.reading.shedding import Load
from lookup.reading.vitals import Vitals
from ops.errors import Unavailable

SILENT_AFTER = 20 * SECOND
"""Microseconds without a sign of life after which intake counts as down; it writes one every 5 s."""

# One row for the moment, then one for each notice that is not over. Withdrawn notices are left out.
SERVICE = f"""
WITH present AS MATERIALIZED ({PRESENT})
SELECT asked_at, beat_at, as_of, standby, horizon, epoch,
       (SELECT at FROM sign_of_life WHERE service = 'intake') AS sign_at,
       NULL::int4 AS number, NULL::timestamptz AS starts_at, NULL::timestamptz AS ends_at,
       NULL::timestamptz AS shown_from, NULL::text[] AS affects, NULL::text AS text_vi, NULL::text AS text_en,
       NULL::timestamptz AS announced_at
  FROM present
 UNION ALL
(SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL,
        number, starts_at, ends_at, shown_from, affects, text_vi, text_en, announced_at
   FROM maintenance
  WHERE ends_at > now() - interval '1 minute'
    AND NOT EXISTS (SELECT FROM maintenance_withdrawal AS taken_back WHERE taken_back.number = maintenance.number)
  ORDER BY starts_at, number
  LIMIT 20)
"""


class PartState(Enum):
    """The state of a part of the service."""

    WORKING = "working"
    LIMITED = "limited"
    """Usable, but less than promised."""
    DOWN = "down"
    UNKNOWN = "unknown"
    """No source that would know is reachable from here."""


class Reason(Enum):
    """Why a part is not working; public, so it names no machine."""

    OVERLOADED = "overloaded"
    DATABASE_AWAY = "database_away"
    EVERYTHING_AWAY = "everything_away"
    """Neither PostgreSQL nor Redis is reachable: only dossiers in process memory can be answered."""
    LATE = "late"
    """Changes take up to the soft age to appear."""
    UNCONFIRMED = "unconfirmed"
    """Answers may be out of date by more than the soft age."""
    SILENT = "silent"
    """It has written no sign of life."""
    NOT_SEEN = "not_seen"
    """The last data about it is too old to judge."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A part's state, its reason, and since when: None while it works, or when unknown."""

    state: PartState
    reason: Reason | None = None
    since: Micros | None = None


WORKING = Condition(PartState.WORKING)


@dataclass(frozen=True, slots=True)
class View:
    """The status at one moment. `heartbeat_at` is 0 before the first one."""

    at: Micros
    parts: dict[Part, Condition]
    heartbeat_at: Micros
    notices: Sequence[Notice] = field(default=())
    notices_at: Micros = 0
    """When the notices were read; 0 for never."""

    @property
    def heartbeat_age(self) -> float | None:
        """Seconds since the newest heartbeat; None before the first one."""
        return max(0, self.at - self.heartbeat_at) / SECOND if self.heartbeat_at else None

    @property
    def now(self) -> datetime:
        """`at` as a datetime in UTC."""
        return moment(self.at)

    def notice(self) -> Notice | None:
        """The notice to announce on the form: the current one, else the next after its `shown_from`; or None."""
        shown = [each for each in self.notices if each.shown_from <= self.now and not each.over(self.now)]
        return min(shown, key=lambda each: each.starts_at, default=None)


class ServiceStatus:
    """Keeps the view current, by `read` every few seconds and `look` after each beat of the pulse."""

    def __init__(self, vitals: Vitals, hosts: Hosts) -> None:
        self._vitals = vitals
        self._hosts = hosts
        self._since: dict[Part, tuple[PartState, int]] = {}
        self._sign_at = 0
        self._as_of = 0
        """The moment of the read: a later sign would not have been seen."""
        self._notices: tuple[Notice, ...] = ()
        self._notices_at = 0
        self.view = self.look()

    async def read(self) -> None:
        """Read notices and intake's sign of life. On Unavailable it keeps the last ones."""
        try:
            present, *rows = await self._hosts.ask(SERVICE)
        except asyncpg.PostgresError as error:
            # A missing grant, or a standby that has not replicated the migration yet: lookups must go on.
            raise Unavailable("Announced maintenance cannot be read from this database.") from error
        self._as_of = microseconds(present["as_of"])
        self._sign_at = microseconds(present["sign_at"]) if present["sign_at"] else 0
        self._notices = tuple(msgspec.convert(dict(row), Notice) for row in rows)
        self._notices_at = self._vitals.clock.now()

    def look(self) -> View:
        """Recompute the view from what is known now, without I/O."""
        now = self._vitals.clock.now()
        heartbeat = max(self._vitals.feed.at, *(host.beat_at for host in self._hosts.all))
        parts = {
            Part.LOOKUP: self._lookup(),
            Part.UPDATES: self._updates(heartbeat),
            Part.INTAKE: self._intake(now),
        }
        dated = {part: self._dated(part, condition, now) for part, condition in parts.items()}
        notices = [notice for notice in self._notices if not notice.over(moment(now))]
        self.view = View(now, dated, heartbeat, notices, self._notices_at)
        return self.view

    @property
    def _has_primary(self) -> bool:
        """Without a primary, answers cannot be confirmed for long, and an unknown code not at all."""
        return next(self._hosts.primaries(), None) is not None

    def _lookup(self) -> Condition:
        if not self._has_primary:
            no_store = self._vitals.redis.open and not self._hosts.reachable
            return Condition(PartState.LIMITED, Reason.EVERYTHING_AWAY if no_store else Reason.DATABASE_AWAY)
        if self._vitals.shedding.level >= Load.UNKNOWN:
            return Condition(PartState.LIMITED, Reason.OVERLOADED)
        return WORKING

    def _updates(self, heartbeat: int) -> Condition:
        if not self._vitals.feed.silent:
            return WORKING
        if self._has_primary:
            return Condition(PartState.LIMITED, Reason.LATE, self._vitals.feed.at or None)
        return Condition(PartState.DOWN, Reason.UNCONFIRMED, heartbeat or None)

    def _intake(self, now: Micros) -> Condition:
        """Judges the sign against the moment of the read: on a lagging standby an old sign proves nothing."""
        if not self._sign_at:
            return Condition(PartState.UNKNOWN, Reason.NOT_SEEN)
        if self._as_of - self._sign_at > SILENT_AFTER:
            return Condition(PartState.DOWN, Reason.SILENT, self._sign_at)
        if now - self._as_of > SILENT_AFTER:
            return Condition(PartState.UNKNOWN, Reason.NOT_SEEN, self._as_of)
        return WORKING

    def _dated(self, part: Part, condition: Condition, now: Micros) -> Condition:
        """The condition with its start: the known one, else when it was first seen here."""
        state, since = self._since.get(part, (PartState.WORKING, now))
        if state is not condition.state:
            since = now
        self._since[part] = (condition.state, since)
        if condition.state is PartState.WORKING:
            return condition
        return Condition(condition.state, condition.reason, condition.since or since)
