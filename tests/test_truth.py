"""What the real servers say while they are asked without a pause, held against the log afterwards.

Writers move dossiers on through the intake, readers ask two lookups, and things break meanwhile. Nothing is judged
while it happens: every answer is written down with the moments between which it was made, every version with those
between which it was committed, and the judge looks at both when all is over. tests/lookup/test_coherence.py tries the
same promises in a model, in more orders than ever happen here. HOSO24_TRUTH_SECONDS says how long a run lasts.
"""

import asyncio
import bisect
import contextlib
import dataclasses
import itertools
import json
import math
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import aiohttp
import asyncpg
import pytest
import redis.asyncio

from loadtests.system.pauses import pause, resume
from lookup.cache import Cache, dossier_key
from lookup.reading.freshness import Freshness
from lookup.status import Status
from lookup.web.answers import etag
from ops.http.server import Server
from ops.local.postgres import PostgresServer
from ops.local.valkey import ValkeyServer
from ops.stores.redis import Redis
from tests.conftest import Database, prepare
from tests.house import (
    House,
    intake_at,
    intake_settings,
    lookup_running,
    lookup_settings,
    new_token,
    relay_of,
    remove,
    until,
)

SECONDS = float(os.environ.get("HOSO24_TRUTH_SECONDS", "10"))
SOFT = 2.0
"""The soft age of both lookups: short enough to be reached while something is away."""
NEGATIVE = Freshness().negative
PATIENCE = 1.5
"""Seconds for which the lookups wait for Postgres."""
PAUSE = 0.01
"""Seconds between two changes of one writer, on average."""
WRITERS, READERS = 6, 6
EACH = 6
"""Dossiers that one writer has in hand at a time."""
OLD = 60
"""From this version on a dossier is brought to its end, and a new one takes its place."""
ROOMS = (2**20, 20_000)
"""Bytes of memory of each lookup: one has room for everything, the other for half of it."""

LOG = """
SELECT code, version, kind, extract(epoch FROM pg_xact_commit_timestamp(xid::xid))::float8 AS committed
  FROM event
 ORDER BY code, version
"""


# -- what happened -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """One version of a dossier as the log has it. No reader saw it before `early`; from `late` on every reader did."""

    code: str
    version: int
    kind: str
    early: float
    late: float

    def __str__(self) -> str:
        return f"log   version {self.version} {self.kind}, committed {self.early:.4f} to {self.late:.4f}"


@dataclass(frozen=True)
class Read:
    """One answer. Moments are seconds of one monotonic clock; `as_of` is the earliest the answer's may mean on it."""

    lookup: int
    code: str
    sent: float
    arrived: float
    status: int
    version: int = 0
    age: int = 0
    as_of: float | None = None
    """Only marked answers have it in their body."""
    at_least: int = 0
    held: int = 0
    """The version whose entity tag it was asked with."""
    word: str = ""
    """What a refusal calls itself."""

    @property
    def found(self) -> bool:
        return self.status in (200, 304)

    @property
    def marked(self) -> bool:
        return self.as_of is not None

    def __str__(self) -> str:
        asked = f" at_least={self.at_least}" if self.at_least else f" holding {self.held}" if self.held else ""
        said = f"version {self.version}, age {self.age}" if self.found else f"{self.word} {self.version or ''}".strip()
        marked = f", marked as of {self.as_of:.4f}" if self.as_of is not None else ""
        return (
            f"read  lookup {self.lookup}{asked}, sent {self.sent:.4f}, arrived {self.arrived:.4f}: "
            f"{self.status} {said}{marked}"
        )


@dataclass
class Outage:
    """A time in which something was away, until both lookups had noticed that it was back.

    That is when they have heard of a heartbeat made since then, and when none of their breakers is open.
    """

    what: str
    began: float
    ended: float = math.inf

    def touches(self, read: Read) -> bool:
        return self.began <= read.arrived and read.sent <= self.ended


