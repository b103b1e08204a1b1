"""A small model of the world the lookup lives in: Postgres with a standby, Redis, the relay, and a network between.

Nothing here happens by itself. Every call a lookup makes waits in the network until it is told to be carried out, and
its reply until it is told to arrive, so that any order of events can be tried. Time stands still unless it is moved on.
`Redis` does what the Lua scripts of lookup/cache.py do; tests/lookup/test_world.py holds it against a real server.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from lookup import dossier
from lookup.cache import (
    Change,
    Entry,
    EntryTooSmallError,
    Filled,
    Heard,
    Read,
    StreamEnd,
    StreamMovedError,
    Value,
    dossier_key,
    feed_key,
    number_key,
    stream_key,
)
from lookup.dossier import Record
from lookup.reading.freshness import SECOND
from lookup.reading.hosts import LARGEST_LAG
from lookup.reading.store import Loaded
from ops.errors import Unavailable

T = TypeVar("T")
NOON = 1_763_800_000 * SECOND


class Clock:
    """One clock for everybody, which moves when it is told to. Whatever happens takes a microsecond."""

    def __init__(self) -> None:
        self.at = NOON

    def now(self) -> int:
        return self.at

    def tick(self) -> int:
        """The moment of the next thing that happens."""
        self.at += 1
        return self.at

    def learn(self, *_: Any, **__: Any) -> None:
        """There is nothing to learn from Postgres: it has the same clock."""


# -- Postgres ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Version:
    """A dossier at one version: what it says, and when that was committed."""

    code: str
    version: int
    committed_at: int
    timeline: int
    removed: bool = False
    number: str = ""
    xid: int = 0
    seq: int = 0
    bulk: bool = False

    @property
    def body(self) -> bytes:
        if self.removed:
            return b""
        submitted = datetime(2026, 11, 20, tzinfo=UTC)
        # The timeline of the world this version belongs to stands in a field, so that an answer tells.
        agency = f"timeline {self.timeline}"
        return dossier.pack(
            Record(code=self.code, version=self.version, status=4, service="S", agency=agency, submitted_at=submitted)
        )


@dataclass
class Commit:
    """One committed transaction: a new version, or the relay's heartbeat."""

    xid: int
    version: Version | None = None
    beat_at: int = 0


@dataclass
class Transaction:
    """One that is open: it has its xid, and no other sees what it writes."""

    xid: int
    seq: int
    code: str
    removed: bool
    number: str


@dataclass
class Snapshot:
    """What one statement sees."""

    commits: list[Commit]
    xmin: int

    @property
    def beat_at(self) -> int:
        return next((commit.beat_at for commit in reversed(self.commits) if commit.beat_at), NOON)

    def newest(self, code: str) -> Version | None:
        versions = (commit.version for commit in reversed(self.commits))
        return next((version for version in versions if version and version.code == code), None)

    def bound(self, number: str) -> Version | None:
        versions = (commit.version for commit in self.commits)
        return next((version for version in versions if version and version.number == number), None)


