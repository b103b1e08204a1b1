"""Through PgBouncer in transaction mode: lookup and intake do all they do, and nothing else gets through.

One connection to Postgres for each role, so that whatever a client leaves behind in a session is found by another.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from hoso24 import main
from intake import app as intake_app
from intake.settings import RelaySettings
from lookup import schema
from lookup.clock import DatabaseClock
from lookup.reading.hosts import Hosts, Role
from lookup.reading.store import DOSSIERS
from ops.errors import Unavailable
from ops.local.postgres import PostgresServer
from ops.local.reaper import Reaper
from ops.settings import Secret
from ops.stores.postgres import BehindPooler, Postgres, connect_directly
from tests import debian, programs
from tests.conftest import KEY_SECRETS, ROLES, SEAL_KEYS, Database
from tests.debian import PgBouncer
from tests.house import (
    House,
    intake_at,
    intake_settings,
    lookup_at,
    lookup_settings,
    new_token,
    relay_of,
    submission,
    until,
)

STATEMENTS = {"SELECT $1::int4 + 1": 41, "SELECT length($1::text)": "forty-two", "SELECT $1::int8 * 2": 21}


@pytest.fixture(scope="module")
def bouncer(postgres_server: PostgresServer, reaper: Reaper) -> Iterator[PgBouncer]:
    programs.program("pgbouncer")
    with debian.place(reaper) as place:
        settings = {role: role for role in ROLES} | {"port": str(postgres_server.port)}
        yield place.start(PgBouncer, "pgbouncer", settings=settings)


@pytest.fixture(scope="module")
def database(template: Database) -> Iterator[Database]:
    """One for all of these tests, which leave nothing in it that another would mind."""
    database = Database("pooled", template.admin_url)

    async def run(sql: str) -> None:
        admin = await asyncpg.connect(template.admin_url)
        await admin.execute(sql)
        await admin.close()

    asyncio.run(run(f"CREATE DATABASE {database.name} TEMPLATE {template.name} OWNER hoso24_owner STRATEGY file_copy"))
    yield database
    asyncio.run(run(f"DROP DATABASE {database.name} WITH (FORCE)"))


@pytest.fixture
def reader_url(bouncer: PgBouncer, database: Database) -> str:
    return bouncer.url(database.reader_url)


async def ask_admin(database: Database, sql: str) -> list[Any]:
    """What Postgres itself says, asked past the pooler; $1 is the database's name."""
    admin = await asyncpg.connect(database.admin_url)
    try:
        rows: list[Any] = await admin.fetch(sql, database.name)
        return rows
    finally:
        await admin.close()


async def sessions(database: Database) -> dict[str, int]:
    """How many connections each role has to Postgres itself."""
    sql = "SELECT usename, count(*) FROM pg_stat_activity WHERE datname = $1 GROUP BY 1"
    return dict(await ask_admin(database, sql))


@pytest.fixture
async def house(bouncer: PgBouncer, database: Database, redis_url: str) -> AsyncIterator[House]:
    """Lookup and intake through the pooler; the relay past it. Nothing is kept in memory, so that all is asked for."""
    pooled: dict[str, Any] = {"pg_pooled": True, "pg_deadline": 5.0}
    reader, writer = bouncer.url(database.reader_url), bouncer.url(database.writer_url)
    async with (
        lookup_at(lookup_settings(reader, redis_url, memory_bytes=0, **pooled)) as lookup_url,
        intake_at(intake_settings(writer, **pooled)) as intake_url,
        relay_of(database, redis_url),
        aiohttp.ClientSession() as http,
    ):
        yield House(lookup_url, intake_url, http, await new_token(database))


async def test_all_that_lookup_and_intake_do_shares_one_connection_for_each_role(
    house: House, database: Database
) -> None:
    received = await asyncio.gather(*(house.receive() for _ in range(12)))

    async def life(n: int, receipt: dict[str, Any]) -> None:
        code = receipt["code"]
        await house.move(code, "processing")
        path = f"/api/v1/dossiers/{code}"
        bound = await house.hand_in("PUT", f"{path}/official-number", {"number": f"{n:05}/2026/99901"})
        assert bound[0] == 200, bound
        assert (await house.hand_in("GET", path, None))[1]["version"] == 3
        status, view = await house.lookup(f"{path}?at_least=3", **{"Hoso24-Key": receipt["lookup_key"]})
        assert (status, view["status"], view["version"]) == (200, "processing", 3)
        status, view = await house.lookup(f"/api/v1/dossiers/{n:05}-2026-99901")
        assert (status, view["code"]) == (200, code)
        assert (await house.lookup("/api/v1/dossiers/G99.05.02-261120-99999"))[0] == 404

    await asyncio.gather(*(life(n, receipt) for n, receipt in enumerate(received, 1)))
    same = {"Idempotency-Key": "handed in four times"}
    repeated = await asyncio.gather(
        *(house.hand_in("POST", "/api/v1/dossiers", submission(), **same) for _ in range(4))
    )
    assert {status for status, _ in repeated} <= {201, 409}
    assert len({answer["code"] for status, answer in repeated if status == 201}) == 1
    found = await sessions(database)
    assert (found["hoso24_reader"], found["hoso24_writer"]) == (1, 1)


