"""The disk under the Postgres primary's log is full: the server stops altogether, and no standby is promoted.

The log is put on a small file system of its own for this, which takes root. A server whose log cannot be written ends
by itself, every time it is started, until there is space.
"""

import asyncio
import contextlib
import errno
import os
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from loadtests.gameday.day import Day, Fault, Skipped
from loadtests.gameday.faults.postgres import (
    KNOWN,
    UNTIL_HEALED,
    Recovery,
    RepeatedSubmission,
    first_acknowledged,
    healed,
    left_to_the_primary,
    restarted,
)
from loadtests.gameday.promises import none_failed
from loadtests.system.postgres import Node
from loadtests.verdict import Row
from ops.local.postgres import PostgresServer

SPARE = 48 * 1024 * 1024
"""What is left beside the log at first: three of its pieces."""
FULL = 15.0
"""For how long there is no space, in seconds."""
ANSWER_SECONDS = 5.0
AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)
WRITE_ON = "SELECT pg_logical_emit_message(true, 'gameday', 'x'), pg_switch_wal()"
NO_SPACE = os.strerror(errno.ENOSPC)
RECOVERY_FAILED = re.compile(f"FATAL: .*{NO_SPACE}")


@dataclass(frozen=True)
class SmallDisk:
    """A file system that holds one server's log and not much more."""

    place: Path
    node: Node

    @property
    def _filler(self) -> Path:
        return self.place / "filler"

    def fill(self) -> None:
        """Nothing more can be written."""
        free = os.statvfs(self.place)
        with self._filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, free.f_bavail * free.f_frsize))

    def make_space(self) -> None:
        """As it was before."""
        self._filler.unlink(missing_ok=True)


@contextlib.asynccontextmanager
async def small_disk(node: Node) -> AsyncIterator[SmallDisk]:
    """The node's log is on it within the block; afterwards it is back in its place. Raises Skipped."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        raise Skipped("a file system to fill takes root and mount(8)")
    server = node.server
    log, place = server.data_directory / "pg_wal", server.home / "small-disk"
    await asyncio.to_thread(server.stop)
    try:
        with _mounted(place, _size(log) + SPARE):
            await asyncio.to_thread(_move_log, node, log, place / "pg_wal")
            try:
                await restarted(node)
                yield SmallDisk(place, node)
            finally:
                await asyncio.to_thread(server.stop)
                await asyncio.to_thread(_move_log_back, log, place / "pg_wal")
    finally:
        await restarted(node)


@contextlib.contextmanager
def _mounted(place: Path, size: int) -> Iterator[None]:
    place.mkdir(mode=0o755)
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "gameday", str(place)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise Skipped(f"no file system can be mounted here ({done.stderr.strip()})")
        try:
            yield
        finally:
            subprocess.run(["umount", str(place)], check=True, capture_output=True)
    finally:
        place.rmdir()


def _size(tree: Path) -> int:
    return sum(path.stat().st_size for path in tree.rglob("*") if path.is_file())


def _move_log(node: Node, log: Path, to: Path) -> None:
    """The pieces that were made in advance stay out: they would have to be written through first."""
    _copy(log, to)
    last = _last_piece(node)
    for piece in to.glob("0*"):
        if len(piece.name) == len(last) and piece.name > last:
            piece.unlink()
    log.rename(log.with_name("pg_wal.aside"))
    log.symlink_to(to)


def _last_piece(node: Node) -> str:
    """The piece of the log that a server which has ended well goes on in."""
    told = subprocess.run(
        [str(node.server.bin_directory / "pg_controldata"), "-D", str(node.server.data_directory)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (line,) = (line for line in told.splitlines() if line.startswith("Latest checkpoint's REDO WAL file:"))
    return line.rpartition(" ")[2]


def _move_log_back(log: Path, source: Path) -> None:
    back = log.with_name("pg_wal.back")
    _copy(source, back)
    log.unlink()
    back.rename(log)
    shutil.rmtree(log.with_name("pg_wal.aside"))


def _copy(log: Path, to: Path) -> None:
    """A copy with the same owner."""
    shutil.copytree(log, to)
    owner = log.stat()
    for path in (to, *to.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)
    to.chmod(0o700)


async def disk_full(day: Day) -> list[Row]:
    """Until the server ends, then for a while, then there is space and it is started again."""
    cluster = day.stage.postgres
    primary = cluster.primary
    async with small_disk(primary) as disk:
        await day.settled()
        began, log_start = time.monotonic(), primary.server.log_path.stat().st_size
        day.say("the disk under the primary's log fills up")
        await asyncio.to_thread(disk.fill)

        async def written_to_the_end() -> str:
            await write_on(primary.server.admin_url)
            return stopped(primary.server, log_start)

        state = await day.until(written_to_the_end, UNTIL_HEALED, "the server stops")
        ended = time.monotonic()
        day.say("no space")
        handed_in = RepeatedSubmission(day)
        status = (await handed_in.send()).status
        await asyncio.sleep(max(0.0, ended + FULL - time.monotonic()))  # this is the fault
        without_space = stopped(primary.server, log_start)
        await asyncio.to_thread(disk.make_space)
        space = time.monotonic()
        day.say("there is space, and the server starts again")
        await restarted(primary)
        await handed_in.until_acknowledged(UNTIL_HEALED)
        handed_in.hang_up()
        await day.visible(UNTIL_HEALED)
        fresh = time.monotonic()
        await cluster.in_step()
    await day.crowd.answered(fresh)
    write = first_acknowledged(day, space) or fresh
    return [
        Row(
            "the server",
            f"{state}, {ended - began:.1f} s after the disk was full; {without_space or 'it runs'} {FULL:g} s later",
            "stops altogether for want of space",
            kept=bool(without_space),
        ),
        Row("intake while full", f"answered {status}", "503", status == 503),
        none_failed(day.record.window(began, fresh, *KNOWN)),
        left_to_the_primary(day, began, fresh, began, write),
        *await healed(day, DISK_FULL, began, Recovery("when there was space", space, write, fresh)),
    ]


def stopped(server: PostgresServer, log_start: int) -> str:
    """Whether it takes no connections any more for want of space: how it stands; empty while it goes on.

    A server that cannot end its recovery ends itself. Now and then PostgreSQL 18 does not notice that its recovery has
    failed, stays, and takes no connections; it has to be stopped then before it is started again.
    """
    told = server.log_path.read_bytes()[log_start:].decode(errors="replace")
    if not server.alive:
        return "ended by itself" if NO_SPACE in told else ""
    return "refuses all connections" if RECOVERY_FAILED.search(told) else ""


async def write_on(url: str) -> None:
    """Begin another piece of the log, if the server that is asked still can."""
    with contextlib.suppress(*AWAY):
        connection = await asyncpg.connect(url, timeout=ANSWER_SECONDS)
        try:
            await connection.execute(WRITE_ON, timeout=ANSWER_SECONDS)
        finally:
            connection.terminate()


DISK_FULL = Fault(
    "disk-full",
    "Disk full under the Postgres primary",
    "caches and standby answer; intake 503; the server recovers once there is space",
    disk_full,
)
