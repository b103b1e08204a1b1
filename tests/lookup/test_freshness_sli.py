"""Ten seconds of a ready process are fresh or late, and exactly one of them is counted."""

from prometheus_client import REGISTRY

from lookup.cache import Heard
from lookup.clock import DatabaseClock
from lookup.reading.feed import Feed
from lookup.reading.freshness import SECOND, Freshness
from lookup.reading.memory import Memory
from lookup.upkeep.freshness_sli import FreshnessSli


class StoppedClock(DatabaseClock):
    """A database's clock that moves when it is told to."""

    seconds = 1_000.0

    def now(self) -> int:
        return int(self.seconds * SECOND)


class Process:
    """A ready process whose feed gets a heartbeat a second, `delay` seconds after it was written."""

    def __init__(self) -> None:
        self.clock = StoppedClock()
        self.feed = Feed(self.clock, Memory(0), Freshness(soft=60, hard=86400))
        self.ready = True
        self.slices = FreshnessSli(self.feed, lambda: self.ready, lambda: self.clock.seconds)
        self.before = {verdict: counted(verdict) for verdict in ("fresh", "late")}

    def live(self, seconds: int, *, delay: float = 0.02, beats: bool = True) -> None:
        for _ in range(seconds):
            self.clock.seconds += 1
            if beats:
                at = int((self.clock.seconds - delay) * SECOND)
                self.feed.hear(Heard(f"{at}-0", self.feed.position, at=at, stream_name=b"1-0"))
            self.slices.look()

    @property
    def counts(self) -> tuple[float, float]:
        """Fresh and late slices since the beginning."""
        return counted("fresh") - self.before["fresh"], counted("late") - self.before["late"]


def counted(verdict: str) -> float:
    return REGISTRY.get_sample_value("lookup_freshness_slices_total", {"verdict": verdict}) or 0.0


def test_heartbeats_in_time_are_fresh_slices() -> None:
    process = Process()
    process.live(61)
    assert process.counts == (6, 0)


def test_one_late_heartbeat_makes_its_slice_late_and_no_other() -> None:
    process = Process()
    process.live(15)
    process.live(1, delay=1.2)
    process.live(25)
    assert process.counts == (3, 1)


def test_no_heartbeat_is_late() -> None:
    process = Process()
    process.live(11)
    process.live(20, beats=False)
    assert process.counts == (1, 2)


def test_heartbeat_that_is_due_is_not_late_yet() -> None:
    process = Process()
    process.live(10)
    process.clock.seconds += 0.9
    process.slices.look()
    process.live(11)
    assert process.counts == (2, 0)


def test_process_that_is_not_ready_is_not_counted() -> None:
    process = Process()
    process.ready = False
    process.live(30, beats=False)
    process.ready = True
    process.live(11)
    assert process.counts == (1, 0)


def test_pulse_that_was_held_up_counts_all_the_slices_it_missed() -> None:
    process = Process()
    process.live(1)
    process.clock.seconds += 30
    process.slices.look()
    assert process.counts == (0, 3)
