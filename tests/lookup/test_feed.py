"""What a process may believe of its copies while it follows the stream, and when it stops believing it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from lookup import metrics
from lookup.cache import Cache, Change, Heard, StreamEnd, Value, dossier_key, stream_key
from lookup.clock import DatabaseClock
from lookup.reading.feed import REMEMBERED, Feed, Floors, Follower
from lookup.reading.freshness import SECOND, Freshness
from lookup.reading.memory import Copy, Memory
from ops.errors import Unavailable
from ops.stores.redis import Redis
from tests.clocks import Clock
from tests.house import until

CODE = "G99.01.01-261120-0001"


@pytest.fixture
def monotonic() -> Clock:
    return Clock()


@pytest.fixture
def memory() -> Memory:
    return Memory(100_000)


@pytest.fixture
def feed(monotonic: Clock, memory: Memory) -> Feed:
    clock = DatabaseClock(monotonic)
    feed = Feed(clock, memory, Freshness(soft=60, silent=5))
    feed.join(StreamEnd("10-0", clock.now(), b"10-0"))
    return feed


def now(feed: Feed) -> int:
    return feed._clock.now()


def keep(feed: Feed, memory: Memory, version: int = 1, *, leans: bool = True) -> Copy:
    generation = feed.generation
    copy = Copy(version, now(feed), b"body", generation=generation, trusted=generation if leans else 0)
    memory.keep(CODE, copy)
    return copy


def beat(feed: Feed, xid: int, prev: str, stream_name: bytes = b"10-0") -> Heard:
    return Heard(f"{xid}-0", prev, at=now(feed), stream_name=stream_name)


def test_copies_are_trusted_no_longer_than_half_the_soft_age(monotonic: Clock, memory: Memory) -> None:
    feed = Feed(DatabaseClock(monotonic), memory, Freshness(soft=3, silent=5))
    feed.join(StreamEnd("10-0", now(feed), b"10-0"))
    assert now(feed) < feed.trusted_until <= now(feed) + 1.5 * SECOND


def test_heartbeat_carries_a_copy_that_leans_forward(feed: Feed, memory: Memory, monotonic: Clock) -> None:
    leaning = keep(feed, memory)
    monotonic.now += 100
    assert now(feed) - feed.as_of(leaning) == 100 * SECOND
    feed.hear(beat(feed, 11, "10-0"))
    assert feed.as_of(leaning) == now(feed)
    assert leaning.trusted == feed.generation
    assert now(feed) < feed.trusted_until <= now(feed) + 5 * SECOND


def test_copy_that_does_not_lean_ages_by_itself(feed: Feed, memory: Memory, monotonic: Clock) -> None:
    own = keep(feed, memory, leans=False)
    monotonic.now += 100
    feed.hear(beat(feed, 11, "10-0"))
    assert now(feed) - feed.as_of(own) == 100 * SECOND


def test_change_distrusts_the_older_copy_and_leaves_it_there(feed: Feed, memory: Memory, monotonic: Clock) -> None:
    old = keep(feed, memory, 1)
    monotonic.now += 1
    feed.hear(beat(feed, 11, "10-0"))
    heard_at = now(feed)
    monotonic.now += 1
    feed.hear(Heard("12-1", "11-0", CODE, 2))
    assert memory.look(CODE) is old
    assert old.generation != feed.generation
    assert feed.as_of(old) == heard_at  # it was the truth up to there
    assert feed.floors.of(CODE) == 2


def test_change_already_known_changes_nothing(feed: Feed, memory: Memory) -> None:
    copy = keep(feed, memory, 2)
    feed.hear(Heard("11-1", "10-0", CODE, 2))
    assert copy.trusted == feed.generation


def test_bound_number_is_a_floor_of_its_own(feed: Feed) -> None:
    feed.hear(Heard("11-1", "10-0", CODE, 3, "01234/2026/99901"))
    assert feed.number_floors.of("01234/2026/99901") == 3
    assert feed.floors.of("01234/2026/99901") == 0


@pytest.mark.parametrize(
    "entry",
    [
        Heard("12-1", "11-5", "another", 2),
        Heard("12-0", "11-5", at=1, stream_name=b"10-0"),
        Heard("11-1", "", "first of a stream that was trimmed or begun anew", 2),
        Heard("11-0", "10-0", at=1, stream_name=b"9-0"),
    ],
    ids=["change after a gap", "heartbeat after a gap", "another beginning", "another stream"],
)
def test_anything_missed_is_a_new_generation(feed: Feed, memory: Memory, entry: Heard) -> None:
    copy, before = keep(feed, memory), now(feed)
    generation = feed.generation
    feed.hear(entry)
    assert feed.generation == generation + 1
    assert copy.trusted != feed.generation
    assert memory.look(CODE) is copy
    assert feed.as_of(copy) == before  # what was known of it stays known, and grows no younger
    assert feed.position == entry.id


def test_unbroken_stream_is_one_generation(feed: Feed) -> None:
    generation = feed.generation
    feed.hear(Heard("11-1", "10-0", "a", 2))
    feed.hear(Heard("11-2", "11-1", "b", 2))
    feed.hear(beat(feed, 12, "11-2"))
    assert feed.generation == generation


def test_lost_connection_ends_trust_at_once_and_joining_again_begins_anew(feed: Feed, memory: Memory) -> None:
    copy, at = keep(feed, memory), feed.at
    feed.leave()
    assert feed.trusted_until == 0
    assert copy.trusted != feed.generation
    left = feed.generation
    feed.leave()  # once is enough
    assert feed.generation == left
    feed.join(StreamEnd("10-0", at, b"10-0"))
    assert feed.generation == left + 1
    assert copy.trusted != feed.generation


@pytest.mark.parametrize(
    ("reason", "happens"),
    [
        ("join", lambda feed: feed.join(StreamEnd("10-0", feed.at, b"10-0"))),
        ("lost", lambda feed: feed.leave()),
        ("gap", lambda feed: feed.hear(Heard("12-1", "11-5", CODE, 2))),
        ("stream", lambda feed: feed.hear(Heard("11-0", "10-0", at=1, stream_name=b"9-0"))),
        ("epoch", lambda feed: feed.enter(2)),
    ],
)
def test_why_copies_are_distrusted_is_counted(feed: Feed, reason: str, happens: Callable[[Feed], None]) -> None:
    def distrusted() -> dict[str, float]:
        (counter,) = metrics.DISTRUSTS.collect()
        return {s.labels["reason"]: s.value for s in counter.samples if s.name.endswith("_total")}

    before = distrusted()
    happens(feed)
    assert {why: n - before.get(why, 0) for why, n in distrusted().items() if n != before.get(why, 0)} == {reason: 1}


def test_feed_vouches_for_its_own_copies_until_its_word_runs_out(feed: Feed, memory: Memory) -> None:
    own, other, aging = keep(feed, memory), keep(feed, memory), keep(feed, memory, leans=False)
    other.trusted -= 1
    last = feed.trusted_until - 1
    assert [feed.vouches_for(copy, last) for copy in (own, other, aging)] == [True, False, False]
    assert not feed.vouches_for(own, last + 1)


def test_reply_is_trusted_only_if_nothing_can_have_been_missed_since_the_question(feed: Feed) -> None:
    asked, at = feed.mark(), feed.at
    assert feed.trusts(asked, at, b"10-0")
    assert feed.trusts(asked, at + SECOND, b"10-0")
    assert not feed.trusts(asked, at - 1, b"10-0")  # a Redis that is behind what was heard
    assert not feed.trusts(asked, at, b"9-0")
    assert not feed.trusts(asked, at, b"-")
    feed.hear(Heard("12-1", "11-9", "a", 2))
    assert not feed.trusts(asked, at, b"10-0")


def test_feed_is_silent_once_it_has_said_nothing_for_five_seconds(feed: Feed, monotonic: Clock) -> None:
    joined = monotonic.now
    for seconds, silent in ((4.999, False), (5.001, True)):
        monotonic.now = joined + seconds
        assert feed.silent is silent
    feed.hear(beat(feed, 11, "10-0"))
    assert not feed.silent


def test_old_redis_does_not_make_the_feed_younger(feed: Feed, monotonic: Clock) -> None:
    at = feed.at
    monotonic.now += 1
    feed.join(StreamEnd("9-0", at - 30 * SECOND, b"10-0"))
    assert feed.at == at
    assert not feed.trusts(feed.mark(), at - 30 * SECOND, b"10-0")


def test_new_epoch_forgets_everything(feed: Feed, memory: Memory) -> None:
    keep(feed, memory)
    feed.hear(Heard("11-1", "10-0", CODE, 5, "01234/2026/99901"))
    feed.enter(2)
    assert (feed.epoch, feed.at, feed.position, feed.trusted_until) == (2, 0, "", 0)
    assert memory.look(CODE) is None
    assert feed.floors.of(CODE) == feed.number_floors.of("01234/2026/99901") == 0
    feed.enter(1)  # from a caller that has not heard of it yet
    assert feed.epoch == 2


def test_copy_that_had_to_go_leaves_its_version_as_a_floor_while_it_is_young(monotonic: Clock) -> None:
    memory = Memory(1000, finished=0)
    feed = Feed(DatabaseClock(monotonic), memory, Freshness(silent=5))
    memory.keep("young", Copy(7, now(feed), b"", generation=1, trusted=0))
    memory.keep("other", Copy(1, now(feed), b"x" * 600, generation=1, trusted=0))
    assert feed.floors.of("young") == 7
    monotonic.now += 6
    memory.keep("another", Copy(1, now(feed), b"x" * 600, generation=1, trusted=0))
    assert feed.floors.of("other") == 0


def test_floors_only_rise_and_are_forgotten_when_nothing_older_can_come_in(monotonic: Clock) -> None:
    floors = Floors(DatabaseClock(monotonic), lifetime=120)
    floors.hear("a", 3)
    floors.hear("a", 2)
    assert floors.of("a") == 3
    monotonic.now += 100
    floors.hear("a", 4)
    monotonic.now += 100
    floors.hear("b", 1)
    assert floors.of("a") == 4  # the note of version 3 is gone, that of version 4 is not
    monotonic.now += 121
    floors.hear("c", 1)
    assert (floors.of("a"), floors.of("b"), len(floors)) == (0, 0, 1)


@pytest.mark.parametrize("hear", [Floors.hear, Floors.hear_removed], ids=["changed", "removed"])
def test_what_is_remembered_of_codes_is_bounded_and_the_newest_of_it(
    monotonic: Clock, hear: Callable[[Floors, str, int], None]
) -> None:
    floors = Floors(DatabaseClock(monotonic), lifetime=120)
    for number in range(REMEMBERED + 1000):
        hear(floors, f"code-{number}", 7)
    assert len(floors) == REMEMBERED
    assert floors.of("code-999") == 0
    assert floors.of("code-1000") == floors.of(f"code-{REMEMBERED + 999}") == 7


def test_code_that_changes_without_end_takes_no_more_room_than_any(monotonic: Clock) -> None:
    floors = Floors(DatabaseClock(monotonic), lifetime=120)
    for version in range(1, REMEMBERED + 1000):
        floors.hear("a", version)
    assert (len(floors), floors.of("a")) == (1, REMEMBERED + 999)
    assert len(floors._ages) == REMEMBERED


def test_removal_is_remembered_when_floors_are_forgotten(monotonic: Clock) -> None:
    floors = Floors(DatabaseClock(monotonic), lifetime=120)
    floors.hear("gone", 2)
    floors.hear_removed("gone", 3)
    monotonic.now += 10_000
    floors.hear("another", 1)
    assert (floors.of("gone"), floors.removed("gone"), len(floors)) == (3, True, 2)
    assert not floors.removed("another")


def test_where_a_generation_ended_is_remembered_for_a_thousand_of_them(
    feed: Feed, memory: Memory, monotonic: Clock
) -> None:
    copy = keep(feed, memory)
    monotonic.now += 1
    feed.hear(beat(feed, 11, "10-0"))
    heard_at = feed.at
    for _ in range(1000):
        feed.join(StreamEnd("10-0", heard_at, b"10-0"))
        assert feed.as_of(copy) == heard_at
    for _ in range(1000):
        feed.join(StreamEnd("10-0", heard_at, b"10-0"))
    assert feed.as_of(copy) == copy.as_of < heard_at
    assert len(feed._ends) == 1000


# -- an epoch that is over ---------------------------------------------------------------------------------------


class Stream:
    """What a follower reads of a stream, epoch by epoch; a new epoch begins while it waits for the first's entries."""

    def __init__(self, feed: Feed, entries: list[Heard], *, while_joining: bool) -> None:
        self._feed = feed
        self._entries = entries
        self._while_joining = while_joining
        self.follows: list[int] = []
        self.followed_on = asyncio.Event()

    async def join(self, epoch: int) -> StreamEnd:
        if epoch == 1 and self._while_joining:
            self._feed.enter(2)
        return StreamEnd(f"{epoch}0-0", {1: 9, 2: 2}[epoch] * SECOND, b"%d0-0" % epoch)

    async def follow(self, epoch: int, after: str, *, wait: float, most: int = 1000) -> list[Heard]:
        self.follows.append(epoch)
        if self.follows == [1]:
            self._feed.enter(2)
            return self._entries
        self.followed_on.set()
        await asyncio.Event().wait()
        return []


