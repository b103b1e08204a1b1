"""A run's counts against its budget. Knows nothing of Locust, so that judging does not import it."""

import math
import tomllib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from loadtests.answers import Limited, Unavailable

BUDGET_FILE = "HOSO24_LOAD_BUDGET"
DEFAULT_BUDGET = Path(__file__).with_name("budget.toml")
OBJECTIVES = Path(__file__).parent.parent / "k8s" / "components" / "monitoring" / "slo.toml"
"""Where the published objectives stand."""

OFFICES = "offices"
"""Who looks at what they have just changed, or names its version: that need not be answered from a cache."""
INTAKE = "intake"
"""Whose answers are counted apart from the lookup's: the intake has an objective of its own."""
TOLD = "followers of the feed"
TOLD_IN_TIME = 0.99
"""The share of what followers are told that has to be in time."""
ATTACKERS = "attackers"
NEIGHBOURS = "neighbours"
NEIGHBOURS_MISSES = "neighbours who asked for no dossier"
NEIGHBOURS_WALKED = "neighbours who asked, without a key, where codes are counted up"


@dataclass(frozen=True, slots=True)
class Budget:
    """What a run has to keep to: shares from 0 to 1, milliseconds, and how many errors are too many."""

    availability: float
    latency: float
    latency_ms: float
    freshness: float
    freshness_ms: float
    intake: float
    errors: int

    @classmethod
    def read(cls, path: Path = DEFAULT_BUDGET) -> "Budget":
        """The budget in that file. Raises OSError, ValueError, or KeyError for an SLI or SLO there is none of."""
        sli = tomllib.loads(path.read_text("utf-8"))
        return cls(
            availability=_share_due(sli["availability"]),
            latency=_share_due(sli["latency"]),
            latency_ms=float(sli["latency"]["within_ms"]),
            freshness=_share_due(sli["freshness"]),
            freshness_ms=float(sli["freshness"]["within_ms"]),
            intake=_share_due(sli["intake"]),
            errors=int(sli["errors"]["at_most"]),
        )


def _share_due(sli: Mapping[str, Any]) -> float:
    if "slo" not in sli:
        return float(sli["at_least"])
    published = tomllib.loads(OBJECTIVES.read_text("utf-8"))["slo"]
    return float({slo["name"]: slo["objective"] for slo in published}[sli["slo"]])


@dataclass(slots=True)
class Tally:
    """What is counted during a run. An answer is good or bad, or not counted; quick or slow, if it counts there."""

    good: int = 0
    bad: int = 0
    not_counted: int = 0
    quick: int = 0
    slow: int = 0
    fresh: int = 0
    late: int = 0
    errors: int = 0

    def answer(self, failure: BaseException | None, *, quick: bool) -> None:
        """Count one HTTP answer, or the want of one."""
        if isinstance(failure, Limited):
            self.not_counted += 1
            return
        self.good += failure is None
        self.bad += failure is not None
        if isinstance(failure, Unavailable):
            return
        self.errors += failure is not None
        self.quick += quick
        self.slow += not quick

    def change(self, *, in_time: bool) -> None:
        """Count one change that the lookup should have shown."""
        self.fresh += in_time
        self.late += not in_time

    def add(self, counts: Mapping[str, int]) -> None:
        """Add what another process has counted."""
        for name, count in counts.items():
            setattr(self, name, getattr(self, name) + count)

    @property
    def answers(self) -> int:
        """Those that count for availability."""
        return self.good + self.bad


