"""A Redis primary, its replica, and three Sentinels that promote the replica when the primary does not answer.

All know a member by its wire's port, because that is what Sentinels hand out: clients, the Sentinels themselves,
and the replication. The servers' own connections come from PEERS, which wires spare unless told otherwise.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import redis.asyncio
import redis.exceptions

from loadtests.system.processes import free_port
from loadtests.system.replicas import Faulty
from loadtests.system.wires import LOOPBACK, PEERS, Wire, Wires
from ops.local import sentinel_group
from ops.local.reaper import Reaper
from ops.local.sentinel_group import PASSWORD, Sentinel, sentinel_ids, sentinel_settings
from ops.local.valkey import ValkeyServer

NAME = "dossiers"
DOWN_AFTER = 1.5
"""Seconds without an answer after which a Sentinel takes a member for dead."""
FAILOVER_TIMEOUT = 3.0
"""Seconds for a failover; for twice as long there is no second one."""
ANSWER_SECONDS = 1.0
STEP_SECONDS = 60.0
"""A Sentinel whose own timer came late does nothing for thirty."""
POLL_SECONDS = 0.1

SETTINGS: Mapping[str, str] = {
    "masterauth": PASSWORD,
    "repl-diskless-sync-delay": "0",
    "repl-ping-replica-period": "1",
    "repl-timeout": "5",
    "bind-source-addr": PEERS,
    "replica-announce-ip": LOOPBACK,
}

ANNOUNCED: Mapping[str, str] = {"bind-source-addr": PEERS, "sentinel announce-ip": LOOPBACK}
"""A Sentinel would announce the address that it speaks from, and listens at the other one."""

NOT_NOW = (redis.exceptions.RedisError, OSError, TimeoutError)


T = TypeVar("T", bound=ValkeyServer)


class Member(sentinel_group.GroupMember):
    """One Redis and the wire that leads to it. What Sentinels make it write into its configuration stays there."""

    wire: Wire
    label: str
    """redis1, redis2."""

    @property
    def _configuration_path(self) -> Path:
        return self.data_directory / "valkey.conf"  # where it may write

    def _prepare(self) -> None:
        if not self._configuration_path.exists():
            super()._prepare()
        else:
            self._password = self._read_password()


class Group:
    """The members and the Sentinels that watch them."""

    def __init__(self, members: list[Member], sentinels: list[Sentinel]) -> None:
        self.members = members
        self.sentinels = sentinels

    @property
    def url(self) -> str:
        """For processes."""
        places = ",".join(f"{sentinel.host}:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://:{PASSWORD}@{places}/{NAME}/0"

    async def primary(self) -> Member:
        """Whom they name, asked until they name one. Raises Faulty after a minute."""
        deadline = time.monotonic() + STEP_SECONDS
        while (member := await self.named()) is None:
            if time.monotonic() > deadline:
                raise Faulty(f"no Sentinel has named a primary in {STEP_SECONDS:g} s")
            await asyncio.sleep(POLL_SECONDS)
        return member

    async def named(self) -> Member | None:
        """The member that most Sentinels name which answer within a second; None if they name none of them."""
        ports = Counter(port for port in await asyncio.gather(*map(self._named, self.sentinels)) if port)
        most = [port for port, _ in ports.most_common(1)]
        return next((member for member in self.members if [member.wire.port] == most), None)

    async def in_step(self) -> None:
        """Return once all living Sentinels name one living primary, and its living replica has all it has written.

        Raises Faulty after a minute.
        """
        deadline = time.monotonic() + STEP_SECONDS
        written: dict[Member, int] = {}
        while why := await self._out_of_step(written):
            if time.monotonic() > deadline:
                raise Faulty(f"Redis is not in step in {STEP_SECONDS:g} s: {why}")
            await asyncio.sleep(POLL_SECONDS)

    async def call(self, member: Member, *words: bytes | str | float) -> Any:
        """One command, past the wire, within a second. Raises redis-py's exceptions and TimeoutError."""
        return await _call(member.port, PASSWORD, *words)

    async def _named(self, sentinel: Sentinel) -> int:
        """The port of whom this one calls the primary; 0 when it does not answer."""
        try:
            answer = await _call(sentinel.port, None, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)
        except NOT_NOW:
            return 0
        return int(answer[1]) if answer else 0

    async def _out_of_step(self, written: dict[Member, int]) -> str:
        """Why not yet; empty when everything is. `written`: where a primary was when it was asked first."""
        ports = {await self._named(sentinel) for sentinel in self.sentinels if sentinel.alive}
        primary = next((member for member in self.members if {member.wire.port} == ports), None)
        if primary is None or not primary.alive:
            return f"the Sentinels name {', '.join(map(str, sorted(ports)))}"
        try:
            role, offset, replicas = await self.call(primary, "ROLE")
        except (*NOT_NOW, ValueError):  # a replica's ROLE has more parts
            return "whom they name is no primary"
        if role != b"master":
            return "whom they name is no primary"
        due = written.setdefault(primary, offset)
        have = {int(port): int(at) for _, port, at in replicas}
        others = [member for member in self.members if member is not primary and member.alive]
        if not all(have.get(member.wire.port, -1) >= due for member in others):
            return "the replica is behind"
        for sentinel in self.sentinels:
            if sentinel.alive and not await self._takes_for_well(sentinel, {member.wire.port for member in others}):
                return "a Sentinel would not promote the replica"
        return ""

    async def _takes_for_well(self, sentinel: Sentinel, ports: set[int]) -> bool:
        try:
            replicas = await _call(sentinel.port, None, "SENTINEL", "REPLICAS", NAME)
        except NOT_NOW:
            return False
        states = [dict(zip(each[::2], each[1::2], strict=True)) for each in replicas]
        well = {int(state[b"port"]) for state in states if state[b"flags"] == b"slave"}
        return ports <= well


