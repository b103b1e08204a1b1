"""Who is asking: the address behind our own proxies, and no claim of a client."""

import pytest

from ops.http.client_address import COUNTED, Clients, Networks

PRIVATE = ("127.0.0.0/8", "10.0.0.0/8", "fc00::/7", "::1/128")
CITIZEN = bytes([203, 0, 113, 7])


@pytest.fixture
def clients() -> Clients:
    return Clients(PRIVATE, partners=["198.51.100.0/24", "2001:db8:aaaa::/48"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.7", "", CITIZEN),
        ("203.0.113.7", "192.0.2.1", CITIZEN),  # a citizen's own claim
        ("10.1.2.3", "203.0.113.7", CITIZEN),
        ("10.1.2.3", "192.0.2.1, 203.0.113.7", CITIZEN),  # what stands before is a claim
        ("10.1.2.3", "192.0.2.1,203.0.113.7, 10.9.9.9", CITIZEN),  # two proxies of ours
        ("10.1.2.3", "203.0.113.7:51234", CITIZEN),
        ("::ffff:203.0.113.7", "", CITIZEN),
        ("10.1.2.3", "::ffff:203.0.113.7", CITIZEN),
        ("10.1.2.3", "", bytes([10, 1, 2, 3])),
        ("10.1.2.3", "10.4.5.6", bytes([10, 4, 5, 6])),
        ("10.1.2.3", "unknown", bytes([10, 1, 2, 3])),
        ("10.1.2.3", "\udce9", bytes([10, 1, 2, 3])),  # a byte that is no UTF-8, as aiohttp hands it on
        ("10.1.2.3", "\udce9, 203.0.113.7", CITIZEN),
        ("10.1.2.3", "203.0.113.7, nonsense", bytes([10, 1, 2, 3])),
        ("10.1.2.3", "203.0.113.7 trailing", bytes([10, 1, 2, 3])),
        (None, "203.0.113.7", CITIZEN),  # a Unix socket: whoever can reach it is ours
        (None, "", b""),
        ("2001:db8:1:2:3:4:5:6", "", bytes.fromhex("20010db800010002")),
        ("2001:db8:1:2:ffff::1", "", bytes.fromhex("20010db800010002")),  # the same /64
        ("fc00::1", "[2001:db8:1:2::9]:443", bytes.fromhex("20010db800010002")),
        ("fc00::1", "2001:db8:1:2::9", bytes.fromhex("20010db800010002")),
    ],
)
def test_client_is_the_last_address_that_is_not_ours(
    clients: Clients, peer: str | None, forwarded: str, client: bytes
) -> None:
    assert clients.client(peer, forwarded) == client


@pytest.mark.parametrize("address", ["198.51.100.200", "2001:db8:aaaa:1::5"])
def test_partner_is_no_single_client(clients: Clients, address: str) -> None:
    assert clients.client(address, "") is None
    assert clients.client("10.1.2.3", address) is None


def test_without_proxies_no_claim_is_believed() -> None:
    assert Clients([]).client("10.1.2.3", "203.0.113.7") == bytes([10, 1, 2, 3])


@pytest.mark.parametrize("network", ["10.0.0.1/8", "nowhere", "10.0.0.0/33"])
def test_network_that_is_none_is_refused(network: str) -> None:
    with pytest.raises(ValueError, match=network.partition("/")[0]):
        Networks([network])


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [("10.1.2.3", True), ("203.0.113.7", False), ("::1", True), ("2001:db8::1", False), (None, True), ("", True)],
)
def test_proxies_of_ours_are_trusted_and_whoever_needs_no_address(peer: str | None, trusted: bool) -> None:
    assert Clients(["10.0.0.0/8", "::1/128"]).trusts(peer) is trusted


# -- whether clients can be told apart ---------------------------------------------------------------------------


def test_header_of_a_proxy_that_is_not_named_is_counted_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    unnamed, named = Clients([]), Clients(PRIVATE)
    for clients in (unnamed, named):
        for _ in range(3):
            clients.client("198.51.100.1", "203.0.113.7")
            clients.client("198.51.100.1", None)
    assert unnamed.report({}) == {"proxies": 0, "ignored": 3, "counted": 6, "share": 1.0}
    assert named.report({}) == {"proxies": 4, "ignored": 3, "counted": 6, "share": 1.0}
    (record,) = caplog.records
    assert "HOSO24_TRUSTED_PROXIES" in record.getMessage()


def test_largest_client_s_share_is_of_the_latest_requests(clients: Clients) -> None:
    assert clients.report({}) == {"proxies": 4, "ignored": 0, "counted": 0, "share": 0.0}
    for number in range(COUNTED):
        clients.client("192.0.2.1", None)
        clients.client("198.51.100.1", None)  # a partner, who has no rate
        clients.client(f"192.0.2.{2 + number % 200}", None)
    assert clients.report({}) == {"proxies": 4, "ignored": 0, "counted": COUNTED, "share": 0.5}
