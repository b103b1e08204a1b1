"""Dossiers written as intake writes them, but one statement at a time and without its rules: sealed events of any kind,
and a first row. For tests of the books.
"""

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from intake.books.checkpoint import Signer
from intake.books.dossier import INSERT_DOSSIER, NewDossier, public_step, timeline
from intake.books.entries import Position, Turn, refused_leaf
from intake.books.event import APPEND_EVENT
from intake.books.seal import (
    HASHED_COLUMNS,
    PERSON_COLUMNS,
    EventRecord,
    SealKeys,
    event_leaf_hash,
    new_salt,
    person_digest,
)
from intake.books.tree_files import Files, SignedTree
from lookup.status import Status
from tests.conftest import SEAL_KEYS

AGENCY = "G99.01.01"
KEYS = SealKeys.from_text(SEAL_KEYS)
START = datetime(2026, 11, 30, 1, 30, tzinfo=UTC)
PERSON: dict[str, Any] = dict.fromkeys(PERSON_COLUMNS) | {
    "applicant_kind": 1,
    "applicant_name": "Nguyễn Văn Mẫu (hư cấu)",
    "applicant_id": "999000000001",
}

_numbers = itertools.count(1)


class Written:
    """Writes events with a connection of the writer, or of the owner, and knows what each dossier is after them."""

    def __init__(self, connection: Any, *, epoch: int = 1, keys: SealKeys = KEYS) -> None:
        self.connection = connection
        self.epoch = epoch
        self.keys = keys
        self.last: dict[str, EventRecord] = {}
        """Code → its newest event."""

    async def receive(self, code: str | None = None, **fields: Any) -> str:
        """A new dossier with its first event; its code. `fields` are of the event, and of the applicant."""
        code = code or f"{AGENCY}-261130-{next(_numbers):05d}"
        person = PERSON | {name: fields.pop(name) for name in PERSON_COLUMNS if name in fields}
        salt = new_salt()
        event = self._event(code, 1, "received", person=_digest(salt, person), **_FIRST | fields)
        async with self.connection.transaction():
            await self.connection.execute(INSERT_DOSSIER, *first_row(event, person).row())
            await self.connection.execute(APPEND_EVENT, *event.row(salt, self.keys))
        self.last[code] = event
        return code

    async def follow(self, code: str, kind: str = "moved", **fields: Any) -> EventRecord:
        """The dossier's next event, which is like the last one but for `fields`; the row follows."""
        event, salt = self.next(code, kind, **fields), new_salt()
        await self.connection.execute(APPEND_EVENT, *event.row(salt, self.keys))
        self.last[code] = event
        return event

    async def correct_applicant(self, code: str, **person: Any) -> None:
        """Change the applicant as a correction does: in the row and, by its digest, in the log."""
        salt = new_salt()
        changed = PERSON | person
        event = self.next(code, "corrected", person=_digest(salt, changed), detail='{"applicant":["name"]}')
        sets = ", ".join(f"{name} = ${n}" for n, name in enumerate(PERSON_COLUMNS, start=2))
        async with self.connection.transaction():
            await self.connection.execute(f"UPDATE dossier SET {sets} WHERE code = $1", code, *changed.values())
            await self.connection.execute(APPEND_EVENT, *event.row(salt, self.keys))
        self.last[code] = event

    async def life(self, number: str | None = None, **fields: Any) -> str:
        """A dossier of five events, or six with an official number."""
        code = await self.receive(**fields)
        await self.follow(code, status=4, actor="Cán bộ Mẫu", note="Thẩm định", department="Phòng Chế độ")
        if number is not None:
            await self.follow(code, "number_bound", official_number=number)
        await self.follow(code, status=5, note="Bổ sung bản sao", supplements=1)
        await self.follow(code, status=9, outcome="granted", finished_at=START + timedelta(days=2))
        await self.follow(code, status=10, outcome="granted", returned_at=START + timedelta(days=3))
        return code

    async def remove(self, code: str) -> None:
        """The dossier removed by the log; its events are not erased by that."""
        await self.follow(code, "removed")

    def next(self, code: str, kind: str, **fields: Any) -> EventRecord:
        """The event that would follow, not written."""
        last = self.last[code]
        kept = {name: getattr(last, name) for name in _KEPT}
        return self._event(code, last.version + 1, kind, **kept | fields)

    def _event(self, code: str, version: int, kind: str, **fields: Any) -> EventRecord:
        now = datetime.now(UTC)
        usual: dict[str, Any] = {
            "source": "test",
            "occurred_at": START + timedelta(hours=version),
            "recorded_at": now,
            "agency": AGENCY,
            "origin": AGENCY,
        }
        return EventRecord(epoch=self.epoch, code=code, version=version, kind=kind, **usual | fields)


