"""All load of a day: citizens, offices by API and at a desk, a system that pushes and imports, and how late it is."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Collection
from contextlib import AbstractAsyncContextManager

from loadtests import answers
from loadtests.codes import Shelf
from loadtests.gameday.citizens import Citizens, Pace, Town
from loadtests.gameday.expected import Expected
from loadtests.gameday.imports import Imports
from loadtests.gameday.officers import Officer
from loadtests.gameday.offices import DayOffice, Desk, NotTaken
from loadtests.gameday.pushing import Pusher
from loadtests.gameday.record import Record
from loadtests.system.http_client import Client, request
from loadtests.system.stage import StagedSystem

__all__ = ["Crowd", "NotTaken"]

DESKS = 8
FIRST_DOSSIERS = 40
"""Taken in, and moved once, before the first citizen comes."""
CHANGING = 400
"""Codes changed lately that citizens ask for again and again."""
KNOWN = 20_000
"""Dossiers that citizens know of; those taken in first are forgotten first."""
FINISH = 30.0
"""Seconds that what is under way gets at the end."""
IMPORT_EVERY = 20.0
PUSH_EVERY = 1.0
FORM_EVERY = 2.0
"""Seconds between two forms of the officer at the desk."""
LAG_EVERY = 0.05


class Crowd:
    """Citizens, desks, pushes and imports against a front. `pace.rate` and `desk_pace.rate`, a second, may be set.

    What is seen goes into the record; what is handed in is expected from then on. The service cannot end them.
    """

    def __init__(
        self,
        stage: StagedSystem,
        record: Record,
        expected: Expected,
        *,
        rate: float = 200.0,
        changes_rate: float = 8.0,
        import_every: float = IMPORT_EVERY,
        seed: int = 24,
    ) -> None:
        self._stage, self._import_every = stage, import_every
        self.pace, self.desk_pace = Pace(rate), Pace(changes_rate)
        self._town = town = Town(record, expected, Shelf(room=KNOWN), deque(maxlen=CHANGING), random.Random(seed))
        self._citizens = Citizens(stage.front.lookup, town)
        self._office = DayOffice(stage.front.intake, stage.token, town)
        self._officer = Officer(self._office, stage.desk_ports, stage.desk_link)
        self._imports = Imports(stage.folder / "imports", stage.environ, town, self._office.gate)
        self._desks: list[asyncio.Task[None]] = []
        self._others: list[asyncio.Task[None]] = []

    async def come(self) -> None:
        """Take the first dossiers in, and begin. Raises NotTaken or NoAnswer when nothing answers."""
        self._town.expected.statuses = await self._statuses()
        with Desk(self._office) as desk:
            for _ in range(FIRST_DOSSIERS):
                await desk.move(await desk.submit())
        self._desks = [asyncio.create_task(Desk(self._office).work(self.desk_pace)) for _ in range(DESKS)]
        self._others = [
            asyncio.create_task(self._citizens.come(self.pace)),
            asyncio.create_task(self._imports.go_on(self._import_every)),
            asyncio.create_task(Pusher(self._office).go_on(PUSH_EVERY)),
            asyncio.create_task(self._officer.work(FORM_EVERY)),
            asyncio.create_task(self._watch_lag()),
        ]

    async def leave(self) -> None:
        """Begin nothing more; return when what was under way has been answered, or after half a minute.

        Raises what has ended one of them before its time, if that has happened: it is a fault of the load's own.
        """
        self._office.closing = True
        for task in self._others:
            task.cancel()
        await self._citizens.leave(FINISH)
        if self._desks:
            await asyncio.wait(self._desks, timeout=FINISH)
        for task in self._desks:
            task.cancel()
        for result in await asyncio.gather(*self._desks, *self._others, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    async def answered(self, until: float) -> None:
        """Return once every lookup that was asked before that moment has been answered or given up."""
        await self._citizens.answered(until)

    def changes_held(self) -> AbstractAsyncContextManager[None]:
        """Desks, pushes and imports begin nothing while the block runs; what was under way is waited for before it.

        submit() and move() go on.
        """
        return self._office.gate.held()

    def codes(self) -> list[str]:
        """Every dossier that citizens ask for."""
        return [dossier.code for dossier in self._town.shelf]

    def forget(self, codes: Collection[str]) -> None:
        """No citizen asks for these dossiers any more: they were lost."""
        self._town.shelf.forget(codes)
        kept = [code for code in self._town.changing if code not in codes]
        self._town.changing.clear()
        self._town.changing.extend(kept)

    async def repeat_the_last(self) -> tuple[int, int]:
        """Send the changes that were answered last once more, each under its key: how many, and how many of them were
        not answered as the first time.
        """
        last = list(self._office.answered)
        with Desk(self._office) as desk:
            return len(last), sum([not await desk.is_answered_again(sent, first) for sent, first in last])

    async def submit(self) -> str:
        """A new dossier, its code once acknowledged. No desk moves it. Raises NotTaken."""
        with Desk(self._office) as desk:
            return await desk.submit()

    async def move(self, code: str) -> int:
        """One change of a dossier made by submit(); the version acknowledged. Raises NotTaken."""
        with Desk(self._office) as desk:
            return await desk.move(code)

    async def import_a_day(self, dossiers: int) -> list[str]:
        """Import an agency's day of so many dossiers, of which no citizen knows; its codes, none if that failed."""
        return await self._imports.one(dossiers, asked=False)

    async def _statuses(self) -> dict[str, answers.Status]:
        with Client(self._stage.front.lookup) as client:
            return answers.statuses(await client.ask_any(request("GET", "/api/v1/statuses", {})))

    # -- what the load is watched by -------------------------------------------------------------------------

    async def _watch_lag(self) -> None:
        while True:
            due = time.monotonic() + LAG_EVERY
            await asyncio.sleep(LAG_EVERY)
            self._town.record.note_lag(due, max(0.0, time.monotonic() - due))
