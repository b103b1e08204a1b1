"""The year of the whole country: it loads what it says, once, goes on where it was, and measures what is there."""

import asyncio
import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from loadtests.national import cost, country, findings, measures, parts, results
from loadtests.national.__main__ import read_options
from loadtests.national.cost import Explained
from loadtests.national.country import Country, NationalPlan
from loadtests.national.findings import Cost, Loading, Relation, Step, Timing, WrkRun
from loadtests.national.parts import Parts, Year
from loadtests.system import computed_dossiers
from loadtests.system.installation import Installation
from loadtests.system.processes import CannotMeasure, end, started
from lookup.reading import store
from tests.conftest import KEY_SECRETS, SEAL_KEYS, Database
from tests.places import in_memory

ROOT = Path(__file__).parent.parent
YEAR = Year(size=6000, until="2026-11-25")
FEW = 1500
LINES = "SELECT coalesce(max(line), 0) FROM import_run"


def step(number: int, *, buffers: float = 6.0, **changes: Any) -> Step:
    """A step with that many dossiers, everything in it in proportion."""
    relation = Relation(number, 900 * number, 100 * number, {"dossier_pkey": 60 * number})
    found = Step(
        dossiers=number,
        events=4 * number,
        loading=Loading(number, number / 5000, 4000 * number),
        database_bytes=3000 * number,
        relations={"dossier": relation, "event": relation},
        cost=Cost(100, buffers, 5, 7, buffers - 3, 2.5, 0),
        from_memory=Timing(0.05, 0.1, 0.0),
        from_disk=Timing(0.5, 1.0, 16_384.0),
        runs={
            "cold, data in memory": WrkRun(64, 9000, 2.0, 5.0, 9.0, 0, {"lookup": 170, "postgres": 60, "redis": 20}, 0)
        },
        redis_bytes=600.0,
        conditions={"date": "today"},
    )
    return msgspec.structs.replace(found, **changes)


# -- before anything is loaded ---------------------------------------------------------------------------------


def test_impossible_options_are_refused() -> None:
    for arguments in (["--dossiers", "150000"], ["--dossiers", "200000,100000"], ["--seconds", "0.5"]):
        with pytest.raises(SystemExit):
            read_options(arguments)


# -- what is written -------------------------------------------------------------------------------------------


def test_figures_are_read_as_they_were_written(tmp_path: Path) -> None:
    steps = [step(1000), step(2000)]
    results.write(tmp_path / "RESULTS.md", tmp_path / "measured.json", steps)
    assert findings.read(tmp_path / "measured.json") == steps
    page = (tmp_path / "RESULTS.md").read_text("utf-8")
    assert page == results.text(steps)
    assert "| dossiers | 1,000 | 2,000 |" in page
    assert "| **a cold lookup**: buffers touched, mean | 6.00 | 6.00 |" in page
    assert "| **cold, data in memory**: lookups/s | 4,500 | 4,500 |" in page


def test_page_is_the_one_made_of_the_kept_figures() -> None:
    kept = ROOT / "loadtests" / "national"
    assert (kept / "RESULTS.md").read_text("utf-8") == results.text(findings.read(kept / "measured.json"))


def test_a_lookup_that_grew_too_dear_is_a_fault() -> None:
    assert results.faults([step(1000), step(10_000, buffers=7.8)]) == []
    (fault,) = results.faults([step(1000), step(10_000, buffers=7.9)])
    assert "1.32 times" in fault
    assert fault in results.text([step(1000), step(10_000, buffers=7.9)])


def test_errors_and_scans_of_whole_partitions_are_faults() -> None:
    run = msgspec.structs.replace(step(1000).runs["cold, data in memory"], errors=3)
    scans = msgspec.structs.replace(step(1000).cost, sequential=2)
    faults = results.faults([step(1000, runs={"cold": run}, cost=scans)])
    assert [fault.partition(": ")[2] for fault in faults] == ["2 statements read a whole partition.", "3 errors, cold."]


# -- on a database ---------------------------------------------------------------------------------------------


