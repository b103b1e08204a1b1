"""Who is asking: the address behind the proxies we trust, as narrow as a rate limit can tell people apart.

An IPv4 address is one client, and so is an IPv6 /64, because whoever has one address of it has them all.
"""

import functools
import ipaddress
import socket
from collections.abc import Iterable

FORWARDED = "X-Forwarded-For"

_MAPPED = b"\0" * 10 + b"\xff\xff"
_UNKNOWN = b""


class Clients:
    """Tells clients apart. `proxies`: the networks of our own proxies; only theirs are X-Forwarded-For and traceparent
    believed.

    `partners`: networks that no rate applies to. Raises ValueError for a network that is none.
    """

    def __init__(self, proxies: Iterable[str], partners: Iterable[str] = ()) -> None:
        self._proxies = Networks(proxies)
        self._partners = Networks(partners)
        # Few proxies ask often, so what they are is remembered; the many citizens' addresses are not.
        self._peer = functools.lru_cache(maxsize=1024)(self._look_at_peer)

    def client(self, peer: str | None, forwarded: str | None) -> bytes | None:
        """The client as four or eight bytes, empty for one without an address (a Unix socket); None for a partner.

        `forwarded` is the whole X-Forwarded-For header. The last address in it that is not a proxy of ours is
        the client; what stands before that is only a claim.
        """
        address = self._address(peer, forwarded)
        if self._partners.hold(address):
            return None
        return address if len(address) <= 4 else address[:8]

    def trusts(self, peer: str | None) -> bool:
        """Whether what this peer says of others is believed: a proxy of ours, or somebody on a Unix socket."""
        address, is_proxy = self._peer(peer or "")
        return is_proxy or not address

    def _look_at_peer(self, peer: str) -> tuple[bytes, bool]:
        """Its address, and whether it is a proxy of ours."""
        address = _packed(peer)
        return address, self._proxies.hold(address)

    def _address(self, peer: str | None, forwarded: str | None) -> bytes:
        address, is_proxy = self._peer(peer or "")
        if not forwarded or (address and not is_proxy):
            return address
        for claimed in reversed(forwarded.split(",")):
            hop = _packed(claimed.strip())
            if not hop:
                break
            address = hop
            if not self._proxies.hold(hop):
                break
        return address


class Networks:
    """Networks of either family, asked whether they hold an address. Raises ValueError for one that is none."""

    def __init__(self, networks: Iterable[str]) -> None:
        parsed = [ipaddress.ip_network(network) for network in networks]
        self._parts = [
            (len(network.network_address.packed), int(network.network_address), int(network.netmask))
            for network in parsed
        ]
        self._first_bytes = {
            first for network in parsed for first in range(network[0].packed[0], network[-1].packed[0] + 1)
        }
        """What an address in any of them can begin with: most addresses that are in none are told by that."""

    def hold(self, address: bytes) -> bool:
        """Whether this address (four or sixteen bytes) is in one of them."""
        if not address or address[0] not in self._first_bytes:
            return False
        number, length = int.from_bytes(address), len(address)
        return any(length == of and number & mask == network for of, network, mask in self._parts)


def _packed(text: str) -> bytes:
    """The address as four or sixteen bytes; empty for what is none. A port behind it is passed over."""
    try:
        return socket.inet_pton(socket.AF_INET, text) if ":" not in text else _less_common(text)
    except OSError:
        return _UNKNOWN


def _less_common(text: str) -> bytes:
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    if ":" not in text:
        return socket.inet_pton(socket.AF_INET, text)
    packed = socket.inet_pton(socket.AF_INET6, text.partition("%")[0])
    return packed[12:] if packed.startswith(_MAPPED) else packed
