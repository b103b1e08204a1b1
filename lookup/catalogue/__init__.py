"""The catalogue of agencies, services and calendars that dossiers refer to, with validity dates.

A process holds the whole catalogue (some hundred agencies, some dozen services) and rereads it periodically. Until the
first successful read, answers contain codes without names; nothing fails.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from functools import cached_property
from typing import Any, Protocol

import asyncpg
import msgspec

from lookup.status import Status
from ops.errors import Unavailable

log = logging.getLogger(__name__)

# One statement, so that nothing is read half before and half after a load. Of each calendar the newest version.
CATALOGUE = """
WITH calendars AS (
    SELECT DISTINCT ON (name) name, version, confirmed_years
      FROM calendar
     ORDER BY name, string_to_array(version, '.')::integer[] DESC
)
SELECT json_build_object(
    'agencies', (SELECT coalesce(json_agg(a ORDER BY code), '[]') FROM agency a),
    'services', (SELECT coalesce(json_agg(to_jsonb(s) || jsonb_build_object('times', times) ORDER BY code), '[]')
                   FROM service s,
                        LATERAL (SELECT coalesce(jsonb_agg(t ORDER BY service_case, channel, valid_from), '[]') AS times
                                   FROM service_time t
                                  WHERE t.service = s.code)),
    'calendars', (SELECT coalesce(json_agg(to_jsonb(c) || days || jsonb_build_object('hours', hours)), '[]')
                    FROM calendars c,
                         LATERAL (SELECT jsonb_build_object(
                                             'first', min(day), 'last', max(day),
                                             'off', coalesce(jsonb_agg(day) FILTER (WHERE NOT working), '[]')) AS days
                                    FROM calendar_day d
                                   WHERE (d.name, d.version) = (c.name, c.version)),
                         LATERAL (SELECT coalesce(jsonb_agg(o ORDER BY weekday), '[]') AS hours
                                    FROM office_hours o
                                   WHERE (o.name, o.version) = (c.name, c.version))),
    'loaded', (SELECT to_json(l) FROM catalogue_load l ORDER BY number DESC LIMIT 1)
)::text AS catalogue
"""


class Agency(msgspec.Struct, frozen=True):
    """An agency; `parent` is the code of the agency above it, `successor` of the one that answers for it once ended."""

    code: str
    parent: str | None
    name_vi: str
    name_en: str
    valid_from: date
    valid_to: date | None = None
    successor: str | None = None
    bhxh_number: str | None = None
    hotline: str | None = None
    email: str | None = None
    address_vi: str | None = None
    address_en: str | None = None
    hours_vi: str | None = None
    hours_en: str | None = None
    complaint_url: str | None = None
    calendar: str | None = None
    sandbox: bool = False
    """Takes made-up dossiers only, for partners who try things out."""
    sample: bool = False


class TimeLimit(msgspec.Struct, frozen=True):
    """A service's time limit in one case and channel, in one of three ways: working hours (eight are a working day),
    calendar days, or the result is handed over at once."""

    channel: str
    hours: int | None = msgspec.field(name="working_hours")
    valid_from: date
    valid_to: date | None = None
    service_case: str = "default"
    calendar_days: int | None = None
    at_once: bool = False
    source: str | None = None


class Paper(msgspec.Struct, frozen=True):
    """A document needed; `copies` as the law words it, such as "01 bản chính"."""

    vi: str
    en: str
    copies: str | None = None


class Papers(msgspec.Struct, frozen=True):
    """The documents of one application, and how many sets of them."""

    sets: int = 1
    list: tuple[Paper, ...] = ()


class Part(msgspec.Struct, frozen=True):
    """One part of the work on a dossier, with its share of the time limit; `agency` null: the one that received it."""

    work: str
    hours: int
    agency: str | None = None


class Service(msgspec.Struct, frozen=True):
    """A service (administrative procedure). `sensitive`: its name alone discloses a health matter.

    Null or empty: the catalogue does not say. `online` is "full" (toàn trình) or "partial" (một phần).
    """

    code: str
    name_vi: str
    name_en: str
    field_code: str
    sensitive: bool
    times: tuple[TimeLimit, ...]
    clock_after_supplement: str = "restart"
    clock_after_suspension: str = "shift"
    clock_after_payment: str = "shift"
    policy: dict[str, Any] | None = None
    papers: Papers | None = None
    route: tuple[Part, ...] | None = None
    channels: tuple[str, ...] | None = None
    online: str | None = None
    result_vi: str | None = None
    result_en: str | None = None
    legal_basis: tuple[str, ...] | None = None
    apply_url: str | None = None
    fee_vi: str | None = None
    fee_en: str | None = None
    retention_class: str | None = None
    """How long its dossiers are kept."""
    valid_from: date = date.min
    valid_to: date | None = None
    sample: bool = False

    def clock_after(self, status: int) -> str:
        """What the time limit's clock does when a pause with this status ends: `restart`, `shift` or `none`."""
        if status == Status.SUPPLEMENT_REQUIRED:
            return self.clock_after_supplement
        return self.clock_after_payment if status == Status.PAYMENT_REQUIRED else self.clock_after_suspension

    def time_limit(self, case: str, channel: str, day: date) -> TimeLimit | None:
        """The limit in force on that day, the channel's own before the one for any channel; None without one."""
        for wanted in (channel, "any"):
            for limit in self.times:
                if limit.service_case == case and limit.channel == wanted and in_force(limit, day):
                    return limit
        return None