@pytest.mark.parametrize(
    "entry",
    [
        Heard("11-1", "10-0", CODE, 7, "01234/2026/99901"),
        Heard("11-1", "10-0", CODE, 7, removed=True),
        Heard("11-0", "10-0", at=10**18, stream_name=b"10-0"),
    ],
    ids=["change", "removal", "heartbeat"],
)
@pytest.mark.parametrize("while_joining", [False, True], ids=["while it waits", "while it joins"])
async def test_entries_of_an_old_epoch_are_not_heard(feed: Feed, entry: Heard, *, while_joining: bool) -> None:
    """In the new one that version may never come to be, and a dossier that was removed may be there again."""
    stream = Stream(feed, [entry], while_joining=while_joining)
    following = asyncio.create_task(Follower(stream, feed).run())  # type: ignore[arg-type]
    await stream.followed_on.wait()
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert stream.follows == ([2] if while_joining else [1, 2])
    assert (feed.epoch, feed.position, feed.at, feed.stream_name) == (2, "20-0", 2 * SECOND, b"20-0")
    assert (len(feed.floors), len(feed.number_floors)) == (0, 0)


# -- following a real stream -----------------------------------------------------------------------------------


@pytest.fixture
async def cache(redis_url: str) -> AsyncIterator[Cache]:
    connection = Redis("redis", lambda: redis_url, size=4, deadline=10.0)
    yield Cache(connection)
    await connection.close()


