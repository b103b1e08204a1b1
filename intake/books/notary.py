"""The notary: enters every event of the log into the books, in commit order, and signs them.

It reads as the relay does, (epoch, xid, seq) below every open transaction: nothing appears behind its position later.
Each event gets one entry. The files are the only memory (intake/books/tree_files.py): after any error of files or
database everything is dropped, the files are opened again, and their newest entries are compared with the log. There is
no lock in the database: any role could take it. One notary writes a directory; another one waits for it.

When entries have no event, the database went back in time, or was tampered with: nothing more is entered until table
`epoch` has a newer row (`hoso24 cache renew`). Then a turn says so in the books (intake/books/entries.py), and the tree
goes on growing: nothing that was signed is ever taken back.
"""

import asyncio
import base64
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg
import msgspec

from intake import metrics
from intake.books.checkpoint import Signer
from intake.books.entries import (
    BEGINNING,
    Position,
    Turn,
    ranges,
    read_turns,
    refused_leaf,
    unreadable_leaf,
)
from intake.books.seal import HASHED_COLUMNS, SealKeys, event_leaf_hash
from intake.books.tree import HASH_BYTES, TILE_WIDTH
from intake.books.tree_files import KEY_BYTES, Files, InUse, Levels, SignedTree, Unusable, replace
from lookup import schema
from lookup.codes_in_logs import pseudonym
from ops.errors import Unavailable
from ops.observe import tracing
from ops.stores.calls import measured
from ops.stores.postgres import POSTGRES_AWAY, connect_directly

log = logging.getLogger(__name__)

# How far the log can be read, the next epoch once no transaction of an earlier one can be open any more, and the age of
# the oldest event above the position.
LOOK = """
SELECT pg_snapshot_xmin(snapshot) AS readable,
       pg_snapshot_xmax(snapshot) AS unassigned,
       (SELECT min(number) FROM epoch WHERE number > $1 AND started_at <= now() - make_interval(secs => $4)) AS next,
       (SELECT max(number) FROM epoch) AS newest,
       (SELECT extract(epoch FROM now() - min(oldest.recorded_at))::float8
          FROM ((SELECT recorded_at
                   FROM event
                  WHERE NOT bulk
                    AND (epoch, xid, seq) > ($1, $2::xid8, $3::bigint)
                  ORDER BY epoch, xid, seq
                  LIMIT 1)
                UNION ALL
                (SELECT recorded_at
                   FROM event
                  WHERE bulk
                    AND (epoch, xid, seq) > ($1, $2::xid8, $3::bigint)
                  ORDER BY epoch, xid, seq
                  LIMIT 1)) AS oldest) AS behind
  FROM pg_current_snapshot() AS snapshot
"""

_TIMES = [name for name in HASHED_COLUMNS if name.endswith("_at")]
_IS_READABLE = " AND ".join(f"({name} BETWEEN '0001-01-02' AND '9999-12-30') IS NOT FALSE" for name in _TIMES)


def _events(columns: Sequence[str]) -> str:
    """Events between two positions, in order: those of imports have an index of their own."""
    each = "\n        UNION ALL\n        ".join(
        f"""(SELECT xid, seq, {_IS_READABLE} AS readable, {", ".join(columns)}, salt, erased, seal
           FROM event
          WHERE {bulk}
            AND (epoch, xid, seq) > ($1::integer, $2::xid8, $3::bigint)
            AND (epoch, xid, seq) < ($4::integer, $5::xid8, $6::bigint)
          ORDER BY epoch, xid, seq
          LIMIT $7)"""
        for bulk in ("NOT bulk", "bulk")
    )
    return f"""
SELECT *
  FROM ({each}) AS event
 ORDER BY epoch, xid, seq
 LIMIT $7
"""


EVENTS = _events(HASHED_COLUMNS)

# Where a row has a time that asyncpg cannot make, as one in the year 20000: without such times.
EVENTS_WITH_UNREADABLE = _events(
    [
        f"CASE WHEN {name} BETWEEN '0001-01-02' AND '9999-12-30' THEN {name} END AS {name}" if name in _TIMES else name
        for name in HASHED_COLUMNS
    ],
)

# In a database that was made from a dump, ids begin anew while its old events have theirs.
HAS_IDS_FROM_ELSEWHERE = """
SELECT EXISTS (SELECT FROM event WHERE NOT bulk AND epoch = $1 AND xid >= $2::xid8)
    OR EXISTS (SELECT FROM event WHERE bulk AND epoch = $1 AND xid >= $2::xid8)
"""

