"""What is refused first when there is more to do than can be done."""

import pytest
from prometheus_client import REGISTRY

from lookup.reading import shedding
from lookup.reading.shedding import LATE, WAIT, Load, Overloaded, Shedding


class World:
    """A loop and two queues that are as late and as long as they are told to be."""

    def __init__(self) -> None:
        self.now = 0.0
        self.late = 0.0
        self.copies = Queue()
        self.loads = Queue()
        self.shedding = Shedding(lambda: self.late, lambda: self.now)
        self.shedding.watch(copies=self.copies, loads=self.loads)

    def refused(self) -> list[Load]:
        self.now += 1
        return [load for load in Load if not self.shedding.admits(load)]


class Queue:
    expected_wait = 0.0


@pytest.fixture
def world() -> World:
    return World()


def test_nothing_is_refused_on_an_ordinary_day(world: World) -> None:
    assert world.refused() == []


@pytest.mark.parametrize(
    ("late", "refused"),
    [
        (LATE[Load.BATCH], [Load.BATCH]),
        (LATE[Load.UNKNOWN], [Load.BATCH, Load.UNKNOWN]),
        (LATE[Load.COLD], [Load.BATCH, Load.UNKNOWN, Load.COLD]),
    ],
)
def test_late_loop_refuses_in_order(world: World, late: float, refused: list[Load]) -> None:
    world.late = late
    assert world.refused() == refused
    world.late = 0.0
    assert world.refused() == []


def test_queue_for_postgres_is_no_reason_to_refuse_what_redis_has(world: World) -> None:
    world.loads.expected_wait = WAIT[Load.BATCH]
    assert world.refused() == [Load.BATCH]
    world.loads.expected_wait = 60.0
    assert world.refused() == [Load.BATCH, Load.UNKNOWN]


def test_queue_for_redis_refuses_everything_that_is_not_in_memory(world: World) -> None:
    world.copies.expected_wait = WAIT[Load.COLD]
    assert world.refused() == [Load.BATCH, Load.UNKNOWN, Load.COLD]


def test_it_is_measured_now_and_then_and_not_for_every_lookup(world: World) -> None:
    assert world.shedding.level == 0
    world.late = 10.0
    assert world.shedding.level == 0
    world.now += 0.02
    assert world.shedding.level == Load.COLD


async def test_refusal_comes_late_is_counted_and_says_when_to_come_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("lookup.reading.shedding.asyncio.sleep", sleep)
    world.late = 10.0
    world.now += 1
    before = REGISTRY.get_sample_value("lookup_shed_total", {"load": "unknown"}) or 0.0
    with pytest.raises(Overloaded) as refusal:
        await world.shedding.admit(Load.UNKNOWN)
    assert refusal.value.retry_after == 2
    assert slept == [shedding.REFUSED_AFTER]
    assert REGISTRY.get_sample_value("lookup_shed_total", {"load": "unknown"}) == before + 1
    assert REGISTRY.get_sample_value("lookup_shedding_level") == Load.COLD
