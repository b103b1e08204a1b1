"""The read-through: who wins, what is refreshed when, what is served while a dependency is away."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import pytest
from prometheus_client import REGISTRY

from lookup.cache import Cache, Change, Heard, StreamEnd, Value, dossier_key
from lookup.clock import DatabaseClock
from lookup.reading.batching import Permits
from lookup.reading.feed import Feed
from lookup.reading.freshness import SECOND, Freshness
from lookup.reading.memory import Memory
from lookup.reading.read_through import ReadThrough, StatusUnavailable, VersionNotReached
from lookup.reading.shedding import Load, Overloaded, Shedding
from lookup.reading.store import Loaded
from lookup.reading.vitals import Vitals
from ops.errors import Unavailable
from ops.stores.breaker import Breaker
from ops.stores.redis import Redis
from tests.house import until

CODE = "G99.01.01-261120-0001"


class Database:
    """Stands for the store, one floor above Postgres: what it holds, whether it answers, what it was asked.

    With `standby` set, that is what is read from, unless the primary is asked for.
    """

    def __init__(self, clock: DatabaseClock) -> None:
        self.clock = clock
        self.rows: dict[str, tuple[int, bytes]] = {}
        self.standby: dict[str, tuple[int, bytes]] | None = None
        self.away = False
        self.primary_away = False
        self.lag = 0
        self.horizon = 1_000
        self.asked: list[list[str]] = []
        self.asked_primary: list[list[str]] = []
        self.was_asked = asyncio.Event()
        self.gate: asyncio.Event | None = None
        self.breaker = Breaker("postgres", after=2)

    @property
    def reachable(self) -> bool:
        return not self.breaker.open

    async def load(self, names: Sequence[str], /, *, primary: bool = False) -> Loaded:
        with self.breaker:
            (self.asked_primary if primary else self.asked).append(list(names))
            self.was_asked.set()
            if self.away or (primary and self.primary_away):
                raise Unavailable("postgres is away")
            standby = self.standby is not None and not primary
            rows = self.standby if self.standby is not None and not primary else self.rows
            as_of = self.clock.now() - (0 if primary else self.lag)
            found = {name: rows[name] for name in names if name in rows}
            if self.gate is not None:
                await self.gate.wait()
            return Loaded(as_of, 1, found, self.horizon, standby)


@pytest.fixture
def database() -> Database:
    return Database(DatabaseClock())


@pytest.fixture
async def cache(redis_url: str) -> AsyncIterator[Cache]:
    connection = Redis("redis", lambda: redis_url, size=8, deadline=10.0)
    yield Cache(connection)
    await connection.close()


def reader(
    cache: Cache,
    database: Database,
    freshness: Freshness | None = None,
    *,
    memory: int = 0,
    shedding: Shedding | None = None,
) -> ReadThrough:
    freshness = freshness or Freshness()
    kept = Memory(memory)
    feed = Feed(database.clock, kept, freshness)
    shedding = shedding or Shedding(lambda: 0.0)
    vitals = Vitals(database.clock, feed, database, Breaker("redis", after=1, pause=0.05), shedding, lambda _: 0.0)
    return ReadThrough(
        cache,
        database.load,
        dossier_key,
        vitals,
        freshness,
        permits=Permits(4),
        floors=feed.floors,
        memory=kept,
    )


def unseen() -> float:
    """How many lookups with a right key found a copy that said there is none, so far."""
    return REGISTRY.get_sample_value("lookup_issued_unseen_total") or 0.0


def feed_of(through: ReadThrough) -> Feed:
    return through._feed


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
    before = batched()
    answers = await asyncio.gather(*(through.get(code) for code in codes))
    assert [answer.entry.body.decode() for answer in answers] == codes
    assert len(database.asked) < 10
    assert batched() - before == Counter(redis=100, postgres=100)


def batched() -> Counter[str]:
    """Names read so far in batches, from where."""
    return Counter(
        {
            where: int(REGISTRY.get_sample_value("lookup_batch_size_sum", {"dependency": where}) or 0)
            for where in ("redis", "postgres", "primary")
        }
    )


async def test_winner_goes_out_and_not_the_loaded_copy(cache: Cache, database: Database) -> None:
    """Loaded slowly, while a delivery brings the next version."""
    lost = REGISTRY.get_sample_value("lookup_fills_lost_total") or 0
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
    assert REGISTRY.get_sample_value("lookup_fills_lost_total") == lost + 1


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


async def test_refresh_is_counted_and_shed_like_a_batch(cache: Cache, database: Database) -> None:
    database.rows[CODE] = (1, b"one")
    database.lag = 40 * SECOND
    through = reader(cache, database, shedding=Level(Load.BATCH))
    await through.get(CODE)
    await through.get(CODE)
    assert through._under_way == {}  # shed: nothing was started
    through._vitals.shedding = Shedding(lambda: 0.0)
    before = REGISTRY.get_sample_value("lookup_refreshes_total", {"outcome": "done"}) or 0
    await through.get(CODE)

    async def counted() -> bool:
        return REGISTRY.get_sample_value("lookup_refreshes_total", {"outcome": "done"}) == before + 1

    await until(counted)


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


async def test_copy_that_says_there_is_none_is_not_believed_once_the_code_was_given_out(
    cache: Cache, database: Database
) -> None:
    through = reader(cache, database)
    before = unseen()
    assert (await through.get(CODE)).entry.version == 0  # asked too early: the copy is in Redis from now on
    database.rows[CODE] = (1, b"one")
    assert (await through.get(CODE)).source == "redis"
    answer = await through.get(CODE, issued=True)
    assert (answer.entry.version, answer.source, unseen() - before) == (1, "postgres", 1)
    assert (await through.get(CODE)).entry.version == 1  # and now no answer says that there is none


async def test_standby_that_has_it_answers_whoever_has_the_key_though_the_primary_is_away(
    cache: Cache, database: Database
) -> None:
    through = reader(cache, database)
    await through.get(CODE)
    database.standby, database.primary_away = {CODE: (1, b"one")}, True
    assert (await through.get(CODE)).source == "redis"
    assert (await through.get(CODE, issued=True)).entry.version == 1


async def test_code_that_was_given_out_and_lost_is_missing_only_by_the_primarys_word(
    cache: Cache, database: Database
) -> None:
    through = reader(cache, database)
    await through.get(CODE)
    database.standby = {}
    assert (await through.get(CODE, issued=True)).entry.version == 0
    assert database.asked_primary == [[CODE]]
    database.primary_away = True
    with pytest.raises(StatusUnavailable):
        await through.get(CODE, issued=True)


async def test_at_least_loads_past_an_older_copy_and_never_settles_for_less(cache: Cache, database: Database) -> None:
    database.rows[CODE] = (1, b"one")
    through = reader(cache, database)
    await through.get(CODE)
    database.rows[CODE] = (2, b"two")
    assert (await through.get(CODE, at_least=2)).entry.version == 2
    with pytest.raises(VersionNotReached) as short:
        await through.get(CODE, at_least=3)
    assert short.value.members == {"version": 2}
    database.away = True
    with pytest.raises(StatusUnavailable):
        await through.get(CODE, at_least=3)


async def test_removed_dossier_is_none_at_whatever_version_it_is_asked_for(cache: Cache, database: Database) -> None:
    database.rows[CODE] = (2, b"")
    through = reader(cache, database)
    for at_least in (0, 2, 3):
        assert (await through.get(CODE, at_least=at_least)).entry.body == b""


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


# -- process memory ------------------------------------------------------------------------------------------


async def follow(cache: Cache, through: ReadThrough) -> None:
    """Let the process follow the stream from here, with a heartbeat just heard."""
    await cache.append(1, "", [Change("10-0")], [], through._vitals.clock.now())
    feed_of(through).join(await cache.join(1))


async def test_second_read_comes_from_memory_and_asks_no_store(cache: Cache, database: Database) -> None:
    database.rows[CODE] = (1, b"one")
    through = reader(cache, database, memory=10_000)
    await follow(cache, through)
    assert (await through.get(CODE)).source == "postgres"
    answer = through.recall(CODE)
    assert answer is not None
    assert (answer.source, answer.entry.body, answer.stale) == ("memory", b"one", False)


async def test_change_heard_of_sends_the_next_read_on_to_redis(cache: Cache, database: Database) -> None:
    database.rows[CODE] = (1, b"one")
    through = reader(cache, database, memory=10_000)
    await follow(cache, through)
    await through.get(CODE)
    newer = Value(dossier_key(1, CODE), 2, database.clock.now(), b"two", 60)
    await cache.append(1, "10-0", [Change("11-1", CODE, 2)], [newer], None)
    feed_of(through).hear(Heard("11-1", "10-0", CODE, 2))
    assert through.recall(CODE) is None
    answer = await through.get(CODE)
    assert (answer.source, answer.entry.body) == ("redis", b"two")


async def test_load_under_way_when_the_change_is_heard_is_loaded_again_from_the_primary(
    cache: Cache, database: Database
) -> None:
    """The reply is delayed past its change message: a floor, not the message's luck, keeps version 1 out."""
    database.standby = {CODE: (1, b"one")}
    database.rows[CODE] = (2, b"two")
    database.gate = asyncio.Event()
    through = reader(cache, database, memory=10_000)
    await follow(cache, through)
    reading = asyncio.create_task(through.get(CODE))
    await database.was_asked.wait()
    feed_of(through).hear(Heard("11-1", "10-0", CODE, 2))
    database.gate.set()
    answer = await reading
    assert (answer.entry.version, answer.stale) == (2, False)
    assert database.asked_primary == [[CODE]]
    recalled = through.recall(CODE)
    assert recalled is not None
    assert recalled.entry.version == 2


