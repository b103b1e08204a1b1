"""Handing over at the desk: accepted dossiers go on to a department or another agency, each with its control slip."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest

from intake.books.ledger import Ledger
from intake.books.seal import jsonb_text
from intake.desk import handover
from intake.desk.handover import until
from intake.desk.words import WORDS
from intake.rules.workdays import SHIPPED
from lookup.clock import VIETNAM
from lookup.status import Status
from ops.errors import Unavailable
from tests.conftest import Database
from tests.desk import (
    NAME,
    NUMBER,
    Browser,
    Page,
    act,
    add_officer,
    desk_running,
    desk_settings,
    received,
    signed_in,
)
from tests.house import AGENCY, paper_files

AT = "/quay/ban-giao"
PROVINCE = "G99.01"
NEXT_DOOR = "G99.01.02"
DEPARTMENT = "Phòng Chế độ (ví dụ)"


@pytest.fixture
async def url(database: Database) -> AsyncIterator[str]:
    await add_officer(database)
    await add_officer(database, "next", name="Võ Minh (hư cấu)", agency=NEXT_DOOR)
    await add_officer(database, "auditor", name="Đỗ Hạnh (hư cấu)", roles=["auditor"])
    async with desk_running(desk_settings(database, **paper_files())) as desk:
        yield f"http://127.0.0.1:{desk.port}"


@pytest.fixture
async def browser(url: str, database: Database) -> AsyncIterator[Browser]:
    async with signed_in(url, database) as browser:
        yield browser


async def form(browser: Browser, *addresses: str, den: str = "", **fields: str) -> list[tuple[str, str]]:
    """The page's form with the dossiers at these addresses ticked."""
    page = await browser.get(f"{AT}?den={den}")
    offered = dict(re.findall(r'name="chosen" value="(\S+) (\d+)"', page.text))
    codes = [each.rpartition("/")[2] for each in addresses]
    ticked = [("chosen", f"{code} {offered.get(code, 1)}") for code in codes]
    return [*page.fields(AT).items(), *ticked, *fields.items()]


def slips(page: Page) -> list[str]:
    """The addresses of the control slips that an answer leads to."""
    return re.findall(r'href="(/quay/ho-so/[^"]*/giay/\d+\.pdf)"', page.text)


async def test_chosen_ones_go_to_a_department_with_a_slip_each(browser: Browser, owner: Any) -> None:
    first, second, third = [await received(browser) for _ in range(3)]
    page = await browser.get(AT)
    assert (page.status, page.text.count("data-row")) == (200, 3)
    assert f"{NAME} ·118" in page.words
    assert NUMBER not in page.text
    answer = await browser.post(AT, await form(browser, first, second, department=DEPARTMENT))
    assert (answer.status, answer.words.count(WORDS["hand_over.done"])) == (200, 2), answer.words
    rows = await owner.fetch("SELECT code, status, agency FROM dossier ORDER BY code")
    assert [tuple(each)[1:] for each in rows] == [(4, AGENCY), (4, AGENCY), (2, AGENCY)]
    events = await owner.fetch(
        "SELECT version, kind, department, actor FROM event WHERE version > 1 ORDER BY code, version"
    )
    assert [tuple(each) for each in events] == [
        (2, "moved", DEPARTMENT, "local|binh"),
        (3, "paper_issued", None, "local|binh"),
    ] * 2
    for slip in slips(answer):
        assert (await browser.http.get(browser.url + slip)).content_type == "application/pdf"
    assert len(slips(answer)) == 2
    left = await browser.get(AT)
    assert [at.rpartition("/")[2] in left.text for at in (first, second, third)] == [False, False, True]


async def test_the_form_sent_again_does_nothing_twice(browser: Browser, owner: Any) -> None:
    first, second = [await received(browser) for _ in range(2)]
    fields = await form(browser, first, department=DEPARTMENT)
    answers = [await browser.post(AT, fields) for _ in range(2)]
    assert slips(answers[0]) == slips(answers[1]) != []
    more = [*fields, ("chosen", f"{second.rpartition('/')[2]} 1")]  # after the back button, one more is ticked
    third = await browser.post(AT, more)
    assert slips(third)[0] == slips(answers[0])[0]
    assert len(slips(third)) == 2
    elsewhere = await browser.post(AT, [*(each for each in fields if each[0] != "department"), ("department", "Khác")])
    assert WORDS["hand_over.sent"] in elsewhere.words
    assert await owner.fetchval("SELECT count(*) FROM event") == 6
    assert await owner.fetchval("SELECT count(*) FROM paper WHERE form = 'control'") == 2


