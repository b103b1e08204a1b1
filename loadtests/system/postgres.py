"""Three Postgres servers: a primary and two standbys, either of which has to have a commit before it is acknowledged.

fsync is off: a process that is killed loses nothing it has handed to the system, and no fault here takes the system
away. Replication goes from server to server; SQL goes by way of a node's wire, or directly to look.
"""

import asyncio
import contextlib
import os
import secrets
import shlex
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from loadtests.system.processes import free_port
from loadtests.system.replicas import Faulty
from loadtests.system.replicated_postgres import ReplicatedPostgres
from loadtests.system.wires import LOOPBACK, Wire, Wires
from ops.local.accounts import Account
from ops.local.cannot_start import CannotStart
from ops.local.reaper import Reaper

NODES = ("pg1", "pg2", "pg3")
"""Each node's cluster_name, by which the primary knows it as a standby."""
DATABASE = "hoso24"
ROLES = (
    *("owner", "writer", "relay", "reader", "notary", "auditor", "archivist", "webhooks", "desk", "notices", "figures"),
)
SUPERUSER = "admin"
"""The role to be connected as to be the superuser."""

ANSWER_SECONDS = 2.0
"""A server that takes longer to be connected to is not asked."""
STEP_SECONDS = 60.0
STREAM_SECONDS = 10.0
POLL_SECONDS = 0.02

SETTINGS: Mapping[str, str] = {
    "fsync": "off",
    "max_connections": "150",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "wal_keep_size": "512MB",  # a standby that was away for minutes finds what it missed
    "archive_mode": "on",
    # A side that is gone without a word is given up in seconds; the usual minute is too long here.
    "wal_sender_timeout": "5s",
    "wal_receiver_timeout": "5s",
    "wal_receiver_status_interval": "1s",
    "wal_retrieve_retry_interval": "200ms",
}

RECEIVED = """
SELECT (greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) - '0/0'::pg_lsn)::bigint
 WHERE pg_is_in_recovery()
"""

PROMOTE = "SELECT pg_promote(true, $1::integer)"

REPLAYED = """
SELECT application_name
  FROM pg_stat_replication
 WHERE state = 'streaming'
   AND replay_lsn >= $1::text::pg_lsn
"""


@dataclass(eq=False)
class Node:
    """One server and the wire that leads to it."""

    name: str
    server: ReplicatedPostgres
    wire: Wire


