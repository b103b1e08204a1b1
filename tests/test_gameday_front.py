"""The front of a game day, before processes that do as they are told."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from loadtests.system import front
from loadtests.system.front import SERVED_BY, Front
from loadtests.system.http_client import Client, request
from loadtests.system.processes import free_port
from loadtests.system.replicas import Replica
from ops.local.reaper import Reaper
from tests import programs
from tests.house import until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
AWAY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


@dataclass
class Puppet:
    """A process of two ports. `silent`: it hangs up instead of answering."""

    number: int
    ready: bool = True
    silent: bool = False
    asked: list[bytes] = field(default_factory=list)
    connections: int = 0
    port: int = field(default_factory=free_port)
    admin_port: int = field(default_factory=free_port)

    @property
    def replica(self) -> Replica:
        return Replica(f"lookup {self.number}", self.port, self.admin_port, cast(Any, None), Path())

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        public = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        admin = await asyncio.start_server(self._tell, "127.0.0.1", self.admin_port)
        async with public, admin:
            yield

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                self.asked.append(await reader.readuntil(b"\r\n\r\n"))
                if self.silent:
                    break
                writer.write(OK)
        writer.close()

    async def _tell(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(OK if self.ready else AWAY)
        writer.close()


@contextlib.asynccontextmanager
async def before(folder: Path, reaper: Reaper, program: str | None, *puppets: Puppet) -> AsyncIterator[Front]:
    """A front, told of these."""
    async with contextlib.AsyncExitStack() as stack:
        door = await stack.enter_async_context(front.running(folder, reaper, program))
        for puppet in puppets:
            await stack.enter_async_context(puppet.running())
            await door.came(puppet.replica)
        yield door


async def asked(door: Front, times: int = 1, method: str = "GET") -> list[tuple[int, str]]:
    """Status and who has answered, of requests on one connection."""
    client = Client(door.lookup)
    answers = [await client.ask(request(method, "/", {})) for _ in range(times)]
    client.hang_up()
    return [(answer.status, answer.headers.get(SERVED_BY.lower(), "")) for answer in answers]


async def test_haproxy_asks_everybody_over_connections_that_stay_and_says_who_answered(
    tmp_path: Path, reaper: Reaper
) -> None:
    one, two = Puppet(1), Puppet(2)
    async with before(tmp_path, reaper, programs.program("haproxy"), one, two) as door:
        assert sorted(await asked(door, 8)) == [(200, "lookup-1")] * 4 + [(200, "lookup-2")] * 4
        assert (one.connections, two.connections) == (1, 1)
        assert await door.retries() == 0


async def test_haproxy_asks_another_one_for_a_get_and_sends_nothing_else_twice(tmp_path: Path, reaper: Reaper) -> None:
    one, two = Puppet(1), Puppet(2, silent=True)
    async with before(tmp_path, reaper, programs.program("haproxy"), one, two) as door:
        assert await asked(door, 6) == [(200, "lookup-1")] * 6
        assert await door.retries() == len(two.asked) > 0
        sent = len(two.asked)
        answers = [(await asked(door, method="POST"))[0] for _ in range(4)]
        assert sorted(answers) == [(200, "lookup-1"), (200, "lookup-1"), (502, ""), (502, "")]
        assert len(two.asked) == sent + 2


async def test_haproxy_notices_who_is_not_ready_and_forgets_who_went(tmp_path: Path, reaper: Reaper) -> None:
    one, two = Puppet(1), Puppet(2)
    async with before(tmp_path, reaper, programs.program("haproxy"), one, two) as door:
        assert isinstance(door, front.HAProxy)

        async def states(*due: str) -> bool:
            assert isinstance(door, front.HAProxy)
            return [(await door.states()).get(name, "") for name in ("lookup-1", "lookup-2")] == list(due)

        two.ready = False
        await until(lambda: states("UP", "DOWN"))
        assert {name for _, name in await asked(door, 6)} == {"lookup-1"}
        two.ready = True
        await until(lambda: states("UP", "UP"))
        await door.went(one.replica)
        assert {name for _, name in await asked(door, 6)} == {"lookup-2"}


async def test_without_haproxy_clients_go_to_whoever_is_ready(tmp_path: Path, reaper: Reaper) -> None:
    one, two = Puppet(1), Puppet(2)
    async with before(tmp_path, reaper, None, one, two) as door:

        async def leads_to(*puppets: Puppet) -> bool:
            return sorted(door.lookup.ports) == sorted(puppet.port for puppet in puppets)

        await until(lambda: leads_to(one, two))
        two.ready = False
        await until(lambda: leads_to(one))
        two.ready = True
        await until(lambda: leads_to(one, two))
        await door.went(one.replica)
        await until(lambda: leads_to(two))
        assert (await asked(door, 2), door.intake.ports) == ([(200, "")] * 2, [])


def test_ports_given_out_are_given_out_once() -> None:
    assert len({free_port() for _ in range(1000)}) == 1000
