"""Dossier codes: the national schemes, the spellings people type, and the canonical form.

A code is an opaque key. It is parsed only to check that it is a code, to find the issuing agency, and to write it in
a URL. No I/O.

Schemes (the letters are ours):
A  `000.00.01.G22-200316-0001`   TT 01/2018/TT-VPCP art. 19, level 1 last
B  `G99.01.02-261008-0975`       QĐ 20/2020/QĐ-TTg identifiers, level 1 first
C  `G99.001.02-261008-990001`    TT 04/2025/TT-VPCP, centralised services, two digits of the owner before the sequence
D  `01234/2026/99901`            the social-insurance agencies' own number: sequence / year / agency
"""

import functools
import re
import unicodedata
from datetime import date
from enum import Enum

import msgspec

from ops.errors import Malformed

LONGEST = 64
"""Characters of the longest spelling of any scheme, blanks included; longer input is refused before parsing."""


class MalformedCode(Malformed):
    """The text is no spelling of a dossier code."""

    code = "malformed_code"
    title = "This does not look like a dossier code. Compare it with the receipt."
    title_vi = "Mã vừa nhập chưa đúng dạng mã hồ sơ. Xin so lại với giấy tiếp nhận."


class Scheme(Enum):
    """The four ways agencies number dossiers."""

    A = "A"
    B = "B"
    C = "C"
    D = "D"


class DossierCode(msgspec.Struct, frozen=True):
    """A code in canonical form: two spellings of one code give equal objects."""

    text: str
    """As printed on a receipt: `G99.01.02-261008-0975`, `01234/2026/99901`."""
    scheme: Scheme
    agency: str
    """The issuing agency's identifier, as written in the code."""

    @property
    def path(self) -> str:
        """The canonical form in URLs: the printed one, with `-` for the slashes of scheme D, so never `%2F`."""
        return self.text.replace("/", "-")

    @property
    def prefix(self) -> str:
        """What it shares with its neighbours in sequence: agency and day, or agency, year and the thousand."""
        return prefix_of(self.text)

    def __str__(self) -> str:
        return self.text


def prefix_of(text: str) -> str:
    """The prefix of a code in canonical form, without parsing it."""
    prefix, dash, _ = text.rpartition("-")
    if dash:
        return prefix
    sequence, _, rest = text.partition("/")  # scheme D
    return f"{sequence[:-3]}/{rest}"


def agency_of(text: str) -> str:
    """The issuing agency of a code in canonical form, without parsing it."""
    agency, dash, _ = text.partition("-")
    return agency if dash else text.rpartition("/")[2]  # scheme D


_DASHES = dict.fromkeys(map(ord, "‐‑‒–—―−﹘﹣－"), "-")
_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"))
_SEPARATORS = re.compile(r"[\s-]+")
_SLASHES = re.compile(r"[\s/-]+")

_NATIONAL = re.compile(r"((?:[0-9A-Z]{2,3}\.){0,8}[0-9A-Z]{2,3})-([0-9O]{6})-([0-9O]{4,10})", re.ASCII)
_YEARLY = re.compile(r"([0-9O]{1,7})[/-]([0-9O]{4})[/-]([0-9O]{5})", re.ASCII)
_LEVEL_1 = re.compile(r"[A-Z][0-9O]{2}", re.ASCII)
_CENTRAL = re.compile(r"[A-Z][0-9]{2}\.[0-9]{3}\.[0-9]{2}", re.ASCII)


def parse(typed: str) -> DossierCode:
    """The code in canonical form. Accepts lower case, blanks, full-width letters, other dashes, and `O` for `0` where
    only digits can stand. Raises MalformedCode with a hint for anything else."""
    if len(typed) > LONGEST:
        raise MalformedCode(f"A dossier code has at most {LONGEST} characters.")
    text = unicodedata.normalize("NFKC", typed).translate(_INVISIBLE).translate(_DASHES).strip().upper()
    # First without blanks, then with each blank as a dash.
    for candidate in ("".join(text.split()), _SEPARATORS.sub("-", text)):
        if national := _NATIONAL.fullmatch(candidate):
            return _national(*national.groups())
    if yearly := _YEARLY.fullmatch("".join(text.split())) or _YEARLY.fullmatch(_SLASHES.sub("/", text)):
        return _yearly(*(_digits(part) for part in yearly.groups()))
    raise MalformedCode(_hint(text))


