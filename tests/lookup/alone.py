"""A lookup as `lookup.app` wires it, with no PostgreSQL and no Redis: for tests of what it answers.

Requests go through the real connection, early way, middlewares, limits, reader, memory and feed. The records are a
dictionary, Redis is the one of tests/lookup/world.py, and time stands still until it is moved on.
"""

import asyncio
import contextlib
import gzip
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import aiohttp
import pytest
from multidict import CIMultiDictProxy
from yarl import URL

from lookup import app as lookup_app
from lookup import metrics
from lookup.cache import Change, Heard
from lookup.code import DossierCode, parse
from lookup.dossier import Record, pack
from lookup.reading.feed import Feed
from lookup.reading.limits import Limits, Rate, TooManyRequests
from lookup.reading.memory import Memory
from lookup.reading.store import Loaded
from lookup.settings import LookupSettings
from lookup.web.hotpath import HotPath
from ops.errors import Unavailable
from ops.http import server
from ops.settings import Secret
from tests.conftest import KEY_SECRETS
from tests.lookup import world
from tests.lookup.world import Clock, Network, Redis, pair

T = TypeVar("T")

NOWHERE = "127.0.0.1:1"
SUBMITTED = datetime(2026, 11, 20, 2, tzinfo=UTC)
CITIZEN = "203.0.113.7"
OTHER_CITIZEN = "203.0.113.8"


@dataclass(frozen=True)
class Answer:
    """What came back, read to the end. `early`: it was written behind the parser, and not by a handler."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    early: bool

    @property
    def tag(self) -> str | None:
        return self.headers.get("ETag")


@dataclass(frozen=True)
class Exchange:
    """The bytes that came back. `early`: as of an Answer."""

    head: bytes
    body: bytes
    early: bool

    @property
    def status(self) -> int:
        return int(self.head[9:12])

    @property
    def headers(self) -> dict[str, str]:
        """Their names as they were written; those that come twice joined."""
        found: dict[str, str] = {}
        for line in self.head.decode().splitlines()[1:-1]:
            name, _, value = line.partition(": ")
            found[name] = f"{found[name]}, {value}" if name in found else value
        return found

    @property
    def content(self) -> bytes:
        """The body without its coding."""
        return gzip.decompress(self.body) if self.headers.get("Content-Encoding") == "gzip" else self.body


@dataclass
class Store:
    """Stands for lookup.store.Store and for the hosts below it: all there is, in one epoch, read at once."""

    clock: Clock
    records: dict[str, Record] = field(default_factory=dict)
    numbers_of: dict[str, str] = field(default_factory=dict)
    """Official number → code."""
    epoch: int = 1
    asked: list[str] = field(default_factory=list)
    """Every name that was looked for here, in order."""
    horizon: int = 10**9
    """Above every entry of the stream: each load has seen all that was delivered."""
    reachable = True
    away = False
    """Whether every load fails."""
    beat_at = 0

    async def dossiers(self, codes: Sequence[str], /, *, primary: bool = False) -> Loaded:
        found = {code: self.records[code] for code in codes if code in self.records}
        return self._loaded(codes, {code: (record.version, pack(record)) for code, record in found.items()})

    async def numbers(self, numbers: Sequence[str], /, *, primary: bool = False) -> Loaded:
        bound = {number: self.numbers_of[number] for number in numbers if number in self.numbers_of}
        return self._loaded(numbers, {number: (1, code.encode()) for number, code in bound.items()})

    def _loaded(self, names: Sequence[str], found: dict[str, tuple[int, bytes]]) -> Loaded:
        self.asked += names
        if self.away:
            raise Unavailable("it is away")
        return Loaded(self.clock.now(), self.epoch, found, self.horizon, standby=False)

    # what a lookup asks of its hosts besides

    @property
    def all(self) -> "list[Store]":
        return [self]

    async def probe(self) -> list[Any]:
        return []

    def primaries(self) -> Iterator[Any]:
        yield self

    def lags(self) -> dict[str, float]:
        return {}

    async def ask(self, *_: object, **__: object) -> list[Any]:
        raise Unavailable("there is no such table here")

    present = fetch = ask

    async def close(self) -> None:
        """There is nothing to close."""


class Cache(world.Cache):
    """The model's Redis, which answers at once."""

    async def epoch(self) -> int | None:
        return self._redis.state.epoch

    async def ping(self) -> None:
        """It answers."""


class AtOnce(Network):
    """A network on which nothing takes time."""

    async def send(
        self, what: Callable[[], T], about: Sequence[str] = (), copies: Callable[[Redis], T] | None = None
    ) -> T:
        return what()


class Charges(Limits):
    """The limits, with a clock that stands still, and what was charged to whom."""

    def __init__(self) -> None:
        super().__init__(lambda: 100.0)
        self.charged: list[tuple[bytes | None, Rate | None]] = []
        """Client and rate; no rate for a dossier that was shown without its key for the first time."""

    def probed(self, client: bytes | None, rate: Rate) -> TooManyRequests | None:
        self.charged.append((client, rate))
        return super().probed(client, rate)

    def disclose(self, pair: int, client: bytes | None, prefix: str) -> TooManyRequests | None:
        self.charged.append((client, None))
        return super().disclose(pair, client, prefix)


class Follower:
    """Brings nothing by itself: a test tells the feed."""

    def __init__(self, *_: object) -> None:
        """Of no cache and no feed."""

    async def run(self) -> None:
        await asyncio.Event().wait()


