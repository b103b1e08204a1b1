"""The catalogue of agencies and services that dossiers refer to, with validity dates.

A process holds the whole catalogue (some hundred agencies, some dozen services) and rereads it periodically. Until the
first successful read, answers contain codes without names; nothing fails.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from importlib import resources
from typing import Any, Protocol

import msgspec

AGENCIES = """
SELECT code, parent, name_vi, name_en, valid_from, valid_to
  FROM agency
"""

SERVICES = """
SELECT s.code, s.name_vi, s.name_en, s.field_code, s.sensitive,
       s.clock_after_supplement, s.clock_after_suspension, s.valid_from, s.valid_to,
       coalesce((SELECT json_agg(json_build_object('service_case', t.service_case, 'channel', t.channel,
                                                   'hours', t.working_hours,
                                                   'valid_from', t.valid_from, 'valid_to', t.valid_to))
                   FROM service_time t
                  WHERE t.service = s.code), '[]')::text AS times
  FROM service s
"""

INSERT_AGENCY = """
INSERT INTO agency (code, parent, name_vi, name_en, valid_from, valid_to, sample)
VALUES ($1, $2, $3, $4, $5, $6, true)
ON CONFLICT (code) DO NOTHING
"""

INSERT_SERVICE = """
INSERT INTO service (code, name_vi, name_en, field_code, sensitive,
                     clock_after_supplement, clock_after_suspension, valid_from, sample)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, true)
ON CONFLICT (code) DO NOTHING
"""

INSERT_TIME = """
INSERT INTO service_time (service, service_case, channel, working_hours, valid_from, valid_to)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT DO NOTHING
"""


class Agency(msgspec.Struct, frozen=True):
    """An agency; `parent` is the code of the agency above it."""

    code: str
    parent: str | None
    name_vi: str
    name_en: str
    valid_from: date
    valid_to: date | None = None


class TimeLimit(msgspec.Struct, frozen=True):
    """A service's time limit in one case and channel, in working hours; eight are a working day."""

    channel: str
    hours: int
    valid_from: date
    valid_to: date | None = None
    service_case: str = msgspec.field(name="service_case", default="default")


class Service(msgspec.Struct, frozen=True):
    """A service (administrative procedure). `sensitive`: its name alone discloses a health matter."""

    code: str
    name_vi: str
    name_en: str
    field_code: str
    sensitive: bool
    times: tuple[TimeLimit, ...]
    clock_after_supplement: str = "restart"
    clock_after_suspension: str = "shift"

    def time_limit(self, case: str, channel: str, day: date) -> TimeLimit | None:
        """The limit in force on that day, the channel's own before the one for any channel; None without one."""
        for wanted in (channel, "any"):
            for limit in self.times:
                in_force = limit.valid_from <= day and (limit.valid_to is None or day < limit.valid_to)
                if limit.service_case == case and limit.channel == wanted and in_force:
                    return limit
        return None


@dataclass(frozen=True)
class Catalogue:
    """All agencies and services by code."""

    agencies: Mapping[str, Agency] = field(default_factory=dict)
    services: Mapping[str, Service] = field(default_factory=dict)

    @cached_property
    def revision(self) -> str:
        """A hash of the content, 8 characters; changes when a name changes."""
        content = msgspec.json.encode([list(self.agencies.values()), list(self.services.values())])
        return hashlib.sha256(content).hexdigest()[:8]

    def within(self, agency: str, scope: str) -> bool:
        """Whether `agency` is `scope` or below it in the tree."""
        seen: str | None = agency
        for _ in range(16):  # no real tree is deeper; a cycle in the data must not loop for ever
            if seen is None:
                return False
            if seen == scope:
                return True
            above = self.agencies.get(seen)
            seen = above.parent if above else None
        return False

    def is_sensitive(self, service: str) -> bool:
        """True for a sensitive service, and for an unknown one."""
        known = self.services.get(service)
        return known is None or known.sensitive

    def agency_view(self, code: str) -> dict[str, str | None]:
        """An agency for JSON; the names are null until the catalogue was read."""
        known = self.agencies.get(code)
        return {
            "code": code,
            "name": known.name_vi if known else None,
            "name_en": known.name_en if known else None,
        }

    def service_view(self, code: str) -> dict[str, str | None]:
        """A service for JSON; the names are null until the catalogue was read."""
        known = self.services.get(code)
        return {
            "code": code,
            "name": known.name_vi if known else None,
            "name_en": known.name_en if known else None,
        }


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
        """Reread it. Raises Unavailable, and keeps the last copy, when PostgreSQL does not answer."""
        self.current = from_rows(await self._postgres.fetch(AGENCIES), await self._postgres.fetch(SERVICES))
        self.known = True


def from_rows(agencies: Iterable[Any], services: Iterable[Any]) -> Catalogue:
    """The catalogue from the rows of AGENCIES and SERVICES."""
    return Catalogue(
        {row["code"]: Agency(**row) for row in agencies},
        {
            row["code"]: msgspec.convert({**row, "times": msgspec.json.decode(row["times"])}, Service)
            for row in services
        },
    )


def sample() -> tuple[list[Agency], list[Service]]:
    """The sample catalogue for trials. Its agencies are fictitious; its time limits are not the law's."""
    folder = resources.files(__name__)
    agencies = msgspec.json.decode(folder.joinpath("agencies.sample.json").read_bytes(), type=list[Agency])
    raw = msgspec.json.decode(folder.joinpath("services.sample.json").read_bytes())
    for service in raw:
        for limit in service["times"]:
            limit["service_case"] = limit.pop("case")
    return agencies, msgspec.convert(raw, list[Service])


async def install_sample(connection: Any) -> None:
    """Insert the sample catalogue; existing rows stay unchanged."""
    agencies, services = sample()
    for agency in agencies:  # parents stand before their children in the file
        await connection.execute(
            INSERT_AGENCY,
            agency.code,
            agency.parent,
            agency.name_vi,
            agency.name_en,
            agency.valid_from,
            agency.valid_to,
        )
    for service in services:
        await connection.execute(
            INSERT_SERVICE,
            service.code,
            service.name_vi,
            service.name_en,
            service.field_code,
            service.sensitive,
            service.clock_after_supplement,
            service.clock_after_suspension,
            min(limit.valid_from for limit in service.times),
        )
        for limit in service.times:
            await connection.execute(
                INSERT_TIME,
                service.code,
                limit.service_case,
                limit.channel,
                limit.hours,
                limit.valid_from,
                limit.valid_to,
            )
