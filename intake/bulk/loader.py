"""`hoso24 import`: loads a file of histories into the database, in small transactions; it can be resumed.

A transaction holds at most a thousand lines or about 50 ms of work, because an open writing transaction delays every
other change on its way to the caches. The events of new dossiers are marked `bulk`, and the relay skips them: the
caches can hold nothing about these dossiers yet except a "no such dossier" that lasts five seconds. Further steps of a
stored dossier are events like any other, with the flag `by_import`. Each transaction also saves the position in the
file, so an interrupted import goes on after its last commit, and raises the agencies' sequences above the codes it
brought, so that no reception counts its way through them.

No line is dropped silently: refused lines are in `<file>.rejected.ndjson` with their number and the reason, the lookup
keys of the others in `<file>.keys.ndjson`.
"""

import asyncio
import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, BinaryIO

import asyncpg
import msgspec

from intake.books import applicant_rows
from intake.books.dossier import DOSSIER_COLUMNS
from intake.books.ledger import PRESENT_EPOCH
from intake.books.seal import ROW_COLUMNS, SealKeys
from intake.books.sequences import HIGHEST_NUMBER, RAISE_SEQUENCES, sequence_of
from intake.bulk.known import Known, append, bound_numbers, further_steps, known
from intake.bulk.rows import Rows, rows_of
from intake.bulk.source import LONGEST_LINE, Source, Unreadable
from intake.dialects import History, Refused, read_line
from intake.rules.changes import Given
from lookup import catalogue as catalogues
from lookup.catalogue import Catalogue
from lookup.catalogue.load import NoCatalogue
from lookup.code import Scheme
from lookup.lookup_key import KeyRing

MOST_LINES = 1_000
"""Lines per transaction."""
SLICE = 4
"""Lines that are read at a stretch, some half a millisecond, before PostgreSQL's answers are looked at."""
TRANSACTION_TARGET = 0.050
"""Seconds that a transaction should be open."""
START = "SELECT now() AS now, (SELECT max(number) FROM epoch) AS epoch"

FIND_RUN = """
SELECT position, line, taken, appended, already_here, rejected, reasons, reject_bytes, key_bytes
  FROM import_run
 WHERE file = $1 AND finished_at IS NULL
"""

SAVE_RUN = """
INSERT INTO import_run AS run (file, name, position, line, taken, appended, already_here, rejected, reasons,
                               reject_bytes, key_bytes, finished_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, CASE WHEN $12 THEN now() END)
ON CONFLICT (file) DO UPDATE
   SET name = excluded.name, position = excluded.position, line = excluded.line, taken = excluded.taken,
       appended = excluded.appended, already_here = excluded.already_here, rejected = excluded.rejected,
       reasons = excluded.reasons, reject_bytes = excluded.reject_bytes, key_bytes = excluded.key_bytes,
       updated_at = now(), finished_at = excluded.finished_at
"""

_encode = msgspec.json.Encoder().encode


@dataclass
class ImportTally:
    """The progress of an import. Every line is taken, appended to a stored dossier, already here, rejected for one of
    the reasons, or blank."""

    position: int = 0
    """Committed bytes of the text as UTF-8."""
    line: int = 0
    taken: int = 0
    appended: int = 0
    already_here: int = 0
    rejected: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    irregular: int = 0
    """Dossiers taken since the start or resumption whose history has a move that is not allowed."""
    not_raised: int = 0
    """Of these, dossiers whose running number is above HIGHEST_NUMBER and raises no sequence."""
    read: int = 0
    """Bytes of the file itself that have been read."""

    @property
    def blank(self) -> int:
        """Lines of white space."""
        return self.line - self.taken - self.appended - self.already_here - self.rejected


@dataclass(frozen=True, slots=True)
class _Item:
    """A line of a known dialect, with its number in the file."""

    line: int
    history: History

    @property
    def code(self) -> str:
        return self.history.code.text


@dataclass
class _Batch:
    """The lines of a transaction: what they hold, and where the file was after the last of them."""

    position: int
    line: int
    items: list[_Item] = field(default_factory=list)
    rows: dict[int, Rows] = field(default_factory=dict)
    refused: list[tuple[int, Refused]] = field(default_factory=list)
    last: bool = False
    damage: Unreadable | None = None
    """Why the file cannot be read any further."""


