"""Notices through the gateway: one signed webhook each, by day, to no address inside."""

import asyncio
import base64
import socket
from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks import Webhook

from intake.notices.deliver import ByGateway
from intake.outgoing.addresses import Addresses
from intake.outgoing.sending import Sender
from intake.outgoing.signatures import shared_key_of
from tests.conftest import Database
from tests.house import until
from tests.intake.told import MESSAGES, notices, receive, telling
from tests.receivers import answer, receiving

KEY = "whsec_" + base64.b64encode(b"a key of thirty-two bytes, no less").decode()
DAY, NIGHT = datetime(2026, 12, 1, 3, 0, tzinfo=UTC), datetime(2026, 12, 1, 15, 0, tzinfo=UTC)
LAST = "SELECT state, tries, last FROM notice WHERE code = $1"


def gateway(url: str, *networks: str, seconds: float = 5.0) -> tuple[Sender, dict[str, Any]]:
    """A sender, and the way of its channel."""
    sender = Sender(Addresses(networks), user_agent="test", seconds=seconds)
    return sender, {"gateway": ByGateway(sender, url, lambda: shared_key_of(KEY), MESSAGES)}


async def tried(owner: Any, code: str) -> Any:
    await until(lambda: owner.fetchval("SELECT tries FROM notice WHERE code = $1", code))
    (row,) = await owner.fetch(LAST, code)
    return tuple(row)


async def test_it_gets_one_signed_webhook_a_notice(database: Database, owner: Any) -> None:
    code = await receive(owner, 1, channel="gateway", address="0901234567")
    async with receiving(answer(500), answer(204)) as receiver:
        sender, ways = gateway(receiver.url, "127.0.0.0/8")
        async with telling(database, ways=ways, now=lambda: DAY):
            await receiver.until(1)
            assert (await tried(owner, code))[0] == "due"
            await owner.execute("UPDATE notice SET next_at = now()")
            await receiver.until(2)
            await until(lambda: owner.fetchval("SELECT state = 'sent' FROM notice"))
        await sender.close()
    first, again = ((each.body, each.headers["webhook-id"]) for each in receiver.got)
    assert first == again
    told = Webhook(KEY).verify(receiver.got[1].body, receiver.got[1].headers)
    assert told == {
        "id": first[1],
        "kind": "accepted",
        "to": "0901234567",
        "text": f"Hồ sơ {code} đã được tiếp nhận. Xem tình trạng tại hoso24.example",
        "code": code,
    }
    assert first[1].startswith("nt_")


async def test_by_night_it_waits_and_is_not_tried(database: Database, owner: Any) -> None:
    code = await receive(owner, 1, channel="gateway", address="0901234567")
    now = NIGHT
    async with receiving(answer(204)) as receiver:
        sender, ways = gateway(receiver.url, "127.0.0.0/8")
        async with telling(database, ways=ways, now=lambda: now):
            await until(lambda: notices(owner, code))
            await asyncio.sleep(0.1)  # five looks
            (row,) = await owner.fetch(LAST, code)
            assert (tuple(row), receiver.got) == (("due", 0, None), [])
            now = DAY
            await receiver.until(1)
        await sender.close()


@pytest.mark.parametrize("url", ["https://127.0.0.1/", "https://10.0.0.1/", "https://[::1]/", "https://localhost/"])
async def test_an_address_inside_is_not_called(database: Database, owner: Any, url: str) -> None:
    code = await receive(owner, 1, channel="gateway", address="0901234567")
    sender, ways = gateway(url)
    async with telling(database, ways=ways, now=lambda: DAY):
        state, tries, last = await tried(owner, code)
    await sender.close()
    assert (state, tries) == ("due", 1)
    assert "not a public address" in last


async def test_a_gateway_that_takes_connections_and_says_nothing_is_left_alone(database: Database, owner: Any) -> None:
    for number in range(50):
        await receive(owner, number, channel="gateway", address="0901234567")
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        sender, ways = gateway(f"http://127.0.0.1:{silent.getsockname()[1]}/", "127.0.0.0/8", seconds=0.3)
        async with telling(database, ways=ways, now=lambda: DAY):
            await until(lambda: owner.fetchval("SELECT count(*) FILTER (WHERE tries > 0) > 0 FROM notice"))
        await sender.close()
    assert 1 <= await owner.fetchval("SELECT sum(tries) FROM notice") <= 20
    assert (await owner.fetchval("SELECT DISTINCT last FROM notice WHERE tries > 0")).startswith("Timed out")


@pytest.mark.parametrize("text", ["", "whsec_", "whsec_AAAA", "whsec_%%%", base64.b64encode(bytes(32)).decode()])
def test_a_key_is_written_as_standard_webhooks_has_it(text: str) -> None:
    with pytest.raises(ValueError, match="whsec_"):
        shared_key_of(text)
