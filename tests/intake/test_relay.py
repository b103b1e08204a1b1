"""The relay under everything that can happen to it: slow writers, lost leaders, a Redis that forgets."""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import asyncpg
import pytest
import redis.asyncio
from prometheus_client import REGISTRY

from intake.books.lag import lag
from intake.books.relay import CHANGES, Position, Relay
from loadtests.system.pauses import pause, resume
from lookup.cache import Cache, dossier_key, stream_key
from lookup.dossier import unpack
from ops.local.valkey import ValkeyServer
from ops.stores.redis import Redis
from tests.books import append, receive
from tests.conftest import KEY_SECRETS, Database, prepare
from tests.house import until


async def move(connection: Any, code: str) -> int:
    """Moved on; the version after that."""
    return await append(connection, code, status=4)


class Stream:
    """The change stream as a follower reads it."""

    def __init__(self, url: str) -> None:
        self._client: Any = redis.asyncio.Redis.from_url(url, protocol=2)

    async def entries(self, epoch: int = 1) -> list[tuple[str, dict[str, str]]]:
        raw = await self._client.xrange(stream_key(epoch))
        return [
            (entry_id.decode(), {name.decode(): value.decode() for name, value in fields.items()})
            for entry_id, fields in raw
        ]

    async def changes(self, epoch: int = 1) -> list[tuple[str, int]]:
        """Code and version of every entry that is not a heartbeat, in the stream's order."""
        return [(fields["code"], int(fields["version"])) for _, fields in await self.entries(epoch) if "code" in fields]

    async def close(self) -> None:
        await self._client.aclose()

    @property
    def client(self) -> Any:
        return self._client


@pytest.fixture
async def stream(redis_url: str) -> AsyncIterator[Stream]:
    stream = Stream(redis_url)
    yield stream
    await stream.close()


@contextlib.asynccontextmanager
async def relay_on(database: Database, redis_url: str, **options: Any) -> AsyncIterator[Relay]:
    redis_connection = Redis("redis", lambda: redis_url, size=2, deadline=1.0)
    options = {"beat_every": 0.2} | options
    relay = Relay(lambda: database.relay_url, Cache(redis_connection), record_ttl=86_400, **options)
    task = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await redis_connection.close()


async def test_change_reaches_stream_and_cache(database: Database, redis_url: str, stream: Stream, writer: Any) -> None:
    async with relay_on(database, redis_url):
        await receive(writer, "G99.01.01-261120-0001")
        await until(stream.changes)
    assert await stream.changes() == [("G99.01.01-261120-0001", 1)]
    value = await stream.client.get(dossier_key(1, "G99.01.01-261120-0001"))
    assert value.startswith(b"1 ")
    assert unpack(value.partition(b"\n")[2]).status == 2


@pytest.mark.parametrize(("changes", "beat"), [(0, True), (1, False), (1, True), (3, True)])
async def test_changes_are_counted_and_heartbeats_are_not(changes: int, beat: bool) -> None:
    class Taken:
        async def append(self, *_: object) -> str:
            return "12-0"

    def counted() -> tuple[float, float, float]:
        names = ("relay_changes_delivered_total", "relay_batch_changes_count", "relay_batch_changes_sum")
        delivered, batches, total = (REGISTRY.get_sample_value(name) or 0.0 for name in names)
        return delivered, batches, total

    now = datetime(2026, 11, 30, tzinfo=UTC)
    change = {"version": 2, "official_number": None, "removing": False, "at": None, "dossier_version": None}
    rows: list[Any] = [{"xid": 11, "seq": n, "code": f"code-{n}", "asked_at": now} | change for n in range(changes)]
    rows += [{"xid": 12, "seq": 0, "code": None, "at": now, "asked_at": now}] if beat else []
    before = counted()
    relay = Relay(lambda: "", cast(Cache, Taken()), record_ttl=1)
    assert await relay._deliver(rows, Position(10, 0, "10-0"), 0) == Position(12, 0, "12-0")
    assert [b - a for a, b in zip(before, counted(), strict=True)] == [changes, changes > 0, changes]