async def _call(port: int, password: str | None, *words: Any) -> Any:
    # No socket_timeout: under one, redis-py sends with asyncio.wait_for, and a call cancelled then may go on.
    client: Any = redis.asyncio.Redis(port=port, password=password, protocol=2, socket_timeout=None)
    async with asyncio.timeout(ANSWER_SECONDS), client:
        return await client.execute_command(*words)


@contextlib.asynccontextmanager
async def running(folder: Path, wires: Wires, reaper: Reaper) -> AsyncIterator[Group]:
    """A group in step, for as long as the block runs."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(kind: type[T], name: str, port: int, own: Mapping[str, str]) -> T:
            server = await asyncio.to_thread(kind.start, folder / name, port=port, settings=own, reaper=reaper)
            stack.push_async_callback(asyncio.to_thread, server.stop)
            return server

        async def member(name: str, primary: Member | None) -> Member:
            wire = await wires.lay(free_port())
            follows = {"replicaof": f"{LOOPBACK} {primary.wire.port}"} if primary is not None else {}
            own = {**SETTINGS, **follows, "replica-announce-port": str(wire.port)}
            started = await start(Member, name, wire.target, own)
            started.wire, started.label = wire, name
            return started

        members = [first := await member("redis1", None), await member("redis2", first)]
        ports = _of_sentinels([each.wire.port for each in members])
        starting = (start(Sentinel, f"sentinel{n}", port, ports[port]) for n, port in enumerate(ports, 1))
        group = Group(members, list(await asyncio.gather(*starting)))
        await group.in_step()
        yield group


def _of_sentinels(members: Sequence[int]) -> dict[int, dict[str, str]]:
    """Ports of three Sentinels, and the settings of each. `members`: the wires' ports, the primary's first."""
    primary, *replicas = members
    ids = sentinel_ids([free_port() for _ in range(3)])
    times = {"down_after": DOWN_AFTER, "failover_timeout": FAILOVER_TIMEOUT}
    return {
        port: {**sentinel_settings(NAME, port, ids, primary=primary, replicas=replicas, **times), **ANNOUNCED}
        for port in ids
    }
