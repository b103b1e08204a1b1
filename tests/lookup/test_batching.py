"""One round trip per moment, never more of them than there are permits, and no item is left behind."""

import asyncio
import gc
from collections.abc import Callable, Sequence

import pytest

from lookup.reading import batching
from lookup.reading.batching import ENOUGH, FIRST_PACE, SMALLEST, BatchQueue, Permits
from ops.observe.logs import request_id
from tests.clocks import Clock


class MovedOn(Clock):
    """What queues and the loop's timers go by."""

    async def move(self, seconds: float) -> None:
        """So much later, whatever was due by then has happened."""
        self.pass_by(seconds)
        await turns()


class Ferry:
    """Records the batches it takes along. Each comes back when it is let go, `seconds` later by the clock."""

    def __init__(self, clock: MovedOn | None = None, *, open_: bool = False) -> None:
        self.batches: list[list[str]] = []
        self.under_way = 0
        self.most_under_way = 0
        self.seconds = 0.0
        self.error: Exception | None = None
        """What becomes of the batches that are begun from now on."""
        self._clock = clock or MovedOn()
        self._gate = asyncio.Event()
        if open_:
            self._gate.set()

    def let_go(self) -> None:
        self._gate.set()

    def hold(self) -> None:
        self._gate.clear()

    @property
    def sizes(self) -> list[int]:
        return [len(batch) for batch in self.batches]

    async def run(self, items: list[str]) -> None:
        self.batches.append(list(items))
        error = self.error
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await self._gate.wait()
        finally:
            self.under_way -= 1
        self._clock.now += self.seconds
        if error is not None:
            raise error


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> MovedOn:
    clock = MovedOn()
    monkeypatch.setattr(batching, "time", clock)
    monkeypatch.setattr(asyncio.get_running_loop(), "time", clock.monotonic)
    return clock


def queue_of(
    ferry: Ferry,
    *,
    permits: Permits | int = 1,
    largest: int = 256,
    wanted: Callable[[str], bool] = lambda _: True,
    failed: Callable[[list[str], Exception], None] = lambda *_: None,
    target: float = 60.0,
) -> BatchQueue[str]:
    """A queue for which no batch is slow, unless the test says so."""
    permits = permits if isinstance(permits, Permits) else Permits(permits)
    return BatchQueue(ferry.run, permits=permits, largest=largest, wanted=wanted, failed=failed, target=target)


async def turns(count: int = 10) -> None:
    """A few turns of the loop, so that everything that can begin or end has done so."""
    for _ in range(count):
        await asyncio.sleep(0)


async def arrive(queue: BatchQueue[str], *items: str) -> None:
    """All of them enter in one turn, and whatever can begin begins."""
    for item in items:
        queue.enter(item)
    await turns()


def names(count: int, of: str = "k") -> list[str]:
    return [f"{of}{number}" for number in range(count)]


def pending_timers() -> Sequence[asyncio.TimerHandle]:
    scheduled: list[asyncio.TimerHandle] = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    return [timer for timer in scheduled if not timer.cancelled()]


# -- when a batch is begun -------------------------------------------------------------------------------------


async def test_items_that_enter_in_one_turn_travel_together() -> None:
    ferry = Ferry()
    queue = queue_of(ferry)
    for item in "abc":
        asyncio.get_running_loop().call_soon(queue.enter, item)
    await turns()
    assert ferry.batches == [["a", "b", "c"]]


async def test_next_batch_gathers_while_one_is_under_way() -> None:
    ferry = Ferry()
    queue = queue_of(ferry)
    for item in "abcd":
        await arrive(queue, item)
    assert ferry.batches == [["a"]]
    assert queue.waiting == 3
    ferry.let_go()
    await turns()
    assert ferry.batches == [["a"], ["b", "c", "d"]]
    assert queue.waiting == 0


@pytest.mark.parametrize("permits", [1, 2, 4])
async def test_never_more_batches_under_way_than_places_nor_larger_and_every_item_once_and_in_order(
    permits: int,
) -> None:
    ferry = Ferry()
    queue = queue_of(ferry, permits=permits, largest=3)
    await arrive(queue, *names(40))
    assert ferry.under_way == permits
    ferry.let_go()
    await turns(500)
    assert ferry.most_under_way == permits
    assert ferry.sizes == [3] * 13 + [1]
    assert [item for batch in ferry.batches for item in batch] == names(40)


@pytest.mark.parametrize(("largest", "enough"), [(256, ENOUGH), (10, 10)])
async def test_enough_who_wait_are_taken_along_beside_a_batch_under_way_and_fewer_are_not(
    largest: int, enough: int
) -> None:
    ferry = Ferry()
    queue = queue_of(ferry, permits=2, largest=largest)
    await arrive(queue, "first")
    await arrive(queue, *names(enough - 1))
    assert ferry.batches == [["first"]]
    await arrive(queue, "last")
    assert ferry.batches == [["first"], [*names(enough - 1), "last"]]


