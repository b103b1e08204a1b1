"""One lookup: Redis, then Postgres, then a fill whose winner goes out; stale copies when nothing answers.

1. The code's entry is read from Redis, together with whatever else is wanted at that moment.
2. Young enough: that is the answer. Past half the soft age, a refresh begins behind it.
3. None, too old, or Redis away: it is loaded from Postgres, shared and batched.
4. What was loaded goes into Redis by compare-and-set; whatever wins there is the answer.
5. Postgres away: the old copy is the answer, marked, up to the hard age. No copy: unavailable, never
   "no such dossier".
6. "No such dossier" under a code may still be an official number: then its code is looked up the same way.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from lookup import metrics
from lookup.batching import Batcher
from lookup.cache import Cache, Entry, Value, dossier_key, number_key
from lookup.clock import DatabaseClock
from lookup.code import DossierCode
from lookup.dossier import Record
from lookup.freshness import SECOND, Freshness, Verdict
from lookup.store import Loaded, Store
from ops.breaker import Breaker
from ops.errors import Unavailable

_record = msgspec.json.Decoder(Record)


class StatusUnavailable(Unavailable):
    """Nothing that may be served is at hand and the database cannot be asked. Never means "no such dossier"."""

    code = "status_unavailable"
    title = "The status cannot be read at the moment. Please try again shortly."
    title_vi = "Hiện chưa đọc được trạng thái hồ sơ. Vui lòng thử lại sau ít phút."


@dataclass(frozen=True, slots=True)
class Answer:
    """An entry on its way out. `age` in microseconds; `source` redis or postgres."""

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


class Vitals:
    """What a process knows of the world around it: the epoch, the clock, the feed, whether Postgres answers."""

    def __init__(self, clock: DatabaseClock, postgres: Breaker, redis: Breaker) -> None:
        self.clock = clock
        self.postgres = postgres
        self.redis = redis
        self.epoch = 1
        self.feed_at = 0

    def enter(self, epoch: int) -> None:
        """Take note of an epoch somebody saw; they only ever grow."""
        if epoch > self.epoch:
            self.epoch = epoch
            self.feed_at = 0
        metrics.EPOCH.set(self.epoch)

    def saw_feed(self, at: int) -> None:
        """Take note of the feed's position read from Redis."""
        self.feed_at = at

    def feed_age(self) -> int:
        """Microseconds since the feed's last heartbeat seen here."""
        return self.clock.now() - self.feed_at


class ReadThrough:
    """Steps 1 to 5 for one kind of entry (records by code, codes by official number)."""

    def __init__(
        self,
        cache: Cache,
        load: Callable[[Sequence[str]], Awaitable[Loaded]],
        key: Callable[[int, str], str],
        vitals: Vitals,
        freshness: Freshness,
        *,
        in_flight: int = 4,
        largest_batch: int = 256,
    ) -> None:
        self._cache = cache
        self._load_from_store = load
        self._key = key
        self._vitals = vitals
        self._freshness = freshness
        self._copies = Batcher(self._read_copies, in_flight=in_flight, largest=largest_batch)
        self._loads = Batcher(self._load_and_fill, in_flight=in_flight, largest=largest_batch)
        self._refreshes: set[asyncio.Task[None]] = set()

    async def get(self, name: str, at_least: int = 0) -> Answer:
        """The entry under this name, at this version or a later one.

        Version 0 says that Postgres has none. Raises StatusUnavailable when neither Redis nor Postgres
        has an answer that may be served.
        """
        copy = await self._copy(name)
        verdict = self._verdict(copy, at_least)
        if copy is not None and verdict in (Verdict.SERVE, Verdict.SERVE_AND_REFRESH):
            if verdict is Verdict.SERVE_AND_REFRESH:
                self._refresh(name)
            return self._answer(copy, "redis", stale=self._unconfirmed())
        try:
            loaded = await self._loads.get(name)
            if loaded.version < at_least:  # a load that began before the version existed was shared; ask once more
                loaded = await self._loads.get(name)
        except Unavailable as away:
            if copy is None or verdict is Verdict.DISCARD or copy.version < max(1, at_least):
                raise StatusUnavailable from away
            return self._answer(copy, "redis", stale=self._unconfirmed())
        if loaded.version < at_least:
            raise StatusUnavailable(version=loaded.version)
        return self._answer(loaded, "postgres", stale=False)

    async def discard(self, name: str) -> None:
        """Drop the cached entry of this name, because it turned out to be of no use. Raises Unavailable."""
        with self._vitals.redis:
            await self._cache.forget(self._key(self._vitals.epoch, name))

    async def _copy(self, name: str) -> Entry | None:
        try:
            return await self._copies.get(name)
        except Unavailable:
            return None

    def _verdict(self, copy: Entry | None, at_least: int) -> Verdict:
        if copy is None:
            return Verdict.DISCARD
        verdict = self._freshness.judge(copy.version, self._vitals.clock.now() - copy.as_of)
        if copy.version < at_least and verdict is not Verdict.DISCARD:
            return Verdict.REFRESH
        return verdict

    def _answer(self, entry: Entry, source: str, *, stale: bool) -> Answer:
        age = max(0, self._vitals.clock.now() - entry.as_of)
        return Answer(entry, age, source, entry.version > 0 and (stale or self._freshness.is_stale(age)))

    def _unconfirmed(self) -> bool:
        """True when the feed has fallen silent and Postgres cannot be asked either."""
        silent = self._vitals.feed_age() > self._freshness.silent * SECOND
        return silent and self._vitals.postgres.open

    def _refresh(self, name: str) -> None:
        task = asyncio.create_task(self._refresh_quietly(name))
        self._refreshes.add(task)
        task.add_done_callback(self._refreshes.discard)

    async def _refresh_quietly(self, name: str) -> None:
        try:
            await self._loads.get(name)
        except Unavailable:
            metrics.REFRESHES.labels("unavailable").inc()  # the copy is good for the other half of its age
        else:
            metrics.REFRESHES.labels("done").inc()

    async def _read_copies(self, names: Sequence[str]) -> dict[str, Entry | Exception | None]:
        metrics.BATCH_SIZE.labels("redis").observe(len(names))
        epoch = self._vitals.epoch
        keys = {name: self._key(epoch, name) for name in names}
        with self._vitals.redis:
            read = await self._cache.read(epoch, list(keys.values()))
        self._vitals.saw_feed(read.feed_at)
        return {name: read.entries[key] for name, key in keys.items()}

    async def _load_and_fill(self, names: Sequence[str]) -> dict[str, Entry | Exception]:
        metrics.BATCH_SIZE.labels("postgres").observe(len(names))
        with self._vitals.postgres:
            loaded = await self._load_from_store(names)
        self._vitals.enter(loaded.epoch)
        entries = {name: Entry(*_versioned(loaded.found.get(name), loaded.as_of)) for name in names}
        return dict(await self._winners(loaded.epoch, entries))

    async def _winners(self, epoch: int, entries: dict[str, Entry]) -> dict[str, Entry]:
        values = [
            Value(
                self._key(epoch, name),
                entry.version,
                entry.as_of,
                entry.body,
                self._freshness.ttl if entry.version else self._freshness.negative_ttl,
            )
            for name, entry in entries.items()
        ]
        try:
            with self._vitals.redis:
                winners = await self._cache.fill(epoch, values)
        except Unavailable:
            metrics.FILL_SKIPS.inc()
            return entries
        for name, winner in zip(entries, winners, strict=True):
            if winner is not None:
                metrics.FILL_LOSSES.inc(winner.version > entries[name].version)
                # The same version, confirmed later by Postgres than by what Redis holds or the other way round.
                as_of = (
                    max(winner.as_of, entries[name].as_of) if winner.version == entries[name].version else winner.as_of
                )
                entries[name] = winner._replace(as_of=as_of)
        return entries


