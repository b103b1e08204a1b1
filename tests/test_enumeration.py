"""Whoever counts codes up is slowed and in the end refused; the citizens behind the same address notice nothing."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from prometheus_client import REGISTRY

from lookup.reading.limits import HELD_BACK, Limits, Rate
from ops.observe import logs
from tests.conftest import Database
from tests.house import AGENCY, SERVICE, lookup_at, lookup_settings, until

pytestmark = pytest.mark.usefixtures("nothing_is_shed")

CARRIER = "203.0.113.7"
"""The one address they all have."""
ROUNDS = 3
"""How often each citizen looks."""
WALKED = [f"G99.01.01-261103-{number:05d}" for number in range(1, 4001)]
"""What the enumerator reads off: more codes than it gets through while the citizens ask."""
NEIGHBOURS = [f"G99.01.01-261103-{number:05d}" for number in range(9001, 9021)]
"""Dossiers of the walked day whose holders had asked before the walk began."""
OTHERS = [
    f"G99.{unit:02d}.01-2611{day:02d}-{number:04d}"
    for unit in range(1, 7)
    for day in range(10, 14)
    for number in range(1, 21)
]
"""Twenty a day at each of six one-stop units."""
DOSSIERS = [*NEIGHBOURS, *OTHERS]
"""One for each of five hundred citizens."""

JSON, PAGES = "/api/v1/dossiers/", "/tra-cuu/"
"""Answered straight behind the parser, and the normal way."""

HANDS = HELD_BACK + 5
"""Codes the enumerator asks for at once: more than can be held back."""

PATIENT = {"redis_deadline": 5.0, "pg_deadline": 5.0, "lookup_deadline": 20.0}
"""So that a slow machine is not mistaken for an absent database."""

SEED = """
INSERT INTO dossier (code, version, status, service, agency, channel, submitted_at, received_at, timeline)
SELECT code, 1, 2, $2, $3, 'direct', now(), now(), '[]' FROM unnest($1::text[]) AS code
"""


@pytest.fixture
def held_back(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whose answers were held back, or refused instead: the id of each such request."""
    ids: list[str] = []
    hold_back = Limits.hold_back

    async def noted(self: Limits, client: bytes | None, seconds: float) -> None:
        ids.append(logs.request_id.get() or "none")
        await hold_back(self, client, seconds)

    monkeypatch.setattr(Limits, "hold_back", noted)
    return ids


class Enumerator:
    """Reads off consecutive codes, very many at once, until it is stopped."""

    def __init__(self, http: aiohttp.ClientSession, address: str) -> None:
        self._http = http
        self._address = address
        self._codes = iter(WALKED)
        self._began = asyncio.get_running_loop().time()
        self._stopped = asyncio.Event()
        self.statuses: list[int] = []
        self._hands = [asyncio.create_task(self._walk()) for _ in range(HANDS)]

    @property
    def refusals(self) -> int:
        return self.statuses.count(429)

    async def _walk(self) -> None:
        for code in self._codes:
            if self._stopped.is_set():
                return
            self.statuses.append(await ask(self._http, self._address + code, "enumerator"))

    async def stop(self) -> float:
        """Ask no more; for how many seconds it has asked."""
        self._stopped.set()
        await asyncio.gather(*self._hands)
        return asyncio.get_running_loop().time() - self._began


async def ask(http: aiohttp.ClientSession, path: str, who: str) -> int:
    headers = {"X-Forwarded-For": CARRIER, "X-Request-Id": who}
    async with http.get(path, headers=headers, allow_redirects=False) as response:
        body = await response.read()
        if response.status == 200:
            assert path.rpartition("/")[2].encode() in body
        if response.status == 429:
            assert int(response.headers["Retry-After"]) >= 1
        return response.status


@pytest.fixture
async def sessions() -> AsyncIterator[list[aiohttp.ClientSession]]:
    """The citizens' connections and the enumerator's."""
    sessions = [aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=limit)) for limit in (40, HANDS)]
    yield sessions
    for session in sessions:
        await session.close()


def counted() -> dict[str, float]:
    """What the limits say they did, by name and rate."""
    slowed = {rate.word: REGISTRY.get_sample_value("lookup_slowed_total", {"rate": rate.word}) or 0.0 for rate in Rate}
    labels = {"source": "nowhere", "outcome": "limited"}
    return slowed | {
        "refused": REGISTRY.get_sample_value("lookup_limited_total") or 0.0,
        "answered limited": REGISTRY.get_sample_value("lookup_answers_total", labels) or 0.0,
    }


@pytest.mark.parametrize(
    ("walk", "address", "settings"),
    [
        pytest.param(Rate.PREFIX, JSON, {}, id="existing_codes"),
        pytest.param(Rate.MISSING, JSON, {}, id="missing_codes"),
        pytest.param(Rate.PREFIX, JSON, {"memory_bytes": 0}, id="existing_codes_without_memory"),
        pytest.param(Rate.PREFIX, PAGES, {}, id="existing_codes_the_normal_way"),
        pytest.param(Rate.MISSING, PAGES, {}, id="missing_codes_the_normal_way"),
    ],
)
async def test_citizens_behind_the_enumerator_s_address_neither_wait_nor_are_refused(
    database: Database,
    redis_url: str,
    writer: Any,
    held_back: list[str],
    sessions: list[aiohttp.ClientSession],
    walk: Rate,
    address: str,
    settings: dict[str, Any],
) -> None:
    """`walk`: the rate it is slowed by, which says whether the codes it reads off exist."""
    there = [*DOSSIERS, *WALKED] if walk is Rate.PREFIX else DOSSIERS
    await writer.execute(SEED, there, SERVICE, AGENCY)
    citizens, others = sessions
    async with lookup_at(lookup_settings(database.reader_url, redis_url, **PATIENT, **settings)) as url:
        for code in NEIGHBOURS:
            assert await ask(citizens, f"{url}{address}{code}", "neighbour") == 200
        before = counted()
        enumerator = Enumerator(others, url + address)

        async def refused() -> int:
            return enumerator.refusals

        already = await until(refused, within=30)
        rounds = [
            await asyncio.gather(*(ask(citizens, f"{url}{address}{code}", "citizen") for code in DOSSIERS))
            for _ in range(ROUNDS)
        ]
        meanwhile = enumerator.refusals - already
        seconds = await enumerator.stop()
        assert rounds == [[200] * 500] * ROUNDS
        assert set(held_back) == {"enumerator"}

        async def all_counted() -> bool:
            return counted()["answered limited"] - before["answered limited"] >= enumerator.refusals

        await until(all_counted)
    assert meanwhile > 0
    assert set(enumerator.statuses) == {200 if walk is Rate.PREFIX else 404, 429}
    read_at_once = len(enumerator.statuses) - len(held_back)
    burst, per_second = walk.tolerance / walk.interval, 1 / walk.interval
    assert read_at_once <= burst + per_second * seconds + 1
    assert {name: count - before[name] for name, count in counted().items()} == {
        **{rate.word: 0 for rate in Rate},
        walk.word: len(held_back),
        "refused": enumerator.refusals,
        "answered limited": enumerator.refusals,
    }
