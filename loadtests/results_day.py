"""Who comes on results day: those whose results are announced at nine, and the one office that announces them."""

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import ClassVar

import gevent
from locust import between, task

from loadtests.answers import Shown
from loadtests.codes import Dossier
from loadtests.pages import Page
from loadtests.visitors import Office, Visitor

ANNOUNCED = "completed"
TOWARDS = (ANNOUNCED, "processing", "received")
"""What a dossier is moved to next on its way to being announced: the first of these that is allowed."""


class Expectant(Visitor):
    """One whose result comes today: asks for one dossier, and again, until it is there. Then the next one comes.

    Everyone has a dossier of their own. What is asked for is spread evenly over the day's dossiers, which is as bad as
    it gets for a cache, and all of them change at nine.
    """

    weight = 10
    wait_time = between(2, 6)
    _owners: ClassVar[Iterator[Dossier]]
    own: Dossier
    shown: Shown | None
    page: Page | None

    @classmethod
    def expect(cls, results: Sequence[Dossier]) -> None:
        """These come today. In an order of its own in each process, or all processes would begin with the same few."""
        cls._owners = itertools.cycle(random.sample(results, len(results)))

    def on_start(self) -> None:
        """Begin with one's own dossier at hand."""
        super().on_start()
        self._arrive()

    @task(2)
    def ask_application(self) -> None:
        """The phone's application, which asks by ETag what has changed."""
        shown = self.look_again(self.shown) if self.shown else self.look_up(self.own)
        self.shown = shown if shown and shown.etag else None
        if shown and shown.status == ANNOUNCED:
            self.look_up(self.own, holder=True)
            self._arrive()

    @task(1)
    def reload_page(self) -> None:
        """The page behind the link in the message that announced the day, and then "check again" on it."""
        self.page = self.check_again(self.own, self.page) if self.page else self.open_page(self.own)

    def _arrive(self) -> None:
        self.own = next(self._owners)
        self.shown, self.page = None, None
        self.take_another_phone()


class Announcer(Office):
    """The office that announces the day's results at nine, one after the other, and sees each through to the public."""

    fixed_count = 1
    wait_time = between(0.0, 0.02)
    waiting: ClassVar[list[Dossier]] = []
    """What it has to announce: all the results there are, of which this process's office has each once."""

    def on_start(self) -> None:
        """Everything is worked on before nine, so that one move is left for each. That is not all done at once."""
        Visitor.on_start(self)
        self.desk, self.changes = [], 0

    @task
    def announce(self) -> None:
        """One result; before nine, one step towards it."""
        due = [each for each in self.waiting if self._is_due(each)]
        if not due:
            gevent.sleep(0.2)
            return
        dossier = due[0]
        self.waiting.remove(dossier)
        self.move(dossier, self._next(dossier))
        # What is not back on the desk was not seen, and is not to be moved again.
        if self.desk and (back := self.desk.pop()).status != ANNOUNCED:
            self.waiting.append(back)

    def _next(self, dossier: Dossier) -> str:
        allowed = self.shared.statuses[dossier.status].next
        return next(status for status in TOWARDS if status in allowed)

    def _is_due(self, dossier: Dossier) -> bool:
        return self.shared.nine.is_set() or self._next(dossier) != ANNOUNCED


# And nothing of what an office does on other days; Locust would add that if it stood in the class.
Announcer.tasks = [Announcer.announce]
