"""What a load of the catalogue's files would change, and the load itself: everything is checked first, then written in
one transaction. Nothing is ever deleted: what the files do not name stays, and is named.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import holidays
import msgspec

from lookup import catalogue
from lookup.catalogue import Agency, Catalogue, Service, TimeLimit, files, in_force
from lookup.catalogue.files import CannotRead, Files

CALENDARS = """
SELECT c.name, c.version, c.base, c.source, c.confirmed_years, d.years, d.days, o.hours
  FROM calendar c,
       LATERAL (SELECT array_agg(DISTINCT extract(year FROM day)::integer) AS years,
                       coalesce(json_agg(json_build_object('day', day, 'working', working, 'note', note))
                                FILTER (WHERE note IS NOT NULL), '[]')::text AS days
                  FROM calendar_day
                 WHERE (name, version) = (c.name, c.version)) d,
       LATERAL (SELECT coalesce(json_agg(h ORDER BY weekday), '[]')::text AS hours
                  FROM office_hours h
                 WHERE (name, version) = (c.name, c.version)) o
"""

# The parent and the successor may stand in the same statement: foreign keys are checked at its end.
WRITE = """
INSERT INTO {table} ({columns})
SELECT {columns}
  FROM jsonb_populate_recordset(NULL::{table}, $1::jsonb)
    ON CONFLICT ({key}) DO UPDATE SET ({columns}) = ROW ({excluded})
"""

INSERT = """
INSERT INTO {table} ({columns})
SELECT {columns}
  FROM jsonb_populate_recordset(NULL::{table}, $1::jsonb)