async def test_who_waits_is_taken_along_beside_a_batch_that_is_slow_and_not_before(clock: MovedOn) -> None:
    ferry = Ferry()
    queue = queue_of(ferry, permits=3, target=1.0)
    await arrive(queue, "a")
    await arrive(queue, "b")
    await clock.move(0.9)
    assert ferry.batches == [["a"]]
    await clock.move(0.2)
    assert ferry.batches == [["a"], ["b"]]
    await arrive(queue, "c")  # the second has only just left
    await clock.move(0.9)
    assert ferry.batches == [["a"], ["b"]]
    await clock.move(0.2)
    assert ferry.batches == [["a"], ["b"], ["c"]]


async def test_who_comes_when_the_batch_under_way_is_slow_already_does_not_wait(clock: MovedOn) -> None:
    ferry = Ferry()
    queue = queue_of(ferry, permits=2, target=1.0)
    await arrive(queue, "a")
    await clock.move(1.1)
    await arrive(queue, "b")
    assert ferry.batches == [["a"], ["b"]]


async def test_batch_is_not_called_slow_by_the_time_of_the_one_before(clock: MovedOn) -> None:
    ferry = Ferry(open_=True)
    queue = queue_of(ferry, permits=2, target=1.0)
    await arrive(queue, "a")
    ferry.hold()
    await clock.move(0.9)
    await arrive(queue, "b")
    await arrive(queue, "c")
    await clock.move(0.2)
    assert ferry.batches == [["a"], ["b"]]
    ferry.let_go()
    await turns()
    assert ferry.batches == [["a"], ["b"], ["c"]]


# -- who is taken along ----------------------------------------------------------------------------------------


async def test_item_that_is_not_wanted_any_more_when_its_batch_begins_is_left_out() -> None:
    ferry = Ferry()
    unwanted: set[str] = set()
    queue = queue_of(ferry, wanted=lambda item: item not in unwanted)
    await arrive(queue, "a")
    await arrive(queue, "b", "c")
    unwanted.add("b")
    ferry.let_go()
    await turns()
    assert ferry.batches == [["a"], ["c"]]


async def test_item_that_is_left_out_takes_no_room() -> None:
    ferry = Ferry()
    queue = queue_of(ferry, largest=2, wanted=lambda item: item not in "ac")
    await arrive(queue, *"abcd")
    assert ferry.batches == [["b", "d"]]


async def test_where_all_are_left_out_no_place_is_used_and_nothing_is_left_behind() -> None:
    ferry = Ferry()
    permits = Permits(1)
    queue = queue_of(ferry, permits=permits, wanted=lambda item: item == "z")
    await arrive(queue, *"abc")
    assert (ferry.batches, queue.waiting, permits.free) == ([], 0, 1)
    assert pending_timers() == []
    await arrive(queue, "z")
    assert ferry.batches == [["z"]]


async def test_item_that_enters_while_another_is_left_out_is_taken_along() -> None:
    """Whoever is told that his own has been left out may ask anew, there and then."""
    ferry = Ferry()

    def wanted(item: str) -> bool:
        if item == "a":
            queue.enter("again")
        return item != "a"

    queue = queue_of(ferry, wanted=wanted)
    await arrive(queue, "a")
    assert ferry.batches == [["again"]]


# -- misfortunes -----------------------------------------------------------------------------------------------


async def test_batch_that_raises_is_handed_over_and_logged_and_the_next_one_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ferry = Ferry()
    permits = Permits(1)
    failures: list[tuple[list[str], Exception]] = []
    queue = queue_of(ferry, permits=permits, failed=lambda items, error: failures.append((items, error)))
    ferry.error = gone = ConnectionError("gone")
    await arrive(queue, "a", "b")
    ferry.error = None
    await arrive(queue, "c")
    ferry.let_go()
    await turns()
    assert failures == [(["a", "b"], gone)]
    (record,) = caplog.records
    assert (record.getMessage(), vars(record)["items"]) == ("A batch failed", 2)
    assert record.exc_info is not None
    assert record.exc_info[1] is gone
    assert ferry.batches == [["a", "b"], ["c"]]
    assert permits.free == 1


async def test_batch_that_is_cancelled_gives_its_place_back() -> None:
    ferry = Ferry()
    permits = Permits(1)
    queue = queue_of(ferry, permits=permits)
    await arrive(queue, "a")
    (batch,) = queue._batches
    batch.cancel()
    await turns()
    assert batch.cancelled()
    assert (ferry.under_way, permits.free) == (0, 1)
    await arrive(queue, "b")
    assert ferry.batches == [["a"], ["b"]]


