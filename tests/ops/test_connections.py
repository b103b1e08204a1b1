"""Calls to dependencies end at their deadline, stay cancelled when they are, and leave nothing behind."""

import asyncio
import contextlib
import itertools
import random
import socket
import struct
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest
import redis.exceptions
import uvloop

from loadtests.system.pauses import pause, resume
from ops.errors import OurOwnDelay, Unavailable
from ops.local.servers import LocalServer
from ops.stores import calls
from ops.stores.postgres import Postgres, connect_directly
from ops.stores.redis import Redis
from tests.conftest import Database
from tests.house import until

CHANCE = random.Random(24)
Ask = Callable[[Redis], Awaitable[Any]]
WAYS: dict[str, Ask] = {
    "run": lambda redis: redis.run(lambda client: client.ping()),
    "call": lambda redis: redis.call("PING"),
}


@pytest.mark.parametrize("way", WAYS)
async def test_cancelled_redis_command_stays_cancelled(redis_url: str, way: str) -> None:
    """A client that asks without a pause, cancelled at a random moment, three hundred times."""
    connection = Redis("redis", lambda: redis_url, size=2, deadline=60.0)

    async def ask_for_ever() -> None:
        while True:
            await WAYS[way](connection)

    for _ in range(300):
        asking = asyncio.create_task(ask_for_ever())
        await asyncio.sleep(CHANCE.uniform(0.0005, 0.008))
        asking.cancel()
        ended, _ = await asyncio.wait({asking}, timeout=5)
        asking.cancel()
        assert ended
        assert asking.cancelled()
    await connection.close()


async def test_answer_of_a_cancelled_call_reaches_no_other(redis_url: str) -> None:
    connection = Redis("redis", lambda: redis_url, size=4, deadline=60.0)
    words = itertools.count()

    async def ask_for_ever() -> None:
        while True:
            word = str(next(words))
            assert await connection.call("ECHO", word) == word.encode()

    for _ in range(100):
        asking = [asyncio.create_task(ask_for_ever()) for _ in range(4)]
        await asyncio.sleep(CHANCE.uniform(0.0005, 0.004))
        asking[0].cancel()
        asking[1].cancel()
        await asyncio.sleep(0.001)
        for task in asking:
            task.cancel()
        await asyncio.wait(asking, timeout=5)
        assert all(task.cancelled() for task in asking)
    await connection.close()


async def test_connection_that_was_closed_while_it_lay_idle_costs_no_error(redis_url: str) -> None:
    connection = Redis("redis", lambda: redis_url, size=4, deadline=20.0)
    await asyncio.gather(*(connection.call("PING") for _ in range(3)))
    await connection.run(lambda client: client.client_kill_filter(_type="normal", skipme=True))
    assert await asyncio.gather(*(connection.call("PING") for _ in range(3))) == [b"PONG"] * 3
    await connection.close()


async def test_error_that_was_the_answer_is_raised_and_spoils_no_connection(redis_url: str) -> None:
    connection = Redis("redis", lambda: redis_url, size=4, deadline=20.0)
    first = await connection.call("CLIENT", "ID")
    with pytest.raises(redis.exceptions.NoScriptError):
        await connection.call("EVALSHA", "0" * 40, 0)
    with pytest.raises(redis.exceptions.ResponseError):
        await connection.call("NO-SUCH-COMMAND")
    assert await connection.call("CLIENT", "ID") == first
    await connection.close()


@pytest.mark.parametrize(
    "state",
    [
        ("REPLICAOF", "127.0.0.1", "1"),
        ("CONFIG", "SET", "maxmemory", "1", "maxmemory-policy", "noeviction"),
        ("ACL", "SETUSER", "default", "-set"),
    ],
    ids=["a replica", "out of memory", "a user without the right"],
)
@pytest.mark.parametrize("way", ["run", "call"])
async def test_redis_that_refuses_to_write_is_unavailable(
    fragile: Callable[..., Any],
    state: tuple[str, ...],
    way: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calls, "_said", {})  # what stands in the log is not repeated for a minute
    monkeypatch.setattr(calls, "_troubles", {})
    caplog.set_level("INFO")
    _, server = fragile()
    connection = Redis("redis", lambda: server.url, size=2, deadline=20.0)
    await connection.call(*state)
    write: dict[str, Ask] = {
        "run": lambda redis: redis.run(lambda client: client.set("key", "value")),
        "call": lambda redis: redis.call("SET", "key", "value"),
    }
    for _ in range(3):
        with pytest.raises(Unavailable, match="refuses commands now"):
            await write[way](connection)
        assert await connection.call("GET", "key") is None
    await connection.close()
    (line,) = [record.message for record in caplog.records if record.name == calls.__name__]
    assert line.startswith("redis refuses: ")  # and nothing of "can be used again" after the read that was answered


