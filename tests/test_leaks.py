"""Nothing is left of a client that has gone, however it went; and one that stays and is silent costs little.

What the process holds is counted before and after: tasks, descriptors, connections to the servers behind it, lookups
under way, requests in flight, and the objects that stand for connections and requests.
"""

import asyncio
import contextlib
import dataclasses
import gc
import itertools
import json
import math
import os
import re
import resource
import socket
import struct
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import asyncpg
import psutil
import pytest
import redis.asyncio
from aiohttp import ClientSession, TCPConnector, web
from prometheus_client import REGISTRY

from lookup.reading import read_through, shedding
from lookup.reading.read_through import ReadThrough
from lookup.reading.shedding import Load
from lookup.web import hotpath
from ops.http import bodies, server
from ops.http.early_answers import EarlyAnswers
from ops.local.ports import free_port
from tests.conftest import KEY_SECRETS, Database
from tests.house import PATIENT_ENVIRON, House, open_house, until

CROWD = 300
"""Clients who do the same thing at the same time."""
DEAF = 40
"""Clients who do not read."""
LARGEST_UNREAD = 256 * 1024
"""Bytes of answers and requests that may be kept for one of them."""
IDLE = 10_000
"""Connections that are kept open and not used, if the system allows so many."""
LARGEST_IDLE = 30 * 1024
"""Bytes of memory one of them may cost."""
SPARE = 1000
"""Descriptors left for everything else."""
OF_THE_POOLS = {"hoso24_reader": 4, "redis": 16 + 1 + 2 + 1}
"""How many connections there may be; to Redis the lookup's, its feed's, the relay's, and that of the one who counts."""
CLASSES = (EarlyAnswers, web.Request, hotpath._Asked, read_through._Lookup)
MISSING = "/api/v1/dossiers/G99.11.01-260101-0001"

Client = socket.socket


# -- what is held ------------------------------------------------------------------------------------------------


class Holdings(NamedTuple):
    """What the process holds at a moment without requests.

    Tests before this one may have left something that goes meanwhile, so less than before is as good as the same.
    """

    tasks: int
    descriptors: int
    """But for the pools' connections, which come and go within their bounds."""
    under_way: int
    in_flight: float
    objects: tuple[tuple[str, int], ...]

    def within(self, before: "Holdings") -> bool:
        """Whether there is no more of anything than there was."""
        counts = zip(self.objects, before.objects, strict=True)
        return all(now <= then for now, then in zip(self[:-1], before[:-1], strict=True)) and all(
            now <= then for (_, now), (_, then) in counts
        )


NOTHING = Holdings(0, 0, 0, 0.0, ())


@dataclass
class Door:
    """A lookup in this process, those who come to it, and what may be held behind it."""

    house: House
    code: str
    key: str
    owner: Any
    redis: Any
    before: Holdings = NOTHING
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    """Every dossier that is asked for is another one, so that none is in a cache already."""

    # -- counting --------------------------------------------------------------------------------------------

    async def holdings(self) -> Holdings:
        gc.collect()
        kinds = Counter(type(each) for each in gc.get_objects())
        return Holdings(
            len(asyncio.all_tasks()),
            psutil.Process().num_fds() - sum((await self.connections()).values()),
            sum(len(each._under_way) for each in gc.get_objects() if type(each) is ReadThrough),
            in_flight(),
            tuple((kind.__name__, kinds[kind]) for kind in CLASSES),
        )

    async def connections(self) -> dict[str, int]:
        """How many are open to the servers behind us, as these see it."""
        rows = await self.owner.fetch(
            "SELECT usename, count(*) FROM pg_stat_activity WHERE datname = current_database() GROUP BY usename"
        )
        return {"redis": len(await self.redis.client_list()), **{row["usename"]: row["count"] for row in rows}}

    async def nothing_is_left(self) -> None:
        """There is no more of anything than before, the pools keep to their bounds, and questions are answered.

        One for no dossier needs PostgreSQL, which is not asked for two seconds after it was held up for too long.
        """
        found: list[Holdings] = []

        async def as_before() -> bool:
            found[:] = [await self.holdings()]
            return found[0].within(self.before)

        try:
            await until(as_before, within=60)
        except AssertionError:
            pytest.fail(f"before: {self.before}\nafter:  {found[0]}")
        open_now = await self.connections()
        assert all(open_now[name] <= most for name, most in OF_THE_POOLS.items()), open_now
        assert (await self.house.lookup(f"/api/v1/dossiers/{self.code}"))[0] == 200
        await until(self._says_that_there_is_none, within=20)

    async def _says_that_there_is_none(self) -> bool:
        return (await self.house.lookup(MISSING))[0] == 404

    # -- clients ---------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def crowd(self, *says: bytes, count: int = CROWD, room: int = 0) -> AsyncIterator[list[Client]]:
        """So many clients, each of whom says one of these things, taken in turn; all have gone when the block ends.

        `room`: bytes of what it is told that a client takes before it reads them.
        """
        loop, parts = asyncio.get_running_loop(), urlsplit(self.house.lookup_url)
        clients = [socket.socket() for _ in range(count)]
        for client in clients:
            client.setblocking(False)
            if room:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        try:
            await asyncio.gather(*(loop.sock_connect(client, (parts.hostname, parts.port)) for client in clients))
            await self.say(clients, says)
            yield clients
        finally:
            leave(clients)

    async def say(self, clients: list[Client], says: Sequence[bytes]) -> None:
        loop = asyncio.get_running_loop()
        texts = [text % {b"n": next(self.numbers)} for text, _ in zip(itertools.cycle(says), clients, strict=False)]
        await asyncio.gather(*(loop.sock_sendall(client, text) for client, text in zip(clients, texts, strict=False)))

    @contextlib.asynccontextmanager
    async def postgres_is_slow(self) -> AsyncIterator[None]:
        """No dossier can be read while the block runs."""
        async with self.owner.transaction():
            await self.owner.execute("LOCK TABLE dossier IN ACCESS EXCLUSIVE MODE")
            yield


