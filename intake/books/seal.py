"""Format 2 of an event as bytes: leaf data, salted digests, and the seal.

The leaf data of an event is `hoso24/event-2`, a newline, and a JSON array of LEAF_COLUMNS in this order, the digest of
the event's content last. JSON is written without blanks; a time is in UTC, as `2026-11-16T01:30:15.123456Z`, without
a fraction when it has none; bytes are base64; what is null is null. `tests/intake/event_format_2.json` has examples,
which never change: another list, order or spelling needs another name in the first line.

What may be erased, CONTENT_COLUMNS, is hashed with a random salt: content = SHA-256(salt, JSON array). Erasing an event
stores this digest (column `erased`) and empties these columns and the salt; the leaf stays as it was, and what was
there cannot be guessed.

A seal is the first 16 bytes of HMAC-SHA256 over the leaf hash. Processes that make events have the keys, and so has the
notary; PostgreSQL never sees one.
"""

import hashlib
import hmac
import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

import msgspec

from intake.books.tree import HASH_BYTES, leaf_hash

FORMAT: Final = b"hoso24/event-2\n"
SALT_BYTES: Final = 16
SEAL_BYTES: Final = 16


class EventRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One event of format 2, as a row of table `event`, but for what PostgreSQL, salt and seal keys add.

    The order of the fields is the order in the leaf, so it never changes. Times may be in any zone.
    """

    epoch: int
    code: str
    version: int
    kind: str
    bulk: bool = False
    occurred_at: datetime
    recorded_at: datetime
    source: str
    source_event_id: str | None = None
    source_seq: int | None = None
    flags: list[str] | None = None
    submitted_by: str | None = None
    came_from: str | None = None
    step_status: int | None = None
    task: int | None = None
    paper: bytes | None = None
    """SHA-256 of a paper that the event issued."""
    # The dossier after the event.
    status: int
    agency: str
    origin: str
    owner: str | None = None
    outcome: str | None = None
    received_at: datetime | None = None
    due_at: datetime | None = None
    finished_at: datetime | None = None
    returned_at: datetime | None = None
    calendar: str | None = None
    pauses: str | None = None
    """As `jsonb_text` writes them; None when the event leaves them as they were."""
    supplements: int = 0
    reappointments: int = 0
    key_serial: int = 0
    # In the first event and in corrections.
    service: str | None = None
    service_case: str | None = None
    channel: str | None = None
    submitted_at: datetime | None = None
    person: bytes | None = None
    """`person_digest` of the applicant and the subject."""
    # May be erased: in the leaf by their digest only.
    note: str | None = None
    detail: str | None = None
    actor: str | None = None
    department: str | None = None
    official_number: str | None = None

    def row(self, salt: bytes, keys: "SealKeys") -> tuple[Any, ...]:
        """The values of ROW_COLUMNS. `salt` is `new_salt()`, the same that `person` was made with.

        Raises ValueError for a time without a zone.
        """
        values = list(msgspec.structs.astuple(self))
        for at in _TIMES:
            time = values[at]
            if time is not None and time.tzinfo is not UTC:
                if time.tzinfo is None:
                    raise ValueError(f"{HASHED_COLUMNS[at]} of an event needs a time zone")
                values[at] = time.astimezone(UTC)
        return (*values, salt, keys.seal(event_leaf_hash(values, salt)))


HASHED_COLUMNS: Final = EventRecord.__struct_fields__
"""The columns of an event that its leaf covers; functions here take their values in this order."""

CONTENT_COLUMNS: Final = HASHED_COLUMNS[HASHED_COLUMNS.index("note") :]
"""Those that may be erased."""

LEAF_COLUMNS: Final = (*HASHED_COLUMNS[: -len(CONTENT_COLUMNS)], "content")
"""What stands in the leaf, in this order."""

ROW_COLUMNS: Final = (*HASHED_COLUMNS, "salt", "seal")
"""The columns of a new row of table `event`; `format` and `erased` take their defaults."""

_OPEN: Final = len(LEAF_COLUMNS) - 1
_TIMES: Final = tuple(at for at, name in enumerate(HASHED_COLUMNS) if name.endswith("_at"))

PERSON_COLUMNS: Final = (
    "applicant_kind",
    "applicant_name",
    "applicant_id",
    "applicant_phone",
    "applicant_email",
    "applicant_address",
    "subject",
)
"""The columns of a dossier that `person_digest` covers, in this order."""

_encode = msgspec.json.Encoder().encode


# -- leaf and digests ------------------------------------------------------------------------------------------------


def new_salt() -> bytes:
    """A salt for one event."""
    return os.urandom(SALT_BYTES)


def content_digest(values: Sequence[Any], salt: bytes) -> bytes:
    """The 32 bytes that stand for note, detail, actor, department and official number of HASHED_COLUMNS' `values`.

    An erasure stores it in `erased`. Raises ValueError unless the salt has 16 bytes.
    """
    if len(salt) != SALT_BYTES:
        raise ValueError(f"a salt has {SALT_BYTES} bytes, not {len(salt)}")
    return hashlib.sha256(salt + _encode(values[_OPEN:])).digest()


def leaf_data(values: Sequence[Any], salt: bytes | None, erased: bytes | None = None) -> bytes:
    """The leaf data of an event with these values of HASHED_COLUMNS, times in UTC.

    With `erased`, which a lawful erasure stored, salt and content are not looked at. Raises ValueError without both.
    """
    if erased is None:
        if salt is None:
            raise ValueError("an event has a salt, or the digest of what was erased")
        erased = content_digest(values, salt)
    elif len(erased) != HASH_BYTES:
        raise ValueError(f"the digest of what was erased has {HASH_BYTES} bytes, not {len(erased)}")
    return FORMAT + _encode((*values[:_OPEN], erased))


def event_leaf_hash(values: Sequence[Any], salt: bytes | None, erased: bytes | None = None) -> bytes:
    """The hash of that leaf."""
    return leaf_hash(leaf_data(values, salt, erased))


def read_leaf(data: bytes) -> dict[str, Any]:
    """LEAF_COLUMNS of an event by name, as JSON has them: times are text, bytes base64. Raises ValueError."""
    try:
        values = msgspec.json.decode(data.removeprefix(FORMAT), type=list[Any], strict=True)
    except (msgspec.DecodeError, UnicodeDecodeError):
        values = []
    if not data.startswith(FORMAT) or len(values) != len(LEAF_COLUMNS) or FORMAT + _encode(values) != data:
        raise ValueError("the data is no leaf of an event of format 2")
    return dict(zip(LEAF_COLUMNS, values, strict=True))


def person_digest(salt: bytes, values: Sequence[str | int | None]) -> bytes:
    """The 32 bytes that stand for an applicant: SHA-256 of the salt and PERSON_COLUMNS' `values` as jsonb text.

    PostgreSQL computes the same: `sha256(salt || convert_to(jsonb_build_array(…)::text, 'UTF8'))`. So an auditor
    needs no right to read an applicant.
    """
    return hashlib.sha256(salt + b"[" + b", ".join(map(_encode, values)) + b"]").digest()


def jsonb_text(value: Any) -> str:
    """The value as PostgreSQL writes jsonb: keys by length, then by bytes; a blank after each comma and colon.

    Raises TypeError for anything but dict, list, text, int, bool and None: a number with a fraction has several
    spellings.
    """
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
        return "{" + ", ".join(f"{_encode(key).decode()}: {jsonb_text(value[key])}" for key in keys) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(jsonb_text, value)) + "]"
    if value is None or type(value) in {str, int, bool}:
        return _encode(value).decode()
    raise TypeError(f"jsonb text of a {type(value).__name__} is not written here")


# -- seals -----------------------------------------------------------------------------------------------------------

_ID = re.compile(r"[0-9a-z-]{1,32}", re.ASCII)
_LEAST_KEY_BYTES = 16
_BLOCK_BYTES = 64


class SealKeys:
    """The keys that seal events: the first makes seals, all of them verify."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        """`keys` by id, the current one first. Raises ValueError when there is none, or a key is short."""
        if not keys:
            raise ValueError("there is no seal key")
        for name, key in keys.items():
            if len(key) < _LEAST_KEY_BYTES:
                raise ValueError(f"seal key {name} has {len(key)} bytes; it needs {_LEAST_KEY_BYTES} or more")
        # HMAC's two hashes with the key already in them. Copying both takes half as long as hmac.digest.
        self._hashes = MappingProxyType({name: (_padded(key, 0x36), _padded(key, 0x5C)) for name, key in keys.items()})
        self._first = next(iter(self._hashes.values()))

    @classmethod
    def from_text(cls, text: str) -> "SealKeys":
        """Parse `id:hex,id:hex`, as HOSO24_SEAL_KEYS has them. Raises ValueError with one sentence, without a key."""
        keys: dict[str, bytes] = {}
        for number, item in enumerate(text.split(","), 1):
            name, colon, written = item.strip().partition(":")
            if not colon or not _ID.fullmatch(name):
                raise ValueError(
                    f"seal key {number} is not written id:hex with an id of letters a-z, digits and dashes"
                )
            if name in keys:
                raise ValueError(f"two seal keys have the id {name}; give the newer one another")
            try:
                keys[name] = bytes.fromhex(written)
            except ValueError:
                raise ValueError(f"seal key {name} is not written in hexadecimal digits") from None
        return cls(keys)

    def __repr__(self) -> str:
        return f"SealKeys({', '.join(self._hashes)})"

    def seal(self, leaf: bytes) -> bytes:
        """The seal of an event with this leaf hash, by the first key."""
        return _seal(self._first, leaf)

    def sealed_by(self, leaf: bytes, seal: bytes) -> str | None:
        """The id of the key that made this seal for this leaf hash; None when none did."""
        for name, hashes in self._hashes.items():
            if hmac.compare_digest(_seal(hashes, leaf), seal):
                return name
        return None


def _padded(key: bytes, pad: int) -> Any:
    key = hashlib.sha256(key).digest() if len(key) > _BLOCK_BYTES else key
    return hashlib.sha256(bytes(byte ^ pad for byte in key.ljust(_BLOCK_BYTES, b"\0")))


def _seal(hashes: tuple[Any, Any], leaf: bytes) -> bytes:
    inner, outer = hashes[0].copy(), hashes[1].copy()
    inner.update(leaf)
    outer.update(inner.digest())
    sealed: bytes = outer.digest()[:SEAL_BYTES]
    return sealed
