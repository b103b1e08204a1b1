"""What applicants agree to: where they are told what becomes of their dossiers, at reception and later."""

from typing import Any

import pytest

from intake.rules.channels import NoAddress, checked
from tests.conftest import Database
from tests.house import AGENCY, House, new_client, submission

MAIL = "nguoi.nop@vi-du.example"
ROWS = "SELECT channel, address, given_by, withdrawn_at IS NULL AS stands FROM consent WHERE code = $1 ORDER BY channel"


async def rows(owner: Any, code: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await owner.fetch(ROWS, code)]


@pytest.mark.parametrize(
    ("channel", "written", "stored"),
    [
        ("mail", MAIL, MAIL),
        ("mail", "A+b=c@x-y.vi-du.example", "A+b=c@x-y.vi-du.example"),
        ("gateway", "0901 234 567", "0901234567"),
        ("gateway", "+84.901.234.567", "+84901234567"),
        ("gateway", "zalo:4242", "zalo:4242"),
    ],
)
def test_an_address_is_stored_as_it_is_sent_to(channel: str, written: str, stored: str) -> None:
    assert checked(channel, written) == stored


@pytest.mark.parametrize(
    ("channel", "text"),
    [
        *(("mail", text) for text in ("a@b", "@vi-du.example", "a@", "a b@vi-du.example", "a@vi-du.example.")),
        *(("mail", text) for text in ("a@vi-du.example\r\nBcc: b@c.example", "a@vi-du.example\n", "a\r@vi-du.example")),
        *(("mail", text) for text in ("a@vi-du.example,b@vi-du.example", "<a@vi-du.example>", '"a b"@vi-du.example')),
        *(("mail", text) for text in ("a@[127.0.0.1]", "ă@vi-du.example", "a@ví-dụ.example", "a..b@vi-du.example")),
        *(("mail", text) for text in ("a" * 65 + "@vi-du.example", "a@" + "b." * 125 + "example", "a@-b.example")),
        *(("gateway", text) for text in ("", "09", "0901\r\n", "0901 x", "0" * 101, "0901\x00234", "٠٩٠١٢٣٤")),
    ],
)
def test_what_is_no_address_is_refused_and_not_repeated(channel: str, text: str) -> None:
    with pytest.raises(NoAddress) as refused:
        checked(channel, text)
    assert len(text) < 3 or text not in str(refused.value)


async def test_what_was_agreed_at_reception_is_recorded_with_the_dossier(house: House, owner: Any) -> None:
    taken = await house.receive(notify={"mail": MAIL, "gateway": "0901 234 567"})
    client = house.token.split("_")[1]
    assert await rows(owner, taken["code"]) == [
        ("gateway", "0901234567", client, True),
        ("mail", MAIL, client, True),
    ]
    times, _ = await owner.fetch(
        "SELECT given_at, recorded_at FROM consent JOIN event USING (code) WHERE code = $1",
        taken["code"],
    )
    assert times["given_at"] == times["recorded_at"], "in one transaction"
    assert await rows(owner, (await house.receive())["code"]) == []


@pytest.mark.parametrize(
    "notify",
    [{"mail": "a@vi-du.example\r\nBcc: b@c.example"}, {"mail": ""}, {"sms": "0901"}, {"mail": 1}, "a@b.example"],
)
async def test_a_reception_with_a_bad_address_is_refused_and_records_nothing(
    house: House, owner: Any, notify: Any
) -> None:
    before = await owner.fetchval("SELECT count(*) FROM dossier")
    status, answer = await house.hand_in("POST", "/api/v1/dossiers", submission(notify=notify))
    assert (status, answer["code"]) == (422, "invalid_content")
    assert "notify" in answer["detail"]
    assert await owner.fetchval("SELECT count(*) FROM dossier") == before


async def test_an_office_writes_down_a_new_address_and_a_withdrawal(house: House, owner: Any) -> None:
    code = (await house.receive())["code"]
    path = f"/api/v1/dossiers/{code}/consents/mail"
    assert await house.hand_in("PUT", path, {"address": MAIL}) == (
        200,
        {"code": code, "channel": "mail", "told": True},
    )
    given = await owner.fetchval("SELECT given_at FROM consent WHERE code = $1", code)
    await house.hand_in("PUT", path, {"address": MAIL})
    assert await owner.fetchval("SELECT given_at FROM consent WHERE code = $1", code) == given
    assert (await house.hand_in("DELETE", path, None))[1] == {"code": code, "channel": "mail", "told": False}
    assert [row[3] for row in await rows(owner, code)] == [False]
    assert (await house.hand_in("DELETE", path, None))[0] == 200
    await house.hand_in("PUT", path, {"address": MAIL})
    assert await owner.fetchval("SELECT given_at FROM consent WHERE code = $1", code) > given
    assert (await house.hand_in("PUT", path, {"address": "a@b"}))[1]["code"] == "invalid_content"
    assert (await house.hand_in("PUT", path.replace("mail", "fax"), {"address": MAIL}))[0] == 404


async def test_an_office_that_has_nothing_to_do_with_it_changes_no_consent(
    house: House, owner: Any, database: Database
) -> None:
    code = (await house.receive(agency=AGENCY, notify={"mail": MAIL}))["code"]
    far = {"Authorization": f"Bearer {await new_client(database, 'far', 'G99.02')}"}
    path = f"/api/v1/dossiers/{code}/consents/mail"
    for method, content in (("PUT", {"address": "other@vi-du.example"}), ("DELETE", None)):
        status, answer = await house.hand_in(method, path, content, **far)
        assert (status, answer["code"]) == (404, "dossier_not_found")
    assert [row[1:] for row in await rows(owner, code)] == [(MAIL, house.token.split("_")[1], True)]
