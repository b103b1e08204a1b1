"""The arithmetic of capacity and availability. Figures in, figures out; what is missing stays None."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.capacity.figures import Assumptions, Fault, Figures, GameDay, Seen
from loadtests.national.findings import Step
from loadtests.national.throughput import FROM_DISK, FROM_MEMORY

DAYS_A_YEAR = 365
MINUTES_A_YEAR = DAYS_A_YEAR * 24 * 60
PAGE_BYTES = 8192
HANDSHAKE_KEY = "ECDSA P-256"
COLD, WARM, HOT = (("cold", "ours", 64), ("warm", "ours", 64), ("hot", "ours", 64))
"""Of the bench."""
LOOKUPS, CHANGES = "lookup-availability", "intake-availability"


@dataclass(frozen=True)
class Ordinary:
    """Lookups on an ordinary day: in all, in the fullest hour, and a second in its fullest minute."""

    a_year: float
    a_day: float
    peak_hour: float
    peak: float


def ordinary(assumed: Assumptions) -> Ordinary:
    """From dossiers a year to lookups a second."""
    year = assumed.year
    a_year = year.dossiers * year.lookups_each
    a_day = a_year * year.busy_share / year.busy_days
    peak_hour = a_day * year.peak_hour_share
    return Ordinary(a_year, a_day, peak_hour, peak_hour / 3600 * year.peak_minute)


def rush(assumed: Assumptions) -> float:
    """Lookups a second of distinct codes in the hour to survive, rounded up."""
    exact = assumed.rush.people / (assumed.rush.hours * 3600)
    return math.ceil(exact / assumed.rush.rounded_to) * assumed.rush.rounded_to


@dataclass(frozen=True)
class Part:
    """One part of the path: what a lookup takes of it, how much of it there is, and what to do when that is not enough.

    `each`: of `unit` for one lookup, by `measured`; `there`: of `unit` a second in production, `has` saying what that
    is; `full`: how full it may be.
    """

    name: str
    unit: str
    each: float
    measured: str
    there: float
    has: str
    full: float
    turn: str

    @property
    def carries(self) -> float:
        """Lookups a second with the part entirely taken up."""
        return self.there / self.each

    def needs(self, rate: float) -> float:
        """Of `unit` a second, for so many lookups a second, and no fuller than it may be."""
        return rate * self.each / self.full


def parts(figures: Figures) -> list[Part]:
    """Every part that has been measured, the one that gives way first in front. Every lookup is reckoned as cold."""
    found = [_lookup(figures), *(_stores(figures, figures.step) if figures.step else ())]
    if figures.handshakes is not None:
        edge = figures.assumed.edge
        found.append(
            Part(
                "TLS at the edge",
                "core",
                edge.handshakes_each * figures.handshakes.microseconds[HANDSHAKE_KEY] / 1e6,
                f"`--handshakes`: full ones of TLS 1.3, {HANDSHAKE_KEY}; {figures.handshakes.conditions['with']}",
                edge.cores,
                f"{edge.cores} cores, assumed",
                figures.assumed.full["edge"],
                "gateways side by side; elliptic keys, never RSA; sessions that can be resumed for whoever comes again",
            )
        )
    return sorted(found, key=lambda part: part.carries)


def _lookup(figures: Figures) -> Part:
    production = figures.production
    return Part(
        "lookup processes",
        "core",
        figures.bench[COLD].each,
        f"`make bench`, cold, alone on a core ({figures.bench_conditions})",
        production.lookups_most,
        f"{production.lookups_most} processes of a core ({production.lookups_least} before the autoscaler acts)",
        figures.assumed.full["lookup"],
        "more processes (`maxReplicas`): they share nothing, and hold four connections to a reader each",
    )


def _stores(figures: Figures, step: Step) -> list[Part]:
    production, full = figures.production, figures.assumed.full
    cold = step.runs[FROM_MEMORY]
    at = f"`make national` at {step.dossiers:,} dossiers"
    disk = step.from_disk.disk_bytes / PAGE_BYTES
    cores = production.readers * production.postgres_cores
    return [
        Part(
            "Postgres, processor",
            "core",
            cold.cpu["postgres"] / 1e6,
            f"{at}, processor time of Postgres, {FROM_MEMORY}",
            cores,
            f"{production.readers} readers of {production.postgres_cores} cores",
            full["postgres"],
            "more readers (`instances`), or more cores for each",
        ),
        Part(
            "Postgres, disk",
            "read",
            disk,
            f"{at}, what the kernel fetched for one lookup, {FROM_DISK}",
            production.readers * figures.assumed.disk.reads_per_second,
            f"{production.readers} readers of {figures.assumed.disk.reads_per_second:,} reads/s, assumed",
            full["disk"],
            "memory for the table and its index, see below: then this row is gone; until then faster volumes",
        ),
        Part(
            "Redis, one thread",
            "core",
            cold.cpu["redis"] / 1e6,
            f"{at}, processor time of Redis, {FROM_MEMORY}: a miss and a fill",
            1,
            "1 primary, which works on one core",
            full["redis"],
            "fills and misses can be left out under load, or spread over several primaries by code; neither is built",
        ),
    ]


@dataclass(frozen=True)
class Room:
    """Bytes: of a year's dossiers, of what a lookup reads of them, of the log they write a day, and in Redis."""

    a_year: float
    looked_up: float
    log_a_day: float
    in_redis: float
    seconds_to_fill_redis: float