async def test_entries_are_chained_by_prev(database: Database, redis_url: str, stream: Stream, writer: Any) -> None:
    async with relay_on(database, redis_url):
        for number in range(1, 6):
            await receive(writer, f"G99.01.01-261120-000{number}")

        async def five_and_a_heartbeat() -> bool:
            return len(await stream.changes()) == 5 and len(await stream.entries()) > 6

        await until(five_and_a_heartbeat)
    entries = await stream.entries()
    assert [fields["prev"] for _, fields in entries] == ["", *(entry_id for entry_id, _ in entries[:-1])]


async def test_slow_transaction_is_not_passed_over(
    database: Database, redis_url: str, stream: Stream, writer: Any
) -> None:
    slow = await asyncpg.connect(database.writer_url)
    async with relay_on(database, redis_url):
        transaction = slow.transaction()
        await transaction.start()
        await receive(slow, "G99.01.01-261120-0001")
        await receive(writer, "G99.01.01-261120-0002")  # commits first, with the higher seq and xid
        await transaction.commit()
        await until(lambda: _length(stream, 2))
    await slow.close()
    assert sorted(await stream.changes()) == [("G99.01.01-261120-0001", 1), ("G99.01.01-261120-0002", 1)]


def gauge(name: str) -> float:
    return REGISTRY.get_sample_value(name) or 0.0


async def test_who_holds_delivery_up_is_measured(
    database: Database, redis_url: str, stream: Stream, writer: Any, owner: Any
) -> None:
    async with relay_on(database, redis_url):
        await receive(writer, "G99.01.01-261120-0001")
        await until(stream.changes)
        slow = owner.transaction()
        await slow.start()
        await owner.execute("UPDATE dossier SET version = version")
        await receive(writer, "G99.01.01-261120-0002")

        async def measured() -> bool:
            return gauge("relay_oldest_writer_seconds") > 0 and gauge("relay_backlog_seconds") > 0

        await until(measured)
        await slow.rollback()

        async def over() -> bool:
            return gauge("relay_oldest_writer_seconds") == 0 == gauge("relay_backlog_seconds")

        await until(over)
        assert ("G99.01.01-261120-0002", 1) in await stream.changes()


async def test_backlog_grows_while_redis_is_away(
    database: Database, redis_url: str, redis_server: ValkeyServer, stream: Stream, writer: Any
) -> None:
    async with relay_on(database, redis_url):
        await until(stream.entries)
        pause(redis_server)
        try:
            await receive(writer, "G99.01.01-261120-0001")

            async def waits() -> bool:
                return gauge("relay_backlog_seconds") > 0

            await until(waits)
        finally:
            resume(redis_server)

        async def over() -> bool:
            return gauge("relay_backlog_seconds") == 0

        await until(over)


async def test_bulk_events_are_passed_over(database: Database, redis_url: str, stream: Stream, writer: Any) -> None:
    await receive(writer, "G99.01.01-261120-0001", bulk=True)
    async with relay_on(database, redis_url):
        await receive(writer, "G99.01.01-261120-0002")
        await until(stream.changes)
    assert await stream.changes() == [("G99.01.01-261120-0002", 1)]
    assert await stream.client.get("dossier:v1:1:G99.01.01-261120-0001") is None


async def test_only_one_of_two_relays_delivers(database: Database, redis_url: str, stream: Stream, writer: Any) -> None:
    async with relay_on(database, redis_url) as one, relay_on(database, redis_url) as other:
        for number in range(1, 10):
            await receive(writer, f"G99.01.01-261120-000{number}")
        await until(lambda: _length(stream, 9))
        await until(lambda: _true(max(one.lag, other.lag) < 1))
        assert sorted([await one.check_postgres(), await other.check_postgres()]) == ["leader", "standby"]
        assert "another relay leads" in [await one.check_delivery(), await other.check_delivery()]
        leaders = await writer.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted")
    assert leaders == 1
    assert len(await stream.changes()) == 9


async def test_emptied_redis_gets_the_last_ten_minutes(
    database: Database, redis_url: str, stream: Stream, writer: Any, owner: Any
) -> None:
    await receive(writer, "G99.01.01-261120-0001")
    await owner.execute("UPDATE event SET recorded_at = now() - interval '1 hour'")
    await receive(writer, "G99.01.01-261120-0002")
    async with relay_on(database, redis_url):
        await until(lambda: _length(stream, 1))
        await stream.client.flushall()
        await until(lambda: _length(stream, 1))
    assert await stream.changes() == [("G99.01.01-261120-0002", 1)]


