"""Ten thousand lookups of every kind: the metrics alone say how many there were, and where each was answered."""

import asyncio
import contextlib
import dataclasses
import itertools
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import aiohttp
import asyncpg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from yarl import URL

from lookup import code as codes
from lookup.lookup_key import KeyRing
from lookup.reading import shedding
from lookup.reading.shedding import Load
from lookup.settings import LookupSettings
from tests.conftest import KEY_SECRETS, Database, prepare
from tests.house import AGENCY, SERVICE, lookup_at, lookup_running, lookup_settings, relay_of, reset, until

KEYS = KeyRing.from_text(KEY_SECRETS)
TAG = '"1.1-json-3"'
PARTNER, CARRIER = "198.51.100.4", "203.0.113.7"
"""No rate applies to the one, every rate to the other."""
CONNECTIONS = 40
AT_ONCE = 130
"""Connections of the one who is refused."""
UNTIMED = {"429", "499", "503"}
OUTCOMES = {"found", "missing", "stale", "unavailable", "shed", "limited", "not_reached", "wrong_key"}
SETTINGS: dict[str, Any] = {
    "partners": ("198.51.100.0/24",),
    # A slow machine is not to send to Postgres what another copy would have answered.
    "redis_deadline": 5.0,
    "pg_deadline": 5.0,
    "lookup_deadline": 20.0,
    "soft_age": 600.0,
}

SEED = """
INSERT INTO dossier (code, version, status, service, agency, origin, channel, submitted_at, received_at, timeline,
                     key_serial, removed)
SELECT code, 1, 2, $2, $3, $3, 'direct', now(), now(), '[]', $4, $5 FROM unnest($1::text[]) AS code
"""
BIND = "INSERT INTO dossier_number (number, code, version) SELECT *, 1 FROM unnest($1::text[], $2::text[])"


def series(unit: int, count: int) -> list[str]:
    return [f"G99.{unit:02d}.01-261120-{number:04d}" for number in range(1, count + 1)]


HOT, WARM, COLD, SHARED = series(1, 200), series(2, 600), series(3, 1200), series(4, 100)
REMOVED, SUPERSEDED, NUMBERED, RAISED = series(5, 60), series(6, 60), series(7, 60), series(8, 60)
LATE_COLD, LATE_WARM = series(9, 200), series(10, 200)
UNKNOWN = (f"G99.99.01-261120-{number:05d}" for number in itertools.count(1))
BOUND = [f"{number:05d}/2026/99901" for number in range(1, len(NUMBERED) + 1)]
UNBOUND = [f"{number:05d}/2026/99902" for number in range(1, 61)]

Counts = Counter[tuple[str, ...]]
SOMEWHERE = "?"
"""A source that cannot be told from outside."""


@dataclasses.dataclass(frozen=True)
class Ask:
    """One request, the status it must get, and the source and outcome of the lookup it is, if it is one.

    Of a dossier that was found, the answer says itself whether it came from Postgres and whether it is stale.
    """

    path: str
    status: int
    counted: tuple[str, str] | None
    method: str = "GET"
    key: str | None = None
    tag: str | None = None
    body: str | None = None
    client: str = PARTNER

    @property
    def headers(self) -> dict[str, str]:
        headers = {"X-Forwarded-For": self.client}
        if self.key is not None:
            headers["Hoso24-Key"] = self.key
        if self.tag is not None:
            headers["If-None-Match"] = self.tag
        return headers


