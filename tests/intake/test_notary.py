"""The notary on a real database: what it signs is the log, whatever happens to either."""

import asyncio
import contextlib
import itertools
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
from prometheus_client import REGISTRY

from intake.books import notary, notary_app
from intake.books.checkpoint import Checkpoint, Signer, VerifierKey
from intake.books.entries import Position, Turn, read_turns, refused_leaf
from intake.books.event import APPEND_EVENT
from intake.books.ledger import PRESENT_EPOCH
from intake.books.notary import EventLog, Notary
from intake.books.published import books_at
from intake.books.seal import (
    HASHED_COLUMNS,
    ROW_COLUMNS,
    EventRecord,
    SealKeys,
    content_digest,
    event_leaf_hash,
    new_salt,
)
from intake.books.tree import Edge, root
from intake.books.tree_files import Files, Levels
from intake.books.verify import verify
from intake.books.walk import Kept
from intake.settings import NotarySettings
from lookup.schema import NEW_EPOCH
from ops.errors import Unavailable
from ops.http import server
from ops.http.probes import State
from ops.settings import Secret
from tests.conftest import SEAL_KEYS, Database, prepare
from tests.house import until
from tests.intake.written import AGENCY, KEYS, START, Written

ORIGIN = "hoso24.example/books"
SEED = bytes(range(32))
SIGNER = Signer(ORIGIN, SEED)
OTHERS = SealKeys.from_text("other:" + "0f" * 32)

LOG = f"""
SELECT epoch, xid, seq, salt, erased, seal, {", ".join(HASHED_COLUMNS)}
  FROM event
 ORDER BY epoch, xid, seq
"""


@pytest.fixture
def books(tmp_path: Path) -> Path:
    """A directory with an empty signed tree."""
    directory = tmp_path / "books"
    directory.mkdir()
    notary.begin(Files(directory), SIGNER)
    return directory


@contextlib.asynccontextmanager
async def notary_on(url: str, books: Path, **how: Any) -> AsyncIterator[Notary]:
    """A notary that polls often, and does not wait before a turn."""
    how = {"poll_every": 0.02, "retry_every": 0.05, "turn_after": 0.0} | how
    files = how.pop("files", lambda: Files(books))
    work = Notary(EventLog(lambda: url), files, SIGNER, lambda: KEYS, **how)
    task = asyncio.create_task(work.run())
    try:
        yield work
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def leaves(books: Path) -> list[bytes]:
    """The leaves of the published tree, whose root is the signed one."""
    checkpoint = Checkpoint.opened((books / "checkpoint").read_bytes(), SIGNER.key)
    levels = Levels(Files(books), checkpoint.size)
    assert root(levels.read, checkpoint.size) == checkpoint.root
    hashes = levels.read(0, 0, checkpoint.size)
    return [hashes[at : at + 32] for at in range(0, len(hashes), 32)]


def turns(books: Path) -> list[Turn]:
    return read_turns((books / "turns").read_bytes(), len(leaves(books)))


async def log_of(connection: Any) -> list[bytes]:
    """The leaves that the log makes, in its order, by the rule."""
    found = []
    for _, _, _, salt, erased, seal, *values in await connection.fetch(LOG):
        leaf = event_leaf_hash(values, salt, erased)
        found.append(leaf if KEYS.sealed_by(leaf, seal) else refused_leaf(leaf))
    return found


async def all_in(connection: Any, books: Path) -> list[bytes]:
    """Waits until the books are the log; the leaves."""

    async def same() -> list[bytes] | bool:
        there = leaves(books)
        return there == await log_of(connection) and (there or True) and [*there, b""]

    found: list[bytes] = await until(same)
    return found[:-1]


def imported(number: int, epoch: int = 1) -> tuple[Any, ...]:
    """The row of an event of an import."""
    event = EventRecord(
        epoch=epoch, code=f"{AGENCY}-261129-{number:06d}", version=1, kind="received", bulk=True, occurred_at=START,
        recorded_at=datetime.now(UTC), source="import", status=2, agency=AGENCY, origin=AGENCY, service="S.004",
        service_case="default", channel="direct", submitted_at=START, person=bytes(32),
    )  # fmt: skip
    return event.row(new_salt(), KEYS)


