"""Deliveries of webhooks: in order, at least once, each page the same until it is taken, to receivers of every kind."""

import asyncio
import contextlib
import dataclasses
import functools
import signal
import ssl
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from standardwebhooks import Webhook

from intake.outgoing.addresses import Addresses
from intake.outgoing.sending import Sender
from intake.outgoing.signatures import Keys, secret_of
from intake.partners import subscriptions
from intake.partners.changes import newest
from intake.partners.deliver import Deliverer, Format, Standard
from lookup.status import Status
from ops.local.reaper import Reaper
from ops.stores.postgres import Postgres
from tests.books import append, receive
from tests.conftest import Database
from tests.debian import Authority, Certificate
from tests.house import new_client, until
from tests.intake.test_webhook_signatures import verified_by_public_key
from tests.receivers import OK, Delivery, Receiver, answer, receiving

LOOPBACK = ("127.0.0.0/8",)
SECRET = secret_of("4b" * 32)
A, B, ELSEWHERE = "G99.01.01-261130-0001", "G99.01.01-261130-0002", "G99.02.01-261130-0001"

NEW = "G99.02.77-261130-0001"
NEW_AGENCY = """
INSERT INTO agency
SELECT (jsonb_populate_record(a, '{"code": "G99.02.77"}')).*
  FROM agency AS a
 WHERE code = 'G99.02.01'
"""
ADD = """
INSERT INTO webhook (id, client, url, agency, mine, bulk, format, state, epoch, xid, seq)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::xid8, $11)
"""
ROW = "SELECT *, next_at - now() AS wait FROM webhook WHERE id = $1"
DUE_NOW = "UPDATE webhook SET next_at = now() WHERE id = $1"


class Partner:
    """A client with one webhook, seen by the owner of the database."""

    def __init__(self, owner: Any, webhook: str) -> None:
        self._owner = owner
        self.webhook = webhook
        self.keys = Keys.of(SECRET, webhook, 1)

    async def row(self) -> dict[str, Any]:
        return dict(await self._owner.fetchrow(ROW, self.webhook))

    async def set(self, **columns: Any) -> None:
        """Change its row as its client does."""
        names = ", ".join(f"{name} = ${n}" for n, name in enumerate(columns, 2))
        await self._owner.execute(f"UPDATE webhook SET {names} WHERE id = $1", self.webhook, *columns.values())

    async def due(self) -> None:
        """Its next attempt is now."""
        await self._owner.execute(DUE_NOW, self.webhook)

    async def reached(self, **wanted: Any) -> dict[str, Any]:
        """Its row once it has these values."""

        async def looked() -> dict[str, Any] | None:
            row = await self.row()
            return row if all(row[name] == value for name, value in wanted.items()) else None

        return dict(await until(looked))


class Rig:
    """Deliverers on a database, and what its partners have there."""

    def __init__(self, database: Database, owner: Any) -> None:
        self.database = database
        self.owner = owner

    async def partner(
        self, url: str, *, client: str = "partner", scope: str = "G99", state: str = "active", **fields: Any
    ) -> Partner:
        """A client of that scope with a webhook that begins now."""
        if not await self.owner.fetchval("SELECT count(*) FROM client WHERE id = $1", client):
            await new_client(self.database, client, scope, ["follow"])
        webhook = f"wh{await self.owner.fetchval('SELECT count(*) FROM webhook'):06}"
        place = (await newest(self.owner.fetch))[:3]
        filters = (
            *(fields.get("agency"), fields.get("mine", False), fields.get("bulk", True)),
            fields.get("format", "standard"),
        )
        await self.owner.execute(ADD, webhook, client, url, *filters, state, *place)
        return Partner(self.owner, webhook)

    @contextlib.asynccontextmanager
    async def delivering(self, seconds: float = 15.0, **options: Any) -> AsyncIterator[Deliverer]:
        """A deliverer at work, with its own connections."""
        postgres = Postgres("postgres", lambda: self.database.webhooks_url, size=4, deadline=10)
        sender = Sender(
            Addresses(LOOPBACK), user_agent="test", seconds=seconds, authorities=options.pop("authorities", None)
        )
        formats: dict[str, Format] = {"standard": Standard("urn:hoso24:test"), **options.pop("formats", {})}
        work = Deliverer(postgres, sender, lambda: SECRET, formats, look_every=0.02, seconds=seconds, **options)
        task = asyncio.create_task(work.run())
        try:
            yield work
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await sender.close()
            await postgres.close()


