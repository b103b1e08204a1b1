"""Very many interleavings, tried by all cores with a bar to look at: `make proof`.

HOSO24_PROOF_EXAMPLES says how many, HOSO24_PROOF_STEPS how long each is. Exit status 0 if every one of them kept every
promise; otherwise 1, and the shortest that did not is printed.
"""

import multiprocessing
import os
import sys
import time
import traceback

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tests.lookup.test_coherence import EXAMPLES, STEPS, Coherence, try_out

AT_ONCE = 250
"""Interleavings in one piece of work."""
TOLD_EVERY = 5_000
"""Where there is no terminal to draw a bar on."""


def tried(count: int) -> str:
    """Try so many; empty if all kept their promises, otherwise what the shortest that did not looks like."""
    try:
        try_out(Coherence, count, shrink=True)
    except Exception as broken:
        notes = "\n".join(getattr(broken, "__notes__", ()))
        return f"{traceback.format_exc()}\n{notes}"
    return ""


def main() -> int:
    """Try EXAMPLES interleavings; see the module for the exit status."""
    pieces = [AT_ONCE] * (EXAMPLES // AT_ONCE) + [EXAMPLES % AT_ONCE] * (EXAMPLES % AT_ONCE > 0)
    cores = len(os.sched_getaffinity(0))
    began = time.monotonic()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with multiprocessing.get_context("spawn").Pool(cores) as pool, Progress(*columns) as progress:
        bar = progress.add_task("interleavings", total=EXAMPLES)
        for broken in pool.imap_unordered(tried, pieces):
            if broken:
                progress.stop()
                print(broken)
                return 1
            progress.advance(bar, min(AT_ONCE, EXAMPLES - progress.tasks[bar].completed))
            if not progress.console.is_terminal and progress.tasks[bar].completed % TOLD_EVERY == 0:
                print(f"{progress.tasks[bar].completed:,} kept every promise.", flush=True)
    minutes = (time.monotonic() - began) / 60
    print(
        f"{EXAMPLES:,} interleavings of up to {STEPS} steps kept every promise ({minutes:.0f} minutes, {cores} cores)."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
