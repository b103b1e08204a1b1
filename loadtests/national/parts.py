"""`hoso24 sample` and `hoso24 import`, in parts: each made, imported and removed, and none of them twice.

A part's file is the same whenever it is made, and the import knows how far it came with a file, so whatever is cut off
goes on where it was. Every part covers the whole year, so its rows fall all over the indexes: the worst order there
is. A year that comes in day by day touches fewer pages, and writes less log.
"""

import json
import random
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from loadtests.system.installation import Installation
from loadtests.system.processes import HOSO24, CannotMeasure, started

FIRST = 100_001
"""Above the numbers of the sample dossiers that `hoso24 up` brings."""
NUMBERS = 0.05
"""How far apart two parts' numbers begin, as a share of a part: more than any agency of the sample gives out in one."""
DAYS = 365
KEPT = 0.1
"""Share of the codes that is kept for asking: a random tenth of each part."""

RUNS = """
SELECT name, taken, already_here, rejected, extract(epoch FROM finished_at - started_at)::float8 AS seconds
  FROM import_run
 WHERE name LIKE 'part-%'
"""


@dataclass(frozen=True)
class Year:
    """Which dossiers: `size` in a part, the last handed in on `until` (ISO). The same year has the same dossiers."""

    size: int
    until: str = field(default_factory=lambda: f"{datetime.now(UTC).date() - timedelta(days=1)}")
    seed: int = 24


class Parts:
    """The parts of one year, in one system."""

    def __init__(self, system: Installation, year: Year) -> None:
        self._house = system
        self._year = year
        self._files = system.folder / "parts"
        self._codes = system.folder / "codes"
        for folder in (self._files, self._codes):
            folder.mkdir(exist_ok=True)

    def done(self) -> int:
        """How many parts are wholly in, counted from the first."""
        runs = self._runs()
        number = 0
        while self._name(number) in runs and runs[self._name(number)]["seconds"] is not None:
            self._keep(number)
            number += 1
        return number

    def seconds(self, first: int, last: int) -> float:
        """How long the imports of the parts from `first` up to but not `last` took, from the first begin of each."""
        runs = self._runs()
        return float(sum(runs[self._name(number)]["seconds"] for number in range(first, last)))

    def codes(self, parts: int, count: int, seed: int = 1) -> list[str]:
        """That many different codes of the first `parts` parts, drawn at random; fewer if fewer were kept."""
        kept: list[str] = []
        for number in range(parts):
            kept += self._list(number).read_text("utf-8").split()
        return random.Random(seed).sample(kept, min(count, len(kept)))

    def load(self, first: int, last: int) -> Iterator[int]:
        """Bring in the parts from `first` up to but not `last`; yields the number of parts after each.

        The next part is made while one comes in. Raises CannotMeasure if a part cannot be made or one of its lines was
        not taken.
        """
        if first >= last:
            return
        with ExitStack() as undo:
            making = undo.enter_context(self._making(first))
            for number in range(first, last):
                self._made(number, making)
                if number + 1 < last:
                    making = undo.enter_context(self._making(number + 1))
                self._import(number)
                self._keep(number)
                yield number + 1

    @contextmanager
    def _making(self, number: int) -> Iterator["subprocess.Popen[str] | None"]:
        """The process that writes the part's file; None if it is there already."""
        if self._file(number).exists():
            yield None
            return
        command = [*HOSO24, "sample", "--n", str(self._year.size), "--seed", str(self._year.seed + number)]
        command += ["--first", str(FIRST + number * max(1, int(NUMBERS * self._year.size)))]
        command += ["--days", str(DAYS), "--until", self._year.until, "--output", str(self._unfinished(number))]
        with self._started(command) as process:
            yield process

    def _made(self, number: int, making: "subprocess.Popen[str] | None") -> None:
        if making is None:
            return
        if making.wait() != 0:
            raise CannotMeasure(f"hoso24 sample failed; see {self._log}.")
        self._unfinished(number).rename(self._file(number))

    def _import(self, number: int) -> None:
        with self._started([*HOSO24, "import", str(self._file(number))]) as process:
            process.wait()
        run = self._runs().get(self._name(number))
        if run is None or run["seconds"] is None:
            raise CannotMeasure(f"hoso24 import failed; see {self._log}. Called again, this goes on where it was.")
        if run["rejected"] or run["taken"] + run["already_here"] != self._year.size:
            raise CannotMeasure(f"Not every line of {self._name(number)} was taken: {dict(run)}.")

    def _keep(self, number: int) -> None:
        """Keep some of the part's codes, and remove its files. Safe to call again."""
        keys = self._file(number).with_name(self._file(number).name + ".keys.ndjson")
        if keys.exists() and not self._list(number).exists():
            lines = keys.read_text("utf-8").splitlines()
            chosen = random.Random(self._year.seed + number).sample(lines, max(1, int(KEPT * len(lines))))
            fresh = self._list(number).with_suffix(".unfinished")
            fresh.write_text("".join(f"{json.loads(line)['code']}\n" for line in chosen), "utf-8")
            fresh.rename(self._list(number))
        if not self._list(number).exists():
            raise CannotMeasure(f"The codes of {self._name(number)} are gone; begin in a new folder.")
        for path in self._files.glob(f"{self._name(number)}*"):
            path.unlink()

    def _started(self, command: Sequence[str]) -> AbstractContextManager["subprocess.Popen[str]"]:
        system = self._house
        return started(command, core=None, log=self._log, environ=system.environ, cwd=system.folder)

    def _runs(self) -> dict[str, Any]:
        rows = self._house.ask("writer", lambda writer: writer.fetch(RUNS))
        return {row["name"]: row for row in rows}

    @property
    def _log(self) -> Path:
        return self._house.folder / "parts.log"

    def _name(self, number: int) -> str:
        return f"part-{number:04d}.ndjson"

    def _file(self, number: int) -> Path:
        return self._files / self._name(number)

    def _unfinished(self, number: int) -> Path:
        return self._file(number).with_suffix(".unfinished")

    def _list(self, number: int) -> Path:
        return self._codes / f"part-{number:04d}.txt"