@pytest.mark.parametrize(
    "behind",
    [
        "none",
        "others",
        "others of another queue",
    ],
)
def test_loop_that_closes_in_mid_run_leaves_no_warning(caplog: pytest.LogCaptureFixture, behind: str) -> None:
    async def leave_early() -> None:
        permits = Permits(1)
        queue, another = (queue_of(Ferry(), permits=permits) for _ in range(2))
        await arrive(queue, "a")
        if behind != "none":
            await arrive(queue if behind == "others" else another, "b")

    asyncio.run(leave_early())
    gc.collect()  # a task that was left pending is complained of when it is collected
    assert caplog.messages == []


async def test_nothing_is_left_behind(clock: MovedOn) -> None:
    ferry = Ferry(clock, open_=True)
    permits = Permits(2)
    queue = queue_of(ferry, permits=permits, largest=2, wanted=lambda item: item not in "bcd", target=1.0)
    before = asyncio.all_tasks()
    await arrive(queue, *"abcdefgh")
    ferry.error = ConnectionError("gone")
    await arrive(queue, *"ijk")
    assert ferry.batches == [["a", "e"], ["f", "g"], ["h"], ["i", "j"], ["k"]]
    assert len(pending_timers()) == 1
    await clock.move(1.1)
    assert pending_timers() == []
    assert asyncio.all_tasks() == before
    assert (queue.waiting, queue._under_way, queue._batches, queue._starting) == (0, 0, set(), False)
    assert permits.free == permits.count == 2


# -- permits that are shared ------------------------------------------------------------------------------------


async def test_stages_that_share_places_never_take_more_than_there_are() -> None:
    ferry = Ferry()
    permits = Permits(2)
    one, other = (queue_of(ferry, permits=permits, largest=1) for _ in range(2))
    await arrive(one, *names(6, "a"))
    await arrive(other, *names(6, "b"))
    assert ferry.under_way == 2
    ferry.let_go()
    await turns(200)
    assert sorted(item for batch in ferry.batches for item in batch) == names(6, "a") + names(6, "b")
    assert ferry.most_under_way == 2
    assert permits.free == 2


async def test_stages_that_share_places_take_turns() -> None:
    ferry = Ferry(open_=True)
    permits = Permits(1)
    for letter in "abc":
        queue = queue_of(ferry, permits=permits, largest=1)
        for item in names(6, letter):
            queue.enter(item)
    await turns(200)
    order = "".join(item[0] for (item,) in ferry.batches)
    assert len(order) == 18
    for taken in range(len(order)):
        counts = [order[:taken].count(letter) for letter in "abc"]
        assert max(counts) - min(counts) <= 2, order


# -- how large, and how long it takes --------------------------------------------------------------------------


async def test_batches_shrink_while_they_are_slow_and_grow_again_while_they_are_quick(clock: MovedOn) -> None:
    ferry = Ferry(clock, open_=True)
    queue = queue_of(ferry, largest=64, target=1.0)
    ferry.seconds = 1.1
    await arrive(queue, *names(500))
    await turns(500)
    assert ferry.sizes[:8] == [64, 48, 36, 27, 20, 15, 11, SMALLEST]  # by a quarter each time
    assert set(ferry.sizes[8:-1]) == {SMALLEST}
    ferry.batches.clear()
    ferry.seconds = 0.4
    await arrive(queue, *names(500))
    await turns(500)
    assert ferry.sizes[:6] == [SMALLEST, 12, 18, 27, 40, 60]  # by a half each time
    assert set(ferry.sizes[6:-1]) == {64}


async def test_few_who_were_slow_were_too_many_already(clock: MovedOn) -> None:
    ferry = Ferry(clock, open_=True)
    queue = queue_of(ferry, largest=64, target=1.0)
    ferry.seconds = 1.1
    await arrive(queue, *names(20))
    await arrive(queue, *names(100))
    assert ferry.sizes[0] == 20
    assert ferry.sizes[1] == 15


@pytest.mark.parametrize(
    ("seconds", "at_once"),
    [(0.7, SMALLEST), (0.1, SMALLEST - 1)],
    ids=["neither slow nor quick", "quick and not full"],
)
async def test_batches_that_are_not_both_quick_and_full_do_not_grow(
    clock: MovedOn, seconds: float, at_once: int
) -> None:
    ferry = Ferry(clock, open_=True)
    queue = queue_of(ferry, largest=64, target=1.0)
    ferry.seconds = 1.1
    await arrive(queue, *names(SMALLEST))
    ferry.seconds = seconds
    for _ in range(5):
        await arrive(queue, *names(at_once))
    ferry.batches.clear()
    await arrive(queue, *names(64))
    assert ferry.sizes[0] == SMALLEST


