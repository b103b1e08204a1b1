"""One lookup's way through memory, Redis and PostgreSQL, step by step, in a world of stand-ins."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any, cast

import pytest
from prometheus_client import REGISTRY

from lookup.cache import Entry
from lookup.reading.feed import Mark
from lookup.reading.freshness import SECOND
from lookup.reading.memory import Copy
from lookup.reading.read_through import Answer, StatusUnavailable, VersionNotReached
from lookup.reading.shedding import Load, Overloaded, Shedding
from lookup.reading.store import Loaded
from ops.errors import Unavailable
from tests.lookup.test_sharing import CODE, Desk, turns, versions


class Shed(Shedding):
    """Refuses these loads."""

    def __init__(self, *refused: Load) -> None:
        super().__init__(lambda: 0.0)
        self.refused = refused

    def admits(self, load: Load) -> bool:
        return load not in self.refused


@pytest.fixture
async def desk() -> Desk:
    return Desk()


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def now(desk: Desk) -> int:
    return desk.feed._clock.now()


def keep(desk: Desk, version: int = 1, *, seconds: float = 0, body: bytes = b"body", trusted: int = 0) -> Copy:
    """A copy in memory, so old."""
    copy = Copy(version, now(desk) - int(seconds * SECOND), body, generation=desk.feed.generation, trusted=trusted)
    desk.memory.keep(CODE, copy)
    return copy


async def settled(desk: Desk, **options: Any) -> Answer:
    """What one who asks is told, once everything has arrived."""
    task = asyncio.create_task(desk.through.get(CODE, **options))
    await desk.everything_arrives()
    return await task


# -- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "served"), [(0, True), (20, True), (70, False), (90_000, False)])
async def test_young_copy_in_memory_is_the_answer(desk: Desk, seconds: float, served: bool) -> None:
    keep(desk, 3, seconds=seconds)
    recalled = desk.through.recall(CODE)
    assert (recalled is not None) is served
    if recalled is not None:
        assert recalled == Answer(Entry(3, recalled.entry.as_of, b"body"), int(seconds * SECOND), "memory")


@pytest.mark.parametrize(("at_least", "floor", "served"), [(0, 0, True), (3, 3, True), (4, 0, False), (0, 4, False)])
async def test_copy_below_what_is_asked_for_or_heard_of_is_not(
    desk: Desk, at_least: int, floor: int, served: bool
) -> None:
    keep(desk, 3)
    desk.feed.floors.hear(CODE, floor)
    assert (desk.through.recall(CODE, at_least) is not None) is served


async def test_copy_of_another_generation_is_not(desk: Desk) -> None:
    keep(desk, 3).generation += 1
    assert desk.through.recall(CODE) is None


async def test_copy_past_half_its_age_is_refreshed_behind_once(desk: Desk) -> None:
    desk.commit(CODE)
    keep(desk, 1, seconds=40)
    for _ in range(3):
        assert desk.through.recall(CODE) is not None
    await desk.everything_arrives()
    assert desk.asked == [[CODE]]
    assert desk.at_rest
    assert desk.through.recall(CODE) is not None
    assert desk.network.calls == []  # it is young again


@pytest.mark.parametrize(("refused", "asked"), [((), True), ((Load.BATCH,), False)])
async def test_refresh_is_shed_like_a_batch(desk: Desk, refused: tuple[Load, ...], asked: bool) -> None:
    desk.through._vitals.shedding = Shed(*refused)
    keep(desk, 1, seconds=40)
    assert desk.through.recall(CODE) is not None
    await turns()
    assert bool(desk.network.calls) is asked


# -- who asks --------------------------------------------------------------------------------------------------------


async def test_wait_is_told_with_its_source_and_whether_it_is_shared(desk: Desk) -> None:
    told: list[dict[str, Any]] = []

    class Waits:
        @contextlib.contextmanager
        def wait(self, what: str, name: str) -> Iterator[Any]:
            said: dict[str, Any] = {"what": what, "name": name}
            told.append(said)
            yield Span(said)

        @contextlib.contextmanager
        def batch(self, what: str, items: Any) -> Iterator[None]:
            yield

    class Span:
        def __init__(self, said: dict[str, Any]) -> None:
            self.set_attribute = said.__setitem__

    desk.through._waits = cast(Any, Waits())
    desk.commit(CODE)
    tasks = await desk.ask(CODE, CODE)
    await desk.everything_arrives()
    assert versions(tasks) == [1, 1]
    wait = {"what": "wait for an answer", "name": CODE, "hoso24.source": "postgres"}
    assert told == [wait | {"hoso24.shared": False}, wait | {"hoso24.shared": True}]


async def test_version_that_the_primary_has_not_reached_is_told_with_what_it_has(desk: Desk) -> None:
    desk.commit(CODE)
    called: list[str] = []
    with pytest.raises(VersionNotReached) as refusal:
        await settled(desk, at_least=2, before_primary=lambda: called.append("asked"))
    assert (refusal.value.members, called) == ({"version": 1}, ["asked"])
    desk.commit(CODE)
    assert (await settled(desk, at_least=2)).entry.version == 2


async def test_primary_is_not_asked_for_a_version_that_is_here(desk: Desk) -> None:
    keep(desk, 3)

    def never() -> None:
        raise AssertionError

    assert (await settled(desk, at_least=3, before_primary=never)).entry.version == 3


async def test_version_that_is_needed_and_no_primary_is_unavailable_with_what_there_is(desk: Desk) -> None:
    keep(desk, 3)
    desk.postgres.primary_away = True
    with pytest.raises(StatusUnavailable) as refusal:
        await settled(desk, at_least=4)
    assert refusal.value.members == {"version": 3}


@pytest.mark.parametrize(("issued", "asked"), [(True, 1), (False, 0)])
async def test_copy_that_says_there_is_none_is_not_believed_once_the_code_was_issued(
    desk: Desk, issued: bool, asked: int
) -> None:
    assert (await settled(desk)).entry.version == 0
    desk.asked.clear()
    desk.commit(CODE)
    before = value("lookup_issued_unseen_total")
    answer = await settled(desk, issued=issued)
    assert (answer.entry.version, len(desk.asked)) == (asked, asked)
    assert value("lookup_issued_unseen_total") == before + asked


async def test_discarded_entry_is_gone_from_memory_and_redis(desk: Desk) -> None:
    forgotten: list[str] = []

    async def forget(key: str) -> None:
        forgotten.append(key)

    keep(desk, 3)
    cast(Any, desk.through._cache).forget = forget
    await desk.through.discard(CODE)
    assert (desk.memory.look(CODE), forgotten) == (None, [f"dossier:v2:1:{CODE}"])


# -- what is answered ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize(
    ("source", "silent", "below", "seconds", "stale"),
    [
        ("redis", True, False, 1, True),
        ("postgres", True, False, 1, False),
        ("redis", False, False, 1, False),
        ("redis", False, True, 1, True),
        ("redis", False, False, 61, True),
        ("redis", False, False, 60, False),
    ],
)
async def test_answer_is_marked_when_it_may_not_be_the_newest_and_none_never_is(
    desk: Desk, source: str, silent: bool, below: bool, seconds: int, stale: bool, version: int
) -> None:
    desk.feed.at = now(desk) - (60 * SECOND if silent else 0)
    desk.postgres.primary_away = True
    desk.through._vitals.postgres = cast(Any, type("Away", (), {"reachable": False}))
    answer = desk.through._answer(CODE, Entry(version, now(desk) - seconds * SECOND, b""), source, below=below)
    assert (answer.age, answer.source, answer.stale) == (seconds * SECOND, source, stale and version > 0)


async def test_entry_from_the_future_has_no_negative_age(desk: Desk) -> None:
    assert desk.through._answer(CODE, Entry(1, now(desk) + SECOND, b""), "redis").age == 0


async def test_removed_dossier_that_is_older_than_its_removal_is_answered_without_content(desk: Desk) -> None:
    desk.feed.floors.hear_removed(CODE, 7)
    answer = desk.through._answer(CODE, Entry(3, 5, b"body"), "redis", below=True)
    assert answer.entry == Entry(7, 5, b"")


@pytest.mark.parametrize(
    ("version", "seconds", "at_least", "answered"),
    [(3, 0, 0, True), (3, 86_400, 0, True), (3, 86_401, 0, False), (0, 0, 0, False), (3, 0, 3, True), (3, 0, 4, False)],
)
async def test_failure_is_answered_with_a_copy_that_is_new_enough(
    desk: Desk, version: int, seconds: int, at_least: int, answered: bool
) -> None:
    told: list[Any] = []
    lookup = desk.through._new(CODE, at_least=at_least)
    lookup.callers.append(told.append)
    lookup.best = Entry(version, now(desk) - seconds * SECOND, b"body")
    desk.through._fall_back(lookup, Unavailable("It is away."))
    (answer,) = told
    assert isinstance(answer, Answer) is answered
    if at_least and not answered:
        assert answer.members == {"version": version}


@pytest.mark.parametrize("at_least", [0, 4])
async def test_overload_is_told_as_such(desk: Desk, at_least: int) -> None:
    told: list[Any] = []
    lookup = desk.through._new(CODE, at_least=at_least)
    lookup.callers.append(told.append)
    desk.through._fall_back(lookup, Overloaded())
    assert isinstance(told[0], Overloaded)


@pytest.mark.parametrize("error", [Unavailable("It is away."), ValueError("a bug")])
async def test_batch_that_fails_refuses_all_of_it(desk: Desk, error: Exception) -> None:
    told: list[Any] = []
    lookup = desk.through._new(CODE)
    lookup.callers.append(told.append)
    desk.through._gave_up([lookup], error)
    assert told[0] is error if isinstance(error, Unavailable) else isinstance(told[0], StatusUnavailable)


async def test_lookup_of_an_older_epoch_starts_over(desk: Desk) -> None:
    """Whatever it has seen may be from before the restore, and the primary may be asked three times again."""
    desk.commit(CODE)
    told: list[Any] = []
    lookup = desk.through._new(CODE)
    lookup.callers.append(told.append)
    lookup.best, lookup.source, lookup.rounds = Entry(9, now(desk), b"undone"), "redis", 2
    desk.feed.enter(2)
    desk.postgres.renew()
    desk.through._settle(lookup, Answer(lookup.best, 0, "redis"))
    assert (lookup.epoch, lookup.best.version, lookup.source, lookup.rounds, told) == (2, 0, "memory", 0, [])
    await desk.everything_arrives()
    assert [answer.entry.version for answer in told] == [1]


@pytest.mark.parametrize(
    ("best", "entry", "wins"),
    [
        ((1, 5), (2, 4), True),
        ((2, 5), (1, 9), False),
        ((2, 5), (2, 5), True),
        ((2, 5), (2, 6), True),
        ((2, 5), (2, 4), False),
    ],
)
async def test_newest_version_wins_and_of_one_version_the_latest_confirmation(
    desk: Desk, best: tuple[int, int], entry: tuple[int, int], wins: bool
) -> None:
    lookup = desk.through._new(CODE)
    lookup.best = Entry(*best, b"")
    other = Entry(*entry, b"other")
    desk.through._found(lookup, other, "redis")
    assert (lookup.best is other, lookup.source) == (wins, "redis" if wins else "memory")


# -- what is kept ----------------------------------------------------------------------------------------------------


def kept(desk: Desk, entry: Entry, *, epoch: int = 1, leans: bool = True) -> Copy | None:
    desk.through._keep(CODE, entry, Mark(desk.feed.generation, 0), epoch, leans=leans)
    return desk.memory.look(CODE)


async def test_none_and_what_is_of_another_epoch_is_not_kept(desk: Desk) -> None:
    assert kept(desk, Entry(0, 5, b"")) is None
    assert kept(desk, Entry(1, 5, b"body"), epoch=2) is None


@pytest.mark.parametrize(("leans", "floor"), [(True, 0), (False, 0), (True, 4), (False, 4)])
async def test_copy_below_its_floor_is_of_no_generation(desk: Desk, leans: bool, floor: int) -> None:
    desk.feed.floors.hear(CODE, floor)
    copy = kept(desk, Entry(3, 5, b"body"), leans=leans)
    assert copy is not None
    generation = 0 if floor else desk.feed.generation
    assert (copy.version, copy.as_of, copy.body) == (3, 5, b"body")
    assert (copy.generation, copy.trusted) == (generation, generation if leans else 0)


async def test_older_copy_replaces_no_newer_one_and_a_trusted_one_stays(desk: Desk) -> None:
    first = kept(desk, Entry(3, 5, b"body"))
    assert kept(desk, Entry(2, 9, b"older")) is first
    assert kept(desk, Entry(3, 9, b"body")) is first
    assert first is not None
    assert first.as_of == 5
    assert kept(desk, Entry(4, 9, b"newer")) is not first


async def test_confirmed_copy_stays_in_its_place_and_another_content_does_not(desk: Desk) -> None:
    """The answer finished from it stays valid."""
    first = kept(desk, Entry(3, 5, b"body"), leans=False)
    assert kept(desk, Entry(3, 9, b"body")) is first
    assert first is not None
    assert (first.as_of, first.trusted) == (9, desk.feed.generation)
    desk.feed.generation += 1
    assert kept(desk, Entry(3, 7, b"body"), leans=False) is first
    assert (first.as_of, first.generation, first.trusted) == (9, desk.feed.generation, 0)
    assert kept(desk, Entry(3, 9, b"of another time")) is not first


async def test_removal_is_remembered(desk: Desk) -> None:
    kept(desk, Entry(3, 5, b""))
    assert desk.feed.floors.removed(CODE)


async def test_fill_that_redis_did_not_take_is_counted_and_the_loaded_copy_goes_out(desk: Desk) -> None:
    desk.commit(CODE)
    before = value("lookup_fills_skipped_total")
    (task,) = await desk.ask(CODE)
    await desk.read_in_postgres()
    desk.redis.away = True
    await desk.everything_arrives()
    assert versions([task]) == [1]
    assert value("lookup_fills_skipped_total") == before + 1


@pytest.mark.parametrize(
    ("loaded", "winner", "as_of", "lost"), [((2, 9), (3, 5), 5, 1), ((3, 9), (3, 5), 9, 0), ((3, 5), (3, 9), 9, 0)]
)
@pytest.mark.parametrize(("leans", "trusted"), [(True, True), (True, False), (False, True)])
async def test_winner_is_as_of_the_later_confirmation_of_its_version(
    desk: Desk,
    loaded: tuple[int, int],
    winner: tuple[int, int],
    as_of: int,
    lost: int,
    leans: bool,
    trusted: bool,
) -> None:
    before = value("lookup_fills_lost_total")
    went = desk.through._lost_to(Entry(*loaded, b"loaded"), Entry(*winner, b"won", leans=leans), trusted=trusted)
    assert went == Entry(winner[0], as_of, b"won", leans=leans and trusted)
    assert value("lookup_fills_lost_total") == before + lost


async def test_overload_at_its_worst_reads_nothing_and_answers_what_memory_has(desk: Desk) -> None:
    desk.through._vitals.shedding = Shed(Load.COLD)
    (refused,) = await desk.ask(CODE)
    assert isinstance(refused.exception(), Overloaded)
    keep(desk, 3, seconds=70)
    (stale,) = await desk.ask(CODE)
    assert (stale.result().entry.version, stale.result().stale) == (3, True)
    assert desk.network.calls == []


async def test_overload_asks_postgres_for_nothing(desk: Desk) -> None:
    desk.through._vitals.shedding = Shed(Load.UNKNOWN)
    (refused,) = await desk.ask(CODE)
    await desk.everything_arrives()
    assert isinstance(refused.exception(), Overloaded)
    assert desk.asked == []


# -- what is read, and counted ---------------------------------------------------------------------------------------


async def test_batches_and_refreshes_are_counted_by_what_they_asked_and_what_came_of_it(desk: Desk) -> None:
    def counted() -> list[float]:
        batches = [value("lookup_batch_size_count", dependency=name) for name in ("redis", "postgres", "primary")]
        return [*batches, *(value("lookup_refreshes_total", outcome=o) for o in ("done", "unavailable"))]

    desk.commit(CODE)
    before = counted()
    await settled(desk)
    assert [b - a for a, b in zip(before, counted(), strict=True)] == [1, 1, 0, 0, 0]
    with pytest.raises(VersionNotReached):
        await settled(desk, at_least=2)
    assert counted()[2] == before[2] + 1
    for away in (False, True):
        keep(desk, 1, seconds=40)
        desk.postgres.primary_away = desk.redis.away = away
        before = counted()
        assert desk.through.recall(CODE) is not None
        await desk.everything_arrives()
        assert [b - a for a, b in zip(before, counted(), strict=True)][3:] == [not away, away]


@pytest.mark.parametrize("floor", [0, 2])
async def test_copy_in_redis_below_what_was_heard_of_meanwhile_is_loaded_again(desk: Desk, floor: int) -> None:
    desk.commit(CODE)
    assert (await settled(desk)).source == "postgres"
    desk.memory.clear()
    desk.commit(CODE)
    desk.feed.floors.hear(CODE, floor)
    answer = await settled(desk)
    assert (answer.source, answer.entry.version) == (("postgres", 2) if floor else ("redis", 1))


async def test_loaded_copy_below_what_was_heard_of_meanwhile_is_loaded_from_the_primary(desk: Desk) -> None:
    lookup = desk.through._new(CODE)
    entered: list[Any] = []
    cast(Any, desk.through._primary).enter = entered.append
    lookup.callers.append(entered.append)
    desk.feed.floors.hear(CODE, 2)
    for rounds in (1, 2):
        desk.through._loaded(lookup, Entry(1, now(desk), b"one"), Entry(0, now(desk), b""), primary=True)
        assert (lookup.rounds, entered) == (rounds, [lookup] * rounds)
    desk.through._loaded(lookup, Entry(1, now(desk), b"one"), Entry(0, now(desk), b""), primary=True)
    assert (lookup.rounds, entered[2].stale) == (3, True)


@pytest.mark.parametrize("epochs", [(1, 2), (1, 1)])
async def test_answer_of_an_older_epoch_is_asked_of_the_primary_and_never_believed(
    desk: Desk, epochs: tuple[int, int]
) -> None:
    desk.feed.enter(2)
    asked: list[bool] = []
    answers = iter(epochs)

    async def load(names: Any, /, *, primary: bool = False) -> Loaded:
        asked.append(primary)
        return Loaded(now(desk), next(answers), {CODE: (3, b"three")}, 10**9, standby=not primary)

    desk.through._source = load
    (task,) = await desk.ask(CODE)
    await desk.everything_arrives()
    assert asked == [False, True]
    if epochs[1] == 2:
        assert versions([task]) == [3]
    else:
        assert isinstance(task.exception(), StatusUnavailable)


@pytest.mark.parametrize(
    ("trusted", "outcome", "leans"), [(True, True, True), (True, False, False), (False, True, False)]
)
async def test_stored_copy_leans_on_the_feed_if_it_did_in_redis_and_the_feed_is_this_one(
    desk: Desk, trusted: bool, outcome: bool, leans: bool
) -> None:
    class Filled:
        outcomes = (outcome,)
        feed_at = 0
        stream_name = b"10-0"

    async def fill(*_: object) -> Any:
        return Filled()

    cast(Any, desk.through._cache).fill = fill
    desk.feed.stream_name = b"10-0" if trusted else b"9-0"
    loaded = Loaded(now(desk), 1, {}, 10**9, standby=False)
    won = await desk.through._winners(loaded, Mark(desk.feed.generation, 0), {CODE: Entry(3, 5, b"three")})
    assert won == {CODE: Entry(3, 5, b"three", leans=leans)}


def test_refusals_have_these_codes() -> None:
    assert [each.code for each in (StatusUnavailable, VersionNotReached)] == [
        "status_unavailable",
        "version_not_reached",
    ]


@pytest.mark.parametrize(("needed", "floor", "stale"), [(0, 0, False), (3, 3, False), (4, 0, True), (0, 4, True)])
async def test_answer_below_what_is_needed_or_heard_of_is_marked(
    desk: Desk, needed: int, floor: int, stale: bool
) -> None:
    told: list[Any] = []
    lookup = desk.through._new(CODE)
    assert (lookup.needed, lookup.at_least, lookup.refresh) == (0, 0, False)
    lookup.callers.append(told.append)
    lookup.best, lookup.needed = Entry(3, now(desk), b"three"), needed
    desk.feed.floors.hear(CODE, floor)
    desk.through._answered(lookup)
    assert [answer.stale for answer in told] == [stale]


@pytest.mark.parametrize(
    ("version", "seconds", "refresh", "stream_name", "settles"),
    [
        (3, 0, False, b"10-0", True),
        (3, 0, True, b"10-0", True),
        (3, 40, False, b"10-0", True),
        (3, 40, True, b"10-0", False),
        (3, 70, False, b"10-0", False),
        (0, 0, False, b"-", True),
        (0, 0, False, b"10-0", False),
    ],
)
async def test_copy_in_redis_settles_a_lookup_if_it_is_young_and_none_only_if_no_feed_could_know_better(
    desk: Desk, version: int, seconds: int, refresh: bool, stream_name: bytes, settles: bool
) -> None:
    told: list[Any] = []
    lookup = desk.through._new(CODE, refresh=refresh)
    lookup.callers.append(told.append)
    desk.feed.stream_name = stream_name
    entry = Entry(version, now(desk) - seconds * SECOND, b"body")
    asked = Mark(desk.feed.generation, 0)
    assert desk.through._copy_settles(lookup, entry, asked, 1, trusted=False) is settles
    assert len(told) == settles
