"""Redaction of log lines: what clients sent, and what databases quote of it, is replaced or left out.

Logs are kept for long, copied to many places and read by many people. So names of dossiers and persons are replaced by
a keyed hash: the same name has the same hash, so lines about a known name can be found, but no name can be read from a
line. Without the key, an attacker could hash all possible names and compare.

The domain finds its own names (a code in any text) by `Conceal`; this module redacts the current request's content and
exceptions.
"""

import hashlib
import re
import secrets
import traceback
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any
from urllib.parse import quote, unquote

Conceal = Callable[[str], str]
"""Returns the text with the domain's names redacted."""

asking: ContextVar[Any] = ContextVar("asking", default=None)
"""The current request (aiohttp's); its content is left out of every line logged meanwhile."""

DIGITS = 16
HIDDEN = "…"
_TOO_SHORT = 6
"""Shortest client text that is searched for in a line: "1" is in every line."""

_QUERY = re.compile(r"\?[^\s\"'<>]*=[^\s\"'<>]*")
_TELLING = re.compile("key|token|auth|cookie|secret|forwarded", re.IGNORECASE)
_QUOTED = re.compile(r"(['\"])(.*?)\1")
_PLAIN = re.compile(r"[\x21-\x7e]*")

_key = secrets.token_bytes(32)


def use_key(keys: str | None) -> None:
    """Hash with the first of these keys, one per line, from now on.

    The others are for older lines (`hashes_by`). Without keys, every process uses a random one, and its hashes differ
    from other processes'.
    """
    global _key  # noqa: PLW0603 - one log, one key
    given = _each(keys or "")
    _key = _of_text(given[0]) if given else secrets.token_bytes(32)


def hashed(text: str) -> str:
    """This text's hash in the log: sixteen hexadecimal digits."""
    return hashed_with(_key, text)


def hashed_by(key: str, text: str) -> str:
    """This text's hash in the log of a process that uses this key."""
    return hashed_with(_of_text(key), text)


def hashes_by(keys: str, text: str) -> list[str]:
    """This text's hashes under each of these keys, one key per line, the newest first."""
    return [hashed_by(key, text) for key in _each(keys)]


def _each(keys: str) -> list[str]:
    return [key for line in keys.splitlines() if (key := line.strip())]


def _of_text(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def hashed_with(key: bytes, text: str) -> str:
    """The same with the key as bytes."""
    return hashlib.blake2b(text.encode("utf-8", "replace"), key=key, digest_size=DIGITS // 2).hexdigest()


def without_queries(text: str) -> str:
    """The text without the query of every URL in it: a query may contain a lookup key."""
    return _QUERY.sub("?…", text) if "?" in text else text


def cleaned(value: Any, conceal: Conceal) -> Any:
    """A value redacted for a log line: without URL queries, the domain's names, and what the client sent."""
    if isinstance(value, str):
        return _without(_sent(), conceal(without_queries(value)))
    if isinstance(value, dict):
        return {cleaned(name, conceal): cleaned(each, conceal) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [cleaned(each, conceal) for each in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return cleaned(str(value), conceal)


def told(error: BaseException) -> str:
    """An exception's traceback as Python prints it, with its causes, but with redacted messages.

    Only the first line of each message is kept, because databases print rows in later lines. In it, quoted text with a
    blank or a non-ASCII letter is hidden, because it may be a person's name.
    """
    return "".join(_parts(error, set())).rstrip()


def _parts(error: BaseException, seen: set[int]) -> Iterator[str]:
    seen.add(id(error))
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None and id(before) not in seen:
        yield from _parts(before, seen)
        yield "\nThis led to:\n\n" if error.__cause__ else "\nDuring the handling of that:\n\n"
    yield "Traceback (most recent call last):\n"
    yield from traceback.format_tb(error.__traceback__)
    yield f"{_name(type(error))}: {first_line(error)}".removesuffix(": ") + "\n"
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            if id(each) not in seen:
                yield from _parts(each, seen)


def _name(kind: type[BaseException]) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, redacted."""
    try:
        text = str(error)
    except Exception:
        return "its text cannot be had"
    return _QUOTED.sub(_plain_or_hidden, text.partition("\n")[0])


def _plain_or_hidden(quoted: "re.Match[str]") -> str:
    mark, text = quoted.groups()
    return quoted[0] if _PLAIN.fullmatch(text) else f"{mark}{HIDDEN}{mark}"


def _sent() -> set[str]:
    """The texts in the current request that could name a dossier or a person."""
    request = asking.get()
    if request is None:
        return set()
    sent = {*request.query.values(), *request.cookies.values()}
    for name, value in request.headers.items():
        if _TELLING.search(name):
            sent |= {value, value.rpartition(" ")[2]}  # of "Bearer …" also the token alone
    if request.match_info.route.resource is None:
        sent |= {unquote(part) for part in request.raw_path.partition("?")[0].split("/")}
    else:
        sent |= set(request.match_info.values())
    return {value for value in sent if len(value) >= _TOO_SHORT}


def _without(sent: set[str], text: str) -> str:
    for value in sorted(sent, key=len, reverse=True):
        for spelling in (value, repr(value)[1:-1], quote(value), quote(value, safe="")):
            if spelling in text:
                text = text.replace(spelling, HIDDEN)
    return text
