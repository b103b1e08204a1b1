"""What verify costs: `python -m tests.intake.measure_verify [DOSSIERS]` prints events a second and memory.

Makes a PostgreSQL of its own with that many dossiers of four events (60,000), enters them into books, and runs
`hoso24 audit verify` in a process of its own, whose largest memory it prints; then --since, and one proof.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import msgspec

from intake.books.dossier import DOSSIER_COLUMNS, public_step, timeline
from intake.books.proofs import check, prove
from intake.books.published import books_at
from intake.books.seal import ROW_COLUMNS, EventRecord, new_salt, person_digest
from lookup.status import Status
from ops.local.postgres import PostgresServer
from ops.local.reaper import Reaper
from tests.conftest import FAST, Database, prepare
from tests.intake.written import AGENCY, KEYS, PERSON, SIGNER, START, Entered, first_row

BATCH = 2_000


def life(number: int) -> tuple[tuple[Any, ...], list[tuple[Any, ...]]]:
    """The row of an imported dossier and its four events."""
    salt, code = new_salt(), f"{AGENCY}-{261101 + number // 9_999:06d}-{number % 9_999 + 1:04d}"
    first = EventRecord(
        epoch=1, code=code, version=1, kind="received", bulk=True, occurred_at=START, recorded_at=datetime.now(UTC),
        source="import", status=2, agency=AGENCY, origin=AGENCY, service="S.004", service_case="default",
        channel="direct", submitted_at=START, received_at=START, due_at=START + timedelta(days=14), calendar="vn-2026",
        person=person_digest(salt, list(PERSON.values())), department="Một cửa", actor="Cán bộ Mẫu",
    )  # fmt: skip
    rows, last = [first.row(salt, KEYS)], first
    steps = [public_step(START, Status.RECEIVED, AGENCY, "Một cửa")]
    for version, (status, outcome) in enumerate([(4, None), (9, "granted"), (10, "granted")], 2):
        at = START + timedelta(days=version)
        done = {"finished_at": at} if status == 9 else {"returned_at": at} if status == 10 else {}
        last = msgspec.structs.replace(
            last, version=version, kind="moved", occurred_at=at, status=status, outcome=outcome, service=None,
            service_case=None, channel=None, submitted_at=None, person=None, **done,
        )  # fmt: skip
        rows.append(last.row(new_salt(), KEYS))
        steps.append(public_step(at, Status(status), AGENCY, "Một cửa"))
    row = first_row_of(first, last)
    named = {name: getattr(row, name) for name in DOSSIER_COLUMNS}
    return tuple({**named, "version": 4, "timeline": timeline(*steps)}[name] for name in DOSSIER_COLUMNS), rows


def first_row_of(first: EventRecord, last: EventRecord) -> Any:
    """The row after the last event."""
    kept = {name: getattr(first, name) for name in ("service", "service_case", "channel", "submitted_at")}
    return first_row(msgspec.structs.replace(last, **kept), PERSON)


async def fill(database: Database, dossiers: int) -> None:
    """COPY the dossiers and their events, a batch a transaction."""
    connection = await asyncpg.connect(database.owner_url)
    for start in range(0, dossiers, BATCH):
        lives = [life(number) for number in range(start, min(start + BATCH, dossiers))]
        async with connection.transaction():
            await connection.copy_records_to_table(
                "dossier", columns=DOSSIER_COLUMNS, records=[row for row, _ in lives]
            )
            events = [event for _, events in lives for event in events]
            await connection.copy_records_to_table("event", columns=ROW_COLUMNS, records=events)
    await connection.close()


class Took(NamedTuple):
    """What one run cost: seconds, of them seconds of its own processor time, and the most memory in MB."""

    seconds: float
    cpu: float
    memory: float
    said: str

    def __str__(self) -> str:
        return (
            f"{self.seconds:.1f} s, {self.cpu:.1f} s of CPU in its process, at most {self.memory:,.0f} MB: {self.said}"
        )


def verify(database: Database, *words: str) -> Took:
    """`hoso24 audit verify` in a process of its own. Raises RuntimeError unless nothing was found."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "hoso24", "audit", "verify", "--key", SIGNER.key.text, *words],
        env={**os.environ, "HOSO24_PG_AUDITOR_URL": database.auditor_url},
        stdout=subprocess.PIPE,
        text=True,
    )
    memory, ended, status = 0.0, 0, 0
    while not ended:  # what wait4 says of memory is that of the parent as well
        with contextlib.suppress(OSError, StopIteration):
            told = Path(f"/proc/{process.pid}/status").read_text("utf-8").splitlines()
            memory = next(int(line.split()[1]) / 1024 for line in told if line.startswith("VmHWM"))
        time.sleep(0.05)
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
    said = (process.stdout.read() if process.stdout else "").strip()
    if status:
        raise RuntimeError(said)
    return Took(time.perf_counter() - began, usage.ru_utime + usage.ru_stime, memory, said)


async def measure(dossiers: int, place: Path, server: PostgresServer) -> None:
    """Fill, verify, print."""
    database = await prepare(server.admin_url, "measured")
    await fill(database, dossiers - 2_500)
    owner = await asyncpg.connect(database.owner_url)
    (place / "books").mkdir()
    entered = Entered(place / "books", owner)
    (place / "before.txt").write_bytes(await entered.enter())
    connection = await asyncpg.connect(database.owner_url)
    lives = [life(number) for number in range(dossiers - 2_500, dossiers)]
    async with connection.transaction():
        await connection.copy_records_to_table("dossier", columns=DOSSIER_COLUMNS, records=[row for row, _ in lives])
        events = [event for _, events in lives for event in events]
        await connection.copy_records_to_table("event", columns=ROW_COLUMNS, records=events)
    await connection.close()
    await entered.enter()
    await owner.execute("VACUUM ANALYZE event")
    await owner.close()
    books = ["--books", str(place / "books")]
    took = verify(database, *books)
    print(f"{4 * dossiers / took.seconds:,.0f} events/s, {took.cpu / dossiers / 4 * 1e6:.0f} µs of CPU an event")
    print(took)
    print(f"rows only: {verify(database)}")
    print(f"since, 10,000 newer: {verify(database, *books, '--since', str(place / 'before.txt'))}")
    auditor = await asyncpg.connect(database.auditor_url)
    code = lives[0][0][0]
    times = []
    for _ in range(20):
        began = time.perf_counter()
        proof = await prove(auditor, books_at(str(place / "books")), SIGNER.key, code, 2)
        made = time.perf_counter()
        check(proof.encode(), SIGNER.key)
        times.append((made - began, time.perf_counter() - made))
    await auditor.close()
    made, checked = (sorted(each)[10] * 1_000 for each in zip(*times, strict=True))
    print(f"a proof: made in {made:.1f} ms, checked in {checked:.1f} ms, {len(proof):,} bytes (medians of 20)")


def main() -> None:
    """Measure with the number of dossiers that is given."""
    dossiers = int(sys.argv[1]) if len(sys.argv) > 1 else 60_000
    with tempfile.TemporaryDirectory(prefix="hoso24-verify-") as name, Reaper() as reaper:
        place = Path(name)
        place.chmod(0o755)
        with PostgresServer.start(place / "postgres", settings=FAST, reaper=reaper) as server:
            asyncio.run(measure(dossiers, place, server))


if __name__ == "__main__":
    main()
