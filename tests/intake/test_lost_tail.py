"""Postgres went back in time: whatever happens meanwhile the relay finds out, and what was lost has a name."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner
from prometheus_client import REGISTRY

from hoso24 import cli
from intake.books import lost_tail, relay
from intake.books.lost_tail import LostTail
from lookup.cache import Cache, Heard, stream_key
from ops.stores.redis import Redis
from tests.books import receive
from tests.conftest import KEY_SECRETS, Database
from tests.house import until
from tests.intake.test_relay import Stream, move, relay_on

CODE, OTHER, THIRD = (f"G99.01.01-261120-000{n}" for n in (1, 2, 3))

# What a restore does to the log, done by hand: the rows are gone, ids go on from an earlier one.
FORGET = "DELETE FROM event WHERE code = $1 AND version = $2"
TAKE_BACK = "UPDATE dossier SET version = version - 1, status = 2, timeline = timeline - -1 WHERE code = $1"
SLIP_IN = """
UPDATE event
   SET xid = $3::text::xid8
 WHERE code = $1 AND version = $2
"""


@pytest.fixture
async def stream(redis_url: str) -> AsyncIterator[Stream]:
    stream = Stream(redis_url)
    yield stream
    await stream.close()


async def find(database: Database, redis_url: str, owner: Any, epoch: int = 1) -> LostTail:
    connection = Redis("redis", lambda: redis_url, size=1, deadline=10.0)
    try:
        return await lost_tail.find(owner, Cache(connection), epoch)
    finally:
        await connection.close()


async def delivered(database: Database, redis_url: str, stream: Stream, writer: Any) -> None:
    """Two dossiers, one of them moved, and heartbeats after that."""
    async with relay_on(database, redis_url):
        await until(stream.entries)  # an empty Redis would get the newest versions only
        await receive(writer, CODE)
        await receive(writer, OTHER)
        await move(writer, CODE)

        async def with_heartbeats_after() -> bool:
            beats = ["at" in fields for _, fields in await stream.entries()]
            return beats.count(False) == 3 and len(beats) > 5 and beats[-2:] == [True, True]

        await until(with_heartbeats_after)


async def test_nothing_is_lost_in_a_history_that_goes_on(
    database: Database,
    redis_url: str,
    stream: Stream,
    writer: Any,
    owner: Any,
) -> None:
    assert (await find(database, redis_url, owner)).fault == ""  # an empty stream
    async with relay_on(database, redis_url):
        await until(stream.entries)
    assert (await find(database, redis_url, owner)).fault == ""  # heartbeats alone
    await delivered(database, redis_url, stream, writer)
    await receive(writer, THIRD)  # committed and yet to be delivered
    tail = await find(database, redis_url, owner)
    assert (tail.fault, tail.changes, tail.last) == ("", (), (await stream.entries())[-1][0])


async def test_lost_changes_are_named_however_many_ids_were_used_since(
    database: Database,
    redis_url: str,
    stream: Stream,
    writer: Any,
    owner: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Heartbeats use ids up as well: a relay that looked at those alone would soon find everything in order."""
    await delivered(database, redis_url, stream, writer)
    entries = dict(await stream.entries())
    lost = {(fields["code"], fields["version"]): entry for entry, fields in entries.items() if "code" in fields}
    await owner.execute(FORGET, CODE, 2)
    await owner.execute(TAKE_BACK, CODE)
    await owner.execute(FORGET, OTHER, 1)
    for _ in range(len(entries) + 5):
        await owner.execute("UPDATE heartbeat SET at = now(), xid = pg_current_xact_id()")
    with caplog.at_level(logging.CRITICAL, logger="intake.books.relay"):
        async with relay_on(database, redis_url) as halted:

            async def is_halted() -> bool:
                return halted.halted

            await until(is_halted)
            await receive(writer, THIRD)
            before = await owner.fetchval("SELECT xid FROM heartbeat")

            async def has_gone_on_beating() -> bool:
                return bool(await owner.fetchval("SELECT xid > $1::xid8 FROM heartbeat", before + 3))

            await until(has_gone_on_beating)
            assert halted.halted
    assert (CODE, 2) in await stream.changes()
    assert len(await stream.changes()) == 3, "something was delivered behind the lost tail"
    (alarm,) = {record.getMessage() for record in caplog.records if record.name == "intake.books.relay"}
    assert "changes lost: 2" in alarm
    assert lost[OTHER, "1"] in alarm
    assert lost[CODE, "2"] in alarm
    assert "hoso24 cache renew" in alarm
    assert CODE not in alarm, "codes stand in no log"
    tail = await find(database, redis_url, owner)
    assert [(change.code, change.version) for change in tail.changes] == [(OTHER, 1), (CODE, 2)]
    assert tail.at == max(int(fields["at"]) for fields in entries.values() if "at" in fields)


