"""A year of the whole country in steps: load, measure, write RESULTS.md, and go on to the next.

A step that is done is not done again, and a load that was cut off goes on where it was, as long as the folder is the
same. What does not fit on the disk with the reserve left free is not begun: that step ends where the disk does. Exit
status: 0, 1 if something measured is not as it has to be, 2 if nothing could be measured.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from loadtests.national import results
from loadtests.national.country import Country, NationalPlan
from loadtests.national.parts import Year
from loadtests.system.processes import OTHER_CORE, SERVER_CORE, CannotMeasure, leave_on_signals

STEPS = "1000000,10000000,47700000"
RESULTS = Path(__file__).with_name("RESULTS.md")
FOLDER = Path(tempfile.gettempdir()) / "hoso24-national"
GB = 10**9


def main() -> None:
    """Load, measure, print, write; see the module for the exit status."""
    options = read_options()
    leave_on_signals()
    began = time.monotonic()

    def say(text: str) -> None:
        passed = time.monotonic() - began
        print(f"[{passed // 60:4.0f}:{passed % 60:02.0f}] {text}", flush=True)

    try:
        check_machine(options)
        steps = Country(plan(options), say).go()
    except CannotMeasure as why:
        print(why, file=sys.stderr)
        sys.exit(2)
    print(results.text(steps))
    if faults := results.faults(steps):
        print("\n".join(faults), file=sys.stderr)
        sys.exit(1)


def check_machine(options: argparse.Namespace) -> None:
    """Raises CannotMeasure if something is missing here, and keeps this process off the lookup's core."""
    if options.seconds and shutil.which("wrk") is None:
        raise CannotMeasure("wrk not found: apt-get install wrk, or --seconds 0 for no load")
    if not hasattr(os, "sched_setaffinity") or not {SERVER_CORE, OTHER_CORE} <= os.sched_getaffinity(0):
        raise CannotMeasure("Two cores are needed, 0 and 1, and Linux to keep processes on them.")
    folder: Path = options.folder
    if folder.exists() and folder.stat().st_uid != os.geteuid():
        raise CannotMeasure(f"{folder} belongs to another account; name another with --folder.")


def plan(options: argparse.Namespace) -> NationalPlan:
    """What was asked for."""
    return NationalPlan(
        folder=options.folder.resolve(),
        steps=tuple(options.dossiers),
        year=Year(options.part),
        reserve=int(options.reserve * GB),
        seconds=options.seconds,
        results=options.results,
    )


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dossiers", type=_numbers, default=_numbers(STEPS), help=f"the steps, ascending ({STEPS})")
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"where everything is kept ({FOLDER})")
    parser.add_argument("--reserve", type=float, default=15.0, help="GB of the disk that stay free (15)")
    parser.add_argument("--part", type=int, default=100_000, help="dossiers in a part; as the folder has it (100000)")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a run of wrk; 0 for none (10)")
    parser.add_argument(
        "--results",
        type=Path,
        default=RESULTS,
        help="page to write, its figures beside it (RESULTS.md here)",
    )
    options = parser.parse_args(arguments)
    if options.part < 100 or any(number % options.part for number in options.dossiers):
        parser.error("--dossiers: each a multiple of --part, which is 100 at the least")
    if options.seconds and options.seconds < 1:
        parser.error("--seconds: at least 1, or 0")
    return options


def _numbers(text: str) -> list[int]:
    numbers = [int(number) for number in text.split(",")]
    if numbers != sorted(set(numbers)) or numbers[0] < 1:
        raise argparse.ArgumentTypeError("not ascending")
    return numbers


if __name__ == "__main__":
    main()
