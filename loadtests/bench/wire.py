"""Raw keep-alive connections, as cheap as Python has them: load and databases share a core.

httptools is a package of the bench's own environment, and this module is for its processes only.
"""

# mypy: disable-error-code="import-not-found"

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import httptools

LOST = 0
"""The status of an answer that did not come because the connection was lost."""
AT_ONCE = 100
RETRY_SECONDS = 0.05

Told = Callable[[Any, int, bytes], None]
"""Called with whatever was handed over with the request, with status and body."""


class KeptConnection(asyncio.Protocol):
    """One connection with at most one request under way."""

    __slots__ = ("_about", "_body", "_parser", "_pool", "_told", "_transport", "lost")

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._parser: Any = httptools.HttpResponseParser(self)
        self._transport: Any = None
        self._told: Told | None = None
        self._about: Any = None
        self._body = b""
        self.lost = False

    def ask(self, request: bytes, told: Told, about: Any) -> None:
        """Send the request; `told(about, status, body)` when it is answered."""
        self._told, self._about = told, about
        self._transport.write(request)

    def hang_up(self) -> None:
        """Close the connection, whatever is under way."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._pool.opened(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.hang_up()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._tell(LOST)
        self._pool.lost(self)

    # -- called by the parser --------------------------------------------------------------------------------

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self._tell(self._parser.get_status_code())
        if self._parser.should_keep_alive():
            self._pool.freed(self)
        else:
            self._transport.close()

    def _tell(self, status: int) -> None:
        told, self._told = self._told, None
        body, self._body = self._body, b""
        if told is not None:
            told(self._about, status, body)


class Pool:
    """Connections that go round some ports of this machine, each opened again when it is lost.

    `ready` is called with each that has become free and returns whether it has a use for it.
    """

    def __init__(self, ports: Sequence[int], size: int, ready: Callable[[KeptConnection], bool]) -> None:
        self._ports = deque(ports)
        self._size = size
        self._ready = ready
        self._free: deque[KeptConnection] = deque()
        self._wires: set[KeptConnection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._closed = False

    async def open(self) -> None:
        """Open all of them. Raises OSError when nothing listens."""
        for start in range(0, self._size, AT_ONCE):
            await asyncio.gather(*(self._open() for _ in range(min(AT_ONCE, self._size - start))))

    async def close(self) -> None:
        """Hang up on all of them."""
        self._closed = True
        await asyncio.gather(*self._opening)
        for wire in self._wires:
            wire.hang_up()
        await asyncio.sleep(0)  # they hear of it in the next turn

    def offer(self) -> None:
        """Offer the free ones, the one that has been free for longest first, until there is no use for one."""
        while self._free and (self._free[0].lost or self._ready(self._free[0])):
            self._free.popleft()

    def freed(self, wire: KeptConnection) -> None:
        """This one is free."""
        if not self._ready(wire):
            self._free.append(wire)

    def opened(self, wire: KeptConnection) -> None:
        """This one is there, and free."""
        self._wires.add(wire)
        self.freed(wire)

    def lost(self, wire: KeptConnection) -> None:
        """This one is there no more."""
        self._wires.discard(wire)
        if self._closed:
            return
        task = asyncio.get_running_loop().create_task(self._open_at_last())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self) -> None:
        self._ports.rotate()
        await asyncio.get_running_loop().create_connection(lambda: KeptConnection(self), "127.0.0.1", self._ports[0])

    async def _open_at_last(self) -> None:
        while not self._closed:
            try:
                await self._open()
                return
            except OSError:
                await asyncio.sleep(RETRY_SECONDS)
