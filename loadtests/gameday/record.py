"""What was seen: every answer as a row of twenty-four bytes, and windows onto them.

A day of 45 minutes at 300 answers a second is 20 MB.
"""

import math
import struct
import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Iterator
from itertools import pairwise
from operator import attrgetter
from typing import NamedTuple

LOOKUPS = frozenset({"known", "changing", "unknown", "page", "holder", "at_least"})
CHANGES = frozenset({"submit", "move", "import", "push", "desk"})
TOLD = frozenset({"follow", "webhook"})
"""What partners are told; noted only where it is wrong."""
OUTCOMES = ("good", "stale", "limited", "unavailable", "refused", "wrong")
FAILED = frozenset({"unavailable", "wrong"})
ACKNOWLEDGED = frozenset({"good", "refused"})
"""Of a change: taken at once, or after it had been refused."""

WORDS = 1000
"""Different reasons that are told apart; beyond, all are one."""
OUT_OF_ORDER = 0.05
"""Seconds by which rows may be noted in another order than that of their answers."""
_ROW = struct.Struct("=dffHHBBBB")
_OTHERS = "for some other reason"


class Seen(NamedTuple):
    """One lookup, or one change, and what became of it."""

    at: float
    """When it was asked, on the monotonic clock."""
    seconds: float
    """Until it was answered, or given up; of a change, all its repeats included."""
    kind: str
    """known, changing, unknown, page, holder, at_least, submit, move, import, push, follow or webhook."""
    outcome: str
    """good; stale: marked, within the hard age; limited: refused by rate; unavailable: 503, or no answer;
    refused: a change taken only when it was repeated; wrong: contradicts what is expected, or the contract."""
    why: str = ""
    """One short sentence, where it was not good."""
    process: str = ""
    """Which process answered, where that is known."""
    source: str = "none"
    """cache: memory or Redis; postgres; none: no answer, or it does not say (pages do not)."""
    age: float | None = None
    """Seconds since it was certainly the truth, by the answer's own word."""
    retried: bool = False
    """Whether it was sent twice, because the connection was closed before any byte of an answer."""

    @property
    def answered_at(self) -> float:
        return self.at + self.seconds


class Window:
    """What was asked between two moments.

    `total`, `count` and `whys` are of everything in it. Failures, times and ages are those of lookups, unless kinds
    were named: then they are of these.
    """

    def __init__(self, record: "Record", began: float, ended: float, kinds: frozenset[str]) -> None:
        self.began, self.ended = began, ended
        found = (seen for seen in record.between(began, ended) if not kinds or seen.kind in kinds)
        self.seen = sorted(found, key=attrgetter("at"))
        """In the order in which they were asked."""
        self._record = record
        self._timed = self.seen if kinds else [seen for seen in self.seen if seen.kind in LOOKUPS]
        self._failed = [seen.at for seen in self._timed if seen.outcome in FAILED]
        self._seconds = sorted(seen.seconds for seen in self._timed if seen.outcome != "limited")
        self.total = len(self.seen)
        self.failed = len(self._failed)
        self.retried = sum(seen.retried for seen in self._timed)
        self.oldest_age = max((seen.age or 0.0 for seen in self._timed), default=0.0)
        self.first_failed = self._failed[0] if self._failed else None
        """When the first lookup was asked that failed, and the last."""
        self.last_failed = self._failed[-1] if self._failed else None

    def __iter__(self) -> Iterator[Seen]:
        """Each, in the order in which they were asked."""
        return iter(self.seen)

    def count(self, *outcomes: str) -> int:
        """How many had one of these outcomes."""
        return sum(seen.outcome in outcomes for seen in self.seen)

    def of_kind(self, *kinds: str) -> int:
        """How many were of one of these kinds."""
        return sum(seen.kind in kinds for seen in self.seen)

    @property
    def rate(self) -> float:
        """Lookups a second that were really asked, from the first to the last; fewer than were due if the load's own
        loop was late: turns that it misses are not made up for. 0.0 where there were not two.
        """
        asked = self._timed
        return len(asked) / (asked[-1].at - asked[0].at) if asked and asked[-1].at > asked[0].at else 0.0

    def quantile(self, share: float) -> float:
        """Seconds within which that share (0 to 1) was answered or given up; NaN when nothing was."""
        return quantile(self._seconds, share)

    @property
    def longest(self) -> float:
        """Seconds that the slowest took; 0.0 when there was none."""
        return self._seconds[-1] if self._seconds else 0.0

    @property
    def stale(self) -> int:
        """Answers that went out marked."""
        return self.count("stale")

    def whys(self) -> Counter[str]:
        """Why those that were not good were not."""
        return Counter(seen.why for seen in self.seen if seen.why)

    @property
    def lag(self) -> float:
        """Seconds by which the load's own loop was late at the most: no latency is known better than that."""
        return max((lag for at, lag in self._record.lags if self.began <= at < self.ended), default=0.0)

    @property
    def turned_away(self) -> int:
        """Lookups that were due and not asked, because too many were under way already."""
        return sum(self.began <= at < self.ended for at in self._record.turned_away)

    @property
    def longest_without_change(self) -> float:
        """The longest time in which no change was acknowledged, in seconds; the window's ends count as changes."""
        moments = [self.began, *self._record.acknowledged(self.began, self.ended), self.ended]
        return max(later - earlier for earlier, later in pairwise(moments))


