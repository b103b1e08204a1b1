"""The report of a game day: what it says at a glance, what it marks, and what programs read of it."""

import json
import random
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from loadtests.gameday import report
from loadtests.gameday.charts import Line, Panel, Span, drawn
from loadtests.gameday.record import Mark, Record, Seen
from loadtests.verdict import Row

SECONDS = 60
FAULTS = (
    ("lookup-killed", "kill -9 one lookup", "0 errors at the front"),
    ("redis-stopped", "Redis stopped for 20 s", "0 failed lookups, p99 < 250 ms"),
    ("disk-full", "disk full under the Postgres primary", "caches and standby answer"),
)


@dataclass
class Day:
    """A day that never was."""

    record: Record
    marks: list[Mark] = field(default_factory=list)
    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    judge_times: bool = True
    started: float = 0.0
    stage: Any = field(default_factory=lambda: SimpleNamespace(front=SimpleNamespace(kind="haproxy")))
    crowd: Any = field(default_factory=lambda: SimpleNamespace(rate=200.0, changes_rate=8.0))


@dataclass
class Outcome:
    """What became of a fault that never was."""

    fault: Any
    began: float
    ended: float
    rows: list[Row]
    skipped: str = ""

    @property
    def kept(self) -> bool:
        return all(row.kept for row in self.rows)


def fault(number: int) -> Any:
    name, title, must_hold = FAULTS[number]
    return SimpleNamespace(name=name, title=title, must_hold=must_hold)


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
            record.note_sources(at, {"memory": 70, "redis": 20, "postgres": 10})
            record.note_lag(at, 0.004)
    return record


