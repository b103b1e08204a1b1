"""TLS to Redis, its Sentinels and Postgres: verified, and refused with a reason that whoever is on call can use."""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import asyncpg
import pytest
import redis.asyncio

from ops.errors import Unavailable
from ops.local.accounts import Account, write_private
from ops.local.reaper import Reaper
from ops.local.sentinel_group import PASSWORD
from ops.stores import calls
from ops.stores.postgres import Postgres
from ops.stores.redis import Redis
from ops.stores.urls import Trust
from tests import debian, programs
from tests.debian import Authority, Certificate, DebianPostgres, DebianRedis, DebianSentinel
from tests.house import lookup_running, lookup_settings

UNKNOWN = "unable to get local issuer certificate"
EXPIRED = "certificate has expired"


@dataclass
class Secured:
    """A Redis and a Postgres on TLS, whose certificate can be replaced."""

    place: debian.Place
    authority: Authority
    other: Authority
    redis: DebianRedis
    postgres: DebianPostgres

    def redis_url(self, ca: Any, host: str = "127.0.0.1") -> str:
        return f"rediss://:{PASSWORD}@{host}:{self.redis.port}/0?ssl_ca_certs={ca}"

    def postgres_url(self, ca: Any, host: str = "127.0.0.1") -> str:
        url = self.postgres.admin_url.replace("127.0.0.1", host)
        return f"{url}?sslmode=verify-full&sslrootcert={ca}"

    async def show(self, certificate: Certificate) -> None:
        """From now on both servers have this certificate."""
        shown = self.place.hand_over(certificate)
        plain = await asyncpg.connect(self.postgres.admin_url)
        await plain.execute("SELECT pg_reload_conf()")
        await plain.close()
        async with redis.asyncio.Redis(
            port=self.redis.port, password=PASSWORD, protocol=2, ssl=True, ssl_cert_reqs="none"
        ) as direct:
            await direct.config_set("tls-cert-file", str(shown.path))


@pytest.fixture(scope="module")
def secured(reaper: Reaper) -> Iterator[Secured]:
    for needed in ("openssl", "redis-server"):
        programs.program(needed)
    with debian.place(reaper) as place:
        authority, other = (Authority(place.path, name) for name in ("authority", "other"))
        shown = place.hand_over(authority.issue("first"))
        server = place.start(
            DebianRedis, "redis", settings={"tls-cert-file": str(shown.path), "tls-key-file": str(shown.key)}
        )
        settings = {"ssl": "on", "ssl_cert_file": str(shown.path), "ssl_key_file": str(shown.key), "fsync": "off"}
        postgres = place.start(DebianPostgres, "postgres", settings=settings)
        yield Secured(place, authority, other, server, postgres)


Ask = Callable[[], Awaitable[Any]]


async def why_not(kind: str, url: str) -> str:
    """The reason why nothing can be had with this URL, the same on every way; empty when it can."""
    client: Any
    ways: list[Ask]
    if kind == "redis":
        client = Redis("redis", lambda: url, size=1, deadline=20.0)
        ways = [lambda: client.call("PING"), lambda: client.run(lambda each: each.ping())]
    else:
        client = Postgres("postgres", lambda: url, size=1, deadline=20.0)
        ways = [lambda: client.fetch("SELECT 1")]
    reasons = set()
    for way in ways:
        try:
            assert await way()
            reasons.add("")
        except Unavailable as away:
            reasons.add(away.reason)
    await client.close()
    (reason,) = reasons
    return reason


@pytest.mark.parametrize("kind", ["redis", "postgres"])
async def test_server_is_believed_if_the_authority_vouches_for_it(secured: Secured, kind: str) -> None:
    url = secured.redis_url if kind == "redis" else secured.postgres_url
    assert await why_not(kind, url(secured.authority.path)) == ""
    assert await why_not(kind, url(secured.authority.path, "localhost")) == ""
    assert UNKNOWN in await why_not(kind, url(secured.other.path))
    assert await why_not(kind, url("/nowhere/ca.crt")) == "a file or socket named in its URL does not exist"