class Books:
    """What a client knows: every answer it got, and how the lookup behind it has to be counted."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.requests: Counts = Counter()
        self.lookups: Counts = Counter()

    async def ask(self, http: aiohttp.ClientSession, ask: Ask) -> bytes:
        """Send it, and note what came back."""
        url = URL(self._url + ask.path, encoded=True)
        async with http.request(ask.method, url, headers=ask.headers, data=ask.body, allow_redirects=False) as response:
            body = await response.read()
        self.requests[ask.method, str(response.status)] += 1
        if response.status == 429 and ask.client == CARRIER:
            self.lookups["nowhere", "limited"] += 1
            return body
        assert response.status == ask.status, (ask, body)
        if ask.body is not None and response.status == 200:
            self.lookups.update(filter(None, map(_of_item, json.loads(body)["results"])))
        elif ask.counted is not None:
            source, outcome = ask.counted
            told = response.headers.get("Cache-Status")
            assert (told is not None) == (outcome in ("found", "stale") and not _is_page(ask)), ask
            if told == "hoso24; fwd=miss; stored":
                source = "postgres"
            if outcome in ("found", "stale") and ask.method == "GET":
                outcome = "stale" if b'"stale":true' in body else "found"
            self.lookups[source, outcome] += 1
        return body

    async def ask_all(self, http: aiohttp.ClientSession, asks: Iterable[Ask], at_once: int = CONNECTIONS) -> None:
        """All of them, so many at once."""
        waiting = iter(asks)

        async def client() -> None:
            for each in waiting:
                await self.ask(http, each)

        await asyncio.gather(*(client() for _ in range(at_once)))


def _is_page(ask: Ask) -> bool:
    return not ask.path.startswith("/api/")


def _of_item(result: dict[str, Any]) -> tuple[str, str] | None:
    """How a lookup in a batch is counted; the codes in ours are in memory, or no codes at all."""
    if "dossier" in result:
        return MEMORY
    return WRONG_KEY if result["error"] in ("dossier_or_key_not_found", "malformed_key") else None


class Scrape(dict[tuple[str, frozenset[tuple[str, str]]], float]):
    """A page of metrics: (name, labels) → value."""

    def total(self, name: str, **labels: str) -> float:
        """The sum of all series with these labels."""
        wanted = labels.items()
        return sum(value for (series, found), value in self.items() if series == name and wanted <= found)

    def by(self, name: str, *by: str, **labels: str) -> Counts:
        """Sums by the values of these labels; what is zero is left out."""
        sums: Counts = Counter()
        for (series, found), value in self.items():
            if series == name and labels.items() <= found:
                sums[tuple(dict(found)[each] for each in by)] += int(value)
        return +sums

    def since(self, before: "Scrape") -> "Scrape":
        return Scrape({key: value - before.get(key, 0.0) for key, value in self.items()})


async def scrape(http: aiohttp.ClientSession, admin: str) -> Scrape:
    async with http.get(f"{admin}/metrics") as response:
        page = await response.text()
    return Scrape(
        {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
        }
    )


async def seed(database: Database) -> None:
    connection = await asyncpg.connect(database.owner_url)
    try:
        plain = [*HOT, *WARM, *COLD, *SHARED, *NUMBERED, *RAISED, *LATE_COLD, *LATE_WARM]
        for those, serial, removed in ((plain, 0, False), (SUPERSEDED, 1, False), (REMOVED, 0, True)):
            await connection.execute(SEED, those, SERVICE, AGENCY, serial, removed)
        await connection.execute(BIND, BOUND, NUMBERED)
    finally:
        await connection.close()


async def raise_versions(database: Database) -> None:
    """A change that is delivered to no process."""
    connection = await asyncpg.connect(database.owner_url)
    try:
        await connection.execute("UPDATE dossier SET version = 2 WHERE code = ANY($1)", RAISED)
    finally:
        await connection.close()


def at(code: str) -> str:
    return f"/api/v1/dossiers/{code.replace('/', '-')}"


def key(code: str) -> str:
    return KEYS.key(codes.parse(code), 0)


FORGED = key(COLD[0])


def hot(count: int, make: Callable[[str], Ask]) -> list[Ask]:
    return [make(HOT[n % len(HOT)]) for n in range(count)]


def unknown(count: int, make: Callable[[str], Ask]) -> list[Ask]:
    return [make(next(UNKNOWN)) for _ in range(count)]


MEMORY, REDIS, POSTGRES = ("memory", "found"), ("redis", "found"), ("postgres", "found")
MISSING = ("postgres", "missing")
NOT_REACHED = ("postgres", "not_reached")
WRONG_KEY, UNAVAILABLE, SHED = ("nowhere", "wrong_key"), ("nowhere", "unavailable"), ("nowhere", "shed")


def an_ordinary_day() -> list[Ask]:
    """Every way of asking while all is well, shuffled."""
    batch = json.dumps(
        {
            "dossiers": [
                *({"code": code} for code in HOT[:40]),
                *({"code": code, "key": key(code)} for code in HOT[40:44]),
                *({"code": code, "key": FORGED} for code in HOT[44:46]),
                *({"code": code, "key": "short"} for code in HOT[46:48]),
                *({"code": "nonsense"} for _ in range(2)),
            ]
        }
    )
    asks = [
        *hot(1200, lambda code: Ask(at(code), 200, MEMORY)),
        *hot(900, lambda code: Ask(at(code), 304, MEMORY, tag=TAG)),
        *hot(300, lambda code: Ask(at(code), 200, MEMORY, tag='"another"')),
        *hot(500, lambda code: Ask(at(code), 200, MEMORY, "HEAD")),
        *hot(300, lambda code: Ask(at(code), 304, MEMORY, tag=f'W/{TAG}, "another"')),
        *hot(300, lambda code: Ask(at(code), 200, MEMORY, key=key(code))),
        *hot(200, lambda code: Ask(f"{at(code)}?at_least=1", 200, MEMORY)),
        *hot(50, lambda code: Ask(f"/tra-cuu/{code}", 200, MEMORY)),
        *hot(50, lambda code: Ask(f"/en/status/{code}", 200, MEMORY)),
        *hot(300, lambda code: Ask(at(code), 404, WRONG_KEY, key=FORGED)),
        *hot(100, lambda code: Ask(at(code), 400, WRONG_KEY, key="short")),
        *hot(50, lambda code: Ask(f"{at(code)}?at_least=7", 412, NOT_REACHED)),
        *[Ask("/api/v1/lookups", 200, None, "POST", body=batch)] * 12,
        *(Ask(at(code), 200, REDIS) for code in WARM[:400]),
        *(Ask(at(code), 304, REDIS, tag=TAG) for code in WARM[400:500]),
        *(Ask(at(code), 200, REDIS, "HEAD") for code in WARM[500:550]),
        *(Ask(at(code), 200, REDIS, key=key(code)) for code in WARM[550:]),
        *(Ask(at(code), 200, POSTGRES) for code in COLD[:900]),
        *(Ask(at(code), 304, POSTGRES, tag=TAG) for code in COLD[900:1000]),
        *(Ask(at(code), 200, POSTGRES, "HEAD") for code in COLD[1000:1100]),
        *(Ask(at(code), 200, POSTGRES, key=key(code)) for code in COLD[1100:]),
        *[Ask(at(code), 200, MEMORY) for code in SHARED] * 4,
        *(Ask(f"{at(code)}?at_least=2", 200, POSTGRES) for code in RAISED),
        *[Ask(at(number), 200, MEMORY) for number in BOUND] * 3,
        *(Ask(at(number), 404, (SOMEWHERE, "missing")) for number in UNBOUND),
        *(Ask(at(code), 404, WRONG_KEY, key=key(code)) for code in SUPERSEDED),
        *(Ask(at(code), 404, MISSING) for code in REMOVED),
        *unknown(500, lambda code: Ask(at(code), 404, MISSING)),
        *unknown(100, lambda code: Ask(at(code), 404, MISSING, "HEAD")),
        *unknown(100, lambda code: Ask(at(code), 404, MISSING, key=key(code))),
        *unknown(50, lambda code: Ask(f"{at(code)}?at_least=1", 404, MISSING)),
        *unknown(50, lambda code: Ask(f"/en/status/{code}", 404, MISSING)),
        # What is no lookup: another spelling, no code at all, nothing there.
        *hot(300, lambda code: Ask(at(code.lower()), 301, None)),
        *hot(50, lambda code: Ask(f"/tra-cuu/{code.lower()}", 301, None)),
        *hot(50, lambda code: Ask(f"{at(code)}?at_least=0", 400, None)),
        *[Ask(at("nonsense"), 400, None)] * 200,
        *[Ask(at("nonsense"), 400, None, "HEAD")] * 50,
        *[Ask("/api/v1/statuses", 200, None)] * 20,
        *[Ask("/api/v1/nothing", 404, None)] * 20,
        *[Ask("/api/v1/lookups", 400, None, "POST", body="{}")] * 20,
        *hot(20, lambda code: Ask(at(code), 405, None, "PUT")),
    ]
    random.Random(24).shuffle(asks)
    return asks


async def an_enumerator_is_refused(books: Books) -> None:
    """So many missing codes at once that some are refused."""
    connector = aiohttp.TCPConnector(limit=AT_ONCE)
    async with aiohttp.ClientSession(connector=connector) as http:
        await books.ask_all(http, unknown(300, lambda code: Ask(at(code), 404, MISSING, client=CARRIER)), AT_ONCE)


async def too_much_to_do(books: Books, http: aiohttp.ClientSession) -> None:
    """All that is not in memory is refused."""
    batch = json.dumps({"dossiers": [{"code": HOT[0]}]})
    with refused_from(-1.0):
        asks = [
            *hot(200, lambda code: Ask(at(code), 200, MEMORY)),
            *(Ask(at(code), 503, SHED) for code in LATE_COLD[:100]),
            *(Ask(at(code), 503, SHED, "HEAD") for code in LATE_COLD[100:150]),
            *(Ask(at(code), 503, SHED, key=key(code)) for code in LATE_COLD[150:]),
            *unknown(50, lambda code: Ask(f"/tra-cuu/{code}", 503, SHED)),
            *hot(50, lambda code: Ask(at(code), 404, WRONG_KEY, key=FORGED)),
            *[Ask("/api/v1/lookups", 503, None, "POST", body=batch)] * 20,
        ]
        await books.ask_all(http, asks)


async def postgres_is_away(books: Books, http: aiohttp.ClientSession) -> None:
    """A copy is answered marked as soon as no server can confirm it; a lookup without a copy ends in a 503."""
    stale = Ask(at(HOT[0]), 200, ("memory", "stale"))

    async def marked() -> bool:
        return b'"stale":true' in await books.ask(http, stale)

    await until(marked, within=30)
    asks = [
        *hot(300, lambda code: Ask(at(code), 200, ("memory", "stale"))),
        *hot(100, lambda code: Ask(at(code), 200, ("memory", "stale"), tag=TAG)),
        *hot(100, lambda code: Ask(at(code), 200, ("memory", "stale"), "HEAD")),
        *hot(100, lambda code: Ask(at(code), 200, ("memory", "stale"), key=key(code))),
        *hot(50, lambda code: Ask(at(code), 404, WRONG_KEY, key=FORGED)),
        *(Ask(at(code), 200, ("redis", "stale")) for code in LATE_WARM),
        *(Ask(at(code), 503, UNAVAILABLE) for code in LATE_COLD[:100]),
        *(Ask(at(code), 503, UNAVAILABLE, "HEAD") for code in LATE_COLD[100:]),
        *unknown(100, lambda code: Ask(at(code), 503, UNAVAILABLE, key=key(code))),
        *unknown(50, lambda code: Ask(f"/tra-cuu/{code}", 503, UNAVAILABLE)),
    ]
    await books.ask_all(http, asks)


@contextlib.contextmanager
def refused_from(lateness: float) -> Iterator[None]:
    """Everything is refused from this lateness of the loop on, and for no other reason."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shedding, "LATE", dict.fromkeys(Load, lateness))
        patch.setattr(shedding, "WAIT", dict.fromkeys(Load, float("inf")))
        patch.setattr(shedding, "LOOK_EVERY", 0.0)
        yield


