"""The national form of deliveries, against a stand-in that answers as the national services do."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from intake.partners.national import National, PortalMapping, read_mapping
from lookup.status import Status
from tests.books import append, receive, utc
from tests.intake.test_webhook_delivery import A, B, Rig, rig
from tests.receivers import OK, answer, receiving

__all__ = ["rig"]

PAGE = (Path(__file__).resolve().parent.parent.parent / "docs" / "webhooks.md").read_text("utf-8")
TAKEN = answer(200, "Content-Type: application/json", body=b'{"error_code": "0", "message": ""}')


@pytest.fixture
def mapping(tmp_path: Path) -> PortalMapping:
    """The one of the page for integrators."""
    match = re.search(r"<!-- national -->\n```toml\n(.*?)```", PAGE, re.DOTALL)
    assert match is not None
    path = tmp_path / "national.toml"
    path.write_text(match[1], "utf-8")
    return read_mapping(path)


def at(mapping: PortalMapping, url: str) -> National:
    return National(msgspec.structs.replace(mapping, url=url))


async def test_progress_is_sent_in_batches_in_the_national_form(rig: Rig, mapping: PortalMapping) -> None:
    async with receiving(TAKEN) as portal, rig.delivering(formats={"national": at(mapping, portal.url)}):
        partner = await rig.partner(portal.url, state="unproven", format="national")
        await partner.reached(state="active")
        assert portal.got == []
        await receive(rig.owner, A, due_at=utc("2026-12-11 10:00"), submitted_at=utc("2026-12-01 01:30"))
        await receive(rig.owner, B, bulk=True)
        await append(rig.owner, A, "number_bound", official_number="1/X-2026")
        for n in range(11):
            await append(rig.owner, A, status=Status.PROCESSING if n % 2 else Status.RECEIVED)
        await until_all(partner, portal)
    calls = [each.content for each in portal.got]
    assert [{**each, "data": None} for each in calls] == [
        {"service": "CapNhatTienDoHoSoMC", "session": "s3ssion", "madonvi": "G99", "data": None}
    ] * len(calls)
    steps = [step for each in calls for step in each["data"]]
    assert len(steps) == 12
    assert all(len(each["data"]) <= 10 for each in calls)
    assert steps[0] == {
        "MaHoSo": A,
        "TrangThai": 2,
        "ThoiDiemXuLy": "20261201083000",
        "PhongBanXuLy": "G99.01.01",
        "NgayKetThucTheoQuyDinh": "20261211170000",
        "ChucDanh": "",
    }
    assert "Nguyễn" not in str(calls)


async def until_all(partner: Any, portal: Any) -> None:
    from tests.house import until

    async def looked() -> bool:
        return sum(len(each.content["data"]) for each in portal.got) >= 12

    await until(looked)
    await partner.reached(page_end=None)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error_code": "-1", "message": "<secret>"}', "The answer's error_code is none."),
        (b'{"error_code": "17", "message": "<secret>"}', "The answer's error_code is 17."),
        (b'{"error_code": 3}', "The answer's error_code is 3."),
        (b'{"message": "ok"}', "The answer's error_code is none."),
        (b"<html>", "The answer is no JSON object."),
        (b"[]", "The answer is no JSON object."),
    ],
)
async def test_an_answer_that_does_not_take_it_is_a_failure_and_the_call_is_repeated(
    rig: Rig, mapping: PortalMapping, body: bytes, said: str
) -> None:
    async with (
        receiving(answer(200, body=body), TAKEN) as portal,
        rig.delivering(formats={"national": at(mapping, portal.url)}),
    ):
        partner = await rig.partner(portal.url, format="national")
        await receive(rig.owner, A)
        assert (await partner.reached(attempt=1))["last_error"] == said
        await partner.due()
        first, again = (await portal.until(2))[:2]
        await partner.reached(attempt=0)
    assert first.body == again.body


async def test_it_goes_to_the_configured_address_only(rig: Rig, mapping: PortalMapping) -> None:
    async with receiving(OK) as other:
        async with rig.delivering(formats={"national": National(mapping)}):
            partner = await rig.partner(other.url, state="unproven", format="national")
            row = await partner.reached(state="unreachable")
            assert row["last_error"] == (
                "The national format is delivered to the address in the installation's mapping only."
            )
        async with rig.delivering():
            without = await rig.partner(other.url, state="unproven", format="national")
            row = await without.reached(state="unreachable")
            assert row["last_error"] == "This installation does not deliver in the format national."
            once = await rig.partner(other.url, state="active", format="national")
            await receive(rig.owner, A)
            await once.reached(state="unreachable")
        async with rig.delivering(formats={"national": National(mapping)}):
            before = await rig.partner(other.url, state="active", format="national")  # the mapping's once
            await receive(rig.owner, B)
            await before.reached(state="unreachable")
        assert other.got == []


async def test_a_long_answer_is_read_whole(rig: Rig, mapping: PortalMapping) -> None:
    long = answer(200, body=b'{"message": "%s", "error_code": "0"}' % (b"x" * 5000))
    async with receiving(long) as portal, rig.delivering(formats={"national": at(mapping, portal.url)}):
        partner = await rig.partner(portal.url, format="national")
        await receive(rig.owner, A)
        await portal.until(1)
        await partner.reached(attempt=0, page_end=None, last_error=None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("url = ", "is no mapping: "),
        ("url = 'https://x.example/'", "missing required field `fields`"),
        ("url = 'https://x.example/'\n[fields]\nA = 'applicant_name'", "Invalid enum value 'applicant_name'"),
        ("url = 'https://x.example/'\nbatch = 1000\n[fields]\nA = 'code'", "Expected `int` <= 100"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_a_mapping_that_cannot_be_used_is_refused_in_a_sentence(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "national.toml"
    if text is not None:
        path.write_text(text, "utf-8")
    with pytest.raises(ValueError, match=re.escape(said)) as refused:
        read_mapping(path)
    assert str(path) in str(refused.value)