def in_force(each: Agency | Service | TimeLimit, day: date) -> bool:
    """Whether it is in force on that day of Vietnam's; `valid_to` is the first day it no longer is."""
    return each.valid_from <= day and (each.valid_to is None or day < each.valid_to)


class OfficeHours(msgspec.Struct, frozen=True):
    """The office hours of a weekday (1 is Monday); `lunch` and `resumes` are null where there is no break."""

    weekday: int
    opens: time
    lunch: time | None
    resumes: time | None
    closes: time


class Calendar(msgspec.Struct, frozen=True):
    """The newest version of a calendar: its days off from the `first` to the `last` day it knows."""

    name: str
    version: str
    confirmed_years: tuple[int, ...]
    first: date
    last: date
    off: frozenset[date]
    hours: tuple[OfficeHours, ...]


class Load(msgspec.Struct, frozen=True):
    """The newest load: its number, the files' SHA-256, and when it was committed."""

    number: int
    digest: str
    at: datetime
    sample: bool


class Named(msgspec.Struct, frozen=True):
    """An agency or a service as JSON names it; the names are null until the catalogue was read."""

    code: str
    name: str | None
    name_en: str | None


class Contact(msgspec.Struct, frozen=True):
    """How to reach an agency. Hotline and complaint page are those of the nearest agency above that has one."""

    agency: Agency
    hotline: str | None
    email: str | None
    address_vi: str | None
    address_en: str | None
    hours_vi: str | None
    hours_en: str | None
    complaint_url: str | None


NATIONAL = "vn"
"""The name of the calendar of agencies that have none of their own."""
_DEEPEST = 16
"""No real tree is deeper; a loop in the data must not loop for ever."""


