"""What an attacker reaches who controls one process, and what not: each attack is tried, on both sides of the wall.

docs/threat-model.md says in words what is shown here.
"""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import msgspec
import pytest
import redis.asyncio
import redis.exceptions
from prometheus_client import REGISTRY

from intake.books.relay import LEADERS_LOCK
from lookup import schema
from lookup.cache import EPOCH_KEY, Cache, dossier_key, feed_key, number_key, stream_key
from lookup.dossier import pack, unpack
from ops.local.valkey import ValkeyServer
from ops.stores.redis import Redis
from tests.conftest import Database
from tests.house import House, open_house, until

RECORD, NUMBER, STREAM, FEED = dossier_key(1, "code"), number_key(1, "1"), stream_key(1), feed_key(1)


@pytest.fixture
async def own_users(database: Database, redis_urls: dict[str, str]) -> AsyncIterator[House]:
    """Everything running, each process as its own user of Redis."""
    async with open_house(database, redis_urls["lookup"], relay_redis_url=redis_urls["relay"]) as house:
        yield house


def client(url: str) -> Any:
    return redis.asyncio.Redis.from_url(url, protocol=2)


# -- users of Redis ----------------------------------------------------------------------------------------


async def test_each_process_does_its_work_as_its_own_user_and_is_refused_nothing(
    own_users: House, redis_server: ValkeyServer, redis_urls: dict[str, str]
) -> None:
    async with client(redis_server.url) as admin:
        await admin.acl_log_reset()
        receipt = await own_users.receive()
        path = f"/api/v1/dossiers/{receipt['code']}"
        assert (await own_users.lookup(path))[0] == 200
        await own_users.move(receipt["code"], "processing")

        async def sees_it() -> bool:
            return bool((await own_users.lookup(path))[1]["status"] == "processing")

        await until(sees_it)
        assert await admin.exists(dossier_key(1, receipt["code"]))
        mine = Redis("redis", lambda: redis_urls["lookup"], size=1, deadline=5.0)
        assert await Cache(mine).spend(["a network"], [0.0, 1.0]) == [0.0]
        await mine.close()
        assert await admin.acl_log() == []


ALLOWED = [
    ("lookup", ("SET", RECORD, "1")),
    ("lookup", ("SET", NUMBER, "1")),
    ("lookup", ("SET", "limit:v1:name", "1", "PX", "100")),
    ("lookup", ("GET", EPOCH_KEY)),
    ("lookup", ("XREVRANGE", STREAM, "+", "-")),
    ("relay", ("SET", FEED, "1 -")),
    ("relay", ("XADD", STREAM, "1-1", "prev", "")),
    ("operator", ("DEL", STREAM)),
    ("operator", ("CONFIG", "GET", "maxmemory")),
]
REFUSED = [
    *(("lookup", ("SET", key, "1")) for key in (FEED, STREAM, EPOCH_KEY, "other")),
    ("lookup", ("XADD", STREAM, "1-1", "prev", "")),
    ("lookup", ("XADD", RECORD, "1-1", "prev", "")),
    ("lookup", ("XTRIM", STREAM, "MAXLEN", "0")),
    ("lookup", ("DEL", STREAM)),
    ("lookup", ("EVAL", "return redis.call('SET', ARGV[1], '1')", "0", FEED)),
    ("lookup", ("EVAL", "return redis.call('XADD', ARGV[1], '9-9', 'prev', '')", "0", STREAM)),
    ("relay", ("SET", "limit:v1:name", "1")),
    ("relay", ("DEL", STREAM)),
    ("operator", ("SET", "other", "1")),
    *(
        (user, words)
        for user in ("lookup", "relay", "operator")
        for words in (
            ("PUBLISH", "__sentinel__:hello", "x"),
            ("SUBSCRIBE", "__sentinel__:hello"),
            ("CONFIG", "SET", "maxmemory", "1"),
            ("ACL", "SETUSER", user, "nopass"),
            ("FLUSHALL",),
            ("KEYS", "*"),
            ("REPLICAOF", "127.0.0.1", "1"),
            ("SHUTDOWN",),
            ("CLIENT", "KILL", "TYPE", "normal"),
            ("MONITOR",),
        )
    ),
]


@pytest.mark.parametrize(("user", "words"), ALLOWED)
async def test_user_of_redis_may(redis_urls: dict[str, str], user: str, words: tuple[str, ...]) -> None:
    async with client(redis_urls[user]) as mine:
        await mine.execute_command(*words)