BATCH: Final = 5_000
TURN_AFTER: Final = 12.0
"""Seconds from the beginning of an epoch to the turn. A transaction that read the one before ends within ten
(roles.sql); what it wrote comes before the turn."""
SIGN_EVERY: Final = 60.0
"""Seconds after which the books are signed again without a new entry, and a new checkpoint is kept and logged."""
REMIND_AFTER: Final = 60.0
"""Seconds between two log lines about the same trouble."""
POSTGRES_DEADLINE: Final = 2.0
"""Timeout of a connection, in seconds."""
STATEMENT_DEADLINE: Final = 20.0
"""Timeout of a statement, in seconds; a batch may have to be read from disk."""
NAMED: Final = 20
"""Refused events of a batch that the log names; of more it says how many."""

_AT_ONCE = 500  # entries between two turns of the event loop
_NO_LOG = (*POSTGRES_AWAY, asyncpg.PostgresError)


class Halted(Exception):
    """Files, database or keys do not fit what was signed; the message says what, with how many, and what to do."""


class _Stored(msgspec.Struct):
    """What `state` keeps beside the checkpoint: the position, and the bytes of `checkpoints` that count."""

    epoch: int
    xid: int
    seq: int
    kept: int


def begin(files: Files, signer: Signer) -> None:
    """Sign an empty tree in an empty directory. Raises Unusable, OSError."""
    SignedTree.begin(files, signer, _Stored(*BEGINNING, 0)).close()


@dataclass(frozen=True, slots=True)
class Published:
    """The signed books, for everyone to read. They may grow meanwhile; this part of them never changes."""

    note: str
    levels: Levels
    turns: bytes
    """The lines of the file `turns` that are signed."""


@dataclass(slots=True)
class _Event:
    """An event as it was read. `leaf` is its own leaf hash, whether a key fits its seal or not."""

    position: Position
    code: str
    version: int
    leaf: bytes
    fits: bool

    @property
    def entry(self) -> bytes:
        return self.leaf if self.fits else refused_leaf(self.leaf)


@dataclass(slots=True)
class _Compared:
    """What the newest entries and the log have that the other has not."""

    since: int
    void: list[int] = field(default_factory=list)
    """Indexes of entries without an event."""
    late: bytearray = field(default_factory=bytearray)
    """Hash and key of each event without an entry, in order."""
    refused: list[_Event] = field(default_factory=list)
    """Those of the late events that no key fits."""
    oldest: int = -1
    """The lowest index whose entry has its event; -1 for none."""
    accepted: int = 0
    """How many entries are events that a key fitted when they were entered …"""
    still_fit: int = 0
    """… and how many of these a key fits now."""


class EventLog:
    """The notary's access to the primary: one session, in which PostgreSQL cannot go back in time.

    Every method raises Unavailable; the reason is in the log once a minute.
    """

    def __init__(self, url: Callable[[], str]) -> None:
        self._url = url
        self._connection: Any = None
        self.trouble = "postgres has not been asked yet."
        """Why the last call failed; empty when it succeeded."""

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[None]:
        """A session for the block. Raises BehindPooler, and WrongSchema for a schema of another release."""
        with self._asking("connect", POSTGRES_DEADLINE):
            self._connection = await connect_directly(
                self._url,
                timeout=POSTGRES_DEADLINE,
                command_timeout=STATEMENT_DEADLINE,
                target_session_attrs="primary",
            )
        try:
            (state,) = await self.fetch(schema.STATE)
            schema.check(state["version"], state["asks_for"])
            yield
        finally:
            self._connection.terminate()

    async def fetch(self, sql: str, *arguments: object) -> list[Any]:
        """The rows of one statement."""
        with self._asking(tracing.command(sql)[0], STATEMENT_DEADLINE):
            return list(await self._connection.fetch(sql, *arguments))

    async def look(self, position: Position, turn_after: float) -> Any:
        """The row of LOOK."""
        (look,) = await self.fetch(LOOK, *position, turn_after)
        return look

    async def has_ids_from_elsewhere(self, epoch: int, unassigned: int) -> bool:
        """Whether there are events of the epoch under ids that this database has not assigned yet."""
        ((found,),) = await self.fetch(HAS_IDS_FROM_ELSEWHERE, epoch, unassigned)
        return bool(found)

    async def events(self, after: Position, before: Position, most: int) -> list[Any]:
        """The next events between two positions, both excluded."""
        try:
            return await self.fetch(EVENTS, *after, *before, most)
        except (ValueError, OverflowError):
            return await self.fetch(EVENTS_WITH_UNREADABLE, *after, *before, most)

    @contextlib.contextmanager
    def _asking(self, operation: str, deadline: float) -> Iterator[None]:
        try:
            with measured("postgres", "postgresql", operation, _NO_LOG, deadline, None):
                yield
        except Unavailable as away:
            self.trouble = f"{away.detail} {away.reason}"
            raise
        self.trouble = ""