# -- the judge ---------------------------------------------------------------------------------------------------


class Judge:
    """Holds what was read against the log."""

    def __init__(self, log: Sequence[Change], outages: Sequence[Outage] = (), *, soft: float = SOFT) -> None:
        self._outages = outages
        self._ends = sorted(outage.ended for outage in outages)
        self._soft = soft
        self._log: dict[str, list[Change]] = {}
        for change in sorted(log, key=lambda change: change.version):
            self._log.setdefault(change.code, []).append(change)
        self._seen: dict[str, Read] = {}
        """Per code the first read that has shown it."""
        self._shown: dict[tuple[int, str], Read] = {}
        """Per lookup and code the last read that has shown it."""
        self._highest: dict[tuple[int, int, str], Read] = {}
        """Per lookup, time between two outages and code: the highest version that went out unmarked."""
        self._gone: dict[tuple[int, str], Read] = {}
        """Per lookup and code: the first read that was told of no dossier where it had shown one."""

    def faults(self, reads: Sequence[Read]) -> list[str]:
        """Every read that should not have been, with the log of its code and the earlier read it contradicts."""
        faults = []
        arriving = iter(sorted(reads, key=lambda read: read.arrived))
        earlier = next(arriving, None)
        for read in sorted(reads, key=lambda read: read.sent):
            while earlier is not None and earlier.arrived < read.sent:
                self._remember(earlier)
                earlier = next(arriving, None)
            faults += [self._told(why, read, other) for why, other in self._wrong(read)]
        return faults

    def _told(self, why: str, read: Read, other: Read | None) -> str:
        lines = [str(line) for line in (*self._outages, other, read) if line is not None]
        lines += [str(change) for change in self._log.get(read.code, ())]
        return "\n    ".join([f"{read.code}: {why}", *lines])

    def _remember(self, read: Read) -> None:
        if read.found:
            self._seen.setdefault(read.code, read)
            self._shown[read.lookup, read.code] = read
            healthy = self._healthy_time(read)
            if healthy is not None and not read.marked:
                key = (read.lookup, healthy, read.code)
                if key not in self._highest or self._highest[key].version < read.version:
                    self._highest[key] = read
        elif read.status == 404 and (read.lookup, read.code) in self._shown and self._removed_before(read):
            self._gone.setdefault((read.lookup, read.code), read)

    def _wrong(self, read: Read) -> Iterator[tuple[str, Read | None]]:
        if read.found:
            yield from self._wrong_version(read)
        elif read.status == 404:
            yield from self._wrong_missing(read)
        elif read.status == 412 and read.at_least:
            yield from self._wrong_not_reached(read)
        elif read.status == 503:
            yield from self._wrong_refusal(read)
        else:
            yield "an answer there should never be", None

    def _wrong_version(self, read: Read) -> Iterator[tuple[str, Read | None]]:
        change = self._version(read.code, read.version)
        if change is None:
            yield "there has never been such a version", None
            return
        if change.early > read.arrived:
            yield "it went out before it was committed", None
        if read.version < read.at_least:
            yield "older than it was asked to be at the least", None
        if read.status == 304 and read.version != read.held:
            yield "the client does not hold what it was told to go on using", None
        ended = self._superseded(read.code, read.version)
        # What the whole seconds of Age allow is the answer's: it may have been made as soon as it was asked for.
        as_of = read.as_of if read.as_of is not None else read.sent - read.age - 1
        if ended < as_of:
            yield "it says it was the truth at a moment when it was not any more", None
        if not read.marked and ended < read.sent - self._soft:
            yield "older than the soft age, and not marked", None
        if not read.marked and read.age > self._soft:
            yield "older than the soft age by its own word, and not marked", None
        if (read.lookup, read.code) in self._gone:
            yield "a removed dossier came back", self._gone[read.lookup, read.code]
        healthy = self._healthy_time(read)
        before = None if healthy is None or read.marked else self._highest.get((read.lookup, healthy, read.code))
        if before is not None and before.version > read.version:
            yield "it went back to an older version", before

    def _wrong_missing(self, read: Read) -> Iterator[tuple[str, Read | None]]:
        first = self._version(read.code, 1)
        if first is None or self._removed_before(read):
            return
        if read.code in self._seen and self._healthy_time(read) is not None:
            yield "a dossier that had been seen is said not to exist", self._seen[read.code]
        if first.late < read.sent - NEGATIVE:
            yield "a dossier that had long been there is said not to exist", None
        shown = self._shown.get((read.lookup, read.code))
        if shown is not None and shown.arrived > read.sent - 2 * self._soft:  # for so long floors are kept
            yield "a dossier that this lookup had just shown is said not to exist", shown
        if read.at_least:
            yield "asked for a version, it was told of no dossier", None

    def _wrong_not_reached(self, read: Read) -> Iterator[tuple[str, Read | None]]:
        """The version that the primary has is told, as of the time in which it was asked."""
        change = self._version(read.code, read.version)
        if read.version >= read.at_least:
            yield "refused although it was there", None
        elif change is None:
            yield "there has never been such a version", None
        elif change.early > read.arrived:
            yield "it went out before it was committed", None
        elif self._superseded(read.code, read.version) < read.sent:
            yield "the primary is said to have a version that it had no longer", None

    def _wrong_refusal(self, read: Read) -> Iterator[tuple[str, Read | None]]:
        if read.at_least and read.version >= read.at_least:
            yield "refused although it was there", None
        if read.word == "overloaded" or any(o.what == "postgres" and o.touches(read) for o in self._outages):
            return
        wanted = self._version(read.code, read.at_least) if read.at_least else None
        if not read.at_least or (wanted is not None and wanted.late < read.sent):
            yield "refused although Postgres could be asked", None

    def _version(self, code: str, version: int) -> Change | None:
        log = self._log.get(code, [])
        return log[version - 1] if 1 <= version <= len(log) and log[version - 1].kind != "removed" else None

    def _superseded(self, code: str, version: int) -> float:
        """From when on this version was certainly not the truth any more; infinity while it is."""
        log = self._log.get(code, [])
        return log[version].late if version < len(log) else math.inf

    def _removed_before(self, read: Read) -> bool:
        log = self._log.get(read.code, [])
        return bool(log) and log[-1].kind == "removed" and log[-1].early <= read.arrived

    def _healthy_time(self, read: Read) -> int | None:
        """Between which outages this read lies; None when it touches one."""
        if any(outage.touches(read) for outage in self._outages):
            return None
        return bisect.bisect_left(self._ends, read.sent)