def in_flight() -> float:
    """Requests that are being answered; other tests may have ended with some that count for ever."""
    return REGISTRY.get_sample_value("hoso24_http_in_flight", {"service": "lookup"}) or 0.0


def leave(clients: list[Client]) -> None:
    """All of them go, every other one without a good-bye."""
    for number, client in enumerate(clients):
        if number % 2 and client.fileno() >= 0:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()


def connected() -> list[Any]:
    """The connections a client is at the other end of, as far as the process knows."""
    return [each for each in gc.get_objects() if type(each) is EarlyAnswers and each.transport is not None]


def connections() -> int:
    return len(connected())


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


def post(path: str, body: str) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


@pytest.fixture
async def door(database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Door]:
    for load in Load:  # no request is shed
        monkeypatch.setitem(shedding.LATE, load, math.inf)
        monkeypatch.setitem(shedding.WAIT, load, math.inf)
    settings = {"partners": ("127.0.0.0/8",), "pg_deadline": 5.0, "lookup_deadline": 10.0}
    async with contextlib.AsyncExitStack() as stack:
        house = await stack.enter_async_context(open_house(database, redis_url, lookup=settings))
        owner = await asyncpg.connect(database.owner_url)
        stack.push_async_callback(owner.close)
        client: Any = redis.asyncio.Redis.from_url(redis_url, protocol=2)
        await stack.enter_async_context(client)
        brief = await stack.enter_async_context(ClientSession(connector=TCPConnector(force_close=True)))
        house = dataclasses.replace(house, http=brief)
        receipt = await house.receive()
        door = Door(house, receipt["code"], receipt["lookup_key"], owner, client)
        for path in (f"/api/v1/dossiers/{door.code}", MISSING):
            await house.lookup(path)
        await until(lambda: _stands_still(door))
        yield door


async def _stands_still(door: Door) -> bool:
    """Whether nothing is on its way any more; what is held then is what is compared with."""
    before, door.before = door.before, await door.holdings()
    return before == door.before


# -- those who go before they are answered ------------------------------------------------------------------------


def slow(door: Door) -> list[bytes]:
    """Requests that have to be read from Postgres. What comes behind them need not be, and waits all the same."""
    path = "/api/v1/dossiers/G99.12.01-260101-%(n)04d"
    wanted_by_many = [f"G99.12.02-260101-{next(door.numbers):04d}" for _ in range(3)]
    return [
        get(path),
        get(path) + get(f"/api/v1/dossiers/{door.code}") + get("/api/v1/statuses"),
        get(f"/api/v1/dossiers/{wanted_by_many[0]}"),
        get(path + "?at_least=3"),
        get("/tra-cuu/G99.12.01-260101-%(n)04d"),
        get("/api/v1/dossiers/01234-2026-%(n)05d"),  # which may be an official number as well
        post("/api/v1/lookups", json.dumps({"dossiers": [{"code": code} for code in wanted_by_many]})),
    ]


@pytest.mark.parametrize("when", ["while they wait", "as their answers come"])
async def test_those_who_go_while_their_dossier_is_read_leave_nothing_behind(door: Door, when: str) -> None:
    for _ in range(2):
        async with door.crowd() as clients:
            async with door.postgres_is_slow():
                await door.say(clients, slow(door))
                await until(lambda: _as_many(in_flight, door.before.in_flight + CROWD))
                if when == "while they wait":
                    leave(clients)
                    await until(lambda: _as_many(connections, 0))
            leave(clients)
        await door.nothing_is_left()


async def _as_many(counted: Callable[[], float], count: float) -> bool:
    return counted() == count


