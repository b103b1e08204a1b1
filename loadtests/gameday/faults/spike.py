"""More lookups than can be answered: wrk asks one lookup for codes that do not exist, as fast as it can.

That lookup is one more than those in front. It may have few queries under way, and Postgres seems slow to it: the point
is what a process does with more than it can do, not how much that is. Beside the flood a client asks it again and again
for a batch, an unknown code, a dossier that only Redis has a copy of, and one that is in its memory.
"""

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.answers import Answer
from loadtests.bench import load
from loadtests.codes import address, unknown
from loadtests.gameday.day import Day, Fault, NotInTime, Skipped
from loadtests.gameday.faults.postgres import batch
from loadtests.gameday.promises import within
from loadtests.system.http_client import LOOPBACK, Client, NoAnswer, request
from loadtests.system.processes import spawned
from loadtests.system.replicas import Deployment, Replica
from loadtests.verdict import Row

SECONDS = 20
CONNECTIONS = 400
QUERIES = 2
"""Queries the flooded lookup may have under way."""
DELAY = 0.05
"""Seconds that Postgres seems to take longer, to the flooded lookup alone: so it can do little, on any machine."""
FIRST, COUNT = 2_000_000, 900_000
"""Which of the codes that wrk's script knows are asked for: none of them exists."""
EVERY = 0.4
"""Seconds between two rounds of questions."""
FEW = 5
"""Rounds that there have to be, or nothing can be said of the order."""
EXCEPTIONS = 1
"""Rounds that may be out of order: the four questions of one do not arrive in the same instant."""
RECOVERED_SECONDS = 5.0
LONGEST_SECONDS = 60.0
COLD = 400
"""Dossiers that the flooded lookup has not been asked for yet."""

ORDER = ("batch", "unknown", "cold", "memory")
"""What is refused first, and what last (design: batches, unknown codes, known cold ones, answers from memory)."""

Round = dict[str, str]
"""Kind → answered, refused, or what else became of the question."""


@dataclass
class AskedRounds:
    """What became of each round of questions, one of each kind at the same time."""

    rounds: list[Round] = field(default_factory=list)

    def refused(self, kind: str) -> int:
        """How many of that kind were."""
        return sum(each[kind] == REFUSED for each in self.rounds)

    @property
    def otherwise(self) -> list[str]:
        """What was neither answered nor refused in good form."""
        return [
            f"{kind}: {what}" for each in self.rounds for kind, what in each.items() if what not in (ANSWERED, REFUSED)
        ]

    def in_order(self) -> bool:
        """Whether what is refused first was, as long as anything was, and nothing of what is in memory."""
        refused = [self.refused(kind) for kind in ORDER]
        wrong = sum(not _in_order(each) for each in self.rounds)
        in_all = refused == sorted(refused, reverse=True) and not self.refused("memory")
        return len(self.rounds) >= FEW and wrong <= EXCEPTIONS and in_all

    def told(self) -> str:
        """In words."""
        return ", ".join(f"{kind} {self.refused(kind)}" for kind in ORDER) + f" of {len(self.rounds)} each"


ANSWERED, REFUSED = "answered", "refused"


def _in_order(each: Round) -> bool:
    refused = [each[kind] == REFUSED for kind in ORDER]
    return refused == sorted(refused, reverse=True)


class FloodVisitor:
    """Asks the flooded lookup for one kind of thing after the other."""

    def __init__(self, replica: Replica, memory: str, cold: list[str]) -> None:
        self._replica = replica
        self._memory = memory
        self._cold = cold

    async def ask_all(self) -> Round:
        """One question of each kind at the same time."""
        return dict(zip(ORDER, await asyncio.gather(*map(self.ask, ORDER)), strict=True))

    async def ask(self, kind: str) -> str:
        """What becomes of one question of that kind."""
        with Client.of(self._replica.port) as client:
            try:
                return _became(kind, await client.ask(self._request(kind)))
            except NoAnswer as none:
                return str(none)

    def _request(self, kind: str) -> bytes:
        match kind:
            case "batch":
                return batch([self._cold.pop() for _ in range(3)])
            case "unknown":
                code = unknown()
            case "cold":
                code = self._cold.pop()
            case _:
                code = self._memory
        return request("GET", f"/api/v1/dossiers/{address(code)}", {})


def _became(kind: str, answer: Answer) -> str:
    if kind == "batch" and answer.status == 200 and any("error" in each for each in answer.json()["results"]):
        return REFUSED  # it was let in, and what it asked for was not
    if answer.status == (404 if kind == "unknown" else 200):
        return ANSWERED
    if answer.status == 503 and "retry-after" in answer.headers:
        return REFUSED
    return f"answered {answer.status}"