@pytest.mark.parametrize("older_snapshot", [False, True])
async def test_redis_that_lost_entries_gets_each_dossier_s_newest_version(
    database: Database, redis_url: str, stream: Stream, writer: Any, older_snapshot: bool
) -> None:
    """In order, and an official number is bound again; afterwards every event is delivered as before."""
    async with relay_on(database, redis_url, batch=2):
        kept = (await until(stream.entries))[0]
        for number in range(1, 4):
            await receive(writer, f"G99.01.01-261120-000{number}")
            for _ in range(number):
                await move(writer, f"G99.01.01-261120-000{number}")
        await append(writer, "G99.01.01-261120-0002", "number_bound", official_number="01234/2026/99901")
        await move(writer, "G99.01.01-261120-0002")
        await until(lambda: _length(stream, 11))
        await _a_heartbeat_later(stream)
        if older_snapshot:
            await _set_back(stream, kept)
        else:
            await stream.client.flushall()
        await until(lambda: _length(stream, 4))
        await _a_heartbeat_later(stream)
        await move(writer, "G99.01.01-261120-0001")
        await move(writer, "G99.01.01-261120-0001")
        await until(lambda: _length(stream, 6))
    assert await stream.changes() == [
        ("G99.01.01-261120-0001", 2),
        ("G99.01.01-261120-0003", 4),
        ("G99.01.01-261120-0002", 4),
        ("G99.01.01-261120-0002", 5),
        ("G99.01.01-261120-0001", 3),
        ("G99.01.01-261120-0001", 4),
    ]
    entries = await stream.entries()
    assert [fields["prev"] for _, fields in entries[1:]] == [entry_id for entry_id, _ in entries[:-1]]
    assert [fields["number"] for _, fields in entries if "number" in fields] == ["01234/2026/99901"]


async def test_event_is_not_left_out_for_a_later_one_that_cannot_be_delivered_yet(
    database: Database, redis_url: str, stream: Stream, writer: Any, owner: Any
) -> None:
    async with relay_on(database, redis_url):
        await receive(writer, "G99.01.01-261120-0001")
        await _a_heartbeat_later(stream)
    await stream.client.flushall()
    slow = owner.transaction()
    await slow.start()
    await owner.execute("SELECT pg_current_xact_id()")
    version = await move(writer, "G99.01.01-261120-0001")
    async with relay_on(database, redis_url):
        await until(stream.changes)
        assert await stream.changes() == [("G99.01.01-261120-0001", 1)]
        await slow.rollback()
        await until(lambda: _length(stream, 2))
    assert await stream.changes() == [("G99.01.01-261120-0001", 1), ("G99.01.01-261120-0001", version)]


async def _a_heartbeat_later(stream: Stream) -> None:
    """Return once a heartbeat has been delivered after what is in the stream now."""
    end = (await until(stream.entries))[-1][0]

    async def beaten() -> bool:
        entries = await stream.entries()
        return [
            each for each, fields in entries if "at" in fields and Position.of(each)[:2] > Position.of(end)[:2]
        ] != []

    await until(beaten)


async def _set_back(stream: Stream, entry: tuple[str, dict[str, str]]) -> None:
    """The stream as a snapshot would bring it back that was taken after this entry."""
    pipeline = stream.client.pipeline(transaction=True)
    pipeline.flushall()
    pipeline.xadd(stream_key(1), entry[1], id=entry[0])
    await pipeline.execute()


async def test_postgres_gone_back_in_time_stops_the_relay_until_a_new_epoch(
    database: Database, redis_url: str, stream: Stream, writer: Any, owner: Any
) -> None:
    async with relay_on(database, redis_url):
        await until(stream.entries)
    future = "99999999-7"
    await stream.client.xadd(stream_key(1), {"code": "X", "version": 1, "prev": ""}, id=future)
    async with relay_on(database, redis_url) as relay:
        await receive(writer, "G99.01.01-261120-0001")
        await until(lambda: _true(relay.halted))
        assert (await stream.entries())[-1][0] == future
        await owner.execute("INSERT INTO epoch (number, reason) VALUES (2, 'restored')")
        await receive(writer, "G99.01.01-261120-0002")
        await until(lambda: stream.changes(2))
        assert await stream.changes(2) == [("G99.01.01-261120-0002", 1)]
        assert not relay.halted


