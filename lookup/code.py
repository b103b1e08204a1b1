"""Dossier codes: the national schemes, the spellings people type, and the canonical form.

A code is an opaque key. It is parsed only to check that it is a code, to find the issuing agency, and to write it in
a URL. No I/O.

Schemes (the letters are ours):
A  `000.00.01.G22-200316-0001`   TT 01/2018/TT-VPCP art. 19, level 1 last
B  `G99.01.02-261008-0975`       QĐ 20/2020/QĐ-TTg identifiers, level 1 first
C  `G99.001.02-261008-990001`    TT 04/2025/TT-VPCP, centralised services, two digits of the owner before the sequence
D  `01234/2026/99901`            the social-insurance agencies' own number: sequence / year / agency
"""

import contextlib
import functools
import itertools
import re
import unicodedata
from datetime import date
from enum import Enum

import msgspec

from ops.errors import Malformed

LONGEST = 256
"""Characters of the longest text in which a code is looked for, with what stands around it. Longer text is refused
before it is looked at."""


class Flaw(Enum):
    """Why a text is no spelling of one code, as far as that can be told."""

    EMPTY = "empty"
    DAY = "day"
    """The middle group, `group`, is no date."""
    YEAR = "year"
    """`year` is none in which dossiers were numbered."""
    CUT_OFF = "cut_off"
    """A part is missing: the first, the last, or what an ellipsis stands for."""
    AMBIGUOUS = "ambiguous"
    """Two codes could be meant."""
    KEY = "key"
    """It is a lookup key."""
    TOO_LONG = "too_long"
    AGENCY = "agency"
    """An identifier, `agency`, that does not fit the `scheme` in which a code is to be issued."""
    OTHER = "other"


SENTENCES: dict[Flaw, tuple[str, str]] = {
    Flaw.EMPTY: ("Enter the application code.", "Vui lòng nhập mã hồ sơ."),
    Flaw.DAY: (
        "The group {group} must be the year, month and day of receipt, for example 261008.",
        "Nhóm {group} phải là năm, tháng, ngày nhận hồ sơ, ví dụ 261008.",
    ),
    Flaw.YEAR: (
        "{year} is not a possible year in an official number.",
        "{year} không phải là năm hợp lệ trong số hồ sơ.",
    ),
    Flaw.CUT_OFF: (
        "The code is incomplete. Enter it from the first part to the last.",
        "Mã hồ sơ chưa đủ. Vui lòng nhập cả phần đầu và phần cuối.",
    ),
    Flaw.AMBIGUOUS: (
        "This can be read as more than one code. Enter one code, with its dots and dashes as on the receipt.",
        "Nội dung nhập có thể là nhiều mã khác nhau. Vui lòng nhập một mã, đủ dấu chấm và dấu gạch như trên giấy.",
    ),
    Flaw.KEY: (
        "This is the access key, not the application code. A code looks like G99.01.02-261008-0975.",
        "Đây là mã tra cứu, không phải mã hồ sơ. Mã hồ sơ có dạng G99.01.02-261008-0975.",
    ),
    Flaw.TOO_LONG: (
        "That is too long. Enter the application code only.",
        "Nội dung nhập quá dài. Vui lòng chỉ nhập mã hồ sơ.",
    ),
    Flaw.AGENCY: (
        "Agency {agency} cannot issue codes of scheme {scheme}.",
        "Cơ quan {agency} không cấp được mã hồ sơ theo cấu trúc {scheme}.",
    ),
    Flaw.OTHER: (
        "A code looks like G99.01.02-261008-0975 or 01234/2026/99901; it is printed on the receipt.",
        "Mã hồ sơ có dạng G99.01.02-261008-0975 hoặc 01234/2026/99901, in trên giấy tiếp nhận.",
    ),
}
"""What each flaw is called, in English and in Vietnamese: to the API's clients and on the pages alike."""


class MalformedCode(Malformed):
    """The text is no spelling of a dossier code. `flaw` and `parts` say why; `detail` is the same in words."""

    code = "malformed_code"
    title = "This is not an application code. Compare it with the receipt."
    title_vi = "Đây chưa phải là mã hồ sơ. Vui lòng so lại với giấy tiếp nhận."

    def __init__(self, flaw: Flaw = Flaw.OTHER, **parts: str) -> None:
        english, vietnamese = SENTENCES[flaw]
        super().__init__(english.format(**parts), detail_vi=vietnamese.format(**parts))
        self.flaw = flaw
        self.parts = parts


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


