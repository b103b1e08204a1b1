"""How fast the notary is: `python -m tests.intake.measure_notary`. It prints figures, and asserts nothing."""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import asyncpg

from intake.books import notary
from intake.books.notary import EventLog, Notary
from intake.books.seal import ROW_COLUMNS
from intake.books.tree_files import Files
from ops.local.postgres import PostgresServer
from ops.local.reaper import Reaper
from tests.conftest import prepare
from tests.intake.test_notary import SIGNER, imported
from tests.intake.written import KEYS, Written

BACKLOG = 100_000
CHANGES = 300


def length(directory: Path) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


async def measure(admin_url: str, books: Path) -> None:
    """Catch up a backlog, and then follow single changes."""
    database = await prepare(admin_url, "hoso24")
    writer = await asyncpg.connect(database.writer_url)
    for start in range(0, BACKLOG, 1_000):
        rows = [imported(number) for number in range(start, start + 1_000)]
        await writer.copy_records_to_table("event", columns=ROW_COLUMNS, records=rows)
    notary.begin(Files(books), SIGNER)
    work = Notary(EventLog(lambda: database.notary_url), lambda: Files(books), SIGNER, lambda: KEYS)

    async def signed(size: int) -> None:
        while work.published is None or work.published.levels.size < size:  # noqa: ASYNC110 - it tells no one
            await asyncio.sleep(0.001)

    began, cpu = time.perf_counter(), time.process_time()
    task = asyncio.create_task(work.run())
    await signed(BACKLOG)
    seconds, own = time.perf_counter() - began, time.process_time() - cpu
    print(
        f"{BACKLOG:,} events: {BACKLOG / seconds:,.0f}/s, {BACKLOG / own:,.0f} for each second of the notary's own time"
    )
    print(f"files: {length(books) / BACKLOG:.1f} bytes an event")
    waited = []
    for number in range(1, CHANGES + 1):
        await Written(writer).receive()
        began = time.perf_counter()
        await signed(BACKLOG + number)
        waited.append(time.perf_counter() - began)
        await asyncio.sleep(0.013 * (number % 20))
    median, p99 = statistics.median(waited), statistics.quantiles(waited, n=100)[98]
    print(
        f"{CHANGES} changes, committed -> signed: median {median:.2f} s, p99 {p99:.2f} s, longest {max(waited):.2f} s"
    )
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await writer.close()


def main() -> None:
    """Measure on a server of its own, with files on the disk of the temporary directory."""
    with tempfile.TemporaryDirectory(prefix="hoso24-measure-") as place, Reaper() as reaper:
        Path(place).chmod(0o755)
        books = Path(place) / "books"
        books.mkdir()
        with PostgresServer.start(Path(place) / "postgres", reaper=reaper) as server:
            asyncio.run(measure(server.admin_url, books))


if __name__ == "__main__":
    main()
