"""The servers under test, ours and the peers: each started alone on the server core."""

import os
import pwd
import string
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from loadtests.system.http_client import fetch
from loadtests.system.installation import Installation
from loadtests.system.processes import HOSO24, ROOT, SERVER_CORE, CannotMeasure, free_port, started, wait_until

NGINX_CONF = Path(__file__).with_name("peers") / "nginx.conf"
READY_SECONDS = 30.0

OURS = "ours"
UNCOUNTED = """
import hoso24
from lookup.web.tally import Tally

assert Tally.count
Tally.count = lambda *_, **__: None
hoso24.main()
"""
"""A program instead of `hoso24`: the same, except that plain lookups are neither counted nor logged."""
APPLICATION = "bench"
"""How our lookup's sessions are known in pg_stat_activity."""


@dataclass(frozen=True)
class BenchServer:
    """A running server: where it answers, and its process. `admin`: where ours has its metrics."""

    url: str
    pid: int
    admin: str = ""

    @property
    def port(self) -> int:
        """Its port on this machine."""
        return urlsplit(self.url).port or 0

    def address(self, code: str) -> str:
        """Where a dossier's anonymous view is."""
        return f"{self.url}/api/v1/dossiers/{code}"


@dataclass(frozen=True)
class Contestant:
    """A server that can be started afresh for every run, under the name it has in the tables."""

    name: str
    start: Callable[[], AbstractContextManager[BenchServer]]


def ours(system: Installation, *, program: str = "", **settings: str) -> Contestant:
    """`hoso24 lookup` with the system's settings and these besides; `program` is run in the place of `hoso24`."""
    command = (sys.executable, "-c", program) if program else HOSO24

    def start() -> AbstractContextManager[BenchServer]:
        port, admin = free_port(), free_port()
        environ = {
            **system.environ,
            "HOSO24_PG_READER_URL": f"{system.postgres['reader']}?application_name={APPLICATION}",
            "HOSO24_LOOKUP_PORT": str(port),
            "HOSO24_LOOKUP_ADMIN_PORT": str(admin),
            "HOSO24_DRAIN_SECONDS": "0",
            "HOSO24_TRUSTED_PROXIES": "127.0.0.1",  # the load comes from one address and speaks for many
            **settings,
        }
        log = system.folder / "lookup.log"
        return _answering(OURS, [*command, "lookup"], port, admin, cwd=system.folder, log=log, environ=environ)

    return Contestant(OURS, start)


def peer(system: Installation, name: str, module: str, answer: bytes = b"") -> Contestant:
    """One of the modules in `peers`; `answer` is for those that return a constant."""

    def start() -> AbstractContextManager[BenchServer]:
        port = free_port()
        environ = {
            "PEER_PORT": str(port),
            "PEER_POSTGRES_URL": system.postgres["reader"],
            "PEER_REDIS_URL": system.redis,
            "PEER_ANSWER": answer.decode(),
        }
        argv = [sys.executable, "-m", f"loadtests.bench.peers.{module}"]
        return _answering(name, argv, port, cwd=ROOT, log=system.folder / f"{module}.log", environ=environ)

    return Contestant(name, start)


def nginx(system: Installation, answer: bytes) -> Contestant:
    """nginx, returning a constant."""
    name = "nginx, a constant"

    def start() -> AbstractContextManager[BenchServer]:
        port, folder = free_port(), system.folder / "nginx"
        folder.mkdir(exist_ok=True)
        conf = folder / "nginx.conf"
        conf.write_text(_nginx_conf(folder, port, answer.decode()), "utf-8")
        argv = ["nginx", "-p", str(folder), "-e", "stderr", "-c", str(conf)]
        return _answering(name, argv, port, cwd=folder, log=folder / "log")

    return Contestant(name, start)


@contextmanager
def _answering(
    name: str, argv: Sequence[str], port: int, admin: int | None = None, *, log: Path, **where: Any
) -> Iterator[BenchServer]:
    """The server on its core, from when it answers and does not say that it is not ready."""
    server, its_admin = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}" if admin else ""
    ready = f"{its_admin}/readyz" if admin else f"{server}/"
    with started(argv, core=SERVER_CORE, log=log, **where) as process:

        def answers() -> bool:
            return fetch(ready).status not in (0, 503)

        wait_until(answers, name, seconds=READY_SECONDS, process=process, log=log)
        yield BenchServer(server, process.pid, its_admin)


def _nginx_conf(folder: Path, port: int, answer: str) -> str:
    if set("'\\$") & set(answer):
        raise CannotMeasure(f"nginx cannot be made to return this as a constant: {answer}")
    # Started as root, nginx would run its worker under another account.
    user = f"user {pwd.getpwuid(os.geteuid()).pw_name};" if os.geteuid() == 0 else ""
    template = string.Template(NGINX_CONF.read_text("utf-8"))
    return template.substitute(folder=folder, port=port, answer=answer, user=user)