_NATIONAL = re.compile(r"((?:[0-9A-Z]{2,3}\.){0,8}[0-9A-Z]{2,3})-([0-9]{6})-([0-9]{4,10})", re.ASCII)
_YEARLY = re.compile(r"([0-9]{1,7})[/-]([0-9]{4})[/-]([0-9]{5})", re.ASCII)
_LEVEL_1 = re.compile(r"[A-Z][0-9]{2}", re.ASCII)
_LIKE_LEVEL_1 = re.compile(r"[A-Z][0-9OIL]{2}", re.ASCII)
_CENTRAL = re.compile(r"[A-Z][0-9]{2}\.[0-9]{3}\.[0-9]{2}", re.ASCII)

_MOST_GROUPS = 9
_SOME_DASH = re.compile(r"\s*[\-‐‑‒–—―−]+\s*|\s+")
_AS_NUMBERED = re.compile(
    r"[A-Z][0-9OIL]{2}(\.[0-9A-Z]{2}){0,8}"  # B
    r"|[A-Z][0-9OIL]{2}\.[0-9OIL]{3}\.[0-9A-Z]{2}"  # C
    r"|[0-9A-Z]{3}(\.[0-9A-Z]{2}){0,2}\.[A-Z][0-9OIL]{2}",  # A
    re.ASCII,
)
"""Agencies with groups of the lengths that the schemes give them. Where dots are typed otherwise than printed, no
others are read: a dot might have moved."""
_RUN_TOGETHER = re.compile(r"([A-Z][0-9OIL]{2})(?:((?:[0-9A-Z]{2})+)|([0-9OIL]{3})([0-9A-Z]{2}))", re.ASCII)
"""Such an agency without its dots."""
_LIKE_DIGITS = re.compile(r"[0-9OIL]+", re.ASCII)
_TO_DIGITS = str.maketrans("OIL", "011")
_WORD = re.compile(r"[^\W_]+")
_SOME_DIGIT = re.compile("[0-9]")
_WITHIN = frozenset({"Po", "Pd", "Pc", "Sm"})
"""Categories of the marks that stand within a code in place of its dots, dashes and slashes."""
_AFTER_A_LABEL = frozenset({"Ps", "Pi", "So", "Sc"})
"""Categories of the marks of which one may part a label from its code, as a blank, a colon or `=` does."""
_PART = re.compile(
    r"[A-Z][0-9OIL]{2}( [0-9A-Z]{2,3}){0,8}( [0-9OIL]{6})?( [0-9OIL]{1,3})?"  # the beginning of a national code
    r"|([0-9OIL]{6} )?[0-9OIL]{1,10}"  # its end
    r"|[0-9OIL]{1,7} [0-9]{4}( [0-9]{1,4})?|[0-9]{4} [0-9OIL]{5}",  # an official number without its end, or beginning
    re.ASCII,
)
"""Words that are a part of a code."""
_NO_DIGITS = ("<super>", "<sub>", "<circle>", "<square>", "<fraction>")
"""What NFKC makes digits of that are none of a code's, such as the mark of a footnote."""


def parse(typed: str) -> DossierCode:
    """The code in canonical form, however it is spelt.

    Judged is what a code may hold: letters and digits make it up, any marks and blanks between them separate, and what
    stands around it is left away: quotes, brackets, a full stop, a label such as "Mã hồ sơ:". Lower case and full-width
    letters are read, and `O`, `I`, `l` as digits where only digits can stand. Text that could be two codes, or may
    lack a part of one, is refused, so that no misspelling leads to another dossier. Raises MalformedCode.
    """
    return _exactly(typed) or _read(typed)


def lookalike(code: DossierCode) -> DossierCode | None:
    """The code with digits for each `O`, `I` and `L` of its agency's lower groups, where a letter can stand as well.

    None if there is no such letter. It may be what is printed on the receipt.
    """
    if code.scheme is Scheme.D:
        return None
    groups = code.agency.split(".")
    level_1 = len(groups) - 1 if code.scheme is Scheme.A else 0
    meant = [each if at == level_1 else each.translate(_TO_DIGITS) for at, each in enumerate(groups)]
    return None if meant == groups else _exactly(".".join(meant) + code.text[len(code.agency) :])


def _exactly(text: str) -> DossierCode | None:
    """The code of a text that is spelt as a code is printed, or as it stands in an address."""
    if national := _NATIONAL.fullmatch(text):
        agency, day, sequence = national.groups()
        return _national(agency.split("."), day, sequence)
    yearly = _YEARLY.fullmatch(text)
    return _yearly(*yearly.groups()) if yearly else None


def _read(typed: str) -> DossierCode:
    """The code in a text that is spelt otherwise. Raises MalformedCode."""
    if len(typed) > LONGEST:
        raise MalformedCode(Flaw.TOO_LONG)
    normalised = _normalised(typed)
    if len(normalised) > LONGEST:  # one letter of Unicode may stand for eighteen
        raise MalformedCode(Flaw.TOO_LONG)
    text = _Text(normalised)
    if not text.words:
        raise MalformedCode(Flaw.OTHER if text.text.strip() else Flaw.EMPTY)
    if text.is_cut_off:
        raise MalformedCode(Flaw.CUT_OFF)
    found = _exactly(_SOME_DASH.sub("-", text.core)) or text.code() or _without_blanks(text.text.split())
    if found is None:
        raise text.flaw()
    return found


