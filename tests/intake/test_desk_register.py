"""The register at the desk: the dossiers that an office accepted on a day, with totals, for spreadsheets and on A4."""

import csv
import io
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest

from intake.desk import register
from intake.desk.register import CAPTIONS, NoDay, csv_of, day_in
from intake.desk.words import WORDS
from intake.papers.rendering import attached
from lookup.catalogue import Catalogue
from lookup.clock import VIETNAM
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
from tests.house import paper_files

NEXT_DOOR = "G99.01.02"
TODAY = date(2026, 12, 1)


@pytest.fixture
async def url(database: Database) -> AsyncIterator[str]:
    await add_officer(database)
    await add_officer(database, "next", name="Võ Minh (hư cấu)", agency=NEXT_DOOR, roles=["head"])
    await add_officer(database, "auditor", name="Đỗ Hạnh (hư cấu)", roles=["auditor"])
    async with desk_running(desk_settings(database, **paper_files())) as desk:
        yield f"http://127.0.0.1:{desk.port}"


@pytest.fixture
async def browser(url: str, database: Database) -> AsyncIterator[Browser]:
    async with signed_in(url, database) as browser:
        yield browser


def totals(page: Page) -> dict[str, int]:
    """The totals that a register's page tells."""
    names = ("received", "returned", "supplement", "rejected")
    return {name: int(page.text.split(f"<li>{WORDS[f'register.{name}']} <b>")[1].split("<")[0]) for name in names}


async def test_a_day_has_what_the_office_accepted_on_it(browser: Browser) -> None:
    first, second = await received(browser, result_by="post"), await received(browser, name="Phạm Thị Lan (hư cấu)")
    await received(browser, do="reject", note="Không thuộc thẩm quyền (ví dụ).")
    await act(browser, second, "supplement", note="Thiếu (ví dụ).", items="Sổ (ví dụ)")
    await act(browser, first, "complete", outcome="granted")
    await act(browser, first, "give")
    page = await browser.get("/quay/so")
    assert page.status == 200
    assert totals(page) == {"received": 2, "returned": 1, "supplement": 1, "rejected": 1}
    codes = [at.rpartition("/")[2] for at in (first, second)]
    assert page.text.index(codes[0]) < page.text.index(codes[1])
    row = page.words.split(f"1 {codes[0]} ")[1].split(f"2 {codes[1]} ")[0]
    assert f"{NAME} ·118" in row
    assert row.count(f" {datetime.now(VIETNAM):%d/%m/%Y}") == 2  # received and returned
    assert WORDS["result_by.post"] in row
    assert NUMBER not in page.text
    assert "0900000118" not in page.text


async def test_a_result_that_is_given_at_once_is_one_row(browser: Browser, owner: Any) -> None:
    await received(browser)
    # What a reception with `result: at_once` leaves: further moves at the very moment of the acceptance.
    await owner.execute(
        """
        INSERT INTO event (epoch, code, version, kind, occurred_at, recorded_at, source, status, agency, origin,
                           received_at, finished_at, returned_at, outcome, due_at, actor, salt, seal)
        SELECT epoch, code, n, 'moved', occurred_at, recorded_at, source, 7 + n, agency, origin, received_at,
               occurred_at, occurred_at, 'granted', due_at, actor, salt, seal
          FROM event
         CROSS JOIN generate_series(2, 3) AS n
        """
    )
    page = await browser.get("/quay/so")
    assert totals(page) == {"received": 1, "returned": 1, "supplement": 0, "rejected": 0}
    assert page.text.count("data-row") == 1


