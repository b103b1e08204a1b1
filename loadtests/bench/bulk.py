"""How fast `hoso24 import` is beside a COPY of the same rows, in one run on the same server.

The import reads the national form, checks it, seals each event and commits every fifty milliseconds; COPY loads the
finished rows in one transaction a table. The ratio says what all that costs. Starts a system of its own in a
temporary directory and stops it again.
"""

import argparse
import resource
import subprocess
import time
from pathlib import Path
from typing import Any

from loadtests.system.installation import Installation, with_samples
from loadtests.system.processes import HOSO24

TABLES = ("dossier", "event")

# Those that the server does not fill in by itself.
COLUMNS = """
SELECT attname
  FROM pg_attribute
 WHERE attrelid = $1::text::regclass
   AND attnum > 0
   AND attname NOT IN ('xid', 'seq')
 ORDER BY attnum
"""


def main() -> None:
    """Run the comparison and print it as a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=100_000, help="dossiers (100000)")
    parser.add_argument("--broken", type=float, default=0.01, help="share of broken lines (0.01)")
    options = parser.parse_args()
    with with_samples() as system:
        compare(system, options.n, options.broken)


def compare(system: Installation, n: int, broken: float) -> None:
    """Import, COPY the same rows in once more, and print both."""
    sample = [*HOSO24, "sample", "--n", str(n), "--broken", str(broken), "-o", "file"]
    subprocess.run(sample, cwd=system.folder, check=True)
    began = time.perf_counter()
    ran = subprocess.run([*HOSO24, "import", "file"], cwd=system.folder, check=False)
    if ran.returncode != bool(broken):  # 1 if lines were refused
        raise SystemExit(f"hoso24 import ended with status {ran.returncode}.")
    imported = time.perf_counter() - began
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    rows, copied = system.ask("owner", lambda owner: copy(owner, system.folder))
    total = sum(rows.values())
    print(f"\n{rows['dossier']:,} dossiers and {rows['event']:,} events of {n:,} lines\n")
    print(f"{'':<16}{'seconds':>10}{'rows/s':>12}{'dossiers/s':>12}{'ratio':>8}")
    for name, seconds in (("hoso24 import", imported), ("COPY", copied)):
        rate, dossiers = total / seconds, rows["dossier"] / seconds
        print(f"{name:<16}{seconds:>10.1f}{rate:>12,.0f}{dossiers:>12,.0f}{copied / seconds:>8.2f}")
    print(f"\nlargest resident size of any of these commands: {memory:.0f} MiB")


async def copy(owner: Any, folder: Path) -> tuple[dict[str, int], float]:
    """Take all rows out, empty the tables, and COPY the rows in again: how many of each table, and the seconds that
    the last took.
    """
    rows, columns = {}, {}
    for table in TABLES:
        columns[table] = [name for (name,) in await owner.fetch(COLUMNS, table)]
        query = f"SELECT {', '.join(columns[table])} FROM {table}"
        done = await owner.copy_from_query(query, output=folder / f"{table}.copy")
        rows[table] = int(done.rpartition(" ")[2])
    await owner.execute("TRUNCATE dossier, event, dossier_number")
    began = time.perf_counter()
    for table in TABLES:
        await owner.copy_to_table(table, columns=columns[table], source=folder / f"{table}.copy")
    return rows, time.perf_counter() - began


if __name__ == "__main__":
    main()