def _normalised(typed: str) -> str:
    """Full-width letters as ordinary ones, capitals, no invisible characters. Raises MalformedCode for a control."""
    if not typed.isascii():
        if any(unicodedata.decomposition(each).startswith(_NO_DIGITS) for each in typed):
            raise MalformedCode(Flaw.OTHER)
        visible = (each for each in unicodedata.normalize("NFKC", typed) if unicodedata.category(each) != "Cf")
        typed = "".join(visible)
    if any(unicodedata.category(each)[0] == "C" and not each.isspace() for each in typed):
        raise MalformedCode(Flaw.OTHER)
    return typed.upper()


def _without_blanks(pieces: list[str]) -> DossierCode | None:
    """The code in pieces put together. Raises MalformedCode if one of them might as well not belong to it."""
    found = _Text("".join(pieces)).code()
    if found is not None and len(found.text.rpartition("-")[2]) == 10:  # as many digits as day and sequence together
        raise MalformedCode(Flaw.AMBIGUOUS)
    if found is not None:
        ends = [pieces[:-1], pieces[1:]] if found.scheme is Scheme.D else [pieces[:-1]]
        with contextlib.suppress(MalformedCode):
            if any(_Text("".join(fewer)).code() for fewer in ends):
                found = None
        if found is None:
            raise MalformedCode(Flaw.AMBIGUOUS)
    return found


class _Text:
    """A text as words, which a code is made up of, and as what stands between them."""

    def __init__(self, text: str) -> None:
        places = [(found.start(), found.end()) for found in _WORD.finditer(text)]
        self.text = text
        self.words = [text[begin:end] for begin, end in places]
        self._gaps = [text[end:begin] for (_, end), (begin, _) in itertools.pairwise(places)]
        """The gap before each word but the first."""
        begin, end = (places[0][0], places[-1][1]) if places else (0, 0)
        self.core = text[begin:end]
        self._before, self._after = text[:begin], text[end:]

    @property
    def is_cut_off(self) -> bool:
        """Whether a dot before it, an ellipsis behind it, or a sign for what cannot be read tells of a missing part."""
        masked = self._after.startswith(("*", "?")) and not self._before.endswith("*")
        return self._before.endswith(".") or self._after.startswith("..") or masked

    def code(self) -> DossierCode | None:
        """The only code in it, at its end, behind words without digits at most. None if there is none.

        Raises MalformedCode if there is more than that, or if day or year cannot be.
        """
        found: DossierCode | None = None
        for end in range(3, len(self.words) + 1):
            begin = self._begin(end)
            if begin is None:
                continue
            if end < len(self.words) or found is not None or not self._is_label(begin):
                raise MalformedCode(Flaw.AMBIGUOUS)
            found = self._made_of(begin, end)
        return found

    def _begin(self, end: int) -> int | None:
        """Where a code begins that ends before this word."""
        *_, year_or_day, last = self.words[:end]
        if not (_are_digits(year_or_day) and _are_digits(last) and _is_within(self._gaps[end - 2])):
            return None
        if not _is_within(self._gaps[end - 3]):
            return None
        if len(year_or_day) == 4 and len(last) == 5:
            sequence = self.words[end - 3]
            return end - 3 if _are_digits(sequence) and len(sequence) <= 7 else None
        if len(year_or_day) == 6 and 4 <= len(last) <= 10:
            begins = range(max(0, end - 2 - _MOST_GROUPS), end - 2)
            return next((begin for begin in begins if self._is_agency(begin, end - 2)), None)
        return None

    def _is_agency(self, begin: int, end: int) -> bool:
        groups, gaps = self.words[begin:end], [gap.strip() for gap in self._gaps[begin : end - 1]]
        if len(groups) == 1 and _RUN_TOGETHER.fullmatch(groups[0]):
            return True
        alike = all(gaps) or not any(gaps)
        near = all(len(gap) <= 1 and _is_within(gap) for gap in gaps)  # in a longer one a group may be missing
        return alike and near and bool(_SOME_DIGIT.search(groups[0]) and _AS_NUMBERED.fullmatch(".".join(groups)))

    def _is_label(self, end: int) -> bool:
        """Whether the words before this one are a label: without digits, and not joined to it."""
        if end == 0:
            return True
        gap = self._gaps[end - 1]
        parted = any(each.isspace() or each in ":=" or unicodedata.category(each) in _AFTER_A_LABEL for each in gap)
        return parted and not any(map(_SOME_DIGIT.search, self.words[:end]))

    def _made_of(self, begin: int, end: int) -> DossierCode:
        *groups, day, sequence = self.words[begin:end]
        if len(day) == 4:
            return _yearly(*(_digits(part) for part in (groups[0], day, sequence)))
        if len(groups) == 1 and (together := _RUN_TOGETHER.fullmatch(groups[0])):
            level_1, pairs, *three_and_two = together.groups()
            groups = [level_1, *(re.findall("..", pairs) if pairs else three_and_two)]
        return _national(groups, _digits(day), _digits(sequence))

    def flaw(self) -> MalformedCode:
        """What is wrong with a text that holds no code."""
        *_, day, last = ["", "", *self.words]
        of_a_code = _LIKE_LEVEL_1.fullmatch(self.words[0]) and _are_digits(day) and _are_digits(last)
        if of_a_code and len(last) >= 4 and 4 <= len(day) <= 8 and len(day) != 6:
            return MalformedCode(Flaw.DAY, group=day)
        return MalformedCode(Flaw.CUT_OFF if _PART.fullmatch(" ".join(self.words)) else Flaw.OTHER)


