"""An installation in a folder: Postgres, Redis, and for the bench a relay and a lookup that is left idle.

`furnished` is the bench's, full of dossiers and gone with the block. `running` is that of the national run: its folder
stays, it is stopped and started again, and its Postgres has production's settings, because how much of the log is whole
pages, and how much of the data stays in memory, depends on them.
"""

import asyncio
import json
import os
import shlex
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import psutil
import redis
import yaml

from loadtests.system import computed_dossiers
from loadtests.system.http_client import fetch
from loadtests.system.processes import (
    HOSO24,
    OTHER_CORE,
    POLL_SECONDS,
    ROOT,
    CannotMeasure,
    free_port,
    started,
    wait_until,
)

T = TypeVar("T")

FIND_MANY = """
SELECT code, version, status
  FROM dossier
 WHERE code = ANY ($1)
"""

START_SECONDS = 120.0
RELAY_SECONDS = 30.0
ANSWERS_AT_ONCE = 1000
KEPT_SECONDS = 86_400

PRODUCTION = ROOT / "k8s" / "components" / "postgres" / "cluster.yaml"
TAKEN_OVER = (
    "shared_buffers",
    "effective_cache_size",
    "work_mem",
    "maintenance_work_mem",
    "max_wal_size",
    "min_wal_size",
    "checkpoint_timeout",
    "random_page_cost",
)
OUR_OWN = {"track_io_timing": "on", "track_activity_query_size": "16kB"}
RECOVERY_SECONDS = 900.0
"""After an interruption there may be minutes of log to replay."""
READY_SECONDS = 60.0
CHECKPOINT_SECONDS = 900.0
# What ALTER SYSTEM wrote is read last and overrules the file that `hoso24 up` writes; the view reads both anew.
NOT_FOLLOWED = """
SELECT EXISTS (SELECT
                 FROM pg_file_settings
                WHERE name = ANY ($1) AND sourcefile LIKE '%/postgresql.auto.conf' AND NOT applied)
"""


@dataclass(frozen=True)
class Installation:
    """A running system. `environ` is what its processes run with."""

    folder: Path
    pid: int
    lookup: str
    postgres: dict[str, str]
    redis: str
    environ: dict[str, str]

    def ask(self, role: str, work: Callable[[Any], Awaitable[T]]) -> T:
        """Do some work on a connection of that role's."""

        async def connected() -> T:
            connection = await asyncpg.connect(self.postgres[role])
            try:
                return await work(connection)
            finally:
                await connection.close()

        return asyncio.run(connected())

    def empty_redis(self) -> None:
        """Remove every key, and return once the relay has written its own again."""
        with redis.Redis.from_url(self.redis) as client:
            client.flushall()
            deadline = time.monotonic() + RELAY_SECONDS
            while not client.dbsize():
                if time.monotonic() > deadline:
                    raise CannotMeasure(f"The relay wrote nothing into the empty Redis within {RELAY_SECONDS:.0f} s.")
                time.sleep(POLL_SECONDS)

    def evicted(self) -> int:
        """How many keys Redis has given up for want of memory since it started."""
        with redis.Redis.from_url(self.redis) as client:
            return int(client.info("stats")["evicted_keys"])

    def put_answers(self, codes: Sequence[str], entry: Callable[[Any], tuple[str, bytes]]) -> None:
        """Put finished answers into Redis; `entry` makes key and value of a row: code, version, status."""

        async def put(reader: Any) -> None:
            with redis.Redis.from_url(self.redis) as client:
                for start in range(0, len(codes), ANSWERS_AT_ONCE):
                    pipeline = client.pipeline(transaction=False)
                    for row in await reader.fetch(FIND_MANY, codes[start : start + ANSWERS_AT_ONCE]):
                        pipeline.set(*entry(row), ex=KEPT_SECONDS)
                    pipeline.execute()

        self.ask("reader", put)

    def expected(self, code: str) -> bytes:
        """What this system's own lookup answers."""
        answer = fetch(f"{self.lookup}/api/v1/dossiers/{code}")
        if answer.status != 200:
            raise CannotMeasure(
                f"The lookup answers {answer.status or 'nothing'} for {code}, which is in the database."
            )
        return answer.body