async def test_below_a_floor_and_no_primary_is_marked(cache: Cache, database: Database) -> None:
    database.standby = {CODE: (1, b"one")}
    database.primary_away = True
    through = reader(cache, database, memory=10_000)
    feed_of(through).floors.hear(CODE, 2)
    answer = await through.get(CODE)
    assert (answer.entry.version, answer.stale) == (1, True)


async def test_copy_of_an_old_generation_is_verified_before_it_goes_out(cache: Cache, database: Database) -> None:
    database.rows[CODE] = (1, b"one")
    through = reader(cache, database, memory=10_000)
    await follow(cache, through)
    await through.get(CODE)
    feed_of(through).leave()
    feed_of(through).join(await cache.join(1))
    assert through.recall(CODE) is None
    assert (await through.get(CODE)).source == "redis"
    assert through.recall(CODE) is not None


async def test_distrusted_copy_is_the_answer_when_there_is_no_other(
    cache: Cache, database: Database, redis_url: str
) -> None:
    database.rows[CODE] = (1, b"one")
    through = reader(cache, database, memory=10_000)
    await follow(cache, through)
    await through.get(CODE)
    await cache.forget(dossier_key(1, CODE))
    feed_of(through).leave()
    database.away = True
    answer = await through.get(CODE)
    assert (answer.source, answer.entry.body) == ("memory", b"one")


