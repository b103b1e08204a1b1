"""Citizens: they come at a steady pace, whether those before them have been answered or not.

A service that stops answering gets no pause from them, and the time they wait counts from when they came.
"""

import asyncio
import random
import time
from collections import deque
from dataclasses import dataclass, field

from loadtests.answers import Answer
from loadtests.codes import Shelf, unknown
from loadtests.gameday.expected import Expected, Question
from loadtests.gameday.record import Record, Seen
from loadtests.system.http_client import Client, ClosedBeforeAnyByte, NoAnswer, Rotation, request

MIX = {"known": 40, "changing": 28, "page": 12, "holder": 7, "unknown": 8, "at_least": 5}
"""Kind → how many of a hundred lookups."""
MOST_UNDER_WAY = 600
"""Lookups that wait for an answer at the most; who comes then is turned away and counted."""
LEAVE = 0.02
"""Share of answers after which the connection is closed: a new process gets its part of the new ones."""
LANGUAGES = ("vi", "vi", "en")
GZIP = 0.5
"""Share of pages that are asked for compressed."""
_KINDS, _WEIGHTS = list(MIX), list(MIX.values())


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


@dataclass
class Town:
    """What citizens, desks and imports of one day share."""

    record: Record
    expected: Expected
    shelf: Shelf = field(default_factory=Shelf)
    """The dossiers that citizens ask for."""
    changing: deque[str] = field(default_factory=deque)
    """Codes that were changed lately, newest last."""
    chance: random.Random = field(default_factory=lambda: random.Random(24))


class Citizens:
    """Lookups under way, each on a connection of its own that is used again afterwards."""

    def __init__(self, rotation: Rotation, town: Town) -> None:
        self._rotation, self._town = rotation, town
        self._free: list[Client] = []
        self._under_way: dict[asyncio.Task[None], float] = {}

    async def come(self, pace: Pace) -> None:
        """One after the other, until cancelled."""
        while True:
            await pace.turn()
            self.send(self.question())

    def question(self) -> Question:
        """What the next one asks for."""
        kind = self._town.chance.choices(_KINDS, _WEIGHTS)[0]
        if kind == "unknown":
            return Question(kind, unknown(), None)
        town, chance = self._town, self._town.chance
        if kind in ("changing", "at_least") and town.changing:
            return Question(
                kind, code := self._changing(), code, town.expected.current(code) if kind == "at_least" else 0
            )
        code = town.shelf.pick().code
        if kind == "holder":
            code = self._changing() if town.changing and chance.random() < 0.5 else code
        key = town.expected.key(code) if kind == "holder" else ""
        if kind == "page" or (key and chance.random() < 0.5):
            language, gzip = chance.choice(LANGUAGES), chance.random() < GZIP
            return Question(kind, code, code, language=language, key=key, gzip=gzip)
        if key:
            return Question(kind, code, code, key=key)
        return Question("known", code, code)

    def _changing(self) -> str:
        """One of those changed lately, the last ones most."""
        return self._town.changing[-1 - int(len(self._town.changing) * self._town.chance.random() ** 2)]

    def send(self, question: Question) -> None:
        """One comes and asks this."""
        now = time.monotonic()
        if len(self._under_way) >= MOST_UNDER_WAY:
            self._town.record.turned_away.append(now)
            return
        task = asyncio.create_task(self._ask(question, now))
        self._under_way[task] = now
        task.add_done_callback(self._done)

    async def answered(self, until: float) -> None:
        """Return once those who came before that moment have their answers, or have given up."""
        waiting = [task for task, asked_at in self._under_way.items() if asked_at < until]
        if waiting:
            await asyncio.wait(waiting)

    async def leave(self, seconds: float) -> None:
        """Wait for so long for those under way, and hang up."""
        if self._under_way:
            await asyncio.wait(list(self._under_way), timeout=seconds)
        for task in list(self._under_way):
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        for client in self._free:
            client.hang_up()

    def _done(self, task: "asyncio.Task[None]") -> None:
        del self._under_way[task]
        if not task.cancelled() and task.exception() is not None:
            context = {"message": "what a lookup was answered could not be noted", "exception": task.exception()}
            asyncio.get_running_loop().call_exception_handler(context)

    async def _ask(self, question: Question, asked_at: float) -> None:
        headers = {"X-Forwarded-For": address_of_a_client(self._town.chance)} | question.headers
        sent = request("GET", question.path, headers)
        client = self._free.pop() if self._free else Client(self._rotation)
        retried = False
        try:
            try:
                answer = await client.ask_any(sent)
            except ClosedBeforeAnyByte:
                retried = True
                answer = await client.ask_any(sent)
        except (NoAnswer, OSError) as none:
            client.hang_up()
            seconds = time.monotonic() - asked_at
            self._town.record.note(Seen(asked_at, seconds, question.kind, "unavailable", str(none), retried=retried))
            return
        except BaseException:
            client.hang_up()
            raise
        if self._town.chance.random() < LEAVE:
            client.hang_up()
        self._free.append(client)
        self._note(question, answer, asked_at, str(client.port), retried=retried)

    def _note(self, question: Question, answer: Answer, asked_at: float, port: str, *, retried: bool) -> None:
        answered_at = time.monotonic()
        process = answer.headers.get("x-served-by") or port
        outcome, why, age = self._town.expected.judge(question, answer, asked_at, answered_at, process)
        seconds, source = answered_at - asked_at, source_of(answer)
        self._town.record.note(Seen(asked_at, seconds, question.kind, outcome, why, process, source, age, retried))


def source_of(answer: Answer) -> str:
    """cache, postgres or none, as Cache-Status (RFC 9211) has it. Memory and Redis are both a hit there."""
    status = answer.headers.get("cache-status", "")
    if not status.startswith("hoso24"):
        return "none"
    return "cache" if "; hit" in status else "postgres"


def address_of_a_client(chance: random.Random) -> str:
    """Another one each time, since rates apply per client: from the networks that documentation is for (RFC 5737,
    RFC 3849). A client is an IPv4 address, or a /64.
    """
    if chance.random() < 0.5:
        return f"{chance.choice(('192.0.2', '198.51.100', '203.0.113'))}.{chance.randrange(256)}"
    return f"2001:db8:{chance.randrange(1 << 16):x}:{chance.randrange(1 << 16):x}::1"