@pytest.fixture(autouse=True)
def never_too_much_to_do() -> Iterator[None]:
    """However slow the machine is, nothing is refused that no test means to be."""
    with refused_from(float("inf")):
        yield


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as http:
        yield http


@dataclasses.dataclass
class Watched:
    """A running lookup, and its metrics from a moment on."""

    url: str
    admin: str
    http: aiohttp.ClientSession
    before: Scrape

    async def follows(self) -> bool:
        """Whether it follows the change stream: what it learns from now on, it may trust."""
        async with self.http.get(f"{self.admin}/reports/why") as response:
            return bool((await response.json())["feed"]["stream"] != "-")

    async def gained(self, books: Books) -> Scrape:
        """What was counted since, once every request is: what is answered at once gets there a little later."""

        async def all_counted() -> bool:
            gained = (await scrape(self.http, self.admin)).since(self.before)
            counted = gained.total("hoso24_http_requests_total", service="lookup")
            return counted >= books.requests.total() and not gained.total("hoso24_http_in_flight", service="lookup")

        await until(all_counted)
        # A page is made beside the main loop: what stands further up on it may have been read before the last count.
        return (await scrape(self.http, self.admin)).since(self.before)


@contextlib.asynccontextmanager
async def watched(settings: LookupSettings, http: aiohttp.ClientSession) -> AsyncIterator[Watched]:
    async with lookup_running(settings) as lookup:
        admin = f"http://127.0.0.1:{lookup.admin_port}"
        yield Watched(f"http://127.0.0.1:{lookup.port}", admin, http, await scrape(http, admin))