async def import_events(connection: Any, numbers: range) -> None:
    await connection.copy_records_to_table("event", columns=ROW_COLUMNS, records=[imported(n) for n in numbers])


async def verified(database: Database, books: Path, *kept: bytes) -> list[str]:
    """What `hoso24 audit verify` finds, with these checkpoints of before."""
    auditor = await asyncpg.connect(database.auditor_url)
    found: list[str] = []
    before = [Kept(f"kept {number}", note) for number, note in enumerate(kept)]
    await verify(auditor, found.append, books=books_at(str(books)), key=SIGNER.key, kept=before)
    await auditor.close()
    return found


def metric(name: str) -> float:
    return REGISTRY.get_sample_value(name) or 0.0


# -- the log as it goes on ---------------------------------------------------------------------------------------------


async def test_books_are_the_log_beside_writers_rollbacks_imports_and_restarts(
    database: Database, books: Path, owner: Any
) -> None:
    chance = random.Random(7)
    signed: list[Checkpoint] = []

    async def writes(seed: int) -> None:
        connection = await asyncpg.connect(database.writer_url)
        written, order = Written(connection), random.Random(seed)
        for _ in range(25):
            transaction = connection.transaction()
            await transaction.start()
            code = await written.receive()
            await written.follow(code, status=4)
            await asyncio.sleep(order.random() / 50)
            await (transaction.rollback() if order.random() < 0.3 else transaction.commit())
        await connection.close()

    async def imports() -> None:
        connection = await asyncpg.connect(database.writer_url)
        for start in range(0, 3_000, 500):
            async with connection.transaction():
                await import_events(connection, range(start, start + 500))
                await asyncio.sleep(0.02)
        await connection.close()

    async def notaries() -> None:
        while not done.is_set():
            async with notary_on(database.notary_url, books, batch=chance.choice([7, 300, 5_000])):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(chance.random() / 2):
                        await done.wait()
            signed.append(Checkpoint.opened((books / "checkpoint").read_bytes(), SIGNER.key))

    done = asyncio.Event()
    ends = asyncio.create_task(notaries())
    await asyncio.gather(*(writes(seed) for seed in range(4)), imports())
    done.set()
    await ends
    async with notary_on(database.notary_url, books):
        whole = await all_in(owner, books)
    assert len(whole) > 3_000
    assert await owner.fetchval("SELECT max(seq) > count(*) FROM event"), "nothing was rolled back"
    edges = {0: Edge().root()} | {size: root_of(whole[:size]) for size in {each.size for each in signed}}
    assert [edges[each.size] for each in signed] == [each.root for each in signed]


def root_of(hashes: list[bytes]) -> bytes:
    edge = Edge()
    for each in hashes:
        edge.append(each)
    return edge.root()


async def test_event_behind_an_open_transaction_waits_for_it(
    database: Database, books: Path, owner: Any, writer: Any
) -> None:
    slow = await asyncpg.connect(database.writer_url)
    transaction = slow.transaction()
    await transaction.start()
    await Written(slow).receive()
    async with notary_on(database.notary_url, books) as work:
        await Written(writer).receive()

        async def is_behind() -> bool:
            return metric("notary_behind_seconds") > 0.1

        await until(is_behind)
        assert leaves(books) == []
        await transaction.commit()
        assert len(await all_in(owner, books)) == 2
        await until(lambda: _is(lambda: work.behind == 0))
    await slow.close()


async def _is(condition: Callable[[], bool]) -> bool:
    return condition()


async def test_both_indexes_are_read_in_order(database: Database, owner: Any, writer: Any) -> None:
    await import_events(writer, range(3_000))
    written = Written(writer)
    for _ in range(30):
        await written.receive()
    await owner.execute("VACUUM ANALYZE event")
    reader = await asyncpg.connect(database.notary_url)
    plan = "\n".join(
        row[0] for row in await reader.fetch(f"EXPLAIN {_filled(notary.EVENTS, 1, 0, 0, 1, 2**62, 0, 100)}")
    )
    assert "Merge Append" in plan
    assert "event_in_commit_order" in plan
    assert "event_bulk_in_commit_order" in plan
    assert "->  Sort" not in plan
    assert "Seq Scan" not in plan
    await reader.close()