@dataclass(frozen=True)
class Catalogue:
    """All agencies and services by code, the calendars by name, and the load they are from."""

    agencies: Mapping[str, Agency] = field(default_factory=dict)
    services: Mapping[str, Service] = field(default_factory=dict)
    calendars: Mapping[str, Calendar] = field(default_factory=dict)
    loaded: Load | None = None

    @cached_property
    def revision(self) -> str:
        """A hash of agencies and services, 8 characters; changes with each load that changes one of them."""
        content = msgspec.json.encode([list(self.agencies.values()), list(self.services.values())])
        return hashlib.sha256(content).hexdigest()[:8]

    @cached_property
    def sample(self) -> bool:
        """Whether anything in it is a fictitious sample, for trial only."""
        return any(each.sample for each in self.agencies.values()) or any(s.sample for s in self.services.values())

    @cached_property
    def _by_bhxh_number(self) -> dict[str, str]:
        return {agency.bhxh_number: agency.code for agency in self.agencies.values() if agency.bhxh_number}

    def is_sandbox(self, agency: str) -> bool:
        """Whether this agency takes made-up dossiers only; False for an unknown one."""
        known = self.agencies.get(agency)
        return known is not None and known.sandbox

    def within(self, agency: str, scope: str) -> bool:
        """Whether `agency` is `scope` or below it in the tree."""
        if agency == scope:
            return True
        return any(above.parent == scope for above in self._upwards(agency))

    def _upwards(self, agency: str) -> list[Agency]:
        """The agency, its parent and so on; empty for an unknown one."""
        found: list[Agency] = []
        known = self.agencies.get(agency)
        while known is not None and len(found) < _DEEPEST:
            found.append(known)
            known = self.agencies.get(known.parent) if known.parent else None
        return found

    def calendar_name(self, agency: str) -> str:
        """The name of its calendar: its own, that of the nearest agency above that has one, or the national one."""
        return next((each.calendar for each in self._upwards(agency) if each.calendar), NATIONAL)

    def now_answering(self, agency: str, day: date) -> Agency | None:
        """The agency if it is in force that day, else the first of its successors that is; None if there is none."""
        known = self.agencies.get(agency)
        for _ in range(_DEEPEST):
            if known is None or in_force(known, day):
                return known
            known = self.agencies.get(known.successor) if known.successor else None
        return None

    def issuing(self, prefix: str) -> str:
        """The code of the agency that a dossier's code names: by its own code, or by its five-digit BHXH number."""
        return self._by_bhxh_number.get(prefix, prefix)

    def contact_of(self, prefix: str, day: date) -> Contact | None:
        """How to reach, on that day, the agency with this code or with this five-digit BHXH number, or its successor.

        None for an agency the catalogue does not have, and for one of which it knows no way to reach it.
        """
        code = self.issuing(prefix)
        known = self.now_answering(code, day) or self.agencies.get(code)
        if known is None:
            return None
        above = self._upwards(known.code)
        contact = Contact(
            known,
            next((each.hotline for each in above if each.hotline), None),
            known.email,
            known.address_vi,
            known.address_en,
            known.hours_vi,
            known.hours_en,
            next((each.complaint_url for each in above if each.complaint_url), None),
        )
        return contact if any((contact.hotline, contact.email, contact.address_vi, contact.complaint_url)) else None

    def is_sensitive(self, service: str) -> bool:
        """True for a sensitive service, and for an unknown one."""
        known = self.services.get(service)
        return known is None or known.sensitive

    def agency_view(self, code: str) -> Named:
        """An agency for JSON."""
        return _named(code, self.agencies.get(code))

    def service_view(self, code: str) -> Named:
        """A service for JSON."""
        return _named(code, self.services.get(code))


def _named(code: str, known: Agency | Service | None) -> Named:
    return Named(code, known.name_vi, known.name_en) if known else Named(code, None, None)


class Database(Protocol):
    """Where the catalogue is read from; raises Unavailable when PostgreSQL does not answer."""

    async def fetch(self, sql: str) -> list[Any]: ...


class CatalogueCopy:
    """This process's copy of the catalogue: empty until the first successful read, then as last read."""

    def __init__(self, postgres: Database) -> None:
        self._postgres = postgres
        self.current = Catalogue()
        self.known = False
        """Whether it was read since this process started."""

    async def get(self) -> Catalogue:
        """The catalogue, read now if it was not yet. Raises Unavailable when that fails."""
        if not self.known:
            await self.refresh()
        return self.current

    async def refresh(self) -> None:
        """Reread it. Raises Unavailable, and keeps the last copy, when it cannot be read.

        As long as nothing in it changes, `current` is the same object: what was made of it holds.
        """
        try:
            read = from_rows(await self._postgres.fetch(CATALOGUE))
        except (asyncpg.PostgresError, msgspec.DecodeError) as error:
            # A standby behind the migration, a missing grant, a row written by hand: lookups go on.
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            log.warning("The catalogue in PostgreSQL cannot be read; the last copy stays in use: %s", reason)
            raise Unavailable("The catalogue cannot be read from this database.", reason=reason) from error
        if read != self.current:
            self.current = read
        self.known = True


class _Stored(msgspec.Struct):
    agencies: list[Agency]
    services: list[Service]
    calendars: list[Calendar]
    loaded: Load | None


_decode = msgspec.json.Decoder(_Stored).decode


def from_rows(rows: Sequence[Any]) -> Catalogue:
    """The catalogue from the one row of CATALOGUE."""
    stored = _decode(rows[0]["catalogue"])
    return Catalogue(
        {agency.code: agency for agency in stored.agencies},
        {service.code: service for service in stored.services},
        {calendar.name: calendar for calendar in stored.calendars},
        stored.loaded,
    )