async def test_older_copy_in_redis_does_not_take_back_what_was_seen(cache: Cache, database: Database) -> None:
    """Redis is back from an old snapshot, and the standby lags as well."""
    database.rows[CODE] = (2, b"two")
    through = reader(cache, database, memory=10_000)
    await follow(cache, through)
    await through.get(CODE)
    await cache.forget(dossier_key(1, CODE))
    await cache.fill(1, [Value(dossier_key(1, CODE), 1, database.clock.now(), b"one", 60)], 1_000)
    database.standby = {CODE: (1, b"one")}
    feed_of(through).leave()
    answer = await through.get(CODE)
    assert (answer.entry.version, answer.stale) == (2, False)
    database.primary_away = True
    assert (await through.get(CODE)).entry.version == 2


async def test_reply_of_a_redis_that_is_behind_the_feed_ages_by_itself(cache: Cache, database: Database) -> None:
    through = reader(cache, database, memory=10_000)
    now = database.clock.now()
    stored = Value(dossier_key(1, CODE), 1, now - 20 * SECOND, b"one", 60)
    await cache.append(1, "", [Change("10-1", CODE, 1), Change("11-0")], [stored], now - 10 * SECOND)
    feed_of(through).join(StreamEnd("20-0", now, b"10-1"))
    answer = await through.get(CODE)
    assert answer.entry.as_of == now - 10 * SECOND
    assert answer.age >= 10 * SECOND
    recalled = through.recall(CODE)
    assert recalled is not None
    assert recalled.age >= 10 * SECOND  # and not the age of the feed


async def test_removed_dossier_is_remembered_as_removed(cache: Cache, database: Database) -> None:
    database.rows[CODE] = (3, b"")
    through = reader(cache, database, memory=10_000)
    await follow(cache, through)
    await through.get(CODE)
    recalled = through.recall(CODE)
    assert recalled is not None
    assert (recalled.entry.version, recalled.entry.body) == (3, b"")


