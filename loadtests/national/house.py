"""Postgres and Redis of our own in a folder that stays: stopped and started again, with production's settings.

`hoso24 up --servers-only` runs them. What production's Postgres is told is told to this one, too, because how much of
the log is whole pages, and how much of the data stays in memory, depends on it.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import yaml

from loadtests.bench.servers import ROOT
from loadtests.system.installation import House
from loadtests.system.processes import HOSO24, OTHER_CORE, free_port, get, started, wait_until

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
START_SECONDS = 900.0
"""After an interruption there may be minutes of log to replay."""
READY_SECONDS = 60.0
CHECKPOINT_SECONDS = 900.0
# What ALTER SYSTEM wrote is read last and overrules the file that `hoso24 up` writes; the view reads both anew.
NOT_FOLLOWED = """
SELECT EXISTS (SELECT
                 FROM pg_file_settings
                WHERE name = ANY ($1) AND sourcefile LIKE '%/postgresql.auto.conf' AND NOT applied)
"""


def production() -> dict[str, str]:
    """What production's Postgres is told, as far as it matters here."""
    cluster = yaml.safe_load(PRODUCTION.read_text("utf-8"))
    parameters = cluster["spec"]["postgresql"]["parameters"]
    return {name: str(parameters[name]) for name in TAKEN_OVER}


@contextmanager
def running(folder: Path, settings: Mapping[str, str], *, pinned: bool = False) -> Iterator[House]:
    """The servers on what is in `folder`, made if there is nothing, for as long as the block runs.

    `pinned`: on the second core only, the first being for a lookup under test. They are left with nothing to write, so
    that they stop at once and the next start has nothing to replay. Raises CannotMeasure.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)  # started as root, Postgres runs as somebody else, who has to get in
    with ExitStack() as undo:
        house = undo.enter_context(_up(folder, pinned=pinned))
        if house.ask("admin", lambda admin: _tell(admin, {**settings, **OUR_OWN})):
            undo.close()
            house = undo.enter_context(_up(folder, pinned=pinned))
        undo.callback(checkpoint, house)
        yield house


def checkpoint(house: House) -> None:
    """Have everything written that is only in memory."""
    house.ask("admin", lambda admin: admin.execute("CHECKPOINT", timeout=CHECKPOINT_SECONDS))


def data_directory(house: House) -> Path:
    """Where Postgres keeps its data; not always below the folder (ops/local/servers.py says when)."""
    return Path(house.ask("admin", lambda admin: admin.fetchval("SHOW data_directory")))


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
def relaying(house: House) -> Iterator[int]:
    """A relay beside the servers, for lookups that follow; its pid."""
    port = free_port()
    log = house.folder / "relay.log"
    environ = {**house.environ, "HOSO24_RELAY_ADMIN_PORT": str(port)}
    with started([*HOSO24, "relay"], core=OTHER_CORE, cwd=house.folder, log=log, environ=environ) as process:
        ready = f"http://127.0.0.1:{port}/readyz"
        wait_until(lambda: get(ready)[0] == 200, "the relay", seconds=READY_SECONDS, process=process, log=log)
        yield process.pid


@contextmanager
def _up(folder: Path, *, pinned: bool) -> Iterator[House]:
    log, there = folder / "up.log", folder / ".hoso24"
    core = OTHER_CORE if pinned else None
    with started([*HOSO24, "up", "--servers-only"], core=core, cwd=folder, log=log) as process:
        wait_until((there / "up.json").exists, "hoso24 up", seconds=START_SECONDS, process=process, log=log)
        up = json.loads((there / "up.json").read_text("utf-8"))
        lines = (there / "environ").read_text("utf-8").splitlines()
        environ = dict(line.split("=", 1) for line in lines)
        postgres = up["postgres"] | {"admin": _of_database(environ.pop("HOSO24_PG_ADMIN_URL"), up["postgres"]["owner"])}
        yield House(folder, process.pid, "", postgres, up["redis"], environ)


def _of_database(admin: str, owner: str) -> str:
    return urlunsplit(urlsplit(admin)._replace(path=urlsplit(owner).path))


async def _tell(admin: Any, settings: Mapping[str, str]) -> bool:
    """Whether Postgres has to be started anew to follow."""
    for name, value in settings.items():
        await admin.execute(f"ALTER SYSTEM SET {name} = '{value}'")
    await admin.execute("SELECT pg_reload_conf()")
    return bool(await admin.fetchval(NOT_FOLLOWED, list(settings)))
