"""The people of a game day: what they see of a house that is well, and of one that does not answer."""

import asyncio
import contextlib
import functools
import ipaddress
import itertools
import json
import re
import time
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest

from loadtests.answers import Answer, Status
from loadtests.codes import Dossier, Shelf
from loadtests.gameday import citizens, offices
from loadtests.gameday import pushing as pushing_module
from loadtests.gameday.citizens import MIX, Citizens, Town
from loadtests.gameday.crowd import Crowd
from loadtests.gameday.expected import Expected, Question
from loadtests.gameday.offices import DayOffice, Desk, NotTaken
from loadtests.gameday.pushing import DONE, NEW, Pusher
from loadtests.gameday.record import Record, Seen
from loadtests.system.http_client import Client, NoAnswer, Rotation
from tests.conftest import KEY_SECRETS, SEAL_KEYS, Database
from tests.desk import add_officer, desk_running, desk_settings, new_link
from tests.house import (
    intake_at,
    intake_settings,
    lookup_running,
    lookup_settings,
    new_token,
    paper_files,
    relay_of,
    until,
)

CODE, KEY = "G99.01.01-261126-0001", "0-ABCDE-FGHJK"
STATUSES = {
    "received": Status(2, False, 0.25, ("processing",)),
    "processing": Status(4, False, 0.5, ("processing",)),
}


# -- with real servers ------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def small_stage(database: Database, redis_url: str, folder: Path) -> AsyncIterator[Any]:
    """As much of a stage as a crowd and partners need: a lookup, an intake, a relay."""
    token = await new_token(database)
    async with contextlib.AsyncExitStack() as stack:
        lookup = await stack.enter_async_context(lookup_running(lookup_settings(database.reader_url, redis_url)))
        settings = intake_settings(database.writer_url, webhook_networks=("127.0.0.0/8",))
        intake = await stack.enter_async_context(intake_at(settings))
        await stack.enter_async_context(relay_of(database, redis_url))
        await add_officer(database)
        desk = await stack.enter_async_context(desk_running(desk_settings(database, **paper_files())))
        front = SimpleNamespace(lookup=Rotation([lookup.port]), intake=Rotation([int(intake.rpartition(":")[2])]))
        yield SimpleNamespace(
            folder=folder,
            front=front,
            desk_ports=Rotation([desk.port]),
            desk_link=functools.partial(new_link, database),
            token=token,
            environ={
                "HOSO24_PG_WRITER_URL": database.writer_url,
                "HOSO24_LOOKUP_KEY_SECRETS": KEY_SECRETS,
                "HOSO24_SEAL_KEYS": SEAL_KEYS,
            },
        )


@contextlib.asynccontextmanager
async def crowded(stage: Any, expected: Expected, **how: Any) -> AsyncIterator[tuple[Crowd, Record]]:
    """A stage with people on it."""
    record = how.pop("record", None) or Record()
    crowd = Crowd(stage, record, expected, **how)
    await crowd.come()
    try:
        yield crowd, record
    finally:
        await crowd.leave()