def outcomes() -> list[Outcome]:
    whole = SimpleNamespace(name="whole-day", title="The whole day", must_hold="Nothing acknowledged is lost.")
    return [
        Outcome(fault(0), 5.0, 15.0, [Row("lookups", "0 of 500 failed", "0 failed", kept=True)]),
        Outcome(
            fault(1),
            28.0,
            45.0,
            [
                Row("lookups", "5 of 850 failed (<script>)", "0 failed", kept=False),
                Row("p99", "8 ms", "< 250 ms", True),
            ],
        ),
        Outcome(fault(2), 45.0, 45.0, [], skipped="mount is not allowed | here"),
        Outcome(whole, 0.0, 60.0, [Row("changes kept", "0 lost", "0", kept=True)]),
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    there = tmp_path_factory.mktemp("gameday")
    day = Day(
        seen(SECONDS), marks=[Mark("Redis woken", 40.0, 41.0)], figures={"redis-stopped": {"to_first_write": 1.5}}
    )
    report.write(there / "report", day, outcomes())
    return there / "report"


def charts(page: str) -> list[ET.Element]:
    return [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]  # noqa: S314 - our own


def words(chart: ET.Element) -> Sequence[str]:
    return [text.text or "" for text in chart.iter("text")]


def test_page_stands_alone(folder: Path) -> None:
    page = (folder / "report.html").read_text("utf-8")
    assert "<script" not in page
    assert not re.search(r"""(src|href)=["'](?!#)""", page)
    assert "url(" not in page
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page


def test_first_sentence_gives_the_verdict_and_names_what_was_broken(folder: Path) -> None:
    page, text = ((folder / f"report.{kind}").read_text("utf-8") for kind in ("html", "md"))
    banner = page[page.index('<div class="banner') :]
    banner = banner[: banner.index("</div>")]
    assert "Not every promise was kept." in banner
    assert '<a href="#redis-stopped">Redis stopped for 20 s</a>' in banner
    assert "2 faults in 60 s" in banner
    assert "5 of them failed" in banner
    assert "Not every promise was kept." in text.splitlines()[2]


def test_summary_has_every_fault_with_its_verdict(folder: Path) -> None:
    text = (folder / "report.md").read_text("utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    verdicts = {row[1]: (row[2], row[3]) for row in rows if len(row) == 7}
    assert verdicts["kill -9 one lookup"] == ("✓ kept", "0")
    assert verdicts["Redis stopped for 20 s"] == ("✗ **broken**", "5")
    assert verdicts["disk full under the Postgres primary"] == ("– skipped", "–")
    assert verdicts["The whole day"] == ("✓ kept", "5")


def test_every_section_has_promise_what_was_seen_and_what_was_measured(folder: Path) -> None:
    page = (folder / "report.html").read_text("utf-8")
    section = page[page.index('<h2 id="redis-stopped">') : page.index('<h2 id="disk-full">')]
    assert "0 failed lookups, p99 &lt; 250 ms" in section
    assert "5 of 850 failed (&lt;script&gt;)" in section
    assert "<li>to_first_write <b>1.5</b></li>" in section
    assert "<li>answered 503 <b>5</b></li>" in section
    assert "mount is not allowed | here" in page[page.index('<h2 id="disk-full">') :]


def test_charts_mark_and_name_every_fault_that_took_place(folder: Path) -> None:
    day, first, second = charts((folder / "report.html").read_text("utf-8"))
    assert {"1 lookup-killed", "2 redis-stopped"} <= set(words(day))
    assert not any("disk-full" in word for word in words(day))
    assert [g.get("class") for g in day.iter("g")] == ["span kept", "span broken"]
    for chart in (day, first, second):
        titles = [text.text for text in chart.iter("text") if text.get("class") == "title"]
        assert titles == [
            "Lookups that failed, % of all",
            "Time until answered",
            "Age of answers, seconds",
            "Where answers came from, a second",
            "Changes acknowledged, a second",
        ]
    assert "Redis woken" in words(second)


def test_programs_read_failures_and_gaps(folder: Path) -> None:
    figures = json.loads((folder / "report.json").read_text("utf-8"))
    assert figures["kept"] is False
    assert figures["kind"] == "full"
    assert (figures["rate"], figures["rate_seen"]) == (200.0, 50.0)
    killed, stopped, full = figures["faults"]
    assert (killed["kept"], killed["failed"], killed["longest_failure"]) == (True, 0, 0.0)
    assert (stopped["kept"], stopped["failed"], stopped["lookups"], stopped["seconds"]) == (False, 5, 850, 17.0)
    assert stopped["longest_failure"] == pytest.approx(1.6)
    assert stopped["write_gap"] == pytest.approx(4.2, abs=0.05)
    assert full["skipped"] == "mount is not allowed | here"


def test_day_without_anything_is_not_a_day_that_was_kept(tmp_path: Path) -> None:
    report.write(tmp_path, Day(Record(monotonic=lambda: 1.0)), [])
    assert json.loads((tmp_path / "report.json").read_text("utf-8"))["kept"] is False


# -- charts -----------------------------------------------------------------------------------------------------------


def path_of(svg: str, colour: str) -> list[tuple[float, float]]:
    """The points of the line of that colour."""
    (found,) = [each for each in ET.fromstring(svg).iter("path") if each.get("class") == f"line {colour}"]  # noqa: S314
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", found.get("d") or "")]


def test_line_rises_with_its_values_and_breaks_where_there_is_none() -> None:
    svg = drawn([Panel("x", [Line("a", "c1", [1.0, 4.0, float("nan"), 10.0])], top=10.0)], step=1.0)
    points = path_of(svg, "c1")
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert points[0][1] > points[1][1] > points[2][1]
    assert len(points) == 3
    assert svg.count("M", svg.index('class="line c1"'), svg.index("<title>a")) == 2


def test_logarithmic_scale_gives_each_power_of_ten_the_same_room() -> None:
    values = [0.0001, 0.001, 0.01, 0.1, 1.0]
    points = path_of(drawn([Panel("x", [Line("a", "c1", values)], top=1.0, logarithmic=True)], step=1.0), "c1")
    heights = [y for _, y in points]
    steps = [round(below - above, 1) for below, above in pairwise(heights[1:])]
    assert heights[0] == heights[1]
    assert max(steps) - min(steps) < 0.2


def test_stacked_areas_stand_on_each_other() -> None:
    panel = Panel("x", [Line("a", "c1", [2.0, 2.0]), Line("b", "c2", [3.0, 3.0])], top=5.0, stacked=True)
    svg = drawn([panel], step=1.0)
    areas = {each.get("class"): each.get("d") or "" for each in ET.fromstring(svg).iter("path")}  # noqa: S314
    tops = [{float(y) for _, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", areas[f"fill {c}"])} for c in ("c1", "c2")]
    assert min(tops[0]) == max(tops[1])
    assert min(tops[1]) < min(tops[0])


def test_names_of_narrow_spans_are_side_by_side() -> None:
    spans = [Span(f"fault {n}", 50.0 + n / 10, 50.05 + n / 10) for n in range(20)]
    svg = drawn([Panel("x", [Line("a", "c1", [0.0] * 100)], top=1.0)], step=1.0, spans=spans)
    places = [float(x) for x in re.findall(r'transform="translate\(([\d.]+)', svg)]
    assert all(right - left >= 12 for left, right in pairwise(places))
    assert max(places) < 1000
