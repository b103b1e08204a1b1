"""A delay of our own making is held against no dependency: neither a late event loop nor our own queue opens a breaker.

That a dependency which really hangs opens one is in tests/test_faults.py.
"""

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest
import redis.asyncio
from prometheus_client import REGISTRY

from lookup import clock
from lookup.cache import Cache
from lookup.reading import hosts, store
from lookup.upkeep import pulse
from ops.http import probes
from ops.stores.postgres import Postgres
from tests.conftest import Database
from tests.house import AGENCY, SERVICE, lookup_running, lookup_settings, until

pytestmark = pytest.mark.usefixtures("nothing_is_shed")

PARTNER = {"partners": ("127.0.0.0/8",)}
"""More is asked for here than any client is shown without keys."""
CODES = [f"G99.01.01-261121-{number:04d}" for number in range(1, 301)]
SEED = """
INSERT INTO dossier (code, version, status, service, agency, origin, channel, submitted_at, received_at, timeline)
SELECT code, 1, 2, $2, $3, $3, 'direct', now(), now(), '[]' FROM unnest($1::text[]) AS code
"""


class Lookup:
    """A running lookup on a database with dossiers in it."""

    def __init__(self, url: str, admin: str, http: aiohttp.ClientSession) -> None:
        self._url = url
        self._admin = admin
        self._http = http
        self._unavailable = _unavailable()

    async def ask(self, *codes: str) -> list[int]:
        """The statuses of these lookups, made at the same time."""

        async def one(code: str) -> int:
            async with self._http.get(f"{self._url}/api/v1/dossiers/{code}") as response:
                await response.read()
                return response.status

        return await asyncio.gather(*(one(code) for code in codes))

    async def answers_all(self) -> bool:
        """Whether very many are all answered. One may be late by itself: deadlines here are short, and the machine has
        other work.
        """
        return await self.ask(*CODES[:80]) == [200] * 80

    async def health(self) -> str:
        """What the health report says of Postgres."""
        async with self._http.get(f"{self._admin}/health") as response:
            return str((await response.json())["checks"]["postgres"]["status"])

    async def open_breakers(self) -> list[str]:
        async with self._http.get(f"{self._admin}/reports/why") as response:
            breakers = (await response.json())["breakers"]
        assert set(breakers) == {"redis", "postgres"}
        return [name for name, is_open in breakers.items() if is_open]

    @property
    def own_delays(self) -> Counter[str]:
        """Calls that ended without an answer and were not held against the dependency, by dependency."""
        return self._ended(own=True)

    @property
    def held_against(self) -> Counter[str]:
        """Calls that ended without an answer and were held against the dependency."""
        return self._ended(own=False)

    def _ended(self, *, own: bool) -> Counter[str]:
        ended: Counter[str] = Counter()
        for (dependency, reason), count in (_unavailable() - self._unavailable).items():
            if dependency in ("redis", "postgres") and (reason == "OurOwnDelay") is own:
                ended[dependency] += count
        return ended


def _unavailable() -> Counter[tuple[str, str]]:
    return Counter(
        {
            (sample.labels["dependency"], sample.labels["reason"]): int(sample.value)
            for metric in REGISTRY.collect()
            if metric.name == "hoso24_dependency_unavailable"
            for sample in metric.samples
        }
    )


@contextlib.asynccontextmanager
async def lookup_with(database: Database, redis_url: str, **settings: Any) -> AsyncIterator[Lookup]:
    async with (
        lookup_running(
            lookup_settings(database.reader_url, redis_url, partners=("127.0.0.0/8",), **settings)
        ) as running,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
    ):
        yield Lookup(f"http://127.0.0.1:{running.port}", f"http://127.0.0.1:{running.admin_port}", http)


@pytest.fixture(autouse=True)
async def _dossiers(writer: Any) -> None:
    await writer.execute(SEED, CODES, SERVICE, AGENCY)


@pytest.fixture(autouse=True)
def _reports_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports and checks are asked of the very process that is held up."""
    monkeypatch.setattr(probes, "CHECKS_DEADLINE", 30.0)


@pytest.fixture
def no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pulse does not beat again, so a breaker that has opened stays open."""
    monkeypatch.setattr(pulse, "EVERY", 3600.0)
    monkeypatch.setattr(pulse, "AWAY_EVERY", 3600.0)


@contextlib.contextmanager
def loop_held_up(owner: type, method: str, seconds: float) -> Iterator[None]:
    """The loop does nothing else for so long as soon as this has asked its dependency."""
    asked = getattr(owner, method)

    async def held_up(*arguments: Any, **named: Any) -> Any:
        asyncio.get_running_loop().call_soon(time.sleep, seconds)
        return await asked(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, method, held_up)
        yield


# -- the loop ----------------------------------------------------------------------------------------------

DEADLINES = {"redis_deadline": 1.0, "pg_deadline": 1.0}
HELD_UP = 1.5
"""Seconds: longer than either, which are long enough for a slow machine's servers to answer."""


