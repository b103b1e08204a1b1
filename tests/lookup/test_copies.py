"""What a process makes of the copies it has and reads: how old they are, and what it may answer with them."""

import pytest

from lookup.cache import Heard, Value, dossier_key
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
