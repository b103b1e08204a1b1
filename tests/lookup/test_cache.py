"""The interleavings told in lookup/cache.py, each as a test against a real Valkey."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import redis.asyncio

from lookup.cache import (
    Cache,
    Change,
    Entry,
    EntryTooSmallError,
    Heard,
    StreamEnd,
    StreamMovedError,
    Value,
    dossier_key,
    feed_key,
    number_key,
    stream_key,
)
from ops.errors import Unavailable
from ops.stores.redis import Redis

KEY = dossier_key(1, "G99.01.01-261120-0001")
DAY = 86_400
SECOND = 1_000_000
NOON = 1_763_800_000 * SECOND


def value(version: int, as_of: int, body: bytes = b"body", ttl: int = DAY, key: str = KEY) -> Value:
    return Value(key, version, as_of, body + b" %d" % version if body else b"", ttl)


def beat(xid: int) -> Change:
    return Change(f"{xid}-0")


@pytest.fixture
async def cache(redis_url: str) -> AsyncIterator[Cache]:
    connection = Redis("redis", lambda: redis_url, size=4, deadline=10.0)
    yield Cache(connection)
    await connection.close()


@pytest.fixture
async def raw(redis_url: str) -> AsyncIterator[Any]:
    client: Any = redis.asyncio.Redis.from_url(redis_url, protocol=2)
    yield client
    await client.aclose()


async def entry(cache: Cache, key: str = KEY) -> Entry | None:
    (entry,) = (await cache.read(1, [key])).entries
    return entry


async def fill(cache: Cache, *values: Value, horizon: int = 1_000) -> list[Entry | bool]:
    """What became of each value; the snapshot they were loaded in saw all below the horizon."""
    return list((await cache.fill(1, values, horizon)).outcomes)


async def test_slow_fill_loses_to_a_delivery_and_gets_the_winner(cache: Cache) -> None:
    await cache.append(1, "", [Change("10-1", "c", 2)], [value(2, NOON)], None)
    (winner,) = await fill(cache, value(1, NOON - SECOND), horizon=10)
    assert isinstance(winner, Entry)
    assert (winner.version, winner.body) == (2, b"body 2")
    kept = await entry(cache)
    assert kept is not None
    assert kept.version == 2


async def test_fill_of_a_newer_version_wins(cache: Cache) -> None:
    await fill(cache, value(1, NOON))
    assert await fill(cache, value(2, NOON + SECOND)) == [False]
    kept = await entry(cache)
    assert kept == Entry(2, NOON + SECOND, b"body 2")


async def test_same_version_confirmed_later_replaces_the_earlier_confirmation(cache: Cache) -> None:
    await fill(cache, value(3, NOON))
    assert await fill(cache, value(3, NOON + SECOND)) == [False]
    (loser,) = await fill(cache, value(3, NOON))
    assert isinstance(loser, Entry)
    assert loser.as_of == NOON + SECOND


async def test_many_values_are_judged_one_by_one(cache: Cache) -> None:
    keys = [dossier_key(1, str(n)) for n in range(3)]
    await fill(cache, value(5, NOON, key=keys[1]))
    outcomes = await fill(cache, *(value(2, NOON, key=key) for key in keys))
    assert [outcome.version if isinstance(outcome, Entry) else outcome for outcome in outcomes] == [False, 5, False]


async def test_heartbeat_carries_what_leans_on_the_feed_forward(cache: Cache) -> None:
    last = await cache.append(1, "", [beat(10)], [], NOON)
    assert await fill(cache, value(1, NOON + 1), horizon=11) == [True]
    await cache.append(1, last, [beat(11)], [], NOON + 60 * SECOND)
    read = await cache.read(1, [KEY])
    assert (read.feed_at, read.stream_name) == (NOON + 60 * SECOND, b"10-0")
    assert read.entries[0] == Entry(1, NOON + 60 * SECOND, b"body 1", leans=True)


async def test_fill_after_an_eviction_is_not_carried_forward_past_a_change_it_missed(cache: Cache, raw: Any) -> None:
    """Step 4b: loaded before the change, stored after its delivery and eviction."""
    last = await cache.append(1, "", [beat(10)], [], NOON)
    loaded_at = NOON + SECOND
    last = await cache.append(
        1, last, [Change("11-1", "c", 2), beat(12)], [value(2, NOON + 2 * SECOND)], NOON + 2 * SECOND
    )
    await raw.delete(KEY)
    assert await fill(cache, value(1, loaded_at), horizon=11) == [False]
    await cache.append(1, last, [beat(13)], [], NOON + 60 * SECOND)
    kept = await entry(cache)
    assert kept is not None
    assert (kept.version, kept.as_of) == (1, loaded_at)


async def test_negative_entry_never_leans_on_the_feed_and_lives_seconds(cache: Cache, raw: Any) -> None:
    last = await cache.append(1, "", [beat(10)], [], NOON)
    assert await fill(cache, value(0, NOON + 1, body=b"", ttl=5), horizon=11) == [False]
    await cache.append(1, last, [beat(11)], [], NOON + 60 * SECOND)
    kept = await entry(cache)
    assert kept == Entry(0, NOON + 1, b"")
    assert 0 < await raw.ttl(KEY) <= 5


async def test_fill_between_two_heartbeats_does_not_lean_either(cache: Cache, raw: Any) -> None:
    """Step 4b, with the delivery after the last heartbeat and before the next: `at` alone would not tell."""
    last = await cache.append(1, "", [beat(10)], [], NOON)
    last = await cache.append(1, last, [Change("11-1", "c", 2)], [value(2, NOON + SECOND)], None)
    await raw.delete(KEY)
    assert await fill(cache, value(1, NOON + 1), horizon=11) == [False]
    await cache.append(1, last, [beat(12)], [], NOON + 60 * SECOND)
    assert await entry(cache) == Entry(1, NOON + 1, b"body 1")


async def test_fill_that_saw_all_that_was_delivered_leans(cache: Cache) -> None:
    last = await cache.append(1, "", [beat(10)], [], NOON)
    await cache.append(1, last, [Change("11-1", "other", 2)], [], None)
    assert await fill(cache, value(1, NOON + 1), horizon=12) == [True]


async def test_confirmation_that_does_not_lean_leaves_what_leans_leaning(cache: Cache) -> None:
    last = await cache.append(1, "", [beat(10)], [], NOON)
    await fill(cache, value(1, NOON + 1), horizon=11)
    last = await cache.append(1, last, [Change("20-1", "other", 2)], [], None)
    await fill(cache, value(1, NOON + 2), horizon=15)
    await cache.append(1, last, [beat(21)], [], NOON + 60 * SECOND)
    assert await entry(cache) == Entry(1, NOON + 60 * SECOND, b"body 1", leans=True)


async def test_there_is_none_is_not_stored_when_the_stream_has_gone_past_the_load(cache: Cache, raw: Any) -> None:
    """What was delivered meanwhile, and evicted again, may be the very dossier."""
    last = await cache.append(1, "", [beat(10)], [], NOON)
    await cache.append(1, last, [Change("11-1", "c", 1)], [value(1, NOON + SECOND)], None)
    await raw.delete(KEY)
    assert await fill(cache, value(0, NOON + 1, body=b"", ttl=5), horizon=11) == [False]
    assert await entry(cache) is None


async def test_delivery_replaces_a_negative_entry(cache: Cache) -> None:
    await fill(cache, value(0, NOON, body=b"", ttl=5))
    await cache.append(1, "", [Change("10-1", "c", 1)], [value(1, NOON + 1)], None)
    kept = await entry(cache)
    assert kept is not None
    assert kept.version == 1


async def test_removal_marker_outlives_a_late_fill_of_the_content(cache: Cache, raw: Any) -> None:
    await cache.append(1, "", [Change("10-1", "c", 4)], [value(4, NOON, body=b"")], None)
    (winner,) = await fill(cache, value(3, NOON - SECOND), horizon=10)
    assert isinstance(winner, Entry)
    assert (winner.version, winner.body) == (4, b"")
    assert await raw.ttl(KEY) > DAY - 60


async def test_values_of_a_lost_stream_lean_on_nothing(cache: Cache, raw: Any) -> None:
    """Step 6: the stream is gone, the values are not."""
    last = await cache.append(1, "", [beat(10)], [], NOON)
    await fill(cache, value(1, NOON + 1), horizon=11)
    await raw.delete(stream_key(1))
    with pytest.raises(StreamMovedError):
        await cache.append(1, last, [beat(20)], [], NOON + SECOND)
    await cache.append(1, "", [beat(20)], [], NOON + 60 * SECOND)
    kept = await entry(cache)
    assert kept is not None
    assert kept.as_of == NOON + 1


async def test_values_lean_on_nothing_when_the_feed_s_own_key_was_lost(cache: Cache, raw: Any) -> None:
    last = await cache.append(1, "", [beat(10)], [], NOON)
    await fill(cache, value(1, NOON + 1), horizon=11)
    await raw.delete(feed_key(1))
    await cache.append(1, last, [beat(20)], [], NOON + 60 * SECOND)
    kept = await entry(cache)
    assert kept is not None
    assert kept.as_of == NOON + 1


async def test_overtaken_relay_writes_neither_entries_nor_values(cache: Cache, raw: Any) -> None:
    """Step 7."""
    first = await cache.append(1, "", [Change("10-1", "c", 1)], [value(1, NOON)], None)
    await cache.append(1, first, [Change("11-1", "c", 2)], [value(2, NOON + SECOND)], None)
    before = await raw.xrange(stream_key(1))
    with pytest.raises(StreamMovedError) as moved:
        await cache.append(1, first, [Change("12-1", "c", 9)], [value(9, NOON)], NOON)
    assert moved.value.last == "11-1"
    assert await raw.xrange(stream_key(1)) == before
    kept = await entry(cache)
    assert kept is not None
    assert kept.version == 2


async def test_id_that_is_too_small_is_told_and_nothing_is_written(cache: Cache, raw: Any) -> None:
    last = await cache.append(1, "", [Change("10-1", "c", 1)], [], None)
    with pytest.raises(EntryTooSmallError):
        await cache.append(1, last, [Change("9-1", "c", 2)], [value(2, NOON)], NOON)
    assert await entry(cache) is None
    assert await raw.xlen(stream_key(1)) == 1


async def test_redis_that_refuses_to_write_is_away_and_no_id_is_called_too_small(fragile: Callable[..., Any]) -> None:
    _, server = fragile()
    connection = Redis("redis", lambda: server.url, size=2, deadline=10.0)
    cache = Cache(connection)
    last = await cache.append(1, "", [Change("10-1", "c", 1)], [], None)
    await connection.call("REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(Unavailable):
        await cache.append(1, last, [Change("11-1", "c", 2)], [], None)
    with pytest.raises(Unavailable):
        await cache.fill(1, [value(1, NOON)], 20)
    assert await entry(cache) is None
    await connection.close()


async def test_epochs_do_not_see_each_other(cache: Cache) -> None:
    await cache.append(1, "", [Change("10-1", "c", 1)], [value(1, NOON)], NOON)
    other = dossier_key(2, "G99.01.01-261120-0001")
    read = await cache.read(2, [other])
    assert read.entries == [None]
    assert read.feed_at == 0
    await cache.append(2, "", [beat(3)], [], NOON)
    assert await cache.epoch() == 2


async def test_bound_number_is_in_the_stream_and_points_at_its_code(cache: Cache, raw: Any) -> None:
    pointer = number_key(1, "01234/2026/99901")
    await cache.append(1, "", [Change("10-1", "c", 2, "01234/2026/99901")], [Value(pointer, 2, NOON, b"c", DAY)], None)
    ((_, fields),) = await raw.xrange(stream_key(1))
    assert fields[b"number"] == b"01234/2026/99901"
    kept = await entry(cache, pointer)
    assert kept is not None
    assert kept.body == b"c"


async def test_stream_and_feed_are_never_the_ones_evicted(cache: Cache, raw: Any) -> None:
    await cache.append(1, "", [beat(10)], [value(1, NOON)], NOON)
    assert await raw.ttl(stream_key(1)) == -1
    assert await raw.ttl(feed_key(1)) == -1
    assert await raw.ttl(KEY) > 0
    assert (await raw.config_get("maxmemory-policy"))["maxmemory-policy"] == "volatile-lru"


async def test_body_may_hold_anything(cache: Cache) -> None:
    awkward = "dòng một\ndòng hai 7 8 -\n".encode()
    await fill(cache, Value(KEY, 1, NOON, awkward, DAY))
    kept = await entry(cache)
    assert kept == Entry(1, NOON, awkward)


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"x y z\nbody", b"\xff\x00", b"1 2\n{}"])
async def test_damaged_value_spoils_only_itself_and_the_next_fill_replaces_it(
    cache: Cache, raw: Any, damage: bytes
) -> None:
    other = dossier_key(1, "other")
    await fill(cache, value(3, NOON, key=other))
    await raw.set(KEY, damage)
    read = await cache.read(1, [KEY, other])
    assert read.entries == [None, Entry(3, NOON, b"body 3")]
    outcomes = await fill(cache, value(1, NOON), value(3, NOON, key=other))
    assert outcomes == [False, Entry(3, NOON, b"body 3")]
    assert await entry(cache) == Entry(1, NOON, b"body 1")


async def test_damaged_feed_counts_as_silent(cache: Cache, raw: Any) -> None:
    await fill(cache, value(1, NOON))
    await raw.set(feed_key(1), b"what")
    read = await cache.read(1, [KEY])
    assert (read.feed_at, read.entries) == (0, [Entry(1, NOON, b"body 1")])
    await cache.append(1, "", [beat(10)], [value(2, NOON)], NOON)
    assert (await cache.read(1, [])).feed_at == NOON


async def test_follower_joins_at_the_end_and_hears_what_comes_after(cache: Cache) -> None:
    assert await cache.join(1) == StreamEnd("", 0, b"-")
    last = await cache.append(1, "", [beat(10)], [], NOON)
    end = await cache.join(1)
    assert end == StreamEnd("10-0", NOON, b"10-0")
    last = await cache.append(1, last, [Change("11-1", "c", 2, "01234/2026/99901"), beat(12)], [], NOON + SECOND)
    assert await cache.follow(1, end.last, wait=1.0) == [
        Heard("11-1", "10-0", "c", 2, "01234/2026/99901"),
        Heard("12-0", "11-1", at=NOON + SECOND, stream_name=b"10-0"),
    ]
    assert await cache.follow(1, last, wait=0.01) == []


async def test_follower_joins_at_one_moment(cache: Cache, raw: Any) -> None:
    """The stream's end and the heartbeat are read in one transaction: nothing comes between the two."""

    async def transactions() -> int:
        said = await raw.info("commandstats")
        return int(said.get("cmdstat_exec", {"calls": 0})["calls"])

    before = await transactions()
    await cache.join(1)
    assert await transactions() == before + 1


async def test_follower_of_an_empty_stream_hears_its_first_entry(cache: Cache) -> None:
    await cache.append(1, "", [beat(10)], [], NOON)
    assert await cache.follow(1, "", wait=1.0) == [Heard("10-0", "", at=NOON, stream_name=b"10-0")]
