"""A partner's receiver of webhooks that answers as a test says, and remembers what it was sent."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec

OK = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"


def answer(status: int, *headers: str, body: bytes = b"") -> bytes:
    """A whole answer."""
    head = [f"HTTP/1.1 {status} As Told", "Connection: close", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


@dataclass(frozen=True)
class Delivery:
    """One request as it came."""

    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def content(self) -> dict[str, Any]:
        return dict(msgspec.json.decode(self.body))

    @property
    def types(self) -> list[str]:
        return [event["type"].removeprefix("vn.hoso24.") for event in self.content["events"]]

    @property
    def told(self) -> list[tuple[str, int]]:
        """Code and version of its events."""
        return [(event["subject"], event["data"]["version"]) for event in self.content["events"]]


Handler = Callable[[Delivery, asyncio.StreamWriter], Awaitable[None]]


class Receiver:
    """Answers the next of `answers`, the last one for ever; a function writes its answer itself."""

    def __init__(self, *answers: bytes | Handler) -> None:
        self.answers: list[bytes | Handler] = list(answers) or [OK]
        self.got: list[Delivery] = []
        self.connections = 0
        self.url = ""
        self.changed = asyncio.Condition()
        self.tasks: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self.serve(reader, writer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:-2]
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head)}
            delivery = Delivery(headers, await reader.readexactly(int(headers["content-length"])))
            said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            async with self.changed:
                self.got.append(delivery)
                self.changed.notify_all()
            if isinstance(said, bytes):
                writer.write(said)
                await writer.drain()
            else:
                await said(delivery, writer)

    async def until(self, number: int, within: float = 30.0) -> list[Delivery]:
        """All deliveries, once there are so many."""
        async with asyncio.timeout(within), self.changed:
            await self.changed.wait_for(lambda: len(self.got) >= number)
        return self.got

    @property
    def events(self) -> list[tuple[str, int]]:
        """Code and version of all events of pages, in the order they came."""
        pages = [each for each in self.got if each.types != ["ping"]]
        return [event for each in pages for event in each.told]


@contextlib.asynccontextmanager
async def receiving(*answers: bytes | Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """A receiver on a free port of this machine."""
    receiver = Receiver(*answers)
    server = await asyncio.start_server(receiver.accept, "127.0.0.1", 0, ssl=tls)
    receiver.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}/webhooks"
    try:
        yield receiver
    finally:
        server.close()
        left = list(receiver.tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
