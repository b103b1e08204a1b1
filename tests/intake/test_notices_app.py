"""The process that tells citizens as it is built from its settings, beside a running intake."""

import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from intake.notices import app
from intake.settings import NoticesSettings
from ops.http import server
from ops.settings import Secret, SettingsError, read
from tests.conftest import Database
from tests.house import House, intake_at, intake_settings, new_token, until
from tests.intake.test_notice_pages import settings
from tests.intake.told import SECRET, SENDER
from tests.mailbox import Mailbox, mailbox

MAIL = "nguoi.nop@vi-du.example"


@pytest.fixture
async def box() -> AsyncIterator[Mailbox]:
    async with mailbox() as box:
        yield box


@pytest.fixture
async def house(database: Database, box: Mailbox) -> AsyncIterator[House]:
    """An intake, and a process that tells by mail."""
    running = await app.build(settings(database, smtp_url=Secret(box.url)))
    started = await server.start(running, service="notices", port=0, admin_port=0)
    token = await new_token(database)
    try:
        async with intake_at(intake_settings(database.writer_url)) as url, aiohttp.ClientSession() as http:
            yield House(f"http://127.0.0.1:{started.admin_port}", url, http, token)
    finally:
        await started.stop()


async def test_an_applicant_is_told_from_reception_to_the_result(house: House, box: Mailbox, owner: Any) -> None:
    code = (await house.receive(notify={"mail": MAIL}))["code"]
    await box.until(1)
    await house.move(code, "processing")
    await house.move(code, "supplement_required")
    await box.until(2)
    await house.move(code, "processing")
    status, answer = await house.hand_in(
        "POST",
        f"/api/v1/dossiers/{code}/re-appointments",
        {"due_at": "2027-03-31T16:00:00+07:00", "reason": "Chờ xác minh (ví dụ)."},
    )
    assert status == 200, answer
    await box.until(3)
    await house.move(code, "completed")
    await box.until(4)
    await house.hand_in("DELETE", f"/api/v1/dossiers/{code}/consents/mail", None)
    await house.move(code, "returned")
    other = (await house.receive(notify={"mail": "nguoi.khac@vi-du.example"}))["code"]
    await box.until(5)
    assert [(to, str(message["Subject"])) for to, message in box.got] == [
        (MAIL, f"Hồ sơ {code}: đã được tiếp nhận"),
        (MAIL, f"Hồ sơ {code}: cần bổ sung"),
        (MAIL, f"Hồ sơ {code}: hẹn lại ngày trả kết quả"),
        (MAIL, f"Hồ sơ {code}: đã có kết quả"),
        ("nguoi.khac@vi-du.example", f"Hồ sơ {other}: đã được tiếp nhận"),
    ]
    for _, message in box.got:
        assert "Nguyễn" not in message.as_string()
        assert "Hồ sơ còn thiếu" not in message.get_content(), "the reason is in the agency's paper"


async def test_health_and_metrics_tell_of_notices(house: House, box: Mailbox) -> None:
    await house.receive(notify={"mail": MAIL})
    await box.until(1)
    _, health = await house.lookup("/health")
    assert {name: check["status"] for name, check in health["checks"].items()} == {"postgres": "ok", "notices": "ok"}

    async def told() -> bool:
        async with house.http.get(house.lookup_url + "/metrics") as response:
            return 'notices_attempts_total{channel="mail",outcome="sent"}' in await response.text()

    await until(told)


def test_settings_that_do_not_fit_are_refused_with_a_sentence() -> None:
    usual = {"HOSO24_PG_NOTICES_URL": "postgresql://hoso24_notices:x@h/hoso24", "HOSO24_NOTICE_SECRET": SECRET.hex()}
    read(NoticesSettings, usual)
    key = "whsec_" + "QUJD" * 8
    for more, told in (
        ({"HOSO24_SMTP_URL": "smtp://h"}, "HOSO24_SMTP_URL: also needs HOSO24_NOTICE_SENDER"),
        ({"HOSO24_NOTICE_SENDER": "a@b"}, "no mail address"),
        ({"HOSO24_NOTICE_GATEWAY": "https://g.example/"}, "also needs HOSO24_NOTICE_GATEWAY_SECRET"),
        (
            {"HOSO24_NOTICE_GATEWAY": "https://127.0.0.1/", "HOSO24_NOTICE_GATEWAY_SECRET": key},
            "127.0.0.1 is not a public address",
        ),
        ({"HOSO24_NOTICE_GATEWAY": "ftp://g/", "HOSO24_NOTICE_GATEWAY_SECRET": key}, "begins with https"),
        ({"HOSO24_NOTICE_GATEWAY_SECRET": "geheim"}, "expected whsec_"),
    ):
        with pytest.raises(SettingsError) as refused:
            read(NoticesSettings, usual | more)
        assert told in str(refused.value)
        assert "geheim" not in str(refused.value)
    allowed = {"HOSO24_NOTICE_NETWORKS": "127.0.0.0/8", "HOSO24_NOTICE_GATEWAY": "http://127.0.0.1:9000/"}
    read(NoticesSettings, usual | allowed | {"HOSO24_NOTICE_GATEWAY_SECRET": key})


async def test_without_a_way_it_runs_and_says_so(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    running = await app.build(settings(database))
    await running.close()
    assert "neither HOSO24_SMTP_URL nor HOSO24_NOTICE_GATEWAY is set" in caplog.text
    assert SENDER


async def test_mails_of_a_trial_are_files(database: Database, owner: Any, tmp_path: Any) -> None:
    mails = tmp_path / "mails"
    running = await app.build(settings(database, smtp_url=Secret(mails.as_uri())))
    started = await server.start(running, service="notices", port=0, admin_port=0)
    token = await new_token(database)
    async with intake_at(intake_settings(database.writer_url)) as url, aiohttp.ClientSession() as http:
        house = House("", url, http, token)
        code = (await house.receive(notify={"mail": MAIL}))["code"]
        await until(lambda: owner.fetchval("SELECT state = 'sent' FROM notice WHERE code = $1", code))
    await started.stop()
    (path,) = mails.iterdir()
    assert path.suffix == ".eml"
    assert f"To: {MAIL}".encode() in path.read_bytes()


@pytest.mark.servers
def test_the_process_loads_nothing_that_writes_dossiers_or_shows_them() -> None:
    """It talks to strangers: neither the ledger nor the notary nor citizens' pages are in it."""
    code = "import intake.notices.app, sys; print('\\n'.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    forbidden = ("intake.api", "intake.app", "intake.books.ledger", "intake.books.notary", "intake.books.relay")
    assert [
        name for name in loaded if name.startswith((*forbidden, "intake.partners", "lookup.web", "lookup.reading"))
    ] == []