async def test_cancelled_postgres_statement_stays_cancelled_and_frees_its_connection(database: Database) -> None:
    connections = Postgres("postgres", lambda: database.reader_url, size=1, deadline=60.0)

    async def ask_for_ever() -> None:
        while True:
            await connections.fetch("SELECT 1")

    for _ in range(50):
        asking = asyncio.create_task(ask_for_ever())
        await asyncio.sleep(CHANCE.uniform(0.001, 0.02))
        asking.cancel()
        ended, _ = await asyncio.wait({asking}, timeout=5)
        asking.cancel()
        assert ended
    assert len(await connections.fetch("SELECT 1")) == 1
    await connections.close()


@pytest.mark.parametrize("fault", [pause, LocalServer.kill])
async def test_servers_that_hang_or_are_gone_are_unavailable_and_usable_once_back(
    fragile: Callable[..., Any], fault: Callable[[LocalServer], None]
) -> None:
    postgres_server, redis_server = fragile()
    postgres = Postgres("postgres", lambda: postgres_server.admin_url, size=2, deadline=10)
    redis = Redis("redis", lambda: redis_server.url, size=2, deadline=10)
    assert await postgres.fetch("SELECT 1")
    for ask in WAYS.values():
        assert await ask(redis)
    for server in (postgres_server, redis_server):
        fault(server)
    postgres._deadline, redis._deadline = 0.5, 0.2  # only what cannot be answered has to end soon
    for _ in range(5):  # more often than there are connections: none is lost to a call that timed out
        with pytest.raises(Unavailable):
            await postgres.fetch("SELECT 1")
        for ask in WAYS.values():
            with pytest.raises(Unavailable):
                await ask(redis)
    for server in (postgres_server, redis_server):
        resume(server) if fault is pause else server.restart()
    postgres._deadline = redis._deadline = 10.0
    assert await postgres.fetch("SELECT 1")
    for ask in WAYS.values():
        assert await ask(redis)
    await postgres.close()
    await redis.close()


@pytest.mark.parametrize("hosts", [1, 3])
async def test_attempts_where_no_server_listens_leave_nothing_to_the_garbage_collector(
    hosts: int, garbage: Callable[[], int]
) -> None:
    """It stops the whole process for as long as it clears away, while that has to answer out of memory."""
    with contextlib.ExitStack() as stack:
        closed = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(hosts)]
        names = ",".join(f"127.0.0.1:{each.getsockname()[1]}" for each in closed)
    url = f"postgresql://reader:x@{names}/hoso24"
    connections = Postgres("postgres", lambda: url, size=2, deadline=60.0)

    async def in_vain(times: int) -> None:
        for _ in range(times):
            with pytest.raises(Unavailable):
                await connections.fetch("SELECT 1")
            with pytest.raises(ConnectionRefusedError):
                await connect_directly(lambda: url, timeout=60.0)

    await in_vain(2)
    garbage()
    await in_vain(20)
    assert garbage() < 20  # an attempt had left a hundred
    await connections.close()


@pytest.mark.parametrize("scheme", ["redis", "redis+sentinel"])
async def test_commands_where_no_server_listens_leave_next_to_nothing(scheme: str, garbage: Callable[[], int]) -> None:
    with contextlib.ExitStack() as stack:
        closed = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        names = [f"127.0.0.1:{each.getsockname()[1]}" for each in closed]
    url = f"redis://{names[0]}/0" if scheme == "redis" else f"redis+sentinel://{','.join(names)}/hoso24"
    connection = Redis("redis", lambda: url, size=2, deadline=60.0)

    async def in_vain(times: int) -> None:
        for _ in range(times):
            for ask in WAYS.values():
                with pytest.raises(Unavailable):
                    await ask(connection)

    await in_vain(2)
    garbage()
    await in_vain(20)
    assert garbage() < 20 * 2 * 20  # a connection of redis-py's holds itself: a dozen; with Sentinels it had been 200
    await connection.close()


async def test_host_that_hangs_does_not_keep_the_next_one_from_being_asked(database: Database) -> None:
    """As one that has lost its power: what is sent there gets no answer, not even a refusal."""
    with socket.create_server(("127.0.0.1", 0)) as hung:
        url = database.writer_url.replace("@", f"@127.0.0.1:{hung.getsockname()[1]},", 1)
        connections = Postgres("postgres", lambda: url, size=1, deadline=20.0)
        assert await connections.fetch("SELECT 1")
        await connections.close()
        directly = await connect_directly(lambda: url, timeout=20.0)
        assert await directly.fetchval("SELECT 1") == 1
        directly.terminate()
        with pytest.raises(Unavailable):
            await Postgres("postgres", lambda: url.rpartition(",")[0] + "/hoso24", size=1, deadline=0.2).fetch(
                "SELECT 1"
            )


async def test_password_that_is_refused_by_one_host_is_not_hidden_by_another(database: Database) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        gone = closed.getsockname()[1]
    old = database.writer_url.replace("@", f"@127.0.0.1:{gone},", 1)
    urls = f"{old.replace(':hoso24_writer@', ':old@')}\n{old}"
    connections = Postgres("postgres", lambda: urls, size=1, deadline=20.0)
    assert await connections.fetch("SELECT 1")
    await connections.close()


