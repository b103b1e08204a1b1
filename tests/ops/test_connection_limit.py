"""Whoever connects and does not ask, or asks and does not listen, costs little and not for long."""

import asyncio
import contextlib
import functools
import gzip
import json
import resource
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import ClientSession, web
from prometheus_client import REGISTRY

from ops.http import connection, connection_limit
from ops.http.bodies import read_body
from ops.http.connection import Protocol
from ops.http.connection_limit import SPARE, ConnectionLimit, ask_for_descriptors, within_descriptors
from ops.http.early_answers import EarlyAnswers
from ops.http.middleware import middlewares
from ops.http.server import Running, Server, start
from ops.http.writes_together import WritesTogether
from tests.house import until


@dataclass(eq=False)
class Guest:
    """A connection that only remembers why it was hung up on."""

    idle_since: float | None = 0.0
    cut_for: str = ""

    def cut(self, reason: str) -> None:
        self.cut_for = reason


def cuts(reason: str, service: str = "crowd") -> float:
    labels = {"service": service, "reason": reason}
    return REGISTRY.get_sample_value("hoso24_connections_cut_total", labels) or 0.0


def connections(service: str = "crowd") -> float:
    return REGISTRY.get_sample_value("hoso24_connections", {"service": service}) or 0.0


def in_flight() -> float:
    return REGISTRY.get_sample_value("hoso24_http_in_flight", {"service": "crowd"}) or 0.0


# -- who has to go -----------------------------------------------------------------------------------------------


def test_longest_idle_connection_makes_room() -> None:
    limit, before = ConnectionLimit("guests", 3), connections("guests")
    busy, idle, idle_longer = Guest(None), Guest(2.0), Guest(1.0)
    later = [Guest(3.0), Guest(4.0)]
    assert all(limit.enter(guest) for guest in (busy, idle, idle_longer, *later))
    assert [guest.cut_for for guest in (busy, idle, idle_longer, *later)] == ["", "silent", "silent", "", ""]
    assert len(limit) == 3
    assert connections("guests") == before + 3


def test_connection_used_since_it_was_found_idle_stays() -> None:
    limit = ConnectionLimit("guests", 4)
    first, second, third, _ = guests = [Guest(float(n)) for n in range(4)]
    assert all(limit.enter(guest) for guest in guests)
    assert limit.enter(Guest(9.0))
    second.idle_since, third.idle_since = 8.0, None  # one was answered meanwhile, one is being answered
    assert limit.enter(Guest(10.0))
    assert [guest.cut_for for guest in guests] == ["silent", "", "", "silent"]
    assert limit.enter(Guest(11.0))
    assert [first.cut_for, second.cut_for, third.cut_for] == ["silent", "silent", ""]


def test_busy_process_walks_through_its_connections_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_limit, "AT_ONCE", 2)
    monkeypatch.setattr(connection_limit, "WALK_AGAIN", 1e9)
    limit = ConnectionLimit("guests", 4)
    idle, *busy = [Guest(0.0), Guest(None), Guest(None), Guest(None)]
    assert all(limit.enter(guest) for guest in (idle, *busy))
    assert limit.enter(Guest(1.0))
    assert idle.cut_for == "silent"
    assert not limit.enter(Guest(2.0))  # the walk found one connection, and the next is not due


def test_newcomer_is_turned_away_where_everybody_has_asked() -> None:
    people, before, full = ConnectionLimit("guests", 2), connections("guests"), cuts("full", "guests")
    inside = [Guest(None), Guest(None)]
    assert all(people.enter(guest) for guest in inside)
    newcomer = Guest()
    assert not people.enter(newcomer)
    people.leave(newcomer)
    assert cuts("full", "guests") == full + 1
    assert connections("guests") == before + 2
    people.leave(inside[0])
    people.leave(inside[0])
    assert people.enter(newcomer)
    assert not any(guest.cut_for for guest in inside)


