"""The stage of a game day: one that is really up, and what an operator, a Sentinel or a balancer does on it."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from loadtests.answers import Answer
from loadtests.system.front import HAProxy
from loadtests.system.http_client import Client, get, request
from loadtests.system.pauses import pause, resume
from loadtests.system.stage import StagedSystem, staged
from ops.local import reaper as processes
from tests import programs
from tests.house import submission, until
from tests.places import in_memory

pytestmark = pytest.mark.servers

on_the_stage = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Where the servers' account can get in."""
    folder = Path(tempfile.mkdtemp(prefix="hoso24-stage-", dir=in_memory()))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(folder: Path) -> AsyncIterator[StagedSystem]:
    programs.program("haproxy")
    async with staged(folder, print, lookups=2, intakes=1, relays=1, settings={"HOSO24_DRAIN_SECONDS": "1"}) as stage:
        yield stage


async def hand_in(stage: StagedSystem) -> dict[str, Any]:
    """A new dossier by way of the front: what the intake answered, however often it took under one key."""
    headers = {"Authorization": f"Bearer {stage.token}", "Idempotency-Key": os.urandom(8).hex()}
    body = json.dumps(submission()).encode()

    async def answered() -> dict[str, Any] | None:
        with Client(stage.front.intake) as client:
            answer = await client.ask(request("POST", "/api/v1/dossiers", headers, body))
        assert answer.status in (201, 409, 503), answer.body
        return dict(answer.json()) if answer.status == 201 else None

    receipt: dict[str, Any] = await until(answered, within=30)
    return receipt


async def look_up(stage: StagedSystem, code: str) -> Answer:
    with Client(stage.front.lookup) as client:
        return await client.ask(request("GET", f"/api/v1/dossiers/{code}", {}))


async def shown_by(stage: StagedSystem, code: str) -> set[str]:
    """Once every lookup has shown the dossier through the front: who has answered."""
    due = {replica.label for replica in stage.lookups.replicas}
    seen: set[str] = set()

    async def all_seen() -> bool:
        answer = await look_up(stage, code)
        if answer.status == 200:
            seen.add(answer.headers["x-served-by"])
        return due <= seen

    await until(all_seen, within=30)
    return seen


@on_the_stage
async def test_what_is_handed_in_at_the_front_is_shown_by_every_lookup(stage: StagedSystem) -> None:
    receipt = await hand_in(stage)
    assert await shown_by(stage, receipt["code"]) == {"lookup-1", "lookup-2"}
    assert stage.front.kind == "haproxy"


@on_the_stage
async def test_processes_know_every_node_and_reach_each_by_its_wire(stage: StagedSystem) -> None:
    lookup = stage.lookups.replicas[0]
    health = json.loads((await get(lookup.admin_port, "/health")).body)
    assert sorted(role for name, role in _hosts(health)) == ["primary", "standby", "standby"]
    for node in stage.postgres.nodes:
        assert await node.wire.connections() > 0
    assert await (await stage.redis.primary()).wire.connections() > 0


def _hosts(health: Any) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    stack = [health]
    while stack:
        each = stack.pop()
        if isinstance(each, dict):
            found += [(name, role) for name, role in each.items() if role in ("primary", "standby")]
            stack += [inner for inner in each.values() if isinstance(inner, dict | list)]
        else:
            stack += each
    return found


@on_the_stage
async def test_lookup_that_is_killed_costs_no_citizen_an_error(stage: StagedSystem) -> None:
    code = (await hand_in(stage))["code"]
    await shown_by(stage, code)
    answers: list[Answer] = []
    enough = asyncio.Event()

    async def citizen() -> None:
        client = Client(stage.front.lookup)
        while not enough.is_set():
            answers.append(await client.ask(request("GET", f"/api/v1/dossiers/{code}", {})))
            await asyncio.sleep(0.002)
        client.hang_up()

    citizens = [asyncio.create_task(citizen()) for _ in range(8)]
    victim = stage.lookups.replicas[0]
    await until(lambda: _some(answers, 50))
    victim.kill()
    await victim.process.wait()
    so_far = len(answers)
    await until(lambda: _some(answers, so_far + 200))
    (new,) = await stage.lookups.mend()
    assert new.label == "lookup-3"

    async def is_asked() -> bool:
        return any(answer.headers.get("x-served-by") == new.label for answer in answers[-50:])

    await until(is_asked, within=20)
    enough.set()
    await asyncio.gather(*citizens)
    assert {answer.status for answer in answers} == {200}
    assert {answer.headers["x-served-by"] for answer in answers} == {victim.label, "lookup-2", new.label}
    assert await stage.front.retries() > 0

    async def up() -> bool:
        assert isinstance(stage.front, HAProxy)
        states = await stage.front.states()
        return {name for name, state in states.items() if state == "UP"} == {"lookup-2", new.label, "intake-1"}

    await until(up)


async def _some(answers: list[Answer], count: int) -> bool:
    return len(answers) >= count


@on_the_stage
async def test_delayed_standby_receives_and_does_not_replay(stage: StagedSystem) -> None:
    cluster = stage.postgres
    standby, other = cluster.standbys
    await cluster.delay(standby, 3600)
    code = (await hand_in(stage))["code"]
    known = "SELECT count(*) FROM hoso24.dossier WHERE code = $1"

    async def on_the_other() -> bool:
        return bool(await cluster.ask(known, code, node=other))

    await until(on_the_other)
    assert await cluster.ask(known, code, node=standby) == 0
    await cluster.delay(standby, 0)
    await cluster.in_step()
    assert await cluster.ask(known, code, node=standby) == 1