async def test_metrics_account_for_every_lookup_and_every_request(
    fragile: Callable[..., Any], http: aiohttp.ClientSession
) -> None:
    postgres, valkey = fragile()
    database = await prepare(postgres.admin_url, "hoso24")
    await seed(database)
    settings = lookup_settings(database.reader_url, valkey.url, **SETTINGS)
    async with relay_of(database, valkey.url):
        async with lookup_at(settings) as url:  # whose copies stay behind in Redis
            copied = [*HOT, *WARM, *RAISED, *LATE_WARM]
            await Books(url).ask_all(http, (Ask(at(code), 200, POSTGRES) for code in copied))
        await raise_versions(database)
        async with watched(settings, http) as lookup:
            await until(lookup.follows)
            books = Books(lookup.url)
            await books.ask_all(http, (Ask(at(code), 200, REDIS) for code in HOT))
            await asyncio.gather(books.ask_all(http, an_ordinary_day()), an_enumerator_is_refused(books))
            await too_much_to_do(books, http)
            postgres.kill()
            await postgres_is_away(books, http)
            gained = await lookup.gained(books)

    assert books.lookups.total() >= 10_000
    assert {outcome for _, outcome in books.lookups} == OUTCOMES
    assert_partition(gained.by("lookup_answers_total", "source", "outcome"), books.lookups)
    assert_requests(gained, books.requests)


