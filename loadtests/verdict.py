"""A run's counts against its budget. Knows nothing of Locust, so that whoever only judges need not import it."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from loadtests.answers import Limited, Unavailable

BUDGET_FILE = "HOSO24_LOAD_BUDGET"
DEFAULT_BUDGET = Path(__file__).with_name("budget.toml")


@dataclass(frozen=True, slots=True)
class Budget:
    """What a run has to keep to: shares from 0 to 1, milliseconds, and how many errors are too many."""

    availability: float
    latency: float
    latency_ms: float
    freshness: float
    freshness_ms: float
    errors: int

    @classmethod
    def read(cls, path: Path = DEFAULT_BUDGET) -> "Budget":
        """The budget in that file. Raises OSError, ValueError, or KeyError for an SLI it does not have."""
        sli = tomllib.loads(path.read_text("utf-8"))
        return cls(
            availability=float(sli["availability"]["at_least"]),
            latency=float(sli["latency"]["at_least"]),
            latency_ms=float(sli["latency"]["within_ms"]),
            freshness=float(sli["freshness"]["at_least"]),
            freshness_ms=float(sli["freshness"]["within_ms"]),
            errors=int(sli["errors"]["at_most"]),
        )


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

    def take(self) -> dict[str, int]:
        """What was counted since the last time, which is then forgotten here."""
        counts = asdict(self)
        for name in counts:
            setattr(self, name, 0)
        return counts


class Row(NamedTuple):
    """One SLI: what was measured, what was due, and whether that was kept."""

    sli: str
    figure: str
    budget: str
    kept: bool


def judge(tally: Tally, budget: Budget) -> list[Row]:
    """Each SLI's verdict. Where nothing was counted, nothing was kept."""
    quick, fresh = f"under {budget.latency_ms:g} ms", f"visible within {budget.freshness_ms:g} ms"
    answers = tally.good + tally.bad
    return [
        _share("availability", tally.good, answers, "answers good", budget.availability),
        _share("latency", tally.quick, tally.quick + tally.slow, f"answers {quick}", budget.latency),
        _share("freshness", tally.fresh, tally.fresh + tally.late, f"changes {fresh}", budget.freshness),
        Row(
            "errors",
            f"{tally.errors} in {answers:,} answers",
            f"at most {budget.errors}",
            answers > 0 and tally.errors <= budget.errors,
        ),
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


def _share(sli: str, kept: int, counted: int, what: str, due: float) -> Row:
    figure = f"{_percent(kept / counted)} of {counted:,} {what}" if counted else f"none counted of {what}"
    return Row(sli, figure, f"at least {_percent(due)}", counted > 0 and kept / counted >= due)


def _percent(share: float) -> str:
    # Rounded down, or 99.9499 % would be printed as the 99.95 % it missed; the small addend undoes binary fractions.
    return f"{math.floor(share * 100_000 + 1e-6) / 1000:g} %"
