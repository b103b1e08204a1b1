"""What citizens get while Postgres, Redis or both are killed, stopped, or not there yet."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from prometheus_client import REGISTRY

from loadtests.system.pauses import pause, resume
from lookup.upkeep import pulse
from ops.local.postgres import PostgresServer
from ops.local.valkey import ValkeyServer
from tests.conftest import Database, prepare
from tests.house import (
    House,
    intake_at,
    intake_settings,
    lookup_at,
    lookup_settings,
    new_token,
    open_house,
    relay_of,
    submission,
    until,
)

pytestmark = pytest.mark.usefixtures("nothing_is_shed")

SOFT_AGE = 2.0
PRODUCTION = {"redis_deadline": 0.1, "pg_deadline": 1.0, "lookup_deadline": 2.5}
"""What a server that hangs may cost."""
UNKNOWN = "G99.12.01-260101-9999"


@pytest.fixture
async def servers(fragile: Callable[..., Any]) -> tuple[PostgresServer, ValkeyServer, Database]:
    postgres, valkey = fragile()
    return postgres, valkey, await prepare(postgres.admin_url, "hoso24")


@pytest.fixture
async def fragile_house(servers: tuple[PostgresServer, ValkeyServer, Database]) -> AsyncIterator[House]:
    """A house whose servers the test may break; answers go stale after two seconds already."""
    _, valkey, database = servers
    async with open_house(database, valkey.url, lookup={**PRODUCTION, "soft_age": SOFT_AGE}) as house:
        yield house


@contextlib.asynccontextmanager
async def lookups_running(house: House, codes: list[str]) -> AsyncIterator[list[int | str]]:
    """Five clients asking for these codes without a pause; the status of every answer, "stale" for a marked one."""
    answers: list[int | str] = []

    async def ask(start: int) -> None:
        turn = start
        while True:
            turn += 1
            status, view = await house.lookup(f"/api/v1/dossiers/{codes[turn % len(codes)]}")
            answers.append("stale" if "stale" in view else status)

    clients = [asyncio.create_task(ask(n)) for n in range(5)]
    try:
        yield answers
    finally:
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)


async def more(answers: list[Any], count: int = 200) -> None:
    """Wait for that many more answers."""
    target = len(answers) + count

    async def enough() -> bool:
        return len(answers) >= target

    await until(enough, within=120)


async def test_no_lookup_fails_when_redis_is_killed(servers: tuple[PostgresServer, ValkeyServer, Database]) -> None:
    _, valkey, database = servers
    async with open_house(database, valkey.url) as house:
        codes = [(await house.receive())["code"] for _ in range(10)]
        async with lookups_running(house, codes) as answers:
            await more(answers)
            valkey.kill()
            await more(answers, 500)
            valkey.restart()
            await more(answers, 500)
        assert set(answers) == {200}
        moved = await house.move(codes[0], "processing")
        await until(lambda: version_is(house, codes[0], moved["version"]))


async def test_lookups_answer_quickly_while_redis_is_stopped(
    servers: tuple[PostgresServer, ValkeyServer, Database],
) -> None:
    _, valkey, database = servers
    settings = {"redis_deadline": PRODUCTION["redis_deadline"], "memory_bytes": 0}
    async with open_house(database, valkey.url, lookup=settings) as house:
        codes = [(await house.receive())["code"] for _ in range(10)]
        async with lookups_running(house, codes) as answers:
            await more(answers)
            before, began = waited_for("redis"), time.monotonic()
            pause(valkey)
            try:
                await more(answers, 1000)
            finally:
                resume(valkey)
            seconds = time.monotonic() - began
            await more(answers)
    assert set(answers) == {200}
    # A deadline once, and then once per pause of the breaker, shared by all who ask: not one per lookup. The pulse
    # asks once a second, and the relay, which is in this process as well, three times.
    assert 1 <= waited_for("redis") - before < 10 + 5 * seconds


async def test_postgres_that_is_back_is_found_though_the_next_ordinary_beat_is_far_off(
    fragile_house: House, servers: tuple[PostgresServer, ValkeyServer, Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres, _, _ = servers
    code = (await fragile_house.receive())["code"]
    await until(lambda: found(fragile_house, code))
    monkeypatch.setattr(pulse, "EVERY", 0.1)
    postgres.kill()
    for _ in range(3):  # two failures are enough for it to be taken for gone
        assert (await fragile_house.lookup(f"/api/v1/dossiers/{UNKNOWN}"))[0] == 503
    await until(lambda: stale_view(fragile_house, code), within=60)
    monkeypatch.setattr(pulse, "EVERY", 3600.0)
    await asyncio.to_thread(postgres.restart)  # meanwhile the beat that was due already comes
    await until(lambda: missing(fragile_house, UNKNOWN), within=60)


@pytest.mark.parametrize("away", [False, True], ids=["all is well", "both are away"])
async def test_refusals_leave_nothing_to_the_garbage_collector(
    fragile_house: House, servers: tuple[PostgresServer, ValkeyServer, Database], garbage: Callable[[], int], away: bool
) -> None:
    """It would stop the process, and with it what is answered out of memory, for longer the more had been refused."""
    postgres, valkey, _ = servers
    code = (await fragile_house.receive())["code"]
    ways = {
        f"/api/v1/dossiers/{UNKNOWN}": None,
        f"/api/v1/dossiers/{code}?at_least=5": None,
        "/api/v1/dossiers/01234-2026-99901": None,
        "/api/v1/dossiers/nonsense": None,
        f"/tra-cuu/{UNKNOWN}": None,
        "/api/v1/lookups": {"dossiers": [{"code": UNKNOWN}]},
    }

    async def refused(times: int) -> None:
        for _ in range(times):
            for path, body in ways.items():
                method = "GET" if body is None else "POST"
                async with fragile_house.http.request(method, fragile_house.lookup_url + path, json=body) as response:
                    await response.read()
                    assert response.status in ({200, 400, 503} if away else {200, 400, 404, 412, 503})
            path = f"/api/v1/dossiers/{UNKNOWN}/transitions"
            status, _ = await fragile_house.hand_in("POST", path, {"to": "processing"})
            assert status == (503 if away else 404)

    if away:
        postgres.kill()
        valkey.kill()
    await refused(5)
    garbage()
    await refused(20)
    assert garbage() < 20 * len(ways)  # most had left fifty each


async def test_known_dossiers_are_answered_and_marked_when_postgres_is_killed(
    fragile_house: House, servers: tuple[PostgresServer, ValkeyServer, Database]
) -> None:
    postgres, _, _ = servers
    code = (await fragile_house.receive())["code"]
    await until(lambda: found(fragile_house, code))
    postgres.kill()
    status, _ = await fragile_house.lookup(f"/api/v1/dossiers/{code}")
    assert status == 200
    status, problem = await fragile_house.lookup(f"/api/v1/dossiers/{UNKNOWN}")
    assert (status, problem["code"]) == (503, "status_unavailable")
    view = await until(lambda: stale_view(fragile_house, code), within=60)
    assert view["as_of"]
    async with fragile_house.http.get(f"{fragile_house.lookup_url}/tra-cuu/{code}") as response:
        page = await response.text()
        assert response.status == 200
        assert 'id="stale"' in page
        assert response.headers["Cache-Control"] == "private, no-store"
    async with fragile_house.http.get(f"{fragile_house.lookup_url}/api/v1/dossiers/{code}") as response:
        assert response.headers["Cache-Control"] == "no-store"
        assert "ETag" not in response.headers

    postgres.restart()
    await until(lambda: fresh(fragile_house, code), within=60)
    await until(lambda: missing(fragile_house, UNKNOWN))


async def test_postgres_that_hangs_is_waited_for_once(
    fragile_house: House, servers: tuple[PostgresServer, ValkeyServer, Database]
) -> None:
    postgres, _, _ = servers
    code = (await fragile_house.receive())["code"]
    await until(lambda: found(fragile_house, code))
    pause(postgres)
    try:
        before, began = waited_for("postgres"), time.monotonic()
        await until(lambda: stale_view(fragile_house, code), within=60)
        for _ in range(500):
            status, _ = await fragile_house.lookup(f"/api/v1/dossiers/{code}")
            assert status == 200
        assert 1 <= waited_for("postgres") - before < 10 + 5 * (time.monotonic() - began)
    finally:
        resume(postgres)
    await until(lambda: fresh(fragile_house, code), within=60)


async def test_negative_answer_is_never_served_stale(
    fragile_house: House, servers: tuple[PostgresServer, ValkeyServer, Database]
) -> None:
    postgres, _, _ = servers
    await until(lambda: missing(fragile_house, UNKNOWN))
    postgres.kill()
    await until(lambda: unavailable(fragile_house, UNKNOWN), within=60)
    postgres.restart()


@pytest.mark.parametrize("away", ["redis", "postgres", "both"])
async def test_lookup_started_while_servers_are_away_is_ready_and_right_once_they_are_back(
    servers: tuple[PostgresServer, ValkeyServer, Database], away: str
) -> None:
    postgres, valkey, database = servers
    async with open_house(database, valkey.url) as house:
        code = (await house.receive())["code"]
        await until(lambda: found(house, code))
    if away in ("postgres", "both"):
        postgres.kill()
    if away in ("redis", "both"):
        valkey.kill()
    settings = lookup_settings(database.reader_url, valkey.url, soft_age=SOFT_AGE)
    async with lookup_at(settings) as url, aiohttp.ClientSession() as http, relay_of(database, valkey.url):
        house = House(url, "", http, "")
        status, problem = await house.lookup(f"/api/v1/dossiers/{UNKNOWN}")
        assert (status, problem["code"]) == (
            (404, "dossier_not_found") if away == "redis" else (503, "status_unavailable")
        )
        status, _ = await house.lookup(f"/api/v1/dossiers/{code}")
        assert status == (503 if away == "both" else 200)
        if away in ("postgres", "both"):
            postgres.restart()
        if away in ("redis", "both"):
            valkey.restart()
        await until(lambda: fresh(house, code), within=60)
        await until(lambda: missing(house, UNKNOWN), within=60)


async def test_intake_and_relay_started_while_servers_are_away_work_once_they_are_back(
    servers: tuple[PostgresServer, ValkeyServer, Database],
) -> None:
    postgres, valkey, database = servers
    token = await new_token(database)
    postgres.kill()
    valkey.kill()
    lookup = lookup_settings(database.reader_url, valkey.url)
    async with (
        lookup_at(lookup) as lookup_url,
        intake_at(intake_settings(database.writer_url)) as intake_url,
        relay_of(database, valkey.url),
        aiohttp.ClientSession() as http,
    ):
        house = House(lookup_url, intake_url, http, token)
        status, problem = await house.hand_in("POST", "/api/v1/dossiers", submission())
        assert (status, problem["code"]) == (503, "unavailable")
        postgres.restart()
        valkey.restart()

        async def received() -> Any:
            status, answer = await house.hand_in("POST", "/api/v1/dossiers", submission())
            assert status in (201, 503), answer  # never "unknown agency" because the catalogue is not read yet
            return answer if status == 201 else None

        receipt = await until(received, within=60)
        moved = await house.move(receipt["code"], "processing")
        await until(lambda: version_is(house, receipt["code"], moved["version"]), within=60)


async def test_intake_says_unavailable_while_postgres_is_away_and_nothing_is_half_written(
    fragile_house: House, servers: tuple[PostgresServer, ValkeyServer, Database]
) -> None:
    postgres, _, _ = servers
    code = (await fragile_house.receive())["code"]
    postgres.kill()
    path = f"/api/v1/dossiers/{code}/transitions"
    status, problem = await fragile_house.hand_in("POST", path, {"to": "processing"})
    assert status == 503
    assert problem["code"] in ("unavailable", "outcome_unknown")
    postgres.restart()

    async def moved() -> bool:
        status, answer = await fragile_house.hand_in("POST", path, {"to": "processing", "expected_version": 1})
        return status == 200 and answer["version"] == 2

    await until(moved, within=60)


def waited_for(dependency: str) -> float:
    """How many calls to it have ended at their deadline in this process."""
    return (
        REGISTRY.get_sample_value(
            "hoso24_dependency_unavailable_total", {"dependency": dependency, "reason": "TimeoutError"}
        )
        or 0.0
    )


async def view_of(house: House, code: str) -> Any:
    status, view = await house.lookup(f"/api/v1/dossiers/{code}")
    return view if status == 200 else None


async def found(house: House, code: str) -> bool:
    return await view_of(house, code) is not None


async def fresh(house: House, code: str) -> bool:
    view = await view_of(house, code)
    return view is not None and "stale" not in view


async def stale_view(house: House, code: str) -> Any:
    view = await view_of(house, code)
    assert view is not None, "a known dossier must be answered"
    return view if view.get("stale") else None


async def version_is(house: House, code: str, version: int) -> bool:
    view = await view_of(house, code)
    return view is not None and view["version"] == version


async def missing(house: House, code: str) -> bool:
    return (await house.lookup(f"/api/v1/dossiers/{code}"))[0] == 404


async def unavailable(house: House, code: str) -> bool:
    return (await house.lookup(f"/api/v1/dossiers/{code}"))[0] == 503
