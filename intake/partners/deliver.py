"""Delivers webhooks: pages of the feed, in order, each until its receiver has taken it.

One page of a webhook is under way at a time. Its end is written before the first attempt, so that each further attempt
has the same bytes and the same id; what its client may no longer see by then is left out. The cursor moves on after a
2xx answer. Nothing is queued or stored: the log is the queue.

Any number of processes may run. Each takes due rows that no other one holds (intake/partners/subscriptions.py).
"""

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import msgspec

from intake import metrics
from intake.outgoing.sending import SECONDS, LeaseOver, Outcome, Sender
from intake.outgoing.signatures import keys_in_force, signed
from intake.partners import changes, subscriptions
from intake.partners.changes import FeedRewound, Follower, Page
from intake.partners.cursor import Cursor
from intake.partners.schedule import wait_after
from intake.partners.subscriptions import LOTS, Leased, Lot
from lookup.catalogue import Catalogue
from lookup.clock import VIETNAM, Zoned, local
from ops.errors import Unavailable
from ops.http.endpoints import encode
from ops.stores.postgres import Postgres

log = logging.getLogger(__name__)

LEASE: Final = 60.0
"""Seconds for which a row is held; an attempt begins only while it could still time out within them."""
LOOK_EVERY: Final = 0.25
"""Seconds between two looks for due rows."""
AT_ONCE: Final = 10
"""Webhooks of a lot that are taken in one look. More of them follow at once, but those that answer promptly first: a
hundred receivers that hang would all be sent to in the same moment."""
TURN: Final = 30.0
"""Seconds after which a webhook with many pages makes room for others."""
WATCH_EVERY: Final = 15.0
"""Seconds between two counts of the webhooks by state."""
HALTED_FOR: Final = 30.0
"""Seconds until a webhook whose place in the log is not there is looked at again."""
LATE: Final = 10.0
"""Seconds without a look after which the health report fails."""
EVENTS: Final = 100
"""Events of a page at most."""


class PingEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Asks a receiver whether it wants deliveries; a 2xx answer says that it does. `subject`: the webhook."""

    specversion: str = "1.0"
    id: str
    source: str
    type: str = "vn.hoso24.ping"
    subject: str
    time: Zoned


class Ping(msgspec.Struct, frozen=True, kw_only=True):
    """A page whose only event is the ping. `next`: where deliveries go on."""

    events: list[PingEvent]
    next: str
    caught_up: bool = False


class Format(Protocol):
    """How deliveries of one format look."""

    @property
    def events(self) -> int:
        """Events of a page at most."""
        ...

    @property
    def reads(self) -> int:
        """Bytes of a 2xx answer's body that are read at most, for `judged`."""
        ...

    def check(self, row: Leased) -> None:
        """Raises NotOffered for a webhook that this format is not delivered to."""
        ...

    def ping(self, row: Leased, message_id: str, now: datetime) -> bytes | None:
        """The body that asks whether the receiver wants deliveries; None if none is sent."""
        ...

    def body(self, page: Page) -> bytes | None:
        """The body of a page; None when it holds nothing to tell."""
        ...

    def judged(self, outcome: Outcome) -> Outcome:
        """What a 2xx answer means by its content."""
        ...


class NotOffered(Exception):
    """This installation does not deliver to this webhook; the text is one sentence."""


@dataclasses.dataclass(frozen=True, slots=True)
class Standard:
    """Pages as GET /api/v1/changes answers them. `source`: the installation, as urn:hoso24:<name>.

    `caught_up` is always false: it would differ between two attempts.
    """

    source: str
    events: int = EVENTS
    reads: int = 0

    def check(self, row: Leased) -> None:
        """It goes wherever its client says."""

    def ping(self, row: Leased, message_id: str, now: datetime) -> bytes | None:
        """A page with one event, the ping."""
        event = PingEvent(id=message_id, source=self.source, subject=row.id, time=local(now))
        return encode(Ping(events=[event], next=row.cursor.text))

    def body(self, page: Page) -> bytes | None:
        """The page as the feed tells it; None without events."""
        return encode(dataclasses.replace(page, caught_up=False).told(self.source)) if page.rows else None

    def judged(self, outcome: Outcome) -> Outcome:
        """The status alone decides."""
        return outcome


@dataclasses.dataclass(slots=True)
class _Held:
    """A webhook with the moment, by time.monotonic(), until which it is ours for certain."""

    row: Leased
    until: float


