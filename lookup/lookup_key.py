"""The lookup key printed on a receipt: proof of holding it, which guessing codes does not give.

`2KQ0F-9D3XZ-7MHWA`: key id, the dossier's serial, sixty bits of HMAC-SHA256 over code and serial, and a
check character, in Crockford's base 32 (no I, L, O, U). It is checked without I/O, so a wrong key costs
nothing and does not reveal whether a code exists. Re-issuing raises the dossier's serial.
"""

import hmac
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from lookup.code import DossierCode
from ops.errors import Malformed

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES = {character: value for value, character in enumerate(ALPHABET)}
_VALUES |= {"O": 0, "I": 1, "L": 1}
_LENGTH = 15
_PRINTED = re.compile(r"[0-9A-Z]{5}([-–—−\s]+)[0-9A-Z]{5}([-–—−\s]+)[0-9A-Z]{5}", re.ASCII)
_MAC_CHARACTERS = 12
"""Five bits each. Sixty bits cannot be guessed online; the check character turns a typing mistake into a 400."""
HIGHEST_SERIAL = 31


class KeyFlaw(Enum):
    """Why a text is no key."""

    EMPTY = "empty"
    LENGTH = "length"
    """It has `n` letters and digits."""
    CHECK = "check"
    """A letter or digit is wrong."""


SENTENCES: dict[KeyFlaw, tuple[str, str]] = {
    KeyFlaw.EMPTY: ("Enter the access key.", "Vui lòng nhập mã tra cứu."),
    KeyFlaw.LENGTH: (
        "An access key has 15 letters and digits; you entered {n}.",
        "Mã tra cứu có 15 chữ và số; nội dung vừa nhập có {n}.",
    ),
    KeyFlaw.CHECK: (
        "One of the letters or digits is wrong. Compare the key with the receipt.",
        "Mã tra cứu có chữ hoặc số chưa đúng. Vui lòng so lại với giấy tiếp nhận.",
    ),
}
"""What each flaw is called, in English and in Vietnamese: to the API's clients and on the pages alike."""


class MalformedKey(Malformed):
    """The text cannot be a printed key. `flaw` says why; `detail` is the same in words, without what was typed."""

    code = "malformed_key"
    title = "This is not an access key. Compare every letter and digit with the receipt."
    title_vi = "Đây chưa phải là mã tra cứu. Vui lòng so lại từng chữ, từng số với giấy tiếp nhận."

    def __init__(self, flaw: KeyFlaw = KeyFlaw.CHECK, n: int = 0) -> None:
        english, vietnamese = SENTENCES[flaw]
        super().__init__(english.format(n=n), detail_vi=vietnamese.format(n=n))
        self.flaw = flaw


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Every secret that ever signed a key, by its id (0 to 31), and the id of the one that signs now.

    Old secrets stay valid for verification, because receipts are kept for years.
    """

    secrets: Mapping[int, bytes]
    current: int

    @classmethod
    def from_text(cls, text: str) -> "KeyRing":
        """Parse `id:hex,id:hex`, the first is current; ValueError unless ids are 0-31, secrets 16 bytes or more."""
        secrets: dict[int, bytes] = {}
        for item in text.split(","):
            key_id, _, secret = item.strip().partition(":")
            number, raw = int(key_id), bytes.fromhex(secret)
            if not 0 <= number <= 31 or len(raw) < 16 or number in secrets:
                raise ValueError("each secret is id:hex with an id from 0 to 31, once, and at least 16 bytes")
            secrets[number] = raw
        return cls(secrets, next(iter(secrets)))

    def key(self, code: DossierCode, serial: int = 0) -> str:
        """The key printed for this dossier at this serial (0 to 31), grouped in fives."""
        body = ALPHABET[self.current] + ALPHABET[serial] + _mac(self.secrets[self.current], code, serial)
        return _grouped(body + _check_character(body))

    def serial(self, code: DossierCode, typed: str) -> int | None:
        """The serial this key was issued for, or None when the key is not this dossier's.

        Raises MalformedKey when the text is no well-formed key. The caller still compares the serial
        with the dossier's own once the row is read.
        """
        text = _normalise(typed)
        secret = self.secrets.get(_VALUES[text[0]])
        serial = _VALUES[text[1]]
        expected = _mac(secret or b"\0" * 32, code, serial)
        matches = hmac.compare_digest(expected, text[2:-1])
        return serial if matches and secret is not None else None


def canonical(typed: str) -> str:
    """The key as it is printed, however it was typed. Raises MalformedKey."""
    return _grouped(_normalise(typed))


def _grouped(text: str) -> str:
    return "-".join(text[start : start + 5] for start in range(0, _LENGTH, 5))


def is_meant(typed: str) -> bool:
    """Whether this text, which is no code, is a key, perhaps mistyped in its three groups of five."""
    letters = [c for c in unicodedata.normalize("NFKC", typed[: 4 * _LENGTH]).upper() if c.isalnum()]
    grouped = bool(_PRINTED.fullmatch(typed.strip().upper())) and sum(c.isdecimal() for c in letters) > 1
    try:
        return grouped or bool(_normalise(typed))
    except MalformedKey:
        return False


def _normalise(typed: str) -> str:
    if len(typed) > 4 * _LENGTH:
        raise MalformedKey(KeyFlaw.LENGTH, sum(map(str.isalnum, typed)))
    letters = [c for c in unicodedata.normalize("NFKC", typed).upper() if c.isalnum()]  # dashes and blanks are ignored
    if not letters:
        raise MalformedKey(KeyFlaw.EMPTY)
    if len(letters) != _LENGTH:
        raise MalformedKey(KeyFlaw.LENGTH, len(letters))
    if any(c not in _VALUES for c in letters):
        raise MalformedKey(KeyFlaw.CHECK)
    text = "".join(ALPHABET[_VALUES[c]] for c in letters)
    if _check_character(text[:-1]) != text[-1]:
        raise MalformedKey(KeyFlaw.CHECK)
    return text


def _mac(secret: bytes, code: DossierCode, serial: int) -> str:
    digest = hmac.digest(secret, f"{code.text}\0{serial}".encode(), "sha256")
    bits = int.from_bytes(digest[:8]) >> 4
    return "".join(ALPHABET[bits >> shift & 31] for shift in range(5 * (_MAC_CHARACTERS - 1), -1, -5))


def _check_character(body: str) -> str:
    """Luhn's sum modulo 32: finds every single wrong character and nearly every swap of neighbours."""
    total = 0
    for position, character in enumerate(reversed(body)):
        value = _VALUES[character] * (2 if position % 2 == 0 else 1)
        total += value // 32 + value % 32
    return ALPHABET[-total % 32]
