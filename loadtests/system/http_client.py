"""HTTP as the load tests speak it: `Client` and `get` in a loop of asyncio's, `Connection` and `fetch` without one.

A `Client` keeps its connection for as long as the server does, also when the port has long been taken out of rotation,
as the connections of an ingress are kept. So a process that is replaced has to close them by itself. It is raw because
it has to tell a connection that was refused from one closed before the first byte of an answer, and from one closed
within. What has to be cheap (bench/wire.py) or slow (slow_line.py) is raw as well, and stands there.
"""

import asyncio
import contextlib
import http.client
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

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
    """No server listens there: nothing was sent, and another may be asked."""


@dataclass
class Rotation:
    """The ports in rotation, each taken in its turn. They may change meanwhile: connections that there are stay."""

    ports: list[int] = field(default_factory=list)
    refused: int = 0
    """Connections that a process in rotation did not take."""
    _turn: int = 0

    def next(self) -> int:
        """Where the next connection goes. Raises NoAnswer when there is none."""
        if not self.ports:
            raise NoAnswer("no process in rotation")
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

    @classmethod
    def of(cls, port: int) -> Self:
        """A client of that one process."""
        return cls(Rotation([port]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()

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
            while not is_whole(received):
                more = await self._reader.read(65536)
                if not more:
                    raise ConnectionResetError("closed")
                received += more
        except ConnectionError as lost:
            raise NoAnswer("closed within the answer") if received else ClosedBeforeAnyByte(str(lost)) from lost
        answer = parsed(received)
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
            # Not a closed connection, but none at all: a process was in rotation and did not take it.
            raise Refused(f"connection refused ({refused.strerror or refused})") from refused


class Connection:
    """One connection without a loop, for what happens before a load begins. No proxy of the environment's is used."""

    def __init__(self, url: str, seconds: float = PATIENCE) -> None:
        parts = urlsplit(url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._base = parts.path
        self._connection = kind(parts.hostname or "", parts.port, timeout=seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def send(self, method: str, path: str, content: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """The answer; `content` is sent as JSON. Raises OSError and http.client.HTTPException."""
        body = None if content is None else json.dumps(content)
        self._connection.request(method, self._base + path, body, dict(headers or {}))
        response = self._connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


def fetch(url: str, seconds: float = 5.0) -> Answer:
    """One GET on a connection of its own; status 0 when there is no answer."""
    try:
        with Connection(url, seconds) as connection:
            return connection.send("GET", "")
    except (OSError, http.client.HTTPException):
        return Answer(0, {})


def request(method: str, path: str, headers: Mapping[str, str], body: bytes = b"", host: str = LOOPBACK) -> bytes:
    """An HTTP/1.1 request."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *(f"{name}: {text}" for name, text in headers.items())]
    if body:
        lines += [] if "Content-Type" in headers else ["Content-Type: application/json"]
        lines += [f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def get(port: int, path: str, seconds: float = PATIENCE) -> Answer:
    """One GET on a connection of its own; status 0 when there is no answer within so many seconds."""
    with Client.of(port) as client:
        try:
            async with asyncio.timeout(seconds):
                return await client.ask(request("GET", path, {}))
        except (NoAnswer, TimeoutError):
            return Answer(0, {})


def is_whole(received: bytes | bytearray) -> bool:
    """Whether the head is there, and as much of the body as it announces."""
    head, end, body = received.partition(b"\r\n\r\n")
    if not end:
        return False
    length = _LENGTH.search(head)
    return len(body) >= (int(length[1]) if length else 0)


def parsed(received: bytes) -> Answer:
    """An answer that is whole. Raises ValueError or IndexError for what is none."""
    head, _, body = received.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    fields = (line.partition(":") for line in rest)
    return Answer(int(first.split(" ")[1]), {name.strip().lower(): text.strip() for name, _, text in fields}, body)