# X is received at 10 s, moved on at 20 s and removed at 30 s.
LIFE = [
    Change("X", 1, "received", 10.0, 10.1),
    Change("X", 2, "moved", 20.0, 20.1),
    Change("X", 3, "removed", 30.0, 30.1),
]
AWAY = [Outage("redis", 40.0, 41.0)]


def read(sent: float, version: int = 0, *, lookup: int = 0, code: str = "X", status: int = 0, **fields: Any) -> Read:
    """An answer that took a hundredth of a second."""
    return Read(lookup, code, sent, sent + 0.01, status or (200 if version else 404), version, **fields)


@pytest.mark.parametrize(
    ("why", "reads"),
    [
        ("never been such a version", [read(15, 4)]),
        ("before it was committed", [read(15, 2)]),
        ("older than the soft age, and not marked", [read(23, 1)]),
        ("truth at a moment when it was not", [read(23, 1, as_of=20.2)]),
        ("truth at a moment when it was not", [read(21.9, 1)]),
        ("older than the soft age by its own word", [read(15, 1, age=3)]),
        ("older than it was asked to be", [read(15, 1, at_least=2)]),
        ("does not hold what it was told to go on using", [read(15, 1, status=304, held=2)]),
        ("went back to an older version", [read(20.2, 2), read(20.3, 1)]),
        ("removed dossier came back", [read(29, 2), read(30.2), read(30.3, 2, as_of=29.0)]),
        ("had been seen is said not to exist", [read(11, 1, lookup=1), read(11.1)]),
        ("had just shown is said not to exist", [read(11, 1), read(11.1)]),
        ("had long been there is said not to exist", [read(16)]),
        ("it was told of no dossier", [read(11, at_least=1)]),
        ("refused although it was there", [read(15, 1, status=503, at_least=1)]),
        ("refused although it was there", [read(15, 1, status=412, at_least=1)]),
        ("never been such a version", [read(15, 4, status=412, at_least=5)]),
        ("before it was committed", [read(15, 2, status=412, at_least=3)]),
        ("version that it had no longer", [read(21, 1, status=412, at_least=2)]),
        ("an answer there should never be", [read(15, 1, status=412)]),
        ("refused although Postgres could be asked", [read(15, status=503)]),
        ("refused although Postgres could be asked", [read(21, 1, status=503, at_least=2)]),
        ("an answer there should never be", [read(15, status=500)]),
    ],
)
def test_judge_finds_whatever_is_not_the_truth(why: str, reads: list[Read]) -> None:
    (fault,) = [fault for fault in Judge(LIFE, AWAY).faults(reads) if why in fault]
    assert str(reads[-1]) in fault
    assert str(LIFE[0]) in fault


