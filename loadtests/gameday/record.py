"""What was seen: every answer as a row of twenty-four bytes, and windows onto them.

A day of 45 minutes at 300 answers a second is 20 MB. There is room for two million rows; the oldest leave after that,
so that a load that goes on for ever does not fill the memory of whoever measures it.
"""

import asyncio
import bisect
import math
import operator
import struct
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

LOOKUPS = frozenset({"known", "changing", "unknown", "page", "at_least"})
CHANGES = frozenset({"submit", "move", "import"})
OUTCOMES = ("good", "stale", "limited", "unavailable", "refused", "wrong")
FAILED = frozenset({"unavailable", "wrong"})
ACKNOWLEDGED = frozenset({"good", "refused"})
"""Of a change: taken at once, or after it had been refused."""

ROOM = 2_000_000
BLOCK = 4096
"""Rows that come and go together."""
WORDS = 1000
"""Different reasons that are told apart; beyond, all are one."""
_ROW = struct.Struct("=dffHHBBBB")
_OTHERS = "for some other reason"


@dataclass(frozen=True, slots=True)
class Mark:
    """A span with a name, on the monotonic clock: a fault, from its beginning until everything was well again."""

    name: str
    began: float
    ended: float


class Seen(NamedTuple):
    """One lookup, or one change, and what became of it."""

    at: float
    """When it was asked, on the monotonic clock."""
    seconds: float
    """Until it was answered, or given up; of a change, all its repeats included."""
    kind: str
    """known, changing, unknown, page, at_least, submit, move or import."""
    outcome: str
    """good; stale: marked, within the hard age; limited: refused by rate; unavailable: 503, or nobody answered;
    refused: a change taken only when it was repeated; wrong: contradicts the books or the contract."""
    why: str = ""
    """One short sentence, where it was not good."""
    process: str = ""
    """Who answered, where that is known."""
    source: str = "none"
    """cache: memory or Redis; postgres; none: nobody, or it does not say (pages do not)."""
    age: float | None = None
    """Seconds since it was certainly the truth, by the answer's own word."""
    retried: bool = False
    """Whether it was sent twice, because the connection was closed before any byte of an answer."""

    @property
    def answered_at(self) -> float:
        return self.at + self.seconds


@dataclass(slots=True)
class Slice:
    """What was asked within one step of a chart. `at` is its beginning."""

    at: float
    outcomes: Counter[str] = field(default_factory=Counter)
    """Of lookups."""
    seconds: list[float] = field(default_factory=list)
    """Of lookups, those that were refused by rate left out; sorted."""
    sources: dict[str, float] = field(default_factory=dict)
    """As the lookups themselves count: memory, redis, postgres, nowhere. What they count between two looks is spread
    evenly over the time between."""
    ages: list[float] = field(default_factory=list)
    """Of lookups, sorted."""
    changes: Counter[str] = field(default_factory=Counter)
    """Outcomes of changes that were answered within this step."""
    lag: float = 0.0

    @property
    def total(self) -> int:
        return self.outcomes.total()

    @property
    def failed(self) -> int:
        return sum(self.outcomes[outcome] for outcome in FAILED)