async def test_those_who_ask_and_go_at_once_leave_nothing_behind(door: Door) -> None:
    hot = get(f"/api/v1/dossiers/{door.code}")
    refused = get("/api/v1/dossiers/G99.12.03-260101-%(n)04d", "X-Forwarded-For: 203.0.113.9")
    for _ in range(2):
        async with door.crowd(hot, hot * 50, refused, *slow(door)):
            pass
    await door.nothing_is_left()


# -- those who say half of what they want -------------------------------------------------------------------------


def halves(door: Door) -> list[bytes]:
    whole = get(f"/api/v1/dossiers/{door.code}", "Accept: */*")
    body = b"POST /api/v1/lookups HTTP/1.1\r\nHost: x\r\n"
    return [
        b"",
        b"G",
        whole[: len(whole) // 2],
        whole[:-2],
        whole * 3 + whole[:-2],
        body + b'Content-Length: 1000\r\n\r\n{"dossiers":',
        body + b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"dos',
    ]


async def test_those_who_go_in_the_middle_of_a_request_leave_nothing_behind(door: Door) -> None:
    for _ in range(2):
        async with door.crowd(*halves(door)):
            await until(lambda: _as_many(connections, CROWD))
        await door.nothing_is_left()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long a silent client is waited for, made short before anything starts."""
    monkeypatch.setitem(server._CONNECTION, "keepalive_timeout", 1.0)
    monkeypatch.setitem(server._CONNECTION, "lingering_time", 0.1)
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.5)


@pytest.mark.usefixtures("impatient")
async def test_those_who_fall_silent_in_the_middle_of_a_request_are_hung_up_on(door: Door) -> None:
    loop = asyncio.get_running_loop()

    async def hung_up_on(client: Client) -> None:
        with contextlib.suppress(ConnectionResetError):
            while await loop.sock_recv(client, 65536):
                pass

    async with door.crowd(*halves(door)) as clients, asyncio.timeout(20):
        await asyncio.gather(*(hung_up_on(client) for client in clients))
    await door.nothing_is_left()


# -- those who do not listen --------------------------------------------------------------------------------------


async def test_those_who_ask_on_and_on_and_never_read_cost_little_and_leave_nothing_behind(door: Door) -> None:
    wanted = [
        get(f"/api/v1/dossiers/{door.code}"),
        get(f"/api/v1/dossiers/{door.code}", f"Hoso24-Key: {door.key}"),
        get(f"/tra-cuu/{door.code}"),
        get(MISSING),
    ]
    async with door.crowd(*wanted, count=DEAF, room=4096) as clients:
        await until(lambda: _as_many(connections, DEAF))
        _keep_little_below(connected())

        async def no_client_is_written_to() -> bool:
            for number, client in enumerate(clients):
                with contextlib.suppress(BlockingIOError):
                    client.send(wanted[number % len(wanted)] * 100)
            return all(connection.writing_paused for connection in connected())

        await until(no_client_is_written_to, within=60)
        for _ in range(20):  # and still they ask
            await no_client_is_written_to()
            await asyncio.sleep(0)
        kept = [_unanswered(connection) for connection in connected()]
        assert len(kept) == DEAF
        assert max(kept) < LARGEST_UNREAD
    await door.nothing_is_left()


def _keep_little_below(connections: list[Any]) -> None:
    """Let the system keep little for these, so that whatever they do not take is soon ours to keep."""
    for connection in connections:
        connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


def _unanswered(connection: Any) -> int:
    """Bytes that are kept for it: answers it has not taken, and about what its requests take that wait behind them."""
    return int(connection.transport.get_write_buffer_size()) + 1000 * len(connection._messages)


# -- those who stay ----------------------------------------------------------------------------------------------

LOOKUP = """
import sys
from lookup import app
from ops.http import server
server._CONNECTION["keepalive_timeout"] = float(sys.argv[1])
app.main()
"""


class Process:
    """A lookup in a process of its own."""

    def __init__(self, pid: int, port: int, admin_port: int, house: House) -> None:
        self._process = psutil.Process(pid)
        self.port = port
        self._url, self._admin_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin_port}"
        self._http = house.http

    @property
    def memory(self) -> int:
        return int(self._process.memory_info().rss)

    @property
    def descriptors(self) -> int:
        return int(self._process.num_fds())

    async def in_flight(self) -> float:
        async with self._http.get(f"{self._admin_url}/metrics") as response:
            found = re.search(r'^hoso24_http_in_flight\{service="lookup"\} (.*)$', await response.text(), re.MULTILINE)
        return float(found[1]) if found else 0.0

    async def is_idle(self) -> bool:
        """Whether every request is answered; the metrics are a moment behind."""
        return await self.in_flight() == 0

    async def answers(self, code: str) -> bool:
        with contextlib.suppress(OSError):
            async with self._http.get(
                f"{self._url}/api/v1/dossiers/{code}", headers={"Connection": "close"}
            ) as response:
                return response.status == 200
        return False

    async def has(self, descriptors: int) -> bool:
        """Whether it has so many, but for a few that come and go with its pools and with those who look at it."""
        return abs(self.descriptors - descriptors) <= sum(OF_THE_POOLS.values())


@contextlib.asynccontextmanager
async def lookup_process(
    database: Database, redis_url: str, house: House, *, keepalive: float
) -> AsyncIterator[Process]:
    port, admin = free_port(30_000), free_port(31_000)
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HOSO24_")},
        "HOSO24_PG_READER_URL": database.reader_url,
        "HOSO24_REDIS_URL": redis_url,
        "HOSO24_LOOKUP_KEY_SECRETS": KEY_SECRETS,
        "HOSO24_HOST": "127.0.0.1",
        "HOSO24_TRUSTED_PROXIES": "127.0.0.0/8",
        "HOSO24_LOOKUP_PORT": str(port),
        "HOSO24_LOOKUP_ADMIN_PORT": str(admin),
        "HOSO24_DRAIN_SECONDS": "0",
        **PATIENT_ENVIRON,
    }
    command = [sys.executable, "-c", LOOKUP, str(keepalive)]
    child = await asyncio.create_subprocess_exec(*command, env=environ, stdout=asyncio.subprocess.DEVNULL)
    try:
        yield Process(child.pid, port, admin, house)
        child.terminate()
        async with asyncio.timeout(15):
            assert await child.wait() == 0
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


class Idle:
    """Clients who ask once and then say nothing more. Everything here waits, and so belongs into a thread."""

    def __init__(self, port: int, code: str) -> None:
        self._port = port
        self._request = get(f"/api/v1/dossiers/{code}")
        self.clients: list[Client] = []

    def come(self, count: int) -> None:
        """So many more, from several addresses, because one has only so many ports."""
        for number in range(count):
            here = f"127.0.0.{1 + number % 8}" if sys.platform == "linux" else "127.0.0.1"
            client = socket.create_connection(("127.0.0.1", self._port), timeout=60, source_address=(here, 0))
            self.clients.append(client)
            client.sendall(self._request)
            if number % 500 == 499 or number == count - 1:
                for waiting in self.clients[number // 500 * 500 :]:
                    self._hear(waiting)

    @staticmethod
    def _hear(client: Client) -> None:
        answer = b""
        while not answer.endswith(b"}"):
            piece = client.recv(4096)
            assert piece, "hung up on in the middle of an answer"
            answer += piece
        assert answer.startswith(b"HTTP/1.1 200 ")

    def wait_for_the_end(self) -> None:
        """Return when all have been hung up on."""
        for client in self.clients:
            assert client.recv(1) == b""

    def leave(self) -> None:
        leave(self.clients)
        self.clients.clear()


@pytest.fixture
def many() -> Iterator[int]:
    """As many connections as this process and one more may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = IDLE + SPARE
    allowed = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
    yield allowed - SPARE
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_ten_thousand_who_stay_and_say_nothing_cost_little_and_leave_nothing_behind(
    database: Database, redis_url: str, house: House, many: int
) -> None:
    code = (await house.receive())["code"]
    async with lookup_process(database, redis_url, house, keepalive=600) as process:
        await until(lambda: process.answers(code), within=60)
        idle = Idle(process.port, code)
        here, memory, left = process.descriptors, [], []
        try:
            for count in (many // 50, many, many):  # the first are there to warm it up
                await asyncio.to_thread(idle.come, count)
                assert await process.has(here + count)
                await until(process.is_idle)
                memory.append(process.memory)
                await asyncio.to_thread(idle.leave)
                await until(lambda: process.has(here), within=30)
                assert await process.answers(code)
                left.append(process.memory)
        finally:
            await asyncio.to_thread(idle.leave)
    each = (memory[1] - left[0]) / many
    figures = f"{many} connections, {each / 1024:.1f} KiB each; open {memory}, closed {left}"
    assert each < LARGEST_IDLE, figures
    assert memory[2] - memory[1] < many * 1024, figures
    assert left[2] - left[1] < many * 1024, figures


async def test_ten_thousand_who_say_nothing_more_are_hung_up_on(
    database: Database, redis_url: str, house: House, many: int
) -> None:
    code = (await house.receive())["code"]
    async with lookup_process(database, redis_url, house, keepalive=2) as process:
        await until(lambda: process.answers(code), within=60)
        idle, here = Idle(process.port, code), process.descriptors
        try:
            await asyncio.to_thread(idle.come, many)
            await asyncio.to_thread(idle.wait_for_the_end)
            await until(lambda: process.has(here), within=30)
            assert await process.answers(code)
        finally:
            await asyncio.to_thread(idle.leave)
