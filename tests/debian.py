"""Servers as production has them, from Debian's packages: with TLS, behind PgBouncer, watched by Sentinels.

What the embedded servers lack (they are built without TLS) and what no wheel carries. What is not installed is left out
(tests/programs.py).
"""

import secrets
import shutil
import socket
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ops.local import servers
from ops.local.accounts import Account, write_private
from ops.local.ports import LOOPBACK, free_port
from ops.local.postgres import PostgresServer
from ops.local.reaper import Reaper
from ops.local.sentinel_group import PASSWORD, GroupMember, Sentinel, sentinel_ids, sentinel_settings
from ops.local.valkey import ValkeyServer
from tests.programs import program


class DebianRedis(GroupMember):
    """Redis proper; with a `tls-cert-file` in its settings it takes TLS and nothing else."""

    name = "Redis"

    def _command(self) -> list[str]:
        return [program("redis-server"), str(self.home / "valkey.conf"), "--loglevel", "warning"]

    def _is_ready(self) -> bool:
        return _takes_connections(self.host, self.port) if "tls-cert-file" in self.settings else super()._is_ready()

    def _configuration(self) -> str:
        plain = super()._configuration()
        return _on_tls(plain, self.port) if "tls-cert-file" in self.settings else plain


class DebianSentinel(Sentinel):
    """A Sentinel of Redis proper, on TLS alone."""

    def _command(self) -> list[str]:
        return [program("redis-server"), str(self._configuration_path), "--sentinel"]

    def _is_ready(self) -> bool:
        return _takes_connections(self.host, self.port)

    def _configuration(self) -> str:
        return _on_tls(super()._configuration(), self.port)


class DebianPostgres(PostgresServer):
    """PostgreSQL as Debian has it, which is built with TLS."""

    version = "15"

    @property
    def bin_directory(self) -> Path:
        places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
        return Path(program("postgres", *(str(place) for place in places[-1:]))).parent

    def _prepare(self) -> None:
        type(self).version = self.bin_directory.parent.name
        super()._prepare()

    def _creation(self, target: Path) -> list[str]:
        return [option for option in super()._creation(target) if "locale" not in option] + ["--locale=C.UTF-8"]


class PgBouncer(servers.LocalServer):
    """PgBouncer in transaction mode, with one connection to Postgres for each role and database.

    `settings`: roles and their passwords, and under `postgres` the host and port it leads to.
    """

    name = "PgBouncer"
    wheel = ValkeyServer.wheel  # of no use here, but every server has one
    usual_settings = MappingProxyType({})
    stop_signal = ValkeyServer.stop_signal

    def url(self, url: str) -> str:
        """The same URL, by way of this pooler."""
        return url.replace(f"{LOOPBACK}:{self.settings['port']}/", f"{self.host}:{self.port}/")

    def _prepare(self) -> None:
        self._own(self.data_directory)
        roles = {role: password for role, password in self.settings.items() if role != "port"}
        users = "".join(f'"{role}" "{password}"\n' for role, password in roles.items())
        write_private(self.data_directory / "users.txt", users, self._account)
        write_private(self.data_directory / "pgbouncer.ini", self._configuration(), self._account)

    def _configuration(self) -> str:
        return f"""
[databases]
* = host={LOOPBACK} port={self.settings["port"]}
[pgbouncer]
listen_addr = {self.host}
listen_port = {self.port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {self.data_directory / "users.txt"}
pool_mode = transaction
default_pool_size = 1
max_client_conn = 200
"""

    def _command(self) -> list[str]:
        return [program("pgbouncer"), str(self.data_directory / "pgbouncer.ini")]

    def _answers(self, connection: socket.socket) -> bool:
        parameters = b"user\0unknown\0database\0unknown\0\0"
        connection.sendall(struct.pack("!II", len(parameters) + 8, 3 << 16) + parameters)
        return connection.recv(1) in (b"R", b"E")


def _on_tls(configuration: str, port: int) -> str:
    return configuration.replace(f"\nport {port}\n", f"\nport 0\ntls-port {port}\ntls-auth-clients no\n")


