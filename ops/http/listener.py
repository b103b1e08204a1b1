"""Accepts all waiting connections in one turn of the loop.

uvloop accepts one connection per turn. When thousands connect at once (after a network outage or a push message), each
turn also answers hundreds of requests, so the last connection would wait seconds to be accepted.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable

EVERYWHERE = "*"
"""As a host: every address of IPv4 and of IPv6, of those that the machine has."""
AT_ONCE = 256
"""Limit of connections accepted in one turn."""
PAUSE = 0.5
"""Seconds until the next attempt when the process has no file descriptor left."""
_NO_SUCH_FAMILY = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_log = logging.getLogger(__name__)


class Listener:
    """Listening sockets; each accepted connection gets a protocol from `connect`, until `close`."""

    def __init__(self, connect: Callable[[], asyncio.Protocol]) -> None:
        self._connect = connect
        self._loop = asyncio.get_running_loop()
        self._arriving: set[asyncio.Task[object]] = set()
        self._pauses: dict[socket.socket, asyncio.TimerHandle] = {}
        self.sockets: list[socket.socket] = []

    async def open(self, host: str, port: int, *, backlog: int, reuse_port: bool = False) -> None:
        """Listen on every address of this host, or EVERYWHERE. Raises OSError, and then listens nowhere."""
        self.sockets = await listening_sockets(host, port, backlog=backlog, reuse_port=reuse_port)
        for listening in self.sockets:
            self._loop.add_reader(listening, self._accept, listening)

    def close(self) -> None:
        """Stop listening. Accepted connections stay open."""
        for pause in self._pauses.values():
            pause.cancel()
        self._pauses.clear()
        for listening in self.sockets:
            self._loop.remove_reader(listening)
            listening.close()
        self.sockets.clear()

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(AT_ONCE):
            try:
                connection, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                _log.error("Cannot accept connections; next attempt in %g s: %s", PAUSE, error.strerror)
                self._loop.remove_reader(listening)
                self._pauses[listening] = self._loop.call_later(PAUSE, self._resume, listening)
                return
            connection.setblocking(False)
            task = self._loop.create_task(self._welcome(connection))
            self._arriving.add(task)
            task.add_done_callback(self._arriving.discard)

    def _resume(self, listening: socket.socket) -> None:
        del self._pauses[listening]
        self._loop.add_reader(listening, self._accept, listening)

    async def _welcome(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._connect, connection)
        except OSError:
            connection.close()  # the client had disconnected already


async def listening_sockets(
    host: str, port: int, *, backlog: int = 128, reuse_port: bool = False
) -> list[socket.socket]:
    """A listening socket for every address of this host; port 0 takes one free port for all of them.

    With EVERYWHERE, a family of addresses that the machine lacks is left out. Raises OSError; none stays open then.
    """
    everywhere = host == EVERYWHERE
    found = await asyncio.get_running_loop().getaddrinfo(
        None if everywhere else host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    sockets: list[socket.socket] = []
    lacking: OSError | None = None
    try:
        for family, address in dict.fromkeys((family, address) for family, *_, address in found):
            taken = sockets[0].getsockname()[1] if sockets else port
            try:
                bound = _listening(family, (address[0], taken, *address[2:]), backlog, reuse_port=reuse_port)
            except OSError as error:
                if not everywhere or error.errno not in _NO_SUCH_FAMILY:
                    raise
                lacking = error
            else:
                sockets.append(bound)
        if not sockets and lacking is not None:
            raise lacking
    except OSError:
        for each in sockets:
            each.close()
        raise
    return sockets


def _listening(family: int, address: object, backlog: int, *, reuse_port: bool) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named, or asyncio sets no TCP_NODELAY
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.setblocking(False)
        listening.bind(address)  # type: ignore[arg-type]
        listening.listen(backlog)
    except BaseException:
        listening.close()
        raise
    return listening
