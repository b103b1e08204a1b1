"""The client of a request: its address behind trusted proxies, in the form that rates count by.

An IPv4 address is one client, and so is an IPv6 /64, because a site that has one of its addresses has all of them.
"""

import collections
import functools
import ipaddress
import logging
import socket
from collections.abc import Iterable, Mapping

FORWARDED = "X-Forwarded-For"
COUNTED = 1024
"""Latest requests whose clients `Clients.report` counts."""

_MAPPED = b"\0" * 10 + b"\xff\xff"
_UNKNOWN = b""

_log = logging.getLogger(__name__)


class Clients:
    """Finds the client of a request. `proxies`: the networks of our own proxies; X-Forwarded-For and traceparent are
    trusted from them only.

    `partners`: networks to which no rate applies. Raises ValueError for an invalid network.
    """

    def __init__(self, proxies: Iterable[str], partners: Iterable[str] = ()) -> None:
        self._proxies = Networks(proxies)
        self._partners = Networks(partners)
        # Few proxies send many requests, so peers are cached; the addresses of citizens are not.
        self._peer = functools.lru_cache(maxsize=1024)(self._look_at_peer)
        self._ignored = 0
        self._latest: collections.deque[bytes] = collections.deque(maxlen=COUNTED)

    def client(self, peer: str | None, forwarded: str | None) -> bytes | None:
        """The client as four or eight bytes, empty without an address (a Unix socket); None for a partner.

        `forwarded` is the whole X-Forwarded-For header. The last address in it that is not one of our proxies is the
        client; addresses before it are unverified claims.
        """
        address = self._address(peer, forwarded)
        if self._partners.hold(address):
            return None
        client = address if len(address) <= 4 else address[:8]
        self._latest.append(client)
        return client

    def trusts(self, peer: str | None) -> bool:
        """Whether this peer's X-Forwarded-For and traceparent are trusted: one of our proxies, or a Unix socket."""
        address, is_proxy = self._peer(peer or "")
        return is_proxy or not address

    def report(self, _: Mapping[str, str]) -> object:
        """Whether the clients of this process can be told apart, for the doctor; holds no address.

        `share` is the largest client's of the latest requests that were counted by client, `counted` of them.
        """
        latest = list(self._latest)
        largest = collections.Counter(latest).most_common(1)
        return {
            "proxies": self._proxies.count,
            "ignored": self._ignored,
            "counted": len(latest),
            "share": round(largest[0][1] / len(latest), 3) if largest else 0.0,
        }

    def _ignore(self) -> None:
        """Count a header that is not trusted; without any proxy named, the log says so once."""
        self._ignored += 1
        if self._ignored == 1 and not self._proxies.count:
            _log.warning(
                "Ignored %s: HOSO24_TRUSTED_PROXIES names no proxy, so all clients behind one count as one",
                FORWARDED,
            )

    def _look_at_peer(self, peer: str) -> tuple[bytes, bool]:
        """The peer's packed address, and whether it is one of our proxies."""
        address = _packed(peer)
        return address, self._proxies.hold(address)

    def _address(self, peer: str | None, forwarded: str | None) -> bytes:
        address, is_proxy = self._peer(peer or "")
        if not forwarded:
            return address
        if address and not is_proxy:
            self._ignore()
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
    """A set of IPv4 and IPv6 networks. Raises ValueError for an invalid one."""

    def __init__(self, networks: Iterable[str]) -> None:
        parsed = [ipaddress.ip_network(network) for network in networks]
        self.count = len(parsed)
        self._parts = [
            (len(network.network_address.packed), int(network.network_address), int(network.netmask))
            for network in parsed
        ]
        self._first_bytes = {
            first for network in parsed for first in range(network[0].packed[0], network[-1].packed[0] + 1)
        }
        """The possible first bytes of their addresses: excludes most other addresses at once."""

    def hold(self, address: bytes) -> bool:
        """Whether this address (four or sixteen bytes) is in one of the networks."""
        if not address or address[0] not in self._first_bytes:
            return False
        number, length = int.from_bytes(address), len(address)
        return any(length == of and number & mask == network for of, network, mask in self._parts)


def _packed(text: str) -> bytes:
    """The address as four or sixteen bytes; empty for any other text. A port after it is ignored."""
    try:
        return socket.inet_pton(socket.AF_INET, text) if ":" not in text else _less_common(text)
    except (OSError, ValueError):  # ValueError: bytes that are no UTF-8, which no address holds
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