def _filled(sql: str, *values: int) -> str:
    for number, value in enumerate(values, 1):
        sql = sql.replace(f"${number}::xid8", f"'{value}'::xid8").replace(f"${number}", str(value))
    return sql


@pytest.mark.parametrize("bulk", [False, True])
async def test_forged_event_is_refused_within_a_poll(
    database: Database, books: Path, owner: Any, writer: Any, caplog: Any, bulk: bool
) -> None:
    """With the writer's password and without a seal key; also with times that no program can read."""
    async with notary_on(database.notary_url, books):
        code = await Written(writer).receive()
        await all_in(owner, books)
        before = metric("notary_refused_total")
        if bulk:
            await writer.copy_records_to_table("event", columns=ROW_COLUMNS, records=[(*imported(1)[:-1], bytes(16))])
        else:
            forged = Written(writer, keys=OTHERS)
            forged.last[code] = Written(writer)._event(code, 1, "moved", status=2)
            await forged.follow(code, status=9, finished_at=START)
        await all_in(owner, books)
        assert metric("notary_refused_total") == before + 1
        due = f"${ROW_COLUMNS.index('due_at') + 1},"
        for number, moment in enumerate(("infinity", "20000-01-01", "0044-03-15 BC"), 2):
            sql = APPEND_EVENT.replace(due, f"coalesce({due} timestamptz '{moment}'),".replace(",,", ","))
            await writer.execute(sql, *imported(number))
        await until(lambda: _is(lambda: metric("notary_refused_total") == before + 4))
        await import_events(writer, range(100, 103))
        await until(lambda: _is(lambda: len(leaves(books)) == 8))
    assert code not in caplog.text
    for batch in (1, 5_000):  # compared as others are, alone and beside one that is read in another way
        async with notary_on(database.notary_url, books, batch=batch) as again:
            size = len(leaves(books))
            await Written(writer).receive()
            await until(lambda size=size: _is(lambda: len(leaves(books)) == size + 1))  # type: ignore[misc]
            assert not again.halted


async def test_erased_event_has_its_entry_still(database: Database, books: Path, owner: Any, writer: Any) -> None:
    async with notary_on(database.notary_url, books):
        code = await Written(writer).life()
        before = await all_in(owner, books)
    content = f"SELECT salt, {', '.join(HASHED_COLUMNS)} FROM event WHERE code = $1 AND version = 2"
    row = await owner.fetchrow(content, code)
    salt, *values = row
    await owner.execute(
        "UPDATE event SET note = NULL, detail = NULL, actor = NULL, department = NULL, official_number = NULL, "
        "salt = NULL, erased = $2 WHERE code = $1 AND version = 2",
        code,
        content_digest(values, salt),
    )
    async with notary_on(database.notary_url, books) as again:
        await Written(writer).receive()
        assert (await all_in(owner, books))[: len(before)] == before
        assert not again.halted


async def test_altered_event_halts_the_next_start(database: Database, books: Path, owner: Any, writer: Any) -> None:
    async with notary_on(database.notary_url, books):
        code = await Written(writer).life()
        await all_in(owner, books)
    await owner.execute("UPDATE event SET note = 'khác' WHERE code = $1 AND version = 3", code)
    async with notary_on(database.notary_url, books) as again:
        await until(lambda: _is(lambda: again.halted))
        with pytest.raises(Unavailable, match=r"1 entries of the books, from entry 2 on, have no event"):
            await again.check_books()
        await owner.execute("UPDATE event SET note = 'Bổ sung bản sao' WHERE code = $1 AND version = 3", code)
        await until(lambda: _is(lambda: not again.halted))
        assert "entries" in await again.check_books()