class Import:
    """One import of one file. Calls `progress` with the tally after every commit."""

    def __init__(
        self,
        connection: Any,
        path: Path,
        keys: KeyRing,
        seals: SealKeys,
        progress: Callable[[ImportTally], None] = lambda _: None,
    ) -> None:
        self._connection = connection
        self._path = path
        self._keys = keys
        self._seals = seals
        self._progress = progress
        self.tally = ImportTally()
        self._catalogue = Catalogue()
        self._now = datetime.min.replace(tzinfo=UTC)
        self._epoch = 0
        self._raised: dict[tuple[str, date], int] = {}
        """How far this import has raised which sequence."""
        self._source: Source
        self._rejects: BinaryIO
        self._key_file: BinaryIO

    @property
    def reject_path(self) -> Path:
        """The file of refused lines: one JSON object a line, with line, reason and detail."""
        return self._path.with_name(self._path.name + ".rejected.ndjson")

    @property
    def key_path(self) -> Path:
        """The file of lookup keys, readable by its owner only: one JSON object a line, with code and lookup_key."""
        return self._path.with_name(self._path.name + ".keys.ndjson")

    async def run(self) -> ImportTally:
        """Import the file, or the rest of it after an interruption. A second run changes nothing.

        Raises NoCatalogue and Unreadable before it begins; Unreadable also where the file is damaged, after the lines
        before it are in; and what the connection raises: the next run goes on after the last commit.
        """
        self._catalogue = catalogues.from_rows(await self._connection.fetch(catalogues.CATALOGUE))
        if not self._catalogue.agencies:
            raise NoCatalogue
        with self._path.open("rb") as file:
            fingerprint = _fingerprint(file)
            file.seek(0)
            self._source = Source(file)
            reject_bytes, key_bytes = await self._resume(fingerprint)
            with (
                _opened_at(self.reject_path, reject_bytes) as self._rejects,
                _opened_at(self.key_path, key_bytes) as self._key_file,
            ):
                await self._load_all(fingerprint)
        return self.tally

    async def _resume(self, fingerprint: bytes) -> tuple[int, int]:
        """Resume an unfinished run of this file if its two output files are intact; otherwise start anew.

        Returns the committed lengths of the files of refused lines and of keys.
        """
        run = await self._connection.fetchrow(FIND_RUN, fingerprint)
        if run is None or _size(self.reject_path) < run["reject_bytes"] or _size(self.key_path) < run["key_bytes"]:
            return 0, 0
        reasons: dict[str, int] = msgspec.json.decode(run["reasons"])
        if _reasons_in(self.reject_path, run["reject_bytes"]) != reasons:
            return 0, 0  # another file has the name of the one that was written
        self.tally = ImportTally(
            run["position"],
            run["line"],
            run["taken"],
            run["appended"],
            run["already_here"],
            run["rejected"],
            reasons,
        )
        return run["reject_bytes"], run["key_bytes"]

    async def _load_all(self, fingerprint: bytes) -> None:
        """Read a batch while PostgreSQL writes the one before."""
        await self._start()
        lines = self._source.lines(self.tally.position)
        size = 100
        batch = await self._read_batch(lines, _Batch(self.tally.position, self.tally.line), size)
        while not batch.last:
            reading = asyncio.create_task(self._read_batch(lines, _Batch(batch.position, batch.line), size))
            try:
                took = await self._commit(batch, fingerprint)
            except BaseException:
                reading.cancel()
                raise
            size = _next_size(size, took)
            batch = await reading
        await self._commit(batch, fingerprint)
        if batch.damage is not None:
            raise batch.damage

    async def _read_batch(self, lines: Iterator[tuple[bytes | None, int]], batch: "_Batch", size: int) -> "_Batch":
        """Read up to `size` further lines into the batch, and let others go on every few of them."""
        first = batch.line
        try:
            for line, end in lines:
                batch.line += 1
                batch.position = end
                try:
                    item = self._read(batch.line, line)
                except Refused as refused:
                    batch.refused.append((batch.line, refused))
                else:
                    if item is not None:
                        batch.items.append(item)
                        batch.rows[item.line] = self._rows(item)
                if batch.line - first >= size:
                    return batch
                if batch.line % SLICE == 0:
                    await asyncio.sleep(0)
        except Unreadable as damage:
            batch.damage = damage
        batch.last = True
        return batch

    async def _start(self) -> None:
        """Read the database's time and epoch for the next transaction."""
        start = await self._connection.fetchrow(START)
        self._now, self._epoch = start["now"], start["epoch"]

    def _read(self, number: int, line: bytes | None) -> _Item | None:
        """The line's history; None for a blank line. Raises Refused."""
        if line is None:
            raise Refused("line_too_long", f"a line has at most {LONGEST_LINE} bytes")
        if not line.strip():
            return None
        history = read_line(line)
        unknown = {history.agency, *(step.agency for step in history.steps)} - self._catalogue.agencies.keys()
        if unknown:
            raise Refused("unknown_agency", f"there is no agency {min(unknown)[:40]}")
        if history.service not in self._catalogue.services:
            raise Refused("unknown_service", f"there is no service {history.service[:40]}")
        if history.latest > self._now:
            raise Refused("date_in_future", f"{history.latest.isoformat()} is in the future")
        return _Item(number, history)

    def _reject(self, number: int, refused: Refused) -> None:
        self.tally.rejected += 1
        self.tally.reasons[refused.reason] = self.tally.reasons.get(refused.reason, 0) + 1
        self._rejects.write(_encode({"line": number, "reason": refused.reason, "detail": refused.detail[:300]}) + b"\n")

    async def _commit(self, batch: "_Batch", fingerprint: bytes) -> float:
        """Write this batch and the run's position; returns for how many seconds the transaction was open."""
        items, rows, finished = batch.items, batch.rows, batch.last and batch.damage is None
        self.tally.position, self.tally.line = batch.position, batch.line
        for number, refused in batch.refused:
            self._reject(number, refused)
        await self._start()
        began = time.perf_counter()
        try:
            async with self._connection.transaction():
                outcome = await self._put(items, rows)
                self._note(outcome)
                await self._save(fingerprint, finished)
        except _REFUSED_BY_DATABASE as refused:
            if getattr(refused, "constraint_name", None) == PRESENT_EPOCH:
                rows = await self._of_the_present_epoch(items)
            # The database refuses some line, or a dossier was changed meanwhile. The halves are committed one by one.
            # If the import is interrupted before the position is saved, the next run finds these lines already here.
            outcome = await self._put_halves(items, rows)
            self._note(outcome)
            await self._save(fingerprint, finished)
        self._raised |= outcome.raised
        self._progress(self.tally)
        return time.perf_counter() - began

    async def _of_the_present_epoch(self, items: list[_Item]) -> dict[int, Rows]:
        """The rows made anew: an epoch began since they were made."""
        await self._start()
        return {item.line: self._rows(item) for item in items}

    def _rows(self, item: _Item) -> Rows:
        service = self._catalogue.services.get(item.history.service)
        return rows_of(item.history, service, now=self._now, epoch=self._epoch, seals=self._seals)

    async def _put_halves(self, items: list[_Item], rows: dict[int, Rows]) -> "_Outcome":
        try:
            async with self._connection.transaction():
                return await self._put(items, rows)
        except _REFUSED_BY_DATABASE as error:
            if len(items) == 1:
                reason = getattr(error, "constraint_name", None) or str(error)
                return _Outcome(refused=[(items[0].line, Refused("refused_by_database", reason))])
        middle = len(items) // 2
        return (await self._put_halves(items[:middle], rows)).plus(await self._put_halves(items[middle:], rows))

    async def _put(self, items: list[_Item], rows: dict[int, Rows]) -> "_Outcome":
        """Write what is new of these lines; returns the outcome of every line."""
        outcome = _Outcome()
        await self._raise_sequences(items, outcome)
        numbers = [item.code for item in items if item.history.code.scheme is Scheme.D]  # no others are official
        bound = await bound_numbers(self._connection, numbers) if numbers else set()
        for part in _once_each(items):
            await self._put_part(part, rows, bound, outcome)
        return outcome

    async def _put_part(self, items: list[_Item], rows: dict[int, Rows], bound: set[str], outcome: "_Outcome") -> None:
        """The same for lines of different codes."""
        stored = await known(self._connection, [item.code for item in items])
        dossiers: list[tuple[Any, ...]] = []
        events: list[tuple[Any, ...]] = []
        for item in items:
            before, serial = stored.get(item.code), 0
            try:
                if item.code in bound:
                    raise Refused("number_taken", f"{item.code} is the official number of another dossier")
                if before is None:
                    dossiers.append(rows[item.line].dossier)
                    events += rows[item.line].events
                    outcome.taken += 1
                    outcome.irregular += item.history.irregular
                    outcome.not_raised += sequence_of(item.history.code)[2] > HIGHEST_NUMBER
                else:
                    serial = before.row["key_serial"]
                    further = await self._further(before, item.history)
                    events += further
                    outcome.appended += bool(further)
                    outcome.already_here += not further
            except Refused as refused:
                outcome.refused.append((item.line, refused))
                continue
            outcome.keys.append((item.code, self._keys.key(item.history.code, serial)))
        if dossiers:
            await self._connection.copy_records_to_table("dossier", columns=DOSSIER_COLUMNS, records=dossiers)
            await applicant_rows.copy(self._connection, dossiers)
        if events:
            await self._connection.copy_records_to_table("event", columns=ROW_COLUMNS, records=events)

    async def _further(self, before: Known, history: History) -> list[tuple[Any, ...]]:
        """The events that a stored dossier lacks. Raises Refused."""
        if not further_steps(before, history):
            return []
        given = Given(self._now, self._catalogue)
        return await append(self._connection, before, history, given=given, epoch=self._epoch, seals=self._seals)

    async def _raise_sequences(self, items: list[_Item], outcome: "_Outcome") -> None:
        """Raise the sequences of agencies that an intake numbers for, so that it never comes to one of these codes."""
        for item in items:
            agency, day, number = sequence_of(item.history.code)
            highest = max(self._raised.get((agency, day), 0), outcome.raised.get((agency, day), 0))
            if agency in self._catalogue.agencies and highest < number <= HIGHEST_NUMBER:
                outcome.raised[agency, day] = number
        if outcome.raised:
            agencies, days = zip(*outcome.raised, strict=True)
            await self._connection.execute(RAISE_SEQUENCES, agencies, days, list(outcome.raised.values()))

    def _note(self, outcome: "_Outcome") -> None:
        self.tally.taken += outcome.taken
        self.tally.appended += outcome.appended
        self.tally.already_here += outcome.already_here
        self.tally.irregular += outcome.irregular
        self.tally.not_raised += outcome.not_raised
        for line, refused in outcome.refused:
            self._reject(line, refused)
        for code, key in outcome.keys:
            self._key_file.write(_encode({"code": code, "lookup_key": key}) + b"\n")

    async def _save(self, fingerprint: bytes, finished: bool) -> None:
        for file in (self._rejects, self._key_file):
            file.flush()
        tally = self.tally
        tally.read = self._source.consumed
        await self._connection.execute(
            SAVE_RUN,
            fingerprint,
            self._path.name,
            tally.position,
            tally.line,
            tally.taken,
            tally.appended,
            tally.already_here,
            tally.rejected,
            _encode(tally.reasons).decode(),
            self._rejects.tell(),
            self._key_file.tell(),
            finished,
        )


