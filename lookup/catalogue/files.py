"""The catalogue's files: agencies and contacts as CSV, because people keep them in spreadsheets; the rest as TOML, with
comments for the legal source. Reads them and names everything that is wrong, line by line. No database.

    agencies.csv   code, parent, name_vi, name_en, valid_from; if known valid_to, successor, bhxh_number, calendar,
                   sandbox
    contacts.csv   code, and what is known of hotline, email, address_vi, address_en, hours_vi, hours_en, complaint_url
    services.toml  [[service]], its [[service.time]], [service.papers], [[service.route]] and [service.policy]
    policy.toml    the installation's own values for [service.policy], where a service has none
    calendar.toml  [[calendar]] with its [[calendar.hours]] and [[calendar.day]]

Each file may be missing. A column or row that is missing leaves what is loaded as it is; an empty cell empties it.
docs/catalogue.md describes the fields.
"""

import csv
import hashlib
import io
import re
import tarfile
import tomllib
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, time
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from lookup.catalogue import Paper, Papers, Part, Service, TimeLimit

T = TypeVar("T")
Row = dict[str, Any]

LARGEST = 32 << 20
"""Bytes of one file."""
LONGEST = 500
"""Characters of one text."""
NAMES = ("agencies.csv", "contacts.csv", "services.toml", "policy.toml", "calendar.toml")
SAMPLE = Path(str(resources.files(__package__).joinpath("sample")))
"""The catalogue that is shipped for trials. Its agencies are fictitious; its time limits are not the law's."""
SANDBOX = Path(str(resources.files(__package__).joinpath("sandbox")))
"""The agencies of the sandbox (lookup/sandbox.py), which are loaded beside any catalogue."""


class CannotRead(Exception):
    """The directory or archive cannot be read at all; the message says why and what to do."""


class Where(NamedTuple):
    """A line of a file; line 0 is the whole file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}" if self.line else self.file


class Fault(NamedTuple):
    """What is wrong in a line, and what to do about it."""

    where: Where
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class OfficeHours(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Office hours of some weekdays; 1 is Monday."""

    weekdays: tuple[Annotated[int, Meta(ge=1, le=7)], ...]
    opens: time
    closes: time
    lunch: time | None = None
    resumes: time | None = None


