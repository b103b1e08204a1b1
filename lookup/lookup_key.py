"""The lookup key printed on a receipt: proof of holding it, which guessing codes does not give.

`2KQ0F-9D3XZ-7MHWA`: key id, the dossier's serial, sixty bits of HMAC-SHA256 over code and serial, and a
check character, in Crockford's base 32 (no I, L, O, U). It is checked without I/O, so a wrong key costs
nothing and does not reveal whether a code exists. Re-issuing raises the dossier's serial.
"""

import hmac
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from lookup.code import DossierCode
from ops.errors import Malformed

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES = {character: value for value, character in enumerate(ALPHABET)}
_VALUES |= {"O": 0, "I": 1, "L": 1}
_LENGTH = 15
_MAC_CHARACTERS = 12
"""Five bits each. Sixty bits cannot be guessed online; the check character turns a typing mistake into a 400."""
HIGHEST_SERIAL = 31


class MalformedKey(Malformed):
    """The text cannot be a printed key: wrong length, or a wrong check character."""

    code = "malformed_key"
    title = "This does not look like a lookup key. Compare every letter and digit with the receipt."
    title_vi = "Mã vừa nhập chưa đúng dạng mã tra cứu. Xin so lại từng chữ, từng số với giấy tiếp nhận."


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


def _normalise(typed: str) -> str:
    if len(typed) > 4 * _LENGTH:
        raise MalformedKey("A lookup key has 15 letters and digits.")
    letters = [c for c in unicodedata.normalize("NFKC", typed).upper() if c.isalnum()]  # dashes and blanks are ignored
    if len(letters) != _LENGTH or any(c not in _VALUES for c in letters):
        raise MalformedKey("A lookup key has 15 letters and digits, as printed on the receipt.")
    text = "".join(ALPHABET[_VALUES[c]] for c in letters)
    if _check_character(text[:-1]) != text[-1]:
        raise MalformedKey("The lookup key has a typing mistake; compare it with the receipt.")
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
