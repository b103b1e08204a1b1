"""Synchronisations beside one another and beside single moves, and what PostgreSQL, relay and kill -9 do to them."""

import asyncio
import contextlib
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
from prometheus_client import REGISTRY

from intake.books import lag
from intake.partners import batches
from intake.partners import sync as syncs
from intake.partners.writing import Moment
from ops.local.ports import free_port
from tests.conftest import KEY_SECRETS, SEAL_KEYS, WEBHOOK_SECRET, Database
from tests.house import House, intake_at, intake_settings, new_token, until
from tests.intake.test_sync import PREFIX, body, new, office, owner, results, send, sound, step, told
from tests.processes import HOSO24

__all__ = ["office", "owner"]

ROOT = str(Path(__file__).resolve().parents[2])


@pytest.fixture
async def two(office: House, database: Database) -> AsyncIterator[list[str]]:
    """Two intakes of one database: each allows a client one synchronisation at a time."""
    async with intake_at(intake_settings(database.writer_url)) as other:
        yield [office.intake_url, other]


async def both(office: House, two: list[str], one: bytes, other: bytes) -> list[list[dict[str, Any]]]:
    """The answers to two bodies that are sent at the same time to two intakes."""
    found = await asyncio.gather(*(send(office, part, url=url) for part, url in zip((one, other), two, strict=True)))
    assert [status for status, _ in found] == [200, 200]
    assert [answers[-1]["complete"] for _, answers in found] == [True, True]
    return [answers[:-1] for _, answers in found]


def lines(count: int) -> list[dict[str, Any]]:
    return [new(n) for n in range(1, count + 1)] + [step(n, "processing", 2) for n in range(1, count + 1)]


async def each_id_once(owner: Any, expected: int) -> None:
    rows = await owner.fetch("SELECT source_event_id, count(*) AS n FROM event GROUP BY 1")
    assert {row["n"] for row in rows} == {1}
    assert len(rows) == expected


async def test_same_body_twice_at_once(office: House, two: list[str], owner: Any, database: Database) -> None:
    content = body(*lines(300))
    found = await both(office, two, content, content)
    for one, other in zip(*found, strict=True):
        assert "duplicate" in (one["result"], other["result"])
        assert {one["result"], other["result"]} <= {"created", "applied", "duplicate"}
    await each_id_once(owner, 600)
    await sound(database)


async def test_same_ids_in_opposite_order(office: House, two: list[str], owner: Any, database: Database) -> None:
    await told(office, *(new(n) for n in range(1, 301)))
    moves = [step(n, "processing", 2) for n in range(1, 301)]
    found = await both(office, two, body(*moves), body(*reversed(moves)))
    assert Counter(each["result"] for answers in found for each in answers) == {"applied": 300, "duplicate": 300}
    await each_id_once(owner, 600)
    await sound(database)


async def test_same_ids_on_other_dossiers(office: House, two: list[str], owner: Any, database: Database) -> None:
    await told(office, *(new(n) for n in range(1, 401)))
    one = [step(n, "processing", 2, id=f"id{n}") for n in range(1, 201)]
    other = [step(n + 200, "processing", 2, id=f"id{201 - n}") for n in range(1, 201)]
    found = await both(office, two, body(*one), body(*other))
    counted = Counter(each.get("code", each["result"]) for answers in found for each in answers)
    assert counted == {"applied": 200, "id_reused": 200}
    await each_id_once(owner, 600)
    await sound(database)


