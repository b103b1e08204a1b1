"""What a desk finds applicants by: written by every way in, found by what officers type, in their own scope only."""

import unicodedata
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intake.desk import search
from intake.rules.folding import folded, tail
from tests.conftest import Database
from tests.desk import Browser, add_officer, desk_running, desk_settings, signed_in
from tests.house import House, remove

NAME = "Nguyễn Thị Ánh Đào (hư cấu)"
NUMBER = "00001-2026-99901"
PERSON = {"name": NAME, "id": "079000000742", "phone": "0900 000 118"}


@pytest.fixture
async def url(database: Database) -> AsyncIterator[str]:
    await add_officer(database)
    await add_officer(database, "province", agency="G99.01", roles=["head"])
    await add_officer(database, "stranger", agency="G99.02.01", roles=["counter"])
    async with desk_running(desk_settings(database)) as desk:
        yield f"http://127.0.0.1:{desk.port}"


@pytest.fixture
async def browser(url: str, database: Database) -> AsyncIterator[Browser]:
    async with signed_in(url, database) as browser:
        yield browser


async def agree(owner: Any) -> None:
    """Every dossier's row is what its applicant makes it."""
    for row in await owner.fetch(
        "SELECT d.*, s.code AS found, s.agency AS by, s.submitted_at AS at, s.folded, s.id_tail, s.phone_tail"
        " FROM dossier AS d LEFT JOIN applicant_search AS s USING (code)"
    ):
        assert (row["found"], row["by"], row["at"]) == (row["code"], row["origin"], row["submitted_at"])
        assert row["folded"] == folded(row["applicant_name"])
        assert (row["id_tail"], row["phone_tail"]) == (tail(row["applicant_id"]), tail(row["applicant_phone"]))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (NAME, "nguyen thi anh dao hu cau"),
        (unicodedata.normalize("NFD", NAME), "nguyen thi anh dao hu cau"),
        ("ĐẶNG  Văn\tỨng", "dang van ung"),
        ("Công ty TNHH A&B", "cong ty tnhh a b"),
        ("Ngô", "ngo"),
        ("Иван", ""),
        (None, ""),
        ("\u0301\u0302", ""),
    ],
)
def test_names_are_compared_without_marks(name: str | None, found: str) -> None:
    assert folded(name) == found


@given(st.text(max_size=400))
def test_whatever_is_typed_folds_to_plain_letters_once_and_for_all(text: str) -> None:
    once = folded(text)
    assert set(once) <= set("abcdefghijklmnopqrstuvwxyz0123456789 ")
    assert folded(once) == once
    assert len(once) <= 300
    statement, patterns = search.what_is_meant(text)
    assert all(set(each) <= set("abcdefghijklmnopqrstuvwxyz0123456789 %") for each in patterns)
    assert statement in (search.BY_NAME, search.BY_END)


@pytest.mark.parametrize(
    ("text", "patterns"),
    [
        ("742", ["247%"]),
        ("0900 000 118", ["8110000090%"]),
        ("42", []),
        ("0" * 13, []),
        ("tuyet an", ["% tuyet%", "% an%"]),
        ("Ánh Đ", ["% anh%"]),
        ("%_\\", []),
        ("", []),
        ("   ", []),
    ],
)
def test_what_is_meant(text: str, patterns: list[str]) -> None:
    assert search.what_is_meant(text)[1] == patterns


async def test_every_way_in_writes_what_it_is_found_by(house: House, owner: Any) -> None:
    code = (await house.receive(applicant=PERSON))["code"]
    await agree(owner)
    path = f"/api/v1/dossiers/{code}/corrections"
    for applicant in ({"name": "Đào Thị Ánh (hư cấu)"}, {"id": None, "phone": "0900000119"}):
        status, answer = await house.hand_in("POST", path, {"applicant": applicant, "reason": "Ghi nhầm (ví dụ)."})
        assert status == 200, answer
        await agree(owner)
    assert await owner.fetchval("SELECT folded FROM applicant_search") == "dao thi anh hu cau"
    assert await owner.fetchval("SELECT id_tail FROM applicant_search") is None