@pytest.fixture
async def rig(database: Database, owner: Any) -> Rig:
    return Rig(database, owner)


async def moves(owner: Any, code: str, number: int) -> list[tuple[str, int]]:
    """A dossier that goes to and fro so often; its events as receivers are told."""
    versions = [1]
    await receive(owner, code)
    for n in range(number):
        versions.append(await append(owner, code, status=Status.PROCESSING if n % 2 else Status.RECEIVED))
    return [(code, version) for version in versions]


# -- what is delivered -----------------------------------------------------------------------------------


async def test_a_page_is_signed_in_both_schemes_and_holds_the_feeds_events(rig: Rig) -> None:
    async with receiving() as receiver, rig.delivering():
        partner = await rig.partner(receiver.url)
        await receive(rig.owner, A, origin="G99.01.01")
        (delivery,) = await receiver.until(1)
        row = await partner.reached(attempt=0, page_end=None)
    content = Webhook(partner.keys.whsec).verify(delivery.body, delivery.headers)
    assert verified_by_public_key(partner.keys.whpk, delivery.headers, delivery.body)
    assert delivery.id == f"wh_{partner.webhook}_{content['next']}"
    assert delivery.headers["content-type"] == "application/json"
    (event,) = content["events"]
    assert (event["specversion"], event["type"], event["subject"]) == ("1.0", "vn.hoso24.dossier.received", A)
    assert "Nguyễn Văn Mẫu" not in delivery.body.decode()
    assert row["succeeded_at"] is not None


async def test_pages_come_in_order_one_at_a_time_and_hold_a_hundred_events(rig: Rig) -> None:
    under_way = most = 0

    async def slow(_: Delivery, writer: asyncio.StreamWriter) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        writer.write(OK)
        await writer.drain()
        under_way -= 1

    async with receiving(slow) as receiver:
        partner = await rig.partner(receiver.url)
        expected = await moves(rig.owner, A, 249)
        async with rig.delivering(), rig.delivering():
            await receiver.until(3)
            await partner.reached(page_end=None, attempt=0)
    assert receiver.events == expected
    assert [len(each.content["events"]) for each in receiver.got] == [100, 100, 50]
    assert most == 1


async def test_only_what_the_client_may_see_is_delivered(rig: Rig) -> None:
    async with receiving() as mine, receiving() as all_of_it, receiving() as narrow, rig.delivering():
        await rig.partner(mine.url, client="mine", mine=True)
        await rig.partner(all_of_it.url, client="all")
        await rig.partner(narrow.url, client="narrow", agency="G99.02")
        await receive(rig.owner, A)
        await receive(rig.owner, B, submitted_by="mine")
        await receive(rig.owner, ELSEWHERE, agency="G99.02.01", origin="G99.02.01")
        await until(lambda: _enough(all_of_it, 3))
        await until(lambda: _enough(mine, 1))
        await until(lambda: _enough(narrow, 1))
    assert all_of_it.events == [(A, 1), (B, 1), (ELSEWHERE, 1)]
    assert mine.events == [(B, 1)]
    assert narrow.events == [(ELSEWHERE, 1)]


async def test_the_first_event_of_a_new_agency_is_delivered(rig: Rig) -> None:
    async with receiving() as receiver, rig.delivering():
        partner = await rig.partner(receiver.url, agency="G99.02")
        await receive(rig.owner, ELSEWHERE, agency="G99.02.01", origin="G99.02.01")
        await receiver.until(1)
        await partner.reached(page_end=None)
        async with rig.owner.transaction():
            await rig.owner.execute(NEW_AGENCY)
            await receive(rig.owner, NEW, agency="G99.02.77", origin="G99.02.77")
        await receiver.until(2)
    assert receiver.events == [(ELSEWHERE, 1), (NEW, 1)]


async def _enough(receiver: Receiver, number: int) -> bool:
    return len(receiver.events) >= number


