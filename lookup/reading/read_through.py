"""Steps 3 to 6 and 8 of a lookup (lookup/reading/reader.py tells all eight): memory, Redis, PostgreSQL, failures."""

import asyncio
import functools
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

from lookup import metrics
from lookup.cache import NOTHING_READ, Cache, Entry, Value
from lookup.clock import Micros
from lookup.reading.batching import BatchQueue, Permits
from lookup.reading.feed import Floors, Mark
from lookup.reading.freshness import SECOND, Freshness, FreshnessVerdict
from lookup.reading.memory import Copy, Memory
from lookup.reading.shedding import Load, Overloaded
from lookup.reading.store import Loaded
from lookup.reading.vitals import Vitals
from ops.errors import Kind, OurOwnDelay, Refusal, Unavailable
from ops.observe import tracing

_log = logging.getLogger(__name__)


REDIS_ROUND_TRIPS = 4
"""Concurrent round trips to Redis, per process and kind of entry."""


NAMES_IN_A_QUERY = 256


PRIMARY_ROUNDS = 3
"""Limit of queries to the primary for one lookup; it is repeated only when a newer version was heard of."""


_YOUNG = (FreshnessVerdict.SERVE, FreshnessVerdict.SERVE_AND_REFRESH)


_NOTHING = Entry(0, 0, b"")


class StatusUnavailable(Unavailable):
    """PostgreSQL is unreachable and no copy may be served. Never means "no such dossier"."""

    code = "status_unavailable"
    title = "There is a technical fault, so the status cannot be checked right now."
    title_vi = "Hệ thống đang gặp sự cố nên chưa xem được hồ sơ này."


class VersionNotReached(Refusal):
    """The primary has no version as high as was asked for. `version` is what it has."""

    kind = Kind.PRECONDITION
    code = "version_not_reached"
    title = "The application has not reached this version."
    title_vi = "Hồ sơ chưa có lần cập nhật được yêu cầu."
    advice = "Ask again in a second, or without at_least; `version` is the newest there is."
    advice_vi = "Hỏi lại sau một giây, hoặc bỏ at_least; version là phiên bản mới nhất hiện có."
    repeating_helps = True


class Answer(NamedTuple):
    """An entry as an answer. `age` in microseconds; `source` is memory, redis or postgres."""

    entry: Entry
    age: int
    source: str
    stale: bool = False


class Source(Protocol):
    """The loader of entries: Store.dossiers or Store.numbers."""

    async def __call__(self, names: Sequence[str], /, *, primary: bool = False) -> Loaded: ...


Callback = Callable[["Answer | Unavailable"], None]


class _Lookup:
    """One name on its way through the queues, shared by all callers that want it at the moment.

    `best` is the best copy seen so far, `source` its origin; `needed` the version it must have to be unmarked.
    """

    __slots__ = (
        "at_least",
        "best",
        "callers",
        "epoch",
        "latecomers",
        "name",
        "needed",
        "overdue_at",
        "refresh",
        "rounds",
        "sent",
        "source",
    )

    def __init__(self, name: str, epoch: int, overdue_at: float, *, at_least: int, refresh: bool) -> None:
        self.name = name
        self.at_least = at_least
        self.epoch = epoch
        self.overdue_at = overdue_at
        self.refresh = refresh
        """Begun because the copies have reached half the soft age: such a copy does not settle it."""
        self.callers: list[Callback] = []
        self.latecomers: list[Callback] = []
        """Callers that came after the query was sent: its "there is none" may predate their request."""
        self.sent = False
        self.best = _NOTHING
        self.source = "memory"
        self.needed = 0
        self.rounds = 0
        """Answers of the primary to it."""


