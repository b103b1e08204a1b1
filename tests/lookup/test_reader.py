"""The read-through: who wins, what is refreshed when, what is served while a dependency is away."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from lookup.cache import Cache, Change, Value, dossier_key
from lookup.clock import DatabaseClock
from lookup.freshness import SECOND, Freshness
from lookup.reader import ReadThrough, StatusUnavailable, Vitals
from lookup.store import Loaded
from ops.breaker import Breaker
from ops.connections import Redis
from ops.errors import Unavailable

CODE = "G99.01.01-261120-0001"


class Database:
    """Stands for the store, one floor above Postgres: what it holds, whether it answers, what it was asked."""

    def __init__(self, clock: DatabaseClock) -> None:
        self.clock = clock
        self.rows: dict[str, tuple[int, bytes]] = {}
        self.away = False
        self.lag = 0
        self.asked: list[list[str]] = []
        self.was_asked = asyncio.Event()
        self.gate: asyncio.Event | None = None

    async def load(self, names: Sequence[str]) -> Loaded:
        self.asked.append(list(names))
        self.was_asked.set()
        if self.away:
            raise Unavailable("postgres is away")
        as_of = self.clock.now() - self.lag
        found = {name: self.rows[name] for name in names if name in self.rows}
        if self.gate is not None:
            await self.gate.wait()
        return Loaded(as_of, 1, found)


@pytest.fixture
def database() -> Database:
    return Database(DatabaseClock())


@pytest.fixture
async def cache(redis_url: str) -> AsyncIterator[Cache]:
    connection = Redis("redis", lambda: redis_url, size=4, deadline=2.0)
    yield Cache(connection)
    await connection.close()


def reader(cache: Cache, database: Database, freshness: Freshness | None = None) -> ReadThrough:
    vitals = Vitals(
        database.clock, postgres=Breaker("postgres", after=2, pause=0.05), redis=Breaker("redis", after=1, pause=0.05)
    )
    return ReadThrough(cache, database.load, dossier_key, vitals, freshness or Freshness())


async def test_second_read_comes_from_the_cache(cache: Cache, database: Database) -> None:
    database.rows[CODE] = (1, b"one")
    through = reader(cache, database)
    first, second = await through.get(CODE), await through.get(CODE)
    assert (first.source, second.source) == ("postgres", "redis")
    assert first.entry.body == second.entry.body == b"one"
    assert len(database.asked) == 1


async def test_concurrent_reads_of_one_code_share_one_load(cache: Cache, database: Database) -> None:
    database.rows[CODE] = (1, b"one")
    through = reader(cache, database)
    answers = await asyncio.gather(*(through.get(CODE) for _ in range(200)))
    assert {answer.entry.body for answer in answers} == {b"one"}
    assert database.asked == [[CODE]]


async def test_distinct_codes_travel_together(cache: Cache, database: Database) -> None:
    codes = [f"code-{n}" for n in range(100)]
    database.rows = {code: (1, code.encode()) for code in codes}
    through = reader(cache, database)
    answers = await asyncio.gather(*(through.get(code) for code in codes))
    assert [answer.entry.body.decode() for answer in answers] == codes
    assert len(database.asked) < 10


async def test_winner_goes_out_and_not_the_loaded_copy(cache: Cache, database: Database) -> None:
    """Loaded slowly, while a delivery brings the next version."""
    database.rows[CODE] = (1, b"one")
    database.gate = asyncio.Event()
    through = reader(cache, database)
    reading = asyncio.create_task(through.get(CODE))
    await database.was_asked.wait()

    newer = Value(dossier_key(1, CODE), 2, database.clock.now(), b"two", 60)
    await cache.append(1, "", [Change("10-1", CODE, 2)], [newer], None)
    database.gate.set()
    answer = await reading
    assert (answer.entry.version, answer.entry.body) == (2, b"two")


async def test_copy_past_half_its_age_is_served_and_refreshed_behind(cache: Cache, database: Database) -> None:
    database.rows[CODE] = (1, b"one")
    database.lag = 40 * SECOND
    through = reader(cache, database)
    await through.get(CODE)
    database.lag = 0
    database.rows[CODE] = (2, b"two")
    answer = await through.get(CODE)
    assert (answer.entry.version, answer.stale) == (1, False)
    while (await through.get(CODE)).entry.version != 2:  # noqa: ASYNC110 - each turn asks again
        await asyncio.sleep(0)


async def test_copy_past_the_soft_age_waits_for_a_refresh(cache: Cache, database: Database) -> None:
    database.rows[CODE] = (1, b"one")
    database.lag = 70 * SECOND
    through = reader(cache, database)
    await through.get(CODE)
    database.lag = 0
    database.rows[CODE] = (2, b"two")
    assert (await through.get(CODE)).entry.version == 2


async def test_copy_past_the_soft_age_is_marked_when_nothing_newer_can_be_had(cache: Cache, database: Database) -> None:
    database.rows[CODE] = (1, b"one")
    database.lag = 70 * SECOND
    through = reader(cache, database)
    await through.get(CODE)
    database.away = True
    answer = await through.get(CODE)
    assert (answer.entry.body, answer.stale) == (b"one", True)
    assert answer.age >= 70 * SECOND


async def test_answer_of_a_standby_that_lags_is_marked(cache: Cache, database: Database) -> None:
    database.rows[CODE] = (1, b"one")
    database.lag = 70 * SECOND
    answer = await reader(cache, database).get(CODE)
    assert (answer.source, answer.stale) == ("postgres", True)


async def test_copy_past_the_hard_age_is_not_served_at_all(cache: Cache, database: Database) -> None:
    database.rows[CODE] = (1, b"one")
    through = reader(cache, database, Freshness(soft=10, hard=100))
    database.lag = 101 * SECOND
    await through.get(CODE)
    database.away = True
    with pytest.raises(StatusUnavailable):
        await through.get(CODE)


async def test_young_copy_is_marked_when_feed_and_postgres_are_both_silent(cache: Cache, database: Database) -> None:
    database.rows[CODE] = (1, b"one")
    through = reader(cache, database)
    assert not (await through.get(CODE)).stale
    database.away = True
    for n in range(2):
        with pytest.raises(StatusUnavailable):
            await through.get(f"other-{n}")
    assert (await through.get(CODE)).stale


async def test_unknown_code_is_unavailable_and_never_missing_while_postgres_is_away(
    cache: Cache, database: Database
) -> None:
    database.away = True
    with pytest.raises(StatusUnavailable):
        await reader(cache, database).get(CODE)


async def test_negative_answer_is_repeated_for_seconds_only(cache: Cache, database: Database) -> None:
    through = reader(cache, database, Freshness(negative=5))
    assert (await through.get(CODE)).entry.version == 0
    assert (await through.get(CODE)).source == "redis"
    database.rows[CODE] = (1, b"one")
    through = reader(cache, database, Freshness(negative=-1))  # as if five seconds had passed
    assert (await through.get(CODE)).entry.version == 1


async def test_at_least_loads_past_an_older_copy_and_never_settles_for_less(cache: Cache, database: Database) -> None:
    database.rows[CODE] = (1, b"one")
    through = reader(cache, database)
    await through.get(CODE)
    database.rows[CODE] = (2, b"two")
    assert (await through.get(CODE, at_least=2)).entry.version == 2
    with pytest.raises(StatusUnavailable) as short:
        await through.get(CODE, at_least=3)
    assert short.value.members == {"version": 2}
    database.away = True
    with pytest.raises(StatusUnavailable):
        await through.get(CODE, at_least=3)


async def test_at_least_does_not_settle_for_a_load_that_began_before(cache: Cache, database: Database) -> None:
    database.rows[CODE] = (1, b"one")
    database.gate = asyncio.Event()
    through = reader(cache, database)
    early = asyncio.create_task(through.get(CODE))
    await database.was_asked.wait()
    database.rows[CODE] = (2, b"two")
    late = asyncio.create_task(through.get(CODE, at_least=2))
    await asyncio.sleep(0)
    database.gate.set()
    assert (await late).entry.version == 2
    await early
