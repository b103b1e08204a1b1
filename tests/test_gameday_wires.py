"""The proxies before the servers: what each order does to a connection, and that none of them takes the load's loop."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from loadtests.system.processes import free_port
from loadtests.system.wires import PEERS, Wire, Wires
from ops.local import reaper as processes
from tests.house import until

pytestmark = [pytest.mark.servers, pytest.mark.asyncio(loop_scope="module")]

LOOPBACK = "127.0.0.1"
NOTHING_SECONDS = 0.2
"""For so long nothing has come that should not come."""


@dataclass
class Echo:
    """A server that says everything again, and the ends of its connections."""

    port: int = 0
    ends: list[asyncio.Task[None]] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.ends.append(asyncio.current_task())  # type: ignore[arg-type]
        self.writers.append(writer)
        with contextlib.suppress(ConnectionError):
            while said := await reader.read(65536):
                writer.write(said)
                await writer.drain()
        writer.close()

    async def until_left(self) -> None:
        """Once every client has gone."""
        async with asyncio.timeout(10):
            await asyncio.gather(*self.ends)


@pytest_asyncio.fixture(loop_scope="module")
async def echo() -> AsyncIterator[Echo]:
    echo = Echo()
    async with await asyncio.start_server(echo.serve, LOOPBACK, 0) as listening:
        echo.port = listening.sockets[0].getsockname()[1]
        yield echo
        for writer in echo.writers:
            writer.close()
        await echo.until_left()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def wires() -> AsyncIterator[Wires]:
    wires = await Wires.start()
    yield wires
    await wires.close()


@pytest_asyncio.fixture(loop_scope="module")
async def wire(wires: Wires, echo: Echo) -> Wire:
    return await wires.lay(echo.port)


class Caller:
    """A client of the echo."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def say(self, text: bytes) -> bytes:
        """What is said again. TimeoutError when nothing comes, ConnectionResetError for a RST."""
        self.writer.write(text)
        return await self.hear(len(text))

    async def hear(self, length: int, seconds: float = 10.0) -> bytes:
        try:
            async with asyncio.timeout(seconds):
                return await self.reader.readexactly(length)
        except asyncio.IncompleteReadError as error:
            return error.partial

    async def hears_nothing(self) -> bool:
        try:
            await self.hear(1, NOTHING_SECONDS)
        except TimeoutError:
            return True
        return False


@contextlib.asynccontextmanager
async def calling(wire: Wire, source: str = LOOPBACK) -> AsyncIterator[Caller]:
    reader, writer = await asyncio.open_connection(LOOPBACK, wire.port, local_addr=(source, 0))
    yield Caller(reader, writer)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def test_what_goes_in_comes_out_and_an_end_is_passed_on(wire: Wire, echo: Echo) -> None:
    much = bytes(range(256)) * 20_000  # more than any buffer on the way holds
    async with calling(wire) as caller:
        assert await caller.say(much) == much
        assert await wire.connections() == 1
    await echo.until_left()
    await until(lambda: _nobody_is_connected(wire))


async def _nobody_is_connected(wire: Wire) -> bool:
    return await wire.connections() == 0


async def test_half_closing_is_passed_on_both_ways(wire: Wire, echo: Echo) -> None:
    async with calling(wire) as caller:
        caller.writer.write(b"the last word")
        caller.writer.write_eof()
        assert await caller.reader.read() == b"the last word"


async def test_answers_are_late_in_the_order_in_which_they_were_given(wire: Wire) -> None:
    async with calling(wire) as caller:
        assert await caller.say(b"first") == b"first"
        await wire.delay(0.2)
        began = time.monotonic()
        assert await caller.say(b"1") == b"1"
        assert time.monotonic() - began >= 0.2
        await wire.delay(60)
        caller.writer.write(b"2")
        assert await caller.hears_nothing()
        await wire.delay(30)
        caller.writer.write(b"3")  # due before the one that was said before it
        assert await caller.hears_nothing()
        await wire.delay(0)
        assert await caller.hear(2) == b"23"


async def test_stalled_connections_keep_what_was_said(wire: Wire, echo: Echo) -> None:
    async with calling(wire) as before:
        assert await before.say(b"first") == b"first"
        await wire.stall()
        before.writer.write(b"second")
        async with calling(wire) as since:
            since.writer.write(b"third")
            assert await before.hears_nothing()
            assert await since.hears_nothing()
            assert len(echo.ends) == 1
            await wire.pass_on()
            assert await before.hear(6) == b"second"
            assert await since.hear(5) == b"third"


async def test_reset_is_for_those_there_are(wire: Wire) -> None:
    async with calling(wire) as before:
        assert await before.say(b"first") == b"first"
        await wire.reset_all()
        with pytest.raises(ConnectionResetError):
            await before.hear(1)
    async with calling(wire) as since:
        assert await since.say(b"second") == b"second"
        assert await wire.connections() == 1


async def test_half_open_connection_is_reset_when_it_is_used_after_all_is_well(wire: Wire, echo: Echo) -> None:
    async with calling(wire) as before:
        assert await before.say(b"first") == b"first"
        await wire.half_open()
        await echo.until_left()
        before.writer.write(b"second")
        async with calling(wire) as meanwhile:
            meanwhile.writer.write(b"third")
            assert await meanwhile.hears_nothing()
            assert await before.hears_nothing()
            assert await wire.connections() == 2
            await wire.pass_on()
            assert await before.hears_nothing()
            for caller in (before, meanwhile):
                with pytest.raises(ConnectionResetError):
                    await caller.say(b"fourth")
    async with calling(wire) as since:
        assert await since.say(b"fifth") == b"fifth"
        assert await wire.connections() == 1


async def test_clients_are_refused_until_the_server_listens(wires: Wires) -> None:
    echo = Echo()
    port = free_port()
    wire = await wires.lay(port)
    with pytest.raises(ConnectionResetError):  # perhaps before it knows that it is connected
        async with calling(wire) as first:
            await first.say(b"hello")
    with pytest.raises(ConnectionError):  # refused, or reset where the listener was just about to be closed
        await asyncio.open_connection(LOOPBACK, wire.port)
    async with await asyncio.start_server(echo.serve, LOOPBACK, port):

        async def answered() -> bool:
            with contextlib.suppress(ConnectionError):
                async with calling(wire) as caller:
                    return await caller.say(b"hello") == b"hello"
            return False

        await until(answered)
        await echo.until_left()


async def test_other_servers_are_spared(wire: Wire) -> None:
    async with calling(wire, PEERS) as peer, calling(wire) as client:
        assert await peer.say(b"first") == await client.say(b"first") == b"first"
        assert await wire.connections() == 1
        await wire.stall()
        client.writer.write(b"second")
        assert await peer.say(b"second") == b"second"
        assert await client.hears_nothing()
        await wire.pass_on()
        assert await client.hear(6) == b"second"
        await wire.reset_all()
        assert await peer.say(b"third") == b"third"
        assert await wire.connections() == 0


async def test_process_ends_when_its_owner_is_gone() -> None:
    """Its standard input is closed then, however the owner has ended."""
    wires = await Wires.start()
    process = processes.look(wires.pid)
    assert process is not None
    await wires.close()
    assert not processes.is_alive(process)