class Counts:
    """A run's tallies, by who asked, and when lookups found a copy in a cache. One process adds what others took."""

    def __init__(self) -> None:
        self._tallies: defaultdict[str, Tally] = defaultdict(Tally)
        self.warmth = Warmth()
        self.lag = Lag()

    def of(self, who: str) -> Tally:
        """The tally of these visitors, empty where none came."""
        return self._tallies[who]

    def lookups(self, but: frozenset[str] = frozenset()) -> Tally:
        """Of all who asked the lookup, `but` for these."""
        total = Tally()
        for who, tally in self._tallies.items():
            if who != INTAKE and who not in but:
                total.add(asdict(tally))
        return total

    def refused(self) -> dict[str, int]:
        """How many answers were refusals by rate, by who asked; those who got none are left out."""
        return {who: tally.not_counted for who, tally in self._tallies.items() if tally.not_counted}

    def came_from(self, who: str, second: int, *, cache: bool) -> None:
        """Count where the answer to a lookup of that second (Unix time) came from, unless an office asked."""
        if who != OFFICES:
            self.warmth.note(second, cache)

    def add(self, taken: Mapping[str, Any]) -> None:
        """Add what another process has counted."""
        for who, counts in taken["tallies"].items():
            self.of(who).add(counts)
        for second, copies, lookups in taken["warmth"]:
            self.warmth.note(second, copies, lookups)
        self.lag.add(Lag(*taken["lag"]))

    def take(self) -> dict[str, Any]:
        """What was counted since the last time, which is then forgotten here."""
        taken = {
            "tallies": {who: asdict(tally) for who, tally in self._tallies.items()},
            "warmth": self.warmth.seconds(),
            "lag": astuple(self.lag),
        }
        self._tallies.clear()
        self.warmth = Warmth()
        self.lag = Lag()
        return taken


@dataclass(slots=True)
class Lag:
    """How late the load's own processes were, each of which can do one thing at a time: what answers seem to take and
    the service did not."""

    turns: int = 0
    late: int = 0
    longest: float = 0.0

    LATE: ClassVar[float] = 0.05
    """Seconds from which on a turn was late."""

    def note(self, seconds: float) -> None:
        """Count one turn, which came so much later than it was due."""
        self.add(Lag(1, int(seconds >= self.LATE), seconds))

    def add(self, other: "Lag") -> None:
        """Add what another process has noted."""
        self.turns += other.turns
        self.late += other.late
        self.longest = max(self.longest, other.longest)

    def __str__(self) -> str:
        part = 1000 * self.late / self.turns if self.turns else 0.0
        return (
            f"The load's own processes were late by {self.LATE * 1000:g} ms or more in {part:.1f} of 1,000 turns, "
            f"by {self.longest * 1000:.0f} ms at the most."
        )


class Warmth:
    """How many of the public's lookups of each second found a copy in a cache: in process memory or in Redis."""

    OF = 0.9
    """The share of lookups that has to find one, of a service that is warm."""
    OVER = 5
    """Seconds over which that share is taken."""

    def __init__(self) -> None:
        self._seconds: defaultdict[int, tuple[int, int]] = defaultdict(lambda: (0, 0))

    def note(self, second: int, copies: int, lookups: int = 1) -> None:
        """Count lookups of that second (Unix time), of which so many found a copy."""
        before = self._seconds[second]
        self._seconds[second] = (before[0] + copies, before[1] + lookups)

    def seconds(self) -> "list[tuple[int, int, int]]":
        """Second, lookups that found a copy, lookups; in order."""
        return [(second, *counted) for second, counted in sorted(self._seconds.items())]

    def warm_after(self) -> int | None:
        """Seconds from the first lookup until warm: from then on no OVER seconds had less than OF. None if never."""
        if not self._seconds:
            return None
        first, last = min(self._seconds), max(self._seconds)
        warm = None
        for end in range(last, first + self.OVER - 2, -1):
            window = [self._seconds.get(second, (0, 0)) for second in range(end - self.OVER + 1, end + 1)]
            copies, lookups = (sum(column) for column in zip(*window, strict=True))
            if not lookups or copies / lookups < self.OF:
                break
            warm = end - self.OVER + 1 - first
        return warm


class Row(NamedTuple):
    """One SLI: what was measured, what was due, and whether that was kept."""

    sli: str
    figure: str
    budget: str
    kept: bool


