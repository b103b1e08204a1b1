"""Where a webhook may lead: the rules of its URL, and the check of the address that is connected to.

A name tells nothing: it may lead to an address inside, and to another one a second later. So the address is checked
where the socket for it is made, and that socket connects to this address and no other. A check of the URL, or in a
resolver, would never see addresses that are written out.
"""

import errno
import ipaddress
import re
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Any
from urllib.parse import SplitResult, urlsplit

from yarl import URL

Address = IPv4Address | IPv6Address

LONGEST_URL = 2000
_NAME = re.compile(r"(?!.{254})[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?", re.ASCII)
"""A host name that can be looked up, in small letters (RFC 1035, and the underscore)."""
_NAT64 = IPv6Network("64:ff9b::/96")
"""RFC 6052: the last four bytes are the IPv4 address that it leads to."""
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NEVER = (
    ipaddress.ip_network("192.88.99.0/24"),  # relays of 6to4, given up by RFC 7526
    IPv6Network("2002::/16"),  # 6to4 itself: an IPv4 address, of whatever kind, stands in it
    IPv6Network("2001::/32"),  # Teredo: the same
    IPv6Network("3fff::/20"),  # documentation, RFC 9637
)
"""What Python's `is_global` takes for public, in one version or another."""


class AddressRefused(OSError):
    """No webhook may lead to this address; `strerror` says so."""


class UrlRefused(ValueError):
    """A webhook's URL is not one that we send to; the message is one sentence."""


class Addresses:
    """The addresses that webhooks may lead to: public ones, and those of `networks`.

    Raises ValueError for an invalid network.
    """

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._allowed = [ipaddress.ip_network(network) for network in networks]

    def check_url(self, url: str) -> None:
        """Raise UrlRefused unless this is an https URL that we would send to, as far as its text tells.

        http only to a loopback address or `localhost`, and only where `networks` has that address: for trials on one
        machine.
        """
        parts = _split(url)
        host = parts.hostname or ""
        literal = _literal(host)
        if literal is None and not _is_name(host):
            raise UrlRefused("The URL's host is neither a name nor an address.")
        if parts.scheme == "http":
            here = IPv4Address("127.0.0.1") if host == "localhost" else literal
            if here is None or not here.is_loopback or not self._is_allowed(here):
                raise UrlRefused("The URL begins with https://.")
        elif parts.scheme != "https":
            raise UrlRefused("The URL begins with https://.")
        if literal is not None:
            try:
                self.check(literal)
            except AddressRefused as refused:
                raise UrlRefused(refused.strerror) from None

    def check(self, address: Address) -> None:
        """Raise AddressRefused for an address that is not public, in whatever notation it hides, and not allowed."""
        if not self._is_allowed(address) and not _is_public(_led_to(address)):
            raise AddressRefused(errno.EACCES, f"{address} is not a public address.")

    def socket(self, info: Any) -> socket.socket:
        """A socket for one result of getaddrinfo, for aiohttp's `socket_factory`.

        Raises AddressRefused without the address: what names inside lead to is told to no client.
        """
        family, kind, protocol, _, place = info
        try:
            self.check(ipaddress.ip_address(place[0].partition("%")[0]))
        except AddressRefused:
            raise AddressRefused(errno.EACCES, "what the host leads to is not a public address.") from None
        return socket.socket(family, kind, protocol)

    def _is_allowed(self, address: Address) -> bool:
        return any(_led_to(address) in network for network in self._allowed)


def _led_to(address: Address) -> Address:
    """The IPv4 address that a mapped or translated one leads to; otherwise the address itself."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(address.packed[-4:])
    return address


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    odd = address.is_multicast or address.is_reserved or any(address in network for network in _NEVER)
    return address.is_global and not odd


def _split(url: str) -> SplitResult:
    """The parts of the URL. Raises UrlRefused for whatever else than scheme, host, port, path and query it has."""
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url or len(url) > LONGEST_URL:
        raise UrlRefused(f"The URL has at most {LONGEST_URL} printable ASCII characters, and no blanks or backslashes.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UrlRefused("The URL cannot be understood.") from None
    if not parts.hostname:
        raise UrlRefused("The URL names a host.")
    if "@" in parts.netloc:
        raise UrlRefused("The URL has no user name and no password; deliveries are signed instead.")
    if "#" in url:
        raise UrlRefused("The URL has no fragment.")
    if port is not None and port != 443 and port < 1024:
        raise UrlRefused("The URL's port is 443, or 1024 or higher.")
    return parts


def _is_name(host: str) -> bool:
    """Whether this can be the name of a host; encoded names of other scripts (xn--) are decoded for that."""
    try:
        return _NAME.fullmatch(host) is not None and bool(URL.build(scheme="https", host=host).host)
    except ValueError:
        return False


def _literal(host: str) -> Address | None:
    """The address that is written out as a host, in any of the notations of inet_aton too; None for a name."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))
    except OSError:
        return None