async def test_negative_answer_is_not_kept_in_memory(cache: Cache, database: Database) -> None:
    through = reader(cache, database, memory=10_000)
    await follow(cache, through)
    assert (await through.get(CODE)).entry.version == 0
    assert through.recall(CODE) is None


# -- standbys ------------------------------------------------------------------------------------------------


async def test_missing_on_a_standby_is_confirmed_by_the_primary(cache: Cache, database: Database) -> None:
    database.standby = {}
    database.rows[CODE] = (1, b"one")
    answer = await reader(cache, database).get(CODE)
    assert answer.entry.version == 1
    assert database.asked_primary == [[CODE]]


async def test_missing_on_both_is_missing(cache: Cache, database: Database) -> None:
    database.standby = {}
    through = reader(cache, database)
    assert (await through.get(CODE)).entry.version == 0
    assert (await through.get(CODE)).source == "redis"


async def test_without_a_primary_no_answer_says_that_there_is_none(cache: Cache, database: Database) -> None:
    """A standby cannot know what was delivered a moment ago, and a false 404 is worse than a 503."""
    database.standby = {}
    database.primary_away = True
    through = reader(cache, database)
    with pytest.raises(StatusUnavailable):
        await through.get(CODE)
    assert (await cache.read(1, [dossier_key(1, CODE)])).entries == [None]  # no other process is told


async def test_at_least_that_a_standby_has_not_got_comes_from_the_primary(cache: Cache, database: Database) -> None:
    database.standby = {CODE: (1, b"one")}
    database.rows[CODE] = (2, b"two")
    tolls: list[str] = []

    def toll() -> None:
        tolls.append("paid")

    through = reader(cache, database)
    assert (await through.get(CODE, at_least=2, before_primary=toll)).entry.version == 2
    assert (await through.get(CODE, at_least=2, before_primary=toll)).source == "redis"
    assert tolls == ["paid"]


# -- too much to do ------------------------------------------------------------------------------------------


class Level(Shedding):
    """A shedding that is told how bad it is."""

    def __init__(self, level: Load) -> None:
        super().__init__(lambda: 0.0)
        self._fixed = level

    @property
    def level(self) -> int:
        return self._fixed


async def test_overload_sheds_unknown_codes_and_answers_what_redis_has(cache: Cache, database: Database) -> None:
    database.rows = {CODE: (1, b"one"), "other": (1, b"other")}
    await reader(cache, database).get(CODE)
    through = reader(cache, database, shedding=Level(Load.UNKNOWN))
    assert (await through.get(CODE)).source == "redis"
    with pytest.raises(Overloaded):
        await through.get("other")
    assert database.asked == [[CODE]]


async def test_overload_sheds_whoever_has_the_key_of_what_a_copy_says_there_is_not(
    cache: Cache, database: Database
) -> None:
    await reader(cache, database).get(CODE)
    database.rows[CODE] = (1, b"one")
    with pytest.raises(Overloaded):
        await reader(cache, database, shedding=Level(Load.UNKNOWN)).get(CODE, issued=True)


async def test_overload_at_its_worst_answers_what_memory_has_and_marks_it_if_need_be(
    cache: Cache, database: Database
) -> None:
    database.rows[CODE] = (1, b"one")
    through = reader(cache, database, memory=10_000)
    await follow(cache, through)
    await through.get(CODE)
    through._vitals.shedding = Level(Load.COLD)
    assert (await through.get(CODE)).source == "memory"
    feed_of(through).floors.hear(CODE, 2)  # something newer exists, and is too much to ask for now
    answer = await through.get(CODE)
    assert (answer.source, answer.stale) == ("memory", True)
    with pytest.raises(Overloaded):
        await through.get("other")


async def test_copies_fall_due_together_and_are_refreshed_once(cache: Cache, database: Database) -> None:
    database.rows[CODE] = (1, b"one")
    database.lag = 40 * SECOND
    through = reader(cache, database, memory=10_000)
    await through.get(CODE)
    database.lag = 0
    for _ in range(50):
        assert through.recall(CODE) is not None
    while through._under_way:  # noqa: ASYNC110 - it ends by itself
        await asyncio.sleep(0)
    assert len(database.asked) == 2
