"""A desk in the test process, with officers in its database and browsers that are signed in."""

import contextlib
import dataclasses
import re
from collections.abc import AsyncIterator, Sequence
from html import unescape
from typing import Any

import aiohttp
import asyncpg
from yarl import URL

from intake.desk import app as desk_app
from intake.desk import sessions
from intake.settings import DeskSettings
from ops.http import server
from ops.settings import Secret
from tests.conftest import KEY_SECRETS, SEAL_KEYS, Database
from tests.house import AGENCY, PATIENT_INTAKE, SERVICE

NAME, NUMBER = "Lê Văn An (hư cấu)", "079000000118"
"""Of the applicant that `received` writes down."""

ADD_OFFICER = """
INSERT INTO officer (issuer, subject, name, agency, roles)
VALUES ($1, $2, $3, $4, $5)
"""

ADD_CLIENT = """
INSERT INTO client (id, name, agency, actions)
SELECT 'desk', 'Bộ phận Một cửa', min(code), '{read}'
  FROM agency
 WHERE parent IS NULL AND NOT sandbox
ON CONFLICT DO NOTHING
"""


def desk_settings(database: Database, **changes: Any) -> DeskSettings:
    """A desk's settings, patient ones unless changed."""
    return dataclasses.replace(
        DeskSettings(
            pg_url=Secret(database.desk_url),
            lookup_key_secrets=Secret(KEY_SECRETS),
            seal_keys=Secret(SEAL_KEYS),
            host="127.0.0.1",
        ),
        **PATIENT_INTAKE | changes,
    )


@dataclasses.dataclass(frozen=True)
class Page:
    """An answer of the desk."""

    status: int
    text: str
    headers: Any
    url: URL

    @property
    def words(self) -> str:
        """What is read: without tags, blanks in a row as one."""
        return " ".join(unescape(re.sub(r"<[^>]+>", " ", self.text)).split())

    def fields(self, action: str = "") -> dict[str, str]:
        """The hidden fields of the form with this action, of the first one that sends by POST by default."""
        for form in re.findall(r"<form[^>]*method=\"post\"[^>]*>.*?</form>", self.text, re.DOTALL):
            if f'action="{action}' in form and (action or "/dang-xuat" not in form):
                found = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', form)
                return {unescape(name): unescape(value) for name, value in found}
        raise AssertionError(f"no form with the action {action!r} in {self.text}")


class Browser:
    """A browser of one officer: keeps cookies, follows redirects, and says what a browser says of its forms."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self.url = url
        self.http = http

    async def get(self, path: str, **headers: str) -> Page:
        """The page there."""
        return await self._send("GET", path, headers=headers)

    async def post(self, path: str, fields: Any = (), **headers: str) -> Page:
        """What comes of sending a form there from a page of the desk."""
        given = {"Sec-Fetch-Site": "same-origin"} | headers
        return await self._send("POST", path, data=aiohttp.FormData(fields or {"": ""}), headers=given)

    async def _send(self, method: str, path: str, **options: Any) -> Page:
        async with self.http.request(method, URL(self.url + path, encoded=True), **options) as response:
            return Page(response.status, await response.text(), response.headers, response.url)


async def add_officer(
    database: Database,
    subject: str = "binh",
    *,
    name: str = "Trần Văn Bình (hư cấu)",
    agency: str = AGENCY,
    roles: Sequence[str] = ("counter",),
    issuer: str = "local",
) -> None:
    """An officer, and the client of all desks."""
    connection = await asyncpg.connect(database.owner_url)
    try:
        await connection.execute(ADD_OFFICER, issuer, subject, name, agency, list(roles))
        await connection.execute(ADD_CLIENT)
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def desk_running(settings: DeskSettings) -> AsyncIterator[server.Server]:
    """A desk of these settings on free ports."""
    started = await server.start(await desk_app.build(settings), service="desk", port=0, admin_port=0)
    try:
        yield started
    finally:
        await started.stop()


@contextlib.asynccontextmanager
async def browser_at(url: str) -> AsyncIterator[Browser]:
    """A browser without cookies."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        yield Browser(url, http)


@contextlib.asynccontextmanager
async def signed_in(url: str, database: Database, subject: str = "binh") -> AsyncIterator[Browser]:
    """A browser in which this local officer is signed in by a one-time link."""
    async with browser_at(url) as browser:
        await use_link(browser, await new_link(database, subject))
        yield browser


async def new_link(database: Database, subject: str = "binh") -> str:
    """The secret of a one-time link, made as `hoso24 desk link` makes it."""
    connection = await asyncpg.connect(database.desk_url)
    try:
        link = await sessions.make_link(connection, subject)
    finally:
        await connection.close()
    assert link is not None
    return link


async def use_link(browser: Browser, link: str) -> Page:
    """Press the button of a one-time link's page; the page it leads to."""
    return await browser.post("/dang-nhap/lien-ket", (await browser.get(f"/dang-nhap/lien-ket?k={link}")).fields())


async def received(browser: Browser, **changes: Any) -> str:
    """The address of a new dossier's page, of what the counter received."""
    form = f"/quay/nhan/{SERVICE}"
    filled = {"do": "receive", "case": "default", "name": NAME, "id": NUMBER, "phone": "0900000118"}
    page = await browser.post(form, (await browser.get(form)).fields(form) | filled | changes)
    assert page.status == 200, page.words
    return str(page.url.path)


async def act(browser: Browser, at: str, action: str, **fields: str) -> Page:
    """Open a dossier's page, and send one of its forms."""
    to = f"{at}/lam/{action}"
    page = await browser.post(to, (await browser.get(at)).fields(to) | fields)
    assert page.status == 200, page.words
    return page
