"""Checks of TLS certificates: whether a server has one, whether it is valid, and for how long."""

import ipaddress
import os
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from ops.doctor.findings import Check, Finding, Verdict
from ops.errors import Unavailable
from ops.stores.certificates import certificate
from ops.stores.urls import first, redis_address

DAYS_REMARKED, DAYS_WRONG = 30, 7
"""Days until a certificate ends, below which the verdict is a warning, and wrong."""


def certificates(name: str, host: str, port: int, *, postgres: bool = False) -> Check:
    """A check of how many days the certificate of this server is still valid."""

    async def ask() -> list[Finding]:
        try:
            shown = await certificate(host, port, postgres=postgres)
        except OSError as error:
            raise Unavailable(f"no handshake with {host}:{port}") from error
        if shown is None:
            if is_near(host):
                return [Finding(name, Verdict.OK, "no TLS, and no network in between")]
            step = "Give that server a certificate and require it in the URL (sslmode=verify-full)."
            return [Finding(name, Verdict.WARNING, "no TLS: passwords and data cross the network unencrypted", step)]
        return [_days_left(name, shown.ends_at, shown.fault)]

    return Check(name, ask)


def _days_left(name: str, ends_at: datetime | None, fault: str) -> Finding:
    step = "Renew it (`certbot renew`, or `kubectl get certificate` where cert-manager does it) and reload that server."
    if ends_at is None:
        return Finding(name, Verdict.WRONG, f"not valid: {fault}", step)
    left = (ends_at - datetime.now(UTC)) // timedelta(days=1)
    verdict = Verdict.WRONG if left < DAYS_WRONG else Verdict.WARNING if left < DAYS_REMARKED else Verdict.OK
    return Finding(name, verdict, f"{left} days left, until {ends_at:%Y-%m-%d}", step if verdict else "")


def redis_certificates(url: str) -> list[Check]:
    """Checks of the certificates of a `rediss://` server or its Sentinels; none without TLS."""
    try:
        address = redis_address(first(url))
    except ValueError:
        return []  # the check of the settings reports it
    if address.trust is None:
        return []
    whose = "the Sentinel" if address.primary else "Redis"
    return [certificates(f"certificate of {whose} {shown(place)}", *place) for place in address.places]


def _address(url: str, port: int) -> tuple[str, int] | None:
    """Host and port of a URL; None for a Unix socket. Of several URLs, one per line, the first counts."""
    parts = urlsplit(first(url))
    return (parts.hostname, parts.port or port) if parts.hostname else None


def shown(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"


def is_near(host: str) -> bool:
    """Whether this host is this machine."""
    if host in ("", "localhost") or host.startswith(os.sep):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
