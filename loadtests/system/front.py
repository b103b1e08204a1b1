"""Where clients connect: HAProxy before the lookups and the intakes, or a rotation of their ports where it is missing.

HAProxy notices by itself, at the admin ports' /readyz, who is ready, and asks another one when a connection fails; a
GET also when the connection is closed before the first byte of an answer. Which processes there are it is told at its
runtime socket, under names that are never used twice: `X-Served-By` says who has answered.
"""

import asyncio
import contextlib
import csv
import os
import shutil
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Protocol

from loadtests.system.http_client import Rotation
from loadtests.system.processes import free_port, spawned, stopped
from loadtests.system.replicas import Faulty, Replica
from loadtests.system.wires import LOOPBACK, listens
from ops.local.reaper import Reaper

SERVED_BY = "X-Served-By"
CHECK_EVERY = 0.25
"""Seconds between two looks at whether a process is ready."""
CHECK_SECONDS = 2.0
"""Seconds after which one that does not say is not ready."""
START_SECONDS = 10.0
STOP_SECONDS = 5.0
POLL_SECONDS = 0.02

CONFIGURATION = """\
global
    maxconn 4000
    nbthread 1
    stats socket {socket} mode 600 level admin

defaults
    mode http
    option redispatch 1
    retries 3
    timeout connect 1s
    timeout check {check}s
    timeout queue 1s
    timeout client 75s
    timeout http-request 20s
    timeout http-keep-alive 75s
    timeout server 20s
"""

PROXY = """
frontend {kind}
    bind {host}:{port}
    default_backend {kind}s

backend {kind}s
    balance roundrobin
    option httpchk GET /readyz
    http-check expect status 200
    # What was sent may be sent again only if that changes nothing; a connection that failed is tried again for all.
    retry-on conn-failure empty-response
    http-request disable-l7-retry unless METH_GET
    http-response set-header {served_by} %s
"""

_BACKENDS, _SERVERS = 2, 4
"""Of `show stat`."""

# A server that is added at run time inherits nothing; without a pool each request has a connection of its own.
SERVER = (
    "add server {kind}s/{name} {host}:{port} check port {admin_port} inter {every}ms fastinter 100ms fall 2 rise 1 "
    "pool-max-conn 100 pool-purge-delay 5s"
)


class Front(Protocol):
    """What Deployments tell of their processes, and the ports that clients may connect to."""

    kind: str
    lookup: Rotation
    intake: Rotation
    pid: int
    """Of HAProxy, if there is one."""

    async def retries(self) -> int:
        """How often the front itself has gone on to another process since it began, because one took no connection,
        or closed it without a byte of an answer.
        """

    async def came(self, replica: Replica) -> None:
        """This one is ready."""

    async def went(self, replica: Replica) -> None:
        """This one has ended."""


class ClientSide:
    """No process in between: clients go to a process that is ready, as far as was seen a moment ago."""

    kind, pid = "rotation", 0

    def __init__(self) -> None:
        self.lookup, self.intake = Rotation(), Rotation()
        self._replicas: list[Replica] = []

    async def retries(self) -> int:
        return 0

    async def came(self, replica: Replica) -> None:
        self._replicas.append(replica)
        self._put(replica, ready=True)

    async def went(self, replica: Replica) -> None:
        self._replicas.remove(replica)
        self._put(replica, ready=False)

    async def watch(self) -> None:
        """Until cancelled: look who is ready."""
        while True:
            await asyncio.gather(*(self._look(replica) for replica in self._replicas))
            await asyncio.sleep(CHECK_EVERY)

    async def _look(self, replica: Replica) -> None:
        ready = await replica.ready(CHECK_SECONDS)
        if replica in self._replicas:
            self._put(replica, ready=ready)

    def _put(self, replica: Replica, *, ready: bool) -> None:
        ports = (self.lookup if _kind(replica) == "lookup" else self.intake).ports
        if ready and replica.port not in ports:
            ports.append(replica.port)
        elif not ready and replica.port in ports:
            ports.remove(replica.port)


