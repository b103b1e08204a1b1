"""The processes, and how one takes another's place: as Kubernetes does it, on one machine.

Told to stop, a process withdraws its readiness by itself. That is noticed a little later, and only then do new
connections go elsewhere; meanwhile it takes and answers them. It ends when it has drained.
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import MappingProxyType

from loadtests.system.http_client import PATIENCE, get
from loadtests.system.processes import HOSO24, free_port, spawned, stopped
from ops.local.reaper import Reaper

READY_SECONDS = 60.0
STOP_SECONDS = 60.0
"""As long as the manifests let a process take (terminationGracePeriodSeconds)."""
POLL_SECONDS = 0.02

PORTS = {
    "lookup": ("HOSO24_LOOKUP_PORT", "HOSO24_LOOKUP_ADMIN_PORT"),
    "intake": ("HOSO24_INTAKE_PORT", "HOSO24_INTAKE_ADMIN_PORT"),
    "relay": ("", "HOSO24_RELAY_ADMIN_PORT"),
    "notary": ("HOSO24_NOTARY_PORT", "HOSO24_NOTARY_ADMIN_PORT"),
    "webhooks": ("", "HOSO24_WEBHOOKS_ADMIN_PORT"),
    "desk": ("HOSO24_DESK_PORT", "HOSO24_DESK_ADMIN_PORT"),
}
"""Kind → the variables that name its public port, if it has one, and its admin port."""

NOTHING_MORE: Mapping[str, str] = MappingProxyType({})


class Order(Enum):
    """Which of the two comes first."""

    NEW_FIRST = "new-first"
    """maxSurge 1, maxUnavailable 0, as in the manifests."""
    OLD_FIRST = "old-first"
    """maxSurge 0, maxUnavailable 1: for a moment there is one less."""


class Faulty(Exception):
    """A process did not start, or did not end, as it should; one sentence."""


@dataclass
class Replica:
    """One running process."""

    name: str
    port: int
    admin_port: int
    process: asyncio.subprocess.Process
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def label(self) -> str:
        """Its name where there must be no blank: that of its log, and of a server behind a balancer."""
        return self.name.replace(" ", "-")

    @property
    def alive(self) -> bool:
        """Whether it has not ended, as far as is known; a frozen one has not."""
        return self.process.returncode is None

    async def ready(self, seconds: float = PATIENCE) -> bool:
        """What its readiness probe says; one that says nothing for so long is not ready."""
        return (await get(self.admin_port, "/readyz", seconds)).status == 200

    async def leads(self) -> bool:
        """Whether it is the relay that delivers."""
        return b"\nrelay_leader 1.0\n" in (await get(self.admin_port, "/metrics")).body

    async def until_ready(self) -> None:
        """Return once it may be asked. Raises Faulty."""
        deadline = time.monotonic() + READY_SECONDS
        while not await self.ready():
            if self.process.returncode is not None:
                raise Faulty(f"{self.name} ended while it started; its log is {self.log}")
            if time.monotonic() > deadline:
                raise Faulty(f"{self.name} was not ready within {READY_SECONDS:g} s; its log is {self.log}")
            await asyncio.sleep(POLL_SECONDS)

    async def until_unready(self) -> None:
        """Return once its readiness has fallen, or it has ended. It must have been told to stop."""
        while self.process.returncode is None and await self.ready():  # noqa: ASYNC110 - another process's to end
            await asyncio.sleep(POLL_SECONDS)

    async def until_ended(self) -> None:
        """Return once it has ended by itself, and well. Raises Faulty."""
        try:
            async with asyncio.timeout(STOP_SECONDS):
                code = await self.process.wait()
        except TimeoutError:
            raise Faulty(f"{self.name} was still there {STOP_SECONDS:g} s after SIGTERM") from None
        if code != 0:
            raise Faulty(f"{self.name} ended with status {code}; its log is {self.log}")

    def tell_to_stop(self) -> None:
        """SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: it is gone at once, with everything it had under way."""
        self.process.send_signal(signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP: its connections stay, and nothing moves."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)


async def _nothing_in_front(_: Replica) -> None:
    """Nothing stands in front."""


@dataclass
class Deployment:
    """Some processes of one kind. `came` and `went` tell whatever stands in front of them which there are."""

    kind: str
    environ: Mapping[str, str]
    logs: Path
    reaper: Reaper | None = None
    """Ends them if we cannot."""
    came: Callable[[Replica], Awaitable[None]] = _nothing_in_front
    """Called when one is ready."""
    went: Callable[[Replica], Awaitable[None]] = _nothing_in_front
    """Called when one has ended."""
    admin_ports: Sequence[int] = ()
    """Those that processes take in turn, so that a Prometheus knows them beforehand; empty: any that is free."""
    replicas: list[Replica] = field(default_factory=list)
    replaced: int = 0
    longest_stop: float = 0.0
    """From SIGTERM to the end, in seconds."""
    handovers: int = 0
    """Of the relay: how often another one led when the leader had been told to stop."""
    _started: int = 0

    async def scale(self, count: int) -> None:
        """Start that many, and return when all are ready. Raises Faulty."""
        started = [await self._start() for _ in range(count)]
        for replica in started:
            await self._welcome(replica)

    async def add(self, more: Mapping[str, str] = NOTHING_MORE) -> Replica:
        """Start one, with these variables beside or instead of the usual ones; ready. Raises Faulty."""
        replica = await self._start(more)
        await self._welcome(replica)
        return replica

    async def retire(self, replica: Replica, notice: float) -> None:
        """Stop one in good order. `notice`: seconds until a fallen readiness has got about. Raises Faulty."""
        led = self.kind == "relay" and await replica.leads()
        told = time.monotonic()
        replica.tell_to_stop()
        if led:
            await self._handed_over(replica, told)
        await replica.until_unready()
        await asyncio.sleep(notice)  # this is the test: for so long the others go on coming
        await replica.until_ended()
        await self.remove(replica)
        self.longest_stop = max(self.longest_stop, time.monotonic() - told)

    async def remove(self, replica: Replica) -> None:
        """Forget one that has ended, or was killed a moment ago."""
        await replica.process.wait()
        self._forget(replica)
        await self.went(replica)

    async def replace(self, replica: Replica) -> Replica:
        """Start a new one in the place of one that was killed; the new one, ready. Raises Faulty."""
        await self.remove(replica)
        return await self.add()

    async def mend(self) -> list[Replica]:
        """Replace all that have ended, as Kubernetes does; the new ones, ready. Raises Faulty."""
        return [await self.replace(replica) for replica in list(self.replicas) if not replica.alive]

    async def roll(self, order: Order, notice: float) -> None:
        """Replace one after the other; see retire(). Raises Faulty.

        A notary's directory takes no second process: there the old one goes first in any case.
        """
        order = Order.OLD_FIRST if self.kind == "notary" else order
        for old in list(self.replicas):
            if order is Order.NEW_FIRST:
                await self.add()
            await self.retire(old, notice)
            if order is Order.OLD_FIRST:
                await self.add()
            self.replaced += 1

    async def close(self) -> None:
        """End all of them, whatever they are doing."""
        for replica in self.replicas:
            with contextlib.suppress(ProcessLookupError):
                replica.tell_to_stop()
                replica.thaw()  # or it would not hear it
        for replica in self.replicas:
            await stopped(replica.process, STOP_SECONDS / 2)
            if self.reaper is not None:
                self.reaper.forget(replica.pid)

    def admin_port(self) -> int:
        """One that no process has: of those given, the next in turn."""
        taken = {replica.admin_port for replica in self.replicas}
        start = self._started % len(self.admin_ports) if self.admin_ports else 0
        turn = [*self.admin_ports[start:], *self.admin_ports[:start]]
        return next((port for port in turn if port not in taken), None) or free_port()

    async def _start(self, more: Mapping[str, str] = NOTHING_MORE) -> Replica:
        public, admin = PORTS[self.kind]
        ports = {public: free_port()} if public else {}
        ports[admin] = self.admin_port()
        self._started += 1
        log = self.logs / f"{self.kind}-{self._started}.log"
        environ = {**self.environ, **{name: str(port) for name, port in ports.items()}, **more}
        process = await spawned(*HOSO24, self.kind, log=log, environ=environ)
        replica = Replica(f"{self.kind} {self._started}", ports.get(public, 0), ports[admin], process, log)
        self.replicas.append(replica)
        if self.reaper is not None:
            self.reaper.watch(replica.pid, signal.SIGTERM)
        return replica

    async def _welcome(self, replica: Replica) -> None:
        try:
            await replica.until_ready()
        except Faulty:  # nothing else knows of it, or would end it
            with contextlib.suppress(ProcessLookupError):
                replica.kill()
            await replica.process.wait()
            self._forget(replica)
            raise
        await self.came(replica)

    def _forget(self, replica: Replica) -> None:
        self.replicas.remove(replica)
        if self.reaper is not None:
            self.reaper.forget(replica.pid)

    async def _handed_over(self, leaver: Replica, told: float) -> None:
        others = [replica for replica in self.replicas if replica is not leaver]
        while others and not any([await other.leads() for other in others]):
            if time.monotonic() > told + STOP_SECONDS:
                raise Faulty(f"{STOP_SECONDS:g} s after the leading relay's SIGTERM no other one led")
            await asyncio.sleep(POLL_SECONDS)
        self.handovers += bool(others)
