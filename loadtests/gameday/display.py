"""What is shown of a day meanwhile: a line that is drawn anew, and one that stays for each fault that is over."""

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from loadtests.gameday.day import Outcome, Played
from loadtests.verdict import table

COLUMNS = (
    TextColumn("[bold]{task.description}"),
    BarColumn(bar_width=20),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
    TextColumn("{task.fields[doing]} [dim]{task.fields[seen]}"),
)


class Display:
    """Shows how far the day is."""

    def __init__(self, progress: Progress, faults: int) -> None:
        self._progress = progress
        self._task: TaskID = progress.add_task("settling", total=faults, doing="", seen="")
        self._told = 0

    def __call__(self, played: Played) -> None:
        """Draw it anew."""
        for outcome in played.outcomes[self._told :]:
            self._progress.console.print(line(outcome), highlight=False)
        self._told = len(played.outcomes)
        self._progress.update(
            self._task,
            completed=self._told,
            description=escape(played.fault.title if played.fault else "before the first fault"),
            doing=escape(played.day.doing),
            seen=escape(played.seen_now),
        )


@contextlib.contextmanager
def displayed(console: Console, faults: int) -> Iterator[Display]:
    """A display for as long as the block runs."""
    with Progress(*COLUMNS, console=console) as progress:
        yield Display(progress, faults)


def line(outcome: Outcome) -> str:
    """One fault in one line, with the promises that were not kept."""
    word = "[yellow]skipped" if outcome.skipped else "[green]kept" if outcome.kept else "[red]NOT KEPT"
    broken = "; ".join(f"{row.sli}: {row.figure}, {row.budget} was due" for row in outcome.rows if not row.kept)
    why = outcome.skipped or broken
    seconds = f"{outcome.ended - outcome.began:.0f} s"
    return f"{word}[/] {escape(outcome.fault.title)} ({seconds}){f': {escape(why)}' if why else ''}"


def spelled_out(outcome: Outcome) -> str:
    """Every promise of a fault with what was seen of it, as a table of text."""
    head = f"{outcome.fault.title}. {outcome.fault.must_hold}"
    return f"{head}\n{table(outcome.rows) if outcome.rows else f'skipped: {outcome.skipped}'}\n"
