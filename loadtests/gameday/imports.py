"""Imports in the background: now and then a file of dossiers, by `hoso24 import`, and again until it is in."""

import asyncio
import json
import time
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path

from loadtests.codes import Dossier
from loadtests.gameday.citizens import Town
from loadtests.gameday.offices import Gate, repeated
from loadtests.gameday.record import Seen
from loadtests.system.processes import HOSO24, finished
from loadtests.target import AGENCIES, SERVICES

LINES = 200
AT_MOST = 120.0
"""Seconds that one attempt may take."""
PAUSE = 1.0
"""Seconds between two attempts."""
REFUSED = "Refused lines, with number and reason"
"""What an import says at its end only where it refused some."""
FIRST_DAY = date(2020, 1, 1)
"""Each file is of another day, long past, so that its codes do not meet others."""
AGENCY = AGENCIES[-1]
WAYS = (("received",), ("received", "processing"), ("received", "processing", "completed", "returned"))


class Imports:
    """One import after the other into the database that `environ` names, by files in `folder`."""

    def __init__(self, folder: Path, environ: Mapping[str, str], town: Town, gate: Gate) -> None:
        self._folder, self._environ, self._town, self._gate = folder, environ, town, gate
        self._done = 0

    async def go_on(self, every: float) -> None:
        """One import after so many seconds, and so on, until cancelled."""
        self._folder.mkdir(parents=True, exist_ok=True)
        while True:
            await asyncio.sleep(every)
            await self._gate.until_open()
            with self._gate.passed():
                await self.one()

    async def one(self, lines: int = LINES, *, asked: bool = True) -> list[str]:
        """One file, and again from where it was until it is in, or is given up; its codes, none if it is not in.

        All are of one agency and day. `asked`: whether citizens ask for them from now on.
        """
        lives = self._lives(lines)
        path = self._folder / f"{self._done}.ndjson"
        path.write_text("".join(_line(code, statuses) for code, statuses in lives.items()), "utf-8")
        self._done += 1
        began = time.monotonic()
        outcome, why = await repeated(lambda: self._attempt(path), PAUSE)
        if outcome in ("good", "refused"):
            for code, statuses in lives.items():
                self._town.expected.imported(code, statuses, began)
                if asked:
                    self._town.shelf.put(Dossier(code, "", statuses[-1], len(statuses)))
        self._town.record.note(Seen(began, time.monotonic() - began, "import", outcome, why))
        for suffix in ("", ".rejected.ndjson", ".keys.ndjson"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        return list(lives) if outcome in ("good", "refused") else []

    async def _attempt(self, path: Path) -> tuple[str, str]:
        """good, again or wrong; and why."""
        try:
            status, said = await finished(*HOSO24, "import", str(path), environ=self._environ, seconds=AT_MOST)
        except TimeoutError:
            return "again", f"an import had not ended after {AT_MOST:g} s"
        lines = said.strip().splitlines() or ["it said nothing"]
        if REFUSED in said:  # status 1, too, but not a failure
            return "wrong", "an import refused lines that are in order"
        return ("again", f"an import ended with status {status}: {lines[-1]}") if status else ("good", "")

    def _lives(self, lines: int) -> dict[str, tuple[str, ...]]:
        """The codes of the next file, each with the statuses it has had."""
        day = FIRST_DAY + timedelta(days=self._done)
        return {f"{AGENCY}-{day:%y%m%d}-{n:04d}": self._town.chance.choice(WAYS) for n in range(1, lines + 1)}


def _line(code: str, statuses: tuple[str, ...]) -> str:
    """A dossier with its history, in the import's own form; all of it is fictitious."""
    at = [f"20{code[-11:-9]}-{code[-9:-7]}-{code[-7:-5]}T{8 + n:02d}:00:00+07:00" for n in range(len(statuses))]
    dossier = {
        "code": code,
        "agency": AGENCY,
        "service": SERVICES[3],
        "submitted_at": at[0],
        "applicant": {"name": "Nguyễn Văn Mẫu (hư cấu)", "id": "999000000001"},
        "steps": [{"at": moment, "status": status} for moment, status in zip(at, statuses, strict=True)],
    }
    return json.dumps(dossier, ensure_ascii=False) + "\n"