async def test_fewer_are_enough_where_batches_have_shrunk(clock: MovedOn) -> None:
    ferry = Ferry(clock, open_=True)
    queue = queue_of(ferry, permits=2, largest=64, target=1.0)
    ferry.seconds = 1.1
    await arrive(queue, *names(SMALLEST))
    ferry.hold()
    await arrive(queue, "first")
    await arrive(queue, *names(SMALLEST - 1))
    assert ferry.under_way == 1
    await arrive(queue, "last")
    assert ferry.under_way == 2


async def test_wait_is_expected_by_the_pace_at_which_others_were_taken_along(clock: MovedOn) -> None:
    ferry = Ferry(clock, open_=True)
    queue = queue_of(ferry, permits=2, largest=10, target=10.0)
    assert queue.expected_wait == 0.0
    ferry.seconds = 0.8
    await arrive(queue, *names(1000))
    await turns(500)
    assert queue.expected_wait == 0.0
    ferry.hold()
    await arrive(queue, *names(1020))
    assert queue.waiting == 1000
    assert queue.expected_wait == pytest.approx(1000 / (10 / 0.8), rel=0.05)
    ferry.let_go()
    await turns(500)
    assert (queue.waiting, queue.expected_wait) == (0, 0.0)


async def test_stage_that_has_not_been_at_work_is_thought_to_be_quick(clock: MovedOn) -> None:
    queue = queue_of(Ferry(clock), largest=10)
    await arrive(queue, *names(260))
    assert queue.expected_wait == pytest.approx(250 / FIRST_PACE)


async def test_pace_is_not_learned_from_a_stage_that_has_little_to_do(clock: MovedOn) -> None:
    ferry = Ferry(clock, open_=True)
    queue = queue_of(ferry, largest=10)
    for name in names(100):
        await arrive(queue, name)
        await clock.move(1.0)
    ferry.hold()
    await arrive(queue, *names(260))
    assert queue.expected_wait == pytest.approx(250 / FIRST_PACE)


async def test_expected_wait_is_at_least_what_the_first_has_waited(clock: MovedOn) -> None:
    queue = queue_of(Ferry(clock), largest=10)
    await arrive(queue, *names(11))
    await clock.move(7.0)
    assert queue.expected_wait == pytest.approx(7.0)


async def test_first_to_come_after_a_quiet_hour_expects_no_wait(clock: MovedOn) -> None:
    """Many may come in one turn of the loop, and be asked about before any can be taken along."""
    ferry = Ferry(clock, open_=True)
    queue = queue_of(ferry)
    await arrive(queue, "a")
    await clock.move(3600.0)
    queue.enter("b")
    assert queue.expected_wait == pytest.approx(1 / FIRST_PACE)


async def test_batches_do_not_shrink_for_what_the_loop_itself_was_late(clock: MovedOn) -> None:
    ferry = Ferry(clock, open_=True)
    ferry.seconds = 0.8
    queue = BatchQueue(ferry.run, permits=Permits(1), largest=64, target=0.1, lateness=lambda _: 0.75)
    await arrive(queue, *names(640))
    await turns(100)
    assert ferry.sizes == [64] * 10


async def test_batch_is_no_part_of_the_request_that_began_it() -> None:
    seen: list[str | None] = []

    async def run(_: list[str]) -> None:
        seen.append(request_id.get())
        request_id.set("the batch's own")

    queue = BatchQueue(run, permits=Permits(1), largest=2)
    request_id.set("the caller's")
    for item in "abc":
        queue.enter(item)
        await turns()
    assert seen == [None] * len(seen)
    assert seen
    assert request_id.get() == "the caller's"
    request_id.set(None)


@pytest.mark.parametrize(("seconds", "limit"), [(1.0, 64), (1.125, 48), (0.5, 64), (0.375, 96)])
async def test_batch_shrinks_beyond_its_target_and_grows_below_half_of_it(
    clock: MovedOn, seconds: float, limit: int
) -> None:
    ferry = Ferry(clock, open_=True)
    queue = queue_of(ferry, largest=256, target=1.0)
    queue._limit, ferry.seconds = 64, seconds
    await arrive(queue, *names(64))
    assert queue._limit == limit


async def test_wait_that_is_expected_is_the_time_since_the_last_batch_or_what_the_pace_makes_of_the_queue(
    clock: MovedOn,
) -> None:
    ferry = Ferry(clock)
    queue = queue_of(ferry, largest=1)
    assert queue.expected_wait == 0
    await arrive(queue, "a", "b", "c")
    clock.now += 3
    assert queue.expected_wait == 3
    ferry.let_go()
    ferry.hold()
    await turns()  # the second one leaves now
    assert queue.waiting == 1
    assert queue.expected_wait == 1 / queue._pace < 0.01
    clock.now += 2
    assert queue.expected_wait == 2