async def test_nothing_goes_to_a_disabled_client_nor_to_one_that_may_no_longer_follow(rig: Rig) -> None:
    async with receiving() as receiver, receiving() as other:
        await rig.partner(receiver.url, client="disabled")
        await rig.partner(receiver.url, client="demoted")
        await rig.partner(other.url, client="other")
        await rig.owner.execute("UPDATE client SET disabled_at = now() WHERE id = 'disabled'")
        await rig.owner.execute("UPDATE client SET actions = '{read}' WHERE id = 'demoted'")
        await receive(rig.owner, A)
        async with rig.delivering():
            await other.until(1)
            await receive(rig.owner, B)
            await other.until(2)
    assert receiver.got == []


# -- the ping --------------------------------------------------------------------------------------------


async def test_a_receiver_that_answers_the_ping_becomes_active_and_is_told_of_what_came_since(rig: Rig) -> None:
    async with receiving() as receiver:
        partner = await rig.partner(receiver.url, state="unproven")
        await receive(rig.owner, A)
        async with rig.delivering():
            ping, page = (await receiver.until(2))[:2]
            await partner.reached(state="active", page_end=None)
    assert (ping.types, page.types) == (["ping"], ["dossier.received"])
    content = Webhook(partner.keys.whsec).verify(ping.body, ping.headers)
    assert content["events"][0]["subject"] == partner.webhook


@pytest.mark.parametrize(
    ("said", "state", "reason"),
    [
        (answer(500), "unreachable", "Answered 500."),
        (answer(404), "unreachable", "Answered 404."),
        (answer(410), "gone", "Answered 410: the receiver wants no more deliveries."),
        (answer(302, "Location: http://169.254.169.254/"), "unreachable", "Answered 302: redirects are not followed."),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "unreachable", "The answer is not HTTP that can be understood."),
        (b"", "unreachable", "The connection was closed before the answer."),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000, "unreachable", "The answer is not HTTP that can be understood."),
    ],
)
async def test_a_receiver_that_does_not_answer_the_ping_is_told_why(
    rig: Rig, said: bytes, state: str, reason: str
) -> None:
    async with receiving(said) as receiver, rig.delivering():
        partner = await rig.partner(receiver.url, state="unproven")
        row = await partner.reached(state=state)
    assert row["last_error"] == reason
    assert len(receiver.got) == 1


async def test_an_address_inside_is_refused_at_the_ping_whatever_the_row_says(rig: Rig) -> None:
    async with rig.delivering():
        inside = await rig.partner("https://169.254.169.254/latest", client="a", state="unproven")
        named = await rig.partner("https://localhost:1025/", client="b", state="unproven")
        plain = await rig.partner("http://partner.example:8000/", client="c", state="unproven")
        assert (await inside.reached(state="unreachable"))["last_error"] == "169.254.169.254 is not a public address."
        assert (await named.reached(state="unreachable"))["last_error"].startswith("Cannot connect: ")
        assert (await plain.reached(state="unreachable"))["last_error"] == "The URL begins with https://."


# -- failures --------------------------------------------------------------------------------------------


async def test_a_failed_page_is_sent_again_with_the_same_bytes_and_the_same_id(rig: Rig) -> None:
    async with receiving(answer(503), OK) as receiver, rig.delivering():
        partner = await rig.partner(receiver.url)
        await receive(rig.owner, A)
        row = await partner.reached(attempt=1)
        assert (row["state"], row["last_error"]) == ("active", "Answered 503.")
        assert timedelta(seconds=3) < row["wait"] <= timedelta(seconds=6)
        assert row["page_end"] == receiver.got[0].content["next"]
        await receive(rig.owner, B)  # is not in the page under way
        await partner.due()
        first, again, then = (await receiver.until(3))[:3]
    assert (first.id, first.body) == (again.id, again.body)
    assert then.told == [(B, 1)]
    for each in (first, again):
        Webhook(partner.keys.whsec).verify(each.body, each.headers)


async def test_after_the_tenth_failure_it_is_paused_and_stays_so(rig: Rig) -> None:
    async with receiving(answer(500)) as receiver, rig.delivering():
        partner = await rig.partner(receiver.url)
        await receive(rig.owner, A)
        for attempt in range(1, 10):
            await partner.reached(attempt=attempt, state="active")
            await partner.due()
        row = await partner.reached(attempt=10)
        assert row["state"] == "paused"
        await partner.due()
        other = await rig.partner(receiver.url)  # is taken later than the paused one would be
        await receive(rig.owner, B)
        await other.reached(attempt=1)
        assert len(receiver.got) == 11
        assert {each.id for each in receiver.got[:10]} == {receiver.got[0].id}


