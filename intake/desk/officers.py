"""An officer as signed in: who acts, for which agency, in which roles."""

from dataclasses import dataclass
from datetime import date
from typing import Final

from intake.clients import Client
from lookup.catalogue import Catalogue

CLIENT: Final = "desk"
"""The client in whose name all desks write: the source of their events. It has no token, so nothing signs in as it."""

LOCAL: Final = "local"
"""The issuer of officers who sign in by one-time links, in a trial."""

ROLES: Final = {
    "counter": frozenset({"receive", "move", "bind", "read", "correct"}),
    "specialist": frozenset({"move", "bind", "read"}),
    "head": frozenset({"receive", "move", "bind", "read", "correct"}),
    "auditor": frozenset({"read"}),
}
"""Role → what the ledger lets its officers do."""


@dataclass(frozen=True, slots=True)
class Officer:
    """A signed-in officer. `agency` is the top of the scope, as a client's is."""

    issuer: str
    subject: str
    name: str
    agency: str
    roles: frozenset[str]

    @property
    def actor(self) -> str:
        """As events and the log of reads name the officer."""
        return f"{self.issuer}|{self.subject}"

    @property
    def actions(self) -> frozenset[str]:
        """What the roles allow together."""
        return frozenset[str]().union(*(ROLES[role] for role in self.roles))

    def client(self) -> Client:
        """In whose name the ledger acts for this officer."""
        return Client(CLIENT, self.name, self.agency, self.actions, officer=self.actor)


def office_of(catalogue: Catalogue, agency: str, day: date) -> frozenset[str]:
    """The agencies whose work is this one's on that day: its own, and that of those it is the successor of."""
    of_the_ended = (
        code
        for code in catalogue.agencies
        if (answering := catalogue.now_answering(code, day)) is not None and answering.code == agency
    )
    return frozenset({agency, *of_the_ended})
