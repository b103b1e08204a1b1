"""Verify as an auditor calls it: a process of its own, beside a notary process, an intake and live changes.

HOSO24_PROOF_VERIFY says how often it is run beside live changes: twenty times here, and a thousand by `make proof`.
"""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from intake.books import notary
from intake.books.checkpoint import Checkpoint
from intake.books.notary import EventLog, Notary
from intake.books.tree_files import Files
from lookup.schema import NEW_EPOCH
from ops.local.ports import free_port
from tests.conftest import SEAL_KEYS, Database, prepare
from tests.house import House, intake_at, intake_settings, new_token, until
from tests.intake.written import KEYS, ORIGIN, SIGNER, Written

RUNS = int(os.environ.get("HOSO24_PROOF_VERIFY", "20"))
SEED = bytes(range(32))


class Ran:
    """How a command ended."""

    def __init__(self, done: "subprocess.CompletedProcess[str]") -> None:
        self.status, self.lines, self.err = done.returncode, done.stdout.splitlines(), done.stderr

    def __repr__(self) -> str:
        return f"{self.status}: {self.lines} {self.err}"


async def hoso24(*words: str, **environ: str) -> Ran:
    """`hoso24 WORDS` in a process of its own."""
    rest = {name: value for name, value in os.environ.items() if not name.startswith("HOSO24_")}
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "hoso24", *words],
        capture_output=True,
        text=True,
        env=rest | environ,
        check=False,
        timeout=120,
    )
    return Ran(done)


async def verify(database: Database, books: str | Path, *words: str) -> Ran:
    return await hoso24(
        *("audit", "verify", "--books", str(books), "--key", SIGNER.key.text, *words),
        HOSO24_PG_AUDITOR_URL=database.auditor_url,
    )


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Books that begin."""
    path = tmp_path / "books"
    path.mkdir()
    notary.begin(Files(path), SIGNER)
    return path


@pytest.fixture
async def served(database: Database, directory: Path, tmp_path: Path) -> AsyncIterator[str]:
    """The URL of a notary's books, a process that goes on until the end."""
    port = free_port(18093)
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HOSO24_")},
        "HOSO24_PG_NOTARY_URL": database.notary_url,
        "HOSO24_SEAL_KEYS": SEAL_KEYS,
        "HOSO24_BOOKS": str(directory),
        "HOSO24_BOOKS_KEY": SEED.hex(),
        "HOSO24_BOOKS_ORIGIN": ORIGIN,
        "HOSO24_HOST": "127.0.0.1",
        "HOSO24_NOTARY_PORT": str(port),
        "HOSO24_NOTARY_ADMIN_PORT": str(free_port(18094)),
        "HOSO24_DRAIN_SECONDS": "0",
    }
    process = _started(environ, tmp_path / "notary.log")
    try:
        await until(lambda: _answers(f"http://127.0.0.1:{port}/books/checkpoint"))
        yield f"http://127.0.0.1:{port}/books"
    finally:
        process.terminate()
        process.wait(30)


def _started(environ: dict[str, str], log: Path) -> "subprocess.Popen[bytes]":
    with log.open("wb") as file:
        return subprocess.Popen([sys.executable, "-m", "hoso24", "notary"], env=environ, stdout=file, stderr=file)


async def _answers(url: str) -> bool:
    with contextlib.suppress(aiohttp.ClientError):
        async with aiohttp.ClientSession() as http, http.get(url) as answer:
            return answer.status == 200
    return False


def entries(directory: Path) -> int:
    return Checkpoint.opened((directory / "checkpoint").read_bytes(), SIGNER.key).size


async def all_in(directory: Path, owner: Any) -> None:
    """Waits until every event has its entry."""

    async def same() -> bool:
        return entries(directory) == int(await owner.fetchval("SELECT count(*) FROM event"))

    await until(same)


# -- beside live changes -----------------------------------------------------------------------------------------------


async def test_twenty_runs_beside_live_changes_find_nothing(
    database: Database, owner: Any, writer: Any, directory: Path, served: str, tmp_path: Path
) -> None:
    written = Written(writer)
    for _ in range(60):
        await written.life()
    await all_in(directory, owner)
    shutil.copy(directory / "checkpoint", tmp_path / "kept.txt")
    done = asyncio.Event()

    async def past_the_intake() -> None:
        while not done.is_set():
            await written.life()

    async def through_the_intake(house: House) -> None:
        while not done.is_set():
            code = (await house.receive())["code"]
            await house.move(code, "processing")
            await house.move(code, "completed", outcome="granted")

    async with (
        intake_at(intake_settings(database.writer_url, client_writes=1_000_000)) as url,
        aiohttp.ClientSession() as http,
    ):
        house = House("", url, http, await new_token(database))
        changes = [asyncio.create_task(past_the_intake()), asyncio.create_task(through_the_intake(house))]
        words = ["audit", "verify", "--key", SIGNER.key.text, "--checkpoint", str(tmp_path / "kept.txt"), "--books"]
        since = ["--since", str(tmp_path / "kept.txt")]
        turns = [[*words, str(directory)], [*words, served], [*words, str(directory), *since], [*words, served, *since]]
        rest = {name: value for name, value in os.environ.items() if not name.startswith("HOSO24_")}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.intake.verify_again", str(RUNS), json.dumps(turns)),
            env=rest | {"HOSO24_PG_AUDITOR_URL": database.auditor_url},
            stdout=subprocess.PIPE,
        )
        out, _ = await process.communicate()
        done.set()
        await asyncio.gather(*changes)
    runs = [json.loads(line) for line in out.splitlines()]
    assert len(runs) == RUNS
    for status, lines in runs:
        assert (status, len(lines)) == (0, 1), lines
        assert ": nothing was altered." in lines[0]
    assert entries(directory) > 300