def at(path: str) -> DossierCode | None:
    """The code whose canonical path this is; None for any other spelling and any other text.

    Ten times as fast as `parse`: agency and day make up most of a code, repeat, and are cached.
    """
    prefix, _, sequence = path.rpartition("-")
    if len(sequence) not in _SEQUENCE_LENGTHS or not (sequence.isascii() and sequence.isdecimal()):
        return None
    known = _prefix(prefix)
    if known is None:
        return _yearly_at(path)
    agency, scheme = known
    if scheme is Scheme.B and len(sequence) >= 6 and _CENTRAL.fullmatch(agency):
        scheme = Scheme.C
    return DossierCode(path, scheme, agency)


_SEQUENCE_LENGTHS = range(4, 11)
_YEARLY_PATH = re.compile(r"((?:[1-9][0-9]{5,6})|[0-9]{5})-([0-9]{4})-([0-9]{5})", re.ASCII)


@functools.lru_cache(maxsize=20_000)
def _prefix(prefix: str) -> tuple[str, Scheme] | None:
    """Agency and scheme of codes with this prefix (`G99.01.02-261008`); None when no canonical code has it."""
    try:
        code = parse(f"{prefix}-0001")
    except MalformedCode:
        return None
    canonical = code.text == f"{prefix}-0001" and code.scheme is not Scheme.D
    return (code.agency, code.scheme) if canonical else None


def _yearly_at(path: str) -> DossierCode | None:
    yearly = _YEARLY_PATH.fullmatch(path)
    return _yearly(*yearly.groups()) if yearly and 1990 <= int(yearly[2]) <= 2099 else None


def issue(scheme: Scheme, agency: str, day: date, sequence: int) -> DossierCode:
    """The code of the `sequence`-th dossier an agency receives on `day` (for scheme D: in that year).

    Sequences are padded to the scheme's width and never truncated. For scheme C the two digits of
    the owner ministry's level-1 identifier stand before the sequence. MalformedCode if the agency's
    identifier does not fit the scheme.
    """
    if scheme is Scheme.D:
        code = parse(f"{sequence:05d}/{day:%Y}/{agency}")
    else:
        owner = agency[1:3] if scheme is Scheme.C else ""
        code = parse(f"{agency}-{day:%y%m%d}-{owner}{sequence:04d}")
    if code.scheme is not scheme:
        raise MalformedCode(f"Agency {agency} cannot issue codes of scheme {scheme.value}.")
    return code


def _national(agency: str, day: str, sequence: str) -> DossierCode:
    day, sequence = _digits(day), _digits(sequence)
    _check_day(day)
    groups = agency.split(".")
    last = len(groups) - 1
    level_1_last = last > 0 and bool(_LEVEL_1.fullmatch(groups[last])) and not _LEVEL_1.fullmatch(groups[0])
    level_1 = last if level_1_last else 0
    if _LEVEL_1.fullmatch(groups[level_1]):
        groups[level_1] = groups[level_1][0] + _digits(groups[level_1][1:])
    agency = ".".join(groups)
    if level_1_last:
        scheme = Scheme.A
    elif len(sequence) >= 6 and _CENTRAL.fullmatch(agency):
        scheme = Scheme.C
    else:
        scheme = Scheme.B
    return DossierCode(f"{agency}-{day}-{sequence}", scheme, agency)


def _yearly(sequence: str, year: str, agency: str) -> DossierCode:
    if not 1990 <= int(year) <= 2099:
        raise MalformedCode(f"{year} is not a year of dossier numbers (1990 to 2099).")
    return DossierCode(f"{int(sequence):05d}/{year}/{agency}", Scheme.D, agency)


def _digits(part: str) -> str:
    return part.replace("O", "0")


def _check_day(yymmdd: str) -> None:
    try:
        date(2000 + int(yymmdd[:2]), int(yymmdd[2:4]), int(yymmdd[4:]))
    except ValueError:
        raise MalformedCode(f"{yymmdd} in the middle of the code is not a date (year, month, day).") from None


def _hint(text: str) -> str:
    if not text:
        return "Type the code printed on the receipt."
    return "A dossier code looks like G99.01.02-261008-0975 or 01234/2026/99901; it is printed on the receipt."