class Cluster:
    """The servers, and who is primary. What changes that is what an operator would do, by hand or by a program."""

    def __init__(self, primary: Node, passwords: Mapping[str, str]) -> None:
        self.nodes = [primary]
        self.primary = primary
        self._passwords = passwords

    @property
    def standbys(self) -> list[Node]:
        """All but the primary, living or not."""
        return [node for node in self.nodes if node is not self.primary]

    def url(self, role: str, nodes: Sequence[Node] | None = None, *, options: str = "") -> str:
        """For processes: by way of the wires, with every node as a host."""
        hosts = ",".join(f"{LOOPBACK}:{node.wire.port}" for node in nodes or self.nodes)
        return f"postgresql://hoso24_{role}:{self._passwords[role]}@{hosts}/{DATABASE}{options}"

    def direct_url(self, role: str, node: Node | None = None) -> str:
        """Past the wire, to one server: the present primary if none is named."""
        server = (node or self.primary).server
        if role == SUPERUSER:
            return f"{server.admin_url.rpartition('/')[0]}/{DATABASE}"
        return f"postgresql://hoso24_{role}:{self._passwords[role]}@{server.host}:{server.port}/{DATABASE}"

    @contextlib.asynccontextmanager
    async def connected(self, role: str = SUPERUSER, node: Node | None = None) -> AsyncIterator[asyncpg.Connection]:
        """Past the wire, as one of ROLES or SUPERUSER: to the primary if no node is named.

        Raises what asyncpg raises, and TimeoutError for a server that hangs.
        """
        connection = await asyncpg.connect(self.direct_url(role, node), timeout=ANSWER_SECONDS)
        try:
            yield connection
        finally:
            connection.terminate()  # never waits for a server that hangs

    async def ask(self, sql: str, *arguments: object, node: Node | None = None) -> Any:
        """One value, as the superuser, within ANSWER_SECONDS; from the primary if no node is named."""
        async with self.connected(node=node) as connection:
            return await connection.fetchval(sql, *arguments, timeout=ANSWER_SECONDS)

    async def promote(self) -> Node:
        """The standby that has received most becomes the primary; of those that live and answer. Raises Faulty.

        Before it takes its first commit it knows that it has to wait for another node, and the others that live
        follow it. The former primary has to be gone, or cut off: this does not see to that.
        """
        received = await self._received()
        if not received:
            raise Faulty("there is no standby that could be promoted")
        chosen = max(received, key=lambda node: received[node])
        await asyncio.gather(
            self._set(chosen, synchronous_standby_names=self._any_other_than(chosen), recovery_min_apply_delay="0"),
            *(self._set(node, primary_conninfo=_conninfo(chosen)) for node in received if node is not chosen),
        )
        async with self.connected(node=chosen) as connection:
            if not await connection.fetchval(PROMOTE, round(STEP_SECONDS)):
                raise Faulty(f"{chosen.name} is not promoted in {STEP_SECONDS:g} s; log: {chosen.server.log_path}")
        self.primary = chosen
        return chosen

    async def rejoin(self, node: Node, *, afresh: bool = False) -> None:
        """It follows the present primary again, by pg_rewind or, if that fails or is not wanted, by a new base backup.

        Returns once it streams. Raises CannotStart and Faulty.
        """
        async with self.connected() as connection:
            await connection.execute("CHECKPOINT")  # pg_rewind looks there for the primary's timeline
        try:
            await asyncio.to_thread(node.server.follow, self.primary.server, afresh=afresh)
            await self._until_streaming(node, STREAM_SECONDS)
        except (CannotStart, Faulty):
            if afresh:
                raise
            await self.rejoin(node, afresh=True)

    async def in_step(self) -> None:
        """Return once every living standby streams and has replayed what the primary has written by now.

        Raises Faulty after a minute.
        """
        # Not the insert position: what no commit waits for is written within seconds only, when the system is quiet.
        written = await self.ask("SELECT pg_current_wal_lsn()::text")
        living = {node.name for node in self.standbys if node.server.alive}
        await self._until_replayed(living, written, STEP_SECONDS)

    async def delay(self, node: Node, seconds: float) -> None:
        """From now on the standby replays a commit only so long after it; 0 ends that. It receives as ever."""
        await self._set(node, recovery_min_apply_delay=f"{round(seconds * 1000)}ms")

    async def add_standby(self, node: Node) -> None:
        """Take in one that was started as a standby of the primary."""
        self.nodes.append(node)
        await self._until_streaming(node, STEP_SECONDS)

    async def demand_standbys(self) -> None:
        """From now on the primary acknowledges nothing that no other node has."""
        await self._set(self.primary, synchronous_standby_names=self._any_other_than(self.primary))

    def _any_other_than(self, primary: Node) -> str:
        return f"ANY 1 ({', '.join(node.name for node in self.nodes if node is not primary)})"

    async def _set(self, node: Node, **settings: str) -> None:
        async with self.connected(node=node) as connection:
            for setting, value in settings.items():
                await connection.execute(f"ALTER SYSTEM SET {setting} = '{value}'", timeout=ANSWER_SECONDS)
            await connection.execute("SELECT pg_reload_conf()", timeout=ANSWER_SECONDS)

    async def _received(self) -> dict[Node, int]:
        """How far each standby that answers has got."""
        living = [node for node in self.standbys if node.server.alive]
        answers = await asyncio.gather(*(self.ask(RECEIVED, node=node) for node in living), return_exceptions=True)
        return {node: at for node, at in zip(living, answers, strict=True) if isinstance(at, int)}

    async def _until_streaming(self, node: Node, seconds: float) -> None:
        await self._until_replayed({node.name}, "0/0", seconds)

    async def _until_replayed(self, names: set[str], written: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        async with self.connected() as connection:
            while behind := names - {name for (name,) in await connection.fetch(REPLAYED, written)}:
                if time.monotonic() > deadline:
                    raise Faulty(f"not in step with {self.primary.name} in {seconds:g} s: {', '.join(sorted(behind))}")
                await asyncio.sleep(POLL_SECONDS)


def _conninfo(primary: Node) -> str:
    parts = urlsplit(primary.server.admin_url)
    return f"host={parts.hostname} port={parts.port} user={parts.username} password={parts.password}"


@contextlib.asynccontextmanager
async def running(
    folder: Path,
    wires: Wires,
    reaper: Reaper,
    prepare: Callable[[Cluster], Awaitable[None]],
) -> AsyncIterator[Cluster]:
    """A cluster in step, for as long as the block runs. Raises CannotStart.

    `prepare` is called while there is only the primary, whose data the standbys then begin with. Every node archives
    its log in `folder`/archive while it is the primary.
    """
    archive = folder / "archive"
    passwords = {role: secrets.token_hex(16) for role in ROLES}
    async with contextlib.AsyncExitStack() as stack:

        async def start(name: str, primary: ReplicatedPostgres | None) -> Node:
            own = {"cluster_name": name, "archive_command": _archive_command(archive), **SETTINGS}
            options: dict[str, Any] = {"port": free_port(), "settings": own, "reaper": reaper}
            if primary is None:
                server = await asyncio.to_thread(ReplicatedPostgres.start, folder / name, **options)
            else:
                server = await asyncio.to_thread(ReplicatedPostgres.start_standby, folder / name, primary, **options)
            stack.push_async_callback(asyncio.to_thread, server.stop)
            return Node(name, server, await wires.lay(server.port))

        await asyncio.to_thread(_make_for_servers, archive)
        cluster = Cluster(await start(NODES[0], None), passwords)
        await prepare(cluster)
        for standby in await asyncio.gather(*(start(name, cluster.primary.server) for name in NODES[1:])):
            await cluster.add_standby(standby)
        await cluster.demand_standbys()
        await cluster.in_step()
        yield cluster


def _make_for_servers(directory: Path) -> None:
    """A directory that the servers' account may write to."""
    directory.mkdir(parents=True, exist_ok=True)
    account = Account.unprivileged()
    if account is not None:
        os.chown(directory, account.uid, account.gid)


def _archive_command(archive: Path) -> str:
    kept = f"{shlex.quote(str(archive))}/%f"
    return f"test ! -f {kept} && cp %p {kept}"