def quantile(ordered: list[float], share: float) -> float:
    """The smallest of these that at least that share is not above; NaN of none. They must be sorted."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


class Record:
    """Everything that was seen. One loop writes and reads it."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.began = monotonic()
        self.lags: deque[tuple[float, float]] = deque(maxlen=100_000)
        """Per second the moment and the most by which the loop was late, in seconds."""
        self.turned_away: deque[float] = deque(maxlen=100_000)
        """When a lookup was due and could not be asked."""
        self._monotonic = monotonic
        self._rows = bytearray()
        self._words = ["", "none", "cache", "postgres", *sorted(LOOKUPS | CHANGES | TOLD), *OUTCOMES, _OTHERS]
        self._numbers = {word: number for number, word in enumerate(self._words)}

    def note(self, seen: Seen) -> None:
        """Keep this one."""
        number, age = self._number, math.nan if seen.age is None else seen.age
        process, why = number(seen.process), number(seen.why)
        kind, outcome, source = number(seen.kind), number(seen.outcome), number(seen.source)
        self._rows += _ROW.pack(seen.at, seen.seconds, age, process, why, kind, outcome, source, seen.retried)

    def note_lag(self, at: float, seconds: float) -> None:
        """The loop was late by so much."""
        if self.lags and int(self.lags[-1][0]) == int(at):
            at, seconds = self.lags[-1][0], max(seconds, self.lags.pop()[1])
        self.lags.append((at, seconds))

    def window(self, began: float, ended: float | None = None, *kinds: str) -> Window:
        """What was asked from `began` on and before `ended` (now, if None), of these kinds (all, if none is named).

        Only what has been answered or given up is in it.
        """
        return Window(self, began, self._monotonic() if ended is None else ended, frozenset(kinds))

    def between(self, began: float, ended: float) -> Iterator[Seen]:
        """Those asked from `began` on and before `ended`, in the order in which they were answered."""
        return (seen for seen in self._answered_from(began) if began <= seen.at < ended)

    def acknowledged(self, began: float, ended: float) -> list[float]:
        """When changes were acknowledged within these moments."""
        changes = (s for s in self._answered_from(began) if s.kind in CHANGES and s.outcome in ACKNOWLEDGED)
        return sorted(seen.answered_at for seen in changes if began <= seen.answered_at < ended)

    def _answered_from(self, moment: float) -> Iterator[Seen]:
        """Those answered from that moment on, and perhaps some answered just before."""
        words, isnan, size = self._words, math.isnan, _ROW.size
        first = bisect_left(range(len(self._rows) // size), moment - OUT_OF_ORDER, key=self._answered_at)
        for at, seconds, age, process, why, kind, outcome, source, retried in _ROW.iter_unpack(
            self._rows[first * size :]
        ):
            told = None if isnan(age) else age
            yield Seen(
                *(at, seconds, words[kind], words[outcome], words[why], words[process], words[source]),
                told,
                bool(retried),
            )

    def _answered_at(self, number: int) -> float:
        at, seconds, *_ = _ROW.unpack_from(self._rows, number * _ROW.size)
        return float(at + seconds)

    def _number(self, word: str) -> int:
        found = self._numbers.get(word)
        if found is None:
            if len(self._words) >= WORDS:
                return self._numbers[_OTHERS]
            found = self._numbers[word] = len(self._words)
            self._words.append(word)
        return found
