"""The head's page: what is late and beyond a rule in each agency of the scope; counts and codes, and no names."""

import calendar
import html
import re
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest

from intake.desk import unit
from intake.desk.frame import Desk
from intake.desk.words import WORDS
from lookup.clock import VIETNAM
from tests.conftest import Database
from tests.desk import NAME, NUMBER, Browser, Page, act, add_officer, desk_running, desk_settings, received, signed_in
from tests.house import paper_files

AT = "/quay/don-vi"
OFFICE = "Bảo hiểm xã hội cơ sở Sông Mây 1 (hư cấu)"
NEXT_DOOR = "Bảo hiểm xã hội cơ sở Sông Mây 2 (hư cấu)"

LATE = """
UPDATE task
   SET due_at = now() - interval '1 hour'
 WHERE code = $1
   AND state = 'open'
"""
OVERDUE = """
UPDATE dossier
   SET due_at = now() - interval '1 hour', submitted_at = submitted_at - interval '10 days'
 WHERE code = $1
"""


@pytest.fixture
async def url(database: Database) -> AsyncIterator[str]:
    await add_officer(database)
    await add_officer(database, "lan", name="Phạm Thị Lan (hư cấu)", roles=["specialist"])
    await add_officer(database, "head", name="Lý An (hư cấu)", roles=["head"])
    await add_officer(database, "auditor", name="Đỗ Hạnh (hư cấu)", agency="G99.01", roles=["auditor"])
    await add_officer(database, "next", name="Võ Minh (hư cấu)", agency="G99.01.02", roles=["head"])
    async with desk_running(desk_settings(database, **paper_files())) as desk:
        yield f"http://127.0.0.1:{desk.port}"


@pytest.fixture
async def browser(url: str, database: Database) -> AsyncIterator[Browser]:
    async with signed_in(url, database, "head") as browser:
        yield browser


def told(page: Page) -> dict[str, dict[str, tuple[str, list[str]]]]:
    """Agency → what is said of it → the count and the codes."""
    assert page.status == 200, page.words
    found = {}
    for section in page.text.split('<section class="card">')[1:]:
        name = html.unescape(section.split("<h2>")[1].split("</h2>")[0])
        lines = re.findall(r"<li>(.*?): <b>(.*?)</b>(.*?)</li>", section)
        found[name] = {html.unescape(line[0]): (line[1], re.findall(r">([^<]+)</a>", line[2])) for line in lines}
    return found


def code_of(at: str) -> str:
    return at.rpartition("/")[2]


async def test_what_is_late_and_what_is_due_today(browser: Browser, owner: Any) -> None:
    late, today, paused, later = [code_of(await received(browser)) for _ in range(4)]
    await owner.execute(LATE, late)
    await owner.execute("UPDATE task SET due_at = now() + interval '1 millisecond' WHERE code = $1", today)
    await act(browser, f"/quay/ho-so/{paused}", "suspend", note="Chờ ý kiến (ví dụ).")
    await owner.execute(LATE, paused)
    # Due just now is late a moment later, or due today: at no time of day it is tomorrow's.
    found = told(await browser.get(AT))[OFFICE]
    named = found[WORDS["unit.late"]][1] + found.get(WORDS["unit.today"], ("", []))[1]
    assert named[0] == late
    assert sorted(named) == sorted([late, today])
    assert WORDS["unit.unsaid"] not in found
    page = await browser.get(AT)
    assert NAME not in page.text
    assert NUMBER not in page.text
    assert later not in page.text


async def test_overdue_without_an_apology_until_there_is_one_for_that_date(browser: Browser, owner: Any) -> None:
    at = await received(browser)
    code = code_of(at)
    await owner.execute(LATE, code)
    await owner.execute(OVERDUE, code)
    assert told(await browser.get(AT))[OFFICE][WORDS["unit.unsaid"]] == ("1", [code])
    await act(browser, at, "apology", reason="Chờ xác minh (ví dụ).")
    found = told(await browser.get(AT))[OFFICE]
    assert (WORDS["unit.late"] in found, WORDS["unit.unsaid"] in found) == (True, False)
    await act(browser, at, "put_off", due_at="2027-03-31T16:00", reason="Chờ xác minh (ví dụ).")
    assert WORDS["unit.late"] not in told(await browser.get(AT))[OFFICE]
    await owner.execute(LATE, code)
    await owner.execute(OVERDUE, code)  # the new date has passed as well, and the apology was for the one before
    await owner.execute(
        "UPDATE paper SET content = jsonb_set(content, '{due_at}', (SELECT to_jsonb(due_at) FROM dossier)) "
        "WHERE content ? 'due_before'"
    )
    assert WORDS["unit.unsaid"] in told(await browser.get(AT))[OFFICE]
    await owner.execute("UPDATE paper SET content = content - 'due_before'")
    assert WORDS["unit.unsaid"] not in told(await browser.get(AT))[OFFICE]


