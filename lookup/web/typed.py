"""What people type or paste where a code is asked for: a code, a link of ours with or without its key, a key."""

import re
from typing import NamedTuple
from urllib.parse import parse_qs, unquote

from lookup import code as codes
from lookup import lookup_key
from lookup.code import DossierCode, Flaw, MalformedCode
from lookup.web.answers import PATH
from lookup.web.layout import FORMS

LONGEST_LINK = 2_000
"""Characters; in a longer text no link is looked for."""

_ADDRESSES = "|".join(re.escape(address) for address in (*FORMS.values(), PATH.rstrip("/")))
_LINK = re.compile(rf"(?:{_ADDRESSES})(?:/([^?#\s\"'<>]+)|(?=\?))/?(?:\?([^#\s\"'<>]*))?", re.IGNORECASE)
_WITHIN = re.compile(r"\w(?:.*\w)?", re.DOTALL)
"""From the first letter or digit to the last, found in one pass whatever stands between them."""


class Typed(NamedTuple):
    """What was typed: a code, and the key that stood beside it in a link."""

    code: DossierCode
    key: str | None = None


def code_in(text: str) -> DossierCode:
    """The code in a text, as `codes.parse`. Raises MalformedCode, which also says that a text is a key."""
    try:
        return codes.parse(text)
    except MalformedCode as problem:
        if problem.flaw is not Flaw.TOO_LONG and lookup_key.is_meant(text):
            raise MalformedCode(Flaw.KEY) from None
        raise


def read(text: str) -> Typed:
    """The code in a text or in the only link of ours in it, at whatever host, with its key. Raises MalformedCode."""
    links = _links(text) or (_links(unquote(text)) if "%" in text else [])
    if not links:
        return Typed(code_in(text))
    if len({each.code for each in links}) > 1:
        raise MalformedCode(Flaw.AMBIGUOUS)
    return next((each for each in links if each.key is not None), links[0])


def read_address(last: str) -> Typed:
    """The same of the last part of a page's address, behind which `?key=` may stand in a coded form."""
    path, mark, query = last.partition("?")
    return Typed(code_in(path), _first(query, "key")) if mark else Typed(code_in(last))


def _links(text: str) -> list[Typed]:
    if len(text) > LONGEST_LINK:
        return []
    found = []
    for path, query in _LINK.findall(text):
        last, _, more = unquote(path).partition("?")
        code = last or _first(query, "ma") or _first(query, "code")
        if code:
            found.append(Typed(code_in(code), _first(f"{query}&{more}", "key")))
    return found


def _first(query: str, name: str) -> str | None:
    """The first value of this name without the marks of the text around it, empty as it may be; None for none."""
    values = parse_qs(query, keep_blank_values=True).get(name)
    if not values:
        return None
    within = _WITHIN.search(values[0])
    return within[0] if within else ""
