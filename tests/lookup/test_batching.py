"""One load per key, one round trip per moment, and nobody's misfortune is anybody else's."""

import asyncio
import gc
from collections.abc import Mapping, Sequence

import pytest

from lookup.batching import SMALLEST, Batcher, Places
from ops.errors import OurOwnDelay


class Source:
    """Records the batches asked of it and answers each when it is let go."""

    def __init__(self, *, open_: bool = False) -> None:
        self.batches: list[list[str]] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.failing: dict[str, Exception] = {}
        self.missing: set[str] = set()
        self.error: BaseException | None = None
        self._gate = asyncio.Event()
        if open_:
            self._gate.set()

    def let_go(self) -> None:
        self._gate.set()

    def hold(self) -> None:
        self._gate.clear()

    async def load(self, keys: Sequence[str]) -> Mapping[str, str | Exception]:
        self.batches.append(list(keys))
        error = self.error
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await self._gate.wait()
        finally:
            self.in_flight -= 1
        if error is not None:
            raise error
        return {key: self.failing.get(key, key.upper()) for key in keys if key not in self.missing}


def batcher(source: Source, *, in_flight: int = 1, largest: int = 256, **settings: float) -> Batcher[str, str]:
    return Batcher(source.load, places=Places(in_flight), largest=largest, **settings)


async def begun() -> None:
    """A few turns of the loop, so that everything that can start has started."""
    for _ in range(5):
        await asyncio.sleep(0)


def getting(wanted: Batcher[str, str], *keys: str) -> "list[asyncio.Task[str]]":
    return [asyncio.create_task(wanted.get(key)) for key in keys]


async def test_keys_wanted_at_one_moment_travel_together() -> None:
    source = Source(open_=True)
    assert await asyncio.gather(*getting(batcher(source), "a", "b", "c")) == ["A", "B", "C"]
    assert source.batches == [["a", "b", "c"]]


async def test_callers_of_one_key_share_its_load() -> None:
    source = Source()
    wanted = batcher(source)
    first = getting(wanted, "a", "a")
    await begun()
    late = getting(wanted, "a")
    await begun()
    source.let_go()
    assert await asyncio.gather(*first, *late) == ["A", "A", "A"]
    assert source.batches == [["a"]]


async def test_key_is_loaded_anew_once_its_load_is_over() -> None:
    source = Source(open_=True)
    wanted = batcher(source)
    await wanted.get("a")
    await wanted.get("a")
    assert source.batches == [["a"], ["a"]]


async def test_next_batch_gathers_while_one_is_in_flight() -> None:
    source = Source()
    wanted = batcher(source)
    tasks = getting(wanted, "a")
    await begun()
    for key in "bcd":
        tasks += getting(wanted, key)
        await begun()
    assert source.batches == [["a"]]
    source.let_go()
    assert await asyncio.gather(*tasks) == ["A", "B", "C", "D"]
    assert source.batches == [["a"], ["b", "c", "d"]]


@pytest.mark.parametrize("in_flight", [1, 2, 4])
async def test_never_more_batches_in_flight_than_allowed(in_flight: int) -> None:
    source = Source()
    wanted = batcher(source, in_flight=in_flight, largest=3)
    tasks = getting(wanted, *(f"k{n}" for n in range(40)))
    await begun()
    assert source.in_flight == in_flight
    source.let_go()
    await asyncio.gather(*tasks)
    assert source.most_in_flight == in_flight
    assert all(len(batch) <= 3 for batch in source.batches)
    assert sorted(key for batch in source.batches for key in batch) == sorted(f"k{n}" for n in range(40))


async def test_cancelled_caller_leaves_the_load_to_the_others() -> None:
    source = Source()
    leaving, staying, other = getting(batcher(source), "a", "a", "b")
    await begun()
    leaving.cancel()
    await begun()
    source.let_go()
    assert [await staying, await other] == ["A", "B"]
    assert leaving.cancelled()
    assert source.batches == [["a", "b"]]


async def test_batch_all_of_whose_callers_left_blocks_nobody() -> None:
    source = Source()
    wanted = batcher(source)
    leaving = getting(wanted, "a")
    await begun()
    leaving[0].cancel()
    late = getting(wanted, "a", "b")
    await begun()
    source.let_go()
    assert await asyncio.gather(*late) == ["A", "B"]


async def test_caller_cancelled_while_its_batch_gathers_blocks_nobody() -> None:
    source = Source()
    wanted = batcher(source)
    first = getting(wanted, "a")
    await begun()
    leaving, staying = getting(wanted, "b", "c")
    await begun()
    leaving.cancel()
    source.let_go()
    assert [await first[0], await staying] == ["A", "C"]


async def test_exception_spoils_only_its_own_key() -> None:
    source = Source(open_=True)
    source.failing["b"] = ValueError("b is undecodable")
    a, b, c = await asyncio.gather(*getting(batcher(source), "a", "b", "c"), return_exceptions=True)
    assert (a, c) == ("A", "C")
    assert b is source.failing["b"]


async def test_key_without_a_value_is_an_error_and_not_a_wait_without_end() -> None:
    source = Source(open_=True)
    source.missing.add("b")
    wanted = batcher(source)
    async with asyncio.timeout(5):
        a, b = await asyncio.gather(*getting(wanted, "a", "b"), return_exceptions=True)
    assert a == "A"
    assert isinstance(b, LookupError)
    source.missing.clear()
    assert await wanted.get("b") == "B"


