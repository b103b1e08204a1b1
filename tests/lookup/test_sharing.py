"""Requests for one dossier at the same time share its lookup, and one that fails spoils no other."""

import asyncio
from collections.abc import Sequence

import pytest

from lookup.cache import dossier_key
from lookup.reading.batching import Permits
from lookup.reading.feed import Feed
from lookup.reading.freshness import Freshness
from lookup.reading.memory import Copy, Memory
from lookup.reading.read_through import Answer, ReadThrough, StatusUnavailable
from lookup.reading.shedding import Shedding
from lookup.reading.store import Loaded
from lookup.reading.vitals import Vitals
from ops.errors import Unavailable
from ops.stores.breaker import Breaker
from tests.lookup import world
from tests.lookup.world import Clock, Network, Postgres, Redis, Relay, Store

CODE = "G99.01.01-261120-0001"
OTHER = "G99.01.01-261120-0002"


class Desk:
    """A read-through in the model world: whatever it asks is on its way until the test says that it arrives."""

    def __init__(self, *, deadline: float = 60.0) -> None:
        clock = Clock()
        self.network = Network()
        self.postgres = Postgres(clock)
        self.postgres.standby_away = True
        self.redis = Redis(clock)
        self.store = Store(self.network, self.postgres)
        self.asked: list[list[str]] = []
        """What Postgres was asked for, query by query."""
        self.bug: Exception | None = None
        """What the next query ends with."""
        self.memory = Memory(10_000)
        freshness = Freshness()
        self.feed = Feed(clock, self.memory, freshness)  # type: ignore[arg-type]
        self.through = ReadThrough(
            world.Cache(self.network, self.redis),  # type: ignore[arg-type]
            self._load,
            dossier_key,
            Vitals(clock, self.feed, self.store, Breaker("redis", after=1), Shedding(lambda: 0.0), lambda _: 0.0),  # type: ignore[arg-type]
            freshness,
            permits=Permits(4),
            floors=self.feed.floors,
            memory=self.memory,
            deadline=deadline,
        )

    async def _load(self, names: Sequence[str], /, *, primary: bool = False) -> Loaded:
        self.asked.append(sorted(names))
        bug, self.bug = self.bug, None
        if bug is not None:
            raise bug
        return await self.store.dossiers(names, primary=primary)

    def commit(self, code: str) -> None:
        """The dossier's next version."""
        transaction = self.postgres.begin(code)
        assert transaction is not None
        self.postgres.commit(transaction)

    def deliver(self) -> None:
        """Everything committed is in Redis and in the stream."""
        relay = Relay(self.postgres, self.redis, record_ttl=86_400)
        self.postgres.beat()
        assert relay.read(100)
        relay.deliver()

    async def ask(self, *codes: str) -> "list[asyncio.Task[Answer]]":
        tasks = [asyncio.create_task(self.through.get(code)) for code in codes]
        await turns()
        return tasks

    async def read_in_postgres(self) -> None:
        """Redis had nothing, Postgres has answered, and the answer is on its way."""
        (call,) = self.network.calls
        call.answer()
        await turns()
        (call,) = self.network.calls
        call.carry_out()

    async def everything_arrives(self) -> None:
        for _ in range(20):
            await turns()
            if not self.network.calls:
                break
            self.network.calls[0].answer()

    @property
    def at_rest(self) -> bool:
        """Nothing is asked, waited for or remembered of any lookup."""
        stages = (self.through._copies, self.through._loads, self.through._primary)
        return not (self.network.calls or self.through._under_way or any(stage._batches for stage in stages))


async def turns() -> None:
    """A few turns of the loop, so that everything that can go on has gone on."""
    for _ in range(10):
        await asyncio.sleep(0)


def versions(tasks: "list[asyncio.Task[Answer]]") -> list[int]:
    """What each of those who asked was told; raises what they were refused with."""
    return [task.result().entry.version for task in tasks]


async def test_who_comes_while_a_lookup_is_under_way_shares_its_answer() -> None:
    desk = Desk()
    desk.commit(CODE)
    tasks = await desk.ask(CODE, CODE)
    await desk.read_in_postgres()
    tasks += await desk.ask(CODE)
    for _ in ("what Postgres has read", "what Redis holds now"):
        (call,) = desk.network.calls
        call.answer()
        await turns()
    assert versions(tasks) == [1, 1, 1]
    assert desk.asked == [[CODE]]
    assert desk.at_rest


