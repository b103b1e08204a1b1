"""A mail server in the test's own loop, that answers as the test says and remembers what it took."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP

OK = "250 OK"


@dataclass
class Mailbox:
    """`rcpt` and `data` answer for a receiver's address and for a mail; by default they take it. They may be awaited.

    "close" ends the connection in place of an answer.
    """

    port: int = 0
    rcpt: Callable[[str], Any] = lambda _: OK
    data: Callable[[str], Any] = lambda _: OK
    got: list[tuple[str, EmailMessage]] = field(default_factory=list)
    """Receiver and mail, of those that were taken."""
    connections: int = 0
    came: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def url(self) -> str:
        """For HOSO24_SMTP_URL."""
        return f"smtp://127.0.0.1:{self.port}?starttls=no"

    @property
    def ids(self) -> list[str]:
        """The Message-IDs, in the order of their coming."""
        return [str(message["Message-ID"]) for _, message in self.got]

    async def until(self, count: int, within: float = 20.0) -> None:
        """Wait until so many mails were taken. AssertionError when they are not in time."""
        try:
            async with asyncio.timeout(within), self.came:
                await self.came.wait_for(lambda: len(self.got) >= count)
        except TimeoutError:
            raise AssertionError(f"{len(self.got)} of {count} mails came within {within} s") from None

    async def handle_RCPT(self, server: Any, _: Any, envelope: Any, address: str, __: list[str]) -> str:
        answer = await _answer(self.rcpt, address)
        if answer == "close":
            server.transport.abort()
        elif answer == OK:
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: Any, _: Any, envelope: Any) -> str:
        (to,) = envelope.rcpt_tos
        answer = await _answer(self.data, to)
        if answer == "close":
            server.transport.abort()
        elif answer == OK:
            message = message_from_bytes(envelope.content, policy=policy.default)
            assert isinstance(message, EmailMessage)
            self.got.append((to, message))
            async with self.came:
                self.came.notify_all()
        return answer


async def _answer(of: Callable[[str], Any], to: str) -> str:
    answer = of(to)
    return str(await answer if asyncio.iscoroutine(answer) else answer)


@contextlib.asynccontextmanager
async def mailbox(**answers: Callable[[str], Any]) -> AsyncIterator[Mailbox]:
    """A server on a free port of this machine."""
    box = Mailbox(**answers)  # type: ignore[arg-type]
    loop = asyncio.get_running_loop()

    def connect() -> SMTP:
        box.connections += 1
        return SMTP(box, loop=loop, hostname="mail.example")

    server = await loop.create_server(connect, "127.0.0.1", 0)
    box.port = server.sockets[0].getsockname()[1]
    try:
        yield box
    finally:
        server.close()