_REFUSED_BY_DATABASE = (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError)


@dataclass
class _Outcome:
    """The outcome of a batch of lines."""

    taken: int = 0
    appended: int = 0
    already_here: int = 0
    irregular: int = 0
    not_raised: int = 0
    refused: list[tuple[int, Refused]] = field(default_factory=list)
    keys: list[tuple[str, str]] = field(default_factory=list)
    raised: dict[tuple[str, date], int] = field(default_factory=dict)

    def plus(self, other: "_Outcome") -> "_Outcome":
        return _Outcome(
            self.taken + other.taken,
            self.appended + other.appended,
            self.already_here + other.already_here,
            self.irregular + other.irregular,
            self.not_raised + other.not_raised,
            self.refused + other.refused,
            self.keys + other.keys,
            {key: max(self.raised.get(key, 0), other.raised.get(key, 0)) for key in self.raised | other.raised},
        )


def _once_each(items: list[_Item]) -> list[list[_Item]]:
    """The lines in parts in which no code stands twice: all first lines of a code, all second ones, and so on."""
    parts: list[list[_Item]] = []
    seen: Counter[str] = Counter()
    for item in items:
        if seen[item.code] == len(parts):
            parts.append([])
        parts[seen[item.code]].append(item)
        seen[item.code] += 1
    return parts


