"""Ours beside peers that do the same work, in one go on the same servers: `make bench`.

Starts a system of its own in a temporary directory and ends everything again, also after a Ctrl-C or a failure. The
server under test has core 0 to itself; wrk, Postgres and Redis share core 1. Exit status: 0, 1 if an answer in a
measured run was an error, 2 if nothing could be measured.
"""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from loadtests.bench import results
from loadtests.bench.cases import CASES
from loadtests.bench.conditions import conditions
from loadtests.bench.rig import CaseOutcome, Rig
from loadtests.bench.usage import Patience
from loadtests.system.computed_dossiers import MOST
from loadtests.system.installation import furnished
from loadtests.system.processes import OTHER_CORE, SERVER_CORE, CannotMeasure, leave_on_signals

RESULTS = Path(__file__).with_name("RESULTS.md")
FEWEST = 1000


def main() -> None:
    """Measure, print, write; see the module for the exit status."""
    options = read_options()
    leave_on_signals()
    try:
        check_machine()
        outcomes = measure(options)
    except CannotMeasure as why:
        print(why, file=sys.stderr)
        sys.exit(2)
    if errors := sum(outcome.errors for outcome in outcomes):
        print(f"{errors:,} answers of the measured runs were errors.", file=sys.stderr)
        sys.exit(1)


def measure(options: argparse.Namespace) -> list[CaseOutcome]:
    """Run the cases and hand the tables out."""
    began = time.monotonic()

    def say(text: str) -> None:
        passed = time.monotonic() - began
        print(f"[{passed // 60:3.0f}:{passed % 60:02.0f}] {text}", flush=True)

    say("Starting a system of the bench's own …")
    with furnished(options.dossiers, say) as system:
        patience = Patience(60 * options.patience)
        rig = Rig(system, options.dossiers, options.seconds, options.repeats, patience, say)
        cases = {name: CASES[name] for name in options.cases}
        say(f"Measuring takes about {minutes(sum(case.seconds(rig) for case in cases.values()))}.")
        outcomes: list[CaseOutcome] = []
        sizes = f"{options.repeats} of each, {options.seconds:g} s each; {options.dossiers:,} dossiers"
        for count, (name, case) in enumerate(cases.items(), 1):
            say(f"{name}: {case.title} (about {minutes(case.seconds(rig))})")
            outcomes.append(case.measure(rig))
            # After each, so that one that cannot be measured does not take with it what was.
            written = conditions(system, outcomes, f"{sizes}; cases {', '.join(list(cases)[:count])}")
            results.write(options.results, outcomes, written)
    results.show(outcomes)
    say(f"Written to {os.path.relpath(options.results)}.")
    return outcomes


def check_machine() -> None:
    """Raises CannotMeasure if something is missing here, and keeps this process off the server's core."""
    missing = [name for name in ("wrk", "nginx") if shutil.which(name) is None]
    if missing:
        raise CannotMeasure(f"{' and '.join(missing)} not found: apt-get install wrk nginx-light")
    missing = [name for name in ("fastapi", "uvicorn", "httptools") if find_spec(name) is None]
    if missing:
        raise CannotMeasure(f"The peers need {', '.join(missing)}: pip install -r requirements-bench.lock")
    if not hasattr(os, "sched_setaffinity") or not {SERVER_CORE, OTHER_CORE} <= os.sched_getaffinity(0):
        raise CannotMeasure("Two cores are needed, 0 and 1, and Linux to keep processes on them.")
    os.sched_setaffinity(0, {OTHER_CORE})


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=_cases, default=list(CASES), help=f"of {','.join(CASES)} (all)")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a run (10)")
    parser.add_argument("--dossiers", type=int, default=1_000_000, help="in the database (1000000)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each server (3)")
    parser.add_argument("--patience", type=float, default=10.0, help="minutes to wait for others on the machine (10)")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="the file that is written (RESULTS.md beside this)"
    )
    options = parser.parse_args(arguments)
    if not FEWEST <= options.dossiers <= MOST:
        parser.error(f"--dossiers: between {FEWEST:,} and {MOST:,}")
    if options.seconds < 1 or options.repeats < 1:
        parser.error("--seconds and --repeats: at least 1")
    return options


def _cases(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(CASES):
        raise argparse.ArgumentTypeError(f"there is no case {', '.join(sorted(unknown))}")
    return names


def minutes(seconds: float) -> str:
    """A length of time, said as roughly as it is known."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} minutes"


if __name__ == "__main__":
    main()
