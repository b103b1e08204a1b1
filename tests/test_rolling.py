"""The rolling restart: a short one of the real processes, and what its judgement takes for a failure."""

import asyncio
import contextlib
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from loadtests.answers import Status
from loadtests.codes import Dossier, Shelf
from loadtests.rolling.people import Change, Changes, Citizen, Desk, Lookups, missing_from_sequence
from loadtests.rolling.run import KINDS, Plan, Run, judge
from loadtests.system.http_client import Rotation
from loadtests.system.replicas import Deployment
from tests import programs
from tests.conftest import KEY_SECRETS, Database
from tests.house import PATIENT_ENVIRON, new_token

ROOT = Path(__file__).parent.parent
CODE = "G99.01.01-261126-0001"
RECORD = {
    "code": CODE,
    "status": "processing",
    "status_number": 4,
    "final": False,
    "completion": 0.5,
    "due_at": None,
    "version": 2,
}
BODY = json.dumps(RECORD).encode()
GOOD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: public, no-cache\r\n"
    b'ETag: "2"\r\nContent-Length: %d\r\n\r\n' % len(BODY)
) + BODY
CLOSING = GOOD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)


# -- a real one -------------------------------------------------------------------------------------------------------


async def rolling(*arguments: str) -> tuple[int | None, str]:
    """The tool in a process of its own; its exit status and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "loadtests.rolling", *arguments),
        cwd=ROOT,
        env=dict(os.environ),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(400):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()  # it ends what it has started
            await process.wait()
    return process.returncode, output.decode()


# The rotation has nobody who would ask another one: what gets about late must still find the old process there.
@pytest.mark.parametrize(("front", "notice", "drain"), [("rotation", 0.5, 4.0), ("haproxy", 0.3, 0.6)])
async def test_nobody_notices_a_rolling_restart(
    database: Database, redis_url: str, tmp_path: Path, front: str, notice: float, drain: float
) -> None:
    if front == "haproxy":
        programs.program("haproxy")
    environ = {
        "HOSO24_PG_READER_URL": database.reader_url,
        "HOSO24_PG_WRITER_URL": database.writer_url,
        "HOSO24_PG_RELAY_URL": database.relay_url,
        "HOSO24_REDIS_URL": redis_url,
        "HOSO24_LOOKUP_KEY_SECRETS": KEY_SECRETS,
        **PATIENT_ENVIRON,
    }
    (tmp_path / "environ").write_text("".join(f"{name}={text}\n" for name, text in environ.items()))
    (tmp_path / "up.json").write_text(json.dumps({"token": await new_token(database)}))
    status, output = await rolling(
        *("--up", str(tmp_path), "--replicas", "1", "--lookups", "2000", "--rate", "500", "--citizens", "16"),
        *("--notice", f"{notice}", "--drain", f"{drain}", "--at-most", "300", "--front", front),
    )
    assert status == 0, output
    assert re.findall(r"^(.*?)  +.* pass$", output, re.MULTILINE) == [
        "lookups",
        "changes answered",
        "changes kept once",
        "changes visible",
        "processes",
        "relay",
    ]
    assert output.endswith("Nobody noticed.\n")
    assert ("tried elsewhere by HAProxy" in output) is (front == "haproxy")


async def test_without_servers_one_sentence_says_so(tmp_path: Path) -> None:
    status, output = await rolling("--up", str(tmp_path))
    assert status == 2
    assert "up.json cannot be read" in output


# -- what counts as failed --------------------------------------------------------------------------------------------


Script = list[bytes | None]
"""What a server does with each connection in turn: these bytes, then it hangs up; None for hanging up at once."""


@contextlib.asynccontextmanager
async def served(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """The port of a server whose every connection is over when the block is left."""
    connections: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.current_task())  # type: ignore[arg-type]
        await answer(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        yield listening.sockets[0].getsockname()[1]
        await asyncio.gather(*connections)


def server(script: Script) -> contextlib.AbstractAsyncContextManager[int]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(script.pop(0) or b"")

    return served(answer)


async def asked(rotation: Rotation, times: int = 1) -> Lookups:
    lookups = Lookups()
    statuses = {"processing": Status(4, False, 0.5, ())}
    citizen = Citizen(1, rotation, Shelf(), statuses, lookups)
    for _ in range(times):
        await citizen.ask(Dossier(CODE, "", "processing"))
    citizen.leave()
    return lookups


@pytest.mark.parametrize(
    ("script", "answered", "asked_twice", "failures"),
    [
        ([GOOD], 1, 0, []),
        ([None, GOOD], 1, 1, []),
        ([None, None], 0, 1, ["closed"]),
        ([GOOD[:40]], 0, 0, ["closed within the answer"]),
        ([GOOD.replace(b'"version": 2', b'"version": x')], 0, 0, ["Expecting value"]),
        ([GOOD.replace(b"0001", b"0002")], 0, 0, ["another dossier than the one asked for"]),
        ([b"HTTP/1.1 503 No\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"], 0, 0, ["answered 503"]),
    ],
    ids=["answered", "closed once", "closed twice", "cut short", "spoiled", "of another dossier", "refused"],
)
async def test_lookup_fails_without_a_valid_answer_after_one_retry(
    script: Script, answered: int, asked_twice: int, failures: list[str]
) -> None:
    async with server(script) as port:
        lookups = await asked(Rotation([port]))
    assert (lookups.answered, lookups.asked_twice, lookups.total) == (answered, asked_twice, 1)
    assert [why[: len(due)] for why, due in zip(lookups.failed, failures, strict=True)] == failures
    assert script == []


async def test_connection_that_is_refused_is_a_failure_and_no_retry() -> None:
    """Somebody was in rotation and did not listen: that is what draining is there to prevent."""
    async with server([]) as port:
        pass
    lookups = await asked(Rotation([port]))
    assert lookups.failed.total() == 1
    assert lookups.asked_twice == 0


async def test_answer_that_says_close_is_followed_and_counted() -> None:
    async with server([CLOSING, CLOSING]) as port:
        lookups = await asked(Rotation([port]), times=2)
    assert (lookups.answered, lookups.during_drain, lookups.asked_twice) == (2, 2, 0)


async def test_submission_without_an_answer_is_repeated_under_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtests.rolling.people.PAUSE", 0.0)
    keys: list[bytes] = []
    receipt = json.dumps({"code": CODE, "lookup_key": "", "status": "received", "version": 1}).encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                keys.append(re.search(rb"Idempotency-Key: (\S+)", head)[1])  # type: ignore[index]
                if len(keys) < 3:
                    return
                writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n" % len(receipt) + receipt)

    changes = Changes()
    async with served(answer) as port:
        desk = Desk(Rotation([port]), "token", Shelf(), changes)
        await desk.receive_and_move()
        desk.leave()
    assert keys[0] == keys[1] == keys[2] != keys[3]
    assert (changes.repeated, changes.unanswered.total(), changes.dossiers) == (2, 0, {CODE: 1})


def test_number_that_nobody_has_a_receipt_for_is_missed() -> None:
    codes = {f"G99.01.01-261126-{n:04d}": 1 for n in (7, 8, 10, 11)} | {"G99.01.01-261127-0001": 1}
    assert missing_from_sequence(codes) == ["G99.01.01-261126-0009"]
    assert missing_from_sequence({}) == []


# -- the verdict ------------------------------------------------------------------------------------------------------


def good_run() -> Run:
    run = Run(Plan(lookups=10, replicas=1), rounds=1)
    run.lookups.answered = 10
    run.changes.made = [Change("/", b"", answer={"code": CODE})]
    run.changes.dossiers = {CODE: 2}
    run.deployments = {kind: Deployment(kind, {}, Path(), replaced=1) for kind in KINDS}
    run.deployments["relay"].handovers = 1
    return run


def test_run_in_which_nobody_noticed_passes_and_one_without_anything_does_not() -> None:
    assert [row.sli for row in judge(good_run()) if not row.kept] == []
    nothing = Run(Plan(), deployments={kind: Deployment(kind, {}, Path()) for kind in KINDS})
    assert [row.sli for row in judge(nothing) if row.kept] == []


@pytest.mark.parametrize(
    ("spoil", "promise"),
    [
        (lambda run: run.lookups.failed.update(["closed"]), "lookups"),
        (lambda run: setattr(run.lookups, "answered", 9), "lookups"),
        (lambda run: run.changes.made.append(Change("/", b"")), "changes answered"),
        (lambda run: setattr(run, "missing", [CODE]), "changes kept once"),
        (lambda run: setattr(run, "repeated_otherwise", 1), "changes kept once"),
        (lambda run: setattr(run, "invisible", [CODE]), "changes visible"),
        (lambda run: run.faults.append("lookup 1 ended with status 1"), "processes"),
        (lambda run: setattr(run.deployments["intake"], "replaced", 0), "processes"),
        (lambda run: setattr(run.deployments["relay"], "handovers", 0), "relay"),
    ],
)
def test_each_promise_is_broken_alone(spoil: Callable[[Run], Awaitable[None]], promise: str) -> None:
    run = good_run()
    spoil(run)
    assert [row.sli for row in judge(run) if not row.kept] == [promise]