def _next_size(size: int, took: float) -> int:
    """The number of lines for the next transaction: what fits TRANSACTION_TARGET, at most twice or half as many."""
    factor = min(2.0, max(0.5, TRANSACTION_TARGET / max(took, 0.001)))
    return max(10, min(MOST_LINES, int(size * factor)))


def _fingerprint(file: BinaryIO) -> bytes:
    """Identifies a file whose import is resumed: SHA-256 over its size and first 64 KiB."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return hashlib.sha256(size.to_bytes(8) + file.read(1 << 16)).digest()


class _Reject(msgspec.Struct):
    """The field of a line in the file of refused lines that is counted."""

    reason: str


def _reasons_in(path: Path, length: int) -> dict[str, int]:
    """Reason → lines, in the first `length` bytes of a file of refused lines; empty if it is another kind of file."""
    reasons: Counter[str] = Counter()
    if length:
        with path.open("rb") as file:
            try:
                while file.tell() < length:
                    reasons[msgspec.json.decode(file.readline(), type=_Reject).reason] += 1
            except msgspec.DecodeError:
                return {}
    return reasons


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _opened_at(path: Path, length: int) -> BinaryIO:
    """The file, readable by its owner only, cut to the committed length and open for writing at its end."""
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
    file.truncate(length)
    file.seek(length)
    return file
