"""Passwords are changed while everything runs: in whichever order server and file get the new one, no read fails."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis.asyncio

from ops.errors import Unavailable
from ops.local.accounts import write_private
from ops.local.postgres import PostgresServer
from ops.settings import Secret
from ops.stores import calls
from ops.stores.postgres import Postgres
from ops.stores.redis import Redis
from tests.conftest import role_url

Ask = Callable[[], Awaitable[Any]]
Write = Callable[[str], Awaitable[Any]]


class Reads:
    """Reads without a pause until stopped: some on connections that stay, some on new ones of the same client."""

    def __init__(
        self,
        new_client: Callable[[], Any],
        ask: Callable[[Any], Awaitable[Any]],
        part: Callable[[Any], Awaitable[Any]],
    ) -> None:
        self.done = 0
        self._new_client, self._ask, self._part = new_client, ask, part
        self._stopped = False
        self._tasks = [asyncio.create_task(self._stay()), *(asyncio.create_task(self._come_and_go()) for _ in range(2))]

    async def some_more(self, count: int = 10) -> None:
        """Returns after so many more reads on new connections. Raises what a read raised."""
        wanted = self.done + count
        while self.done < wanted:
            for task in self._tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(0.001)

    async def stop(self) -> None:
        """Raises what a read raised."""
        self._stopped = True
        await asyncio.gather(*self._tasks)

    async def _stay(self) -> None:
        client = self._new_client()
        while not self._stopped:
            assert await self._ask(client)
            await asyncio.sleep(0.001)
        await client.close()

    async def _come_and_go(self) -> None:
        client = self._new_client()
        while not self._stopped:
            assert await self._ask(client)
            await self._part(client)  # from its connections
            self.done += 1
        await client.close()


@pytest.fixture
def file(tmp_path: Path) -> Secret:
    path = tmp_path / "url"
    path.write_text("to be written")
    return Secret("", path)


def put(file: Secret, *urls: str) -> None:
    """Replace the file whole, as Kubernetes does."""
    assert file.path is not None
    write_private(file.path, "\n".join(urls) + "\n")


@pytest.fixture
async def redis_user(redis_url: str) -> AsyncIterator[tuple[Write, Callable[[str], str]]]:
    """A user whose passwords can be changed: `await acl(">new")`, and the URL with a password."""
    admin: Any = redis.asyncio.Redis.from_url(redis_url, protocol=2)
    async with admin:
        host = redis_url.rpartition("@")[2]

        async def acl(*rules: str) -> None:
            await admin.execute_command("ACL", "SETUSER", "rotating", *rules)

        await acl("reset", "on", "+@all", "~*", ">one")
        yield acl, lambda password: f"redis://rotating:{password}@{host}"
        await admin.execute_command("ACL", "DELUSER", "rotating")


def redis_reads(file: Secret) -> Reads:
    return Reads(
        lambda: Redis("redis", file.reveal, size=2, deadline=5.0),
        lambda client: asyncio.gather(client.call("PING"), client.run(lambda each: each.ping())),
        lambda client: client._give_up(),
    )


async def test_redis_with_two_passwords_valid_for_a_while(
    redis_user: tuple[Any, Callable[[str], str]], file: Secret
) -> None:
    acl, url = redis_user
    put(file, url("one"))
    reads = redis_reads(file)
    await reads.some_more()
    await acl(">two")
    await reads.some_more()
    put(file, url("two"))
    await reads.some_more()
    await acl("<one")
    await reads.some_more()
    await reads.stop()


async def test_redis_with_one_password_at_a_time_and_two_in_the_file(
    redis_user: tuple[Any, Callable[[str], str]], file: Secret
) -> None:
    acl, url = redis_user
    put(file, url("one"))
    reads = redis_reads(file)
    await reads.some_more()
    put(file, url("two"), url("one"))
    await reads.some_more()
    await acl("resetpass", ">two")
    await reads.some_more()
    put(file, url("two"))
    await reads.some_more()
    await reads.stop()


async def test_postgres_with_one_password_at_a_time_and_two_in_the_file(
    postgres_server: PostgresServer, file: Secret
) -> None:
    admin = await asyncpg.connect(postgres_server.admin_url)
    url = role_url(postgres_server.admin_url, "rotating", "postgres")
    one, two = (url.replace(":rotating@", f":{password}@") for password in ("one", "two"))
    try:
        await admin.execute("CREATE ROLE rotating LOGIN PASSWORD 'one'")
        put(file, one)
        reads = Reads(
            lambda: Postgres("postgres", file.reveal, size=1, deadline=10.0),
            lambda client: client.fetch("SELECT 1"),
            lambda client: client._pool.expire_connections(),
        )
        await reads.some_more()
        put(file, two, one)
        await reads.some_more()
        await admin.execute("ALTER ROLE rotating PASSWORD 'two'")
        await reads.some_more()
        put(file, two)
        await reads.some_more()
        await reads.stop()
    finally:
        await admin.execute("DROP ROLE rotating")
        await admin.close()


async def test_postgres_with_two_roles_in_turn(postgres_server: PostgresServer, file: Secret) -> None:
    """As a store of secrets does it that makes a role for each time: another name, and the old one is gone."""
    admin = await asyncpg.connect(postgres_server.admin_url)
    url = role_url(postgres_server.admin_url, "one", "postgres")
    try:
        await admin.execute("CREATE ROLE one LOGIN PASSWORD 'one'")
        put(file, url)
        connections = Postgres("postgres", file.reveal, size=1, deadline=10.0)
        assert (await connections.fetch("SELECT current_user::text"))[0][0] == "one"
        await admin.execute("CREATE ROLE two LOGIN PASSWORD 'two'")
        put(file, url.replace("one:one@", "two:two@"))
        assert connections._pool is not None
        await connections._pool.expire_connections()
        assert (await connections.fetch("SELECT current_user::text"))[0][0] == "two"
        await connections.close()
    finally:
        await admin.execute("DROP ROLE IF EXISTS one")
        await admin.execute("DROP ROLE IF EXISTS two")
        await admin.close()


async def test_wrong_password_is_said_and_not_shown(
    postgres_server: PostgresServer, redis_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "_said", {})  # what stands in the log is not repeated for a minute
    wrong = role_url(postgres_server.admin_url, "postgres", "postgres").replace(":postgres@", ":wrong-secret@")
    connections = Postgres("postgres", lambda: wrong, size=1, deadline=5.0)
    client = Redis("redis", lambda: f"redis://:wrong-secret@{redis_url.rpartition('@')[2]}", size=1, deadline=5.0)
    for ask in (
        lambda: connections.fetch("SELECT 1"),
        lambda: client.call("PING"),
        lambda: client.run(lambda each: each.ping()),
    ):
        with pytest.raises(Unavailable) as away:
            await ask()
        assert "refuses commands now. (the password is not accepted" in str(away.value)
        assert "wrong-secret" not in str(away.value)
    for name in ("postgres", "redis"):
        assert [record for record in caplog.records if f"{name} refuses: the password is not" in record.message]
    await connections.close()
    await client.close()