def test_of_those_who_do_not_listen_the_first_goes_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_limit, "MOST_UNREAD", 2)
    people = ConnectionLimit("guests", 9)
    guests = [Guest() for _ in range(4)]
    for guest in guests:
        people.enter(guest)
        people.stopped_reading(guest)
        if guest is guests[1]:
            people.reads_again(guest)
    assert [guest.cut_for for guest in guests] == ["deaf", "", "", ""]


def test_crowd_is_never_larger_than_the_descriptors_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    for soft, most in ((10_000, 10_000 - SPARE), (1024, 1024 - SPARE), (256, 128), (resource.RLIM_INFINITY, 50_000)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=soft: (soft, soft))
        assert within_descriptors(50_000) == most


def test_process_asks_for_as_many_descriptors_as_it_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    for limits in ((1024, 4096), (1024, 100_000), (90_000, 100_000), (1024, resource.RLIM_INFINITY)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limits=limits: limits)
        ask_for_descriptors(10_000)
    infinite = resource.RLIM_INFINITY
    assert asked == [(4096, 4096), (10_000 + SPARE, 100_000), (10_000 + SPARE, infinite)]


# -- the same with connections -----------------------------------------------------------------------------------

REQUEST = b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"
LONG = "x" * 300_000


async def hello(_: web.Request) -> web.Response:
    return web.Response(text="hello")


async def much(_: web.Request) -> web.Response:
    return web.Response(text=LONG)


async def body(request: web.Request) -> web.Response:
    return web.Response(text=str(len(await read_body(request))))


WAYS: dict[str, Callable[..., Protocol]] = {
    "normal": Protocol,
    "express": functools.partial(EarlyAnswers, offer=lambda *_: None, writes=WritesTogether()),
}


@pytest.fixture(params=list(WAYS))
def way(request: pytest.FixtureRequest) -> Callable[..., Protocol]:
    return WAYS[request.param]


@contextlib.asynccontextmanager
async def serving(way: Callable[..., Protocol], **options: Any) -> AsyncIterator[Server]:
    app = web.Application(middlewares=middlewares("crowd"))
    app.add_routes([web.get("/hello", hello), web.get("/much", much), web.post("/body", body)])
    served = await start(Running(app=app, protocol=way), service="crowd", **options)
    try:
        yield served
    finally:
        await served.stop()


class Client:
    """One connection, and whether it is still wanted."""

    def __init__(self, served: Server, *, room: int = 0) -> None:
        self.socket = socket.socket()
        if room:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        self.socket.connect(("127.0.0.1", served.port))
        self.socket.setblocking(False)

    async def say(self, what: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, what)

    async def hears(self) -> bytes:
        """What comes next; nothing when it has been hung up on."""
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionResetError):
                return await asyncio.get_running_loop().sock_recv(self.socket, 65536)
        return b""

    async def asks(self) -> bool:
        """Whether it is answered."""
        with contextlib.suppress(ConnectionError):
            await self.say(REQUEST)
        return (await self.hears()).startswith(b"HTTP/1.1 200")

    async def trickles(self, what: bytes) -> bool:
        """Whether it is hung up on while it says this a byte at a time, and no end of it."""
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                for byte in what + b"X-Slow: " + b"s" * 4000:
                    await self.say(bytes([byte]))
                    await asyncio.sleep(0.01)
        return await self.hears() == b""

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.3)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("before", [b"", REQUEST], ids=["first", "later"])
async def test_head_that_comes_a_byte_at_a_time_is_not_waited_for(way: Any, before: bytes) -> None:
    slow = cuts("slow_head")
    async with serving(way) as served:
        with Client(served) as client:
            if before:
                assert await client.asks()
            assert await client.trickles(b"GET /hello HTTP/1.1\r\nHost: x\r\n")
    assert cuts("slow_head") == slow + 1


