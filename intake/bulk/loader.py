"""`hoso24 import`: loads a file of histories into the database, in small transactions; it can be resumed.

A transaction holds at most a thousand lines or about 50 ms of work, because an open writing transaction delays every
other change on its way to the caches. Imported events are marked `bulk`, and the relay skips them: the caches can hold
nothing about these dossiers yet except a "no such dossier" that lasts five seconds. Each transaction also saves the
position in the file, so an interrupted import goes on after its last commit.

No line is dropped silently: refused lines are in `<file>.rejected.ndjson` with their number and the reason, the lookup
keys of the others in `<file>.keys.ndjson`.
"""

import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import asyncpg
import msgspec

from intake.books.dossier import DOSSIER_COLUMNS, NewDossier, public_step, timeline
from intake.books.event import EVENT_COLUMNS, GENESIS, Event
from intake.bulk.dialects import History, Refused, read_line
from intake.rules.requests import action_needed, nfc
from intake.rules.workdays import CALENDAR
from lookup import catalogue as catalogues
from lookup.catalogue import Catalogue
from lookup.catalogue.load import NoCatalogue
from lookup.lookup_key import KeyRing

LONGEST_LINE = 1 << 20
"""Bytes; a longer line is refused."""
MOST_LINES = 1_000
"""Lines per transaction."""
TRANSACTION_TARGET = 0.050
"""Seconds that a transaction should be open."""
SOURCE = "import"

START = "SELECT now() AS now, (SELECT max(number) FROM epoch) AS epoch"

FIND_RUN = """
SELECT position, line, taken, already_here, rejected, reject_bytes, key_bytes
  FROM import_run
 WHERE file = $1 AND finished_at IS NULL
"""

SAVE_RUN = """
INSERT INTO import_run AS run (file, name, position, line, taken, already_here, rejected, reject_bytes, key_bytes,
                               finished_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, CASE WHEN $10 THEN now() END)
ON CONFLICT (file) DO UPDATE
   SET name = excluded.name, position = excluded.position, line = excluded.line, taken = excluded.taken,
       already_here = excluded.already_here, rejected = excluded.rejected,
       reject_bytes = excluded.reject_bytes, key_bytes = excluded.key_bytes,
       updated_at = now(), finished_at = excluded.finished_at
"""

STORED = """
SELECT d.code, d.version, d.key_serial
  FROM unnest($1::text[]) AS wanted (code)
 CROSS JOIN LATERAL (SELECT code, version, key_serial FROM dossier WHERE dossier.code = wanted.code LIMIT 1) AS d
"""

_encode = msgspec.json.Encoder().encode


@dataclass
class ImportTally:
    """The progress of an import. Every line is taken, already here, rejected for one of the reasons, or blank."""

    position: int = 0
    """Committed bytes of the file."""
    line: int = 0
    taken: int = 0
    already_here: int = 0
    rejected: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    irregular: int = 0
    """Dossiers taken since the start or resumption whose history has a move that is not allowed."""

    @property
    def blank(self) -> int:
        """Lines of white space."""
        return self.line - self.taken - self.already_here - self.rejected


@dataclass(frozen=True, slots=True)
class _Item:
    """A line of a known dialect, with its number in the file."""

    line: int
    history: History