async def test_a_receiver_that_is_gone_is_left_alone(rig: Rig) -> None:
    async with receiving(answer(410)) as receiver, rig.delivering():
        partner = await rig.partner(receiver.url)
        await receive(rig.owner, A)
        row = await partner.reached(state="gone")
    assert row["last_error"] == "Answered 410: the receiver wants no more deliveries."


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("as_date", [False, True])
async def test_the_wait_that_a_receiver_asks_for_is_kept(rig: Rig, status: int, as_date: bool) -> None:
    asked = format_datetime(datetime.now(UTC) + timedelta(seconds=600), usegmt=True) if as_date else "600"
    async with receiving(answer(status, f"Retry-After: {asked}")) as receiver, rig.delivering():
        partner = await rig.partner(receiver.url)
        await receive(rig.owner, A)
        row = await partner.reached(attempt=1)
    assert timedelta(seconds=560) < row["wait"] <= timedelta(seconds=600)


async def test_a_redirect_inside_is_not_followed(rig: Rig) -> None:
    async def there(_: Delivery, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(307, f"Location: {inside.url}"))
        await writer.drain()

    async with receiving() as inside, receiving(there) as receiver, rig.delivering():
        partner = await rig.partner(receiver.url)
        await receive(rig.owner, A)
        row = await partner.reached(attempt=1)
    assert row["last_error"] == "Answered 307: redirects are not followed."
    assert inside.connections == 0