async def test_event_slipped_in_under_an_earlier_id_is_entered_at_the_next_start(
    database: Database, books: Path, owner: Any, writer: Any
) -> None:
    """Only the owner can. The event is a real one here, so nothing is wrong but its place, which verify names."""
    written = Written(writer)
    async with notary_on(database.notary_url, books):
        await written.life()
        await written.life()
        before = await all_in(owner, books)
    code = await written.receive()
    await owner.execute(
        "UPDATE event SET xid = (SELECT xid FROM event ORDER BY xid, seq OFFSET 3 LIMIT 1) WHERE code = $1", code
    )
    async with notary_on(database.notary_url, books) as work:
        await written.life()
        await until(lambda: _is(lambda: len(leaves(books)) == len(before) + 1 + 1 + 5))
        assert not work.halted
    (turn,) = turns(books)
    assert (turn.epoch, turn.size, turn.void, turn.late) == (1, len(before), [], 1)
    assert sorted(leaves(books)) == sorted([turn.leaf, *await log_of(owner)])
    (finding,) = await verified(database, books)
    assert f"stands in another place of the log than in the books (leaf {turn.size + 1})" in finding


async def test_turn_waits_until_no_transaction_of_the_epoch_before_can_be_open(
    database: Database, books: Path, owner: Any, writer: Any
) -> None:
    """An event that was inserted before an epoch began may be committed after that."""
    late = await asyncpg.connect(database.writer_url)
    transaction = late.transaction()
    await transaction.start()
    await Written(late, epoch=1).receive()
    await owner.fetchval(NEW_EPOCH, "a test")
    async with notary_on(database.notary_url, books, turn_after=2.0):
        await Written(writer, epoch=2).receive()
        with pytest.raises(asyncpg.IntegrityConstraintViolationError) as refused:
            await Written(writer, epoch=1).receive()
        assert refused.value.constraint_name == PRESENT_EPOCH
        await transaction.commit()
        await until(lambda: _is(lambda: len(leaves(books)) == 3))
    (turn,) = turns(books)
    assert (turn.epoch, turn.size, turn.void, turn.late) == (2, 1, [], 0)
    await late.close()
    assert notary.TURN_AFTER > 10, "a writer's transaction may last ten seconds (roles.sql)"


# -- a database that went back in time ---------------------------------------------------------------------------------


@pytest.fixture
def cluster(fragile: Callable[..., Any]) -> Any:
    return fragile()[0]


async def test_real_restore_is_a_turn_and_no_fork(cluster: Any, books: Path) -> None:
    """An earlier copy of the whole cluster: ids are assigned a second time, by an intake that nobody had stopped."""
    database = await prepare(cluster.admin_url, "hoso24")

    async def write(dossiers: int, epoch: int = 1) -> None:
        connection = await asyncpg.connect(database.writer_url)
        for _ in range(dossiers):
            await Written(connection, epoch=epoch).life()
        await connection.close()

    async def log() -> list[bytes]:
        connection = await asyncpg.connect(database.owner_url)
        try:
            return await log_of(connection)
        finally:
            await connection.close()

    async with notary_on(database.notary_url, books) as work:
        await write(60)
        kept = await log()
        await until(lambda: _is(lambda: leaves(books) == kept))
        cluster.stop()
        backup = cluster.data_directory.with_name("backup")
        shutil.copytree(cluster.data_directory, backup, symlinks=True)
        cluster.restart()
        await write(24)
        lost = (await log())[300:]
        await until(lambda: _is(lambda: leaves(books) == kept + lost))
        note = (books / "checkpoint").read_bytes()
        before = Checkpoint.opened(note, SIGNER.key)

        cluster.stop()
        owner = cluster.data_directory.stat()
        shutil.rmtree(cluster.data_directory)
        backup.rename(cluster.data_directory)
        for each in [cluster.data_directory, *cluster.data_directory.rglob("*")]:
            os.chown(each, owner.st_uid, owner.st_gid, follow_symlinks=False)
        cluster.restart()
        await write(4)
        late = (await log())[300:]
        await until(lambda: _is(lambda: work.halted))
        assert metric("notary_halted") == 1
        with pytest.raises(Unavailable, match=r"120 entries of the books, from entry 300 on, have no event"):
            await work.check_books()
        assert leaves(books) == kept + lost

        connection = await asyncpg.connect(database.owner_url)
        await connection.fetchval(NEW_EPOCH, "restored")
        await connection.close()
        await write(2, epoch=2)
        whole = await log()
        await until(lambda: _is(lambda: len(leaves(books)) == 300 + 120 + 1 + 20 + 10))
        assert not work.halted
    (turn,) = turns(books)
    assert (turn.epoch, turn.size, turn.void, turn.late) == (2, 420, [(300, 419)], 20)
    assert leaves(books) == [*kept, *lost, turn.leaf, *late, *whole[320:]]
    assert root(Levels(Files(books), 451).read, before.size) == before.root
    assert await verified(database, books, note) == []
    async with notary_on(database.notary_url, books) as again:
        await until(lambda: _is(lambda: not again._trouble))
        await write(1, epoch=2)
        await until(lambda: _is(lambda: len(leaves(books)) == 456))


