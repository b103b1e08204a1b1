"""The page on capacity and availability: it is up to date, its arithmetic is right, and what is missing is said so."""

import json
import shutil
from pathlib import Path

import msgspec
import pytest

from loadtests.capacity import figures, handshakes, model
from loadtests.capacity.__main__ import made, outdated, take_over
from loadtests.capacity.figures import ASSUMPTIONS, GAME_DAY, NATIONAL, Figures, GameDay, Seen
from loadtests.capacity.handshakes import Handshakes
from loadtests.capacity.page import MISSING, page
from loadtests.national import findings
from loadtests.system.processes import CannotMeasure
from tests.programs import program
from tests.test_national import step

ROOT = Path(__file__).parent.parent
READ = (
    "loadtests/bench/RESULTS.md",
    "k8s/components/monitoring/slo.toml",
    "k8s/overlays/production/capacity.yaml",
    "k8s/components/postgres/cluster.yaml",
    "k8s/components/redis-sentinel/valkey.conf",
    str(ASSUMPTIONS),
)


def known(**changes: object) -> Figures:
    """The figures kept here, with a step and handshakes that are easy to reckon with."""
    made = Handshakes({model.HANDSHAKE_KEY: 200.0}, {"with": "OpenSSL", "load": "nobody"})
    found = {"step": step(1_000_000), "handshakes": made, "game_day": None, **changes}
    return msgspec.structs.replace(figures.read(ROOT), **found)


def seen(name: str, seconds: float, *, lookups: int = 1000, failed: int = 0, write_gap: float | None = 0.0) -> Seen:
    return Seen(name, True, "", seconds, lookups, failed, write_gap)


def game_day(*faults: Seen) -> GameDay:
    return GameDay("today", "commit 1", "full", 200.0, list(faults))


def test_pages_are_up_to_date() -> None:
    assert outdated() == []


def test_a_changed_assumption_makes_the_page_out_of_date(tmp_path: Path) -> None:
    for name in (*READ, "docs/capacity.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for path, text in made(tmp_path).items():
        (tmp_path / path).write_text(text, "utf-8")
    assert outdated(tmp_path) == []
    assumed = (tmp_path / ASSUMPTIONS).read_text("utf-8")
    (tmp_path / ASSUMPTIONS).write_text(assumed.replace("lookups_each = 12 ", "lookups_each = 13 "), "utf-8")
    assert outdated(tmp_path) == [Path("docs/capacity.md")]


def test_a_new_step_makes_both_pages_out_of_date(tmp_path: Path) -> None:
    for name in READ:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / NATIONAL).parent.mkdir(parents=True)
    assert set(outdated(tmp_path)) == {Path("docs/capacity.md")}
    findings.write(tmp_path / NATIONAL, [known().step or step(1)])
    assert set(outdated(tmp_path)) == {Path("docs/capacity.md"), Path("loadtests/national/RESULTS.md")}


# -- capacity --------------------------------------------------------------------------------------------------


def test_hour_to_survive_is_the_one_of_the_manifests() -> None:
    assert model.rush(figures.read(ROOT).assumed) == 23_900


def test_ordinary_day() -> None:
    day = model.ordinary(figures.read(ROOT).assumed)
    assert day.a_year == 47_700_000 * 12
    assert day.a_day == pytest.approx(2_060_640)
    assert day.peak == pytest.approx(2_060_640 * 0.15 / 3600 * 3)


def test_parts_are_sorted_by_what_they_carry() -> None:
    found = model.parts(known())
    each = figures.read(ROOT).bench[model.COLD].each
    assert [part.carries for part in found] == sorted(part.carries for part in found)
    carries = {part.name: part.carries for part in found}
    assert carries == {
        "lookup processes": pytest.approx(16 / each),
        "Postgres, processor": pytest.approx(2 * 4 / 60e-6),
        "Postgres, disk": pytest.approx(2 * 16_000 / 2),
        "Redis, one thread": pytest.approx(1 / 20e-6),
        "TLS at the edge": pytest.approx(8 / 200e-6),
    }
    assert found[0].name == "Postgres, disk"


def test_a_part_is_no_fuller_than_it_may_be() -> None:
    (postgres,) = (part for part in model.parts(known()) if part.name == "Postgres, processor")
    assert postgres.needs(23_900) == pytest.approx(23_900 * 60e-6 / 0.6)


def test_bench_is_read_as_it_is_written() -> None:
    page = (ROOT / "loadtests/bench/RESULTS.md").read_text("utf-8")
    (line,) = (line for line in page.splitlines() if line.startswith("| cold | ours | 64 |"))
    answers = figures.read(ROOT).bench[model.COLD]
    assert f"| {answers.rate:,.0f} |" in line
    assert f"| {answers.busy:.0%}," in line


def test_room_is_in_proportion_to_a_year() -> None:
    room = model.room(known())
    assert room is not None
    assert room.a_year == pytest.approx(3000 * 47_700_000)
    assert room.looked_up == pytest.approx((900 + 100 + 60) * 47_700_000)
    assert room.log_a_day == pytest.approx(4000 * 47_700_000 / 365)
    assert room.seconds_to_fill_redis == pytest.approx(2**30 / 600 / 23_900)