async def test_same_version_made_anew_is_not_the_one_that_was_lost(
    database: Database,
    redis_url: str,
    stream: Stream,
    writer: Any,
    owner: Any,
) -> None:
    await delivered(database, redis_url, stream, writer)
    await owner.execute(FORGET, CODE, 2)
    await owner.execute(TAKE_BACK, CODE)
    await move(writer, CODE)
    tail = await find(database, redis_url, owner)
    assert [(change.code, change.version) for change in tail.changes] == [(CODE, 2)]


async def test_change_under_an_id_that_the_stream_is_past_is_noticed(
    database: Database,
    redis_url: str,
    stream: Stream,
    writer: Any,
    owner: Any,
) -> None:
    """Nothing was lost but heartbeats, and an id was given out twice: that change would never be delivered."""
    await delivered(database, redis_url, stream, writer)
    last = (await stream.entries())[-1][0]
    await receive(writer, THIRD)
    await owner.execute(SLIP_IN, THIRD, 1, str(int(last.partition("-")[0]) - 1))
    tail = await find(database, redis_url, owner)
    assert "without delivering it" in tail.fault
    assert tail.changes == ()
    await stream.client.xtrim(stream_key(1), maxlen=2, approximate=False)
    (before, first), (_, second) = await stream.entries()
    assert "at" in first
    assert "at" in second
    await owner.execute(SLIP_IN, THIRD, 1, before.partition("-")[0])
    assert "without delivering it" in (await find(database, redis_url, owner)).fault


async def test_id_that_is_yet_to_be_given_out_is_noticed(
    database: Database,
    redis_url: str,
    stream: Stream,
    writer: Any,
    owner: Any,
) -> None:
    await delivered(database, redis_url, stream, writer)
    await stream.client.xadd(stream_key(1), {"at": 1, "since": "x", "prev": ""}, id="99999999-0")
    tail = await find(database, redis_url, owner)
    assert "not assigned yet" in tail.fault
    assert "no change is lost" in str(tail)


async def test_tail_longer_than_a_chunk_is_found_whole(
    database: Database,
    redis_url: str,
    stream: Stream,
    writer: Any,
    owner: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lost_tail, "CHUNK", 2)
    monkeypatch.setattr(lost_tail, "NAMED", 1)
    await delivered(database, redis_url, stream, writer)
    await owner.execute("DELETE FROM event")
    tail = await find(database, redis_url, owner)
    assert len(tail.changes) == 3
    assert "changes lost: 3" in str(tail)
    assert "and 2 more" in str(tail)


@pytest.mark.parametrize(("lost", "told"), [(20, "x20)"), (21, "x20 and 1 more)")])
def test_alarm_names_twenty_lost_changes_and_counts_the_rest(lost: int, told: str) -> None:
    changes = [Heard(f"x{number}", "") for number in range(1, lost + 1)]
    said = str(LostTail(1, "9-9", 0, changes, "the log ends before the stream"))
    assert f"changes lost: {lost} (x1, x2, " in said
    assert said.endswith(told)