@pytest.mark.parametrize(("user", "words"), REFUSED)
async def test_user_of_redis_may_not(redis_urls: dict[str, str], user: str, words: tuple[str, ...]) -> None:
    async with client(redis_urls[user]) as mine:
        with pytest.raises(redis.exceptions.ResponseError, match=r"permission|ACL failure"):
            await mine.execute_command(*words)


# -- a lookup taken over: PostgreSQL -----------------------------------------------------------------------

HOLDS_AN_XID = "BEGIN READ WRITE; ALTER ROLE CURRENT_USER SET work_mem = '4MB'"
"""Nobody can be forbidden to change his own settings, and doing so takes a transaction id."""
CLOSED = [
    "CREATE TEMPORARY TABLE mine (n integer)",
    "SELECT lo_create(0)",
    "SELECT lo_creat(-1)",
    "SELECT lo_from_bytea(0, 'x')",
    "SELECT lo_put(1, 0, 'x')",
    "SELECT lo_unlink(1)",
    f"SELECT pg_advisory_lock({LEADERS_LOCK})",
    f"SELECT pg_advisory_lock_shared({LEADERS_LOCK})",
    f"SELECT pg_advisory_xact_lock({LEADERS_LOCK})",
    "SELECT pg_advisory_lock(1, 2)",
    f"SELECT pg_try_advisory_lock_shared({LEADERS_LOCK})",
    "SELECT pg_try_advisory_xact_lock_shared(1)",
    "SELECT txid_current()",
    "SELECT pg_logical_emit_message(true, 'x', 'y')",
    "SELECT pg_logical_emit_message(true, 'x', 'y'::bytea)",
    "CREATE TABLE hoso24.mine (n integer)",
    "CREATE TABLE public.mine (n integer)",
    "SET ROLE hoso24_owner",
    "SET ROLE hoso24_reader",
    "SELECT applicant_name FROM dossier",
    "DELETE FROM event",
    "UPDATE event SET note = ''",
    "COPY status TO PROGRAM 'cat'",
    "SELECT pg_read_file('postgresql.conf')",
]
"""Open to no role but the owner's, apart from EXCEPT."""
EXCEPT = {
    ("writer", "SELECT applicant_name FROM dossier"),
    ("desk", "SELECT applicant_name FROM dossier"),
    ("archivist", "UPDATE event SET note = ''"),  # it erases
    ("reader", "SET ROLE hoso24_reader"),  # it is that
}
"""What one of them may all the same."""
ROLES = ("writer", "relay", "reader", "notary", "auditor", "archivist", "webhooks", "desk", "notices", "figures")
OF_SOME = {
    f"SELECT pg_try_advisory_lock({LEADERS_LOCK})": {"relay"},
    "SELECT pg_try_advisory_xact_lock(1)": {"writer", "desk"},
    "SELECT pg_current_xact_id()": {"writer", "relay", "desk"},
    "SELECT pg_advisory_unlock_all()": {*ROLES},
    "UPDATE heartbeat SET at = now()": {"relay"},
    "SELECT note FROM event": {"writer", "desk", "notary", "auditor", "archivist"},
    "SELECT code FROM event": {*ROLES} - {"reader"},
    "INSERT INTO daily_sequence (agency, day, last) VALUES ('G99', now(), 1)": {"writer", "desk"},
}


async def outcome(database: Database, role: str, statement: str) -> str:
    """`done`, or the name of the refusal; whatever it did is undone."""
    connection = await asyncpg.connect(database.url(f"hoso24_{role}"))
    try:
        await connection.execute(f"BEGIN READ WRITE; {statement}; ROLLBACK")
    except asyncpg.PostgresError as refused:
        return type(refused).__name__
    finally:
        await connection.close()
    return "done"


@pytest.mark.parametrize("role", ROLES)
async def test_role_may_not(database: Database, role: str) -> None:
    statements = [each for each in CLOSED if (role, each) not in EXCEPT]
    refusals = {each: await outcome(database, role, each) for each in statements}
    assert {each: said for each, said in refusals.items() if said != "InsufficientPrivilegeError"} == {}


@pytest.mark.parametrize("statement", OF_SOME)
async def test_only_these_roles_may(database: Database, statement: str) -> None:
    may = {role for role in ROLES if await outcome(database, role, statement) == "done"}
    assert may == OF_SOME[statement]


