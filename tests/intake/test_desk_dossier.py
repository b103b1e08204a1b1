"""A dossier's page at the desk: what it shows, to whom, and what its forms do."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from intake.desk import actions
from intake.desk.words import WORDS
from intake.rules.policies import RULES
from lookup.status import MOVES, Status
from tests.conftest import Database
from tests.desk import Browser, Page, add_officer, desk_running, desk_settings, signed_in
from tests.house import AGENCY, REASONS, paper_files

FORM = "/quay/nhan/S.004"
NAME, NUMBER = "Lê Văn An (hư cấu)", "079000000118"
PROVINCE = "G99.01"
OTHER = "G99.02"
"""A province that the receiving office is not below."""
STRANGER = "G99.02.01"


@pytest.fixture
async def url(database: Database) -> AsyncIterator[str]:
    await add_officer(database, roles=["counter"])
    await add_officer(database, "head", name="Phạm Thị Lan (hư cấu)", roles=["head"])
    await add_officer(database, "other", name="Võ Minh (hư cấu)", agency=OTHER, roles=["specialist"])
    await add_officer(database, "stranger", name="Hồ Thu (hư cấu)", agency=STRANGER, roles=["head"])
    await add_officer(database, "auditor", name="Đỗ Hạnh (hư cấu)", roles=["auditor"])
    async with desk_running(desk_settings(database, **paper_files())) as desk:
        yield f"http://127.0.0.1:{desk.port}"


@pytest.fixture
async def browser(url: str, database: Database) -> AsyncIterator[Browser]:
    async with signed_in(url, database) as browser:
        yield browser


async def received(browser: Browser, **changes: Any) -> str:
    """The address of a new dossier's page."""
    filled = {"do": "receive", "case": "default", "name": NAME, "id": NUMBER, "document": "0"} | changes
    page = await browser.post(FORM, (await browser.get(FORM)).fields(FORM) | filled)
    assert page.status == 200, page.words
    return str(page.url.path)


async def act(browser: Browser, at: str, action: str, **fields: str) -> Page:
    """Open the page, and send one of its forms."""
    to = f"{at}/lam/{action}" if "/" not in action else f"{at}/{action}"
    return await browser.post(to, (await browser.get(at)).fields(to) | fields)


async def test_names_are_shown_and_numbers_hidden_until_they_are_wanted(browser: Browser, owner: Any) -> None:
    at = await received(browser)
    page = await browser.get(at)
    assert NAME in page.words
    assert NUMBER not in page.text
    assert "•••••••••118" in page.text
    assert NUMBER in (await browser.get(f"{at}?day-du=1")).text
    reads = await owner.fetch("SELECT reader, client, code, screen FROM personal_read")
    assert {(each["reader"], each["client"], each["screen"]) for each in reads} == {("local|binh", "desk", "dossier")}
    assert len(reads) == 3


async def test_without_the_log_of_reads_nothing_is_shown(browser: Browser, owner: Any) -> None:
    at = await received(browser)
    await owner.execute("REVOKE INSERT ON personal_read FROM hoso24_writer")
    for path in (at, "/quay"):
        page = await browser.get(path)
        assert (page.status, NAME in page.text, at.rpartition("/")[2] in page.text) == (503, False, False)


async def test_whoever_has_nothing_to_do_with_it_finds_nothing(url: str, database: Database, browser: Browser) -> None:
    at = await received(browser)
    async with signed_in(url, database, "stranger") as stranger:
        there, nowhere = await stranger.get(at), await stranger.get("/quay/ho-so/G99.01.01-261201-9999")
        assert (there.status, there.words) == (404, nowhere.words)
        sent = await stranger.post(f"{at}/lam/process", {"version": "1", "once": str(uuid.uuid4())})
        assert sent.status == 404
        assert (await stranger.get(f"{at}/giay/1.pdf")).status == 404
        assert NAME not in (await stranger.get("/quay")).text


