"""Who comes during an attack: a client that reads dossiers off by counting codes up, and others of its address."""

import itertools
from collections.abc import Iterator
from typing import Any, ClassVar

import gevent
from locust import constant, task

from loadtests import addresses, answers
from loadtests.answers import Answer, Limited
from loadtests.verdict import ATTACKERS, NEIGHBOURS, asked_as
from loadtests.visitors import WHO, Citizen, Visitor


class Enumerator(Visitor):
    """One pair of hands of the attacker: takes the next code, asks at once, and never waits for anything but answers.

    One that is refused lets a moment go by: the attacker's own machine is not to be what is measured.
    """

    fixed_count = 120
    wait_time = constant(0)
    who = ATTACKERS
    prefix: ClassVar[str] = ""
    """What the codes that are counted up begin with."""
    walk: ClassVar[Iterator[str]] = iter(())
    """The codes, which all hands of a process share."""

    @classmethod
    def begin_with(cls, code: str) -> None:
        """Count up the numbers of this one's agency and day."""
        cls.prefix = code[: code.rindex("-") + 1]
        cls.walk = (f"{cls.prefix}{number:04d}" for number in itertools.count(1))

    def find_address(self) -> str:
        """The one address of all hands, which a carrier's other customers have, too."""
        return addresses.SHARED_WITH_ATTACKERS

    @task
    def read_off(self) -> None:
        """The next code, whether there is such a dossier or not."""
        url = f"/api/v1/dossiers/{next(self.walk)}"
        if self.ask("GET", url, _read_off, name="/api/v1/dossiers/{code} counted up") is None:
            gevent.sleep(0.5)


class Neighbour(Citizen):
    """A citizen behind the attacker's address, who does what citizens do.

    Two kinds of questions are counted apart, because nothing tells them from the attacker's: those for no
    dossier, and those without a key for a dossier of the very agency and day that is being counted up.
    """

    weight = 3
    who = NEIGHBOURS

    def find_address(self) -> str:
        """The attacker's."""
        return addresses.SHARED_WITH_ATTACKERS

    def ask(self, method: str, url: str, check: Any, *, name: str, **request: Any) -> Any:
        """As all do, but noting which questions are of those two kinds."""
        who = asked_as(name, url, Enumerator.prefix)
        request["context"] = request.get("context", {}) | {WHO: who}
        return super().ask(method, url, check, name=name, **request)


# One address may send twenty ratings at once, and theirs are hundreds of people's: some would be refused with reason.
Neighbour.tasks = [each for each in Citizen.tasks if each is not Citizen.say_how_it_was]


def _read_off(answer: Answer) -> bool:
    try:
        answer.expect(200, 404)
    except Limited:
        if int(answer.headers.get("retry-after", 0)) < 1:
            raise answers.Wrong("refused by rate without a Retry-After") from None
        raise
    return True