async def test_owner_migrates_with_what_is_left_to_it(database: Database) -> None:
    assert await schema.migrate(database.owner_url) == 0
    assert await outcome(database, "owner", "SELECT pg_advisory_lock(1), pg_current_xact_id()") == "done"
    assert await outcome(database, "owner", "SELECT txid_current()") == "InsufficientPrivilegeError"


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_session_of_a_reader_that_holds_delivery_up_is_ended(own_users: House, database: Database) -> None:
    receipt = await own_users.receive()
    path = f"/api/v1/dossiers/{receipt['code']}"
    taken_over = await asyncpg.connect(database.reader_url)
    ended = sample("relay_readers_ended_total")
    await taken_over.execute(f"SET transaction_timeout = 0; {HOLDS_AN_XID}")
    await own_users.move(receipt["code"], "processing")

    async def is_ended() -> bool:
        return taken_over.is_closed() and sample("relay_readers_ended_total") == ended + 1

    async def sees_it() -> bool:
        return bool((await own_users.lookup(path))[1]["status"] == "processing")

    await until(is_ended)
    await until(sees_it)


async def test_relay_that_may_not_end_it_goes_on_and_says_so(
    own_users: House, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """As where roles.sql has not been run again yet."""
    admin = await asyncpg.connect(database.admin_url)
    await admin.execute("REVOKE hoso24_reader FROM hoso24_relay")
    taken_over = await asyncpg.connect(database.reader_url)
    try:
        await taken_over.execute(f"SET transaction_timeout = 0; {HOLDS_AN_XID}")

        async def says_so() -> bool:
            return "hoso24_relay may not end it" in caplog.text

        await until(says_so)
        assert sample("relay_leader") == 1
        assert not taken_over.is_closed()
    finally:
        await admin.execute("GRANT hoso24_reader TO hoso24_relay WITH INHERIT TRUE, SET FALSE")
        await taken_over.close()
        await admin.close()


async def test_session_of_a_writer_that_holds_delivery_up_is_named(own_users: House, database: Database) -> None:
    slow = await asyncpg.connect(database.writer_url, server_settings={"application_name": "by-hand"})
    await slow.execute("SET transaction_timeout = 0; SET idle_in_transaction_session_timeout = 0")
    await slow.execute("BEGIN; SELECT pg_current_xact_id()")
    labels = {"pid": str(slow.get_server_pid()), "role": "hoso24_writer", "application": "by-hand"}

    async def is_named() -> bool:
        return sample("relay_writer_seconds", **labels) > 2

    await until(is_named)
    assert not slow.is_closed()
    await slow.execute("ROLLBACK")

    async def is_gone() -> bool:
        return REGISTRY.get_sample_value("relay_writer_seconds", labels) is None

    await until(is_gone)
    await slow.close()


async def test_relay_may_end_a_readers_session_and_no_other(database: Database, owner: Any, writer: Any) -> None:
    reader = await asyncpg.connect(database.reader_url)
    relay = await asyncpg.connect(database.relay_url)
    end = "SELECT pg_terminate_backend($1)"
    for other in (owner, writer):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await relay.fetchval(end, other.get_server_pid())
    for other in (owner, writer, relay):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.fetchval(end, other.get_server_pid())
    assert await relay.fetchval(end, reader.get_server_pid())
    await relay.close()
    await reader.close()


# What is left to the reader, and cannot be taken away in PostgreSQL; the threat model names it.
LEFT = [
    "ALTER ROLE CURRENT_USER PASSWORD 'mine'",
    "ALTER ROLE CURRENT_USER SET search_path = public",
    "SET LOCAL transaction_timeout = 0",
]


@pytest.mark.parametrize("statement", LEFT)
async def test_reader_may_still(database: Database, statement: str) -> None:
    assert await outcome(database, "reader", statement) == "done"


# -- a lookup taken over: Redis ----------------------------------------------------------------------------


@pytest.fixture
async def without_memory(database: Database, redis_urls: dict[str, str]) -> AsyncIterator[House]:
    """Everything running; the lookup, which is another than the one taken over, reads each time from Redis."""
    lookup, relay = redis_urls["lookup"], redis_urls["relay"]
    async with open_house(database, lookup, relay_redis_url=relay, lookup={"memory_bytes": 0}) as house:
        yield house


async def forge(redis_url: str, code: str, *, versions_ahead: int) -> int:
    """As a user of Redis set a dossier's record to "completed", which it is not; its version then."""
    async with client(redis_url) as attacker:
        head, _, body = (await attacker.get(dossier_key(1, code))).partition(b"\n")
        version, as_of, stream_name = head.split()
        forged = int(version) + versions_ahead
        record = msgspec.structs.replace(unpack(body), status=9, version=forged)
        head = b"%d %s %s" % (forged, as_of, stream_name)
        await attacker.set(dossier_key(1, code), head + b"\n" + pack(record), ex=86_400)
        return forged


async def test_forged_record_is_served_until_the_next_change_also_to_at_least(
    without_memory: House, redis_urls: dict[str, str]
) -> None:
    receipt = await without_memory.receive()
    path = f"/api/v1/dossiers/{receipt['code']}"
    assert (await without_memory.lookup(path))[1]["status"] == "received"
    await forge(redis_urls["lookup"], receipt["code"], versions_ahead=0)
    for asked in (path, f"{path}?at_least=1"):
        status, view = await without_memory.lookup(asked)
        assert (status, view["status"], "stale" in view) == (200, "completed", False)
    await without_memory.move(receipt["code"], "processing")

    async def is_true_again() -> bool:
        return bool((await without_memory.lookup(path))[1]["status"] == "processing")

    await until(is_true_again)


async def test_forged_version_outlives_changes_below_it_and_a_new_epoch_ends_it(
    without_memory: House, redis_urls: dict[str, str], owner: Any
) -> None:
    receipt = await without_memory.receive()
    path = f"/api/v1/dossiers/{receipt['code']}"
    assert (await without_memory.lookup(path))[0] == 200
    forged = await forge(redis_urls["lookup"], receipt["code"], versions_ahead=1000)
    await without_memory.move(receipt["code"], "processing")
    async with client(redis_urls["operator"]) as operator:

        async def is_delivered() -> bool:
            entries = await operator.xrevrange(stream_key(1))
            return any(fields.get(b"version") == b"2" for _, fields in entries)

        await until(is_delivered)
    view = (await without_memory.lookup(path))[1]
    assert (view["status"], view["version"]) == ("completed", forged)
    await owner.fetchval(schema.NEW_EPOCH, "a lookup was taken over")

    async def is_true_again() -> bool:
        return bool((await without_memory.lookup(path))[1]["status"] == "processing")

    await until(is_true_again)


async def test_forged_record_reaches_neither_the_log_nor_the_row(
    without_memory: House, redis_urls: dict[str, str], writer: Any
) -> None:
    receipt = await without_memory.receive()
    assert (await without_memory.lookup(f"/api/v1/dossiers/{receipt['code']}"))[0] == 200
    await forge(redis_urls["lookup"], receipt["code"], versions_ahead=0)
    moved = await without_memory.move(receipt["code"], "processing")
    assert moved["version"] == 2
    code = "-".join(receipt["code"].split("-"))
    rows = await writer.fetch("SELECT version, status FROM event WHERE code = $1 ORDER BY version", code)
    assert [tuple(row) for row in rows] == [(1, 2), (2, 4)]


# -- a relay taken over ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT applicant_name FROM dossier",
        "SELECT subject FROM dossier",
        "UPDATE dossier SET status = 9",
        "INSERT INTO epoch (number, reason) VALUES (9, 'x')",
        "UPDATE epoch SET number = 9",
        "DELETE FROM event",
        "INSERT INTO maintenance_withdrawal (number, withdrawn_by, reason) VALUES (1, '', '')",
        "SELECT token_hash FROM client_token",
        "SELECT actor FROM event",
        "SET ROLE hoso24_reader",
        "SET ROLE hoso24_writer",
    ],
)
async def test_relay_may_not(database: Database, statement: str) -> None:
    assert await outcome(database, "relay", statement) == "InsufficientPrivilegeError"


async def test_relay_taken_over_can_hold_up_what_lookups_say_of_their_age_and_no_change_is_lost(
    own_users: House, redis_urls: dict[str, str], owner: Any
) -> None:
    """It may write a stream and a heartbeat of its own; the log stays, and a new epoch delivers it."""
    receipt = await own_users.receive()
    path = f"/api/v1/dossiers/{receipt['code']}"
    async with client(redis_urls["relay"]) as attacker:
        await attacker.xadd(stream_key(1), {"code": "none", "version": "1", "prev": "x"}, id="99999999999-0")
    await own_users.move(receipt["code"], "processing")
    await owner.fetchval(schema.NEW_EPOCH, "a relay was taken over")

    async def sees_it() -> bool:
        return bool((await own_users.lookup(path))[1]["status"] == "processing")

    await until(sees_it)
    assert await owner.fetchval("SELECT count(*) FROM event") == 2
