"""Makes notices of the log and hands them over, channel by channel, each until somebody took it or two days are over.

Any number of processes may run: one at a time reads the next page of the log, and each takes due notices that no other
one holds. What was handed over by a process that died before it could write that down goes out again, with the same id.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from intake import metrics
from intake.notices import rows
from intake.notices.mail import AT_ONCE, SEND_SECONDS, Mailer, Outcome
from intake.notices.messages import Messages, may_text
from intake.notices.rows import Leased
from intake.outgoing.sending import LeaseOver, Sender
from intake.outgoing.signatures import signed_with
from intake.rules.channels import NoAddress, checked
from ops.errors import Unavailable
from ops.stores.postgres import TRANSACTION, Postgres

log = logging.getLogger(__name__)

WAITS: Final = (60.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 86_400.0)
"""Seconds after the first failure, the second and so on."""
DEAD_AFTER: Final = timedelta(hours=48)
"""After its making a notice is tried no more."""
LEASE: Final = 60.0
"""Seconds for which a notice is held; an attempt ends well within them."""
LOOK_EVERY: Final = 0.25
"""Seconds between two looks at the log and for due notices."""
AWAY_FOR: Final = 5.0
"""Seconds for which a server that could not be reached is left alone: its notices keep their attempts."""
LATE: Final = 10.0
"""Seconds without a look after which the health report fails."""
WATCH_EVERY: Final = 15.0
"""Seconds between two counts for the metrics."""
STOP_SECONDS: Final = 5.0
"""How long a process that stops waits for what it has begun to hand over."""


class Way(Protocol):
    """How notices of one channel are handed over."""

    async def deliver(self, row: Leased, address: str, before: float) -> Outcome:
        """Hand one over, unless it would begin after `before`, by time.monotonic()."""
        ...

    def open(self, now: datetime) -> bool:
        """Whether anything is handed over at this moment."""
        ...


class ByMail:
    """As a mail."""

    def __init__(self, mailer: Mailer, messages: Messages) -> None:
        self._mailer = mailer
        self._messages = messages

    async def deliver(self, row: Leased, address: str, before: float) -> Outcome:
        """Hand the mail to the server."""
        return await self._mailer.send(self._messages.mail(row, address), address)

    def open(self, now: datetime) -> bool:
        """At any hour: a mail wakes nobody."""
        return True


class ByGateway:
    """As a webhook to the installation's gateway, which owns text messages and messengers; `key` is shared with it."""

    def __init__(self, sender: Sender, url: str, key: Callable[[], bytes], messages: Messages) -> None:
        self._sender = sender
        self._url = url
        self._key = key
        self._messages = messages

    async def deliver(self, row: Leased, address: str, before: float) -> Outcome:
        """Send it; a 2xx answer takes it."""
        identity, body = self._messages.text(row, address)
        headers = signed_with(self._key(), identity, datetime.now(UTC), body)
        answer = await self._sender.post(self._url, body, headers, before=before)
        if answer.error is None:
            return Outcome("sent", "Taken by the gateway.")
        return Outcome("later", answer.error, away=answer.timed_out)

    def open(self, now: datetime) -> bool:
        """By day."""
        return may_text(now)


