"""The end of the log in memory: whom it wakes, whom it leaves to PostgreSQL, and what becomes of those that wait."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from intake.partners import changes, tail
from intake.partners.changes import FeedHalted, Follower, Page
from intake.partners.cursor import Cursor
from intake.partners.tail import Tail
from ops.errors import Refusal, Unavailable
from tests.house import until

NOW = datetime(2026, 12, 1, tzinfo=UTC)
HERE, THERE = Follower("x", frozenset({"here"})), Follower("x", frozenset({"there"}))
START = Cursor(1, 100, 0, bytes(6))


class Log:
    """A log in memory: answers changes.next_events and changes.page as PostgreSQL does."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.looks = 0
        self.trouble: Refusal | None = None

    def write(self, agency: str = "here", count: int = 1) -> Cursor:
        for _ in range(count):
            n = len(self.rows) + 1
            row = {
                "epoch": 1,
                "xid": 100 + n,
                "seq": n,
                "seal": n.to_bytes(6, "big") * 3,
                "kind": "moved",
                "bulk": False,
            }
            row |= {"agency": agency, "origin": agency, "came_from": None, "submitted_by": None, "recorded_at": NOW}
            self.rows.append(row)
        return changes.cursor_of(self.rows[-1])

    async def next_events(self, _: Any, after: Cursor, most: int) -> tuple[Sequence[Mapping[str, Any]], datetime]:
        self.looks += 1
        await asyncio.sleep(0)
        if self.trouble is not None:
            raise self.trouble
        return [row for row in self.rows if changes.cursor_of(row) > after][:most], NOW


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    log = Log()
    monkeypatch.setattr(changes, "next_events", log.next_events)
    monkeypatch.setattr(tail, "POLL_EVERY", 0.001)
    monkeypatch.setattr(tail, "SWEEP_EVERY", 0.002)
    return log


@asynccontextmanager
async def reading() -> AsyncIterator[Tail]:
    read = Tail(None)  # type: ignore[arg-type]
    task = asyncio.create_task(read.run())
    try:
        yield read
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def here() -> bool:
    """A client that has not left."""
    return False


def waits(read: Tail, follower: Follower, after: Cursor, seconds: float = 60.0, gone: Callable[[], bool] = here) -> Any:
    return asyncio.create_task(read.wait(follower, after, 100, seconds, gone))


async def number(read: Tail, count: int) -> None:
    async def there() -> bool:
        return read.waiting == count

    await until(there)


def versions(page: Page | None) -> list[int]:
    assert page is not None
    return [row["seq"] for row in page.rows]


async def test_only_those_are_woken_whom_an_event_concerns(log: Log) -> None:
    async with reading() as read:
        ours, theirs = waits(read, HERE, START), waits(read, THERE, START)
        await number(read, 2)
        place = log.write("here")
        page = await ours
        assert (versions(page), page.next, page.caught_up) == ([1], place, True)
        assert not theirs.done()
        log.write("here")
        place = log.write("there")
        page = await theirs
        assert (versions(page), page.next) == ([3], place)


async def test_waiting_ends_with_an_empty_page_that_has_moved_on(log: Log) -> None:
    async with reading() as read:
        longer = waits(read, THERE, START)
        await number(read, 1)
        place = log.write("here", 3)

        async def has_it() -> bool:
            return read.page(THERE, place, 1) is not None

        await until(has_it)
        page = await waits(read, THERE, START, seconds=0.001)
        assert page == Page([], THERE, place, caught_up=True)
        longer.cancel()


async def test_next_request_is_answered_from_memory_and_one_from_further_back_is_not(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "KEPT", 4)
    monkeypatch.setattr(tail, "BATCH", 3)
    async with reading() as read:
        first = waits(read, THERE, START)
        await number(read, 1)
        places = [log.write("here") for _ in range(9)]
        log.write("there")
        await first
        for n, place in enumerate(places, start=1):
            page = read.page(HERE, place, 100)
            if n < 6:  # events 7 to 10 are kept
                assert page is None
            else:
                assert versions(page) == list(range(n + 1, 10))
        assert read.page(HERE, places[6]._replace(seal=b"other."), 100) is None
        assert versions(read.page(HERE, places[5], 2)) == [7, 8]
        assert read.page(HERE, places[5], 2).caught_up is False  # type: ignore[union-attr]
        assert await waits(read, HERE, places[1]) is None  # it has to ask PostgreSQL


async def test_request_that_is_ahead_of_the_memory_waits_for_what_comes_behind_it(log: Log) -> None:
    async with reading() as read:
        slow = waits(read, THERE, START)
        await number(read, 1)
        ahead = Cursor(1, 103, 3, (3).to_bytes(6, "big"))
        ours = waits(read, HERE, ahead)
        await number(read, 2)
        assert log.write("here", 3) == ahead

        async def has_it() -> bool:
            return read.page(HERE, ahead, 1) is not None

        await until(has_it)
        assert not ours.done()
        log.write("here")
        assert versions(await ours) == [4]
        slow.cancel()


async def test_who_has_left_is_let_go(log: Log) -> None:
    left = [False] * 50
    async with reading() as read:
        waiting = [waits(read, HERE, START, gone=lambda n=n: left[n]) for n in range(50)]  # type: ignore[misc]
        await number(read, 50)
        left[:] = [True] * 49 + [False]
        await number(read, 1)
        assert [versions(each) for each in await asyncio.gather(*waiting[:49])] == [[]] * 49
        waiting[49].cancel()
        await number(read, 0)


async def test_nobody_waits_and_postgres_is_not_asked(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "LINGERS", 0.0)
    async with reading() as read:
        await waits(read, HERE, START, seconds=0.005)

        async def forgotten() -> bool:
            return read._end is None

        await until(forgotten)
        looks = log.looks
        for _ in range(100):
            await asyncio.sleep(0)
        assert log.looks == looks
        place = log.write("here", 2)
        assert versions(await waits(read, HERE, START)) == [1, 2]  # it begins where the next one is
        assert read.page(HERE, place, 1) is not None


async def test_while_postgres_is_away_those_who_wait_are_told(log: Log) -> None:
    async with reading() as read:
        waiting = [waits(read, follower, START) for follower in (HERE, THERE)]
        await number(read, 2)
        log.trouble = Unavailable("postgres cannot be used now.")
        for each in waiting:
            with pytest.raises(Unavailable, match="postgres"):
                await each
        with pytest.raises(Unavailable):
            await waits(read, HERE, START)
        assert read.page(HERE, START, 1) is None
        log.trouble = None
        log.write("here")
        assert versions(await waits(read, HERE, START)) == [1]


async def test_after_a_restore_each_asks_postgres_by_its_own_cursor(log: Log) -> None:
    async with reading() as read:
        waiting = waits(read, HERE, START)
        await number(read, 1)
        log.trouble = FeedHalted()
        assert await waiting is None


async def test_stop_answers_those_who_wait_and_lets_nobody_wait(log: Log) -> None:
    async with reading() as read:
        waiting = [waits(read, HERE, START) for _ in range(10)]
        await number(read, 10)
        await read.close()
        assert [versions(each) for each in await asyncio.gather(*waiting)] == [[]] * 10
        assert versions(await waits(read, HERE, START)) == []


async def test_beyond_the_most_a_request_does_not_wait(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "MOST_WAITERS", 1)
    async with reading() as read:
        one = waits(read, HERE, START)
        await number(read, 1)
        assert versions(await waits(read, HERE, START)) == []
        one.cancel()