@pytest.fixture
async def system(database: Database, redis_url: str, tmp_path: Path) -> Installation:
    """The tests' own servers, as a system with nothing running in it."""
    roles = {role: database.url(f"hoso24_{role}") for role in ("owner", "writer", "relay", "reader")}
    admin = database.admin_url.rpartition("/")[0] + f"/{database.name}"
    environ = {
        "HOSO24_PG_WRITER_URL": roles["writer"],
        "HOSO24_LOOKUP_KEY_SECRETS": KEY_SECRETS,
        "HOSO24_SEAL_KEYS": SEAL_KEYS,
    }
    return Installation(tmp_path, os.getpid(), "", {**roles, "admin": admin}, redis_url, environ)


@pytest.fixture
async def filled(system: Installation, owner: Any, monkeypatch: pytest.MonkeyPatch) -> Installation:
    """With FEW dossiers, whose codes can be computed."""
    monkeypatch.setattr(computed_dossiers, "SPARE", 0)
    await computed_dossiers.write(owner, FEW)
    return system


async def in_thread(work: Callable[[], Any]) -> Any:
    """What asks the database by itself cannot do so inside of a test's own loop."""
    return await asyncio.to_thread(work)


async def test_buffers_of_the_readers_own_statement(filled: Installation) -> None:
    codes = [computed_dossiers.code(n) for n in range(0, FEW, 15)]
    singly = await in_thread(lambda: cost.explained(filled, store.DOSSIERS, codes))
    batches = await in_thread(lambda: cost.explained(filled, store.DOSSIERS, codes, batch=cost.BATCH))
    assert (len(singly), len(batches)) == (100, 2)
    found = cost.cost(singly, batches, len(codes))
    # An index of one or two pages' depth and the row itself; the rest of the statement comes on top.
    assert 2 <= found.of_dossier <= 4
    assert found.least >= found.of_dossier
    assert found.in_batch == pytest.approx(found.of_dossier, rel=0.2)
    assert found.sequential == 0
    assert 0 < cost.timing(singly).median <= cost.timing(singly).p99


async def test_a_scan_of_a_whole_partition_is_seen(filled: Installation) -> None:
    scanning = store.DOSSIERS.replace("dossier.code = wanted.code", "dossier.code || '' = wanted.code")
    assert scanning != store.DOSSIERS
    (seen,) = await in_thread(lambda: cost.explained(filled, scanning, [computed_dossiers.code(1)]))
    assert seen.sequential


async def test_a_statement_that_reads_no_dossier_is_no_measurement(filled: Installation) -> None:
    with pytest.raises(CannotMeasure):
        await in_thread(lambda: cost.explained(filled, "SELECT unnest($1::text[])", [computed_dossiers.code(1)]))


def test_cost_is_a_mean() -> None:
    singly = [Explained(6, 3, False, 0.1, 0), Explained(8, 4, False, 0.3, 8192)]
    found = cost.cost(singly, [Explained(100, 50, True, 1.0, 0)], 20)
    assert (found.mean, found.least, found.most, found.of_dossier, found.in_batch) == (7, 6, 8, 3.5, 2.5)
    assert found.sequential == 1
    assert cost.timing(singly).disk_bytes == 4096


async def test_sizes_are_of_what_is_there(filled: Installation, owner: Any) -> None:
    relations = await in_thread(lambda: measures.counted(filled))
    assert relations["dossier"].rows == FEW
    assert relations["event"].rows == 0
    total = await owner.fetchval(
        "SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('dossier') WHERE isleaf"
    )
    assert relations["dossier"].total == total
    assert list(relations["dossier"].indexes) == ["dossier_pkey"]
    assert set(relations["event"].indexes) == {
        "event_in_commit_order", "event_bulk_in_commit_order", "event_by_age", "event_pkey",
        "source_event_is_recorded_once", "event_of_a_day", "event_beyond_a_rule",
    }  # fmt: skip


# -- parts -----------------------------------------------------------------------------------------------------