def test_page_has_the_figures() -> None:
    text = page(known())
    assert "| Postgres, processor | 60 µs | 0.026 cores | 2.4 cores |" in text
    assert "| 1. Postgres, disk | 16,000/s |" in text
    assert "**Ten times the hour to survive** (239,000/s)" in text


def test_what_was_not_measured_is_missing_and_not_invented() -> None:
    text = page(known(step=None, handshakes=None))
    assert f"Postgres and Redis: {MISSING}" in text
    assert f"TLS at the edge: {MISSING}" in text
    assert [part.name for part in model.parts(known(step=None, handshakes=None))] == ["lookup processes"]
    assert "No full game day has been run" in text


def test_figures_of_a_disturbed_machine_are_marked() -> None:
    assert "Beware" not in page(known())
    step = known().step
    assert step is not None
    runs = {name: msgspec.structs.replace(run, strangers=0.3) for name, run in step.runs.items()}
    assert "others took up to 30% of a core" in page(known(step=msgspec.structs.replace(step, runs=runs)))


# -- availability ----------------------------------------------------------------------------------------------


def test_faults_of_the_assumptions_are_each_named_once() -> None:
    names = [fault.name for fault in figures.read(ROOT).assumed.fault]
    assert len(names) == len(set(names))


def test_yearly_minutes_are_frequency_times_share_times_length() -> None:
    day = game_day(
        seen("postgres-killed", 30.0, lookups=6000, write_gap=9.0), seen("lookup-killed", 6.0, lookups=1200, failed=12)
    )
    found = {each.fault.name: each for each in model.away(known().assumed, day)}
    killed = found["postgres-killed"]
    assert killed.lookups == 0
    assert killed.changes == pytest.approx(4 * (30 + 9) / 60)
    killed = found["lookup-killed"]
    assert killed.lookups == pytest.approx(50 * 6 * 0.01 / 60)
    assert killed.changes == 0
    text = page(known(game_day=day))
    assert "| **together**, as far as measured |  |  |  |  | **0.1** | **2.6** |" in text
    assert "| **263** (99.95%) | **263** (99.95%) |" in text


def test_time_to_notice_counts_with_the_same_share() -> None:
    day = game_day(seen("both-gone", 100.0, lookups=100, failed=50))
    found = {each.fault.name: each for each in model.away(known().assumed, day)}
    assert found["both-gone"].lookups == pytest.approx(0.1 * (900 + 100) / 2 / 60)


def test_what_a_game_day_left_out_is_missing() -> None:
    skipped = msgspec.structs.replace(seen("clock-stepped", 0.0), skipped="no clock to set here")
    day = game_day(skipped, seen("storm", 5.0), seen("spike", 5.0, lookups=0, write_gap=None))
    found = {each.fault.name: each for each in model.away(known().assumed, day)}
    assert (found["clock-stepped"].seen, found["clock-stepped"].lookups) == (None, None)
    assert (found["spike"].lookups, found["spike"].changes) == (None, None)
    text = page(known(game_day=day))
    missing = text.partition("Missing in it, and in the sums: ")[2].partition("\n")[0]
    assert "clock-stepped" in missing
    assert "spike" not in missing
    assert "No lookup was asked during: spike." in text
    assert "No change was tried during: spike." in text
    assert "nobody has said how often they come: storm." in text


def test_a_game_days_figures_are_taken_over(tmp_path: Path) -> None:
    (tmp_path / GAME_DAY).parent.mkdir(parents=True)
    fault = {"name": "spike", "title": "…", "kept": True, "skipped": "", "seconds": 31.5, "lookups": 10, "failed": 1}
    fault |= {"longest_failure": 0.5, "write_gap": None}
    report = {"date": "today", "commit": "c", "kind": "full", "rate": 200.0, "faults": [fault]}
    (tmp_path / "report.json").write_text(json.dumps(report), "utf-8")
    take_over(tmp_path, tmp_path)
    kept = msgspec.json.decode((tmp_path / GAME_DAY).read_bytes(), type=GameDay)
    assert kept.faults == [seen("spike", 31.5, lookups=10, failed=1, write_gap=None)]
    (tmp_path / "report.json").write_text(json.dumps(report | {"kind": "short"}), "utf-8")
    with pytest.raises(CannotMeasure, match="short"):
        take_over(tmp_path, tmp_path)


def test_a_folder_without_a_game_day_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotMeasure):
        take_over(tmp_path, tmp_path)


def test_handshakes_are_measured() -> None:
    program("openssl")
    found = handshakes.measure(count=20)
    assert found.microseconds.keys() == handshakes.KEYS.keys()
    # Between what no processor can do and what any can; a rate would depend on who else is at work.
    assert all(10 < microseconds < 100_000 for microseconds in found.microseconds.values())
    assert found.microseconds["RSA 2048"] > found.microseconds["ECDSA P-256"]