def assert_partition(answers: Counts, expected: Counts) -> None:
    """Every lookup is counted once, under what became of it and where."""
    assert answers.total() == expected.total()
    somewhere = Counter({pair: count for pair, count in expected.items() if pair[0] == SOMEWHERE})
    known = expected - somewhere
    assert known <= answers, known - answers
    assert by_outcome(answers - known) == by_outcome(somewhere)


def by_outcome(counts: Counts) -> Counter[str]:
    sums: Counter[str] = Counter()
    for (_, outcome), count in counts.items():
        sums[outcome] += count
    return sums


def assert_requests(gained: Scrape, requests: Counts) -> None:
    """Every request is counted once, is timed unless it is left out, and none is under way any more."""
    mine = {"service": "lookup"}
    assert gained.by("hoso24_http_requests_total", "method", "status", **mine) == requests
    timed = sum(count for (_, status), count in requests.items() if status not in UNTIMED)
    assert gained.total("hoso24_http_request_seconds_count", **mine) == timed
    assert gained.total("hoso24_http_request_seconds_bucket", le="+Inf", **mine) == timed
    assert gained.total("hoso24_http_in_flight", **mine) == 0

    answers = by_outcome(gained.by("lookup_answers_total", "source", "outcome"))
    aged = answers["found"] + answers["stale"]
    assert gained.total("lookup_answer_age_seconds_count") == aged
    assert gained.total("lookup_answer_age_seconds_bucket", le="+Inf") == aged
    assert gained.total("lookup_limited_total") == answers["limited"] == requests["GET", "429"]
    assert gained.total("lookup_shed_total", load="cold") >= answers["shed"]


@pytest.mark.parametrize("way", ["behind_the_parser", "the_normal_way"])
async def test_request_whose_client_has_left_is_counted_once_as_that(
    database: Database, redis_url: str, owner: Any, http: aiohttp.ClientSession, way: str
) -> None:
    await seed(database)
    settings = lookup_settings(database.reader_url, redis_url, **SETTINGS)
    keys = way == "the_normal_way"
    async with watched(settings, http) as lookup:
        books = Books(lookup.url)
        async with owner.transaction():
            await owner.execute("LOCK TABLE dossier IN ACCESS EXCLUSIVE MODE")
            waiting = [await ask_only(lookup.url, at(code), key(code) if keys else None) for code in COLD[:20]]
            await books.ask(http, Ask("/api/v1/statuses", 200, None))  # is read after theirs
            for writer in waiting:
                reset(writer)
            await books.ask(http, Ask("/api/v1/statuses", 200, None))  # is read after they have left
        books.requests["GET", "499"] = 20
        books.lookups[POSTGRES] = 20
        gained = await lookup.gained(books)
    assert gained.by("hoso24_http_requests_total", "method", "status", service="lookup") == books.requests
    assert gained.by("lookup_answers_total", "source", "outcome") == books.lookups
    assert gained.total("hoso24_http_request_seconds_count", service="lookup") == 2
    assert gained.total("lookup_answer_age_seconds_count") == 20


async def ask_only(url: str, path: str, key: str | None) -> asyncio.StreamWriter:
    """Ask on a connection of its own, and do not read the answer."""
    parts = URL(url)
    _, writer = await asyncio.open_connection(parts.host, parts.port)
    lines = [f"GET {path} HTTP/1.1", "Host: example.test", *([f"Hoso24-Key: {key}"] if key else [])]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    await writer.drain()
    return writer