class Deliverer:
    """Serves the channels that have a way; `lease`, `look_every` and `seconds` (of an attempt) are in seconds."""

    def __init__(
        self,
        postgres: Postgres,
        ways: Mapping[str, Way],
        *,
        lease: float = LEASE,
        look_every: float = LOOK_EVERY,
        seconds: float = SEND_SECONDS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._postgres = postgres
        self._fetch = postgres.fetch
        self._ways = ways
        self._lease = lease
        self._look_every = look_every
        self._seconds = seconds
        self._now = now
        self._serving: dict[str, set[asyncio.Task[None]]] = {channel: set() for channel in ways}
        self._left_alone = dict.fromkeys(ways, 0.0)
        self._looked_at = time.monotonic()
        self._trouble = ""

    async def run(self) -> None:
        """Look and serve, until cancelled; then end what was begun, and give back what is held."""
        try:
            while True:
                try:
                    more = await self._look()
                    pause = self._look_every / 10 if more else self._look_every
                except Unavailable as away:
                    if not self._trouble:
                        log.warning("No notice can be sent: %s", away)
                    self._trouble = str(away)
                    pause = 1.0
                await asyncio.sleep(pause)
        finally:
            await self._stop()

    async def watch(self) -> None:
        """Count what waits for the metrics, until cancelled."""
        while True:
            try:
                await self._count()
            except Unavailable as away:
                log.debug("The notices cannot be counted: %s", away)
            await asyncio.sleep(WATCH_EVERY)

    async def check(self) -> int:
        """How many notices are handed over now. Raises Unavailable when the log was not looked at lately."""
        if time.monotonic() - self._looked_at > LATE:
            raise Unavailable(f"The log was not looked at in the last {LATE:g} s: {self._trouble or 'stopped'}.")
        return self._busy

    @property
    def _busy(self) -> int:
        return sum(map(len, self._serving.values()))

    async def _look(self) -> bool:
        """Read on in the log, and take what is due; whether there may be more."""
        async with self._postgres.connection(operation=TRANSACTION) as connection:
            more = await rows.follow(connection, list(self._ways)) == rows.PAGE
        for channel, way in self._ways.items():
            free = AT_ONCE - len(self._serving[channel])
            more = more or not free
            if not free or not way.open(self._now()) or time.monotonic() < self._left_alone[channel]:
                continue
            until = time.monotonic() + self._lease
            taken = await rows.take(self._fetch, channel, free, self._lease)
            more = more or len(taken) == free
            for row in taken:
                task = asyncio.create_task(self._serve(row, until))
                self._serving[channel].add(task)
                task.add_done_callback(self._serving[channel].discard)
        metrics.NOTICES_SERVING.set(self._busy)
        self._looked_at = time.monotonic()
        if self._trouble:
            log.info("Notices are sent again")
            self._trouble = ""
        return more

    async def _serve(self, row: Leased, until: float) -> None:
        """Send one notice, and write down what came of it."""
        try:
            if (why := row.moot) is not None:
                await rows.end(self._fetch, row, "superseded", why, tried=False)
                metrics.NOTICES.labels(row.channel, "superseded").inc()
                return
            await self._settle(row, await self._attempt(row, until))
        except asyncio.CancelledError:
            await asyncio.shield(self._leave(row))
            raise
        except (Unavailable, LeaseOver) as away:
            log.warning("What became of a notice is not written down, it may go out again: %s", away)
        except Exception:  # one notice's trouble ends no other's; it is logged whole, and tried again after its lease
            log.exception("Sending a notice failed")

    async def _attempt(self, row: Leased, until: float) -> Outcome:
        """Raises LeaseOver where another process may hold it before the attempt ends."""
        if time.monotonic() + self._seconds > until:
            raise LeaseOver
        try:
            address = checked(row.channel, row.address or "")
        except NoAddress:  # whatever wrote the row, no other line gets into a head
            return Outcome("never", "What is stored is no address of this channel.")
        outcome = await self._ways[row.channel].deliver(row, address, until - self._seconds)
        if outcome.away:
            self._left_alone[row.channel] = time.monotonic() + AWAY_FOR
        return outcome

    async def _settle(self, row: Leased, outcome: Outcome) -> None:
        wait = None if outcome.outcome == "sent" else _wait(row, outcome, self._now())
        if wait is not None:
            word, saved = "failed", await rows.try_later(self._fetch, row, wait, outcome.why)
        else:
            word = "sent" if outcome.outcome == "sent" else "dead"
            saved = await rows.end(self._fetch, row, word, outcome.why)
        metrics.NOTICES.labels(row.channel, word).inc()
        if word == "sent":
            metrics.NOTICE_DELAY.observe((self._now() - row.recorded_at).total_seconds())
        if not saved:
            log.warning("A notice was held for too long, and may go out again")

    async def _leave(self, row: Leased) -> None:
        try:
            await rows.leave(self._fetch, row)
        except Unavailable as away:
            log.warning("A notice stays held until its lease is over: %s", away)

    async def _stop(self) -> None:
        serving = [task for tasks in self._serving.values() for task in tasks]
        if not serving:
            return
        _, late = await asyncio.wait(serving, timeout=STOP_SECONDS)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=2.0)

    async def _count(self) -> None:
        now = self._now()
        (row,) = await self._fetch(rows.STANDING, [channel for channel, way in self._ways.items() if way.open(now)])
        metrics.NOTICES_BEHIND.set(max(row["waits"], row["behind"]))
        metrics.NOTICES_FAILING.set(row["failing"])


def _wait(row: Leased, outcome: Outcome, now: datetime) -> float | None:
    """Seconds until the next attempt after one that failed; None when there is none."""
    if outcome.outcome == "never" or row.tries >= len(WAITS):
        return None
    wait = WAITS[row.tries]
    return None if now + timedelta(seconds=wait) > row.made_at + DEAD_AFTER else wait
