"""The tables, in Markdown: printed, and written to RESULTS.md."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from loadtests.bench.cases import CASES
from loadtests.bench.rig import CaseOutcome, Judged, Series

RATIOS = ("case", "what", "figure", "goal", "verdict")
MEASURED = (
    "case",
    "server",
    "connections",
    "answers/s",
    "of all runs",
    "median ms",
    "p99 ms",
    "cores busy",
    "disturbed",
    "errors",
)
NUMBERS = frozenset(MEASURED[2:-1]) | {"figure"}

HEAD = """\
# Side by side

Written by `make bench` (`loadtests/bench/side_by_side.py`); do not edit. Compare ratios, not machines.
"""

READING = """\
Every peer answers the same JSON as ours, with no header more than it has to; ours sends its own as always. Figures are
medians over the runs; answers/s "of all runs" are the lowest and the highest. "Cores busy" are the server's and the
other one: where the first is not full, load or database were the limit, and the server could have done more.
"Disturbed" are runs during which others on the machine were busy; beware of ratios in which they are many.
"""


def show(outcomes: Sequence[CaseOutcome]) -> None:
    """Print both tables."""
    for title, columns, rows in _tables(outcomes):
        print(f"\n{title}\n", *_markdown(columns, rows), sep="\n")


def write(path: Path, outcomes: Sequence[CaseOutcome], conditions: Mapping[str, str]) -> None:
    """Write both tables, what the cases are, and the conditions."""
    text = HEAD
    for title, columns, rows in _tables(outcomes):
        text += f"\n## {title}\n\n" + "".join(f"{line}\n" for line in _markdown(columns, rows))
    run = {series.case for outcome in outcomes for series in outcome.series}
    run |= {judged.case for outcome in outcomes for judged in outcome.judged}
    text += "\n" + READING + "\n"
    text += "".join(f"- **{name}**: {case.title}\n" for name, case in CASES.items() if name in run)
    text += "\n## Conditions\n\n" + "".join(f"- {name}: {value}\n" for name, value in conditions.items())
    path.write_text(text, "utf-8")


def _tables(outcomes: Sequence[CaseOutcome]) -> list[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    ratios = [_ratio(judged) for outcome in outcomes for judged in outcome.judged]
    measured = [_measured(series) for outcome in outcomes for series in outcome.series]
    return [table for table in (("Ratios", RATIOS, ratios), ("Measured", MEASURED, measured)) if table[2]]


def _ratio(judged: Judged) -> tuple[str, ...]:
    verdict = {True: "reached", False: "short", None: "–"}[judged.reached]
    return (judged.case, judged.what, judged.figure, judged.goal or "–", verdict)


def _measured(series: Series) -> tuple[str, ...]:
    return (
        series.case,
        series.server,
        f"{series.connections:,}",
        f"{series.rate:,.0f}",
        f"{min(series.rates):,.0f} – {max(series.rates):,.0f}",
        f"{series.median:.2f}",
        f"{series.p99:.2f}",
        f"{_percent(run.usage.server_core for run in series.runs)}, "
        f"{_percent(run.usage.other_core for run in series.runs)}",
        f"{series.disturbed} of {len(series.runs)}",
        series.trouble,
    )


def _percent(shares: Iterable[float]) -> str:
    return f"{statistics.median(shares):.0%}"


def _markdown(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    rule = ["---:" if column in NUMBERS else "---" for column in columns]
    return [f"| {' | '.join(row)} |" for row in (columns, rule, *rows)]
