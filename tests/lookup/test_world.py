"""The Redis of tests/lookup/world.py and a real server, told the same things, cannot be told apart.

What tests/lookup/test_coherence.py proves about the model is true of the scripts in lookup/cache.py because of this.
Nothing is left here long enough to expire.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from lookup.cache import (
    Cache,
    Change,
    Entry,
    EntryTooSmallError,
    Read,
    StreamMovedError,
    Value,
    dossier_key,
    feed_key,
    number_key,
    stream_key,
)
from lookup.reading.feed import Feed
from lookup.reading.freshness import Freshness
from lookup.reading.memory import Memory
from ops.local.valkey import ValkeyServer
from ops.stores import redis
from tests.lookup.world import NOON, Clock, Redis, _State

T = TypeVar("T")

EXAMPLES = 200
STEPS = 12
DAY = 86_400
EPOCHS = (1, 2)
CODES = ("G99.01.01-261120-0001", "G99.01.01-261120-0002")
NUMBER = "01234/2026/99901"
FIRST = (10, 0)


class Offer(NamedTuple):
    """A value; `key` counts the keys of its epoch."""

    key: int
    version: int
    as_of: int
    body: bytes


class Step(NamedTuple):
    """How far an entry lies behind the one before it, and what it says."""

    xids: int
    seq: int
    code: str = ""
    version: int = 0
    number: str = ""
    removed: bool = False


# Few of everything, so that all meet with all.
some_epoch = st.sampled_from([1, 1, 1, 2])
some_key = st.sampled_from([0, 0, 0, 1, 2])
some_moment = st.integers(NOON, NOON + 4)
some_body = st.sampled_from([b"", b"one", b"two\n7 8 -\n", b"\xff\x00 \r\n"])
some_offers = st.lists(st.builds(Offer, some_key, st.integers(0, 2), some_moment, some_body), max_size=3)
a_change = st.builds(
    Step,
    st.integers(0, 1),
    st.integers(1, 2),
    st.sampled_from(CODES),
    st.integers(1, 3),
    st.sampled_from(["", NUMBER]),
    st.booleans(),
)
a_beat = st.just(Step(1, 0))
some_steps = st.lists(a_change | a_beat, min_size=1, max_size=3)


class Twins(RuleBasedStateMachine):
    """A model and a server to which the same happens. After each step, all that can be seen of them is the same."""

    def __init__(self, loop: asyncio.AbstractEventLoop, server: redis.Redis, behind: redis.Redis) -> None:
        super().__init__()
        self.loop = loop
        self.server = server
        self.behind = behind
        """Another server, for what it was like when it was saved."""
        self.cache = Cache(server)
        self.model = Redis(Clock())
        self.saved: tuple[list[tuple[bytes, bytes, int]], _State] = [], _State()
        self.touched = set(EPOCHS)
        """The epochs to look at after this step."""

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def tell(self, command: Callable[[Any], Awaitable[T]]) -> T:
        """Have the server do something that the service itself never asks for."""
        return self.run(self.server.run(command))

    def both(self, epoch: int, real: Coroutine[Any, Any, Any], model: Callable[[], Any]) -> None:
        """Both answer the same, or refuse it for the same reason."""
        self.touched.add(epoch)
        assert outcome(lambda: self.run(real)) == outcome(model)

    @initialize(at=st.none() | some_moment)
    def begin(self, at: int | None) -> None:
        """Either nothing has been delivered yet, or the first heartbeat is there."""
        self.tell(lambda client: client.flushdb())
        if at is not None:
            self.beat(1, at)

    # -- what the service asks for -----------------------------------------------------------------------------

    @rule(epoch=some_epoch, offers=some_offers, beyond=st.sampled_from([-1, 0, 1, 1, 2]))
    def fill(self, epoch: int, offers: list[Offer], beyond: int) -> None:
        """By a reader that saw all, or all but the last that was delivered."""
        values, horizon = values_of(epoch, offers), self.highest(epoch)[0] + beyond
        self.both(epoch, self.cache.fill(epoch, values, horizon), lambda: self.model.fill(epoch, values, horizon))

    @rule(
        epoch=some_epoch,
        at=st.sampled_from(["the end", "the end", "the end", "the end", "nowhere", "its first entry", "elsewhere"]),
        first=st.sampled_from([1, 1, 1, 0, 0, -1, -FIRST[0]]),
        seq=st.integers(0, 2),
        steps=some_steps,
        offers=some_offers,
        heartbeat=st.none() | some_moment,
    )
    def append(
        self, epoch: int, at: str, first: int, seq: int, steps: list[Step], offers: list[Offer], heartbeat: int | None
    ) -> None:
        """By a relay that knows where the stream ends, or does not; from there on, or from some way back."""
        steps = [steps[0]._replace(xids=first, seq=seq), *steps[1:]]
        self.deliver(epoch, self.last(epoch, at), steps, offers, heartbeat)

    @rule(epoch=some_epoch, at=some_moment)
    def beat(self, epoch: int, at: int) -> None:
        self.deliver(epoch, self.last(epoch, "the end"), [Step(1, 0)], [], at)

    def deliver(
        self, epoch: int, last: str, steps: Sequence[Step], offers: Sequence[Offer], heartbeat: int | None
    ) -> None:
        changes, values = self.changes(epoch, steps), values_of(epoch, offers)
        self.both(
            epoch,
            self.cache.append(epoch, last, changes, values, heartbeat),
            lambda: self.model.append(epoch, last, changes, values, heartbeat),
        )

    @rule(epoch=some_epoch, back=st.integers(0, 2), seq=st.integers(0, 2))
    def follow(self, epoch: int, back: int, seq: int) -> None:
        """From where the stream ends, and from some way back."""
        self.both(epoch, self.cache.join(epoch), lambda: self.model.join(epoch))
        position = f"{max(0, self.highest(epoch)[0] - back)}-{seq}"
        if self.model.after(epoch, position):
            self.both(epoch, self.cache.follow(epoch, position, wait=0.001), lambda: self.model.after(epoch, position))

    @rule(epoch=some_epoch, key=some_key)
    def forget(self, epoch: int, key: int) -> None:
        name = keys_of(epoch)[key]
        self.both(epoch, self.cache.forget(name), lambda: self.model.evict(name))

    # -- what happens to it ------------------------------------------------------------------------------------

    @rule(epoch=some_epoch, what=st.sampled_from(["trim", "lose_the_feed", "lose_the_stream"]))
    def misfortune(self, epoch: int, what: str) -> None:
        getattr(self, what)(epoch)
        self.touched.add(epoch)

    def trim(self, epoch: int) -> None:
        """All but the last entry goes, or all once there is but one."""
        kept = 1 if len(self.model.after(epoch, "")) > 1 else 0
        self.tell(lambda client: client.xtrim(stream_key(epoch), maxlen=kept, approximate=False))
        self.model.trim(epoch, kept)

    def lose_the_feed(self, epoch: int) -> None:
        self.tell(lambda client: client.delete(feed_key(epoch)))
        self.model.state.feeds.pop(feed_key(epoch), None)

    def lose_the_stream(self, epoch: int) -> None:
        self.tell(lambda client: client.delete(stream_key(epoch)))
        self.model.state.streams.pop(stream_key(epoch), None)
        self.model.state.last_ids.pop(stream_key(epoch), None)

    @rule(back=st.booleans())
    def save_or_come_back(self, back: bool) -> None:
        """Redis comes back as it was when it was last saved, or empty if it never was."""
        if not back:
            self.saved = self.run(self._dump()), self.model.state.copy()
            return
        dumped, state = self.saved
        self.run(self._restore(dumped, self.server))
        self.model.state = state.copy()
        self.touched.update(EPOCHS)

    @rule(epoch=some_epoch)
    def old_one_answers(self, epoch: int) -> None:
        self.read_as_it_was(epoch)

    def read_as_it_was(self, epoch: int) -> Read:
        """Of a server that has got no further than the saved state: a replica, or a primary of before."""
        dumped, state = self.saved
        self.run(self._restore(dumped, self.behind))
        read = self.run(Cache(self.behind).read(epoch, keys_of(epoch)))
        assert read == self.model.as_it_was(state).read(epoch, keys_of(epoch))
        return read

    async def _dump(self) -> list[tuple[bytes, bytes, int]]:
        async def dump(client: Any) -> list[tuple[bytes, bytes, int]]:
            return [(key, await client.dump(key), await client.pttl(key)) for key in await client.keys()]

        return await self.server.run(dump)

    @staticmethod
    async def _restore(dumped: Sequence[tuple[bytes, bytes, int]], server: redis.Redis) -> None:
        async def restore(client: Any) -> None:
            await client.flushdb()
            for key, value, ttl in dumped:
                await client.restore(key, max(0, ttl), value)

        await server.run(restore)

    # -- what is seen of it ------------------------------------------------------------------------------------

    @invariant()
    def they_cannot_be_told_apart(self) -> None:
        self.run(self._compare(self.touched))
        self.touched.clear()

    def teardown(self) -> None:
        self.run(self._compare(EPOCHS))
        assert self.run(self.cache.epoch()) == self.model.state.epoch

    async def _compare(self, epochs: Iterable[int]) -> None:
        for epoch in epochs:
            assert await self.cache.read(epoch, keys_of(epoch)) == self.model.read(epoch, keys_of(epoch))
            if entries := self.model.after(epoch, ""):
                assert await self.cache.follow(epoch, "", wait=0.001) == entries
            else:  # the server would wait for some
                assert await self.cache.join(epoch) == self.model.join(epoch)

    # -- what is asked for, in the terms of what is there ------------------------------------------------------

    def highest(self, epoch: int) -> tuple[int, int]:
        """The highest id the stream has ever had, or something to begin with."""
        return self.model.state.last_ids.get(stream_key(epoch), FIRST)

    def last(self, epoch: int, at: str) -> str:
        """Where a reader believes that the stream ends."""
        ids = [entry.id for entry in self.model.after(epoch, "")] or [""]
        return {"the end": ids[-1], "its first entry": ids[0], "nowhere": ""}.get(at, "10-7")

    def changes(self, epoch: int, steps: Sequence[Step]) -> list[Change]:
        """Entries in the order of their ids; the first lies as far as it says behind the highest there was."""
        xid, seq = self.highest(epoch)[0], 0
        changes: list[Change] = []
        for step in steps:
            seq = step.seq + (seq if changes and not step.xids else 0)
            xid = max(0, xid + step.xids)
            changes.append(Change(f"{xid}-{seq}", step.code, step.version, step.number, step.removed))
        return changes


def keys_of(epoch: int) -> list[str]:
    return [*(dossier_key(epoch, code) for code in CODES), number_key(epoch, NUMBER)]


def values_of(epoch: int, offers: Sequence[Offer]) -> list[Value]:
    return [Value(keys_of(epoch)[offer.key], offer.version, offer.as_of, offer.body, DAY) for offer in offers]


def outcome(call: Callable[[], T]) -> T | str:
    """What a call returns, or why it was refused."""
    try:
        return call()
    except StreamMovedError as moved:
        return f"the stream ends at {moved.last!r}"
    except EntryTooSmallError:
        return "the first id is too small"


@pytest.fixture
def twins(redis_server: ValkeyServer) -> Iterator[Callable[[], Twins]]:
    """Makes new ones, on two connections: the databases of one server stand for two."""
    urls = [redis_server.url.rpartition("/")[0] + f"/{number}" for number in (0, 1)]
    with asyncio.Runner() as runner:
        servers = [redis.Redis("redis", partial(str, url), size=1, deadline=5.0) for url in urls]
        yield lambda: Twins(runner.get_loop(), *servers)
        for server in servers:
            runner.run(server.close())


def test_whatever_happens_they_cannot_be_told_apart(twins: Callable[[], Twins]) -> None:
    run_state_machine_as_test(
        twins,  # type: ignore[arg-type]  # it only has to make one
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
            print_blob=False,
        ),
    )


def test_none_of_before_a_delivery_is_told_by_its_feed_from_one_that_may_be_believed(
    twins: Callable[[], Twins],
) -> None:
    pair = twins()
    pair.begin(NOON)
    pair.fill(1, [Offer(0, 0, NOON, b"")], 1)
    pair.save_or_come_back(back=False)
    feed = Feed(pair.model.clock, Memory(0), Freshness())  # type: ignore[arg-type]
    feed.join(pair.run(pair.cache.join(1)))

    def none_is_believed() -> bool:
        read = pair.read_as_it_was(1)
        assert read.entries[0] == Entry(0, NOON, b"")
        return feed.trusts(feed.mark(), read.feed_at, read.stream_name)

    assert none_is_believed()
    pair.deliver(1, pair.last(1, "the end"), [Step(1, 1, CODES[0], 1)], [Offer(0, 1, NOON + 1, b"one")], None)
    pair.beat(1, NOON + 2)
    feed.leave()
    feed.join(pair.run(pair.cache.join(1)))  # after the delivery: it has not heard of it
    assert feed.floors.of(CODES[0]) == 0
    assert not none_is_believed()


# -- every way in which one value can meet another -------------------------------------------------------------

HERE = Offer(0, 2, NOON + 2, b"here")
"""The value that is there already, unless nothing is. By then the feed is at NOON + 4."""


def nothing(twins: Twins) -> None:
    twins.beat(1, NOON + 4)


def one_without_a_feed(twins: Twins) -> None:
    twins.fill(1, [HERE], 1)


def one_that_ages_by_itself(twins: Twins) -> None:
    twins.fill(1, [HERE], 1)
    twins.beat(1, NOON + 4)


def one_that_leans(twins: Twins) -> None:
    twins.beat(1, NOON)
    twins.fill(1, [HERE], 1)
    twins.beat(1, NOON + 4)


def one_that_leans_on_a_lost_stream(twins: Twins) -> None:
    one_that_leans(twins)
    twins.lose_the_stream(1)
    twins.deliver(1, "", [Step(9, 0)], [], NOON + 4)


def one_that_leans_and_no_feed(twins: Twins) -> None:
    one_that_leans(twins)
    twins.lose_the_feed(1)


def one_that_leans_on_a_stream_without_entries(twins: Twins) -> None:
    one_that_leans(twins)
    twins.trim(1)
    twins.trim(1)


def there_is_none(twins: Twins) -> None:
    twins.beat(1, NOON)
    twins.fill(1, [HERE._replace(version=0, body=b"")], 1)
    twins.beat(1, NOON + 4)


WAYS: dict[str, Callable[[Twins, Offer], None]] = {
    "filled by one who saw all": lambda twins, offer: twins.fill(1, [offer], 1),
    "filled by one who did not": lambda twins, offer: twins.fill(1, [offer], 0),
    "delivered": lambda twins, offer: twins.deliver(1, twins.last(1, "the end"), [Step(1, 1, "c", 9)], [offer], None),
    "delivered with a heartbeat": lambda twins, offer: twins.deliver(
        1, twins.last(1, "the end"), [Step(1, 0)], [offer], NOON + 6
    ),
}


PREPARED = [
    nothing,
    one_without_a_feed,
    one_that_ages_by_itself,
    one_that_leans,
    one_that_leans_on_a_lost_stream,
    one_that_leans_and_no_feed,
    one_that_leans_on_a_stream_without_entries,
    there_is_none,
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("prepare", PREPARED)
def test_whatever_a_value_meets_the_same_comes_of_it(
    twins: Callable[[], Twins], prepare: Callable[[Twins], None], way: str
) -> None:
    for version, moment in itertools.product([0, 1, 2, 3], range(1, 6)):
        pair = twins()
        pair.begin(None)
        prepare(pair)
        WAYS[way](pair, Offer(0, version, NOON + moment, b"new"))
        pair.they_cannot_be_told_apart()
        pair.beat(1, NOON + 8)  # carries forward what leans
        pair.they_cannot_be_told_apart()


@pytest.mark.parametrize("prepare", PREPARED)
def test_whatever_a_delivery_begins_with_it_is_taken_or_refused_alike(
    twins: Callable[[], Twins], prepare: Callable[[Twins], None]
) -> None:
    for at, first, seq in itertools.product(["the end", "its first entry", "nowhere", "elsewhere"], [-1, 0, 1], [0, 1]):
        pair = twins()
        pair.begin(None)
        prepare(pair)
        pair.deliver(1, pair.last(1, at), [Step(first, seq, CODES[0], 3)], [HERE._replace(version=3)], NOON + 6)
        pair.they_cannot_be_told_apart()