@contextmanager
def with_samples() -> Iterator[Installation]:
    """One with the sample catalogue and dossiers, on all cores, for as long as the block runs."""
    with tempfile.TemporaryDirectory(prefix="hoso24-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # started as root, Postgres runs under another account, which has to get in
        with _up(folder, core=None) as system:
            yield system


@contextmanager
def furnished(count: int, say: Callable[[str], None]) -> Iterator[Installation]:
    """A system with `count` dossiers, for as long as the block runs."""
    with tempfile.TemporaryDirectory(prefix="hoso24-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # started as root, Postgres runs under another account, which has to get in
        with _up(folder, "--no-samples") as system:
            say(f"Writing {count:,} dossiers into Postgres (about {count / 15_000:.0f} s) …")
            system.ask("owner", lambda owner: computed_dossiers.write(owner, count))
        # CHECKPOINT is not the owner's to ask for; stopping Postgres makes one, and leaves nothing to write later.
        say("Starting Postgres once more, which leaves it nothing to write …")
        with _up(folder, "--no-samples") as system, _notary_paused(system):
            system.empty_redis()
            yield system


@contextmanager
def _notary_paused(system: Installation) -> Iterator[None]:
    """No notary for as long as the block runs: it would read again and again what the bench writes without a seal."""
    children = psutil.Process(system.pid).children(recursive=True)
    (notary,) = filter(_is_notary, children)
    notary.suspend()
    try:
        yield
    finally:
        notary.resume()


def _is_notary(process: psutil.Process) -> bool:
    try:
        return bool(process.cmdline()[-2:] == ["hoso24", "notary"])
    except psutil.NoSuchProcess:  # an errand that has just ended
        return False


def production() -> dict[str, str]:
    """What production's Postgres is told, as far as it matters here."""
    cluster = yaml.safe_load(PRODUCTION.read_text("utf-8"))
    parameters = cluster["spec"]["postgresql"]["parameters"]
    return {name: str(parameters[name]) for name in TAKEN_OVER}


@contextmanager
def running(folder: Path, settings: Mapping[str, str], *, pinned: bool = False) -> Iterator[Installation]:
    """The servers on what is in `folder`, made if there is nothing, for as long as the block runs.

    `pinned`: on the second core only, the first being for a lookup under test. They are left with nothing to write, so
    that they stop at once and the next start has nothing to replay. Raises CannotMeasure.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)  # started as root, Postgres runs under another account, which has to get in

    def up() -> AbstractContextManager[Installation]:
        return _up(folder, "--servers-only", core=OTHER_CORE if pinned else None, seconds=RECOVERY_SECONDS)

    with ExitStack() as undo:
        system = undo.enter_context(up())
        if system.ask("admin", lambda admin: _tell(admin, {**settings, **OUR_OWN})):
            undo.close()
            system = undo.enter_context(up())
        undo.callback(checkpoint, system)
        yield system


def checkpoint(system: Installation) -> None:
    """Have everything written that is only in memory."""
    system.ask("admin", lambda admin: admin.execute("CHECKPOINT", timeout=CHECKPOINT_SECONDS))


def data_directory(system: Installation) -> Path:
    """Where Postgres keeps its data; not always below the folder (ops/local/servers.py says when)."""
    return Path(system.ask("admin", lambda admin: admin.fetchval("SHOW data_directory")))


def forget(data: Path) -> None:
    """Put the files of a stopped Postgres out of the kernel's page cache; those of others stay where they are."""
    for path in data.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


@contextmanager
def relaying(system: Installation) -> Iterator[int]:
    """A relay beside the servers, for lookups that follow; its pid."""
    port = free_port()
    log = system.folder / "relay.log"
    environ = {**system.environ, "HOSO24_RELAY_ADMIN_PORT": str(port)}
    with started([*HOSO24, "relay"], core=OTHER_CORE, cwd=system.folder, log=log, environ=environ) as process:
        ready = f"http://127.0.0.1:{port}/readyz"
        wait_until(lambda: fetch(ready).status == 200, "the relay", seconds=READY_SECONDS, process=process, log=log)
        yield process.pid


@contextmanager
def _up(
    folder: Path, *options: str, core: int | None = OTHER_CORE, seconds: float = START_SECONDS
) -> Iterator[Installation]:
    log, there = folder / "up.log", folder / ".hoso24"
    still = {"HOSO24_SANDBOX": "off"}  # it would be in what is counted, and move while something is measured
    with started([*HOSO24, "up", *options], core=core, cwd=folder, log=log, environ=still) as process:
        wait_until((there / "up.json").exists, "hoso24 up", seconds=seconds, process=process, log=log)
        up = json.loads((there / "up.json").read_text("utf-8"))
        lines = shlex.split((there / "environ").read_text("utf-8"))
        environ = dict(line.split("=", 1) for line in lines)
        postgres = dict(up["postgres"])
        if admin := environ.pop("HOSO24_PG_ADMIN_URL", None):
            postgres["admin"] = _of_database(admin, postgres["owner"])
        password = there / "redis" / "password"  # not there if Redis was given: then as whom it was given
        redis_url = _of_administrator(up["redis"], password.read_text("utf-8")) if password.exists() else up["redis"]
        yield Installation(folder, process.pid, up.get("lookup", ""), postgres, redis_url, environ)


def _of_administrator(url: str, password: str) -> str:
    """The operator's URL with the user that may do everything: emptying Redis, and peers' keys, are no other user's."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f":{password}@{parts.hostname}:{parts.port}"))


def _of_database(admin: str, owner: str) -> str:
    return urlunsplit(urlsplit(admin)._replace(path=urlsplit(owner).path))


async def _tell(admin: Any, settings: Mapping[str, str]) -> bool:
    """Whether Postgres has to be started anew to follow."""
    for name, value in settings.items():
        await admin.execute(f"ALTER SYSTEM SET {name} = '{value}'")
    await admin.execute("SELECT pg_reload_conf()")
    return bool(await admin.fetchval(NOT_FOLLOWED, list(settings)))
