"""How old an answer may be: whether a copy is served, refreshed first, or marked stale."""

import functools
import random
from dataclasses import dataclass
from enum import Enum

SECOND = 1_000_000


class FreshnessVerdict(Enum):
    """What to do with a copy, by its age."""

    SERVE = "serve"
    SERVE_AND_REFRESH = "serve and refresh"
    """Serve it, and refresh it in the background."""
    REFRESH = "refresh"
    """Older than the soft age: the answer waits for a refresh, and is marked stale if that fails."""
    DISCARD = "discard"
    """Too old to be served, even marked."""


@dataclass(frozen=True)
class Freshness:
    """The published bounds, in seconds. Nothing older than `soft` leaves unmarked, nothing older than `hard` at all."""

    soft: float = 60.0
    hard: float = 86_400.0
    negative: float = 5.0
    """How long a cached "no such dossier" is served; it is never served stale."""
    silent: float = 5.0
    """Silence of the feed after which answers count as unconfirmed while PostgreSQL is unreachable."""

    @functools.cached_property
    def _surely_young(self) -> int:
        return int(self.soft * SECOND * 0.45)

    def judge(self, version: int, age: int) -> FreshnessVerdict:
        """The verdict on a copy `age` microseconds old.

        The soft age is shortened by up to a tenth at random, so that copies filled together do not
        expire together.
        """
        if version == 0:
            return FreshnessVerdict.SERVE if age <= self.negative * SECOND else FreshnessVerdict.DISCARD
        if age <= self._surely_young:
            return FreshnessVerdict.SERVE
        limit = self.soft * SECOND * random.uniform(0.9, 1.0)  # noqa: S311 - spreads load, is no secret
        if age <= limit / 2:
            return FreshnessVerdict.SERVE
        if age <= limit:
            return FreshnessVerdict.SERVE_AND_REFRESH
        return FreshnessVerdict.REFRESH if age <= self.hard * SECOND else FreshnessVerdict.DISCARD

    def is_stale(self, age: int) -> bool:
        """Whether an answer of this age must be marked."""
        return age > self.soft * SECOND

    @property
    def ttl(self) -> int:
        """How long Redis keeps a record, in whole seconds: as long as it may be served marked."""
        return int(self.hard)

    @property
    def negative_ttl(self) -> int:
        """How long Redis keeps "no such dossier", in whole seconds."""
        return max(1, int(self.negative))
