"""A hundred thousand dossiers, each asked for once, and an empty Redis: what a read of Postgres costs.

A run lasts until all have been asked for, or four times as long as other runs.
"""

from typing import Any

from loadtests.bench.load import WrkLoad
from loadtests.bench.rig import CaseOutcome, Rig, ratio
from loadtests.bench.servers import ours, peer
from loadtests.system.computed_dossiers import code

TITLE = "100,000 codes, each once, Redis empty, 64 connections"

FETCHROW = "aiohttp + fetchrow"

READ = "SELECT sum(length(timeline::text)) FROM dossier WHERE code >= $1 AND code <= $2"


def seconds(rig: Rig) -> float:
    return rig.repeats * 2 * (min(rig.longest, len(rig.many) / 6000) + 7)


def measure(rig: Rig) -> CaseOutcome:
    rig.system.ask("owner", lambda owner: _read(owner, code(rig.many.start), code(rig.many.stop - 1)))
    series = rig.side_by_side(
        "cold",
        [ours(rig.system), peer(rig.system, FETCHROW, "aiohttp_postgres")],
        WrkLoad("once", rig.many, connections=64, seconds=rig.longest),
        warm_up=rig.warming(WrkLoad("once", rig.spare, connections=64, seconds=rig.seconds)),
        checked=rig.spare,
        before=rig.system.empty_redis,
    )
    return CaseOutcome(list(series.values()), [ratio(series, FETCHROW, 2.5)])


async def _read(owner: Any, first: str, last: str) -> None:
    """Read them all once, or the first server to be measured would wait for the disk and the others would not."""
    await owner.execute("SET enable_seqscan = off")  # a scan of everything leaves nothing in Postgres's own memory
    await owner.fetchval(READ, first, last)
