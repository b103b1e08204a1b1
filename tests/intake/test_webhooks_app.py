"""The process that delivers webhooks as it is built from its settings, beside a running intake."""

import dataclasses
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from standardwebhooks import Webhook

from intake.partners import webhooks_app
from intake.settings import WebhooksSettings
from ops.http import server
from ops.settings import Secret, SettingsError
from tests.conftest import WEBHOOK_SECRET, Database
from tests.house import House, intake_at, intake_settings, new_token, until
from tests.receivers import answer, receiving

LOOPBACK = ("127.0.0.0/8",)


def settings(database: Database, **changes: Any) -> WebhooksSettings:
    """Of a process that may deliver to this machine."""
    return dataclasses.replace(
        WebhooksSettings(
            pg_url=Secret(database.webhooks_url),
            webhook_secret=Secret(WEBHOOK_SECRET),
            webhook_networks=LOOPBACK,
            public_url="https://hoso24.example",
            host="127.0.0.1",
        ),
        **changes,
    )


@pytest.fixture
async def house(database: Database) -> AsyncIterator[House]:
    """An intake and a process that delivers."""
    running = await webhooks_app.build(settings(database))
    started = await server.start(running, service="webhooks", port=None, admin_port=0)
    token = await new_token(database)
    try:
        at = intake_settings(database.writer_url, webhook_networks=LOOPBACK, public_url="https://hoso24.example")
        async with intake_at(at) as url, aiohttp.ClientSession() as http:
            yield House(f"http://127.0.0.1:{started.admin_port}", url, http, token)
    finally:
        await started.stop()


async def test_a_partner_is_told_within_seconds_from_its_first_request_to_its_first_page(house: House) -> None:
    async with receiving(answer(500), answer(204)) as receiver:
        status, made = await house.hand_in("POST", "/api/v1/webhooks", {"url": receiver.url})
        assert (status, made["state"]) == (201, "unproven")
        one = f"/api/v1/webhooks/{made['id']}"

        async def state() -> Any:
            async with house.http.get(
                house.intake_url + one, headers={"Authorization": f"Bearer {house.token}"}
            ) as response:
                return await response.json()

        async def unreachable() -> Any:
            view = await state()
            return view if view["state"] == "unreachable" else None

        assert (await until(unreachable))["last_error"] == "Answered 500."
        assert (await house.hand_in("POST", f"{one}/ping", None))[0] == 200
        dossier = await house.receive()
        moved = await house.move(dossier["code"], "processing")
        await receiver.until(3)

        async def taken() -> Any:
            view = await state()
            return view if view["state"] == "active" and view["lag"]["events"] == 0 else None

        await until(taken)
    told = [
        event
        for delivery in receiver.got[2:]
        for event in Webhook(made["secret"]).verify(delivery.body, delivery.headers)["events"]
    ]
    assert [(event["subject"], event["data"]["version"]) for event in told] == [
        (dossier["code"], 1),
        (dossier["code"], moved["version"]),
    ]
    assert {event["source"] for event in told} == {"urn:hoso24:hoso24.example"}
    assert receiver.got[0].headers["user-agent"] == "hoso24-webhooks (+https://hoso24.example/nha-phat-trien)"


async def test_health_and_metrics_tell_of_deliveries(house: House) -> None:
    _, health = await house.lookup("/health")
    assert {name: check["status"] for name, check in health["checks"].items()} == {"postgres": "ok", "deliveries": "ok"}
    async with house.http.get(house.lookup_url + "/metrics") as response:
        text = await response.text()
    assert 'webhooks_subscriptions{state="paused"} 0.0' in text
    assert "relay_" not in text


@pytest.mark.parametrize("text", [None, "url = 1"])
async def test_a_mapping_that_cannot_be_used_ends_the_start_with_a_sentence(
    database: Database, tmp_path: Path, text: str | None
) -> None:
    path = tmp_path / "national.toml"
    if text is not None:
        path.write_text(text, "utf-8")
    with pytest.raises(SettingsError, match=r"^HOSO24_WEBHOOK_NATIONAL: .*national\.toml"):
        await webhooks_app.build(settings(database, webhook_national=path))


@pytest.mark.servers
def test_the_process_loads_nothing_that_writes_dossiers_or_serves_partners() -> None:
    """It talks to strangers: neither the ledger nor the notary nor citizens' pages are in it."""
    code = "import intake.partners.webhooks_app, sys; print('\\n'.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    forbidden = ("intake.api", "intake.app", "intake.books.ledger", "intake.books.notary", "intake.books.relay")
    assert [
        name for name in loaded if name.startswith((*forbidden, "intake.bulk", "lookup.web", "lookup.reading"))
    ] == []
