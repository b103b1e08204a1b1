"""Officers at a desk: they sign in, look at what is to be done, receive at the counter and move dossiers on by forms.

A form that gets no answer is sent again as it is: its once-key makes it one.
"""

import asyncio
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from http.cookies import SimpleCookie
from urllib.parse import urlencode

from loadtests.answers import Answer
from loadtests.codes import Dossier
from loadtests.gameday.expected import UNKNOWN, ExpectedChange
from loadtests.gameday.offices import PAUSE, DayOffice, repeated
from loadtests.gameday.record import Seen
from loadtests.system.http_client import Client, NoAnswer, Rotation, request

IN_HAND = 2
"""Dossiers an officer is working on."""
WAY = (("process", "processing"), ("complete", "completed"), ("give", "returned"))
"""Action of the dossier's page → the status it leads to, in their order."""
INBOX, FORM, LINK = "/quay", "/quay/nhan/S.004", "/dang-nhap/lien-ket"
_CODE = re.compile(r"/quay/ho-so/([^?]+)")
_OURS = {"Sec-Fetch-Site": "same-origin", "Content-Type": "application/x-www-form-urlencoded"}


class Officer:
    """One officer. `desks` are the processes' ports; `link` makes the secret of a one-time link."""

    def __init__(self, office: DayOffice, desks: Rotation, link: Callable[[], Awaitable[str]]) -> None:
        self._office, self._town, self._desks, self._link = office, office.town, desks, link
        self._cookie = ""
        self._hand: list[str] = []

    async def work(self, every: float) -> None:
        """One form after so many seconds, and so on, until cancelled; none once the office closes."""
        while True:
            await asyncio.sleep(every)
            await self._office.gate.until_open()
            if self._office.closing:
                return
            with self._office.gate.passed():
                await self.turn()

    async def turn(self) -> str:
        """Look at the inbox, and receive a dossier or move one on: good, refused (in the end), unavailable or wrong."""
        expected, once = self._town.expected, str(uuid.uuid4())
        self._hand = [code for code in self._hand if expected.current(code)]  # the others have been lost
        if len(self._hand) < IN_HAND:
            change, path, fields = expected.submit(once), FORM, {"do": "receive", "name": "Nguyễn Văn Mẫu (hư cấu)"}
        else:
            code = self._hand.pop(0)
            version = expected.current(code)
            action, status = WAY[version - 1]
            change, path = expected.move(once, code, status), f"/quay/ho-so/{code}/lam/{action}"
            fields = {"version": str(version)}
        began = time.monotonic()
        with Client(self._desks) as client:
            outcome, why = await repeated(lambda: self._attempt(client, change, path, fields | {"once": once}), PAUSE)
        self._town.record.note(Seen(began, time.monotonic() - began, "desk", outcome, why, str(client.port)))
        if expected.current(change.code) == change.version:
            self._town.changing.append(change.code)
            if change.version == 1:
                self._town.shelf.put(Dossier(change.code, "", change.status, 1))
            if change.version <= len(WAY):
                self._hand.append(change.code)
        return outcome

    async def _attempt(
        self, client: Client, change: ExpectedChange, path: str, fields: Mapping[str, str]
    ) -> tuple[str, str]:
        """good, again or wrong; and why."""
        try:
            inbox = await self._ask(client, "GET", INBOX)
            if inbox.status == 303:
                await self._sign_in(client)
                return "again", "signed out"
            answer = await self._ask(client, "POST", path, fields)
        except NoAnswer as none:
            return "again", str(none)
        if answer.status != 303:
            return ("again" if answer.status in (401, 409, 502, 503, 504) else "wrong"), f"answered {answer.status}"
        found = _CODE.match(answer.headers.get("location", ""))
        if found is None:
            return "again", "signed out"
        told = {"code": found[1], "version": change.version, "status": change.status or "received", "due_at": None}
        wrong = self._town.expected.acknowledge(change, told)
        change.due_at = UNKNOWN
        return ("wrong", wrong) if wrong else ("good", "")

    async def _sign_in(self, client: Client) -> None:
        """By a new link. Raises NoAnswer."""
        self._cookie = ""
        answer = await self._ask(client, "POST", LINK, {"k": await self._link()})
        told = SimpleCookie(answer.headers.get("set-cookie", ""))
        self._cookie = "; ".join(f"{name}={morsel.value}" for name, morsel in told.items() if morsel.value)

    async def _ask(self, client: Client, method: str, path: str, fields: Mapping[str, str] | None = None) -> Answer:
        headers = {"Cookie": self._cookie} if self._cookie else {}
        if fields is None:
            return await client.ask_any(request(method, path, headers))
        return await client.ask_any(request(method, path, headers | _OURS, urlencode(fields).encode()))
