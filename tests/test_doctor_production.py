"""The doctor at servers as production has them: with TLS, behind PgBouncer, watched by Sentinels, in each pod.

What it says of everything else is in tests/test_doctor.py.
"""

import contextlib
import socket
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
import redis.asyncio

import hoso24
from loadtests.system.pauses import pause, resume
from ops import doctor as checks
from ops.doctor import redis_checks
from ops.doctor.findings import NOT_EXAMINED, Finding, Verdict
from ops.local.accounts import Account, write_private
from ops.local.postgres import PostgresServer
from ops.local.reaper import Reaper
from ops.local.sentinel_group import PASSWORD
from ops.stores.sentinels import SentinelAnswer
from ops.stores.urls import Place, redis_address
from tests import debian, programs
from tests.conftest import ROLES, Database
from tests.debian import Authority, Certificate, DebianPostgres, DebianRedis, DebianSentinel, PgBouncer, Watched
from tests.house import relay_of, until
from tests.test_doctor import Patient


async def found(environ: dict[str, str], check: str) -> Finding:
    """What one check found, everything that this environment names being examined."""
    findings: list[Finding] = await hoso24.examine_house(environ)
    (finding,) = [each for each in findings if each.check == check]
    return finding


# -- TLS ---------------------------------------------------------------------------------------------------


class Secured:
    """Postgres, Redis and a Sentinel on TLS with one certificate, which can be replaced."""

    def __init__(self, place: debian.Place) -> None:
        self.place = place
        self.authority = Authority(place.path, "authority")
        shown = place.hand_over(self.authority.issue("first"))
        files = {"tls-cert-file": str(shown.path), "tls-key-file": str(shown.key)}
        self.redis = place.start(DebianRedis, "redis", settings=files | {"maxmemory-policy": "volatile-lru"})
        self.sentinel = place.start(DebianSentinel, "sentinel", settings=files | self._watching())
        settings = {"ssl": "on", "ssl_cert_file": str(shown.path), "ssl_key_file": str(shown.key), "fsync": "off"}
        self.postgres = place.start(DebianPostgres, "postgres", settings=settings)

    def _watching(self) -> dict[str, str | None]:
        believed = self.place.path / "believed.crt"
        write_private(believed, self.authority.path.read_text(), Account.unprivileged())
        return {
            "tls-ca-cert-file": str(believed),
            "tls-replication": "yes",
            f"sentinel monitor dossiers 127.0.0.1 {self.redis.port} 1": None,
            f"sentinel auth-pass dossiers {PASSWORD}": None,
        }

    @property
    def environ(self) -> dict[str, str]:
        ca, password = self.authority.path, PASSWORD
        return {
            "HOSO24_PG_READER_URL": f"{self.postgres.admin_url}?sslmode=verify-full&sslrootcert={ca}",
            "HOSO24_REDIS_URL": f"rediss://:{password}@127.0.0.1:{self.redis.port}/0?ssl_ca_certs={ca}",
            "HOSO24_PUBLIC_URL": f"https://127.0.0.1:{self.redis.port}",  # any server will do whose certificate it is
        }

    @property
    def by_sentinel(self) -> dict[str, str]:
        place = f"127.0.0.1:{self.sentinel.port}"
        url = f"rediss+sentinel://:{PASSWORD}@{place}/dossiers?ssl_ca_certs={self.authority.path}"
        return {"HOSO24_REDIS_URL": url}

    async def show(self, certificate: Certificate) -> None:
        """From now on all three have this certificate; the Sentinel reads its own only when it starts."""
        shown = self.place.hand_over(certificate)
        self.sentinel.restart()
        plain = await asyncpg.connect(self.postgres.admin_url)
        await plain.execute("SELECT pg_reload_conf()")
        await plain.close()
        async with redis.asyncio.Redis(
            port=self.redis.port, password=PASSWORD, protocol=2, ssl=True, ssl_cert_reqs="none"
        ) as direct:
            await direct.config_set("tls-cert-file", str(shown.path))

    def certificates(self) -> tuple[str, str, str]:
        """What the doctor calls them: of Redis and Postgres, and of the public address."""
        return (
            f"certificate of Redis 127.0.0.1:{self.redis.port}",
            f"certificate of PostgreSQL 127.0.0.1:{self.postgres.port}",
            "certificate of 127.0.0.1",
        )


@pytest.fixture(scope="module")
def secured(reaper: Reaper) -> Iterator[Secured]:
    for needed in ("openssl", "redis-server"):
        programs.program(needed)
    with debian.place(reaper) as place:
        yield Secured(place)


