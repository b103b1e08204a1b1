"""wrk: one thread on the second core, bounded in time, its figures as the script in `wrk/report.lua` prints them."""

import json
import math
import os
import signal
import subprocess
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from loadtests.system.processes import OTHER_CORE, CannotMeasure, started

DOSSIERS = "/api/v1/dossiers/"
SCRIPTS = Path(__file__).with_name("wrk")
TIMEOUT_SECONDS = 30
"""An answer that takes longer is an error, and in no percentile: hence far more than any answer should take."""
PATIENCE = 30.0
"""How much longer than it was told to wrk may take."""


@dataclass(frozen=True)
class WrkLoad:
    """What is asked for, on how many connections and for how long at the most.

    `constant` asks for the first of `codes` all the time, `random` draws from them, `once` asks for each once and
    ends when all are answered.
    """

    script: Literal["constant", "random", "once"]
    codes: range
    connections: int
    seconds: float
    seed: int = 1
    path: str = DOSSIERS
    """What stands before a code in a request."""
    address: str = ""
    """The whole path that `constant` asks for, in the place of the first code's."""
    headers: tuple[str, ...] = ()
    """Headers of each request, besides Host and the client's address."""
    missing: bool = False
    """Whether each answer has to be a 404."""

    def turn(self, seed: int) -> "WrkLoad":
        """The same load in another order."""
        return replace(self, seed=seed)


@dataclass(frozen=True)
class Figures:
    """What one run of wrk counted and timed; latencies in milliseconds, corrected by wrk for what it could not send."""

    answers: int
    seconds: float
    median: float
    p99: float
    longest: float
    refused: int
    """Answers with a status above 399. wrk does not tell redirects from answers; the codes asked for have none."""
    broken: int
    """Connections not made, reads and writes that failed."""
    late: int
    """Answers that took longer than wrk waits for."""
    expected: int = 0
    """Answers with a status above 399 that should have one."""

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds

    @property
    def errors(self) -> int:
        """Whatever went wrong."""
        return abs(self.refused - self.expected) + self.broken + self.late

    @property
    def trouble(self) -> str:
        """The errors by kind; nothing where there are none."""
        kinds = {
            "not 2xx": abs(self.refused - self.expected),
            "broken": self.broken,
            f"over {TIMEOUT_SECONDS} s": self.late,
        }
        return ", ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count)


def put(load: WrkLoad, url: str, code: str, folder: Path, *, listed: Path | None = None) -> Figures:
    """Put the load on the server at `url`; `code` is the first of the load's codes.

    `listed`: a file with one code a line, as they stand in URLs; the load's numbers are then lines of it, from 0 on.
    """
    seconds = max(1, math.ceil(load.seconds))
    argv = ["wrk", "--threads", "1", "--connections", str(load.connections), "--duration", f"{seconds}s"]
    argv += ["--timeout", f"{TIMEOUT_SECONDS}s", "--script", str(SCRIPTS / f"{load.script}.lua")]
    argv += [part for header in load.headers for part in ("--header", header)]
    argv += [url + (load.address or load.path + code), "--"]
    argv += [str(number) for number in (load.codes.start, len(load.codes), load.seed, load.connections)]
    log = folder / "wrk.log"
    environ = {"LUA_PATH": f"{SCRIPTS}/?.lua"} | ({} if listed is None else {"WRK_CODES": str(listed)})
    with started(argv, core=OTHER_CORE, log=log, environ=environ, output=subprocess.PIPE) as wrk:
        # Reading ends when wrk does: at the latest when it is killed here.
        overdue = threading.Timer(seconds + PATIENCE, os.kill, (wrk.pid, signal.SIGKILL))
        overdue.start()
        try:
            assert wrk.stdout is not None
            for line in wrk.stdout:
                if line.startswith("EXHAUSTED"):
                    wrk.send_signal(signal.SIGINT)  # it would sleep until its time is over
                elif line.startswith("REPORT "):
                    return _figures(json.loads(line.removeprefix("REPORT ")), load)
        finally:
            overdue.cancel()
    raise CannotMeasure(f"wrk gave no figures; its log: {log.read_text('utf-8', 'replace').strip()[-500:]}")


def _figures(report: dict[str, int], load: WrkLoad) -> Figures:
    return Figures(
        answers=report["answers"],
        seconds=report["microseconds"] / 1e6,
        median=report["median"] / 1000,
        p99=report["p99"] / 1000,
        longest=report["longest"] / 1000,
        refused=report["status"],
        broken=report["connect"] + report["read"] + report["write"],
        late=report["timeout"],
        expected=report["answers"] if load.missing else 0,
    )