class Postgres:
    """A primary and a standby that follows it as far as it is told to."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.epoch = 1
        self.timeline = 1
        self.commits: list[Commit] = []
        self.open: list[Transaction] = []
        self.replayed = 0
        self.primary_away = False
        self.standby_away = False
        self._xid = 10
        self._seq = 0
        self.history: dict[str, list[Version]] = {}
        """Everything that was ever committed, in order, of all timelines."""
        self.lost: list[tuple[int, int]] = []
        """(timeline, moment): what that timeline committed after that moment is gone."""

    # what the intake does

    def begin(self, code: str, *, removed: bool = False, number: str = "") -> Transaction | None:
        """A transaction that will write the next version; None while another holds the dossier's row."""
        newest = self.primary().newest(code)
        if any(other.code == code for other in self.open) or (newest is not None and newest.removed):
            return None
        if newest is None and (removed or number):
            return None
        if number and self.primary().bound(number) is not None:
            return None
        self._xid += 1
        self._seq += 1
        transaction = Transaction(self._xid, self._seq, code, removed, number)
        self.open.append(transaction)
        return transaction

    def commit(self, transaction: Transaction, *, bulk: bool = False) -> Version:
        """The transaction's version is visible on the primary from now on."""
        self.open.remove(transaction)
        newest = self.primary().newest(transaction.code)
        version = Version(
            transaction.code,
            newest.version + 1 if newest else 1,
            self.clock.tick(),
            self.timeline,
            transaction.removed,
            transaction.number,
            transaction.xid,
            transaction.seq,
            bulk,
        )
        self.commits.append(Commit(transaction.xid, version))
        self.history.setdefault(version.code, []).append(version)
        return version

    def roll_back(self, transaction: Transaction) -> None:
        self.open.remove(transaction)

    def beat(self) -> None:
        """The relay's heartbeat, committed."""
        self._xid += 1
        self.commits.append(Commit(self._xid, beat_at=self.clock.tick()))

    # what happens to it

    def replay(self, count: int) -> None:
        """The standby receives some more."""
        self.replayed = min(len(self.commits), self.replayed + count)

    def restore(self, kept: int) -> None:
        """Go back in time to the first `kept` commits; both hosts do."""
        self.open.clear()
        moment = self.commits[kept].version or self.commits[kept].beat_at
        self.lost.append((self.timeline, moment if isinstance(moment, int) else moment.committed_at))
        del self.commits[kept:]
        self.replayed = len(self.commits)
        self._xid = max((commit.xid for commit in self.commits), default=10)
        self.timeline += 1

    def renew(self) -> None:
        """`hoso24 cache renew`."""
        self.epoch += 1

    # what is seen of it

    def primary(self) -> Snapshot:
        xmin = min((transaction.xid for transaction in self.open), default=self._xid + 1)
        return Snapshot(self.commits, xmin)

    def standby(self) -> Snapshot:
        """Sees what it has replayed; a transaction below the newest it knows, and not replayed, is still open to it."""
        commits = self.commits[: self.replayed]
        newest = max((commit.xid for commit in commits), default=10)
        known = {commit.xid for commit in commits}
        begun = {commit.xid for commit in self.commits} | {transaction.xid for transaction in self.open}
        xmin = min((xid for xid in begun if xid < newest and xid not in known), default=newest + 1)
        return Snapshot(commits, xmin)

    def load(self, names: Sequence[str], *, primary: bool, numbers: bool) -> Loaded:
        """What Store answers."""
        near = self.primary().beat_at - self.standby().beat_at <= LARGEST_LAG * SECOND
        from_standby = not primary and not self.standby_away and (near or self.primary_away)
        if not from_standby and self.primary_away:
            raise Unavailable("postgres is away")
        now = self.clock.tick()
        snapshot = self.standby() if from_standby else self.primary()
        found = {}
        for name in names:
            version = snapshot.bound(name) if numbers else snapshot.newest(name)
            if version is not None:
                found[name] = (version.version, version.code.encode() if numbers else version.body)
        as_of = snapshot.beat_at if from_standby else now
        return Loaded(as_of, self.epoch, found, snapshot.xmin, from_standby)


# -- Redis ---------------------------------------------------------------------------------------------------


@dataclass
class _Stored:
    version: int
    as_of: int
    since: str
    body: bytes
    expires_at: int


@dataclass
class _State:
    values: dict[str, _Stored] = field(default_factory=dict)
    streams: dict[str, list[Heard]] = field(default_factory=dict)
    last_ids: dict[str, tuple[int, int]] = field(default_factory=dict)
    feeds: dict[str, tuple[int, str]] = field(default_factory=dict)
    epoch: int | None = None

    def copy(self) -> "_State":
        return _State(
            dict(self.values),
            {key: list(entries) for key, entries in self.streams.items()},
            dict(self.last_ids),
            dict(self.feeds),
            self.epoch,
        )