class Notary:
    """Enters events and signs, as long as files, database and keys fit.

    All intervals are in seconds. `files` and `keys` are called at each opening, `keys` also before an event is refused,
    so that new keys need no restart. `not_ready` is told whether it is halted, or another notary has the directory.
    """

    def __init__(
        self,
        event_log: EventLog,
        files: Callable[[], Files],
        signer: Signer,
        keys: Callable[[], SealKeys],
        *,
        not_ready: Callable[[bool], None] = lambda _: None,
        poll_every: float = 0.25,
        retry_every: float = 1.0,
        turn_after: float = TURN_AFTER,
        batch: int = BATCH,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = event_log
        self._open_files = files
        self._signer = signer
        self._read_keys = keys
        self._tell_not_ready = not_ready
        self._poll_every = poll_every
        self._retry_every = retry_every
        self._turn_after = turn_after
        self._batch = batch
        self._clock = clock
        self._tree: SignedTree
        self._files: Files
        self._keys: SealKeys
        self._keys_read_at = 0.0
        self._turns: list[Turn] = []
        self._position = BEGINNING
        self._kept = 0
        self._kept_note = ""
        self._kept_at = -SIGN_EVERY
        self._signed_at = clock()
        self._behind = 0.0
        self._looked_at = clock()
        self._trouble = "The books are not open yet."
        self._reminded_at = -REMIND_AFTER
        self.published: Published | None = None
        """None until the files were opened, and while they cannot be used."""
        self.halted = False
        """True while nothing is entered because something does not fit what was signed."""

    async def run(self) -> None:
        """Enter events until cancelled. Errors of files and database end nothing: it begins again at the files.

        Raises BehindPooler or WrongSchema, which end the process.
        """
        metrics.NOTARY_BEHIND.set_function(lambda: self.behind)
        metrics.NOTARY_SIGNATURE_AGE.set_function(lambda: self._clock() - self._signed_at)
        while True:
            try:
                await self._open_and_enter()
            except InUse as other:
                self._stop_for(str(other), logging.WARNING)
                self._tell_not_ready(True)
            except Unusable as unusable:
                self.published = None
                self._stop_for(str(unusable), logging.CRITICAL, halted=True)
            except Halted as alarm:
                self._stop_for(str(alarm), logging.CRITICAL, halted=True)
            except Unavailable as away:
                self._stop_for(f"{away.detail} {away.reason}".strip(), logging.WARNING, halted=self.halted)
            except OSError as error:
                self._stop_for(
                    f"A file of the books cannot be read or written: {error.strerror or error}",
                    logging.ERROR,
                    halted=self.halted,
                )
            await asyncio.sleep(self._retry_every)

    @property
    def behind(self) -> float:
        """Age of the oldest event that was seen and has no entry, in seconds; 0 when there is none."""
        return self._behind and self._behind + self._clock() - self._looked_at

    async def check_books(self) -> str:
        """For the health report: how many entries there are. Raises Unavailable when events are not entered now."""
        if self._trouble:
            raise Unavailable(self._trouble)
        return f"{self._tree.checkpoint.size:,} entries, {self.behind:.1f} s behind"

    async def check_postgres(self) -> None:
        """For the health report. Raises Unavailable when PostgreSQL refused the last statement, or did not answer."""
        if self._log.trouble:
            raise Unavailable(self._log.trouble)

    # -- opening -----------------------------------------------------------------------------------------------------

    async def _open_and_enter(self) -> None:
        self._files = self._open_files()
        self._keys, self._keys_read_at = self._read_keys(), self._clock()
        self._tree = SignedTree.open(self._files, self._signer)
        try:
            self._read_position()
            self._turns = self._read_turns()
            self._publish()
            async with self._log.session():
                await self._compare_with_log()
                self._go_on()
                await self._enter_events()
        finally:
            self._tree.close()

    def _read_position(self) -> None:
        try:
            stored = msgspec.convert(self._tree.position, _Stored)
        except msgspec.ValidationError as wrong:
            raise Unusable(f"The file state in {self._files.directory} has no position: {wrong}.") from None
        self._position, self._kept = Position(stored.epoch, stored.xid, stored.seq), stored.kept

    def _read_turns(self) -> list[Turn]:
        levels = self._tree.levels()
        try:
            turns = read_turns(self._files.read("turns"), levels.size)
        except FileNotFoundError:
            return []
        except ValueError as wrong:
            raise Unusable(f"The file turns in {self._files.directory} cannot be used: {wrong}.") from None
        for turn in turns:
            if levels.read(0, turn.size, 1) != turn.leaf:
                raise Unusable(
                    f"The file turns in {self._files.directory} has another turn at entry {turn.size:,} than the tree: "
                    "it was damaged or altered. Restore the books."
                )
        return turns

    async def _compare_with_log(self) -> None:
        """Compare the newest entries with the log; turn where they differ and a newer epoch is there. Raises Halted."""
        look = await self._look()
        if look["newest"] < self._position.epoch:
            raise Halted(
                f"Epoch {self._position.epoch} of the books is not in the database, which was restored to an earlier "
                f"state: run `hoso24 cache renew` until a newer epoch than {self._position.epoch} has begun "
                "(docs/runbooks/restore.md)"
            )
        compared = await self._look_back(self._position._replace(seq=self._position.seq + 1))
        if compared.accepted and not compared.still_fit:
            raise Halted(
                f"{compared.accepted:,} events that the books took fit none of HOSO24_SEAL_KEYS: these are not the "
                "keys of intake and imports"
            )
        elsewhere = self._position.xid >= look["unassigned"]
        if compared.void or elsewhere:
            if look["next"] is None:
                raise Halted(_went_back(compared.void))
            await self._turn(look["next"], look)
        elif compared.late:
            # Written with an earlier transaction id than its own: nothing of ours does that.
            log.error(
                "Events stand in the log before the notary's position and are not in the books: they are entered now"
            )
            await self._turn(self._position.epoch, look)

    # -- entering ----------------------------------------------------------------------------------------------------

    async def _enter_events(self) -> None:
        """Read and sign for as long as nothing fails."""
        while True:
            look = await self._look()
            before = Position(self._position.epoch, look["readable"], 0)
            rows = await self._log.events(self._position, before, self._batch)
            if rows:
                await self._enter(rows)
            elif look["next"] is not None:
                await self._turn(look["next"], look)
            elif self._clock() - self._signed_at >= SIGN_EVERY:
                self._sign([])
            self._keep()
            await asyncio.sleep(0 if len(rows) == self._batch else self._poll_every)

    async def _look(self) -> Any:
        look = await self._log.look(self._position, self._turn_after)
        self._behind, self._looked_at = look["behind"] or 0.0, self._clock()
        return look

    async def _enter(self, rows: Sequence[Any]) -> None:
        refused = []
        first = self._tree.size == 0
        for start in range(0, len(rows), _AT_ONCE):
            for event in map(self._read, rows[start : start + _AT_ONCE]):
                self._tree.append(event.entry, event.position.key)
                if not event.fits:
                    refused.append(event)
            await asyncio.sleep(0)
        if first and len(refused) == len(rows):
            raise Halted(
                f"The first {len(rows):,} events of the log fit none of HOSO24_SEAL_KEYS: these are not the keys of "
                "intake and imports"
            )
        self._position = event.position
        self._sign(refused)

    def _read(self, row: Any) -> _Event:
        """The event of a row. Once after each look it reads the keys again when none fits."""
        xid, seq, readable, *values, salt, erased, seal = row
        epoch, code, version = values[:3]
        position = Position(epoch, xid, seq)
        if not readable or (salt is None and erased is None):
            return _Event(position, code, version, unreadable_leaf(code, version), fits=False)
        leaf = event_leaf_hash(values, salt, erased)
        fits = self._keys.sealed_by(leaf, seal) is not None
        if not fits and self._keys_read_at < self._looked_at:
            self._keys, self._keys_read_at = self._read_keys(), self._clock()
            fits = self._keys.sealed_by(leaf, seal) is not None
        return _Event(position, code, version, leaf, fits)

    def _sign(self, refused: Sequence[_Event]) -> None:
        self._tree.sign(_Stored(*self._position, self._kept))
        self._signed_at = self._clock()
        self._publish()
        metrics.NOTARY_REFUSED.inc(len(refused))
        for event in refused[:NAMED]:
            log.error(
                "Refused an event that no seal key fits: it was written past the intake, or altered since. Compare the "
                "dossier with its papers (docs/runbooks/EventRefused.md)",
                extra={"code_hash": pseudonym(event.code), "version": event.version},
            )
        if len(refused) > NAMED:
            log.error("Refused %d more events that no seal key fits", len(refused) - NAMED)

    def _publish(self) -> None:
        levels = self._tree.levels()
        turns = b"".join(turn.line + b"\n" for turn in self._turns)
        self.published = Published(self._tree.note, levels, turns)
        metrics.NOTARY_SIZE.set(levels.size)

    def _keep(self) -> None:
        """Once a minute keep a new checkpoint in `checkpoints`, and in the log: whoever stores the log is a witness."""
        note = self._tree.note
        if note == self._kept_note or self._clock() - self._kept_at < SIGN_EVERY:
            return
        self._kept_note, self._kept_at = note, self._clock()
        # What was written without being signed since is overwritten: a later note is never shorter.
        start = min(self._kept, self._files.size("checkpoints") or 0)
        self._files.write("checkpoints", note.encode(), start)
        self._files.sync("checkpoints")
        self._kept = start + len(note.encode())
        checkpoint = self._tree.checkpoint
        # In hexadecimal digits: in base64 a piece may look like a lookup key, which the log leaves out.
        log.info(
            "The books have %d entries",
            checkpoint.size,
            extra={"origin": checkpoint.origin, "root": checkpoint.root.hex(), "signature": _signature(note)},
        )

    # -- comparing ---------------------------------------------------------------------------------------------------

    async def _look_back(self, before: Position) -> _Compared:
        """Compare entries and events from the newest full tile on, or from the newest that has all its events."""
        tiles = 1
        while True:
            since = self._compared_since(max(0, self._tree.size // TILE_WIDTH - tiles) * TILE_WIDTH)
            compared = _Compared(since)
            await self._compare(compared, since, self._tree.size, self._position_at(since), before)
            first = since + TILE_WIDTH
            whole = 0 <= compared.oldest < first and not any(index < first for index in compared.void[:1])
            if since == 0 or whole:
                await self._find_late(compared)
                return compared
            tiles *= 2

    async def _find_late(self, compared: _Compared) -> None:
        """Late events may have any lower id: look for those that seem to be missing from the log's beginning on."""
        turns = [turn for turn in self._turns if turn.late]
        places = [place for place in compared.void if any(turn.size < place < turn.end for turn in turns)]
        read = self._tree.levels().read
        missing = {read(0, place, 1): place for place in places}
        after, end = Position(0, 0, 0), self._position_at(compared.since)
        while missing and (rows := await self._log.events(after, end._replace(seq=end.seq + 1), self._batch)):
            for event in map(self._read, rows):
                for leaf in (event.leaf, refused_leaf(event.leaf)):
                    if (place := missing.pop(leaf, None)) is not None:
                        compared.void.remove(place)
            after = event.position
            await asyncio.sleep(0)

    def _compared_since(self, since: int) -> int:
        """Where to begin instead, if this is within a turn: its late events stand behind later ones."""
        for turn in reversed(self._turns):
            if turn.since < since <= turn.end:
                since = turn.since
        return since

    def _position_at(self, since: int) -> Position:
        """The position before this entry, the first of a tile."""
        if since == 0:
            return Position(0, 0, 0)
        return Position.of_key(self._tree.levels().key(since // TILE_WIDTH - 1))

    async def _compare(self, compared: _Compared, since: int, until: int, after: Position, before: Position) -> None:
        """Add to `compared` how these entries differ from these events."""
        hashes = self._tree.levels().read(0, since, until - since)
        places = {hashes[at : at + HASH_BYTES]: since + at // HASH_BYTES for at in range(0, len(hashes), HASH_BYTES)}
        while rows := await self._log.events(after, before, self._batch):
            for event in map(self._read, rows):
                place = places.pop(event.leaf, None)
                if place is not None:
                    compared.accepted += 1
                    compared.still_fit += event.fits
                else:
                    place = places.pop(refused_leaf(event.leaf), None)
                if place is None:
                    compared.late += event.entry + event.position.key
                    if not event.fits:
                        compared.refused.append(event)
                elif compared.oldest < 0 or place < compared.oldest:
                    compared.oldest = place
            after = event.position
            await asyncio.sleep(0)
        compared.void += sorted(place for place in places.values() if not self._has_no_event(place))

    def _has_no_event(self, place: int) -> bool:
        """Whether this entry is a turn, or void since one."""
        return any(
            place == turn.size or any(first <= place <= last for first, last in turn.void) for turn in self._turns
        )

    async def _turn(self, epoch: int, look: Any) -> None:
        """Enter a turn to this epoch with the late events of the one before, and sign all in one."""
        here = self._position
        if epoch == here.epoch:
            compared = await self._look_back(here._replace(seq=here.seq + 1))
        else:
            compared = await self._look_back(Position(here.epoch + 1, 0, 0))
            await self._add_early_ids(compared, look["unassigned"])
            here = Position(epoch, 0, 0)
        width = HASH_BYTES + KEY_BYTES
        late = [bytes(compared.late[at : at + width]) for at in range(0, len(compared.late), width)]
        turn = Turn(epoch, self._tree.size, ranges(compared.void), len(late), compared.since)
        replace(self._files, "turns", b"".join(each.line + b"\n" for each in [*self._turns, turn]))
        self._tree.append(turn.leaf, here.key)
        for entry in late:
            self._tree.append(entry[:HASH_BYTES], entry[HASH_BYTES:])
        self._position = here
        self._turns.append(turn)
        self._sign(compared.refused)
        log.warning(
            "The books go on in epoch %d: %d entries have no event any more, %d events of the epoch before were late",
            epoch,
            len(compared.void),
            len(late),
        )

    async def _add_early_ids(self, compared: _Compared, unassigned: int) -> None:
        """In a database made from a dump ids began anew: late events have lower ones than any that was compared."""
        epoch = self._position.epoch
        if not await self._log.has_ids_from_elsewhere(epoch, unassigned):
            return
        begins = next((turn.end for turn in self._turns if turn.epoch == epoch), 0)
        until = -(-begins // TILE_WIDTH) * TILE_WIDTH
        while until < compared.since and self._position_at(until) < (epoch, unassigned, 0):
            until += TILE_WIDTH
        if not begins < until <= compared.since:
            return
        early, last = _Compared(begins), self._position_at(until)
        await self._compare(early, begins, until, Position(epoch, 0, 0), last._replace(seq=last.seq + 1))
        compared.late = early.late + compared.late
        compared.void = early.void + compared.void
        compared.refused = early.refused + compared.refused

    # -- trouble -----------------------------------------------------------------------------------------------------

    def _stop_for(self, trouble: str, level: int, *, halted: bool = False) -> None:
        """Nothing is entered now: say why at once, and every REMIND_AFTER seconds."""
        now = self._clock()
        if trouble != self._trouble or now - self._reminded_at >= REMIND_AFTER:
            self._reminded_at = now
            log.log(level, "The notary enters nothing: %s", trouble.rstrip("."))
        self._trouble = trouble
        self._set_halted(halted)

    def _go_on(self) -> None:
        if self._trouble:
            log.info("The notary enters events from entry %d on", self._tree.size)
        self._trouble = ""
        self._set_halted(False)

    def _set_halted(self, halted: bool) -> None:
        self.halted = halted
        metrics.NOTARY_HALTED.set(halted)
        self._tell_not_ready(halted)


def _went_back(void: Sequence[int]) -> str:
    advice = (
        "If PostgreSQL was restored, run `hoso24 cache renew` (docs/runbooks/restore.md); if not, run `hoso24 audit "
        "verify`: events were altered or removed"
    )
    if not void:
        return f"The database assigns transaction ids that the books are past already. {advice}"
    return f"{len(void):,} entries of the books, from entry {void[0]:,} on, have no event in the database. {advice}"


def _signature(note: str) -> str:
    """The signature of a note with one signature, as hexadecimal digits."""
    return base64.b64decode(note.rpartition(" ")[2]).hex()