def _takes_connections(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, as files."""

    path: Path
    key: Path


class Authority:
    """A certification authority made by the openssl command."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory / name
        self._directory.mkdir()
        self._name = name
        self.path = self._directory / "ca.crt"
        self._openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
            "-subj", f"/CN={name} (test)", "-keyout", "ca.key", "-out", "ca.crt",
        )  # fmt: skip
        (self._directory / "index.txt").touch()
        self._conf = (
            "[ca]\ndefault_ca = own\n[own]\ndatabase = index.txt\nnew_certs_dir = .\ndefault_md = sha256\n"
            "rand_serial = yes\npolicy = any\ncertificate = ca.crt\nprivate_key = ca.key\nunique_subject = no\n"
            "[any]\ncommonName = supplied\n[server]\nsubjectAltName = "
        )

    def issue(
        self,
        name: str,
        *,
        names: str = "IP:127.0.0.1,DNS:localhost",
        expired: bool = False,
        ends_in: timedelta | None = None,
    ) -> Certificate:
        """A certificate for these names, good for decades unless something else is said."""
        start, end = ("20240101000000Z", "20250101000000Z") if expired else ("20250101000000Z", "20990101000000Z")
        if ends_in is not None:
            end = f"{datetime.now(UTC) + ends_in:%Y%m%d%H%M%SZ}"
        (self._directory / "ca.conf").write_text(f"{self._conf}{names}\n")
        self._openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}",
            "-keyout", f"{name}.key", "-out", f"{name}.csr",
        )  # fmt: skip
        self._openssl(
            "ca", "-config", "ca.conf", "-batch", "-notext", "-extensions", "server", "-startdate", start,
            "-enddate", end, "-in", f"{name}.csr", "-out", f"{name}.crt",
        )  # fmt: skip
        return Certificate(self._directory / f"{name}.crt", self._directory / f"{name}.key")

    def _openssl(self, *words: str) -> None:
        done = subprocess.run(
            [program("openssl"), *words], cwd=self._directory, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


@dataclass
class Watched:
    """A primary and two replicas, and the Sentinels that watch them under the name `dossiers`."""

    members: list[GroupMember]
    sentinels: list[Sentinel]

    @property
    def url(self) -> str:
        places = ",".join(f"{sentinel.host}:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://:{PASSWORD}@{places}/dossiers/0"


@dataclass
class Place:
    """A directory that the servers' account can enter, and whatever is started in it."""

    path: Path
    reaper: Reaper
    stack: ExitStack

    def start(self, kind: type[servers.LocalServer], name: str, **options: Any) -> Any:
        """A server that is stopped when the place is left."""
        return self.stack.enter_context(kind.start(self.path / name, reaper=self.reaper, **options))

    def hand_over(self, certificate: Certificate) -> Certificate:
        """A copy that the servers can read; it replaces the one before."""
        copy = Certificate(self.path / "server.crt", self.path / "server.key")
        for source, target in ((certificate.path, copy.path), (certificate.key, copy.key)):
            write_private(target, source.read_text(), Account.unprivileged())
        return copy


@contextmanager
def place(reaper: Reaper) -> Iterator[Place]:
    """A place of its own for a test's servers; they and it are gone afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="hoso24-debian-"))
    directory.chmod(0o755)
    try:
        with ExitStack() as stack:
            yield Place(directory, reaper, stack)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def watched(place: Place) -> Watched:
    """Everything started; the Sentinels know each other and the replicas from the first moment."""
    auth = {"masterauth": PASSWORD}
    primary = place.start(GroupMember, "one", settings=auth)
    follows = auth | {"replicaof": f"{primary.host} {primary.port}", "repl-diskless-sync-delay": "0"}
    replicas = [place.start(GroupMember, name, settings=follows) for name in ("two", "three")]
    ports: list[int] = []
    for _ in range(3):
        ports.append(free_port(30_000 + secrets.randbelow(2_000), avoid=ports))
    ids = sentinel_ids(ports)
    sentinels = []
    for port in ports:
        settings = sentinel_settings(
            "dossiers",
            port,
            ids,
            primary=primary.port,
            replicas=[replica.port for replica in replicas],
            down_after=2.0,
            failover_timeout=1.0,
        )
        options = {"port": port, "settings": settings}
        sentinels.append(place.start(Sentinel, f"sentinel-{port}", **options))
    return Watched([primary, *replicas], sentinels)