async def test_append_refuses_a_relay_that_has_been_overtaken(
    database: Database, redis_url: str, stream: Stream, writer: Any
) -> None:
    connection = Redis("redis", lambda: redis_url, size=1, deadline=1.0)
    cache = Cache(connection)
    from lookup.cache import Change, StreamMovedError, Value

    await cache.append(1, "", [Change("5-1", "A", 1)], [], None)
    late = Value("dossier:v1:1:A", 9, 1, b"late", 60)
    with pytest.raises(StreamMovedError) as moved:
        await cache.append(1, "", [Change("6-1", "A", 9)], [late], None)
    assert moved.value.last == "5-1"
    assert await stream.client.get(late.key) is None
    await connection.close()


async def _length(stream: Stream, length: int) -> bool:
    return len(await stream.changes()) == length


async def _true(value: Any) -> Any:
    return value


# -- what writers of many changes wait by ----------------------------------------------------------------


async def _lag_is(connection: Any, condition: Callable[[float], bool]) -> bool:
    seconds = await lag(connection)
    return seconds is not None and condition(seconds)


async def test_lag_is_nothing_on_an_idle_system_and_grows_when_no_relay_leads(
    database: Database, redis_url: str, stream: Stream, writer: Any
) -> None:
    assert await lag(writer) is None  # no relay has led yet
    async with relay_on(database, redis_url):
        await until(lambda: _lag_is(writer, lambda seconds: seconds == 0))
        await receive(writer, "G99.01.01-261120-0001")
        await until(lambda: _length(stream, 1))
        await _a_heartbeat_later(stream)
        await until(lambda: _lag_is(writer, lambda seconds: seconds == 0))
    await until(lambda: _lag_is(writer, lambda seconds: seconds > 1.5))
    async with relay_on(database, redis_url):
        await until(lambda: _lag_is(writer, lambda seconds: seconds == 0))


async def test_lag_grows_while_the_relay_is_halted_though_its_heart_beats(
    database: Database, redis_url: str, stream: Stream, writer: Any
) -> None:
    async with relay_on(database, redis_url) as relay:
        await until(lambda: _lag_is(writer, lambda seconds: seconds == 0))
        await stream.client.xadd(stream_key(1), {"code": "X", "version": 1, "prev": ""}, id="99999999-7")
        await until(lambda: _true(relay.halted))
        await until(lambda: _lag_is(writer, lambda seconds: seconds > 0.8))
        assert await writer.fetchval("SELECT now() - at < interval '1.5 seconds' FROM heartbeat")


async def test_lag_is_how_long_a_change_has_waited_behind_an_open_writer(
    database: Database, redis_url: str, stream: Stream, writer: Any, owner: Any
) -> None:
    async with relay_on(database, redis_url):
        await until(lambda: _lag_is(writer, lambda seconds: seconds == 0))
        slow = owner.transaction()
        await slow.start()
        await owner.execute("SELECT pg_current_xact_id()")
        await receive(writer, "G99.01.01-261120-0001")
        await until(lambda: _lag_is(writer, lambda seconds: seconds > 0.5))
        assert await stream.changes() == []
        await slow.rollback()
        await until(lambda: _lag_is(writer, lambda seconds: seconds == 0))


async def test_lag_is_told_between_heartbeats_while_more_waits_than_a_batch(
    database: Database, redis_url: str, stream: Stream, writer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 8):
        await receive(writer, f"G99.01.01-261120-000{number}")
    append, deliveries, stands, go_on = Cache.append, 0, asyncio.Event(), asyncio.Event()

    async def held_up(*arguments: Any) -> str:
        nonlocal deliveries
        deliveries += 1
        if deliveries == 2:
            stands.set()
            await go_on.wait()
        return await append(*arguments)

    monkeypatch.setattr(Cache, "append", held_up)
    async with relay_on(database, redis_url, batch=3, beat_every=3600.0):
        await stands.wait()
        heart = await writer.fetchrow("SELECT at, delivered_at FROM heartbeat")
        oldest = await writer.fetchval("SELECT recorded_at FROM event WHERE code = 'G99.01.01-261120-0004'")
        assert heart["delivered_at"] <= min(oldest, heart["at"])
        go_on.set()
        caught_up = "SELECT at FROM heartbeat WHERE delivered_at = at"
        assert await until(lambda: writer.fetchval(caught_up)) == heart["at"]
    assert deliveries == 3