class Import:
    """One import of one file. Calls `progress` with the tally after every commit."""

    def __init__(
        self,
        connection: Any,
        path: Path,
        keys: KeyRing,
        progress: Callable[[ImportTally], None] = lambda _: None,
    ) -> None:
        self._connection = connection
        self._path = path
        self._keys = keys
        self._progress = progress
        self.tally = ImportTally()
        self._catalogue = Catalogue()
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

        Raises NoCatalogue before it begins, and what the connection raises; the next run goes on after the last commit.
        """
        self._catalogue = catalogues.from_rows(await self._connection.fetch(catalogues.CATALOGUE))
        if not self._catalogue.agencies:
            raise NoCatalogue
        with self._path.open("rb") as file:
            fingerprint = _fingerprint(file)
            reject_bytes, key_bytes = await self._resume(fingerprint)
            file.seek(self.tally.position)
            with (
                _opened_at(self.reject_path, reject_bytes) as self._rejects,
                _opened_at(self.key_path, key_bytes) as self._key_file,
            ):
                await self._load_all(file, fingerprint)
        return self.tally

    async def _resume(self, fingerprint: bytes) -> tuple[int, int]:
        """Resume an unfinished run of this file if its two output files are intact; otherwise start anew.

        Returns the committed lengths of the files of refused lines and of keys.
        """
        run = await self._connection.fetchrow(FIND_RUN, fingerprint)
        if run is None or _size(self.reject_path) < run["reject_bytes"] or _size(self.key_path) < run["key_bytes"]:
            return 0, 0
        reasons = _reasons_in(self.reject_path, run["reject_bytes"])
        if sum(reasons.values()) != run["rejected"]:  # another file has the name of the one that was written
            return 0, 0
        self.tally = ImportTally(
            run["position"], run["line"], run["taken"], run["already_here"], run["rejected"], reasons
        )
        return run["reject_bytes"], run["key_bytes"]

    async def _load_all(self, file: BinaryIO, fingerprint: bytes) -> None:
        size = 100
        items: list[_Item] = []
        lines = 0
        position, number = self.tally.position, self.tally.line
        for line, end in _lines(file, position):
            number += 1
            position = end
            lines += 1
            item = self._read(number, line)
            if item is not None:
                items.append(item)
            if lines >= size:
                self.tally.position, self.tally.line = position, number
                took = await self._commit(items, fingerprint, finished=False)
                size = _next_size(size, took)
                items, lines = [], 0
        self.tally.position, self.tally.line = position, number
        await self._commit(items, fingerprint, finished=True)

    def _read(self, number: int, line: bytes | None) -> _Item | None:
        try:
            if line is None:
                raise Refused("line_too_long", f"a line has at most {LONGEST_LINE} bytes")
            if not line.strip():
                return None
            history = read_line(line)
            if history.agency not in self._catalogue.agencies:
                raise Refused("unknown_agency", f"there is no agency {history.agency[:40]}")
            if history.service not in self._catalogue.services:
                raise Refused("unknown_service", f"there is no service {history.service[:40]}")
        except Refused as refused:
            self._reject(number, refused)
            return None
        return _Item(number, history)

    def _reject(self, number: int, refused: Refused) -> None:
        self.tally.rejected += 1
        self.tally.reasons[refused.reason] = self.tally.reasons.get(refused.reason, 0) + 1
        self._rejects.write(_encode({"line": number, "reason": refused.reason, "detail": refused.detail[:300]}) + b"\n")

    async def _commit(self, items: list[_Item], fingerprint: bytes, *, finished: bool) -> float:
        """Write these items and the run's position; returns for how many seconds the transaction was open."""
        start = await self._connection.fetchrow(START)
        rows = [_Rows.of(item, start["now"], start["epoch"]) for item in items]
        began = time.perf_counter()
        try:
            async with self._connection.transaction():
                self._note(await self._put(rows))
                await self._save(fingerprint, finished)
        except _REFUSED_BY_DATABASE:
            # The database refuses some line. The halves are committed one by one. If the import is interrupted
            # before the position is saved, the next run finds the committed lines already here.
            self._note(await self._put_halves(rows))
            await self._save(fingerprint, finished)
        self._progress(self.tally)
        return time.perf_counter() - began

    async def _put_halves(self, rows: list["_Rows"]) -> "_Outcome":
        try:
            async with self._connection.transaction():
                return await self._put(rows)
        except _REFUSED_BY_DATABASE as error:
            if len(rows) == 1:
                reason = error.constraint_name or str(error)
                return _Outcome(refused=[(rows[0].line, Refused("refused_by_database", reason))])
        middle = len(rows) // 2
        return (await self._put_halves(rows[:middle])).plus(await self._put_halves(rows[middle:]))

    async def _put(self, rows: list["_Rows"]) -> "_Outcome":
        """COPY the new rows; returns the outcome of every row."""
        stored = {
            row["code"]: (row["version"], row["key_serial"])
            for row in await self._connection.fetch(STORED, [row.code for row in rows])
        }
        outcome = _Outcome()
        new: list[_Rows] = []
        for row in rows:
            if row.code not in stored:
                stored[row.code] = (len(row.events), 0)
                new.append(row)
            elif len(row.events) <= stored[row.code][0]:
                outcome.already_here += 1
            else:
                detail = (
                    f"{row.code} is stored at version {stored[row.code][0]}; send its later steps to the intake instead"
                )
                outcome.refused.append((row.line, Refused("differs_from_stored", detail)))
                continue
            outcome.keys.append((row.code, self._keys.key(row.item.history.code, stored[row.code][1])))
        outcome.taken = len(new)
        outcome.irregular = sum(row.item.history.irregular for row in new)
        await self._connection.copy_records_to_table(
            "dossier", columns=DOSSIER_COLUMNS, records=[row.dossier for row in new]
        )
        await self._connection.copy_records_to_table(
            "event", columns=EVENT_COLUMNS, records=[event for row in new for event in row.events]
        )
        return outcome

    def _note(self, outcome: "_Outcome") -> None:
        self.tally.taken += outcome.taken
        self.tally.already_here += outcome.already_here
        self.tally.irregular += outcome.irregular
        for line, refused in outcome.refused:
            self._reject(line, refused)
        for code, key in outcome.keys:
            self._key_file.write(_encode({"code": code, "lookup_key": key}) + b"\n")

    async def _save(self, fingerprint: bytes, finished: bool) -> None:
        for file in (self._rejects, self._key_file):
            file.flush()
        tally = self.tally
        await self._connection.execute(
            SAVE_RUN,
            fingerprint,
            self._path.name,
            tally.position,
            tally.line,
            tally.taken,
            tally.already_here,
            tally.rejected,
            self._rejects.tell(),
            self._key_file.tell(),
            finished,
        )