class Deliverer:
    """Takes due webhooks and serves each; `lease`, `look_every` and `seconds` (of an attempt) are in seconds."""

    def __init__(
        self,
        postgres: Postgres,
        sender: Sender,
        secret: Callable[[], bytes],
        formats: Mapping[str, Format],
        *,
        lots: Mapping[Lot, int] = LOTS,
        lease: float = LEASE,
        look_every: float = LOOK_EVERY,
        seconds: float = SECONDS,
    ) -> None:
        self._postgres = postgres
        self._fetch = postgres.fetch
        self._sender = sender
        self._secret = secret
        self._formats = formats
        self._lots = lots
        self._lease = lease
        self._look_every = look_every
        self._seconds = seconds
        self._serving: dict[Lot, set[asyncio.Task[None]]] = {lot: set() for lot in lots}
        self._agencies = "", Catalogue()
        self._looked_at = time.monotonic()
        self._trouble = ""

    async def run(self) -> None:
        """Look for due webhooks and serve them, until cancelled; then give back what is held."""
        try:
            while True:
                try:
                    more = await self._look()
                    pause = self._look_every / 10 if more else self._look_every
                except Unavailable as away:
                    self._troubled(str(away))
                    pause = 1.0
                await asyncio.sleep(pause)
        finally:
            serving = [task for tasks in self._serving.values() for task in tasks]
            for task in serving:
                task.cancel()
            if serving:
                await asyncio.wait(serving, timeout=5.0)

    async def watch(self) -> None:
        """Count the webhooks by state for the metrics, until cancelled."""
        while True:
            try:
                await self._count()
            except Unavailable as away:
                log.debug("The webhooks cannot be counted: %s", away)
            await asyncio.sleep(WATCH_EVERY)

    async def check(self) -> int:
        """How many webhooks are served now. Raises Unavailable when none was looked for lately."""
        if time.monotonic() - self._looked_at > LATE:
            raise Unavailable(f"No due webhook was looked for in the last {LATE:g} s: {self._trouble or 'stopped'}.")
        return sum(map(len, self._serving.values()))

    async def _look(self) -> bool:
        """Take what is due; whether there may be more."""
        more = False
        for lot, most in self._lots.items():
            free = min(AT_ONCE, most - len(self._serving[lot]))
            asked_at = time.monotonic()
            rows = await subscriptions.take(self._fetch, lot, free, self._lease) if free else []
            more = more or len(rows) == AT_ONCE
            for row in rows:
                task = asyncio.create_task(self._serve(_Held(row, asked_at + self._lease)))
                self._serving[lot].add(task)
                task.add_done_callback(self._serving[lot].discard)
        metrics.WEBHOOKS_SERVING.set(sum(map(len, self._serving.values())))
        self._looked_at = time.monotonic()
        if self._trouble:
            log.info("Webhooks are delivered again")
            self._trouble = ""
        return more

    def _troubled(self, why: str) -> None:
        if not self._trouble:
            log.warning("No webhook can be delivered: %s", why)
        self._trouble = why

    async def _serve(self, held: _Held) -> None:
        """Serve one webhook until there is nothing more to send, or an attempt fails, or its turn is over."""
        name = held.row.id
        try:
            if held.row.state == "unproven":
                await self._prove(held)
            else:
                await self._deliver(held, time.monotonic() + TURN)
        except NotOffered as refused:
            await self._refused(held.row, str(refused))
        except LeaseOver:
            log.warning("Webhook %s was held for too long; nothing was sent, and another process goes on", name)
            metrics.WEBHOOK_ATTEMPTS.labels("lease_over").inc()
        except (changes.FeedHalted, FeedRewound) as lost:
            log.warning("Webhook %s has to wait: its place is not in the log: %s", name, lost)
            await self._leave(held.row, HALTED_FOR)
        except Unavailable as away:
            log.warning("Webhook %s is left for later: %s", name, away)
        except asyncio.CancelledError:
            await asyncio.shield(self._leave(held.row))
            raise
        except Exception:  # one webhook's trouble ends no other's; it is logged whole, and tried again later
            log.exception("Serving webhook %s failed", name)
            await self._leave(held.row, HALTED_FOR)

    async def _leave(self, row: Leased, wait: float = 0.0) -> None:
        try:
            await subscriptions.leave(self._fetch, row, wait)
        except Unavailable as away:
            log.warning("Webhook %s stays held until its lease is over: %s", row.id, away)

    async def _refused(self, row: Leased, why: str) -> None:
        try:
            await subscriptions.failed(self._fetch, row, "unreachable", row.attempt + 1, why, 0.0)
        except Unavailable as away:
            log.warning("Webhook %s stays held until its lease is over: %s", row.id, away)

    async def _prove(self, held: _Held) -> None:
        row = held.row
        message_id = f"wh_{row.id}_ping{row.token}"
        form = self._format(row)
        body = form.ping(row, message_id, datetime.now(UTC))
        outcome = Outcome() if body is None else await self._attempt(held, message_id, body, form.reads)
        if outcome.error is None:
            saved = await subscriptions.proven(self._fetch, row)
        else:
            state = "gone" if outcome.gone else "unreachable"
            saved = await subscriptions.failed(self._fetch, row, state, 1, outcome.error, 0.0)
        if not saved:
            await self._leave(row)

    async def _deliver(self, held: _Held, turn_ends: float) -> None:
        form = self._format(held.row)
        more = True
        while more:
            row = held.row
            page = await self._page(row, form.events)
            end = page.next
            more = not page.caught_up and time.monotonic() < turn_ends
            body = form.body(page)
            if body is not None:
                if row.page_end is None and not await self._frozen(held, end):
                    return await self._leave(row)
                outcome = form.judged(await self._attempt(held, f"wh_{row.id}_{end.text}", body, form.reads))
                if outcome.error is not None:
                    return await self._failed(held.row, outcome)
            if not await self._moved_on(held, end, sent=body is not None, more=more):
                return await self._leave(row)
            if body is not None:
                metrics.WEBHOOK_EVENTS.inc(len(page.rows))
                metrics.WEBHOOK_DELAY.observe((datetime.now(UTC) - page.rows[0]["recorded_at"]).total_seconds())
        return None

    def _format(self, row: Leased) -> Format:
        """Raises NotOffered."""
        if row.format not in self._formats:
            raise NotOffered(f"This installation does not deliver in the format {row.format}.")
        form = self._formats[row.format]
        form.check(row)
        return form

    async def _page(self, row: Leased, most: int) -> Page:
        """The next page, or the one under way as its client may see it now.

        By agencies that were the same before and after it was read: of one that was added meanwhile, no event may be
        passed over as if it were another's.
        """
        while True:
            stamp, catalogue = self._agencies
            page = await self._read(row, most, catalogue)
            now = await subscriptions.agencies_stamp(self._fetch)
            if now == stamp:
                return page
            self._agencies = now, await subscriptions.agencies(self._fetch)

    async def _read(self, row: Leased, most: int, catalogue: Catalogue) -> Page:
        seen = subscriptions.seen_by(catalogue, row, datetime.now(VIETNAM).date())
        follower = Follower(row.client, seen, bulk=row.bulk, mine=row.mine, narrowed=row.agency is not None)
        if row.page_end is None:
            return await changes.page(self._fetch, follower, row.cursor, most)
        rows: list[Mapping[str, Any]] = []
        after, end = row.cursor, row.page_end[:3]
        while True:
            page = await changes.page(self._fetch, follower, after, most)
            rows += [each for each in page.rows if (each["epoch"], each["xid"], each["seq"]) <= end]
            if len(rows) > most:  # its client may see more by now, or the format's pages are smaller
                return Page(rows[:most], follower, changes.cursor_of(rows[most - 1]), caught_up=False)
            if page.caught_up or page.next[:3] >= end:
                return Page(rows, follower, row.page_end, caught_up=False)
            after = page.next

    async def _frozen(self, held: _Held, end: Cursor) -> bool:
        asked_at = time.monotonic()
        if not await subscriptions.freeze(self._fetch, held.row, end, self._lease):
            return False
        held.row = dataclasses.replace(held.row, page_end=end)
        held.until = asked_at + self._lease
        return True

    async def _moved_on(self, held: _Held, end: Cursor, *, sent: bool, more: bool) -> bool:
        """Save the new cursor; hold the row further on if there is `more` to send, else give it back."""
        asked_at = time.monotonic()
        save = subscriptions.delivered if sent else subscriptions.passed_over
        if not await save(self._fetch, held.row, end, self._lease if more else 0.0):
            return False
        held.row = dataclasses.replace(held.row, cursor=end, page_end=None, attempt=0 if sent else held.row.attempt)
        held.until = asked_at + self._lease
        return True

    async def _attempt(self, held: _Held, message_id: str, body: bytes, read: int) -> Outcome:
        """Raises LeaseOver when the row might be another process's before this attempt ends."""
        row, now = held.row, datetime.now(UTC)
        began = time.monotonic()
        if began + self._seconds > held.until:
            raise LeaseOver
        keys = keys_in_force(self._secret(), row.id, row.generation, row.rotated_at, now)
        headers = signed(keys, message_id, now, body)
        outcome = await self._sender.post(row.url, body, headers, before=held.until, read=read)
        metrics.WEBHOOK_SECONDS.observe(time.monotonic() - began)
        metrics.WEBHOOK_ATTEMPTS.labels(_name(outcome)).inc()
        return outcome

    async def _failed(self, row: Leased, outcome: Outcome) -> None:
        attempt = row.attempt + 1
        wait = wait_after(attempt, outcome.asked_for)
        state = "gone" if outcome.gone else "active" if wait is not None else "paused"
        if state != "active":
            log.warning("Webhook %s of client %s is %s: %s", row.id, row.client, state, outcome.error)
        if not await subscriptions.failed(self._fetch, row, state, attempt, outcome.error or "", wait or 0.0):
            await self._leave(row)

    async def _count(self) -> None:
        rows = {row["state"]: row for row in await self._fetch(subscriptions.STANDING)}
        for state in ("unproven", "active", "paused", "unreachable", "gone"):
            metrics.WEBHOOKS.labels(state).set(rows[state]["count"] if state in rows else 0)
        active = rows.get("active")
        metrics.WEBHOOKS_FAILING.set(active["failing"] if active else 0)
        metrics.WEBHOOKS_BEHIND.set(active["behind"] if active else 0.0)


def _name(outcome: Outcome) -> str:
    if outcome.error is None:
        return "delivered"
    return "timed_out" if outcome.timed_out else "gone" if outcome.gone else "failed"
