"""Partners: a business system that pushes by POST /api/v1/sync, and one that follows GET /api/v1/changes."""

import itertools
import json
import random
import time
import uuid
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any

import gevent
from locust import between, constant, task

from loadtests import answers
from loadtests.answers import Late, Wrong
from loadtests.codes import Dossier
from loadtests.partners_books import PartnersBooks
from loadtests.target import AGENCIES, SERVICES, submission
from loadtests.verdict import INTAKE, TOLD
from loadtests.visitors import CHANGE, WHO, Office, Visitor

LINES = (100, 1000)
"""Lines of a body, at least and at most."""
WAY = ("received", "processing", "completed", "returned")
FIRST_DAY, DAYS = date(2020, 1, 1), 2000
"""Its codes are of one of these days, drawn for each run, with six digits: they meet no others."""
WAIT = 5
"""Seconds of a long-poll."""


class BusinessSystem(Office):
    """One system with many dossiers: pushes new ones and next steps, then looks whether the public sees the last."""

    fixed_count = 1  # an intake takes one body of a client at a time
    wait_time = between(0.5, 1.5)

    def on_start(self) -> None:
        """Begin with no dossier."""
        Visitor.on_start(self)
        self.desk: list[Dossier] = []
        self.changes = 0
        self.hand: list[Dossier] = []
        self.numbers = itertools.count(random.randrange(1, 500_000))
        self.day = FIRST_DAY + timedelta(days=random.randrange(DAYS))

    @task(9)
    def push(self) -> None:
        """A body; each of its lines has to be recorded, once."""
        body, due, moved = self._body()
        lines = self._sync(body, due)
        if lines is None:
            return
        for (key, version), dossier in zip(due.items(), moved, strict=True):
            dossier.status, dossier.version = WAY[version - 1], version
            dossier.key = lines[key].get("lookup_key", dossier.key)
        self.hand += [dossier for dossier in moved if dossier.status != WAY[-1]]
        if self._watch(moved[-1], new=False):
            for dossier in moved:
                if dossier.version == 1:
                    self.shared.shelf.put(dossier)
        if random.random() < 0.1:
            self._sync(body, due, again=True)

    def _body(self) -> tuple[bytes, dict[str, int], list[Dossier]]:
        """The next lines, the version each is to make by its id, and their dossiers."""
        count = random.randint(*LINES)
        moved = [self.hand.pop(0) for _ in range(min(len(self.hand), count * 3 // 4))]
        moved += [Dossier(self._code(), "", "") for _ in range(count - len(moved))]
        due = {str(uuid.uuid4()): dossier.version + 1 for dossier in moved}
        lines = [self._line(key, version, each) for (key, version), each in zip(due.items(), moved, strict=True)]
        return "".join(f"{json.dumps(line)}\n" for line in lines).encode(), due, moved

    def _code(self) -> str:
        return f"{AGENCIES[0]}-{self.day:%y%m%d}-{next(self.numbers):06d}"

    def _line(self, key: str, version: int, dossier: Dossier) -> dict[str, Any]:
        line: dict[str, Any] = {"id": key, "dossier": dossier.code, "source_seq": version}
        if version > 1:
            return line | {"status": WAY[version - 1]}
        own = {"agency": AGENCIES[0], "service": SERVICES[3], "channel": "direct"}
        return line | {"create": submission() | own | {"submitted_at": f"{self.day}T08:00:00+07:00"}}

    def _sync(self, body: bytes, due: dict[str, int], *, again: bool = False) -> dict[str, Any] | None:
        headers = self.shared.target.authorization | {"Content-Type": "application/x-ndjson"}
        return self.ask(
            "POST",
            f"{self.shared.target.intake}/api/v1/sync",
            partial(answers.synced, due=due, again=again),
            name=f"intake /api/v1/sync{' repeated' if again else ''}",
            data=body,
            headers=headers,
            context={WHO: INTAKE},
        )


# And nothing of what an office does; Locust would add that if it stood in the class.
BusinessSystem.tasks = [BusinessSystem.push]


class Follower(Visitor):
    """Follows all changes by long-polls, and keeps books by nothing else: no version may be missing or come too late.

    What is late is judged by the clock of this machine and the moment in the event.
    """

    weight = 1
    wait_time = constant(0.25)

    def on_start(self) -> None:
        """Begin now."""
        super().on_start()
        self.books = PartnersBooks(whole=False)
        self.place = "from=now"
        self.caught_up = False
        """Whether the last page had all there was: else what comes next has waited for this follower."""

    @task
    def follow(self) -> None:
        """The next page, as soon as there is one."""
        page = self.ask(
            "GET",
            f"{self.shared.target.intake}/api/v1/changes?{self.place}&limit=1000&wait={WAIT}",
            self._check,
            name="intake /api/v1/changes",
            headers=self.shared.target.authorization,
            context={WHO: INTAKE},
        )
        if page is None:
            gevent.sleep(1.0)
            return
        waited = self.caught_up
        self.place, self.caught_up = f"after={page['next']}", page["caught_up"]
        if page["events"] and waited:
            recorded = min(datetime.fromisoformat(event["time"]).timestamp() for event in page["events"])
            late = time.time() - recorded
            failure = Late("told too late") if late > self.shared.visible_within else None
            self.report(CHANGE, "change told", max(0.0, late), failure, **{WHO: TOLD})

    def _check(self, answer: answers.Answer) -> dict[str, Any]:
        page = answers.changes(answer)
        for event in page["events"]:
            if wrong := self.books.take(event):
                raise Wrong("a page of the feed that leaves a version out", wrong)
        return page
