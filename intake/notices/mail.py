"""Hands mails to an SMTP server, or writes them into a directory for trials; both say what came of it in one sentence.

Twenty connections at most, kept for the next mail: a mail on a connection that stands takes milliseconds. Nothing that
a server answered is repeated but its number: its text may have the address.
"""

import asyncio
import contextlib
import ssl
import time
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Final, Literal, Protocol

import aiosmtplib
from aiosmtplib import SMTPException, SMTPRecipientsRefused, SMTPResponseException

from intake.notices.smtp_url import SmtpUrl

AT_ONCE: Final = 20
"""Connections to a server at a time."""
CONNECT_SECONDS: Final = 2.0
SEND_SECONDS: Final = 10.0
"""Timeout of handing over one mail, its connection included."""
KEPT_SECONDS: Final = 5.0
"""How long a connection is kept without a mail: servers end such ones."""
MAILS_OF_ONE: Final = 100
"""Mails of a connection: servers limit them."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt: `sent`, `later`, or `never` when it is refused for good. `why`: one sentence.

    `away`: the server was not reached at all.
    """

    outcome: Literal["sent", "later", "never"]
    why: str
    away: bool = False


class Mailer(Protocol):
    """Hands mails over."""

    async def send(self, message: EmailMessage, to: str) -> Outcome:
        """Hand a mail over."""
        ...

    async def close(self) -> None:
        """End what is open."""
        ...


class Smtp:
    """Hands mails to one server, as `sender`; `seconds` of an attempt in all.

    `context`: whose certificates are accepted.
    """

    def __init__(
        self,
        url: SmtpUrl,
        sender: str,
        *,
        connect_seconds: float = CONNECT_SECONDS,
        seconds: float = SEND_SECONDS,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._url = url
        self._sender = sender
        self._connect_seconds = connect_seconds
        self._seconds = seconds
        self._context = context or ssl.create_default_context()
        self._idle: list[tuple[aiosmtplib.SMTP, float, int]] = []

    async def send(self, message: EmailMessage, to: str) -> Outcome:
        """Hand a mail over. An answer of 5xx to its receiver or its content is for good; all else passes."""
        client = None
        try:
            async with asyncio.timeout(self._seconds):
                client, mails = await self._connection()
                await client.sendmail(self._sender, [to], message.as_bytes(), timeout=self._seconds)
            self._idle.append((client, time.monotonic(), mails + 1))
            client = None
            return Outcome("sent", "Taken by the mail server.")
        except SMTPRecipientsRefused as refused:
            code = refused.recipients[0].code
            return _refused(code, f"The mail server answered {code} to the receiver's address.")
        except aiosmtplib.SMTPDataError as refused:
            return _refused(refused.code, f"The mail server answered {refused.code} to the mail.")
        except SMTPResponseException as refused:
            return Outcome("later", f"The mail server answered {refused.code}.", away=client is None)
        except TimeoutError:  # aiosmtplib's too
            return Outcome("later", "The mail server did not answer in time.", away=client is None)
        except (SMTPException, OSError):
            did = "cannot be reached as HOSO24_SMTP_URL says" if client is None else "ended the connection"
            return Outcome("later", f"The mail server {did}.", away=client is None)
        finally:
            if client is not None:
                client.close()

    async def close(self) -> None:
        """Say goodbye on every connection, a second at most."""
        idle, self._idle = self._idle, []
        goodbyes = [asyncio.ensure_future(_quit(client)) for client, _, _ in idle]
        if goodbyes:
            await asyncio.wait(goodbyes, timeout=1.0)
        for client, _, _ in idle:
            client.close()

    async def _connection(self) -> tuple[aiosmtplib.SMTP, int]:
        """A connection that stands, with the mails that it carried. Raises SMTPException, OSError."""
        while self._idle:
            client, since, mails = self._idle.pop()
            if time.monotonic() - since < KEPT_SECONDS and mails < MAILS_OF_ONE and client.is_connected:
                return client, mails
            client.close()
        client = aiosmtplib.SMTP(
            hostname=self._url.host,
            port=self._url.port,
            use_tls=self._url.tls,
            start_tls=self._url.start_tls,
            username=self._url.user,
            password=self._url.password,
            tls_context=self._context if self._url.tls or self._url.start_tls else None,
            timeout=self._connect_seconds,
        )
        try:
            await client.connect()
        except BaseException:
            client.close()
            raise
        return client, 0


class Directory:
    """Writes mails as files into a directory, for trials; a repeated one replaces the first."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def send(self, message: EmailMessage, to: str) -> Outcome:
        """Write a mail."""
        name = str(message["Message-ID"]).strip("<>").partition("@")[0]
        try:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self._path / f"{name}.eml").write_bytes(message.as_bytes())
        except OSError as error:
            return Outcome("later", f"The directory of mails cannot be written: {error.strerror}.", away=True)
        return Outcome("sent", "Written into the directory of mails.")

    async def close(self) -> None:
        """Nothing is open."""


def _refused(code: int, why: str) -> Outcome:
    return Outcome("never" if 500 <= code <= 599 else "later", why)


async def _quit(client: aiosmtplib.SMTP) -> None:
    with contextlib.suppress(SMTPException, OSError):
        await client.quit(timeout=1.0)