async def test_expired_certificate_or_one_of_another_name_is_refused_and_a_renewed_one_taken(secured: Secured) -> None:
    urls = {
        "redis": secured.redis_url(secured.authority.path),
        "postgres": secured.postgres_url(secured.authority.path),
    }
    for certificate, reason in (
        (secured.authority.issue("expired", expired=True), EXPIRED),
        (secured.authority.issue("elsewhere", names="DNS:elsewhere"), "certificate is not valid for '127.0.0.1'."),
        (secured.authority.issue("renewed"), ""),
    ):
        await secured.show(certificate)
        for kind, url in urls.items():
            found = await why_not(kind, url)
            assert found.endswith(reason) if reason else not found, (kind, found)


async def test_replaced_authority_is_believed_at_the_next_connect(secured: Secured) -> None:
    ca = secured.place.path / "ca.crt"
    ca.write_text(secured.other.path.read_text())
    client = Redis("redis", lambda: secured.redis_url(ca), size=1, deadline=20.0)
    postgres = Postgres("postgres", lambda: secured.postgres_url(ca), size=1, deadline=20.0)
    for ask in (lambda: client.call("PING"), lambda: postgres.fetch("SELECT 1")):
        with pytest.raises(Unavailable):
            await ask()
    ca.unlink()
    ca.write_text(secured.authority.path.read_text())
    assert await client.call("PING") == b"PONG"
    assert await postgres.fetch("SELECT 1")
    await client.close()
    await postgres.close()


def test_system_s_authorities_are_not_believed_beside_the_one_that_is_named(secured: Secured) -> None:
    assert len(Trust(str(secured.authority.path)).context().get_ca_certs()) == 1


async def test_sentinels_and_their_primary_are_verified_alike(secured: Secured) -> None:
    shown = secured.place.hand_over(secured.authority.issue("sentinel"))
    lines = {
        "tls-cert-file": str(shown.path),
        "tls-key-file": str(shown.key),
        "tls-ca-cert-file": str(_readable(secured, secured.authority)),
        "tls-replication": "yes",
        f"sentinel monitor dossiers 127.0.0.1 {secured.redis.port} 1": None,
        f"sentinel auth-pass dossiers {PASSWORD}": None,
    }
    sentinel = secured.place.start(DebianSentinel, "sentinel", settings=lines)
    url = f"rediss+sentinel://:{PASSWORD}@127.0.0.1:{sentinel.port}/dossiers?ssl_ca_certs="
    assert await why_not("redis", f"{url}{secured.authority.path}") == ""
    refused = await why_not("redis", f"{url}{secured.other.path}")
    assert refused.startswith("no Sentinel answers: its certificate is not accepted: ")


def _readable(secured: Secured, authority: Authority) -> Any:
    target = secured.place.path / "sentinel-ca.crt"
    write_private(target, authority.path.read_text(), Account.unprivileged())
    return target


async def test_health_and_log_say_what_is_wrong_with_a_certificate(
    secured: Secured, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lookup starts with both of them refused, goes on, and tells."""
    monkeypatch.setattr(calls, "_said", {})  # what stands in the log is not repeated for a minute
    settings = lookup_settings(secured.postgres_url(secured.other.path), secured.redis_url(secured.other.path))
    async with lookup_running(settings) as started, aiohttp.ClientSession() as http:
        async with http.get(f"http://127.0.0.1:{started.port}/api/v1/dossiers/G99.05.02-261120-90001") as answer:
            assert answer.status == 503
            body = await answer.text()
        async with http.get(f"http://127.0.0.1:{started.admin_port}/health") as answer:
            checks = (await answer.json())["checks"]
    assert "certificate" not in body
    for name in ("redis", "postgres"):
        assert checks[name]["status"] == "failed"
        assert UNKNOWN in checks[name]["error"]
        assert [record for record in caplog.records if f"{name} cannot be reached: its certificate" in record.message]
    assert PASSWORD not in caplog.text