async def test_house_that_is_well_gives_no_wrong_answer_and_loses_nothing(
    database: Database, redis_url: str, tmp_path: Path
) -> None:
    expected = Expected()
    how = {"rate": 120.0, "changes_rate": 15.0, "import_every": 0.5}
    async with (
        small_stage(database, redis_url, tmp_path) as stage,
        crowded(stage, expected, **how) as (crowd, record),
    ):

        async def everything_seen() -> bool:
            window = record.window(0.0)
            kinds = all(window.of_kind(kind) for kind in (*MIX, "submit", "move", "import", "push", "desk"))
            return kinds and {"cache", "postgres"} <= {seen.source for seen in window}

        await until(everything_seen, within=90.0)
        code = await crowd.submit()
        assert await crowd.move(code) == 2
        assert code in crowd.codes()
        async with crowd.changes_held():
            acknowledged = expected.changes()
            began = time.monotonic()

            async def asked_meanwhile() -> bool:
                return record.window(began, None, "known").count("good") > 0

            await until(asked_meanwhile)
            assert expected.changes() == acknowledged
    window = record.window(0.0)
    # On a machine that is busy with other things some are answered 503 for want of time; none may be wrong.
    assert window.count("wrong") == 0, window.whys()
    assert all(any(seen.outcome == "good" for seen in record.window(0.0, None, kind)) for kind in MIX)
    assert window.oldest_age < 60
    assert record.lags
    assert expected.changes() > window.of_kind("submit", "move"), "a push is several changes"
    owner = await asyncpg.connect(database.owner_url)
    try:
        assert await expected.lost(owner) == []
        await owner.execute("DELETE FROM event WHERE code = $1 AND version = 2", code)
        assert await expected.lost(owner) == [
            f"{code}: version 2 ({expected.status(code)}) was acknowledged and is not in the log"
        ]
    finally:
        await owner.close()


# -- with servers that do as they are told ----------------------------------------------------------------------------


Script = list[bytes | None]
"""What is done with each request in turn: these bytes are the answer; None: the connection is closed."""


