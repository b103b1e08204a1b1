"""How much of everything the country takes, and how long a year it is away: `python -m loadtests.capacity`.

The arithmetic behind docs/capacity.md. What was measured and what is assumed stands in capacity.toml, each with its
source; nothing is measured here.
"""

import argparse
import math
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

FIGURES = Path(__file__).with_suffix(".toml")
DAYS_A_YEAR = 365
MINUTES_A_YEAR = DAYS_A_YEAR * 24 * 60
GB = 10**9


@dataclass(frozen=True)
class OrdinaryYear:
    """An ordinary year's lookups, from the dossiers handed in."""

    dossiers: int
    lookups_each: float
    busy_days: int
    busy_share: float
    peak_hour_share: float
    peak_minute: float

    @property
    def lookups(self) -> float:
        return self.dossiers * self.lookups_each

    @property
    def a_day(self) -> float:
        """On a working day."""
        return self.lookups * self.busy_share / self.busy_days

    @property
    def peak(self) -> float:
        """Lookups a second in the fullest minute of the fullest hour."""
        return self.a_day * self.peak_hour_share / 3600 * self.peak_minute


@dataclass(frozen=True)
class Rush:
    """The hour to survive: each of so many people looks once, at a code of their own."""

    people: int
    hours: float
    rounded_to: int

    @property
    def peak(self) -> float:
        """Lookups a second, rounded up."""
        return math.ceil(self.people / (self.hours * 3600) / self.rounded_to) * self.rounded_to


@dataclass(frozen=True)
class PathPart:
    """One part of the path of a lookup. `each`: of `unit` for one cold lookup; `there`: of `unit` a second in
    production; `full`: how full it may be, 0 to 1.
    """

    name: str
    unit: str
    each: float
    there: float
    full: float

    @property
    def carries(self) -> float:
        """Lookups a second with the part entirely taken up."""
        return self.there / self.each

    def needs(self, rate: float) -> float:
        """Of `unit` a second, for so many lookups a second, and no fuller than it may be."""
        return rate * self.each / self.full


@dataclass(frozen=True)
class PageCost:
    """What a page of a dossier takes of the processes that answer, beside its JSON.

    `json`: seconds of a core for JSON out of Redis; `ratio`: that ÷ the same for the page, as `make bench` has it.
    """

    part: str
    json: float
    ratio: float

    def as_pages(self, part: PathPart) -> PathPart:
        """That part when people look at pages: filling a page in costs as much more, wherever its record comes from."""
        return replace(part, name=f"{part.name}, pages", each=part.each + self.json * (1 / self.ratio - 1))


@dataclass(frozen=True)
class Room:
    """Bytes for each dossier (`read_by_lookups`: of its table and index; `log`: of WAL), and what a server has."""

    database: float
    read_by_lookups: float
    log: float
    in_redis: float
    disk_there: int
    memory_there: int
    redis_there: int

    def years_on_disk(self, dossiers: int) -> float:
        """Years until the disk is full, with so many dossiers a year."""
        return self.disk_there / (self.database * dossiers)

    def seconds_to_fill_redis(self, rate: float) -> float:
        """Seconds until Redis is full, at so many lookups of distinct codes a second."""
        return self.redis_there / self.in_redis / rate


@dataclass(frozen=True)
class YearlyFault:
    """A fault, how often it comes, how many seconds until an operator acts, and what a game day saw from then on.

    `write_gap`: the longest time without an acknowledged change, in seconds.
    """

    name: str
    per_year: float
    notice: float
    why: str
    seconds: float
    lookups: int
    failed: int
    write_gap: float

    @property
    def lookups_away(self) -> float:
        """Minutes a year in which no lookup would have been answered. A minute in which half of them failed is half a
        minute, since the objective counts lookups; as many fail before an operator acts as afterwards.
        """
        return self.per_year * (self.notice + self.seconds) * self.failed / self.lookups / 60 if self.lookups else 0.0

    @property
    def changes_away(self) -> float:
        """Minutes a year in which no change is acknowledged; none is before an operator acts."""
        return self.per_year * (self.notice + self.write_gap) / 60


@dataclass(frozen=True)
class CapacityModel:
    """All of it."""

    year: OrdinaryYear
    rush: Rush
    parts: tuple[PathPart, ...]
    """The one that gives way first in front."""
    room: Room
    faults: tuple[YearlyFault, ...]

    @classmethod
    def read(cls, path: Path = FIGURES) -> "CapacityModel":
        """The model of these figures. Raises OSError, KeyError or TypeError for what is not such a file."""
        told: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
        parts, page = [PathPart(**each) for each in told["part"]], PageCost(**told["page"])
        parts += [page.as_pages(part) for part in parts if part.name == page.part]
        parts.sort(key=lambda part: part.carries)
        faults = tuple(YearlyFault(**each) for each in told["fault"])
        return cls(OrdinaryYear(**told["year"]), Rush(**told["rush"]), tuple(parts), Room(**told["room"]), faults)

    def lines(self) -> Iterator[str]:
        """What follows from the figures, as text."""
        day, most = self.year.peak, self.rush.peak
        yield f"An ordinary day: {self.year.a_day:,.0f} lookups, {day:,.0f}/s in its fullest minute."
        yield f"The hour to survive: {most:,.0f}/s, every one of them cold."
        yield "What it takes, the part that gives way first in front:"
        for part in self.parts:
            needs = ", ".join(f"{_short(part.needs(rate))} at {rate:,.0f}/s" for rate in (day, most, 10 * most))
            yield (
                f"  {part.name}: {part.unit}s a second: {needs}; there are {part.there:,g}, entirely taken up at "
                f"{part.carries:,.0f}/s, {part.carries / most:.1f} times the hour to survive"
            )
        room, dossiers = self.room, self.year.dossiers
        disk, read = room.database * dossiers / GB, room.read_by_lookups * dossiers / GB
        yield f"Disk: {disk:,.1f} GB a year, full after {room.years_on_disk(dossiers):.1f} years."
        yield f"Memory: lookups read {read:,.1f} GB of a year; a server has {room.memory_there / GB:,.1f} GB."
        yield f"Log: {room.log * dossiers / DAYS_A_YEAR / GB:,.2f} GB a day."
        yield f"Redis: full after {room.seconds_to_fill_redis(most):,.0f} s of the hour to survive."
        yield "Minutes a year without an answer to lookups, to changes:"
        for fault in self.faults:
            yield f"  {fault.name}: {fault.lookups_away:.2f}, {fault.changes_away:.2f}"
        lookups, changes = (sum(getattr(f, name) for f in self.faults) for name in ("lookups_away", "changes_away"))
        yield f"  together: {lookups:.1f}, {changes:.1f}; 99.95 % allow {allowed(0.9995):,.0f}"


def _short(count: float) -> str:
    return f"{count:,.2g}" if count < 10 else f"{count:,.0f}"


def allowed(objective: float) -> float:
    """Minutes a year that an objective (0 to 1) lets a service be away."""
    return (1 - objective) * MINUTES_A_YEAR


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figures", type=Path, default=FIGURES, help="a file of the same form (capacity.toml)")
    print("\n".join(CapacityModel.read(parser.parse_args().figures).lines()))


if __name__ == "__main__":
    main()