async def test_the_whole_way_of_a_dossier(browser: Browser, owner: Any) -> None:
    at = await received(browser)
    for action, fields, status in (
        ("process", {"department": "Phòng Chế độ (ví dụ)"}, Status.PROCESSING),
        ("supplement", {"note": "Thiếu (ví dụ).", "items": "Sổ (ví dụ)\nĐơn (ví dụ)"}, Status.SUPPLEMENT_REQUIRED),
        ("resume", {}, Status.PROCESSING),
        ("payment", {"note": "Nộp 10.000 đồng (ví dụ)."}, Status.PAYMENT_REQUIRED),
        ("resume", {}, Status.PROCESSING),
        ("complete", {"outcome": "partly"}, Status.COMPLETED),
        ("give", {}, Status.RETURNED),
    ):
        page = await act(browser, at, action, **fields)
        assert (page.status, WORDS[f"status.{status.slug}"] in page.words) == (200, True), page.words
        assert await owner.fetchval("SELECT status FROM dossier") == status
    assert (await browser.get(at)).words.count(WORDS["action.none"]) == 1
    actors = await owner.fetch("SELECT DISTINCT source, actor FROM event")
    assert [tuple(each) for each in actors] == [("desk", "local|binh")]
    assert [each["form"] for each in await owner.fetch("SELECT form FROM paper ORDER BY version")] == [
        "receipt",
        "supplement",
    ]


def test_every_move_of_a_dossier_has_a_form() -> None:
    offered = {each.what for each in actions.MOVES}
    assert offered == {to for follow in MOVES.values() for to in follow}


def test_every_word_that_a_page_may_need_is_there() -> None:
    for status in Status:
        assert WORDS[f"status.{status.slug}"]
    for each in (*actions.MOVES, *actions.OTHERS):
        assert WORDS[each.word]
    for rule in RULES:
        assert "{value}" in WORDS[f"rule.{rule}"] or rule == "refusal_after_acceptance"
    assert len({each.key for each in (*actions.MOVES, *actions.OTHERS)}) == len(actions.MOVES) + len(actions.OTHERS)


async def test_a_rule_that_asks_for_a_reason_gets_one_and_nothing_typed_is_lost(browser: Browser, owner: Any) -> None:
    at = await received(browser)
    told = {"note": "Thiếu lần nữa (ví dụ).", "items": "Sổ (ví dụ)"}
    await act(browser, at, "supplement", **told)
    await act(browser, at, "resume")
    asked = await act(browser, at, "supplement", **told)
    assert asked.status == 409
    assert "chỉ yêu cầu bổ sung 1 lần (khoản 3 Điều 15 Nghị định 61/2018)" in asked.words
    assert "Thiếu lần nữa (ví dụ)." in asked.text
    again = asked.fields() | told | {"override": "Luật chuyên ngành cho phép (ví dụ)."}
    assert (await browser.post(f"{at}/lam/supplement", again)).status == 200
    assert await owner.fetchval("SELECT supplements FROM dossier") == 2
    page = await browser.get(at)
    assert "Luật chuyên ngành cho phép (ví dụ)." in page.words


async def test_two_officers_decide_at_once_and_one_is_told_what_the_other_did(
    url: str, database: Database, browser: Browser, owner: Any
) -> None:
    at = await received(browser)
    async with signed_in(url, database, "head") as other:
        pages = [(each, (await each.get(at))) for each in (browser, other)]
        to = f"{at}/lam/supplement"
        told = {"note": "Thiếu (ví dụ).", "items": "Sổ (ví dụ)"}
        answers = await asyncio.gather(*(each.post(to, page.fields(to) | told) for each, page in pages))
    assert sorted(each.status for each in answers) == [200, 412]
    stale = next(each for each in answers if each.status == 412)
    assert "(hư cấu) cập nhật lúc" in stale.words
    assert "Thiếu (ví dụ)." in stale.text
    assert await owner.fetchval("SELECT count(*) FROM event WHERE kind = 'moved'") == 1
    assert await owner.fetchval("SELECT count(*) FROM paper WHERE form = 'supplement'") == 1