async def test_statements_of_two_clients_leave_nothing_in_the_session_they_share(
    reader_url: str, database: Database
) -> None:
    """Two processes would give their prepared statements the same names."""
    clients = [Postgres("postgres", lambda: reader_url, size=2, deadline=10.0, pooled=True) for _ in range(2)]

    async def ask_all(client: Postgres) -> None:
        for _ in range(25):
            for sql, argument in STATEMENTS.items():
                assert (await client.fetch(sql, argument))[0][0] in (42, 9)

    await asyncio.gather(*(ask_all(client) for client in clients for _ in range(2)))
    assert (await clients[0].fetch("SELECT count(*) FROM pg_prepared_statements"))[0][0] == 0
    last = await ask_admin(
        database,
        "SELECT query FROM pg_stat_activity WHERE datname = $1 AND usename = 'hoso24_reader'",
    )
    assert [row["query"] for row in last] == ["SELECT count(*) FROM pg_prepared_statements"]
    for client in clients:
        await client.close()


async def test_what_the_roles_are_set_to_holds_through_the_pooler(reader_url: str) -> None:
    """PgBouncer logs in as the role, so Postgres sets what ALTER ROLE says; the reader's plans hang on it."""
    client = Postgres("postgres", lambda: reader_url, size=1, deadline=10.0, pooled=True)
    names = ("plan_cache_mode", "search_path", "default_transaction_read_only", "transaction_timeout", "jit")
    found = {name: (await client.fetch(f"SHOW {name}"))[0][0] for name in names}
    assert found == {
        "plan_cache_mode": "force_generic_plan",
        "search_path": "hoso24",
        "default_transaction_read_only": "on",
        "transaction_timeout": "5s",
        "jit": "off",
    }
    async with client.connection() as connection, connection.transaction():
        await connection.execute(f"PREPARE batch (text[]) AS {DOSSIERS}")
        plan = "\n".join(row[0] for row in await connection.fetch("EXPLAIN (VERBOSE) EXECUTE batch ('{a,b}')"))
        await connection.execute("DEALLOCATE batch")
    assert "unnest($1)" in plan, plan
    await client.close()


async def test_hosts_are_probed_through_the_pooler(reader_url: str) -> None:
    hosts = Hosts(lambda: reader_url, DatabaseClock(), size=2, deadline=10.0, pooled=True)
    assert await hosts.probe()
    assert hosts.all[0].role is Role.PRIMARY
    await hosts.close()


async def test_statement_past_its_deadline_spoils_nothing_for_others(reader_url: str) -> None:
    late, other = (Postgres("postgres", lambda: reader_url, size=1, deadline=10.0, pooled=True) for _ in range(2))
    with pytest.raises(Unavailable):
        await late.fetch("SELECT pg_sleep(30)", deadline=0.3)

    async def answers() -> bool:
        return bool((await other.fetch("SELECT $1::int4", 7))[0][0] == 7)

    await until(answers)
    await late.close()
    await other.close()


async def test_pooler_that_was_not_said_is_found_out(reader_url: str) -> None:
    """Prepared statements would get lost now and then, under load; so it is refused at once, with what to do."""
    client = Postgres("postgres", lambda: reader_url, size=1, deadline=10.0)
    with pytest.raises(Unavailable) as away:
        await client.fetch("SELECT 1")
    assert away.value.reason == "a connection pooler is in between: set HOSO24_PG_POOLED=1"
    await client.close()


async def test_relay_refuses_a_pooler(bouncer: PgBouncer, database: Database, redis_url: str) -> None:
    settings = RelaySettings(redis_url=Secret(redis_url), pg_url=Secret(bouncer.url(database.relay_url)))
    running = await intake_app.build_relay(settings)
    with pytest.raises(BehindPooler, match="URL for hoso24_relay leads to a connection pooler"):
        await running.tasks[0]()
    await running.close()


async def test_migration_refuses_a_pooler_and_a_direct_connection_is_none(
    bouncer: PgBouncer, database: Database
) -> None:
    with pytest.raises(BehindPooler, match="hoso24_owner"):
        await schema.migrate(bouncer.url(database.owner_url))
    connection = await connect_directly(lambda: database.owner_url)
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()


async def test_import_refuses_a_pooler_in_a_sentence(
    bouncer: PgBouncer, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sample.ndjson"
    path.write_text("{}\n")
    monkeypatch.setenv("HOSO24_PG_WRITER_URL", bouncer.url(database.writer_url))
    monkeypatch.setenv("HOSO24_LOOKUP_KEY_SECRETS", KEY_SECRETS)
    monkeypatch.setenv("HOSO24_SEAL_KEYS", SEAL_KEYS)
    monkeypatch.setattr("sys.argv", ["hoso24", "import", str(path)])
    with pytest.raises(SystemExit) as end:
        await asyncio.to_thread(main)
    assert "hoso24_writer leads to a connection pooler" in str(end.value.code)
