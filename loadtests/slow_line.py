"""A request over a slow connection: sent in small pieces with pauses between, or read that way.

Bounded: no pause is long, no request or page is large, and whatever happens it is over after LONGEST seconds.
"""

import socket
import ssl
import time
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from loadtests.answers import Answer, Unavailable
from loadtests.system.http_client import is_whole, parsed, request

LONGEST = 20.0
"""Seconds after which a phone gives up."""
LARGEST = 1 << 20
"""Bytes of an answer it puts up with."""
_READ_AT_ONCE = 2048


class Line(NamedTuple):
    """How slow a connection is. `piece` bytes are sent at once, and `take` bytes are read; after each is a pause."""

    piece: int = 65_536
    sending_pause: float = 0.0
    take: int = 65_536
    reading_pause: float = 0.0


SLOW_SENDER = Line(piece=40, sending_pause=0.4)
"""A request of 250 bytes takes two and a half seconds; the lookup waits twenty for it."""
SLOW_READER = Line(take=_READ_AT_ONCE, reading_pause=0.25)
"""8 KiB a second: what is left of mobile data whose allowance is used up."""


class Reply(NamedTuple):
    """What came, and how long the server took: from the last byte sent to the first one received, in seconds."""

    answer: Answer
    seconds: float


def get(url: str, headers: Mapping[str, str], line: Line) -> Reply:
    """Ask for this over a line of this kind, on a connection of its own. Raises Unavailable without a whole answer."""
    try:
        return _get(url, headers, line)
    except OSError as error:
        raise Unavailable("no answer over a slow line", repr(error)) from error


def _get(url: str, headers: Mapping[str, str], line: Line) -> Reply:
    parts = urlsplit(url)
    ends = time.monotonic() + LONGEST
    with _connected(parts.hostname or "", parts.port, line, tls=parts.scheme == "https") as connection:
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        sent = request("GET", target, {"Connection": "close", **headers}, host=parts.netloc)
        _send(connection, sent, line, ends)
        asked = time.perf_counter()
        connection.settimeout(_left(ends))
        received = bytearray(connection.recv(line.take))
        seconds = time.perf_counter() - asked
        while len(received) <= LARGEST:
            time.sleep(line.reading_pause)
            connection.settimeout(_left(ends))
            if not (piece := connection.recv(line.take)):
                break
            received += piece
    if len(received) > LARGEST:
        raise Unavailable("a larger answer than a phone puts up with")
    if not is_whole(received):
        raise Unavailable("no answer over a slow line", f"{len(received)} bytes")
    return Reply(parsed(bytes(received)), seconds)


def _connected(host: str, port: int | None, line: Line, *, tls: bool) -> socket.socket:
    connection = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        connection.settimeout(LONGEST)
        if line.reading_pause:
            # Before connecting, or the window announced is the system's usual one. The kernel has a least of its own.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, line.take)
        connection.connect((host, port or (443 if tls else 80)))
        return ssl.create_default_context().wrap_socket(connection, server_hostname=host) if tls else connection
    except BaseException:
        connection.close()
        raise


def _send(connection: socket.socket, sent: bytes, line: Line, ends: float) -> None:
    for begin in range(0, len(sent), line.piece):
        if begin:
            time.sleep(line.sending_pause)
        connection.settimeout(_left(ends))
        connection.sendall(sent[begin : begin + line.piece])


def _left(ends: float) -> float:
    left = ends - time.monotonic()
    if left <= 0:
        raise TimeoutError("the phone gave up")
    return left
