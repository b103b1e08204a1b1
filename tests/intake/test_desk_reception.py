"""Reception at the desk: a form, a code and a paper in one transaction; done once however often it is sent."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from intake.desk.words import WORDS
from tests.conftest import Database
from tests.desk import Browser, Page, add_officer, desk_running, desk_settings, signed_in
from tests.house import AGENCY, paper_files

SERVICE = "S.004"
FORM = f"/quay/nhan/{SERVICE}"
NAME = "Nguyễn Thị Ánh Tuyết (hư cấu)"
FILLED = {
    "do": "receive",
    "case": "default",
    "name": NAME,
    "id": "079000000742",
    "phone": "0900000118",
    "result_by": "counter",
    "document": "0",
}


@pytest.fixture
async def url(database: Database) -> AsyncIterator[str]:
    await add_officer(database)
    async with desk_running(desk_settings(database, **paper_files())) as desk:
        yield f"http://127.0.0.1:{desk.port}"


@pytest.fixture
async def browser(url: str, database: Database) -> AsyncIterator[Browser]:
    async with signed_in(url, database) as browser:
        yield browser


async def filled(browser: Browser, **changes: Any) -> list[tuple[str, str]]:
    """The form's fields as a browser sends them."""
    return list(((await browser.get(FORM)).fields(FORM) | FILLED | changes).items())


async def received(browser: Browser, **changes: Any) -> Page:
    page = await browser.post(FORM, await filled(browser, **changes))
    assert page.status == 200, page.words
    return page


async def test_a_dossier_is_received_with_its_paper(browser: Browser, owner: Any) -> None:
    page = await received(browser)
    row = await owner.fetchrow("SELECT * FROM dossier")
    assert page.url.path == f"/quay/ho-so/{row['code']}"
    assert (row["status"], row["origin"], row["channel"], row["submitted_by"]) == (2, AGENCY, "direct", None)
    assert (row["applicant_name"], row["applicant_id"], row["applicant_phone"]) == (NAME, "079000000742", "0900000118")
    paper = await owner.fetchrow("SELECT * FROM paper")
    assert (paper["form"], paper["number"], paper["code"], paper["issued_by"]) == ("receipt", 1, row["code"], "desk")
    event = await owner.fetchrow("SELECT source, actor, paper FROM event")
    assert (event["source"], event["actor"], event["paper"]) == ("desk", "local|binh", paper["digest"])
    assert f"/giay/{paper['version']}.pdf" in page.text


async def test_the_same_form_sent_again_receives_nothing_more(browser: Browser, owner: Any) -> None:
    fields = await filled(browser)
    first, second = await browser.post(FORM, fields), await browser.post(FORM, fields)
    assert first.url == second.url
    assert await owner.fetchval("SELECT count(*) FROM dossier") == 1
    assert await owner.fetchval("SELECT count(*) FROM paper") == 1


@pytest.mark.parametrize(("do", "status", "form"), [("supplement", 5, "supplement"), ("reject", 3, "refusal")])
async def test_what_is_not_accepted_has_its_own_paper(
    browser: Browser, owner: Any, do: str, status: int, form: str
) -> None:
    page = await received(browser, do=do, note="Thiếu bản chính (ví dụ).", items="Sổ BHXH (ví dụ)\n\nĐơn (ví dụ)")
    row = await owner.fetchrow("SELECT status, received_at, version FROM dossier")
    assert (row["status"], row["received_at"], row["version"]) == (status, None, 2)
    assert [each["form"] for each in await owner.fetch("SELECT form FROM paper")] == [form]
    assert WORDS[f"paper.{form}"] in page.words


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": ""}, "Họ và tên"),
        ({"name": "\u202eA"}, "Họ và tên"),
        ({"name": "\u0301\u0302"}, "Họ và tên"),
        ({"name": "A" * 2_000}, "Họ và tên"),
        ({"do": "supplement", "note": "Thiếu."}, WORDS["reception.needs_items"]),
        ({"do": "reject"}, WORDS["reception.needs_reason"]),
        ({"agrees": "1", "phone": ""}, WORDS["reception.no_address"]),
        ({"agrees": "1", "email": "a b"}, ""),
        ({"case": "nowhere"}, ""),
    ],
)
async def test_a_form_that_is_refused_comes_back_with_what_was_typed(
    browser: Browser, owner: Any, changes: dict[str, str], says: str
) -> None:
    fields = await filled(browser, address="Số 1 <script>alert(1)</script> (ví dụ)", **changes)
    page = await browser.post(FORM, fields)
    assert page.status in (400, 404, 422)
    assert says in page.words
    assert "Số 1 &lt;script&gt;" in page.text
    assert await owner.fetchval("SELECT count(*) FROM dossier") == 0
    assert page.fields(FORM)["once"] == dict(fields)["once"]
    mended = dict(fields) | FILLED | {"email": ""}
    assert (await browser.post(FORM, mended)).url.path.startswith("/quay/ho-so/")


async def test_the_service_is_found_by_code_and_by_words(browser: Browser) -> None:
    assert (await browser.get(f"/quay/nhan?tt={SERVICE}")).url.path == FORM
    everything = await browser.get("/quay/nhan?tt=")
    assert everything.text.count('<li><a href="/quay/nhan/') > 10
    assert (await browser.get("/quay/nhan/S.999")).status == 404


async def test_without_the_paper_key_nothing_is_received(database: Database, owner: Any) -> None:
    await add_officer(database)
    files = paper_files()
    settings = desk_settings(database, **files | {"paper_key_file": files["paper_key_file"].with_name("gone")})
    async with desk_running(settings) as desk, signed_in(f"http://127.0.0.1:{desk.port}", database) as browser:
        page = await browser.post(FORM, await filled(browser))
    assert (page.status, NAME in page.text) == (503, True)
    assert await owner.fetchval("SELECT count(*) FROM dossier") == 0


@pytest.mark.parametrize("role", ["specialist", "auditor"])
async def test_who_may_not_receive_finds_no_reception(url: str, database: Database, owner: Any, role: str) -> None:
    await add_officer(database, "lan", roles=[role])
    async with signed_in(url, database, "lan") as browser:
        for path in ("/quay/nhan", FORM):
            assert (await browser.get(path)).status == 404
        assert (await browser.post(FORM, FILLED)).status == 404
        assert "/quay/nhan" not in (await browser.get("/quay")).text
    assert await owner.fetchval("SELECT count(*) FROM dossier") == 0
