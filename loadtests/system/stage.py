"""The system of a game day on one machine: servers as in production, processes behind a front, wires in between.

Whatever happens in the block that uses it, everything is ended with it; a game day that is killed itself leaves that to
the reaper.
"""

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtests.system import front, postgres, redis
from loadtests.system.front import Front
from loadtests.system.http_client import NoAnswer, Rotation
from loadtests.system.postgres import SUPERUSER, Cluster
from loadtests.system.processes import HOSO24, CannotMeasure, finished, free_port, spawned, stopped
from loadtests.system.redis import Group
from loadtests.system.replicas import NOTHING_MORE, Deployment, Faulty, Replica
from loadtests.system.wires import Wire, Wires
from ops.local.cannot_start import CannotStart
from ops.local.reaper import Reaper

Say = Callable[[str], None]

PREPARE_SECONDS = 120.0
POLL_SECONDS = 0.05
SPARE_PORTS = 3

PAPER_FILES: Mapping[str, str] = {
    "HOSO24_PAPER_KEY_FILE": "paper-key.pem",
    "HOSO24_PAPER_PUBLIC_KEYS": "paper-keys.json",
}
"""Setting → the file that `hoso24 up` has made."""

SETTINGS: Mapping[str, str] = {
    "HOSO24_HOST": "127.0.0.1",
    "HOSO24_TRUSTED_PROXIES": "127.0.0.0/8",  # the front, and generators that speak for many clients
    "HOSO24_DRAIN_SECONDS": "2",  # the front has noticed within one
    "HOSO24_CLIENT_WRITES": "1000000",  # one client stands for all desks
    "HOSO24_CLIENT_READS": "1000000",
    "HOSO24_PARTNERS": "127.0.0.0/8",  # for our own checks; citizens have other addresses
    "HOSO24_WEBHOOK_NETWORKS": "127.0.0.0/8",  # the receiver is the load's own
}


@dataclass
class StagedSystem:
    """Everything that runs, and how to reach it."""

    folder: Path
    postgres: Cluster
    redis: Group
    lookups: Deployment
    intakes: Deployment
    relays: Deployment
    notaries: Deployment
    """One process."""
    webhooks: Deployment
    """One process."""
    desks: Deployment
    """One process, which alone issues papers."""
    desk_ports: Rotation
    front: Front
    wire_process: Wires
    reaper: Reaper
    token: str
    """Of a client that may do everything under agency G99."""
    environ: Mapping[str, str]
    """What a process is started with."""
    books_key: str
    """The public half of the key that signs the books."""

    @property
    def deployments(self) -> tuple[Deployment, ...]:
        return self.lookups, self.intakes, self.relays, self.notaries, self.webhooks, self.desks

    @property
    def wires(self) -> dict[str, Wire]:
        """By what they lead to: pg1, pg2, pg3, redis1, redis2."""
        postgres = {node.name: node.wire for node in self.postgres.nodes}
        return postgres | {member.label: member.wire for member in self.redis.members}

    @property
    def operator(self) -> dict[str, str]:
        """What `hoso24 migrate`, `hoso24 cache renew` and the like are started with: the present primary, directly."""
        return {
            **self.environ,
            "HOSO24_PG_AUDITOR_URL": self.postgres.direct_url("auditor"),
            "HOSO24_PG_OWNER_URL": self.postgres.direct_url("owner"),
            "HOSO24_PG_ADMIN_URL": self.postgres.direct_url(SUPERUSER),
        }

    async def desk_link(self) -> str:
        """The secret of a one-time link for the sample's officer at a counter. Raises NoAnswer."""
        command = (*HOSO24, "desk", "link", "--as", "binh")
        status, said = await finished(*command, environ=self.desks.environ, seconds=PREPARE_SECONDS)
        if status:
            raise NoAnswer(f"there is no link: {said.strip()}")
        return said.strip().partition("?k=")[2]

    async def mend(self) -> None:
        """Start a process for each that has ended. Raises Faulty."""
        for deployment in self.deployments:
            await deployment.mend()


