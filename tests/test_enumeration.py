"""A client that reads dossiers off is refused at once; the citizens behind the same address are not."""

import asyncio
import json
from collections import Counter
from typing import Any

import aiohttp
import pytest
from prometheus_client import REGISTRY

from lookup.code import parse
from lookup.lookup_key import KeyRing
from tests.conftest import KEY_SECRETS, Database
from tests.house import AGENCY, SERVICE, lookup_at, lookup_settings, until

pytestmark = pytest.mark.usefixtures("nothing_is_shed")

CARRIER = "203.0.113.7"
"""The one address they all have."""
HANDS = 20
"""Codes the enumerator asks for at once."""
WALKED = [f"G99.01.01-261103-{number:05d}" for number in range(1, 401)]
"""What it reads off."""
NEIGHBOURS = [f"G99.01.01-261103-{number:05d}" for number in range(9001, 9011)]
"""Dossiers of the walked day whose holders had asked before the walk began."""
OTHERS = [
    f"G99.{unit:02d}.01-2611{day:02d}-{number:04d}"
    for unit in range(1, 7)
    for day in range(10, 14)
    for number in range(1, 21)
]
"""Twenty a day at each of six one-stop units."""
DOSSIERS = [*NEIGHBOURS, *OTHERS]

JSON, PAGES, BATCH = "/api/v1/dossiers/", "/tra-cuu/", "/api/v1/lookups"

PATIENT = {"redis_deadline": 5.0, "pg_deadline": 5.0, "lookup_deadline": 20.0}
"""So that a slow machine is not mistaken for an absent database."""

SEED = """
INSERT INTO dossier (code, version, status, service, agency, origin, channel, submitted_at, received_at, timeline)
SELECT code, 1, 2, $2, $3, $3, 'direct', now(), now(), '[]' FROM unnest($1::text[]) AS code
"""


class Door:
    """One way to ask, through one address."""

    def __init__(self, http: aiohttp.ClientSession, url: str, address: str) -> None:
        self._http, self._url, self._address = http, url, address

    async def ask(self, code: str, client: str = CARRIER, key: str | None = None) -> int:
        """The status of the answer; for an item of a batch, what it would have been."""
        headers = {"X-Forwarded-For": client}
        if self._address == BATCH:
            body = json.dumps({"dossiers": [{"code": code} | ({"key": key} if key else {})]})
            async with self._http.post(self._url + BATCH, data=body, headers=headers) as response:
                (result,) = (await response.json())["results"]
                if "dossier" in result:
                    return 200
                return {"dossier_not_found": 404, "too_many_requests": 429}[result["error"]]
        if key:
            headers |= {"Hoso24-Key": key, "Cookie": f"hoso24-key={key}"}
        async with self._http.get(self._url + self._address + code, headers=headers) as response:
            text = await response.text()
            if response.status == 200:
                assert code in text
            if response.status == 429:
                assert 10 <= int(response.headers["Retry-After"]) <= 3600
            return response.status

    async def walk(self, codes: list[str], client: str = CARRIER) -> Counter[int]:
        """All of these, HANDS at once."""
        waiting, statuses = iter(codes), Counter[int]()

        async def hand() -> None:
            for code in waiting:
                statuses[await self.ask(code, client)] += 1

        await asyncio.gather(*(hand() for _ in range(HANDS)))
        return statuses


def counted(rate: str) -> float:
    return REGISTRY.get_sample_value("lookup_limited_total", {"rate": rate}) or 0.0


@pytest.mark.parametrize(
    ("address", "settings"),
    [
        pytest.param(JSON, {}, id="json"),
        pytest.param(JSON, {"memory_bytes": 0}, id="json without memory"),
        pytest.param(PAGES, {}, id="pages"),
        pytest.param(BATCH, {}, id="batches"),
    ],
)
async def test_citizens_behind_the_enumerator_s_address_are_all_served(
    database: Database, redis_url: str, writer: Any, address: str, settings: dict[str, Any]
) -> None:
    await writer.execute(SEED, [*DOSSIERS, *WALKED], SERVICE, AGENCY)
    async with (
        aiohttp.ClientSession() as http,
        lookup_at(lookup_settings(database.reader_url, redis_url, **PATIENT, **settings)) as url,
    ):
        door, before = Door(http, url, address), counted("network_prefix")
        assert await door.walk(NEIGHBOURS) == {200: 10}
        first = await door.walk(WALKED)
        assert first == {200: 140, 429: 260}
        assert (await door.walk(DOSSIERS)) == {200: 490}
        assert (await door.walk(WALKED))[200] <= 140 + 2  # one a minute
        unseen = WALKED[-1]
        assert await door.ask(unseen) == 429
        assert await door.ask(unseen, client="198.51.100.9") == 200
        assert await door.ask(unseen, key=KeyRing.from_text(KEY_SECRETS).key(parse(unseen))) == 200
        assert counted("network_prefix") - before >= 260

        async def disclosures() -> bool:
            return (REGISTRY.get_sample_value("lookup_disclosed_total") or 0.0) >= 630

        await until(disclosures)


@pytest.mark.parametrize("address", [JSON, PAGES, BATCH])
async def test_codes_there_are_not_are_refused_at_their_own_rate(
    database: Database, redis_url: str, writer: Any, address: str
) -> None:
    await writer.execute(SEED, OTHERS, SERVICE, AGENCY)
    async with (
        aiohttp.ClientSession() as http,
        lookup_at(lookup_settings(database.reader_url, redis_url, **PATIENT)) as url,
    ):
        door = Door(http, url, address)
        statuses = await door.walk(WALKED)
        assert statuses.keys() == {404, 429}
        assert statuses[404] >= 100
        assert (await door.walk(OTHERS)) == {200: 480}