async def test_a_double_click_hands_over_once(browser: Browser, owner: Any) -> None:
    fields = await form(browser, await received(browser), department=DEPARTMENT)
    answers = await asyncio.gather(*(browser.post(AT, fields) for _ in range(3)))
    assert {each.status for each in answers} == {200}
    assert len(slips(await browser.post(AT, fields))) == 1
    assert await owner.fetchval("SELECT count(*) FROM event") == 3


async def test_a_refusal_of_one_does_not_stop_the_others(
    url: str, database: Database, browser: Browser, owner: Any
) -> None:
    changed, done, ours = [await received(browser) for _ in range(3)]
    async with signed_in(url, database, "next") as other:
        theirs = await received(other)
    fields = await form(browser, changed, theirs, done, ours, department=DEPARTMENT)
    await act(browser, changed, "process")
    answer = await browser.post(AT, fields)
    assert (answer.status, len(slips(answer))) == (200, 2)
    rows = re.findall(r"<tr.*?</tr>", answer.text.split("<tbody>")[1], re.DOTALL)
    assert [WORDS["hand_over.done"] in row for row in rows] == [False, False, True, True]
    assert WORDS["hand_over.changed"] in rows[0]
    assert WORDS["problem.unknown_dossier"] in rows[1]
    code = theirs.rpartition("/")[2]
    assert await owner.fetchval("SELECT version FROM dossier WHERE code = $1", code) == 1


async def test_while_postgresql_is_away_the_rest_is_not_tried(
    browser: Browser, owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = await form(browser, *[await received(browser) for _ in range(3)], department=DEPARTMENT)
    tried, move = [], Ledger.move

    async def away(ledger: Ledger, *given: Any) -> Any:
        tried.append(given)
        if len(tried) == 2:
            raise Unavailable
        return await move(ledger, *given)

    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "move", away)
        answer = await browser.post(AT, fields)
    assert (answer.status, len(tried)) == (200, 2)
    assert answer.words.count(WORDS["hand_over.not_done"]) == answer.words.count(WORDS["hand_over.away"]) == 2
    assert len(slips(await browser.post(AT, fields))) == 3
    assert await owner.fetchval("SELECT count(*) FROM event") == 9


async def test_to_another_agency_that_leads_from_now_on(browser: Browser, owner: Any) -> None:
    at, lower = await received(browser), await received(browser)
    answer = await browser.post(AT, await form(browser, at, agency=PROVINCE))
    assert len(slips(answer)) == 1
    row = await owner.fetchrow("SELECT status, agency, origin FROM dossier WHERE code = $1", at.rpartition("/")[2])
    assert tuple(row) == (Status.PROCESSING, PROVINCE, AGENCY)
    refused = await browser.post(AT, await form(browser, lower, agency="G99.02.01.77"))
    assert WORDS["hand_over.not_done"] in refused.words


async def test_a_route_s_first_agency_is_a_receiver_of_its_own(database: Database, owner: Any) -> None:
    route = [{"work": "Thẩm định", "hours": 8, "agency": PROVINCE}, {"work": "Giải quyết", "hours": 8}]
    await owner.execute("UPDATE service SET route = $1 WHERE code = 'S.004'", jsonb_text(route))
    await add_officer(database)
    async with (
        desk_running(desk_settings(database, **paper_files())) as desk,
        signed_in(f"http://127.0.0.1:{desk.port}", database) as browser,
    ):
        at = await received(browser)
        own = await browser.get(AT)
        assert at.rpartition("/")[2] not in own.text
        assert f'href="{AT}?den={PROVINCE}"' in own.text
        page = await browser.get(f"{AT}?den={PROVINCE}")
        assert "Thẩm định" in page.words
        answer = await browser.post(AT, await form(browser, at, den=PROVINCE))
        assert len(slips(answer)) == 1, answer.words
    row = await owner.fetchrow("SELECT status, agency FROM dossier")
    assert tuple(row) == (Status.PROCESSING, AGENCY)
    live = await owner.fetch("SELECT agency, work FROM task WHERE state = 'open'")
    assert [tuple(each) for each in live] == [(PROVINCE, "Thẩm định")]