class ReadThrough:
    """Steps 3 to 6 and 8 for one kind of entry: records by code, kept in memory, or codes by official number, not kept.

    A lookup is an object that passes through up to three batch queues: copies in Redis, a load from any PostgreSQL
    host, a load from the primary. Each settles it or passes it on. `permits` limits the concurrent queries to
    PostgreSQL; `deadline`, in seconds, is for one lookup.
    """

    def __init__(
        self,
        cache: Cache,
        source: Source,
        key: Callable[[int, str], str],
        vitals: Vitals,
        freshness: Freshness,
        *,
        permits: Permits,
        floors: Floors,
        memory: Memory | None = None,
        deadline: float = 2.5,
    ) -> None:
        self._cache = cache
        self._source = source
        self._key = key
        self._vitals = vitals
        self._feed = vitals.feed
        self._freshness = freshness
        self._floors = floors
        self._memory = memory if memory is not None else Memory(0)
        self._deadline = deadline
        self._under_way: dict[str, _Lookup] = {}
        self._waits = tracing.Waits()
        redis = Permits(REDIS_ROUND_TRIPS)
        self._copies = self._queue(self._read_copies, redis)
        self._loads = self._queue(self._load, permits)
        self._primary = self._queue(self._load_from_primary, permits)
        vitals.shedding.watch(copies=self._copies, loads=self._loads)

    def recall(self, name: str, at_least: int = 0) -> Answer | None:
        """The answer from process memory, if it may be served as it is; None when something has to be read."""
        copy = self._memory.get(name)
        if copy is None or copy.generation != self._feed.generation:
            return None
        as_of = self._feed.as_of(copy)
        verdict = self._verdict(copy.version, as_of, max(at_least, self._floors.of(name)))
        if verdict not in _YOUNG:
            return None
        if verdict is FreshnessVerdict.SERVE_AND_REFRESH:
            self._refresh(name)
        return self._answer(name, Entry(copy.version, as_of, copy.body), "memory")

    def want(self, name: str, callback: Callback) -> None:
        """Call `callback` once, with the answer or the failure; never before this method returns."""
        lookup = self._under_way.get(name)
        if lookup is not None:
            (lookup.latecomers if lookup.sent else lookup.callers).append(callback)
            return
        lookup = self._under_way[name] = self._new(name)
        lookup.callers.append(callback)
        self._begin(lookup)

    async def get(
        self,
        name: str,
        at_least: int = 0,
        *,
        issued: bool = False,
        before_primary: Callable[[], None] | None = None,
    ) -> Answer:
        """The entry under this name, at `at_least` or a later version; version 0 means that there is none at all.

        `issued`: the code was issued, so a cached "none" is outdated and PostgreSQL is queried; only the primary's
        "none" counts. `before_primary` is called before the primary is queried because of `at_least`, and may raise.
        Raises VersionNotReached when the primary itself stands below `at_least`, StatusUnavailable when neither memory
        nor Redis nor PostgreSQL has an answer that may be served, and Overloaded when the process is overloaded.
        """
        answer = self.recall(name, at_least)
        if answer is None:
            answer = await self._awaited(name, lambda callback: self.want(name, callback))
        while issued and answer.entry.version == 0 and answer.source != "postgres":  # repeated if the epoch has changed
            metrics.ISSUED_UNSEEN.inc()
            answer = await self._awaited(name, functools.partial(self._ask_postgres, self._new(name)))
        if answer.entry.version >= at_least:
            return answer
        if before_primary is not None:
            before_primary()
        # A load of its own, from the primary, begun now.
        lookup = self._new(name, at_least=at_least)
        lookup.best, lookup.source = answer.entry, answer.source
        answer = await self._awaited(name, functools.partial(self._ask_primary, lookup))
        if answer.entry.version >= at_least:
            return answer
        if not lookup.rounds:
            raise StatusUnavailable(version=answer.entry.version)
        if answer.entry.body:  # a removed dossier is not there at any version
            raise VersionNotReached(version=answer.entry.version)
        return answer

    async def discard(self, name: str) -> None:
        """Delete the cached entry of this name, which could not be decoded. Raises Unavailable."""
        self._memory.drop(name)
        with self._vitals.redis:
            await self._cache.forget(self._key(self._feed.epoch, name))

    # -- one lookup ------------------------------------------------------------------------------------------

    def _new(self, name: str, *, at_least: int = 0, refresh: bool = False) -> _Lookup:
        overdue_at = time.monotonic() + self._deadline
        return _Lookup(name, self._feed.epoch, overdue_at, at_least=at_least, refresh=refresh)

    def _begin(self, lookup: _Lookup) -> None:
        """Step 3 for a lookup without a servable copy in memory; on to step 4."""
        copy = self._memory.look(lookup.name)
        if copy is not None:
            lookup.best, lookup.source = Entry(copy.version, self._feed.as_of(copy), copy.body), "memory"
        lookup.needed = lookup.best.version
        if self._vitals.shedding.admits(Load.COLD):
            self._copies.enter(lookup)
        else:
            asyncio.get_running_loop().call_soon(self._fall_back, lookup, Overloaded())

    def _ask_postgres(self, lookup: _Lookup, callback: Callback) -> None:
        lookup.callers.append(callback)
        self._go_on_to_postgres(lookup)

    def _ask_primary(self, lookup: _Lookup, callback: Callback) -> None:
        lookup.callers.append(callback)
        self._primary.enter(lookup)

    async def _awaited(self, name: str, ask: Callable[[Callback], None]) -> Answer:
        with self._waits.wait("wait for an answer", name) as span:
            span.set_attribute("hoso24.shared", name in self._under_way)
            answer = await self._called_back(ask)
            span.set_attribute("hoso24.source", answer.source)
            return answer

    async def _called_back(self, ask: Callable[[Callback], None]) -> Answer:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        ask(functools.partial(_arrived, future))
        try:
            return await future
        finally:
            del future  # it holds the error, whose traceback holds this frame: a cycle

    def _found(self, lookup: _Lookup, entry: Entry, source: str) -> None:
        """Remember this copy, if it is not older than the best so far."""
        best = lookup.best
        if entry.version > best.version or (entry.version == best.version and entry.as_of >= best.as_of):
            lookup.best, lookup.source = entry, source

    def _settle(self, lookup: _Lookup, answer: "Answer | Unavailable") -> None:
        """Call back all callers with the answer."""
        if lookup.epoch != self._feed.epoch:
            self._start_over(lookup)  # its results may be from before the restore
            return
        if self._under_way.get(lookup.name) is lookup:
            del self._under_way[lookup.name]
        callers, lookup.callers = lookup.callers, []
        for callback in callers:
            _call(callback, answer)
        if lookup.latecomers:
            latecomers, lookup.latecomers = lookup.latecomers, []
            missing = isinstance(answer, Answer) and answer.entry.version == 0
            for callback in latecomers:
                if missing:
                    self.want(lookup.name, callback)
                else:
                    _call(callback, answer)

    def _start_over(self, lookup: _Lookup) -> None:
        lookup.epoch = self._feed.epoch
        lookup.best, lookup.source, lookup.rounds = _NOTHING, "memory", 0
        self._begin(lookup)

    def _answered(self, lookup: _Lookup) -> None:
        best, name = lookup.best, lookup.name
        below = best.version < lookup.needed or best.version < self._floors.of(name)
        self._settle(lookup, self._answer(name, best, lookup.source, below=below))

    def _fall_back(self, lookup: _Lookup, away: Unavailable) -> None:
        """Settle with the best copy seen, marked if it must be, else with the failure, never with "none"."""
        best, name = lookup.best, lookup.name
        age = self._vitals.clock.now() - best.as_of
        fit = best.version >= max(1, lookup.at_least) and age <= self._freshness.hard * SECOND
        if fit or self._floors.removed(name):
            self._answered(lookup)
        elif isinstance(away, Overloaded):
            self._settle(lookup, away)
        elif lookup.at_least:
            self._settle(lookup, StatusUnavailable(version=best.version))
        else:
            self._settle(lookup, StatusUnavailable())

    def _verdict(self, version: int, as_of: Micros, needed: int) -> FreshnessVerdict:
        verdict = self._freshness.judge(version, self._vitals.clock.now() - as_of)
        return FreshnessVerdict.REFRESH if version < needed and verdict in _YOUNG else verdict

    def _answer(self, name: str, entry: Entry, source: str, *, below: bool = False) -> Answer:
        """`below`: a newer version is known to exist, but could not be read."""
        if below and self._floors.removed(name):
            entry = Entry(self._floors.of(name), entry.as_of, b"")
        age = max(0, self._vitals.clock.now() - entry.as_of)
        stale = below or self._freshness.is_stale(age) or (source != "postgres" and self._vitals.unconfirmed)
        return Answer(entry, age, source, stale and entry.version > 0)

    def _refresh(self, name: str) -> None:
        """Start a refresh in the background. No request waits for it, so it is shed like a batch."""
        if name in self._under_way or not self._vitals.shedding.admits(Load.BATCH):
            return
        lookup = self._under_way[name] = self._new(name, refresh=True)
        lookup.callers.append(_count_refresh)
        self._copies.enter(lookup)

    # -- the queues ------------------------------------------------------------------------------------------

    def _queue(self, run: Callable[[list[_Lookup]], Awaitable[None]], permits: Permits) -> BatchQueue[_Lookup]:
        return BatchQueue(
            run,
            permits=permits,
            largest=NAMES_IN_A_QUERY,
            wanted=self._is_wanted,
            failed=self._gave_up,
            lateness=self._vitals.lateness,
        )

    def _is_wanted(self, lookup: _Lookup) -> bool:
        """Whether a lookup about to be sent is still within its deadline; settles it if not."""
        lookup.sent = True
        if time.monotonic() < lookup.overdue_at:
            return True
        self._fall_back(lookup, OurOwnDelay("The deadline passed in the queue."))
        return False

    def _gave_up(self, lookups: list[_Lookup], error: Exception) -> None:
        for lookup in lookups:
            self._settle(lookup, error if isinstance(error, Unavailable) else StatusUnavailable())

    async def _read_copies(self, lookups: list[_Lookup]) -> None:
        """Step 4: one MGET."""
        with self._waits.batch("read copies", lookups):
            await self._read_and_sort(lookups)

    async def _read_and_sort(self, lookups: list[_Lookup]) -> None:
        metrics.batch_size("redis").observe(len(lookups))
        asked, epoch = self._feed.mark(), self._feed.epoch
        keys = [self._key(epoch, lookup.name) for lookup in lookups]
        try:
            with self._vitals.redis:
                read = await self._cache.read(epoch, keys)
        except Unavailable:
            read = NOTHING_READ
        trusted = self._feed.trusts(asked, read.feed_at, read.stream_name)
        entries = read.entries if epoch == self._feed.epoch else ()
        for lookup, entry in itertools.zip_longest(lookups, entries):
            if entry is None or not self._copy_settles(lookup, entry, asked, epoch, trusted=trusted):
                self._go_on_to_postgres(lookup)

    def _go_on_to_postgres(self, lookup: _Lookup) -> None:
        if self._vitals.shedding.admits(Load.UNKNOWN):
            self._loads.enter(lookup)
        else:
            self._fall_back(lookup, Overloaded())

    def _copy_settles(self, lookup: _Lookup, entry: Entry, asked: Mark, epoch: int, *, trusted: bool) -> bool:
        """Settle the lookup with this copy from Redis, if it is fit; returns whether it was."""
        if entry.version == 0 and not trusted and self._feed.stream_name != b"-":
            return False  # this Redis may be older than the delivery of that dossier
        self._keep(lookup.name, entry, asked, epoch, leans=entry.leans and trusted)
        self._found(lookup, entry, "redis")
        if lookup.best is not entry:
            return False
        lookup.needed = max(lookup.needed, self._floors.of(lookup.name))
        verdict = self._verdict(entry.version, entry.as_of, lookup.needed)
        if verdict not in _YOUNG:
            return False
        due = verdict is FreshnessVerdict.SERVE_AND_REFRESH
        if due and lookup.refresh:
            return False
        self._answered(lookup)
        if due:
            self._refresh(lookup.name)
        return True

    async def _load(self, lookups: list[_Lookup]) -> None:
        """Step 5: one query to the freshest standby or the primary, then compare-and-set in Redis."""
        with self._waits.batch("load", lookups):
            await self._load_and_fill(lookups, primary=False)

    async def _load_from_primary(self, lookups: list[_Lookup]) -> None:
        """Step 6: one query to the primary, then compare-and-set in Redis."""
        with self._waits.batch("load from the primary", lookups):
            await self._load_and_fill(lookups, primary=True)

    async def _load_and_fill(self, lookups: list[_Lookup], *, primary: bool) -> None:
        metrics.batch_size("primary" if primary else "postgres").observe(len(lookups))
        asked = self._feed.mark()
        names = list(dict.fromkeys(lookup.name for lookup in lookups))
        try:
            loaded = await self._source(names, primary=primary)
            if loaded.epoch < self._feed.epoch:  # a standby that has not replicated it yet
                loaded = await self._source(names, primary=True)
            if loaded.epoch < self._feed.epoch:
                raise Unavailable("PostgreSQL is in an older epoch than this process.")
        except Unavailable as away:
            for lookup in lookups:
                self._fall_back(lookup, away)
            return
        self._feed.enter(loaded.epoch)
        entries = {name: Entry(version, loaded.as_of, body) for name, (version, body) in loaded.found.items()}
        missing = _NOTHING._replace(as_of=loaded.as_of)
        if not loaded.standby:
            entries |= {name: missing for name in names if name not in entries}
        entries = await self._winners(loaded, asked, entries)
        for name, entry in entries.items():
            self._keep(name, entry, asked, loaded.epoch, leans=entry.leans)
        for lookup in lookups:
            self._loaded(lookup, entries.get(lookup.name), missing, primary=primary)

    def _loaded(self, lookup: _Lookup, entry: Entry | None, missing: Entry, *, primary: bool) -> None:
        """Settle a lookup, or pass it on to the primary: a standby may lack the dossier or its newest version."""
        certain = entry is not None
        self._found(lookup, entry or missing, "postgres")
        lookup.needed = max(lookup.needed, self._floors.of(lookup.name))
        lookup.rounds += primary
        if (not certain or lookup.best.version < lookup.needed) and lookup.rounds < PRIMARY_ROUNDS:
            self._primary.enter(lookup)
        else:
            self._answered(lookup)

    async def _winners(self, loaded: Loaded, asked: Mark, entries: dict[str, Entry]) -> dict[str, Entry]:
        """The entries Redis holds after compare-and-set; the loaded entries if it is unreachable.

        `leans` is set for those that lean on the stream and may lean on this process's feed.
        """
        if not entries:
            return entries
        ttl, negative_ttl = self._freshness.ttl, self._freshness.negative_ttl
        values = [
            Value(self._key(loaded.epoch, name), version, as_of, body, ttl if version else negative_ttl)
            for name, (version, as_of, body, _) in entries.items()
        ]
        try:
            with self._vitals.redis:
                filled = await self._cache.fill(loaded.epoch, values, loaded.horizon)
        except Unavailable:
            metrics.FILL_SKIPS.inc()
            return entries
        trusted = self._feed.trusts(asked, filled.feed_at, filled.stream_name)
        for name, outcome in zip(list(entries), filled.outcomes, strict=True):
            if outcome is True:
                if trusted:
                    entries[name] = entries[name]._replace(leans=True)
            elif outcome is not False:
                entries[name] = self._lost_to(entries[name], outcome, trusted=trusted)
        return entries

    @staticmethod
    def _lost_to(entry: Entry, winner: Entry, *, trusted: bool) -> Entry:
        metrics.FILL_LOSSES.inc(winner.version > entry.version)
        # The same version: the later confirmation counts, whether PostgreSQL's or Redis's.
        as_of = max(winner.as_of, entry.as_of) if winner.version == entry.version else winner.as_of
        return winner._replace(as_of=as_of, leans=winner.leans and trusted)

    def _keep(self, name: str, entry: Entry, asked: Mark, epoch: int, *, leans: bool) -> None:
        """Keep an entry in memory, unless a better copy is there already."""
        if entry.version == 0 or epoch != self._feed.epoch:
            return
        if not entry.body:
            self._floors.hear_removed(name, entry.version)
        below = entry.version < self._floors.of(name)
        kept = self._memory.look(name)
        if kept is not None:
            if kept.version > entry.version:
                return
            if kept.version == entry.version and kept.trusted == self._feed.generation:
                return
        generation = 0 if below else asked.generation
        trusted = generation if leans else 0
        if kept is not None and kept.version == entry.version and kept.body == entry.body:
            # In place: the answer finished from it stays valid.
            kept.as_of = max(self._feed.as_of(kept), entry.as_of)
            kept.generation, kept.trusted = generation, trusted
        else:
            copy = Copy(entry.version, entry.as_of, entry.body, generation=generation, trusted=trusted)
            self._memory.keep(name, copy)


def _arrived(future: asyncio.Future[Answer], answer: "Answer | Unavailable") -> None:
    if future.done():
        return  # the caller was cancelled
    if isinstance(answer, Unavailable):
        future.set_exception(answer)
    else:
        future.set_result(answer)


def _call(callback: Callback, answer: "Answer | Unavailable") -> None:
    try:
        callback(answer)
    except Exception:  # one failing callback must not affect the others
        _log.exception("A lookup's callback failed")


def _count_refresh(answer: "Answer | Unavailable") -> None:
    metrics.REFRESHES.labels("unavailable" if isinstance(answer, Unavailable) else "done").inc()
