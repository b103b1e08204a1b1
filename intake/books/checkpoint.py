"""Signed checkpoints: a tree's origin, size and root under one or more Ed25519 signatures.

The text is a checkpoint of C2SP (tlog-checkpoint) in a signed note (signed-note, signature type 0x01). Parsing is
strict: there is one way to write a checkpoint, and every other text raises NotACheckpoint.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from intake.books.tree import HASH_BYTES, LARGEST

LONGEST_NOTE = 128 * 1024
"""Bytes. Post-quantum signatures of others are up to 5 kB each."""
MOST_SIGNATURES = 100

_ED25519 = b"\x01"
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_SIGNATURE = re.compile(r"\u2014 (?P<name>[^ ]+) (?P<signature>[A-Za-z0-9+/]+=*)", re.ASCII)
_VKEY = re.compile(r"(?P<name>[^+]+)\+(?P<id>[0-9a-f]{8})\+(?P<key>[A-Za-z0-9+/]+=*)", re.ASCII)


class NotACheckpoint(ValueError):
    """The text is no checkpoint of this tree; the message says why in one sentence."""


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """The public half of a key: its name, which is the tree's origin, and 32 bytes."""

    name: str
    public: bytes

    def __post_init__(self) -> None:
        """Raises ValueError when the name may not stand in a signature line, or the key is not 32 bytes."""
        _check_name(self.name)
        if len(self.public) != 32:
            raise ValueError(f"an Ed25519 public key has 32 bytes, not {len(self.public)}")

    @property
    def id(self) -> bytes:
        """The four bytes that signature lines name the key by."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:4]

    @property
    def text(self) -> str:
        """The key as one word, `name+id+base64` (vkey)."""
        return f"{self.name}+{self.id.hex()}+{_base64(_ED25519 + self.public)}"

    @classmethod
    def from_text(cls, text: str) -> "VerifierKey":
        """The key that `text` wrote. Raises ValueError with one sentence for any other text."""
        match = _VKEY.fullmatch(text)
        raw = _bytes(match["key"]) if match else None
        if match is None or raw is None or raw[:1] != _ED25519 or len(raw) != 33:
            raise ValueError("a verifier key is written name+id+base64 and is an Ed25519 key (type 1) of 32 bytes")
        key = cls(match["name"], raw[1:])
        if key.id.hex() != match["id"]:
            raise ValueError(f"the verifier key of {key.name} has id {key.id.hex()}, not {match['id']}: it is mistyped")
        return key

    def fits(self, text: bytes, signature: bytes) -> bool:
        """Whether this key made this signature over the text."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text)
        except (InvalidSignature, ValueError):
            return False
        return True


class Signer:
    """A key that signs notes."""

    def __init__(self, name: str, seed: bytes) -> None:
        """Raises ValueError unless the seed has 32 bytes and the name may stand in a signature line."""
        if len(seed) != 32:
            raise ValueError(f"the seed of an Ed25519 key has 32 bytes, not {len(seed)}")
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.key = VerifierKey(name, self._private.public_key().public_bytes_raw())

    def line(self, text: str) -> str:
        """The signature line over a note's text."""
        signature = self.key.id + self._private.sign(text.encode())
        return f"\u2014 {self.key.name} {_base64(signature)}\n"


def note(text: str, signers: Sequence[Signer]) -> str:
    """The text, an empty line, and a signature line of each signer. Raises ValueError when `text` cannot be signed."""
    if not text.endswith("\n") or _has_controls(text) or not signers:
        raise ValueError("a note's text ends with a newline, has no other control character, and is signed")
    return f"{text}\n{''.join(signer.line(text) for signer in signers)}"


def open_note(data: bytes, keys: Sequence[VerifierKey]) -> str:
    """The text of a signed note, when at least one of `keys` signed it and none of its signatures by them is wrong.

    Signatures of other keys are passed over. Raises NotACheckpoint.
    """
    if len(data) > LONGEST_NOTE:
        raise NotACheckpoint(f"the note is longer than {LONGEST_NOTE:,} bytes")
    try:
        whole = data.decode()
    except UnicodeDecodeError:
        raise NotACheckpoint("the note is not UTF-8") from None
    if _has_controls(whole):
        raise NotACheckpoint("the note has a control character, as lines that end with CR LF have")
    before, separator, after = whole.rpartition("\n\n")
    if not separator or not before or not after.endswith("\n"):
        raise NotACheckpoint("the note is cut short: it has no complete signature line after an empty line")
    text, lines = f"{before}\n", after[:-1].split("\n")
    if len(lines) > MOST_SIGNATURES:
        raise NotACheckpoint(f"the note has more than {MOST_SIGNATURES} signatures")
    signed = False
    for line in lines:
        match = _SIGNATURE.fullmatch(line)
        raw = _bytes(match["signature"]) if match else None
        if match is None or raw is None or len(raw) < 5 or not _is_name(match["name"]):
            raise NotACheckpoint("the note has a line after its text that is no signature")
        for key in keys:
            if key.name == match["name"] and key.id == raw[:4]:
                if not key.fits(text.encode(), raw[4:]):
                    raise NotACheckpoint(f"the signature of {key.name} is wrong: the note was altered")
                signed = True
    if not signed:
        raise NotACheckpoint(f"the note is not signed by {' or '.join(key.text for key in keys)}")
    return text


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What one tree was at one time."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """The three lines that are signed."""
        return f"{self.origin}\n{self.size}\n{_base64(self.root)}\n"

    def signed(self, *signers: Signer) -> str:
        """The checkpoint as a signed note. Raises ValueError when the origin may not stand in one."""
        _check_name(self.origin)
        if len(self.root) != HASH_BYTES or not 0 <= self.size < LARGEST:
            raise ValueError(f"there is no tree of {self.size} leaves with a root of {len(self.root)} bytes")
        return note(self.text, signers)

    @classmethod
    def opened(cls, data: bytes, key: VerifierKey) -> "Checkpoint":
        """The checkpoint in a note that `key` signed, of the tree whose origin is the name of `key`.

        Raises NotACheckpoint; also for extension lines, which these trees never have.
        """
        lines = open_note(data, [key]).split("\n")
        if len(lines) != 4:
            raise NotACheckpoint("a checkpoint has three lines: origin, size and root")
        origin, size, root, _ = lines
        if origin != key.name:
            raise NotACheckpoint(f"the checkpoint is of another tree, {origin[:200]!r} and not {key.name!r}")
        if not _SIZE.fullmatch(size) or int(size) >= LARGEST:
            raise NotACheckpoint("the size of the checkpoint is no decimal number below 2^63 without leading zeros")
        raw = _bytes(root)
        if raw is None or len(raw) != HASH_BYTES:
            raise NotACheckpoint("the root of the checkpoint is not 32 bytes in base64")
        return cls(origin, int(size), raw)


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _bytes(text: str) -> bytes | None:
    """What `_base64` wrote as this text; None when it wrote no such text, as with bits set in the padding."""
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return None
    return raw if _base64(raw) == text else None


def _has_controls(text: str) -> bool:
    return any(character < " " and character != "\n" for character in text)


def _is_name(name: str) -> bool:
    return bool(name) and "+" not in name and not any(character.isspace() or character < " " for character in name)


def _check_name(name: str) -> None:
    if not _is_name(name):
        raise ValueError(f"the name of a key, which is the tree's origin, has no blank and no plus sign: {name!r}")