@pytest.mark.parametrize(
    ("owner", "method", "dependency"),
    [(Cache, "read", "redis"), (Postgres, "fetch", "postgres"), (Cache, "fill", "redis")],
    ids=["copies", "load", "fill"],
)
@pytest.mark.usefixtures("no_probe")
async def test_loop_held_up_beyond_the_deadlines_while_lookups_wait_opens_no_breaker(
    database: Database, redis_url: str, owner: type, method: str, dependency: str
) -> None:
    async with lookup_with(database, redis_url, **DEADLINES) as lookup:
        codes = iter(CODES)

        async def late_again() -> bool:
            assert set(await lookup.ask(*itertools.islice(codes, 5))) <= {200, 503}
            assert await lookup.open_breakers() == []
            return lookup.own_delays[dependency] >= 3

        with loop_held_up(owner, method, HELD_UP):
            await until(late_again, within=120)
        assert lookup.held_against == {}
        assert await lookup.open_breakers() == []
        await until(lookup.answers_all)


@pytest.mark.parametrize(
    ("owner", "method", "dependency"),
    [(Cache, "epoch", "redis"), (Postgres, "fetch", "postgres")],
    ids=["redis", "postgres"],
)
async def test_loop_held_up_at_every_beat_of_the_pulse_opens_no_breaker(
    database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch, owner: type, method: str, dependency: str
) -> None:
    monkeypatch.setattr(pulse, "EVERY", 0.1)
    async with lookup_with(database, redis_url, **DEADLINES) as lookup:

        async def late_again() -> bool:
            assert await lookup.open_breakers() == []
            return lookup.own_delays[dependency] >= 3

        with loop_held_up(owner, method, HELD_UP):
            await until(late_again, within=120)
        assert lookup.held_against == {}
        assert await lookup.open_breakers() == []
        await until(lookup.answers_all)


@pytest.mark.usefixtures("no_probe")
async def test_loop_a_little_late_at_every_turn_opens_no_breaker(database: Database, redis_url: str) -> None:
    """No turn is as long as a deadline, but a connection that has to be made anew takes many."""
    loop = asyncio.get_running_loop()
    busy = True

    def one_turn() -> None:
        time.sleep(0.05)
        if busy:
            loop.call_soon(one_turn)

    async with (
        lookup_with(database, redis_url, redis_deadline=0.1) as lookup,
        redis.asyncio.Redis.from_url(redis_url, protocol=2) as client,
    ):
        codes = iter(CODES)

        async def late_again() -> bool:
            await client.client_kill_filter(_type="normal")
            assert set(await lookup.ask(next(codes))) <= {200, 503}
            assert await lookup.open_breakers() == []
            return lookup.own_delays["redis"] >= 3

        loop.call_soon(one_turn)
        await until(late_again, within=120)
        busy = False
        assert lookup.held_against == {}
        assert await lookup.open_breakers() == []
        await until(lookup.answers_all)


# -- the queue ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def postgres_slow(seconds: float) -> Iterator[None]:
    """Every statement about dossiers or the present takes so long more, in Postgres."""
    asleep = f"FROM heartbeat CROSS JOIN (SELECT pg_sleep({seconds})) AS asleep\n"
    present = clock.PRESENT.replace("FROM heartbeat\n", asleep)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "DOSSIERS", store.DOSSIERS.replace(clock.PRESENT, present))
        patch.setattr(hosts, "PRESENT", present)
        assert "asleep" in store.DOSSIERS
        yield


@pytest.mark.usefixtures("no_probe")
async def test_more_lookups_than_connections_wait_in_vain_and_postgres_is_not_blamed(
    database: Database, redis_url: str
) -> None:
    settings = {"pg_queries": 2, "pg_deadline": 4.0, "lookup_deadline": 4.0}
    async with lookup_with(database, redis_url, **settings) as lookup:
        with postgres_slow(0.5):
            assert await lookup.ask(CODES[0]) == [200]
            statuses = Counter(await lookup.ask(*CODES[1:101]))
        assert statuses.keys() == {200, 503}
        assert await lookup.open_breakers() == []
        assert lookup.held_against == {}

        async def all_answered() -> bool:
            return await lookup.ask(*CODES) == [200] * len(CODES)

        await until(all_answered, within=60)


@pytest.mark.usefixtures("no_probe")
async def test_time_spent_waiting_for_a_connection_is_not_held_against_postgres(
    database: Database, redis_url: str
) -> None:
    """Each statement ends well within its deadline, but not within what the queue has left of it."""
    async with lookup_with(database, redis_url, pg_queries=2, pg_deadline=6.0) as lookup:
        with postgres_slow(3.6):
            assert "ok" in await asyncio.gather(*(lookup.health() for _ in range(6)))
        assert lookup.held_against == {}
        assert await lookup.open_breakers() == []
        await until(lookup.answers_all)
