"""The benchmark's own words and arithmetic: what it has copied from the service is the same, and it judges right."""

from pathlib import Path
from typing import Any

import asyncpg
import pytest

from loadtests.bench import dossiers, load, results
from loadtests.bench.cases import CASES
from loadtests.bench.load import Figures
from loadtests.bench.peers.answer import STATUSES, answer
from loadtests.bench.rig import Outcome, Run, Series, ratio
from loadtests.bench.side_by_side import read_options
from loadtests.bench.usage import Usage
from lookup import code as codes
from lookup.status import Status
from tests.conftest import Database

QUIET = Usage(0.9, 0.5, 0.0)


def run(rate: float, *, refused: int = 0, strangers: float = 0.0) -> Run:
    return Run(Figures(int(rate), 1.0, 1.0, 2.0, 3.0, refused, 0, 0), Usage(0.9, 0.5, strangers))


def series(server: str, *rates: float) -> Series:
    return Series("hot", server, 64, [run(rate) for rate in rates])


def test_peers_know_the_same_statuses() -> None:
    assert {status.value: (status.slug, status.final, status.completion) for status in Status} == STATUSES


@pytest.mark.parametrize("n", [0, 9_999, 10_000, 250_000, 999_999, dossiers.MOST - 1])
def test_computed_codes_are_canonical(n: int) -> None:
    code = codes.parse(dossiers.code(n))
    assert (code.text, code.scheme) == (dossiers.code(n), codes.Scheme.B)


async def test_rows_written_have_the_computed_codes(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dossiers, "SPARE", 20)
    owner: Any = await asyncpg.connect(database.owner_url)
    try:
        await dossiers.write(owner, 12_000)
        written = {row["code"] for row in await owner.fetch("SELECT code FROM dossier")}
        one = await owner.fetchrow(
            "SELECT code, version, status, due_at FROM dossier WHERE code = $1", dossiers.code(5)
        )
    finally:
        await owner.close()
    assert written == {dossiers.code(n) for n in range(12_020)}
    assert b'"status":"supplement_required","status_number":5,' in answer(one)


def test_ratio_is_of_medians() -> None:
    judged = ratio({"ours": series("ours", 10, 400, 300), "peer": series("peer", 100, 150, 900)}, "peer", 2.0)
    assert (judged.figure, judged.goal, judged.reached) == ("2.00", "at least 2", True)


def test_ratio_below_its_goal_is_short() -> None:
    judged = ratio({"ours": series("ours", 199), "peer": series("peer", 100)}, "peer", 2.0)
    assert judged.reached is False


def test_errors_of_a_run_are_counted_and_written(tmp_path: Path) -> None:
    outcome = Outcome([Series("hot", "ours", 64, [run(100), run(100, refused=3)])], [])
    assert outcome.errors == 3
    results.write(tmp_path / "results.md", [outcome], {"date": "today"})
    assert "| 3 not 2xx |" in (tmp_path / "results.md").read_text("utf-8")


def test_disturbed_run_is_marked() -> None:
    assert Series("hot", "ours", 64, [run(100), run(100, strangers=0.2)]).disturbed == 1


def test_every_script_is_there() -> None:
    assert {path.stem for path in load.SCRIPTS.glob("*.lua")} >= {"constant", "random", "once", "report", "codes"}


@pytest.mark.parametrize("arguments", [["--cases", "warm,lukewarm"], ["--dossiers", "4000000"], ["--repeats", "0"]])
def test_impossible_options_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        read_options(arguments)


def test_all_cases_are_run_unless_some_are_named() -> None:
    assert read_options([]).cases == list(CASES)
    assert read_options(["--cases", "cold"]).cases == ["cold"]
