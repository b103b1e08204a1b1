"""What may stand in a log line, and how: what people sent us and what databases quote of it may not.

A log is kept for long, copied to many places and read by many people. So whatever names somebody's business is replaced
by a keyed hash: the same thing has the same hash, and a line can be found by whoever has the thing itself, but nothing
can be read out of the line. The key is what makes that true, since such names can be counted up and hashed one by one.

What the domain recognises as its own (a code in any text) is the domain's to say; here is what any service has: the
request being answered, and exceptions.
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
"""From any text to one without what must not be read."""

asking: ContextVar[Any] = ContextVar("asking", default=None)
"""The request (aiohttp's) being answered; what it brought is kept out of every line logged meanwhile."""

DIGITS = 16
HIDDEN = "…"
_TOO_SHORT = 6
"""What a client sent is searched for in a line if it is at least as long: "1" stands in every line."""

_QUERY = re.compile(r"\?[^\s\"'<>]*=[^\s\"'<>]*")
_TELLING = re.compile("key|token|auth|cookie|secret|forwarded", re.IGNORECASE)
_QUOTED = re.compile(r"(['\"])(.*?)\1")
_PLAIN = re.compile(r"[\x21-\x7e]*")

_key = secrets.token_bytes(32)


def use_key(keys: str | None) -> None:
    """Hash with the first of these keys, one a line, from now on.

    The others are those of lines written before (`hashes_by`). Without any, every process has a random one, and its
    hashes are its own.
    """
    global _key  # noqa: PLW0603 - one log, one key
    given = _each(keys or "")
    _key = _of_text(given[0]) if given else secrets.token_bytes(32)


def hashed(text: str) -> str:
    """What stands in the log for this text: sixteen hexadecimal digits."""
    return hashed_with(_key, text)


def hashed_by(key: str, text: str) -> str:
    """What stands for this text in the log of a process that uses this key."""
    return hashed_with(_of_text(key), text)


def hashes_by(keys: str, text: str) -> list[str]:
    """What stands for this text in lines written under any of these keys, one a line; the newest comes first."""
    return [hashed_by(key, text) for key in _each(keys)]


def _each(keys: str) -> list[str]:
    return [key for line in keys.splitlines() if (key := line.strip())]


def _of_text(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def hashed_with(key: bytes, text: str) -> str:
    """The same with the bytes of a key."""
    return hashlib.blake2b(text.encode("utf-8", "replace"), key=key, digest_size=DIGITS // 2).hexdigest()


def without_queries(text: str) -> str:
    """The text with the query of every URL in it cut off: a query may hold a key."""
    return _QUERY.sub("?…", text) if "?" in text else text


def cleaned(value: Any, conceal: Conceal) -> Any:
    """A value of a log line as it may be written: texts without queries, names and what the client sent."""
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
    """An exception as Python would show it, with its causes, except for what it may quote.

    Of each text only the first line is told, because that is where databases begin to print rows; and in it no quoted
    text that has a blank or a letter beyond ASCII in it, as names of people do.
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
    """What may be told of an exception's text."""
    try:
        text = str(error)
    except Exception:
        return "its text cannot be had"
    return _QUOTED.sub(_plain_or_hidden, text.partition("\n")[0])


def _plain_or_hidden(quoted: "re.Match[str]") -> str:
    mark, text = quoted.groups()
    return quoted[0] if _PLAIN.fullmatch(text) else f"{mark}{HIDDEN}{mark}"


def _sent() -> set[str]:
    """What the client of the request being answered sent, as far as that could name somebody."""
    request = asking.get()
    if request is None:
        return set()
    sent = {*request.query.values(), *request.cookies.values()}
    for name, value in request.headers.items():
        if _TELLING.search(name):
            sent |= {value, value.rpartition(" ")[2]}  # of "Bearer …" also what follows
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