async def test_a_result_that_waits_to_be_fetched_is_not_late(browser: Browser, owner: Any) -> None:
    at = await received(browser)
    await act(browser, at, "complete", outcome="granted")
    await owner.execute(LATE, code_of(at))
    assert await owner.fetchval("SELECT kind FROM task WHERE state = 'open'") == "hand_over"
    assert WORDS["unit.nothing"] in (await browser.get(AT)).words


async def test_overrides_and_warnings_of_the_month(
    browser: Browser, owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    today = datetime.now(VIETNAM).date()
    last = today.replace(day=calendar.monthrange(today.year, today.month)[1])
    monkeypatch.setattr(Desk, "today", lambda _: last)  # so that it is another day than the one on which it was written
    at = await received(browser)
    asked = {"note": "Thiếu (ví dụ).", "items": "Sổ (ví dụ)"}
    await act(browser, at, "supplement", **asked)
    await act(browser, at, "resume")
    to = f"{at}/lam/supplement"
    reason = {"override": "Luật chuyên ngành cho phép (ví dụ)."}
    fields = (await browser.get(at)).fields(to) | asked | reason
    assert (await browser.post(to, fields)).status == 200
    rule = WORDS["rule.supplement_rounds"].format(value=1)
    said = {WORDS["unit.override"].format(rule=rule): ("1", [code_of(at)])}
    page = await browser.get(AT)
    assert told(page) == {OFFICE: said}
    assert "Luật chuyên ngành" not in page.text
    await owner.execute("""UPDATE event SET detail = replace(detail, '"override":', '"other":')""")
    assert told(await browser.get(AT)) == {OFFICE: {WORDS["unit.warning"].format(rule=rule): ("1", [code_of(at)])}}
    await owner.execute("UPDATE event SET recorded_at = recorded_at - interval '32 days'")
    assert WORDS["unit.nothing"] in (await browser.get(AT)).words


async def test_each_agency_of_the_scope_and_no_other_one(
    url: str, database: Database, browser: Browser, owner: Any
) -> None:
    ours = code_of(await received(browser))
    async with signed_in(url, database, "next") as other:
        theirs = code_of(await received(other))
        for code in (ours, theirs):
            await owner.execute(LATE, code)
        assert told(await other.get(AT)) == {NEXT_DOOR: {WORDS["unit.late"]: ("1", [theirs])}}
    assert list(told(await browser.get(AT))) == [OFFICE]
    async with signed_in(url, database, "auditor") as auditor:
        assert list(told(await auditor.get(AT))) == [OFFICE, NEXT_DOOR]


async def test_others_find_no_such_page(url: str, database: Database) -> None:
    for subject in ("binh", "lan"):
        async with signed_in(url, database, subject) as officer:
            assert (await officer.get(AT)).status == 404
            assert AT not in (await officer.get("/quay")).text


async def test_counts_codes_and_agencies_are_bounded(
    url: str, database: Database, browser: Browser, owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(4):
        await owner.execute(LATE, code_of(await received(browser)))
    async with signed_in(url, database, "next") as other:
        await owner.execute(LATE, code_of(await received(other)))
    monkeypatch.setattr(unit, "MOST_COUNTED", 3)
    monkeypatch.setattr(unit, "CODES", 2)
    monkeypatch.setattr(unit, "AGENCIES", 1)
    async with signed_in(url, database, "auditor") as auditor:
        page = await auditor.get(AT)
    ((agency, found),) = told(page).items()
    n, codes = found[WORDS["unit.late"]]
    assert (agency, n, len(codes)) == (OFFICE, "3+", 2)
    assert WORDS["unit.more"].format(most=1) in page.words


async def test_its_indexes_are_used(owner: Any) -> None:
    await owner.execute("SET enable_seqscan = off")
    plan = await owner.fetch(f"EXPLAIN {unit.BEYOND}", ["G99.01.01"], await owner.fetchval("SELECT now()"), 10)
    assert any("event_beyond_a_rule" in line[0] for line in plan), plan
