"""What an import says at its end."""

import asyncio
import io
import itertools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest
from rich.console import Console
from rich.progress import Progress

from intake.bulk import command
from intake.bulk.loader import ImportTally
from intake.bulk.source import Unreadable
from intake.dialects import REASONS


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
        ["outcome", "lines"],
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


def imported(
    monkeypatch: pytest.MonkeyPatch, path: Path, work: Callable[[Callable[[ImportTally], None]], None]
) -> tuple[list[dict[str, Any]], ImportTally | BaseException]:
    """What the bar was told, and what the command gave or raised. Each look at the clock is two seconds later."""
    told: list[dict[str, Any]] = []

    class Bar(Progress):
        def update(self, *_: Any, **shown: Any) -> None:
            told.append(shown)

    async def stand_in(_: Path, __: Any, show: Callable[[ImportTally], None]) -> Any:
        work(show)
        return SimpleNamespace(tally=ImportTally(line=7), reject_path="-", key_path="-")

    path.write_text("{}\n")
    clock = itertools.count(100, 2)
    monkeypatch.setattr(command, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(command, "Progress", Bar)
    monkeypatch.setattr(command, "_import", stand_in)
    monkeypatch.setattr(command, "read", lambda *_: None)
    try:
        return told, command.run_import(path, {})
    except BaseException as error:
        return told, error


def test_bar_shows_bytes_read_lines_and_lines_a_second_since_it_began_or_went_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(show: Callable[[ImportTally], None]) -> None:
        show(ImportTally(line=1_000, read=10))  # of an earlier run
        show(ImportTally(line=9_000, read=90))

    told, tally = imported(monkeypatch, tmp_path / "x.ndjson", work)
    assert told == [
        {"completed": 10, "description": "1,000 lines, 0/s"},
        {"completed": 90, "description": "9,000 lines, 2,000/s"},
    ]
    assert tally == ImportTally(line=7)
    printed = capsys.readouterr().err
    assert "x.ndjson: 7 lines in 6.0 s, 1 lines/s" in printed
    assert printed.startswith("x.ndjson ")  # the bar, of which no terminal saw a change
    assert printed.splitlines()[0].count("x.ndjson") == 1


AWAY = "The import lost its connection to PostgreSQL: "


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (KeyboardInterrupt(), "Interrupted. Run the same command again to go on from here."),
        (asyncio.CancelledError(), "Interrupted. Run the same command again to go on from here."),
        (Unreadable("line 3 has no end"), "x.ndjson: line 3 has no end"),
        (ConnectionRefusedError(111, "refused"), AWAY),
        (asyncpg.DeadlockDetectedError("deadlock"), AWAY),
        (asyncpg.UndefinedTableError("no such table"), None),
        (asyncpg.InsufficientPrivilegeError("not yours"), None),
        (OSError(28, "No space left on device", "x.keys.ndjson"), None),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, BaseException) else "",
)
def test_import_that_can_go_on_says_so_and_any_other_failure_is_its_own(
    error: BaseException, sentence: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def work(_: Callable[[ImportTally], None]) -> None:
        raise error

    _, raised = imported(monkeypatch, tmp_path / "x.ndjson", work)
    if sentence is None:
        assert raised is error
        return
    assert isinstance(raised, command.GoesOn)
    assert raised.exit_code == 2
    assert sentence in raised.message
    assert raised.message.endswith(" again to go on from here.") or isinstance(error, Unreadable)