async def test_failed_load_reaches_all_callers_of_that_batch_and_no_others() -> None:
    source = Source()
    wanted = batcher(source)
    source.error = ConnectionError("gone")
    failing = getting(wanted, "a", "b", "a")
    await begun()
    source.error = None
    later = getting(wanted, "c")
    await begun()
    source.let_go()
    outcomes = await asyncio.gather(*failing, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ConnectionError] * 3
    assert await later[0] == "C"
    assert await wanted.get("a") == "A"


async def test_failure_nobody_waits_for_any_more_is_no_warning() -> None:
    source = Source()
    source.error = ConnectionError("gone")
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    leaving = getting(batcher(source), "a")
    await begun()
    leaving.pop().cancel()
    await begun()
    source.let_go()
    await begun()
    gc.collect()  # an exception nobody took is complained of when its future is collected
    assert source.in_flight == 0
    assert complaints == []


async def test_cancelled_batch_lets_go_of_its_callers() -> None:
    source = Source()
    wanted = batcher(source)
    (waiting,) = getting(wanted, "a")
    await begun()
    for batch in list(wanted._batches):
        batch.cancel()
    async with asyncio.timeout(5):
        outcome = await asyncio.gather(waiting, return_exceptions=True)
    assert isinstance(outcome[0], asyncio.CancelledError)
    source.let_go()
    assert await wanted.get("a") == "A"


async def test_nothing_is_left_behind() -> None:
    source = Source(open_=True)
    source.failing["b"] = ValueError()
    wanted = batcher(source, in_flight=2, largest=2)
    before = asyncio.all_tasks()
    await asyncio.gather(*getting(wanted, *"abcdefgh"), return_exceptions=True)
    await begun()
    assert asyncio.all_tasks() == before
    assert (wanted._loading, wanted._gathering, list(wanted._order), wanted._batches) == ({}, {}, [], set())
    assert wanted._places.free == 2


async def test_load_that_has_begun_is_not_shared_by_who_wants_a_later_one() -> None:
    source = Source()
    wanted = batcher(source, in_flight=2)
    first = getting(wanted, "a")
    await begun()
    later = [asyncio.create_task(wanted.get("a", begun_later=True)) for _ in range(3)]
    await begun()
    assert source.batches == [["a"], ["a"]]  # and the three share theirs
    source.let_go()
    assert await asyncio.gather(*first, *later) == ["A"] * 4


async def test_batchers_that_share_places_take_turns_and_never_more_than_there_are() -> None:
    one, other = Source(), Source()
    places = Places(2)
    batchers = [Batcher(source.load, places=places, largest=1) for source in (one, other)]
    tasks = [task for wanted in batchers for task in getting(wanted, *"abcdef")]
    await begun()
    assert one.in_flight + other.in_flight == 2
    one.let_go()
    other.let_go()
    assert len(await asyncio.gather(*tasks)) == 12
    assert places.free == 2


async def test_key_nobody_waits_for_any_more_is_not_asked_for() -> None:
    source = Source()
    wanted = batcher(source)
    first = getting(wanted, "a")
    await begun()
    leaving, staying = getting(wanted, "b"), getting(wanted, "c")
    await begun()
    leaving[0].cancel()
    await begun()
    source.let_go()
    assert await asyncio.gather(*first, *staying) == ["A", "C"]
    assert source.batches == [["a"], ["c"]]


async def test_key_that_has_waited_too_long_is_given_up_without_being_asked_for() -> None:
    source = Source()
    wanted = batcher(source)
    first = getting(wanted, "a")
    await begun()
    wanted._patience = 0.0
    late = getting(wanted, "b")
    await begun()
    source.let_go()
    assert await first[0] == "A"
    with pytest.raises(OurOwnDelay):
        await late[0]
    assert source.batches == [["a"]]


async def test_batches_shrink_where_keys_are_slow_and_grow_again() -> None:
    source = Source(open_=True)
    wanted = batcher(source, largest=64, target=0.0)  # every batch takes longer than that
    keys = [f"k{n}" for n in range(1000)]
    await asyncio.gather(*getting(wanted, *keys))
    sizes = [len(batch) for batch in source.batches]
    assert sizes[0] == 64
    assert sizes[-2] == SMALLEST
    wanted._target = 60.0
    source.batches.clear()
    await asyncio.gather(*getting(wanted, *keys))
    sizes = [len(batch) for batch in source.batches]
    assert sizes[0] == SMALLEST
    assert max(sizes) == 64


async def test_queue_that_grows_is_seen_in_the_expected_wait() -> None:
    source = Source(open_=True)
    wanted = batcher(source, largest=10)
    assert wanted.expected_wait == 0.0
    await asyncio.gather(*getting(wanted, *(f"k{n}" for n in range(100))))
    source.hold()
    tasks = getting(wanted, *(f"k{n}" for n in range(1000)))
    await begun()
    assert wanted.waiting == 990
    assert wanted.expected_wait == pytest.approx(99 * wanted._seconds)
    source.let_go()
    await asyncio.gather(*tasks)
    assert wanted.expected_wait == 0.0


def test_loop_that_closes_in_mid_load_lets_go_of_every_caller() -> None:
    outcomes: list[str] = []

    async def ask(wanted: Batcher[str, str]) -> None:
        try:
            await wanted.get("a")
        except asyncio.CancelledError:
            outcomes.append("let go")
            raise

    async def leave_early() -> None:
        tasks.add(asyncio.create_task(ask(batcher(Source()))))
        await begun()

    tasks: set[asyncio.Task[None]] = set()
    asyncio.run(leave_early())  # a task or future left pending would be a warning, and warnings are errors here
    assert outcomes == ["let go"]
