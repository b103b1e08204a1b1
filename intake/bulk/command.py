"""`hoso24 import` at a terminal: shows the progress, the outcome of the lines, and the next step."""

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import asyncpg
import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from intake.books.seal import SealKeys
from intake.books.sequences import HIGHEST_NUMBER
from intake.bulk.loader import Import, ImportTally
from intake.bulk.source import Unreadable
from intake.dialects import REASONS
from intake.settings import WriterSettings
from lookup.catalogue.load import NoCatalogue
from lookup.lookup_key import KeyRing
from ops.settings import read
from ops.stores.calls import reason_of
from ops.stores.postgres import POSTGRES_AWAY, connect_directly


class GoesOn(click.ClickException):
    """The import did not come to its end; the same command goes on where it was."""

    exit_code = 2


def run_import(path: Path, environ: Mapping[str, str]) -> ImportTally:
    """Import a file and show the progress; at the end, print a table of the outcomes of its lines.

    Raises GoesOn when it is interrupted, the file cannot be read, or PostgreSQL fails.
    """
    settings = read(WriterSettings, environ)
    console = Console(stderr=True)
    began = time.monotonic()
    with Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=console
    ) as progress:
        task = progress.add_task(path.name, total=path.stat().st_size)
        first: int | None = None

        def show(tally: ImportTally) -> None:
            nonlocal first
            first = tally.line if first is None else first
            rate = (tally.line - first) / (time.monotonic() - began)  # PostgreSQL was connected to meanwhile
            progress.update(task, completed=tally.read, description=f"{tally.line:,} lines, {rate:,.0f}/s")

        try:
            done = asyncio.run(_import(path, settings, show))
        except (KeyboardInterrupt, asyncio.CancelledError):
            raise GoesOn("Interrupted. Run the same command again to go on from here.") from None
        except (asyncpg.UndefinedTableError, asyncpg.InsufficientPrivilegeError, NoCatalogue):
            raise  # the database was never prepared: a second run would not help
        except Unreadable as unreadable:
            raise GoesOn(f"{path}: {unreadable}") from None
        except (*POSTGRES_AWAY, asyncpg.PostgresError) as error:
            if isinstance(error, OSError) and error.filename is not None:
                raise
            raise GoesOn(
                f"The import lost its connection to PostgreSQL: {reason_of(error)}. "
                "Run the same command again to go on from here."
            ) from None
    _report(console, path, done, time.monotonic() - began)
    return done.tally


async def _import(path: Path, settings: WriterSettings, show: Callable[[ImportTally], None]) -> Import:
    connection = await connect_directly(settings.pg_url.reveal)
    try:
        keys = KeyRing.from_text(settings.lookup_key_secrets.reveal())
        work = Import(connection, path, keys, SealKeys.from_text(settings.seal_keys.reveal()), show)
        await work.run()
        return work
    finally:
        connection.terminate()


def _report(console: Console, path: Path, done: Import, seconds: float) -> None:
    tally = done.tally
    table = Table(title=f"{path.name}: {tally.line:,} lines in {seconds:,.1f} s, {tally.line / seconds:,.0f} lines/s")
    table.add_column("outcome")
    table.add_column("lines", justify="right")
    table.add_row("taken", f"{tally.taken:,}")
    table.add_row("appended to stored dossiers", f"{tally.appended:,}")
    table.add_row("already here", f"{tally.already_here:,}")
    for reason, count in sorted(tally.reasons.items()):
        table.add_row(f"refused: {REASONS[reason]}", f"{count:,}")
    if tally.blank:
        table.add_row("blank", f"{tally.blank:,}")
    if tally.irregular:
        table.add_row("taken this time, with an irregular history", f"{tally.irregular:,}")
    if tally.not_raised:
        table.add_row(f"taken this time, numbered above {HIGHEST_NUMBER:,}", f"{tally.not_raised:,}")
    console.print(table)
    if tally.rejected:
        console.print(f"Refused lines, with number and reason: {done.reject_path}")
    console.print(f"Lookup keys, for the holders of the dossiers only: {done.key_path}")
