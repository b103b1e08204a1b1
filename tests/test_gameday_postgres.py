"""How the faults of Postgres on a game day judge what was seen, and the disk they fill."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest

from loadtests.gameday.day import Skipped
from loadtests.gameday.faults import disk, postgres
from loadtests.gameday.faults.restore import RUNBOOK, Restore, numbers_left_out
from loadtests.gameday.record import Record, Seen
from loadtests.system.postgres import Node
from loadtests.system.replicated_postgres import ReplicatedPostgres
from ops.local.reaper import Reaper
from tests.conftest import NO_FSYNC
from tests.programs import leave_out

GONE, BACK = 100.0, 110.0
"""When a primary was gone, on a clock of its own."""


def day(*seen: Seen) -> Any:
    """A day of which only the record is there."""
    record = Record(monotonic=lambda: 1000.0)
    for each in seen:
        record.note(each)
    return SimpleNamespace(record=record)


def asked(at: float, outcome: str, *, kind: str = "unknown", seconds: float = 0.01, age: float | None = None) -> Seen:
    return Seen(at, seconds, kind, outcome, "answered 503" if outcome == "unavailable" else "", age=age)


# -- what needs a primary ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "kept"),
    [
        ([asked(90, "good"), asked(101, "unavailable"), asked(112, "unavailable"), asked(120, "good")], True),
        ([asked(90, "good"), asked(101, "unavailable", kind="at_least")], True),
        ([asked(90, "unavailable"), asked(101, "unavailable")], False),
        ([asked(101, "unavailable"), asked(BACK + postgres.FINDS_OUT + 1, "unavailable")], False),
        ([asked(101, "wrong")], False),
        ([asked(101, "unavailable", kind="known")], False),
    ],
)
def test_only_without_a_primary_may_what_needs_it_be_unanswered(seen: list[Seen], kept: bool) -> None:
    assert postgres.left_to_the_primary(day(*seen), 80.0, 200.0, GONE, BACK).kept is kept


@pytest.mark.parametrize(
    ("seen", "kept"),
    [
        ([asked(103, "good"), asked(106, "unavailable"), asked(108, "unavailable")], True),
        ([asked(106, "unavailable"), asked(108, "good")], False),
        ([asked(103, "good")], False),
    ],
)
def test_unknown_codes_are_unanswered_once_no_cache_can_know_them(seen: list[Seen], kept: bool) -> None:
    assert postgres.unknown_unanswered(day(*seen), GONE, BACK).kept is kept


@pytest.mark.parametrize(
    ("seen", "kept"),
    [
        ([asked(101, "good", kind="known", age=2), asked(107, "stale", kind="known", age=7)], True),
        ([asked(101, "good", kind="known", age=61), asked(107, "stale", kind="known", age=7)], False),
        ([asked(101, "good", kind="known", age=2)], False),
    ],
)
def test_answer_that_no_server_can_confirm_has_to_be_marked(seen: list[Seen], kept: bool) -> None:
    assert postgres.marked(day(*seen), GONE, BACK).kept is kept


@pytest.mark.parametrize(
    ("failed_at", "kept"), [(None, True), (BACK + 0.5, True), (GONE + 1, False), (BACK + 3, False)]
)
def test_who_asks_for_what_is_in_memory_fails_neither_while_all_is_gone_nor_once_it_is_back(
    failed_at: float | None, kept: bool
) -> None:
    seen = [asked(at, "good", kind="known") for at in (GONE + 2, BACK + 0.1, BACK + 4)]
    seen += [asked(failed_at, "unavailable", kind="changing")] if failed_at else []
    assert postgres.known_answered(day(*seen), GONE, BACK, BACK + 2).kept is kept


@pytest.mark.parametrize(("seconds", "kept"), [(0.09, True), (0.11, False)])
def test_a_refusal_has_its_time(seconds: float, kept: bool) -> None:
    seen = [asked(101, "unavailable", seconds=seconds), asked(102, "good", kind="known", seconds=2)]
    assert postgres.refused_in_time(day(*seen), GONE, BACK).kept is kept


# -- a restore --------------------------------------------------------------------------------------------------


def test_what_was_lost_has_to_be_named_and_nothing_else() -> None:
    done = Restore(lost={"a": (1, 3), "b": (0, 1), "imported": (0, 1)}, imported={"imported"})
    done.named = {("a", 2), ("a", 3), ("b", 1)}
    assert (done.unnamed, done.wrongly_named) == (set(), set())
    done.named = {("a", 3), ("a", 1), ("c", 5)}
    assert done.unnamed == {("a", 2), ("b", 1)}
    assert done.wrongly_named == {("a", 1)}  # what the log has of c is unknown: it was never acknowledged


def test_the_runbook_has_the_statement_that_leaves_numbers_out() -> None:
    statement = numbers_left_out(RUNBOOK.read_text("utf-8"), "2026-11-26T12:00:00+00:00")
    assert "INSERT INTO hoso24.daily_sequence" in statement
    assert "timestamptz '2026-11-26T12:00:00+00:00'" in statement
    assert ":'" not in statement


# -- a full disk ------------------------------------------------------------------------------------------------


@pytest.fixture
def node(reaper: Reaper) -> Iterator[Node]:
    directory = Path(tempfile.mkdtemp(prefix="hoso24-full-"))
    directory.chmod(0o755)
    try:
        with ReplicatedPostgres.start(directory / "pg1", settings=NO_FSYNC, reaper=reaper) as server:
            yield Node("pg1", server, None)  # type: ignore[arg-type]  # no client comes by wire
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def test_a_server_whose_disk_is_full_ends_and_comes_back_with_all_it_had(node: Node) -> None:
    server = node.server
    await executed(server.admin_url, "CREATE TABLE kept AS SELECT 24 AS number")
    try:
        async with disk.small_disk(node) as small:
            small.fill()
            while not disk.stopped(server, 0):
                await disk.write_on(server.admin_url)
            small.make_space()
            server.restart()
            assert await executed(server.admin_url, "SELECT number FROM kept") == 24
    except Skipped as reason:
        leave_out(str(reason), "a full disk under PostgreSQL", "run as root where mounting is allowed")
    assert (server.data_directory / "pg_wal").is_dir()
    assert not (server.data_directory / "pg_wal").is_symlink()
    assert not (server.home / "small-disk").exists()
    assert await executed(server.admin_url, "SELECT number FROM kept") == 24


async def executed(url: str, sql: str) -> Any:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()
