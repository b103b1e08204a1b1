"""A business system: about once a second it pushes new dossiers and its next steps of others by POST /api/v1/sync.

What is not acknowledged line by line is sent again, the same body, until all of it is.
"""

import asyncio
import json
import time
import uuid
from collections.abc import Sequence
from typing import Any

from loadtests.codes import Dossier
from loadtests.gameday.expected import ExpectedChange
from loadtests.gameday.offices import PAUSE, DayOffice, repeated
from loadtests.gameday.record import Seen
from loadtests.system.http_client import Client, NoAnswer, request
from loadtests.target import AGENCIES, SERVICES, submission

NEW = 4
"""New dossiers of a body; each has a step in the bodies after it, so that a body has some sixteen lines."""
WAY = ("received", "processing", "completed", "returned")
AGENCY, DAY = AGENCIES[-1], "200229"
"""Of its codes; a day long past, so that they meet no others."""
DONE = frozenset({"created", "applied", "duplicate"})


class Pusher:
    """One such system. Its dossiers are citizens' to ask for, and nobody else moves them."""

    def __init__(self, office: DayOffice) -> None:
        self._office, self._town = office, office.town
        self._hand: list[str] = []
        self._numbers = 0
        """Codes given, and lines sent: what `source_seq` counts."""

    async def go_on(self, every: float) -> None:
        """One body after so many seconds, and so on, until cancelled; none once the office closes."""
        while True:
            await asyncio.sleep(every)
            await self._office.gate.until_open()
            if self._office.closing:
                return
            with self._office.gate.passed():
                await self.push()

    async def push(self) -> str:
        """One body, until all its lines are acknowledged: good, refused (in the end), unavailable or wrong."""
        expected = self._town.expected
        going_on = [code for code in self._hand if expected.current(code)]  # the others have been lost
        changes = [expected.push(str(uuid.uuid4()), self._code(), WAY[0]) for _ in range(NEW)]
        changes += [expected.push(str(uuid.uuid4()), code, WAY[expected.current(code)]) for code in going_on]
        body = b"".join(self._line(change) for change in changes)
        began = time.monotonic()
        with Client(self._office.rotation) as client:
            outcome, why = await repeated(lambda: self._attempt(client, body, changes), PAUSE)
        self._town.record.note(Seen(began, time.monotonic() - began, "push", outcome, why, str(client.port)))
        known = [change for change in changes if expected.current(change.code) == change.version]
        for change in known:
            self._town.changing.append(change.code)
            if change.version == 1:
                self._town.shelf.put(Dossier(change.code, "", change.status, 1))
        self._hand = [change.code for change in known if change.status != WAY[-1]]
        return outcome

    async def _attempt(self, client: Client, body: bytes, changes: Sequence[ExpectedChange]) -> tuple[str, str]:
        """good, again or wrong; and why."""
        headers = {"Authorization": f"Bearer {self._office.token}", "Content-Type": "application/x-ndjson"}
        try:
            answer = await client.ask_any(request("POST", "/api/v1/sync", headers, body))
        except NoAnswer as none:
            return "again", str(none)
        if answer.status != 200:
            return ("again" if answer.status in (409, 429, 502, 503, 504) else "wrong"), f"answered {answer.status}"
        try:
            *lines, end = [json.loads(line) for line in answer.body.splitlines()]
            told = {line["id"]: line for line in lines}
            for change in changes:
                line = told[change.key]
                if line["result"] in DONE:
                    if wrong := self._town.expected.acknowledge_push(change, line):
                        return "wrong", wrong
                elif line["result"] != "not_done":
                    return "wrong", f"a line is {line['result']} ({line.get('code', '')})"
            return ("good", "") if end["complete"] else ("again", "a body was not worked on to its end")
        except (ValueError, LookupError, TypeError) as error:
            return "wrong", f"an answer that cannot be read ({error!r})"

    def _code(self) -> str:
        self._numbers += 1
        return f"{AGENCY}-{DAY}-{self._numbers:06d}"

    def _line(self, change: ExpectedChange) -> bytes:
        self._numbers += 1
        line: dict[str, Any] = {"id": change.key, "dossier": change.code, "source_seq": self._numbers}
        if change.version == 1:
            line["create"] = submission() | {
                "agency": AGENCY,
                "service": SERVICES[3],
                "channel": "direct",
                "submitted_at": "2020-02-29T08:00:00+07:00",
            }
        else:
            line["status"] = change.status
        return json.dumps(line).encode() + b"\n"
