"""The report of a game day: what it says at a glance, what it marks, and what programs read of it."""

import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from loadtests.gameday import report
from loadtests.gameday.citizens import Pace
from loadtests.gameday.day import Fault, Outcome
from loadtests.gameday.record import Record, Seen
from loadtests.verdict import Row

SECONDS = 60
FAULTS = (
    ("lookup-killed", "kill -9 one lookup", "0 errors at the front"),
    ("redis-stopped", "Redis stopped for 20 s", "0 failed lookups, p99 < 250 ms"),
    ("disk-full", "disk full under the Postgres primary", "caches and standby answer"),
)


def day(record: Record, **more: Any) -> Any:
    """A day that never was."""
    stage = SimpleNamespace(front=SimpleNamespace(kind="haproxy"))
    usual = {"figures": {}, "judge_times": True, "started": 0.0}
    crowd = SimpleNamespace(pace=Pace(200.0), desk_pace=Pace(8.0))
    return SimpleNamespace(record=record, stage=stage, crowd=crowd, **usual | more)


def fault(name: str, title: str, must_hold: str) -> Fault:
    async def act(_: Any) -> list[Row]:
        return []

    return Fault(name, title, must_hold, act)


def seen(seconds: int, rate: int = 50) -> Record:
    """An ordinary day, with five failed lookups between its 31st and 33rd second, and no change from 30 to 34."""
    chance, record = random.Random(24), Record(monotonic=lambda: float(seconds))
    for n in range(seconds * rate):
        at = n / rate
        failed = 31 <= at < 33 and n % (2 * rate // 5) == 0
        outcome, why = ("unavailable", "answered 503") if failed else ("good", "")
        record.note(Seen(at, chance.lognormvariate(-6, 0.7), "known", outcome, why, "lookup-1", "cache", at % 7))
        if n % 10 == 0 and not 30 <= at < 34:
            record.note(Seen(at, 0.02, "move", "good"))
        if n % (2 * rate) == 0:
            record.note_lag(at, 0.004)
    return record


def outcomes() -> list[Outcome]:
    whole = fault("whole-day", "The whole day", "Nothing acknowledged is lost.")
    return [
        Outcome(fault(*FAULTS[0]), 5.0, 15.0, [Row("lookups", "0 of 500 failed", "0 failed", kept=True)]),
        Outcome(
            fault(*FAULTS[1]),
            28.0,
            45.0,
            [
                Row("lookups", "5 of 850 failed (<script>)", "0 failed", kept=False),
                Row("p99", "8 ms", "< 250 ms", True),
            ],
        ),
        Outcome(fault(*FAULTS[2]), 45.0, 45.0, skipped="mount is not allowed | here"),
        Outcome(whole, 0.0, 60.0, [Row("changes kept", "0 lost", "0", kept=True)]),
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    there = tmp_path_factory.mktemp("gameday")
    figures = {"redis-stopped": {"to_first_write": 1.5}}
    report.write(there / "report", day(seen(SECONDS), figures=figures), outcomes())
    return there / "report"


def test_first_sentence_gives_the_verdict(folder: Path) -> None:
    first = (folder / "report.md").read_text("utf-8").splitlines()[2]
    assert "Not every promise was kept." in first
    assert "2 faults in 60 s" in first
    assert "5 of them failed" in first


def test_fault_is_told_with_its_promises_its_figures_and_what_was_seen(folder: Path) -> None:
    text = (folder / "report.md").read_text("utf-8")
    told = text[text.index("## 2. Redis stopped for 20 s: ✗ **broken**") : text.index("## 3.")]
    assert "| lookups | 5 of 850 failed (<script>) | 0 failed | ✗ **broken** |" in told
    assert "850 lookups: 5 failed, for 1.6 s;" in told
    assert "longest without a change 4.2 s. The load's own loop was late by 4.0 ms at the most." in told
    assert "- to_first_write: 1.5\n" in told
    assert "- 5 × answered 503\n" in told


def test_summary_has_every_fault_with_its_verdict(folder: Path) -> None:
    text = (folder / "report.md").read_text("utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    verdicts = {row[1]: (row[2], row[3]) for row in rows if len(row) == 7}
    assert verdicts["kill -9 one lookup"] == ("✓ kept", "0")
    assert verdicts["Redis stopped for 20 s"] == ("✗ **broken**", "5")
    assert verdicts["disk full under the Postgres primary"] == ("– skipped", "–")
    assert verdicts["The whole day"] == ("✓ kept", "5")


def test_programs_read_failures_and_gaps(folder: Path) -> None:
    figures = json.loads((folder / "report.json").read_text("utf-8"))
    assert figures["kept"] is False
    assert figures["kind"] == "full"
    assert (figures["rate"], figures["rate_seen"]) == (200.0, 50.0)
    killed, stopped, full, whole = figures["faults"]
    assert (killed["kept"], killed["failed"], killed["longest_failure"]) == (True, 0, 0.0)
    assert (stopped["kept"], stopped["failed"], stopped["lookups"], stopped["seconds"]) == (False, 5, 850, 17.0)
    assert stopped["longest_failure"] == pytest.approx(1.6)
    assert stopped["write_gap"] == pytest.approx(4.2, abs=0.05)
    assert stopped["promises"][0] == {
        "promise": "lookups",
        "seen": "5 of 850 failed (<script>)",
        "due": "0 failed",
        "kept": False,
        "timed": False,
    }
    assert whole["name"] == "whole-day"
    assert full["skipped"] == "mount is not allowed | here"


def test_day_without_anything_is_not_a_day_that_was_kept(tmp_path: Path) -> None:
    report.write(tmp_path, day(Record(monotonic=lambda: 1.0)), [])
    assert json.loads((tmp_path / "report.json").read_text("utf-8"))["kept"] is False