class Window:
    """What was asked between two moments.

    `total`, `count` and `whys` are of everything in it. Failures, times, sources and ages are those of lookups, unless
    kinds were named: then they are of these.
    """

    def __init__(self, record: "Record", began: float, ended: float, kinds: frozenset[str]) -> None:
        self.began, self.ended = began, ended
        self.total = 0
        self.failed = 0
        self.retried = 0
        self.oldest_age = 0.0
        self.first_failed: float | None = None
        """When the first lookup was asked that failed, and the last."""
        self.last_failed: float | None = None
        self._first, self._last = math.inf, -math.inf
        self._record = record
        self._kinds = kinds
        self._outcomes: Counter[str] = Counter()
        self._kinds_seen: Counter[str] = Counter()
        self._whys: Counter[str] = Counter()
        self._sources: Counter[str] = Counter()
        self._processes: Counter[str] = Counter()
        self._seconds: list[float] = []
        for seen in record.between(began, ended):
            if not kinds or seen.kind in kinds:
                self._add(seen, timed=bool(kinds) or seen.kind in LOOKUPS)
        self._seconds.sort()

    def _add(self, seen: Seen, *, timed: bool) -> None:
        self.total += 1
        self._outcomes[seen.outcome] += 1
        self._kinds_seen[seen.kind] += 1
        if seen.why:
            self._whys[seen.why] += 1
        if not timed:
            return
        self._first, self._last = min(self._first, seen.at), max(self._last, seen.at)
        if seen.outcome in FAILED:
            self.failed += 1
            self.first_failed = seen.at if self.first_failed is None else min(self.first_failed, seen.at)
            self.last_failed = seen.at if self.last_failed is None else max(self.last_failed, seen.at)
        if seen.outcome != "limited":
            self._seconds.append(seen.seconds)
        self.retried += seen.retried
        self._sources[seen.source] += 1
        self._processes[seen.process] += 1
        self.oldest_age = max(self.oldest_age, seen.age or 0.0)

    def __iter__(self) -> Iterator[Seen]:
        """Each, in the order in which they were asked."""
        seen = (s for s in self._record.between(self.began, self.ended) if not self._kinds or s.kind in self._kinds)
        return iter(sorted(seen, key=operator.attrgetter("at")))

    def count(self, *outcomes: str) -> int:
        """How many had one of these outcomes."""
        return sum(self._outcomes[outcome] for outcome in outcomes)

    def of_kind(self, *kinds: str) -> int:
        """How many were of one of these kinds."""
        return sum(self._kinds_seen[kind] for kind in kinds)

    @property
    def rate(self) -> float:
        """Lookups a second that were really asked, from the first to the last; fewer than were due if the load's own
        loop was late: turns that it misses are not made up for. 0.0 where there were not two.
        """
        return self._processes.total() / (self._last - self._first) if self._last > self._first else 0.0

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

    def sources(self) -> Counter[str]:
        """Where answers came from, by their own word: cache, postgres, none."""
        return Counter(self._sources)

    def answered_from(self) -> Counter[str]:
        """Where answers came from, as the lookups count: memory, redis, postgres, nowhere. Looked at every 2 s."""
        found: Counter[str] = Counter()
        for at, sources in self._record.sources:
            if self.began <= at < self.ended:
                found.update(sources)
        return found

    def processes(self) -> Counter[str]:
        """Who answered; "" for nobody."""
        return Counter(self._processes)

    def whys(self) -> Counter[str]:
        """Why those that were not good were not."""
        return Counter(self._whys)

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

    def by_second(self, step: float = 1.0) -> list[Slice]:
        """The window in steps of that many seconds, those in which nothing happened included."""
        slices = [Slice(self.began + n * step) for n in range(max(1, math.ceil((self.ended - self.began) / step)))]

        def at(moment: float) -> Slice:
            return slices[min(len(slices) - 1, max(0, int((moment - self.began) / step)))]

        for seen in self._record.between(self.began, self.ended):
            if seen.kind in LOOKUPS:
                _add_lookup(at(seen.at), seen)
        for moment, outcome in self._record.changes(self.began, self.ended):
            at(moment).changes[outcome] += 1
        for (before, _), (moment, sources) in pairwise(self._record.sources):
            self._spread(slices, step, max(before, self.began), min(moment, self.ended), moment - before, sources)
        for moment, lag in self._record.lags:
            if self.began <= moment < self.ended:
                at(moment).lag = max(at(moment).lag, lag)
        for each in slices:
            each.seconds.sort()
            each.ages.sort()
        return slices

    def _spread(
        self,
        slices: Sequence[Slice],
        step: float,
        since: float,
        until: float,
        lasted: float,
        sources: Mapping[str, int],
    ) -> None:
        """Give each slice its part of what was counted in `lasted` seconds; `since` to `until` of them are ours."""
        if until <= since:
            return
        for number in range(int((since - self.began) / step), min(len(slices), int((until - self.began) / step) + 1)):
            each = slices[number]
            part = (min(until, each.at + step) - max(since, each.at)) / lasted
            for source, count in sources.items():
                each.sources[source] = each.sources.get(source, 0.0) + count * max(0.0, part)


def _add_lookup(each: Slice, seen: Seen) -> None:
    each.outcomes[seen.outcome] += 1
    if seen.outcome != "limited":
        each.seconds.append(seen.seconds)
    if seen.age is not None:
        each.ages.append(seen.age)