"""

CALENDAR = """
INSERT INTO calendar (name, version, base, author, source, confirmed_years)
VALUES ($1, $2, $3, $4, $5, $6)
"""

NOTE = """
INSERT INTO catalogue_load (digest, author, sample, summary)
VALUES ($1, $2, $3, $4)
RETURNING number
"""

ONE_LOAD = "SELECT pg_advisory_lock($1)"
_LOCK = 0x686F736F3235  # beside the migrator's: one load at a time

STEP = "Run `hoso24 catalogue load DIR` with the owner's URL (`hoso24 catalogue load --sample` for a trial)."
"""What to do where there is no catalogue."""


class NoCatalogue(Exception):
    """The database has no agency and no service; the message says what to do."""

    def __init__(self) -> None:
        super().__init__(f"There is no catalogue in this database. {STEP}")


@dataclass
class Plan:
    """What a load would do."""

    digest: str
    after: Catalogue
    """All as it would be."""
    agencies: list[Agency] = field(default_factory=list)
    """Those that are new or change, as they will be; likewise the rest."""
    services: list[Service] = field(default_factory=list)
    times: list[tuple[str, TimeLimit]] = field(default_factory=list)
    calendars: list[files.Calendar] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    """The same for people: one line for each row that is added (+) or changed (~)."""
    stays: list[str] = field(default_factory=list)
    """What is loaded and not in the files."""
    faults: list[files.Fault] = field(default_factory=list)

    @property
    def summary(self) -> dict[str, int]:
        """Rows added or changed, by table."""
        rows = {
            "agency": len(self.agencies),
            "service": len(self.services),
            "service_time": len(self.times),
            "calendar": len(self.calendars),
        }
        return {table: count for table, count in rows.items() if count}


def plan(read: Files, stored: Catalogue, calendars: Mapping[tuple[str, str], Any], *, sample: bool = False) -> Plan:
    """What loading these files into a database that has `stored` would do; faults where it may not be done.

    `calendars`: the rows of CALENDARS by name and version. `sample` marks what is loaded as fictitious.
    """
    agencies, services = dict(stored.agencies), dict(stored.services)
    result = Plan(read.digest, Catalogue(agencies, services), faults=read.faults)
    for code, row in read.agencies.items():
        if known := stored.agencies.get(code):
            agencies[code] = msgspec.structs.replace(known, **row, sample=sample)
        elif "name_vi" in row:
            agencies[code] = Agency(code, **{"sample": sample, **row})
        else:
            where = read.at["contact", code]
            read.faults.append(
                files.Fault(where, f"{code}: there is no such agency. Correct it, or add it to agencies.csv")
            )
    for code, service in read.services.items():
        known_times = {_key(limit): limit for limit in (stored.services[code].times if code in stored.services else ())}
        times = known_times | {_key(limit): limit for limit in service.times}
        services[code] = msgspec.structs.replace(
            service, times=tuple(times[key] for key in sorted(times)), sample=sample
        )
        kept = [key for key in known_times if key not in {_key(limit) for limit in service.times}]
        result.stays += [f"service_time {code} {' '.join(map(str, key))}" for key in kept]
    _check_agencies(read, agencies, {name for name, _ in (*read.calendars, *calendars)})
    _check_services(read, services, agencies)
    for code in read.agencies:
        if code in agencies:
            _compare(result, "agency", stored.agencies.get(code), agencies[code])
    for code in read.services:
        _compare(result, "service", stored.services.get(code), services[code])
    for key, calendar in read.calendars.items():
        _compare_calendar(result, read, calendar, calendars.get(key))
    result.stays += [f"agency {code}" for code in stored.agencies if code not in read.agencies]
    result.stays += [f"service {code}" for code in stored.services if code not in read.services]
    return result


def counted(after: Catalogue, day: date) -> str:
    """How much of it is in force on that day, in a sentence; agencies of the sandbox are not counted."""
    real = [each for each in after.agencies.values() if not each.sandbox]
    agencies = sum(in_force(each, day) for each in real)
    services = sum(in_force(each, day) for each in after.services.values())
    whole = (len(real), len(after.services))
    return f"In force on {day}: {agencies} of {whole[0]} agencies, {services} of {whole[1]} services."


def _key(limit: TimeLimit) -> tuple[str, str, date]:
    return limit.service_case, limit.channel, limit.valid_from


# -- rules over what would be there ------------------------------------------------------------------------------------


def _check_agencies(read: Files, agencies: Mapping[str, Agency], calendars: set[str]) -> None:
    numbers: dict[str, str] = {}
    for code, agency in agencies.items():
        if agency.bhxh_number and numbers.setdefault(agency.bhxh_number, code) != code:
            other = numbers[agency.bhxh_number]
            read.blame("agency", code, f"bhxh_number {agency.bhxh_number} is {other}'s: correct one of the two")
        above = agencies.get(agency.parent or "")
        ends_first = above and above.valid_to and (agency.valid_to is None or agency.valid_to > above.valid_to)
        if above and ends_first and not {code, above.code}.isdisjoint(read.agencies):
            what = f"{above.code} above it ends on {above.valid_to} and it does not: give it another parent"
            read.blame("agency", code, what)
    for agency in [agencies[code] for code in read.agencies if code in agencies]:
        code, ends = agency.code, agency.valid_to
        for column, named in (("parent", agency.parent), ("successor", agency.successor)):
            if named is not None and named not in agencies:
                read.blame("agency", code, f"{column} {named}: there is no such agency. Correct it, or add its line")
            elif _loops(agency, agencies, column):
                read.blame("agency", code, f"{column} {named} leads back to it: correct the {column}s on that way")
        successor = agencies.get(agency.successor or "")
        if ends and agency.successor is None:
            read.blame("agency", code, f"it ends on {ends}: name the successor that answers for its dossiers")
        elif agency.successor and ends is None:
            read.blame("agency", code, f"it has the successor {agency.successor} and no valid_to: give its last day")
        elif successor and ends and not in_force(successor, ends):
            read.blame("agency", code, f"its successor {successor.code} is not in force on {ends}: name one that is")
        if agency.calendar is not None and agency.calendar not in calendars:
            read.blame("agency", code, f"calendar {agency.calendar}: there is none of that name in calendar.toml")


def _loops(agency: Agency, agencies: Mapping[str, Agency], column: str) -> bool:
    seen: set[str] = set()
    other: str | None = getattr(agency, column)
    while other is not None and other in agencies and other not in seen:
        seen.add(other)
        other = getattr(agencies[other], column)
    return agency.code in seen


def _check_services(read: Files, services: Mapping[str, Service], agencies: Mapping[str, Agency]) -> None:
    for code in read.services:
        service = services[code]
        for before, after in zip(service.times, service.times[1:], strict=False):
            if _key(before)[:2] == _key(after)[:2] and (before.valid_to is None or before.valid_to > after.valid_from):
                what = f"time of {before.service_case}, {before.channel}: those from {before.valid_from} and from"
                step = f"overlap. Give the first `valid_to = {after.valid_from}`"
                read.blame("service", code, f"{what} {after.valid_from} {step}")
        for part in service.route or ():
            if part.agency is not None and part.agency not in agencies:
                read.blame("service", code, f"route: there is no agency {part.agency}. Correct it")
        usual = [each for each in service.times if each.service_case == "default"]
        whole = min(map(_working_hours, usual), default=None)
        if whole is None:
            read.blame("service", code, "it has no [[service.time]] of the case 'default'")
        elif sum(part.hours for part in service.route or ()) > whole:
            read.blame("service", code, f"route: its parts take more than the {whole} working hours of the time limit")


def _working_hours(limit: TimeLimit) -> int:
    """About as many of a limit in calendar days, of which five in seven are worked; a day for one at once."""
    return limit.hours if limit.hours is not None else 8 * -(-(limit.calendar_days or 1) * 5 // 7)


# -- differences -------------------------------------------------------------------------------------------------------


def _compare(result: Plan, table: str, before: Any, after: Any) -> None:
    if before == after:
        return
    plain, was = msgspec.structs.asdict(after), msgspec.structs.asdict(before) if before else {}
    times, old = plain.pop("times", ()), {_key(limit): limit for limit in was.pop("times", ())}
    if before is None:
        result.lines.append(f"+ {table} {after.code} {after.name_vi}")
    changed = {name: value for name, value in plain.items() if before is not None and was[name] != value}
    result.lines += [f"~ {table} {after.code} {name}: {was[name]} → {value}" for name, value in changed.items()]
    if before is None or changed:
        (result.agencies if table == "agency" else result.services).append(after)
    for limit in times:
        known = old.get(_key(limit))
        if limit != known:
            says = f"{' '.join(map(str, _key(limit)))}: "
            says += f"{_said(known)} → {_said(limit)}" if known else _said(limit)
            result.lines.append(f"{'~' if known else '+'} service_time {after.code} {says}")
            result.times.append((after.code, limit))


def _said(limit: TimeLimit) -> str:
    length = (
        "at once" if limit.at_once else f"{limit.calendar_days} days" if limit.calendar_days else f"{limit.hours} h"
    )
    return f"{length} until {limit.valid_to or 'further notice'}" + (f" ({limit.source})" if limit.source else "")


def _compare_calendar(result: Plan, read: Files, calendar: files.Calendar, stored: Any) -> None:
    """A version that is loaded stays as it is: due dates have been promised by it."""
    if stored is None:
        result.calendars.append(calendar)
        result.lines.append(
            f"+ calendar {calendar.name} {calendar.version}, {calendar.years[0]} to {calendar.years[-1]}"
        )
        return
    declared = (
        calendar.base,
        calendar.source,
        sorted(calendar.confirmed_years),
        sorted(calendar.years),
        sorted((each.day, each.working, each.note) for each in calendar.day),
        msgspec.to_builtins(list(_hours(calendar))),
    )
    days = msgspec.json.decode(stored["days"], type=list[files.Day])
    there = (
        stored["base"],
        stored["source"],
        sorted(stored["confirmed_years"]),
        sorted(stored["years"] or ()),
        sorted((each.day, each.working, each.note) for each in days),
        [
            {k: v for k, v in row.items() if k not in ("name", "version")}
            for row in msgspec.json.decode(stored["hours"])
        ],
    )
    if declared != there:
        names = ("base", "source", "confirmed_years", "years", "day", "hours")
        other = ", ".join(name for name, a, b in zip(names, declared, there, strict=True) if a != b)
        what = f"version {calendar.version} is loaded with another {other}, and due dates were promised by it"
        read.blame("calendar", calendar.name, f"{what}: give the new one the next version")


def _hours(calendar: files.Calendar) -> Iterator[catalogue.OfficeHours]:
    by_day = {weekday: each for each in calendar.hours for weekday in each.weekdays}
    for weekday, each in sorted(by_day.items()):
        yield catalogue.OfficeHours(weekday, each.opens, each.lunch, each.resumes, each.closes)


def _days(calendar: files.Calendar) -> Iterator[dict[str, Any]]:
    """All days of its years: those of the base are written down, so that a later package does not change them."""
    own = {each.day: each for each in calendar.day}
    package = holidays.country_holidays("VN", years=calendar.years) if calendar.base == "vn" else None
    day = date(calendar.years[0], 1, 1)
    while day.year <= calendar.years[-1]:
        usual = bool(package.is_working_day(day)) if package is not None else day.isoweekday() < 6
        exception = own.get(day)
        working, note = (exception.working, exception.note) if exception else (usual, None)
        yield {"name": calendar.name, "version": calendar.version, "day": day, "working": working, "note": note}
        day += timedelta(days=1)


# -- the database ------------------------------------------------------------------------------------------------------


async def stored(connection: Any) -> tuple[Catalogue, dict[tuple[str, str], Any]]:
    """The catalogue as it is loaded, and the rows of CALENDARS by name and version."""
    rows = {(row["name"], row["version"]): row for row in await connection.fetch(CALENDARS)}
    return catalogue.from_rows(await connection.fetch(catalogue.CATALOGUE)), rows


async def load(connection: Any, read: Files, *, author: str, sample: bool = False) -> Plan:
    """Load the files in one transaction, unless there are faults or nothing to change; returns what was done.

    Needs the owner's connection, direct to the server. Raises CannotRead for a sample where another one is loaded.
    """
    await connection.execute(ONE_LOAD, _LOCK)
    try:
        async with connection.transaction():
            before, calendars = await stored(connection)
            if sample and not before.sample and before.agencies:
                raise CannotRead("This database has a catalogue that is no sample; the sample is for empty databases.")
            result = plan(read, before, calendars, sample=sample)
            if result.summary and not result.faults:
                await _write(connection, result, author)
                summary = msgspec.json.encode(result.summary).decode()
                await connection.fetchval(NOTE, result.digest, author, sample, summary)
            return result
    finally:
        if not connection.is_closed():
            await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)


async def _write(connection: Any, result: Plan, author: str) -> None:
    await _rows(connection, WRITE, "agency", "code", [_row(each) for each in result.agencies])
    await _rows(connection, WRITE, "service", "code", [_row(each, without="times") for each in result.services])
    times = [{"service": code, **_row(limit)} for code, limit in result.times]
    await _rows(connection, WRITE, "service_time", "service, service_case, channel, valid_from", times)
    for calendar in result.calendars:
        names = {"name": calendar.name, "version": calendar.version}
        rest = (calendar.base, author, calendar.source, list(calendar.confirmed_years))
        await connection.execute(CALENDAR, *names.values(), *rest)
        await _rows(connection, INSERT, "calendar_day", "", list(_days(calendar)))
        await _rows(connection, INSERT, "office_hours", "", [{**names, **_row(each)} for each in _hours(calendar)])


def _row(each: Any, without: str = "") -> dict[str, Any]:
    row: dict[str, Any] = msgspec.to_builtins(each)
    row.pop(without, None)
    return row


async def _rows(connection: Any, statement: str, table: str, key: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        names = list(rows[0])
        sql = statement.format(
            table=table, key=key, columns=", ".join(names), excluded=", ".join(f"excluded.{name}" for name in names)
        )
        await connection.execute(sql, msgspec.json.encode(rows).decode())


def sample() -> tuple[list[Agency], list[Service]]:
    """The sample catalogue's agencies and services, in the order of its files."""
    read = files.read(files.SAMPLE)
    agencies = [Agency(code, **row, sample=True) for code, row in read.agencies.items()]
    return agencies, [msgspec.structs.replace(each, sample=True) for each in read.services.values()]


async def install_sample(connection: Any) -> Plan:
    """Load the sample catalogue; needs the owner's connection. Raises CannotRead where another catalogue is loaded."""
    return await load(connection, files.read(files.SAMPLE), author="sample", sample=True)


async def install_sandbox(connection: Any) -> Plan:
    """Load the sandbox's agencies beside the sample catalogue; otherwise as `install_sample`."""
    return await load(connection, files.read(files.SANDBOX), author="sample", sample=True)


async def require(connection: Any) -> None:
    """Raise NoCatalogue unless there is one."""
    if not await connection.fetchval("SELECT EXISTS (SELECT FROM agency)"):
        raise NoCatalogue
