"""Who may say that there is no such dossier, and for how long: from a copy in Redis to what leaves the process."""

import pytest

from lookup.cache import Change, Value, dossier_key
from lookup.code import parse
from lookup.dossier import pack
from lookup.lookup_key import KeyRing
from lookup.reading.freshness import SECOND
from tests.conftest import KEY_SECRETS
from tests.lookup.alone import Alone, lookup_alone

CODE = "G99.01.01-261120-0001"
API, PAGE = "/api/v1/dossiers/", "/tra-cuu/"


def taken_in(alone: Alone, *, delivered: bool) -> None:
    """The dossier is in PostgreSQL; `delivered`: in Redis too, with a heartbeat that says so."""
    alone.put(CODE)
    if delivered:
        key, now = dossier_key(1, CODE), alone.clock.tick()
        value = Value(key, 1, now, pack(alone.store.records[CODE]), 86_400)
        end = alone.redis.join(1).last
        alone.redis.append(1, end, [Change("11-1", CODE, 1), Change("12-0")], [value], now)


def join_again(alone: Alone) -> None:
    """It follows the stream from where that ends now, and has heard of nothing before."""
    alone.feed.leave()
    alone.feed.join(alone.redis.join(1))
    assert alone.feed.floors.of(CODE) == 0


@pytest.mark.parametrize("door", [API, PAGE])
async def test_none_is_repeated_for_five_seconds_and_then_looked_for_again(door: str) -> None:
    async with lookup_alone() as alone:
        assert (await alone.ask(door + CODE)).status == 404
        alone.put(CODE)
        alone.clock.at += 5 * SECOND - 1
        assert (await alone.ask(door + CODE)).status == 404
        assert alone.store.asked.count(CODE) == 1
        alone.clock.at += 1
        assert (await alone.ask(door + CODE)).status == 200


@pytest.mark.parametrize("door", [API, PAGE])
async def test_none_of_a_redis_that_is_behind_is_not_believed(door: str) -> None:
    async with lookup_alone() as alone:
        assert (await alone.ask(door + CODE)).status == 404
        behind = alone.redis.state.copy()
        taken_in(alone, delivered=True)
        join_again(alone)
        alone.redis.state = behind
        assert (await alone.ask(door + CODE)).status == 200


async def test_none_of_another_stream_is_not_believed() -> None:
    async with lookup_alone() as alone:
        assert (await alone.ask(API + CODE)).status == 404
        taken_in(alone, delivered=False)
        at, _ = alone.redis.state.feeds["feed:v1:1"]
        alone.redis.state.feeds["feed:v1:1"] = (at + SECOND, "99-0")
        assert (await alone.ask(API + CODE)).status == 200


async def test_none_is_believed_of_the_redis_that_is_followed_and_where_none_is() -> None:
    async with lookup_alone() as alone:
        assert (await alone.ask(API + CODE)).status == 404
        taken_in(alone, delivered=False)
        assert (await alone.ask(API + CODE)).status == 404
        alone.feed.leave()
        assert (await alone.ask(API + CODE)).status == 404
        assert alone.store.asked.count(CODE) == 1


async def test_none_is_not_kept_by_a_redis_that_has_had_a_delivery_since_it_was_looked_for() -> None:
    async with lookup_alone() as alone:
        alone.store.horizon = 5  # the load sees less than the stream's first entry tells of
        assert (await alone.ask(API + CODE)).status == 404
        assert alone.redis.versions() == {}
        alone.put(CODE)
        assert (await alone.ask(API + CODE)).status == 200


async def test_key_of_the_code_is_worth_more_than_a_copy_that_says_none() -> None:
    async with lookup_alone() as alone:
        assert (await alone.ask(API + CODE)).status == 404
        taken_in(alone, delivered=False)
        key = KeyRing.from_text(KEY_SECRETS).key(parse(CODE))
        assert (await alone.ask(API + CODE)).status == 404
        assert (await alone.ask(API + CODE, key=key)).status == 200
