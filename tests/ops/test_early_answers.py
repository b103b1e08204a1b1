"""Answers leave in the order of the requests, whichever way each went, and aiohttp's books stay right."""

import asyncio
import contextlib
import functools
import itertools
import re
import socket
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.http import RawRequestMessage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from ops.http import early_answers, server
from ops.http.early_answers import LATER, Answer, EarlyAnswers
from ops.http.server import Running, Server, start
from ops.http.writes_together import WritesTogether
from tests.clocks import Clock
from tests.house import reset, until

KINDS = ("now", "later", "normal")


class Desk:
    """Answers `/now/7` at once, `/later/7` when it is let go, and leaves `/normal/7` to aiohttp.

    aiohttp's handler says the same, so only `normal`, which counts its calls, tells which way a request went.
    """

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.promises: set[asyncio.Task[None]] = set()
        self.connections: list[EarlyAnswers] = []
        self.normal = 0
        self.unread = 0

    def offer(self, message: RawRequestMessage, connection: EarlyAnswers) -> Answer:
        if connection not in self.connections:
            self.connections.append(connection)
        _, kind, name = message.path.split("/", 2)
        if message.should_close:
            return None
        if kind == "now":
            return answer(f"now {name}")
        if kind == "later":
            promise = asyncio.ensure_future(self._later(name, connection))
            self.promises.add(promise)
            promise.add_done_callback(self.promises.discard)
            return LATER
        return None

    async def _later(self, name: str, connection: EarlyAnswers) -> None:
        await self.gate.wait()
        self.unread += not connection.fulfil(answer(f"later {name}"))

    async def handle(self, request: web.Request) -> web.Response:
        self.normal += 1
        body = await request.read()
        return web.Response(text=f"{request.match_info['kind']} {request.match_info['name']}{body.decode()}")


