"""What a process makes of the copies it has and reads: how old they are, and what it may answer with them."""

import pytest

from lookup import metrics
from lookup.cache import Heard, Value, dossier_key
from lookup.dossier import pack
from lookup.reading.freshness import SECOND
from lookup.reading.memory import Copy
from tests.lookup.alone import lookup_alone
from tests.lookup.test_sharing import CODE, Desk, turns, versions


def kept(desk: Desk) -> Copy:
    copy = desk.memory.look(CODE)
    assert copy is not None
    return copy


async def test_copy_that_postgres_confirms_is_as_young_as_that() -> None:
    desk = Desk()
    desk.commit(CODE)
    await desk.ask(CODE)
    await desk.everything_arrives()
    before, body = kept(desk), kept(desk).body
    desk.feed.leave()
    desk.feed.generation += 1  # it may have missed something
    desk.redis.evict(dossier_key(1, CODE))
    desk.postgres.clock.at += 10 * SECOND
    asked_at = desk.postgres.clock.now()
    tasks = await desk.ask(CODE)
    await desk.everything_arrives()
    assert versions(tasks) == [1]
    assert kept(desk) is before
    assert kept(desk).body == body
    assert kept(desk).as_of >= asked_at


async def test_copy_grows_no_older_by_an_older_reading_of_the_same_version() -> None:
    desk = Desk()
    desk.commit(CODE)
    await desk.ask(CODE)
    await desk.everything_arrives()
    before = kept(desk)
    key, as_of = dossier_key(1, CODE), before.as_of
    desk.redis.evict(key)
    desk.redis.fill(1, [Value(key, 1, as_of - 10 * SECOND, before.body, 86_400)], 0)
    desk.feed.generation += 1
    desk.postgres.primary_away = True
    tasks = await desk.ask(CODE)
    await desk.everything_arrives()
    assert versions(tasks) == [1]
    assert kept(desk) is before
    assert kept(desk).as_of == as_of


async def test_copy_of_before_a_change_that_is_heard_of_meanwhile_is_not_the_answer() -> None:
    desk = Desk()
    desk.commit(CODE)
    await desk.ask(CODE)
    await desk.everything_arrives()
    desk.memory.clear()
    tasks = await desk.ask(CODE)
    (call,) = desk.network.calls
    desk.commit(CODE)
    desk.feed.floors.hear(CODE, 2)
    call.answer()
    await turns()
    await desk.everything_arrives()
    assert versions(tasks) == [2]
    assert [task.result().stale for task in tasks] == [False]


@pytest.mark.parametrize("path", ["/api/v1/dossiers/", "/tra-cuu/"])
async def test_dossier_that_was_removed_is_not_shown_from_a_copy_whatever_is_away(path: str) -> None:
    async with lookup_alone() as alone:
        code = alone.put(CODE)
        assert (await alone.ask(path + code.path)).status == 200
        alone.feed.hear(Heard("11-1", alone.feed.position, CODE, 2, removed=True))
        alone.store.away = True
        assert (await alone.ask(path + code.path)).status == 404


async def test_lookup_under_way_when_an_epoch_begins_starts_over_in_it() -> None:
    """What it found may be of a time that has been undone."""
    desk = Desk()
    desk.commit(CODE)
    tasks = await desk.ask(CODE)
    (call,) = desk.network.calls
    desk.feed.enter(2)
    desk.postgres.epoch = 2
    call.answer()
    await desk.everything_arrives()
    assert versions(tasks) == [1]
    assert desk.at_rest
    assert desk.redis.versions() == {dossier_key(2, CODE): 1}


async def test_postgres_in_an_epoch_that_is_over_is_not_believed() -> None:
    async with lookup_alone() as alone:
        code = alone.put(CODE)
        alone.feed.enter(2)
        assert (await alone.ask(f"/api/v1/dossiers/{code.path}")).status == 503
        alone.store.epoch = 2
        assert (await alone.ask(f"/api/v1/dossiers/{code.path}")).status == 200


@pytest.mark.parametrize("held", [None, '"one", "another"'], ids=["early", "normal"])
async def test_copy_in_no_known_form_is_counted_dropped_and_loaded_anew(held: str | None) -> None:
    def unreadable() -> float:
        (counter,) = metrics.UNREADABLE.collect()
        return sum(sample.value for sample in counter.samples if sample.name.endswith("_total"))

    async with lookup_alone() as alone:
        code = alone.put(CODE)
        alone.redis.fill(1, [Value(dossier_key(1, CODE), 1, alone.clock.now(), b"rubbish", 86_400)], 10**9)
        before = unreadable()
        answer = await alone.ask(f"/api/v1/dossiers/{code.path}", held=held)
        assert (answer.status, unreadable()) == (200, before + 1)
        copy = alone.memory.look(CODE)
        assert copy is not None
        assert copy.body == pack(alone.store.records[CODE])