async def test_dump_and_restore_into_a_new_cluster(
    cluster: Any, books: Path, database: Database, owner: Any, writer: Any
) -> None:
    """Old events keep their ids, which are higher than those that the new cluster assigns."""
    written = Written(writer)
    for _ in range(60):
        await written.life()
    async with notary_on(database.notary_url, books):
        before = await all_in(owner, books)
    await written.life()  # not read before the dump
    copy = await prepare(cluster.admin_url, "hoso24")
    other = await asyncpg.connect(_admin(copy))
    await other.execute("SET search_path = hoso24")
    tables = "SELECT string_agg(tablename, ', ') FROM pg_tables WHERE schemaname = 'hoso24'"
    await other.execute(f"TRUNCATE {await other.fetchval(tables)}")
    dump = [str(cluster.bin_directory / "pg_dump"), "--data-only", "--schema=hoso24", "--format=custom"]
    made = await asyncio.to_thread(subprocess.run, [*dump, _admin(database)], check=True, capture_output=True)
    load = [str(cluster.bin_directory / "pg_restore"), "--data-only", "--disable-triggers", "--dbname", _admin(copy)]
    await asyncio.to_thread(subprocess.run, load, input=made.stdout, check=True, capture_output=True)
    assert await other.fetchval("SELECT max(xid) >= pg_snapshot_xmax(pg_current_snapshot()) FROM event")

    connection = await asyncpg.connect(copy.writer_url)
    early = Written(connection)
    async with notary_on(copy.notary_url, books) as work:
        await until(lambda: _is(lambda: work.halted))
        with pytest.raises(Unavailable, match="assigns transaction ids that the books are past already"):
            await work.check_books()
        await early.life()
        assert leaves(books) == before
        await other.fetchval(NEW_EPOCH, "moved")
        await Written(connection, epoch=2).receive()
        await until(lambda: _is(lambda: len(leaves(books)) == 300 + 1 + 10 + 1))
        assert not work.halted
    (turn,) = turns(books)
    assert (turn.epoch, turn.void, turn.late) == (2, [], 10)
    assert sorted(leaves(books)) == sorted([turn.leaf, *await log_of(other)])
    assert await verified(copy, books) == []
    await connection.close()
    await other.close()


def _admin(database: Database) -> str:
    return database.admin_url.rpartition("/")[0] + f"/{database.name}"


# -- files -------------------------------------------------------------------------------------------------------------


