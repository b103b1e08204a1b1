"""Until when a certificate is valid, asked of servers that show one; made by openssl, which CI installs."""

import asyncio
import contextlib
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ops.doctor import certificate_checks
from ops.doctor.findings import Finding, Verdict
from ops.errors import Unavailable
from ops.stores.certificates import certificate
from tests.programs import program

pytestmark = pytest.mark.servers

SSL_REQUEST = bytes.fromhex("0000000804d2162f")


@pytest.fixture(autouse=True)
def _openssl() -> None:
    program("openssl")


AUTHORITY = """
[ca]
default_ca = own
[own]
database = index.txt
serial = serial
new_certs_dir = .
default_md = sha256
policy = any
[any]
commonName = supplied
"""


def context(folder: Path, *, days: int) -> ssl.SSLContext:
    """A server's, with a certificate that is valid for so many days from now; 0 for one that ran out in 2020."""
    names = ["-subj", "/CN=mau.example", "-keyout", "key.pem", "-out", "cert.pem"]
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl(folder, "req", *kind, *names, "-days", str(days or 1))
    if not days:
        for name, text in {"authority.cnf": AUTHORITY, "index.txt": "", "serial": "01"}.items():
            (folder / name).write_text(text)
        openssl(folder, "req", "-new", "-key", "key.pem", "-subj", "/CN=mau.example", "-out", "wish.pem")
        dates = ["-startdate", "20200101000000Z", "-enddate", "20200201000000Z"]
        own = ["-config", "authority.cnf", "-selfsign", "-keyfile", "key.pem"]
        openssl(folder, "ca", "-batch", "-notext", *own, "-in", "wish.pem", "-out", "cert.pem", *dates)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return server


def openssl(folder: Path, *words: str) -> None:
    done = subprocess.run([program("openssl"), *words], cwd=folder, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@contextlib.asynccontextmanager
async def serving(tls: ssl.SSLContext | None, *, postgres: bool = False) -> AsyncIterator[int]:
    """A server on a free port that shakes hands; as Postgres does, or as everybody else. `tls` None declines."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if postgres:
                assert await reader.readexactly(8) == SSL_REQUEST
                writer.write(b"S" if tls else b"N")
                if tls:
                    await writer.start_tls(tls)
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=None if postgres else tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("postgres", [True, False])
async def test_end_is_what_the_server_s_certificate_says(tmp_path: Path, postgres: bool) -> None:
    async with serving(context(tmp_path, days=90), postgres=postgres) as port:
        shown = await certificate("127.0.0.1", port, postgres=postgres)
    assert shown is not None
    assert shown.ends_at is not None
    assert abs(shown.ends_at - datetime.now(UTC) - timedelta(days=90)) < timedelta(minutes=5)


async def test_postgres_without_tls_has_none() -> None:
    async with serving(None, postgres=True) as port:
        assert await certificate("127.0.0.1", port, postgres=True) is None


async def finding_of(port: int, *, host: str = "127.0.0.1", postgres: bool = False) -> Finding:
    (finding,) = await certificate_checks.certificates("certificate", host, port, postgres=postgres).ask()
    return finding


@pytest.mark.parametrize(("days", "verdict"), [(200, Verdict.OK), (20, Verdict.WARNING), (3, Verdict.WRONG)])
async def test_days_left_make_the_verdict(tmp_path: Path, days: int, verdict: Verdict) -> None:
    async with serving(context(tmp_path, days=days)) as port:
        finding = await finding_of(port)
    assert finding.verdict is verdict
    assert f"{days - 1} days left" in finding.found
    assert bool(finding.next_step) == (verdict is not Verdict.OK)


async def test_certificate_of_the_past_is_wrong(tmp_path: Path) -> None:
    async with serving(context(tmp_path, days=0)) as port:
        finding = await finding_of(port)
    assert finding.verdict is Verdict.WRONG
    assert "expired" in finding.found


async def test_no_tls_matters_only_where_there_is_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(None, postgres=True) as port:
        assert (await finding_of(port, postgres=True)).verdict is Verdict.OK
        monkeypatch.setattr(certificate_checks, "is_near", lambda _: False)
        assert (await finding_of(port, postgres=True)).verdict is Verdict.WARNING


async def test_who_talks_no_tls_where_tls_is_expected_was_not_examined() -> None:
    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        with pytest.raises(Unavailable):
            await finding_of(server.sockets[0].getsockname()[1])


@pytest.mark.parametrize(
    ("host", "near"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("", True), ("/run/postgresql", True), ("db", False)],
)
def test_near_is_what_no_network_lies_between(host: str, near: bool) -> None:
    assert certificate_checks.is_near(host) is near


async def test_examination_that_is_given_up_while_it_hangs_up_leaves_no_connection(tmp_path: Path) -> None:
    """A server that never says goodbye in TLS would be waited for; the caller's timeout must not leave that open."""
    loop, told_to_close, ended = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    tls = context(tmp_path, days=90)
    listening = socket.create_server(("127.0.0.1", 0))

    def silent() -> None:
        connection, _ = listening.accept()
        with tls.wrap_socket(connection, server_side=True, suppress_ragged_eofs=True) as session:
            session.recv(1)  # empty: the client wants to close
            loop.call_soon_threadsafe(told_to_close.set)
            with socket.socket(fileno=os.dup(session.fileno())) as line, contextlib.suppress(ConnectionResetError):
                line.recv(1)
            loop.call_soon_threadsafe(ended.set)

    thread = threading.Thread(target=silent)
    thread.start()
    examination = asyncio.create_task(certificate("127.0.0.1", listening.getsockname()[1]))
    await told_to_close.wait()
    assert not examination.done()
    examination.cancel()
    await asyncio.gather(examination, return_exceptions=True)
    async with asyncio.timeout(20):
        await ended.wait()
    thread.join()
    listening.close()
