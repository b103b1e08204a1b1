"""The desk in a real browser: a day of a made-up office without a mouse, and every page as axe reads it."""

import json
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from intake.desk.words import WORDS
from ops.local.reaper import Reaper
from tests.browser import Browser, chromium, tab
from tests.conftest import Database
from tests.desk import add_officer, desk_running, desk_settings, new_link
from tests.house import AGENCY, House, paper_files
from tests.lookup.test_accessibility import assert_readable
from tests.lookup.test_walk import Reader
from tests.programs import npm_packages

OTHER = "G99.02"


@pytest.fixture(scope="module")
def devtools(reaper: Reaper) -> Iterator[str]:
    with chromium(reaper) as listening:
        yield listening


@pytest.fixture
async def url(database: Database) -> AsyncIterator[str]:
    await add_officer(database, "head", name="Phạm Thị Lan (hư cấu)", roles=["counter", "head"])
    await add_officer(database, "other", name="Võ Minh (hư cấu)", agency=OTHER, roles=["specialist"])
    async with desk_running(desk_settings(database, **paper_files())) as desk:
        yield f"http://127.0.0.1:{desk.port}"


FOCUS = """
(name, text) => {
  const form = document.activeElement.closest("form") ?? document.querySelector("main form");
  const field = form.elements[name];
  field.focus();
  const typed = field.tagName !== "SELECT" && field.type !== "datetime-local";
  if (!typed) field.value = text;
  return typed;
}
"""
"""Focuses a field; of one that is not typed into it sets the value. Whether it is typed into."""


class Officer(Reader):
    """An officer at a keyboard."""

    def __init__(self, browser: Browser, url: str) -> None:
        super().__init__(browser)
        self.url = url

    async def sign_in(self, database: Database, subject: str = "head") -> None:
        await self.browser.open(f"{self.url}/dang-nhap/lien-ket?k={await new_link(database, subject)}")
        await self.browser.press("button.main")

    async def key(self, name: str) -> None:
        """A key of the desk's own, where the page stays."""
        code = 111 + int(name[1:]) if name.startswith("F") else ord(name)
        await self.press((name, code, "", 0))

    async def go(self, name: str) -> None:
        """The same, where it leads to another page."""
        await self.key(name)
        await self.browser.loaded()

    async def fill(self, **fields: str) -> None:
        """Type into the fields of the form in which the focus is, or of the page's."""
        for name, text in fields.items():
            if await self.browser.run(f"({FOCUS})({json.dumps(name)}, {json.dumps(text)})"):
                await self.type(text)

    async def act(self, letter: str, **fields: str) -> str:
        """Open an action by its letter, fill it in and send it by Enter on its button; the page's state then."""
        await self.key(letter)
        await self.fill(**fields)
        await self.browser.run("document.activeElement.closest('form').querySelector('button').focus()")
        await self.go_on()
        return await self.state()

    async def state(self) -> str:
        said: str = await self.browser.run("document.querySelector('.state, [role=alert]').innerText")
        return said

    async def text(self) -> str:
        said: str = await self.browser.run("document.querySelector('main').innerText")
        return said


async def receive(officer: Officer, name: str, **fields: str) -> str:
    """F2, the service, the form, Enter; the code of the new dossier."""
    await officer.go("F2")
    await officer.type("S.004")
    await officer.go_on()
    await officer.fill(name=name, id="079000000742", **fields)
    await officer.go_on()
    code: str = await officer.browser.run("document.querySelector('.good .code').innerText")
    return code