_FIRST: dict[str, Any] = {
    "status": 2,
    "service": "S.004",
    "service_case": "default",
    "channel": "direct",
    "submitted_at": START,
    "received_at": START,
    "due_at": START + timedelta(days=14),
    "calendar": "vn-2026",
    "department": "Một cửa",
}
_KEPT = (
    *("status", "agency", "origin", "owner", "outcome", "received_at", "due_at", "finished_at", "returned_at"),
    *("calendar", "supplements", "reappointments", "key_serial"),
)


def first_row(event: EventRecord, person: dict[str, Any]) -> NewDossier:
    """The row of a dossier after its first event."""
    step = public_step(event.occurred_at, Status(event.status), event.agency, event.department)
    fields = msgspec.structs.asdict(event)
    return NewDossier(
        **{name: fields[name] for name in NewDossier.__dataclass_fields__ if name in fields and name != "pauses"},
        timeline=timeline(step),
        **person,
    )


def _digest(salt: bytes, person: dict[str, Any]) -> bytes:
    return person_digest(salt, list(person.values()))


# -- the books, without a notary -------------------------------------------------------------------------------------

ORIGIN = "hoso24.example/books"
SIGNER = Signer(ORIGIN, bytes(range(32)))

AFTER = f"""
SELECT epoch AS e, xid, seq, seal, salt, erased, {", ".join(HASHED_COLUMNS)}
  FROM event
 WHERE (epoch, xid, seq) > ($1::integer, $2::xid8, $3::bigint)
   AND epoch = $1
 ORDER BY epoch, xid, seq
"""


class Entered:
    """Books in a directory, into which this enters the log's events as the notary does, but only when told to."""

    def __init__(self, directory: Path, connection: Any, signer: Signer = SIGNER, keys: SealKeys = KEYS) -> None:
        self.directory = directory
        self.connection = connection
        self.signer = signer
        self.keys = keys
        SignedTree.begin(Files(directory), signer, {"epoch": 1, "xid": 0, "seq": 0, "kept": 0}).close()

    async def enter(self) -> bytes:
        """Enter all events of the epoch that are not there yet, and sign; the checkpoint."""
        tree = SignedTree.open(Files(self.directory), self.signer)
        at = Position(*(tree.position[name] for name in ("epoch", "xid", "seq")))
        for event in await self.connection.fetch(AFTER, *at):
            leaf = event_leaf_hash(tuple(event)[6:], event["salt"], event["erased"])
            at = Position(event["e"], event["xid"], event["seq"])
            sealed = self.keys.sealed_by(leaf, event["seal"]) is not None
            tree.append(leaf if sealed else refused_leaf(leaf), at.key)
        note = tree.sign(at._asdict() | {"kept": 0})
        tree.close()
        return note.encode()

    async def turn(self, epoch: int, void: list[tuple[int, int]], late: Sequence[bytes]) -> None:
        """A turn to this epoch, and behind it these leaves of late events."""
        tree = SignedTree.open(Files(self.directory), self.signer)
        turn = Turn(epoch, tree.size, void, len(late), 0)
        for leaf in (turn.leaf, *late):
            tree.append(leaf, Position(epoch, 0, 0).key)
        with (self.directory / "turns").open("ab") as file:
            file.write(turn.line + b"\n")
        tree.sign({"epoch": epoch, "xid": 0, "seq": 0, "kept": 0})
        tree.close()
