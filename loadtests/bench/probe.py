"""What prober.py is asked to do, and the arithmetic of what it saw, without a socket."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True)
class Sighted:
    """How soon one lookup answered with the changes, in milliseconds since the commit was known."""

    seen: int
    missed: int
    median: float
    p99: float
    longest: float


@dataclass(frozen=True)
class ChangesSeen:
    """What became of `changes` changes: how many were made, and when each lookup had them."""

    changes: int
    made: int
    seconds: float
    """Until the last was made, and at least for as long as they were to come."""
    lookups: Sequence[Sighted]

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> "ChangesSeen":
        """As the generator printed it."""
        return cls(**{**report, "lookups": [Sighted(**each) for each in report["lookups"]]})

    @property
    def rate(self) -> float:
        """Changes made a second."""
        return self.made / self.seconds


class Sightings:
    """Notes of changes and of who saw them when."""

    def __init__(self, lookups: int) -> None:
        self.made = 0
        self._last = 0.0
        self._took: list[list[float]] = [[] for _ in range(lookups)]
        self._missed = [0] * lookups

    def changed(self, now: float) -> None:
        """One has been made, `now` seconds after the first was to come."""
        self.made += 1
        self._last = max(self._last, now)

    def saw(self, lookup: int, took: float) -> None:
        """This lookup has answered with a change after so many seconds."""
        self._took[lookup].append(took)

    def missed(self, lookup: int) -> None:
        """This lookup has not."""
        self._missed[lookup] += 1

    def seen(self, changes: int, seconds: float) -> ChangesSeen:
        """All of it, of so many changes that were to come within so many seconds."""
        lookups = [
            Sighted(
                seen=len(took),
                missed=missed,
                median=percentile(took, 0.5) * MILLISECONDS,
                p99=percentile(took, 0.99) * MILLISECONDS,
                longest=max(took, default=0.0) * MILLISECONDS,
            )
            for took, missed in zip(self._took, self._missed, strict=True)
        ]
        return ChangesSeen(changes, self.made, max(seconds, self._last), lookups)