async def test_a_form_sent_twice_is_done_once(browser: Browser, owner: Any) -> None:
    at = await received(browser)
    to = f"{at}/lam/put_off"
    form = (await browser.get(at)).fields(to) | {"due_at": "2027-03-31T16:00", "reason": "Chờ xác minh (ví dụ)."}
    first, second = await browser.post(to, form), await browser.post(to, form)
    assert (first.status, second.status) == (200, 200)
    assert await owner.fetchval("SELECT reappointments FROM dossier") == 1
    assert await owner.fetchval("SELECT due_at FROM dossier WHERE due_at = '2027-03-31T16:00+07'") is not None
    assert [each["form"] for each in await owner.fetch("SELECT form FROM paper ORDER BY version")] == [
        "receipt",
        "apology",
    ]
    holiday = await act(browser, at, "put_off", due_at="2027-04-30T16:00", reason="Lần nữa (ví dụ).")
    assert (holiday.status, "30/04/2027, không phải là ngày làm việc" in holiday.words) == (422, True)
    third = await act(browser, at, "put_off", due_at="2027-04-28T16:00", reason="Lần nữa (ví dụ).")
    assert (third.status, "chỉ hẹn lại 1 lần" in third.words) == (409, True), third.words


async def test_interlinked_to_another_province_and_back(
    url: str, database: Database, browser: Browser, owner: Any
) -> None:
    at = await received(browser)
    await act(browser, at, "process")
    given = await act(browser, at, "task", agency=OTHER, kind="opinion", work="Xác minh quá trình (ví dụ)")
    assert given.status == 200, given.words
    early = await act(browser, at, "complete", outcome="granted")
    assert (early.status, "phần việc của cơ quan khác" in early.words) == (409, True)
    number = await owner.fetchval("SELECT number FROM task WHERE agency = $1", OTHER)
    async with signed_in(url, database, "other") as other:
        assert "Lấy ý kiến: Xác minh quá trình (ví dụ)" in (await other.get("/quay")).words
        page = await other.get(at)
        assert "/lam/complete" not in page.text
        assert (await act(other, at, f"viec/{number}/ask", reason="Thiếu trang 3? (ví dụ)")).status == 200
        answer = await owner.fetchval("SELECT max(number) FROM task WHERE agency = $1", AGENCY)
        assert (await act(browser, at, f"viec/{answer}/done")).status == 200
        assert (await act(other, at, f"viec/{number}/done")).status == 200
        assert at not in (await other.get("/quay")).text
    assert (await act(browser, at, "complete", outcome="refused", note="Không đủ điều kiện (ví dụ).")).status == 200
    row = await owner.fetchrow("SELECT status, outcome FROM dossier")
    assert tuple(row) == (Status.COMPLETED, "refused")


async def test_a_wrong_name_is_corrected_and_the_receipt_made_anew(browser: Browser, owner: Any) -> None:
    at = await received(browser)
    page = await act(browser, at, "correct", name="Lê Văn Ân (hư cấu)", reason="Ghi nhầm dấu (ví dụ).")
    assert (page.status, "Lê Văn Ân (hư cấu)" in page.words) == (200, True)
    row = await owner.fetchrow("SELECT applicant_name, applicant_id FROM dossier")
    assert tuple(row) == ("Lê Văn Ân (hư cấu)", NUMBER)
    assert [each["form"] for each in await owner.fetch("SELECT form FROM paper ORDER BY version")] == ["receipt"] * 2
    nothing = await act(browser, at, "correct", reason="Không có gì (ví dụ).")
    assert nothing.status == 422


@pytest.mark.parametrize(
    ("action", "fields"),
    [
        ("put_off", {"due_at": "ngày mai", "reason": "x"}),
        ("put_off", {"due_at": "2020-01-01T10:00", "reason": "x"}),
        ("put_off", {"due_at": "9999-12-31T23:59", "reason": "x"}),
        ("task", {"agency": "nowhere", "kind": "work", "work": "x"}),
        ("task", {"agency": PROVINCE, "kind": "decide", "work": "x"}),
        ("process", {"agency": "G99.77.77"}),
        ("complete", {"outcome": "maybe"}),
        ("supplement", {"note": "x"}),
        ("suspend", {}),
        ("lead", {"agency": PROVINCE}),
        ("supplement", {"note": "\u202e", "items": "y"}),
        ("supplement", {"note": "x" * 10_000, "items": "y"}),
        ("correct", {"name": "\u0301", "reason": "x"}),
        ("number", {"number": ""}),
    ],
)
async def test_what_cannot_be_done_is_refused_with_the_form(
    url: str, database: Database, owner: Any, action: str, fields: dict[str, str]
) -> None:
    async with signed_in(url, database, "head") as head:
        at = await received(head)
        page = await act(head, at, action, **fields)
    assert 400 <= page.status < 500, page.words
    assert WORDS["again.button"] in page.words
    assert await owner.fetchval("SELECT version FROM dossier") == 1