async def test_second_notary_waits_for_the_first_and_says_so(
    database: Database, books: Path, owner: Any, writer: Any, caplog: Any
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        first = contextlib.AsyncExitStack()
        await first.enter_async_context(notary_on(database.notary_url, books))
        await Written(writer).receive()
        await all_in(owner, books)
        ready: list[bool] = []
        second = await stack.enter_async_context(notary_on(database.notary_url, books, not_ready=ready.append))
        await until(lambda: _is(lambda: ready[-1:] == [True]))
        with pytest.raises(Unavailable, match="the notary that runs already, writes the books"):
            await second.check_books()
        assert not second.halted
        assert metric("notary_halted") == 0
        await Written(writer).receive()
        await all_in(owner, books)
        await first.aclose()
        await until(lambda: _is(lambda: ready[-1:] == [False]))
        await Written(writer).receive()
        await all_in(owner, books)
    lines = [record.getMessage() for record in caplog.records if "runs already" in record.getMessage()]
    assert lines == [
        "The notary enters nothing: Another process, the notary that runs already, writes the books in "
        f"{books}: stop it first"
    ]


async def test_flipped_bit_halts_and_is_named(database: Database, books: Path, owner: Any, writer: Any) -> None:
    async with notary_on(database.notary_url, books):
        await Written(writer).life()
        await all_in(owner, books)
    whole = (books / "level/0").read_bytes()
    (books / "level/0").write_bytes(bytes([whole[0] ^ 4]) + whole[1:])
    async with notary_on(database.notary_url, books) as halted:
        await until(lambda: _is(lambda: halted.halted))
        assert halted.published is None
        with pytest.raises(Unavailable, match="do not have the root that was signed at 5 leaves"):
            await halted.check_books()
        await Written(writer).receive()
        assert (books / "checkpoint").read_bytes().splitlines()[1] == b"5"
        (books / "level/0").write_bytes(whole)
        assert len(await all_in(owner, books)) == 6


async def test_rolled_back_state_halts(database: Database, books: Path, owner: Any, writer: Any) -> None:
    async with notary_on(database.notary_url, books):
        await Written(writer).life()
        await all_in(owner, books)
        older = (books / "state").read_bytes()
        await Written(writer).life()
        await all_in(owner, books)
    newest = (books / "state").read_bytes()
    (books / "state").write_bytes(older)
    async with notary_on(database.notary_url, books) as halted:
        await until(lambda: _is(lambda: halted.halted))
        with pytest.raises(Unavailable, match="an older copy was put in its place"):
            await halted.check_books()
    position = newest.replace(b'"xid":', b'"xid":1')
    assert position != newest
    (books / "state").write_bytes(position)  # the position is not signed: it is held against the log
    async with notary_on(database.notary_url, books) as halted:
        await until(lambda: _is(lambda: halted.halted))
        (books / "state").write_bytes(newest)
        await until(lambda: _is(lambda: not halted.halted))
        await Written(writer).receive()
        await all_in(owner, books)


async def test_full_disk_takes_nothing_back(
    database: Database, books: Path, owner: Any, writer: Any, caplog: Any
) -> None:
    """A real limit on the size of a file: what was signed stays, and it goes on when there is room again."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with notary_on(database.notary_url, books) as work:
        await Written(writer).life()
        await all_in(owner, books)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5 * 32 + 40, before[1]))
        try:
            await Written(writer).life()
            await until(lambda: _is(lambda: "File too large" in work._trouble))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert len(await all_in(owner, books)) == 10
    assert "A file of the books cannot be read or written: File too large" in caplog.text


# -- what it may do, and what it tells ---------------------------------------------------------------------------------

WRITES = [
    "INSERT INTO event (epoch, code, version, kind, occurred_at, recorded_at, source, status, agency, origin, seal) "
    "VALUES (1, 'x', 2, 'moved', now(), now(), 'x', 4, 'x', 'x', '')",
    "UPDATE event SET seal = seal",
    "DELETE FROM event",
    "TRUNCATE event",
    "INSERT INTO epoch (number, reason) VALUES (9, 'x')",
    "UPDATE epoch SET number = 9",
    "UPDATE dossier SET status = 9",
    "SELECT * FROM dossier",
    "SELECT * FROM client_token",
    "SELECT pg_advisory_lock(1)",
    "CREATE TEMP TABLE x (y integer)",
]


@pytest.mark.parametrize("sql", WRITES)
async def test_role_of_the_notary_writes_nothing_and_reads_only_the_log(database: Database, sql: str) -> None:
    connection = await asyncpg.connect(database.notary_url)
    await connection.execute("SET default_transaction_read_only = off")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute(sql)
    await connection.close()


@contextlib.asynccontextmanager
async def served(database: Database, books: Path) -> AsyncIterator[tuple[aiohttp.ClientSession, server.Server]]:
    settings = NotarySettings(
        pg_url=Secret(database.notary_url),
        seal_keys=Secret(SEAL_KEYS),
        books=books,
        books_key=Secret(SEED.hex()),
        books_origin=ORIGIN,
        port=0,
        admin_port=0,
    )
    state = State()
    started = await server.start(await notary_app.build(settings, state), service="notary", port=0, admin_port=0)
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{started.port}") as http:
            yield http, started
    finally:
        await started.stop()


async def test_files_are_served_as_tlog_tiles_has_them(
    database: Database, books: Path, owner: Any, writer: Any
) -> None:
    await import_events(writer, range(700))
    async with served(database, books) as (http, _):

        async def get(path: str, status: int = 200) -> aiohttp.ClientResponse:
            response = await http.get(path)
            assert response.status == status, path
            assert not response.headers.get("Set-Cookie")
            return response

        whole = await all_in(owner, books)
        await until(lambda: _checkpoint_of(http, 700))
        response = await get("/books/checkpoint")
        assert await response.read() == (books / "checkpoint").read_bytes()
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
        level_1 = (books / "level/1").read_bytes()
        for path, hashes in {
            "0/000": b"".join(whole[:256]),
            "0/001": b"".join(whole[256:512]),
            "0/002.p/188": b"".join(whole[512:]),
            "0/002.p/7": b"".join(whole[512:519]),
            "1/000.p/2": level_1,
            "1/000.p/1": level_1[:32],
        }.items():
            response = await get(f"/books/tile/{path}")
            assert await response.read() == hashes
            assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
            assert response.headers["Content-Type"] == "application/octet-stream"
        keys = await (await get("/books/keys")).read()
        places = [tuple(row[:3]) for row in await owner.fetch(LOG)]
        assert [Position.of_key(keys[at : at + 24]) for at in (0, 24)] == [places[255], places[511]]
        assert len(keys) == 48
        assert await (await get("/books/turns")).read() == b""
        partial = ("0/002", "0/002.p/189", "0/003", "0/000.p/256", "1/000", "2/000.p/1", "8/000")
        for path in (*partial, "0/0", "0/x000/000", "0/000/", "entries/000", "../state", "%2e%2e/state"):
            problem = await (await get(f"/books/tile/{path}", 404)).json(content_type="application/problem+json")
            assert problem["code"] == "not_found"
        for path in (
            "/books",
            "/books/",
            "/books/state",
            "/books/checkpoints",
            "/books/level/0",
            "/",
            "/books/checkpoint/",
        ):
            await get(path, 404)
        for path in ("checkpoint", "turns", "keys", "tile/0/000"):
            await get(f"/books/{path}?x=1", 404)
            head = await http.head(f"/books/{path}")
            assert (head.status, await head.read()) == (200, b"")
            for method in ("POST", "PUT", "DELETE"):
                assert (await http.request(method, f"/books/{path}")).status == 405


async def _checkpoint_of(http: aiohttp.ClientSession, size: int) -> bool:
    return (await (await http.get("/books/checkpoint")).read()).splitlines()[1] == b"%d" % size


async def test_halted_notary_serves_what_is_signed_and_is_not_ready(
    database: Database, books: Path, owner: Any, writer: Any
) -> None:
    async with notary_on(database.notary_url, books):
        await Written(writer).life()
        await all_in(owner, books)
    await owner.execute("DELETE FROM event WHERE version = 5")
    async with served(database, books) as (http, started):
        admin = f"http://127.0.0.1:{started.admin_port}"

        async def not_ready() -> bool:
            return (await http.get(f"{admin}/readyz")).status == 503

        await until(not_ready)
        assert await (await http.get(f"{admin}/readyz")).text() == "halted\n"
        assert (await http.get(f"{admin}/livez")).status == 200
        health = await (await http.get(f"{admin}/health")).json()
        assert health["checks"]["books"]["error"].startswith(
            "Unavailable: unavailable: 1 entries of the books, from entry 4 on, have no event in the database."
        )
        assert health["checks"]["postgres"]["status"] == "ok"
        page = await (await http.get(f"{admin}/metrics")).text()
        assert "notary_halted 1.0" in page
        assert "notary_tree_size 5.0" in page
        assert await _checkpoint_of(http, 5)
        await owner.fetchval(NEW_EPOCH, "a test")
        await owner.execute("UPDATE epoch SET started_at = started_at - interval '1 minute'")

        async def ready() -> bool:
            return (await http.get(f"{admin}/readyz")).status == 200

        await until(ready)
        assert await (await http.get("/books/turns")).text() == "[2,5,[[4,4]],0,0]\n"


# -- the command -------------------------------------------------------------------------------------------------------


def environ(database: Database, books: Path, **others: str) -> dict[str, str]:
    """Settings of a process; an empty one is not set."""
    own = {
        "HOSO24_PG_NOTARY_URL": database.notary_url,
        "HOSO24_SEAL_KEYS": SEAL_KEYS,
        "HOSO24_BOOKS": str(books),
        "HOSO24_BOOKS_KEY": SEED.hex(),
        "HOSO24_BOOKS_ORIGIN": ORIGIN,
        "HOSO24_HOST": "127.0.0.1",
        "HOSO24_NOTARY_PORT": "0",
        "HOSO24_NOTARY_ADMIN_PORT": "0",
        "HOSO24_DRAIN_SECONDS": "0",
    }
    rest = {name: value for name, value in os.environ.items() if not name.startswith("HOSO24_")}
    return {**rest, **own, **others}


def hoso24(*words: str, env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "hoso24", *words], capture_output=True, text=True, env=env, check=False, timeout=60
    )


async def test_command_begins_says_its_key_and_is_killed_at_any_moment(
    database: Database, tmp_path: Path, owner: Any, writer: Any
) -> None:
    env = environ(database, tmp_path)
    begun = await asyncio.to_thread(hoso24, "notary", "--first", env=env)
    assert (begun.returncode, begun.stderr) == (0, "")
    key = await asyncio.to_thread(hoso24, "notary", "key", env=env)
    assert VerifierKey.from_text(key.stdout.strip()) == SIGNER.key
    assert begun.stdout.endswith(f": {key.stdout}")
    again = await asyncio.to_thread(hoso24, "notary", "--first", env=env)
    assert again.returncode == 1
    assert again.stderr.count("\n") == 1
    assert "start without --first to go on with it" in again.stderr

    chance, done = random.Random(3), asyncio.Event()

    async def kill_again_and_again() -> None:
        for _ in itertools.count():
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "hoso24", "notary", env=env, stdout=asyncio.subprocess.DEVNULL
            )
            size = len(leaves(tmp_path))
            if done.is_set():
                await all_in(owner, tmp_path)
                process.send_signal(signal.SIGTERM)
                assert await process.wait() == 0
                return
            await until(lambda size=size: _is(lambda: len(leaves(tmp_path)) > size))  # type: ignore[misc]
            await asyncio.sleep(chance.random() / 5)
            process.kill()
            await process.wait()

    async def write() -> None:
        written = Written(writer)
        while not done.is_set():
            await written.life()
            await asyncio.sleep(0.01)

    writing, killing = asyncio.create_task(write()), asyncio.create_task(kill_again_and_again())
    await until(lambda: _is(lambda: len(leaves(tmp_path)) > 200), within=60)
    done.set()
    await asyncio.gather(writing, killing)


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ({"HOSO24_SEAL_KEYS": ""}, "HOSO24_SEAL_KEYS: is required and not set; expected a secret"),
        ({"HOSO24_SEAL_KEYS": "t1:xx"}, "HOSO24_SEAL_KEYS: seal key t1 is not written in hexadecimal digits"),
        ({"HOSO24_BOOKS_KEY": "5a"}, "HOSO24_BOOKS_KEY: expected the seed of an Ed25519 key, 64 hexadecimal digits"),
        ({"HOSO24_BOOKS_ORIGIN": "a b"}, "HOSO24_BOOKS_ORIGIN: the name of a key, which is the tree's origin, has no"),
        ({"HOSO24_BOOKS": ""}, "HOSO24_BOOKS: is required and not set; expected a path"),
    ],
)
async def test_wrong_settings_are_one_sentence(
    database: Database, books: Path, missing: dict[str, str], says: str
) -> None:
    ended = await asyncio.to_thread(hoso24, "notary", env=environ(database, books, **missing))
    assert ended.returncode in {1, 2}
    assert ended.stderr.startswith(says)
    assert ended.stderr.count("\n") == 1
    assert SEED.hex() not in ended.stderr + ended.stdout