async def test_statement_past_its_deadline_is_unavailable_and_its_connection_replaced(database: Database) -> None:
    connections = Postgres("postgres", lambda: database.reader_url, size=1, deadline=10)
    with pytest.raises(Unavailable):
        await connections.fetch("SELECT pg_sleep(60)", deadline=0.2)
    assert await connections.fetch("SELECT 1")
    await connections.close()


async def test_wrong_statement_is_a_bug_and_not_unavailable(database: Database, redis_url: str) -> None:
    connections = Postgres("postgres", lambda: database.reader_url, size=1, deadline=5.0)
    with pytest.raises(asyncpg.UndefinedTableError):
        await connections.fetch("SELECT * FROM nowhere")
    await connections.close()


async def test_rotated_password_is_asked_for_at_the_next_connect(database: Database, owner: Any) -> None:
    urls = [database.reader_url]
    connections = Postgres("postgres", lambda: urls[-1], size=1, deadline=5.0)
    assert await connections.fetch("SELECT 1")
    admin = await asyncpg.connect(database.admin_url)
    try:
        await admin.execute("ALTER ROLE hoso24_reader PASSWORD 'rotated'")
        urls.append(database.reader_url.replace(":hoso24_reader@", ":rotated@"))
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'hoso24_reader' AND datname = $1",
            database.name,
        )
        for _ in range(3):  # the cut connection is noticed first, the new one asks for the new password
            try:
                rows = await connections.fetch("SELECT 1")
            except Unavailable:
                continue
        assert rows
    finally:
        await admin.execute("ALTER ROLE hoso24_reader PASSWORD 'hoso24_reader'")
        await admin.close()
        await connections.close()


async def test_timeout_while_our_own_loop_was_late_is_our_own(fragile: Callable[..., Any]) -> None:
    postgres_server, redis_server = fragile()
    lateness = [0.0]
    postgres = Postgres(
        "postgres", lambda: postgres_server.admin_url, size=2, deadline=10, lateness=lambda _: lateness[0]
    )
    redis = Redis("redis", lambda: redis_server.url, size=2, deadline=10, lateness=lambda _: lateness[0])
    await postgres.fetch("SELECT 1")
    await redis.run(lambda client: client.ping())
    pause(postgres_server)
    pause(redis_server)
    postgres._deadline = redis._deadline = 0.4
    for lateness[0], blamed in ((0.0, Unavailable), (0.3, OurOwnDelay)):
        for ask in (postgres.fetch("SELECT 1"), redis.run(lambda client: client.ping())):
            with pytest.raises(Unavailable) as outcome:
                await ask
            assert type(outcome.value) is blamed
    resume(postgres_server)
    resume(redis_server)
    await postgres.close()
    await redis.close()


async def test_waiting_for_a_connection_that_others_use_is_our_own_delay(database: Database) -> None:
    connections = Postgres("postgres", lambda: database.reader_url, size=1, deadline=10)
    async with connections.connection(30):
        with pytest.raises(OurOwnDelay):
            await connections.fetch("SELECT 1", deadline=0.1)
    await connections.close()


async def test_command_that_waits_by_itself_has_that_much_longer(redis_url: str) -> None:
    connection = Redis("redis", lambda: redis_url, size=1, deadline=10)
    await connection.run(lambda client: client.ping())
    connection._deadline = 0.2
    assert not await connection.run(lambda client: client.xread({"nothing": "0-0"}, block=300), waiting=20)
    with pytest.raises(Unavailable):
        await connection.run(lambda client: client.xread({"nothing": "0-0"}, block=3000), waiting=0.1)
    await connection.close()


class Resetting:
    """A Redis that says OK to everything, on a loop and in a thread of its own, and can reset its connections."""

    def __init__(self) -> None:
        self.connections = 0
        self._writers: list[asyncio.StreamWriter] = []
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> "Resetting":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(b"+OK\r\n" * data.count(b"*"))  # each command begins with its number of words

    def reset(self) -> None:
        """As a machine does that knows nothing of these connections any more: RST, and no FIN."""
        self._loop.call_soon_threadsafe(self._reset)

    def _reset(self) -> None:
        for writer in self._writers:
            lingering = writer.get_extra_info("socket")
            lingering.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        self._writers.clear()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("way", ["call", "run"])
def test_redis_connection_that_was_reset_while_idle_costs_no_answer(
    new_loop: Callable[[], asyncio.AbstractEventLoop], way: str
) -> None:
    async def work(server: Resetting) -> None:
        client = Redis("redis", lambda: f"redis://127.0.0.1:{server.port}/0", size=2, deadline=5.0)

        async def ask() -> Any:
            return await (client.call("PING") if way == "call" else client.run(lambda redis: redis.get("key")))

        async def noticed() -> bool:
            held: Any
            (held,) = client._idle or client._pool._available_connections
            return bool(held._writer.transport.is_closing())

        try:
            assert await ask() in (b"OK", "OK")
            server.reset()
            await until(noticed)
            assert await ask() in (b"OK", "OK")
            assert server.connections == 2
        finally:
            await client.close()
            await asyncio.sleep(0)  # uvloop closes a turn later

    with Resetting() as server, asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(work(server))