class Redis:
    """What the scripts in lookup/cache.py do, without a server."""

    compare = True
    """Whether what is there already is compared with. False is a bug that can be planted: SET."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.away = False
        self.state = _State()

    def as_it_was(self, state: _State) -> "Redis":
        """A server that has got no further than this, beside the one there is: a replica, or a primary of before."""
        behind = Redis(self.clock)
        behind.state = state.copy()
        return behind

    def evict(self, key: str) -> None:
        self.state.values.pop(key, None)

    def keys(self) -> list[str]:
        return list(self.state.values)

    def versions(self) -> dict[str, int]:
        """Per key the version that is there now."""
        return {key: stored.version for key in self.keys() if (stored := self._stored(key)) is not None}

    def trim(self, epoch: int, kept: int) -> None:
        """Forget all but the last entries of the stream, as MAXLEN does."""
        entries = self.state.streams.get(stream_key(epoch), [])
        del entries[: max(0, len(entries) - kept)]

    def read(self, epoch: int, keys: Sequence[str]) -> Read:
        at, since = self._feed(epoch)
        return Read([self._entry(key, at, since) for key in keys], at, since.encode())

    def fill(self, epoch: int, values: Sequence[Value], horizon: int) -> Filled:
        at, since = self._feed(epoch)
        last = self._last(epoch)
        saw_all = last is None or last[0] < horizon
        leans = saw_all and last is not None and since != "-"
        outcomes: list[Entry | bool] = []
        for value in values:
            if value.version == 0 and not saw_all:
                outcomes.append(False)
                continue
            leaning = leans and value.version > 0
            winner = self._put(value, at, since, leans=leaning)
            outcomes.append(leaning if winner is None else winner)
        return Filled(outcomes, at, since.encode())

    def append(
        self, epoch: int, last: str, changes: Sequence[Change], values: Sequence[Value], heartbeat: int | None
    ) -> str:
        entries = self.state.streams.setdefault(stream_key(epoch), [])
        end = entries[-1].id if entries else ""
        if end != last:
            raise StreamMovedError(end)
        at, since = self._feed(epoch)
        if end == "" or since == "-":
            since = changes[0].id
        highest = self.state.last_ids.get(stream_key(epoch), (0, 0))
        if pair(changes[0].id) <= highest:
            raise EntryTooSmallError(changes[0].id)
        for change in changes:
            if change.code:
                entry = Heard(change.id, end, change.code, change.version, change.number, removed=change.removed)
            else:
                entry = Heard(change.id, end, at=heartbeat or 0, stream_name=since.encode() if heartbeat else b"")
            entries.append(entry)
            end = change.id
        self.state.last_ids[stream_key(epoch)] = pair(end)
        for value in values:
            self._put(value, at, since, leans=True)
        self.state.feeds[feed_key(epoch)] = (heartbeat or at, since)
        self.state.epoch = epoch
        return end

    def join(self, epoch: int) -> StreamEnd:
        entries = self.state.streams.get(stream_key(epoch), [])
        at, since = self._feed(epoch)
        return StreamEnd(entries[-1].id if entries else "", at, since.encode())

    def after(self, epoch: int, position: str) -> list[Heard]:
        """The entries a follower at this position has yet to read."""
        entries = self.state.streams.get(stream_key(epoch), [])
        return [entry for entry in entries if not position or pair(entry.id) > pair(position)]

    def _last(self, epoch: int) -> tuple[int, int] | None:
        entries = self.state.streams.get(stream_key(epoch), [])
        return pair(entries[-1].id) if entries else None

    def _feed(self, epoch: int) -> tuple[int, str]:
        return self.state.feeds.get(feed_key(epoch), (0, "-"))

    def _stored(self, key: str) -> _Stored | None:
        stored = self.state.values.get(key)
        return stored if stored is not None and stored.expires_at > self.clock.now() else None

    def _entry(self, key: str, at: int, since: str) -> Entry | None:
        stored = self._stored(key)
        if stored is None:
            return None
        leans = stored.since == since and since != "-"
        return Entry(stored.version, max(stored.as_of, at) if leans else stored.as_of, stored.body, leans)

    def _put(self, value: Value, at: int, since: str, *, leans: bool) -> Entry | None:
        stored = self._stored(value.key)
        if stored is not None and self.compare:
            leaning = stored.since == since and since != "-"
            as_of = max(stored.as_of, at) if leaning else stored.as_of
            if stored.version > value.version or (stored.version == value.version and as_of >= value.as_of):
                return self._entry(value.key, at, since)
            leans = leans or (leaning and stored.version == value.version)
        expires_at = self.clock.now() + value.ttl * SECOND
        self.state.values[value.key] = _Stored(
            value.version, value.as_of, since if leans else "-", value.body, expires_at
        )
        return None


def pair(entry_id: str) -> tuple[int, int]:
    """A stream entry's id as what it is made of: xid and seq."""
    xid, _, seq = entry_id.partition("-")
    return int(xid), int(seq)


