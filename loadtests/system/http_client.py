"""Connections that stay open, and the addresses they go to: a small balancer on the client's side.

A client keeps its connection for as long as the server does, also when the address has long been taken out of
rotation, as the connections of an ingress are kept. So a process that is replaced has to get rid of them by itself.
"""

import asyncio
import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from loadtests.answers import Answer

LOOPBACK = "127.0.0.1"
PATIENCE = 10.0
"""Longest a client waits for an answer, in seconds."""

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class NoAnswer(Exception):
    """There was none; the text says how it ended."""


class ClosedBeforeAnyByte(NoAnswer):
    """The connection was closed before the first byte of an answer: a GET may be sent once more."""


class Refused(NoAnswer):
    """Nobody listens there: nothing was sent, and another may be asked."""


@dataclass
class Rotation:
    """The ports in rotation, each taken in its turn."""

    ports: list[int] = field(default_factory=list)
    refused: int = 0
    """Connections that a process in rotation did not take."""
    _turn: int = 0

    def add(self, port: int) -> None:
        """This one is ready."""
        self.ports.append(port)

    def remove(self, port: int) -> None:
        """No new connection goes there any more."""
        self.ports.remove(port)

    def next(self) -> int:
        """Where the next connection goes. Raises NoAnswer when there is nobody."""
        if not self.ports:
            raise NoAnswer("nobody in rotation")
        self._turn += 1
        return self.ports[self._turn % len(self.ports)]


class Client:
    """One client with one connection at a time."""

    def __init__(self, rotation: Rotation) -> None:
        self.port = 0
        """Where its connection goes, or went last."""
        self._rotation = rotation
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, request: bytes) -> Answer:
        """The answer, asked for once. Raises NoAnswer, or ClosedBeforeAnyByte."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._ask(request)
        except TimeoutError:
            self.hang_up()
            raise NoAnswer(f"no answer within {PATIENCE:g} s") from None
        except BaseException:
            self.hang_up()
            raise

    async def ask_any(self, request: bytes) -> Answer:
        """The answer of the first in rotation that listens, as a balancer asks. Raises as `ask` does."""
        for _ in self._rotation.ports[1:]:
            with contextlib.suppress(Refused):
                return await self.ask(request)
        return await self.ask(request)

    def hang_up(self) -> None:
        """Close the connection, if there is one."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    async def _ask(self, request: bytes) -> Answer:
        if self._reader is None or self._reader.at_eof():
            await self._connect()
        assert self._reader is not None
        assert self._writer is not None
        received = b""
        try:
            self._writer.write(request)
            await self._writer.drain()
            while not _is_whole(received):
                more = await self._reader.read(65536)
                if not more:
                    raise ConnectionResetError("closed")
                received += more
        except ConnectionError as lost:
            raise NoAnswer("closed within the answer") if received else ClosedBeforeAnyByte(str(lost)) from lost
        answer = _parsed(received)
        if answer.headers.get("connection", "").lower() == "close":
            self.hang_up()
        return answer

    async def _connect(self) -> None:
        self.hang_up()
        self.port = self._rotation.next()
        try:
            self._reader, self._writer = await asyncio.open_connection(LOOPBACK, self.port)
        except OSError as refused:
            self._rotation.refused += 1
            # Not a closed connection, but none at all: somebody was in rotation and did not take it.
            raise Refused(f"connection refused ({refused.strerror or refused})") from refused


def request(method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """An HTTP/1.1 request, on a connection to be kept."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {LOOPBACK}", *(f"{name}: {text}" for name, text in headers.items())]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def get(port: int, path: str) -> Answer:
    """One GET on a connection of its own; status 0 when nobody answers."""
    client = Client(Rotation([port]))
    try:
        return await client.ask(request("GET", path, {}))
    except NoAnswer:
        return Answer(0, {})
    finally:
        client.hang_up()


def _is_whole(received: bytes) -> bool:
    head, end, body = received.partition(b"\r\n\r\n")
    if not end:
        return False
    length = _LENGTH.search(head)
    return len(body) >= (int(length[1]) if length else 0)


def _parsed(received: bytes) -> Answer:
    head, _, body = received.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    fields = (line.partition(":") for line in rest)
    return Answer(int(first.split(" ")[1]), {name.strip().lower(): text.strip() for name, _, text in fields}, body)