async def test_deadlock_over_ids_is_no_reason_to_give_up(
    office: House, owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two bodies have the same ids on other dossiers, in opposite orders: PostgreSQL ends one of the transactions."""
    put, calls = batches.put, 0

    async def ended_once(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise asyncpg.DeadlockDetectedError("deadlock detected")
        return await put(*given)

    monkeypatch.setattr(batches, "put", ended_once)
    assert set(results(await told(office, *(new(n) for n in range(1, 11))))) == {"created"}
    assert calls == 3


async def test_same_dossiers_with_other_ids(office: House, two: list[str], owner: Any, database: Database) -> None:
    await told(office, *(new(n) for n in range(1, 201)))
    one = [step(n, "processing", 2, id=f"a{n}") for n in range(1, 201)]
    other = [step(n, "processing", 3, id=f"b{n}") for n in range(200, 0, -1)]
    await both(office, two, body(*one), body(*other))
    rows = await owner.fetch("SELECT version, source_seq FROM dossier")
    assert {tuple(row) for row in rows} == {(3, 3)}
    await each_id_once(owner, 600)
    await sound(database)


async def test_new_codes_in_opposite_order(office: House, two: list[str], owner: Any, database: Database) -> None:
    other = [new(n, id=f"o{n}") for n in range(200, 0, -1)]
    found = await both(office, two, body(*(new(n) for n in range(1, 201))), body(*other))
    assert Counter(each["result"] for answers in found for each in answers) == {"created": 200, "duplicate": 200}
    assert await owner.fetchval("SELECT count(*) FROM dossier") == 200
    await sound(database)


async def test_single_moves_of_the_same_dossiers_at_the_same_time(
    office: House, owner: Any, database: Database
) -> None:
    await told(office, *(new(n) for n in range(1, 21)))
    content = body(*(step(n, "processing", seq, id=f"{n}-{seq}") for seq in range(2, 22) for n in range(1, 21)))
    sending = asyncio.create_task(send(office, content))
    drawn = random.Random(5)
    versions = [(await office.move(f"{PREFIX}{drawn.randint(1, 20):04}", "processing"))["version"] for _ in range(40)]
    status, answers = await sending
    assert (status, set(results(answers[:-1]))) == (200, {"applied"})
    assert len(versions) == 40
    assert await owner.fetchval("SELECT sum(version) FROM dossier") == 20 + 400 + 40
    await sound(database)


# -- the database refuses, is away, or is slow ------------------------------------------------------------------------


async def test_line_that_the_database_refuses_costs_no_other(office: House, owner: Any, database: Database) -> None:
    await owner.execute("ALTER TABLE event ADD CONSTRAINT not_this_one CHECK (source_event_id <> 'c57') NOT VALID")
    answers = await told(office, *(new(n) for n in range(1, 101)))
    assert [each["line"] for each in answers if each["result"] != "created"] == [57]
    assert (answers[56]["code"], answers[56]["detail"]) == ("refused_by_database", "not_this_one")
    assert await owner.fetchval("SELECT count(*) FROM dossier") == 99
    await sound(database)


async def test_line_that_the_database_refuses_and_one_beside_it_that_cannot_be_read_are_dead_letters(
    office: House, owner: Any
) -> None:
    await owner.execute("ALTER TABLE event ADD CONSTRAINT not_this_one CHECK (source_event_id <> 'c1') NOT VALID")
    answers = await told(office, new(1), new(2), {"id": "b", "dossier": "x", "status": "processing"})
    assert results(answers) == ["rejected", "created", "rejected"]
    letters = await owner.fetch("SELECT source_event_id, error, seen FROM dead_letter ORDER BY source_event_id")
    assert [tuple(row) for row in letters] == [("b", "malformed_code", 1), ("c1", "refused_by_database", 1)]


async def test_refused_line_is_a_dead_letter_until_its_id_is_applied(office: House, owner: Any) -> None:
    found = "SELECT source_event_id, error, closed_at IS NULL AS open FROM dead_letter ORDER BY source_event_id"
    early, broken = await told(
        office, step(1, "processing", 2, id="m"), {"id": "b", "dossier": "x", "status": "processing"}
    )
    assert results([early, broken]) == ["rejected", "rejected"]
    assert [tuple(row) for row in await owner.fetch(found)] == [
        ("b", "malformed_code", True), ("m", "dossier_not_found", True)
    ]  # fmt: skip
    await told(office, new(1), step(1, "processing", 2, id="m"))
    assert [tuple(row) for row in await owner.fetch(found)] == [
        ("b", "malformed_code", True), ("m", "dossier_not_found", False)
    ]  # fmt: skip
    await told(office, b"x" * 70_000)
    assert await owner.fetchval("SELECT octet_length(line) FROM dead_letter WHERE error = 'line_too_long'") == 65_536


async def test_dead_letter_is_replayed_as_a_synchronisation_applies_it(office: House, owner: Any) -> None:
    await told(office, step(1, "processing", 2, id="m"))
    await told(office, new(1))
    n = await owner.fetchval("SELECT n FROM dead_letter")
    status, answer = await office.hand_in("POST", f"/api/v1/dead-letters/{n}/replay", None)
    assert (status, answer["result"], answer["closed"]) == (200, "applied", True)
    assert await owner.fetchval("SELECT status FROM dossier") == 4


async def test_without_postgres_nothing_is_worked_on(office: House, database: Database, owner: Any) -> None:
    await told(office, new(1))
    async with away(database):
        status, problem = await send(office, body(new(2)))
        assert (status, problem["code"]) == (503, "unavailable")


@contextlib.asynccontextmanager
async def away(database: Database) -> AsyncIterator[None]:
    """PostgreSQL lets the writer in no more, and ends its sessions."""
    admin = await asyncpg.connect(database.admin_url)
    try:
        await admin.execute("ALTER ROLE hoso24_writer NOLOGIN")
        await end_sessions(admin, database)
        yield
    finally:
        await admin.execute("ALTER ROLE hoso24_writer LOGIN")
        await admin.close()


async def end_sessions(admin: Any, database: Database) -> None:
    await admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND usename = 'hoso24_writer'",
        database.name,
    )


async def test_database_that_goes_away_in_the_middle_leaves_the_rest_undone(
    office: House, owner: Any, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, calls = batches.put, 0

    async def put_until_the_third(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            admin = await asyncpg.connect(database.admin_url)
            await end_sessions(admin, database)
            await admin.close()
        return await put(*given)

    monkeypatch.setattr(batches, "put", put_until_the_third)
    monkeypatch.setattr(syncs, "BATCH", 10)
    content = body(*(new(n) for n in range(1, 51)))
    _, (*answers, end) = await send(office, content)
    assert end["complete"] is False
    done = [each for each in answers if each["result"] == "created"]
    undone = [each for each in answers if each["result"] == "not_done"]
    assert len(done) + len(undone) == 50
    # The session ends while the third batch is under way: it may have heard that nothing was begun, or not know.
    unknown = sum(each["code"] == "outcome_unknown" for each in undone)
    assert unknown in (0, 10)
    assert {each["code"] for each in undone[unknown:]} == {"database_away"}
    assert [each["id"] for each in answers] == [f"c{n}" for n in range(1, 51)]
    stored = await owner.fetchval("SELECT count(*) FROM dossier")
    assert stored in {len(done), len(done) + unknown}
    monkeypatch.undo()
    again = await until(lambda: complete(office, content))
    assert Counter(results(again)) == {"duplicate": stored, "created": 50 - stored}
    await sound(database)


async def complete(office: House, content: bytes) -> list[dict[str, Any]] | None:
    status, answers = await send(office, content)
    return list(answers[:-1]) if status == 200 and answers[-1]["complete"] else None


async def test_batch_that_is_slower_than_the_deadline_is_unknown_and_found_by_sending_it_again(
    database: Database, owner: Any
) -> None:
    token = await new_token(database)
    settings = intake_settings(database.writer_url, intake_deadline=0.3)
    async with intake_at(settings) as url, aiohttp.ClientSession() as http:
        office = House("", url, http, token)
        await told(office, new(1))
        holder = await asyncpg.connect(database.owner_url)
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute("SELECT FROM dossier FOR UPDATE")
        _, (unknown, after, end) = await send(office, body(step(1, "processing", 2), new(2, create=None)))
        assert (unknown["code"], end["complete"]) == ("outcome_unknown", False)
        assert after["result"] in ("not_done", "rejected")
        await transaction.rollback()
        await holder.close()
        (answer,) = await until(lambda: complete(office, body(step(1, "processing", 2))))
        assert answer["result"] in ("applied", "duplicate")
        assert await owner.fetchval("SELECT version FROM dossier") == 2


# -- the relay is behind ---------------------------------------------------------------------------------------------


def lagging(seconds: str) -> str:
    """The statement with another lag in it."""
    return batches.POSITION.replace(lag.LAG, f"SELECT {seconds}::float8")


async def test_relay_that_is_behind_is_waited_for(office: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first look finds it 0.3 s behind, the next one in time."""
    looks: list[float] = [0.3]
    position = batches.position

    async def behind_once(connection: Any) -> Any:
        moment = await position(connection)
        return Moment(moment.now, moment.epoch, looks.pop() if looks else 0.0)

    before = REGISTRY.get_sample_value("intake_sync_paused_seconds_total") or 0.0
    monkeypatch.setattr(batches, "position", behind_once)
    assert results(await told(office, new(1))) == ["created"]
    assert (REGISTRY.get_sample_value("intake_sync_paused_seconds_total") or 0.0) == pytest.approx(before + 0.3)


async def test_relay_that_does_not_deliver_ends_a_synchronisation_and_no_single_move(
    office: House, owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await told(office, new(1))
    monkeypatch.setattr(batches, "POSITION", lagging("10.1"))
    _, (line, end) = await send(office, body(step(1, "processing", 2)))
    assert line == {"line": 1, "id": "s1-processing-2", "result": "not_done", "code": "relay_behind"}
    assert (end["complete"], end["retry_after"]) == (False, 10)
    assert (await office.move(f"{PREFIX}0001", "processing"))["version"] == 2


async def test_client_that_has_used_up_its_lines_is_told_before_and_within_a_body(
    database: Database, owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await new_token(database)
    monkeypatch.setattr(syncs, "BATCH", 10)
    async with intake_at(intake_settings(database.writer_url, client_lines=25)) as url, aiohttp.ClientSession() as http:
        office = House("", url, http, token)
        _, (*answers, end) = await send(office, body(*(new(n) for n in range(1, 41))))
        counted = Counter(each.get("code", each["result"]) for each in answers)
        assert (counted, end["complete"]) == ({"created": 20, "client_limit": 20}, False)
        assert end["retry_after"] >= 1
        await told(office, *(new(n) for n in range(41, 46)))
        status, problem = await send(office, body(new(50)))
        assert (status, problem["code"]) == (429, "client_limit")


# -- kill -9 ---------------------------------------------------------------------------------------------------------

KILLED = """
import os, signal
from intake.partners import {module}
before, calls = {module}.{name}, 0
async def killed(*given, **more):
    global calls
    calls += 1
    if calls == {call}:
        os.kill(os.getpid(), signal.SIGKILL)
    return await before(*given, **more)
{module}.{name} = killed
"""


@pytest.mark.parametrize(
    ("module", "name", "call"),
    [
        ("batches", "position", 4),  # the transaction has begun
        ("batches", "_locked", 3),
        ("batches", "seen", 5),
        ("letters", "keep", 3),  # rows and events are written, and not committed
        ("letters", "close", 1),
        ("sync.Sync", "keep_pace", 4),  # between two transactions
    ],
)
async def test_intake_that_is_killed_anywhere_has_recorded_each_id_once_after_the_body_comes_again(
    database: Database, owner: Any, tmp_path: Path, module: str, name: str, call: int
) -> None:
    token = await new_token(database)
    content = body(*lines(200))
    first, _, _ = module.partition(".")
    program = KILLED.format(module=module, name=name, call=call).replace(f"import {module}", f"import {first}")
    async with aiohttp.ClientSession() as http:
        async with process(database, tmp_path / "killed", program) as (running, url):
            with pytest.raises(aiohttp.ClientError):
                await send(House("", url, http, token), content)
            assert await running.wait() == -signal.SIGKILL
        before = await owner.fetchval("SELECT count(*) FROM event")
        assert before < 400
        async with process(database, tmp_path / "again") as (_, url):
            answers = await told(House("", url, http, token), *content.splitlines())
    assert Counter(each["result"] == "duplicate" for each in answers)[True] == before
    assert set(results(answers)) <= {"created", "applied", "duplicate"}
    await each_id_once(owner, 400)
    await sound(database)


@contextlib.asynccontextmanager
async def process(
    database: Database, output: Path, program: str = ""
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """An intake as a process of its own, which runs `program` before; and its URL."""
    port = free_port(12_000 + os.getpid() % 3000 * 2)
    admin_port = free_port(port + 1)
    environ = {
        "HOSO24_PG_WRITER_URL": database.writer_url,
        "HOSO24_LOOKUP_KEY_SECRETS": KEY_SECRETS,
        "HOSO24_SEAL_KEYS": SEAL_KEYS,
        "HOSO24_WEBHOOK_SECRET": WEBHOOK_SECRET,
        "HOSO24_HOST": "127.0.0.1",
        "HOSO24_INTAKE_PORT": str(port),
        "HOSO24_INTAKE_ADMIN_PORT": str(admin_port),
        "HOSO24_DRAIN_SECONDS": "0",
        "PYTHONPATH": ROOT,
    }
    with output.open("wb") as file:
        command = (sys.executable, "-c", program + HOSO24, "intake")
        running = await asyncio.create_subprocess_exec(*command, env=environ, stdout=file, stderr=file)
    try:
        async with aiohttp.ClientSession() as http:
            await until(lambda: is_ready(http, f"http://127.0.0.1:{admin_port}/readyz"), within=120)
        yield running, f"http://127.0.0.1:{port}"
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


async def is_ready(http: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with http.get(url) as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False
