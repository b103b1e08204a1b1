"""A fault in words: one line for each that is over, and a table of its promises at the end."""

from rich.markup import escape

from loadtests.gameday.day import Outcome
from loadtests.verdict import table


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