class HAProxy:
    """HAProxy, told by its runtime socket."""

    kind = "haproxy"

    def __init__(self, socket: Path) -> None:
        self.lookup, self.intake = Rotation([free_port()]), Rotation([free_port()])
        self.pid = 0
        self._socket = socket

    async def came(self, replica: Replica) -> None:
        kind, name = _kind(replica), f"{_kind(replica)}s/{replica.label}"
        server = SERVER.format(
            kind=kind,
            name=replica.label,
            host=LOOPBACK,
            port=replica.port,
            admin_port=replica.admin_port,
            every=round(CHECK_EVERY * 1000),
        )
        await self._tell(server, expect="New server registered")
        await self._tell(f"enable health {name}")
        await self._tell(f"enable server {name}")

    async def until_told(self) -> None:
        """Return when its runtime socket, which it makes behind its ports, takes commands."""
        async with asyncio.timeout(START_SECONDS):
            while True:
                with contextlib.suppress(OSError):
                    await self.states()
                    return
                await asyncio.sleep(POLL_SECONDS)

    async def went(self, replica: Replica) -> None:
        name = f"{_kind(replica)}s/{replica.label}"
        await self._tell(f"disable server {name}")
        await self._tell(f"shutdown sessions server {name}")
        # It may refuse that for the sake of idle connections; a disabled one does no harm.
        await self._ask(f"del server {name}")

    async def retries(self) -> int:
        # Of the backends, not of the servers: those take their counts with them when they go. A request that was sent
        # and is repeated is counted as `wretr` too.
        return sum(int(row["wredis"]) for row in await self._stat(_BACKENDS))

    async def states(self) -> dict[str, str]:
        """What HAProxy thinks of each process: UP, DOWN, MAINT and the like."""
        return {row["svname"]: row["status"] for row in await self._stat(_SERVERS)}

    async def _stat(self, kind: int) -> "list[dict[str, str]]":
        lines = (await self._ask(f"show stat -1 {kind} -1")).removeprefix("# ").splitlines()
        return list(csv.DictReader(line for line in lines if line))

    async def _tell(self, command: str, expect: str = "") -> None:
        answer = (await self._ask(command)).strip()
        if not answer.startswith(expect) or (answer and not expect):
            raise Faulty(f"HAProxy answered to {command!r}: {answer}")

    async def _ask(self, command: str) -> str:
        reader, writer = await asyncio.open_unix_connection(str(self._socket))
        try:
            writer.write(command.encode() + b"\n")
            await writer.drain()
            return (await reader.read()).decode()
        finally:
            writer.close()


def _kind(replica: Replica) -> str:
    return replica.label.partition("-")[0]


def program() -> str | None:
    """Where HAProxy is, if it is installed."""
    return shutil.which("haproxy", path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin")))


@contextlib.asynccontextmanager
async def running(folder: Path, reaper: Reaper, haproxy: str | None) -> AsyncIterator[Front]:
    """A front without processes behind it. `haproxy`: the program, None for a rotation. Raises Faulty."""
    if haproxy is None:
        front = ClientSide()
        watching = asyncio.create_task(front.watch())
        try:
            yield front
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        return
    async with _haproxy(folder, reaper, haproxy) as proxy:
        yield proxy


@contextlib.asynccontextmanager
async def _haproxy(folder: Path, reaper: Reaper, program: str) -> AsyncIterator[HAProxy]:
    front = HAProxy(folder / "socket")
    ports = {"lookup": front.lookup.ports[0], "intake": front.intake.ports[0]}
    configuration, log = folder / "haproxy.cfg", folder / "haproxy.log"
    configuration.write_text(_configuration(folder / "socket", ports))
    process = await spawned(program, "-db", "-f", str(configuration), log=log)
    front.pid = process.pid
    reaper.watch(process.pid, signal.SIGTERM)
    try:
        await _until_listening(process, [*ports.values()], log)
        await front.until_told()
        yield front
    finally:
        await stopped(process, STOP_SECONDS)
        reaper.forget(process.pid)


def _configuration(socket: Path, ports: "dict[str, int]") -> str:
    proxies = [PROXY.format(kind=kind, host=LOOPBACK, port=port, served_by=SERVED_BY) for kind, port in ports.items()]
    return CONFIGURATION.format(socket=socket, check=round(CHECK_SECONDS)) + "".join(proxies)


async def _until_listening(process: asyncio.subprocess.Process, ports: Sequence[int], log: Path) -> None:
    async with asyncio.timeout(START_SECONDS):
        for port in ports:
            while not await listens(port):
                if process.returncode is not None:
                    raise Faulty(f"HAProxy ended while it started; its log is {log}")
                await asyncio.sleep(POLL_SECONDS)
