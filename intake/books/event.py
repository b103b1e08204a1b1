"""An event: one change of one dossier, as the event log keeps it.

Columns, row and hash follow from the fields of `Event`. lookup/schema/0003_event.sql says what each column means;
PostgreSQL fills `xid` and `seq`.

The events of a dossier form a hash chain: `hash = SHA-256(hash of the event before, this event as JSON)`. The first
event follows 32 zero bytes.
"""

import hashlib
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

import msgspec

GENESIS = bytes(32)
"""The hash that the first event of a dossier follows."""

_FORMAT = "event-1"
"""The name of the hashed format. Another list or order of fields needs another name, and both have to be verified."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What one change made of a dossier. The order of the fields is part of the hash, so it never changes."""

    code: str
    version: int
    kind: str
    status: int
    occurred_at: datetime
    recorded_at: datetime
    agency: str
    department: str | None
    actor: str
    source: str
    source_event_id: str | None
    bulk: bool = False
    note: str | None = None
    official_number: str | None = None

    def hash_after(self, prev_hash: bytes) -> bytes:
        """The 32 bytes of this event's hash when it follows an event with `prev_hash`. Times are hashed in UTC."""
        content = (value.astimezone(UTC) if isinstance(value, datetime) else value for value in _content(self))
        return hashlib.sha256(prev_hash + _encode((_FORMAT, *content))).digest()

    def row(self, epoch: int, prev_hash: bytes) -> tuple[Any, ...]:
        """The values of EVENT_COLUMNS, the event's own hash last."""
        return (epoch, *_content(self), prev_hash, self.hash_after(prev_hash))


HASHED_COLUMNS = tuple(field.name for field in fields(Event))
"""The columns that the hash covers, in its order."""

EVENT_COLUMNS = ("epoch", *HASHED_COLUMNS, "prev_hash", "hash")
"""The columns of a new row of table `event`."""

APPEND_EVENT = f"""
INSERT INTO event ({", ".join(EVENT_COLUMNS)})
VALUES ({", ".join(f"${n}" for n, _ in enumerate(EVENT_COLUMNS, start=1))})
RETURNING xid, seq
"""

_content = attrgetter(*HASHED_COLUMNS)
_encode = msgspec.json.Encoder().encode
