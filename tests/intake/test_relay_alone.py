"""The relay with a log and a Redis that stand in for the servers: every branch of it, in milliseconds."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import asyncpg
import pytest
from prometheus_client import REGISTRY

from intake import metrics
from intake.books import lost_tail, relay, writers
from intake.books.relay import LogUnavailable, Position, Relay, WentBackInTimeError
from lookup import schema
from lookup.cache import Cache, Change, EntryTooSmallError, Heard, StreamMovedError, Value, dossier_key, number_key
from lookup.clock import microseconds
from lookup.dossier import COLUMNS, unpack
from ops.errors import Unavailable
from ops.observe import tracing

NOW = datetime(2026, 11, 30, 5, tzinfo=UTC)
CODE = "G99.01.01-261120-0001"
RECORD: dict[str, Any] = dict.fromkeys(COLUMNS) | {
    "code": CODE,
    "version": 2,
    "status": 4,
    "service": "S.004",
    "agency": "G99.01.01",
    "submitted_at": NOW,
    "timeline": "[]",
    "key_serial": 0,
    "pauses": "[]",
    "supplements": 0,
    "reappointments": 0,
    "removed": False,
}


def event(xid: int, seq: int = 1, version: int = 2, number: str | None = None, **fields: Any) -> dict[str, Any]:
    """A row of CHANGES: an event, with the present record of its dossier."""
    row = {"xid": xid, "seq": seq, "code": CODE, "version": version, "official_number": number, "removing": False}
    record = {f"dossier_{name}": value for name, value in (RECORD | {"version": version}).items()}
    return row | {"at": None, "asked_at": NOW} | record | fields


def heartbeat(xid: int, seconds_ago: float = 0.0) -> dict[str, Any]:
    row = dict.fromkeys(event(xid)) | {"xid": xid, "seq": 0, "removing": False}
    return row | {"at": NOW - timedelta(seconds=seconds_ago), "asked_at": NOW}


@dataclass
class Primary:
    """Stands for PostgreSQL's primary: what it holds, and which statements it was asked, in order."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    epoch: int = 1
    free: list[bool] = field(default_factory=list)
    """Answers to the next attempts at the leader's lock; it is free after that."""
    backlog: float | None = None
    ten_minutes_ago: dict[str, int] | None = None
    away: Exception | None = None
    version: int = schema.LATEST
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    """With which the last session was opened."""
    terminated: int = 0
    on_beat: list[Any] = field(default_factory=list)
    """Called one at a time, a heartbeat each."""

    async def connect(self, url: Any, **options: Any) -> "Primary":
        self.options = {"url": url()} | options
        if self.away is not None:
            raise self.away
        return self

    def terminate(self) -> None:
        self.terminated += 1

    async def fetch(self, sql: str, *arguments: Any) -> list[Any]:
        self.asked.append((sql, *arguments))
        if self.away is not None:
            raise self.away
        if sql == relay.BEAT and self.on_beat:
            self.on_beat.pop(0)()
        match sql:
            case schema.STATE:
                return [(self.version, 0, None)]
            case relay.TRY_TO_LEAD:
                return [(self.free.pop(0) if self.free else True,)]
            case relay.BEAT:
                return [{"epoch": self.epoch, "waited": self.backlog}]
            case relay.TELL_LAG:
                return []
            case relay.CHANGES:
                _, xid, seq, limit, _ = arguments
                return [row for row in self.rows if (row["xid"], row["seq"]) > (xid, seq)][:limit]
            case relay.SAFELY_PAST:
                return [(77,)]
            case relay.TEN_MINUTES_AGO:
                return [self.ten_minutes_ago] if self.ten_minutes_ago else []
            case lost_tail.IN_LOG:
                return [{"n": n} for n, _ in enumerate(arguments[1], 1)]
            case lost_tail.ID_IS_IN_USE:
                return [(True,)]
            case lost_tail.NEWEST_UP_TO | writers.WRITERS:
                return []
        raise AssertionError(sql)

    def times(self, sql: str) -> int:
        return sum(asked[0] == sql for asked in self.asked)