def quantile(ordered: list[float], share: float) -> float:
    """The smallest of these that at least that share is not above; NaN of none. They must be sorted."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


class Record:
    """Everything that was seen. One loop writes and reads it."""

    def __init__(self, *, room: int = ROOM, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.began = monotonic()
        self.lags: deque[tuple[float, float]] = deque(maxlen=100_000)
        """Per second the moment and the most by which the loop was late, in seconds."""
        self.sources: deque[tuple[float, Counter[str]]] = deque(maxlen=100_000)
        self.turned_away: deque[float] = deque(maxlen=100_000)
        self._monotonic = monotonic
        self._blocks: deque[_Block] = deque(maxlen=max(1, room // BLOCK))
        self._words = ["", "none", "cache", "postgres", *sorted(LOOKUPS | CHANGES), *OUTCOMES, _OTHERS]
        self._numbers = {word: number for number, word in enumerate(self._words)}
        self._waiting: list[_Waiting] = []

    def note(self, seen: Seen) -> None:
        """Keep this one, and wake whoever waits for one like it."""
        if not self._blocks or len(self._blocks[-1].rows) >= BLOCK * _ROW.size:
            self._blocks.append(_Block())
        self._blocks[-1].add(self._packed(seen), seen)
        for waiting in [each for each in self._waiting if each.wants(seen)]:
            self._waiting.remove(waiting)
            if not waiting.future.done():
                waiting.future.set_result(seen)

    def note_lag(self, at: float, seconds: float) -> None:
        """The loop was late by so much."""
        if self.lags and int(self.lags[-1][0]) == int(at):
            at, seconds = self.lags[-1][0], max(seconds, self.lags.pop()[1])
        self.lags.append((at, seconds))

    def note_sources(self, at: float, sources: Mapping[str, int]) -> None:
        """The lookups have answered so many from each source since the last time."""
        self.sources.append((at, Counter(sources)))

    def note_turned_away(self, at: float) -> None:
        """A lookup was due and could not be asked."""
        self.turned_away.append(at)

    def window(self, began: float, ended: float | None = None, *kinds: str) -> Window:
        """What was asked from `began` on and before `ended` (now, if None), of these kinds (all, if none is named).

        Only what has been answered or given up is in it.
        """
        return Window(self, began, self._monotonic() if ended is None else ended, frozenset(kinds))

    async def next(self, *kinds: str, outcomes: Iterable[str] = ACKNOWLEDGED, after: float | None = None) -> Seen:
        """The next one of these kinds with such an outcome that is answered from now on, and asked after a moment.

        Waits for ever: put it under a timeout.
        """
        future: asyncio.Future[Seen] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(frozenset(kinds), frozenset(outcomes), after or -math.inf, future))
        try:
            return await future
        finally:
            self._waiting = [each for each in self._waiting if each.future is not future]

    def between(self, began: float, ended: float) -> Iterator[Seen]:
        """Those asked from `began` on and before `ended`, in the order in which they were answered."""
        for block in self._blocks:
            if block.earliest < ended and began <= block.latest:
                yield from (seen for seen in self._unpacked(block, began) if began <= seen.at < ended)

    def changes(self, began: float, ended: float) -> Iterator[tuple[float, str]]:
        """When changes were answered or given up within these moments, and how."""
        for block in self._blocks:
            if block.changed and block.first_answered < ended and began <= block.last_answered:
                for seen in self._unpacked(block, began):
                    if seen.kind in CHANGES and began <= seen.answered_at < ended:
                        yield seen.answered_at, seen.outcome

    def acknowledged(self, began: float, ended: float) -> list[float]:
        """When changes were acknowledged within these moments."""
        return sorted(at for at, outcome in self.changes(began, ended) if outcome in ACKNOWLEDGED)

    def _packed(self, seen: Seen) -> bytes:
        number = self._number
        age = math.nan if seen.age is None else seen.age
        process, why = number(seen.process), number(seen.why)
        kind, outcome, source = number(seen.kind), number(seen.outcome), number(seen.source)
        return _ROW.pack(seen.at, seen.seconds, age, process, why, kind, outcome, source, seen.retried)

    def _unpacked(self, block: "_Block", began: float) -> Iterator[Seen]:
        """The rows answered from that moment on, and perhaps some others."""
        words, isnan = self._words, math.isnan
        for at, seconds, age, process, why, kind, outcome, source, retried in _ROW.iter_unpack(block.since(began)):
            yield Seen(
                at,
                seconds,
                words[kind],
                words[outcome],
                words[why],
                words[process],
                words[source],
                None if isnan(age) else age,
                bool(retried),
            )

    def _number(self, word: str) -> int:
        found = self._numbers.get(word)
        if found is None:
            if len(self._words) >= WORDS:
                return self._numbers[_OTHERS]
            found = self._numbers[word] = len(self._words)
            self._words.append(word)
        return found


class _Block:
    """Some rows, and the moments between which they lie. They come in the order in which they were answered, mostly."""

    __slots__ = ("changed", "earliest", "first_answered", "last_answered", "latest", "ordered", "rows")

    def __init__(self) -> None:
        self.rows = bytearray()
        self.earliest = self.first_answered = math.inf
        self.latest = self.last_answered = -math.inf
        self.changed = False
        self.ordered = True

    def since(self, moment: float) -> bytes:
        """The rows without those before the first that was answered from that moment on."""
        if not self.ordered or self.first_answered >= moment:
            return bytes(self.rows)
        first = bisect.bisect_left(range(len(self.rows) // _ROW.size), moment - 2e-3, key=self._answered_at)
        return bytes(self.rows[first * _ROW.size :])

    def _answered_at(self, number: int) -> float:
        at, seconds, *_ = _ROW.unpack_from(self.rows, number * _ROW.size)
        return float(at + seconds)

    def add(self, row: bytes, seen: Seen) -> None:
        self.rows += row
        # The seconds are rounded to a few parts in ten million.
        self.ordered = self.ordered and seen.answered_at >= self.last_answered - 1e-3
        self.earliest, self.latest = min(self.earliest, seen.at), max(self.latest, seen.at)
        self.first_answered = min(self.first_answered, seen.answered_at)
        self.last_answered = max(self.last_answered, seen.answered_at)
        self.changed = self.changed or seen.kind in CHANGES


@dataclass(frozen=True, slots=True)
class _Waiting:
    kinds: frozenset[str]
    outcomes: frozenset[str]
    after: float
    future: "asyncio.Future[Seen]"

    def wants(self, seen: Seen) -> bool:
        return seen.kind in self.kinds and seen.outcome in self.outcomes and seen.at >= self.after