async def test_a_day_of_an_office_without_a_mouse(
    url: str, database: Database, house: House, devtools: str, owner: Any
) -> None:
    online = (await house.receive(channel="online", agency=AGENCY))["code"]
    async with tab(devtools) as browser:
        await browser.be(width=1366, scheme="light")
        officer = Officer(browser, url)
        await officer.sign_in(database)
        # An online submission is accepted: the first row, by its keys.
        await officer.key("J")
        await officer.go_on()
        assert online in await browser.run("document.title")
        await officer.go("N")
        assert WORDS["status.received"] in await officer.state()
        # At the counter: a code, its receipt in focus, and the next form by F2.
        code = await receive(officer, "Nguyễn Thị Ánh Tuyết (hư cấu)", phone="0900000742")
        assert (await officer.focus()).startswith(f"link {WORDS['dossier.print']}: {WORDS['paper.receipt']}")
        late = await receive(officer, "Lê Văn An (hư cấu)")
        refused = await receive(officer, "Trần Thị Hoa (hư cấu)")
        # A wrong name is corrected, and the new receipt printed.
        done = await officer.act("S", name="Trần Thị Hòa (hư cấu)", reason="Ghi nhầm dấu (ví dụ).")
        assert WORDS["status.received"] in done
        assert "Trần Thị Hòa (hư cấu)" in await officer.text()
        # Refusal as an outcome.
        assert WORDS["status.processing"] in await officer.act("C", department="Phòng Chế độ (ví dụ)")
        await officer.key("X")
        await browser.run("document.querySelector('[value=refused]').click()")
        await officer.fill(note="Không đủ điều kiện (ví dụ).")
        await browser.run("document.activeElement.closest('form').querySelector('button').focus()")
        await officer.go_on()
        assert WORDS["outcome.refused"] in await officer.state()
        await officer.go("T")
        assert WORDS["status.returned"] in await officer.state()
        # A supplement, and the work goes on; a second one asks for its reason.
        await browser.open(f"{url}/quay/ho-so/{code}")
        told = {"note": "Thiếu (ví dụ).", "items": "Sổ BHXH (ví dụ)"}
        assert WORDS["status.supplement_required"] in await officer.act("B", **told)
        assert WORDS["status.processing"] in await officer.act("G")
        assert "chỉ yêu cầu bổ sung 1 lần" in await officer.act("B", **told)
        # An apology with a new date.
        await browser.open(f"{url}/quay/ho-so/{late}")
        moved = await officer.act("L", due_at="2027-03-31T16:00", reason="Chờ xác minh (ví dụ).")
        assert "16:00 thứ Tư 31/03/2027" in moved
        # To another province and back.
        await officer.act("C")
        await officer.act("V", agency=OTHER, work="Xác minh quá trình (ví dụ)")
        await officer.sign_in(database, "other")
        await officer.key("J")
        await officer.go_on()
        await browser.press("form[action$='/done'] button")
        assert WORDS["task.state.done"] in await officer.text()
        await officer.sign_in(database)
        await browser.open(f"{url}/quay/ho-so/{late}")
        assert WORDS["status.completed"] in await officer.act("X")
        await officer.go("T")
        # The day's register has them all.
        await browser.press("nav a[href='/quay/so']")
        register = await officer.text()
        assert all(each in register for each in (online, code, late, refused))
    told_now = {row["code"]: row["status"] for row in await owner.fetch("SELECT code, status FROM dossier")}
    assert told_now == {online: 2, code: 4, late: 10, refused: 10}
    forms = await owner.fetch("SELECT form, count(*) AS n FROM paper GROUP BY form")
    assert {row["form"]: row["n"] for row in forms} == {"receipt": 5, "supplement": 1, "apology": 1}


async def test_keys_can_be_turned_off_and_every_page_works_without_script(
    url: str, database: Database, devtools: str, owner: Any
) -> None:
    async with tab(devtools) as browser:
        officer = Officer(browser, url)
        await officer.sign_in(database)
        code = await receive(officer, "Lê Văn An (hư cấu)")
        await browser.run("document.querySelector('#keys').click()")
        await officer.key("B")
        assert await browser.run("document.querySelectorAll('details.action[open]').length") == 0
        await officer.go("F1")
        await browser.tell("Emulation.setScriptExecutionDisabled", value=True)
        await browser.open(f"{url}/quay/ho-so/{code}")
        await browser.press("form[action$='/lam/control'] button")
        assert WORDS["paper.control"] in await officer.text()


async def test_no_page_breaks_a_rule_of_axe(
    url: str, database: Database, devtools: str, house: House, owner: Any
) -> None:
    axe = (npm_packages("pages") / "axe-core/axe.min.js").read_text("utf-8")
    async with tab(devtools) as browser:
        await assert_readable(browser, axe, f"{url}/dang-nhap")
        officer = Officer(browser, url)
        await officer.sign_in(database)
        code = await receive(officer, "A" * 290)
        await officer.act("V", agency=OTHER, work="Xác minh <b>quá</b> trình (ví dụ)")
        for path in ("/quay", "/quay/nhan", "/quay/nhan/S.004", f"/quay/ho-so/{code}", "/quay/ho-so/nowhere"):
            await assert_readable(browser, axe, url + path)
        await owner.execute("UPDATE task SET due_at = now() - interval '1 hour' WHERE state = 'open'")
        for path in ("/quay/so", "/quay/so?ngay=x", "/quay/ban-giao", "/quay/don-vi"):
            await assert_readable(browser, axe, url + path)
        await browser.open(f"{url}/quay/ban-giao")
        await browser.run("document.querySelector('[name=chosen]').checked = true")
        await browser.run("document.querySelector('[name=department]').value = 'Phòng Chế độ (ví dụ)'")
        await browser.press("form[action='/quay/ban-giao'] button")
        assert WORDS["hand_over.done"] in await officer.text()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_page_on_another_port_or_host_cannot_send_a_form(
    url: str, database: Database, devtools: str, owner: Any, host: str
) -> None:
    """Lax cookies let the other port in; the browser says where the form came from."""
    fields = "".join(
        f'<input name="{name}" value="{value}">'
        for name, value in {"do": "receive", "name": "Kẻ Gian (hư cấu)", "once": str(uuid.uuid4())}.items()
    )
    text = f'<!doctype html><form method="post" action="{url}/quay/nhan/S.004">{fields}<button>x</button></form>'

    async def lure(_: web.Request) -> web.Response:
        return web.Response(text=text, content_type="text/html")

    app = web.Application()
    app.add_routes([web.get("/", lure)])
    async with TestServer(app) as server, tab(devtools) as browser:
        officer = Officer(browser, url)
        await officer.sign_in(database)
        await browser.open(f"http://{host}:{server.port}/")
        await browser.press("button")
        assert "không được gửi từ trang của hệ thống" in await officer.text()
        await browser.open(f"{url}/quay")
        assert WORDS["inbox.empty"] in await officer.text()
    assert await owner.fetchval("SELECT count(*) FROM dossier") == 0