def _versioned(found: tuple[int, bytes] | None, as_of: int) -> tuple[int, int, bytes]:
    version, body = found or (0, b"")
    return version, as_of, body


class Reader:
    """Looks dossiers up by code or by official number."""

    def __init__(self, cache: Cache, store: Store, vitals: Vitals, freshness: Freshness, *, deadline: float) -> None:
        self._vitals = vitals
        self._dossiers = ReadThrough(cache, store.dossiers, dossier_key, vitals, freshness)
        self._numbers = ReadThrough(cache, store.numbers, number_key, vitals, freshness)
        self._deadline = deadline

    async def find(self, code: DossierCode, at_least: int = 0) -> Found | None:
        """The dossier with this code or official number, or None when there is none.

        A removed dossier is one there is not. Answers from the cache when Postgres is away (marked stale
        once its age says so) and from Postgres when the cache is. Raises StatusUnavailable when neither
        can answer, or when no version as high as `at_least` can be had, within the deadline.
        """
        with _counted() as outcome:
            try:
                async with asyncio.timeout(self._deadline):
                    answer, record = await self._decoded(code.text, at_least)
            except TimeoutError as late:
                raise StatusUnavailable from late
            outcome.answer = answer
        if record is None:
            return None
        return Found(record, answer.entry.as_of, answer.age, answer.stale, answer.source, self._vitals.epoch)

    async def _decoded(self, name: str, at_least: int) -> tuple[Answer, Record | None]:
        code, answer = await self._resolve(name, at_least)
        try:
            return answer, _decode(answer)
        except msgspec.DecodeError:
            # Another release's form, or damage: dropped, and loaded anew for this one dossier alone.
            metrics.UNREADABLE.inc()
            await self._dossiers.discard(code)
            answer = await self._dossiers.get(code, at_least)
            return answer, _decode(answer)

    async def _resolve(self, name: str, at_least: int) -> tuple[str, Answer]:
        """The answer, and the code it is kept under: the name itself, or the code behind an official number."""
        answer = await self._dossiers.get(name)
        if answer.entry.version > 0:
            return name, answer if answer.entry.version >= at_least else await self._dossiers.get(name, at_least)
        number = await self._numbers.get(name)
        if number.entry.version > 0:
            code = number.entry.body.decode()
            return code, await self._dossiers.get(code, at_least)
        if at_least:
            raise StatusUnavailable(version=0)
        return name, answer


def _decode(answer: Answer) -> Record | None:
    return _record.decode(answer.entry.body) if answer.entry.body else None


@dataclass
class _Outcome:
    answer: Answer | None = None


@contextlib.contextmanager
def _counted() -> Iterator[_Outcome]:
    """Count a lookup under exactly one pair of labels, whatever becomes of it."""
    outcome = _Outcome()
    try:
        yield outcome
    finally:
        answer = outcome.answer
        if answer is None:
            metrics.ANSWERS.labels("nowhere", "unavailable").inc()
        elif not answer.entry.body:
            metrics.ANSWERS.labels(answer.source, "missing").inc()
        else:
            metrics.ANSWERS.labels(answer.source, "stale" if answer.stale else "found").inc()
            metrics.ANSWER_AGE.observe(answer.age / SECOND)
