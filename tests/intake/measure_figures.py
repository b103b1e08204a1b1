"""What counting the public figures costs: `python -m tests.intake.measure_figures [DOSSIERS]` prints seconds.

Makes a PostgreSQL of its own with that many dossiers of four events (1,000,000), counts them for the first time, and
then 10,000 events more.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import asyncpg

from intake.books.dossier import DOSSIER_COLUMNS
from intake.books.seal import ROW_COLUMNS
from intake.figures.counting import Counted, count
from ops.local.postgres import PostgresServer
from ops.local.reaper import Reaper
from tests.conftest import FAST, Database, prepare
from tests.intake.measure_verify import fill

TIMES = 10
"""A dossier that is copied in is multiplied by so many statements of PostgreSQL's own."""
MORE = 10_000


def copied(table: str, columns: tuple[str, ...], digit: int) -> str:
    """The rows of a table once more, under codes with one digit more."""
    chosen = ", ".join(f"code || '{digit}'" if name == "code" else name for name in columns)
    return f"""
INSERT INTO {table} ({", ".join(columns)})
SELECT {chosen}
  FROM {table}
 WHERE code ~ '-[0-9]{{4}}$'
"""


async def superuser(database: Database) -> Any:
    """Without triggers and foreign keys, which the copies satisfy."""
    url = f"{database.admin_url.rpartition('/')[0]}/{database.name}"
    connection = await asyncpg.connect(url)
    await connection.execute("SET search_path = hoso24; SET session_replication_role = replica")
    return connection


async def multiplied(database: Database) -> None:
    """Every dossier TIMES times."""
    connection = await superuser(database)
    for digit in range(TIMES - 1):
        await connection.execute(copied("dossier", tuple(DOSSIER_COLUMNS), digit))
        await connection.execute(copied("event", tuple(ROW_COLUMNS), digit))
    await connection.close()


async def more(database: Database) -> None:
    """MORE events of as many dossiers: each is taken up again."""
    connection = await superuser(database)
    columns = [name for name in ROW_COLUMNS if name not in {"version", "status", "bulk"}]
    await connection.execute(f"""
INSERT INTO event ({", ".join(columns)}, version, status, bulk)
SELECT {", ".join(columns)}, 5, 4, false
  FROM event
 WHERE version = 4
 LIMIT {MORE}
""")
    await connection.close()


async def counted(database: Database) -> tuple[float, Counted]:
    """The seconds of a run, and what it did."""
    connection = await asyncpg.connect(database.url("hoso24_figures"))
    began = time.perf_counter()
    done = await count(connection)
    await connection.close()
    return time.perf_counter() - began, done


async def measure(dossiers: int, server: PostgresServer) -> None:
    """Fill, count, add, count."""
    database = await prepare(server.admin_url, "figures")
    print(f"Filling {dossiers:,} dossiers …", flush=True)
    await fill(database, dossiers // TIMES)
    await multiplied(database)
    seconds, done = await counted(database)
    print(f"first run: {seconds:.1f} s, {done.changed:,} figures, with what is in hand", flush=True)
    await more(database)
    seconds, done = await counted(database)
    print(f"{MORE:,} events more: {seconds:.2f} s, {done.changed:,} figures", flush=True)


def main() -> None:
    """Measure with the number of dossiers that is given."""
    dossiers = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory(prefix="hoso24-figures-") as name, Reaper() as reaper:
        place = Path(name)
        place.chmod(0o755)
        with PostgresServer.start(place / "postgres", settings=FAST, reaper=reaper) as server:
            asyncio.run(measure(dossiers, server))


if __name__ == "__main__":
    main()