def test_judge_finds_nothing_wrong_with_the_truth() -> None:
    reads = [
        read(9),
        read(10.05, 1),
        read(10.055),  # at the same time
        read(10.2, 1, lookup=1),
        read(20.05, 2),
        read(21.9, 1, lookup=1, age=1),
        read(25, 1, as_of=20.0),
        read(25, 2, status=304, held=2),
        read(25, 2, at_least=2),
        read(25, 2, status=503, at_least=3),
        read(25, 2, status=412, at_least=3),
        read(30.05, 2),
        read(30.2),
        read(40.5, code="Y"),
        read(41.5, code="Y", status=503, word="overloaded"),
    ]
    assert Judge(LIFE, AWAY).faults(reads) == []


# -- those who ask, those who write, and what breaks -----------------------------------------------------------------


class Line:
    """A connection to a lookup on which one question is asked after the other."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, path: str, tag: str = "") -> tuple[float, float, int, dict[str, str], Any]:
        """When it was sent, when it arrived, status, headers, and the body's JSON."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        condition = f"If-None-Match: {tag}\r\n" if tag else ""
        sent = time.monotonic()
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n{condition}\r\n".encode())
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        return sent, time.monotonic(), int(first.split()[1]), headers, json.loads(body) if body else {}

    async def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            with contextlib.suppress(ConnectionError):
                await self._streams[1].wait_closed()


@dataclass
class Dossier:
    """One that a writer has in hand."""

    code: str
    version: int = 1
    status: Status = Status.RECEIVED


