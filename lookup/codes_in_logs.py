"""Redaction of dossier codes in logs: the keyed hash of the canonical code, whatever its spelling.

The hash of a known code can be searched for (`hoso24 why CODE` prints it); a code cannot be recovered from its hash.
Lookup keys are left out altogether.
"""

import re

from lookup import code as codes
from lookup import lookup_key
from lookup.code import MalformedCode
from lookup.lookup_key import MalformedKey
from ops.observe.redaction import HIDDEN, hashed

# As people type codes and as programs quote them: full-width, other dashes, blanks, escapes. `parse` decides whether a
# match is a code.
_LETTER = "0-9A-Za-z０-９Ａ-Ｚａ-ｚ"
_DIGIT = "0-9OoIiLl０-９ＯｏＩｉＬｌ"
_ESCAPED = r"%[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\\x[0-9A-Fa-f]{2}"
_BETWEEN = rf"(?:[\s.,_·\-‐‑‒–—―−﹘﹣－/+\u200b-\u200d\u2060\ufeff\u00ad]|{_ESCAPED}){{1,12}}"
_CODE = re.compile(
    rf"(?:[{_LETTER}]{{2,3}}[.．,_·]){{0,8}}[{_LETTER}]{{2,3}}(?P<a>{_BETWEEN})[{_DIGIT}]{{6}}(?P<b>{_BETWEEN})[{_DIGIT}]{{4,10}}"
    rf"|[{_DIGIT}]{{1,7}}(?P<c>{_BETWEEN})[{_DIGIT}]{{4}}(?P<d>{_BETWEEN})[{_DIGIT}]{{5}}"
)
_PRINTED_KEY = re.compile(r"(?<![0-9A-Za-z])[0-9A-Za-z]{5}(?:-[0-9A-Za-z]{5}){2}(?![0-9A-Za-z])")
_KEY = re.compile(rf"[{_LETTER}]{{5}}{_BETWEEN}[{_LETTER}]{{5}}{_BETWEEN}[{_LETTER}]{{5}}")
_KEY_IN_ONE = re.compile(r"(?<![0-9A-Za-z])[0-9A-Za-z]{15}(?![0-9A-Za-z])")
_SOME_DIGIT = re.compile("[0-9０-９]")


def canonical(typed: str) -> str:
    """The text that is hashed: the canonical code, or the typed text when it is no code."""
    try:
        return codes.parse(typed).text
    except MalformedCode:
        return typed


def pseudonym(typed: str) -> str:
    """The hash of this code in this process's log; the same for every spelling of the code."""
    return hashed(canonical(typed))


def conceal(text: str) -> str:
    """The text with every code in it replaced by its hash, and every lookup key left out."""
    if not _SOME_DIGIT.search(text):
        return text
    text = _PRINTED_KEY.sub(_left_out_if_a_key, text)  # first, or text before the key would be taken for its start
    text = _CODE.sub(_hashed_if_a_code, text)
    text = _KEY_IN_ONE.sub(_left_out_if_surely_a_key, text)
    return _KEY.sub(_left_out_if_a_key, text)


def _hashed_if_a_code(found: "re.Match[str]") -> str:
    text, start = found[0], found.start()
    for group in ("b", "a", "d", "c"):  # the last first, so that the other offsets stay valid
        if found[group] is not None:
            text = text[: found.start(group) - start] + "-" + text[found.end(group) - start :]
    try:
        return f"code_hash={hashed(codes.parse(text).text)}"
    except MalformedCode:
        return found[0]


def _left_out_if_a_key(found: "re.Match[str]") -> str:
    # No check character is verified: a mistyped key is nearly the key. Three words of five letters have no digits.
    return HIDDEN if _SOME_DIGIT.search(found[0]) else found[0]


def _left_out_if_surely_a_key(found: "re.Match[str]") -> str:
    try:
        lookup_key.canonical(found[0])
    except MalformedKey:
        return found[0]
    return HIDDEN if len(_SOME_DIGIT.findall(found[0])) > 1 else found[0]
