"""What a TLS handshake costs a server: processor time of the server's side, over buffers in memory and no network.

The gateway is not ours, and which one it is an installation decides; but all of them do this arithmetic, most with this
library. What the kernel takes for a connection comes on top, and is little beside it.
"""

import os
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from loadtests.machine import processor
from loadtests.system.processes import CannotMeasure

COUNT = 1000
WARM_UP = 50
KEYS = {
    "ECDSA P-256": ("ec", "ec_paramgen_curve:prime256v1"),
    "RSA 2048": ("rsa", "rsa_keygen_bits:2048"),
}


class Handshakes(msgspec.Struct, frozen=True):
    """Microseconds of a server's processor for one full handshake of TLS 1.3, by the kind of key."""

    microseconds: dict[str, float]
    conditions: dict[str, str]


def measure(count: int = COUNT) -> Handshakes:
    """So many of each kind of key. Raises CannotMeasure where openssl cannot make the keys."""
    return Handshakes(
        {key: round(_one(key, count), 1) for key in KEYS},
        {
            "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            "machine": processor(),
            "with": f"{ssl.OPENSSL_VERSION}, {count:,} of each",
            "load": f"{os.getloadavg()[0]:.1f} processes wanted a core meanwhile",
        },
    )


def _one(key: str, count: int) -> float:
    with tempfile.TemporaryDirectory(prefix="hoso24-handshakes-") as name:
        certificate, private = _certificate(Path(name), *KEYS[key])
        here = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        here.minimum_version = ssl.TLSVersion.TLSv1_3
        here.load_cert_chain(certificate, private)
        there = ssl.create_default_context(cafile=str(certificate))
        for _ in range(WARM_UP):
            _handshake(here, there)
        return 1e6 * sum(_handshake(here, there) for _ in range(count)) / count


def _handshake(here: ssl.SSLContext, there: ssl.SSLContext) -> float:
    """One of them; the seconds of processor time of the server's side."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = there.wrap_bio(to_client, to_server, server_hostname="hoso24.example")
    _step(client.do_handshake)
    began = time.thread_time()
    server = here.wrap_bio(to_server, to_client, server_side=True)
    _step(server.do_handshake)
    used = time.thread_time() - began
    client.do_handshake()
    began = time.thread_time()
    server.do_handshake()
    return used + time.thread_time() - began


def _step(handshake: Callable[[], None]) -> None:
    """As far as it goes until the other side has answered."""
    try:
        handshake()
    except ssl.SSLWantReadError:
        return
    raise CannotMeasure("A handshake was over before the other side had answered.")


def _certificate(folder: Path, algorithm: str, option: str) -> tuple[Path, Path]:
    certificate, key = folder / "cert.pem", folder / "key.pem"
    _run(["openssl", "genpkey", "-algorithm", algorithm, "-pkeyopt", option, "-out", str(key)])
    subject = ["-subj", "/CN=hoso24.example", "-addext", "subjectAltName=DNS:hoso24.example", "-days", "2"]
    _run(["openssl", "req", "-x509", "-new", "-key", str(key), "-out", str(certificate), *subject])
    return certificate, key


def _run(command: Sequence[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise CannotMeasure(f"{' '.join(command[:2])} cannot be run: {error}") from None