def judge(counts: Counts, budget: Budget, but: frozenset[str] = frozenset()) -> list[Row]:
    """Each SLI's verdict, of all visitors `but` these. Where nothing was counted, nothing was kept."""
    quick, fresh = f"under {budget.latency_ms:g} ms", f"visible within {budget.freshness_ms:g} ms"
    lookups, intake = counts.lookups(but), counts.of(INTAKE)
    errors, answers = lookups.errors + intake.errors, lookups.answers + intake.answers
    return [
        share("availability", lookups.good, lookups.answers, "answers good", budget.availability),
        share("latency", lookups.quick, lookups.quick + lookups.slow, f"answers {quick}", budget.latency),
        share("freshness", lookups.fresh, lookups.fresh + lookups.late, f"changes {fresh}", budget.freshness),
        share("intake", intake.good, intake.answers, "answers good", budget.intake),
        Row(
            "errors",
            f"{errors} in {answers:,} answers",
            f"at most {budget.errors}",
            answers > 0 and errors <= budget.errors,
        ),
    ]


def asked_as(name: str, url: str, walked: str) -> str:
    """Which kind of neighbour asks this. `walked`: what the codes that are counted up begin with."""
    if name.endswith(" unknown"):
        return NEIGHBOURS_MISSES
    has_key = name.endswith((" + key", " + cookie", "?key="))
    return NEIGHBOURS_WALKED if walked and f"/{walked}" in url and not has_key else NEIGHBOURS


def resisted(counts: Counts) -> list[Row]:
    """What attackers got, and that their neighbours noticed nothing of it."""
    attackers, neighbours = counts.of(ATTACKERS), counts.of(NEIGHBOURS)
    asked, refused = attackers.answers + attackers.not_counted, neighbours.not_counted
    apart = [counts.of(who) for who in (NEIGHBOURS_MISSES, NEIGHBOURS_WALKED)]
    return [
        Row(
            "attackers refused",
            f"{attackers.not_counted:,} of {asked:,} questions (429)",
            "at least half",
            attackers.not_counted * 2 >= max(1, asked),
        ),
        Row(
            "neighbours refused",
            f"{refused:,} of {neighbours.answers + refused:,} questions (429)",
            "none",
            neighbours.answers > 0 and refused == 0,
        ),
        Row(
            "contradictions to the others of them",
            f"{sum(each.errors for each in apart):,} in {sum(each.answers for each in apart):,} answers",
            "none",
            not any(each.errors for each in apart),
        ),
    ]


def told(counts: Counts) -> list[Row]:
    """That who follows the feed was told in time, as `visible` is judged."""
    tally = counts.of(TOLD)
    return [share("told", tally.fresh, tally.fresh + tally.late, "pages of the feed in time", TOLD_IN_TIME)]


def warmed(counts: Counts) -> list[Row]:
    """How long after a cold start the public's lookups were answered from caches."""
    seconds = counts.warmth.seconds()
    copies, lookups = sum(copies for _, copies, _ in seconds), sum(lookups for *_, lookups in seconds)
    after = counts.warmth.warm_after()
    when = f"after {after} s" if after is not None else "never"
    return [
        Row(
            "warm",
            f"{when}; {copies:,} of {lookups:,} lookups from a cache",
            f"{Warmth.OF:.0%} from a cache",
            after is not None,
        )
    ]


def passed(rows: list[Row]) -> bool:
    """Whether every SLI was kept."""
    return all(row.kept for row in rows)


def table(rows: list[Row]) -> str:
    """The rows as text, in columns."""
    cells = [("SLI", "figure", "budget", "verdict")]
    cells += [(row.sli, row.figure, row.budget, "pass" if row.kept else "FAIL") for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def share(sli: str, kept: int, counted: int, what: str, due: float) -> Row:
    """The row of a share that was due."""
    figure = f"{_percent(kept / counted)} of {counted:,} {what}" if counted else f"none counted of {what}"
    return Row(sli, figure, f"at least {_percent(due)}", counted > 0 and kept / counted >= due)


def _percent(share: float) -> str:
    # Rounded down, or 99.9499 % would be printed as the 99.95 % it missed; the small addend undoes binary fractions.
    return f"{math.floor(share * 100_000 + 1e-6) / 1000:g} %"
