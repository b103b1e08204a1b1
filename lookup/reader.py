"""One lookup, told in the order in which it is answered.

1. Process memory has a copy that may go out as it is: that is the answer. Past half the soft age, a refresh begins
   behind it.
2. Otherwise the code's copy is read from Redis, together with whatever else is wanted at that moment. Young enough,
   and not below a version this process has seen or heard of: that is the answer.
3. Otherwise it is loaded from Postgres, shared and batched: from the freshest standby, or the primary.
4. What was loaded goes into Redis by compare-and-set; whatever wins there is the answer, and is kept in memory.
5. Below a version seen, heard of or asked for, or not to be found on a standby: the primary is asked, once more.
6. Postgres away: the best copy seen on the way is the answer, marked, up to the hard age. No copy: unavailable, never
   "no such dossier".
7. "No such dossier" under a code may still be an official number: then its code is looked up the same way.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import msgspec

from lookup import metrics
from lookup.batching import Batcher, Places
from lookup.cache import Cache, Entry, Value, dossier_key, number_key
from lookup.clock import DatabaseClock
from lookup.code import DossierCode, Scheme
from lookup.dossier import Record, unpack
from lookup.feed import Feed, Floors, Mark
from lookup.freshness import SECOND, Freshness, Verdict
from lookup.memory import Copy, Memory
from lookup.shedding import Load, Overloaded, Shedding
from lookup.store import Loaded, Store
from ops.breaker import Breaker
from ops.errors import Unavailable

REDIS_ROUND_TRIPS = 4
"""Round trips to Redis under way at once, per process."""
LARGEST_BATCH = 256
_YOUNG = (Verdict.SERVE, Verdict.SERVE_AND_REFRESH)
_NOTHING = Entry(0, 0, b"")


class StatusUnavailable(Unavailable):
    """Nothing that may be served is at hand and the database cannot be asked. Never means "no such dossier"."""

    code = "status_unavailable"
    title = "The status cannot be read at the moment. Please try again shortly."
    title_vi = "Hiện chưa đọc được trạng thái hồ sơ. Vui lòng thử lại sau ít phút."


@dataclass(frozen=True, slots=True)
class Answer:
    """An entry on its way out. `age` in microseconds; `source` memory, redis or postgres."""

    entry: Entry
    age: int
    source: str
    stale: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """A dossier and how fresh it is."""

    record: Record
    as_of: int
    age: int
    """Microseconds since this was certainly the truth."""
    stale: bool
    source: str
    epoch: int = 1
    """Versions count within an epoch: after a restore the same number may mean something else."""


@dataclass(frozen=True, slots=True)
class Missing:
    """No dossier has this code or number, or it was removed."""

    source: str


class Reachable(Protocol):
    """Whether Postgres can be asked at all, as far as is known."""

    @property
    def reachable(self) -> bool: ...


class Source(Protocol):
    """Where entries are loaded from: Store.dossiers or Store.numbers."""

    async def __call__(self, names: Sequence[str], /, *, primary: bool = False) -> Loaded: ...


class Vitals:
    """What a process knows of the world around it: the clock, the feed, who answers, how much there is to do."""

    def __init__(
        self, clock: DatabaseClock, feed: Feed, postgres: Reachable, redis: Breaker, shedding: Shedding | None = None
    ) -> None:
        self.clock = clock
        self.feed = feed
        self.postgres = postgres
        self.redis = redis
        self.shedding = shedding or Shedding()

    @property
    def unconfirmed(self) -> bool:
        """True when the feed has fallen silent and Postgres cannot be asked either."""
        return self.feed.silent and not self.postgres.reachable


class _Result(NamedTuple):
    """What a load brought. `certain` is False for what a standby does not have: it may not have arrived there yet."""

    entry: Entry
    certain: bool = True


class ReadThrough:
    """Steps 1 to 6 for one kind of entry: records by code, kept in memory, or codes by official number, which are not.

    `places` are the queries that may be under way in Postgres.
    """

    def __init__(
        self,
        cache: Cache,
        source: Source,
        key: Callable[[int, str], str],
        vitals: Vitals,
        freshness: Freshness,
        *,
        places: Places,
        floors: Floors,
        memory: Memory | None = None,
    ) -> None:
        self._cache = cache
        self._source = source
        self._key = key
        self._vitals = vitals
        self._feed = vitals.feed
        self._freshness = freshness
        self._floors = floors
        self._memory = memory if memory is not None else Memory(0)
        self._copies = Batcher(self._read_copies, places=Places(REDIS_ROUND_TRIPS), largest=LARGEST_BATCH)
        self._loads = Batcher(self._load, places=places, largest=LARGEST_BATCH)
        self._primary = Batcher(self._load_from_primary, places=places, largest=LARGEST_BATCH)
        self._refreshes: dict[str, asyncio.Task[None]] = {}
        vitals.shedding.watch(copies=self._copies, loads=self._loads)

    def recall(self, name: str, at_least: int = 0) -> Answer | None:
        """The answer out of process memory, if it may go out as it is; None where something has to be read."""
        copy = self._memory.get(name)
        if copy is None or copy.generation != self._feed.generation:
            return None
        as_of = self._feed.as_of(copy)
        verdict = self._verdict(copy.version, as_of, max(at_least, self._floors.of(name)))
        if verdict not in _YOUNG:
            return None
        if verdict is Verdict.SERVE_AND_REFRESH:
            self._refresh(name)
        return self._answer(Entry(copy.version, as_of, copy.body), "memory")

    async def get(
        self, name: str, at_least: int = 0, *, before_primary: Callable[[], Awaitable[None]] | None = None
    ) -> Answer:
        """The entry under this name, at this version or a later one; version 0 says that Postgres has none.

        `before_primary` is awaited before the primary is asked for the sake of `at_least`. Raises StatusUnavailable
        when neither memory nor Redis nor Postgres has an answer that may be served, and Overloaded when there is too
        much to do to ask for one.
        """
        recalled = self.recall(name, at_least)
        if recalled is not None:
            return recalled
        best, source = self._remembered(name), "memory"
        needed = max(at_least, self._floors.of(name), best.version)
        try:
            self._vitals.shedding.admit(Load.COLD)
            copy = await self._copy(name)
            needed = max(needed, self._floors.of(name))  # what was heard meanwhile
            if copy is not None and (copy.version, copy.as_of) >= (best.version, best.as_of):
                best, source = copy, "redis"
                verdict = self._verdict(copy.version, copy.as_of, needed)
                if verdict in _YOUNG:
                    if verdict is Verdict.SERVE_AND_REFRESH:
                        self._refresh(name)
                    return self._answer(copy, "redis")
            self._vitals.shedding.admit(Load.UNKNOWN)
            loaded = await self._loads.get(name)
            if loaded.entry.version >= best.version:
                best, source = loaded.entry, "postgres"
            needed = max(needed, self._floors.of(name))
            if best.version < needed or not loaded.certain:
                if best.version < at_least and before_primary is not None:
                    await before_primary()
                loaded = await self._primary.get(name, begun_later=True)
                if loaded.entry.version >= best.version:
                    best, source = loaded.entry, "postgres"
        except Unavailable as away:
            return self._fallback(best, source, max(1, at_least), needed, away)
        if best.version < at_least:
            raise StatusUnavailable(version=best.version)
        return self._answer(best, source, below=best.version < needed)

    async def discard(self, name: str) -> None:
        """Drop the cached entry of this name, because it turned out to be of no use. Raises Unavailable."""
        self._memory.drop(name)
        with self._vitals.redis:
            await self._cache.forget(self._key(self._feed.epoch, name))

    def _fallback(self, best: Entry, source: str, at_least: int, needed: int, away: Unavailable) -> Answer:
        """The best copy seen, marked where it has to be. A standby's word that there is none counts for seconds."""
        age = self._vitals.clock.now() - best.as_of
        if best.version == 0 and source == "postgres" and at_least <= 1 and needed == 0:
            if age <= self._freshness.negative * SECOND:
                return self._answer(best, source)
        elif best.version >= at_least and age <= self._freshness.hard * SECOND:
            return self._answer(best, source, below=best.version < needed)
        if isinstance(away, Overloaded):
            raise away
        if at_least > 1:
            raise StatusUnavailable(version=best.version) from away
        raise StatusUnavailable from away

    def _remembered(self, name: str) -> Entry:
        """The copy in memory, however old and whether or not it can be trusted."""
        copy = self._memory.look(name)
        return Entry(copy.version, self._feed.as_of(copy), copy.body) if copy is not None else _NOTHING

    async def _copy(self, name: str) -> Entry | None:
        try:
            return await self._copies.get(name)
        except Unavailable:
            return None

    def _verdict(self, version: int, as_of: int, needed: int) -> Verdict:
        verdict = self._freshness.judge(version, self._vitals.clock.now() - as_of)
        return Verdict.REFRESH if version < needed and verdict in _YOUNG else verdict

    def _answer(self, entry: Entry, source: str, *, below: bool = False) -> Answer:
        """`below`: something newer is known to exist, and could not be had."""
        age = max(0, self._vitals.clock.now() - entry.as_of)
        stale = below or self._freshness.is_stale(age) or (source != "postgres" and self._vitals.unconfirmed)
        return Answer(entry, age, source, stale and entry.version > 0)

    def _refresh(self, name: str) -> None:
        if name not in self._refreshes:
            task = self._refreshes[name] = asyncio.create_task(self._refresh_quietly(name))
            task.add_done_callback(lambda _: self._refreshes.pop(name))

    async def _refresh_quietly(self, name: str) -> None:
        try:
            self._vitals.shedding.admit(Load.BATCH)  # a refresh can wait as well as a batch can
            copy = await self._copy(name)  # another process may have refreshed it
            floor = self._floors.of(name)
            if copy is None or self._verdict(copy.version, copy.as_of, floor) is not Verdict.SERVE:
                await self._loads.get(name)
        except Unavailable:
            metrics.REFRESHES.labels("unavailable").inc()  # the copy is good for the other half of its age
        else:
            metrics.REFRESHES.labels("done").inc()

    # -- the round trips -------------------------------------------------------------------------------------

    async def _read_copies(self, names: Sequence[str]) -> dict[str, Entry | Exception | None]:
        metrics.BATCH_SIZE.labels("redis").observe(len(names))
        asked, epoch = self._feed.mark(), self._feed.epoch
        keys = {name: self._key(epoch, name) for name in names}
        with self._vitals.redis:
            read = await self._cache.read(epoch, list(keys.values()))
        trusted = self._feed.trusts(asked, read.feed_at, read.since)
        entries: dict[str, Entry | Exception | None] = {}
        for name, key in keys.items():
            entry = entries[name] = read.entries[key]
            if entry is not None:
                self._keep(name, entry, asked, epoch, leans=entry.leans and trusted)
        return entries

    async def _load(self, names: Sequence[str]) -> dict[str, _Result | Exception]:
        return await self._load_and_fill(names, primary=False)

    async def _load_from_primary(self, names: Sequence[str]) -> dict[str, _Result | Exception]:
        return await self._load_and_fill(names, primary=True)

    async def _load_and_fill(self, names: Sequence[str], *, primary: bool) -> dict[str, _Result | Exception]:
        metrics.BATCH_SIZE.labels("primary" if primary else "postgres").observe(len(names))
        asked = self._feed.mark()
        loaded = await self._source(names, primary=primary)
        self._feed.enter(loaded.epoch)
        results: dict[str, _Result | Exception] = {
            name: _Result(_NOTHING._replace(as_of=loaded.as_of), certain=not loaded.standby) for name in names
        }
        entries = {name: Entry(version, loaded.as_of, body) for name, (version, body) in loaded.found.items()}
        if not loaded.standby:
            entries |= {name: _NOTHING._replace(as_of=loaded.as_of) for name in names if name not in loaded.found}
        for name, entry in (await self._winners(loaded, asked, entries)).items():
            results[name] = _Result(entry)
            self._keep(name, entry, asked, loaded.epoch, leans=entry.leans)
        return results

    async def _winners(self, loaded: Loaded, asked: Mark, entries: dict[str, Entry]) -> dict[str, Entry]:
        """What Redis holds once these entries have been offered to it; the entries themselves if it is away.

        Those that lean on the stream, and may lean on this process's feed, say so.
        """
        if not entries:
            return entries
        freshness = self._freshness
        values = [
            Value(
                self._key(loaded.epoch, name),
                entry.version,
                entry.as_of,
                entry.body,
                freshness.ttl if entry.version else freshness.negative_ttl,
            )
            for name, entry in entries.items()
        ]
        try:
            with self._vitals.redis:
                filled = await self._cache.fill(loaded.epoch, values, loaded.horizon)
        except Unavailable:
            metrics.FILL_SKIPS.inc()
            return entries
        trusted = self._feed.trusts(asked, filled.feed_at, filled.since)
        for (name, entry), outcome in zip(list(entries.items()), filled.outcomes, strict=True):
            if isinstance(outcome, bool):
                entries[name] = entry._replace(leans=outcome and trusted)
                continue
            metrics.FILL_LOSSES.inc(outcome.version > entry.version)
            # The same version, confirmed later by Postgres than by what Redis holds or the other way round.
            as_of = max(outcome.as_of, entry.as_of) if outcome.version == entry.version else outcome.as_of
            entries[name] = outcome._replace(as_of=as_of, leans=outcome.leans and trusted)
        return entries

    def _keep(self, name: str, entry: Entry, asked: Mark, epoch: int, *, leans: bool) -> None:
        """Keep what a round trip brought in memory, unless something better is there already."""
        if entry.version == 0 or epoch != self._feed.epoch:
            return
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
            # In place: what was rendered of it is still right.
            kept.as_of = max(self._feed.as_of(kept), entry.as_of)
            kept.generation, kept.trusted = generation, trusted
        else:
            copy = Copy(entry.version, entry.as_of, entry.body, generation=generation, trusted=trusted)
            self._memory.keep(name, copy)


