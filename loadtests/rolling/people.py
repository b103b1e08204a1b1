"""Who asks and who hands in while the processes are replaced, and what becomes of it."""

import asyncio
import json
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from loadtests import answers
from loadtests.answers import Answer, Failure, Status
from loadtests.codes import Dossier, Shelf
from loadtests.system.http_client import Client, ClosedBeforeAnyByte, NoAnswer, Rotation, request
from loadtests.target import AGENCIES, SERVICES

AGENCY = AGENCIES[0]
"""All submissions go here, and nobody else hands anything in here, so that its sequence shows what was made."""
REPEATS = 60
PAUSE = 0.25
"""Seconds between two repeats of a submission."""


@dataclass
class Lookups:
    """What became of the lookups."""

    answered: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    asked_twice: int = 0
    during_drain: int = 0
    """Answers that closed their connection: given by a process that was on its way out."""
    longest: float = 0.0

    @property
    def total(self) -> int:
        return self.answered + self.failed.total()


@dataclass
class Change:
    """One request to the intake, under the idempotency key that all its repeats carry."""

    path: str
    body: bytes
    key: str = field(default_factory=lambda: str(uuid.uuid4()))
    answer: dict[str, Any] | None = None


@dataclass
class Changes:
    """What became of the changes. `dossiers` are those acknowledged, with the last version that was."""

    made: list[Change] = field(default_factory=list)
    dossiers: dict[str, int] = field(default_factory=dict)
    repeated: int = 0
    during_drain: int = 0
    unanswered: Counter[str] = field(default_factory=Counter)


class Pace:
    """So many turns a second for all together, however many they are. `rate` may be set meanwhile."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._next = time.monotonic()

    async def turn(self) -> None:
        """Wait for the next turn. Turns that were missed are not made up for."""
        now = time.monotonic()
        self._next = max(self._next + 1 / self.rate, now)
        if self._next > now:
            await asyncio.sleep(self._next - now)


class Citizen:
    """Asks for one dossier after the other, on one connection for as long as that stays open."""

    def __init__(
        self, number: int, rotation: Rotation, shelf: Shelf, statuses: Mapping[str, Status], lookups: Lookups
    ) -> None:
        self._client = Client(rotation)
        # Each is a client of his own to the rate limits, by an address that documentation is for (RFC 5737).
        self._headers = {"X-Forwarded-For": f"198.51.100.{number % 256}"}
        self._shelf = shelf
        self._statuses = statuses
        self._lookups = lookups

    async def ask_on(self, pace: Pace, enough: asyncio.Event) -> None:
        """Until it is enough."""
        try:
            while not enough.is_set():
                await pace.turn()
                await self.ask(self._shelf.pick())
        finally:
            self.leave()

    def leave(self) -> None:
        """Hang up."""
        self._client.hang_up()

    async def ask(self, dossier: Dossier) -> None:
        """One lookup, counted."""
        asked_at = time.monotonic()
        try:
            answer = await self._answer(request("GET", f"/api/v1/dossiers/{dossier.path}", self._headers))
            answers.record(answer, dossier.code, self._statuses)
            self._lookups.answered += 1
            self._lookups.during_drain += _closing(answer)
        except (NoAnswer, Failure, ValueError) as wrong:  # a ValueError for what is no JSON
            self._lookups.failed[f"{wrong} {getattr(wrong, 'detail', '')}".strip()] += 1
        self._lookups.longest = max(self._lookups.longest, time.monotonic() - asked_at)

    async def _answer(self, sent: bytes) -> Answer:
        try:
            return await self._client.ask(sent)
        except ClosedBeforeAnyByte:
            self._lookups.asked_twice += 1
            return await self._client.ask(sent)


def _closing(answer: Answer) -> bool:
    return answer.headers.get("connection", "").lower() == "close"


class Desk:
    """Takes dossiers in and moves them on, one after the other without a pause: one request is always under way."""

    def __init__(self, rotation: Rotation, token: str, shelf: Shelf, changes: Changes) -> None:
        self._client = Client(rotation)
        self._authorization = {"Authorization": f"Bearer {token}"}
        self._shelf = shelf
        self._changes = changes

    async def work(self, pace: Pace, enough: asyncio.Event) -> None:
        """Until it is enough; what is under way is finished."""
        try:
            while not enough.is_set():
                await pace.turn()
                await self.receive_and_move()
        finally:
            self.leave()

    def leave(self) -> None:
        """Hang up."""
        self._client.hang_up()

    async def receive_and_move(self) -> None:
        """One dossier taken in, put on the shelf, and moved on once."""
        receipt = await self._hand_in(Change("/api/v1/dossiers", json.dumps(_submission()).encode()))
        if receipt is None:
            return
        dossier = Dossier(receipt["code"], receipt["lookup_key"], receipt["status"], receipt["version"])
        self._changes.dossiers[dossier.code] = dossier.version
        self._shelf.put(dossier)
        move = json.dumps({"to": "processing", "expected_version": dossier.version}).encode()
        moved = await self._hand_in(Change(f"/api/v1/dossiers/{dossier.path}/transitions", move))
        if moved is not None:
            self._changes.dossiers[dossier.code] = moved["version"]

    async def repeat(self, change: Change) -> bool:
        """Whether a repeat of an answered change gets the first answer again."""
        answer = await self._send(change)
        return answer is not None and answer.status in (200, 201) and json.loads(answer.body) == change.answer

    async def _hand_in(self, change: Change) -> dict[str, Any] | None:
        """The answer, however often it takes: whatever became of an attempt, a repeat under its key is safe."""
        self._changes.made.append(change)
        why = ""
        for attempt in range(REPEATS):
            if attempt:
                self._changes.repeated += 1
                await asyncio.sleep(PAUSE)
            answer = await self._send(change)
            if answer is not None and answer.status in (200, 201):
                self._changes.during_drain += _closing(answer)
                change.answer = json.loads(answer.body)
                return change.answer
            why = "no answer" if answer is None else f"{answer.status} {answer.body[:200].decode(errors='replace')}"
            if answer is not None and answer.status not in (409, 503):
                break
        self._changes.unanswered[why] += 1
        return None

    async def _send(self, change: Change) -> Answer | None:
        headers = self._authorization | {"Idempotency-Key": change.key}
        try:
            return await self._client.ask(request("POST", change.path, headers, change.body))
        except NoAnswer:
            return None


def _submission() -> dict[str, Any]:
    return {
        "agency": AGENCY,
        "service": SERVICES[3],
        "channel": "direct",
        "applicant": {"name": "Nguyễn Văn Mẫu (hư cấu)", "id": "999000000001"},
    }


def missing_from_sequence(codes: Mapping[str, int]) -> list[str]:
    """Codes between the first and the last of each day that nobody has got a receipt for.

    A submission that was taken in twice, or without anybody being told, has used up a number: the numbers of a day
    are given out in the transaction that makes the dossier, so there are no holes otherwise.
    """
    days: dict[str, list[str]] = {}
    for code in codes:
        day, _, number = code.rpartition("-")
        days.setdefault(day, []).append(number)
    missing = []
    for day, numbers in days.items():
        width, given = len(numbers[0]), {int(number) for number in numbers}
        missing += [f"{day}-{n:0{width}d}" for n in range(min(given), max(given)) if n not in given]
    return missing