async def test_another_office_and_another_day_are_not_in_it(url: str, database: Database, browser: Browser) -> None:
    code = (await received(browser)).rpartition("/")[2]
    yesterday = datetime.now(VIETNAM).date() - timedelta(days=1)
    before = await browser.get(f"/quay/so?ngay={yesterday}")
    assert (before.status, code in before.text) == (200, False)
    assert f'href="/quay/so?ngay={yesterday + timedelta(days=1)}"' in before.text
    assert f'href="/quay/so?ngay={yesterday - timedelta(days=1)}"' in before.text
    async with signed_in(url, database, "next") as other:
        for path in ("/quay/so", "/quay/so.csv"):
            page = await other.get(path)
            assert (page.status, code in page.text) == (200, False)
    async with signed_in(url, database, "auditor") as auditor:
        assert code in (await auditor.get("/quay/so")).text


async def accepted_at(owner: Any, moment: datetime) -> None:
    """Let all dossiers have been accepted at this moment; what became of them stays where it is."""
    await owner.execute("UPDATE event SET occurred_at = $1, submitted_at = $1 WHERE version = 1", moment)
    await owner.execute("UPDATE event SET received_at = $1", moment)
    await owner.execute("UPDATE dossier SET received_at = $1, submitted_at = $1", moment)


@pytest.mark.parametrize("clock", [time(0, 0), time(23, 59, 59)])
async def test_a_day_begins_at_midnight_in_vietnam(browser: Browser, owner: Any, clock: time) -> None:
    code = (await received(browser)).rpartition("/")[2]
    yesterday = datetime.now(VIETNAM).date() - timedelta(days=1)
    await accepted_at(owner, datetime.combine(yesterday, clock, VIETNAM))
    assert code not in (await browser.get("/quay/so")).text
    page = await browser.get(f"/quay/so?ngay={yesterday}")
    assert (code in page.text, totals(page)["received"]) == (True, 1)


async def test_a_result_counts_on_the_day_of_its_return_and_stands_on_that_of_its_acceptance(
    browser: Browser, owner: Any
) -> None:
    at = await received(browser)
    await act(browser, at, "complete", outcome="granted")
    await act(browser, at, "give")
    yesterday = datetime.now(VIETNAM).date() - timedelta(days=1)
    await accepted_at(owner, datetime.combine(yesterday, time(9), VIETNAM))
    page = await browser.get("/quay/so")
    assert totals(page) == {"received": 0, "returned": 1, "supplement": 0, "rejected": 0}
    assert (WORDS["register.empty"] in page.words, "data-row" in page.text) == (True, False)
    before = await browser.get(f"/quay/so?ngay={yesterday}")
    assert totals(before) == {"received": 1, "returned": 0, "supplement": 0, "rejected": 0}
    assert f" {datetime.now(VIETNAM):%d/%m/%Y}" in before.words.split(at.rpartition("/")[2])[1]


@pytest.mark.parametrize(
    "ngay", ["x", "2026-02-30", "0001-01-01", "9999-12-31", "20261201", "1989-12-31", "2026-1-1", "%00", "%C3%28"]
)
@pytest.mark.parametrize("path", ["/quay/so", "/quay/so.csv", "/quay/so.pdf"])
async def test_a_day_that_is_none_is_the_form_with_a_sentence(browser: Browser, path: str, ngay: str) -> None:
    page = await browser.get(f"{path}?ngay={ngay}")
    assert page.status == 400
    word = "register.not_yet" if ngay.startswith("9999") else "register.no_day"
    assert WORDS[word] in page.words
    assert 'name="ngay"' in page.text


async def test_reads_are_logged_first_or_nothing_is_shown(browser: Browser, owner: Any) -> None:
    code = (await received(browser)).rpartition("/")[2]
    await owner.execute("DELETE FROM personal_read")
    for path in ("/quay/so", "/quay/so.csv", "/quay/so.pdf"):
        assert (await browser.http.get(browser.url + path)).status == 200
    reads = await owner.fetch("SELECT reader, client, code, screen FROM personal_read")
    assert [tuple(each) for each in reads] == [("local|binh", "desk", code, "register")] * 3
    await owner.execute("REVOKE INSERT ON personal_read FROM hoso24_writer")
    for path in ("/quay/so", "/quay/so.csv", "/quay/so.pdf"):
        page = await browser.get(path)
        assert (page.status, NAME in page.text, code in page.text) == (503, False, False)