# -- the storm -------------------------------------------------------------------------------------------

WRITERS = 20
SECONDS = float(os.environ.get("HOSO24_STORM_SECONDS", "15"))
SEQ_ALONE = CHANGES.replace(
    "(e.xid, e.seq) > ($2::xid8, $3::bigint)", "e.seq > $3::bigint AND $2::xid8 IS NOT NULL"
).replace(
    "AND e.xid < pg_snapshot_xmin(pg_current_snapshot())\n          ORDER BY e.xid, e.seq",
    "ORDER BY e.seq",
)


async def write_with_pauses(url: str, number: int, until_time: float, written: dict[str, int]) -> None:
    """Receive and move dossiers in transactions that pause in the middle, some of which are rolled back."""
    rng = random.Random(number)
    connection = await asyncpg.connect(url)
    codes: list[str] = []
    loop = asyncio.get_running_loop()
    while loop.time() < until_time:
        transaction = connection.transaction()
        await transaction.start()
        if not codes or rng.random() < 0.4:
            code = f"G99.01.01-2611{number + 1:02d}-{len(codes) + 1:04d}"
            await receive(connection, code)
            version = 1
        else:
            code = rng.choice(codes)
            version = await move(connection, code)
        await asyncio.sleep(rng.choice((0, 0, 0.005, 0.02, 0.1)))
        if rng.random() < 0.1:
            await transaction.rollback()
            continue
        await transaction.commit()
        written[code] = version
        if version == 1:
            codes.append(code)
    await connection.close()


def start_relay(database: Database, redis_url: str, log: Path) -> "subprocess.Popen[bytes]":
    """A relay in a process of its own, to be killed and stopped."""
    environ = {
        **os.environ,
        "HOSO24_PG_RELAY_URL": database.relay_url,
        "HOSO24_REDIS_URL": redis_url,
        "HOSO24_LOOKUP_KEY_SECRETS": KEY_SECRETS,
        "HOSO24_RELAY_ADMIN_PORT": "0",
        "HOSO24_HOST": "127.0.0.1",
    }
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "hoso24", "relay"], env=environ, stdout=output, stderr=subprocess.STDOUT
        )


async def test_every_event_or_a_newer_one_reaches_the_stream_whatever_happens(
    fragile: Callable[..., Any], reaper: Any, tmp_path: Path
) -> None:
    """Writers that pause inside their transactions; relays killed and stopped; Redis emptied, and set back.

    An event may be left out only after Redis has lost entries, and only for a later one of its dossier.
    """
    postgres, valkey = fragile()
    database = await prepare(postgres.admin_url, "hoso24")
    seen = _Watcher(valkey.url)
    relays = [start_relay(database, valkey.url, tmp_path / f"relay{n}.log") for n in range(2)]
    for relay in relays:
        reaper.watch(relay.pid, signal.SIGKILL)
    written: dict[str, int] = {}
    loop = asyncio.get_running_loop()
    end = loop.time() + SECONDS
    writers = [
        asyncio.create_task(write_with_pauses(database.writer_url, number, end, written)) for number in range(WRITERS)
    ]
    watching = asyncio.create_task(seen.watch())
    snapshot = tmp_path / "old.rdb"
    try:
        await asyncio.sleep(SECONDS * 0.15)
        relays[0].kill()
        relays[0].wait()
        relays.append(start_relay(database, valkey.url, tmp_path / "relay2.log"))
        await asyncio.sleep(SECONDS * 0.1)
        await seen.client.save()
        shutil.copy(valkey.snapshot_path, snapshot)
        relays[1].send_signal(signal.SIGSTOP)
        await asyncio.sleep(SECONDS * 0.25)
        relays[1].send_signal(signal.SIGCONT)
        valkey.kill()
        valkey.restart()  # empty: nothing is saved on the way
        await asyncio.sleep(SECONDS * 0.15)
        valkey.kill()
        shutil.copy(snapshot, valkey.snapshot_path)
        valkey.restart()  # as it was some time ago
        await asyncio.gather(*writers)

        async def all_delivered() -> bool:
            return {code: seen.latest.get(code) for code in written} == written

        await until(all_delivered, within=20)
    finally:
        watching.cancel()
        await asyncio.gather(watching, *writers, return_exceptions=True)
        for relay in relays:
            relay.send_signal(signal.SIGCONT)
            relay.kill()
            relay.wait()
            reaper.forget(relay.pid)
        await seen.close()
    assert len(written) > WRITERS
    assert seen.went_backwards == []
    reader = await asyncpg.connect(database.owner_url)
    logged = {(row["code"], row["version"]) for row in await reader.fetch("SELECT code, version FROM event")}
    await reader.close()
    assert {(code, version) for code, version in logged if seen.latest.get(code, 0) < version} == set()
    assert seen.delivered - logged == set()