@on_the_stage
async def test_without_any_standby_nothing_is_acknowledged(stage: StagedSystem) -> None:
    cluster = stage.postgres
    async with cluster.connected() as connection:
        for node in cluster.standbys:
            await asyncio.to_thread(pause, node.server)
        try:
            waiting = asyncio.create_task(connection.execute("CREATE TABLE public.waited_for ()"))
            done, _ = await asyncio.wait([waiting], timeout=0.5)
            assert not done
        finally:
            for node in cluster.standbys:
                await asyncio.to_thread(resume, node.server)
        async with asyncio.timeout(20):
            await waiting
        await connection.execute("DROP TABLE public.waited_for")


@on_the_stage
async def test_standby_that_received_more_is_promoted_and_nothing_acknowledged_is_lost(stage: StagedSystem) -> None:
    cluster = stage.postgres
    former, (behind, ahead) = cluster.primary, cluster.standbys
    kept = [(await hand_in(stage))["code"]]
    await asyncio.to_thread(behind.server.stop)
    kept.append((await hand_in(stage))["code"])
    former.server.kill()
    await asyncio.to_thread(behind.server.restart)
    assert await cluster.promote() is ahead
    assert await cluster.ask("SHOW synchronous_standby_names") == f"ANY 1 ({former.name}, {behind.name})"
    kept.append((await hand_in(stage))["code"])
    await cluster.rejoin(former)
    await cluster.in_step()
    for node in cluster.nodes:
        found = await cluster.ask("SELECT count(*) FROM hoso24.dossier WHERE code = ANY ($1)", kept, node=node)
        assert (found, await cluster.ask("SELECT pg_is_in_recovery()", node=node)) == (3, node is not ahead), node.name


@on_the_stage
async def test_former_primary_gives_up_what_no_other_node_has(stage: StagedSystem) -> None:
    """Its log goes on where the others' has ended: pg_rewind takes that back."""
    cluster = stage.postgres
    former, standbys = cluster.primary, cluster.standbys
    for node in standbys:  # stopped and not frozen: a frozen one finds in its socket what it was sent
        await asyncio.to_thread(node.server.stop)
    async with cluster.connected() as connection:
        with pytest.raises(TimeoutError):
            await connection.execute("CREATE TABLE public.never_acknowledged ()", timeout=0.5)
    former.server.kill()
    for node in standbys:
        await asyncio.to_thread(node.server.restart)
    await cluster.promote()
    await cluster.rejoin(former)
    await cluster.in_step()
    assert await cluster.ask("SELECT to_regclass('public.never_acknowledged')", node=former) is None
    assert "pg_rewind: Done!" in former.server.log_path.read_text()


@on_the_stage
async def test_sentinels_promote_the_replica_and_the_processes_follow(stage: StagedSystem) -> None:
    group = stage.redis
    former = await group.primary()
    (other,) = [member for member in group.members if member is not former]
    former.kill()

    async def promoted() -> bool:
        return await group.named() is other

    await until(promoted, within=45)
    code = (await hand_in(stage))["code"]

    async def delivered() -> bool:
        return bool(await group.call(other, "KEYS", f"*{code}*"))

    await until(delivered, within=20)
    await shown_by(stage, code)
    await asyncio.to_thread(former.restart)
    await group.in_step()
    assert (await group.call(former, "ROLE"))[0] == b"slave"


CRASHING = """
import asyncio, sys
from pathlib import Path
from loadtests.system import front
from loadtests.system.wires import Wires
from loadtests.system.replicas import Deployment
from ops.local.reaper import Reaper

NOWHERE = {
    "HOSO24_PG_READER_URL": "postgresql://hoso24_reader:x@127.0.0.1:1/hoso24",
    "HOSO24_REDIS_URL": "redis://127.0.0.1:1/0",
    "HOSO24_LOOKUP_KEY_SECRETS": "0:" + "5a" * 32,
    "HOSO24_HOST": "127.0.0.1",
}

async def main(folder):
    with Reaper() as reaper:
        async with front.running(folder, reaper, front.program()) as door:
            lookups = Deployment("lookup", NOWHERE, folder, reaper, door.came, door.went)
            wires = await Wires.start()
            print(wires.pid, door.pid, (await lookups.add()).pid, reaper.pid, flush=True)
            await asyncio.Event().wait()

asyncio.run(main(Path(sys.argv[1])))
"""


def test_processes_front_and_wires_are_ended_when_the_game_day_itself_is_killed(tmp_path: Path) -> None:
    programs.program("haproxy")
    crashing = subprocess.Popen(
        [sys.executable, "-c", CRASHING, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert crashing.stdout is not None
    try:
        pids = crashing.stdout.readline().split()
        started = [process for process in (processes.look(int(pid)) for pid in pids) if process is not None]
        assert len(started) == 4
    finally:
        crashing.kill()
        crashing.wait()
        crashing.stdout.close()
    deadline = time.monotonic() + 30
    while left := [process for process in started if processes.is_alive(process)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
