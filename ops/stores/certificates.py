"""Until when a TLS server's certificate is valid, asked of the server itself."""

import asyncio
import contextlib
import ssl
import struct
from datetime import UTC, datetime
from typing import NamedTuple

_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
"""How a client of Postgres asks for TLS (PostgreSQL's protocol, SSLRequest); the answer is one letter, S for yes."""


class Certificate(NamedTuple):
    """What a server showed: until when it is valid, None when that is over already or has not begun."""

    ends_at: datetime | None
    fault: str = ""
    """Why it is not valid today, in OpenSSL's words."""


async def certificate(host: str, port: int, *, postgres: bool = False) -> Certificate | None:
    """The certificate shown at this address, or None when there is no TLS to be had.

    Whether it is to be trusted is not asked: the connections of the service do that. Raises OSError when nobody
    listens there or the handshake fails, and ends only with the caller's deadline when nobody answers.
    """
    unverified = _context()
    unverified.verify_mode = ssl.CERT_NONE
    shown = await _handshake(host, port, unverified, postgres=postgres)
    if shown is None:
        return None
    # Python tells the dates of verified certificates only, so this very one is what is trusted the second time.
    pinned = _context()
    pinned.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    pinned.load_verify_locations(cadata=shown.getpeercert(binary_form=True) or b"")
    try:
        again = await _handshake(host, port, pinned, postgres=postgres)
    except ssl.SSLCertVerificationError as error:
        return Certificate(None, error.verify_message)
    details = again.getpeercert() if again is not None else None
    if not details:
        return None
    return Certificate(datetime.fromtimestamp(ssl.cert_time_to_seconds(str(details["notAfter"])), UTC))


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    return context


async def _handshake(host: str, port: int, context: ssl.SSLContext, *, postgres: bool) -> ssl.SSLObject | None:
    """The TLS session, ended already; None when the server declines TLS."""
    reader, writer = await asyncio.open_connection(host, port)
    session: ssl.SSLObject | None = None
    try:
        if postgres:
            writer.write(_SSL_REQUEST)
        if not postgres or await reader.read(1) == b"S":
            await writer.start_tls(context, server_hostname=host)
            session = writer.get_extra_info("ssl_object")
    except BaseException:
        writer.transport.abort()  # closing in good order would wait for a handshake that nobody answers
        raise
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return session