async def _endless_body(_: Delivery, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


async def _slow_head(_: Delivery, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X: y\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)


async def _never(_: Delivery, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def _endless_pause(_: Delivery, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
    await writer.drain()
    await asyncio.Event().wait()


async def test_a_receiver_that_took_a_page_holds_nothing_up_by_what_it_does_then(rig: Rig) -> None:
    async with receiving(_endless_pause) as receiver, rig.delivering(lots={"prompt": 1, "usual": 1, "slow": 0}):
        partner = await rig.partner(receiver.url)
        for n in range(3):
            await receive(rig.owner, f"G99.01.01-261130-020{n}")
            await receiver.until(n + 1, within=5.0)
            await partner.reached(page_end=None)


async def test_an_endless_body_is_not_read_to_its_end(rig: Rig) -> None:
    async with receiving(_endless_body) as receiver, rig.delivering():
        partner = await rig.partner(receiver.url)
        await receive(rig.owner, A)
        await receiver.until(1)
        row = await partner.reached(page_end=None)
    assert (row["attempt"], row["last_error"]) == (0, None)


@pytest.mark.parametrize("never", [_slow_head, _never])
async def test_an_answer_without_end_times_out_and_the_next_attempt_goes_with_the_slow(rig: Rig, never: Any) -> None:
    async with receiving(never, OK) as receiver, receiving() as good:
        partner = await rig.partner(receiver.url)
        await receive(rig.owner, A)
        async with rig.delivering(seconds=0.3, lots={"prompt": 1, "usual": 1, "slow": 0}):
            row = await partner.reached(attempt=1)
            assert row["last_error"] == "Timed out: no answer within 0.3 s."
            await partner.due()
            await rig.partner(good.url)
            await receive(rig.owner, B)
            await good.until(1)
            assert len(receiver.got) == 1
        async with rig.delivering(lots={"prompt": 0, "usual": 0, "slow": 1}):
            await partner.reached(attempt=0)
    assert receiver.got[0].body == receiver.got[1].body


async def test_receivers_that_hang_hold_no_connection_of_those_that_answer(rig: Rig) -> None:
    async with receiving(_never) as hanging, receiving() as good:
        partner = await rig.partner(good.url, state="unproven")
        for n in range(4):
            await rig.partner(hanging.url, client=f"hanging{n}")
        async with rig.delivering(lots={"prompt": 1, "usual": 2, "slow": 1}):
            await partner.reached(state="active")
            await receive(rig.owner, A)
            await hanging.until(2)
            for n in range(2, 5):
                await good.until(n)
                await append(rig.owner, A, status=Status.PROCESSING)
    assert good.events[:3] == [(A, 1), (A, 2), (A, 3)]


# -- what happens meanwhile ------------------------------------------------------------------------------


async def test_a_rotation_in_the_middle_of_a_page_is_signed_with_both_keys_for_a_day(rig: Rig) -> None:
    async with receiving(answer(500), OK) as receiver, rig.delivering():
        partner = await rig.partner(receiver.url)
        await receive(rig.owner, A)
        await partner.reached(attempt=1)
        await partner.set(generation=2, rotated_at=datetime.now(UTC))
        await partner.due()
        first, again = (await receiver.until(2))[:2]
        await partner.reached(attempt=0)
        await partner.set(rotated_at=datetime.now(UTC) - timedelta(hours=24))
        await receive(rig.owner, B)
        (_, _, late) = await receiver.until(3)
    old, new = partner.keys, Keys.of(SECRET, partner.webhook, 2)
    assert first.body == again.body
    for keys in (old, new):
        Webhook(keys.whsec).verify(again.body, again.headers)
        assert verified_by_public_key(keys.whpk, again.headers, again.body)
    Webhook(new.whsec).verify(late.body, late.headers)
    assert not verified_by_public_key(old.whpk, late.headers, late.body)


async def test_what_the_client_may_no_longer_see_is_left_out_of_a_page_under_way(rig: Rig) -> None:
    async with receiving(answer(500), OK) as receiver:
        async with rig.delivering():
            partner = await rig.partner(receiver.url)
            async with rig.owner.transaction():
                await receive(rig.owner, A)
                await receive(rig.owner, ELSEWHERE, agency="G99.02.01", origin="G99.02.01")
            await partner.reached(attempt=1)
        await rig.owner.execute("UPDATE client SET agency = 'G99.02' WHERE id = 'partner'")
        await partner.due()
        async with rig.delivering():
            first, again = (await receiver.until(2))[:2]
            await partner.reached(attempt=0)
    assert (first.told, again.told) == ([(A, 1), (ELSEWHERE, 1)], [(ELSEWHERE, 1)])
    assert (first.id, first.content["next"]) == (again.id, again.content["next"])


async def test_a_page_under_way_does_not_grow_with_what_its_client_may_see(rig: Rig) -> None:
    async with receiving(answer(500), OK) as receiver:
        async with rig.delivering():
            partner = await rig.partner(receiver.url, scope="G99.02")
            async with rig.owner.transaction():
                expected = await moves(rig.owner, A, 149)
                await receive(rig.owner, ELSEWHERE, agency="G99.02.01", origin="G99.02.01")
            await partner.reached(attempt=1)
        await rig.owner.execute("UPDATE client SET agency = 'G99' WHERE id = 'partner'")
        await partner.due()
        async with rig.delivering():
            await receiver.until(3)
            await partner.reached(attempt=0, page_end=None)
    assert [len(each.told) for each in receiver.got] == [1, 100, 51]
    assert receiver.got[1].told + receiver.got[2].told == [*expected, (ELSEWHERE, 1)]


async def test_a_page_of_which_nothing_is_left_is_not_sent(rig: Rig) -> None:
    async with receiving(answer(500), OK) as receiver:
        async with rig.delivering():
            partner = await rig.partner(receiver.url)
            await receive(rig.owner, A)
            await partner.reached(attempt=1)
        await rig.owner.execute("UPDATE client SET agency = 'G99.02' WHERE id = 'partner'")
        await partner.due()
        async with rig.delivering():
            await partner.reached(page_end=None)
    assert len(receiver.got) == 1


async def test_what_its_client_changes_while_a_page_is_under_way_stands(rig: Rig) -> None:
    """A new address has to be proven, and the page goes there again; a cursor that was set to now stays there."""
    let_go = asyncio.Event()

    async def waits(_: Delivery, writer: asyncio.StreamWriter) -> None:
        await let_go.wait()
        writer.write(OK)
        await writer.drain()

    async with receiving(waits) as old, receiving() as new, rig.delivering():
        partner = await rig.partner(old.url)
        await receive(rig.owner, A)
        await old.until(1)
        await partner.set(url=new.url, state="unproven")
        let_go.set()
        ping, page = (await new.until(2))[:2]
        assert (ping.types, page.body) == (["ping"], old.got[0].body)


async def test_a_webhook_that_was_deleted_under_way_does_no_harm(rig: Rig) -> None:
    let_go = asyncio.Event()

    async def waits(_: Delivery, writer: asyncio.StreamWriter) -> None:
        await let_go.wait()
        writer.write(OK)
        await writer.drain()

    async with receiving(waits) as receiver, receiving() as other, rig.delivering() as work:
        await rig.partner(receiver.url)
        partner = await rig.partner(other.url)
        await receive(rig.owner, A)
        await receiver.until(1)
        await rig.owner.execute("DELETE FROM webhook WHERE id = 'wh000000'")
        let_go.set()
        await partner.reached(page_end=None, attempt=0)
        assert await work.check() >= 0


async def test_a_deliverer_that_stops_gives_its_rows_back(rig: Rig) -> None:
    async with receiving(_never, OK) as receiver:
        partner = await rig.partner(receiver.url)
        async with rig.delivering():
            await receive(rig.owner, A)
            await receiver.until(1)
        assert (await partner.row())["lease_until"] is None
        async with rig.delivering():
            await receiver.until(2)
    assert receiver.got[0].body == receiver.got[1].body


# -- how long webhooks wait for us ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("succeeded", "attempt", "behind"),
    [
        (None, 0, 3600),
        (timedelta(hours=2), 0, 3600),
        (timedelta(seconds=14), 0, 14),  # catches up, as fast as its receiver answers
        (timedelta(hours=2), 1, 0),
    ],
)
async def test_what_waits_for_a_slow_receiver_does_not_wait_for_us(
    rig: Rig, succeeded: timedelta | None, attempt: int, behind: float
) -> None:
    await receive(rig.owner, A)
    partner = await rig.partner("https://partner.example/")
    now = datetime.now(UTC)
    await partner.set(created_at=now - timedelta(days=1), succeeded_at=succeeded and now - succeeded, attempt=attempt)
    (standing,) = await rig.owner.fetch(subscriptions.STANDING)
    assert standing["behind"] == 0  # nothing happened
    await append(rig.owner, A, recorded_at=now - timedelta(hours=1))
    (standing,) = await rig.owner.fetch(subscriptions.STANDING)
    assert behind <= standing["behind"] < behind + 10


# -- a cursor that is not in the log ----------------------------------------------------------------------


async def test_a_webhook_whose_place_is_not_in_the_log_waits_and_is_led_past_nothing(rig: Rig) -> None:
    async with receiving() as receiver:
        partner = await rig.partner(receiver.url)
        await receive(rig.owner, A)
        place = await newest(rig.owner.fetch)
        await rig.owner.execute("UPDATE webhook SET epoch = $1, xid = $2::xid8, seq = $3", place[0], place[1] - 1, 5)
        async with rig.delivering():

            async def put_off() -> bool:
                row = await partner.row()
                return bool(row["lease_token"] >= 1 and row["wait"] > timedelta(seconds=20))

            await until(put_off)
    assert receiver.got == []


async def test_imported_events_do_not_keep_a_webhook_busy_that_leaves_them_out(rig: Rig) -> None:
    async with receiving() as receiver, receiving() as other:
        without = await rig.partner(receiver.url, client="without", bulk=False)
        whole = await rig.partner(other.url, client="whole")
        async with rig.delivering():
            await receive(rig.owner, A)
            await receiver.until(1)
            await without.reached(page_end=None)
            await receive(rig.owner, B, bulk=True)
            for n in range(2, 5):
                await until(functools.partial(_enough, other, n))
                await whole.reached(page_end=None)
                await receive(rig.owner, f"G99.01.01-261130-010{n}", bulk=True)
            leases = (await without.row())["lease_token"]
    assert leases <= 2
    assert receiver.events == [(A, 1)]


# -- certificates ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory, reaper: Reaper) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "partners")


def shown(certificate: Certificate) -> ssl.SSLContext:
    """What a receiver with this certificate shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.path, certificate.key)
    return context


async def test_a_receiver_is_believed_if_an_authority_vouches_for_it(rig: Rig, authority: Authority) -> None:
    good = shown(authority.issue("good"))
    trusted = ssl.create_default_context(cafile=str(authority.path))
    async with receiving(tls=good) as receiver, rig.delivering(authorities=trusted):
        partner = await rig.partner(receiver.url)
        await receive(rig.owner, A)
        await partner.reached(page_end=None)
        await receiver.until(1)


@pytest.mark.parametrize(
    ("issued", "believed", "reason"),
    [
        ({"expired": True}, True, "The certificate is not accepted: certificate has expired."),
        (
            {"names": "DNS:other.example"},
            True,
            "The certificate is not accepted: IP address mismatch, certificate is not valid for '127.0.0.1'.",
        ),
        ({}, False, "The certificate is not accepted: "),
    ],
    ids=["expired", "of another name", "of nobody we know"],
)
async def test_nothing_is_sent_to_a_receiver_whose_certificate_is_wrong(
    rig: Rig, authority: Authority, issued: dict[str, Any], believed: bool, reason: str
) -> None:
    wrong = shown(authority.issue(f"wrong-{len(reason)}", **issued))
    trusted = ssl.create_default_context(cafile=str(authority.path) if believed else None)
    async with receiving(tls=wrong) as receiver, rig.delivering(authorities=trusted):
        partner = await rig.partner(receiver.url)
        await receive(rig.owner, A)
        row = await partner.reached(attempt=1)
    assert row["last_error"].startswith(reason)
    assert not row["last_error"].endswith("..")
    assert receiver.got == []


# -- two deliverers, one of which is stopped ----------------------------------------------------------------


async def test_only_who_leased_last_saves(rig: Rig, database: Database) -> None:
    postgres = Postgres("postgres", lambda: database.webhooks_url, size=2, deadline=10)
    partner = await rig.partner("https://partner.example/")
    await receive(rig.owner, A)
    end = await newest(rig.owner.fetch)
    (old,) = await subscriptions.take(postgres.fetch, "usual", 5, 0.0)
    assert await subscriptions.freeze(postgres.fetch, old, end, 0.0)
    (new,) = await subscriptions.take(postgres.fetch, "usual", 5, 60.0)
    assert (new.token, new.page_end) == (old.token + 1, end)
    assert await subscriptions.take(postgres.fetch, "usual", 5, 60.0) == []
    stale = dataclasses.replace(old, page_end=end)
    before = await partner.row()
    assert not await subscriptions.delivered(postgres.fetch, stale, end, 0.0)
    assert not await subscriptions.passed_over(postgres.fetch, stale, end, 0.0)
    assert not await subscriptions.failed(postgres.fetch, stale, "paused", 10, "late", 0.0)
    assert not await subscriptions.proven(postgres.fetch, stale)
    await subscriptions.leave(postgres.fetch, stale)
    assert await partner.row() | {"wait": None} == before | {"wait": None}
    assert await subscriptions.delivered(postgres.fetch, new, end, 0.0)
    await postgres.close()


@contextlib.asynccontextmanager
async def process(database: Database, lease: float, seconds: float) -> AsyncIterator[asyncio.subprocess.Process]:
    """A deliverer that can be stopped."""
    words = (database.webhooks_url, str(lease), str(seconds))
    child = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.intake.webhooks_process", *words)
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


@pytest.mark.servers
async def test_a_deliverer_stopped_beyond_its_lease_sends_twice_at_most_and_never_out_of_order(rig: Rig) -> None:
    """It is stopped while a page is under way, another one goes on, and it wakes with an answer that counts no more."""
    stopped, let_go = asyncio.Event(), asyncio.Event()

    async def hold_the_third(delivery: Delivery, writer: asyncio.StreamWriter) -> None:
        if (A, 201) in delivery.told and not stopped.is_set():
            stopped.set()
            await let_go.wait()
        writer.write(OK)
        await writer.drain()

    async with receiving(hold_the_third) as receiver:
        partner = await rig.partner(receiver.url)
        expected = await moves(rig.owner, A, 399)
        async with process(rig.database, 3.0, 2.0) as first:
            async with asyncio.timeout(30):
                await stopped.wait()
            first.send_signal(signal.SIGSTOP)
            async with process(rig.database, 3.0, 2.0):
                await partner.reached(page_end=None, seq=await rig.owner.fetchval("SELECT max(seq) FROM event"))
                took = await partner.row()
                let_go.set()
                first.send_signal(signal.SIGCONT)
                await append(rig.owner, A, status=Status.PROCESSING)
                expected.append((A, 401))
                await receiver.until(6)
                await partner.reached(page_end=None, seq=await rig.owner.fetchval("SELECT max(seq) FROM event"))
    pages = [each.told for each in receiver.got]
    assert [page[0][1] for page in pages] == [1, 101, 201, 201, 301, 401]
    assert receiver.got[2].body == receiver.got[3].body
    assert took["lease_token"] >= 2
    in_order = [event for n, page in enumerate(pages) if n != 3 for event in page]
    assert in_order == expected
