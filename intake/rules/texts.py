"""What a text from outside must be before it is stored, for requests and imports alike. No I/O.

Text is composed (NFC) and without white space around it, and its length is that of the composed text: Vietnamese that
a Mac writes decomposed has up to three characters for one letter. Refused are controls, the marks that turn the order
of writing (a name could read as another one), halves of surrogate pairs, and texts that show nothing. So is JSON that
says a key twice: its readers differ in which value they take.
"""

import json
import re
import unicodedata
from typing import Any, Final

import msgspec

BIDI_CONTROLS: Final = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
"""Unicode's characters of the property Bidi_Control, as a part of a regular expression's set."""

_REFUSED = re.compile(rf"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f{BIDI_CONTROLS}\ud800-\udfff]")
_PLAIN = re.compile(r"[!-~]")
_SHOWN: Final = frozenset("LNPS")
"""First letters of the categories of characters that show something: letters, numbers, punctuation, symbols."""
_BLANK_ALL_THE_SAME: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Fillers: letters and symbols by category, and blank."""
_MOST_DECOMPOSED: Final = 3
"""Characters that may stand for one composed letter of Vietnamese: ộ is o, a dot below and a circumflex."""


class UnclearText(ValueError):
    """A text that is not stored; the message says why, without the text and without the field's name."""


def clean(text: str, longest: int, *, lines: bool = False) -> str:
    """The text as it is stored: composed, without white space around it, at most `longest` characters.

    With `lines` it may have several; otherwise any white space in it becomes one blank. Raises UnclearText, also for a
    text that shows nothing.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    if not text.isprintable() and (found := _REFUSED.search(text)):  # none of these is printable
        raise UnclearText(f"it contains the character U+{ord(found[0]):04X}, which cannot be shown")
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip() if lines else " ".join(text.split())
    if len(text) > longest:
        raise UnclearText(f"it has {len(text)} characters; it may have {longest}")
    if not shows(text):
        raise UnclearText("it is blank")
    return text


def clean_or_none(text: str | None, longest: int, *, lines: bool = False) -> str | None:
    """The same for a text that need not be there: None for None and for white space. Raises UnclearText."""
    return None if text is None or not text.strip() else clean(text, longest, lines=lines)


def shows(text: str) -> bool:
    """Whether a reader sees anything of it."""
    if "!" <= text[:1] <= "~" or _PLAIN.search(text):
        return True
    return any(unicodedata.category(each)[0] in _SHOWN and each not in _BLANK_ALL_THE_SAME for each in text)


def clean_fields(struct: msgspec.Struct, longest: dict[str, int], *, lines: frozenset[str] = frozenset()) -> None:
    """Clean these text fields of a struct where they stand; for its `__post_init__`, where msgspec names the place.

    `longest`: field → characters; such a field may be declared up to `before_composing` characters long. A field that
    is None stays so. `lines`: those of several lines. Raises UnclearText with the field's name.
    """
    for name, most in longest.items():
        text: Any = getattr(struct, name)
        if text is None:
            continue
        try:
            cleaned = clean(text, most, lines=name in lines)
        except UnclearText as unclear:
            raise UnclearText(f"{name}: {unclear}") from None
        if cleaned != text:
            msgspec.structs.force_setattr(struct, name, cleaned)


def before_composing(longest: int) -> int:
    """How many characters a text may have before it is composed, if it may have `longest` afterwards."""
    return _MOST_DECOMPOSED * longest


def repeated_key(data: bytes) -> str | None:
    """A key that an object in this well-formed JSON has twice; None if every object has each of its keys once."""
    try:
        _keys.decode(data.decode())
    except _RepeatedKey as repeated:
        return str(repeated)
    return None


class _RepeatedKey(Exception):
    """Leaves the decoder with the key."""


def _once_each(pairs: list[tuple[str, Any]]) -> None:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise _RepeatedKey(next(name for at, name in enumerate(names) if name in names[:at]))


_keys = json.JSONDecoder(object_pairs_hook=_once_each)
