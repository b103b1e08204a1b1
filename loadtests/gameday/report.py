"""What a game day has shown, for people and for programs: report.html, report.md and report.json.

The page stands alone: one file, no script, no network, light and dark, readable on a telephone.
"""

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2

from loadtests.gameday.charts import Span, drawn
from loadtests.gameday.day import Day, Outcome, Timed
from loadtests.gameday.record import CHANGES, LOOKUPS, Mark, Window
from loadtests.machine import commit, processor
from loadtests.verdict import Row

AROUND = 5.0
"""Seconds before and after a fault that its own chart shows."""
REASONS = 5
WHOLE_DAY = "whole-day"
"""The name of what is promised of the day as a whole; it is no fault and has no chart of its own."""

_environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=jinja2.select_autoescape(["html.j2"]),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class Section:
    """One fault as both reports show it."""

    number: int
    name: str
    title: str
    must_hold: str
    verdict: str
    """kept, broken or skipped."""
    skipped: str
    seconds: float
    rows: Sequence[Row]
    window: Window
    figures: Mapping[str, float]
    chart: str = ""
    whys: Sequence[tuple[str, int]] = field(default_factory=list)

    @property
    def failed(self) -> int:
        return self.window.failed

    @property
    def lookups(self) -> int:
        return self.window.of_kind(*LOOKUPS)

    @property
    def failing(self) -> float:
        """Seconds from the first lookup that failed to the last; 0.0 where none did."""
        first, last = self.window.first_failed, self.window.last_failed
        return 0.0 if first is None or last is None else last - first


def write(folder: Path, day: Day, outcomes: Sequence[Outcome], *, kind: str = "full") -> None:
    """Write all three into the folder, which is made. `kind`: full, short, or part of a day."""
    folder.mkdir(parents=True, exist_ok=True)
    ended = max([outcome.ended for outcome in outcomes], default=time.monotonic())
    content = _content(day, outcomes, ended, kind)
    for name in ("report.html", "report.md"):
        (folder / name).write_text(_environment.get_template(f"{name}.j2").render(**content), "utf-8")
    figures = json.dumps(_figures(content), indent=1, ensure_ascii=False)
    (folder / "report.json").write_text(f"{figures}\n", "utf-8")


def _content(day: Day, outcomes: Sequence[Outcome], ended: float, kind: str) -> dict[str, Any]:
    window = day.record.window(day.started, ended)
    sections = [_section(day, number, outcome) for number, outcome in enumerate(_faults(outcomes), 1)]
    whole = [_section(day, 0, outcome) for outcome in outcomes if outcome.fault.name == WHOLE_DAY]
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
        "sections": sections,
        "whole": whole,
        "broken": [section for section in [*sections, *whole] if section.verdict == "broken"],
        "skipped": [section for section in sections if section.skipped],
        "number": _number,
        "chart": _day_chart(window, outcomes),
        "ms": _ms,
        "share": _share,
        "span": _span,
    }


def _faults(outcomes: Sequence[Outcome]) -> Iterator[Outcome]:
    return (outcome for outcome in outcomes if outcome.fault.name != WHOLE_DAY)


def _section(day: Day, number: int, outcome: Outcome) -> Section:
    fault, window = outcome.fault, day.record.window(outcome.began, outcome.ended)
    there = number > 0 and not outcome.skipped
    return Section(
        number,
        fault.name,
        fault.title,
        fault.must_hold,
        "skipped" if outcome.skipped else "kept" if outcome.kept else "broken",
        outcome.skipped,
        outcome.ended - outcome.began,
        outcome.rows,
        window,
        day.figures.get(fault.name, {}),
        _fault_chart(day, outcome) if there else "",
        window.whys().most_common(REASONS) if there else [],
    )


# -- charts ----------------------------------------------------------------------------------------------------


def _day_chart(window: Window, outcomes: Sequence[Outcome]) -> str:
    spans = [
        Span(f"{number} {outcome.fault.name}", outcome.began - window.began, outcome.ended - window.began, outcome.kept)
        for number, outcome in enumerate(_faults(outcomes), 1)
        if not outcome.skipped
    ]
    return drawn(window, spans)


def _fault_chart(day: Day, outcome: Outcome) -> str:
    began = max(day.started, outcome.began - AROUND)
    spans = [
        Span(mark.name, mark.began - began, mark.ended - began, outcome.kept)
        for mark in [*day.marks, Mark(outcome.fault.name, outcome.began, outcome.ended)]
        if outcome.began <= mark.began and mark.ended <= outcome.ended and mark.name != outcome.fault.title
    ]
    return drawn(day.record.window(began, outcome.ended + AROUND), spans)


# -- for programs ----------------------------------------------------------------------------------------------


def _figures(content: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "date": content["date"].isoformat(timespec="seconds"),
        "commit": content["commit"].removeprefix("commit "),
        "kind": content["kind"],
        "kept": content["kept"],
        "rate": content["rate"],
        "rate_seen": round(content["window"].rate, 1),
        "faults": [_figures_of(section) for section in [*content["sections"], *content["whole"]]],
    }


def _figures_of(section: Section) -> dict[str, Any]:
    window = section.window
    tried = window.of_kind("submit", "move") > 0
    return {
        "name": section.name,
        "title": section.title,
        "kept": section.verdict != "broken",
        "skipped": section.skipped,
        "seconds": round(section.seconds, 3),
        "lookups": window.of_kind(*LOOKUPS) - window.count("limited"),
        "failed": section.failed,
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
            for row in section.rows
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