class Day(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A day that differs from the base, and the announcement of it."""

    day: date
    working: bool
    note: str


class Calendar(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One version of a calendar, as its file declares it."""

    name: Annotated[str, Meta(pattern="^[a-z][a-z0-9]{0,19}$")]
    version: Annotated[str, Meta(pattern="^[0-9]{4}[.][0-9]{1,4}$")]
    base: Literal["vn", "weekdays"]
    source: str
    years: tuple[Annotated[int, Meta(ge=2000, le=2100)], ...]
    hours: tuple[OfficeHours, ...]
    confirmed_years: tuple[int, ...] = ()
    day: tuple[Day, ...] = ()


_RuleName = Literal[
    "supplement_rounds",
    "supplement_days",
    "decision_hours",
    "refusal_after_acceptance",
    "reappointments",
    "apology_days",
]


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Values of the one-stop rules, and what an excess does; null: the default of the program."""

    supplement_rounds: Annotated[int, Meta(ge=0)] | None = None
    supplement_days: Annotated[int, Meta(ge=0)] | None = None
    decision_hours: Annotated[int, Meta(ge=0)] | None = None
    reappointments: Annotated[int, Meta(ge=0)] | None = None
    apology_days: Annotated[int, Meta(ge=0)] | None = None
    effects: dict[_RuleName, Literal["block", "reason", "warn"]] | None = None


@dataclass
class Files:
    """What the files say: of each agency the columns given, of services and calendars the whole."""

    digest: str
    agencies: dict[str, Row] = field(default_factory=dict)
    services: dict[str, Service] = field(default_factory=dict)
    calendars: dict[tuple[str, str], Calendar] = field(default_factory=dict)
    at: dict[tuple[str, ...], Where] = field(default_factory=dict)
    """Where an agency, a service or a calendar stands: ("agency", code), ("service", code), ("calendar", name)."""
    faults: list[Fault] = field(default_factory=list)

    def blame(self, kind: str, key: str, what: str) -> None:
        """Report a fault of the agency, service or calendar."""
        self.faults.append(Fault(self.at.get((kind, key), Where("already loaded", 0)), f"{key}: {what}"))

    @contextmanager
    def blaming(self, where: Where) -> Iterator[None]:
        """Turns a ValueError in the block into a fault of that line."""
        try:
            yield
        except ValueError as error:  # msgspec.ValidationError is one
            self.faults.append(Fault(where, _sentence(error)))


def read(source: Path) -> Files:
    """Read a directory, or a tar archive of its files. Everything wrong in a file stands in `faults`.

    Raises CannotRead when there is nothing to read there.
    """
    contents = _contents(source)
    digest = hashlib.sha256()
    for name, content in sorted(contents.items()):
        digest.update(f"{name} {len(content)}\n".encode() + content)
    files = Files(digest.hexdigest())
    texts = {
        name: text for name in NAMES if name in contents and (text := _text_of(files, name, contents[name])) is not None
    }
    for name in ("agencies.csv", "contacts.csv"):
        if name in texts:
            _read_csv(files, name, texts[name])
    policy: Row = {}
    for table, where in _tables(files, "policy.toml", texts, "policy", one=True):
        with files.blaming(where):
            policy = msgspec.to_builtins(_shaped(Policy, table))
    for table, where in _tables(files, "services.toml", texts, "service"):
        _read_service(files, table, where, policy)
    for table, where in _tables(files, "calendar.toml", texts, "calendar"):
        with files.blaming(where):
            calendar = _shaped(Calendar, _clean(table))
            _once(files, "calendar", f"{calendar.name} {calendar.version}", where)
            files.at["calendar", calendar.name] = where
            files.calendars[calendar.name, calendar.version] = calendar
            _check_calendar(calendar)
    return files


# -- from a disk to text -----------------------------------------------------------------------------------------------


def _contents(source: Path) -> dict[str, bytes]:
    """The files by name. Raises CannotRead for what is no catalogue at all."""
    contents: dict[str, bytes] = {}
    try:
        for name, size, content in _in_directory(source) if source.is_dir() else _in_archive(source):
            if name in NAMES:
                if size > LARGEST:
                    raise CannotRead(f"{source}: {name} has more than {LARGEST >> 20} MiB: is it the right file?")
                contents[name] = content()
            elif name.endswith((".csv", ".toml", ".xlsx", ".xls")) and not name.startswith("._"):  # macOS writes those
                raise CannotRead(f"{source}: {name} is not a file of a catalogue; their names are {', '.join(NAMES)}.")
    except (OSError, tarfile.TarError) as error:
        raise CannotRead(f"{source} cannot be read as a directory or a tar archive: {error}") from None
    if not contents:
        raise CannotRead(f"{source} has no file of a catalogue; their names are {', '.join(NAMES)}.")
    return contents


def _in_directory(source: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    for path in source.iterdir():
        if path.is_file():
            yield path.name, path.stat().st_size, path.read_bytes


def _in_archive(source: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    with tarfile.open(source) as archive:
        for member in archive:
            part = archive.extractfile(member) if member.isfile() else None
            if part is not None:
                yield member.name.removeprefix("./"), member.size, part.read


def _text_of(files: Files, name: str, content: bytes) -> str | None:
    """The file as text; null, with a fault, where it is not UTF-8."""
    what = line = None
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or (b"\0" in content[:4000] and not content.startswith(b"PK")):
        what = "is UTF-16 (a spreadsheet's 'Unicode Text')"
    elif content.startswith(b"PK\x03\x04"):
        what = "is a spreadsheet or a zip archive, not text"
    else:
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            what = (
                f"byte 0x{content[error.start]:02X} is not UTF-8; the file may be in windows-1258 or an older encoding"
            )
    files.faults.append(Fault(Where(name, line or 0), f"{what}. Save it as 'CSV UTF-8' and check again."))
    return None


# -- CSV ---------------------------------------------------------------------------------------------------------------

_AGENCY = re.compile(r"(?=.*[A-Z])(?:[0-9A-Z]{2,3}\.){0,8}[0-9A-Z]{2,3}|[0-9]{5}", re.ASCII)
_ZEROS = "Has a spreadsheet removed zeros? Format the column as text and type it again"
_WEB = "a web address begins with https:// and has no spaces"
# Column → what its cells look like, and the sentence that says so.
_CELLS: Mapping[str, tuple[str, str]] = {
    "bhxh_number": (r"[0-9]{5}", f"five digits, as 07999. {_ZEROS}"),
    "calendar": (r"[a-z][a-z0-9]{0,19}", "the name of a calendar: small letters and digits"),
    "hotline": (r"(?:\+84|0|1[89]00)[0-9 .()-]{3,20}", f"begins with 0, +84, 1800 or 1900. {_ZEROS}"),
    "email": (r"[^@\s<>,;\"]{1,64}@(?:[a-z0-9-]+\.)+[a-z]{2,24}", "one address, as hop-thu@bhxh.example"),
    "complaint_url": (r"https://[^\s/@]+\.[^\s/@]+(?:/\S*)?", _WEB),
    "apply_url": (r"https://[^\s/@]+\.[^\s/@]+(?:/\S*)?", _WEB),
}
_COLUMNS = {
    "agencies.csv": (
        ("code", "parent", "name_vi", "name_en", "valid_from"),
        ("valid_to", "successor", "bhxh_number", "calendar", "sandbox"),
    ),
    "contacts.csv": (
        ("code",),
        ("hotline", "email", "address_vi", "address_en", "hours_vi", "hours_en", "complaint_url"),
    ),
}
_NEVER_EMPTY = {"code", "name_vi", "name_en", "valid_from"}


def _read_csv(files: Files, name: str, text: str) -> None:
    head = text.split("\n", 1)[0]
    rows = csv.reader(io.StringIO(text), delimiter=max(",;\t", key=head.count), strict=True)
    needed, optional = _COLUMNS[name]
    line = 1
    try:
        columns = [cell.strip().lower() for cell in next(rows, [])]
        unknown = [column for column in columns if column not in needed + optional]
        missing = [column for column in needed if column not in columns]
        if unknown or missing or len(set(columns)) < len(columns):
            what = (
                f"has no column {missing[0]}" if missing else f"column {(unknown or columns)[0]!r} is unknown or twice"
            )
            there = ", ".join(needed + optional)
            files.faults.append(Fault(Where(name, 1), f"{what}; the first line names the columns: {there}."))
            return
        for row in rows:
            line, begins = rows.line_num, line + 1
            if not any(cell.strip() for cell in row):
                continue
            where = Where(name, begins)
            if len(row) != len(columns):
                what = f"{len(row)} cells, the first line has {len(columns)}: quote a text that contains the separator."
                files.faults.append(Fault(where, what))
                continue
            _read_agency(files, name, dict(zip(columns, row, strict=True)), where)
    except csv.Error as error:
        files.faults.append(
            Fault(Where(name, line + 1), f"{error}: a quotation mark is not closed, or stands in a text.")
        )


def _read_agency(files: Files, name: str, cells: Mapping[str, str], where: Where) -> None:
    row, faults = {}, len(files.faults)
    for column, cell in cells.items():
        with files.blaming(where):
            row[column] = _cell(column, cell)
    if len(files.faults) > faults:
        return
    with files.blaming(where):
        code = row.pop("code")
        _once(files, "agency" if name == "agencies.csv" else "contact", code, where)
        if (ends := row.get("valid_to")) and ends <= row["valid_from"]:
            raise ValueError(
                f"valid_to {ends}: it is the first day after, and not before valid_from {row['valid_from']}"
            )
        if name == "contacts.csv" and bool(row.get("hours_vi")) != bool(row.get("hours_en")):
            raise ValueError("hours_vi and hours_en: give both or neither")
        files.agencies.setdefault(code, {}).update(row)


def _cell(column: str, cell: str) -> Any:
    if not cell.strip():
        if column in _NEVER_EMPTY:
            raise ValueError(f"{column} is empty")
        return False if column == "sandbox" else None
    if column == "sandbox":
        return _yes(column, cell.strip())
    if column in ("valid_from", "valid_to"):
        return _date(column, cell.strip())
    text = _text(column, cell)
    if column in ("code", "parent", "successor") and not _AGENCY.fullmatch(text):
        raise ValueError(f"{column} {text!r}: five digits, or groups with dots, as G99.01.02. {_ZEROS}")
    return _matching(column, text)


def _yes(column: str, text: str) -> bool:
    if text.lower() not in ("yes", "no"):
        raise ValueError(
            f"{column} {text[:40]!r}: yes for an agency that takes made-up dossiers only, else no or empty"
        )
    return text.lower() == "yes"


def _matching(column: str, text: str) -> str:
    if column in _CELLS:
        pattern, says = _CELLS[column]
        if not re.fullmatch(pattern, text, re.ASCII):
            raise ValueError(f"{column} {text!r}: {says}")
    return text


def _date(column: str, text: str) -> date:
    try:
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text, re.ASCII):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise ValueError(
        f"{column} {text[:40]!r}: a day is written year-month-day, as 2025-10-01. A spreadsheet turns dates round: "
        "format the column as text and type it again"
    )


def _once(files: Files, kind: str, key: str, where: Where) -> None:
    before = files.at.setdefault((kind, key), where)
    if before != where:
        raise ValueError(f"{key} stands in line {before.line} already: keep one of the two")


# -- TOML --------------------------------------------------------------------------------------------------------------


class _Time(msgspec.Struct, forbid_unknown_fields=True):
    valid_from: date
    valid_to: date | None = None
    case: str = "default"
    channel: Literal["any", "direct", "online", "postal"] = "any"
    working_days: Annotated[int, Meta(gt=0, le=3000)] | None = None
    working_hours: Annotated[int, Meta(gt=0, le=24000)] | None = None
    calendar_days: Annotated[int, Meta(gt=0, le=3650)] | None = None
    at_once: bool = False
    source: str | None = None

    def limit(self) -> TimeLimit:
        ways = (self.working_days, self.working_hours, self.calendar_days, self.at_once or None)
        if sum(way is not None for way in ways) != 1:
            raise ValueError("time: give one of working_days, working_hours, calendar_days and at_once")
        if self.valid_to and self.valid_to <= self.valid_from:
            raise ValueError(f"valid_to {self.valid_to}: it is the first day after, and not before {self.valid_from}")
        return TimeLimit(
            self.channel,
            8 * self.working_days if self.working_days else self.working_hours,
            self.valid_from,
            self.valid_to,
            self.case,
            self.calendar_days,
            self.at_once,
            self.source,
        )


class _Paper(Paper, frozen=True, forbid_unknown_fields=True):
    pass


class _Papers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sets: Annotated[int, Meta(ge=1, le=20)] = 1
    list: tuple[_Paper, ...] = ()


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    work: str
    working_hours: Annotated[int, Meta(gt=0)]
    agency: str | None = None


class _Service(msgspec.Struct, forbid_unknown_fields=True):
    code: Annotated[str, Meta(pattern="^[0-9A-Z][0-9A-Z.-]{1,30}$")]
    name_vi: str
    name_en: str
    field_code: str
    sensitive: bool
    valid_from: date
    time: list[Row]
    valid_to: date | None = None
    clock_after_supplement: Literal["restart", "shift", "none"] = "restart"
    clock_after_suspension: Literal["restart", "shift", "none"] = "shift"
    clock_after_payment: Literal["restart", "shift", "none"] = "shift"
    policy: Policy | None = None
    papers: _Papers | None = None
    route: tuple[_Part, ...] = ()
    channels: tuple[Literal["direct", "online", "postal"], ...] = ()
    online: Literal["full", "partial"] | None = None
    result_vi: str | None = None
    result_en: str | None = None
    legal_basis: tuple[str, ...] = ()
    apply_url: str | None = None
    fee_vi: str | None = None
    fee_en: str | None = None
    retention_class: Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9-]{0,39}$")] | None = None


def _read_service(files: Files, table: Row, where: Where, policy: Row) -> None:
    with files.blaming(where):
        of = _shaped(_Service, _clean(table))
        _once(files, "service", of.code, where)
        if re.fullmatch(r"[0-9]\.[0-9]{1,5}", of.code):
            raise ValueError(
                f"code {of.code!r}: six digits follow the dot, as 1.001230: has a spreadsheet removed zeros?"
            )
        if of.valid_to and of.valid_to <= of.valid_from:
            raise ValueError(f"valid_to {of.valid_to}: it is the first day after, and not before {of.valid_from}")
        if of.apply_url:
            _matching("apply_url", of.apply_url)
        for vi, en, words in ((of.fee_vi, of.fee_en, "fee"), (of.result_vi, of.result_en, "result")):
            if bool(vi) != bool(en):
                raise ValueError(f"{words}_vi and {words}_en: give both or neither")
        merged = policy | (msgspec.to_builtins(of.policy) if of.policy else {})
        limits = []
        for number, time_table in enumerate(of.time, 1):
            try:
                limits.append(_shaped(_Time, time_table).limit())
            except ValueError as error:
                raise ValueError(f"time {number}: {_sentence(error)}") from None
        if not limits:
            raise ValueError("it has no [[service.time]]: without a time limit no due date can be promised")
        rest = {f: getattr(of, f) for f in of.__struct_fields__ if f in Service.__struct_fields__}
        files.services[of.code] = Service(
            **{
                **rest,
                "times": tuple(sorted(limits, key=lambda each: (each.service_case, each.channel, each.valid_from))),
                "policy": merged or None,
                "papers": of.papers
                and Papers(of.papers.sets, tuple(Paper(p.vi, p.en, p.copies) for p in of.papers.list)),
                "route": tuple(Part(part.work, part.working_hours, part.agency) for part in of.route) or None,
                "channels": of.channels or None,
                "legal_basis": of.legal_basis or None,
            }
        )


def _check_calendar(calendar: Calendar) -> None:
    hours = [weekday for each in calendar.hours for weekday in each.weekdays]
    if not hours or len(set(hours)) < len(hours):
        raise ValueError("hours: give each weekday that is worked once")
    for each in calendar.hours:
        clocks = [clock for clock in (each.opens, each.lunch, each.resumes, each.closes) if clock]
        if sorted(set(clocks)) != clocks or len(clocks) == 3:
            raise ValueError(
                "hours: opens, lunch, resumes, closes follow one another; leave out both in the middle or none"
            )
    if not calendar.years or sorted(set(calendar.years)) != list(range(calendar.years[0], calendar.years[-1] + 1)):
        raise ValueError("years: name years that follow one another, as [2026, 2027]")
    if outside := [year for year in calendar.confirmed_years if year not in calendar.years]:
        raise ValueError(f"confirmed_years: {outside[0]} is not one of its years")
    days = [each.day for each in calendar.day]
    if wrong := [day for day in days if day.year not in calendar.years or days.count(day) > 1]:
        raise ValueError(f"day {wrong[0]}: it stands there twice, or is in none of the calendar's years")


def _tables(
    files: Files, name: str, texts: Mapping[str, str], kind: str, *, one: bool = False
) -> list[tuple[Row, Where]]:
    """The tables `[[kind]]` of a TOML file (`[kind]` if there is only one), each with its line."""
    if name not in texts:
        return []
    try:
        content = tomllib.loads(texts[name].replace("\r\n", "\n"))
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        files.faults.append(Fault(Where(name, int(line[1]) if line else 0), f"{error}. Correct the TOML there."))
        return []
    tables = content.pop(kind, [])
    tables = [tables] if one and isinstance(tables, dict) else tables
    head = f"[{kind}]" if one else f"[[{kind}]]"
    if content or not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        what = f"has something besides {head}: {next(iter(content), kind)!r}. Put it below {head}."
        files.faults.append(Fault(Where(name, 0), what))
        return []
    # tomllib tells no lines; heads inside a text of several lines would be counted, then no line is told.
    lines = [number for number, line in enumerate(texts[name].split("\n"), 1) if line.strip().startswith(head)]
    known = lines if len(lines) == len(tables) else [0] * len(tables)
    return [(table, Where(name, line)) for table, line in zip(tables, known, strict=True)]


def _clean(value: Any, key: str = "text") -> Any:
    """The same with every text in it checked and in one spelling."""
    if isinstance(value, str):
        return _text(key, value)
    if isinstance(value, dict):
        return {name: _clean(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return [_clean(each, key) for each in value]
    return value


def _shaped(shape: type[T], table: Row) -> T:
    return msgspec.convert(table, shape)


def _sentence(error: ValueError) -> str:
    """msgspec's message in words: the field first."""
    text = str(error)
    found = re.fullmatch(r"(.*?)(?: - at `\$\.?(.*)`)?", text, re.DOTALL)
    what, field_name = (found[1], found[2]) if found else (text, None)
    what = what.replace("Object missing required field", "there is no field").replace("`", "'")
    what = what.replace("Object contains unknown field", "there is an unknown field")
    return f"{field_name}: {what[0].lower()}{what[1:]}." if field_name else f"{what}."


_MISREAD = re.compile("[\u00c2-\u00c6][\u0080-\u00bf]|\u00e1[\u00ba\u00bb]")
"""UTF-8 that was read as a western encoding and saved: 'Báº£o hiá»ƒm'."""

_ACCENTS = re.compile("[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]{2}")
"""Two accents one after the other, where Vietnamese in NFC has none."""


def _text(column: str, value: str) -> str:
    """The text in NFC with single blanks. Raises ValueError for what cannot be read, or would mislead readers."""
    text = unicodedata.normalize("NFC", value)
    for letter in "" if text.isprintable() else text:
        if unicodedata.category(letter) in ("Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp") and letter not in "\t\r\n":
            name = unicodedata.name(letter, "a control character")
            raise ValueError(f"{column} has the invisible character U+{ord(letter):04X} ({name}): type the text again")
    text = " ".join(text.split())
    if "\ufffd" in text or _MISREAD.search(text):
        raise ValueError(f"{column} {text[:40]!r} was read in a wrong encoding once: take it from its source again")
    if not any(letter.isalnum() for letter in text):
        raise ValueError(f"{column} is blank: give a text, or leave it out")
    if _ACCENTS.search(text):
        raise ValueError(f"{column} {text[:40]!r} has several accents on one letter: type the text again")
    if text[0] in "=@#":
        raise ValueError(f"{column} {text[:40]!r} begins as a spreadsheet's formula or error: give the text itself")
    if len(text) > LONGEST:
        raise ValueError(f"{column} has {len(text)} characters: at most {LONGEST}")
    return text