@contextlib.asynccontextmanager
async def following(redis_url: str, feed: Feed) -> AsyncIterator[None]:
    connection = Redis("redis-feed", lambda: redis_url, size=1, deadline=10.0)
    task = asyncio.create_task(Follower(Cache(connection), feed).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await connection.close()


async def reaches(feed: Feed, position: str) -> None:
    async def there() -> bool:
        return feed.position == position

    await until(there)


async def test_follower_hears_changes_and_heartbeats(redis_url: str, cache: Cache) -> None:
    clock = DatabaseClock()
    feed = Feed(clock, Memory(1000), Freshness())
    last = await cache.append(1, "", [Change("10-0")], [], clock.now())
    async with following(redis_url, feed):
        await reaches(feed, last)
        generation = feed.generation
        changes = [Change(f"11-{n}", f"code-{n}", 2) for n in range(1, 2500)]  # more than are read at once
        last = await cache.append(1, last, changes, [], None)
        at = clock.now()
        last = await cache.append(1, last, [Change("12-0")], [], at)
        await reaches(feed, last)
        assert feed.floors.of("code-2499") == 2
        assert (feed.at, feed.stream_name, feed.generation) == (at, b"10-0", generation)


async def test_stream_that_is_gone_and_begun_anew_is_another_one(redis_url: str, cache: Cache) -> None:
    clock = DatabaseClock()
    feed = Feed(clock, Memory(1000), Freshness())
    last = await cache.append(1, "", [Change("10-0")], [], clock.now())
    async with following(redis_url, feed):
        await reaches(feed, last)
        generation = feed.generation
        await cache.forget(stream_key(1))
        await cache.append(1, "", [Change("20-0")], [], clock.now())
        await reaches(feed, "20-0")
        assert feed.generation > generation
        assert feed.stream_name == b"20-0"


async def test_follower_changes_over_to_a_new_epoch(redis_url: str, cache: Cache) -> None:
    clock = DatabaseClock()
    feed = Feed(clock, Memory(1000), Freshness())
    await cache.append(1, "", [Change("10-0")], [], clock.now())
    async with following(redis_url, feed):
        await reaches(feed, "10-0")
        feed.enter(2)
        value = Value(dossier_key(2, CODE), 1, clock.now(), b"body", 60)
        await cache.append(2, "", [Change("3-1", CODE, 1), Change("4-0")], [value], clock.now())
        await reaches(feed, "4-0")
        assert feed.stream_name == b"3-1"


async def test_follower_comes_back_after_redis_was_away(fragile: "object") -> None:
    _, valkey = fragile()  # type: ignore[operator]
    clock = DatabaseClock()
    feed = Feed(clock, Memory(1000), Freshness())
    connection = Redis("redis", lambda: valkey.url, size=4, deadline=10.0)
    cache = Cache(connection)
    try:
        await cache.append(1, "", [Change("10-0")], [], clock.now())
        async with following(valkey.url, feed):
            await reaches(feed, "10-0")
            generation = feed.generation
            valkey.kill()

            async def lost() -> bool:
                return feed.trusted_until == 0

            await until(lost)
            valkey.restart()
            await cache.append(1, "", [Change("11-0")], [], clock.now())
            await reaches(feed, "11-0")
            assert feed.generation > generation
            assert feed.trusted_until > clock.now()
    finally:
        await connection.close()


def test_new_epoch_forgets_removals_too(feed: Feed, monotonic: Clock) -> None:
    """A restored database may still have what was removed after the backup."""
    feed.hear(Heard("11-1", "10-0", CODE, 5, removed=True))
    assert feed.floors.removed(CODE)
    feed.enter(2)
    assert not feed.floors.removed(CODE)
    assert (len(feed.floors), feed.floors.of(CODE)) == (0, 0)


def test_slowest_heartbeat_is_the_latest_one_until_it_is_asked_for(feed: Feed, monotonic: Clock) -> None:
    at = now(feed)
    monotonic.now += 2
    feed.hear(Heard("11-0", "10-0", at=at, stream_name=b"10-0"))
    feed.hear(Heard("12-0", "11-0", at=now(feed), stream_name=b"10-0"))
    assert feed.slowest == 2 * SECOND


async def test_follower_leaves_a_stream_it_cannot_read_and_joins_it_again(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Away:
        async def join(self, epoch: int) -> StreamEnd:
            raise Unavailable("Redis is away.")

    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        raise asyncio.CancelledError

    monkeypatch.setattr(asyncio, "sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await Follower(cast(Cache, Away()), feed).run()
    assert (waited, feed.stream_name, feed.trusted_until) == ([0.1], b"-", 0)


async def test_follower_reads_on_from_where_it_joined_until_another_epoch_begins(feed: Feed) -> None:
    asked: list[Any] = []

    class Cached:
        async def join(self, epoch: int) -> StreamEnd:
            asked.append(epoch)
            return StreamEnd("20-0", now(feed), b"10-0")

        async def follow(self, epoch: int, after: str, *, wait: float) -> list[Heard]:
            asked.append((epoch, after, wait))
            if len(asked) == 2:
                return [Heard("21-1", "20-0", CODE, 2)]
            feed.enter(2)
            return [Heard("22-1", "21-1", CODE, 3)]

    await Follower(cast(Cache, Cached()), feed)._follow(1)
    assert asked == [1, (1, "20-0", 1.0), (1, "21-1", 1.0)]
    assert (feed.epoch, feed.position, feed.floors.of(CODE)) == (2, "", 0)
