"""What prober.py is asked to do, and the arithmetic of what it saw, without a socket."""

from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.bench.arrivals import MILLISECONDS, percentile

POSTGRES = "PROBER_POSTGRES_URL"
"""Where the changes are made; it has a password, and so it is not on the command line."""


@dataclass(frozen=True)
class Probe:
    """`rate` changes a second for `seconds`, at every `step`-th of `count` dossiers beginning with number `first`.

    A change that a lookup has not answered with after `patience` seconds counts as never seen.
    """

    lookups: Sequence[int]
    first: int
    count: int
    step: int
    rate: float
    seconds: float
    patience: float = 5.0


@dataclass
class ChangesSeen:
    """What became of changes: how many were made, and how soon each lookup answered with them."""

    lasting: float
    """Seconds for which they were to come."""
    took: list[list[float]]
    """Per lookup, seconds since each commit was known."""
    missed: list[int]
    """Per lookup, changes that it did not answer with."""
    made: int = 0
    last: float = 0.0
    """When the last was made, in seconds after the first was to come."""

    def changed(self, now: float) -> None:
        """One has been made, `now` seconds after the first was to come."""
        self.made += 1
        self.last = max(self.last, now)

    @property
    def rate(self) -> float:
        """Changes made a second, until the last was made, and at least for as long as they were to come."""
        return self.made / max(self.lasting, self.last)

    def milliseconds(self, lookup: int, share: float) -> float:
        """Within how many milliseconds that lookup answered with that share of them; 0 for none."""
        return percentile(self.took[lookup], share) * MILLISECONDS
