"""TCP proxies before the servers, which can be told to delay, to stall, to reset, and to leave connections half-open.

All wires of a stage are in one process, `python -m loadtests.system.wires`, so that they do not take the load's loop.
It obeys one order a line, in JSON, and ends with its standard input, in whatever way its owner has ended.

A wire spares its peers: connections that servers make among each other (replication, a Sentinel's watch) come from
PEERS, and are never disturbed. So clients can be cut off from a server that is well.
"""

import asyncio
import contextlib
import json
import socket
import struct
import sys
from dataclasses import dataclass
from typing import Any

from loadtests.system.processes import free_port, surroundings

LOOPBACK = "127.0.0.1"
PEERS = "127.0.0.2"
"""Where servers that talk to each other by way of a wire come from."""
STOP_SECONDS = 5.0
LOOK_EVERY = 0.05
"""Seconds between two looks at whether a server listens again where none did."""
READ_AT_ONCE, QUEUED = 65_536, 16
"""Bytes taken at once at one end, and how many of these may wait for the other."""
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


_NO_FAULT = _Fault()


class _Proxy:
    """One wire, as the process has it."""

    def __init__(self, target: int, port: int) -> None:
        self.target = target
        self.port = port
        self.fault = _Fault()
        self.changed = asyncio.Event()
        """Set, and replaced, when the fault has changed."""
        self.lines: set[_Line] = set()
        self._listening: asyncio.Server | None = None
        self._waiting: asyncio.Task[None] | None = None

    def refuse_until_listening(self) -> None:
        """Refuse connections as the server's host does, until a server listens there again."""
        if self._waiting is None:
            if self._listening is not None:
                self._listening.close()  # the connections there are stay
                self._listening = None
            self._waiting = asyncio.ensure_future(self._until_listening())

    async def _until_listening(self) -> None:
        while not await listens(self.target):  # noqa: ASYNC110 - another process has to begin
            await asyncio.sleep(LOOK_EVERY)
        self._waiting = None
        await self.listen()

    async def listen(self) -> None:
        """Take connections, if there is nothing against it. Raises OSError."""
        if self._listening is None and self._waiting is None:
            self._listening = await asyncio.start_server(self._take, LOOPBACK, self.port, backlog=1024)

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = _Line(self, writer)
        line.living = asyncio.ensure_future(line.live(reader))

    async def obey(self, order: str, *, seconds: float = 0.0) -> int:
        """Do it; the number is an answer to `count` alone."""
        meant = [line for line in self.lines if not line.of_peer]
        match order:
            case "count":
                return len(meant)
            case "delay":
                self.fault = _Fault(delay=seconds)
            case "stall":
                self.fault = _Fault(stalled=True)
            case "half_open":
                self.fault = _Fault(half_open=True)
                for line in meant:
                    line.lose_server()
            case "reset_all":
                for line in meant:
                    line.reset()
            case "pass_on":
                self.fault = _Fault()
                await self.listen()
        self.changed.set()
        self.changed = asyncio.Event()
        return 0


class _Line:
    """One connection, from a client to the server."""

    def __init__(self, proxy: _Proxy, client: asyncio.StreamWriter) -> None:
        self.of_peer = client.get_extra_info("peername")[0] == PEERS
        self._proxy = proxy
        self._client = client
        self._server: asyncio.StreamWriter | None = None
        self.living: asyncio.Task[None] | None = None  # held here, or it might be collected
        self._dead = self._fault.half_open
        """Half-open: the server's end is gone, and the client has not been told."""

    @property
    def _fault(self) -> _Fault:
        return _NO_FAULT if self.of_peer else self._proxy.fault

    async def live(self, client: asyncio.StreamReader) -> None:
        """Until both ends are closed, or one is cut."""
        self._proxy.lines.add(self)
        try:
            await self._until(0.0)
            server = None if self._dead else await self._connected()
            async with asyncio.TaskGroup() as ways:
                self._carry(ways, client, to_server=True)
                if server is not None:
                    self._carry(ways, server, to_server=False)
        except* OSError:
            self.reset()
        finally:
            self._proxy.lines.discard(self)
            for end in filter(None, (self._client, self._server)):
                end.close()

    def lose_server(self) -> None:
        """From now on half-open."""
        self._dead = True
        _cut(self._server)

    def reset(self) -> None:
        """RST at both ends."""
        self._proxy.lines.discard(self)
        _cut(self._client)
        _cut(self._server)

    async def _connected(self) -> asyncio.StreamReader | None:
        """What comes from the server; None if it was lost at once. Raises OSError where none listens."""
        source = (PEERS, 0) if self.of_peer else None
        try:
            server, self._server = await asyncio.open_connection(LOOPBACK, self._proxy.target, local_addr=source)
        except OSError:
            self.reset()  # who was the first to notice is told as soon as can be
            self._proxy.refuse_until_listening()
            raise
        if self._dead:
            self.lose_server()
        return None if self._dead else server

    def _carry(self, ways: asyncio.TaskGroup, source: asyncio.StreamReader, *, to_server: bool) -> None:
        """Bring what comes from there to the other end, in its order and each part when it is due."""
        waiting = asyncio.Queue[tuple[float, bytes]](QUEUED)
        ways.create_task(self._take(source, waiting, delayed=not to_server))
        ways.create_task(self._give(waiting, to_server=to_server))

    async def _take(
        self, source: asyncio.StreamReader, waiting: "asyncio.Queue[tuple[float, bytes]]", *, delayed: bool
    ) -> None:
        """All there is, and its end: no bytes."""
        data = b"?"
        while data:
            data = await source.read(READ_AT_ONCE)
            await waiting.put((_now() + (self._fault.delay if delayed else 0.0), data))

    async def _give(self, waiting: "asyncio.Queue[tuple[float, bytes]]", *, to_server: bool) -> None:
        data = b"?"
        while data:
            due, data = await waiting.get()
            await self._until(due)
            end = self._server if to_server else self._client
            if self._dead or end is None:
                if to_server and not (data and self._fault.half_open):
                    self.reset()
            elif data:
                end.write(data)
                await end.drain()
            else:
                end.write_eof()

    async def _until(self, due: float) -> None:
        """Return at that moment, or as soon as nothing is held back any more."""
        while not self._dead and (self._fault.stalled or (self._fault.delay and due > _now())):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if self._fault.stalled else due - _now()):
                    await self._proxy.changed.wait()


def _now() -> float:
    return asyncio.get_running_loop().time()


def _cut(end: asyncio.StreamWriter | None) -> None:
    """RST, if it is not closed already."""
    if end is not None:
        with contextlib.suppress(OSError):
            end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        end.transport.abort()


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
