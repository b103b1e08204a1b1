"""Processes limit together through Redis, and each by itself while Redis is away."""

import itertools
import re
from collections.abc import AsyncIterator

import pytest
from prometheus_client import REGISTRY

from lookup.cache import Cache
from lookup.reading.limits import Limits
from lookup.reading.shared_limits import SharedLimits
from ops.stores.breaker import Breaker
from ops.stores.redis import Redis
from tests.clocks import Clock

CARRIER = b"\xcb\x00\x71\x07"
DAY = "G99.01.01-261120"
KEY = b"what all lookups have"


class Process:
    """The limits of one lookup process."""

    def __init__(self, redis: Redis, clock: Clock, *, key: bytes = KEY) -> None:
        self.limits = Limits(clock)
        self.breaker = Breaker("redis", after=1)
        self._shared = SharedLimits(self.limits, Cache(redis), self.breaker, key=key)
        self.exchange = self._shared.exchange

    def is_shown(self, number: int) -> bool:
        return self.limits.disclose(hash(number), CARRIER, DAY) is None


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = Redis("redis", lambda: redis_url, size=4, deadline=5.0)
    yield client
    await client.close()


async def walk(processes: list[Process], *, each: int, rounds: int = 60) -> int:
    """How many codes a walker is shown that asks each process for so many between two exchanges."""
    numbers, seen = itertools.count(1), 0
    for _ in range(rounds):
        for process in processes:
            seen += sum(process.is_shown(next(numbers)) for _ in range(each))
        for process in processes:
            await process.exchange()
    return seen


def outcomes(outcome: str) -> float:
    return REGISTRY.get_sample_value("lookup_limits_shared_total", {"outcome": outcome}) or 0.0


async def test_six_processes_show_a_walker_no_more_than_three_times_what_one_does(redis: Redis) -> None:
    clock = Clock()
    assert 150 <= await walk([Process(redis, clock) for _ in range(6)], each=17) <= 3 * 150


async def test_new_process_learns_what_the_others_have_shown(redis: Redis) -> None:
    clock = Clock()
    assert await walk([Process(redis, clock)], each=17) == 150
    assert await walk([Process(redis, clock)], each=1) <= 15


async def keys(redis: Redis) -> list[bytes]:
    return list(await redis.call("KEYS", "*"))


async def test_redis_holds_no_address_and_no_code_and_forgets_by_itself(redis: Redis) -> None:
    await walk([Process(redis, Clock())], each=17, rounds=1)
    (key,) = await keys(redis)
    assert re.fullmatch(b"limit:v1:[0-9a-f]{16}", key)
    assert 16 * 60_000 < await redis.run(lambda client: client.pttl(key)) <= 17 * 60_000 + 1


async def test_name_is_another_with_another_key(redis: Redis) -> None:
    clock = Clock()
    await walk([Process(redis, clock), Process(redis, clock, key=b"of another installation")], each=17, rounds=1)
    assert len(await keys(redis)) == 2


async def test_without_redis_each_limits_by_itself_and_afterwards_they_agree_at_once(redis: Redis) -> None:
    clock, gone = Clock(), Redis("redis", lambda: "redis://127.0.0.1:1/0", size=1, deadline=0.5)
    alone = Process(gone, clock)
    before = outcomes("unavailable")
    assert await walk([alone], each=17, rounds=20) == 150
    assert outcomes("unavailable") == before + 20
    assert alone.breaker.open
    await gone.close()

    back = Process(redis, clock)
    back.limits = alone.limits
    back._shared._limits = alone.limits
    await back.exchange()
    other = Process(redis, clock)
    assert await walk([other], each=1) <= 15


async def test_redis_that_forbids_the_script_costs_nothing_but_the_sharing(redis: Redis) -> None:
    class Forbids(Cache):
        async def spend(self, names: object, seconds: object) -> list[float]:
            await redis.call("EVAL", "return redis.error_reply('NOPERM')", 0)
            return []

    process = Process(redis, Clock())
    process._shared._cache = Forbids(redis)
    before = outcomes("unavailable")
    assert await walk([process], each=17, rounds=20) == 150
    assert outcomes("unavailable") == before + 20
    assert not process.breaker.open
