"""One POST to a receiver: bounded in time and in what is read, to public addresses only, never redirected.

A receiver is a stranger's server. It may hang, answer for ever, lead elsewhere or lie; what comes of it is a sentence
about the attempt, which holds nothing of what it answered.
"""

import asyncio
import contextlib
import errno
import functools
import socket
import ssl
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from intake.outgoing.addresses import Addresses, UrlRefused

SECONDS: Final = 15.0
"""Timeout of an attempt, from looking up the name to the end of the answer's head."""
TIMED_OUT: Final = "Timed out"
"""How an outcome's `error` begins after a timeout."""


class LeaseOver(Exception):
    """The connection stood too late: another process may be sending this by now. Nothing was sent."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt. `error`: None when the receiver took it, else a sentence for its developers.

    `body`: what was read of a 2xx answer. `asked_for`: seconds of a Retry-After.
    """

    error: str | None = None
    gone: bool = False
    timed_out: bool = False
    asked_for: float | None = None
    body: bytes = b""


class Sender:
    """Sends to receivers, over at most `most` connections; `seconds` is the timeout of an attempt.

    `authorities`: whose certificates are accepted; None: those that the system trusts.
    """

    def __init__(
        self,
        addresses: Addresses,
        *,
        user_agent: str,
        most: int = 100,
        seconds: float = SECONDS,
        authorities: ssl.SSLContext | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._addresses = addresses
        self._seconds = seconds
        self._names = resolver or Names(most)
        traces = aiohttp.TraceConfig()
        traces.on_connection_create_end.append(_in_time)
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                socket_factory=addresses.socket,
                use_dns_cache=False,
                force_close=True,  # the next attempt's address is checked again
                limit=most,
                ssl=authorities or ssl.create_default_context(),
                resolver=self._names,
            ),
            timeout=aiohttp.ClientTimeout(total=seconds),
            trust_env=False,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": user_agent},
            trace_configs=[traces],
        )

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, before: float, read: int = 0) -> Outcome:
        """Send it, unless the connection stands later than `before`, by time.monotonic(). Raises LeaseOver.

        `read`: bytes of a 2xx answer's body that are read at most. Without them the connection ends at the status, and
        what a receiver does after it holds nothing up.
        """
        try:
            self._addresses.check_url(url)
            async with self._http.post(
                url,
                data=body,
                headers={"Content-Type": "application/json", **headers},
                allow_redirects=False,
                trace_request_ctx=before,
            ) as answer:
                return await _outcome(answer, read)
        except UrlRefused as refused:
            return Outcome(str(refused))
        except TimeoutError:
            return Outcome(f"{TIMED_OUT}: no answer within {self._seconds:g} s.", timed_out=True)
        except aiohttp.ClientError as error:
            return Outcome(_in_words(error))

    async def close(self) -> None:
        """Close every connection."""
        await self._http.close()
        await self._names.close()


async def _outcome(answer: aiohttp.ClientResponse, most: int) -> Outcome:
    if 200 <= answer.status < 300:
        body = bytearray()
        # The status has decided. What follows it is not worth a failure, nor more than this.
        with contextlib.suppress(TimeoutError, aiohttp.ClientError):
            while len(body) < most and (part := await answer.content.read(most - len(body))):
                body += part
        return Outcome(body=bytes(body))
    if 300 <= answer.status < 400:
        return Outcome(f"Answered {answer.status}: redirects are not followed.")
    if answer.status == 410:
        return Outcome("Answered 410: the receiver wants no more deliveries.", gone=True)
    asked_for = None
    if answer.status in (429, 503):
        asked_for = seconds_asked_for(answer.headers.get("Retry-After"), datetime.now(UTC))
    return Outcome(f"Answered {answer.status}.", asked_for=asked_for)


def seconds_asked_for(retry_after: str | None, now: datetime) -> float | None:
    """The seconds of a Retry-After header, which is a number or a date; None without one, and for nonsense."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, ((at if at.tzinfo else at.replace(tzinfo=UTC)) - now).total_seconds())


def _in_words(error: aiohttp.ClientError) -> str:
    """A sentence about a failed attempt, without anything that the receiver sent."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            told = getattr(error.certificate_error, "verify_message", "") or "it is not valid for this name"
            return f"The certificate is not accepted: {told.rstrip('.')}."
        case aiohttp.ClientConnectorDNSError():
            return "The name of the host cannot be resolved."
        case aiohttp.ClientSSLError():
            return "The TLS handshake failed."
        case aiohttp.ClientConnectorError():
            return f"Cannot connect: {(error.os_error.strerror or 'no route to the host').rstrip('.')}."
        case aiohttp.ClientResponseError():
            return "The answer is not HTTP that can be understood."
        case _:
            return "The connection was closed before the answer."


async def _in_time(_: aiohttp.ClientSession, context: Any, __: aiohttp.TraceConnectionCreateEndParams) -> None:
    """Before anything is sent on a new connection. A process that was stopped finds out here."""
    if time.monotonic() > context.trace_request_ctx:
        raise LeaseOver


class Names(AbstractResolver):
    """Looks names up in threads of its own: uvloop has four for all, and a name server that hangs would hold them."""

    def __init__(self, most: int = 100) -> None:
        self._threads = ThreadPoolExecutor(most, thread_name_prefix="names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The host's addresses. Raises OSError, for a name that cannot be one too."""
        ask = functools.partial(
            socket.getaddrinfo, host, port, type=socket.SOCK_STREAM, family=family, flags=socket.AI_ADDRCONFIG
        )
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        except UnicodeError as error:
            raise OSError(errno.EINVAL, "no name of a host") from error
        return [
            ResolveResult(
                hostname=host,
                host=str(place[0]),
                port=port,
                family=version,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for version, _, protocol, _, place in found
        ]

    async def close(self) -> None:
        """Wait for no one."""
        self._threads.shutdown(wait=False, cancel_futures=True)