async def test_alarm_is_repeated_now_and_then_and_not_every_second(
    database: Database,
    redis_url: str,
    stream: Stream,
    writer: Any,
    owner: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relay, "REMIND_AFTER", 0.0)
    await delivered(database, redis_url, stream, writer)
    await owner.execute("DELETE FROM event")
    with caplog.at_level(logging.CRITICAL, logger="intake.books.relay"):
        async with relay_on(database, redis_url):

            async def twice() -> bool:
                return len(caplog.records) >= 2

            await until(twice)


def test_halted_relay_says_so_again_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    halted = relay.Relay(lambda: "", cast(Cache, None), record_ttl=1)
    said = []
    for seconds in (0.0, 59.9, 0.1, 59.9, 0.1):
        now += seconds
        halted._halt(relay.WentBackInTimeError("what was lost"))
        said.append(len(caplog.messages))
    assert said == [1, 1, 2, 2, 3]


async def test_new_leader_asks_the_stream_where_it_stands_and_does_not_rely_on_what_it_knew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    led_before = relay.Relay(lambda: "", cast(Cache, None), record_ttl=1)
    led_before._position = relay.Position(11, 1, "11-1")

    async def lost() -> None:
        raise ConnectionError

    monkeypatch.setattr(led_before, "_beat", lost)
    with pytest.raises(ConnectionError):
        await led_before._lead()
    assert (vars(led_before)["_position"], led_before._why) == (None, "leader")


async def test_relay_that_leads_no_more_is_not_called_halted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next leader checks the log again, and says so."""
    halted = relay.Relay(lambda: "", cast(Cache, None), record_ttl=1)
    halted._halt(relay.WentBackInTimeError("what was lost"))
    assert REGISTRY.get_sample_value("relay_halted") == 1
    lost = asyncio.Event()

    async def fail() -> None:
        lost.set()
        raise relay.LogUnavailable

    monkeypatch.setattr(halted, "_connect_and_lead", fail)
    async with relay.leading(halted):
        await lost.wait()
    assert (halted.halted, REGISTRY.get_sample_value("relay_halted")) == (False, 0)


@pytest.mark.parametrize("body", [b"", b"in no known form"])
def test_lost_change_that_redis_has_nothing_of_is_named_all_the_same(body: bytes) -> None:
    bound = lost_tail._change(Heard("11-1", "10-0", CODE, 2, "01234/2026/99901"), body)
    assert bound == lost_tail.LostChange(CODE, 2, "11-1", None, None, "01234/2026/99901")
    moved = lost_tail._change(Heard("11-1", "10-0", CODE, 2), body)
    assert moved == lost_tail.LostChange(CODE, 2, "11-1", None, None, None)


async def test_command_names_what_was_lost_and_keeps_it(
    database: Database,
    redis_url: str,
    stream: Stream,
    writer: Any,
    owner: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environ = {
        "HOSO24_PG_RELAY_URL": database.relay_url,
        "HOSO24_REDIS_URL": redis_url,
        "HOSO24_LOOKUP_KEY_SECRETS": KEY_SECRETS,
        "COLUMNS": "200",
    }
    await delivered(database, redis_url, stream, writer)

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(cli, ["cache", "lost", *arguments], env=environ)

    nothing = await asyncio.to_thread(run)
    assert nothing.exit_code == 0, nothing.output
    assert "the log goes on where the stream ends" in nothing.output
    await owner.execute(FORGET, CODE, 2)
    found = await asyncio.to_thread(run, "-o", str(tmp_path / "lost.ndjson"))
    assert found.exit_code == 0, found.output
    assert CODE in found.output
    assert "changes lost: 1" in found.output
    (line,) = (tmp_path / "lost.ndjson").read_text().splitlines()
    kept = json.loads(line)
    assert (kept["code"], kept["version"], kept["status"]) == (CODE, 2, "processing")
    assert not [name for name in kept if "applicant" in name]