@dataclass
class Town:
    """The house, all who write to it and read from it, and what they have written down."""

    house: House
    lookups: list[Server]
    database: Database
    postgres: PostgresServer
    valkey: ValkeyServer
    owner: Any
    chance: random.Random = field(default_factory=lambda: random.Random(24))
    over: bool = False
    relay: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)
    reads: list[Read] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)
    written: dict[tuple[str, int], tuple[float, float]] = field(default_factory=dict)
    """Per code and version: when whoever wrote it began to, and when it was told that it is committed."""
    versions: dict[str, int] = field(default_factory=dict)
    """Per code the version last written; whatever changed last stands last."""
    offsets: list[tuple[float, float]] = field(default_factory=list)
    """The least and the most that the database's clock may have been ahead of our monotonic one."""

    # -- the clock -------------------------------------------------------------------------------------------

    async def compare_clocks(self) -> None:
        async def once() -> tuple[float, float]:
            before = time.monotonic()
            there = float(await self.owner.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8"))
            return there - time.monotonic(), there - before

        tries = [await once() for _ in range(20)]
        self.offsets.append(min(tries, key=lambda bounds: bounds[1] - bounds[0]))

    def here(self, database_time: float) -> float:
        """The earliest moment of our clock which that moment of the database's may have been."""
        return database_time - max(most for _, most in self.offsets)

    # -- writers ---------------------------------------------------------------------------------------------

    async def write(self) -> None:
        """Take dossiers in, move them on, and end them, until all is over."""
        mine: list[Dossier] = []
        removing = await asyncpg.connect(self.database.owner_url)
        try:
            while not self.over:
                await asyncio.sleep(self.chance.uniform(0.0, 2 * PAUSE))
                if len(mine) < EACH and (not mine or self.chance.random() < 0.3):
                    mine.append(Dossier((await self._written(self.house.receive()))["code"]))
                    continue
                dossier = self.chance.choice(mine)
                if dossier.version >= OLD or self.chance.random() < 0.03:
                    mine.remove(dossier)
                    await self._written(self._removed(removing, dossier))
                    continue
                ending = self.chance.random() < 0.02
                after = [to for to in Status if dossier.status.may_become(to) and (ending or not to.final)]
                after = [to for to in after if to is not Status.REJECTED]  # all of them were accepted
                to = self.chance.choice(after or [Status.RETURNED])
                moved = await self._written(self.house.move(dossier.code, to.slug))
                dossier.version, dossier.status = moved["version"], Status.from_slug(moved["status"])
                if dossier.status.final:  # withdrawn, rejected or returned: it stays, and is read on
                    mine.remove(dossier)
        finally:
            await removing.close()

    async def _written(self, work: Awaitable[dict[str, Any]]) -> dict[str, Any]:
        began = time.monotonic()
        answer = await work
        self.written[answer["code"], answer["version"]] = (began, time.monotonic())
        self.versions.pop(answer["code"], None)
        self.versions[answer["code"]] = answer["version"]
        return answer

    async def _removed(self, connection: Any, dossier: Dossier) -> dict[str, Any]:
        async with connection.transaction():
            version = await remove(connection, dossier.code)
            # Whoever commits late holds the relay back, and is overtaken by those who began after him.
            await asyncio.sleep(self.chance.uniform(0.0, 0.2))
        return {"code": dossier.code, "version": version}

    # -- readers ---------------------------------------------------------------------------------------------

    async def read(self) -> None:
        """Ask both lookups, now this one, now that one, until all is over."""
        lines = [Line(lookup.port) for lookup in self.lookups]
        held: dict[str, int] = {}
        try:
            while not self.over:
                number = self.chance.randrange(len(lines))
                code, kind = self._code(), self.chance.random()
                known = max(held.get(code, 0), self.versions.get(code, 0))
                at_least = 0 if kind < 0.8 or not known else known if kind < 0.97 else known + 1
                tagged = held.get(code, 0) if kind < 0.4 else 0
                read = await self._read(number, lines[number], code, at_least=at_least, tagged=tagged)
                self.reads.append(read)
                if read.found:
                    held[code] = read.version
        finally:
            for line in lines:
                await line.close()

    def _code(self) -> str:
        """One of them all, one that has just changed, or one of the next, which there are not yet."""
        codes = list(self.versions)
        kind = self.chance.random()
        if not codes or kind < 0.1:
            return _following(max(codes, default=""), self.chance.randint(1, 2))
        return self.chance.choice(codes if kind < 0.5 else codes[-5:])

    async def _read(self, number: int, line: Line, code: str, *, at_least: int, tagged: int) -> Read:
        path = f"/api/v1/dossiers/{code}" + (f"?at_least={at_least}" if at_least else "")
        sent, arrived, status, headers, body = await line.ask(path, etag(1, tagged, "json") if tagged else "")
        tag = headers.get("etag", "")
        version = int(tag.partition("-")[0].rpartition(".")[2]) if status == 304 else int(body.get("version", 0))
        marked = body.get("stale", False)
        if tag and not marked:
            assert tag == etag(1, version, "json"), f"{code} at version {version} has the tag {tag}"
        as_of = self.here(datetime.fromisoformat(body["as_of"]).timestamp()) if marked else None
        age = int(headers.get("age", 0))
        word = body.get("code", "") if status >= 400 else ""
        return Read(number, code, sent, arrived, status, version, age, as_of, at_least, tagged, word)

    # -- what breaks -----------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def outage(self, what: str) -> AsyncIterator[None]:
        """Something is away for as long as the block runs, and its consequences last a little longer."""
        outage = Outage(what, time.monotonic())
        self.outages.append(outage)
        yield
        back = float(await self.owner.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8"))
        await until(lambda: self._noticed(back), within=30)
        outage.ended = time.monotonic()

    async def _noticed(self, back: float) -> bool:
        for lookup in self.lookups:
            async with self.house.http.get(f"http://127.0.0.1:{lookup.admin_port}/reports/why") as response:
                report = await response.json()
            feed = report["feed"]
            if feed["stream"] == "-" or feed["at"] < back * 1_000_000 or any(report["breakers"].values()):
                return False
        return True

    async def start_relay(self) -> None:
        await self.relay.enter_async_context(relay_of(self.database, self.valkey.url))

    # -- and afterwards --------------------------------------------------------------------------------------

    async def log(self) -> list[Change]:
        """All versions there have been, and between which moments each was committed."""
        changes = []
        for code, version, kind, committed in await self.owner.fetch(LOG):
            began, answered = self.written.pop((code, version))
            early = self.here(committed)
            slack = max(most for _, most in self.offsets) - min(least for least, _ in self.offsets)
            assert began - slack <= early <= answered, f"{code} {version}: {began} {early} {answered}"
            changes.append(Change(code, version, kind, early, answered))
        assert not self.written, f"acknowledged, and not in the log: {self.written}"
        return changes

    async def agreed(self) -> bool:
        """Whether both lookups and Redis say what Postgres says, and nothing is marked."""
        rows = await self.owner.fetch("SELECT code, version, removed FROM dossier")
        truth = {row["code"]: (404, 0) if row["removed"] else (200, row["version"]) for row in rows}
        lines = [Line(lookup.port) for lookup in self.lookups]
        try:
            reads = [
                await self._read(number, line, code, at_least=0, tagged=0)
                for number, line in enumerate(lines)
                for code in truth
            ]
        finally:
            for line in lines:
                await line.close()
        answered = all(not read.marked and (read.status, read.version) == truth[read.code] for read in reads)
        return answered and await self._redis_agrees()

    async def _redis_agrees(self) -> bool:
        client = Redis("redis", lambda: self.valkey.url, size=1, deadline=5.0)
        rows = await self.owner.fetch("SELECT code, version FROM dossier")
        try:
            found = await Cache(client).read(1, [dossier_key(1, row["code"]) for row in rows])
        finally:
            await client.close()
        return all(
            entry is None or entry.version == row["version"] for row, entry in zip(rows, found.entries, strict=True)
        )


def _following(code: str, steps: int) -> str:
    prefix, _, number = (code or "G99.01.01-260101-0000").rpartition("-")
    return f"{prefix}-{int(number) + steps:04d}"


@pytest.fixture
async def town(fragile: Callable[..., Any], request: pytest.FixtureRequest) -> AsyncIterator[Town]:
    postgres, valkey = fragile()
    admin = await asyncpg.connect(postgres.admin_url)
    await admin.execute("ALTER SYSTEM SET track_commit_timestamp = on")
    await admin.close()
    await asyncio.to_thread(postgres.restart)
    database = await prepare(postgres.admin_url, "hoso24")
    all_alike = lookup_settings(
        database.reader_url,
        valkey.url,
        soft_age=SOFT,
        pg_deadline=getattr(request, "param", PATIENCE),
        lookup_deadline=20.0,
        partners=("127.0.0.0/8",),  # whom no rate applies to
    )
    patient = intake_settings(database.writer_url, pg_deadline=20.0, intake_deadline=20.0, client_writes=1_000_000)
    async with contextlib.AsyncExitStack() as stack:
        lookups = [
            await stack.enter_async_context(lookup_running(dataclasses.replace(all_alike, memory_bytes=room)))
            for room in ROOMS
        ]
        intake = await stack.enter_async_context(intake_at(patient))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        owner = await asyncpg.connect(database.owner_url)
        stack.push_async_callback(owner.close)
        house = House(f"http://127.0.0.1:{lookups[0].port}", intake, http, await new_token(database))
        town = Town(house, lookups, database, postgres, valkey, owner)
        await stack.enter_async_context(town.relay)
        await town.start_relay()
        yield town


@contextlib.asynccontextmanager
async def life(town: Town) -> AsyncIterator[None]:
    """Everybody writes and reads while the block runs; afterwards all is judged."""
    await town.compare_clocks()
    async with asyncio.TaskGroup() as everybody:
        for _ in range(WRITERS):
            everybody.create_task(town.write())
        for _ in range(READERS):
            everybody.create_task(town.read())
        try:
            yield
        finally:
            town.over = True
    await town.compare_clocks()
    log = await town.log()
    faults = Judge(log, town.outages).faults(town.reads)
    assert not faults, "\n".join([f"{len(faults)} of {len(town.reads)} answers were not the truth.", *faults[:5]])
    await until(town.agreed, within=30)


def kinds(town: Town) -> Counter[Any]:
    return Counter("marked" if read.marked else read.status for read in town.reads)


@pytest.mark.parametrize("town", [10.0], indirect=True, ids=["postgres well"])  # and only slow where the machine is
async def test_every_answer_is_the_truth_while_redis_is_killed_and_comes_back(town: Town) -> None:
    """Again and again; empty, with what it held some time before, and with what it held just before."""
    times = max(2, int(SECONDS / 8))
    client: Any = redis.asyncio.Redis.from_url(town.valkey.url, protocol=2)
    async with client, life(town):
        for remains in itertools.islice(itertools.cycle(("nothing", "something", "everything")), times):
            await asyncio.sleep(SECONDS / (times + 1) / 2)
            await client.save()
            await client.connection_pool.disconnect()
            await asyncio.sleep(SECONDS / (times + 1) / 2)
            if remains == "everything":
                await client.save()
            async with town.outage("redis"):
                await asyncio.to_thread(town.valkey.kill)
                if remains == "nothing":
                    town.valkey.snapshot_path.unlink()
                await asyncio.sleep(0.3)
                await asyncio.to_thread(town.valkey.restart)
        await asyncio.sleep(SECONDS / (times + 1))
    seen = kinds(town)
    assert min(seen[200], seen[304], seen[404]) > 10, seen
    for outage in town.outages:
        assert {read.lookup for read in town.reads if outage.touches(read)} == {0, 1}


async def test_every_answer_is_the_truth_or_marked_while_the_relay_and_then_postgres_stand_still(town: Town) -> None:
    """Each for longer than the soft age."""
    async with life(town):
        for _ in range(max(1, int(SECONDS / 10))):
            await asyncio.sleep(SECONDS / 20)
            async with town.outage("relay"):
                await town.relay.aclose()
                await asyncio.sleep(SOFT + 1.0)
                await town.start_relay()
            await asyncio.sleep(SECONDS / 20)
            async with town.outage("postgres"):
                pause(town.postgres)
                try:
                    await asyncio.sleep(SOFT + PATIENCE + 1.0)
                finally:
                    resume(town.postgres)
        await asyncio.sleep(SECONDS / 20)
    seen = kinds(town)
    assert min(seen[200], seen[304], seen[404], seen["marked"], seen[503]) > 10, seen
