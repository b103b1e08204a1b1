"""Desks: they take dossiers in and move them on, one thing after the other, and repeat a change under its key until
they know what became of it.
"""

import asyncio
import contextlib
import json
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any, Self

from loadtests.answers import ACCEPTING, Answer, Failure
from loadtests.codes import Dossier, address
from loadtests.gameday.citizens import Pace, Town
from loadtests.gameday.expected import ExpectedChange
from loadtests.gameday.record import Seen
from loadtests.system.http_client import Client, NoAnswer, Rotation, request
from loadtests.target import submission, transition

IN_HAND = 15
"""Dossiers each desk is working on."""
ENOUGH_VERSIONS = 40
"""From then on a dossier is left as it is."""
SUBMISSIONS = 0.35
"""Share of changes that are new dossiers."""
FINAL = 0.04
"""Share of moves that may end a dossier."""
PAUSE = 0.25
"""Seconds between two repeats of a change."""
GIVE_UP = 300.0
"""Seconds after which a change is not repeated any more."""
REMEMBERED = 300
"""Changes whose requests and answers are kept, so that they can be sent once more."""


class NotTaken(Exception):
    """A change was not acknowledged; one sentence."""


class Gate:
    """What all changes pass through, so that they can be held."""

    def __init__(self) -> None:
        self._open, self._empty = asyncio.Event(), asyncio.Event()
        self._open.set()
        self._empty.set()
        self._inside = 0

    async def until_open(self) -> None:
        """Return when changes may be made."""
        await self._open.wait()

    @contextlib.contextmanager
    def passed(self) -> Iterator[None]:
        """A change is under way for as long as the block runs."""
        self._inside += 1
        self._empty.clear()
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                self._empty.set()

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Desks begin nothing for as long as the block runs; what was under way is waited for before."""
        self._open.clear()
        try:
            await self._empty.wait()
            yield
        finally:
            self._open.set()


class DayOffice:
    """What all desks share: the way in, a gate, and what they were answered last."""

    def __init__(self, rotation: Rotation, token: str, town: Town) -> None:
        self.rotation, self.token, self.town = rotation, token, town
        self.gate = Gate()
        self.answered = deque[tuple[bytes, bytes]](maxlen=REMEMBERED)
        """Requests and the bodies they were acknowledged with, newest last."""
        self.closing = False
        """Set when desks are to end what they are doing, and begin nothing else."""


class Desk:
    """One desk with one connection, for as long as a block runs. What it has given up is left as it is."""

    def __init__(self, office: DayOffice) -> None:
        self._office, self._town = office, office.town
        self._client = Client(office.rotation)
        self._hand: list[str] = []

    async def work(self, pace: Pace) -> None:
        """Until the office closes."""
        with self:
            while not self._office.closing:
                await pace.turn()
                await self._office.gate.until_open()
                with contextlib.suppress(NotTaken):
                    await self._do_something()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.hang_up()

    async def submit(self) -> str:
        """A new dossier; its code. Raises NotTaken."""
        change = self._town.expected.submit(str(uuid.uuid4()))
        await self._hand_in("submit", change, "/api/v1/dossiers", submission())
        self._town.shelf.put(Dossier(change.code, "", change.status, 1))
        return change.code

    async def move(self, code: str) -> int:
        """One move of a dossier that no other desk moves; the version it made. Raises NotTaken."""
        try:
            change = self._town.expected.move(str(uuid.uuid4()), code, self._way_on(code))
        except (KeyError, ValueError) as cannot:
            raise NotTaken(str(cannot)) from None
        content = transition(change.status, change.version - 1)
        await self._hand_in("move", change, f"/api/v1/dossiers/{address(code)}/transitions", content)
        self._town.changing.append(code)
        return change.version

    async def is_answered_again(self, sent: bytes, first: bytes) -> bool:
        """Whether a repeat of an acknowledged change is answered as the first time."""
        try:
            answer = await self._client.ask_any(sent)
        except NoAnswer:
            return False
        return answer.status in (200, 201) and bool(json.loads(answer.body) == json.loads(first))

    async def _do_something(self) -> None:
        self._hand = [code for code in self._hand if self._town.expected.current(code)]  # the others have been lost
        if not self._hand or (len(self._hand) < IN_HAND and self._town.chance.random() < SUBMISSIONS):
            self._hand.append(await self.submit())
            return
        code = self._hand.pop(self._town.chance.randrange(len(self._hand)))
        await self.move(code)
        full = len(self._hand) + 1 == IN_HAND and self._town.chance.random() < SUBMISSIONS
        if not (full or self._at_its_end(code)):
            self._hand.append(code)

    def _at_its_end(self, code: str) -> bool:
        return (
            self._town.expected.current(code) >= ENOUGH_VERSIONS
            or self._town.expected.statuses[self._town.expected.status(code)].final
        )

    def _way_on(self, code: str) -> str:
        """A status that may follow. Raises KeyError or ValueError when there is none."""
        statuses = self._town.expected.statuses
        passed = self._town.expected.passed(code)
        ways = statuses[passed[-1]].ways_on(accepted=not {*ACCEPTING}.isdisjoint(passed))
        if self._town.chance.random() >= FINAL:
            ways = [way for way in ways if not statuses[way].final] or ways
        if not ways:
            raise ValueError(f"{code} is at its end")
        return self._town.chance.choice(ways)

    async def _hand_in(self, kind: str, change: ExpectedChange, path: str, content: Mapping[str, Any]) -> None:
        """Until it is acknowledged, under its key. Raises NotTaken."""
        headers = {"Authorization": f"Bearer {self._office.token}", "Idempotency-Key": change.key}
        sent = request("POST", path, headers, json.dumps(content).encode())
        began = time.monotonic()
        with self._office.gate.passed():
            outcome, why = await repeated(lambda: self._attempt(change, sent), PAUSE)
        process = str(self._client.port)
        self._town.record.note(Seen(began, time.monotonic() - began, kind, outcome, why, process))
        if outcome not in ("good", "refused"):
            raise NotTaken(why)

    async def _attempt(self, change: ExpectedChange, sent: bytes) -> tuple[str, str]:
        """good, again or wrong; and why."""
        try:
            answer = await self._client.ask_any(sent)
        except NoAnswer as none:
            return "again", str(none)
        if answer.status in (200, 201):
            try:
                wrong = self._town.expected.acknowledge(change, answer.json())
            except (Failure, ValueError, LookupError, TypeError) as error:
                wrong = f"an acknowledgement that cannot be read ({error!r})"
            if wrong:
                return "wrong", wrong
            self._office.answered.append((sent, answer.body))
            return "good", ""
        word = _word(answer)
        why = f"answered {answer.status} {word}".strip()
        return ("again" if answer.status in (429, 502, 503, 504) or word == "still_running" else "wrong"), why


async def repeated(attempt: Callable[[], Awaitable[tuple[str, str]]], pause: float) -> tuple[str, str]:
    """What becomes of a change that is attempted again after so many seconds for as long as that is said of it: good,
    refused (taken in the end), unavailable (given up) or wrong; and why, the first reason there was.
    """
    began, first = time.monotonic(), ""
    while True:
        outcome, why = await attempt()
        if outcome == "wrong":
            return outcome, why
        if outcome == "good":
            return ("refused", first) if first else (outcome, "")
        first = first or why
        if time.monotonic() - began > GIVE_UP:
            return "unavailable", first
        await asyncio.sleep(pause)


def _word(answer: Answer) -> str:
    """What a refusal calls itself."""
    with contextlib.suppress(Failure, ValueError, AttributeError):
        return str(answer.json().get("code", ""))
    return ""