LIVES = {
    "of decades": (None, Verdict.OK, "days left"),
    "of a month": (timedelta(days=29, hours=12), Verdict.WARNING, "29 days left"),
    "of a week": (timedelta(days=6, hours=12), Verdict.WRONG, "6 days left"),
    "that is over": (timedelta(minutes=-1), Verdict.WRONG, "not valid: certificate has expired"),
}


@pytest.mark.parametrize(("life", "verdict", "says"), LIVES.values(), ids=LIVES)
async def test_certificate_that_is_about_to_end_is_found_wherever_it_is_shown(
    secured: Secured, life: timedelta | None, verdict: Verdict, says: str
) -> None:
    await secured.show(secured.authority.issue("another", ends_in=life))
    wanted = dict.fromkeys(secured.certificates(), verdict)

    async def examined() -> dict[str, Finding] | None:
        findings = {each.check: each for each in await hoso24.examine_house(secured.environ)}
        shown = {check: findings[check] for check in wanted if check in findings}
        # Postgres' processes hear of the new certificate a moment after it was told.
        return shown if {check: each.verdict for check, each in shown.items()} == wanted else None

    shown = await until(examined)
    shown["Sentinel"] = await found(
        secured.by_sentinel, f"certificate of the Sentinel 127.0.0.1:{secured.sentinel.port}"
    )
    for finding in shown.values():
        assert finding.verdict is verdict, finding
        assert says in finding.found, finding
        assert ("`certbot renew`" in finding.next_step) is (verdict is not Verdict.OK)


async def test_connection_says_that_it_has_tls_and_why_it_is_not_believed(secured: Secured) -> None:
    await secured.show(secured.authority.issue("sound"))
    environ = secured.environ | secured.by_sentinel
    assert "with TLS" in (await found(environ, "postgres as reader")).found
    assert "Redis 7" in (await found(environ, "redis")).found
    strange = Authority(secured.place.path, "strange").path
    doubted = {name: url.replace(str(secured.authority.path), str(strange)) for name, url in environ.items()}
    for check in ("postgres as reader", "redis"):
        finding = await found(doubted, check)
        assert finding.verdict is Verdict.WRONG
        assert "its certificate is not accepted: " in finding.found


# -- the public address, from within -----------------------------------------------------------------------