# -- the network ---------------------------------------------------------------------------------------------


class Call(Generic[T]):
    """One call on its way: first to be carried out, then to be answered.

    `about`: the keys of a read or a fill. `copies`: of a read, the same asked of another Redis.
    """

    def __init__(
        self, what: Callable[[], T], about: Sequence[str] = (), copies: "Callable[[Redis], T] | None" = None
    ) -> None:
        self._what = what
        self.about = about
        self.copies = copies
        self.reply: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.done = False
        self._result: T | None = None
        self._error: Exception | None = None

    def carry_out(self) -> None:
        """The server does it."""
        if not self.done:
            self.done = True
            try:
                self._result = self._what()
            except Exception as error:
                self._error = error

    def carry_out_at(self, other: Redis) -> None:
        """Another Redis does it: the connection still leads there."""
        if not self.done and self.copies is not None:
            self.done = True
            self._result = self.copies(other)

    @property
    def winners(self) -> dict[str, int]:
        """Per key of a fill the version that Redis holds once it was carried out."""
        if not isinstance(self._result, Filled):
            return {}
        outcomes = zip(self.about, self._result.outcomes, strict=True)
        return {key: outcome.version for key, outcome in outcomes if isinstance(outcome, Entry)}

    def answer(self) -> None:
        """The reply arrives."""
        self.carry_out()
        if self.reply.done():
            return
        if self._error is not None:
            self.reply.set_exception(self._error)
            self.reply.exception()
        else:
            self.reply.set_result(self._result)  # type: ignore[arg-type]

    def fail(self) -> None:
        """No reply will arrive, whether or not it was carried out."""
        if not self.reply.done():
            self.reply.set_exception(Unavailable("the connection broke"))
            self.reply.exception()


class Network:
    """All calls that are on their way."""

    def __init__(self) -> None:
        self.calls: list[Call[Any]] = []

    async def send(
        self, what: Callable[[], T], about: Sequence[str] = (), copies: Callable[[Redis], T] | None = None
    ) -> T:
        call = Call(what, about, copies)
        self.calls.append(call)
        try:
            return await call.reply
        finally:
            self.calls.remove(call)


class Cache:
    """lookup.cache.Cache over the network, to the Redis of the model."""

    def __init__(self, network: Network, redis: Redis) -> None:
        self._network = network
        self._redis = redis

    async def read(self, epoch: int, keys: Sequence[str]) -> Read:
        return await self._ask(lambda: self._redis.read(epoch, keys), keys, lambda other: other.read(epoch, keys))

    async def fill(self, epoch: int, values: Sequence[Value], horizon: int) -> Filled:
        return await self._ask(lambda: self._redis.fill(epoch, values, horizon), [value.key for value in values])

    async def forget(self, key: str) -> None:
        await self._ask(lambda: self._redis.evict(key))

    async def _ask(
        self, what: Callable[[], T], about: Sequence[str] = (), copies: Callable[[Redis], T] | None = None
    ) -> T:
        def carry_out() -> T:
            if self._redis.away:
                raise Unavailable("redis is away")
            return what()

        return await self._network.send(carry_out, about, copies)


class Store:
    """lookup.reading.store.Store over the network, to the Postgres of the model."""

    def __init__(self, network: Network, postgres: Postgres) -> None:
        self._network = network
        self._postgres = postgres

    @property
    def reachable(self) -> bool:
        return not (self._postgres.primary_away and self._postgres.standby_away)

    async def dossiers(self, codes: Sequence[str], /, *, primary: bool = False) -> Loaded:
        return await self._network.send(lambda: self._postgres.load(codes, primary=primary, numbers=False))

    async def numbers(self, numbers: Sequence[str], /, *, primary: bool = False) -> Loaded:
        return await self._network.send(lambda: self._postgres.load(numbers, primary=primary, numbers=True))


# -- the relay -----------------------------------------------------------------------------------------------