async def test_who_comes_once_a_lookup_is_over_begins_another() -> None:
    desk = Desk()
    desk.commit(CODE)
    tasks = await desk.ask(CODE)
    await desk.everything_arrives()
    desk.redis.evict(dossier_key(1, CODE))
    desk.feed.leave()
    desk.memory.clear()
    tasks += await desk.ask(CODE)
    await desk.everything_arrives()
    assert versions(tasks) == [1, 1]
    assert desk.asked == [[CODE], [CODE]]


async def test_latecomer_is_not_told_that_there_is_none_by_a_lookup_that_asked_before_there_was_one() -> None:
    desk = Desk()
    desk.deliver()
    early = await desk.ask(CODE)
    await desk.read_in_postgres()
    desk.commit(CODE)
    desk.deliver()
    late = await desk.ask(CODE, CODE)
    await desk.everything_arrives()
    assert versions(early) == [0]
    assert versions(late) == [1, 1]
    assert desk.asked == [[CODE]]  # Redis knew, and was asked anew
    assert desk.at_rest


@pytest.mark.parametrize("read", [False, True], ids=["before Redis has answered", "before Postgres has answered"])
async def test_caller_who_leaves_leaves_the_lookup_to_the_others(caplog: pytest.LogCaptureFixture, read: bool) -> None:
    desk = Desk()
    desk.commit(CODE)
    desk.commit(OTHER)
    leaving, *staying = await desk.ask(CODE, CODE, OTHER)
    if read:
        await desk.read_in_postgres()
    leaving.cancel()
    await desk.everything_arrives()
    assert leaving.cancelled()
    assert versions(staying) == [1, 1]
    assert desk.asked == [[CODE, OTHER]]
    assert caplog.messages == []


async def test_lookup_all_of_whose_callers_have_left_blocks_no_other_and_logs_no_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    desk = Desk()
    (leaving,) = await desk.ask(CODE)
    await desk.read_in_postgres()
    leaving.cancel()
    desk.network.calls[0].fail()
    await desk.everything_arrives()
    assert desk.at_rest
    desk.commit(CODE)
    later = await desk.ask(CODE)
    await desk.everything_arrives()
    assert versions(later) == [1]
    assert caplog.messages == []


async def test_callback_that_raises_spoils_no_other_answer(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    desk.commit(CODE)
    told: list[Answer | Unavailable] = []

    def clumsy(_: Answer | Unavailable) -> None:
        raise ValueError("I dropped it")

    desk.through.want(CODE, clumsy)
    desk.through.want(CODE, told.append)
    await turns()
    await desk.read_in_postgres()
    desk.through.want(CODE, clumsy)
    desk.through.want(CODE, told.append)
    await desk.everything_arrives()
    assert [isinstance(answer, Answer) and answer.entry.version for answer in told] == [1, 1]
    assert caplog.messages == ["A lookup's callback failed"] * 2
    assert desk.at_rest


async def test_callback_is_called_once_and_never_before_want_returns() -> None:
    desk = Desk()
    desk.commit(CODE)
    told: list[Answer | Unavailable] = []
    desk.through.want(CODE, told.append)
    assert told == []
    await turns()
    await desk.everything_arrives()
    assert len(told) == 1


async def test_failure_reaches_all_who_waited_and_no_others(caplog: pytest.LogCaptureFixture) -> None:
    """A bug in a round trip is an answer too, and not a wait without end."""
    desk = Desk()
    desk.commit(CODE)
    desk.bug = ValueError("not what was expected")
    failing = await desk.ask(CODE, OTHER, CODE)
    await desk.everything_arrives()
    for task in failing:
        assert isinstance(task.exception(), StatusUnavailable)
    assert caplog.messages == ["A batch failed"]
    later = await desk.ask(CODE)
    await desk.everything_arrives()
    assert versions(later) == [1]
    assert desk.at_rest


async def test_name_that_has_waited_too_long_is_given_up_and_no_store_is_asked_for_it() -> None:
    desk = Desk(deadline=0.0)
    desk.commit(CODE)
    (task,) = await desk.ask(CODE)
    assert desk.network.calls == []
    assert isinstance(task.exception(), StatusUnavailable)
    assert desk.at_rest


async def test_name_that_has_waited_too_long_is_answered_with_the_copy_there_is() -> None:
    desk = Desk(deadline=0.0)
    desk.memory.keep(CODE, Copy(3, world.NOON, b"three", generation=0, trusted=0))
    tasks = await desk.ask(CODE)
    assert versions(tasks) == [3]
    assert desk.asked == []
    assert desk.at_rest