def room(figures: Figures) -> Room | None:
    """What a year takes; None as long as nothing was measured."""
    step, assumed, production = figures.step, figures.assumed, figures.production
    if step is None:
        return None
    dossiers, dossier = assumed.year.dossiers, step.relations["dossier"]
    read = dossier.heap + dossier.rest + sum(dossier.indexes.values())
    fits = production.redis_memory / step.redis_bytes
    return Room(
        a_year=step.database_bytes / step.dossiers * dossiers,
        looked_up=read / dossier.rows * dossiers,
        log_a_day=step.loading.wal_bytes / step.loading.added * dossiers / DAYS_A_YEAR,
        in_redis=step.redis_bytes * assumed.rush.people,
        seconds_to_fill_redis=fits / rush(assumed),
    )


# -- availability ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Away:
    """What one fault costs in a year, in minutes in which nothing would have been answered; None: not measured."""

    fault: Fault
    seen: Seen | None
    lookups: float | None
    changes: float | None


def away(assumed: Assumptions, game_day: GameDay | None) -> list[Away]:
    """Every fault there is an assumption for.

    A minute in which half of the lookups failed is half a minute away, since the objective counts lookups. Until
    somebody begins to act, as many fail as during the rest of the fault, and no change is made.
    """
    seen = {} if game_day is None else {each.name: each for each in game_day.faults if not each.skipped}
    return [_away(fault, seen.get(fault.name)) for fault in assumed.fault]


def _away(fault: Fault, seen: Seen | None) -> Away:
    if seen is None:
        return Away(fault, None, None, None)
    lookups = changes = None
    if seen.lookups:
        lookups = fault.per_year * (fault.notice + seen.seconds) * seen.failed / seen.lookups / 60
    if seen.write_gap is not None:
        changes = fault.per_year * (fault.notice + seen.write_gap) / 60
    return Away(fault, seen, lookups, changes)


def unforeseen(assumed: Assumptions, game_day: GameDay | None) -> list[str]:
    """Faults of the game day that nobody has said how often they come."""
    known = {fault.name for fault in assumed.fault} | set(assumed.no_faults)
    return [] if game_day is None else [each.name for each in game_day.faults if each.name not in known]


def minutes(each: Sequence[float | None]) -> float:
    """Together, as far as they are known."""
    return sum(one for one in each if one is not None)


def allowed(objective: float) -> float:
    """Minutes a year that a promise lets be away."""
    return (1 - objective) * MINUTES_A_YEAR