@pytest.fixture
def silent() -> Iterator[int]:
    """A port at which connections are taken and nothing is said, as when a policy drops packets."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


async def test_public_address_that_cannot_be_reached_from_here_is_no_fault_of_the_house(
    silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "SERVER_DEADLINE", 0.2)
    for port in (1, silent):
        findings = await hoso24.examine_house({"HOSO24_PUBLIC_URL": f"https://127.0.0.1:{port}"})
        assert NOT_EXAMINED not in [each.check for each in findings]
        (finding,) = [each for each in findings if each.check == "certificate of 127.0.0.1"]
        assert (finding.verdict, finding.found) == (Verdict.WARNING, "cannot be reached from here")
        assert "outside the cluster" in finding.next_step


# -- in each pod -------------------------------------------------------------------------------------------

PODS = {
    "lookup": ("HOSO24_PG_READER_URL", "HOSO24_REDIS_URL", "HOSO24_LOOKUP_KEY_SECRETS"),
    "intake": ("HOSO24_PG_WRITER_URL", "HOSO24_LOOKUP_KEY_SECRETS", "HOSO24_SEAL_KEYS", "HOSO24_WEBHOOK_SECRET"),
    "relay": ("HOSO24_PG_RELAY_URL", "HOSO24_REDIS_URL"),
}


async def test_every_process_can_be_examined_with_what_it_has(database: Database, redis_url: str) -> None:
    """Each has its own role and no other; what that one may not see is not examined, and no fault."""
    patient = Patient(database, redis_url)
    async with relay_of(database, redis_url):
        for pod, names in PODS.items():
            environ = {name: patient.environ[name] for name in names}

            async def wrong(environ: dict[str, str] = environ) -> list[Finding]:
                return [each for each in await hoso24.examine_house(environ) if each.verdict is Verdict.WRONG]

            async def settled() -> bool:
                return {each.check for each in await wrong()} == {"durability"}  # for speed, in tests

            with contextlib.suppress(AssertionError):
                await until(settled)
            assert [each for each in await wrong() if each.check != "durability"] == [], pod
            checks = {each.check for each in await hoso24.examine_house(environ)}
            assert {f"settings of {pod}", "migrations", "grants", "heartbeat", "relay"} <= checks, pod
            assert ("log" in checks) is (pod == "relay")


# -- PgBouncer ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bouncer(postgres_server: PostgresServer, reaper: Reaper) -> Iterator[PgBouncer]:
    programs.program("pgbouncer")
    with debian.place(reaper) as place:
        settings = {role: role for role in ROLES} | {"port": str(postgres_server.port)}
        yield place.start(PgBouncer, "pgbouncer", settings=settings)


async def test_pooler_that_was_not_said_is_found_and_one_that_was_is_examined_through(
    bouncer: PgBouncer, database: Database, redis_url: str
) -> None:
    patient = Patient(database, redis_url)
    pooled = {name: bouncer.url(url) for name, url in patient.environ.items() if name.startswith("HOSO24_PG_")}
    said = {each.check: each for each in await patient.examined(**pooled)}
    for role in ("reader", "writer", "relay", "owner"):
        finding = said[f"postgres as {role}"]
        assert finding.verdict is Verdict.WRONG
        assert "set HOSO24_PG_POOLED=1" in finding.found
        assert f"Let HOSO24_PG_{role.upper()}_URL name PostgreSQL itself" in finding.next_step

    findings = await patient.examined(**pooled, HOSO24_PG_POOLED="1")
    by_check = {each.check: each for each in findings}
    for role, verdict in {"reader": Verdict.OK, "writer": Verdict.OK, "relay": Verdict.WRONG}.items():
        assert by_check[f"postgres as {role}"].verdict is verdict, role
    for check in ("migrations", "roles", "grants", "role settings"):
        assert by_check[check].verdict is Verdict.OK, by_check[check]
    assert not [each for each in findings if "the check itself failed" in each.found]


# -- Sentinels ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def watched(reaper: Reaper) -> Iterator[Watched]:
    with debian.place(reaper) as place:
        yield debian.watched(place)


@contextlib.contextmanager
def hanging(servers: list[Any]) -> Iterator[None]:
    for each in servers:
        pause(each)
    try:
        yield
    finally:
        for each in servers:
            resume(each)


async def test_sentinel_that_is_away_is_found_before_the_majority_is(watched: Watched) -> None:
    environ = {"HOSO24_REDIS_URL": watched.url}
    primary = f"127.0.0.1:{watched.members[0].port}"

    async def said() -> list[tuple[Verdict, str]]:
        findings = await hoso24.examine_house(environ)
        assert [each for each in findings if each.check == "redis"]
        return [(each.verdict, each.found) for each in findings if each.check == "sentinels"]

    well = (Verdict.OK, f"3 of 3 name {primary}, which has 2 replicas")

    async def all_well() -> bool:
        return await said() == [well]

    await until(all_well)
    for away in (1, 2, 3):
        with hanging(watched.sentinels[:away]):
            findings = await said()
        verdict = Verdict.WARNING if away == 1 else Verdict.WRONG
        hung = [
            (verdict, f"127.0.0.1:{each.port} does not answer: no answer in time") for each in watched.sentinels[:away]
        ]
        left = [(Verdict.OK, f"{3 - away} of 3 name {primary}, which has 2 replicas")] if away < 3 else []
        assert findings == hung + left


ONE, OTHER = Place("10.0.0.1", 6379), Place("10.0.0.2", 6379)


@pytest.mark.parametrize(
    ("said", "verdict", "found"),
    [
        (
            [SentinelAnswer(1, ONE, 1), SentinelAnswer(2, OTHER, 1)],
            Verdict.WRONG,
            f"different primaries: {ONE[0]}:6379, {OTHER[0]}",
        ),
        (
            [SentinelAnswer(1, ONE, 1), SentinelAnswer(1, ONE, 1, down=True)],
            Verdict.WRONG,
            "consider the primary 10.0.0.1:6379 down",
        ),
        (
            [SentinelAnswer(1, ONE, 0), SentinelAnswer(1, ONE, 0)],
            Verdict.WARNING,
            "10.0.0.1:6379 is the primary and has no replica",
        ),
    ],
    ids=["split", "down", "alone"],
)
def test_what_sentinels_say_is_judged(said: list[SentinelAnswer], verdict: Verdict, found: str) -> None:
    address = redis_address("redis+sentinel://one,two/dossiers")
    (finding,) = redis_checks._of_sentinels(address, said)
    assert finding.verdict is verdict
    assert found in finding.found