class Reader:
    """Looks dossiers up by code or by official number. `queries`: those under way in Postgres at the most."""

    def __init__(
        self,
        cache: Cache,
        store: Store,
        vitals: Vitals,
        freshness: Freshness,
        *,
        memory: Memory,
        queries: int,
        deadline: float,
    ) -> None:
        self.vitals = vitals
        places = Places(queries)
        self.dossiers = ReadThrough(
            cache,
            store.dossiers,
            dossier_key,
            vitals,
            freshness,
            places=places,
            floors=vitals.feed.floors,
            memory=memory,
        )
        self._numbers = ReadThrough(
            cache, store.numbers, number_key, vitals, freshness, places=places, floors=vitals.feed.number_floors
        )
        self._deadline = deadline

    async def find(
        self,
        code: DossierCode,
        at_least: int = 0,
        *,
        before_primary: Callable[[], Awaitable[None]] | None = None,
    ) -> Found | Missing:
        """The dossier with this code or official number.

        A removed dossier is one there is not. Answers from memory and Redis when Postgres is away (marked stale
        once the age says so) and from Postgres when Redis is. Raises StatusUnavailable when nobody can answer, or when
        no version as high as `at_least` can be had, within the deadline; Overloaded when there is too much to do.
        """
        try:
            async with asyncio.timeout(self._deadline):
                answer, record = await self._decoded(code, at_least, before_primary)
        except TimeoutError as late:
            raise StatusUnavailable from late
        if record is None:
            return Missing(answer.source)
        return Found(record, answer.entry.as_of, answer.age, answer.stale, answer.source, self.vitals.feed.epoch)

    async def _decoded(
        self, code: DossierCode, at_least: int, before_primary: Callable[[], Awaitable[None]] | None
    ) -> tuple[Answer, Record | None]:
        name, answer = await self._resolve(code, at_least, before_primary)
        try:
            return answer, decode(answer)
        except msgspec.DecodeError:
            # Another release's form, or damage: dropped, and loaded anew for this one dossier alone.
            metrics.UNREADABLE.inc()
            await self.dossiers.discard(name)
            answer = await self.dossiers.get(name, at_least)
            return answer, decode(answer)

    async def _resolve(
        self, code: DossierCode, at_least: int, before_primary: Callable[[], Awaitable[None]] | None
    ) -> tuple[str, Answer]:
        """The answer, and the code it is kept under: the name itself, or the code behind an official number."""
        name = code.text
        if code.scheme is not Scheme.D:  # no official number has any other form
            return name, await self.dossiers.get(name, at_least, before_primary=before_primary)
        answer = await self.dossiers.get(name)
        if answer.entry.version > 0:
            if answer.entry.version >= at_least:
                return name, answer
            return name, await self.dossiers.get(name, at_least, before_primary=before_primary)
        number = await self._numbers.get(name)
        if number.entry.version > 0:
            behind = number.entry.body.decode()
            self.vitals.feed.floors.hear(behind, number.entry.version)  # bound by an event of that version
            return behind, await self.dossiers.get(behind, at_least, before_primary=before_primary)
        if at_least:
            raise StatusUnavailable(version=0)
        return name, answer


def decode(answer: Answer) -> Record | None:
    """The record in an answer; None for a missing or removed dossier. Raises msgspec.DecodeError for another form."""
    return unpack(answer.entry.body) if answer.entry.body else None
