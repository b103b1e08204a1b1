"""TCP proxies before the servers, which can be told to delay, to stall, to reset, and to leave connections half-open.

All wires of a stage are in one process, `python -m loadtests.system.wires`, so that they do not take the load's loop.
It obeys one order a line, in JSON, and ends with its standard input, in whatever way its owner has ended.

A wire spares its peers: connections that servers make among each other (replication, a Sentinel's watch) come from
PEERS, and are never disturbed. So clients can be cut off from a server that is well.
"""

import asyncio
import collections
import contextlib
import json
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from loadtests.system.processes import free_port, surroundings

LOOPBACK = "127.0.0.1"
PEERS = "127.0.0.2"
"""Where servers that talk to each other by way of a wire come from."""
STOP_SECONDS = 5.0
LOOK_EVERY = 0.05
"""Seconds between two looks at whether a server listens again where none did."""
_RESET = struct.pack("ii", 1, 0)  # l_onoff, l_linger: close() throws away what is unsent and says RST


class WiresGone(Exception):
    """The process that holds the wires has ended."""


# -- telling them -----------------------------------------------------------------------------------


@dataclass
class Wire:
    """One proxy. `port` leads to the server's port; every order holds from the moment it has returned.

    Connections that servers make among each other are spared.
    """

    port: int
    target: int
    _wires: "Wires"

    async def delay(self, seconds: float) -> None:
        """From now on every answer of the server arrives so much later; the order of bytes is kept. 0 ends it."""
        await self._wires.tell(wire=self.port, order="delay", seconds=seconds)

    async def stall(self) -> None:
        """Connections stay and new ones are taken, and not a byte passes until pass_on(). Nothing is lost."""
        await self._wires.tell(wire=self.port, order="stall")

    async def reset_all(self) -> None:
        """Every connection there is gets a RST, at both ends. New ones are not affected."""
        await self._wires.tell(wire=self.port, order="reset_all")

    async def half_open(self) -> None:
        """The server's ends are gone without a word to the clients, whose bytes are taken and never answered.

        So it is with new connections too. After pass_on() the old ones stay as they are until their client sends
        something or hangs up: then they are reset, as by a host that was started again.
        """
        await self._wires.tell(wire=self.port, order="half_open")

    async def pass_on(self) -> None:
        """No delay and no stall: what was held back goes on its way."""
        await self._wires.tell(wire=self.port, order="pass_on")

    async def connections(self) -> int:
        """How many clients are connected now."""
        count = await self._wires.tell(wire=self.port, order="count")
        return int(count)


class Wires:
    """The process that holds the wires, and the way to tell it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._turn = asyncio.Lock()

    @classmethod
    async def start(cls) -> "Wires":
        """Without a wire yet. It needs no reaper: only we hold the other end of its standard input."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "loadtests.system.wires"),
            env=surroundings(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C is its owner's to answer
        )
        return cls(process)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def lay(self, target: int) -> Wire:
        """A wire to that port of the loopback address, on a free port."""
        while not await self.tell(target=target, port=(port := free_port())):
            pass  # another process was quicker
        return Wire(port, target, self)

    async def close(self) -> None:
        """End the process, and every connection with it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def tell(self, **order: Any) -> Any:
        """One order, and its answer. Raises WiresGone."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        async with self._turn:
            with contextlib.suppress(ConnectionError):
                self._process.stdin.write(json.dumps(order).encode() + b"\n")
                await self._process.stdin.drain()
            answer = await self._process.stdout.readline()
        if not answer:
            raise WiresGone("The process that holds the wires has ended.")
        return json.loads(answer)


# -- the process ------------------------------------------------------------------------------------------


@dataclass
class _Fault:
    """What a wire does to connections at the moment."""

    delay: float = 0.0
    stalled: bool = False
    half_open: bool = False


class _Proxy:
    """One wire, as the process has it."""

    def __init__(self, target: int, port: int) -> None:
        self.target = target
        self.port = port
        self.fault = _Fault()
        self.lines: set[_Line] = set()
        self._listening: asyncio.Server | None = None
        self._waiting: asyncio.Task[None] | None = None

    def refuse_until_listening(self) -> None:
        """Refuse connections as the server's host does, until a server listens there again."""
        if self._waiting is None:
            self._stop_listening()
            self._waiting = asyncio.ensure_future(self._until_listening())

    async def _until_listening(self) -> None:
        while not await listens(self.target):  # noqa: ASYNC110 - another process has to begin
            await asyncio.sleep(LOOK_EVERY)
        self._waiting = None
        await self.listen()

    async def listen(self) -> None:
        """Take connections, if there is nothing against it. Raises OSError."""
        if self._listening is None and self._waiting is None:
            self._listening = await asyncio.get_running_loop().create_server(
                lambda: _Line(self).client, LOOPBACK, self.port, backlog=1024
            )

    def meant(self) -> Iterator["_Line"]:
        """The connections an order is about."""
        yield from [line for line in self.lines if not line.of_peer]

    async def obey(self, order: str, *, seconds: float = 0.0) -> int:
        """Do it; the number is an answer to `count` alone."""
        match order:
            case "count":
                return len(list(self.meant()))
            case "delay":
                self.fault = _Fault(delay=seconds)
            case "stall":
                self.fault = _Fault(stalled=True)
            case "half_open":
                self.fault = _Fault(half_open=True)
                for line in self.meant():
                    line.lose_server()
            case "reset_all":
                for line in self.meant():
                    line.reset()
            case "pass_on":
                self.fault = _Fault()
                await self.listen()
        for line in list(self.lines):
            line.flow()
        return 0

    def _stop_listening(self) -> None:
        if self._listening is not None:
            self._listening.close()  # the connections there are stay
            self._listening = None