@contextlib.asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A port, and the heads of all requests that have come there."""
    heads: list[bytes] = []
    connections: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.current_task())  # type: ignore[arg-type]
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while script:
                head = await reader.readuntil(b"\r\n\r\n")
                heads.append(head)
                length = re.search(rb"Content-Length: (\d+)", head)
                await reader.readexactly(int(length[1]) if length else 0)
                said = script.pop(0)
                if said is None:
                    break
                writer.write(said)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        yield listening.sockets[0].getsockname()[1], heads
    await asyncio.gather(*connections)


def said(status: int, content: dict[str, Any], *headers: str) -> bytes:
    body = json.dumps(content).encode()
    lines = [f"HTTP/1.1 {status} X", "Content-Type: application/json", "X-Request-Id: 1", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def shown(version: int, *headers: str) -> bytes:
    content = {
        "code": CODE,
        "status": "received",
        "status_number": 2,
        "final": False,
        "completion": 0.25,
    }
    usual = ("Age: 3", "Cache-Status: hoso24; hit", "Cache-Control: public, no-cache", f'ETag: "{version}"')
    return said(200, content | {"version": version}, *usual, *headers)


def closed_port() -> int:
    """A port on which no server listens."""
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        server = loop.run_until_complete(asyncio.start_server(lambda *_: None, "127.0.0.1", 0))
        port = int(server.sockets[0].getsockname()[1])
        server.close()
        loop.run_until_complete(server.wait_closed())
    return port


@pytest.fixture
def expected() -> Expected:
    known = Expected(STATUSES)
    known.acknowledge(
        known.submit("key"), {"code": CODE, "version": 1, "status": "received", "due_at": None, "lookup_key": KEY}
    )
    return known


async def asked(expected: Expected, ports: list[int], times: int = 1) -> list[Seen]:
    """What citizens have seen who asked one after the other."""
    record, rotation = Record(), Rotation(ports)
    crowd = Citizens(rotation, Town(record, expected))
    for _ in range(times):
        crowd.send(Question("known", CODE, CODE))
        await crowd.answered(float("inf"))
    await crowd.leave(0.0)
    return list(record.window(0.0))


async def test_answer_is_noted_with_who_gave_it_from_where_and_how_old(expected: Expected) -> None:
    async with scripted([shown(1, "X-Served-By: lookup-7"), shown(1)]) as (port, heads):
        first, second = await asked(expected, [port], 2)
    assert (first.outcome, first.process, first.source, first.age) == ("good", "lookup-7", "cache", 3.0)
    assert second.process == str(port)
    assert len(heads) == 2


async def test_answer_that_contradicts_the_books_is_noted_as_wrong(expected: Expected) -> None:
    async with scripted([shown(2)]) as (port, _):
        (seen,) = await asked(expected, [port])
    assert (seen.outcome, expected.wrong) == ("wrong", 1)
    assert "a version that was never made" in seen.why


@pytest.mark.parametrize(
    ("script", "outcome", "retried", "why"),
    [
        ([None, shown(1)], "good", True, ""),
        ([None, None], "unavailable", True, ""),
        ([shown(1)[:40]], "unavailable", False, "closed within the answer"),
        ([said(503, {}, "Retry-After: 1")], "unavailable", False, "answered 503"),
        ([said(429, {})], "limited", False, "answered 429"),
    ],
    ids=["closed once", "closed twice", "cut short", "refused", "limited"],
)
async def test_lookup_is_asked_twice_only_if_closed_before_any_byte(
    expected: Expected, script: Script, outcome: str, retried: bool, why: str
) -> None:
    async with scripted(script) as (port, _):
        (seen,) = await asked(expected, [port])
    assert (seen.outcome, seen.retried) == (outcome, retried)
    assert why in seen.why
    assert script == []


async def test_where_no_server_listens_the_next_one_is_asked(expected: Expected) -> None:
    closed = await asyncio.to_thread(closed_port)
    async with scripted([shown(1), shown(1)]) as (port, _):
        seen = await asked(expected, [closed, port], 2)
    assert [(each.outcome, each.process) for each in seen] == [("good", str(port))] * 2
    (nothing,) = await asked(expected, [closed])
    assert nothing.outcome == "unavailable"
    assert "refused" in nothing.why


async def test_connections_that_a_process_in_rotation_does_not_take_are_counted(expected: Expected) -> None:
    rotation = Rotation([await asyncio.to_thread(closed_port)])
    crowd = Citizens(rotation, Town(Record(), expected))
    crowd.send(Question("known", CODE, CODE))
    await crowd.answered(float("inf"))
    assert rotation.refused == 1


async def test_whoever_comes_while_too_many_wait_is_turned_away(
    expected: Expected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(citizens, "MOST_UNDER_WAY", 2)
    record = Record()
    async with scripted([shown(1), shown(1)]) as (port, _):
        crowd = Citizens(Rotation([port]), Town(record, expected))
        for _ in range(5):
            crowd.send(Question("known", CODE, CODE))
        await crowd.answered(float("inf"))
        await crowd.leave(0.0)
    assert (record.window(0.0).total, record.window(0.0).turned_away) == (2, 3)


async def test_every_lookup_is_another_client_s(expected: Expected) -> None:
    """Rates apply per client; addresses are those documentation is for."""
    times = 40
    async with scripted([shown(1)] * times) as (port, heads):
        await asked(expected, [port], times)
    given = [ipaddress.ip_address(re.search(rb"X-Forwarded-For: (\S+)", head)[1].decode()) for head in heads]  # type: ignore[index]
    networks = [ipaddress.ip_network(n) for n in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")]
    assert all(any(address in network for network in networks) for address in given)
    assert {address.version for address in given} == {4, 6}
    assert len(set(given)) > times / 2


def test_citizens_ask_for_everything_in_its_share(expected: Expected) -> None:
    shelf, changing = Shelf([Dossier(CODE, "", "received", 1)]), deque([CODE])
    crowd = Citizens(Rotation(), Town(Record(), expected, shelf, changing))
    questions = [crowd.question() for _ in range(5000)]
    for kind, share in MIX.items():
        assert sum(question.kind == kind for question in questions) == pytest.approx(50 * share, rel=0.2)
    assert {question.at_least for question in questions if question.kind == "at_least"} == {1}
    assert all(question.code is None for question in questions if question.kind == "unknown")
    pages = [question for question in questions if question.kind == "page"]
    assert {(question.language, question.gzip) for question in pages} == set(
        itertools.product(("vi", "en"), (True, False))
    )
    assert {question.language for question in questions if question.kind == "holder"} == {"", "vi", "en"}
    assert {question.key for question in questions} == {"", KEY}
    assert all(bool(question.key) is (question.kind == "holder") for question in questions)


# -- desks ------------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def desk(script: Script, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Desk, DayOffice, list[bytes]]]:
    """A desk, its office, and the heads of what it has sent."""
    monkeypatch.setattr(offices, "PAUSE", 0.0)
    async with scripted(script) as (port, heads):
        office = DayOffice(Rotation([port]), "token", Town(Record(), Expected(STATUSES)))
        with Desk(office) as desk:
            yield desk, office, heads


RECEIVED = said(201, {"code": CODE, "version": 1, "status": "received", "due_at": None, "lookup_key": KEY})
MOVED = said(200, {"code": CODE, "version": 2, "status": "processing", "due_at": None})
AGAIN = [None, said(503, {"code": "outcome_unknown"}), said(409, {"code": "still_running"}), said(502, {})]


def test_lost_dossiers_are_not_asked_for(expected: Expected, tmp_path: Path) -> None:
    front = SimpleNamespace(lookup=Rotation([1]), intake=Rotation([1]))
    stage: Any = SimpleNamespace(
        front=front, folder=tmp_path, environ={}, token="", desk_ports=Rotation(), desk_link=None
    )
    crowd = Crowd(stage, Record(), expected)
    for code in ("a", "b", "c"):
        crowd._town.shelf.put(Dossier(code, "", "received"))
        crowd._town.changing.append(code)
    crowd.forget({"b"})
    assert crowd.codes() == ["a", "c"]
    asked = {crowd._citizens.question().code for _ in range(400)} - {None}
    assert asked == {"a", "c"}


async def test_change_is_repeated_under_its_key_until_it_is_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    async with desk([*AGAIN, RECEIVED, MOVED], monkeypatch) as (clerk, office, heads):
        assert await clerk.submit() == CODE
        assert await clerk.move(CODE) == 2
    keys = [re.search(rb"Idempotency-Key: (\S+)", head)[1] for head in heads]  # type: ignore[index]
    assert len(set(keys[:5])) == 1
    assert keys[5] != keys[0]
    submitted, moved = office.town.record.window(0.0)
    assert (submitted.kind, submitted.outcome) == ("submit", "refused")
    assert submitted.why
    assert (moved.kind, moved.outcome, moved.why) == ("move", "good", "")
    assert office.town.expected.current(CODE) == 2
    assert list(office.town.changing) == [CODE]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (said(409, {"code": "move_not_allowed"}), "answered 409 move_not_allowed"),
        (said(412, {"code": "version_mismatch"}), "answered 412 version_mismatch"),
        (said(404, {"code": "dossier_not_found"}), "answered 404 dossier_not_found"),
        (
            said(200, {"code": CODE, "version": 3, "status": "processing", "due_at": None}),
            "another change was acknowledged",
        ),
        (said(200, {"code": CODE}), "an acknowledgement that cannot be read"),
    ],
)
async def test_refusal_that_cannot_be_is_wrong_and_not_repeated(
    answer: bytes, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with desk([RECEIVED, answer], monkeypatch) as (clerk, office, _):
        await clerk.submit()
        with pytest.raises(NotTaken, match=why):
            await clerk.move(CODE)
    *_, seen = office.town.record.window(0.0)
    assert (seen.kind, seen.outcome) == ("move", "wrong")
    assert office.town.record.window(0.0).count("wrong") == 1


async def test_change_that_is_given_up_may_still_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offices, "GIVE_UP", 0.0)
    async with desk([RECEIVED, said(503, {"code": "outcome_unknown"})], monkeypatch) as (clerk, office, _):
        await clerk.submit()
        with pytest.raises(NotTaken, match="outcome_unknown"):
            await clerk.move(CODE)
        with pytest.raises(NotTaken, match="has not been acknowledged"):
            await clerk.move(CODE)
    assert office.town.record.window(0.0).count("unavailable") == 1


async def test_repeat_that_is_answered_otherwise_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    other = said(201, {"code": CODE, "version": 2, "status": "received"})
    async with desk([RECEIVED, RECEIVED, other, None], monkeypatch) as (clerk, office, heads):
        await clerk.submit()
        ((sent, first),) = office.answered
        assert [await clerk.is_answered_again(sent, first) for _ in range(3)] == [True, False, False]
    assert len(set(heads)) == 1, "under the same key"


# -- a system that pushes ---------------------------------------------------------------------------------------------


def lines_answered(body: bytes, results: dict[int, str]) -> list[dict[str, Any]]:
    """What the lines of a body are answered, each as these results have it by its number, else as taken."""
    answers: list[dict[str, Any]] = []
    for number, line in enumerate(map(json.loads, body.splitlines())):
        step = {"received": 1, "processing": 2, "completed": 3, "returned": 4}[line.get("status", "received")]
        result = results.get(number, "created" if step == 1 else "applied")
        answers.append({"line": number + 1, "id": line["id"], "result": result, "dossier": line["dossier"]})
        answers[-1] |= {"version": step} if result in DONE else {"code": "bad_date"}
    return [*answers, {"summary": {}, "complete": "not_done" not in results.values()}]


@contextlib.asynccontextmanager
async def pushing(
    script: list[Any], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Pusher, DayOffice, list[bytes]]]:
    """A pusher, its office, and the bodies it has sent. The script has a body's results each, a status or no answer."""
    monkeypatch.setattr(pushing_module, "PAUSE", 0.0)
    bodies: list[bytes] = []

    async def ask_any(_: Any, sent: bytes) -> Answer:
        bodies.append(sent.partition(b"\r\n\r\n")[2])
        said = script.pop(0)
        if said is None:
            raise NoAnswer("closed")
        if isinstance(said, int):
            return Answer(said, {})
        told = lines_answered(bodies[-1], said)
        return Answer(200, {}, b"".join(json.dumps(line).encode() + b"\n" for line in told))

    monkeypatch.setattr(Client, "ask_any", ask_any)
    office = DayOffice(Rotation([1]), "token", Town(Record(), Expected(STATUSES)))
    yield Pusher(office), office, bodies