@dataclass
class Alone:
    """A running lookup, and what stands around it."""

    clock: Clock
    store: Store
    redis: Redis
    charges: Charges
    http: aiohttp.ClientSession
    url: str = ""
    early: int = 0
    """Requests taken behind the parser so far."""
    feed: Feed = field(init=False)
    memory: Memory = field(init=False)
    hotpath: HotPath = field(init=False)

    async def ask(
        self,
        path: str,
        method: str = "GET",
        *,
        client: str = CITIZEN,
        key: str | None = None,
        held: str | None = None,
        cookie: str | None = None,
        data: Any = None,
        more: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request. `held`: the If-None-Match; `key`: the header of the API, `cookie`: that of a page."""
        headers = {"X-Forwarded-For": client} | dict(more or {})
        given = {"Hoso24-Key": key, "If-None-Match": held, "Cookie": cookie and f"hoso24-key={cookie}"}
        headers |= {name: value for name, value in given.items() if value is not None}
        before = self.early
        url = URL(self.url + path, encoded=True)
        async with self.http.request(method, url, headers=headers, data=data, allow_redirects=False) as response:
            return Answer(response.status, response.headers, await response.read(), self.early > before)

    async def exchange(self, path: str, *headers: str, method: str = "GET") -> "Exchange":
        """One request as it is written here, on a connection of its own, and the answer as it came."""
        before = self.early
        reader, writer = await asyncio.open_connection("127.0.0.1", URL(self.url).port)
        lines = [f"{method} {path} HTTP/1.1", "Host: x", f"X-Forwarded-For: {CITIZEN}", *headers, "", ""]
        writer.write("\r\n".join(lines).encode("utf-8", "surrogateescape"))
        async with asyncio.timeout(10):
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"\r\nContent-Length: (\d+)", head)
            bodiless = length is None or method == "HEAD" or head.startswith(b"HTTP/1.1 304")
            body = b"" if bodiless else await reader.readexactly(int(length[1]))  # type: ignore[index]
        writer.close()
        return Exchange(head, body, self.early > before)

    def lookups(self) -> Counter[tuple[str, str]]:
        """How often each pair of source and outcome has been counted in this process."""
        self.hotpath._tally.flush()
        (counter,) = metrics.ANSWERS.collect()
        samples = [sample for sample in counter.samples if sample.name.endswith("_total")]
        return Counter({(s.labels["source"], s.labels["outcome"]): int(s.value) for s in samples})

    def begin_epoch(self, number: int) -> None:
        """From now on the lookup reads in this epoch and follows its stream."""
        self.store.epoch = number
        self.feed.enter(number)
        self.redis.append(number, "", [Change(f"{number}0-0")], [], self.clock.tick())
        self.feed.join(self.redis.join(number))

    def deliver(self, code: str, **fields: Any) -> None:
        """PostgreSQL has this version now, and the stream has told of it."""
        version = self.store.records[self.put(code, **fields).text].version
        self.feed.hear(Heard(f"{pair(self.feed.position)[0] + 1}-1", self.feed.position, code, version))

    def put(self, code: str, **fields: Any) -> DossierCode:
        """PostgreSQL has this dossier now."""
        parsed = parse(code)
        given: dict[str, Any] = {"version": 1, "status": 4, "service": "S.004", "agency": "G99.01.01"} | fields
        self.store.records[parsed.text] = Record(code=parsed.text, submitted_at=SUBMITTED, **given)
        return parsed


@contextlib.asynccontextmanager
async def lookup_alone(**settings: Any) -> AsyncIterator[Alone]:
    """Start one with these settings, in epoch 1."""
    clock = Clock()
    async with contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
        alone = Alone(clock, Store(clock), Redis(clock), Charges(), http)
        started = await server.start(await _built(alone, settings), service="lookup")
        stack.push_async_callback(started.stop)
        alone.url = f"http://127.0.0.1:{started.port}"
        alone.begin_epoch(1)
        yield alone


async def _built(alone: Alone, settings: dict[str, Any]) -> server.Running:
    def feed(*of: Any) -> Feed:
        alone.feed = Feed(*of)
        return alone.feed

    def memory(size: int) -> Memory:
        alone.memory = Memory(size)
        return alone.memory

    class Noted(HotPath):
        def __init__(self, *of: Any, **settings: Any) -> None:
            super().__init__(*of, **settings)
            alone.hotpath = self

        def offer(self, *request: Any) -> Any:
            taken = super().offer(*request)
            alone.early += taken is not None
            return taken

    stand_ins = {
        "DatabaseClock": lambda: alone.clock,
        "Hosts": lambda *_, **__: alone.store,
        "Store": lambda _: alone.store,
        "Cache": lambda _: Cache(AtOnce(), alone.redis),
        "Limits": lambda: alone.charges,
        "Follower": Follower,
        "Feed": feed,
        "Memory": memory,
        "HotPath": Noted,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, stand_in in stand_ins.items():
            patch.setattr(lookup_app, name, stand_in)
        return await lookup_app.build(
            LookupSettings(
                redis_url=Secret(f"redis://{NOWHERE}/0"),
                pg_url=Secret(f"postgresql://reader:nothing@{NOWHERE}/nowhere"),
                lookup_key_secrets=Secret(KEY_SECRETS),
                host="127.0.0.1",
                **{"trusted_proxies": ("127.0.0.0/8",)} | settings,
            )
        )
