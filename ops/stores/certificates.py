"""Reads from a TLS server until when its certificate is valid."""

import asyncio
import contextlib
import ssl
import struct
from datetime import UTC, datetime
from typing import NamedTuple

_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
"""PostgreSQL's SSLRequest message, with which a client requests TLS; the reply is one letter, S for yes."""


class Certificate(NamedTuple):
    """A server's certificate: the end of its validity, None when it has expired or is not valid yet."""

    ends_at: datetime | None
    fault: str = ""
    """Why it is not valid today, in OpenSSL's words."""


async def certificate(host: str, port: int, *, postgres: bool = False) -> Certificate | None:
    """The certificate of the server at this address, or None when it offers no TLS.

    Trust is not verified: the connections of the service do that. Raises OSError when no server listens there or the
    handshake fails. Has no timeout of its own: the caller sets one.
    """
    unverified = _context()
    unverified.verify_mode = ssl.CERT_NONE
    shown = await _handshake(host, port, unverified, postgres=postgres)
    if shown is None:
        return None
    # Python gives the dates of verified certificates only, so the second handshake trusts this very one.
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
    """The TLS session, already closed; None when the server declines TLS."""
    reader, writer = await asyncio.open_connection(host, port)
    session: ssl.SSLObject | None = None
    try:
        if postgres:
            writer.write(_SSL_REQUEST)
        if not postgres or await reader.read(1) == b"S":
            await writer.start_tls(context, server_hostname=host)
            session = writer.get_extra_info("ssl_object")
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    except BaseException:
        writer.transport.abort()  # a normal close would wait for the unanswered handshake, or goes on unseen
        raise
    return session
