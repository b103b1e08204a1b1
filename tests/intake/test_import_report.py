"""What an import says at its end."""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from intake.bulk import command
from intake.bulk.dialects import REASONS
from intake.bulk.loader import ImportTally


def report(**tally: Any) -> list[list[str]]:
    """The words of each line of the report of a file that took two seconds."""
    screen = io.StringIO()
    done: Any = SimpleNamespace(tally=ImportTally(**tally), reject_path="x.rejected.ndjson", key_path="x.keys.ndjson")
    command._report(Console(file=screen, width=200), Path("x.ndjson"), done, 2.0)
    cells = (line.replace("┃", "│").split("│") for line in screen.getvalue().splitlines())
    return [[cell.strip() for cell in line if cell.strip()] for line in cells]


def test_report_counts_every_line_once_and_names_both_files() -> None:
    first, second = sorted(REASONS)[:2]
    lines = report(
        line=1_014,
        taken=1_000,
        appended=4,
        already_here=2,
        rejected=5,
        reasons={first: 3, second: 2},
        irregular=7,
        not_raised=1,
    )
    assert ["x.ndjson: 1,014 lines in 2.0 s, 507 lines/s"] in lines
    for row in (
        ["taken", "1,000"],
        ["appended to stored dossiers", "4"],
        ["already here", "2"],
        [f"refused: {REASONS[first]}", "3"],
        [f"refused: {REASONS[second]}", "2"],
        ["blank", "3"],
        ["taken this time, with an irregular history", "7"],
        ["taken this time, numbered above 999,999", "1"],
        ["Refused lines, with number and reason: x.rejected.ndjson"],
        ["Lookup keys, for the holders of the dossiers only: x.keys.ndjson"],
    ):
        assert row in lines


@pytest.mark.parametrize("absent", ["blank", "taken this time", "Refused lines", "refused:"])
def test_report_of_a_clean_file_says_no_more(absent: str) -> None:
    lines = report(line=10, taken=10)
    assert not [line for line in lines if line and line[0].startswith(absent)]
    assert ["Lookup keys, for the holders of the dossiers only: x.keys.ndjson"] in lines