async def test_body_is_pushed_again_until_each_of_its_lines_is_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    script = [None, 503, 409, {1: "not_done"}, {0: "duplicate"}, {}]
    async with pushing(script, monkeypatch) as (pusher, office, bodies):
        assert await pusher.push() == "refused"
        assert len(bodies) == 5
        assert len(set(bodies)) == 1
        assert await pusher.push() == "good"
    first, second = ([json.loads(line) for line in body.splitlines()] for body in bodies[-2:])
    assert [line.get("status") for line in second] == [None] * NEW + ["processing"] * NEW
    sent = [line["source_seq"] for line in (*first, *second)]
    assert sent == sorted(set(sent))
    assert sorted(office.town.expected.acknowledged().values()) == [1] * NEW + [2] * NEW
    assert [seen.outcome for seen in office.town.record.window(0.0, None, "push")] == ["refused", "good"]


@pytest.mark.parametrize("answer", [{0: "rejected"}, {0: "kept"}, 400, 401])
async def test_line_that_is_refused_is_wrong_and_not_pushed_again(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with pushing([answer], monkeypatch) as (pusher, office, bodies):
        assert await pusher.push() == "wrong"
    assert len(bodies) == 1
    assert office.town.record.window(0.0).count("wrong") == 1


async def test_gate_waits_for_what_is_under_way_and_lets_no_other_in() -> None:
    gate, held, enough = offices.Gate(), asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with gate.held():
            held.set()
            await enough.wait()

    with gate.passed():
        holding = asyncio.create_task(hold())
        await asyncio.sleep(0)
        assert not held.is_set()
    await held.wait()
    entering = asyncio.create_task(gate.until_open())
    await asyncio.sleep(0)
    assert not entering.done()
    enough.set()
    await entering
    await holding