@contextlib.asynccontextmanager
async def staged(
    folder: Path,
    say: Say,
    *,
    lookups: int = 3,
    intakes: int = 2,
    relays: int = 2,
    settings: Mapping[str, str] = NOTHING_MORE,
    haproxy: bool = True,
) -> AsyncIterator[StagedSystem]:
    """Up, migrated, the sample catalogue in, all in step and ready; ended with the block, whatever happened in it.

    `settings` are for the processes. Without `haproxy`, or where that is not installed, clients balance themselves.
    Raises CannotMeasure when it does not come up.
    """
    folder = _laid_out(folder)
    keys = {
        "HOSO24_LOOKUP_KEY_SECRETS": f"0:{secrets.token_hex(32)}",
        "HOSO24_SEAL_KEYS": f"stage:{secrets.token_hex(32)}",
        "HOSO24_WEBHOOK_SECRET": secrets.token_hex(32),
        "HOSO24_BOOKS": str(folder / "books"),
        "HOSO24_BOOKS_KEY": secrets.token_hex(32),
        "HOSO24_BOOKS_ORIGIN": "gameday.example/books",
    }
    token = ""

    async def prepare(cluster: Cluster) -> None:
        nonlocal token
        token = await _furnished(folder / "prepare", cluster, keys)

    async with contextlib.AsyncExitStack() as stack:
        reaper = stack.enter_context(Reaper())
        wires = await Wires.start()
        stack.push_async_callback(wires.close)
        try:
            say("Starting PostgreSQL …")
            cluster = await stack.enter_async_context(postgres.running(folder / "postgres", wires, reaper, prepare))
            say("Starting Valkey and its Sentinels …")
            group = await stack.enter_async_context(redis.running(folder / "redis", wires, reaper))
            door = await stack.enter_async_context(
                front.running(folder / "front", reaper, front.program() if haproxy else None)
            )
            environ = {**_environ(cluster, group, door), **SETTINGS, **keys, **settings}
            logs, desk_ports = folder / "logs", Rotation()

            async def desk_came(replica: Replica) -> None:
                desk_ports.ports.append(replica.port)

            async def desk_went(replica: Replica) -> None:
                desk_ports.ports.remove(replica.port)

            of_desks = environ | {
                name: str(folder / "prepare" / ".hoso24" / file) for name, file in PAPER_FILES.items()
            }
            stage = StagedSystem(
                folder,
                cluster,
                group,
                Deployment("lookup", environ, logs, reaper, door.came, door.went, admin_ports=_ports(lookups)),
                Deployment("intake", environ, logs, reaper, door.came, door.went, admin_ports=_ports(intakes)),
                Deployment("relay", environ, logs, reaper, admin_ports=_ports(relays)),
                Deployment("notary", environ, logs, reaper, admin_ports=_ports(1)),
                Deployment("webhooks", environ, logs, reaper, admin_ports=_ports(1)),
                Deployment("desk", of_desks, logs, reaper, desk_came, desk_went, admin_ports=_ports(1)),
                desk_ports,
                door,
                wires,
                reaper,
                token,
                environ,
                await _books_begun(environ),
            )
            say(f"Starting {relays} relays, {lookups} lookups, {intakes} intakes, and what there is one of …")
            stack.push_async_callback(_close, stage.deployments)
            counts = (lookups, intakes, relays, 1, 1, 1)
            await asyncio.gather(*(each.scale(n) for each, n in zip(stage.deployments, counts, strict=True)))
        except (CannotStart, Faulty) as reason:
            raise CannotMeasure(str(reason)) from reason
        yield stage


def _laid_out(folder: Path) -> Path:
    folder = folder.resolve()
    for part in ("postgres", "redis", "front", "prepare", "logs", "prometheus", "books"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    # Started as root, the servers run under another account, which has to get in.
    folder.chmod(folder.stat().st_mode | 0o711)
    return folder


def _ports(processes: int) -> list[int]:
    """Admin ports for so many, and for those that take their place while they are still there."""
    return [free_port() for _ in range(processes + SPARE_PORTS)]


async def _close(deployments: Sequence[Deployment]) -> None:
    await asyncio.gather(*(deployment.close() for deployment in deployments))


def _environ(cluster: Cluster, group: Group, door: Front) -> dict[str, str]:
    """How processes reach the servers: by way of the wires, every node named, and the primary picked where need be."""
    primary = "?target_session_attrs=primary"
    environ = {
        "HOSO24_PG_READER_URL": cluster.url("reader"),
        "HOSO24_PG_WRITER_URL": cluster.url("writer", options=primary),
        "HOSO24_PG_RELAY_URL": cluster.url("relay", options=primary),
        "HOSO24_PG_NOTARY_URL": cluster.url("notary", options=primary),
        "HOSO24_PG_WEBHOOKS_URL": cluster.url("webhooks", options=primary),
        "HOSO24_PG_DESK_URL": cluster.url("desk", options=primary),
        "HOSO24_REDIS_URL": group.url,
    }
    if door.lookup.ports:
        environ["HOSO24_PUBLIC_URL"] = f"http://127.0.0.1:{door.lookup.ports[0]}"
    return environ


async def _books_begun(environ: Mapping[str, str]) -> str:
    """Begin the books of the environment; the public half of their key."""
    status, said = await finished(*HOSO24, "notary", "--first", environ=environ, seconds=PREPARE_SECONDS)
    if status:
        raise CannotMeasure(f"The books cannot be begun: {said.strip()}")
    return said.split()[-1]


async def _furnished(folder: Path, cluster: Cluster, keys: Mapping[str, str]) -> str:
    """Roles, schema, sample catalogue and dossiers, put in by `hoso24 up`; the token of the client it makes."""
    roles = {f"HOSO24_PG_{role.upper()}_URL": cluster.direct_url(role) for role in postgres.ROLES}
    # The database does not exist yet: it is the superuser's own that is connected to.
    others = {"HOSO24_PG_ADMIN_URL": cluster.primary.server.admin_url, "HOSO24_REDIS_URL": "redis://127.0.0.1:1/0"}
    log = folder / "log"
    command = (*HOSO24, "up", "--servers-only")
    process = await spawned(*command, log=log, cwd=folder, environ={**roles, **others, **keys})
    try:
        async with asyncio.timeout(PREPARE_SECONDS):
            return await _token(folder, process, log)
    except TimeoutError:
        raise CannotMeasure(f"The database was not prepared within {PREPARE_SECONDS:g} s; the log is {log}.") from None
    finally:
        await stopped(process)


async def _token(folder: Path, process: asyncio.subprocess.Process, log: Path) -> str:
    up = folder / ".hoso24" / "up.json"
    while not up.exists():
        if process.returncode is not None:
            raise CannotMeasure(f"The database could not be prepared; the log is {log}.")
        await asyncio.sleep(POLL_SECONDS)
    return str(json.loads(up.read_text("utf-8"))["token"])