@pytest.mark.parametrize(
    "typed",
    ["Ánh Đào", "anh dao", "ĐÀO nguyễn", "742", "079000000742", "0900000118", "118", "Nguyen thi"],
)
async def test_officers_find_by_name_and_end(house: House, browser: Browser, owner: Any, typed: str) -> None:
    code = (await house.receive(applicant=PERSON))["code"]
    await house.receive(applicant={"name": "Lê Văn An (hư cấu)", "id": "079000000999"})
    page = await browser.get(f"/quay/tim?q={quote(typed)}")
    assert (page.status, page.text.count("data-row")) == (200, 1)
    assert f"{NAME} ·742" in page.words
    assert code in page.words
    read = await owner.fetchrow("SELECT reader, code, screen FROM personal_read")
    assert tuple(read) == ("local|binh", code, "search")


@pytest.mark.parametrize(
    "typed", ["{code}", "http://x.example/tra-cuu/{code}?key=ABC", "Mã hồ sơ: {code}.", "{lower}", "{number}"]
)
async def test_a_code_or_number_anywhere_leads_to_its_dossier(house: House, browser: Browser, typed: str) -> None:
    code = (await house.receive(applicant=PERSON))["code"]
    status, _ = await house.hand_in("PUT", f"/api/v1/dossiers/{code}/official-number", {"number": "1/2026/99901"})
    assert status == 200
    page = await browser.get(f"/quay/tim?q={quote(typed.format(code=code, lower=code.lower(), number=NUMBER))}")
    assert (page.status, page.url.path) == (200, f"/quay/ho-so/{code}")


async def test_the_scope_is_the_officers_own(house: House, url: str, database: Database) -> None:
    code = (await house.receive(applicant=PERSON))["code"]
    await house.hand_in("PUT", f"/api/v1/dossiers/{code}/official-number", {"number": "1/2026/99901"})
    async with signed_in(url, database, "province") as above, signed_in(url, database, "stranger") as stranger:
        assert code in (await above.get("/quay/tim?q=anh+dao")).words
        for typed in ("anh+dao", "742"):
            assert code not in (await stranger.get(f"/quay/tim?q={typed}")).text
        for typed in (code, NUMBER):
            page = await stranger.get(f"/quay/tim?q={typed}")
            assert (page.status, page.url.path) == (404, f"/quay/ho-so/{typed}")


async def test_restricted_and_removed_dossiers_are_not_found(
    house: House, browser: Browser, owner: Any, writer: Any
) -> None:
    codes = [(await house.receive(applicant=PERSON))["code"] for _ in range(2)]
    await owner.execute("INSERT INTO hold (code, kind, reason, by) VALUES ($1, 'restricted', 'x', 'an')", codes[0])
    await remove(writer, codes[1])
    assert "data-row" not in (await browser.get("/quay/tim?q=anh+dao")).text
    await owner.execute("UPDATE hold SET lifted_at = now()")
    assert codes[0] in (await browser.get("/quay/tim?q=anh+dao")).text


async def test_twenty_are_shown_and_more_are_said(house: House, browser: Browser) -> None:
    for _ in range(search.ROWS + 1):
        await house.receive(applicant=PERSON)
    page = await browser.get("/quay/tim?q=anh+dao")
    assert page.text.count("data-row") == search.ROWS
    assert f"Chỉ hiện {search.ROWS} hồ sơ mới nhất" in page.words


@pytest.mark.parametrize(
    "typed",
    ["", "%25", "_", "%5C", "%00", "%ED%A0%80", "%E2%80%AE", "%CC%81", "a" * 10_000, "'%22%3Cscript%3E", "9" * 500],
)
async def test_whatever_is_typed_finds_nothing_and_breaks_nothing(house: House, browser: Browser, typed: str) -> None:
    await house.receive(applicant=PERSON)
    page = await browser.get(f"/quay/tim?q={typed}")
    assert page.status in (200, 400, 414)
    assert "data-row" not in page.text
    assert "<script>" not in page.text.replace("<script src", "")


async def test_without_the_log_of_reads_nobody_is_shown(house: House, browser: Browser, owner: Any) -> None:
    await house.receive(applicant=PERSON)
    await owner.execute("REVOKE INSERT ON personal_read FROM hoso24_writer")
    page = await browser.get("/quay/tim?q=anh+dao")
    assert (page.status, NAME in page.text) == (503, False)