class _Line:
    """One connection, from a client to the server."""

    def __init__(self, proxy: _Proxy) -> None:
        self.proxy = proxy
        self.client = _End(self, delayed=False)
        self.server = _End(self, delayed=True)
        self.client.other, self.server.other = self.server, self.client
        self.of_peer = False
        self.dead = False
        """Half-open: the server's end is gone, and the client has not been told."""
        self._connecting: asyncio.Task[None] | None = None

    @property
    def fault(self) -> _Fault:
        """What is done to this one."""
        return _NO_FAULT if self.of_peer else self.proxy.fault

    def begin(self) -> None:
        """The client is there."""
        assert self.client.transport is not None
        self.of_peer = self.client.transport.get_extra_info("peername")[0] == PEERS
        self.proxy.lines.add(self)
        self.dead = self.fault.half_open
        self.flow()

    def flow(self) -> None:
        """Go on as the present fault allows."""
        if self.dead or self.client.transport is None:
            return
        if not self.fault.stalled and self.server.transport is None and self._connecting is None:
            self._connecting = asyncio.ensure_future(self._connect())
        for end in (self.client, self.server):
            end.read_or_not()
            end.other.send()

    def lose_server(self) -> None:
        """From now on half-open."""
        self.dead = True
        self._leave(self.server)
        self.client.waiting.clear()
        self.client.read_or_not()

    def reset(self) -> None:
        """RST at both ends."""
        for end in (self.client, self.server):
            self._leave(end)

    def ended(self, end: "_End", *, cut: bool) -> None:
        """One end is closed, so the other one is: once it has got what was on its way to it, unless it was cut."""
        end.transport = None
        if end is self.client:
            self.proxy.lines.discard(self)
            self._leave(self.server)
        elif cut and not self.dead:
            self._leave(self.client)
        elif not self.dead:
            end.other.waiting.append((self._due(end), None))
            end.other.send()

    def _due(self, source: "_End") -> float:
        now = asyncio.get_running_loop().time()
        return now + self.fault.delay if source.delayed else now

    def came(self, source: "_End", data: bytes | None) -> None:
        """Bytes from one end, or its half-closing: None."""
        if self.dead:
            if not self.fault.half_open or data is None:
                self._leave(self.client)
            return
        source.other.waiting.append((self._due(source), data))
        source.other.send()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        source = (PEERS, 0) if self.of_peer else None
        try:
            await loop.create_connection(lambda: self.server, LOOPBACK, self.proxy.target, local_addr=source)
        except OSError:
            self._leave(self.client)  # who was the first to notice is told as soon as can be
            self.proxy.refuse_until_listening()
            return
        if self.dead or self.client.transport is None:
            self._leave(self.server)
        self.flow()

    @staticmethod
    def _leave(end: "_End") -> None:
        if end.transport is not None:
            connection = end.transport.get_extra_info("socket")
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            end.transport.abort()


class _End(asyncio.Protocol):
    """One end of a connection. `waiting`: what is on its way out here, and when each part is due; None closes it."""

    other: "_End"

    def __init__(self, line: _Line, *, delayed: bool) -> None:
        self.line = line
        self.delayed = delayed
        """Whether what comes from here is subject to delay()."""
        self.transport: asyncio.Transport | None = None
        self.said_end = False
        """Whether everything that was to come from here has come."""
        self.waiting: collections.deque[tuple[float, bytes | None]] = collections.deque()
        self._timer: asyncio.TimerHandle | None = None
        self._full = False
        self._reading = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self is self.line.client:
            self.line.begin()

    def data_received(self, data: bytes) -> None:
        self.line.came(self, data)

    def eof_received(self) -> bool:
        self.said_end = True
        self.line.came(self, None)
        return True  # the other direction may go on

    def connection_lost(self, error: Exception | None) -> None:
        self.line.ended(self, cut=error is not None)

    def pause_writing(self) -> None:
        self._full = True
        self.other.read_or_not()

    def resume_writing(self) -> None:
        self._full = False
        self.send()
        self.other.read_or_not()

    def read_or_not(self) -> None:
        """Take bytes here if they can be got rid of at the other end."""
        wanted = self.line.dead or not (
            self.line.fault.stalled or self.other._full or (self.other.transport is None and self is self.line.client)
        )
        if self.transport is None or self.transport.is_closing() or wanted == self._reading:
            return
        self._reading = wanted
        if wanted:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def send(self) -> None:
        """What is due, in the order in which it came."""
        now = asyncio.get_running_loop().time()
        while self.waiting and self.transport is not None and not self.line.fault.stalled and not self._full:
            due, data = self.waiting[0]
            if self.line.fault.delay and due > now:
                self._wake_at(due)
                return
            self.waiting.popleft()
            self._put(data)

    def _put(self, data: bytes | None) -> None:
        assert self.transport is not None
        if data is not None:
            self.transport.write(data)
        elif self.other.transport is None or self.said_end:
            self.transport.close()
        elif self.transport.can_write_eof():
            self.transport.write_eof()

    def _wake_at(self, due: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(due, self._woken)

    def _woken(self) -> None:
        self._timer = None
        self.send()


_NO_FAULT = _Fault()


async def listens(port: int) -> bool:
    """Whether a server takes connections at that port of the loopback address."""
    try:
        _, writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError:
        return False
    writer.close()
    return True


async def _hold() -> None:
    """The process's whole life."""
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    proxies: dict[int, _Proxy] = {}
    while line := await orders.readline():
        order = json.loads(line)
        answer: int | bool = True
        if "target" in order:
            proxy = proxies[order["port"]] = _Proxy(**order)
            try:
                await proxy.listen()
            except OSError:
                answer = False
        else:
            answer = await proxies[order.pop("wire")].obey(**order)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(_hold())