@dataclass
class Stream:
    """Stands for Redis: the ids of its stream, and what it was given."""

    ids: list[str] = field(default_factory=list)
    batches: list[tuple[list[Change], list[Value], int | None]] = field(default_factory=list)
    troubles: list[Exception | None] = field(default_factory=list)
    """What becomes of the next deliveries; all is well after that."""
    asked_for_end: list[int] = field(default_factory=list)
    pings: int = 0
    away: bool = False

    async def stream_end(self, epoch: int) -> str:
        self.asked_for_end.append(epoch)
        return self.ids[-1] if self.ids else ""

    async def before(self, epoch: int, entry_id: str, *, most: int) -> list[Heard]:
        ids = self.ids[: self.ids.index(entry_id)] if entry_id else self.ids
        return [Heard(each, "", CODE, 1) for each in reversed(ids)]

    async def append(
        self, epoch: int, last: str, changes: Sequence[Change], values: Sequence[Value], beat: int | None
    ) -> str:
        trouble = self.troubles.pop(0) if self.troubles else None
        if trouble is not None:
            raise trouble
        assert last == (self.ids[-1] if self.ids else "")
        self.ids += [change.id for change in changes]
        self.batches.append((list(changes), list(values), beat))
        return self.ids[-1]

    async def ping(self) -> None:
        self.pings += 1
        if self.away:
            raise Unavailable("Redis is away.")

    @property
    def delivered(self) -> list[str]:
        return [change.id for changes, _, _ in self.batches for change in changes]


class Ended(Exception):
    """The test has seen enough."""