@pytest.mark.usefixtures("impatient")
async def test_whoever_connects_and_says_nothing_is_not_waited_for(way: Any) -> None:
    slow = cuts("slow_head")
    async with serving(way) as served:
        with Client(served) as client:
            assert await client.hears() == b""
    assert cuts("slow_head") == slow + 1


@pytest.mark.usefixtures("impatient")
async def test_whoever_has_asked_may_stay_and_send_a_slow_body(way: Any) -> None:
    async with serving(way) as served:
        with contextlib.ExitStack() as stack:
            idle = stack.enter_context(Client(served))
            assert await idle.asks()
            writing = stack.enter_context(Client(served))
            await writing.say(b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\n")
            for _ in range(40):
                await writing.say(b"b")
                await asyncio.sleep(0.02)
            assert (await writing.hears()).endswith(b"40")
            await asyncio.sleep(0.4)  # an answer ends the time for a body; no time for a head has begun
            assert await idle.asks()
            assert await writing.asks()


async def test_full_process_lets_the_longest_idle_go(way: Any) -> None:
    silent = cuts("silent")
    async with serving(way, connections=3) as served:
        with contextlib.ExitStack() as stack:
            quiet = stack.enter_context(Client(served))
            await until(lambda: _is(connections, 1))
            first, second = (stack.enter_context(Client(served)) for _ in range(2))
            assert await first.asks()
            assert await second.asks()
            assert await first.asks()
            newcomers = [stack.enter_context(Client(served)) for _ in range(2)]
            for newcomer in newcomers:
                assert await newcomer.asks()
            assert [await quiet.hears(), await second.hears()] == [b"", b""]
            assert await first.asks()
            assert connections() == 3
    assert cuts("silent") == silent + 2
    assert connections() == 0


async def test_those_who_asked_once_shut_nobody_out(way: Any) -> None:
    async with serving(way, connections=16) as served:
        with contextlib.ExitStack() as stack:
            for _ in range(16):
                assert await stack.enter_context(Client(served)).asks()
            for _ in range(40):
                assert await stack.enter_context(Client(served)).asks()


async def test_connection_that_is_being_answered_makes_no_room(way: Any) -> None:
    full = cuts("full")
    async with serving(way, connections=2) as served:
        with contextlib.ExitStack() as stack:
            writing = [stack.enter_context(Client(served)) for _ in range(2)]
            for client in writing:
                await client.say(b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nb")
            await until(lambda: _is(in_flight, 2))
            turned_away = stack.enter_context(Client(served))
            assert await turned_away.hears() == b""
            for client in writing:
                await client.say(b"b")
                assert (await client.hears()).endswith(b"2")
    assert cuts("full") == full + 1


async def _is(counted: Callable[[], float], count: float) -> bool:
    return counted() == count


async def test_whoever_does_not_take_answers_is_hung_up_on(way: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "UNREAD_SECONDS", 0.3)
    deaf = cuts("deaf")
    async with serving(way) as served:
        with Client(served, room=4096) as client:
            for _ in range(30):
                await client.say(b"GET /much HTTP/1.1\r\nHost: x\r\n\r\n")
            await until(lambda: _is(lambda: cuts("deaf"), deaf + 1))
            await until(lambda: _is(connections, 0))


async def test_packed_body_is_not_unpacked(way: Any) -> None:
    bomb = gzip.compress(b"0" * 50_000_000)
    async with serving(way) as served, ClientSession() as http:
        for coding, status in (("gzip", 415), ("deflate", 415), ("GZIP", 415), ("br", 415), ("identity", 200)):
            packed = bomb if status == 415 else b"0" * 100
            url, headers = f"http://127.0.0.1:{served.port}/body", {"Content-Encoding": coding}
            async with http.post(url, data=packed, headers=headers) as response:
                assert response.status == status
                text = await response.text()
            assert text == "100" if status == 200 else json.loads(text)["code"] == "unsupported_content_coding"
