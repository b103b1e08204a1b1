"""The stamp on a paper: what it says, how it is written, and whether one of our keys made it. No I/O, no database.

Signed are `hoso24-paper-1`, a zero byte, the dossier's code, a zero byte, and 28 bytes: key id (1), form (1), reception
and due date (5 each, whole seconds since 1970; 0: none) and the first 16 bytes of the SHA-256 of the paper's content.
The stamp is these 28 bytes and the Ed25519 signature (64).

As text it is the code as in addresses, a dot, and the stamp in base32: capitals, digits, dots and dashes only, which a
QR code packs densely and no address has to escape. intake/rules/stamps.py makes stamps.
"""

import base64
import re
import struct
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Annotated, Any, Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Meta

from lookup import code as codes
from lookup.code import DossierCode

FORMS: Final = ("receipt", "supplement", "refusal", "apology", "stop", "control")
"""The forms of papers. A form's number in a stamp is its place, from 1, and never changes."""
DIGEST_BYTES: Final = 16
LONGEST: Final = 2_000
"""Characters of the longest text in which a stamp is looked for."""
SIGNATURE_BYTES: Final = 64
_CONTEXT: Final = b"hoso24-paper-1\0"
_HEAD: Final = struct.Struct(f">BB5s5s{DIGEST_BYTES}s")
_STAMP_BYTES: Final = _HEAD.size + SIGNATURE_BYTES
_STAMP_CHARACTERS: Final = -(-_STAMP_BYTES * 8 // 5)
_WRITTEN = re.compile(
    rf"(?<![A-Z0-9.-])([A-Z0-9][A-Z0-9.-]{{5,79}})\.([A-Z2-7]{{{_STAMP_CHARACTERS}}})(?![A-Z0-9])", re.ASCII
)


class NotStamped(ValueError):
    """The text has no stamp, or one that none of the keys made. The message is one sentence."""


class Stamp(msgspec.Struct, frozen=True):
    """What a stamp says of the paper of one dossier: times in whole seconds, the beginning of its content's digest."""

    key_id: int
    form: str
    received_at: datetime | None
    due_at: datetime | None
    digest: bytes
    signature: bytes = b""

    def signed(self, code: DossierCode) -> bytes:
        """The bytes that the key signs. Raises ValueError for a time before 1970 or a digest of another length."""
        return _CONTEXT + code.text.encode() + b"\0" + self._head()

    def text(self, code: DossierCode) -> str:
        """The stamp as it is written behind its dossier's code."""
        return f"{code.path}.{base64.b32encode(self._head() + self.signature).decode().rstrip('=')}"

    def _head(self) -> bytes:
        if len(self.digest) != DIGEST_BYTES:
            raise ValueError(f"a stamp has {DIGEST_BYTES} bytes of a digest, not {len(self.digest)}")
        number = FORMS.index(self.form) + 1
        return _HEAD.pack(self.key_id, number, _packed(self.received_at), _packed(self.due_at), self.digest)


class PaperKey(msgspec.Struct, frozen=True):
    """A key that has stamped papers: its public half in hexadecimal digits, whose it is, and since when it is used."""

    key: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    issuer: Annotated[str, Meta(min_length=1, max_length=300)]
    since: date = msgspec.field(name="from")


class Stamped(msgspec.Struct, frozen=True):
    """A stamp that a key has made, the dossier that it is of, and that key."""

    code: DossierCode
    stamp: Stamp
    key: PaperKey


class PublicKeys:
    """The public halves of all keys that ever stamped papers, by their ids."""

    def __init__(self, keys: Mapping[int, PaperKey]) -> None:
        self.keys = dict(keys)
        self._ready = {key_id: Ed25519PublicKey.from_public_bytes(bytes.fromhex(of.key)) for key_id, of in keys.items()}

    @classmethod
    def from_json(cls, text: bytes) -> "PublicKeys":
        """Read a file of HOSO24_PAPER_PUBLIC_KEYS: `{"1": {"key": "…", "issuer": "…", "from": "2026-12-01"}, …}`.

        Ids are 0 to 255. Raises ValueError with one sentence.
        """
        try:
            keys = msgspec.json.decode(text, type=dict[Annotated[int, Meta(ge=0, le=255)], PaperKey])
        except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
            raise ValueError(f"the public keys of papers are not written as they should be: {wrong}") from None
        twice = {of.key for of in keys.values()}
        if len(twice) < len(keys):
            raise ValueError("two ids have the same public key; a key has one id, for good")
        return cls(keys)

    def to_json(self) -> bytes:
        """The same file."""
        told = {str(key_id): of for key_id, of in sorted(self.keys.items())}
        return msgspec.json.format(msgspec.json.encode(told), indent=2) + b"\n"

    def id_of(self, public: bytes) -> int | None:
        """The id of the key with this public half of 32 bytes; None if it is not among them."""
        return next((key_id for key_id, of in self.keys.items() if of.key == public.hex()), None)

    def verified(self, text: str) -> Stamped:
        """The stamp in this text, which may be a link or have words around it. Raises NotStamped."""
        code, stamp = read_stamp(text)
        return self.verify(code, stamp)

    def verify(self, code: DossierCode, stamp: Stamp) -> Stamped:
        """The stamp with the key that made it for this dossier. Raises NotStamped."""
        key = self._ready.get(stamp.key_id)
        if key is None:
            raise NotStamped(f"No key with the id {stamp.key_id} is known here.")
        try:
            key.verify(stamp.signature, stamp.signed(code))
        except InvalidSignature:
            raise NotStamped("No key that is known here made this stamp for this dossier.") from None
        return Stamped(code, stamp, self.keys[stamp.key_id])


def read_stamp(text: str) -> tuple[DossierCode, Stamp]:
    """The stamp in a text and the dossier that it says to be of; nothing is verified. Raises NotStamped."""
    if len(text) > LONGEST:
        raise NotStamped(f"The text has {len(text):,} characters; a stamp is looked for in {LONGEST:,} at most.")
    if (written := _WRITTEN.search(text.upper())) is None:
        raise NotStamped("There is no stamp in this text.")
    try:
        code = codes.parse(written[1])
        padded = written[2] + "=" * (-_STAMP_CHARACTERS % 8)
        whole = base64.b32decode(padded)
    except (codes.MalformedCode, ValueError):
        raise NotStamped("There is no stamp in this text.") from None
    key_id, number, received, due, digest = _HEAD.unpack(whole[: _HEAD.size])
    if base64.b32encode(whole).decode() != padded or code.path != written[1] or not 1 <= number <= len(FORMS):
        raise NotStamped("There is no stamp in this text.")
    try:
        times = _unpacked(received), _unpacked(due)
    except (OverflowError, OSError, ValueError):
        raise NotStamped("There is no stamp in this text.") from None
    return code, Stamp(key_id, FORMS[number - 1], *times, digest, whole[_HEAD.size :])


def _packed(at: datetime | None) -> bytes:
    seconds = 0 if at is None else int(at.timestamp())
    if seconds < 0:
        raise ValueError("a stamp tells no time before 1970")
    return seconds.to_bytes(5)


def _unpacked(packed: bytes) -> datetime | None:
    seconds: Any = int.from_bytes(packed)
    return datetime.fromtimestamp(seconds, UTC) if seconds else None
