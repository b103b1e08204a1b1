"""The mail to the head of each unit at seven on working days: how much is late or about to be, and the codes.

What it tells is what `hoso24 overdue` tells of the unit. It names nobody: a mail is read by others than its receiver.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from typing import Final

import asyncpg

from intake import metrics
from intake.notices.mail import Mailer
from intake.notices.messages import Messages
from intake.overdue import owed
from intake.rules import policies
from intake.rules.channels import NoAddress, checked
from intake.rules.workdays import calendar_of
from lookup.catalogue import CatalogueCopy
from lookup.clock import VIETNAM
from ops.errors import Unavailable
from ops.stores.postgres import Postgres

log = logging.getLogger(__name__)

FROM, UNTIL = time(7), time(12)
"""The hours in Vietnam in which it is sent; what nobody took by noon is no news of the morning."""
LOOK_EVERY: Final = 60.0
"""Seconds between two looks at the clock."""
AGAIN_AFTER: Final = 300.0
"""Seconds until a mail that was not taken is tried again, by whichever process."""
SECONDS: Final = 10.0
"""Timeout of asking what is owed in the whole country."""

ENDED = """
SELECT agency
  FROM morning_mail
 WHERE day = $1
   AND ended_at IS NOT NULL
"""

CLAIM = """
INSERT INTO morning_mail AS m (agency, day, lease_until)
VALUES ($1, $2, now() + make_interval(secs => $3))
ON CONFLICT (agency) DO UPDATE
   SET day = excluded.day, lease_until = excluded.lease_until, ended_at = NULL
 WHERE m.day < excluded.day
    OR m.ended_at IS NULL AND m.lease_until <= now()
RETURNING agency
"""

END = """
UPDATE morning_mail
   SET ended_at = now()
 WHERE agency = $1
   AND day = $2
"""


class MorningMail:
    """Sends it; any number of processes may, each unit gets one."""

    def __init__(
        self,
        postgres: Postgres,
        catalogue: CatalogueCopy,
        mailer: Mailer,
        messages: Messages,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._postgres = postgres
        self._catalogue = catalogue
        self._mailer = mailer
        self._messages = messages
        self._now = now
        self._day: date | None = None
        self._left: dict[str, dict[str, list[str]]] = {}
        """Unit → what it owes on that day, of those whose mail has not ended."""

    async def run(self) -> None:
        """Look every minute, until cancelled."""
        while True:
            try:
                await self.look()
            except (Unavailable, asyncpg.PostgresError) as away:
                log.warning("The morning's mails are late: %s", away)
            await asyncio.sleep(LOOK_EVERY)

    async def look(self) -> int:
        """Send what is to be sent now; how many mails a server took. Raises Unavailable."""
        now = self._now().astimezone(VIETNAM)
        if not FROM <= now.time() < UNTIL:
            return 0
        if self._day != now.date():
            self._left = await self._owed(now)
            self._day = now.date()
        if not self._left:
            return 0
        for row in await self._postgres.fetch(ENDED, now.date()):
            self._left.pop(row["agency"], None)
        return sum([await self._send(agency, now) for agency in sorted(self._left)])

    async def _owed(self, now: datetime) -> dict[str, dict[str, list[str]]]:
        """Of each unit that works today and whose head has an address: what is owed → the codes."""
        await self._catalogue.refresh()
        catalogue = self._catalogue.current
        units: defaultdict[str, dict[str, list[str]]] = defaultdict(dict)
        async with self._postgres.connection(SECONDS, operation="SELECT") as connection:
            for each in await owed(connection, catalogue, now):
                agency = catalogue.agencies[each.agency]
                if agency.email and calendar_of(catalogue, agency.code).is_working_day(now.date()):
                    units[each.agency].setdefault(each.what, []).append(each.code)
        return dict(units)

    async def _send(self, agency: str, now: datetime) -> bool:
        try:
            address = checked("mail", self._catalogue.current.agencies[agency].email or "")
        except NoAddress:
            log.warning("The head of %s gets no mail: the catalogue's address is none", agency)
            return False
        if not await self._postgres.fetch(CLAIM, agency, now.date(), AGAIN_AFTER):
            return False
        hours = policies.value_of(None, "decision_hours")
        message = self._messages.morning(agency, address, now, self._left[agency], hours=hours)
        outcome = await self._mailer.send(message, address)
        if outcome.outcome == "later":
            log.warning("The mail to the head of %s is tried again: %s", agency, outcome.why)
            metrics.MORNING_MAILS.labels("failed").inc()
            return False
        await self._postgres.fetch(END, agency, now.date())
        metrics.MORNING_MAILS.labels("sent" if outcome.outcome == "sent" else "dead").inc()
        return outcome.outcome == "sent"