def answer(text: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()


def request(kind: str, name: object = 0, headers: str = "") -> bytes:
    return f"GET /{kind}/{name} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode()


class Client:
    """A connection that says what it is told to and reads whole answers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            if len(pieces) > 1:
                await asyncio.sleep(0)

    async def answer(self) -> tuple[int, str]:
        async with asyncio.timeout(5):
            head = await self.reader.readuntil(b"\r\n\r\n")
            found = re.search(rb"Content-Length: (\d+)", head)
            assert found
            body = await self.reader.readexactly(int(found[1]))
        return int(head.split(b" ", 2)[1]), body.decode()

    async def answers(self, count: int) -> list[str]:
        return [(await self.answer())[1] for _ in range(count)]

    async def closed(self) -> bool:
        """Whether the server hangs up, having said nothing more."""
        async with asyncio.timeout(5):
            return await self.reader.read() == b""


@pytest.fixture
async def desk() -> Desk:
    return Desk()


@contextlib.asynccontextmanager
async def serving(desk: Desk) -> AsyncIterator[Server]:
    app = web.Application()
    app.add_routes([web.route("*", "/{kind}/{name}", desk.handle)])
    running = Running(app=app, protocol=functools.partial(EarlyAnswers, offer=desk.offer, writes=WritesTogether()))
    served = await start(running)
    try:
        yield served
    finally:
        desk.gate.set()
        await served.stop()


@contextlib.asynccontextmanager
async def connected(served: Server) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.fixture
async def client(desk: Desk) -> AsyncIterator[Client]:
    async with serving(desk) as served, connected(served) as client:
        yield client


def expected(kinds: "tuple[str, ...] | list[str]") -> list[str]:
    return [f"{kind} {n}" for n, kind in enumerate(kinds)]


def requests(kinds: "tuple[str, ...] | list[str]") -> bytes:
    return b"".join(request(kind, n) for n, kind in enumerate(kinds))


async def test_each_way_one_after_the_other(client: Client, desk: Desk) -> None:
    for kind in (*KINDS, *KINDS):
        await client.say(request(kind))
        assert await client.answers(1) == [f"{kind} 0"]
    assert desk.normal == 2


@pytest.mark.parametrize("kinds", [*itertools.product(KINDS, repeat=2), *itertools.product(KINDS, repeat=3)])
async def test_pipelined_in_one_segment_in_every_order(client: Client, kinds: tuple[str, ...]) -> None:
    await client.say(requests(kinds))
    assert await client.answers(len(kinds)) == expected(kinds)
    await client.say(request("now", "again"))  # and the connection is as good as new
    assert await client.answers(1) == ["now again"]


async def test_forty_at_once_and_then_three_in_one_segment(client: Client) -> None:
    for n in range(40):
        await client.say(request("now", n))
        assert await client.answers(1) == [f"now {n}"]
    await client.say(requests(["now"] * 3))
    assert await client.answers(3) == expected(["now"] * 3)


@pytest.mark.parametrize(
    "kinds",
    [
        ["now"] * 200,
        ["later"] * 100,
        ["normal"] * 100,
        ["now"] * 5 + ["normal"] * 60 + ["now"] * 40,
        ["now"] * 31 + ["later"] + ["now"] * 40,
        ["now"] * 32 + ["later"] * 40,
        ["later"] + ["now"] * 31 + ["normal"] * 3 + ["now"] * 40,
        ["normal"] + ["later", "now"] * 50,
    ],
    ids=lambda kinds: f"{len(kinds)} from {kinds[0]} to {kinds[-1]}",
)
async def test_more_in_one_segment_than_the_parser_s_queue_holds(client: Client, kinds: list[str]) -> None:
    await client.say(requests(kinds))
    assert await client.answers(len(kinds)) == expected(kinds)
    await client.say(request("later", "again"))
    assert await client.answers(1) == ["later again"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=90), cuts=st.lists(st.floats(0, 1), max_size=6))
async def test_cut_anywhere_and_mixed_anyhow(kinds: list[str], cuts: list[float]) -> None:
    desk = Desk()
    async with serving(desk) as served, connected(served) as client:
        whole = requests(kinds)
        places = sorted({0, len(whole), *(int(cut * len(whole)) for cut in cuts)})
        await client.say(*(whole[a:b] for a, b in itertools.pairwise(places)))
        assert await client.answers(len(kinds)) == expected(kinds)


async def test_what_comes_behind_a_promise_waits_for_it(client: Client, desk: Desk) -> None:
    desk.gate.clear()
    await client.say(request("later", 1))
    await until_promised(desk)
    await client.say(request("now", 2), request("normal", 3), request("later", 4))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await client.reader.read(1)
    desk.gate.set()
    assert await client.answers(4) == ["later 1", "now 2", "normal 3", "later 4"]


async def until_promised(desk: Desk, count: int = 1) -> None:
    async def promised() -> bool:
        return len(desk.promises) == count

    await until(promised)


async def test_body_is_never_offered(client: Client, desk: Desk) -> None:
    body = b"POST /now/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n!!!"
    await client.say(request("now", 0) + body)
    assert await client.answers(2) == ["now 0", "now 1!!!"]
    assert desk.normal == 1


async def test_what_the_parser_refuses_is_refused_behind_what_was_answered(client: Client, desk: Desk) -> None:
    desk.gate.clear()
    await client.say(request("later", 1))
    await until_promised(desk)
    await client.say(b"GET /now/2 HTTP/1.1\r\nHost : x\r\n\r\n")
    desk.gate.set()
    assert await client.answers(1) == ["later 1"]
    status, problem = await client.answer()
    assert (status, '"code":"malformed"' in problem) == (400, True)
    assert await client.closed()


# -- how long a connection lives -------------------------------------------------------------------------------


@pytest.fixture
def short_lived(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(server._CONNECTION, "keepalive_timeout", 0.3)


@contextlib.contextmanager
def clock_in_hand() -> Iterator[Clock]:
    loop = asyncio.get_running_loop()
    clock = Clock(loop.time())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "time", clock)
        yield clock


@pytest.mark.usefixtures("short_lived")
@pytest.mark.parametrize("kind", KINDS)
async def test_connection_in_use_outlives_the_keep_alive_time_and_an_idle_one_does_not(desk: Desk, kind: str) -> None:
    async with serving(desk) as served, connected(served) as client:
        with clock_in_hand() as clock:
            for _ in range(20):
                await client.say(request(kind))
                assert await client.answers(1) == [f"{kind} 0"]
                clock.pass_by(0.05)
            clock.pass_by(0.3)
            assert await client.closed()


@pytest.mark.usefixtures("short_lived")
async def test_connection_that_waits_for_a_promise_is_not_idle(desk: Desk) -> None:
    desk.gate.clear()
    async with serving(desk) as served, connected(served) as client:
        await client.say(request("later"))
        await until_promised(desk)
        with clock_in_hand() as clock:
            clock.pass_by(0.7)  # twice the time after which an idle one is closed
            for _ in range(10):
                await asyncio.sleep(0)
            desk.gate.set()
            assert await client.answers(1) == ["later 0"]
            await client.say(request("now"))
            assert await client.answers(1) == ["now 0"]
            clock.pass_by(0.31)
            assert await client.closed()


async def test_client_that_never_reads_stops_being_read(desk: Desk) -> None:
    big = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000
    offers = 0

    def offer(message: RawRequestMessage, connection: EarlyAnswers) -> Answer:
        nonlocal offers
        offers += 1
        return big if desk.offer(message, connection) is not None else None

    app = web.Application()
    app.add_routes([web.get("/{kind}/{name}", desk.handle)])
    served = await start(
        Running(app=app, protocol=functools.partial(EarlyAnswers, offer=offer, writes=WritesTogether()))
    )
    sock = socket.create_connection(("127.0.0.1", served.port))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    sent = 0
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(3):
                while sent < 50_000:
                    await loop.sock_sendall(sock, request("now", sent))
                    sent += 1
                    await asyncio.sleep(0)
        (connection,) = desk.connections
        assert connection.transport is not None
        assert connection.transport.get_write_buffer_size() < 40 * len(big)  # one segment's worth
        assert len(connection._messages) <= 32
        assert offers < 200  # the rest was never looked at
    finally:
        sock.close()
        await served.stop()


# -- ends ------------------------------------------------------------------------------------------------------


async def test_client_that_leaves_while_waiting_leaves_nothing_behind(desk: Desk) -> None:
    desk.gate.clear()
    async with serving(desk) as served:
        before = len(asyncio.all_tasks())
        for turn in range(50):
            async with connected(served) as client:
                await client.say(request("later") + request("now") + request("normal"))
                await until_promised(desk, 1)
                reset(client.writer)
            if turn % 2:  # every other time the answer comes before it has been noticed

                async def noticed() -> bool:
                    return desk.connections[-1].transport is None

                await until(noticed)
            desk.gate.set()
            await until_promised(desk, 0)
            desk.gate.clear()

        async def settled() -> bool:
            return len(asyncio.all_tasks()) <= before and all(c.transport is None for c in desk.connections)

        await until(settled)
        assert not any(c._promised or c._parked for c in desk.connections)
    assert desk.normal == 0
    assert desk.unread >= 25


async def test_stop_waits_for_what_was_promised_and_hangs_up_after_it(desk: Desk) -> None:
    desk.gate.clear()
    async with serving(desk) as served, connected(served) as waiting, connected(served) as idle:
        await idle.say(request("now"))
        await idle.answers(1)
        await waiting.say(request("later", 1))
        await until_promised(desk)
        stopping = asyncio.create_task(served.stop())
        assert await idle.closed()
        assert not stopping.done()
        desk.gate.set()
        assert await waiting.answers(1) == ["later 1"]
        assert await waiting.closed()
        await stopping


async def test_answer_made_in_the_turn_in_which_the_end_comes_is_sent(client: Client, desk: Desk) -> None:
    await client.say(request("now", 1))
    await client.answers(1)
    (connection,) = desk.connections
    connection.data_received(request("now", 2))
    connection.force_close()  # before this turn is over
    assert await client.answers(1) == ["now 2"]
    assert await client.closed()


async def test_manager_counts_what_it_never_handled(desk: Desk) -> None:
    async with serving(desk) as served, connected(served) as client:
        await client.say(requests(["now", "later", "normal"] * 10))
        await client.answers(30)
        (connection,) = desk.connections
        assert connection._manager is not None
        assert connection._manager.requests_count == 30


def early_answers_of(service: str) -> float | None:
    return REGISTRY.get_sample_value("hoso24_http_early_answers", {"service": service})


def test_this_aiohttp_is_the_one_it_was_written_for() -> None:
    assert early_answers.missing() == []
    assert early_answers.is_possible("example")
    assert early_answers_of("example") == 1


@pytest.mark.parametrize("name", ["_waiter", "_parser", "_process_keepalive"])
def test_aiohttp_that_keeps_other_books_is_noticed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    monkeypatch.setattr(early_answers, "_PRIVATE", (*early_answers._PRIVATE, f"{name}_of_tomorrow"))
    assert early_answers.missing() == [f"{name}_of_tomorrow"]
    assert not early_answers.is_possible("example")
    assert early_answers_of("example") == 0
    assert caplog.messages == [
        f"Early answers are off: aiohttp {aiohttp.__version__} has no {name}_of_tomorrow; aiohttp handles every request"
    ]