class _Watcher:
    """Follows the stream from the beginning, again from the beginning whenever it was replaced."""

    def __init__(self, url: str) -> None:
        # No socket_timeout: under one, redis-py sends with asyncio.wait_for, which before Python 3.12 can swallow
        # a cancellation; the watching would then never end.
        self.client: Any = redis.asyncio.Redis.from_url(url, protocol=2, socket_timeout=None)
        self.delivered: set[tuple[str, int]] = set()
        self.latest: dict[str, int] = {}
        self.went_backwards: list[tuple[str, int, int]] = []

    async def watch(self) -> None:
        last, run = "0-0", ""
        in_this_stream: dict[str, int] = {}
        while True:
            try:
                info = await self.client.info("server")
                if info["run_id"] != run:  # another Redis, or the same one started again: read its stream whole
                    last, run, in_this_stream = "0-0", info["run_id"], {}
                raw = await self.client.xrange(stream_key(1), min=f"({last}")
            except (redis.exceptions.ConnectionError, redis.exceptions.ResponseError, OSError):
                await asyncio.sleep(0.02)
                continue
            for entry_id, fields in raw:
                last = entry_id.decode()
                if b"code" in fields:
                    self._take(fields[b"code"].decode(), int(fields[b"version"]), in_this_stream)
            await asyncio.sleep(0.01)

    def _take(self, code: str, version: int, in_this_stream: dict[str, int]) -> None:
        before = in_this_stream.get(code, 0)
        if version <= before:
            self.went_backwards.append((code, before, version))
        in_this_stream[code] = version
        self.delivered.add((code, version))
        self.latest[code] = max(version, self.latest.get(code, 0))

    async def close(self) -> None:
        await self.client.aclose()


async def test_cursor_of_seq_alone_loses_events(
    database: Database, redis_url: str, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same writers, and a relay that trusts the sequence: unless it fails, the test above proves nothing."""
    assert SEQ_ALONE != CHANGES
    monkeypatch.setattr("intake.books.relay.CHANGES", SEQ_ALONE)
    written: dict[str, int] = {}
    async with relay_on(database, redis_url):
        await until(stream.entries)  # an empty Redis would get the newest versions only
        end = asyncio.get_running_loop().time() + 3
        await asyncio.gather(
            *(write_with_pauses(database.writer_url, number, end, written) for number in range(WRITERS))
        )
        reader = await asyncpg.connect(database.owner_url)
        logged = {(row["code"], row["version"]) for row in await reader.fetch("SELECT code, version FROM event")}
        await reader.close()
        await asyncio.sleep(1.0)  # forty polls: whatever it has not delivered by now it never will
        delivered = set(await stream.changes())
    assert logged - delivered


async def test_pair_cursor_loses_none_of_the_same_writers(database: Database, redis_url: str, stream: Stream) -> None:
    written: dict[str, int] = {}
    async with relay_on(database, redis_url):
        await until(stream.entries)  # an empty Redis would get the newest versions only
        end = asyncio.get_running_loop().time() + 3
        await asyncio.gather(
            *(write_with_pauses(database.writer_url, number, end, written) for number in range(WRITERS))
        )
        reader = await asyncpg.connect(database.owner_url)
        logged = {(row["code"], row["version"]) for row in await reader.fetch("SELECT code, version FROM event")}
        await reader.close()
        await until(lambda: _length(stream, len(logged)))
    assert set(await stream.changes()) == logged
