"""All waiting connections are accepted at once, and one that fails does not close the listener."""

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from ops.http import listener
from ops.http.listener import AT_ONCE, EVERYWHERE, Listener


class Guest(asyncio.Protocol):
    """A connection that says hello and waits."""

    def __init__(self, arrived: list["Guest"]) -> None:
        self.arrived = arrived
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.transport.write(b"hello")
        self.arrived.append(self)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    def on_loop(work: Any) -> Any:
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(work)

    return on_loop


class Door:
    """A listener on a free port of loopback, and who has come in."""

    def __init__(self) -> None:
        self.arrived: list[Guest] = []
        self.listener = Listener(lambda: Guest(self.arrived))

    async def __aenter__(self) -> "Door":
        await self.listener.open("127.0.0.1", 0, backlog=4096)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.listener.close()
        for guest in self.arrived:
            guest.transport.abort()
        await turns()

    @property
    def address(self) -> Any:
        return self.listener.sockets[0].getsockname()


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def in_time(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while True:
            if condition():
                return
            await asyncio.sleep(0)


def knocks(address: Any, count: int) -> list[socket.socket]:
    """So many connections, complete on the client's side before the server's loop has had a turn."""
    return [socket.create_connection(address, timeout=10) for _ in range(count)]


def test_everybody_who_is_there_is_let_in_within_a_few_turns(run: Callable[[Any], Any]) -> None:
    async def main() -> None:
        async with Door() as door:
            clients = knocks(door.address, AT_ONCE)
            await turns(5)
            assert len(door.arrived) == AT_ONCE
            for client in clients:
                assert client.recv(5) == b"hello"
                client.close()

    run(main())


def test_more_than_are_let_in_at_once_come_in_later_turns(run: Callable[[Any], Any]) -> None:
    async def main() -> None:
        async with Door() as door:
            clients = knocks(door.address, AT_ONCE + 20)
            await in_time(lambda: len(door.arrived) == AT_ONCE + 20)
            for client in clients:
                client.close()

    run(main())


def test_door_opens_again_after_the_last_descriptor_was_gone(
    run: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Exhausted:
        """The listening socket of a process that has no descriptor left."""

        def __init__(self, real: socket.socket) -> None:
            self._real = real

        def accept(self) -> Any:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

    async def main() -> None:
        monkeypatch.setattr(listener, "PAUSE", 0.01)
        async with Door() as door:
            real = door.listener.sockets[0]
            exhausted: Any = Exhausted(real)
            door.listener._accept(exhausted)
            assert door.listener._pauses
            assert not asyncio.get_running_loop().remove_reader(real)  # it accepts none meanwhile
            await in_time(lambda: not door.listener._pauses)
            asyncio.get_running_loop().remove_reader(real)
            asyncio.get_running_loop().add_reader(real, door.listener._accept, real)
            clients = knocks(door.address, 1)
            await in_time(lambda: len(door.arrived) == 1)
            clients[0].close()

    run(main())
    assert "Cannot accept connections" in caplog.text


def test_client_that_left_before_it_was_accepted_costs_nothing(run: Callable[[Any], Any]) -> None:
    async def main() -> None:
        async with Door() as door:
            for client in knocks(door.address, 20):
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # RST
                client.close()
            staying = knocks(door.address, 1)
            await in_time(lambda: any(not guest.transport.is_closing() for guest in door.arrived))
            assert staying[0].recv(5) == b"hello"
            staying[0].close()

    run(main())


def test_what_is_answered_leaves_at_once(run: Callable[[Any], Any]) -> None:
    async def main() -> None:
        async with Door() as door:
            clients = knocks(door.address, 1)
            await in_time(lambda: len(door.arrived) == 1)
            arrived = door.arrived[0].transport.get_extra_info("socket")
            assert arrived.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            clients[0].close()

    run(main())


def test_closed_door_refuses(run: Callable[[Any], Any]) -> None:
    async def main() -> None:
        async with Door() as door:
            address = door.address
            door.listener.close()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(*address)

    run(main())


def test_port_that_is_taken_is_said_and_nothing_stays_open(run: Callable[[Any], Any]) -> None:
    async def main() -> None:
        async with Door() as door:
            other = Listener(lambda: Guest([]))
            with pytest.raises(OSError, match="in use"):
                await other.open(*door.address, backlog=10)
            assert other.sockets == []

    run(main())


# -- which addresses ---------------------------------------------------------------------------------------------


def asked_at(port: int) -> list[bool]:
    """Whether IPv4 and IPv6 are let in at this port."""
    let_in = []
    for host in ("127.0.0.1", "::1"):
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=10) as client:
            let_in.append(client.recv(5) == b"hello")
            continue
        let_in.append(False)
    return let_in


@pytest.mark.parametrize(
    ("host", "expected"), [(EVERYWHERE, [True, socket.has_dualstack_ipv6()]), ("127.0.0.1", [True, False])]
)
def test_everywhere_is_both_families_on_one_port(run: Callable[[Any], Any], host: str, expected: list[bool]) -> None:
    async def main() -> None:
        door = Listener(lambda: Guest([]))
        await door.open(host, 0, backlog=10)
        assert await asyncio.to_thread(asked_at, door.sockets[0].getsockname()[1]) == expected
        door.close()

    run(main())


@pytest.mark.parametrize("fails", ["socket", "bind"])
@pytest.mark.parametrize("lacking", [socket.AF_INET, socket.AF_INET6])
def test_family_that_the_machine_lacks_is_left_out(
    run: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch, lacking: int, fails: str
) -> None:
    real = listener._listening

    def listening(family: int, address: Any, backlog: int, **options: Any) -> socket.socket:
        if family == lacking:
            raise OSError(errno.EAFNOSUPPORT if fails == "socket" else errno.EADDRNOTAVAIL, "lacking")
        return real(family, address, backlog, **options)

    async def main() -> None:
        monkeypatch.setattr(listener, "_listening", listening)
        sockets = await listener.listening_sockets(EVERYWHERE, 0)
        assert [each.family for each in sockets] == [
            family for family in (socket.AF_INET, socket.AF_INET6) if family != lacking
        ]
        for each in sockets:
            each.close()
        with pytest.raises(OSError, match="lacking"):
            await listener.listening_sockets("127.0.0.1" if lacking == socket.AF_INET else "::1", 0)

    run(main())
