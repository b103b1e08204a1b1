"""Our own generators of load, seen from a case: each a process on the second core, bounded in time.

A generator prints BEGUN when its load begins and REPORT with one line of JSON when it is over.
"""

import dataclasses
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loadtests.bench.arrivals import Flood, Report
from loadtests.system.processes import OTHER_CORE, ROOT, CannotMeasure, started

PATIENCE = 60.0
"""How much longer than its load may last a generator may take, with its start."""


@contextmanager
def flooded(flood: Flood, folder: Path) -> Iterator[Callable[[], Report]]:
    """The flood, from its begin to the end of the block; what is yielded waits for its report."""
    with running("flood", dataclasses.asdict(flood), folder, seconds=flood.seconds + flood.patience) as report:
        yield lambda: Report(**report())


@contextmanager
def running(
    name: str, plan: Mapping[str, Any], folder: Path, *, seconds: float, environ: Mapping[str, str] | None = None
) -> Iterator[Callable[[], Any]]:
    """The generator of this name once its load has begun; what is yielded waits for its report.

    Raises CannotMeasure when it has none.
    """
    argv = [sys.executable, "-m", f"loadtests.bench.{name}", json.dumps(plan)]
    log = folder / f"{name}.log"
    with started(argv, core=OTHER_CORE, cwd=ROOT, log=log, environ=environ, output=subprocess.PIPE) as process:
        # Reading ends when the generator does: at the latest when it is killed here.
        overdue = threading.Timer(seconds + PATIENCE, process.kill)
        overdue.start()

        def said(word: str) -> str:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith(word):
                    return line.removeprefix(word)
            raise CannotMeasure(
                f"{name} did not say {word}; its log: {log.read_text('utf-8', 'replace').strip()[-500:]}"
            )

        try:
            said("BEGUN")
            yield lambda: json.loads(said("REPORT"))
        finally:
            overdue.cancel()