async def _flood(day: Day) -> list[Row]:
    if shutil.which("wrk") is None:
        raise Skipped("wrk is not installed (Debian: apt-get install wrk)")
    codes = await _some_dossiers(day)
    async with _one_more(day) as replica:
        visitor, during = FloodVisitor(replica, codes.pop(), codes), AskedRounds()
        await _know_one_by_heart(day, visitor)
        shed_before = await day.metric(replica, "lookup_shed_total", load="unknown")
        day.say(f"wrk floods {replica.name} for {SECONDS} s")
        async with _wrk(replica, day.stage.folder / "wrk.log") as flooding:
            await _ask_on(visitor, during, flooding)
        ended = time.monotonic()
        shed = await day.metric(replica, "lookup_shed_total", load="unknown") - shed_before
        day.say("it has to recover")
        recovered = await _recovered(day, visitor, ended)
    day.figure("spike", "recovered_s", recovered)
    return [
        Row("beyond capacity", f"{shed:.0f} lookups of unknown codes were shed", "some", kept=shed > 0),
        Row(
            "order of shedding",
            f"refused: {during.told()}",
            "batches first, then unknown, then cold ones, from memory none",
            kept=during.in_order(),
        ),
        Row(
            "no other answers",
            f"{len(during.otherwise)}{': ' if during.otherwise else ''}{'; '.join(during.otherwise[:3])}",
            "0: each was answered, or refused with a time to come back",
            kept=not during.otherwise,
        ),
        within("everything answered again", recovered, RECOVERED_SECONDS),
    ]


async def _some_dossiers(day: Day) -> list[str]:
    """Codes of dossiers that have been delivered, so that Redis has a copy of each."""

    async def enough() -> list[str]:
        codes = day.expected.codes()[:-8]
        return codes if len(codes) >= COLD else []

    usual = day.crowd.desk_pace.rate
    day.say(f"{COLD} dossiers have to be there")
    day.crowd.desk_pace.rate = max(usual, 20.0)
    try:
        codes = await day.until(enough, 2 * LONGEST_SECONDS, f"{COLD} dossiers")
    finally:
        day.crowd.desk_pace.rate = usual
    return codes[-3 * COLD :]


@contextlib.asynccontextmanager
async def _one_more(day: Day) -> AsyncIterator[Replica]:
    """A lookup with few queries at a time and a slow way to Postgres, to which no rate applies; it is not in front."""
    lookups, url = day.stage.lookups, day.stage.postgres.url("reader")
    for node in day.stage.postgres.nodes:
        wire = await day.stage.wire_process.lay(node.server.port)
        await wire.delay(DELAY)
        url = url.replace(f":{node.wire.port}", f":{wire.port}")
    settings = {
        "HOSO24_PG_READER_URL": url,
        "HOSO24_PG_READER_QUERIES": str(QUERIES),
        "HOSO24_PARTNERS": "127.0.0.0/8,100.64.0.0/10",
    }
    logs = lookups.logs / "flooded"
    logs.mkdir(exist_ok=True)
    deployment = Deployment(
        "lookup", {**lookups.environ, **settings}, logs, lookups.reaper, admin_ports=[lookups.admin_port()]
    )
    try:
        await deployment.scale(1)
        yield deployment.replicas[0]
    finally:
        await deployment.close()


async def _know_one_by_heart(day: Day, visitor: FloodVisitor) -> None:
    """Return once the one dossier is in its memory."""

    async def answered() -> bool:
        return await visitor.ask("memory") == ANSWERED

    for _ in range(3):
        await day.until(answered, LONGEST_SECONDS, "the lookup answers")


@contextlib.asynccontextmanager
async def _wrk(replica: Replica, log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """wrk, asking for codes that do not exist, for as long as it takes or the block runs."""
    argv = ["wrk", "--threads", "1", "--connections", str(CONNECTIONS), "--duration", f"{SECONDS}s", "--timeout", "10s"]
    argv += ["--script", str(load.SCRIPTS / "random.lua"), f"http://{LOOPBACK}:{replica.port}{load.DOSSIERS}"]
    codes, script = ("--", str(FIRST), str(COUNT), "24"), {"LUA_PATH": f"{load.SCRIPTS}/?.lua"}
    process = await spawned(*argv, *codes, log=log, environ=script)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _ask_on(visitor: FloodVisitor, asked: AskedRounds, flooding: asyncio.subprocess.Process) -> None:
    """Ask for one thing of each kind again and again, until the flood is over."""

    over = asyncio.create_task(flooding.wait())
    try:
        async with asyncio.timeout(SECONDS + LONGEST_SECONDS):
            while not over.done():
                asked.rounds.append(await visitor.ask_all())
                await asyncio.wait([over], timeout=EVERY)
    finally:
        over.cancel()


async def _recovered(day: Day, visitor: FloodVisitor, since: float) -> float:
    """Seconds from that moment until one thing of each kind is answered in the same round."""

    async def all_answered() -> bool:
        return all(became == ANSWERED for became in (await visitor.ask_all()).values())

    try:
        await day.until(all_answered, LONGEST_SECONDS, "everything is answered again")
    except NotInTime:
        return LONGEST_SECONDS
    return time.monotonic() - since


SPIKE = Fault(
    "spike",
    "a spike beyond capacity for 20 s",
    "sheds in the order of the contract, recovers within 5 s",
    _flood,
)