async def test_parts_go_on_where_they_were_cut_off_and_do_not_meet(
    system: Installation, owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.contextmanager
    def cut_off(command: Sequence[str], **how: Any) -> Iterator["subprocess.Popen[str]"]:
        with started(command, **how) as process:
            while "import" in command and not system.ask("owner", lambda owner: owner.fetchval(LINES)):
                assert process.poll() is None
            if "import" in command:
                raise KeyboardInterrupt
            yield process

    def interrupted() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(parts, "started", cut_off)
            with pytest.raises(KeyboardInterrupt):
                list(Parts(system, YEAR).load(0, 2))

    await in_thread(interrupted)
    run = await owner.fetchrow("SELECT line, finished_at FROM import_run")
    assert 0 < run["line"] < YEAR.size
    assert run["finished_at"] is None
    assert await in_thread(Parts(system, YEAR).done) == 0
    assert await in_thread(lambda: list(Parts(system, YEAR).load(0, 2))) == [1, 2]
    # Not begun anew: what was in before was passed over, and not found "already here".
    assert await owner.fetchval("SELECT sum(already_here) FROM import_run") == 0
    assert await owner.fetchval("SELECT count(*) FROM dossier") == 2 * YEAR.size
    done = Parts(system, YEAR)
    assert await in_thread(done.done) == 2
    assert await in_thread(lambda: done.seconds(0, 2)) > await in_thread(lambda: done.seconds(1, 2)) > 0
    assert list((system.folder / "parts").iterdir()) == []
    codes = done.codes(2, 30)
    assert len(set(codes)) == 30
    assert await owner.fetchval("SELECT count(*) FROM dossier WHERE code = ANY ($1)", codes) == 30


async def test_a_part_whose_lines_were_not_all_taken_is_no_measurement(system: Installation) -> None:
    begun = Parts(system, YEAR)
    (system.folder / "parts" / "part-0000.ndjson").write_text("{}\n", "utf-8")  # it is there, so it is not made
    with pytest.raises(CannotMeasure, match="Not every line"):
        await in_thread(lambda: list(begun.load(0, 1)))


# -- all of it -------------------------------------------------------------------------------------------------


def said_by(command: list[str]) -> str:
    """What it prints. It is asked to stop if it takes too long, so that it stops all that it has started."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        said, _ = process.communicate(timeout=240)
    finally:
        end(process)
    assert process.returncode == 0, said
    return said


@pytest.mark.servers
def test_whole_run_without_load() -> None:
    with tempfile.TemporaryDirectory(prefix="hoso24-national-test-", dir=in_memory()) as name:
        folder = Path(name)
        page = folder / "RESULTS.md"
        command = [sys.executable, "-m", "loadtests.national", "--dossiers", "400", "--part", "400", "--seconds", "0"]
        command += ["--reserve", "0.1", "--folder", str(folder / "data"), "--results", str(page)]
        first = said_by(command)
        assert "Vacuum after the load" in first
        (found,) = findings.read(folder / "measured.json")
        assert (found.dossiers, found.loading.added) == (400, 400)
        assert found.loading.seconds > 0
        assert found.relations["event"].rows == found.events > 2 * 400
        assert found.loading.wal_bytes > 400 * 1000
        assert found.cost.sequential == 0
        assert page.read_text("utf-8") == results.text([found])
        assert "400 dossiers: done before." in said_by(command)
        assert findings.read(folder / "measured.json") == [found]


def test_disk_is_filled_no_further_than_the_reserve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(country, "data_directory", lambda _: tmp_path)
    begun: list[int] = []

    def loaded(first: int, last: int) -> Iterator[int]:
        for number in range(first, last):
            begun.append(number)
            yield number + 1

    def load(*left: int) -> int:
        begun.clear()
        disk = iter(left)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=next(disk)))
        made = Country(NationalPlan(tmp_path, (400,), Year(100), 10**9, 0.0, tmp_path / "RESULTS.md"), lambda _: None)
        made._memory.pending = country.Pending(0, 0)
        monkeypatch.setattr(measures, "log", lambda _: 1)
        parts: Any = SimpleNamespace(done=lambda: 0, load=loaded)
        nothing: Any = None
        return made._load(nothing, parts, 4)

    enough, little = 10**9 + country.MARGIN, 10**9 + country.MARGIN - 1
    assert (load(enough, enough, little), begun) == (2, [0, 1])
    assert (load(little), begun) == (0, [])


def test_a_folder_keeps_to_its_parts(tmp_path: Path) -> None:
    plan = NationalPlan(tmp_path, (200,), Year(200), 0, 0.0, tmp_path / "RESULTS.md")
    memory = {"year": dataclasses.asdict(Year(100)), "besides": 0}
    (tmp_path / "national.json").write_text(json.dumps(memory), "utf-8")
    with pytest.raises(CannotMeasure, match="parts of 100"):
        Country(plan, lambda _: None).go()