def _is_within(gap: str) -> bool:
    """Whether this can stand between two parts of a code."""
    return all(each.isspace() or unicodedata.category(each) in _WITHIN for each in gap)


def _are_digits(word: str) -> bool:
    return bool(_LIKE_DIGITS.fullmatch(word))


def at(path: str) -> DossierCode | None:
    """The code whose canonical path this is; None for any other spelling and any other text.

    Ten times as fast as `parse`: agency and day make up most of a code, repeat, and are cached.
    """
    prefix, _, sequence = path.rpartition("-")
    if len(prefix) > _LONGEST_PREFIX:  # or the cache would keep whatever is sent as an address
        return None
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
_LONGEST_PREFIX = 42
"""Characters of nine groups of three with their dots, a dash and a day."""
_YEARLY_PATH = re.compile(r"((?:[1-9][0-9]{5,6})|[0-9]{5})-([0-9]{4})-([0-9]{5})", re.ASCII)


@functools.lru_cache(maxsize=20_000)
def _prefix(prefix: str) -> tuple[str, Scheme] | None:
    """Agency and scheme of codes with this prefix (`G99.01.02-261008`); None when no canonical code has it."""
    try:
        code = _exactly(f"{prefix}-0001")
    except MalformedCode:
        return None
    if code is None or code.text != f"{prefix}-0001" or code.scheme is Scheme.D:
        return None
    return code.agency, code.scheme


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
        code = _exactly(f"{sequence:05d}/{day:%Y}/{agency}")
    else:
        owner = agency[1:3] if scheme is Scheme.C else ""
        code = _exactly(f"{agency}-{day:%y%m%d}-{owner}{sequence:04d}")
    if code is None or code.scheme is not scheme:
        raise MalformedCode(Flaw.AGENCY, agency=agency, scheme=scheme.value)
    return code


def _national(groups: list[str], day: str, sequence: str) -> DossierCode:
    try:
        date(2000 + int(day[:2]), int(day[2:4]), int(day[4:]))
    except ValueError:
        raise MalformedCode(Flaw.DAY, group=day) from None
    level_1 = _level_1(groups)
    if level_1 is not None:
        groups[level_1] = groups[level_1][0] + _digits(groups[level_1][1:])
    agency = ".".join(groups)
    if level_1:
        scheme = Scheme.A
    elif len(sequence) >= 6 and _CENTRAL.fullmatch(agency):
        scheme = Scheme.C
    else:
        scheme = Scheme.B
    return DossierCode(f"{agency}-{day}-{sequence}", scheme, agency)


def _level_1(groups: list[str]) -> int | None:
    """Where the group of level 1 stands: first, last in scheme A, or nowhere. Raises MalformedCode if it may be both.

    Only digits can follow its letter.
    """
    first, last = groups[0], groups[-1]
    if _LEVEL_1.fullmatch(first):
        return 0
    if _LEVEL_1.fullmatch(last):
        if _LIKE_LEVEL_1.fullmatch(first):  # OOO.00.01.G22: is it 000, of scheme A, or O00, of scheme B?
            raise MalformedCode(Flaw.AMBIGUOUS)
        return len(groups) - 1
    if _LIKE_LEVEL_1.fullmatch(first):
        return 0
    return len(groups) - 1 if _LIKE_LEVEL_1.fullmatch(last) else None


def _yearly(sequence: str, year: str, agency: str) -> DossierCode:
    if not 1990 <= int(year) <= 2099:
        raise MalformedCode(Flaw.YEAR, year=year)
    return DossierCode(f"{int(sequence):05d}/{year}/{agency}", Scheme.D, agency)


def _digits(part: str) -> str:
    return part.translate(_TO_DIGITS)