@pytest.mark.parametrize("path", ["lam/nowhere", "viec/1/nowhere", "viec/9/done", "viec/0/done"])
async def test_addresses_that_are_none(browser: Browser, path: str) -> None:
    at = await received(browser)
    page = await browser.post(f"{at}/{path}", {"version": "1", "once": str(uuid.uuid4())})
    assert page.status in (404, 409, 422)


@pytest.mark.parametrize("fields", [{"version": "x"}, {"version": "9" * 30}, {"once": "1"}, {"version": "1"}])
async def test_a_form_without_its_key_or_version_does_nothing(
    browser: Browser, owner: Any, fields: dict[str, str]
) -> None:
    at = await received(browser)
    given = {"once": str(uuid.uuid4())} | fields if "once" not in fields and fields != {"version": "1"} else fields
    page = await browser.post(f"{at}/lam/process", given)
    assert page.status == 400
    assert await owner.fetchval("SELECT version FROM dossier") == 1


async def test_a_paper_is_printed_and_counted_under_the_officers_name(browser: Browser, owner: Any) -> None:
    at = await received(browser)
    for _ in range(2):
        page = await browser.http.get(f"{browser.url}{at}/giay/1.pdf")
        assert (page.status, page.content_type) == (200, "application/pdf")
        assert (await page.read()).startswith(b"%PDF-")
    prints = await owner.fetch("SELECT by, kind FROM paper_print ORDER BY at")
    assert [tuple(each) for each in prints] == [("local|binh", "first"), ("local|binh", "again")]
    assert (await browser.get(f"{at}/giay/2.pdf")).status == 404


async def test_an_auditor_reads_and_changes_nothing(url: str, database: Database, browser: Browser, owner: Any) -> None:
    at = await received(browser)
    async with signed_in(url, database, "auditor") as auditor:
        page = await auditor.get(at)
        assert (page.status, WORDS["action.none"] in page.words) == (200, True)
        for action in sorted(actions.ALL):
            fields = {
                "version": "1",
                "once": str(uuid.uuid4()),
                "reason": "x",
                "note": "x",
                "due_at": "2027-03-31T16:00",
            }
            more = {"agency": PROVINCE, "work": "x", "number": "1", "name": "x", "items": "x"}
            sent = await auditor.post(f"{at}/lam/{action}", fields | more)
            assert sent.status in (400, 403, 404, 422), action
    assert await owner.fetchval("SELECT version FROM dossier") == 1


def test_reasons_of_the_house_are_known_to_the_forms() -> None:
    named = {each.what.slug for each in actions.MOVES if isinstance(each.what, Status) and each.fields}
    assert REASONS.keys() <= named


async def test_an_office_that_has_ended_receives_nothing_and_its_successor_goes_on(
    url: str, database: Database, browser: Browser, owner: Any
) -> None:
    at = await received(browser)
    await owner.execute("UPDATE agency SET valid_to = current_date, successor = 'G99.01.02' WHERE code = $1", AGENCY)
    await add_officer(database, "heir", name="Lý Nam (hư cấu)", agency="G99.01.02", roles=["counter"])
    async with desk_running(desk_settings(database, **paper_files())) as desk:
        later = f"http://127.0.0.1:{desk.port}"
        async with signed_in(later, database) as ended, signed_in(later, database, "heir") as heir:
            filled = {"do": "receive", "case": "default", "name": NAME, "document": "0"}
            refused = await ended.post(FORM, (await ended.get(FORM)).fields(FORM) | filled)
            assert (refused.status, "đã kết thúc hoạt động" in refused.words) == (422, True)
            assert NAME in (await heir.get("/quay")).words
            for action, fields in (("process", {}), ("complete", {"outcome": "granted"}), ("give", {})):
                assert (await act(heir, at, action, **fields)).status == 200
    row = await owner.fetchrow("SELECT status, origin FROM dossier")
    assert tuple(row) == (Status.RETURNED, AGENCY)
