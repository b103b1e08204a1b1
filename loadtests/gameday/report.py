"""What a game day has shown, for people and for programs: report.md and report.json."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2

from loadtests.gameday.day import Day, Outcome, Timed
from loadtests.gameday.record import CHANGES, LOOKUPS, Window
from loadtests.machine import commit, processor

REASONS = 5
WHOLE_DAY = "whole-day"
"""The name of what is promised of the day as a whole; it is no fault."""

_environment = jinja2.Environment(  # noqa: S701 - Markdown, and no HTML
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class Section:
    """One fault as the report shows it; the whole day has the number 0."""

    number: int
    outcome: Outcome
    window: Window
    figures: Mapping[str, float]

    @property
    def verdict(self) -> str:
        return "skipped" if self.outcome.skipped else "kept" if self.outcome.kept else "broken"

    @property
    def seconds(self) -> float:
        return self.outcome.ended - self.outcome.began

    @property
    def lookups(self) -> int:
        return self.window.of_kind(*LOOKUPS)

    @property
    def failing(self) -> float:
        """Seconds from the first lookup that failed to the last; 0.0 where none did."""
        first, last = self.window.first_failed, self.window.last_failed
        return 0.0 if first is None or last is None else last - first

    @property
    def whys(self) -> Sequence[tuple[str, int]]:
        """The most frequent reasons of what was not good."""
        return self.window.whys().most_common(REASONS)


def write(folder: Path, day: Day, outcomes: Sequence[Outcome], *, kind: str = "full") -> None:
    """Write both into the folder, which is made. `kind`: full, short, or part of a day."""
    folder.mkdir(parents=True, exist_ok=True)
    ended = max([outcome.ended for outcome in outcomes], default=time.monotonic())
    content = _content(day, outcomes, ended, kind)
    (folder / "report.md").write_text(_environment.get_template("report.md.j2").render(**content), "utf-8")
    figures = json.dumps(_figures(content), indent=1, ensure_ascii=False)
    (folder / "report.json").write_text(f"{figures}\n", "utf-8")


def _content(day: Day, outcomes: Sequence[Outcome], ended: float, kind: str) -> dict[str, Any]:
    window = day.record.window(day.started, ended)
    faults = [outcome for outcome in outcomes if outcome.fault.name != WHOLE_DAY]
    whole = [outcome for outcome in outcomes if outcome.fault.name == WHOLE_DAY]
    numbered = [*enumerate(faults, 1), *((0, outcome) for outcome in whole)]
    return {
        "kept": bool(outcomes) and all(outcome.kept for outcome in outcomes),
        "kind": kind,
        "date": datetime.now(UTC),
        "commit": commit(),
        "processor": processor(),
        "front": {"haproxy": "HAProxy", "rotation": "clients that go round"}.get(day.stage.front.kind, "?"),
        "rate": day.crowd.pace.rate,
        "changes_rate": day.crowd.desk_pace.rate,
        "judge_times": day.judge_times,
        "seconds": ended - day.started,
        "window": window,
        "changes": window.of_kind(*CHANGES),
        "lookups": window.of_kind(*LOOKUPS),
        "sections": [_section(day, number, outcome) for number, outcome in numbered],
        "took_place": sum(not outcome.skipped for outcome in faults),
        "number": _number,
        "ms": _ms,
        "share": _share,
        "span": _span,
    }


def _section(day: Day, number: int, outcome: Outcome) -> Section:
    window = day.record.window(outcome.began, outcome.ended)
    return Section(number, outcome, window, day.figures.get(outcome.fault.name, {}))


# -- for programs ----------------------------------------------------------------------------------------------


def _figures(content: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "date": content["date"].isoformat(timespec="seconds"),
        "commit": content["commit"].removeprefix("commit "),
        "kind": content["kind"],
        "kept": content["kept"],
        "rate": content["rate"],
        "rate_seen": round(content["window"].rate, 1),
        "faults": [_figures_of(section) for section in content["sections"]],
    }


def _figures_of(section: Section) -> dict[str, Any]:
    window = section.window
    tried = window.of_kind("submit", "move") > 0
    return {
        "name": section.outcome.fault.name,
        "title": section.outcome.fault.title,
        "kept": section.verdict != "broken",
        "skipped": section.outcome.skipped,
        "seconds": round(section.seconds, 3),
        "lookups": section.lookups - window.count("limited"),
        "failed": window.failed,
        "longest_failure": round(section.failing, 3),
        "write_gap": round(window.longest_without_change, 3) if tried else None,
        "figures": dict(section.figures),
        "promises": [
            {
                "promise": row.sli,
                "seen": row.figure,
                "due": row.budget,
                "kept": row.kept,
                "timed": isinstance(row, Timed),
            }
            for row in section.outcome.rows
        ],
    }


# -- words -----------------------------------------------------------------------------------------------------


def _ms(seconds: float) -> str:
    """A time as a person reads it: 0.8 ms, 12 ms, 3.4 s."""
    if math.isnan(seconds):
        return "–"
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"


def _span(seconds: float) -> str:
    """How long something lasted: 45 s, 3 min 20 s."""
    whole = round(seconds)
    return f"{whole} s" if whole < 90 else f"{whole // 60} min {whole % 60} s"


def _number(count: float) -> str:
    """A count, or a rate, with its thousands apart."""
    return f"{count:,.0f}" if count >= 10 or count == int(count) else f"{count:.1f}"


def _share(part: int, whole: int) -> str:
    """A share in per cent, never rounded down to nothing."""
    if not whole:
        return "–"
    percent = 100 * part / whole
    return f"{percent:.3g} %" if part else "0 %"