class Relay:
    """A candidate that reads a batch and delivers it in two steps, so that others may come between."""

    def __init__(self, postgres: Postgres, redis: Redis, *, record_ttl: int) -> None:
        self._postgres = postgres
        self._redis = redis
        self._record_ttl = record_ttl
        self._position: str | None = None
        self._batch: tuple[str, list[Change], list[Value], int | None] | None = None
        self._epoch = 0
        self._reached = (0, 0)
        self._newest_before = 0
        self.halted = False

    def read(self, most: int) -> bool:
        """Read the next batch of the log; False when there is none."""
        postgres = self._postgres
        if postgres.primary_away or self._redis.away:
            return False
        if self._epoch != postgres.epoch:
            self._epoch, self._position = postgres.epoch, None
            self._reached, self._newest_before = (0, 0), 0
        if self._position is None and not self._resume():
            return False
        assert self._position is not None
        after = pair(self._position) if self._position else (0, 0)
        now, snapshot = postgres.clock.tick(), postgres.primary()
        rows = sorted(
            (
                (commit.xid, commit.version.seq if commit.version else 0, commit)
                for commit in snapshot.commits
                if commit.xid < snapshot.xmin and not (commit.version and commit.version.bulk)
            ),
            key=lambda row: row[:2],
        )
        # There is one heartbeat row: only the newest beat is there to be read.
        newest_beat = max((xid for xid, _, commit in rows if commit.beat_at), default=0)
        rows = [row for row in rows if row[:2] > after and (not row[2].beat_at or row[0] == newest_beat)]
        rows = [row for row in rows if not self._superseded(row[2], snapshot)][:most]
        changes, values, heartbeat = [], {}, None
        for xid, seq, commit in rows:
            version = commit.version
            if version is None:
                heartbeat = commit.beat_at
                changes.append(Change(f"{xid}-0"))
                continue
            changes.append(Change(f"{xid}-{seq}", version.code, version.version, version.number, version.removed))
            newest = snapshot.newest(version.code)
            assert newest is not None
            for value in self._values(newest, version, now):
                values[value.key] = value
        if not changes:
            return False
        self._batch = (self._position, changes, list(values.values()), heartbeat)
        return True

    def _superseded(self, commit: Commit, snapshot: Snapshot) -> bool:
        """After Redis has lost entries: whether a later event makes this one superfluous."""
        version, before = commit.version, self._newest_before
        if version is None or version.number or commit.xid >= before:
            return False
        later = [each for each in snapshot.commits if each.version and not each.version.bulk and each.xid < before]
        return any(
            each.version.code == version.code and each.version.version > version.version and each.xid > commit.xid
            for each in later
            if each.version
        )

    def _values(self, newest: Version, version: Version, now: int) -> list[Value]:
        values = [Value(dossier_key(self._epoch, newest.code), newest.version, now, newest.body, self._record_ttl)]
        if version.number:
            key = number_key(self._epoch, version.number)
            values.append(Value(key, version.version, now, version.code.encode(), self._record_ttl))
        return values

    def deliver(self) -> list[Change]:
        """Deliver the batch that was read, if it still may be; what was delivered."""
        if self._batch is None or self._redis.away:
            return []
        (last, changes, values, heartbeat), self._batch = self._batch, None
        try:
            self._position = self._redis.append(self._epoch, last, changes, values, heartbeat)
            self._reached = pair(self._position)
        except (StreamMovedError, EntryTooSmallError):
            self._position = None
            return []
        return changes

    def _resume(self) -> bool:
        last = self._redis.join(self._epoch).last
        if last:
            xid, seq = pair(last)
            known = {(c.xid, c.version.seq if c.version else 0) for c in self._postgres.commits}
            beats = [c.xid for c in self._postgres.commits if c.beat_at]
            in_log = (xid, seq) in known if seq else any(beat >= xid for beat in beats)
            self.halted = not in_log
            if not in_log:
                return False
        if not last or pair(last) < self._reached:
            snapshot = self._postgres.primary()
            self._newest_before = self.safely_past(snapshot)
        self._position = last
        return True

    def safely_past(self, snapshot: Snapshot) -> int:
        """The present heartbeat's xid, or the oldest open transaction's if that is lower."""
        return min(max((commit.xid for commit in snapshot.commits if commit.beat_at), default=0), snapshot.xmin)