@pytest.mark.parametrize(
    ("ticked", "fields", "word"),
    [
        (False, {"department": DEPARTMENT}, "hand_over.none_chosen"),
        (True, {}, "hand_over.no_receiver"),
        (True, {"department": "x" * 1_000}, None),
        (True, {"department": "\u202ex"}, None),
    ],
)
async def test_a_form_that_says_too_little_comes_back(
    browser: Browser, owner: Any, ticked: bool, fields: dict[str, str], word: str | None
) -> None:
    at = await received(browser)
    given = await form(browser, *([at] if ticked else []), **fields)
    page = await browser.post(AT, given)
    assert page.status in (400, 422)
    assert (WORDS[word] if word else WORDS["field.department"]) in page.words
    assert (" checked" in page.text) is ticked
    assert page.fields(AT)["once"] == dict(given)["once"]
    assert await owner.fetchval("SELECT version FROM dossier") == 1


@pytest.mark.parametrize(
    "chosen", ["x", "G99.01.01-261201-0001", "G99.01.01-261201-0001 x", "G99.01.01-261201-0001 9999999999", "x 1"]
)
async def test_what_names_no_dossier_is_refused(browser: Browser, chosen: str) -> None:
    await received(browser)
    page = await browser.post(AT, [*(await form(browser, department=DEPARTMENT)), ("chosen", chosen)])
    assert page.status == 400


async def test_more_than_a_hand_over_holds_is_refused(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    at = [await received(browser) for _ in range(3)]
    fields = await form(browser, *at, department=DEPARTMENT)
    monkeypatch.setattr(handover, "ROWS", 2)
    page = await browser.get(AT)
    assert page.text.count("data-row") == 2
    assert WORDS["hand_over.more"].format(most=2) in page.words
    assert (await browser.post(AT, fields)).status == 400


async def test_others_see_nothing_of_it(url: str, database: Database, browser: Browser, owner: Any) -> None:
    code = (await received(browser)).rpartition("/")[2]
    fields = await form(browser, code, department=DEPARTMENT)
    async with signed_in(url, database, "next") as other:
        page = await other.get(AT)
        assert (page.status, code in page.text) == (200, False)
        assert WORDS["problem.unknown_dossier"] in (await other.post(AT, fields)).words
    async with signed_in(url, database, "auditor") as auditor:
        assert (await auditor.get(AT)).status == (await auditor.post(AT, fields)).status == 404
        assert AT not in (await auditor.get("/quay")).text
    assert await owner.fetchval("SELECT version FROM dossier") == 1


async def test_what_another_office_received_is_not_handed_over_here(
    url: str, database: Database, browser: Browser, owner: Any
) -> None:
    async with signed_in(url, database, "next") as other:
        theirs = await received(other)
        await act(other, theirs, "lead", agency=AGENCY, reason="Đúng nơi giải quyết (ví dụ).")
    assert await owner.fetchval("SELECT agency FROM dossier WHERE status = 2") == AGENCY
    assert theirs.rpartition("/")[2] not in (await browser.get(AT)).text


async def test_reads_are_logged_first_or_nothing_is_shown(browser: Browser, owner: Any) -> None:
    code = (await received(browser)).rpartition("/")[2]
    await browser.get(AT)
    reads = await owner.fetch("SELECT reader, client, code FROM personal_read WHERE screen = 'handover'")
    assert [tuple(each) for each in reads] == [("local|binh", "desk", code)]
    await owner.execute("REVOKE INSERT ON personal_read FROM hoso24_writer")
    page = await browser.get(AT)
    assert (page.status, NAME in page.text, code in page.text) == (503, False, False)


async def test_without_papers_it_is_handed_over_and_says_what_is_missing(database: Database, owner: Any) -> None:
    await add_officer(database)
    async with (
        desk_running(desk_settings(database)) as desk,
        signed_in(f"http://127.0.0.1:{desk.port}", database) as browser,
    ):
        fields = await form(browser, await received(browser), department=DEPARTMENT)
        page = await browser.post(AT, fields)
    assert (slips(page), WORDS["hand_over.no_slip"] in page.words) == ([], True)
    assert await owner.fetchval("SELECT status FROM dossier") == Status.PROCESSING


@pytest.mark.parametrize(
    ("received_at", "day"),
    [
        ("2026-11-30T14:59:59", "2026-11-30"),
        ("2026-11-30T15:00:00", "2026-12-01"),
        ("2026-12-04T16:00:00", "2026-12-07"),  # a Friday
        ("2026-12-05T09:00:00", "2026-12-07"),  # a Saturday
    ],
)
def test_what_comes_before_fifteen_is_handed_over_that_day(received_at: str, day: str) -> None:
    assert until(datetime.fromisoformat(received_at).replace(tzinfo=VIETNAM), SHIPPED).isoformat() == day