_REFUSED_BY_DATABASE = (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError)


@dataclass
class _Outcome:
    """The outcome of a batch of rows."""

    taken: int = 0
    already_here: int = 0
    irregular: int = 0
    refused: list[tuple[int, Refused]] = field(default_factory=list)
    keys: list[tuple[str, str]] = field(default_factory=list)

    def plus(self, other: "_Outcome") -> "_Outcome":
        return _Outcome(
            self.taken + other.taken,
            self.already_here + other.already_here,
            self.irregular + other.irregular,
            self.refused + other.refused,
            self.keys + other.keys,
        )


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of an item, in the order of DOSSIER_COLUMNS and EVENT_COLUMNS."""

    item: _Item
    dossier: tuple[Any, ...]
    events: list[tuple[Any, ...]]

    @property
    def code(self) -> str:
        return self.item.history.code.text

    @property
    def line(self) -> int:
        return self.item.line

    @classmethod
    def of(cls, item: _Item, now: datetime, epoch: int) -> "_Rows":
        history = item.history
        last = history.steps[-1]
        steps = (public_step(step.at, step.status, step.agency, step.department) for step in history.steps)
        person = history.applicant
        dossier = NewDossier(
            code=history.code.text,
            version=len(history.steps),
            status=last.status,
            service=history.service,
            service_case=history.service_case,
            agency=last.agency,
            channel=history.channel,
            submitted_at=history.submitted_at,
            received_at=history.received_at,
            due_at=history.due_at,
            finished_at=history.finished_at,
            returned_at=history.returned_at,
            action_needed=action_needed(last.status, last.note),
            timeline=timeline(*steps),
            calendar=CALENDAR,
            paused_at=last.at if last.status.paused else None,
            applicant_kind=person.kind,
            applicant_name=nfc(person.name),
            applicant_id=person.id,
            applicant_phone=person.phone,
            applicant_email=person.email,
            applicant_address=nfc(person.address),
            subject=nfc(history.subject),
        )
        return cls(item, dossier.row(), list(_events(history, now, epoch)))


def _events(history: History, now: datetime, epoch: int) -> Iterator[tuple[Any, ...]]:
    """The row of each step's event, chained by their hashes."""
    prev_hash = GENESIS
    for version, step in enumerate(history.steps, start=1):
        event = Event(
            code=history.code.text,
            version=version,
            kind="received" if version == 1 else "moved",
            status=step.status,
            occurred_at=step.at,
            recorded_at=now,
            agency=step.agency,
            department=nfc(step.department),
            actor=nfc(step.officer) or SOURCE,
            source=SOURCE,
            source_event_id=None,
            bulk=True,
            note=nfc(step.note),
        )
        row = event.row(epoch, prev_hash)
        prev_hash = row[-1]
        yield row


def _lines(file: BinaryIO, position: int) -> Iterator[tuple[bytes | None, int]]:
    """Each line with the position after it; None for a line longer than LONGEST_LINE."""
    while True:
        line = file.readline(LONGEST_LINE + 1)
        if not line:
            return
        position += len(line)
        if line.endswith(b"\n") or len(line) <= LONGEST_LINE:
            yield line, position
            continue
        while rest := file.readline(LONGEST_LINE):
            position += len(rest)
            if rest.endswith(b"\n"):
                break
        yield None, position


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
