"""The key slip at the desk: a lookup key for who has none, logged, and none for who may not correct."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from intake.desk.words import WORDS
from intake.papers.rendering import attached
from lookup import code as codes
from lookup.lookup_key import KeyRing
from tests.conftest import KEY_SECRETS, Database
from tests.desk import NAME, Browser, act, add_officer, desk_running, desk_settings, received, signed_in
from tests.house import paper_files

KEYS = KeyRing.from_text(KEY_SECRETS)


@pytest.fixture
async def url(database: Database) -> AsyncIterator[str]:
    await add_officer(database)
    await add_officer(database, "lan", name="Phạm Thị Lan (hư cấu)", roles=["specialist"])
    await add_officer(database, "auditor", name="Đỗ Hạnh (hư cấu)", roles=["auditor"])
    await add_officer(database, "next", name="Võ Minh (hư cấu)", agency="G99.01.02", roles=["head"])
    async with desk_running(desk_settings(database, **paper_files())) as desk:
        yield f"http://127.0.0.1:{desk.port}"


@pytest.fixture
async def browser(url: str, database: Database) -> AsyncIterator[Browser]:
    async with signed_in(url, database) as browser:
        yield browser


async def slip(browser: Browser, at: str, **fields: str) -> tuple[int, str]:
    """The status of sending the form of a key slip, and the key that its PDF carries."""
    sent = {"version": "1", "once": str(uuid.uuid4())} | fields
    headers = {"Sec-Fetch-Site": "same-origin"}
    async with browser.http.post(f"{browser.url}{at}/ma-tra-cuu", data=sent, headers=headers) as response:
        if response.status != 200:
            return response.status, await response.text()
        assert response.content_type == "application/pdf"
        content, printing = attached(await response.read())
    assert at.rpartition("/")[2] in content
    assert NAME not in content
    return 200, printing.key or ""


async def test_slip_has_the_key_of_the_dossier_and_the_read_is_logged(browser: Browser, owner: Any) -> None:
    at = await received(browser)
    code = codes.parse(at.rpartition("/")[2])
    await act(browser, at, "process")  # the version that the form saw is an older one, which does not matter here
    assert await slip(browser, at) == (200, KEYS.key(code, 0))
    reads = await owner.fetch("SELECT reader, client, code FROM personal_read WHERE screen = 'key'")
    assert [tuple(each) for each in reads] == [("local|binh", "desk", code.text)]
    assert await owner.fetchval("SELECT count(*) FROM event WHERE kind = 'key_reissued'") == 0


async def test_a_new_key_is_made_once_for_each_form(browser: Browser, owner: Any) -> None:
    at = await received(browser)
    code = codes.parse(at.rpartition("/")[2])
    form = {"once": str(uuid.uuid4()), "reissue": "1", "reason": "Mất giấy (ví dụ)."}
    assert [await slip(browser, at, **form) for _ in range(2)] == [(200, KEYS.key(code, 1))] * 2
    assert await owner.fetchval("SELECT key_serial FROM dossier") == 1
    status, said = await slip(browser, at, reissue="1", reason="Mất lần nữa (ví dụ).")
    assert (status, WORDS["stale.title"] in said) == (412, True)


async def test_the_page_s_other_forms_can_be_sent_afterwards(browser: Browser, owner: Any) -> None:
    at = await received(browser)
    form = (await browser.get(at)).fields(f"{at}/lam/process")
    code = codes.parse(at.rpartition("/")[2])
    assert await slip(browser, at, **form) == (200, KEYS.key(code, 0))
    for reissue in ({"reissue": "1"}, {}):
        assert await slip(browser, at, **form, **reissue) == (200, KEYS.key(code, 1))
    form |= {"version": "2"}
    assert (await browser.post(f"{at}/lam/process", form)).status == 200
    assert await owner.fetchval("SELECT status FROM dossier") == 4


async def test_others_get_no_key(url: str, database: Database, browser: Browser, owner: Any) -> None:
    at = await received(browser)
    for subject in ("lan", "auditor", "next"):
        async with signed_in(url, database, subject) as other:
            assert (await slip(other, at))[0] == 404
    assert await owner.fetchval("SELECT count(*) FROM personal_read WHERE screen = 'key'") == 0


async def test_without_the_log_of_reads_there_is_no_key(browser: Browser, owner: Any) -> None:
    at = await received(browser)
    await owner.execute("REVOKE INSERT ON personal_read FROM hoso24_writer")
    status, said = await slip(browser, at)
    assert (status, KEYS.key(codes.parse(at.rpartition("/")[2]), 0) in said) == (503, False)


@pytest.mark.parametrize(
    "fields", [{"once": "1"}, {"reissue": "1", "reason": "x" * 10_000}, {"version": "x", "reissue": "1"}]
)
async def test_a_form_that_is_wrong_makes_none(browser: Browser, owner: Any, fields: dict[str, str]) -> None:
    at = await received(browser)
    assert (await slip(browser, at, **fields))[0] in (400, 422)
    assert await owner.fetchval("SELECT key_serial FROM dossier") == 0