async def test_as_csv_it_has_the_columns_of_the_form_and_no_formula(browser: Browser) -> None:
    name = '=HYPERLINK("https://x.example","An")'
    at = await received(browser, result_by="post", name=name, address="Số 1,\tphố Mẫu (ví dụ)")
    async with browser.http.get(f"{browser.url}/quay/so.csv") as response:
        body = await response.read()
        assert response.headers["Content-Disposition"].startswith("attachment; filename=")
        assert (response.content_type, response.charset) == ("text/csv", "utf-8")
    assert body.startswith(b"\xef\xbb\xbf")
    assert body.count(b"\r\n") == body.count(b"\n") == 2
    head, row = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""))
    assert head == list(CAPTIONS)
    told = dict(zip(head, row, strict=True))
    assert told["Mã hồ sơ"] == at.rpartition("/")[2]
    assert told["Tên cá nhân, tổ chức"] == f"'{name}"
    assert told["Địa chỉ, số điện thoại"] == "Số 1, phố Mẫu (ví dụ), 0900000118"
    assert told["Phương thức nhận kết quả"] == WORDS["result_by.post"]


@pytest.mark.parametrize("name", ["=1+1", "+84", "-2", "@SUM(A1)", "\t=1", "\r=1"])
def test_cells_that_begin_as_formulas_do_are_texts(name: str) -> None:
    at = datetime(2026, 11, 30, 2, 41, tzinfo=UTC)
    row = {
        "code": "G99.01.01-261130-0147",
        **dict.fromkeys(("applicant_id", "applicant_address", "applicant_phone", "returned_at", "result_by")),
        "service": "S.004",
        "agency": "G99.01.01",
        "applicant_name": name,
        "received_at": at,
        "due_at": at,
    }
    _, written = csv.reader(io.StringIO(csv_of([row], Catalogue()).decode("utf-8-sig"), newline=""))
    assert written[3] == f"'{name}"
    assert written[6:9] == ["09:41 30/11/2026", "09:41 30/11/2026", ""]


async def test_on_a4_it_is_the_form_of_the_register(browser: Browser) -> None:
    at = await received(browser, address="Số 1 phố Mẫu (ví dụ)")
    async with browser.http.get(f"{browser.url}/quay/so.pdf") as response:
        assert (response.status, response.content_type) == (200, "application/pdf")
        content, printing = attached(await response.read())
    assert at.rpartition("/")[2] in content
    assert "Số 1 phố Mẫu (ví dụ), 0900000118" in content
    assert NUMBER not in content
    assert (printing.key, printing.stamp) == (None, None)


async def test_a_day_with_too_many_is_cut_off_and_says_so(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = [await received(browser) for _ in range(3)]
    monkeypatch.setattr(register, "ROWS", 2)
    page = await browser.get("/quay/so")
    assert [at.rpartition("/")[2] in page.text for at in addresses] == [True, True, False]
    assert WORDS["register.more"].format(most=2) in page.words
    assert totals(page)["received"] == 3
    async with browser.http.get(f"{browser.url}/quay/so.csv") as response:
        assert (await response.read()).count(b"\r\n") == 3


async def test_its_index_is_used(owner: Any) -> None:
    await owner.execute("SET enable_seqscan = off")
    for statement, more in ((register.ACCEPTED, [10]), (register.TOTALS, [])):
        day = datetime.now(UTC)
        plan = await owner.fetch(f"EXPLAIN {statement}", ["G99.01.01"], day, day, *more)
        assert any("event_of_a_day" in line[0] for line in plan), plan


def test_days_of_a_register() -> None:
    assert day_in(None, TODAY) == day_in("", TODAY) == TODAY
    assert day_in("2026-11-30", TODAY) == date(2026, 11, 30)
    with pytest.raises(NoDay):
        day_in("2026-12-02", TODAY)