class Sleeps(list[float]):
    """How long the relay has slept, each time; time goes on by as much. It ends after so many."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.now = 1000.0

    async def sleep(self, seconds: float) -> None:
        self.append(seconds)
        self.now += seconds
        if len(self) >= self.most:
            raise Ended

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def primary() -> Primary:
    return Primary()


@pytest.fixture
def stream() -> Stream:
    return Stream()


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch, primary: Primary) -> Sleeps:
    sleeps = Sleeps(most=8)
    monkeypatch.setattr(relay, "connect_directly", primary.connect)
    monkeypatch.setattr(asyncio, "sleep", sleeps.sleep)
    monkeypatch.setattr(time, "monotonic", sleeps.monotonic)
    return sleeps


def relay_of(stream: Stream, **options: Any) -> Relay:
    return Relay(lambda: "postgresql://relay", cast(Cache, stream), record_ttl=86_400, **options)


async def led(of: Relay) -> None:
    """It leads until the test has seen enough."""
    with pytest.raises(Ended):
        await of.run()


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


# -- leading -------------------------------------------------------------------------------------------------------


async def test_leader_beats_once_a_second_and_looks_for_changes_more_often(
    primary: Primary, stream: Stream, sleeps: Sleeps
) -> None:
    sleeps.most = 17
    await led(relay_of(stream, poll_every=0.125))
    assert sleeps == [0.125] * 17
    assert primary.times(relay.BEAT) == 3
    assert primary.times(writers.WRITERS) == 3
    assert primary.times(relay.CHANGES) == 17
    assert primary.times(relay.TRY_TO_LEAD) == 1
    assert primary.asked[1] == (relay.TRY_TO_LEAD, 0x72656C6179)
    assert primary.options == {
        "url": "postgresql://relay",
        "timeout": 2.0,
        "command_timeout": 2.0,
        "target_session_attrs": "primary",
    }
    assert primary.terminated == 1


@pytest.mark.parametrize(("changes", "first"), [(1, 0.025), (2, 0), (3, 0)])
async def test_full_batch_is_followed_by_the_next_at_once(
    primary: Primary, stream: Stream, sleeps: Sleeps, changes: int, first: float
) -> None:
    primary.rows = [event(11, seq) for seq in range(1, changes + 1)]
    sleeps.most = 3
    await led(relay_of(stream, batch=2))
    assert sleeps[0] == first
    assert [len(batch) for batch, _, _ in stream.batches] == [min(2, changes), *([1] if changes > 2 else [])]
    asked = [asked for asked in primary.asked if asked[0] == relay.CHANGES]
    assert asked[0] == (relay.CHANGES, 1, 0, 0, 2, 77)
    assert asked[1] == (relay.CHANGES, 1, 11, min(2, changes), 2, 77)


async def test_relay_waits_for_the_lock_twice_a_second_and_is_not_late_meanwhile(
    primary: Primary, stream: Stream, sleeps: Sleeps
) -> None:
    primary.free = [False, False, True]
    of = relay_of(stream)
    primary.on_beat = [lambda: states.append((of.leading, value("relay_leader"), of.lag))]
    states: list[Any] = []
    sleeps.most = 3
    assert not of.leading
    await led(of)
    assert sleeps == [0.5, 0.5, 0.025]
    assert states == [(True, 1, 0.5)]  # since another one was seen to lead
    assert (of.leading, value("relay_leader")) == (False, 0)


@pytest.mark.parametrize("lost", [OSError("gone"), asyncpg.InsufficientPrivilegeError("no grant")])
async def test_relay_without_a_log_tries_again_twice_a_second(
    primary: Primary, stream: Stream, sleeps: Sleeps, lost: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    primary.away = lost
    of = relay_of(stream)
    sleeps.most = 1
    await led(of)
    assert value("hoso24_breaker_open", dependency="postgres") == 0
    sleeps.most = 3
    await led(of)
    assert value("hoso24_breaker_open", dependency="postgres") == 1
    assert sleeps == [0.5, 0.5, 0.5]
    assert "no longer leads" not in caplog.text  # it never led
    assert value("relay_primary_reachable") == 0
    with pytest.raises(Unavailable, match=r"postgres (cannot be reached|refuses commands) now\. .*(gone|no grant)"):
        await of.check_postgres()


async def test_leader_that_loses_its_log_says_so_and_leads_no_more(
    primary: Primary, stream: Stream, sleeps: Sleeps, caplog: pytest.LogCaptureFixture
) -> None:
    def leave() -> None:
        primary.away = OSError("gone")

    of = relay_of(stream, poll_every=0.125)
    primary.on_beat = [lambda: None, leave]
    sleeps.most = 10
    with caplog.at_level(logging.INFO, "intake.books.relay"):
        await led(of)
    assert sleeps == [0.125] * 8 + [0.5] * 2
    assert caplog.messages[0] == "This relay has become the leader"
    assert caplog.messages.count("This relay no longer leads: it has lost its session with PostgreSQL") == 1
    assert primary.terminated == 1


@pytest.mark.parametrize(("leading", "said"), [(True, "leader"), (False, "standby")])
async def test_health_report_says_what_the_relay_is(stream: Stream, leading: bool, said: str) -> None:
    of = relay_of(stream)
    with pytest.raises(Unavailable, match="has not been asked yet"):
        await of.check_postgres()
    of._log.trouble = None
    of.leading = leading
    assert await of.check_postgres() == said


async def test_health_report_fails_when_delivery_is_late_or_halted(stream: Stream, sleeps: Sleeps) -> None:
    of = relay_of(stream)
    assert await of.check_delivery() == "another relay leads"
    of.leading = True
    sleeps.now += 5.0
    assert await of.check_delivery() == "5.0 s behind"
    sleeps.now += 0.4
    with pytest.raises(Unavailable, match="Nothing has been delivered for 5 s"):
        await of.check_delivery()
    of.halted = True
    with pytest.raises(Unavailable, match="gone back in time"):
        await of.check_delivery()


@pytest.mark.parametrize(("leading", "trouble", "told"), [(True, "It is full.", True), (False, "It is full.", False)])
async def test_health_report_tells_of_the_last_delivery_that_redis_refused_a_leader(
    stream: Stream, leading: bool, trouble: str, told: bool
) -> None:
    of = relay_of(stream)
    await of.check_redis()
    assert stream.pings == 1
    of.leading, of._trouble = leading, trouble
    with pytest.raises(Unavailable, match=r"It is full\.") if told else contextlib.nullcontext():
        await of.check_redis()
    assert stream.pings == (1 if told else 2)


@pytest.mark.parametrize("leading", [True, False])
async def test_only_a_relay_that_does_not_lead_asks_redis_for_its_own_sake(
    stream: Stream, sleeps: Sleeps, leading: bool
) -> None:
    of = relay_of(stream)
    of.leading, stream.away = leading, True
    sleeps.most = 2
    with pytest.raises(Ended):
        await of.watch()
    assert sleeps == [1.0, 1.0]
    assert stream.pings == (0 if leading else 2)
    assert of._redis.open is not leading


async def test_schema_that_the_relay_cannot_use_ends_it(primary: Primary, stream: Stream, sleeps: Sleeps) -> None:
    primary.version = 0
    with pytest.raises(schema.WrongSchema):
        await relay_of(stream).run()


# -- where it goes on -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ten_minutes_ago", "position"),
    [(None, Position(0, 0, "")), ({"xid": 9, "seq": 4}, Position(9, 4, ""))],
)
async def test_without_a_stream_it_goes_on_ten_minutes_back(
    primary: Primary, stream: Stream, ten_minutes_ago: dict[str, int] | None, position: Position
) -> None:
    primary.ten_minutes_ago = ten_minutes_ago
    of = relay_of(stream)
    of._log._connection, of._epoch = primary, 3
    before = value("relay_resumed_total", reason="leader")
    assert await of._resume() == position
    assert (of._newest_before, stream.asked_for_end) == (77, [3])
    assert value("relay_resumed_total", reason="leader") == before + 1


@pytest.mark.parametrize(
    ("reached", "before"),
    [
        (None, 0),
        (Position(11, 1, "11-1"), 0),
        (Position(11, 2, "11-2"), 77),
        (Position(10, 9, "10-9"), 0),
        (Position(12, 0, "12-0"), 77),
    ],
)
async def test_older_versions_are_left_out_only_where_the_stream_has_lost_entries(
    primary: Primary, stream: Stream, reached: Position | None, before: int
) -> None:
    stream.ids = ["11-1"]
    of = relay_of(stream)
    of._log._connection, of._reached = primary, reached
    assert await of._resume() == Position(11, 1, "11-1")
    assert of._newest_before == before


async def test_new_leader_and_new_epoch_leave_no_version_out(primary: Primary, stream: Stream, sleeps: Sleeps) -> None:
    of = relay_of(stream)
    of._log._connection = primary
    of._newest_before, of._trouble, of._epoch = 5, "It was full.", 1
    of._beat_every = 60.0
    sleeps.most = 1
    stream.ids = ["11-1"]
    with pytest.raises(Ended):
        await of._lead()
    assert (of._newest_before, of._trouble) == (0, "")
    of._newest_before, of._reached, primary.epoch = 5, Position(12, 1, "12-1"), 2
    await of._beat()
    assert (of._newest_before, of._why, of._epoch) == (0, "epoch", 2)
    assert [vars(of)[name] for name in ("_reached", "_position")] == [None, None]
    of._newest_before, of._reached, of._position = 5, Position(12, 1, "12-1"), Position(12, 1, "12-1")
    await of._beat()
    assert (of._newest_before, of._reached, of._position) == (5, Position(12, 1, "12-1"), Position(12, 1, "12-1"))


@pytest.mark.parametrize(("waited", "told"), [(None, 0.0), (7.5, 7.5)])
async def test_backlog_is_measured_from_where_delivery_has_come_to(
    primary: Primary, stream: Stream, waited: float | None, told: float
) -> None:
    of = relay_of(stream)
    of._log._connection, primary.backlog, primary.epoch, of._epoch = primary, waited, 3, 3
    metrics.RELAY_BACKLOG.set(1.5)
    await of._beat()
    assert primary.asked[-1][1:] == (3, None, None, False)  # nothing is known yet
    assert value("relay_backlog_seconds") == 1.5
    of._reached = Position(11, 2, "11-2")
    await of._beat()
    assert primary.asked[-1][1:] == (3, 11, 2, True)
    assert value("relay_backlog_seconds") == told
    of.halted = True
    await of._beat()
    assert primary.asked[-1][1:] == (3, 11, 2, False)
    of._set_leading(False)
    assert value("relay_backlog_seconds") == 0


async def test_lag_is_told_ten_times_a_second_while_more_waits_and_once_when_that_is_over(
    primary: Primary, stream: Stream, sleeps: Sleeps
) -> None:
    of = relay_of(stream)
    of._log._connection, of._epoch, of._beat_every = primary, 1, 60.0
    told = 0

    async def tells(position: Position | None, *, more: bool, after: float = 0.0) -> int:
        nonlocal told
        sleeps.now += after
        of._position, before = position, told
        await of._tell_lag(more=more)
        told = primary.times(relay.TELL_LAG)
        return told - before

    here = Position(11, 2, "11-2")
    assert await tells(None, more=True) == 0  # it is not known where it stands
    assert await tells(here, more=False) == 1  # once it is
    assert primary.asked[-1] == (relay.TELL_LAG, 1, 11, 2)
    assert await tells(here, more=False, after=9.0) == 0
    assert [await tells(here, more=True, after=0.04) for _ in range(6)] == [1, 0, 0, 1, 0, 0]
    assert [await tells(here, more=False) for _ in range(2)] == [1, 0]
    of._forget_position("redis")
    assert [await tells(here, more=False) for _ in range(2)] == [1, 0]


# -- misfortunes ------------------------------------------------------------------------------------------------------


async def test_delivery_that_redis_refuses_is_logged_once_a_minute_and_tried_four_times_a_second(
    primary: Primary, stream: Stream, sleeps: Sleeps, caplog: pytest.LogCaptureFixture
) -> None:
    of = relay_of(stream)
    of._log._connection, of._epoch = primary, 1
    primary.rows = [event(11)]
    stream.troubles = [Unavailable("Redis is full.", reason="OOM")] * 3
    said = []
    sleeps.most = 99
    with caplog.at_level(logging.INFO, "intake.books.relay"):
        for seconds in (0.0, 59.5, 0.25):
            sleeps.now += seconds
            assert await of._deliver_next() == 0
            assert (of._position, of._why, of._trouble) == (None, "redis", "Redis is full. OOM")
            said.append(caplog.messages.count("The relay cannot deliver: Redis is full."))
            assert value("hoso24_breaker_open", dependency="redis") == (len(said) > 1)
        assert said == [1, 1, 2]
        assert sleeps == [0.25, 0.25, 0.25]
        assert await of._deliver_next() == 1
        assert caplog.messages[-2:] == [
            "The relay delivers again after 60.5 s",
            "The relay goes on from ten minutes ago (redis)",
        ]
        assert (of._trouble, of._why) == ("", "running")
        primary.rows.append(event(12))
        assert await of._deliver_next() == 1
        assert caplog.messages[-1] == "The relay goes on from ten minutes ago (redis)"
        assert caplog.messages.count("The relay goes on from ten minutes ago (redis)") == 1


async def test_moved_stream_is_read_again_at_once(primary: Primary, stream: Stream, sleeps: Sleeps) -> None:
    of = relay_of(stream)
    of._log._connection = primary
    primary.rows = [event(11)]
    stream.troubles = [StreamMovedError("12-1")]
    assert await of._deliver_next() == 0
    assert (of._position, of._why, sleeps) == (None, "moved", [])


@pytest.mark.parametrize("alarm", [WentBackInTimeError("what was lost"), EntryTooSmallError("11-1")])
async def test_relay_that_has_gone_back_in_time_halts_until_it_delivers_again(
    primary: Primary, stream: Stream, sleeps: Sleeps, alarm: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    of = relay_of(stream)
    of._log._connection = primary
    primary.rows = [event(11)]
    stream.troubles = [alarm]
    assert await of._deliver_next() == 0
    assert (of._position, of._why, sleeps, of.halted, value("relay_halted")) == (None, "halted", [1.0], True, 1)
    assert str(alarm) in caplog.text
    assert await of._deliver_next() == 1
    assert (of.halted, value("relay_halted")) == (False, 0)


# -- what is delivered ------------------------------------------------------------------------------------------------


async def test_batch_holds_each_event_and_the_present_record_once(stream: Stream, sleeps: Sleeps) -> None:
    of = relay_of(stream)
    of._epoch = 3
    bound = event(12, 2, version=3, number="01234/2026/99901")
    removed = event(13, 4, version=4, removing=True, dossier_removed=True)
    gone = event(14, 5, dossier_version=None)
    sleeps.now += 50
    stream.ids = ["10-0"]
    rows = [event(11), bound, removed, gone, heartbeat(15, seconds_ago=2.5)]
    before = value("relay_changes_delivered_total")
    assert await of._deliver(rows, Position(10, 0, "10-0"), 0) == Position(15, 0, "15-0")
    assert value("relay_changes_delivered_total") == before + 4
    ((changes, values, beat),) = stream.batches
    assert changes == [
        Change("11-1", CODE, 2),
        Change("12-2", CODE, 3, "01234/2026/99901"),
        Change("13-4", CODE, 4, removed=True),
        Change("14-5", CODE, 2),
        Change("15-0"),
    ]
    assert beat == microseconds(NOW - timedelta(seconds=2.5))
    record, number = values
    assert (record.key, record.version, record.as_of, record.ttl) == (
        dossier_key(3, CODE),
        4,
        microseconds(NOW),
        86_400,
    )
    assert record.body == b""
    assert number == Value(number_key(3, "01234/2026/99901"), 3, microseconds(NOW), CODE.encode(), 86_400)
    assert of.lag == pytest.approx(2.5)


async def test_record_is_packed_as_the_lookup_reads_it_and_no_heartbeat_leaves_the_lag_alone(
    stream: Stream, sleeps: Sleeps
) -> None:
    of = relay_of(stream)
    sleeps.now += 50
    await of._deliver([event(11)], Position(0, 0, ""), 0)
    ((_, (record,), beat),) = stream.batches
    assert (unpack(record.body).code, unpack(record.body).version, beat) == (CODE, 2, None)
    assert of.lag == pytest.approx(50)


def test_span_of_a_delivery_names_its_events_and_a_heartbeat_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    spans: list[Any] = []

    def root_span(name: str, began: int, **attributes: Any) -> Any:
        spans.append((name, began, attributes))
        return contextlib.nullcontext()

    monkeypatch.setattr(tracing, "root_span", root_span)
    with relay._delivering([Change("12-0")], 5):
        assert spans == []
    with relay._delivering([Change("11-1", CODE, 2), Change("11-2", CODE, 3), Change("12-0")], 5):
        ((name, began, attributes),) = spans
    assert (name, began) == ("deliver changes", 5)
    assert attributes == {"hoso24.batch.size": 2, "hoso24.events": ["11-1", "11-2"]}


# -- the log ----------------------------------------------------------------------------------------------------------


async def test_log_hands_out_rows_a_row_and_a_value(primary: Primary) -> None:
    log = relay.EventLog(lambda: "")
    log._connection = primary
    assert log.trouble == "postgres has not been asked yet."
    assert await log.fetchval(relay.TEN_MINUTES_AGO, 1) is None
    assert vars(log)["trouble"] is None
    assert value("relay_primary_reachable") == 1
    assert await log.fetchval(schema.STATE) == schema.LATEST
    assert await log.fetchrow(relay.TEN_MINUTES_AGO, 1) is None
    primary.away = OSError("gone")
    with pytest.raises(LogUnavailable):
        await log.fetchval(relay.BEAT)
    assert value("relay_primary_reachable") == 0
    assert log.trouble is not None


async def test_calls_of_the_log_are_measured_under_the_name_of_their_statement(
    primary: Primary, monkeypatch: pytest.MonkeyPatch
) -> None:
    named: list[Any] = []

    def call_span(*said: Any) -> None:
        named.append(said)

    monkeypatch.setattr(tracing, "call_span", call_span)
    monkeypatch.setattr(relay, "connect_directly", primary.connect)
    log = relay.EventLog(lambda: "")
    async with log.session():
        await log.fetch(relay.BEAT)
        await log.fetch(relay.TEN_MINUTES_AGO, 1)
    assert named == [
        ("postgres", "postgresql", "connect"),
        ("postgres", "postgresql", "UPDATE"),
        ("postgres", "postgresql", "SELECT"),
    ]
