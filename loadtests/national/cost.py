"""What one cold lookup costs in Postgres: the statement the lookup itself sends, explained over random codes.

The statement is taken from the session of a running lookup, so it is the one in use and no copy of it. Buffers are
8 KiB pages; how many a lookup touches depends on how deep the indexes are, and on nothing else here.
"""

import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.bench.arrivals import percentile
from loadtests.bench.servers import APPLICATION, BenchServer
from loadtests.national.findings import Cost, Timing
from loadtests.system.http_client import fetch
from loadtests.system.installation import Installation
from loadtests.system.processes import CannotMeasure

LATEST = """
SELECT query
  FROM pg_stat_activity
 WHERE application_name = $1 AND usename = 'hoso24_reader' AND query LIKE '%FROM dossier%wanted.code%'
 LIMIT 1
"""

EXPLAIN = "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) EXECUTE asked (ARRAY[{codes}])"
BATCH = 64
CAUGHT_SECONDS = 20.0


@dataclass(frozen=True)
class Explained:
    """One execution."""

    buffers: int
    of_dossier: int
    sequential: bool
    milliseconds: float
    disk_bytes: int


def caught(system: Installation, server: BenchServer, codes: Sequence[str]) -> str:
    """The statement that this lookup reads dossiers with. Raises CannotMeasure if it is never seen to send one.

    A probe may have used the same session since, so it may take several codes that it does not know yet.
    """
    deadline = time.monotonic() + CAUGHT_SECONDS
    for code in codes:
        status = fetch(server.address(code)).status
        if status != 200:
            raise CannotMeasure(f"The lookup answers {status or 'nothing'} for {code}, which is in the database.")
        statement = system.ask("admin", lambda admin: admin.fetchval(LATEST, APPLICATION))
        if statement:
            return str(statement)
        if time.monotonic() > deadline:
            break
    raise CannotMeasure("The lookup was never seen to read a dossier from Postgres.")


def explained(system: Installation, statement: str, codes: Sequence[str], batch: int = 1) -> list[Explained]:
    """The statement run once for each `batch` of these codes, as the reader, on one session."""

    async def run(reader: Any) -> list[Explained]:
        device = _device_bytes(await reader.fetchval("SELECT pg_backend_pid()"))
        await reader.execute(f"PREPARE asked (text[]) AS {statement}")
        seen = []
        for start in range(0, len(codes), batch):
            quoted = ", ".join(f"'{code}'" for code in codes[start : start + batch])
            before = device()
            plan = json.loads(await reader.fetchval(EXPLAIN.format(codes=quoted)))[0]
            seen.append(_explained(plan, device() - before))
        return seen

    return system.ask("reader", run)


def cost(singly: Sequence[Explained], batches: Sequence[Explained], codes: int) -> Cost:
    """Buffers, of executions for one code each and of those for 64; `codes`: how many those were for together."""
    buffers = [each.buffers for each in singly]
    return Cost(
        sampled=len(buffers),
        mean=statistics.mean(buffers),
        least=min(buffers),
        most=max(buffers),
        of_dossier=statistics.mean(each.of_dossier for each in singly),
        in_batch=sum(each.of_dossier for each in batches) / codes,
        sequential=sum(each.sequential for each in (*singly, *batches)),
    )


def timing(seen: Sequence[Explained]) -> Timing:
    """Times, and what came from the disk."""
    took = [each.milliseconds for each in seen]
    return Timing(
        median=statistics.median(took),
        p99=percentile(took, 0.99),
        disk_bytes=statistics.mean(each.disk_bytes for each in seen),
    )


def _explained(plan: dict[str, Any], disk_bytes: int) -> Explained:
    nodes = list(_nodes(plan["Plan"]))
    dossier = [node for node in nodes if node.get("Relation Name", "").startswith("dossier_")]
    if not any(node["Actual Loops"] for node in dossier):
        raise CannotMeasure("The statement read no dossier; its plan is not what was looked for.")
    return Explained(
        buffers=_touched(plan["Plan"]),
        of_dossier=sum(map(_touched, dossier)),
        sequential=any(node["Node Type"] == "Seq Scan" and node["Actual Loops"] for node in dossier),
        milliseconds=plan["Execution Time"],
        disk_bytes=disk_bytes,
    )


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for below in node.get("Plans", ()):
        yield from _nodes(below)


def _touched(node: dict[str, Any]) -> int:
    # Of a node and all below it, as EXPLAIN counts.
    return int(node["Shared Hit Blocks"] + node["Shared Read Blocks"])


def _device_bytes(pid: int) -> Callable[[], int]:
    """How many bytes that process has had fetched from a device so far; not ours to see: PermissionError."""
    path = Path(f"/proc/{pid}/io")

    def read() -> int:
        fields = dict(line.split(": ") for line in path.read_text("utf-8").splitlines())
        return int(fields["read_bytes"])

    return read
