"""`POST /api/v1/sync`: another system tells many changes at once, a line each.

The body is worked on while it comes, and answered after its end: a client that sends before it reads would otherwise
wait for a server that waits for it. A line of the answer exists only for what has committed. Whoever gets no summary
sends the whole body again; each id is recorded once.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final

import asyncpg
from aiohttp import hdrs, web

from intake import examples, metrics
from intake.admission import ADMISSION, CLIENT
from intake.books.seal import SealKeys
from intake.books.unbroken import Unbroken
from intake.budgets import SYNC, Budgets, OverBudget
from intake.clients import Client
from intake.partners import batches
from intake.partners.answers import LineAnswer, Summary, SyncEnd
from intake.partners.letters import RefusedLine
from intake.partners.lines import LONGEST_LINE, Rejected, SyncLine, Told, code_of, id_of, read_line
from intake.partners.writing import Partner, rejected
from intake.refusals import (
    BadDate,
    DatabaseAway,
    DatesOutOfOrder,
    HistoryDiffers,
    IdReused,
    LineTooLong,
    NumberTaken,
    OutcomeUnknown,
    RefusedByDatabase,
    RelayBehind,
    SyncRunning,
    TargetNotAllowed,
    TookTooLong,
    UnknownAgency,
    UnknownDossier,
    UnknownService,
    UnsupportedType,
)
from intake.rules.requests import InvalidContent, MalformedJson, UnknownStatus
from lookup.catalogue import CatalogueCopy
from lookup.code import MalformedCode
from lookup.lookup_key import KeyRing
from ops.errors import Refusal, TooLarge, Unavailable
from ops.http.bodies import UnsupportedCoding
from ops.http.endpoints import Endpoint, encode
from ops.stores.postgres import TRANSACTION, Postgres

log = logging.getLogger(__name__)

PATH: Final = "/api/v1/sync"
IN_LINES: tuple[type[Refusal], ...] = (
    *(MalformedJson, InvalidContent, LineTooLong, MalformedCode, IdReused, RefusedByDatabase),
    *(UnknownStatus, UnknownAgency, UnknownService, UnknownDossier, HistoryDiffers, NumberTaken),
    *(BadDate, DatesOutOfOrder, TargetNotAllowed),
    *(RelayBehind, TookTooLong, DatabaseAway, OutcomeUnknown),
)
"""Why a line is rejected, or not done."""
TYPES: Final = ("application/x-ndjson", "application/jsonl")
MOST_LINES: Final = 10_000
MOST_BYTES: Final = 16 * 1024 * 1024
SILENCE: Final = 10.0
"""Seconds without a byte after which a body counts as ended."""
LONGEST: Final = 120.0
"""Seconds for a body in all, the answer included."""
BATCH: Final = 100
"""Lines of a transaction. At 250 a single move beside it was seen after 0.9 s."""
LEAST: Final = 50
"""Lines of a transaction on a machine that is slow. With ten a line costs two and a half times as much processor time,
which makes a busy machine slower still."""
BATCH_TARGET: Final = 0.020
"""Seconds that a transaction should be open."""
WAITS_FROM: Final = 0.2
"""Seconds for which a change has waited for its delivery, from which the next batch waits as long."""
STOPS_FROM: Final = 10.0
"""The same, from which nothing more is written: the relay is halted, or cannot deliver."""
AT_A_TIME: Final = 2
"""Batches of a process that are written at the same time; one connection is always left for single moves."""


class Sync:
    """The synchronisations of a process.

    `deadline`: seconds after which a batch's outcome counts as unknown; `longest` seconds a transaction may take.
    `connections`: those of the pool, which single moves use too.
    """

    def __init__(
        self,
        postgres: Postgres,
        catalogue: CatalogueCopy,
        budgets: Budgets,
        keys: KeyRing,
        seals: SealKeys,
        *,
        connections: int,
        deadline: float,
        longest: float = 10.0,
    ) -> None:
        self._postgres = postgres
        self._catalogue = catalogue
        self.budgets = budgets
        self._keys = keys
        self._seals = seals
        self._deadline = deadline
        self._longest = longest
        self._turns = asyncio.Semaphore(max(1, min(AT_A_TIME, connections - 1)))
        self._clients: set[str] = set()
        self._unbroken = Unbroken()
        self._lag = 0.0

    def endpoints(self) -> list[Endpoint]:
        """The one endpoint."""
        return [
            Endpoint(
                method="POST",
                path=PATH,
                handler=self.sync,
                takes=SyncLine,
                gives=LineAnswer | SyncEnd,
                refuses=(*ADMISSION, SyncRunning, UnsupportedType),
                tells=IN_LINES,
                action="sync",
                example=examples.SYNC,
                budget=SYNC,
                lines=True,
            )
        ]

    async def sync(self, request: web.Request) -> web.Response:
        """Apply the changes of many dossiers, a line each; the answer has a line for each, and a summary at its end."""
        client = request[CLIENT]
        _acceptable(request)
        if client.id in self._clients:
            raise SyncRunning
        self._clients.add(client.id)
        try:
            partner = Partner(client, await self._catalogue.get(), self._keys, self._seals)
            await self._look()
            run = _Run(self, partner)
            complete = await run.all(_Body(request))
        finally:
            self._clients.discard(client.id)
        response = web.Response(body=run.answer(complete), content_type=TYPES[0])
        if not complete:
            response.force_close()  # the rest of its body is not read
        return response

    async def close(self) -> None:
        """Wait for the open transactions."""
        await self._unbroken.close()

    async def _look(self) -> None:
        """Learn how far the relay has come. Raises Unavailable."""
        async with self._postgres.connection() as connection:
            self._lag = (await batches.position(connection)).lag

    async def keep_pace(self, until: float) -> str | None:
        """Wait while the relay is behind; why nothing more may be written, if so. Raises Unavailable."""
        while self._lag > WAITS_FROM:
            if self._lag > STOPS_FROM:
                return RelayBehind.code
            pause = min(self._lag, until - time.monotonic())
            if pause <= 0:
                return TookTooLong.code
            metrics.SYNC_PAUSED.inc(pause)
            await asyncio.sleep(pause)
            await self._look()
        return None

    async def apply(self, client: Client, lines: Sequence[bytes]) -> list[LineAnswer]:
        """Apply these lines as a synchronisation of this client does; an answer for each.

        Raises Unavailable, also where the relay is behind, and OutcomeUnknown: the same lines may be sent again.
        """
        partner = Partner(client, await self._catalogue.get(), self._keys, self._seals)
        await self._look()
        if await self.keep_pace(time.monotonic() + self._deadline) is not None:
            raise Unavailable("What was written before is not delivered yet.", retry_after=10)
        answers: dict[int, LineAnswer] = {}
        told = []
        for number, line in enumerate(lines, 1):
            try:
                told.append(read_line(number, line))
            except Rejected as refused:
                answers[number] = _unread(number, line, refused)
        if told:
            answers |= {answer.line: answer for answer in await self.write(partner, told, [], expect_seen=False)}
        return [answers[number] for number in sorted(answers)]

    async def write(
        self, partner: Partner, lines: Sequence[Told], refused: Sequence[RefusedLine], *, expect_seen: bool
    ) -> list[LineAnswer]:
        """Write a batch, and keep the lines that could not be read; the answers to `lines`.

        `expect_seen`: they may have been sent before, so that most are not locked. Raises Unavailable, OutcomeUnknown.
        """
        await self._turns.acquire()
        return await self._unbroken.settle(self._in_turn(partner, lines, refused, expect_seen), self._deadline)

    async def _in_turn(
        self, partner: Partner, lines: Sequence[Told], refused: Sequence[RefusedLine], expect_seen: bool
    ) -> list[LineAnswer]:
        try:
            known: dict[int, LineAnswer] = {}
            if expect_seen:
                async with self._postgres.connection() as connection:
                    known = await batches.seen(connection, partner, lines)
            known = {number: answer for number, answer in known.items() if answer.result == "duplicate"}
            rest = [line for line in lines if line.number not in known]
            answers = await self._halved(partner, rest, refused) if rest or refused else []
            return sorted([*known.values(), *answers], key=lambda answer: answer.line)
        finally:
            self._turns.release()

    async def _halved(
        self, partner: Partner, lines: Sequence[Told], refused: Sequence[RefusedLine]
    ) -> list[LineAnswer]:
        """Write these lines together; where the database refuses that, one half after the other.

        One line is tried twice: what it met may have been another transaction, which has ended.
        """
        why: asyncpg.PostgresError | None = None
        for _ in range(2 if len(lines) <= 1 else 1):
            answers = await self._committed(partner, lines, refused)
            if isinstance(answers, list):
                return answers
            why = answers
        if len(lines) > 1:
            middle = len(lines) // 2
            first = await self._halved(partner, lines[:middle], refused)
            return [*first, *await self._halved(partner, lines[middle:], [])]
        if not lines:
            log.error("Refused lines of %s cannot be kept: %s", partner.client.id, why)
            return []
        told = getattr(why, "constraint_name", None) or str(why)
        log.warning("PostgreSQL refuses line %d of %s: %s", lines[0].number, partner.client.id, told)
        answer = rejected(lines[0], RefusedByDatabase.code, told)
        await self._halved(partner, [], [*refused, batches.letter_of(answer, lines[0].raw)])
        return [answer]

    async def _committed(
        self, partner: Partner, lines: Sequence[Told], refused: Sequence[RefusedLine]
    ) -> list[LineAnswer] | asyncpg.PostgresError:
        """The answers, once committed; or why the database refused. Raises Unavailable; OutcomeUnknown in a commit."""
        committing = False
        began = time.perf_counter()
        try:
            async with self._postgres.connection(self._longest, operation=TRANSACTION) as connection:
                try:
                    async with connection.transaction():
                        moment, answers = await batches.put(connection, partner, lines, refused)
                        committing = True
                except batches.TRY_HALVES as error:
                    return error
        except Unavailable as away:
            if committing:
                raise OutcomeUnknown from away
            raise
        metrics.SYNC_BATCH.observe(time.perf_counter() - began)
        self._lag = moment.lag
        return answers


def _acceptable(request: web.Request) -> None:
    """Raise UnsupportedType, UnsupportedCoding or TooLarge for a body that is not worked on."""
    if request.content_type not in TYPES or (request.charset or "utf-8").lower() != "utf-8":
        raise UnsupportedType(f"Send {' or '.join(TYPES)}, in UTF-8.")
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower() != "identity":
        raise UnsupportedCoding
    if (request.content_length or 0) > MOST_BYTES:
        raise TooLarge(f"A body has at most {MOST_BYTES} bytes.")


class _Batch:
    """Lines for one transaction, and those that could not be read, which are kept with it."""

    def __init__(self, lines: list[Told], unread: list[tuple[LineAnswer, bytes]]) -> None:
        self.lines = lines
        self.unread = unread
        self.names = {line.code.text for line in lines} | {line.id for line in lines}
        """What two batches at the same time must not have in common: codes, and ids."""

    @property
    def refused(self) -> list[RefusedLine]:
        """The unread ones as they are kept."""
        return [batches.letter_of(each, line) for each, line in self.unread]


class _Run:
    """One synchronisation: its answers so far, and why it goes on no more."""

    def __init__(self, sync: Sync, partner: Partner) -> None:
        self._sync = sync
        self._partner = partner
        self._until = time.monotonic() + LONGEST
        self._lines: list[bytes] = []
        self._waiting: list[Told] = []
        self._unread: list[tuple[LineAnswer, bytes]] = []
        self._answers: dict[int, LineAnswer] = {}
        self._before: tuple[_Batch, asyncio.Task[None]] | None = None
        """The batch that is being written."""
        self._size = BATCH
        self._expect_seen = True
        self._stopped: str | None = None
        self._retry_after: int | None = None
        self._summary = Summary()

    async def all(self, body: "_Body") -> bool:
        """Work on every line; whether all were done, or refused each for a reason of its own."""
        try:
            await self._take_all(body)
        finally:
            if self._before is not None:
                await self._before[1]
        self._tell()
        return self._stopped is None

    async def _take_all(self, body: "_Body") -> None:
        async for number, line, whole in body.lines(self._until):
            if number > MOST_LINES:
                await self._finish()
                self._stopped = self._stopped or TookTooLong.code
                self._not_done(number, line)
                break
            self._take(number, line, whole)
            if len(self._waiting) + len(self._unread) >= self._size:
                await self._write()
        await self._finish()
        if body.cut:
            self._stopped = self._stopped or TookTooLong.code

    async def _finish(self) -> None:
        """Write what waits, and wait until all is written."""
        if self._waiting or self._unread:
            await self._write()
        if self._before is not None:
            await self._before[1]
            self._before = None

    def answer(self, complete: bool) -> bytes:
        """All lines of the answer."""
        again = self._retry_after or _RETRY_AFTER.get(self._stopped or "", 1)
        end = SyncEnd(self._summary, complete, None if complete else again)
        return b"\n".join([*self._lines, encode(end)]) + b"\n"

    def _take(self, number: int, line: bytes, whole: bool) -> None:
        if self._stopped is not None:
            self._not_done(number, line)
            return
        try:
            if not whole:
                raise Rejected(LineTooLong.code, f"A line has at most {LONGEST_LINE} bytes.")
            self._waiting.append(read_line(number, line))
        except Rejected as refused:
            self._unread.append((_unread(number, line, refused), line))

    async def _write(self) -> None:
        """Write what waits, while the batch before is still being written unless both concern the same."""
        batch = _Batch(self._waiting, self._unread)
        self._waiting, self._unread = [], []
        before, self._before = self._before, None
        if before is not None and (batch.names & before[0].names or len(batch.names) == 0):
            await before[1]
            before = None
        try:
            if self._stopped is None:
                self._sync.budgets.spend(self._partner.client.id, SYNC, len(batch.lines) + len(batch.unread))
                self._stopped = await self._sync.keep_pace(self._until)
        except OverBudget as over:
            self._stopped, self._retry_after = over.code, over.retry_after or 1
        except Unavailable:
            self._stopped = DatabaseAway.code
        if self._stopped is None:
            self._before = batch, asyncio.create_task(self._written(batch))
        if before is not None:
            await before[1]
        if self._before is None:
            self._undone(batch, self._stopped or "")

    async def _written(self, batch: "_Batch") -> None:
        began = time.perf_counter()
        try:
            answers = await self._sync.write(self._partner, batch.lines, batch.refused, expect_seen=self._expect_seen)
            self._answers |= {answer.line: answer for answer in (*answers, *(each for each, _ in batch.unread))}
            self._expect_seen = any(answer.result == "duplicate" for answer in answers)
        except OutcomeUnknown:
            self._undone(batch, OutcomeUnknown.code)
            self._stopped = DatabaseAway.code  # of what comes after it is known: it was not begun
        except Unavailable:
            self._undone(batch, DatabaseAway.code)
            self._stopped = DatabaseAway.code
        self._size = _next_size(self._size, time.perf_counter() - began)

    def _undone(self, batch: "_Batch", why: str) -> None:
        named = [(line.number, line.id) for line in batch.lines] + [(each.line, each.id) for each, _ in batch.unread]
        self._answers |= {number: _undone(number, told, why) for number, told in named}

    def _not_done(self, number: int, line: bytes) -> None:
        self._answers[number] = _undone(number, id_of(line), self._stopped or "")

    def _tell(self) -> None:
        """Encode and count the answers, in the order of the lines."""
        for number in sorted(self._answers):
            answer = self._answers[number]
            result = answer.result or "applied"
            setattr(self._summary, result, getattr(self._summary, result) + 1)
            metrics.SYNC_LINES.labels(result).inc()
            if result == "not_done":
                metrics.SYNC_NOT_DONE.labels(answer.code).inc()
            self._lines.append(encode(answer))
        self._answers.clear()


_RETRY_AFTER: Final = {each.code: each.usual_retry_after for each in (RelayBehind, DatabaseAway)}


def _unread(number: int, line: bytes, refused: Rejected) -> LineAnswer:
    told, dossier = id_of(line), code_of(line)
    return LineAnswer(number, told, "rejected", dossier, code=refused.code, detail=refused.detail[:300])


def _undone(number: int, told: str | None, why: str) -> LineAnswer:
    return LineAnswer(number, told, "not_done", code=why)


def _next_size(size: int, took: float) -> int:
    """The lines of the next transaction: what fits BATCH_TARGET, at most twice or half as many."""
    factor = min(2.0, max(0.5, BATCH_TARGET / max(took, 0.001)))
    return max(min(LEAST, BATCH), min(BATCH, int(size * factor)))


class _Body:
    """A body as lines, read as it comes. `cut`: it has not ended when it should have."""

    def __init__(self, request: web.Request) -> None:
        self._content = request.content
        self.cut = False

    async def lines(self, until: float) -> AsyncIterator[tuple[int, bytes, bool]]:
        """Each line that is not empty with its number, and whether it is whole: of a longer one the beginning.

        Raises what aiohttp raises for a client that has left in the middle.
        """
        number, taken, rest, long = 0, 0, b"", b""
        while True:
            chunk = await self._next(until)
            taken += len(chunk)
            if taken > MOST_BYTES:
                self.cut = True
            if self.cut:
                return
            *whole, rest = (rest + chunk).split(b"\n") if chunk else (rest, b"")
            if whole and number == 0:
                whole[0] = whole[0].removeprefix(b"\xef\xbb\xbf")
            for line in whole:
                number += 1
                if long or len(line) > LONGEST_LINE:
                    yield number, (long or line)[:LONGEST_LINE], False
                    long = b""
                elif line.strip():
                    yield number, line, True
            if not chunk:
                return
            if len(rest) > LONGEST_LINE:
                rest, long = b"", long or rest[:LONGEST_LINE]

    async def _next(self, until: float) -> bytes:
        """The bytes that come next, none at the end."""
        try:
            async with asyncio.timeout(min(SILENCE, max(0.0, until - time.monotonic()))):
                return await self._content.readany()
        except TimeoutError:
            self.cut = True
            return b""