# -- an outsider -------------------------------------------------------------------------------------------------------


async def test_outsider_who_kept_a_checkpoint_finds_that_a_dossier_was_deleted(
    database: Database, owner: Any, writer: Any, directory: Path, served: str, tmp_path: Path
) -> None:
    written = Written(writer)
    await written.life()
    code = await written.life()
    await all_in(directory, owner)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    watch = ("audit", "watch", served, "--key", SIGNER.key.text, "--state", str(elsewhere / "checkpoint.txt"))
    ran = await hoso24(*watch)
    assert (ran.status, ran.lines) == (0, ["Kept the first checkpoint of hoso24.example/books: 10 entries."])
    await written.life()
    await all_in(directory, owner)
    ran = await hoso24(*watch)
    expected = "The books have grown from 10 to 15 entries, and nothing before was altered."
    assert (ran.status, ran.lines) == (0, [expected])
    kept = ("--checkpoint", str(elsewhere / "checkpoint.txt"))
    assert (await verify(database, served, *kept)).status == 0

    # A proof that the citizen's lawyer keeps outlives the dossier.
    ran = await hoso24(
        *("audit", "prove", code, "2", "--books", served, "--key", SIGNER.key.text),
        HOSO24_PG_AUDITOR_URL=database.auditor_url,
    )
    (elsewhere / "x.tlog-proof").write_text("\n".join(ran.lines) + "\n", "utf-8")
    for table in ("dossier_number", "event", "dossier"):
        await owner.execute(f"DELETE FROM {table} WHERE code = $1", code)
    ran = await verify(database, served, *kept)
    assert ran.status == 1
    assert ran.lines[0].startswith("5 entries have no event any more, leaves 5 to 9, recorded after 2")
    assert ran.lines[1] == "10 events, 2 dossiers, checkpoint of 15 leaves: 1 finding."
    ran = await hoso24("audit", "check", str(elsewhere / "x.tlog-proof"), "--key", SIGNER.key.text)
    assert ran.status == 0
    assert ran.lines[0] == f"Entry 6 of the 15 in hoso24.example/books is event 2 of {code}:"

    # The operator makes the books anew to fit, with the notary's key: only the kept checkpoint tells.
    anew = tmp_path / "anew"
    anew.mkdir()
    notary.begin(Files(anew), SIGNER)
    async with notary_on(database.notary_url, anew):
        await until(lambda: _has(anew, 10))
    assert (await verify(database, anew)).status == 0
    ran = await verify(database, anew, *kept)
    assert (ran.status, ran.lines[0]) == (
        1,
        f"{elsewhere / 'checkpoint.txt'} signs 15 leaves, and the books have only 10: they were set back.",
    )


# -- a restore ---------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def notary_on(url: str, books: Path) -> AsyncIterator[Notary]:
    work = Notary(
        EventLog(lambda: url),
        lambda: Files(books),
        SIGNER,
        lambda: KEYS,
        poll_every=0.02,
        retry_every=0.05,
        turn_after=0.0,
    )
    task = asyncio.create_task(work.run())
    try:
        yield work
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _has(books: Path, size: int) -> bool:
    return entries(books) == size


async def test_real_restore_is_told_and_is_no_finding(
    fragile: Callable[..., Any], directory: Path, tmp_path: Path
) -> None:
    """PostgreSQL goes back to an earlier copy of itself: ids are assigned a second time, by an intake that goes on."""
    cluster = fragile()[0]
    database = await prepare(cluster.admin_url, "hoso24")

    async def write(dossiers: int, epoch: int = 1) -> None:
        connection = await asyncpg.connect(database.writer_url)
        for _ in range(dossiers):
            await Written(connection, epoch=epoch).life()
        await connection.close()

    async with notary_on(database.notary_url, directory) as work:
        await write(60)
        await until(lambda: _has(directory, 300))
        shutil.copy(directory / "checkpoint", tmp_path / "before.txt")
        cluster.stop()
        backup = cluster.data_directory.with_name("backup")
        shutil.copytree(cluster.data_directory, backup, symlinks=True)
        cluster.restart()
        await write(24)
        await until(lambda: _has(directory, 420))
        shutil.copy(directory / "checkpoint", tmp_path / "lost.txt")

        cluster.stop()
        account = cluster.data_directory.stat()
        shutil.rmtree(cluster.data_directory)
        backup.rename(cluster.data_directory)
        for each in [cluster.data_directory, *cluster.data_directory.rglob("*")]:
            os.chown(each, account.st_uid, account.st_gid, follow_symlinks=False)
        cluster.restart()
        await write(4)
        await until(lambda: _halted(work))
        ran = await verify(database, directory)
        assert ran.status == 1
        assert any(line.startswith("100 entries have no event any more, leaves 320 to 419") for line in ran.lines), ran
        connection = await asyncpg.connect(database.owner_url)
        await connection.fetchval(NEW_EPOCH, "restored")
        await connection.close()
        await write(2, epoch=2)
        await until(lambda: _has(directory, 300 + 120 + 1 + 20 + 10))
    kept = [word for name in ("before", "lost") for word in ("--checkpoint", str(tmp_path / f"{name}.txt"))]
    for since in ([], ["--since", str(tmp_path / "before.txt")], ["--since", str(tmp_path / "lost.txt")]):
        ran = await verify(database, directory, *kept, *since)
        assert ran.status == 0, ran
        assert (
            ran.lines[0] == "Turn to epoch 2 at leaf 420: leaves 300 to 419 void, 20 events late. Was there a restore?"
        )
        assert "As the books say of restores, 120 entries are void and 20 came late." in ran.lines[1]


async def _halted(work: Notary) -> bool:
    return work.halted
