"""Where webhooks may lead: every spelling of an address inside is refused at the socket, and names as well."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from ipaddress import ip_address

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from intake.outgoing.addresses import Addresses, AddressRefused, UrlRefused
from intake.outgoing.sending import LeaseOver, Names, Sender
from tests.receivers import receiving

LOOPBACK = ("127.0.0.0/8", "::1/128")

INSIDE = [
    *("127.0.0.1", "127.0.0.2", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]"),  # noqa: S104
    *("localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0x7f.1"),
    *("10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "198.18.0.1", "192.0.0.1", "192.0.2.1"),
    *("169.254.169.254", "[fe80::1]", "[fd00:ec2::254]", "[fec0::1]", "[::ffff:169.254.169.254]"),
    *("224.0.0.1", "[ff02::1]", "255.255.255.255", "240.0.0.1", "192.88.99.1"),
    *("[2002:7f00:1::]", "[2002:808:808::]", "[2001:0:7f00:1::]", "[2001:0:808:808::]"),
    *("[64:ff9b::7f00:1]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::7f00:1]"),
    *("[2001:db8::1]", "[3fff::1]", "[100::1]", "[5f00::1]", "[4000::1]"),
]
"""Hosts that lead inside, or nowhere public."""
OUTSIDE = ["8.8.8.8", "203.162.4.190", "2001:4860:4860::8888", "::ffff:8.8.8.8", "64:ff9b::808:808"]


class Answers(AbstractResolver):
    """A name server that answers the next of these lists of addresses each time, the last one for ever."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked += 1
        addresses = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [
            ResolveResult(
                hostname=host,
                host=each,
                port=port,
                family=socket.AF_INET6 if ":" in each else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for each in addresses
        ]

    async def close(self) -> None:
        pass


class Listener:
    """What stands at the loopback address: counts the connections."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        writer.close()


@pytest.fixture
async def inside() -> AsyncIterator[Listener]:
    listener = Listener()
    # Every address of this machine, so that whatever leads here connects.
    async with await asyncio.start_server(listener.serve, "", 0, family=socket.AF_INET) as v4:
        listener.port = v4.sockets[0].getsockname()[1]
        try:
            v6 = await asyncio.start_server(listener.serve, "::", listener.port, family=socket.AF_INET6)
        except OSError:  # a machine without IPv6
            v6 = None
        yield listener
        if v6 is not None:
            v6.close()


async def status_of(url: str, addresses: Addresses, resolver: AbstractResolver | None = None) -> int:
    """The status of a GET as the deliverer connects. Raises ClientError."""
    connector = aiohttp.TCPConnector(
        socket_factory=addresses.socket, use_dns_cache=False, force_close=True, resolver=resolver
    )
    timeout = aiohttp.ClientTimeout(total=5)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http, http.get(url) as answer:
        return answer.status


@pytest.mark.parametrize("host", INSIDE)
async def test_no_spelling_of_an_address_inside_is_connected_to(inside: Listener, host: str) -> None:
    with pytest.raises(aiohttp.ClientError, match=r"is not a public address|is not a canonical IPv4 address"):
        await status_of(f"http://{host}:{inside.port}/", Addresses())
    assert inside.connections == 0


async def test_a_name_that_leads_outside_first_and_inside_then_is_not_followed(inside: Listener) -> None:
    """Only the answer that is connected to counts, however often the name was looked up before."""
    resolver = Answers(["8.8.8.8"], ["127.0.0.1"], ["::ffff:127.0.0.1", "127.0.0.1"], ["169.254.169.254"])
    (first,) = await resolver.resolve("partner.example")
    Addresses().check(ip_address(first["host"]))
    for _ in range(3):
        with pytest.raises(aiohttp.ClientError, match="not a public address"):
            await status_of(f"http://partner.example:{inside.port}/", Addresses(), resolver)
    assert (resolver.asked, inside.connections) == (4, 0)


async def test_networks_that_are_allowed_are_connected_to(inside: Listener) -> None:
    assert await status_of(f"http://127.0.0.1:{inside.port}/", Addresses(LOOPBACK)) == 204
    resolver = Answers(["127.0.0.1"])
    assert await status_of(f"http://partner.example:{inside.port}/", Addresses(LOOPBACK), resolver) == 204
    with pytest.raises(aiohttp.ClientError, match="not a public address"):
        await status_of(f"http://127.0.0.1:{inside.port}/", Addresses(["10.0.0.0/8"]))
    assert inside.connections == 2


@pytest.mark.parametrize("address", OUTSIDE)
def test_public_addresses_pass(address: str) -> None:
    Addresses().check(ip_address(address))


def test_an_allowed_network_is_allowed_in_every_notation() -> None:
    allowed = Addresses(["10.1.0.0/16"])
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203"):
        allowed.check(ip_address(address))
        with pytest.raises(AddressRefused):
            Addresses().check(ip_address(address))


# -- URLs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://partner.example/webhooks",
        "https://partner.example:443/a?b=c",
        "https://partner.example:8443",
        "https://WWW.partner_1.example./",
        "https://xn--i-tc-goa0fv4j.example/",
        "https://8.8.8.8/x",
        "https://[2001:4860:4860::8888]/x",
    ],
)
def test_urls_that_are_taken(url: str) -> None:
    Addresses().check_url(url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://partner.example/", "begins with https://"),
        ("ftp://partner.example/", "begins with https://"),
        ("partner.example", "names a host"),
        ("https://", "names a host"),
        ("https:///x", "names a host"),
        ("https://user:password@partner.example/", "no user name"),
        ("https://@partner.example/", "no user name"),
        ("https://partner.example/#part", "no fragment"),
        ("https://partner.example/#", "no fragment"),
        ("https://partner.example:22/", "port is 443, or 1024 or higher"),
        ("https://partner.example:80/", "port is 443, or 1024 or higher"),
        ("https://partner.example:0/", "port is 443, or 1024 or higher"),
        ("https://partner.example:99999/", "cannot be understood"),
        ("https://[::1/", "cannot be understood"),
        ("https://partner..example/", "neither a name nor an address"),
        ("https://.example/", "neither a name nor an address"),
        (f"https://{'a' * 64}.example/", "neither a name nor an address"),
        (f"https://{'a.' * 130}example/", "neither a name nor an address"),
        ("https://xn--/", "neither a name nor an address"),
        ("https://a<b.example/", "neither a name nor an address"),
        ("https://exa%mple/", "neither a name nor an address"),
        ("https://partner.example/ x", "printable ASCII"),
        ("https://partner.example/\r\nHost: other", "printable ASCII"),
        ("https://partner.example\\@127.0.0.1/", "printable ASCII"),
        ("https://đối-tác.example/", "printable ASCII"),
        ("https://partner.example/" + "x" * 2000, "at most 2000"),
        ("http://localhost:9000/", "begins with https://"),
        ("http://127.0.0.1:9000/", "begins with https://"),
        *((f"https://{host}/", "is not a public address") for host in INSIDE if host != "localhost"),
    ],
)
def test_urls_that_are_refused(url: str, said: str) -> None:
    with pytest.raises(UrlRefused, match=said):
        Addresses().check_url(url)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_http_is_for_trials_on_this_machine_only(host: str) -> None:
    Addresses(LOOPBACK).check_url(f"http://{host}:9000/")
    Addresses(LOOPBACK).check_url(f"https://{host}:9000/")
    with pytest.raises(UrlRefused):
        Addresses(["10.0.0.0/8"]).check_url(f"http://{host}:9000/")
    with pytest.raises(UrlRefused):
        Addresses([*LOOPBACK, "10.0.0.0/8"]).check_url("http://10.0.0.1:9000/")


# -- as deliveries are sent ------------------------------------------------------------------------------


async def test_a_delivery_connects_to_no_name_that_leads_inside(inside: Listener) -> None:
    sender = Sender(Addresses(), user_agent="test", resolver=Answers(["127.0.0.1"], ["::1", "127.0.0.1"]))
    try:
        for _ in range(2):
            outcome = await sender.post(
                f"https://partner.example:{inside.port}/", b"{}", {}, before=time.monotonic() + 60
            )
            assert outcome.error is not None
            assert outcome.error == "Cannot connect: what the host leads to is not a public address."
    finally:
        await sender.close()
    assert inside.connections == 0


async def test_a_name_that_cannot_be_one_is_not_resolved() -> None:
    names = Names()
    try:
        for host in ("a" * 64, "partner..example"):
            with pytest.raises(OSError, match="no name of a host"):
                await names.resolve(host, 443)
    finally:
        await names.close()


async def test_nothing_is_sent_on_a_connection_that_stands_too_late() -> None:
    async with receiving() as receiver:
        sender = Sender(Addresses(LOOPBACK), user_agent="test")
        try:
            with pytest.raises(LeaseOver):
                await sender.post(receiver.url, b"{}", {}, before=time.monotonic() - 1)
        finally:
            await sender.close()
    assert receiver.got == []
